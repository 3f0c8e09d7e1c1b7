"""When a message that failed is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from pynats_twisted.errors import ConfigurationError

MAX_RETRY_AFTER: Final = 3600.0
"""The longest wait in seconds that a target can ask for with ``Retry-After``."""

STANDARD_WEBHOOKS: Final = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""The waits in seconds that Standard Webhooks recommends: nearly 76 hours in all."""

FAST: Final = (1.0, 2.0, 300.0, 12)
"""The schedule ``fast``: first wait, factor and longest wait in seconds, and attempts."""

MAX_ATTEMPTS: Final = 1000

_UNITS: Final = (("hours", 3600.0), ("minutes", 60.0))


class RetrySchedule:
    """The waits between the attempts at one message.

    :param waits: seconds before the second, third and further attempts, as many as there are.
    :param attempts: attempts in all; when there are more than waits, the last wait counts for the others.
    :param jitter: part of a wait, 0 to 1, that is added to it at most, by chance: so that not all come back at once.
    :param chance: gives numbers from 0 to 1.
    :raises ConfigurationError: a number breaks a rule.
    """

    def __init__(
        self, waits: Sequence[float], attempts: int | None = None, jitter: float = 0.0, chance: Callable[[], float] = random.random
    ) -> None:
        self.attempts = len(waits) + 1 if attempts is None else attempts
        if not waits or any(not wait >= 0 for wait in waits):
            raise ConfigurationError(f"waits {list(waits)!r} must be seconds, at least one, none less than 0")
        if not 1 <= self.attempts <= MAX_ATTEMPTS or not 0 <= jitter <= 1:
            raise ConfigurationError(f"attempts {attempts!r} must be 1 to {MAX_ATTEMPTS}, jitter {jitter!r} 0 to 1")
        self._waits = tuple(waits)
        self._jitter = jitter
        self._chance = chance

    @classmethod
    def growing(cls, initial: float, factor: float, longest: float, attempts: int, jitter: float = 0.0) -> RetrySchedule:
        """Waits that grow: *initial* seconds, each time *factor* times as long, at most *longest*."""
        if not initial > 0 or not factor >= 1 or not longest >= initial:
            raise ConfigurationError(
                f"initial {initial!r} must be more than 0, factor {factor!r} at least 1, max {longest!r} at least initial"
            )
        waits = [initial]
        while len(waits) < attempts - 1 and waits[-1] < longest:
            waits.append(min(longest, waits[-1] * factor))
            if factor == 1:
                break
        return cls(waits, attempts, jitter)

    def wait(self, attempt: int, retry_after: float = 0.0) -> float:
        """Seconds from the end of an attempt to the next.

        :param attempt: which one has failed, from 1.
        :param retry_after: seconds for which the target wants to be left alone. The wait is at least as long, up to an hour.
        """
        planned = self._waits[min(max(attempt, 1), len(self._waits)) - 1]
        return max(planned, min(retry_after, MAX_RETRY_AFTER)) * (1.0 + self._jitter * self._chance())

    def is_last(self, attempt: int) -> bool:
        """Whether no attempt follows this one."""
        return attempt >= self.attempts

    @property
    def span(self) -> float:
        """Seconds from the first attempt to the last, without jitter and the time that attempts take."""
        return sum(self._waits[min(number, len(self._waits) - 1)] for number in range(self.attempts - 1))

    def in_words(self) -> str:
        """The schedule for people."""
        if self.attempts == 1:
            return "1 attempt"
        unit, size = next((found for found in _UNITS if self.span >= 2 * found[1]), ("seconds", 1.0))
        return f"{self.attempts} attempts over about {self.span / size:.0f} {unit}"
