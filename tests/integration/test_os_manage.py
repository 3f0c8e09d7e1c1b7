"""Object stores on real servers: made, changed, found, listed, sealed and deleted; in other domains and accounts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from socket import socket
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from pynats_twisted import errors
from pynats_twisted.jetstream.api import StorageType, StreamConfig
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.objectstore.config import ObjectStoreConfig
from pynats_twisted.objectstore.info import ObjectInfo, ObjectMeta
from pynats_twisted.objectstore.metas import write_meta
from pynats_twisted.objectstore.names import meta_subject
from tests.support.integration import PATIENCE
from tests.support.object_infos import ObjectInfoTestCase

MEMORY = StorageType.MEMORY


class MakingTests(ObjectInfoTestCase):
    """Making, changing, finding and deleting."""

    async def test_the_life_of_a_store(self) -> None:
        """It is made, made again, found, changed and deleted."""
        await self.begin(description="d")
        config = ObjectStoreConfig(bucket="B", storage=MEMORY, description="d")
        again = await self.js.create_object_store(config)
        self.assertEqual((again.bucket, again.stream.name), ("B", "OBJ_B"))
        found = await self.js.object_store("B")
        self.assertEqual((await found.status()).config, config)
        changed = await self.js.update_object_store(replace(config, description="e", ttl=3600.0, max_bytes=10**6))
        status = await changed.status()
        self.assertEqual((status.description, status.ttl, status.config.max_bytes), ("e", 3600.0, 10**6))
        await self.js.delete_object_store("B")
        await self.assertFailure(self.js.object_store("B"), errors.BucketNotFoundError)
        await self.assertFailure(self.js.delete_object_store("B"), errors.BucketNotFoundError)
        await self.assertFailure(self.js.update_object_store(config), errors.BucketNotFoundError)
        await self.assertFailure(found.info("x"), errors.StreamNotFoundError, errors.JetStreamNotEnabledError)

    async def test_another_configuration(self) -> None:
        """A store that is there with another configuration is not changed by making it; create_or_update does that, and makes it too."""
        await self.begin()
        other = ObjectStoreConfig(bucket="B", storage=MEMORY, description="other")
        error = await self.error_of(self.js.create_object_store(other), errors.BucketExistsError)
        self.assertIn("'B'", str(error))
        self.assertEqual((await self.store.status()).description, "")
        for config in (other, replace(other, bucket="C")):
            store = await self.js.create_or_update_object_store(config)
            self.assertEqual((await store.status()).config, config)

    async def test_what_breaks_a_rule(self) -> None:
        """It is refused here, with the name of the field or of the store."""
        await self.begin()
        for call in (self.js.create_object_store, self.js.update_object_store, self.js.create_or_update_object_store):
            await self.assertFailure(call(ObjectStoreConfig(bucket="a.b")), errors.JetStreamConfigError)
            await self.assertFailure(call(StreamConfig(name="OBJ_C")), errors.InvalidArgumentError)  # type: ignore[arg-type]
        for wrong in ("", "a.b", "a b", ">"):
            await self.assertFailure(self.js.object_store(wrong), errors.InvalidNameError)
            await self.assertFailure(self.js.delete_object_store(wrong), errors.InvalidNameError)

    async def test_a_stream_with_the_name_of_a_store(self) -> None:
        """A stream that is no store is not taken for one."""
        await self.begin()
        await self.js.create_stream(StreamConfig(name="OBJ_orders", subjects=["orders.>"], storage=MEMORY))
        error = await self.error_of(self.js.object_store("orders"), errors.BucketNotFoundError)
        self.assertIn("'OBJ_orders' is no object store", str(error))

    async def test_every_option(self) -> None:
        """The server takes all of them, and the status has them again."""
        await self.begin()
        config = ObjectStoreConfig(
            bucket="full", description="d", ttl=3600.0, max_bytes=10**6, storage=StorageType.FILE, compression=True, metadata={"a": "b"}
        )
        store = await self.js.create_object_store(config)
        status = await store.status()
        self.assertEqual(status.config, config)
        self.assertEqual(
            (status.bucket, status.description, status.metadata, status.ttl, status.storage, status.replicas, status.compressed),
            ("full", "d", {"a": "b"}, 3600.0, StorageType.FILE, 1, True),
        )
        self.assertEqual((status.sealed, status.size, status.backing_store), (False, 0, "JetStream"))
        await write_meta(self.js, ObjectInfo(name="x", bucket="full"), 0)
        self.assertGreater((await store.status()).size, 0)

    async def test_a_full_store(self) -> None:
        """What does not fit is refused, and nothing is lost for it."""
        await self.begin(max_bytes=1000)
        await self.put_by_hand("x", b"1")
        await self.assertFailure(self.put_by_hand("y", b"2" * 2000), errors.JetStreamApiError)
        self.assertEqual((await self.store.info("x")).size, 1)


class ListingTests(ObjectInfoTestCase):
    """object_stores() and object_store_names()."""

    async def test_only_stores(self) -> None:
        """All stores are found, and nothing that is none: not a bucket, not a stream that stores the same subjects or has such a name."""
        await self.begin()
        await self.js.create_object_store(ObjectStoreConfig(bucket="C", storage=MEMORY, description="c"))
        for name, subjects in (("KV_K", ["$KV.K.>"]), ("S", ["$O.S.C.>"]), ("OBJ_T", ["$O.U.C.>"]), ("OBJ_orders", ["orders.>"])):
            await self.js.create_stream(StreamConfig(name=name, subjects=subjects, storage=MEMORY))
        self.assertEqual(sorted([status.bucket async for status in self.js.object_stores()]), ["B", "C"])
        self.assertEqual({status.bucket: status.description for status in await self.js.object_stores()}, {"B": "", "C": "c"})
        # By its name alone, T could be one.
        self.assertEqual(sorted(await self.js.object_store_names()), ["B", "C", "T"])

    async def test_many(self) -> None:
        """More than a page are found, with others in between that are left out."""
        await self.begin()
        for first in range(0, 280, 40):
            names = range(first, first + 40)
            await gatherResults([self.js.create_object_store(ObjectStoreConfig(bucket=f"s{number}", storage=MEMORY)) for number in names])
        for number in range(5):
            await self.js.create_stream(StreamConfig(name=f"A{number}", subjects=[f"$O.other{number}.C.>"], storage=MEMORY))
        expected = sorted(["B", *(f"s{number}" for number in range(280))])
        self.assertEqual(sorted([status.bucket for status in await self.js.object_stores()]), expected)
        self.assertEqual(sorted([name async for name in self.js.object_store_names()]), expected)

    async def test_none(self) -> None:
        """Where there is no store the lists are empty."""
        js = (await self.jetstream()).jetstream()
        await js.create_stream(StreamConfig(name="S", subjects=["$O.S.C.>"], storage=MEMORY))
        self.assertEqual((await js.object_stores(), await js.object_store_names()), ([], []))


class SealingTests(ObjectInfoTestCase):
    """seal()."""

    async def test_nothing_can_be_changed(self) -> None:
        """Every change is refused and nothing is lost, also by age; sealing again does no harm, and the store can be deleted."""
        await self.begin(ttl=3600.0)
        made = await self.put_by_hand("x", b"1")
        before = await self.stored()
        status = await self.store.seal()
        self.assertEqual((status.sealed, status.ttl), (True, 0.0))
        self.assertTrue((await self.store.seal()).sealed)
        self.assertTrue((await self.store.status()).sealed)
        changes: list[Callable[[], Deferred[Any]]] = [
            lambda: self.store.delete("x"),
            lambda: self.store.update_meta("x", ObjectMeta(name="x", description="d")),
            lambda: self.store.update_meta("x", ObjectMeta(name="y")),
            lambda: self.store.add_link("l", made),
        ]
        for change in changes:
            await self.assertFailure(change(), errors.SealedStreamError)
        self.assertEqual(await self.stored(), before)
        self.assertEqual((await self.store.info("x")).nuid, made.nuid)
        self.assertEqual([info.name for info in await self.store.list()], ["x"])
        await self.js.delete_object_store("B")


class ElsewhereTests(ObjectInfoTestCase):
    """Stores behind a domain or an API prefix."""

    async def reached(self, js: JetStreamContext) -> None:
        """Wait until the leaf node is connected, and answers."""
        deadline = self.reactor.seconds() + PATIENCE
        while True:
            try:
                await js.account_info()
            except errors.JetStreamNotEnabledError:
                if self.reactor.seconds() > deadline:
                    raise
                await self.sleep(0.05)
            else:
                return

    async def two_domains(self) -> None:
        """A hub and a leaf node. The client is the hub's; ``js`` is the leaf's JetStream, seen from there."""
        with socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        hub = await self.start_server({"leafnodes": {"host": "127.0.0.1", "port": port}}, name="hub", jetstream={"domain": "hub"})
        remote = {"remotes": [{"url": f"nats://127.0.0.1:{port}"}]}
        leaf = await self.start_server({"leafnodes": remote}, name="leaf", jetstream={"domain": "leaf"})
        self.leaf = (await self.connect(leaf)).jetstream(timeout=20.0)
        self.nc = await self.connect(hub)
        self.js = self.nc.jetstream(domain="leaf", timeout=20.0)
        await self.reached(self.js)

    async def test_behind_a_domain(self) -> None:
        """A store of a leaf node is used from the hub: made, changed, read, listed, emptied."""
        await self.two_domains()
        self.store = await self.js.create_object_store(ObjectStoreConfig(bucket="B", storage=MEMORY))
        theirs = await self.leaf.object_store("B")
        made = await self.put_by_hand("x", b"1")
        self.assertEqual((await theirs.info("x")).nuid, made.nuid)
        await self.store.update_meta("x", ObjectMeta(name="y"))
        self.assertEqual([info.name for info in await self.store.list()], ["y"])
        await self.store.delete("y")
        self.assertEqual((await theirs.stream.info(">")).state.subjects, {meta_subject("B", "y"): 1})
        self.assertEqual(await self.nc.jetstream().object_store_names(), [])

    async def test_two_domains_with_the_same_store(self) -> None:
        """Both would store what is meant for one of them; that is an error, not a success in the wrong place."""
        await self.two_domains()
        self.store = await self.js.create_object_store(ObjectStoreConfig(bucket="B", storage=MEMORY))
        await self.nc.jetstream(timeout=20.0).create_object_store(ObjectStoreConfig(bucket="B", storage=MEMORY))
        # Whose answer comes first counts: nearly always that of the server that we are connected to.
        for number in range(100):
            try:
                await self.put_by_hand(f"x{number}")
            except errors.ObjectStoreError as error:
                self.assertIn("domain 'hub' has a store 'B' too", str(error))
                return
        self.fail("the hub never answered first")

    async def test_behind_an_api_prefix(self) -> None:
        """A store of another account is used through the imported API, with the subjects of objects imported as they are."""
        prefix = "from.owner"
        accounts = {
            "OWNER": {
                "jetstream": "enabled",
                "users": [{"user": "owner", "password": "x"}],
                "exports": [{"service": "$JS.API.>", "response_type": "stream"}, {"service": "$O.B.>"}],
            },
            "USER": {
                "users": [{"user": "user", "password": "x"}],
                "imports": [
                    {"service": {"account": "OWNER", "subject": "$JS.API.>"}, "to": f"{prefix}.>"},
                    {"service": {"account": "OWNER", "subject": "$O.B.>"}},
                ],
            },
        }
        server = await self.start_server({"accounts": accounts}, jetstream=True)
        owner = (await self.connect(server, user="owner", password="x")).jetstream()
        theirs = await owner.create_object_store(ObjectStoreConfig(bucket="B", storage=MEMORY))
        self.js = (await self.connect(server, user="user", password="x")).jetstream(api_prefix=prefix, timeout=20.0)
        self.store = await self.js.object_store("B")
        made = await self.put_by_hand("x", b"1")
        self.assertEqual((await theirs.info("x")).nuid, made.nuid)
        await self.store.update_meta("x", ObjectMeta(name="y"))
        self.assertEqual([info.name for info in await self.store.list()], ["y"])
        await self.store.delete("y")
        self.assertEqual((await theirs.stream.info(">")).state.subjects, {meta_subject("B", "y"): 1})


class ReplicatedTests(ObjectInfoTestCase):
    """Stores with replicas."""

    async def test_in_a_cluster(self) -> None:
        """Each change sees the one before, whichever server is asked; also when several are made at once."""
        cluster = await self.start_cluster(jetstream=True)
        self.js = (await self.connect(cluster)).jetstream(timeout=20.0)
        self.store = await self.js.create_object_store(ObjectStoreConfig(bucket="B", storage=MEMORY, replicas=3))
        info = (await self.store.status()).stream_info
        self.assertEqual((info.config.replicas, len(info.cluster.replicas) if info.cluster else 0), (3, 2))
        made = await self.put_by_hand("x", b"1")
        others = [await (await self.connect(server.url)).jetstream(timeout=20.0).object_store("B") for server in cluster.servers]
        descriptions = [f"by {number}" for number in range(3)]
        metas = [ObjectMeta(name="x", description=each) for each in descriptions]
        changes = [store.update_meta("x", meta) for store, meta in zip(others, metas, strict=True)]
        revisions = {info.revision: info.description for info in await gatherResults(changes)}
        self.assertEqual(sorted(revisions.values()), descriptions)
        renamed = await self.store.update_meta("x", ObjectMeta(name="y"))
        self.assertGreater(renamed.revision, max(revisions))
        await others[0].delete("y")
        await others[1].add_link("y", made)
        self.assertEqual(await self.stored(), {meta_subject("B", "y"): 1})
        # Lists come from one server, which may not have the last change yet.
        deadline = self.reactor.seconds() + PATIENCE
        while [listed.link is not None for listed in await others[2].list()] != [True]:
            self.assertLess(self.reactor.seconds(), deadline, "the link is not listed")
            await self.sleep(0.05)
