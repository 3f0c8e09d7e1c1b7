"""Credentials: what is sent in CONNECT for each way to authenticate, and that secrets stay secret."""

from __future__ import annotations

import base64
import inspect
import itertools
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pynats_twisted.errors import ConfigurationError, CredentialsError, MissingDependencyError, NatsError, NoRespondersError
from pynats_twisted.interfaces import IAuthenticator
from pynats_twisted.protocol import credential_providers, creds_text, nkeys
from pynats_twisted.protocol.credentials import (
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
    make_authenticator,
)
from pynats_twisted.protocol.options import ClientOptions
from pynats_twisted.protocol.servers import Server

NONCE = b"nonce-of-this-connection"
SEED = nkeys.create_seed("user")
OTHER_SEED = nkeys.create_seed("user")
PUBLIC = nkeys.public_key(SEED)
JWT = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJVQUJDIn0.c2ln_bmF0-dXJl"
OTHER_JWT = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJVWFlaIn0.c2lnbmF0dXJl"
PASSWORD = "s3cret-passw0rd"


def chained(jwt: str = JWT, seed: str = SEED) -> str:
    """A credentials file."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\nKeep this file.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n"
        "*************************************************************\n"
    )


def server(url: str = "nats://127.0.0.1:4222") -> Server:
    return Server.from_url(url)


def sent(nonce: bytes | None = NONCE, *, url: str = "nats://127.0.0.1:4222", **options: Any) -> dict[str, str]:
    """The fields of CONNECT with these options."""
    return make_authenticator(ClientOptions(**options)).authenticate(nonce, server(url)).as_connect_fields()


def signed_by(public: str, signature: str, nonce: bytes = NONCE) -> bool:
    return nkeys.verify(public, nonce, base64.urlsafe_b64decode(signature + "=="))


class Files(SynchronousTestCase):
    """What the test cases with files share."""

    def write(self, content: str | bytes, path: str | None = None, mode: int = 0o600) -> str:
        path = path or self.mktemp()
        Path(path).write_bytes(content.encode() if isinstance(content, str) else content)
        os.chmod(path, mode)
        return path


class PasswordTests(SynchronousTestCase):
    def test_nothing_is_sent_without_credentials(self) -> None:
        """A client without credentials sends no field of them."""
        self.assertEqual(sent(), {})

    def test_user_and_password_are_sent(self) -> None:
        """The password travels as ``pass``."""
        self.assertEqual(sent(user="ann", password=PASSWORD), {"user": "ann", "pass": PASSWORD})

    def test_user_without_password_is_sent_alone(self) -> None:
        """No password is not an empty password."""
        self.assertEqual(sent(user="ann"), {"user": "ann"})
        self.assertEqual(sent(user="ann", password=""), {"user": "ann", "pass": ""})

    def test_token_is_sent(self) -> None:
        """The token travels as ``auth_token``."""
        self.assertEqual(sent(token="t0ken"), {"auth_token": "t0ken"})

    def test_callables_are_asked_at_each_connect(self) -> None:
        """What a callable gives is used for one connection only."""
        numbers = itertools.count(1)
        for options, field in (
            ({"token": lambda: f"t{next(numbers)}"}, "auth_token"),
            ({"user": lambda: f"u{next(numbers)}", "password": "p"}, "user"),
            ({"user": "u", "password": lambda: f"p{next(numbers)}"}, "pass"),
        ):
            authenticator = make_authenticator(ClientOptions(**options))
            given = [authenticator.authenticate(None, server()).as_connect_fields()[field] for _ in range(2)]
            self.assertNotEqual(given[0], given[1])
        self.assertEqual(next(numbers), 7)

    def test_credentials_of_the_url_win(self) -> None:
        """A server whose URL has credentials gets these and no others, whatever the options say."""
        asked = []
        for options in (
            {"user": "ann", "password": PASSWORD},
            {"token": lambda: asked.append("token") or "t"},
            {"nkey_seed": SEED},
            {"creds": chained()},
            {"creds_file": "/nonexistent"},
            {"user_jwt": JWT, "sign_nonce": lambda nonce: asked.append("nonce") or bytes(64)},
            {"authenticator": Token(lambda: asked.append("authenticator") or "t")},
        ):
            self.assertEqual(sent(None, url="nats://bob:b0b@127.0.0.1", **options), {"user": "bob", "pass": "b0b"})
            self.assertEqual(sent(None, url="nats://t0k@127.0.0.1", **options), {"auth_token": "t0k"})
        self.assertEqual(asked, [])

    def test_empty_values_are_refused(self) -> None:
        """A user or token that is empty (an environment variable that is not set) is noticed before it is sent."""
        for make in (lambda: UserPassword(""), lambda: Token(""), lambda: UserJWT("")):
            self.assertIn("it is empty", str(self.assertRaises(CredentialsError, make)))
        for provider in (UserPassword(lambda: ""), Token(lambda: ""), UserJWT(lambda: "")):
            error = self.assertRaises(CredentialsError, provider.authenticate, None, server())
            self.assertIn("the callable returned an empty str", str(error))

    def test_values_of_other_types_are_refused(self) -> None:
        """A value that is neither text nor callable is named with its type."""
        for make, words in (
            (lambda: UserPassword(b"ann"), "user: a str, or a callable that returns one, is needed, not bytes"),
            (lambda: UserPassword("ann", 5), "password: a str, or a callable that returns one, is needed, not int"),
            (lambda: Token(None), "token: a str, or a callable that returns one, is needed, not NoneType"),
            (lambda: UserJWT(JWT, "text"), "sign_nonce: a callable is needed, not str"),
            (lambda: NKeySigner(PUBLIC, None), "sign_nonce: a callable is needed, not NoneType"),
            (lambda: NKeySeed(5), "nkey_seed: str or bytes are needed, not int"),
            (lambda: CredsFile(5), "creds_file: a path (str or os.PathLike of str) is needed, not int"),
            (lambda: CredsFile(""), "creds_file: the path is empty"),
        ):
            self.assertIn(words, str(self.assertRaises(CredentialsError, make)))


class CallableTests(SynchronousTestCase):
    def raising(self, error: BaseException) -> Callable[..., Any]:
        def raises(*args: object) -> Any:
            raise error

        return raises

    def providers(self, function: Callable[..., Any]) -> list[tuple[str, Any]]:
        return [
            ("user", UserPassword(function, "p")),
            ("password", UserPassword("u", function)),
            ("token", Token(function)),
            ("user_jwt", UserJWT(function)),
            ("sign_nonce", UserJWT(JWT, function)),
            ("sign_nonce", NKeySigner(PUBLIC, function)),
            ("authenticator", make_authenticator(ClientOptions(authenticator=Custom(function)))),
        ]

    def test_what_a_callable_raises_becomes_a_credentials_error(self) -> None:
        """The error names the option and the type, its cause is the original one, and its text is left out: it may hold a secret."""
        failure = LookupError(PASSWORD)
        for option, provider in self.providers(self.raising(failure)):
            error = self.assertRaises(CredentialsError, provider.authenticate, NONCE, server())
            self.assertEqual(str(error), f"{option}: the callable raised LookupError")
            self.assertIs(error.__cause__, failure)

    def test_our_own_errors_pass_through(self) -> None:
        """A callable that raises one of our errors has chosen it."""
        failure = NoRespondersError("vault.token")
        for _, provider in self.providers(self.raising(failure)):
            self.assertIs(self.assertRaises(NatsError, provider.authenticate, NONCE, server()), failure)

    def test_interruptions_pass_through(self) -> None:
        """Ctrl-C in a callable is no matter of credentials."""
        for _, provider in self.providers(self.raising(KeyboardInterrupt())):
            self.assertRaises(KeyboardInterrupt, provider.authenticate, NONCE, server())

    def test_an_awaitable_is_refused_by_name(self) -> None:
        """A coroutine function or a function that returns a Deferred is told apart from text; no coroutine is left to complain later."""
        made = []

        async def coroutine() -> str:
            return "never"

        def make_coroutine(*args: object) -> Any:
            made.append(coroutine())
            return made[-1]

        for function, name in ((make_coroutine, "coroutine"), (lambda *args: Deferred(), "Deferred"), (lambda *args: 5, "int")):
            for option, provider in self.providers(function):
                error = self.assertRaises(CredentialsError, provider.authenticate, NONCE, server())
                self.assertTrue(str(error).startswith(f"{option}: ") and str(error).endswith(f"not {name}"), str(error))
        self.assertEqual({inspect.getcoroutinestate(each) for each in made}, {inspect.CORO_CLOSED})


class Custom:
    """A user's own provider, declared nowhere."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __repr__(self) -> str:
        return f"Custom({PASSWORD})"

    def authenticate(self, nonce: bytes | None, server: Server) -> Any:
        return self.function(nonce, server)


class CustomProviderTests(SynchronousTestCase):
    def test_it_is_given_nonce_and_server(self) -> None:
        """An object with a fitting method is enough."""
        seen = []

        def function(nonce: bytes | None, server: Server) -> AuthParameters:
            seen.append((nonce, server.host))
            return AuthParameters(user="ann", jwt="j")

        self.assertEqual(sent(authenticator=Custom(function)), {"user": "ann", "jwt": "j"})
        self.assertEqual(sent(None, authenticator=Custom(function)), {"user": "ann", "jwt": "j"})
        self.assertEqual(seen, [(NONCE, "127.0.0.1"), (None, "127.0.0.1")])

    def test_our_providers_can_be_given_directly(self) -> None:
        """Each class is a provider for the option as well."""
        self.assertEqual(sent(authenticator=Token("t")), {"auth_token": "t"})
        self.assertEqual(sent(authenticator=NoCredentials()), {})

    def test_fields_that_are_not_text_are_refused(self) -> None:
        """A signature given as bytes would not survive JSON."""
        error = self.assertRaises(CredentialsError, sent, authenticator=Custom(lambda *args: AuthParameters(sig=b"x")))
        self.assertEqual(str(error), "authenticator: sig of AuthParameters has to be str or None, not bytes")

    def test_what_cannot_authenticate_is_refused_at_once(self) -> None:
        """An object without the method, or a class instead of its instance, is wrong configuration."""
        for wrong in (object(), Token):
            with self.assertRaises(ConfigurationError):
                make_authenticator(ClientOptions(authenticator=wrong))

    def test_our_providers_are_declared(self) -> None:
        """zope.interface knows all our classes as IAuthenticator."""
        for provider in (
            NoCredentials(),
            UserPassword("u"),
            Token("t"),
            NKeySeed(SEED),
            NKeySeedFile("seed"),
            NKeySigner(PUBLIC, bytes),
            Creds(chained()),
            CredsFile("creds"),
            UserJWT(JWT),
            make_authenticator(ClientOptions()),
        ):
            self.assertTrue(verifyObject(IAuthenticator, provider))


class NKeyTests(Files):
    def test_seed_signs_the_nonce(self) -> None:
        """The public key and the signature are sent, never the seed."""
        for seed in (SEED, SEED.encode(), f"  {SEED}\r\n", f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------"):
            fields = sent(nkey_seed=seed)
            self.assertEqual(set(fields), {"nkey", "sig"})
            self.assertEqual(fields["nkey"], PUBLIC)
            self.assertTrue(signed_by(PUBLIC, fields["sig"]))

    def test_signature_is_base64url_without_padding(self) -> None:
        """64 bytes take 86 characters of the URL alphabet, and no "=" follows."""
        characters = set()
        for number in range(100):
            signature = sent(str(number).encode(), nkey_seed=SEED)["sig"]
            self.assertEqual(len(signature), 86)
            characters.update(signature)
        self.assertTrue({"-", "_"} <= characters)
        self.assertFalse(characters & set("+/="))

    def test_each_nonce_is_signed_anew(self) -> None:
        """A signature fits its own connection only."""
        authenticator = make_authenticator(ClientOptions(nkey_seed=SEED))
        for nonce in (b"first", b"second"):
            self.assertTrue(signed_by(PUBLIC, authenticator.authenticate(nonce, server()).sig or "", nonce))

    def test_missing_nonce_is_explained(self) -> None:
        """A server that asks for no signature is named, without the secrets in its URL; an empty nonce is none."""
        path = self.write(SEED)
        creds = self.write(chained())
        for options in (
            {"nkey_seed": SEED},
            {"nkey_seed_file": path},
            {"nkey_public": PUBLIC, "sign_nonce": lambda nonce: bytes(64)},
            {"creds": chained()},
            {"creds_file": creds},
            {"user_jwt": JWT, "sign_nonce": lambda nonce: bytes(64)},
            {"user_jwt": JWT, "nkey_seed": SEED},
        ):
            for nonce in (None, b""):
                error = self.assertRaises(CredentialsError, sent, nonce, **options)
                self.assertEqual(str(error), "nats://127.0.0.1:4222 sent no nonce to sign, so it is not set up for NKeys or JWTs")

    def test_seed_file_is_read_at_each_connect(self) -> None:
        """Another seed in the file is used with the next connection."""
        path = self.write(SEED + "\n")
        authenticator = make_authenticator(ClientOptions(nkey_seed_file=path))
        self.assertEqual(authenticator.authenticate(NONCE, server()).nkey, PUBLIC)
        self.write(OTHER_SEED, path)
        self.assertEqual(authenticator.authenticate(NONCE, server()).nkey, nkeys.public_key(OTHER_SEED))

    def test_only_user_seeds_are_accepted(self) -> None:
        """An account's seed is powerful: it is refused, and never used on a connection."""
        account = nkeys.create_seed("account")
        error = self.assertRaises(CredentialsError, make_authenticator, ClientOptions(nkey_seed=account))
        self.assertIn("kind 'account'", str(error))
        error = self.assertRaises(CredentialsError, sent, nkey_seed_file=self.write(account))
        self.assertIn("kind 'account'", str(error))
        error = self.assertRaises(CredentialsError, NKeySigner, nkeys.public_key(account), bytes)
        self.assertIn("kind 'account'", str(error))

    def test_malformed_seed_is_a_configuration_error_at_once(self) -> None:
        """A mistyped seed is found before anything is connected."""
        error = self.assertRaises(ConfigurationError, make_authenticator, ClientOptions(nkey_seed=SEED[:-1]))
        self.assertEqual(str(error), "nkey_seed: an NKey seed has 58 characters, not 57")
        error = self.assertRaises(ConfigurationError, NKeySigner, SEED, bytes)
        self.assertEqual(str(error), "nkey_public: a public key has 56 characters, not 58")

    def test_signing_callback_signs_for_a_public_key(self) -> None:
        """With the key elsewhere, the callback is given the nonce, and its raw signature is encoded."""
        fields = sent(nkey_public=PUBLIC, sign_nonce=lambda nonce: nkeys.sign(SEED, nonce))
        self.assertEqual((set(fields), fields["nkey"]), ({"nkey", "sig"}, PUBLIC))
        self.assertTrue(signed_by(PUBLIC, fields["sig"]))

    def test_signature_that_is_not_raw_is_refused(self) -> None:
        """A callback that encodes its signature is told that raw bytes are wanted."""
        error = self.assertRaises(CredentialsError, sent, nkey_public=PUBLIC, sign_nonce=lambda nonce: bytes(86))
        self.assertEqual(str(error), "sign_nonce: the callable has to return 64 raw bytes, not 86")
        error = self.assertRaises(CredentialsError, sent, nkey_public=PUBLIC, sign_nonce=lambda nonce: "c2ln")
        self.assertEqual(str(error), "sign_nonce: the callable has to return 64 raw bytes, not str")

    def test_without_cryptography_the_options_name_the_extra(self) -> None:
        """Who lacks the optional package learns it when the client is made; passwords work without it."""
        with patch.dict(sys.modules, {"cryptography.hazmat.primitives.asymmetric": None}):
            for options in ({"nkey_seed": SEED}, {"nkey_seed_file": "x"}, {"creds": chained()}, {"creds_file": "x"}):
                error = self.assertRaises(MissingDependencyError, make_authenticator, ClientOptions(**options))
                self.assertIn('pip install "pynats-twisted[nkeys]"', str(error))
            self.assertEqual(sent(token="t"), {"auth_token": "t"})
            self.assertEqual(set(sent(nkey_public=PUBLIC, sign_nonce=lambda nonce: bytes(64))), {"nkey", "sig"})

    def test_cryptography_is_loaded_only_for_keys(self) -> None:
        """Clients without NKeys do not pay for the import."""
        program = (
            "import sys; from pynats_twisted.protocol.credentials import make_authenticator as m\n"
            "from pynats_twisted.protocol.options import ClientOptions as C\n"
            "m(C(token='t')); print('cryptography' in sys.modules)\n"
            f"m(C(nkey_seed={SEED!r})); print('cryptography' in sys.modules)"
        )
        root = Path(nkeys.__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.split(), ["False", "True"])


class CredsTests(Files):
    def check(self, fields: dict[str, str], jwt: str = JWT, seed: str = SEED) -> None:
        self.assertEqual((set(fields), fields["jwt"]), ({"jwt", "sig"}, jwt))
        self.assertTrue(signed_by(nkeys.public_key(seed), fields["sig"]))

    def test_creds_file_gives_jwt_and_signature(self) -> None:
        """The two blocks of a file are found among the other text; neither seed nor public key are sent."""
        self.check(sent(creds_file=self.write(chained())))
        self.check(sent(creds_file=Path(self.write(chained()))))

    def test_creds_can_be_given_as_text_or_bytes(self) -> None:
        """Content that comes from a secret store needs no file."""
        self.check(sent(creds=chained()))
        self.check(sent(creds=chained().encode()))

    def test_forms_that_editors_and_other_tools_leave_are_read(self) -> None:
        """CR LF, a byte order mark, text in UTF-8, other counts of dashes, indentation and no last line end change nothing."""
        for text in (
            chained().replace("\n", "\r\n"),
            "\ufeff" + chained(),
            "Schlüssel für Ann\n" + chained(),
            chained().replace("------END", "-----END").replace("END USER NKEY SEED------", "END USER NKEY SEED-----"),
            chained().replace("-----BEGIN NATS USER JWT-----", "--- BEGIN USER JWT ---"),
            chained().replace(SEED, f"\n  {SEED}  \n"),
            chained().rstrip("*\n"),
            "".join(reversed([part + "------\n" for part in chained().replace("*", "").split("------\n")[:2]])),
        ):
            self.check(sent(creds=text))
            self.check(sent(creds_file=self.write(text)))

    def test_creds_file_is_read_at_each_connect(self) -> None:
        """A rotated file is used with the next connection."""
        path = self.write(chained())
        authenticator = make_authenticator(ClientOptions(creds_file=path))
        self.check(authenticator.authenticate(NONCE, server()).as_connect_fields())
        self.write(chained(OTHER_JWT, OTHER_SEED), path)
        self.check(authenticator.authenticate(NONCE, server()).as_connect_fields(), OTHER_JWT, OTHER_SEED)

    def test_missing_file_fails_one_attempt_only(self) -> None:
        """The error names the file; once it is back, the next attempt works."""
        path = self.mktemp()
        authenticator = make_authenticator(ClientOptions(creds_file=path))
        error = self.assertRaises(CredentialsError, authenticator.authenticate, NONCE, server())
        self.assertEqual(str(error), f"creds_file {path!r}: cannot be read: No such file or directory")
        self.assertIsInstance(error.__cause__, FileNotFoundError)
        self.write(chained(), path)
        self.check(authenticator.authenticate(NONCE, server()).as_connect_fields())

    def test_two_files_give_the_halves(self) -> None:
        """JWT and seed may be kept apart, with or without the lines around them, and are both read at each connect."""
        half = chained().index("***")
        for jwt, seed in ((JWT, SEED + "\n"), (chained()[:half], chained()[half:])):
            jwt_path, seed_path = self.write(jwt, mode=0o644), self.write(seed)
            authenticator = make_authenticator(ClientOptions(authenticator=CredsFile(jwt_path, seed_path)))
            self.check(authenticator.authenticate(NONCE, server()).as_connect_fields())
            self.write(OTHER_JWT, jwt_path)
            self.write(OTHER_SEED, seed_path)
            self.check(authenticator.authenticate(NONCE, server()).as_connect_fields(), OTHER_JWT, OTHER_SEED)

    def test_each_fault_of_a_file_has_its_own_words(self) -> None:
        """The error says what is wrong with the file, and shows nothing of it."""
        for text, words in (
            ("", "there is no line '-----BEGIN NATS USER JWT-----'"),
            (JWT, "there is no line '-----BEGIN NATS USER JWT-----'"),
            (chained()[: chained().index("***")], "there is no line '-----BEGIN USER NKEY SEED-----'"),
            (chained()[: chained().index(JWT) + len(JWT)], "the text ends before the line '------END ...'"),
            (chained().replace(JWT, ""), "the JWT is malformed"),
            (chained().replace(JWT, JWT.replace(".", " ")), "the JWT is malformed"),
            (chained().replace(JWT, JWT + "\n" + JWT), "the JWT is malformed"),
            (chained().replace(SEED, SEED[:-1]), "an NKey seed has 58 characters, not 57"),
            (chained().replace(SEED, ""), "an NKey seed has 58 characters, not 0"),
            (chained(seed=nkeys.create_seed("account")), "kind 'account'"),
            (bytes(range(256)) * 10, "there is no line"),
            (b"x" * (creds_text.MAX_CREDENTIALS_SIZE + 1), "more than 65536 bytes cannot be credentials"),
        ):
            path = self.write(text)
            error = self.assertRaises(CredentialsError, sent, creds_file=path)
            self.assertIn(words, str(error))
            self.assertIn(path, str(error))

    def test_largest_file_is_read(self) -> None:
        """The bound is the last size that works."""
        text = chained().encode()
        self.check(sent(creds_file=self.write(text + b"#" * (creds_text.MAX_CREDENTIALS_SIZE - len(text)))))

    def test_many_lines_cost_in_proportion(self) -> None:
        """A file at the bound that is all BEGIN lines, dashes or spaces is refused within a moment."""
        size = creds_text.MAX_CREDENTIALS_SIZE
        begin = "-----BEGIN NATS USER SEED-----\n"
        started = os.times().user
        for text in (begin * (size // len(begin)), "-" * size, " " * size, "-----BEGIN " + " A" * (size // 2 - 6)):
            self.assertRaises(CredentialsError, sent, creds_file=self.write(text))
        self.assertLess(os.times().user - started, 2.0)

    def test_directory_and_unreadable_content_are_credentials_errors(self) -> None:
        """What the system says about a path is passed on."""
        error = self.assertRaises(CredentialsError, sent, creds_file=os.getcwd())
        self.assertIn("Is a directory", str(error))


class UserJWTTests(Files):
    def test_jwt_is_sent_with_the_signature_of_the_callback(self) -> None:
        """JWT from a value or a callable, alone or between its lines; signature from the callback."""
        block = chained()[: chained().index("***")]
        for jwt in (JWT, f" {JWT}\n", block, lambda: JWT, lambda: block):
            fields = sent(user_jwt=jwt, sign_nonce=lambda nonce: nkeys.sign(SEED, nonce))
            self.assertEqual((set(fields), fields["jwt"]), ({"jwt", "sig"}, JWT))
            self.assertTrue(signed_by(PUBLIC, fields["sig"]))

    def test_jwt_callable_is_asked_at_each_connect(self) -> None:
        """A renewed JWT is used with the next connection."""
        jwts = iter([JWT, OTHER_JWT])
        authenticator = make_authenticator(ClientOptions(user_jwt=lambda: next(jwts), nkey_seed=SEED))
        self.assertEqual([authenticator.authenticate(NONCE, server()).jwt for _ in range(2)], [JWT, OTHER_JWT])

    def test_jwt_goes_with_a_seed_or_a_seed_file(self) -> None:
        """The two halves of credentials can be given as two options; the public key is in the JWT and not sent apart."""
        for options in ({"nkey_seed": SEED}, {"nkey_seed_file": self.write(SEED)}):
            fields = sent(user_jwt=JWT, **options)
            self.assertEqual((set(fields), fields["jwt"]), ({"jwt", "sig"}, JWT))
            self.assertTrue(signed_by(PUBLIC, fields["sig"]))

    def test_bearer_jwt_is_sent_alone(self) -> None:
        """A JWT that is a bearer token needs neither signature nor nonce."""
        self.assertEqual(sent(None, user_jwt=JWT), {"jwt": JWT})

    def test_what_is_no_jwt_is_refused(self) -> None:
        """Malformed values are found at once, those of a callable when it is called."""
        for text in ("x", SEED, JWT + "=", "a.b", "a.b.c.d", "a.b.ü"):
            self.assertRaises(CredentialsError, make_authenticator, ClientOptions(user_jwt=text))
            self.assertRaises(CredentialsError, sent, user_jwt=lambda text=text: text)

    def test_password_and_token_can_accompany_a_jwt(self) -> None:
        """Servers with auth callout look at a common JWT and at the user's own password or token."""
        path = self.write(chained())
        for options in ({"creds": chained()}, {"creds_file": path}, {"user_jwt": JWT, "nkey_seed": SEED}):
            fields = sent(user="ann", password=lambda: PASSWORD, **options)
            self.assertEqual(set(fields), {"user", "pass", "jwt", "sig"})
            self.assertEqual((fields["user"], fields["pass"], fields["jwt"]), ("ann", PASSWORD, JWT))
            fields = sent(token="t0k", **options)
            self.assertEqual((set(fields), fields["auth_token"]), ({"auth_token", "jwt", "sig"}, "t0k"))


# A value for each option of credentials, and the combinations that are accepted.
VALUES: dict[str, Any] = {
    "user": "ann",
    "password": PASSWORD,
    "token": "t0k",
    "nkey_seed": SEED,
    "nkey_seed_file": "seed.nk",
    "nkey_public": PUBLIC,
    "sign_nonce": bytes,
    "user_jwt": JWT,
    "creds": chained(),
    "creds_file": "user.creds",
    "authenticator": NoCredentials(),
}
KEYS = (
    {"creds"},
    {"creds_file"},
    {"user_jwt"},
    {"user_jwt", "sign_nonce"},
    {"user_jwt", "nkey_seed"},
    {"user_jwt", "nkey_seed_file"},
)
PASSWORDS = ({"user"}, {"user", "password"}, {"token"})
ALLOWED = (
    set(),
    *PASSWORDS,
    *KEYS,
    *(password | key for password in PASSWORDS for key in KEYS),
    {"nkey_seed"},
    {"nkey_seed_file"},
    {"nkey_public", "sign_nonce"},
    {"authenticator"},
)


class CombinationTests(SynchronousTestCase):
    def test_every_combination_either_works_or_is_refused_by_name(self) -> None:
        """Of all 2,048 combinations exactly the documented ones are accepted; for the others the error names options that were given."""
        accepted = 0
        for chosen in itertools.product((False, True), repeat=len(VALUES)):
            names = set(itertools.compress(VALUES, chosen))
            try:
                make_authenticator(ClientOptions(**{name: VALUES[name] for name in names}))
            except ConfigurationError as error:
                self.assertNotIn(names, ALLOWED, str(error))
                self.assertTrue(any(name in str(error) for name in names), str(error))
            else:
                self.assertIn(names, ALLOWED)
                accepted += 1
        self.assertEqual(accepted, len(ALLOWED))

    def test_two_ways_at_once_are_both_named(self) -> None:
        """The error lists the options that exclude each other."""
        for names in (
            ("token", "user"),
            ("token", "nkey_seed"),
            ("creds", "creds_file"),
            ("creds_file", "sign_nonce"),
            ("nkey_seed", "nkey_seed_file"),
            ("nkey_seed", "sign_nonce"),
            ("authenticator", "token"),
            ("authenticator", "creds_file", "user"),
        ):
            options = {name: VALUES[name] for name in names}
            error = self.assertRaises(ConfigurationError, lambda options=options: make_authenticator(ClientOptions(**options)))
            for name in names:
                self.assertIn(name, str(error))

    def test_options_that_need_a_partner_name_it(self) -> None:
        """A password without a user, a signer without anything to sign for, a public key without a signer."""
        for name, partners in (("password", ["user"]), ("sign_nonce", ["user_jwt", "nkey_public"]), ("nkey_public", ["sign_nonce"])):
            options = {name: VALUES[name]}
            error = self.assertRaises(ConfigurationError, lambda options=options: make_authenticator(ClientOptions(**options)))
            for partner in partners:
                self.assertIn(partner, str(error))


class WarningTests(Files):
    def warned(self, authenticator: Any) -> list[str]:
        authenticator.authenticate(NONCE, server())
        return list(authenticator.warnings())

    def test_file_that_others_can_read_is_warned_about_once(self) -> None:
        """The warning names the file and its mode; connecting again does not repeat it, another mode is news."""
        path = self.write(chained(), mode=0o644)
        authenticator = make_authenticator(ClientOptions(creds_file=path))
        self.assertEqual(authenticator.warnings(), [])
        self.assertEqual(
            self.warned(authenticator),
            [f"creds_file {path!r} is open to others than its owner (mode 0644); a file with a secret should have mode 0600"],
        )
        self.assertEqual(self.warned(authenticator), [])
        os.chmod(path, 0o640)
        self.assertEqual(len(self.warned(authenticator)), 1)

    def test_all_files_with_seeds_are_looked_at(self) -> None:
        """Seed files count, alone and beside a JWT; of two files each is named."""
        seed, creds = self.write(SEED, mode=0o604), self.write(chained(), mode=0o660)
        self.assertEqual(len(self.warned(make_authenticator(ClientOptions(nkey_seed_file=seed)))), 1)
        self.assertEqual(len(self.warned(make_authenticator(ClientOptions(nkey_seed_file=seed, user_jwt=JWT)))), 1)
        self.assertEqual(len(self.warned(make_authenticator(ClientOptions(creds_file=creds, token="t")))), 1)
        self.assertEqual(len(self.warned(make_authenticator(ClientOptions(authenticator=CredsFile(creds, seed))))), 2)

    def test_private_files_and_other_ways_give_no_warning(self) -> None:
        """Nothing is said about files of mode 0600 and 0400, and about what is no file."""
        for mode in (0o600, 0o400):
            path = self.write(chained(), mode=mode)
            self.assertEqual(self.warned(make_authenticator(ClientOptions(creds_file=path))), [])
        for options in ({}, {"token": "t"}, {"creds": chained()}, {"user_jwt": JWT}, {"authenticator": Token("t")}):
            self.assertEqual(self.warned(make_authenticator(ClientOptions(**options))), [])


class SecrecyTests(Files):
    SECRETS = (PASSWORD, SEED, JWT, "t0ken-t0ken")

    def assert_no_secret(self, text: str) -> None:
        for secret in self.SECRETS:
            self.assertNotIn(secret, text)
            self.assertNotIn(secret[4:-4], text)

    def providers(self) -> list[Any]:
        return [
            UserPassword("ann", PASSWORD),
            UserPassword(lambda: "ann", lambda: PASSWORD),
            Token("t0ken-t0ken"),
            NKeySeed(SEED),
            NKeySeedFile(self.write(SEED)),
            NKeySigner(PUBLIC, lambda nonce: nkeys.sign(SEED, nonce)),
            Creds(chained()),
            CredsFile(self.write(chained())),
            CredsFile(self.write(JWT), self.write(SEED)),
            UserJWT(JWT),
            UserJWT(JWT, NKeySeed(SEED)),
            UserJWT(lambda: JWT, lambda nonce: nkeys.sign(SEED, nonce)),
        ]

    def test_no_representation_shows_a_secret(self) -> None:
        """repr, str and formatting of providers, of what they give and of the authenticator are free of secrets."""
        for provider in [*self.providers(), Custom(lambda *args: AuthParameters(password=PASSWORD, auth_token="t0ken-t0ken", jwt=JWT))]:
            authenticator = make_authenticator(ClientOptions(authenticator=provider))
            parameters = authenticator.authenticate(NONCE, server())
            for thing in (authenticator, parameters, *([] if isinstance(provider, Custom) else [provider])):
                self.assert_no_secret(f"{thing!r} {thing!s} {thing} {[thing]}")
                self.assertTrue(repr(thing).startswith(type(thing).__name__))
            for value in parameters.as_connect_fields().values():
                self.assertNotIn(value, repr(parameters))
        authenticator = make_authenticator(ClientOptions(user="ann", password=PASSWORD, creds=chained()))
        self.assert_no_secret(repr(authenticator))

    def test_parameters_name_what_is_set(self) -> None:
        """The repr helps to see what was sent."""
        self.assertEqual(repr(AuthParameters(user="ann", password="p")), "AuthParameters(user=***, password=***)")
        self.assertEqual(repr(AuthParameters()), "AuthParameters()")

    def test_there_is_no_dict_to_dump(self) -> None:
        """Tools that print the attributes of objects find none."""
        for thing in [*self.providers(), AuthParameters(password=PASSWORD), make_authenticator(ClientOptions(token="t0ken-t0ken"))]:
            self.assertFalse(hasattr(thing, "__dict__"), thing)

    def test_no_error_carries_a_secret(self) -> None:
        """Whatever is wrong with a secret, neither the error nor what led to it shows it, not even as a path."""
        bad_seed, bad_jwt = SEED[:-2] + ("AA" if SEED[-2:] != "AA" else "BB"), JWT.replace(".", "é")
        for options in (
            {"nkey_seed": bad_seed},
            {"nkey_seed": bad_seed + "é"},
            {"nkey_seed": bad_seed + "\udcff"},
            {"nkey_seed_file": SEED},
            {"nkey_seed_file": self.write(bad_seed)},
            {"nkey_public": SEED, "sign_nonce": bytes},
            {"user_jwt": bad_jwt},
            {"user_jwt": lambda: bad_jwt},
            {"user_jwt": JWT + "\udcff"},
            {"creds": chained(bad_jwt, bad_seed)},
            {"creds": chained(JWT, bad_seed)},
            {"creds": chained()[:-120]},
            {"creds": JWT},
            {"creds_file": chained()},
            {"creds_file": JWT},
            {"creds_file": SEED + "\n"},
            {"creds_file": self.write(chained(JWT, bad_seed))},
            {"creds_file": self.write(chained(JWT, SEED).encode("utf-16"))},
            {"user": "ann", "password": PASSWORD, "token": "t0ken-t0ken"},
            {"password": PASSWORD},
            {"token": PASSWORD.encode()},
            {"token": "t0ken-t0ken", "creds": chained(), "nkey_seed": SEED},
        ):
            error: BaseException | None = self.assertRaises(ConfigurationError, lambda options=options: sent(**options))
            while error is not None:
                self.assert_no_secret("".join(traceback.format_exception_only(type(error), error)) + repr(error.args) + repr(vars(error)))
                self.assertNotIsInstance(error, UnicodeError)
                error = error.__cause__ or error.__context__

    def test_secrets_given_as_paths_are_refused_and_not_shown(self) -> None:
        """Paths get into messages; so the content of a file in the place of its path is noticed at once. Odd file names are none."""
        for make in (CredsFile, NKeySeedFile, lambda path: CredsFile("x", path)):
            for content in (chained(), chained().replace("\n", " "), JWT, f"{SEED}\n", SEED, f"{PASSWORD}\0"):
                error = self.assertRaises(CredentialsError, make, content)
                self.assertIn("is not the path of a file but what should be in the file", str(error))
                self.assert_no_secret(str(error))
            for path in ("a.b.c", "eyJ/a.b.c", "SU.creds", Path("dir/user.prod.creds")):
                make(path)

    def test_what_was_read_is_wiped(self) -> None:
        """After each connect, and after each failure, no buffer that held a file or a seed still does."""
        buffers: list[bytearray] = []

        def recording(module: Any, name: str) -> None:
            original = getattr(module, name)

            def record(source: str, text: bytearray, **kw: Any) -> Any:
                buffers.append(text)
                result = original(source, text, **kw)
                if isinstance(result, bytearray):
                    buffers.append(result)
                return result

            self.patch(module, name, record)

        recording(credential_providers, "find_jwt")
        recording(credential_providers, "find_seed")
        good, bad = self.write(chained()), self.write(chained(seed=SEED[:-1]))
        sent(creds_file=good)
        sent(creds=chained())
        sent(nkey_seed=SEED)
        sent(user_jwt=JWT, nkey_seed_file=self.write(SEED))
        self.assertRaises(CredentialsError, sent, creds_file=bad)
        with patch.object(nkeys, "sign", side_effect=RuntimeError):
            self.assertRaises(CredentialsError, sent, creds_file=good)
        self.assertGreater(len(buffers), 15)
        for buffer in buffers:
            if SEED.encode() in buffer or b"BEGIN" in buffer:
                self.fail("a buffer was not wiped")
