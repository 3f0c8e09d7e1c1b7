"""A target of webhooks: an HTTP server that answers as a test says, down to the bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HANG = b""
"""No answer at all."""


class Received(NamedTuple):
    """A request that came."""

    line: str
    headers: dict[str, list[str]]
    body: bytes
    at: float
    connection: TargetConnection

    def header(self, name: str) -> str:
        """The only value of a header."""
        (value,) = self.headers[name]
        return value

    @property
    def id(self) -> str:
        """Its ``webhook-id``."""
        return self.header("webhook-id")


Answers = Callable[[Received], Any]


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """The bytes of a response."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class TargetConnection(Protocol):
    """One connection of the bridge."""

    transport: Any

    def __init__(self, target: Target) -> None:
        self._target = target
        self._data = b""

    def connectionMade(self) -> None:
        self._target.open.add(self)
        self._target.connections += 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._target.open.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        while True:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            line, *fields = head.decode("utf-8").split("\r\n")
            headers: dict[str, list[str]] = {}
            for field in fields:
                name, _, value = field.partition(": ")
                headers.setdefault(name.lower(), []).append(value)
            length = int(headers["content-length"][0])
            if len(rest) < length:
                return
            self._data = rest[length:]
            self._target.take(Received(line, headers, rest[:length], self._target.reactor.seconds(), self))


class Target:
    """The server.

    :ivar received: every request that came.
    :ivar answers: called with each request: what to send, or None to cut the connection.
    :ivar connections: connections that were made.
    """

    def __init__(self, reactor: Any, answers: Answers | bytes = OK) -> None:
        self.reactor = reactor
        self.received: list[Received] = []
        self.open: set[TargetConnection] = set()
        self.connections = 0
        self.answers: Answers = answers if callable(answers) else lambda request: answers
        self.port: IListeningPort | None = None
        self.number = 0

    def listen(self, context: Any = None) -> Target:
        """Listen on loopback: anew on the same port after :meth:`close`."""
        factory = Factory.forProtocol(lambda: TargetConnection(self))
        if context is None:
            self.port = self.reactor.listenTCP(self.number, factory, interface="127.0.0.1")
        else:
            self.port = self.reactor.listenSSL(self.number, factory, context, interface="127.0.0.1")
        self.number = self.port.getHost().port  # type: ignore[union-attr]
        return self

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.number}/hook"

    def take(self, request: Received) -> None:
        self.received.append(request)
        response = self.answers(request)
        if response is None:
            request.connection.transport.abortConnection()
        elif response:
            request.connection.transport.write(response)

    @property
    def bodies(self) -> list[bytes]:
        """What came."""
        return [request.body for request in self.received]

    async def close(self) -> None:
        """Be down: refuse, and cut what is open."""
        port, self.port = self.port, None
        for connection in list(self.open):
            connection.transport.abortConnection()
        if port is not None:
            await port.stopListening()
