"""Handlers of a pull consumer, in virtual time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from pynats_twisted import errors
from pynats_twisted.jetstream.api import AckPolicy
from pynats_twisted.jetstream.consume import ConsumeContext
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.pull_session import ConsumeWarning
from tests.jetstream.pull_peer import GOOD_INFO, INFO, NEXT, PullTestCase

NOT_FOUND = b'{"error": {"code": 404, "err_code": 10014, "description": "consumer not found"}}'


class Slow:
    """A handler that is busy with each message until the test ends it."""

    def __init__(self) -> None:
        self.running: dict[bytes, tuple[JsMsg, Deferred[None]]] = {}
        self.begun: list[bytes] = []

    def __call__(self, msg: JsMsg) -> Deferred[None]:
        self.begun.append(msg.data)
        done: Deferred[None] = Deferred()
        self.running[msg.data] = (msg, done)
        return done

    def finish(self, data: bytes, *, ack: bool = True) -> None:
        msg, done = self.running.pop(data)
        if ack:
            msg.ack()
        done.callback(None)


class ConsumeTestCase(PullTestCase):
    """Contexts that the test began are stopped at its end."""

    def setUp(self) -> None:
        super().setUp()
        self.warnings: list[ConsumeWarning] = []
        self.got: list[bytes] = []

    def take(self, msg: JsMsg) -> None:
        self.got.append(msg.data)
        msg.ack()

    def consume(self, handler: Any = None, **options: Any) -> ConsumeContext:
        context = self.consumer.consume(handler or self.take, listener=self.warnings.append, **options)
        self.network.advance()
        return context

    def kinds(self) -> list[str]:
        return [warning.kind for warning in self.warnings]


class PullingTests(ConsumeTestCase):
    """What is asked of the server."""

    def test_first_pull(self) -> None:
        """The defaults: 500 messages, 30 seconds, a heartbeat of half of that."""
        self.consume()
        self.assertEqual(self.pulls(), [{"batch": 500, "expires": 30 * 10**9, "idle_heartbeat": 15 * 10**9}])

    def test_refill(self) -> None:
        """When half has come, it asks for what is missing; each pull has a reply subject of its own, below one inbox."""
        self.consume(max_messages=10)
        self.assertEqual([pull["batch"] for pull in self.pulls()], [10])
        first = self.replies[-1]
        self.deliver(*[b"x"] * 4)
        self.assertEqual(self.pulls(), [])
        self.deliver(b"x")
        self.assertEqual([pull["batch"] for pull in self.pulls()], [5])
        self.assertNotEqual(self.replies[-1], first)
        self.assertEqual(self.inboxes(), [first.rpartition(".")[0] + ".*"])

    def test_pull_that_ends(self) -> None:
        """A pull that timed out is followed by the next, as large as what it did not deliver."""
        self.consume(max_messages=10)
        self.deliver(*[b"x"] * 3)
        self.status("408 Request Timeout", messages=7, size=0)
        self.assertEqual([pull["batch"] for pull in self.pulls()], [10])

    def test_priority_group(self) -> None:
        """What there is to say about a priority group is in every pull, and the level that it needs in a header."""
        self.server.info["api_lvl"] = 5
        self.cut()
        self.consume(group="jobs", priority=3, max_messages=10)
        (pull,) = self.pulls()
        self.assertEqual((pull["group"], pull["priority"]), ("jobs", 3))
        self.assertEqual(self.server.published(NEXT)[-1].headers["Nats-Required-Api-Level"], "2")

    def test_pin(self) -> None:
        """The pin that messages bring is sent with the pulls after, also of other calls, until the server says that it is void."""
        self.server.info["api_lvl"] = 5
        self.cut()
        self.consume(group="jobs", max_messages=2)
        self.assertNotIn("id", self.pulls()[0])
        self.deliver(b"x", headers="Nats-Pin-Id: abc\r\n")
        self.assertEqual(self.pulls()[0]["id"], "abc")
        self.consumer.fetch(1, group="jobs").addErrback(lambda failure: failure.trap(errors.ConnectionClosedError) and None)
        self.assertEqual(self.pulls()[0]["id"], "abc")
        self.consume(group="jobs", max_messages=1)
        self.status("423 Nats-Wrong-Pin-Id", messages=1, size=0)
        self.assertNotIn("id", self.pulls()[0])
        self.assertEqual(self.kinds(), ["wrong-pin"])

    def test_limits_of_the_consumer(self) -> None:
        """What the consumer would refuse is not asked for."""
        self.consumer = self.new_consumer(max_batch=7, max_expires=4.0, max_bytes=1000)
        self.consume(max_bytes=5000)
        expected = {"batch": 7, "max_bytes": 1000, "expires": 4 * 10**9, "idle_heartbeat": 2 * 10**9}
        self.assertEqual(self.pulls(), [expected])
        self.consume(max_bytes=5000, heartbeat=10.0)
        self.assertEqual(self.pulls(), [expected])

    def test_wrong_values(self) -> None:
        """Values that break a rule are named, and nothing is sent."""
        wrong: list[dict[str, Any]] = [
            {"max_messages": 0},
            {"max_bytes": -1},
            {"max_messages": True},
            {"expires": 0.5},
            {"expires": float("nan")},
            {"heartbeat": 20.0},
            {"heartbeat": 0},
            {"threshold_messages": 501},
            {"threshold_bytes": 1},
            {"stop_after": 0},
            {"concurrency": 0},
            {"priority": 10, "group": "a"},
            {"priority": 1},
            {"min_pending": 1},
            {"min_pending": -1, "group": "a"},
            {"group": "a b"},
            {"on_error": "ack"},
            {"nak_delay": -1},
            {"handler": "no"},
        ]
        for options in wrong:
            handler = options.pop("handler", self.take)
            error = self.assertRaises(errors.NatsError, self.consumer.consume, handler, **options)
            self.assertIsInstance(error, ValueError)
            self.assertIn(next(iter(options), "handler"), str(error))
        self.assertEqual((self.pulls(), self.inboxes()), ([], []))


class HandlerTests(ConsumeTestCase):
    """What handlers get, and what becomes of what they do."""

    def test_plain_function(self) -> None:
        """It gets each message in order, and acks."""
        self.consume()
        self.deliver(b"a", b"b", b"c")
        self.assertEqual(self.got, [b"a", b"b", b"c"])
        self.assertEqual(self.acks(), [(1, b"+ACK"), (2, b"+ACK"), (3, b"+ACK")])

    def test_concurrency(self) -> None:
        """As many handlers run at once as are allowed; the rest waits, in order, and is not asked for again."""
        slow = Slow()
        context = self.consume(slow, concurrency=2, max_messages=4)
        self.deliver(b"a", b"b", b"c", b"d")
        self.assertEqual((slow.begun, context.active_handlers, context.pending), ([b"a", b"b"], 2, 2))
        slow.finish(b"b")
        self.assertEqual(slow.begun, [b"a", b"b", b"c"])
        slow.finish(b"a")
        slow.finish(b"c")
        slow.finish(b"d")
        self.assertEqual((context.active_handlers, context.pending), (0, 0))

    def test_buffer_is_bounded(self) -> None:
        """With a handler that never ends, no more is asked for than ``max_messages``."""
        self.consume(Slow(), max_messages=10)
        asked = 0
        for _ in range(20):
            batch = sum(pull["batch"] for pull in self.pulls())
            asked += batch
            self.deliver(*[b"x"] * batch)
        # One of them is with the handler.
        self.assertEqual(asked, 10)

    def test_coroutine_function(self) -> None:
        """A coroutine is run to its end before the next begins."""
        gate: Deferred[None] = Deferred()

        async def handler(msg: JsMsg) -> None:
            self.got.append(msg.data)
            await gate
            await msg.ack()

        self.consume(handler)
        self.deliver(b"a", b"b")
        self.assertEqual((self.got, self.acks()), ([b"a"], []))
        gate.callback(None)
        self.assertEqual((self.got, self.acks()), ([b"a", b"b"], [(1, b"+ACK"), (2, b"+ACK")]))

    def test_handler_that_raises(self) -> None:
        """It is logged and counted; the message is left to ``ack_wait``, and the next one is handled."""

        def handler(msg: JsMsg) -> None:
            if msg.data == b"bad":
                raise ValueError("no")
            self.take(msg)

        context = self.consume(handler)
        self.deliver(b"bad", b"good")
        self.assertEqual((self.got, context.failed, self.acks()), ([b"good"], 1, [(2, b"+ACK")]))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_on_error(self) -> None:
        """It can be given back after a while, or given up, whatever kind of handler it was; an answer of the handler's own stays."""

        async def late(msg: JsMsg) -> None:
            raise ValueError("no")

        def deferred(msg: JsMsg) -> Deferred[None]:
            return Deferred.fromCoroutine(late(msg))

        def acked(msg: JsMsg) -> None:
            msg.ack()
            raise ValueError("no")

        expected: list[tuple[Any, dict[str, Any], bytes]] = [
            (late, {"on_error": "nak"}, b'-NAK {"delay":1000000000}'),
            (deferred, {"on_error": "nak", "nak_delay": 0}, b"-NAK"),
            (late, {"on_error": "term"}, b"+TERM the handler raised ValueError"),
            (acked, {"on_error": "nak"}, b"+ACK"),
        ]
        for handler, options, body in expected:
            context = self.consume(handler, **options)
            self.deliver(b"x")
            self.assertEqual(self.acks(), [(self.sequence, body)])
            context.stop()
            self.network.advance(0.1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 4)

    def test_auto_ack(self) -> None:
        """Messages whose handlers end well are acked, when the handler did not; those of a failed handler are not."""
        slow = Slow()

        def handler(msg: JsMsg) -> Any:
            if msg.data == b"nak":
                msg.nak()
            elif msg.data == b"bad":
                raise ValueError("no")
            elif msg.data == b"slow":
                return slow(msg)
            return None

        self.consume(handler, auto_ack=True, concurrency=2)
        self.deliver(b"x", b"nak", b"bad", b"slow", b"y")
        self.assertEqual(self.acks(), [(1, b"+ACK"), (2, b"-NAK"), (5, b"+ACK")])
        slow.finish(b"slow", ack=False)
        self.assertEqual(self.acks(), [(4, b"+ACK")])
        self.flushLoggedErrors(ValueError)

    def test_auto_in_progress(self) -> None:
        """The messages of running handlers are kept alive, all by one timer, until the handlers end."""
        slow = Slow()
        self.consume(slow, concurrency=2, auto_in_progress=True)
        self.deliver(b"a", b"b", b"c")
        self.network.advance(14.0)
        self.assertEqual(self.acks(), [])
        self.network.advance(2.0)
        self.assertEqual(sorted(self.acks()), [(1, b"+WPI"), (2, b"+WPI")])
        slow.finish(b"a")
        # It waited for more than a quarter of the time: the server is told as it begins.
        self.assertEqual(self.acks(), [(1, b"+ACK"), (3, b"+WPI")])
        self.network.advance(15.0)
        self.assertEqual(sorted(self.acks()), [(2, b"+WPI"), (3, b"+WPI")])
        slow.finish(b"b")
        slow.finish(b"c", ack=False)
        self.acks()
        self.network.advance(60.0)
        self.assertEqual(self.acks(), [])

    def test_answered_before_the_end(self) -> None:
        """A handler that answers and then goes on, or fails, is left alone: its message is not answered twice."""
        log: Any = EventLoggingObserver()
        globalLogPublisher.addObserver(log)
        self.addCleanup(globalLogPublisher.removeObserver, log)
        gate: Deferred[None] = Deferred()

        async def handler(msg: JsMsg) -> None:
            msg.ack()
            await gate
            raise ValueError("no")

        self.consume(handler, auto_in_progress=True, on_error="term")
        self.deliver(b"a")
        self.network.advance(16.0)
        gate.callback(None)
        self.assertEqual(self.acks(), [(1, b"+ACK")])
        self.assertEqual([event for event in log if event["log_level"] is LogLevel.warn], [])
        self.flushLoggedErrors(ValueError)

    def test_ack_wait_passed_in_the_buffer(self) -> None:
        """What waited here for longer than ``ack_wait`` is not handed out, because the server delivers it again; it is counted."""
        slow = Slow()
        context = self.consume(slow, max_messages=4)
        self.deliver(b"a", b"b")
        self.network.advance(20.0)
        self.deliver(b"c")
        self.network.advance(11.0)
        slow.finish(b"a")
        self.assertEqual((slow.begun, context.expired), ([b"a", b"c"], 1))
        slow.finish(b"c")

    def test_refill_after_messages_that_were_too_old(self) -> None:
        """Where all that waited was too old, more is asked for."""
        self.consumer = self.new_consumer(ack_wait=5.0)
        slow = Slow()
        context = self.consume(slow, max_messages=2)
        self.deliver(b"a", b"b")
        self.assertEqual([pull["batch"] for pull in self.pulls()], [1])
        self.network.advance(6.0)
        slow.finish(b"a")
        self.assertEqual((context.expired, [pull["batch"] for pull in self.pulls()]), (1, [1]))

    def test_options_that_need_acks(self) -> None:
        """Where the consumer takes no acks, what would send some is refused, and messages are given back by nobody."""
        self.consumer = self.new_consumer(ack_policy=AckPolicy.NONE)
        for name in ("auto_ack", "auto_in_progress"):
            error = self.assertRaises(errors.InvalidArgumentError, self.consumer.consume, self.take, **{name: True})
            self.assertIn(name, str(error))
        slow = Slow()
        context = self.consume(slow)
        self.deliver(b"a", b"b")
        context.stop()
        self.assertEqual(self.acks(), [])
        slow.finish(b"a", ack=False)


class EndTests(ConsumeTestCase):
    """How it ends, by the user's will."""

    def test_drain(self) -> None:
        """What is here is handled and acked; what comes later is given back; then it is over and nothing is subscribed."""
        slow = Slow()
        context = self.consume(slow, max_messages=10)
        self.deliver(b"a", b"b")
        drained = context.drain()
        self.assertNoResult(drained)
        slow.finish(b"a")
        self.assertNoResult(drained)
        slow.finish(b"b")
        self.network.advance()
        self.successResultOf(drained)
        self.successResultOf(context.done)
        self.assertEqual(self.acks(), [(1, b"+ACK"), (2, b"+ACK")])
        self.assertEqual(self.inboxes(), [])

    def test_what_comes_during_a_drain_is_given_back(self) -> None:
        """Messages on their way when it is told to end are given back at once."""
        slow = Slow()
        context = self.consume(slow, max_messages=10)
        self.deliver(b"a")
        self.server.answer_pings = False
        drained = context.drain()
        # They were sent before the server heard of it.
        self._deliver_late(b"b", b"c")
        self.assertEqual(self.acks(), [(2, b"-NAK"), (3, b"-NAK")])
        self.assertEqual(context.returned, 2)
        self.server.answer_pings = True
        slow.finish(b"a")
        drained.addErrback(lambda failure: None)

    def _deliver_late(self, *payloads: bytes) -> None:
        (session,) = self.server.sessions
        for payload in payloads:
            self.sequence += 1
            (sid,) = [each.sid for each in self.client.subscriptions]
            reply = f"$JS.ACK.S.C.1.{self.sequence}.{self.sequence}.1700000000000000000.0"
            session.send(b"MSG orders.new %d %s %d\r\n%s\r\n" % (sid, reply.encode(), len(payload), payload))
        self.network.advance()

    def test_drain_that_takes_too_long(self) -> None:
        """It fails after its time, and what was still waiting is given back."""
        slow = Slow()
        context = self.consume(slow, max_messages=10)
        self.deliver(b"a", b"b")
        drained = context.drain(timeout=5.0)
        self.network.advance(5.0)
        self.failureResultOf(drained, errors.DrainTimeoutError)
        self.assertEqual(self.acks(), [(2, b"-NAK")])
        done = context.done
        self.assertNoResult(done)
        slow.finish(b"a")
        self.network.advance(30.0)
        self.successResultOf(done)

    def test_stop(self) -> None:
        """What waits is given back at once; the handler that runs goes on to its end, and can still ack."""
        slow = Slow()
        context = self.consume(slow, max_messages=10)
        self.deliver(b"a", b"b", b"c")
        context.stop()
        context.stop()
        self.assertEqual(self.acks(), [(2, b"-NAK"), (3, b"-NAK")])
        done = context.done
        self.assertNoResult(done)
        slow.finish(b"a")
        self.network.advance(0.1)
        self.successResultOf(done)
        self.assertEqual((self.acks(), slow.begun, context.returned), ([(1, b"+ACK")], [b"a"], 2))

    def test_stop_in_the_handler(self) -> None:
        """A handler may stop it: it is the last one."""

        def handler(msg: JsMsg) -> None:
            self.take(msg)
            context.stop()

        context = self.consume(handler)
        self.deliver(b"a", b"b")
        self.network.advance(0.1)
        self.successResultOf(context.done)
        self.assertEqual((self.got, self.acks()), ([b"a"], [(1, b"+ACK"), (2, b"-NAK")]))

    def test_stop_after(self) -> None:
        """It ends by itself after so many messages, and never asked for more."""
        context = self.consume(max_messages=4, stop_after=5)
        self.assertEqual([pull["batch"] for pull in self.pulls()], [4])
        self.deliver(b"a", b"b", b"c")
        self.assertEqual([pull["batch"] for pull in self.pulls()], [1])
        self.deliver(b"d", b"e")
        self.network.advance(0.1)
        self.successResultOf(context.done)
        self.assertEqual((len(self.got), self.pulls(), self.inboxes()), (5, [], []))

    def test_drain_of_the_client(self) -> None:
        """The client's own drain waits until what is here was handled, and the acks leave."""
        slow = Slow()
        context = self.consume(slow)
        self.deliver(b"a", b"b")
        drained = self.client.drain()
        self.network.advance(0.1)
        self.assertNoResult(drained)
        slow.finish(b"a")
        slow.finish(b"b")
        self.network.advance(0.1)
        self.successResultOf(drained)
        self.successResultOf(context.done)
        self.assertEqual(self.acks(), [(1, b"+ACK"), (2, b"+ACK")])

    def test_close_of_the_client(self) -> None:
        """It ends with the client; nothing is handed out that could not be acked."""
        slow = Slow()
        context = self.consume(slow, auto_in_progress=True)
        self.deliver(b"a", b"b")
        self.network.run(self.client.close())
        slow.finish(b"a", ack=False)
        self.network.advance(0.1)
        self.successResultOf(context.done)
        self.assertEqual(slow.begun, [b"a"])


class ServerTests(ConsumeTestCase):
    """What the server does."""

    def test_terminal_statuses(self) -> None:
        """What cannot get better ends it, with an error of its own; nothing stays subscribed."""
        for text, kind in (
            ("409 Consumer Deleted", errors.ConsumerDeletedError),
            ("409 Consumer is push based", errors.PullRefusedError),
            ("400 Bad Request - heartbeat value too large", errors.PullRefusedError),
            ("409 Exceeded MaxRequestBatch of 1", errors.PullRefusedError),
            ("412 Required Api Level", errors.JetStreamApiLevelError),
        ):
            context = self.consume()
            done = context.done
            self.status(text)
            self.network.advance(0.1)
            self.assertIs(self.failureResultOf(done).type, kind)
            self.assertIs(type(context.error), kind)
            self.assertEqual(self.inboxes(), [])

    def test_end_that_nobody_waits_for_is_logged(self) -> None:
        """An end by an error is never silent."""
        log: Any = EventLoggingObserver()
        globalLogPublisher.addObserver(log)
        self.addCleanup(globalLogPublisher.removeObserver, log)
        self.consume()
        self.status("409 Consumer Deleted")
        self.network.advance(0.1)
        self.assertTrue([event for event in log if event["log_level"] is LogLevel.error and "has ended" in event["log_format"]])

    def test_what_waits_is_handled_before_the_end(self) -> None:
        """Messages that are here when the consumer is deleted are handled: nobody else will."""
        slow = Slow()
        context = self.consume(slow)
        self.deliver(b"a", b"b")
        done = context.done
        self.status("409 Consumer Deleted")
        slow.finish(b"a")
        self.assertNoResult(done)
        slow.finish(b"b")
        self.network.advance(0.1)
        self.failureResultOf(done, errors.ConsumerDeletedError)

    def test_leadership_change(self) -> None:
        """After a change of the leader the consumer is looked for, and pulled from again; late statuses of old pulls change nothing."""
        self.consume(max_messages=10)
        self.pulls()
        self.status("409 Leadership Change")
        self.assertEqual(self.infos, 1)
        self.assertEqual([pull["batch"] for pull in self.pulls()], [10])
        self._route_old_status()
        self.assertEqual((self.pulls(), self.kinds()), ([], ["moved"]))

    def _route_old_status(self) -> None:
        old = self.replies[-1].rpartition(".")[0] + ".1"
        self.replies = [old]
        self.status("409 Leadership Change")

    def test_no_leader_for_a_while(self) -> None:
        """While nobody answers it looks again, without a storm, and pulls when somebody does."""
        self.info = None
        self.consume(max_messages=10)
        self.status("409 Server Shutdown", messages=10, size=0)
        self.network.advance(20.0)
        self.assertEqual(self.pulls(), [])
        self.assertLess(self.infos, 20)
        self.info = GOOD_INFO
        self.network.advance(2.1)
        self.assertEqual([pull["batch"] for pull in self.pulls()], [10])

    def test_consumer_that_is_gone(self) -> None:
        """When nobody takes pulls and the server does not know the consumer any more, that is the end; to be sure it asks twice."""
        self.server._responders.clear()
        self.server.respond(INFO, self._asked_for_info)
        self.info = NOT_FOUND
        context = self.consume()
        done = context.done
        self.network.advance(0.2)
        self.assertNoResult(done)
        self.network.advance(0.5)
        error = self.failureResultOf(done, errors.ConsumerDeletedError).value
        self.assertIsInstance(error.__cause__, errors.ConsumerNotFoundError)
        self.assertEqual(self.kinds(), ["no-responders"])

    def test_missing_heartbeats(self) -> None:
        """Nothing for two heartbeats: it says so, looks for the consumer, and asks anew."""
        self.consume(max_messages=10, expires=10.0)
        self.pulls()
        self.network.advance(5.0)
        self.status("100 Idle Heartbeat")
        self.network.advance(9.0)
        self.assertEqual((self.pulls(), self.kinds()), ([], []))
        self.network.advance(1.0)
        self.assertEqual((len(self.pulls()), self.kinds()), (1, ["heartbeat-missed"]))

    def test_too_many_pulls(self) -> None:
        """Where as many pulls wait as the consumer accepts, it tries again later."""
        self.consume()
        self.status("409 Exceeded MaxWaiting")
        self.assertEqual((self.pulls(), self.kinds()), ([], ["busy"]))
        self.network.advance(0.2)
        self.assertEqual(len(self.pulls()), 1)

    def test_message_larger_than_all_bytes(self) -> None:
        """A message for which there is never room is told of, and not asked for in a tight loop."""
        self.consume(max_bytes=1000)
        for _ in range(5):
            (pull,) = self.pulls()
            self.status("409 Message Size Exceeds MaxBytes", messages=pull["batch"], size=1000)
            self.assertEqual(self.pulls(), [])
            self.network.advance(2.0)
        self.assertEqual(self.kinds(), ["message-too-large"] * 5)

    def test_unknown_status(self) -> None:
        """What a later server says is told, and it goes on."""
        self.consume()
        self.status("418 Teapot")
        self.network.advance(0.2)
        self.assertEqual((self.kinds(), len(self.pulls())), (["unknown-status"], 1))

    def test_headers_of_a_message_are_no_status(self) -> None:
        """A stored message whose headers look like a status is a message."""
        context = self.consume()
        self.pulls()
        (session,) = self.server.sessions
        (sid,) = [each.sid for each in self.client.subscriptions]
        block = b"NATS/1.0 409 Consumer Deleted\r\n\r\n"
        session.send(b"HMSG orders.new %d $JS.ACK.S.C.1.1.1.1.0 %d %d\r\n%sx\r\n" % (sid, len(block), len(block) + 1, block))
        self.network.advance()
        self.assertEqual((self.got, context.error), ([b"x"], None))

    def test_more_than_asked_for(self) -> None:
        """A server that sends more than was asked for cannot fill the memory: what is too much is given back."""
        context = self.consume(Slow(), max_messages=4)
        self.deliver(*[b"x"] * 20)
        self.assertEqual((context.pending, context.returned), (8, 11))
        self.assertIn("overrun", self.kinds())

    def test_pulls_are_denied(self) -> None:
        """A client that may not pull is told."""
        context = self.consume()
        done = context.done
        self.server.error(f'Permissions Violation for Publish to "{NEXT}"')
        self.network.advance(0.1)
        self.failureResultOf(done, errors.PermissionsViolationError)

    def test_inbox_is_denied(self) -> None:
        """A client that may not have its inbox is told."""
        context = self.consume()
        done = context.done
        (inbox,) = self.inboxes()
        self.server.error(f'Permissions Violation for Subscription to "{inbox}"')
        self.network.advance(0.1)
        self.failureResultOf(done, errors.PermissionsViolationError)

    def test_listener_that_raises(self) -> None:
        """It is logged, and does no harm."""

        def listener(warning: ConsumeWarning) -> None:
            raise ValueError("no")

        self.consumer.consume(self.take, listener=listener)
        self.status("418 Teapot")
        self.network.advance(0.2)
        self.assertEqual(len(self.pulls()), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class ConnectionTests(ConsumeTestCase):
    """Over losses of the connection."""

    def test_reconnect(self) -> None:
        """It goes on by itself: another inbox, so that old pulls are void, a look at the consumer, and a pull of the full size."""
        context = self.consume(max_messages=10)
        self.deliver(b"a", b"b")
        (old,) = self.inboxes()
        self.cut()
        # The first one has a short heartbeat: should it be lost too, that is noticed soon.
        self.assertEqual([(pull["batch"], pull["idle_heartbeat"]) for pull in self.pulls()], [(10, 10**9)])
        (new,) = self.inboxes()
        self.assertNotEqual(new, old)
        self.assertEqual(self.infos, 1)
        self.deliver(b"c")
        self.assertEqual((self.got, context.error, self.kinds()), ([b"a", b"b", b"c"], None, []))

    def test_no_pull_without_a_connection(self) -> None:
        """During an outage nothing is asked for, and nothing piles up; after it there is one pull."""
        self.consume(max_messages=10)
        self.pulls()
        self.network.refuse("127.0.0.1:4222")
        self.network.cut("127.0.0.1:4222")
        self.network.advance(120.0)
        self.assertEqual((self.client.pending_bytes, self.inboxes()), (0, []))
        self.network.accept("127.0.0.1:4222")
        self.next_pull()
        self.network.advance(1.0)
        self.assertEqual(self.pulls(), [])

    def test_no_question_without_a_connection(self) -> None:
        """When the connection is lost while it looks for the consumer, it looks again after the outage, not during it."""
        self.info = None
        self.consume()
        self.status("409 Leadership Change")
        self.network.refuse("127.0.0.1:4222")
        self.network.cut("127.0.0.1:4222")
        self.network.advance(60.0)
        self.assertEqual(self.client.pending_bytes, 0)
        self.info = GOOD_INFO
        self.network.accept("127.0.0.1:4222")
        self.next_pull()
        self.network.advance(1.0)
        self.assertEqual(self.pulls(), [])

    def test_begun_without_a_connection(self) -> None:
        """It can begin during an outage."""
        self.network.refuse("127.0.0.1:4222")
        self.network.cut("127.0.0.1:4222")
        self.network.advance(1.0)
        self.consume()
        self.network.advance(1.0)
        self.network.accept("127.0.0.1:4222")
        self.next_pull()
        self.network.advance(1.0)
        self.assertEqual(self.pulls(), [])
        self.deliver(b"a")
        self.assertEqual(self.got, [b"a"])

    def test_consumer_that_was_deleted_meanwhile(self) -> None:
        """After the outage it finds out, and ends with that."""
        context = self.consume()
        done = context.done
        self.info = NOT_FOUND
        self.cut()
        self.network.advance(1.0)
        self.failureResultOf(done, errors.ConsumerDeletedError)

    def test_handlers_go_on(self) -> None:
        """What is here is handled during the outage, and its acks leave after it."""
        slow = Slow()
        self.consume(slow)
        self.deliver(b"a", b"b")
        self.network.refuse("127.0.0.1:4222")
        self.network.cut("127.0.0.1:4222")
        self.network.advance(1.0)
        slow.finish(b"a")
        slow.finish(b"b")
        self.network.accept("127.0.0.1:4222")
        self.network.advance(10.0)
        self.assertEqual(self.acks(), [(1, b"+ACK"), (2, b"+ACK")])

    def test_stop_without_a_connection(self) -> None:
        """It can be stopped during an outage, at once, and leaves nothing behind."""
        context = self.consume()
        self.network.refuse("127.0.0.1:4222")
        self.network.cut("127.0.0.1:4222")
        self.network.advance(1.0)
        context.stop()
        self.successResultOf(context.done)
        self.network.accept("127.0.0.1:4222")
        self.network.advance(10.0)
        self.assertEqual((self.pulls()[1:], self.inboxes()), ([], []))

    def test_client_that_gives_up(self) -> None:
        """When the client ends because of an error, so does this."""
        context = self.consume()
        done: Deferred[Any] = context.done
        outcome: list[Any] = []
        done.addBoth(outcome.append)
        self.server.reject("User Authentication Revoked", times=10)
        self.cut()
        self.network.advance(60.0)
        (result,) = outcome
        self.assertIsInstance(result, Failure)
        self.assertIsInstance(result.value, errors.NatsError)
