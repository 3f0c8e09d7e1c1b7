"""Publishing what peers send, in order and bounded: a lane for each route, and in it a window for each peer.

A window holds at most a given number of messages (and bytes) that were published and are not confirmed. What is offered beyond
that, or while NATS is down, waits; then the window is full, and its owner stops reading from the peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed

from pynats_twisted.bridge.flushes import FlushRounds
from pynats_twisted.bridge.window import PublishWindow, WindowOwner
from pynats_twisted.client.status import ClientStatus, Closed, Connected, Reconnected, ServerErrorEvent
from pynats_twisted.errors import NatsError, PermissionsViolationError
from pynats_twisted.protocol.subjects import matches

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from pynats_twisted.bridge.metrics import RouteMetrics
    from pynats_twisted.client.client import NatsClient
    from pynats_twisted.client.status import StatusEvent

RETRY_DELAY: Final = 0.25
"""Seconds until a publish that found no room is tried again."""

DENIED_FOR: Final = 60.0
"""Seconds that a denied permission stays a problem of the route."""


class PublishLane:
    """What the windows of one route share: the client, the confirmations, the counters.

    :param reactor: for timers.
    :param client: where messages are published.
    :param metrics: the route's.
    :param confirm: ``"none"``: a message is done when the client has buffered it; ``"server"``: when the server has it.
    :param pattern: the subjects of the route, as a subject with wildcards: denied permissions on others are not ours.
    :param limit: messages of one window that may be unconfirmed.
    """

    def __init__(
        self, reactor: Any, client: NatsClient, metrics: RouteMetrics, *, confirm: str = "server", pattern: str = ">", limit: int = 256
    ) -> None:
        self.reactor = reactor
        self.client = client
        self.metrics = metrics
        self.limit = limit
        self.flushes = FlushRounds(reactor, client) if confirm == "server" else None
        self._pattern = pattern
        self._denied_at: tuple[float, str] | None = None
        self._windows: dict[PublishWindow, None] = {}
        self._retry: IDelayedCall | None = None
        self._idle: Deferred[None] | None = None
        self._open = False

    def open(self) -> None:
        """Begin to follow the client's status."""
        self._open = True
        self.client.add_listener(self._status_changed)
        self.metrics.in_flight.set_function(lambda: sum(window.in_flight for window in self._windows))
        self.metrics.queue_bytes.set_function(lambda: sum(window.waiting_bytes for window in self._windows))

    def close(self, reason: str = "stopped") -> None:
        """Give up what is left, and forget the client."""
        self._open = False
        self.client.remove_listener(self._status_changed)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self.flushes is not None:
            self.flushes.close()
        for window in list(self._windows):
            window.give_up(reason)

    def window(self, owner: WindowOwner) -> PublishWindow:
        """A window for one peer."""
        window = PublishWindow(self, owner)
        self._windows[window] = None
        return window

    def __len__(self) -> int:
        """How many windows there are; one whose peer has gone counts until its messages are confirmed."""
        return len(self._windows)

    def forget(self, window: PublishWindow) -> None:
        """A window is over."""
        self._windows.pop(window, None)
        if not self._windows and self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)

    def when_empty(self) -> Deferred[None]:
        """Fires when every window is over; cancelling it just stops waiting. One at a time may wait."""
        if not self._windows:
            return succeed(None)
        self._idle = Deferred(self._stop_waiting)
        return self._idle

    def _stop_waiting(self, _: Deferred[None]) -> None:
        self._idle = None

    @property
    def is_up(self) -> bool:
        """Whether publishing makes sense at the moment."""
        return self._open and self.client.is_connected

    def problems(self) -> list[str]:
        """What keeps messages from being published, in words."""
        denied = self.denied_problem()
        found = [denied] if denied is not None else []
        if self.client.status is not ClientStatus.CONNECTED:
            found.append(f"the NATS connection is {self.client.status.value}")
        return found

    def denied_problem(self) -> str | None:
        """The subject that the server would not let the bridge publish on, lately, in words; None where there is none."""
        if self._denied_at is None or self.reactor.seconds() - self._denied_at[0] >= DENIED_FOR:
            return None
        return f"the NATS server denies publishing to {self._denied_at[1]!r}"

    def pump(self) -> None:
        """Let every window go on."""
        for window in list(self._windows):
            window.pump()

    def retry_soon(self) -> None:
        """Let every window go on after a moment, once for all that ask."""
        if self._retry is None and self._open:
            self._retry = self.reactor.callLater(RETRY_DELAY, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self.pump()

    def _status_changed(self, event: StatusEvent) -> None:
        if self.flushes is not None:
            self.flushes.heard(event)
        if isinstance(event, (Connected, Reconnected)):
            self.pump()
        elif isinstance(event, Closed):
            for window in list(self._windows):
                window.fail("closed")
        elif isinstance(event, ServerErrorEvent):
            error = event.error
            if isinstance(error, PermissionsViolationError) and error.operation.startswith("publish"):
                self._permission_denied(error.subject)

    def _permission_denied(self, subject: str) -> None:
        try:
            ours = matches(self._pattern, subject)
        except NatsError:
            # The server may shorten what it quotes.
            ours = False
        if not ours:
            return
        self._denied_at = (self.reactor.seconds(), subject)
        if self.flushes is None:
            # With confirmations the window counts it, and knows how many messages it was.
            self.metrics.failed("permission")
