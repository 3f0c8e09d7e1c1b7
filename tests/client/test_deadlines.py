"""Many deadlines on one timer, against a model that looks at every one of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.client.deadlines import Deadlines

from .network import Network

SECONDS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 5.0]) | st.floats(0, 10, allow_nan=False)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), SECONDS),
        st.tuples(st.just("over"), st.integers(0, 30)),
        st.tuples(st.just("advance"), st.sampled_from([0.0, 0.1, 0.5, 1.0, 5.0]) | st.floats(0, 10)),
        st.tuples(st.just("clear"), st.none()),
    ),
    max_size=40,
)


class Alive(dict[str, float]):
    """The keys that can expire, with the times at which they do; the deadlines of one client."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.deadlines = Deadlines(clock, self, self.on_expired)
        self.expired: list[str] = []

    def add(self, key: str, seconds: float) -> None:
        self[key] = self.clock.seconds() + seconds
        self.deadlines.set(key, self[key])

    def on_expired(self, key: str) -> None:
        del self[key]
        self.expired.append(key)


class DeadlinesTests(SynchronousTestCase):
    @given(STEPS)
    def test_as_the_model(self, steps: list[tuple[str, Any]]) -> None:
        """Each key expires once, when its time has come and not before, unless it was over before."""
        clock = Network()
        alive = Alive(clock)
        due: dict[str, float] = {}
        for number, (step, value) in enumerate(steps):
            alive.expired.clear()
            if step == "set":
                alive.add(f"{number:02}", value)
            elif step == "over":
                alive.pop(f"{value:02}", None)
            elif step == "clear":
                alive.clear()
                alive.deadlines.clear()
                self.assertEqual(clock.getDelayedCalls(), [])
            else:
                due = dict(alive)
                clock.advance(value)
                expected = sorted(key for key in due if due[key] <= clock.seconds())
                self.assertEqual(sorted(alive.expired), expected)
            self.assertLessEqual(len(clock.getDelayedCalls()), 1)
        clock.advance(100)
        self.assertEqual((len(alive), len(alive.deadlines), clock.getDelayedCalls()), (0, 0, []))

    def test_order(self) -> None:
        """The earliest is told first; keys with the same time in the order of the keys."""
        alive = Alive(Clock())
        for key, seconds in zip("abcdef", (3, 1, 2, 1, 1, 2), strict=True):
            alive.add(key, seconds)
        alive.clock.advance(3)
        self.assertEqual("".join(alive.expired), "bdecfa")

    def test_order_of_many(self) -> None:
        """So it is with very many, when most are over before their time."""
        alive = Alive(Clock())
        for number in range(3000):
            alive.add(f"{number:04}", 1.0 + number * 7919 % 3000)
        for number in range(3000):
            if number % 7:
                del alive[f"{number:04}"]
        expected = sorted(alive, key=lambda key: alive[key])
        alive.deadlines.set("0000", 0.5)
        for _ in range(30):
            alive.clock.advance(101)
        self.assertEqual(alive.expired, ["0000", *(key for key in expected if key != "0000")])

    def test_changes_while_expiring(self) -> None:
        """Whoever is told of an expiry may add keys, take others out, and end it all."""
        clock = Network()
        alive = Alive(clock)
        told = alive.on_expired

        def on_expired(key: str) -> None:
            told(key)
            if key == "first":
                del alive["same time"], alive["later"]
                alive.add("at once", 0.0)
                alive.add("again", 1.0)
            elif key == "again":
                alive.clear()
                alive.deadlines.clear()

        alive.deadlines._expired = on_expired
        for key, seconds in (("first", 1.0), ("same time", 1.0), ("later", 2.0), ("last", 5.0)):
            alive.add(key, seconds)
        clock.advance(1)
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        clock.advance(10)
        self.assertEqual(alive.expired, ["first", "at once", "again"])
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_one_timer(self) -> None:
        """However many there are, one delayed call serves them; an earlier one moves it."""
        clock = Clock()
        alive = Alive(clock)
        for number in range(1000, 0, -1):
            alive.add(f"{number:04}", number / 100)
        (call,) = clock.getDelayedCalls()
        self.assertAlmostEqual(call.getTime(), 0.01)
        for number in range(1, 1000):
            del alive[f"{number:04}"]
        clock.advance(9.99)
        self.assertEqual((alive.expired, len(alive.deadlines)), ([], 1))
        clock.advance(0.02)
        self.assertEqual(alive.expired, ["1000"])

    def test_memory(self) -> None:
        """What is over is thrown out long before its time: entries are at most a few, or four times what is alive."""
        for seconds in (lambda number: 5.0, lambda number: 100.0 - number / 1000, lambda number: number * 7919 % 1000):
            alive = Alive(Clock())
            alive.add("stays", 1_000_000)
            for number in range(20_000):
                alive.add(f"{number:05}", seconds(number))
                if number >= 100:
                    del alive[f"{number - 100:05}"]
                self.assertLessEqual(len(alive.deadlines), 4 * 102 + 1)

    def test_work(self) -> None:
        """The work for one key does not grow with the number of those that wait: keys are looked at a few times each."""
        for waiting in (0, 20_000):
            looked_at = 0

            class Counting(Alive):
                def __contains__(self, key: object) -> bool:
                    nonlocal looked_at
                    looked_at += 1
                    return super().__contains__(key)

            alive = Counting(Clock())
            for number in range(waiting):
                alive.add(f"w{number:05}", 50.0 + number / 1000)
            looked_at = 0
            for number in range(20_000):
                alive.add(f"{number:05}", 5.0 + number % 10)
                del alive[f"{number:05}"]
                if number % 100 == 0:
                    alive.clock.advance(0.1)
            self.assertEqual(len(alive), waiting)
            self.assertLess(looked_at, 20_000 * 4)
            looked_at = 0
            alive.clock.advance(30)
            for _ in range(waiting):
                alive.clock.advance(0.001)
            alive.clock.advance(1)
            self.assertEqual(len(alive.expired), waiting)
            self.assertLess(looked_at, waiting * 8 + 1000)
