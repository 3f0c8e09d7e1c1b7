"""The keys of a bucket, and all that it has of one key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from ..jetstream.api import DeliverPolicy
from ..jetstream.deferred import deferred
from ..jetstream.gathering import Gathering
from ..jetstream.subject_watch import SubjectWatch
from ..jetstream.watcher import Watcher
from .entry import KeyValueEntry, Operation, operation_of_message

if TYPE_CHECKING:
    from ..jetstream.message import JsMsg
    from .reader import ReadOnlyKeyValue


def list_keys(kv: ReadOnlyKeyValue, patterns: Sequence[str]) -> Gathering[str]:
    """The keys that have a value and match a pattern. Asks nothing before the first use."""
    filters = kv.subjects.filters(patterns)

    def gather() -> Deferred[list[str]]:
        return _live_keys(kv, filters)

    return Gathering(gather)


@deferred
async def _live_keys(kv: ReadOnlyKeyValue, filters: Sequence[str]) -> list[str]:
    watch = SubjectWatch(kv.js, kv.stream.name, filters, headers_only=True, not_found=kv.gone)
    # What is written meanwhile comes too: a key that is deleted behind its value is none.
    live: dict[str, None] = {}

    def read(msg: JsMsg) -> None:
        if operation_of_message(msg) is Operation.PUT:
            live[msg.subject] = None
        else:
            live.pop(msg.subject, None)

    await Watcher(watch, read).collect()
    return [kv.subjects.key(subject) for subject in live]


@deferred
async def read_history(kv: ReadOnlyKeyValue, key: str) -> list[KeyValueEntry]:
    """All entries that the bucket has of a key, the oldest first."""
    watch = SubjectWatch(kv.js, kv.stream.name, [kv.subjects.read(key)], deliver_policy=DeliverPolicy.ALL, not_found=kv.gone)
    entries = await Watcher(watch, kv.entry_of).collect()
    for newer, entry in enumerate(reversed(entries)):
        entry.delta = newer
    return entries
