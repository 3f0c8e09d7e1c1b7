"""Bytes from a server, in any split, to messages and lines. The readable definition of what is right.

Arguments are separated by spaces and tabs and a line ends at LF, with one CR before it taken off: a server relays any
other byte in a subject, a lone CR and NUL included, so nothing here may call them white space.
Each byte is looked at once and copied once, however the input is split.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

from ..errors import (
    LineTooLongError,
    MalformedLineError,
    MessageTooLargeError,
    MissingTerminatorError,
    ProtocolError,
    UnknownOperationError,
)
from .message import Msg

MAX_LINE = 64 * 1024
MAX_INFO_LINE = 1024 * 1024
MAX_MESSAGE = 64 * 1024 * 1024

# Pieces of a payload that are smaller than this are gathered in one buffer: a list of single bytes would take 8 times their size.
_SMALL_PIECE = 1024
_MAX_CACHED = 16_384
_MAX_CACHED_HEAD = 160
# A space, 19 digits and a CR.
_MOST_OF_SIZE = 21
_LETTER_M = ord("M")
_UNDERSCORE = ord("_")


class Operation(Enum):
    """The lines that a server sends beside messages."""

    INFO = "INFO"
    PING = "PING"
    PONG = "PONG"
    OK = "+OK"
    ERR = "-ERR"


class Line:
    """A line that is not a message: its operation, and what follows it (the JSON of INFO, the text of -ERR)."""

    __slots__ = ("operation", "text")

    def __init__(self, operation: Operation, text: bytes = b"") -> None:
        self.operation = operation
        self.text = text

    def __repr__(self) -> str:
        return f"<Line {self.operation.value} {self.text[:64]!r}>"


Parsed = Msg | Line

_PING = Line(Operation.PING)
_PONG = Line(Operation.PONG)
_OK = Line(Operation.OK)


class Parser:
    """The state of reading one connection's bytes.

    :param max_line: bytes that a line may have, without its end; :param max_info_line: the same for INFO.
    :param max_message: bytes of headers and payload that a message may have.
    :ivar pause_after_info: stop behind the next INFO and keep what follows it, until :meth:`resume`.
    """

    __slots__ = (
        "_failed",
        "_heads",
        "_held",
        "_line",
        "_missing",
        "_numbers",
        "_paused",
        "_pending",
        "_pieces",
        "_sizes",
        "_subjects",
        "max_info_line",
        "max_line",
        "max_message",
        "pause_after_info",
    )

    _make: ClassVar[type[Msg]] = Msg

    def __init__(self, max_line: int = MAX_LINE, max_info_line: int = MAX_INFO_LINE, max_message: int = MAX_MESSAGE) -> None:
        self.max_line = max_line
        self.max_info_line = max_info_line
        self.max_message = max_message
        self.pause_after_info = False
        self._failed: ProtocolError | None = None
        self._line = bytearray()
        # The arguments of a message whose bytes have not all come: subject, sid, reply, bytes of headers, bytes in all.
        self._pending: tuple[str, int, str, int, int] | None = None
        self._missing = 0
        self._pieces: list[bytes | bytearray | memoryview] = []
        self._paused = False
        self._held = b""
        # What stands before the size in a MSG line without a reply: subject and sid. What stands behind: the size, as it is written.
        self._heads: dict[bytes, tuple[str, int]] = {}
        self._sizes: dict[bytes, int] = {}
        self._numbers: dict[bytes, int] = {}
        # The subjects of messages with a reply.
        self._subjects: dict[bytes, str] = {}

    @property
    def held(self) -> int:
        """Bytes that came behind an INFO at which the parser paused."""
        return len(self._held)

    @property
    def unfinished(self) -> bool:
        """Whether it holds bytes of a line or a message that has not come to its end, or that wait for :meth:`resume`."""
        return bool(self._line or self._held) or self._pending is not None

    def feed(self, data: bytes, out: list[Parsed]) -> None:
        """Read more bytes and append what they complete to ``out``.

        :raises ProtocolError: one of its subclasses, at the first illegal thing; what came before it is in ``out``.
            Every later call raises the same error.
        """
        if self._failed is not None:
            # Without the frames of the raises before: they would grow, and hold what was fed.
            raise self._failed.with_traceback(None)
        if self._paused:
            self._held += data
            return
        try:
            self._feed(data, out)
        except ProtocolError as error:
            self._failed = error
            self._line.clear()
            self._pieces.clear()
            raise

    def resume(self, out: list[Parsed]) -> None:
        """Go on behind the INFO at which the parser paused.

        :raises ProtocolError: as :meth:`feed`.
        """
        self._paused = False
        held, self._held = self._held, b""
        if held:
            self.feed(held, out)

    def _feed(self, data: bytes, out: list[Parsed]) -> None:
        position = 0
        if self._pending is not None:
            position = self._continue_message(data, out)
            if position < 0:
                return
        elif self._line:
            end = data.find(b"\n")
            if end < 0:
                self._line += data
                self._check_unfinished_line()
                return
            self._line += data
            data = bytes(self._line)
            self._line.clear()
        self._read(data, position, out)

    def _read(self, data: bytes, position: int, out: list[Parsed]) -> None:
        """Read from the beginning of a line on."""
        length = len(data)
        find = data.find
        append = out.append
        heads = self._heads
        sizes = self._sizes
        numbers = self._numbers
        subjects = self._subjects
        max_line = self.max_line
        most_of_head = min(_MAX_CACHED_HEAD, max_line - _MOST_OF_SIZE)
        while position < length:
            end = find(b"\n", position)
            if end < 0:
                self._line += memoryview(data)[position:]
                self._check_unfinished_line()
                return
            if data[position] != _LETTER_M:
                position = self._other_line(data, position, end, out)
                if position < 0:
                    return
                continue
            line = data[position:end]
            head, _, raw_size = line.rpartition(b" ")
            known = heads.get(head)
            size = sizes.get(raw_size)
            if known is not None and size is not None:
                subject, sid = known
                reply = ""
            elif head[:4] == b"MSG " and len(line) <= max_line:
                words = head.split(b" ")
                count = len(words)
                number = numbers.get(words[2]) if count == 3 or (count == 4 and words[3] and b"\t" not in words[3]) else None
                if size is None or number is None or not words[1] or b"\t" in words[1]:
                    subject, sid, reply, size = self._odd_message(line, raw_size)
                else:
                    sid = number
                    if count == 4:
                        reply = words[3].decode("utf-8", "surrogateescape")
                        subject = subjects.get(words[1]) or self._new_subject(words[1])
                    else:
                        reply = ""
                        subject = words[1].decode("utf-8", "surrogateescape")
                        # An inbox is nearly always a new one. With any size that is known the line is short enough.
                        if head[4] != _UNDERSCORE and len(head) <= most_of_head:
                            if len(heads) >= _MAX_CACHED:
                                heads.clear()
                            heads[head] = subject, sid
            else:
                position = self._other_line(data, position, end, out)
                if position < 0:
                    return
                continue
            position = end + 1
            end = position + size
            # Behind the payload there are two more bytes: both in this read, or the slow way.
            if end + 2 > length:
                self._begin_message(data, position, (subject, sid, reply, 0, size))
                return
            if data[end] != 13 or data[end + 1] != 10:
                raise _missing_terminator(size, data[end : end + 2])
            append(Msg(subject, sid, reply, data[position:end]))
            position = end + 2

    def _odd_message(self, line: bytes, raw_size: bytes) -> tuple[str, int, str, int]:
        """Read a MSG line with numbers that are not known, or not written as servers do."""
        subject, sid, reply, _, size = self._arguments(line, headers=False)
        if self._numbers.get(raw_size.removesuffix(b"\r")) == size:
            if len(self._sizes) >= _MAX_CACHED:
                self._sizes.clear()
            self._sizes[raw_size] = size
        return subject, sid, reply, size

    def _other_line(self, data: bytes, position: int, end: int, out: list[Parsed]) -> int:
        """Read what is not a plain MSG line. Returns where to go on, or -1 where nothing can be read for now."""
        line = data[position:end]
        if line[-1:] == b"\r":
            line = line[:-1]
        kind = line[:4].upper()
        if len(line) > (self.max_info_line if kind == b"INFO" else self.max_line):
            raise self._too_long(line)
        after = end + 1
        if kind == b"PING":
            out.append(_PING)
        elif kind == b"PONG":
            out.append(_PONG)
        elif kind == b"HMSG" or kind == b"MSG " or kind == b"MSG\t":
            pending = self._arguments(data[position:end], headers=kind == b"HMSG")
            stop = after + pending[4]
            if stop + 2 > len(data):
                self._begin_message(data, after, pending)
                return -1
            tail = data[stop : stop + 2]
            if tail != b"\r\n":
                raise _missing_terminator(pending[4], tail)
            out.append(self._message(pending, data[after:stop]))
            return stop + 2
        elif kind[:3] == b"+OK":
            out.append(_OK)
        elif kind == b"-ERR" and line[4:5] in (b"", b" ", b"\t"):
            out.append(Line(Operation.ERR, line[5:]))
        elif kind == b"INFO" and line[4:5] in (b" ", b"\t"):
            out.append(Line(Operation.INFO, line[5:]))
            if self.pause_after_info:
                self.pause_after_info = False
                self._paused = True
                self._held = data[after:]
                return -1
        elif kind in (b"-ERR", b"INFO", b"MSG"):
            raise MalformedLineError(f"{kind.decode()} without its argument: {_shown(line)}")
        else:
            raise UnknownOperationError(f"the line starts with no operation of a server: {_shown(line)}")
        return after

    def _arguments(self, line: bytes, *, headers: bool) -> tuple[str, int, str, int, int]:
        """Read the arguments of MSG or HMSG, in every legal way of writing them."""
        text = line[:-1] if line[-1:] == b"\r" else line
        name = "HMSG" if headers else "MSG"
        if headers and text[4:5] not in (b" ", b"\t", b""):
            raise UnknownOperationError(f"the line starts with no operation of a server: {_shown(line)}")
        arguments = [argument for argument in text[len(name) :].replace(b"\t", b" ").split(b" ") if argument]
        least = 4 if headers else 3
        if len(arguments) == least:
            reply = ""
        elif len(arguments) == least + 1:
            reply = arguments.pop(2).decode("utf-8", "surrogateescape")
        else:
            raise MalformedLineError(f"{name} has {len(arguments)} arguments, not {least} or {least + 1}: {_shown(line)}")
        sid = self._number(arguments[1], "sid", line)
        size = self._number(arguments[-1], "size", line)
        header_size = self._number(arguments[2], "header size", line) if headers else 0
        if header_size > size:
            raise MalformedLineError(f"the header size {header_size} is larger than the whole size {size}: {_shown(line)}")
        if size > self.max_message:
            raise MessageTooLargeError(f"a message announces {size} bytes, the bound is {self.max_message}")
        return arguments[0].decode("utf-8", "surrogateescape"), sid, reply, header_size, size

    def _new_subject(self, raw: bytes) -> str:
        subject = raw.decode("utf-8", "surrogateescape")
        if len(raw) <= _MAX_CACHED_HEAD:
            if len(self._subjects) >= _MAX_CACHED:
                self._subjects.clear()
            self._subjects[raw] = subject
        return subject

    def _number(self, text: bytes, what: str, line: bytes) -> int:
        number = self._numbers.get(text)
        if number is None:
            if not text.isdigit() or len(text) > 19:
                raise MalformedLineError(f"the {what} {_shown(text)} is not a number of at most 19 digits: {_shown(line)}")
            number = int(text)
            if number > 0x7FFFFFFFFFFFFFFF:
                raise MalformedLineError(f"the {what} {number} does not fit into 63 bits")
            # A size over the bound must never be found here by the fast way, which does not check it again.
            if number <= self.max_message:
                if len(self._numbers) >= _MAX_CACHED:
                    self._numbers.clear()
                self._numbers[text] = number
        return number

    def _message(self, pending: tuple[str, int, str, int, int], body: bytes) -> Msg:
        subject, sid, reply, header_size, _ = pending
        if header_size:
            return self._make(subject, sid, reply, body[header_size:], body[:header_size])
        return self._make(subject, sid, reply, body)

    def _begin_message(self, data: bytes, position: int, pending: tuple[str, int, str, int, int]) -> None:
        self._pending = pending
        self._missing = pending[4] + 2
        self._pieces.clear()
        self._keep(memoryview(data)[position:])

    def _keep(self, piece: memoryview) -> None:
        size = len(piece)
        if size:
            self._missing -= size
            if size >= _SMALL_PIECE:
                self._pieces.append(piece)
            elif self._pieces and isinstance(self._pieces[-1], bytearray):
                self._pieces[-1] += piece
            else:
                self._pieces.append(bytearray(piece))

    def _continue_message(self, data: bytes, out: list[Parsed]) -> int:
        missing = self._missing
        view = memoryview(data)
        if len(data) < missing:
            self._keep(view)
            return -1
        assert self._pending is not None
        pending = self._pending
        if missing >= 2:
            # The usual end: joining gives the payload itself, in one copy.
            tail = data[missing - 2 : missing]
            self._keep(view[: missing - 2])
            body = b"".join(self._pieces)
        else:
            last = self._pieces[-1]
            tail = bytes(last[-1:]) + data[:1]
            if isinstance(last, bytearray):
                del last[-1:]
            else:
                self._pieces[-1] = last[:-1]
            body = b"".join(self._pieces)
        self._pieces.clear()
        self._pending = None
        self._missing = 0
        if tail != b"\r\n":
            raise _missing_terminator(pending[4], tail)
        out.append(self._message(pending, body))
        return missing

    def _check_unfinished_line(self) -> None:
        size = len(self._line)
        if size > self.max_line + 1:
            limit = self.max_info_line if bytes(self._line[:4]).upper() == b"INFO" else self.max_line
            # One more byte may be the CR of the line's end.
            if size > limit + 1:
                raise self._too_long(bytes(self._line[:65]))

    def _too_long(self, line: bytes) -> LineTooLongError:
        kind = line[:4].upper()
        limit = self.max_info_line if kind == b"INFO" else self.max_line
        return LineTooLongError(f"a line is longer than {limit} bytes: {_shown(line)}")


def _missing_terminator(size: int, found: bytes) -> MissingTerminatorError:
    return MissingTerminatorError(f"a payload of {size} bytes is followed by {found!r}, not by CR LF")


def _shown(line: bytes) -> str:
    return repr(line[:64]) + ("…" if len(line) > 64 else "")
