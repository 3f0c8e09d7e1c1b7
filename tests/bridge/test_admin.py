"""The admin endpoint, over a connection in memory."""

from __future__ import annotations

import json
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.admin import AdminService
from pynats_twisted.bridge.config import AdminSection, BridgeSection
from pynats_twisted.bridge.context import RouteContext
from pynats_twisted.bridge.metrics import BridgeMetrics


class FakeRoute(Service):
    """A route with a given problem, or none."""

    type_name = "lines-in"

    def __init__(self, *problems: str) -> None:
        self.found = list(problems)

    def guarantee(self) -> str:
        return "At most once."

    def problems(self) -> list[str]:
        return self.found


class FakeBridge:
    """What the admin endpoint needs of a bridge."""

    def __init__(self, reactor: Any) -> None:
        self.metrics = BridgeMetrics("edge", process=False)
        self.context = RouteContext(reactor=reactor, bridge=BridgeSection(name="edge"), metrics=self.metrics, clients={})
        self.routes = {"good": FakeRoute(), "bad": FakeRoute("it does not listen")}
        self.found: list[str] = []
        self.half: list[str] = []

    def problems(self) -> list[str]:
        return self.found

    def degraded(self) -> list[str]:
        return self.half


class Answer:
    """An HTTP response, taken apart."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class AdminTests(SynchronousTestCase):
    """:class:`AdminService`."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.bridge = FakeBridge(self.reactor)
        self.service = AdminService(self.reactor, AdminSection(), self.bridge)
        self.service.startService()

    def ask(self, path: str, method: str = "GET", headers: str = "") -> Answer:
        """One request on a connection of its own."""
        factory = self.reactor.tcpServers[0][1]
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 40000))
        transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 40000))
        protocol.makeConnection(transport)
        protocol.dataReceived(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        return Answer(transport.value())

    def test_listens_on_loopback(self) -> None:
        """Without an address, only this machine can ask."""
        port, _, _, interface = self.reactor.tcpServers[0]
        self.assertEqual((port, interface), (8223, "127.0.0.1"))

    def test_index(self) -> None:
        """The root lists the pages, each of which is there."""
        listed = [line.split()[0] for line in self.ask("/").body.decode().splitlines() if line.startswith("/")]
        self.assertEqual(listed, ["/healthz", "/readyz", "/metrics", "/routes", "/routes/NAME"])
        for path in listed[:-1]:
            self.assertEqual(self.ask(path).status, 200, path)

    def test_health(self) -> None:
        """A process whose reactor is in time is well."""
        for _ in range(3):
            self.reactor.advance(1)
        answer = self.ask("/healthz")
        self.assertEqual(answer.status, 200)
        self.assertEqual((answer.json["status"], answer.json["uptime_seconds"], answer.json["reactor_lag_seconds"]), ("ok", 3.0, 0.0))
        self.assertEqual(answer.headers["cache-control"], "no-store")

    def test_ill(self) -> None:
        """A reactor that was blocked for 5 s makes the process ill, until it is in time again; the lag is a metric."""
        self.reactor.advance(1 + 5.5)
        answer = self.ask("/healthz")
        self.assertEqual(answer.status, 503)
        self.assertIn("5.5 s late", answer.json["reasons"][0])
        self.assertEqual(self.bridge.metrics.registry.get_sample_value("nats_bridge_reactor_lag_seconds"), 5.5)
        self.reactor.advance(1)
        self.assertEqual(self.ask("/healthz").status, 200)

    def test_ready(self) -> None:
        """A bridge without problems is ready."""
        answer = self.ask("/readyz")
        self.assertEqual((answer.status, answer.json), (200, {"status": "ready", "bridge": "edge", "reasons": [], "degraded": []}))
        self.assertEqual(answer.headers["content-type"], "application/json")

    def test_unready(self) -> None:
        """One with problems is not, and says why."""
        self.bridge.found = ["nats.default: reconnecting"]
        answer = self.ask("/readyz")
        self.assertEqual((answer.status, answer.json["status"], answer.json["reasons"]), (503, "unready", ["nats.default: reconnecting"]))

    def test_degraded(self) -> None:
        """What is not required does not make it unready, but is told."""
        self.bridge.half = ["nats.cloud: connecting"]
        answer = self.ask("/readyz")
        self.assertEqual((answer.status, answer.json["status"], answer.json["degraded"]), (200, "degraded", ["nats.cloud: connecting"]))

    def test_metrics(self) -> None:
        """Metrics are in Prometheus' text format, or OpenMetrics on demand."""
        self.bridge.metrics.route("good", "lines-in").messages_in.inc(7)
        answer = self.ask("/metrics")
        self.assertEqual(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertIn(b'nats_bridge_messages_in_total{route="good",type="lines-in"} 7.0\n', answer.body)
        answer = self.ask("/metrics", headers="Accept: application/openmetrics-text\r\n")
        self.assertTrue(answer.headers["content-type"].startswith("application/openmetrics-text"))

    def test_routes(self) -> None:
        """Each route says what it is, what it promises, and what is wrong."""
        good, bad = self.ask("/routes").json["routes"]
        self.assertEqual(good, {"name": "good", "type": "lines-in", "ready": True, "problems": [], "guarantee": "At most once."})
        self.assertEqual((bad["ready"], bad["problems"]), (False, ["it does not listen"]))
        self.assertEqual(self.ask("/routes/bad").json, bad)
        self.assertEqual(self.ask("/routes/ugly").status, 404)

    def test_reads_only(self) -> None:
        """Nothing can be changed; other methods and pages are refused."""
        self.assertEqual(self.ask("/routes", "POST").status, 405)
        self.assertEqual(self.ask("/readyz", "DELETE").status, 405)
        self.assertEqual(self.ask("/config").status, 404)

    def test_head(self) -> None:
        """HEAD gives the status without a body."""
        self.bridge.found = ["x"]
        answer = self.ask("/readyz", "HEAD")
        self.assertEqual((answer.status, answer.body), (503, b""))

    def test_encoded_path(self) -> None:
        """A path that is percent-encoded is the same path."""
        self.assertEqual(self.ask("/%72eadyz").status, 200)

    def test_cannot_listen(self) -> None:
        """A port that is taken keeps the service from starting."""

        def taken(*args: Any, **kwargs: Any) -> Any:
            raise CannotListenError("127.0.0.1", 8223, OSError("in use"))

        self.reactor.listenTCP = taken
        service = AdminService(self.reactor, AdminSection(), self.bridge)
        self.assertRaises(CannotListenError, service.startService)

    def test_stop(self) -> None:
        """A stop leaves no timer behind."""
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
