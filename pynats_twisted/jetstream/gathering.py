"""A list that is read as a whole when it is first asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from .deferred import deferred

_T = TypeVar("_T")


class Gathering(AsyncIterator[_T], Generic[_T]):
    """For ``async for``, one after the other; or for ``await``, as a list: what was not handed out yet.

    All of it is read when the first one is asked for, and is in memory then: an ``async for`` can be left at any time, and nothing is
    open at the server between two items.

    :param gather: reads it.
    """

    def __init__(self, gather: Callable[[], Awaitable[Iterable[_T]]]) -> None:
        self._gather = gather
        self._ready: deque[_T] | None = None

    def __aiter__(self) -> Gathering[_T]:
        return self

    async def __anext__(self) -> _T:
        ready = await self._read()
        if not ready:
            raise StopAsyncIteration
        return ready.popleft()

    def __await__(self) -> Generator[Deferred[Any], Any, list[_T]]:
        return self.collect().__await__()

    @deferred
    async def collect(self) -> list[_T]:
        """All that was not handed out yet."""
        ready = await self._read()
        found = list(ready)
        ready.clear()
        return found

    async def _read(self) -> deque[_T]:
        if self._ready is None:
            self._ready = deque(await self._gather())
        return self._ready
