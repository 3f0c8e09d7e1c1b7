"""Locks in virtual time: taken, kept, lost and given back."""

from __future__ import annotations

from collections.abc import Generator
from gc import collect
from typing import Any
from weakref import ref

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import errors
from pynats_twisted.keyvalue.held import HeldLock
from pynats_twisted.keyvalue.lock import KeyValueLock
from tests.keyvalue.lock_bucket import LockTestCase

TTL = 6.0


class HeldTestCase(LockTestCase):
    """Helps to hold one."""

    def take(self, kv: Any = None, **options: Any) -> HeldLock:
        held: HeldLock = self.result((kv or self.kv).lock("l", ttl=TTL, **options).acquire())
        return held

    def reason(self, held: HeldLock) -> errors.LockLostError:
        """Why it is lost."""
        reason = self.successResultOf(held.lost)
        assert isinstance(reason, errors.LockLostError)
        return reason


class AcquireTests(HeldTestCase):
    """Getting a lock."""

    def test_free_lock(self) -> None:
        """A lock that nobody has is taken at once; its key says who has it, and for how long."""
        held = self.take(holder=b"me")
        last = self.bucket.last("l")
        assert last is not None
        self.assertEqual((last.data, last.seq, last.headers["Nats-TTL"]), (b"me", held.fencing, "6"))
        self.assertTrue(held.is_held)

    def test_second_waits_until_released(self) -> None:
        """Who wants a lock that is held gets it when it is given back, with a larger fencing number."""
        first = self.take()
        waiting = self.other().lock("l", ttl=TTL).acquire()
        self.advance(20)
        self.assertNoResult(waiting)
        self.result(first.release())
        second = self.result(waiting)
        self.assertGreater(second.fencing, first.fencing)
        self.assertFalse(first.is_held)

    def test_holder_that_vanishes(self) -> None:
        """When a holder is gone without a word, the next one has the lock as soon as the ttl is over."""
        other = self.other()
        first = self.take(other)
        waiting = self.kv.lock("l", ttl=TTL).acquire()
        self.advance()
        other.js.client.close()
        self.bucket.messages[:] = []
        self.bucket.store("l", b"gone", Nats_TTL="6")
        self.advance(5.9)
        self.assertNoResult(waiting)
        self.advance(0.2)
        self.assertGreater(self.result(waiting).fencing, first.fencing)

    def test_no_consumer_is_left(self) -> None:
        """Who has waited leaves no consumer on the server."""
        first = self.take()
        waiting = self.other().lock("l", ttl=TTL).acquire()
        self.advance()
        self.assertEqual(len(self.bucket.consumers), 1)
        self.result(first.release())
        self.result(waiting)
        self.advance()
        self.assertEqual(self.bucket.consumers, {})

    def test_timeout(self) -> None:
        """Waiting ends after the timeout, with a LockTimeoutError, and leaves nothing."""
        self.take()
        waiting = self.other().lock("l", ttl=TTL).acquire(timeout=3.0)
        self.advance(2.9)
        self.assertNoResult(waiting)
        self.advance(0.2)
        self.assertIn("within 3 s", str(self.error(waiting, errors.LockTimeoutError)))
        self.assertEqual(self.bucket.consumers, {})

    def test_try_once(self) -> None:
        """With a timeout of 0 a lock that is held is not waited for; one that is free is taken."""
        first = self.take()
        lock = self.other().lock("l", ttl=TTL)
        self.error(lock.acquire(timeout=0), errors.LockTimeoutError)
        self.result(first.release())
        self.assertTrue(self.result(lock.acquire(timeout=0)).is_held)

    def test_cancel_while_waiting(self) -> None:
        """Who stops waiting leaves no consumer, and gets nothing later."""
        first = self.take()
        waiting = self.other().lock("l", ttl=TTL).acquire()
        self.advance()
        waiting.cancel()
        self.error(waiting, CancelledError)
        self.result(first.release())
        self.advance(1)
        last = self.bucket.last("l")
        assert last is not None
        self.assertEqual((last.headers["KV-Operation"], self.bucket.consumers), ("PURGE", {}))

    def test_cancel_on_its_way(self) -> None:
        """A lock whose taking was under way when the waiting was cancelled is given back when it arrives."""
        waiting = self.kv.lock("l", ttl=TTL).acquire()
        self.network.advance()
        while not self.bucket.published:
            self.advance()
        held = self.successResultOf(waiting)
        self.result(held.release())
        self.bucket.loses_acks = True
        waiting = self.kv.lock("l", ttl=TTL).acquire()
        self.advance()
        waiting.cancel()
        self.error(waiting, CancelledError)
        self.bucket.loses_acks = False
        # The publish has an id, and is sent again: the answer comes late.
        self.advance(1.5)
        last = self.bucket.last("l")
        assert last is not None
        self.assertIn("KV-Operation", last.headers)

    def test_lost_ack(self) -> None:
        """A lock that was taken, and whose ack was lost, is recognised and held: it is not waited for until it runs out."""
        self.bucket.loses_acks = True
        waiting = self.kv.lock("l", ttl=TTL).acquire()
        self.advance(1.9)
        self.assertNoResult(waiting)
        held = self.result(waiting, within=0.5)
        self.assertEqual(held.fencing, 1)

    def test_lost_ack_that_is_too_old(self) -> None:
        """A lock whose ack comes after nine tenths of its ttl is not relied on: it is given back and taken anew, at once."""
        self.bucket.loses_acks = True
        waiting = self.kv.lock("l", ttl=1.1).acquire()
        self.advance(0.95)
        self.bucket.loses_acks = False
        # It is sent again after a second; the server counts whole seconds.
        held = self.result(waiting, within=0.5)
        self.assertTrue(held.is_held)
        self.assertGreater(held.fencing, 1)

    def test_server_is_away(self) -> None:
        """Who waits without an end goes on when there is a server again."""
        self.bucket.is_silent = True
        waiting = self.kv.lock("l", ttl=TTL).acquire()
        self.advance(5)
        self.assertNoResult(waiting)
        self.bucket.is_silent = False
        self.assertTrue(self.result(waiting, within=10.0).is_held)

    def test_no_marker(self) -> None:
        """In a bucket that leaves no markers a lock that has run out is found within another ttl."""
        self.bucket.marker_ttl = 0.0
        self.bucket.store("l", b"gone", Nats_TTL="6")
        waiting = self.kv.lock("l", ttl=TTL).acquire()
        self.assertTrue(self.result(waiting, within=12.5).is_held)

    def test_closed_client(self) -> None:
        """Waiting ends with the client."""
        self.take(self.other())
        waiting = self.kv.lock("l", ttl=TTL).acquire()
        self.advance()
        self.client.close()
        self.error(waiting, errors.ConnectionClosedError)

    def test_wrong_values(self) -> None:
        """A wrong ttl, a bucket without TTLs and a wrong timeout are refused before anything is sent; the text says why."""
        for ttl, config, rule in (
            (0.5, {}, "at least 1"),
            (True, {}, "number of seconds"),
            (6.0, {"allow_msg_ttl": False, "subject_delete_marker_ttl": 0.0}, "allow_msg_ttl"),
            (6.0, {"subject_delete_marker_ttl": 60.0, "max_msgs_per_subject": 5}, "at least 60"),
            (6.0, {"max_age": 5.0}, "at most 5"),
        ):
            kv = self.handle(self.client, **config)
            error = self.assertRaises(errors.JetStreamConfigError, kv.lock, "l", ttl=ttl)
            self.assertIn(rule, str(error))
        self.assertRaises(errors.ConfigurationError, self.kv.lock("l").acquire, timeout=-1)
        self.assertRaises(errors.InvalidKeyError, self.kv.lock, "a lock")


class KeepTests(HeldTestCase):
    """Keeping a lock, and losing it."""

    def test_renewed(self) -> None:
        """A lock is held for as long as its holder lives; its fencing number stays the same, its key's revision does not."""
        held = self.take()
        fencing = held.fencing
        self.advance(60)
        self.assertTrue(held.is_held)
        self.assertEqual(held.fencing, fencing)
        self.assertGreaterEqual(held.revision, 30)
        self.assertEqual(len(self.bucket.messages), 1)
        self.assertNoResult(held.lost)

    def test_deleted(self) -> None:
        """When the key was deleted, the holder learns it with its next renewal, within a third of the ttl."""
        held = self.take()
        self.bucket.store("l", b"", KV_Operation="DEL")
        self.assertTrue(held.is_held)
        self.advance(TTL / 3 + 0.1)
        self.assertFalse(held.is_held)
        self.assertIn("deleted", str(self.reason(held)))
        self.assertRaises(errors.LockLostError, held.check)

    def test_taken_by_another(self) -> None:
        """When somebody else has the key, the holder learns it with its next renewal, and does not touch it."""
        held = self.take()
        self.bucket.store("l", b"thief", Nats_Msg_Id="thief.1")
        self.advance(TTL)
        self.assertIn("somebody else", str(self.reason(held)))
        last = self.bucket.last("l")
        assert last is not None
        self.assertEqual(last.data, b"thief")

    def test_no_connection(self) -> None:
        """Without a connection it is lost when nine tenths of the ttl have passed since the last confirmed renewal was sent."""
        held = self.take()
        self.advance(2.05)
        lost = held.lost
        self.cut()
        self.advance(5.25)
        self.assertNoResult(lost)
        self.advance(0.2)
        self.assertIsInstance(self.successResultOf(lost), errors.LockLostError)
        self.assertIn("in time", str(self.reason(held)))

    def test_short_outage(self) -> None:
        """A connection that comes back in time costs nothing."""
        held = self.take()
        self.advance(1.5)
        self.cut()
        self.advance(1)
        self.server.start()
        self.advance(20)
        self.assertTrue(held.is_held)

    def test_lost_acks_of_renewals(self) -> None:
        """Renewals whose acks are lost do not make it lose the lock when the acks come back in time."""
        held = self.take()
        self.bucket.loses_acks = True
        self.advance(4.5)
        self.bucket.loses_acks = False
        self.advance(10)
        self.assertTrue(held.is_held)
        self.assertEqual(self.result(held.put("k", b"v")), self.bucket.last_seq)

    def test_silent_server(self) -> None:
        """A server that answers nothing is as good as none, and the deadline counts from when a renewal was sent, not acked."""
        held = self.take()
        self.bucket.is_silent = True
        self.advance(5.3)
        self.assertTrue(held.is_held)
        self.advance(0.2)
        self.assertFalse(held.is_held)

    def test_late_ack_of_a_renewal(self) -> None:
        """What counts is when a renewal was sent, not when its ack came."""
        held = self.take()
        self.bucket.loses_acks = True
        self.advance(2.9)
        self.bucket.loses_acks = False
        self.advance(0.3)
        self.assertEqual(held.revision, 2)
        self.bucket.is_silent = True
        self.advance(4.1)
        self.assertTrue(held.is_held)
        self.advance(0.2)
        self.assertFalse(held.is_held)

    def test_late_reactor(self) -> None:
        """When the program stood still for longer than the ttl, the lock is lost before anything else is done."""
        held = self.take()
        published = len(self.bucket.published)
        self.network.rightNow += 10
        self.assertFalse(held.is_held)
        waiting = held.put("k", b"v")
        self.failureResultOf(waiting, errors.LockLostError)
        self.advance()
        self.assertEqual(len(self.bucket.published), published)

    def test_logged(self) -> None:
        """A lock that is lost while nobody listens can be found in the log."""
        from twisted.internet.testing import EventLoggingObserver
        from twisted.logger import formatEvent, globalLogPublisher

        case: Any = self
        log: Any = EventLoggingObserver.createWithCleanup(case, globalLogPublisher)
        held = self.take()
        self.bucket.store("l", b"thief", Nats_Msg_Id="thief.1")
        self.advance(TTL)
        self.assertFalse(held.is_held)
        self.assertIn("somebody else", " ".join(formatEvent(event) for event in log))


class ReleaseTests(HeldTestCase):
    """Giving it back."""

    def test_release(self) -> None:
        """What is given back is a marker that goes by itself; nothing is renewed any more; ``lost`` fires with None."""
        held = self.take()
        lost = held.lost
        self.result(held.release())
        self.assertIsNone(self.successResultOf(lost))
        self.assertIsNone(self.successResultOf(held.lost))
        last = self.bucket.last("l")
        assert last is not None
        self.assertEqual((last.headers["KV-Operation"], last.headers["Nats-TTL"]), ("PURGE", "6"))
        self.assertIsNone(self.result(held.release()))
        self.advance(7)
        self.assertEqual(self.bucket.messages, [])

    def test_release_of_a_lost_one(self) -> None:
        """Giving back what was lost before says so, and leaves the key to who has it."""
        held = self.take()
        self.bucket.store("l", b"thief", Nats_Msg_Id="thief.1")
        self.error(held.release(), errors.LockLostError)
        last = self.bucket.last("l")
        assert last is not None
        self.assertEqual(last.data, b"thief")

    def test_release_without_a_connection(self) -> None:
        """Without a connection, it is given back when there is one again, or is over when the lock has run out."""
        held = self.take()
        self.cut()
        released = held.release()
        self.advance(3)
        self.assertNoResult(released)
        self.server.start()
        self.result(released, within=1.0)
        last = self.bucket.last("l")
        assert last is not None
        self.assertIn("KV-Operation", last.headers)
        held = self.take()
        self.cut()
        released = held.release()
        self.advance(5.5)
        self.assertIsNone(self.successResultOf(released))

    def test_release_whose_ack_is_lost(self) -> None:
        """Giving back is over when it is known to have arrived, without an ack, too."""
        held = self.take()
        self.bucket.loses_acks = True
        released = held.release()
        self.advance(2)
        self.bucket.loses_acks = False
        self.assertIsNone(self.result(released, within=3.0))

    def test_release_of_which_nothing_is_heard(self) -> None:
        """When it is unknown whether giving it back has arrived, it is found out: it was not lost, whoever has it now."""
        for is_taken in (False, True):
            kv = self.handle(self.client, duplicate_window=1.0)
            held = self.take(kv)
            self.bucket.loses_acks = True
            released = held.release()
            self.advance()
            self.cut()
            self.bucket.loses_acks = False
            if is_taken:
                self.bucket.store("l", b"next", Nats_Msg_Id="next.1")
            last_seq = self.bucket.last_seq
            self.advance(1.5)
            self.server.start()
            self.assertIsNone(self.result(released, within=3.0))
            self.assertEqual(self.bucket.last_seq, last_seq)
            self.assertIsNone(self.successResultOf(held.lost))

    def test_nothing_is_kept(self) -> None:
        """A client keeps nothing of the locks that it had."""
        held = self.take()
        gone = ref(held)
        self.result(held.release())
        del held
        collect()
        self.assertIsNone(gone())

    def test_close(self) -> None:
        """Closing the client gives its locks back, and their holders learn it."""
        kv = self.other()
        held = self.take(kv)
        closed = kv.js.client.close()
        self.result(closed)
        self.assertIn("closed", str(self.reason(held)))
        last = self.bucket.last("l")
        assert last is not None
        self.assertEqual(last.headers["KV-Operation"], "PURGE")

    def test_drain(self) -> None:
        """Draining the client gives its locks back in the end."""
        kv = self.other()
        held = self.take(kv)
        self.result(kv.js.client.drain(), within=2.0)
        self.assertFalse(held.is_held)
        last = self.bucket.last("l")
        assert last is not None
        self.assertEqual(last.headers["KV-Operation"], "PURGE")

    def test_lock_close(self) -> None:
        """Closing a lock object gives back what was taken with it and ends the waiting for it."""
        lock = self.kv.lock("l", ttl=TTL)
        held = self.result(lock.acquire())
        waiting = lock.acquire()
        self.advance()
        self.result(lock.close())
        self.assertFalse(held.is_held)
        self.error(waiting, CancelledError)
        self.advance()
        self.assertEqual(self.bucket.consumers, {})


class ContextTests(HeldTestCase):
    """``async with``, and work that ends with the lock."""

    def test_body(self) -> None:
        """The lock is held in the body, and free behind it."""
        lock = self.kv.lock("l", ttl=TTL)
        go_on: Deferred[None] = Deferred()

        async def use() -> int:
            async with lock as held:
                self.assertTrue(held.is_held)
                await go_on
                return held.fencing

        used = Deferred.fromCoroutine(use())
        self.advance(20)
        go_on.callback(None)
        self.assertEqual(self.result(used), 1)
        last = self.bucket.last("l")
        assert last is not None
        self.assertIn("KV-Operation", last.headers)

    def test_one_inside(self) -> None:
        """Of two that use one object, one is inside at a time, also when the lock was lost meanwhile."""
        lock = self.kv.lock("l", ttl=TTL)
        inside: list[str] = []
        first: Deferred[None] = Deferred()

        async def use(name: str, until: Deferred[None] | None) -> None:
            async with lock:
                inside.append(name)
                if until is not None:
                    await until

        one = Deferred.fromCoroutine(use("one", first))
        two = Deferred.fromCoroutine(use("two", None))
        self.advance()
        self.bucket.store("l", b"", KV_Operation="DEL")
        self.advance(10)
        self.assertEqual(inside, ["one"])
        first.callback(None)
        self.error(one, errors.LockLostError)
        self.result(two)
        self.assertEqual(inside, ["one", "two"])

    def test_lost_in_the_body(self) -> None:
        """A body that ended well although the lock was lost is told at its end; what it raised itself goes first."""
        for raised, expected in ((None, errors.LockLostError), (KeyError("mine"), KeyError)):
            lock = self.kv.lock("l", ttl=TTL)
            go_on: Deferred[None] = Deferred()

            async def use(lock: KeyValueLock = lock, go_on: Deferred[None] = go_on, raised: Exception | None = raised) -> None:
                async with lock:
                    await go_on
                    if raised is not None:
                        raise raised

            used = Deferred.fromCoroutine(use())
            self.advance()
            self.bucket.store("l", b"", KV_Operation="DEL")
            self.advance(TTL)
            go_on.callback(None)
            self.error(used, expected)

    def test_cancelled_body(self) -> None:
        """A body that is cancelled gives the lock back."""
        lock = self.kv.lock("l", ttl=TTL)

        async def use() -> None:
            async with lock:
                await Deferred()

        used = Deferred.fromCoroutine(use())
        self.advance()
        used.cancel()
        self.error(used, CancelledError)
        last = self.bucket.last("l")
        assert last is not None
        self.assertIn("KV-Operation", last.headers)

    def test_guard(self) -> None:
        """Guarded work is cancelled when the lock is lost, and says why; else its result or its error is passed on."""
        held = self.take()
        self.assertEqual(self.successResultOf(held.guard(_result(3))), 3)
        self.failureResultOf(held.guard(_error()), KeyError)
        work: Deferred[None] = Deferred()
        guarded = held.guard(work)
        mine: Deferred[None] = Deferred()
        cancelled = held.guard(mine)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.bucket.store("l", b"", KV_Operation="DEL")
        self.advance(TTL)
        self.assertIn("deleted", str(self.error(guarded, errors.LockLostError)))
        self.assertTrue(work.called)
        self.failureResultOf(held.guard(Deferred()), errors.LockLostError)
        self.failureResultOf(held.guard(_result(3)), errors.LockLostError)


async def _result(value: int) -> int:
    return value


async def _error() -> None:
    raise KeyError("mine")


class GuardedTests(HeldTestCase):
    """Writes under a lock."""

    def test_put(self) -> None:
        """What the holder writes is stored, and says to the server which revision the lock has to have."""
        held = self.take()
        revision = self.result(held.put("k", b"v"))
        last = self.bucket.last("k")
        assert last is not None
        self.assertEqual((last.data, last.seq), (b"v", revision))
        self.assertEqual(last.headers["Nats-Expected-Last-Subject-Sequence"], str(held.revision))
        self.assertEqual(last.headers["Nats-Expected-Last-Subject-Sequence-Subject"], "$KV.b.l")

    def test_refused(self) -> None:
        """The server refuses what a holder writes that was replaced without knowing it; the holder learns it by that."""
        held = self.take()
        self.bucket.store("l", b"thief", Nats_Msg_Id="thief.1")
        for write in (held.put("k", b"v"), held.delete("k"), held.purge("k")):
            self.error(write, errors.LockLostError)
        self.assertIsNone(self.bucket.last("k"))
        self.assertIn("somebody else", str(self.reason(held)))

    def test_writes_and_renewals(self) -> None:
        """Writes go on while the lock is renewed, which changes its revision; none is refused for that."""
        held = self.take()
        for number in range(200):
            self.result(held.put("k", b"%d" % number), within=0.5)
            self.advance(0.07)
        self.assertGreater(held.revision, held.fencing)
        self.assertTrue(held.is_held)
        self.assertEqual(sum(frame.subject.endswith(".k") for frame in self.bucket.published), 200)

    def test_write_during_a_renewal(self) -> None:
        """A write that comes while a renewal waits for its ack goes out when the revision is known."""
        held = self.take()
        self.bucket.loses_acks = True
        self.advance(2.1)
        write = held.put("k", b"v")
        self.advance(0.2)
        self.assertIsNone(self.bucket.last("k"))
        self.bucket.loses_acks = False
        self.result(write, within=3.0)
        last = self.bucket.last("k")
        assert last is not None
        self.assertEqual(last.headers["Nats-Expected-Last-Subject-Sequence"], str(held.revision))

    def test_order(self) -> None:
        """Writes that are not awaited are stored in the order in which they were called."""
        held = self.take()
        writes = [held.put(f"k{number}", b"v") for number in range(5)]
        revisions = [self.result(write) for write in writes]
        self.assertEqual(revisions, sorted(revisions))
        self.bucket.loses_acks = True
        writes += [held.put(key, b"v") for key in ("a", "b")]
        self.advance(0.5)
        self.assertEqual((self.bucket.last("a") is None, self.bucket.last("b") is None), (False, True))
        self.bucket.loses_acks = False
        self.result(writes[-1], within=2.0)

    def test_lost_while_waiting(self) -> None:
        """Writes that wait when the lock is lost fail with that, and are not sent later."""
        held = self.take()
        self.cut()
        self.advance(2.2)
        write = held.put("k", b"v", timeout=20.0)
        self.advance(4)
        self.error(write, errors.LockLostError)
        self.server.start()
        self.advance(5)
        self.assertIsNone(self.bucket.last("k"))

    def test_timeout(self) -> None:
        """A write that cannot be sent in time because the lock is being renewed, or another write is under way, is not sent later."""
        held = self.take()
        self.bucket.is_silent = True
        self.advance(2.1)
        for key in ("a", "b"):
            write = held.put(key, b"v", timeout=0.5)
            self.advance(0.6)
            self.assertIn("not stored", str(self.error(write, errors.LockTimeoutError)))
        first, second = held.put("c", b"v"), held.put("d", b"v", timeout=0.5)
        self.advance(0.6)
        self.error(second, errors.LockTimeoutError)
        self.bucket.is_silent = False
        self.result(first, within=3.0)
        self.assertEqual([each for each in "abcd" if self.bucket.last(each)], ["c"])

    def test_refused_and_nothing_heard(self) -> None:
        """When it cannot be found out why a write was refused, it fails as not stored, and does not pass on what the asking met."""
        held = self.take()
        self.advance(0.1)

        def interfere() -> None:
            self.bucket.store("l", b"thief", Nats_Msg_Id="thief.1")
            self.bucket.is_deaf = True

        self.bucket.interfere = interfere
        write = held.put("k", b"v", timeout=1.0)
        self.advance(2.5)
        self.error(write, errors.LockTimeoutError)
        self.assertIsNone(self.bucket.last("k"))

    def test_update(self) -> None:
        """An update is stored only when the key has the revision; what else is written to the bucket does not make it fail."""
        held = self.take()
        revision = self.bucket.store("k", b"1")
        updated = self.result(held.update("k", b"2", revision))
        self.error(held.update("k", b"3", revision), errors.WrongLastSequenceError)
        self.assertTrue(held.is_held)
        last = self.bucket.last("k")
        assert last is not None
        self.assertEqual((last.data, last.seq), (b"2", updated))
        self.assertGreater(self.result(held.update("new", b"1", 0)), updated)

    def test_update_that_others_come_before(self) -> None:
        """An update is refused when the key was written in the last moment; when something else was, it is tried again."""
        held = self.take()
        revision = self.bucket.store("k", b"1")
        self.bucket.interfere = lambda: self.bucket.store("other", b"1")
        revision = self.result(held.update("k", b"2", revision), within=1.0)
        self.bucket.interfere = lambda: self.bucket.store("k", b"theirs")
        updated = held.update("k", b"3", revision)
        self.advance(1)
        self.error(updated, errors.WrongLastSequenceError)
        self.assertTrue(held.is_held)

    def test_purge_and_delete(self) -> None:
        """A purge takes the history with it, and a delete does not."""
        held = self.take()
        for write, operation, rollup in ((held.delete, "DEL", None), (held.purge, "PURGE", "sub")):
            self.result(write("k"))
            last = self.bucket.last("k")
            assert last is not None
            self.assertEqual((last.headers["KV-Operation"], last.headers.get("Nats-Rollup")), (operation, rollup))

    def test_own_key(self) -> None:
        """The lock's own key cannot be written under it."""
        held = self.take()
        self.error(held.put("l", b"v"), errors.InvalidKeyError)

    def test_after_release(self) -> None:
        """What was given back guards nothing."""
        held = self.take()
        self.result(held.release())
        self.error(held.put("k", b"v"), errors.LockLostError)

    def test_cancelled_write(self) -> None:
        """A write that is cancelled does not stop those behind it."""
        held = self.take()
        self.bucket.loses_acks = True
        one, two = held.put("a", b"v"), held.put("b", b"v")
        self.advance()
        one.cancel()
        self.error(one, CancelledError)
        self.bucket.loses_acks = False
        self.result(two, within=2.0)


class InlineCallbacksTests(HeldTestCase):
    """Without coroutines."""

    def test_inline_callbacks(self) -> None:
        """All of it works with ``inlineCallbacks``."""
        from twisted.internet.defer import inlineCallbacks

        @inlineCallbacks
        def use() -> Generator[Deferred[Any], Any, int]:
            held = yield self.kv.lock("l", ttl=TTL).acquire(timeout=1.0)
            revision: int = yield held.put("k", b"v")
            yield held.release()
            return revision

        self.assertEqual(self.result(use()), 2)
