"""Atomic batches: what is sent when, and all the ways in which they end."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.api import PubAck
from pynats_twisted.jetstream.batch import AtomicBatch
from pynats_twisted.protocol.headers import Headers, parse_headers
from pynats_twisted.testing.server_frames import PublishFrame

from .publishing import PublishingTestCase


def headers_of(frame: PublishFrame) -> Headers:
    return parse_headers(frame.header_block).headers


class BatchTestCase(PublishingTestCase):
    """Has a batch."""

    def setUp(self) -> None:
        super().setUp()
        self.batch = self.js.batch()
        # A batch that is left open is one that its user forgets: none of these tests does.
        self.addCleanup(lambda: self.batch.discard())

    def add(self, subject: str, payload: bytes = b"", **options: Any) -> Deferred[None]:
        added: Deferred[None] = self.watch(self.batch.add(subject, payload, **options))
        return added

    def committed(self, waiting: Deferred[PubAck], frame: PublishFrame, count: int) -> PubAck:
        self.peer.answer(frame, f'{{"stream":"S","seq":9,"batch":"{self.batch.id}","count":{count}}}'.encode())
        return self.successResultOf(waiting)

    def begin(self, count: int = 2) -> None:
        """A batch of which the first message was accepted, and one is held back."""
        for number in range(count):
            added = self.add("s", b"%d" % number)
            if number == 1:
                self.peer.answer(self.sent()[0], b"")
            self.successResultOf(added)
        self.sent()


class SendingTests(BatchTestCase):
    """What is sent."""

    def test_headers(self) -> None:
        """Each message has the id of the batch and its number, from 1 on; the last one commits. The caller's headers stay as they are."""
        mine = {"A": "1"}
        self.successResultOf(self.add("s.1", b"one", headers=mine, expected_last_seq=0))
        self.assertEqual(self.sent(), [])
        second = self.add("s.2", b"two")
        self.assertNoResult(second)
        (first,) = self.sent()
        expected = {"A": "1", "Nats-Expected-Last-Sequence": "0", "Nats-Batch-Id": self.batch.id, "Nats-Batch-Sequence": "1"}
        self.assertEqual(headers_of(first), expected)
        self.assertTrue(first.reply)
        self.peer.answer(first, b"")
        self.successResultOf(second)
        self.successResultOf(self.add("s.3", b"three"))
        (sent,) = self.sent()
        self.assertEqual((sent.subject, sent.payload, sent.reply), ("s.2", b"two", ""))
        self.assertEqual(headers_of(sent), {"Nats-Batch-Id": self.batch.id, "Nats-Batch-Sequence": "2"})
        waiting = self.watch(self.batch.commit())
        (last,) = self.sent()
        self.assertEqual((last.subject, last.payload), ("s.3", b"three"))
        self.assertEqual(headers_of(last), {"Nats-Batch-Id": self.batch.id, "Nats-Batch-Sequence": "3", "Nats-Batch-Commit": "1"})
        ack = self.committed(waiting, last, 3)
        self.assertIs(self.batch.pub_ack, ack)
        self.assertEqual(mine, {"A": "1"})

    def test_id(self) -> None:
        """Every batch has its own, short enough for the server."""
        ids = {self.js.batch().id for _ in range(5)}
        self.assertEqual(len(ids), 5)
        self.assertLessEqual(max(map(len, ids)), 64)

    def test_single_message(self) -> None:
        """A batch of one message is sent with its commit, in one go."""
        self.successResultOf(self.add("s"))
        waiting = self.watch(self.batch.commit())
        (frame,) = self.sent()
        self.assertEqual(headers_of(frame)["Nats-Batch-Commit"], "1")
        self.committed(waiting, frame, 1)

    def test_commit_with_a_message(self) -> None:
        """The message that is given to commit is the last one."""
        self.begin()
        waiting = self.watch(self.batch.commit("s.last", b"end", {"B": "2"}))
        held, last = self.sent()
        self.assertEqual((held.payload, last.payload, headers_of(last)["B"]), (b"1", b"end", "2"))
        self.assertEqual((headers_of(last)["Nats-Batch-Sequence"], headers_of(last)["Nats-Batch-Commit"]), ("3", "1"))
        self.committed(waiting, last, 3)

    def test_without_acks(self) -> None:
        """With ack_first=False nothing is waited for before the commit."""
        self.batch = self.js.batch(ack_first=False)
        self.successResultOf(self.add("s"))
        self.successResultOf(self.add("s"))
        (first,) = self.sent()
        self.assertEqual(first.reply, "")

    def test_ack_every(self) -> None:
        """With ack_every the sender waits for the server again and again."""
        self.batch = self.js.batch(ack_every=2)
        self.begin()
        third = self.add("s")
        self.assertNoResult(third)
        (second,) = self.sent()
        self.assertTrue(second.reply)
        self.peer.answer(second, b"")
        self.successResultOf(third)

    def test_payload_is_copied(self) -> None:
        """What is held back does not change with the caller's buffer."""
        payload = bytearray(b"one")
        self.successResultOf(self.watch(self.batch.add("s", payload)))
        payload[:] = b"two"
        self.watch(self.batch.commit())
        self.assertEqual(self.payloads(), [b"one"])

    def test_order_without_waiting(self) -> None:
        """Messages that are added without waiting are sent in order."""
        for number in range(4):
            self.add("s", b"%d" % number)
        frames = self.sent()
        self.assertEqual([frame.payload for frame in frames], [b"0", b"1", b"2"])
        self.peer.answer(frames[0], b"")


class RefusalTests(BatchTestCase):
    """What is refused at once. Nothing is sent, and the batch goes on."""

    def refused(self, kind: type[Exception], *arguments: Any, **options: Any) -> None:
        self.failureResultOf(self.watch(self.batch.add(*arguments, **options)), kind)
        self.assertEqual((self.sent(), self.batch.size), ([], 0))

    def test_batch_headers(self) -> None:
        """The headers of the batch are its own, however they are written."""
        for name in ("Nats-Batch-Id", "Nats-Batch-Sequence", "nats-batch-commit"):
            self.refused(errors.InvalidHeaderError, "s", b"", {name: "1"})

    def test_values_that_cannot_be_sent(self) -> None:
        """They are found when they are added, not when they are sent."""
        self.refused(errors.InvalidSubjectError, "a b")
        self.refused(errors.InvalidSubjectError, "a.*")
        self.refused(errors.InvalidArgumentError, "s", "text")
        self.refused(errors.InvalidHeaderError, "s", b"", {"A": "1\r\nB: 2"})
        self.refused(errors.JetStreamConfigError, "s", expected_last_seq=-1)
        self.refused(errors.MaxPayloadExceededError, "s", b"x" * 1_048_576)

    def test_expectations_that_a_batch_cannot_have(self) -> None:
        """The last sequence of the stream is checked for the first message only, and the last message id for none."""
        self.refused(errors.JetStreamConfigError, "s", expected_last_msg_id="x")
        self.begin()
        self.failureResultOf(self.add("s", expected_last_seq=7), errors.JetStreamConfigError)
        self.successResultOf(self.add("s", expected_last_subject_seq=7))

    def test_empty_commit(self) -> None:
        """There is nothing to commit in an empty batch, and no payload without a subject."""
        self.failureResultOf(self.watch(self.batch.commit()), errors.InvalidArgumentError)
        self.failureResultOf(self.watch(self.batch.commit(payload=b"x")), errors.InvalidArgumentError)

    def test_options(self) -> None:
        """Options that make no sense are refused when the batch is made."""
        for wrong in (0, -1, True, 1.5, "2"):
            self.assertRaises(errors.JetStreamConfigError, self.js.batch, ack_every=wrong)
        for wrong in (0, float("inf"), "1"):
            self.assertRaises(errors.InvalidArgumentError, self.js.batch, timeout=wrong)


class EndTests(BatchTestCase):
    """How a batch ends."""

    def closed(self, cause: type[BaseException] | None = None) -> None:
        """It takes nothing more."""
        for call in (self.batch.add("s"), self.batch.commit(), self.batch.commit("s")):
            error = self.failureResultOf(self.watch(call), errors.BatchClosedError).value
            self.assertIsInstance(error.__cause__, cause or type(None))
        self.assertEqual(self.sent(), [])

    def test_once_only(self) -> None:
        """A batch that was committed, or discarded, takes nothing more."""
        self.begin()
        waiting = self.watch(self.batch.commit())
        (frame,) = self.sent()
        self.closed()
        self.committed(waiting, frame, 2)
        self.closed()
        self.peer = self.reconnected()
        self.closed()
        self.batch = self.js.batch()
        self.batch.discard()
        self.closed()

    def test_refused_first_message(self) -> None:
        """A stream that allows no batches says so at the first message that is sent."""
        self.add("s")
        second = self.add("s")
        self.refuse(self.sent()[0], 400, 10174)
        self.failureResultOf(second, errors.AtomicBatchError)
        self.closed(errors.AtomicBatchError)

    def test_refused_commit(self) -> None:
        """An expectation that does not hold is the error of the commit."""
        self.begin()
        waiting = self.watch(self.batch.commit())
        self.refuse(self.sent()[0], 400, 10164)
        self.failureResultOf(waiting, errors.WrongLastSequenceError)
        self.assertIsNone(self.batch.pub_ack)
        self.closed(errors.WrongLastSequenceError)

    def test_no_stream(self) -> None:
        """Where no stream has the subject, that is told."""
        self.add("s")
        second = self.add("s")
        self.nobody(self.sent()[0])
        self.failureResultOf(second, errors.NoStreamResponseError)

    def test_no_answer(self) -> None:
        """Without an answer in time the batch is over."""
        self.begin()
        waiting = self.watch(self.batch.commit())
        self.assertEqual(len(self.sent()), 1)
        self.network.advance(5.0)
        self.failureResultOf(waiting, errors.RequestTimeoutError)
        self.closed(errors.RequestTimeoutError)

    def test_old_server(self) -> None:
        """A server that knows no batches stores the messages one by one: that is an error, and not taken for success."""
        self.add("s")
        second = self.add("s")
        self.ack(self.sent()[0])
        self.failureResultOf(second, errors.JetStreamApiLevelError)
        self.batch = self.js.batch()
        self.add("s")
        waiting = self.watch(self.batch.commit())
        self.ack(self.sent()[0])
        self.failureResultOf(waiting, errors.JetStreamApiLevelError)

    def test_api_level(self) -> None:
        """A server that says that it is too old is not even asked."""
        self.peer.info(jetstream=True, api_lvl=1)
        error = self.failureResultOf(self.add("s"), errors.JetStreamApiLevelError).value
        self.assertEqual((error.required, error.available), (2, 1))
        self.peer.info(jetstream=True, api_lvl=2)
        self.successResultOf(self.add("s"))

    def test_connection_lost(self) -> None:
        """A lost connection is the end of the batch, also when there is another one."""
        self.begin()
        peer = self.reconnected()
        for _ in range(2):
            self.failureResultOf(self.add("s"), errors.DisconnectedError)
        self.assertEqual(self.sent(peer), [])

    def test_connection_lost_while_committing(self) -> None:
        """It is not waited for an answer that cannot come, and the error says that nothing is known."""
        self.begin()
        waiting = self.watch(self.batch.commit())
        self.assertEqual(len(self.sent()), 1)
        peer = self.reconnected()
        error = self.failureResultOf(waiting, errors.DisconnectedError).value
        self.assertIn("not known", str(error))
        self.assertEqual(self.sent(peer), [])

    def test_connection_lost_before_the_commit_is_sent(self) -> None:
        """The commit waits for the answer to the first message: it is not sent any more, and the reason is the same."""
        self.add("s")
        waiting = self.watch(self.batch.commit("s"))
        self.assertEqual(len(self.sent()), 1)
        peer = self.reconnected()
        self.failureResultOf(waiting, errors.DisconnectedError)
        self.assertEqual(self.sent(peer), [])

    def test_late_answer_to_the_first_message(self) -> None:
        """Whoever does not wait for it has a batch that is stored all the same."""

        async def block() -> None:
            async with self.batch as batch:
                unwatched.extend(batch.add("s") for _ in range(3))

        unwatched: list[Deferred[None]] = []
        running = self.watch(block())
        frames = self.sent()
        self.peer.answer(frames[2], f'{{"stream":"S","seq":9,"batch":"{self.batch.id}","count":3}}'.encode())
        self.successResultOf(running)
        self.network.advance(5.0)
        self.failureResultOf(unwatched[1], errors.RequestTimeoutError)
        self.assertEqual(self.failureResultOf(self.watch(self.batch.commit())).value.args, ("the batch was committed",))

    def test_no_connection(self) -> None:
        """A batch does not begin in the reconnect buffer."""
        self.add("s")
        self.peer.cut()
        self.failureResultOf(self.add("s"), errors.DisconnectedError)

    def test_cancelled(self) -> None:
        """Who cancels has a batch that is over."""
        self.begin()
        waiting = self.watch(self.batch.commit())
        self.assertEqual(len(self.sent()), 1)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.closed(CancelledError)
        self.assertIn("failed: CancelledError", repr(self.batch))


class BlockTests(BatchTestCase):
    """``async with``."""

    def run_block(self, *steps: Any) -> Deferred[AtomicBatch]:
        """Add each step, or raise it."""

        async def block() -> AtomicBatch:
            async with self.batch as batch:
                for step in steps:
                    if isinstance(step, Exception):
                        raise step
                    await batch.add("s", step)
            return batch

        watched: Deferred[AtomicBatch] = self.watch(block())
        return watched

    def test_end_commits(self) -> None:
        """The end of the block waits until all is stored."""
        running = self.run_block(b"one")
        self.assertNoResult(running)
        (frame,) = self.sent()
        self.peer.answer(frame, f'{{"stream":"S","seq":9,"batch":"{self.batch.id}","count":1}}'.encode())
        batch = self.successResultOf(running)
        assert batch.pub_ack is not None
        self.assertEqual(batch.pub_ack.count, 1)

    def test_exception_discards(self) -> None:
        """After an exception nothing is committed, and the exception goes on."""
        running = self.run_block(b"one", b"two", ValueError("no"))
        (first,) = self.sent()
        self.peer.answer(first, b"")
        self.failureResultOf(running, ValueError)
        self.assertEqual(self.sent(), [])

    def test_empty(self) -> None:
        """A block that adds nothing sends nothing."""
        batch = self.successResultOf(self.run_block())
        self.assertIsNone(batch.pub_ack)
        self.assertEqual(self.sent(), [])

    def test_swallowed_error(self) -> None:
        """A block that hides an error of the batch does not end as if all were well."""

        async def block() -> None:
            async with self.batch as batch:
                await batch.add("s")
                try:
                    await batch.add("s")
                except errors.AtomicBatchError:
                    return

        running = self.watch(block())
        self.refuse(self.sent()[0], 400, 10174)
        self.failureResultOf(running, errors.BatchClosedError)
