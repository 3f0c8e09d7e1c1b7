"""``http-publish``: an HTTP request becomes a NATS message; the response says that it is safe, as far as ``confirm`` goes.

Made for webhooks: signatures are verified over the raw body, and an id of the sender can become the ``Nats-Msg-Id`` by which a
stream drops repetitions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from msgspec import Meta, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from pynats_twisted.bridge.config import Positive, Section
from pynats_twisted.bridge.config_errors import FieldProblem, describe_found, near_miss
from pynats_twisted.bridge.config_types import PositiveDuration, Secret
from pynats_twisted.bridge.confirm import ServerConfirmer
from pynats_twisted.bridge.interfaces import IRouteFactory
from pynats_twisted.bridge.paths import parse_query
from pynats_twisted.bridge.problem import (
    BAD_BATCH,
    BAD_SIGNATURE,
    BAD_VALUE,
    BATCH_TOO_LARGE,
    CONFIRM_TIMEOUT,
    NOT_CONFIRMED,
    Response,
)
from pynats_twisted.bridge.routes.http_common import HTTPRoute, encode_json
from pynats_twisted.bridge.routes.http_config import HTTPRouteConfig
from pynats_twisted.bridge.verify import DEFAULT_TOLERANCE, SIGNED_HEADERS, Algorithm, Encoding, Scheme, SignatureError, Verifier
from pynats_twisted.errors import ConfigurationError, NatsError, TemplateValueError

if TYPE_CHECKING:
    from pynats_twisted.bridge.context import RouteContext
    from pynats_twisted.bridge.http_message import HTTPRequest
    from pynats_twisted.protocol.headers import Headers

CONFIRM_LEVELS: Final = ("none", "server")
CONFIRM_RULE: Final = '"none" or "server" in this version'
DEDUPE_RULE: Final = '"header:NAME", "query:NAME", "body" (a SHA-256 of subject and body) or "none"'
MSG_ID_HEADER: Final = "Nats-Msg-Id"
PATH_HEADER: Final = "Nats-Bridge-Path"

_DEDUPE = re.compile(r"(?:header:([A-Za-z0-9!#$%&'*+.^_`|~-]{1,64})|query:([A-Za-z0-9_.-]{1,64})|body|none)", re.ASCII)
# An id of another form becomes its digest: it keeps its meaning, and its size and characters cannot do harm.
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:/=+-]{1,128}", re.ASCII)


class VerifySection(Section, kw_only=True, frozen=True):
    """``verify``: how requests are signed.

    :ivar scheme: ``github``, ``stripe``, ``standard-webhooks``, ``gitlab``, ``slack``, or ``hmac`` with the keys below.
    :ivar secret: the secret.
    :ivar secrets: several secrets, any of which will do, while one is being replaced.
    :ivar tolerance: seconds that a signed timestamp may be away from the clock.
    :ivar header: for ``hmac``: the header with the signature.
    :ivar prefix: for ``hmac``: what stands before the signature.
    :ivar algorithm: for ``hmac``: ``sha1``, ``sha256``, ``sha384`` or ``sha512``.
    :ivar encoding: for ``hmac``: ``hex`` or ``base64``.
    """

    scheme: Scheme
    secret: Secret | None = None
    secrets: list[Secret] = field(default_factory=list)
    tolerance: PositiveDuration = DEFAULT_TOLERANCE
    header: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{0,64}$")] = ""
    prefix: Annotated[str, Meta(pattern=r"^[ -~]{0,32}$")] = ""
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"

    def find_problems(self) -> Iterable[FieldProblem]:
        if self.secret is None and not self.secrets:
            yield FieldProblem("", "no secret", "secret, or secrets")
        if self.scheme == "hmac" and not self.header:
            yield FieldProblem("header", "nothing", 'the name of the header with the signature, which scheme "hmac" needs')
        if self.scheme != "hmac" and (self.header or self.prefix or self.algorithm != "sha256" or self.encoding != "hex"):
            found = f'header, prefix, algorithm or encoding with scheme "{self.scheme}"'
            yield FieldProblem("", found, 'these keys with scheme "hmac" only')

    def verifier(self, context: RouteContext) -> Verifier:
        """The check, on the reactor's clock.

        :raises ConfigurationError: a secret cannot be read or used.
        """
        try:
            secrets = [secret.value for secret in ([self.secret] if self.secret is not None else []) + self.secrets]
        except ValueError as error:
            raise ConfigurationError(f"verify: {error}") from None
        return Verifier(
            self.scheme,
            secrets,
            context.reactor.seconds,
            tolerance=self.tolerance,
            header=self.header,
            prefix=self.prefix,
            algorithm=self.algorithm,
            encoding=self.encoding,
        )


class HTTPPublishConfig(HTTPRouteConfig, kw_only=True, frozen=True):
    """The keys of ``type = "http-publish"``.

    :ivar confirm: when a message counts as accepted: ``none`` when it is in the bridge's buffer, ``server`` when the NATS server
        has answered a PING sent after it.
    :ivar verify: how requests are signed; without it they are not.
    :ivar dedupe: what the ``Nats-Msg-Id`` is made of. Without it: what the signature covers, if there is one, otherwise nothing.
    :ivar ok_status: the status of the answer to an accepted request.
    :ivar batch: ``ndjson`` takes each line of a body as a message of its own. Lines are not parsed; empty ones are skipped.
    :ivar max_batch: most messages in one body.
    """

    confirm: Annotated[str, Meta(extra_json_schema={"enum": list(CONFIRM_LEVELS)})] = "server"
    verify: VerifySection | None = None
    dedupe: str | None = None
    ok_status: Annotated[int, Meta(ge=200, le=299)] = 202
    batch: Literal["none", "ndjson"] = "none"
    max_batch: Positive = 1000

    def find_problems(self) -> Iterable[FieldProblem]:
        yield from super().find_problems()
        if self.confirm not in CONFIRM_LEVELS:
            found = describe_found(self.confirm)
            if self.confirm == "jetstream":
                found += ", which this version does not offer yet"
            close = near_miss(self.confirm, CONFIRM_LEVELS)
            yield FieldProblem("confirm", found, CONFIRM_RULE, f'"{close}"' if close else "")
        if self.dedupe is not None and _DEDUPE.fullmatch(self.dedupe) is None:
            yield FieldProblem("dedupe", describe_found(self.dedupe), DEDUPE_RULE)
        if self.dedupe in ("header:authorization", "header:cookie"):
            yield FieldProblem("dedupe", describe_found(self.dedupe), "a header without credentials")

    def find_warnings(self) -> Iterable[FieldProblem]:
        if self.verify is not None and self.dedupe not in (None, "body", "none") and self.effective_dedupe not in self._signed():
            scheme = self.verify.scheme
            yield FieldProblem(
                "dedupe", f'{describe_found(self.dedupe)}, which a signature of scheme "{scheme}" does not cover: '
                "who replays a request can change it", '"body", or a header that is signed',
            )  # fmt: skip

    def _signed(self) -> list[str]:
        return [f"header:{name}" for name in SIGNED_HEADERS[self.verify.scheme]] if self.verify is not None else []

    @property
    def effective_dedupe(self) -> str:
        """``dedupe`` with its default: what a signature covers, if there is one."""
        if self.dedupe is not None:
            return self.dedupe.lower() if self.dedupe.startswith("header:") else self.dedupe
        if self.verify is None:
            return "none"
        return "header:webhook-id" if self.verify.scheme == "standard-webhooks" else "body"


class HTTPPublishRoute(HTTPRoute):
    """One ``http-publish`` route."""

    type_name = "http-publish"
    config: HTTPPublishConfig

    def __init__(self, name: str, config: HTTPPublishConfig, context: RouteContext) -> None:
        super().__init__(name, config, context)
        self._verifier = config.verify.verifier(context) if config.verify is not None else None
        self._dedupe = config.effective_dedupe
        self._lazy_confirmer: ServerConfirmer | None = None

    @property
    def _confirmer(self) -> ServerConfirmer:
        if self._lazy_confirmer is None:
            self._lazy_confirmer = ServerConfirmer(self.context.reactor, self.client, self.config.timeout)
        return self._lazy_confirmer

    def guarantee(self) -> str:
        """What a caller may rely on, in words."""
        if self.config.confirm == "none":
            return (
                f"at most once: {self.config.ok_status} means that the message is in the bridge's buffer; it is lost when the bridge or "
                "its connection ends before it is sent"
            )
        return (
            f"{self.config.ok_status} means that the NATS server has the message; who is subscribed gets it, it is not stored. After "
            "503 and 504 it may have been published"
        )

    def forward(self, request: HTTPRequest, subject: str, headers: Headers) -> None:
        """Verify, publish, confirm, answer."""
        body = request.body
        if self._verifier is not None:
            try:
                self._verifier.verify(request.headers, body)
            except SignatureError as error:
                self.context.bad_input(self, f"signature-{error.reason}", f"from {request.peer}")
                request.respond(request.problem(BAD_SIGNATURE))
                return
        messages = self._messages(body)
        if not messages:
            request.respond(request.problem(BAD_BATCH))
            return
        if len(messages) > self.config.max_batch:
            request.respond(request.problem(BATCH_TOO_LARGE, max_messages=self.config.max_batch))
            return
        try:
            message_id = self._message_id(request, subject, body)
        except TemplateValueError as error:
            request.respond(request.problem(BAD_VALUE, detail=str(error)))
            return
        headers[PATH_HEADER] = self.context.bridge.name
        done = Deferred.fromCoroutine(self._publish(request, subject, headers, messages, message_id))
        done.addErrback(request.failed)

    def _messages(self, body: bytes) -> Sequence[bytes]:
        if self.config.batch == "none":
            return (body,)
        # One more than allowed is enough to know that there are too many; an empty line more or less is no matter.
        lines = (line.rstrip(b"\r") for line in body.split(b"\n"))
        return [line for line in lines if line.strip()]

    def _message_id(self, request: HTTPRequest, subject: str, body: bytes) -> str:
        kind, _, name = self._dedupe.partition(":")
        if kind == "none":
            return ""
        if kind == "body":
            # The subject is part of it: the same body may rightly go to two subjects of one stream.
            digest = hashlib.sha256(subject.encode("utf-8") + b"\n" + body).hexdigest()
            return f"{self.name}:{digest}"
        found: Sequence[str]
        if kind == "header":
            found = [value.decode("latin-1") for value in request.headers.get(name.encode("ascii"), ())]
        else:
            found = parse_query(request.query).get(name, ())
        if len(found) != 1 or not found[0]:
            raise TemplateValueError(self._dedupe, "missing", "it has to be there once, and not empty")
        value = found[0]
        if _PLAIN_ID.fullmatch(value) is None:
            value = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self.name}:{value}"

    async def _publish(self, request: HTTPRequest, subject: str, headers: Headers, messages: Sequence[bytes], message_id: str) -> None:
        size = len(request.body)
        confirmer = self._confirmer if self.config.confirm == "server" else None
        ticket = confirmer.ticket(subject) if confirmer is not None else None
        confirmed: Deferred[None] | None = None
        published = 0
        try:
            for number, message in enumerate(messages, start=1):
                if message_id:
                    headers[MSG_ID_HEADER] = message_id if len(messages) == 1 else f"{message_id}:{number}"
                sent = self.client.publish(subject, message, headers=headers)
                published = number
                if number < len(messages):
                    await sent
            if confirmer is not None and ticket is not None:
                confirmed = confirmer.confirm(ticket)
            await sent
            if confirmed is not None:
                await confirmed
        except NatsError as error:
            details = {"published": published} if len(messages) > 1 else {}
            response = self.nats_problem(request, error, NOT_CONFIRMED, CONFIRM_TIMEOUT, **details)
            if response is None:
                raise
            request.respond(response)
            return
        finally:
            if confirmer is not None and ticket is not None:
                confirmer.discard(ticket)
            if confirmed is not None:
                confirmed.addErrback(lambda _: None)  # nobody else hears of it when something before it failed
        self.metrics.messages_out.inc(published)
        self.metrics.bytes_out.inc(size)
        content = {"confirm": self.config.confirm, "messages": published}
        request.respond(Response(self.config.ok_status, [(b"Content-Type", b"application/json")], encode_json(content)))


@implementer(IRouteFactory)
class HTTPPublishFactory:
    """Makes ``http-publish`` routes."""

    type_name = HTTPPublishRoute.type_name
    config_type = HTTPPublishConfig

    def make_route(self, name: str, config: Any, context: Any) -> HTTPPublishRoute:
        """A route, not started."""
        return HTTPPublishRoute(name, config, context)


factory = HTTPPublishFactory()
