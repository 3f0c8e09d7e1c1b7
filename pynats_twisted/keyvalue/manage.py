"""How buckets are made, changed, found and deleted. A context has these as methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import (
    BucketExistsError,
    BucketNotFoundError,
    InvalidArgumentError,
    JetStreamConfigError,
    StreamNameInUseError,
    StreamNotFoundError,
)
from ..jetstream.api import StreamConfig, StreamInfo, StreamList, StreamNames, StreamsRequest
from ..jetstream.deferred import deferred
from ..jetstream.listing import Listing
from .bucket import KeyValue
from .config import KeyValueConfig
from .keys import bucket_of_stream, key_prefix, stream_name
from .status import KeyValueStatus

if TYPE_CHECKING:
    from ..jetstream.context import JetStreamContext
    from ..jetstream.stream import Stream
    from .codecs import KeyCodec, ValueCodec

# How often creating and updating take turns, where others delete and make the bucket meanwhile.
_TURNS = 3


def is_bucket(config: StreamConfig) -> bool:
    """Whether a stream is a bucket, or a mirror of one."""
    bucket = bucket_of_stream(config.name)
    if bucket is None or config.max_msgs_per_subject < 1:
        return False
    return config.mirror is not None or key_prefix(bucket) + ">" in config.subjects


# --- one bucket ----------------------------------------------------------------------------------------------


def _check_config(config: KeyValueConfig) -> None:
    if not isinstance(config, KeyValueConfig):
        raise InvalidArgumentError(f"config is a {type(config).__name__}, not a KeyValueConfig")


@deferred
async def create_bucket(
    js: JetStreamContext, config: KeyValueConfig, key_codec: KeyCodec | None, value_codec: ValueCodec | None
) -> KeyValue:
    """Make a bucket."""
    _check_config(config)
    wanted = config.stream_config()
    try:
        return KeyValue(await js.create_stream(wanted), key_codec, value_codec)
    except StreamNameInUseError:
        raise BucketExistsError(f"there is a bucket {config.bucket!r} with another configuration") from None


@deferred
async def update_bucket(
    js: JetStreamContext, config: KeyValueConfig, key_codec: KeyCodec | None, value_codec: ValueCodec | None
) -> KeyValue:
    """Change a bucket."""
    _check_config(config)
    # What is wrong is found now rather than after asking.
    config.change(StreamConfig())
    stream = await _find(js, config.bucket)
    there = stream.config
    if there.subject_delete_marker_ttl and not config.limit_marker_ttl and config.mirror is None:
        rule = f"cannot be taken back: the bucket has {there.subject_delete_marker_ttl:g} s"
        raise JetStreamConfigError("limit_marker_ttl", config.limit_marker_ttl, rule)
    wanted = config.change(there)
    if there.allow_msg_ttl and not wanted.allow_msg_ttl:
        raise JetStreamConfigError("allow_msg_ttl", config.allow_msg_ttl, "cannot be taken back: the bucket has it")
    try:
        await stream.update(wanted)
    except StreamNotFoundError:
        raise _not_found(config.bucket) from None
    return KeyValue(stream, key_codec, value_codec)


@deferred
async def create_or_update_bucket(
    js: JetStreamContext, config: KeyValueConfig, key_codec: KeyCodec | None, value_codec: ValueCodec | None
) -> KeyValue:
    """Change a bucket, or make it when it is not there."""
    for _ in range(_TURNS - 1):
        try:
            return await update_bucket(js, config, key_codec, value_codec)
        except BucketNotFoundError:
            pass
        try:
            return await create_bucket(js, config, key_codec, value_codec)
        except BucketExistsError:
            # Made by somebody else meanwhile, or no bucket: then the update says so.
            pass
    return await update_bucket(js, config, key_codec, value_codec)


@deferred
async def delete_bucket(js: JetStreamContext, bucket: str) -> None:
    """Delete a bucket."""
    name = stream_name(bucket)
    try:
        await js.delete_stream(name)
    except StreamNotFoundError:
        raise _not_found(bucket) from None


@deferred
async def open_bucket(js: JetStreamContext, bucket: str, key_codec: KeyCodec | None, value_codec: ValueCodec | None) -> KeyValue:
    """The handle of a bucket that there is."""
    return KeyValue(await _find(js, bucket), key_codec, value_codec)


async def _find(js: JetStreamContext, bucket: str) -> Stream:
    name = stream_name(bucket)
    try:
        stream = await js.stream(name)
    except StreamNotFoundError:
        raise _not_found(bucket) from None
    if not is_bucket(stream.config):
        text = f"stream {name!r} is no bucket: it does not store {key_prefix(bucket) + '>'!r}, or any number of values of each"
        raise BucketNotFoundError(text)
    return stream


def _not_found(bucket: str) -> BucketNotFoundError:
    return BucketNotFoundError(f"there is no bucket {bucket!r}")


# --- all buckets ---------------------------------------------------------------------------------------------


# The server can list the streams that store a subject. Mirrors store none, so all are asked for, and chosen from here.


def list_bucket_names(js: JetStreamContext) -> Listing[str]:
    """The names of all buckets."""
    return Listing(
        lambda offset: js.call(StreamNames, js.prefix.stream_names(), StreamsRequest(offset=offset)),
        lambda page: [bucket_of_stream(name) for name in page.streams],
    )


def list_buckets(js: JetStreamContext) -> Listing[KeyValueStatus]:
    """What there is to know of all buckets."""
    return Listing(
        lambda offset: js.call(StreamList, js.prefix.stream_list(), StreamsRequest(offset=offset)),
        lambda page: [_status(info) for info in page.streams],
    )


def _status(info: StreamInfo) -> KeyValueStatus | None:
    return KeyValueStatus(info) if is_bucket(info.config) else None
