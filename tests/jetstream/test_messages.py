"""Messages of consumers, and the answers that they may get, with a server in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import Msg, errors
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.testing import connected_client

SHORT = "$JS.ACK.ORDERS.worker.3.42.57.1700000000123456789.7"
LONG = "$JS.ACK.hub.ACCHASH.ORDERS.worker.3.42.57.1700000000123456789.7.random.more"


class MessageTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.client, self.server, self.network = connected_client(self)
        self.js = JetStreamContext(self.client)

    def message(self, reply: str = SHORT, data: bytes = b"data", raw_headers: bytes = b"") -> JsMsg:
        return JsMsg(Msg("orders.new", 1, reply, data, raw_headers), self.js)

    def answers(self) -> list[bytes]:
        """What was published to the ack subject, since the last call."""
        self.network.advance()
        published = [frame.payload for frame in self.server.published(SHORT)]
        self.server.forget_frames()
        return published


class ContentTests(MessageTestCase):
    """What a message says of itself."""

    def test_content(self) -> None:
        """A message has all that the message of the client has."""
        block = b"NATS/1.0\r\nA: 1\r\n\r\n"
        msg = self.message(raw_headers=block)
        self.assertEqual((msg.subject, msg.data, msg.reply, msg.raw_headers), ("orders.new", b"data", SHORT, block))
        self.assertEqual(msg.headers.get("A"), "1")
        self.assertEqual(msg.size, len("orders.new") + len(SHORT) + len(block) + len(b"data"))
        self.assertEqual(repr(msg), "<JsMsg 'orders.new' 4 bytes>")

    def test_metadata(self) -> None:
        """Stream, consumer, sequences and time come from the ack subject, in its short and in its long form."""
        for reply, domain in ((SHORT, ""), (LONG, "hub")):
            metadata = self.message(reply).metadata
            self.assertEqual((metadata.stream, metadata.consumer, metadata.domain), ("ORDERS", "worker", domain))
            self.assertEqual((metadata.num_delivered, metadata.stream_seq, metadata.consumer_seq), (3, 42, 57))
            self.assertEqual((metadata.timestamp_ns, metadata.num_pending), (1700000000123456789, 7))

    def test_metadata_is_read_once(self) -> None:
        """Asking twice costs nothing."""
        msg = self.message()
        self.assertIs(msg.metadata, msg.metadata)

    def test_message_of_no_consumer(self) -> None:
        """A message that no consumer delivered has no metadata, and none of its answers is sent to whoever asked with it."""
        for reply in ("", "_INBOX.someone"):
            msg = self.message(reply)
            self.assertRaises(errors.NotJetStreamMessageError, getattr, msg, "metadata")
            for call in (msg.ack, msg.nak, msg.term, msg.in_progress):
                self.assertRaises(errors.NotJetStreamMessageError, call)
            for sync in (msg.ack_sync, msg.term_sync):
                self.failureResultOf(sync(), errors.NotJetStreamMessageError)
        self.network.advance()
        self.assertEqual(self.server.published(), [])

    def test_has_no_room_for_more(self) -> None:
        """One is made for each message that is delivered: it has no dictionary."""
        self.assertFalse(hasattr(self.message(), "__dict__"))


class AnswerTests(MessageTestCase):
    """What is sent for each answer."""

    def final(self) -> list[Callable[[JsMsg], Any]]:
        return [JsMsg.ack, JsMsg.nak, JsMsg.term]

    def test_payloads(self) -> None:
        """Each kind of answer is what the server knows it by."""
        calls: list[tuple[Callable[[JsMsg], Any], bytes]] = [
            (lambda msg: msg.ack(), b"+ACK"),
            (lambda msg: msg.nak(), b"-NAK"),
            (lambda msg: msg.nak(0), b"-NAK"),
            (lambda msg: msg.nak(1.5), b'-NAK {"delay":1500000000}'),
            (lambda msg: msg.nak(0.1), b'-NAK {"delay":100000000}'),
            (lambda msg: msg.in_progress(), b"+WPI"),
            (lambda msg: msg.term(), b"+TERM"),
            (lambda msg: msg.term(""), b"+TERM"),
            (lambda msg: msg.term("not an order"), b"+TERM not an order"),
        ]
        for call, payload in calls:
            self.network.run(call(self.message()))
            self.assertEqual(self.answers(), [payload])

    def test_both_ack_subjects(self) -> None:
        """The answer goes to the ack subject as it came, all of it."""
        self.network.run(self.message(LONG).ack())
        self.network.advance()
        self.assertEqual([frame.subject for frame in self.server.published()], [LONG])

    def test_second_answer(self) -> None:
        """After a final answer every other one is an error, and is not sent."""
        for first in self.final():
            msg = self.message()
            self.assertFalse(msg.acked)
            first(msg)
            self.assertTrue(msg.acked)
            self.assertEqual(len(self.answers()), 1)
            for second in [*self.final(), JsMsg.in_progress]:
                self.assertRaises(errors.MessageAlreadyAckedError, second, msg)
            for sync in (msg.ack_sync, msg.term_sync):
                self.failureResultOf(sync(), errors.MessageAlreadyAckedError)
            self.assertEqual(self.answers(), [])

    def test_in_progress_is_not_final(self) -> None:
        """It can be said again and again, and the final answer comes after it."""
        msg = self.message()
        msg.in_progress()
        msg.in_progress()
        self.assertFalse(msg.acked)
        msg.ack()
        self.assertEqual(self.answers(), [b"+WPI", b"+WPI", b"+ACK"])

    def test_wrong_delay(self) -> None:
        """A delay that is no number of seconds is refused, and the message can still be answered."""
        for wrong in (-1, float("nan"), float("inf"), "5", True, 1e18):
            msg = self.message()
            error = self.assertRaises(errors.InvalidArgumentError, msg.nak, wrong)
            self.assertIn(repr(wrong), str(error))
            self.assertFalse(msg.acked)
        self.assertEqual(self.answers(), [])

    def test_reason_is_one_line(self) -> None:
        """A reason may be the text of any error: line ends become spaces, and what UTF-8 cannot express is escaped."""
        self.message().term("first line\r\n  second\tline\n")
        self.message().term("caf\u00e9 \udc80")
        self.assertEqual(self.answers(), [b"+TERM first line second line", b"+TERM caf\xc3\xa9 \\udc80"])
        error = self.assertRaises(errors.InvalidArgumentError, self.message().term, b"bytes")
        self.assertIn("b'bytes'", str(error))

    def test_closed_client(self) -> None:
        """An answer through a closed client is an error, and the message counts as not answered."""
        msg = self.message()
        self.network.run(self.client.close())
        for call in (msg.ack, msg.nak, msg.term, msg.in_progress):
            self.assertRaises(errors.ConnectionClosedError, call)
        self.failureResultOf(msg.ack_sync(), errors.ConnectionClosedError)
        self.assertFalse(msg.acked)

    def test_answer_while_disconnected(self) -> None:
        """An answer that is given while there is no connection is sent after reconnecting."""
        self.network.refuse("127.0.0.1:4222")
        self.network.cut("127.0.0.1:4222")
        self.network.advance()
        self.assertFalse(self.client.is_connected)
        self.message().ack()
        self.network.accept("127.0.0.1:4222")
        self.network.run(self.client.when_connected())
        self.assertEqual(self.answers(), [b"+ACK"])


class ConfirmedTests(MessageTestCase):
    """Answers that wait until the server has taken them."""

    def test_confirmed(self) -> None:
        """``ack_sync`` fires when the server said that it took the ack, and not before."""
        waiting: list[Any] = []
        self.server.respond("$JS.ACK.>", waiting.append)
        msg = self.message()
        done = msg.ack_sync()
        self.network.advance()
        self.assertNoResult(done)
        self.assertEqual([frame.payload for frame in waiting], [b"+ACK"])
        self.assertRaises(errors.MessageAlreadyAckedError, msg.nak)
        self.server.publish(waiting[0].reply)
        self.network.advance()
        self.assertIsNone(self.successResultOf(done))

    def test_confirmed_term(self) -> None:
        """``term_sync`` sends its reason."""
        self.server.respond("$JS.ACK.>", b"")
        self.network.run(self.message().term_sync("no good"))
        self.assertEqual(self.answers(), [b"+TERM no good"])

    def test_not_confirmed(self) -> None:
        """When the server says nothing in time, the message can be answered again."""
        self.server.respond("$JS.ACK.>", lambda frame: None)
        msg = self.message()
        begun = self.network.seconds()
        with self.assertRaises(errors.RequestTimeoutError):
            self.network.run(msg.ack_sync())
        self.assertEqual(round(self.network.seconds() - begun), self.js.timeout)
        with self.assertRaises(errors.RequestTimeoutError):
            self.network.run(msg.ack_sync(timeout=0.5))
        self.assertFalse(msg.acked)
        self.server.respond("$JS.ACK.>", b"")
        self.network.run(msg.ack_sync())
        self.assertTrue(msg.acked)

    def test_consumer_is_gone(self) -> None:
        """When nobody takes the ack, that is said at once."""
        msg = self.message()
        with self.assertRaises(errors.NoRespondersError):
            self.network.run(msg.ack_sync())
        self.assertFalse(msg.acked)

    def test_cancelled(self) -> None:
        """After cancelling, the message can be answered again, and nothing is left behind."""
        self.server.respond("$JS.ACK.>", lambda frame: None)
        msg = self.message()
        done = msg.ack_sync()
        done.addErrback(lambda failure: None)
        done.cancel()
        self.assertEqual((msg.acked, self.client.requests_in_flight), (False, 0))
        msg.ack()
        self.assertEqual(self.answers()[-1], b"+ACK")
