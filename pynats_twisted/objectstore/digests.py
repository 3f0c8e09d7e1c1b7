"""The digests of objects, as text (ADR-20): ``SHA-256=`` and 32 bytes in the URL-safe form of base64, padded."""

from __future__ import annotations

import base64
import binascii

_ALGORITHM = "SHA-256="
_SIZE = 32


def digest_text(digest: bytes) -> str:
    """The text of a SHA-256 digest."""
    return _ALGORITHM + base64.urlsafe_b64encode(digest).decode("ascii")


def read_digest(text: str) -> bytes:
    """The digest that a text says; the name in any case, base64 in either form, with padding or without.

    :raises ValueError: it says none, or one of another kind.
    """
    encoded = text[len(_ALGORITHM) :].rstrip("=")
    if text[: len(_ALGORITHM)].upper() != _ALGORITHM:
        raise ValueError(f"digest {text[:80]!r} is not one of SHA-256")
    try:
        digest = base64.b64decode(encoded.replace("+", "-").replace("/", "_") + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != _SIZE:
        raise ValueError(f"digest {text[:80]!r} is not {_SIZE} bytes in base64")
    return digest
