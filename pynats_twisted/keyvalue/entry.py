"""What a bucket has of a key at one revision."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..jetstream.stored import StoredMsg

if TYPE_CHECKING:
    from ..jetstream.api import JsMsgMetadata
    from ..jetstream.message import JsMsg
    from ..protocol.headers import Headers

OPERATION = "KV-Operation"
"""The header that says that a message is no value (ADR-8)."""

MARKER_REASON = "Nats-Marker-Reason"
"""The header of the markers that servers put where the last message of a key was removed (ADR-43, ADR-48)."""

# Whether one of the two is there at all: reading headers costs more than looking for these.
_OPERATION = OPERATION.encode()
_REASON = MARKER_REASON.encode()


class Operation(str, Enum):
    """What was done to a key. Every member is also the text that is on the wire."""

    #: It got a value.
    PUT = "PUT"
    #: It was deleted; what was before may still be in its history.
    DELETE = "DEL"
    #: It was deleted together with its history, or its time has run out.
    PURGE = "PURGE"

    def __str__(self) -> str:
        return str(self.value)


_OF_REASON = {"MaxAge": Operation.PURGE, "Purge": Operation.PURGE, "Remove": Operation.DELETE}


class KeyValueEntry:
    """A key at one revision. Two are equal when all of the following and the time are, but for ``delta``.

    :ivar bucket: the bucket.
    :ivar key: the key, as the key codec has it.
    :ivar value: the value: ``bytes``, or what the bucket's value codec makes of them. ``b""`` where the key was deleted or purged, and
        where values were not asked for.
    :ivar revision: the sequence of the message in the stream: larger than those of all that was written to the bucket before.
    :ivar delta: how many newer values the key has, where the history was read; else 0.
    :ivar operation: whether it is a value, or says that there is none any more.
    """

    __slots__ = ("_created", "bucket", "delta", "key", "operation", "revision", "value")

    def __init__(
        self,
        bucket: str,
        key: str,
        value: Any,
        revision: int,
        created: datetime | StoredMsg | JsMsgMetadata,
        delta: int = 0,
        operation: Operation = Operation.PUT,
    ) -> None:
        self.bucket = bucket
        self.key = key
        self.value = value
        self.revision = revision
        # Of many entries nobody asks for the time: it is read when somebody does.
        self._created = created
        self.delta = delta
        self.operation = operation

    @property
    def created(self) -> datetime:
        """When it was written, in UTC; a :class:`~pynats_twisted.jetstream.api.Timestamp` that knows the nanoseconds too where it was read
        by a get."""
        created = self._created
        if isinstance(created, StoredMsg):
            created = self._created = created.time
        elif not isinstance(created, datetime):
            created = self._created = created.timestamp
        return created

    @property
    def is_deleted(self) -> bool:
        """Whether the key has no value at this revision: it was deleted or purged, or its time has run out."""
        return self.operation is not Operation.PUT

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeyValueEntry):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((self.bucket, self.key, self.revision))

    def _identity(self) -> tuple[object, ...]:
        return self.bucket, self.key, self.value, self.revision, self.created, self.operation

    def __repr__(self) -> str:
        return f"<KeyValueEntry {self.bucket}/{self.key} {self.operation} revision {self.revision}>"


def operation_of(raw_headers: bytes, headers: Headers) -> Operation:
    """What the headers of a message say that it is.

    An operation that is not known is a delete: ADR-8 takes any for one.
    """
    if _OPERATION in raw_headers:
        operation = headers.get(OPERATION)
        if operation is not None:
            try:
                return Operation(operation)
            except ValueError:
                return Operation.DELETE
    if _REASON in raw_headers:
        reason = headers.get(MARKER_REASON)
        if reason is not None:
            return _OF_REASON.get(reason, Operation.PURGE)
    return Operation.PUT


def operation_of_message(msg: StoredMsg | JsMsg) -> Operation:
    """What a message of a bucket is."""
    return operation_of(msg.raw_headers, msg.headers) if msg.raw_headers else Operation.PUT


def revision_and_time(msg: StoredMsg | JsMsg) -> tuple[int, StoredMsg | JsMsgMetadata]:
    """The sequence of a message of a bucket, and what knows when it was stored."""
    if isinstance(msg, StoredMsg):
        return msg.seq, msg
    metadata = msg.metadata
    return metadata.stream_seq, metadata
