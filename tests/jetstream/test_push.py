"""Push consumers: flow control is answered behind the messages, silence is noticed, and the ways of listening end as they say."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import NatsClient, errors
from pynats_twisted.client.status import HandlerError
from pynats_twisted.jetstream.api import AckPolicy, ConsumerConfig, ConsumerInfo, encode
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.pull_session import ConsumeWarning
from pynats_twisted.jetstream.push_consumer import PushConsumer
from pynats_twisted.jetstream.push_flow import FlowControl
from pynats_twisted.testing.server_frames import PublishFrame
from tests.client.network import Peer
from tests.client.support import ClientTestCase, Slow

CONFIG = ConsumerConfig(durable="C", deliver_subject="d", flow_control=True, idle_heartbeat=5.0, ack_policy=AckPolicy.EXPLICIT)
HEARTBEAT = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n"
QUESTION = b"NATS/1.0 100 FlowControl Request\r\n\r\n"


class FlowControlTests(SynchronousTestCase):
    """When an answer is due."""

    def test_at_once_when_nothing_is_handled(self) -> None:
        """A question behind messages that are all done, or behind none."""
        flow = FlowControl()
        self.assertEqual(flow.ask("a"), ["a"])
        flow.end(flow.begin())
        self.assertEqual(flow.ask("b"), ["b"])

    def test_behind_the_messages_before_it(self) -> None:
        """Only those count that came before the question, in whatever order they end."""
        flow = FlowControl()
        first, second = flow.begin(), flow.begin()
        self.assertEqual(flow.ask("a"), [])
        third = flow.begin()
        self.assertEqual(flow.ask("b"), [])
        self.assertEqual(flow.end(second), [])
        self.assertEqual(flow.end(first), ["a"])
        self.assertEqual(flow.end(third), ["b"])
        self.assertEqual(flow.running, 0)

    def test_a_question_that_is_repeated(self) -> None:
        """A server that stalls asks with every heartbeat: it is answered once."""
        flow = FlowControl()
        number = flow.begin()
        for _ in range(1000):
            self.assertEqual(flow.ask("a"), [])
        self.assertEqual(flow.end(number), ["a"])

    @given(st.lists(st.integers(0, 9), max_size=60))
    def test_every_question_once_and_never_too_early(self, steps: list[int]) -> None:
        """Whatever begins, ends and is asked: an answer comes behind all that began before its question, and each comes."""
        flow = FlowControl()
        running: list[int] = []
        before: dict[str, set[int]] = {}
        answered: list[str] = []

        def check(due: list[str]) -> None:
            for reply in due:
                self.assertEqual(before[reply] & set(running), set())
            answered.extend(due)

        for step in steps:
            if step < 4:
                running.append(flow.begin())
            elif step < 8 and running:
                check(flow.end(running.pop(step % len(running))))
            elif step >= 8:
                reply = f"q{len(before)}"
                before[reply] = set(running)
                check(flow.ask(reply))
        while running:
            number = running.pop()
            check(flow.end(number))
        self.assertEqual(answered, list(before))


class PushTestCase(ClientTestCase):
    """A client that listens to a consumer."""

    def consumer(self, config: ConsumerConfig = CONFIG, **options: Any) -> tuple[PushConsumer, NatsClient, Peer]:
        client, peer = self.connected(**options)
        self.sequence = 0
        return PushConsumer(client.jetstream(), ConsumerInfo(stream_name="S", name="C", config=config)), client, peer

    def deliver(self, peer: Peer, *payloads: bytes) -> None:
        for payload in payloads:
            self.sequence += 1
            peer.publish("d", payload, reply=f"$JS.ACK.S.C.1.{self.sequence}.{self.sequence}.1700000000000000000.0")

    def ask(self, peer: Peer, reply: str = "$JS.FC.S.C.x") -> None:
        peer.publish("d", reply=reply, block=QUESTION)

    def answers(self, peer: Peer) -> list[str]:
        """Where something empty was published since the last call."""
        self.network.advance()
        return [frame.subject for frame in peer.take(PublishFrame) if not frame.payload]

    def requests(self, peer: Peer) -> list[PublishFrame]:
        self.network.advance()
        return [frame for frame in peer.take(PublishFrame) if frame.reply]


class HandlerTests(PushTestCase):
    """Messages for a handler."""

    def test_messages_are_handled_and_acked(self) -> None:
        """The handler gets the messages, and none of the server's other words."""
        consumer, _, peer = self.consumer()
        got: list[JsMsg] = []
        context = consumer.consume(got.append)
        self.network.advance()
        self.deliver(peer, b"one", b"two")
        peer.publish("d", block=HEARTBEAT)
        self.assertEqual([msg.data for msg in got], [b"one", b"two"])
        got[1].ack()
        self.network.advance()
        (ack,) = peer.take(PublishFrame)
        self.assertEqual((ack.subject, ack.payload), (got[1].reply, b"+ACK"))
        context.stop()

    def test_a_stored_message_with_a_status(self) -> None:
        """A message is told from the server's words by its ack subject, whatever a publisher wrote into its headers."""
        consumer, _, peer = self.consumer()
        got: list[JsMsg] = []
        consumer.consume(got.append)
        self.network.advance()
        peer.publish("d", b"x", reply="$JS.ACK.S.C.1.1.1.1700000000000000000.0", block=QUESTION)
        self.assertEqual(len(got), 1)
        self.assertEqual(self.answers(peer), [])

    def test_flow_control_behind_the_messages(self) -> None:
        """The answer goes out when the handlers of the messages before have ended, with several at once, too."""
        for concurrency in (1, 3):
            consumer, _, peer = self.consumer()
            handler = Slow()
            context = consumer.consume(handler, concurrency=concurrency)
            self.network.advance()
            self.deliver(peer, b"1", b"2", b"3")
            self.ask(peer)
            self.deliver(peer, b"4", b"5")
            for payload in (b"1", b"2") if concurrency == 1 else (b"3", b"2"):
                handler.finish(payload)
            self.assertEqual(self.answers(peer), [])
            handler.finish(b"3" if concurrency == 1 else b"1")
            self.assertEqual(self.answers(peer), ["$JS.FC.S.C.x"])
            handler.finish_all()
            self.assertEqual(self.answers(peer), [])
            context.stop()

    def test_flow_control_with_coroutines(self) -> None:
        """A coroutine's message is done when the coroutine has ended, or has failed."""
        consumer, client, peer = self.consumer()
        waiting: Deferred[None] = Deferred()

        async def handler(msg: JsMsg) -> None:
            await waiting
            raise ValueError("no")

        consumer.consume(handler)
        self.network.advance()
        self.deliver(peer, b"1")
        self.ask(peer)
        self.assertEqual(self.answers(peer), [])
        waiting.callback(None)
        self.assertEqual(self.answers(peer), ["$JS.FC.S.C.x"])
        self.assertEqual(len(self.told(HandlerError)), 1)
        self.assertEqual(client.stats.handler_errors, 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_handler_that_raises_is_done(self) -> None:
        """Flow control is not held up by a message that failed."""
        consumer, _, peer = self.consumer()

        def handler(msg: JsMsg) -> None:
            raise ValueError("no")

        consumer.consume(handler)
        self.network.advance()
        self.deliver(peer, b"1")
        self.ask(peer)
        self.assertEqual(self.answers(peer), ["$JS.FC.S.C.x"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_server_that_stalls_is_answered(self) -> None:
        """An answer that got lost is given again where the heartbeat says; odd subjects are not published to."""
        consumer, _, peer = self.consumer()
        consumer.consume(lambda msg: None)
        self.network.advance()
        peer.publish("d", block=b"NATS/1.0 100 Idle Heartbeat\r\nNats-Consumer-Stalled: $JS.FC.S.C.y\r\n\r\n")
        self.assertEqual(self.answers(peer), ["$JS.FC.S.C.y"])
        peer.publish("d", block=b"NATS/1.0 100 Idle Heartbeat\r\nNats-Consumer-Stalled: a b\r\n\r\n")
        self.assertEqual(self.answers(peer), [])

    def test_queue_group(self) -> None:
        """Members of a queue group subscribe as such, and expect no heartbeats."""
        config = ConsumerConfig(durable="C", deliver_subject="d", deliver_group="g", idle_heartbeat=5.0)
        consumer, client, _ = self.consumer(config)
        warnings: list[ConsumeWarning] = []
        consumer.consume(lambda msg: None, listener=warnings.append)
        self.network.advance(60)
        self.assertEqual([each.queue for each in client.subscriptions], ["g"])
        self.assertEqual(warnings, [])

    def test_a_drain_handles_what_has_come(self) -> None:
        """It fires when everything is handled and the acks have left."""
        consumer, _, peer = self.consumer()
        handler = Slow()
        context = consumer.consume(handler)
        self.network.advance()
        self.deliver(peer, b"1", b"2")
        drained = self.watch(context.drain())
        self.network.advance()
        handler.finish(b"1")
        self.assertNoResult(drained)
        handler.finish(b"2")
        self.network.advance()
        self.successResultOf(drained)
        self.assertEqual(handler.begun, [b"1", b"2"])
        self.successResultOf(context.done)

    def test_a_stop_drops_what_waits(self) -> None:
        """The handler that runs goes on to its end; done tells when."""
        consumer, _, peer = self.consumer()
        handler = Slow()
        context = consumer.consume(handler)
        self.network.advance()
        self.deliver(peer, b"1", b"2")
        context.stop()
        self.network.advance()
        self.assertNoResult(context.done)
        handler.finish(b"1")
        self.network.advance()
        self.successResultOf(context.done)
        self.assertEqual(handler.begun, [b"1"])

    def test_what_ends_it_is_told(self) -> None:
        """A denied subscription is an error, a closed client is none."""
        consumer, client, peer = self.consumer()
        context = consumer.consume(print)
        self.network.advance()
        peer.error('Permissions Violation for Subscription to "d"')
        self.network.advance()
        self.failureResultOf(context.done, errors.PermissionsViolationError)
        context = consumer.consume(print)
        client.close()
        self.network.advance(1)
        self.successResultOf(context.done)

    def test_wrong_arguments(self) -> None:
        """They are refused before anything is subscribed."""
        consumer, client, _ = self.consumer()
        wrong: Any = "handler"
        self.assertRaises(errors.InvalidArgumentError, consumer.consume, wrong)
        self.assertRaises(errors.ConfigurationError, consumer.consume, print, concurrency=0)
        self.assertEqual(client.subscriptions, ())


class SilenceTests(PushTestCase):
    """Heartbeats that do not come."""

    def test_heartbeats_and_messages_are_signs_of_life(self) -> None:
        """As long as something comes there is no warning, however slow the handler is."""
        consumer, _, peer = self.consumer()
        warnings: list[ConsumeWarning] = []
        handler = Slow()
        context = consumer.consume(handler, listener=warnings.append)
        self.network.advance()
        self.deliver(peer, b"1", b"2")
        for _ in range(30):
            peer.publish("d", block=HEARTBEAT)
            for _ in range(5):
                self.network.advance(1)
        self.assertEqual(warnings, [])
        context.stop()
        handler.finish_all()

    def silent(self, warnings: list[ConsumeWarning]) -> tuple[Any, Peer]:
        consumer, _, peer = self.consumer()
        context = consumer.consume(print, listener=warnings.append)
        self.network.advance()
        peer.take()
        for _ in range(9):
            self.network.advance(1)
        self.assertEqual(warnings, [])
        for _ in range(3):
            self.network.advance(1)
        self.assertEqual([warning.kind for warning in warnings], ["heartbeat-missed"])
        return context, peer

    def test_two_missing_heartbeats(self) -> None:
        """They are reported, and the server is asked for the consumer; when that is there, it goes on."""
        warnings: list[ConsumeWarning] = []
        context, peer = self.silent(warnings)
        (request,) = self.requests(peer)
        self.assertEqual(request.subject, "$JS.API.CONSUMER.INFO.S.C")
        peer.answer(request, encode(ConsumerInfo(stream_name="S", name="C", config=CONFIG)))
        self.assertNoResult(self.watch(context.done))
        peer.publish("d", block=HEARTBEAT)
        for _ in range(10):
            self.network.advance(1)
        self.assertEqual(len(warnings), 1)
        for _ in range(3):
            self.network.advance(1)
        self.assertEqual(len(warnings), 2)
        context.stop()
        self.network.advance()

    def test_the_consumer_is_gone(self) -> None:
        """When it is missing twice, that is the end, and it has a name."""
        warnings: list[ConsumeWarning] = []
        context, peer = self.silent(warnings)
        missing = b'{"error":{"code":404,"err_code":10014,"description":"consumer not found"}}'
        (request,) = self.requests(peer)
        done = context.done
        peer.answer(request, missing)
        self.assertNoResult(done)
        self.network.advance(1.25)
        (request,) = self.requests(peer)
        peer.answer(request, missing)
        self.network.advance()
        self.failureResultOf(done, errors.ConsumerDeletedError)

    def test_no_warning_while_there_is_no_connection(self) -> None:
        """It is the connection's loss that is told then."""
        consumer, _, peer = self.consumer(reconnect_wait=4.0)
        warnings: list[ConsumeWarning] = []
        context = consumer.consume(print, listener=warnings.append)
        self.network.advance()
        self.network.refuse("one:4222")
        peer.hang_up()
        for _ in range(40):
            self.network.advance(1)
        self.assertEqual(warnings, [])
        context.stop()


class IteratorTests(PushTestCase):
    """Messages for ``async for``."""

    def test_a_message_is_handled_when_the_next_is_asked_for(self) -> None:
        """Flow control behind a message is answered when its loop has come around; a heartbeat is no message."""
        consumer, _, peer = self.consumer()
        messages = consumer.messages()
        self.network.advance()
        self.deliver(peer, b"1")
        self.ask(peer)
        peer.publish("d", block=HEARTBEAT)
        self.deliver(peer, b"2")
        first = self.successResultOf(Deferred.fromCoroutine(messages.__anext__()))
        self.assertEqual((first.data, self.answers(peer)), (b"1", []))
        second = self.successResultOf(Deferred.fromCoroutine(messages.__anext__()))
        self.assertEqual((second.data, self.answers(peer)), (b"2", ["$JS.FC.S.C.x"]))
        messages.stop()

    def test_it_ends(self) -> None:
        """A stop ends the loop, a drain behind what has come; an error is raised once."""
        consumer, _, peer = self.consumer()
        messages = consumer.messages()
        self.network.advance()
        self.deliver(peer, b"1")
        drained = self.watch(messages.drain())
        self.network.advance()

        async def collect() -> list[bytes]:
            return [msg.data async for msg in messages]

        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(collect())), [b"1"])
        self.network.advance()
        self.successResultOf(drained)
        messages = consumer.messages()
        collecting = self.watch(collect())
        self.network.advance()
        peer.error('Permissions Violation for Subscription to "d"')
        self.network.advance()
        self.failureResultOf(collecting, errors.PermissionsViolationError)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(collect())), [])
