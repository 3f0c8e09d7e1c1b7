"""The books of a consumption, by themselves and against a model of a server."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.jetstream.pull_statuses import PullStatus, StatusKind
from pynats_twisted.jetstream.pulls import Pull, PullPlan, Pulls


def plan(max_messages: int = 100, max_bytes: int = 0, stop_after: int = 0, low: int | None = None, expires: float = 30.0) -> PullPlan:
    return PullPlan(
        max_messages=max_messages,
        max_bytes=max_bytes,
        low_messages=min((max_messages + 1) // 2 if low is None else low, max_messages - 1),
        low_bytes=(max_bytes + 1) // 2,
        expires=expires,
        heartbeat=10.0,
        stop_after=stop_after,
    )


def status(kind: StatusKind, messages: int | None = None, size: int | None = None) -> PullStatus:
    return PullStatus(kind, 0, "", messages, size)


def arrive(pulls: Pulls, count: int, size: int = 0) -> None:
    for _ in range(count):
        pulls.has_arrived(size)


class AskingTests(SynchronousTestCase):
    """When more is asked for, and how much."""

    def test_refill_at_half(self) -> None:
        """The first pull asks for everything there is room for, the next when half of it has come, for what is missing."""
        pulls = Pulls(plan(), 0.0)
        self.assertEqual(pulls.wanted(0.0), Pull(1, 100, 0, 10.0))
        self.assertIsNone(pulls.wanted(0.0))
        arrive(pulls, 49)
        self.assertIsNone(pulls.wanted(0.0))
        arrive(pulls, 1)
        self.assertEqual(pulls.wanted(0.0), Pull(2, 50, 0, 10.0))

    def test_what_waits_here_counts(self) -> None:
        """Messages that wait here are room that is taken: what is asked for never makes more than the bound."""
        pulls = Pulls(plan(), 0.0)
        pulls.wanted(0.0)
        arrive(pulls, 100)
        for _ in range(100):
            pulls.hold(0)
        self.assertIsNone(pulls.wanted(0.0))
        for _ in range(40):
            pulls.release(0)
        self.assertIsNone(pulls.wanted(0.0))
        for _ in range(20):
            pulls.release(0)
        self.assertEqual(pulls.wanted(0.0), Pull(2, 60, 0, 10.0))

    def test_refill_by_bytes(self) -> None:
        """With a bound of bytes, half of these calls for more as well."""
        pulls = Pulls(plan(1000, 10_000), 0.0)
        self.assertEqual(pulls.wanted(0.0), Pull(1, 1000, 10_000, 10.0))
        arrive(pulls, 4, 1000)
        self.assertIsNone(pulls.wanted(0.0))
        arrive(pulls, 1, 1000)
        self.assertEqual(pulls.wanted(0.0), Pull(2, 5, 5000, 10.0))

    def test_bytes_used_up_to_the_last_one(self) -> None:
        """A server ends a pull silently whose bytes are used up exactly: nothing is left of it."""
        pulls = Pulls(plan(1000, 10_000), 0.0)
        pulls.wanted(0.0)
        arrive(pulls, 10, 1000)
        self.assertEqual(pulls.wanted(0.0), Pull(2, 1000, 10_000, 10.0))

    def test_stop_after(self) -> None:
        """No more is asked for than shall be handed out, whatever is given back or lost."""
        pulls = Pulls(plan(stop_after=120), 0.0)
        self.assertEqual(pulls.wanted(0.0), Pull(1, 100, 0, 10.0))
        arrive(pulls, 90)
        self.assertEqual(pulls.wanted(0.0), Pull(2, 20, 0, 10.0))
        pulls.answered(1, status(StatusKind.ENDED, 10, 0), 0.0)
        self.assertEqual(pulls.wanted(0.0), Pull(3, 10, 0, 10.0))
        pulls.reset(0.0)
        self.assertEqual(pulls.wanted(0.0), Pull(4, 30, 0, 1.0))
        arrive(pulls, 30)
        self.assertIsNone(pulls.wanted(0.0))
        pulls.replace()
        self.assertEqual(pulls.wanted(0.0), Pull(5, 1, 0, 10.0))

    def test_paused(self) -> None:
        """Without a connection nothing is asked for."""
        pulls = Pulls(plan(), 0.0)
        pulls.paused = True
        self.assertIsNone(pulls.wanted(0.0))


class StatusTests(SynchronousTestCase):
    """What a status does to the books."""

    def setUp(self) -> None:
        self.pulls = Pulls(plan(), 0.0)
        self.pulls.wanted(0.0)
        arrive(self.pulls, 60)
        # 40 of the first pull are open, and 60 of the second.
        self.pulls.wanted(0.0)

    def test_rest_is_given_back(self) -> None:
        """A pull that has ended gives back what it did not deliver, as the server says it."""
        self.assertTrue(self.pulls.answered(2, status(StatusKind.ENDED, 60, 0), 1.0))
        self.assertEqual(self.pulls.open, 40)
        self.assertEqual(self.pulls.wanted(1.0), Pull(3, 60, 0, 10.0))

    def test_refused_as_a_whole(self) -> None:
        """A status that names no rest has refused the whole pull; where the same could happen again at once, it waits, longer each time."""
        self.pulls.answered(2, status(StatusKind.BUSY), 1.0)
        self.assertEqual(self.pulls.open, 40)
        self.assertIsNone(self.pulls.wanted(1.0))
        self.assertAlmostEqual(self.pulls.wait(1.0), 0.1)
        self.assertEqual(self.pulls.wanted(1.1), Pull(3, 60, 0, 10.0))
        self.pulls.answered(3, status(StatusKind.BUSY), 1.1)
        self.assertIsNone(self.pulls.wanted(1.25))
        self.assertEqual(self.pulls.wanted(1.31), Pull(4, 60, 0, 10.0))

    def test_status_of_a_pull_that_is_over(self) -> None:
        """After a reset, what a server still says about the pulls before it changes nothing."""
        self.pulls.reset(1.0)
        self.pulls.wanted(1.0)
        self.assertFalse(self.pulls.answered(2, status(StatusKind.ENDED, 60, 0), 1.0))
        self.assertFalse(self.pulls.answered(77, status(StatusKind.DELETED), 1.0))
        self.assertEqual(self.pulls.open, 100)

    def test_wrong_numbers(self) -> None:
        """A rest larger than what is open cannot make the books wrong."""
        self.pulls.answered(2, status(StatusKind.ENDED, 10**9, 10**9), 1.0)
        self.assertEqual((self.pulls.open, self.pulls.open_bytes), (0, 0))
        self.assertEqual(self.pulls.wanted(1.0), Pull(3, 100, 0, 10.0))

    def test_messages_that_were_lost(self) -> None:
        """What the server has delivered and what never came here is not waited for, once the last pull is over."""
        pulls = Pulls(plan(), 0.0)
        pulls.wanted(0.0)
        arrive(pulls, 5)
        pulls.answered(1, status(StatusKind.ENDED, 90, 0), 1.0)
        self.assertEqual(pulls.wanted(1.0), Pull(2, 100, 0, 10.0))

    def test_message_that_never_fits(self) -> None:
        """A message larger than all bytes that may be asked for is not asked for in a tight loop."""
        pulls = Pulls(plan(1000, 10_000), 0.0)
        pulls.wanted(0.0)
        pulls.answered(1, status(StatusKind.TOO_LARGE, 1000, 10_000), 0.0)
        self.assertIsNone(pulls.wanted(0.0))
        self.assertEqual(pulls.wanted(0.1), Pull(2, 1000, 10_000, 10.0))

    def test_pull_that_could_not_be_sent(self) -> None:
        """It counts as not asked, and is tried again a moment later."""
        pulls = Pulls(plan(), 0.0)
        pull = pulls.wanted(0.0)
        assert pull is not None
        pulls.not_sent(pull, 0.0)
        self.assertEqual(pulls.open, 0)
        self.assertIsNone(pulls.wanted(0.0))
        self.assertEqual(pulls.wanted(0.1), Pull(2, 100, 0, 10.0))


class TimeTests(SynchronousTestCase):
    """Heartbeats, and pulls whose end nobody told."""

    def test_two_heartbeats_without_a_sign(self) -> None:
        """Nothing at all for two heartbeats means that the pull is lost; not a moment before."""
        pulls = Pulls(plan(), 0.0)
        pulls.wanted(0.0)
        self.assertFalse(pulls.check(19.9))
        self.assertTrue(pulls.check(20.0))

    def test_trial_after_a_reset(self) -> None:
        """When the pull after a reset is lost as well, that is noticed soon; each time in a row it is given twice the time."""
        pulls = Pulls(plan(), 0.0)
        pulls.wanted(0.0)
        now = 20.0
        for heartbeat in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
            pulls.check(now)
            pulls.reset(now)
            pulls.reset(now)
            pull = pulls.wanted(now)
            assert pull is not None
            self.assertEqual(pull.heartbeat, heartbeat)
            self.assertEqual(pulls.wait(now), heartbeat / 8)
            self.assertFalse(pulls.check(now + 2 * heartbeat - 0.1))
            now += 2 * heartbeat
            self.assertTrue(pulls.check(now))
        # With a sign of life it is over.
        pulls.reset(now)
        pulls.wanted(now)
        arrive(pulls, 1)
        pulls.check(now + 1.0)
        pulls.reset(now + 1.0)
        self.assertEqual(pulls.wanted(now + 1.0), Pull(9, 100, 0, 1.0))

    def test_trial_that_was_a_success(self) -> None:
        """A heartbeat is enough for the next trial to be as short as the first; a trial that has ended is no measure for the next pull."""
        pulls = Pulls(plan(), 0.0)
        pulls.reset(0.0)
        pulls.wanted(0.0)
        pulls.answered(1, status(StatusKind.HEARTBEAT), 1.0)
        pulls.reset(2.0)
        self.assertEqual(pulls.wanted(2.0), Pull(2, 100, 0, 1.0))
        pulls.answered(2, status(StatusKind.ENDED, 100, 0), 3.0)
        self.assertEqual(pulls.wanted(3.0), Pull(3, 100, 0, 10.0))
        self.assertFalse(pulls.check(22.0))
        self.assertTrue(pulls.check(23.0))

    def test_trial_that_was_answered(self) -> None:
        """A trial that may have been answered in full gives no sign of life any more: the pulls after it have the usual heartbeat."""
        pulls = Pulls(plan(), 0.0)
        pulls.reset(0.0)
        self.assertEqual(pulls.wanted(0.0), Pull(1, 100, 0, 1.0))
        arrive(pulls, 60)
        self.assertEqual(pulls.wanted(0.5), Pull(2, 60, 0, 10.0))
        arrive(pulls, 40)
        pulls.check(0.6)
        self.assertFalse(pulls.check(19.0))
        self.assertTrue(pulls.check(20.6))

    def test_signs_of_life(self) -> None:
        """A heartbeat and a message are both signs of life; that of a pull that is over is none."""
        pulls = Pulls(plan(expires=100.0), 0.0)
        pulls.wanted(0.0)
        pulls.check(14.0)
        pulls.answered(1, status(StatusKind.HEARTBEAT), 15.0)
        self.assertFalse(pulls.check(34.9))
        arrive(pulls, 1)
        # It came between the two looks: from the earlier one on is counted.
        self.assertFalse(pulls.check(35.0))
        self.assertFalse(pulls.check(54.8))
        pulls.answered(9, status(StatusKind.HEARTBEAT), 54.8)
        self.assertTrue(pulls.check(55.0))

    def test_nothing_asked_nothing_expected(self) -> None:
        """While no pull is open, because a handler is slow, no heartbeat is missed; from the next pull on they count."""
        pulls = Pulls(plan(), 0.0)
        pulls.wanted(0.0)
        arrive(pulls, 100)
        for _ in range(100):
            pulls.hold(0)
        self.assertFalse(pulls.check(500.0))
        for _ in range(100):
            pulls.release(0)
        pulls.wanted(510.0)
        self.assertFalse(pulls.check(529.0))
        self.assertTrue(pulls.check(530.0))

    def test_end_that_nobody_told(self) -> None:
        """A pull whose time is over is over, also when the status was lost; another one's heartbeats do not hide that."""
        pulls = Pulls(plan(), 0.0)
        pulls.wanted(0.0)
        arrive(pulls, 60)
        pulls.wanted(29.0)
        pulls.answered(2, status(StatusKind.HEARTBEAT), 39.0)
        pulls.check(50.1)
        self.assertEqual(pulls.open, 60)

    def test_books_do_not_grow(self) -> None:
        """Pulls that were answered in full are forgotten, however many there are in the time of one."""
        pulls = Pulls(plan(), 0.0)
        for _ in range(10_000):
            pulls.wanted(0.0)
            arrive(pulls, 25)
        self.assertLess(len(pulls._live), 20)


class Server:
    """A model of what a server does with the pulls of one consumer: it deals the messages out in turn.

    :ivar waiting: ``[token, messages, bytes]`` of the pulls that it has.
    """

    def __init__(self) -> None:
        self.waiting: list[list[int]] = []
        self.sent: list[tuple[int, PullStatus]] = []

    @property
    def open(self) -> int:
        return sum(pull[1] for pull in self.waiting)

    def asked(self, pull: Pull) -> None:
        self.waiting.append([pull.token, pull.messages, pull.bytes])

    def deliver(self, size: int) -> bool:
        """Deliver a message of that size if somebody wants it; pulls that it does not fit end."""
        while self.waiting:
            pull = self.waiting.pop(0)
            if pull[2] and size > pull[2]:
                self.sent.append((pull[0], status(StatusKind.TOO_LARGE, pull[1], pull[2])))
                continue
            had_bytes = pull[2] > 0
            pull[1] -= 1
            if had_bytes:
                pull[2] -= size
                if not pull[2]:
                    # It delivers this one, and nothing else.
                    return True
            if pull[1]:
                self.waiting.append(pull)
            elif had_bytes:
                self.sent.append((pull[0], status(StatusKind.ENDED, 0, pull[2])))
            return True
        return False

    def end(self, index: int) -> None:
        token, messages, size = self.waiting.pop(index % len(self.waiting))
        self.sent.append((token, status(StatusKind.ENDED, messages, size)))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 60), st.integers(1, 300)),
        st.tuples(st.just("end"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("heartbeat"), st.just(0), st.just(0)),
        st.tuples(st.just("take"), st.integers(1, 60), st.just(0)),
        st.tuples(st.just("lose"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


class ModelTests(SynchronousTestCase):
    """Whatever happens, the books agree with the server's, or are put right again."""

    def test_messages_that_fit_only_a_whole_window(self) -> None:
        """Where the next message fits none of the parts that were asked for, it is not asked for in parts again and again."""
        for waits in (False, True):
            pulls = Pulls(plan(500, 400), 0.0)
            server = Server()
            held: list[int] = []
            asked = turns = 0
            size = 300
            while size < 320:
                turns += 1
                while (pull := pulls.wanted(0.0)) is not None:
                    asked += 1
                    server.asked(pull)
                if server.deliver(size):
                    pulls.has_arrived(size)
                    pulls.hold(size)
                    held.append(size)
                    # The next one is a little larger, and so does not fit what this one left.
                    size += 1
                while server.sent:
                    pulls.answered(*server.sent.pop(0), 0.0)
                # The handler is slow, or is not.
                while held and (not waits or turns % 10 == 0):
                    pulls.release(held.pop())
                self.assertLess(asked, 100, f"at {size}")
                self.assertLess(turns, 1000, f"at {size}")

    def drive(self, script: list[tuple[str, int, int]], max_messages: int, max_bytes: int, low: int, *, loses: bool) -> None:
        low = min(low, max_messages - 1)
        pulls = Pulls(plan(max_messages, max_bytes, low=low), 0.0)
        server = Server()
        held: list[int] = []
        now = 0.0
        exact = not max_bytes
        for what, count, size in script:
            now += 0.01
            if what == "deliver":
                for _ in range(count):
                    if not server.deliver(size):
                        break
                    pulls.has_arrived(size if max_bytes else 0)
                    pulls.hold(size if max_bytes else 0)
                    held.append(size)
            elif what == "end" and server.waiting:
                server.end(count)
            elif what == "heartbeat" and server.waiting:
                server.sent.append((server.waiting[0][0], status(StatusKind.HEARTBEAT)))
            elif what == "take":
                for one in held[:count]:
                    pulls.release(one if max_bytes else 0)
                del held[:count]
            elif what == "lose" and loses:
                # Its pulls and what it said about them are gone: nobody is told.
                server.waiting.clear()
                server.sent.clear()
                exact = False
            for token, said in server.sent:
                pulls.answered(token, said, now)
            server.sent.clear()
            while (pull := pulls.wanted(now)) is not None:
                server.asked(pull)
            self.assertGreaterEqual(pulls.open, 0)
            self.assertEqual(pulls.held, len(held))
            self.assertLessEqual(pulls.open + pulls.held, max_messages)
            if max_bytes:
                self.assertLessEqual(pulls.open_bytes + pulls.held_bytes, max_bytes)
            if exact:
                self.assertEqual(pulls.open, server.open)
                if len(held) <= low:
                    self.assertGreater(server.open, 0, "it stalls")
        # In the end, when all is taken and enough time has passed, there is a pull: nothing can be stuck for ever.
        for one in held:
            pulls.release(one if max_bytes else 0)
        for _ in range(10):
            now += 10.0
            if not server.waiting and pulls.check(now):
                pulls.reset(now)
            while (pull := pulls.wanted(now)) is not None:
                server.asked(pull)
        self.assertGreater(server.open, 0, "it is stuck")

    @settings(max_examples=150, deadline=None)
    @given(steps, st.integers(1, 100), st.data())
    def test_counts_agree(self, script: list[tuple[str, int, int]], max_messages: int, data: Any) -> None:
        """Without faults, what is open here is what is open there after each step, and there is always a pull while there is room."""
        low = data.draw(st.integers(0, max_messages - 1))
        self.drive(script, max_messages, 0, low, loses=False)

    @settings(max_examples=150, deadline=None)
    @given(steps, st.integers(1, 100), st.integers(300, 3000), st.booleans())
    def test_bounds_and_recovery(self, script: list[tuple[str, int, int]], max_messages: int, max_bytes: int, by_bytes: bool) -> None:
        """With a bound of bytes, and with a server that forgets its pulls, the bounds hold and it goes on."""
        self.drive(script, max_messages, max_bytes if by_bytes else 0, (max_messages + 1) // 2, loses=True)
