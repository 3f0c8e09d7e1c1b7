"""Who may connect to the server in memory, and what they may do."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pynats_twisted.errors import ConfigurationError, CredentialsError
from pynats_twisted.protocol import nkeys
from pynats_twisted.protocol.subjects import matches

if TYPE_CHECKING:
    from .accounts import Operator

GLOBAL_ACCOUNT = "$G"


class _Subjects:
    """The entries of one ``allow`` or ``deny``: subjects, each with a queue group where it is for members of that only.

    The subject of a subscription is taken as it is written, as the server does it: ``a.*`` covers ``a.>``.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        pairs = [entry.split() for entry in entries]
        self.plain = [pair[0] for pair in pairs if len(pair) == 1]
        self._queues = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]

    def have(self, subject: str, queue: str = "") -> bool:
        found = any(matches(pattern, subject) for pattern in self.plain)
        if queue:
            groups = [group for pattern, group in self._queues if matches(pattern, subject)]
            if groups:
                return any(matches(group, queue) for group in groups)
        return found


class Permissions:
    """What a user may publish to and subscribe to.

    :param rules: as ``permissions`` in a server's configuration: ``publish`` and ``subscribe``, each a subject, a list of
        them, or a mapping with ``allow`` and ``deny``; and ``allow_responses``, true or a mapping with ``max``.
    """

    def __init__(self, rules: Mapping[str, Any]) -> None:
        known = {"publish", "pub", "subscribe", "sub", "allow_responses", "allow_response"}
        unknown = sorted(set(rules) - known)
        if unknown:
            raise ConfigurationError(f"permissions have {unknown[0]!r}; known: {', '.join(sorted(known))}")
        self._publish_allow, self._publish_deny = _rule(rules.get("publish", rules.get("pub")))
        self._subscribe_allow, self._subscribe_deny = _rule(rules.get("subscribe", rules.get("sub")))
        responses = rules.get("allow_responses", rules.get("allow_response"))
        self.responses: int = responses.get("max", 1) if isinstance(responses, Mapping) else int(bool(responses))
        if self.responses and self._publish_allow is None:
            # As the server has it: who may answer may publish nothing else, unless it is said.
            self._publish_allow = _Subjects(())

    def may_publish(self, subject: str) -> bool:
        """Whether a publish to ``subject`` is allowed."""
        if self._publish_allow is not None and not self._publish_allow.have(subject):
            return False
        return self._publish_deny is None or not self._publish_deny.have(subject)

    def may_subscribe(self, subject: str, queue: str) -> bool:
        """Whether a subscription to ``subject`` is allowed."""
        if self._subscribe_allow is not None and not self._subscribe_allow.have(subject, queue):
            return False
        return self._subscribe_deny is None or not self._subscribe_deny.have(subject, queue)

    def may_receive(self, subject: str) -> bool:
        """Whether a message on ``subject`` may be delivered; a subscription with wildcards may be wider than what is allowed."""
        return self._subscribe_deny is None or not self._subscribe_deny.have(subject)


def _rule(value: Any) -> tuple[_Subjects | None, _Subjects | None]:
    if value is None:
        return None, None
    if isinstance(value, Mapping):
        allow, deny = value.get("allow"), value.get("deny")
    else:
        allow, deny = value, None
    return _subjects(allow), _subjects(deny)


def _subjects(value: str | Sequence[str] | None) -> _Subjects | None:
    if value is None:
        return None
    return _Subjects([value] if isinstance(value, str) else value)


@dataclass(frozen=True)
class Identity:
    """Somebody who was let in.

    :ivar account: messages stay inside it. :ivar permissions: None for all. :ivar expires: seconds since the epoch, or None.
    """

    account: str = GLOBAL_ACCOUNT
    permissions: Permissions | None = None
    expires: float | None = None


class Access:
    """Checks what a CONNECT brings. One way of authenticating at a time, as a server has it.

    :param users: entries as in ``authorization { users }``: ``user`` and ``password``, or ``nkey``; and ``permissions``.
    :param operator: accounts and users with JWTs.
    :raises ConfigurationError: more than one way was given, or an entry cannot be used.
    """

    def __init__(
        self,
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        users: Sequence[Mapping[str, Any]] = (),
        operator: Operator | None = None,
    ) -> None:
        if (user is None) != (password is None):
            raise ConfigurationError("user and password go together; only one of them was given")
        ways = {"user": user, "token": token, "users": users, "operator": operator}
        given = [way for way, value in ways.items() if value]
        if len(given) > 1:
            raise ConfigurationError(f"a server has one way to authenticate; found {' and '.join(given)}")
        entries: Sequence[Mapping[str, Any]] = [{"user": user, "password": password}] if user is not None else users
        self._token = token
        self._operator = operator
        self._users: dict[str, tuple[str, Identity]] = {}
        self._nkeys: dict[str, Identity] = {}
        for entry in entries:
            permissions = entry.get("permissions")
            identity = Identity(permissions=Permissions(permissions) if permissions is not None else None)
            if "nkey" in entry:
                self._nkeys[entry["nkey"]] = identity
            elif isinstance(entry.get("user"), str) and isinstance(entry.get("password"), str):
                self._users[entry["user"]] = (entry["password"], identity)
            else:
                raise ConfigurationError("an entry of users has neither user and password nor nkey")

    @property
    def required(self) -> bool:
        """Not everybody is let in."""
        return bool(self._users or self._nkeys or self._token or self._operator)

    @property
    def uses_nonce(self) -> bool:
        """INFO has to bring a nonce, to be signed."""
        return bool(self._nkeys or self._operator)

    def knows(self, options: Mapping[str, Any]) -> bool:
        """Whether the user or key in these options of a CONNECT is one of those that there are, whatever the password."""
        if self._users or self._nkeys:
            return options.get("user") in self._users or options.get("nkey") in self._nkeys
        return True

    def admit(self, options: Mapping[str, Any], nonce: bytes, now: float) -> Identity | None:
        """Who it is that comes with these options of a CONNECT, or None for nobody who may come in.

        :param now: seconds since the epoch.
        """
        if not self.required:
            return Identity()
        if self._operator is not None:
            return self._admit_jwt(self._operator, options, nonce, now)
        if self._token is not None:
            return Identity() if options.get("auth_token") == self._token else None
        key = options.get("nkey")
        if isinstance(key, str) and key in self._nkeys:
            return self._nkeys[key] if _signed(key, nonce, options.get("sig")) else None
        password, identity = self._users.get(str(options.get("user")), (None, None))
        return identity if password is not None and options.get("pass") == password else None

    def _admit_jwt(self, operator: Operator, options: Mapping[str, Any], nonce: bytes, now: float) -> Identity | None:
        claims = _claims(options.get("jwt"))
        if claims is None:
            return None
        accounts = {account.public_key for account in operator.accounts.values()}
        nats = claims.get("nats")
        user, expires = claims.get("sub"), claims.get("exp")
        if claims.get("iss") not in accounts or not isinstance(nats, dict) or not isinstance(user, str):
            return None
        if isinstance(expires, (int, float)) and expires <= now:
            return None
        if not nats.get("bearer_token") and not _signed(user, nonce, options.get("sig")):
            return None
        rules: dict[str, Any] = {"publish": nats.get("pub") or None, "subscribe": nats.get("sub") or None}
        if nats.get("resp"):
            rules["allow_responses"] = {"max": nats["resp"].get("max", 1)}
        permissions = Permissions(rules) if any(rules.values()) else None
        return Identity(str(claims["iss"]), permissions, expires)


def _decode(text: str) -> bytes:
    """Base64 of either alphabet, with padding or without: the server takes all of them."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def _signed(key: str, data: bytes, signature: Any) -> bool:
    if not isinstance(signature, str):
        return False
    try:
        return nkeys.verify(key, data, _decode(signature))
    except (CredentialsError, binascii.Error, ValueError):
        return False


def _claims(jwt: Any) -> dict[str, Any] | None:
    """What a JWT says, if whoever it names as its issuer has signed it."""
    if not isinstance(jwt, str) or jwt.count(".") != 2:
        return None
    signed, _, signature = jwt.rpartition(".")
    try:
        claims = json.loads(_decode(signed.partition(".")[2]))
    except (binascii.Error, ValueError, RecursionError):
        return None
    if not isinstance(claims, dict) or not isinstance(claims.get("iss"), str):
        return None
    return claims if _signed(claims["iss"], signed.encode("utf-8", "replace"), signature) else None
