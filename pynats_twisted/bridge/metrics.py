"""What the bridge counts, in a registry of its own (never the process-wide one of ``prometheus_client``).

Every name starts with ``nats_bridge_``. The labels are bounded: ``route`` and ``type`` come from the configuration, ``reason`` and
``kind`` from the code, ``code`` is a class of status codes. No label ever holds a subject or a peer, so the number of series does
not grow with traffic.

A route asks once for its :class:`RouteMetrics`; what that holds is bound to the route's labels, so that counting on a hot path is
one method call without a look-up.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

#: The upper ends of the latency histograms' buckets, in seconds.
LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: How many reasons one route may have in one metric; what comes after them is counted as ``other``.
MAX_REASONS = 40

#: The ``Content-Type`` of the plain text format.
PLAIN_TEXT = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "nats_bridge_"
_ROUTE = ("route", "type")


class _ByReason:
    """A counter with one more label, whose values are bounded and bound when they are first seen."""

    __slots__ = ("_children", "_counter", "_labels")

    def __init__(self, counter: Counter, labels: tuple[str, ...]) -> None:
        self._counter = counter
        self._labels = labels
        self._children: dict[str, Counter] = {}

    def count(self, reason: str, amount: int = 1) -> None:
        child = self._children.get(reason)
        if child is None:
            if len(self._children) >= MAX_REASONS and reason != "other":
                self.count("other", amount)
                return
            child = self._children[reason] = self._counter.labels(*self._labels, reason)
        child.inc(amount)


class RouteMetrics:
    """What one route counts. Take it once, from :meth:`BridgeMetrics.route`, and keep it.

    :ivar messages_in: messages taken from the route's source; ``.inc(n)``.
    :ivar bytes_in: their payload bytes.
    :ivar messages_out: messages handed over at the confirm level of the route (with ``confirm = "server"``: covered by a PONG).
    :ivar bytes_out: their payload bytes.
    :ivar loops_dropped: messages dropped because the bridge's own name was in their path, or the path was too long.
    :ivar in_flight: messages or requests that were taken and are not finished; ``.inc()``, ``.dec()``, ``.set(n)``.
    :ivar queue_bytes: bytes that wait inside the bridge.
    :ivar connections: open connections of peers.
    :ivar connections_total: connections accepted since the start.
    :ivar latency: seconds from receiving to the confirm level; ``.observe(seconds)``.
    """

    __slots__ = (
        "_bad_input", "_dropped", "_failed", "_http", "_up_of_all", "bytes_in", "bytes_out", "connections", "connections_total",
        "in_flight", "latency", "loops_dropped", "messages_in", "messages_out", "name", "queue_bytes", "type_name",
    )  # fmt: skip

    def __init__(self, metrics: BridgeMetrics, name: str, type_name: str) -> None:
        labels = (name, type_name)
        self.name = name
        self.type_name = type_name
        self.messages_in: Counter = metrics.messages_in.labels(*labels)
        self.bytes_in: Counter = metrics.bytes_in.labels(*labels)
        self.messages_out: Counter = metrics.messages_out.labels(*labels)
        self.bytes_out: Counter = metrics.bytes_out.labels(*labels)
        self.loops_dropped: Counter = metrics.loops_dropped.labels(*labels)
        self.in_flight: Gauge = metrics.in_flight.labels(*labels)
        self.queue_bytes: Gauge = metrics.queue_bytes.labels(*labels)
        self.connections: Gauge = metrics.connections.labels(*labels)
        self.connections_total: Counter = metrics.connections_total.labels(*labels)
        self.latency: Histogram = metrics.latency.labels(*labels)
        self._up_of_all = metrics.route_up
        self._failed = _ByReason(metrics.messages_failed, labels)
        self._dropped = _ByReason(metrics.messages_dropped, labels)
        self._bad_input = _ByReason(metrics.bad_input, labels)
        self._http = _ByReason(metrics.http_responses, labels)

    @property
    def up(self) -> Gauge:
        """1 while the route does its work, 0 otherwise; ``.set(1)``. What never asks for it, as listeners, has no such series."""
        return self._up_of_all.labels(self.name, self.type_name)

    def failed(self, reason: str, amount: int = 1) -> None:
        """Count messages that NATS did not take, or that were not answered.

        :param reason: a short constant of the code, such as ``"timeout"``; never a text that a peer sent.
        """
        self._failed.count(reason, amount)

    def dropped(self, reason: str, amount: int = 1) -> None:
        """Count messages that the bridge gave up before they crossed, for example ``"too-long"`` or ``"backpressure"``."""
        self._dropped.count(reason, amount)

    def bad_input(self, reason: str, amount: int = 1) -> None:
        """Count what a peer sent and the route refused, for example ``"bad-framing"`` or ``"bad-token"``."""
        self._bad_input.count(reason, amount)

    def http_response(self, code: int) -> None:
        """Count an HTTP response by the class of its status code (``2xx``, ``4xx``, ...)."""
        self._http.count(f"{code // 100}xx" if 100 <= code <= 599 else "other")


class NatsMetrics:
    """What is counted of one ``[nats.NAME]`` connection. Take it once, from :meth:`BridgeMetrics.nats`.

    :ivar reconnects: how often the connection came back after it was lost.
    :ivar rtt: the last measured round trip in seconds.
    :ivar slow_consumer: how often a subscription of this connection was too slow.
    """

    __slots__ = ("_connected", "name", "reconnects", "rtt", "slow_consumer")

    def __init__(self, metrics: BridgeMetrics, name: str) -> None:
        self.name = name
        self._connected: Gauge = metrics.nats_connected.labels(name)
        self.reconnects: Counter = metrics.nats_reconnects.labels(name)
        self.rtt: Gauge = metrics.nats_rtt.labels(name)
        self.slow_consumer: Counter = metrics.nats_slow_consumer.labels(name)

    def connected(self, is_connected: bool) -> None:
        """Say whether the connection is up at this moment."""
        self._connected.set(1 if is_connected else 0)

    def connected_when(self, ask: Callable[[], bool]) -> None:
        """Let ``ask`` tell, each time the metrics are read, whether the connection is up."""
        self._connected.set_function(lambda: 1.0 if ask() else 0.0)


class BridgeMetrics:
    """All metrics of one bridge.

    :param bridge_name: the ``name`` of the ``[bridge]`` section, shown by ``nats_bridge_build_info``.
    :param registry: where to register; by default a new :class:`prometheus_client.CollectorRegistry`, so that two bridges in one
        process (and the application around them) do not mix.
    :param process: also offer the ``process_*`` and ``python_info`` metrics of ``prometheus_client``.
    """

    def __init__(self, bridge_name: str = "", registry: CollectorRegistry | None = None, *, process: bool = True) -> None:
        self.registry = CollectorRegistry(auto_describe=False) if registry is None else registry
        counter, gauge = self._counter, self._gauge
        self.messages_in = counter("messages_in_total", "Messages taken from the sources of routes.", _ROUTE)
        self.messages_out = counter("messages_out_total", "Messages handed over at the confirm level of their route.", _ROUTE)
        self.bytes_in = counter("bytes_in_total", "Payload bytes taken from the sources of routes.", _ROUTE)
        self.bytes_out = counter("bytes_out_total", "Payload bytes handed over at the confirm level of their route.", _ROUTE)
        self.messages_failed = counter("messages_failed_total", "Messages that NATS did not take or answer.", (*_ROUTE, "reason"))
        self.messages_dropped = counter("messages_dropped_total", "Messages given up before they crossed.", (*_ROUTE, "reason"))
        self.bad_input = counter("bad_input_total", "Input of peers that a route refused.", (*_ROUTE, "reason"))
        self.loops_dropped = counter("loops_dropped_total", "Messages dropped because they went in a circle.", _ROUTE)
        self.http_responses = counter("http_responses_total", "HTTP responses by class of status code.", (*_ROUTE, "code"))
        self.in_flight = gauge("in_flight", "Messages or requests taken and not finished.", _ROUTE)
        self.queue_bytes = gauge("queue_bytes", "Bytes that wait inside the bridge.", _ROUTE)
        self.connections = gauge("connections", "Open connections of peers.", _ROUTE)
        self.connections_total = counter("connections_accepted_total", "Connections of peers since the start.", _ROUTE)
        self.route_up = gauge("route_up", "1 while the route does its work.", _ROUTE)
        self.latency = Histogram(
            _PREFIX + "latency_seconds",
            "Seconds from receiving a message to its confirm level.",
            _ROUTE,
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.nats_connected = gauge("nats_connected", "1 while the NATS connection is up.", ("nats",))
        self.nats_reconnects = counter("nats_reconnects_total", "How often a lost NATS connection came back.", ("nats",))
        self.nats_rtt = gauge("nats_rtt_seconds", "The last measured round trip to the NATS server.", ("nats",))
        self.nats_slow_consumer = counter("nats_slow_consumer_total", "How often a subscription was too slow.", ("nats",))
        self.reactor_lag = gauge("reactor_lag_seconds", "How late the reactor ran its last timed call.", ())
        build = gauge("build_info", "What runs: always 1.", ("bridge", "python", "twisted"))
        build.labels(bridge_name, platform.python_version(), version("Twisted")).set(1)
        if process:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
        self._routes: dict[str, RouteMetrics] = {}
        self._nats: dict[str, NatsMetrics] = {}

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(_PREFIX + name, text, labels, registry=self.registry)

    def route(self, name: str, type_name: str = "unknown") -> RouteMetrics:
        """The metrics of the route ``name``; the same object each time.

        :param type_name: the route's type. It counts only in the first call for a name.
        """
        found = self._routes.get(name)
        if found is None:
            found = self._routes[name] = RouteMetrics(self, name, type_name)
        return found

    def nats(self, name: str) -> NatsMetrics:
        """The metrics of the connection ``[nats.NAME]``; the same object each time."""
        found = self._nats.get(name)
        if found is None:
            found = self._nats[name] = NatsMetrics(self, name)
        return found

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text.

        :param accept: the ``Accept`` header of the request: Prometheus' plain text, or OpenMetrics where that is asked for.
        :return: the body, and the value for ``Content-Type``.
        """
        if "application/openmetrics-text" in accept:
            return openmetrics.generate_latest(self.registry), openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self.registry), PLAIN_TEXT
