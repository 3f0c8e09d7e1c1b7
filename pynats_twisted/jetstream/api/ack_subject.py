"""What the reply subject of a delivered message says of it (ADR-15)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ...errors import NotJetStreamMessageError
from .patterns import shortened
from .values import time_of_nanoseconds

_PREFIX = "$JS.ACK."
# uint64 has at most 20 digits; five numbers, and the timestamp among them has at most 19.
_MAX_DIGITS = 5 * 20


@dataclass(kw_only=True, slots=True)
class JsMsgMetadata:
    """Where a delivered message comes from.

    :ivar stream: the stream.
    :ivar consumer: the consumer.
    :ivar num_delivered: how often it was delivered, this time included.
    :ivar stream_seq: its sequence in the stream.
    :ivar consumer_seq: the number of this delivery in the consumer.
    :ivar timestamp_ns: when it was stored, in nanoseconds since 1970.
    :ivar num_pending: messages that the consumer had still to deliver after this one.
    :ivar domain: the JetStream domain, or ``""``; only servers with the longer form of the subject say it.
    :ivar account_hash: a hash of the account's name, or ``""``; likewise.
    """

    stream: str
    consumer: str
    num_delivered: int
    stream_seq: int
    consumer_seq: int
    timestamp_ns: int
    num_pending: int
    domain: str = ""
    account_hash: str = ""

    @property
    def timestamp(self) -> datetime:
        """When it was stored, in UTC, cut off after its microseconds."""
        return time_of_nanoseconds(self.timestamp_ns)


def parse_ack_subject(subject: str | None) -> JsMsgMetadata:
    """Read the reply subject of a delivered message: the form with 9 tokens, and the one with a domain, with 11 or more.

    :raises NotJetStreamMessageError: it is none of these.
    """
    if not subject or not subject.startswith(_PREFIX):
        raise _refused(subject)
    tokens = subject.split(".")
    if len(tokens) == 9:
        _, _, stream, consumer, delivered, stream_seq, consumer_seq, timestamp, pending = tokens
        domain = account = ""
    elif len(tokens) >= 11:
        domain, account, stream, consumer, delivered, stream_seq, consumer_seq, timestamp, pending = tokens[2:11]
        if domain == "_":
            domain = ""
    else:
        raise _refused(subject)
    # int() takes more than digits. Together they are digits only when each is, or is empty; int() refuses that.
    digits = f"{delivered}{stream_seq}{consumer_seq}{timestamp}{pending}"
    if not digits.isdigit() or not digits.isascii() or len(digits) > _MAX_DIGITS:
        raise _refused(subject)
    try:
        return JsMsgMetadata(
            stream=stream,
            consumer=consumer,
            num_delivered=int(delivered),
            stream_seq=int(stream_seq),
            consumer_seq=int(consumer_seq),
            timestamp_ns=int(timestamp),
            num_pending=int(pending),
            domain=domain,
            account_hash=account,
        )
    except ValueError:
        raise _refused(subject) from None


def _refused(subject: str | None) -> NotJetStreamMessageError:
    return NotJetStreamMessageError(f"the reply subject {shortened(subject)} is not that of a message delivered by a consumer")
