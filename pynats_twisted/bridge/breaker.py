"""A circuit breaker: it keeps a route from trying a target again and again that is down."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from pynats_twisted.errors import ConfigurationError


class BreakerState(Enum):
    """What a breaker lets through."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"

    @property
    def number(self) -> int:
        """The same for metrics: 0, 1, 2."""
        return list(BreakerState).index(self)


class CircuitBreaker:
    """Closed, it lets everything through. After ``after`` failures in a row it opens and lets nothing through for ``cooldown``
    seconds; then it is half open and lets one through, whose end decides: closed again, or open for another ``cooldown``.

    It has no timer: whoever holds it asks :meth:`room` and :attr:`wait`.

    :param after: failures in a row, at least 1.
    :param cooldown: seconds, more than 0.
    :param now: the clock, in seconds; ``reactor.seconds``.
    :param changed: is called with each new state.

    :ivar state: what it lets through.
    :ivar failures: failures in a row, while it is closed.
    :ivar opened: how often it has opened after being closed.
    """

    def __init__(
        self, after: int, cooldown: float, now: Callable[[], float], changed: Callable[[BreakerState], object] = lambda state: None
    ) -> None:
        if after < 1 or not cooldown > 0:
            raise ConfigurationError(f"breaker: after {after!r} must be at least 1, and cooldown {cooldown!r} more than 0")
        self.state = BreakerState.CLOSED
        self.failures = 0
        self.opened = 0
        self._after = after
        self._cooldown = cooldown
        self._now = now
        self._changed = changed
        self._open_until = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether everything goes through."""
        return self.state is BreakerState.CLOSED

    @property
    def wait(self) -> float:
        """Seconds until it lets one through; 0 when it is not open."""
        return max(0.0, self._open_until - self._now()) if self.state is BreakerState.OPEN else 0.0

    def room(self, free: int, busy: int) -> int:
        """How many may begin now. An open breaker whose time is over becomes half open by this.

        :param free: how many could.
        :param busy: how many have begun and not ended.
        """
        if self.state is BreakerState.OPEN and self.wait <= 0:
            self._become(BreakerState.HALF_OPEN)
        if self.state is BreakerState.CLOSED:
            return free
        return min(free, 1) if self.state is BreakerState.HALF_OPEN and not busy else 0

    def succeeded(self) -> None:
        """The target is there. Also while it is open: something that began before has ended well."""
        self.failures = 0
        if self.state is not BreakerState.CLOSED:
            self._become(BreakerState.CLOSED)

    def failed(self, retry_after: float = 0.0) -> None:
        """The target is down.

        :param retry_after: seconds for which the target wants to be left alone, when it said so.
        """
        if self.state is BreakerState.OPEN:
            return
        self.failures += 1
        if self.state is BreakerState.HALF_OPEN or self.failures >= self._after:
            if self.state is BreakerState.CLOSED:
                self.opened += 1
            self._open_until = self._now() + max(self._cooldown, retry_after)
            self._become(BreakerState.OPEN)

    def hurry(self) -> None:
        """There is reason to believe that the target is back: end the cooldown."""
        if self.state is BreakerState.OPEN:
            self._open_until = self._now()

    def _become(self, state: BreakerState) -> None:
        self.state = state
        self._changed(state)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.state.value}>"
