"""Consumers of this client and of nats-py: each works with those that the other made, and answers to them."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from pynats_twisted.jetstream.api import ConsumerConfig
from pynats_twisted.jetstream.consumer import Consumer
from tests.support.peers import PeerProcess
from tests.support.pulling import PullingTestCase

ORDERS = "peer.do"


async def _peer(url: str) -> None:
    """The other side, in a process of its own: does what it is told on ``peer.do``."""
    import nats
    from nats.js import api

    client = await nats.connect(url)
    js = client.jetstream()
    over = asyncio.Event()

    async def create(order: Any) -> Any:
        info = await js.add_consumer("S", api.ConsumerConfig(**order["config"]))
        return {"name": info.name, "ack_wait": info.config.ack_wait, "filter_subjects": info.config.filter_subjects}

    async def info(order: Any) -> Any:
        state = await js.consumer_info("S", order["name"])
        return [state.num_ack_pending, state.num_redelivered, state.ack_floor.stream_seq if state.ack_floor else 0, state.config.ack_wait]

    async def work(order: Any) -> Any:
        """Take as many messages as there are answers, and give these."""
        sub = await js.pull_subscribe_bind(order["name"], stream="S")
        msgs = await sub.fetch(len(order["answers"]), timeout=5)
        for msg, answer in zip(msgs, order["answers"], strict=True):
            await getattr(msg, answer)()
        await client.flush()
        return [[msg.data.decode(), msg.metadata.num_delivered] for msg in msgs]

    async def end(order: Any) -> None:
        over.set()

    calls = {"create": create, "info": info, "work": work, "end": end}

    async def do(msg: Any) -> None:
        order = json.loads(msg.data)
        await msg.respond(json.dumps(await calls[order["do"]](order)).encode())

    await client.subscribe(ORDERS, cb=do)
    await client.flush()
    print("ready", flush=True)
    await over.wait()
    await client.drain()


class ConsumerInteropTests(PullingTestCase):
    """A peer on nats-py in another process, and our client."""

    async def begin(self, messages: int = 0, **options: Any) -> None:
        await super().begin(messages, **options)
        self.peer = PeerProcess()
        command = [sys.executable, "-m", "tests.integration.test_js_consumers_interop", self.nc.connected_url or ""]
        checkout = str(Path(__file__).resolve().parents[2])
        process = self.reactor.spawnProcess(self.peer, sys.executable, command, env=None, path=checkout)
        self.addCleanup(self.end, process)
        await self.peer.ready

    async def end(self, process: Any) -> None:
        if not self.peer.ended.called:
            process.signalProcess("KILL")
            self.peer.ended.addErrback(lambda failure: None)
            await self.peer.ended

    async def do(self, what: str, **order: Any) -> Any:
        return json.loads((await self.nc.request(ORDERS, json.dumps({"do": what, **order}).encode())).data)

    async def test_their_consumer(self) -> None:
        """A consumer that the peer made is found, used and changed here, and the peer sees each answer as it was meant."""
        await self.begin(5)
        made = await self.do("create", config={"durable_name": "theirs", "ack_wait": 12.5, "filter_subjects": ["s.*"]})
        self.assertEqual(made["name"], "theirs")
        consumer: Consumer = await self.js.consumer("S", "theirs")
        self.assertEqual((consumer.config.ack_wait, consumer.config.durable), (12.5, "theirs"))
        msgs = await self.pull(consumer, 5)
        await msgs[0].ack()
        await msgs[1].term("no")
        await msgs[2].ack_sync()
        await msgs[3].in_progress()
        await msgs[4].nak()
        await self.until_state(consumer, (2, 0, 3))
        self.assertEqual(await self.do("info", name="theirs"), [2, 0, 3, 12.5])
        self.assertEqual(await self.do("work", name="theirs", answers=["ack"]), [["5", 2]])
        await self.until_state(consumer, (1, 0, 3))
        await consumer.update(ConsumerConfig(durable="theirs", ack_wait=20.0, filter_subject="s.*"))
        self.assertEqual((await self.do("info", name="theirs"))[3], 20.0)
        await self.do("end")
        await self.peer.ended

    async def test_our_consumer(self) -> None:
        """A consumer that was made here works for the peer, and its answers are seen here."""
        await self.begin(5)
        consumer = await self.js.create_consumer("S", ConsumerConfig(durable="ours", ack_wait=12.5))
        self.assertEqual((await self.do("info", name="ours"))[3], 12.5)
        answers = ["ack", "term", "ack_sync", "in_progress", "nak"]
        self.assertEqual(await self.do("work", name="ours", answers=answers), [[str(number), 1] for number in range(1, 6)])
        await self.until_state(consumer, (2, 0, 3))
        (again,) = await self.pull(consumer)
        self.assertEqual((again.data, again.metadata.num_delivered), (b"5", 2))
        await again.ack()
        await self.until_state(consumer, (1, 0, 3))
        await self.do("end")
        await self.peer.ended


if __name__ == "__main__":
    asyncio.run(_peer(sys.argv[1]))
