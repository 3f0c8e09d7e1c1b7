"""A network in memory, in virtual time: a reactor for programs under test, with NATS servers on it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from twisted.internet.address import HostnameAddress, IPv4Address
from twisted.internet.base import BaseConnector
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import (
    IConnector,
    IHostnameResolver,
    IListeningPort,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from pynats_twisted.errors import ConfigurationError

from .memory_server import InMemoryServer
from .memory_transport import MemoryLink

_T = TypeVar("_T")

# Turns without time passing after which something goes round in circles.
_MAX_TURNS = 100_000


@implementer(IReactorTime, IReactorTCP, IReactorPluggableNameResolver)
class MemoryNetwork(Clock):
    """A reactor whose time is a clock that tests advance, and whose connections lead to servers in memory.

    Give it to :func:`pynats_twisted.connect` as the reactor. Nothing happens by itself: :meth:`run` and :meth:`advance` let
    time pass. Whoever connects to a place where nothing is gets a refused connection; every host name exists.

    ::

        network = MemoryNetwork()
        server = network.server("a:4222")
        nc = network.run(connect(network, "nats://a:4222"))
        nc.publish("orders", b"tea")
        network.advance(0)
        server.published("orders")

    :param start_time: seconds since the epoch for the expiry of JWTs; now by default. It goes on with the network's time.
    :ivar split_at: every write is split behind that many bytes, and the two parts come apart; 0 for no split.
    :ivar latency: seconds that bytes travel.
    :ivar dials: each attempt to connect, as (seconds to the microsecond, ``host:port``).
    :ivar links: all connections that are open, in the order in which they were made.
    """

    def __init__(self, *, start_time: float | None = None) -> None:
        super().__init__()
        self.split_at = 0
        self.latency = 0.0
        self.dials: list[tuple[float, str]] = []
        self.links: list[MemoryLink] = []
        self.servers: dict[str, InMemoryServer] = {}
        self.nameResolver: IHostnameResolver = _EveryName()
        self._start_time = time.time() if start_time is None else start_time
        self._places: dict[str, IProtocolFactory] = {}
        self._refused: set[str] = set()
        self._black_holes: set[str] = set()
        self._watched: list[Deferred[Any]] = []
        self._next_port = 50_000

    # --- what is there ---------------------------------------------------------------------------------------

    def server(self, address: str = "127.0.0.1:4222", **options: Any) -> InMemoryServer:
        """The server at ``host:port``; it is made when there is none yet.

        :param options: see :class:`~.server_core.MemoryServerOptions`; also ``rng``, as in :class:`~.server_core.ServerCore`.
        :raises ConfigurationError: the address is none, an option is unknown, or there are options for a server that exists.
        """
        host, port = _split(address)
        known = self.servers.get(address)
        if known is not None:
            if options:
                raise ConfigurationError(f"there is a server at {address} already; its options are changed with reload()")
            return known
        wall_clock = self._wall_clock
        options.setdefault("name", address)
        server = self.servers[address] = InMemoryServer(self, wall_clock=wall_clock, host=host, port=port, **options)
        self._places[address] = server
        return server

    def cluster(self, *addresses: str, **options: Any) -> list[InMemoryServer]:
        """Servers that know each other: messages and gossip go from one to the other."""
        servers = [self.server(address, **options) for address in addresses]
        servers[0].join(*servers[1:])
        return servers

    def listen(self, address: str, factory: IProtocolFactory) -> None:
        """Put something else there than a NATS server: the factory builds the protocol of each connection."""
        _split(address)
        self._places[address] = factory

    def refuse(self, address: str) -> None:
        """Connections to there are refused, until :meth:`accept`. Those that are open stay."""
        self._refused.add(address)

    def black_hole(self, address: str) -> None:
        """Connections to there are neither made nor refused, until :meth:`accept`."""
        self._black_holes.add(address)

    def accept(self, address: str) -> None:
        """Connections to there are made again."""
        self._refused.discard(address)
        self._black_holes.discard(address)

    def links_to(self, address: str) -> list[MemoryLink]:
        """The open connections to there."""
        return [link for link in self.links if link.address == address]

    def cut(self, address: str) -> None:
        """Break all connections to there."""
        for link in self.links_to(address):
            link.cut()

    def _wall_clock(self) -> float:
        return self._start_time + self.seconds()

    # --- time ------------------------------------------------------------------------------------------------

    def advance(self, amount: float = 0.0) -> None:
        """Let time pass, and all happen that is due in it: every delayed call finds the time for which it was asked.

        With 0, the default, everything happens that needs no time: what was written arrives, and what is answered to it.
        """
        end = self.seconds() + amount
        turns = 0
        while self.calls and self.calls[0].getTime() <= end:
            # One call at a time, as Clock.advance() does it, which would not come back from a call that makes new ones for ever.
            call = self.calls.pop(0)
            turns = 0 if call.getTime() > self.rightNow else turns + 1
            if turns > _MAX_TURNS:
                raise AssertionError(f"this goes on for ever without time passing: {call}")
            self.rightNow = max(self.rightNow, call.getTime())
            call.called = 1
            call.func(*call.args, **call.kw)
        self.rightNow = max(self.rightNow, end)

    def run(self, awaitable: Awaitable[_T], timeout: float = 60.0) -> _T:
        """Let time pass until a Deferred or coroutine is done, and give its result, or raise its error.

        :param timeout: the virtual seconds that it may take; they take no real time.
        :raises AssertionError: it was not done by then.
        """
        deferred: Any = awaitable if isinstance(awaitable, Deferred) else ensureDeferred(_awaited(awaitable))
        results: list[Any] = []
        deferred.addBoth(results.append)
        end = self.seconds() + timeout
        self.advance(0)
        while not results:
            if not self.calls or self.calls[0].getTime() > end:
                reason = f"in {timeout:g} s" if self.calls else "and nothing is left that could end it"
                deferred.addErrback(lambda _: None)
                deferred.cancel()
                raise AssertionError(f"it did not end {reason}: {awaitable!r}")
            self.advance(max(0.0, self.calls[0].getTime() - self.seconds()))
        if isinstance(results[0], Failure):
            results[0].raiseException()
        result: _T = results[0]
        return result

    def start(self, awaitable: Awaitable[_T]) -> Deferred[_T]:
        """Let a coroutine or Deferred go on beside the test, such as a worker's main function.

        :func:`~pynats_twisted.testing.connected_client` fails the test when it has not ended in the end, some time after the
        client was closed.
        """
        deferred: Any = awaitable if isinstance(awaitable, Deferred) else ensureDeferred(_awaited(awaitable))
        self._watched.append(deferred)
        self.advance(0)
        return deferred  # type: ignore[no-any-return]

    def leftovers(self) -> list[str]:
        """What is not over, in words: delayed calls, open connections, and what :meth:`start` began."""
        found = [f"a delayed call: {call}" for call in self.getDelayedCalls()]
        found += [f"a connection: {link!r}" for link in self.links]
        for deferred in self._watched:
            result = getattr(deferred, "result", None)
            if not deferred.called:
                found.append(f"somebody waits: {deferred!r}")
            elif isinstance(result, Failure):
                found.append(f"a failure that nobody handled: {result.value!r}")
                deferred.addErrback(lambda _: None)
        return found

    # --- what Twisted calls ----------------------------------------------------------------------------------

    def connectTCP(  # noqa: N802
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,  # noqa: N803
    ) -> IConnector:
        """Connect to a place on this network."""
        connector = _MemoryConnector(self, host, port, factory, timeout)
        connector.connect()
        return connector

    def listenTCP(  # noqa: N802
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Put a factory at a port of ``interface``, ``127.0.0.1`` by default; 0 is a free port."""
        if not port:
            self._next_port += 1
            port = self._next_port
        listening = _MemoryPort(self, interface or "127.0.0.1", port, factory)
        listening.startListening()
        return listening

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:  # noqa: N802
        """Resolve names another way than each to itself."""
        previous, self.nameResolver = self.nameResolver, resolver
        return previous

    def stop_listening(self, address: str) -> None:
        """Nothing is at this place any more. Connections that are open stay."""
        self._places.pop(address, None)

    def dial(self, connector: _MemoryConnector) -> None:
        """An attempt to connect arrives."""
        address = connector.address
        if not connector.pending or address in self._black_holes:
            return
        factory = self._places.get(address)
        server_protocol = None
        client = IPv4Address("TCP", "127.0.0.1", self._next_port)
        if factory is not None and address not in self._refused:
            self._next_port += 1
            server_protocol = factory.buildProtocol(client)
        if server_protocol is None:
            connector.fail(ConnectionRefusedError())
            return
        link = MemoryLink(self, address, client, IPv4Address("TCP", connector.host, connector.port))
        self.links.append(link)
        link.client.on_lost = lambda reason: self._ended(link, connector, reason)
        connector.made(link, server_protocol)

    def _ended(self, link: MemoryLink, connector: _MemoryConnector, reason: Failure) -> None:
        self.links.remove(link)
        connector.connectionLost(reason)


class _MemoryConnector(BaseConnector):
    """Twisted's connector, to a place on the network."""

    def __init__(self, network: MemoryNetwork, host: str, port: int, factory: Any, timeout: float | None) -> None:
        self.host = host
        self.port = port
        self.pending = False
        self._network = network
        super().__init__(factory, timeout, network)  # type: ignore[arg-type]

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def _makeTransport(self) -> Any:  # noqa: N802
        self.pending = True
        self._network.dials.append((round(self._network.seconds(), 6), self.address))
        self._network.callLater(self._network.latency, self._network.dial, self)
        return _Attempt(self)

    def getDestination(self) -> IPv4Address:
        return IPv4Address("TCP", self.host, self.port)

    def fail(self, error: BaseException) -> None:
        if self.pending:
            self.pending = False
            self.connectionFailed(Failure(error))

    def made(self, link: MemoryLink, server_protocol: Any) -> None:
        self.pending = False
        self.transport: Any = link.client
        protocol = self.buildProtocol(link.client.getPeer())
        if protocol is None:
            link.client.protocol = link.server.protocol = server_protocol
            link.cut()
        else:
            link.connect(protocol, server_protocol)


class _Attempt:
    """What stands for a transport while a connection is being made."""

    def __init__(self, connector: _MemoryConnector) -> None:
        self._connector = connector

    def failIfNotConnected(self, error: BaseException) -> None:  # noqa: N802
        self._connector.fail(error)

    def loseConnection(self) -> None:
        self._connector.fail(ConnectionRefusedError("the attempt was given up"))


@implementer(IListeningPort)
class _MemoryPort:
    """A factory at a place on the network, as Twisted's ports are."""

    def __init__(self, network: MemoryNetwork, host: str, port: int, factory: IProtocolFactory) -> None:
        self._network = network
        self._factory = factory
        self._host = IPv4Address("TCP", host, port)

    def startListening(self) -> None:  # noqa: N802
        self._factory.doStart()
        self._network.listen(f"{self._host.host}:{self._host.port}", self._factory)

    def stopListening(self) -> Deferred[None]:  # noqa: N802
        self._network.stop_listening(f"{self._host.host}:{self._host.port}")
        self._factory.doStop()
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return self._host


@implementer(IHostnameResolver)
class _EveryName:
    """Every name is its own address."""

    def resolveHostName(  # noqa: N802
        self,
        resolutionReceiver: Any,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[Any] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> Any:
        resolution = HostnameAddress(hostName.encode(), portNumber)
        resolutionReceiver.resolutionBegan(resolution)
        resolutionReceiver.addressResolved(IPv4Address("TCP", hostName, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


async def _awaited(awaitable: Awaitable[_T]) -> _T:
    return await awaitable


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(f"{address!r} is not a place on the network: it has to be host:port, such as 'a:4222'")
    return host.strip("[]"), int(port)
