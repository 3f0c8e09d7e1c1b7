"""Objects that are put and got while servers are killed and connections cut: what is there is whole, and what is not leaves nothing."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import errors
from tests.support.objects import CHUNK, Moments, ObjectTestCase, bytes_of, pieces_of


class PutTests(ObjectTestCase):
    async def test_killed_servers(self) -> None:
        """A put goes on over kills of the server: the object has all its chunks, once and in order."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        store = await self.object_store(nc)
        data = bytes_of(100 * CHUNK + 1)

        async def kill() -> None:
            await server.restart(kill=True)

        moments = Moments(10 * CHUNK, 45 * CHUNK, 80 * CHUNK, do=kill)
        info = await store.put("o", pieces_of(data, at=moments), window=20 * CHUNK)
        self.assertEqual(await moments.over(), 3)
        await self.assert_stored(store, info, data)
        self.assertEqual(await store.get("o"), data)

    async def test_cut_connections(self) -> None:
        """Connections that break in the middle of chunks: none is lost, none is there twice."""
        server = await self.start_server(jetstream=True)
        proxy = await self.start_proxy(server)
        nc = await self.connect(proxy, reconnect_wait=0.01)
        store = await self.object_store(nc)
        data = bytes_of(120 * CHUNK + 77)

        cuts = iter([3 * CHUNK + 5, 17, CHUNK, 9 * CHUNK, 2 * CHUNK + 1, 100, 5 * CHUNK])

        async def cut() -> None:
            proxy.to_server.cut_after(next(cuts), "rst")

        moments = Moments(*(number * 15 * CHUNK for number in range(1, 8)), do=cut)
        info = await store.put("o", pieces_of(data, size=CHUNK, at=moments), window=16 * CHUNK)
        self.assertGreater(proxy.accepted, 4)
        await self.assert_stored(store, info, data)

    async def test_lost_acks(self) -> None:
        """The server stores chunks, and the connection is cut before their acks come: they are found, and not stored again."""
        server = await self.start_server(jetstream=True)
        proxy = await self.start_proxy(server)
        nc = await self.connect(proxy, reconnect_wait=0.01)
        store = await self.object_store(nc)
        data = bytes_of(40 * CHUNK)

        async def cut() -> None:
            proxy.to_client.cut_after(0, "rst")

        moments = Moments(10 * CHUNK, 20 * CHUNK, do=cut)
        info = await store.put("o", pieces_of(data, size=CHUNK, at=moments))
        await self.assert_stored(store, info, data)

    async def test_gone_for_too_long(self) -> None:
        """A server that stays away makes the put fail in its time; when it is back, nothing is left, and the old object is as it was."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server, reconnect_wait=0.05)
        store = await self.object_store(nc)
        old = await store.put("o", b"old")

        async def stop() -> None:
            await server.kill()

        moments = Moments(10 * CHUNK, do=stop)
        put = store.put("o", pieces_of(bytes_of(50 * CHUNK), at=moments), timeout=1.0)
        error = await self.assertFailure(put, errors.ObjectTimeoutError)
        self.assertIn("for 1 s nothing more was stored", str(error))
        await moments.over()
        await server.start()
        await nc.when_connected()
        deadline = self.reactor.seconds() + 30
        while (await self.state(store)).subjects.keys() - {f"$O.b.C.{old.nuid}", "$O.b.M.bw=="}:
            self.assertLess(self.reactor.seconds(), deadline, "there are chunks of the object that was not put")
            await self.sleep(0.05)
        self.assertEqual(await store.get("o"), b"old")


class FailedPutTests(ObjectTestCase):
    """Nothing is left of what was not put."""

    async def test_source_fails(self) -> None:
        """What the source raises is raised, and by then its chunks are gone."""
        nc = await self.jetstream()
        store = await self.object_store(nc)

        def fail(offset: int) -> None:
            if offset > 20 * CHUNK:
                raise ZeroDivisionError("no more")

        await self.assertFailure(store.put("o", pieces_of(bytes_of(30 * CHUNK), at=fail)), ZeroDivisionError)
        self.assertEqual((await self.state(store)).subjects, {})

    async def test_cancelled(self) -> None:
        """A put that is cancelled ends at once, and its chunks are removed."""
        nc = await self.jetstream()
        store = await self.object_store(nc)
        never: Deferred[None] = Deferred()
        put = store.put("o", pieces_of(bytes_of(30 * CHUNK), at=lambda offset: never if offset > 20 * CHUNK else None))
        await self.until(lambda: nc.stats.out_msgs > 15)
        put.cancel()
        self.failureResultOf(put, CancelledError)
        await self.assert_no_chunks(store)

    async def test_full(self) -> None:
        """A store that is full refuses the object, and keeps nothing of it."""
        nc = await self.jetstream()
        store = await self.object_store(nc, max_bytes=10 * CHUNK)
        await self.assertFailure(store.put("o", bytes_of(30 * CHUNK)), errors.StreamStoreError)
        self.assertEqual((await self.state(store)).subjects, {})

    async def test_client_closed(self) -> None:
        """When the client is closed in the middle of a put, the server is asked to remove the chunks."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        store = await self.object_store(nc)
        never: Deferred[None] = Deferred()
        put = store.put("o", pieces_of(bytes_of(30 * CHUNK), at=lambda offset: never if offset > 20 * CHUNK else None))
        # Nobody waits for those that are on their way when the client ends.
        while (await self.state(store)).messages < 20:
            await self.sleep(0.02)
        await nc.close()
        never.callback(None)
        await self.assertFailure(put, errors.ConnectionClosedError)
        other = await self.connect(server)
        await self.assert_no_chunks(await other.jetstream().object_store("b"))

    async def test_others_win(self) -> None:
        """Two puts of one name at the same time: one object is there in the end, whole, and no chunk of the other."""
        nc = await self.jetstream()
        store = await self.object_store(nc)
        contents = [bytes_of(10 * CHUNK, seed) for seed in range(6)]
        puts = [store.put("o", content) for content in contents]
        infos = [await put for put in puts]
        last = await store.info("o")
        (winner,) = (number for number, info in enumerate(infos) if info.nuid == last.nuid)
        self.assertEqual(await store.get("o"), contents[winner])
        await self.assert_stored(store, last, contents[winner])


class GetTests(ObjectTestCase):
    async def test_killed_servers(self) -> None:
        """A get goes on over kills of the server, and leaves no consumer."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        store = await self.object_store(nc)
        data = bytes_of(200 * CHUNK + 3)
        await store.put("o", data)

        async def kill() -> None:
            await server.restart(kill=True)

        moments = Moments(20 * CHUNK, 120 * CHUNK, do=kill)
        found = bytearray()
        async with await store.open("o") as reader:
            async for piece in reader:
                found += piece
                moments(len(found))
                await self.sleep(0.0)
        self.assertEqual(await moments.over(), 2)
        self.assertTrue(found == data)
        await self.assert_no_consumers(store)

    async def test_cut_connections(self) -> None:
        """A connection that breaks again and again: all bytes come, once and in order."""
        server = await self.start_server(jetstream=True)
        proxy = await self.start_proxy(server)
        nc = await self.connect(proxy, reconnect_wait=0.01)
        store = await self.object_store(nc)
        data = bytes_of(150 * CHUNK + 3)
        await store.put("o", data)

        async def cut() -> None:
            proxy.to_client.cut_after(CHUNK + 11, "rst")

        moments = Moments(10 * CHUNK, 60 * CHUNK, 100 * CHUNK, do=cut)
        found = bytearray()
        async with await store.open("o") as reader:
            async for piece in reader:
                found += piece
                moments(len(found))
        self.assertTrue(found == data)
        await self.assert_no_consumers(store)
