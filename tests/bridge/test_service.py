"""The bridge as a service: what starts, when it is ready, and in which order it stops."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.check import check_config
from pynats_twisted.bridge.config import BridgeConfig, load_config
from pynats_twisted.bridge.connections import RTT_INTERVAL
from pynats_twisted.bridge.context import RouteContext
from pynats_twisted.bridge.metrics import BridgeMetrics
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.bridge.stopping import Stop
from pynats_twisted.client.status import ClientStatus
from pynats_twisted.errors import ConfigError, ConfigurationError
from tests.bridge.route_types import FACTORIES, EchoRoute

CONFIG = """
[bridge]
name = "b1"
drain_timeout = "20s"
[nats.default]
servers = "nats://127.0.0.1:4222"
[nats.spare]
servers = "nats://127.0.0.1:4223"
required = false
[listen.public]
endpoint = "tcp:8080:interface=127.0.0.1"
[routes.one]
type = "echo"
subject = "a"
listen = "public"
[routes.two]
type = "echo"
subject = "b"
nats = "spare"
also_nats = "spare"
"""

INFO = b'INFO {"server_id":"S","version":"2.15.1","proto":1,"host":"127.0.0.1","port":4222,"headers":true,"max_payload":1048576}\r\n'


def load(text: str = CONFIG) -> BridgeConfig:
    return load_config(text, "bridge.toml", FACTORIES)


class Peer:
    """The server's end of a NATS connection in memory. It answers each PING with a PONG when it is pumped."""

    def __init__(self, factory: Any, port: int) -> None:
        self.transport = StringTransport()
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.port = port
        self.received = b""
        self.closed = False
        self.mute = False
        self.protocol.dataReceived(INFO)

    def pump(self) -> bool:
        data = self.transport.value()
        self.transport.clear()
        self.received += data
        pongs = data.count(b"PING\r\n")
        if pongs and not self.closed and not self.mute:
            self.protocol.dataReceived(b"PONG\r\n" * pongs)
        if self.transport.disconnecting and not self.closed:
            self.close()
            return True
        return bool(data)

    def close(self) -> None:
        self.closed = True
        self.protocol.connectionLost(Failure(ConnectionDone()))


class ServiceCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.peers: list[Peer] = []

    def make(self, text: str = CONFIG) -> BridgeService:
        return BridgeService(self.reactor, load(text), FACTORIES)

    def start(self, text: str = CONFIG, connect: bool = True) -> BridgeService:
        service = self.make(text)
        service.startService()
        if connect:
            self.connect()
        return service

    def connect(self) -> None:
        """Accept every connection that waits for it."""
        waiting, self.reactor.tcpClients[:] = list(self.reactor.tcpClients), []
        self.peers += [Peer(factory, port) for _, port, factory, _, _ in waiting]
        self.pump()

    def pump(self) -> None:
        """Let both sides write and read until nobody has anything to say."""
        while True:
            self.reactor.advance(0)
            said = [peer.pump() for peer in self.peers]
            if not any(said):
                return

    def peer(self, port: int) -> Peer:
        return next(peer for peer in self.peers if peer.port == port)

    def route(self, service: BridgeService, name: str) -> EchoRoute:
        route = service.routes[name]
        assert isinstance(route, EchoRoute)
        return route

    def sample(self, service: BridgeService, name: str, **labels: str) -> float | None:
        return service.metrics.registry.get_sample_value(name, labels)


class StartTests(ServiceCase):
    def test_making_opens_nothing(self) -> None:
        """A bridge that is made and not started has opened, bound and scheduled nothing."""
        service = self.make()
        self.assertEqual((self.reactor.tcpClients, self.reactor.tcpServers, self.reactor.getDelayedCalls()), ([], [], []))
        self.assertEqual(service.problems(), ["the bridge is not running"])
        self.assertEqual(self.route(service, "one").calls, [])

    def test_starts_everything(self) -> None:
        """Connections, listeners and routes are started, and each connection has the bridge's name and its own."""
        service = self.start()
        self.assertEqual([(port, interface) for port, _, _, interface in self.reactor.tcpServers], [(8080, "127.0.0.1")])
        self.assertEqual([self.route(service, name).calls for name in ("one", "two")], [["start"], ["start"]])
        self.assertIn(b'"name":"nats-bridge/b1/default"', self.peer(4222).received.replace(b" ", b""))
        self.assertIn(b'"name":"nats-bridge/b1/spare"', self.peer(4223).received.replace(b" ", b""))

    def test_routes_get_the_clients_and_listeners(self) -> None:
        """A route finds the client and the listener that it names in its context; unknown names are errors that say what there is."""
        service = self.make()
        route = self.route(service, "two")
        self.assertIs(route.client, service.connections["spare"].client)
        self.assertIs(route.context.http_listener("public"), service.listeners["public"])
        self.assertIn("default, spare", str(self.assertRaises(ConfigurationError, route.context.client, "nope")))
        self.assertIn("public", str(self.assertRaises(ConfigurationError, route.context.http_listener, "nope")))

    def test_ready_only_when_connected(self) -> None:
        """The bridge is ready from the moment that its connections are up, and not a moment longer."""
        service = self.start(connect=False)
        self.assertEqual(service.problems(), ["nats.default is connecting"])
        self.connect()
        self.assertEqual((service.problems(), service.degraded()), ([], []))
        self.peer(4222).close()
        self.assertEqual(service.problems(), ["nats.default is reconnecting"])

    def test_a_spare_connection_only_degrades(self) -> None:
        """Without a connection that is not required, the bridge is ready but degraded, and so it is by routes on that connection."""
        service = self.start()
        self.route(service, "two").trouble.append("it is out of ink")
        self.peer(4223).close()
        self.assertEqual(service.problems(), [])
        self.assertEqual(service.degraded(), ["nats.spare is reconnecting", "routes.two: it is out of ink"])

    def test_a_route_that_is_not_ready(self) -> None:
        """What a route says about itself makes the bridge unready."""
        service = self.start()
        self.route(service, "one").trouble.append("it is out of paper")
        self.assertEqual(service.problems(), ["routes.one: it is out of paper"])

    def refuse_to_listen(self, refused: int) -> None:
        """Let one port be in use."""
        listen = self.reactor.listenTCP

        def listen_or_refuse(port: int, *args: Any, **kwargs: Any) -> Any:
            if port == refused:
                raise CannotListenError("127.0.0.1", port, OSError(98, "Address already in use"))
            return listen(port, *args, **kwargs)

        self.patch(self.reactor, "listenTCP", listen_or_refuse)

    def test_address_in_use(self) -> None:
        """When an address cannot be listened on, starting fails with it, and what was started is stopped again."""
        for port in (8080, 8223):
            self.reactor = MemoryReactorClock()
            service = self.make(CONFIG + "[admin]\n")
            self.refuse_to_listen(port)
            error = self.assertRaises(CannotListenError, service.startService)
            self.assertEqual(error.port, port)
            self.assertEqual(self.route(service, "one").calls, ["start", "stop"])
            self.assertTrue(service.draining)
            self.reactor.advance(0)
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_route_called_admin(self) -> None:
        """A route may have any name, also that of another part of the bridge."""
        service = self.start(CONFIG.replace("[routes.one]", "[routes.admin]") + "[admin]\n")
        self.assertEqual((service.problems(), self.route(service, "admin").calls), ([], ["start"]))
        self.assertEqual(sorted(port for port, *_ in self.reactor.tcpServers), [8080, 8223])

    def test_a_route_that_cannot_be_made(self) -> None:
        """A route whose keys do not fit together is reported with its name, by the check as well."""
        config = load(CONFIG.replace('subject = "a"', 'subject = "unusable"'))
        error = self.assertRaises(ConfigError, BridgeService, self.reactor, config, FACTORIES)
        self.assertEqual([(problem.file, problem.path) for problem in error.problems], [("bridge.toml", "routes.one")])
        report = check_config(config, self.reactor, FACTORIES)
        self.assertEqual((report.is_ok, report.problems, report.routes), (False, error.problems, []))


class StopTests(ServiceCase):
    def test_order(self) -> None:
        """A stop says that it is not ready, takes no new input, waits for what is in flight, flushes, and only then leaves NATS."""
        service = self.start()
        route = self.route(service, "one")
        route.stopping = in_flight = Deferred()
        done = service.stopService()
        self.assertEqual(service.problems(), ["the bridge is stopping"])
        self.assertTrue(route.context.draining)
        self.assertEqual(self.reactor.tcpServers and service.listeners["public"].port, None)
        self.assertEqual((route.calls, self.route(service, "two").calls), (["start", "stop"], ["start", "stop"]))
        self.pump()
        self.assertNoResult(done)
        self.assertFalse(self.peer(4222).closed)

        route.client.publish("last.words", b"bye")
        in_flight.callback(None)
        self.pump()
        self.assertIsNone(self.successResultOf(done))
        received = self.peer(4222).received
        self.assertIn(b"PUB last.words 3\r\nbye\r\n", received)
        self.assertGreater(received.rindex(b"PING\r\n"), received.index(b"last.words"))
        self.assertEqual([peer.closed for peer in self.peers], [True, True])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_bounded_in_time(self) -> None:
        """After ``drain_timeout`` what is left is cut off, and the stop is done."""
        service = self.start()
        cancelled: list[object] = []
        self.route(service, "one").stopping = Deferred(cancelled.append)
        done = service.stopService()
        self.reactor.advance(19.9)
        self.assertNoResult(done)
        self.assertEqual(cancelled, [])
        self.reactor.advance(0.2)
        self.pump()
        self.successResultOf(done)
        self.assertEqual(len(cancelled), 1)
        self.reactor.advance(2)
        self.pump()
        self.assertEqual([peer.closed for peer in self.peers], [True, True])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_server_that_does_not_answer(self) -> None:
        """A server that answers nothing any more does not make the stop longer than its time."""
        service = self.start()
        for peer in self.peers:
            peer.mute = True
        # The flush of a drain has a limit of its own, which is shorter.
        self.patch(service.connections["spare"].client, "drain", Deferred)
        done = service.stopService()
        self.reactor.advance(19.9)
        self.pump()
        self.assertNoResult(done)
        self.reactor.advance(0.2)
        self.successResultOf(done)
        self.pump()
        self.assertEqual([connection.client.status for connection in service.connections.values()], [ClientStatus.CLOSED] * 2)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cut_short(self) -> None:
        """A second order to stop ends the wait at once."""
        service = self.start()
        self.route(service, "one").stopping = Deferred()
        done = service.stopService()
        self.assertNoResult(done)
        service.cut_short()
        self.successResultOf(done)
        self.pump()
        self.assertEqual([peer.closed for peer in self.peers], [True, True])

    def test_a_route_that_fails_to_stop(self) -> None:
        """An error of one route is logged with its name, and the rest is stopped in order."""
        service = self.start()
        self.route(service, "one").stopping = Deferred()
        self.route(service, "one").stopping.errback(ZeroDivisionError())
        done = service.stopService()
        self.pump()
        self.successResultOf(done)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual([peer.closed for peer in self.peers], [True, True])

    def test_stopping_twice(self) -> None:
        """Whoever stops a bridge that is stopping waits for the same end; one who gives up waiting disturbs nobody."""
        service = self.start()
        self.route(service, "one").stopping = in_flight = Deferred[None]()
        first, second, third = service.stopService(), service.stopService(), service.stopService()
        third.addErrback(lambda _: None)
        third.cancel()
        in_flight.callback(None)
        self.pump()
        self.assertEqual([self.successResultOf(first), self.successResultOf(second)], [None, None])
        self.assertEqual(self.route(service, "one").calls, ["start", "stop"])
        self.successResultOf(service.stopService())

    def test_without_a_server(self) -> None:
        """A bridge that never was connected stops at once."""
        service = self.start(connect=False)
        done = service.stopService()
        self.reactor.advance(0)
        self.reactor.advance(0)
        self.successResultOf(done)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_not_started_again(self) -> None:
        """A bridge that was stopped refuses to start: its routes hold clients that are closed."""
        service = self.start()
        done = service.stopService()
        self.pump()
        self.successResultOf(done)
        self.assertRaises(RuntimeError, service.startService)


class StepTests(SynchronousTestCase):
    """The steps of a stop by themselves."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.calls: list[str] = []

    def call(self, name: str, result: Any = None) -> Any:
        def made() -> Any:
            self.calls.append(name)
            return result

        return made

    def test_one_after_the_other(self) -> None:
        """The calls of a step are made at once, and the next step waits for all of them."""
        first, second = Deferred[None](), Deferred[None]()
        stop = Stop(self.reactor, 10)
        stop.run([("a", {"1": self.call("1", first), "2": self.call("2", second)}), ("b", {}), ("c", {"3": self.call("3")})])
        self.assertEqual(self.calls, ["1", "2"])
        first.callback(None)
        self.assertEqual(self.calls, ["1", "2"])
        second.callback(None)
        self.assertEqual(self.calls, ["1", "2", "3"])
        self.successResultOf(stop.when_done())

    def test_late_steps_are_begun_and_not_waited_for(self) -> None:
        """When the time is over, the steps that are left are begun all the same, and nothing is waited for."""
        stop = Stop(self.reactor, 10)
        stubborn = Deferred[None]().addErrback(lambda _: Deferred())
        stop.run([("a", {"1": self.call("1", stubborn)}), ("b", {"2": self.call("2", Deferred())}), ("c", {"3": self.call("3")})])
        self.reactor.advance(10)
        self.assertEqual(self.calls, ["1", "2", "3"])
        self.successResultOf(stop.when_done())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_call_that_raises(self) -> None:
        """A call that raises is logged, and the next step comes."""

        def broken() -> None:
            raise ZeroDivisionError

        stop = Stop(self.reactor, 10)
        stop.run([("a", {"1": broken}), ("b", {"2": self.call("2")})])
        self.assertEqual(self.calls, ["2"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.successResultOf(stop.when_done())


class ConnectionTests(ServiceCase):
    def test_counted(self) -> None:
        """Whether a connection is up, how often it came back, and its round trip are in the metrics."""
        service = self.start()
        self.assertEqual(self.sample(service, "nats_bridge_nats_connected", nats="default"), 1.0)
        self.peer(4222).close()
        self.assertEqual(self.sample(service, "nats_bridge_nats_connected", nats="default"), 0.0)
        self.peers = [self.peer(4223)]
        for _ in range(10):
            self.reactor.advance(0.5)
            self.connect()
        self.assertEqual(self.sample(service, "nats_bridge_nats_connected", nats="default"), 1.0)
        self.assertEqual(self.sample(service, "nats_bridge_nats_reconnects_total", nats="default"), 1.0)
        pings = self.peer(4222).received.count(b"PING\r\n")
        self.reactor.advance(RTT_INTERVAL)
        self.pump()
        self.assertGreater(self.peer(4222).received.count(b"PING\r\n"), pings)
        self.assertEqual(self.sample(service, "nats_bridge_nats_rtt_seconds", nats="default"), 0.0)

    def test_an_outage_is_logged_once(self) -> None:
        """While a server cannot be reached, the log has one line for it, not one for each attempt."""
        from twisted.logger import globalLogPublisher

        lines: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            if "cannot connect" in (event.get("log_format") or ""):
                lines.append(event["name"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.start(connect=False)
        attempts = 0
        for _ in range(60):
            waiting, self.reactor.tcpClients[:] = list(self.reactor.tcpClients), []
            for _, port, factory, _, _ in waiting:
                attempts += port == 4222
                factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
            self.reactor.advance(0.5)
        self.assertGreater(attempts, 3)
        self.assertEqual(sorted(lines), ["default", "spare"])


class BadInputTests(SynchronousTestCase):
    def setUp(self) -> None:
        from twisted.logger import globalLogPublisher

        self.reactor = MemoryReactorClock()
        self.metrics = BridgeMetrics()
        self.context = RouteContext(reactor=self.reactor, bridge=load().bridge, metrics=self.metrics, clients={"default": None})  # type: ignore[dict-item]
        self.route = EchoRoute("one", load().routes["one"], self.context)  # type: ignore[arg-type]
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def test_counted_each_time_and_logged_once_a_minute(self) -> None:
        """Bad input is counted each time; the log has one line a minute for each route and reason, which says how many there were."""
        for _ in range(5):
            self.context.bad_input(self.route, "too-long", "from 10.0.0.1")
        self.context.bad_input(self.route, "bad-token")
        self.assertEqual([(event["reason"], event["more"]) for event in self.events], [("too-long", ""), ("bad-token", "")])
        labels = {"route": "one", "type": "echo", "reason": "too-long"}
        self.assertEqual(self.metrics.registry.get_sample_value("nats_bridge_bad_input_total", labels), 5.0)
        self.reactor.advance(60)
        self.context.bad_input(self.route, "too-long")
        self.assertEqual(self.events[2]["more"], " (4 more since the last line)")

    def test_what_a_peer_sent_cannot_forge_log_lines(self) -> None:
        """The detail is escaped and cut."""
        self.context.bad_input(self.route, "too-long", "x\r\nforged: line" + "y" * 10_000)
        shown = self.events[0]["shown"]
        self.assertNotIn("\n", shown)
        self.assertLess(len(shown), 300)
