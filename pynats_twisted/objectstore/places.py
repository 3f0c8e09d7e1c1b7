"""Where in a stream an object's bytes begin from some offset on: found without reading what comes before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.logger import Logger

from ..errors import JetStreamDecodeError, MessageNotFoundError, NatsError, ObjectIncompleteError
from ..jetstream.ordered import OrderedConsumer
from .background import pause
from .names import chunk_subject

if TYPE_CHECKING:
    from ..jetstream.message import JsMsg
    from .info import ObjectInfo
    from .store import ObjectStore

_log = Logger()

TRIES = 20
"""How often one looks again for chunks that are to come."""

_SIZE = "Nats-Msg-Size"
_PAUSE = 0.25


@dataclass
class Place:
    """Where to begin.

    :ivar index: the number of the chunk, from 0.
    :ivar skip: bytes of it that come before the offset.
    :ivar consumer: reads from this chunk on.
    :ivar data: the chunk itself, where it was read already; then nothing comes behind it, and there is no consumer.
    """

    index: int
    skip: int
    consumer: OrderedConsumer | None = None
    data: bytes | None = None


def read_chunks(store: ObjectStore, info: ObjectInfo, max_bytes: int, start_seq: int | None = None) -> OrderedConsumer:
    """What reads an object's chunks. Nothing is asked yet."""
    subject = chunk_subject(store.bucket, info.nuid)
    return OrderedConsumer.make(store.js, store.stream.name, filter_subjects=subject, start_seq=start_seq, max_bytes=max_bytes)


async def find_place(store: ObjectStore, info: ObjectInfo, offset: int, max_bytes: int) -> Place:
    """Where to begin for the byte at ``offset``, which is one of the object's.

    :raises ObjectIncompleteError: the object has fewer bytes than it should.
    """
    if not offset and info.chunks > 1:
        return Place(0, 0, read_chunks(store, info, max_bytes))
    return await _by_arithmetic(store, info, offset, max_bytes) or await _by_sizes(store, info, offset, max_bytes)


async def _by_arithmetic(store: ObjectStore, info: ObjectInfo, offset: int, max_bytes: int) -> Place | None:
    """By the size of the chunks, where it is certain that all have it; in two requests, however large the object is.

    None is larger than the object says. When the last one has what is left after full ones, then all others are full.
    """
    size = info.max_chunk_size or info.size
    in_last = info.size - (info.chunks - 1) * size
    if not 0 < in_last <= size:
        return None
    try:
        last = await store.stream.get_last_msg(chunk_subject(store.bucket, info.nuid))
    except MessageNotFoundError:
        # Perhaps the server that has answered lags.
        return None
    if len(last.data) != in_last:
        return None
    index, skip = divmod(offset, size)
    behind = info.chunks - 1 - index
    if not behind:
        return Place(index, skip, data=last.data)
    # Chunks follow one another unless others have published meanwhile. The server counts how many come from there on.
    consumer = read_chunks(store, info, max_bytes, max(1, last.seq - behind))
    try:
        await consumer.ready()
    except BaseException:
        consumer.stop()
        raise
    if consumer.num_pending == behind + 1:
        return Place(index, skip, consumer)
    await consumer.stop()
    return None


async def _by_sizes(store: ObjectStore, info: ObjectInfo, offset: int, max_bytes: int) -> Place:
    """By the sizes of all chunks before, which the server tells without the chunks themselves."""
    for left in reversed(range(TRIES)):
        try:
            return await _look_for_place(store, info, offset, max_bytes)
        except ObjectIncompleteError:
            if not left or not await are_to_come(store, info):
                raise
    raise AssertionError("unreachable")


async def _look_for_place(store: ObjectStore, info: ObjectInfo, offset: int, max_bytes: int) -> Place:
    subject = chunk_subject(store.bucket, info.nuid)
    sizes = OrderedConsumer.make(store.js, store.stream.name, filter_subjects=subject, headers_only=True)
    index = before = 0
    messages = sizes.messages(until_drained=True)
    try:
        async for msg in messages:
            size = _size_of(msg)
            if before + size > offset:
                return Place(index, offset - before, read_chunks(store, info, max_bytes, msg.metadata.stream_seq))
            before += size
            index += 1
    finally:
        # It is deleted while the bytes are read.
        messages.stop()
    raise ObjectIncompleteError(info.name, f"object {info.name!r} has {before} bytes in {index} chunks, it should have {info.size}")


async def are_to_come(store: ObjectStore, info: ObjectInfo) -> bool:
    """Whether chunks that were not found only have not come yet to the server that was looked for them at: the one that leads the store has
    all. Then it gets a moment's time."""
    subject = chunk_subject(store.bucket, info.nuid)
    try:
        found = (await store.stream.info(subject)).state.subjects.get(subject, 0)
    except NatsError as error:
        _log.debug("Could not ask how many chunks {name!r} has: {error}", name=info.name, error=error)
        return False
    if found < info.chunks:
        return False
    await pause(store.js.client, _PAUSE)
    return True


def _size_of(msg: JsMsg) -> int:
    text = msg.headers.get(_SIZE) or ""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise JetStreamDecodeError(f"a chunk came without its payload and without its size: {_SIZE} is {text[:40]!r}")
    return int(text)
