"""The window of ``publish_async``: how many publishes may wait for their acks, and who waits for room in it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from ..client.waiting import Waiters
from ..errors import NatsError, NatsTimeoutError, TooManyStalledMsgsError
from ..protocol.twin import DONE

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from .pub_acks import PubAcks, Publish


class PublishWindow:
    """Sends at most so many publishes at once, and lets as many more wait for a short while.

    :param limit: how many.
    :param stall_wait: seconds that one more waits for room.
    :ivar in_flight: publishes that were sent and have no ack yet.
    :ivar tell_at: :meth:`settle` has something to do when no more than so many are in flight.
    """

    __slots__ = (
        "_acks",
        "_complete",
        "_crowd",
        "_limit",
        "_low",
        "_reactor",
        "_room",
        "_stall_wait",
        "_stalled",
        "_timer",
        "in_flight",
        "tell_at",
    )

    def __init__(self, acks: PubAcks, reactor: IReactorTime, limit: int, stall_wait: float) -> None:
        self._acks = acks
        self._reactor = reactor
        self._limit = limit
        self._stall_wait = stall_wait
        # Whoever waits for room gets a quarter of the window: to be woken for each ack would cost more than what is done then.
        self._low = limit - max(1, limit // 4)
        self.in_flight = 0
        self.tell_at = -1
        # When each gives up, itself, and the time that it has for its ack. The first gives up first.
        self._stalled: deque[tuple[float, Publish, float]] = deque()
        self._timer: IDelayedCall | None = None
        self._room = Waiters[None]()
        self._complete = Waiters[None]()
        # What the client's full buffer gave to wait for.
        self._crowd: Awaitable[None] = DONE

    @property
    def pending(self) -> int:
        """Publishes without an ack, also those that wait for room."""
        return self.in_flight + len(self._stalled)

    # --- publishing ------------------------------------------------------------------------------------------

    def publish(self, publish: Publish, timeout: float) -> None:
        """Send it, at once or when there is room. What sending raises at once is raised here."""
        if self.in_flight >= self._limit or self._stalled:
            self._stall(publish, timeout)
            return
        sent = self._acks.send(publish, timeout)
        publish.window = self
        self.in_flight += 1
        if sent is not DONE:
            self._wait_for_buffer(sent)

    def _wait_for_buffer(self, sent: Awaitable[None]) -> None:
        if isinstance(sent, Deferred):
            self._crowd = sent
            sent.addBoth(self._buffer_has_room, sent)

    def _buffer_has_room(self, _: Any, sent: Awaitable[None]) -> None:
        if self._crowd is sent:
            self._crowd = DONE
            self.settle()

    def _stall(self, publish: Publish, timeout: float) -> None:
        if len(self._stalled) >= self._limit or not self._stall_wait:
            publish.errback(TooManyStalledMsgsError(publish.subject, self.pending))
            return
        self._stalled.append((self._reactor.seconds() + self._stall_wait, publish, timeout))
        self.tell_at = self._limit
        if self._timer is None:
            self._timer = self._reactor.callLater(self._stall_wait, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        stalled = self._stalled
        now = self._reactor.seconds()
        while stalled and (stalled[0][0] <= now or stalled[0][1].called):
            publish = stalled.popleft()[1]
            if not publish.called:
                publish.errback(TooManyStalledMsgsError(publish.subject, self.pending))
        if stalled and self._timer is None:
            self._timer = self._reactor.callLater(stalled[0][0] - now, self._give_up)
        self.settle()

    # --- waiting ---------------------------------------------------------------------------------------------

    def room(self) -> Awaitable[None]:
        """Done, or a Deferred that fires when there is room."""
        if self.in_flight < self._limit and not self._stalled and self._crowd is DONE:
            return DONE
        self.tell_at = max(self.tell_at, self._low)
        return self._room.wait()

    def complete(self, timeout: float | None) -> Deferred[None]:
        """Fires when nothing waits any more."""
        if not self.pending:
            return succeed(None)
        self.tell_at = max(self.tell_at, 0)
        waiter = self._complete.wait()
        if timeout is not None:

            def on_timeout(result: Any, seconds: float) -> Any:
                raise NatsTimeoutError(f"{self.pending} publishes are still without an ack after {seconds:g} s")

            waiter.addTimeout(timeout, self._reactor, on_timeout)
        return waiter

    def settle(self) -> None:
        """There may be room: tell those who wait."""
        stalled = self._stalled
        while stalled and self.in_flight < self._limit:
            _, publish, timeout = stalled.popleft()
            if publish.called:
                continue
            try:
                sent = self._acks.send(publish, timeout)
            except NatsError as error:
                publish.errback(error)
            else:
                publish.window = self
                self.in_flight += 1
                if sent is not DONE:
                    self._wait_for_buffer(sent)
        if not stalled:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self.in_flight <= self._low and self._crowd is DONE and len(self._room):
                self._room.fire(None)
            if not self.in_flight and not stalled and len(self._complete):
                self._complete.fire(None)
        self.tell_at = self._limit if stalled else self._low if len(self._room) else 0 if len(self._complete) else -1

    def end(self, error: NatsError) -> None:
        """Nothing can be sent any more."""
        stalled, self._stalled = self._stalled, deque()
        for _, publish, _ in stalled:
            if not publish.called:
                publish.errback(error)
        self.settle()
