"""Reading an object bit by bit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, succeed

from ..errors import InvalidArgumentError, ObjectDigestError, ObjectIncompleteError, ObjectStoppedError
from ..jetstream.deferred import deferred
from .digests import digest_text, read_digest
from .places import TRIES, are_to_come

if TYPE_CHECKING:
    from .info import ObjectInfo
    from .places import Place
    from .store import ObjectStore


class ObjectReader(AsyncIterator[bytes]):
    """The bytes of an object, or of a part of it, for ``async for``: in pieces of the size of its chunks. ``store.open()`` makes one.

    Some chunks are read ahead; nothing more comes while nothing is taken. Lost connections and restarted servers are survived: it
    waits until there is a connection again, and goes on where it was.

    Where the whole object is read, its size, the number of its chunks and its digest are checked: the last piece is handed out only if all
    is right. Of a part only the size is checked.

    One piece or :meth:`read` at a time is to be asked for. When whoever waits for one is cancelled, the reader is stopped.

    :ivar info: what is known of the object; of the one that a link leads to, where it was opened by a link.
    """

    def __init__(self, store: ObjectStore, info: ObjectInfo, place: Place | None, offset: int, length: int, digest: Any = None) -> None:
        self._store = store
        self.info = info
        # Bytes that are still to come from chunks, and what came and was not handed out.
        self._coming = length
        self._rest = b""
        # A hash of all that comes before; None when it is not to be checked.
        self._digest = digest
        self._is_checked = False
        self._is_stopped = False
        # Of the next chunk; when there is no place, nothing comes any more.
        self._index = info.chunks if place is None else place.index
        self._skip = 0 if place is None else place.skip
        self._position = offset - self._skip
        self._data = None if place is None else place.data
        self._consumer = None if place is None else place.consumer
        self._messages = None if self._consumer is None else self._consumer.messages(until_drained=True)
        self._tries = TRIES
        self._cleaned: Deferred[None] | None = None

    def __repr__(self) -> str:
        return f"<ObjectReader of {self.info.name!r}, {self.left} bytes left>"

    @property
    def left(self) -> int:
        """Bytes that were not handed out yet."""
        return self._coming + len(self._rest)

    # --- taking ----------------------------------------------------------------------------------------------

    def __aiter__(self) -> ObjectReader:
        return self

    async def __anext__(self) -> bytes:
        piece, self._rest = self._rest, b""
        while not piece:
            if not self._coming:
                await self._end()
                raise StopAsyncIteration
            piece = await self._next()
        return piece

    @deferred
    async def read(self, n: int = -1) -> bytes:
        """The next ``n`` bytes, or all that are left: ``b""`` at the end. Raises what the iteration raises:

        :raises ObjectIncompleteError: the object has fewer or more bytes or chunks than it should.
        :raises ObjectDigestError: these are not the bytes that were put.
        :raises ObjectStoppedError: :meth:`stop` was called.

        What an :class:`~pynats_twisted.jetstream.OrderedConsumer` raises is raised here too, for example when the store was deleted.
        """
        if not isinstance(n, int) or isinstance(n, bool):
            raise InvalidArgumentError(f"n={n!r} is not a number of bytes")
        wanted = self.left if n < 0 else min(n, self.left)
        pieces: list[bytes] = []
        while wanted:
            piece, self._rest = self._rest or await self._next(), b""
            piece, self._rest = piece[:wanted], piece[wanted:]
            wanted -= len(piece)
            pieces.append(piece)
        if not self.left:
            await self._end()
        return b"".join(pieces)

    async def _next(self) -> bytes:
        """What the next chunk has."""
        data = await self._chunk()
        info = self.info
        if data is None:
            raise self._incomplete()
        self._index += 1
        self._position += len(data)
        if self._index > info.chunks or self._position > info.size:
            raise self._incomplete()
        piece = data[self._skip : self._skip + self._coming] if self._skip or len(data) > self._coming else data
        self._skip = 0
        self._coming -= len(piece)
        if self._digest is not None:
            self._digest.update(piece)
        if not self._coming:
            self._check()
            self._clean()
        return piece

    async def _chunk(self) -> bytes | None:
        if self._is_stopped:
            raise ObjectStoppedError(f"the reading of object {self.info.name!r} was stopped, {self.left} bytes before its end")
        data, self._data = self._data, None
        if data is not None or self._messages is None:
            return data
        try:
            msg = await anext(self._messages, None)
        except CancelledError:
            self.stop()
            raise
        if msg is not None:
            return msg.data
        if self._is_stopped or await self._look_again():
            return await self._chunk()
        return None

    async def _look_again(self) -> bool:
        """The server that we read from has no more chunks. Does another one have them?"""
        assert self._consumer is not None
        self._tries -= 1
        if self._tries < 0:
            return False
        try:
            is_to_come = await are_to_come(self._store, self.info)
        except CancelledError:
            self.stop()
            raise
        if is_to_come and not self._is_stopped:
            self._messages = self._consumer.messages(until_drained=True)
        return is_to_come or self._is_stopped

    async def _end(self) -> None:
        if not self._is_checked:
            # Of nothing, too.
            self._check()
        await self._clean()

    # --- checking --------------------------------------------------------------------------------------------

    def _check(self) -> None:
        self._is_checked = True
        info = self.info
        if self._digest is None:
            return
        if self._index != info.chunks or self._position != info.size:
            raise self._incomplete()
        if not info.digest:
            return
        actual = self._digest.digest()
        try:
            is_right = read_digest(info.digest) == actual
        except ValueError as error:
            raise ObjectDigestError(info.name, f"object {info.name!r}: {error}", info.digest, digest_text(actual)) from None
        if not is_right:
            text = f"object {info.name!r} has the digest {digest_text(actual)}, it should have {info.digest}"
            raise ObjectDigestError(info.name, text, info.digest, digest_text(actual))

    def _incomplete(self) -> ObjectIncompleteError:
        info = self.info
        have = f"{self._position} bytes in {self._index} chunks"
        text = f"object {info.name!r} of store {info.bucket!r} has {have}, it should have {info.size} in {info.chunks}"
        return ObjectIncompleteError(info.name, text)

    # --- ending ----------------------------------------------------------------------------------------------

    def stop(self) -> Deferred[None]:
        """Read no more. Fires when the server has forgotten what it knew of the reading, and does not fail. Once all was read that is done
        by itself."""
        self._is_stopped = True
        return self._clean()

    def _clean(self) -> Deferred[None]:
        if self._cleaned is None:
            self._cleaned = succeed(None) if self._messages is None else self._messages.stop()
        waiter: Deferred[None] = Deferred()
        self._cleaned.addBoth(_tell, waiter)
        return waiter

    async def __aenter__(self) -> ObjectReader:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await self.stop()


def _tell(result: Any, waiter: Deferred[None]) -> Any:
    if not waiter.called:
        waiter.callback(None)
    return result
