"""The entries of some keys in memory, kept fresh by a watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from ..client.waiting import OneShot, check_seconds
from ..errors import (
    InvalidKeyError,
    KeyValueCacheFullError,
    KeyValueCodecError,
    NatsError,
    NextMessageTimeoutError,
    PermissionsViolationError,
    SubscriptionClosedError,
)
from ..jetstream.checks import check_count, check_duration
from ..jetstream.deferred import deferred
from ..jetstream.subject_watch import SubjectWatch, separate_filters
from .entry import KeyValueEntry, Operation
from .vanished import find_vanished

if TYPE_CHECKING:
    from ..jetstream.api import StreamConfig
    from ..jetstream.message import JsMsg
    from .reader import ReadOnlyKeyValue

ChangeListener = Callable[[KeyValueEntry], Any]

# Seconds after which the cache looks whether its watch was interrupted.
_LOOK = 1.0
# Seconds between two looks for keys that have vanished: at first after a failure, and where keys vanish without a word.
_TRY_AGAIN = 5.0
_VERIFY = 60.0


class KeyValueCache(Mapping[str, KeyValueEntry]):
    """The last entries of some keys of a bucket, as a mapping from keys to entries; deleted keys are not in it.

    It is kept fresh by a watch, which heals itself. What a lookup finds is as the server has told it: a moment old, or, while there is no
    connection, as it was then; :attr:`is_fresh` tells. :meth:`wait_for` waits for a write of one's own.

    After an interruption, and now and then in a bucket whose keys may vanish without a word (``ttl`` without ``limit_marker_ttl``), the
    cache asks which keys there are and drops those that are gone.

    When it grows over its bounds, or the bucket is gone or was made anew, it ends with an error, which every lookup raises from then on.
    After :meth:`stop`, and with the client, it stays as it was.

    ``await kv.cache(...)`` makes one, which has all entries then.

    :ivar bucket: the bucket.
    :ivar revision: of the last entry, deletes included, that the cache knows.
    :ivar size: bytes of all its keys and values, as they are stored.
    :ivar error: what has ended it, or None.
    """

    _log = Logger()

    def __init__(self, kv: ReadOnlyKeyValue, patterns: Sequence[str], *, max_keys: int, max_bytes: int, verify_every: float | None) -> None:
        self.bucket = kv.bucket
        self._kv = kv
        self._client = kv.js.client
        self._reactor = kv.js.client.reactor
        filters = kv.subjects.filters(patterns)
        self._filters = separate_filters(filters)
        self._max_keys = check_count("max_keys", max_keys)
        self._max_bytes = check_count("max_bytes", max_bytes)
        if verify_every is not None:
            check_duration("verify_every", verify_every)
        elif _may_vanish(kv.stream.config):
            verify_every = _VERIFY
        self._verify_every = verify_every
        self._watch = SubjectWatch(kv.js, kv.stream.name, filters, not_found=kv.gone)
        self._entries: dict[str, KeyValueEntry] = {}
        self._sizes: dict[str, int] = {}
        self._listeners: list[ChangeListener] = []
        self._waiting: list[tuple[int, Deferred[None]]] = []
        self._loaded = OneShot()
        self._done = OneShot()
        self._is_over = False
        # The resets of the watch up to which it is known which keys have vanished, and when to look again.
        self._verified = 0
        self._verify_at: float | None = None
        self._not_before = 0.0
        self._verifying: Deferred[None] | None = None
        self.revision = 0
        self.size = 0
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<KeyValueCache of bucket {self.bucket!r}: {len(self._entries)} keys at {self.revision}>"

    # --- lookups ---------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> KeyValueEntry:
        if self.error is not None:
            raise self.error
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        if self.error is not None:
            raise self.error
        return iter(self._entries)

    def __len__(self) -> int:
        if self.error is not None:
            raise self.error
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        if self.error is not None:
            raise self.error
        return key in self._entries

    @property
    def is_fresh(self) -> bool:
        """There is a connection, and all has come that the server has told of.

        A connection that is dead without a word is found by the watch within 10 seconds.
        """
        return not self._is_over and self._watch.is_caught_up and self._watch.resets == self._verified

    @property
    def resets(self) -> int:
        """How often the watch was interrupted."""
        return self._watch.resets

    # --- changes ---------------------------------------------------------------------------------------------

    def add_listener(self, listener: ChangeListener) -> None:
        """Call ``listener`` with each entry that changes the cache from now on, when it has. What it raises is logged and counted.

        Of a key that has vanished without a word it gets the last entry, with the operation PURGE and without a value.
        """
        self._listeners.append(listener)

    def remove_listener(self, listener: ChangeListener) -> None:
        """Call it no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    @deferred
    async def wait_for(self, revision: int, timeout: float | None = 5.0) -> None:
        """Wait until the cache knows a revision: that of a write of one's own, which lookups find then, or what came after it.

        :param revision: what a put returned, for a key that the cache's patterns match; another one may never come.
        :param timeout: seconds to wait at most; None waits without an end.
        :raises NextMessageTimeoutError: it did not come in time.
        :raises SubscriptionClosedError: the cache was stopped, or the client closed.

        What has ended the cache is raised too.
        """
        check_count("revision", revision)
        if timeout is not None:
            check_seconds("timeout", timeout)
        if self.revision >= revision and self.error is None:
            return
        if self._is_over:
            raise self.error or self._closed()
        waiter: Deferred[None] = Deferred(self._forget)
        self._waiting.append((revision, waiter))
        if timeout is not None:
            waiter.addTimeout(timeout, self._reactor, lambda result, seconds: self._too_late(revision, seconds))
        await waiter

    def _forget(self, waiter: Deferred[None]) -> None:
        self._waiting = [each for each in self._waiting if each[1] is not waiter]

    def _too_late(self, revision: int, seconds: float) -> None:
        text = f"revision {revision} of bucket {self.bucket!r} has not come within {seconds:g} s: the cache is at {self.revision}"
        raise NextMessageTimeoutError(text)

    # --- beginning and ending --------------------------------------------------------------------------------

    @property
    def done(self) -> Deferred[None]:
        """Fires when it is fresh no more, for good; a new Deferred each time. Fails with the error that ended it."""
        return self._done.wait()

    @deferred
    async def load(self) -> KeyValueCache:
        """Begin. Fires when it has all entries; :meth:`pynats_twisted.keyvalue.ReadOnlyKeyValue.cache` does this.

        :raises KeyValueCacheFullError: they are too many, or too large.
        """
        Deferred.fromCoroutine(self._run()).addCallbacks(lambda _: self._end(None), lambda failure: self._end(failure.value))
        try:
            await self._loaded.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> Deferred[None]:
        """Keep it fresh no more. Fires when the server has deleted the consumer, as :meth:`KeyWatcher.stop`."""
        self._end(None)
        return self._watch.stop()

    async def __aenter__(self) -> KeyValueCache:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await self.stop()

    def _closed(self) -> SubscriptionClosedError:
        return SubscriptionClosedError(f"the cache of bucket {self.bucket!r} was stopped, or its client closed")

    def _end(self, error: BaseException | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        if not isinstance(error, SubscriptionClosedError):
            self.error = error
        verifying, self._verifying = self._verifying, None
        if verifying is not None:
            verifying.cancel()
        self._watch.stop()
        waiting, self._waiting = self._waiting, []
        for _, waiter in waiting:
            waiter.errback(self.error or self._closed())
        self._loaded.fail(self.error or self._closed())
        if self.error is None:
            self._done.happen()
            return
        if not self._done.waited_for:
            self._log.error("The cache of bucket {bucket!r} has ended: {error}", bucket=self.bucket, error=self.error)
        self._entries.clear()
        self._sizes.clear()
        self._done.fail(self.error)

    # --- what comes ------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        if self._verify_every is not None:
            self._verify_at = self._reactor.seconds() + self._verify_every
        while True:
            try:
                msgs = await self._watch.some(timeout=_LOOK)
            except NextMessageTimeoutError:
                msgs = []
            for msg in msgs:
                if msg is None:
                    self._loaded.happen()
                else:
                    self._apply(msg)
            self._look()

    def _apply(self, msg: JsMsg) -> None:
        subjects = self._kv.subjects
        self.revision = msg.metadata.stream_seq
        try:
            key = subjects.key(msg.subject)
            try:
                entry = self._kv.entry_of(msg)
            except KeyValueCodecError:
                # What the key had before is not its value any more.
                self._vanish(key)
                raise
        except (InvalidKeyError, KeyValueCodecError) as error:
            self._log.warn("The cache of bucket {bucket!r} leaves out an entry: {error}", bucket=self.bucket, error=error)
        else:
            if not entry.is_deleted:
                self._set(key, entry, len(msg.subject) - len(subjects.read_prefix) + len(msg.data))
                self._tell(entry)
            elif self._drop(key) is not None:
                self._tell(entry)
        if self._waiting:
            ready = [waiter for revision, waiter in self._waiting if revision <= self.revision]
            self._waiting = [each for each in self._waiting if each[0] > self.revision]
            for waiter in ready:
                waiter.callback(None)

    def _set(self, key: str, entry: KeyValueEntry, size: int) -> None:
        self.size += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        self._entries[key] = entry
        if len(self._entries) > self._max_keys or self.size > self._max_bytes:
            found = f"bucket {self.bucket!r} has at least {len(self._entries)} keys of {self.size} bytes with their values"
            raise KeyValueCacheFullError(f"{found}; the cache may hold max_keys={self._max_keys}, max_bytes={self._max_bytes}")

    def _drop(self, key: str) -> KeyValueEntry | None:
        self.size -= self._sizes.pop(key, 0)
        return self._entries.pop(key, None)

    def _vanish(self, key: str) -> None:
        """A key has no value any more, and there is no entry that says so."""
        old = self._drop(key)
        if old is not None:
            self._tell(KeyValueEntry(self.bucket, key, b"", old.revision, old.created, operation=Operation.PURGE))

    def _tell(self, entry: KeyValueEntry) -> None:
        for listener in list(self._listeners):
            try:
                listener(entry)
            except Exception:  # noqa: BLE001 - the user's code; it is logged
                self._client.counters.listener_errors += 1
                self._log.failure("A listener of the cache of bucket {bucket!r} failed on {entry!r}", bucket=self.bucket, entry=entry)

    # --- what has vanished -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Where keys may have vanished without a word: find out which."""
        now = self._reactor.seconds()
        if self._verifying is not None or self._is_over or not self._watch.is_caught_up or now < self._not_before:
            return
        if self._watch.resets != self._verified or (self._verify_at is not None and now >= self._verify_at):
            verifying = Deferred.fromCoroutine(self._verify())
            if not verifying.called:
                self._verifying = verifying

    async def _verify(self) -> None:
        resets = self._watch.resets
        try:
            vanished = await find_vanished(self._kv, self._filters, self._entries, self.revision)
        except CancelledError:
            return
        except PermissionsViolationError as error:
            self._log.warn("The cache of bucket {bucket!r} may not ask which keys there are: {error}", bucket=self.bucket, error=error)
            vanished = []
        except NatsError as error:
            self._log.debug("The cache of bucket {bucket!r} will ask again: {error}", bucket=self.bucket, error=error)
            vanished = None
        finally:
            self._verifying = None
        if vanished is None:
            self._not_before = self._reactor.seconds() + _TRY_AGAIN
            return
        for key in vanished:
            self._vanish(key)
        self._verified = resets
        if self._verify_every is not None:
            self._verify_at = self._reactor.seconds() + self._verify_every


def open_cache(
    kv: ReadOnlyKeyValue, patterns: Sequence[str], *, max_keys: int, max_bytes: int, verify_every: float | None
) -> Deferred[KeyValueCache]:
    """Make one, and load it. Parameters as of :meth:`~pynats_twisted.keyvalue.ReadOnlyKeyValue.cache`."""
    return KeyValueCache(kv, patterns, max_keys=max_keys, max_bytes=max_bytes, verify_every=verify_every).load()


def _may_vanish(config: StreamConfig) -> bool:
    """Whether keys of a bucket may be gone without a marker that says so, as time passes."""
    return (config.max_age > 0 or config.allow_msg_ttl) and not config.subject_delete_marker_ttl
