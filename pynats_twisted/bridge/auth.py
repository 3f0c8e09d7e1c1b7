"""Who may use an HTTP route: bearer tokens (RFC 6750) and user names with passwords (RFC 7617).

Every comparison takes the same time whatever was sent, and all secrets are compared, so that neither a secret's beginning nor which
of several was nearly right shows in the time of the answer.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

from pynats_twisted.bridge.problem import FORBIDDEN, UNAUTHORIZED, Problem
from pynats_twisted.errors import ConfigurationError

_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_BASIC: Final = re.compile(rb"basic +([A-Za-z0-9+/]+=*)", re.IGNORECASE)
_QUOTED: Final = re.compile(r"[ !#-\[\]-~]{1,64}")


class Authenticator:
    """Checks the ``Authorization`` header of requests.

    :param bearer: the accepted tokens.
    :param basic: the accepted passwords by user name.
    :param realm: what the client is told that the credentials are for.
    :raises ConfigurationError: nothing would be accepted, or the realm cannot be sent.
    """

    __slots__ = ("_basic", "_bearer", "_key", "challenges")

    def __init__(self, *, bearer: Sequence[str] = (), basic: Mapping[str, str] | None = None, realm: str = "nats-bridge") -> None:
        if not bearer and not basic:
            raise ConfigurationError("authentication without a token and without a user lets nobody in")
        if not all(bearer) or (basic and not all(basic.values())):
            raise ConfigurationError("a token or a password is empty")
        if basic and any(":" in user for user in basic):
            raise ConfigurationError("a user name with a colon cannot be sent (RFC 7617)")
        if _QUOTED.fullmatch(realm) is None:
            raise ConfigurationError(f"realm {realm!r} is not 1 to 64 ASCII characters without quotes and backslashes")
        # Digests have one length: comparing the values themselves would show theirs. The key makes them useless elsewhere.
        self._key = os.urandom(32)
        self._bearer = [self._digest(token.encode("utf-8")) for token in bearer]
        self._basic = [self._digest(f"{user}:{password}".encode()) for user, password in (basic or {}).items()]
        quoted = realm.encode("ascii")
        self.challenges: list[tuple[bytes, bytes]] = []
        """The ``WWW-Authenticate`` headers for a 401, one for each scheme."""
        if self._bearer:
            self.challenges.append((b"WWW-Authenticate", b'Bearer realm="' + quoted + b'"'))
        if self._basic:
            self.challenges.append((b"WWW-Authenticate", b'Basic realm="' + quoted + b'", charset="UTF-8"'))

    def check(self, authorization: Sequence[bytes]) -> Problem | None:
        """What is wrong with the values of the ``Authorization`` header, or None when the request may pass.

        :returns: ``UNAUTHORIZED`` (401) when there are no credentials of an offered scheme, ``FORBIDDEN`` (403) when there are and
            they are wrong.
        """
        if len(authorization) != 1:
            return UNAUTHORIZED
        if self._bearer and (found := _BEARER.fullmatch(authorization[0])):
            return None if self._is_one_of(found[1], self._bearer) else FORBIDDEN
        if self._basic and (found := _BASIC.fullmatch(authorization[0])):
            try:
                credentials = base64.b64decode(found[1], validate=True)
            except binascii.Error:
                return FORBIDDEN
            return None if self._is_one_of(credentials, self._basic) else FORBIDDEN
        return UNAUTHORIZED

    def user(self, authorization: Sequence[bytes]) -> str:
        """The user name in an ``Authorization`` header that :meth:`check` let pass; empty for one with a token."""
        found = _BASIC.fullmatch(authorization[0]) if len(authorization) == 1 else None
        return base64.b64decode(found[1]).partition(b":")[0].decode("utf-8", "replace") if found is not None else ""

    def _is_one_of(self, found: bytes, accepted: Sequence[bytes]) -> bool:
        digest = self._digest(found)
        matches = False
        for one in accepted:
            # No "any()": it would stop at the first match.
            matches |= hmac.compare_digest(digest, one)
        return matches

    def _digest(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")

    def __repr__(self) -> str:
        return f"<Authenticator {len(self._bearer)} tokens, {len(self._basic)} users>"
