"""A bucket to read from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import (
    BucketNotFoundError,
    JetStreamNotEnabledError,
    KeyDeletedError,
    KeyNotFoundError,
    KeyValueCodecError,
    MessageNotFoundError,
    NoRespondersError,
    StreamNotFoundError,
)
from ..jetstream.deferred import deferred
from ..jetstream.direct_pages import status_error
from ..jetstream.stored import from_direct_get, is_stored
from ..protocol.subjects import LiteralSubject
from .cache import open_cache
from .entry import KeyValueEntry, Operation, operation_of_message, revision_and_time
from .keys import KeySubjects
from .listing import list_keys, read_history
from .many import read_last
from .snapshot import read_snapshot
from .status import KeyValueStatus
from .watch import watch_keys

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from ..jetstream.context import JetStreamContext
    from ..jetstream.gathering import Gathering
    from ..jetstream.message import JsMsg
    from ..jetstream.stored import StoredMsg
    from ..jetstream.stream import Stream
    from .cache import KeyValueCache
    from .codecs import KeyCodec, ValueCodec
    from .snapshot import Snapshot
    from .watch import KeyWatcher


class ReadOnlyKeyValue:
    """A bucket, without the methods that change it: :meth:`.KeyValue.read_only` returns one, for those who are to read only.

    Reading is done by direct gets: any server that has the bucket answers, and its mirrors do. So what was written a moment ago may not be
    found yet (ADR-8).

    All methods that ask the server raise :class:`~pynats_twisted.errors.BucketNotFoundError` when the bucket was deleted, and what
    :meth:`~pynats_twisted.jetstream.context.JetStreamContext.call` raises.

    :param stream: the bucket's stream.
    :param key_codec: :param value_codec: what stands between the user's keys and values and those that are stored.
    :ivar bucket: its name.
    :ivar stream: the stream that it is.
    :ivar subjects: the subjects of its keys.
    """

    def __init__(self, stream: Stream, key_codec: KeyCodec | None = None, value_codec: ValueCodec | None = None) -> None:
        self.stream = stream
        self.subjects = KeySubjects(stream.js.prefix, stream.config, key_codec)
        self.bucket = self.subjects.bucket
        self._direct_get = stream.js.prefix.direct_get(stream.name) + "."
        self._key_codec = key_codec
        self._value_codec = value_codec

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.bucket!r}>"

    @property
    def js(self) -> JetStreamContext:
        """Through which it is asked."""
        return self.stream.js

    # --- entries ---------------------------------------------------------------------------------------------

    def entry_of(self, msg: StoredMsg | JsMsg, *, delta: int = 0, has_value: bool = True) -> KeyValueEntry:
        """The entry that a message of the bucket's stream is.

        :param delta: how many newer values the key has, where that is known.
        :param has_value: False for a message that came without its payload.
        :raises InvalidKeyError: it is not of this bucket.
        :raises KeyValueCodecError: its key or value is none that the bucket's codec makes.
        """
        revision, created = revision_and_time(msg)
        operation = operation_of_message(msg)
        value: Any = b""
        if has_value and operation is Operation.PUT:
            value = msg.data
            if self._value_codec is not None:
                value = self._decoded(self._value_codec, msg)
        return KeyValueEntry(self.bucket, self.subjects.key(msg.subject), value, revision, created, delta, operation)

    @staticmethod
    def _decoded(codec: ValueCodec, msg: StoredMsg | JsMsg) -> Any:
        try:
            return codec.decode(msg.data)
        except Exception as error:
            text = f"the value of {msg.subject!r} is none that {codec!r} makes: {type(error).__name__}: {error}"
            raise KeyValueCodecError(text) from error

    # --- reading ---------------------------------------------------------------------------------------------

    @deferred
    async def get(self, key: str, revision: int | None = None) -> KeyValueEntry:
        """The value of a key.

        :param revision: the value that it had with this revision, as long as the bucket has it; None for its last one.
        :raises KeyNotFoundError: there is no such key, or it never had this revision, or has it no more.
        :raises KeyDeletedError: it was deleted or purged, or its time has run out; a
            :class:`~pynats_twisted.errors.KeyNotFoundError` too.
        :raises InvalidKeyError: the key breaks a rule. Nothing was sent.
        :raises KeyValueCodecError: the value is none that the bucket's codec makes.
        """
        subject = self.subjects.read(key)
        try:
            msg = await (self._last(subject) if revision is None else self.stream.get_msg(revision))
        except MessageNotFoundError:
            raise self._not_found(key, revision) from None
        except StreamNotFoundError:
            raise self.gone() from None
        if msg.subject != subject:
            raise self._not_found(key, revision)
        entry = self.entry_of(msg)
        if entry.operation is not Operation.PUT:
            text = f"key {key!r} of bucket {self.bucket!r} was deleted ({entry.operation}, revision {entry.revision})"
            raise KeyDeletedError(key, text, entry)
        return entry

    async def _last(self, subject: str) -> StoredMsg:
        """The last message of a subject: as the stream's ``get_last_msg``, by a shorter way for what is called most often."""
        stream = self.stream
        if stream.config.allow_direct:
            js = stream.js
            try:
                msg = await js.client.request(LiteralSubject(self._direct_get + subject), b"", None, js.timeout)
            except NoRespondersError:
                # The configuration may have changed since it was asked for, or the bucket is gone.
                pass
            else:
                if is_stored(msg):
                    return from_direct_get(msg)[0]
                raise status_error(msg)
        return await stream.get_last_msg(subject, direct=False)

    @deferred
    async def get_many(self, keys: Iterable[str]) -> dict[str, KeyValueEntry]:
        """The values of many keys, with a few requests. Keys that have no value are left out. API level 1.

        While others write, each value is one that the key had at some time meanwhile, and not all are from the same moment:
        :meth:`snapshot` has them so.

        :param keys: any number of them. The result has them in this order.
        :raises InvalidKeyError: a key breaks a rule. Nothing was sent.
        :raises KeyValueCodecError: a value is none that the bucket's codec makes.
        :raises JetStreamApiLevelError: the server is older than 2.11.
        :raises JetStreamNotEnabledError: the bucket's stream does not allow direct gets.
        """
        wanted = {self.subjects.read(key): key for key in keys}
        if not wanted:
            return {}
        found: dict[str, KeyValueEntry] = {}
        try:
            for msg in await read_last(self.stream, tuple(wanted)):
                entry = self.entry_of(msg)
                if entry.operation is Operation.PUT:
                    found[wanted[msg.subject]] = entry
        except JetStreamNotEnabledError:
            # Is it the bucket that is gone?
            await self.status()
            raise
        return {key: found[key] for key in wanted.values() if key in found}

    def snapshot(self, *patterns: str) -> Deferred[Snapshot]:
        """All keys as they were at one revision, while others go on writing. API level 1.

        A key that has been deleted is left out. One whose time runs out while the snapshot is taken may be in it. The server that leads the
        bucket is asked too (``STREAM.INFO``, ``STREAM.MSG.GET``).

        :param patterns: only keys that match one of them, at most 1,024 patterns; all keys when there are none.
        :raises SnapshotError: the bucket was written to faster than it could be read, time and again.
        :raises InvalidKeyError: a pattern breaks a rule. Nothing was sent.
        :raises KeyValueCodecError: a key or value is none that the bucket's codec makes.
        :raises InvalidArgumentError: there are too many patterns.
        :raises JetStreamApiLevelError: the server is older than 2.11.
        :raises JetStreamNotEnabledError: the bucket's stream does not allow direct gets.
        """
        return read_snapshot(self, patterns)

    @deferred
    async def status(self) -> KeyValueStatus:
        """Ask for its configuration, and what is in it."""
        try:
            return KeyValueStatus(await self.stream.info())
        except StreamNotFoundError:
            raise self.gone() from None

    # --- watching --------------------------------------------------------------------------------------------

    def watch(
        self,
        *patterns: str,
        include_history: bool = False,
        ignore_deletes: bool = False,
        meta_only: bool = False,
        updates_only: bool = False,
        resume_from_revision: int | None = None,
    ) -> KeyWatcher:
        """Watch keys: their last entries, None when all of these have come, then each new entry.

        None comes exactly once, whichever the options. Asks nothing before the first use.

        :param patterns: only keys that match one of them; ``*`` is any part of a key, and ``>`` all parts from there on. All keys when
            there are none.
        :param include_history: begin with all entries that the bucket has, not only the last ones.
        :param ignore_deletes: leave out what was deleted or purged, or has aged out.
        :param meta_only: without values.
        :param updates_only: begin with what is new: None comes first.
        :param resume_from_revision: begin with all entries from this revision on, itself included.
        :raises InvalidKeyError: a pattern breaks a rule.
        :raises InvalidArgumentError: two options say where it begins.
        """
        return watch_keys(
            self,
            patterns,
            include_history=include_history,
            ignore_deletes=ignore_deletes,
            meta_only=meta_only,
            updates_only=updates_only,
            resume_from_revision=resume_from_revision,
        )

    def keys(self, *patterns: str) -> Gathering[str]:
        """The keys that have a value, for ``async for`` or ``await``; none of them twice. The server chooses them, and sends no values.

        :param patterns: as of :meth:`watch`.
        :raises InvalidKeyError: a pattern breaks a rule.
        """
        return list_keys(self, patterns)

    def history(self, key: str) -> Deferred[list[KeyValueEntry]]:
        """All entries that the bucket has of a key, the oldest first, deletes included; none when it has no such key.

        Their ``delta`` says how many newer ones there are.

        :raises InvalidKeyError: the key breaks a rule.
        :raises KeyValueCodecError: a value is none that the bucket's codec makes.
        """
        return read_history(self, key)

    def cache(
        self, *patterns: str, max_keys: int = 100_000, max_bytes: int = 64 * 1024 * 1024, verify_every: float | None = None
    ) -> Deferred[KeyValueCache]:
        """A mapping of keys to their entries in memory, kept fresh by a watch. Fires when it has all entries.

        :param patterns: as of :meth:`watch`.
        :param max_keys: keys that it may hold; :param max_bytes: bytes of keys and values, as they are stored. It ends with an error when
            there are more.
        :param verify_every: seconds after which it asks which keys there are, to drop those that have vanished without a word. By default
            60 where ``ttl`` or TTLs of keys are used without ``limit_marker_ttl``, and else only after interruptions.
        :raises InvalidKeyError: a pattern breaks a rule.
        :raises InvalidArgumentError: a bound is below 1, or ``verify_every`` is no positive number.
        :raises KeyValueCacheFullError: there is more in the bucket than it may hold.
        """
        return open_cache(self, patterns, max_keys=max_keys, max_bytes=max_bytes, verify_every=verify_every)

    # --- errors ----------------------------------------------------------------------------------------------

    def _not_found(self, key: str, revision: int | None) -> KeyNotFoundError:
        which = "" if revision is None else f" with revision {revision}"
        return KeyNotFoundError(key, f"bucket {self.bucket!r} has no key {key!r}{which}")

    def gone(self) -> BucketNotFoundError:
        """The error for a bucket that was deleted; not raised."""
        return BucketNotFoundError(f"there is no bucket {self.bucket!r} any more")
