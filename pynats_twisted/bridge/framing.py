"""Bytes to frames, without I/O: how a route finds where one line (or record, or packet) ends and the next begins.

:class:`FramingSettings` says how, and makes a :class:`~pynats_twisted.bridge.framers.Framer` for each peer. A framer takes the
bytes in whatever pieces they come and gives the frames in them; the frames are the same for every split of the bytes. The work is
proportional to the bytes, and what a framer keeps is bounded by the longest frame that it allows, whatever the peer sends.

Frames are :class:`bytes`. A frame with something to tell about it is a :class:`~pynats_twisted.bridge.framers.MarkedFrame`.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final, Literal

from pynats_twisted.bridge.framers import Count, DatagramFramer, DelimiterFramer, Framer, FramingFault, IdleFramer, MarkedFrame
from pynats_twisted.bridge.framers_length import DecimalFramer, IntPrefixFramer

__all__ = ["FRAMING_RULE", "Framer", "FramingFault", "FramingSettings", "MarkedFrame", "check_framing", "delimiter_of"]

TooLongPolicy = Literal["close", "truncate", "drop"]
PartialPolicy = Literal["emit", "drop"]

DELIMITERS: Final = {"newline": b"\n", "crlf": b"\r\n", "nul": b"\0"}
PREFIXES: Final = {"int16": struct.Struct("!H"), "int32": struct.Struct("!I")}
COUNTED: Final = {"netstring": b":", "octet-counted": b" "}

FRAMING_RULE: Final = (
    'one of "newline", "crlf", "nul", "netstring", "int16", "int32", "octet-counted", "datagram", "idle", '
    'or "delimiter:" and 1 to 16 bytes in hexadecimal'
)

_HEX_DELIMITER = re.compile(r"delimiter:((?:[0-9A-Fa-f]{2}){1,16})")


@dataclass(frozen=True, kw_only=True)
class FramingSettings:
    """How the bytes of a route's peers are framed.

    :param framing: see :data:`FRAMING_RULE`. ``newline`` also takes one carriage return before the line feed away; ``netstring``,
        ``int16``, ``int32`` (big-endian) and ``octet-counted`` (RFC 6587) say their length first; ``datagram`` takes each piece as
        one frame; ``idle`` ends a frame when nothing came for a while.
    :param max_length: the longest frame, in bytes, without delimiter or length.
    :param on_too_long: ``close``: give up on the peer; ``truncate``: give the first ``max_length`` bytes, marked; ``drop`` the frame.
    :param on_partial: what happens to the beginning of a frame whose end never comes: ``emit`` it, marked, or ``drop`` it. By
        default it is dropped for the framings that say their length first, and emitted for the others.
    :param skip_empty: give no empty frames.
    :raises ValueError: a value breaks its rule.
    """

    framing: str = "newline"
    max_length: int = 65536
    on_too_long: TooLongPolicy = "close"
    on_partial: PartialPolicy | None = None
    skip_empty: bool = False

    def __post_init__(self) -> None:
        check_framing(self.framing)
        if self.max_length < 1:
            raise ValueError(f"max_length {self.max_length} is not 1 or more")
        if self.on_too_long not in ("close", "truncate", "drop"):
            raise ValueError(f'on_too_long {self.on_too_long!r} is not "close", "truncate" or "drop"')
        if self.on_partial not in ("emit", "drop", None):
            raise ValueError(f'on_partial {self.on_partial!r} is not "emit" or "drop"')

    @property
    def emits_partial(self) -> bool:
        """Whether the beginning of a frame is given when its end never comes."""
        if self.on_partial is None:
            return self.framing not in PREFIXES and self.framing not in COUNTED
        return self.on_partial == "emit"

    def make(self, count: Count | None = None) -> Framer:
        """A framer for one peer.

        :param count: is called for everything out of the ordinary that the framer does.
        """
        count = count if count is not None else _count_nothing
        name = self.framing
        if name in PREFIXES:
            return IntPrefixFramer(self, count, PREFIXES[name])
        if name in COUNTED:
            return DecimalFramer(self, count, COUNTED[name], trailer=b"," if name == "netstring" else b"")
        if name == "datagram":
            return DatagramFramer(self, count)
        if name == "idle":
            return IdleFramer(self, count)
        return DelimiterFramer(self, count, delimiter_of(name), strip_return=name == "newline")


def check_framing(text: str) -> None:
    """Check the name of a framing.

    :raises ValueError: there is no such framing.
    """
    if text not in (*DELIMITERS, *PREFIXES, *COUNTED, "datagram", "idle") and not _HEX_DELIMITER.fullmatch(text):
        raise ValueError(f"framing {text!r} is not {FRAMING_RULE}")


def delimiter_of(framing: str) -> bytes:
    """The delimiter of a framing that has one.

    :raises ValueError: it has none, or there is no such framing.
    """
    if framing in DELIMITERS:
        return DELIMITERS[framing]
    match = _HEX_DELIMITER.fullmatch(framing)
    if match is None:
        raise ValueError(f"framing {framing!r} has no delimiter")
    return bytes.fromhex(match[1])


def _count_nothing(what: str, amount: int) -> None:
    """Who did not ask for counts gets none."""
