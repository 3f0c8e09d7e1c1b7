"""The objects of a store: watched, and listed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred

from ..jetstream.api import DeliverPolicy
from ..jetstream.deferred import deferred
from ..jetstream.subject_watch import SubjectWatch
from ..jetstream.watcher import Watcher
from .info import ObjectInfo
from .metas import info_of_delivered
from .names import all_metas

if TYPE_CHECKING:
    from ..jetstream.context import JetStreamContext
    from ..jetstream.message import JsMsg


class ObjectWatcher(Watcher[ObjectInfo]):
    """Changes of the objects of a store: :meth:`~pynats_twisted.objectstore.store.ObjectStore.watch` returns it.

    Who takes an info that cannot be read gets a :class:`~pynats_twisted.errors.JetStreamDecodeError`, and may go on behind it.
    """

    def __init__(
        self, js: JetStreamContext, stream_name: str, bucket: str, *, ignore_deletes: bool = False, updates_only: bool = False
    ) -> None:
        # A store keeps one message for each object: all are the last ones. A consumer that is to find these out costs the server more, and
        # servers up to 2.15 lose a message of it where a pull comes to the end of its bytes.
        policy = DeliverPolicy.NEW if updates_only else DeliverPolicy.ALL
        watch = SubjectWatch(js, stream_name, [all_metas(bucket)], deliver_policy=policy)
        super().__init__(watch, partial(_read, bucket, ignore_deletes))


def _read(bucket: str, ignore_deletes: bool, msg: JsMsg) -> ObjectInfo | None:
    info = info_of_delivered(msg, bucket)
    return None if ignore_deletes and info.deleted else info


class ObjectListing(AsyncIterator[ObjectInfo]):
    """The objects that a store has: ``async for`` hands out one after the other, each once; ``await``, or :meth:`collect`, gives the rest
    as a list. Who leaves the loop before its end calls :meth:`stop`, or uses ``async with``.

    An object that is changed meanwhile comes as it was before or after.

    Every way of reading raises :class:`~pynats_twisted.errors.JetStreamDecodeError` for an info that cannot be read, and a loop may go on
    behind it; :class:`~pynats_twisted.errors.SubscriptionClosedError` when the client was closed before the end; and
    :class:`~pynats_twisted.errors.StreamNotFoundError` when the store was deleted.
    """

    def __init__(self, js: JetStreamContext, stream_name: str, bucket: str, *, show_deleted: bool = False) -> None:
        self._watcher = ObjectWatcher(js, stream_name, bucket)
        self._show_deleted = show_deleted
        self._seen: set[str] = set()
        self._is_over = False

    def __aiter__(self) -> ObjectListing:
        return self

    async def __anext__(self) -> ObjectInfo:
        while not self._is_over:
            try:
                info = await self._watcher.next()
            except CancelledError:
                self.stop()
                raise
            if info is None:
                await self.stop()
            elif info.name not in self._seen:
                self._seen.add(info.name)
                if self._show_deleted or not info.deleted:
                    return info
        raise StopAsyncIteration

    def __await__(self) -> Generator[Deferred[Any], Any, list[ObjectInfo]]:
        return self.collect().__await__()

    @deferred
    async def collect(self) -> list[ObjectInfo]:
        """All that was not handed out yet. Then it is over, also when this fails or is cancelled."""
        async with self:
            return [info async for info in self]

    def stop(self) -> Deferred[None]:
        """Hand out nothing more. Fires when nothing of it is left at the server."""
        self._is_over = True
        return self._watcher.stop()

    async def __aenter__(self) -> ObjectListing:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await self.stop()
