"""Putting an object: its chunks, then what there is to know of it, then the end of what it replaces."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.logger import Logger

from ..errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    InvalidArgumentError,
    NatsError,
    ObjectChangedError,
    ObjectLinkError,
    ObjectTimeoutError,
    PublishUnconfirmedError,
)
from ..jetstream.deferred import deferred
from ..protocol.headers import Headers
from ..protocol.subjects import random_token
from .background import in_background, pause
from .chunks import PASSING, ChunkWriter
from .digests import digest_text
from .info import CHUNK_SIZE, ObjectInfo, ObjectMeta
from .metas import change_meta, read_meta
from .names import chunk_subject
from .removal import ChunkRemoval
from .sources import cut, open_source

if TYPE_CHECKING:
    from .sources import Pieces, Source
    from .store import ObjectStore

WINDOW = 4 * 1024 * 1024
"""Bytes of an object that are on their way to the server at most, when nothing else is said."""

TIMEOUT = 30.0
"""Seconds without progress after which a put fails, when nothing else is said."""

_log = Logger()

_PAUSE = 0.25
# Seconds for the last of what was sent to get to the stream.
_LATE = 2.0


@deferred
async def put_object(
    store: ObjectStore, meta: str | ObjectMeta, source: Source, *, window: int = WINDOW, timeout: float | None = None
) -> ObjectInfo:
    """Store an object: :meth:`~pynats_twisted.objectstore.store.ObjectStore.put`."""
    meta = ObjectMeta(name=meta) if isinstance(meta, str) else meta
    chunk_size = _check(store, meta, window)
    seconds = TIMEOUT if timeout is None else timeout
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not seconds > 0:
        raise InvalidArgumentError(f"timeout {timeout!r} is not a number of seconds above 0")
    nuid = random_token()
    subject = chunk_subject(store.bucket, nuid)
    pieces = open_source(source)
    removal = ChunkRemoval(store, subject, in_flight=True)
    removal.guard()
    writer = ChunkWriter(store.js, store.stream, subject, window=window, timeout=seconds)
    try:
        digest = await _write(writer, pieces, chunk_size)
    except CancelledError:
        # Whoever cancels does not want to wait.
        removal.begin()
        raise
    except Exception:
        await removal.wait_a_little(removal.begin())
        raise
    # What is known of the object may be stored from now on.
    removal.keep()
    info = ObjectInfo(
        name=meta.name,
        description=meta.description,
        headers=Headers(meta.headers),
        metadata=meta.metadata,
        max_chunk_size=chunk_size,
        bucket=store.bucket,
        nuid=nuid,
        size=writer.size,
        chunks=writer.stored,
        digest=digest,
    )
    return await in_background(_finish(store, info, removal, seconds))


def _check(store: ObjectStore, meta: ObjectMeta, window: int) -> int:
    """The size of the chunks."""
    if not isinstance(meta, ObjectMeta):
        raise InvalidArgumentError(f"meta is a {type(meta).__name__}, not a str or an ObjectMeta")
    if meta.link is not None:
        raise ObjectLinkError(f"object {meta.name!r} cannot be put as a link: use add_link() or add_bucket_link()")
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise InvalidArgumentError(f"window {window!r} is not a number of bytes of at least 1")
    limit = store.js.client.max_payload
    size = meta.max_chunk_size
    if size is None:
        return CHUNK_SIZE if limit is None else min(CHUNK_SIZE, limit)
    if limit is not None and size > limit:
        raise InvalidArgumentError(f"max_chunk_size {size} is more than the {limit} bytes that the server takes in a message")
    return size


async def _write(writer: ChunkWriter, pieces: Pieces, chunk_size: int) -> str:
    """Store the chunks, and return the digest of them all."""
    digest = hashlib.sha256()
    try:
        async for chunk in cut(pieces, chunk_size):
            digest.update(chunk)
            await writer.write(chunk)
        await writer.finish()
    finally:
        writer.stop()
        maybeDeferred(pieces.close).addErrback(lambda failure: _log.failure("The source of an object failed at its end", failure))
    return digest_text(digest.digest())


# --- the end of a put ----------------------------------------------------------------------------------------


async def _finish(store: ObjectStore, info: ObjectInfo, removal: ChunkRemoval, seconds: float) -> ObjectInfo:
    commit = _Commit(store, info)
    try:
        replaced, info = await commit.run(seconds)
    except Exception:
        await removal.wait_a_little(removal.begin(commit.is_done if commit.is_uncertain else None))
        raise
    if replaced is not None and replaced.nuid and not replaced.is_link:
        old = ChunkRemoval(store, chunk_subject(store.bucket, replaced.nuid), in_flight=False)
        await old.wait_a_little(old.begin())
    return info


class _Commit:
    """Says that an object is what was stored.

    :ivar is_uncertain: an attempt has ended without an answer: it may have been stored.
    """

    def __init__(self, store: ObjectStore, info: ObjectInfo) -> None:
        self._store = store
        self._info = info
        self._client = store.js.client
        self._reactor = self._client.reactor
        self._seen: ObjectInfo | None = None
        self.is_uncertain = False

    async def run(self, seconds: float) -> tuple[ObjectInfo | None, ObjectInfo]:
        """Do it. Returns what was replaced, and what is known of the object now.

        :raises ObjectTimeoutError: it was not done within so many seconds.
        :raises ObjectChangedError: others changed the same object all the time, or when it was not known whether this is stored.
        """
        store, info = self._store, self._info
        give_up_at = self._reactor.seconds() + seconds
        while True:
            try:
                _, stored = await change_meta(store.js, store.stream, store.bucket, info.name, self._change)
            except (ConnectionClosedError, ConnectionDrainingError):
                self.is_uncertain = True
                raise
            except PublishUnconfirmedError as error:
                self.is_uncertain = True
                cause: NatsError = error
            except PASSING as error:
                cause = error
            else:
                return self._seen, stored
            if self._reactor.seconds() >= give_up_at:
                text = f"for {seconds:g} s the server did not say that object {info.name!r} is stored: {cause}"
                raise ObjectTimeoutError(text) from cause
            await pause(self._client, _PAUSE)

    def _change(self, old: ObjectInfo | None) -> ObjectInfo:
        if old is not None and old.nuid == self._info.nuid:
            # An attempt without an answer has stored it.
            return old
        if self.is_uncertain and _revision(old) != _revision(self._seen):
            # Ours may have been stored, and replaced by this: then its chunks are about to be removed.
            name = self._info.name
            raise ObjectChangedError(name, f"object {name!r} was changed by somebody else before it was known whether it was stored")
        self._seen = old
        return self._info

    async def is_done(self) -> bool:
        """Whether it is stored after all. What was sent a moment ago gets its time."""
        await pause(self._client, _LATE)
        now = await read_meta(self._store.stream, self._store.bucket, self._info.name, fresh=True)
        return now is not None and now.nuid == self._info.nuid


def _revision(info: ObjectInfo | None) -> int:
    return 0 if info is None else info.revision
