"""What the cases of behaviour are written against, and the two places where they run: virtual time and memory, and real servers."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pynats_twisted import ClientOptions, NatsClient
from pynats_twisted.client.status import StatusEvent
from pynats_twisted.testing import InMemoryServer, MemoryNetwork, ServerProcess

if TYPE_CHECKING:
    _Case = TestCase
else:
    _Case = object

CONNECT: dict[str, Any] = {
    "verbose": False,
    "pedantic": False,
    "echo": True,
    "headers": True,
    "no_responders": True,
    "protocol": 1,
    "lang": "raw",
    "version": "1",
}


class RawClient(Protocol):
    """A client that sends what it is told, and keeps what comes.

    :ivar data: what came and was not taken yet. :ivar infos: the JSON of every INFO. :ivar closed: the server ended it.
    """

    def __init__(self) -> None:
        self.data = b""
        self.infos: list[dict[str, Any]] = []
        self.closed = False
        self._waiting: list[tuple[Callable[[], object], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self._check()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True
        self._check()

    def _check(self) -> None:
        for entry in list(self._waiting):
            condition, waiter = entry
            if self.closed or condition():
                self._waiting.remove(entry)
                waiter.callback(None)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition on what came, or for the end of the connection."""
        if not (self.closed or condition()):
            waiter: Deferred[None] = Deferred()
            self._waiting.append((condition, waiter))
            await waiter

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def take(self) -> list[bytes]:
        """The lines that came, without INFOs."""
        assert self.data.endswith(b"\r\n") or not self.data, self.data
        lines = self.data.split(b"\r\n")[:-1]
        self.data = b""
        self.infos += [json.loads(line[5:]) for line in lines if line.startswith(b"INFO ")]
        return [line for line in lines if not line.startswith(b"INFO ")]

    async def info(self) -> dict[str, Any]:
        """The next INFO; other lines stay where they are."""
        seen = len(self.infos)
        while len(self.infos) == seen:
            await self.until(lambda: b"INFO " in self.data and self.data.endswith(b"\r\n"))
            assert b"INFO " in self.data, f"the server closed the connection: {self.data!r}"
            self.data = b"".join(line + b"\r\n" for line in self.take())
        return self.infos[-1]

    async def exchange(self, data: bytes = b"") -> list[bytes]:
        """Send, and everything that the server says until it has read all of it."""
        expected = data.upper().count(b"PING\r\n") + 1
        self.send(data + b"PING\r\n")
        await self.until(lambda: self.data.count(b"PONG\r\n") >= expected and self.data.endswith(b"\r\n"))
        assert not self.closed, f"the server closed the connection: {self.data!r}"
        lines = self.take()
        lines.remove(b"PONG")
        return lines

    async def ending(self, data: bytes = b"") -> list[bytes]:
        """Send, and everything that the server says until it closes the connection."""
        self.send(data)
        await self.until(lambda: False)
        return self.take()

    async def lines(self, count: int) -> list[bytes]:
        """The next lines, as many as that."""
        await self.until(lambda: len([line for line in self.data.split(b"\r\n")[:-1] if not line.startswith(b"INFO ")]) >= count)
        return self.take()


class Harness(_Case):
    """What the cases use. Where they run is a subclass's business.

    :ivar reactor: time, and connections. :ivar events: what all clients told their listeners.
    """

    reactor: Any
    events: list[StatusEvent]

    def _make_server(self, limits: dict[str, Any], options: dict[str, Any]) -> Any:
        """A server that does not run yet; its port is known, and refuses."""
        raise AssertionError("a case runs in a subclass of a place")

    async def server(self, limits: dict[str, Any] | None = None, **options: Any) -> Any:
        """A server that runs.

        :param limits: as in a server's configuration; ``ping_interval`` in seconds.
        :param options: the ways to authenticate, as both kinds of server take them.
        """
        server = self._make_server(limits or {}, options)
        await maybeDeferred(server.start)
        return server

    async def do(self, function: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Call a server's method, which takes time where it is a real one."""
        await maybeDeferred(function, *args, **options)

    async def sleep(self, seconds: float) -> None:
        await deferLater(self.reactor, seconds)

    async def eventually(self, condition: Callable[[], object], what: str = "the condition") -> None:
        """Wait for something; five seconds at most."""
        end = self.reactor.seconds() + 5.0
        while not condition():
            if self.reactor.seconds() > end:
                self.fail(f"{what} did not come true in 5 s")
            await self.sleep(0.005)

    async def dial(self, server: Any) -> RawClient:
        """A raw connection that has got INFO."""
        endpoint = TCP4ClientEndpoint(self.reactor, server.host, server.port)
        raw = await connectProtocol(endpoint, RawClient())
        self.addCleanup(self._hang_up, raw)
        await raw.info()
        return raw

    def _hang_up(self, raw: RawClient) -> Deferred[None] | None:
        if raw.closed:
            return None
        assert raw.transport is not None
        raw.transport.abortConnection()
        return Deferred.fromCoroutine(raw.until(lambda: False))

    async def raw(self, server: Any, **connect: Any) -> RawClient:
        """A raw connection past the handshake."""
        raw = await self.dial(server)
        await raw.exchange(connect_line(**connect))
        # The second INFO comes behind the first PONG, and may come apart from it.
        if connect.get("protocol", 1) == 1 and len(raw.infos) < 2:
            await raw.info()
        raw.take()
        return raw

    async def refused(self, server: Any, data: bytes, **connect: Any) -> list[bytes]:
        """What a server says to this before it closes the connection."""
        raw = await self.raw(server, **connect)
        lines = await raw.ending(data)
        self.assertTrue(raw.closed)
        return lines

    def client(self, server: Any, **options: Any) -> NatsClient:
        """A client that was not started."""
        urls = [each if isinstance(each, str) else each.url for each in (server if isinstance(server, list) else [server])]
        client = NatsClient(self.reactor, ClientOptions(servers=urls, **{"shuffle_servers": False, **options}))
        client.add_listener(self.events.append)
        self.addCleanup(client.close)
        return client

    async def connect(self, server: Any, **options: Any) -> NatsClient:
        """A client that is connected."""
        return await self.client(server, **options).start()

    def told(self, kind: type[Any]) -> list[Any]:
        """The events of one kind that clients told."""
        return [event for event in self.events if isinstance(event, kind)]


def connect_line(**options: Any) -> bytes:
    """CONNECT, with the options of a modern client and these."""
    return b"CONNECT " + json.dumps({**CONNECT, **options}).encode() + b"\r\n"


class ProcessPlace(Harness, TestCase):
    """Real servers, and real time."""

    timeout = 30

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor = reactor
        self.events = []

    def _make_server(self, limits: dict[str, Any], options: dict[str, Any]) -> ServerProcess:
        config = dict(limits)
        if "ping_interval" in config:
            config["ping_interval"] = f"{round(config['ping_interval'] * 1000)}ms"
        if "auth_timeout" in config:
            config["authorization"] = {"timeout": config.pop("auth_timeout")}
        server = ServerProcess(self.reactor, config, **options)
        self.addCleanup(server.close)
        return server


class MemoryPlace(Harness, SynchronousTestCase):
    """Servers in memory, and virtual time. The end of each case checks that nothing is left behind."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in dir(cls):
            case = getattr(cls, name, None) if name.startswith("test") else None
            if inspect.iscoroutinefunction(case):
                setattr(cls, name, _in_virtual_time(case))

    def setUp(self) -> None:
        self.reactor = self.network = MemoryNetwork()
        self.events = []
        self._ports = 4222
        # Cleanups run in reverse order: this one is the last.
        self.addCleanup(self._check_leftovers)

    def addCleanup(self, function: Any, /, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        super().addCleanup(self._clean_up, function, args, kwargs)

    def _clean_up(self, function: Any, args: Any, kwargs: Any) -> None:
        result = function(*args, **kwargs)
        if isinstance(result, Deferred):
            self.network.run(result)

    def _check_leftovers(self) -> None:
        self.network.advance()
        self.assertEqual(self.network.leftovers(), [])

    def _make_server(self, limits: dict[str, Any], options: dict[str, Any]) -> InMemoryServer:
        server = self.network.server(f"127.0.0.1:{self._ports}", **limits, **options)
        self._ports += 1
        # As a process that was not started: nobody listens.
        server.stop()
        return server


def _in_virtual_time(case: Callable[[Any], Any]) -> Callable[[Any], None]:
    @functools.wraps(case)
    def run(self: Any) -> None:
        self.network.run(case(self))

    return run
