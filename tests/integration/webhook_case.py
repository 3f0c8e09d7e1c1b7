"""The base of the tests of ``webhook`` routes with a real server and real targets."""

from __future__ import annotations

from typing import Any

from pynats_twisted import NatsClient
from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.routes.webhook import WebhookRoute, factory
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.jetstream.api import ConsumerInfo, StreamConfig
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.testing import ServerProcess
from tests.support.integration import IntegrationTestCase
from tests.support.webhook_target import OK, Answers, Target

HEAD = """
[bridge]
name = "edge"
drain_timeout = "10s"
[nats.default]
servers = "{url}"
[admin]
listen = "tcp:0:interface=127.0.0.1"
"""

ROUTE = """
[routes.{name}]
type = "webhook"
stream = "ORDERS"
consumer = "{name}"
url = "{url}"
allow_private = true
{keys}
"""

QUICK = 'retry = {{ schedule = ["{wait}"], max_attempts = {attempts}, jitter = 0 }}'


def quick(wait: str = "50ms", attempts: int = 3) -> str:
    """``retry`` with short waits."""
    return QUICK.format(wait=wait, attempts=attempts)


class WebhookCase(IntegrationTestCase):
    """A server with the stream ORDERS and one for dead letters, and targets."""

    server: ServerProcess
    nc: NatsClient
    js: JetStreamContext
    bridge: BridgeService

    def setUp(self) -> None:
        super().setUp()
        self.targets: list[Target] = []

    async def start_streams(self, dlq: bool = True) -> None:
        self.server = await self.start_server(jetstream=True)
        self.nc = await self.connect(self.server)
        self.js = self.nc.jetstream()
        await self.js.create_stream(StreamConfig(name="ORDERS", subjects=["orders.>"]))
        if dlq:
            await self.js.create_stream(StreamConfig(name="DLQ", subjects=["dlq.>"], allow_direct=True))

    def target(self, answers: Answers | bytes = OK) -> Target:
        target = Target(self.reactor, answers).listen()
        self.targets.append(target)
        self.addCleanup(target.close)
        return target

    def text(self, **routes: tuple[Target | str, str]) -> str:
        """A configuration of routes: name = (target or URL, further keys)."""
        text = HEAD.format(url=self.server.url)
        for name, (target, keys) in routes.items():
            text += ROUTE.format(name=name, url=target.url if isinstance(target, Target) else target, keys=keys)
        return text

    def make_bridge(self, **routes: tuple[Target | str, str]) -> BridgeService:
        """A bridge that was started, and is perhaps not ready."""
        factories = [factory]
        service = self.bridge = BridgeService(self.reactor, load_config(self.text(**routes), "bridge.toml", factories), factories)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def start_bridge(self, **routes: tuple[Target | str, str]) -> BridgeService:
        """A bridge that is ready."""
        service = self.make_bridge(**routes)
        await self.until(lambda: not service.problems(), what="the bridge to be ready")
        return service

    def route(self, name: str = "crm") -> WebhookRoute:
        route: Any = self.bridge.routes[name]
        found: WebhookRoute = route
        return found

    async def publish(self, *payloads: bytes, subject: str = "orders.new", **options: Any) -> None:
        for payload in payloads:
            await self.js.publish(subject, payload, **options)

    async def info(self, name: str = "crm") -> ConsumerInfo:
        return await self.js.call(ConsumerInfo, self.js.prefix.consumer_info("ORDERS", name))

    async def finished(self, name: str = "crm") -> None:
        """Wait until every message of the stream is finished."""
        while True:
            info = await self.info(name)
            if not info.num_pending and not info.num_ack_pending:
                return
            await self.sleep(0.02)

    def count(self, metric: str, name: str = "crm", **labels: str) -> float:
        """The value of a metric; 0 when it was never counted."""
        found = self.bridge.metrics.registry.get_sample_value(f"nats_bridge_{metric}", {"route": name, "type": "webhook", **labels})
        return found or 0.0
