"""Draining a subscription and the client: what is waited for, and what ends it early."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from pynats_twisted.client import ClientStatus
from pynats_twisted.client.status import Closed
from pynats_twisted.errors import (
    ConfigurationError,
    ConnectionClosedError,
    ConnectionDrainingError,
    DisconnectedError,
    DrainTimeoutError,
    RequestTimeoutError,
    SubscriptionClosedError,
)
from pynats_twisted.testing.server_frames import PingFrame, PublishFrame, UnsubscribeFrame

from .support import ClientTestCase, Slow


class DrainTestCase(ClientTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client, self.peer = self.connected()

    def subscribed(self, handler: Any = None, subject: str = "a", **options: Any) -> Any:
        """A subscription that the server has."""
        sub = self.client.subscribe(subject, handler, **options)
        self.network.advance()
        self.peer.take()
        return sub


class SubscriptionDrainTests(DrainTestCase):
    def test_nothing_is_lost(self) -> None:
        """What the server had sent before it heard of it is handled, in order, and then the subscription is closed."""
        slow = Slow()
        sub = self.subscribed(slow)
        self.peer.publish("a", b"1", b"2")
        self.server.answer_pings = False
        drained = self.watch(sub.drain())
        in_flight = self.peer.frame("a", b"3")
        self.network.advance()
        self.assertEqual([type(frame) for frame in self.peer.take()], [UnsubscribeFrame, PingFrame])
        self.peer.send(in_flight + b"PONG\r\n")
        self.assertNoResult(drained)
        slow.finish(b"1")
        slow.finish(b"2")
        self.assertNoResult(drained)
        slow.finish(b"3")
        self.successResultOf(drained)
        self.assertEqual((slow.begun, sub.closed, self.client.subscriptions), ([b"1", b"2", b"3"], True, ()))
        self.successResultOf(sub.drain())

    def test_taken(self) -> None:
        """Without a handler it is over when everything was taken; ``async for`` ends then."""

        async def collect() -> list[bytes]:
            return [msg.data async for msg in sub]

        sub = self.subscribed()
        self.peer.publish("a", b"1", b"2")
        drained = self.watch(sub.drain())
        self.network.advance()
        self.assertNoResult(drained)
        self.assertEqual(self.successResultOf(self.watch(collect())), [b"1", b"2"])
        self.successResultOf(drained)
        self.failureResultOf(sub.next(), SubscriptionClosedError)

    def test_waiting_taker(self) -> None:
        """Who waits for a message hears of the end."""
        sub = self.subscribed()
        taker = self.watch(sub.next())
        self.watch(sub.drain())
        self.network.advance()
        self.failureResultOf(taker, SubscriptionClosedError)

    def test_handlers_that_run(self) -> None:
        """Handlers that are running are waited for, all of them."""
        slow = Slow()
        sub = self.subscribed(slow, concurrency=3)
        self.peer.publish("a", b"1", b"2", b"3", b"4")
        drained = [self.watch(sub.drain()) for _ in range(2)]
        self.network.advance()
        for data in (b"3", b"1", b"4"):
            slow.finish(data)
            for each in drained:
                self.assertNoResult(each)
        slow.finish(b"2")
        for each in drained:
            self.successResultOf(each)

    def test_timeout(self) -> None:
        """When it takes too long it is an error that says how much waited; that is dropped, and the subscription closed."""
        slow = Slow()
        sub = self.subscribed(slow)
        self.peer.publish("a", b"1", b"2", b"3")
        drained = self.watch(sub.drain(timeout=2.0))
        self.network.advance(2)
        error = self.failureResultOf(drained, DrainTimeoutError).value
        self.assertIn("2 messages", str(error))
        self.assertEqual((sub.closed, sub.pending_msgs), (True, 0))
        slow.finish_all()
        self.assertEqual(slow.begun, [b"1"])

    def test_lost(self) -> None:
        """A connection that is lost before the answer is an error; what had come is handled, and the server is not asked again."""
        slow = Slow()
        self.server.answer_pings = False
        sub = self.subscribed(slow)
        self.peer.publish("a", b"1", b"2")
        drained = self.watch(sub.drain())
        self.network.advance()
        self.server.answer_pings = True
        self.peer.cut()
        self.network.advance()
        slow.finish_all()
        self.failureResultOf(drained, DisconnectedError)
        self.assertEqual((slow.begun, sub.closed), ([b"1", b"2"], True))
        self.assertEqual(self.server.peer.subscribed(), [])

    def test_lost_behind_the_answer(self) -> None:
        """A connection that is lost when everything has come changes nothing."""
        slow = Slow()
        sub = self.subscribed(slow)
        self.peer.publish("a", b"1")
        drained = self.watch(sub.drain())
        self.network.advance()
        self.peer.cut()
        self.network.advance()
        slow.finish_all()
        self.successResultOf(drained)
        self.assertEqual(self.server.peer.subscribed(), [])

    def test_disconnected(self) -> None:
        """Without a connection there is nothing under way."""
        sub = self.subscribed()
        self.peer.publish("a", b"1")
        self.network.refuse("one:4222")
        self.peer.cut()
        drained = self.watch(sub.drain())
        self.assertEqual(self.successResultOf(sub.next()).data, b"1")
        self.successResultOf(drained)

    def test_unsubscribed_meanwhile(self) -> None:
        """Unsubscribing cuts it short."""
        slow = Slow()
        sub = self.subscribed(slow)
        self.peer.publish("a", b"1", b"2")
        drained = self.watch(sub.drain())
        sub.unsubscribe()
        self.network.advance()
        slow.finish_all()
        self.successResultOf(drained)
        self.assertEqual(slow.begun, [b"1"])

    def test_closed_meanwhile(self) -> None:
        """Closing the client makes it fail, at once, whatever waits."""
        slow = Slow()
        handled, taken = self.subscribed(slow), self.subscribed(subject="b")
        self.peer.publish("a", b"1", b"2")
        self.peer.publish("b", b"1")
        drained = [self.watch(sub.drain()) for sub in (handled, taken)]
        self.network.advance()
        closed = self.client.close()
        self.network.advance()
        self.successResultOf(closed)
        for each in drained:
            self.failureResultOf(each, ConnectionClosedError)
        self.assertEqual(self.network.getDelayedCalls(), [])
        slow.finish_all()
        self.assertEqual(slow.begun, [b"1"])


class DrainTests(DrainTestCase):
    def test_all(self) -> None:
        """Subscriptions end, handlers run to their end and may reply, and what they sent reaches the server before the end."""
        slow = Slow()

        async def handler(msg: Any) -> None:
            await slow(msg)
            await msg.respond(b"re: " + msg.data)

        self.subscribed(handler)
        self.subscribed(print, "b")
        self.peer.publish("a", b"1", b"2", reply="inbox")
        drained = self.watch(self.client.drain())
        self.assertIs(self.client.status, ClientStatus.DRAINING)
        self.assertRaises(ConnectionDrainingError, self.client.subscribe, "c")
        self.client.publish("out", b"still allowed")
        self.network.advance()
        self.assertNoResult(drained)
        slow.finish_all()
        self.network.advance()
        self.successResultOf(drained)
        kinds = [UnsubscribeFrame, PingFrame] * 2 + [PublishFrame] * 3 + [PingFrame]
        self.assertEqual(self.peer.kinds(), kinds)
        self.assertEqual(self.peer.written(), [b"still allowed", b"re: 1", b"re: 2"])
        self.assertIs(self.client.status, ClientStatus.CLOSED)
        self.assertEqual(self.told(Closed), [Closed(None, 0)])

    def test_requests(self) -> None:
        """Requests in flight get their replies, and what is published in answer to those is sent."""

        async def ask() -> None:
            reply = await self.client.request("svc")
            await self.client.publish("out", reply.data)

        done = self.watch(ask())
        self.network.advance()
        (asked,) = self.peer.take(PublishFrame)
        drained = self.watch(self.client.drain())
        self.network.advance()
        self.assertNoResult(drained)
        self.peer.answer(asked, b"answer")
        self.network.advance()
        self.successResultOf(done)
        self.successResultOf(drained)
        self.assertEqual(self.peer.written(), [b"answer"])

    def test_many_replies(self) -> None:
        """A request for many replies is waited for until it has ended."""
        many = self.client.request_many("svc", max_msgs=2)
        self.network.advance()
        (asked,) = self.peer.take(PublishFrame)
        drained = self.watch(self.client.drain())
        self.peer.answer(asked, b"1")
        self.network.advance()
        self.assertNoResult(drained)
        self.peer.answer(asked, b"2")
        self.network.advance()
        self.successResultOf(drained)
        self.assertEqual([msg.data for msg in self.successResultOf(many.collect())], [b"1", b"2"])

    def test_request_that_times_out(self) -> None:
        """A request that nobody answers holds it up until its own time is over."""
        waiting = self.watch(self.client.request("svc", timeout=3.0))
        drained = self.watch(self.client.drain())
        self.network.advance(2.9)
        self.assertNoResult(drained)
        self.network.advance(0.1)
        self.failureResultOf(waiting, RequestTimeoutError)
        self.successResultOf(drained)

    def test_no_publishes_in_the_end(self) -> None:
        """When all is handled, and only the last flush is waited for, publishing is refused."""
        self.server.answer_pings = False
        drained = self.watch(self.client.drain())
        self.assertRaises(ConnectionDrainingError, self.client.publish, "a")
        self.network.advance()
        self.peer.send(b"PONG\r\n")
        self.network.advance()
        self.successResultOf(drained)
        self.assertRaises(ConnectionClosedError, self.client.publish, "a")

    def test_timeout(self) -> None:
        """A handler that never ends does not hold it up for ever: it fails, and the client is closed all the same."""
        self.subscribed(lambda msg: Deferred())
        self.peer.publish("a", b"1", b"2")
        waiting = self.watch(self.client.request("svc", timeout=60))
        drained = self.watch(self.client.drain(timeout=5.0))
        self.network.advance(5)
        self.failureResultOf(drained, DrainTimeoutError)
        self.failureResultOf(waiting, ConnectionClosedError)
        self.assertIs(self.client.status, ClientStatus.CLOSED)

    def test_request_timeout(self) -> None:
        """The same for a request that waits longer than the drain may."""
        waiting = self.watch(self.client.request("svc", timeout=60))
        drained = self.watch(self.client.drain(timeout=5.0))
        self.network.advance(5)
        self.assertIn("requests", str(self.failureResultOf(drained, DrainTimeoutError).value))
        self.failureResultOf(waiting, ConnectionClosedError)

    def test_server_that_does_not_answer(self) -> None:
        """A server that confirms nothing is waited for five seconds more, and left."""
        self.server.answer_pings = False
        drained = self.watch(self.client.drain())
        self.network.advance(4.9)
        self.assertNoResult(drained)
        self.network.advance(0.1)
        self.failureResultOf(drained, DrainTimeoutError)

    def test_disconnected(self) -> None:
        """Without a connection it closes the client, and says that it was not drained."""
        self.network.refuse("one:4222")
        self.peer.cut()
        self.client.publish("a")
        drained = self.watch(self.client.drain())
        self.network.advance()
        self.failureResultOf(drained, DisconnectedError)
        self.assertEqual(self.told(Closed), [Closed(None, 1)])

    def test_lost(self) -> None:
        """A connection that is lost meanwhile ends it, with the reason, and there is no reconnecting."""
        slow = Slow()
        self.subscribed(slow)
        self.subscribed(subject="b")
        self.peer.publish("a", b"1", b"2")
        drained = self.watch(self.client.drain())
        self.network.advance()
        self.peer.cut()
        self.network.advance(10)
        error = self.failureResultOf(drained, DisconnectedError).value
        self.assertIn("while draining", str(error))
        self.assertEqual(len(self.network.dials), 1)
        self.assertIs(self.client.status, ClientStatus.CLOSED)
        self.assertRaises(ConnectionClosedError, self.client.publish, "a")
        slow.finish_all()

    def test_lost_in_the_last_flush(self) -> None:
        """The same when everything but the last answer has come."""
        self.server.answer_pings = False
        drained = self.watch(self.client.drain())
        self.network.advance()
        self.peer.cut()
        self.network.advance()
        self.failureResultOf(drained, DisconnectedError)

    def test_lost_before_the_subscriptions_answered(self) -> None:
        """The same when the server had not answered any of the UNSUBs: one error, and none that nobody sees."""
        self.subscribed(print)
        self.subscribed(print, "b")
        self.server.answer_pings = False
        drained = self.watch(self.client.drain())
        self.network.advance()
        self.peer.cut()
        self.network.advance()
        self.failureResultOf(drained, DisconnectedError)

    def test_twice(self) -> None:
        """Draining again waits for the same end; draining a closed client is over at once."""
        drained = [self.watch(self.client.drain()) for _ in range(3)]
        drained[1].cancel()
        drained[1].addErrback(lambda failure: None)
        self.network.advance()
        for each in (drained[0], drained[2], self.client.drain()):
            self.successResultOf(each)

    def test_closed_meanwhile(self) -> None:
        """``close()`` cuts it short."""
        slow = Slow()
        self.subscribed(slow)
        self.peer.publish("a", b"1")
        drained = self.watch(self.client.drain())
        self.network.advance()
        closed = self.client.close()
        self.network.advance()
        self.successResultOf(closed)
        self.failureResultOf(drained, ConnectionClosedError)
        slow.finish_all()

    def test_in_a_handler(self) -> None:
        """A handler may begin it, as long as it does not wait for it."""
        drained: list[Any] = []
        self.subscribed(lambda msg: drained.append(self.watch(self.client.drain())))
        self.peer.publish("a", b"1")
        self.network.advance()
        self.successResultOf(drained[0])

    def test_limit_that_was_reached(self) -> None:
        """What waits behind a limit that was reached before is handled too."""
        slow = Slow()
        self.subscribed(slow, max_msgs=2)
        self.peer.publish("a", b"1", b"2")
        drained = self.watch(self.client.drain())
        self.network.advance()
        self.assertNoResult(drained)
        slow.finish_all()
        self.network.advance()
        self.successResultOf(drained)
        self.assertEqual(slow.begun, [b"1", b"2"])

    def test_force_reconnect(self) -> None:
        """A client that drains does not go elsewhere."""
        self.subscribed(lambda msg: Deferred())
        self.peer.publish("a", b"1")
        drained = self.watch(self.client.drain(timeout=1.0))
        self.assertRaises(ConnectionDrainingError, self.client.force_reconnect)
        self.network.advance(1)
        self.failureResultOf(drained, DrainTimeoutError)

    def test_context_manager(self) -> None:
        """``async with`` drains at its end, and closes at an error."""

        async def use(error: Exception | None) -> None:
            async with self.client:
                self.client.publish("a", b"x")
                if error is not None:
                    raise error

        done = self.watch(use(None))
        self.network.advance()
        self.successResultOf(done)
        self.assertEqual(self.peer.written(), [b"x"])
        self.client, _ = self.connected()
        failed = self.watch(use(RuntimeError("in the block")))
        self.network.advance()
        self.failureResultOf(failed, RuntimeError)
        self.assertIs(self.client.status, ClientStatus.CLOSED)

    def test_bad_timeout(self) -> None:
        """A time limit that is none is refused, and nothing is drained."""
        self.assertRaises(ConfigurationError, self.client.drain, timeout=-1)
        self.assertIs(self.client.status, ClientStatus.CONNECTED)
