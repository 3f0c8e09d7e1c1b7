"""Push consumers with real servers."""

from __future__ import annotations

from typing import Any

from pynats_twisted import NatsClient, errors
from pynats_twisted.jetstream.api import AckPolicy, ConsumerConfig, StreamConfig
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.pull_session import ConsumeWarning
from pynats_twisted.jetstream.push_consumer import PushConsumer
from tests.support.jetstream import JetStreamTestCase


class PushTests(JetStreamTestCase):
    """A stream ``S`` of the subject ``s``, and a push consumer ``C`` that delivers to ``deliver``."""

    async def stream(self, nc: NatsClient | None = None, count: int = 0, payload: bytes = b"") -> JetStreamContext:
        js = (nc or await self.jetstream()).jetstream()
        await js.create_stream(StreamConfig(name="S", subjects=["s"]))
        for number in range(1, count + 1):
            await js.client.publish("s", payload or b"%d" % number)
        await js.client.request("s", b"last")
        return js

    async def push(self, js: JetStreamContext, **options: Any) -> PushConsumer:
        consumer = await js.create_consumer("S", ConsumerConfig(durable="C", deliver_subject="deliver", **options))
        assert isinstance(consumer, PushConsumer)
        return consumer

    async def test_every_message_is_handled_and_acked(self) -> None:
        """A handler gets all that is stored and acks it; the server has the acks when the drain is over."""
        js = await self.stream(count=999)
        consumer = await self.push(js)
        seen: list[int] = []

        async def handler(msg: JsMsg) -> None:
            seen.append(msg.metadata.stream_seq)
            await msg.ack()

        context = consumer.consume(handler)
        await context.ready()
        self.assertTrue((await consumer.info()).push_bound)
        await self.until(lambda: len(seen) == 1000)
        await context.drain()
        info = await consumer.info()
        self.assertEqual(seen, list(range(1, 1001)))
        self.assertEqual((info.ack_floor.stream_seq, info.num_ack_pending, info.push_bound), (1000, 0, False))

    async def test_flow_control_holds_the_server_back(self) -> None:
        """With a slow handler, no more waits here than the server's window, all comes, and nothing is dropped or stalls."""
        nc = await self.jetstream()
        js = await self.stream(nc, 3000, bytes(20_000))
        consumer = await self.push(js, flow_control=True, idle_heartbeat=1.0, ack_policy=AckPolicy.NONE)
        seen: list[int] = []
        most = 0

        async def handler(msg: JsMsg) -> None:
            nonlocal most
            most = max(most, context.pending)
            seen.append(msg.metadata.stream_seq)
            if len(seen) < 50:
                await self.sleep(0.01)
            elif not len(seen) % 100:
                await self.sleep(0)

        context = consumer.consume(handler)
        await self.until(lambda: len(seen) == 3001)
        self.assertEqual(seen, list(range(1, 3002)))
        # Sixty megabytes are stored; without flow control they all come at once.
        self.assertLess(most, 2900)
        context.stop()
        await context.done

    async def test_an_iterator_with_flow_control(self) -> None:
        """The same with ``async for``, and several at once."""
        js = await self.stream(count=2000, payload=bytes(20_000))
        consumer = await self.push(js, flow_control=True, idle_heartbeat=0.5)
        count = 0
        async with consumer.messages() as messages:
            async for msg in messages:
                await msg.ack()
                count += 1
                if count == 2001:
                    break
        self.assertEqual((await consumer.info()).num_ack_pending, 0)
        seen: list[bytes] = []

        async def handler(msg: JsMsg) -> None:
            await self.sleep(0.001)
            await msg.ack()
            seen.append(msg.data)

        context = consumer.consume(handler, concurrency=10)
        for _ in range(300):
            await js.client.publish("s", b"x")
        await self.until(lambda: len(seen) == 300)
        await context.drain()

    async def test_queue_group(self) -> None:
        """Each message goes to one member of the group."""
        server = await self.start_server(jetstream=True)
        js = await self.stream(await self.connect(server), 499)
        consumer = await self.push(js, deliver_group="g")
        seen: list[list[int]] = [[], []]
        contexts = []
        for each in seen:
            other = (await self.connect(server)).jetstream()
            member = await other.consumer("S", "C")
            assert isinstance(member, PushConsumer)

            def handler(msg: JsMsg, each: list[int] = each) -> None:
                each.append(msg.metadata.stream_seq)
                msg.ack()

            contexts.append(member.consume(handler))
        await self.until(lambda: len(seen[0]) + len(seen[1]) >= 500)
        self.assertEqual(sorted(seen[0] + seen[1]), list(range(1, 501)))
        for context in contexts:
            await context.drain()
        self.assertEqual((await consumer.info()).num_ack_pending, 0)

    async def test_the_consumer_is_deleted(self) -> None:
        """Silence is reported, and then the end has a name."""
        js = await self.stream()
        consumer = await self.push(js, idle_heartbeat=0.3)
        warnings: list[ConsumeWarning] = []
        context = consumer.consume(lambda msg: msg.ack(), listener=warnings.append)
        done = self.assertFailure(context.done, errors.ConsumerDeletedError)
        messages = consumer.messages()
        # Two heartbeats pass, and nothing is amiss.
        await self.sleep(1.0)
        self.assertEqual(warnings, [])
        await consumer.delete()
        await done
        self.assertEqual({warning.kind for warning in warnings}, {"heartbeat-missed"})
        with self.assertRaises(errors.ConsumerDeletedError):
            async for _ in messages:
                pass

    async def test_the_server_is_killed(self) -> None:
        """A durable consumer goes on where it was: every message is handled at least once, and there is no false warning afterwards."""
        server = await self.start_server(jetstream=True)
        options: dict[str, Any] = {"reconnect_wait": 0.05, "reconnect_jitter": 0.0}
        js = await self.stream(await self.connect(server, **options), 200)
        consumer = await self.push(js, flow_control=True, idle_heartbeat=0.5, ack_wait=2.0)
        seen: set[int] = set()

        def handler(msg: JsMsg) -> None:
            seen.add(msg.metadata.stream_seq)
            msg.ack()

        context = consumer.consume(handler)
        for round_ in range(2):
            await server.restart(kill=True, down=0.2)
            await js.client.when_connected()
            for _ in range(100):
                await js.client.request("s", b"x")
            expected = 201 + 100 * (round_ + 1)
            await self.all_of(seen, expected)
        await context.drain()

    async def all_of(self, seen: set[int], count: int) -> None:
        await self.until(lambda: seen >= set(range(1, count + 1)), what=f"handling {count} messages")

    async def test_a_denied_deliver_subject(self) -> None:
        """Who may not listen there is told."""
        server = await self.start_server(
            {"authorization": {"users": [{"user": "u", "password": "p", "permissions": {"subscribe": {"deny": ["deliver"]}}}]}},
            jetstream=True,
        )
        js = await self.stream(await self.connect(server.url.replace("//", "//u:p@")))
        consumer = await self.push(js)
        context = consumer.consume(print)
        done = self.assertFailure(context.done, errors.PermissionsViolationError)
        await self.assertFailure(context.ready(), errors.PermissionsViolationError)
        await done
