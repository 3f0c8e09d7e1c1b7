"""The keys, the histories and the markers of a bucket with real servers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.api import StreamSource
from pynats_twisted.keyvalue import KeyValueConfig, Operation
from tests.support.watching import WatchedBucketTestCase

PUT, DELETE = Operation.PUT, Operation.DELETE


class ListingTests(WatchedBucketTestCase):
    """Keys and histories."""

    async def test_keys(self) -> None:
        """The keys that have a value, each once; only those of a pattern; nothing stays at the server."""
        kv = await self.bucket(history=3)
        for key in ("a", "b.x", "b.y", "c", "d", "a"):
            await kv.put(key, b"v" * 1000)
        await kv.delete("c")
        await kv.purge("d")
        self.assertEqual(sorted(await kv.keys()), ["a", "b.x", "b.y"])
        self.assertEqual([key async for key in kv.keys("b.*", "c")], ["b.x", "b.y"])
        self.assertEqual(await kv.keys("nothing.>"), [])
        await self.assert_nothing_left()
        self.assertRaises(errors.InvalidKeyError, kv.keys, "a b")

    async def test_a_loop_over_keys_that_is_left(self) -> None:
        """A loop that is left early leaves nothing at the server."""
        kv = await self.bucket()
        for number in range(30):
            await kv.put(f"k{number}", b"")
        async for key in kv.keys():
            self.assertEqual(key, "k0")
            break
        await self.assert_nothing_left()

    async def test_history(self) -> None:
        """All that there is of a key, the oldest first, with how many newer ones there are; nothing of other keys."""
        kv = await self.bucket(history=3)
        for number in range(5):
            await kv.put("a", b"%d" % number)
            await kv.put("a.b", b"")
        await kv.delete("a")
        entries = await kv.history("a")
        self.assertEqual([(entry.value, entry.operation, entry.revision, entry.delta) for entry in entries], [
            (b"3", PUT, 7, 2),
            (b"4", PUT, 9, 1),
            (b"", DELETE, 11, 0),
        ])  # fmt: skip
        self.assertEqual(await kv.history("nothing"), [])
        await self.assertFailure(kv.history("a.*"), errors.InvalidKeyError)
        await self.assert_nothing_left()

    async def test_purge_deletes(self) -> None:
        """Old markers go with all that is before them; of young ones only what is before them goes; values stay."""
        kv = await self.bucket(history=5)
        for key in ("a", "b", "c"):
            await kv.put(key, b"1")
            await kv.put(key, b"2")
        await kv.delete("a")
        await kv.delete("b")
        self.assertEqual(await kv.purge_deletes(), 4)
        self.assertEqual((await kv.stream.info()).state.messages, 4)
        self.assertEqual([entry.operation for entry in await kv.history("a")], [DELETE])
        self.assertEqual(await kv.purge_deletes(3600), 0)
        await self.sleep(0.5)
        await kv.delete("c")
        self.assertEqual(await kv.purge_deletes(0.4), 4)
        self.assertEqual([await kv.history(key) for key in ("a", "b")], [[], []])
        self.assertEqual([entry.operation for entry in await kv.history("c")], [DELETE])
        self.assertEqual(await kv.purge_deletes(-1), 1)
        self.assertEqual((await kv.stream.info()).state.messages, 0)
        self.assertEqual(await kv.purge_deletes(), 0)
        for wrong in (float("nan"), "1", None):
            await self.assertFailure(kv.purge_deletes(wrong), errors.InvalidArgumentError)  # type: ignore[arg-type]
        await self.assert_nothing_left()

    async def test_purge_deletes_spares_what_is_written_meanwhile(self) -> None:
        """A key that gets a value between the look at its marker and the purge keeps that value."""
        kv = await self.bucket()
        await kv.delete("a")
        call, info = self.js.call, kv.stream.info

        async def put_and_call(kind: Any, subject: str, *args: Any, **options: Any) -> Any:
            if "STREAM.PURGE" in subject:
                await kv.put("a", b"new")
            return await call(kind, subject, *args, **options)

        self.patch(self.js, "call", lambda *args, **options: Deferred.fromCoroutine(put_and_call(*args, **options)))
        self.assertEqual(kv.stream.info, info)
        await kv.purge_deletes(0)
        self.assertEqual((await kv.get("a")).value, b"new")

    async def test_purge_deletes_of_a_mirror(self) -> None:
        """Through a mirror, markers go from the mirror and from its origin."""
        origin = await self.bucket(history=5)
        mirror = await self.js.create_key_value(KeyValueConfig(bucket="m", history=5, mirror=StreamSource(name="b")))
        await mirror.put("a", b"1")
        last = await mirror.delete("a")
        watcher = mirror.watch()
        while (await watcher.next(timeout=15)) is None or watcher.position < last:
            pass
        await watcher.stop()
        self.assertEqual(await mirror.purge_deletes(0), 2)
        self.assertEqual([await kv.history("a") for kv in (mirror, origin)], [[], []])

    async def test_many_deleted_keys(self) -> None:
        """Hundreds of markers go with a few requests at a time."""
        kv = await self.bucket()
        for number in range(300):
            await kv.delete(f"k.{number}")
        self.assertEqual(await kv.purge_deletes(0), 300)
        self.assertEqual((await kv.stream.info()).state.messages, 0)

    async def test_the_bucket_is_gone(self) -> None:
        """Everything that reads says that there is no bucket."""
        kv = await self.bucket()
        await self.js.delete_key_value("b")
        every: list[Deferred[Any]] = [kv.watch().next(), kv.watch().ready()]
        every += [kv.keys().collect(), kv.history("a"), kv.purge_deletes(), kv.cache()]
        for each in every:
            await self.assertFailure(each, errors.BucketNotFoundError)
