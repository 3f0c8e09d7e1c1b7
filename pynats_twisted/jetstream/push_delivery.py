"""Messages that a push consumer sends by itself: flow control, heartbeats, and who gets them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..client.waiting import OneShot
from ..errors import ConnectionClosedError, ConsumerDeletedError, ConsumerNotFoundError, NatsError, StreamNotFoundError
from .message import ACK_PREFIX, JsMsg
from .pull_session import ConsumeWarning
from .push_flow import FlowControl

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from ..client.backlog import Overflow
    from ..client.delivery import Handler
    from ..client.subscription import Subscription
    from ..protocol.message import Msg
    from .push_consumer import PushConsumer

WarningListener = Callable[[ConsumeWarning], Any]

_STALLED = "Nats-Consumer-Stalled"
# Silence is noticed so many times sooner than the next heartbeat would be due.
_TICKS = 4
# A server that has just begun may not know of a consumer yet that it is about to have.
_NOT_FOUND_TIMES = 2


class PushDelivery:
    """Listening to a push consumer until it is stopped: the base of :class:`PushContext` and :class:`PushMessages`.

    A loss of the connection does not end it. The end of the consumer does, where the consumer has heartbeats: without them, nothing
    tells of it.

    :ivar consumer: which one.
    :ivar error: what ended it, or None.
    """

    _log = Logger()

    def __init__(self, consumer: PushConsumer, listener: WarningListener | None) -> None:
        self.consumer = consumer
        self.error: NatsError | None = None
        self._js = consumer.js
        self._client = consumer.js.client
        self._listener = listener
        self._flow = FlowControl()
        self._subscription: Subscription | None = None
        self._done = OneShot()
        # Heartbeats of a queue group go to one of its members only: their absence says nothing.
        self._heartbeat = 0.0 if consumer.config.deliver_group else consumer.config.idle_heartbeat
        self._heard = 0.0
        self._seen = (0, 0)
        self._missing = 0
        self._watch: IDelayedCall | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of consumer {self.consumer.name!r} {'done' if self._done.done else 'open'}, {self.pending} waiting>"

    @property
    def pending(self) -> int:
        """Messages, and words of the server's, that have come and wait to be handed out."""
        return self._subscription.pending_msgs if self._subscription is not None else 0

    @property
    def done(self) -> Deferred[None]:
        """A new Deferred that fires when it has ended: everything was handed out and handled, and the acks have left.

        It fails with what ended it, where that was an error: :class:`~pynats_twisted.errors.ConsumerDeletedError`, a denied
        permission, the overflow policy ``"error"``, the end of the client.
        """
        return self._done.wait()

    def ready(self) -> Deferred[None]:
        """Fires when the server has the subscription: from then on the consumer sends.

        :raises PermissionsViolationError: the client may not listen there.
        """
        assert self._subscription is not None
        return self._subscription.confirmed().addCallback(lambda _: None)

    def stop(self) -> None:
        """Hand out nothing more. What waits is dropped; where the consumer wants acks, the server sends it again after ``ack_wait``.

        Handlers that are running go on to their end.
        """
        if self._subscription is not None:
            self._subscription.unsubscribe()

    def drain(self, timeout: float | None = None) -> Deferred[None]:
        """End it without losing a message: what the server sent already is still handed out and handled.

        Fires when everything was handled and the acks have left.

        :param timeout: seconds; the client's option ``drain_timeout`` (30) by default.
        :raises DrainTimeoutError: it took longer; what waited was dropped.

        What :attr:`done` fails with is raised here too.
        """
        assert self._subscription is not None
        return self._subscription.drain(timeout).addCallback(lambda _: self.done)

    # --- beginning and ending --------------------------------------------------------------------------------

    def _begin(
        self, handler: Handler | None, concurrency: int, pending_msgs: int | None, pending_bytes: int | None, overflow: Overflow
    ) -> None:
        config = self.consumer.config
        subscription = self._subscription = self._client.subscribe(
            config.deliver_subject,
            handler,
            config.deliver_group or None,
            concurrency=concurrency,
            pending_msgs=pending_msgs,
            pending_bytes=pending_bytes,
            overflow=overflow,
        )
        subscription.when_closed().addCallback(lambda _: self._closed(subscription))
        if self._heartbeat:
            self._heard = self._client.reactor.seconds()
            self._look_later()

    def _closed(self, subscription: Subscription) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        error = self.error or subscription.error
        if isinstance(error, ConnectionClosedError) and self._client.closed_on_purpose:
            error = None
        self.error = error
        if error is None and self._client.is_connected:
            # The acks leave before it is told.
            self._client.flush().addBoth(lambda _: self._done.happen())
        elif error is None:
            self._done.happen()
        else:
            if not self._done.waited_for and not self._is_told():
                self._log.error("Listening to consumer {name!r} has ended: {error!r}", name=self.consumer.name, error=error)
            self._done.fail(error)

    def _is_told(self) -> bool:
        """The user hears of the error in another way."""
        return False

    def _end_with(self, error: NatsError) -> None:
        self.error = error
        self.stop()

    # --- what the server says beside messages ----------------------------------------------------------------

    def _status(self, msg: Msg) -> None:
        """Flow control, or a heartbeat."""
        if msg.status != 100:
            return
        # A heartbeat has no reply subject; when the server stalls, it says where it waits for the answer that got lost.
        reply = msg.reply or msg.headers.get(_STALLED)
        if reply:
            self._answer(self._flow.ask(reply))

    def _answer(self, replies: list[str]) -> None:
        for reply in replies:
            try:
                self._client.publish(reply)
            except NatsError as error:
                # The server stalls, and asks again with its next heartbeat.
                self._log.debug("Flow control of {name!r} was not answered: {error}", name=self.consumer.name, error=error)

    def _has_ended(self, number: int) -> None:
        """A message is done."""
        due = self._flow.end(number)
        if due:
            self._answer(due)

    # --- silence ---------------------------------------------------------------------------------------------

    def _look_later(self) -> None:
        self._watch = self._client.reactor.callLater(self._heartbeat / _TICKS, self._look)

    def _look(self) -> None:
        self._watch = None
        assert self._subscription is not None
        now = self._client.reactor.seconds()
        # What came counts, handled or not; and after a reconnect it begins anew.
        seen = (self._subscription.delivered, self._client.counters.reconnects)
        if seen != self._seen or not self._client.is_connected:
            self._seen = seen
            self._heard = now
            self._missing = 0
        elif now - self._heard >= 2 * self._heartbeat:
            self._heard = now
            self._warn("heartbeat-missed", f"nothing came for {2 * self._heartbeat:g} s, not even a heartbeat")
            Deferred.fromCoroutine(self._find())
        if self._subscription.closed:
            return
        self._look_later()

    async def _find(self) -> None:
        """Is the consumer still there?"""
        consumer = self.consumer
        try:
            info = await consumer.info()
        except (ConsumerNotFoundError, StreamNotFoundError):
            self._missing += 1
            if self._missing >= _NOT_FOUND_TIMES:
                self._end_with(ConsumerDeletedError(f"consumer {consumer.name!r} was deleted"))
            else:
                # Asked again at the next look.
                self._heard -= 2 * self._heartbeat
        except NatsError as error:
            self._log.debug("Could not ask for consumer {name!r}: {error}", name=consumer.name, error=error)
        else:
            assert self._subscription is not None
            if info.config.deliver_subject != self._subscription.subject:
                text = f"consumer {consumer.name!r} delivers to {info.config.deliver_subject!r} now, not to {self._subscription.subject!r}"
                self._end_with(ConsumerDeletedError(text))

    def _warn(self, kind: Any, text: str) -> None:
        self._log.info("Consumer {name!r}: {text}", name=self.consumer.name, text=text)
        if self._listener is not None:
            try:
                self._listener(ConsumeWarning(kind, text))
            except Exception:  # noqa: BLE001 - the user's code; it is logged
                self._log.failure("A listener for warnings of consumer {name!r} failed", name=self.consumer.name)


class PushContext(PushDelivery):
    """Messages of a push consumer that go to a handler, until :meth:`stop`, :meth:`drain` or the end of the consumer."""

    def __init__(
        self,
        consumer: PushConsumer,
        handler: Callable[[JsMsg], Any],
        listener: WarningListener | None,
        *,
        concurrency: int,
        pending_msgs: int | None,
        pending_bytes: int | None,
        overflow: Overflow,
    ) -> None:
        super().__init__(consumer, listener)
        self._handler = handler
        self._begin(self._received, concurrency, pending_msgs, pending_bytes, overflow)

    @property
    def active_handlers(self) -> int:
        """Handlers that are running."""
        return self._flow.running

    def _received(self, msg: Msg) -> Any:
        """Handle one message. The subscription waits for the result, and tells what goes wrong."""
        if not msg.reply.startswith(ACK_PREFIX) and msg.status is not None:
            self._status(msg)
            return None
        number = self._flow.begin()
        try:
            result = self._handler(JsMsg(msg, self._js))
        except BaseException:
            self._has_ended(number)
            raise
        if isinstance(result, Deferred):
            return result.addBoth(self._over, number)
        if isinstance(result, Coroutine):
            return self._run(result, number)
        self._has_ended(number)
        return None

    def _over(self, result: Any, number: int) -> Any:
        self._has_ended(number)
        return result

    async def _run(self, running: Coroutine[Any, Any, Any], number: int) -> None:
        try:
            await running
        finally:
            self._has_ended(number)


class PushMessages(PushDelivery, AsyncIterator[JsMsg]):
    """Messages of a push consumer for ``async for``, until :meth:`stop`, :meth:`drain` or the end of the consumer.

    A message counts as handled when the next one is asked for. Leaving the loop does not end it: use ``async with``, or call
    :meth:`stop`. The iteration raises what ended it, once: see :attr:`done`.
    """

    def __init__(
        self,
        consumer: PushConsumer,
        listener: WarningListener | None,
        *,
        pending_msgs: int | None,
        pending_bytes: int | None,
        overflow: Overflow,
    ) -> None:
        super().__init__(consumer, listener)
        self._handed_out = 0
        self._is_error_told = False
        self._begin(None, 1, pending_msgs, pending_bytes, overflow)

    async def __aenter__(self) -> PushMessages:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.stop()
        if self.error is None:
            await self.done

    def __aiter__(self) -> PushMessages:
        return self

    async def __anext__(self) -> JsMsg:
        assert self._subscription is not None
        if self._handed_out:
            self._has_ended(self._handed_out)
            self._handed_out = 0
        while True:
            try:
                msg = await self._subscription.__anext__()
            except StopAsyncIteration:
                if self.error is None or self._is_error_told:
                    raise
                self._is_error_told = True
                raise self.error from None
            except NatsError:
                self._is_error_told = True
                raise
            if msg.reply.startswith(ACK_PREFIX) or msg.status is None:
                self._handed_out = self._flow.begin()
                return JsMsg(msg, self._js)
            self._status(msg)

    def _is_told(self) -> bool:
        return True
