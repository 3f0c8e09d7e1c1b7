"""Dead letters: what a handler's end becomes, and what happens when storing goes wrong; with a server in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import Msg, errors
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.dead_letters import DeadLetters
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.testing import PublishFrame, connected_client

LOST = b"lost"
UNANSWERED = b"unanswered"
LETTER = "dead.ORDERS.worker.42.1700000000123456789"


class Stream:
    """The part of a stream that matters: a subject may have one message.

    :ivar stored: what it has.
    :ivar trouble: what goes wrong with the next publishes: a refusal, LOST before it came, or UNANSWERED after it was stored.
    """

    def __init__(self) -> None:
        self.stored: list[PublishFrame] = []
        self.trouble: list[bytes] = []
        self.asked = 0

    def __call__(self, frame: PublishFrame) -> bytes | None:
        self.asked += 1
        if frame.headers.get("Nats-Expected-Last-Subject-Sequence") != "0":
            raise AssertionError(f"published without a condition: {frame}")
        trouble = self.trouble.pop(0) if self.trouble else b""
        if trouble == LOST:
            return None
        if trouble not in (b"", UNANSWERED):
            return trouble
        if frame.subject in [stored.subject for stored in self.stored]:
            return refusal(10071, "wrong last sequence: 1")
        self.stored.append(frame)
        if trouble == UNANSWERED:
            return None
        return json.dumps({"stream": "DEAD", "seq": len(self.stored)}).encode()


def refusal(err_code: int, description: str = "", code: int = 400) -> bytes:
    return json.dumps({"error": {"code": code, "err_code": err_code, "description": description}}).encode()


class DeadLetterTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.client, self.server, self.network = connected_client(self)
        self.js = JetStreamContext(self.client, timeout=1.0)
        self.dead = DeadLetters(self.js)
        self.stream = Stream()
        self.server.respond("dead.>", self.stream)
        self.server.respond("$JS.ACK.>", b"")

    def message(self, delivered: int = 1, data: bytes = b"data", raw_headers: bytes = b"") -> JsMsg:
        reply = f"$JS.ACK.ORDERS.worker.{delivered}.42.57.1700000000123456789.7"
        return JsMsg(Msg("orders.new", 1, reply, data, raw_headers), self.js)

    def answers(self) -> list[bytes]:
        self.network.advance()
        return [frame.payload for frame in self.server.published("$JS.ACK.>")]

    def letters(self) -> list[tuple[str, str | None, str | None]]:
        """The subject, the cause and the reason of each dead letter."""
        return [
            (frame.subject, frame.headers.get("Dead-Letter-Cause"), frame.headers.get("Dead-Letter-Reason")) for frame in self.stream.stored
        ]


class RejectTests(DeadLetterTestCase):
    """One message."""

    def test_reject(self) -> None:
        """The message is stored with its payload and headers, and then given up."""
        msg = self.message(delivered=3, raw_headers=b"NATS/1.0\r\nA: 1\r\n\r\n")
        self.assertTrue(self.network.run(self.dead.reject(msg, "no such customer")))
        self.assertEqual(self.letters(), [(LETTER, "rejected", "no such customer")])
        (stored,) = self.stream.stored
        self.assertEqual((stored.payload, stored.headers["A"], stored.headers["Dead-Letter-Deliveries"]), (b"data", "1", "3"))
        self.assertEqual(self.answers(), [b"+TERM dead letter: no such customer"])
        self.assertTrue(msg.acked)

    def test_is_stored_before_it_is_given_up(self) -> None:
        """While it is not stored the message is not given up: a crash loses nothing."""
        self.stream.trouble = [LOST]
        msg = self.message()
        done = self.dead.reject(msg)
        self.network.advance(0.5)
        self.assertEqual((self.answers(), msg.acked), ([], False))
        self.network.run(done)
        self.assertEqual(self.answers(), [b"+TERM dead letter"])

    def test_stored_before(self) -> None:
        """A message that comes again, after a crash before it was given up, is given up, and not stored again."""
        self.network.run(self.dead.store(self.message(), "first"))
        again = self.message(delivered=2)
        self.assertFalse(self.network.run(self.dead.reject(again, "second")))
        self.assertEqual(self.letters(), [(LETTER, "rejected", "first")])
        self.assertTrue(again.acked)

    def test_store_does_not_answer(self) -> None:
        """``store`` only stores."""
        msg = self.message()
        self.assertTrue(self.network.run(self.dead.store(msg)))
        self.assertEqual((self.answers(), msg.acked), ([], False))

    def test_answered_before(self) -> None:
        """A message that has got its answer is not stored."""
        msg = self.message()
        msg.ack()
        self.failureResultOf(self.dead.reject(msg), errors.MessageAlreadyAckedError)
        self.assertEqual(self.stream.asked, 0)

    def test_not_of_a_consumer(self) -> None:
        """A message that no consumer delivered is refused."""
        msg = JsMsg(Msg("a", 1, "_INBOX.x", b"", b""), self.js)
        self.failureResultOf(self.dead.reject(msg), errors.NotJetStreamMessageError)

    def test_wrong_arguments(self) -> None:
        """What cannot be meant is refused."""
        self.assertRaises(errors.InvalidSubjectError, DeadLetters, self.js, "dead.>")
        for attempts in (0, True, 1.5):
            self.assertRaises(errors.InvalidArgumentError, DeadLetters, self.js, attempts=attempts)
        for wait in (-1, float("inf"), "1", True):
            self.assertRaises(errors.InvalidArgumentError, DeadLetters, self.js, retry_wait=wait)
        for max_deliver in (0, -1, True, 1.5):
            self.assertRaises(errors.InvalidArgumentError, self.dead.handler, print, max_deliver=max_deliver)
        for delay in (-1, float("nan"), "1", True):
            self.assertRaises(errors.InvalidArgumentError, self.dead.handler, print, max_deliver=1, delay=delay)
        self.assertRaises(errors.InvalidNameError, self.dead.watch, "a.b")
        self.assertRaises(errors.InvalidSubjectError, self.dead.watch, prefix="a b")

    def test_stream_config(self) -> None:
        """The stream for dead letters has all their subjects."""
        config = self.dead.stream_config("DEAD")
        self.assertEqual((config.name, config.subjects), ("DEAD", ("dead.>",)))


class TroubleTests(DeadLetterTestCase):
    """Storing goes wrong."""

    def test_answer_is_lost(self) -> None:
        """When it was stored and the answer got lost, trying again finds it."""
        self.stream.trouble = [UNANSWERED]
        msg = self.message()
        self.network.run(self.dead.reject(msg))
        self.assertEqual((len(self.stream.stored), self.stream.asked, msg.acked), (1, 2, True))

    def test_stored_by_another_at_the_same_time(self) -> None:
        """While another one's publish of the same is on its way into the stream, nothing is given up: that one may fail."""
        msg = self.message()
        self.stream.trouble = [refusal(10164)] * 2
        self.assertTrue(self.network.run(self.dead.reject(msg)))
        self.assertEqual((len(self.stream.stored), self.stream.asked), (1, 3))

    def test_passing_trouble(self) -> None:
        """What passes is waited for."""
        for err_code, code in ((10008, 503), (10163, 503), (10167, 429)):
            self.stream.stored.clear()
            self.stream.trouble = [refusal(err_code, code=code)] * 4
            begun = self.network.seconds()
            self.assertTrue(self.network.run(self.dead.reject(self.message())))
            self.assertEqual(round(self.network.seconds() - begun, 3), 1.0)

    def test_trouble_that_stays(self) -> None:
        """When it cannot be stored that is said, and the message can still be answered."""
        self.stream.trouble = [refusal(10008, code=503)] * 5
        msg = self.message()
        with self.assertRaises(errors.JetStreamUnavailableError):
            self.network.run(self.dead.reject(msg))
        self.assertEqual((self.stream.asked, msg.acked, self.answers()), (5, False, []))
        self.stream.trouble = [refusal(10077)]
        with self.assertRaises(errors.StreamStoreError):
            self.network.run(self.dead.reject(msg))
        self.assertEqual(self.stream.asked, 6)

    def test_no_stream(self) -> None:
        """A stream that is not there is named as the reason."""
        dead = DeadLetters(self.js, "nowhere")
        with self.assertRaises(errors.NoStreamResponseError):
            self.network.run(dead.reject(self.message()))


class HandlerTests(DeadLetterTestCase):
    """What the end of a handler becomes."""

    def handle(self, function: Callable[[JsMsg], Any], msg: JsMsg, **options: Any) -> None:
        self.network.run(self.dead.handler(function, max_deliver=3, **options)(msg))

    def test_success(self) -> None:
        """A handler that ends acks, be it plain, with a Deferred, or a coroutine function."""

        async def coroutine(msg: JsMsg) -> None:
            pass

        waiting: Deferred[None] = Deferred()
        self.handle(lambda msg: None, self.message())
        self.handle(coroutine, self.message())
        done = self.dead.handler(lambda msg: waiting, max_deliver=3)(self.message())
        self.assertEqual(self.answers(), [b"+ACK"] * 2)
        waiting.callback(None)
        self.network.run(done)
        self.assertEqual(self.answers(), [b"+ACK"] * 3)

    def test_own_answer(self) -> None:
        """A handler that answers by itself is not contradicted."""
        self.handle(lambda msg: msg.nak(5.0), self.message())
        self.assertEqual(self.answers(), [b'-NAK {"delay":5000000000}'])

        def answer_and_fail(msg: JsMsg) -> None:
            msg.ack()
            raise ValueError("late")

        self.assertRaises(ValueError, self.handle, answer_and_fail, self.message(3))
        self.assertEqual((self.answers()[1:], self.stream.asked), ([b"+ACK"], 0))

    def test_failure(self) -> None:
        """A failure makes the message come again, after the delay, and is passed on to whoever logs it."""
        self.assertRaises(ZeroDivisionError, self.handle, lambda msg: 1 // 0, self.message(1))
        self.assertRaises(ZeroDivisionError, self.handle, lambda msg: 1 // 0, self.message(2), delay=1.5)
        self.assertEqual((self.answers(), self.stream.asked), ([b"-NAK", b'-NAK {"delay":1500000000}'], 0))

    def test_last_failure(self) -> None:
        """The failure of the last delivery makes it a dead letter, and is logged."""
        for delivered in (3, 4):
            self.stream.stored.clear()
            self.handle(lambda msg: 1 // 0, self.message(delivered))
            self.assertEqual(self.letters(), [(LETTER, "failed", "ZeroDivisionError: integer division or modulo by zero")])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual({answer[:17] for answer in self.answers()}, {b"+TERM dead letter"})

    def test_rejected(self) -> None:
        """A handler rejects a message for good at any delivery."""

        def reject(msg: JsMsg) -> None:
            raise errors.MessageRejectedError("not an order")

        self.handle(reject, self.message(1))
        self.assertEqual(self.letters(), [(LETTER, "rejected", "not an order")])
        self.assertEqual(self.answers(), [b"+TERM dead letter: not an order"])

    def test_cannot_be_stored(self) -> None:
        """When it cannot be stored it comes again, but not at once: what is wrong may stay."""

        def reject(msg: JsMsg) -> None:
            raise errors.MessageRejectedError("not an order")

        self.stream.trouble = [refusal(10077)]
        self.assertRaises(errors.StreamStoreError, self.handle, reject, self.message(1))
        self.stream.trouble = [refusal(10077)]
        self.assertRaises(errors.StreamStoreError, self.handle, reject, self.message(1), delay=60.0)
        self.assertEqual(self.answers(), [b'-NAK {"delay":5000000000}', b'-NAK {"delay":60000000000}'])

    def test_cancelled(self) -> None:
        """A handler that is cancelled has not failed: the message is left as it is."""
        done = self.dead.handler(lambda msg: Deferred(), max_deliver=1)(self.message())
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual((self.answers(), self.stream.asked), ([], 0))


class AdvisoryTests(DeadLetterTestCase):
    """What the server tells of deliveries that nobody answered."""

    def test_odd_advisories(self) -> None:
        """What is no such advisory is refused."""
        for data in (b"", b"[]", b"{}", b'{"type":"io.nats.jetstream.advisory.v1.nak","stream":"S","consumer":"c","stream_seq":1}'):
            self.failureResultOf(self.dead.take_advisory(Msg("a", 1, "", data, b"")), errors.JetStreamDecodeError)

    def test_what_is_watched(self) -> None:
        """One consumer, one stream, or all of them are watched, and several processes share the work."""
        for call, subject, queue in (
            (self.dead.watch, "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.*.*", "dead-letters"),
            (lambda: self.dead.watch("S", "c", queue=None), "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.c", None),
            (lambda: self.dead.watch("S", prefix="other"), "other.ADVISORY.CONSUMER.MAX_DELIVERIES.S.*", "dead-letters"),
        ):
            sub = call()
            self.assertEqual((sub.subject, sub.queue), (subject, queue))
            sub.unsubscribe()
