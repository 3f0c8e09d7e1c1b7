"""The server in memory behind a transport: one in memory, or a real socket."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from .server_core import ServerCore
from .server_session import ServerSession


@implementer(IProtocolFactory)
class InMemoryServer(ServerCore):
    """A NATS server for tests, without a process: core NATS, no JetStream and no TLS.

    It says and does what nats-server does: one suite of behaviour is run against both. A
    :class:`~pynats_twisted.testing.MemoryNetwork` makes it, names it, and connects clients to it in virtual time. As an
    ``IProtocolFactory`` it listens on a real port as well::

        server = InMemoryServer(reactor)
        port = reactor.listenTCP(0, server, interface="127.0.0.1")

    The parameters are those of :class:`~.server_core.ServerCore`; the options are those of
    :class:`~.server_core.MemoryServerOptions`.

    :ivar protocols: the connections' protocols.
    """

    def __init__(self, clock: Any = None, **options: Any) -> None:
        super().__init__(clock, **options)
        self.protocols: list[ServerProtocol] = []
        self.paused = False

    def pause(self) -> None:
        """Freeze: connections are accepted and stay open, nothing is read and nothing is said, until :meth:`resume`."""
        self.paused = True
        for protocol in list(self.protocols):
            protocol.pause()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self.paused = False
        for protocol in list(self.protocols):
            protocol.resume()

    # --- what Twisted calls ----------------------------------------------------------------------------------

    def doStart(self) -> None:
        """A port listens with this factory."""

    def doStop(self) -> None:
        """A port does no longer."""

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        """The protocol of a new connection; None, which closes it, while the server is stopped."""
        if not self.accepting:
            return None
        protocol = ServerProtocol(self, getattr(addr, "host", "127.0.0.1"))
        self.protocols.append(protocol)
        return protocol


@implementer(IPushProducer)
class ServerProtocol(Protocol):
    """One client's connection."""

    def __init__(self, server: InMemoryServer, client_ip: str) -> None:
        self._server = server
        self._client_ip = client_ip
        self.session: ServerSession | None = None
        self._full = False
        self._held = b""
        self._lost = False

    def connectionMade(self) -> None:
        """The transport is there."""
        self._transport.registerProducer(self, True)
        if self._server.paused:
            self._transport.pauseProducing()
        else:
            self._begin()

    def _begin(self) -> None:
        self.session = session = self._server.new_session(self._client_ip)
        session.wake = self._write
        session.start()

    @property
    def _transport(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.session is not None:
            self.session.receive(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._lost = True
        self._server.protocols.remove(self)
        if self.session is not None:
            self.session.connection_lost()

    # --- out -------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        session = self.session
        if session is None or self._lost:
            return
        if (self._full or self._server.paused) and not session.closing:
            self._held += session.data_to_send()
            if len(self._held) > self._server.settings.max_pending:
                # A slow consumer is cut, without a word.
                self._transport.abortConnection()
            return
        data, self._held = self._held + session.data_to_send(), b""
        if data:
            self._transport.write(data)
        if session.closing:
            self._transport.unregisterProducer()
            self._transport.loseConnection()
            session.wake = None

    def pause(self) -> None:
        """Read nothing and say nothing."""
        self._transport.pauseProducing()

    def resume(self) -> None:
        """Go on."""
        if self._lost:
            return
        self._transport.resumeProducing()
        if self.session is None:
            self._begin()
        else:
            self._write()

    def pauseProducing(self) -> None:
        """The transport has enough to write."""
        self._full = True

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self._full = False
        self._write()

    def stopProducing(self) -> None:
        """The transport takes nothing more."""
        self._full = True
