"""The peers that send lines over connections: one object for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from zope.interface import implementer

from pynats_twisted.bridge.lines_endpoints import plain_host
from pynats_twisted.errors import TemplateValueError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall
    from twisted.python.failure import Failure

    from pynats_twisted.bridge.lines_messages import LineSettings, PeerMessages

CLOSE_TIMEOUT: Final = 10.0
"""Seconds that a peer has to take its last reply before its connection is cut."""

_WINDOW, _REPLIES, _STOPPED, _HELD = 1, 2, 4, 8


@implementer(IPushProducer, IHalfCloseableProtocol)
class LinePeer(Protocol):
    """One connection that sends lines.

    It is the producer of its own replies: when the peer does not take them, no more is read from it. A peer that has closed its
    side (``nc`` at the end of its input) still gets them.
    """

    def __init__(self, factory: LinePeers, lines: PeerMessages) -> None:
        self._factory = factory
        self._lines = lines
        self._settings = settings = lines.settings
        self._window = settings.lane.window(self)
        self._framer = settings.framing.make(lines.count)
        self._paused = 0
        self._unanswered = 0
        self._up = False
        self._closing = False
        self._faulty = False
        self._finishing = False
        self._closed = False
        self._replies = bool(settings.reply_ok or settings.reply_error)
        self._last_data = 0.0
        self._idle_call: IDelayedCall | None = None
        self._timeout_call: IDelayedCall | None = None
        self._abort_call: IDelayedCall | None = None

    # --- called by Twisted -------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """The connection is up."""
        transport: Any = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpKeepAlive(True)
            transport.setTcpNoDelay(True)
        self._up = True
        self._factory.peer_came(self)
        if self._replies:
            transport.registerProducer(self, True)
        if self._settings.timeout is not None:
            self._last_data = self._settings.reactor.seconds()
            self._timeout_call = self._settings.reactor.callLater(self._settings.timeout, self._check_timeout)
        if self._factory.held:
            self.hold()

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        if self._closing:
            return
        settings = self._settings
        frames = self._framer.feed(data)
        if frames:
            self._offer(frames)
        if self._framer.fault is not None:
            self._give_up_on_peer()
        elif settings.idle_flush is not None or settings.timeout is not None:
            self._last_data = settings.reactor.seconds()
            if settings.idle_flush is not None and self._idle_call is None and self._framer.pending:
                self._idle_call = settings.reactor.callLater(settings.idle_flush, self._check_idle)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended; what came before that is still published."""
        self._up = False
        for call in (self._idle_call, self._timeout_call, self._abort_call):
            if call is not None and call.active():
                call.cancel()
        self._end_input()
        self._factory.peer_left(self)

    def readConnectionLost(self) -> None:
        """The peer will send nothing more."""
        self._end_input()
        self._finishing = True
        # There is nothing to read again when the window has room.
        self._paused |= _STOPPED
        if not self._unanswered or not self._replies:
            self._close()

    def writeConnectionLost(self) -> None:
        """The peer takes nothing more; when its side is closed as well, the connection is lost."""

    def pauseProducing(self) -> None:
        """The peer does not take its replies."""
        self._pause(_REPLIES)

    def resumeProducing(self) -> None:
        """The peer took its replies."""
        self._resume(_REPLIES)

    def stopProducing(self) -> None:
        """The transport is closing."""

    # --- called by the window ----------------------------------------------------------------------------------

    def window_ready(self) -> None:
        """There is room for more lines."""
        self._resume(_WINDOW)

    def window_confirmed(self, count: int) -> None:
        """Lines reached the confirm level."""
        self._answer(self._settings.reply_ok * count, count)

    def window_refused(self, reason: str) -> None:
        """A line was refused, by the server or before it."""
        self._answer(self._settings.reply_error, 1)

    def _answer(self, data: bytes, count: int) -> None:
        self._unanswered -= count
        if data and self._up:
            self.transport.write(data)  # type: ignore[union-attr]
        if self._finishing and not self._unanswered:
            self._close()

    # --- called by the route -----------------------------------------------------------------------------------

    def hold(self) -> None:
        """Read nothing until :meth:`go_on`."""
        self._pause(_HELD)

    def go_on(self) -> None:
        """Read again."""
        self._resume(_HELD)

    def stop(self) -> None:
        """Take nothing more, and finish what came."""
        self._pause(_STOPPED)
        self._end_input()

    def close(self) -> None:
        """Close the connection, now that every line is answered, or will not be."""
        self._end_input()
        self._close()

    def abort(self) -> None:
        """Cut the connection."""
        if self._up:
            transport: Any = self.transport
            transport.abortConnection()

    # --- inside ------------------------------------------------------------------------------------------------

    def _offer(self, frames: list[bytes]) -> None:
        if not frames:
            return
        self._unanswered += len(frames)
        self._window.offer(self._lines.messages(frames))
        if self._window.full:
            self._pause(_WINDOW)

    def _end_input(self) -> None:
        """Nothing more comes: what there is of an unfinished line is by the policy for partial ones."""
        if not self._closing:
            self._closing = True
            self._offer(self._framer.flush())
        self._window.end()

    def _pause(self, why: int) -> None:
        if not self._paused and self._up:
            self.transport.pauseProducing()  # type: ignore[union-attr]
        self._paused |= why

    def _resume(self, why: int) -> None:
        if not self._paused & why:
            return
        self._paused &= ~why
        if not self._paused and self._up:
            self._last_data = self._settings.reactor.seconds()
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def _give_up_on_peer(self) -> None:
        """The peer broke the framing. Its whole lines are answered in their order; the connection is closed after that."""
        fault = self._framer.fault
        if fault is not None and fault.reason != "too-long":
            self._lines.report(fault.reason, fault.detail)
        self._closing = self._faulty = self._finishing = True
        self._pause(_STOPPED)
        self._window.end()
        if self._unanswered and self._replies:
            self._abort_later()
        else:
            self._close()

    def _close(self) -> None:
        if not self._up or self._closed:
            return
        self._closed = True
        transport: Any = self.transport
        if self._faulty and self._settings.reply_error:
            transport.write(self._settings.reply_error)
        if self._replies:
            transport.unregisterProducer()
        transport.loseConnection()
        self._abort_later()

    def _abort_later(self) -> None:
        if self._abort_call is None:
            self._abort_call = self._settings.reactor.callLater(CLOSE_TIMEOUT, self.abort)

    def _check_idle(self) -> None:
        """Flush what came of a line when nothing came after it. The timer is moved on when it is due, not for each byte."""
        self._idle_call = None
        wait = self._settings.idle_flush or 0.0
        if not self._framer.pending or self._closing:
            return
        left = wait if self._paused else self._last_data + wait - self._settings.reactor.seconds()
        if left > 0:
            self._idle_call = self._settings.reactor.callLater(left, self._check_idle)
            return
        self._offer(self._framer.flush())
        if self._framer.fault is not None:
            self._give_up_on_peer()

    def _check_timeout(self) -> None:
        wait = self._settings.timeout or 0.0
        left = wait if self._paused else self._last_data + wait - self._settings.reactor.seconds()
        if left > 0:
            self._timeout_call = self._settings.reactor.callLater(left, self._check_timeout)
            return
        self._settings.metrics.bad_input("timeout")
        self._close()


class RefusedPeer(Protocol):
    """A connection that is closed before anything is read from it."""

    def connectionMade(self) -> None:
        """Close it."""
        self.transport.loseConnection()  # type: ignore[union-attr]


class LinePeers(Factory):
    """All connections of one route.

    :ivar peers: those that are open.
    :ivar when_left: is called after one has ended; None: nothing is.
    :ivar held: whether nothing is read from them for now.
    """

    noisy = False

    def __init__(self, settings: LineSettings, max_connections: int) -> None:
        self.peers: dict[LinePeer, None] = {}
        self.when_left: Callable[[], None] | None = None
        self.held = False
        self._settings = settings
        self._max_connections = max_connections
        self._all_left: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """A protocol for a new connection, or one that refuses it."""
        settings = self._settings
        host = host_of(addr)
        if not settings.allow.allows(host):
            settings.report("not-allowed", host or "a peer without an address")
            return RefusedPeer()
        # Peers that have gone and left unconfirmed lines count too: what they hold is memory.
        if len(settings.lane) >= self._max_connections:
            settings.report("too-many-connections", f"there are {self._max_connections} already")
            return RefusedPeer()
        try:
            return LinePeer(self, settings.lines(settings, host))
        except TemplateValueError as error:
            settings.report("bad-peer", str(error))
            return RefusedPeer()

    def hold(self, held: bool) -> None:
        """Read from no connection, or from all again. Connections are made and kept all the same."""
        self.held = held
        for peer in list(self.peers):
            if held:
                peer.hold()
            else:
                peer.go_on()

    def peer_came(self, peer: LinePeer) -> None:
        """A connection is up."""
        self.peers[peer] = None
        self._settings.metrics.connections.inc()
        self._settings.metrics.connections_total.inc()

    def peer_left(self, peer: LinePeer) -> None:
        """A connection has ended."""
        if self.peers.pop(peer, peer) is None:
            self._settings.metrics.connections.dec()
            if self.when_left is not None:
                self.when_left()
        if not self.peers and self._all_left is not None:
            all_left, self._all_left = self._all_left, None
            all_left.callback(None)

    def when_all_left(self) -> Deferred[None]:
        """Fires when no connection is open. Cancelling it cuts those that are; one at a time may wait."""
        if not self.peers:
            return succeed(None)
        self._all_left = Deferred(self._cut)
        return self._all_left

    def _cut(self, _: Deferred[None]) -> None:
        self._all_left = None
        for peer in list(self.peers):
            peer.abort()


def host_of(address: IAddress | None) -> str | None:
    """The host of a peer's address; None where it has none, as over a UNIX socket."""
    host = getattr(address, "host", None)
    return plain_host(host) if isinstance(host, str) else None
