"""Draining a client that publishes to streams."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults

from pynats_twisted import Msg, errors
from pynats_twisted.jetstream.api import StreamConfig
from tests.support.jetstream import JetStreamTestCase


class DrainTests(JetStreamTestCase):
    """What drain() promises holds for publishes to streams, too."""

    async def test_acks_still_come(self) -> None:
        """Publishes whose acks are under way when the client is drained succeed."""
        nc = await self.jetstream()
        js = nc.jetstream()
        await js.create_stream(StreamConfig(name="S", subjects=["s.>"]))
        acks = [js.publish_async(f"s.{number}") for number in range(200)]
        acks += [js.publish(f"s.{number}") for number in range(20)]
        await nc.drain()
        self.assertEqual(sorted(self.successResultOf(ack).seq for ack in acks), list(range(1, 221)))

    async def test_handlers_publish_while_draining(self) -> None:
        """A handler that is still at work can publish to a stream, and gets its ack."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        source = await self.connect(server)
        js = nc.jetstream()
        await js.create_stream(StreamConfig(name="S", subjects=["s.>"]))
        await js.publish("s.first")
        stored: list[int] = []

        async def handler(msg: Msg) -> None:
            stored.append((await js.publish("s.copy", msg.data)).seq)

        await nc.subscribe("in", handler)
        for number in range(50):
            source.publish("in", b"%d" % number)
        await source.flush()
        await self.until(lambda: bool(stored))
        await nc.drain()
        self.assertEqual(stored, list(range(2, 52)))
        self.assertEqual(nc.stats.handler_errors, 0)

    async def test_an_ack_that_does_not_come(self) -> None:
        """Draining does not wait longer for an ack than it may, and says so; the publish is told that it is unknown."""
        nc = await self.jetstream()
        js = nc.jetstream()
        await nc.subscribe("nowhere", lambda msg: None)
        ack: Any = js.publish("nowhere", timeout=60)
        draining: Any = nc.drain(timeout=0.3)
        error = await self.assertFailure(draining, errors.DrainTimeoutError)
        self.assertIn("0.3", str(error))
        self.assertIn("unknown", str(self.failureResultOf(ack, errors.ConnectionClosedError).value))

    async def test_several_contexts(self) -> None:
        """Each context's acks are waited for."""
        nc = await self.jetstream()
        await nc.jetstream().create_stream(StreamConfig(name="S", subjects=["s.>"]))
        acks = [nc.jetstream().publish("s.a") for _ in range(3)]
        await nc.drain()
        self.assertEqual({ack.seq for ack in await gatherResults(acks)}, {1, 2, 3})
