"""What keeps a client connected, step by step. Nothing happens outside of its calls: it has no thread and no timer."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

from ..errors import (
    ConcurrentUseError,
    ConnectionServerPoolEmpty,
    DisconnectedError,
    NatsError,
    NoServersError,
    OutboundBufferFullError,
)
from ..protocol.events import EventType
from ..protocol.state import ConnectionState
from .attempt import Attempt, Connection, Waiting, attempt_error
from .link import Link, Listener, Ping

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from ..protocol.connection import ConnectionProtocol
    from .outbound import Outbound
    from .sockets import Machine

# A call that has no time of its own may spend so many seconds on an attempt that is under way, once for each attempt:
# a server that has accepted a connection does not wait until a program happens to call again.
_GRACE = 0.1


class Owner(Listener, Interface):
    """Whom an :class:`Engine` tells what happens."""

    def connected(self, refused: list[tuple[str, NatsError]], warnings: list[str]) -> None:
        """A connection is up, the subscriptions were renewed, and ``refused`` was taken out of what waited."""

    def disconnected(self, url: str, error: BaseException | None, unconfirmed: int) -> None:
        """A connection that was up has ended."""

    def attempt_failed(self, url: str, error: BaseException) -> None:
        """An attempt to connect failed."""

    def delay_failed(self, error: Exception) -> None:
        """The option ``reconnect_delay`` is of no use; the built-in wait is used instead."""

    def gave_up(self, error: NatsError | None) -> None:
        """No server is left to try; or, without an error, the options forbid to connect again."""


class Engine:
    """The connections of one client, one after another.

    :meth:`turn` is one step: it does what can be done now, and else waits until it can or until its time is over. An exception
    out of nowhere (KeyboardInterrupt) while it waits changes nothing. One in the middle of sending or receiving leaves the
    stream in doubt: the next step then gives up that connection, and a new one is made.

    :ivar received: how often something came from a server.
    :ivar looked_at: when a socket was last looked at.
    """

    def __init__(self, machine: Machine, core: ConnectionProtocol, outbound: Outbound, owner: Owner) -> None:
        self._machine = machine
        self._core = core
        self._outbound = outbound
        self._owner = owner
        self._link: Link | None = None
        self._attempt: Attempt | None = None
        self._steps: Generator[Waiting, None, Connection] | None = None
        self._grace = 0.0
        self._retry_at = 0.0
        self._ever_connected = False
        self._in_doubt = False
        # The step that is being done. It may also be one that an exception ended before it could say so: then its frame runs no more.
        self._inside: FrameType | None = None
        self._stopped = False
        self._process = os.getpid()
        self._received = 0

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """A connection is up, even if it is being left."""
        return self._link is not None

    @property
    def is_connected(self) -> bool:
        """A connection is up, and is not being left."""
        return self._link is not None and not self._link.leaving

    @property
    def is_leaving(self) -> bool:
        """The connection is being left for another one."""
        return self._link is not None and self._link.leaving

    @property
    def encrypted(self) -> bool:
        """The connection of now is in TLS."""
        return self._link is not None and self._link.channel.encrypted

    @property
    def received(self) -> int:
        return self._received + (self._link.received if self._link is not None else 0)

    @property
    def looked_at(self) -> float:
        return self._link.looked_at if self._link is not None else 0.0

    @property
    def foreign(self) -> bool:
        """This is another process than the one that the connection belongs to."""
        return os.getpid() != self._process

    def begin_call(self) -> None:
        """A call begins: clear up behind one that an exception ended in the middle of a step.

        Refuses a call that comes from inside a step, or in a process that was forked off.

        :raises ConcurrentUseError: it is such a call.
        """
        if self._inside is not None:
            if _is_running(self._inside):
                raise ConcurrentUseError("a signal handler called the client in the middle of a call; let it raise an exception instead")
            self._inside = None
        if self.foreign:
            raise ConcurrentUseError(f"the client belongs to process {self._process}, which forked this one; make one here")
        self._clear_up()

    # --- one step --------------------------------------------------------------------------------------------

    def turn(self, until: float | None) -> bool:
        """Do one step: send and receive what goes, or bring an attempt to connect further; wait when nothing goes.

        :param until: wait until then at most; None waits without an end.
        :returns: whether something happened.
        """
        self.begin_call()
        self._inside = sys._getframe()
        try:
            if self._stopped:
                return False
            link = self._link
            if link is None:
                return self._connect(until)
            if link.exchange():
                return True
            now = self._machine.now()
            link.keep_alive(now)
            if link.over:
                return True
            timeout = link.next_ping - now
            if until is not None:
                timeout = min(timeout, until - now)
            return timeout > 0 and self._machine.wait([link.wanted()], timeout)
        finally:
            self._inside = None

    def write(self) -> None:
        """Send what goes without waiting."""
        self.begin_call()
        self._inside = sys._getframe()
        try:
            if self._link is not None:
                self._link.send()
        finally:
            self._inside = None

    def ping(self) -> Ping:
        """PING behind everything that was published so far; it is lost where there is no connection. It goes with the next step."""
        if self._link is not None:
            return self._link.ping()
        ping = Ping(self._outbound.accepted)
        ping.lost = True
        return ping

    def tell(self, change: Callable[[], bytes]) -> None:
        """Change the subscriptions and tell the server. Without a server only the change is made: a new one gets all subscriptions anyway.

        :param change: makes the change and gives the lines that say it.
        :raises OutboundBufferFullError: the server has not read for so long that there is no room even for that.
        """
        outbound, limit = self._outbound, self._core.options.max_pending_bytes
        if outbound.pending >= limit:
            self.write()
        if self._link is not None and outbound.pending >= limit:
            raise OutboundBufferFullError(outbound.pending, 0, limit)
        # Where an exception comes between the two, the server knows something else than the client.
        doubt, self._in_doubt = self._in_doubt, True
        try:
            outbound.control(change())
        except NatsError:
            self._in_doubt = doubt
            raise
        self._in_doubt = doubt
        self.write()

    def leave(self) -> None:
        """Leave the connection for another one, without losing what is under way."""
        if self._link is not None:
            self._link.leave()

    def _clear_up(self) -> None:
        link = self._link
        if not self._in_doubt and (link is None or not link.in_doubt):
            return
        self._end_attempt()
        self._end_in_core()
        if link is not None:
            link.end(DisconnectedError("a call was interrupted in the middle of sending or receiving"))
            self._link = None
        self._in_doubt = False

    def _end_in_core(self) -> None:
        if self._core.state not in (ConnectionState.CLOSED, ConnectionState.WAITING_FOR_SERVER_SELECTION):
            self._core.receive_eof_from_client()

    def _link_ended(self, error: BaseException | None, unconfirmed: int) -> None:
        """The connection has ended."""
        link, self._link = self._link, None
        if link is not None:
            self._received += link.received
        self._owner.disconnected(str(self._core.current_server), error, unconfirmed)
        self._plan()

    # --- the way to the next connection ----------------------------------------------------------------------

    def _plan(self) -> None:
        """After the end of a connection or an attempt: when the next one begins, or whether it is over."""
        options, pool = self._core.options, self._core.pool
        if self._stopped:
            return
        if self._ever_connected and not options.allow_reconnect:
            self._owner.gave_up(None)
        elif not pool.servers or (not self._ever_connected and not options.retry_on_failed_connect and pool.round_complete):
            self._owner.gave_up(NoServersError(pool.reasons))
        else:
            self._retry_at = self._machine.now() + pool.delay_before_next()
            error, pool.delay_error = pool.delay_error, None
            if error is not None:
                self._owner.delay_failed(error)

    def _connect(self, until: float | None) -> bool:
        machine = self._machine
        now = machine.now()
        if self._steps is None and now < self._retry_at:
            end = self._retry_at if until is None else min(self._retry_at, until)
            machine.wait([], max(0.0, end - now))
            return machine.now() >= self._retry_at
        self._in_doubt = True
        waiting = self._step() if self._steps is not None or self._begin() else None
        self._in_doubt = False
        if waiting is None:
            return True
        end = waiting.until if until is None else min(until, waiting.until)
        spends_grace = end <= now < now + self._grace
        if spends_grace:
            end = min(waiting.until, now + self._grace)
        ready = machine.wait(waiting.wanted, max(0.0, end - machine.now()))
        if spends_grace:
            self._grace -= machine.now() - now
        return ready or machine.now() >= waiting.until

    def _begin(self) -> bool:
        try:
            server = self._core.select_server()
        except ConnectionServerPoolEmpty:
            self._owner.gave_up(NoServersError(self._core.pool.reasons))
            return False
        self._attempt = Attempt(self._machine, self._core, server)
        self._steps = self._attempt.run()
        self._grace = _GRACE
        return True

    def _step(self) -> Waiting | None:
        """Bring the attempt further; what it waits for, or None when it is over."""
        assert self._steps is not None and self._attempt is not None
        try:
            return next(self._steps)
        except StopIteration as end:
            attempt, connection = self._attempt, end.value
            self._end_attempt()
            self._established(attempt, connection)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything; it is the reason why this attempt failed
            attempt = self._attempt
            self._end_attempt()
            self._failed(attempt, attempt_error(attempt.server, error))
        return None

    def _end_attempt(self) -> None:
        steps, self._steps, self._attempt = self._steps, None, None
        if steps is not None:
            steps.close()

    def _failed(self, attempt: Attempt, error: BaseException) -> None:
        core = self._core
        if core.state is not ConnectionState.CLOSED:
            core.receive_eof_from_transport(error)
        for event in core.events_received():
            closed: Any = event.body
            if event == EventType.CLOSED and closed.error is not None:
                error = closed.error
        self._owner.attempt_failed(attempt.server.url, error)
        self._plan()

    def _established(self, attempt: Attempt, connection: Connection) -> None:
        refused = self._outbound.attach(self._core.resubscribe())
        link = self._link = Link(self._machine, self._core, self._outbound, connection.channel, self._owner, self._link_ended)
        self._ever_connected = True
        self._received += 1
        self._owner.connected(refused, attempt.warnings)
        # The first of them is the PONG of the handshake.
        link.dispatch(connection.events)
        if not link.over:
            link.send()

    # --- the end of it all -----------------------------------------------------------------------------------

    def stop(self, linger: float) -> None:
        """End everything. What waits is still sent, for ``linger`` seconds at most."""
        self._stopped = True
        try:
            if not self.foreign:
                self._clear_up()
                self._end_attempt()
                link = self._link
                if link is not None:
                    link.finish(self._machine.now() + linger)
        finally:
            link, self._link = self._link, None
            if link is not None:
                link.channel.close()
                link.lose_pings()
            self._end_in_core()


def _is_running(frame: FrameType) -> bool:
    """Whether this is inside of a call of that frame."""
    caller: FrameType | None = sys._getframe()
    while caller is not None and caller is not frame:
        caller = caller.f_back
    return caller is frame
