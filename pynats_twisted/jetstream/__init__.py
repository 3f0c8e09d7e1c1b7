"""JetStream: streams, consumers and what they store.

:meth:`pynats_twisted.NatsClient.jetstream` is where it begins. The names here are what users need by name; they are loaded when they are
first used. :mod:`pynats_twisted.jetstream.api` has all types of the JetStream API: it is pure data, without I/O, a clock or Twisted.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import (
        AccountInfo,
        AckPolicy,
        ConsumerConfig,
        ConsumerInfo,
        DeliverPolicy,
        DiscardPolicy,
        ExternalStream,
        JsMsgMetadata,
        PersistMode,
        Placement,
        PriorityPolicy,
        PubAck,
        ReplayPolicy,
        Republish,
        RetentionPolicy,
        StorageType,
        StoreCompression,
        StreamConfig,
        StreamInfo,
        StreamSource,
        SubjectTransform,
    )
    from .batch import AtomicBatch
    from .consume import ConsumeContext
    from .consumer import Consumer
    from .context import JetStreamContext
    from .counters import counter_increment, counter_sources, counter_value, increment_headers
    from .dead_letters import DeadLetters
    from .direct import DirectGet
    from .fast_ingest import FastIngest
    from .listing import Listing
    from .message import JsMsg
    from .messages import Messages
    from .ordered import OrderedConsumer
    from .pull_consumer import PullConsumer
    from .push_consumer import PushConsumer
    from .schedules import Schedule, end_schedule_headers
    from .stored import StoredMsg
    from .stream import Stream

__all__ = [
    "AccountInfo",
    "AckPolicy",
    "AtomicBatch",
    "ConsumeContext",
    "Consumer",
    "ConsumerConfig",
    "ConsumerInfo",
    "DeadLetters",
    "DeliverPolicy",
    "DirectGet",
    "DiscardPolicy",
    "ExternalStream",
    "FastIngest",
    "JetStreamContext",
    "JsMsg",
    "JsMsgMetadata",
    "Listing",
    "Messages",
    "OrderedConsumer",
    "PersistMode",
    "Placement",
    "PriorityPolicy",
    "PubAck",
    "PullConsumer",
    "PushConsumer",
    "ReplayPolicy",
    "Republish",
    "RetentionPolicy",
    "Schedule",
    "StorageType",
    "StoreCompression",
    "StoredMsg",
    "Stream",
    "StreamConfig",
    "StreamInfo",
    "StreamSource",
    "SubjectTransform",
    "counter_increment",
    "counter_sources",
    "counter_value",
    "end_schedule_headers",
    "increment_headers",
]

# The modules that they live in. The imports above say the same to type checkers; a test holds the two together.
_HOMES = {
    "AccountInfo": "api",
    "AckPolicy": "api",
    "AtomicBatch": "batch",
    "ConsumeContext": "consume",
    "Consumer": "consumer",
    "ConsumerConfig": "api",
    "ConsumerInfo": "api",
    "DeadLetters": "dead_letters",
    "DeliverPolicy": "api",
    "DirectGet": "direct",
    "DiscardPolicy": "api",
    "ExternalStream": "api",
    "FastIngest": "fast_ingest",
    "JetStreamContext": "context",
    "JsMsg": "message",
    "JsMsgMetadata": "api",
    "Listing": "listing",
    "Messages": "messages",
    "OrderedConsumer": "ordered",
    "PersistMode": "api",
    "Placement": "api",
    "PriorityPolicy": "api",
    "PubAck": "api",
    "PullConsumer": "pull_consumer",
    "PushConsumer": "push_consumer",
    "ReplayPolicy": "api",
    "Republish": "api",
    "RetentionPolicy": "api",
    "Schedule": "schedules",
    "StorageType": "api",
    "StoreCompression": "api",
    "StoredMsg": "stored",
    "Stream": "stream",
    "StreamConfig": "api",
    "StreamInfo": "api",
    "StreamSource": "api",
    "SubjectTransform": "api",
    "counter_increment": "counters",
    "counter_sources": "counters",
    "counter_value": "counters",
    "end_schedule_headers": "schedules",
    "increment_headers": "counters",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
