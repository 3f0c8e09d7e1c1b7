"""The public testing kit for the client's own tests: servers without timers, bytes that come at once, and TLS that is none."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IConnector, IProtocol, ISSLTransport, ITLSTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import directlyProvides, providedBy

from pynats_twisted.protocol.subjects import matches
from pynats_twisted.testing import InMemoryServer, MemoryNetwork
from pynats_twisted.testing.memory_server import ServerProtocol
from pynats_twisted.testing.memory_transport import MemoryTransport
from pynats_twisted.testing.server_frames import (
    BrokenFrame,
    Frame,
    OtherFrame,
    PublishFrame,
    SubscribeFrame,
)
from pynats_twisted.testing.server_session import ServerSession

from ..protocol.wire import NotACommandError, hmsg, msg

INFO: dict[str, Any] = {"server_id": "S", "version": "2.12.1", "proto": 1, "headers": True, "max_payload": 1048576}
# What the server takes is more than it says: the client has to keep to what it says.
_MAX_PAYLOAD = 64 * 1024 * 1024
F = TypeVar("F", bound=Frame)

NO_RESPONDERS = b"NATS/1.0 503\r\n\r\n"


class Peer:
    """The server's end of one connection.

    :ivar wire: the client's transport. :ivar frames: what the client sent so far.
    """

    def __init__(self, server: QuietServer, protocol: ServerProtocol) -> None:
        self.server = server
        self.protocol = protocol
        self.frames: list[Frame] = []

    @property
    def session(self) -> ServerSession:
        assert self.protocol.session is not None
        return self.protocol.session

    @property
    def wire(self) -> MemoryTransport:
        transport: Any = self.protocol.transport
        return transport.peer  # type: ignore[no-any-return]

    # --- from the client ---

    @property
    def stalled(self) -> bool:
        """The server reads nothing."""
        return not self.wire.peer.reading

    @stalled.setter
    def stalled(self, stalled: bool) -> None:
        if stalled:
            self.wire.peer.pauseProducing()
        else:
            self.wire.peer.resumeProducing()

    def take(self, kind: type[F] = Frame) -> list[F]:  # type: ignore[assignment]
        """The frames since the last call, of one kind or all; the others are forgotten."""
        frames, self.frames = self.frames, []
        return [frame for frame in frames if isinstance(frame, kind)]

    def kinds(self) -> list[type[Frame]]:
        """The kinds of all frames so far."""
        return [type(frame) for frame in self.frames]

    def written(self) -> list[bytes]:
        """The payloads of all publishes so far."""
        return [frame.payload for frame in self.frames if isinstance(frame, PublishFrame)]

    def subscribed(self) -> list[str]:
        """The subjects of all SUBs so far."""
        return [frame.subject for frame in self.frames if isinstance(frame, SubscribeFrame)]

    # --- to the client ---

    def send(self, data: bytes) -> None:
        """Bytes, in one read, at once."""
        self.session.send(data)
        self.wire.peer.flush()

    def info(self, **changes: Any) -> None:
        """An INFO that comes later."""
        self.send(self.server.info_line(self.session, **changes))

    def error(self, text: str) -> None:
        """An ``-ERR``."""
        self.send(b"-ERR '%b'\r\n" % text.encode())

    def frame(self, subject: str, payload: bytes = b"", reply: str = "", block: bytes = b"") -> bytes:
        """The bytes of a message, for each subscription that matches."""
        found = [int(sid) for sid, sub in self.session.subscriptions.items() if matches(sub.subject, subject)]
        names = (subject.encode(), reply.encode())
        if block:
            return b"".join(hmsg(names[0], sid, block, payload, names[1]) for sid in found)
        return b"".join(msg(names[0], sid, payload, names[1]) for sid in found)

    def publish(self, subject: str, *payloads: bytes, reply: str = "", block: bytes = b"") -> None:
        """Messages, in one read, to each subscription that matches; more than it has asked for, if the test wants that."""
        self.send(b"".join(self.frame(subject, payload, reply, block) for payload in payloads or (b"",)))

    def answer(self, frame: PublishFrame, *payloads: bytes, block: bytes = b"") -> None:
        """Replies to a publish."""
        self.publish(frame.reply, *payloads, block=block)

    def hang_up(self, reason: BaseException | None = None) -> None:
        """The end of the connection, seen by the client at once."""
        self.wire.cut(reason if reason is not None else ConnectionDone())

    def cut(self, arriving: int = 0) -> None:
        """The end of the connection as a failure; of what is under way to the server, so many bytes arrive before."""
        if arriving and self.wire.unsent:
            self.wire.cut_after = min(arriving, self.wire.unsent)
            self.stalled = False
            self.wire.flush()
        self.wire.cut()


class QuietServer(InMemoryServer):
    """A server without timers: nothing happens that the test does not do, and a publish without a receiver is not answered either.

    :ivar peers: all its connections so far.
    """

    def __init__(self, **info: Any) -> None:
        super().__init__(max_payload=_MAX_PAYLOAD)
        self.info = {**INFO, **info}
        self.peers: list[Peer] = []
        self.respond(">", lambda frame: None)

    @property
    def peer(self) -> Peer:
        """Its latest connection."""
        return self.peers[-1]

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        protocol = super().buildProtocol(addr)
        assert isinstance(protocol, ServerProtocol)
        self.peers.append(Peer(self, protocol))
        return protocol

    def record(self, frame: Frame) -> None:
        if isinstance(frame, (BrokenFrame, OtherFrame)):
            raise NotACommandError(f"a client does not send {frame!r}")
        super().record(frame)
        self.peers[frame.client_id - 1].frames.append(frame)


class TLSTransport(ProtocolWrapper):
    """A client's transport where TLS can be started, and nothing is encrypted.

    :ivar creators: what ``startTLS`` was called with.
    """

    def __init__(self, factory: Any, protocol: Any, encrypted: bool) -> None:
        super().__init__(factory, protocol)
        self._interface = ISSLTransport if encrypted else ITLSTransport
        self.creators: list[Any] = []

    def connectionMade(self) -> None:
        directlyProvides(self, self._interface, providedBy(self))
        super().connectionMade()

    def startTLS(self, creator: Any) -> None:  # noqa: N802
        self.creators.append(creator)
        directlyProvides(self, ISSLTransport, providedBy(self))


class Network(MemoryNetwork):
    """A network with quiet servers.

    :ivar tls: ``"none"``, or what the transports of clients are: ``"possible"``, where it can be started, or ``"first"``.
    """

    tls = "none"

    def server(self, address: str = "one:4222", **info: Any) -> QuietServer:
        """Put a server there."""
        server = self.servers[address] = QuietServer(**info)
        self.listen(address, server)
        return server

    def connectTCP(self, host: str, port: int, factory: Any, *rest: Any, **more: Any) -> IConnector:  # noqa: N802
        if self.tls != "none":
            factory = WrappingFactory(factory)
            encrypted = self.tls == "first"
            factory.protocol = lambda factory, protocol: TLSTransport(factory, protocol, encrypted)
        return super().connectTCP(host, port, factory, *rest, **more)


def tcp_endpoint(network: Network, server: Any) -> TCP4ClientEndpoint:
    """A plain endpoint: HostnameEndpoint reports a failure 0.3 seconds late."""
    return TCP4ClientEndpoint(network, server.host, server.port)


def info_line(**values: Any) -> bytes:
    return b"INFO " + json.dumps(values).encode() + b" \r\n"
