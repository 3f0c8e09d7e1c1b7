"""All subscriptions of a client: what they ask of it, and what the server says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import (
    DisconnectedError,
    DrainTimeoutError,
    FlushTimeoutError,
    InvalidSubscriptionError,
    MaxSubscriptionsExceededError,
    NatsError,
    PermissionsViolationError,
    ServerInvalidSubjectError,
)
from ..protocol.encoder import encode_unsubscribe
from .status import SlowConsumer
from .subscription import BlockingSubscription

if TYPE_CHECKING:
    from ..protocol.headers import HeadersLike
    from ..protocol.twin import SubscriptionRecord
    from .inbox import Inbox
    from .life import Life


class Subscriptions:
    """Keeps the subscriptions of one client that have not ended.

    :ivar open: those, by their ids.
    """

    def __init__(self, life: Life) -> None:
        self._life = life
        self._calls = life.calls
        self._engine = life.engine
        self._outbound = life.outbound
        self._table = life.core.subscriptions
        self._options = life.options
        self.open: dict[int, BlockingSubscription] = {}
        # The one whose confirmation is waited for.
        self._confirming: BlockingSubscription | None = None

    @property
    def closed_on_purpose(self) -> bool:
        return self._life.closed_on_purpose

    # --- beginning and ending --------------------------------------------------------------------------------

    def add(self, subscription: BlockingSubscription, max_msgs: int | None) -> None:
        """Begin a subscription, now or at the next connection."""
        if max_msgs is not None:
            _check_limit(max_msgs)
        table = self._table

        def change() -> bytes:
            sid = table.new_sid()
            lines = table.add(subscription.subject, subscription.queue or "", sid, subscription)
            subscription.sid = sid
            subscription._record = table.records[sid]
            self.open[sid] = subscription
            return lines if max_msgs is None else lines + table.limit(sid, max_msgs)

        self._engine.tell(change)

    def add_inbox(self, inbox: Inbox) -> None:
        """Subscribe the inbox of the client's requests."""
        table = self._table

        def change() -> bytes:
            sid = table.new_sid()
            lines = table.add(inbox.subject, "", sid, inbox)
            inbox.sid = sid
            return lines

        self._engine.tell(change)

    def confirm(self, subscription: BlockingSubscription, timeout: float | None) -> None:
        """Wait until the server has a subscription, or that has ended."""
        with self._calls:
            until = self._calls.until(timeout, self._options.flush_timeout)
            self._confirming = subscription
            try:
                answered = self._calls.settle(until, lambda: subscription._ended)
            finally:
                self._confirming = None
        if not answered and not subscription._ended:
            raise FlushTimeoutError(f"the server did not confirm the subscription to {subscription.subject!r} in time")

    def limit(self, subscription: BlockingSubscription, limit: int) -> None:
        """End it after that many messages."""
        _check_limit(limit)
        with self._calls:
            self._engine.tell(lambda: self._table.limit(subscription.sid, limit))
            if subscription.sid not in self._table.records:
                self._ended(subscription)

    def leave(self, subscription: BlockingSubscription) -> None:
        """Tell the server that no more is wanted."""
        with self._calls:
            if subscription.sid in self.open:
                self._engine.tell(lambda: self._left(subscription))

    def _left(self, subscription: BlockingSubscription) -> bytes:
        self._ended(subscription)
        return encode_unsubscribe(subscription.sid)

    def drain_subscription(self, subscription: BlockingSubscription, timeout: float | None) -> None:
        """Receive what is under way for it, and end it."""
        with self._calls:
            until = self._calls.until(timeout, self._options.drain_timeout)
            try:
                if not self._engine.is_connected:
                    return
                # The record stays until the PONG: messages that are under way are still for it.
                self._outbound.control(encode_unsubscribe(subscription.sid))
                ping = self._engine.ping()
                self._calls.wait(lambda: ping.over, until)
            finally:
                self._ended(subscription)
        if ping.lost:
            raise DisconnectedError(f"the connection was lost while the subscription to {subscription.subject!r} was drained")
        if not ping.answered:
            raise DrainTimeoutError(f"the server did not confirm the end of the subscription to {subscription.subject!r} in time")

    def unsubscribed(self, record: SubscriptionRecord) -> None:
        """The last message of a limit has come."""
        subscription = self.open.get(record.sid)
        if subscription is not None:
            self._ended(subscription)

    def _ended(self, subscription: BlockingSubscription, error: NatsError | None = None) -> None:
        self._table.forget(subscription.sid)
        self.open.pop(subscription.sid, None)
        subscription._end(error)

    def dismiss(self) -> None:
        """Tell the server that nothing more is wanted. What is under way still comes."""
        self._outbound.control(b"".join(encode_unsubscribe(sid) for sid in self.open))

    def end_all(self, error: NatsError | None = None) -> None:
        """Nothing more comes for any of them; what came can still be taken."""
        for subscription in list(self.open.values()):
            self._ended(subscription, error)

    # --- what the server says --------------------------------------------------------------------------------

    def denied(self, error: NatsError) -> bool:
        """An error may be about a subscription: then it ends that. Returns whether it did."""
        found: list[BlockingSubscription] = []
        if isinstance(error, PermissionsViolationError) and error.operation == "subscription":
            found = self._named(error)
        elif isinstance(error, (ServerInvalidSubjectError, MaxSubscriptionsExceededError)) and self._confirming is not None:
            # These texts name nobody: only where one is waited for it is clear who is meant.
            found = [self._confirming]
            self._outbound.control(encode_unsubscribe(self._confirming.sid))
        for subscription in found:
            self._ended(subscription, error)
        return bool(found)

    def _named(self, error: PermissionsViolationError) -> list[BlockingSubscription]:
        if error.sid is not None and error.sid in self.open:
            return [self.open[error.sid]]
        same = [each for each in self.open.values() if each.subject == error.subject and (each.queue or None) == error.queue]
        return same or [each for each in self.open.values() if each.subject == error.subject and error.queue is None]

    # --- what subscriptions ask for --------------------------------------------------------------------------

    def wait_for(self, condition: Callable[[], object], timeout: float | None) -> bool:
        """Keep the client going until the condition is true or the time is over."""
        with self._calls:
            return self._calls.wait(condition, self._calls.until(timeout))

    def look(self) -> None:
        """Do what can be done without waiting, now and then."""
        with self._calls:
            self._calls.look()

    def respond(self, reply: str, payload: bytes, headers: HeadersLike | None) -> None:
        """Publish a reply."""
        self._life.respond(reply, payload, headers)

    def message_dropped(self, subscription: BlockingSubscription, first: bool) -> None:
        """A subscription had no room for a message."""
        self._life.stats.dropped_msgs += 1
        if first:
            self._life.emit(SlowConsumer(subscription, subscription.dropped))


def _check_limit(limit: int) -> None:
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidSubscriptionError(f"limit {limit!r} is not a number of messages, 1 or more")
