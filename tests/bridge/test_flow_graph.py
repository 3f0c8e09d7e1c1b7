"""Routes that feed each other: what --check refuses, and what it tells."""

from __future__ import annotations

import json
from collections.abc import Iterable

from msgspec import field
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pynats_twisted.bridge.check import CheckReport, check_config
from pynats_twisted.bridge.config import Flow, RouteConfig, load_config
from pynats_twisted.bridge.flow_graph import patterns_meet
from pynats_twisted.bridge.interfaces import IRoute, IRouteFactory
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.errors import ConfigError
from tests.bridge.route_types import EchoConfig, EchoRoute


class CopyConfig(RouteConfig, kw_only=True, frozen=True):
    source: list[str] = field(default_factory=list)
    target: str = ""
    to_nats: str = "default"

    def nats_names(self) -> Iterable[tuple[str, str]]:
        return (("nats", self.nats), ("to_nats", self.to_nats))

    def flows(self) -> Iterable[Flow]:
        return (Flow(self.to_nats, tuple(self.source), (self.target,) if self.target else (), read_from=self.nats),)


@implementer(IRouteFactory)
class CopyFactory:
    type_name = "copy"
    config_type = CopyConfig

    def make_route(self, name: str, config: CopyConfig, context: object) -> IRoute:
        echo: object = context
        return EchoRoute(name, EchoConfig(type="echo", subject="x"), echo)  # type: ignore[arg-type]


FACTORIES = [*builtin_factories(), CopyFactory()]

HEAD = """[bridge]
name = "edge"
{bridge}
[nats.default]
servers = "nats://127.0.0.1:4222"
{nats}
"""

COPY = """[routes.{name}]
type = "copy"
source = ["{source}"]
target = "{target}"
{more}
"""


def check(*routes: str, bridge: str = "", nats: str = "") -> CheckReport:
    try:
        config = load_config("".join([HEAD.format(bridge=bridge, nats=nats), *routes]), "bridge.toml", FACTORIES)
    except ConfigError as error:
        return CheckReport("bridge.toml", problems=error.problems)
    return check_config(config, MemoryReactorClock(), FACTORIES)


def copy(name: str, source: str, target: str, more: str = "") -> str:
    return COPY.format(name=name, source=source, target=target, more=more)


class PatternTests(SynchronousTestCase):
    def test_meeting_patterns(self) -> None:
        """Two patterns meet when there is a subject that both match, whichever of them has the wildcard."""
        meeting = [("a", "a"), ("a.*", "a.b"), ("*.b", "a.*"), (">", "a.b"), ("a.>", "a.b.c"), ("a.*.c", "a.>"), ("*.*", "a.>"), (">", "*")]
        apart = [("a", "b"), ("a", "a.b"), ("a.>", "a"), ("a.*", "a.b.c"), ("a.*.c", "*.b.d"), ("a.b.>", "a.*"), ("a.>", "b.>")]
        for one, other in meeting:
            self.assertTrue(patterns_meet(one, other) and patterns_meet(other, one), (one, other))
        for one, other in apart:
            self.assertFalse(patterns_meet(one, other) or patterns_meet(other, one), (one, other))


class CircleTests(SynchronousTestCase):
    def paths(self, report: CheckReport) -> list[str]:
        return [problem.path for problem in report.problems]

    def test_a_route_that_feeds_itself(self) -> None:
        """A route that reads what it publishes is refused, with both patterns."""
        report = check(copy("one", "a.>", "a.b"))
        (problem,) = report.problems
        self.assertEqual((problem.path, problem.line), ("routes.one", 7))
        self.assertIn("routes.one publishes a.b (read as a.>), which routes.one reads", problem.found)
        self.assertIn("allow_loops", problem.allowed)

    def test_circles_of_several(self) -> None:
        """A circle of several routes is told once, as the shortest way around it; routes beside it are not blamed."""
        report = check(
            copy("one", "a", "b"), copy("two", "b", "c.x"), copy("three", "c.*", "a"), copy("four", "b", "d"), copy("five", "d", "e")
        )
        (problem,) = report.problems
        self.assertEqual(problem.path, "routes.one")
        for part in ("routes.one publishes b", "routes.two publishes c.x (read as c.*), which routes.three", "routes.three publishes a"):
            self.assertIn(part, problem.found)
        self.assertNotIn("routes.four", problem.found)
        self.assertEqual(self.paths(check(copy("one", "a", "b"), copy("two", "b", "a"), copy("x", "y", "y"))), ["routes.one", "routes.x"])

    def test_no_circle(self) -> None:
        """A chain is none, nor are routes of which one publishes what nobody reads."""
        self.assertEqual(self.paths(check(copy("one", "a", "b"), copy("two", "b", "c"), copy("three", "b", "c"))), [])

    def test_allowed(self) -> None:
        """``allow_loops = true`` lets circles be."""
        report = check(copy("one", "a", "a"), bridge="allow_loops = true")
        self.assertEqual(self.paths(report), [])
        self.assertEqual([(feed.writer, feed.reader) for feed in report.feeds], [("one", "one")])

    def test_connections_keep_apart(self) -> None:
        """Subjects of different NATS systems do not meet; two connections to one account are one system."""
        other = '[nats.other]\nservers = "nats://127.0.0.1:4223"\n'
        route = copy("one", "a", "a", 'to_nats = "other"')
        self.assertEqual(self.paths(check(route, nats=other)), [])
        back = copy("two", "a", "a", 'nats = "other"')
        self.assertEqual(self.paths(check(route, back, nats=other)), ["routes.one"])
        same = '[nats.other]\nservers = ["nats://127.0.0.1:4222"]\n'
        self.assertEqual(self.paths(check(route, nats=same)), ["routes.one"])
        for account in ('user = "b"\npassword = "c"\n', 'token = "t"\n', 'token = { env = "HOME" }\n'):
            self.assertEqual(self.paths(check(route, nats=same + account)), [], account)

    def test_built_in_routes(self) -> None:
        """What HTTP and lines publish counts, with any value in the place of a placeholder."""
        lines = '[routes.lines]\ntype = "lines-in"\nendpoint = "tcp:9000:interface=127.0.0.1"\nsubject = "plant.{peer}.x"\n'
        web = '[listen.web]\nendpoint = "tcp:8080:interface=127.0.0.1"\n'
        web += '[routes.in]\ntype = "http-request"\nlisten = "web"\npath = "/o/{id}"\nsubject = "orders.{id}"\n'
        report = check(lines, web, copy("one", "plant.10-0-0-1.*", "b"), copy("two", "orders.7", "c"))
        self.assertEqual(report.problems, [])
        self.assertEqual([(feed.writer, feed.reader) for feed in report.feeds], [("lines", "one"), ("in", "two")])
        self.assertIn("\n    routes.in publishes orders.* (read as orders.7), which routes.two reads\n", report.as_text())
        expected = {"writer": "in", "reader": "two", "written": "orders.*", "read": "orders.7"}
        self.assertEqual(json.loads(report.as_json())["feeds"][1], expected)
