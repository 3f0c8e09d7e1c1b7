"""Leader election in virtual time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher

from pynats_twisted import errors
from pynats_twisted.keyvalue.bucket import KeyValue
from pynats_twisted.keyvalue.election import LeaderElection
from tests.keyvalue.lock_bucket import LockTestCase

TTL = 6.0


class ElectionTests(LockTestCase):
    """Candidates of one election.

    :ivar told: what their callbacks were called with.
    """

    def setUp(self) -> None:
        super().setUp()
        self.told: list[tuple[str, str, Any]] = []

    def candidate(self, name: str, kv: KeyValue | None = None, **options: Any) -> LeaderElection:
        """One that stands."""
        options = {
            "on_elected": lambda held: self.told.append((name, "elected", held.fencing)),
            "on_lost": lambda reason: self.told.append((name, "lost", reason)),
            **options,
        }
        election = (kv or self.kv).election("e", ttl=TTL, candidate=name.encode(), **options)
        election.start()
        self.advance()
        return election

    def told_of(self, name: str) -> list[str]:
        return [what for who, what, _ in self.told if who == name]

    def test_one_leads(self) -> None:
        """Of two that stand, one leads, and both know which."""
        one, two = self.candidate("one"), self.candidate("two", self.other())
        self.advance(20)
        self.assertEqual((one.is_leader, two.is_leader), (True, False))
        self.assertEqual((one.leader, two.leader), (b"one", b"one"))
        self.assertEqual((one.fencing, two.fencing, two.held), (1, None, None))
        self.assertEqual([what for _, what, _ in self.told], ["elected"])

    def test_the_next_one(self) -> None:
        """When the leader stops, the other leads, with a larger fencing number; the first one's callback is told, with None."""
        one, two = self.candidate("one"), self.candidate("two", self.other())
        first = one.fencing
        assert first is not None
        self.result(one.stop())
        self.advance()
        assert two.fencing is not None
        self.assertGreater(two.fencing, first)
        self.assertIn(("one", "lost", None), self.told)
        self.assertEqual(self.result(two.campaign()), two.held)
        self.assertIsNone(self.result(one.stop()))

    def test_leader_that_is_replaced(self) -> None:
        """A leader that is replaced is told why, and stands again."""
        one = self.candidate("one")
        self.bucket.store("e", b"thief", Nats_TTL="3", Nats_Msg_Id="thief.1")
        self.advance(2.5)
        self.assertFalse(one.is_leader)
        self.assertEqual((self.told_of("one"), one.leader), (["elected", "lost"], b"thief"))
        self.assertIsInstance(self.told[-1][2], errors.LockLostError)
        self.advance(1)
        self.assertTrue(one.is_leader)
        self.assertEqual(one.leader, b"one")

    def test_leaders_are_told(self) -> None:
        """``on_leader`` is called once for each new leader, not for renewals, and when there is none any more."""
        seen: list[bytes | None] = []
        two = self.candidate("two", self.other(), on_leader=lambda entry: seen.append(None if entry.is_deleted else entry.value))
        self.advance(20)
        self.result(two.resign())
        self.advance(3)
        self.assertEqual(seen, [b"two", None, b"two"])

    def test_resign(self) -> None:
        """Who resigns lets the others be before it, and stands again."""
        one, two = self.candidate("one"), self.candidate("two", self.other())
        self.result(one.resign())
        self.advance(3)
        self.assertTrue(two.is_leader)
        self.result(two.stop())
        self.advance(1)
        self.assertTrue(one.is_leader)
        self.assertIsNone(self.result(two.stop()))

    def test_work_of_a_leader(self) -> None:
        """What ``on_elected`` returns is cancelled when the leadership is over."""
        work: list[Deferred[None]] = []
        ended: list[str] = []

        async def lead(held: Any) -> None:
            work.append(Deferred())
            try:
                await work[-1]
            except CancelledError:
                ended.append("cancelled")
                raise

        one = self.candidate("one", on_elected=lead)
        self.advance(10)
        self.assertEqual((len(work), ended), (1, []))
        self.bucket.store("e", b"", KV_Operation="DEL")
        self.advance(TTL)
        self.assertEqual((len(work), ended), (2, ["cancelled"]))
        self.result(one.stop())
        self.assertEqual(ended, ["cancelled", "cancelled"])

    def test_callback_that_fails(self) -> None:
        """A callback that raises is logged, and the leadership is kept."""
        case: Any = self
        log: Any = EventLoggingObserver.createWithCleanup(case, globalLogPublisher)

        def lead(held: Any) -> None:
            raise KeyError("mine")

        one = self.candidate("one", on_elected=lead)
        self.advance(10)
        self.assertTrue(one.is_leader)
        self.assertTrue(any("callback" in formatEvent(event) for event in log))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_campaign(self) -> None:
        """``campaign`` begins to stand, and fires with the leadership when it is there; whoever stops waiting changes nothing."""
        one = self.candidate("one")
        election = self.other().election("e", ttl=TTL, candidate=b"two")
        waiting, given_up = election.campaign(), election.campaign()
        self.advance(5)
        self.assertNoResult(waiting)
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.result(one.stop())
        self.assertIs(self.result(waiting), election.held)
        waiting = one_more = election.campaign()
        self.assertIs(self.successResultOf(waiting), election.held)
        self.assertIs(waiting, one_more)

    def test_stop_while_standing(self) -> None:
        """Who stops without leading leaves no consumer, and those who wait for its leadership are told."""
        self.candidate("one")
        election = self.other().election("e", ttl=TTL)
        waiting = election.campaign()
        done = election.done
        self.advance()
        self.assertEqual(len(self.bucket.consumers), 3)
        self.result(election.stop())
        self.error(waiting, errors.LockLostError)
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(len(self.bucket.consumers), 1)
        self.assertRaises(errors.ConfigurationError, election.start)
        self.assertRaises(errors.LockLostError, election.campaign)

    def test_context(self) -> None:
        """``async with`` starts and stops it."""
        go_on: Deferred[None] = Deferred()

        async def stand() -> int | None:
            async with self.kv.election("e", ttl=TTL) as election:
                await go_on
                return election.fencing

        stood = Deferred.fromCoroutine(stand())
        self.advance(1)
        go_on.callback(None)
        self.assertEqual(self.result(stood), 1)
        self.assertEqual(self.bucket.consumers, {})

    def test_closed_client(self) -> None:
        """It ends with its client, gives the leadership back, and says so."""
        kv = self.other()
        one = self.candidate("one", kv)
        done = one.done
        self.result(kv.js.client.close())
        self.error(done, errors.ConnectionClosedError)
        self.assertEqual(self.told_of("one"), ["elected", "lost"])
        last = self.bucket.last("e")
        assert last is not None
        self.assertIn("KV-Operation", last.headers)

    def test_wrong_callback(self) -> None:
        """What cannot be called is refused at once."""
        error = self.assertRaises(errors.InvalidArgumentError, self.kv.election, "e", on_lost=3)
        self.assertIn("on_lost=3", str(error))
