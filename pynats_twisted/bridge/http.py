"""HTTP listeners (``[listen.NAME]``): one endpoint whose paths are shared by several routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString

from pynats_twisted.bridge.cors import Cors
from pynats_twisted.bridge.endpoints import with_backlog
from pynats_twisted.bridge.http_channel import HTTPChannel
from pynats_twisted.bridge.http_message import HTTPRequest, RequestHeaderMap
from pynats_twisted.bridge.paths import PathTable, PathTemplate, split_path
from pynats_twisted.bridge.problem import (
    BAD_PATH,
    BODY_TOO_LARGE,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    Problem,
    Response,
    new_request_id,
)
from pynats_twisted.errors import TemplateValueError

if TYPE_CHECKING:
    from pynats_twisted.bridge.context import RouteContext

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Bytes of bodies that one listener keeps at a time, of all requests that are arriving or under way."""

SWEEP_INTERVAL: Final = 1.0
"""Seconds between two looks at the deadlines of all connections."""

_log = Logger()

__all__ = ["HTTPChannel", "HTTPHandler", "HTTPLimits", "HTTPListener", "HTTPRequest"]


class HTTPLimits(Protocol):
    """The bounds of a listener. A ``[listen.NAME]`` section (:class:`~pynats_twisted.bridge.config.ListenSection`) has them."""

    @property
    def max_connections(self) -> int: ...
    @property
    def request_timeout(self) -> float: ...
    @property
    def idle_timeout(self) -> float: ...
    @property
    def max_request_line(self) -> int: ...
    @property
    def max_header_bytes(self) -> int: ...


class HTTPHandler(Protocol):
    """What takes the requests of a path: an HTTP route."""

    @property
    def name(self) -> str:
        """The route's name, for problems and logs."""

    @property
    def max_body(self) -> int:
        """The longest body in bytes; asked for each request."""

    def admit(self, request: HTTPRequest) -> Response | None:
        """Judge a request by its head. A response refuses it, and its body is not read; None lets the body come."""

    def handle(self, request: HTTPRequest) -> None:
        """Take a complete request, and sooner or later call its ``respond``."""

    def preflight(self, headers: RequestHeaderMap) -> Response | None:
        """The answer to a CORS preflight request, or None when the route has none."""

    def responding(self, request: HTTPRequest, response: Response) -> None:
        """A request is being answered, by whomever: count it, and add headers to ``response.headers`` where needed."""


class _Mount:
    __slots__ = ("handler",)

    def __init__(self, handler: HTTPHandler) -> None:
        self.handler = handler

    def __str__(self) -> str:
        return f"route {self.handler.name}"


class _Refused(TwistedProtocol):
    """A connection beyond the bound."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


class _Factory(ServerFactory):
    noisy = False

    def __init__(self, listener: HTTPListener) -> None:
        self._listener = listener

    def logPrefix(self) -> str:
        return self._listener.name

    def buildProtocol(self, addr: IAddress | None) -> TwistedProtocol:
        # None would do for TCP, but a TLS endpoint wraps whatever it gets.
        return _Refused() if self._listener.is_full() else HTTPChannel(self._listener)


class HTTPListener:
    """Listens on one endpoint and hands requests to routes by path and method.

    :param context: the bridge: its reactor and its metrics.
    :param name: NAME of ``[listen.NAME]``.
    :param endpoint: a Twisted server endpoint string.
    :param limits: the bounds, for example a :class:`~pynats_twisted.bridge.config.ListenSection`.

    :ivar stopping: whether :meth:`stop` was called.
    :ivar type_name: what stands in for a route's type in metrics and logs of requests that no route takes.
    """

    type_name = "http-listener"

    def __init__(self, context: RouteContext, name: str, endpoint: str, limits: HTTPLimits) -> None:
        # A slash keeps it apart from all routes.
        self.name = f"listen/{name}"
        self.endpoint = endpoint
        self.limits = limits
        self.stopping = False
        self._context = context
        self._reactor = context.reactor
        self._metrics = context.metrics.route(self.name, self.type_name)
        self._table: PathTable[_Mount] = PathTable()
        self._mounts: dict[HTTPHandler, _Mount] = {}
        self._channels: set[HTTPChannel] = set()
        self._body_bytes = 0
        self._sweep: Any = None
        self._date = b""
        self._date_second = -1
        self._listening: Deferred[IListeningPort] | None = None
        self._port: IListeningPort | None = None
        self._failure = "it was not started"
        self._stopped: list[Deferred[None]] = []

    # --- paths --------------------------------------------------------------------------------------------------

    def add(self, path: str, methods: Sequence[str], handler: HTTPHandler) -> None:
        """Hand the requests for a path to *handler*.

        :param path: a path template such as ``/orders/{id}``.
        :param methods: the methods, in upper case.
        :raises ConfigurationError: the path breaks a rule, or overlaps with another one of this listener.
        """
        mount = self._mounts.get(handler) or _Mount(handler)
        self._table.add(PathTemplate(path), methods, mount)
        self._mounts[handler] = mount

    def remove(self, handler: HTTPHandler) -> None:
        """Take back all paths of *handler*: they answer 404 from now on."""
        mount = self._mounts.pop(handler, None)
        if mount is not None:
            self._table.remove(mount)

    # --- life ---------------------------------------------------------------------------------------------------

    def start(self) -> Deferred[IListeningPort]:
        """Listen.

        :returns: fires with the port when it listens, or fails with what the endpoint says (``CannotListenError``). Cancelling it
            gives up.
        """
        if self._listening is not None or self._port is not None:
            raise RuntimeError(f"{self.name} was started already")
        self.stopping = False
        self._failure = "it is being opened"
        result: Deferred[IListeningPort] = Deferred(lambda _: listening.cancel())

        def opened(port: IListeningPort) -> None:
            self._listening = None
            self._port = port
            self._failure = ""
            result.callback(port)

        def failed(failure: Failure) -> None:
            self._listening = None
            self._failure = failure.getErrorMessage()
            result.errback(failure)

        self._listening = listening = serverFromString(self._reactor, with_backlog(self.endpoint)).listen(_Factory(self))
        listening.addCallbacks(opened, failed)
        return result

    @property
    def port(self) -> IListeningPort | None:
        """The port, while it listens."""
        return self._port

    def problems(self) -> list[str]:
        """Why the listener takes no requests, in one sentence; empty while it does."""
        return [f"{self.name} does not listen on {self.endpoint}: {self._failure}"] if self._failure else []

    def unbind(self) -> Deferred[None]:
        """Take no new connections. Those that are open go on; :meth:`start` listens again.

        :returns: fires when the address is free.
        """
        self._failure = "it was unbound"
        if self._listening is not None:
            self._listening.addErrback(lambda _: None)
            self._listening.cancel()
        port, self._port = self._port, None
        closed: Deferred[Any] = Deferred()
        (maybeDeferred(port.stopListening) if port is not None else succeed(None)).chainDeferred(closed)
        return closed

    def stop(self) -> Deferred[None]:
        """Take no new connections and no new requests, and finish those under way.

        :returns: fires when the port and all connections are closed. Cancelling it aborts the connections that are left.
        """
        self.stopping = True
        closed = self.unbind()
        self._failure = "it was stopped"
        for channel in list(self._channels):
            channel.finish()
        return closed.addCallback(lambda _: self._when_empty())

    def _when_empty(self) -> Deferred[None]:
        if not self._channels:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._give_up)
        self._stopped.append(waiting)
        return waiting

    def _give_up(self, waiting: Deferred[None]) -> None:
        self._stopped.remove(waiting)
        self.abort()

    def abort(self) -> None:
        """Close all connections at once."""
        for channel in list(self._channels):
            channel.abort()

    # --- for the channels ---------------------------------------------------------------------------------------

    def now(self) -> float:
        """The reactor's clock."""
        now: float = self._reactor.seconds()
        return now

    def date(self) -> bytes:
        """The value of the ``Date`` header."""
        second = int(self.now())
        if second != self._date_second:
            self._date_second = second
            self._date = datetimeToString(second)
        return self._date

    def is_full(self) -> bool:
        """Whether a new connection is one too many; then it is counted."""
        if self.stopping:
            return True
        if len(self._channels) < self.limits.max_connections:
            return False
        self._metrics.dropped("max-connections")
        return True

    def opened(self, channel: HTTPChannel) -> None:
        """A connection is there."""
        self._channels.add(channel)
        self._metrics.connections.inc()
        self._metrics.connections_total.inc()
        if self._sweep is None:
            self._sweep = self._reactor.callLater(SWEEP_INTERVAL, self._end_overdue)

    def closed(self, channel: HTTPChannel) -> None:
        """A connection is gone."""
        if channel not in self._channels:
            return
        self._channels.remove(channel)
        self._metrics.connections.dec()
        if not self._channels:
            if self._sweep is not None:
                self._sweep.cancel()
                self._sweep = None
            waiting, self._stopped = self._stopped, []
            for one in waiting:
                one.callback(None)

    def _end_overdue(self) -> None:
        self._sweep = self._reactor.callLater(SWEEP_INTERVAL, self._end_overdue)
        now = self.now()
        for channel in [channel for channel in self._channels if channel.deadline <= now]:
            channel.expired()

    def reserve_body(self, size: int) -> bool:
        """Make room for *size* bytes of a body; false when the bound is reached."""
        if self._body_bytes + size > MAX_BODY_BYTES:
            return False
        self._body_bytes += size
        return True

    def release_body(self, size: int) -> None:
        """Give room back."""
        self._body_bytes -= size

    # --- requests -----------------------------------------------------------------------------------------------

    def admit(self, request: HTTPRequest, target: bytes) -> Response | None:
        """Find the route of a request by its head, and ask whether it takes it; a response refuses the request."""
        path, _, request.query = _origin_form(target).partition(b"?")
        request.path = path
        if not path.startswith(b"/") or not target.isascii():
            return self.count_problem(BAD_PATH, request.peer)
        try:
            segments = split_path(path)
        except TemplateValueError:
            return self.count_problem(BAD_PATH, request.peer)
        if Cors.is_preflight(request.method, request.headers):
            answer = self._preflight(request, segments)
            if answer is not None:
                return answer
        found = self._table.find(segments, request.method)
        if found is None:
            allowed = self._table.allowed(segments)
            if not allowed:
                return self.count_problem(NOT_FOUND, request.peer)
            return self.count_problem(METHOD_NOT_ALLOWED, request.peer, [(b"Allow", ", ".join(allowed).encode("ascii"))])
        handler = found.target.handler
        request.values = found.values
        request.admitted(handler)
        refusal = handler.admit(request)
        if refusal is None and (request.declared_length or 0) > handler.max_body:
            refusal = request.problem(BODY_TOO_LARGE, max_bytes=handler.max_body)
        return refusal

    def _preflight(self, request: HTTPRequest, segments: list[str]) -> Response | None:
        wanted = request.headers[b"access-control-request-method"][0].decode("latin-1")
        for methods, mount in self._table.at(segments):
            if wanted in methods:
                return mount.handler.preflight(request.headers)
        return None

    def count_problem(self, problem: Problem, peer: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> Response:
        """The response to a request that no route took, after it was counted and, once a minute, logged."""
        request_id = new_request_id()
        self._context.bad_input(self, problem.kind, f"from {peer}, request {request_id}")
        self._metrics.http_response(problem.status)
        return problem.response("", request_id, headers=headers)


def _origin_form(target: bytes) -> bytes:
    """The path and query of a request target, which a client may send with scheme and host before them (RFC 9112, 3.2.2)."""
    if target[:7].lower() == b"http://" or target[:8].lower() == b"https://":
        _, slash, rest = target.partition(b"//")[2].partition(b"/")
        return slash + rest if slash else b"/"
    return target
