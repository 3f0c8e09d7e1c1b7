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
from functools import cached_property
from hashlib import sha256
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

    What only some types of routes count has series from the moment at which the route first asks for it; those attributes are
    marked with "lazy".

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

    def __init__(self, metrics: BridgeMetrics, name: str, type_name: str) -> None:
        labels = self._labels = (name, type_name)
        self._all = metrics
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
        self._failed = _ByReason(metrics.messages_failed, labels)
        self._dropped = _ByReason(metrics.messages_dropped, labels)
        self._bad_input = _ByReason(metrics.bad_input, labels)
        self._http = _ByReason(metrics.http_responses, labels)

    @cached_property
    def up(self) -> Gauge:
        """1 while the route does its work, 0 otherwise; ``.set(1)``. Lazy: listeners have none."""
        return self._all.route_up.labels(*self._labels)

    @cached_property
    def retries(self) -> Counter:
        """Messages that are to be tried again after a failed attempt; ``.inc()``. Lazy."""
        return self._all.retries.labels(*self._labels)

    @cached_property
    def dlq(self) -> Counter:
        """Messages that were stored as dead letters; ``.inc()``. Lazy."""
        return self._all.dlq.labels(*self._labels)

    @cached_property
    def duplicates(self) -> Counter:
        """Messages that a stream had already, or that were delivered again without having failed; ``.inc()``. Lazy."""
        return self._all.duplicates.labels(*self._labels)

    @cached_property
    def target_latency(self) -> Histogram:
        """Seconds until the target of a route answered; ``.observe(seconds)``. Lazy."""
        return self._all.target_latency.labels(*self._labels)

    @cached_property
    def sse_clients(self) -> Gauge:
        """Clients that listen to an event stream; ``.inc()``, ``.dec()``. Lazy."""
        return self._all.sse_clients.labels(*self._labels)

    @cached_property
    def slow_clients(self) -> Counter:
        """Clients that did not read what they were sent in time; ``.inc()``. Lazy."""
        return self._all.slow_clients.labels(*self._labels)

    @cached_property
    def consumer_lag_messages(self) -> Gauge:
        """Messages in the stream that the route has still to take; ``.set(n)``. Lazy."""
        return self._all.consumer_lag_messages.labels(*self._labels)

    @cached_property
    def consumer_lag_seconds(self) -> Gauge:
        """The age of the oldest message that the route has not finished; ``.set(seconds)``. Lazy."""
        return self._all.consumer_lag_seconds.labels(*self._labels)

    @cached_property
    def consumer_ack_pending_ratio(self) -> Gauge:
        """How much of the consumer's ``max_ack_pending`` is used, 0 to 1; ``.set(ratio)``. At 1 the consumer stands still. Lazy."""
        return self._all.consumer_ack_pending_ratio.labels(*self._labels)

    @cached_property
    def breaker_state(self) -> Gauge:
        """0 closed, 1 half open, 2 open; ``.set(2)``. Lazy."""
        return self._all.breaker_state.labels(*self._labels)

    @cached_property
    def _acks(self) -> _ByReason:
        return _ByReason(self._all.acks, self._labels)

    @cached_property
    def _sse_resumes(self) -> _ByReason:
        return _ByReason(self._all.sse_resumes, self._labels)

    def ack(self, kind: str, amount: int = 1) -> None:
        """Count answers to messages of a stream. Lazy.

        :param kind: ``"ack"``, ``"nak"``, ``"term"`` or ``"wpi"``.
        """
        self._acks.count(kind, amount)

    def sse_resume(self, result: str) -> None:
        """Count a client of an event stream that came back with the id of its last event. Lazy.

        :param result: ``"ok"``, or ``"reset"`` where that id was too old or unknown.
        """
        self._sse_resumes.count(result)

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
        self.latency = self._histogram("latency_seconds", "Seconds from receiving a message to its confirm level.", _ROUTE)
        self.acks = counter("acks_total", "Answers to messages of streams: ack, nak, term or wpi.", (*_ROUTE, "kind"))
        self.retries = counter("retries_total", "Messages to be tried again after a failed attempt.", _ROUTE)
        self.dlq = counter("dlq_total", "Messages stored as dead letters.", _ROUTE)
        self.duplicates = counter("duplicates_total", "Messages that were there already, or came again.", _ROUTE)
        self.target_latency = self._histogram("target_latency_seconds", "Seconds until the target of a route answered.", _ROUTE)
        self.sse_clients = gauge("sse_clients", "Clients that listen to an event stream.", _ROUTE)
        self.sse_resumes = counter("sse_resumes_total", "Clients that came back with the id of an event.", (*_ROUTE, "result"))
        self.slow_clients = counter("slow_clients_total", "Clients that did not read in time what they were sent.", _ROUTE)
        self.consumer_lag_messages = gauge("consumer_lag_messages", "Messages that the route has still to take.", _ROUTE)
        self.consumer_lag_seconds = gauge("consumer_lag_seconds", "Age of the oldest message that is not finished.", _ROUTE)
        self.consumer_ack_pending_ratio = gauge("consumer_ack_pending_ratio", "Used part of the consumer's max_ack_pending.", _ROUTE)
        self.breaker_state = gauge("breaker_state", "0 closed, 1 half open, 2 open.", _ROUTE)
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

    def _histogram(self, name: str, text: str, labels: tuple[str, ...]) -> Histogram:
        return Histogram(_PREFIX + name, text, labels, buckets=LATENCY_BUCKETS, registry=self.registry)

    @cached_property
    def config_reload_success(self) -> Gauge:
        """Whether the last reload of the configuration was taken over; ``.set(1)``. Lazy: no series before the first reload."""
        return self._gauge("config_reload_success", "1 when the last reload was taken over, 0 when it was refused.", ())

    @cached_property
    def _config_hash(self) -> Gauge:
        return self._gauge("config_hash", "The start of the SHA-256 of the configuration that runs, as a number.", ())

    def config_runs(self, text: bytes) -> None:
        """Say which configuration runs, so that bridges with different ones are seen.

        :param text: the configuration; its hash is shown, as a number that a float holds exactly.
        """
        self._config_hash.set(int.from_bytes(sha256(text).digest()[:6], "big"))

    def route(self, name: str, type_name: str = "unknown") -> RouteMetrics:
        """The metrics of the route ``name``; the same object each time.

        :param type_name: the route's type. A name that gets another type gets metrics of its own, and its old ones are forgotten.
        """
        found = self._routes.get(name)
        if found is not None and type_name not in (found.type_name, "unknown"):
            self.forget_route(name)
            found = None
        if found is None:
            found = self._routes[name] = RouteMetrics(self, name, type_name)
        return found

    def forget_route(self, name: str) -> None:
        """Show no series of the route *name* any more; it is gone."""
        if self._routes.pop(name, None) is not None:
            self._forget("route", name)

    def forget_nats(self, name: str) -> None:
        """Show no series of the connection *name* any more; it is gone."""
        if self._nats.pop(name, None) is not None:
            self._forget("nats", name)

    def _forget(self, label: str, value: str) -> None:
        for metric in vars(self).values():
            if isinstance(metric, (Counter, Gauge, Histogram)):
                for labels in _label_values(metric, label, value):
                    metric.remove(*labels)

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


def _label_values(metric: Counter | Gauge | Histogram, label: str, value: str) -> set[tuple[str, ...]]:
    """The values of all labels of each series of *metric* that has *value* for *label*."""
    found: set[tuple[str, ...]] = set()
    for family in metric.collect():
        for sample in family.samples:
            if sample.labels.get(label) == value:
                # The buckets of histograms have one that is no label of the metric.
                found.add(tuple(text for name, text in sample.labels.items() if name != "le"))
    return found
