"""The configuration of a consumer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .consumer_rules import check_consumer_config
from .enums import AckPolicy, DeliverPolicy, PriorityPolicy, ReplayPolicy
from .fields import BOOLEAN, INTEGER, SECONDS, STRING, TIME, UNSIGNED, ApiObject, choice, listed, wire
from .metadata import METADATA


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ConsumerConfig(ApiObject):
    """The configuration of a consumer, with everything that servers up to 2.15 know.

    Fields have the names of the wire, but ``durable`` (``durable_name``) and ``replicas`` (``num_replicas``). Durations are seconds.
    A consumer is a pull consumer, unless it has a ``deliver_subject``.

    :ivar durable: its name, for a consumer that stays until it is deleted.
    :ivar name: its name; equal to ``durable`` when both are given. Names follow the same rules as those of streams.
    :ivar description: at most 4 KiB.
    :ivar deliver_policy: where it starts.
    :ivar opt_start_seq: for ``DeliverPolicy.BY_START_SEQUENCE``.
    :ivar opt_start_time: for ``DeliverPolicy.BY_START_TIME``.
    :ivar ack_policy: every message by itself by default (a server asked without saying takes ``NONE``).
    :ivar ack_wait: seconds until a message that was not acked comes again; 0 is the server's choice: 30.
    :ivar max_deliver: how often a message is delivered at most; -1 is without a limit.
    :ivar backoff: seconds before the second, third, … delivery. The first takes the place of ``ack_wait``; the last counts for all after.
    :ivar filter_subject: only messages whose subject matches.
    :ivar filter_subjects: the same with several; not together with ``filter_subject``. Servers before 2.10 drop it without a word.
    :ivar replay_policy: how fast.
    :ivar rate_limit_bps: bits per second, of a push consumer; 0 is without a limit.
    :ivar sample_freq: how many of the acks the server reports, as ``"50%"``.
    :ivar max_waiting: pull requests that may wait; 0 is the server's choice: 512.
    :ivar max_ack_pending: messages that may be delivered and not acked; 0 is the server's choice: 1,000; -1 is without a limit.
    :ivar flow_control: of a push consumer: the server stops when the client does not follow; needs ``idle_heartbeat``.
    :ivar headers_only: without payloads, with their sizes in ``Nats-Msg-Size``.
    :ivar max_batch: messages that a pull request may ask for.
    :ivar max_expires: seconds that a pull request may wait; 0 is without a limit, else at least 0.001.
    :ivar max_bytes: bytes that a pull request may ask for.
    :ivar deliver_subject: of a push consumer: where messages go.
    :ivar deliver_group: of a push consumer: the queue group of its subscribers.
    :ivar idle_heartbeat: of a push consumer: seconds without messages after which the server sends a sign of life; at least 0.1.
    :ivar inactive_threshold: seconds without clients after which the server deletes it; 0 is the server's choice: 5 for one without
        ``durable``, for ever for one with it.
    :ivar replicas: servers that have its state; 0 is as many as the stream's.
    :ivar mem_storage: its state is in memory, whatever the stream's storage is.
    :ivar direct: only readable: made by a server for its own use.
    :ivar sourcing: only readable: made by a server to source a stream.
    :ivar metadata: texts of the user's; servers add keys that begin with ``_nats.``, which are never sent back.
    :ivar pause_until: it delivers nothing before; only counts when it is created. API level 1.
    :ivar priority_groups: names of at most 16 letters, digits, ``- _ / =``; with a ``priority_policy`` (ADR-42). API level 1.
    :ivar priority_policy: who of several clients gets messages. API level 1, 2 for ``PRIORITIZED``.
    :ivar priority_timeout: seconds after which a silent client loses its pin; 0 is the server's choice: 120. API level 1.
    """

    durable: str = field(default="", metadata=wire(STRING, key="durable_name"))
    name: str = ""
    description: str = ""
    deliver_policy: DeliverPolicy | str = field(default=DeliverPolicy.ALL, metadata=wire(choice(DeliverPolicy), always=True))
    opt_start_seq: int = field(default=0, metadata=wire(UNSIGNED))
    opt_start_time: datetime | None = field(default=None, metadata=wire(TIME))
    ack_policy: AckPolicy | str = field(default=AckPolicy.EXPLICIT, metadata=wire(choice(AckPolicy), always=True))
    ack_wait: float = field(default=0.0, metadata=wire(SECONDS))
    max_deliver: int = -1
    backoff: Sequence[float] = field(default=(), metadata=wire(listed(SECONDS)))
    filter_subject: str = ""
    filter_subjects: Sequence[str] = ()
    replay_policy: ReplayPolicy | str = field(default=ReplayPolicy.INSTANT, metadata=wire(choice(ReplayPolicy), always=True))
    rate_limit_bps: int = field(default=0, metadata=wire(UNSIGNED))
    sample_freq: str = ""
    max_waiting: int = 0
    max_ack_pending: int = 0
    flow_control: bool = False
    headers_only: bool = False
    max_batch: int = 0
    max_expires: float = field(default=0.0, metadata=wire(SECONDS))
    max_bytes: int = 0
    deliver_subject: str = ""
    deliver_group: str = ""
    idle_heartbeat: float = field(default=0.0, metadata=wire(SECONDS))
    inactive_threshold: float = field(default=0.0, metadata=wire(SECONDS))
    replicas: int = field(default=0, metadata=wire(INTEGER, key="num_replicas", always=True))
    mem_storage: bool = False
    direct: bool = field(default=False, metadata=wire(BOOLEAN, readonly=True))
    sourcing: bool = field(default=False, metadata=wire(BOOLEAN, readonly=True))
    metadata: Mapping[str, str] = field(default_factory=dict, metadata=wire(METADATA))
    pause_until: datetime | None = field(default=None, metadata=wire(TIME))
    priority_groups: Sequence[str] = ()
    priority_policy: PriorityPolicy | str = field(default=PriorityPolicy.NONE, metadata=wire(choice(PriorityPolicy)))
    priority_timeout: float = field(default=0.0, metadata=wire(SECONDS))

    def check_rules(self) -> None:
        check_consumer_config(self)
