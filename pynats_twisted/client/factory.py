"""Which server is next, when, and when it is over: the connecting side of a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import ReconnectingClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import ConnectionServerPoolEmpty, NatsError, NoServersError
from ..protocol.connection import ConnectionProtocol
from ..protocol.options import ClientOptions
from ..protocol.state import ConnectionState
from .connection import NatsProtocol
from .connector import NatsConnector, transport_error

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from .client import NatsClient


class NatsClientFactory(ReconnectingClientFactory):
    """Makes the connections of one client, one after another, until it is told to stop or no server is left.

    ReconnectingClientFactory gives it its place in Twisted (``reactor.connectTCP(host, port, NatsClientFactory(reactor))``),
    the delayed call and its stopping; which server is next and how long to wait is the pool's decision. Used with
    ``reactor.connectTCP``, the first attempt goes to the address given there, which joins the pool; later ones go where the
    pool says. Names are then resolved as ``connectTCP`` does, and ``tls_first``, UNIX sockets and ``endpoint_factory`` are for
    :func:`~pynats_twisted.connect`.

    :param reactor: for connections and time.
    :param options: see :class:`~pynats_twisted.ClientOptions`.
    :ivar client: the :class:`~pynats_twisted.NatsClient` that its connections serve.
    """

    noisy = False
    clock: Any
    _log = Logger()

    def __init__(self, reactor: Any, options: ClientOptions | None = None, *, client: NatsClient | None = None) -> None:
        from .client import NatsClient

        self.clock = reactor
        self.client = client if client is not None else NatsClient(reactor, options, factory=self)
        self.protocol_in_use: NatsProtocol | None = None
        self._ever_connected = False
        self._callID: IDelayedCall | None = None
        self._gone = False

    @property
    def core(self) -> ConnectionProtocol:
        """The state machine of the connection of now; another one after a move away from a lame duck server."""
        return self.client.core

    def when_connected(self) -> Deferred[NatsClient]:
        """Fires with the client when it is connected; fails with what :func:`~pynats_twisted.connect` fails with."""
        return self.client.when_connected()

    # --- what Twisted calls ----------------------------------------------------------------------------------

    def startedConnecting(self, connector: IConnector) -> None:
        """An attempt has begun."""
        self.connector = connector
        self.client._connecting()
        if not isinstance(connector, NatsConnector) and self.core.state in (
            ConnectionState.WAITING_FOR_SERVER_SELECTION,
            ConnectionState.CLOSED,
        ):
            self._adopt(connector)

    def _adopt(self, connector: IConnector) -> None:
        """Twisted's own connector has a destination of its own: it becomes the pool's first server."""
        destination: Any = connector.getDestination()
        none_given = self.client.options.servers == ClientOptions().servers
        self.core.pool.prefer(destination.host, destination.port, alone=none_given)
        self.core.select_server()

    def buildProtocol(self, addr: IAddress | None) -> NatsProtocol:
        """The protocol for a connection that is being made."""
        protocol = NatsProtocol(self.clock, core=self.core, outbound=self.client.outbound, listener=self.client)
        self.protocol_in_use = protocol
        return protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """An attempt failed before there was a connection."""
        self.connector = connector
        error = transport_error(self.core.current_server, reason)
        if self.core.state is not ConnectionState.CLOSED:
            self.core.receive_eof_from_transport(error)
            self.core.events_received()
        self.protocol_in_use = None
        self.client._attempt_failed(error)
        self.retry()

    def clientConnectionLost(self, connector: IConnector, unused_reason: Failure) -> None:
        """A connection has ended; its protocol has told the client so before."""
        if self.client.is_connected:
            # It was left for another one, which the client moved to before.
            return
        self.connector = connector
        self.protocol_in_use = None
        self.retry()

    def connection_lost(self, reason: Failure) -> None:
        """A connection has ended that no connector made: one that the client moved to."""
        self.clientConnectionLost(self.connector, reason)  # type: ignore[arg-type]

    # --- what is next ----------------------------------------------------------------------------------------

    def retry(self, connector: IConnector | None = None) -> None:
        """Do what comes next: another attempt, now or after the pool's wait, or giving up."""
        if connector is not None:
            self.connector = connector
        if not self.continueTrying or self._gone or self._callID is not None:
            return
        options = self.core.options
        pool = self.core.pool
        if self._ever_connected and not options.allow_reconnect:
            self._give_up(None)
        elif not pool.servers or (not self._ever_connected and not options.retry_on_failed_connect and pool.round_complete):
            self._give_up(NoServersError(pool.reasons))
        else:
            self.client._looking()
            delay = pool.delay_before_next()
            if pool.delay_error is not None:
                self._log.error("reconnect_delay cannot be used: {error!r}; waiting as if it were not given", error=pool.delay_error)
                pool.delay_error = None
            self._callID = self.clock.callLater(delay, self._reconnect)

    def _reconnect(self) -> None:
        self._callID = None
        connector: Any = self.connector
        try:
            if not isinstance(connector, NatsConnector):
                server = self.core.select_server()
                connector.host, connector.port = server.host, server.port
            connector.connect()
        except ConnectionServerPoolEmpty:
            self._give_up(NoServersError(self.core.pool.reasons))

    def retry_now(self) -> None:
        """Skip the wait that is under way."""
        self.core.pool.skip_wait()
        if self._callID is not None:
            self._callID.reset(0)

    def established(self) -> None:
        """A handshake is complete."""
        self._ever_connected = True

    def resetDelay(self) -> None:
        """Nothing: waits start anew when a connection has stayed up for a while, and the pool sees to that."""

    def stopTrying(self) -> None:
        """Begin no attempt any more, and end the one that is under way. A connection that is up is left as it is."""
        self._gone = True
        self.continueTrying = 0
        if self._callID is not None:
            self._callID.cancel()
            self._callID = None
        connector: Any = self.connector
        if isinstance(connector, NatsConnector) or getattr(connector, "state", None) == "connecting":
            connector.stopConnecting()

    def _give_up(self, error: NatsError | None) -> None:
        self.stopTrying()
        self.client._gave_up(error)
