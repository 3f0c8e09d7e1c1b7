"""What is built on streams - key-value buckets and object stores - as methods of the context. It is loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from ..keyvalue.bucket import KeyValue
    from ..keyvalue.codecs import KeyCodec, ValueCodec
    from ..keyvalue.config import KeyValueConfig
    from ..keyvalue.status import KeyValueStatus
    from ..objectstore.config import ObjectStoreConfig
    from ..objectstore.status import ObjectStoreStatus
    from ..objectstore.store import ObjectStore
    from .context import JetStreamContext
    from .listing import Listing


class Stores:
    """The part of a context that makes and opens buckets and object stores."""

    # --- key-value buckets -----------------------------------------------------------------------------------

    def create_key_value(
        self, config: KeyValueConfig, *, key_codec: KeyCodec | None = None, value_codec: ValueCodec | None = None
    ) -> Deferred[KeyValue]:
        """Make a key-value bucket (ADR-8). No error when it is there already with the same configuration.

        :param key_codec: :param value_codec: what stands between the user's keys and values and those that are stored (ADR-54).
        :raises BucketExistsError: there is one of this name, with another configuration.
        :raises JetStreamConfigError: the configuration breaks a rule. Nothing was sent.

        Else as :meth:`~pynats_twisted.jetstream.context.JetStreamContext.create_stream`.
        """
        from ..keyvalue.manage import create_bucket

        return create_bucket(cast("JetStreamContext", self), config, key_codec, value_codec)

    def update_key_value(
        self, config: KeyValueConfig, *, key_codec: KeyCodec | None = None, value_codec: ValueCodec | None = None
    ) -> Deferred[KeyValue]:
        """Change a bucket; the configuration is the whole new one.

        :raises BucketNotFoundError: there is none of this name.

        Else as :meth:`create_key_value`.
        """
        from ..keyvalue.manage import update_bucket

        return update_bucket(cast("JetStreamContext", self), config, key_codec, value_codec)

    def create_or_update_key_value(
        self, config: KeyValueConfig, *, key_codec: KeyCodec | None = None, value_codec: ValueCodec | None = None
    ) -> Deferred[KeyValue]:
        """Change a bucket, or make it when it is not there. Else as :meth:`create_key_value`."""
        from ..keyvalue.manage import create_or_update_bucket

        return create_or_update_bucket(cast("JetStreamContext", self), config, key_codec, value_codec)

    def delete_key_value(self, bucket: str) -> Deferred[None]:
        """Delete a bucket with all that it holds.

        :raises BucketNotFoundError: there is none of this name.
        :raises InvalidNameError: the name breaks a rule.
        """
        from ..keyvalue.manage import delete_bucket

        return delete_bucket(cast("JetStreamContext", self), bucket)

    def key_value(self, bucket: str, *, key_codec: KeyCodec | None = None, value_codec: ValueCodec | None = None) -> Deferred[KeyValue]:
        """The handle of a bucket that there is. Parameters as of :meth:`create_key_value`.

        :raises BucketNotFoundError: :raises InvalidNameError: as :meth:`delete_key_value`.
        """
        from ..keyvalue.manage import open_bucket

        return open_bucket(cast("JetStreamContext", self), bucket, key_codec, value_codec)

    def key_value_names(self) -> Listing[str]:
        """The names of all buckets, for ``async for`` or ``await``."""
        from ..keyvalue.manage import list_bucket_names

        return list_bucket_names(cast("JetStreamContext", self))

    def key_values(self) -> Listing[KeyValueStatus]:
        """What there is to know of all buckets, for ``async for`` or ``await``."""
        from ..keyvalue.manage import list_buckets

        return list_buckets(cast("JetStreamContext", self))

    # --- object stores ---------------------------------------------------------------------------------------

    def create_object_store(self, config: ObjectStoreConfig) -> Deferred[ObjectStore]:
        """Make an object store (ADR-20). No error when it is there already with the same configuration.

        :raises BucketExistsError: there is one of this name, with another configuration.
        :raises JetStreamConfigError: the configuration breaks a rule. Nothing was sent.

        Else as :meth:`~pynats_twisted.jetstream.context.JetStreamContext.create_stream`.
        """
        from ..objectstore.manage import create_store

        return create_store(cast("JetStreamContext", self), config)

    def update_object_store(self, config: ObjectStoreConfig) -> Deferred[ObjectStore]:
        """Change an object store; the configuration is the whole new one.

        :raises BucketNotFoundError: there is none of this name.

        Else as :meth:`create_object_store`.
        """
        from ..objectstore.manage import update_store

        return update_store(cast("JetStreamContext", self), config)

    def create_or_update_object_store(self, config: ObjectStoreConfig) -> Deferred[ObjectStore]:
        """Change an object store, or make it when it is not there. Else as :meth:`create_object_store`."""
        from ..objectstore.manage import create_or_update_store

        return create_or_update_store(cast("JetStreamContext", self), config)

    def delete_object_store(self, bucket: str) -> Deferred[None]:
        """Delete an object store with all that it holds.

        :raises BucketNotFoundError: there is none of this name.
        :raises InvalidNameError: the name breaks a rule.
        """
        from ..objectstore.manage import delete_store

        return delete_store(cast("JetStreamContext", self), bucket)

    def object_store(self, bucket: str) -> Deferred[ObjectStore]:
        """The handle of an object store that there is.

        :raises BucketNotFoundError: :raises InvalidNameError: as :meth:`delete_object_store`.
        """
        from ..objectstore.manage import open_store

        return open_store(cast("JetStreamContext", self), bucket)

    def object_store_names(self) -> Listing[str]:
        """The names of all object stores, for ``async for`` or ``await``."""
        from ..objectstore.manage import list_store_names

        return list_store_names(cast("JetStreamContext", self))

    def object_stores(self) -> Listing[ObjectStoreStatus]:
        """What there is to know of all object stores, for ``async for`` or ``await``."""
        from ..objectstore.manage import list_stores

        return list_stores(cast("JetStreamContext", self))
