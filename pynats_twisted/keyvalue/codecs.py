"""What stands between the user's keys and values and those that are stored (ADR-54)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import InvalidKeyError, KeyValueCodecError
from ..jetstream.api.patterns import shortened

ROOT = "_root_"
"""What :class:`PathKeyCodec` has in the place of nothing before a leading separator."""

_WILDCARDS = ("*", ">")


class KeyCodec(Protocol):
    """Makes keys that can be stored of the user's, and the other way round.

    A codec may have a method ``encode_pattern(pattern: str) -> str`` too, as :class:`PatternKeyCodec` says. Without it, whole keys and
    ``">"`` can be watched and listed, and no other patterns.
    """

    def encode(self, key: str) -> str:
        """A key as it is stored. It has to obey :func:`~pynats_twisted.keyvalue.keys.check_key`.

        :raises InvalidKeyError: the codec cannot encode it.
        """

    def decode(self, encoded: str) -> str:
        """The user's key for one that is stored.

        :raises KeyValueCodecError: it is none that the codec makes.
        """


class PatternKeyCodec(KeyCodec, Protocol):
    """A key codec that knows patterns: what it makes of a pattern matches what it makes of the keys that match."""

    def encode_pattern(self, pattern: str) -> str:
        """A pattern for stored keys.

        :raises InvalidKeyError: the codec cannot encode it.
        """


class ValueCodec(Protocol):
    """Makes bytes that can be stored of the user's values, and the other way round. A value may be of any type that the codec knows.

    What ``encode`` raises reaches who writes. What ``decode`` raises becomes the ``__cause__`` of a
    :class:`~pynats_twisted.errors.KeyValueCodecError`.
    """

    def encode(self, value: Any) -> bytes:
        """A value as it is stored."""

    def decode(self, encoded: bytes) -> Any:
        """The user's value for one that is stored."""


# --- base64 --------------------------------------------------------------------------------------------------


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(data: bytes) -> bytes:
    bare = data.rstrip(b"=")
    try:
        return base64.b64decode(bare + b"=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(f"is not base64: {error}") from None


class Base64KeyCodec:
    """Keys of any characters, spaces too. Each part between dots becomes base64 of the URL-safe kind without padding, so that patterns
    work. No part may be empty.
    """

    def __repr__(self) -> str:
        return "Base64KeyCodec()"

    def encode(self, key: str) -> str:
        """A key as it is stored."""
        return self._encoded(key, ())

    def encode_pattern(self, pattern: str) -> str:
        """A pattern for stored keys: ``*`` and ``>`` stay as they are."""
        return self._encoded(pattern, _WILDCARDS)

    def _encoded(self, key: str, kept: tuple[str, ...]) -> str:
        try:
            return ".".join(part if part in kept else _encode(part.encode()).decode("ascii") for part in key.split("."))
        except UnicodeEncodeError:
            raise InvalidKeyError(f"key {shortened(key)} has characters that UTF-8 cannot express") from None

    def decode(self, encoded: str) -> str:
        """The key for one that is stored, with or without padding."""
        try:
            return ".".join(_decode(part.encode()).decode() for part in encoded.split("."))
        except ValueError as error:
            raise KeyValueCodecError(f"stored key {shortened(encoded)} {error}") from None


class Base64ValueCodec:
    """Values as text: base64 of the URL-safe kind without padding."""

    def __repr__(self) -> str:
        return "Base64ValueCodec()"

    def encode(self, value: bytes | bytearray | memoryview) -> bytes:
        """A value as it is stored."""
        return _encode(bytes(value))

    def decode(self, encoded: bytes) -> bytes:
        """The value for one that is stored, with or without padding."""
        return _decode(encoded)


# --- paths ---------------------------------------------------------------------------------------------------


class PathKeyCodec:
    """Keys as paths: ``a/b/c`` is stored as ``a.b.c``.

    A leading separator is kept: ``/a/b`` is stored as ``_root_.a.b``. One at the end is lost: ``a/b/`` and ``a/b`` are one key. A key may
    have no dots, which would come back as separators, and ``_root_`` may not be its first part.

    :param separator: what divides the parts: a character that is no dot.
    """

    def __init__(self, separator: str = "/") -> None:
        if not isinstance(separator, str) or len(separator) != 1 or separator in ".*>":
            raise InvalidKeyError(f"separator {shortened(separator)} must be a single character, and none of . * >")
        self._separator = separator

    def __repr__(self) -> str:
        return f"PathKeyCodec({self._separator!r})"

    def encode(self, key: str) -> str:
        """A key as it is stored."""
        separator = self._separator
        path = key
        if "." in key:
            raise InvalidKeyError(f"key {shortened(key)} must not have dots, which stand for {separator!r} in stored keys")
        leading = key.startswith(separator)
        path = path.removeprefix(separator).removesuffix(separator)
        if not leading and (path == ROOT or path.startswith(ROOT + separator)):
            raise InvalidKeyError(f"key {shortened(key)} must not begin with {ROOT}, which stands for a leading {separator!r}")
        parts = [ROOT] if leading else []
        if path or not leading:
            parts.append(path.replace(separator, "."))
        return ".".join(parts)

    def encode_pattern(self, pattern: str) -> str:
        """A pattern for stored keys: ``/a/*/c`` and ``/a/>`` are patterns too."""
        return self.encode(pattern)

    def decode(self, encoded: str) -> str:
        """The key for one that is stored."""
        separator = self._separator
        if encoded == ROOT:
            return separator
        if encoded.startswith(ROOT + "."):
            encoded = encoded[len(ROOT) :]
        return encoded.replace(".", separator)


# --- several -------------------------------------------------------------------------------------------------


class KeyCodecChain:
    """Several key codecs, one behind the other: keys are encoded by the first one first, and decoded by the last one first.

    ``KeyCodecChain(PathKeyCodec(), Base64KeyCodec())`` stores ``/a b/c`` as three parts of base64.

    :param codecs: at least one. Patterns work when all of them know patterns.
    """

    def __init__(self, *codecs: KeyCodec) -> None:
        if not codecs:
            raise InvalidKeyError("a chain of key codecs must have at least one")
        self._codecs = codecs

    def __repr__(self) -> str:
        return f"KeyCodecChain({', '.join(map(repr, self._codecs))})"

    def encode(self, key: str) -> str:
        """A key as it is stored."""
        for codec in self._codecs:
            key = codec.encode(key)
        return key

    def encode_pattern(self, pattern: str) -> str:
        """A pattern for stored keys."""
        for codec in self._codecs:
            pattern = encode_pattern(codec, pattern)
        return pattern

    def decode(self, encoded: str) -> str:
        """The user's key for one that is stored."""
        for codec in reversed(self._codecs):
            encoded = codec.decode(encoded)
        return encoded


class ValueCodecChain:
    """Several value codecs, one behind the other: values are encoded by the first one first, and decoded by the last one first."""

    def __init__(self, *codecs: ValueCodec) -> None:
        self._codecs = codecs

    def __repr__(self) -> str:
        return f"ValueCodecChain({', '.join(map(repr, self._codecs))})"

    def encode(self, value: Any) -> bytes:
        """A value as it is stored."""
        for codec in self._codecs:
            value = codec.encode(value)
        return value  # type: ignore[no-any-return]

    def decode(self, encoded: bytes) -> Any:
        """The user's value for one that is stored."""
        value: Any = encoded
        for codec in reversed(self._codecs):
            value = codec.decode(value)
        return value


def encode_pattern(codec: KeyCodec, pattern: str) -> str:
    """A pattern of the user's as a pattern for stored keys. ``>`` needs no codec: it is every key.

    :raises InvalidKeyError: the codec knows no patterns, and it is one other than ``>``.
    """
    if pattern == ">":
        return pattern
    encode: Callable[[str], str] | None = getattr(codec, "encode_pattern", None)
    if encode is not None:
        return encode(pattern)
    if "*" in pattern or ">" in pattern:
        raise InvalidKeyError(f"pattern {shortened(pattern)}: the key codec knows no patterns, only whole keys and '>'")
    return codec.encode(pattern)
