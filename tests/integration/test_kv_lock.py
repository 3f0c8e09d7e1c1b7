"""Locks and elections with real servers: their times to live, their markers, restarts, and buckets with replicas."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from pynats_twisted import errors
from pynats_twisted.jetstream.api import StreamSource
from pynats_twisted.keyvalue.codecs import Base64KeyCodec, Base64ValueCodec
from pynats_twisted.keyvalue.config import KeyValueConfig
from pynats_twisted.keyvalue.held import HeldLock
from tests.support.jetstream import JetStreamTestCase

TTL = 2.0


class LockTests(JetStreamTestCase):
    """Clients of one bucket."""

    timeout = 40

    async def begin(self, **options: Any) -> None:
        self.server = await self.start_server(jetstream=True)
        self.one = await self.connect(self.server, reconnect_wait=0.05, reconnect_wait_max=0.2)
        self.two = await self.connect(self.server, reconnect_wait=0.05, reconnect_wait_max=0.2)
        self.kv = await self.one.jetstream().create_key_value(KeyValueConfig(bucket="b", limit_marker_ttl=1.0, **options))
        self.kv_two = await self.two.jetstream().key_value("b")

    async def until_consumers(self, number: int) -> None:
        """Wait until the bucket's stream has so many."""
        deadline = self.reactor.seconds() + 10
        while (found := (await self.kv.stream.info()).state.consumer_count) != number:
            self.assertLess(self.reactor.seconds(), deadline, f"{found} consumers, not {number}")
            await self.sleep(0.02)

    async def test_handed_over(self) -> None:
        """A lock outlives its ttl as long as it is held, goes to the one who waits when it is given back, and leaves no consumer."""
        await self.begin(history=5)
        held = await self.kv.lock("l", ttl=TTL, holder=b"one").acquire()
        waiting = self.kv_two.lock("l", ttl=TTL, holder=b"two").acquire()
        await self.until_consumers(1)
        await self.sleep(2 * TTL)
        self.assertTrue(held.is_held)
        self.assertEqual((await self.kv_two.get("l")).value, b"one")
        await held.release()
        second = await waiting
        self.assertGreater(second.fencing, held.fencing)
        self.assertEqual((await self.kv.get("l", second.fencing)).value, b"two")
        await self.until_consumers(0)
        # Whatever the history: of a lock there is one message.
        self.assertEqual((await self.kv.stream.info(subjects_filter=">")).state.subjects, {"$KV.b.l": 1})

    async def test_client_that_vanishes(self) -> None:
        """The lock of a client that cannot reach the server goes to another, and is lost there before that."""
        await self.begin()
        proxy = await self.start_proxy(self.server)
        cut_off = await self.connect(proxy)
        held = await (await cut_off.jetstream().key_value("b")).lock("l", ttl=TTL).acquire()
        waiting = self.kv.lock("l", ttl=TTL).acquire()
        lost_first: list[bool] = []

        def look(second: HeldLock) -> HeldLock:
            lost_first.append(not held.is_held)
            return second

        waiting.addCallback(look)
        await self.until_consumers(1)
        await proxy.close()
        reason = await held.lost
        self.assertIsInstance(reason, errors.LockLostError)
        second = await waiting
        self.assertEqual(lost_first, [True])
        self.assertGreater(second.fencing, held.fencing)
        with self.assertRaises(errors.LockLostError):
            await held.put("k", b"v")

    async def test_restarts(self) -> None:
        """A lock and the writes under it survive a server that is killed and comes back in time."""
        await self.begin()
        held = await self.kv.lock("l", ttl=10.0).acquire()
        for number in range(3):
            writes = [held.put(f"k{number}{each}", b"v") for each in range(5)]
            await self.server.restart(kill=True, down=0.1)
            await gatherResults(writes)
        self.assertTrue(held.is_held)
        self.assertEqual(set(await self.kv.keys()), {"l", *(f"k{number}{each}" for number in range(3) for each in range(5))})
        await held.release()

    async def test_closed_and_drained(self) -> None:
        """A client that is closed or drained gives its lock back: the next one need not wait for the ttl."""
        await self.begin()
        for ending in ("close", "drain"):
            client = await self.connect(self.server)
            held = await (await client.jetstream().key_value("b")).lock("l", ttl=60.0).acquire()
            waiting = self.kv.lock("l", ttl=60.0).acquire(timeout=30.0)
            await self.until_consumers(1)
            await getattr(client, ending)()
            second = await waiting
            self.assertFalse(held.is_held)
            await second.release()

    async def test_guarded_writes(self) -> None:
        """Each guarded write is stored under the lock, and none when somebody else has it."""
        await self.begin(history=5)
        held: HeldLock = await self.kv.lock("l", ttl=TTL).acquire()
        revision = await held.put("k", b"1")
        revision = await held.update("k", b"2", revision)
        with self.assertRaises(errors.WrongLastSequenceError):
            await held.update("k", b"3", revision - 1)
        self.assertEqual([each.value for each in await self.kv.history("k")], [b"1", b"2"])
        await held.delete("k")
        with self.assertRaises(errors.KeyDeletedError):
            await self.kv.get("k")
        await held.purge("k")
        self.assertEqual(len(await self.kv.history("k")), 1)
        await self.kv_two.purge("l")
        other = await self.kv_two.lock("l", ttl=TTL).acquire()
        for write in (held.put("k", b"4"), held.update("k", b"4", 0), held.delete("k"), held.purge("k")):
            with self.assertRaises(errors.LockLostError):
                await write
        self.assertIsInstance(await held.lost, errors.LockLostError)
        await other.put("k", b"5")
        self.assertEqual((await self.kv.get("k")).value, b"5")

    async def test_updates_beside_other_writers(self) -> None:
        """An update under a lock is stored though others write to the bucket all the time."""
        await self.begin()
        held = await self.kv.lock("l", ttl=TTL).acquire()
        stop: list[bool] = []

        async def write() -> int:
            number = 0
            while not stop:
                await self.kv_two.put("other", b"%d" % number)
                number += 1
                await self.sleep(0.01)
            return number

        writing = Deferred.fromCoroutine(write())
        revision = 0
        for number in range(20):
            revision = await held.update("k", b"%d" % number, revision, timeout=20.0)
        stop.append(True)
        self.assertGreater(await writing, 0)
        self.assertEqual((await self.kv.get("k")).value, b"19")

    async def test_mirror_and_codecs(self) -> None:
        """A lock of a mirror is that of its origin. Where a bucket has codecs, names and holders are encoded like all keys and values."""
        await self.begin()
        js = self.two.jetstream()
        codecs: dict[str, Any] = {"key_codec": Base64KeyCodec(), "value_codec": Base64ValueCodec()}
        config = KeyValueConfig(bucket="m", mirror=StreamSource(name="b"), allow_msg_ttl=True)
        mirror = await js.create_key_value(config, **codecs)
        kv = await self.one.jetstream().key_value("b", **codecs)
        name = "ein Schloß"
        async with kv.lock(name, ttl=TTL, holder=b"me") as held:
            # A direct get may be answered by the mirror, which lags.
            self.assertEqual(kv.entry_of(await kv.stream.get_last_msg(kv.subjects.read(name), direct=False)).value, b"me")
            with self.assertRaises(errors.LockTimeoutError):
                await mirror.lock(name, ttl=TTL).acquire(timeout=0)
            waiting = mirror.lock(name, ttl=TTL).acquire()
            await self.until_consumers(1)
        second = await waiting
        self.assertGreater(second.fencing, held.fencing)
        revision = await second.put("ein Schlüssel", b"v")
        self.assertEqual(kv.entry_of(await kv.stream.get_msg(revision, direct=False)).value, b"v")

    async def test_bucket_made_anew(self) -> None:
        """Who waits for a lock of a bucket that is deleted and made anew gets the new one's; its holder learns that it has none."""
        await self.begin()
        for number in range(5):
            await self.kv.put("k", b"%d" % number)
        held = await self.kv.lock("l", ttl=TTL).acquire()
        waiting = self.kv_two.lock("l", ttl=TTL).acquire()
        await self.until_consumers(1)
        js = self.one.jetstream()
        await js.delete_key_value("b")
        await js.create_key_value(KeyValueConfig(bucket="b", limit_marker_ttl=1.0))
        self.assertIsInstance(await held.lost, errors.LockLostError)
        self.assertTrue((await waiting).is_held)

    async def test_shortest_ttl(self) -> None:
        """What a lock refuses before it asks is what the server would make something else of, and nothing more than that."""
        await self.begin()
        js = self.one.jetstream()
        plain = await js.create_key_value(KeyValueConfig(bucket="plain"))
        self.assertRaises(errors.JetStreamConfigError, plain.lock, "l")
        with self.assertRaises(errors.MessageTTLError):
            await js.publish("$KV.plain.l", b"", ttl=TTL)
        long = await js.create_key_value(KeyValueConfig(bucket="long", limit_marker_ttl=60.0, history=2))
        self.assertRaises(errors.JetStreamConfigError, long.lock, "l", ttl=TTL)
        seq = (await js.publish("$KV.long.l", b"", ttl=TTL, rollup="sub")).seq
        self.assertEqual((await long.stream.get_msg(seq)).headers["Nats-TTL"], "60")
        short = await js.create_key_value(KeyValueConfig(bucket="short", limit_marker_ttl=60.0))
        held = await short.lock("l", ttl=TTL).acquire()
        self.assertEqual((await short.stream.get_msg(held.fencing)).headers["Nats-TTL"], "2")

    async def test_election(self) -> None:
        """One candidate leads; when its client is gone another does, and all know which."""
        await self.begin()
        elections = [kv.election("e", ttl=TTL, candidate=name) for name, kv in ((b"one", self.kv), (b"two", self.kv_two))]
        first = await elections[0].campaign()
        elections[1].start()
        await self.until(lambda: elections[1].leader is not None, timeout=20.0)
        self.assertEqual((elections[1].leader, elections[1].is_leader), (b"one", False))
        await self.server.restart(kill=True, down=0.1)
        await first.put("k", b"v")
        await self.one.close()
        second = await elections[1].campaign()
        self.assertGreater(second.fencing, first.fencing)
        with self.assertRaises(errors.LockLostError):
            first.check()
        await self.until(lambda: elections[1].leader == b"two", timeout=20.0)
        await elections[1].stop()
        self.assertEqual((await self.kv_two.stream.info()).state.consumer_count, 0)


class ReplicatedTests(JetStreamTestCase):
    """A bucket with three replicas, whose leader refuses what comes while something else is being stored."""

    async def test_writes_renewals_and_a_new_leader(self) -> None:
        """Guarded writes and renewals of one holder go on side by side, and through a change of the leader."""
        cluster = await self.start_cluster(jetstream=True)
        nc = await self.connect(cluster, reconnect_wait=0.05, reconnect_wait_max=0.2)
        js = nc.jetstream(timeout=10.0)
        kv = await js.create_key_value(KeyValueConfig(bucket="b", limit_marker_ttl=1.0, replicas=3))
        lock = kv.lock("l", ttl=6.0)
        async with lock as held:
            begun = self.reactor.seconds()
            revision = held.revision
            number = 0
            revisions: list[int] = []
            while self.reactor.seconds() - begun < 5.0 or held.revision == revision:
                revisions += await gatherResults([held.put("k", b"%d.%d" % (number, each), timeout=10.0) for each in range(3)])
                number += 1
                if number == 5:
                    await kv.stream.leader_stepdown()
            self.assertEqual(revisions, sorted(revisions))
            # Not by a direct get, which may ask a replica that lags.
            last = await kv.stream.get_last_msg(kv.subjects.read("k"), direct=False)
            self.assertEqual((last.seq, last.data), (revisions[-1], b"%d.2" % (number - 1)))
        self.assertGreater(held.revision, revision)
        async with lock as again:
            self.assertGreater(again.fencing, held.fencing)
