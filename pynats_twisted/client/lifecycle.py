"""What happens to a client: connections come, go and are replaced, and in the end it is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..errors import ConnectionClosedError, DisconnectedError, NatsError
from ..protocol.connection import ConnectionProtocol
from ..protocol.events import Closed as ConnectionEnd
from ..protocol.options import ClientOptions
from ..protocol.state import ConnectionState
from .listeners import Listeners
from .migration import Migration
from .outbound import Outbound
from .status import (
    ClientStats,
    ClientStatus,
    Closed,
    Connected,
    ConnectFailed,
    Disconnected,
    DiscoveredServers,
    LameDuck,
    PublishDropped,
    Reconnected,
    ServerErrorEvent,
)
from .waiting import OneShot, Waiters

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, ITransport

    from ..protocol.info import ServerInfo
    from ..protocol.twin import SubscriptionRecord
    from .connection import NatsProtocol
    from .factory import NatsClientFactory
    from .requests import Requests
    from .subscriptions import ClientSubscriptions

# Listeners get all errors; the log gets these many, so that a storm of denied publishes does not fill it.
_LOGGED_ERRORS = 100


class ClientLifecycle:
    """The part of a client that its factory and its connections talk to. What users call is in :class:`NatsClient`.

    :ivar counters: the counters of now; users get a copy.
    :ivar events: who is told of what happens.
    """

    _log = Logger()
    _subscriptions: ClientSubscriptions
    _requests: Requests
    _factory: NatsClientFactory

    def __init__(self, reactor: Any, options: ClientOptions | None) -> None:
        self.reactor = reactor
        self.core = ConnectionProtocol(options)
        self.options: ClientOptions = self.core.options
        self.outbound = Outbound(reactor, self.options, self.core.encoder)
        self.counters = ClientStats()
        self.events = Listeners(reactor, self.counters)
        self.closed_on_purpose = False
        self._status = ClientStatus.DISCONNECTED
        self._protocol: NatsProtocol | None = None
        self._connected = Waiters[Any]()
        self._closed = OneShot()
        self._close_error: NatsError | None = None
        self._ending = False
        self._end_call: IDelayedCall | None = None
        self._leaving = False
        self._was_connected = False
        self._drain: Waiters[None] | None = None
        self._migration: Migration | None = None
        self._is_lame_duck = False

    @property
    def is_connected(self) -> bool:
        """A connection is up, and is not being left."""
        return self._protocol is not None and not self._leaving and self.core.state is ConnectionState.CONNECTED

    @property
    def connected_url(self) -> str | None:
        """The server that the client is connected to, without credentials; None while it is not."""
        server = self.core.current_server
        return server.url if self._protocol is not None and server is not None else None

    def _take_counters(self) -> None:
        """Move what the connection of now has counted here."""
        protocol = self._protocol
        if protocol is not None:
            self.counters.in_msgs += protocol.messages
            self.counters.in_bytes += protocol.bytes_received
            protocol.messages = protocol.bytes_received = 0
        self.counters.out_msgs = self.outbound.accepted
        self.counters.out_bytes = self.outbound.accepted_bytes

    # --- ending ----------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        assert self._protocol is not None
        self._leaving = True
        self.outbound.detach()
        self._protocol.leave()

    def _is_between_servers(self) -> bool:
        """The old server of a move has been told to send no more, and the new one does not serve yet."""
        return self._migration is not None and self._leaving

    def _migration_over(self) -> Deferred[None]:
        assert self._migration is not None
        return self._migration.when_over()

    def _stop_migration(self) -> None:
        migration, self._migration = self._migration, None
        if migration is not None:
            migration.cancel()

    def _end(self, error: NatsError | None) -> None:
        self._ending = True
        self._stop_migration()
        self._close_error = self._close_error or error
        closed = self.outbound.refusal = self._closed_error()
        # Handlers get nothing more from here on, whatever the connection still brings.
        self._subscriptions.closed(closed)
        self._factory.stopTrying()
        protocol = self._protocol or self._factory.protocol_in_use
        if protocol is not None:
            protocol.close()
        elif self._end_call is None:
            # Never from inside the caller's stack.
            self._end_call = self.reactor.callLater(0, self._finish)

    def _finish(self) -> None:
        if self._status is ClientStatus.CLOSED:
            return
        if self._end_call is not None and self._end_call.active():
            self._end_call.cancel()
        self._ending = True
        self._status = ClientStatus.CLOSED
        error = self._closed_error()
        self.outbound.refusal = error
        undelivered = self.outbound.close(error)
        self._requests.closed(error)
        self._subscriptions.closed(error)
        self._connected.fail(error)
        self.events.emit(Closed(self._close_error, undelivered))
        self.events.flush()
        self._closed.happen()

    def _closed_error(self) -> NatsError:
        if self._close_error is None:
            return ConnectionClosedError("the client is closed")
        if not self._was_connected:
            return self._close_error
        error = ConnectionClosedError(f"the client is closed: {self._close_error}")
        error.__cause__ = self._close_error
        return error

    # --- what the factory tells ------------------------------------------------------------------------------

    def _connecting(self) -> None:
        if self._status is ClientStatus.DISCONNECTED:
            self._status = ClientStatus.CONNECTING

    def _looking(self) -> None:
        if self._was_connected:
            self._status = ClientStatus.RECONNECTING

    def _attempt_failed(self, error: BaseException) -> None:
        if self._ending:
            if self._protocol is None and self._status is not ClientStatus.CLOSED and self._end_call is None:
                self._end_call = self.reactor.callLater(0, self._finish)
            return
        server = self.core.current_server
        self.events.emit(ConnectFailed(server.url if server is not None else "", error))

    def _gave_up(self, error: NatsError | None) -> None:
        self._close_error = self._close_error or error
        if self._was_connected or self.options.retry_on_failed_connect:
            # At the first connection the caller of start() is told.
            self._log.error("The client gave up connecting: {error}", error=self._close_error)
        self._finish()

    # --- what the connection tells (ConnectionListener) ------------------------------------------------------

    def connection_made(self, protocol: NatsProtocol) -> None:
        """The handshake is complete: renew the subscriptions, then send what waited."""
        self._factory.established()
        self._protocol = protocol
        self._leaving = self._is_lame_duck = False
        transport: ITransport = protocol.transport  # type: ignore[assignment]
        lines = self.core.resubscribe()
        if lines:
            transport.write(lines)
        refused = self.outbound.attach(transport, self.core.encoder)
        if self._was_connected:
            self.counters.reconnects += 1
        self._tell_connected(refused)

    def _tell_connected(self, refused: list[tuple[str, NatsError]]) -> None:
        self._status = ClientStatus.CONNECTED
        url = self.connected_url or ""
        self.events.emit(Reconnected(url) if self._was_connected else Connected(url))
        self._was_connected = True
        for subject, error in refused:
            self.events.emit(PublishDropped(subject, error))
        self._tell_discovered()
        self._subscriptions.connected()
        self._connected.fire(self)

    def connection_ended(self, protocol: NatsProtocol, closed: ConnectionEnd) -> None:
        """The transport is gone."""
        if protocol is not self._protocol:
            if self._ending:
                self._finish()
            else:
                self._attempt_failed(
                    closed.error or DisconnectedError("the server closed the connection before the handshake was complete")
                )
            return
        if self._migration is not None and self._migration.take_over(closed, protocol.unconfirmed):
            return
        self._stop_migration()
        unconfirmed = protocol.unconfirmed
        url = self.connected_url or ""
        self._take_counters()
        self._protocol = None
        self.outbound.detach()
        self.events.emit(Disconnected(url, closed.error, unconfirmed))
        draining = self._drain is not None
        if self._ending or draining or not self.options.allow_reconnect:
            if not self._ending:
                lost = DisconnectedError(
                    f"the connection was lost{' while draining' if draining else ''}: {closed.error or 'no reason was given'}"
                )
                lost.__cause__ = closed.error
                self._close_error = self._close_error or lost
                self._factory.stopTrying()
            self._finish()
            return
        self._status = ClientStatus.RECONNECTING
        self._subscriptions.disconnected()
        self._requests.disconnected()

    def info_received(self, protocol: NatsProtocol, info: ServerInfo) -> None:
        """An INFO came after the handshake."""
        self._tell_discovered()
        if protocol is not self._protocol:
            return
        # Told once each time that the server goes into it, however often its INFO comes.
        begins, self._is_lame_duck = info.ldm and not self._is_lame_duck, info.ldm
        if begins and not self._leaving:
            self._lame_duck(protocol)

    def _tell_discovered(self) -> None:
        discovered = self.core.servers_discovered()
        if discovered:
            self.events.emit(DiscoveredServers(tuple(server.url for server in discovered)))

    def _lame_duck(self, protocol: NatsProtocol) -> None:
        self.events.emit(LameDuck(self.connected_url or ""))
        options = self.options
        others = [server for server in self.core.pool.servers if server is not self.core.current_server]
        if options.leave_on_lame_duck and options.allow_reconnect and others and self._drain is None and self._migration is None:
            self._migrate(protocol)

    def _migrate(self, protocol: NatsProtocol) -> None:
        self._migration = Migration(self, protocol)
        self._migration.begin()

    def hold_outbound(self) -> None:
        """Keep what is published for the next connection. Only for a migration."""
        self._leaving = True
        self.outbound.detach()

    def migrated(self, protocol: NatsProtocol, error: BaseException | None = None, unconfirmed: int = 0) -> None:
        """Serve by another connection from now on. Only for a migration.

        :param error: why the old connection ended before its time, if it did.
        :param unconfirmed: publishes of which the old connection did not say that the server has them.
        """
        old, url = self._protocol, self.connected_url or ""
        assert old is not None
        self._take_counters()
        on_end = old.on_end or self._factory.connection_lost
        old.retire()
        self._migration = None
        self.core = protocol.core
        self._protocol = self._factory.protocol_in_use = protocol
        protocol.adopt(self.outbound, self, on_end)
        self._leaving = self._is_lame_duck = False
        self.counters.reconnects += 1
        self.events.emit(Disconnected(url, error, unconfirmed))
        refused = self.outbound.attach(protocol.transport, protocol.core.encoder)  # type: ignore[arg-type]
        self._tell_connected(refused)

    def error_received(self, protocol: NatsProtocol, error: NatsError) -> None:
        """The server reported an error, or broke the protocol. Where it is about a call, that call is told as well."""
        self.counters.server_errors += 1
        if not (self._subscriptions.denied(error) or self._requests.denied(error)) and self.counters.server_errors <= _LOGGED_ERRORS:
            self._log.warn("The server {url} reported: {error!r}", url=str(self.core.current_server), error=error)
        self.events.emit(ServerErrorEvent(error))

    def subscription_ended(self, protocol: NatsProtocol, record: SubscriptionRecord) -> None:
        """A subscription got the last message of its limit."""
        self._subscriptions.unsubscribed(record)

    def pause_reading(self) -> None:
        """Stop reading from the server. Only for the subscriptions' overflow policy."""
        if self._protocol is not None:
            self._protocol.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._protocol is not None:
            self._protocol.resume_reading()
