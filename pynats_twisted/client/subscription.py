"""What ``subscribe`` returns: messages by a handler, by ``next()``, or by ``async for``."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from ..errors import (
    ConnectionClosedError,
    NatsError,
    NextMessageTimeoutError,
    SubscriptionClosedError,
)
from .backlog import Backlog, check_options
from .backlog import Overflow as Overflow
from .delivery import Handler, KeyFunction
from .waiting import OneShot, Waiters, check_seconds

if TYPE_CHECKING:
    from ..protocol.headers import HeadersLike
    from ..protocol.message import Msg
    from ..protocol.twin import SubscriptionRecord
    from .subscriptions import ClientSubscriptions

# What was confirmed stays so: all that were can share it.
_CONFIRMED = OneShot()
_CONFIRMED.happen()


class Subscription(Backlog):
    """A subscription to a subject, over all reconnects, until it ends.

    It ends by :meth:`unsubscribe`, :meth:`drain`, the last message of its limit, a denied permission, the overflow policy
    ``"error"``, or the end of the client.

    Without a handler, messages wait here for :meth:`next` and ``async for``. ``await subscription`` (or :meth:`confirmed`)
    waits until the server has it.

    :ivar subject: what it listens to; :ivar queue: its queue group, or None; :ivar sid: its id.
    :ivar dropped: messages that were dropped because too many were waiting.
    :ivar error: what ended it, or None.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_closing",
        "_confirmation",
        "_drain_error",
        "_draining",
        "_error_told",
        "_owner",
        "_record",
        "_waiting",
        "error",
        "queue",
        "sid",
    )

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
        super().__init__(subject, handler, concurrency, ordered_by, pending_msgs, pending_bytes, overflow)
        self._owner = owner
        self.queue = queue
        self.sid = 0
        self.error: NatsError | None = None
        self._record: SubscriptionRecord | None = None
        # Nothing is handed out any more.
        self._closed = False
        self._draining = False
        self._drain_error: NatsError | None = None
        # ``async for`` raises what ended the subscription once, and then stops.
        self._error_told = False
        # Whoever waits for a message, for the confirmation, for the end.
        self._waiting: deque[Deferred[Msg]] | None = None
        self._confirmation: OneShot | None = None
        self._closing: Waiters[None] | None = None

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def delivered(self) -> int:
        """Messages that came from the server, over all connections."""
        return self._record.delivered if self._record is not None else 0

    @property
    def closed(self) -> bool:
        """It has ended, and hands out nothing more."""
        return self._closed

    @property
    def waited_for(self) -> bool:
        """Somebody waits for its confirmation or for a message, and is told what ends it."""
        return bool(self._waiting) or (self._confirmation is not None and self._confirmation.waited_for)

    @property
    def waits_for_confirmation(self) -> bool:
        """Its confirmation was asked for, and neither came nor was denied."""
        return self._confirmation is not None and not self._confirmation.done

    def __repr__(self) -> str:
        queue = f" queue={self.queue!r}" if self.queue else ""
        state = "closed" if self._closed else "ending" if self._ended else "draining" if self._draining else "open"
        return f"<Subscription {self.sid} {self.subject!r}{queue} {state}, {self.pending_msgs} waiting>"

    # --- messages come ---------------------------------------------------------------------------------------

    def _deliver_run(self, msgs: list[Msg]) -> None:
        if self._handler is not None:
            super()._deliver_run(msgs)
            return
        if len(msgs) == 1:
            self._deliver(msgs[0])
            return
        # Whoever waits for messages is told when all have come: then the second and the following cost no waiting.
        if self._queue is None:
            self._queue = deque()
        queue = self._queue
        for msg in msgs:
            size = msg.size
            if self._ended or len(queue) >= self._max_msgs or self._bytes + size > self._max_bytes:
                self._keep(msg)
            else:
                queue.append(msg)
                self._bytes += size
        if self._waiting:
            self._wake()

    def _wait(self, msg: Msg) -> None:
        if self._waiting and not self._queue:
            self._waiting.popleft().callback(msg)
        elif self._keep(msg) and self._key_of is not None:
            # Other messages get their turn when a handler has ended: this one may be of a key that is free.
            self._settle()

    def _tell_takers(self) -> bool:
        if not self._waiting:
            return False
        self._wake()
        return True

    def _tell_dropped(self, first: bool) -> None:
        self._owner.message_dropped(self, first)

    def _overflowed(self, error: NatsError) -> None:
        self._end_with(error)
        self._owner.leave(self)

    def _pause_reading(self) -> bool:
        return self._owner.pause_reading(self)

    def _resume_reading(self) -> None:
        self._owner.resume_reading(self)

    def _failed(self, msg: Msg, failure: Failure) -> None:
        self._owner.handler_failed(self, msg, failure)

    def _respond(self, reply: str, payload: bytes, headers: HeadersLike | None) -> Awaitable[None]:
        return self._owner.publish(reply, payload, None, headers)

    # --- messages are taken ----------------------------------------------------------------------------------

    def next(self, timeout: float | None = None) -> Deferred[Msg]:
        """The next message.

        Cancelling loses no message.

        :param timeout: seconds to wait at most; None waits without an end.
        :raises NextMessageTimeoutError: none came in time.
        :raises SubscriptionClosedError: the subscription has ended, and every message was taken; where an error ended
            it, that one is raised instead.
        """
        if self._handler is not None:
            self._refuse_taking("next")
        if timeout is not None:
            check_seconds("timeout", timeout)
        queue = self._queue
        if queue and not self._waiting:
            msg = queue.popleft()
            self._bytes -= msg.size
            if self._was_full or self._ended:
                self._taken()
            return succeed(msg)
        if self._ended and not queue:
            return fail(self._end_error())
        waiter = self._new_taker()
        if timeout is not None:
            subject = self.subject

            def on_timeout(result: Any, seconds: float) -> Any:
                raise NextMessageTimeoutError(f"no message on {subject!r} within {seconds:g} s")

            waiter.addTimeout(timeout, self._owner.reactor, on_timeout)
        return waiter

    def __aiter__(self) -> Subscription:
        if self._handler is not None:
            self._refuse_taking("async for")
        return self

    async def __anext__(self) -> Msg:
        queue = self._queue
        if queue and not self._waiting:
            msg = queue.popleft()
            self._bytes -= msg.size
            if self._was_full or self._ended:
                self._taken()
            return msg
        if not self._ended or queue:
            try:
                return await self._new_taker()
            except SubscriptionClosedError:
                raise StopAsyncIteration from None
            except NatsError as end:
                if self._is_quiet_end(end):
                    raise StopAsyncIteration from None
                self._error_told = True
                raise
        error = self.error
        if error is None or self._error_told or self._is_quiet_end(error):
            raise StopAsyncIteration
        self._error_told = True
        raise error

    def _is_quiet_end(self, error: NatsError) -> bool:
        return isinstance(error, ConnectionClosedError) and self._owner.closed_on_purpose

    def _new_taker(self) -> Deferred[Msg]:
        if self._waiting is None:
            self._waiting = deque()
        waiter: Deferred[Msg] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def _taken(self) -> None:
        """A message was taken that had been too many, or that may have been the last."""
        if self._was_full:
            self._check_room()
        if self._ended:
            self._check_end()

    def _wake(self) -> None:
        """Give what waits to those who wait, each in their order."""
        queue, waiting = self._queue, self._waiting
        while queue and waiting:
            msg = queue.popleft()
            self._left(msg)
            waiting.popleft().callback(msg)
        if self._ended:
            self._check_end()

    def _refuse_taking(self, what: str) -> None:
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
        if self._confirmation is None:
            if self._closed:
                return fail(self._end_error())
            self._confirmation = OneShot()
        waiting = self._confirmation.wait()
        if not self._confirmation.done:
            self._owner.confirm(self)
        return waiting.addCallback(lambda _: self)

    def _server_has_it(self) -> None:
        confirmation = self._confirmation
        if confirmation is not None and not confirmation.done:
            self._confirmation = _CONFIRMED
            confirmation.happen()

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
        if self._closed:
            return succeed(None)
        if self._closing is None:
            self._closing = Waiters()
        return self._closing.wait()

    def _end(self) -> None:
        """The server sends no more."""
        self._shut()
        self._check_end()
        if not self._closed:
            self._owner.ending.add(self)

    def _end_with(self, error: NatsError) -> None:
        if self._ended:
            return
        self.error = error
        if self._confirmation is not None:
            self._confirmation.fail(error)
        self._end()

    def _check_end(self) -> None:
        if self._ended and not self._closed and not self.pending_msgs and not self.active_handlers:
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._owner.ending.discard(self)
        if self._confirmation is not None:
            self._confirmation.fail(self._end_error())
        waiting = self._waiting
        while waiting:
            waiting.popleft().errback(self._end_error())
        self._owner.resume_reading(self)
        if self._closing is not None:
            self._closing.fire(None)

    def _abandon(self, error: NatsError) -> None:
        """End it now, whatever waits or runs."""
        if self._closed:
            return
        self.error = self._drain_error = self.error or error
        self._drop_waiting()
        self._shut()
        self._close()
