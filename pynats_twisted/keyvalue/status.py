"""What there is to know of a bucket as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..jetstream.api import StoreCompression, user_metadata
from .config import KeyValueConfig
from .keys import STREAM_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..jetstream.api import StreamInfo


class KeyValueStatus:
    """A bucket: its configuration, and what is in it, as the server said when it was asked.

    :ivar stream_info: all that is known of the bucket's stream.
    :cvar backing_store: what the bucket is kept in.
    """

    __slots__ = ("stream_info",)

    backing_store: ClassVar[str] = "JetStream"

    def __init__(self, stream_info: StreamInfo) -> None:
        self.stream_info = stream_info

    def __repr__(self) -> str:
        return f"<KeyValueStatus of {self.bucket!r}: {self.values} values, {self.bytes} bytes>"

    @property
    def bucket(self) -> str:
        """Its name."""
        return self.stream_info.config.name.removeprefix(STREAM_PREFIX)

    @property
    def config(self) -> KeyValueConfig:
        """Its configuration, to be changed with ``dataclasses.replace`` for an update."""
        return KeyValueConfig.of_stream(self.stream_info.config)

    @property
    def values(self) -> int:
        """How many values are in it: those of the history, deletes and markers included."""
        return self.stream_info.state.messages

    @property
    def bytes(self) -> int:
        """How much is in it."""
        return self.stream_info.state.bytes

    @property
    def last_revision(self) -> int:
        """The revision of what was written last; 0 when nothing was."""
        return self.stream_info.state.last_seq

    @property
    def history(self) -> int:
        """How many values of a key are kept."""
        return self.stream_info.config.max_msgs_per_subject

    @property
    def ttl(self) -> float:
        """Seconds that a value is kept; 0 is for ever."""
        return self.stream_info.config.max_age

    @property
    def limit_marker_ttl(self) -> float:
        """Seconds for which markers stay; 0 when there are none."""
        return self.stream_info.config.subject_delete_marker_ttl

    @property
    def allow_msg_ttl(self) -> bool:
        """Whether keys may have TTLs of their own."""
        return self.stream_info.config.allow_msg_ttl

    @property
    def is_compressed(self) -> bool:
        """Whether its files are compressed."""
        return self.stream_info.config.compression != StoreCompression.NONE

    @property
    def metadata(self) -> Mapping[str, str]:
        """The user's texts, without what servers add."""
        return user_metadata(self.stream_info.config.metadata)
