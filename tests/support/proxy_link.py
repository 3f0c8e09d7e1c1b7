"""The connections of the proxy: each is a link of two sides, and two pumps that carry bytes from one to the other."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from tests.support.proxy import ChaosProxy, Direction

# The bytes that one direction of one connection holds back before it stops reading its source.
MAX_HELD = 256 * 1024


class Link:
    """A connection of a client, and the one to the server that belongs to it."""

    def __init__(self, proxy: ChaosProxy) -> None:
        self._proxy = proxy
        self.client = Side(self)
        self.server = Side(self)
        self.up = self.client.outgoing = Pump(proxy.reactor, self, proxy.to_server, self.client, self.server)
        self.down = self.server.outgoing = Pump(proxy.reactor, self, proxy.to_client, self.server, self.client)
        self._connecting: Deferred[Any] | None = None
        self._waiting: list[Deferred[None]] = []

    def opened(self, side: Side) -> None:
        """A side is connected. Once the client is, the server is called."""
        if side is self.client:
            endpoint = TCP4ClientEndpoint(self._proxy.reactor, *self._proxy.target, timeout=5)
            self._connecting = connectProtocol(endpoint, self.server)
            self._connecting.addErrback(lambda _: self.client.abort())
        else:
            self._connecting = None

    def lost(self, side: Side, reason: Failure) -> None:
        """A side is gone. A reset passes to the other one; an orderly end has passed already, behind the data."""
        if reason.check(ConnectionDone) is None:
            self.abort()
        if all(each.transport is None or each.is_lost for each in (self.client, self.server)):
            self.up.stop()
            self.down.stop()
            self._proxy.links.remove(self)
            for waiting in self._waiting:
                waiting.callback(None)

    def abort(self) -> None:
        """Reset both sides."""
        if self._connecting is not None:
            self._connecting.cancel()
        self.client.abort()
        self.server.abort()

    def gone(self) -> Deferred[None]:
        """Fires when both sides are gone."""
        done: Deferred[None] = Deferred()
        if self in self._proxy.links:
            self._waiting.append(done)
        else:
            done.callback(None)
        return done


@implementer(IHalfCloseableProtocol)
class Side(Protocol):
    """One of the two TCP connections of a link."""

    outgoing: Pump

    def __init__(self, link: Link) -> None:
        self._link = link
        self.is_lost = False
        self.read_ended = False
        self._write_ended = False

    @property
    def wire(self) -> Any:
        return self.transport

    @property
    def usable(self) -> bool:
        return self.transport is not None and not self.is_lost and not self._write_ended

    def connectionMade(self) -> None:
        self.wire.setTcpNoDelay(True)
        incoming = self._link.down if self is self._link.client else self._link.up
        self.wire.registerProducer(incoming, True)
        self._link.opened(self)
        self.outgoing.kick()
        incoming.kick()

    def dataReceived(self, data: bytes) -> None:
        self.outgoing.received(data)

    def readConnectionLost(self) -> None:
        self.read_ended = True
        self.outgoing.finish("fin")
        self._close_if_ended()

    def writeConnectionLost(self) -> None:
        self._write_ended = True
        self._close_if_ended()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_lost = True
        self._link.lost(self, reason)

    def abort(self) -> None:
        if self.transport is not None and not self.is_lost:
            self.wire.abortConnection()

    def _close_if_ended(self) -> None:
        # A transport of a protocol that knows half-closed connections leaves the whole close to it.
        if self.read_ended and self._write_ended:
            self.wire.loseConnection()


@implementer(IPushProducer)
class Pump:
    """Carries the bytes of one direction of one link."""

    def __init__(self, reactor: Any, link: Link, direction: Direction, source: Side, sink: Side) -> None:
        self._reactor = reactor
        self._link = link
        self.direction = direction
        self._source = source
        self._sink = sink
        self._queue: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._taken = 0
        self._reasons: set[str] = set()
        self._call: IDelayedCall | None = None
        self._ending: str | None = None
        self._ended = False
        self._swallowed = False
        self._stopped = False

    # --- bytes ---

    def received(self, data: bytes) -> None:
        """Bytes of the source."""
        if self._ended or self._ending is not None:
            return
        if self.direction.transform is not None:
            data = self.direction.transform(data)
        ending = None
        if self.direction.cut is not None:
            count, how = self.direction.cut
            left = max(0, count - self._taken)
            if len(data) >= left:
                data, ending, self.direction.cut = data[:left], how, None
        self._taken += len(data)
        if data:
            self.put(data)
        if ending is not None:
            self.finish(ending)

    def put(self, data: bytes) -> None:
        """Bytes for the sink, after those that wait."""
        self._queue.append((self._reactor.seconds() + self.direction.delay, data))
        self._held += len(data)
        if self._held > MAX_HELD:
            self.hold("full")
        self.kick()

    def finish(self, how: str) -> None:
        """End the direction when all that waits has been sent on."""
        if self._ending is None and not self._ended:
            self._ending = how
            self.kick()

    def heal(self) -> None:
        """Send on at once what is held back, except by a cut."""
        self._queue = deque((0.0, data) for _, data in self._queue)
        self.stop()
        self._stopped = False
        self.kick()

    def stop(self) -> None:
        """Carry nothing any more."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def kick(self) -> None:
        """Look at what may be sent on."""
        if self._call is None and not self._stopped:
            self._run()

    def _run(self) -> None:
        self._call = None
        if self.direction.is_hole or self._swallowed:
            self.hold("hole")
            return
        self.let("hole")
        while self._queue and self._sink.usable and "sink" not in self._reasons:
            due, data = self._queue[0]
            wait = due - self._reactor.seconds()
            if wait > 0:
                self._call = self._reactor.callLater(wait, self._run)
                return
            size = self.direction.piece or len(data)
            self._write(data[:size])
            if len(data) > size:
                self._queue[0] = (due, data[size:])
            else:
                self._queue.popleft()
            if self.direction.piece is not None:
                self._call = self._reactor.callLater(size / self.direction.rate if self.direction.rate else 0, self._run)
                return
        if not self._queue:
            self.let("full")
            if self._ending is not None and self._sink.usable:
                self._end()

    def _write(self, piece: bytes) -> None:
        self._held -= len(piece)
        self.direction.passed += len(piece)
        self._sink.wire.write(piece)

    def _end(self) -> None:
        how, self._ending = self._ending, None
        if how == "hole":
            self._swallowed = True
            self.hold("hole")
            return
        self._ended = True
        if how == "fin":
            self._sink.wire.loseWriteConnection()
        else:
            # A reset throws away what the transport has not written, which it does in the second next turn at the latest.
            self._call = self._reactor.callLater(0, self._reset_in_a_turn)

    def _reset_in_a_turn(self) -> None:
        self._call = self._reactor.callLater(0, self._reset)

    def _reset(self) -> None:
        self._call = None
        self._link.abort()

    # --- reading or not ---

    def hold(self, reason: str) -> None:
        """Do not read the source, for a reason more."""
        if not self._reasons and self._source.transport is not None and not self._source.is_lost:
            self._source.wire.pauseProducing()
        self._reasons.add(reason)

    def let(self, reason: str) -> None:
        """One reason less."""
        if reason in self._reasons:
            self._reasons.remove(reason)
            if not self._reasons and self._source.transport is not None and not self._source.is_lost and not self._source.read_ended:
                self._source.wire.resumeProducing()

    def pauseProducing(self) -> None:
        self.hold("sink")

    def resumeProducing(self) -> None:
        self.let("sink")
        self.kick()

    def stopProducing(self) -> None:
        """The sink is gone; its connectionLost says the rest."""
