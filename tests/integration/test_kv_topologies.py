"""Mirrors of buckets, buckets that take keys from others, and buckets in other domains and accounts (ADR-8, ADR-19, ADR-57)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from socket import socket

from pynats_twisted import errors
from pynats_twisted.jetstream import ExternalStream, JetStreamContext, StreamConfig, StreamSource, SubjectTransform
from pynats_twisted.keyvalue import KeyValue, KeyValueConfig, ReadOnlyKeyValue
from tests.support.failing import failing
from tests.support.integration import PATIENCE
from tests.support.jetstream import JetStreamTestCase


class TopologyTestCase(JetStreamTestCase):
    async def holds(self, kv: ReadOnlyKeyValue, wanted: Mapping[str, bytes]) -> None:
        """Wait until a bucket has these keys and no others."""
        deadline = self.reactor.seconds() + PATIENCE
        while True:
            found = {key: entry.value for key, entry in (await kv.snapshot()).items()}
            if found == wanted:
                return
            if self.reactor.seconds() > deadline:
                self.assertEqual(found, wanted)
            await self.sleep(0.02)

    async def begin(self) -> JetStreamContext:
        nc = await self.jetstream()
        return nc.jetstream(timeout=20.0)

    async def everything_works(self, kv: KeyValue, wait: ReadOnlyKeyValue | None = None) -> None:
        """Every way of writing and reading, through one handle, where reading may lag behind."""
        await kv.put("a.b", b"1")
        await self.holds(kv, {"a.b": b"1"})
        entry = await kv.get("a.b")
        revision = await kv.update("a.b", b"2", entry.revision)
        await failing(kv.create("a.b", b"x"), errors.KeyExistsError)
        await failing(kv.update("a.b", b"x", entry.revision), errors.WrongLastSequenceError)
        await self.holds(kv, {"a.b": b"2"})
        self.assertEqual((await kv.get("a.b", revision)).value, b"2")
        await kv.delete("a.b", revision)
        await self.holds(kv, {})
        await kv.create("a.b", b"3")
        await kv.purge("c")
        await self.holds(kv, {"a.b": b"3"})
        self.assertEqual(list(await kv.get_many(["a.b", "c"])), ["a.b"])
        self.assertEqual((await kv.status()).bucket, kv.bucket)


class MirrorTests(TopologyTestCase):
    """A mirror has the keys of its origin, and what is written through it goes there."""

    async def test_mirror(self) -> None:
        """A mirror is read from like a bucket, and written to as well: its origin gets it."""
        js = await self.begin()
        origin = await js.create_key_value(KeyValueConfig(bucket="o"))
        mirror = await js.create_key_value(KeyValueConfig(bucket="m", mirror=StreamSource(name="o")))
        self.assertEqual((mirror.bucket, mirror.stream.config.mirror_direct, mirror.stream.config.subjects), ("m", True, ()))
        await self.everything_works(mirror)
        self.assertEqual((await origin.get("a.b")).value, b"3")
        self.assertEqual((await mirror.get("a.b")).bucket, "m")
        again = await js.key_value("m")
        self.assertEqual((await again.get("a.b")).value, b"3")
        self.assertEqual((await again.status()).config, (await mirror.status()).config)

    async def test_mirror_of_some_keys(self) -> None:
        """A mirror next to its origin may not have less than it: the server lets it answer for the origin. Nothing is made."""
        js = await self.begin()
        await js.create_key_value(KeyValueConfig(bucket="o"))
        transform = SubjectTransform(src="$KV.o.>", dest="$KV.m.>")
        for source in (
            StreamSource(name="o", filter_subject="a.*"),
            StreamSource(name="o", subject_transforms=[transform]),
            StreamSource(name="o", opt_start_seq=5),
        ):
            error = await failing(js.create_key_value(KeyValueConfig(bucket="m", mirror=source)), errors.JetStreamConfigError)
            self.assertTrue(error.field.startswith("mirror."), error.field)
        self.assertEqual(await js.key_value_names(), ["o"])

    async def test_mirror_obeys_ttls(self) -> None:
        """With ``allow_msg_ttl`` a mirror lets go of what has run out in the origin."""
        js = await self.begin()
        origin = await js.create_key_value(KeyValueConfig(bucket="o", limit_marker_ttl=2.0))
        config = KeyValueConfig(bucket="m", mirror=StreamSource(name="o"), allow_msg_ttl=True)
        mirror = await js.create_key_value(config)
        await origin.create("k", b"1", ttl=1.0)
        await self.holds(mirror, {"k": b"1"})
        await self.holds(mirror, {})
        deadline = self.reactor.seconds() + PATIENCE
        while (await mirror.status()).values:
            self.assertLess(self.reactor.seconds(), deadline)
            await self.sleep(0.05)

    async def transformed(self, js: JetStreamContext) -> KeyValue:
        """A mirror that stores keys under its own name, made by hand."""
        await js.create_key_value(KeyValueConfig(bucket="o"))
        source = StreamSource(name="KV_o", subject_transforms=[SubjectTransform(src="$KV.o.>", dest="$KV.m.>")])
        config = replace(KeyValueConfig(bucket="m").stream_config(), subjects=(), mirror=source)
        await js.create_stream(config)
        return await js.key_value("m")

    async def test_transformed_mirror(self) -> None:
        """A mirror that stores the keys under its own name is read there, and written to at its origin."""
        js = await self.begin()
        await self.everything_works(await self.transformed(js))
        origin = await js.stream("KV_o")
        self.assertEqual((await origin.get_last_msg("$KV.o.a.b", direct=False)).data, b"3")

    async def test_promotion(self) -> None:
        """A mirror becomes a bucket of its own when it is updated without its origin: what it has stays readable."""
        js = await self.begin()
        mirror = await self.transformed(js)
        await mirror.put("k", b"1")
        await self.holds(mirror, {"k": b"1"})
        bucket = await js.update_key_value(KeyValueConfig(bucket="m"))
        await bucket.put("k2", b"2")
        await self.holds(bucket, {"k": b"1", "k2": b"2"})
        self.assertEqual(await (await js.key_value("o")).get_many(["k2"]), {})


class SourceTests(TopologyTestCase):
    """A bucket that takes keys from others."""

    async def test_sources(self) -> None:
        """Keys of several buckets are in one, under their own names, next to what is written to it."""
        js = await self.begin()
        one = await js.create_key_value(KeyValueConfig(bucket="one"))
        two = await js.create_key_value(KeyValueConfig(bucket="two"))
        sources = [StreamSource(name="one"), StreamSource(name="KV_two", filter_subject="t.*.x")]
        both = await js.create_key_value(KeyValueConfig(bucket="both", sources=sources))
        await one.put("o.1", b"1")
        await two.put("t.2.x", b"2")
        await two.put("t.2.y", b"-")
        await both.put("own", b"3")
        await self.holds(both, {"o.1": b"1", "t.2.x": b"2", "own": b"3"})
        await one.delete("o.1")
        await self.holds(both, {"t.2.x": b"2", "own": b"3"})
        # What the status says can be used for an update.
        config = (await both.status()).config
        updated = await js.update_key_value(replace(config, description="new"))
        self.assertEqual((await updated.status()).config.sources, config.sources)

    async def test_any_stream_as_a_source(self) -> None:
        """A source with transforms of its own is taken as it is: a stream of events becomes keys."""
        js = await self.begin()
        await js.create_stream(StreamConfig(name="EVENTS", subjects=["events.>"]))
        transform = SubjectTransform(src="events.done.>", dest="$KV.cache.>")
        source = StreamSource(name="EVENTS", subject_transforms=[transform])
        cache = await js.create_key_value(KeyValueConfig(bucket="cache", sources=[source]))
        await js.publish("events.done.a.1", b"1")
        await js.publish("events.begun.a.2", b"2")
        await self.holds(cache, {"a.1": b"1"})


class ElsewhereTests(TopologyTestCase):
    """Buckets in other domains and accounts."""

    async def two_domains(self) -> None:
        """A hub and a leaf node, each with a client and its own JetStream."""
        with socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        hub = await self.start_server({"leafnodes": {"host": "127.0.0.1", "port": port}}, name="hub", jetstream={"domain": "hub"})
        remote = {"remotes": [{"url": f"nats://127.0.0.1:{port}"}]}
        leaf = await self.start_server({"leafnodes": remote}, name="leaf", jetstream={"domain": "leaf"})
        self.hub = await self.connect(hub)
        self.leaf = await self.connect(leaf)
        seen = self.leaf.jetstream(domain="hub")
        deadline = self.reactor.seconds() + PATIENCE
        while True:
            try:
                await seen.account_info()
                return
            except errors.JetStreamNotEnabledError:
                self.assertLess(self.reactor.seconds(), deadline)
                await self.sleep(0.05)

    async def test_bucket_of_another_domain(self) -> None:
        """A bucket of the hub is used from the leaf node, also where the leaf node has a bucket of the same name."""
        await self.two_domains()
        theirs = await self.hub.jetstream().create_key_value(KeyValueConfig(bucket="b"))
        own = await self.leaf.jetstream().create_key_value(KeyValueConfig(bucket="b"))
        await own.put("mine", b"x")
        kv = await self.leaf.jetstream(domain="hub", timeout=20.0).key_value("b")
        await self.everything_works(kv)
        self.assertEqual((await theirs.get("a.b")).value, b"3")
        await self.holds(own, {"mine": b"x"})

    async def test_mirror_of_another_domain(self) -> None:
        """A mirror in the leaf node has the keys of a bucket in the hub; what is written through it goes to the hub."""
        await self.two_domains()
        origin = await self.hub.jetstream().create_key_value(KeyValueConfig(bucket="o"))
        js = self.leaf.jetstream(timeout=20.0)
        source = StreamSource(name="o", external=ExternalStream.of_domain("hub"))
        mirror = await js.create_key_value(KeyValueConfig(bucket="m", mirror=source))
        await self.everything_works(mirror)
        self.assertEqual((await origin.get("a.b")).value, b"3")
        again = await js.key_value("m")
        await again.put("again", b"4")
        self.assertEqual((await origin.get("again")).value, b"4")
        await self.holds(again, {"a.b": b"3", "again": b"4"})
        some = replace(source, filter_subject="a.*")
        few = await js.create_key_value(KeyValueConfig(bucket="few", mirror=some))
        await self.holds(few, {"a.b": b"3"})

    async def test_bucket_of_another_account(self) -> None:
        """A bucket of another account is used through the imported API, with keys published below its prefix."""
        prefix = "from.owner"
        accounts = {
            "OWNER": {
                "jetstream": "enabled",
                "users": [{"user": "owner", "password": "x"}],
                "exports": [{"service": "$JS.API.>", "response_type": "stream"}, {"service": "$KV.>"}],
            },
            "USER": {
                "users": [{"user": "user", "password": "x"}],
                "imports": [
                    {"service": {"account": "OWNER", "subject": "$JS.API.>"}, "to": f"{prefix}.>"},
                    {"service": {"account": "OWNER", "subject": "$KV.>"}, "to": f"{prefix}.$KV.>"},
                ],
            },
        }
        server = await self.start_server({"accounts": accounts}, jetstream=True)
        owner = (await self.connect(server, user="owner", password="x")).jetstream()
        theirs = await owner.create_key_value(KeyValueConfig(bucket="b"))
        js = (await self.connect(server, user="user", password="x")).jetstream(api_prefix=prefix, timeout=20.0)
        await self.everything_works(await js.key_value("b"))
        self.assertEqual((await theirs.get("a.b")).value, b"3")
