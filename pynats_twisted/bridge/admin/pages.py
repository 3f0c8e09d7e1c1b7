"""What the admin endpoint answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from pynats_twisted.bridge.problem import NOT_FOUND, Response

if TYPE_CHECKING:
    from pynats_twisted.bridge.admin.lag import ReactorLag
    from pynats_twisted.bridge.http import HTTPListener
    from pynats_twisted.bridge.http_message import HTTPRequest, RequestHeaderMap
    from pynats_twisted.bridge.interfaces import IRoute
    from pynats_twisted.bridge.metrics import BridgeMetrics

MAX_LAG: Final = 5.0
"""Seconds of reactor lag from which on the process counts as ill."""

INDEX: Final = """nats-bridge

/healthz        whether the process is well
/readyz         whether the bridge does its work, and what keeps it from it
/metrics        metrics for Prometheus
/routes         the routes, what they promise, and what is wrong with them
/routes/NAME    one of them
"""


class AdminBridge(Protocol):
    """What the pages need of a bridge."""

    metrics: BridgeMetrics

    @property
    def routes(self) -> Mapping[str, IRoute]:
        """The routes by name."""

    def problems(self) -> list[str]:
        """What keeps the bridge from doing its work."""

    def degraded(self) -> list[str]:
        """What does not work although the bridge as a whole does."""


class Page:
    """One page, as a handler of the listener.

    :param path: its path template.
    :param answer: makes the response.
    """

    max_body = 0

    def __init__(self, path: str, answer: Callable[[HTTPRequest], Response]) -> None:
        self.name = f"admin{path}"
        self._answer = answer

    def admit(self, request: HTTPRequest) -> Response | None:
        """Take every request."""
        return None

    def handle(self, request: HTTPRequest) -> None:
        """Answer a request."""
        request.respond(self._answer(request))

    def preflight(self, headers: RequestHeaderMap) -> Response | None:
        """Pages of other origins get nothing."""
        return None

    def responding(self, request: HTTPRequest, response: Response) -> None:
        """Answers tell of this moment."""
        response.headers.append((b"Cache-Control", b"no-store"))


class AdminPages:
    """All pages.

    :param bridge: the bridge to tell of.
    :param name: its name.
    :param lag: the measured reactor lag.
    :param reactor: the clock of the uptime.
    """

    def __init__(self, bridge: AdminBridge, name: str, lag: ReactorLag, reactor: Any) -> None:
        self._bridge = bridge
        self._bridge_name = name
        self._lag = lag
        self._reactor = reactor
        self._started_at = reactor.seconds()

    def add_to(self, listener: HTTPListener) -> None:
        """Offer the pages on a listener."""
        pages: dict[str, Callable[[HTTPRequest], Response]] = {
            "/": self._index,
            "/healthz": self._health,
            "/readyz": self._readiness,
            "/metrics": self._metrics,
            "/routes": self._routes,
            "/routes/{name}": self._route,
        }
        for path, answer in pages.items():
            listener.add(path, ["GET", "HEAD"], Page(path, answer))

    # --- the pages ---------------------------------------------------------------------------------------------

    def _index(self, request: HTTPRequest) -> Response:
        return Response(200, [(b"Content-Type", b"text/plain; charset=utf-8")], INDEX.encode())

    def _health(self, request: HTTPRequest) -> Response:
        lag = self._lag.seconds
        is_well = lag < MAX_LAG
        content = {
            "status": "ok" if is_well else "ill",
            "bridge": self._bridge_name,
            "uptime_seconds": round(self._reactor.seconds() - self._started_at, 3),
            "reactor_lag_seconds": round(lag, 6),
            "reasons": [] if is_well else [f"the reactor was {lag:.1f} s late; {MAX_LAG:g} s is the limit"],
        }
        return _json(200 if is_well else 503, content)

    def _readiness(self, request: HTTPRequest) -> Response:
        reasons, degraded = self._bridge.problems(), self._bridge.degraded()
        status = "unready" if reasons else "degraded" if degraded else "ready"
        content = {"status": status, "bridge": self._bridge_name, "reasons": reasons, "degraded": degraded}
        return _json(503 if reasons else 200, content)

    def _metrics(self, request: HTTPRequest) -> Response:
        accept = b",".join(request.headers.get(b"accept", [])).decode("latin-1")
        text, content_type = self._bridge.metrics.exposition(accept)
        return Response(200, [(b"Content-Type", content_type.encode("ascii"))], text)

    def _routes(self, request: HTTPRequest) -> Response:
        return _json(200, {"routes": [_described(name, route) for name, route in self._bridge.routes.items()]})

    def _route(self, request: HTTPRequest) -> Response:
        name = request.values["name"]
        route = self._bridge.routes.get(name)
        if route is None:
            return request.problem(NOT_FOUND, detail="There is no route of this name.")
        return _json(200, _described(name, route))


def _described(name: str, route: IRoute) -> dict[str, Any]:
    problems = route.problems()
    return {"name": name, "type": route.type_name, "ready": not problems, "problems": problems, "guarantee": route.guarantee()}


def _json(status: int, content: object) -> Response:
    body = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
    return Response(status, [(b"Content-Type", b"application/json")], body)
