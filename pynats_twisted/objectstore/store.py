"""An object store: the handle that users hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgumentError
from ..jetstream.deferred import deferred
from .changes import add_link, delete_object, put_link, update_meta
from .files import get_file
from .get import get_bytes, get_to, open_object
from .info import ObjectInfo, ObjectLink, ObjectMeta
from .metas import not_found, read_meta
from .put import WINDOW, put_object
from .status import ObjectStoreStatus
from .watch import ObjectListing, ObjectWatcher

if TYPE_CHECKING:
    import os

    from twisted.internet.defer import Deferred

    from ..jetstream.context import JetStreamContext
    from ..jetstream.stream import Stream
    from .reader import ObjectReader
    from .sources import Source


class ObjectStore:
    """An object store. :meth:`JetStreamContext.object_store() <pynats_twisted.jetstream.context.JetStreamContext.object_store>` and the
    methods that make one return it.

    All methods raise :class:`~pynats_twisted.errors.StreamNotFoundError` when it was deleted, and what
    :meth:`~pynats_twisted.jetstream.context.JetStreamContext.call` raises. Those that change something raise what
    :meth:`~pynats_twisted.jetstream.context.JetStreamContext.publish` raises, too. They read what there is, and store the change only if
    nobody else was faster; if somebody was they begin again, up to 8 times, and then raise
    :class:`~pynats_twisted.errors.ObjectChangedError`.

    :ivar js: through which it is asked.
    :ivar bucket: its name.
    :ivar stream: the stream that it is.
    """

    def __init__(self, js: JetStreamContext, bucket: str, stream: Stream) -> None:
        self.js = js
        self.bucket = bucket
        self.stream = stream

    def __repr__(self) -> str:
        return f"<ObjectStore {self.bucket!r}>"

    # --- what there is ---------------------------------------------------------------------------------------

    @deferred
    async def info(self, name: str, *, show_deleted: bool = False) -> ObjectInfo:
        """What there is to know of an object, or of a link: of the link itself, not of what it leads to.

        In a cluster, any server that has the store answers, perhaps one that lags a little. Where that one knows of no such object, the one
        that leads the store is asked.

        :param show_deleted: also of one that was deleted.
        :raises ObjectNotFoundError: there is none of this name, or it was deleted.
        :raises InvalidArgumentError: the name breaks a rule.
        :raises JetStreamDecodeError: what the store keeps of it cannot be read.
        """
        info = await read_meta(self.stream, self.bucket, name)
        if info is None:
            # It may have been put a moment ago.
            info = await read_meta(self.stream, self.bucket, name, fresh=True)
        if info is None or (info.deleted and not show_deleted):
            raise not_found(self.bucket, name, info)
        return info

    def list(self, *, show_deleted: bool = False) -> ObjectListing:
        """The infos of all objects and links, for ``async for`` or ``await``. In a cluster they are those of one server, which may lag a
        little.

        :param show_deleted: also of those that were deleted.
        """
        return ObjectListing(self.js, self.stream.name, self.bucket, show_deleted=show_deleted)

    def watch(self, *, ignore_deletes: bool = False, updates_only: bool = False) -> ObjectWatcher:
        """The infos of all objects and links that there are, then None once, then each one that is put, changed or deleted:
        ``async with store.watch() as changes``, ``async for info in changes``.

        It goes on over lost connections and restarted servers. Of an object that was renamed only the new name comes.

        :param ignore_deletes: not those that were or are deleted.
        :param updates_only: only what is new; None comes at once.
        """
        return ObjectWatcher(self.js, self.stream.name, self.bucket, ignore_deletes=ignore_deletes, updates_only=updates_only)

    @deferred
    async def status(self) -> ObjectStoreStatus:
        """What there is to know of the store itself."""
        return ObjectStoreStatus(await self.stream.info())

    # --- bytes -----------------------------------------------------------------------------------------------

    def put(self, meta: str | ObjectMeta, source: Source, *, window: int = WINDOW, timeout: float | None = None) -> Deferred[ObjectInfo]:
        """Store an object under a name, in the place of one that may be there.

        Readers find the object that was there until everything is stored. What a put that failed or was cancelled has stored is removed:
        before the error is told when the server answers, else when there is a connection again, within five minutes. One that is cancelled
        in its very last step, when all chunks are stored, is done all the same.

        A file is read in the reactor's thread, 128 KiB at a time.

        :param meta: the name of the object, or more of what there is to say of it. Its ``max_chunk_size`` is 128 KiB by default, or the
            server's ``max_payload`` when that is less.
        :param source: what it is made of: bytes, which are not to be changed meanwhile; the path of a file (an ``os.PathLike``); a binary
            file that is open, which is read from where it stands and stays open; an asynchronous iterable of bytes; or an
            ``IBodyProducer``, which is paused when the server is slower.
        :param window: bytes that are on their way to the server at most; so many are kept in memory.
        :param timeout: seconds without progress after which it fails, 30 by default; for so long a lost connection may last. A source
            may take any time.
        :raises InvalidArgumentError: a value breaks a rule. Nothing was sent.
        :raises ObjectLinkError: ``meta`` says that it is a link: links are made by ``add_link`` and ``add_bucket_link``.
        :raises ObjectSourceError: the source gave no bytes, or not as many as it said.
        :raises ObjectTimeoutError: for too long nothing was stored.
        :raises ObjectOrderError: the chunks were not stored in their order, and this could not be mended.
        :raises StreamStoreError: the store is full.
        :raises ObjectChangedError: others change the same object all the time.

        What the source raises is raised here, too.
        """
        return put_object(self, meta, source, window=window, timeout=timeout)

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> Deferred[bytes]:
        """An object, or a part of it, as bytes. All of it is in memory then: for large ones there are :meth:`get_file`, :meth:`get_to` and
        :meth:`open`.

        There is no time limit of its own: as long as the client has no connection, it waits. Use ``addTimeout``. When the object is
        replaced meanwhile, it is begun anew with the new one.

        :param name: of the object, or of a link to one.
        :param offset: the first byte that is wanted.
        :param length: how many are wanted; all from there on by default, and where there are fewer.
        :raises ObjectNotFoundError: there is no such object.
        :raises ObjectLinkError: the name is that of a link that leads to no object.
        :raises InvalidArgumentError: a value breaks a rule, or the object ends before the offset.
        :raises ObjectIncompleteError: the object has fewer or more bytes or chunks than it should.
        :raises ObjectDigestError: these are not the bytes that were put; of a part, that is not checked.
        """
        return get_bytes(self, name, offset=offset, length=length)

    def get_file(self, name: str, path: str | os.PathLike[str], *, resume: bool = True) -> Deferred[ObjectInfo]:
        """Write an object to a file.

        The bytes go to a file beside it, whose name has some letters for the object and ends in ``.part``. When all of them are there and
        the digest is right, it takes the place of ``path``: nobody sees a part of the object under that name.

        When it fails or is cancelled, or the program dies, the part stays, and the next call goes on behind it: what is there is read again
        for the digest, in the reactor's thread, 256 KiB a turn. A part with other bytes than the object's is found out at the end, and then
        all is read anew.

        :param path: in a directory that there is. A file that is there is replaced.
        :param resume: False begins at the first byte whatever there is, and leaves nothing behind when it fails.
        :returns: what there is to know of the object.
        :raises OSError: a file cannot be written.

        Else as :meth:`get`.
        """
        return get_file(self, name, path, resume=resume)

    def get_to(self, name: str, consumer: Any, *, offset: int = 0, length: int | None = None) -> Deferred[ObjectInfo]:
        """Write an object, or a part of it, to an ``IConsumer``, for example a transport or a request of ``twisted.web``.

        It is registered there as a streaming producer, and so can be paused: then nothing more comes from the server, either. At the end,
        also after an error, it is unregistered; the consumer is not closed. Where the digest of a whole object is wrong, its last chunk is
        not written.

        :returns: what there is to know of the object.
        :raises ObjectStoppedError: the consumer wants no more: it called ``stopProducing``.

        Else as :meth:`get`, but it is never begun anew.
        """
        return get_to(self, name, consumer, offset=offset, length=length)

    def open(self, name: str, *, offset: int = 0, length: int | None = None) -> Deferred[ObjectReader]:
        """Read an object, or a part of it, bit by bit: ``async with await store.open(name) as reader``.

        To begin somewhere in the middle of a large object costs one or two requests more, where its chunks have one size and were stored
        one behind the other, as is the rule; else the sizes of those before are asked for.

        The parameters are those of :meth:`get`. What is wrong with the bytes the reader raises.
        """
        return open_object(self, name, offset=offset, length=length)

    # --- changes ---------------------------------------------------------------------------------------------

    @deferred
    async def update_meta(self, name: str, meta: ObjectMeta) -> ObjectInfo:
        """Describe an object or a link anew: with the name, description, headers and metadata of ``meta``, all four.

        ``dataclasses.replace((await store.info(name)).meta, description="…")`` changes one of them alone. With another name the object is
        renamed: first it is stored under the new name, then the old name is removed. What others change in between is noticed, and the
        renaming begins again. When it is interrupted both names lead to the same bytes; do the same again, or update only the one that is
        to stay. Links to the old name lead nowhere then.

        :returns: what there is now.
        :raises ObjectNotFoundError: there is none of this name, or it was deleted.
        :raises ObjectExistsError: there is another object or link of the new name.
        :raises InvalidArgumentError: a name breaks a rule, or ``meta`` has another ``max_chunk_size`` or ``link`` than the object.
        """
        return await update_meta(self.js, self.stream, self.bucket, name, meta)

    @deferred
    async def delete(self, name: str) -> None:
        """Delete an object or a link. A sign stays that there was one; deleting it again does nothing.

        When it fails after that sign was stored, some of the bytes may be left in the store: deleting it again removes them.

        :raises ObjectNotFoundError: there never was one of this name.
        :raises InvalidArgumentError: the name breaks a rule.
        """
        await delete_object(self.js, self.stream, self.bucket, name)

    # --- links -----------------------------------------------------------------------------------------------

    @deferred
    async def add_link(self, name: str, target: ObjectInfo) -> ObjectInfo:
        """Make a link to an object of this store or of another one. A link of this name is replaced.

        Whether the object is still there is not asked.

        :returns: what there is to know of the link.
        :raises ObjectLinkError: the target was deleted, or is a link itself.
        :raises ObjectExistsError: there is an object of this name.
        :raises InvalidArgumentError: the name breaks a rule.
        """
        return await add_link(self.js, self.stream, self.bucket, name, target)

    @deferred
    async def add_bucket_link(self, name: str, store: ObjectStore) -> ObjectInfo:
        """Make a link to a whole store, which can be read by its :attr:`~pynats_twisted.objectstore.info.ObjectInfo.link` and not be got.

        :raises ObjectExistsError: :raises InvalidArgumentError: as :meth:`add_link`.
        """
        if not isinstance(store, ObjectStore):
            raise InvalidArgumentError(f"store is a {type(store).__name__}, not an ObjectStore")
        return await put_link(self.js, self.stream, self.bucket, name, ObjectLink(bucket=store.bucket))

    # --- the store -------------------------------------------------------------------------------------------

    @deferred
    async def seal(self) -> ObjectStoreStatus:
        """Let nothing be changed in the store any more, for good; it can only be deleted as a whole. Sealing it again does nothing.

        Objects are kept for ever then, also where they had a ``ttl``.
        """
        info = await self.stream.info()
        return ObjectStoreStatus(await self.stream.update(replace(info.config, sealed=True)))
