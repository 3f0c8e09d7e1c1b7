"""When messages are tried again."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.retry_schedule import FAST, STANDARD_WEBHOOKS, RetrySchedule
from pynats_twisted.errors import ConfigurationError


class RetryScheduleTests(SynchronousTestCase):
    """:class:`RetrySchedule`."""

    def test_fast(self) -> None:
        """``fast``: 1 s, doubled up to 5 min, 12 attempts."""
        schedule = RetrySchedule.growing(*FAST)
        waits = [schedule.wait(attempt) for attempt in range(1, 12)]
        self.assertEqual(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300])
        self.assertFalse(schedule.is_last(11))
        self.assertTrue(schedule.is_last(12))
        self.assertEqual(schedule.span, sum(waits))
        self.assertEqual(schedule.in_words(), "12 attempts over about 19 minutes")

    def test_standard_webhooks(self) -> None:
        """``standard-webhooks``: ten attempts within three days and a bit."""
        schedule = RetrySchedule(STANDARD_WEBHOOKS)
        self.assertEqual(schedule.attempts, 10)
        self.assertEqual([schedule.wait(attempt) for attempt in (1, 2, 9)], [5, 300, 86400])
        self.assertEqual(schedule.in_words(), "10 attempts over about 76 hours")

    def test_more_attempts_than_waits(self) -> None:
        """The last wait counts for all attempts behind it."""
        schedule = RetrySchedule([1.0, 5.0], 5)
        self.assertEqual([schedule.wait(attempt) for attempt in (1, 2, 3, 4, 99)], [1, 5, 5, 5, 5])
        self.assertEqual(schedule.in_words(), "5 attempts over about 16 seconds")

    def test_retry_after(self) -> None:
        """What the target asks for is waited for at least, but not for more than an hour; a shorter one shortens nothing."""
        schedule = RetrySchedule([10.0])
        self.assertEqual(schedule.wait(1, 60.0), 60.0)
        self.assertEqual(schedule.wait(1, 5.0), 10.0)
        self.assertEqual(schedule.wait(1, 1e9), 3600.0)

    def test_jitter(self) -> None:
        """Jitter makes a wait longer, never shorter than what the target asked for."""
        chances = [0.0, 0.5, 1.0]
        schedule = RetrySchedule([10.0], jitter=0.2, chance=lambda: chances.pop(0))
        self.assertEqual([schedule.wait(1), schedule.wait(1), schedule.wait(1, 60.0)], [10.0, 11.0, 72.0])

    def test_constant(self) -> None:
        """A factor of 1 is the same wait each time."""
        schedule = RetrySchedule.growing(2.0, 1.0, 2.0, 1000)
        self.assertEqual([schedule.wait(1), schedule.wait(999)], [2.0, 2.0])
        self.assertEqual(RetrySchedule.growing(2.0, 1.0, 2.0, 1).in_words(), "1 attempt")

    def test_bad_numbers(self) -> None:
        """Numbers that make no sense are refused."""
        for call in (
            lambda: RetrySchedule([]),
            lambda: RetrySchedule([-1.0]),
            lambda: RetrySchedule([1.0], 0),
            lambda: RetrySchedule([1.0], jitter=1.5),
            lambda: RetrySchedule.growing(0.0, 2.0, 1.0, 3),
            lambda: RetrySchedule.growing(1.0, 0.5, 1.0, 3),
            lambda: RetrySchedule.growing(2.0, 2.0, 1.0, 3),
        ):
            with self.assertRaises(ConfigurationError):
                call()
