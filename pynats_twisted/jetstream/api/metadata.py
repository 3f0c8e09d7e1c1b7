"""The metadata of streams and consumers (ADR-33): the user's, and what the server adds (ADR-44)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .fields import STRING, Codec, mapped

REQUIRED_LEVEL_KEY = "_nats.req.level"
"""The API level that the stream or consumer needs."""

SERVER_LEVEL_KEY = "_nats.level"
"""The API level of the server that answered."""

SERVER_VERSION_KEY = "_nats.ver"
"""The version of the server that answered."""

SERVER_KEYS = frozenset({REQUIRED_LEVEL_KEY, SERVER_LEVEL_KEY, SERVER_VERSION_KEY})

MAX_METADATA = 128 * 1024


def user_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata without what the server adds by itself; compare these, not the whole."""
    return {key: value for key, value in metadata.items() if key not in SERVER_KEYS}


def metadata_problem(metadata: Mapping[str, str]) -> str:
    """What is wrong with the size of metadata, or an empty text."""
    size = sum(len(part.encode("utf-8", "replace")) for pair in metadata.items() for part in pair if isinstance(part, str))
    return f"must have at most {MAX_METADATA} bytes in all keys and values, it has {size}" if size > MAX_METADATA else ""


_TEXTS = mapped(STRING)


def _dump(value: Any) -> Any:
    return _TEXTS.dump(user_metadata(value))


#: What the server adds is read and not sent back: the server knows better.
METADATA = Codec(_TEXTS.load, _dump, _TEXTS.normal)
