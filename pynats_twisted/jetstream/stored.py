"""A message as a stream has it, from either way of reading: through the API, or by a direct get (ADR-31)."""

from __future__ import annotations

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
# Only a message that is stored has this one, and no status.
_SEQUENCE = b"\r\nNats-Sequence: "


class StoredMsg:
    """A message that is stored in a stream. Two are equal when all of the following are, whichever way they were read.

    :ivar subject: the subject under which it is stored.
    :ivar seq: its sequence in the stream.
    :ivar data: the payload.
    :ivar raw_headers: the header block as it is stored, or ``b""`` where there is no header; without what the server adds when it is read.
    :ivar time: when it was stored, in UTC; a :class:`~pynats_twisted.jetstream.api.Timestamp`, which knows the nanoseconds too.
    """

    __slots__ = ("_headers", "data", "raw_headers", "seq", "subject", "time")

    def __init__(self, subject: str, seq: int, data: bytes, raw_headers: bytes, time: datetime) -> None:
        self.subject = subject
        self.seq = seq
        self.data = data
        self.raw_headers = raw_headers
        self.time = time
        self._headers: Headers | None = None

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
    added: dict[str, str] = {}
    for line in block[start:].split(_LINE):
        name, _, value = line.partition(b": ")
        added[str(name, "ascii", "replace")] = str(value, "utf-8", "surrogateescape")
    try:
        subject, seq, time = added["Nats-Subject"], int(added["Nats-Sequence"]), parse_time(added["Nats-Time-Stamp"])
    except KeyError as missing:
        raise JetStreamDecodeError(f"a reply to a direct get has no header {missing.args[0]}") from None
    except ValueError as error:
        raise JetStreamDecodeError(f"a reply to a direct get has a sequence or a time that is none: {error}") from None
    if time is None:
        raise JetStreamDecodeError(f"the message with the sequence {seq} has no time")
    # Of a stored block without an empty line at its end the server has cut off two bytes and the end of a line.
    stored = block[:start].removesuffix(_LINE)
    raw_headers = b"" if stored == _NO_HEADERS else stored + 2 * _LINE
    return StoredMsg(subject, seq, msg.data, raw_headers, time), added
