"""One attempt at a server: dialling, TLS, handshake.

It is a generator that never blocks: it yields what it waits for, and whoever runs it waits as long as the call of the moment may.
An attempt that a call did not see to its end goes on with the next call.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigurationError, ConnectTimeoutError, DisconnectedError, NatsError, TransportError
from ..protocol.events import Event, EventType
from ..protocol.state import ConnectionState
from ..protocol.twin import Msg
from .sockets import Address, Channel, Wanted

if TYPE_CHECKING:
    from ..protocol.connection import ConnectionProtocol
    from ..protocol.servers import Server
    from .sockets import Machine

# The next address of a name is tried beside one that has not answered for so many seconds.
_STAGGER = 0.25

_PHASES = {
    ConnectionState.WAITING_FOR_SERVER_INFO: "no INFO came",
    ConnectionState.WAITING_FOR_TLS_UPGRADE: "the TLS handshake did not end",
    ConnectionState.WAITING_FOR_CLIENT_CONNECT: "CONNECT was not sent",
    ConnectionState.WAITING_FOR_SERVER_PONG: "CONNECT was not answered",
}


class Waiting(NamedTuple):
    """What an attempt waits for, and until when."""

    wanted: list[Wanted]
    until: float


class Connection(NamedTuple):
    """What an attempt came to: the channel, and the events behind the handshake."""

    channel: Channel
    events: list[Event | Msg]


Steps = Generator[Waiting, None, Channel]


class Attempt:
    """An attempt at one server, which the core has selected.

    :ivar server: that server.
    :ivar warnings: what the authenticator had to say about how secrets are kept.
    """

    def __init__(self, machine: Machine, core: ConnectionProtocol, server: Server) -> None:
        self.server = server
        self.warnings: list[str] = []
        self._machine = machine
        self._core = core
        self._options = core.options
        self._until = machine.now() + core.options.connect_timeout

    def run(self) -> Generator[Waiting, None, Connection]:
        """The attempt, step by step.

        :raises NatsError: it failed. User code that is called (credentials, ``tls_options``) may raise anything else.
        :raises OSError: the connection broke.
        """
        channel = Channel((yield from self._dial()))
        try:
            if self._options.tls_first:
                channel = yield from self._start_tls(channel)
            while True:
                connection = yield from self._shake_hands(channel)
                if connection is not None:
                    return connection
                channel = yield from self._start_tls(channel)
        except BaseException:
            channel.close()
            raise

    def _wait(self, wanted: list[Wanted], phase: str | None = None, until: float | None = None) -> Generator[Waiting, None, None]:
        if self._machine.now() >= self._until:
            hint = ""
            if phase is None and self._core.state is ConnectionState.WAITING_FOR_SERVER_INFO and not self._core.encrypted:
                hint = " (a server with TLS first says nothing in the clear: see the option tls_first)"
            phase = phase or _PHASES.get(self._core.state, "the handshake did not end")
            timeout = self._options.connect_timeout
            raise ConnectTimeoutError(f"{self.server} did not complete the handshake in {timeout:g} s: {phase}{hint}")
        yield Waiting(wanted, self._until if until is None else min(until, self._until))

    # --- dialling --------------------------------------------------------------------------------------------

    def _addresses(self) -> list[Address]:
        server = self.server
        if server.websocket:
            raise ConfigurationError(f"{server.url}: this version does not speak WebSocket; use nats:// or tls://")
        if server.scheme == "unix":
            return [self._machine.unix_address(server.path)]
        return self._machine.resolve(server.host, server.port)

    def _dial(self) -> Generator[Waiting, None, Any]:
        """A connected socket: to the first address that answers. One that takes its time does not hold up those behind it."""
        machine = self._machine
        error: OSError | None = None
        pending: list[Any] = []
        try:
            try:
                addresses = deque(self._addresses())
            except OSError as problem:
                addresses, error = deque(), problem
            next_at = machine.now()
            while True:
                if addresses and (not pending or machine.now() >= next_at):
                    next_at = machine.now() + _STAGGER
                    try:
                        pending.append(machine.dial(addresses.popleft()))
                    except OSError as problem:
                        error = problem
                for sock in list(pending):
                    try:
                        if machine.is_connected(sock):
                            pending.remove(sock)
                            return sock
                    except OSError as problem:
                        error = problem
                        pending.remove(sock)
                        sock.close()
                if pending:
                    wanted = [Wanted(sock, False, True) for sock in pending]
                    yield from self._wait(wanted, "no address of it took the connection", next_at if addresses else None)
                elif not addresses:
                    raise TransportError(f"{self.server.url} cannot be reached: {error or 'its name has no address'}") from error
        finally:
            for sock in pending:
                with contextlib.suppress(OSError):
                    sock.close()

    # --- TLS and the handshake -------------------------------------------------------------------------------

    def _start_tls(self, clear: Channel) -> Steps:
        # Not before TLS is needed: the ssl module takes longer to load than all the rest.
        from .tls import TLSChannel, context_for

        channel = TLSChannel(clear, context_for(self._options, self.server), self.server)
        try:
            while (wanted := channel.shake_hands()) is not None:
                yield from self._wait([wanted], "the TLS handshake did not end")
        except BaseException:
            channel.close()
            raise
        self._core.tls_established()
        return channel

    def _shake_hands(self, channel: Channel) -> Generator[Waiting, None, Connection | None]:
        """Up to the first PONG; None when TLS has to start before it can go on."""
        core = self._core
        broken: Exception | None = None
        out = memoryview(self._connect() if core.state is ConnectionState.WAITING_FOR_CLIENT_CONNECT else b"")
        while True:
            events = core.events_received()
            for index, event in enumerate(events):
                if event.type is EventType.CONNECTED:
                    return Connection(channel, events[index + 1 :])
                if event.type is EventType.CLOSED:
                    closed: Any = event.body
                    raise closed.error or DisconnectedError("the server closed the connection before the handshake was complete")
                if event.type is EventType.CONNECT_REQUEST:
                    if core.tls_upgrade_due:
                        return None
                    out = memoryview(bytes(out) + self._connect())
            if out and broken is None:
                try:
                    out = out[channel.send(out) :]
                except (OSError, TransportError) as error:
                    # What the server said before it closed is worth more than that it closed.
                    broken = error
            data = channel.receive()
            if data:
                core.receive_data_from_server(data)
                out = memoryview(bytes(out) + core.data_to_send())
            elif data is not None:
                core.receive_eof_from_server()
            elif broken is not None:
                raise broken
            else:
                yield from self._wait([channel.wanted(bool(out))])

    def _connect(self) -> bytes:
        line = self._core.connect()
        self.warnings = self._core.authenticator.warnings()
        return line + self._core.ping()


def attempt_error(server: Server, error: Exception) -> Exception:
    """The error to report for what an attempt raised."""
    if isinstance(error, NatsError) or not isinstance(error, OSError):
        return error
    told = TransportError(f"{server.url}: {error}")
    told.__cause__ = error
    return told
