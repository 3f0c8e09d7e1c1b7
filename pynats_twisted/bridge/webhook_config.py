"""The keys of ``type = "webhook"``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from msgspec import Meta, field

from pynats_twisted.bridge.config import Flow, Positive, RouteConfig, Section
from pynats_twisted.bridge.config_errors import FieldProblem, describe_found, near_miss
from pynats_twisted.bridge.config_types import KIB, ByteSize, FilePath, PositiveDuration, Secret
from pynats_twisted.bridge.headers import HEADER_RULE, HOP_BY_HOP, NEVER_FORWARDED, refusal
from pynats_twisted.bridge.limits import RATE_RULE, parse_rate
from pynats_twisted.bridge.private_addresses import is_address, is_private
from pynats_twisted.bridge.retry_schedule import FAST, MAX_ATTEMPTS, STANDARD_WEBHOOKS, RetrySchedule
from pynats_twisted.bridge.routes.http_config import RateSection
from pynats_twisted.bridge.subjects import SubjectTemplate
from pynats_twisted.errors import ConfigurationError, NatsError, TemplateError
from pynats_twisted.jetstream.api import check_name, check_subject

URL_RULE: Final = "http:// or https://, a host, printable ASCII, no user or password, no fragment, nothing in braces"
DEFAULT_DLQ: Final = "dlq.{stream}.{consumer}.{seq}"
DLQ_RULE: Final = "a subject with {seq}, and perhaps {stream} and {consumer}"
SCHEDULES: Final = ("fast", "standard-webhooks")
SCHEDULE_RULE: Final = '"fast", "standard-webhooks", or an array of durations'
SHORTEST_ACK_WAIT: Final = 0.5
DEPLOY_STATUSES: Final = frozenset({401, 403, 404})
"""What a target answers that is being deployed or set up; a permanent answer otherwise."""

_URL = re.compile(r"[!-~]+", re.ASCII)
# What the bridge itself says of a request, or what is about the connection.
_NOT_CONFIGURABLE: Final = HOP_BY_HOP | {"content-length", "content-type", "expect", "host"}
_VALUE = re.compile(r"[\t -~]*", re.ASCII)


class TargetURL(NamedTuple):
    """The parts of a webhook's URL.

    :ivar is_tls: whether it is ``https``.
    :ivar host: a name or an address, without brackets.
    :ivar port: the port.
    :ivar authority: what ``Host`` says.
    :ivar path: path and query, as the request line has them.
    """

    is_tls: bool
    host: str
    port: int
    authority: str
    path: str

    @property
    def shown(self) -> str:
        """The URL for people, without the query, which may be a secret."""
        return f"{'https' if self.is_tls else 'http'}://{self.authority}{self.path.partition('?')[0]}"


def parse_target(url: str) -> TargetURL:
    """The parts of a URL.

    :raises ConfigurationError: it breaks the rule :data:`URL_RULE`; the text does not contain it, as it may have a password.
    """
    problem = ConfigurationError(f"the URL of a webhook must have: {URL_RULE}")
    if _URL.fullmatch(url) is None or "{" in url or "}" in url or "#" in url or "\\" in url:
        raise problem
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise problem from None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or port == 0:
        raise problem
    is_tls = parts.scheme == "https"
    standard = 443 if is_tls else 80
    shown_host = f"[{host}]" if ":" in host else host
    authority = shown_host if port in (None, standard) else f"{shown_host}:{port}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return TargetURL(is_tls, host, port or standard, authority, path)


class SignSection(Section, kw_only=True, frozen=True):
    """``sign``: how requests are signed.

    :ivar scheme: ``standard-webhooks``: ``webhook-signature``, an HMAC-SHA256 of ``webhook-id``, ``webhook-timestamp`` and body.
    :ivar secret: the secret, base64 of 24 to 64 bytes, with or without ``whsec_`` before it.
    :ivar secrets: several secrets, each of which signs, while one is being replaced.
    """

    scheme: Literal["standard-webhooks"] = "standard-webhooks"
    secret: Secret | None = None
    secrets: list[Secret] = field(default_factory=list)

    def find_problems(self) -> Iterable[FieldProblem]:
        if self.secret is None and not self.secrets:
            yield FieldProblem("", "no secret", "secret, or secrets")

    def values(self) -> list[str]:
        """All secrets.

        :raises CredentialsError: one cannot be read.
        """
        return [secret.value for secret in ([self.secret] if self.secret is not None else []) + self.secrets]


class RetrySection(Section, kw_only=True, frozen=True):
    """``retry``: when a message is tried again that the target did not take. Either ``schedule``, or waits that grow.

    :ivar schedule: ``fast`` (1 s, doubled up to 5 min, 12 attempts), ``standard-webhooks`` (5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h,
        24 h), or the waits themselves: ``["1s", "10s", "1m"]``.
    :ivar initial: seconds of the first wait.
    :ivar factor: how many times longer each wait is than the one before.
    :ivar max: seconds of the longest wait.
    :ivar max_attempts: attempts in all. With ``schedule`` by default one more than it has waits; else 12.
    :ivar jitter: part of a wait that is added at most, by chance.
    """

    schedule: str | list[PositiveDuration] | None = None
    initial: PositiveDuration | None = None
    factor: Annotated[float, Meta(ge=1)] | None = None
    max: PositiveDuration | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=MAX_ATTEMPTS)] | None = None
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.2

    def find_problems(self) -> Iterable[FieldProblem]:
        grows = [key for key in ("initial", "factor", "max") if getattr(self, key) is not None]
        if self.schedule is not None and grows:
            yield FieldProblem(grows[0], f"{grows[0]} besides schedule", "either schedule, or initial, factor and max")
        elif isinstance(self.schedule, str) and self.schedule not in SCHEDULES:
            close = near_miss(self.schedule, SCHEDULES)
            yield FieldProblem("schedule", describe_found(self.schedule), SCHEDULE_RULE, f'"{close}"' if close else "")
        elif self.schedule == []:
            yield FieldProblem("schedule", "an empty array", SCHEDULE_RULE)
        elif self.schedule is None and self._longest < self._initial:
            yield FieldProblem("max", f"max of {self._longest:g} s, less than initial", "at least initial")

    @property
    def _initial(self) -> float:
        return FAST[0] if self.initial is None else self.initial

    @property
    def _longest(self) -> float:
        return FAST[2] if self.max is None else self.max

    def make(self) -> RetrySchedule:
        """The schedule."""
        if isinstance(self.schedule, list):
            return RetrySchedule(self.schedule, self.max_attempts, self.jitter)
        if self.schedule == "standard-webhooks":
            return RetrySchedule(STANDARD_WEBHOOKS, self.max_attempts, self.jitter)
        factor = FAST[1] if self.factor is None else self.factor
        return RetrySchedule.growing(self._initial, factor, self._longest, self.max_attempts or FAST[3], self.jitter)


class BreakerSection(Section, kw_only=True, frozen=True):
    """``breaker``: when a target counts as down.

    :ivar after: failures in a row.
    :ivar cooldown: seconds until one message is tried.
    """

    after: Positive = 10
    cooldown: PositiveDuration = 30.0


class TLSSection(Section, kw_only=True, frozen=True):
    """``tls``: what an ``https`` target has to show, and what it is shown.

    :ivar ca: file with the certificate authorities to trust, PEM; by default those of the system.
    :ivar cert: file with the client's certificate, PEM.
    :ivar key: file with the key of *cert*, PEM, if it is not in the same file.
    """

    ca: FilePath | None = None
    cert: FilePath | None = None
    key: FilePath | None = None

    def find_problems(self) -> Iterable[FieldProblem]:
        if self.key is not None and self.cert is None:
            yield FieldProblem("key", "key without cert", "cert and key together")


class WebhookConfig(RouteConfig, kw_only=True, frozen=True):
    """The keys of ``type = "webhook"``.

    :ivar stream: the stream with the messages.
    :ivar consumer: the durable consumer of this route: made when it is not there, checked when it is. One for each target.
    :ivar filter: only messages with these subjects; without it, all of the stream.
    :ivar url: where requests go. It is fixed: nothing of a message becomes part of it.
    :ivar method: the method.
    :ivar headers: headers of every request, for example ``Authorization``; values may come from the environment or a file.
    :ivar request_headers: headers of messages that are passed on. ``traceparent`` and ``tracestate`` always are.
    :ivar content_type: ``Content-Type`` of messages that have none, or whose own is not passed on.
    :ivar sign: how requests are signed.
    :ivar concurrency: most requests at a time.
    :ivar timeout: seconds for one request in all.
    :ivar connect_timeout: seconds of it for the connection.
    :ivar ack: ``confirmed`` waits until the server has taken each ack; ``plain`` does not.
    :ivar ack_wait: seconds after which the server delivers to another bridge what this one holds when it has died. While a request runs,
        the bridge tells the server so, three times in this time.
    :ivar retry: when a message is tried again.
    :ivar permanent_attempts: attempts at a message that the target refuses for good; by default 1, and 5 with 401, 403 and 404.
    :ivar breaker: when the target counts as down.
    :ivar ordering: ``strict`` sends one message at a time, and the next only when this one is done with.
    :ivar rate: requests per unit of time.
    :ivar dlq: the subject of dead letters. With ``ordering = "strict"`` there is none by default: what is not taken is tried for ever.
    :ivar on_gone: what 410 means: ``pause`` the route until somebody resumes it, or ``dlq`` for the message.
    :ivar response_limit: most bytes of a response's body.
    :ivar allow_private: allow a target that is not on the public internet.
    :ivar tls: certificates.
    :ivar tracing: make a ``traceparent`` where the message has none.
    """

    stream: str
    consumer: str
    filter: str | list[str] = field(default_factory=list)
    url: str
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    headers: dict[str, Secret] = field(default_factory=dict)
    request_headers: list[str] = field(default_factory=lambda: ["content-type"])
    content_type: str = "application/octet-stream"
    sign: SignSection | None = None
    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 32
    timeout: PositiveDuration = 20.0
    connect_timeout: PositiveDuration = 5.0
    ack: Literal["plain", "confirmed"] = "plain"
    ack_wait: PositiveDuration = 10.0
    retry: RetrySection = field(default_factory=RetrySection)
    permanent_attempts: Annotated[int, Meta(ge=1, le=MAX_ATTEMPTS)] | None = None
    breaker: BreakerSection = field(default_factory=BreakerSection)
    ordering: Literal["none", "strict"] = "none"
    rate: str | RateSection | None = None
    dlq: str | None = None
    on_gone: Literal["pause", "dlq"] = "pause"
    response_limit: ByteSize = 64 * KIB
    allow_private: bool = False
    tls: TLSSection = field(default_factory=TLSSection)
    tracing: bool = False

    # --- what follows from the keys --------------------------------------------------------------------------------

    @property
    def filters(self) -> list[str]:
        """``filter`` as a list."""
        return [self.filter] if isinstance(self.filter, str) else self.filter

    @property
    def is_strict(self) -> bool:
        """Whether one message at a time is sent."""
        return self.ordering == "strict"

    @property
    def slots(self) -> int:
        """Most requests at a time."""
        return 1 if self.is_strict else self.concurrency

    @property
    def max_ack_pending(self) -> int:
        """Of the consumer."""
        return 1 if self.is_strict else max(1000, 4 * self.concurrency)

    @property
    def dead_letter_subject(self) -> str | None:
        """The subject of dead letters with ``{seq}`` in it, or None where there are none."""
        text = self.dlq if self.dlq is not None else None if self.is_strict else DEFAULT_DLQ
        return text.replace("{stream}", self.stream).replace("{consumer}", self.consumer) if text is not None else None

    def permanent_limit(self, status: int) -> int:
        """Attempts at a message that the target refuses with this status."""
        if self.permanent_attempts is not None:
            return self.permanent_attempts
        return 5 if status in DEPLOY_STATUSES else 1

    def rate_section(self) -> RateSection | None:
        """``rate`` in its long form."""
        return RateSection(limit=self.rate) if isinstance(self.rate, str) else self.rate

    def flows(self) -> Iterable[Flow]:
        subject = self.dead_letter_subject
        return (Flow(self.nats, tuple(self.filters), (SubjectTemplate(subject).pattern,) if subject is not None else ()),)

    # --- what breaks a rule ----------------------------------------------------------------------------------------

    def find_problems(self) -> Iterable[FieldProblem]:
        for key in ("stream", "consumer"):
            yield from _tried(key, getattr(self, key), check_name)
        for index, subject in enumerate(self.filters):
            key = "filter" if isinstance(self.filter, str) else f"filter.{index}"
            yield from _tried(key, subject, lambda what, name: check_subject(what, name, wildcards=True))
        yield from self._url_problems()
        for name in self.headers:
            lower = name.lower()
            if refusal(name, _NOT_CONFIGURABLE) is not None or lower.startswith("webhook-"):
                allowed = "names of HTTP headers that the bridge does not set itself; content_type has a key of its own"
                yield FieldProblem("headers", describe_found(name), allowed)
        for index, name in enumerate(self.request_headers):
            if refusal(name, NEVER_FORWARDED) is not None or name.lower().startswith("webhook-"):
                yield FieldProblem(f"request_headers.{index}", describe_found(name), HEADER_RULE)
        if not self.content_type or _VALUE.fullmatch(self.content_type) is None:
            yield FieldProblem("content_type", describe_found(self.content_type), "printable ASCII")
        if self.ack_wait < SHORTEST_ACK_WAIT:
            yield FieldProblem("ack_wait", f"{self.ack_wait:g} s", f"at least {SHORTEST_ACK_WAIT:g} s")
        rate = self.rate_section()
        if rate is not None:
            try:
                parse_rate(rate.limit)
            except ConfigurationError:
                yield FieldProblem("rate", describe_found(rate.limit), RATE_RULE)
        yield from self._dlq_problems()

    def _url_problems(self) -> Iterable[FieldProblem]:
        try:
            target = parse_target(self.url)
        except ConfigurationError:
            # What stands there may be a password.
            yield FieldProblem("url", "a URL that cannot be used", URL_RULE)
            return
        if self.tls != TLSSection() and not target.is_tls:
            yield FieldProblem("tls", "certificates with an http:// URL", "tls with https:// only")
        name = target.host.rstrip(".")
        private = is_private(target.host) if is_address(target.host) else name == "localhost" or name.endswith(".localhost")
        if private and not self.allow_private:
            yield FieldProblem("url", f'the host "{target.host}", which is not public', "a public host, or allow_private = true")

    def _dlq_problems(self) -> Iterable[FieldProblem]:
        if self.dlq is None:
            return
        try:
            template = SubjectTemplate(self.dlq)
            template.check_names(["stream", "consumer", "seq"])
            if "seq" not in template.names:
                raise TemplateError("without {seq}, two dead letters would have the same subject")
        except TemplateError as error:
            yield FieldProblem("dlq", describe_found(self.dlq), f"{DLQ_RULE} ({error})")

    def find_warnings(self) -> Iterable[FieldProblem]:
        if not parse_target(self.url).is_tls and not self.allow_private:
            yield FieldProblem("url", "http:// to a public host: messages can be read on their way", "https://")
        if self.connect_timeout > self.timeout:
            yield FieldProblem("connect_timeout", "more than timeout, which bounds it", "at most timeout")


def _tried(key: str, value: str, check: Any) -> Iterable[FieldProblem]:
    try:
        check(key, value)
    except NatsError as error:
        yield FieldProblem(key, describe_found(value), str(error))
