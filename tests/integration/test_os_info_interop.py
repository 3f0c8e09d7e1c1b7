"""What this client, nats-py and natsio keep of objects: each describes, renames, deletes and links what the other has put."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pynats_twisted import errors
from pynats_twisted.objectstore import ObjectInfo, ObjectLink, ObjectMeta
from tests.support.integration import PATIENCE
from tests.support.object_infos import ObjectInfoTestCase
from tests.support.peers import PeerProcess

ORDERS = "peer.do"

Call = Callable[[Any], Awaitable[Any]]


# --- the other side, in a process of its own -----------------------------------------------------------------


def _known(info: Any) -> dict[str, Any]:
    """What both of the others know of an object."""
    link = info.options.link if info.options is not None else None
    return {
        "name": info.name,
        "description": info.description or "",
        "headers": info.headers or {},
        "size": info.size or 0,
        "deleted": bool(info.deleted),
        "link": None if link is None else [link["bucket"], link.get("name")] if isinstance(link, dict) else [link.bucket, link.name],
    }


async def _nats_py(url: str) -> None:
    import nats
    from nats.js import api

    client = await nats.connect(url)
    store = await client.jetstream().object_store("B")

    async def put(order: Any) -> None:
        await store.put(order["name"], b"data", meta=api.ObjectMeta(description=order["description"], headers={"A": "1"}))

    async def describe(order: Any) -> None:
        await store.update_meta(
            order["name"], api.ObjectMeta(name=order["name"], description=order["description"], headers={"B": ["2", "3"]})
        )

    async def names(order: Any) -> list[str]:
        return [info.name for info in await store.list(ignore_deletes=True)]

    async def info(order: Any) -> Any:
        return _known(await store.get_info(order["name"], show_deleted=True))

    async def seen(order: Any) -> list[Any]:
        watcher = await store.watch()
        found = []
        async for one in watcher:
            if one is None:
                break
            found.append([one.name, bool(one.deleted)])
        await watcher.stop()
        return found

    async def delete(order: Any) -> None:
        await store.delete(order["name"])

    async def seal(order: Any) -> None:
        await store.seal()

    calls: dict[str, Call] = {"put": put, "describe": describe, "names": names, "info": info, "seen": seen, "delete": delete, "seal": seal}
    await _serve(client, calls)


async def _natsio(url: str) -> None:
    import natsio
    from natsio.objectstore.entities import ObjectMeta as TheirMeta

    client = await natsio.connect(url)
    store = await client.jetstream().object_store("B")

    async def put(order: Any) -> None:
        await store.put(TheirMeta(name=order["name"], description=order["description"], headers={"A": ["1"]}), b"data")

    async def describe(order: Any) -> None:
        meta = TheirMeta(name=order.get("new_name", order["name"]), description=order["description"], headers={"B": ["2", "3"]})
        await store.update_meta(order["name"], meta)

    async def names(order: Any) -> list[str]:
        return [info.name for info in await store.list()]

    async def info(order: Any) -> Any:
        return _known(await store.info(order["name"], show_deleted=True))

    async def seen(order: Any) -> list[Any]:
        found = []
        async with store.watch() as watcher:
            async for one in watcher:
                if one is None:
                    break
                found.append([one.name, bool(one.deleted)])
        return found

    async def delete(order: Any) -> None:
        await store.delete(order["name"])

    async def seal(order: Any) -> None:
        await store.seal()

    async def link(order: Any) -> None:
        await store.add_link(order["name"], await store.info(order["target"]))
        await store.add_bucket_link(order["name"] + " to all", "B")

    async def follow(order: Any) -> str:
        data: bytes = await store.get_bytes(order["name"])
        return data.decode()

    calls: dict[str, Call] = {"put": put, "describe": describe, "names": names, "info": info, "seen": seen, "delete": delete, "seal": seal}
    await _serve(client, {**calls, "link": link, "follow": follow})


async def _serve(client: Any, calls: dict[str, Call]) -> None:
    """Do what is told on ``peer.do``, until it is ``end``."""
    over = asyncio.Event()

    async def do(msg: Any) -> None:
        order = json.loads(msg.data)
        answer: dict[str, Any] = {}
        if order["do"] == "end":
            over.set()
        else:
            try:
                answer["result"] = await calls[order["do"]](order)
            except Exception as error:  # noqa: BLE001 - it is told to the test
                answer["error"] = repr(error)
        await msg.respond(json.dumps(answer).encode())

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

    class Cases(ObjectInfoTestCase):
        """
        :cvar peer: which one that is.
        """

        peer: str

        async def begin(self, **options: Any) -> None:
            await super().begin(**options)
            self.process = PeerProcess()
            command = [sys.executable, "-m", "tests.integration.test_os_info_interop", self.peer, self.nc.connected_url or ""]
            checkout = str(Path(__file__).resolve().parents[2])
            transport = self.reactor.spawnProcess(self.process, sys.executable, command, env=None, path=checkout)
            self.addCleanup(self._kill, transport)
            await self.process.ready

        async def _kill(self, transport: Any) -> None:
            if not self.process.ended.called:
                transport.signalProcess("KILL")
                self.process.ended.addErrback(lambda failure: None)
                await self.process.ended

        async def do(self, what: str, name: str = "", **order: Any) -> Any:
            request = json.dumps({"do": what, "name": name, **order}).encode()
            while True:
                try:
                    reply = await self.nc.request(ORDERS, request, timeout=2 * PATIENCE)
                    break
                except errors.NoRespondersError:
                    # It may have to connect again, on a busy machine.
                    if self.process.ended.called:
                        raise
                    await self.sleep(0.2)
            answer = json.loads(reply.data)
            if "error" in answer:
                raise AssertionError(answer["error"])
            return answer.get("result")

        async def end(self) -> None:
            await self.do("end")
            await self.process.ended

        async def test_theirs(self) -> None:
            """What they say of an object is read, and what is said of it here they read; chunks and digest stay."""
            await self.begin()
            await self.do("put", "x/ä", description="first")
            first = await self.store.info("x/ä")
            self.assertEqual((first.description, first.headers.get("A"), first.size, first.bucket), ("first", "1", 4, "B"))
            await self.do("describe", "x/ä", description="second")
            second = await self.store.info("x/ä")
            self.assertEqual((second.description, second.headers.get_all("B")), ("second", ["2", "3"]))
            self.assertEqual((second.nuid, second.digest, second.chunks), (first.nuid, first.digest, first.chunks))
            await self.store.update_meta("x/ä", ObjectMeta(name="y", description="third", headers={"C": "4"}))
            known = {"name": "y", "description": "third", "headers": {"C": ["4"]}, "size": 4, "deleted": False, "link": None}
            self.assertEqual(await self.do("info", "y"), known)
            self.assertEqual(await self.do("names"), ["y"])
            self.assertEqual(await self.store.get("y"), b"data")
            await self.end()

        async def test_ours(self) -> None:
            """They list, see, describe and delete what was put here."""
            await self.begin()
            made: dict[str, ObjectInfo] = {}
            for name in ("a", "b", "c"):
                made[name] = await self.store.put(ObjectMeta(name=name, description="d", headers={"A": "1"}, metadata={"k": "v"}), b"12345")
            await self.store.delete("c")
            known = {"name": "a", "description": "d", "headers": {"A": ["1"]}, "size": 5, "deleted": False, "link": None}
            self.assertEqual(await self.do("info", "a"), known)
            self.assertEqual((await self.do("info", "c"))["deleted"], True)
            self.assertEqual(await self.do("names"), ["a", "b"])
            self.assertEqual(await self.do("seen"), [["a", False], ["b", False], ["c", True]])
            await self.do("describe", "a", description="theirs")
            self.assertEqual((await self.store.info("a")).description, "theirs")
            await self.do("delete", "b")
            await self.assertFailure(self.store.info("b"), errors.ObjectNotFoundError)
            self.assertEqual([info.name for info in await self.store.list()], ["a"])
            self.assertEqual({info.name for info in await self.store.list(show_deleted=True)}, {"a", "b", "c"})
            await self.store.delete("b")
            await self.end()

        async def test_watching(self) -> None:
            """Their changes are seen here as they come."""
            await self.begin()
            async with self.store.watch() as watcher:
                self.assertIsNone(await watcher.next(PATIENCE))
                for order, deleted in (("put", False), ("describe", False), ("delete", True)):
                    await self.do(order, "x", description=order)
                    info = await watcher.next(PATIENCE)
                    assert info is not None
                    self.assertEqual((info.name, info.deleted), ("x", deleted))
            await self.end()

        async def test_sealed(self) -> None:
            """A store that they seal is sealed here: nobody can change it, and everybody read it."""
            await self.begin()
            await self.do("put", "x", description="d")
            await self.do("seal")
            self.assertTrue((await self.store.status()).sealed)
            await self.assertFailure(self.store.delete("x"), errors.SealedStreamError)
            self.assertEqual(await self.store.get("x"), b"data")
            with self.assertRaisesRegex(AssertionError, "sealed|BadRequest"):
                await self.do("delete", "x")
            await self.end()

        async def test_our_links(self) -> None:
            """They read where a link leads."""
            await self.begin()
            made = await self.store.put("x", b"12345")
            await self.store.add_link("l", made)
            self.assertEqual((await self.do("info", "l"))["link"], ["B", "x"])
            await self.store.add_bucket_link("all", self.store)
            self.assertIn((await self.do("info", "all"))["link"], (["B", None], ["B", ""]))
            self.assertEqual(await self.do("names"), ["x", "l", "all"])
            await self.end()


class NatsPyTests(_Peers.Cases):
    """A peer on nats-py, and our client."""

    peer = "nats-py"


if sys.version_info >= (3, 13):
    # It has no release for older ones.

    class NatsioTests(_Peers.Cases):
        """A peer on natsio, and our client."""

        peer = "natsio"

        async def test_their_links(self) -> None:
            """Links of theirs lead where they should here, and links of ours there; what they rename has its bytes here."""
            await self.begin()
            made = await self.store.put("x", b"12345")
            await self.do("link", "l", target="x")
            self.assertEqual((await self.store.info("l")).link, ObjectLink(bucket="B", name="x"))
            self.assertEqual((await self.store.info("l to all")).link, ObjectLink(bucket="B"))
            self.assertEqual(await self.store.get("l"), b"12345")
            await self.store.add_link("ours", made)
            self.assertEqual(await self.do("follow", "ours"), "12345")
            await self.do("describe", "x", new_name="y", description="d")
            self.assertEqual((await self.store.info("y")).nuid, made.nuid)
            await self.assertFailure(self.store.info("x"), errors.ObjectNotFoundError)
            await self.end()


if __name__ == "__main__":
    asyncio.run({"nats-py": _nats_py, "natsio": _natsio}[sys.argv[1]](sys.argv[2]))
