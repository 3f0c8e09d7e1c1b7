"""The one buffer between publishing and the socket; while there is no connection, it is the reconnect buffer."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from ..errors import HeadersNotSupportedError, MaxPayloadExceededError, NatsError

if TYPE_CHECKING:
    from ..protocol.encoder import Payload, PublishEncoder
    from ..protocol.headers import HeadersLike

# A socket is offered about this much at a time.
_CHUNK = 256 * 1024
_PUBLISH = (b"PUB ", b"HPUB ")
_NOTHING = memoryview(b"")


class Outbound:
    """Whole frames on their way out, one ``bytes`` each. A frame leaves when the socket has taken its last byte.

    So what a lost connection did not take as a whole is known to the byte, and is sent again: the server has never seen its end.

    :ivar pending: bytes that the socket has not taken.
    :ivar accepted: publishes that were taken since the client began; :ivar accepted_bytes: their bytes.
    """

    def __init__(self, encoder: PublishEncoder) -> None:
        self._encoder = encoder
        self._frames: deque[bytes] = deque()
        # The bytes that the socket is offered now: the rest of the first so many frames.
        self._chunk = _NOTHING
        self._in_chunk = 0
        # Only so many frames may still go to this connection; what comes behind them is for the next one.
        self._last: int | None = None
        self._attached = False
        self.pending = 0
        self.accepted = 0
        self.accepted_bytes = 0

    def encode(self, subject: str, payload: Payload, reply: str | None, headers: HeadersLike | None) -> bytes:
        """A publish as one frame. What :meth:`PublishEncoder.encode` raises is raised here."""
        parts: list[bytes] = []
        self._encoder.encode(parts, subject, payload, reply, headers)
        return b"".join(parts)

    def publish(self, frame: bytes) -> None:
        """Take a publish."""
        self.pending += len(frame)
        self.accepted += 1
        self.accepted_bytes += len(frame)
        self._frames.append(frame)

    def control(self, lines: bytes) -> None:
        """Take lines that are no publish. They are for the connection of now: without one they are dropped, and they go with it."""
        if self._attached and lines:
            self.pending += len(lines)
            self._frames.append(lines)

    # --- the way out -----------------------------------------------------------------------------------------

    def chunk(self) -> memoryview:
        """What the socket should take next; empty when there is nothing. The same bytes until :meth:`sent`."""
        if not self._chunk and self._frames and self._last != 0:
            self._fill()
        return self._chunk

    def _fill(self) -> None:
        size = count = 0
        for frame in self._frames:
            size += len(frame)
            count += 1
            if size >= _CHUNK or count == self._last:
                break
        self._in_chunk = count
        self._chunk = memoryview(self._frames[0] if count == 1 else b"".join(islice(self._frames, count)))

    def sent(self, size: int) -> None:
        """The socket has taken so many bytes."""
        self._chunk = self._chunk[size:]
        self.pending -= size
        if not self._chunk:
            self._drop_chunk(self._in_chunk)

    def _drop_chunk(self, count: int) -> None:
        if self._last is not None:
            self._last -= count
        for _ in range(count):
            self._frames.popleft()
        self._in_chunk = 0
        if not self._frames:
            # An exception out of nowhere may have come between counting a frame and taking it.
            self.pending = 0

    # --- connections come and go -----------------------------------------------------------------------------

    def attach(self, lines: bytes) -> list[tuple[str, NatsError]]:
        """A connection is up. ``lines`` go before what waits for it.

        :returns: the publishes that do not fit the new server's limits, as (subject, error). They are taken out.
        """
        self.detach()
        refused: list[tuple[str, NatsError]] = []
        kept: deque[bytes] = deque()
        for frame in self._frames:
            problem = self._refusal(frame)
            if problem is None:
                kept.append(frame)
            else:
                refused.append(problem)
        self.accepted -= len(refused)
        if lines:
            kept.appendleft(lines)
        self._frames = kept
        self.pending = sum(map(len, kept))
        self._attached = True
        return refused

    @property
    def waiting_publishes(self) -> int:
        """Publishes of which the socket has not taken the whole."""
        return sum(1 for frame in self._frames if frame.startswith(_PUBLISH))

    def _refusal(self, frame: bytes) -> tuple[str, NatsError] | None:
        line = frame[: frame.index(b"\r\n")].split(b" ")
        size, limit = int(line[-1]), self._encoder.max_payload
        if limit is not None and size > limit:
            return line[1].decode(), MaxPayloadExceededError(size, limit)
        if line[0] == b"HPUB" and not self._encoder.headers_supported:
            return line[1].decode(), HeadersNotSupportedError("the server does not support headers")
        return None

    def hold(self) -> None:
        """Give this connection what waits now, and keep what comes from here on for the next."""
        self._last = len(self._frames)

    def detach(self) -> int:
        """The connection has ended: keep the publishes that it did not take as a whole, drop the rest.

        :returns: how many are kept.
        """
        taken = sum(len(frame) for frame in islice(self._frames, self._in_chunk)) - len(self._chunk) if self._in_chunk else 0
        whole = 0
        for frame in islice(self._frames, self._in_chunk):
            taken -= len(frame)
            if taken < 0:
                break
            whole += 1
        self._attached = False
        self._chunk = _NOTHING
        self._in_chunk = 0
        self._last = None
        self._frames = deque(frame for frame in islice(self._frames, whole, None) if frame.startswith(_PUBLISH))
        self.pending = sum(map(len, self._frames))
        return len(self._frames)

    def clear(self) -> int:
        """Forget everything; how many publishes that were."""
        undelivered = self.detach()
        self._frames.clear()
        self.pending = 0
        return undelivered
