"""Many deadlines, one timer."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """Calls ``expired`` with each key whose time has come.

    Keys with the same number of seconds expire in the order in which they were added, so each such group is a queue, and
    only the heads of the queues decide when the timer is due. Adding and removing cost the same however many there are.
    """

    __slots__ = ("_call", "_due", "_expired", "_groups", "_reactor", "_seconds")

    def __init__(self, reactor: IReactorTime, expired: Callable[[K], None]) -> None:
        self._reactor = reactor
        self._expired = expired
        self._groups: dict[float, dict[K, float]] = {}
        self._seconds: dict[K, float] = {}
        self._call: IDelayedCall | None = None
        self._due = 0.0

    def __len__(self) -> int:
        return len(self._seconds)

    def add(self, key: K, seconds: float) -> None:
        """Expire ``key`` in ``seconds``."""
        due = self._reactor.seconds() + seconds
        group = self._groups.get(seconds)
        if group is None:
            group = self._groups[seconds] = {}
        group[key] = due
        self._seconds[key] = seconds
        if self._call is None:
            self._due = due
            self._call = self._reactor.callLater(seconds, self._sweep)
        elif due < self._due:
            self._due = due
            self._call.reset(seconds)

    def remove(self, key: K) -> None:
        """``key`` does not expire any more. The timer stays: it stops by itself when it finds nothing."""
        seconds = self._seconds.pop(key, None)
        if seconds is not None:
            group = self._groups[seconds]
            del group[key]
            if not group:
                # Times that are computed are seldom the same twice: their groups must not pile up.
                del self._groups[seconds]

    def clear(self) -> None:
        """Nothing expires any more, and the timer is gone."""
        self._groups.clear()
        self._seconds.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _sweep(self) -> None:
        self._call = None
        now = self._reactor.seconds()
        expired: list[K] = []
        for group in self._groups.values():
            for key, due in group.items():
                if due > now:
                    break
                expired.append(key)
        for key in expired:
            self.remove(key)
        self._rearm(now)
        for key in expired:
            self._expired(key)

    def _rearm(self, now: float) -> None:
        heads = [next(iter(group.values())) for group in self._groups.values()]
        if heads:
            self._due = min(heads)
            self._call = self._reactor.callLater(max(0.0, self._due - now), self._sweep)
