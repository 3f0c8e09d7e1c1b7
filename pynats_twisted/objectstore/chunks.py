"""Writing the chunks of one object: many at once, and in their order all the same."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from ..errors import (
    DisconnectedError,
    ExpectationNotReadyError,
    JetStreamNotEnabledError,
    JetStreamTooManyRequestsError,
    JetStreamUnavailableError,
    MessageDeleteError,
    MessageNotFoundError,
    NatsTimeoutError,
    NoStreamResponseError,
    ObjectOrderError,
    ObjectStoreError,
    ObjectTimeoutError,
    OutboundBufferFullError,
    PublishDisconnectedError,
    WrongLastSequenceError,
)
from .background import pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from ..jetstream.api import PubAck
    from ..jetstream.context import JetStreamContext
    from ..jetstream.stream import Stream

_T = TypeVar("_T")

PASSING = (
    DisconnectedError,
    ExpectationNotReadyError,
    JetStreamNotEnabledError,
    JetStreamTooManyRequestsError,
    JetStreamUnavailableError,
    NatsTimeoutError,
    NoStreamResponseError,
    ObjectOrderError,
    OutboundBufferFullError,
    PublishDisconnectedError,
    WrongLastSequenceError,
)
"""Errors after which one may go on where one was."""

_PAUSE = 0.25
# What the header of an expectation needs, generously.
_HEADERS = 256


class _Chunk:
    """A chunk that is not known to be stored in its place yet.

    :ivar publish: its publish that waits for an ack; None when it is to be published, or has its ack.
    :ivar seq: its sequence, when it has an ack; it still waits for those before it.
    """

    __slots__ = ("data", "publish", "seq")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.publish: Deferred[PubAck] | None = None
        self.seq = 0


class ChunkWriter:
    """Publishes chunks to one subject that nobody else publishes to, with up to ``window`` bytes of them on their way.

    Each chunk is published once. Nothing is ever sent again by itself, neither by the context - the chunks have no message id, and no
    retries - nor by the client, whose buffer keeps the order: so as long as every ack comes, and has a larger sequence than the one before,
    the chunks are stored in their order.

    When an ack does not come - the connection was lost, a leader was elected, a server is slow - then nothing is known of that chunk and of
    those behind it. They stay here, all is stopped, and when the server answers again

    * a PING makes sure that it has got all that was sent to it;
    * the stream's leader is asked for what is stored behind the last chunk that is certain: where that is what had to come next, byte for
      byte, it counts as written; the rest is deleted;
    * the next chunk is published alone, on the condition that the one before it is still the last. So one that was under way somewhere all
      the time makes it fail, and all is done again.

    Were one to come still later than that, there would be one too many: they are counted at the end, and then the object fails.

    :param window: bytes that are on their way at most; one chunk may be larger.
    :param timeout: seconds without progress after which it fails, a lost connection included.
    :ivar stored: how many chunks are known to be stored; :ivar size: their bytes.
    :ivar recoveries: how often it had to find out what is stored.
    """

    _log = Logger()

    def __init__(self, js: JetStreamContext, stream: Stream, subject: str, *, window: int, timeout: float) -> None:
        self._js = js
        self._client = js.client
        self._reactor = js.client.reactor
        self._stream = stream
        self._subject = subject
        self._window = window
        self._timeout = timeout
        self._chunks: deque[_Chunk] = deque()
        self._in_flight = 0
        self._last_seq = 0
        # Sequences of copies that are not where they belong, before the last one that is.
        self._misplaced: list[int] = []
        self._trouble: BaseException | None = None
        # When it is given up, once there was trouble; progress puts it off.
        self._give_up_at: float | None = None
        self._changed: Deferred[None] | None = None
        self.stored = 0
        self.size = 0
        self.recoveries = 0

    @property
    def in_flight(self) -> int:
        """Bytes that are kept here until they are known to be stored."""
        return self._in_flight

    # --- writing ---------------------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        """Write a chunk; returns as soon as there is room for it.

        :raises ObjectTimeoutError: for too long nothing was stored.

        Raises what the server refuses a chunk with, and what there is no going on after.
        """
        while self._chunks and (self._in_flight + len(data) > self._window or self._trouble is not None):
            await self._wait()
        chunk = _Chunk(data)
        self._chunks.append(chunk)
        self._in_flight += len(data)
        self._publish(chunk)

    async def finish(self) -> None:
        """Wait until all chunks are stored. Raises as :meth:`write`, and

        :raises ObjectOrderError: there are others among them.
        """
        while self._chunks:
            await self._wait()
        if self.recoveries:
            info = await self._persist(lambda: self._stream.info(self._subject))
            found = info.state.subjects.get(self._subject, 0)
            if found != self.stored:
                raise ObjectOrderError(f"{self.stored} chunks were stored on {self._subject!r}, and the stream has {found}")

    def stop(self) -> None:
        """Nothing more is waited for. What was published may be stored all the same."""
        chunks, self._chunks = self._chunks, deque()
        self._in_flight = 0
        for chunk in chunks:
            self._forget(chunk)

    def _publish(self, chunk: _Chunk) -> None:
        try:
            # Without retries: one that was sent again would come behind those that were sent meanwhile.
            publish = self._js.publish(self._subject, chunk.data, retries=0, timeout=self._timeout + self._js.timeout)
        except OutboundBufferFullError as error:
            self._failed(error)
            return
        chunk.publish = publish
        publish.addCallbacks(self._acked, self._not_acked, callbackArgs=(chunk,), errbackArgs=(chunk,))

    # --- acks ------------------------------------------------------------------------------------------------

    def _acked(self, ack: PubAck, chunk: _Chunk) -> None:
        chunk.publish = None
        chunk.seq = ack.seq
        domain = self._js.prefix.domain
        if ack.stream != self._stream.name or (domain and ack.domain != domain):
            # Subjects pass between domains as they are.
            where = f"stream {ack.stream!r} of domain {ack.domain!r}"
            self._failed(ObjectStoreError(f"{where} stored a chunk that was meant for {self._stream.name!r} of domain {domain or ''!r}"))
            return
        chunks = self._chunks
        while chunks and chunks[0].seq:
            if chunks[0].seq <= self._last_seq:
                # It came before the one that it belongs behind: what is there has to be looked at.
                self._misplaced.append(chunks[0].seq)
                for each in chunks:
                    each.seq = 0
                self._failed(ObjectOrderError(f"a chunk has the sequence {self._misplaced[-1]}, the one before it {self._last_seq}"))
                return
            self._settled(chunks.popleft())
        self._wake()

    def _settled(self, chunk: _Chunk) -> None:
        self._last_seq = chunk.seq
        self._in_flight -= len(chunk.data)
        self.stored += 1
        self.size += len(chunk.data)
        self._give_up_at = None

    def _not_acked(self, failure: Failure, chunk: _Chunk) -> None:
        chunk.publish = None
        if not failure.check(CancelledError):
            self._failed(failure.value)

    def _failed(self, error: BaseException | None) -> None:
        if self._trouble is None or isinstance(self._trouble, PASSING):
            self._trouble = error
        self._wake()

    def _forget(self, chunk: _Chunk) -> None:
        publish, chunk.publish = chunk.publish, None
        if publish is not None:
            publish.cancel()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.called:
            self._changed.callback(None)

    async def _wait(self) -> None:
        """Wait for an ack, or do what is to be done because there is none."""
        if self._trouble is None:
            changed = self._changed = Deferred()
            changed.addTimeout(self._js.timeout, self._reactor, self._silent)
            try:
                await changed
            except NatsTimeoutError as error:
                self._failed(error)
            finally:
                self._changed = None
        if self._trouble is not None:
            await self._recover(self._trouble)

    def _silent(self, result: Any, seconds: float) -> NoReturn:
        raise NatsTimeoutError(f"no ack of a chunk came within {seconds:g} s")

    # --- when acks are missing -------------------------------------------------------------------------------

    async def _recover(self, trouble: BaseException) -> None:
        """Find out what is stored, and go on from there."""
        for chunk in self._chunks:
            self._forget(chunk)
            chunk.seq = 0
        if not isinstance(trouble, PASSING):
            raise trouble
        self.recoveries += 1
        self._log.debug("Chunks on {subject!r}: {error}", subject=self._subject, error=trouble)
        await self._persist(self._go_on, trouble)
        self._trouble = None
        for chunk in self._chunks:
            self._publish(chunk)
            if self._trouble is not None:
                # What comes behind it has to wait for it.
                break

    async def _persist(self, call: Callable[[], Any], trouble: BaseException | None = None) -> Any:
        """Do something with the server that may be done again, until it is done or the time is over."""
        while True:
            if self._give_up_at is None:
                self._give_up_at = self._reactor.seconds() + self._timeout
            try:
                await self._reach_server()
                return await self._in_time(call())
            except PASSING as error:
                trouble = error if trouble is None or not isinstance(error, NatsTimeoutError) else trouble
            if self._left() <= 0:
                raise ObjectTimeoutError(f"for {self._timeout:g} s nothing more was stored of an object: {trouble}") from trouble
            await pause(self._client, min(_PAUSE, self._left()))

    def _left(self) -> float:
        # Progress in between gives new time.
        return self._timeout if self._give_up_at is None else self._give_up_at - self._reactor.seconds()

    def _in_time(self, waiting: Deferred[_T]) -> Deferred[_T]:
        def on_timeout(result: Any, seconds: float) -> NoReturn:
            raise NatsTimeoutError("the server did not answer in time")

        return waiting.addTimeout(max(0.0, self._left()), self._reactor, on_timeout)

    async def _reach_server(self) -> None:
        """Be connected, and sure that the server has got everything that was sent before."""
        await self._in_time(self._client.when_connected())
        await self._in_time(self._client.ping())

    def _go_on(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._compare_and_publish())

    async def _compare_and_publish(self) -> None:
        chunks = self._chunks
        while self._misplaced:
            await self._delete(self._misplaced[0])
            self._misplaced.pop(0)
        seq = self._last_seq + 1
        is_certain = True
        while True:
            try:
                # The leader is asked: others may lag.
                found = await self._stream.get_next_msg(seq, self._subject, direct=False)
            except MessageNotFoundError:
                break
            seq = found.seq + 1
            is_certain = is_certain and bool(chunks) and chunks[0].data == found.data
            if is_certain:
                chunk = chunks.popleft()
                chunk.seq = found.seq
                self._settled(chunk)
            else:
                await self._delete(found.seq)
        if chunks:
            await self._publish_alone(chunks[0])

    async def _delete(self, seq: int) -> None:
        try:
            await self._stream.delete_msg(seq)
        except (MessageNotFoundError, MessageDeleteError):
            self._log.debug("Chunk {seq} is gone already", seq=seq)

    async def _publish_alone(self, chunk: _Chunk) -> None:
        limit = self._client.max_payload
        has_room = limit is None or len(chunk.data) + _HEADERS <= limit
        expected = self._last_seq if has_room else None
        ack = await self._js.publish(self._subject, chunk.data, retries=0, expected_last_subject_seq=expected)
        self._chunks.popleft()
        chunk.seq = ack.seq
        self._settled(chunk)
