"""What ``subscribe`` returns: messages by a handler, by ``next()``, or by ``async for``."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any, Literal, get_args

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from ..errors import (
    ConfigurationError,
    ConnectionClosedError,
    NatsError,
    NextMessageTimeoutError,
    SlowConsumerError,
    SubscriptionClosedError,
)
from .delivery import Handler, HandlerRunner, KeyFunction
from .waiting import OneShot, Ready, Waiters, check_seconds

if TYPE_CHECKING:
    from ..protocol.headers import HeadersLike
    from ..protocol.message import Msg
    from ..protocol.subscriptions import SubscriptionRecord
    from .subscriptions import ClientSubscriptions

Overflow = Literal["drop-new", "drop-old", "pause", "error"]


class Subscription:
    """A subscription to a subject, over all reconnects, until it ends.

    It ends by :meth:`unsubscribe`, :meth:`drain`, the last message of its limit, a denied permission, the overflow policy
    ``"error"``, or the end of the client.

    Without a handler, messages wait here for :meth:`next` and ``async for``. ``await subscription`` (or :meth:`confirmed`)
    waits until the server has it.

    :ivar subject: what it listens to; :ivar queue: its queue group, or None; :ivar sid: its id.
    :ivar dropped: messages that were dropped because too many were waiting.
    :ivar error: what ended it, or None.
    """

    def __init__(
        self,
        owner: ClientSubscriptions,
        subject: str,
        queue: str | None,
        handler: Handler | None,
        *,
        pending_msgs: int,
        pending_bytes: int,
        overflow: Overflow,
        concurrency: int,
        ordered_by: KeyFunction | None,
    ) -> None:
        check_options(handler, pending_msgs, pending_bytes, overflow, concurrency, ordered_by)
        self.subject = subject
        self.queue = queue
        self.sid = 0
        self.dropped = 0
        self.error: NatsError | None = None
        self._owner = owner
        self._record: SubscriptionRecord | None = None
        self._max_msgs = pending_msgs
        self._max_bytes = pending_bytes
        self._overflow = overflow
        self._queue: deque[Msg] = deque()
        self._waiting: deque[Deferred[Msg]] = deque()
        self._pending_msgs = 0
        self._pending_bytes = 0
        self._slow = False
        # No more messages come from the server.
        self._ended = False
        # Nothing is handed out any more.
        self._closed = False
        self._draining = False
        self._drain_error: NatsError | None = None
        # ``async for`` raises what ended the subscription once, and then stops.
        self._error_told = False
        self._confirmation = OneShot()
        self._closing = Waiters[None]()
        self._runner: HandlerRunner | None = None
        self._direct = False
        if handler is not None:
            self._runner = HandlerRunner(handler, concurrency, ordered_by, self._queue, self._started, self._failed, self._check_end)
            self._direct = ordered_by is None

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def pending_msgs(self) -> int:
        """Messages that wait to be handled or taken."""
        return self._pending_msgs

    @property
    def pending_bytes(self) -> int:
        """Bytes of the messages that wait: subject, reply, headers and payload."""
        return self._pending_bytes

    @property
    def delivered(self) -> int:
        """Messages that came from the server, over all connections."""
        return self._record.delivered if self._record is not None else 0

    @property
    def active_handlers(self) -> int:
        """Handlers that are running."""
        return self._runner.active if self._runner is not None else 0

    @property
    def closed(self) -> bool:
        """It has ended, and hands out nothing more."""
        return self._closed

    @property
    def waited_for(self) -> bool:
        """Somebody waits for its confirmation or for a message, and is told what ends it."""
        return self._confirmation.waited_for or bool(self._waiting)

    def __repr__(self) -> str:
        queue = f" queue={self.queue!r}" if self.queue else ""
        state = "closed" if self._closed else "ending" if self._ended else "draining" if self._draining else "open"
        return f"<Subscription {self.sid} {self.subject!r}{queue} {state}, {self._pending_msgs} waiting>"

    # --- messages come ---------------------------------------------------------------------------------------

    def _deliver(self, msg: Msg) -> None:
        if self._ended:
            return
        runner = self._runner
        if runner is not None:
            if self._direct and not runner.active and not self._queue:
                runner.run(msg)
                if self._ended:
                    # By the handler itself.
                    self._check_end()
                return
        elif self._waiting:
            self._waiting.popleft().callback(msg)
            return
        size = msg.size
        if self._over(size) and not self._make_room(size):
            return
        self._queue.append(msg)
        self._pending_msgs += 1
        self._pending_bytes += size
        if runner is not None:
            runner.pump()
            if self._ended:
                self._check_end()

    def _make_room(self, size: int) -> bool:
        """Too much is waiting: do what the policy says. Returns whether the message is still taken."""
        overflow = self._overflow
        if overflow == "pause" and self._owner.pause_reading(self):
            # What was already read is still taken: no more than the transport reads at once.
            return True
        if overflow == "error":
            self._count_dropped()
            self._end_with(SlowConsumerError(self.subject, self._pending_msgs, self._pending_bytes))
            self._owner.leave(self)
            return False
        if overflow == "drop-old" and not (self._max_bytes and size > self._max_bytes):
            while self._queue and self._over(size):
                self._forget(self._queue.popleft())
                self._count_dropped()
            # Where all that waits is behind a busy key it is the new one that goes, as one that is too large for any room.
            if not self._over(size):
                return True
        self._count_dropped()
        return False

    def _over(self, size: int) -> bool:
        return bool(
            (self._max_msgs and self._pending_msgs >= self._max_msgs) or (self._max_bytes and self._pending_bytes + size > self._max_bytes)
        )

    def _forget(self, msg: Msg) -> None:
        self._pending_msgs -= 1
        self._pending_bytes -= msg.size

    def _count_dropped(self) -> None:
        self.dropped += 1
        self._owner.message_dropped(self, first=not self._slow)
        self._slow = True

    def _started(self, msg: Msg) -> None:
        """A message has left the queue, for its handler or its taker."""
        self._forget(msg)
        if (self._slow or self._overflow == "pause") and self._has_caught_up():
            self._slow = False
            self._owner.resume_reading(self)

    def _has_caught_up(self) -> bool:
        return self._pending_msgs * 2 <= (self._max_msgs or self._pending_msgs * 2) and self._pending_bytes * 2 <= (
            self._max_bytes or self._pending_bytes * 2
        )

    def _failed(self, msg: Msg, failure: Failure) -> None:
        self._owner.handler_failed(self, msg, failure)

    def _respond(self, reply: str, payload: bytes, headers: HeadersLike | None) -> Awaitable[None]:
        return self._owner.publish(reply, payload, headers)

    # --- messages are taken ----------------------------------------------------------------------------------

    def next(self, timeout: float | None = None) -> Deferred[Msg]:
        """The next message.

        Cancelling loses no message.

        :param timeout: seconds to wait at most; None waits without an end.
        :raises NextMessageTimeoutError: none came in time.
        :raises SubscriptionClosedError: the subscription has ended, and every message was taken; where an error ended
            it, that one is raised instead.
        """
        self._check_no_handler("next")
        if timeout is not None:
            check_seconds("timeout", timeout)
        if self._queue:
            return succeed(self._take())
        if self._ended or self._closed:
            return fail(self._end_error())
        waiter: Deferred[Msg] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        if timeout is not None:
            subject = self.subject

            def on_timeout(result: Any, seconds: float) -> Any:
                raise NextMessageTimeoutError(f"no message on {subject!r} within {seconds:g} s")

            waiter.addTimeout(timeout, self._owner.reactor, on_timeout)
        return waiter

    def __aiter__(self) -> Subscription:
        self._check_no_handler("async for")
        return self

    def __anext__(self) -> Awaitable[Msg]:
        if self._queue:
            return Ready(self._take())
        if self._ended or self._closed:
            return fail(self._iteration_end())
        waiter: Deferred[Msg] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        waiter.addErrback(self._end_iteration)
        return waiter

    def _end_iteration(self, failure: Failure) -> Any:
        if failure.check(SubscriptionClosedError):
            raise StopAsyncIteration
        if failure.check(ConnectionClosedError) and self._owner.closed_on_purpose:
            raise StopAsyncIteration
        self._error_told = True
        return failure

    def _iteration_end(self) -> BaseException:
        if self.error is None or self._error_told or (isinstance(self.error, ConnectionClosedError) and self._owner.closed_on_purpose):
            return StopAsyncIteration()
        self._error_told = True
        return self.error

    def _take(self) -> Msg:
        msg = self._queue.popleft()
        self._started(msg)
        if not self._queue and self._ended:
            self._check_end()
        return msg

    def _check_no_handler(self, what: str) -> None:
        if self._runner is not None:
            raise SubscriptionClosedError(f"the subscription to {self.subject!r} has a handler: {what} has nothing to take")

    def _end_error(self) -> NatsError:
        return self.error or SubscriptionClosedError(f"the subscription to {self.subject!r} has ended")

    # --- it is confirmed, it ends ----------------------------------------------------------------------------

    def __await__(self) -> Generator[Deferred[Any], Any, Subscription]:
        return self.confirmed().__await__()

    def confirmed(self) -> Deferred[Subscription]:
        """Fires with the subscription when the server has it: everything published from then on reaches it.

        While disconnected it waits for the next connection.

        :raises PermissionsViolationError: the server denied it.
        :raises InvalidSubjectError: the server does not accept its subject.
        :raises ConnectionClosedError: the client was closed before.
        :raises SubscriptionClosedError: the subscription ended before.
        """
        if self.error is not None and self._ended:
            return fail(self.error)
        waiting = self._confirmation.wait()
        if not self._confirmation.done:
            self._owner.confirm(self)
        return waiting.addCallback(lambda _: self)

    def unsubscribe(self, limit: int | None = None) -> None:
        """End it: at once, dropping what waits, or after ``limit`` messages, counted from its beginning.

        Ending what has ended does nothing.

        :raises InvalidSubscriptionError: the limit is not a positive number.
        """
        if self._closed:
            return
        if limit is not None:
            if not self._ended:
                self._owner.limit(self, limit)
            return
        self._drop_waiting()
        self._owner.leave(self)
        self._end()

    def drain(self, timeout: float | None = None) -> Deferred[None]:
        """End it without losing a message: what the server sent already is still handled, or waits to be taken.

        Fires when everything was handled or taken, and the subscription is closed.

        :param timeout: seconds; the option ``drain_timeout`` (30) by default.
        :raises DrainTimeoutError: it took longer; the subscription was closed, and what waited was dropped.
        :raises DisconnectedError: the connection was lost before the server confirmed that nothing more comes; what had come
            was still handled.
        :raises ConnectionClosedError: the client was closed meanwhile, and what waited was dropped.
        """
        seconds = self._owner.drain_timeout if timeout is None else check_seconds("timeout", timeout)
        if self._closed:
            return succeed(None)
        return self._owner.drain(self, seconds)

    def when_closed(self) -> Deferred[None]:
        """Fires once when the subscription has ended and every message was handled or taken."""
        return succeed(None) if self._closed else self._closing.wait()

    def _end(self) -> None:
        """The server sends no more."""
        self._ended = True
        self._check_end()
        if not self._closed:
            self._owner.ending.add(self)

    def _end_with(self, error: NatsError) -> None:
        if self._ended:
            return
        self.error = error
        self._confirmation.fail(error)
        self._end()

    def _check_end(self) -> None:
        if self._ended and not self._closed and not self._pending_msgs and not self.active_handlers:
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._owner.ending.discard(self)
        self._confirmation.fail(self._end_error())
        waiting = self._waiting
        while waiting:
            waiting.popleft().errback(self._end_error())
        self._owner.resume_reading(self)
        self._closing.fire(None)

    def _drop_waiting(self) -> None:
        if self._runner is not None:
            self._runner.clear()
        self._queue.clear()
        self._pending_msgs = 0
        self._pending_bytes = 0

    def _abandon(self, error: NatsError) -> None:
        """End it now, whatever waits or runs."""
        if self._closed:
            return
        self.error = self._drain_error = self.error or error
        self._drop_waiting()
        self._ended = True
        self._close()


def check_options(
    handler: Handler | None, pending_msgs: int, pending_bytes: int, overflow: str, concurrency: int, ordered_by: KeyFunction | None
) -> None:
    """Check the options of a subscription.

    :raises ConfigurationError: one is not valid; the text names it.
    """
    if handler is not None and not callable(handler):
        raise ConfigurationError(f"handler={handler!r} is not callable")
    for name, value in (("pending_msgs", pending_msgs), ("pending_bytes", pending_bytes)):
        if not isinstance(value, int) or value < 0:
            raise ConfigurationError(f"{name}={value!r} is not a number of 0 (no bound) or more")
    if overflow not in get_args(Overflow):
        raise ConfigurationError(f"overflow={overflow!r} is none of {', '.join(map(repr, get_args(Overflow)))}")
    if not isinstance(concurrency, int) or concurrency < 1:
        raise ConfigurationError(f"concurrency={concurrency!r} is not a number of 1 or more")
    if ordered_by is not None and not callable(ordered_by):
        raise ConfigurationError(f"ordered_by={ordered_by!r} is not callable")
    if handler is None and (concurrency != 1 or ordered_by is not None):
        raise ConfigurationError("concurrency and ordered_by need a handler")
