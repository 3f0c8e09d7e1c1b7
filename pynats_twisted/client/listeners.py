"""Telling listeners what happens to a client: in order, soon, and never from inside a call of the client."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from .status import ClientStats, HandlerError, PublishDropped, ServerErrorEvent, SlowConsumer, StatusEvent

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

Listener = Callable[[StatusEvent], Any]

_MAX_EVENTS = 10_000
# Of these a server can cause any number in one turn. What happens to the connection is told whatever else waits.
_BOUNDED_EVENTS = (ServerErrorEvent, HandlerError, SlowConsumer, PublishDropped)


class Listeners:
    """The listeners of one client.

    :param counters: where listeners that raise, and events that were dropped, are counted.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime, counters: ClientStats) -> None:
        self._reactor = reactor
        self._counters = counters
        self._listeners: list[Listener] = []
        self._events: deque[StatusEvent] = deque()
        self._call: IDelayedCall | None = None

    def add(self, listener: Listener) -> None:
        """Call ``listener`` with each event."""
        self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        """Call it no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def emit(self, event: StatusEvent) -> None:
        """Tell the listeners, soon."""
        if not self._listeners:
            return
        if len(self._events) >= _MAX_EVENTS and isinstance(event, _BOUNDED_EVENTS):
            self._counters.dropped_events += 1
            return
        self._events.append(event)
        if self._call is None:
            self._call = self._reactor.callLater(0, self.flush)

    def flush(self) -> None:
        """Tell the listeners now what waits."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        while self._events:
            event = self._events.popleft()
            for listener in list(self._listeners):
                try:
                    listener(event)
                except Exception:  # noqa: BLE001 - the user's code; it is logged
                    self._counters.listener_errors += 1
                    self._log.failure("A listener failed on {event!r}", event=event)
