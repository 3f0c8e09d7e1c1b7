"""What makes the demo lively: a service that answers, a generator that sends, and a log of what travels."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from pynats_twisted.client.client import NatsClient
    from pynats_twisted.protocol.message import Msg

TICK: Final = 0.5
"""Seconds between two messages of each kind."""

GENERATOR: Final = "generator"
"""Stands in everything that the generator sends."""

_log = Logger()


class EchoService:
    """Answers requests on ``demo.echo.NAME`` with the name and the request's payload, and logs what travels in the demo.

    What the generator sends is not logged: it would hide what its user sends.

    :param client: a connected client of its own, apart from the bridge's.
    """

    def __init__(self, client: NatsClient) -> None:
        client.subscribe("demo.echo.*", self.answer)
        for subject in ("demo.events.*", "demo.lines.*", "demo.logs.*"):
            client.subscribe(subject, self.show)

    async def answer(self, msg: Msg) -> None:
        """Answer one request."""
        self.show(msg)
        name = msg.subject.rpartition(".")[2].encode()
        await msg.respond(name + b": " + msg.data.rstrip(b"\n") + b"\n", headers={"Content-Type": "text/plain; charset=utf-8"})

    def show(self, msg: Msg) -> None:
        """Log one message."""
        if GENERATOR not in msg.subject and GENERATOR.encode() not in msg.data:
            _log.info("{subject}: {payload}", subject=msg.subject, payload=msg.data[:200].decode("utf-8", "replace"))


class _Connection(Protocol):
    """One connection of the generator. What comes back is read and counted."""

    def __init__(self) -> None:
        self.up = False
        self.received = 0

    def connectionMade(self) -> None:
        """The connection is up."""
        self.up = True

    def dataReceived(self, data: bytes) -> None:
        """The bridge has answered."""
        self.received += len(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended."""
        self.up = False


class _Connections(Factory):
    noisy = False
    protocol = _Connection


class Sender:
    """Keeps a connection, and sends on it.

    :param reactor: the reactor.
    :param port: a port on loopback.
    :param make: what to send, by its number from 1; nothing is sent where it is empty.
    """

    def __init__(self, reactor: Any, port: int, make: Callable[[int], bytes]) -> None:
        self._endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self._make = make
        self._count = 0
        self._connection: _Connection | None = None
        self._connecting: Deferred[Any] | None = None

    def send(self) -> None:
        """Send the next, or connect."""
        if self._connection is not None and self._connection.up:
            self._send()
        elif self._connecting is None:
            self._connecting = self._endpoint.connect(_Connections())
            self._connecting.addBoth(self._connected)

    def _send(self) -> None:
        assert self._connection is not None
        self._count += 1
        data = self._make(self._count)
        if data:
            transport: Any = self._connection.transport
            transport.write(data)

    def _connected(self, result: Any) -> None:
        self._connecting = None
        # When it could not connect, the next call tries again.
        self._connection = None if isinstance(result, Failure) else result
        if self._connection is not None:
            self._send()

    def close(self) -> None:
        """Close the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.loseConnection()


class Listener(Sender):
    """Asks for events once, and reads what comes, as a browser does.

    :param reactor: the reactor.
    :param port: a port on loopback.
    :param path: the path.
    """

    def __init__(self, reactor: Any, port: int, path: str) -> None:
        super().__init__(reactor, port, lambda _: b"")
        self._request = http_request("GET", path)

    def _connected(self, result: Any) -> None:
        super()._connected(result)
        if self._connection is not None:
            transport: Any = self._connection.transport
            transport.write(self._request)


class Datagrams:
    """Sends datagrams.

    :param reactor: the reactor.
    :param port: a port on loopback.
    :param make: what to send, by its number from 1.
    """

    def __init__(self, reactor: Any, port: int, make: Callable[[int], bytes]) -> None:
        self._protocol = DatagramProtocol()
        self._protocol.noisy = False
        self._reactor = reactor
        self._to = ("127.0.0.1", port)
        self._make = make
        self._count = 0
        self._port: Any = None

    def send(self) -> None:
        """Send the next."""
        if self._port is None:
            self._port = self._reactor.listenUDP(0, self._protocol, interface="127.0.0.1")
        self._count += 1
        transport: Any = self._protocol.transport
        transport.write(self._make(self._count), self._to)

    def close(self) -> Deferred[Any]:
        """Close the socket."""
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)


def http_request(method: str, path: str, body: bytes = b"") -> bytes:
    """An HTTP request to loopback, on a connection that stays open."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("ascii") + body


def orders_and_questions(count: int) -> bytes:
    """An order for the webhook, by way of ``http-publish``, and a question for the service that echoes."""
    order = b'{"order": %d, "from": "%s"}' % (count, GENERATOR.encode())
    return http_request("POST", "/events/orders", order) + http_request("POST", f"/echo/{GENERATOR}", b"%d" % count)


def line(count: int) -> bytes:
    """What a scale says."""
    return b"%s: %.1f kg\n" % (GENERATOR.encode(), 12 + count % 10 / 10)


def log_line(count: int) -> bytes:
    """What a machine logs, as of RFC 5424: facility ``local0``, severities from ``warning`` to ``info``."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f"<{16 * 8 + 4 + count % 3}>1 {now} {GENERATOR} demo - - - tick {count}".encode("ascii")


class Generator:
    """Sends to each route that can be sent to, listens to the one that can be listened to, and connects again when it has to.

    :param reactor: the reactor.
    :param http: the port of the HTTP listener on loopback.
    :param lines: the port of the ``lines-in`` route.
    :param syslog: the UDP port of the ``syslog`` route.
    """

    def __init__(self, reactor: Any, http: int, lines: int, syslog: int) -> None:
        self._senders: Sequence[Sender | Datagrams] = (
            Listener(reactor, http, "/live/events/orders"),
            Sender(reactor, http, orders_and_questions),
            Sender(reactor, lines, line),
            Datagrams(reactor, syslog, log_line),
        )
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor

    def start(self) -> None:
        """Begin."""
        self._loop.start(TICK).addErrback(lambda failure: _log.failure("the generator failed", failure))

    async def stop(self) -> None:
        """End."""
        if self._loop.running:
            self._loop.stop()
        for sender in self._senders:
            await maybeDeferred(sender.close)

    def _tick(self) -> None:
        for sender in self._senders:
            sender.send()
