"""The base of the tests of HTTP routes with a real server and real HTTP clients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers as WebHeaders
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from pynats_twisted import Msg, NatsClient
from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.testing import ServerProcess
from tests.support.integration import IntegrationTestCase

HEAD = """
[bridge]
name = "edge"
[nats.default]
servers = "{url}"
{nats}
[listen.public]
endpoint = '{endpoint}'
{listen}
"""

ORDERS = """
[routes.orders]
type = "http-request"
listen = "public"
path = "/orders/{id}"
methods = ["GET", "PUT"]
subject = "svc.orders.{method}.{id}"
"""

HOOKS = """
[routes.hooks]
type = "http-publish"
listen = "public"
path = "/hooks/{source}"
subject = "hooks.{source}"
confirm = "server"
"""


@dataclass
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, list[str]]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem that the body is."""
        if self.headers["content-type"] != ["application/problem+json"]:
            raise AssertionError(f"no problem: {self!r}")
        content: dict[str, Any] = json.loads(self.body)
        return content

    @property
    def kind(self) -> str:
        """The last word of the problem's type."""
        return str(self.problem["type"]).rpartition(":")[2]


class RawConnection(Protocol):
    """A TCP connection to the bridge, for what a good HTTP client does not send."""

    def __init__(self) -> None:
        self.received = b""
        self.closed = False
        self._ended: list[Deferred[bytes]] = []

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True
        for waiter in self._ended:
            waiter.callback(self.received)

    def abort(self) -> None:
        """Be gone at once."""
        if not self.closed:
            self.transport.abortConnection()  # type: ignore[union-attr]

    def when_closed(self) -> Deferred[bytes]:
        waiter: Deferred[bytes] = Deferred()
        self._ended.append(waiter)
        return waiter


@implementer(IBodyProducer)
class Body:
    """What the agent sends: with a length, or in chunks."""

    def __init__(self, *parts: bytes, chunked: bool = False) -> None:
        self._parts = parts
        self.length = UNKNOWN_LENGTH if chunked else sum(map(len, parts))

    def startProducing(self, consumer: Any) -> Deferred[None]:  # noqa: N802 - called by Twisted
        for part in self._parts:
            consumer.write(part)
        return succeed(None)

    def pauseProducing(self) -> None:
        """All is written already."""

    def resumeProducing(self) -> None:
        """All is written already."""

    def stopProducing(self) -> None:
        """All is written already."""


class BridgeHTTPCase(IntegrationTestCase):
    """A server, a service on it, and a bridge."""

    endpoint = "tcp:0:interface=127.0.0.1"

    async def start_bridge(self, routes: str, server: ServerProcess, nats: str = "", listen: str = "") -> BridgeService:
        text = HEAD.format(url=server.url, nats=nats, listen=listen, endpoint=self.endpoint) + routes
        factories = builtin_factories()
        service = BridgeService(self.reactor, load_config(text, "bridge.toml", factories), factories)
        service.startService()
        self.addCleanup(service.stopService)
        await self.until(lambda: not service.problems(), what="the bridge to be ready")
        self.bridge = service
        self.port: int = service.listeners["public"].port.getHost().port  # type: ignore[union-attr]
        return service

    async def start(self, routes: str, **options: Any) -> NatsClient:
        """A server, a bridge with *routes*, and a client on the server that answers nothing yet."""
        self.server = await self.start_server()
        client = await self.connect(self.server)
        self.seen: list[Msg] = []
        await client.subscribe(">", self._see)
        await self.start_bridge(routes, self.server, **options)
        return client

    def _see(self, msg: Msg) -> None:
        if msg.subject.startswith(("svc.", "hooks.")):
            self.seen.append(msg)

    async def http(self, method: str, path: str, body: bytes | Body = b"", headers: Mapping[str, str | list[str]] | None = None) -> Answer:
        """One request by Twisted's agent, on a connection of its own."""
        raw = {name: [value] if isinstance(value, str) else value for name, value in (headers or {}).items()}
        response = await Agent(self.reactor, connectTimeout=5).request(
            method.encode(),
            f"http://127.0.0.1:{self.port}{path}".encode(),
            WebHeaders(raw),
            Body(body) if isinstance(body, bytes) and body else body or None,
        )
        found = {
            name.decode().lower(): [value.decode("latin-1") for value in values] for name, values in response.headers.getAllRawHeaders()
        }
        return Answer(response.code, found, await readBody(response))

    async def raw(self, data: bytes = b"") -> RawConnection:
        """A connection that has sent *data*."""
        endpoint = HostnameEndpoint(self.reactor, "127.0.0.1", self.port)
        connection: RawConnection = await connectProtocol(endpoint, RawConnection())
        self.addCleanup(connection.abort)
        if data:
            connection.send(data)
        return connection

    async def raw_answer(self, data: bytes) -> Answer:
        """The answer to bytes after which the bridge closes the connection."""
        connection = await self.raw(data)
        return parse(await connection.when_closed())

    def count(self, metric: str, **labels: str) -> float:
        return self.bridge.metrics.registry.get_sample_value(f"nats_bridge_{metric}", labels) or 0.0


def parse(data: bytes) -> Answer:
    """The one response in *data*."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines[1:]:
        name, _, value = line.partition(": ")
        headers.setdefault(name.lower(), []).append(value)
    return Answer(int(lines[0].split(" ")[1]), headers, body)
