"""A network in memory and virtual time, and servers on it that say what a test tells them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.address import HostnameAddress, IPv4Address
from twisted.internet.base import BaseConnector
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IConsumer,
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IReactorTime,
    ISSLTransport,
    ITLSTransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from pynats_twisted.protocol.subjects import matches

from ..protocol.wire import Command, hmsg, msg, read_commands

INFO: dict[str, Any] = {"server_id": "S", "version": "2.12.1", "proto": 1, "headers": True, "max_payload": 1048576}
NO_RESPONDERS = b"NATS/1.0 503\r\n\r\n"


@implementer(ITLSTransport, IConsumer)
class Wire:
    """A client's transport. What is written reaches the server a turn later, unless that has stopped reading.

    :ivar creators: what ``startTLS`` was called with; :ivar aborted: ``abortConnection`` was called.
    """

    bufferSize = 64 * 1024  # noqa: N815 - Twisted's name

    def __init__(self, network: Network, connector: MemoryConnector) -> None:
        self.network = network
        self.connector = connector
        self.protocol: Any = None
        self.peer: Peer | None = None
        self.creators: list[Any] = []
        self.reading = True
        self.ended = self.aborted = self.disconnecting = False
        self._producer: Any = None
        self._out: list[bytes] = []
        self._in: list[bytes] = []
        self._pumping = False

    # --- dialling ---

    def dial(self) -> None:
        if self.ended:
            return
        server = self.connector.server
        if server is None or server.dial == "refuse":
            self.ended = True
            self.connector.connectionFailed(Failure(ConnectionRefusedError()))
        elif server.dial == "accept":
            self.protocol = self.connector.buildProtocol(self.getPeer())
            self.peer = Peer(server, self)
            self.protocol.makeConnection(self)
            server.accepted(self.peer)

    def failIfNotConnected(self, error: BaseException) -> None:  # noqa: N802
        if not self.ended and self.protocol is None:
            self.ended = True
            self.connector.connectionFailed(Failure(error))

    # --- what a protocol calls ---

    def write(self, data: bytes) -> None:
        assert data.__class__ is bytes
        if self.ended or self.aborted:
            return
        self._out.append(data)
        if self._producer is not None and self.unsent > self.bufferSize:
            self._producer.pauseProducing()
        self.pump_soon()

    @property
    def unsent(self) -> int:
        return sum(map(len, self._out))

    def pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            self.network.callLater(0, self._pump)

    def _pump(self) -> None:
        self._pumping = False
        peer = self.peer
        if self.ended or peer is None or peer.stalled:
            return
        data, self._out = b"".join(self._out), []
        if data:
            peer.received(data)
        if self._out or self.ended:
            return
        if self._producer is not None:
            self._producer.resumeProducing()
        elif self.disconnecting:
            self.lost(ConnectionDone())

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        assert self._producer is None and streaming
        self._producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802
        assert self._producer is not None
        self._producer = None
        self.pump_soon()

    def loseConnection(self) -> None:
        """As a socket's: what was written goes first, and it never ends while a producer is registered."""
        if not self.disconnecting and not self.ended:
            self.disconnecting = True
            self.reading = False
            self.pump_soon()

    def abortConnection(self) -> None:  # noqa: N802
        if not self.aborted and not self.ended:
            self.aborted = True
            self.network.callLater(0, self.lost, ConnectionAborted())

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if not self.disconnecting:
            self.reading = True
            self.network.callLater(0, self._read)

    def _read(self) -> None:
        while self._in and self.reading and not self.ended:
            self.protocol.dataReceived(self._in.pop(0))

    def startTLS(self, creator: Any) -> None:  # noqa: N802
        self.creators.append(creator)
        directlyProvides(self, ISSLTransport, providedBy(self))

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802
        self.no_delay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: N802
        self.keep_alive = enabled

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", self.connector.host, self.connector.port)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 50000)

    # --- what the server does ---

    def deliver(self, data: bytes) -> None:
        if self.ended or self.aborted or self.disconnecting:
            return
        if self.reading and not self._in:
            self.protocol.dataReceived(data)
        else:
            self._in.append(data)

    def lost(self, reason: BaseException) -> None:
        if not self.ended:
            self.ended = True
            self.protocol.connectionLost(Failure(reason))
            self.connector.connectionLost(Failure(reason))


class MemoryConnector(BaseConnector):
    """Twisted's connector, to a place on the network."""

    def __init__(self, network: Network, host: str, port: int, factory: Any, timeout: float | None) -> None:
        super().__init__(factory, timeout, network)  # type: ignore[arg-type]
        self.host, self.port = host, port

    @property
    def server(self) -> ScriptedServer | None:
        return self.reactor.servers.get((self.host, self.port))  # type: ignore[attr-defined]

    def _makeTransport(self) -> Any:  # noqa: N802
        network: Any = self.reactor
        network.dials.append((round(network.seconds(), 6), f"{self.host}:{self.port}"))
        wire = Wire(network, self)
        network.callLater(self.server.latency if self.server is not None else 0, wire.dial)
        return wire

    def getDestination(self) -> IPv4Address:
        return IPv4Address("TCP", self.host, self.port)


class Peer:
    """The server's end of one connection.

    :ivar commands: what the client sent so far. A part of a frame at the end of the connection is a failure, unless ``cut``.
    :ivar subs: the subscriptions by sid. :ivar stalled: the server reads nothing.
    """

    def __init__(self, server: ScriptedServer, wire: Wire) -> None:
        self.server = server
        self.wire = wire
        self.commands: list[Command] = []
        self.subs: dict[int, Command] = {}
        self.stalled = False
        self.unread = b""

    # --- from the client ---

    def received(self, data: bytes) -> None:
        self.unread += data
        while (size := _frame_size(self.unread)) and not self.wire.ended:
            frame, self.unread = self.unread[:size], self.unread[size:]
            for command in read_commands(frame):
                self.commands.append(command)
                self._handle(command)

    def _handle(self, command: Command) -> None:
        server = self.server
        if command.name == "SUB":
            self.subs[command.sid] = command
        elif command.name == "UNSUB" and not command.limit:
            self.subs.pop(command.sid, None)
        if server.script is not None and server.script(self, command):
            return
        if command.name == "CONNECT" and server.refusal is not None:
            self.error(server.refusal)
            self.hang_up()
        elif command.name == "PING" and server.answers_pings:
            self.send(b"PONG\r\n")

    def take(self, name: str = "") -> list[Command]:
        """The commands since the last call, of one name or all; the others are forgotten."""
        commands, self.commands = self.commands, []
        return [command for command in commands if name in ("", command.name)]

    def written(self, name: str = "PUB") -> list[bytes]:
        """The payloads of all PUBs so far, or the subjects of all SUBs."""
        found = [command for command in self.commands if command.name == name]
        return [command.payload if name in ("PUB", "HPUB") else command.subject for command in found]

    # --- to the client ---

    def send(self, data: bytes) -> None:
        """Bytes, in one read."""
        self.wire.deliver(data)

    def info(self, **changes: Any) -> None:
        """An INFO that comes later."""
        self.send(info_line(**{**self.server.info, **changes}))

    def error(self, text: str) -> None:
        """An ``-ERR``."""
        self.send(b"-ERR '%b'\r\n" % text.encode())

    def frame(self, subject: str, payload: bytes = b"", reply: str = "", block: bytes = b"") -> bytes:
        """The bytes of a message, for each subscription that matches."""
        found = [sid for sid, sub in self.subs.items() if matches(sub.subject.decode(), subject)]
        names = (subject.encode(), reply.encode())
        if block:
            return b"".join(hmsg(names[0], sid, block, payload, names[1]) for sid in found)
        return b"".join(msg(names[0], sid, payload, names[1]) for sid in found)

    def publish(self, subject: str, *payloads: bytes, reply: str = "", block: bytes = b"") -> None:
        """Messages, in one read, to each subscription that matches."""
        self.send(b"".join(self.frame(subject, payload, reply, block) for payload in payloads or (b"",)))

    def answer(self, command: Command, *payloads: bytes, block: bytes = b"") -> None:
        """Replies to a publish."""
        self.publish(command.reply.decode(), *payloads, block=block)

    def tls_is_up(self) -> None:
        """The handshake that ``startTLS`` began is complete."""
        self.wire.protocol.handshakeCompleted()

    def hang_up(self, reason: BaseException | None = None) -> None:
        """The end of the connection, seen by the client at once."""
        self.wire.lost(reason if reason is not None else ConnectionDone())

    def cut(self) -> None:
        """The end of the connection as a failure."""
        self.hang_up(ConnectionLost())


class ScriptedServer:
    """A place on the network, and what happens to who comes there.

    :ivar dial: ``"accept"``, ``"refuse"``, or ``"ignore"`` as a black hole does. :ivar latency: seconds until it does.
    :ivar info: what its INFO says; :ivar greeting: the bytes to say instead, at once.
    :ivar answers_pings: whether it does. :ivar refusal: the ``-ERR`` that answers CONNECT; it hangs up then.
    :ivar script: gets each command first; when it returns true there is no other answer.
    :ivar peers: all its connections so far.
    """

    def __init__(self, **info: Any) -> None:
        self.dial = "accept"
        self.latency = 0.0
        self.info = {**INFO, **info}
        self.greeting: bytes | None = None
        self.answers_pings = True
        self.refusal: str | None = None
        self.script: Callable[[Peer, Command], Any] | None = None
        self.peers: list[Peer] = []

    @property
    def peer(self) -> Peer:
        """Its latest connection."""
        return self.peers[-1]

    def accepted(self, peer: Peer) -> None:
        self.peers.append(peer)
        greeting = info_line(**self.info) if self.greeting is None else self.greeting
        if greeting:
            peer.send(greeting)


@implementer(IReactorTime, IReactorPluggableNameResolver)
class Network(Clock):
    """A reactor: virtual time, and connections to scripted servers.

    :ivar dials: each attempt to connect: when, and where to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.servers: dict[tuple[str, int], ScriptedServer] = {}
        self.dials: list[tuple[float, str]] = []
        self.nameResolver = _Names()

    def server(self, host: str = "one", port: int = 4222, **info: Any) -> ScriptedServer:
        """Put a server there."""
        self.servers[host, port] = server = ScriptedServer(**info)
        return server

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float | None = 30, bindAddress: Any = None) -> MemoryConnector:  # noqa: N802, N803
        connector = MemoryConnector(self, host, port, factory, timeout)
        connector.connect()
        return connector

    def advance(self, amount: float) -> None:
        """Let time pass. Each call finds the time for which it was asked, as under a real reactor."""
        end = self.seconds() + amount
        while self.calls and self.calls[0].getTime() <= end:
            super().advance(max(0.0, self.calls[0].getTime() - self.seconds()))
        super().advance(max(0.0, end - self.seconds()))

    def turn(self) -> None:
        """Let everything happen that is due now."""
        self.advance(0)


@implementer(IHostnameResolver)
class _Names:
    """Every name is its own address."""

    def resolveHostName(self, receiver: Any, host: str, portNumber: int = 0, *rest: Any, **more: Any) -> Any:  # noqa: N802, N803
        receiver.resolutionBegan(HostnameAddress(host.encode(), portNumber))
        receiver.addressResolved(IPv4Address("TCP", host, portNumber))
        receiver.resolutionComplete()


def tcp_endpoint(network: Network, server: Any) -> TCP4ClientEndpoint:
    """A plain endpoint: HostnameEndpoint reports a failure 0.3 seconds late."""
    return TCP4ClientEndpoint(network, server.host, server.port)


def info_line(**values: Any) -> bytes:
    return b"INFO " + json.dumps(values).encode() + b" \r\n"


def _frame_size(data: bytes) -> int:
    """Bytes of the first whole frame of a client, or 0 when it has not all come."""
    line, end, _ = data.partition(b"\r\n")
    if not end:
        return 0
    size = len(line) + 2
    if line.startswith((b"PUB ", b"HPUB ")):
        size += int(line.split(b" ")[-1]) + 2
    return size if len(data) >= size else 0
