"""The messages of a subscription that wait, within its bounds, and what is done when more would."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal, get_args

from ..errors import ConfigurationError, NatsError, SlowConsumerError
from .delivery import Delivery, Handler, KeyFunction

if TYPE_CHECKING:
    from ..protocol.message import Msg

Overflow = Literal["drop-new", "drop-old", "pause", "error"]

_UNBOUNDED = 1 << 62


class Backlog(Delivery):
    """The part of a subscription that lets messages wait.

    :ivar dropped: messages that were dropped because too many were waiting.
    """

    __slots__ = ("_bytes", "_max_bytes", "_max_msgs", "_overflow", "_slow", "_was_full", "dropped", "subject")

    def __init__(
        self,
        subject: str,
        handler: Handler | None,
        concurrency: int,
        ordered_by: KeyFunction | None,
        pending_msgs: int,
        pending_bytes: int,
        overflow: Overflow,
    ) -> None:
        super().__init__(handler, concurrency, ordered_by)
        self.subject = subject
        self.dropped = 0
        self._max_msgs = pending_msgs or _UNBOUNDED
        self._max_bytes = pending_bytes or _UNBOUNDED
        self._overflow = overflow
        self._bytes = 0
        # Too much was waiting, and more than half of the bounds is still; ``_slow`` when messages were dropped since.
        self._was_full = self._slow = False

    if TYPE_CHECKING:
        # A subscription has these.

        def _tell_takers(self) -> bool:
            """Give those who wait what waits. Returns whether there was somebody."""

        def _tell_dropped(self, first: bool) -> None:
            """A message was dropped, the first one since there was room."""

        def _overflowed(self, error: NatsError) -> None:
            """End because of an error."""

        def _pause_reading(self) -> bool:
            """Read nothing from the server for a while. False when it is not to be had any more."""

        def _resume_reading(self) -> None:
            """There is room again."""

    @property
    def pending_bytes(self) -> int:
        """Bytes of the messages that wait: subject, reply, headers and payload."""
        return self._bytes

    def _keep(self, msg: Msg) -> bool:
        """Let a message wait, if there is room for it."""
        if self._ended:
            return False
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        size = msg.size
        if (len(queue) + self._sorted >= self._max_msgs or self._bytes + size > self._max_bytes) and not self._make_room(size):
            return False
        queue.append(msg)
        self._bytes += size
        return True

    def _make_room(self, size: int) -> bool:
        """Too much is waiting: do what the policy says. Returns whether the message is still taken."""
        if self._tell_takers():
            # They are not too slow: they were not told yet.
            if self._ended:
                return False
            if not self._is_full(size):
                return True
        overflow = self._overflow
        if overflow == "pause" and self._pause_reading():
            # What was already read is still taken: no more than the transport reads at once.
            self._was_full = True
            return True
        if overflow == "error":
            self._count_dropped()
            self._overflowed(SlowConsumerError(self.subject, self.pending_msgs, self._bytes))
            return False
        if overflow == "drop-old" and size <= self._max_bytes:
            while self._queue and self._is_full(size):
                self._bytes -= self._queue.popleft().size
                self._count_dropped()
            # Where all that waits is behind a busy key it is the new one that goes, as one that is too large for any room.
            if not self._is_full(size):
                return True
        self._count_dropped()
        return False

    def _is_full(self, size: int) -> bool:
        return self.pending_msgs >= self._max_msgs or self._bytes + size > self._max_bytes

    def _count_dropped(self) -> None:
        self.dropped += 1
        self._tell_dropped(not self._slow)
        self._was_full = self._slow = True

    def _left(self, msg: Msg) -> None:
        self._bytes -= msg.size
        if self._was_full:
            self._check_room()

    def _check_room(self) -> None:
        if self.pending_msgs * 2 <= self._max_msgs and self._bytes * 2 <= self._max_bytes:
            self._was_full = self._slow = False
            self._resume_reading()

    def _drop_waiting(self) -> None:
        self._clear()
        self._bytes = 0


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
