"""What a server says to a pull when it says it with a status instead of a message (ADR-13, ADR-37, ADR-42)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from ..errors import ConsumerDeletedError, JetStreamApiLevelError, JetStreamError, PullRefusedError

PENDING_MESSAGES = "Nats-Pending-Messages"
PENDING_BYTES = "Nats-Pending-Bytes"
PIN_ID = "Nats-Pin-Id"

# A number with more digits is none that a server sends.
_MAX_DIGITS = 19


class StatusKind(Enum):
    """What a status means for whoever pulls."""

    #: A sign of life: there is nothing to deliver now.
    HEARTBEAT = "heartbeat"
    #: The pull is over, with what was delivered: its time is, its batch or its bytes are full, or there is nothing (404).
    ENDED = "ended"
    #: The pull is over because the next message is larger than the bytes that were left to it.
    TOO_LARGE = "too-large"
    #: The server that led the consumer does so no more, or goes down: every pull is void.
    MOVED = "moved"
    #: Another client is the pinned one now: the pull is over, and the pin is void.
    WRONG_PIN = "wrong-pin"
    #: As many pulls wait as the consumer accepts.
    BUSY = "busy"
    #: Nobody answers: the consumer is gone, or nobody leads it right now.
    NO_RESPONDERS = "no-responders"
    #: The consumer was deleted.
    DELETED = "deleted"
    #: The request contradicts the consumer: the same request can never succeed.
    REFUSED = "refused"
    #: The server is too old for the request.
    API_LEVEL = "api-level"
    #: Something that this package does not know.
    UNKNOWN = "unknown"


#: These end everything: asking again leads nowhere.
TERMINAL = frozenset({StatusKind.DELETED, StatusKind.REFUSED, StatusKind.API_LEVEL})

_BY_CODE = {
    100: StatusKind.HEARTBEAT,
    400: StatusKind.REFUSED,
    404: StatusKind.ENDED,
    408: StatusKind.ENDED,
    412: StatusKind.API_LEVEL,
    423: StatusKind.WRONG_PIN,
    503: StatusKind.NO_RESPONDERS,
}

# One status for everything: only the words tell these apart. "Exceeded MaxRequest…" is followed by the limit.
_CONFLICTS = (
    ("batch completed", StatusKind.ENDED),
    ("message size exceeds maxbytes", StatusKind.TOO_LARGE),
    ("leadership change", StatusKind.MOVED),
    ("server shutdown", StatusKind.MOVED),
    ("exceeded maxwaiting", StatusKind.BUSY),
    ("consumer deleted", StatusKind.DELETED),
    ("consumer is push based", StatusKind.REFUSED),
    ("exceeded max", StatusKind.REFUSED),
)


class PullStatus(NamedTuple):
    """One status.

    :ivar kind: what it means.
    :ivar code: its number; 0 when there was none.
    :ivar text: the server's words.
    :ivar pending_messages: messages that the pull asked for and that will not come; None where the server did not say.
    :ivar pending_bytes: the same in bytes.
    """

    kind: StatusKind
    code: int
    text: str
    pending_messages: int | None = None
    pending_bytes: int | None = None

    def error(self, consumer: str) -> JetStreamError:
        """What it is for a user when it ends everything.

        :param consumer: the consumer's name.
        """
        if self.kind is StatusKind.DELETED:
            return ConsumerDeletedError(f"consumer {consumer!r} was deleted")
        if self.kind is StatusKind.API_LEVEL:
            return JetStreamApiLevelError(f"the server is too old for what was asked of consumer {consumer!r}: {self.text}")
        return PullRefusedError(consumer, self.code, self.text)


def read_status(code: int | None, text: str, headers: Mapping[str, str]) -> PullStatus:
    """Read the status of a message that is the answer to a pull.

    :param code: the status itself; None where there is none, which is of the kind ``UNKNOWN``.
    """
    kind = _BY_CODE.get(code or 0, StatusKind.UNKNOWN)
    if code == 409:
        words = text.lower()
        kind = next((kind for beginning, kind in _CONFLICTS if words.startswith(beginning)), StatusKind.UNKNOWN)
    return PullStatus(kind, code or 0, text, _number(headers.get(PENDING_MESSAGES)), _number(headers.get(PENDING_BYTES)))


def _number(text: str | None) -> int | None:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS:
        return None
    return int(text)
