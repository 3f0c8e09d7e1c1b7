"""Keys that are gone from a bucket, although no entry says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..jetstream.deferred import deferred
from ..jetstream.listing import read_stream_info
from .entry import KeyValueEntry

if TYPE_CHECKING:
    from .reader import ReadOnlyKeyValue

# More are asked for at once: the subjects of all keys.
_MOST_FILTERS = 16


@deferred
async def find_vanished(
    kv: ReadOnlyKeyValue, filters: Sequence[str], known: Mapping[str, KeyValueEntry], revision: int
) -> list[str] | None:
    """Which of some keys have nothing in the bucket any more, not even a marker.

    :param filters: the subjects of these keys.
    :param known: the keys; may change meanwhile.
    :param revision: keys with larger ones are left out: they may have been written after the server was asked.
    :returns: the keys; None when the server that answers does not know that revision yet.

    Raises what :meth:`~pynats_twisted.jetstream.context.JetStreamContext.call` raises.
    """
    present: set[str] = set()
    for each in filters if len(filters) <= _MOST_FILTERS else (f"{kv.subjects.read_prefix}>",):
        info = await read_stream_info(kv.js, kv.stream.name, subjects_filter=each)
        if info.state.last_seq < revision:
            return None
        present.update(info.state.subjects)
    return [key for key, entry in known.items() if entry.revision <= revision and kv.subjects.read(key) not in present]
