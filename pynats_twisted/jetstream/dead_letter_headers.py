"""What a dead letter says of the message that it was: its headers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ..protocol.headers import Headers
from .api import Timestamp

STREAM = "Dead-Letter-Stream"
"""The stream that the message is in."""

CONSUMER = "Dead-Letter-Consumer"
"""The consumer that could not get it handled."""

SEQUENCE = "Dead-Letter-Sequence"
"""Its sequence in the stream."""

SUBJECT = "Dead-Letter-Subject"
"""Where it was published."""

TIME = "Dead-Letter-Time"
"""When it was stored, in RFC 3339 with nanoseconds."""

DELIVERIES = "Dead-Letter-Deliveries"
"""How often it was delivered."""

CAUSE = "Dead-Letter-Cause"
"""``rejected``, ``failed`` or ``max-deliveries``."""

REASON = "Dead-Letter-Reason"
"""The reason in words."""

ORIGINAL = "Original-"
"""What the names of those headers begin with that mean something to a server, or to a dead letter, when they are published again."""

MAX_REASON = 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# A message's own headers that begin so would be taken for commands: an id for a duplicate, an expectation, a schedule.
_RESERVED = ("nats-", "dead-letter-")
_UNSENDABLE = re.compile(r"[\r\n\x00]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a dead letter comes from. The first four say which message it is; no other one ever has the same.

    :ivar timestamp_ns: when it was stored, in nanoseconds since 1970: a stream that was deleted and made again counts from 1 again.
    :ivar subject: where it was published.
    :ivar deliveries: how often it was delivered.
    """

    stream: str
    consumer: str
    seq: int
    timestamp_ns: int
    subject: str
    deliveries: int


def dead_letter_headers(headers: Headers, origin: Origin, cause: str, reason: str) -> Headers:
    """The headers of a dead letter: those of the message, and what is said of it.

    A value that could not be published again (with a CR or NUL, or not UTF-8) is made one that can: odd messages are what dead letters
    are for.
    """
    made = Headers()
    for name, value in headers.multi_items():
        made.add(f"{ORIGINAL}{name}" if name.lower().startswith(_RESERVED) else name, sendable(value))
    made[STREAM] = sendable(origin.stream)
    made[CONSUMER] = sendable(origin.consumer)
    made[SEQUENCE] = str(origin.seq)
    made[SUBJECT] = sendable(origin.subject)
    made[TIME] = format_nanoseconds(origin.timestamp_ns)
    made[DELIVERIES] = str(origin.deliveries)
    made[CAUSE] = cause
    made[REASON] = sendable(" ".join(reason.split()))[:MAX_REASON]
    return made


def sendable(value: str) -> str:
    """A text that a header can have."""
    try:
        raw = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Other lone surrogates than those that stand for bytes.
        raw = value.encode("utf-8", "replace")
    return _UNSENDABLE.sub(" ", raw.decode("utf-8", "replace"))


def to_timestamp_ns(time: datetime) -> int:
    """Nanoseconds since 1970, all that the server sent."""
    seconds = (time - _EPOCH) // timedelta(seconds=1)
    return seconds * 1_000_000_000 + (time.nanosecond if isinstance(time, Timestamp) else time.microsecond * 1000)


def format_nanoseconds(timestamp_ns: int) -> str:
    """A time in RFC 3339 with nine digits after the second."""
    seconds, nanoseconds = divmod(timestamp_ns, 1_000_000_000)
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"
