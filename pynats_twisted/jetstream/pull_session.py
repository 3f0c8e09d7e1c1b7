"""Pulling all the time: the subscription, the pulls and the clock of one consumption, over all reconnects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..client.status import Closed, Connected, Disconnected, Reconnected, ServerErrorEvent, StatusEvent
from ..errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConsumerDeletedError,
    ConsumerNotFoundError,
    DisconnectedError,
    JetStreamNotEnabledError,
    NatsError,
    PermissionsViolationError,
    RequestTimeoutError,
    StreamNotFoundError,
)
from .api import REQUIRED_LEVEL_HEADER, ConsumerInfo, encode
from .pull_options import GroupOptions
from .pull_statuses import PIN_ID, TERMINAL, StatusKind, read_status
from .pulls import Pull, PullPlan, Pulls

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from ..client.subscription import Subscription
    from ..protocol.message import Msg
    from .pull_consumer import PullConsumer

WarningKind = Literal[
    "heartbeat-missed", "moved", "no-responders", "busy", "message-too-large", "wrong-pin", "unknown-status", "pull-not-sent", "overrun"
]

_PROBE_TIMEOUT = 1.0
_FIRST_PROBE_WAIT, _LONGEST_PROBE_WAIT = 0.1, 1.0
# A server that has just begun may not know of a consumer yet that it is about to have.
_NOT_FOUND_WAIT = 0.5
_NOT_FOUND_TIMES = 2
# One handler invocation may stay busy, for the client's drain, while messages and statuses go on.
_CONCURRENCY = 2


class ConsumeWarning(NamedTuple):
    """Something went wrong while messages are consumed, and it goes on.

    :ivar kind: ``"heartbeat-missed"``: nothing came for two heartbeats; ``"moved"``: another server leads the consumer;
        ``"no-responders"``: nobody leads it; ``"busy"``: as many pulls wait as the consumer accepts; ``"message-too-large"``: the next
        message is larger than ``max_bytes``; ``"wrong-pin"``: another client is pinned; ``"unknown-status"``; ``"pull-not-sent"``;
        ``"overrun"``: more came than was asked for, and was given back.
    :ivar text: the same for humans.
    """

    kind: WarningKind
    text: str


_WARNINGS: dict[StatusKind, WarningKind] = {
    StatusKind.MOVED: "moved",
    StatusKind.NO_RESPONDERS: "no-responders",
    StatusKind.BUSY: "busy",
    StatusKind.WRONG_PIN: "wrong-pin",
    StatusKind.UNKNOWN: "unknown-status",
}


class PullSession:
    """Keeps a consumer sending, until it is left.

    After a loss of the connection, and whenever it is unclear whether the server still has the pulls, it asks for the consumer's info until
    it gets that, and pulls anew. So it finds out as well that the consumer is gone.

    :param received: the handler of the subscription: it gets messages, and statuses, which it passes to :meth:`status`.
    :param warned: is told what goes wrong; :param ended: is told, once, what ends it: None where the client was closed or drained.
    """

    _log = Logger()

    def __init__(
        self,
        consumer: PullConsumer,
        plan: PullPlan,
        group: GroupOptions,
        *,
        received: Callable[[Msg], Any],
        warned: Callable[[ConsumeWarning], None],
        ended: Callable[[NatsError | None], None],
    ) -> None:
        self._consumer = consumer
        self._client = consumer.js.client
        self._plan = plan
        self._group = group
        self._received = received
        self._warned = warned
        self._ended = ended
        self._subject = consumer.js.prefix.consumer_next(consumer.stream_name, consumer.name)
        level = consumer.js.check_level(group.request)
        self._headers = {REQUIRED_LEVEL_HEADER: str(level)} if level else None
        self.seconds: Callable[[], float] = self._client.reactor.seconds
        self.pulls = Pulls(plan, self.seconds())
        self._prefix = ""
        self._subscription: Subscription | None = None
        self._timer: IDelayedCall | None = None
        self._probing: Deferred[None] | None = None
        self._active = False

    # --- beginning and ending --------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: now, or when there is a connection.

        :raises ConnectionClosedError: :raises ConnectionDrainingError: the client takes no new subscriptions.
        """
        self._open()
        self._active = True
        self._client.add_listener(self._client_event)
        if self._client.is_connected:
            self._schedule()
            self.refill()
        else:
            self.pulls.paused = True

    def leave(self, timeout: float) -> Deferred[None]:
        """Ask for nothing more. Fires when the server sends nothing more either, and the handler is not busy.

        :raises DrainTimeoutError: that took longer.
        """
        self._halt()
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done
        # Without a connection, or when it is lost meanwhile, nothing more comes either.
        return subscription.drain(timeout).addErrback(_trap_lost)

    def _halt(self) -> None:
        if self._active:
            self._active = False
            self._client.remove_listener(self._client_event)
        self.pulls.paused = True
        self._stop_timer()
        self._stop_probe()

    def _end(self, error: NatsError | None) -> None:
        if self._active:
            self._halt()
            self._ended(error)

    # --- the subscription ------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Listen on an inbox of its own. A new one for each connection: so pulls of an earlier one are void at the server."""
        inbox = self._client.new_inbox()
        self._prefix = inbox + "."
        subscription = self._client.subscribe(inbox + ".*", self._received, concurrency=_CONCURRENCY)
        self._subscription = subscription
        subscription.when_closed().addCallback(lambda _: self._subscription_closed(subscription))

    def _subscription_closed(self, subscription: Subscription) -> None:
        # Where it is the client that was closed or drained, there is no error, and the same event may come a moment later.
        if subscription is self._subscription:
            error = subscription.error
            self._subscription = None
            self._end(None if isinstance(error, ConnectionClosedError) and self._client.closed_on_purpose else error)

    def _client_event(self, event: StatusEvent) -> None:
        if isinstance(event, Disconnected):
            self._stop_probe()
            self._stop_timer()
            self.pulls.paused = True
            self.pulls.reset(self.seconds())
            subscription = self._subscription
            if subscription is not None and not self._client.is_connected:
                # What comes to this inbox on the next connection would come from pulls that nobody counts any more.
                self._subscription = None
                subscription.unsubscribe()
        elif isinstance(event, (Reconnected, Connected)):
            if self._client.is_connected:
                self._connected_again()
        elif isinstance(event, Closed):
            self._end(event.error if isinstance(event.error, NatsError) else None)
        elif isinstance(event, ServerErrorEvent):
            error = event.error
            # Where it is the subscription that was denied, that has ended.
            if isinstance(error, PermissionsViolationError) and error.subject == self._subject:
                self._end(error)

    def _connected_again(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            # The client moved to another server and lost nothing: what is under way to the old inbox is taken.
            subscription.drain().addErrback(lambda failure: failure.trap(NatsError) and None)
        try:
            self._open()
        except (ConnectionClosedError, ConnectionDrainingError):
            self._end(None)
            return
        self._schedule()
        self.recover()

    # --- pulling ---------------------------------------------------------------------------------------------

    def refill(self) -> None:
        """Ask for more where that is due."""
        pulls = self.pulls
        if pulls.paused:
            return
        now = self.seconds()
        while (pull := pulls.wanted(now)) is not None:
            self._ask(pull, now)

    def _ask(self, pull: Pull, now: float) -> None:
        plan, group = self._plan, self._group
        pin = self._consumer.pins.get(group.group, "") if group.group else ""
        request = group.ask(batch=pull.messages, max_bytes=pull.bytes, expires=plan.expires, heartbeat=pull.heartbeat, pin=pin)
        try:
            self._client.publish(self._subject, encode(request), f"{self._prefix}{pull.token}", self._headers)
        except (ConnectionClosedError, ConnectionDrainingError):
            # The client tells the rest when it has come to its end.
            self.pulls.paused = True
        except NatsError as error:
            self.pulls.not_sent(pull, now)
            self._warn("pull-not-sent", f"a pull could not be sent: {error}")

    def read_pin(self, msg: Msg) -> None:
        """A message of a pinned client says what its pin is."""
        pin = msg.headers.get(PIN_ID)
        if pin:
            self._consumer.pins[self._group.group] = pin

    def status(self, msg: Msg) -> None:
        """A status has come."""
        subject, prefix = msg.subject, self._prefix
        token = subject[len(prefix) :]
        if not subject.startswith(prefix) or not token.isdigit():
            # Of an earlier connection.
            return
        status = read_status(msg.status, msg.status_text, msg.headers)
        if not self.pulls.answered(int(token), status, self.seconds()):
            return
        kind = status.kind
        if kind is StatusKind.HEARTBEAT:
            return
        if kind in TERMINAL:
            self._end(status.error(self._consumer.name))
            return
        warning = _WARNINGS.get(kind)
        if warning is not None:
            self._warn(warning, f"the server answered a pull with {status.code} {status.text}")
        if kind is StatusKind.TOO_LARGE and not self.pulls.open and status.pending_bytes == self._plan.max_bytes:
            self._warn("message-too-large", f"the next message does not fit max_bytes={self._plan.max_bytes}")
        elif kind is StatusKind.WRONG_PIN:
            self._consumer.pins.pop(self._group.group, None)
        elif kind is StatusKind.MOVED or kind is StatusKind.NO_RESPONDERS:
            self.recover()
            return
        self.refill()
        self._schedule()

    def _warn(self, kind: WarningKind, text: str) -> None:
        self._warned(ConsumeWarning(kind, text))

    # --- time ------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Set the timer, or set it earlier."""
        if not self._active:
            return
        wait = self.pulls.wait(self.seconds())
        if self._timer is not None:
            if self._timer.getTime() <= self.seconds() + wait:
                return
            self._timer.cancel()
        self._timer = self._client.reactor.callLater(wait, self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        if self.pulls.check(self.seconds()):
            self._warn("heartbeat-missed", "nothing came for two heartbeats: asking anew")
            self.recover()
        else:
            self.refill()
        self._schedule()

    # --- recovering ------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """The pulls are void: find out how the consumer is, and pull anew."""
        self.pulls.reset(self.seconds())
        if self._probing is not None or not self._active:
            return
        self.pulls.paused = True
        probing = self._probing = Deferred.fromCoroutine(self._probe())
        probing.addErrback(self._probe_failed)
        if probing.called:
            self._probing = None

    async def _probe(self) -> None:
        consumer = self._consumer
        js = consumer.js
        subject = js.prefix.consumer_info(consumer.stream_name, consumer.name)
        wait = _FIRST_PROBE_WAIT
        missing = 0
        while True:
            pause = wait
            try:
                info = await js.call(ConsumerInfo, subject, timeout=_PROBE_TIMEOUT)
            except (ConsumerNotFoundError, StreamNotFoundError) as error:
                missing += 1
                if missing >= _NOT_FOUND_TIMES:
                    self._probing = None
                    self._end(deleted(consumer, error))
                    return
                pause = _NOT_FOUND_WAIT
            except (ConnectionClosedError, ConnectionDrainingError):
                self._probing = None
                return
            except (RequestTimeoutError, JetStreamNotEnabledError):
                # Nobody leads now, or the answer was lost.
                missing = 0
            except NatsError as error:
                self._log.info("The info of consumer {name!r} is not to be had: {error}", name=consumer.name, error=error)
            else:
                consumer.cached_info = info
                self._probing = None
                self.pulls.paused = False
                self.pulls.reset(self.seconds())
                self.refill()
                self._schedule()
                return
            await deferLater(self._client.reactor, pause)
            wait = min(wait * 2, _LONGEST_PROBE_WAIT)

    def _stop_probe(self) -> None:
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()

    def _probe_failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._probing = None
            self._log.failure("Asking for a consumer's info failed", failure=failure)


def deleted(consumer: PullConsumer, error: NatsError) -> ConsumerDeletedError:
    """The error for a consumer that the server does not know any more."""
    gone = ConsumerDeletedError(f"consumer {consumer.name!r} of stream {consumer.stream_name!r} is gone: {error}")
    gone.__cause__ = error
    return gone


def _trap_lost(failure: Failure) -> None:
    """Nothing more comes on a connection that is lost."""
    failure.trap(DisconnectedError, ConnectionClosedError)
