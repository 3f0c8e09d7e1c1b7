"""Watches whose server, connection or consumer is broken: all that is written is seen, and nothing stays behind."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.api import StreamConfig
from pynats_twisted.keyvalue import KeyValueEntry
from tests.support.watching import WatchedBucketTestCase


class HealingTests(WatchedBucketTestCase):
    """What is broken below a watch is mended."""

    async def test_ten_restarts(self) -> None:
        """
        Ten times the server is killed while somebody writes: every value that was written is seen, once and in order, None came once,
        one consumer is at the server in the end, and none after the watch was stopped.
        """
        server = await self.start_server(jetstream=True)
        options: dict[str, Any] = {"reconnect_wait": 0.05, "reconnect_jitter": 0.0, "reconnect_wait_max": 0.2}
        kv = await self.bucket(await self.connect(server, **options), history=64)
        writer = await (await self.connect(server, **options)).jetstream(timeout=1.0).key_value("b")
        written: list[tuple[str, int]] = []
        got: list[KeyValueEntry | None] = []
        going = True

        async def write() -> None:
            number = 0
            while going:
                number += 1
                try:
                    written.append((f"k.{number % 20}", await writer.put(f"k.{number % 20}", b"%d" % number)))
                except errors.NatsError:
                    # Not written, or nobody knows: it is not counted.
                    continue
                await self.sleep(0.005)

        watcher = kv.watch()
        context = watcher.consume(got.append)
        writing = Deferred.fromCoroutine(write())

        async def read_on() -> None:
            count = len(got)
            await self.until(lambda: len(got) > count + 20, 30, "reading on")

        for _ in range(10):
            await read_on()
            await server.restart(kill=True, down=0.05)
        await read_on()
        going = False
        await writing
        await self.until(lambda: got[-1] is not None and got[-1].revision >= written[-1][1], 30, "reading the last one")
        entries = [entry for entry in got if entry is not None]
        self.assertEqual(len(got) - len(entries), 1)
        revisions = [entry.revision for entry in entries]
        self.assertEqual(revisions, sorted(set(revisions)))
        self.assertEqual(set(written) - {(entry.key, entry.revision) for entry in entries}, set())
        self.assertGreaterEqual(watcher.resets, 10)
        self.assertEqual(len(await self.js.consumer_names("KV_b")), 1)
        await context.stop()
        await self.assert_nothing_left()

    async def test_the_consumer_is_deleted(self) -> None:
        """A consumer that is deleted by others before None was reached is replaced; None comes once."""
        kv = await self.bucket(history=4)
        for number in range(1500):
            await kv.js.client.publish(f"$KV.b.k.{number}", b"v")
        await kv.put("last", b"v")
        got: list[KeyValueEntry | None] = []
        async with kv.watch() as watcher:
            async for entry in watcher:
                got.append(entry)
                if len(got) == 100:
                    (name,) = await self.js.consumer_names("KV_b")
                    await self.js.delete_consumer("KV_b", name)
                if entry is None:
                    break
        self.assertEqual([entry and entry.revision for entry in got], [*range(1, 1502), None])
        self.assertEqual(watcher.resets, 1)
        await self.assert_nothing_left()

    async def test_a_bucket_that_is_made_anew(self) -> None:
        """A watch of a bucket that was deleted and made anew ends with an error, and does not wait for revisions that never come."""
        kv = await self.bucket()
        await kv.put("a", b"1")
        await kv.put("a", b"2")
        watcher = kv.watch()
        await self.take(watcher, 2)
        await self.js.delete_key_value("b")
        await self.bucket(self.js.client)
        await self.assertFailure(watcher.next(timeout=30), errors.StreamRecreatedError, errors.BucketNotFoundError)
        await watcher.stop()
        await self.assert_nothing_left()

    async def test_cancelling(self) -> None:
        """Who cancels a loop, a listing or the loading of a cache leaves nothing behind."""
        kv = await self.bucket()
        watcher = kv.watch("nothing")
        self.assertIsNone(await watcher.next(timeout=15))
        every: list[Deferred[Any]] = [Deferred.fromCoroutine(watcher.__anext__())]
        every += [kv.keys().collect(), kv.history("a"), kv.cache(), kv.purge_deletes()]
        for each in every:
            each.cancel()
            await self.assertFailure(each, CancelledError)
        for _ in range(200):
            if not await self.js.consumer_names("KV_b"):
                break
            await self.sleep(0.05)
        await self.assert_nothing_left()

    async def test_a_stream_that_is_no_bucket_of_ours(self) -> None:
        """Messages on other subjects of the stream are no keys, and are not asked for."""
        js = (await self.jetstream()).jetstream()
        await js.create_stream(StreamConfig(name="KV_b", subjects=["$KV.b.>", "other"], max_msgs_per_subject=1, allow_direct=True))
        await js.publish("other", b"")
        await js.publish("$KV.b.k", b"v")
        kv = await js.key_value("b")
        self.assertEqual(await kv.keys(), ["k"])
