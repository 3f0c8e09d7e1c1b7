"""A bridge with a real server: when it is ready, and how it stops while it works."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from pynats_twisted import Msg
from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.bridge.service import BridgeService
from tests.support.integration import IntegrationTestCase

CONFIG = """
[bridge]
name = "b1"
drain_timeout = "5s"
[nats.default]
servers = "{url}"
[listen.public]
endpoint = "tcp:0:interface=127.0.0.1"
[routes.orders]
type = "http-request"
listen = "public"
path = "/orders/{{id}}"
subject = "orders.{{id}}"
timeout = "10s"
"""


class Caller(Protocol):
    """A plain HTTP/1.1 client: it sends a request and collects what comes until the end of the connection."""

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[bytes] = Deferred()

    def get(self, path: str) -> None:
        assert self.transport is not None
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: bridge\r\n\r\n".encode("ascii"))

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
        self.ended.callback(self.received)


class BridgeServiceTests(IntegrationTestCase):
    def start_bridge(self, url: str) -> BridgeService:
        service = BridgeService(self.reactor, load_config(CONFIG.format(url=url), "bridge.toml", builtin_factories()), builtin_factories())
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def call(self, service: BridgeService, path: str) -> Caller:
        port: Any = service.listeners["public"].port
        endpoint = HostnameEndpoint(self.reactor, "127.0.0.1", port.getHost().port)
        caller: Caller = await connectProtocol(endpoint, Caller())
        caller.get(path)
        return caller

    async def test_ready_when_the_server_is(self) -> None:
        """A bridge that starts before its server is unready and says why; it becomes ready by itself, and again after an outage."""
        server = self.make_server()
        service = self.start_bridge(server.url)
        self.assertIn("nats.default is connecting", service.problems())
        await server.start()
        await self.until(lambda: not service.problems(), what="ready")
        await server.kill()
        await self.until(lambda: "nats.default is reconnecting" in service.problems(), what="unready")
        await server.start()
        await self.until(lambda: not service.problems(), what="ready again")

    async def test_finishes_what_is_in_flight(self) -> None:
        """A request that was accepted before the stop is answered by its service; connections after it are refused."""
        server = await self.start_server()
        client = await self.connect(server)
        requests: list[Msg] = []
        await client.subscribe("orders.*", requests.append)
        service = self.start_bridge(server.url)
        await self.until(lambda: not service.problems(), what="ready")
        port: Any = service.listeners["public"].port
        address = port.getHost().port
        caller = await self.call(service, "/orders/17")
        await self.until(lambda: requests, what="the request")

        stopped = service.stopService()
        self.assertEqual(service.problems(), ["the bridge is stopping"])
        await self.sleep(0.1)
        self.assertNoResult(stopped)
        with self.assertRaises(ConnectionRefusedError):
            await connectProtocol(HostnameEndpoint(self.reactor, "127.0.0.1", address), Caller())
        await requests[0].respond(b"seventeen")
        await stopped
        response = await caller.ended
        self.assertTrue(response.startswith(b"HTTP/1.1 200 "), response)
        self.assertTrue(response.endswith(b"\r\n\r\nseventeen"), response)
        self.assertEqual(service.connections["default"].client.status.value, "closed")

    async def test_bounded_in_time(self) -> None:
        """A request that nobody answers does not keep the bridge from stopping within ``drain_timeout``."""
        server = await self.start_server()
        client = await self.connect(server)
        requests: list[Msg] = []
        await client.subscribe("orders.*", requests.append)
        service = self.start_bridge(server.url)
        await self.until(lambda: not service.problems(), what="ready")
        caller = await self.call(service, "/orders/17")
        await self.until(lambda: requests, what="the request")
        begun = self.reactor.seconds()
        await service.stopService()
        self.assertGreater(self.reactor.seconds() - begun, 4.5)
        await caller.ended
