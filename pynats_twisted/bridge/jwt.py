"""Signed tokens (RFC 7519) as credentials: HS256 with the standard library, RS256 and ES256 where ``cryptography`` is installed.

A key belongs to one algorithm, whatever a token says of itself, so a public key is never taken for a secret. A token has to expire.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from pynats_twisted.errors import ConfigurationError, MissingDependencyError

MAX_TOKEN_BYTES: Final = 8 * 1024
"""Longer tokens are refused unread."""

MAX_FILE_BYTES: Final = 1024 * 1024
"""Longest file of keys."""

MAX_KEYS: Final = 100
"""Most keys in a file: a token without ``kid`` is tried with each."""

LOOK_INTERVAL: Final = 10.0
"""Seconds between two looks at whether the file of keys has changed."""

_TOKEN = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_ALGORITHMS: Final = ("HS256", "RS256", "ES256")

Verify = Callable[[bytes, bytes], bool]
"""Whether a signature (second) is right for what was signed (first)."""


class Key(NamedTuple):
    """A key and what it is for.

    :ivar algorithm: the one algorithm that it is used with.
    :ivar kid: its name, or None.
    :ivar verify: checks a signature.
    """

    algorithm: str
    kid: str | None
    verify: Verify


class Judgement(NamedTuple):
    """What a token is worth.

    :ivar claims: what it says; None when it is refused.
    :ivar reason: why it is refused, in one word.
    """

    claims: Mapping[str, Any] | None
    reason: str = ""


class JWTVerifier:
    """Judges tokens.

    :param now: the clock, in seconds since 1970.
    :param secrets: secrets of HS256.
    :param jwks_file: a file with keys as a JWK set, read now, and again when it has changed.
    :param issuer: what ``iss`` has to be.
    :param audience: what ``aud`` has to be, or hold.
    :param leeway: seconds by which clocks may differ.
    :raises ConfigurationError: there is no usable key.
    :raises MissingDependencyError: a key needs ``cryptography``, which is not installed.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        secrets: Sequence[str] = (),
        jwks_file: str | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        leeway: float = 30.0,
    ) -> None:
        self._now = now
        self._file = jwks_file
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._version = (0, 0)
        self._looked_at = now()
        if jwks_file is not None:
            self._version = _version(jwks_file)
            self._keys = read_keys(jwks_file)
        else:
            self._keys = [Key("HS256", None, _hs256(secret.encode("utf-8"))) for secret in secrets]
        if not self._keys:
            raise ConfigurationError("there is no key that tokens could be checked with")

    def __repr__(self) -> str:
        return f"<JWTVerifier {len(self._keys)} keys>"

    def judge(self, token: bytes) -> Judgement:
        """Check the signature of a token, its times, and for whom it is."""
        match = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN_BYTES else None
        if match is None:
            return Judgement(None, "malformed")
        header, claims, signature = _json(match[1]), _json(match[2]), _decode(match[3])
        if header is None or claims is None or signature is None:
            return Judgement(None, "malformed")
        # What "crit" names has to be understood, and we understand nothing of the kind.
        if header.get("alg") not in _ALGORITHMS or "crit" in header:
            return Judgement(None, "algorithm")
        self._look_at_file()
        kid = header.get("kid")
        keys = [key for key in self._keys if key.algorithm == header["alg"] and (kid is None or key.kid in (None, kid))]
        signed = match[1] + b"." + match[2]
        if not any(key.verify(signed, signature) for key in keys):
            return Judgement(None, "signature" if keys else "key")
        reason = self._refusal(claims)
        return Judgement(None, reason) if reason else Judgement(claims)

    def _refusal(self, claims: Mapping[str, Any]) -> str:
        now = self._now()
        expires, begins = _time(claims.get("exp")), _time(claims.get("nbf", 0))
        if expires is None or begins is None:
            return "times"
        if now >= expires + self._leeway:
            return "expired"
        if now < begins - self._leeway:
            return "early"
        if self._issuer is not None and claims.get("iss") != self._issuer:
            return "issuer"
        if self._audience is not None and not holds(claims.get("aud"), self._audience):
            return "audience"
        return ""

    def _look_at_file(self) -> None:
        if self._file is None or self._now() - self._looked_at < LOOK_INTERVAL:
            return
        self._looked_at = self._now()
        try:
            version = _version(self._file)
            if version != self._version:
                self._keys = read_keys(self._file)
                self._version = version
        except (ConfigurationError, MissingDependencyError):
            # It may be being written just now. The keys that are known go on.
            return


def holds(claim: object, wanted: str) -> bool:
    """Whether a claim is *wanted*, or an array that has it. Numbers count as they are written."""
    found = claim if isinstance(claim, list) else [claim]
    return any(isinstance(one, (str, int)) and not isinstance(one, bool) and str(one) == wanted for one in found)


def _time(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15:
        return float(value)
    return None


def _decode(data: bytes | str) -> bytes | None:
    """base64url without padding (RFC 7515)."""
    raw = data.encode("ascii", "replace") if isinstance(data, str) else data
    if len(raw) % 4 == 1 or re.fullmatch(rb"[A-Za-z0-9_-]*", raw) is None:
        return None
    return base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))


def _json(data: bytes) -> dict[str, Any] | None:
    decoded = _decode(data)
    try:
        return msgspec.json.decode(decoded or b"", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


# --- keys ----------------------------------------------------------------------------------------------------


def _version(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise ConfigurationError(f"file {path} cannot be read: {error.strerror}") from None
    return found.st_mtime_ns, found.st_size


def read_keys(path: str) -> list[Key]:
    """The keys for signatures in a file with a JWK set. Keys for something else, and of kinds that are not known, are left out.

    :raises ConfigurationError: the file cannot be read, is no JWK set, or a key in it is too weak or malformed.
    :raises MissingDependencyError: a key needs ``cryptography``.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        found = msgspec.json.decode(data[: MAX_FILE_BYTES + 1], type=dict[str, Any]).get("keys")
    except OSError as error:
        raise ConfigurationError(f"file {path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if not isinstance(found, list) or len(found) > MAX_KEYS:
        raise ConfigurationError(f'file {path} is no JWK set: an object with at most {MAX_KEYS} "keys" (RFC 7517)')
    keys: list[Key] = []
    for index, each in enumerate(found):
        key = _key(each) if isinstance(each, dict) else None
        if isinstance(key, str):
            raise ConfigurationError(f"file {path}: key {index}: {key}")
        if key is not None:
            keys.append(key)
    return keys


def _key(jwk: Mapping[str, Any]) -> Key | str | None:
    """The key, what is wrong with it, or None when it is not for us."""
    kind = jwk.get("kty")
    algorithm = {"oct": "HS256", "RSA": "RS256", "EC": "ES256"}.get(str(kind))
    is_ours = jwk.get("use", "sig") == "sig" and jwk.get("alg", algorithm) == algorithm
    if algorithm is None or not is_ours or (kind == "EC" and jwk.get("crv") != "P-256"):
        return None
    kid = jwk.get("kid")
    if kid is not None and not isinstance(kid, str):
        return '"kid" is no text'
    parts = [_decode(value) if isinstance(value, str) else None for value in (jwk.get(name) for name in _PARTS[algorithm])]
    if any(not part for part in parts):
        return f"it has not all of {', '.join(_PARTS[algorithm])} in base64url"
    made = _MAKERS[algorithm](*(part or b"" for part in parts))
    return made if isinstance(made, str) else Key(algorithm, kid, made)


def _make_hs256(secret: bytes) -> Verify | str:
    return "a secret of HS256 has 32 bytes or more (RFC 7518, 3.2)" if len(secret) < 32 else _hs256(secret)


def _hs256(secret: bytes) -> Verify:
    return lambda signed, signature: hmac.compare_digest(hmac.digest(secret, signed, "sha256"), signature)


def _make_rs256(modulus: bytes, exponent: bytes) -> Verify | str:
    _need_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
    from cryptography.hazmat.primitives.hashes import SHA256

    number = int.from_bytes(modulus, "big")
    if number.bit_length() < 2048:
        return "a key of RS256 has 2,048 bits or more (RFC 7518, 3.3)"
    try:
        key = RSAPublicNumbers(int.from_bytes(exponent, "big"), number).public_key()
    except ValueError as error:
        return str(error)

    def verify(signed: bytes, signature: bytes) -> bool:
        try:
            key.verify(signature, signed, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True

    return verify


def _make_es256(x: bytes, y: bytes) -> Verify | str:
    _need_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicNumbers
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        key = EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), SECP256R1()).public_key()
    except ValueError as error:
        return str(error)

    def verify(signed: bytes, signature: bytes) -> bool:
        if len(signature) != 64:
            return False
        encoded = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        try:
            key.verify(encoded, signed, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    return verify


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise MissingDependencyError("RS256 and ES256 need the package cryptography; HS256 does not") from None


_PARTS: Final = {"HS256": ("k",), "RS256": ("n", "e"), "ES256": ("x", "y")}
_MAKERS: Final[Mapping[str, Callable[..., Verify | str]]] = {"HS256": _make_hs256, "RS256": _make_rs256, "ES256": _make_es256}
