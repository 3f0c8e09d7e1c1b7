"""The credentials of a client: from its options to the fields of CONNECT.

:func:`make_authenticator` turns the options into one object; at each connect its ``authenticate(nonce, server)`` gives the
:class:`AuthParameters` for CONNECT. Callables are called and files are read then, so that rotated secrets take effect with the next
connection.

The classes in between (:class:`UserPassword`, :class:`Token`, :class:`NKeySeed`, :class:`NKeySeedFile`, :class:`NKeySigner`,
:class:`Creds`, :class:`CredsFile`, :class:`UserJWT`) may be given as the option ``authenticator`` as well, and so may anything
else that has such an ``authenticate``.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from pynats_twisted.errors import ConfigurationError
from pynats_twisted.protocol import credential_providers
from pynats_twisted.protocol.credential_providers import (
    Authenticator,
    AuthParameters,
    Creds,
    CredsFile,
    NKeySeed,
    NKeySeedFile,
    NKeySigner,
    NoCredentials,
    Token,
    UserJWT,
    UserPassword,
    called,
    wrong_type,
)

if TYPE_CHECKING:
    from pynats_twisted.protocol.options import ClientOptions
    from pynats_twisted.protocol.servers import Server

__all__ = [
    "AuthParameters",
    "Authenticator",
    "ClientAuthenticator",
    "Creds",
    "CredsFile",
    "NKeySeed",
    "NKeySeedFile",
    "NKeySigner",
    "NoCredentials",
    "Token",
    "UserJWT",
    "UserPassword",
    "make_authenticator",
]


class ClientAuthenticator:
    """The credentials of a client for the server that it is about to speak to.

    Credentials in the server's URL win: with them, nothing else is sent to this server, and nothing else is asked. Errors that are not
    a :exc:`NatsError` become a :exc:`CredentialsError`, with the original one as their ``__cause__``.

    :param source: what gives the credentials for a server whose URL has none.
    :param password: a user and password, or a token, to be sent along with them: servers with auth callout look at both.
    """

    __slots__ = ("_password", "_source")

    def __init__(self, source: Authenticator, password: UserPassword | Token | None = None) -> None:
        self._source = source
        self._password = password

    def __repr__(self) -> str:
        # Only our own classes are known to have a repr without secrets.
        ours = type(self._source).__module__ == credential_providers.__name__
        source = repr(self._source) if ours else type(self._source).__qualname__
        return f"ClientAuthenticator({source}{'' if self._password is None else f', {self._password!r}'})"

    def authenticate(self, nonce: bytes | None, server: Server) -> AuthParameters:
        """What to send to this server.

        :raises CredentialsError: there are no usable credentials now.
        """
        if server.user is not None or server.token is not None:
            return AuthParameters(user=server.user, password=server.password, auth_token=server.token)
        parameters = called("authenticator", lambda: self._source.authenticate(nonce, server))
        if not isinstance(parameters, AuthParameters):
            raise wrong_type("authenticator", "authenticate() has to return AuthParameters", parameters)
        for field in fields(parameters):
            value = getattr(parameters, field.name)
            if value is not None and not isinstance(value, str):
                raise wrong_type("authenticator", f"{field.name} of AuthParameters has to be str or None", value)
        if self._password is not None:
            own = self._password.authenticate(nonce, server)
            return replace(parameters, user=own.user, password=own.password, auth_token=own.auth_token)
        return parameters

    def warnings(self) -> list[str]:
        """What the caller should log about how secrets are kept (a file that others can read). Each text is given once, after the
        :meth:`authenticate` that noticed it."""
        return self._source.warnings() if isinstance(self._source, (NKeySeed, Creds, UserJWT)) else []


_PASSWORD_OPTIONS = ("user", "password", "token")
_KEY_OPTIONS = ("nkey_seed", "nkey_seed_file", "nkey_public", "sign_nonce", "user_jwt", "creds", "creds_file")
_TOGETHER = (
    {"creds"},
    {"creds_file"},
    {"nkey_seed"},
    {"nkey_seed_file"},
    {"nkey_public", "sign_nonce"},
    {"user_jwt"},
    {"user_jwt", "sign_nonce"},
    {"user_jwt", "nkey_seed"},
    {"user_jwt", "nkey_seed_file"},
)


def make_authenticator(options: ClientOptions) -> ClientAuthenticator:
    """The authenticator that the options ask for.

    These go together: ``user`` with ``password``; ``nkey_public`` with ``sign_nonce``; ``user_jwt`` with ``sign_nonce``, ``nkey_seed``
    or ``nkey_seed_file``; and ``user`` and ``password``, or ``token``, with ``creds``, ``creds_file`` or ``user_jwt`` (for auth callout).
    Everything else is one way or another.

    :raises ConfigurationError: options exclude each other, or one of them lacks its partner; the text names them.
    :raises CredentialsError: the value of an option is malformed. Files are not read yet.
    :raises MissingDependencyError: NKeys are needed, and the package ``cryptography`` is not installed.
    """
    _check_combination(options)
    password: UserPassword | Token | None = None
    if options.user is not None:
        password = UserPassword(options.user, options.password)
    elif options.token is not None:
        password = Token(options.token)
    source = _key_source(options)
    if source is None:
        return ClientAuthenticator(password or NoCredentials())
    return ClientAuthenticator(source, password)


def _key_source(options: ClientOptions) -> Authenticator | None:
    if options.authenticator is not None:
        custom: Authenticator = options.authenticator
        if isinstance(custom, type) or not callable(getattr(custom, "authenticate", None)):
            raise ConfigurationError("authenticator: an object with a method authenticate(nonce, server) is needed")
        return custom
    if options.creds is not None:
        return Creds(options.creds)
    if options.creds_file is not None:
        return CredsFile(options.creds_file)
    seed: NKeySeed | None = None
    if options.nkey_seed is not None:
        seed = NKeySeed(options.nkey_seed)
    elif options.nkey_seed_file is not None:
        seed = NKeySeedFile(options.nkey_seed_file)
    if options.user_jwt is not None:
        return UserJWT(options.user_jwt, seed or options.sign_nonce)
    if options.nkey_public is not None and options.sign_nonce is not None:
        return NKeySigner(options.nkey_public, options.sign_nonce)
    return seed


def _check_combination(options: ClientOptions) -> None:
    passwords = [name for name in _PASSWORD_OPTIONS if getattr(options, name) is not None]
    keys = [name for name in _KEY_OPTIONS if getattr(options, name) is not None]
    if options.authenticator is not None and passwords + keys:
        raise _conflict("authenticator", *passwords, *keys)
    if "token" in passwords and len(passwords) > 1:
        raise _conflict(*passwords)
    if passwords == ["password"]:
        raise ConfigurationError("password: it needs the option user beside it")
    if keys == ["sign_nonce"]:
        raise ConfigurationError("sign_nonce: it needs the option user_jwt or nkey_public beside it")
    if keys == ["nkey_public"]:
        raise ConfigurationError("nkey_public: it needs the option sign_nonce beside it")
    if keys and set(keys) not in _TOGETHER:
        raise _conflict(*keys)
    if passwords and keys and not {"creds", "creds_file", "user_jwt"} & set(keys):
        raise _conflict(*passwords, *keys)


def _conflict(*names: str) -> ConfigurationError:
    return ConfigurationError(f"options that exclude each other were given: {', '.join(names)}")
