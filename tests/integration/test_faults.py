"""Faults between a client and a real server: cuts in every place, silence, flapping, limits that shrink, poison."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from pynats_twisted import errors
from pynats_twisted.client.status import Disconnected, PublishDropped, SlowConsumer, StatusEvent
from tests.support.integration import IntegrationTestCase


def listen(client: Any) -> list[StatusEvent]:
    events: list[StatusEvent] = []
    client.add_listener(events.append)
    return events


class CutTests(IntegrationTestCase):
    """A proxy stands between the client and the server."""

    async def test_cut_at_every_place(self) -> None:
        """Wherever the stream from the server is cut, the client comes back, and no message is ever damaged or doubled."""
        server = await self.start_server()
        proxy = await self.start_proxy(server)
        quick = {"reconnect_stable_after": 0.0, "reconnect_wait": 0.01, "reconnect_wait_max": 0.01, "max_reconnect_attempts": -1}
        client = await self.connect(proxy, **quick)
        sender = await self.connect(server)
        received: list[bytes] = []
        await client.subscribe("cut.*", lambda msg: received.append(msg.data))
        payload = b"MSG cut.a 1 5\r\nhello\r\n"
        for place in range(60):
            before = client.stats.reconnects
            # Somewhere behind the handshake of the connection of now: in a line, in a payload, between CR and LF.
            proxy.to_client.cut = (900 + place, "rst" if place % 2 else "fin")
            sent = 0
            while client.stats.reconnects == before and sent < 400:
                await sender.publish("cut.a", payload, headers={"Number": str(sent)} if sent % 2 else None)
                await sender.flush()
                sent += 1
                await self.sleep(0)
            await self.until(lambda before=before: client.stats.reconnects > before, what=f"the reconnect behind byte {place}")
            await client.flush()
        self.assertEqual(set(received), {payload})

    async def test_bytes_one_by_one(self) -> None:
        """A network that gives one byte at a time changes nothing."""
        server = await self.start_server()
        proxy = await self.start_proxy(server)
        proxy.to_client.segment = proxy.to_server.segment = 1
        client = await self.connect(proxy)
        await client.subscribe("echo", lambda msg: msg.respond(msg.data, headers=msg.headers))
        reply = await client.request("echo", b"x" * 2000, headers={"A": ["1", "2"]})
        self.assertEqual((reply.data, reply.headers.get_all("A")), (b"x" * 2000, ["1", "2"]))

    async def test_silence_is_noticed(self) -> None:
        """A network that swallows everything is noticed after interval times (max + 1) seconds, and the client recovers."""
        server = await self.start_server()
        proxy = await self.start_proxy(server)
        client = await self.connect(proxy, ping_interval=0.1, max_pings_out=2, connect_timeout=0.5)
        events = listen(client)
        begun = self.reactor.seconds()
        proxy.to_client.is_hole = proxy.to_server.is_hole = True
        await self.until(lambda: any(isinstance(event, Disconnected) for event in events), what="the loss")
        self.assertLess(self.reactor.seconds() - begun, 10.0)
        self.assertIsInstance(next(event for event in events if isinstance(event, Disconnected)).error, errors.StaleConnectionError)
        proxy.to_client.reset()
        proxy.to_server.reset()
        await self.until(lambda: client.is_connected)
        await client.flush()

    async def test_losses_are_bounded_by_what_is_reported(self) -> None:
        """What a cut costs is no more than the disconnect event says, and what came behind it arrives in order, once."""
        server = await self.start_server()
        proxy = await self.start_proxy(server)
        witness = self.witness(server, "count")
        client = await self.connect(proxy, reconnect_stable_after=0.0)
        events = listen(client)
        published = 0
        for round in range(10):
            proxy.to_server.cut = (20_000 * (round + 1), "rst")
            before = client.stats.reconnects
            while client.stats.reconnects == before and published < 100_000:
                for _ in range(20):
                    await client.publish("count", b"%d" % published)
                    published += 1
                await self.sleep(0.001)
        proxy.to_server.reset()
        await client.flush()
        witness.flush()
        seen = [int(payload) for payload in witness.payloads]
        self.assertEqual(seen, sorted(set(seen)))
        unconfirmed = sum(event.unconfirmed for event in events if isinstance(event, Disconnected))
        self.assertLessEqual(published - len(seen), unconfirmed)
        self.assertGreaterEqual(len([event for event in events if isinstance(event, Disconnected)]), 10)


class FlappingServer(Protocol):
    """Takes a connection to the end of the handshake, and drops it."""

    info = b'INFO {"server_id":"x","version":"2.15.1","proto":1,"max_payload":1048576,"headers":true}\r\n'

    def connectionMade(self) -> None:
        self.transport.write(self.info)

    def dataReceived(self, data: bytes) -> None:
        if b"PING\r\n" in data:
            self.transport.write(b"PONG\r\n")
            self.factory.count += 1
            self.factory.reactor.callLater(0.005, self.transport.loseConnection)


class LimitTests(IntegrationTestCase):
    """Limits of the server and of the client."""

    async def test_flapping_server_is_not_hammered(self) -> None:
        """A server that drops each connection right behind the handshake is tried at growing intervals."""
        factory: Any = Factory.forProtocol(FlappingServer)
        factory.count, factory.reactor, factory.noisy = 0, self.reactor, False
        port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        client = await self.connect(f"nats://127.0.0.1:{port.getHost().port}", retry_on_failed_connect=True)
        await self.sleep(3.0)
        # 0, 0.1, 0.2, 0.4, 0.8, 1.6: about six attempts.
        self.assertLessEqual(factory.count, 7)
        self.assertGreaterEqual(factory.count, 4)
        await client.close()

    async def test_max_payload_that_shrinks(self) -> None:
        """A limit that a reload lowers costs one reconnect; then the client knows it, and reports a buffered publish that is too large."""
        server = await self.start_server("max_payload: 4096")
        client = await self.connect(server)
        events = listen(client)
        received = client.subscribe("big")
        await received
        await server.reload(config="max_payload: 1024")
        await client.publish("big", b"x" * 2048)
        await self.until(lambda: client.stats.reconnects == 1)
        self.assertEqual(client.max_payload, 1024)
        with self.assertRaises(errors.MaxPayloadExceededError):
            client.publish("big", b"x" * 2048)
        await client.publish("big", b"small")
        self.assertEqual((await received.next(5)).data, b"small")

        await server.reload(config="max_payload: 4096")
        client.force_reconnect()
        await self.until(lambda: client.is_connected and client.max_payload == 4096)
        await server.close()
        await self.until(lambda: not client.is_connected)
        await client.publish("big", b"y" * 2048)
        await client.publish("big", b"after")
        await self.start_server("max_payload: 1024", port=server.port)
        await self.until(lambda: client.is_connected)
        self.assertEqual((await received.next(5)).data, b"after")
        self.assertEqual([event.subject for event in events if isinstance(event, PublishDropped)], ["big"])

    async def test_slow_handler_costs_only_its_own_subscription(self) -> None:
        """A handler that does not keep up loses messages, counted; others get all of theirs, and PINGs are answered."""
        server = await self.start_server("ping_interval: 1s")
        client = await self.connect(server, ping_interval=0.05)
        sender = await self.connect(server)
        events = listen(client)
        gate: Deferred[None] = Deferred()

        async def slow(msg: Any) -> None:
            await gate

        slow_one = client.subscribe("s", slow, pending_msgs=100)
        quick: list[bytes] = []
        await client.subscribe("s", lambda msg: quick.append(msg.data))
        for number in range(1000):
            await sender.publish("s", b"%d" % number)
        await sender.flush()
        await self.until(lambda: len(quick) == 1000)
        # One is being handled, 100 wait.
        self.assertEqual((slow_one.pending_msgs, slow_one.dropped), (100, 899))
        await self.sleep(0.4)
        self.assertEqual(client.stats.reconnects, 0)
        self.assertEqual(len([event for event in events if isinstance(event, SlowConsumer)]), 1)
        gate.callback(None)
        await self.until(lambda: not slow_one.pending_msgs)

    async def test_reader_that_pauses(self) -> None:
        """With overflow="pause" a burst larger than the bound is handled whole: the server is made to wait."""
        server = await self.start_server()
        client = await self.connect(server)
        sender = await self.connect(server)
        handled: list[int] = []

        async def handler(msg: Any) -> None:
            if len(handled) % 500 == 0:
                await self.sleep(0.01)
            handled.append(int(msg.data.split()[0]))

        subscription = client.subscribe("p", handler, pending_msgs=200, overflow="pause")
        await subscription
        for number in range(20_000):
            await sender.publish("p", b"%d " % number + b"x" * 500)
        await sender.flush()
        await self.until(lambda: len(handled) == 20_000)
        self.assertEqual(handled, list(range(20_000)))
        self.assertEqual(subscription.dropped, 0)


ODD_LINES = (b"no colon", b": empty", b"a b: c", b"\xff: \xff", b"  folded: x", b"a:\xff")
POISON = [
    (b"w.\xff\xfe", b"", b""),
    (b"w.a", b"\xff.r", b""),
    (b"w.\xc3\xa4", b"", b""),
    (b"w.a\rb", b"", b""),
    (b"w.a\x00b", b"", b""),
    (b"w.a\x0b\x0c\x1cb", b"", b""),
    (b"w." + b"x" * 4000, b"", b""),
    *((b"w.h", b"", block) for block in (b"xxxxx", b"NATS/1.0", b"NATS/1.0 5", b"NATS/1.0503", b"NATS/2.0\r\n\r\n")),
    *((b"w.h", b"", b"NATS/1.0\r\n" + line + b"\r\n\r\n") for line in ODD_LINES),
]


class PoisonTests(IntegrationTestCase):
    """What any client may publish, and a server relays, although it is odd."""

    async def test_odd_messages_cost_nothing(self) -> None:
        """Hostile subjects, replies and header blocks are delivered; no neighbour is lost and the connection stays."""
        server = await self.start_server()
        client = await self.connect(server)
        received: list[Any] = []
        await client.subscribe("w.>", received.append)
        reader, _ = await self._raw(server)
        lines = []
        for number, (subject, reply, block) in enumerate(POISON):
            body = b"poison"
            middle = b" " + reply if reply else b""
            if block:
                lines.append(b"HPUB %b%b %d %d\r\n%b%b\r\n" % (subject, middle, len(block), len(block) + len(body), block, body))
            else:
                lines.append(b"PUB %b%b %d\r\n%b\r\n" % (subject, middle, len(body), body))
            lines.append(b"PUB w.neighbour 3\r\n%03d\r\n" % number)
        reader.transport.write(b"".join(lines) + b"PING\r\n")
        await reader.pong
        await client.flush()
        self.assertEqual(client.stats.reconnects, 0)
        neighbours = [msg.data for msg in received if msg.subject == "w.neighbour"]
        self.assertEqual(neighbours, [b"%03d" % number for number in range(len(POISON))])
        odd = [msg for msg in received if msg.data == b"poison"]
        self.assertEqual(len(odd), len(POISON))
        for msg in odd:
            repr(msg), list(msg.headers.multi_items()), msg.status, msg.headers_problem
        reader.transport.loseConnection()
        await reader.lost

    async def _raw(self, server: Any) -> tuple[Any, Any]:
        from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

        class Raw(Protocol):
            def __init__(self) -> None:
                self.pong: Deferred[None] = Deferred()
                self.lost: Deferred[None] = Deferred()
                self.seen = b""

            def dataReceived(self, data: bytes) -> None:
                self.seen += data
                if self.seen.count(b"PONG") > 1 and not self.pong.called:
                    self.pong.callback(None)

            def connectionLost(self, reason: Any = None) -> None:
                self.lost.callback(None)

        raw = await connectProtocol(TCP4ClientEndpoint(self.reactor, "127.0.0.1", server.port), Raw())
        raw.transport.write(b'CONNECT {"verbose":false,"headers":true,"protocol":1}\r\nPING\r\n')
        return raw, None
