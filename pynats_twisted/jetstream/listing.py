"""Lists that the API gives in pages, read page after page."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .api import (
    ConsumerInfo,
    ConsumerList,
    ConsumerNames,
    PagedRequest,
    StreamInfo,
    StreamInfoRequest,
    StreamList,
    StreamNames,
    StreamsRequest,
)
from .deferred import deferred

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from .context import JetStreamContext

    AnyPage = StreamNames | StreamList | ConsumerNames | ConsumerList

_T = TypeVar("_T")


class Listing(AsyncIterator[_T], Generic[_T]):
    """A list of the API. ``async for`` hands out one after the other and asks for the next page when it is needed; ``await``, or
    :meth:`collect`, gives the rest as a list.

    Between two pages nothing is open: it can be left at any time. What is made or deleted meanwhile may move others from a page that is
    still to come into one that has been read, or the other way round.

    Every way of reading raises what :meth:`~pynats_twisted.jetstream.context.JetStreamContext.call` raises.

    :param ask: for the page that begins at this offset.
    :param items: what of a page is handed out: one for each of its entries, None for one that is left out.
    :ivar missing: names of what the server knows and whose own servers did not answer in time, from the pages that were read.
    :ivar offline: names of what its server cannot run, with the reason, from the pages that were read.
    """

    def __init__(self, ask: Callable[[int], Deferred[AnyPage]], items: Callable[[Any], Sequence[_T | None]]) -> None:
        self._ask = ask
        self._items = items
        self._offset = 0
        self._ended = False
        self._ready: deque[_T] = deque()
        self.missing: list[str] = []
        self.offline: dict[str, str] = {}

    def __aiter__(self) -> Listing[_T]:
        return self

    async def __anext__(self) -> _T:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            await self._read_page()
        return self._ready.popleft()

    def __await__(self) -> Generator[Deferred[Any], Any, list[_T]]:
        return self.collect().__await__()

    @deferred
    async def collect(self) -> list[_T]:
        """All that was not handed out yet."""
        while not self._ended:
            await self._read_page()
        found = list(self._ready)
        self._ready.clear()
        return found

    async def _read_page(self) -> None:
        page = await self._ask(self._offset)
        items = self._items(page)
        step = len(items)
        if isinstance(page, (StreamList, ConsumerList)) and (page.missing or page.offline):
            self.missing.extend(page.missing)
            self.offline.update(page.offline)
            # These have their places in the page too.
            step = max(step, page.limit)
        self._offset += step
        self._ended = not step or self._offset >= page.total
        self._ready.extend([item for item in items if item is not None])


# --- what can be listed --------------------------------------------------------------------------------------


def _streams_request(subject: str | None) -> Callable[[int], StreamsRequest]:
    # A wrong filter is found now, and not at the first page.
    StreamsRequest(subject=subject or "").validate()
    return lambda offset: StreamsRequest(offset=offset, subject=subject or "")


def list_stream_names(js: JetStreamContext, subject: str | None = None) -> Listing[str]:
    """The names of the streams, 1,024 a page."""
    request = _streams_request(subject)
    return Listing(lambda offset: js.call(StreamNames, js.prefix.stream_names(), request(offset)), lambda page: page.streams)


def list_streams(js: JetStreamContext, subject: str | None = None) -> Listing[StreamInfo]:
    """The infos of the streams, 256 a page."""
    request = _streams_request(subject)
    return Listing(lambda offset: js.call(StreamList, js.prefix.stream_list(), request(offset)), lambda page: page.streams)


def list_consumer_names(js: JetStreamContext, stream: str) -> Listing[str]:
    """The names of a stream's consumers, 1,024 a page."""
    asked = js.prefix.consumer_names(stream)
    return Listing(lambda offset: js.call(ConsumerNames, asked, PagedRequest(offset=offset)), lambda page: page.consumers)


def list_consumers(js: JetStreamContext, stream: str) -> Listing[ConsumerInfo]:
    """The infos of a stream's consumers, 256 a page."""
    asked = js.prefix.consumer_list(stream)
    return Listing(lambda offset: js.call(ConsumerList, asked, PagedRequest(offset=offset)), lambda page: page.consumers)


async def read_stream_info(
    js: JetStreamContext, stream: str, *, subjects_filter: str = "", deleted_details: bool = False, timeout: float | None = None
) -> StreamInfo:
    """The info of a stream with all subjects that match the filter, which come 100,000 a page."""
    asked = js.prefix.stream_info(stream)
    request = StreamInfoRequest(subjects_filter=subjects_filter, deleted_details=deleted_details)
    plain = not subjects_filter and not deleted_details
    info = await js.call(StreamInfo, asked, None if plain else request, timeout=timeout)
    step = len(info.state.subjects)
    if not step or step >= info.total:
        return info
    subjects = dict(info.state.subjects)
    offset = 0
    while step and offset + step < info.total:
        offset += step
        request = StreamInfoRequest(subjects_filter=subjects_filter, offset=offset)
        page = await js.call(StreamInfo, asked, request, timeout=timeout)
        step = len(page.state.subjects)
        subjects.update(page.state.subjects)
    return replace(info, state=replace(info.state, subjects=subjects))
