"""The factory with ``reactor.connectTCP``, and the protocol with any transport: without ``connect()``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport, StringTransportWithDisconnection
from twisted.python.failure import Failure

from pynats_twisted import ClientOptions, NatsClientFactory, NatsProtocol
from pynats_twisted.client import ClientStatus
from pynats_twisted.client.status import Closed, Connected, Disconnected, Reconnected
from pynats_twisted.errors import (
    AuthorizationViolationError,
    ConnectionClosedError,
    ConnectionStateError,
    ConnectTimeoutError,
    DisconnectedError,
    InvalidSubjectError,
    NoServersError,
)
from pynats_twisted.testing.server_frames import PublishFrame

from .network import INFO, info_line
from .support import ClientTestCase


class FactoryTests(ClientTestCase):
    def begun(self, host: str = "one", **options: Any) -> tuple[NatsClientFactory, Any]:
        """A factory that was given to ``connectTCP``."""
        options = {"shuffle_servers": False, "reconnect_jitter": 0.0, **options}
        factory = NatsClientFactory(self.network, ClientOptions(**options))
        factory.client.add_listener(self.events.append)
        self.clients.append(factory.client)
        return factory, self.network.connectTCP(host, 4222, factory)

    def test_connects(self) -> None:
        """It makes a client that works, of the server that ``connectTCP`` was told."""
        factory, _ = self.begun()
        waiting = self.watch(factory.when_connected())
        self.assertIs(factory.client.status, ClientStatus.CONNECTING)
        self.network.advance()
        client = self.successResultOf(waiting)
        self.assertIs(client, factory.client)
        self.assertEqual((client.connected_url, client.servers), ("nats://one:4222", ("nats://one:4222",)))
        sub = client.subscribe("a")
        client.publish("b", b"x")
        self.network.advance()
        self.server.peer.publish("a", b"1")
        self.assertEqual(self.successResultOf(sub.next()).data, b"1")
        self.assertEqual(self.server.peer.written(), [b"x"])

    def test_lame_duck(self) -> None:
        """A move to another server does not make Twisted's connector connect as well; when that one is lost, there is another again."""
        two = self.network.server("two:4222")
        factory, _ = self.begun(servers="nats://two", reconnect_stable_after=0.0)
        self.network.advance(1)
        self.server.peer.info(ldm=True)
        self.network.advance(5)
        self.assertEqual(factory.client.connected_url, "nats://two:4222")
        self.assertEqual([len(self.server.peers), len(two.peers)], [1, 1])
        two.peer.hang_up()
        self.network.advance(5)
        self.assertTrue(factory.client.is_connected)
        self.assertEqual(len(self.server.peers) + len(two.peers), 3)

    def test_other_servers(self) -> None:
        """The address joins the servers of the options, as their first; the others are used after it, through the same connector."""
        self.network.server("two:4222")
        factory, connector = self.begun(servers="nats://two")
        self.network.advance(1)
        self.assertEqual(factory.client.servers, ("nats://one:4222", "nats://two:4222"))
        self.server.peer.cut()
        self.network.advance()
        self.assertEqual(factory.client.connected_url, "nats://two:4222")
        self.assertEqual((connector.host, connector.state), ("two", "connected"))
        self.assertEqual([type(event) for event in self.events], [Connected, Disconnected, Reconnected])

    def test_waits(self) -> None:
        """It waits as the pool says, and goes on trying."""
        self.network.refuse("one:4222")
        factory, _ = self.begun(reconnect_wait=0.5, retry_on_failed_connect=True)
        self.network.advance(3.4)
        self.assertEqual([when for when, _ in self.network.dials], [0.0, 0.5, 1.5])
        self.network.accept("one:4222")
        self.network.advance(0.1)
        self.assertIs(factory.client.status, ClientStatus.CONNECTED)

    def test_gives_up(self) -> None:
        """A first attempt that fails is told, and leaves nothing behind."""
        self.network.refuse("one:4222")
        factory, _ = self.begun()
        waiting = self.watch(factory.when_connected())
        self.network.advance()
        ((url, _),) = self.failureResultOf(waiting, NoServersError).value.reasons
        self.assertEqual(url, "nats://one:4222")
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_closed_while_connecting(self) -> None:
        """Closing the client ends the attempt that is under way."""
        self.network.black_hole("one:4222")
        factory, connector = self.begun()
        self.network.advance()
        closed = factory.client.close()
        self.network.advance()
        self.successResultOf(closed)
        self.assertEqual(connector.state, "disconnected")
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_closed_while_waiting(self) -> None:
        """Closing the client ends the waiting for the next attempt."""
        factory, _ = self.begun()
        self.network.advance(1)
        self.network.refuse("one:4222")
        self.server.peer.cut()
        self.network.advance()
        factory.client.close()
        self.network.advance(60)
        self.assertEqual(len(self.network.dials), 2)
        self.assertEqual(len(self.told(Closed)), 1)

    def test_stop_trying(self) -> None:
        """``stopTrying`` leaves the connection that is up, and makes no other."""
        factory, _ = self.begun()
        self.network.advance(1)
        factory.stopTrying()
        self.assertTrue(factory.client.is_connected)
        self.server.peer.cut()
        self.network.advance(60)
        self.assertEqual(len(self.network.dials), 1)

    def test_memory_reactor(self) -> None:
        """Twisted's own reactor for tests will do."""
        reactor = MemoryReactorClock()
        factory = NatsClientFactory(reactor)
        reactor.connectTCP("one", 4222, factory)
        protocol = factory.buildProtocol(None)
        transport = StringTransportWithDisconnection()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        protocol.dataReceived(info_line(**INFO))
        self.assertIn(b"PING\r\n", transport.value())
        protocol.dataReceived(b"PONG\r\n")
        self.assertIs(factory.client.status, ClientStatus.CONNECTED)
        closed = factory.client.close()
        self.successResultOf(closed)
        self.assertEqual(reactor.getDelayedCalls(), [])


class Recorder(NatsProtocol):
    """A protocol of one's own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.got: list[Any] = []

    def message_received(self, msg: Any) -> None:
        self.got.append(msg.data)
        if msg.data == b"bad":
            raise RuntimeError("message_received")

    def error_received(self, error: Any) -> None:
        self.got.append(error)
        if error.text == "bad":
            raise RuntimeError("error_received")


class ProtocolTests(ClientTestCase):
    def begun(self, **options: Any) -> Recorder:
        """A protocol that is being connected by an endpoint."""
        protocol = Recorder(self.network, ClientOptions(**options))
        connectProtocol(TCP4ClientEndpoint(self.network, "one", 4222), protocol)
        return protocol

    def established(self, **options: Any) -> tuple[Recorder, Any]:
        protocol = self.begun(**options)
        self.network.advance()
        self.assertIs(self.successResultOf(protocol.when_established()), protocol)
        self.server.peer.take()
        return protocol, self.server.peer

    def tearDown(self) -> None:
        for peer in self.server.peers:
            peer.hang_up()
        super().tearDown()

    def test_conversation(self) -> None:
        """It publishes, subscribes, gets messages, and pings; what was published early goes when the handshake is complete."""
        protocol = self.begun()
        protocol.publish("early", b"1")
        waiting = [self.watch(protocol.when_established()) for _ in range(2)]
        self.assertRaises(ConnectionStateError, protocol.subscribe, "a")
        self.network.advance()
        for each in waiting:
            self.assertIs(self.successResultOf(each), protocol)
        peer = self.server.peer
        self.assertEqual(peer.written(), [b"1"])
        sid = protocol.subscribe("a", "q")
        protocol.publish("b", b"2", reply="r", headers={"H": "x"})
        pinged = self.watch(protocol.ping())
        self.network.advance()
        self.successResultOf(pinged)
        (published,) = (frame for frame in peer.take(PublishFrame) if frame.header_block)
        self.assertEqual((published.payload, published.reply), (b"2", "r"))
        peer.publish("a", b"3", b"4")
        protocol.unsubscribe(sid)
        self.network.advance()
        self.assertEqual(peer.session.subscriptions, {})
        self.assertEqual((protocol.got, protocol.messages, protocol.bytes_received), ([b"3", b"4"], 2, 2))
        self.assertRaises(InvalidSubjectError, protocol.publish, "a b")

    def test_limit(self) -> None:
        """A limit ends a subscription by itself."""
        protocol, peer = self.established()
        protocol.unsubscribe(protocol.subscribe("a"), 2)
        self.network.advance()
        peer.publish("a", b"1", b"2", b"3")
        self.assertEqual(protocol.got, [b"1", b"2"])

    def test_own_methods_that_raise(self) -> None:
        """What a subclass raises is logged, and costs neither the connection nor the next message."""
        protocol, peer = self.established()
        protocol.subscribe("a")
        self.network.advance()
        peer.publish("a", b"bad", b"good")
        peer.error("bad")
        self.assertEqual([str(item) for item in protocol.got], ["b'bad'", "b'good'", "bad"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.assertFalse(peer.wire.ended)

    def test_errors_are_logged(self) -> None:
        """Where nobody overrides it, an error is logged."""
        protocol = NatsProtocol(self.network)
        connectProtocol(TCP4ClientEndpoint(self.network, "one", 4222), protocol)
        self.network.advance()
        self.server.peer.error("something odd")
        self.assertEqual(len([text for text in self.logged() if "something odd" in text]), 1)

    def test_refused(self) -> None:
        """A handshake that fails is told to who waits for it, with the cause."""
        self.server.reject()
        protocol = self.begun()
        first, second = protocol.when_established(), self.watch(protocol.when_established())
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.network.advance()
        error = self.failureResultOf(second, DisconnectedError).value
        self.assertIsInstance(error.__cause__, AuthorizationViolationError)
        self.failureResultOf(protocol.when_established(), DisconnectedError)

    def test_silent_server(self) -> None:
        """The handshake has ``connect_timeout``."""
        self.server.greeting = b""
        protocol = self.begun(connect_timeout=2.0)
        waiting = self.watch(protocol.when_established())
        self.network.advance(2)
        self.network.advance()
        self.assertIsInstance(self.failureResultOf(waiting, DisconnectedError).value.__cause__, ConnectTimeoutError)

    def test_closed(self) -> None:
        """Closing writes what was published; afterwards nothing is taken any more, and who waits is told."""
        protocol, peer = self.established()
        self.server.answer_pings = False
        protocol.publish("a", b"last")
        pinged = self.watch(protocol.ping())
        protocol.close()
        self.assertRaises(ConnectionClosedError, protocol.publish, "a")
        self.network.advance()
        self.assertEqual(peer.written(), [b"last"])
        self.failureResultOf(pinged, DisconnectedError)
        self.failureResultOf(protocol.ping(), DisconnectedError)
        self.assertRaises(ConnectionClosedError, protocol.publish, "a")
        protocol.close()

    def test_lost(self) -> None:
        """When the connection is lost it is over: who waits for room is told."""
        protocol, peer = self.established(high_water_bytes=1000)
        peer.stalled = True
        while not protocol.outbound.pending:
            protocol.publish("a", b"x" * 1000)
            self.network.advance()

        async def publisher() -> None:
            await protocol.publish("a", b"x" * 1000)

        waiting = self.watch(publisher())
        peer.cut()
        self.failureResultOf(waiting, ConnectionClosedError)
        self.assertRaises(ConnectionClosedError, protocol.publish, "a")

    def test_string_transport(self) -> None:
        """Twisted's transport for tests will do, in each phase."""
        for data in (b"", info_line(**INFO), info_line(**INFO) + b"PONG\r\n"):
            protocol = NatsProtocol(self.network)
            transport = StringTransport()
            protocol.makeConnection(transport)
            protocol.dataReceived(data)
            protocol.close()
            self.assertTrue(transport.disconnecting)
            protocol.connectionLost(Failure(ConnectionDone()))
            self.network.advance()
            self.assertEqual(self.network.getDelayedCalls(), [])

    def test_closed_before_it_is_connected(self) -> None:
        """One that is closed while its connection is being made ends it when it is there."""
        protocol = self.begun()
        protocol.close()
        self.network.advance()
        self.assertTrue(self.server.peer.wire.aborted)
        self.assertEqual(self.network.getDelayedCalls(), [])
