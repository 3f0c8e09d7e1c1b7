"""Key-value buckets (ADR-8): the last values of keys, kept in a stream.

:meth:`JetStreamContext.create_key_value() <pynats_twisted.jetstream.context.JetStreamContext.create_key_value>` and
:meth:`JetStreamContext.key_value() <pynats_twisted.jetstream.context.JetStreamContext.key_value>` are where it begins. The names here are
what users need by name; they are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bucket import KeyValue
    from .cache import KeyValueCache
    from .codecs import (
        Base64KeyCodec,
        Base64ValueCodec,
        KeyCodec,
        KeyCodecChain,
        PathKeyCodec,
        PatternKeyCodec,
        ValueCodec,
        ValueCodecChain,
    )
    from .config import KeyValueConfig
    from .election import LeaderElection
    from .entry import KeyValueEntry, Operation
    from .held import HeldLock
    from .lock import KeyValueLock
    from .reader import ReadOnlyKeyValue
    from .snapshot import Snapshot
    from .status import KeyValueStatus
    from .watch import KeyWatcher

__all__ = [
    "Base64KeyCodec",
    "Base64ValueCodec",
    "HeldLock",
    "KeyCodec",
    "KeyCodecChain",
    "KeyValue",
    "KeyValueCache",
    "KeyValueConfig",
    "KeyValueEntry",
    "KeyValueLock",
    "KeyValueStatus",
    "KeyWatcher",
    "LeaderElection",
    "Operation",
    "PathKeyCodec",
    "PatternKeyCodec",
    "ReadOnlyKeyValue",
    "Snapshot",
    "ValueCodec",
    "ValueCodecChain",
]

# The modules that they live in. The imports above say the same to type checkers; a test holds the two together.
_HOMES = {
    "Base64KeyCodec": "codecs",
    "Base64ValueCodec": "codecs",
    "HeldLock": "held",
    "KeyCodec": "codecs",
    "KeyCodecChain": "codecs",
    "KeyValue": "bucket",
    "KeyValueCache": "cache",
    "KeyValueConfig": "config",
    "KeyValueEntry": "entry",
    "KeyValueLock": "lock",
    "KeyValueStatus": "status",
    "KeyWatcher": "watch",
    "LeaderElection": "election",
    "Operation": "entry",
    "PathKeyCodec": "codecs",
    "PatternKeyCodec": "codecs",
    "ReadOnlyKeyValue": "reader",
    "Snapshot": "snapshot",
    "ValueCodec": "codecs",
    "ValueCodecChain": "codecs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
