"""The base of tests with an object store on a real server, whose objects are stored by hand."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from pynats_twisted import NatsClient
from pynats_twisted.jetstream.api import StorageType
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.deferred import deferred
from pynats_twisted.objectstore.config import ObjectStoreConfig
from pynats_twisted.objectstore.info import ObjectInfo
from pynats_twisted.objectstore.metas import write_meta
from pynats_twisted.objectstore.names import chunk_subject
from pynats_twisted.objectstore.store import ObjectStore
from pynats_twisted.protocol.headers import Headers, HeadersLike
from pynats_twisted.protocol.subjects import random_token
from tests.support.jetstream import JetStreamTestCase

_Error = TypeVar("_Error", bound=Exception)


class ObjectInfoTestCase(JetStreamTestCase):
    """A test with a store ``B``.

    :ivar nc: the client. :ivar js: its context. :ivar store: the store.
    """

    nc: NatsClient
    js: JetStreamContext
    store: ObjectStore

    async def begin(self, **options: Any) -> None:
        """Make the store with these options in the place of some."""
        self.nc = await self.jetstream()
        self.js = self.nc.jetstream(timeout=20.0)
        self.store = await self.js.create_object_store(ObjectStoreConfig(**{"bucket": "B", "storage": StorageType.MEMORY, **options}))

    @deferred
    async def put_by_hand(
        self, name: str, *chunks: bytes, replaces: int = 0, headers: HeadersLike | None = None, **more: Any
    ) -> ObjectInfo:
        """Store an object, whatever its digest, in the place of what has that revision. Old chunks stay."""
        nuid = random_token()
        for chunk in chunks:
            await self.js.publish(chunk_subject("B", nuid), chunk)
        size = sum(len(chunk) for chunk in chunks)
        info = ObjectInfo(
            name=name, bucket="B", nuid=nuid, size=size, chunks=len(chunks), digest="SHA-256=x", headers=Headers(headers), **more
        )
        return await write_meta(self.js, info, replaces)

    async def error_of(self, waiting: Deferred[Any], kind: type[_Error]) -> _Error:
        """The error, of this kind, with which it fails."""
        error: Any = await self.assertFailure(waiting, kind)
        assert isinstance(error, kind)
        return error

    async def stored(self) -> dict[str, int]:
        """The subjects that the store has, with their numbers of messages."""
        return dict((await self.store.stream.info(">")).state.subjects)
