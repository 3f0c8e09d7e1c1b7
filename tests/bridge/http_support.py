"""HTTP routes in memory: a listener, a client of NATS that does what a test says, and raw HTTP on a string transport."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from pynats_twisted.bridge.config import BridgeSection, ListenSection
from pynats_twisted.bridge.config_convert import convert_section
from pynats_twisted.bridge.context import RouteContext
from pynats_twisted.bridge.http import HTTPListener
from pynats_twisted.bridge.metrics import BridgeMetrics
from pynats_twisted.bridge.problem import TYPE_PREFIX
from pynats_twisted.client.status import ClientStats, ClientStatus, ServerErrorEvent
from pynats_twisted.protocol.headers import Headers
from pynats_twisted.protocol.twin import Msg


class SentRequest(NamedTuple):
    """A request that a route made of NATS."""

    subject: str
    payload: bytes
    headers: Headers
    timeout: float
    reply: Deferred[Any]


class Published(NamedTuple):
    """A message that a route published."""

    subject: str
    payload: bytes
    headers: Headers


class FakeClient:
    """What routes use of :class:`pynats_twisted.client.client.NatsClient`; the test decides what NATS answers."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.status = ClientStatus.CONNECTED
        self.stats = ClientStats()
        self.server_info: Any = SimpleNamespace(max_payload=1024 * 1024)
        self.requests: list[SentRequest] = []
        self.published: list[Published] = []
        self.flushes: list[Deferred[None]] = []
        self.listeners: list[Any] = []
        self.cancelled = 0
        self.publish_result: Any = None
        self.fail_with: Exception | None = None

    def request(self, subject: str, payload: bytes, *, headers: Headers, timeout: float) -> Deferred[Any]:
        if self.fail_with is not None:
            raise self.fail_with

        def cancelled(_: object) -> None:
            self.cancelled += 1

        reply: Deferred[Any] = Deferred(cancelled)
        self.requests.append(SentRequest(subject, payload, headers.copy(), timeout, reply))
        return reply

    def publish(self, subject: str, payload: bytes, *, headers: Headers) -> Any:
        if self.fail_with is not None:
            raise self.fail_with
        self.published.append(Published(subject, payload, headers.copy()))
        return self.publish_result if self.publish_result is not None else succeed(None)

    def flush(self, timeout: float) -> Deferred[None]:
        flush: Deferred[None] = Deferred()
        self.flushes.append(flush)
        return flush

    def add_listener(self, listener: Any) -> None:
        self.listeners.append(listener)

    def tell(self, event: object) -> None:
        """An event, as a client tells it."""
        if isinstance(event, ServerErrorEvent):
            self.stats.server_errors += 1
        for listener in self.listeners:
            listener(event)


def reply(data: bytes = b"", headers: dict[str, Any] | None = None, block: bytes | None = None) -> Msg:
    """A reply as it comes from a service."""
    raw = block if block is not None else Headers(headers).encode() if headers else b""
    return Msg("_INBOX.x", 1, "", data, raw)


class HTTPResponse(NamedTuple):
    """A response as the peer got it."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem that the body is."""
        content: dict[str, Any] = msgspec.json.decode(self.body)
        return content

    @property
    def kind(self) -> str:
        """The word of the problem."""
        kind: str = self.problem["type"]
        return kind.removeprefix(TYPE_PREFIX)


@implementer(ITCPTransport)
class TCPTransport(StringTransport):
    """A string transport with what TCP has besides."""

    write_closed = False

    def loseWriteConnection(self) -> None:  # noqa: N802 - called like Twisted's
        self.write_closed = True

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802 - called by Twisted
        """Nothing to delay."""

    def unregisterProducer(self) -> None:  # noqa: N802 - called by Twisted
        # A real transport takes it twice.
        if self.producer is not None:
            super().unregisterProducer()


class Peer:
    """One connection of an HTTP client."""

    def __init__(self, harness: Harness, address: str = "192.0.2.7") -> None:
        self.harness = harness
        self.transport = TCPTransport(peerAddress=IPv4Address("TCP", address, 40000))
        self.protocol = harness.factory.buildProtocol(self.transport.getPeer())
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def request(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"", host: str = "x") -> None:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        lines.extend(f"{name}: {value}" for name, value in (headers or {}).items())
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def responses(self) -> list[HTTPResponse]:
        """All complete responses since the last call."""
        data = self.transport.value()
        self.transport.clear()
        found: list[HTTPResponse] = []
        while data:
            head, _, data = data.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ")[1])
            headers: dict[str, list[str]] = {}
            for line in lines[1:]:
                name, _, value = line.partition(": ")
                headers.setdefault(name.lower(), []).append(value)
            length = int(headers.get("content-length", ["0"])[0])
            found.append(HTTPResponse(status, headers, data[:length]))
            data = data[length:]
        return found

    def response(self) -> HTTPResponse:
        """The one response that came."""
        found = self.responses()
        if len(found) != 1:
            raise AssertionError(f"{len(found)} responses: {found!r}")
        return found[0]

    @property
    def is_closed(self) -> bool:
        return self.transport.disconnecting or self.transport.write_closed

    def disconnect(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class Harness:
    """A bridge with one listener, in memory."""

    def __init__(self, **listen: Any) -> None:
        self.reactor = MemoryReactorClock()
        self.metrics = BridgeMetrics("edge", process=False)
        self.client = FakeClient(self.reactor)
        self.listeners: dict[str, HTTPListener] = {}
        self.context = RouteContext(
            reactor=self.reactor,
            bridge=BridgeSection(name="edge"),
            metrics=self.metrics,
            clients={"default": self.client},  # type: ignore[dict-item]
            http_listeners=self.listeners,
        )
        section = ListenSection(endpoint="tcp:8080", **listen)
        self.listener = self.listeners["public"] = HTTPListener(self.context, "public", section.endpoint, section)
        self.listener.start()
        self.factory = self.reactor.tcpServers[0][1]

    def route(self, factory: Any, name: str = "orders", **keys: Any) -> Any:
        """A started route, made of keys as they stand in a configuration."""
        problems: list[Any] = []
        table = {"type": factory.type_name, "listen": "public", **keys}
        config = convert_section(table, factory.config_type, ("routes", name), problems)
        if problems or config is None:
            raise AssertionError(f"bad configuration: {problems}")
        route = factory.make_route(name, config, self.context)
        route.startService()
        return route

    def count(self, metric: str, **labels: str) -> float:
        """The value of a metric; 0 when it was never counted."""
        return self.metrics.registry.get_sample_value(f"nats_bridge_{metric}", labels) or 0.0

    def peer(self) -> Peer:
        return Peer(self)


def config_problems(factory: Any, **keys: Any) -> list[tuple[str, str, str]]:
    """What is wrong with a route's keys: ``(key, found, allowed)``."""
    problems: list[Any] = []
    table = {"type": factory.type_name, "listen": "public", **keys}
    convert_section(table, factory.config_type, (), problems)
    return [(".".join(map(str, problem.path)), problem.found, problem.allowed) for problem in problems]
