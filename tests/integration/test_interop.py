"""This client and nats-py, each to the other, through a real server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from pynats_twisted import Headers
from tests.support.integration import IntegrationTestCase
from tests.support.peers import PeerProcess


async def _peer(url: str) -> None:
    """The other side, in a process of its own: answers, and does what it is told on ``peer.do``."""
    import nats

    client = await nats.connect(url)
    over = asyncio.Event()
    seen: list[Any] = []

    async def echo(msg: Any) -> None:
        await client.publish(msg.reply, msg.data + b" from the peer", headers={"Seen": ",".join(sorted(msg.headers or {}))})

    async def work(msg: Any) -> None:
        await client.publish("worked", b"peer:" + msg.data)

    async def record(msg: Any) -> None:
        seen.append([msg.subject, msg.data.decode(), dict(msg.headers or {})])

    async def do(msg: Any) -> None:
        order = json.loads(msg.data)
        answer: Any = None
        if order["do"] == "publish":
            await client.publish(order["subject"], order["data"].encode(), headers=order.get("headers"))
        elif order["do"] == "request":
            reply = await client.request(order["subject"], order["data"].encode(), timeout=5, headers=order.get("headers"))
            answer = [reply.data.decode(), dict(reply.headers or {})]
        elif order["do"] == "seen":
            answer = list(seen)
        elif order["do"] == "end":
            over.set()
        await msg.respond(json.dumps(answer).encode())

    await client.subscribe("peer.echo", cb=echo)
    await client.subscribe("work", queue="workers", cb=work)
    await client.subscribe("record.>", cb=record)
    await client.subscribe("peer.do", cb=do)
    await client.flush()
    print("ready", flush=True)
    await over.wait()
    await client.drain()


class InteropTests(IntegrationTestCase):
    """A peer on nats-py in another process, and our client."""

    async def _start(self) -> tuple[Any, PeerProcess]:
        server = await self.start_server()
        peer = PeerProcess()
        process = self.reactor.spawnProcess(
            peer, sys.executable, [sys.executable, "-m", "tests.integration.test_interop", server.url], env=None, path=self._checkout()
        )
        self.addCleanup(self._end, process, peer)
        await peer.ready
        return await self.connect(server), peer

    @staticmethod
    def _checkout() -> str:
        from pathlib import Path

        return str(Path(__file__).resolve().parents[2])

    async def _end(self, process: Any, peer: PeerProcess) -> None:
        if not peer.ended.called:
            process.signalProcess("KILL")
            peer.ended.addErrback(lambda failure: None)
            await peer.ended

    async def _do(self, client: Any, **order: Any) -> Any:
        return json.loads((await client.request("peer.do", json.dumps(order).encode())).data)

    async def test_both_directions(self) -> None:
        """Plain messages, headers, requests and shared queue groups work from each client to the other."""
        client, peer = await self._start()

        # Plain, and headers with several values: the peer's dictionary keeps the last one, ours keeps all.
        await client.publish("record.plain", b"hello")
        await client.publish("record.headers", b"", headers=Headers([("A", "1"), ("A", "2"), ("b", "ü")]))
        await client.flush()
        seen = await self._do(client, do="seen")
        self.assertEqual(seen[0], ["record.plain", "hello", {}])
        self.assertEqual(seen[1][2], {"A": "2", "b": "ü"})

        back = client.subscribe("back.*")
        await back
        await self._do(client, do="publish", subject="back.plain", data="hello back")
        msg = await back.next(5)
        self.assertEqual((msg.subject, msg.data, dict(msg.headers)), ("back.plain", b"hello back", {}))
        await self._do(client, do="publish", subject="back.headers", data="x", headers={"Name": "värde", "Empty": ""})
        msg = await back.next(5)
        self.assertEqual(dict(msg.headers), {"Name": "värde", "Empty": ""})
        self.assertIsNone(msg.headers_problem)

        # Requests.
        reply = await client.request("peer.echo", b"ping", headers={"One": "1", "Two": "2"})
        self.assertEqual((reply.data, reply.headers["Seen"]), (b"ping from the peer", "One,Two"))

        async def respond(msg: Any) -> None:
            await msg.respond(msg.data + b" from us", headers={"Got": msg.headers.get("Q", "")})

        await client.subscribe("us.echo", respond)
        answer = await self._do(client, do="request", subject="us.echo", data="ping", headers={"Q": "q"})
        self.assertEqual(answer, ["ping from us", {"Got": "q"}])

        # Several values on the way back to us: a second subscription of ours sees what the server relays.
        multi = client.subscribe("multi")
        await multi
        await client.publish("multi", headers={"A": ["1", "2"], "a": "3"})
        msg = await multi.next(5)
        self.assertEqual(list(msg.headers.multi_items()), [("A", "1"), ("A", "2"), ("a", "3")])

        # A queue group with members of both: each message is worked on once, and both get some.
        worked = client.subscribe("worked")
        await client.subscribe("work", lambda msg: client.publish("worked", b"us:" + msg.data), queue="workers")
        await worked
        for number in range(200):
            await client.publish("work", b"%d" % number)
        results = [(await worked.next(5)).data.split(b":") for _ in range(200)]
        self.assertEqual(sorted(int(number) for _, number in results), list(range(200)))
        shares = Counter(who for who, _ in results)
        self.assertEqual(set(shares), {b"us", b"peer"})

        await self._do(client, do="end")
        await peer.ended


if __name__ == "__main__":
    asyncio.run(_peer(sys.argv[1]))
