"""Fast ingest (ADR-50): many messages into one stream, with few acks, as fast as the server wants them."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..client.status import Closed, Disconnected, ServerErrorEvent
from ..errors import (
    BatchClosedError,
    ConnectionClosedError,
    FastIngestDisconnectedError,
    InvalidArgumentError,
    JetStreamConfigError,
    NatsError,
    OutboundBufferFullError,
    PermissionsViolationError,
    SubscriptionClosedError,
    TooManyRequestsError,
)
from .api import BatchFlowError, BatchFlowGap
from .batch import Expectations, batch_headers
from .checks import check_timeout, is_whole
from .deferred import deferred
from .flow import IngestFlow

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall
    from typing_extensions import Self, Unpack

    from ..client.status import StatusEvent
    from ..client.subscription import Subscription
    from ..protocol.encoder import Payload
    from ..protocol.headers import HeadersLike
    from ..protocol.message import Msg
    from .api import PubAck
    from .context import JetStreamContext

Gap = Literal["fail", "ok"]
ProblemHandler = Callable[[BatchFlowGap | BatchFlowError], object]

API_LEVEL = 4

_MAX_FLOW = 65_535
_MAX_WAITING = 4096


class FastIngest:
    """Messages that are stored one by one, as they come: what :meth:`.JetStreamContext.fast_ingest` returns.

    For streams with ``allow_batched``, on servers from 2.14 on. All subjects belong to one stream::

        async with js.fast_ingest() as ingest:
            for reading in readings:
                await ingest.add("sensors.7", reading)
        print(ingest.pub_ack.count)

    ``await`` holds the sender back when it is ahead of the server. The end of the block waits until everything is stored; after an
    exception in it, what was sent stays sent. A batch is kept alive, however slowly messages come; without ``async with``, end it with
    :meth:`commit` or :meth:`abandon`.

    Where messages can be lost, or be refused, ``gap`` decides. With ``"fail"`` the first gap, or the first refused message, ends the batch:
    what is stored has no gap. With ``"ok"`` the batch goes on, and ``on_problem`` is told.

    The batch needs one connection. When that is lost it ends with :class:`~pynats_twisted.errors.FastIngestDisconnectedError`.

    :ivar id: what the server calls the batch.
    """

    log = Logger()

    def __init__(
        self,
        js: JetStreamContext,
        *,
        gap: Gap = "fail",
        flow: int = 100,
        outstanding: int = 2,
        timeout: float | None = None,
        on_problem: ProblemHandler | None = None,
    ) -> None:
        if gap not in ("fail", "ok"):
            raise JetStreamConfigError("gap", gap, "must be 'fail' or 'ok'")
        if not is_whole(flow, 1) or flow > _MAX_FLOW:
            raise JetStreamConfigError("flow", flow, f"must be a whole number from 1 to {_MAX_FLOW}")
        if outstanding not in (1, 2, 3) or isinstance(outstanding, bool):
            raise JetStreamConfigError("outstanding", outstanding, "must be 1, 2 or 3")
        if on_problem is not None and not callable(on_problem):
            raise JetStreamConfigError("on_problem", on_problem, "must be callable")
        self._js = js
        self._client = js.client
        self._seconds: Callable[[], float] = js.client.reactor.seconds
        self._inbox = js.client.new_inbox()
        self.id = self._inbox.rpartition(".")[2]
        seconds = js.timeout if timeout is None else check_timeout("timeout", timeout)
        self._flow = IngestFlow(self._inbox, flow=flow, outstanding=outstanding, gap_ok=gap == "ok", timeout=seconds)
        self._on_problem = on_problem
        self._subscription: Subscription | None = None
        self._call: IDelayedCall | None = None
        # Those who wait for room, and those who wait for the end.
        self._waiting: deque[Deferred[None]] = deque()
        self._closing: deque[Deferred[None]] = deque()
        self._abandoned = False

    def __repr__(self) -> str:
        flow = self._flow
        state = "open" if flow.is_open else "ending" if not flow.done else "failed" if flow.error else "done"
        return f"<FastIngest {self.id}, {flow.sent} sent, {flow.acked} acked, {state}>"

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def sent(self) -> int:
        """Messages that were sent."""
        return self._flow.last

    @property
    def acked(self) -> int:
        """The server had everything up to this message, counted from 1; with ``gap="fail"`` all of that is stored."""
        return self._flow.acked

    @property
    def lost(self) -> int:
        """Messages that did not reach the stream, as far as the server noticed."""
        return self._flow.lost

    @property
    def refused(self) -> int:
        """Messages that the server refused."""
        return self._flow.refused

    @property
    def pub_ack(self) -> PubAck | None:
        """The final ack, of a batch that failed too when it came. Its ``count`` is the last message that counts, its ``seq`` that one's."""
        return self._flow.pub_ack

    @property
    def error(self) -> NatsError | None:
        """What ended the batch before its time, or None."""
        return self._flow.error

    # --- what users call -------------------------------------------------------------------------------------

    def add(
        self, subject: str, payload: Payload = b"", headers: HeadersLike | None = None, **expectations: Unpack[Expectations]
    ) -> Awaitable[None]:
        """Send a message. The keywords are those of :meth:`.JetStreamContext.publish`.

        Await the result: it is there when another message may be sent. The first one is there when the server has accepted the batch.

        :raises FastIngestGapError: messages were lost, with ``gap="fail"``.
        :raises JetStreamApiError: the server refused the batch, or, with ``gap="fail"``, a message.
        :raises NoStreamResponseError: no stream has the subject of the first message.
        :raises FastIngestTimeoutError: the server held the batch up for ``timeout`` seconds.
        :raises FastIngestDisconnectedError: the connection was lost.
        :raises FastIngestError: the server ended the batch.
        :raises BatchClosedError: the batch was closed.
        :raises JetStreamApiLevelError: the server is too old.
        :raises TooManyRequestsError: more than 4,096 messages wait, because nobody awaited them.

        What :meth:`~pynats_twisted.NatsClient.publish` raises is raised here too, and the batch goes on.
        """
        flow = self._flow
        if flow.has_room and not self._waiting and not headers and not expectations:
            written = self._publish(subject, payload, None)
            if flow.has_room:
                return written
            return self._written(written)
        self._check_open()
        made = batch_headers(headers, expectations) if headers or expectations else None
        return self._in_turn(subject, payload, made)

    @deferred
    async def commit(
        self,
        subject: str | None = None,
        payload: Payload = b"",
        headers: HeadersLike | None = None,
        **expectations: Unpack[Expectations],
    ) -> PubAck:
        """Send a last message where a subject is given, and wait until everything is stored.

        :raises InvalidArgumentError: there is no message.

        What :meth:`add` raises is raised here too. After an error, :attr:`acked` and :attr:`pub_ack` say how far the server had come.
        """
        self._check_open()
        if subject is None and (payload or headers or expectations):
            raise InvalidArgumentError("commit has a payload, headers or expectations, and no subject")
        made = batch_headers(headers, expectations) if headers or expectations else None
        if self._waiting or not self._flow.has_room:
            await self._turn()
        if subject is not None:
            await self._publish(subject, payload, made, last=True)
        elif self._flow.sent:
            self._end()
        else:
            raise InvalidArgumentError("a batch without messages cannot be committed")
        return await self._finished()

    def abandon(self) -> None:
        """End the batch without waiting. What was sent may be stored or not."""
        flow = self._flow
        if flow.done:
            return
        if flow.is_open and flow.sent and self._client.is_connected:
            # So that the server need not keep a place for it.
            self._end()
        self._abandoned = True
        flow.fail(BatchClosedError("the batch was abandoned"))
        self._update()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        flow = self._flow
        if error is not None:
            self.abandon()
        elif self._abandoned or (flow.done and flow.error is None):
            return
        elif flow.closing:
            await self._finished()
        elif flow.sent or not flow.is_open:
            await self.commit()
        else:
            self.abandon()

    # --- sending ---------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        flow = self._flow
        if flow.error is not None:
            raise flow.error.with_traceback(None)
        if flow.closing:
            raise BatchClosedError("the batch was committed")

    @deferred
    async def _in_turn(self, subject: str, payload: Payload, headers: HeadersLike | None) -> None:
        if self._waiting or not self._flow.has_room:
            await self._turn()
        await self._written(self._publish(subject, payload, headers))

    @deferred
    async def _written(self, written: Awaitable[None]) -> None:
        """A message was sent. Wait until there is room for another one."""
        await written
        flow = self._flow
        if flow.error is not None:
            raise flow.error.with_traceback(None)
        if not flow.done and not flow.has_room:
            await self._turn()

    def _turn(self) -> Deferred[None]:
        if len(self._waiting) >= _MAX_WAITING:
            raise TooManyRequestsError(f"{_MAX_WAITING} messages wait for the server: await what add returns")
        return _wait_in(self._waiting)

    def _publish(self, subject: str, payload: Payload, headers: HeadersLike | None, *, last: bool = False) -> Awaitable[None]:
        self._check_open()
        if self._subscription is None:
            self._begin()
        if not self._client.is_connected:
            self._lose(None)
            self._check_open()
        flow = self._flow
        # Where this raises, nothing was sent, and the sequence is still free.
        written = self._client.publish(subject, payload, flow.next_commit() if last else flow.next_append(), headers)
        (flow.committed if last else flow.appended)(subject, self._seconds())
        self._set_timer()
        return written

    def _begin(self) -> None:
        self._js.check_feature("fast ingest", API_LEVEL)
        inbox = self._subscription = self._client.subscribe(f"{self._inbox}.>", self._received)
        # Denied at once, or taken away later.
        inbox.confirmed().addErrback(lambda failure: self._denied(failure.value))
        inbox.when_closed().addCallback(lambda _: self._denied(inbox.error))
        self._client.add_listener(self._happened)

    def _end(self) -> None:
        flow = self._flow
        self._client.publish(flow.subject, b"", flow.next_end())
        flow.ended(self._seconds())
        self._set_timer()

    async def _finished(self) -> PubAck:
        if not self._flow.done:
            await _wait_in(self._closing)
        if self._flow.error is not None:
            raise self._flow.error.with_traceback(None)
        assert self._flow.pub_ack is not None
        return self._flow.pub_ack

    # --- what happens ----------------------------------------------------------------------------------------

    def _received(self, msg: Msg) -> None:
        now = self._seconds()
        problem = self._flow.received(msg.subject, msg.data, msg.status, now)
        if problem is not None and self._on_problem is not None:
            try:
                self._on_problem(problem)
            except Exception:  # noqa: BLE001 - the user's code; it is logged
                self.log.failure("on_problem of {ingest!r} failed on {problem!r}", ingest=self, problem=problem)
        if self._flow.due <= now:
            self._tick()
        self._update()

    def _happened(self, event: StatusEvent) -> None:
        if isinstance(event, (Disconnected, Closed)):
            self._lose(event.error)
        elif isinstance(event, ServerErrorEvent) and isinstance(event.error, PermissionsViolationError):
            subject = event.error.subject
            if event.error.operation != "subscription" and (subject == self._flow.subject or subject.startswith(self._inbox + ".")):
                self._flow.fail(event.error)
                self._update()

    def _denied(self, error: BaseException | None) -> None:
        if isinstance(error, ConnectionClosedError):
            self._lose(error)
        elif isinstance(error, NatsError) and not isinstance(error, SubscriptionClosedError):
            self._flow.fail(error)
            self._update()

    def _lose(self, why: BaseException | None) -> None:
        text = f"the connection was lost: {why}" if why is not None else "there is no connection"
        lost = FastIngestDisconnectedError(text, self._flow.acked, self._flow.last)
        lost.__cause__ = why
        self._flow.fail(lost)
        self._update()

    def _update(self) -> None:
        """Tell those who wait."""
        flow = self._flow
        if flow.done:
            self._release()
            while self._waiting:
                # Where all went well, those of them who have sent their messages are content, and the others find the batch closed.
                waiter = self._waiting.popleft()
                waiter.callback(None) if flow.error is None else waiter.errback(flow.error)
            while self._closing:
                self._closing.popleft().callback(None)
            return
        while self._waiting and flow.has_room:
            self._waiting.popleft().callback(None)

    def _release(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._subscription is not None:
            # With nobody listening, the server saves itself what it still had to say.
            self._subscription.unsubscribe()
            self._client.remove_listener(self._happened)

    # --- time ------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        # A timer that is too early sets itself anew.
        if self._call is None and not self._flow.done and self._flow.sent:
            due = max(0.0, self._flow.due - self._seconds())
            self._call = self._client.reactor.callLater(due, self._tick)

    def _tick(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        flow = self._flow
        if flow.tick(self._seconds()) and self._client.is_connected:
            try:
                self._client.publish(flow.subject, b"", flow.ping())
            except OutboundBufferFullError as error:
                # So much is on its way that a ping is not what is missing; there is another one later.
                self.log.debug("{ingest!r} sent no ping: {error}", ingest=self, error=error)
        if flow.done:
            self._update()
        else:
            self._set_timer()


def _wait_in(queue: deque[Deferred[None]]) -> Deferred[None]:
    waiter: Deferred[None] = Deferred(queue.remove)
    queue.append(waiter)
    return waiter
