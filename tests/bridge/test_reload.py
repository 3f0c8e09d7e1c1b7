"""A new configuration for a bridge that runs: what goes on, what is replaced, and what is refused."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.config_diff import Difference
from pynats_twisted.bridge.reload import ReloadReport
from pynats_twisted.bridge.reloader import Reloader
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.client.status import ClientStatus
from pynats_twisted.errors import ConfigError, ConfigurationError
from tests.bridge.route_types import FACTORIES
from tests.bridge.test_service import CONFIG, ServiceCase, load

THREE = """
[routes.three]
type = "echo"
subject = "c"
"""


class ReloadCase(ServiceCase):
    def reload(self, service: BridgeService, text: str) -> ReloadReport:
        done = service.reload(load(text))
        self.pump()
        report: ReloadReport = self.successResultOf(done)
        return report

    def refuse_to_listen(self, refused: int) -> None:
        listen = self.reactor.listenTCP

        def listen_or_refuse(port: int, *args: Any, **kwargs: Any) -> Any:
            if port == refused:
                raise CannotListenError("127.0.0.1", port, OSError(98, "Address already in use"))
            return listen(port, *args, **kwargs)

        self.patch(self.reactor, "listenTCP", listen_or_refuse)


class RouteTests(ReloadCase):
    def test_the_same_again(self) -> None:
        """A configuration that says the same touches nothing."""
        service = self.start()
        routes, connections, listeners = dict(service.routes), dict(service.connections), dict(service.listeners)
        report = self.reload(service, CONFIG + "# a comment\n")
        self.assertEqual(report, ReloadReport(unchanged=["one", "two"]))
        self.assertEqual((service.routes, service.connections, service.listeners), (routes, connections, listeners))
        self.assertEqual(self.route(service, "one").calls, ["start"])
        self.assertEqual(self.sample(service, "nats_bridge_config_reload_success"), 1.0)

    def test_one_changed(self) -> None:
        """Only the route that changed is stopped and started, with its new keys, on the same connections."""
        service = self.start()
        old, other = self.route(service, "one"), self.route(service, "two")
        report = self.reload(service, CONFIG.replace('subject = "a"', 'subject = "z"'))
        self.assertEqual(report, ReloadReport(changed=["one"], unchanged=["two"]))
        new = self.route(service, "one")
        self.assertEqual((old.calls, new.calls, new.config.subject), (["start", "stop"], ["start"], "z"))
        self.assertIs(service.routes["two"], other)
        self.assertEqual(other.calls, ["start"])
        self.assertIs(new.client, old.client)
        self.assertEqual((service.problems(), [peer.closed for peer in self.peers]), ([], [False, False]))

    def test_added_and_removed(self) -> None:
        """Routes come and go; what was counted of one that is gone is shown no more."""
        service = self.start()
        service.metrics.route("two", "echo").messages_in.inc()
        service.metrics.route("two", "echo").failed("closed")
        service.metrics.route("two", "echo").latency.observe(1)
        service.metrics.route("one", "echo").messages_in.inc()
        old = self.route(service, "two")
        report = self.reload(service, CONFIG.split("[routes.two]")[0] + THREE)
        self.assertEqual(report, ReloadReport(added=["three"], removed=["two"], unchanged=["one"], connections=[]))
        self.assertEqual(
            (list(service.routes), old.calls, self.route(service, "three").calls), (["one", "three"], ["start", "stop"], ["start"])
        )
        text = service.metrics.exposition()[0].decode()
        self.assertNotIn('route="two"', text)
        self.assertIn('route="one"', text)

    def test_waits_for_what_is_in_flight(self) -> None:
        """A route whose new form cannot work beside it ends first; its connection and all others go on meanwhile."""
        service = self.start()
        old = self.route(service, "two")
        old.stopping = in_flight = Deferred[None]()
        done = service.reload(load(CONFIG.replace('subject = "b"', 'subject = "z"')))
        self.pump()
        self.assertNoResult(done)
        self.assertEqual((old.calls, self.route(service, "two").calls), (["start", "stop"], []))
        in_flight.callback(None)
        self.assertEqual(self.successResultOf(done).changed, ["two"])
        self.assertEqual(self.route(service, "two").calls, ["start"])

    def test_http_goes_on_at_once(self) -> None:
        """The new form of a route that answers HTTP takes the next request, while the old one still answers the one before."""
        service = self.start()
        old = self.route(service, "one")
        old.stopping = in_flight = Deferred[None]()
        done = service.reload(load(CONFIG.replace('subject = "a"', 'subject = "z"')))
        self.assertEqual(self.route(service, "one").calls, ["start"])
        self.assertNoResult(done)
        in_flight.callback(None)
        self.successResultOf(done)

    def test_bounded_in_time(self) -> None:
        """What is in flight has ``drain_timeout`` to end, then it is cut off and the new form starts."""
        service = self.start()
        cancelled: list[object] = []
        self.route(service, "two").stopping = Deferred(cancelled.append)
        done = service.reload(load(CONFIG.replace('subject = "b"', 'subject = "z"')))
        self.reactor.advance(19.9)
        self.assertNoResult(done)
        self.reactor.advance(0.2)
        self.successResultOf(done)
        self.assertEqual((len(cancelled), self.route(service, "two").calls), (1, ["start"]))

    def test_an_endpoint_changes_hands(self) -> None:
        """A route begins to listen after another one has left the address."""
        text = CONFIG + 'endpoint = "tcp:9000"\n' + THREE
        service = self.start(text)
        old = self.route(service, "two")
        old.stopping = in_flight = Deferred[None]()
        done = service.reload(load(CONFIG + THREE + 'endpoint = "tcp:9000"\n'))
        new = self.route(service, "three")
        self.assertEqual((old.calls, new.calls), (["start", "stop"], []))
        in_flight.callback(None)
        self.successResultOf(done)
        self.assertEqual(new.calls, ["start"])

    def test_a_route_that_cannot_be_started(self) -> None:
        """It is logged and told; the others are started."""
        service = self.start()

        def broken(route: object) -> None:
            raise ZeroDivisionError("no paper")

        self.patch(FACTORIES[0], "make_route", lambda name, config, context: self.make_broken(name, config, context, broken))
        report = self.reload(service, CONFIG.split("[routes.two]")[0] + THREE + THREE.replace("three", "four"))
        self.assertEqual(report.failed, ["three: no paper"])
        self.assertEqual(self.route(service, "four").calls, ["start"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def make_broken(self, name: str, config: Any, context: Any, broken: Any) -> Any:
        from tests.bridge.route_types import EchoRoute

        route = EchoRoute(name, config, context)
        if name == "three":
            route.startService = lambda: broken(route)  # type: ignore[method-assign]
        return route

    def test_changed_secret(self) -> None:
        """A file with another secret in it changes the routes that use it, and no others."""
        path = self.mktemp()
        for value in ("first", "second"):
            with open(path, "w") as stream:
                stream.write(value)
            config = load_config(CONFIG + f'auth = {{ bearer = [{{ file = "{os.path.abspath(path)}" }}] }}\n', "bridge.toml", FACTORIES)
            if value == "first":
                service = BridgeService(self.reactor, config, FACTORIES)
                service.startService()
                self.connect()
        report = self.successResultOf(service.reload(config))
        self.assertEqual((report.changed, report.unchanged), (["two"], ["one"]))

    def test_a_changed_rule_for_all(self) -> None:
        """What ``[bridge]`` says of loops changes every route; ``drain_timeout`` none."""
        service = self.start()
        report = self.reload(service, CONFIG.replace('"20s"', '"7s"'))
        self.assertEqual((report.unchanged, service.config.bridge.drain_timeout), (["one", "two"], 7.0))
        report = self.reload(service, CONFIG.replace('"20s"', '"7s"\nmax_hops = 3'))
        self.assertEqual(report.changed, ["one", "two"])
        self.assertEqual(self.route(service, "one").context.bridge.max_hops, 3)

    def test_stopped_meanwhile(self) -> None:
        """A stop during a reload starts nothing new, and waits for what the reload is ending."""
        service = self.start()
        old = self.route(service, "two")
        old.stopping = in_flight = Deferred[None]()
        reloaded = service.reload(load(CONFIG.replace('subject = "b"', 'subject = "z"')))
        stopped = service.stopService()
        self.pump()
        self.assertNoResult(stopped)
        self.assertFalse(self.peer(4223).closed)
        in_flight.callback(None)
        self.pump()
        self.successResultOf(stopped)
        self.successResultOf(reloaded)
        self.assertEqual(self.route(service, "two").calls, [])
        self.assertEqual([peer.closed for peer in self.peers], [True, True])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_stop_that_is_cut_short(self) -> None:
        """A second signal ends the reload's waiting too."""
        service = self.start()
        self.route(service, "two").stopping = Deferred()
        service.reload(load(CONFIG.replace('subject = "b"', 'subject = "z"'))).addErrback(lambda _: None)
        stopped = service.stopService()
        service.cut_short()
        self.successResultOf(stopped)
        self.pump()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_route_that_was_stopped_by_request(self) -> None:
        """A route that somebody stopped stays so while it is unchanged; its new form runs, and the old one is not stopped twice."""
        service = self.start()
        old = self.route(service, "one")
        service.switches.pause("one")
        self.reload(service, CONFIG.replace('subject = "b"', 'subject = "y"'))
        self.assertEqual((service.switches.state("one"), old.calls), ("paused", ["start", "stop"]))
        self.reload(service, CONFIG.replace('subject = "a"', 'subject = "z"'))
        self.assertEqual((service.switches.state("one"), old.calls), ("running", ["start", "stop"]))
        self.assertEqual(self.route(service, "one").calls, ["start"])

    def test_one_after_the_other(self) -> None:
        """A second reload waits for the first one, and starts from what that has left."""
        service = self.start()
        self.route(service, "two").stopping = in_flight = Deferred[None]()
        first = service.reload(load(CONFIG.replace('subject = "b"', 'subject = "y"')))
        second = service.reload(load(CONFIG.replace('subject = "b"', 'subject = "z"')))
        self.assertNoResult(second)
        in_flight.callback(None)
        self.assertEqual([self.successResultOf(done).changed for done in (first, second)], [["two"], ["two"]])
        self.assertEqual(self.route(service, "two").config.subject, "z")


class PartTests(ReloadCase):
    """Connections, listeners and the admin endpoint."""

    def test_another_server(self) -> None:
        """A connection to other servers is made anew, its routes with it; the old one is drained when they have ended."""
        service = self.start()
        old = self.route(service, "two")
        old.stopping = in_flight = Deferred[None]()
        done = service.reload(load(CONFIG.replace(":4223", ":4224")))
        self.connect()
        self.assertEqual((self.peer(4223).closed, self.peer(4222).closed), (False, False))
        in_flight.callback(None)
        self.pump()
        report = self.successResultOf(done)
        self.assertEqual((report.changed, report.unchanged, report.connections), (["two"], ["one"], ["spare"]))
        self.assertEqual((self.peer(4223).closed, self.peer(4222).closed), (True, False))
        self.assertEqual(self.route(service, "two").client.status, ClientStatus.CONNECTED)
        self.assertIs(self.route(service, "two").client, service.connections["spare"].client)
        self.assertEqual(self.sample(service, "nats_bridge_nats_connected", nats="spare"), 1.0)
        self.assertEqual(service.degraded(), [])

    def test_a_connection_that_goes(self) -> None:
        """A connection that no section names any more is closed, and counted no more."""
        service = self.start()
        spare = '[nats.spare]\nservers = "nats://127.0.0.1:4223"\nrequired = false\n'
        text = CONFIG.replace('nats = "spare"\nalso_nats = "spare"\n', "").replace(spare, "")
        report = self.reload(service, text)
        self.assertEqual((report.connections, list(service.connections)), (["spare"], ["default"]))
        self.assertEqual((self.peer(4223).closed, self.peer(4222).closed), (True, False))
        self.assertNotIn('nats="spare"', service.metrics.exposition()[0].decode())

    def test_required_changes_in_place(self) -> None:
        """Whether a connection is required is no reason to close it."""
        service = self.start()
        report = self.reload(service, CONFIG.replace("required = false", "required = true"))
        self.assertEqual(report.unchanged, ["one", "two"])
        self.peer(4223).close()
        self.assertEqual(service.problems(), ["nats.spare is reconnecting"])

    def test_limits_change_in_place(self) -> None:
        """Other limits of a listener hold from now on; the connections to it stay."""
        service = self.start()
        listener = service.listeners["public"]
        report = self.reload(service, CONFIG.replace('interface=127.0.0.1"', 'interface=127.0.0.1"\nmax_connections = 7'))
        self.assertEqual((report.unchanged, report.listeners), (["one", "two"], []))
        self.assertEqual((service.listeners["public"], listener.limits.max_connections), (listener, 7))

    def test_another_address(self) -> None:
        """A listener on another address takes the place of the old one, which finishes what it has; its routes move with it."""
        service = self.start()
        old = service.listeners["public"]
        report = self.reload(service, CONFIG.replace("tcp:8080", "tcp:8081"))
        self.assertEqual((report.changed, report.unchanged, report.listeners), (["one"], ["two"], ["public"]))
        self.assertTrue(old.stopping)
        new: Any = service.listeners["public"]
        self.assertEqual(new.port.getHost().port, 8081)
        self.assertIs(self.route(service, "one").context.http_listener("public"), new)
        self.assertEqual(service.problems(), [])

    def test_an_address_in_use(self) -> None:
        """A new listener that cannot listen refuses the reload: all is as before, also what had to make room for it."""
        service = self.start(CONFIG + "[admin]\n")
        routes, listener, admin = dict(service.routes), service.listeners["public"], service.admin
        self.refuse_to_listen(8081)
        # The first of the new ones wants the address of the old one.
        text = CONFIG.replace("tcp:8080:interface=127.0.0.1", "tcp:8080") + '[listen.more]\nendpoint = "tcp:8081"\n'
        done = service.reload(load(text + "[admin]\n"))
        self.reactor.advance(0)
        error = self.failureResultOf(done, ConfigError).value
        self.assertEqual([problem.path for problem in error.problems], ["listen.more.endpoint"])
        self.assertIn("Address already in use", str(error))
        self.assertEqual((service.routes, service.listeners, service.admin), (routes, {"public": listener}, admin))
        self.assertEqual((service.problems(), [route.calls for route in routes.values()]), ([], [["start"], ["start"]]))  # type: ignore[attr-defined]
        self.assertEqual(self.sample(service, "nats_bridge_config_reload_success"), 0.0)

    def test_admin(self) -> None:
        """The admin endpoint comes, moves and goes; it stays where it cannot move."""
        service = self.start()
        self.assertTrue(self.reload(service, CONFIG + "[admin]\n").admin)
        first: Any = service.admin
        self.assertEqual(first.port.getHost().port, 8223)
        self.assertFalse(self.reload(service, CONFIG + "[admin]\n").admin)
        self.refuse_to_listen(8225)
        self.failureResultOf(service.reload(load(CONFIG + '[admin]\nlisten = "tcp:8225"\n')), ConfigError)
        self.assertIs(service.admin, first)
        self.assertEqual(first.port.getHost().port, 8223)
        self.reload(service, CONFIG + '[admin]\nlisten = "tcp:8224"\n')
        second: Any = service.admin
        self.assertEqual((first.port, second.port.getHost().port), (None, 8224))
        self.assertTrue(self.reload(service, CONFIG).admin)
        self.assertEqual((service.admin, second.port), (None, None))
        done = service.stopService()
        self.pump()
        self.successResultOf(done)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class RefusalTests(ReloadCase):
    def test_a_route_that_cannot_be_made(self) -> None:
        """A configuration with a route that cannot be made is refused as a whole, before anything is touched."""
        service = self.start()
        text = CONFIG.replace('subject = "a"', 'subject = "unusable"').replace('subject = "b"', 'subject = "z"').replace("8080", "8081")
        error = self.failureResultOf(service.reload(load(text)), ConfigError).value
        self.assertEqual([problem.path for problem in error.problems], ["routes.one"])
        self.assertEqual([self.route(service, name).calls for name in ("one", "two")], [["start"], ["start"]])
        self.assertEqual([port for port, *_ in self.reactor.tcpServers], [8080])
        self.assertEqual(self.sample(service, "nats_bridge_config_reload_success"), 0.0)

    def test_what_cannot_change(self) -> None:
        """The bridge's name and the format of its log are those of the start."""
        service = self.start()
        error = self.failureResultOf(service.reload(load(CONFIG.replace('"b1"', '"b2"\nlog = "json"'))), ConfigError).value
        self.assertEqual([problem.path for problem in error.problems], ["bridge.name", "bridge.log"])
        self.assertIn('found "b2"; allowed: "b1"', str(error))

    def test_not_while_stopped(self) -> None:
        """A bridge that does not run, or that is stopping, takes no configuration."""
        service = self.make()
        self.failureResultOf(service.reload(load()), ConfigurationError)
        service.startService()
        service.stopService()
        self.failureResultOf(service.reload(load()), ConfigurationError)


class ReloaderTests(ReloadCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.mktemp()
        self.write(CONFIG)
        self.service = self.start()
        self.reloader = Reloader(self.service, self.path)

    def write(self, text: str) -> None:
        with open(self.path, "w", encoding="utf-8") as stream:
            stream.write(text)

    def test_reads_the_file_again(self) -> None:
        """What stands in the file now is what runs afterwards, and the metrics show another hash."""
        before = self.sample(self.service, "nats_bridge_config_hash")
        self.write(CONFIG.replace('subject = "a"', 'subject = "z"'))
        self.assertEqual(self.reloader.disk_state(), "differs")
        self.assertEqual(self.successResultOf(self.reloader.reload()).changed, ["one"])
        self.assertEqual(self.reloader.disk_state(), "same")
        self.assertNotEqual(self.sample(self.service, "nats_bridge_config_hash"), before)

    def test_a_broken_file(self) -> None:
        """A file that cannot be used is refused, and the bridge goes on as before."""
        self.write(CONFIG.replace("subject", "sbject"))
        self.assertEqual(self.reloader.disk_state(), "invalid")
        self.failureResultOf(self.reloader.reload(), ConfigError)
        self.assertEqual(self.sample(self.service, "nats_bridge_config_reload_success"), 0.0)
        self.assertEqual((self.service.problems(), self.route(self.service, "one").calls), ([], ["start"]))
        os.remove(self.path)
        self.failureResultOf(self.reloader.reload(), ConfigError)
        self.write(CONFIG)
        self.successResultOf(self.reloader.reload())
        self.assertEqual(self.sample(self.service, "nats_bridge_config_reload_success"), 1.0)


class DifferenceTests(ReloadCase):
    def test_order_is_no_difference(self) -> None:
        """The order of sections and of keys is no difference."""
        head, one, two = CONFIG.replace("[routes", "\0[routes").split("\0")
        changes = Difference(load(), load(head + two + one))
        self.assertEqual((changes.routes.changed, changes.routes.unchanged), ([], ["two", "one"]))
        self.assertEqual((changes.nats.leaving, changes.listen.leaving, changes.admin), ([], [], False))
