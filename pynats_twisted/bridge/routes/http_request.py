"""``http-request``: an HTTP request becomes a NATS request, and the reply becomes the response.

Exactly one message is published for a request, and it is never published again, with one exception that has to be asked for: a
``GET`` that nobody was there to answer. So whatever the caller is told, the service saw the request at most once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Final

from msgspec import Meta, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from pynats_twisted.bridge.config_errors import FieldProblem, describe_found
from pynats_twisted.bridge.config_types import MIB, PositiveByteSize
from pynats_twisted.bridge.headers import NEVER_RETURNED, ResponseHeaders
from pynats_twisted.bridge.interfaces import IRouteFactory
from pynats_twisted.bridge.loops import PATH_HEADER
from pynats_twisted.bridge.problem import BAD_REPLY, CONNECTION_LOST, REPLY_TOO_LARGE, SERVICE_ERROR, TIMEOUT, Response
from pynats_twisted.bridge.routes.http_common import HTTPRoute
from pynats_twisted.bridge.routes.http_config import HTTPRouteConfig, header_problems
from pynats_twisted.errors import InvalidHeaderError, NatsError, NoRespondersError

if TYPE_CHECKING:
    from pynats_twisted.bridge.context import RouteContext
    from pynats_twisted.bridge.http_message import HTTPRequest
    from pynats_twisted.protocol.headers import Headers
    from pynats_twisted.protocol.message import Msg

STATUS_HEADER: Final = "Nats-Http-Status"
"""The header of a reply that sets the response's status."""

RETRY_WAIT: Final = 0.05
"""Seconds before the first retry of a ``GET`` that nobody answers; they double with each."""

MAX_EXPOSED_CHARS: Final = 1000
"""Longer descriptions of services' errors are cut."""

_HTTPStatus = Annotated[int, Meta(ge=400, le=599)]


class HTTPRequestConfig(HTTPRouteConfig, kw_only=True, frozen=True):
    """The keys of ``type = "http-request"``.

    :ivar timeout: seconds until the service has to have replied; retries do not make it longer.
    :ivar max_reply: longest reply in bytes.
    :ivar response_headers: headers of the reply that are passed to the caller.
    :ivar service_errors: statuses for the error codes of services that are none themselves (not 400 to 599).
    :ivar expose_errors: tell the caller how the service described its error.
    :ivar retry_no_responders: how often a ``GET`` that no service answers is tried again.
    """

    methods: list[str] = field(default_factory=lambda: ["GET", "POST"])
    max_reply: PositiveByteSize = MIB
    response_headers: list[str] = field(default_factory=lambda: ["content-type"])
    service_errors: dict[str, _HTTPStatus] = field(default_factory=dict)
    expose_errors: bool = False
    retry_no_responders: Annotated[int, Meta(ge=0, le=10)] = 0

    def find_problems(self) -> Iterable[FieldProblem]:
        yield from super().find_problems()
        yield from header_problems("response_headers", self.response_headers, NEVER_RETURNED)
        for code in self.service_errors:
            if not (code.isascii() and code.isdigit()) or 400 <= int(code[:9]) <= 599:
                allowed = "error codes of services as numbers; those from 400 to 599 are statuses already"
                yield FieldProblem(f"service_errors.{code}", describe_found(code), allowed)

    def find_warnings(self) -> Iterable[FieldProblem]:
        if self.retry_no_responders and "GET" not in self.methods:
            yield FieldProblem("retry_no_responders", str(self.retry_no_responders), "GET among the methods: nothing else is tried again")


class HTTPRequestRoute(HTTPRoute):
    """One ``http-request`` route."""

    type_name = "http-request"
    config: HTTPRequestConfig

    def __init__(self, name: str, config: HTTPRequestConfig, context: RouteContext) -> None:
        super().__init__(name, config, context, exposed_headers=config.response_headers)
        self._response_headers = ResponseHeaders(config.response_headers)

    def guarantee(self) -> str:
        """What a caller may rely on, in words."""
        retried = (
            f"; a GET that nobody was there to answer is tried {self.config.retry_no_responders} more times"
            if self.config.retry_no_responders
            else ""
        )
        return f"at most once: one NATS message for each request, never sent again{retried}; after a 504 it may have been executed"

    def forward(self, request: HTTPRequest, subject: str, headers: Headers) -> None:
        """Send the request to NATS."""
        headers["Nats-Bridge-Method"] = request.method
        # Services read the first value of this header; other bridges know the second one from it.
        path = headers[PATH_HEADER]
        headers[PATH_HEADER] = request.path.decode("ascii")
        headers.add(PATH_HEADER, path)
        if request.query:
            headers["Nats-Bridge-Query"] = request.query.decode("ascii")
        headers["Nats-Bridge-Remote"] = request.peer
        if self.activity.watched:
            self.activity.hop("received", subject, data=request.body, headers=headers, request_id=request.request_id)
        exchange = _Exchange(self, request, subject, headers)
        request.prepared = (subject, exchange)
        exchange.send()

    def client_gone(self, request: HTTPRequest) -> None:
        """Stop waiting for the reply."""
        request.prepared[1].cancel()

    def answer(self, request: HTTPRequest, reply: Msg) -> Response:
        """The response for a reply."""
        config = self.config
        if len(reply.data) > config.max_reply:
            return request.problem(REPLY_TOO_LARGE)
        headers = reply.headers
        if reply.headers_problem is not None or reply.status is not None:
            return request.problem(BAD_REPLY)
        code = headers.get("Nats-Service-Error-Code", ignore_case=True) if headers else None
        if code is not None:
            return self._service_error(request, code, headers)
        status = 200
        wanted = headers.get(STATUS_HEADER, ignore_case=True) if headers else None
        if wanted is not None:
            status = _status(wanted)
        try:
            pairs = self._response_headers.to_http(headers)
        except InvalidHeaderError:
            status = 0
        if not status:
            return request.problem(BAD_REPLY)
        if not any(name == b"Content-Type" for name, _ in pairs):
            if not reply.data:
                status = 204 if wanted is None else status
            else:
                pairs.append((b"Content-Type", b"application/octet-stream"))
        self.metrics.messages_out.inc()
        self.metrics.bytes_out.inc(len(request.body))
        return Response(status, pairs, reply.data)

    def _service_error(self, request: HTTPRequest, code: str, headers: Headers) -> Response:
        number = int(code) if code.isascii() and code.isdigit() and len(code) <= 9 else 0
        status = number if 400 <= number <= 599 else self.config.service_errors.get(code, 502)
        detail = ""
        if self.config.expose_errors:
            described = headers.get("Nats-Service-Error", "", ignore_case=True) or ""
            detail = described.encode("utf-8", "replace").decode("utf-8")[:MAX_EXPOSED_CHARS]
        return request.problem(SERVICE_ERROR, status=status, detail=detail)


class _Exchange:
    """One request on its way to NATS and back."""

    __slots__ = ("_body", "_headers", "_request", "_retries", "_route", "_sent_at", "_subject", "_waiting")

    def __init__(self, route: HTTPRequestRoute, request: HTTPRequest, subject: str, headers: Headers) -> None:
        self._route = route
        self._request = request
        self._subject = subject
        self._headers = headers
        self._retries = 0
        self._sent_at: float = route.context.reactor.seconds()
        self._waiting: Deferred[Any] | None = None

    def send(self) -> None:
        route = self._route
        left = route.config.timeout
        if self._retries:
            left -= route.context.reactor.seconds() - self._sent_at
        try:
            waiting = route.client.request(self._subject, self._request.body, headers=self._headers, timeout=left)
        except NatsError:
            self._failed(Failure())
            return
        self._waiting = waiting
        waiting.addCallbacks(self._replied, self._failed)
        waiting.addErrback(self._request.failed)

    def cancel(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def _replied(self, reply: Msg) -> None:
        self._waiting = None
        self._request.respond(self._route.answer(self._request, reply))

    def _failed(self, failure: Failure) -> None:
        self._waiting = None
        if self._request.finished and failure.check(CancelledError):
            return  # the client went away, and with it the wait
        if failure.check(NoRespondersError) and self._retry():
            return
        response = self._route.nats_problem(self._request, failure.value, CONNECTION_LOST, TIMEOUT)
        if response is None:
            self._request.failed(failure)
        else:
            self._request.respond(response)

    def _retry(self) -> bool:
        config, reactor = self._route.config, self._route.context.reactor
        if self._request.method != "GET" or self._retries >= config.retry_no_responders:
            return False
        wait = RETRY_WAIT * 2**self._retries
        if reactor.seconds() + wait >= self._sent_at + config.timeout:
            return False
        self._retries += 1
        self._waiting = deferLater(reactor, wait, self.send)
        self._waiting.addErrback(lambda failure: failure.trap(CancelledError) and None)
        return True


def _status(text: str) -> int:
    """The status that a reply asks for, or 0 when there is none like it.

    100 to 199 are interim responses: a client would go on waiting for the real one.
    """
    return int(text) if len(text) == 3 and text.isascii() and text.isdigit() and 200 <= int(text) <= 599 else 0


@implementer(IRouteFactory)
class HTTPRequestFactory:
    """Makes ``http-request`` routes."""

    type_name = HTTPRequestRoute.type_name
    config_type = HTTPRequestConfig

    def make_route(self, name: str, config: Any, context: Any) -> HTTPRequestRoute:
        """A route, not started."""
        return HTTPRequestRoute(name, config, context)


factory = HTTPRequestFactory()
