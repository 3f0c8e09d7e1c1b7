"""One peer's window of messages: published in order, a bounded number of them unconfirmed. See :mod:`.publishing`."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred

from pynats_twisted.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    MaxPayloadExceededError,
    NatsError,
    NatsTimeoutError,
    OutboundBufferFullError,
)

if TYPE_CHECKING:
    from pynats_twisted.bridge.publishing import PublishLane
    from pynats_twisted.protocol.headers import Headers

WINDOW_BYTES: Final = 1024 * 1024
"""Most payload bytes of one window that are published and not confirmed (one message may pass it)."""

QUEUE_BYTES: Final = 16 * 1024 * 1024
"""Most payload bytes that wait in a window whose owner cannot stop its peer."""

QUEUE_MESSAGES: Final = 65536
"""Most messages that wait in such a window."""

GONE: Final = (ConnectionClosedError, ConnectionDrainingError)
"""Errors after which the client publishes nothing more."""


class Message(NamedTuple):
    """What is published."""

    subject: str
    payload: bytes
    headers: Headers | None


class _Refused(NamedTuple):
    """The place in the order of a message that could not be published."""

    reason: str


class WindowOwner(Protocol):
    """Who offers messages to a window, and is told in the order of the messages what became of them."""

    def window_ready(self) -> None:
        """Nothing waits any more: more can be offered."""

    def window_confirmed(self, count: int) -> None:
        """The next ``count`` messages reached the confirm level."""

    def window_refused(self, reason: str) -> None:
        """The next message did not, and will not be tried again."""


class PublishWindow:
    """The messages of one peer: published in order, a bounded number of them unconfirmed. Made by :meth:`PublishLane.window`.

    With ``confirm = "server"`` messages whose fate is unknown because the connection was lost are published again, in order, when
    there is a connection: some may arrive twice, none is lost as long as the bridge lives.

    :ivar waiting_bytes: payload bytes that wait to be published.
    """

    def __init__(self, lane: PublishLane, owner: WindowOwner) -> None:
        self.waiting_bytes = 0
        self._lane = lane
        self._owner = owner
        self._waiting: deque[Message | _Refused] = deque()
        self._unconfirmed: deque[Message | _Refused] = deque()
        self._unconfirmed_bytes = 0
        self._refused = 0
        self._asked = 0
        self._epoch = 0
        self._room: Deferred[None] | None = None
        self._pumping = False
        self._ended = False
        self._was_full = False
        self._offered_at = 0.0
        self._batches: deque[tuple[int, float]] = deque()

    @property
    def full(self) -> bool:
        """Whether messages wait: no more should be offered until :meth:`WindowOwner.window_ready`."""
        return bool(self._waiting) or self._room is not None

    @property
    def in_flight(self) -> int:
        """Messages that were offered and are not done."""
        return len(self._waiting) + len(self._unconfirmed)

    @property
    def is_holding(self) -> bool:
        """Whether something has to be published again before anything else goes on."""
        return False

    def offer(self, messages: list[Message]) -> None:
        """Take messages. They are published at once as far as the window has room, and wait otherwise."""
        if not messages:
            return
        self._count_in(messages)
        self._waiting.extend(messages)
        self.pump()
        self._was_full = self.full

    def offer_dropping(self, messages: list[Message]) -> None:
        """Like :meth:`offer`, for peers that cannot be stopped: when more than ``QUEUE_BYTES`` or
        ``QUEUE_MESSAGES`` wait, the oldest are dropped and counted."""
        self.offer(messages)
        dropped = 0
        while self.waiting_bytes > QUEUE_BYTES or len(self._waiting) > QUEUE_MESSAGES:
            oldest = self._waiting.popleft()
            if isinstance(oldest, Message):
                self.waiting_bytes -= len(oldest.payload)
                dropped += 1
        if dropped:
            self._lane.metrics.dropped("backpressure", dropped)

    def _count_in(self, messages: list[Message]) -> None:
        size = sum([len(message.payload) for message in messages])
        self.waiting_bytes += size
        self._offered_at = self._lane.reactor.seconds()
        metrics = self._lane.metrics
        metrics.messages_in.inc(len(messages))
        metrics.bytes_in.inc(size)

    def end(self) -> None:
        """Nothing more will be offered. The window is over when what it has is confirmed."""
        self._ended = True
        self._look()

    def give_up(self, reason: str) -> None:
        """Drop what is left and be over."""
        left = self._clear()
        if left:
            self._lane.metrics.dropped(reason, left)
        self._ended = True
        if self._room is not None:
            self._room.cancel()
        self._lane.forget(self)

    def fail(self, reason: str) -> None:
        """Publishing is over for good: refuse what is left."""
        left = self._clear()
        self._lane.metrics.failed(reason, left)
        for _ in range(left):
            self._owner.window_refused(reason)
        self._look()

    def _clear(self) -> int:
        left = self.in_flight
        self._waiting.clear()
        self._unconfirmed.clear()
        self._batches.clear()
        self.waiting_bytes = self._unconfirmed_bytes = self._refused = self._asked = 0
        self._epoch += 1
        return left

    # --- out ---------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Publish what waits, as far as there is room."""
        if self._pumping or self._room is not None or not self._lane.is_up:
            return
        self._pumping = True
        try:
            self._publish()
        finally:
            self._pumping = False
        self._look()

    def _publish(self) -> None:
        lane, waiting, unconfirmed = self._lane, self._waiting, self._unconfirmed
        publish, limit, confirmed = lane.client.publish, lane.limit, lane.flushes is not None
        count = size = 0
        while waiting and len(unconfirmed) < limit and self._unconfirmed_bytes + size < WINDOW_BYTES:
            message = waiting.popleft()
            if isinstance(message, _Refused):
                unconfirmed.append(message)
                self._refused += 1
                continue
            try:
                room = publish(message.subject, message.payload, headers=message.headers)
            except OutboundBufferFullError:
                waiting.appendleft(message)
                lane.retry_soon()
                break
            except NatsError as error:
                self.waiting_bytes -= len(message.payload) + size
                self._published(count, size)
                count = size = 0
                self._refuse(_reason(error))
                continue
            count += 1
            size += len(message.payload)
            if confirmed:
                unconfirmed.append(message)
            if isinstance(room, Deferred):
                self._wait_for(room)
                break
        self.waiting_bytes -= size
        self._published(count, size)

    def _published(self, count: int, size: int) -> None:
        lane = self._lane
        if lane.flushes is None:
            if count:
                self._done(count, size, self._offered_at)
            return
        if count:
            self._unconfirmed_bytes += size
            self._batches.append((count, self._offered_at))
        if self._unconfirmed and not self._asked:
            self._asked = len(self._unconfirmed)
            lane.flushes.after(partial(self._flushed, self._epoch))

    def _refuse(self, reason: str) -> None:
        """A message cannot be published at all; its owner is told when its turn has come."""
        self._lane.metrics.failed(reason)
        if self._unconfirmed:
            self._unconfirmed.append(_Refused(reason))
            self._refused += 1
        else:
            self._owner.window_refused(reason)

    def _wait_for(self, room: Deferred[None]) -> None:
        """The client has as much as it should have: go on when it has handed that over."""
        self._room = room
        room.addBoth(self._has_room)

    def _has_room(self, _: object) -> None:
        # An error means that the client is closed or lost its connection: the next publish or confirmation says so.
        self._room = None
        self.pump()

    # --- back --------------------------------------------------------------------------------------------------

    def _flushed(self, epoch: int, error: BaseException | None, denied: frozenset[str]) -> None:
        """The server has what it was asked for, or nobody knows."""
        if epoch != self._epoch:
            return
        asked, self._asked = self._asked, 0
        if error is None:
            self._take(asked, denied)
            self.pump()
        elif isinstance(error, GONE):
            self.fail(_reason(error))
        elif isinstance(error, NatsTimeoutError):
            # Nothing is known to be lost: ask again, until the answer comes or the connection ends.
            self.pump()
        else:
            self._publish_again()

    def _publish_again(self) -> None:
        """The connection was lost: nobody knows how many of the unconfirmed messages arrived."""
        self._waiting.extendleft(reversed(self._unconfirmed))
        self.waiting_bytes += self._unconfirmed_bytes
        self._unconfirmed.clear()
        self._batches.clear()
        self._unconfirmed_bytes = self._refused = 0
        self._was_full = True
        self._lane.retry_soon()

    def _take(self, asked: int, denied: frozenset[str]) -> None:
        """The oldest ``asked`` entries are done; those to a denied subject have failed."""
        unconfirmed = self._unconfirmed
        entries = [unconfirmed.popleft() for _ in range(asked)]
        if self._lane.activity.watched:
            self._hops(entries, denied)
        if not self._refused and not denied:
            size = sum([len(entry.payload) for entry in entries if isinstance(entry, Message)])
            self._unconfirmed_bytes -= size
            self._done(asked, size, self._time_of(asked))
            return
        for entry in entries:
            if isinstance(entry, _Refused):
                self._refused -= 1
                self._owner.window_refused(entry.reason)
                continue
            self._unconfirmed_bytes -= len(entry.payload)
            since = self._time_of(1)
            if entry.subject in denied:
                self._lane.metrics.failed("permission")
                self._owner.window_refused("permission")
            else:
                self._done(1, len(entry.payload), since)

    def _hops(self, entries: list[Message | _Refused], denied: frozenset[str]) -> None:
        for entry in entries:
            if isinstance(entry, Message):
                step = "denied" if entry.subject in denied else "confirmed"
                self._lane.activity.hop(step, entry.subject, size=len(entry.payload))

    def _time_of(self, count: int) -> float:
        """When the oldest of the next ``count`` messages was offered."""
        batches = self._batches
        since = batches[0][1]
        while count:
            size, offered_at = batches[0]
            if size > count:
                batches[0] = (size - count, offered_at)
                break
            batches.popleft()
            count -= size
        return since

    def _done(self, count: int, size: int, since: float) -> None:
        metrics = self._lane.metrics
        metrics.messages_out.inc(count)
        metrics.bytes_out.inc(size)
        metrics.latency.observe(max(0.0, self._lane.reactor.seconds() - since))
        self._owner.window_confirmed(count)

    def _look(self) -> None:
        """Tell the owner, or the lane, what came of it."""
        if self._ended:
            if not self.in_flight:
                self._lane.forget(self)
        elif self._was_full and not self.full:
            self._was_full = False
            self._owner.window_ready()


def _reason(error: BaseException) -> str:
    """A reason for the metrics."""
    if isinstance(error, GONE):
        return "closed"
    return "max-payload" if isinstance(error, MaxPayloadExceededError) else "not-publishable"
