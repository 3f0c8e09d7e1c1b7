"""publish(): the ack, all the ways in which none comes, and what is sent again."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted.client.status import Reconnected
from pynats_twisted.errors import (
    ConnectionClosedError,
    DisconnectedError,
    DrainTimeoutError,
    DuplicateInProcessError,
    InvalidArgumentError,
    InvalidSubjectError,
    JetStreamApiLevelError,
    JetStreamConfigError,
    JetStreamDecodeError,
    JetStreamUnavailableError,
    MaxPayloadExceededError,
    NoRespondersError,
    NoStreamResponseError,
    PermissionsViolationError,
    PublishDisconnectedError,
    PublishTimeoutError,
    PublishUnconfirmedError,
    RequestTimeoutError,
    WrongLastSequenceError,
)
from pynats_twisted.jetstream.api import PubAck
from pynats_twisted.testing.server_frames import PublishFrame, SubscribeFrame

from .publishing import PublishingTestCase


class AckTests(PublishingTestCase):
    """What the server answers."""

    def publish(self, *arguments: Any, **options: Any) -> tuple[Deferred[PubAck], PublishFrame]:
        waiting = self.watch(self.js.publish(*arguments, **options))
        return waiting, self.sent()[-1]

    def test_stored(self) -> None:
        """The ack is the result; all publishes share one inbox, below the client's prefix."""
        first, sent = self.publish("a.b", b"one")
        self.assertEqual((sent.subject, sent.payload, sent.header_block), ("a.b", b"one", b""))
        self.assertTrue(sent.reply.startswith("_INBOX."))
        second, sent_too = self.publish("a.b", b"two", {"A": "1"}, msg_id="x")
        self.assertEqual(sent_too.header_block, b"NATS/1.0\r\nA: 1\r\nNats-Msg-Id: x\r\n\r\n")
        self.ack(sent_too, 2)
        self.ack(sent, 1)
        self.assertEqual(self.successResultOf(first), PubAck(stream="S", seq=1))
        self.assertEqual(self.successResultOf(second).seq, 2)
        self.assertEqual(len(self.peer.session.subscriptions), 1)

    def test_refused(self) -> None:
        """A refusal is raised as the error of its code, and not tried again."""
        waiting, sent = self.publish("a.b", expected_last_seq=3)
        self.refuse(sent, 400, 10071)
        self.failureResultOf(waiting, WrongLastSequenceError)
        self.assertEqual(self.sent(), [])

    def test_no_ack_at_all(self) -> None:
        """An answer of something that is no stream is an error of its own."""
        waiting, sent = self.publish("a.b")
        self.peer.answer(sent, b"pong")
        self.failureResultOf(waiting, JetStreamDecodeError)

    def test_nobody_takes_it(self) -> None:
        """It is sent again twice, a quarter of a second apart; then the error says that it was not stored."""
        waiting, sent = self.publish("a.b", b"x")
        for _ in range(2):
            self.nobody(sent)
            self.network.advance(0.24)
            self.assertEqual(self.sent(), [])
            self.network.advance(0.01)
            sent = self.one()
            self.assertEqual(sent.payload, b"x")
        self.nobody(sent)
        error = self.failureResultOf(waiting, NoStreamResponseError).value
        self.assertIsInstance(error, NoRespondersError)
        self.assertEqual(error.subject, "a.b")

    def test_somebody_takes_it_in_the_end(self) -> None:
        """A stream that was electing its leader gets what is sent again, as it was published, whatever the caller did since."""
        payload = bytearray(b"x")
        headers = {"A": "1"}
        waiting, sent = self.publish("a.b", payload, headers)
        payload[:] = b"y"
        headers["A"] = "2"
        self.nobody(sent)
        self.network.advance(0.25)
        again = self.one()
        self.assertEqual((again.payload, again.header_block), (b"x", b"NATS/1.0\r\nA: 1\r\n\r\n"))
        self.ack(again)
        self.successResultOf(waiting)

    def test_retries_are_an_option(self) -> None:
        """None at all, or more and faster."""
        waiting, sent = self.publish("a.b", retries=0)
        self.nobody(sent)
        self.failureResultOf(waiting, NoStreamResponseError)
        waiting, sent = self.publish("a.b", retries=3, retry_wait=0.1)
        for _ in range(3):
            self.nobody(sent)
            self.network.advance(0.1)
            sent = self.one()
        self.ack(sent)
        self.successResultOf(waiting)

    def test_timeout_ends_retries(self) -> None:
        """The time limit is one for all tries together."""
        waiting, sent = self.publish("a.b", timeout=0.3)
        self.nobody(sent)
        self.network.advance(0.25)
        self.nobody(self.one())
        self.network.advance(0.05)
        self.failureResultOf(waiting, PublishTimeoutError)

    def test_timeout(self) -> None:
        """Without an ack, it is unknown what happened, and the text says so. A late ack is counted."""
        waiting, sent = self.publish("a.b")
        self.network.advance(4.99)
        self.assertNoResult(waiting)
        self.network.advance(0.01)
        error = self.failureResultOf(waiting, PublishTimeoutError).value
        self.assertIsInstance(error, (RequestTimeoutError, TimeoutError))
        self.assertIn("'a.b'", str(error))
        self.assertIn("unknown whether it was stored", str(error))
        self.ack(sent)
        self.assertEqual(self.client.stats.late_replies, 1)

    def test_cancelled(self) -> None:
        """A cancelled publish is forgotten: not sent again, its ack not missed."""
        waiting, sent = self.publish("a.b", msg_id="x")
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.network.advance(4)
        self.assertEqual(self.sent(), [])
        self.ack(sent)
        self.assertEqual(self.client.stats.late_replies, 1)

    def test_wrong_values(self) -> None:
        """They raise at once, and nothing is sent."""
        js = self.js
        self.assertRaises(InvalidSubjectError, js.publish, "a b")
        self.assertRaises(InvalidArgumentError, js.publish, "a", "text")
        self.assertRaises(InvalidArgumentError, js.publish, "a", b"", timeout=0)
        self.assertRaises(InvalidArgumentError, js.publish, "a", b"", timeout=float("inf"))
        self.assertRaises(JetStreamConfigError, js.publish, "a", b"", retries=-1)
        self.assertRaises(InvalidArgumentError, js.publish, "a", b"", retry_wait=-1)
        self.assertRaises(JetStreamConfigError, js.publish, "a", b"", expected_last_seq=-1)
        self.assertRaises(MaxPayloadExceededError, js.publish, "a", bytes(1048577))
        self.assertEqual(self.sent(), [])
        for name in ("max_async_pending", "async_stall_wait", "duplicate_window", "resend_after", "timeout"):
            error = self.assertRaises(InvalidArgumentError, self.client.jetstream, **{name: -1})
            self.assertIn(f"{name} -1", str(error))

    def test_old_server(self) -> None:
        """A server that knows no TTLs would store the message for ever: it is not sent."""
        self.peer.info(jetstream=True, api_lvl=0)
        self.network.advance()
        error = self.assertRaises(JetStreamApiLevelError, self.js.publish, "a", ttl=1)
        self.assertIn("ttl", str(error))
        self.assertEqual(self.sent(), [])

    def test_denied(self) -> None:
        """A denied publish is told to whoever made it, and to nobody else."""
        denied = self.watch(self.js.publish("secret"))
        other, sent = self.publish("a.b")
        self.peer.error('Permissions Violation for Publish to "secret"')
        self.network.advance()
        self.failureResultOf(denied, PermissionsViolationError)
        self.ack(sent)
        self.successResultOf(other)

    def test_inbox_denied(self) -> None:
        """Where acks cannot come, every publish says why; the next one tries anew."""
        waiting, sent = self.publish("a.b")
        inbox = sent.reply.rpartition(".")[0]
        self.peer.error(f'Permissions Violation for Subscription to "{inbox}.*"')
        self.network.advance()
        self.failureResultOf(waiting, PermissionsViolationError)
        waiting = self.watch(self.js.publish("a.b"))
        self.network.advance()
        self.assertIn(SubscribeFrame, self.peer.kinds())
        self.ack(self.one())
        self.successResultOf(waiting)


class ResendTests(PublishingTestCase):
    """An ack that is overdue."""

    options: ClassVar[dict[str, Any]] = {"timeout": 20.0}

    def test_with_an_id(self) -> None:
        """It is sent again after one second, and each time after twice as long, until an ack comes; one for a duplicate is as good."""
        waiting = self.watch(self.js.publish("a.b", b"x", msg_id="1"))
        first = self.one()
        for seconds in (1, 2, 4):
            self.network.advance(seconds - 0.01)
            self.assertEqual(self.sent(), [])
            self.network.advance(0.01)
            again = self.one()
            self.assertEqual((again.payload, again.header_block, again.reply), (b"x", first.header_block, first.reply))
        self.ack(again, 7, duplicate=True)
        self.assertEqual(self.successResultOf(waiting), PubAck(stream="S", seq=7, duplicate=True))

    def test_id_among_the_headers(self) -> None:
        """An id that the caller set as a header is as good as the parameter."""
        waiting = self.watch(self.js.publish("a.b", b"x", {"Nats-Msg-Id": "1"}))
        self.sent()
        self.network.advance(1)
        self.ack(self.one())
        self.successResultOf(waiting)

    def test_without_an_id(self) -> None:
        """It is never sent again: it might be stored twice."""
        waiting = self.watch(self.js.publish("a.b", b"x"))
        self.sent()
        self.network.advance(19)
        self.assertEqual(self.sent(), [])
        self.network.advance(1)
        self.failureResultOf(waiting, PublishTimeoutError)

    def test_not_while_the_buffer_has_it(self) -> None:
        """What waits for a server that does not read is not there twice."""
        self.peer.stalled = True
        filler = self.client.publish("filler", bytes(900_000))
        self.network.advance()
        waiting = self.watch(self.js.publish("a.b", b"x", msg_id="1"))
        self.network.advance(5)
        self.peer.stalled = False
        self.network.advance(0)
        sent = [frame for frame in self.sent() if frame.subject == "a.b"]
        self.assertEqual(len(sent), 1)
        self.ack(sent[0])
        self.successResultOf(waiting)
        del filler

    def test_one_sent_before_is_being_stored(self) -> None:
        """That answer to a second copy is no failure: a moment later there is an ack."""
        waiting = self.watch(self.js.publish("a.b", b"x", msg_id="1"))
        self.sent()
        self.network.advance(1)
        self.refuse(self.one(), 409, 10158)
        self.assertNoResult(waiting)
        self.network.advance(0.25)
        again = self.one()
        self.ack(again, duplicate=True)
        self.successResultOf(waiting)

    def expecting(self) -> tuple[Deferred[PubAck], PublishFrame]:
        """One with an expectation, of which a second copy was refused because of it; and what finds out about the first."""
        waiting = self.watch(self.js.publish("a.b", b"x", msg_id="1", expected_stream="S", expected_last_subject_seq=6))
        self.sent()
        self.network.advance(1)
        self.refuse(self.one(), 400, 10071)
        self.assertNoResult(waiting)
        self.network.advance(0.25)
        probe = self.one()
        self.assertNotIn(b"Sequence", probe.header_block)
        self.assertIn(b"Nats-Msg-Id: 1\r\n", probe.header_block)
        self.assertIn(b"Nats-Expected-Stream: S\r\n", probe.header_block)
        self.assertIn(b"Nats-Expected-Last-Msg-Id: ", probe.header_block)
        return waiting, probe

    def test_refused_because_of_itself(self) -> None:
        """The first copy was stored, so that the second was not as expected: that is a success."""
        waiting, probe = self.expecting()
        self.ack(probe, 7, duplicate=True)
        self.assertEqual(self.successResultOf(waiting).seq, 7)

    def test_refused_because_of_others(self) -> None:
        """No copy was stored: the refusal stands."""
        waiting, probe = self.expecting()
        self.refuse(probe, 400, 10070)
        self.failureResultOf(waiting, WrongLastSequenceError)

    def test_refused_for_another_reason(self) -> None:
        """Nobody knows then, and the error says so."""
        waiting, probe = self.expecting()
        self.refuse(probe, 503, 10008)
        error = self.failureResultOf(waiting, PublishUnconfirmedError).value
        self.assertIsInstance(error.__cause__, JetStreamUnavailableError)

    def test_another_one_is_being_stored(self) -> None:
        """To the only copy, that answer is for the caller."""
        waiting = self.watch(self.js.publish("a.b", b"x", msg_id="1"))
        self.refuse(self.one(), 409, 10158)
        self.failureResultOf(waiting, DuplicateInProcessError)

    def test_nobody_takes_the_second_copy(self) -> None:
        """The first may be stored: it goes on until the time is over, and does not say that nothing was stored."""
        waiting = self.watch(self.js.publish("a.b", b"x", msg_id="1", retries=0, timeout=3.0))
        self.sent()
        self.network.advance(1)
        for _ in range(8):
            self.nobody(self.one())
            self.assertNoResult(waiting)
            self.network.advance(0.25)
        self.failureResultOf(waiting, PublishTimeoutError)


class NeverResendTests(PublishingTestCase):
    options: ClassVar[dict[str, Any]] = {"resend_after": None}

    def test_off(self) -> None:
        """Without ``resend_after``, one copy is sent on a connection."""
        waiting = self.watch(self.js.publish("a.b", b"x", msg_id="1"))
        self.assertEqual(self.payloads(), [b"x"])
        self.network.advance(5)
        self.assertEqual(self.sent(), [])
        self.failureResultOf(waiting, PublishTimeoutError)


class DisconnectTests(PublishingTestCase):
    """The connection is lost before the ack comes."""

    client_options: ClassVar[dict[str, Any]] = {
        "max_pending_bytes": 1_000_000,
        "high_water_bytes": 1_000_000,
        "reconnect_buffer_bytes": 1_000_000,
    }
    options: ClassVar[dict[str, Any]] = {"timeout": 300.0, "duplicate_window": 100.0}

    def test_with_ids(self) -> None:
        """They are sent again on the next connection, in order; acked ones are not."""
        waiting = [self.watch(self.js.publish("a.b", b"%d" % number, msg_id=str(number))) for number in range(5)]
        sent = self.sent()
        self.ack(sent[2])
        peer = self.reconnected()
        again = self.sent(peer)
        self.assertEqual([frame.payload for frame in again], [b"0", b"1", b"3", b"4"])
        self.assertEqual(again[0].header_block, sent[0].header_block)
        for seq, frame in enumerate(again):
            self.ack(frame, seq, peer, duplicate=True)
        self.assertEqual([self.successResultOf(each).duplicate for each in waiting], [True, True, False, True, True])

    def test_without_an_id(self) -> None:
        """It fails at once, and the text says that it is unknown whether it was stored."""
        waiting = self.watch(self.js.publish("a.b", b"x"))
        self.sent()
        peer = self.reconnected()
        error = self.failureResultOf(waiting, PublishDisconnectedError).value
        self.assertIsInstance(error, (PublishUnconfirmedError, DisconnectedError))
        self.assertIn("unknown whether it was stored", str(error))
        self.assertIn("no message id", str(error))
        self.assertIsNotNone(error.__cause__)
        self.assertEqual(self.sent(peer), [])

    def test_not_sent_yet(self) -> None:
        """What was still in the client's buffer is sent from there, once, with an id or without."""
        self.peer.cut()
        self.network.advance()
        waiting = [self.watch(self.js.publish("a.b", b"x")), self.watch(self.js.publish("a.b", b"y", msg_id="1"))]
        self.network.advance(0.1)
        peer = self.server.peer
        sent = self.sent(peer)
        self.assertEqual([frame.payload for frame in sent], [b"x", b"y"])
        for frame in sent:
            self.ack(frame, 1, peer)
        self.assertEqual([self.successResultOf(each).seq for each in waiting], [1, 1])

    def test_stuck_in_the_buffer(self) -> None:
        """What the connection did not take before it was lost is sent once, after it; what it took is sent again."""
        first = self.watch(self.js.publish("a.b", b"first", msg_id="1"))
        self.network.advance()
        self.peer.stalled = True
        self.client.publish("filler", bytes(900_000))
        self.network.advance()
        second = [self.watch(self.js.publish("a.b", b"second")), self.watch(self.js.publish("a.b", b"third", msg_id="3"))]
        self.network.advance()
        self.peer.take()
        peer = self.reconnected()
        sent = [frame for frame in self.sent(peer) if frame.subject == "a.b"]
        self.assertEqual([frame.payload for frame in sent], [b"second", b"third", b"first"])
        for frame in sent:
            self.ack(frame, 1, peer)
        for each in (first, *second):
            self.successResultOf(each)

    def test_too_late(self) -> None:
        """When the stream may have forgotten the id, it is not sent again."""
        waiting = self.watch(self.js.publish("a.b", b"x", msg_id="1"))
        self.sent()
        self.network.refuse("one:4222")
        self.peer.cut()
        self.network.advance(91)
        self.assertNoResult(waiting)
        self.network.accept("one:4222")
        for _ in range(5):
            self.network.advance(1)
        self.successResultOf(self.client.when_connected())
        self.assertEqual(self.payloads(self.server.peer), [])
        error = self.failureResultOf(waiting, PublishDisconnectedError).value
        self.assertIn("forgotten the message id", str(error))

    def test_timeout_while_disconnected(self) -> None:
        """Its time goes on meanwhile."""
        waiting = self.watch(self.js.publish("a.b", b"x", msg_id="1", timeout=3.0))
        self.sent()
        self.network.refuse("one:4222")
        self.peer.cut()
        self.network.advance(3)
        self.failureResultOf(waiting, PublishTimeoutError)

    def test_waiting_for_a_leader(self) -> None:
        """What nobody had can be sent on the next connection without an id, too."""
        waiting = self.watch(self.js.publish("a.b", b"x"))
        self.nobody(self.one())
        peer = self.reconnected()
        self.network.advance(0.25)
        self.ack(self.one(peer), 1, peer)
        self.successResultOf(waiting)

    def test_lost_twice(self) -> None:
        """It is sent again on each connection."""
        waiting = self.watch(self.js.publish("a.b", b"x", msg_id="1"))
        self.sent()
        for _ in range(3):
            self.peer = self.reconnected()
            frame = self.one()
            self.network.advance(0.5)
        self.ack(frame)
        self.successResultOf(waiting)

    def test_no_room_for_all(self) -> None:
        """What does not fit the buffer of a connection that takes nothing is sent a little later."""
        blocked: list[int] = []

        def block(event: Any) -> None:
            if isinstance(event, Reconnected):
                self.server.peer.stalled = True
                for _ in range(2):
                    self.client.publish("filler", bytes(900_000))
                blocked.append(self.client.pending_bytes)

        self.client.add_listener(block)
        waiting = [self.watch(self.js.publish("a.b", b"%d" % number * 60_000, msg_id=str(number))) for number in range(3)]
        self.sent()
        peer = self.reconnected()
        self.assertGreater(blocked[0], 900_000)
        self.network.advance(0.5)
        peer.stalled = False
        for _ in range(4):
            self.network.advance(1)
        again = [frame for frame in self.sent(peer) if frame.subject == "a.b"]
        self.assertEqual({frame.payload[:1] for frame in again}, {b"0", b"1", b"2"})
        for frame in again:
            self.ack(frame, 1, peer)
        for each in waiting:
            self.successResultOf(each)

    def test_too_large_for_the_next_server(self) -> None:
        """One that was sent may be stored, and the error says so; one that was not, is not."""
        sent = self.watch(self.js.publish("a.b", bytes(5000), msg_id="1"))
        self.sent()
        self.server.info["max_payload"] = 1000
        self.network.refuse("one:4222")
        self.peer.cut()
        self.network.advance()
        waiting = self.watch(self.js.publish("a.b", bytes(5000)))
        self.network.accept("one:4222")
        for _ in range(5):
            self.network.advance(1)
        self.failureResultOf(waiting, MaxPayloadExceededError)
        error = self.failureResultOf(sent, PublishUnconfirmedError).value
        self.assertIsInstance(error.__cause__, MaxPayloadExceededError)


class EndTests(PublishingTestCase):
    """The client ends before the ack comes."""

    def test_closed(self) -> None:
        """Everybody is told at once; nothing can be published after."""
        waiting = self.watch(self.js.publish("a.b", msg_id="1"))
        self.sent()
        self.client.close()
        error = self.failureResultOf(waiting, ConnectionClosedError).value
        self.assertIn("unknown whether the publish was stored", str(error))
        self.network.advance()
        self.assertRaises(ConnectionClosedError, self.js.publish, "a.b")

    def test_drained(self) -> None:
        """Draining waits for the acks, and for no longer than it may: who got none by then is told what happened."""
        first, second, late = (self.watch(self.js.publish("a.b", msg_id=each, timeout=100)) for each in "123")
        sent = self.sent()
        drained = self.watch(self.client.drain(timeout=10))
        self.ack(sent[0])
        self.successResultOf(first)
        self.network.advance(9)
        self.ack(sent[1])
        self.successResultOf(second)
        self.assertNoResult(drained)
        self.network.advance(1)
        self.failureResultOf(drained, DrainTimeoutError)
        error = self.failureResultOf(late, ConnectionClosedError).value
        self.assertIn("unknown whether the publish was stored", str(error))

    def test_closed_while_disconnected(self) -> None:
        """Also those that wait for the next connection are told."""
        waiting = self.watch(self.js.publish("a.b", msg_id="1"))
        self.sent()
        self.network.refuse("one:4222")
        self.peer.cut()
        self.network.advance(0.5)
        self.client.close()
        self.failureResultOf(waiting, ConnectionClosedError)
