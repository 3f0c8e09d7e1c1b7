"""The configuration of an object store, and the stream that it becomes (ADR-20)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import JetStreamConfigError
from ..jetstream.api import (
    DiscardPolicy,
    Placement,
    StorageType,
    StoreCompression,
    StreamConfig,
    user_metadata,
)
from .names import all_chunks, all_metas, bucket_of_stream, bucket_problem, stream_name

# The fields that the stream's configuration has under another name.
_FIELDS = {"ttl": "max_age"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectStoreConfig:
    """What an object store is to be.

    :ivar bucket: its name: letters and digits of ASCII, ``-`` and ``_``, at most 251 of them.
    :ivar description: at most 4 KiB.
    :ivar ttl: seconds that objects are kept; 0 is for ever, else at least 0.1. An object goes chunk by chunk, from its beginning: one that
        is being read at that time ends incomplete.
    :ivar max_bytes: bytes that all objects together may take on the servers, what is kept about them included; -1 for no limit. What does
        not fit any more is refused.
    :ivar storage: files, or the memory of the servers.
    :ivar replicas: servers that have it, 1 to 5.
    :ivar placement: which servers; None for any.
    :ivar compression: compress the files of the servers.
    :ivar metadata: texts of the user's.
    """

    bucket: str
    description: str = ""
    ttl: float = 0.0
    max_bytes: int = -1
    storage: StorageType | str = StorageType.FILE
    replicas: int = 1
    placement: Placement | None = None
    compression: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    def stream_config(self) -> StreamConfig:
        """The configuration of the stream that the store is.

        :raises JetStreamConfigError: a value breaks a rule; the error names the field, its value and the rule.
        """
        problem = bucket_problem(self.bucket)
        if problem:
            raise JetStreamConfigError("bucket", self.bucket, problem)
        if not isinstance(self.compression, bool):
            raise JetStreamConfigError("compression", self.compression, "must be True or False")
        if self.max_bytes == 0:
            raise JetStreamConfigError("max_bytes", 0, "must be -1 for no limit, or at least 1")
        config = StreamConfig(
            name=stream_name(self.bucket),
            description=self.description,
            subjects=(all_chunks(self.bucket), all_metas(self.bucket)),
            max_age=self.ttl,
            max_bytes=self.max_bytes,
            storage=self.storage,
            replicas=self.replicas,
            placement=self.placement,
            compression=StoreCompression.S2 if self.compression else StoreCompression.NONE,
            discard=DiscardPolicy.NEW,
            allow_rollup_hdrs=True,
            allow_direct=True,
            metadata=self.metadata,
        )
        try:
            config.validate()
        except JetStreamConfigError as error:
            ours = {theirs: mine for mine, theirs in _FIELDS.items()}
            raise JetStreamConfigError(ours.get(error.field, error.field), error.value, error.rule) from None
        return config

    @classmethod
    def of_stream(cls, config: StreamConfig) -> ObjectStoreConfig:
        """What an object store is, by the configuration of its stream. What this class does not know is left out.

        :raises JetStreamConfigError: by its name the stream is no object store.
        """
        bucket = bucket_of_stream(config.name)
        if bucket is None:
            raise JetStreamConfigError("name", config.name, "must be 'OBJ_' and the name of an object store")
        return cls(
            bucket=bucket,
            description=config.description,
            ttl=config.max_age,
            max_bytes=config.max_bytes,
            storage=config.storage,
            replicas=config.replicas,
            placement=config.placement,
            compression=config.compression != StoreCompression.NONE,
            metadata=user_metadata(config.metadata),
        )
