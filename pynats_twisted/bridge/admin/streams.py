"""The event streams of the admin endpoint: what the dashboard lives on, and the taps of routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pynats_twisted.bridge.admin.dead_letters import number_in
from pynats_twisted.bridge.admin.describe import encode
from pynats_twisted.bridge.admin.problems import BAD_ARGUMENT, TOO_MANY_STREAMS, UNKNOWN_ROUTE
from pynats_twisted.bridge.admin.tap import DEFAULT_RATE, MAX_RATE, Tap
from pynats_twisted.bridge.problem import STOPPING, Response

if TYPE_CHECKING:
    from pynats_twisted.bridge.admin.bridge import AdminBridge
    from pynats_twisted.bridge.admin.guard import Guard
    from pynats_twisted.bridge.admin.numbers import Recorder
    from pynats_twisted.bridge.http_message import HTTPRequest, ResponseStream

MAX_STREAMS: Final = 50
"""Event streams at a time, of dashboards and taps together."""

TICK: Final = 1.0
"""Seconds between two looks at the bridge."""

SILENCE: Final = 15.0
"""Seconds after which a stream without an event gets a comment, so that both sides see that it lives."""

_HEADERS: Final = [(b"Content-Type", b"text/event-stream; charset=utf-8"), (b"X-Accel-Buffering", b"no")]

_log = Logger()


def event(kind: str, content: bytes) -> bytes:
    """An event as it goes over the wire. *content* has no line break: it is JSON."""
    return b"event: " + kind.encode("ascii") + b"\ndata: " + content + b"\n\n"


class _Client:
    """One stream."""

    def __init__(self, stream: ResponseStream, now: float) -> None:
        self.stream = stream
        self.last = now
        self.overview = b""
        """The overview that was sent last."""

    def send(self, data: bytes, now: float) -> bool:
        if self.stream.is_blocked:
            return False
        self.stream.write(data)
        self.last = now
        return True


class Streams:
    """All event streams.

    :param bridge: the bridge.
    :param reactor: the reactor.
    :param recorder: looks at the metrics once a second.
    :param guard: says who may see contents.
    :param overview: the state of the bridge as plain values: sent first, and each time it has changed.
    """

    def __init__(self, bridge: AdminBridge, reactor: Any, recorder: Recorder, guard: Guard, overview: Callable[[], dict[str, Any]]) -> None:
        self._bridge = bridge
        self._reactor = reactor
        self._recorder = recorder
        self._guard = guard
        self._overview = overview
        self._dashboards: set[_Client] = set()
        self._taps: dict[_Client, Callable[[], None]] = {}
        self._is_stopping = False
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor

    def start(self) -> None:
        """Begin."""
        self._is_stopping = False
        self._loop.start(TICK, now=False).addErrback(lambda failure: _log.failure("the event streams failed", failure))

    def stop(self) -> None:
        """End all streams."""
        self._is_stopping = True
        if self._loop.running:
            self._loop.stop()
        for client in list(self._dashboards):
            client.stream.end()
        for client, close in list(self._taps.items()):
            close()
            client.stream.end()
        self._dashboards.clear()

    # --- the dashboard -----------------------------------------------------------------------------------------

    def open_dashboard(self, request: HTTPRequest) -> Response | None:
        """``GET /events``."""
        client = self._open(request)
        if isinstance(client, Response) or client is None:
            return client
        self._dashboards.add(client)
        request.on_gone = lambda: self._dashboards.discard(client)
        history = {name: self._recorder.history(name) for name in self._bridge.routes}
        self._send_overview(client, encode(self._overview()))
        client.send(event("history", encode(history)), self._now())
        client.send(event("numbers", self._numbers()), self._now())
        return None

    def _send_overview(self, client: _Client, overview: bytes) -> None:
        if overview != client.overview and client.send(event("bridge", overview), self._now()):
            client.overview = overview

    def _numbers(self) -> bytes:
        bridge = self._bridge
        nats = {
            name: {"rtt": _value(bridge.metrics.nats_rtt, name), "reconnects": _value(bridge.metrics.nats_reconnects, name)}
            for name in bridge.connections
        }
        connections = {listener.name: 0.0 for listener in bridge.listeners.values()}
        for sample in (sample for family in bridge.metrics.connections.collect() for sample in family.samples):
            if sample.labels["route"] in connections:
                connections[sample.labels["route"]] = sample.value
        numbers = {
            "time": self._now(),
            "lag": _value(bridge.metrics.reactor_lag),
            "routes": self._recorder.numbers(bridge.routes),
            "nats": nats,
            "listeners": {name.partition("/")[2]: int(count) for name, count in connections.items()},
        }
        return encode(numbers)

    def _tick(self) -> None:
        self._recorder.tick()
        now = self._now()
        if self._dashboards:
            overview, numbers = encode(self._overview()), event("numbers", self._numbers())
            for client in list(self._dashboards):
                self._send_overview(client, overview)
                # Who does not keep up gets the next ones.
                client.send(numbers, now)
        for client in list(self._taps):
            if now - client.last >= SILENCE:
                client.send(b": \n\n", now)

    # --- taps --------------------------------------------------------------------------------------------------

    def open_tap(self, request: HTTPRequest) -> Response | None:
        """``GET /routes/NAME/tap``: hops as they happen, at most ``rate`` a second."""
        name = request.values["name"]
        if name not in self._bridge.routes:
            return request.problem(UNKNOWN_ROUTE)
        rate = number_in(request, "rate", DEFAULT_RATE, MAX_RATE)
        if rate is None:
            return request.problem(BAD_ARGUMENT, detail=f"rate is a whole number from 1 to {MAX_RATE}.")
        contents = self._guard.is_trusted(request)
        client = self._open(request)
        if isinstance(client, Response) or client is None:
            return client
        activity = self._bridge.context.activity(name)
        tap = Tap(self._now, lambda hop: client.send(event("hop", encode(hop)), self._now()), rate=rate, contents=contents)
        activity.add_tap(tap)

        def close() -> None:
            activity.remove_tap(tap)
            self._taps.pop(client, None)

        self._taps[client] = close
        request.on_gone = close
        client.send(event("tap", encode({"route": name, "rate": rate, "contents": contents})), self._now())
        return None

    def _open(self, request: HTTPRequest) -> _Client | Response | None:
        if self._is_stopping:
            return request.problem(STOPPING)
        if len(self._dashboards) + len(self._taps) >= MAX_STREAMS:
            return request.problem(TOO_MANY_STREAMS, headers=[(b"Retry-After", b"5")])
        stream = request.stream(Response(200, _HEADERS))
        return _Client(stream, self._now()) if stream is not None else None

    def _now(self) -> float:
        now: float = self._reactor.seconds()
        return now


def _value(metric: Any, *labels: str) -> float:
    """The value of one series; 0 where there is none."""
    for family in metric.collect():
        for sample in family.samples:
            if not sample.name.endswith("_created") and tuple(sample.labels.values()) == labels:
                return float(sample.value)
    return 0.0
