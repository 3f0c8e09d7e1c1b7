"""Framers for frames that say their length first. See :mod:`pynats_twisted.bridge.framing`."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pynats_twisted.bridge.framers import Count, Framer, FramingFault

if TYPE_CHECKING:
    from pynats_twisted.bridge.framing import FramingSettings

#: Digits of the longest decimal length that is understood at all.
MAX_DIGITS = 10


class LengthFramer(Framer):
    """Frames that say their length first; subclasses read the length.

    An unfinished frame is collected until all of it is there. A frame that announces too much is not collected: its first bytes
    are kept for ``truncate``, and the rest is counted off.
    """

    def __init__(self, settings: FramingSettings, count: Count, trailer: bytes = b"") -> None:
        super().__init__(settings, count)
        self._trailer = trailer
        self._buffer = bytearray()
        self._need = 1
        self._skipping = False
        self._head = bytearray()
        self._length = 0
        self._left = 0

    @property
    def pending(self) -> int:
        return self._length - self._left if self._skipping else len(self._buffer)

    def _length_at(self, data: bytes, at: int) -> tuple[int, int] | None:
        """The announced length and where the payload starts; None when it has not come whole, or is wrong (then there is a fault)."""
        raise AssertionError("every framer with lengths reads them")

    def feed(self, data: bytes) -> list[bytes]:
        if self.fault is not None:
            return []
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._need:
                return []
            data = bytes(buffer)
            buffer.clear()
        frames: list[bytes] = []
        at, end = 0, len(data)
        limit, trailer = self._max, self._trailer
        while at < end:
            if self._skipping:
                at = self._skip(data, at, frames)
                if self.fault is not None:
                    break
                continue
            found = self._length_at(data, at)
            if found is None:
                if self.fault is None:
                    buffer += data[at:]
                    self._need = len(buffer) + 1
                break
            length, start = found
            if length > limit:
                self._too_long()
                if self.fault is not None:
                    break
                self._skipping, self._length, self._left = True, length, length
                at = start
                continue
            stop = start + length
            following = stop + len(trailer)
            if following > end:
                # A wrong trailer is noticed when all of it has come.
                buffer += data[at:]
                self._need = following - at
                break
            if trailer and data[stop:following] != trailer:
                self._bad_trailer()
                break
            frames.append(data[start:stop])
            at = following
        return self._without_empty(frames)

    def flush(self) -> list[bytes]:
        if self.fault is not None or not (self._buffer or self._skipping):
            return []
        if self._skipping:
            frames = self._cut(bytes(self._head), self._length, partial=True)
            self._skipping = False
            self._head.clear()
            return frames
        data = bytes(self._buffer)
        self._buffer.clear()
        found = self._length_at(data, 0)
        payload = data[found[1] : found[1] + found[0]] if found is not None else b""
        if not payload:
            self._count("partial-dropped", 1)
            return []
        return self._part(payload)

    def _skip(self, data: bytes, at: int, frames: list[bytes]) -> int:
        """Go on with a frame that is too long; gives how far the data was taken."""
        take = min(self._left, len(data) - at)
        room = self._max - len(self._head)
        if room > 0 and self.settings.on_too_long == "truncate":
            self._head += data[at : at + min(take, room)]
        self._left -= take
        at += take
        if self._left:
            return at
        if self._trailer:
            # One byte at most: no framing has a longer trailer.
            if at == len(data):
                return at
            if data[at : at + 1] != self._trailer:
                self._bad_trailer()
                return at
            at += 1
        frames += self._cut(bytes(self._head), self._length)
        self._skipping = False
        self._head.clear()
        return at

    def _bad_trailer(self) -> None:
        self.fault = FramingFault("bad-framing", f"a frame does not end with {self._trailer.decode()!r}")


class IntPrefixFramer(LengthFramer):
    """Frames after their length as an unsigned big-endian integer."""

    def __init__(self, settings: FramingSettings, count: Count, prefix: struct.Struct) -> None:
        super().__init__(settings, count)
        self._unpack = prefix.unpack_from
        self._size = prefix.size

    def _length_at(self, data: bytes, at: int) -> tuple[int, int] | None:
        start = at + self._size
        if start > len(data):
            return None
        return self._unpack(data, at)[0], start


class DecimalFramer(LengthFramer):
    """Frames after their length in decimal digits and a separator: netstrings, and the octet counting of RFC 6587."""

    def __init__(self, settings: FramingSettings, count: Count, separator: bytes, trailer: bytes) -> None:
        super().__init__(settings, count, trailer)
        self._separator = separator

    def _length_at(self, data: bytes, at: int) -> tuple[int, int] | None:
        end = data.find(self._separator, at, at + MAX_DIGITS + 1)
        digits = data[at : end if end >= 0 else at + MAX_DIGITS + 1]
        if digits.isdigit() and len(digits) <= MAX_DIGITS and not self._zero(digits):
            return (int(digits), end + 1) if end >= 0 else None
        expected = f"a decimal length of 1 to {MAX_DIGITS} digits without leading zeros and {self._separator.decode()!r}"
        self.fault = FramingFault("bad-framing", f"a frame does not start with {expected}")
        return None

    def _zero(self, digits: bytes) -> bool:
        """Whether the digits start with a zero that is not allowed; an empty netstring is, an empty syslog message is not."""
        return digits[:1] == b"0" and (len(digits) > 1 or not self._trailer)
