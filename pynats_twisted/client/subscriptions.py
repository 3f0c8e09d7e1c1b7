"""All subscriptions of a client: what they have in common with the connection and with each other."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import (
    ConnectionClosedError,
    DisconnectedError,
    DrainTimeoutError,
    InvalidSubscriptionError,
    MaxSubscriptionsExceededError,
    NatsError,
    PermissionsViolationError,
    ServerInvalidSubjectError,
)
from ..protocol.encoder import encode_unsubscribe
from .status import HandlerError, SlowConsumer
from .subscription import Subscription

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from ..protocol.connection import ConnectionProtocol
    from ..protocol.message import Msg
    from ..protocol.twin import SubscriptionRecord
    from .client import NatsClient

# A server cuts a client that reads nothing for 10 seconds.
_PAUSE_AT_MOST = 5.0


class ClientSubscriptions:
    """Keeps the subscriptions of one client, and is what they ask for anything beyond themselves."""

    _log = Logger()

    def __init__(self, client: NatsClient) -> None:
        self._client = client
        self.reactor: IReactorTime = client.reactor
        self.open: dict[int, Subscription] = {}
        # The server sends them nothing more, but what came is not all handled or taken yet.
        self.ending: set[Subscription] = set()
        # Those whose confirmation hangs on the PONG that is under way, in order.
        self._unconfirmed: dict[Subscription, None] = {}
        # For the replies that are sent by way of a message.
        self.publish = client.outbound.publish
        self._pausing: set[Subscription] = set()
        self._pause_end: IDelayedCall | None = None
        # After a pause that took too long, nobody pauses until everybody caught up.
        self._pause_spent: set[Subscription] = set()

    @property
    def _core(self) -> ConnectionProtocol:
        return self._client.core

    @property
    def drain_timeout(self) -> float:
        return self._client.options.drain_timeout

    @property
    def closed_on_purpose(self) -> bool:
        return self._client.closed_on_purpose

    # --- beginning -------------------------------------------------------------------------------------------

    def add(self, subscription: Subscription, max_msgs: int | None) -> None:
        """Begin a subscription, now or at the next connection."""
        if max_msgs is not None:
            _check_limit(max_msgs)
        core = self._core
        sid = core.new_sid()
        table = core.subscriptions
        line = table.add(subscription.subject, subscription.queue or "", sid, subscription)
        subscription.sid = sid
        subscription._record = table.records[sid]
        self.open[sid] = subscription
        outbound = self._client.outbound
        outbound.control(line)
        if max_msgs is not None:
            self.limit(subscription, max_msgs)

    def confirm(self, subscription: Subscription) -> None:
        """Find out whether the server has a subscription."""
        self._unconfirmed[subscription] = None
        if self._client.is_connected:
            self._ask([subscription])

    def _ask(self, subscriptions: list[Subscription]) -> None:
        asked = self._client.ping()

        def answered(_: Any) -> None:
            for subscription in subscriptions:
                self._unconfirmed.pop(subscription, None)
                subscription._server_has_it()

        # When the connection is lost instead, the next one asks again.
        asked.addCallbacks(answered, lambda failure: failure.trap(DisconnectedError, ConnectionClosedError) and None)

    # --- ending ----------------------------------------------------------------------------------------------

    def limit(self, subscription: Subscription, limit: int) -> None:
        """End it after that many messages."""
        _check_limit(limit)
        self._client.outbound.control(self._core.subscriptions.limit(subscription.sid, limit))
        if subscription.sid not in self._core.subscriptions.records:
            self.open.pop(subscription.sid, None)
            subscription._end()

    def leave(self, subscription: Subscription) -> None:
        """Tell the server that no more is wanted."""
        if self.open.pop(subscription.sid, None) is None:
            return
        self._core.subscriptions.forget(subscription.sid)
        self._client.outbound.control(encode_unsubscribe(subscription.sid))

    def unsubscribed(self, record: SubscriptionRecord) -> None:
        """The last message of a limit has come."""
        subscription = self.open.pop(record.sid, None)
        if subscription is not None:
            subscription._end()

    def drain(self, subscription: Subscription, timeout: float) -> Deferred[None]:
        """UNSUB, wait for what is under way, and for what waits to be handled."""
        if not subscription._draining and not subscription._ended:
            subscription._draining = True
            self._begin_drain(subscription)
        done = subscription.when_closed()

        def on_closed(_: None) -> None:
            if subscription._drain_error is not None:
                raise subscription._drain_error

        def on_timeout(result: Any, seconds: float) -> Any:
            waiting = subscription.pending_msgs
            error = DrainTimeoutError(
                f"the subscription to {subscription.subject!r} was not drained within {seconds:g} s: {waiting} messages were waiting"
            )
            self.leave(subscription)
            subscription._abandon(error)
            raise error

        done.addCallback(on_closed)
        done.addTimeout(timeout, self.reactor, on_timeout)
        return done

    def drain_all(self, timeout: float, but: Container[Subscription] = ()) -> list[Deferred[None]]:
        """Drain every subscription that is not closed, ``but`` these."""
        return [self.drain(subscription, timeout) for subscription in [*self.open.values(), *self.ending] if subscription not in but]

    def _begin_drain(self, subscription: Subscription) -> None:
        if not self._client.is_connected:
            self._drained(subscription)
            return
        # The record stays until the PONG: messages that are under way are still for it.
        self._client.outbound.control(encode_unsubscribe(subscription.sid))
        self._client.ping().addBoth(lambda result: self._drained(subscription, result))

    def _drained(self, subscription: Subscription, result: Any = None) -> None:
        if isinstance(result, Failure):
            lost = DisconnectedError(f"the connection was lost while the subscription to {subscription.subject!r} was drained")
            lost.__cause__ = result.value
            subscription._drain_error = subscription._drain_error or lost
        self.open.pop(subscription.sid, None)
        self._core.subscriptions.forget(subscription.sid)
        subscription._end()

    # --- the connection --------------------------------------------------------------------------------------

    def connected(self) -> None:
        """A connection is up, and got all subscriptions."""
        self._unconfirmed = {subscription: None for subscription in self._unconfirmed if subscription.waits_for_confirmation}
        if self._unconfirmed:
            self._ask(list(self._unconfirmed))

    def disconnected(self) -> None:
        """The connection has ended. Whoever drained is not subscribed again."""
        for subscription in [each for each in self.open.values() if each._draining]:
            self._drained(subscription)
        self._stop_pausing()
        self._pause_spent.clear()

    def closed(self, error: NatsError) -> None:
        """The client has ended."""
        self._stop_pausing()
        subscriptions = [*self.open.values(), *self.ending]
        self.open = {}
        self._unconfirmed.clear()
        for subscription in subscriptions:
            self._core.subscriptions.forget(subscription.sid)
            # What was received can still be taken; handlers get nothing more, and a drain that is under way has failed.
            if subscription._handler is not None or subscription._draining:
                subscription._abandon(error)
            else:
                subscription._end_with(error)

    def denied(self, error: NatsError) -> bool:
        """An error may be about a subscription: then it ends that. Returns whether somebody who waited for it was told."""
        found: list[Subscription] = []
        told = False
        if isinstance(error, PermissionsViolationError) and error.operation == "subscription":
            found = self._named(error)
        elif isinstance(error, (ServerInvalidSubjectError, MaxSubscriptionsExceededError)) and len(self._unconfirmed) == 1:
            # These texts name nobody: only where one subscription alone is waiting it is clear who is meant.
            found = list(self._unconfirmed)
        for subscription in found:
            self.open.pop(subscription.sid, None)
            self._core.subscriptions.forget(subscription.sid)
            self._unconfirmed.pop(subscription, None)
            told = told or subscription.waited_for
            subscription._end_with(error)
            if not isinstance(error, PermissionsViolationError):
                # It was concluded, not said: if the server has the subscription after all, it has to forget it.
                self._client.outbound.control(encode_unsubscribe(subscription.sid))
        return told

    def _named(self, error: PermissionsViolationError) -> list[Subscription]:
        if error.sid is not None and error.sid in self.open:
            return [self.open[error.sid]]
        same = [each for each in self.open.values() if each.subject == error.subject and (each.queue or None) == error.queue]
        return same or [each for each in self.open.values() if each.subject == error.subject and error.queue is None]

    # --- what subscriptions ask for --------------------------------------------------------------------------

    def handler_failed(self, subscription: Subscription, msg: Msg, failure: Failure) -> None:
        self._client.counters.handler_errors += 1
        self._log.failure("A handler of {subject!r} failed on a message", failure=failure, subject=subscription.subject)
        assert failure.value is not None
        self._client.events.emit(HandlerError(subscription, msg, failure.value))

    def message_dropped(self, subscription: Subscription, first: bool) -> None:
        self._client.counters.dropped_msgs += 1
        if first:
            self._client.events.emit(SlowConsumer(subscription, subscription.dropped))

    def pause_reading(self, subscription: Subscription) -> bool:
        """Read nothing from the server for a while. False when it is not to be had any more."""
        if subscription in self._pause_spent:
            return False
        if not self._pausing:
            self._client.pause_reading()
            self._pause_end = self.reactor.callLater(_PAUSE_AT_MOST, self._pause_took_too_long)
        self._pausing.add(subscription)
        return True

    def resume_reading(self, subscription: Subscription) -> None:
        """The subscription has room again."""
        self._pause_spent.discard(subscription)
        self._pausing.discard(subscription)
        if not self._pausing:
            self._stop_pausing()

    def _pause_took_too_long(self) -> None:
        self._pause_end = None
        self._pause_spent |= self._pausing
        self._stop_pausing()

    def _stop_pausing(self) -> None:
        self._pausing.clear()
        if self._pause_end is not None:
            self._pause_end.cancel()
            self._pause_end = None
        self._client.resume_reading()


def _check_limit(limit: int) -> None:
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidSubscriptionError(f"limit {limit!r} is not a number of messages, 1 or more")
