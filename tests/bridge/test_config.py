"""Reading a configuration: what is taken, and how what is wrong is reported."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.config import MAX_FILE_BYTES, BridgeConfig, RouteConfig, Section, load_config, read_config
from pynats_twisted.bridge.config_errors import Problem, describe_found, near_miss
from pynats_twisted.bridge.config_output import format_config, json_schema
from pynats_twisted.bridge.endpoints import endpoint_problem, listen_address
from pynats_twisted.bridge.interfaces import IRouteFactory
from pynats_twisted.bridge.routes import index_factories
from pynats_twisted.errors import ConfigError, ConfigurationError
from pynats_twisted.protocol.options import ClientOptions
from tests.bridge.route_types import FACTORIES, EchoConfig, EchoFactory, Generic

FULL = """
[bridge]
name = "edge-1"
drain_timeout = "20s"
log = "json"
max_hops = 4

[admin]
listen = "tcp:8223:interface=127.0.0.1"
token = "t0ken"

[nats.default]
servers = ["nats://127.0.0.1:4222", "nats://127.0.0.2"]
user = "u"
password = "pw-s3cret"
inbox_prefix = "_INBOX_bridge"
connect_timeout = 1.5
reconnect_buffer = "1MiB"

[nats.cloud]
servers = "tls://user:url-s3cret@example.com"
required = false

[listen.public]
endpoint = "tcp:8080"
max_connections = 10

[routes.one]
type = "echo"
subject = "a.b"
timeout = "500ms"
max_body = "1KiB"
confirm = "server"
sizes = ["1KiB", 5]
pair = [1, "x"]
labels = { a = 1 }
either = ["x"]
verify = { scheme = "hmac", header = "X-Sig", secrets = ["h-s3cret"] }
listen = "public"
path = "/one/{id}"

[routes.two]
type = "echo"
subject = "a.c"
auth = { bearer = ["b-s3cret", { env = "PATH" }] }
confirm = "server"
also_nats = "cloud"
"""


def load(text: str) -> BridgeConfig:
    return load_config(text, "bridge.toml", FACTORIES)


class ConfigCase(SynchronousTestCase):
    def problems(self, text: str) -> list[Problem]:
        error = self.assertRaises(ConfigError, load, text)
        self.assertEqual(str(error), "\n".join(map(str, error.problems)))
        self.assertIsInstance(error, ConfigurationError)
        problems: list[Problem] = error.problems
        return problems

    def problem(self, text: str) -> Problem:
        problems = self.problems(text)
        self.assertEqual(len(problems), 1, "\n".join(map(str, problems)))
        return problems[0]

    def with_route(self, lines: str) -> str:
        return f'[bridge]\nname = "b"\n[routes.r]\ntype = "echo"\n{lines}\n'


class ValidTests(ConfigCase):
    def test_full(self) -> None:
        """A whole configuration becomes typed sections: seconds, bytes, secrets, tables of the route's own."""
        config = load(FULL)
        self.assertEqual(
            (config.bridge.name, config.bridge.drain_timeout, config.bridge.log, config.bridge.max_hops), ("edge-1", 20.0, "json", 4)
        )
        assert config.admin is not None and config.admin.token is not None
        self.assertEqual((config.admin.listen, config.admin.token.value), ("tcp:8223:interface=127.0.0.1", "t0ken"))
        self.assertEqual(config.listen["public"].max_connections, 10)
        one, two = config.routes["one"], config.routes["two"]
        assert isinstance(one, EchoConfig) and isinstance(two, EchoConfig)
        self.assertEqual((one.timeout, one.max_body, one.sizes, one.labels, one.either), (0.5, 1024, [1024, 5], {"a": 1}, ["x"]))
        self.assertEqual(one.pair, (1, "x"))
        assert isinstance(one.verify, Generic) and two.auth is not None and isinstance(two.auth.bearer, list)
        self.assertEqual(([secret.value for secret in one.verify.secrets], one.verify.header), (["h-s3cret"], "X-Sig"))
        self.assertEqual([secret.value for secret in two.auth.bearer], ["b-s3cret", os.environ["PATH"]])
        self.assertEqual(config.warnings, [])

    def test_defaults(self) -> None:
        """Two lines and a route are enough: there is a connection to the local server, and no admin page."""
        config = load(self.with_route('subject = "a"'))
        self.assertEqual((list(config.nats), config.nats["default"].servers), (["default"], ["nats://127.0.0.1:4222"]))
        self.assertEqual((config.admin, config.listen, config.bridge.drain_timeout), (None, {}, 20.0))

    def test_relative_paths(self) -> None:
        """Relative paths start at the directory of the configuration file."""
        directory = self.mktemp()
        os.mkdir(directory)
        Path(directory, "token").write_text("from-file\n")
        Path(directory, "bridge.toml").write_text(self.with_route('subject = "a"\nca = "ca.pem"\n[admin]\ntoken = { file = "token" }'))
        config = read_config(os.path.join(directory, "bridge.toml"), FACTORIES)
        assert config.admin is not None and config.admin.token is not None
        self.assertEqual(config.admin.token.value, "from-file")
        route = config.routes["r"]
        assert isinstance(route, EchoConfig)
        self.assertEqual(route.ca, os.path.abspath(os.path.join(directory, "ca.pem")))

    def test_client_options(self) -> None:
        """A connection's section becomes options of a client that never gives up."""
        section = load(FULL).nats["default"]
        options = ClientOptions(**section.client_options("nats-bridge/edge-1/default"))
        self.assertEqual(options.name, "nats-bridge/edge-1/default")
        self.assertEqual((options.user, options.inbox_prefix, options.connect_timeout), ("u", "_INBOX_bridge", 1.5))
        self.assertEqual(options.reconnect_buffer_bytes, 1024 * 1024)
        assert callable(options.password)
        self.assertEqual(options.password(), "pw-s3cret")
        self.assertTrue(options.retry_on_failed_connect and options.ignore_auth_error_abort)
        self.assertEqual(options.max_reconnect_attempts, -1)

    def test_credentials_from_a_file_stay_a_file(self) -> None:
        """A credentials file is given to the client by its path, so that a renewed one is read at the next connect."""
        path = self.mktemp()
        Path(path).write_text("x")
        text = f"[nats.default]\ncreds = '{os.path.abspath(path)}'\n"
        # The content is no credentials: that is found, which shows that the file was read.
        self.assertEqual(self.problem('[bridge]\nname = "b"\n' + text).path, "nats.default.creds")
        self.patch(os, "environ", {**os.environ, "BRIDGE_SEED": "SUx"})
        problem = self.problem('[bridge]\nname = "b"\n[nats.default]\nnkey = { env = "BRIDGE_SEED" }\n')
        self.assertEqual((problem.path, problem.line), ("nats.default.nkey", 4))
        self.assertNotIn("SUx", str(problem))

    def test_warnings(self) -> None:
        """What works but was hardly meant is a warning, with its line."""
        config = load(self.with_route('subject = "a"\n[nats.default]\n[nats.spare]\n[listen.spare]\nendpoint = "tcp:0"'))
        self.assertEqual([problem.path for problem in config.warnings], ["nats.spare", "listen.spare", "routes.r.confirm"])
        self.assertEqual([problem.line for problem in config.warnings], [7, 8, 3])
        self.assertEqual([problem.path for problem in load('[bridge]\nname = "b"').warnings], ["routes"])


class ProblemTests(ConfigCase):
    def test_all_at_once(self) -> None:
        """Everything that is wrong is reported in one go, in the order of the lines."""
        text = """
[brige]
[bridge]
nam = "x"
drain_timeout = "2 sec"
log = "jso"
[nats.default]
servers = []
pasword = "s3cret"
token = { env = 5 }
[listen.public]
endpoint = "tcp:99999"
[routes.a]
type = "ech"
[routes.b]
type = "echo"
timeout = "0s"
max_bdy = 3
verify = { scheme = "githb", secret = "s3cret" }
sizes = [1, "2 kilo"]
"""
        found = [(problem.line, problem.path, problem.suggestion) for problem in self.problems(text)]
        self.assertEqual(
            found,
            [
                (2, "brige", "bridge"),
                (3, "bridge.name", ""),
                (4, "bridge.nam", "name"),
                (5, "bridge.drain_timeout", ""),
                (6, "bridge.log", '"json"'),
                (8, "nats.default.servers", ""),
                (9, "nats.default.pasword", "password"),
                (10, "nats.default.token", ""),
                (12, "listen.public.endpoint", ""),
                (14, "routes.a.type", '"echo"'),
                (15, "routes.b.subject", ""),
                (17, "routes.b.timeout", ""),
                (18, "routes.b.max_bdy", "max_body"),
                (19, "routes.b.verify.scheme", '"github"'),
                (20, "routes.b.sizes.1", ""),
            ],
        )

    def test_wording(self) -> None:
        """A problem names file, line, key, what was found, what is allowed, and the nearest allowed thing."""
        text = self.with_route('subject = "a"\nconfirm = "servr"')
        self.assertEqual(
            str(self.problem(text)), 'bridge.toml:6: routes.r.confirm: found "servr"; allowed: "none", "server"; did you mean "server"?'
        )

    def test_wrong_values(self) -> None:
        """A value of the wrong kind or outside its bounds is refused at its own key and line."""
        values = {
            "timeout = 0": "more than 0",
            'timeout = "0ms"': "more than 0",
            "timeout = -1": "more than 0",
            "timeout = nan": "seconds",
            "timeout = inf": "seconds",
            "timeout = true": "seconds",
            "timeout = [1]": "seconds",
            "max_body = 1.5": "bytes",
            'max_body = "-1"': "bytes",
            "confirm = 1": '"none", "server"',
            "debug = 1": "true or false",
            'debug = "true"': "true or false",
            "nats = 1": "a text",
            "either = 5": "true or false, or an array",
            "either = [5]": "a text",
            "labels = { a = 'x' }": "a whole number",
            "labels = []": "a table",
            "pair = [1]": "an array of 2",
            "pair = ['x', 1]": "a whole number",
            "sizes = 5": "an array",
            "verify = 5": "a table",
            "verify = {}": '"github", "hmac"',
            "verify = { scheme = 'github' }": "env",
            "verify = { scheme = 'github', secret = 's', x = 1 }": "scheme, secret",
            "auth = { bearer = 1 }": "an array, each element: a text, { env",
            "auth = { bearer = [1] }": "env",
            "auth = { beare = 'x' }": "bearer",
            "ca = ''": "the path of a file",
            "labels.'odd key' = 'x'": "a whole number",
        }
        for line, allowed in values.items():
            problems = self.problems(self.with_route(f'subject = "a"\n{line}'))
            self.assertEqual({problem.line for problem in problems}, {6}, line)
            self.assertIn(allowed, problems[0].allowed, line)
            self.assertTrue(problems[0].path.startswith("routes.r."), line)

    def test_own_rules_of_a_section(self) -> None:
        """What a route's own rules find is reported at the keys that they name."""
        text = self.with_route('subject = "a{b}"\nauth = { bearer = ["x"] }\nverify = { scheme = "github", secret = "s" }')
        self.assertEqual(
            [(problem.line, problem.path) for problem in self.problems(text)], [(5, "routes.r.subject"), (6, "routes.r.auth.bearer")]
        )

    def test_unknown_names(self) -> None:
        """Connections and listeners that do not exist are refused, and the one that was meant is named."""
        text = self.with_route('subject = "a"\nnats = "defalt"\nalso_nats = "clod"\nlisten = "pub"\n[nats.default]\n[nats.cloud]')
        found = [(problem.line, problem.path, problem.suggestion) for problem in self.problems(text)]
        self.assertEqual(found, [(6, "routes.r.nats", '"default"'), (7, "routes.r.also_nats", '"cloud"'), (8, "routes.r.listen", "")])

    def test_no_default_connection(self) -> None:
        """With connections of other names only, a route has to name one."""
        problem = self.problem(self.with_route('subject = "a"\nalso_nats = "x"\n[nats.x]'))
        self.assertEqual((problem.path, problem.line), ("routes.r.nats", 3))

    def test_names_of_broken_sections_are_known(self) -> None:
        """A connection whose section is wrong is reported once, not again as unknown by each route."""
        problem = self.problem(self.with_route('subject = "a"\n[nats.default]\nservers = 5'))
        self.assertEqual(problem.path, "nats.default.servers")

    def test_odd_section_names(self) -> None:
        """Names of sections are plain: they end in subjects, metrics and logs."""
        problems = self.problems('[bridge]\nname = "b c"\n["routes"."a.b"]\ntype = "echo"\nsubject = "a"\n[nats."x y"]\n[nats.default]')
        self.assertEqual(
            [(problem.line, problem.path) for problem in problems], [(2, "bridge.name"), (3, 'routes."a.b"'), (6, 'nats."x y"')]
        )

    def test_sections_that_are_no_tables(self) -> None:
        """A value where a table belongs is refused."""
        problems = self.problems('bridge = 1\nnats = [1]\nlisten = "x"\nroutes = { a = 5 }\nadmin = true')
        self.assertEqual(
            [(problem.line, problem.path) for problem in problems],
            [(1, "bridge"), (2, "nats"), (3, "listen"), (4, "routes.a"), (5, "admin")],
        )

    def test_no_type(self) -> None:
        """A route without a type, or with one that is no text, is told the types."""
        for line in ("", "type = 5"):
            problem = self.problem(f'[bridge]\nname = "b"\n[routes.r]\n{line}')
            self.assertEqual((problem.path, problem.allowed), ("routes.r.type", '"echo"'))

    def test_syntax_errors(self) -> None:
        """What is no TOML is refused with the line."""
        self.assertEqual(self.problem("[a]\nx = 1\n[a]\n").line, 3)
        self.assertEqual(self.problem("[a]\nx =\n\n").line, 2)
        self.assertEqual(self.problem("x = " + "[" * 100_000).path, "")

    def test_addresses_of_connections(self) -> None:
        """Server URLs and TLS options are checked as the client checks them, without showing a password."""
        cases = {
            'servers = ["nats://u:s3cret@host:99999"]': "servers",
            'servers = ["http://u:s3cret@host"]': "servers",
            'servers = "nats://a,ws://b"': "servers",
            'inbox_prefix = "a.*"': "inbox_prefix",
            'servers = "tls://a"\ntls = false': "tls",
            'password = "s3cret"': "password",
            'token = "s3cret"\nuser = "u"': "token",
            'tls_key = "k.pem"': "tls_key",
            'max_pending = "1MiB"': "reconnect_buffer",
        }
        for lines, key in cases.items():
            problem = self.problem(f'[bridge]\nname = "b"\n[nats.default]\n{lines}')
            self.assertIn(problem.path, (f"nats.default.{key}", "nats.default"), lines)
            self.assertNotIn("s3cret", str(problem))

    def test_missing_secrets(self) -> None:
        """Every secret is looked for, also those deep inside a route; what is missing is said."""
        text = self.with_route(
            'subject = "a"\nverify = { scheme = "hmac", header = "x", secrets = ["a", { env = "BRIDGE_NONE" }] }\n'
            '[admin]\ntoken = { file = "/nonexistent/token" }'
        )
        found = [(problem.line, problem.path) for problem in self.problems(text)]
        self.assertEqual(found, [(6, "routes.r.verify.secrets.1"), (8, "admin.token")])

    def test_secrets_are_not_shown(self) -> None:
        """No message shows what stands where a secret belongs, whatever its form."""
        lines = [
            'verify = { scheme = "github", secret = ["s3cret"] }',
            'verify = { scheme = "github", secret = { env = "s3cret", x = "s3cret" } }',
            'verify = { scheme = "github", secrt = "s3cret" }',
            "auth = { bearer = [{ value = 's3cret' }] }",
            "auth = { bearer = { value = 's3cret' } }",
            "auth = { bearer = [7777777] }",
        ]
        for line in lines:
            text = "\n".join(map(str, self.problems(self.with_route(f'subject = "a"\n{line}'))))
            self.assertNotIn("s3cret", text)
            self.assertNotIn("7777777", text)


class CollisionTests(ConfigCase):
    def listeners(self, *endpoints: str) -> str:
        sections = "".join(f'[listen.l{index}]\nendpoint = "{endpoint}"\n' for index, endpoint in enumerate(endpoints))
        return f'[bridge]\nname = "b"\n{sections}'

    def test_same_address_twice(self) -> None:
        """Two listeners on one address are refused, also when one of them takes all interfaces."""
        pairs = [
            ("tcp:80", "tcp:80"),
            ("tcp:80:interface=127.0.0.1", "tcp:port=80"),
            ("tcp:80", "tcp6:80"),
            ("tcp:80:127.0.0.1", "tcp:80:interface=127.0.0.1"),
            ("unix:/tmp/x", "unix:address=/tmp/x:mode=600"),
            ("haproxy:tcp:80", "tcp:80"),
        ]
        for first, second in pairs:
            problem = self.problem(self.listeners(first, second))
            self.assertEqual((problem.line, problem.path), (6, "listen.l1.endpoint"), second)
            self.assertIn("listen.l0.endpoint", problem.found)

    def test_different_addresses(self) -> None:
        """Different ports and interfaces stand side by side, and port 0 is a new one each time."""
        endpoints = (
            "tcp:80:interface=127.0.0.1",
            "tcp:80:interface=127.0.0.2",
            "tcp:81",
            "tcp:0",
            "tcp:0",
            "unix:/tmp/x",
            "systemd:domain=INET:index=0",
        )
        self.assertEqual(len(load(self.listeners(*endpoints)).listen), 7)

    def test_unreadable_endpoints(self) -> None:
        """An endpoint that Twisted cannot read is refused with its reason."""
        for endpoint in (
            "",
            "8080x",
            "tcp",
            "tcp:http",
            "tcp:-1",
            "tcp:70000",
            "tpc:80",
            "tcp:80:port=81",
            "ssl:443:privateKey=/nonexistent",
        ):
            problem = self.problem(self.listeners(endpoint))
            self.assertEqual(problem.path, "listen.l0.endpoint", endpoint)

    def test_certificates_are_looked_for(self) -> None:
        """The directory of a ``tls:`` endpoint has to be there, with a certificate in it."""
        if not any(parser.prefix == "tls" for parser in getPlugins(IStreamServerEndpointStringParser)):
            self.assertIn("tls", self.problem(self.listeners("tls:/x:port=1")).found)
            return
        directory = self.mktemp()
        for endpoint in (f"tls:{directory}:port=8443", f"haproxy:tls:{directory}:port=8443"):
            self.assertIn("No such file", self.problem(self.listeners(endpoint)).found)
        os.mkdir(directory)
        self.assertIn("no *.pem", self.problem(self.listeners(f"tls:{directory}:port=8443")).found)
        Path(directory, "host.pem").touch()
        self.assertEqual(len(load(self.listeners(f"tls:{directory}:port=8443")).listen), 1)

    @given(st.text(alphabet="tcp:=\\ unixdls680/"))
    def test_any_endpoint(self, description: str) -> None:
        """Whatever is written as an endpoint, it is judged and no error escapes."""
        try:
            listen_address(description)
        except ValueError:
            self.assertIsNotNone(endpoint_problem(description))

    def test_routes_and_admin_listen_too(self) -> None:
        """The addresses of the admin pages and of routes count as well."""
        text = self.with_route('subject = "a"\nendpoint = "tcp:8080"\n[admin]\nlisten = "tcp:8080"\n[listen.x]\nendpoint = "tcp:8080"')
        self.assertEqual([problem.path for problem in self.problems(text)], ["routes.r.endpoint", "listen.x.endpoint"])
        udp = self.with_route('subject = "a"\nendpoint = "udp:8080"\n[admin]\nlisten = "tcp:8080"')
        self.assertEqual(list(load(udp).routes), ["r"])

    def two_routes(self, first: str, second: str) -> str:
        route = '[routes.{}]\ntype = "echo"\nsubject = "a"\nlisten = "l0"\n{}\n'
        return self.listeners("tcp:80", "tcp:81") + route.format("r1", first) + route.format("r2", second)

    def test_overlapping_paths(self) -> None:
        """Two routes that one request could be meant for are refused."""
        for first, second in (('path = "/a"', 'path = "/a"'), ('path = "/{x}/b"', 'path = "/a/{y}"'), ('path = "/{x}"', 'path = "/{y}"')):
            problem = self.problem(self.two_routes(first, second))
            self.assertEqual(problem.path, "routes.r2.path")
            self.assertIn("routes.r1", problem.found)

    def test_paths_side_by_side(self) -> None:
        """Different paths, methods and listeners do not overlap."""
        pairs = [
            ('path = "/a"', 'path = "/b"'),
            ('path = "/{x}"', 'path = "/{x}/b"'),
            ('path = "/a"\nmethods = ["GET"]', 'path = "/a"\nmethods = ["PUT"]'),
        ]
        for first, second in pairs:
            self.assertEqual(len(load(self.two_routes(first, second)).routes), 2)
        other = self.two_routes('path = "/a"', 'path = "/a"').replace('listen = "l0"\npath', 'listen = "l1"\npath', 1)
        self.assertEqual(len(load(other).routes), 2)

    def test_unusable_path(self) -> None:
        """A path that is none is refused."""
        problem = self.problem(self.two_routes('path = "a"', 'path = "/a"'))
        self.assertEqual(problem.path, "routes.r1.path")


class ReadTests(ConfigCase):
    def test_unreadable_files(self) -> None:
        """A file that is missing, too long or not UTF-8 is a problem like others, with the file's name."""
        missing, binary, long = self.mktemp(), self.mktemp(), self.mktemp()
        Path(binary).write_bytes(b'[bridge]\nname = "\xff"')
        Path(long).write_bytes(b"#" * (MAX_FILE_BYTES + 1))
        for path, line in ((missing, 0), (binary, 2), (long, 0)):
            error = self.assertRaises(ConfigError, read_config, path, FACTORIES)
            self.assertEqual([(problem.file, problem.line) for problem in error.problems], [(path, line)])


class OutputTests(ConfigCase):
    def test_printed_configuration(self) -> None:
        """The printed configuration has every default and reads as the same configuration again, but for the secrets."""
        config = load(FULL)
        again = load(format_config(config))
        self.assertEqual((again.bridge, again.listen), (config.bridge, config.listen))
        one, same = config.routes["one"], again.routes["one"]
        assert isinstance(one, EchoConfig) and isinstance(same, EchoConfig)
        for key in ("subject", "timeout", "max_body", "sizes", "pair", "labels", "either", "path", "methods"):
            self.assertEqual(getattr(same, key), getattr(one, key))
        self.assertIn('drain_timeout = "20s"', format_config(config))
        self.assertEqual(format_config(again), format_config(config))

    def test_printed_secrets(self) -> None:
        """No secret is printed, neither a value nor a password in a URL; where one comes from is."""
        text = format_config(load(FULL))
        for secret in ("t0ken", "s3cret", os.environ["PATH"]):
            self.assertNotIn(secret, text)
        self.assertIn('{ env = "PATH" }', text)
        self.assertIn("tls://<redacted>@example.com", text)

    def test_repr_of_a_configuration(self) -> None:
        """Nor does the repr of a configuration show a secret value."""
        for secret in ("t0ken", "pw-s3cret", "h-s3cret", "b-s3cret"):
            self.assertNotIn(secret, repr(load(FULL)))

    def test_schema(self) -> None:
        """The JSON Schema knows every section and key, durations and sizes as texts too, and each route type by its name."""
        schema = json_schema(index_factories(FACTORIES))
        definitions = schema["$defs"]
        route = definitions["route-echo"]
        self.assertEqual(schema["properties"]["routes"]["additionalProperties"], {"oneOf": [{"$ref": "#/$defs/route-echo"}]})
        self.assertEqual(route["properties"]["type"]["const"], "echo")
        self.assertEqual(set(route["required"]), {"type", "subject"})
        self.assertFalse(route["additionalProperties"])
        timeout = route["properties"]["timeout"]
        self.assertEqual((timeout["type"], timeout["exclusiveMinimum"], timeout["default"]), (["number", "string"], 0, 2.0))
        self.assertEqual(route["properties"]["sizes"]["items"]["type"], ["integer", "string"])
        self.assertEqual(route["properties"]["ca"]["type"], "string")
        self.assertEqual(route["properties"]["subject"]["description"], "the subject to echo on.")
        self.assertEqual(route["properties"]["nats"]["description"], "the name of the [nats.NAME] that the route uses.")
        self.assertIn("env", str(definitions["Github"]["properties"]["secret"]))
        self.assertEqual(definitions["Generic"]["properties"]["header"]["description"], "the header with the signature.")
        self.assertNotIn("null", str(schema))

    def test_schema_of_a_strange_type(self) -> None:
        """A route type with a key that JSON Schema cannot say is named, instead of a schema that is wrong."""

        class Strange(RouteConfig, kw_only=True, frozen=True):
            key: bytearray | SynchronousTestCase

        factory = EchoFactory()
        factory.config_type = Strange  # type: ignore[assignment]
        error = self.assertRaises(TypeError, json_schema, index_factories([factory]))
        self.assertIn("SynchronousTestCase", str(error))


class FactoryTests(SynchronousTestCase):
    def test_unusable_route_types(self) -> None:
        """A route type that does not keep to the interface is refused by name, before a configuration is read with it."""
        for attribute, value in (("type_name", "Echo Route"), ("type_name", None), ("config_type", dict), ("config_type", Section)):
            factory = EchoFactory()
            setattr(factory, attribute, value)
            error = self.assertRaises(ConfigurationError, index_factories, [factory])
            self.assertIn("EchoFactory", str(error))
        self.assertRaises(ConfigurationError, index_factories, [object()])

    def test_same_type_twice(self) -> None:
        """Two route types of one name are refused: which one runs must not depend on chance."""
        error = self.assertRaises(ConfigurationError, index_factories, [EchoFactory(), EchoFactory()])
        self.assertIn("offered twice", str(error))

    def test_factories_provide_the_interface(self) -> None:
        """The interface is one that can be checked."""
        self.assertTrue(IRouteFactory.providedBy(FACTORIES[0]))


class WordsTests(SynchronousTestCase):
    def test_near_miss(self) -> None:
        """Typing errors, and dashes for underscores, are seen through."""
        allowed = ["max_body", "timeout", "max_in_flight"]
        self.assertEqual(
            [near_miss(found, allowed) for found in ("max-body", "timout", "MAX_BODY", "zebra", 5)],
            ["max_body", "timeout", "max_body", "", ""],
        )

    def test_found_is_bounded_and_printable(self) -> None:
        """A found value is cut, and shown without control characters."""
        self.assertEqual(describe_found("a\r\n\x1b[1m"), '"a\\r\\n\\x1b[1m"')
        self.assertLess(len(describe_found("x" * 10_000)), 200)
        self.assertLess(len(describe_found({"k" * 500: 1, **dict.fromkeys(map(str, range(500)), 1)})), 600)

    @given(
        st.recursive(
            st.one_of(st.text(), st.integers(), st.floats(), st.booleans()),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_any_value(self, value: object) -> None:
        """Whatever stands in a section, reading it raises a configuration error and nothing else."""
        from pynats_twisted.bridge.config_convert import RawProblem, convert_section

        problems: list[RawProblem] = []
        for key in ("subject", "timeout", "verify", "auth", "sizes", "pair", "labels", "either", "ca", "type"):
            made = convert_section({"type": "echo", "subject": "a", key: value}, EchoConfig, (), problems)
            self.assertTrue(made is None or isinstance(made, EchoConfig))
            self.assertEqual(made is None, bool(problems))
            problems.clear()
