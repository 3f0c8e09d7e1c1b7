"""One connection to a server, past its handshake: bytes to the core, events out, PINGs."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

from ..errors import NatsError, StaleConnectionError, TransportError
from ..protocol.encoder import encode_unsubscribe
from ..protocol.events import Event, EventType
from ..protocol.twin import Msg

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..protocol.connection import ConnectionProtocol
    from ..protocol.info import ServerInfo
    from ..protocol.twin import SubscriptionRecord
    from .outbound import Outbound
    from .sockets import Channel, Machine, Wanted


class Listener(Interface):
    """Whom a :class:`Link` tells what happens."""

    def message(self, msg: Msg) -> None:
        """A message came for a subscription."""

    def info_received(self, info: ServerInfo) -> None:
        """An INFO came."""

    def error_received(self, error: NatsError) -> None:
        """The server said ``-ERR``, or it broke the protocol."""

    def subscription_ended(self, record: SubscriptionRecord) -> None:
        """A subscription got the last message of its limit."""


class Ping:
    """A PING under way.

    :ivar accepted: publishes that its PONG confirms, counted from the client's beginning.
    :ivar answered: the PONG came; :ivar lost: the connection ended before.
    """

    __slots__ = ("accepted", "answered", "leaving", "lost")

    def __init__(self, accepted: int, leaving: bool = False) -> None:
        self.accepted = accepted
        self.leaving = leaving
        self.answered = False
        self.lost = False

    @property
    def over(self) -> bool:
        """There is nothing to wait for any more."""
        return self.answered or self.lost


class Link:
    """One connection.

    :param on_end: called when it has ended, with the reason and with how many publishes that it took were not confirmed.
    :ivar in_doubt: true in the middle of sending and receiving. If it is still true when the next call comes, an exception out of nowhere
        has ended a call there, and nobody knows what was sent, or what of what came was handled.
    :ivar over: the connection has ended.
    :ivar received: how often something came.
    :ivar leaving: it is being left for another one.
    """

    def __init__(
        self,
        machine: Machine,
        core: ConnectionProtocol,
        outbound: Outbound,
        channel: Channel,
        listener: Listener,
        on_end: Callable[[BaseException | None, int], None],
    ) -> None:
        self._machine = machine
        self._core = core
        self._options = core.options
        self._outbound = outbound
        self._listener = listener
        self._on_end = on_end
        self._pings: deque[Ping] = deque()
        self._silent_pings = 0
        self._confirmed = outbound.accepted - outbound.waiting_publishes
        now = machine.now()
        self._stable_at: float | None = now + core.options.reconnect_stable_after
        self.next_ping = now + core.options.ping_interval
        self.looked_at = now
        self.channel = channel
        self.received = 0
        self.in_doubt = False
        self.leaving = False
        self.over = False

    def wanted(self) -> Wanted:
        """What to wait for when nothing goes any more."""
        return self.channel.wanted(bool(self._outbound.chunk()))

    # --- sending and receiving -------------------------------------------------------------------------------

    def exchange(self) -> bool:
        """Send what goes, and read once. Returns whether anything came."""
        self.in_doubt = True
        self.looked_at = now = self._machine.now()
        if self._stable_at is not None and now >= self._stable_at:
            self._stable_at = None
            self._core.connection_is_stable()
        self._send()
        happened = self.over or self._receive()
        self.in_doubt = False
        return happened

    def send(self) -> None:
        """Send what goes."""
        self.in_doubt = True
        self._send()
        self.in_doubt = False

    def _send(self) -> None:
        error = self._try_to_send()
        if error is not None:
            # What the server said before it closed is worth more than that it closed.
            while not self.over and self._receive():
                pass
            self._lost(error)

    def _try_to_send(self) -> Exception | None:
        outbound = self._outbound
        try:
            while chunk := outbound.chunk():
                sent = self.channel.send(chunk)
                if not sent:
                    break
                outbound.sent(sent)
        except (OSError, TransportError) as error:
            return error
        return None

    def _receive(self) -> bool:
        core = self._core
        try:
            data = self.channel.receive()
        except (OSError, TransportError) as error:
            self._lost(error)
            return True
        if data is None:
            return False
        if not data:
            self._lost(None)
            return True
        self.received += 1
        core.receive_data_from_server(data)
        answers = core.data_to_send()
        if answers and self._outbound.pending < self._options.max_pending_bytes:
            # A server that asks and asks and does not read gets no answer, rather than a buffer without bound.
            self._outbound.control(answers)
            # Nobody else may come to send it. An error is met again by the next step.
            self._try_to_send()
        self.dispatch(core.events_received())
        return True

    def dispatch(self, events: list[Event | Msg]) -> None:
        """Hand out events of the core."""
        listener = self._listener
        for event in events:
            if event.__class__ is Msg:
                listener.message(event)
                continue
            body: Any = event.body
            match event.type:
                case EventType.PONG:
                    self._pong()
                case EventType.INFO:
                    listener.info_received(body)
                case EventType.ERROR:
                    listener.error_received(body)
                case EventType.UNSUBSCRIBED:
                    listener.subscription_ended(body)
                case EventType.CLOSED:
                    self.end(body.error)

    # --- pings -----------------------------------------------------------------------------------------------

    def ping(self) -> Ping:
        """PING behind everything that was published so far. It goes with the next step."""
        return self._note(Ping(self._outbound.accepted))

    def _note(self, ping: Ping) -> Ping:
        # PONGs say not which PING they answer: one that was noted and not sent, or the other way round, would shift all that follow.
        doubt, self.in_doubt = self.in_doubt, True
        self._pings.append(ping)
        self._outbound.control(self._core.ping())
        self.in_doubt = doubt
        return ping

    def _pong(self) -> None:
        self._silent_pings = 0
        if not self._pings:
            return
        ping = self._pings.popleft()
        ping.answered = True
        self._confirmed = ping.accepted
        if ping.leaving:
            self._core.receive_eof_from_client()
            self.end(None)

    def keep_alive(self, now: float) -> None:
        """PING when it is time for that; give the connection up when too many are unanswered."""
        if now < self.next_ping:
            return
        self.in_doubt = True
        if self._silent_pings >= self._options.max_pings_out:
            self._lost(StaleConnectionError(f"the server left {self._silent_pings} PINGs unanswered"))
        else:
            self.next_ping = now + self._options.ping_interval
            self._silent_pings += 1
            self.ping()
            self._send()
        self.in_doubt = False

    def leave(self) -> None:
        """Leave this connection for another one, as soon as the server has got what waits now, and we what it had for us."""
        if self.leaving:
            return
        self.leaving = True
        self._outbound.control(b"".join(encode_unsubscribe(sid) for sid in self._core.subscriptions.records))
        self._note(Ping(self._outbound.accepted, leaving=True))
        self._outbound.hold()

    # --- the end ---------------------------------------------------------------------------------------------

    def _lost(self, error: BaseException | None) -> None:
        """The transport has ended."""
        if self.over:
            return
        if isinstance(error, OSError) and not isinstance(error, NatsError):
            told = TransportError(f"{self._core.current_server}: {error}")
            told.__cause__ = error
            error = told
        self._core.receive_eof_from_transport(error)
        for event in self._core.events_received():
            if event == EventType.CLOSED:
                closed: Any = event.body
                error = closed.error
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Give the connection up. Each step of it may be done twice: an interrupted call leaves it to the next one to begin anew."""
        if self.over:
            return
        self.channel.close()
        kept = self._outbound.detach()
        unconfirmed = max(0, self._outbound.accepted - kept - self._confirmed)
        self.lose_pings()
        # What the core still has to say of this connection is of no use any more.
        self._core.events_received()
        self._on_end(error, unconfirmed)
        self.over = True

    def lose_pings(self) -> None:
        """No PONG will come."""
        for ping in self._pings:
            ping.lost = True
        self._pings.clear()

    def finish(self, end: float) -> None:
        """Send what waits and end the stream; then wait for the server to end it, too, until ``end`` at most.

        A socket that is closed while there is something to read on it makes the system throw away what was sent and not acknowledged.
        """
        machine, channel, outbound = self._machine, self.channel, self._outbound
        ended = False
        try:
            while True:
                while (chunk := outbound.chunk()) and (sent := channel.send(chunk)):
                    outbound.sent(sent)
                if not chunk and not ended:
                    ended = True
                    channel.end_sending()
                data = channel.receive()
                now = machine.now()
                if data == b"" or now >= end:
                    return
                if data is None:
                    machine.wait([channel.wanted(bool(chunk))], end - now)
        except (OSError, TransportError):
            # It is the end, one way or the other.
            return
