"""Watching keys with real servers: the ways to watch, and where None comes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from pynats_twisted import NatsClient, errors
from pynats_twisted.keyvalue import Base64KeyCodec, Base64ValueCodec, KeyValue, KeyValueEntry, Operation
from tests.support.watching import WatchedBucketTestCase, seen

DELETE, PURGE = Operation.DELETE, Operation.PURGE


class WatchingTests(WatchedBucketTestCase):
    """The ways to watch."""

    async def filled(self, nc: NatsClient | None = None, **config: Any) -> KeyValue:
        """``a`` twice, ``b.x``, ``b.y`` and ``c`` once, then ``c`` deleted: revisions 1 to 6."""
        kv = await self.bucket(nc, history=5, **config)
        for key, value in (("a", b"1"), ("a", b"2"), ("b.x", b"3"), ("b.y", b"4"), ("c", b"5")):
            await kv.put(key, value)
        await kv.delete("c")
        return kv

    async def test_the_last_entries_and_what_is_new(self) -> None:
        """The last entry of each key, None, and then every new one."""
        kv = await self.filled()
        async with kv.watch() as watcher:
            expected = [("a", b"2", 2), ("b.x", b"3", 3), ("b.y", b"4", 4), ("c", DELETE, 6), None]
            self.assertEqual(await self.take(watcher, 5), expected)
            await kv.put("b.x", b"7")
            await kv.purge("a")
            self.assertEqual(await self.take(watcher, 2), [("b.x", b"7", 7), ("a", PURGE, 8)])
            self.assertEqual(len(await self.js.consumer_names("KV_b")), 1)
        await self.assert_nothing_left()

    async def test_modes(self) -> None:
        """None comes once in every mode, where it belongs."""
        kv = await self.filled()
        a, c = ("a", b"2", 2), ("c", DELETE, 6)
        history = [("a", b"1", 1), a, ("b.x", b"3", 3), ("b.y", b"4", 4), ("c", b"5", 5), c]
        for patterns, options, expected in (
            ((), {"include_history": True}, [*history, None]),
            ((), {"updates_only": True}, [None]),
            ((), {"resume_from_revision": 4}, [*history[3:], None]),
            ((), {"resume_from_revision": 7}, [None]),
            ((), {"ignore_deletes": True}, [a, *history[2:4], None]),
            ((), {"meta_only": True}, [("a", b"", 2), ("b.x", b"", 3), ("b.y", b"", 4), c, None]),
            (("b.*",), {}, [*history[2:4], None]),
            (("a", "c", "nothing"), {}, [a, c, None]),
            (("a", "b.*", "b.x", "a"), {}, [a, *history[2:4], None]),
            (("b.*", "*.y"), {}, [*history[2:4], None]),
            (("nothing",), {}, [None]),
        ):
            watcher = kv.watch(*patterns, **options)
            self.assertEqual(await self.take(watcher, len(expected)), expected, (patterns, options))
            await watcher.initial_done
            await self.assertFailure(watcher.next(timeout=0.05), errors.NextMessageTimeoutError)
            if patterns != ("nothing",) and patterns != ("a", "c", "nothing"):
                await kv.put("b.y", b"9")
                value = b"" if "meta_only" in options else b"9"
                self.assertEqual(await self.take(watcher, 1), [("b.y", value, 7)], (patterns, options))
            await watcher.stop()
            await self.assert_nothing_left()
            await self.js.delete_key_value("b")
            kv = await self.filled(self.js.client)

    async def test_an_empty_bucket(self) -> None:
        """None comes at once where there is nothing."""
        kv = await self.bucket()
        async with kv.watch() as watcher:
            self.assertEqual(await self.take(watcher, 1), [None])
            await kv.put("k", b"v")
            self.assertEqual(await self.take(watcher, 1), [("k", b"v", 1)])

    async def test_options_that_contradict(self) -> None:
        """Two options that say where it begins are refused, and so are bad patterns and revisions, before anything is asked."""
        kv = await self.bucket()
        for options in (
            {"include_history": True, "updates_only": True},
            {"include_history": True, "resume_from_revision": 2},
            {"resume_from_revision": 0},
        ):
            self.assertRaises(errors.InvalidArgumentError, kv.watch, **options)
        for pattern in ("a b", "", "a..b", ">.a"):
            self.assertRaises(errors.InvalidKeyError, kv.watch, pattern)

    async def test_markers(self) -> None:
        """A key whose time has run out is seen as purged, where the bucket has markers."""
        kv = await self.bucket(limit_marker_ttl=60.0)
        watcher = await kv.watch("k")
        revision = await kv.create("k", b"v", ttl=1.0)
        self.assertEqual(await self.take(watcher, 3), [None, ("k", b"v", revision), ("k", PURGE, revision + 1)])
        await watcher.stop()

    async def test_codecs(self) -> None:
        """Patterns, keys and values go through the codecs; a value that they did not make raises, and the watch goes on behind it."""
        await self.bucket()
        kv = await self.js.key_value("b", key_codec=Base64KeyCodec(), value_codec=Base64ValueCodec())
        await kv.put("ä.ö", b"1")
        watcher = await kv.watch("ä.*")
        self.assertEqual(await self.take(watcher, 2), [("ä.ö", b"1", 1), None])
        await self.js.publish(kv.subjects.write("ä.ü"), b"\xff")
        await kv.put("ä.ö", b"3")
        await self.assertFailure(watcher.next(timeout=15), errors.KeyValueCodecError)
        self.assertEqual(await self.take(watcher, 1), [("ä.ö", b"3", 3)])
        await watcher.stop()

    async def test_a_handler(self) -> None:
        """A handler gets the same, one after the other."""
        kv = await self.filled()
        got: list[KeyValueEntry | None] = []
        context = kv.watch("b.*").consume(got.append)
        await self.until(lambda: len(got) == 3, 15)
        await kv.put("b.z", b"9")
        await self.until(lambda: len(got) == 4, 15)
        self.assertEqual(seen(got), [("b.x", b"3", 3), ("b.y", b"4", 4), None, ("b.z", b"9", 7)])
        await context.stop()
        await context.done
        await self.assert_nothing_left()

    async def test_a_fast_writer(self) -> None:
        """None comes although others write all the time, faster than this one reads."""
        kv = await self.filled()
        writer = await self.connect(self.js.client.connected_url or "")
        going = True

        async def write() -> None:
            number = 0
            while going:
                for _ in range(1000):
                    number += 1
                    writer.publish(f"$KV.b.fast.{number}", b"")
                await writer.flush()

        writing = Deferred.fromCoroutine(write())
        async with kv.watch() as watcher:
            await watcher
            count = 0
            async for entry in watcher:
                count += 1
                if entry is None or count == 200_000:
                    break
                if not count % 20:
                    await self.sleep(0.001)
        going = False
        await writing
        self.assertIsNone(entry)
