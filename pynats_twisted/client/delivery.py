"""How the messages of a subscription reach its handler: one after another, several at once, or in order by key."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .coroutines import begin

if TYPE_CHECKING:
    from ..protocol.message import Msg

Handler = Callable[["Msg"], Any]
"""Gets each message: a plain function, one that returns a Deferred, or a coroutine function. What it gives is dropped."""

KeyFunction = Callable[["Msg"], Any]
"""Gives a message's key, anything hashable: messages with equal keys are handled in order, one at a time."""

# Taken from the room while no message may go straight to the handler: more than any concurrency, and fast to reckon with.
_SHUT = 1 << 28
# Stands for the key of a message that has none, and for the keys of a subscription that has none.
_NO_KEY: Any = object()
_NO_KEYS: dict[Any, Any] = {}


class Delivery:
    """The part of a subscription that each message passes: it runs the handler, at most ``concurrency`` times at once.

    A handler that returns a Deferred or a coroutine is busy until that has ended; then the next message gets its turn.
    With a key function, the messages of one key are handled in the order in which they came, one at a time.

    There is one for each of perhaps very many subscriptions: what only some of them need is made when they need it.
    """

    __slots__ = ("_concurrency", "_ended", "_handler", "_key_of", "_keys", "_pumping", "_queue", "_room", "_sorted", "_takes_runs")

    def __init__(self, handler: Handler | None, concurrency: int, key_of: KeyFunction | None) -> None:
        concurrency = min(concurrency, _SHUT - 1)
        self._handler: Any = handler
        self._concurrency = concurrency
        self._key_of = key_of
        # How many handlers may still begin. Above 0 only while a message may go straight to the handler.
        self._room = concurrency if handler is not None and key_of is None else concurrency - _SHUT
        self._pumping = False
        # Whether it gains by getting several messages at once: see _deliver_run.
        self._takes_runs = handler is None
        # No more messages come from the server.
        self._ended = False
        self._queue: deque[Msg] | None = None
        # What waits behind the message of a key that is being handled, and its number. A key that is not in here is free.
        self._keys: dict[Any, deque[Msg] | tuple[()]] = {} if key_of is not None else _NO_KEYS
        self._sorted = 0

    if TYPE_CHECKING:
        # A subscription has these.

        def _wait(self, msg: Msg) -> None:
            """Take a message that cannot be handled now."""

        def _left(self, msg: Msg) -> None:
            """A message waits no longer."""

        def _failed(self, msg: Msg, failure: Failure) -> None:
            """The handling of a message has failed."""

        def _check_end(self) -> None:
            """The last message may have been handled."""

    @property
    def pending_msgs(self) -> int:
        """Messages that wait to be handled or taken."""
        queue = self._queue
        return self._sorted if queue is None else len(queue) + self._sorted

    @property
    def active_handlers(self) -> int:
        """Handlers that are running."""
        return self._concurrency - self._room % _SHUT

    # --- straight to the handler -----------------------------------------------------------------------------

    def _deliver(self, msg: Msg) -> None:
        room = self._room
        if room <= 0:
            self._wait(msg)
            return
        self._room = room - 1
        try:
            result = self._handler(msg)
        except BaseException:  # noqa: BLE001 - the user's code; it is logged
            self._failed(msg, Failure())
        else:
            if result is not None and self._goes_on(msg, result, _NO_KEY):
                return
        self._room += 1
        if self._queue or self._ended:
            self._settle()

    def _deliver_run(self, msgs: list[Msg]) -> None:
        """Several messages. What ``_deliver`` does for each, written out once more: a call for each would cost more than the rest."""
        handler = self._handler
        for msg in msgs:
            room = self._room
            if room <= 0:
                self._wait(msg)
                continue
            self._room = room - 1
            try:
                result = handler(msg)
            except BaseException:  # noqa: BLE001 - the user's code; it is logged
                self._failed(msg, Failure())
            else:
                if result is not None and self._goes_on(msg, result, _NO_KEY):
                    continue
            self._room += 1
            if self._queue or self._ended:
                self._settle()

    def _goes_on(self, msg: Msg, result: Any, key: Any) -> bool:
        """Look at what a handler returned. True when it is not over: :meth:`_over` is called then, perhaps before this returns."""
        if result.__class__ is not CoroutineType:
            if isinstance(result, Deferred):
                return self._adopt(msg, result, key)
            if not isinstance(result, Coroutine):
                return False
        try:
            suspended = begin(result)
        except BaseException:  # noqa: BLE001 - the user's code; it is logged
            self._failed(msg, Failure())
            return False
        if suspended is None:
            return False
        suspended.go_on(partial(self._over, msg, key))
        return True

    def _adopt(self, msg: Msg, result: Deferred[Any], key: Any) -> bool:
        if result.called and not result.paused:
            # One that is over is not waited for: a long queue of such would become a deep recursion.
            if isinstance(result.result, Failure):
                result.addErrback(partial(self._failed, msg))
            return False
        result.addCallbacks(lambda _: self._over(msg, key, None), lambda failure: self._over(msg, key, failure))
        return True

    def _over(self, msg: Msg, key: Any, failure: Failure | None) -> None:
        """A handler that took its time has ended."""
        if failure is not None:
            self._failed(msg, failure)
        self._room += 1
        if key is not _NO_KEY:
            self._next_of(key)
        if self._queue or self._ended:
            self._settle()

    def _settle(self) -> None:
        self._pump()
        if self._ended:
            self._check_end()

    # --- by way of the queue ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Start handlers for what waits, as far as ``concurrency`` allows."""
        queue = self._queue
        if not queue or self._pumping:
            return
        # What comes meanwhile has its place behind these.
        self._pumping = True
        self._room -= _SHUT
        try:
            while queue and self._room % _SHUT:
                msg = queue.popleft()
                if self._key_of is None:
                    self._left(msg)
                    self._run(msg, _NO_KEY)
                else:
                    self._sort(self._key_of, msg)
        finally:
            self._room += _SHUT
            self._pumping = False

    def _run(self, msg: Msg, key: Any) -> bool:
        """Handle one message now. True when that is not over."""
        self._room -= 1
        try:
            result = self._handler(msg)
        except BaseException:  # noqa: BLE001 - the user's code; it is logged
            self._failed(msg, Failure())
        else:
            if result is not None and self._goes_on(msg, result, key):
                return True
        self._room += 1
        return False

    def _sort(self, key_of: KeyFunction, msg: Msg) -> None:
        keys = self._keys
        try:
            key = key_of(msg)
            behind = keys.get(key)
        except BaseException:  # noqa: BLE001 - the user's code; it is logged
            self._left(msg)
            self._failed(msg, Failure())
            return
        if behind is None:
            keys[key] = ()
            self._left(msg)
            if not self._run(msg, key):
                self._next_of(key)
        elif behind:
            behind.append(msg)
            self._sorted += 1
        else:
            keys[key] = deque((msg,))
            self._sorted += 1

    def _next_of(self, key: Any) -> None:
        """The message of a key was handled: go on with those behind it."""
        keys = self._keys
        while behind := keys[key]:
            msg = behind.popleft()
            self._sorted -= 1
            self._left(msg)
            if self._run(msg, key):
                return
        del keys[key]

    def _shut(self) -> None:
        """Take nothing more."""
        if not self._ended:
            self._ended = True
            self._room -= _SHUT

    def _clear(self) -> None:
        """Drop what waits. What is being handled goes on."""
        if self._queue is not None:
            self._queue.clear()
        for key in self._keys:
            self._keys[key] = ()
        self._sorted = 0
