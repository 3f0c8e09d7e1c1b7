"""What the testing kit knows of servers without starting one: configuration text, the program, certificates and JWTs."""

from __future__ import annotations

import ast
import base64
import dataclasses
import json
import os
import sys
from pathlib import Path
from unittest import mock

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import testing
from pynats_twisted.errors import ConfigurationError
from pynats_twisted.protocol import nkeys
from pynats_twisted.testing import CertificateAuthority, Operator, find_server_program
from pynats_twisted.testing.conf import merged, render
from pynats_twisted.testing.settings import ServerOptions, ServerSettings, ServerTLS


class RenderTests(SynchronousTestCase):
    """The writer of configuration files."""

    def test_every_kind_of_value(self) -> None:
        """Blocks, lists, numbers, booleans and paths are written as the server reads them; None is left out."""
        text = render({"a": True, "b": 1, "c": 0.5, "d": None, "e": Path("/x"), "f": {"g": [1, {"h": "i"}]}, "j": {}})
        self.assertEqual(
            text,
            'a: true\nb: 1\nc: 0.5\ne: "/x"\nf: {\n  g: [\n    1,\n    {\n      h: "i"\n    },\n  ]\n}\nj: {\n}\n',
        )

    def test_strings_cannot_leave_their_quotes(self) -> None:
        """Quotes, backslashes, line ends and control characters are escaped, in names too; variables stay text."""
        self.assertEqual(render({"k": 'a"b\\c\nd\x01e$f'}), 'k: "a\\"b\\\\c\\nd\\x01e$f"\n')
        self.assertEqual(render({'x" } y': 1, "with space": 2}), '"x\\" } y": 1\n"with space": 2\n')

    def test_value_of_another_type_is_named(self) -> None:
        """The error says where the value stands."""
        error = self.assertRaises(ConfigurationError, render, {"tls": {"ciphers": [b"x"]}})
        self.assertIn("tls.ciphers[0]: a bytes", str(error))
        self.assertRaises(ConfigurationError, render, {1: 2})

    def test_merging_goes_into_blocks(self) -> None:
        """Blocks are merged option by option, and neither mapping is changed."""
        below, above = {"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"c": 3}, "d": {"e": 4}}
        self.assertEqual(merged(below, above), {"a": {"b": 1, "c": 3}, "d": {"e": 4}})
        self.assertEqual((below, above), ({"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"c": 3}, "d": {"e": 4}}))


class SettingsTests(SynchronousTestCase):
    """The options of a server."""

    def test_options_for_type_checkers_are_the_options(self) -> None:
        """What type checkers accept as keyword is what the settings have."""
        fields = {field.name for field in dataclasses.fields(ServerSettings)}
        self.assertEqual(set(ServerOptions.__annotations__), fields - {"config"})

    def test_secrets_are_not_shown(self) -> None:
        """The text form of settings holds no password, token or configuration."""
        for options in ({"user": "u", "password": "hush"}, {"token": "hush"}, {"users": [{"user": "a", "password": "hush"}]}):
            self.assertNotIn("hush", repr(ServerSettings(config="password: hush", **options)))

    def test_options_stand_below_own_text(self) -> None:
        """Own text comes first, as the last of two equal options is the one that counts, and errors keep its line numbers."""
        settings = ServerSettings(config="max_payload: 1\nserver_name: mine", name="ours")
        text = settings.text(directory=Path("/d"), tls=None, websocket=None, cluster=None)
        self.assertTrue(text.startswith('max_payload: 1\nserver_name: mine\nserver_name: "ours"\n'))

    def test_lame_duck_times(self) -> None:
        """Seconds become the server's durations."""
        settings = ServerSettings(lame_duck_grace=0.25, lame_duck_duration=31)
        text = settings.text(directory=Path("/d"), tls=None, websocket=None, cluster=None)
        self.assertIn('lame_duck_duration: "31000ms"\nlame_duck_grace_period: "250ms"\n', text)

    def test_tls_block_has_what_was_asked_for(self) -> None:
        """Only the options that differ from the server's defaults are written."""
        files = testing.CertificateFiles(Path("/c"), Path("/k"))
        plain = {name: value for name, value in ServerTLS().block(Path("/ca"), files).items() if value is not None}
        self.assertEqual(plain, {"cert_file": Path("/c"), "key_file": Path("/k")})
        full = ServerTLS(verify=True, first="auto", timeout=3).block(Path("/ca"), files)
        self.assertEqual((full["ca_file"], full["verify"], full["handshake_first"], full["timeout"]), (Path("/ca"), True, "auto", 3))


class ProgramTests(SynchronousTestCase):
    """Finding nats-server."""

    def make_program(self, name: str = "nats-server") -> Path:
        path = Path(self.mktemp()).absolute() / name
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return path

    def find(self, program: Path | str | None = None, *, variable: str = "", path: str = "", scripts: str = "/none") -> str:
        with (
            mock.patch.dict(os.environ, {"NATS_SERVER": variable, "PATH": path}),
            mock.patch("sysconfig.get_path", return_value=scripts),
            mock.patch.object(sys, "executable", "/none/python"),
        ):
            return find_server_program(program)

    def test_order(self) -> None:
        """The argument wins over the environment variable, that over the search path, that over the folder of scripts."""
        argument, variable, path, scripts = (str(self.make_program()) for _ in range(4))
        places = {"variable": variable, "path": str(Path(path).parent), "scripts": str(Path(scripts).parent)}
        self.assertEqual(self.find(argument, **places), argument)
        self.assertEqual(self.find(**places), variable)
        self.assertEqual(self.find(**{**places, "variable": ""}), path)
        self.assertEqual(self.find(scripts=places["scripts"]), scripts)

    def test_wrong_path_is_an_error_that_names_its_origin(self) -> None:
        """A program that was named and is not there is not silently replaced by another one."""
        places = {"path": str(self.make_program().parent)}
        error = self.assertRaises(ConfigurationError, self.find, "/no/such", **places)
        self.assertIn("program names '/no/such'", str(error))
        error = self.assertRaises(ConfigurationError, self.find, variable="/no/such", **places)
        self.assertIn("NATS_SERVER names '/no/such'", str(error))


class PublicNamesTests(SynchronousTestCase):
    """The package ``pynats_twisted.testing``."""

    def test_lazy_names_agree_with_what_type_checkers_see(self) -> None:
        """Each public name is imported for type checkers from where it is loaded from."""
        tree = ast.parse(Path(testing.__file__).read_text("utf-8"))
        seen = {
            alias.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
            for alias in node.names if (node.module or "").startswith("pynats_twisted.")
        }  # fmt: skip
        self.assertEqual(seen, testing._HOMES)
        self.assertEqual(set(testing.__all__), set(testing._HOMES))
        for name in testing.__all__:
            self.assertEqual(getattr(testing, name).__name__, name)
        self.assertLessEqual(set(testing.__all__), set(dir(testing)))

    def test_unknown_name(self) -> None:
        """A name that is not there is the usual error."""
        self.assertRaises(AttributeError, getattr, testing, "NoSuchThing")


class CertificateTests(SynchronousTestCase):
    """What the authority issues."""

    def test_names_are_of_the_right_kind(self) -> None:
        """Host names, addresses and mail addresses become alternative names of their kinds."""
        names = ["a.example", "*.b.example", "127.0.0.1", "::1", "me@c.example"]
        certificate = x509.load_pem_x509_certificate(CertificateAuthority().issue_server(names).certificate_pem)
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(found.get_values_for_type(x509.DNSName), ["a.example", "*.b.example"])
        self.assertEqual([str(address) for address in found.get_values_for_type(x509.IPAddress)], ["127.0.0.1", "::1"])
        self.assertEqual(found.get_values_for_type(x509.RFC822Name), ["me@c.example"])

    def test_key_is_not_shown(self) -> None:
        """The text form of a certificate does not hold its key."""
        certificate = CertificateAuthority().issue_client("someone")
        self.assertIn(b"PRIVATE KEY", certificate.key_pem)
        self.assertNotIn("PRIVATE KEY", repr(certificate))


def claims(jwt: str) -> dict[str, object]:
    """The claims of a JWT, whose signature is right."""
    signed, _, signature = jwt.rpartition(".")
    body = signed.partition(".")[2]
    decoded: dict[str, object] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    if not nkeys.verify(str(decoded["iss"]), signed.encode(), raw):
        raise AssertionError("the signature is wrong")
    return decoded


class AccountTests(SynchronousTestCase):
    """Operators, accounts and users."""

    def test_chain_of_issuers(self) -> None:
        """The operator signs itself and its accounts; an account signs its users."""
        operator = Operator("o")
        account = operator.account("a")
        user = account.user("u")
        chain = [(claims(jwt)["iss"], claims(jwt)["sub"], claims(jwt)["name"]) for jwt in (operator.jwt, account.jwt, user.jwt)]
        self.assertEqual(
            chain,
            [
                (operator.public_key, operator.public_key, "o"),
                (operator.public_key, account.public_key, "a"),
                (account.public_key, user.public_key, "u"),
            ],
        )

    def test_names_of_accounts_are_unique(self) -> None:
        """A second account of a name is refused; the name of the system account is taken."""
        operator = Operator()
        self.assertRaises(ConfigurationError, operator.account, "SYS")

    def test_expiry_is_rounded_up(self) -> None:
        """A JWT is valid for the time asked for at least."""
        with mock.patch("time.time", return_value=1000.25):
            user = Operator().account("a").user(expires_in=1.5)
        self.assertEqual(claims(user.jwt)["exp"], 1002)

    def test_renewed_jwt_keeps_key_and_permissions(self) -> None:
        """renew() changes the time alone."""
        user = Operator().account("a").user(publish=["x"], allow_responses=2, connection_types=["WEBSOCKET"], limits={"payload": 9})
        before = claims(user.jwt)
        user.renew(60)
        after = claims(user.jwt)
        self.assertEqual((before["sub"], before["nats"]), (after["sub"], after["nats"]))
        self.assertIn("exp", after)
        self.assertNotIn("exp", before)
