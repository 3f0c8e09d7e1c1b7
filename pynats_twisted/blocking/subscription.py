"""What ``subscribe`` returns: messages by ``next()``, or in a loop."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING
from typing import Protocol as Interface

from ..errors import ConfigurationError, ConnectionClosedError, NatsError, NextMessageTimeoutError, SubscriptionClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..protocol.headers import HeadersLike
    from ..protocol.message import Msg
    from ..protocol.twin import SubscriptionRecord


class SubscriptionOwner(Interface):
    """What subscriptions ask their client for."""

    @property
    def closed_on_purpose(self) -> bool: ...

    def wait_for(self, condition: Callable[[], object], timeout: float | None) -> bool: ...

    def look(self) -> None: ...

    def respond(self, reply: str, payload: bytes, headers: HeadersLike | None) -> None: ...

    def confirm(self, subscription: BlockingSubscription, timeout: float | None) -> None: ...

    def limit(self, subscription: BlockingSubscription, limit: int) -> None: ...

    def leave(self, subscription: BlockingSubscription) -> None: ...

    def drain_subscription(self, subscription: BlockingSubscription, timeout: float | None) -> None: ...

    def message_dropped(self, subscription: BlockingSubscription, first: bool) -> None: ...


class BlockingSubscription:
    """A subscription to a subject, over all reconnects, until it ends.

    It ends by :meth:`unsubscribe`, :meth:`drain`, the last message of its limit, a denied permission, or the end of the client.
    Messages wait in it from the call that received them to the :meth:`next` that takes them; any call of the client receives
    for all of its subscriptions.

    :ivar subject: what it listens to; :ivar queue: its queue group, or None; :ivar sid: its id.
    :ivar dropped: messages that were dropped because too many were waiting.
    :ivar error: what ended it, or None.
    """

    def __init__(self, owner: SubscriptionOwner, subject: str, queue: str | None, pending_msgs: int, pending_bytes: int) -> None:
        for name, value in (("pending_msgs", pending_msgs), ("pending_bytes", pending_bytes)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ConfigurationError(f"{name}={value!r} is not a number of 0 (no bound) or more")
        self.subject = subject
        self.queue = queue
        self.sid = 0
        self.dropped = 0
        self.error: NatsError | None = None
        self._owner = owner
        self._record: SubscriptionRecord | None = None
        self._max_msgs = pending_msgs
        self._max_bytes = pending_bytes
        self._waiting: deque[Msg] = deque()
        self._waiting_bytes = 0
        self._slow = False
        # No more messages come from the server.
        self._ended = False
        # A loop raises what ended the subscription once, and then stops.
        self._error_told = False

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def pending_msgs(self) -> int:
        """Messages that wait to be taken."""
        return len(self._waiting)

    @property
    def pending_bytes(self) -> int:
        """Bytes of the messages that wait: subject, reply, headers and payload."""
        return self._waiting_bytes

    @property
    def delivered(self) -> int:
        """Messages that came from the server, over all connections."""
        return self._record.delivered if self._record is not None else 0

    @property
    def closed(self) -> bool:
        """It has ended, and every message was taken."""
        return self._ended and not self._waiting

    def __repr__(self) -> str:
        queue = f" queue={self.queue!r}" if self.queue else ""
        state = "closed" if self.closed else "ending" if self._ended else "open"
        return f"<BlockingSubscription {self.sid} {self.subject!r}{queue} {state}, {len(self._waiting)} waiting>"

    # --- messages come ---------------------------------------------------------------------------------------

    def _deliver(self, msg: Msg) -> None:
        if self._ended:
            return
        size = msg.size
        if (self._max_msgs and len(self._waiting) >= self._max_msgs) or (self._max_bytes and self._waiting_bytes + size > self._max_bytes):
            self.dropped += 1
            first, self._slow = not self._slow, True
            self._owner.message_dropped(self, first)
            return
        self._waiting_bytes += size
        self._waiting.append(msg)

    def _respond(self, reply: str, payload: bytes, headers: HeadersLike | None) -> None:
        self._owner.respond(reply, payload, headers)

    # --- messages are taken ----------------------------------------------------------------------------------

    def next(self, timeout: float | None = None) -> Msg:
        """The next message.

        :param timeout: seconds to wait at most; 0 takes what is there; None waits without an end.
        :raises NextMessageTimeoutError: none came in time.
        :raises SubscriptionClosedError: the subscription has ended, and every message was taken; where an error ended
            it, that one is raised instead.
        """
        if self._waiting:
            self._owner.look()
        else:
            self._owner.wait_for(self._has_news, timeout)
        if self._waiting:
            return self._take()
        if self._ended:
            error = self.error or SubscriptionClosedError(f"the subscription to {self.subject!r} has ended")
            # The same object may be raised again: without this its traceback would grow.
            raise error.with_traceback(None)
        raise NextMessageTimeoutError(f"no message on {self.subject!r} within {timeout:g} s")

    def _has_news(self) -> bool:
        return bool(self._waiting) or self._ended

    def _take(self) -> Msg:
        msg = self._waiting.popleft()
        self._waiting_bytes -= msg.size
        if self._slow and len(self._waiting) * 2 <= (self._max_msgs or len(self._waiting) * 2):
            self._slow = self._max_bytes > 0 and self._waiting_bytes * 2 > self._max_bytes
        return msg

    def __iter__(self) -> BlockingSubscription:
        return self

    def __next__(self) -> Msg:
        """The next message; stops when the subscription has ended. Where an error ended it, that is raised, once."""
        try:
            return self.next()
        except SubscriptionClosedError:
            raise StopIteration from None
        except NatsError as error:
            if error is not self.error:
                raise
            if self._error_told or (isinstance(error, ConnectionClosedError) and self._owner.closed_on_purpose):
                raise StopIteration from None
            self._error_told = True
            raise

    # --- it is confirmed, it ends ----------------------------------------------------------------------------

    def confirmed(self, timeout: float | None = None) -> BlockingSubscription:
        """Wait until the server has it: everything published from then on, by anybody, reaches it. Returns itself.

        :param timeout: seconds; the option ``flush_timeout`` (10) by default.
        :raises PermissionsViolationError: the server denied it.
        :raises InvalidSubjectError: the server does not accept its subject.
        :raises FlushTimeoutError: the server did not answer in time.
        :raises SubscriptionClosedError: :raises ConnectionClosedError: it has ended, or the client was closed.
        """
        self._owner.confirm(self, timeout)
        if self._ended:
            raise (self.error or SubscriptionClosedError(f"the subscription to {self.subject!r} has ended")).with_traceback(None)
        return self

    def unsubscribe(self, limit: int | None = None) -> None:
        """End it: at once, dropping what waits, or after ``limit`` messages, counted from its beginning.

        Ending what has ended does nothing.

        :raises InvalidSubscriptionError: the limit is not a positive number.
        """
        if limit is not None:
            if not self._ended:
                self._owner.limit(self, limit)
            return
        self._waiting.clear()
        self._waiting_bytes = 0
        if not self._ended:
            self._owner.leave(self)
            self._end()

    def drain(self, timeout: float | None = None) -> None:
        """End it without losing a message: tell the server to send no more, and receive what is under way.

        What came can still be taken, by :meth:`next` or a loop, which then ends.

        :param timeout: seconds; the option ``drain_timeout`` (30) by default.
        :raises DrainTimeoutError: the server did not answer in time. The subscription has ended all the same.
        :raises DisconnectedError: the connection was lost before the server said that nothing more comes, as above.
        """
        if not self._ended:
            self._owner.drain_subscription(self, timeout)

    def _end(self, error: NatsError | None = None) -> None:
        """The server sends no more."""
        if not self._ended:
            self.error = error
            self._ended = True
