"""The options of a client: defaults, rules, and what is shown of them."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import ConfigurationError, InvalidURLError, MixedSchemesError
from pynats_twisted.protocol import options as options_module
from pynats_twisted.protocol.options import ClientOptions

MIB = 1024 * 1024
NOT_A_NUMBER = float("nan")
INFINITE = float("inf")

# Every option with its default, as documented.
DEFAULTS = {
    "servers": "nats://127.0.0.1:4222",
    "shuffle_servers": True,
    "ignore_discovered": False,
    "max_discovered": 1024,
    "leave_on_lame_duck": True,
    "endpoint_factory": None,
    "name": None,
    "verbose": False,
    "pedantic": False,
    "echo": True,
    "no_responders": True,
    "inbox_prefix": "_INBOX",
    "user": None,
    "password": None,
    "token": None,
    "nkey_seed": None,
    "nkey_seed_file": None,
    "creds": None,
    "creds_file": None,
    "user_jwt": None,
    "sign_nonce": None,
    "nkey_public": None,
    "authenticator": None,
    "tls": None,
    "tls_first": False,
    "tls_ca_file": None,
    "tls_cert_file": None,
    "tls_key_file": None,
    "tls_server_name": None,
    "tls_options": None,
    "connect_timeout": 5.0,
    "ping_interval": 120.0,
    "max_pings_out": 2,
    "allow_reconnect": True,
    "retry_on_failed_connect": False,
    "max_reconnect_attempts": 60,
    "reconnect_wait": 0.1,
    "reconnect_wait_max": 4.0,
    "reconnect_wait_factor": 2.0,
    "reconnect_jitter": 0.1,
    "reconnect_jitter_tls": 0.25,
    "reconnect_delay": None,
    "reconnect_stable_after": 0.25,
    "ignore_auth_error_abort": False,
    "request_timeout": 5.0,
    "flush_timeout": 10.0,
    "drain_timeout": 30.0,
    "fail_requests_on_disconnect": False,
    "reconnect_buffer_bytes": 8 * MIB,
    "high_water_bytes": 2 * MIB,
    "max_pending_bytes": 64 * MIB,
    "pending_msgs": 65_536,
    "pending_bytes": 64 * MIB,
    "max_requests_in_flight": 131_072,
    "max_info_line": MIB,
    "max_line": 64 * 1024,
    "max_message": 64 * MIB,
}

FLAGS = [name for name, value in DEFAULTS.items() if isinstance(value, bool)]
SECONDS = ["connect_timeout", "ping_interval", "request_timeout", "flush_timeout", "drain_timeout"]
WAITS = ["reconnect_wait", "reconnect_wait_max", "reconnect_stable_after"]
FRACTIONS = ["reconnect_jitter", "reconnect_jitter_tls"]
COUNTS = ["max_pings_out", "high_water_bytes", "max_pending_bytes", "max_requests_in_flight", "max_info_line", "max_line", "max_message"]
COUNTS_FROM_ZERO = ["max_discovered", "reconnect_buffer_bytes", "pending_msgs", "pending_bytes"]
TEXTS = ["name", "tls_server_name", "nkey_public"]
SECRETS = ["user", "token", "user_jwt"]
SECRET_TEXTS = ["nkey_seed", "creds"]
PATHS = ["nkey_seed_file", "creds_file", "tls_ca_file", "tls_cert_file", "tls_key_file"]
CALLABLES = ["sign_nonce", "reconnect_delay", "endpoint_factory"]


class SomeAuthenticator:
    def __repr__(self) -> str:
        return "sesame"

    def authenticate(self, nonce: bytes | None, server: object) -> Any:
        raise AssertionError("not called")


def seed(letter: str = "A") -> str:
    """Something of the form of a user's seed; it is nobody's."""
    return "SU" + letter * 56


class DefaultTests(SynchronousTestCase):
    """What holds when nothing is said."""

    def test_defaults(self) -> None:
        """Every option has its documented default, and there are no others."""
        options = ClientOptions()
        found = {field.name: getattr(options, field.name) for field in dataclasses.fields(options) if field.init}
        self.assertEqual(found, DEFAULTS)
        self.assertEqual([url.url for url in options.server_urls], ["nats://127.0.0.1:4222"])
        self.assertFalse(options.tls_wanted)

    def test_every_option_is_documented(self) -> None:
        """The docstring has a line for each option."""
        doc = ClientOptions.__doc__ or ""
        self.assertEqual([name for name in DEFAULTS if f":param {name}: " not in doc], [])

    def test_every_option_has_a_rule(self) -> None:
        """No option is taken unseen, except one that is opaque to the core."""
        ruled = set(options_module._RULES) | {"servers", "inbox_prefix", "tls_options"}
        self.assertEqual(set(DEFAULTS) ^ ruled, set())

    def test_keywords_only(self) -> None:
        """Options have no order."""
        self.assertRaises(TypeError, ClientOptions, "nats://h")

    def test_options_do_not_change(self) -> None:
        """Options are frozen, also against a list of servers that changes later."""
        servers = ["a", "b"]
        options = ClientOptions(servers=servers)
        servers.append("c:0")
        self.assertEqual(options.servers, ("a", "b"))
        self.assertRaises(dataclasses.FrozenInstanceError, setattr, options, "name", "x")

    def test_changed_copy(self) -> None:
        """A copy with other values is checked like any other."""
        options = dataclasses.replace(ClientOptions(servers="a"), servers="b,c", name="x")
        self.assertEqual([url.host for url in options.server_urls], ["b", "c"])
        self.assertEqual(options.name, "x")
        self.assertRaises(ConfigurationError, dataclasses.replace, options, servers="h:0")

    def test_equality(self) -> None:
        """Equal options are equal."""
        self.assertEqual(ClientOptions(servers="a", name="x"), ClientOptions(servers="a", name="x"))
        self.assertNotEqual(ClientOptions(name="x"), ClientOptions(name="y"))


class RuleTests(SynchronousTestCase):
    """What is refused, and what is just accepted."""

    def refused(self, name: str, value: object, words: str = "it must be", **others: Any) -> str:
        """The value is refused with an error that names the option; gives the error's text."""
        error = self.assertRaises(ConfigurationError, ClientOptions, **{**others, name: value})
        self.assertTrue(str(error).startswith(f"{name}: "), str(error))
        self.assertIn(words, str(error))
        return str(error)

    def check(self, names: list[str], right: list[Any], wrong: list[Any], **others: Any) -> None:
        for name in names:
            for value in wrong:
                self.refused(name, value, **others)
            for value in right:
                self.assertEqual(getattr(ClientOptions(**{**others, name: value}), name), value)

    def test_text_of_an_error(self) -> None:
        """An error names the option, the value and the rule."""
        self.assertEqual(self.refused("max_pings_out", -3), "max_pings_out: -3 was given; it must be a whole number, 1 or more")
        self.assertEqual(self.refused("name", ["x"]), "name: <list> was given; it must be a str that is not empty, or None")
        self.assertLess(len(self.refused("max_line", "x" * 10_000)), 300)

    def test_flags(self) -> None:
        """A flag is True or False, not something that is true."""
        self.check(FLAGS, [True, False], [None, 0, 1, "yes"])
        self.check(["tls"], [True, False, None], [0, 1, "require"])

    def test_times(self) -> None:
        """Times are finite numbers of seconds, more than 0; waits may be 0."""
        wrong = [None, "5", True, -1, NOT_A_NUMBER, INFINITE, 10**400]
        self.check(SECONDS, [0.001, 5, 3600.0], [*wrong, 0])
        self.check(WAITS, [0, 0.5, 60], wrong, reconnect_wait=0, reconnect_wait_max=100)
        self.check(FRACTIONS, [0, 0.5, 1], [*wrong, 1.5])
        self.check(["reconnect_wait_factor"], [1, 1.5, 10], [*wrong, 0.5])

    def test_counts(self) -> None:
        """Counts and sizes are whole numbers, 1 or more, or 0 where that has a meaning."""
        wrong = [None, "5", True, 1.0, -1, NOT_A_NUMBER]
        others = {"high_water_bytes": 1, "reconnect_buffer_bytes": 0}
        self.check(COUNTS, [1, 7, MIB], [*wrong, 0], **{**others, "max_pending_bytes": MIB})
        self.check(COUNTS_FROM_ZERO, [0, 1, MIB], wrong)
        self.check(["max_reconnect_attempts"], [-1, 0, 60], [None, "5", True, 1.0, -2])

    def test_texts(self) -> None:
        """Texts are str and not empty: an empty one is a mistake, not 'nothing'."""
        self.check(TEXTS, [None, "x"], ["", b"x", 1])

    def test_secrets(self) -> None:
        """Secrets are str, or a callable that gives one; only a password may be empty."""
        self.check(SECRETS, [None, "x", str], ["", b"x", 1])
        self.check(["password"], [None, "", "x", str], [b"x", 1])
        self.check(SECRET_TEXTS, [None, "x", b"x"], ["", b"", 1])

    def test_paths(self) -> None:
        """Paths are str or path-like. They are not looked for: files are read at each connect."""
        self.check(PATHS, [None, "/no/such/file", pathlib.Path("x")], ["", b"x", 1], tls_cert_file="c")

    def test_content_instead_of_a_path(self) -> None:
        """A seed, or the text of a creds file, in the place of a path is refused without being shown."""
        for name in ("creds_file", "nkey_seed_file"):
            for content in (seed(), f" {seed()}\n", f"-----BEGIN USER NKEY SEED-----\n{seed()}\n"):
                self.assertNotIn("AAAA", self.refused(name, content, "not its content"))

    def test_callables(self) -> None:
        """Hooks are callables."""
        self.check(CALLABLES, [None, str], [1, "x"])

    def test_authenticator(self) -> None:
        """An authenticator is an object with ``authenticate``: not a function, not the class of one."""
        self.check(["authenticator"], [None, SomeAuthenticator()], [str, "x", SomeAuthenticator])

    def test_inbox_prefix(self) -> None:
        """An inbox prefix is a subject without wildcards."""
        for prefix in ("", "a.", "a b", "a.*", ">", "a\r\nPUB b 0", None):
            self.refused("inbox_prefix", prefix, "")
        self.assertEqual(ClientOptions(inbox_prefix="my.inbox").inbox_prefix, "my.inbox")

    def test_bounds_fit_together(self) -> None:
        """A smaller bound is not larger than the larger one."""
        self.refused("reconnect_wait", 5.0, "must not be more than reconnect_wait_max, which is 4.0")
        self.refused("high_water_bytes", 3, "must not be more than max_pending_bytes", max_pending_bytes=2, reconnect_buffer_bytes=0)
        self.refused("reconnect_buffer_bytes", 3, "must not be more than max_pending_bytes", max_pending_bytes=2, high_water_bytes=1)
        ClientOptions(max_pending_bytes=1, high_water_bytes=1, reconnect_buffer_bytes=1, reconnect_wait=4, reconnect_wait_max=4)

    def test_servers(self) -> None:
        """The rules of URLs hold for the option ``servers``."""
        self.assertRaises(InvalidURLError, ClientOptions, servers="nats://h:0")
        self.assertRaises(MixedSchemesError, ClientOptions, servers=["nats://a", "ws://b"])
        self.assertRaises(ConfigurationError, ClientOptions, servers=[])
        for servers in (None, 4222, b"nats://h", [None]):
            self.assertRaises(ConfigurationError, ClientOptions, servers=servers)
        self.assertEqual(ClientOptions(servers=iter(["a", "b"])).servers, ("a", "b"))
        self.assertEqual([url.url for url in ClientOptions(servers=("a,b", "c")).server_urls], [f"nats://{host}:4222" for host in "abc"])

    @settings(max_examples=200, deadline=None, database=None)
    @given(
        st.sampled_from(sorted(set(DEFAULTS) - {"servers"})),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    )
    def test_any_value(self, name: str, value: object) -> None:
        """Whatever value an option is given, it is taken as it is or refused with an error that begins with an option's name."""
        try:
            options = ClientOptions(**{name: value})
        except ConfigurationError as error:
            self.assertIn(str(error).partition(":")[0], DEFAULTS)
        else:
            self.assertIs(getattr(options, name), value)


class TLSTests(SynchronousTestCase):
    """Options of TLS, together and with URLs."""

    def test_when_tls_is_demanded(self) -> None:
        """``tls=True`` demands TLS, and so does every option that would be useless without it."""
        for given_option in (
            {"tls": True},
            {"tls_first": True},
            {"tls_ca_file": "ca.pem"},
            {"tls_cert_file": "c.pem"},
            {"tls_server_name": "n"},
            {"tls_options": object()},
        ):
            self.assertTrue(ClientOptions(**given_option).tls_wanted)
        self.assertFalse(ClientOptions(tls=False).tls_wanted)
        # Of one server only; the server itself knows.
        self.assertFalse(ClientOptions(servers="tls://h").tls_wanted)

    def test_contradictions(self) -> None:
        """``tls=False`` with a secure URL or an option of TLS is refused, and named."""
        for options, named in (
            ({"servers": "nats://a,tls://b"}, "tls://"),
            ({"servers": "wss://a"}, "wss://"),
            ({"tls_ca_file": "x"}, "tls_ca_file"),
            ({"tls_first": True}, "tls_first"),
            ({"tls_server_name": "n"}, "tls_server_name"),
        ):
            error = self.assertRaises(ConfigurationError, ClientOptions, tls=False, **options)
            self.assertEqual(str(error), f"tls: False was given; it must not be together with {named}")

    def test_plain_websocket(self) -> None:
        """TLS cannot be demanded of a ``ws://`` server."""
        for options in ({"tls": True}, {"tls_ca_file": "x"}):
            error = self.assertRaises(ConfigurationError, ClientOptions, servers="ws://a", **options)
            self.assertIn("wss://", str(error))
            ClientOptions(servers="wss://a", **options)

    def test_key_without_certificate(self) -> None:
        """A key alone is refused; a certificate alone may have its key in the same file."""
        error = self.assertRaises(ConfigurationError, ClientOptions, tls_key_file="k")
        self.assertIn("tls_cert_file", str(error))
        ClientOptions(tls_cert_file="c", tls_key_file="k")
        ClientOptions(tls_cert_file="c")

    def test_ready_made_options_and_files(self) -> None:
        """``tls_options`` would make files useless, so they are refused together."""
        for name in ("tls_ca_file", "tls_cert_file"):
            error = self.assertRaises(ConfigurationError, ClientOptions, tls_options=object(), **{name: "x"})
            self.assertIn(name, str(error))


class KeywordTests(SynchronousTestCase):
    """Options from the keywords of a call."""

    def test_known(self) -> None:
        """Known keywords become options."""
        options = ClientOptions.from_keywords(["a", "b"], name="x", max_reconnect_attempts=-1)
        self.assertEqual(options, ClientOptions(servers=["a", "b"], name="x", max_reconnect_attempts=-1))

    def test_near_miss(self) -> None:
        """A misspelt option is answered with the right one."""
        for wrong, right in (
            ("max_reconect_attempts", "max_reconnect_attempts"),
            ("ping_intervall", "ping_interval"),
            ("tls_ca", "tls_ca_file"),
            ("serverz", None),
        ):
            error = self.assertRaises(ConfigurationError, ClientOptions.from_keywords, "a", **{wrong: "sesame"})
            self.assertIn(f"unknown option {wrong!r}", str(error))
            self.assertNotIn("sesame", str(error))
            if right:
                self.assertIn(f"did you mean {right!r}", str(error))

    def test_names_of_other_clients(self) -> None:
        """Common names in other NATS clients lead to ours, each of which exists."""
        error = self.assertRaises(ConfigurationError, ClientOptions.from_keywords, "a", user_credentials="x.creds")
        self.assertEqual(str(error), "unknown option 'user_credentials'; did you mean 'creds_file'?")
        self.assertEqual(set(options_module._ELSEWHERE.values()) - set(DEFAULTS), set())
        self.assertEqual(set(options_module._ELSEWHERE) & set(DEFAULTS), set())

    def test_no_idea(self) -> None:
        """Where nothing is similar, nothing is suggested."""
        error = self.assertRaises(ConfigurationError, ClientOptions.from_keywords, "a", zzzz=1)
        self.assertEqual(str(error), "unknown option 'zzzz'")

    def test_internal_names(self) -> None:
        """What is made from the options is not an option."""
        error = self.assertRaises(ConfigurationError, ClientOptions.from_keywords, "a", server_urls=())
        self.assertIn("unknown option 'server_urls'", str(error))


class SecrecyTests(SynchronousTestCase):
    """What is shown of options."""

    def test_repr_shows_what_differs(self) -> None:
        """The repr has the servers and the options that differ from their defaults."""
        self.assertEqual(repr(ClientOptions()), "ClientOptions(servers=['nats://127.0.0.1:4222'])")
        options = ClientOptions(servers="me:sesame@a,b", user="me", max_line=5, creds_file="/run/x.creds", echo=False)
        self.assertEqual(
            repr(options),
            "ClientOptions(servers=['nats://a:4222', 'nats://b:4222'], echo=False, user='me', creds_file='/run/x.creds', max_line=5)",
        )

    def test_repr_has_no_secret(self) -> None:
        """No secret is in the repr, wherever it was given."""

        class Opaque:
            def __repr__(self) -> str:
                return "sesame"

            def __call__(self) -> str:
                return "sesame"

        for name in ("password", "token", "user_jwt", "nkey_seed", "creds", "nkey_public"):
            self.assertIn(f"{name}=***", repr(ClientOptions(**{name: "sesame"})))
        for name in ("user", "password", "token", "user_jwt", "sign_nonce", "endpoint_factory", "reconnect_delay"):
            self.assertIn(f"{name}=<callable>", repr(ClientOptions(**{name: Opaque()})))
        options = ClientOptions(
            servers="nats://me:sesame@h,sesame@i", authenticator=SomeAuthenticator(), tls_options=Opaque(), creds=b"sesame"
        )
        self.assertNotIn("sesame", f"{options!r} {options}")

    def test_errors_have_no_secret(self) -> None:
        """An error about a secret tells its type and not its value."""
        for name in ("password", "token", "user_jwt", "nkey_seed", "creds", "nkey_public"):
            error = self.assertRaises(ConfigurationError, ClientOptions, **{name: ["sesame"]})
            self.assertIn("<list> was given", str(error))
        error = self.assertRaises(ConfigurationError, ClientOptions, token=b"sesame")
        self.assertIn("*** was given", str(error))
