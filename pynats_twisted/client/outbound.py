"""The one buffer between publishing and the transport.

What is published is gathered and written once a reactor turn: at the end of ``dataReceived`` for what was published inside
it, by one ``callLater(0)`` for the rest, at once when 64 KiB are waiting. While there is no connection the same buffer is the
reconnect buffer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport

from ..errors import ConnectionClosedError, HeadersNotSupportedError, MaxPayloadExceededError, NatsError
from ..protocol.twin import DONE, PublishBuffer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITransport

    from ..protocol.options import ClientOptions
    from ..protocol.twin import PublishEncoder

_WRITE_AT_ONCE = 64 * 1024
# A transport that is not paused takes this much at a time: what it holds when it dies cannot be sent again.
_WRITE_AT_MOST = 512 * 1024
# As pieces, not more than this: systems take 1024 at a time.
_MOST_PIECES = 512
# Pieces of at least this size on average are handed over as they are: joining them would copy the payloads once more.
_LARGE_PIECES = 4 * 1024


class _Chunk(NamedTuple):
    """Whole frames that go to the transport together; ``accepted`` counts all publishes up to its end."""

    pieces: list[bytes]
    size: int
    accepted: int


class Outbound(PublishBuffer):
    """The outbound buffer of one client.

    :ivar pending: bytes that wait here; what the transport holds is not counted.
    :ivar accepted: publishes that were taken since the client began.
    """

    __slots__ = (
        "_call",
        "_chunked",
        "_chunks",
        "_corked",
        "_descriptor",
        "_handed_over",
        "_high_water",
        "_options",
        "_paused",
        "_reactor",
        "_sendmsg",
        "_transport",
        "_waiting",
    )

    def __init__(self, reactor: IReactorTime, options: ClientOptions, encoder: PublishEncoder) -> None:
        super().__init__(encoder)
        self._reactor = reactor
        self._options = options
        self.bound = options.reconnect_buffer_bytes
        self._high_water = options.high_water_bytes
        self._transport: ITransport | None = None
        # The same transport, where it can write now, by this method of its socket.
        self._descriptor: FileDescriptor | None = None
        self._sendmsg: Callable[[Sequence[bytes]], int] = _no_socket
        self._corked = False
        self._paused = False
        self._call: IDelayedCall | None = None
        self._waiting: deque[Deferred[None]] = deque()
        # What has gathered is moved here 64 KiB at a time, so that handing it over does not depend on how many frames it is.
        self._chunks: deque[_Chunk] = deque()
        self._chunked = 0
        # Of the publishes that were accepted, those that no longer wait here.
        self._handed_over = 0
        self._watch()

    # --- the way in ------------------------------------------------------------------------------------------

    def control(self, line: bytes) -> None:
        """Take lines that are not a publish (SUB, UNSUB, PING). They are forgotten when the connection ends before they were written."""
        if self._transport is not None and line:
            self.add(line)

    def _first(self) -> None:
        self._call = self._reactor.callLater(0, self._turn)
        self.armed = True

    def _turn(self) -> None:
        self._call = None
        self._rearm()
        self.flush()

    def _rearm(self) -> None:
        self.armed = self._corked or self._paused or self._transport is None or self._call is not None

    def _crowded(self) -> Awaitable[None]:
        if self.pending - self._chunked >= _WRITE_AT_ONCE:
            self._gather()
            self.flush()
        if self.pending < self._high_water:
            self._watch()
            return DONE
        waiter: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def _watch(self) -> None:
        self.crowded_at = min(self._chunked + _WRITE_AT_ONCE, self._high_water)

    def _gather(self) -> None:
        size = self.pending - self._chunked
        if size:
            self._add_chunk(self.take(), size, self.accepted)

    # --- the way out -----------------------------------------------------------------------------------------

    def cork(self) -> None:
        """Hold back writes until :meth:`uncork`, which writes them as one."""
        self._corked = self.armed = True

    def uncork(self) -> None:
        """Write what gathered since :meth:`cork`."""
        self._corked = False
        self._rearm()
        if self.pending:
            self.flush()

    def flush(self) -> None:
        """Hand over what waits, as far as the transport takes it."""
        transport = self._transport
        if transport is None or self._paused:
            return
        chunks = self._chunks
        if not chunks and self.pending < _WRITE_AT_ONCE:
            # Nearly always: what goes at once need not be a chunk first.
            size, self.pending = self.pending, 0
            self._handed_over = self.accepted
            if size:
                self._write(transport, _joined(self.take(), size), size)
        else:
            self._gather()
            while chunks:
                pieces, size, self._handed_over = chunks.popleft()
                while chunks and size + chunks[0].size <= _WRITE_AT_MOST:
                    more, more_size, self._handed_over = chunks.popleft()
                    pieces += more
                    size += more_size
                self.pending -= size
                self._chunked -= size
                self._write(transport, pieces, size)
                if self._paused or self._transport is not transport:
                    break
            self._watch()
        if self._waiting and self.pending < self._high_water:
            self._release()

    def _write(self, transport: ITransport, pieces: list[bytes], size: int) -> None:
        descriptor = self._descriptor
        if descriptor is not None and _is_idle(descriptor) and len(pieces) <= _MOST_PIECES:
            try:
                written = self._sendmsg(pieces)
            except OSError:
                # Also where the connection is broken: the reactor finds that, and ends it.
                written = 0
            if written == size:
                return
            if written:
                pieces = _without(pieces, written)
        if len(pieces) == 1:
            transport.write(pieces[0])
        else:
            transport.writeSequence(pieces)

    def _release(self) -> None:
        # Whoever is told may cancel another one that waits: that one leaves this very queue.
        waiting, self._waiting = self._waiting, deque()
        while waiting:
            waiting.popleft().callback(None)

    def paused(self) -> None:
        """The transport has enough for now."""
        self._paused = self.armed = True

    def resumed(self) -> None:
        """The transport takes more."""
        self._paused = False
        self._rearm()
        self.flush()

    # --- connections come and go -----------------------------------------------------------------------------

    @property
    def handed_over(self) -> int:
        """Of the publishes that were accepted, those that no longer wait here."""
        return self._handed_over

    @property
    def waiting_publishes(self) -> int:
        """Publishes that wait here."""
        return self.accepted - self._handed_over

    def attach(self, transport: ITransport, encoder: PublishEncoder | None = None) -> list[tuple[str, NatsError]]:
        """A connection is up: send what waited for it.

        :param encoder: the one that knows this server's limits, where it is another one than before.

        :returns: the publishes that do not fit the new server's limits, as (subject, error). They are taken out.
        """
        if encoder is not None:
            self.encoder = encoder
        refused: list[tuple[str, NatsError]] = []
        self._keep(refused)
        self.accepted -= len(refused)
        self._transport = transport
        # With TLS it is not the transport that writes what we have: it gathers what it encrypts by itself.
        if isinstance(transport, FileDescriptor) and not ISSLTransport.providedBy(transport):
            self._sendmsg = getattr(transport.getHandle(), "sendmsg", _no_socket) if hasattr(transport, "getHandle") else _no_socket
            self._descriptor = transport if self._sendmsg is not _no_socket else None
        self._paused = False
        self.bound = self._options.max_pending_bytes
        self._rearm()
        self.flush()
        return refused

    def detach(self) -> None:
        """The connection has ended, or takes no more: keep the publishes that were not handed over, drop the rest."""
        self._transport = self._descriptor = None
        self._sendmsg = _no_socket
        self._paused = False
        self.bound = self._options.reconnect_buffer_bytes
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._rearm()
        self._keep(None)

    def _keep(self, refused: list[tuple[str, NatsError]] | None) -> None:
        """Keep the publishes, and nothing else; with ``refused`` also not those that the server of now would refuse."""
        data = b"".join([piece for chunk in self._chunks for piece in chunk.pieces] + self.take())
        self._chunks.clear()
        self._chunked = 0
        frames: list[bytes] = []
        accepted = self._handed_over
        size = 0
        for frame in self._kept(data, refused):
            frames.append(frame)
            accepted += 1
            size += len(frame)
            if size >= _WRITE_AT_ONCE:
                self._add_chunk(frames, size, accepted)
                frames, size = [], 0
        if frames:
            self._add_chunk(frames, size, accepted)
        self.pending = self._chunked
        self._watch()

    def _add_chunk(self, pieces: list[bytes], size: int, accepted: int) -> None:
        self._chunks.append(_Chunk(_joined(pieces, size), size, accepted))
        self._chunked += size

    def _kept(self, data: bytes, refused: list[tuple[str, NatsError]] | None) -> Iterator[bytes]:
        limit = self.encoder.max_payload
        position = 0
        while position < len(data):
            begin, position = position, data.index(b"\n", position) + 1
            line = data[begin : position - 2].split(b" ")
            if line[0] not in (b"PUB", b"HPUB"):
                continue
            size = int(line[-1])
            position += size + 2
            error: NatsError
            if refused is None:
                yield data[begin:position]
            elif limit is not None and size > limit:
                error = MaxPayloadExceededError(size, limit)
                refused.append((line[1].decode("utf-8"), error))
            elif line[0] == b"HPUB" and not self.encoder.headers_supported:
                error = HeadersNotSupportedError("the server does not support headers")
                refused.append((line[1].decode("utf-8"), error))
            else:
                yield data[begin:position]

    def close(self, error: NatsError | None = None) -> int:
        """No more is taken; who waits for room is told, and the number of publishes that were not sent is returned."""
        self.detach()
        undelivered = self.waiting_publishes
        self._chunks.clear()
        self.pending = self._chunked = 0
        self._handed_over = self.accepted
        self._watch()
        waiting, self._waiting = self._waiting, deque()
        while waiting:
            waiter = waiting.popleft()
            waiter.errback(error or ConnectionClosedError("the client was closed before the publish could be sent"))
            # Who published without waiting is not interested: that must not become an "Unhandled error in Deferred".
            waiter.addErrback(lambda failure: None)
        return undelivered


def _joined(pieces: list[bytes], size: int) -> list[bytes]:
    return [b"".join(pieces)] if len(pieces) > 1 and size < _LARGE_PIECES * len(pieces) else pieces


def _without(pieces: list[bytes], size: int) -> list[bytes]:
    """The pieces without their first bytes."""
    for index, piece in enumerate(pieces):
        if size < len(piece):
            return [piece[size:], *pieces[index + 1 :]]
        size -= len(piece)
    return []


def _no_socket(pieces: Sequence[bytes]) -> int:
    raise OSError("there is no socket")


def _is_idle(descriptor: FileDescriptor) -> bool:
    """Whether a descriptor is open and has nothing to write, so that what is written now comes in its turn."""
    if descriptor.dataBuffer or descriptor.disconnecting or not descriptor.connected:
        return False
    # There is no public way to ask for this half of what waits. Without it, all is left to the reactor.
    return not getattr(descriptor, "_tempDataLen", 1)
