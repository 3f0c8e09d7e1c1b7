"""The hub of a stream: one ordered consumer for all clients of a filter, and the newest events for those that join."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted.bridge.sse_hub import Hub
from pynats_twisted.errors import NatsError

if TYPE_CHECKING:
    from pynats_twisted.bridge.sse_client import SSEClient
    from pynats_twisted.bridge.sse_source import StreamSource, StreamView
    from pynats_twisted.jetstream.message import JsMsg
    from pynats_twisted.jetstream.ordered import OrderedConsumer

RING_EVENTS: Final = 1024
"""Newest events that are kept for clients that join."""

SILENT: Final = 10.0
"""Seconds without a consumer after which that is a problem of the route."""

REFRESH: Final = 60.0
"""Seconds without an event after which a hub finds out how far the stream has come meanwhile."""


class StreamHub(Hub):
    """A hub of a stream.

    What holds at every moment: all messages of the filter behind :attr:`floor` and up to :attr:`position` are in the ring, and
    everything behind :attr:`position` is still to come. So a client that has everything up to a sequence that is not below the floor
    gets the rest of the ring, and then joins without gap and without duplicate.

    :param source: the stream.
    :param ring_bytes: bytes of the newest events that are kept.
    :param anew: called with each client when what comes does not follow upon what came: it has to find its place again.

    :ivar epoch: which stream it is; empty before that is known.
    :ivar floor: see above.
    :ivar position: everything of the filter up to here was pushed.
    :ivar began: the position when the hub began. What the stream dropped before that, the hub does not know of.
    """

    def __init__(self, source: StreamSource, ring_bytes: int, anew: Callable[[SSEClient], None], *args: Any) -> None:
        super().__init__(*args)
        self.stream = source
        self._anew = anew
        self.epoch = ""
        self.floor = 0
        self.position = 0
        self.began = 0
        self._ring: deque[tuple[int, bytes]] = deque()
        self._ring_size = 0
        self._ring_bytes = ring_bytes
        self._consumer: OrderedConsumer | None = None
        self._resets = 0
        self._interrupted: Deferred[None] | None = None
        self._lost_at: float | None = None
        self._refresh_at = 0.0
        self._refreshing: Deferred[None] | None = None

    @property
    def source(self) -> str:
        return f"stream {self.stream.name}"

    @property
    def last_matching(self) -> int:
        """The sequence of the newest message of the filter; 0 when there never was one."""
        return self._ring[-1][0] if self._ring else self.floor

    @property
    def lag(self) -> int:
        return (self._consumer.num_pending or 0) if self._consumer is not None else 0

    # --- reading -------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        start = await self._place(await self.stream.view())
        consumer = self._consumer = self.stream.consumer(self.pattern, start)
        self._resets = consumer.resets
        # Before the first message can come: one that is not taken has to end this reading.
        interrupted = self._interrupted = Deferred[None]()
        reading = consumer.consume(lambda msg: self._deliver(consumer, msg))
        reading.done.addBoth(self._interrupt)
        try:
            await consumer.ready()
            if not interrupted.called:
                self._refresh_at = self._reactor.seconds() + REFRESH
                self._became_ready()
            await interrupted
        finally:
            self._consumer = self._interrupted = None
            interrupted.addErrback(lambda _: None)
            consumer.stop()

    def _interrupt(self, result: Any = None) -> None:
        interrupted, self._interrupted = self._interrupted, None
        if interrupted is not None and not interrupted.called:
            interrupted.callback(result)

    def stop(self) -> None:
        refreshing, self._refreshing = self._refreshing, None
        if refreshing is not None:
            refreshing.cancel()
        super().stop()

    async def _place(self, view: StreamView) -> int:
        """Where to read from: behind what was read, if nothing behind that was dropped and the stream is the same; else behind what it has
        now. Then the clients have to find out what they have lost."""
        if self.epoch == view.epoch and view.first_seq - 1 <= self.position <= view.last_seq:
            return self.position + 1
        last = await self.stream.last_matching(self.pattern)
        self.epoch = view.epoch
        self._ring.clear()
        self._ring_size = 0
        # The view is older: of what is not behind it, nothing is of the filter but what was found now.
        self.floor = last
        self.position = self.began = max(last, view.last_seq)
        clients, self.clients = self.clients, {}
        for client in clients:
            self._anew(client)
        return self.position + 1

    def _deliver(self, consumer: OrderedConsumer, msg: JsMsg) -> None:
        if consumer is not self._consumer:
            return
        if consumer.resets != self._resets:
            # Another consumer: before anything of it is believed, it has to be known that the stream is the same.
            self._interrupt()
            return
        seq = msg.metadata.stream_seq
        event = self.maker.of_delivered(self.epoch, msg)
        self._keep(seq, event)
        self.position = seq
        self._refresh_at = self._reactor.seconds() + REFRESH
        metrics = self._metrics
        metrics.messages_in.inc()
        metrics.bytes_in.inc(len(msg.data))
        for client in list(self.clients):
            client.push(seq, event)
        if self._activity.watched:
            self._activity.hop("received", msg.subject, data=msg.data, headers=msg.headers, seq=seq, clients=len(self.clients))

    def _keep(self, seq: int, event: bytes) -> None:
        ring = self._ring
        ring.append((seq, event))
        self._ring_size += len(event)
        while len(ring) > RING_EVENTS or self._ring_size > self._ring_bytes:
            self.floor, oldest = ring.popleft()
            self._ring_size -= len(oldest)

    # --- clients -------------------------------------------------------------------------------------------------

    def hand_over(self, client: SSEClient) -> bool:
        missing: list[tuple[int, bytes]] = []
        for kept in reversed(self._ring):
            if kept[0] <= client.last:
                break
            missing.append(kept)
        missing.reverse()
        # Not so much at once that what comes next is too much.
        size = 0
        for seq, event in missing:
            if size and size + len(event) > self._ring_bytes // 2:
                return False
            size += len(event)
            client.push(seq, event)
        self.clients[client] = None
        client.last = max(client.last, self.position)
        return True

    # --- now and then --------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        consumer = self._consumer
        if not self.is_ready or consumer is None:
            return
        if consumer.name is None:
            self._lost_at = now if self._lost_at is None else self._lost_at
            if now - self._lost_at >= SILENT:
                self.problem = f"{self.source} has not been read for {SILENT:.0f} s: {consumer.last_reset}"
            return
        if self._lost_at is not None:
            self._lost_at = self.problem = None
        if consumer.resets != self._resets:
            self._interrupt()
        elif now >= self._refresh_at and self.clients and self._refreshing is None:
            self._refresh_at = now + REFRESH
            self._refreshing = Deferred.fromCoroutine(self._refresh())
            self._refreshing.addErrback(lambda failure: failure.trap(NatsError, CancelledError) and None)
            self._refreshing.addBoth(self._refreshed)

    def _refreshed(self, _: object) -> None:
        self._refreshing = None

    async def _refresh(self) -> None:
        """A stream goes on while a filter is quiet. Ids that stay behind would fall off its beginning."""
        epoch, position = self.epoch, self.position
        view = await self.stream.view()
        last = await self.stream.last_matching(self.pattern)
        if epoch == self.epoch == view.epoch and position == self.position and last <= position:
            self.position = max(position, view.last_seq)
