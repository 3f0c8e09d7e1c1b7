"""Publishing what peers send, in order and bounded: a lane for each route, and in it a window for each peer.

A window holds at most a given number of messages (and bytes) that were published and are not confirmed. What is offered beyond
that, or while NATS is down, waits; then the window is full, and its owner stops reading from the peer.
"""

from __future__ import annotations

import secrets
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal

from twisted.internet.defer import Deferred, succeed

from pynats_twisted.bridge.activity import RouteActivity
from pynats_twisted.bridge.flushes import FlushRounds
from pynats_twisted.bridge.stream_window import StreamWindow
from pynats_twisted.bridge.window import PublishWindow, WindowOwner
from pynats_twisted.client.status import ClientStatus, Closed, Connected, Reconnected, ServerErrorEvent
from pynats_twisted.errors import NatsError, PermissionsViolationError
from pynats_twisted.protocol.subjects import matches

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from pynats_twisted.bridge.metrics import RouteMetrics
    from pynats_twisted.bridge.stream_refusals import Refusal
    from pynats_twisted.client.client import NatsClient
    from pynats_twisted.client.status import StatusEvent
    from pynats_twisted.jetstream.context import JetStreamContext

RETRY_DELAY: Final = 0.25
"""Seconds until a publish that found no room is tried again."""

MAX_RETRY_DELAY: Final = 5.0
"""Most seconds until a message that was not stored is published again; it is twice as long each time."""

DENIED_FOR: Final = 60.0
"""Seconds that a denied permission stays a problem of the route."""


class PublishLane:
    """What the windows of one route share: the client, the confirmations, the counters.

    :param reactor: for timers.
    :param client: where messages are published.
    :param metrics: the route's.
    :param confirm: ``"none"``: a message is done when the client has buffered it; ``"server"``: when the server has it;
        ``"jetstream"``: when a stream has stored it.
    :param pattern: the subjects of the route, as a subject with wildcards: denied permissions on others are not ours.
    :param limit: messages of one window that may be unconfirmed.
    :param jetstream: what publishes to streams; needed for ``"jetstream"``.
    :param message_ids: with ``"jetstream"``: give each message an id, so that one that is published again is stored once.
    :param retry_for: with ``"jetstream"``: seconds for which a message that no stream stores is published again.
    :param activity: who is told of what goes wrong, and of the hops of messages.
    """

    def __init__(
        self,
        reactor: Any,
        client: NatsClient,
        metrics: RouteMetrics,
        *,
        confirm: Literal["none", "server", "jetstream"] = "server",
        pattern: str = ">",
        limit: int = 256,
        jetstream: JetStreamContext | None = None,
        message_ids: bool = True,
        retry_for: float = inf,
        activity: RouteActivity | None = None,
    ) -> None:
        self.reactor = reactor
        self.client = client
        self.metrics = metrics
        self.limit = limit
        self.retry_for = retry_for
        self.flushes = FlushRounds(reactor, client) if confirm == "server" else None
        self.jetstream = jetstream if confirm == "jetstream" else None
        self.activity = activity if activity is not None else RouteActivity(metrics.name, reactor.seconds)
        self._counts_denials = confirm == "none"
        # Of this lane alone: the bridge before this one, or beside it, may have a route of the same name.
        self._id_prefix = f"{metrics.name}:{secrets.token_urlsafe(9)}:" if message_ids else ""
        self._last_id = 0
        self._pattern = pattern
        self._denied_at: tuple[float, str] | None = None
        self._stalled = ""
        self._stall_delay = RETRY_DELAY
        self._stall_call: IDelayedCall | None = None
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
        for call in (self._retry, self._stall_call):
            if call is not None:
                call.cancel()
        self._retry = self._stall_call = None
        if self.flushes is not None:
            self.flushes.close()
        for window in list(self._windows):
            window.give_up(reason)

    def window(self, owner: WindowOwner) -> PublishWindow:
        """A window for one peer."""
        window = StreamWindow(self, owner) if self.jetstream is not None else PublishWindow(self, owner)
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
        found = self.publish_problems()
        if self.client.status is not ClientStatus.CONNECTED:
            found.append(f"the NATS connection is {self.client.status.value}")
        return found

    def denied_problem(self) -> str | None:
        """The subject that the server would not let the bridge publish on, lately, in words; None where there is none."""
        if self._denied_at is None or self.reactor.seconds() - self._denied_at[0] >= DENIED_FOR:
            return None
        return f"the NATS server denies publishing to {self._denied_at[1]!r}"

    def publish_problems(self) -> list[str]:
        """The problems without those of the connection."""
        found = [self.denied_problem(), self._stalled if any(window.is_holding for window in self._windows) else ""]
        return [problem for problem in found if problem]

    def next_id(self) -> str:
        """An id for a message to a stream; empty where messages have none."""
        if not self._id_prefix:
            return ""
        self._last_id += 1
        return f"{self._id_prefix}{self._last_id}"

    def stalled(self, refused: Refusal, cause: str) -> None:
        """A message was not stored, and is to be published again: later, and later each time."""
        self._stalled = f"lines are not stored: {cause}"
        self.activity.error(refused.reason, cause, refused.hint)
        if self._stall_call is None and self._open:
            self._stall_call = self.reactor.callLater(self._stall_delay, self._stall_over)
            self._stall_delay = min(self._stall_delay * 2, MAX_RETRY_DELAY)

    def _stall_over(self) -> None:
        self._stall_call = None
        self.pump()

    @property
    def may_retry(self) -> bool:
        """Whether what was not stored can be published again now."""
        return self._stall_call is None

    def stored(self) -> None:
        """A message was stored."""
        self._stall_delay = RETRY_DELAY

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
        self.activity.error("permission", f"the NATS server denies publishing to {subject!r}", "let the bridge's user publish there")
        if self._counts_denials:
            # With confirmations the window counts it, and knows how many messages it was.
            self.metrics.failed("permission")
