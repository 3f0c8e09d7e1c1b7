"""Many callers waiting for one thing, each with a Deferred of its own."""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from ..errors import ConfigurationError

T = TypeVar("T")


def check_seconds(name: str, value: float) -> float:
    """Check a time limit that was given to a call, before the call does anything.

    :raises ConfigurationError: it is not a number of 0 or more.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
        raise ConfigurationError(f"{name}={value!r} is not a number of seconds, 0 or more")
    return value


class Waiters(Generic[T]):
    """Deferreds that are fired together. Each can be cancelled without touching the others."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Deferred[T]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self) -> Deferred[T]:
        """A new Deferred for a new caller."""
        waiter: Deferred[T] = Deferred(self._waiting_remove)
        self._waiting.append(waiter)
        return waiter

    def _waiting_remove(self, waiter: Deferred[T]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def fire(self, result: T) -> None:
        """Give all who wait the result."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(result)

    def fail(self, error: BaseException) -> None:
        """Give all who wait the error."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.errback(error)


class OneShot:
    """Something that happens once, or fails once, before or after it is waited for."""

    __slots__ = ("_error", "_waiters", "done")

    def __init__(self) -> None:
        self._waiters = Waiters[None]()
        self._error: BaseException | None = None
        self.done = False

    @property
    def waited_for(self) -> bool:
        """Somebody waits now."""
        return len(self._waiters) > 0

    def wait(self) -> Deferred[None]:
        """A new Deferred for a new caller; it has fired when the thing has happened."""
        if not self.done:
            return self._waiters.wait()
        return succeed(None) if self._error is None else fail(self._error)

    def happen(self) -> None:
        """It has happened."""
        if not self.done:
            self.done = True
            self._waiters.fire(None)

    def fail(self, error: BaseException) -> None:
        """It will not happen."""
        if not self.done:
            self.done = True
            self._error = error
            self._waiters.fail(error)
