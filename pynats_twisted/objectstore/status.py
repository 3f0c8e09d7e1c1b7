"""What there is to know of a whole object store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..jetstream.api import user_metadata
from .config import ObjectStoreConfig

if TYPE_CHECKING:
    from ..jetstream.api import StorageType, StreamInfo


class ObjectStoreStatus:
    """An object store as it was when it was asked for.

    :ivar stream_info: what the server said of the stream that the store is; here is all that the other names do not have.
    :ivar config: the store's configuration.
    """

    __slots__ = ("config", "stream_info")

    #: What the store is kept in.
    backing_store = "JetStream"

    def __init__(self, info: StreamInfo) -> None:
        self.stream_info = info
        self.config = ObjectStoreConfig.of_stream(info.config)

    def __repr__(self) -> str:
        return f"<ObjectStoreStatus {self.bucket!r} {self.size} bytes{' sealed' if self.sealed else ''}>"

    @property
    def bucket(self) -> str:
        """Its name."""
        return self.config.bucket

    @property
    def description(self) -> str:
        """A text for people."""
        return self.config.description

    @property
    def metadata(self) -> Mapping[str, str]:
        """The user's texts."""
        return user_metadata(self.config.metadata)

    @property
    def ttl(self) -> float:
        """Seconds that objects are kept; 0 for ever."""
        return self.config.ttl

    @property
    def storage(self) -> StorageType | str:
        """Where it is kept."""
        return self.config.storage

    @property
    def replicas(self) -> int:
        """How many servers have it."""
        return self.config.replicas

    @property
    def compressed(self) -> bool:
        """Whether the servers compress it."""
        return self.config.compression

    @property
    def sealed(self) -> bool:
        """Whether nothing can be changed in it any more."""
        return self.stream_info.config.sealed

    @property
    def size(self) -> int:
        """Bytes that it takes on a server, with all that is kept of the objects."""
        return self.stream_info.state.bytes
