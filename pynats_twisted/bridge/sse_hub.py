"""Hubs: what brings the messages of one filter from NATS to all clients that listen to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from pynats_twisted.client.waiting import Waiters
from pynats_twisted.errors import NatsError, SubscriptionClosedError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from pynats_twisted.bridge.activity import RouteActivity
    from pynats_twisted.bridge.metrics import RouteMetrics
    from pynats_twisted.bridge.sse_client import SSEClient
    from pynats_twisted.bridge.sse_events import EventMaker
    from pynats_twisted.client.client import NatsClient
    from pynats_twisted.client.subscription import Subscription
    from pynats_twisted.protocol.message import Msg

LINGER: Final = 30.0
"""Seconds that a hub without clients stays, for those that come back."""

AGAIN: Final = (0.25, 5.0)
"""Seconds until reading is tried again after an error: at first, and at most."""

_log = Logger()


class Hub(ABC):
    """Reads one filter, and pushes what comes to its clients.

    It goes on for as long as it is not stopped: after an error it tries again, and its clients stay.

    :param reactor: for time.
    :param route: the route's name, for the log.
    :param pattern: the filter.
    :param maker: makes the events.
    :param metrics: the route's.
    :param activity: the route's.

    :ivar clients: who gets what comes. Clients that are still to get older messages are not among them.
    :ivar users: how many clients use the hub, these and the others.
    :ivar is_ready: messages come.
    :ivar problem: why they do not, or None.
    """

    def __init__(self, reactor: Any, route: str, pattern: str, maker: EventMaker, metrics: RouteMetrics, activity: RouteActivity) -> None:
        self._reactor = reactor
        self._route = route
        self.pattern = pattern
        self.maker = maker
        self._metrics = metrics
        self._activity = activity
        self.clients: dict[SSEClient, None] = {}
        self.users = 0
        self.is_ready = False
        self.problem: str | None = None
        self._ready = Waiters[None]()
        self._running: Deferred[None] | None = None
        self._wait = AGAIN[0]

    def start(self) -> None:
        """Begin to read."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._running.addErrback(lambda failure: _log.failure("route {route}: reading has ended", failure, route=self._route))

    def stop(self) -> None:
        """Read no more."""
        self.is_ready = False
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    def when_ready(self) -> Deferred[None]:
        """Fires the next time that messages come; at once where they do."""
        waiter = self._ready.wait()
        if self.is_ready:
            self._ready.fire(None)
        return waiter

    def _became_ready(self) -> None:
        self.is_ready = True
        self.problem = None
        self._wait = AGAIN[0]
        self._ready.fire(None)

    async def _run(self) -> None:
        while True:
            try:
                await self._read()
            except NatsError as error:
                self._failed(error)
                await deferLater(self._reactor, self._wait)
                self._wait = min(self._wait * 2, AGAIN[1])
            finally:
                self.is_ready = False

    def _failed(self, error: NatsError) -> None:
        problem = f"{self.source} cannot be read: {error}"
        if problem != self.problem:
            self.problem = problem
            _log.warn("route {route}: {problem}", route=self._route, problem=problem)
        self._activity.error("read", problem, "clients wait, and go on when it can be read again")

    def remove(self, client: SSEClient) -> None:
        """Push nothing more to a client."""
        self.clients.pop(client, None)

    # --- what differs --------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def source(self) -> str:
        """What is read, in words."""

    @abstractmethod
    async def _read(self) -> None:
        """Read until something ends it, or has to be begun anew."""

    @abstractmethod
    def hand_over(self, client: SSEClient) -> bool:
        """Push what comes from now on to a client, if it has everything that came before; False when it has still to get some."""

    @abstractmethod
    def tick(self, now: float) -> None:
        """Called about once a second."""

    @property
    def lag(self) -> int:
        """Messages that are stored and did not come yet."""
        return 0


class CoreHub(Hub):
    """A hub for messages that are stored nowhere: one subscription.

    :param client: the NATS client.
    """

    def __init__(self, client: NatsClient, *args: Any) -> None:
        super().__init__(*args)
        self._client = client
        self._subscription: Subscription | None = None
        self._ended: Deferred[None] | None = None

    @property
    def source(self) -> str:
        return f"subject {self.pattern!r}"

    async def _read(self) -> None:
        subscription = self._subscription = self._client.subscribe(self.pattern, self._deliver)
        try:
            await subscription
            self._became_ready()
            self._ended = Deferred()
            await self._ended
            raise subscription.error or SubscriptionClosedError("the subscription has ended")
        finally:
            self._ended = None
            if not subscription.closed:
                subscription.unsubscribe()

    def tick(self, now: float) -> None:
        if self._ended is not None and self._subscription is not None and self._subscription.closed:
            ended, self._ended = self._ended, None
            ended.callback(None)

    def _deliver(self, msg: Msg) -> None:
        metrics = self._metrics
        metrics.messages_in.inc()
        metrics.bytes_in.inc(len(msg.data))
        event = self.maker.of_core(msg)
        for client in list(self.clients):
            client.push(0, event)
        if self._activity.watched:
            self._activity.hop("received", msg.subject, data=msg.data, headers=msg.headers, clients=len(self.clients))

    def hand_over(self, client: SSEClient) -> bool:
        self.clients[client] = None
        return True


class Hubs:
    """The hubs of one route, by filter.

    :param reactor: for time.
    :param limit: most hubs at a time.
    :param make: makes the hub of a filter.
    """

    def __init__(self, reactor: Any, limit: int, make: Callable[[str], Hub]) -> None:
        self._reactor = reactor
        self._limit = limit
        self._make = make
        self._hubs: dict[str, Hub] = {}
        self._leaving: dict[str, IDelayedCall] = {}

    def __len__(self) -> int:
        return len(self._hubs)

    def all(self) -> list[Hub]:
        """All there are."""
        return list(self._hubs.values())

    def has_room(self, pattern: str) -> bool:
        """Whether :meth:`take` would give a hub."""
        return pattern in self._hubs or len(self._hubs) < self._limit or bool(self._leaving)

    def take(self, pattern: str) -> Hub:
        """The hub of a filter, for one more user; there is room for it."""
        hub = self._hubs.get(pattern)
        if hub is None:
            if len(self._hubs) >= self._limit:
                # The one without users that has waited for them the longest.
                self._close(next(iter(self._leaving)))
            hub = self._hubs[pattern] = self._make(pattern)
            hub.start()
        leaving = self._leaving.pop(pattern, None)
        if leaving is not None:
            leaving.cancel()
        hub.users += 1
        return hub

    def give_back(self, hub: Hub) -> None:
        """One user less."""
        hub.users -= 1
        if not hub.users and self._hubs.get(hub.pattern) is hub:
            self._leaving[hub.pattern] = self._reactor.callLater(LINGER, self._close, hub.pattern)

    def _close(self, pattern: str) -> None:
        leaving = self._leaving.pop(pattern)
        if leaving.active():
            leaving.cancel()
        self._hubs.pop(pattern).stop()

    def stop(self) -> None:
        """Close all."""
        for leaving in self._leaving.values():
            leaving.cancel()
        self._leaving.clear()
        hubs, self._hubs = self._hubs, {}
        for hub in hubs.values():
            hub.stop()
