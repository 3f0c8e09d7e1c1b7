"""Atomic batches (ADR-50): several messages of one stream, all stored or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from twisted.internet.defer import CancelledError, Deferred

from ..client.status import Closed, Disconnected
from ..errors import (
    BatchClosedError,
    DisconnectedError,
    InvalidArgumentError,
    InvalidHeaderError,
    JetStreamApiLevelError,
    JetStreamConfigError,
    MaxPayloadExceededError,
    NoRespondersError,
    NoStreamResponseError,
)
from ..protocol.headers import Headers
from ..protocol.subjects import check_publish_subject, random_token
from .api import decode_pub_ack
from .checks import check_timeout, is_whole
from .deferred import deferred
from .expectations import EXPECTED_LAST_MSG_ID, EXPECTED_LAST_SEQ, publish_headers

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ..client.status import StatusEvent
    from ..protocol.encoder import Payload
    from ..protocol.headers import HeadersLike
    from ..protocol.message import Msg
    from .api import PubAck
    from .context import JetStreamContext
    from .expectations import Rollup, Ttl

BATCH_ID = "Nats-Batch-Id"
BATCH_SEQUENCE = "Nats-Batch-Sequence"
BATCH_COMMIT = "Nats-Batch-Commit"

API_LEVEL = 2


class Expectations(TypedDict, total=False):
    """What each message of a batch may ask of the stream; see :meth:`~pynats_twisted.jetstream.context.JetStreamContext.publish`."""

    msg_id: str | None
    expected_stream: str | None
    expected_last_seq: int | None
    expected_last_subject_seq: int | None
    expected_last_subject_seq_subject: str | None
    expected_last_msg_id: str | None
    ttl: Ttl | None
    rollup: Rollup | None


def batch_headers(headers: HeadersLike | None, expectations: Expectations) -> Headers:
    """The headers of a message of a batch, without those of the batch itself. What is passed is never changed.

    :raises InvalidHeaderError: they say something of a batch already.
    """
    made = publish_headers(headers, **expectations) or Headers()
    for name in (BATCH_ID, BATCH_SEQUENCE, BATCH_COMMIT):
        if made.get_all(name, ignore_case=True):
            raise InvalidHeaderError(f"the headers have {name}, which only the batch may set")
    return made


class _Message:
    """One that was added."""

    __slots__ = ("headers", "payload", "seq", "subject")

    def __init__(self, seq: int, subject: str, payload: bytes, headers: Headers) -> None:
        self.seq = seq
        self.subject = subject
        self.payload = payload
        self.headers = headers


class AtomicBatch:
    """Messages that are stored all together, next to each other, or not at all: what :meth:`.JetStreamContext.batch` returns.

    For streams with ``allow_atomic``, on servers from 2.12 on. All subjects belong to one stream::

        async with js.batch() as batch:
            await batch.add("orders.7.head", b"...")
            await batch.add("orders.7.line", b"...")
        print(batch.pub_ack.seq)

    The end of the block commits, and an exception in it discards: then nothing is stored. The server forgets a batch 10 seconds after
    its last message, so no more time than that may pass between two; it takes no more than 1,000 messages in a batch, and 50 open
    batches for a stream, unless it is set up otherwise.

    The last message that was added stays here until it is known whether it is the one that commits. So what the server has to say of
    a message comes with the next call. Expectations are checked when the batch is committed. A batch needs one connection
    from its first message to its last: when that is lost, nothing is stored.

    :ivar id: what the server calls it.
    :ivar pub_ack: the ack of the whole batch, None before it is committed. Its ``seq`` is that of the last message, the others come
        right before it; its ``count`` says how many there are.
    """

    def __init__(self, js: JetStreamContext, *, timeout: float | None = None, ack_first: bool = True, ack_every: int | None = None) -> None:
        if ack_every is not None and not is_whole(ack_every, 1):
            raise JetStreamConfigError("ack_every", ack_every, "must be a whole number of 1 or more, or None")
        self.id = random_token()
        self.pub_ack: PubAck | None = None
        self._js = js
        self._client = js.client
        self._timeout = js.timeout if timeout is None else check_timeout("timeout", timeout)
        self._ack_first = bool(ack_first)
        self._ack_every = ack_every
        self._size = 0
        self._held: _Message | None = None
        # Why nothing more is taken: what went wrong, or what was done.
        self._closed = ""
        self._error: BaseException | None = None
        self._listening = False
        self._asked: set[Deferred[Msg]] = set()
        self._lost: DisconnectedError | None = None

    def __repr__(self) -> str:
        return f"<AtomicBatch {self.id}, {self._size} messages, {self._closed or 'open'}>"

    @property
    def size(self) -> int:
        """Messages that were added so far."""
        return self._size

    # --- what users call -------------------------------------------------------------------------------------

    @deferred
    async def add(
        self, subject: str, payload: Payload = b"", headers: HeadersLike | None = None, **expectations: Unpack[Expectations]
    ) -> None:
        """Add a message. The keywords are those of :meth:`.JetStreamContext.publish`; ``expected_last_seq`` is for the first message
        only, and ``expected_last_msg_id`` for none.

        :raises InvalidArgumentError: a value cannot be sent. The message was not added; the batch goes on.
        :raises ConfigurationError: a value cannot be sent in a batch; likewise.
        :raises JetStreamApiError: the server refused the batch, for example an :class:`~pynats_twisted.errors.AtomicBatchError`.
        :raises JetStreamApiLevelError: the server is too old.
        :raises NoStreamResponseError: no stream has the subject.
        :raises RequestTimeoutError: :raises DisconnectedError: the server did not answer, the connection is lost.
        :raises BatchClosedError: the batch takes nothing more.

        After an error of the last four kinds the batch is over, and nothing of it is stored.
        """
        message = self._new(subject, payload, headers, expectations)
        held, self._held = self._held, message
        if held is not None:
            await self._send(held)

    @deferred
    async def commit(
        self,
        subject: str | None = None,
        payload: Payload = b"",
        headers: HeadersLike | None = None,
        **expectations: Unpack[Expectations],
    ) -> PubAck:
        """Add a last message where a subject is given, and store all.

        When the answer is lost (RequestTimeoutError, DisconnectedError), the batch may have been stored or not.

        :raises JetStreamApiError: nothing was stored: the server refused the batch, or an expectation does not hold.
        :raises InvalidArgumentError: there is no message.

        What :meth:`add` raises is raised here too.
        """
        if subject is not None:
            message = self._new(subject, payload, headers, expectations)
            held, self._held = self._held, message
        else:
            self._check_open()
            if payload or headers or expectations:
                raise InvalidArgumentError("commit has a payload, headers or expectations, and no subject")
            held = None
        last, self._held = self._held, None
        if last is None:
            raise InvalidArgumentError("a batch without messages cannot be committed")
        self._closed = "was committed"
        if held is not None:
            await self._send(held)
        return await self._commit(last)

    def discard(self) -> None:
        """Store nothing. The server is not told: it forgets the batch after 10 seconds."""
        if not self._closed:
            self._close("was discarded")

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self.discard()
        elif self._error is not None:
            # Whoever caught it must not take the batch for stored.
            self._check_open()
        elif not self._closed:
            if self._size:
                await self.commit()
            else:
                self._close("was left empty")

    # --- how it is sent --------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._lost is not None:
            raise self._lost.with_traceback(None)
        if self._closed:
            raise BatchClosedError(f"the batch {self._closed}") from self._error

    def _new(self, subject: str, payload: Payload, headers: HeadersLike | None, expectations: Expectations) -> _Message:
        """Check everything now: a message that is sent later must not fail then for what its caller did."""
        self._check_open()
        if not self._size:
            self._js.check_feature("an atomic batch", API_LEVEL)
        check_publish_subject(subject)
        made = batch_headers(headers, expectations)
        if EXPECTED_LAST_MSG_ID in made:
            raise JetStreamConfigError("expected_last_msg_id", made[EXPECTED_LAST_MSG_ID], "is not for messages of an atomic batch")
        if self._size and EXPECTED_LAST_SEQ in made:
            raise JetStreamConfigError("expected_last_seq", made[EXPECTED_LAST_SEQ], "is for the first message of an atomic batch only")
        if not isinstance(payload, (bytes, bytearray, memoryview)):
            raise InvalidArgumentError(f"payload is a {type(payload).__name__}, not bytes")
        data = bytes(payload)
        seq = self._size + 1
        made[BATCH_ID] = self.id
        made[BATCH_SEQUENCE] = str(seq)
        made[BATCH_COMMIT] = "1"
        limit = self._client.max_payload
        size = len(made.encode()) + len(data)
        if limit is not None and size > limit:
            raise MaxPayloadExceededError(size, limit)
        del made[BATCH_COMMIT]
        self._size = seq
        return _Message(seq, subject, data, made)

    async def _send(self, message: _Message) -> None:
        try:
            self._need_connection()
            if self._wants_ack(message.seq):
                reply = await self._ask(message)
                if reply.data:
                    decode_pub_ack(reply.data)
                    raise self._unknown_to_server()
            else:
                await self._client.publish(message.subject, message.payload, None, message.headers)
        except BaseException as error:
            self._failed(error)
            raise

    def _wants_ack(self, seq: int) -> bool:
        if seq == 1:
            return self._ack_first
        return self._ack_every is not None and seq % self._ack_every == 0

    async def _commit(self, message: _Message) -> PubAck:
        message.headers[BATCH_COMMIT] = "1"
        try:
            self._need_connection()
            ack = decode_pub_ack((await self._ask(message)).data)
            if ack.batch != self.id or ack.count != message.seq:
                raise self._unknown_to_server()
        except BaseException as error:
            self._failed(error)
            raise
        self.pub_ack = ack
        self._close("was committed")
        return ack

    def _failed(self, error: BaseException) -> None:
        # Once all is stored, an earlier answer that nobody waited for is of no interest.
        if self.pub_ack is None:
            self._error = self._error or error
            self._close(f"failed: {str(error) or type(error).__name__}")

    def _unknown_to_server(self) -> JetStreamApiLevelError:
        text = "the server does not know atomic batches (API level 2, server 2.12) and stored messages of it by themselves"
        return JetStreamApiLevelError(text, API_LEVEL)

    async def _ask(self, message: _Message) -> Msg:
        asked = self._client.request(message.subject, message.payload, message.headers, self._timeout)
        self._asked.add(asked)
        try:
            return await asked
        except NoRespondersError:
            raise NoStreamResponseError(message.subject) from None
        except CancelledError:
            if self._lost is not None:
                raise self._lost from None
            raise
        finally:
            self._asked.discard(asked)

    # --- the connection --------------------------------------------------------------------------------------

    def _need_connection(self) -> None:
        if self._lost is not None:
            raise self._lost.with_traceback(None)
        if self._error is not None:
            # Of a message before this one, that was not waited for.
            raise BatchClosedError(f"the batch {self._closed}") from self._error
        if not self._client.is_connected:
            raise DisconnectedError("there is no connection; an atomic batch needs one from its first message to its last")
        if not self._listening:
            self._listening = True
            self._client.add_listener(self._happened)

    def _happened(self, event: StatusEvent) -> None:
        if isinstance(event, (Disconnected, Closed)):
            end = "whether the batch was stored is not known" if self._closed else "nothing of the batch is stored"
            self._lost = DisconnectedError(f"the connection was lost, {end}")
            self._lost.__cause__ = event.error
            self._failed(self._lost)
            for asked in list(self._asked):
                asked.cancel()

    def _close(self, why: str) -> None:
        self._closed = why
        self._held = None
        if self._listening:
            self._listening = False
            self._client.remove_listener(self._happened)
