"""The two ends of a connection in memory. Bytes travel in turns of a clock, in order, and can be split, held, cut and lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from .memory_network import MemoryNetwork

# What Twisted's own transports hold before they pause a producer.
BUFFER_SIZE = 64 * 1024


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTransport:
    """One end of a :class:`MemoryLink`: what a protocol there writes to.

    :ivar protocol: the protocol at this end; :ivar peer: the other end. :ivar ended: the protocol was told so.
    :ivar reading: the protocol takes what comes. :ivar aborted: the protocol has ended it without waiting for what it had sent.
    """

    def __init__(self, network: MemoryNetwork, local: IPv4Address, remote: IPv4Address) -> None:
        self._network = network
        self._local = local
        self._remote = remote
        self.protocol: Any = None
        self.peer: MemoryTransport
        self.on_lost: Callable[[Failure], None] | None = None
        self.disconnecting = False
        self.ended = False
        self.cut_after: int | None = None
        self.reading = True
        self.aborted = False
        self._out: deque[bytes] = deque()
        self._producer: Any = None
        self._producer_paused = False
        self._pump_call: Any = None
        self._no_delay = self._keep_alive = False

    @property
    def unsent(self) -> int:
        """Bytes that were written here and have not reached the other end."""
        return sum(map(len, self._out))

    # --- what a protocol calls -------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Bytes for the other end, which gets them a turn later at the earliest."""
        if not isinstance(data, bytes):
            raise TypeError(f"a transport writes bytes, not {type(data).__name__}")
        if self.ended or self.aborted or not data:
            return
        split = self._network.split_at
        if split and len(data) > split:
            self._out += [data[:split], data[split:]]
        else:
            self._out.append(data)
        if self._producer is not None and not self._producer_paused and self.unsent > BUFFER_SIZE:
            self._producer_paused = True
            self._producer.pauseProducing()
        self._pump_soon()

    def writeSequence(self, data: Iterable[bytes]) -> None:  # noqa: N802
        """:meth:`write` of all of them together."""
        self.write(b"".join(data))

    def loseConnection(self, *_: Any) -> None:
        """End the connection when all was sent; with a producer registered, when that has gone."""
        if not self.disconnecting and not self.ended:
            self.disconnecting = True
            self._pump_soon()

    def loseWriteConnection(self) -> None:  # noqa: N802
        """As :meth:`loseConnection`: there are no half connections here."""
        self.loseConnection()

    def abortConnection(self) -> None:  # noqa: N802
        """End the connection at once; what was not sent is lost."""
        if not self.aborted and not self.ended:
            self.aborted = True
            self._network.callLater(0, self._end, ConnectionAborted(), ConnectionLost())

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        """Who is told when too much waits here, and when there is room again."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if not streaming:
            raise RuntimeError("a transport in memory takes streaming producers only")
        self._producer = producer
        self._producer_paused = False

    def unregisterProducer(self) -> None:  # noqa: N802
        """The producer is done."""
        self._producer = None
        self._pump_soon()

    def pauseProducing(self) -> None:
        """Give the protocol nothing until :meth:`resumeProducing`."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Give the protocol what comes."""
        self.reading = True
        self.peer._pump_soon()

    def stopProducing(self) -> None:
        """Give the protocol nothing any more."""
        self.loseConnection()

    def getHost(self) -> IPv4Address:
        """This end."""
        return self._local

    def getPeer(self) -> IPv4Address:
        """The other end."""
        return self._remote

    def getTcpNoDelay(self) -> bool:  # noqa: N802
        """What :meth:`setTcpNoDelay` was told."""
        return self._no_delay

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: N802
        """Of no effect."""
        self._no_delay = bool(enabled)

    def getTcpKeepAlive(self) -> bool:  # noqa: N802
        """What :meth:`setTcpKeepAlive` was told."""
        return self._keep_alive

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: N802
        """Of no effect."""
        self._keep_alive = bool(enabled)

    # --- how bytes travel ------------------------------------------------------------------------------------

    def _pump_soon(self) -> None:
        if self._pump_call is None and not self.ended:
            self._pump_call = self._network.callLater(self._network.latency, self._pump)

    def flush(self) -> None:
        """Hand what was written here over now, and not a turn later. It has no effect while the other end does not read."""
        if self._pump_call is not None:
            self._pump_call.cancel()
            self._pump()

    def _pump(self) -> None:
        self._pump_call = None
        peer = self.peer
        if self.ended or self.aborted or not peer.reading:
            return
        if self._out:
            # Where writes are split, each piece comes alone: a reader has to live with what it has got so far.
            if self._network.split_at:
                data = self._out.popleft()
            else:
                data = b"".join(self._out)
                self._out.clear()
            self._hand_over(data)
        if self.ended:
            return
        if self._out:
            self._pump_soon()
        elif self._producer is not None:
            if self._producer_paused:
                self._producer_paused = False
                self._producer.resumeProducing()
        elif self.disconnecting:
            self._end(ConnectionDone(), ConnectionDone())

    def _hand_over(self, data: bytes) -> None:
        peer = self.peer
        cut = self.cut_after
        if cut is None or len(data) < cut:
            if cut is not None:
                self.cut_after = cut - len(data)
            if not peer.aborted and not peer.disconnecting:
                peer.protocol.dataReceived(data)
            return
        if cut and not peer.aborted and not peer.disconnecting:
            peer.protocol.dataReceived(data[:cut])
        self._end(ConnectionLost(), ConnectionLost())

    def cut(self, reason: BaseException | None = None) -> None:
        """The connection breaks, for both ends.

        :param reason: what both are told; ``ConnectionLost`` by default.
        """
        self._end(reason or ConnectionLost(), reason or ConnectionLost())

    def _end(self, reason: BaseException, peer_reason: BaseException) -> None:
        # The other end first: who has closed hears of it when it is done.
        self.peer._lost(peer_reason)
        self._lost(reason)

    def _lost(self, reason: BaseException) -> None:
        if self.ended:
            return
        self.ended = True
        self._out.clear()
        self._producer = None
        failure = Failure(reason)
        self.protocol.connectionLost(failure)
        if self.on_lost is not None:
            self.on_lost(failure)


class MemoryLink:
    """A connection on a :class:`~.memory_network.MemoryNetwork`, and what can happen to it.

    :ivar client: the transport of the end that connected; :ivar server: that of the other end.
    :ivar address: where it leads to, as ``host:port``.
    """

    def __init__(self, network: MemoryNetwork, address: str, client: IPv4Address, server: IPv4Address) -> None:
        self.address = address
        self.client = MemoryTransport(network, client, server)
        self.server = MemoryTransport(network, server, client)
        self.client.peer = self.server
        self.server.peer = self.client

    def __repr__(self) -> str:
        return f"<MemoryLink to {self.address} {'ended' if self.ended else 'open'}>"

    @property
    def ended(self) -> bool:
        """It is over, at both ends."""
        return self.client.ended and self.server.ended

    def connect(self, client_protocol: Any, server_protocol: Any) -> None:
        """Put a protocol at each end."""
        self.client.protocol = client_protocol
        self.server.protocol = server_protocol
        client_protocol.makeConnection(self.client)
        server_protocol.makeConnection(self.server)

    def cut(self, reason: BaseException | None = None) -> None:
        """Break it now: both ends see a lost connection, or another reason, and what is under way is lost."""
        self.client.cut(reason)

    def cut_after(self, *, to_client: int | None = None, to_server: int | None = None) -> None:
        """Break it when so many more bytes have come to one of the ends, in the middle of a frame or not."""
        if to_client is not None:
            self.server.cut_after = to_client
        if to_server is not None:
            self.client.cut_after = to_server

    def stop_reading(self) -> None:
        """The server's end reads nothing more: what the client writes piles up."""
        self.server.pauseProducing()

    def resume_reading(self) -> None:
        """The server's end reads again."""
        self.server.resumeProducing()
