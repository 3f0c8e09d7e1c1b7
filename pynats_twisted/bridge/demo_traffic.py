"""What makes the demo lively: a service that answers, a generator that sends, and a log of what travels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from pynats_twisted.client.client import NatsClient
    from pynats_twisted.protocol.message import Msg

TICK: Final = 5.0
"""Seconds between two messages of the generator."""

_log = Logger()


class EchoService:
    """Answers requests on ``demo.echo.NAME`` with the name and the request's payload, and logs what travels in the demo.

    :param client: a connected client of its own, apart from the bridge's.
    """

    def __init__(self, client: NatsClient) -> None:
        client.subscribe("demo.echo.*", self.answer)
        client.subscribe("demo.events.*", self.show)
        client.subscribe("demo.lines", self.show)

    async def answer(self, msg: Msg) -> None:
        """Answer one request."""
        self.show(msg)
        name = msg.subject.rpartition(".")[2].encode()
        await msg.respond(name + b": " + msg.data.rstrip(b"\n") + b"\n", headers={"Content-Type": "text/plain; charset=utf-8"})

    def show(self, msg: Msg) -> None:
        """Log one message."""
        _log.info("{subject}: {payload}", subject=msg.subject, payload=msg.data[:200].decode("utf-8", "replace"))


class _Sender(Protocol):
    """The generator's connection to the ``lines-in`` route."""

    def __init__(self) -> None:
        self.up = False
        self.answered = 0

    def connectionMade(self) -> None:
        """The connection is up."""
        self.up = True

    def dataReceived(self, data: bytes) -> None:
        """The route has confirmed lines."""
        self.answered += data.count(b"OK\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended."""
        self.up = False


class _Senders(Factory):
    noisy = False
    protocol = _Sender


class Generator:
    """Sends a numbered line every few seconds over TCP, as a device would, and connects again when it has to.

    :param reactor: the reactor.
    :param port: the port of the ``lines-in`` route on loopback.
    """

    def __init__(self, reactor: Any, port: int) -> None:
        self._endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self._sender: _Sender | None = None
        self._connecting: Deferred[Any] | None = None
        self._ticks = 0
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor

    def start(self) -> None:
        """Begin."""
        self._loop.start(TICK).addErrback(lambda failure: _log.failure("the generator failed", failure))

    def stop(self) -> Deferred[None]:
        """End."""
        if self._loop.running:
            self._loop.stop()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._sender is not None and self._sender.transport is not None:
            self._sender.transport.loseConnection()
        return succeed(None)

    def _tick(self) -> None:
        if self._sender is not None and self._sender.up:
            self._send()
        elif self._connecting is None:
            self._connecting = self._endpoint.connect(_Senders())
            self._connecting.addBoth(self._connected)

    def _send(self) -> None:
        assert self._sender is not None
        self._ticks += 1
        transport: Any = self._sender.transport
        transport.write(b"tick %d\n" % self._ticks)

    def _connected(self, result: Any) -> None:
        self._connecting = None
        # When it could not connect, the next tick tries again.
        self._sender = None if isinstance(result, Failure) else result
        if self._sender is not None:
            self._send()
