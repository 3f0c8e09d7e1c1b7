"""What is asked of the JetStream API. Each class is encoded with :func:`~pynats_twisted.jetstream.api.codec.encode`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ...errors import JetStreamConfigError
from .cluster import Placement
from .consumer_config import ConsumerConfig
from .enums import ConsumerAction
from .fields import SECONDS, STRING, TIME, UNSIGNED, ApiObject, choice, nested, wire
from .patterns import group_problem, name_problem, subject_problem

# What cannot be said together when messages are read.
_GET_CONFLICTS = (
    ("last_by_subj", "seq"),
    ("start_time", "seq"),
    ("start_time", "last_by_subj"),
    ("next_by_subj", "last_by_subj"),
    ("batch", "last_by_subj"),
    ("multi_last", "last_by_subj"),
    ("multi_last", "next_by_subj"),
    ("up_to_seq", "up_to_time"),
)


def _check(field: str, value: object, problem: str) -> None:
    if problem:
        raise JetStreamConfigError(field, value, problem)


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PagedRequest(ApiObject):
    """One page of names or infos of consumers, from the ``offset``-th on."""

    offset: int = field(default=0, metadata=wire(UNSIGNED))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StreamsRequest(PagedRequest):
    """One page of names or infos of streams.

    :ivar subject: only streams that store subjects which match this filter.
    """

    subject: str = ""

    def check_rules(self) -> None:
        if self.subject:
            _check("subject", self.subject, subject_problem(self.subject, wildcards=True))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StreamInfoRequest(PagedRequest):
    """More than usual of one stream.

    :ivar deleted_details: the sequences that are gone too.
    :ivar subjects_filter: the messages for each subject that matches too; ``>`` is all. At most 100,000 subjects come, from ``offset`` on.
    """

    deleted_details: bool = False
    subjects_filter: str = ""

    def check_rules(self) -> None:
        if self.subjects_filter:
            _check("subjects_filter", self.subjects_filter, subject_problem(self.subjects_filter, wildcards=True))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PurgeRequest(ApiObject):
    """Remove messages from a stream (ADR-10). Without any field: all.

    :ivar seq: only those before this sequence; not together with ``keep``.
    :ivar filter: only those whose subject matches.
    :ivar keep: all but the last so many.
    """

    seq: int = field(default=0, metadata=wire(UNSIGNED))
    filter: str = ""
    keep: int = field(default=0, metadata=wire(UNSIGNED))

    def check_rules(self) -> None:
        if self.filter:
            _check("filter", self.filter, subject_problem(self.filter, wildcards=True))
        if self.seq and self.keep:
            raise JetStreamConfigError("keep", self.keep, "must not be set together with seq")


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class MsgDeleteRequest(ApiObject):
    """Remove one message.

    :ivar no_erase: do not overwrite it on the disk, which is faster.
    """

    seq: int = field(metadata=wire(UNSIGNED))
    no_erase: bool = False

    def check_rules(self) -> None:
        if not self.seq:
            raise JetStreamConfigError("seq", self.seq, "must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class MsgGetRequest(ApiObject):
    """Read one message, or, in a direct get (ADR-31), several.

    :ivar seq: this one; with ``next_by_subj``, ``batch`` or ``multi_last`` from here on.
    :ivar last_by_subj: the last one of a subject, which may have wildcards.
    :ivar next_by_subj: the next ones whose subject matches.
    :ivar batch: direct get only: so many, at most 1,024 with ``multi_last``. API level 1.
    :ivar max_bytes: direct get only: not more than so many bytes.
    :ivar start_time: from this time on. Not together with ``seq``.
    :ivar multi_last: direct get only: the last one of each subject that matches. API level 1.
    :ivar up_to_seq: with ``multi_last``: as it was at this sequence.
    :ivar up_to_time: with ``multi_last``: as it was at this time.
    :ivar no_hdr: only payloads. API level 2.
    """

    seq: int = field(default=0, metadata=wire(UNSIGNED))
    last_by_subj: str = ""
    next_by_subj: str = ""
    batch: int = field(default=0, metadata=wire(UNSIGNED))
    max_bytes: int = field(default=0, metadata=wire(UNSIGNED))
    start_time: datetime | None = field(default=None, metadata=wire(TIME))
    multi_last: Sequence[str] = ()
    up_to_seq: int = field(default=0, metadata=wire(UNSIGNED))
    up_to_time: datetime | None = field(default=None, metadata=wire(TIME))
    no_hdr: bool = False

    def check_rules(self) -> None:
        for one in ("last_by_subj", "next_by_subj"):
            value = getattr(self, one)
            if value:
                _check(one, value, subject_problem(value, wildcards=True))
        for subject in self.multi_last:
            _check("multi_last", subject, subject_problem(subject, wildcards=True))
        for one, other in _GET_CONFLICTS:
            if getattr(self, one) and getattr(self, other):
                raise JetStreamConfigError(one, getattr(self, one), f"must not be set together with {other}")
        if not (self.seq or self.last_by_subj or self.next_by_subj or self.multi_last or self.start_time):
            raise JetStreamConfigError("seq", self.seq, "must be at least 1, or another field must say which message is meant")


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class CreateConsumerRequest(ApiObject):
    """Make or change a consumer.

    :ivar stream_name: of which stream; the same as in the request's subject.
    :ivar action: what it may do: the server answers 10148 to ``CREATE`` of one that there is with another configuration, and 10149 to
        ``UPDATE`` of one that there is not.
    :ivar pedantic: the server refuses what it would have to change.
    """

    stream_name: str = field(default="", metadata=wire(STRING, always=True))
    config: ConsumerConfig = field(default=ConsumerConfig(), metadata=wire(nested(ConsumerConfig), always=True))
    action: ConsumerAction = field(default=ConsumerAction.CREATE_OR_UPDATE, metadata=wire(choice(ConsumerAction)))
    pedantic: bool = False

    def check_rules(self) -> None:
        _check("stream_name", self.stream_name, name_problem(self.stream_name))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ConsumerPauseRequest(ApiObject):
    """Let a consumer deliver nothing before a time; None lets it go on. API level 1."""

    pause_until: datetime | None = field(default=None, metadata=wire(TIME))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ConsumerResetRequest(ApiObject):
    """Let a consumer begin again (ADR-60), from ``seq`` on, or after its ack floor when that is 0. API level 4."""

    seq: int = field(default=0, metadata=wire(UNSIGNED))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ConsumerUnpinRequest(ApiObject):
    """Take the pin from the pinned client of a priority group (ADR-42). API level 1."""

    group: str = field(default="", metadata=wire(STRING, always=True))

    def check_rules(self) -> None:
        _check("group", self.group, group_problem(self.group))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class NextRequest(ApiObject):
    """Ask a pull consumer for messages (ADR-13).

    :ivar batch: messages; 1 when it is 0.
    :ivar expires: seconds that the request may wait; 0 is without an end.
    :ivar max_bytes: bytes of subjects, headers and payloads.
    :ivar no_wait: answer at once, with less or nothing.
    :ivar idle_heartbeat: seconds without messages after which the server sends a sign of life; at most half of ``expires``.
    :ivar group: the priority group (ADR-42). API level 1, like the next three.
    :ivar min_pending: overflow: only when so many messages wait.
    :ivar min_ack_pending: overflow: or so many are not acked.
    :ivar id: pinned client: the pin.
    :ivar priority: prioritized: 0 (first) to 9. API level 2.
    """

    batch: int = field(default=0, metadata=wire(UNSIGNED))
    expires: float = field(default=0.0, metadata=wire(SECONDS))
    max_bytes: int = field(default=0, metadata=wire(UNSIGNED))
    no_wait: bool = False
    idle_heartbeat: float = field(default=0.0, metadata=wire(SECONDS))
    group: str = ""
    min_pending: int = field(default=0, metadata=wire(UNSIGNED))
    min_ack_pending: int = field(default=0, metadata=wire(UNSIGNED))
    id: str = ""
    priority: int = field(default=0, metadata=wire(UNSIGNED))

    def check_rules(self) -> None:
        if self.group:
            _check("group", self.group, group_problem(self.group))
        if self.priority > 9:
            raise JetStreamConfigError("priority", self.priority, "must be between 0 and 9")
        if self.idle_heartbeat and self.idle_heartbeat * 2 > self.expires:
            raise JetStreamConfigError("idle_heartbeat", self.idle_heartbeat, f"must be at most half of expires, which is {self.expires} s")


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StepDownRequest(ApiObject):
    """Let another server lead.

    :ivar placement: which; its ``preferred`` is a server's name.
    """

    placement: Placement | None = field(default=None, metadata=wire(nested(Placement)))
