"""The HTTP/1.1 client of a webhook: one target, a pool of connections to it, and an answer for every request.

Redirects are not followed, nothing is decoded, bodies of responses are dropped, and each request is bounded in time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as WaitTimeout
from twisted.internet.error import ConnectionAborted, ConnectionClosed, ConnectionDone, ConnectionLost, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from pynats_twisted.bridge.webhook_response import ResponseError, ResponseReader

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, ITCPTransport

IDLE_TIMEOUT: Final = 4.0
"""Seconds that a connection is kept without a request. Many servers close theirs after five."""


class Answer(NamedTuple):
    """What became of a request.

    :ivar status: the final status that came, or 0 when none did.
    :ivar error: what went wrong, in words; empty when a whole response came. With a status of 2xx the request has succeeded even so.
    :ivar kind: the same as a word: ``connect``, ``dns``, ``private-address``, ``tls``, ``timeout``, ``reset``,
        ``bad-response`` or ``closed``.
    :ivar retry_after: seconds for which the target wants to be left alone.
    """

    status: int
    error: str = ""
    kind: str = ""
    retry_after: float = 0.0

    @property
    def is_success(self) -> bool:
        """Whether the target has taken the request."""
        return 200 <= self.status < 300


class WebhookClient:
    """Sends requests to one target.

    :param reactor: for time.
    :param endpoint: connects to the target.
    :param timeout: seconds for one request, connecting included.
    :param connect_timeout: seconds of it for the connection.
    :param response_limit: most bytes of a response's body.
    :param refused: tells which addresses of the target were refused as private.

    :ivar connections: connections that are open.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        *,
        timeout: float,
        connect_timeout: float,
        response_limit: int,
        refused: Callable[[], list[str]] = list,
    ) -> None:
        self.reactor = reactor
        self.response_limit = response_limit
        self.connections: set[WebhookConnection] = set()
        self._endpoint = endpoint
        self._timeout = timeout
        self._connect_timeout = min(connect_timeout, timeout)
        self._refused = refused
        self._idle: list[WebhookConnection] = []
        self._exchanges: set[Exchange] = set()
        self._is_closed = False
        self._sweep: IDelayedCall | None = None
        self._factory = Factory.forProtocol(lambda: WebhookConnection(self))
        self._factory.noisy = False

    def send(self, request: bytes) -> Deferred[Answer]:
        """Send a request, as it goes over the wire.

        :returns: fires with the answer. It does not fail, but for being cancelled: then the connection is cut.
        """
        if self._is_closed:
            return succeed(Answer(0, "the route is stopped", "closed"))
        exchange = Exchange(self, request)
        self._exchanges.add(exchange)
        exchange.deadline = self.reactor.callLater(self._timeout, exchange.time_over)
        self.begin(exchange)
        return exchange.answer

    def begin(self, exchange: Exchange, fresh: bool = False) -> None:
        """Give a request to a connection.

        :param fresh: to a new one in any case.
        """
        if self._idle and not fresh:
            self._idle.pop().begin(exchange)
            return
        connecting = exchange.connecting = self._endpoint.connect(self._factory).addTimeout(self._connect_timeout, self.reactor)
        connecting.addCallbacks(exchange.connected, exchange.not_connected)

    def knock(self) -> Deferred[bool]:
        """Whether the target takes connections. Nothing is sent; the connection is kept for the next request.

        :returns: fires with True or False. Cancelling it ends the attempt.
        """
        connecting: Deferred[Any] = self._endpoint.connect(self._factory).addTimeout(self._connect_timeout, self.reactor)
        return connecting.addCallbacks(self._is_there, self._is_not_there)

    def _is_there(self, connection: WebhookConnection) -> bool:
        self.is_idle(connection)
        return True

    def _is_not_there(self, failure: Failure) -> bool:
        return False

    def describe_failure(self, failure: Failure) -> tuple[str, str]:
        """What kept a connection from being made or open: a word, and the words."""
        refused = self._refused()
        if failure.check(DNSLookupError) and refused:
            return "private-address", f"the target has the private address {refused[0]}, which allow_private does not allow"
        if failure.check(DNSLookupError):
            return "dns", failure.getErrorMessage()
        if failure.check(ConnectTimeout, WaitTimeout):
            return "connect", f"no connection within {self._connect_timeout:g} s"
        if failure.check(ConnectionClosed, ConnectionDone, ConnectionLost, ConnectionAborted):
            return "reset", failure.getErrorMessage()
        module = getattr(failure.type, "__module__", "")
        if module.startswith("OpenSSL"):
            return "tls", failure.getErrorMessage()
        if module.startswith("service_identity"):
            return "tls", "the certificate is for another host"
        return "connect", failure.getErrorMessage()

    def is_idle(self, connection: WebhookConnection) -> None:
        """A connection has nothing to do."""
        if self._is_closed:
            connection.abort()
            return
        connection.idle_until = self.reactor.seconds() + IDLE_TIMEOUT
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self.reactor.callLater(IDLE_TIMEOUT, self._close_idle)

    def is_over(self, exchange: Exchange) -> None:
        """A request has its answer, or was cancelled."""
        self._exchanges.discard(exchange)

    def is_lost(self, connection: WebhookConnection) -> None:
        """A connection is closed."""
        self.connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _close_idle(self) -> None:
        self._sweep = None
        now = self.reactor.seconds()
        # The first ones have been idle for longest.
        while self._idle and self._idle[0].idle_until <= now:
            self._idle.pop(0).close()
        if self._idle:
            self._sweep = self.reactor.callLater(self._idle[0].idle_until - now, self._close_idle)

    def close(self) -> None:
        """Close every connection, for good; what is under way ends with ``closed``."""
        self._is_closed = True
        for exchange in list(self._exchanges):
            exchange.cut("the route is stopped", "closed")
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._idle.clear()
        for connection in list(self.connections):
            connection.abort()


class Exchange:
    """One request and its response."""

    __slots__ = ("answer", "client", "connecting", "connection", "deadline", "reader", "request", "sent_again", "touched")

    def __init__(self, client: WebhookClient, request: bytes) -> None:
        self.client = client
        self.request = request
        self.answer: Deferred[Answer] = Deferred(self._cancelled)
        self.deadline: IDelayedCall | None = None
        self.connecting: Deferred[Any] | None = None
        self.connection: WebhookConnection | None = None
        self.reader = ResponseReader(client.response_limit)
        # Something of a response has come; and: it was given to a second connection, because the first was stale.
        self.touched = False
        self.sent_again = False

    def connected(self, connection: WebhookConnection) -> None:
        """There is a connection for it."""
        self.connecting = None
        connection.begin(self)

    def not_connected(self, failure: Failure) -> None:
        """There is none."""
        self.connecting = None
        if self.deadline is not None and not failure.check(CancelledError):
            kind, text = self.client.describe_failure(failure)
            self.end(text, kind)

    def end(self, error: str = "", kind: str = "") -> None:
        """It is over: well, or with an error."""
        deadline, self.deadline = self.deadline, None
        if deadline is None:
            return
        if deadline.active():
            deadline.cancel()
        self.connection = None
        self.client.is_over(self)
        status = self.reader.status
        # Interim responses are none, and a final one that broke off counts when it says success.
        status = status if status >= 200 else 0
        self.answer.callback(Answer(status, error, kind, self.reader.retry_after(self.client.reactor.seconds())))

    def time_over(self) -> None:
        """It took too long."""
        kind, text = ("timeout", "no response in time") if self.connecting is None else ("connect", "no connection in time")
        self.cut(text, kind)

    def cut(self, error: str, kind: str) -> None:
        """End it with an error, and its connection too."""
        self._cut()
        self.end(error, kind)

    def _cancelled(self, _: Deferred[Answer]) -> None:
        self.client.is_over(self)
        deadline, self.deadline = self.deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()
        self._cut()

    def _cut(self) -> None:
        connecting, self.connecting = self.connecting, None
        connection, self.connection = self.connection, None
        if connecting is not None:
            connecting.cancel()
        if connection is not None:
            connection.give_up()


class WebhookConnection(Protocol):
    """One connection to the target, for one request at a time.

    :ivar idle_until: when it is to be closed if nothing is to be sent.
    """

    transport: ITCPTransport

    def __init__(self, client: WebhookClient) -> None:
        self.idle_until = 0.0
        self._client = client
        self._exchange: Exchange | None = None
        self._served = 0

    def connectionMade(self) -> None:
        self._client.connections.add(self)
        self.transport.setTcpNoDelay(True)

    def begin(self, exchange: Exchange) -> None:
        """Send a request."""
        self._exchange = exchange
        exchange.connection = self
        self.transport.write(exchange.request)

    def dataReceived(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            # Nothing was asked.
            self.abort()
            return
        exchange.touched = True
        reader = exchange.reader
        try:
            reader.receive(data)
        except ResponseError as error:
            self._exchange = None
            self.abort()
            exchange.end(str(error), "bad-response")
            return
        if reader.is_complete:
            self._exchange = None
            self._served += 1
            if reader.keep_alive:
                self._client.is_idle(self)
            else:
                self.close()
            exchange.end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._client.is_lost(self)
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.deadline is None:
            return
        if self._served and not exchange.touched and not exchange.sent_again:
            # The target closed it while the request was on its way. The id of the message lets it know one that it has got twice.
            exchange.sent_again = True
            exchange.connection = None
            self._client.begin(exchange, fresh=True)
            return
        kind, text = self._client.describe_failure(reason)
        try:
            exchange.reader.receive_end()
        except ResponseError as error:
            exchange.end(str(error) if kind == "reset" else text, kind)
        else:
            exchange.end()

    def give_up(self) -> None:
        """Nobody waits for the response any more."""
        self._exchange = None
        self.abort()

    def close(self) -> None:
        """Close it in order."""
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut it."""
        self.transport.abortConnection()
