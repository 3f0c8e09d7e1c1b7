"""The base of the tests of routes for lines with a real server that stores, and real peers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from pynats_twisted import NatsClient
from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.lines_route import LinesRoute
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.jetstream.api import StreamConfig
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.stream import Stream
from pynats_twisted.testing import ServerProcess
from tests.support.integration import IntegrationTestCase

HEAD = """
[bridge]
name = "edge"
drain_timeout = "10s"
[nats.default]
servers = "{url}"
{nats}
[routes.lines]
{keys}
"""

TCP = 'endpoint = "tcp:0:interface=127.0.0.1"\n'
UDP = 'endpoint = "udp:0:interface=127.0.0.1"\n'


class Peer(Protocol):
    """A peer that sends, and collects what it is told."""

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.ended: Deferred[bytes] = Deferred()
        self.is_up = True

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def hang_up(self) -> Deferred[bytes]:
        """End the connection, if it is there still; fires with what came."""
        if self.is_up:
            self.transport.abortConnection()
        return self.ended

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.is_up = False
        self.ended.callback(self.got)


class LinesCase(IntegrationTestCase):
    """A server with streams, a bridge with one route, and peers."""

    route_keys = ""
    server: ServerProcess
    nc: NatsClient
    js: JetStreamContext
    bridge: BridgeService

    async def start_streams(self, **options: Any) -> None:
        self.server = await self.start_server(**{"jetstream": True, **options})
        self.nc = await self.connect(self.server)
        self.js = self.nc.jetstream()

    async def create_stream(self, name: str = "LINES", subjects: str = "plant.>", **keys: Any) -> Stream:
        return await self.js.create_stream(StreamConfig(name=name, subjects=[subjects], **keys))

    def text(self, keys: str, *, url: str = "", nats: str = "") -> str:
        """A configuration."""
        return HEAD.format(url=url or self.server.url, nats=nats, keys=self.route_keys + keys)

    async def start_bridge(self, keys: str, *, url: str = "", nats: str = "") -> BridgeService:
        """A bridge that is ready."""
        config = load_config(self.text(keys, url=url, nats=nats), "bridge.toml", builtin_factories())
        self.bridge = bridge = BridgeService(self.reactor, config, builtin_factories())
        bridge.startService()
        self.addCleanup(bridge.stopService)
        await self.until(lambda: not bridge.problems(), what="ready")
        return bridge

    @property
    def route(self) -> LinesRoute:
        route: Any = self.bridge.routes["lines"]
        found: LinesRoute = route
        return found

    @property
    def port(self) -> int:
        port: Any = self.route.port
        return int(port.getHost().port)

    async def peer(self, port: int = 0) -> Peer:
        """A peer that is connected to the route."""
        peer: Peer = await connectProtocol(TCP4ClientEndpoint(self.reactor, "127.0.0.1", port or self.port), Peer())
        self.addCleanup(peer.hang_up)
        return peer

    async def stored(self, stream: str = "LINES") -> list[JsMsg]:
        """Everything that a stream has."""
        handle = await self.js.stream(stream)
        if not (await handle.info()).state.messages:
            return []
        return [msg async for msg in handle.ordered_consumer().messages(until_drained=True)]

    async def count_of(self, stream: str = "LINES") -> int:
        """How many messages a stream has."""
        return int((await (await self.js.stream(stream)).info()).state.messages)

    def number(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 when it was never counted."""
        labels = {"route": "lines", "type": self.route.type_name, **labels}
        return self.bridge.metrics.registry.get_sample_value(f"nats_bridge_{name}", labels) or 0.0
