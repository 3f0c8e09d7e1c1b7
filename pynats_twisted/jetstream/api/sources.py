"""Streams that take their messages from other streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .api_errors import ErrorObject
from .fields import AGE, STRING, TIME, UNSIGNED, ApiObject, listed, nested, wire
from .stream_rules import check_stream_source


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SubjectTransform(ApiObject):
    """Messages whose subject matches ``src`` get the subject ``dest``, where ``$1`` or ``{{wildcard(1)}}`` stands for a ``*`` of ``src``.

    An empty ``dest`` lets them keep theirs: in sources and mirrors, that is a filter.
    """

    src: str = field(default="", metadata=wire(STRING, always=True))
    dest: str = field(default="", metadata=wire(STRING, always=True))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ExternalStream(ApiObject):
    """A stream in another account or domain.

    :ivar api_prefix: the prefix under which that one's API can be reached, for example ``$JS.hub.API``.
    :ivar deliver_prefix: the prefix for the subjects on which messages come, or ``""``.
    """

    api_prefix: str = field(default="", metadata=wire(STRING, key="api", always=True))
    deliver_prefix: str = field(default="", metadata=wire(STRING, key="deliver", always=True))

    @classmethod
    def of_domain(cls, domain: str) -> ExternalStream:
        """A stream of this account in another domain."""
        return cls(api_prefix=f"$JS.{domain}.API")


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StreamConsumerSource(ApiObject):
    """The durable consumer of the origin through which messages come (ADR-60, API level 4). It has ``AckPolicy.FLOW_CONTROL``."""

    name: str = ""
    deliver_subject: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StreamSource(ApiObject):
    """The origin of a mirror, or one of the origins of a stream.

    :ivar opt_start_seq: begin at this sequence; 0 is the beginning.
    :ivar opt_start_time: begin at this time; a sequence goes before it.
    :ivar filter_subject: only messages whose subject matches; not together with transforms.
    :ivar subject_transforms: only messages whose subject matches one of them, with the subject that it gives.
    :ivar external: the origin is in another account or domain.
    :ivar consumer: take messages through this consumer of the origin.
    """

    name: str = field(default="", metadata=wire(STRING, always=True))
    opt_start_seq: int = field(default=0, metadata=wire(UNSIGNED))
    opt_start_time: datetime | None = field(default=None, metadata=wire(TIME))
    filter_subject: str = ""
    subject_transforms: Sequence[SubjectTransform] = field(default=(), metadata=wire(listed(nested(SubjectTransform))))
    external: ExternalStream | None = field(default=None, metadata=wire(nested(ExternalStream)))
    consumer: StreamConsumerSource | None = field(default=None, metadata=wire(nested(StreamConsumerSource)))

    def check_rules(self) -> None:
        check_stream_source(self)


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StreamSourceInfo(ApiObject):
    """How well messages come from an origin.

    :ivar lag: messages that are still there and not here.
    :ivar active: seconds since the last message or sign of life; None when there was none yet.
    :ivar error: what keeps it from working, or None.
    """

    name: str = ""
    external: ExternalStream | None = field(default=None, metadata=wire(nested(ExternalStream)))
    lag: int = field(default=0, metadata=wire(UNSIGNED))
    active: float | None = field(default=None, metadata=wire(AGE))
    error: ErrorObject | None = field(default=None, metadata=wire(nested(ErrorObject)))
    filter_subject: str = ""
    subject_transforms: Sequence[SubjectTransform] = field(default=(), metadata=wire(listed(nested(SubjectTransform))))
