"""Buckets that several servers have: each answers reads, and may lag a little."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream import JetStreamContext, StorageType
from pynats_twisted.jetstream.deferred import deferred
from pynats_twisted.keyvalue import KeyValue, KeyValueConfig
from tests.support.failing import failing
from tests.support.jetstream import JetStreamTestCase


class ReplicaTests(JetStreamTestCase):
    """A bucket with three replicas, and clients of different servers."""

    async def begin(self) -> list[KeyValue]:
        """Handles of one bucket, each through a server of its own."""
        cluster = await self.start_cluster(3, jetstream=True)
        clients = [await self.connect(server, ignore_discovered=True) for server in cluster.servers]
        contexts: list[JetStreamContext] = [client.jetstream(timeout=30.0) for client in clients]
        await contexts[0].create_key_value(KeyValueConfig(bucket="b", replicas=3, storage=StorageType.MEMORY))
        return [await js.key_value("b") for js in contexts]

    async def test_creating(self) -> None:
        """What was created or deleted a moment ago elsewhere counts, however far the server has come that answers reads."""
        one, two, three = await self.begin()
        for number in range(30):
            key = f"k.{number}"
            await one.create(key, b"1")
            self.assertEqual((await failing(two.create(key, b"2"), errors.KeyExistsError)).key, key)
            await three.delete(key)
            revision = await two.create(key, b"3")
            await failing(one.update(key, b"4", revision - 1), errors.WrongLastSequenceError)
            await one.update(key, b"4", revision)

    async def test_snapshots(self) -> None:
        """A snapshot, whose pages come from several servers, has no write without all that was written before it."""
        writer, reader, _ = await self.begin()
        pairs = 600
        over = False

        async def write(number: int, value: int) -> None:
            for side in "az":
                writer.js.publish_async(f"$KV.b.{side}.{number}", b"%d" % value)
            await writer.js.publish_async_room()

        for number in range(pairs):
            await write(number, 0)
        await writer.js.publish_async_complete()

        @deferred
        async def go_on() -> None:
            step = 0
            while not over:
                step += 1
                for number in range(step % 20, pairs, 20):
                    await write(number, step)
                await self.sleep(0.002)
            await writer.js.publish_async_complete()

        writing: Deferred[None] = go_on()
        try:
            last = 0
            for _ in range(15):
                snapshot = await reader.snapshot()
                self.assertGreaterEqual(snapshot.revision, last)
                last = snapshot.revision
                between = []
                for number in range(pairs):
                    first, second = snapshot[f"a.{number}"], snapshot[f"z.{number}"]
                    if first.value != second.value:
                        between.append(first.revision)
                self.assertIn(between, ([], [snapshot.revision]))
            self.assertGreater(last, 2 * pairs)
        finally:
            over = True
            await writing
