"""Reading HTTP/1.1 responses of a webhook's target: status and a few headers; bodies are measured and dropped. It does no I/O."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Final

MAX_LINE: Final = 8 * 1024
"""Longest line of a head, in bytes."""

MAX_HEAD: Final = 32 * 1024
"""Longest head, in bytes."""

MAX_INTERIM: Final = 20
"""Most interim responses (1xx) before the response itself."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*)?", re.ASCII)
_DIGITS = re.compile(rb"[0-9]{1,15}", re.ASCII)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.ASCII)


class ResponseError(Exception):
    """What came is no HTTP response, or is more than was allowed."""


class ResponseReader:
    """One response.

    :param body_limit: most bytes of its body.

    :ivar status: the status, from the end of the status line on; 0 before. An interim one is passed over.
    :ivar is_complete: the whole response is here.
    :ivar keep_alive: the connection can be used again after it; meaningful when it is complete.
    """

    def __init__(self, body_limit: int) -> None:
        self.status = 0
        self.is_complete = False
        self.keep_alive = False
        self._limit = body_limit
        self._data = b""
        self._in_head = True
        self._head_bytes = 0
        self._interim = 0
        self._headers: dict[bytes, bytes] = {}
        self._chunked = False
        self._to_end = False
        # Bytes that are left of the body, or of the chunk.
        self._left = 0
        self._body_bytes = 0
        self._part = "size"

    def receive(self, data: bytes) -> None:
        """Take bytes of the connection.

        :raises ResponseError: they are no response.
        """
        if self.is_complete:
            raise ResponseError("bytes after the response")
        self._data = self._data + data if self._data else data
        while self._in_head and self._data:
            line = self._line(MAX_LINE)
            if line is None:
                return
            self._head_bytes += len(line) + 2
            if self._head_bytes > MAX_HEAD:
                raise ResponseError(f"a head of more than {MAX_HEAD} bytes")
            self._head_line(line)
        if not self._in_head and not self.is_complete:
            self._read_body()
        if self.is_complete and self._data:
            # It sent more than one answer: whatever comes next would be taken for the answer to another request.
            self.keep_alive = False

    def receive_end(self) -> None:
        """The connection has ended.

        :raises ResponseError: before the response did.
        """
        if self._to_end and not self.is_complete:
            self._finish()
        if not self.is_complete:
            raise ResponseError(
                "the connection ended in the middle of the response" if self.status else "the connection ended before a response"
            )

    def retry_after(self, now: float) -> float:
        """Seconds that ``Retry-After`` asks for, as a number or a date; 0 without one that can be read.

        :param now: seconds since 1970.
        """
        value = self._headers.get(b"retry-after", b"").strip()
        if _DIGITS.fullmatch(value):
            return float(value)
        try:
            return max(0.0, parsedate_to_datetime(value.decode("ascii")).timestamp() - now)
        except (ValueError, TypeError, OverflowError, UnicodeDecodeError):
            return 0.0

    # --- the head ----------------------------------------------------------------------------------------------

    def _line(self, longest: int) -> bytes | None:
        end = self._data.find(b"\n", 0, longest + 2)
        if end < 0:
            if len(self._data) > longest:
                raise ResponseError(f"a line of more than {longest} bytes")
            return None
        line, self._data = self._data[:end], self._data[end + 1 :]
        return line.removesuffix(b"\r")

    def _head_line(self, line: bytes) -> None:
        if not self.status:
            match = _STATUS_LINE.fullmatch(line)
            if match is None:
                raise ResponseError("no status line of HTTP/1.1")
            self.status = int(match[2])
            self.keep_alive = match[1] == b"1"
            if self.status == 101:
                raise ResponseError("a change of protocol that nobody asked for")
            return
        if line:
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise ResponseError("a line of the head without a name")
            name, value = name.lower(), value.strip()
            known = self._headers.get(name)
            if name == b"content-length" and known is not None and known != value:
                raise ResponseError("two different lengths")
            self._headers[name] = value
            return
        if self.status < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise ResponseError(f"more than {MAX_INTERIM} interim responses")
            self.status = 0
            self._headers.clear()
            return
        self._in_head = False
        self._head_ended()

    def _head_ended(self) -> None:
        headers = self._headers
        connection = {option.strip() for option in headers.get(b"connection", b"").lower().split(b",")}
        if b"close" in connection:
            self.keep_alive = False
        elif b"keep-alive" in connection:
            self.keep_alive = True
        coding = headers.get(b"transfer-encoding", b"").lower()
        if self.status in (204, 304):
            self._finish()
        elif coding:
            if coding != b"chunked":
                raise ResponseError("a transfer coding that nobody asked for")
            self._chunked = True
        elif b"content-length" in headers:
            length = headers[b"content-length"]
            if _DIGITS.fullmatch(length) is None:
                raise ResponseError("a length that is no number")
            self._left = int(length)
            self._count(self._left)
            if not self._left:
                self._finish()
        else:
            self._to_end = True

    # --- the body ----------------------------------------------------------------------------------------------

    def _count(self, size: int) -> None:
        self._body_bytes += size
        if self._body_bytes > self._limit:
            raise ResponseError(f"a body of more than {self._limit} bytes")

    def _read_body(self) -> None:
        if self._to_end:
            self._count(len(self._data))
            self._data = b""
        elif self._chunked:
            while self._data and not self.is_complete and self._chunk():
                pass
        else:
            self._skip()
            if not self._left:
                self._finish()

    def _skip(self) -> None:
        taken = min(self._left, len(self._data))
        self._left -= taken
        self._data = self._data[taken:]

    def _chunk(self) -> bool:
        """Go on with the chunks; False when more has to come first."""
        if self._part == "data":
            self._skip()
            if self._left:
                return False
            self._part = "end"
            return True
        line = self._line(MAX_LINE)
        if line is None:
            return False
        if self._part == "end":
            if line:
                raise ResponseError("a chunk that is longer than it says")
            self._part = "size"
        elif self._part == "size":
            match = _CHUNK.fullmatch(line)
            if match is None:
                raise ResponseError("a chunk without a size")
            self._left = int(match[1], 16)
            self._count(self._left)
            self._part = "data" if self._left else "trailer"
        elif line:
            self._head_bytes += len(line) + 2
            if self._head_bytes > MAX_HEAD:
                raise ResponseError(f"trailers of more than {MAX_HEAD} bytes")
        else:
            self._finish()
        return True

    def _finish(self) -> None:
        self.is_complete = True
        if self._to_end:
            self.keep_alive = False
