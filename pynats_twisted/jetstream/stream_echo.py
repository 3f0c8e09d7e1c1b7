"""What a server made of a stream's configuration: one that is too old for a field may drop it without a word (ADR-44)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import JetStreamApiLevelError
from .api import StreamConfig, StreamInfo, StreamSource, user_metadata
from .api.metadata import SERVER_LEVEL_KEY

# What servers learnt after the first JetStream, and whose absence changes what a stream does. Limits are not among them: a server may
# write 0 as -1.
_FEATURES = (
    *("allow_direct", "allow_rollup_hdrs", "compression", "consumer_limits", "deny_delete", "deny_purge", "discard_new_per_subject"),
    *("first_seq", "republish", "sealed", "subject_transform"),
    *("allow_atomic", "allow_batched", "allow_msg_counter", "allow_msg_schedules", "allow_msg_ttl", "persist_mode"),
    "subject_delete_marker_ttl",
)
_OF_SOURCES = ("consumer", "external", "filter_subject", "opt_start_seq", "opt_start_time", "subject_transforms")

# The API levels of servers that drop what they do not know: 2.11 says 1, and those before it nothing.
_LENIENT = ("0", "1")

_NOTHING = StreamConfig()
_NO_SOURCE = StreamSource()


def dropped_fields(asked: StreamConfig, made: StreamConfig) -> list[str]:
    """The fields that were asked for and are not in the configuration that the server answered with."""
    return list(dict.fromkeys(_dropped(asked, made)))


def _dropped(asked: StreamConfig, made: StreamConfig) -> Iterator[str]:
    for field in _FEATURES:
        nothing = getattr(_NOTHING, field)
        if getattr(asked, field) != nothing and getattr(made, field) == nothing:
            yield field
    if user_metadata(asked.metadata) and not user_metadata(made.metadata):
        yield "metadata"
    if asked.mirror is not None:
        yield from _dropped_of_source("mirror", asked.mirror, [] if made.mirror is None else [made.mirror])
    for source in asked.sources:
        yield from _dropped_of_source("sources", source, [one for one in made.sources if one.name == source.name])


def _dropped_of_source(field: str, asked: StreamSource, made: Sequence[StreamSource]) -> Iterator[str]:
    if not made:
        yield field
        return
    for part in _OF_SOURCES:
        nothing = getattr(_NO_SOURCE, part)
        # One origin may be there several times, with different filters.
        if getattr(asked, part) != nothing and all(getattr(one, part) == nothing for one in made):
            yield f"{field}.{part}"


def check_echo(asked: StreamConfig, info: StreamInfo, left: str) -> None:
    """Check that the server took what it was asked for.

    :param left: what became of the stream, for the text of the error.
    :raises JetStreamApiLevelError: it dropped something.
    """
    if info.config.metadata.get(SERVER_LEVEL_KEY, "0") not in _LENIENT:
        # It refuses what it does not know; what differs was changed by somebody else meanwhile.
        return
    dropped = dropped_fields(asked, info.config)
    if dropped:
        raise JetStreamApiLevelError(f"{', '.join(dropped)}: the server dropped them, it is too old; {left}", features=dropped)
