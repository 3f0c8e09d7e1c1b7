"""One pull: so many messages, or what there is of them in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..client.status import Closed, Connected, Disconnected, Reconnected, ServerErrorEvent, StatusEvent
from ..errors import (
    ConnectionClosedError,
    ConsumerNotFoundError,
    DisconnectedError,
    JetStreamUnavailableError,
    NatsError,
    NoHeartbeatError,
    PermissionsViolationError,
    PullRefusedError,
    StreamNotFoundError,
)
from .api import REQUIRED_LEVEL_HEADER, ConsumerInfo, encode
from .message import JsMsg
from .pull_options import GroupOptions
from .pull_session import deleted
from .pull_statuses import PIN_ID, TERMINAL, PullStatus, StatusKind, read_status

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from ..client.subscription import Subscription
    from ..protocol.message import Msg
    from .pull_consumer import PullConsumer

# How much longer than the server is given to end the pull it is waited for that to be heard.
_GRACE = 1.0
# Heartbeats are looked for so often in the time that they take.
_TICKS = 8
# After a change of the leader it is asked again, if there is still as much time as this.
_RETRY_WAIT = 0.25
_SHORTEST = 0.01


class Fetch:
    """One fetch: its pull, its inbox and its deadline. It ends by :meth:`_finish`, in every case.

    As long as nothing has come, it asks again after a change of the leader or a loss of the connection, for the time that is left. What has
    come when something goes wrong is the result.
    """

    _log = Logger()

    def __init__(
        self,
        consumer: PullConsumer,
        batch: int,
        *,
        max_bytes: int,
        expires: float,
        heartbeat: float,
        no_wait: bool,
        group: GroupOptions,
    ) -> None:
        self._consumer = consumer
        self._js = consumer.js
        self._client = consumer.js.client
        self._batch = batch
        self._max_bytes = max_bytes
        self._heartbeat = heartbeat
        self._no_wait = no_wait
        self._group = group
        self._subject = consumer.js.prefix.consumer_next(consumer.stream_name, consumer.name)
        level = consumer.js.check_level(group.request)
        self._headers = {REQUIRED_LEVEL_HEADER: str(level)} if level else None
        now = self._client.reactor.seconds()
        self._expires_at = now + expires
        self._deadline_at = now + (consumer.js.timeout if no_wait else expires + _GRACE)
        self._heard = now
        self._msgs: list[JsMsg] = []
        self._bytes = 0
        self._inbox = ""
        self._token = 0
        self._subscription: Subscription | None = None
        # Whether the server may have the pull still.
        self._is_open = False
        self._over = False
        self._timers: dict[str, IDelayedCall] = {}
        self._checking: Deferred[None] | None = None
        self._result: Deferred[list[JsMsg]] = Deferred(self._cancelled)

    def start(self) -> Deferred[list[JsMsg]]:
        """Ask, now or when there is a connection."""
        client = self._client
        # Raises here what makes it impossible from the start.
        self._listen()
        client.add_listener(self._client_event)
        self._later("deadline", self._deadline_at - client.reactor.seconds(), self._late)
        if self._heartbeat:
            self._later("watch", self._heartbeat / _TICKS, self._watch)
        if client.is_connected:
            self._ask()
        return self._result

    # --- asking ----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """A new inbox for each connection: so a pull of an earlier one is void at the server."""
        self._inbox = self._client.new_inbox()
        self._subscription = self._client.subscribe(self._inbox + ".*", self._received)

    def _ask(self) -> None:
        now = self._client.reactor.seconds()
        left = self._expires_at - now
        if self._over or self._is_open or not self._client.is_connected:
            return
        if left < _SHORTEST and not self._no_wait:
            # The deadline tells the rest.
            return
        self._heard = now
        self._token += 1
        pin = self._consumer.pins.get(self._group.group, "") if self._group.group else ""
        request = self._group.ask(
            batch=self._batch,
            max_bytes=self._max_bytes,
            expires=0.0 if self._no_wait else left,
            heartbeat=self._heartbeat if 2 * self._heartbeat <= left else 0.0,
            pin=pin,
            no_wait=self._no_wait,
        )
        try:
            if self._subscription is None:
                self._listen()
            self._client.publish(self._subject, encode(request), f"{self._inbox}.{self._token}", self._headers)
        except NatsError as error:
            self._fail(error)
            return
        self._is_open = True

    # --- answers ---------------------------------------------------------------------------------------------

    def _received(self, msg: Msg) -> None:
        if not msg.reply:
            if msg.subject == f"{self._inbox}.{self._token}":
                self._heard = self._client.reactor.seconds()
                self._status(read_status(msg.status, msg.status_text, msg.headers))
            return
        if self._over:
            self._give_back(JsMsg(msg, self._js))
            return
        self._heard = self._client.reactor.seconds()
        if self._group.group and msg.raw_headers and (pin := msg.headers.get(PIN_ID)):
            self._consumer.pins[self._group.group] = pin
        self._msgs.append(JsMsg(msg, self._js))
        self._bytes += msg.size
        # A server ends a pull whose bytes are used up to the last one, and does not say so.
        if len(self._msgs) >= self._batch or 0 < self._max_bytes <= self._bytes:
            self._is_open = False
            self._finish()

    def _status(self, status: PullStatus) -> None:
        kind = status.kind
        if kind is StatusKind.HEARTBEAT or self._over:
            return
        self._is_open = False
        if kind is StatusKind.WRONG_PIN:
            self._consumer.pins.pop(self._group.group, None)
        if self._msgs or kind is StatusKind.ENDED:
            self._finish()
        elif kind in TERMINAL:
            self._fail(status.error(self._consumer.name))
        elif kind is StatusKind.WRONG_PIN:
            self._ask()
        elif kind is StatusKind.MOVED:
            self._later("retry", _RETRY_WAIT, self._ask)
        elif kind is StatusKind.NO_RESPONDERS:
            self._check_consumer()
        else:
            # The next message does not fit, too many pulls wait, or something that is not known.
            self._fail(PullRefusedError(self._consumer.name, status.code, status.text))

    def _check_consumer(self) -> None:
        """Nobody takes pulls: find out why."""
        if self._checking is None:
            checking = self._checking = Deferred.fromCoroutine(self._ask_for_info())
            checking.addErrback(self._check_failed)

    async def _ask_for_info(self) -> None:
        consumer = self._consumer
        left = max(_SHORTEST, self._deadline_at - self._client.reactor.seconds())
        subject = self._js.prefix.consumer_info(consumer.stream_name, consumer.name)
        error: NatsError
        try:
            await self._js.call(ConsumerInfo, subject, timeout=min(left, self._js.timeout))
        except (ConsumerNotFoundError, StreamNotFoundError) as missing:
            error = deleted(consumer, missing)
        except NatsError as other:
            error = other
        else:
            error = JetStreamUnavailableError(503, 0, f"nobody takes pulls for consumer {consumer.name!r} at the moment")
        self._fail(error)

    def _check_failed(self, failure: Failure) -> None:
        if not self._over:
            self._end().errback(failure)

    # --- time, and the connection ----------------------------------------------------------------------------

    def _later(self, name: str, seconds: float, call: Any) -> None:
        def due() -> None:
            del self._timers[name]
            call()

        if name not in self._timers and not self._over:
            self._timers[name] = self._client.reactor.callLater(max(0.0, seconds), due)

    def _watch(self) -> None:
        if self._is_open and self._client.reactor.seconds() - self._heard >= 2 * self._heartbeat:
            self._fail_late(f"nothing came from consumer {self._consumer.name!r} for {2 * self._heartbeat:g} s")
        else:
            self._later("watch", self._heartbeat / _TICKS, self._watch)

    def _late(self) -> None:
        self._fail_late(f"consumer {self._consumer.name!r} did not answer a pull in its time")

    def _fail_late(self, text: str) -> None:
        if self._client.is_connected:
            self._fail(NoHeartbeatError(text))
        else:
            self._fail(DisconnectedError(f"{text}: there is no connection"))

    def _client_event(self, event: StatusEvent) -> None:
        if isinstance(event, Disconnected):
            self._is_open = False
            if self._msgs:
                self._finish()
                return
            subscription, self._subscription = self._subscription, None
            if subscription is not None:
                if self._client.is_connected:
                    # It moved to another server: what is under way to the old inbox is given back.
                    self._leave(subscription)
                else:
                    subscription.unsubscribe()
        elif isinstance(event, (Reconnected, Connected)):
            self._ask()
        elif isinstance(event, Closed):
            error = event.error if isinstance(event.error, NatsError) else ConnectionClosedError("the client was closed during a fetch")
            self._fail(error)
        elif isinstance(event, ServerErrorEvent) and isinstance(event.error, PermissionsViolationError):
            error = event.error
            if error.subject == (self._inbox + ".*" if error.operation == "subscription" else self._subject):
                self._fail(error)

    # --- the end ---------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        if not self._over:
            msgs = self._msgs
            self._end().callback(msgs)

    def _fail(self, error: NatsError) -> None:
        """Something went wrong: what has come is the result all the same, because it waits for its acks."""
        if self._over:
            return
        if self._msgs:
            self._finish()
        else:
            self._end().errback(error)

    def _cancelled(self, _: Deferred[list[JsMsg]]) -> None:
        if not self._over:
            self._end()
            for msg in self._msgs:
                self._give_back(msg)

    def _end(self) -> Deferred[list[JsMsg]]:
        """Leave nothing behind."""
        self._over = True
        self._client.remove_listener(self._client_event)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        checking, self._checking = self._checking, None
        if checking is not None:
            checking.addErrback(lambda failure: None)
            checking.cancel()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            if self._is_open and self._client.is_connected:
                self._leave(subscription)
            else:
                subscription.unsubscribe()
        return self._result

    def _leave(self, subscription: Subscription) -> None:
        """What still comes is given back, until the server has heard that nothing is wanted."""
        subscription.drain().addErrback(lambda failure: failure.trap(NatsError) and None)

    def _give_back(self, msg: JsMsg) -> None:
        try:
            msg.nak()
        except NatsError as error:
            self._log.debug("A message could not be given back: {error}", error=error)
