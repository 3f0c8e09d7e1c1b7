"""Objects in a cluster whose servers change their roles and are killed."""

from __future__ import annotations

from typing import Any

from pynats_twisted import errors
from tests.support.objects import CHUNK, Moments, ObjectTestCase, bytes_of, pieces_of


class ClusterTests(ObjectTestCase):
    async def test_leader_lost(self) -> None:
        """In a cluster, another server leads the store while an object is put, and then the leader is killed: the object is whole."""
        cluster = await self.start_cluster(3, jetstream=True)
        nc = await self.connect(cluster, reconnect_wait=0.05)
        await self.until_stable(nc.jetstream(timeout=10.0))
        store = await self.object_store(nc, replicas=3)
        data = bytes_of(100 * CHUNK)
        done = []

        async def step_down() -> None:
            try:
                await store.stream.leader_stepdown()
                done.append("stepped down")
            except errors.NatsError:
                # The answer may be lost in the change that it is about.
                done.append("perhaps stepped down")

        async def kill() -> None:
            info = await store.stream.info()
            leader = info.cluster.leader if info.cluster else ""
            names = [(await server.monitor("varz"))["server_name"] for server in cluster.servers]
            server = cluster.servers[names.index(leader)]
            await server.restart(kill=True)
            done.append("killed")

        put = store.put("o", pieces_of(data, size=CHUNK, at=Moments(20 * CHUNK, do=step_down)), timeout=60.0)
        await put
        moments = Moments(40 * CHUNK, do=kill)
        info = await store.put("o", pieces_of(data, size=CHUNK, at=moments), timeout=60.0)
        await moments.over()
        self.assertEqual((len(done), done[-1]), (2, "killed"))
        await self.assert_stored(store, info, data)
        self.assertTrue(await store.get("o") == data)

    async def until_stable(self, js: Any) -> None:
        """The cluster has elected who leads JetStream."""
        while True:
            try:
                await js.account_info()
                return
            except errors.NatsError:
                await self.sleep(0.1)

    async def test_read_at_once(self) -> None:
        """What was put a moment ago is found and read, also where the server that is asked lags behind the one that stored it."""
        cluster = await self.start_cluster(3, jetstream=True)
        nc = await self.connect(cluster)
        await self.until_stable(nc.jetstream(timeout=10.0))
        store = await self.object_store(nc, replicas=3)
        for number in range(40):
            data = bytes_of(number % 4 * CHUNK + number, number)
            await store.put(f"o{number}", data)
            self.assertTrue(await store.get(f"o{number}") == data)
            self.assertTrue(await store.get(f"o{number}", offset=number, length=CHUNK) == data[number : number + CHUNK])
        await self.assert_no_consumers(store)
