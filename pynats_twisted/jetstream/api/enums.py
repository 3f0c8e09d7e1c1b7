"""The fixed choices in configurations. Every member is also the text that is on the wire."""

from __future__ import annotations

from enum import Enum


class WireEnum(str, Enum):
    """A choice that is written as its text."""

    def __str__(self) -> str:
        return str(self.value)


class UnknownValue(str):
    """A choice that a newer server made and this package does not know. It is sent back as it came."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"UnknownValue({str.__repr__(self)})"


class RetentionPolicy(WireEnum):
    """When a stream lets go of a message."""

    #: At its limits only.
    LIMITS = "limits"
    #: When every consumer that wants it acked it.
    INTEREST = "interest"
    #: When its one consumer acked it.
    WORKQUEUE = "workqueue"


class DiscardPolicy(WireEnum):
    """What happens at a limit of a stream."""

    #: The oldest messages go.
    OLD = "old"
    #: New messages are refused.
    NEW = "new"


class StorageType(WireEnum):
    """Where a stream keeps its messages."""

    FILE = "file"
    MEMORY = "memory"


class StoreCompression(WireEnum):
    """How a stream in files is compressed."""

    NONE = "none"
    S2 = "s2"


class PersistMode(WireEnum):
    """When a stream in files writes to the disk."""

    #: Before the publish is acked.
    DEFAULT = "default"
    #: Some time after: a killed server loses what it acked last.
    ASYNC = "async"


class DeliverPolicy(WireEnum):
    """Where in the stream a consumer starts."""

    ALL = "all"
    LAST = "last"
    NEW = "new"
    BY_START_SEQUENCE = "by_start_sequence"
    BY_START_TIME = "by_start_time"
    LAST_PER_SUBJECT = "last_per_subject"


class AckPolicy(WireEnum):
    """What an ack means."""

    #: Messages are not acked.
    NONE = "none"
    #: An ack stands for all messages before it too.
    ALL = "all"
    #: Every message is acked by itself.
    EXPLICIT = "explicit"
    #: Answers to flow control are the acks; for sourcing between streams (ADR-60).
    FLOW_CONTROL = "flow_control"


class ReplayPolicy(WireEnum):
    """How fast stored messages are delivered."""

    INSTANT = "instant"
    #: With the pauses that they were published with.
    ORIGINAL = "original"


class PriorityPolicy(WireEnum):
    """Who of the clients of one pull consumer gets messages (ADR-42)."""

    NONE = "none"
    #: A client only when enough is waiting.
    OVERFLOW = "overflow"
    #: One client, the others stand by.
    PINNED_CLIENT = "pinned_client"
    #: The client that asked with the lowest number.
    PRIORITIZED = "prioritized"


class ConsumerAction(WireEnum):
    """What a request to make a consumer may do."""

    CREATE_OR_UPDATE = ""
    CREATE = "create"
    UPDATE = "update"
