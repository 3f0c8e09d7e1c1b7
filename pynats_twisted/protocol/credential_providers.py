"""The ways to prove to a server who the client is, one class each.

Each has ``authenticate(nonce, server)``, which gives the :class:`AuthParameters` for one CONNECT. Callables are called and files are
read then, so that rotated secrets take effect with the next connection; what was read from a file is wiped once it was used.
No repr and no error of this module contains a secret.

A client that proves itself with a key signs the nonce of the server's INFO; the signature travels as base64url without padding.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from pynats_twisted.errors import CredentialsError, NatsError
from pynats_twisted.protocol import nkeys
from pynats_twisted.protocol.creds_text import FileText, GivenText, find_jwt, find_seed

if TYPE_CHECKING:
    from pynats_twisted.protocol.servers import Server

Value = str | Callable[[], str]
"""A secret, or a callable that is asked for it at each connect."""


class Authenticator(Protocol):
    """What gives the credentials for each connection. ``pynats_twisted.interfaces.IAuthenticator`` is the same for zope.interface."""

    def authenticate(self, nonce: bytes | None, server: Server) -> AuthParameters:
        """What to send to this server.

        It is called at each connect, in the thread of the reactor: it must not block for long, and must not return an awaitable.

        :param nonce: what the server wants to have signed; None when it sent none.
        :param server: the server that the connection is to.
        :raises CredentialsError: there are no usable credentials. This attempt to connect has failed; the next one asks again.
        """


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AuthParameters:
    """The fields of CONNECT that authenticate; None is not sent. The repr names the fields that are set, without their values."""

    user: str | None = None
    password: str | None = None
    auth_token: str | None = None
    nkey: str | None = None
    jwt: str | None = None
    sig: str | None = None

    def as_connect_fields(self) -> dict[str, str]:
        """The fields that are set, by their names in CONNECT (``password`` is ``pass`` there)."""
        return {"pass" if name == "password" else name: value for name, value in self._set_fields()}

    def _set_fields(self) -> list[tuple[str, Any]]:
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return [(name, value) for name, value in pairs if value is not None]

    def __repr__(self) -> str:
        return f"AuthParameters({', '.join(f'{name}=***' for name, _ in self._set_fields())})"


class NoCredentials:
    """Nothing is sent: for servers that ask for nothing, or that know the client by its TLS certificate."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NoCredentials()"

    def authenticate(self, nonce: bytes | None, server: Server) -> AuthParameters:
        """No fields at all."""
        return AuthParameters()


class UserPassword:
    """A user and a password.

    :param user: the name, or a callable that gives it at each connect.
    :param password: likewise; None sends no password.
    :raises CredentialsError: the user is empty, or one of the two is neither text nor callable.
    """

    __slots__ = ("_password", "_user")

    def __init__(self, user: Value, password: Value | None = None) -> None:
        self._user = _checked_value("user", user)
        self._password = None if password is None else _checked_value("password", password, may_be_empty=True)

    def __repr__(self) -> str:
        return f"UserPassword(user={_shown(self._user)}, password={_shown(self._password)})"

    def authenticate(self, nonce: bytes | None, server: Server) -> AuthParameters:
        """User and password as they are now.

        :raises CredentialsError: a callable failed, or gave no text.
        """
        password = None if self._password is None else _current("password", self._password, may_be_empty=True)
        return AuthParameters(user=_current("user", self._user), password=password)


class Token:
    """A token.

    :param token: the token, or a callable that gives it at each connect.
    :raises CredentialsError: it is empty, or neither text nor callable.
    """

    __slots__ = ("_token",)

    def __init__(self, token: Value) -> None:
        self._token = _checked_value("token", token)

    def __repr__(self) -> str:
        return f"Token({_shown(self._token)})"

    def authenticate(self, nonce: bytes | None, server: Server) -> AuthParameters:
        """The token as it is now.

        :raises CredentialsError: the callable failed, or gave no text.
        """
        return AuthParameters(auth_token=_current("token", self._token))


class NKeySeed:
    """The seed of a user's NKey, with which the server's nonce is signed.

    :param seed: the text of the seed (``SU...``), alone or between its ``BEGIN USER NKEY SEED`` and ``END`` lines.
    :raises CredentialsError: it is not the seed of a user.
    :raises MissingDependencyError: the package ``cryptography`` is not installed.
    """

    __slots__ = ("_text",)

    _text: GivenText | FileText

    def __init__(self, seed: str | bytes) -> None:
        nkeys.require_ed25519()
        self._text = GivenText("nkey_seed", seed)
        nkeys.wipe(self._read())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text!r})"

    def _read(self) -> bytearray:
        with self._text.opened() as text:
            return find_seed(str(self._text), text)

    def sign(self, nonce: bytes) -> bytes:
        """The raw signature of a nonce. It makes the seed usable as the ``sign_nonce`` of :class:`UserJWT`.

        :raises CredentialsError: the seed cannot be read, or is malformed.
        """
        seed = self._read()
        try:
            return nkeys.sign(seed, nonce)
        finally:
            nkeys.wipe(seed)

    def authenticate(self, nonce: bytes | None, server: Server) -> AuthParameters:
        """The public key, and the signature of the nonce.

        :raises CredentialsError: there is no nonce, or the seed cannot be read, or is malformed.
        """
        nonce = _needed_nonce(nonce, server)
        seed = self._read()
        try:
            return AuthParameters(nkey=nkeys.public_key(seed), sig=_encoded(nkeys.sign(seed, nonce)))
        finally:
            nkeys.wipe(seed)

    def warnings(self) -> list[str]:
        """What the caller should log about how the seed is kept; each text is given once."""
        return self._text.warnings()


class NKeySeedFile(NKeySeed):
    """A file with the seed of a user's NKey. It is read at each connect, and need not exist before.

    :param path: the file; it has the seed alone, or between its ``BEGIN USER NKEY SEED`` and ``END`` lines.
    :raises CredentialsError: this is not a path.
    :raises MissingDependencyError: the package ``cryptography`` is not installed.
    """

    __slots__ = ()

    def __init__(self, path: str | os.PathLike[str]) -> None:
        nkeys.require_ed25519()
        self._text = FileText("nkey_seed_file", path)


class NKeySigner:
    """A user's NKey whose seed is kept elsewhere: in a key store, an agent, a hardware module.

    :param public: the public key (``U...``).
    :param sign_nonce: called with the nonce at each connect; returns the 64 raw bytes of its Ed25519 signature.
    :raises CredentialsError: this is not the public key of a user, or ``sign_nonce`` is not callable.
    """

    __slots__ = ("_public", "_sign_nonce")

    def __init__(self, public: str, sign_nonce: Callable[[bytes], bytes]) -> None:
        try:
            kind, _ = nkeys.decode(public)
        except CredentialsError as error:
            raise CredentialsError(f"nkey_public: {error}") from None
        if kind != "user":
            raise CredentialsError(f"nkey_public: a key of kind {kind!r}; a client connects with one of kind 'user' (U...)")
        self._public = public
        self._sign_nonce = _checked_callable("sign_nonce", sign_nonce)

    def __repr__(self) -> str:
        return f"NKeySigner({self._public!r})"

    def authenticate(self, nonce: bytes | None, server: Server) -> AuthParameters:
        """The public key, and the signature of the nonce.

        :raises CredentialsError: there is no nonce, or ``sign_nonce`` failed, or returned no raw signature.
        """
        return AuthParameters(nkey=self._public, sig=_signature(self._sign_nonce, nonce, server))


class Creds:
    """The content of a credentials file: a JWT and a seed, each between its ``BEGIN`` and ``END`` lines.

    :param text: the content.
    :raises CredentialsError: the text has not both, or one of them is malformed.
    :raises MissingDependencyError: the package ``cryptography`` is not installed.
    """

    __slots__ = ("_seed_text", "_text")

    _text: GivenText | FileText
    _seed_text: FileText | None

    def __init__(self, text: str | bytes) -> None:
        nkeys.require_ed25519()
        self._text = GivenText("creds", text)
        self._seed_text = None
        nkeys.wipe(self._read()[1])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text!r}{'' if self._seed_text is None else f', {self._seed_text!r}'})"

    def _read(self) -> tuple[str, bytearray]:
        with self._text.opened() as text:
            if self._seed_text is None:
                return find_jwt(str(self._text), text, chained=True), find_seed(str(self._text), text, chained=True)
            jwt = find_jwt(str(self._text), text)
        with self._seed_text.opened() as text:
            return jwt, find_seed(str(self._seed_text), text)

    def authenticate(self, nonce: bytes | None, server: Server) -> AuthParameters:
        """The JWT, and the signature of the nonce.

        :raises CredentialsError: there is no nonce, or the credentials cannot be read, or are malformed.
        """
        nonce = _needed_nonce(nonce, server)
        jwt, seed = self._read()
        try:
            return AuthParameters(jwt=jwt, sig=_encoded(nkeys.sign(seed, nonce)))
        finally:
            nkeys.wipe(seed)

    def warnings(self) -> list[str]:
        """What the caller should log about how the credentials are kept; each text is given once."""
        return self._text.warnings() + ([] if self._seed_text is None else self._seed_text.warnings())


class CredsFile(Creds):
    """A credentials file, or a file for each half. They are read at each connect, and need not exist before.

    :param path: the file, with a JWT and a seed, each between its ``BEGIN`` and ``END`` lines.
    :param seed_path: a second file with the seed; then ``path`` has the JWT, and the lines may be missing in both.
    :raises CredentialsError: one of the two is not a path.
    :raises MissingDependencyError: the package ``cryptography`` is not installed.
    """

    __slots__ = ()

    def __init__(self, path: str | os.PathLike[str], seed_path: str | os.PathLike[str] | None = None) -> None:
        nkeys.require_ed25519()
        self._text = FileText("creds_file", path)
        self._seed_text = None if seed_path is None else FileText("seed_path", seed_path)


class UserJWT:
    """A user's JWT with something that signs the server's nonce with the user's key.

    :param jwt: the JWT, alone or between its ``BEGIN NATS USER JWT`` and ``END`` lines, or a callable that gives it at each connect.
    :param signer: a :class:`NKeySeed` or :class:`NKeySeedFile`, or a callable that is given the nonce and returns the 64 raw bytes of its
        Ed25519 signature, or None for a JWT that is a bearer token and needs no signature.
    :raises CredentialsError: this is not a JWT, or ``signer`` is none of these.
    """

    __slots__ = ("_jwt", "_seed", "_sign")

    def __init__(self, jwt: Value, signer: NKeySeed | Callable[[bytes], bytes] | None = None) -> None:
        self._jwt = _checked_value("user_jwt", jwt)
        if isinstance(jwt, str):
            _jwt_in(jwt)
        self._seed: NKeySeed | None = None
        self._sign: Callable[[bytes], bytes] | None = None
        if isinstance(signer, NKeySeed):
            self._seed, self._sign = signer, signer.sign
        elif signer is not None:
            self._sign = _checked_callable("sign_nonce", signer)

    def __repr__(self) -> str:
        return f"UserJWT({_shown(self._jwt)}, {self._seed or _shown(self._sign)})"

    def authenticate(self, nonce: bytes | None, server: Server) -> AuthParameters:
        """The JWT as it is now, and the signature of the nonce.

        :raises CredentialsError: a callable failed or gave something unusable; a signature is needed and there is no nonce.
        """
        jwt = _jwt_in(_current("user_jwt", self._jwt))
        return AuthParameters(jwt=jwt, sig=None if self._sign is None else _signature(self._sign, nonce, server))

    def warnings(self) -> list[str]:
        """What the caller should log about how the seed is kept; each text is given once."""
        return [] if self._seed is None else self._seed.warnings()


def _shown(value: object) -> str:
    return "None" if value is None else "<callable>" if callable(value) else "***"


def _checked_value(option: str, value: Any, *, may_be_empty: bool = False) -> Any:
    if callable(value):
        return value
    if not isinstance(value, str):
        raise wrong_type(option, "a str, or a callable that returns one, is needed", value)
    if not value and not may_be_empty:
        raise CredentialsError(f"{option}: it is empty; None stands for 'not given'")
    return value


def _checked_callable(option: str, value: Any) -> Any:
    if not callable(value):
        raise wrong_type(option, "a callable is needed", value)
    return value


def _current(option: str, value: Value, *, may_be_empty: bool = False) -> str:
    if not callable(value):
        return value
    given = called(option, value)
    if not isinstance(given, str):
        raise wrong_type(option, "the callable has to return str", given)
    if not given and not may_be_empty:
        raise CredentialsError(f"{option}: the callable returned an empty str")
    return given


def called(option: str, function: Callable[[], Any]) -> Any:
    """What somebody else's callable returns.

    :raises CredentialsError: it raised something that is not a :exc:`NatsError`, which is the ``__cause__``.
    """
    try:
        return function()
    except NatsError:
        raise
    except Exception as error:
        # The text of somebody else's error may hold a secret: it is left to __cause__.
        raise CredentialsError(f"{option}: the callable raised {type(error).__name__}") from error


def wrong_type(option: str, rule: str, value: object) -> CredentialsError:
    """The error for a value of a type that does not fit. A coroutine among them is closed, as nobody will await it."""
    if isinstance(value, Coroutine):
        value.close()
    return CredentialsError(f"{option}: {rule}, not {type(value).__name__}")


def _jwt_in(text: str) -> str:
    return find_jwt("user_jwt", bytearray(text, "utf-8", "replace"))


def _signature(sign: Callable[[bytes], bytes], nonce: bytes | None, server: Server) -> str:
    needed = _needed_nonce(nonce, server)
    signature = called("sign_nonce", lambda: sign(needed))
    if not isinstance(signature, (bytes, bytearray)):
        raise wrong_type("sign_nonce", f"the callable has to return {nkeys.SIGNATURE_SIZE} raw bytes", signature)
    if len(signature) != nkeys.SIGNATURE_SIZE:
        raise CredentialsError(f"sign_nonce: the callable has to return {nkeys.SIGNATURE_SIZE} raw bytes, not {len(signature)}")
    return _encoded(signature)


def _encoded(signature: bytes | bytearray) -> str:
    return base64.urlsafe_b64encode(signature).rstrip(b"=").decode("ascii")


def _needed_nonce(nonce: bytes | None, server: Server) -> bytes:
    if not nonce:
        raise CredentialsError(f"{server.url} sent no nonce to sign, so it is not set up for NKeys or JWTs")
    return nonce
