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
        st.tuples(st.just("add"), SECONDS),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("advance"), st.sampled_from([0.0, 0.1, 0.5, 1.0, 5.0]) | st.floats(0, 10)),
        st.tuples(st.just("clear"), st.none()),
    ),
    max_size=40,
)


class Naive:
    """What a set of deadlines is: a dictionary, looked at as a whole."""

    def __init__(self) -> None:
        self.due: dict[int, float] = {}

    def expire(self, now: float) -> set[int]:
        expired = {key for key, due in self.due.items() if due <= now}
        for key in expired:
            del self.due[key]
        return expired


class DeadlinesTests(SynchronousTestCase):
    @given(STEPS)
    def test_as_the_model(self, steps: list[tuple[str, Any]]) -> None:
        """Each key expires once, when its time has come and not before, unless it was taken out."""
        clock, naive = Network(), Naive()
        expired: list[int] = []
        when: dict[int, float] = {}

        def on_expired(key: int) -> None:
            expired.append(key)
            when[key] = clock.seconds()

        deadlines = Deadlines[int](clock, on_expired)
        due: dict[int, float] = {}
        for number, (step, value) in enumerate(steps):
            expired.clear()
            if step == "add":
                naive.due[number] = due[number] = clock.seconds() + value
                deadlines.add(number, value)
            elif step == "remove":
                naive.due.pop(value, None)
                deadlines.remove(value)
            elif step == "clear":
                naive.due.clear()
                deadlines.clear()
                self.assertEqual(clock.getDelayedCalls(), [])
            else:
                clock.advance(value)
                self.assertEqual(set(expired), naive.expire(clock.seconds()))
                self.assertEqual(len(expired), len(set(expired)))
            self.assertEqual(len(deadlines), len(naive.due))
            self.assertLessEqual(len(clock.getDelayedCalls()), 1)
            self.assertLessEqual(len(deadlines._groups), len(deadlines))
        for key, at in when.items():
            self.assertAlmostEqual(at, due[key], places=6)
        clock.advance(100)
        self.assertEqual((len(deadlines), clock.getDelayedCalls()), (0, []))

    def test_order(self) -> None:
        """Keys that expire together do so in the order in which they were added."""
        clock = Clock()
        expired: list[str] = []
        deadlines = Deadlines[str](clock, expired.append)
        for key in "abcdef":
            deadlines.add(key, 1.0)
        clock.advance(1)
        self.assertEqual("".join(expired), "abcdef")

    def test_changes_while_expiring(self) -> None:
        """Whoever is told of an expiry may add keys, take others out, and end it all."""
        clock = Network()
        expired: list[str] = []

        def on_expired(key: str) -> None:
            expired.append(key)
            if key == "first":
                deadlines.remove("later")
                deadlines.add("at once", 0.0)
                deadlines.add("again", 1.0)
            elif key == "again":
                deadlines.clear()

        deadlines = Deadlines[str](clock, on_expired)
        deadlines.add("first", 1.0)
        deadlines.add("later", 2.0)
        clock.advance(1)
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        clock.advance(10)
        self.assertEqual(expired, ["first", "at once", "again"])
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_one_timer(self) -> None:
        """However many there are, one delayed call serves them; an earlier one moves it."""
        clock = Clock()
        expired: list[int] = []
        deadlines = Deadlines[int](clock, expired.append)
        for number in range(1000, 0, -1):
            deadlines.add(number, number / 100)
        (call,) = clock.getDelayedCalls()
        self.assertAlmostEqual(call.getTime(), 0.01)
        for number in range(1, 1000):
            deadlines.remove(number)
        self.assertEqual(len(deadlines._groups), 1)
        clock.advance(9.99)
        self.assertEqual(expired, [])
        clock.advance(0.02)
        self.assertEqual(expired, [1000])
