"""The keys that all HTTP routes have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import field

from pynats_twisted.bridge.auth import Authenticator
from pynats_twisted.bridge.config import Flow, HTTPBinding, Positive, RouteConfig, Section
from pynats_twisted.bridge.config_errors import FieldProblem, describe_found
from pynats_twisted.bridge.config_types import KIB, ByteSize, PositiveDuration, Secret
from pynats_twisted.bridge.cors import ORIGIN_RULE, Cors, check_origin
from pynats_twisted.bridge.headers import HEADER_RULE, NEVER_FORWARDED, refusal
from pynats_twisted.bridge.limits import RATE_RULE, parse_rate
from pynats_twisted.bridge.paths import PathTemplate
from pynats_twisted.bridge.subjects import SubjectTemplate, TokenEncoding
from pynats_twisted.errors import ConfigurationError, TemplateError

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class AuthSection(Section, kw_only=True, frozen=True):
    """``auth``: who may use the route. One of the two is needed; with both, either will do.

    :ivar bearer: tokens for ``Authorization: Bearer``; several are separated by commas or white space.
    :ivar basic: passwords by user name, for ``Authorization: Basic``.
    """

    bearer: Secret | None = None
    basic: dict[str, Secret] = field(default_factory=dict)

    def find_problems(self) -> Iterable[FieldProblem]:
        if self.bearer is None and not self.basic:
            yield FieldProblem("", "neither bearer nor basic", "at least one of them")
        for user in self.basic:
            if not user or ":" in user:
                yield FieldProblem("basic", describe_found(user), "user names without a colon, not empty")


class CorsSection(Section, kw_only=True, frozen=True):
    """``cors``: which web pages may read the answers. A list of origins alone may stand for it.

    :ivar origins: origins such as ``https://app.example.com``, or ``*`` alone.
    :ivar max_age: seconds for which a browser may keep what it was told.
    """

    origins: list[str]
    max_age: PositiveDuration = 600.0


class RateSection(Section, kw_only=True, frozen=True):
    """``rate``: requests per unit of time, for the route as a whole. A text such as ``"100/s"`` alone may stand for it.

    :ivar limit: the average, such as ``"100/s"``, ``"600/m"``, ``"5000/h"``.
    :ivar burst: how many may come at once after a pause; by default a second's worth.
    """

    limit: str
    burst: Positive | None = None


class HTTPRouteConfig(RouteConfig, kw_only=True, frozen=True):
    """The keys of all HTTP routes.

    :ivar listen: the ``[listen.NAME]`` that the route is reached on.
    :ivar path: its path, for example ``/orders/{id}``.
    :ivar methods: the methods that it takes.
    :ivar subject: where requests go, for example ``svc.orders.{method}.{id}``: placeholders are those of the path, ``{query:x}``,
        ``{header:x}``, ``{method}`` and ``{peer}`` (the client's address, with ``-`` for its dots and colons).
    :ivar token_encoding: ``strict`` refuses values that cannot be one token of a subject, ``percent`` encodes them.
    :ivar timeout: seconds until NATS has to have answered.
    :ivar max_body: longest body in bytes.
    :ivar max_in_flight: most requests at a time.
    :ivar request_headers: headers that are passed to NATS. ``traceparent`` and ``tracestate`` always are.
    :ivar auth: who may use the route; without it, anybody who reaches the listener.
    :ivar cors: which web pages may read the answers.
    :ivar rate: requests per unit of time.
    :ivar tracing: make a ``traceparent`` where the request has none.
    """

    listen: str
    path: str
    methods: list[str] = field(default_factory=lambda: ["POST"])
    subject: str
    token_encoding: TokenEncoding = "strict"
    timeout: PositiveDuration = 2.0
    max_body: ByteSize = 256 * KIB
    max_in_flight: Positive = 500
    request_headers: list[str] = field(default_factory=lambda: ["content-type"])
    auth: AuthSection | None = None
    cors: list[str] | CorsSection | None = None
    rate: str | RateSection | None = None
    tracing: bool = False

    def http_bindings(self) -> Iterable[HTTPBinding]:
        return (HTTPBinding(self.listen, self.path, tuple(self.methods)),)

    def flows(self) -> Iterable[Flow]:
        return (Flow(self.nats, writes=(SubjectTemplate(self.subject, self.token_encoding).pattern,)),)

    def find_problems(self) -> Iterable[FieldProblem]:
        if not self.methods:
            yield FieldProblem("methods", "an empty array", ", ".join(METHODS))
        for index, method in enumerate(self.methods):
            if method not in METHODS:
                close = method.upper() if method.upper() in METHODS else ""
                yield FieldProblem(f"methods.{index}", describe_found(method), ", ".join(METHODS), f'"{close}"' if close else "")
        yield from self._subject_problems()
        yield from header_problems("request_headers", self.request_headers, NEVER_FORWARDED)
        yield from self._cors_problems()
        if self.rate is not None:
            try:
                parse_rate(self.rate_section().limit)
            except ConfigurationError:
                yield FieldProblem("rate", describe_found(self.rate_section().limit), RATE_RULE)

    def _subject_problems(self) -> Iterable[FieldProblem]:
        try:
            template = SubjectTemplate(self.subject, self.token_encoding)
            path = PathTemplate(self.path)
        except TemplateError as error:
            yield FieldProblem("subject", describe_found(self.subject), str(error))
            return
        except ConfigurationError:
            return  # told for all paths together
        try:
            template.check_names([*path.names, "query:", "header:", "method", "peer"])
        except TemplateError as error:
            yield FieldProblem("subject", describe_found(self.subject), str(error))
        for name in template.names:
            if name in ("header:authorization", "header:cookie"):
                yield FieldProblem("subject", f"{{{name}}}", "headers without credentials: subjects are no secrets")

    def _cors_problems(self) -> Iterable[FieldProblem]:
        if self.cors is None:
            return
        origins = self.cors_section().origins
        if not origins or ("*" in origins and len(origins) > 1):
            yield FieldProblem("cors", describe_found(origins), ORIGIN_RULE)
        for origin in origins:
            try:
                check_origin(origin)
            except ConfigurationError:
                yield FieldProblem("cors", describe_found(origin), ORIGIN_RULE)

    def cors_section(self) -> CorsSection:
        """``cors`` in its long form."""
        assert self.cors is not None
        return CorsSection(origins=self.cors) if isinstance(self.cors, list) else self.cors

    def rate_section(self) -> RateSection:
        """``rate`` in its long form."""
        assert self.rate is not None
        return RateSection(limit=self.rate) if isinstance(self.rate, str) else self.rate


def header_problems(key: str, names: list[str], never: Iterable[str]) -> Iterable[FieldProblem]:
    """What is wrong with a list of headers."""
    for index, name in enumerate(names):
        reason = refusal(name, never)
        if reason is not None:
            yield FieldProblem(f"{key}.{index}", f"{describe_found(name)}, {reason}", HEADER_RULE)


def make_authenticator(name: str, config: HTTPRouteConfig) -> Authenticator | None:
    """The check that ``auth`` asks for.

    :raises ConfigurationError: a secret cannot be read or used.
    """
    if config.auth is None:
        return None
    try:
        bearer = config.auth.bearer.values if config.auth.bearer is not None else ()
        basic = {user: password.value for user, password in config.auth.basic.items()}
    except ValueError as error:
        raise ConfigurationError(f"auth: {error}") from None
    return Authenticator(bearer=bearer, basic=basic, realm=name)


def make_cors(config: HTTPRouteConfig, exposed_headers: list[str]) -> Cors | None:
    """The answers that ``cors`` asks for."""
    if config.cors is None:
        return None
    section = config.cors_section()
    return Cors(
        section.origins,
        methods=config.methods,
        request_headers=sorted({"content-type", "authorization", *(name.lower() for name in config.request_headers)}),
        exposed_headers=exposed_headers,
        max_age=int(section.max_age),
    )
