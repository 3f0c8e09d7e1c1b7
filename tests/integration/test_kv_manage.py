"""Buckets as a whole, with a real server: made, changed, listed, deleted, and what is known of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from pynats_twisted import errors
from pynats_twisted.jetstream import (
    JetStreamContext,
    Placement,
    Republish,
    StorageType,
    StoreCompression,
    StreamConfig,
    StreamSource,
)
from pynats_twisted.jetstream.api import DiscardPolicy
from pynats_twisted.keyvalue import KeyValueConfig
from tests.support.failing import failing
from tests.support.jetstream import JetStreamTestCase

EVERYTHING = KeyValueConfig(
    bucket="all-of_it",
    description="everything",
    history=5,
    ttl=3600.0,
    limit_marker_ttl=60.0,
    allow_msg_ttl=True,
    max_value_size=1024,
    max_bytes=1024 * 1024,
    storage=StorageType.MEMORY,
    # A server that is alone takes no notice of it, and remembers it.
    placement=Placement(cluster="east", tags=["fast"]),
    republish=Republish(src="$KV.all-of_it.>", dest="changes.>", headers_only=True),
    compression=True,
    metadata={"team": "blue"},
)


class ManageTests(JetStreamTestCase):
    """What a context does with buckets."""

    async def begin(self) -> JetStreamContext:
        self.nc = await self.jetstream()
        return self.nc.jetstream(timeout=30.0)

    async def test_every_option(self) -> None:
        """What a bucket was made with is what its status says, and what its stream has."""
        js = await self.begin()
        kv = await js.create_key_value(EVERYTHING)
        await kv.put("k", b"12345")
        status = await kv.status()
        self.assertEqual(status.config, EVERYTHING)
        self.assertEqual((status.bucket, status.values, status.last_revision, status.history), ("all-of_it", 1, 1, 5))
        self.assertEqual((status.ttl, status.limit_marker_ttl, status.allow_msg_ttl, status.is_compressed), (3600.0, 60.0, True, True))
        self.assertEqual((status.backing_store, dict(status.metadata)), ("JetStream", {"team": "blue"}))
        self.assertGreater(status.bytes, 5)
        config = status.stream_info.config
        self.assertEqual((config.name, config.subjects), ("KV_all-of_it", ("$KV.all-of_it.>",)))
        self.assertEqual((config.discard, config.duplicate_window, config.compression), (DiscardPolicy.NEW, 120.0, StoreCompression.S2))
        self.assertEqual((config.allow_rollup_hdrs, config.deny_delete, config.allow_direct, config.allow_msg_ttl), (True,) * 4)

    async def test_short_ttl(self) -> None:
        """A TTL shorter than two minutes is what the bucket remembers message ids for."""
        js = await self.begin()
        kv = await js.create_key_value(KeyValueConfig(bucket="b", ttl=10.0))
        self.assertEqual(kv.stream.config.duplicate_window, 10.0)

    async def test_republish(self) -> None:
        """What is written to a bucket with a republish is published once more."""
        js = await self.begin()
        kv = await js.create_key_value(EVERYTHING)
        sub = self.nc.subscribe("changes.>")
        await sub
        await kv.put("a.b", b"1")
        msg = await sub.next(timeout=30.0)
        self.assertEqual((msg.subject, msg.data), ("changes.a.b", b""))

    async def test_create_again(self) -> None:
        """Making a bucket that is there is no error when it is the same, and one when it is another."""
        js = await self.begin()
        config = KeyValueConfig(bucket="b", history=2, ttl=60.0)
        await (await js.create_key_value(config)).put("k", b"1")
        kv = await js.create_key_value(config)
        self.assertEqual((await kv.get("k")).value, b"1")
        error = await failing(js.create_key_value(replace(config, history=3)), errors.BucketExistsError)
        self.assertIn("'b'", str(error))

    async def test_update(self) -> None:
        """An update changes what it says, keeps the values, and leaves alone what a bucket's configuration has no word for."""
        js = await self.begin()
        kv = await js.create_key_value(KeyValueConfig(bucket="b"))
        await kv.put("k", b"1")
        await kv.stream.update(replace(kv.stream.config, allow_atomic=True, allow_direct=False))
        config = KeyValueConfig(bucket="b", history=7, description="new", limit_marker_ttl=5.0)
        updated = await js.update_key_value(config)
        self.assertEqual((await updated.status()).config, replace(config, allow_msg_ttl=True))
        self.assertEqual((await updated.get("k")).value, b"1")
        there = updated.stream.config
        self.assertEqual((there.allow_atomic, there.allow_direct), (True, False))

    async def test_what_cannot_be_taken_back(self) -> None:
        """Markers and TTLs of keys cannot be taken from a bucket again; the error names the field, and nothing is changed."""
        js = await self.begin()
        for bucket, field in (("marked", "limit_marker_ttl"), ("timed", "allow_msg_ttl")):
            made = KeyValueConfig(bucket=bucket, limit_marker_ttl=5.0) if field == "limit_marker_ttl" else None
            kv = await js.create_key_value(made or KeyValueConfig(bucket=bucket, allow_msg_ttl=True))
            error = await failing(js.update_key_value(KeyValueConfig(bucket=bucket)), errors.JetStreamConfigError)
            self.assertEqual(error.field, field)
            self.assertTrue((await kv.status()).allow_msg_ttl)

    async def test_create_or_update(self) -> None:
        """Create-or-update makes a bucket, and changes it the second time."""
        js = await self.begin()
        await js.create_or_update_key_value(KeyValueConfig(bucket="b"))
        kv = await js.create_or_update_key_value(KeyValueConfig(bucket="b", history=3))
        self.assertEqual(kv.stream.config.max_msgs_per_subject, 3)

    async def test_no_such_bucket(self) -> None:
        """What is not there is not found, and neither is a stream that has a bucket's name and is none."""
        js = await self.begin()
        calls: list[Callable[[str], Awaitable[object]]] = [
            js.key_value,
            js.delete_key_value,
            lambda name: js.update_key_value(KeyValueConfig(bucket=name)),
        ]
        for call in calls:
            error = await failing(call("nobody"), errors.BucketNotFoundError)
            self.assertIn("'nobody'", str(error))
        await js.create_stream(StreamConfig(name="KV_s", subjects=["s"]))
        error = await failing(js.key_value("s"), errors.BucketNotFoundError)
        self.assertIn("is no bucket", str(error))
        error = await failing(js.create_or_update_key_value(KeyValueConfig(bucket="s")), errors.BucketNotFoundError)
        self.assertIn("is no bucket", str(error))

    async def test_wrong_names(self) -> None:
        """A name that no bucket can have is refused before anything is sent."""
        js = await self.begin()
        sent = self.nc.stats.out_msgs
        for name in ("a.b", "a b", "", "a*", "x" * 253):
            await failing(js.key_value(name), errors.InvalidNameError)
            await failing(js.delete_key_value(name), errors.InvalidNameError)
            error = await failing(js.create_key_value(KeyValueConfig(bucket=name)), errors.JetStreamConfigError)
            self.assertEqual(error.field, "bucket")
        await failing(js.create_key_value("b"), errors.InvalidArgumentError)  # type: ignore[arg-type]
        self.assertEqual(self.nc.stats.out_msgs, sent)

    async def test_longest_name(self) -> None:
        """The longest name that is allowed works."""
        js = await self.begin()
        name = "x" * 252
        await (await js.create_key_value(KeyValueConfig(bucket=name))).put("k", b"1")
        self.assertEqual((await (await js.key_value(name)).get("k")).value, b"1")

    async def test_listing(self) -> None:
        """Buckets are listed, mirrors among them, and other streams are not."""
        js = await self.begin()
        self.assertEqual(await js.key_value_names(), [])
        await js.create_stream(StreamConfig(name="S", subjects=["s"]))
        await js.create_stream(StreamConfig(name="KV_none", subjects=["none"]))
        for name in ("a", "b"):
            await js.create_key_value(KeyValueConfig(bucket=name))
        await js.create_key_value(KeyValueConfig(bucket="m", mirror=StreamSource(name="a")))
        self.assertEqual(sorted(await js.key_value_names()), ["a", "b", "m", "none"])
        self.assertEqual(sorted([status.bucket async for status in js.key_values()]), ["a", "b", "m"])

    async def test_more_streams_than_a_page(self) -> None:
        """All buckets are listed where the pages of streams have many others between them."""
        js = await self.begin()
        for number in range(280):
            kind = "KV_" if number % 40 == 0 else "S_"
            subject = f"$KV.{number}.>" if kind == "KV_" else f"s.{number}"
            config = StreamConfig(name=f"{kind}{number}", subjects=[subject], storage=StorageType.MEMORY, max_msgs_per_subject=1)
            await js.create_stream(config)
        wanted = [str(number) for number in range(0, 280, 40)]
        self.assertEqual(sorted(await js.key_value_names(), key=int), wanted)
        self.assertEqual(sorted([status.bucket for status in await js.key_values()], key=int), wanted)
