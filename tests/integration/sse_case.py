"""The base of the tests of ``sse`` routes with a real server and real sockets."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from pynats_twisted import NatsClient
from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.bridge.routes.sse import SSERoute
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.jetstream.api import StreamConfig
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.testing import ServerProcess
from tests.support.integration import IntegrationTestCase

HEAD = """
[bridge]
name = "edge"
drain_timeout = "10s"
[nats.default]
servers = "{url}"
[listen.public]
endpoint = "{endpoint}"
max_connections = 20000
"""

LIVE = """
[routes.live]
type = "sse"
listen = "public"
path = "/live/{room}"
stream = "CHAT"
filter = "chat.{room}.>"
"""


@dataclass
class Event:
    """An event, as a browser dispatches it."""

    data: str
    name: str = "message"
    id: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Listener(Protocol):
    """A client that reads events as a browser does (the HTML standard, 9.2.6), without coming back by itself.

    :ivar head: status line and headers, when they are there.
    :ivar events: what was dispatched.
    :ivar last_id: what a browser would send as ``Last-Event-ID``.
    :ivar retries: the values of ``retry``.
    :ivar comments: how many lines were comments.
    """

    transport: Any

    def __init__(self, target: str, headers: dict[str, str] | None = None, receive_buffer: int | None = None, method: str = "GET") -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in (headers or {}).items()), "", ""]
        self._request = "\r\n".join(lines).encode("latin-1")
        self._receive_buffer = receive_buffer
        self._rest = b""
        self._fields: dict[str, list[str]] = {}
        self.head = ""
        self.events: list[Event] = []
        self.last_id = (headers or {}).get("Last-Event-ID", "")
        self.retries: list[int] = []
        self.comments = 0
        self.closed = False
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        if self._receive_buffer is not None:
            self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self._rest += data
        if not self.head:
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                return
            self.head, self._rest = head.decode("latin-1"), rest
        if self.status != 200:
            return
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8"))

    def _line(self, line: str) -> None:
        if not line:
            self._dispatch()
        elif line.startswith(":"):
            self.comments += 1
        else:
            name, _, value = line.partition(":")
            self._fields.setdefault(name, []).append(value.removeprefix(" "))

    def _dispatch(self) -> None:
        fields, self._fields = self._fields, {}
        self.retries += [int(value) for value in fields.get("retry", ())]
        self.last_id = fields.get("id", [self.last_id])[-1]
        if "data" in fields:
            self.events.append(Event("\n".join(fields["data"]), fields.get("event", ["message"])[-1], self.last_id))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True
        self.ended.callback(None)

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1]) if self.head else 0

    @property
    def headers(self) -> dict[str, str]:
        pairs = [line.partition(": ")[::2] for line in self.head.split("\r\n")[1:]]
        return {name.lower(): value for name, value in pairs}

    @property
    def problem(self) -> dict[str, Any]:
        """The problem that the body is."""
        content: dict[str, Any] = json.loads(self._rest)
        return content

    @property
    def data(self) -> list[str]:
        """The data of all events that are messages."""
        return [event.data for event in self.events if event.name == "message"]

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    def close(self) -> None:
        if not self.closed:
            self.transport.abortConnection()


class SSECase(IntegrationTestCase):
    """A server with the stream CHAT, and a bridge."""

    server: ServerProcess
    nc: NatsClient
    js: JetStreamContext
    bridge: BridgeService
    endpoint = "tcp:0:interface=127.0.0.1"

    async def start_stream(self, **config: Any) -> None:
        self.server = await self.start_server(jetstream=True)
        self.nc = await self.connect(self.server)
        self.js = self.nc.jetstream()
        await self.make_stream(**config)

    async def make_stream(self, **config: Any) -> None:
        await self.js.create_stream(StreamConfig(**{"name": "CHAT", "subjects": ["chat.>"], "allow_direct": True, **config}))

    def text(self, keys: str = "", route: str = LIVE) -> str:
        return HEAD.format(url=self.server.url, endpoint=self.endpoint) + route + keys

    async def start_bridge(self, keys: str = "", route: str = LIVE) -> BridgeService:
        return await self.start_text(self.text(keys, route))

    async def start_text(self, text: str) -> BridgeService:
        """A bridge with this configuration."""
        factories = builtin_factories()
        service = self.bridge = BridgeService(self.reactor, load_config(text, "bridge.toml", factories), factories)
        service.startService()
        self.addCleanup(service.stopService)
        await self.until(lambda: not service.problems(), what="the bridge to be ready")
        return service

    async def start(self, keys: str = "", route: str = LIVE, **stream: Any) -> None:
        await self.start_stream(**stream)
        await self.start_bridge(keys, route)

    @property
    def route(self) -> SSERoute:
        route: Any = self.bridge.routes["live"]
        found: SSERoute = route
        return found

    @property
    def port(self) -> int:
        port: Any = self.bridge.listeners["public"].port
        number: int = port.getHost().port
        return number

    async def connect_to(
        self,
        target: str = "/live/a",
        last_id: str | None = None,
        headers: dict[str, str] | None = None,
        receive_buffer: int | None = None,
        method: str = "GET",
    ) -> Listener:
        """A client that has sent its request."""
        given = dict(headers or {})
        if last_id is not None:
            given["Last-Event-ID"] = last_id
        listener = Listener(target, given, receive_buffer, method)
        await connectProtocol(HostnameEndpoint(self.reactor, "127.0.0.1", self.port), listener)
        self.addCleanup(listener.close)
        return listener

    async def listen(self, target: str = "/live/a", last_id: str | None = None, **options: Any) -> Listener:
        """A client that gets what comes from now on."""
        listener = await self.connect_to(target, last_id, **options)
        await self.until(lambda: listener.head and (listener.last_id or listener.closed), what="the stream to begin")
        return listener

    async def refused(self, target: str = "/live/a", **options: Any) -> Listener:
        """A client that was answered with a problem."""
        listener = await self.connect_to(target, **options)
        await self.until(lambda: listener.head and listener._rest.endswith(b"}"), what="an answer")
        return listener

    async def publish(self, *payloads: bytes, subject: str = "chat.a.x") -> int:
        """Publish, and return the last sequence."""
        seq = 0
        for payload in payloads:
            seq = (await self.js.publish(subject, payload)).seq
        return seq

    async def got(self, listener: Listener, *data: str) -> None:
        """Wait for the data of so many messages, and check all that came."""
        await self.until(lambda: len(listener.data) >= len(data), what=f"{len(data)} messages")
        self.assertEqual(listener.data, list(data))

    def joined(self) -> int:
        """How many clients have got what they missed, and get what comes."""
        return sum(len(hub.clients) for hub in self.route.hubs())

    def count(self, metric: str, **labels: str) -> float:
        """The value of a metric; 0 when it was never counted."""
        found = self.bridge.metrics.registry.get_sample_value(f"nats_bridge_{metric}", {"route": "live", "type": "sse", **labels})
        return found or 0.0
