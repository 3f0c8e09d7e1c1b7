"""Buckets that this client and others work with at the same time: each reads, changes and watches what the other wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream import JetStreamContext
from pynats_twisted.jetstream.deferred import deferred
from pynats_twisted.keyvalue import KeyValueConfig, Operation
from tests.support.failing import failing
from tests.support.jetstream import JetStreamTestCase
from tests.support.kv_peers import MISSING, ORDERS
from tests.support.peers import PeerProcess


class Interop:
    """Holds the cases, which run for each peer: in here they are not found by themselves."""

    class Case(JetStreamTestCase):
        """A peer in another process, and our client."""

        which = ""

        async def begin(self) -> None:
            self.nc = await self.jetstream()
            self.js: JetStreamContext = self.nc.jetstream(timeout=30.0)
            self.peer = PeerProcess()
            command = [sys.executable, "-m", "tests.support.kv_peers", self.which, self.nc.connected_url or ""]
            checkout = str(Path(__file__).resolve().parents[2])
            process = self.reactor.spawnProcess(self.peer, sys.executable, command, env=None, path=checkout)
            self.addCleanup(self.end, process)
            await self.peer.ready

        async def end(self, process: Any) -> None:
            if not self.peer.ended.called:
                process.signalProcess("KILL")
                self.peer.ended.addErrback(lambda failure: None)
                await self.peer.ended

        @deferred
        async def do(self, what: str, **order: Any) -> Any:
            answer = json.loads((await self.nc.request(ORDERS, json.dumps({"do": what, **order}).encode(), timeout=30.0)).data)
            if isinstance(answer, dict):
                self.fail(f"{self.which} could not {what}: {answer['error']}")
            return answer

        async def bye(self) -> None:
            await self.do("end")
            await self.peer.ended

        async def test_our_bucket(self) -> None:
            """The peer finds a bucket that was made here, and reads, changes and removes keys; both see the same."""
            await self.begin()
            kv = await self.js.create_key_value(KeyValueConfig(bucket="b", history=3, limit_marker_ttl=30.0))
            self.assertEqual(await self.do("open"), [0, 3])
            await self.both_sides()
            await self.bye()
            self.assertEqual((await kv.status()).config.history, 3)

        async def test_their_bucket(self) -> None:
            """A bucket that the peer made is found here, with what it was made with, and both work with it."""
            await self.begin()
            await self.do("make", history=3, marker=30)
            status = await (await self.js.key_value("b")).status()
            self.assertEqual((status.history, status.limit_marker_ttl, status.config.max_bytes), (3, 30.0, -1))
            self.assertEqual(await self.js.key_value_names(), ["b"])
            await self.both_sides()
            await self.bye()

        async def both_sides(self) -> None:
            kv = await self.js.key_value("b")
            first = await kv.put("a.b", b"ours")
            self.assertEqual(await self.do("get", key="a.b"), ["ours", first])
            second = await self.do("update", key="a.b", value="theirs", revision=first)
            self.assertEqual(((await kv.get("a.b")).value, (await kv.get("a.b")).revision), (b"theirs", second))
            await failing(kv.update("a.b", b"", first), errors.WrongLastSequenceError)
            self.assertEqual(await self.do("update", key="a.b", value="x", revision=first), "wrong")
            await failing(kv.create("a.b", b""), errors.KeyExistsError)
            self.assertEqual(await self.do("create", key="a.b", value="x"), "exists")
            # Deleted there and made here, and the other way round; the same with a purge.
            await self.do("delete", key="a.b")
            error = await failing(kv.get("a.b"), errors.KeyDeletedError)
            self.assertIs(error.entry.operation, Operation.DELETE)
            await kv.create("a.b", b"again")
            await kv.delete("a.b")
            self.assertEqual(await self.do("get", key="a.b"), MISSING)
            await self.do("create", key="a.b", value="once more")
            self.assertEqual((await kv.get("a.b")).value, b"once more")
            await self.do("purge", key="a.b")
            error = await failing(kv.get("a.b"), errors.KeyDeletedError)
            self.assertIs(error.entry.operation, Operation.PURGE)
            await failing(kv.get("a.b", first), errors.KeyNotFoundError)
            await kv.create("a.b", b"last")
            await kv.put("c", b"")
            await kv.purge("c")
            self.assertEqual(await self.do("get", key="c"), MISSING)
            self.assertEqual(await self.do("keys"), ["a.b"])
            self.assertEqual(set(await kv.snapshot()), {"a.b"})
            self.assertEqual(await kv.keys(), ["a.b"])

        async def test_time_to_live(self) -> None:
            """A key that the peer made with a TTL runs out here, and the other way round; a purge with a TTL leaves nothing for either."""
            await self.begin()
            kv = await self.js.create_key_value(KeyValueConfig(bucket="b", limit_marker_ttl=30.0))
            await self.do("open")
            await self.do("create", key="theirs", value="1", ttl=1)
            await kv.create("ours", b"1", ttl=1.0)
            deadline = self.reactor.seconds() + 30.0
            while await kv.get_many(["theirs", "ours"]):
                self.assertLess(self.reactor.seconds(), deadline)
                await self.sleep(0.05)
            for key in ("theirs", "ours"):
                error = await failing(kv.get(key), errors.KeyDeletedError)
                self.assertIs(error.entry.operation, Operation.PURGE)
            self.assertIsInstance(await self.do("update", key="ours", value="2", revision=error.entry.revision), int)
            await kv.create("theirs", b"2")
            await self.do("purge", key="ours", ttl=1)
            await kv.purge("theirs", ttl=1.0)
            while (await kv.status()).values:
                self.assertLess(self.reactor.seconds(), deadline)
                await self.sleep(0.05)
            self.assertEqual(await self.do("get", key="theirs"), MISSING)
            await self.bye()

        async def test_watching(self) -> None:
            """Each sees in its watch what the other writes, deletes and purges, in order."""
            await self.begin()
            kv = await self.js.create_key_value(KeyValueConfig(bucket="b", history=5))
            await self.do("open")
            await kv.put("w.first", b"0")
            theirs: Deferred[Any] = self.do("watch", pattern="w.>", until="w.end")
            watcher = kv.watch("w.>")
            async with watcher:
                await watcher
                consumers = 0
                while consumers < 2:
                    consumers = (await kv.stream.info()).state.consumer_count
                    await self.sleep(0.02)
                await kv.put("w.a", b"1")
                await kv.delete("w.a")
                await kv.purge("w.a")
                await kv.put("w.end", b"2")
                wanted = [["w.first", "0", "PUT"], ["w.a", "1", "PUT"], ["w.a", "", "DEL"], ["w.a", "", "PURGE"], ["w.end", "2", "PUT"]]
                # A purge removes what was before it, which may not have been read by then.
                self.assertIn(await theirs, (wanted, [*wanted[:2], *wanted[3:]], [wanted[0], *wanted[3:]]))
                await self.do("put", key="w.b", value="3")
                await self.do("delete", key="w.b")
                await self.do("purge", key="w.b")
                await self.do("put", key="w.over", value="4")
                seen: list[list[str]] = []
                while not seen or seen[-1][0] != "w.over":
                    entry = await watcher.next(timeout=30.0)
                    if entry is not None:
                        seen.append([entry.key, entry.value.decode(), entry.operation.value])
            seen = [entry for entry in seen if entry[0] in ("w.b", "w.over")]
            wanted = [["w.b", "3", "PUT"], ["w.b", "", "DEL"], ["w.b", "", "PURGE"], ["w.over", "4", "PUT"]]
            self.assertIn(seen, (wanted, [wanted[0], *wanted[2:]], wanted[2:]))
            await self.bye()


class NatsPyTests(Interop.Case):
    """nats-py on the other side."""

    which = "nats-py"


if sys.version_info >= (3, 13):

    class NatsioTests(Interop.Case):
        """natsio on the other side, which needs Python 3.13."""

        which = "natsio"
