"""Caches of keys with real servers: they have what the bucket has, also after everything that can happen below them."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

from pynats_twisted import errors
from pynats_twisted.jetstream.api import PurgeRequest, PurgeResponse
from pynats_twisted.keyvalue import KeyValue, KeyValueCache, KeyValueConfig, KeyValueEntry, Operation
from tests.support.jetstream import JetStreamTestCase

RECONNECT: dict[str, Any] = {"reconnect_wait": 0.05, "reconnect_jitter": 0.0, "reconnect_wait_max": 0.2}


def values(cache: KeyValueCache) -> dict[str, bytes]:
    """What is in it."""
    return {key: entry.value for key, entry in cache.items()}


class CacheTestCase(JetStreamTestCase):
    """A bucket ``b`` and a cache of it."""

    async def cached(self, *patterns: str, proxied: bool = False, config: dict[str, Any] | None = None, **options: Any) -> KeyValueCache:
        """The cache, of a bucket in which ``a`` and ``b.x`` are 1 and ``c`` was deleted; ``self.kv`` is that of another client."""
        self.server = await self.start_server(jetstream=True)
        js = (await self.connect(self.server, **RECONNECT)).jetstream()
        self.kv: KeyValue = await js.create_key_value(KeyValueConfig(bucket="b", history=3, **(config or {})))
        for key in ("a", "b.x", "c"):
            await self.kv.put(key, b"1")
        await self.kv.delete("c")
        if proxied:
            self.proxy = await self.start_proxy(self.server)
        nc = await self.connect(self.proxy if proxied else self.server, **RECONNECT)
        self.cache = await (await nc.jetstream().key_value("b")).cache(*patterns, **options)
        self.addCleanup(self.finish)
        return self.cache

    async def finish(self) -> None:
        await self.cache.stop()

    async def assert_nothing_left(self) -> None:
        """There is no consumer."""
        self.assertEqual(await self.kv.js.consumer_names("KV_b"), [])


class MappingTests(CacheTestCase):
    """What is in it."""

    async def test_a_mapping(self) -> None:
        """When it is there it has all keys that have values, and it is a mapping as any other."""
        cache = await self.cached()
        self.assertEqual(values(cache), {"a": b"1", "b.x": b"1"})
        self.assertEqual((cache["a"].revision, len(cache), sorted(cache), cache.revision), (1, 2, ["a", "b.x"], 4))
        self.assertTrue("a" in cache and "c" not in cache and cache.get("c") is None)
        self.assertRaises(KeyError, lambda: cache["c"])
        self.assertTrue(cache.is_fresh)
        self.assertEqual(cache.size, len("a") + len("b.x") + 2)

    async def test_patterns(self) -> None:
        """Only keys that match; what is written elsewhere does not come."""
        cache = await self.cached("b.*", "d")
        self.assertEqual(values(cache), {"b.x": b"1"})
        await self.kv.put("a", b"2")
        await cache.wait_for(await self.kv.put("d", b"2"), timeout=15)
        self.assertEqual(values(cache), {"b.x": b"1", "d": b"2"})

    async def test_an_empty_bucket(self) -> None:
        """A cache of nothing is there at once."""
        cache = await self.cached("nothing.>")
        self.assertEqual((len(cache), cache.revision, cache.size), (0, 0, 0))

    async def test_reading_what_was_written(self) -> None:
        """Behind a write, ``wait_for`` its revision: a lookup finds it then; deletes and purges too. The size follows."""
        cache = await self.cached()
        for number in range(200):
            await cache.wait_for(await self.kv.put("a", b"x" * number), timeout=15)
            self.assertEqual(cache["a"].value, b"x" * number)
        await cache.wait_for(await self.kv.delete("a"), timeout=15)
        self.assertNotIn("a", cache)
        await cache.wait_for(await self.kv.purge("b.x"), timeout=15)
        self.assertEqual((len(cache), cache.size), (0, 0))
        await cache.wait_for(1)

    async def test_waiting_in_vain(self) -> None:
        """A revision that does not come ends in a time-out, and wrong arguments are refused."""
        cache = await self.cached("a")
        revision = await self.kv.put("elsewhere", b"")
        await self.assertFailure(cache.wait_for(revision, timeout=0.05), errors.NextMessageTimeoutError)
        await self.assertFailure(cache.wait_for(0), errors.InvalidArgumentError)
        await self.assertFailure(cache.wait_for(99, timeout=-1), errors.ConfigurationError)
        waiting = cache.wait_for(99, timeout=None)
        await cache.stop()
        await self.assertFailure(waiting, errors.SubscriptionClosedError)
        await self.assertFailure(cache.wait_for(99), errors.SubscriptionClosedError)

    async def test_listeners(self) -> None:
        """A listener gets each entry that changes the cache, when it has; what it raises is logged and counted."""
        cache = await self.cached()
        got: list[tuple[str, Operation, bool]] = []

        def listen(entry: KeyValueEntry) -> None:
            got.append((entry.key, entry.operation, entry.key in cache))
            if entry.key == "bad":
                raise ValueError(entry.key)

        cache.add_listener(listen)
        await self.kv.put("bad", b"")
        await self.kv.delete("nothing")
        await self.kv.delete("a")
        await cache.wait_for(await self.kv.put("a", b""), timeout=15)
        put, delete = Operation.PUT, Operation.DELETE
        self.assertEqual(got, [("bad", put, True), ("a", delete, False), ("a", put, True)])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        cache.remove_listener(listen)
        await cache.wait_for(await self.kv.put("a", b""), timeout=15)
        self.assertEqual(len(got), 3)

    async def test_stop(self) -> None:
        """A cache that is stopped keeps what it had, says that it is not fresh, and leaves nothing at the server."""
        cache = await self.cached()
        async with cache:
            pass
        await self.assert_nothing_left()
        await cache.done
        self.assertEqual(values(cache), {"a": b"1", "b.x": b"1"})
        self.assertFalse(cache.is_fresh)


class BoundsTests(CacheTestCase):
    """What it may hold."""

    async def test_too_much_at_first(self) -> None:
        """There is no cache of more than it may hold, and nothing stays at the server."""
        await self.cached()
        await self.cache.stop()
        for options in ({"max_keys": 1}, {"max_bytes": 5}):
            await self.assertFailure(self.kv.cache(**options), errors.KeyValueCacheFullError)
        wrong: dict[str, Any]
        for wrong in ({"max_keys": 0}, {"max_bytes": 0}, {"verify_every": 0.0}):
            self.assertRaises(errors.InvalidArgumentError, self.kv.cache, **wrong)
        self.cache = await self.kv.cache(max_keys=2, max_bytes=6)
        await self.cache.stop()
        await self.until_nothing_left()

    async def until_nothing_left(self) -> None:
        for _ in range(200):
            if not await self.kv.js.consumer_names("KV_b"):
                return
            await self.sleep(0.05)
        await self.assert_nothing_left()

    async def test_too_much_later(self) -> None:
        """When the bucket outgrows it, it ends: every lookup says so, and it holds nothing any more."""
        cache = await self.cached(max_bytes=100)
        done, waiting = cache.done, cache.wait_for(9, timeout=15)
        await self.kv.put("a", b"x" * 90)
        await self.kv.put("big", b"x" * 90)
        for each in (done, waiting):
            await self.assertFailure(each, errors.KeyValueCacheFullError)
        for each in (cache.done, cache.wait_for(1)):
            await self.assertFailure(each, errors.KeyValueCacheFullError)
        for lookup in (lambda: cache["a"], lambda: len(cache), lambda: list(cache), lambda: "a" in cache, lambda: cache.get("a")):
            self.assertRaises(errors.KeyValueCacheFullError, lookup)
        self.assertFalse(cache.is_fresh)
        await self.until_nothing_left()

    async def test_the_bucket_is_gone(self) -> None:
        """When the bucket is deleted, it ends with an error."""
        cache = await self.cached()
        done = cache.done
        await self.kv.js.delete_key_value("b")
        await self.assertFailure(done, errors.BucketNotFoundError)
        self.assertRaises(errors.BucketNotFoundError, len, cache)


class HealingTests(CacheTestCase):
    """What is broken below it is mended."""

    async def test_restarts(self) -> None:
        """The server is killed again and again while somebody writes and deletes: in the end the cache has what the bucket has."""
        cache = await self.cached()
        going = True

        async def write() -> None:
            number = 0
            while going:
                number += 1
                key = f"k.{number % 13}"
                try:
                    await (self.kv.delete(key) if not number % 3 else self.kv.put(key, b"%d" % number))
                except errors.NatsError:
                    continue
                await self.sleep(0.005)

        writing = Deferred.fromCoroutine(write())
        for _ in range(4):
            await self.sleep(0.1)
            await self.server.restart(kill=True, down=0.1)
            await self.until(lambda: cache.is_fresh, 30, "freshness")
        going = False
        await writing
        await cache.wait_for(await self.kv.put("last", b""), timeout=30)
        expected = {key: (await self.kv.get(key)).value for key in await self.kv.keys()}
        self.assertEqual(values(cache), expected)
        self.assertGreaterEqual(cache.resets, 4)

    async def test_a_key_that_went_unseen(self) -> None:
        """A key that was deleted while there was no connection, and its marker removed, is dropped; the cache is not fresh until then."""
        cache = await self.cached(proxied=True)
        got: list[KeyValueEntry] = []
        cache.add_listener(got.append)
        await self.proxy.refuse()
        self.proxy.rst()
        await self.until(lambda: not cache.is_fresh, 15)
        self.assertEqual(values(cache), {"a": b"1", "b.x": b"1"})
        await self.kv.delete("a")
        await self.kv.purge_deletes(0)
        await self.kv.put("b.x", b"2")
        await self.proxy.accept()
        await self.until(lambda: cache.is_fresh, 30, "freshness")
        self.assertEqual(values(cache), {"b.x": b"2"})
        self.assertEqual({(entry.key, entry.operation) for entry in got}, {("a", Operation.PURGE), ("b.x", Operation.PUT)})

    async def test_keys_that_age_out_without_a_marker(self) -> None:
        """In a bucket whose keys vanish without a word, the cache finds out by itself."""
        cache = await self.cached(config={"ttl": 2.0}, verify_every=0.5)
        self.assertEqual(len(cache), 2)
        await self.until(lambda: not cache, 30, "ageing out")

    async def test_keys_that_were_removed_from_the_stream(self) -> None:
        """With ``verify_every``, also what was removed behind the bucket's back is found; what is there stays."""
        cache = await self.cached("a", "b.>", verify_every=0.2)
        request = PurgeRequest(filter="$KV.b.a")
        await self.kv.js.call(PurgeResponse, self.kv.js.prefix.stream_purge("KV_b"), request)
        await self.until(lambda: "a" not in cache, 30, "finding out")
        await cache.wait_for(await self.kv.put("a", b"2"), timeout=15)
        await self.sleep(1.5)
        self.assertEqual(values(cache), {"a": b"2", "b.x": b"1"})

    async def test_who_may_not_ask(self) -> None:
        """Without the permission to ask for the stream, a cache works all the same, and says in the log what it cannot do."""
        permissions = {"publish": {"deny": ["$JS.API.STREAM.INFO.>"]}}
        users = [{"user": "all", "password": "p"}, {"user": "some", "password": "p", "permissions": permissions}]
        server = await self.start_server({"authorization": {"users": users}}, jetstream=True)
        js = (await self.connect(server, user="all", password="p")).jetstream()
        self.kv = await js.create_key_value(KeyValueConfig(bucket="b"))
        await self.kv.put("a", b"1")
        nc = await self.connect(server, user="some", password="p", **RECONNECT)
        # Its handle is made of what another one knows of the bucket.
        stream = type(self.kv.stream)(nc.jetstream(), self.kv.stream.cached_info)
        self.cache = await KeyValue(stream).cache()
        self.addCleanup(self.finish)
        logged: list[str] = []

        @provider(ILogObserver)
        def observer(event: LogEvent) -> None:
            logged.append(str(event.get("log_format")))

        globalLogPublisher.addObserver(cast("ILogObserver", observer))
        self.addCleanup(globalLogPublisher.removeObserver, cast("ILogObserver", observer))
        await server.restart()
        await self.until(lambda: self.cache.is_fresh and self.cache.resets, 30, "freshness")
        self.assertTrue([line for line in logged if "may not ask which keys there are" in line])
        self.assertEqual(values(self.cache), {"a": b"1"})
