"""``lines-in`` with a real server: real sockets, real back-pressure, and a server that goes away."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from pynats_twisted import Msg
from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.bridge.routes.lines_in import LinesInRoute
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.testing import ServerProcess
from tests.support.integration import IntegrationTestCase

CONFIG = """
[bridge]
name = "edge"
drain_timeout = "5s"
[nats.default]
servers = "{url}"
[routes.lines]
type = "lines-in"
subject = "plant.lines"
{keys}
"""

TCP = 'endpoint = "tcp:0:interface=127.0.0.1"\n'
REPLY = 'reply = { ok = "OK\\n", error = "ERROR\\n" }\n'


class Device(Protocol):
    """A peer that sends lines and collects what it is told."""

    def __init__(self) -> None:
        self.got = b""
        self.ended: Deferred[bytes] = Deferred()
        self.paused = False

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.paused = True

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def close(self) -> None:
        """No more is sent; what the bridge still says is collected."""
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseWriteConnection()

    def hang_up(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.ended.callback(self.got)


class LinesInTests(IntegrationTestCase):
    """Lines on their way."""

    async def start(self, keys: str, server: ServerProcess | None = None, url: str = "") -> BridgeService:
        """A bridge that is ready, with a subscriber that collects what it publishes."""
        self.server = server if server is not None else await self.start_server()
        self.messages: list[Msg] = []
        subscriber = await self.connect(self.server)
        await subscriber.subscribe("plant.>", self.messages.append)
        config = load_config(CONFIG.format(url=url or self.server.url, keys=keys), "bridge.toml", builtin_factories())
        bridge = BridgeService(self.reactor, config, builtin_factories())
        bridge.startService()
        self.addCleanup(bridge.stopService)
        await self.until(lambda: not bridge.problems(), what="ready")
        self.bridge = bridge
        return bridge

    @property
    def route(self) -> LinesInRoute:
        route: Any = self.bridge.routes["lines"]
        return route

    @property
    def port(self) -> int:
        port: Any = self.route.port
        return int(port.getHost().port)

    async def device(self, port: int = 0) -> Device:
        """A device that is connected to the route."""
        device: Device = await connectProtocol(TCP4ClientEndpoint(self.reactor, "127.0.0.1", port or self.port), Device())
        # Else the test's end would find its socket open.
        self.addCleanup(lambda: None if device.ended.called else (device.hang_up(), device.ended)[1])
        return device

    @property
    def payloads(self) -> list[bytes]:
        return [message.data for message in self.messages]

    def number(self, name: str, **labels: str) -> float:
        labels = {"route": "lines", "type": "lines-in", **labels}
        return self.bridge.metrics.registry.get_sample_value(f"nats_bridge_{name}", labels) or 0.0

    async def test_tcp(self) -> None:
        """Lines arrive in order; each is answered, also those before the peer closed its side; a partial one is marked."""
        await self.start(TCP + REPLY)
        device = await self.device()
        device.send(b"one\ntwo\r\nthr")
        await self.until(lambda: device.got == b"OK\nOK\n", what="the replies")
        device.send(b"ee")
        device.close()
        self.assertEqual(await device.ended, b"OK\nOK\nOK\n")
        await self.until(lambda: len(self.messages) == 3)
        self.assertEqual(self.payloads, [b"one", b"two", b"three"])
        self.assertEqual([message.headers.get("Nats-Bridge-Partial") for message in self.messages], [None, None, "1"])
        self.assertEqual(self.messages[0].headers["Nats-Bridge-Path"], "edge")

    async def test_unix(self) -> None:
        """Lines come over a UNIX socket as well."""
        path = Path(self.mktemp()).name + ".sock"
        await self.start(f'endpoint = "unix:{path}"\nframing = "nul"\n')
        device: Device = await connectProtocol(UNIXClientEndpoint(self.reactor, path), Device())
        device.send(b"one\0two\0")
        device.close()
        await device.ended
        await self.until(lambda: self.payloads == [b"one", b"two"])

    async def test_udp(self) -> None:
        """Each datagram is a message."""
        await self.start('endpoint = "udp:0:interface=127.0.0.1"\nmax_length = 1000\n')
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for index in range(100):
                sender.sendto(b"datagram %d" % index, ("127.0.0.1", self.port))
            sender.sendto(b"x" * 5000, ("127.0.0.1", self.port))
        await self.until(lambda: len(self.messages) == 101)
        self.assertEqual(self.payloads[:100], [b"datagram %d" % index for index in range(100)])
        self.assertEqual((len(self.payloads[100]), self.messages[100].headers["Nats-Bridge-Truncated"]), (1000, "5000"))

    async def test_dials_a_device(self) -> None:
        """A route connects to a device, and again when the device was away."""
        devices: list[Device] = []

        class Devices(Factory):
            noisy = False

            def buildProtocol(self, addr: object) -> Device:
                devices.append(Device())
                return devices[-1]

        port = await TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1").listen(Devices())
        self.addCleanup(port.stopListening)
        await self.start(f'endpoint = "client:tcp:127.0.0.1:{port.getHost().port}"\n')
        devices[0].send(b"first\n")
        await self.until(lambda: self.payloads == [b"first"])
        devices[0].hang_up()
        await self.until(lambda: self.bridge.problems(), what="the problem")
        await self.until(lambda: len(devices) == 2, what="the second connection")
        devices[1].send(b"second\n")
        await self.until(lambda: self.payloads == [b"first", b"second"])
        await self.bridge.stopService()
        await devices[1].ended

    async def test_server_killed_under_load(self) -> None:
        """Every line that was answered OK has arrived, and all of them are answered, although the server was killed three times."""
        await self.start(TCP + REPLY + "window = 64\n")
        device = await self.device()
        sent = 0
        for outage in range(4):
            for _ in range(500):
                device.send(b"".join(b"line %d\n" % index for index in range(sent, sent + 10)))
                sent += 10
            await self.until(lambda outage=outage: device.got.count(b"\n") > 5000 * outage + 200, what="some replies")
            if outage < 3:
                await self.server.kill()
                await self.sleep(0.05)
                await self.server.start()
        await self.until(lambda: device.got.count(b"\n") == sent, what="all replies")
        self.assertEqual(device.got, b"OK\n" * sent)
        await self.bridge.connections["default"].client.flush()
        # The subscriber lost what came while it was away itself, so only the bridge's own account can be exact.
        self.assertEqual(self.number("messages_out_total"), sent)
        self.assertEqual(self.number("in_flight"), 0)

    async def test_nothing_confirmed_is_lost_with_the_connection(self) -> None:
        """A line that was answered OK has reached the server, whatever happened to the bridge's connection meanwhile."""
        server = await self.start_server()
        proxy = await self.start_proxy(server)
        await self.start(TCP + REPLY + "window = 64\n", server, proxy.url)
        device = await self.device()
        for outage in range(5):
            device.send(b"".join(b"line %d\n" % index for index in range(outage * 1000, outage * 1000 + 1000)))
            await self.until(lambda outage=outage: device.got.count(b"\n") > outage * 1000, what="a reply")
            # What the bridge sends now disappears, and then the connection ends.
            proxy.hole(proxy.to_server)
            await self.sleep(0.02)
            proxy.rst()
            await proxy.heal()
        await self.until(lambda: device.got == b"OK\n" * 5000, what="all replies")
        await self.until(lambda: len(set(self.payloads)) == 5000, what="all messages")
        # What was not confirmed comes again, in its order, and perhaps behind a few that were being published just then.
        numbers = [int(payload.split()[1]) for payload in self.payloads]
        steps_back = [first - second for first, second in itertools.pairwise(numbers) if second <= first]
        self.assertLessEqual(len(steps_back), 5)
        self.assertLess(max(steps_back, default=0), 64)

    async def test_back_pressure(self) -> None:
        """While the server does not answer, the peer is stopped after a bounded amount; then everything arrives."""
        await self.start(TCP + "window = 100\n")
        device = await self.device()
        line = b"x" * 999 + b"\n"
        await self.server.pause()
        sent = 0
        for _ in range(200):
            if not device.paused:
                device.send(line * 100)
                sent += 100
            await self.sleep(0.005)
        self.assertTrue(device.paused)
        waiting = self.number("in_flight")
        self.assertLess(waiting, 300)
        self.server.resume()
        await self.until(lambda: len(self.messages) == sent, what="all lines")
        self.assertFalse(device.paused)

    async def test_denied(self) -> None:
        """Lines that the server denies are answered with the error, and the bridge is not ready."""
        users = [
            {"user": "bridge", "password": "x", "permissions": {"publish": "other.>"}},
            {"user": "all", "password": "y"},
        ]
        server = await self.start_server(users=users)
        self.messages = []
        config = CONFIG.replace("[routes.lines]", 'user = "bridge"\npassword = "x"\n[routes.lines]')
        url = f"nats://127.0.0.1:{server.port}"
        self.bridge = BridgeService(self.reactor, load_config(config.format(url=url, keys=TCP + REPLY), "bridge.toml", builtin_factories()))
        self.bridge.startService()
        self.addCleanup(self.bridge.stopService)
        await self.until(lambda: not self.bridge.problems(), what="ready")
        device = await self.device()
        device.send(b"one\ntwo\n")
        await self.until(lambda: device.got == b"ERROR\nERROR\n", what="the errors")
        self.assertIn("denies publishing to 'plant.lines'", self.bridge.problems()[0])
        self.assertEqual(self.number("messages_failed_total", reason="permission"), 2)

    async def test_stop_under_load(self) -> None:
        """A stop answers and publishes what was read, and closes in time."""
        await self.start(TCP + REPLY)
        device = await self.device()
        for _ in range(100):
            device.send(b"line\n" * 1000)
        await self.until(lambda: device.got, what="the first replies")
        begun = self.reactor.seconds()
        await self.bridge.stopService()
        self.assertLess(self.reactor.seconds() - begun, 20.0)
        got = await device.ended
        await self.until(lambda: len(self.messages) == self.number("messages_in_total"), what="everything that was read")
        self.assertEqual(got.count(b"OK\n"), len(self.messages))
        self.assertEqual(self.number("messages_dropped_total", reason="stopped"), 0)
