"""Many deadlines, one timer."""

from __future__ import annotations

from collections.abc import Callable, Collection
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

# Below this number of entries those that are over are left where they are.
_FEW = 256


class Deadlines:
    """Calls ``expired`` with each key whose time has come, the earliest first.

    Most keys are taken out of ``alive`` long before, and nobody tells this: their entries are passed over when their turn comes, or
    thrown out together when they are more than the others. So a deadline costs about the same however many there are, and being
    in time costs nothing.

    :param alive: the keys that can still expire. None is used again for something else.
    """

    __slots__ = ("_alive", "_bound", "_call", "_due", "_expired", "_heap", "_reactor")

    def __init__(self, reactor: IReactorTime, alive: Collection[str], expired: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._alive = alive
        self._expired = expired
        # Where two times are the same, the keys decide.
        self._heap: list[tuple[float, str]] = []
        # With more entries than this it is time to look for those that are over.
        self._bound = _FEW
        self._call: IDelayedCall | None = None
        # When the timer is due.
        self._due = inf

    def __len__(self) -> int:
        """The entries, also those whose keys are not alive any more."""
        return len(self._heap)

    def set(self, key: str, due: float) -> None:
        """Expire ``key`` at that time of the reactor. A key may have several deadlines."""
        heap = self._heap
        heappush(heap, (due, key))
        if due < self._due:
            self._due = due
            if self._call is not None:
                self._call.cancel()
            self._call = self._reactor.callLater(max(0.0, due - self._reactor.seconds()), self._sweep)
        if len(heap) > self._bound:
            self._throw_out()

    def clear(self) -> None:
        """Nothing expires any more, and the timer is gone."""
        self._heap.clear()
        self._bound = _FEW
        self._due = inf
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _throw_out(self) -> None:
        heap, alive = self._heap, self._alive
        heap[:] = [entry for entry in heap if entry[1] in alive]
        heapify(heap)
        self._bound = max(_FEW, 4 * len(heap))

    def _sweep(self) -> None:
        self._call = None
        self._due = inf
        heap, alive = self._heap, self._alive
        if len(heap) > 2 * len(alive):
            # Cheaper than to take them from the top one by one.
            self._throw_out()
        now = self._reactor.seconds()
        expired: list[str] = []
        while heap:
            due, key = heap[0]
            if key in alive:
                if due > now:
                    self._due = due
                    self._call = self._reactor.callLater(due - now, self._sweep)
                    break
                expired.append(key)
            heappop(heap)
        for key in expired:
            if key in alive:
                self._expired(key)
