"""Where a syslog message ends in a stream of bytes: RFC 6587 has two ways, and a sender does not say which one it uses."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal

from pynats_twisted.bridge.framers import Count, Framer
from pynats_twisted.bridge.framing import FramingSettings, TooLongPolicy

SyslogFramingName = Literal["auto", "newline", "octet-counted"]

# A message starts with its priority; a line that starts with digits for another reason has none behind them.
_COUNTED = re.compile(rb"([1-9][0-9]{0,9}) <")
_MAY_BE_COUNTED = re.compile(rb"[1-9][0-9]{0,9} ?")
_BETWEEN = re.compile(rb"[\r\n\0]*")
_NEWLINE: Final = b"\n"


@dataclass(frozen=True, kw_only=True)
class SyslogFraming:
    """How the bytes of a peer are framed.

    :param framing: ``newline``; ``octet-counted``; ``auto`` for either, anew for each message; or ``datagram``.
    :param max_length: the longest message, in bytes.
    :param on_too_long: as of :class:`~pynats_twisted.bridge.framing.FramingSettings`.
    """

    framing: SyslogFramingName | Literal["datagram"] = "auto"
    max_length: int = 65536
    on_too_long: TooLongPolicy = "truncate"

    def make(self, count: Count | None = None) -> Framer:
        """A framer for one peer."""
        is_auto = self.framing == "auto"
        settings = FramingSettings(
            framing="newline" if is_auto else self.framing, max_length=self.max_length, on_too_long=self.on_too_long, skip_empty=True
        )
        return AutoFramer(settings, count if count is not None else _count_nothing) if is_auto else settings.make(count)


class AutoFramer(Framer):
    """Messages after their length (``17 <13>…``), or with a line feed behind them, in any order.

    Whole messages are taken from what came. One that came in pieces, or is too long, is left to a framer of its kind.
    """

    def __init__(self, settings: FramingSettings, count: Count) -> None:
        super().__init__(settings, count)
        self._lines = settings.make(count)
        self._counted = replace(settings, framing="octet-counted").make(count)
        self._current: Framer | None = None
        self._left = 0
        # The start of a message whose kind is not known yet: a few digits.
        self._start = b""

    @property
    def pending(self) -> int:
        return len(self._start) + (self._current.pending if self._current is not None else 0)

    def feed(self, data: bytes) -> list[bytes]:
        if self.fault is not None:
            return []
        frames: list[bytes] = []
        at, end = 0, len(data)
        if self._current is not None:
            at = self._go_on(data, 0, frames)
        elif self._start:
            data = self._start + data
            end = len(data)
            self._start = b""
        limit = self._max
        while at < end and self.fault is None:
            if data[at] in b"\r\n\0":
                between = _BETWEEN.match(data, at)
                assert between is not None
                at = between.end()
                continue
            counted = _COUNTED.match(data, at)
            if counted is not None:
                start = counted.end() - 1
                stop = start + int(counted[1])
                if stop <= end and stop - start <= limit:
                    frames.append(data[start:stop])
                    at = stop
                else:
                    self._current, self._left = self._counted, stop - at
                    at = self._go_on(data, at, frames)
                continue
            if _MAY_BE_COUNTED.fullmatch(data, at) is not None:
                self._start = data[at:]
                break
            stop = data.find(_NEWLINE, at)
            if 0 <= stop <= at + limit:
                frames.append(data[at : stop - 1 if data[stop - 1] == 13 else stop])
                at = stop + 1
            else:
                self._current = self._lines
                at = self._go_on(data, at, frames)
        return frames

    def flush(self) -> list[bytes]:
        if self.fault is not None:
            return []
        start, self._start = self._start, b""
        current, self._current = self._current or self._lines, None
        self._left = 0
        frames = current.feed(start) if start else []
        frames += current.flush()
        self.fault = current.fault
        return frames

    def _go_on(self, data: bytes, at: int, frames: list[bytes]) -> int:
        """Hand a message that is not whole, or too long, to its framer; gives how far the data was taken."""
        current = self._current
        assert current is not None
        if current is self._counted:
            stop = min(len(data), at + self._left)
            self._left -= stop - at
            is_done = not self._left
        else:
            stop = data.find(_NEWLINE, at) + 1
            is_done = stop > 0
            if not is_done:
                stop = len(data)
        frames += current.feed(data[at:stop])
        self.fault = current.fault
        if is_done:
            self._current = None
        return stop


def _count_nothing(what: str, amount: int) -> None:
    """Who did not ask for counts gets none."""
