"""The circuit breaker."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.breaker import BreakerState, CircuitBreaker
from pynats_twisted.errors import ConfigurationError


class CircuitBreakerTests(SynchronousTestCase):
    """:class:`CircuitBreaker`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.seen: list[BreakerState] = []
        self.breaker = CircuitBreaker(3, 30.0, self.clock.seconds, self.seen.append)

    def fail_times(self, times: int) -> None:
        for _ in range(times):
            self.breaker.failed()

    def test_opens(self) -> None:
        """It opens with the last of so many failures in a row, and lets nothing through then."""
        self.fail_times(2)
        self.assertEqual(self.breaker.room(8, 0), 8)
        self.fail_times(1)
        self.assertEqual(self.breaker.room(8, 0), 0)
        self.assertEqual(self.breaker.wait, 30.0)
        self.assertEqual(self.breaker.opened, 1)

    def test_in_a_row(self) -> None:
        """A success between failures begins the count anew."""
        self.fail_times(2)
        self.breaker.succeeded()
        self.fail_times(2)
        self.assertTrue(self.breaker.is_closed)

    def test_half_open(self) -> None:
        """After the cooldown one goes through, and no second one beside it."""
        self.fail_times(3)
        self.clock.advance(29.9)
        self.assertEqual(self.breaker.room(8, 0), 0)
        self.clock.advance(0.1)
        self.assertEqual(self.breaker.room(8, 0), 1)
        self.assertEqual(self.breaker.room(7, 1), 0)
        self.assertEqual(self.seen, [BreakerState.OPEN, BreakerState.HALF_OPEN])

    def test_probe_decides(self) -> None:
        """The one that goes through closes it again, or opens it for another cooldown; the second opening is no new one."""
        self.fail_times(3)
        self.clock.advance(30)
        self.breaker.room(1, 0)
        self.breaker.failed()
        self.assertEqual((self.breaker.state, self.breaker.wait, self.breaker.opened), (BreakerState.OPEN, 30.0, 1))
        self.clock.advance(30)
        self.breaker.room(1, 0)
        self.breaker.succeeded()
        self.assertEqual(self.breaker.room(8, 0), 8)
        self.fail_times(2)
        self.assertTrue(self.breaker.is_closed)

    def test_late_ends(self) -> None:
        """What began before it opened: its failure changes nothing, its success closes it."""
        self.fail_times(3)
        self.clock.advance(10)
        self.breaker.failed(1000.0)
        self.assertEqual(self.breaker.wait, 20.0)
        self.breaker.succeeded()
        self.assertTrue(self.breaker.is_closed)

    def test_retry_after(self) -> None:
        """A target that wants to be left alone for longer than the cooldown is."""
        self.fail_times(2)
        self.breaker.failed(90.0)
        self.assertEqual(self.breaker.wait, 90.0)

    def test_hurry(self) -> None:
        """A sign that the target is back ends the cooldown, and lets one through, not all."""
        self.fail_times(3)
        self.breaker.hurry()
        self.assertEqual((self.breaker.wait, self.breaker.room(8, 0)), (0.0, 1))
        self.breaker.succeeded()
        self.breaker.hurry()
        self.assertEqual(self.breaker.room(8, 0), 8)

    def test_numbers(self) -> None:
        """Metrics have 0, 1 and 2."""
        self.assertEqual([state.number for state in (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN)], [0, 1, 2])

    def test_bad_numbers(self) -> None:
        """Numbers that make no sense are refused."""
        for after, cooldown in ((0, 1.0), (1, 0.0)):
            with self.assertRaises(ConfigurationError):
                CircuitBreaker(after, cooldown, self.clock.seconds)
