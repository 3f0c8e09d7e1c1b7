"""Who may listen to an event stream: by what the request brings along, and by what a service on NATS says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from twisted.internet.defer import Deferred

from pynats_twisted.bridge.auth import Authenticator
from pynats_twisted.bridge.jwt import JWTVerifier, holds
from pynats_twisted.bridge.paths import parse_query
from pynats_twisted.bridge.problem import FORBIDDEN, UNAUTHORIZED, Problem
from pynats_twisted.errors import ConfigurationError, InvalidSubjectError, MissingDependencyError, NatsError
from pynats_twisted.jetstream.api import is_subset
from pynats_twisted.protocol.subjects import check_subscribe_subject

if TYPE_CHECKING:
    from pynats_twisted.bridge.http_message import HTTPRequest
    from pynats_twisted.bridge.sse_config import AuthRequestSection, JWTSection, SSEAuthSection
    from pynats_twisted.client.client import NatsClient

AUTH_UNAVAILABLE: Final = Problem(503, "auth-unavailable", "Nobody can judge the credentials at the moment; try again later.")
AUTH_BAD_REPLY: Final = Problem(502, "auth-bad-reply", "What judges the credentials has answered nonsense.")

_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]{1,8192}=*")
_CLAIM_VALUE: Final = re.compile(r"\{([^{}]*)\}")


class Grant(NamedTuple):
    """Somebody may listen.

    :ivar until: until when, in seconds since 1970; None for no end.
    :ivar pattern: only to this filter, which lies within the one asked for; None for all of it.
    """

    until: float | None = None
    pattern: str | None = None


class _Reply(msgspec.Struct):
    """What a service answers."""

    allow: bool
    filter: str | None = None
    max_duration: float | None = None


class SSEAuth:
    """Judges requests by the credentials in them.

    :param name: the route's name: the realm.
    :param section: ``auth`` of the route.
    :param now: the clock, in seconds since 1970.
    :raises ConfigurationError: a secret or a key cannot be read or used.

    :ivar challenges: the ``WWW-Authenticate`` headers of a 401.
    """

    def __init__(self, name: str, section: SSEAuthSection, now: Callable[[], float]) -> None:
        self._cookie = section.cookie.encode("ascii") if section.cookie is not None else None
        self._query = section.query
        self._known: Authenticator | None = None
        self._jwt: JWTVerifier | None = None
        self._claims: Mapping[str, str] = {}
        self._leeway = 0.0
        try:
            if section.bearer is not None or section.basic:
                bearer = section.bearer.values if section.bearer is not None else ()
                self._known = Authenticator(bearer=bearer, basic={user: pw.value for user, pw in section.basic.items()}, realm=name)
            if section.jwt is not None:
                self._use(section.jwt, now)
        except (ValueError, MissingDependencyError) as error:
            raise ConfigurationError(f"auth: {error}") from None
        self.challenges: list[tuple[bytes, bytes]] = list(self._known.challenges) if self._known is not None else []
        if not any(value.startswith(b"Bearer") for _, value in self.challenges) and (self._jwt is not None or not self.challenges):
            self.challenges.append((b"WWW-Authenticate", b'Bearer realm="' + name.encode("ascii") + b'"'))

    def _use(self, section: JWTSection, now: Callable[[], float]) -> None:
        self._jwt = JWTVerifier(
            now,
            secrets=section.secret.values if section.secret is not None else (),
            jwks_file=section.jwks_file,
            issuer=section.issuer,
            audience=section.audience,
            leeway=section.leeway,
        )
        self._claims = section.claims
        self._leeway = section.leeway

    def judge(self, request: HTTPRequest) -> Grant | Problem:
        """Whether a request may pass: what it is granted, ``UNAUTHORIZED``, or ``FORBIDDEN``.

        :raises TemplateValueError: the query cannot be decoded.
        """
        if self._known is None and self._jwt is None:
            return Grant()
        given = request.headers.get(b"authorization", ())
        found = [*(given if len(given) == 1 else ()), *(b"Bearer " + token for token in self._tokens(request))]
        worst: Problem = UNAUTHORIZED
        for credentials in found:
            judged = self._judge_one(credentials, request.values)
            if isinstance(judged, Grant):
                return judged
            if judged is FORBIDDEN:
                worst = FORBIDDEN
        return worst

    def _tokens(self, request: HTTPRequest) -> list[bytes]:
        found: list[bytes] = []
        if self._cookie is not None:
            cookies = {value for line in request.headers.get(b"cookie", ()) for name, value in _cookies(line) if name == self._cookie}
            # Where somebody else has managed to set one too, neither is believed.
            if len(cookies) == 1:
                found += cookies
        if self._query is not None:
            values = parse_query(request.query).get(self._query, [])
            if len(values) == 1:
                found.append(values[0].encode("utf-8"))
        return [token for token in found if _TOKEN.fullmatch(token)]

    def _judge_one(self, credentials: bytes, values: Mapping[str, str]) -> Grant | Problem:
        worst: Problem = UNAUTHORIZED
        if self._known is not None:
            refused = self._known.check([credentials])
            if refused is None:
                return Grant()
            worst = refused
        match = _BEARER.fullmatch(credentials)
        if self._jwt is None or match is None:
            return worst
        claims = self._jwt.judge(match[1]).claims
        if claims is None:
            return FORBIDDEN
        for name, text in self._claims.items():
            if not holds(claims.get(name), _CLAIM_VALUE.sub(lambda found: values[found[1]], text)):
                return FORBIDDEN
        return Grant(until=float(claims["exp"]) + self._leeway)


def _cookies(line: bytes) -> list[tuple[bytes, bytes]]:
    pairs: list[tuple[bytes, bytes]] = []
    for part in line.split(b";"):
        name, equals, value = part.strip().partition(b"=")
        if equals:
            pairs.append((name, value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == b'"' else value))
    return pairs


class AuthRequest:
    """Asks a service on NATS who may listen.

    The question is a JSON object: ``route``, ``path``, ``values`` (of the path), ``filter``, ``peer``, and ``headers``, each an array. The
    answer is one too: ``{"allow": true}``, perhaps with a narrower ``filter``, and with ``max_duration`` in seconds.

    :param route: the route's name.
    :param section: ``auth.request`` of the route.
    :param client: the route's NATS client.
    :param now: the clock, in seconds since 1970.
    """

    def __init__(self, route: str, section: AuthRequestSection, client: NatsClient, now: Callable[[], float]) -> None:
        self._route = route
        self._subject = section.subject
        self._timeout = section.timeout
        self._headers = [(name, name.lower().encode("ascii")) for name in section.headers]
        self._client = client
        self._now = now

    def ask(self, request: HTTPRequest, pattern: str) -> Deferred[Grant | Problem]:
        """Fires with what the service grants, or with the problem to answer. It fails for nothing but being cancelled.

        :param pattern: the filter that the request is for.
        """
        return Deferred.fromCoroutine(self._ask(request, pattern))

    async def _ask(self, request: HTTPRequest, pattern: str) -> Grant | Problem:
        headers = {name: [_text(value) for value in request.headers[raw]] for name, raw in self._headers if raw in request.headers}
        question = {
            "route": self._route,
            "path": request.path.decode("ascii"),
            "values": dict(request.values),
            "filter": pattern,
            "peer": request.peer,
            "headers": headers,
        }
        try:
            reply: Any = await self._client.request(self._subject, msgspec.json.encode(question), timeout=self._timeout)
        except NatsError:
            return AUTH_UNAVAILABLE
        return self._read(reply.data, pattern)

    def _read(self, data: bytes, pattern: str) -> Grant | Problem:
        try:
            reply = msgspec.json.decode(data, type=_Reply)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return AUTH_BAD_REPLY
        if not reply.allow:
            return FORBIDDEN
        if reply.filter is not None and not _is_within(reply.filter, pattern):
            return AUTH_BAD_REPLY
        until = None if reply.max_duration is None else self._now() + max(0.0, reply.max_duration)
        return Grant(until, reply.filter)


def _is_within(pattern: str, outer: str) -> bool:
    try:
        check_subscribe_subject(pattern)
    except InvalidSubjectError:
        return False
    return is_subset(pattern, outer)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
