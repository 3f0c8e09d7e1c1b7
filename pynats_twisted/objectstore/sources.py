"""Where the bytes of an object come from, and how they are cut into chunks."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from typing import Any, BinaryIO, Protocol, TypeAlias, runtime_checkable

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from zope.interface import implementer

from ..errors import InvalidArgumentError, ObjectSourceError

# Bytes that are read from a file at a time: what a disk needs for so many does not hold up a reactor noticeably.
READ_SIZE = 128 * 1024
# A producer that does not pause when it is told to may write so many bytes more before it is given up.
_MAX_UNASKED = 8 * 1024 * 1024


@runtime_checkable
class BodyProducer(Protocol):
    """What Twisted's ``IBodyProducer`` is; ``twisted.web.client.FileBodyProducer`` is one.

    :ivar length: the bytes that it will write, or ``twisted.web.iweb.UNKNOWN_LENGTH``.
    """

    length: Any

    def startProducing(self, consumer: Any) -> Deferred[None]:  # noqa: N802
        """Begin to write; fires when everything was written."""

    def pauseProducing(self) -> None:
        """Write no more for now."""

    def resumeProducing(self) -> None:
        """Go on."""

    def stopProducing(self) -> None:
        """Write no more. What :meth:`startProducing` returned does not fire then."""


Source: TypeAlias = bytes | bytearray | memoryview | os.PathLike[str] | BinaryIO | AsyncIterable[bytes] | BodyProducer
Piece: TypeAlias = bytes | bytearray | memoryview


class Pieces(Protocol):
    """A source that was opened.

    :ivar length: the bytes that it is going to have, where it says so itself.
    """

    length: int | None

    async def next(self) -> Piece | None:
        """The next bytes, or None at the end."""

    def close(self) -> Deferred[None]:
        """Nothing more is wanted of it, also before its end."""


def open_source(source: Source) -> Pieces:
    """Begin with a source.

    :raises InvalidArgumentError: it is of no kind that can be read.
    :raises OSError: the file cannot be opened.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _Bytes(source)
    if isinstance(source, os.PathLike):
        return _File(open(source, "rb"), is_ours=True)
    if isinstance(source, BodyProducer):
        return _Produced(source)
    if isinstance(source, AsyncIterable):
        return _Iterated(source)
    if hasattr(source, "read"):
        return _File(source, is_ours=False)
    kinds = "bytes, a path (an os.PathLike), a binary file, an asynchronous iterable of bytes or a body producer"
    if isinstance(source, str):
        raise InvalidArgumentError(f"the source of an object is {kinds}; of a str give pathlib.Path(…) or str.encode()")
    raise InvalidArgumentError(f"the source of an object is {kinds}, not a {type(source).__name__}")


async def cut(pieces: Pieces, size: int) -> AsyncIterator[bytes]:
    """Everything that a source has, in chunks of this size; only the last one may be smaller.

    :raises ObjectSourceError: it gave what is not bytes, or not as many as it said.
    """
    waiting: deque[memoryview] = deque()
    have = total = 0
    while (piece := await pieces.next()) is not None:
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise ObjectSourceError(f"the source gave a {type(piece).__name__}, not bytes")
        if isinstance(piece, bytes) and not have and len(piece) == size:
            total += size
            yield piece
            continue
        view = memoryview(piece).cast("B") if len(piece) else memoryview(b"")
        have += len(view)
        total += len(view)
        waiting.append(view)
        while have >= size:
            have -= size
            yield _take(waiting, size)
        if waiting and not isinstance(piece, bytes):
            # Whoever gave it may use it for something else.
            waiting[-1] = memoryview(bytes(waiting[-1]))
    if pieces.length is not None and total != pieces.length:
        raise ObjectSourceError(f"the source said that it has {pieces.length} bytes, and gave {total}")
    if have:
        yield _take(waiting, have)


def _take(waiting: deque[memoryview], size: int) -> bytes:
    taken = []
    while size:
        view = waiting.popleft()
        if len(view) > size:
            waiting.appendleft(view[size:])
            view = view[:size]
        taken.append(view)
        size -= len(view)
    return b"".join(taken)


class _Bytes:
    """Bytes that are there."""

    def __init__(self, data: Piece) -> None:
        view = memoryview(data)
        if not view.contiguous:
            raise InvalidArgumentError("the source of an object is a memoryview that is not contiguous")
        self._data: Piece | None = data
        self.length: int | None = view.nbytes

    async def next(self) -> Piece | None:
        data, self._data = self._data, None
        return data

    def close(self) -> Deferred[None]:
        self._data = None
        return succeed(None)


class _File:
    """A file, which is read a bit at a time when more is needed.

    :param is_ours: it is closed at the end.
    """

    length: int | None = None

    def __init__(self, file: BinaryIO, is_ours: bool) -> None:
        self._file = file
        self._is_ours = is_ours

    async def next(self) -> Piece | None:
        data = self._file.read(READ_SIZE)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ObjectSourceError(f"the file gave a {type(data).__name__}, not bytes: it has to be a binary one that blocks")
        return data or None

    def close(self) -> Deferred[None]:
        if self._is_ours:
            self._file.close()
        return succeed(None)


class _Iterated:
    """An asynchronous iterable."""

    length: int | None = None

    def __init__(self, source: AsyncIterable[bytes]) -> None:
        self._iterator = source.__aiter__()

    async def next(self) -> Piece | None:
        try:
            return await self._iterator.__anext__()
        except StopAsyncIteration:
            return None

    def close(self) -> Deferred[None]:
        # An asynchronous generator may have something to clean up.
        aclose = getattr(self._iterator, "aclose", None)
        return succeed(None) if aclose is None else Deferred.fromCoroutine(_wait(aclose()))


async def _wait(closing: Awaitable[None]) -> None:
    await closing


@implementer(IConsumer)
class _Produced:
    """A body producer. It is paused while what it wrote is not taken."""

    def __init__(self, producer: BodyProducer) -> None:
        self._producer = producer
        length = getattr(producer, "length", None)
        self.length = length if isinstance(length, int) and not isinstance(length, bool) else None
        self._written: deque[bytes] = deque()
        self._size = 0
        self._is_started = self._is_over = self._is_paused = False
        self._failure: Failure | None = None
        self._taker: Deferred[None] | None = None

    # --- our side --------------------------------------------------------------------------------------------

    async def next(self) -> Piece | None:
        while not self._written:
            if self._failure is not None:
                self._failure.raiseException()
            if self._is_over:
                return None
            # Before it is let go on: it may write at once.
            taker = self._taker = Deferred()
            self._go_on()
            try:
                await taker
            finally:
                self._taker = None
        piece = self._written.popleft()
        self._size -= len(piece)
        return piece

    def _go_on(self) -> None:
        if not self._is_started:
            self._is_started = True
            maybeDeferred(self._producer.startProducing, self).addBoth(self._ended)
        elif self._is_paused:
            self._is_paused = False
            self._producer.resumeProducing()

    def _ended(self, result: Any) -> None:
        if not self._is_over:
            self._is_over = True
            self._failure = result if isinstance(result, Failure) else None
            self._wake()

    def _wake(self) -> None:
        if self._taker is not None and not self._taker.called:
            self._taker.callback(None)

    def close(self) -> Deferred[None]:
        if self._is_started and not self._is_over:
            self._is_over = True
            self._producer.stopProducing()
        self._written.clear()
        return succeed(None)

    # --- IConsumer: the producer's side ----------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        """Nothing to do: the body producer itself is what is paused."""

    def unregisterProducer(self) -> None:  # noqa: N802
        """Nothing to do: the end is told by what ``startProducing`` returned."""

    def write(self, data: bytes) -> None:
        if self._is_over:
            return
        if self._size + len(data) > _MAX_UNASKED and self._written:
            self._producer.stopProducing()
            text = f"the producer wrote {self._size + len(data)} bytes, {_MAX_UNASKED} or fewer are allowed after it was told to pause"
            self._ended(Failure(ObjectSourceError(text)))
            return
        self._written.append(bytes(data))
        self._size += len(data)
        if not self._is_paused and self._size >= READ_SIZE:
            self._is_paused = True
            self._producer.pauseProducing()
        self._wake()
