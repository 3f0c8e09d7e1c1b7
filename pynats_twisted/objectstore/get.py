"""Getting an object: as bytes, by a reader, or into a consumer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from ..errors import (
    BucketNotFoundError,
    InvalidArgumentError,
    NatsError,
    ObjectIncompleteError,
    ObjectLinkError,
    ObjectNotFoundError,
    ObjectStoppedError,
)
from ..jetstream.deferred import deferred
from .digests import read_digest
from .metas import not_found, read_meta
from .names import chunk_subject
from .places import find_place
from .reader import ObjectReader

if TYPE_CHECKING:
    from .info import ObjectInfo
    from .store import ObjectStore

READ_AHEAD = 4 * 1024 * 1024
"""Bytes of an object that are read ahead at most; more where a server takes larger messages."""

AT_ONCE = 2 * 1024 * 1024
"""Bytes of an object that is got by one request at most."""

TRIES = 3
"""How often it is begun anew with an object that was replaced while it was read."""


async def find_object(store: ObjectStore, name: str, *, fresh: bool = False) -> tuple[ObjectStore, ObjectInfo]:
    """What is known of an object and where it is: elsewhere, if it is a link.

    :param fresh: ask the servers that lead the stores: others may lag a little.
    :raises ObjectNotFoundError: there is none, or none where the link leads.
    :raises ObjectLinkError: the link leads to a whole store, or to another link.
    """
    info = await _info(store, name, fresh)
    link = info.link
    if link is None:
        return store, info
    if not link.name:
        raise ObjectLinkError(f"{name!r} is a link to the whole store {link.bucket!r}, and no object")
    if link.bucket != store.bucket:
        try:
            store = await store.js.object_store(link.bucket)
        except BucketNotFoundError:
            text = f"{name!r} is a link to object {link.name!r} of store {link.bucket!r}, which there is not"
            raise ObjectNotFoundError(link.name, text) from None
    info = await _info(store, link.name, fresh)
    if info.is_link:
        raise ObjectLinkError(f"{name!r} is a link to {link.name!r} of store {link.bucket!r}, which is a link, too")
    return store, info


async def _info(store: ObjectStore, name: str, fresh: bool) -> ObjectInfo:
    info = await read_meta(store.stream, store.bucket, name, fresh=fresh)
    if info is None and not fresh:
        # It may have been put a moment ago.
        info = await read_meta(store.stream, store.bucket, name, fresh=True)
    if info is None or info.deleted:
        raise not_found(store.bucket, name, info)
    return info


async def was_replaced(store: ObjectStore, name: str, info: ObjectInfo) -> bool:
    """Whether an object that was found by this name is another one now."""
    return (await find_object(store, name, fresh=True))[1].nuid != info.nuid


@deferred
async def open_object(store: ObjectStore, name: str, *, offset: int = 0, length: int | None = None) -> ObjectReader:
    """Read an object bit by bit: :meth:`~pynats_twisted.objectstore.store.ObjectStore.open`."""
    _check_part(offset, length)
    return await open_found(*await find_object(store, name), offset=offset, length=length)


async def open_found(
    store: ObjectStore, info: ObjectInfo, *, offset: int = 0, length: int | None = None, digest: Any = None
) -> ObjectReader:
    """Read an object of which all is known.

    :param digest: a hash of all bytes before the offset: the digest is checked at the end.
    """
    if offset > info.size:
        raise InvalidArgumentError(f"offset {offset} is behind the end of object {info.name!r}, which has {info.size} bytes")
    behind = info.size - offset
    wanted = behind if length is None else min(length, behind)
    if digest is None and wanted == info.size:
        digest = hashlib.sha256()
    if not wanted:
        return ObjectReader(store, info, None, offset, 0, digest)
    return ObjectReader(store, info, await find_place(store, info, offset, READ_AHEAD), offset, wanted, digest)


def _check_part(offset: int, length: int | None) -> None:
    for name, value in (("offset", offset), ("length", 0 if length is None else length)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise InvalidArgumentError(f"{name} {value!r} is not a number of bytes, 0 or more")


# --- into memory ---------------------------------------------------------------------------------------------


@deferred
async def get_bytes(store: ObjectStore, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
    """An object as bytes: :meth:`~pynats_twisted.objectstore.store.ObjectStore.get`."""
    _check_part(offset, length)
    for attempt in range(TRIES):
        there, info = await find_object(store, name, fresh=attempt > 0)
        try:
            return await _read_all(there, info, offset, length)
        except ObjectIncompleteError:
            if attempt == TRIES - 1 or not await was_replaced(store, name, info):
                raise
    raise AssertionError("unreachable")


async def _read_all(store: ObjectStore, info: ObjectInfo, offset: int, length: int | None) -> bytes:
    if not offset and length is None:
        data = await _read_at_once(store, info)
        if data is not None:
            return data
    reader = await open_found(store, info, offset=offset, length=length)
    try:
        return await reader.read()
    finally:
        reader.stop()


async def _read_at_once(store: ObjectStore, info: ObjectInfo) -> bytes | None:
    """A small object by one request, without a consumer. None where that did not bring exactly what was put: a reader finds out why."""
    stream = store.stream
    if not 0 < info.size <= AT_ONCE or not stream.config.allow_direct:
        return None
    try:
        msgs = await stream.get_batch(info.chunks + 1, subject=chunk_subject(store.bucket, info.nuid)).collect()
        wanted = read_digest(info.digest)
    except (NatsError, ValueError):
        return None
    data = b"".join([msg.data for msg in msgs])
    if len(msgs) != info.chunks or len(data) != info.size or hashlib.sha256(data).digest() != wanted:
        return None
    return data


# --- into a consumer -----------------------------------------------------------------------------------------


@deferred
async def get_to(store: ObjectStore, name: str, consumer: Any, *, offset: int = 0, length: int | None = None) -> ObjectInfo:
    """Write an object to a consumer: :meth:`~pynats_twisted.objectstore.store.ObjectStore.get_to`."""
    _check_part(offset, length)
    if not IConsumer.providedBy(consumer):
        raise InvalidArgumentError(f"consumer is a {type(consumer).__name__}, which provides no IConsumer")
    reader = await open_object(store, name, offset=offset, length=length)
    feed = _Feed(reader)
    try:
        consumer.registerProducer(feed, True)
        try:
            async for piece in reader:
                await feed.room()
                consumer.write(piece)
        finally:
            consumer.unregisterProducer()
    finally:
        reader.stop()
    return reader.info


@implementer(IPushProducer)
class _Feed:
    """The producer that a consumer pauses."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self._is_paused = self._is_stopped = False
        self._waiting: Deferred[None] | None = None

    async def room(self) -> None:
        """Wait while the consumer wants nothing.

        :raises ObjectStoppedError: it wants nothing more.
        """
        while self._is_paused and not self._is_stopped:
            self._waiting = Deferred()
            await self._waiting
        if self._is_stopped:
            raise ObjectStoppedError(f"the consumer of object {self._reader.info.name!r} wanted no more")

    def pauseProducing(self) -> None:
        """Write nothing for now."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Go on."""
        self._is_paused = False
        self._wake()

    def stopProducing(self) -> None:
        """Write nothing more."""
        self._is_stopped = True
        self._reader.stop()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)
