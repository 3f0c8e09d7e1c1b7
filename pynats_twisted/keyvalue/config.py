"""The configuration of a bucket, and the one of the stream that is the bucket (ADR-8, ADR-48, ADR-57)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import InvalidKeyError, JetStreamConfigError
from ..jetstream.api import (
    DiscardPolicy,
    Placement,
    Republish,
    StorageType,
    StoreCompression,
    StreamConfig,
    StreamSource,
    SubjectTransform,
    user_metadata,
)
from ..jetstream.checks import is_not_negative, is_whole
from .keys import STREAM_PREFIX, bucket_problem, check_pattern, key_prefix, stream_name

MAX_HISTORY = 64
SHORTEST_TTL = 0.1
SHORTEST_MARKER_TTL = 1.0

# With one of these a mirror has less than its origin, or under other subjects.
_PARTIAL = ("filter_subject", "subject_transforms", "opt_start_seq", "opt_start_time")

# Seconds for which a stream remembers message ids, at most as long as it keeps messages.
_DUPLICATE_WINDOW = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyValueConfig:
    """The configuration of a bucket. Objects are not changed, but replaced: ``dataclasses.replace(config, history=5)``.

    :ivar bucket: its name: letters, digits, ``-`` and ``_``.
    :ivar description: at most 4 KiB.
    :ivar history: values that are kept of each key, 1 to 64.
    :ivar ttl: seconds that a value is kept; 0 is for ever, else at least 0.1.
    :ivar limit_marker_ttl: seconds for which a marker stays in the place of a key whose time has run out, so that watchers learn of it; 0
        is no marker, else at least 1. Keys may have TTLs of their own then. It cannot be taken back. API level 1 (ADR-48).
    :ivar allow_msg_ttl: keys may have TTLs of their own, also without markers. A mirror needs it so that what has run out in the origin
        goes there too. It cannot be taken back. API level 1.
    :ivar max_value_size: bytes of a value together with its headers; -1 is no limit.
    :ivar max_bytes: bytes of the whole bucket; -1 is no limit. A bucket that is full takes no new values.
    :ivar storage: where it is kept.
    :ivar replicas: servers that have it, 1 to 5.
    :ivar placement: on which servers.
    :ivar republish: every value is published once more.
    :ivar compression: the bucket's files are compressed.
    :ivar metadata: texts of the user's; servers add keys that begin with ``_nats.``.
    :ivar mirror: the bucket is a copy of another one, named with or without ``KV_``, also of one in another domain or account. What is
        written through its handle goes to the origin. Only one of a bucket in another domain or account may be a mirror of some of the
        keys: a ``filter_subject`` is a pattern of keys here.
    :ivar sources: buckets whose keys it takes, named with or without ``KV_``. A ``filter_subject`` is a pattern of keys here. A source
        with ``subject_transforms`` of its own is left as it is: it may be any stream.
    """

    bucket: str
    description: str = ""
    history: int = 1
    ttl: float = 0.0
    limit_marker_ttl: float = 0.0
    allow_msg_ttl: bool = False
    max_value_size: int = -1
    max_bytes: int = -1
    storage: StorageType | str = StorageType.FILE
    replicas: int = 1
    placement: Placement | None = None
    republish: Republish | None = None
    compression: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    mirror: StreamSource | None = None
    sources: Sequence[StreamSource] = ()

    @classmethod
    def of_stream(cls, config: StreamConfig) -> KeyValueConfig:
        """The configuration of a bucket that there is. What a bucket's has no word for is left out."""
        return cls(
            bucket=config.name.removeprefix(STREAM_PREFIX),
            description=config.description,
            history=max(config.max_msgs_per_subject, 1),
            ttl=config.max_age,
            limit_marker_ttl=config.subject_delete_marker_ttl,
            allow_msg_ttl=config.allow_msg_ttl,
            max_value_size=config.max_msg_size,
            max_bytes=config.max_bytes,
            storage=config.storage,
            replicas=config.replicas,
            placement=config.placement,
            republish=config.republish,
            compression=config.compression != StoreCompression.NONE,
            metadata=user_metadata(config.metadata),
            mirror=config.mirror,
            sources=config.sources,
        )

    def stream_config(self) -> StreamConfig:
        """The configuration of the bucket's stream.

        :raises JetStreamConfigError: a value breaks a rule; the error names the field, its value and the rule.
        """
        changed = self.change(StreamConfig(name=STREAM_PREFIX + self._checked_bucket(), allow_direct=True))
        mirror = self.mirror
        if mirror is not None and mirror.external is None:
            for name in _PARTIAL:
                rule = "must not be set for a mirror next to its origin, for which it would answer, with what it has not; use sources"
                _refuse_if(bool(getattr(mirror, name)), f"mirror.{name}", getattr(mirror, name), rule)
        return changed

    def change(self, config: StreamConfig) -> StreamConfig:
        """The configuration of the bucket's stream, where what a bucket's has no word for is as in another one.

        :raises JetStreamConfigError: as :meth:`stream_config`.
        """
        self._check()
        mirror, sources = self._mirror(), self._sources()
        changed = replace(
            config,
            name=stream_name(self.bucket),
            description=self.description,
            subjects=() if mirror is not None else config.subjects or (key_prefix(self.bucket) + ">",),
            max_msgs_per_subject=self.history,
            max_age=self.ttl,
            # The server's own default for a bucket without a TTL.
            duplicate_window=min(self.ttl, _DUPLICATE_WINDOW) if self.ttl else _DUPLICATE_WINDOW,
            subject_delete_marker_ttl=self.limit_marker_ttl,
            allow_msg_ttl=self.allow_msg_ttl or self.limit_marker_ttl > 0,
            max_msg_size=self.max_value_size,
            max_bytes=self.max_bytes,
            storage=self.storage,
            replicas=self.replicas,
            placement=self.placement,
            republish=self.republish,
            compression=StoreCompression.S2 if self.compression else StoreCompression.NONE,
            metadata=self.metadata,
            mirror=mirror,
            # A mirror answers for its origin.
            mirror_direct=mirror is not None and not any(getattr(mirror, name) for name in _PARTIAL),
            sources=sources,
            discard=DiscardPolicy.NEW,
            allow_rollup_hdrs=True,
            deny_delete=True,
        )
        changed.validate()
        return changed

    # --- rules -----------------------------------------------------------------------------------------------

    def _checked_bucket(self) -> str:
        problem = bucket_problem(self.bucket)
        if problem:
            raise JetStreamConfigError("bucket", self.bucket, problem)
        return self.bucket

    def _check(self) -> None:
        # The names of these are others in the stream's configuration.
        self._checked_bucket()
        _refuse_if(not is_whole(self.history, 1) or self.history > MAX_HISTORY, "history", self.history, f"must be from 1 to {MAX_HISTORY}")
        _refuse_if(
            not is_not_negative(self.ttl) or 0 < self.ttl < SHORTEST_TTL,
            *("ttl", self.ttl, f"must be a number of seconds: 0 for no limit, or at least {SHORTEST_TTL}"),
        )
        marker = self.limit_marker_ttl
        _refuse_if(
            not is_not_negative(marker) or 0 < marker < SHORTEST_MARKER_TTL,
            *("limit_marker_ttl", marker, f"must be a number of seconds: 0 for no markers, or at least {SHORTEST_MARKER_TTL:g}"),
        )
        for name in ("max_value_size", "max_bytes"):
            value = getattr(self, name)
            _refuse_if(not is_whole(value, 1) and value != -1, name, value, "must be -1 for no limit, or 1 or more bytes")
        for name in ("compression", "allow_msg_ttl"):
            _refuse_if(not isinstance(getattr(self, name), bool), name, getattr(self, name), "must be true or false")
        if self.mirror is not None:
            _refuse_if(bool(self.sources), "sources", self.sources, "must not be set for a mirror")
            rule = "must not be set for a mirror, whose markers come from its origin; allow_msg_ttl may be"
            _refuse_if(marker > 0, "limit_marker_ttl", marker, rule)

    def _mirror(self) -> StreamSource | None:
        mirror = self.mirror
        if mirror is None:
            return None
        _refuse_if(not isinstance(mirror, StreamSource), "mirror", mirror, "must be a StreamSource")
        return _mirrored(_named("mirror", mirror))

    def _sources(self) -> tuple[StreamSource, ...]:
        sources = self.sources
        if isinstance(sources, (str, bytes)) or not isinstance(sources, Sequence):
            raise JetStreamConfigError("sources", sources, "must be a list or tuple")
        for source in sources:
            _refuse_if(not isinstance(source, StreamSource), "sources", source, "must be StreamSource objects")
        return tuple(source if source.subject_transforms else _sourced(_named("sources", source), self.bucket) for source in sources)


def _refuse_if(wrong: bool, name: str, value: Any, rule: str) -> None:
    if wrong:
        raise JetStreamConfigError(name, value, rule)


# --- other buckets -------------------------------------------------------------------------------------------


def _named(name: str, source: StreamSource) -> StreamSource:
    """With the name of the bucket's stream."""
    bucket = source.name.removeprefix(STREAM_PREFIX) if isinstance(source.name, str) else source.name
    problem = bucket_problem(bucket)
    if problem:
        raise JetStreamConfigError(f"{name}.name", source.name, f"the name of a bucket {problem}")
    return replace(source, name=STREAM_PREFIX + bucket)


def _pattern(name: str, source: StreamSource, prefix: str) -> str:
    """The keys that a source or mirror wants, of which ``filter_subject`` is the pattern, or the subject in a stream that there is."""
    wanted = source.filter_subject.removeprefix(prefix) or ">"
    try:
        check_pattern(wanted)
    except InvalidKeyError as error:
        raise JetStreamConfigError(f"{name}.filter_subject", source.filter_subject, f"is a pattern of keys: {error}") from None
    return wanted


def _mirrored(mirror: StreamSource) -> StreamSource:
    if not mirror.filter_subject:
        return mirror
    prefix = key_prefix(mirror.name.removeprefix(STREAM_PREFIX))
    return replace(mirror, filter_subject=prefix + _pattern("mirror", mirror, prefix))


def _sourced(source: StreamSource, bucket: str) -> StreamSource:
    prefix = key_prefix(source.name.removeprefix(STREAM_PREFIX))
    wanted = _pattern("sources", source, prefix)
    kept: list[str] = []
    wildcards = 0
    for part in wanted.split("."):
        if part == "*":
            wildcards += 1
            part = f"{{{{wildcard({wildcards})}}}}"
        kept.append(part)
    transform = SubjectTransform(src=prefix + wanted, dest=key_prefix(bucket) + ".".join(kept))
    return replace(source, filter_subject="", subject_transforms=(transform,))
