"""Signatures of webhooks: is this body from whom it claims to be, and is it new.

Signatures are computed over the body exactly as it came in, compared in constant time, and checked against every secret of the
route, so that a secret can be changed without losing a message.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from pynats_twisted.errors import ConfigurationError

Scheme = Literal["github", "stripe", "standard-webhooks", "gitlab", "slack", "hmac"]
Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]
Encoding = Literal["hex", "base64"]
RequestHeaders = Mapping[bytes, Sequence[bytes]]

DEFAULT_TOLERANCE: Final = 300.0
"""Seconds that a signed timestamp may be away from the clock, either way."""

MAX_SIGNATURES: Final = 16
"""A header with more signatures than this is refused: each costs a comparison with each secret."""

SIGNED_HEADERS: Final[Mapping[str, frozenset[str]]] = {
    "github": frozenset(),
    "stripe": frozenset(),
    "standard-webhooks": frozenset({"webhook-id", "webhook-timestamp"}),
    "gitlab": frozenset(),
    "slack": frozenset({"x-slack-request-timestamp"}),
    "hmac": frozenset(),
}
"""Headers that a scheme's signature covers, besides the body. All others can be changed by whoever replays a request."""

_ALGORITHMS: Final = ("sha1", "sha256", "sha384", "sha512")
_WHSEC: Final = "whsec_"
# Around the year 5138: enough for seconds, and too few digits to make int() slow.
_MAX_TIMESTAMP_DIGITS: Final = 11


class SignatureError(Exception):
    """A request is not signed as it must be. ``reason`` is a fixed word for the log; the sender is not told."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Verifier:
    """Checks the signatures of one route.

    :param scheme: who signs how: ``github`` (``X-Hub-Signature-256``), ``stripe`` (``Stripe-Signature``), ``standard-webhooks``
        (``webhook-id``, ``webhook-timestamp``, ``webhook-signature``), ``gitlab`` (``X-Gitlab-Token``), ``slack``
        (``X-Slack-Signature``, ``X-Slack-Request-Timestamp``), or ``hmac`` (the parameters below).
    :param secrets: the secrets, any of which will do. For ``standard-webhooks`` they are base64, with or without ``whsec_``.
    :param now: the clock, in seconds since 1970; ``reactor.seconds``.
    :param tolerance: seconds that a signed timestamp may be old or early. ``github``, ``gitlab`` and ``hmac`` have none.
    :param header: for ``hmac``: the header with the signature.
    :param prefix: for ``hmac``: what stands before the signature in that header.
    :param algorithm: for ``hmac``: ``sha1``, ``sha256``, ``sha384`` or ``sha512``.
    :param encoding: for ``hmac``: ``hex`` or ``base64``.
    :raises ConfigurationError: a parameter that does not fit the scheme, or no secret.
    """

    def __init__(
        self,
        scheme: Scheme,
        secrets: Sequence[str],
        now: Callable[[], float],
        *,
        tolerance: float = DEFAULT_TOLERANCE,
        header: str = "",
        prefix: str = "",
        algorithm: Algorithm = "sha256",
        encoding: Encoding = "hex",
    ) -> None:
        checks = {
            "github": self._github,
            "stripe": self._stripe,
            "standard-webhooks": self._standard_webhooks,
            "gitlab": self._gitlab,
            "slack": self._slack,
            "hmac": self._hmac,
        }
        if scheme not in checks:
            raise ConfigurationError(f"signature scheme {scheme!r} is not known; allowed: {', '.join(checks)}")
        if not secrets or not all(secrets):
            raise ConfigurationError(f"signature scheme {scheme} needs at least one secret, and none may be empty")
        if algorithm not in _ALGORITHMS or encoding not in ("hex", "base64"):
            raise ConfigurationError(
                f"algorithm {algorithm!r} with encoding {encoding!r}; allowed: {', '.join(_ALGORITHMS)} with hex or base64"
            )
        if scheme == "hmac" and not header:
            raise ConfigurationError("signature scheme hmac needs the name of the header with the signature")
        self.scheme: Scheme = scheme
        self._check = checks[scheme]
        self._keys = [_whsec(secret) if scheme == "standard-webhooks" else secret.encode("utf-8") for secret in secrets]
        self._now = now
        self._tolerance = tolerance
        self._header = header.lower().encode("ascii")
        self._prefix = prefix.encode("ascii")
        self._algorithm = algorithm
        self._encoding = encoding

    def verify(self, headers: RequestHeaders, body: bytes) -> None:
        """Check a request.

        :param headers: values by the name in lower case.
        :param body: the body as it came in.
        :raises SignatureError: the signature is missing, malformed, wrong or too old.
        """
        self._check(headers, body)

    # --- the schemes --------------------------------------------------------------------------------------------

    def _github(self, headers: RequestHeaders, body: bytes) -> None:
        value = _one(headers, b"x-hub-signature-256")
        self._match([_hex(_without(value, b"sha256="))], body)

    def _stripe(self, headers: RequestHeaders, body: bytes) -> None:
        timestamp = b""
        signatures: list[bytes] = []
        for part in _one(headers, b"stripe-signature").split(b",", MAX_SIGNATURES + 4):
            key, _, value = part.strip().partition(b"=")
            if key == b"t":
                if timestamp:
                    raise SignatureError("malformed")
                timestamp = value
            elif key == b"v1":
                signatures.append(_hex(value))
        self._recent(timestamp)
        self._match(signatures, timestamp + b"." + body)

    def _standard_webhooks(self, headers: RequestHeaders, body: bytes) -> None:
        message_id = _one(headers, b"webhook-id")
        timestamp = _one(headers, b"webhook-timestamp")
        self._recent(timestamp)
        if b"." in message_id:
            # The signed text joins id and timestamp with dots: an id with one could take the place of another pair.
            raise SignatureError("malformed")
        signatures: list[bytes] = []
        for part in _one(headers, b"webhook-signature").split(b" ", MAX_SIGNATURES + 1):
            version, _, value = part.partition(b",")
            if version == b"v1":
                signatures.append(_base64(value))
        self._match(signatures, message_id + b"." + timestamp + b"." + body)

    def _gitlab(self, headers: RequestHeaders, body: bytes) -> None:
        token = hashlib.sha256(_one(headers, b"x-gitlab-token")).digest()
        matches = False
        for key in self._keys:
            matches |= hmac.compare_digest(token, hashlib.sha256(key).digest())
        if not matches:
            raise SignatureError("wrong")

    def _slack(self, headers: RequestHeaders, body: bytes) -> None:
        timestamp = _one(headers, b"x-slack-request-timestamp")
        self._recent(timestamp)
        value = _one(headers, b"x-slack-signature")
        self._match([_hex(_without(value, b"v0="))], b"v0:" + timestamp + b":" + body)

    def _hmac(self, headers: RequestHeaders, body: bytes) -> None:
        value = _without(_one(headers, self._header), self._prefix)
        self._match([_hex(value) if self._encoding == "hex" else _base64(value)], body)

    # --- what they share ----------------------------------------------------------------------------------------

    def _match(self, signatures: Sequence[bytes], signed: bytes) -> None:
        if not signatures:
            raise SignatureError("missing")
        if len(signatures) > MAX_SIGNATURES:
            raise SignatureError("malformed")
        matches = False
        for key in self._keys:
            expected = hmac.digest(key, signed, self._algorithm)
            for signature in signatures:
                # No "any()": it would stop at the first match.
                matches |= hmac.compare_digest(expected, signature)
        if not matches:
            raise SignatureError("wrong")

    def _recent(self, timestamp: bytes) -> None:
        if not timestamp.isdigit() or len(timestamp) > _MAX_TIMESTAMP_DIGITS:
            raise SignatureError("malformed")
        if abs(self._now() - int(timestamp)) > self._tolerance:
            raise SignatureError("stale")

    def __repr__(self) -> str:
        return f"<Verifier {self.scheme}>"


def _one(headers: RequestHeaders, name: bytes) -> bytes:
    values = headers.get(name, ())
    if not values:
        raise SignatureError("missing")
    if len(values) > 1:
        raise SignatureError("malformed")
    return values[0]


def _without(value: bytes, prefix: bytes) -> bytes:
    if not value.startswith(prefix):
        raise SignatureError("malformed")
    return value[len(prefix) :]


def _hex(text: bytes) -> bytes:
    try:
        return binascii.unhexlify(text)
    except binascii.Error:
        raise SignatureError("malformed") from None


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise SignatureError("malformed") from None


def _whsec(secret: str) -> bytes:
    text = secret[len(_WHSEC) :] if secret.startswith(_WHSEC) else secret
    try:
        key = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        key = b""
    if not key:
        raise ConfigurationError("a secret for standard-webhooks is not base64 (with or without whsec_ before it)")
    return key
