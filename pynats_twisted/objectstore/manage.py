"""How object stores are made, changed, found and deleted. A context has these as methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BucketExistsError, BucketNotFoundError, InvalidArgumentError, StreamNameInUseError, StreamNotFoundError
from ..jetstream.api import StreamConfig, StreamInfo, StreamList, StreamNames, StreamsRequest
from ..jetstream.deferred import deferred
from ..jetstream.listing import Listing
from .config import ObjectStoreConfig
from .names import ALL_STORES, all_metas, bucket_of_stream, stream_name
from .status import ObjectStoreStatus
from .store import ObjectStore

if TYPE_CHECKING:
    from ..jetstream.context import JetStreamContext


def _stream_config(config: ObjectStoreConfig) -> StreamConfig:
    if not isinstance(config, ObjectStoreConfig):
        raise InvalidArgumentError(f"config is a {type(config).__name__}, not an ObjectStoreConfig")
    return config.stream_config()


def is_store(config: StreamConfig) -> bool:
    """Whether a stream is an object store. A mirror of one is none: it has no subjects, and objects of another store."""
    bucket = bucket_of_stream(config.name)
    return bucket is not None and all_metas(bucket) in config.subjects


# --- one store -----------------------------------------------------------------------------------------------


@deferred
async def create_store(js: JetStreamContext, config: ObjectStoreConfig) -> ObjectStore:
    """Make an object store."""
    wanted = _stream_config(config)
    try:
        return ObjectStore(js, config.bucket, await js.create_stream(wanted))
    except StreamNameInUseError:
        raise BucketExistsError(f"there is an object store {config.bucket!r} with another configuration") from None


@deferred
async def update_store(js: JetStreamContext, config: ObjectStoreConfig) -> ObjectStore:
    """Change an object store."""
    wanted = _stream_config(config)
    try:
        return ObjectStore(js, config.bucket, await js.update_stream(wanted))
    except StreamNotFoundError:
        raise _not_found(config.bucket) from None


@deferred
async def create_or_update_store(js: JetStreamContext, config: ObjectStoreConfig) -> ObjectStore:
    """Change an object store, or make it when it is not there."""
    wanted = _stream_config(config)
    return ObjectStore(js, config.bucket, await js.create_or_update_stream(wanted))


@deferred
async def delete_store(js: JetStreamContext, bucket: str) -> None:
    """Delete an object store."""
    try:
        await js.delete_stream(stream_name(bucket))
    except StreamNotFoundError:
        raise _not_found(bucket) from None


@deferred
async def open_store(js: JetStreamContext, bucket: str) -> ObjectStore:
    """The handle of an object store that there is."""
    name = stream_name(bucket)
    try:
        stream = await js.stream(name)
    except StreamNotFoundError:
        raise _not_found(bucket) from None
    if not is_store(stream.config):
        raise BucketNotFoundError(f"stream {name!r} is no object store: it does not store {all_metas(bucket)!r}")
    return ObjectStore(js, bucket, stream)


def _not_found(bucket: str) -> BucketNotFoundError:
    return BucketNotFoundError(f"there is no object store {bucket!r}")


# --- all stores ----------------------------------------------------------------------------------------------


def list_store_names(js: JetStreamContext) -> Listing[str]:
    """The names of all object stores."""
    return Listing(
        lambda offset: js.call(StreamNames, js.prefix.stream_names(), StreamsRequest(offset=offset, subject=ALL_STORES)),
        lambda page: [bucket_of_stream(name) for name in page.streams],
    )


def list_stores(js: JetStreamContext) -> Listing[ObjectStoreStatus]:
    """What there is to know of all object stores."""

    def status(info: StreamInfo) -> ObjectStoreStatus | None:
        return ObjectStoreStatus(info) if is_store(info.config) else None

    return Listing(
        lambda offset: js.call(StreamList, js.prefix.stream_list(), StreamsRequest(offset=offset, subject=ALL_STORES)),
        lambda page: [status(info) for info in page.streams],
    )
