"""What the HTTP routes have in common: their keys, and how a request is judged before anything goes to NATS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from pynats_twisted.bridge.headers import RequestHeaders
from pynats_twisted.bridge.interfaces import IDescribed, IRoute, RouteDescription
from pynats_twisted.bridge.limits import TokenBucket, parse_rate, retry_after
from pynats_twisted.bridge.loops import PATH_HEADER, LoopGuard
from pynats_twisted.bridge.paths import parse_query
from pynats_twisted.bridge.problem import (
    BAD_HEADER,
    BAD_VALUE,
    BUFFER_FULL,
    DISCONNECTED,
    FORBIDDEN,
    LOOP,
    NATS_ERROR,
    NATS_MAX_PAYLOAD,
    NO_RESPONDERS,
    OVERLOADED,
    PERMISSION,
    RATE_LIMITED,
    STOPPING,
    UNAUTHORIZED,
    Problem,
    Response,
)
from pynats_twisted.bridge.routes.http_config import HTTPRouteConfig, make_authenticator, make_cors
from pynats_twisted.bridge.subjects import SubjectTemplate
from pynats_twisted.client.status import ClientStatus
from pynats_twisted.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    ConnectionStateError,
    DisconnectedError,
    InvalidHeaderError,
    MaxPayloadExceededError,
    MaxPayloadViolationError,
    NatsError,
    NatsTimeoutError,
    NoRespondersError,
    OutboundBufferFullError,
    PermissionsViolationError,
    TemplateValueError,
    TooManyRequestsError,
)
from pynats_twisted.protocol.headers import Headers

if TYPE_CHECKING:
    from pynats_twisted.bridge.context import RouteContext
    from pynats_twisted.bridge.http import HTTPListener
    from pynats_twisted.bridge.http_message import HTTPRequest, RequestHeaderMap
    from pynats_twisted.bridge.metrics import RouteMetrics
    from pynats_twisted.client.client import NatsClient

RETRY_SOON: Final = [(b"Retry-After", b"1")]

_PATH_HEADER: Final = PATH_HEADER.lower().encode("ascii")

FAILURE_LOG_INTERVAL: Final = 60.0
"""Seconds between two log lines for failures of the same route and kind."""

# What these say is no fault of the peer: the message was given up before it crossed.
_DROPPED: Final = frozenset(problem.kind for problem in (RATE_LIMITED, OVERLOADED, STOPPING, DISCONNECTED))

_HINTS: Final = {
    NO_RESPONDERS.kind: "start a service that subscribes to the subject, in the account of the bridge",
    PERMISSION.kind: "let the bridge's user publish to the subject, and subscribe to its inbox",
    NATS_MAX_PAYLOAD.kind: "raise max_payload of the NATS server, or lower max_body of the route",
    BUFFER_FULL.kind: "more comes in than goes out; lower max_in_flight, or see whether NATS keeps up",
}

_log = Logger()


@implementer(IRoute, IDescribed)
class HTTPRoute(Service):
    """The base of the HTTP routes: it judges requests and counts; a subclass says what becomes of those that pass.

    :param name: NAME of ``[routes.NAME]``.
    :param config: the route's keys.
    :param context: the bridge.
    :param exposed_headers: headers of answers that web pages may read.
    """

    type_name = ""

    def __init__(self, name: str, config: HTTPRouteConfig, context: RouteContext, exposed_headers: Iterable[str] = ()) -> None:
        self.name: str = name
        self.config = config
        self.context = context
        self.metrics: RouteMetrics = context.metrics.route(name, self.type_name)
        self._template = SubjectTemplate(config.subject, config.token_encoding)
        self._queries = [name for name in self._template.names if name.startswith("query:")]
        self._headers = [(name, name[len("header:") :].encode("ascii")) for name in self._template.names if name.startswith("header:")]
        self._wants_values = bool(self._template.names)
        self._request_headers = RequestHeaders(config.request_headers, make_trace=config.tracing)
        self._loops = LoopGuard.of(context.bridge)
        self._auth = make_authenticator(name, config)
        self._cors = make_cors(config, list(exposed_headers))
        self._bucket: TokenBucket | None = None
        if config.rate is not None:
            rate = config.rate_section()
            self._bucket = TokenBucket(parse_rate(rate.limit), context.reactor.seconds, rate.burst)
        self._in_flight: set[HTTPRequest] = set()
        self._stopping = False
        self._drained: list[Deferred[None]] = []
        self._logged: dict[str, float] = {}
        self.activity = context.activity(name, config.debug)

    # --- the service --------------------------------------------------------------------------------------------

    @property
    def client(self) -> NatsClient:
        """The route's NATS client."""
        return self.context.client(self.config.nats)

    def startService(self) -> None:
        super().startService()
        self._stopping = False
        self.context.http_listener(self.config.listen).add(self.config.path, self.config.methods, self)
        self.metrics.up.set(1)

    def stopService(self) -> Deferred[None]:
        """Refuse new requests; fires when those in flight are answered. Until then the path answers 503."""
        super().stopService()
        self._stopping = True
        self.metrics.up.set(0)
        if not self._in_flight:
            self._remove()
            return succeed(None)
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        return drained

    def _remove(self) -> None:
        self.context.http_listener(self.config.listen).remove(self)

    def describe(self) -> RouteDescription:
        """The route in words."""
        config = self.config
        state = {"in flight": str(len(self._in_flight))}
        url = _url_of(self.context.http_listener(config.listen)) + config.path
        body = "" if config.methods[0] in ("GET", "HEAD") else " -d hello"
        # Templates of paths have braces, which curl would take for its own.
        commands = [
            ("send a request", f"curl -g -X {config.methods[0]}{body} '{url}'"),
            ("see what comes", f"nats sub '{self._template.pattern}'"),
        ]
        return RouteDescription(f"{', '.join(config.methods)} {url}", self._template.pattern, state, commands)

    def guarantee(self) -> str:
        """What a caller may rely on, in words."""
        raise AssertionError("every route type says what it guarantees")

    def problems(self) -> list[str]:
        """What keeps the route from working at the moment."""
        if not self.running:
            return ["the route is stopped"]
        found = self.context.http_listener(self.config.listen).problems()
        if self.client.status is not ClientStatus.CONNECTED:
            found.append(f"nats.{self.config.nats} is {self.client.status.value}")
        return found

    # --- judging ------------------------------------------------------------------------------------------------

    @property
    def max_body(self) -> int:
        """The longest body in bytes: what the configuration and the server of now allow."""
        info = self.client.server_info
        return min(self.config.max_body, info.max_payload) if info is not None and info.max_payload else self.config.max_body

    def admit(self, request: HTTPRequest) -> Response | None:
        """Judge a request by its head."""
        refused = self._refuse_early(request)
        if refused is not None:
            return refused
        try:
            subject = self._template.expand(self._values(request) if self._wants_values else {})
        except TemplateValueError as error:
            return request.problem(BAD_VALUE, detail=str(error))
        try:
            headers = self._request_headers.to_nats(request.headers)
        except InvalidHeaderError as error:
            return request.problem(BAD_HEADER, detail=str(error))
        path = self._loops.path_after(request.headers.get(_PATH_HEADER, ()))
        if path is None:
            return request.problem(LOOP)
        headers[PATH_HEADER] = path
        request.prepared = (subject, headers)
        return None

    def _refuse_early(self, request: HTTPRequest) -> Response | None:
        if self._stopping or self.context.draining:
            return request.problem(STOPPING, headers=RETRY_SOON)
        if self._auth is not None:
            refused = self._auth.check(request.headers.get(b"authorization", ()))
            if refused is UNAUTHORIZED:
                return request.problem(UNAUTHORIZED, headers=self._auth.challenges)
            if refused is not None:
                return request.problem(FORBIDDEN)
        if self._bucket is not None:
            wait = self._bucket.take()
            if wait:
                return request.problem(RATE_LIMITED, headers=[(b"Retry-After", retry_after(wait).encode("ascii"))])
        return self._refuse_busy(request)

    def _refuse_busy(self, request: HTTPRequest) -> Response | None:
        if len(self._in_flight) >= self.config.max_in_flight:
            return request.problem(OVERLOADED, headers=RETRY_SOON)
        if self.client.status is not ClientStatus.CONNECTED:
            return request.problem(DISCONNECTED, headers=RETRY_SOON)
        return None

    def _values(self, request: HTTPRequest) -> Mapping[str, str | bytes]:
        values: dict[str, str | bytes] = {**request.values}
        values["method"] = request.method
        values["peer"] = request.peer.replace(".", "-").replace(":", "-")
        if self._queries:
            query = parse_query(request.query)
            for name in self._queries:
                self._put_single(values, name, query.get(name[len("query:") :], ()))
        for name, header in self._headers:
            self._put_single(values, name, request.headers.get(header, ()))
        return values

    @staticmethod
    def _put_single(values: dict[str, str | bytes], name: str, found: Any) -> None:
        if len(found) > 1:
            raise TemplateValueError(name, "repeated", "it is there more than once")
        if found:
            values[name] = found[0]

    def handle(self, request: HTTPRequest) -> None:
        """A complete request that was admitted by its head."""
        # While the body came, others may have been faster.
        refused = self._refuse_busy(request)
        if refused is not None:
            request.respond(refused)
            return
        self.metrics.messages_in.inc()
        self.metrics.bytes_in.inc(len(request.body))
        self._in_flight.add(request)
        self.metrics.in_flight.inc()
        request.on_gone = lambda: self._gone(request)
        subject, headers = request.prepared
        self.forward(request, subject, headers)

    def forward(self, request: HTTPRequest, subject: str, headers: Headers) -> None:
        """Take the request to NATS and answer it; of the subclass."""
        raise AssertionError("every route type forwards")

    def client_gone(self, request: HTTPRequest) -> None:
        """The client of a request in flight went away: stop waiting for it. The request itself cannot be recalled."""

    def preflight(self, headers: RequestHeaderMap) -> Response | None:
        """The answer to a CORS preflight request."""
        return self._cors.preflight(headers) if self._cors is not None else None

    # --- counting -----------------------------------------------------------------------------------------------

    def responding(self, request: HTTPRequest, response: Response) -> None:
        """A request is being answered."""
        if self._cors is not None:
            response.headers.extend(self._cors.headers(request.headers))
        self.metrics.http_response(response.status)
        if request in self._in_flight:
            self.metrics.latency.observe(max(0.0, self.context.reactor.seconds() - request.received_at))
            self._finished(request)
        if response.kind:
            self._count_problem(request, response)
        if self.activity.watched:
            self._trace(request, "answered", status=response.status)

    def _count_problem(self, request: HTTPRequest, response: Response) -> None:
        if response.kind in _DROPPED:
            self.metrics.dropped(response.kind)
        elif response.kind == LOOP.kind:
            self.metrics.loops_dropped.inc()
            self._log_failure(request, response)
        elif response.status < 500:
            self.context.bad_input(self, response.kind, f"from {request.peer}, request {request.request_id}")
        else:
            self.metrics.failed(response.kind)
            self._log_failure(request, response)

    def _log_failure(self, request: HTTPRequest, response: Response) -> None:
        cause = response.cause or f"a request was answered with {response.status}"
        self.activity.error(response.kind, cause, response.hint)
        now = self.context.reactor.seconds()
        if now - self._logged.get(response.kind, -FAILURE_LOG_INTERVAL) >= FAILURE_LOG_INTERVAL:
            self._logged[response.kind] = now
            _log.warn(
                "route {route}: {kind}, answered with {status}, request {request_id}{cause}",
                route=self.name, kind=response.kind, status=response.status, request_id=request.request_id,
                cause=f": {response.cause}" if response.cause else "",
            )  # fmt: skip

    def _gone(self, request: HTTPRequest) -> None:
        self.metrics.failed("client_gone")
        self._finished(request)
        if self.activity.watched:
            self._trace(request, "gone")
        self.client_gone(request)

    def _finished(self, request: HTTPRequest) -> None:
        self._in_flight.discard(request)
        self.metrics.in_flight.dec()
        if self._drained and not self._in_flight:
            self._remove()
            drained, self._drained = self._drained, []
            for one in drained:
                one.callback(None)

    def _trace(self, request: HTTPRequest, step: str, status: int = 0) -> None:
        self.activity.hop(
            step,
            request.prepared[0] if request.prepared else "",
            method=request.method,
            status=status or "none",
            ms=(self.context.reactor.seconds() - request.received_at) * 1000,
            request_id=request.request_id,
        )

    def nats_problem(
        self, request: HTTPRequest, error: BaseException | None, lost: Problem, late: Problem, **details: Any
    ) -> Response | None:
        """The answer to an error of the NATS client; None when it is none that a route has to reckon with.

        :param lost: what to answer when the connection was lost on the way.
        :param late: what to answer when NATS did not answer in time.
        """
        problem = _problem_of(error, lost, late)
        if problem is None:
            return None
        return self.make_problem(request, problem, error, **details)

    def make_problem(self, request: HTTPRequest, problem: Problem, error: BaseException | None, hint: str = "", **details: Any) -> Response:
        """The response for a problem: with ``Retry-After`` where trying again makes sense, and with its cause for the bridge's own pages.

        :param hint: what the operator can do.
        :param details: members of the problem.
        """
        response = request.problem(problem, headers=RETRY_SOON if problem.status == 503 else (), **details)
        response.cause, response.hint = str(error), hint or _HINTS.get(problem.kind, "")
        return response

    def __str__(self) -> str:
        return self.name


def _problem_of(error: BaseException | None, lost: Problem, late: Problem) -> Problem | None:
    problems: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Problem], ...] = (
        (NoRespondersError, NO_RESPONDERS),
        (NatsTimeoutError, late),
        (PermissionsViolationError, PERMISSION),
        ((MaxPayloadExceededError, MaxPayloadViolationError), NATS_MAX_PAYLOAD),
        ((OutboundBufferFullError, TooManyRequestsError), BUFFER_FULL),
        (DisconnectedError, lost),
        ((ConnectionClosedError, ConnectionDrainingError, ConnectionStateError), DISCONNECTED),
        (NatsError, NATS_ERROR),
    )
    return next((problem for kinds, problem in problems if isinstance(error, kinds)), None)


def _url_of(listener: HTTPListener) -> str:
    """Where a listener is reached on this machine, as far as that can be told."""
    scheme = "https" if listener.endpoint.startswith(("ssl:", "tls:", "txsni:")) else "http"
    host = listener.port.getHost() if listener.port is not None else None
    if not isinstance(host, (IPv4Address, IPv6Address)):
        return f"{scheme}://HOST"
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.host, host.host)
    return f"{scheme}://[{name}]:{host.port}" if ":" in name else f"{scheme}://{name}:{host.port}"


def encode_json(content: Any) -> bytes:
    """JSON for an answer of the bridge's own."""
    return msgspec.json.encode(content)
