"""The keys of ``type = "sse"``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, field

from pynats_twisted.bridge.config import Flow, HTTPBinding, Positive, RouteConfig, Section
from pynats_twisted.bridge.config_errors import FieldProblem, describe_found, near_miss
from pynats_twisted.bridge.config_types import KIB, FilePath, PositiveByteSize, PositiveDuration, Secret, parse_duration
from pynats_twisted.bridge.cors import ORIGIN_RULE, Cors
from pynats_twisted.bridge.headers import HEADER_RULE, refusal
from pynats_twisted.bridge.limits import RATE_RULE, parse_rate
from pynats_twisted.bridge.paths import PathTemplate
from pynats_twisted.bridge.routes.http_config import AuthSection, CorsSection, RateSection
from pynats_twisted.bridge.sse_events import EVENT_RULE, EventTemplate, Format
from pynats_twisted.bridge.sse_filter import FilterTemplate
from pynats_twisted.bridge.subjects import TokenEncoding
from pynats_twisted.errors import ConfigurationError, InvalidSubjectError, NatsError, TemplateError
from pynats_twisted.jetstream.api import check_name
from pynats_twisted.protocol.subjects import check_publish_subject

START_RULE: Final = '"new", "all", "last", "last_per_subject", or how far back: "5m"'
STARTS: Final = ("new", "all", "last", "last_per_subject")

_COOKIE = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_PARAMETER = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_CLAIM_NAMES = re.compile(r"\{([^{}]*)\}")


class JWTSection(Section, kw_only=True, frozen=True):
    """``auth.jwt``: tokens that somebody else signed (RFC 7519). Exactly one of the first two is needed.

    :ivar secret: the secret of HS256, 32 bytes or more; several, to change them, are separated by commas or white space.
    :ivar jwks_file: a file with the keys as a JWK set (RFC 7517): HS256, RS256 and ES256; read again when it has changed.
    :ivar issuer: what ``iss`` has to be.
    :ivar audience: what ``aud`` has to be, or hold.
    :ivar claims: what other claims have to be, with ``{name}`` for what stands in the path: ``{ room = "{room}" }``. A claim that is an
        array has to hold it.
    :ivar leeway: seconds by which clocks may differ.
    """

    secret: Secret | None = None
    jwks_file: FilePath | None = None
    issuer: str | None = None
    audience: str | None = None
    claims: dict[str, str] = field(default_factory=dict)
    leeway: Annotated[PositiveDuration, Meta(le=600)] = 30.0

    def find_problems(self) -> Iterable[FieldProblem]:
        if (self.secret is None) == (self.jwks_file is None):
            yield FieldProblem("", "both or neither of secret and jwks_file", "one of them")
        if self.secret is not None and self.secret.problem() is None and any(len(one.encode()) < 32 for one in self.secret.values):
            yield FieldProblem("secret", "less than 32 bytes", "as many as HS256 has to have (RFC 7518, 3.2)")
        for name in {"exp", "nbf", "iss", "aud"} & self.claims.keys():
            yield FieldProblem(f"claims.{name}", describe_found(self.claims[name]), "issuer and audience; times are always checked")


class AuthRequestSection(Section, kw_only=True, frozen=True):
    """``auth.request``: a service on NATS decides. A subject alone may stand for it.

    :ivar subject: where the question goes.
    :ivar timeout: seconds until it has to be answered.
    :ivar headers: headers of the request that the service gets to see; credentials have to be among them, to be judged.
    """

    subject: str
    timeout: PositiveDuration = 2.0
    headers: list[str] = field(default_factory=lambda: ["authorization", "cookie"])

    def find_problems(self) -> Iterable[FieldProblem]:
        try:
            check_publish_subject(self.subject)
        except InvalidSubjectError as error:
            yield FieldProblem("subject", describe_found(self.subject), str(error))
        for index, name in enumerate(self.headers):
            if refusal(name, ()) is not None:
                yield FieldProblem(f"headers.{index}", describe_found(name), HEADER_RULE)


class SSEAuthSection(AuthSection, kw_only=True, frozen=True):
    """``auth``: who may listen. Besides what other routes have, for browsers, which cannot set headers here.

    One of bearer, basic and jwt is enough; where ``request`` is there too, it has to agree.

    :ivar cookie: the name of a cookie that may hold the token instead of the ``Authorization`` header.
    :ivar query: the name of a parameter of the URL that may. URLs are written to logs and histories: better a cookie.
    :ivar jwt: signed tokens.
    :ivar request: a service on NATS that decides.
    """

    cookie: str | None = None
    query: str | None = None
    jwt: JWTSection | None = None
    request: str | AuthRequestSection | None = None

    def find_problems(self) -> Iterable[FieldProblem]:
        if self.bearer is None and not self.basic and self.jwt is None and self.request is None:
            yield FieldProblem("", "none of bearer, basic, jwt and request", "at least one of them")
        elif self.bearer is None and not self.basic:
            pass
        else:
            yield from super().find_problems()
        if self.cookie is not None and _COOKIE.fullmatch(self.cookie) is None:
            yield FieldProblem("cookie", describe_found(self.cookie), "the name of a cookie")
        if self.query is not None and (_PARAMETER.fullmatch(self.query) is None or self.query == "last_event_id"):
            yield FieldProblem("query", describe_found(self.query), "the name of a parameter, such as token; not last_event_id")
        for key in ("cookie", "query"):
            if getattr(self, key) is not None and self.bearer is None and self.jwt is None:
                yield FieldProblem(key, describe_found(getattr(self, key)), "bearer or jwt, whose tokens it would hold")
        if isinstance(self.request, str):
            yield from (
                FieldProblem("request", problem.found, problem.allowed)
                for problem in AuthRequestSection(subject=self.request).find_problems()
            )

    def request_section(self) -> AuthRequestSection | None:
        """``request`` in its long form."""
        return AuthRequestSection(subject=self.request) if isinstance(self.request, str) else self.request


class Start(NamedTuple):
    """Where a client begins that brings no id.

    :ivar mode: ``new``, ``all``, ``last``, ``last_per_subject`` or ``time``.
    :ivar seconds: for ``time``: how far back.
    """

    mode: str
    seconds: float = 0.0


def parse_start(text: str) -> Start:
    """Where to begin.

    :raises ValueError: *text* says nothing of the kind.
    """
    if text in STARTS:
        return Start(text)
    seconds = parse_duration(text)
    if not seconds:
        raise ValueError(f"{text!r} is no time; allowed: {START_RULE}")
    return Start("time", seconds)


class SSEConfig(RouteConfig, kw_only=True, frozen=True):
    """The keys of ``type = "sse"``. Exactly one of ``stream`` and ``subject`` is needed.

    :ivar listen: the ``[listen.NAME]`` that the route is reached on.
    :ivar path: its path, for example ``/live/{room}``.
    :ivar stream: the stream whose messages are sent. Clients that come back go on where they were.
    :ivar filter: which of them, for example ``chat.{room}.>``: placeholders are those of the path, ``{query:x}``, ``{header:x}``.
    :ivar subject: what to subscribe to instead, where nothing is stored; placeholders and wildcards as in ``filter``.
    :ivar token_encoding: ``strict`` refuses values that cannot be one token of a subject, ``percent`` encodes them.
    :ivar start: where a client begins that brings no id: ``new``, ``all``, ``last``, ``last_per_subject``, or a time such as ``5m``.
    :ivar heartbeat: seconds between two comments that every client gets, so that proxies keep the connection.
    :ivar retry: seconds after which browsers come back; up to half as much is added at random.
    :ivar buffer: bytes that may wait for one client that does not read.
    :ivar max_connections: most clients at a time.
    :ivar max_duration: seconds after which a client is made to come back; up to a tenth less, chosen at random.
    :ivar max_filters: most different filters at a time; each one costs a consumer at the server.
    :ivar event: the name of the events, with ``{subject}``, or ``{1}`` and so on for the wildcards of the filter.
    :ivar format: ``raw``: the payload is the data of the event. ``json``: an object with subject, sequence, time, headers and payload.
    :ivar headers: headers of messages that ``json`` shows.
    :ivar max_replay: most messages that one client gets from the past.
    :ivar auth: who may listen; without it, anybody who reaches the listener.
    :ivar cors: which web pages may.
    :ivar rate: connections per unit of time.
    """

    listen: str
    path: str
    stream: str | None = None
    filter: str = ">"
    subject: str | None = None
    token_encoding: TokenEncoding = "strict"
    start: str = "new"
    heartbeat: PositiveDuration = 15.0
    retry: PositiveDuration = 2.0
    buffer: PositiveByteSize = 256 * KIB
    max_connections: Positive = 5000
    max_duration: PositiveDuration = 3600.0
    max_filters: Positive = 1000
    event: str | None = None
    format: Format = "raw"
    headers: list[str] = field(default_factory=list)
    max_replay: Positive = 10_000
    auth: SSEAuthSection | None = None
    cors: list[str] | CorsSection | None = None
    rate: str | RateSection | None = None

    @property
    def pattern(self) -> str:
        """``filter``, or ``subject``."""
        return self.filter if self.subject is None else self.subject

    def template(self) -> FilterTemplate:
        """What clients get, as a template.

        :raises TemplateError: it breaks a rule.
        """
        return FilterTemplate(self.pattern, self.token_encoding)

    def http_bindings(self) -> Iterable[HTTPBinding]:
        return (HTTPBinding(self.listen, self.path, ("GET",)),)

    def flows(self) -> Iterable[Flow]:
        return (Flow(self.nats, reads=(self.template().pattern,)),)

    def find_problems(self) -> Iterable[FieldProblem]:
        if (self.stream is None) == (self.subject is None):
            yield FieldProblem("", "both or neither of stream and subject", "one of them")
        elif self.stream is not None:
            try:
                check_name("stream", self.stream)
            except NatsError as error:
                yield FieldProblem("stream", describe_found(self.stream), str(error))
        else:
            yield from self._core_problems()
        try:
            parse_start(self.start)
        except ValueError:
            close = near_miss(self.start, STARTS)
            yield FieldProblem("start", describe_found(self.start), START_RULE, f'"{close}"' if close else "")
        yield from self._template_problems()
        yield from self._event_problems()
        yield from self._http_problems()

    def _core_problems(self) -> Iterable[FieldProblem]:
        if self.filter != ">":
            yield FieldProblem("filter", describe_found(self.filter), "only with stream; subject has the wildcards itself")
        if self.start != "new":
            yield FieldProblem("start", describe_found(self.start), '"new": without a stream there is nothing older')

    def _template_problems(self) -> Iterable[FieldProblem]:
        key = "filter" if self.subject is None else "subject"
        try:
            template = self.template()
            if self.subject is not None:
                template.check_core()
            names = PathTemplate(self.path).names
            template.check_names([*names, "query:", "header:", "peer"])
        except TemplateError as error:
            yield FieldProblem(key, describe_found(self.pattern), str(error))
            return
        except ConfigurationError:
            return  # told for all paths together
        for name in template.names:
            if name in ("header:authorization", "header:cookie"):
                yield FieldProblem(key, f"{{{name}}}", "headers without credentials: subjects are no secrets")
        if self.auth is not None and self.auth.jwt is not None:
            for claim, text in self.auth.jwt.claims.items():
                for name in _CLAIM_NAMES.findall(text):
                    if name not in names:
                        allowed = ", ".join(f"{{{known}}}" for known in names) or "no placeholder: the path has none"
                        yield FieldProblem(f"auth.jwt.claims.{claim}", describe_found(text), allowed)

    def _event_problems(self) -> Iterable[FieldProblem]:
        if self.event is not None:
            try:
                wanted = EventTemplate(self.event).wildcards
            except TemplateError as error:
                yield FieldProblem("event", describe_found(self.event), str(error))
            else:
                found = sum(token in ("*", ">") for token in self.pattern.split("."))
                if wanted > found:
                    yield FieldProblem("event", describe_found(self.event), f"{EVENT_RULE}; here there are {found}")
        if self.headers and self.format != "json":
            yield FieldProblem("headers", describe_found(self.headers), 'only with format = "json"')
        for index, name in enumerate(self.headers):
            if refusal(name, ()) == "no name of an HTTP header":
                yield FieldProblem(f"headers.{index}", describe_found(name), "names of headers of messages")

    def _http_problems(self) -> Iterable[FieldProblem]:
        if self.cors is not None:
            try:
                Cors(self.cors_section().origins, methods=("GET",))
            except ConfigurationError:
                yield FieldProblem("cors", describe_found(self.cors_section().origins), ORIGIN_RULE)
        if self.rate is not None:
            try:
                parse_rate(self.rate_section().limit)
            except ConfigurationError:
                yield FieldProblem("rate", describe_found(self.rate_section().limit), RATE_RULE)

    def find_warnings(self) -> Iterable[FieldProblem]:
        if self.auth is not None and self.auth.query is not None:
            yield FieldProblem("auth.query", describe_found(self.auth.query), "a cookie: URLs stand in logs and histories")

    def cors_section(self) -> CorsSection:
        """``cors`` in its long form."""
        assert self.cors is not None
        return CorsSection(origins=self.cors) if isinstance(self.cors, list) else self.cors

    def rate_section(self) -> RateSection:
        """``rate`` in its long form."""
        assert self.rate is not None
        return RateSection(limit=self.rate) if isinstance(self.rate, str) else self.rate


__all__ = ["AuthRequestSection", "JWTSection", "SSEAuthSection", "SSEConfig", "Start", "parse_start"]
