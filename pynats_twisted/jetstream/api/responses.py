"""What the JetStream API answers, beside infos. Each class is read with :func:`~pynats_twisted.jetstream.api.codec.decode`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from .fields import BYTES, SECONDS, STRING, TIME, UNSIGNED, ApiObject, listed, mapped, nested, wire
from .infos import ConsumerInfo, StreamInfo

NAMES_PAGE = 1024
"""Names that a page has at most."""

LIST_PAGE = 256
"""Infos that a page has at most."""

SUBJECTS_PAGE = 100_000
"""Subjects that an info has at most."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Page(ApiObject):
    """The base of answers that come in pages.

    :ivar total: how many there are in all pages.
    :ivar offset: how many were before this page.
    :ivar limit: how many a page has at most.
    """

    total: int = 0
    offset: int = 0
    limit: int = 0


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StreamNames(Page):
    """Names of streams."""

    streams: Sequence[str] = ()
    kinds: ClassVar[frozenset[str]] = frozenset({"stream_names_response"})


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StreamList(Page):
    """Infos of streams.

    :ivar missing: names of streams whose servers did not answer in time.
    :ivar offline: names of streams that their server cannot run, with the reason.
    """

    streams: Sequence[StreamInfo] = field(default=(), metadata=wire(listed(nested(StreamInfo))))
    missing: Sequence[str] = ()
    offline: Mapping[str, str] = field(default_factory=dict, metadata=wire(mapped(STRING)))
    kinds: ClassVar[frozenset[str]] = frozenset({"stream_list_response"})


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ConsumerNames(Page):
    """Names of consumers."""

    consumers: Sequence[str] = ()
    kinds: ClassVar[frozenset[str]] = frozenset({"consumer_names_response"})


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ConsumerList(Page):
    """Infos of consumers.

    :ivar missing: names of consumers whose servers did not answer in time.
    :ivar offline: names of consumers that their server cannot run, with the reason.
    """

    consumers: Sequence[ConsumerInfo] = field(default=(), metadata=wire(listed(nested(ConsumerInfo))))
    missing: Sequence[str] = ()
    offline: Mapping[str, str] = field(default_factory=dict, metadata=wire(mapped(STRING)))
    kinds: ClassVar[frozenset[str]] = frozenset({"consumer_list_response"})


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SuccessResponse(ApiObject):
    """It was done: the answer to deletes and to leaders that are to step down."""

    success: bool = False
    kinds: ClassVar[frozenset[str]] = frozenset(
        {
            "stream_delete_response",
            "stream_msg_delete_response",
            "stream_leader_stepdown_response",
            "consumer_delete_response",
            "consumer_leader_stepdown_response",
            "meta_leader_stepdown_response",
        }
    )


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PurgeResponse(ApiObject):
    """Messages were removed.

    :ivar purged: how many.
    """

    success: bool = False
    purged: int = field(default=0, metadata=wire(UNSIGNED))
    kinds: ClassVar[frozenset[str]] = frozenset({"stream_purge_response"})


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class RawStreamMsg(ApiObject):
    """A stored message, as the API has it.

    :ivar header_block: the headers as they are on the wire, or ``b""``.
    :ivar time: when it was stored.
    """

    subject: str
    seq: int = field(metadata=wire(UNSIGNED))
    header_block: bytes = field(default=b"", metadata=wire(BYTES, key="hdrs"))
    data: bytes = field(default=b"", metadata=wire(BYTES))
    time: datetime | None = field(default=None, metadata=wire(TIME))


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class MsgGetResponse(ApiObject):
    """A message that was asked for."""

    message: RawStreamMsg = field(metadata=wire(nested(RawStreamMsg)))
    kinds: ClassVar[frozenset[str]] = frozenset({"stream_msg_get_response"})


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class PauseInfo(ApiObject):
    """Whether a consumer is paused.

    :ivar pause_until: the time that was asked for, or None.
    :ivar pause_remaining: seconds.
    """

    paused: bool = False
    pause_until: datetime | None = field(default=None, metadata=wire(TIME))
    pause_remaining: float = field(default=0.0, metadata=wire(SECONDS))
    kinds: ClassVar[frozenset[str]] = frozenset({"consumer_pause_response"})


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ConsumerResetInfo(ConsumerInfo):
    """A consumer that begins again.

    :ivar reset_seq: at this sequence of its stream.
    """

    reset_seq: int = field(default=0, metadata=wire(UNSIGNED))
    kinds: ClassVar[frozenset[str]] = frozenset({"consumer_reset_response"})


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class UnpinResponse(ApiObject):
    """The pin was taken."""

    kinds: ClassVar[frozenset[str]] = frozenset({"consumer_unpin_response"})
