"""Other clients that work with a bucket ``b``, each in a process of its own: it does what it is told on the subject :data:`ORDERS`."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

ORDERS = "peer.do"

MISSING = "missing"


class NatsPy:
    """nats-py."""

    async def begin(self, url: str) -> None:
        import nats

        self.client: Any = await nats.connect(url)
        self.js = self.client.jetstream()

    async def serve(self, handle: Any) -> None:
        async def do(msg: Any) -> None:
            await msg.respond(await handle(msg.data))

        await self.client.subscribe(ORDERS, cb=do)
        await self.client.flush()

    async def end(self) -> None:
        await self.client.drain()

    async def make(self, order: Any) -> Any:
        self.kv: Any = await self.js.create_key_value(bucket="b", history=order["history"], limit_marker_ttl=order["marker"], direct=True)

    async def open(self, order: Any) -> Any:
        self.kv = await self.js.key_value("b")
        status = await self.kv.status()
        return [status.values, status.history]

    async def put(self, order: Any) -> Any:
        return await self.kv.put(order["key"], order["value"].encode())

    async def create(self, order: Any) -> Any:
        from nats.js.errors import KeyWrongLastSequenceError

        try:
            return await self.kv.create(order["key"], order["value"].encode(), msg_ttl=order.get("ttl"))
        except KeyWrongLastSequenceError:
            return "exists"

    async def update(self, order: Any) -> Any:
        from nats.js.errors import KeyWrongLastSequenceError

        try:
            return await self.kv.update(order["key"], order["value"].encode(), last=order["revision"])
        except KeyWrongLastSequenceError:
            return "wrong"

    async def delete(self, order: Any) -> Any:
        await self.kv.delete(order["key"])

    async def purge(self, order: Any) -> Any:
        await self.kv.purge(order["key"], msg_ttl=order.get("ttl"))

    async def get(self, order: Any) -> Any:
        from nats.js.errors import KeyNotFoundError

        try:
            entry = await self.kv.get(order["key"])
        except KeyNotFoundError:
            return MISSING
        return [entry.value.decode(), entry.revision]

    async def keys(self, order: Any) -> Any:
        from nats.js.errors import NoKeysError

        try:
            return sorted(await self.kv.keys())
        except NoKeysError:
            return []

    async def watch(self, order: Any) -> Any:
        """Watch until an entry with this key comes; the keys, values and operations up to it."""
        watcher = await self.kv.watch(order["pattern"])
        found = []
        while True:
            entry = await watcher.updates(timeout=20.0)
            if entry is not None:
                found.append([entry.key, (entry.value or b"").decode(), entry.operation or "PUT"])
                if entry.key == order["until"]:
                    break
        await watcher.stop()
        return found


class NatsIo(NatsPy):
    """natsio."""

    async def begin(self, url: str) -> None:
        import natsio

        self.client = await natsio.connect(url)
        self.js = self.client.jetstream()

    async def make(self, order: Any) -> Any:
        from natsio.kv import KeyValueConfig

        marker = timedelta(seconds=order["marker"]) if order["marker"] else None
        self.kv = await self.js.create_key_value(KeyValueConfig(bucket="b", history=order["history"], limit_marker_ttl=marker))

    async def create(self, order: Any) -> Any:
        from natsio.kv import KeyExistsError

        try:
            return await self.kv.create(order["key"], order["value"], ttl=order.get("ttl"))
        except KeyExistsError:
            return "exists"

    async def update(self, order: Any) -> Any:
        from natsio.jetstream.errors import WrongLastSequenceError

        try:
            return await self.kv.update(order["key"], order["value"], last=order["revision"])
        except WrongLastSequenceError:
            return "wrong"

    async def purge(self, order: Any) -> Any:
        await self.kv.purge(order["key"], ttl=order.get("ttl"))

    async def get(self, order: Any) -> Any:
        from natsio.kv import KeyNotFoundError

        try:
            entry = await self.kv.get(order["key"])
        except KeyNotFoundError:
            return MISSING
        return [entry.value.decode(), entry.revision]

    async def keys(self, order: Any) -> Any:
        return sorted(await self.kv.keys())

    async def watch(self, order: Any) -> Any:
        found = []
        async with self.kv.watch(order["pattern"]) as watcher:
            async for entry in watcher:
                if entry is not None:
                    found.append([entry.key, entry.value.decode(), str(entry.operation)])
                    if entry.key == order["until"]:
                        break
        return found


PEERS = {"nats-py": NatsPy, "natsio": NatsIo}


async def main(which: str, url: str) -> None:
    """Be this peer until it is told to end."""
    peer = PEERS[which]()
    over = asyncio.Event()

    async def handle(data: bytes) -> bytes:
        order = json.loads(data)
        if order["do"] == "end":
            over.set()
            return b"null"
        doing = asyncio.ensure_future(getattr(peer, order["do"])(order))
        await asyncio.wait([doing])
        error = doing.exception()
        return json.dumps(doing.result() if error is None else {"error": repr(error)}).encode()

    await peer.begin(url)
    await peer.serve(handle)
    print("ready", flush=True)
    await over.wait()
    await peer.end()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
