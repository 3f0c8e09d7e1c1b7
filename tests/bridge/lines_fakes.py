"""A NATS client, a reactor and a route context for tests of routes for lines, all in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from pynats_twisted.bridge.config import BridgeSection
from pynats_twisted.bridge.context import RouteContext
from pynats_twisted.bridge.lines_base_config import LinesBaseConfig
from pynats_twisted.bridge.lines_config import LinesInConfig
from pynats_twisted.bridge.lines_route import LinesRoute
from pynats_twisted.bridge.metrics import BridgeMetrics
from pynats_twisted.bridge.routes.lines_in import LinesInRoute
from pynats_twisted.client.outbound import DONE
from pynats_twisted.client.status import ClientStats, ClientStatus, Closed, Disconnected, Reconnected, ServerErrorEvent
from pynats_twisted.errors import DisconnectedError, PermissionsViolationError
from pynats_twisted.jetstream.api import PubAck


class FakeClient:
    """What a bridge uses of a client. Flushes are answered when the test says so."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.status = ClientStatus.CONNECTED
        self.stats = ClientStats()
        self.published: list[tuple[str, bytes, dict[str, str]]] = []
        self.flushes: list[Deferred[None]] = []
        self.room: Deferred[None] | None = None
        self.publish_error: Exception | None = None
        self._listeners: list[Callable[[Any], Any]] = []
        self.js = FakeJetStream(self)

    def jetstream(self) -> FakeJetStream:
        return self.js

    @property
    def is_connected(self) -> bool:
        return self.status is ClientStatus.CONNECTED

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload, _ in self.published]

    def publish(self, subject: str, payload: bytes = b"", reply: str | None = None, headers: Any = None) -> Any:
        if self.publish_error is not None:
            raise self.publish_error
        self.published.append((subject, payload, dict(headers.items()) if headers is not None else {}))
        return DONE if self.room is None else self.room

    def flush(self, timeout: float | None = None) -> Deferred[None]:
        if not self.is_connected:
            return fail(DisconnectedError("there is no connection to a server"))
        flush: Deferred[None] = Deferred()
        self.flushes.append(flush)
        return flush

    def pong(self) -> None:
        """The server answers the oldest PING."""
        self.flushes.pop(0).callback(None)

    def pong_all(self) -> None:
        """The server answers every PING, and those that follow."""
        while self.flushes:
            self.pong()

    def add_listener(self, listener: Callable[[Any], Any]) -> None:
        self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[Any], Any]) -> None:
        self._listeners.remove(listener)

    def emit(self, event: Any) -> None:
        for listener in list(self._listeners):
            listener(event)

    def deny(self, subject: str) -> None:
        """The server says that publishing to a subject is not permitted. Listeners hear of it in the next turn, as they do in life."""
        self.stats.server_errors += 1
        error = PermissionsViolationError(f'Permissions Violation for Publish to "{subject}"', "publish", subject)
        self.reactor.callLater(0, self.emit, ServerErrorEvent(error))

    def lose(self) -> None:
        """The connection is lost."""
        self.status = ClientStatus.RECONNECTING
        flushes, self.flushes = self.flushes, []
        for flush in flushes:
            flush.errback(DisconnectedError("the connection was lost"))
        self.emit(Disconnected("nats://x", None, 0))

    def come_back(self) -> None:
        """The connection is there again."""
        self.status = ClientStatus.CONNECTED
        self.emit(Reconnected("nats://x"))

    def end(self) -> None:
        """The client is closed for good."""
        self.status = ClientStatus.CLOSED
        self.emit(Closed(None, 0))


class FakeJetStream:
    """What a bridge uses of JetStream. Publishes are answered when the test says so, in any order.

    :ivar sent: every publish: its subject, payload, headers and message id.
    :ivar waiting: those without an answer, as payload and Deferred.
    """

    def __init__(self, client: FakeClient) -> None:
        self.client = client
        self.sent: list[tuple[str, bytes, dict[str, str], str | None]] = []
        self.waiting: list[tuple[bytes, Deferred[PubAck]]] = []
        self.error: Exception | None = None
        self._seq = 0

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload, _, _ in self.sent]

    @property
    def ids(self) -> list[str | None]:
        return [msg_id for _, _, _, msg_id in self.sent]

    def publish(self, subject: str, payload: bytes, headers: Any, *, msg_id: str | None, retries: int, timeout: float) -> Deferred[PubAck]:
        if self.error is not None:
            raise self.error
        self.sent.append((subject, payload, dict(headers.items()) if headers is not None else {}, msg_id))
        ack: Deferred[PubAck] = Deferred()
        self.waiting.append((payload, ack))
        return ack

    def ack(self, count: int = 1, *, duplicate: bool = False) -> None:
        """The stream has stored the oldest."""
        for _ in range(count):
            self._seq += 1
            self.waiting.pop(0)[1].callback(PubAck(stream="LINES", seq=self._seq, duplicate=duplicate))

    def refuse(self, error: Exception, count: int = 1) -> None:
        """The oldest are not stored."""
        for _ in range(count):
            self.waiting.pop(0)[1].errback(error)

    def ack_all(self, clock: Any) -> None:
        """The stream stores everything, and what follows."""
        while self.waiting:
            self.ack(len(self.waiting))
            clock.advance(0)


class FakePort:
    """What listening on UDP gives."""

    def __init__(self, number: int, interface: str) -> None:
        self.number = number
        self.interface = interface
        self.stopped = False

    def stopListening(self) -> None:  # noqa: N802
        self.stopped = True


class LinesReactor(MemoryReactorClock):
    """A reactor in memory that can listen on UDP as well."""

    def __init__(self) -> None:
        super().__init__()
        self.udp: list[tuple[FakePort, Any, int]] = []

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> FakePort:  # noqa: N802, N803
        listening = FakePort(port, interface)
        self.udp.append((listening, protocol, maxPacketSize))
        return listening


class PeerTransport(StringTransport):
    """A connection to a peer, that can be seen to be paused and closed."""

    aborted = False

    def __init__(self, host: str | None = "127.0.0.1") -> None:
        address: Any = UNIXAddress(None)
        if host is not None:
            address = IPv6Address("TCP", host, 40000) if ":" in host else IPv4Address("TCP", host, 40000)
        super().__init__(peerAddress=address)

    def abortConnection(self) -> None:  # noqa: N802
        self.aborted = True
        self.loseConnection()

    @property
    def is_paused(self) -> bool:
        return bool(self.producerState == "paused")


class Peer:
    """A peer that is connected to a route."""

    def __init__(self, factory: Any, host: str | None = "127.0.0.1") -> None:
        self.transport = PeerTransport(host)
        self.protocol = factory.buildProtocol(self.transport.getPeer())
        self.protocol.makeConnection(self.transport)

    def sends(self, data: bytes) -> None:
        """The peer sends bytes."""
        self.protocol.dataReceived(data)

    def leaves(self) -> None:
        """The peer closes its connection, or a close of ours takes effect."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def got(self) -> bytes:
        """What was written to the peer since it was asked last."""
        data = self.transport.value()
        self.transport.clear()
        return data


class LinesBench:
    """A ``lines-in`` route with everything around it in memory."""

    type_name = "lines-in"
    config_type: type[LinesBaseConfig] = LinesInConfig
    route_type: type[LinesRoute] = LinesInRoute

    def __init__(self, *, start: bool = True, **keys: Any) -> None:
        self.reactor = LinesReactor()
        self.client = FakeClient(self.reactor)
        self.metrics = BridgeMetrics("edge", process=False)
        self.context = RouteContext(
            reactor=self.reactor,
            bridge=BridgeSection(name="edge"),
            metrics=self.metrics,
            clients={"default": self.client},
        )
        keys = {"type": self.type_name, "endpoint": "tcp:9000", "subject": "plant.lines", **keys}
        self.config = self.config_type(**keys)
        problems = list(self.config.find_problems())
        assert not problems, problems
        self.route = self.route_type("r", self.config, self.context)
        if start:
            self.route.startService()

    @property
    def factory(self) -> Any:
        """What makes protocols for new connections."""
        return self.reactor.tcpServers[0][1]

    def peer(self, host: str | None = "127.0.0.1") -> Peer:
        """A new connection."""
        return Peer(self.factory, host)

    def number(self, name: str, **labels: str) -> float:
        """The value of a metric of the route."""
        labels = {"route": "r", "type": self.type_name, **labels}
        return self.metrics.registry.get_sample_value(f"nats_bridge_{name}", labels) or 0.0
