"""Object stores on real servers: what is kept of objects, and how it is changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from twisted.internet.defer import gatherResults

from pynats_twisted import errors
from pynats_twisted.jetstream.deferred import deferred
from pynats_twisted.jetstream.stored import StoredMsg
from pynats_twisted.objectstore.config import ObjectStoreConfig
from pynats_twisted.objectstore.info import ObjectInfo, ObjectLink, ObjectMeta
from pynats_twisted.objectstore.metas import TRIES, write_meta
from pynats_twisted.objectstore.names import chunk_subject, meta_subject
from pynats_twisted.protocol.headers import Headers
from tests.support.object_infos import ObjectInfoTestCase

Step = Callable[[], Awaitable[Any]]


class ChangingTestCase(ObjectInfoTestCase):
    """A test in which others change objects just when this client does."""

    def after_each_read(self, step: Callable[[int], Awaitable[Any]]) -> list[int]:
        """Call ``step`` with 1, 2 … each time after what is known of an object was read for a change, before anything is stored."""
        read = self.store.stream.get_last_msg
        calls: list[int] = []

        @deferred
        async def reading(subject: str, **options: Any) -> StoredMsg:
            if options.get("direct") is None:
                return await read(subject, **options)
            try:
                return await read(subject, **options)
            finally:
                calls.append(len(calls) + 1)
                await step(calls[-1])

        self.patch(self.store.stream, "get_last_msg", reading)
        return calls

    def before_first_purge(self, step: Step) -> None:
        """Await ``step`` when the store is about to remove messages for the first time."""
        purge = self.store.stream.purge
        done: list[bool] = []

        @deferred
        async def purging(*args: Any, **options: Any) -> int:
            if not done:
                done.append(True)
                await step()
            return await purge(*args, **options)

        self.patch(self.store.stream, "purge", purging)


class InfoTests(ObjectInfoTestCase):
    """info()."""

    async def test_what_is_stored_is_known(self) -> None:
        """Everything comes back, with the server's time and the revision."""
        await self.begin()
        before = datetime.now(timezone.utc)
        made = await self.put_by_hand(
            "a/b c ä", b"1", b"22", description="d", headers={"A": ["1", "2"]}, metadata={"k": "v"}, max_chunk_size=7
        )
        found = await self.store.info("a/b c ä")
        self.assertEqual(replace(found, modified=None), replace(made, modified=None))
        self.assertEqual((found.size, found.chunks, found.revision, found.headers.get_all("A")), (3, 2, 3, ["1", "2"]))
        assert found.modified is not None
        self.assertLess(abs((found.modified - before).total_seconds()), 60.0)

    async def test_what_there_is_not(self) -> None:
        """A missing object, a deleted one and a wrong name are told apart; a deleted one is shown when that is asked for."""
        await self.begin()
        error = await self.error_of(self.store.info("none"), errors.ObjectNotFoundError)
        self.assertEqual((error.name, str(error)), ("none", "there is no object 'none' in store 'B'"))
        await self.assertFailure(self.store.info(""), errors.InvalidArgumentError)
        await self.put_by_hand("x", b"1")
        await self.store.delete("x")
        error = await self.error_of(self.store.info("x"), errors.ObjectNotFoundError)
        self.assertEqual(str(error), "object 'x' of store 'B' was deleted")
        gone = await self.store.info("x", show_deleted=True)
        self.assertEqual((gone.deleted, gone.size, gone.chunks, gone.digest), (True, 0, 0, ""))

    async def test_damaged(self) -> None:
        """What another program broke is an error that names the object."""
        await self.begin()
        await self.js.publish(meta_subject("B", "x"), b"no JSON")
        error = await self.error_of(self.store.info("x"), errors.JetStreamDecodeError)
        self.assertIn("object 'x'", str(error))

    async def test_by_permission(self) -> None:
        """A user that may do no more than read can read."""
        users = [
            {"user": "all", "password": "x"},
            {
                "user": "reader",
                "password": "x",
                "permissions": {"publish": ["$JS.API.STREAM.INFO.OBJ_B", "$JS.API.DIRECT.GET.OBJ_B.>"], "subscribe": ["_INBOX.>"]},
            },
        ]
        server = await self.start_server({"authorization": {"users": users}}, jetstream=True)
        js = (await self.connect(server, user="all", password="x")).jetstream()
        self.store = await js.create_object_store(ObjectStoreConfig(bucket="B"))
        await write_meta(js, ObjectInfo(name="x", bucket="B", nuid="N", size=5), 0)
        reader = (await self.connect(server, user="reader", password="x")).jetstream(timeout=10.0)
        found = await (await reader.object_store("B")).info("x")
        self.assertEqual(found.size, 5)


class DeletingTests(ChangingTestCase):
    """delete()."""

    async def test_nothing_is_left(self) -> None:
        """The chunks go; only the sign that there was an object stays. Others are not touched."""
        await self.begin()
        await self.put_by_hand("x", b"1", b"2")
        other = await self.put_by_hand("y", b"3")
        await self.store.delete("x")
        self.assertEqual(await self.stored(), {meta_subject("B", "x"): 1, meta_subject("B", "y"): 1, chunk_subject("B", other.nuid): 1})

    async def test_deleting_again(self) -> None:
        """It changes nothing, and removes what an interrupted delete has left. What never was cannot be deleted."""
        await self.begin()
        made = await self.put_by_hand("x", b"1")
        await self.store.delete("x")
        gone = await self.store.info("x", show_deleted=True)
        await self.js.publish(chunk_subject("B", made.nuid), b"left")
        await self.store.delete("x")
        self.assertEqual(await self.store.info("x", show_deleted=True), gone)
        self.assertEqual(await self.stored(), {meta_subject("B", "x"): 1})
        await self.assertFailure(self.store.delete("y"), errors.ObjectNotFoundError)
        self.assertEqual(await self.stored(), {meta_subject("B", "x"): 1})

    async def test_replaced_meanwhile(self) -> None:
        """When the object was replaced in between, the new one is deleted, with its chunks."""
        await self.begin()
        first = await self.put_by_hand("x", b"1")

        async def replace_it(number: int) -> None:
            if number == 1:
                await self.put_by_hand("x", b"2", b"3", replaces=first.revision)

        calls = self.after_each_read(replace_it)
        await self.store.delete("x")
        self.assertEqual(calls, [1, 2])
        # The chunks of the first are those of the other's put to remove.
        self.assertEqual(await self.stored(), {meta_subject("B", "x"): 1, chunk_subject("B", first.nuid): 1})

    async def test_others_are_always_faster(self) -> None:
        """After 8 tries it says so, and has removed nothing."""
        await self.begin()
        last = [await self.put_by_hand("x", b"1")]

        async def change(number: int) -> None:
            last.append(await write_meta(self.js, last[-1], last[-1].revision))

        calls = self.after_each_read(change)
        error = await self.error_of(self.store.delete("x"), errors.ObjectChangedError)
        self.assertEqual((error.name, len(calls)), ("x", TRIES))
        self.assertEqual((await self.store.info("x")).nuid, last[0].nuid)
        self.assertEqual((await self.stored())[chunk_subject("B", last[0].nuid)], 1)


class DescribingTests(ChangingTestCase):
    """update_meta() with the same name."""

    async def test_description_headers_and_metadata(self) -> None:
        """They are replaced; everything else stays, and there is one message as before."""
        await self.begin()
        made = await self.put_by_hand("x", b"1", description="old", headers={"A": "1"}, metadata={"k": "v"}, max_chunk_size=9)
        meta = ObjectMeta(name="x", description="new", headers={"B": "2"}, metadata={"l": "w"})
        changed = await self.store.update_meta("x", meta)
        expected = replace(
            made, description="new", headers=Headers({"B": "2"}), metadata={"l": "w"}, revision=changed.revision, modified=None
        )
        self.assertEqual(replace(changed, modified=None), expected)
        self.assertEqual(replace(await self.store.info("x"), modified=None), expected)
        self.assertEqual((await self.stored())[meta_subject("B", "x")], 1)

    async def test_one_of_them(self) -> None:
        """An info's own meta can be given back with one thing changed, also that of a link."""
        await self.begin()
        made = await self.put_by_hand("x", b"1", description="d", headers={"A": "1"}, max_chunk_size=9)
        link = await self.store.add_link("l", made)
        for name, info in (("x", made), ("l", link)):
            changed = await self.store.update_meta(name, replace(info.meta, metadata={"new": "1"}))
            self.assertEqual(changed.meta, replace(info.meta, metadata={"new": "1"}))
            self.assertEqual((changed.nuid, changed.link, changed.max_chunk_size), (info.nuid, info.link, info.max_chunk_size))

    async def test_what_cannot_be_changed(self) -> None:
        """Chunk size and link, what was deleted and what never was."""
        await self.begin()
        await self.put_by_hand("x", b"1", max_chunk_size=9)
        for meta in (ObjectMeta(name="x", max_chunk_size=10), ObjectMeta(name="x", link=ObjectLink(bucket="C"))):
            error = await self.error_of(self.store.update_meta("x", meta), errors.InvalidArgumentError)
            self.assertIn("only a put can change it", str(error))
        await self.assertFailure(self.store.update_meta("x", "y"), errors.InvalidArgumentError)  # type: ignore[arg-type]
        await self.assertFailure(self.store.update_meta("y", ObjectMeta(name="y")), errors.ObjectNotFoundError)
        await self.store.delete("x")
        for name in ("x", "other"):
            await self.assertFailure(self.store.update_meta("x", ObjectMeta(name=name)), errors.ObjectNotFoundError)
        self.assertEqual(await self.stored(), {meta_subject("B", "x"): 1})

    async def test_at_the_same_time(self) -> None:
        """Of several that describe an object at once none is lost in a half state, and the object keeps its bytes."""
        await self.begin()
        made = await self.put_by_hand("x", b"1")
        metas = [ObjectMeta(name="x", description=str(number), metadata={"n": str(number)}) for number in range(4)]
        results = await gatherResults([self.store.update_meta("x", meta) for meta in metas])
        found = await self.store.info("x")
        self.assertEqual(found.revision, max(result.revision for result in results))
        self.assertEqual((found.description, found.nuid), (found.metadata["n"], made.nuid))

    async def test_a_change_of_another_is_kept(self) -> None:
        """What another stored in between is read again, and not overwritten with what there was before."""
        await self.begin()
        first = await self.put_by_hand("x", b"1")

        async def replace_it(number: int) -> None:
            if number == 1:
                await self.put_by_hand("x", b"2", b"3", replaces=first.revision)

        self.after_each_read(replace_it)
        changed = await self.store.update_meta("x", ObjectMeta(name="x", description="new"))
        self.assertNotEqual(changed.nuid, first.nuid)
        self.assertEqual((changed.size, changed.chunks, changed.description), (2, 2, "new"))


class RenamingTests(ChangingTestCase):
    """update_meta() with another name."""

    async def test_renaming(self) -> None:
        """The object has its bytes under the new name, and nothing has the old one."""
        await self.begin()
        made = await self.put_by_hand("x", b"1", description="d")
        renamed = await self.store.update_meta("x", replace(made.meta, name="y", description="e"))
        self.assertEqual((renamed.name, renamed.nuid, renamed.description), ("y", made.nuid, "e"))
        self.assertEqual(await self.stored(), {meta_subject("B", "y"): 1, chunk_subject("B", made.nuid): 1})
        await self.assertFailure(self.store.info("x", show_deleted=True), errors.ObjectNotFoundError)
        self.assertEqual((await self.store.info("y")).nuid, made.nuid)

    async def test_to_a_name_in_use(self) -> None:
        """It is refused, and both stay; the name of a deleted object may be used, and then back again."""
        await self.begin()
        made = await self.put_by_hand("x", b"1")
        other = await self.put_by_hand("y", b"2")
        error = await self.error_of(self.store.update_meta("x", ObjectMeta(name="y")), errors.ObjectExistsError)
        self.assertEqual(error.name, "y")
        self.assertEqual([(await self.store.info(name)).nuid for name in "xy"], [made.nuid, other.nuid])
        await self.store.delete("y")
        await self.store.update_meta("x", ObjectMeta(name="y"))
        await self.store.update_meta("y", ObjectMeta(name="x"))
        self.assertEqual(await self.stored(), {meta_subject("B", "x"): 1, chunk_subject("B", made.nuid): 1})

    async def test_an_interrupted_one(self) -> None:
        """When it stopped between its two steps, the same call brings it to its end."""
        await self.begin()
        made = await self.put_by_hand("x", b"1")

        async def stop() -> None:
            raise errors.RequestTimeoutError("no answer")

        self.before_first_purge(stop)
        await self.assertFailure(self.store.update_meta("x", ObjectMeta(name="y")), errors.RequestTimeoutError)
        self.assertEqual([(await self.store.info(name)).nuid for name in "xy"], [made.nuid, made.nuid])
        await self.store.update_meta("x", ObjectMeta(name="y", description="d"))
        self.assertEqual(await self.stored(), {meta_subject("B", "y"): 1, chunk_subject("B", made.nuid): 1})

    async def test_replaced_meanwhile(self) -> None:
        """When another put replaced the object in between, its new bytes are renamed: nothing leads to chunks that are gone."""
        await self.begin()
        first = await self.put_by_hand("x", b"1")
        second: list[ObjectInfo] = []

        async def replace_it() -> None:
            second.append(await self.put_by_hand("x", b"2", b"3", replaces=first.revision))
            await self.store.stream.purge(filter=chunk_subject("B", first.nuid))

        self.before_first_purge(replace_it)
        renamed = await self.store.update_meta("x", ObjectMeta(name="y"))
        self.assertEqual((renamed.nuid, renamed.size), (second[0].nuid, 2))
        self.assertEqual(await self.stored(), {meta_subject("B", "y"): 1, chunk_subject("B", second[0].nuid): 2})

    async def test_deleted_meanwhile(self) -> None:
        """When another deleted the object in between, there is none under the new name either."""
        await self.begin()
        await self.put_by_hand("x", b"1")
        other = await (await self.connect(self.nc.connected_url or "")).jetstream().object_store("B")
        self.before_first_purge(lambda: other.delete("x"))
        await self.assertFailure(self.store.update_meta("x", ObjectMeta(name="y")), errors.ObjectNotFoundError)
        self.assertEqual(await self.stored(), {meta_subject("B", "x"): 1})

    async def test_the_name_is_taken_meanwhile(self) -> None:
        """When another object gets the new name in between, it stays, and so does this one."""
        await self.begin()
        made = await self.put_by_hand("x", b"1")
        taken: list[ObjectInfo] = []

        async def take(number: int) -> None:
            if number == 2:
                taken.append(await self.put_by_hand("y", b"2"))

        self.after_each_read(take)
        await self.assertFailure(self.store.update_meta("x", ObjectMeta(name="y")), errors.ObjectExistsError)
        self.assertEqual([(await self.store.info(name)).nuid for name in "xy"], [made.nuid, taken[0].nuid])


class SentTwiceTests(ChangingTestCase):
    """Changes whose answer got lost with the connection, and which were sent again."""

    async def test_every_change(self) -> None:
        """The stream refuses what it has already, and that is not taken for somebody else's change: the call is done, once."""
        await self.begin()
        made = await self.put_by_hand("x", b"1")
        publish = self.js.publish
        refused: list[errors.NatsError] = []

        @deferred
        async def publish_twice(*args: Any, **options: Any) -> Any:
            answer = await publish(*args, **options)
            if not refused:
                try:
                    return await publish(*args, **options)
                except errors.WrongLastSequenceError as error:
                    refused.append(error)
                    raise
            return answer

        self.patch(self.js, "publish", publish_twice)
        changed = await self.store.update_meta("x", ObjectMeta(name="x", description="d"))
        self.assertEqual((changed.description, (await self.store.info("x")).revision), ("d", changed.revision))
        refused.clear()
        renamed = await self.store.update_meta("x", ObjectMeta(name="y", description="e"))
        self.assertEqual((renamed.name, renamed.nuid), ("y", made.nuid))
        refused.clear()
        link = await self.store.add_link("l", renamed)
        self.assertEqual((await self.store.info("l")).link, link.link)
        refused.clear()
        await self.store.delete("y")
        self.assertEqual(len(refused), 1)
        self.assertEqual(await self.stored(), {meta_subject("B", "y"): 1, meta_subject("B", "l"): 1})


class LinkTests(ObjectInfoTestCase):
    """add_link() and add_bucket_link()."""

    async def test_to_an_object(self) -> None:
        """A link says where it leads, in this store or another, and may replace another link and a deleted object."""
        await self.begin()
        made = await self.put_by_hand("x", b"1")
        other = await self.js.create_object_store(ObjectStoreConfig(bucket="C"))
        link = await other.add_link("l", made)
        self.assertEqual(
            (link.bucket, link.link, link.is_link, link.size, link.digest), ("C", ObjectLink(bucket="B", name="x"), True, 0, "")
        )
        self.assertEqual(replace(await other.info("l"), modified=None), replace(link, modified=None))
        again = await other.add_link("l", await self.put_by_hand("y"))
        self.assertEqual(again.link, ObjectLink(bucket="B", name="y"))
        await other.delete("l")
        await other.add_link("l", made)
        await self.store.delete("y")
        await self.store.add_link("y", made)
        self.assertEqual((await self.store.info("y")).link, ObjectLink(bucket="B", name="x"))
        self.assertEqual((await other.info("l")).link, ObjectLink(bucket="B", name="x"))

    async def test_to_a_store(self) -> None:
        """Such a link has no name of an object."""
        await self.begin()
        other = await self.js.create_object_store(ObjectStoreConfig(bucket="C"))
        link = await self.store.add_bucket_link("l", other)
        self.assertEqual((await self.store.info("l")).link, ObjectLink(bucket="C"))
        await self.assertFailure(self.store.add_bucket_link("m", "C"), errors.InvalidArgumentError)  # type: ignore[arg-type]
        await self.assertFailure(self.store.add_link("m", link), errors.ObjectLinkError)

    async def test_rules(self) -> None:
        """No link to a link or a deleted object, none over an object, and nothing is stored then."""
        await self.begin()
        made = await self.put_by_hand("x", b"1")
        link = await self.store.add_link("l", made)
        await self.assertFailure(self.store.add_link("m", link), errors.ObjectLinkError)
        error = await self.error_of(self.store.add_link("x", made), errors.ObjectExistsError)
        self.assertEqual(error.name, "x")
        await self.assertFailure(self.store.add_bucket_link("x", self.store), errors.ObjectExistsError)
        await self.assertFailure(self.store.add_link("m", "x"), errors.InvalidArgumentError)  # type: ignore[arg-type]
        await self.assertFailure(self.store.add_link("", made), errors.InvalidArgumentError)
        await self.store.delete("x")
        gone = await self.store.info("x", show_deleted=True)
        await self.assertFailure(self.store.add_link("m", gone), errors.ObjectLinkError)
        self.assertEqual(set(await self.stored()), {meta_subject("B", "x"), meta_subject("B", "l")})
