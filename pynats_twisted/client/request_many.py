"""One request, many replies (ADR-47)."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from ..errors import ConfigurationError, NatsError, NoRespondersError
from .waiting import OneShot

if TYPE_CHECKING:
    from ..protocol.message import Msg
    from .requests import Requests

NO_RESPONDERS = 503


class RequestMany(AsyncIterator["Msg"]):
    """The replies to one request, for ``async for``.

    It ends after ``max_msgs`` replies, when none came for ``stall`` seconds after one, at the ``sentinel`` (which is not
    handed out), or at ``timeout``. None of these is an error. Where nobody listens, NoRespondersError is raised.

    :ivar reason: what ended it: ``"max_msgs"``, ``"stall"``, ``"sentinel"``, ``"timeout"``, ``"cancelled"`` or
        ``"error"``; None before.
    :ivar dropped: replies that were dropped because too many waited to be taken.
    """

    def __init__(
        self,
        requests: Requests,
        reply: str,
        subject: str,
        *,
        max_msgs: int | None,
        stall: float | None,
        end: float,
        sentinel: Callable[[Msg], bool] | None,
        bounds: tuple[int, int],
    ) -> None:
        if max_msgs is not None and max_msgs < 1:
            raise ConfigurationError(f"max_msgs={max_msgs!r} is not a number of 1 or more")
        if stall is not None and stall <= 0:
            raise ConfigurationError(f"stall={stall!r} is not a number of seconds above 0")
        self.subject = subject
        self.reason: str | None = None
        self.dropped = 0
        self._requests = requests
        self.reply = reply
        self._max_msgs = max_msgs
        self._stall = stall
        self._sentinel = sentinel
        # Replies, and their bytes, that may wait to be taken; 0 for no bound.
        self._max_waiting, self._max_bytes = bounds
        self._count = 0
        self._end = end
        # When it is over where no reply comes before, and what that means.
        self._due = end
        self._deadline = "timeout"
        # When :meth:`expired` is called: then, or earlier.
        self.alarm = end
        self._queue: deque[Msg] = deque()
        self._bytes = 0
        self._waiting: deque[Deferred[Msg]] = deque()
        self._error: BaseException | None = None
        self._over: OneShot | None = None

    def __repr__(self) -> str:
        return f"<RequestMany {self.subject!r}, {self._count} replies, {self.reason or 'open'}>"

    # --- taking ----------------------------------------------------------------------------------------------

    def __aiter__(self) -> RequestMany:
        return self

    async def __anext__(self) -> Msg:
        if self._queue:
            msg = self._queue.popleft()
            self._bytes -= msg.size
            return msg
        if self.reason is not None:
            raise self._end_error()
        waiter: Deferred[Msg] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return await waiter

    def collect(self) -> Deferred[list[Msg]]:
        """All replies, when the last has come.

        :raises NoRespondersError: nobody listens.
        """

        async def gather() -> list[Msg]:
            return [msg async for msg in self]

        return Deferred.fromCoroutine(gather())

    def ended(self) -> Deferred[None]:
        """Fires when no reply comes any more, whatever waits to be taken; a new Deferred each time."""
        if self.reason is not None:
            return succeed(None)
        if self._over is None:
            self._over = OneShot()
        return self._over.wait()

    def waiting(self) -> list[Msg]:
        """Take all replies that have come and were not taken: a whole list costs less than one after the other."""
        msgs = list(self._queue)
        self._queue.clear()
        self._bytes = 0
        return msgs

    def cancel(self) -> None:
        """Take no more replies. Who leaves the loop early may call it; else the request ends by itself, at its timeout."""
        self._requests.forget(self.reply)
        self._finish("cancelled")

    def _end_error(self) -> BaseException:
        error, self._error = self._error, None
        return error if error is not None else StopAsyncIteration()

    # --- replies and ends ------------------------------------------------------------------------------------

    def received(self, msg: Msg) -> None:
        """A reply has come."""
        if not self._count and not msg.data and msg.status == NO_RESPONDERS:
            self.failed(NoRespondersError(self.subject))
            return
        if self._sentinel is not None:
            try:
                is_last = self._sentinel(msg)
            except Exception as error:  # noqa: BLE001 - the user's code; the iteration raises it
                self._requests.forget(self.reply)
                self._error = error
                self._finish("error")
                return
            if self.reason is not None:
                # It was cancelled in there.
                return
            if is_last:
                self._requests.forget(self.reply)
                self._finish("sentinel")
                return
        self._count += 1
        last = self._max_msgs is not None and self._count >= self._max_msgs
        if last:
            self._requests.forget(self.reply)
        elif self._stall is not None:
            self._wait_anew(self._stall)
        if self._waiting:
            self._waiting.popleft().callback(msg)
        elif self._is_full(msg.size):
            self.dropped += 1
        else:
            self._queue.append(msg)
            self._bytes += msg.size
        if last:
            self._finish("max_msgs")

    def _is_full(self, size: int) -> bool:
        return bool(
            (self._max_waiting and len(self._queue) >= self._max_waiting) or (self._max_bytes and self._bytes + size > self._max_bytes)
        )

    def _wait_anew(self, stall: float) -> None:
        due = self._requests.seconds() + stall
        self._deadline = "stall" if due < self._end else "timeout"
        self._due = min(due, self._end)
        if self._due < self.alarm:
            self.alarm = self._due
            self._requests.set_alarm(self)

    def expired(self) -> None:
        """The alarm: the whole time is over, or nothing came for the stall time, or it is too early because something came meanwhile."""
        if self.alarm < self._due:
            self.alarm = self._due
            self._requests.set_alarm(self)
            return
        self._requests.forget(self.reply)
        self._finish(self._deadline)

    def failed(self, error: NatsError) -> None:
        """The request cannot be answered any more."""
        if self.reason is not None:
            return
        self._requests.forget(self.reply)
        self._error = error
        self._finish("error")

    def _finish(self, reason: str) -> None:
        if self.reason is not None:
            return
        self.reason = reason
        waiting = self._waiting
        while waiting:
            waiting.popleft().errback(self._end_error())
        if self._over is not None:
            self._over.happen()
        self._requests.settled()
