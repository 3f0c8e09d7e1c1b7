"""Which API level a feature needs (ADR-44), as data, and the check that a server has it.

A server too old for a field refuses it as bad JSON, or, before 2.12, drops it without a word. So levels are checked first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...errors import JetStreamApiLevelError
from .consumer_config import ConsumerConfig
from .enums import AckPolicy, PersistMode, PriorityPolicy
from .fields import ApiObject
from .requests import (
    ConsumerPauseRequest,
    ConsumerResetRequest,
    ConsumerUnpinRequest,
    CreateConsumerRequest,
    MsgGetRequest,
    NextRequest,
)
from .stream_config import StreamConfig

API_LEVEL = 5
"""The API level that this package knows: that of server 2.15."""

REQUIRED_LEVEL_HEADER = "Nats-Required-Api-Level"
"""With this header, a server below the level refuses a request (10185; status 412 to pulls and direct gets)."""

#: The first server with a level.
SERVERS = {1: "2.11", 2: "2.12", 3: "2.14", 4: "2.14", 5: "2.15"}


class Feature(NamedTuple):
    """Something that needs an API level.

    :ivar name: how a user asks for it.
    :ivar level: the level.
    :ivar used: whether a configuration or request asks for it.
    """

    name: str
    level: int
    used: Callable[[Any], object]


def _origins(config: StreamConfig) -> list[Any]:
    return [origin for origin in (config.mirror, *config.sources) if origin is not None]


FEATURES: dict[type[ApiObject], tuple[Feature, ...]] = {
    StreamConfig: (
        Feature("allow_msg_ttl", 1, lambda config: config.allow_msg_ttl),
        Feature("subject_delete_marker_ttl", 1, lambda config: config.subject_delete_marker_ttl),
        Feature("allow_msg_counter", 2, lambda config: config.allow_msg_counter),
        Feature("allow_atomic", 2, lambda config: config.allow_atomic),
        Feature("allow_msg_schedules", 2, lambda config: config.allow_msg_schedules),
        Feature("persist_mode=PersistMode.ASYNC", 2, lambda config: config.persist_mode == PersistMode.ASYNC),
        Feature("allow_batched", 4, lambda config: config.allow_batched),
        Feature("consumer of a mirror or source", 4, lambda config: any(origin.consumer is not None for origin in _origins(config))),
    ),
    ConsumerConfig: (
        Feature("pause_until", 1, lambda config: config.pause_until is not None),
        Feature("priority_groups", 1, lambda config: config.priority_groups),
        Feature("priority_policy", 1, lambda config: config.priority_policy != PriorityPolicy.NONE),
        Feature("priority_timeout", 1, lambda config: config.priority_timeout),
        Feature("priority_policy=PriorityPolicy.PRIORITIZED", 2, lambda config: config.priority_policy == PriorityPolicy.PRIORITIZED),
        Feature("ack_policy=AckPolicy.FLOW_CONTROL", 4, lambda config: config.ack_policy == AckPolicy.FLOW_CONTROL),
    ),
    MsgGetRequest: (
        Feature("direct get of a batch", 1, lambda request: request.batch),
        Feature("direct get of multi_last", 1, lambda request: request.multi_last),
        Feature("no_hdr", 2, lambda request: request.no_hdr),
    ),
    NextRequest: (
        Feature("pull with a priority group", 1, lambda request: request.group),
        Feature("pull with a priority", 2, lambda request: request.priority),
    ),
    ConsumerPauseRequest: (Feature("pausing a consumer", 1, lambda request: True),),
    ConsumerUnpinRequest: (Feature("unpinning a client", 1, lambda request: True),),
    ConsumerResetRequest: (Feature("resetting a consumer", 4, lambda request: True),),
}


def used_features(asked: ApiObject) -> list[Feature]:
    """What a configuration or request asks for that not every server has."""
    if isinstance(asked, CreateConsumerRequest):
        asked = asked.config
    return [feature for feature in FEATURES.get(type(asked), ()) if feature.used(asked)]


def required_api_level(asked: ApiObject) -> int:
    """The API level that a server has to have for a configuration or request; 0 when every server will do."""
    return max((feature.level for feature in used_features(asked)), default=0)


def check_api_level(asked: ApiObject, available: int) -> None:
    """Check that a server can do what is asked of it.

    :param available: its API level: ``api.level`` of the :class:`~pynats_twisted.jetstream.api.account.AccountInfo`, or ``api_lvl``
        of the server's INFO; 0 for servers before 2.11, which say none.
    :raises JetStreamApiLevelError: it is too old; the text names what needs a newer one.
    """
    lacking = [feature for feature in used_features(asked) if feature.level > available]
    if not lacking:
        return
    required = max(feature.level for feature in lacking)
    names = tuple(feature.name for feature in lacking)
    text = f"{', '.join(names)}: needs API level {required} (server {SERVERS[required]}), the server has {available}"
    raise JetStreamApiLevelError(text, required, available, names)
