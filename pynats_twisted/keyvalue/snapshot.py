"""All keys of a bucket as they were at one revision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from twisted.internet.task import deferLater

from ..errors import InvalidArgumentError, JetStreamNotEnabledError, MessageNotFoundError, SnapshotError, StreamNotFoundError
from ..jetstream.deferred import deferred
from ..protocol.subjects import matches
from .entry import KeyValueEntry

if TYPE_CHECKING:
    from ..jetstream.stored import StoredMsg
    from .reader import ReadOnlyKeyValue

MAX_PATTERNS = 1024
"""More than this a server does not look for at once."""

# How often what was written meanwhile is read, how much of it (so many messages, or several times the keys), and in how large pages: the
# last reading has to be a single one.
_TRIES = 20
_MAX_WRITTEN = 100_000
_MAX_TIMES = 10
_PAGE_MSGS = 16_384

# Seconds to wait for a server that lags, more each time.
_WAIT = 0.02


class Snapshot(Mapping[str, KeyValueEntry]):
    """The entries of all keys that had a value at one revision.

    :ivar bucket: the bucket.
    :ivar revision: the revision: a watch that begins behind it misses nothing. 0 when there were no keys.
    """

    def __init__(self, bucket: str, revision: int, entries: Mapping[str, KeyValueEntry]) -> None:
        self.bucket = bucket
        self.revision = revision
        self._entries = entries

    def __getitem__(self, key: str) -> KeyValueEntry:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Snapshot of bucket {self.bucket!r}: {len(self)} keys at revision {self.revision}>"


@deferred
async def read_snapshot(kv: ReadOnlyKeyValue, patterns: Sequence[str]) -> Snapshot:
    """Read a snapshot.

    :raises InvalidArgumentError: there are too many patterns.

    Else as :meth:`.ReadOnlyKeyValue.snapshot`.
    """
    if len(patterns) > MAX_PATTERNS:
        raise InvalidArgumentError(f"a snapshot takes at most {MAX_PATTERNS} patterns, not {len(patterns)}")
    reading = _Reading(kv, kv.subjects.filters(patterns))
    try:
        revision = await reading.read()
    except StreamNotFoundError:
        raise kv.gone() from None
    except JetStreamNotEnabledError:
        # Is it the bucket that is gone?
        await kv.status()
        raise
    entries = {}
    for msg in reading.found.values():
        entry = kv.entry_of(msg)
        if not entry.is_deleted:
            entries[entry.key] = entry
    return Snapshot(kv.bucket, revision, entries)


class _Reading:
    """Reads the last messages of all keys, as they were at one sequence.

    They do not come at one moment, and of a key that is written to meanwhile what was before may be gone. So what was written since is read
    too, in order, until a server says that there is nothing behind the last message: then all that was overwritten in the servers that were
    read before is overwritten by a message that was read, too, if that server is not behind them. Each page may come from another one. The
    one that leads knows most: what it has when a page is asked for, the last page has to have.

    :ivar found: the last message of each subject.
    """

    def __init__(self, kv: ReadOnlyKeyValue, filters: tuple[str, ...]) -> None:
        self._kv = kv
        self._stream = kv.stream
        self._filters = filters
        # A batch takes one filter: for several, all keys are read, and chosen from here.
        self._filter = filters[0] if len(filters) == 1 else kv.subjects.read_prefix + ">"
        self._last = 0
        self.found: dict[str, StoredMsg] = {}

    async def read(self) -> int:
        """Read, and return the sequence; 0 when there are no keys."""
        first = self._stream.get_last_msgs_for(self._filters)
        async for msg in first:
            self._take(msg)
        if not self.found:
            return 0
        # A server that answers with anything from here on has come as far as the reading.
        start = min((first.up_to_seq or 0) + 1, self._last)
        bound = max(_MAX_WRITTEN, _MAX_TIMES * len(self.found))
        for attempt in range(_TRIES):
            known = max((await self._stream.info()).state.last_seq, self._last)
            written = self._stream.get_batch(bound, seq=start, subject=self._filter, page_msgs=_PAGE_MSGS)
            reached = start - 1
            async for msg in written:
                reached = msg.seq
                if self._is_wanted(msg.subject):
                    self._take(msg)
            came = reached >= start
            # One page, and no other was asked for: that server had nothing behind it.
            if written.pages == 1 and (reached >= known or await self._is_last(reached)):
                return max(reached, self._last)
            if written.pages == 1:
                # The server lags, or has got more since. Waiting where there is much to read would make it more.
                await deferLater(self._kv.js.client.reactor, _WAIT * attempt)
            if came:
                # The message itself again: it shows how far the next server has come.
                start = reached
        raise SnapshotError(
            f"no snapshot of bucket {self._kv.bucket!r} in {_TRIES} tries: it was written to faster than it was read, or its servers lag"
        )

    def _is_wanted(self, subject: str) -> bool:
        return len(self._filters) == 1 or any(matches(one, subject) for one in self._filters)

    def _take(self, msg: StoredMsg) -> None:
        known = self.found.get(msg.subject)
        if known is None or known.seq < msg.seq:
            self.found[msg.subject] = msg
            self._last = max(self._last, msg.seq)

    async def _is_last(self, seq: int) -> bool:
        """Whether the server that leads has nothing behind a sequence."""
        try:
            await self._stream.get_next_msg(seq + 1, self._filter, direct=False)
        except MessageNotFoundError:
            return True
        return False
