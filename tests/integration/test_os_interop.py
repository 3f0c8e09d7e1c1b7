"""Object stores of this client, of nats-py and of natsio: what one puts the others get, byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pynats_twisted import errors
from pynats_twisted.objectstore import ObjectInfo, ObjectMeta, ObjectStore
from tests.support.objects import CHUNK, ObjectTestCase, bytes_of
from tests.support.peers import PeerProcess

ORDERS = "peer.do"
SIZES = (0, 1, CHUNK, CHUNK + 1, 50 * 1024 * 1024)

Call = Callable[[Any], Awaitable[Any]]


# --- the other side, in a process of its own -----------------------------------------------------------------


def _bytes(order: Any) -> bytes:
    return random.Random(order["seed"]).randbytes(order["size"])


def _seen(data: bytes) -> list[Any]:
    return [len(data), hashlib.sha256(data).hexdigest()]


async def _nats_py(url: str) -> None:
    import nats
    from nats.js import api

    client = await nats.connect(url)
    js = client.jetstream()

    async def create(order: Any) -> None:
        await js.create_object_store(order["bucket"], config=api.ObjectStoreConfig(description="theirs"))

    async def put(order: Any) -> Any:
        store = await js.object_store(order["bucket"])
        meta = api.ObjectMeta(name=order["name"], description="theirs", headers={"Kind": "a"})
        if order.get("chunk_size"):
            meta.options = api.ObjectMetaOptions(max_chunk_size=order["chunk_size"])
        return (await store.put(order["name"], _bytes(order), meta=meta)).digest

    async def get(order: Any) -> Any:
        store = await js.object_store(order["bucket"])
        data = io.BytesIO()
        result = await store.get(order["name"], writeinto=data)
        return [*_seen(data.getvalue()), result.info.description or "", result.info.digest, result.info.chunks]

    async def delete(order: Any) -> None:
        await (await js.object_store(order["bucket"])).delete(order["name"])

    async def names(order: Any) -> list[str]:
        return [info.name for info in await (await js.object_store(order["bucket"])).list()]

    await _serve(client, {"create": create, "put": put, "get": get, "delete": delete, "names": names})


async def _natsio(url: str) -> None:
    import natsio
    from natsio.objectstore.entities import ObjectMeta as TheirMeta
    from natsio.objectstore.entities import ObjectStoreConfig as TheirConfig

    client = await natsio.connect(url)
    js = client.jetstream()

    async def create(order: Any) -> None:
        await js.create_object_store(TheirConfig(bucket=order["bucket"], description="theirs"))

    async def put(order: Any) -> Any:
        store = await js.object_store(order["bucket"])
        meta = TheirMeta(
            name=order["name"], description="theirs", headers={"Kind": ["a"]}, metadata={"m": "t"}, chunk_size=order.get("chunk_size")
        )
        return (await store.put(meta, _bytes(order))).digest

    async def get(order: Any) -> Any:
        store = await js.object_store(order["bucket"])
        async with store.get(order["name"]) as result:
            data = b"".join([piece async for piece in result])
            return [*_seen(data), result.info.description or "", result.info.digest, result.info.chunks]

    async def delete(order: Any) -> None:
        await (await js.object_store(order["bucket"])).delete(order["name"])

    async def names(order: Any) -> list[str]:
        return [info.name for info in await (await js.object_store(order["bucket"])).list()]

    await _serve(client, {"create": create, "put": put, "get": get, "delete": delete, "names": names})


async def _serve(client: Any, calls: dict[str, Call]) -> None:
    """Do what is told on ``peer.do``, until it is ``end``."""
    over = asyncio.Event()

    async def do(msg: Any) -> None:
        order = json.loads(msg.data)
        result = None
        if order["do"] == "end":
            over.set()
        else:
            try:
                result = await calls[order["do"]](order)
            except Exception as error:  # noqa: BLE001 - it is told to the test
                result = {"error": repr(error)}
        await msg.respond(json.dumps(result, default=str).encode())

    subscribed = client.subscribe(ORDERS, cb=do)
    if asyncio.iscoroutine(subscribed):
        await subscribed
    await client.flush()
    print("ready", flush=True)
    await over.wait()
    await client.drain()


# --- this side -----------------------------------------------------------------------------------------------


class _Peers:
    """What holds with each of the other clients."""

    class Cases(ObjectTestCase):
        """
        :cvar peer: which one that is.
        """

        peer: str

        async def begin(self) -> ObjectStore:
            server = await self.start_server(jetstream=True)
            self.nc = await self.connect(server)
            self.process = PeerProcess()
            command = [sys.executable, "-m", "tests.integration.test_os_interop", self.peer, server.url]
            checkout = str(Path(__file__).resolve().parents[2])
            transport = self.reactor.spawnProcess(self.process, sys.executable, command, env=None, path=checkout)
            self.addCleanup(self._kill, transport)
            await self.process.ready
            return await self.object_store(self.nc)

        async def _kill(self, transport: Any) -> None:
            if not self.process.ended.called:
                transport.signalProcess("KILL")
                self.process.ended.addErrback(lambda failure: None)
                await self.process.ended

        async def do(self, what: str, bucket: str = "b", **order: Any) -> Any:
            request = json.dumps({"do": what, "bucket": bucket, **order}).encode()
            answer = json.loads((await self.nc.request(ORDERS, request, timeout=120.0)).data)
            if isinstance(answer, dict):
                raise AssertionError(answer["error"])
            return answer

        async def end(self) -> None:
            await self.do("end")
            await self.process.ended

        def expected(self, info: ObjectInfo, data: bytes, description: str) -> list[Any]:
            return [len(data), hashlib.sha256(data).hexdigest(), description, info.digest, info.chunks]

        async def test_ours_to_theirs(self) -> None:
            """What we put the peer gets, of every size."""
            store = await self.begin()
            for size in SIZES:
                data = bytes_of(size, size)
                info = await store.put(ObjectMeta(name=f"o{size}", description="ours"), data)
                self.assertEqual(await self.do("get", name=f"o{size}"), self.expected(info, data, "ours"))
            await self.end()

        async def test_theirs_to_ours(self) -> None:
            """What the peer puts we get, of every size, also parts of it; their digest is ours."""
            store = await self.begin()
            for size in SIZES:
                data = bytes_of(size, size)
                digest = await self.do("put", name=f"o{size}", size=size, seed=size)
                info = await store.info(f"o{size}")
                self.assertEqual((info.digest, info.size, info.description), (digest, size, "theirs"))
                # The one knows no metadata.
                self.assertEqual((info.headers.get("Kind"), info.metadata), ("a", {} if self.peer == "nats-py" else {"m": "t"}))
                self.assertTrue(await store.get(f"o{size}") == data)
                self.assertTrue(await store.get(f"o{size}", offset=size // 3, length=1000) == data[size // 3 : size // 3 + 1000])
            await self.assert_no_consumers(store)
            await self.end()

        async def test_replacing(self) -> None:
            """An object is replaced and deleted by the one when the other has put it; no chunk stays. Names of any kind are understood."""
            store = await self.begin()
            name = "Ω/ü >*. x?=&"
            await store.put(name, bytes_of(3 * CHUNK))
            await self.do("put", name=name, size=2 * CHUNK, seed=2)
            await self.assert_stored(store, await store.info(name), bytes_of(2 * CHUNK, 2))
            info = await store.put(name, bytes_of(CHUNK, 3))
            await self.assert_stored(store, info, bytes_of(CHUNK, 3))
            self.assertEqual(await self.do("names"), [name])
            await self.do("delete", name=name)
            await self.assertFailure(store.get(name), errors.ObjectNotFoundError)
            await self.assert_no_chunks(store)
            await store.put(name, b"again")
            self.assertEqual((await self.do("get", name=name))[0], 5)
            await store.delete(name)
            with self.assertRaisesRegex(AssertionError, "NotFound|Deleted"):
                await self.do("get", name=name)
            await self.end()

        async def test_their_store(self) -> None:
            """A store that the peer made is used as one of our own, with chunks of their size."""
            await self.begin()
            await self.do("create", "theirs")
            store = await self.nc.jetstream().object_store("theirs")
            self.assertEqual((await store.status()).description, "theirs")
            data = bytes_of(10_500, 5)
            await self.do("put", "theirs", name="o", size=len(data), seed=5, chunk_size=1000)
            self.assertEqual((await store.info("o")).chunks, 11)
            self.assertEqual(await store.get("o"), data)
            self.assertEqual(await store.get("o", offset=3456, length=4000), data[3456:7456])
            info = await store.put(ObjectMeta(name="o2", max_chunk_size=700), data)
            self.assertEqual(await self.do("get", "theirs", name="o2"), self.expected(info, data, ""))
            await self.end()


class NatsPyTests(_Peers.Cases):
    """A peer on nats-py, and our client."""

    peer = "nats-py"


if sys.version_info >= (3, 13):
    # It has no release for older ones.

    class NatsioTests(_Peers.Cases):
        """A peer on natsio, and our client."""

        peer = "natsio"


if __name__ == "__main__":
    asyncio.run({"nats-py": _nats_py, "natsio": _natsio}[sys.argv[1]](sys.argv[2]))
