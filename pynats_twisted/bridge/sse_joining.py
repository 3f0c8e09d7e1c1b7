"""How a client gets from where it was, or from where it is to begin, to the hub that pushes what comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import DeferredSemaphore
from twisted.internet.task import deferLater

from pynats_twisted.bridge.sse_events import EventId, id_only, parse_event_id, reset_event
from pynats_twisted.bridge.sse_source import ConsumerPages, DirectPages
from pynats_twisted.bridge.sse_stream_hub import StreamHub
from pynats_twisted.errors import JetStreamApiLevelError, JetStreamNotEnabledError, NatsError, PermissionsViolationError
from pynats_twisted.jetstream.api import DeliverPolicy

if TYPE_CHECKING:
    from pynats_twisted.bridge.activity import RouteActivity
    from pynats_twisted.bridge.metrics import RouteMetrics
    from pynats_twisted.bridge.sse_client import SSEClient
    from pynats_twisted.bridge.sse_config import Start
    from pynats_twisted.bridge.sse_source import Page, StreamSource, StreamView

READERS: Final = 16
"""How many clients of a route get a page of the past at a time."""

AGAIN: Final = (0.5, 5.0)
"""Seconds until joining is tried again after an error: at first, and at most."""

BEHIND: Final = (0.1, 10)
"""Seconds to wait for a server that lags, and how often, before a consumer is used instead of it."""


class Joining:
    """Brings clients of a stream to their hubs.

    :param reactor: for time.
    :param source: the stream.
    :param start: where clients begin that bring no id.
    :param max_replay: most messages that a client gets from the past.
    :param metrics: the route's.
    :param activity: the route's.

    :ivar without_direct: the epoch of a stream that direct gets do not work for.
    """

    def __init__(
        self, reactor: Any, source: StreamSource, start: Start, max_replay: int, metrics: RouteMetrics, activity: RouteActivity
    ) -> None:
        self.reactor = reactor
        self.source = source
        self.start = start
        self.max_replay = max_replay
        self.metrics = metrics
        self.throttle = DeferredSemaphore(READERS)
        self.without_direct = ""
        self._activity = activity

    async def join(self, client: SSEClient) -> None:
        """Give a client what it has missed, and hand it over to its hub. After an error it is tried again; the client waits."""
        wait = AGAIN[0]
        while True:
            walk = _Walk(self, client)
            try:
                if await walk.run():
                    return
                continue
            except (JetStreamNotEnabledError, JetStreamApiLevelError, PermissionsViolationError) as error:
                # Direct gets were switched off, are not permitted, or the server does not know several at once.
                if walk.is_direct:
                    self.without_direct = client.hub.epoch
                    continue
                self._failed(error)
            except NatsError as error:
                self._failed(error)
            finally:
                walk.close()
            await deferLater(self.reactor, wait)
            wait = min(wait * 2, AGAIN[1])

    def _failed(self, error: NatsError) -> None:
        self._activity.error("replay", f"a client waits for what it has missed: {error}", "it is tried again")


class _Walk:
    """One attempt."""

    def __init__(self, joining: Joining, client: SSEClient) -> None:
        self._joining = joining
        self._source = joining.source
        self._client = client
        hub: StreamHub = client.hub
        self._hub = hub
        self._pages: DirectPages | ConsumerPages | None = None
        # The first page, read to find out how much there is.
        self._ahead: Page | None = None
        # Whether what is missing between two messages is to be told.
        self._is_resuming = False
        # Whether what is read is not simply what follows, and has to be read to its end.
        self._is_selected = False
        self._behind = 0
        #: Direct gets are in use.
        self.is_direct = False

    def close(self) -> None:
        self._turn_to(None)

    def _turn_to(self, pages: DirectPages | ConsumerPages | None) -> None:
        if self._pages is not None:
            self._pages.close()
        self._pages = pages
        self._ahead = None

    async def run(self) -> bool:
        """Whether the client was handed over; otherwise the stream is another one now."""
        client, hub = self._client, self._hub
        await hub.when_ready()
        if client.requested is None:
            await self._begin()
            if self._place_is_known:
                client.write(id_only(EventId(client.epoch, client.last)))
                client.requested = str(client.place)
        elif not await self._resume(client.requested):
            await self._reset(client.requested)
        # What follows may fail; then the next attempt goes on from where this one has come to.
        return await self._follow()

    # --- where to begin ------------------------------------------------------------------------------------------

    async def _resume(self, requested: str) -> bool:
        """Go on from the id that the client brought; False when that cannot be done without loss."""
        client, hub = self._client, self._hub
        event_id = parse_event_id(requested)
        if event_id is None or event_id.epoch != hub.epoch:
            return False
        seq = event_id.seq
        if seq > hub.position and not await self._exists(seq):
            return False
        is_new = not client.epoch
        client.epoch, client.last = event_id
        if seq < hub.floor and not await self._is_little(seq):
            return False
        # Asked for after a page was read: what is there now was there then.
        if seq < hub.began and await self._has_lost(seq):
            return False
        self._is_resuming = True
        if is_new:
            self._joining.metrics.sse_resume("ok")
        return True

    async def _exists(self, seq: int) -> bool:
        """Whether the stream has come so far. Another bridge may be ahead of this one, and a new leader behind for a moment."""
        for wait in (0.0, 0.25, 0.5):
            await deferLater(self._joining.reactor, wait)
            view = await self._source.view()
            if view.epoch != self._hub.epoch or seq <= view.last_seq:
                return view.epoch == self._hub.epoch
        return False

    async def _is_little(self, seq: int) -> bool:
        """Whether what came behind *seq* is not more than a client may get. The first page of it is read."""
        page = self._ahead = await self._read(seq)
        count = len(page.events)
        if not page.is_last:
            count += await self._count_from(page.events[-1][0] + 1 if page.events else seq + 1)
        return count <= self._joining.max_replay

    async def _count_from(self, seq: int) -> int:
        if isinstance(self._pages, ConsumerPages):
            return await self._pages.pending()
        return await self._source.count_from(self._hub.pattern, seq)

    async def _reset(self, requested: str) -> None:
        """Tell the client that it has lost something, and begin as one that brings no id."""
        client = self._client
        self._is_resuming = False
        self._turn_to(None)
        self._joining.metrics.sse_resume("reset")
        view = await self._begin()
        base = EventId(client.epoch, client.last) if self._place_is_known else None
        client.write(reset_event(requested, view.epoch, view.first_seq, view.last_seq, base))
        client.requested = str(base) if base is not None else None

    @property
    def _place_is_known(self) -> bool:
        """Whether the client would miss nothing if it came back with the id of where it begins."""
        return self._joining.start.mode != "last_per_subject"

    async def _begin(self) -> StreamView:
        """Find the place where a client begins that brings no id. Returns the stream as it was then."""
        client, hub, start = self._client, self._hub, self._joining.start
        view = await self._source.view()
        last = hub.position
        if start.mode == "last" and hub.last_matching:
            last = hub.last_matching - 1
        elif start.mode == "all":
            last = await self._not_too_far(view, max(0, view.first_seq - 1))
        elif start.mode == "time":
            last = await self._since(view, start.seconds)
        elif start.mode == "last_per_subject":
            last = 0
            pages = ConsumerPages(self._source.consumer(hub.pattern, policy=DeliverPolicy.LAST_PER_SUBJECT), hub.maker, hub.epoch)
            self._turn_to(pages)
            self._is_selected = True
            await pages.skip(await pages.pending() - self._joining.max_replay)
        client.epoch, client.last = hub.epoch, last
        return view

    async def _since(self, view: StreamView, seconds: float) -> int:
        hub = self._hub
        if self._is_direct(view):
            first = await self._source.first_since(hub.pattern, seconds)
            return await self._not_too_far(view, first - 1) if first else hub.position
        consumer = self._source.consumer(hub.pattern, start_time=self._source.time_ago(seconds))
        pages = ConsumerPages(consumer, hub.maker, hub.epoch)
        self._turn_to(pages)
        await pages.skip(await pages.pending() - self._joining.max_replay)
        page = self._ahead = await pages.read(0)
        return page.events[0][0] - 1 if page.events else hub.position

    async def _not_too_far(self, view: StreamView, last: int) -> int:
        """*last*, or what leaves the newest ``max_replay`` messages behind it."""
        pattern, limit = self._hub.pattern, self._joining.max_replay
        if not self._is_direct(view):
            return max(last, view.last_seq - limit)
        if await self._source.count_from(pattern, last + 1) <= limit:
            return last
        return await self._source.newest(pattern, last + 1, self._hub.position + 1, limit) - 1

    # --- the way to the hub --------------------------------------------------------------------------------------

    async def _follow(self) -> bool:
        """Whether the client was handed over; otherwise the stream is another one now."""
        client, hub = self._client, self._hub
        while True:
            await client.drained()
            await hub.when_ready()
            if hub.epoch != client.epoch:
                client.requested = str(client.place)
                return False
            if client.last >= hub.floor and not self._is_selected:
                self._ahead = None
                if hub.hand_over(client):
                    return True
                continue
            before = client.last
            page, self._ahead = self._ahead or await self._read(before), None
            if self._is_resuming and await self._has_lost(before):
                await self._reset(str(client.place))
                continue
            self._send(page)
            if self._is_selected:
                self._is_selected = not page.is_last
            elif not page.events:
                await self._wait_for_more(before)

    async def _has_lost(self, last: int) -> bool:
        """Whether the stream has dropped what was to come behind *last*, or is another one."""
        view = await self._source.view()
        return view.epoch != self._hub.epoch or view.first_seq > last + 1

    def _send(self, page: Page) -> None:
        client, metrics = self._client, self._joining.metrics
        size = 0
        for seq, event in page.events:
            client.write(event)
            client.last = seq
            size += len(event)
        client.requested = str(client.place)
        metrics.messages_out.inc(len(page.events))
        metrics.bytes_out.inc(size)

    async def _wait_for_more(self, last: int) -> None:
        """Nothing was found although the hub had something: it is gone meanwhile, or the server that was asked lags."""
        floor = self._hub.floor
        if await self._source.last_matching(self._hub.pattern) <= last:
            self._client.last = max(last, floor)
            return
        wait, most = BEHIND
        self._behind += 1
        if self._behind > most:
            self._turn_to(self._consumer_pages(last))
            self._behind = 0
        await deferLater(self._joining.reactor, wait)

    # --- reading -------------------------------------------------------------------------------------------------

    def _is_direct(self, view: StreamView) -> bool:
        self.is_direct = view.allow_direct and self._joining.without_direct != view.epoch
        return self.is_direct

    def _consumer_pages(self, last: int) -> ConsumerPages:
        return ConsumerPages(self._source.consumer(self._hub.pattern, last + 1), self._hub.maker, self._hub.epoch)

    async def _read(self, last: int) -> Page:
        """The page behind *last*."""
        if self._pages is None:
            view = await self._source.view()
            if self._is_direct(view):
                self._turn_to(DirectPages(self._source.direct_get(), self._hub.pattern, self._hub.maker, self._hub.epoch))
            else:
                self._turn_to(self._consumer_pages(last))
        pages = self._pages
        assert pages is not None
        async with self._joining.throttle:
            return await pages.read(last)
