"""What the server says of streams and consumers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from .cluster import ClusterInfo
from .consumer_config import ConsumerConfig
from .fields import SECONDS, TIME, UNSIGNED, ApiObject, listed, mapped, nested, wire
from .sources import StreamSourceInfo
from .stream_config import StreamConfig


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class LostStreamData(ApiObject):
    """What a stream lost to damage on the disk.

    :ivar msgs: the sequences of the lost messages.
    """

    msgs: Sequence[int] = field(default=(), metadata=wire(listed(UNSIGNED)))
    bytes: int = field(default=0, metadata=wire(UNSIGNED))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StreamState(ApiObject):
    """What is in a stream.

    :ivar messages: how many.
    :ivar bytes: how much.
    :ivar first_seq: the sequence of the first message that is still there; one more than ``last_seq`` when it is empty.
    :ivar first_ts: when that was stored; None when it is empty.
    :ivar last_seq: the sequence of the last message that ever was stored.
    :ivar last_ts: when that was stored; None before the first.
    :ivar num_subjects: different subjects.
    :ivar subjects: messages for each subject; only when asked for with a filter.
    :ivar num_deleted: sequences between the first and the last that are gone.
    :ivar deleted: these sequences; only when asked for.
    """

    messages: int = field(default=0, metadata=wire(UNSIGNED))
    bytes: int = field(default=0, metadata=wire(UNSIGNED))
    first_seq: int = field(default=0, metadata=wire(UNSIGNED))
    first_ts: datetime | None = field(default=None, metadata=wire(TIME))
    last_seq: int = field(default=0, metadata=wire(UNSIGNED))
    last_ts: datetime | None = field(default=None, metadata=wire(TIME))
    num_subjects: int = 0
    subjects: Mapping[str, int] = field(default_factory=dict, metadata=wire(mapped(UNSIGNED)))
    num_deleted: int = 0
    deleted: Sequence[int] = field(default=(), metadata=wire(listed(UNSIGNED)))
    lost: LostStreamData | None = field(default=None, metadata=wire(nested(LostStreamData)))
    consumer_count: int = 0


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StreamAlternate(ApiObject):
    """The same messages elsewhere: the stream itself or a mirror, the nearest first."""

    name: str = ""
    domain: str = ""
    cluster: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StreamInfo(ApiObject):
    """A stream: its configuration and its state.

    :ivar created: when it was created.
    :ivar ts: when this was gathered.
    :ivar domain: the server's JetStream domain, or ``""``; the answer to a create does not say it.
    :ivar mirror: how well the mirror follows its origin, or None.
    :ivar sources: how well messages come from the origins.
    :ivar did_create: in the answer to a create: the stream is new.
    :ivar total: subjects that match the filter; ``state.subjects`` has ``limit`` (100,000) of them, from ``offset`` on. All three
        are 0 when no subjects were asked for.
    """

    config: StreamConfig = field(metadata=wire(nested(StreamConfig)))
    created: datetime | None = field(default=None, metadata=wire(TIME))
    state: StreamState = field(default=StreamState(), metadata=wire(nested(StreamState)))
    domain: str = ""
    cluster: ClusterInfo | None = field(default=None, metadata=wire(nested(ClusterInfo)))
    mirror: StreamSourceInfo | None = field(default=None, metadata=wire(nested(StreamSourceInfo)))
    sources: Sequence[StreamSourceInfo] = field(default=(), metadata=wire(listed(nested(StreamSourceInfo))))
    alternates: Sequence[StreamAlternate] = field(default=(), metadata=wire(listed(nested(StreamAlternate))))
    ts: datetime | None = field(default=None, metadata=wire(TIME))
    did_create: bool = False
    total: int = 0
    offset: int = 0
    limit: int = 0
    kinds: ClassVar[frozenset[str]] = frozenset({"stream_info_response", "stream_create_response", "stream_update_response"})


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SequenceInfo(ApiObject):
    """A place in a consumer, and the same place in its stream.

    :ivar last_active: when it was reached, or None.
    """

    consumer_seq: int = field(default=0, metadata=wire(UNSIGNED))
    stream_seq: int = field(default=0, metadata=wire(UNSIGNED))
    last_active: datetime | None = field(default=None, metadata=wire(TIME))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PriorityGroupState(ApiObject):
    """A priority group (ADR-42).

    :ivar pinned_client_id: the id that the pinned client's pull requests have to bear, or ``""``.
    :ivar pinned_ts: since when, or None.
    """

    group: str = ""
    pinned_client_id: str = ""
    pinned_ts: datetime | None = field(default=None, metadata=wire(TIME))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ConsumerInfo(ApiObject):
    """A consumer: its configuration and its state.

    :ivar created: when it was created.
    :ivar delivered: the last message that was delivered.
    :ivar ack_floor: the last message before which all are acked.
    :ivar num_ack_pending: messages that are delivered and not acked.
    :ivar num_redelivered: of these, the ones that were delivered more than once.
    :ivar num_waiting: pull requests that wait.
    :ivar num_pending: messages that are still to be delivered.
    :ivar push_bound: somebody is subscribed to its deliver subject.
    :ivar paused: it is paused, for another ``pause_remaining`` seconds.
    :ivar ts: when this was gathered.
    """

    stream_name: str
    name: str
    created: datetime | None = field(default=None, metadata=wire(TIME))
    config: ConsumerConfig = field(default=ConsumerConfig(), metadata=wire(nested(ConsumerConfig)))
    delivered: SequenceInfo = field(default=SequenceInfo(), metadata=wire(nested(SequenceInfo)))
    ack_floor: SequenceInfo = field(default=SequenceInfo(), metadata=wire(nested(SequenceInfo)))
    num_ack_pending: int = 0
    num_redelivered: int = 0
    num_waiting: int = 0
    num_pending: int = field(default=0, metadata=wire(UNSIGNED))
    cluster: ClusterInfo | None = field(default=None, metadata=wire(nested(ClusterInfo)))
    push_bound: bool = False
    paused: bool = False
    pause_remaining: float = field(default=0.0, metadata=wire(SECONDS))
    ts: datetime | None = field(default=None, metadata=wire(TIME))
    priority_groups: Sequence[PriorityGroupState] = field(default=(), metadata=wire(listed(nested(PriorityGroupState))))
    kinds: ClassVar[frozenset[str]] = frozenset({"consumer_info_response", "consumer_create_response"})
