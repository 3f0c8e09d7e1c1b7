"""A message as a stream has it, from either way of reading: through the API, or by a direct get (ADR-31)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from ..errors import JetStreamDecodeError
from ..protocol.headers import Headers, parse_headers
from .api import parse_time

if TYPE_CHECKING:
    from ..protocol.message import Msg
    from .api import RawStreamMsg

_LINE = b"\r\n"
_NO_HEADERS = b"NATS/1.0"
# A direct get puts what it knows of a message behind the headers that are stored, and begins with this one. What follows it has no space
# but behind the names, so the last one that is found is the server's.
_FIRST_ADDED = b"Nats-Stream: "
# All that is put behind the stored headers, as servers up to 2.15 write it: the last two lines where there are several messages.
_ADDED = re.compile(
    rb"Nats-Stream: [^\r\n]*\r\n"
    rb"Nats-Subject: ([^\r\n]*)\r\n"
    rb"Nats-Sequence: (\d{1,20})\r\n"
    rb"Nats-Time-Stamp: ([1-9]\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3])(?::[0-5]\d){2}(?:\.\d{1,9})?Z)\r\n"
    rb"(?:Nats-Num-Pending: (\d{1,20})\r\nNats-Last-Sequence: (\d{1,20})\r\n)?\r\n"
)
# Only a message that is stored has this one, and no status.
_SEQUENCE = b"\r\nNats-Sequence: "


class StoredMsg:
    """A message that is stored in a stream. Two are equal when all of the following are, whichever way they were read.

    :ivar subject: the subject under which it is stored.
    :ivar seq: its sequence in the stream.
    :ivar data: the payload.
    :ivar raw_headers: the header block as it is stored, or ``b""`` where there is no header; without what the server adds when it is read.

    Its :attr:`time` is in UTC: a :class:`~pynats_twisted.jetstream.api.Timestamp`, which knows the nanoseconds too.
    """

    __slots__ = ("_headers", "_time", "data", "raw_headers", "seq", "subject")

    def __init__(self, subject: str, seq: int, data: bytes, raw_headers: bytes, time: datetime | bytes) -> None:
        self.subject = subject
        self.seq = seq
        self.data = data
        self.raw_headers = raw_headers
        # Of many messages nobody asks for the time: it is read when somebody does.
        self._time = time
        self._headers: Headers | None = None

    @property
    def time(self) -> datetime:
        """When it was stored."""
        time = self._time
        if isinstance(time, bytes):
            time = self._time = _time_of(time.decode("ascii"), self.seq)
        return time

    @property
    def headers(self) -> Headers:
        """The stored headers, all values of each; read when first asked for."""
        if self._headers is None:
            self._headers = parse_headers(self.raw_headers).headers if self.raw_headers else Headers()
        return self._headers

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredMsg):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((self.subject, self.seq))

    def _identity(self) -> tuple[object, ...]:
        return self.subject, self.seq, self.data, self.raw_headers, self.time

    def __repr__(self) -> str:
        return f"<StoredMsg {self.seq} {self.subject!r} {len(self.data)} bytes>"


def from_api(message: RawStreamMsg) -> StoredMsg:
    """A message in an answer of the API.

    :raises JetStreamDecodeError: it does not say when it was stored.
    """
    if message.time is None:
        raise JetStreamDecodeError(f"the message with the sequence {message.seq} has no time")
    block = message.header_block
    # A direct get cannot tell an empty block from none.
    raw_headers = b"" if block.rstrip(_LINE) == _NO_HEADERS else block
    return StoredMsg(message.subject, message.seq, message.data, raw_headers, message.time)


def is_stored(msg: Msg) -> bool:
    """Whether a reply to a direct get is a message, and not a status. The stored message may have a status of its own."""
    return _SEQUENCE in msg.raw_headers


def from_direct_get(msg: Msg) -> tuple[StoredMsg, dict[str, str]]:
    """A message in a reply to a direct get, and the headers that the server added.

    :raises JetStreamDecodeError: the reply has not all that a message has there.
    """
    block = msg.raw_headers
    start = max(block.rfind(_FIRST_ADDED), 0)
    found = _ADDED.match(block, start)
    if found is None or found.end() != len(block):
        return _from_other_headers(msg, start)
    subject, seq, time, pending, last = found.groups()
    added = {} if pending is None else {"Nats-Num-Pending": pending.decode(), "Nats-Last-Sequence": last.decode()}
    stored = StoredMsg(subject.decode("utf-8", "surrogateescape"), int(seq), msg.data, _stored_headers(block[:start]), time)
    return stored, added


def _from_other_headers(msg: Msg, start: int) -> tuple[StoredMsg, dict[str, str]]:
    """The same where a server writes it otherwise."""
    block = msg.raw_headers
    added: dict[str, str] = {}
    for line in block[start:].split(_LINE):
        name, _, value = line.partition(b": ")
        added[str(name, "ascii", "replace")] = str(value, "utf-8", "surrogateescape")
    try:
        subject, seq, time = added["Nats-Subject"], int(added["Nats-Sequence"]), added["Nats-Time-Stamp"]
    except KeyError as missing:
        raise JetStreamDecodeError(f"a reply to a direct get has no header {missing.args[0]}") from None
    except ValueError as error:
        raise JetStreamDecodeError(f"a reply to a direct get has a sequence that is none: {error}") from None
    return StoredMsg(subject, seq, msg.data, _stored_headers(block[:start]), _time_of(time, seq)), added


def _stored_headers(block: bytes) -> bytes:
    """The headers as they are stored. Where they have no empty line at their end, the server has cut off two bytes and a line end."""
    stored = block.removesuffix(_LINE)
    return b"" if stored == _NO_HEADERS else stored + 2 * _LINE


def _time_of(text: str, seq: int) -> datetime:
    try:
        time = parse_time(text)
    except ValueError as error:
        raise JetStreamDecodeError(f"a reply to a direct get has a time that is none: {error}") from None
    if time is None:
        raise JetStreamDecodeError(f"the message with the sequence {seq} has no time")
    return time
