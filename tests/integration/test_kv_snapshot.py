"""Snapshots of a bucket: all keys as they were at one revision, however much is written meanwhile."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.deferred import deferred
from pynats_twisted.keyvalue import Snapshot
from tests.support.failing import failing

from .test_kv_bucket import BucketTestCase


class QuietTests(BucketTestCase):
    """Snapshots of what nobody writes to."""

    async def test_whole_bucket(self) -> None:
        """A snapshot has the last value of each key that has one, and the revision that was the last."""
        await self.begin(history=3)
        for number in range(4):
            await self.kv.put(f"k.{number}", b"old")
            await self.kv.put(f"k.{number}", b"%d" % number)
        await self.kv.delete("k.1")
        last = await self.kv.purge("k.2")
        snapshot = await self.kv.snapshot()
        self.assertEqual({key: entry.value for key, entry in snapshot.items()}, {"k.0": b"0", "k.3": b"3"})
        self.assertEqual((snapshot.revision, snapshot.bucket, len(snapshot), "k.1" in snapshot), (last, "b", 2, False))

    async def test_patterns(self) -> None:
        """Only keys that match one of the patterns are in it, each once."""
        await self.begin()
        for key in ("a.1", "a.2", "b.1", "c.1.x"):
            await self.kv.put(key, key.encode())
        self.assertEqual(set(await self.kv.snapshot("a.*")), {"a.1", "a.2"})
        self.assertEqual(set(await self.kv.snapshot("a.*", "c.>", "a.1")), {"a.1", "a.2", "c.1.x"})
        self.assertEqual(set(await self.kv.snapshot("b.1")), {"b.1"})
        error = await failing(self.kv.snapshot(*[f"k.{number}" for number in range(1025)]), errors.InvalidArgumentError)
        self.assertIn("1024", str(error))

    async def test_nothing_there(self) -> None:
        """A snapshot of an empty bucket, or of keys that are not there, is empty and has the revision 0."""
        await self.begin()
        empty = await self.kv.snapshot()
        self.assertEqual((dict(empty), empty.revision), ({}, 0))
        await self.kv.put("k", b"")
        nothing = await self.kv.snapshot("x.>", "y")
        self.assertEqual((dict(nothing), nothing.revision), ({}, 0))

    async def test_last_message_is_gone(self) -> None:
        """It ends as well where what was written last is not there any more, and where others than the wanted keys were written last."""
        await self.begin()
        await self.kv.put("a", b"1")
        await self.kv.put("b", b"2")
        await self.kv.put("c", b"3")
        await self.kv.stream.purge(filter="$KV.b.c")
        self.assertEqual(set(await self.kv.snapshot()), {"a", "b"})
        self.assertEqual(set(await self.kv.snapshot("a")), {"a"})

    async def test_thousands_of_keys(self) -> None:
        """More keys than a server answers with at once are all in it."""
        await self.begin()
        for number in range(2500):
            self.js.publish_async(f"$KV.b.k.{number}", b"%d" % number)
            await self.js.publish_async_room()
        await self.js.publish_async_complete()
        snapshot = await self.kv.snapshot()
        self.assertEqual({key: int(entry.value) for key, entry in snapshot.items()}, {f"k.{number}": number for number in range(2500)})
        self.assertEqual(snapshot.revision, 2500)


class BusyTests(BucketTestCase):
    """Snapshots while others write."""

    async def begin_writing(self, pairs: int, *, history: int = 1, fillers: int = 0) -> None:
        """Write to each pair of keys, first ``a`` and then ``z``, the same growing number, again and again, as fast as it goes."""
        await self.begin(history=history)
        other = (await self.connect(self._logged[0])).jetstream(timeout=30.0)
        self.writes = 0
        self.over = False
        for number in range(fillers):
            other.publish_async(f"$KV.b.f.{number}", b"")
            await other.publish_async_room()
        for number in range(pairs):
            for side in "az":
                other.publish_async(f"$KV.b.{side}.{number}", b"0")
                await other.publish_async_room()
        await other.publish_async_complete()

        @deferred
        async def write() -> None:
            chosen = random.Random(1)
            counts = [0] * pairs
            while not self.over:
                number = chosen.randrange(pairs)
                counts[number] += 1
                for side in "az":
                    # Not waited for: they are stored in this order.
                    other.publish_async(f"$KV.b.{side}.{number}", b"%d" % counts[number])
                    self.writes += 1
                await other.publish_async_room()
                if self.writes % 20 == 0:
                    await self.sleep(0.001)
            await other.publish_async_complete()

        self.writing: Deferred[None] = write()
        self.addCleanup(self.end_writing)

    async def end_writing(self) -> None:
        self.over = True
        await self.writing

    def check(self, snapshot: Snapshot, pairs: int) -> None:
        """No write is seen without all that was written before it."""
        revisions = [entry.revision for entry in snapshot.values()]
        self.assertLessEqual(max(revisions), snapshot.revision)
        self.assertIn(snapshot.revision, revisions)
        between = []
        for number in range(pairs):
            a, z = snapshot[f"a.{number}"], snapshot[f"z.{number}"]
            difference = int(a.value) - int(z.value)
            self.assertIn(difference, (0, 1), f"{a!r} {a.value!r}, {z!r} {z.value!r}, at {snapshot.revision}")
            if difference:
                between.append(a.revision)
        # The writer is between two keys of at most one pair, and then has just written the first one.
        self.assertIn(between, ([], [snapshot.revision]))

    async def take(self, times: int, pairs: int, *patterns: str) -> None:
        before, seen = self.writes, []
        for _ in range(times):
            snapshot = await self.kv.snapshot(*patterns)
            self.check(snapshot, pairs)
            seen.append(snapshot.revision)
        self.assertEqual(seen, sorted(seen))
        self.assertGreater(self.writes - before, times)

    async def test_one_value_of_each_key(self) -> None:
        """Where a write leaves nothing of the value before, a snapshot has each key as it was at its revision."""
        await self.begin_writing(20)
        await self.take(40, 20)

    async def test_with_a_history(self) -> None:
        """The same in a bucket with a history."""
        await self.begin_writing(20, history=10)
        await self.take(40, 20)

    async def test_several_pages(self) -> None:
        """The same when the keys come in several pages, between which others write: the two of a pair are never on the same one."""
        await self.begin_writing(1500)
        await self.take(10, 1500)

    async def test_of_patterns(self) -> None:
        """The same for several patterns, while other keys are written to as well."""
        await self.begin_writing(20, fillers=100)
        await self.take(30, 20, "a.*", "z.*")


class FaultTests(BucketTestCase):
    """Snapshots that cannot be had."""

    async def test_cancelled(self) -> None:
        """A snapshot that is cancelled leaves nothing behind, and the bucket works."""
        await self.begin()
        await self.kv.put("k", b"")
        for turns in range(6):
            waiting: Any = self.kv.snapshot()
            for _ in range(turns):
                await self.sleep(0)
            if waiting.called:
                break
            waiting.cancel()
            await failing(waiting, CancelledError)
        self.assertEqual(set(await self.kv.snapshot()), {"k"})
