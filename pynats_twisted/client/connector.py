"""From the pool's next server to a connection: the connector that makes ReconnectingClientFactory work with endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ..errors import ConfigurationError, ConnectTimeoutError, TransportError
from .tls import connection_creator

if TYPE_CHECKING:
    from ..protocol.options import ClientOptions
    from ..protocol.servers import Server
    from .factory import NatsClientFactory


def endpoint_for(reactor: Any, options: ClientOptions, server: Server) -> Any:
    """The endpoint that leads to a server: the user's own, a UNIX socket, or a name with all its addresses; TLS where it comes first."""
    if options.endpoint_factory is not None:
        endpoint = options.endpoint_factory(reactor, server)
    elif server.scheme == "unix":
        endpoint = UNIXClientEndpoint(reactor, server.path, timeout=options.connect_timeout)
    elif server.websocket:
        raise ConfigurationError(f"{server.url}: this version does not speak WebSocket; use nats:// or tls://")
    else:
        # Only names need the resolver, which is a thread.
        kind = TCP4ClientEndpoint if isIPAddress(server.host) else TCP6ClientEndpoint if isIPv6Address(server.host) else HostnameEndpoint
        endpoint = kind(reactor, server.host, server.port, timeout=options.connect_timeout)
    if options.tls_first:
        endpoint = wrapClientTLS(connection_creator(options, server), endpoint)
    return endpoint


class _ConnectionFactory(Factory):
    """Builds the protocol of one attempt."""

    noisy = False

    def __init__(self, connector: NatsConnector, deadline: float) -> None:
        self._connector = connector
        self._deadline = deadline

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        protocol = self._connector.factory.buildProtocol(addr)
        protocol.handshake_deadline = self._deadline
        protocol.on_end = self._connector.connection_lost
        return protocol


class SingleConnectionFactory(Factory):
    """Builds the one protocol that it was given."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol_to_give = protocol

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return self._protocol_to_give


@implementer(IConnector)
class NatsConnector:
    """Connects to the pool's next server each time :meth:`connect` is called, and tells the factory how it went.

    :ivar factory: the :class:`NatsClientFactory` that is told.
    """

    def __init__(self, reactor: Any, factory: NatsClientFactory) -> None:
        self._reactor = reactor
        self.factory = factory
        self._attempt: Deferred[Any] | None = None
        self._server: Server | None = None

    def connect(self) -> None:
        """Begin an attempt at the server that the pool gives."""
        core = self.factory.core
        self._server = server = core.select_server()
        self.factory.startedConnecting(self)
        options = core.options
        timeout = options.connect_timeout
        try:
            endpoint = endpoint_for(self._reactor, options, server)
            attempt = endpoint.connect(_ConnectionFactory(self, self._reactor.seconds() + timeout))
        except Exception:  # noqa: BLE001 - the user's code may raise anything; it is the reason why this attempt failed
            self.factory.clientConnectionFailed(self, Failure())
            return
        self._attempt = attempt

        def on_timeout(result: Any, seconds: float) -> Any:
            raise ConnectTimeoutError(f"{server.url} took no connection within {seconds:g} s")

        attempt.addTimeout(timeout, self._reactor, on_timeout)
        attempt.addCallbacks(self._connected, self._failed)

    def _connected(self, _: Any) -> None:
        self._attempt = None

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        self.factory.clientConnectionFailed(self, failure)

    def connection_lost(self, reason: Failure) -> None:
        """A connection that was made has ended."""
        self.factory.clientConnectionLost(self, reason)

    def stopConnecting(self) -> None:
        """Give up the attempt that is under way."""
        if self._attempt is not None:
            self._attempt.cancel()

    def disconnect(self) -> None:
        """End the attempt or the connection."""
        if self._attempt is not None:
            self._attempt.cancel()
        elif self.factory.protocol_in_use is not None:
            self.factory.protocol_in_use.close()

    def getDestination(self) -> Any:
        """The server of the attempt or connection of now."""
        return self._server


def transport_error(server: Server | None, failure: Failure) -> BaseException:
    """The error for an attempt that never became a connection."""
    from ..errors import NatsError
    from .tls import tls_error

    value = failure.value
    if isinstance(value, NatsError):
        return value
    told = tls_error(failure)
    if told is not None:
        return told
    error = TransportError(f"{server.url if server is not None else 'the server'} cannot be reached: {value}")
    error.__cause__ = value
    return error
