"""Object stores (ADR-20): large objects, kept in chunks in a stream.

:meth:`JetStreamContext.create_object_store() <pynats_twisted.jetstream.context.JetStreamContext.create_object_store>` and
:meth:`JetStreamContext.object_store() <pynats_twisted.jetstream.context.JetStreamContext.object_store>` are where it begins. The names
here are what users need by name; they are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import ObjectStoreConfig
    from .info import ObjectInfo, ObjectLink, ObjectMeta
    from .reader import ObjectReader
    from .sources import BodyProducer, Source
    from .status import ObjectStoreStatus
    from .store import ObjectStore
    from .watch import ObjectListing, ObjectWatcher

__all__ = [
    "BodyProducer",
    "ObjectInfo",
    "ObjectLink",
    "ObjectListing",
    "ObjectMeta",
    "ObjectReader",
    "ObjectStore",
    "ObjectStoreConfig",
    "ObjectStoreStatus",
    "ObjectWatcher",
    "Source",
]

# The modules that they live in. The imports above say the same to type checkers; a test holds the two together.
_HOMES = {
    "BodyProducer": "sources",
    "ObjectInfo": "info",
    "ObjectLink": "info",
    "ObjectListing": "watch",
    "ObjectMeta": "info",
    "ObjectReader": "reader",
    "ObjectStore": "store",
    "ObjectStoreConfig": "config",
    "ObjectStoreStatus": "status",
    "ObjectWatcher": "watch",
    "Source": "sources",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
