"""Objects deleted, described anew, renamed and linked to. Each change is made only to what was read before it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import InvalidArgumentError, ObjectExistsError, ObjectLinkError, WrongLastSequenceError
from ..protocol.headers import Headers
from ..protocol.subjects import random_token
from .info import ObjectInfo, ObjectLink, ObjectMeta
from .metas import TRIES, change_meta, changed_too_often, not_found, purge_chunks, read_meta, write_meta
from .names import meta_subject

if TYPE_CHECKING:
    from ..jetstream.context import JetStreamContext
    from ..jetstream.stream import Stream


async def delete_object(js: JetStreamContext, stream: Stream, bucket: str, name: str) -> None:
    """Mark an object as deleted, and remove its chunks."""

    def mark(old: ObjectInfo | None) -> ObjectInfo:
        if old is None:
            raise not_found(bucket, name, None)
        return old if old.deleted else replace(old, deleted=True, size=0, chunks=0, digest="")

    _, deleted = await change_meta(js, stream, bucket, name, mark)
    # Also for one that was deleted before: that may have been interrupted here.
    if deleted.nuid:
        await purge_chunks(stream, bucket, deleted.nuid)


# --- describing and renaming ---------------------------------------------------------------------------------


async def update_meta(js: JetStreamContext, stream: Stream, bucket: str, name: str, meta: ObjectMeta) -> ObjectInfo:
    """Describe an object anew, and rename it when ``meta`` has another name."""
    if not isinstance(meta, ObjectMeta):
        raise InvalidArgumentError(f"meta is a {type(meta).__name__}, not an ObjectMeta")

    def described(old: ObjectInfo | None) -> ObjectInfo:
        if old is None or old.deleted:
            raise not_found(bucket, name, old)
        for field in ("max_chunk_size", "link"):
            if getattr(meta, field) not in (None, getattr(old, field)):
                raise InvalidArgumentError(
                    f"{field}={getattr(meta, field)!r}: only a put can change it, object {name!r} has {getattr(old, field)!r}"
                )
        return replace(old, name=meta.name, description=meta.description, headers=Headers(meta.headers), metadata=meta.metadata)

    if meta.name == name:
        return (await change_meta(js, stream, bucket, name, described))[1]
    for _ in range(TRIES):
        old = await read_meta(stream, bucket, name, fresh=True)
        new = described(old)
        assert old is not None
        there = await read_meta(stream, bucket, meta.name, fresh=True)
        # One with the same chunks is what an interrupted renaming left behind: it is brought to its end.
        if there is not None and not there.deleted and (there.nuid != old.nuid or not old.nuid):
            raise ObjectExistsError(meta.name, f"store {bucket!r} has an object {meta.name!r}: {name!r} cannot be renamed to it")
        try:
            renamed = await write_meta(js, new, 0 if there is None else there.revision)
        except WrongLastSequenceError:
            continue
        if await _remove(stream, old):
            return renamed
        # Somebody else has changed, replaced or deleted it meanwhile, perhaps with its chunks.
        await _remove(stream, renamed)
    raise changed_too_often(bucket, name)


async def _remove(stream: Stream, info: ObjectInfo) -> bool:
    """Remove what is known of an object, if that is still the same."""
    return bool(await stream.purge(seq=info.revision + 1, filter=meta_subject(info.bucket, info.name)))


# --- links ---------------------------------------------------------------------------------------------------


async def add_link(js: JetStreamContext, stream: Stream, bucket: str, name: str, target: ObjectInfo) -> ObjectInfo:
    """Make a link to an object."""
    if not isinstance(target, ObjectInfo):
        raise InvalidArgumentError(f"target is a {type(target).__name__}, not an ObjectInfo")
    if target.deleted:
        raise ObjectLinkError(f"object {target.name!r} of store {target.bucket!r} was deleted: a link cannot lead there")
    if target.link is not None:
        raise ObjectLinkError(f"object {target.name!r} of store {target.bucket!r} is a link itself: a link cannot lead there")
    return await put_link(js, stream, bucket, name, ObjectLink(bucket=target.bucket, name=target.name))


async def put_link(js: JetStreamContext, stream: Stream, bucket: str, name: str, link: ObjectLink) -> ObjectInfo:
    """Make a link, where there is nothing or another link."""
    new = ObjectInfo(name=name, bucket=bucket, nuid=random_token(), link=link)

    def linked(old: ObjectInfo | None) -> ObjectInfo:
        if old is not None and not old.deleted and not old.is_link:
            raise ObjectExistsError(name, f"store {bucket!r} has an object {name!r}: a link cannot replace it")
        return new

    return (await change_meta(js, stream, bucket, name, linked))[1]
