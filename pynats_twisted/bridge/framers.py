"""Framers: state machines that take the bytes of one peer and give frames. See :mod:`pynats_twisted.bridge.framing`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pynats_twisted.bridge.framing import FramingSettings

#: ``count(what, how_many)``: how a framer reports what is out of the ordinary: ``"too-long"``, ``"truncated"``, ``"partial"``
#: (emitted), ``"partial-dropped"`` and ``"empty"``.
Count = Callable[[str, int], None]


class MarkedFrame(bytes):
    """A frame that is not just what the peer framed.

    :ivar partial: the frame was cut off by the end of the connection, or by silence (``idle_flush``).
    :ivar original_length: for a frame that was cut to the allowed length, how long it was, or had announced to be; 0 for others.
    """

    partial: bool = False
    original_length: int = 0


class FramingFault(NamedTuple):
    """Why a framer gave up on its peer.

    :ivar reason: ``"too-long"`` or ``"bad-framing"``.
    :ivar detail: the rule that was broken, in words; holds nothing of what the peer sent.
    """

    reason: str
    detail: str


def _mark(data: bytes, *, partial: bool = False, original_length: int = 0) -> MarkedFrame:
    frame = MarkedFrame(data)
    frame.partial = partial
    frame.original_length = original_length
    return frame


class Framer:
    """The framing of one peer's bytes; the base of all of them.

    :ivar fault: why the framer gave up, or None. After a fault it gives no more frames.
    """

    def __init__(self, settings: FramingSettings, count: Count) -> None:
        self.settings = settings
        self.fault: FramingFault | None = None
        self._max = settings.max_length
        self._count = count

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished frame have come (those of a frame being skipped included)."""
        raise AssertionError("every framer says what it keeps")

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, in any pieces, and give the frames that they complete; look at :attr:`fault` afterwards."""
        raise AssertionError("every framer takes bytes")

    def flush(self) -> list[bytes]:
        """The peer is silent (``idle_flush``) or gone: give or drop what came of an unfinished frame, and start anew."""
        raise AssertionError("every framer can be flushed")

    def _too_long(self) -> None:
        """Count a frame that is longer than allowed, and give up where that is the policy."""
        self._count("too-long", 1)
        if self.settings.on_too_long == "close":
            self.fault = FramingFault("too-long", f"a frame is longer than max_length, {self._max} bytes")

    def _cut(self, head: bytes, length: int, *, partial: bool = False) -> list[bytes]:
        """A frame of ``length`` bytes that is too long (counted already), by the policy; ``head`` has its first bytes."""
        if self.settings.on_too_long != "truncate":
            return []
        self._count("truncated", 1)
        if partial:
            self._count("partial", 1)
        return [_mark(head[: self._max], partial=partial, original_length=length)]

    def _part(self, data: bytes) -> list[bytes]:
        """The beginning of a frame whose end never comes, by the policy."""
        if not data and self.settings.skip_empty:
            self._count("empty", 1)
            return []
        if not self.settings.emits_partial:
            self._count("partial-dropped", 1)
            return []
        self._count("partial", 1)
        return [_mark(data, partial=True)]

    def _without_empty(self, frames: list[bytes]) -> list[bytes]:
        if not self.settings.skip_empty or b"" not in frames:
            return frames
        kept = [frame for frame in frames if frame]
        self._count("empty", len(frames) - len(kept))
        return kept


class DelimiterFramer(Framer):
    """Frames that end with a delimiter.

    What is too long is known when more than ``max_length`` bytes and the beginning of a delimiter have come: from there on the
    first ``max_length`` bytes are kept for ``truncate``, the rest is counted, and only its last bytes, which may be the start of
    the delimiter, are kept.
    """

    def __init__(self, settings: FramingSettings, count: Count, delimiter: bytes, *, strip_return: bool = False) -> None:
        super().__init__(settings, count)
        self._delimiter = delimiter
        self._strip_return = strip_return
        # A carriage return that belongs to the line feed is not part of the line, so it must not make it too long.
        self._slack = 1 if strip_return else len(delimiter) - 1
        self._buffer = bytearray()
        self._skipping = False
        self._head = b""
        self._gone = 0

    @property
    def pending(self) -> int:
        return self._gone + len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        if self.fault is not None:
            return []
        frames: list[bytes] = []
        if self._buffer or self._skipping:
            delimiter, buffer = self._delimiter, self._buffer
            start = max(0, len(buffer) - len(delimiter) + 1)
            buffer += data
            end = buffer.find(delimiter, start)
            if end < 0:
                self._bound()
                return frames
            if self._skipping:
                frames = self._end_skipping(end)
                del buffer[: end + len(delimiter)]
            data = bytes(buffer)
            buffer.clear()
        if self._strip_return and b"\r\n" in data:
            data = data.replace(b"\r\n", b"\n")
        lines = data.split(self._delimiter)
        self._buffer += lines.pop()
        if lines:
            frames += self._checked(lines)
        if self.fault is None:
            self._bound()
        return frames

    def flush(self) -> list[bytes]:
        if self.fault is not None or not (self._buffer or self._skipping):
            return []
        if self._skipping:
            frames = self._cut(self._head, self._gone + len(self._buffer), partial=True)
            self._skipping, self._head, self._gone = False, b"", 0
            self._buffer.clear()
            return frames
        line = bytes(self._buffer)
        self._buffer.clear()
        if self._strip_return and line.endswith(b"\r"):
            line = line[:-1]
        if len(line) > self._max:
            self._too_long()
            return self._cut(line, len(line), partial=True)
        return self._part(line)

    def _checked(self, lines: list[bytes]) -> list[bytes]:
        """Whole lines, by the rules; the usual case must cost next to nothing."""
        if len(max(lines, key=len)) > self._max:
            lines = self._shortened(lines)
        return self._without_empty(lines)

    def _shortened(self, lines: list[bytes]) -> list[bytes]:
        kept: list[bytes] = []
        for line in lines:
            if len(line) <= self._max:
                kept.append(line)
                continue
            self._too_long()
            if self.fault is not None:
                self._buffer.clear()
                break
            kept += self._cut(line, len(line))
        return kept

    def _bound(self) -> None:
        """Keep no more of an unfinished line than its bound."""
        buffer = self._buffer
        if not self._skipping:
            if len(buffer) <= self._max + self._slack:
                return
            self._too_long()
            if self.fault is not None:
                buffer.clear()
                return
            self._skipping = True
            self._head = bytes(buffer[: self._max]) if self.settings.on_too_long == "truncate" else b""
        gone = len(buffer) - self._slack
        if gone > 0:
            self._gone += gone
            del buffer[:gone]

    def _end_skipping(self, end: int) -> list[bytes]:
        """The delimiter of a line that was too long is at ``end`` of the buffer."""
        length = self._gone + end
        if self._strip_return and end and self._buffer[end - 1] == 13:
            length -= 1
        frames = self._cut(self._head, length)
        self._skipping, self._head, self._gone = False, b"", 0
        return frames


class DatagramFramer(Framer):
    """Every piece is a frame, as the datagrams of UDP are."""

    @property
    def pending(self) -> int:
        return 0

    def feed(self, data: bytes) -> list[bytes]:
        if self.fault is not None:
            return []
        if len(data) > self._max:
            self._too_long()
            return [] if self.fault is not None else self._cut(data, len(data))
        return self._without_empty([data])

    def flush(self) -> list[bytes]:
        return []


class IdleFramer(Framer):
    """A frame is what came until the peer was silent for a while; the owner measures the silence and calls :meth:`flush`."""

    def __init__(self, settings: FramingSettings, count: Count) -> None:
        super().__init__(settings, count)
        self._buffer = bytearray()
        self._total = 0

    @property
    def pending(self) -> int:
        return self._total

    def feed(self, data: bytes) -> list[bytes]:
        if self.fault is not None:
            return []
        was_too_long = self._total > self._max
        self._total += len(data)
        self._buffer += data[: max(0, self._max - len(self._buffer))]
        if self._total > self._max and not was_too_long:
            self._too_long()
            if self.fault is not None:
                self._buffer.clear()
        return []

    def flush(self) -> list[bytes]:
        if self.fault is not None or not self._total:
            return []
        frame, total = bytes(self._buffer), self._total
        self._buffer.clear()
        self._total = 0
        return self._cut(frame, total) if total > self._max else [frame]
