"""Limits on how much one HTTP route takes: requests per second, and requests at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final

from pynats_twisted.errors import ConfigurationError

RATE_RULE: Final = 'requests per unit of time, such as "100/s", "600/m" or "5000/h"'

_RATE = re.compile(r"([1-9][0-9]{0,8}) ?/ ?(s|m|h)", re.ASCII)
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_rate(text: str) -> float:
    """Requests per second, from a text such as ``"100/s"``, ``"600/m"`` or ``"5000/h"``.

    :raises ConfigurationError: *text* is no rate.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise ConfigurationError(f"{text!r} is no rate; allowed: {RATE_RULE}")
    return int(match[1]) / _UNITS[match[2]]


class TokenBucket:
    """Lets *rate* calls per second through on average, and *burst* at once.

    :param rate: calls per second, more than 0.
    :param burst: how many may come at once after a pause; at least 1. By default a second's worth.
    :param now: the clock, in seconds; ``reactor.seconds``.
    """

    __slots__ = ("_burst", "_now", "_rate", "_then", "_tokens")

    def __init__(self, rate: float, now: Callable[[], float], burst: int | None = None) -> None:
        if not rate > 0:
            raise ConfigurationError(f"rate {rate!r} is not more than 0")
        if burst is not None and burst < 1:
            raise ConfigurationError(f"burst {burst!r} is less than 1")
        self._rate = rate
        self._burst = float(burst) if burst is not None else max(1.0, rate)
        self._now = now
        self._tokens = self._burst
        self._then = now()

    def take(self) -> float:
        """Take one token.

        :returns: 0.0 when there was one; otherwise the seconds after which there will be one, and nothing was taken.
        """
        now = self._now()
        # A clock that is set back must not take tokens away.
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._then) * self._rate)
        self._then = now
        # Sums of small steps fall short of a whole by rounding.
        if self._tokens >= 1.0 - 1e-9:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate


def retry_after(seconds: float) -> str:
    """A wait as the value of ``Retry-After``: whole seconds, at least 1."""
    return str(max(1, math.ceil(seconds)))
