"""Handlers: plain functions, Deferreds and coroutines, one at a time, several at once, and in order by key."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed

from pynats_twisted.client.status import HandlerError
from pynats_twisted.errors import ConfigurationError, ConnectionClosedError, DisconnectedError, MessageNotRepliableError
from pynats_twisted.protocol.message import Msg
from pynats_twisted.testing.server_frames import PongFrame, PublishFrame, UnsubscribeFrame

from .support import ClientTestCase, Slow


class HandlerTestCase(ClientTestCase):
    def subscribed(self, handler: Any, subject: str = "a", **options: Any) -> tuple[Any, Any]:
        """A subscription that the server has, and the server's end."""
        if not self.clients:
            self.connected()
        sub = self.clients[0].subscribe(subject, handler, **options)
        self.network.advance()
        return sub, self.server.peer


class KindTests(HandlerTestCase):
    def test_plain_function(self) -> None:
        """A plain function gets the messages in order, while they are read."""
        got: list[bytes] = []
        sub, peer = self.subscribed(lambda msg: got.append(msg.data))
        peer.publish("a", b"1", b"2", b"3")
        self.assertEqual(got, [b"1", b"2", b"3"])
        self.assertEqual((sub.pending_msgs, sub.pending_bytes, sub.delivered, sub.active_handlers), (0, 0, 3, 0))

    def test_deferred(self) -> None:
        """A handler that returns a Deferred gets the next message when that has fired."""
        slow = Slow()
        sub, peer = self.subscribed(slow)
        peer.publish("a", b"1", b"2", b"3")
        self.assertEqual((slow.begun, sub.active_handlers, sub.pending_msgs), ([b"1"], 1, 2))
        slow.finish(b"1")
        self.assertEqual(slow.begun, [b"1", b"2"])
        slow.finish_all()
        self.assertEqual((slow.begun, sub.active_handlers, sub.pending_msgs, sub.pending_bytes), ([b"1", b"2", b"3"], 0, 0, 0))

    def test_coroutine(self) -> None:
        """A coroutine function is run to its end before the next message."""
        slow = Slow()
        ended: list[bytes] = []

        async def handler(msg: Any) -> None:
            await slow(msg)
            ended.append(msg.data)

        _, peer = self.subscribed(handler)
        peer.publish("a", b"1", b"2")
        self.assertEqual((slow.begun, ended), ([b"1"], []))
        slow.finish_all()
        self.assertEqual((slow.begun, ended), ([b"1", b"2"], [b"1", b"2"]))

    def test_inline_callbacks(self) -> None:
        """As is a generator under ``inlineCallbacks``."""
        slow = Slow()

        @inlineCallbacks
        def handler(msg: Any) -> Any:
            yield slow(msg)

        _, peer = self.subscribed(handler)
        peer.publish("a", b"1", b"2")
        self.assertEqual(slow.begun, [b"1"])
        slow.finish_all()
        self.assertEqual(slow.begun, [b"1", b"2"])

    def test_coroutine_of_another_make(self) -> None:
        """A coroutine that is none of Python's own, as compiled code has them, is run as well."""

        class Compiled(Coroutine[Any, Any, None]):
            def __init__(self, made: Any) -> None:
                self.made = made

            def send(self, value: Any) -> Any:
                return self.made.send(value)

            def throw(self, *error: Any) -> Any:
                return self.made.throw(*error)

            def __await__(self) -> Any:
                return self.made.__await__()

        slow = Slow()

        async def handler(msg: Any) -> None:
            await slow(msg)

        sub, peer = self.subscribed(lambda msg: Compiled(handler(msg)))
        peer.publish("a", b"1", b"2")
        self.assertEqual((slow.begun, sub.active_handlers), ([b"1"], 1))
        slow.finish_all()
        self.assertEqual((slow.begun, sub.active_handlers), ([b"1", b"2"], 0))

    def test_context(self) -> None:
        """Each coroutine has a context of its own: what one sets no other sees, and nobody else."""
        variable: ContextVar[bytes] = ContextVar("variable", default=b"none")
        slow = Slow()
        seen: list[tuple[bytes, bytes]] = []

        async def handler(msg: Any) -> None:
            before = variable.get()
            token = variable.set(msg.data)
            if msg.data < b"3":
                await slow(msg)
            seen.append((before, variable.get()))
            variable.reset(token)
            variable.set(b"left behind")

        _, peer = self.subscribed(handler, concurrency=2)
        peer.publish("a", b"1", b"2", b"3", b"4")
        slow.finish(b"2")
        slow.finish(b"1")
        self.assertEqual(seen, [(b"none", b"2"), (b"none", b"3"), (b"none", b"4"), (b"none", b"1")])
        self.assertEqual(variable.get(), b"none")

    def test_method_of_a_container(self) -> None:
        """What a handler returns beside a Deferred or a coroutine is dropped."""
        got: set[bytes] = set()
        _, peer = self.subscribed(lambda msg: got.add(msg.data) or len(got))
        peer.publish("a", b"1", b"2")
        self.assertEqual(got, {b"1", b"2"})

    def test_many_that_are_done_at_once(self) -> None:
        """A long queue of messages whose handling is over at once is no deep recursion."""
        first: Deferred[None] = Deferred()
        results = iter([first])
        got: list[bytes] = []

        async def handler(msg: Any) -> None:
            got.append(msg.data)
            await next(results, succeed(None))

        _, peer = self.subscribed(handler)
        peer.publish("a", *[b"x"] * 5000)
        self.assertEqual(len(got), 1)
        first.callback(None)
        self.assertEqual(len(got), 5000)

    def test_slow_handlers_hold_up_nobody(self) -> None:
        """A busy subscription delays neither another one nor a PONG."""
        got: list[bytes] = []
        slow = Slow()
        self.subscribed(slow)
        _, peer = self.subscribed(lambda msg: got.append(msg.data), "b")
        peer.send(peer.frame("a", b"1") + peer.frame("a", b"2") + b"PING\r\n" + peer.frame("b", b"3"))
        self.assertEqual(got, [b"3"])
        self.network.advance()
        self.assertEqual(type(peer.take()[-1]), PongFrame)
        slow.finish_all()

    def test_respond(self) -> None:
        """A reply goes to the reply subject; where there is none that is an error of the handler."""
        _, peer = self.subscribed(lambda msg: msg.respond(b"re: " + msg.data, headers={"H": "x"}))
        peer.publish("a", b"1", reply="inbox.7")
        (reply,) = self.network.advance() or peer.take(PublishFrame)
        self.assertEqual((reply.subject, reply.payload, reply.header_block), ("inbox.7", b"re: 1", b"NATS/1.0\r\nH: x\r\n\r\n"))
        peer.publish("a", b"2")
        self.assertEqual(len(self.flushLoggedErrors(MessageNotRepliableError)), 1)


class FailureTests(HandlerTestCase):
    def test_each_kind(self) -> None:
        """What a handler raises is logged, counted and told; the next messages come, in order."""
        got: list[bytes] = []

        def plain(msg: Any) -> None:
            got.append(msg.data)
            raise RuntimeError(f"plain {msg.data!r}")

        def deferred(msg: Any) -> Any:
            got.append(msg.data)
            result: Deferred[None] = Deferred()
            self.network.callLater(1, result.errback, RuntimeError("deferred"))
            return result

        async def coroutine(msg: Any) -> None:
            got.append(msg.data)
            raise RuntimeError("coroutine")

        for number, handler in enumerate((plain, deferred, coroutine)):
            got.clear()
            sub, peer = self.subscribed(handler, f"s{number}")
            peer.publish(f"s{number}", b"1", b"2")
            self.network.advance(2)
            self.assertEqual(got, [b"1", b"2"])
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
            events = self.told(HandlerError)[-2:]
            self.assertEqual([(event.subscription, event.message.data) for event in events], [(sub, b"1"), (sub, b"2")])
            self.assertIsInstance(events[0].error, RuntimeError)
            self.assertEqual(self.clients[0].stats.handler_errors, 2 * (number + 1))
            self.assertFalse(sub.closed)

    def test_after_a_wait(self) -> None:
        """What a coroutine raises after it waited, or what it awaits fails with, is logged once, with its traceback."""
        slow = Slow()

        async def handler(msg: Any) -> None:
            await slow(msg)
            if msg.data == b"1":
                raise RuntimeError("after the wait")

        sub, peer = self.subscribed(handler, concurrency=2)
        peer.publish("a", b"1", b"2", b"3")
        slow.finish(b"1")
        slow.running.pop(b"2").errback(ZeroDivisionError("awaited"))
        slow.finish(b"3")
        first, second = self.flushLoggedErrors()
        self.assertEqual((first.type, second.type), (RuntimeError, ZeroDivisionError))
        self.assertIn("in handler", first.getTraceback())
        self.assertEqual((slow.begun, sub.active_handlers, self.clients[0].stats.handler_errors), ([b"1", b"2", b"3"], 0, 2))

    def test_failed_at_once(self) -> None:
        """So is a Deferred that has failed when the handler returns it."""
        sub, peer = self.subscribed(lambda msg: fail(RuntimeError(msg.data)))
        peer.publish("a", b"1", b"2")
        self.assertEqual([str(failure.value) for failure in self.flushLoggedErrors(RuntimeError)], ["b'1'", "b'2'"])
        self.assertEqual((sub.active_handlers, sub.pending_msgs, self.clients[0].stats.handler_errors), (0, 0, 2))

    def test_exits(self) -> None:
        """An exit, an interrupt or a cancellation in a handler costs neither the connection nor the subscription."""
        errors = iter((SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()) * 2)
        got: list[bytes] = []

        def plain(msg: Any) -> None:
            got.append(msg.data)
            raise next(errors)

        async def coroutine(msg: Any) -> None:
            plain(msg)

        for subject, handler in (("p", plain), ("c", coroutine)):
            sub, peer = self.subscribed(handler, subject)
            peer.publish(subject, b"1", b"2", b"3")
            self.assertEqual((sub.active_handlers, sub.pending_msgs), (0, 0))
        self.assertEqual(got, [b"1", b"2", b"3"] * 2)
        self.assertEqual(len(self.flushLoggedErrors(SystemExit, KeyboardInterrupt, asyncio.CancelledError)), 6)
        self.assertTrue(self.clients[0].is_connected)

    def test_named_in_the_log(self) -> None:
        """The log names the subject."""
        _, peer = self.subscribed(lambda msg: 1 / 0, "orders.*")
        peer.publish("orders.new", b"1")
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertTrue([text for text in self.logged() if "orders.*" in text])


class ConcurrencyTests(HandlerTestCase):
    def test_bounded(self) -> None:
        """At most ``concurrency`` handlers run at once; the others wait, and are begun in order."""
        slow = Slow()
        sub, peer = self.subscribed(slow, concurrency=3)
        payloads = [b"%d" % number for number in range(10)]
        peer.publish("a", *payloads)
        self.assertEqual((slow.begun, sub.active_handlers, sub.pending_msgs), (payloads[:3], 3, 7))
        slow.finish(b"1")
        self.assertEqual(slow.begun, payloads[:4])
        slow.finish_all()
        self.assertEqual((slow.begun, slow.most, sub.active_handlers, sub.pending_msgs), (payloads, 3, 0, 0))

    def test_room_is_used_at_once(self) -> None:
        """A message that comes while there is room is handled at once, although others are running."""
        slow = Slow()
        _, peer = self.subscribed(slow, concurrency=2)
        peer.publish("a", b"1")
        peer.publish("a", b"2")
        self.assertEqual(slow.begun, [b"1", b"2"])
        slow.finish_all()

    def test_by_key(self) -> None:
        """Messages of one key are handled in order and one at a time; other keys do not wait for it."""
        slow = Slow()
        sub, peer = self.subscribed(slow, concurrency=2, ordered_by=lambda msg: msg.data[:1])
        peer.publish("a", b"a1", b"a2", b"a3", b"b1", b"b2", b"c1")
        self.assertEqual((slow.begun, sub.pending_msgs), ([b"a1", b"b1"], 4))
        slow.finish(b"b1")
        self.assertEqual(slow.begun, [b"a1", b"b1", b"b2"])
        slow.finish(b"b2")
        self.assertEqual(slow.begun, [b"a1", b"b1", b"b2", b"c1"])
        slow.finish(b"a1")
        slow.finish_all()
        self.assertEqual(slow.begun[4:], [b"a2", b"a3"])
        self.assertEqual((slow.most, sub.pending_msgs, sub.pending_bytes, sub.active_handlers), (2, 0, 0, 0))

    def test_by_key_with_plain_handlers(self) -> None:
        """A key that is never busy leaves nothing behind."""
        got: list[bytes] = []
        sub, peer = self.subscribed(lambda msg: got.append(msg.data), concurrency=4, ordered_by=lambda msg: msg.data)
        for number in range(100):
            peer.publish("a", b"%d" % number)
        self.assertEqual(len(got), 100)
        self.assertEqual((sub.pending_msgs, sub._keys), (0, {}))

    def test_by_key_failures(self) -> None:
        """A key that cannot be had, or cannot be one, is logged as a failure of the handler; a failing handler frees its key."""
        slow = Slow()

        def handler(msg: Any) -> Any:
            if msg.data == b"bad":
                raise RuntimeError("handler")
            return slow(msg)

        keys = {b"raises": lambda: 1 / 0, b"list": list, b"bad": lambda: "k", b"good": lambda: "k"}
        sub, peer = self.subscribed(handler, concurrency=2, ordered_by=lambda msg: keys[msg.data]())
        peer.publish("a", b"raises", b"list", b"bad", b"good")
        self.assertEqual(slow.begun, [b"good"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError, TypeError, RuntimeError)), 3)
        slow.finish_all()
        self.assertEqual((sub.pending_msgs, sub._keys), (0, {}))

    def test_options(self) -> None:
        """Options that make no sense are refused by name, and nothing is sent."""
        client, peer = self.connected()
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"handler": "text"}, "handler"),
            ({"handler": print, "concurrency": 0}, "concurrency"),
            ({"handler": print, "concurrency": 1.5}, "concurrency"),
            ({"handler": print, "ordered_by": "key"}, "ordered_by"),
            ({"concurrency": 2}, "concurrency"),
            ({"ordered_by": len}, "ordered_by"),
            ({"pending_msgs": -1}, "pending_msgs"),
            ({"pending_bytes": "1"}, "pending_bytes"),
            ({"overflow": "drop"}, "overflow"),
        ]
        for options, name in wrong:
            error = self.assertRaises(ConfigurationError, client.subscribe, "a", **options)
            self.assertIn(name, str(error))
        self.network.advance()
        self.assertEqual((peer.frames, client.subscriptions), ([], ()))


class NestedTests(HandlerTestCase):
    """Messages that come while a handler is being called: a transport may read when it is resumed, or the reactor be run in there."""

    def nested(self, concurrency: int = 1, **options: Any) -> tuple[list[str], Any]:
        """Let a handler's first two messages bring two more each. Returns what was begun and ended, in order."""
        order: list[str] = []
        bring = {b"1": (b"3", b"4"), b"2": (b"5", b"6")}

        def handler(msg: Any) -> None:
            order.append(f"+{int(msg.data)}")
            if msg.data in bring:
                peer.publish("a", *bring[msg.data])
            order.append(f"-{int(msg.data)}")

        sub, peer = self.subscribed(handler, concurrency=concurrency, **options)
        peer.publish("a", b"1", b"2")
        self.assertEqual((sub.active_handlers, sub.pending_msgs, sub.pending_bytes), (0, 0, 0))
        return order, sub

    def test_one_at_a_time(self) -> None:
        """They wait until it has returned, and are handled then, in order."""
        order, _ = self.nested()
        self.assertEqual(order, [f"{sign}{number}" for number in (1, 3, 4, 2, 5, 6) for sign in "+-"])

    def test_several_at_once(self) -> None:
        """Where more may run at once they do not wait."""
        order, _ = self.nested(2)
        self.assertEqual(order, ["+1", "+3", "-3", "+4", "-4", "-1", "+2", "+5", "-5", "+6", "-6", "-2"])

    def test_by_key(self) -> None:
        """With keys each waits for those of its key."""
        order, sub = self.nested(4, ordered_by=lambda msg: int(msg.data) % 2)
        self.assertEqual(sorted(order), sorted(f"{sign}{number}" for number in range(1, 7) for sign in "+-"))
        for parity in (0, 1):
            own = [step for step in order if int(step) % 2 == parity]
            self.assertEqual(own, [f"{sign}{number}" for number in (1, 3, 4, 2, 5, 6) if number % 2 == parity for sign in "+-"])
        self.assertEqual(sub._keys, {})

    def test_fired_by_another(self) -> None:
        """A handler that ends another one's wait is not interrupted by the message that gets the room, however long the row is."""
        waits: list[Deferred[None]] = []
        depth = most = 0
        got: list[bytes] = []

        def handler(msg: Any) -> Any:
            nonlocal depth, most
            depth += 1
            most = max(most, depth)
            got.append(msg.data)
            if waits and sub.pending_msgs:
                waits.pop().callback(None)
            waits.append(Deferred())
            depth -= 1
            return waits[-1]

        sub, peer = self.subscribed(handler, concurrency=2)
        peer.publish("a", *[b"%d" % number for number in range(2000)])
        while waits:
            waits.pop().callback(None)
        self.assertEqual((got, most), ([b"%d" % number for number in range(2000)], 1))
        self.assertEqual((sub.active_handlers, sub.pending_msgs), (0, 0))


class ReentrancyTests(HandlerTestCase):
    def test_unsubscribe_in_a_handler(self) -> None:
        """After ``unsubscribe()`` in its own handler it gets nothing more, not even of the same read."""
        got: list[bytes] = []

        def handler(msg: Any) -> None:
            got.append(msg.data)
            sub.unsubscribe()

        sub, peer = self.subscribed(handler)
        closed = self.watch(sub.when_closed())
        peer.publish("a", b"1", b"2", b"3")
        self.assertEqual(got, [b"1"])
        self.successResultOf(closed)
        self.network.advance()
        self.assertEqual([frame.sid for frame in peer.take(UnsubscribeFrame)], ["1"])

    def test_unsubscribe_in_a_slow_handler(self) -> None:
        """The same with messages that wait; the handler that is running goes on to its end, and then it is closed."""
        slow = Slow()

        async def handler(msg: Any) -> None:
            sub.unsubscribe()
            await slow(msg)

        sub, peer = self.subscribed(handler)
        closed = self.watch(sub.when_closed())
        peer.publish("a", b"1", b"2", b"3")
        self.assertNoResult(closed)
        slow.finish_all()
        self.successResultOf(closed)
        self.assertEqual((slow.begun, sub.pending_msgs), ([b"1"], 0))

    def test_ends_while_suspended(self) -> None:
        """A coroutine that waits when its subscription ends goes on to its end; then it is closed, and no message is handled."""
        for end in ("unsubscribe", "abandon"):
            slow, ended = Slow(), list[bytes]()

            async def handler(msg: Any, slow: Slow = slow, ended: list[bytes] = ended) -> None:
                await slow(msg)
                ended.append(msg.data)

            sub, peer = self.subscribed(handler, end, concurrency=2)
            peer.publish(end, b"1", b"2", b"3")
            if end == "unsubscribe":
                sub.unsubscribe()
            else:
                self.clients[0].close()
            self.network.advance()
            self.assertEqual((sub.closed, sub.active_handlers), (end == "abandon", 2))
            slow.finish_all()
            self.assertEqual((slow.begun, ended, sub.closed, sub.active_handlers), ([b"1", b"2"], [b"1", b"2"], True, 0))

    def test_ends_in_a_run(self) -> None:
        """One that ends in the middle of messages that are handed over together gets no more of them."""
        got: list[bytes] = []

        def handler(msg: Any) -> None:
            got.append(msg.data)
            if len(got) == 2:
                sub.unsubscribe()

        sub, _ = self.subscribed(handler)
        sub._deliver_run([Msg("a", sub.sid, "", b"%d" % number) for number in range(5)])
        self.assertEqual((got, sub.closed), ([b"0", b"1"], True))

    def test_run_of_messages(self) -> None:
        """Messages that are handed over together are handled as if they came one by one, whatever the handler is."""
        slow = Slow()
        got: list[bytes] = []

        def handler(msg: Any) -> Any:
            got.append(msg.data)
            if msg.data == b"1":
                raise RuntimeError("x")
            return slow(msg) if msg.data in (b"2", b"4") else None

        sub, _ = self.subscribed(handler)
        sub._deliver_run([Msg("a", sub.sid, "", b"%d" % number) for number in range(6)])
        self.assertEqual((got, sub.pending_msgs), ([b"0", b"1", b"2"], 3))
        slow.finish(b"2")
        self.assertEqual((got, sub.pending_msgs), ([b"0", b"1", b"2", b"3", b"4"], 1))
        slow.finish(b"4")
        self.assertEqual((got[5:], sub.pending_msgs, sub.pending_bytes, sub.active_handlers), ([b"5"], 0, 0, 0))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_unsubscribe_another(self) -> None:
        """A handler may end another subscription, with messages for that in the same read."""
        got: list[bytes] = []
        other, _ = self.subscribed(lambda msg: got.append(msg.data), "b")
        _, peer = self.subscribed(lambda msg: other.unsubscribe())
        peer.send(peer.frame("b", b"1") + peer.frame("a") + peer.frame("b", b"2"))
        self.assertEqual(got, [b"1"])

    def test_limit_in_a_handler(self) -> None:
        """A handler may set a limit that it has reached itself."""
        got: list[bytes] = []

        def handler(msg: Any) -> None:
            got.append(msg.data)
            if len(got) == 2:
                sub.unsubscribe(2)

        sub, peer = self.subscribed(handler)
        peer.publish("a", b"1")
        peer.publish("a", b"2")
        peer.publish("a", b"3")
        self.assertEqual(got, [b"1", b"2"])
        self.assertTrue(sub.closed)

    def test_subscribe_in_a_handler(self) -> None:
        """A handler may subscribe; the server hears of it with the end of the read."""
        got: list[Any] = []
        _, peer = self.subscribed(lambda msg: self.clients[0].subscribe("b", got.append))
        peer.publish("a", b"1")
        self.network.advance()
        peer.publish("b", b"2")
        self.assertEqual(len(got), 1)

    def test_request_in_a_handler(self) -> None:
        """A handler may wait for a reply, and for a flush."""
        answers: list[bytes] = []

        async def handler(msg: Any) -> None:
            reply = await self.clients[0].request("svc", msg.data)
            await self.clients[0].flush()
            answers.append(reply.data)

        _, peer = self.subscribed(handler)
        self.server.respond("svc", lambda frame: b"re: " + frame.payload)
        peer.publish("a", b"1", b"2")
        self.network.advance()
        self.assertEqual(answers, [b"re: 1", b"re: 2"])

    def test_close_in_a_handler(self) -> None:
        """After ``close()`` in a handler no handler is called, not even for messages of the same read."""
        got: list[bytes] = []

        def handler(msg: Any) -> None:
            got.append(msg.data)
            self.clients[0].close()

        self.subscribed(handler)
        _, peer = self.subscribed(lambda msg: got.append(msg.data), "b")
        peer.send(peer.frame("a", b"1") + peer.frame("b", b"2") + peer.frame("a", b"3"))
        self.network.advance()
        self.assertEqual(got, [b"1"])
        self.assertRaises(ConnectionClosedError, self.clients[0].publish, "a")

    def test_close_with_waiting_messages(self) -> None:
        """Messages that wait for a busy handler when the client is closed are not handled any more."""
        slow = Slow()
        sub, peer = self.subscribed(slow, max_msgs=3)
        peer.publish("a", b"1", b"2", b"3")
        self.clients[0].close()
        self.network.advance()
        slow.finish_all()
        self.assertEqual((slow.begun, sub.pending_msgs), ([b"1"], 0))
        self.assertTrue(sub.closed)

    def test_lost_in_a_handler(self) -> None:
        """A connection that dies while its last messages are handled delivers those."""
        got: list[bytes] = []

        def handler(msg: Any) -> None:
            got.append(msg.data)
            if msg.data == b"1":
                self.clients[0]._protocol.fail(RuntimeError("in between"))
                peer.cut()

        _, peer = self.subscribed(handler)
        self.server.answer_pings = False
        flushed = self.watch(self.clients[0].flush())
        self.network.advance()
        self.server.answer_pings = True
        peer.send(peer.frame("a", b"1") + b"PONG\r\n" + peer.frame("a", b"2"))
        self.assertEqual(got, [b"1", b"2"])
        self.failureResultOf(flushed, DisconnectedError)
        self.network.advance()
        self.assertTrue(self.clients[0].is_connected)
