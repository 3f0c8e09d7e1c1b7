"""The base of tests that put objects into real object stores and get them out again."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

from twisted.internet.defer import Deferred

from pynats_twisted import NatsClient, errors
from pynats_twisted.jetstream.api import StreamState
from pynats_twisted.objectstore import ObjectInfo, ObjectStore, ObjectStoreConfig
from tests.support.jetstream import JetStreamTestCase

CHUNK = 128 * 1024


def bytes_of(size: int, seed: int = 1) -> bytes:
    """So many bytes, always the same, no two chunks alike."""
    return random.Random(seed).randbytes(size)


async def pieces_of(data: bytes, size: int = 50_000, at: Callable[[int], Any] | None = None) -> AsyncIterator[bytes]:
    """A source; ``at`` is called with the offset before each piece, and may return something to wait for."""
    for offset in range(0, len(data), size):
        waiting = None if at is None else at(offset)
        if waiting is not None:
            await waiting
        yield data[offset : offset + size]


class Moments:
    """Does things when a put or a get has come to certain offsets."""

    def __init__(self, *offsets: int, do: Any) -> None:
        self._offsets = list(offsets)
        self._do = do
        self.done: list[Deferred[Any]] = []

    def __call__(self, offset: int) -> None:
        while self._offsets and offset >= self._offsets[0]:
            self._offsets.pop(0)
            self.done.append(Deferred.fromCoroutine(self._do()))

    async def over(self) -> int:
        """How many were done."""
        for each in self.done:
            await each
        return len(self.done)


class ObjectTestCase(JetStreamTestCase):
    """A test with an object store."""

    async def object_store(self, nc: NatsClient, bucket: str = "b", **options: Any) -> ObjectStore:
        return await nc.jetstream(timeout=5.0).create_object_store(ObjectStoreConfig(bucket=bucket, **options))

    async def error_of(self, waiting: Deferred[Any], kind: type[Exception]) -> Any:
        """The error, of this kind, with which it fails."""
        return await self.assertFailure(waiting, kind)

    async def state(self, store: ObjectStore) -> StreamState:
        return (await store.stream.info(">")).state

    async def assert_stored(self, store: ObjectStore, info: ObjectInfo, data: bytes) -> None:
        """The chunks of an object are in the stream: all, in order, and nothing else but what is known of it."""
        self.assertEqual(info.size, len(data))
        expected = ({f"$O.{store.bucket}.C.{info.nuid}": info.chunks}, hashlib.sha256(data).hexdigest())
        deadline = self.reactor.seconds() + 30.0
        while (found := await self._chunks(store)) != expected and self.reactor.seconds() < deadline:
            # Those of an object that was replaced may go a moment later, where servers were killed meanwhile.
            await self.sleep(0.2)
        self.assertEqual(found, expected)

    async def _chunks(self, store: ObjectStore) -> tuple[dict[str, int], str]:
        """How many chunks each object has, and the digest of all of them, as the server that leads the store has them."""
        counts: dict[str, int] = {}
        digest = hashlib.sha256()
        seq = 1
        while True:
            try:
                msg = await store.stream.get_next_msg(seq, f"$O.{store.bucket}.C.>", direct=False)
            except errors.MessageNotFoundError:
                return counts, digest.hexdigest()
            counts[msg.subject] = counts.get(msg.subject, 0) + 1
            digest.update(msg.data)
            seq = msg.seq + 1

    async def assert_no_chunks(self, store: ObjectStore) -> None:
        """Soon, no chunk is left in the store."""
        deadline = self.reactor.seconds() + 30.0
        while True:
            subjects = (await self.state(store)).subjects
            left = [subject for subject in subjects if ".C." in subject]
            if not left:
                return
            if self.reactor.seconds() > deadline:
                self.fail(f"there are still chunks of {left}")
            await self.sleep(0.05)

    async def assert_no_consumers(self, store: ObjectStore) -> None:
        deadline = self.reactor.seconds() + 30.0
        while (await self.state(store)).consumer_count:
            if self.reactor.seconds() > deadline:
                self.fail("there are still consumers")
            await self.sleep(0.05)
