"""One request, many replies: each way in which it ends, and the reason that it gives."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from pynats_twisted.errors import (
    ConfigurationError,
    ConnectionClosedError,
    DisconnectedError,
    NoRespondersError,
    PermissionsViolationError,
)
from pynats_twisted.testing.server_frames import PublishFrame

from .network import NO_RESPONDERS
from .support import ClientTestCase


class RequestManyTests(ClientTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client, self.peer = self.connected()

    def ask(self, **options: Any) -> tuple[Any, Any]:
        """A request, and its publish as the server saw it."""
        many = self.client.request_many("svc", b"q", **options)
        self.network.advance()
        return many, self.peer.take(PublishFrame)[-1]

    def collected(self, many: Any) -> Any:
        return self.watch(many.collect().addCallback(lambda replies: [msg.data for msg in replies]))

    def test_number(self) -> None:
        """It ends with the last of ``max_msgs`` replies; a further one is dropped."""
        many, asked = self.ask(max_msgs=3)
        replies = self.collected(many)
        self.peer.answer(asked, b"1", b"2")
        self.assertNoResult(replies)
        self.assertIsNone(many.reason)
        self.peer.answer(asked, b"3", b"4")
        self.assertEqual(self.successResultOf(replies), [b"1", b"2", b"3"])
        self.assertEqual((many.reason, self.client.requests_in_flight), ("max_msgs", 0))

    def test_time(self) -> None:
        """It ends when the time is over; that is no error."""
        many, asked = self.ask(timeout=2.0)
        replies = self.collected(many)
        self.network.advance(1.9)
        self.peer.answer(asked, b"1")
        self.network.advance(0.1)
        self.assertEqual(self.successResultOf(replies), [b"1"])
        self.assertEqual(many.reason, "timeout")
        self.peer.answer(asked, b"late")
        self.assertEqual(self.client.stats.late_replies, 1)

    def test_all_that_waits(self) -> None:
        """``ended`` fires at the end, whatever waits to be taken; ``waiting`` takes it all, once, and makes room for more."""
        many, asked = self.ask(max_msgs=4)
        first, second = self.watch(many.ended()), self.watch(many.ended())
        self.peer.answer(asked, b"1", b"2")
        self.assertNoResult(first)
        self.assertEqual([msg.data for msg in many.waiting()], [b"1", b"2"])
        self.assertEqual(many.waiting(), [])
        self.peer.answer(asked, b"3", b"4")
        for ended in (first, second, many.ended()):
            self.assertIsNone(self.successResultOf(ended))
        self.assertEqual([msg.data for msg in many.waiting()], [b"3", b"4"])
        self.assertEqual(self.successResultOf(self.collected(many)), [])

    def test_default_time(self) -> None:
        """The option ``request_timeout`` is the time where none is given."""
        many, _ = self.ask()
        self.network.advance(4.9)
        self.assertIsNone(many.reason)
        self.network.advance(0.1)
        self.assertEqual(many.reason, "timeout")

    def test_stall(self) -> None:
        """It ends when for ``stall`` seconds after a reply no other came; the first reply has the whole time."""
        many, asked = self.ask(stall=0.5, timeout=10.0)
        replies = self.collected(many)
        self.network.advance(5)
        self.assertIsNone(many.reason)
        for _ in range(4):
            self.peer.answer(asked, b"x")
            self.network.advance(0.4)
        self.assertIsNone(many.reason)
        self.network.advance(0.1)
        self.assertEqual((self.successResultOf(replies), many.reason), ([b"x"] * 4, "stall"))

    def test_replies_cost_no_timers(self) -> None:
        """Replies that put the end off do not pile up deadlines, whatever the stall time is."""
        many, asked = self.ask(stall=60.0, timeout=1000.0)
        for _ in range(10):
            self.peer.answer(asked, *[b"x"] * 100)
            self.network.advance(1)
        self.assertLessEqual(len(self.client._requests._deadlines), 2)
        self.network.advance(58.9)
        self.assertIsNone(many.reason)
        self.network.advance(0.2)
        self.assertEqual(many.reason, "stall")

    def test_stall_longer_than_the_time(self) -> None:
        """A stall time that is longer than the whole time ends nothing."""
        many, asked = self.ask(stall=10.0, timeout=1.0)
        self.network.advance(0.5)
        self.peer.answer(asked, b"x")
        self.network.advance(0.4)
        self.assertIsNone(many.reason)
        self.network.advance(0.1)
        self.assertEqual(many.reason, "timeout")

    def test_stall_at_the_end_of_the_time(self) -> None:
        """Replies that come and come do not make it longer than its time."""
        many, asked = self.ask(stall=0.3, timeout=1.1)
        for _ in range(10):
            self.network.advance(0.1)
            self.peer.answer(asked, b"x")
        self.network.advance(0.1)
        self.assertEqual(many.reason, "timeout")

    def test_sentinel(self) -> None:
        """It ends at the reply for which ``sentinel`` is true, which is not handed out."""
        many, asked = self.ask(sentinel=lambda msg: not msg.data)
        replies = self.collected(many)
        self.peer.answer(asked, b"1", b"2", b"", b"3")
        self.assertEqual((self.successResultOf(replies), many.reason), ([b"1", b"2"], "sentinel"))
        self.assertEqual(self.client.requests_in_flight, 0)

    def test_sentinel_that_raises(self) -> None:
        """What ``sentinel`` raises ends it, and is raised behind the replies before."""
        many, asked = self.ask(sentinel=lambda msg: 1 / int(msg.data) < 0)
        self.peer.answer(asked, b"1", b"0")
        self.assertEqual(many.reason, "error")
        self.failureResultOf(self.collected(many), ZeroDivisionError)
        self.assertEqual(self.client.requests_in_flight, 0)

    def test_sentinel_that_cancels(self) -> None:
        """``sentinel`` may cancel, or close the client."""
        many, asked = self.ask(sentinel=lambda msg: many.cancel())
        self.peer.answer(asked, b"1", b"2")
        self.assertEqual((self.successResultOf(self.collected(many)), many.reason), ([], "cancelled"))
        self.assertEqual(self.client.requests_in_flight, 0)
        other, asked = self.ask(sentinel=lambda msg: self.client.close() and None)
        self.peer.answer(asked, b"1", b"2")
        self.network.advance()
        self.assertEqual(other.reason, "error")

    def test_no_responders(self) -> None:
        """Where nobody listens that is raised by the iteration."""
        many, asked = self.ask()
        self.peer.answer(asked, block=NO_RESPONDERS)
        self.failureResultOf(self.collected(many), NoRespondersError)
        self.assertEqual((many.reason, self.client.requests_in_flight), ("error", 0))
        self.assertEqual(self.successResultOf(self.collected(many)), [])

    def test_broken_off(self) -> None:
        """Who leaves the loop may cancel it; who does not leaves it to its timeout."""

        async def first(many: Any) -> bytes:
            async for msg in many:
                return bytes(msg.data)
            return b""

        for cancel in (True, False):
            many, asked = self.ask(timeout=1.0)
            taken = self.watch(first(many))
            self.peer.answer(asked, b"1", b"2")
            self.assertEqual(self.successResultOf(taken), b"1")
            if cancel:
                many.cancel()
            else:
                self.network.advance(1)
            self.assertEqual(self.client.requests_in_flight, 0)
            self.assertEqual(many.reason, "cancelled" if cancel else "timeout")

    def test_cancelled_taker(self) -> None:
        """A taker who gives up loses no reply."""
        many, asked = self.ask(max_msgs=1)
        taker = self.watch(many.__anext__())
        taker.cancel()
        self.failureResultOf(taker, CancelledError)
        self.peer.answer(asked, b"1")
        self.assertEqual(self.successResultOf(self.collected(many)), [b"1"])

    def test_several_takers(self) -> None:
        """The end is told to all who wait, also when one of them cancels another one then."""
        many, asked = self.ask(max_msgs=2)
        takers = [self.watch(many.__anext__()) for _ in range(4)]
        self.peer.answer(asked, b"1")
        takers[1].addCallback(lambda _: takers[2].cancel())
        takers[2].addErrback(lambda failure: failure.trap(CancelledError) and None)
        self.peer.answer(asked, b"2")
        self.failureResultOf(takers[3], StopAsyncIteration)

    def test_error_for_one_taker(self) -> None:
        """An error is told once; who else waits hears of the end."""
        many, asked = self.ask()
        takers = [self.watch(many.__anext__()) for _ in range(2)]
        self.peer.answer(asked, block=NO_RESPONDERS)
        self.failureResultOf(takers[0], NoRespondersError)
        self.failureResultOf(takers[1], StopAsyncIteration)

    def test_denied(self) -> None:
        """A denied publish is raised by the iteration."""
        many, _ = self.ask()
        replies = self.collected(many)
        self.peer.error('Permissions Violation for Publish to "svc"')
        self.failureResultOf(replies, PermissionsViolationError)

    def test_closed(self) -> None:
        """So is the end of the client."""
        many, asked = self.ask()
        replies = self.collected(many)
        self.peer.answer(asked, b"1")
        self.client.close()
        self.network.advance()
        self.failureResultOf(replies, ConnectionClosedError)

    def test_disconnected(self) -> None:
        """So is, with ``fail_requests_on_disconnect``, a lost connection."""
        client, peer = self.connected(fail_requests_on_disconnect=True)
        many = client.request_many("svc")
        replies = self.collected(many)
        self.network.advance()
        peer.cut()
        self.failureResultOf(replies, DisconnectedError)

    def test_cancelled_by_another_one(self) -> None:
        """One that was cancelled when the others fail is not an error."""
        first, second = self.watch(self.client.request("svc")), self.client.request_many("svc")
        first.addErrback(lambda failure: second.cancel())
        self.client.close()
        self.network.advance()
        self.assertEqual((second.reason, self.successResultOf(self.collected(second))), ("cancelled", []))

    def test_bounded(self) -> None:
        """Replies that nobody takes are bounded as messages of subscriptions are, by number and bytes, and counted."""
        for options, kept in (({"pending_msgs": 3}, 3), ({"pending_bytes": 150}, 2)):
            client, peer = self.connected(**options)
            many = client.request_many("svc", max_msgs=10)
            self.network.advance()
            asked = peer.take(PublishFrame)[-1]
            peer.answer(asked, *[b"x" * 20] * 10)
            self.assertEqual((many.dropped, many.reason), (10 - kept, "max_msgs"))
            self.assertEqual(len(self.successResultOf(self.collected(many))), kept)

    def test_options(self) -> None:
        """Ends that can never come are refused."""
        for options in ({"max_msgs": 0}, {"stall": 0}, {"stall": -1.0}, {"timeout": -1}):
            self.assertRaises(ConfigurationError, self.client.request_many, "svc", **options)
        self.network.advance()
        self.assertEqual((self.client.requests_in_flight, self.peer.take(PublishFrame)), (0, []))
