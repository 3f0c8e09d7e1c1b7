"""What a route gets from the bridge that runs it: :class:`RouteContext`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.logger import Logger

from pynats_twisted.errors import ConfigurationError

if TYPE_CHECKING:
    from pynats_twisted.bridge.config import BridgeSection
    from pynats_twisted.bridge.http import HTTPListener
    from pynats_twisted.bridge.metrics import BridgeMetrics
    from pynats_twisted.client.client import NatsClient

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
    """The bridge as a route sees it. One context serves all routes of a bridge.

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
        self.draining = False
        self._clients = clients
        self._http_listeners = http_listeners if http_listeners is not None else {}
        self._log = log if log is not None else Logger()
        self._bad_input: dict[tuple[str, str], tuple[float, int]] = {}

    def client(self, name: str = "default") -> NatsClient:
        """The client of ``[nats.name]``. It is the same for the bridge's whole life, and may be disconnected just now.

        :raises ConfigurationError: there is no such section.
        """
        return _named(self._clients, name, "nats")

    def http_listener(self, name: str) -> HTTPListener:
        """The listener of ``[listen.name]``, to which a route adds its paths before it is started.

        :raises ConfigurationError: there is no such section.
        """
        return _named(self._http_listeners, name, "listen")

    def bad_input(self, route: NamedRoute, reason: str, detail: str = "") -> None:
        """Report input that a peer should not have sent: it is counted, and logged once a minute for each route and reason.

        :param route: the route that got it.
        :param reason: a short fixed word such as ``too-long``: it becomes a label of a metric. Never made of the input.
        :param detail: more for the log: the peer's address, sizes; printed escaped and cut to 200 characters. No payloads.
        """
        name = route.name or ""
        self.metrics.route(name, route.type_name).bad_input(reason)
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
