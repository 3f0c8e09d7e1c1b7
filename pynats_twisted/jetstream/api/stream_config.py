"""The configuration of a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .cluster import Placement
from .enums import DiscardPolicy, PersistMode, RetentionPolicy, StorageType, StoreCompression
from .fields import INTEGER, INTEGER_32, SECONDS, STRING, UNSIGNED, ApiObject, choice, listed, nested, wire
from .metadata import METADATA
from .sources import StreamSource, SubjectTransform
from .stream_rules import check_republish, check_stream_config


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Republish(ApiObject):
    """Every stored message whose subject matches ``src`` is published again, with headers that say where it is stored.

    :ivar src: a filter; ``""`` is every message.
    :ivar dest: the new subject, where ``$1`` or ``{{wildcard(1)}}`` stands for a ``*`` of ``src``.
    :ivar headers_only: without its payload.
    """

    src: str = ""
    dest: str = field(default="", metadata=wire(STRING, always=True))
    headers_only: bool = False

    def check_rules(self) -> None:
        check_republish(self)


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ConsumerLimits(ApiObject):
    """What consumers of a stream have when they do not say, and may have at most.

    :ivar inactive_threshold: seconds.
    """

    inactive_threshold: float = field(default=0.0, metadata=wire(SECONDS))
    max_ack_pending: int = 0


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StreamConfig(ApiObject):
    """The configuration of a stream, with everything that servers up to 2.15 know.

    Fields have the names of the wire, but ``replicas`` (``num_replicas``). Durations are seconds. Limits are -1 for none.

    :ivar name: no white space and none of ``. * > / \\``, at most 255 bytes.
    :ivar description: at most 4 KiB.
    :ivar subjects: what it stores; the stream's own name when there are none, and neither a mirror nor sources.
    :ivar max_age: seconds that a message is kept; 0 is for ever, else at least 0.1.
    :ivar max_msg_size: bytes of headers and payload.
    :ivar discard_new_per_subject: ``max_msgs_per_subject`` refuses new messages too; needs ``DiscardPolicy.NEW``.
    :ivar replicas: servers that have it, 1 to 5.
    :ivar no_ack: publishes are not acked.
    :ivar duplicate_window: seconds for which message ids are remembered; 0 is the server's choice: 120, or ``max_age`` when less.
    :ivar mirror: it is a copy of another stream, and nothing else.
    :ivar sources: streams whose messages it stores too.
    :ivar compression: of a stream in files.
    :ivar first_seq: the sequence of the first message; 0 is 1.
    :ivar subject_transform: the subjects under which messages are stored.
    :ivar allow_direct: messages can be read from any server that has the stream, fast (ADR-31).
    :ivar mirror_direct: of a mirror: it answers such reads for its origin. The server sets it as the origin has ``allow_direct``.
    :ivar sealed: nothing can be added or removed any more; only an update can set it, nothing can unset it.
    :ivar deny_delete: single messages cannot be deleted; for good.
    :ivar deny_purge: it cannot be purged; for good.
    :ivar allow_rollup_hdrs: a publish may replace all messages before it, with the header ``Nats-Rollup``.
    :ivar allow_msg_ttl: a publish may set its own age (ADR-43); cannot be unset. API level 1.
    :ivar subject_delete_marker_ttl: seconds for which a marker stays when the last message of a subject ages out; 0 is no marker, else
        at least 1. The server sets ``allow_msg_ttl`` and ``allow_rollup_hdrs`` with it. API level 1.
    :ivar allow_msg_counter: it holds counters (ADR-49), and only these. API level 2.
    :ivar allow_atomic: atomic batches may be published (ADR-50). API level 2.
    :ivar allow_msg_schedules: publishes may be schedules (ADR-51). API level 2.
    :ivar persist_mode: when it writes to the disk (ADR-56). API level 2 for ``ASYNC``.
    :ivar allow_batched: batches of fast ingest may be published (ADR-50). API level 4.
    :ivar metadata: texts of the user's; servers add keys that begin with ``_nats.``, which are never sent back.
    :ivar template_owner: of servers before 2.11: the template that it came from; only readable.
    """

    name: str = field(default="", metadata=wire(STRING, always=True))
    description: str = ""
    subjects: Sequence[str] = ()
    retention: RetentionPolicy | str = field(default=RetentionPolicy.LIMITS, metadata=wire(choice(RetentionPolicy), always=True))
    max_consumers: int = field(default=-1, metadata=wire(INTEGER, always=True))
    max_msgs: int = field(default=-1, metadata=wire(INTEGER, always=True))
    max_bytes: int = field(default=-1, metadata=wire(INTEGER, always=True))
    max_age: float = field(default=0.0, metadata=wire(SECONDS, always=True))
    max_msgs_per_subject: int = field(default=-1, metadata=wire(INTEGER, always=True))
    max_msg_size: int = field(default=-1, metadata=wire(INTEGER_32))
    discard: DiscardPolicy | str = field(default=DiscardPolicy.OLD, metadata=wire(choice(DiscardPolicy), always=True))
    discard_new_per_subject: bool = False
    storage: StorageType | str = field(default=StorageType.FILE, metadata=wire(choice(StorageType), always=True))
    # Sent always: a server that does not find it may take it for unchanged.
    replicas: int = field(default=1, metadata=wire(INTEGER, key="num_replicas", always=True))
    no_ack: bool = False
    duplicate_window: float = field(default=0.0, metadata=wire(SECONDS))
    placement: Placement | None = field(default=None, metadata=wire(nested(Placement)))
    mirror: StreamSource | None = field(default=None, metadata=wire(nested(StreamSource)))
    sources: Sequence[StreamSource] = field(default=(), metadata=wire(listed(nested(StreamSource))))
    compression: StoreCompression | str = field(default=StoreCompression.NONE, metadata=wire(choice(StoreCompression)))
    first_seq: int = field(default=0, metadata=wire(UNSIGNED))
    subject_transform: SubjectTransform | None = field(default=None, metadata=wire(nested(SubjectTransform)))
    republish: Republish | None = field(default=None, metadata=wire(nested(Republish)))
    allow_direct: bool = False
    mirror_direct: bool = False
    sealed: bool = False
    deny_delete: bool = False
    deny_purge: bool = False
    allow_rollup_hdrs: bool = False
    consumer_limits: ConsumerLimits = field(default=ConsumerLimits(), metadata=wire(nested(ConsumerLimits)))
    allow_msg_ttl: bool = False
    subject_delete_marker_ttl: float = field(default=0.0, metadata=wire(SECONDS))
    allow_msg_counter: bool = False
    allow_atomic: bool = False
    allow_msg_schedules: bool = False
    persist_mode: PersistMode | str = field(default=PersistMode.DEFAULT, metadata=wire(choice(PersistMode)))
    allow_batched: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict, metadata=wire(METADATA))
    template_owner: str = field(default="", metadata=wire(STRING, readonly=True))

    def check_rules(self) -> None:
        check_stream_config(self)
