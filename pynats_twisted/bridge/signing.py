"""Signatures on outgoing webhooks, by the Standard Webhooks specification (its symmetric scheme, ``v1``)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

from pynats_twisted.errors import ConfigurationError

SECRET_PREFIX: Final = "whsec_"
KEY_BYTES: Final = (24, 64)
"""The shortest and the longest key, in bytes, that the specification allows."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9_:/=+@-]{1,128}", re.ASCII)


class WebhookSigner:
    """Signs what one route sends.

    :param secrets: base64 of 24 to 64 bytes each, with or without ``whsec_`` before it. With several, each signs, so that a receiver
        may know the old or the new one while they are being replaced.
    :raises ConfigurationError: a secret is not of this form; the text does not contain it.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ConfigurationError("sign: there is no secret")
        self._keys = [_key(secret) for secret in secrets]

    def sign(self, message_id: str, timestamp: int, body: bytes) -> str:
        """The value of ``webhook-signature``: one signature for each secret, separated by spaces."""
        signed = f"{message_id}.{timestamp}.".encode() + body
        return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode("ascii") for key in self._keys)

    def __repr__(self) -> str:
        return f"<WebhookSigner with {len(self._keys)} secrets>"


def webhook_id(msg_id: str | None, stream: str, seq: int) -> str:
    """The id of a message for receivers, the same at every attempt: its ``Nats-Msg-Id``, or else made of stream and sequence.

    It is part of what is signed, between dots, so it has none. An id of other characters becomes its digest.
    """
    found = msg_id if msg_id else f"msg_{stream}_{seq}"
    if _PLAIN_ID.fullmatch(found) is not None:
        return found
    return "msg_" + hashlib.sha256(found.encode("utf-8", "surrogateescape")).hexdigest()


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    shortest, longest = KEY_BYTES
    if not shortest <= len(key) <= longest:
        raise ConfigurationError(
            f"sign: a secret is not base64 of {shortest} to {longest} bytes (with or without {SECRET_PREFIX} before it)"
        )
    return key
