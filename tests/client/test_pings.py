"""PING and PONG: answering the server at once, finding out that it is gone, and giving each answer to the right one."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from pynats_twisted.client import ClientStatus
from pynats_twisted.client.status import Disconnected
from pynats_twisted.errors import StaleConnectionError
from pynats_twisted.testing.server_frames import PingFrame, PongFrame, PublishFrame

from .support import ClientTestCase


class PingTests(ClientTestCase):
    def test_answered_first(self) -> None:
        """A PING is answered before anything is done with the messages of the same read, and before what they publish."""
        client, peer = self.connected()
        client.subscribe("a", lambda msg: client.publish("b"))
        self.network.advance()
        peer.take()
        peer.send(peer.frame("a") + b"PING\r\n" + peer.frame("a"))
        self.network.advance()
        self.assertEqual(peer.kinds(), [PongFrame, PublishFrame, PublishFrame])

    def test_answered_while_handlers_run(self) -> None:
        """Handlers that are busy hold up no PONG."""
        client, peer = self.connected()
        client.subscribe("a", lambda msg: Deferred())
        self.network.advance()
        peer.publish("a", b"1", b"2")
        for _ in range(3):
            peer.send(b"PING\r\n")
        self.network.advance()
        self.assertEqual(len(peer.take(PongFrame)), 3)

    def test_flood(self) -> None:
        """A flood of PINGs in one read makes a bounded number of PONGs."""
        _, peer = self.connected()
        peer.send(b"PING\r\n" * 100_000)
        self.network.advance()
        self.assertLessEqual(len(peer.frames), 1024)

    def test_silent_server(self) -> None:
        """With an interval of 20 ms and 2 allowed, a silent server is left after 60 ms, and the next one is tried."""
        self.network.server("two:4222")
        client = self.new_client(["nats://one", "nats://two"], ping_interval=0.02, max_pings_out=2)
        client.start()
        self.network.advance()
        self.server.peer.stalled = True
        self.network.advance(0.059)
        self.assertEqual(client.connected_url, "nats://one:4222")
        self.network.advance(0.001)
        self.network.advance()
        (lost,) = self.told(Disconnected)
        self.assertIsInstance(lost.error, StaleConnectionError)
        self.assertIs(client.status, ClientStatus.CONNECTED)
        self.assertEqual(client.connected_url, "nats://two:4222")

    def test_answers_keep_it(self) -> None:
        """A server that answers is kept, however long; also when it answers just in time."""
        client, peer = self.connected(ping_interval=1.0, max_pings_out=1)
        self.server.answer_pings = False
        for _ in range(20):
            self.network.advance(1.0)
            peer.send(b"PONG\r\n")
        self.assertTrue(client.is_connected)
        self.assertEqual(len(self.network.dials), 1)

    def test_busy_publisher(self) -> None:
        """Heavy publishing does not starve the pings."""
        client, peer = self.connected(ping_interval=1.0)
        for _ in range(50):
            client.publish("a", b"x" * 1000)
            self.network.advance(0.1)
        self.assertGreaterEqual(len([frame for frame in peer.frames if isinstance(frame, PingFrame)]), 4)

    def test_timers_of_lost_connections(self) -> None:
        """The pings of a connection end with it."""
        client, _ = self.connected(ping_interval=1.0)
        for _ in range(3):
            self.server.peer.cut()
            self.network.advance(1.5)
        self.assertEqual(len([call for call in self.network.getDelayedCalls() if "_ping_due" in str(call)]), 1)
        self.assertTrue(client.is_connected)

    def test_right_waiter(self) -> None:
        """Answers belong to the PINGs in their order: those of the timer and of flushes do not get mixed up."""
        client, peer = self.connected(ping_interval=10.0)
        self.server.answer_pings = False
        first = self.watch(client.flush(timeout=60))
        self.network.advance(9)
        second = self.watch(client.flush(timeout=60))
        self.network.advance()
        self.assertEqual(len(peer.take(PingFrame)), 3)
        peer.send(b"PONG\r\n")
        self.successResultOf(first)
        peer.send(b"PONG\r\n")
        self.assertNoResult(second)
        peer.send(b"PONG\r\n")
        self.successResultOf(second)

    def test_answers_that_nobody_asked_for(self) -> None:
        """100,000 PONGs out of the blue are nothing, and none of them answers a later PING."""
        client, peer = self.connected()
        self.server.answer_pings = False
        peer.send(b"PONG\r\n" * 100_000)
        flushed = self.watch(client.flush())
        self.network.advance()
        self.assertNoResult(flushed)
        peer.send(b"PONG\r\n")
        self.successResultOf(flushed)

    def test_told_to_be_stale(self) -> None:
        """When the server finds the connection stale, a new one is made."""
        client, peer = self.connected()
        peer.error("Stale Connection")
        peer.hang_up()
        self.assertIsInstance(self.told(Disconnected)[0].error, StaleConnectionError)
        self.assertTrue(client.is_connected)

    def test_dead_connection(self) -> None:
        """Between the breach of the protocol and the end of the transport no timer does anything."""
        _, peer = self.connected(ping_interval=1.0)
        peer.wire.abortConnection = lambda: None
        peer.send(b"garbage\r\n")
        self.network.advance(10)
        self.assertTrue(peer.wire.reading)
        del peer.wire.abortConnection
        peer.cut()
        self.network.advance()
        self.assertTrue(self.server.peer.wire is not peer.wire)
