"""One implementation for programs with a reactor and without: operations are generators that say what they wait for.

An operation yields a :class:`Pause` or a :class:`Fetch`, gets the answer back, and returns its result. It is run by
:func:`run_blocking`, which sleeps, or by :func:`run_with_reactor`, which returns a Deferred and never blocks.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

_T = TypeVar("_T")

MAX_ANSWER = 64 * 1024 * 1024
"""The bytes of an HTTP answer that are read at most."""


@dataclass(frozen=True)
class Pause:
    """Wait ``seconds``. The answer is None."""

    seconds: float


@dataclass(frozen=True)
class Fetch:
    """Ask an HTTP server on this machine for ``path``. The answer is the body, whatever its status, or None: nobody answered
    within ``timeout`` seconds."""

    host: str
    port: int
    path: str
    timeout: float


Steps = Generator["Pause | Fetch", "bytes | None", _T]


def run_blocking(steps: Steps[_T]) -> _T:
    """Run an operation to its end, in this thread, and return its result."""
    answer: bytes | None = None
    try:
        while True:
            effect = steps.send(answer)
            answer = None
            if isinstance(effect, Pause):
                time.sleep(effect.seconds)
            else:
                answer = _fetch_blocking(effect)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    finally:
        steps.close()


def run_with_reactor(reactor: Any, steps: Steps[_T]) -> Deferred[_T]:
    """Start an operation now; the Deferred fires with its result. Cancelling it closes the generator, which cleans up."""

    async def run() -> _T:
        answer: bytes | None = None
        try:
            while True:
                effect = steps.send(answer)
                answer = None
                if isinstance(effect, Pause):
                    await deferLater(reactor, effect.seconds)
                else:
                    answer = await _fetch(reactor, effect)
        except StopIteration as stop:
            result: _T = stop.value
            return result
        finally:
            steps.close()

    return Deferred.fromCoroutine(run())


def _request(fetch: Fetch) -> bytes:
    return f"GET {fetch.path} HTTP/1.0\r\nHost: {fetch.host}\r\n\r\n".encode("ascii")


def _fetch_blocking(fetch: Fetch) -> bytes | None:
    connection = http.client.HTTPConnection(fetch.host, fetch.port, timeout=fetch.timeout)
    try:
        connection.request("GET", fetch.path)
        return connection.getresponse().read(MAX_ANSWER)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class _OneAnswer(Protocol):
    """Asks once, and collects what comes until the server closes, as HTTP/1.0 servers do after their answer."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = bytearray()
        self.body: Deferred[bytes | None] = Deferred(lambda _: self._abort())

    def connectionMade(self) -> None:
        cast(ITCPTransport, self.transport).write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > MAX_ANSWER:
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        _, separator, body = bytes(self._received).partition(b"\r\n\r\n")
        if not self.body.called:
            self.body.callback(body if separator else None)

    def _abort(self) -> None:
        cast(ITCPTransport, self.transport).abortConnection()


async def _fetch(reactor: Any, fetch: Fetch) -> bytes | None:
    endpoint = HostnameEndpoint(reactor, fetch.host, fetch.port, timeout=fetch.timeout)
    try:
        protocol = await connectProtocol(endpoint, _OneAnswer(_request(fetch)))
    except ConnectError:
        return None
    body: bytes | None = await protocol.body.addTimeout(fetch.timeout, reactor, onTimeoutCancel=lambda *_: None)
    return body
