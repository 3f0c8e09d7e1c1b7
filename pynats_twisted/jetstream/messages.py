"""Messages of a pull consumer for ``async for``."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from .consuming import Consumption, WarningListener
from .message import JsMsg
from .pull_options import GroupOptions
from .pulls import PullPlan

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from ..protocol.message import Msg
    from .pull_consumer import PullConsumer

# Whoever waits is woken by the first message at once, but where messages follow so closely, when all of one read are there.
_CLOSELY = 0.001


class Messages(Consumption):
    """The messages of a pull consumer, for ``async for``, until :meth:`stop`, :meth:`drain` or the end of the consumer.

    Leaving the loop does not end it: use ``async with``, or call :meth:`stop`.

    The iteration raises what ended it, once: see :attr:`.Consumption.done`.
    """

    def __init__(self, consumer: PullConsumer, plan: PullPlan, group: GroupOptions, listener: WarningListener | None) -> None:
        super().__init__(consumer, plan, group, listener)
        self._has_extras = self._counts_bytes or self._reads_pins
        self._waiting: deque[Deferred[JsMsg]] = deque()
        self._error_told = False
        self._woken_at = 0.0
        self._waking: IDelayedCall | None = None

    async def __aenter__(self) -> Messages:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.stop()
        if self.error is None:
            await self.done

    # --- messages come ---------------------------------------------------------------------------------------

    def _received(self, msg: Msg) -> Deferred[None] | None:
        if not msg.reply:
            self._session.status(msg)
            return None
        pulls = self._pulls
        pulls.open -= 1
        pulls.arrived += 1
        if self._has_extras:
            self._note(msg)
        if not self._waiting:
            return self._keep(msg)
        if not self._queue and self._waking is None:
            now = self._seconds()
            if now - self._woken_at > _CLOSELY:
                self._woken_at = now
                self._hand_out(msg)
                return None
        busy = self._keep(msg)
        if self._waking is None:
            self._waking = self._client.reactor.callLater(0, self._wake)
        return busy

    def _wake(self) -> None:
        self._waking = None
        while self._waiting and (msg := self._take()) is not None:
            self._hand_out(msg)
        self._woken_at = self._seconds()
        self._settle()

    def _hand_out(self, msg: Msg) -> None:
        """Give a message to who waits the longest."""
        waiter = self._waiting.popleft()
        self._passed()
        waiter.callback(JsMsg(msg, self._js))

    def _passed(self) -> None:
        """One more was handed out."""
        if self._stop_after:
            self._handed += 1
            if self._handed >= self._stop_after:
                self.stop()
                return
        if self._pulls.open + self._pulls.held <= self._low or self._counts_bytes:
            self._session.refill()

    # --- messages are taken ----------------------------------------------------------------------------------

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> JsMsg:
        if not self._waiting and self._queue:
            msg = self._take()
            if msg is not None:
                self._passed()
                if not self._queue and self._waking is None:
                    # Not before this one can have been acked: the client's drain may wait for it.
                    self._waking = self._client.reactor.callLater(0, self._wake)
                return JsMsg(msg, self._js)
            self._session.refill()
            self._settle()
        if self._ending and not self._queue:
            raise self._end_of_iteration()
        waiter: Deferred[JsMsg] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return await waiter

    def _end_of_iteration(self) -> BaseException:
        if self.error is None or self._error_told:
            return StopAsyncIteration()
        self._error_told = True
        return self.error

    def _no_more(self) -> None:
        if not self._queue:
            waiting, self._waiting = self._waiting, deque()
            for waiter in waiting:
                waiter.errback(self._end_of_iteration())

    def _is_told(self) -> bool:
        return True

    def _settle(self) -> None:
        if self._ending:
            self._no_more()
        super()._settle()
