"""Closing the client, and flushing it."""

from __future__ import annotations

from typing import Any

from pynats_twisted.client.status import Closed, Disconnected
from pynats_twisted.errors import ConnectionClosedError, DisconnectedError, FlushTimeoutError
from pynats_twisted.testing.server_frames import PingFrame, PublishFrame

from .test_drain import DrainTestCase


class CloseTests(DrainTestCase):
    def say(self, word: bytes) -> None:
        self.client.publish("a", word)

    def test_what_was_published(self) -> None:
        """Closing writes what was published, and fires when the connection is gone, not before."""
        self.client.publish("a", b"last words")
        closed = self.client.close()
        self.assertNoResult(closed)
        self.assertFalse(self.peer.wire.ended)
        self.network.advance()
        self.successResultOf(closed)
        self.assertTrue(self.peer.wire.ended)
        self.assertEqual(self.peer.written(), [b"last words"])
        self.assertEqual([type(event) for event in self.events], [*(type(event) for event in self.events[:1]), Disconnected, Closed])

    def test_last_words(self) -> None:
        """What is to be said before the end is said once, in its order, and still sent; one that fails keeps no other from it."""
        said: list[str] = []

        def say(word: str) -> None:
            said.append(word)
            self.say(word.encode())

        def fail() -> None:
            raise ValueError("speechless")

        self.client.before_close(lambda: say("one"))
        self.client.before_close(fail)
        take_back = self.client.before_close(lambda: say("taken back"))
        self.client.before_close(lambda: say("two"))
        take_back()
        take_back()
        self.client.close()
        self.client.close()
        self.network.advance()
        self.assertEqual((said, self.peer.written()), (["one", "two"], [b"one", b"two"]))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_last_words_of_a_drain(self) -> None:
        """Draining has them said when the handlers are done, and while publishing is still possible."""
        self.client.before_close(lambda: self.say(b"bye"))
        drained = self.client.drain()
        self.network.advance()
        self.successResultOf(drained)
        self.assertEqual(self.peer.written(), [b"bye"])

    def test_server_that_reads_nothing(self) -> None:
        """A connection that does not end is ended by force after a second."""
        self.peer.stalled = True
        self.client.publish("a")
        closed = self.client.close()
        self.network.advance(0.99)
        self.assertNoResult(closed)
        self.network.advance(0.01)
        self.network.advance()
        self.successResultOf(closed)
        self.assertTrue(self.peer.wire.aborted)

    def test_twice(self) -> None:
        """Each call fires, whenever it was made; one may be cancelled without any effect."""
        calls = [self.client.close(), self.client.when_closed(), self.client.close()]
        calls[0].addErrback(lambda failure: None)
        calls[0].cancel()
        self.network.advance()
        for call in (*calls[1:], self.client.close(), self.client.when_closed()):
            self.successResultOf(call)
        self.assertEqual(len(self.told(Closed)), 1)

    def test_flushes(self) -> None:
        """Who waits for a flush is told when the server did not answer before the end."""
        self.server.answer_pings = False
        flushed = self.watch(self.client.flush())
        self.client.close()
        self.network.advance()
        self.failureResultOf(flushed, DisconnectedError)
        self.failureResultOf(self.client.flush(), ConnectionClosedError)

    def test_calls_in_callbacks(self) -> None:
        """What callbacks do while the client ends is refused, and breaks nothing."""
        refused: list[str] = []

        def try_all(failure: Any) -> None:
            for call in (lambda: self.client.publish("a"), lambda: self.client.subscribe("b"), lambda: self.client.request("c")):
                error = self.assertRaises(ConnectionClosedError, call)
                refused.append(type(error).__name__)
            self.client.close()

        waiters = [self.client.request("svc"), self.subscribed().next(), self.client.when_closed()]
        for waiter in waiters:
            self.watch(waiter.addBoth(try_all))
        self.client.close()
        self.network.advance()
        self.assertEqual(refused, ["ConnectionClosedError"] * 9)

    def test_same_error_again_and_again(self) -> None:
        """The error of a closed client does not grow with each call that raises it."""

        def depth() -> int:
            try:
                self.client.publish("a")
            except ConnectionClosedError as error:
                frames = error.__traceback__
                number = 0
                while frames is not None:
                    number, frames = number + 1, frames.tb_next
                return number
            return 0

        self.client.close()
        self.network.advance()
        self.assertEqual(depth(), depth())


class FlushTests(DrainTestCase):
    def test_confirmed(self) -> None:
        """A flush is over when the server answered behind everything that was published before."""
        self.client.publish("a", b"1")
        flushed = self.watch(self.client.flush())
        self.client.publish("a", b"2")
        self.network.advance()
        self.successResultOf(flushed)
        self.assertEqual(self.peer.kinds(), [PublishFrame, PingFrame, PublishFrame])

    def test_timeout(self) -> None:
        """One that was given up does not take the next one's answer."""
        self.server.answer_pings = False
        first = self.watch(self.client.flush(timeout=1.0))
        self.network.advance(1)
        self.failureResultOf(first, FlushTimeoutError)
        second = self.watch(self.client.flush())
        self.network.advance()
        self.peer.send(b"PONG\r\n")
        self.assertNoResult(second)
        self.peer.send(b"PONG\r\n")
        self.successResultOf(second)

    def test_lost(self) -> None:
        """A lost connection fails it at once."""
        self.server.answer_pings = False
        flushed = self.watch(self.client.flush())
        self.peer.cut()
        self.failureResultOf(flushed, DisconnectedError)

    def test_rtt(self) -> None:
        """The round trip is measured from the call to the answer."""
        self.server.answer_pings = False
        measured = self.watch(self.client.rtt())
        self.network.advance(0.25)
        self.peer.send(b"PONG\r\n")
        self.assertAlmostEqual(self.successResultOf(measured), 0.25)
