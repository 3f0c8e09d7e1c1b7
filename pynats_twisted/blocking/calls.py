"""The calls of one client: one at a time, each for as long as it may."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from threading import RLock
from typing import TYPE_CHECKING

from ..errors import ConcurrentUseError, ConfigurationError

if TYPE_CHECKING:
    from .engine import Engine
    from .sockets import Machine

# A call that does not wait looks at the socket if nobody has for so many seconds: a program that only publishes answers PINGs, too.
_LOOK_EVERY = 0.1
# How often a call whose time is over may read on, while there is something to read.
_MAX_READS = 16


def check_seconds(name: str, value: float) -> float:
    """Check a time limit that was given to a call, before the call does anything.

    :raises ConfigurationError: it is not a number of 0 or more.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
        raise ConfigurationError(f"{name}={value!r} is not a number of seconds, 0 or more")
    return value


class Calls:
    """Guards the client (``with calls:``) and waits for its calls.

    :param between: called between the steps of a call that waits, and at the end of each call. It may do anything with the client.
    :ivar over: the client is closed: nothing that anybody could wait for will come.
    """

    def __init__(self, machine: Machine, engine: Engine, between: Callable[[], None]) -> None:
        self._machine = machine
        self._engine = engine
        self._between = between
        # One thread at a time may be inside. The same one may come again: from on_event.
        self._lock = RLock()
        self.over = False

    def __enter__(self) -> None:
        """:raises ConcurrentUseError: another thread is in a call, or this is a signal handler or another process."""
        if not self._lock.acquire(blocking=False):
            raise ConcurrentUseError("another thread is in a call of this client: each thread needs a client of its own")
        try:
            self._engine.begin_call()
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._between()
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def for_closing(self) -> Iterator[None]:
        """As ``with calls:``, but legal in a forked process.

        :raises ConcurrentUseError: another thread is in a call, or this is a signal handler.
        """
        if self._engine.foreign:
            yield
            return
        with self:
            yield

    def now(self) -> float:
        """The time."""
        return self._machine.now()

    def until(self, timeout: float | None, default: float | None = None) -> float | None:
        """The time at which a call is over that may take ``timeout`` seconds, or else ``default``; None: never.

        :raises ConfigurationError: it is not a number of seconds.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        seconds = default if timeout is None else timeout
        return None if seconds is None else self._machine.now() + seconds

    def wait(self, condition: Callable[[], object], until: float | None) -> bool:
        """Keep the client going until the condition is true, or that time has come, or the client is closed.

        What can be done without waiting is done even where the time is over.

        :returns: whether the condition is true.
        """
        reads = 0
        while not condition():
            if self.over:
                return False
            happened = self._engine.turn(until)
            self._between()
            if until is not None and self._machine.now() >= until:
                reads += 1
                if not happened or reads >= _MAX_READS:
                    return bool(condition())
        return True

    def settle(self, until: float | None, enough: Callable[[], object] | None = None) -> bool:
        """Wait until a server has done all that it was sent: it answered a PING behind it. Over reconnects.

        :param enough: true when it is not to be waited for any more.
        :returns: whether the PING was answered.
        """
        enough = enough or _never
        engine = self._engine
        while self.wait(lambda: engine.is_connected or enough(), until) and not enough():
            ping = engine.ping()
            self.wait(lambda: ping.over or enough(), until)  # noqa: B023 - called before the next round begins
            if not ping.lost:
                return ping.answered
        return False

    def look(self) -> None:
        """Do what can be done without waiting, unless that was done a moment ago."""
        if self._machine.now() - self._engine.looked_at >= _LOOK_EVERY:
            self.look_now()

    def look_now(self) -> None:
        """Do what can be done without waiting."""
        self.wait(_never, self._machine.now())


def _never() -> bool:
    return False
