"""Stopping in steps, one after the other, within one time limit for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.errors import NatsError

Step = tuple[str, Mapping[str, Callable[[], Any]]]
"""What a step is called, and the calls that it makes at once, by the names of what is stopped. A call may return a Deferred."""

_log = Logger()


class Stop:
    """One stop.

    Each step waits for the one before. When the time is over, what is waited for is cancelled, and the steps that are left are
    begun and cancelled at once: everything is closed, but nothing is waited for. What fails is logged; the stop goes on.

    :param reactor: the clock.
    :param timeout: seconds for all steps together.
    """

    def __init__(self, reactor: Any, timeout: float) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._is_over = False
        self._is_done = False
        self._current: Deferred[Any] | None = None
        self._waiters: list[Deferred[None]] = []

    def run(self, steps: Iterable[Step]) -> None:
        """Begin. The iterable is asked for each step when the one before is done."""
        limit = self._reactor.callLater(self._timeout, self.cut_short)
        running = Deferred.fromCoroutine(self._run(steps))
        running.addErrback(lambda failure: _log.failure("stopping failed", failure))
        running.addBoth(self._done, limit)

    def when_done(self) -> Deferred[None]:
        """Fires when all steps are done. It does not fail."""
        if self._is_done:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    def cut_short(self) -> None:
        """The time is over."""
        self._is_over = True
        if self._current is not None:
            self._current.cancel()

    async def _run(self, steps: Iterable[Step]) -> None:
        for step, calls in steps:
            unfinished = set(calls)
            all_done = DeferredList([self._call(step, name, call, unfinished) for name, call in calls.items()])
            self._current = self._until(all_done)
            if self._is_over:
                self._current.cancel()
            await self._current
            self._current = None
            if unfinished:
                _log.warn("the time to stop is over: {names} did not {step}", names=", ".join(sorted(unfinished)), step=step)

    @staticmethod
    def _until(all_done: Deferred[Any]) -> Deferred[None]:
        """Fires with *all_done*. Cancelling it cancels *all_done*, and does not wait for what a cancelled call still does."""

        def cancelled(deferred: Deferred[None]) -> None:
            all_done.cancel()
            if not deferred.called:
                deferred.callback(None)

        until: Deferred[None] = Deferred(cancelled)
        all_done.addBoth(lambda _: None if until.called else until.callback(None))
        return until

    def _call(self, step: str, name: str, call: Callable[[], Any], unfinished: set[str]) -> Deferred[None]:
        def failed(failure: Failure) -> None:
            if failure.check(CancelledError) and self._is_over:
                return
            unfinished.discard(name)
            if failure.check(NatsError):
                _log.warn("{name} did not {step}: {error}", name=name, step=step, error=failure.value)
            else:
                _log.failure("{name} did not {step}", failure, name=name, step=step)

        return maybeDeferred(call).addCallbacks(lambda _: unfinished.discard(name), failed)

    def _done(self, _: object, limit: Any) -> None:
        if limit.active():
            limit.cancel()
        self._is_done = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)
