"""One client of an event stream: what it was sent, and what waits for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from pynats_twisted.bridge.sse_events import EventId, dropped_event
from pynats_twisted.client.waiting import Waiters

if TYPE_CHECKING:
    from pynats_twisted.bridge.http_message import ResponseStream
    from pynats_twisted.bridge.metrics import RouteMetrics


class SSEClient:
    """A client that listens.

    What a hub sends is one object for all clients, so that a slow client costs a reference for each event, and no copy, until its
    connection takes it.

    :param stream: the body of the response.
    :param metrics: the route's.
    :param buffer: bytes that may wait here.
    :param requested: the id that the client came back with, as it was sent; None for none.
    :param ends_at: when it is made to come back, on the reactor's clock.
    :param is_stored: whether what is sent is in a stream, and can be had again.
    :param too_slow: called when more than *buffer* would wait, for a client of a stream.

    :ivar epoch: the stream that :attr:`last` is about; empty before the client has a place in it.
    :ivar last: everything up to this sequence was sent.
    :ivar requested: the id that it is to go on from; None when it begins.
    :ivar joining: runs while the client gets what it has missed.
    :ivar written_at: when something was written last.
    """

    __slots__ = (
        "_buffer", "_drained", "_dropped", "_is_stored", "_metrics", "_queue", "_queued", "_stream", "_too_slow", "ends_at", "epoch", "hub",
        "joining", "last", "requested", "written_at",
    )  # fmt: skip

    def __init__(
        self,
        stream: ResponseStream,
        metrics: RouteMetrics,
        buffer: int,
        requested: str | None,
        ends_at: float,
        *,
        is_stored: bool,
        too_slow: Callable[[SSEClient], None],
    ) -> None:
        self._stream = stream
        self._metrics = metrics
        self._buffer = buffer
        self._is_stored = is_stored
        self._too_slow = too_slow
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._dropped = 0
        self._drained: Waiters[None] | None = None
        self.requested = requested
        self.ends_at = ends_at
        self.epoch = ""
        self.last = 0
        self.hub: Any = None
        self.joining: Deferred[None] | None = None
        self.written_at = 0.0
        stream.when_ready(self._flush)

    @property
    def place(self) -> EventId | None:
        """Up to where the client has everything; None before it began."""
        return EventId(self.epoch, self.last) if self.epoch else None

    @property
    def queued(self) -> int:
        """Bytes that wait here."""
        return self._queued

    @property
    def is_blocked(self) -> bool:
        """Whether something waits for the client to read."""
        return bool(self._queue) or self._stream.is_blocked

    def drained(self) -> Deferred[None]:
        """Fires when nothing waits any more."""
        if not self.is_blocked:
            return succeed(None)
        if self._drained is None:
            self._drained = Waiters()
        return self._drained.wait()

    # --- what a hub sends ----------------------------------------------------------------------------------------

    def push(self, seq: int, event: bytes) -> None:
        """The next event of the hub."""
        if self._is_stored:
            if seq <= self.last:
                return
            if self._queued + len(event) > self._buffer and self.is_blocked:
                self._too_slow(self)
                return
            self.last = seq
        elif self._dropped or (self._queued + len(event) > self._buffer and self.is_blocked):
            if not self._dropped:
                self._metrics.slow_clients.inc()
            self._dropped += 1
            self._metrics.dropped("slow-client")
            return
        self._metrics.messages_out.inc()
        self._metrics.bytes_out.inc(len(event))
        self.write(event)

    # --- writing -------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write; what the connection does not take now waits here, however much it is."""
        if self._queue or self._stream.is_blocked:
            self._queue.append(data)
            self._queued += len(data)
            self._metrics.queue_bytes.inc(len(data))
        else:
            self._stream.write(data)

    def _flush(self) -> None:
        queue, stream = self._queue, self._stream
        written = 0
        while queue and not stream.is_blocked:
            data = queue.popleft()
            written += len(data)
            stream.write(data)
        if written:
            self._queued -= written
            self._metrics.queue_bytes.dec(written)
        if queue or stream.is_blocked:
            return
        if self._dropped:
            count, self._dropped = self._dropped, 0
            stream.write(dropped_event(count))
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained.fire(None)

    def end(self, farewell: bytes = b"") -> None:
        """End the response."""
        if farewell and not self.is_blocked:
            self._stream.write(farewell)
        self.forget()
        self._stream.end()

    def forget(self) -> None:
        """Keep nothing, and join nothing any more; the client is gone."""
        self._metrics.queue_bytes.dec(self._queued)
        self._queue.clear()
        self._queued = 0
        self._dropped = 0
        joining, self.joining = self.joining, None
        if joining is not None:
            joining.cancel()
