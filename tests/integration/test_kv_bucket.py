"""Key-value buckets with a real server: values, revisions, deletes, markers and what a bucket refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pynats_twisted import errors
from pynats_twisted.jetstream import JetStreamContext
from pynats_twisted.keyvalue import KeyValue, KeyValueConfig, Operation
from tests.support.failing import failing
from tests.support.jetstream import JetStreamTestCase


class BucketTestCase(JetStreamTestCase):
    """A bucket ``b`` on a server of its own."""

    async def begin(self, **config: Any) -> None:
        self.nc = await self.jetstream()
        self.js: JetStreamContext = self.nc.jetstream(timeout=30.0)
        self.kv: KeyValue = await self.js.create_key_value(KeyValueConfig(bucket="b", **config))

    async def vanished(self, key: str, kind: type[errors.KeyNotFoundError] = errors.KeyNotFoundError) -> errors.KeyNotFoundError:
        """The error that says that a key has no value, once it has none any more."""
        found: list[errors.KeyNotFoundError] = []

        async def look() -> None:
            try:
                await self.kv.get(key)
            except errors.KeyNotFoundError as error:
                found.append(error)

        deadline = self.reactor.seconds() + 30.0
        while not found or not isinstance(found[-1], kind):
            if self.reactor.seconds() > deadline:
                self.fail(f"key {key!r} did not vanish: {found[-1:]}")
            await look()
            await self.sleep(0.02)
        return found[-1]


class ValueTests(BucketTestCase):
    """Values and their revisions."""

    async def test_put_and_get(self) -> None:
        """A value comes back as it was put, with its revision and time; a newer one replaces it."""
        await self.begin()
        first = await self.kv.put("a.b", b"1")
        second = await self.kv.put("a.b", b"\x00\r\n2")
        self.assertEqual((first, second), (1, 2))
        entry = await self.kv.get("a.b")
        self.assertEqual((entry.bucket, entry.key, entry.value, entry.revision), ("b", "a.b", b"\x00\r\n2", 2))
        self.assertEqual((entry.operation, entry.is_deleted, entry.delta), (Operation.PUT, False, 0))
        self.assertIsNotNone(entry.created.tzinfo)
        empty = await self.kv.put("empty", b"")
        self.assertEqual((await self.kv.get("empty")).revision, empty)

    async def test_missing_key(self) -> None:
        """A key that nobody wrote is not there; the error names key and bucket, and is not that of a deleted one."""
        await self.begin()
        error = await failing(self.kv.get("nobody"), errors.KeyNotFoundError)
        self.assertEqual((type(error), error.key), (errors.KeyNotFoundError, "nobody"))
        self.assertIn("bucket 'b' has no key 'nobody'", str(error))

    async def test_revisions(self) -> None:
        """A revision of a key can be read as long as the history has it; one of another key is not its own."""
        await self.begin(history=2)
        for value in (b"1", b"2", b"3"):
            await self.kv.put("k", value)
        other = await self.kv.put("other", b"x")
        self.assertEqual([(await self.kv.get("k", revision)).value for revision in (2, 3)], [b"2", b"3"])
        for revision in (1, other, 99):
            error = await failing(self.kv.get("k", revision), errors.KeyNotFoundError)
            self.assertIn(f"with revision {revision}", str(error))

    async def test_update(self) -> None:
        """An update is refused when the key has another revision, and nothing changes."""
        await self.begin()
        first = await self.kv.put("k", b"1")
        second = await self.kv.update("k", b"2", first)
        error = await failing(self.kv.update("k", b"3", first), errors.WrongLastSequenceError)
        self.assertEqual(error.last_sequence, second)
        self.assertEqual((await self.kv.get("k")).value, b"2")
        self.assertEqual(await self.kv.update("new", b"", 0), second + 1)

    async def test_create(self) -> None:
        """A key is created once; after a delete or a purge it can be created again, but not while it has a value."""
        await self.begin(history=3)
        await self.kv.create("k", b"1")
        error = await failing(self.kv.create("k", b"2"), errors.KeyExistsError)
        self.assertEqual(error.key, "k")
        await self.kv.delete("k")
        await self.kv.create("k", b"3")
        await self.kv.purge("k")
        revision = await self.kv.create("k", b"4")
        self.assertEqual((await self.kv.get("k")).revision, revision)
        await failing(self.kv.create("k"), errors.KeyExistsError)

    async def test_create_after_somebody_purged_everything(self) -> None:
        """What is left when the stream itself was purged is no key: it can be created."""
        await self.begin()
        await self.kv.put("k", b"1")
        await self.kv.stream.purge(filter="$KV.b.k")
        self.assertEqual(await self.kv.create("k", b"2"), 2)

    async def test_many_create_one_wins(self) -> None:
        """Of many who create a deleted key at the same time one succeeds, and the others learn that it exists."""
        await self.begin()
        await self.kv.put("k", b"")
        await self.kv.delete("k")
        outcomes: list[object] = []
        tries = [self.kv.create("k", b"%d" % number).addBoth(outcomes.append) for number in range(20)]
        for each in tries:
            await each
        won = [outcome for outcome in outcomes if isinstance(outcome, int)]
        lost = [outcome for outcome in outcomes if not isinstance(outcome, int)]
        self.assertEqual((len(won), {failure.type for failure in lost}), (1, {errors.KeyExistsError}))  # type: ignore[attr-defined]

    async def test_delete_keeps_the_history(self) -> None:
        """A deleted key is gone for a get, with an error that has what was done; its older value is still there by its revision."""
        await self.begin(history=5)
        first = await self.kv.put("k", b"1")
        deleted = await self.kv.delete("k")
        error = await failing(self.kv.get("k"), errors.KeyDeletedError)
        self.assertEqual((error.entry.operation, error.entry.revision, error.entry.value), (Operation.DELETE, deleted, b""))
        self.assertEqual((await self.kv.get("k", first)).value, b"1")
        await failing(self.kv.get("k", deleted), errors.KeyDeletedError)

    async def test_purge_takes_the_history(self) -> None:
        """A purged key is gone together with its older values, and other keys stay."""
        await self.begin(history=5)
        first = await self.kv.put("k", b"1")
        await self.kv.put("other", b"x")
        purged = await self.kv.purge("k")
        error = await failing(self.kv.get("k"), errors.KeyDeletedError)
        self.assertEqual((error.entry.operation, error.entry.revision), (Operation.PURGE, purged))
        purged_error = await failing(self.kv.get("k", first), errors.KeyNotFoundError)
        self.assertNotIsInstance(purged_error, errors.KeyDeletedError)
        self.assertEqual((await self.kv.get("other")).value, b"x")

    async def test_removing_with_an_expected_revision(self) -> None:
        """Delete and purge with a revision are refused when the key has another one."""
        await self.begin()
        first = await self.kv.put("k", b"1")
        second = await self.kv.put("k", b"2")
        await failing(self.kv.delete("k", first), errors.WrongLastSequenceError)
        await failing(self.kv.purge("k", first), errors.WrongLastSequenceError)
        third = await self.kv.delete("k", second)
        self.assertEqual(await self.kv.purge("k", third), third + 1)

    async def test_wrong_keys_fail_the_deferred(self) -> None:
        """A key that breaks a rule fails every call, none of them at once, and nothing is sent."""
        await self.begin()
        sent = self.nc.stats.out_msgs
        for call in (
            lambda: self.kv.get("a b"),
            lambda: self.kv.put("a b", b""),
            lambda: self.kv.create("a..b"),
            lambda: self.kv.update(".a", b"", 1),
            lambda: self.kv.delete("a."),
            lambda: self.kv.purge("_kv.a"),
            lambda: self.kv.get_many(["a", "*"]),
            lambda: self.kv.snapshot("a>"),
        ):
            waiting: Any = call()
            await failing(waiting, errors.InvalidKeyError)
        self.assertEqual(self.nc.stats.out_msgs, sent)

    async def test_a_bucket_that_is_gone(self) -> None:
        """Each call on a bucket that was deleted says so."""
        await self.begin()
        await self.js.delete_key_value("b")
        await failing(self.kv.get("k"), errors.BucketNotFoundError)
        await failing(self.kv.get("k", 1), errors.BucketNotFoundError)
        await failing(self.kv.get_many(["k"]), errors.BucketNotFoundError)
        await failing(self.kv.snapshot(), errors.BucketNotFoundError)
        await failing(self.kv.status(), errors.BucketNotFoundError)
        await failing(self.kv.put("k", b""), errors.NoStreamResponseError)

    async def test_a_bucket_without_direct_gets(self) -> None:
        """A bucket of old times, whose stream allows no direct gets, is read all the same."""
        await self.begin()
        config = (await self.kv.stream.info()).config
        await self.kv.stream.update(replace(config, allow_direct=False))
        revision = await self.kv.put("k", b"1")
        for kv in (self.kv, await self.js.key_value("b")):
            self.assertEqual((await kv.get("k")).value, b"1")
            self.assertEqual((await kv.get("k", revision)).value, b"1")
        await failing(self.kv.get_many(["k"]), errors.JetStreamNotEnabledError)

    async def test_read_only(self) -> None:
        """A handle to read with reads, with the same codecs, and has no method that writes."""
        await self.begin()
        await self.kv.put("k", b"1")
        reader = self.kv.read_only()
        self.assertEqual((await reader.get("k")).value, b"1")
        for name in ("put", "create", "update", "delete", "purge", "lock"):
            self.assertFalse(hasattr(reader, name), name)


class TtlTests(BucketTestCase):
    """Values that run out, and what is left of them."""

    async def test_bucket_ttl(self) -> None:
        """A value of a bucket with a TTL runs out, and without markers leaves nothing."""
        await self.begin(ttl=1.0)
        await self.kv.put("k", b"1")
        error = await self.vanished("k")
        self.assertNotIsInstance(error, errors.KeyDeletedError)
        self.assertEqual(await self.kv.create("k", b"2"), 2)

    async def test_marker_of_a_key_that_ran_out(self) -> None:
        """A key created with a TTL runs out; the marker in its place reads as a purge, and the key can be created again over it."""
        await self.begin(limit_marker_ttl=60.0)
        await self.kv.create("k", b"1", ttl=1.0)
        error = await self.vanished("k", errors.KeyDeletedError)
        assert isinstance(error, errors.KeyDeletedError)
        self.assertEqual((error.entry.operation, error.entry.revision, error.entry.value), (Operation.PURGE, 2, b""))
        self.assertEqual(await self.kv.create("k", b"2"), 3)
        self.assertEqual((await self.kv.get("k")).value, b"2")

    async def test_ttl_on_put_and_update(self) -> None:
        """Where the bucket keeps one value of each key, put and update take a TTL too, and nothing older comes back."""
        await self.begin(limit_marker_ttl=60.0)
        await self.kv.put("p", b"old")
        await self.kv.put("p", b"new", ttl=1.0)
        revision = await self.kv.put("u", b"old")
        await self.kv.update("u", b"new", revision, ttl=1)
        for key in ("p", "u"):
            await self.vanished(key, errors.KeyDeletedError)

    async def test_no_ttl_on_put_where_there_is_a_history(self) -> None:
        """In a bucket with a history, put and update refuse a TTL, because an older value would come back; create and purge take it."""
        await self.begin(limit_marker_ttl=60.0, history=2)
        await self.kv.create("k", b"1", ttl=60.0)
        sent = self.nc.stats.out_msgs
        for call in (self.kv.put("k", b"2", ttl=5.0), self.kv.update("k", b"2", 1, ttl=5.0)):
            error = await failing(call, errors.JetStreamConfigError)
            self.assertEqual((error.field, error.value), ("ttl", 5.0))
        self.assertEqual(self.nc.stats.out_msgs, sent)
        await self.kv.purge("k", ttl=60.0)

    async def test_a_history_that_was_given_later(self) -> None:
        """A put with a TTL brings nothing back even when somebody else gave the bucket a history that this handle does not know of."""
        await self.begin(limit_marker_ttl=1.0)
        await self.js.update_key_value(KeyValueConfig(bucket="b", limit_marker_ttl=1.0, history=5))
        await self.kv.put("k", b"old")
        await self.kv.put("k", b"new", ttl=1.0)
        await self.vanished("k")

    async def test_update_without_ttl_stays(self) -> None:
        """A key that had a TTL has none any more after an update without one."""
        await self.begin(limit_marker_ttl=60.0)
        revision = await self.kv.create("k", b"1", ttl=1.0)
        await self.kv.update("k", b"2", revision)
        await self.kv.create("other", b"", ttl=1.0)
        await self.vanished("other", errors.KeyDeletedError)
        self.assertEqual((await self.kv.get("k")).value, b"2")

    async def test_purge_with_a_ttl_leaves_nothing(self) -> None:
        """What says that a key was purged goes itself after its TTL."""
        await self.begin(limit_marker_ttl=60.0)
        await self.kv.put("k", b"1")
        await self.kv.purge("k", ttl=1.0)

        deadline = self.reactor.seconds() + 30.0
        while (await self.kv.status()).values:
            self.assertLess(self.reactor.seconds(), deadline)
            await self.sleep(0.05)
        error = await failing(self.kv.get("k"), errors.KeyNotFoundError)
        self.assertNotIsInstance(error, errors.KeyDeletedError)

    async def test_bucket_without_ttls(self) -> None:
        """A bucket that takes no TTLs refuses them with an error of its own, and nothing is written."""
        await self.begin()
        for call in (self.kv.create("k", b"", ttl=5), self.kv.put("k", b"", ttl=5), self.kv.purge("k", ttl=5)):
            await failing(call, errors.MessageTTLError)
        self.assertEqual((await self.kv.status()).values, 0)

    async def test_removed_by_the_server(self) -> None:
        """Markers that a server put where a message was purged or removed read as the operations of ADR-8."""
        await self.begin(history=5, limit_marker_ttl=60.0)
        for reason, operation in (("MaxAge", Operation.PURGE), ("Purge", Operation.PURGE), ("Remove", Operation.DELETE)):
            await self.js.publish("$KV.b.k", b"", {"Nats-Marker-Reason": reason})
            error = await failing(self.kv.get("k"), errors.KeyDeletedError)
            self.assertIs(error.entry.operation, operation)


class ManyTests(BucketTestCase):
    """Many keys at once."""

    async def test_get_many(self) -> None:
        """The values of many keys come with one call, in the order in which they were asked for; those without one are left out."""
        await self.begin()
        for number in range(5):
            await self.kv.put(f"k.{number}", b"%d" % number)
        await self.kv.delete("k.1")
        found = await self.kv.get_many(["k.4", "nobody", "k.1", "k.0", "k.4"])
        self.assertEqual(list(found), ["k.4", "k.0"])
        self.assertEqual([entry.value for entry in found.values()], [b"4", b"0"])
        self.assertEqual(await self.kv.get_many([]), {})

    async def test_get_many_of_more_than_a_server_answers_at_once(self) -> None:
        """Thousands of keys are asked for in as many requests as it takes."""
        await self.begin()
        for number in range(2500):
            self.js.publish_async(f"$KV.b.k.{number}", b"%d" % number)
            await self.js.publish_async_room()
        await self.js.publish_async_complete()
        sent = self.nc.stats.out_msgs
        found = await self.kv.get_many(f"k.{number}" for number in range(2500))
        self.assertEqual([entry.value for entry in found.values()], [b"%d" % number for number in range(2500)])
        self.assertLess(self.nc.stats.out_msgs - sent, 20)
