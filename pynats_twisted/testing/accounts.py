"""Operators, accounts and users with JWTs, for servers that test decentralized authentication.

Everything is made in memory; the server gets the accounts with its configuration (``resolver: MEMORY``). Needs the package
``cryptography``, which the extra ``nkeys`` installs.

::

    operator = Operator()
    account = operator.account("orders")
    user = account.user("worker", publish=["orders.>"])
    server = ServerProcess(reactor, operator=operator)
    ... connect(reactor, server.url, creds=user.creds)
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pynats_twisted.errors import ConfigurationError
from pynats_twisted.protocol import nkeys

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_CLAIMS_VERSION = 2
_UNLIMITED = -1

EVERY_USER = "*"
"""Stands for all users of an account in :meth:`Account.revoke`."""


class Operator:
    """The root of trust of a server.

    :ivar name: its name.
    :ivar public_key: its public NKey.
    :ivar system_account: the account of the server's own events.
    :ivar accounts: all accounts, by name, with the system account.
    """

    def __init__(self, name: str = "operator") -> None:
        self.name = name
        self._seed = nkeys.create_seed("operator")
        self.public_key = nkeys.public_key(self._seed)
        self.accounts: dict[str, Account] = {}
        self.system_account = self.account("SYS")
        claims = {"type": "operator", "system_account": self.system_account.public_key}
        # Issued once: a server refuses to reload a configuration in which the operator's JWT is another one.
        self._jwt = encode_jwt(self._seed, self.public_key, self.name, claims)

    def __repr__(self) -> str:
        return f"<Operator {self.name!r} {self.public_key}>"

    @property
    def jwt(self) -> str:
        """The operator's JWT, signed by itself."""
        return self._jwt

    def account(self, name: str, *, jetstream: bool | Mapping[str, int] = False, limits: Mapping[str, Any] | None = None) -> Account:
        """Make an account.

        :param jetstream: True for JetStream without limits, or its limits (``mem_storage``, ``disk_storage``, ``streams``,
            ``consumer``), -1 for none.
        :param limits: limits of the account (``conn``, ``subs``, ``payload``, ``leaf``, ...), -1 for none.
        :raises ConfigurationError: there is an account of that name.
        """
        if name in self.accounts:
            raise ConfigurationError(f"the operator has an account {name!r} already")
        account = self.accounts[name] = Account(self, name, jetstream, limits or {})
        return account

    def server_config(self) -> dict[str, Any]:
        """What a server's configuration says about this operator and its accounts, as they are now."""
        return {
            "operator": self.jwt,
            "system_account": self.system_account.public_key,
            "resolver": "MEMORY",
            "resolver_preload": {account.public_key: account.jwt for account in self.accounts.values()},
        }

    def _sign(self, subject: str, name: str, claims: Mapping[str, Any]) -> str:
        return encode_jwt(self._seed, subject, name, claims)


class Account:
    """An account; made by :meth:`Operator.account`.

    :ivar name: its name.
    :ivar public_key: its public NKey.
    """

    def __init__(self, operator: Operator, name: str, jetstream: bool | Mapping[str, int], limits: Mapping[str, Any]) -> None:
        self._operator = operator
        self.name = name
        self._seed = nkeys.create_seed("account")
        self.public_key = nkeys.public_key(self._seed)
        names = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
        self._limits: dict[str, Any] = {**dict.fromkeys(names, _UNLIMITED), "wildcards": True, **limits}
        if jetstream is not False:
            unlimited = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), _UNLIMITED)
            self._limits.update(unlimited, **(jetstream if isinstance(jetstream, Mapping) else {}))
        self._revocations: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Account {self.name!r} {self.public_key}>"

    @property
    def jwt(self) -> str:
        """The account's JWT, signed by the operator, with the revocations made so far."""
        claims: dict[str, Any] = {"type": "account", "limits": self._limits, "default_permissions": {"pub": {}, "sub": {}}}
        if self._revocations:
            claims["revocations"] = self._revocations
        return self._operator._sign(self.public_key, self.name, claims)

    def user(self, name: str = "user", **claims: Any) -> User:
        """Make a user; the keywords are those of :class:`User`."""
        return User(self, name, **claims)

    def revoke(self, user: User | None = None) -> None:
        """Refuse the JWTs that a user has now; None: those of every user. A server hears of it when it is reloaded."""
        # Second is the unit of JWTs; what was issued up to and in this one is refused.
        self._revocations[EVERY_USER if user is None else user.public_key] = int(time.time())

    def _sign(self, subject: str, name: str, claims: Mapping[str, Any], expires: int | None) -> str:
        return encode_jwt(self._seed, subject, name, claims, expires)


class User:
    """A user of an account, with its key and its JWT; made by :meth:`Account.user`.

    :ivar name: its name.
    :ivar public_key: its public NKey.
    :ivar seed: its secret NKey.
    :ivar jwt: its JWT.

    :param publish: subjects that it may publish to; None for all.
    :param subscribe: subjects that it may subscribe to; None for all.
    :param deny_publish: subjects that it may not publish to.
    :param deny_subscribe: subjects that it may not subscribe to.
    :param allow_responses: how many replies it may publish to the reply subject of each message that it gets, without further
        permission; 0 for none.
    :param expires_in: seconds until the JWT expires. JWTs count whole seconds: the end is rounded up to the next one.
    :param bearer: the JWT alone is enough, the server asks for no signature.
    :param connection_types: ``"STANDARD"``, ``"WEBSOCKET"``, ``"MQTT"``, ``"LEAFNODE"``; none for all.
    :param limits: limits of the connection (``subs``, ``payload``, ``data``), -1 for none.
    """

    def __init__(
        self,
        account: Account,
        name: str,
        *,
        publish: Sequence[str] | None = None,
        subscribe: Sequence[str] | None = None,
        deny_publish: Sequence[str] = (),
        deny_subscribe: Sequence[str] = (),
        allow_responses: int = 0,
        expires_in: float | None = None,
        bearer: bool = False,
        connection_types: Sequence[str] = (),
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self._account = account
        self.name = name
        self.seed = nkeys.create_seed("user")
        self.public_key = nkeys.public_key(self.seed)
        self._claims: dict[str, Any] = {
            "type": "user",
            "pub": _permission(publish, deny_publish),
            "sub": _permission(subscribe, deny_subscribe),
            **dict.fromkeys(("subs", "data", "payload"), _UNLIMITED),
            **(limits or {}),
        }
        if allow_responses:
            self._claims["resp"] = {"max": allow_responses, "ttl": 0}
        if bearer:
            self._claims["bearer_token"] = True
        if connection_types:
            self._claims["allowed_connection_types"] = list(connection_types)
        self.jwt = ""
        self.renew(expires_in)

    def __repr__(self) -> str:
        return f"<User {self.name!r} {self.public_key}>"

    @property
    def creds(self) -> str:
        """The text of a credentials file."""
        return (
            f"-----BEGIN NATS USER JWT-----\n{self.jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.seed}\n------END USER NKEY SEED------\n"
        )

    def renew(self, expires_in: float | None = None) -> None:
        """Issue the JWT again, for the same key and with the same permissions."""
        expires = None if expires_in is None else -int(-(time.time() + expires_in) // 1)
        self.jwt = self._account._sign(self.public_key, self.name, self._claims, expires)

    def sign(self, nonce: bytes) -> bytes:
        """The raw signature of a server's nonce."""
        return nkeys.sign(self.seed, nonce)

    def write_creds(self, path: str | os.PathLike[str]) -> Path:
        """Write the credentials file, readable by the owner alone."""
        target = Path(path)
        with open(target, "w", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(self.creds)
        return target


def encode_jwt(seed: str, subject: str, name: str, claims: Mapping[str, Any], expires: int | None = None) -> str:
    """A NATS JWT.

    :param seed: the secret key of the issuer.
    :param subject: the public key of whom it is about.
    :param claims: the part ``nats`` of it, without the version.
    :param expires: seconds since the epoch.
    """
    body: dict[str, Any] = {
        "iat": int(time.time()),
        "iss": nkeys.public_key(seed),
        "name": name,
        "sub": subject,
        "nats": {**claims, "version": _CLAIMS_VERSION},
    }
    if expires is not None:
        body["exp"] = expires
    # The id is a digest of the claims, as other makers of these JWTs have it. Servers do not look at it.
    body["jti"] = base64.b32encode(hashlib.sha256(_json(body)).digest()).rstrip(b"=").decode("ascii")
    signed = f"{_base64(_json(_HEADER))}.{_base64(_json(body))}"
    return f"{signed}.{_base64(nkeys.sign(seed, signed.encode('ascii')))}"


def _permission(allow: Sequence[str] | None, deny: Sequence[str]) -> dict[str, list[str]]:
    permission: dict[str, list[str]] = {}
    if allow is not None:
        permission["allow"] = list(allow)
    if deny:
        permission["deny"] = list(deny)
    return permission


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("utf-8")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
