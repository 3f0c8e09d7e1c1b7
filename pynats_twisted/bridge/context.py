"""What a route gets from the bridge that runs it: :class:`RouteContext`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.logger import Logger

from pynats_twisted.bridge.activity import RouteActivity
from pynats_twisted.errors import ConfigurationError

if TYPE_CHECKING:
    from pynats_twisted.bridge.config import BridgeSection
    from pynats_twisted.bridge.http import HTTPListener
    from pynats_twisted.bridge.metrics import BridgeMetrics
    from pynats_twisted.client.client import NatsClient
    from pynats_twisted.jetstream.context import JetStreamContext

PartT = TypeVar("PartT")

BAD_INPUT_LOG_INTERVAL = 60.0
"""Seconds between two log lines for bad input of the same route and reason."""

MAX_DETAIL_CHARS = 200
"""Longer details of bad input are cut in the log."""

MAX_REASONS = 1000
"""Pairs of route and reason whose last log line is remembered; at more, all are forgotten."""


class NamedRoute(Protocol):
    """What :meth:`RouteContext.bad_input` needs to know of a route."""

    @property
    def name(self) -> str | None: ...

    @property
    def type_name(self) -> str: ...


class RouteContext:
    """The bridge as a route sees it. One context serves all routes that were made together; a reload makes another one for those
    that it makes (:meth:`successor`).

    :param reactor: the reactor; the only source of time, timers and connections.
    :param bridge: the ``[bridge]`` section.
    :param metrics: where routes count.
    :param clients: the NATS client of each ``[nats.NAME]``.
    :param http_listeners: the HTTP listener of each ``[listen.NAME]``.
    :param log: where bad input is logged; a logger of this module by default.

    :ivar draining: true from the moment that the bridge was told to stop: new input is to be refused.
    """

    def __init__(
        self,
        *,
        reactor: Any,
        bridge: BridgeSection,
        metrics: BridgeMetrics,
        clients: Mapping[str, NatsClient],
        http_listeners: Mapping[str, HTTPListener] | None = None,
        log: Logger | None = None,
    ) -> None:
        self.reactor = reactor
        self.bridge = bridge
        self.metrics = metrics
        self._draining = [False]
        self._clients = clients
        self._http_listeners = http_listeners if http_listeners is not None else {}
        self._log = log if log is not None else Logger()
        self._bad_input: dict[tuple[str, str], tuple[float, int]] = {}
        self._activities: dict[str, RouteActivity] = {}
        self._jetstreams: dict[str, JetStreamContext] = {}

    @property
    def draining(self) -> bool:
        return self._draining[0]

    @draining.setter
    def draining(self, is_draining: bool) -> None:
        # A list, because all successors share it.
        self._draining[0] = is_draining

    def successor(
        self, bridge: BridgeSection, clients: Mapping[str, NatsClient], http_listeners: Mapping[str, HTTPListener]
    ) -> RouteContext:
        """The context for routes that are made later, with other connections and listeners. All else is shared."""
        later = copy(self)
        later.bridge = bridge
        later._clients = clients
        later._http_listeners = http_listeners
        return later

    def client(self, name: str = "default") -> NatsClient:
        """The client of ``[nats.name]``. It is the same for the route's whole life, and may be disconnected just now.

        :raises ConfigurationError: there is no such section.
        """
        return _named(self._clients, name, "nats")

    def jetstream(self, name: str = "default") -> JetStreamContext:
        """JetStream through the client of ``[nats.name]``, the same object each time, for routes that publish to streams.

        Each context that publishes keeps an inbox for its acks for as long as its client lives; this way there is one for each client,
        however often routes are replaced.

        :raises ConfigurationError: there is no such section.
        """
        client = self.client(name)
        found = self._jetstreams.get(name)
        if found is None or found.client is not client:
            found = self._jetstreams[name] = client.jetstream()
        return found

    def http_listener(self, name: str) -> HTTPListener:
        """The listener of ``[listen.name]``, to which a route adds its paths before it is started.

        :raises ConfigurationError: there is no such section.
        """
        return _named(self._http_listeners, name, "listen")

    def activity(self, name: str, debug: bool | None = None) -> RouteActivity:
        """The activity of the route *name*, the same object each time: its last errors, and the hops of its messages.

        :param debug: whether each hop is logged, as the route's ``debug`` says; None leaves it as it is.
        """
        found = self._activities.get(name)
        if found is None:
            found = self._activities[name] = RouteActivity(name, self.reactor.seconds, log=self._log)
        if debug is not None:
            found.debug = debug
        return found

    def bad_input(self, route: NamedRoute, reason: str, detail: str = "") -> None:
        """Report input that a peer should not have sent: it is counted, and logged once a minute for each route and reason.

        :param route: the route that got it.
        :param reason: a short fixed word such as ``too-long``: it becomes a label of a metric. Never made of the input.
        :param detail: more for the log: the peer's address, sizes; printed escaped and cut to 200 characters. No payloads.
        """
        name = route.name or ""
        self.metrics.route(name, route.type_name).bad_input(reason)
        self.activity(name).error(reason, "a peer sent what the route does not take", detail[:MAX_DETAIL_CHARS])
        now = self.reactor.seconds()
        logged, suppressed = self._bad_input.get((name, reason), (None, 0))
        if logged is not None and now - logged < BAD_INPUT_LOG_INTERVAL:
            self._bad_input[name, reason] = (logged, suppressed + 1)
            return
        if len(self._bad_input) >= MAX_REASONS:
            self._bad_input.clear()
        self._bad_input[name, reason] = (now, 0)
        self._log.warn(
            "route {route}: bad input, {reason}{shown}{more}",
            route=name,
            reason=reason,
            shown=f": {detail[:MAX_DETAIL_CHARS]!r}" if detail else "",
            more=f" ({suppressed} more since the last line)" if suppressed else "",
        )


def _named(mapping: Mapping[str, PartT], name: str, section: str) -> PartT:
    try:
        return mapping[name]
    except KeyError:
        known = ", ".join(sorted(mapping)) or "none"
        raise ConfigurationError(f"there is no [{section}.{name}]; known: {known}") from None
