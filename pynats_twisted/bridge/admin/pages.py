"""What the admin endpoint tells: health, readiness, metrics, the routes and the configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pynats_twisted._version import __version__
from pynats_twisted.bridge.admin.control import Control
from pynats_twisted.bridge.admin.dead_letters import DeadLetterPages
from pynats_twisted.bridge.admin.describe import Describer
from pynats_twisted.bridge.admin.disk import ConfigOnDisk
from pynats_twisted.bridge.admin.guard import Guard
from pynats_twisted.bridge.admin.numbers import Recorder
from pynats_twisted.bridge.admin.page import Answer, Page, json_response
from pynats_twisted.bridge.admin.problems import UNKNOWN_ROUTE
from pynats_twisted.bridge.admin.static import Dashboard
from pynats_twisted.bridge.admin.streams import Streams
from pynats_twisted.bridge.config_output import effective_config, format_config
from pynats_twisted.bridge.problem import NOT_FOUND, Response

if TYPE_CHECKING:
    from pynats_twisted.bridge.admin.bridge import AdminBridge
    from pynats_twisted.bridge.admin.lag import ReactorLag
    from pynats_twisted.bridge.config import AdminSection
    from pynats_twisted.bridge.http import HTTPListener
    from pynats_twisted.bridge.http_message import HTTPRequest

MAX_LAG: Final = 5.0
"""Seconds of reactor lag from which on the process counts as ill."""


class AdminPages:
    """All pages.

    :param bridge: the bridge to tell of.
    :param section: ``[admin]``.
    :param lag: the measured reactor lag.
    :param reactor: the clock of the uptime.

    :ivar streams: the event streams.
    """

    def __init__(self, bridge: AdminBridge, section: AdminSection, lag: ReactorLag, reactor: Any) -> None:
        self._bridge = bridge
        self._has_token = section.token is not None
        self._lag = lag
        self._reactor = reactor
        self._started_at = reactor.seconds()
        self._guard = Guard(section)
        self._describer = Describer(bridge)
        self._disk = ConfigOnDisk(bridge)
        self._recorder = Recorder(bridge.metrics)
        self._dashboard = Dashboard()
        self.streams = Streams(bridge, reactor, self._recorder, self._guard, self._overview)

    def add_to(self, listener: HTTPListener) -> None:
        """Offer the pages on a listener."""
        letters = DeadLetterPages(self._bridge, self._guard)
        control = Control(self._bridge, self._describer, self._reactor)
        reading: dict[str, Callable[[HTTPRequest], Answer]] = {
            "/": self._dashboard.page,
            "/dashboard/{name}": self._file,
            "/healthz": self._health,
            "/readyz": self._readiness,
            "/metrics": self._metrics,
            "/routes": self._routes,
            "/routes/{name}": self._route,
            "/config": self._config,
            "/routes/{name}/dlq": letters.list,
        }
        changing: dict[str, Callable[[HTTPRequest], Answer]] = {
            "/routes/{name}/pause": control.pause,
            "/routes/{name}/resume": control.resume,
            "/routes/{name}/drain": control.drain,
            "/routes/{name}/dlq/replay": letters.replay,
            "/routes/{name}/dlq/delete": letters.delete,
            "/reload": control.reload,
        }
        for path, answer in reading.items():
            Page(path, answer, self._guard).add_to(listener, ["GET", "HEAD"])
        for path, answer in changing.items():
            Page(path, answer, self._guard, changes=True).add_to(listener, ["POST"])
        Page("/check", control.check, self._guard).add_to(listener, ["POST"])
        Page("/events", self.streams.open_dashboard, self._guard).add_to(listener, ["GET"])
        Page("/routes/{name}/tap", self.streams.open_tap, self._guard).add_to(listener, ["GET"])

    # --- the pages ---------------------------------------------------------------------------------------------

    def _file(self, request: HTTPRequest) -> Response:
        return self._dashboard.file(request) or request.problem(NOT_FOUND)

    def _health(self, request: HTTPRequest) -> Response:
        lag = self._lag.seconds
        is_well = lag < MAX_LAG
        content = {
            "status": "ok" if is_well else "ill",
            "bridge": self._name,
            "uptime_seconds": round(self._reactor.seconds() - self._started_at, 3),
            "reactor_lag_seconds": round(lag, 6),
            "reasons": [] if is_well else [f"the reactor was {lag:.1f} s late; {MAX_LAG:g} s is the limit"],
        }
        return json_response(200 if is_well else 503, content)

    def _readiness(self, request: HTTPRequest) -> Response:
        content = self._ready()
        return json_response(503 if content["reasons"] else 200, content)

    def _ready(self) -> dict[str, Any]:
        reasons, degraded = self._bridge.problems(), self._bridge.degraded()
        status = "unready" if reasons else "degraded" if degraded else "ready"
        return {"status": status, "bridge": self._name, "reasons": reasons, "degraded": degraded}

    def _metrics(self, request: HTTPRequest) -> Response:
        accept = b",".join(request.headers.get(b"accept", [])).decode("latin-1")
        text, content_type = self._bridge.metrics.exposition(accept)
        return Response(200, [(b"Content-Type", content_type.encode("ascii"))], text)

    def _routes(self, request: HTTPRequest) -> Response:
        numbers = self._recorder.numbers(self._bridge.routes)
        return json_response(200, {"routes": [route | {"numbers": numbers[route["name"]]} for route in self._describer.routes()]})

    def _route(self, request: HTTPRequest) -> Response:
        name = request.values["name"]
        if name not in self._bridge.routes:
            return request.problem(UNKNOWN_ROUTE)
        more = {
            "numbers": self._recorder.numbers([name])[name],
            "errors": self._describer.errors(name),
            "config": self._describer.config(name),
        }
        return json_response(200, self._describer.route(name) | more)

    def _config(self, request: HTTPRequest) -> Response:
        if request.query == b"format=toml":
            body = format_config(self._bridge.config).encode("utf-8")
            return Response(200, [(b"Content-Type", b"application/toml; charset=utf-8")], body)
        return json_response(200, {"config": effective_config(self._bridge.config), "disk": self._disk.state()})

    @property
    def _name(self) -> str:
        return self._bridge.config.bridge.name

    def _overview(self) -> dict[str, Any]:
        """The state of the bridge, for the dashboard: all but the numbers."""
        return {
            **self._ready(),
            "version": __version__,
            "started": self._started_at,
            "has_token": self._has_token,
            "can_reload": self._bridge.reloader is not None,
            "disk": self._disk.state(),
            "connections": self._describer.connections(),
            "listeners": self._describer.listeners(),
            "routes": self._describer.routes(),
        }
