"""A bridge in memory with an admin endpoint, and HTTP on string transports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pynats_twisted.bridge.config import RouteConfig, load_config
from pynats_twisted.bridge.interfaces import (
    DeadLetter,
    IDeadLetters,
    IDegradable,
    IDescribed,
    IPausable,
    IRoute,
    IRouteFactory,
    RouteDescription,
)
from pynats_twisted.bridge.service import BridgeService
from tests.bridge.http_support import TCPTransport
from tests.bridge.route_types import EchoFactory, EchoRoute

CONFIG = """
[bridge]
name = "edge"
drain_timeout = "20s"
[admin]
{admin}
[nats.default]
servers = "nats://user:p4ss@127.0.0.1:4222"
[listen.public]
endpoint = "tcp:8080:interface=127.0.0.1"
[routes.echo]
type = "echo"
subject = "echo.me"
listen = "public"
path = "/echo/{{id}}"
[routes.hook]
type = "letters"
"""

TOKEN = "t0ken-of-the-admin"
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}"}


class LettersConfig(RouteConfig, kw_only=True, frozen=True):
    """A route with nothing to configure."""


@implementer(IRoute, IPausable, IDeadLetters, IDescribed, IDegradable)
class LettersRoute(Service):
    """A route that offers everything that a route may offer."""

    type_name = "letters"

    def __init__(self, name: str, config: LettersConfig, context: Any) -> None:
        self.name = name
        self.paused = False
        self.calls: list[tuple[str, Any]] = []
        self.letters = [
            DeadLetter(7, "orders.new", "answered 500", 3, 12.5, b'{"a": 1}', {"Content-Type": ["text/plain"], "X-Api-Key": ["s3cret"]}),
            DeadLetter(5, "orders.old", "gone", 1, 11.0, b"\xff\x00" * 700, {}),
        ]
        self.error: Exception | None = None
        self.half: list[str] = []
        self.is_mute = False

    def guarantee(self) -> str:
        return "At least once."

    def problems(self) -> list[str]:
        return []

    def degraded(self) -> list[str]:
        return self.half

    def describe(self) -> RouteDescription:
        if self.is_mute:
            raise ValueError("no words")
        return RouteDescription("ORDERS: orders.>", "POST http://crm.example/", {"breaker": "closed"}, [("try", "nats pub orders.new x")])

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def _answer(self, result: Any) -> Deferred[Any]:
        return fail(self.error) if self.error is not None else succeed(result)

    def dead_letters(self, limit: int) -> Deferred[list[DeadLetter]]:
        self.calls.append(("list", limit))
        return self._answer(self.letters[:limit])

    def replay_dead_letters(self, seqs: Sequence[int] | None) -> Deferred[int]:
        self.calls.append(("replay", seqs))
        return self._answer(len(self.letters) if seqs is None else len(seqs))

    def delete_dead_letters(self, seqs: Sequence[int] | None) -> Deferred[int]:
        self.calls.append(("delete", seqs))
        return self._answer(len(self.letters) if seqs is None else len(seqs))


@implementer(IRouteFactory)
class LettersFactory:
    type_name = "letters"
    config_type = LettersConfig

    def make_route(self, name: str, config: Any, context: Any) -> LettersRoute:
        return LettersRoute(name, config, context)


FACTORIES = [EchoFactory(), LettersFactory()]


class Answer:
    """An HTTP response, taken apart."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split(" ")[1]) if first else 0
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        """The word of the problem."""
        kind: str = self.json["type"]
        return kind.removeprefix("urn:nats-bridge:")

    def events(self) -> list[tuple[str, Any]]:
        """The body as events."""
        found: list[tuple[str, Any]] = []
        for block in self.body.decode().split("\n\n"):
            if block.startswith("event: "):
                kind, data = block.split("\n")
                found.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
        return found


class Caller:
    """A connection to the admin endpoint."""

    def __init__(self, factory: Any) -> None:
        self.transport = TCPTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 40000))
        self.protocol = factory.buildProtocol(self.transport.getPeer())
        self.protocol.makeConnection(self.transport)

    def send(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, body: Any = None, host: str = "localhost"
    ) -> Caller:
        data = json.dumps(body).encode() if body is not None else b""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        if body is not None:
            lines.append(f"Content-Length: {len(data)}")
        self.protocol.dataReceived("\r\n".join([*lines, "", ""]).encode() + data)
        return self

    @property
    def answer(self) -> Answer:
        return Answer(self.transport.value())

    def leave(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class AdminCase(SynchronousTestCase):
    """A started bridge with an admin endpoint at port 8223, without a NATS server."""

    admin = f'token = "{TOKEN}"'
    filename = "bridge.toml"

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.bridge = BridgeService(self.reactor, load_config(CONFIG.format(admin=self.admin), self.filename, FACTORIES), FACTORIES)
        self.bridge.startService()
        echo: Any = self.bridge.routes["echo"]
        hook: Any = self.bridge.routes["hook"]
        self.echo: EchoRoute = echo
        self.hook: LettersRoute = hook

    def connect(self, port: int = 8223) -> Caller:
        (factory,) = [factory for number, factory, *_ in self.reactor.tcpServers if number == port]
        return Caller(factory)

    def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, body: Any = None, host: str = "localhost"
    ) -> Answer:
        """One request on a connection of its own."""
        return self.connect().send(path, method, headers, body, host).answer

    def do(self, path: str, body: Any = None) -> Answer:
        """A request with the token that changes something."""
        return self.ask(path, "POST", WITH_TOKEN, {} if body is None else body)
