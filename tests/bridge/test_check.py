"""``--check``: the report on a configuration, for people and for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.check import CheckReport, check_file
from pynats_twisted.bridge.config_output import json_schema
from pynats_twisted.bridge.routes import all_factories, builtin_factories, index_factories
from tests.bridge.route_types import FACTORIES

VALID = """
[bridge]
name = "b1"
[routes.one]
type = "echo"
subject = "a"
confirm = "server"
[routes.two]
type = "echo"
subject = "b"
"""

BUILTIN = """
[bridge]
name = "edge-1"
[admin]
token = "t"
[nats.default]
servers = ["nats://127.0.0.1:4222"]
[listen.public]
endpoint = "tcp:8443"
[routes.orders-api]
type = "http-request"
listen = "public"
path = "/orders/{id}"
methods = ["GET", "PUT"]
subject = "svc.orders.{method}.{id}"
timeout = "2s"
max_body = "256KiB"
request_headers = ["content-type", "accept", "traceparent"]
auth = { bearer = "token" }
[routes.github-in]
type = "http-publish"
listen = "public"
path = "/hooks/github"
subject = "hooks.github.{header:x-github-event}"
confirm = "server"
verify = { scheme = "github", secret = "s" }
[routes.scale]
type = "lines-in"
endpoint = "tcp:9000"
framing = "newline"
max_length = 512
subject = "plant.scale1"
confirm = "server"
"""


class CheckCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.path = self.mktemp()

    def check(self, text: str, builtin: bool = False) -> CheckReport:
        Path(self.path).write_text(text, "utf-8")
        report = check_file(self.path, self.reactor, builtin_factories() if builtin else FACTORIES)
        # Whatever it found, it opened nothing.
        self.assertEqual((self.reactor.tcpClients, self.reactor.tcpServers, self.reactor.getDelayedCalls()), ([], [], []))
        return report


class ReportTests(CheckCase):
    def test_open_route(self) -> None:
        """An HTTP route that everybody can reach and that asks nobody who they are is warned of; a local one is not."""
        open_to_all = BUILTIN.replace('auth = { bearer = "token" }', "")
        warned = "routes.orders-api.auth: found nothing, while listen.public is open to every network"
        self.assertIn(warned, self.check(open_to_all, builtin=True).as_text())
        for text in (BUILTIN, open_to_all.replace('"tcp:8443"', '"tcp:8443:interface=127.0.0.1"')):
            self.assertNotIn(warned, self.check(text, builtin=True).as_text())

    def test_valid(self) -> None:
        """A valid configuration is reported with the guarantee of each route in words, and with its warnings."""
        report = self.check(VALID)
        self.assertTrue(report.is_ok)
        self.assertEqual(
            report.as_text(),
            f'warning: {self.path}:8: routes.two.confirm: found "none"; allowed: server\n'
            "route one (echo)\n"
            "    Whatever is sent to a comes back at most once.\n"
            "route two (echo)\n"
            "    Whatever is sent to b comes back at most once.\n"
            f"{self.path}: valid\n",
        )

    def test_invalid(self) -> None:
        """An invalid configuration is reported with all its problems, and no route."""
        report = self.check(VALID.replace("subject =", "subjct ="))
        self.assertFalse(report.is_ok)
        lines = report.as_text().splitlines()
        self.assertEqual(len(lines), 5)
        self.assertEqual(lines[1], f"error: {self.path}:6: routes.one.subjct: found an unknown key; " + lines[1].partition("; ")[2])
        self.assertTrue(lines[1].endswith("did you mean subject?"))
        self.assertEqual(lines[-1], f"{self.path}: 4 problems")

    def test_one_problem(self) -> None:
        """The count is in English."""
        self.assertTrue(self.check("x =").as_text().endswith(": 1 problem\n"))

    def test_json(self) -> None:
        """The same for programs: an object with everything apart."""
        valid = json.loads(self.check(VALID).as_json())
        self.assertEqual((valid["file"], valid["ok"], valid["problems"]), (self.path, True, []))
        self.assertEqual(valid["routes"][0], {"name": "one", "type": "echo", "guarantee": "Whatever is sent to a comes back at most once."})
        self.assertEqual(valid["warnings"][0]["path"], "routes.two.confirm")
        invalid = json.loads(self.check(VALID.replace('"server"', '"servr"')).as_json())
        self.assertEqual((invalid["ok"], invalid["routes"]), (False, []))
        self.assertEqual(
            invalid["problems"],
            [
                {
                    "file": self.path,
                    "line": 7,
                    "path": "routes.one.confirm",
                    "found": '"servr"',
                    "allowed": '"none", "server"',
                    "suggestion": '"server"',
                }
            ],
        )


class BuiltinTests(CheckCase):
    """The route types that come with the bridge keep to what the configuration expects of a route type."""

    def test_valid(self) -> None:
        """A configuration with a route of each type is valid and every route says what it guarantees."""
        report = self.check(BUILTIN, builtin=True)
        self.assertEqual(report.problems, [])
        self.assertEqual(
            [(route.name, route.type) for route in report.routes],
            [("orders-api", "http-request"), ("github-in", "http-publish"), ("scale", "lines-in")],
        )
        self.assertTrue(all(len(route.guarantee) > 30 for route in report.routes))

    def test_problems(self) -> None:
        """What is wrong with such a route is found at its key and line."""
        replacements = {
            'subject = "svc.orders.{method}.{id}"': ('subject = "svc.{ident}"', "routes.orders-api.subject", 15),
            'path = "/hooks/github"': ('path = "/orders/{x}"\nmethods = ["PUT"]', "routes.github-in.path", 23),
            'endpoint = "tcp:9000"': ('endpoint = "tcp:8443"', "routes.scale.endpoint", 29),
            'subject = "plant.scale1"': ('subject = "{peer}.x"', "routes.scale.subject", 32),
            'framing = "newline"': ('framing = "newlin"', "routes.scale.framing", 30),
            'listen = "public"\npath = "/orders': ('listen = "privat"\npath = "/orders', "routes.orders-api.listen", 12),
        }
        for old, (new, path, line) in replacements.items():
            self.assertEqual(BUILTIN.count(old), 1)
            found = [(problem.path, problem.line) for problem in self.check(BUILTIN.replace(old, new), builtin=True).problems]
            self.assertEqual(found, [(path, line)], old)

    def test_schema(self) -> None:
        """Every route type, also those of plugins, has a JSON Schema in which each key has a type."""
        factories = all_factories()
        schema = json_schema(factories)
        self.assertGreaterEqual(set(factories), {"http-request", "http-publish", "lines-in"})
        for type_name in factories:
            definition = schema["$defs"][f"route-{type_name}"]
            self.assertEqual(definition["properties"]["type"]["const"], type_name)
            for key, described in definition["properties"].items():
                self.assertTrue({"type", "anyOf", "enum", "$ref"} & set(described), f"{type_name}.{key}: {described}")

    def test_a_hundred_routes(self) -> None:
        """A hundred routes of which each is wrong give a hundred problems, each at its own line."""
        head, _, rest = BUILTIN.partition("[routes.orders-api]")
        route = rest.partition("[routes.github-in]")[0].replace("{id}", "{ident}", 1)
        text = head + "".join(f"[routes.r{number}]" + route.replace("/orders/", f"/orders/{number}/") for number in range(100))
        problems = self.check(text, builtin=True).problems
        self.assertEqual([problem.path for problem in problems], [f"routes.r{number}.subject" for number in range(100)])
        self.assertEqual(len({problem.line for problem in problems}), 100)


class ReferenceTests(SynchronousTestCase):
    """The page of the documentation that is the reference."""

    SHARED = ("type", "nats", "debug")

    def test_every_key_is_described(self) -> None:
        """The reference has each key of each section, below the section's heading."""
        page = (Path(__file__).resolve().parent.parent.parent / "docs" / "howto" / "bridge-configuration.rst").read_text("utf-8")
        parts = re.split(r"^``(.+)``\n[-~]+\n", page, flags=re.MULTILINE)
        described = dict(zip(parts[1::2], parts[2::2], strict=True))
        definitions = json_schema(index_factories(builtin_factories()))["$defs"]
        names = {"BridgeSection": "[bridge]", "AdminSection": "[admin]", "NatsSection": "[nats.NAME]", "ListenSection": "[listen.NAME]"}
        names |= {"ServerSection": "[server]", "LeafSection": "[server]"}
        names |= {f"route-{factory.type_name}": factory.type_name for factory in builtin_factories()}
        for definition, heading in names.items():
            for key in definitions[definition]["properties"]:
                where = "[routes.NAME]" if definition.startswith("route-") and key in self.SHARED else heading
                self.assertIn(f"``{key}``", described[where], f"{key} below {where}")
