"""The one buffer between publishing and the transport.

What is published is a list of parts, joined once and written once a reactor turn: at the end of ``dataReceived`` for what
was published inside it, by one ``callLater(0)`` for the rest, at once when 64 KiB are waiting. While there is no
connection the same list is the reconnect buffer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from ..errors import ConnectionClosedError, HeadersNotSupportedError, MaxPayloadExceededError, NatsError, OutboundBufferFullError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITransport

    from ..protocol.encoder import Payload, PublishEncoder
    from ..protocol.headers import HeadersLike
    from ..protocol.options import ClientOptions

_WRITE_AT_ONCE = 64 * 1024
# A transport that is not paused takes this much at a time: what it holds when it dies cannot be sent again.
_WRITE_AT_MOST = 512 * 1024


class _Done:
    """An awaitable that is done, for all callers alike."""

    __slots__ = ()
    _nothing: Iterator[Any] = iter(())

    def __await__(self) -> Generator[Any, None, None]:
        return self._nothing  # type: ignore[return-value]

    def __repr__(self) -> str:
        return "<done>"


DONE: Awaitable[None] = _Done()


class Outbound:
    """The outbound buffer of one client.

    :ivar pending: bytes that wait here; what the transport holds is not counted.
    :ivar accepted: publishes that were taken since the client began.
    """

    __slots__ = (
        "_bound",
        "_call",
        "_corked",
        "_encode",
        "_encoder",
        "_flush_at",
        "_high_water",
        "_options",
        "_parts",
        "_paused",
        "_reactor",
        "_transport",
        "_waiting",
        "accepted",
        "accepted_bytes",
        "pending",
    )

    def __init__(self, reactor: IReactorTime, options: ClientOptions, encoder: PublishEncoder) -> None:
        self._reactor = reactor
        self._options = options
        self._encoder = encoder
        self._encode = encoder.encode
        self._parts: list[bytes] = []
        self.pending = 0
        self.accepted = 0
        self.accepted_bytes = 0
        self._bound = options.reconnect_buffer_bytes
        self._high_water = options.high_water_bytes
        self._flush_at = self._bound + 1
        self._transport: ITransport | None = None
        self._corked = False
        self._paused = False
        self._call: IDelayedCall | None = None
        self._waiting: deque[Deferred[None]] = deque()

    # --- the way in ------------------------------------------------------------------------------------------

    def publish(self, subject: str, payload: Payload, reply: str | None, headers: HeadersLike | None) -> Awaitable[None]:
        """Take a publish.

        :raises OutboundBufferFullError: it would pass the bound; nothing was taken.
        """
        parts = self._parts
        size = self._encode(parts, subject, payload, reply, headers)
        pending = self.pending + size
        if pending > self._bound:
            del parts[-3:]
            raise OutboundBufferFullError(self.pending, size, self._bound)
        self.pending = pending
        self.accepted += 1
        self.accepted_bytes += size
        if self._call is None and not self._corked:
            self._schedule()
        if pending >= self._flush_at:
            self.flush()
            pending = self.pending
        if pending < self._high_water:
            return DONE
        waiter: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def control(self, line: bytes) -> None:
        """Take one line that is not a publish (SUB, UNSUB, PING). It is forgotten when the connection ends before it was written."""
        if self._transport is None or not line:
            return
        self._parts.append(line)
        self.pending += len(line)
        if self._call is None and not self._corked:
            self._schedule()

    def _schedule(self) -> None:
        if self._transport is not None and not self._paused:
            self._call = self._reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self._call = None
        self.flush()

    # --- the way out -----------------------------------------------------------------------------------------

    def cork(self) -> None:
        """Hold back writes until :meth:`uncork`, which writes them as one."""
        self._corked = True

    def uncork(self) -> None:
        """Write what gathered since :meth:`cork`."""
        self._corked = False
        if self._parts and not self._paused:
            self.flush()

    def flush(self) -> None:
        """Hand over what waits, as far as the transport takes it."""
        transport = self._transport
        if transport is None or self._paused:
            return
        while self._parts:
            if self.pending <= _WRITE_AT_MOST:
                data = b"".join(self._parts)
                self._parts.clear()
            else:
                data = self._take(_WRITE_AT_MOST)
            self.pending -= len(data)
            transport.write(data)
            if self._paused or self._transport is not transport:
                break
        if self._waiting and self.pending < self._high_water:
            self._release()

    def _take(self, size: int) -> bytes:
        """Whole frames of about ``size`` bytes, from the front."""
        parts = self._parts
        taken = count = 0
        while count < len(parts) and taken < size:
            step = _frame_length(parts[count])
            taken += sum(map(len, parts[count : count + step]))
            count += step
        data = b"".join(parts[:count])
        del parts[:count]
        return data

    def _release(self) -> None:
        # Whoever is told may cancel another one that waits: that one leaves this very queue.
        waiting, self._waiting = self._waiting, deque()
        while waiting:
            waiting.popleft().callback(None)

    def paused(self) -> None:
        """The transport has enough for now."""
        self._paused = True

    def resumed(self) -> None:
        """The transport takes more."""
        self._paused = False
        self.flush()

    # --- connections come and go -----------------------------------------------------------------------------

    def attach(self, transport: ITransport, encoder: PublishEncoder | None = None) -> list[tuple[str, NatsError]]:
        """A connection is up: send what waited for it.

        :param encoder: the one that knows this server's limits, where it is another one than before.

        :returns: the publishes that do not fit the new server's limits, as (subject, error). They are taken out.
        """
        if encoder is not None:
            self._encoder = encoder
            self._encode = encoder.encode
        refused = self._check_again()
        self._transport = transport
        self._paused = False
        self._bound = self._options.max_pending_bytes
        self._flush_at = _WRITE_AT_ONCE
        self.flush()
        return refused

    def detach(self) -> None:
        """The connection has ended, or takes no more: keep the publishes that were not handed over, drop the rest."""
        self._transport = None
        self._paused = False
        self._bound = self._options.reconnect_buffer_bytes
        self._flush_at = max(self._bound, self._options.max_pending_bytes) + 1
        if self._call is not None:
            self._call.cancel()
            self._call = None
        kept: list[bytes] = []
        self.pending = 0
        for frame in self._frames():
            if len(frame) == 3:
                kept += frame
                self.pending += sum(map(len, frame))
        self._parts = kept

    def _frames(self) -> Iterator[list[bytes]]:
        position = 0
        while position < len(self._parts):
            step = _frame_length(self._parts[position])
            yield self._parts[position : position + step]
            position += step

    @property
    def waiting_publishes(self) -> int:
        """Publishes that wait here."""
        return sum(1 for frame in self._frames() if len(frame) == 3)

    def _check_again(self) -> list[tuple[str, NatsError]]:
        """Take out what the encoder would not have made for the server of now."""
        limit = self._encoder.max_payload
        refused: list[tuple[str, NatsError]] = []
        kept: list[bytes] = []
        for frame in self._frames():
            line = frame[0].partition(b"\r\n")[0].split(b" ")
            size = int(line[-1])
            error: NatsError
            if limit is not None and size > limit:
                error = MaxPayloadExceededError(size, limit)
            elif line[0] == b"HPUB" and not self._encoder.headers_supported:
                error = HeadersNotSupportedError("the server does not support headers")
            else:
                kept += frame
                continue
            self.pending -= sum(map(len, frame))
            refused.append((line[1].decode("utf-8"), error))
        self._parts = kept
        self.accepted -= len(refused)
        return refused

    def close(self, error: NatsError | None = None) -> int:
        """No more is taken; who waits for room is told, and the number of publishes that were not sent is returned."""
        self.detach()
        undelivered = self.waiting_publishes
        self._parts = []
        self.pending = 0
        waiting, self._waiting = self._waiting, deque()
        while waiting:
            waiter = waiting.popleft()
            waiter.errback(error or ConnectionClosedError("the client was closed before the publish could be sent"))
            # Who published without waiting is not interested: that must not become an "Unhandled error in Deferred".
            waiter.addErrback(lambda failure: None)
        return undelivered


def _frame_length(head: bytes) -> int:
    """How many parts the frame has that begins with this one: a publish is its line, its payload and CR LF."""
    return 3 if head.startswith((b"PUB ", b"HPUB ")) else 1
