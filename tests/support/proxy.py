"""A TCP proxy between clients and a server that misbehaves as told: the network of the fault tests.

What is set on :attr:`ChaosProxy.to_server` and :attr:`ChaosProxy.to_client` counts at once, for the connections that exist and for
those to come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol

from pynats_twisted.testing.ports import PortReservation
from tests.support.proxy_link import Link, Pump

# How often a limited rate lets something pass, in seconds.
RATE_TICK = 0.01

CUTS = ("rst", "fin", "hole")


class Direction:
    """How bytes travel in one direction. Neutral when made.

    :ivar delay: seconds that everything is late.
    :ivar rate: bytes a second that pass at most, on each connection; None for no limit.
    :ivar segment: bytes in a TCP segment at most; None for no limit. Each is a write of its own, in a reactor turn of its own.
    :ivar transform: called with each piece of bytes as it was read; what it returns is sent on.
    :ivar passed: bytes sent on so far, over all connections.
    """

    def __init__(self) -> None:
        self.passed = 0
        self.reset()

    def reset(self) -> None:
        """Be neutral again."""
        self.delay = 0.0
        self.rate: float | None = None
        self.segment: int | None = None
        self.transform: Callable[[bytes], bytes] | None = None
        self.is_hole = False
        self.cut: tuple[int, str] | None = None

    def cut_after(self, count: int, how: str = "rst") -> None:
        """Let the first ``count`` bytes of a connection pass, then end it (``"rst"``, ``"fin"``) or let nothing more pass
        (``"hole"``, for the rest of that connection's life). Works once; a connection that had more already is cut at its
        next byte.
        """
        if how not in CUTS:
            raise ValueError(f"how: found {how!r}; allowed: {', '.join(CUTS)}")
        self.cut = (count, how)

    @property
    def piece(self) -> int | None:
        """The bytes that may be written at once; None for all."""
        limits = [self.segment] if self.segment else []
        if self.rate:
            limits.append(max(1, int(self.rate * RATE_TICK)))
        return min(limits, default=None)


class ChaosProxy(Factory):
    """Listens on a port of its own, and connects every client to the server behind.

    :ivar to_server: the direction from clients to the server.
    :ivar to_client: the direction from the server to clients.
    :ivar accepted: how many connections there have been.
    """

    noisy = False

    def __init__(self, reactor: Any, target_port: int, target_host: str = "127.0.0.1") -> None:
        self.reactor = reactor
        self.target = (target_host, target_port)
        # Reserved, so that nothing takes the port while it refuses.
        self._reservation = PortReservation()
        self._listening: IListeningPort | None = None
        self.to_server = Direction()
        self.to_client = Direction()
        self.accepted = 0
        self.links: list[Link] = []

    @property
    def port(self) -> int:
        """The port for clients; always the same."""
        return self._reservation.port

    @property
    def host_port(self) -> str:
        """The address for clients."""
        return f"{self._reservation.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"nats://{self.host_port}"

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        self.accepted += 1
        link = Link(self)
        self.links.append(link)
        return link.client

    async def accept(self) -> ChaosProxy:
        """Accept connections."""
        if self._listening is None:
            self._reservation.let_listen()
            endpoint = TCP4ServerEndpoint(self.reactor, self.port, interface=self._reservation.host)
            self._listening = await endpoint.listen(self)
        return self

    async def refuse(self) -> None:
        """Refuse new connections. Those that exist live on."""
        if self._listening is not None:
            listening, self._listening = self._listening, None
            await maybeDeferred(listening.stopListening)
            self._reservation.hold_again()

    async def close(self) -> None:
        """Refuse, reset every connection, and give the port back."""
        await self.refuse()
        for link in list(self.links):
            link.abort()
            await link.gone()
        self._reservation.release()

    # --- faults ---

    def rst(self) -> None:
        """End every connection with a TCP reset, at both sides."""
        for link in list(self.links):
            link.abort()

    def fin(self, direction: Direction | None = None) -> None:
        """End every connection, or one direction of it, in the orderly way (FIN)."""
        for pump in self._pumps(direction):
            pump.finish("fin")

    def hole(self, direction: Direction | None = None) -> None:
        """Let nothing pass any more, in both directions or in one, and tell nobody. New connections are accepted, and treated
        alike.
        """
        for each in (self.to_server, self.to_client):
            if direction is None or each is direction:
                each.is_hole = True
        for pump in self._pumps(direction):
            pump.kick()

    async def heal(self) -> None:
        """Be an honest proxy again: accept, and let pass what was held back, in order."""
        self.to_server.reset()
        self.to_client.reset()
        for pump in self._pumps(None):
            pump.heal()
        await self.accept()

    def inject(self, direction: Direction, data: bytes) -> None:
        """Add bytes to a direction of every connection, as if its source had sent them."""
        for pump in self._pumps(direction):
            pump.put(data)

    def _pumps(self, direction: Direction | None) -> list[Pump]:
        return [pump for link in self.links for pump in (link.up, link.down) if direction is None or pump.direction is direction]
