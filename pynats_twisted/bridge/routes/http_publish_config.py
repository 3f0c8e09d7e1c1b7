"""The keys of ``http-publish``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta, field

from pynats_twisted.bridge.config import Positive, Section
from pynats_twisted.bridge.config_errors import FieldProblem, describe_found, near_miss
from pynats_twisted.bridge.config_types import PositiveDuration, Secret
from pynats_twisted.bridge.routes.http_config import HTTPRouteConfig
from pynats_twisted.bridge.verify import DEFAULT_TOLERANCE, SIGNED_HEADERS, Algorithm, Encoding, Scheme, Verifier
from pynats_twisted.errors import ConfigurationError

if TYPE_CHECKING:
    from pynats_twisted.bridge.context import RouteContext

CONFIRM_LEVELS: Final = ("none", "server", "jetstream")
CONFIRM_RULE: Final = '"none", "server" or "jetstream"'
DEDUPE_RULE: Final = '"header:NAME", "query:NAME", "body" (a SHA-256 of subject and body), "request" (an id of the bridge\'s own) or "none"'
SOURCE_RULE: Final = '"header:NAME" or "query:NAME"'

_SOURCE = re.compile(r"header:([A-Za-z0-9!#$%&'*+.^_`|~-]{1,64})|query:([A-Za-z0-9_.-]{1,64})", re.ASCII)
_STREAM = re.compile(r"[^\s.*>/\\\x00-\x1f\x7f]{1,255}")
_CREDENTIALS: Final = ("header:authorization", "header:cookie", "header:proxy-authorization")
_WORDS: Final = ("body", "request", "none")


def normal_source(source: str) -> str:
    """``header:NAME`` in lower case; all else as it is."""
    return source.lower() if source.startswith("header:") else source


def _source_problem(key: str, source: str, rule: str) -> FieldProblem | None:
    if _SOURCE.fullmatch(source) is None:
        return FieldProblem(key, describe_found(source), rule)
    if normal_source(source) in _CREDENTIALS:
        return FieldProblem(key, describe_found(source), "a header without credentials")
    return None


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


class ExpectedSection(Section, kw_only=True, frozen=True):
    """``expected``: what the stream has to be like; otherwise it stores nothing, and the sender is told 409.

    A number is the same for all requests; ``"header:NAME"`` or ``"query:NAME"`` lets each one say it.

    :ivar stream: the stream that has to store the message. With another one the sender is told 502.
    :ivar last_seq: the last sequence of the stream.
    :ivar last_subject_seq: the last sequence of the message's subject; 0: there is none yet.
    :ivar last_msg_id: where a request says which of the ids that ``dedupe`` takes the stream's last message has.
    """

    stream: str | None = None
    last_seq: Annotated[int, Meta(ge=0)] | str | None = None
    last_subject_seq: Annotated[int, Meta(ge=0)] | str | None = None
    last_msg_id: str | None = None

    def find_problems(self) -> Iterable[FieldProblem]:
        if self.stream is None and not self.about_last:
            yield FieldProblem("", "nothing", "stream, last_seq, last_subject_seq or last_msg_id")
        if self.stream is not None and _STREAM.fullmatch(self.stream) is None:
            yield FieldProblem("stream", describe_found(self.stream), "the name of a stream: no white space, no dot, no * > / \\")
        for key in ("last_seq", "last_subject_seq", "last_msg_id"):
            value = getattr(self, key)
            if isinstance(value, str):
                rule = SOURCE_RULE if key == "last_msg_id" else f"a number, {SOURCE_RULE}"
                problem = _source_problem(key, value, rule)
                if problem is not None:
                    yield problem

    @property
    def about_last(self) -> bool:
        """Whether it is about what the stream has last."""
        return not (self.last_seq is None and self.last_subject_seq is None and self.last_msg_id is None)


class HTTPPublishConfig(HTTPRouteConfig, kw_only=True, frozen=True):
    """The keys of ``type = "http-publish"``.

    :ivar confirm: when a message counts as accepted: ``none`` when it is in the bridge's buffer, ``server`` when the NATS server
        has answered a PING sent after it, ``jetstream`` when a stream has stored it.
    :ivar verify: how requests are signed; without it they are not.
    :ivar dedupe: what the ``Nats-Msg-Id`` is made of. Without it: what the signature covers, if there is one; otherwise, with ``confirm =
        "jetstream"``, an id of the bridge's own.
    :ivar expected: what the stream has to be like; with ``confirm = "jetstream"`` only.
    :ivar ok_status: the status of the answer to an accepted request.
    :ivar batch: ``ndjson`` takes each line of a body as a message of its own. Lines are not parsed; empty ones are skipped.
    :ivar max_batch: most messages in one body.
    """

    confirm: Annotated[str, Meta(extra_json_schema={"enum": list(CONFIRM_LEVELS)})] = "jetstream"
    verify: VerifySection | None = None
    dedupe: str | None = None
    expected: ExpectedSection | None = None
    ok_status: Annotated[int, Meta(ge=200, le=299)] = 202
    batch: Literal["none", "ndjson"] = "none"
    max_batch: Positive = 1000

    def find_problems(self) -> Iterable[FieldProblem]:
        yield from super().find_problems()
        if self.confirm not in CONFIRM_LEVELS:
            close = near_miss(self.confirm, CONFIRM_LEVELS)
            yield FieldProblem("confirm", describe_found(self.confirm), CONFIRM_RULE, f'"{close}"' if close else "")
        if self.dedupe is not None and self.dedupe not in _WORDS:
            problem = _source_problem("dedupe", self.dedupe, DEDUPE_RULE)
            if problem is not None:
                yield problem
        if self.expected is not None:
            if self.confirm != "jetstream":
                yield FieldProblem(
                    "expected", f'a section with confirm = "{self.confirm}"', 'confirm = "jetstream": only a stream checks it'
                )
            if self.expected.about_last and self.batch != "none":
                yield FieldProblem("expected", f'last_… with batch = "{self.batch}"', "stream alone: each line changes what is last")

    def find_warnings(self) -> Iterable[FieldProblem]:
        if self.verify is not None and self.dedupe not in (None, *_WORDS) and self.effective_dedupe not in self._signed():
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
            return normal_source(self.dedupe)
        if self.verify is None:
            return "request" if self.confirm == "jetstream" else "none"
        return "header:webhook-id" if self.verify.scheme == "standard-webhooks" else "body"
