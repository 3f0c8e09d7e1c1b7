"""How the messages of a subscription reach its handler: one after another, several at once, or in order by key."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from ..protocol.message import Msg

Handler = Callable[["Msg"], Any]
"""Gets each message: a plain function, one that returns a Deferred, or a coroutine function. What it gives is dropped."""

KeyFunction = Callable[["Msg"], Any]
"""Gives a message's key, anything hashable: messages with equal keys are handled in order, one at a time."""


class HandlerRunner:
    """Runs a handler over messages, at most ``concurrency`` at a time.

    A handler that returns a Deferred or a coroutine is busy until that has ended; then the next message gets its turn.
    With a key function, the messages of one key are handled in the order in which they came, one at a time.

    :param queue: the messages that wait; who fills it calls :meth:`pump`.
    :param started: called with a message when its handling begins.
    :param failed: called with a message and the failure when its handler raised.
    :param idle: called when a handler that took its time has ended.
    """

    __slots__ = ("_concurrency", "_failed", "_handler", "_idle", "_key", "_keys", "_queue", "_started", "active")

    def __init__(
        self,
        handler: Handler,
        concurrency: int,
        key: KeyFunction | None,
        queue: deque[Msg],
        started: Callable[[Msg], None],
        failed: Callable[[Msg, Failure], None],
        idle: Callable[[], None],
    ) -> None:
        self._handler = handler
        self._concurrency = concurrency
        self._key = key
        # What waits behind the message of a key that is being handled. A key that is not in here is free.
        self._keys: dict[Any, deque[Msg]] = {}
        self._queue = queue
        self._started = started
        self._failed = failed
        self._idle = idle
        self.active = 0

    @property
    def busy(self) -> bool:
        """A handler is running, or a message waits for one."""
        return bool(self.active or self._queue)

    def clear(self) -> None:
        """Forget what waits. What is being handled goes on."""
        self._queue.clear()
        for behind in self._keys.values():
            behind.clear()

    def pump(self) -> None:
        """Start handlers for what waits, as far as ``concurrency`` allows."""
        queue = self._queue
        while queue and self.active < self._concurrency:
            msg = queue.popleft()
            if self._key is None:
                self._started(msg)
                self.run(msg)
            else:
                self._pump_by_key(self._key, msg)

    def run(self, msg: Msg) -> None:
        """Handle one message now."""
        self.active += 1
        waiting = self._call(msg)
        if waiting is None:
            self.active -= 1
        else:
            waiting.addBoth(lambda _: self._ended())

    def _call(self, msg: Msg) -> Deferred[Any] | None:
        """Call the handler. Returns what has to be waited for, or None when it is over."""
        try:
            result = self._handler(msg)
        except Exception:  # noqa: BLE001 - the user's code; it is logged
            self._failed(msg, Failure())
            return None
        if result is None:
            return None
        if iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        elif not isinstance(result, Deferred):
            return None
        result.addErrback(lambda failure: self._failed(msg, failure))
        # One that is over is not waited for: a long queue of such would become a deep recursion.
        return None if result.called and not result.paused else result

    def _ended(self) -> None:
        self.active -= 1
        self.pump()
        self._idle()

    def _pump_by_key(self, key_of: KeyFunction, msg: Msg) -> None:
        try:
            key = key_of(msg)
            behind = self._keys.get(key)
        except Exception:  # noqa: BLE001 - the user's code; it is logged
            self._started(msg)
            self._failed(msg, Failure())
            return
        if behind is None:
            self._run_key(key, msg)
        else:
            behind.append(msg)

    def _run_key(self, key: Any, msg: Msg) -> None:
        behind = self._keys.setdefault(key, deque())
        while True:
            self._started(msg)
            self.active += 1
            waiting = self._call(msg)
            if waiting is not None:
                waiting.addBoth(lambda _: self._key_ended(key))
                return
            self.active -= 1
            if not behind:
                break
            msg = behind.popleft()
        del self._keys[key]

    def _key_ended(self, key: Any) -> None:
        self.active -= 1
        behind = self._keys[key]
        if behind:
            self._run_key(key, behind.popleft())
        else:
            del self._keys[key]
        self.pump()
        self._idle()
