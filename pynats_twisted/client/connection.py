"""One connection to a server: bytes to the sans-IO core, events out, TLS, and the timers of one connection's life."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IHandshakeListener,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
    ITLSTransport,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..errors import ConnectionClosedError, ConnectTimeoutError, DisconnectedError, NatsError, StaleConnectionError
from ..protocol.connection import ConnectionProtocol
from ..protocol.events import Closed, CloseReason, Event, EventType
from ..protocol.state import ConnectionState
from ..protocol.twin import Msg, hand_out
from .connection_listener import RETIRED, ConnectionListener
from .outbound import Outbound
from .pings import Pings
from .tls import connection_creator, tls_error

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from ..protocol.options import ClientOptions

_ABORT_AFTER = 1.0

_PHASES = {
    ConnectionState.WAITING_FOR_SERVER_INFO: "no INFO came",
    ConnectionState.WAITING_FOR_TLS_UPGRADE: "the TLS handshake did not end",
    ConnectionState.WAITING_FOR_CLIENT_CONNECT: "CONNECT was not sent",
    ConnectionState.WAITING_FOR_SERVER_PONG: "CONNECT was not answered",
}


@implementer(IPushProducer, IHandshakeListener)
class NatsProtocol(Protocol):
    """One connection to a NATS server. It knows nothing of reconnecting.

    Made by :class:`~pynats_twisted.client.NatsClientFactory`, it serves a client. It can be used alone as well, over any
    transport (``connectProtocol(endpoint, NatsProtocol(reactor, options))``): then :meth:`when_established` says when
    the handshake is complete, :meth:`publish`, :meth:`subscribe` and :meth:`ping` talk to the server, and a subclass may
    override :meth:`message_received` and :meth:`error_received`.

    :param reactor: for the timers.
    :param options: see :class:`~pynats_twisted.ClientOptions`.
    :param core: the state machine; one that lives through reconnects, or None for one of its own.
    :param outbound: the buffer of what is sent, likewise.
    :param listener: who is told what happens.
    :ivar messages: messages that came; :ivar bytes_received: bytes of their payloads.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        options: ClientOptions | None = None,
        *,
        core: ConnectionProtocol | None = None,
        outbound: Outbound | None = None,
        listener: ConnectionListener | None = None,
    ) -> None:
        self._reactor = reactor
        self.core = core if core is not None else ConnectionProtocol(options)
        self._options = self.core.options
        self.outbound = outbound if outbound is not None else Outbound(reactor, self._options, self.core.encoder)
        self._listener = listener
        # What waits in the buffer was not handed to this connection yet, and no PONG of its handshake can confirm it.
        self._pings = Pings(self.outbound.handed_over)
        self._timer: IDelayedCall | None = None
        self._handshake_timer: IDelayedCall | None = None
        self._stable_timer: IDelayedCall | None = None
        self._abort_timer: IDelayedCall | None = None
        self._closing = False
        self._ended = False
        self._producing = False
        self._reading_paused = False
        self._end_error: BaseException | None = None
        self._established: list[Deferred[NatsProtocol]] = []
        self.handshake_deadline: float | None = None
        self.on_end: Callable[[Failure], None] | None = None
        self.messages = 0
        self.bytes_received = 0

    def logPrefix(self) -> str:
        """What Twisted's log calls this."""
        return "NATS"

    # --- the transport ---------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """The transport is there; the server speaks first."""
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        if self.core.state in (ConnectionState.WAITING_FOR_SERVER_SELECTION, ConnectionState.CLOSED):
            self.core.select_server()
        if self._closing:
            # It was closed between being built and being connected.
            self._abort()
            return
        deadline = self.handshake_deadline
        left = self._options.connect_timeout if deadline is None else max(0.0, deadline - self._reactor.seconds())
        self._handshake_timer = self._reactor.callLater(left, self._handshake_timed_out)
        if ISSLTransport.providedBy(transport):
            self.core.tls_established()

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the server."""
        core = self.core
        if self._ended or core.state is ConnectionState.CLOSED:
            return
        core.receive_data_from_server(data)
        out = core.data_to_send()
        if out:
            self.transport.write(out)  # type: ignore[union-attr]
        self.dispatch()

    def dispatch(self) -> None:
        """Hand out the core's events. What is published meanwhile is written as one."""
        core = self.core
        outbound = self.outbound
        outbound.cork()
        try:
            messages, size = hand_out(core.events_received(), self._other)
            self.messages += messages
            self.bytes_received += size
        finally:
            outbound.uncork()

    def _other(self, event: Event | Msg) -> None:
        if isinstance(event, Msg):
            self._guarded(self.message_received, event)
        else:
            self._handle(event)

    def _handle(self, event: Event) -> None:
        if self._ended:
            # It ended by what was done with an event before this one.
            return
        match event.type:
            case EventType.PONG:
                self._pings.answered()
            case EventType.ERROR:
                self._guarded(self.error_received, event.body)
            case EventType.INFO:
                if self._listener is not None:
                    self._listener.info_received(self, event.body)
            case EventType.UNSUBSCRIBED:
                if self._listener is not None:
                    self._listener.subscription_ended(self, event.body)
            case EventType.CONNECT_REQUEST:
                self._connect_requested()
            case EventType.CONNECTED:
                self._handshake_complete()
            case EventType.CLOSED:
                # The peer broke the protocol: nothing that it says from now on means anything.
                self._end_error = event.body.error
                self._abort()

    def _guarded(self, method: Callable[[Any], None], argument: Any) -> None:
        # A subclass may have its own: what that raises must not cost the connection.
        try:
            method(argument)
        except Exception:  # noqa: BLE001 - the user's code; it is logged
            self._log.failure("{method} failed on {argument!r}", method=method.__qualname__, argument=argument)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone."""
        if self._ended:
            return
        self._ended = True
        for timer in (self._timer, self._handshake_timer, self._stable_timer, self._abort_timer):
            if timer is not None and timer.active():
                timer.cancel()
        error = self._end_error or tls_error(reason)
        if error is None and not reason.check(ConnectionDone):
            error = reason.value
        core = self.core
        if core.state is not ConnectionState.CLOSED:
            if self._closing:
                core.receive_eof_from_client()
            elif self._end_error is None:
                core.receive_eof_from_server(error)
            else:
                core.receive_eof_from_transport(error)
        closed = Closed(CloseReason.CLIENT if self._closing else CloseReason.SERVER, error)
        for event in core.events_received():
            if isinstance(event, Event) and event.type is EventType.CLOSED and event.body.error is not None:
                closed = event.body
        self._pings.lost(lambda: _disconnected(closed, "the connection was lost before the server answered"))
        waiting, self._established = self._established, []
        for waiter in waiting:
            waiter.errback(_disconnected(closed, "the connection ended before the handshake was complete"))
        if self._listener is not None:
            self._listener.connection_ended(self, closed)
        else:
            self.outbound.close()
        if self.on_end is not None:
            self.on_end(reason)

    # --- the handshake ---------------------------------------------------------------------------------------

    def _connect_requested(self) -> None:
        if self._closing or self.core.state is ConnectionState.CLOSED:
            return
        if self.core.tls_upgrade_due:
            server = self.core.current_server
            assert server is not None
            try:
                creator = connection_creator(self._options, server)
                ITLSTransport(self.transport).startTLS(creator)
            except Exception as error:  # noqa: BLE001 - files, and the user's code; it is the reason why this attempt failed
                self.fail(error)
            return
        self._send_connect()

    def handshakeCompleted(self) -> None:
        """TLS is up."""
        if self.core.state is ConnectionState.WAITING_FOR_TLS_UPGRADE and not self._closing:
            self.core.tls_established()
            self._send_connect()

    def _send_connect(self) -> None:
        try:
            line = self.core.connect()
        except Exception as error:  # noqa: BLE001 - credentials, and the user's code; it is the reason why this attempt failed
            self.fail(error)
            return
        for warning in self.core.authenticator.warnings():
            # A field called "warning" has a meaning of its own in the logs of trial.
            self._log.warn("{text}", text=warning)
        self._pings.sent(None, self._pings.confirmed)
        self._write(line + self.core.ping())

    def _write(self, data: bytes) -> None:
        ITransport(self.transport).write(data)

    def _handshake_timed_out(self) -> None:
        server = self.core.current_server
        phase = _PHASES.get(self.core.state, "the handshake did not end")
        hint = ""
        if self.core.state is ConnectionState.WAITING_FOR_SERVER_INFO and not self.core.encrypted:
            hint = " (a server with TLS first says nothing in the clear: see the option tls_first)"
        self.fail(ConnectTimeoutError(f"{server} did not complete the handshake in {self._options.connect_timeout:g} s: {phase}{hint}"))

    def _handshake_complete(self) -> None:
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
            self._handshake_timer = None
        if self._closing or self.core.state is ConnectionState.CLOSED:
            # Garbage may stand behind the PONG, in the same read.
            return
        self._stable_timer = self._reactor.callLater(self._options.reconnect_stable_after, self._stable)
        self._timer = self._reactor.callLater(self._options.ping_interval, self._ping_due)
        IConsumer(self.transport).registerProducer(self, True)
        self._producing = True
        listener = self._listener
        if listener is not None:
            listener.connection_made(self)
        else:
            self.outbound.attach(ITransport(self.transport))
        waiting, self._established = self._established, []
        for waiter in waiting:
            waiter.callback(self)

    def _stable(self) -> None:
        self._stable_timer = None
        self.core.connection_is_stable()

    # --- pings -----------------------------------------------------------------------------------------------

    def ping(self) -> Deferred[None]:
        """PING behind everything that was published so far. Fires at its PONG: the server has got all that.

        :raises DisconnectedError: the connection ended before.
        """
        if self.core.state is not ConnectionState.CONNECTED:
            return fail(DisconnectedError("there is no connection to a server"))
        waiter: Deferred[None] = Deferred()
        self._send_ping(waiter)
        return waiter

    def ping_past_outbound(self, lines: bytes) -> Deferred[None]:
        """Write ``lines`` and a PING at once, while the outbound buffer is held for another connection."""
        waiter: Deferred[None] = Deferred()
        self._pings.sent(waiter, self.outbound.accepted)
        self._write(lines + self.core.ping())
        return waiter

    def adopt(self, outbound: Outbound, listener: ConnectionListener, on_end: Callable[[Failure], None] | None) -> None:
        """Serve a client from now on. Everything that it published so far was confirmed elsewhere."""
        self.outbound.close()
        self.outbound = outbound
        self._listener = listener
        self.on_end = on_end
        self._pings.restart(outbound.handed_over)

    def retire(self) -> None:
        """Serve nobody any more, and end."""
        self._listener = RETIRED
        self.on_end = None
        self.outbound = Outbound(self._reactor, self._options, self.core.encoder)
        self.close()

    def _send_ping(self, waiter: Deferred[None] | None) -> None:
        self._pings.sent(waiter, self.outbound.accepted)
        self.outbound.control(self.core.ping())

    def _ping_due(self) -> None:
        options = self._options
        self._timer = None
        if self.core.state is not ConnectionState.CONNECTED:
            # The connection is dead, and its transport about to end.
            return
        if self._pings.silent >= options.max_pings_out:
            self.fail(StaleConnectionError(f"the server left {self._pings.silent} PINGs unanswered"))
            return
        self._timer = self._reactor.callLater(options.ping_interval, self._ping_due)
        self._pings.silent += 1
        self._send_ping(None)

    @property
    def unconfirmed(self) -> int:
        """Publishes that were handed to the transport and that no PONG has confirmed yet."""
        return max(0, self.outbound.handed_over - self._pings.confirmed)

    # --- back-pressure ---------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The transport has enough to write."""
        self.outbound.paused()

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self.outbound.resumed()

    def stopProducing(self) -> None:
        """The transport takes nothing more."""
        self.outbound.paused()

    def pause_reading(self) -> None:
        """Read nothing from the server. It cuts a client that does that for 10 seconds."""
        if not self._reading_paused and not self._ended:
            self._reading_paused = True
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def resume_reading(self) -> None:
        """Read again."""
        if self._reading_paused and not self._ended:
            self._reading_paused = False
            self.transport.resumeProducing()  # type: ignore[union-attr]

    # --- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the connection: what was handed over is written before, for one second at most."""
        if self._ended or self._closing:
            return
        self._closing = True
        if self.transport is None:
            return
        # Nobody asks for more when the producer is gone: what waits goes to the transport at once, however much it is.
        self._stop_producing()
        self.outbound.resumed()
        self._lose()

    def leave(self) -> None:
        """End the connection for another one: as :meth:`close`, but what was not handed over stays in the buffer."""
        if not self._ended and not self._closing:
            self._closing = True
            self._stop_producing()
            self._lose()

    def fail(self, error: BaseException) -> None:
        """End the connection because of an error."""
        if self._ended:
            return
        self._end_error = self._end_error or error
        self._abort()

    def _lose(self) -> None:
        self.resume_reading()
        self._abort_timer = self._reactor.callLater(_ABORT_AFTER, self._abort)
        ITransport(self.transport).loseConnection()

    def _stop_producing(self) -> None:
        # A transport with a producer never ends by itself.
        if self._producing:
            self._producing = False
            IConsumer(self.transport).unregisterProducer()

    def _abort(self) -> None:
        transport: Any = self.transport
        abort = getattr(transport, "abortConnection", None)
        if abort is not None:
            abort()
        else:
            transport.loseConnection()

    # --- alone -----------------------------------------------------------------------------------------------

    def when_established(self) -> Deferred[NatsProtocol]:
        """Fires with the protocol when the handshake is complete.

        :raises DisconnectedError: the connection ended before; ``__cause__`` says why.
        """
        waiter: Deferred[NatsProtocol] = Deferred(self._established.remove)
        if self.core.state is ConnectionState.CONNECTED:
            return _fired(self)
        if self._ended:
            return fail(DisconnectedError("the connection has ended"))
        self._established.append(waiter)
        return waiter

    def publish(self, subject: str, payload: bytes = b"", reply: str | None = None, headers: Any = None) -> Any:
        """Publish; as :meth:`NatsClient.publish`. Before the handshake is complete it is buffered.

        :raises ConnectionClosedError: the connection has ended, or was closed.
        """
        if self._ended or self._closing:
            raise ConnectionClosedError("the connection has ended")
        return self.outbound.publish(subject, payload, reply, headers)

    def subscribe(self, subject: str, queue: str = "") -> int:
        """Subscribe; messages come to :meth:`message_received`. Returns the subscription's id.

        :raises ConnectionStateError: the handshake is not complete, or the connection has ended.
        """
        sid = self.core.new_sid()
        self.outbound.control(self.core.subscribe(subject, queue, sid))
        return sid

    def unsubscribe(self, sid: int, limit: int = 0) -> None:
        """End a subscription, at once or after ``limit`` messages."""
        self.outbound.control(self.core.unsubscribe(sid, limit))

    def message_received(self, msg: Msg) -> None:
        """A message for a subscription that this protocol itself made. Override it."""

    def error_received(self, error: NatsError) -> None:
        """The server reported an error, or broke the protocol."""
        if self._listener is not None:
            self._listener.error_received(self, error)
        else:
            self._log.warn("The server reported: {error!r}", error=error)


def _fired(protocol: NatsProtocol) -> Deferred[NatsProtocol]:
    waiter: Deferred[NatsProtocol] = Deferred()
    waiter.callback(protocol)
    return waiter


def _disconnected(closed: Closed, text: str) -> NatsError:
    error = DisconnectedError(text if closed.error is None else f"{text}: {closed.error}")
    error.__cause__ = closed.error
    return error
