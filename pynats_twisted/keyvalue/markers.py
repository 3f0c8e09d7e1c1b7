"""Removing what says that keys were deleted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, FirstError, gatherResults

from ..errors import InvalidArgumentError, StreamNotFoundError
from ..jetstream.api import PurgeRequest, PurgeResponse
from ..jetstream.checks import is_number
from ..jetstream.deferred import deferred
from ..jetstream.subject_watch import SubjectWatch
from ..jetstream.watcher import Watcher
from .entry import Operation, operation_of_message

if TYPE_CHECKING:
    from ..jetstream.message import JsMsg
    from .bucket import KeyValue

DEFAULT_AGE = 1800.0
"""Seconds that a marker is kept by default: so long, who was disconnected may still learn from it that a key was deleted."""

_AT_A_TIME = 8


@deferred
async def purge_deletes(kv: KeyValue, older_than: float) -> int:
    """Remove what says that keys were deleted. As :meth:`~pynats_twisted.keyvalue.KeyValue.purge_deletes`."""
    if not is_number(older_than) or older_than != older_than:
        raise InvalidArgumentError(f"older_than={older_than!r} must be a number of seconds; 0 or less for markers of any age")
    markers: dict[str, tuple[int, datetime]] = {}

    def read(msg: JsMsg) -> None:
        if operation_of_message(msg) is Operation.PUT:
            markers.pop(msg.subject, None)
        else:
            markers[msg.subject] = (msg.metadata.stream_seq, msg.metadata.timestamp)

    await Watcher(
        SubjectWatch(kv.js, kv.stream.name, [kv.subjects.read_prefix + ">"], headers_only=True, not_found=kv.gone), read
    ).collect()
    if not markers:
        return 0
    # Only what is before this is removed from a key: a value that is written meanwhile stays.
    info = await kv.stream.info()
    oldest = _since(info.ts, older_than)
    todo = iter([(subject, revision if created > oldest else revision + 1) for subject, (revision, created) in markers.items()])
    working = [Deferred.fromCoroutine(_purge(kv, todo)) for _ in range(_AT_A_TIME)]
    try:
        return sum(await gatherResults(working, consumeErrors=True))
    except FirstError as first:
        for each in working:
            each.cancel()
        first.subFailure.raiseException()


async def _purge(kv: KeyValue, todo: Iterator[tuple[str, int]]) -> int:
    subjects = kv.subjects
    own = kv.js.prefix.stream_purge(kv.stream.name), subjects.read_prefix
    origin = subjects.origin_api.stream_purge(subjects.origin_stream), subjects.origin_prefix
    removed = 0
    for subject, below in todo:
        key = subject[len(subjects.read_prefix) :]
        # A mirror has its origin's sequences, and keeps what is purged there.
        for asked, prefix in dict.fromkeys((origin, own)):
            try:
                answer = await kv.js.call(PurgeResponse, asked, PurgeRequest(filter=prefix + key, seq=below))
            except StreamNotFoundError:
                raise kv.gone() from None
        removed += answer.purged
    return removed


def _since(now: datetime | None, seconds: float) -> datetime:
    """The time that was so many seconds before."""
    now = now or datetime.now(timezone.utc)
    if seconds <= 0:
        return datetime.max.replace(tzinfo=timezone.utc)
    try:
        return now - timedelta(seconds=seconds)
    except OverflowError:
        return datetime.min.replace(tzinfo=timezone.utc)
