"""Watching keys: what they are, a sign that this was all, then what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InvalidArgumentError
from ..jetstream.api import DeliverPolicy
from ..jetstream.checks import check_count
from ..jetstream.subject_watch import SubjectWatch
from ..jetstream.watcher import Watcher
from .entry import KeyValueEntry, Operation, operation_of_message

if TYPE_CHECKING:
    from ..jetstream.message import JsMsg
    from .reader import ReadOnlyKeyValue


class KeyWatcher(Watcher[KeyValueEntry]):
    """The entries of some keys, for ``async for``, with None once: everything has been handed out that there was when it began.

    It heals itself: whatever happens to the connection, no key's last entry is missed, and none comes twice or behind a newer one of its
    key. An entry that was overwritten while there was no connection, and is not in the bucket's history, does not come. It ends when the
    bucket is gone or was made anew, and with the client.

    A key whose time has run out in a bucket without ``limit_marker_ttl``, or that was removed from the stream, is just gone: no entry says
    so.

    Until :meth:`~pynats_twisted.jetstream.watcher.Watcher.stop`, there is a consumer at the server: use ``async with``, or stop it. It
    begins with the first use; ``await`` it to know that the server has a consumer.

    :ivar bucket: the bucket.
    """

    def __init__(self, kv: ReadOnlyKeyValue, watch: SubjectWatch, *, ignore_deletes: bool, meta_only: bool) -> None:
        self.bucket = kv.bucket

        def read(msg: JsMsg) -> KeyValueEntry | None:
            if ignore_deletes and operation_of_message(msg) is not Operation.PUT:
                return None
            return kv.entry_of(msg, has_value=not meta_only)

        super().__init__(watch, read)

    def __repr__(self) -> str:
        return f"<KeyWatcher of bucket {self.bucket!r} at {self.position}>"


def watch_keys(
    kv: ReadOnlyKeyValue,
    patterns: Sequence[str],
    *,
    include_history: bool,
    ignore_deletes: bool,
    meta_only: bool,
    updates_only: bool,
    resume_from_revision: int | None,
) -> KeyWatcher:
    """Make one; asks nothing of the server. Parameters as of :meth:`~pynats_twisted.keyvalue.ReadOnlyKeyValue.watch`."""
    chosen = [
        f"{name}={value!r}"
        for name, value in (
            ("include_history", include_history),
            ("updates_only", updates_only),
            ("resume_from_revision", resume_from_revision),
        )
        if value is not None and value is not False
    ]
    if len(chosen) > 1:
        raise InvalidArgumentError(f"{' and '.join(chosen)} exclude each other: each says where the watch begins")
    if resume_from_revision is not None:
        check_count("resume_from_revision", resume_from_revision)
    policy = DeliverPolicy.ALL if include_history else DeliverPolicy.NEW if updates_only else DeliverPolicy.LAST_PER_SUBJECT
    watch = SubjectWatch(
        kv.js,
        kv.stream.name,
        kv.subjects.filters(patterns),
        deliver_policy=policy,
        start_seq=resume_from_revision,
        headers_only=meta_only,
        not_found=kv.gone,
    )
    return KeyWatcher(kv, watch, ignore_deletes=ignore_deletes, meta_only=meta_only)
