"""Fast ingest on a client: what is sent when, who waits, and what ends a batch."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from pynats_twisted import errors
from pynats_twisted.jetstream.api import BatchFlowError, BatchFlowGap
from pynats_twisted.jetstream.fast_ingest import FastIngest
from pynats_twisted.testing.server_frames import OtherFrame, PublishFrame, SubscribeFrame

from .ingest_model import IngestModel, failure
from .publishing import PublishingTestCase


class IngestTestCase(PublishingTestCase):
    """Has a batch, and a stream that answers when it is let."""

    def setUp(self) -> None:
        super().setUp()
        self.model = IngestModel(2)
        self.use()

    def use(self, **options: Any) -> None:
        self.ingest: FastIngest = self.js.fast_ingest(**options)
        # A batch that is left open is one that its user forgets: none of these tests does.
        self.addCleanup(lambda: self.ingest.abandon())

    def add(self, payload: bytes = b"", subject: str = "s", **options: Any) -> Deferred[None]:
        return self.waited(self.ingest.add(subject, payload, **options))

    def waited(self, awaitable: Awaitable[None]) -> Deferred[None]:
        async def wait() -> None:
            await awaitable

        watched: Deferred[None] = self.watch(wait())
        return watched

    def stream(self, refuse: bytes = b"-", lose: bytes = b"-") -> list[PublishFrame]:
        """The stream gets what was sent, and answers; with the payloads that it refuses, or does not get."""
        frames = self.sent()
        for frame in frames:
            if frame.payload not in lose.split(b","):
                for subject, data in self.model.publish(frame.reply, frame.payload in refuse.split(b",")):
                    self.peer.publish(subject, data)
        return frames

    def begin(self, **options: Any) -> None:
        """A batch whose first message is stored."""
        if options:
            self.use(**options)
        first = self.add(b"1")
        self.stream()
        self.successResultOf(first)

    def failed(self, waiting: Deferred[Any], kind: type[errors.NatsError]) -> Failure:
        failure: Failure = self.failureResultOf(waiting, kind)
        # Nothing is left of it, and every later call says the same.
        self.assertEqual(self.client.subscriptions, ())
        self.assertIs(self.failureResultOf(self.watch(self.ingest.commit()), kind).value, failure.value)
        self.assertRaises(kind, self.ingest.add, "s")
        return failure


class SendingTests(IngestTestCase):
    """What is sent."""

    def test_first_message(self) -> None:
        """The inbox is subscribed to before the first message, which waits for the server."""
        first = self.add(b"one", headers={"A": "1"}, msg_id="x")
        self.network.advance()
        frames = [frame for frame in self.peer.frames if isinstance(frame, (SubscribeFrame, PublishFrame))]
        inbox, frame = frames
        assert isinstance(inbox, SubscribeFrame) and isinstance(frame, PublishFrame)
        self.assertTrue(inbox.subject.startswith("_INBOX.") and inbox.subject.endswith(f".{self.ingest.id}.>"))
        self.assertEqual(frame.reply, f"_INBOX.{self.ingest.id}.100.fail.1.0.$FI")
        self.assertEqual(frame.header_block, b"NATS/1.0\r\nA: 1\r\nNats-Msg-Id: x\r\n\r\n")
        self.assertNoResult(first)
        self.stream()
        self.successResultOf(first)

    def test_window(self) -> None:
        """The sender runs ahead of the server as far as it may, and not further."""
        self.begin()
        added = [self.add(b"%d" % number) for number in range(2, 10)]
        self.assertEqual([frame.payload for frame in self.sent()], [b"2", b"3", b"4"])
        self.assertEqual([each.called for each in added], [True, True] + [False] * 6)
        self.assertEqual(self.ingest.sent, 4)

    def test_all_arrive_in_order(self) -> None:
        """Messages that wait are sent in their order, whoever waits."""
        self.begin()
        added = [self.add(b"%d" % number) for number in range(2, 30)]
        waiting = self.watch(self.ingest.commit("s", b"last"))
        payloads = []
        while not waiting.called:
            payloads += [frame.payload for frame in self.stream()]
        self.assertEqual(payloads, [b"%d" % number for number in range(2, 30)] + [b"last"])
        for each in added:
            self.successResultOf(each)
        ack = self.successResultOf(waiting)
        self.assertEqual((ack.count, self.ingest.acked, self.ingest.sent), (30, 30, 30))
        self.assertIs(self.ingest.pub_ack, ack)
        self.assertEqual(self.client.subscriptions, ())

    def test_nobody_jumps_the_queue(self) -> None:
        """Who adds a message when the one before was sent comes behind those who wait already."""
        self.begin()
        added = [self.add(b"%d" % number) for number in range(2, 8)]
        added[2].addCallback(lambda _: self.add(b"late"))
        payloads = []
        for _ in range(4):
            payloads += [frame.payload for frame in self.stream()]
        self.assertEqual(payloads, [b"2", b"3", b"4", b"5", b"6", b"7", b"late"])

    def test_end_without_a_message(self) -> None:
        """It goes to a subject that the stream is known to have, and counts as no message."""
        self.begin()
        self.add(b"2", "s.other")
        waiting = self.watch(self.ingest.commit())
        end = self.stream()[-1]
        self.assertEqual((end.subject, end.payload, end.reply.rpartition(".fail.")[2]), ("s", b"", "3.3.$FI"))
        self.assertEqual((self.successResultOf(waiting).count, self.ingest.sent), (2, 2))

    def test_single_message(self) -> None:
        """A batch of one message is one message."""
        waiting = self.watch(self.ingest.commit("s", b"one"))
        (frame,) = self.stream()
        self.assertTrue(frame.reply.endswith(".1.2.$FI"))
        self.assertEqual(self.successResultOf(waiting).count, 1)

    def test_a_message_that_cannot_be_sent_takes_no_number(self) -> None:
        """A wrong subject is an error of that call only."""
        self.begin()
        self.assertRaises(errors.InvalidSubjectError, self.ingest.add, "a b")
        self.assertRaises(errors.MaxPayloadExceededError, self.ingest.add, "s", b"x" * 2_000_000)
        self.assertRaises(errors.InvalidHeaderError, self.ingest.add, "s", b"", {"Nats-Batch-Id": "x"})
        self.assertRaises(errors.JetStreamConfigError, self.ingest.add, "s", ttl=0.1)
        self.failureResultOf(self.watch(self.ingest.commit("a b")), errors.InvalidSubjectError)
        self.add(b"2")
        waiting = self.watch(self.ingest.commit())
        self.stream()
        self.assertEqual(self.successResultOf(waiting).count, 2)

    def test_waiting_is_bounded(self) -> None:
        """Who never waits is stopped before all memory is used."""
        self.begin(outstanding=1)
        added = [self.add() for _ in range(4097)]
        self.failureResultOf(self.add(), errors.TooManyRequestsError)
        self.ingest.abandon()
        for each in added:
            if each.called:
                each.addErrback(lambda _: None)
        self.peer.take()

    def test_cancelled(self) -> None:
        """A message that waits can be taken back; the others go on."""
        self.begin()
        self.add(b"2")
        added = [self.add(payload) for payload in (b"3", b"4", b"5", b"6")]
        added[2].cancel()
        self.failureResultOf(added[2], CancelledError)
        waiting = self.watch(self.ingest.commit())
        payloads = []
        while not waiting.called:
            payloads += [frame.payload for frame in self.stream()]
        self.assertEqual(payloads, [b"2", b"3", b"4", b"6", b""])
        self.assertEqual(self.successResultOf(waiting).count, 5)

    def test_options(self) -> None:
        """Options that the protocol does not know are refused when the batch is made."""
        for wrong in ({"gap": "maybe"}, {"flow": 0}, {"flow": 65_536}, {"flow": True}, {"outstanding": 4}, {"outstanding": True}):
            self.assertRaises(errors.JetStreamConfigError, self.js.fast_ingest, **wrong)
        self.assertRaises(errors.JetStreamConfigError, self.js.fast_ingest, on_problem=1)
        self.assertRaises(errors.InvalidArgumentError, self.js.fast_ingest, timeout=0)

    def test_api_level(self) -> None:
        """A server that says that it is too old is not even asked."""
        self.peer.info(jetstream=True, api_lvl=2)
        self.assertRaises(errors.JetStreamApiLevelError, self.ingest.add, "s")
        self.assertEqual(self.client.subscriptions, ())


class TimeTests(IngestTestCase):
    """Pings, and the limit."""

    def test_lost_ack(self) -> None:
        """A ping brings back an ack that was lost."""
        self.begin(timeout=6.0)
        for number in range(3):
            last = self.add(b"%d" % number)
        for frame in self.sent():
            self.model.publish(frame.reply)
        self.assertNoResult(last)
        self.network.advance(2.0)
        (ping,) = self.stream()
        self.assertEqual((ping.subject, ping.payload), ("s", b""))
        self.assertTrue(ping.reply.endswith(".4.4.$FI"))
        self.successResultOf(last)

    def test_silent_server(self) -> None:
        """The batch fails when the server does not go on with it, and says how far it had come."""
        self.begin(timeout=6.0)
        for number in range(3):
            last = self.add(b"%d" % number)
        waiting = self.add(b"next")
        self.network.advance(5.9)
        self.assertNoResult(last)
        self.network.advance(0.1)
        error = self.failureResultOf(waiting, errors.FastIngestTimeoutError).value
        self.assertEqual((error.acked, error.sent), (0, 4))
        self.failed(last, errors.FastIngestTimeoutError)
        self.assertEqual(len(self.sent()), 3 + 2)

    def test_slow_sender(self) -> None:
        """A batch without messages for long is kept alive."""
        self.begin(timeout=60.0)
        for _ in range(5):
            self.network.advance(3.0)
            self.assertEqual(len(self.stream()), 1)

    def test_lost_final_ack(self) -> None:
        """A batch that the server has forgotten is not waited for any longer."""
        self.begin(timeout=6.0)
        waiting = self.watch(self.ingest.commit())
        for frame in self.sent():
            self.model.publish(frame.reply)
        self.network.advance(2.0)
        self.stream()
        error = self.failureResultOf(waiting, errors.FastIngestError).value
        self.assertIn("the final ack was lost", str(error))


class EndTests(IngestTestCase):
    """What ends a batch."""

    def test_gap(self) -> None:
        """A lost message stops the sending, and the error says what is stored."""
        self.begin()
        added = [self.add(payload) for payload in (b"2", b"3", b"4")]
        self.stream(lose=b"2")
        error = self.failureResultOf(added[2], errors.FastIngestGapError).value
        self.assertEqual((error.acked, error.sent), (1, 4))
        assert self.ingest.pub_ack is not None
        self.assertEqual((self.ingest.pub_ack.count, self.model.stored), (1, {1}))
        self.assertRaises(errors.FastIngestGapError, self.ingest.add, "s")

    def test_gap_allowed(self) -> None:
        """A lost and a refused message are told, and the others are stored."""
        problems: list[BatchFlowGap | BatchFlowError] = []
        self.begin(gap="ok", on_problem=problems.append)
        added = [self.add(payload) for payload in (b"2", b"3", b"4", b"5")]
        self.stream(lose=b"2", refuse=b"4")
        for each in added:
            self.successResultOf(each)
        waiting = self.watch(self.ingest.commit())
        self.stream()
        self.assertEqual(self.successResultOf(waiting).count, 5)
        gap, refused = problems
        self.assertEqual(gap, BatchFlowGap(last_seq=2, seq=3))
        assert isinstance(refused, BatchFlowError)
        self.assertEqual((refused.seq, refused.error.err_code), (4, 10071))
        self.assertEqual((self.ingest.lost, self.ingest.refused, self.model.stored), (1, 1, {1, 3, 5}))

    def test_on_problem_raises(self) -> None:
        """That is logged, and the batch goes on."""

        def broken(problem: object) -> None:
            raise ValueError("mine")

        self.begin(gap="ok", on_problem=broken)
        self.add(b"2")
        self.stream(refuse=b"2")
        self.assertEqual([str(failure.value) for failure in self.flushLoggedErrors(ValueError)], ["mine"])
        waiting = self.watch(self.ingest.commit())
        self.stream()
        self.successResultOf(waiting)

    def test_refused(self) -> None:
        """A message that the stream refuses ends the batch with the stream's reason."""
        self.begin()
        added = [self.add(payload) for payload in (b"2", b"3", b"4")]
        self.stream(refuse=b"2")
        self.failed(added[2], errors.WrongLastSequenceError)
        self.assertEqual((self.ingest.acked, self.model.stored), (1, {1}))

    def test_refused_at_the_beginning(self) -> None:
        """The first message shows that a stream does not do this."""
        first, second = self.add(b"1"), self.add(b"2")
        (frame,) = self.sent()
        self.peer.answer(frame, failure(10205))
        self.failureResultOf(second, errors.FastBatchError)
        self.failed(first, errors.FastBatchError)

    def test_no_stream(self) -> None:
        """The first message shows that there is no stream."""
        first = self.add(b"1")
        self.nobody(self.sent()[0])
        self.failed(first, errors.NoStreamResponseError)

    def test_subject_of_no_stream(self) -> None:
        """A later message that no stream takes ends the batch at once: the server is asked how far it came."""
        self.begin()
        self.add(b"2")
        self.stream()
        self.add(b"3", "elsewhere")
        self.nobody(self.sent()[0])
        (ping,) = self.stream()
        self.assertEqual((ping.subject, ping.reply.rpartition(".fail.")[2]), ("s", "3.4.$FI"))
        error = self.failureResultOf(self.watch(self.ingest.commit()), errors.FastIngestError).value
        self.assertIn("no stream has the subject of message 3", str(error))
        self.assertEqual(error.acked, 2)

    def test_disconnected(self) -> None:
        """A lost connection ends the batch, and the error says how far the server had come."""
        self.begin()
        for number in range(2):
            self.add(b"%d" % number)
        self.stream()
        waiting = self.watch(self.ingest.commit())
        self.assertEqual(len(self.sent()), 1)
        self.peer.cut()
        self.network.advance(0)
        error = self.failureResultOf(waiting, errors.FastIngestDisconnectedError).value
        self.assertIsInstance(error, errors.DisconnectedError)
        self.assertEqual((error.acked, error.sent), (2, 3))
        self.failed(self.watch(self.ingest.commit()), errors.FastIngestDisconnectedError)

    def test_disconnected_while_nobody_waits(self) -> None:
        """The next call tells it, also when there is a new connection by then."""
        self.begin()
        self.reconnected()
        self.assertRaises(errors.FastIngestDisconnectedError, self.ingest.add, "s")

    def test_no_connection(self) -> None:
        """A batch does not begin, and does not go on, in the reconnect buffer."""
        self.begin()
        self.peer.cut()
        self.assertRaises(errors.FastIngestDisconnectedError, self.ingest.add, "s")

    def test_client_closed(self) -> None:
        """So does the end of the client."""
        self.begin()
        waiting = self.watch(self.ingest.commit())
        self.client.close()
        self.network.advance()
        self.failureResultOf(waiting, errors.FastIngestDisconnectedError)

    def test_inbox_denied(self) -> None:
        """A client that may not listen to its inbox learns it."""
        first = self.add(b"1")
        self.network.advance()
        (subscribe,) = (frame for frame in self.peer.frames if isinstance(frame, SubscribeFrame))
        self.peer.error(f'Permissions Violation for Subscription to "{subscribe.subject}"')
        self.failed(first, errors.PermissionsViolationError)

    def test_publish_denied(self) -> None:
        """So does one that may not publish."""
        first = self.add(b"1")
        self.network.advance()
        self.peer.error('Permissions Violation for Publish to "s"')
        self.network.advance()
        self.failed(first, errors.PermissionsViolationError)

    def test_once_only(self) -> None:
        """A batch that was committed takes nothing more."""
        waiting = self.watch(self.ingest.commit("s", b"one"))
        for _ in range(2):
            self.assertRaises(errors.BatchClosedError, self.ingest.add, "s")
            self.failureResultOf(self.watch(self.ingest.commit()), errors.BatchClosedError)
            self.stream()
        self.successResultOf(waiting)

    def test_empty_commit(self) -> None:
        """There is nothing to commit in an empty batch, and no payload without a subject."""
        self.failureResultOf(self.watch(self.ingest.commit()), errors.InvalidArgumentError)
        self.failureResultOf(self.watch(self.ingest.commit(payload=b"x")), errors.InvalidArgumentError)


class BlockTests(IngestTestCase):
    """``async with``."""

    def run_block(self, *steps: Any) -> Deferred[FastIngest]:
        """Add each step, or raise it."""

        async def block() -> FastIngest:
            async with self.ingest as ingest:
                for step in steps:
                    if isinstance(step, Exception):
                        raise step
                    await ingest.add("s", step)
            return ingest

        watched: Deferred[FastIngest] = self.watch(block())
        return watched

    def test_end(self) -> None:
        """The end of the block waits until all is stored."""
        running = self.run_block(b"1", b"2", b"3")
        while not running.called:
            self.stream()
        ingest = self.successResultOf(running)
        assert ingest.pub_ack is not None
        self.assertEqual(ingest.pub_ack.count, 3)

    def test_exception(self) -> None:
        """After an exception nothing is waited for; the server is told that no more comes."""
        running = self.run_block(b"1", ValueError("no"))
        self.stream()
        self.failureResultOf(running, ValueError)
        (end,) = self.sent()
        self.assertTrue(end.reply.endswith(".2.3.$FI"))
        self.assertRaises(errors.BatchClosedError, self.ingest.add, "s")
        self.assertEqual(self.client.subscriptions, ())

    def test_empty(self) -> None:
        """A block that adds nothing sends nothing."""
        ingest = self.successResultOf(self.run_block())
        self.network.advance()
        self.assertIsNone(ingest.pub_ack)
        self.assertEqual([frame for frame in self.peer.frames if not isinstance(frame, OtherFrame)], [])

    def test_error_at_the_end(self) -> None:
        """What goes wrong behind the last message is raised by the block."""
        running = self.run_block(b"1", b"2")
        self.stream()
        self.stream(refuse=b"2")
        self.failureResultOf(running, errors.WrongLastSequenceError)
