"""NATS NKeys: Ed25519 keys in the text form that NATS uses for them.

A *public key* is one prefix byte, 32 bytes of key and a CRC-16, in base32 without padding: 56 characters, of which the first
says the kind (``U`` user, ``A`` account, ``O`` operator, ``N`` server, ``C`` cluster). A *seed* is the secret half: two prefix
bytes, 32 bytes and a CRC-16: 58 characters that start with ``S`` and the letter of the kind.

Making, encoding and decoding keys needs the standard library alone. :func:`public_key`, :func:`sign` and :func:`verify` need
Ed25519 from the package ``cryptography``, which the extra ``nkeys`` installs; it is imported when one of them is first called.

No error of this module contains a key or a part of one.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Any, Literal, cast

from pynats_twisted.errors import CredentialsError, MissingDependencyError

Kind = Literal["account", "cluster", "operator", "server", "user"]
"""The kinds of keys that NATS signs with."""

_PREFIXES: dict[Kind, int] = {"account": 0 << 3, "cluster": 2 << 3, "operator": 14 << 3, "server": 13 << 3, "user": 20 << 3}
_KINDS: dict[int, Kind] = {prefix: kind for kind, prefix in _PREFIXES.items()}
_SEED_PREFIX = 18 << 3

SIGNATURE_SIZE = 64
"""The bytes of a raw Ed25519 signature."""

_KEY_SIZE = 32
_PUBLIC_CHARACTERS = 56
_SEED_CHARACTERS = 58

_DIGITS = {digit: value for value, digit in enumerate(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")}


def create_seed(kind: Kind = "user") -> str:
    """Make a new seed from the operating system's random source.

    :param kind: ``"user"`` (what a client connects with), ``"account"``, ``"operator"``, ``"server"`` or ``"cluster"``.
    :raises CredentialsError: the kind is not one of these.
    """
    raw = bytearray(os.urandom(_KEY_SIZE))
    try:
        return encode_seed(kind, raw)
    finally:
        wipe(raw)


def encode(kind: Kind, key: bytes | bytearray) -> str:
    """The text of a public key.

    :param key: the 32 bytes of the Ed25519 public key.
    :raises CredentialsError: the kind is unknown, or the key has not 32 bytes.
    """
    return _encode(bytes([_prefix(kind)]), key)


def decode(public: str | bytes | bytearray) -> tuple[Kind, bytes]:
    """The kind and the 32 bytes of a public key.

    :raises CredentialsError: it is no public key: wrong length, characters, check sum or kind.
    """
    raw = _decode(public, "public key", _PUBLIC_CHARACTERS)
    kind = _KINDS.get(raw[0])
    if kind is None:
        raise CredentialsError(f"a public key has the unknown prefix {raw[0]:#04x}; known kinds: {', '.join(_PREFIXES)}")
    return kind, bytes(raw[1:])


def encode_seed(kind: Kind, raw: bytes | bytearray) -> str:
    """The text of a seed.

    :param raw: the 32 bytes of the Ed25519 private key.
    :raises CredentialsError: the kind is unknown, or there are not 32 bytes.
    """
    prefix = _prefix(kind)
    return _encode(bytes([_SEED_PREFIX | prefix >> 5, (prefix & 0x1F) << 3]), raw)


def decode_seed(seed: str | bytes | bytearray) -> tuple[Kind, bytearray]:
    """The kind and the 32 bytes of a seed, as a bytearray for the caller to :func:`wipe`.

    :raises CredentialsError: it is no seed: wrong length, characters, check sum or kind.
    """
    raw = _decode(seed, "NKey seed", _SEED_CHARACTERS)
    try:
        if raw[0] & 0xF8 != _SEED_PREFIX:
            raise CredentialsError("an NKey seed starts with S; this key does not")
        kind = _KINDS.get((raw[0] & 0x07) << 5 | raw[1] >> 3)
        if kind is None or raw[1] & 0x07:
            raise CredentialsError(f"an NKey seed is of an unknown kind; known kinds: {', '.join(_PREFIXES)}")
        return kind, raw[2:]
    finally:
        wipe(raw)


def public_key(seed: str | bytes | bytearray) -> str:
    """The public key of a seed, of the same kind.

    :raises CredentialsError: the seed is malformed.
    :raises MissingDependencyError: the package ``cryptography`` is not installed.
    """
    ed25519 = require_ed25519()
    kind, raw = decode_seed(seed)
    try:
        return encode(kind, ed25519.Ed25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw())
    finally:
        wipe(raw)


def sign(seed: str | bytes | bytearray, data: bytes) -> bytes:
    """The Ed25519 signature of ``data``: 64 raw bytes.

    :raises CredentialsError: the seed is malformed.
    :raises MissingDependencyError: the package ``cryptography`` is not installed.
    """
    ed25519 = require_ed25519()
    _, raw = decode_seed(seed)
    try:
        return cast(bytes, ed25519.Ed25519PrivateKey.from_private_bytes(raw).sign(data))
    finally:
        wipe(raw)


def verify(public: str | bytes | bytearray, data: bytes, signature: bytes) -> bool:
    """Whether ``signature`` (64 raw bytes) is the one of ``data`` by the owner of this public key.

    :raises CredentialsError: the public key is malformed. A malformed signature is just not valid.
    :raises MissingDependencyError: the package ``cryptography`` is not installed.
    """
    ed25519 = require_ed25519()
    from cryptography.exceptions import InvalidSignature

    _, raw = decode(public)
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(raw).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def wipe(secret: bytearray) -> None:
    """Overwrite a secret in place with zeros."""
    secret[:] = bytes(len(secret))


def require_ed25519() -> Any:
    """The module that has Ed25519.

    :raises MissingDependencyError: the package ``cryptography`` is not installed.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingDependencyError(
            'NKeys, credentials files and JWTs need the package "cryptography": pip install "pynats-twisted[nkeys]"'
        ) from error
    return ed25519


def _prefix(kind: Kind) -> int:
    prefix = _PREFIXES.get(kind)
    if prefix is None:
        raise CredentialsError(f"{kind!r} is no kind of NKey; known kinds: {', '.join(_PREFIXES)}")
    return prefix


def _encode(prefix: bytes, key: bytes | bytearray) -> str:
    if len(key) != _KEY_SIZE:
        raise CredentialsError(f"an NKey has {_KEY_SIZE} bytes of key, not {len(key)}")
    raw = bytearray(prefix)
    raw += key
    raw += binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    try:
        return base64.b32encode(raw).rstrip(b"=").decode("ascii")
    finally:
        wipe(raw)


def _decode(text: str | bytes | bytearray, what: str, characters: int) -> bytearray:
    """What stands before the check sum. Digit by digit into one bytearray, as ``base64`` leaves copies that cannot be wiped."""
    if not isinstance(text, (str, bytes, bytearray)):
        raise CredentialsError(f"{_article(what)} is given as str or bytes, not as {type(text).__name__}")
    if len(text) != characters:
        raise CredentialsError(f"{_article(what)} has {characters} characters, not {len(text)}")
    raw = bytearray(characters * 5 // 8)
    bits = count = position = 0
    for character in text:
        value = _DIGITS.get(ord(character) if isinstance(character, str) else character)
        if value is None:
            wipe(raw)
            raise CredentialsError(f"{_article(what)} holds a character that is not one of A-Z and 2-7")
        bits = (bits << 5 | value) & 0xFFF
        count += 5
        if count >= 8:
            count -= 8
            raw[position] = bits >> count & 0xFF
            position += 1
    body, check = raw[:-2], int.from_bytes(raw[-2:], "little")
    wipe(raw)
    # The bits after the last whole byte carry nothing: they are zero, so that one key has one text.
    if bits & ((1 << count) - 1) or binascii.crc_hqx(body, 0) != check:
        wipe(body)
        raise CredentialsError(f"the check sum of {_article(what)} is wrong: it was mistyped or cut")
    return body


def _article(what: str) -> str:
    return f"an {what}" if what.startswith("NKey") else f"a {what}"
