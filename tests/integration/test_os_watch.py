"""The objects of a store on real servers, watched and listed."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.api import StorageType
from pynats_twisted.objectstore.config import ObjectStoreConfig
from pynats_twisted.objectstore.info import ObjectInfo, ObjectMeta
from pynats_twisted.objectstore.names import chunk_subject, meta_subject
from pynats_twisted.objectstore.watch import ObjectWatcher
from tests.support.integration import PATIENCE
from tests.support.object_infos import ObjectInfoTestCase


class WatchingTestCase(ObjectInfoTestCase):
    """A test in which consumers are counted."""

    async def consumers(self) -> int:
        """How many consumers the store's stream has."""
        return len(await self.js.consumer_names("OBJ_B"))

    async def none_is_left(self) -> None:
        """Wait until the stream has no consumer."""
        deadline = self.reactor.seconds() + PATIENCE
        while await self.consumers():
            self.assertLess(self.reactor.seconds(), deadline, "a consumer was left behind")
            await self.sleep(0.02)


class ListTests(WatchingTestCase):
    """list()."""

    async def test_all_objects(self) -> None:
        """Each object and link comes once, with ``await`` and with ``async for``; chunks and deleted ones do not."""
        await self.begin()
        made = {name: await self.put_by_hand(name, b"1", b"2") for name in ("a", "b/c", "ä ö")}
        made["l"] = await self.store.add_link("l", made["a"])
        await self.put_by_hand("gone", b"3")
        await self.store.delete("gone")
        listed = await self.store.list()
        expected = sorted((replace(info, modified=None) for info in made.values()), key=lambda info: info.name)
        self.assertEqual(sorted((replace(info, modified=None) for info in listed), key=lambda info: info.name), expected)
        self.assertTrue(all(info.modified is not None for info in listed))
        self.assertEqual(sorted([info.name async for info in self.store.list()]), ["a", "b/c", "l", "ä ö"])
        await self.none_is_left()

    async def test_deleted_ones(self) -> None:
        """They come when they are asked for."""
        await self.begin()
        await self.put_by_hand("a")
        await self.put_by_hand("gone")
        await self.store.delete("gone")
        found = {info.name: info.deleted for info in await self.store.list(show_deleted=True)}
        self.assertEqual(found, {"a": False, "gone": True})

    async def test_none(self) -> None:
        """An empty store has an empty list, and one with nothing but what was deleted."""
        await self.begin()
        self.assertEqual(await self.store.list(), [])
        await self.put_by_hand("gone")
        await self.store.delete("gone")
        self.assertEqual(await self.store.list(), [])
        self.assertEqual([info async for info in self.store.list()], [])

    async def test_many(self) -> None:
        """A thousand objects, and nothing is lost between pages."""
        await self.begin()
        for number in range(1000):
            info = ObjectInfo(name=f"object {number}", bucket="B", nuid=f"N{number}")
            await self.js.publish_async_room()
            self.js.publish_async(meta_subject("B", info.name), b'{"nuid":"N%d"}' % number)
        await self.js.publish_async_complete(PATIENCE)
        self.assertEqual(len(await self.stored()), 1000)
        listed = await self.store.list()
        self.assertEqual([(info.name, info.nuid) for info in listed], [(f"object {number}", f"N{number}") for number in range(1000)])

    async def test_left_early(self) -> None:
        """Who leaves the loop and stops it, or cancels, leaves nothing behind."""
        await self.begin()
        for name in "abc":
            await self.put_by_hand(name)
        async with self.store.list() as listing:
            async for info in listing:
                self.assertEqual(info.name, "a")
                break
        self.assertEqual([info async for info in listing], [])
        await self.none_is_left()
        listing = self.store.list()
        waiting = listing.collect()
        waiting.addErrback(lambda failure: None)
        waiting.cancel()
        await waiting
        await self.none_is_left()
        self.assertEqual(await listing, [])
        listing = self.store.list()
        first = Deferred.fromCoroutine(listing.__anext__())
        first.addErrback(lambda failure: failure.trap(CancelledError))
        first.cancel()
        await first
        await self.none_is_left()
        self.assertEqual([info async for info in listing], [])

    async def test_changed_meanwhile(self) -> None:
        """An object that is changed while the list is read comes once."""
        await self.begin()
        made = [await self.put_by_hand(name) for name in "abc"]
        listing = self.store.list()
        first = await listing.__anext__()
        for info in made:
            await self.store.update_meta(info.name, replace(info.meta, description="new"))
        names = [first.name, *[info.name async for info in listing]]
        self.assertEqual(sorted(names), ["a", "b", "c"])

    async def test_damaged(self) -> None:
        """An object that cannot be read is an error that names it; a loop may go on behind it."""
        await self.begin()
        await self.put_by_hand("a")
        await self.js.publish(meta_subject("B", "broken"), b"[]")
        await self.put_by_hand("c")
        error = await self.error_of(self.store.list().collect(), errors.JetStreamDecodeError)
        self.assertIn("object 'broken'", str(error))
        await self.none_is_left()
        listing = self.store.list()
        found: list[str] = []
        while True:
            try:
                found.append((await listing.__anext__()).name)
            except errors.JetStreamDecodeError:
                found.append("?")
            except StopAsyncIteration:
                break
        self.assertEqual(found, ["a", "?", "c"])

    async def test_a_store_that_is_gone(self) -> None:
        """It is no empty list."""
        await self.begin()
        await self.js.delete_object_store("B")
        await self.assertFailure(self.store.list().collect(), errors.StreamNotFoundError)


class WatchTests(WatchingTestCase):
    """watch()."""

    async def seen(self, watcher: ObjectWatcher, count: int) -> list[tuple[str, str] | None]:
        """What comes next: names with descriptions, or "deleted"."""
        taken = [await watcher.next(PATIENCE) for _ in range(count)]
        return [None if info is None else (info.name, "deleted" if info.deleted else info.description) for info in taken]

    async def test_what_there_is_and_what_comes(self) -> None:
        """First all there is, then None, then each change as it comes; nothing is left behind."""
        await self.begin()
        await self.put_by_hand("a", b"1", description="1")
        await self.put_by_hand("gone")
        await self.store.delete("gone")
        async with self.store.watch() as watcher:
            self.assertEqual(await self.seen(watcher, 3), [("a", "1"), ("gone", "deleted"), None])
            # Each is taken before the next is made: of two changes of one object the store keeps the last one only.
            made = await self.put_by_hand("b", b"1", description="2")
            self.assertEqual(await self.seen(watcher, 1), [("b", "2")])
            await self.store.update_meta("b", ObjectMeta(name="b", description="3"))
            self.assertEqual(await self.seen(watcher, 1), [("b", "3")])
            await self.store.add_link("l", made)
            self.assertEqual(await self.seen(watcher, 1), [("l", "")])
            await self.store.update_meta("b", ObjectMeta(name="c", description="4"))
            self.assertEqual(await self.seen(watcher, 1), [("c", "4")])
            await self.store.delete("a")
            self.assertEqual(await self.seen(watcher, 1), [("a", "deleted")])
        await self.none_is_left()

    async def test_modes(self) -> None:
        """Without what is deleted; only what is new; and nothing at all: None comes in each."""
        await self.begin()
        await self.put_by_hand("a", description="1")
        await self.put_by_hand("gone")
        await self.store.delete("gone")
        async with self.store.watch(ignore_deletes=True) as kept, self.store.watch(updates_only=True) as new:
            self.assertEqual(await self.seen(kept, 2), [("a", "1"), None])
            self.assertEqual(await self.seen(new, 1), [None])
            await self.store.delete("a")
            await self.put_by_hand("b", description="2")
            self.assertEqual(await self.seen(kept, 1), [("b", "2")])
            self.assertEqual(await self.seen(new, 2), [("a", "deleted"), ("b", "2")])
        empty = await self.js.create_object_store(ObjectStoreConfig(bucket="E", storage=StorageType.MEMORY))
        async with empty.watch() as watcher:
            self.assertIsNone(await watcher.next(PATIENCE))

    async def test_with_a_loop(self) -> None:
        """``async for`` hands out the same, and ends when it is stopped."""
        await self.begin()
        await self.put_by_hand("a")
        seen: list[str | None] = []
        watcher = self.store.watch()
        async for info in watcher:
            seen.append(None if info is None else info.name)
            if info is None:
                await self.put_by_hand("b")
            elif info.name == "b":
                watcher.stop()
        self.assertEqual(seen, ["a", None, "b"])
        await self.none_is_left()

    async def test_over_restarts(self) -> None:
        """While the server is restarted again and again, each change comes once and in order, and one consumer is there at the end."""
        server = await self.start_server(jetstream=True)
        self.nc = await self.connect(server, reconnect_wait=0.05)
        self.js = self.nc.jetstream(timeout=20.0)
        self.store = await self.js.create_object_store(ObjectStoreConfig(bucket="B"))
        await self.put_by_hand("0")
        async with self.store.watch() as watcher:
            self.assertEqual(await self.seen(watcher, 2), [("0", ""), None])
            expected: list[tuple[str, str] | None] = []
            for number in range(1, 4):
                await server.stop()
                await server.start()
                await self.nc.when_connected()
                for name in (f"{number}a", f"{number}b"):
                    await self.put_by_hand(name, b"1", description=str(number))
                    expected.append((name, str(number)))
            self.assertEqual(await self.seen(watcher, len(expected)), expected)
            self.assertEqual(await self.consumers(), 1)
        await self.none_is_left()

    async def test_a_changed_store_of_chunks(self) -> None:
        """Chunks are no changes of objects."""
        await self.begin()
        async with self.store.watch() as watcher:
            self.assertIsNone(await watcher.next(PATIENCE))
            for _ in range(10):
                await self.js.publish(chunk_subject("B", "N"), b"1")
            await self.put_by_hand("a")
            self.assertEqual(await self.seen(watcher, 1), [("a", "")])

    async def test_damaged(self) -> None:
        """What cannot be read is an error for who takes it, and the watch goes on."""
        await self.begin()
        async with self.store.watch(updates_only=True) as watcher:
            self.assertIsNone(await watcher.next(PATIENCE))
            await self.js.publish(meta_subject("B", "broken"), b"{")
            await self.put_by_hand("a")
            await self.assertFailure(watcher.next(PATIENCE), errors.JetStreamDecodeError)
            self.assertEqual(await self.seen(watcher, 1), [("a", "")])
