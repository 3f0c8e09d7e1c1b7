"""How what is kept of an object is read and changed: always only if nobody else has changed it meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ..errors import (
    JetStreamDecodeError,
    MessageNotFoundError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectStoreError,
    WrongLastSequenceError,
)
from ..protocol.subjects import random_token
from .info import ObjectInfo, decode_info, encode_info
from .names import chunk_subject, meta_subject, name_of_meta

if TYPE_CHECKING:
    from ..jetstream.context import JetStreamContext
    from ..jetstream.message import JsMsg
    from ..jetstream.stored import StoredMsg
    from ..jetstream.stream import Stream

# How often a change is tried anew when others change the same object.
TRIES = 8


async def read_meta(stream: Stream, bucket: str, name: str, *, fresh: bool = False) -> ObjectInfo | None:
    """What a store knows of an object, also of a deleted one; None when nothing is known.

    :param fresh: ask the server that leads the stream, as one does before a change. Another one may lag a little.
    :raises JetStreamDecodeError: what is stored cannot be read.
    :raises InvalidArgumentError: the name breaks a rule.
    """
    try:
        msg = await stream.get_last_msg(meta_subject(bucket, name), direct=False if fresh else None)
    except MessageNotFoundError:
        return None
    return info_of_stored(msg, bucket)


async def write_meta(js: JetStreamContext, info: ObjectInfo, last_revision: int) -> ObjectInfo:
    """Store what there is to know of an object in the place of what there was.

    The publish has a message id, so it is sent again after a lost connection. A stream that has stored it the first time refuses it then as
    it would refuse somebody else's: who reads anew finds what was to be stored.

    :param last_revision: the revision of what there is to be replaced, 0 for nothing.
    :returns: the same with its revision, and with our own time.
    :raises WrongLastSequenceError: somebody else has changed it, or this was stored already.
    :raises ObjectStoreError: another domain than the one that was asked for has a store of this name, and has stored it.
    """
    ack = await js.publish(
        meta_subject(info.bucket, info.name),
        encode_info(info),
        msg_id=random_token(),
        expected_last_subject_seq=last_revision,
        rollup="sub",
    )
    domain = js.prefix.domain
    if domain and ack.domain != domain:
        # Subjects of objects pass between domains as they are.
        raise ObjectStoreError(f"domain {ack.domain!r} has a store {info.bucket!r} too, and stored what was meant for {domain!r}")
    return replace(info, revision=ack.seq, modified=datetime.now(timezone.utc))


async def change_meta(
    js: JetStreamContext, stream: Stream, bucket: str, name: str, change: Callable[[ObjectInfo | None], ObjectInfo]
) -> tuple[ObjectInfo | None, ObjectInfo]:
    """Change what there is to know of an object.

    :param change: called with what there is, perhaps a deleted object, or None; returns what is to be stored, or raises. When it returns
        what it was given nothing is stored. It is called again when somebody else was faster, and may then be given what it returned.
    :returns: what there was, and what there is now.
    :raises ObjectChangedError: somebody else was faster every time.
    """
    for _ in range(TRIES):
        old = await read_meta(stream, bucket, name, fresh=True)
        new = change(old)
        if new is old:
            return old, new
        try:
            return old, await write_meta(js, new, 0 if old is None else old.revision)
        except WrongLastSequenceError:
            continue
    raise changed_too_often(bucket, name)


def changed_too_often(bucket: str, name: str) -> ObjectChangedError:
    """The error for a change that others were faster than every time."""
    return ObjectChangedError(name, f"object {name!r} of store {bucket!r} was changed by others each of {TRIES} times; nothing was done")


def not_found(bucket: str, name: str, found: ObjectInfo | None) -> ObjectNotFoundError:
    """The error for an object that there is not.

    :param found: what is known of it: None, or that it was deleted.
    """
    where = f"object {name!r} of store {bucket!r} was deleted"
    return ObjectNotFoundError(name, f"there is no object {name!r} in store {bucket!r}" if found is None else where)


async def purge_chunks(stream: Stream, bucket: str, nuid: str) -> None:
    """Remove the chunks that are stored under an id."""
    await stream.purge(filter=chunk_subject(bucket, nuid))


def info_of_stored(msg: StoredMsg, bucket: str) -> ObjectInfo:
    """What a message that was read from the stream of a store says of an object.

    :raises JetStreamDecodeError: it cannot be read, or its subject is not one of an object.
    """
    return decode_info(msg.data, bucket, _name_of(msg.subject, bucket), modified=msg.time, revision=msg.seq)


def info_of_delivered(msg: JsMsg, bucket: str) -> ObjectInfo:
    """What a message that a consumer delivered says of an object. Raises as :func:`info_of_stored`."""
    where = msg.metadata
    return decode_info(msg.data, bucket, _name_of(msg.subject, bucket), modified=where.timestamp, revision=where.stream_seq)


def _name_of(subject: str, bucket: str) -> str:
    name = name_of_meta(bucket, subject)
    if name is None:
        raise JetStreamDecodeError(f"{subject!r} is not the subject of an object of store {bucket!r}")
    return name
