"""The life of one client: its state, what happens to it, and what it tells of that."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ConnectionClosedError, DisconnectedError, NatsError, OutboundBufferFullError
from ..protocol.connection import ConnectionProtocol
from .calls import Calls
from .engine import Engine
from .inbox import Inbox
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
    StatusEvent,
)
from .subscriptions import Subscriptions

if TYPE_CHECKING:
    from ..protocol.encoder import Payload
    from ..protocol.headers import HeadersLike
    from ..protocol.info import ServerInfo
    from ..protocol.message import Msg
    from ..protocol.options import ClientOptions
    from ..protocol.twin import SubscriptionRecord
    from .sockets import Machine

Listener = Callable[[StatusEvent], Any]

log = logging.getLogger("pynats_twisted.blocking")

# What was published is written when so many bytes have gathered, even inside buffered().
_WRITE_AT = 64 * 1024
# Listeners get all errors; the log gets these many, so that a storm of denied publishes does not fill it.
_LOGGED_ERRORS = 100
_MAX_EVENTS = 10_000
_LINGER = 1.0


class Life:
    """One client's state, and whom its :class:`~.engine.Engine` tells what happens.

    :ivar closed_on_purpose: ``close()`` or ``drain()`` was called.
    :ivar doubtful: publishes that a lost connection took and never confirmed, and that no flush has told of yet.
    :ivar corked: how many ``buffered()`` blocks are open.
    """

    def __init__(self, options: ClientOptions, on_event: Listener | None, machine: Machine) -> None:
        self.options = options
        self.core = ConnectionProtocol(options)
        self.outbound = Outbound(self.core.encoder)
        self.engine = Engine(machine, self.core, self.outbound, self)
        self.calls = Calls(machine, self.engine, self.tell)
        self.stats = ClientStats()
        self.status = ClientStatus.DISCONNECTED
        self.close_error: NatsError | None = None
        self.closed_on_purpose = False
        self.doubtful = 0
        self.corked = 0
        self.inbox = Inbox(options.inbox_prefix, self.respond, self.core.subscriptions.forget)
        self.subscriptions = Subscriptions(self)
        self._was_connected = False
        self._on_event = on_event
        self._events: deque[StatusEvent] = deque()
        self._telling = False

    @property
    def url(self) -> str:
        """The server of now, or the last one."""
        return str(self.core.current_server)

    # --- publishing ------------------------------------------------------------------------------------------

    def publish(self, subject: str, payload: Payload, reply: str | None, headers: HeadersLike | None, until: float | None) -> None:
        """Take a publish and send it as far as that goes; wait for room until that time at most."""
        if self.calls.over:
            raise self.closed_error()
        frame = self.outbound.encode(subject, payload, reply, headers)
        # Before it is sent: a program that publishes now and then must not send to a server that has long gone.
        self.calls.look()
        self._make_room(len(frame), until)
        self.outbound.publish(frame)
        if self.engine.is_up and (not self.corked or self.outbound.pending >= _WRITE_AT):
            self.engine.write()

    def _make_room(self, size: int, until: float | None) -> None:
        outbound, engine, options = self.outbound, self.engine, self.options
        if engine.is_connected:
            limit = options.high_water_bytes

            def is_room() -> bool:
                return not outbound.pending or outbound.pending + size <= limit or not engine.is_connected

            if not is_room() and not self.calls.wait(is_room, until) and not self.calls.over:
                raise OutboundBufferFullError(outbound.pending, size, limit)
        if self.calls.over:
            raise self.closed_error()
        if not engine.is_connected and outbound.pending + size > options.reconnect_buffer_bytes:
            raise OutboundBufferFullError(outbound.pending, size, options.reconnect_buffer_bytes)

    def respond(self, reply: str, payload: Payload, headers: HeadersLike | None) -> None:
        """Publish a reply to a message."""
        with self.calls:
            self.publish(reply, payload, None, headers, self.calls.until(None, self.options.flush_timeout))

    def doubt(self) -> NatsError | None:
        """The error for publishes that may be lost, once."""
        count, self.doubtful = self.doubtful, 0
        if not count:
            return None
        which = "1 publish was" if count == 1 else f"{count} publishes were"
        return DisconnectedError(f"{which} handed to a connection that was lost before the server confirmed that it has got them")

    # --- what the engine tells (Owner) -----------------------------------------------------------------------

    def connected(self, refused: list[tuple[str, NatsError]], warnings: list[str]) -> None:
        """A connection is up."""
        for warning in warnings:
            log.warning("%s", warning)
        if self.status is not ClientStatus.DRAINING:
            self.status = ClientStatus.CONNECTED
        if self._was_connected:
            self.stats.reconnects += 1
        self.emit(Reconnected(self.url) if self._was_connected else Connected(self.url))
        self._was_connected = True
        for subject, error in refused:
            self.emit(PublishDropped(subject, error))
        self._tell_discovered()

    def disconnected(self, url: str, error: BaseException | None, unconfirmed: int) -> None:
        """A connection that was up has ended."""
        self.stats.unconfirmed += unconfirmed
        self.doubtful += unconfirmed
        self.emit(Disconnected(url, error, unconfirmed))
        if not self.options.allow_reconnect:
            lost = DisconnectedError(f"the connection was lost: {error or 'no reason was given'}")
            lost.__cause__ = error
            self.close_error = self.close_error or lost
        elif self.status is not ClientStatus.DRAINING:
            self.status = ClientStatus.RECONNECTING
        if self.options.fail_requests_on_disconnect:
            self.inbox.fail(DisconnectedError("the connection was lost while the request waited for a reply"))

    def attempt_failed(self, url: str, error: BaseException) -> None:
        """An attempt to connect failed."""
        self.emit(ConnectFailed(url, error))

    def delay_failed(self, error: Exception) -> None:
        """The option ``reconnect_delay`` raised, or returned what is no delay."""
        log.warning("reconnect_delay failed, the built-in wait is used: %r", error)

    def gave_up(self, error: NatsError | None) -> None:
        """It will not be connected any more."""
        self.close_error = self.close_error or error
        if self._was_connected or self.options.retry_on_failed_connect:
            # At the first connection the caller of connect() is told.
            log.error("The client gave up connecting: %s", self.close_error)
        self.end()

    def message(self, msg: Msg) -> None:
        """A message came."""
        self.stats.in_msgs += 1
        self.stats.in_bytes += len(msg.data)
        msg.subscription._deliver(msg)

    def info_received(self, info: ServerInfo) -> None:
        """An INFO came after the handshake."""
        self._tell_discovered()
        if info.ldm and not self.engine.is_leaving:
            self.emit(LameDuck(self.url))
            options = self.options
            others = len(self.core.pool.servers) > 1
            if options.leave_on_lame_duck and options.allow_reconnect and others and self.status is ClientStatus.CONNECTED:
                self.engine.leave()

    def error_received(self, error: NatsError) -> None:
        """The server reported an error, or broke the protocol. Where it is about a call, that call is told."""
        self.stats.server_errors += 1
        if not (self.subscriptions.denied(error) or self.inbox.denied(error)) and self.stats.server_errors <= _LOGGED_ERRORS:
            log.warning("The server %s reported: %r", self.url, error)
        self.emit(ServerErrorEvent(error))

    def subscription_ended(self, record: SubscriptionRecord) -> None:
        """A subscription got the last message of its limit."""
        self.subscriptions.unsubscribed(record)

    # --- the end ---------------------------------------------------------------------------------------------

    def end(self, linger: float = _LINGER) -> None:
        """Close for good."""
        if self.calls.over:
            return
        # From here on nobody can begin anything; what was interrupted here is ended by whoever comes next.
        self.calls.over = True
        try:
            self.engine.stop(linger)
        finally:
            self.status = ClientStatus.CLOSED
            error = self.closed_error()
            undelivered = self.outbound.clear()
            if undelivered:
                log.warning("The client was closed with %d publishes that were not sent", undelivered)
            self.inbox.fail(error)
            self.subscriptions.end_all(error)
            self.emit(Closed(self.close_error, undelivered))

    def closed_error(self) -> NatsError:
        """What a call gets that comes too late."""
        if self.close_error is None:
            return ConnectionClosedError("the client is closed")
        if not self._was_connected:
            # The same object each time: without this its traceback would grow with each raise.
            return self.close_error.with_traceback(None)
        error = ConnectionClosedError(f"the client is closed: {self.close_error}")
        error.__cause__ = self.close_error
        return error

    # --- listeners -------------------------------------------------------------------------------------------

    def _tell_discovered(self) -> None:
        discovered = self.core.servers_discovered()
        if discovered:
            self.emit(DiscoveredServers(tuple(server.url for server in discovered)))

    def emit(self, event: StatusEvent) -> None:
        """Tell the listener, soon."""
        if self._on_event is not None and len(self._events) < _MAX_EVENTS:
            self._events.append(event)

    def tell(self) -> None:
        """Tell the listener what happened, now."""
        if not self._events or self._telling or self._on_event is None:
            return
        self._telling = True
        try:
            while self._events:
                event = self._events.popleft()
                try:
                    self._on_event(event)
                except Exception:
                    self.stats.listener_errors += 1
                    log.exception("on_event failed on %r", event)
        finally:
            self._telling = False
