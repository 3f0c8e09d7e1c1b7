"""Connections are lost and come back: what is renewed, how long it waits, and when it gives up."""

from __future__ import annotations

from typing import Any

from pynats_twisted.client import ClientStatus
from pynats_twisted.client.status import (
    Closed,
    Connected,
    ConnectFailed,
    Disconnected,
    DiscoveredServers,
    Reconnected,
)
from pynats_twisted.errors import (
    ConnectionClosedError,
    MalformedLineError,
)
from pynats_twisted.testing.server_frames import ConnectFrame, PublishFrame, SubscribeFrame, UnsubscribeFrame

from .support import ClientTestCase

BOTH = ["nats://one", "nats://two"]


class RenewalTests(ClientTestCase):
    def test_subscriptions_survive(self) -> None:
        """The same subscription object gets messages before and after; its server hears of it once for each connection."""
        client, peer = self.connected()
        got: list[bytes] = []
        client.subscribe("a", lambda msg: got.append(msg.data), "group")
        self.network.advance()
        peer.publish("a", b"1")
        peer.cut()
        self.network.advance()
        self.assertIs(client.status, ClientStatus.CONNECTED)
        again = self.server.peer
        self.assertIsNot(again, peer)
        (sub,) = again.take(SubscribeFrame)
        self.assertEqual((sub.subject, sub.queue, sub.sid), ("a", "group", "1"))
        again.publish("a", b"2")
        self.assertEqual(got, [b"1", b"2"])

    def test_subscribed_meanwhile(self) -> None:
        """What was subscribed and unsubscribed without a connection is what the next server hears, and nothing else."""
        client, peer = self.connected()
        gone, kept = client.subscribe("gone"), client.subscribe("kept")
        self.network.advance()
        self.network.refuse("one:4222")
        peer.cut()
        self.network.advance()
        self.assertIs(client.status, ClientStatus.RECONNECTING)
        gone.unsubscribe()
        client.subscribe("new")
        client.subscribe("brief").unsubscribe()
        self.network.accept("one:4222")
        self.network.advance(1)
        self.assertEqual(self.server.peer.subscribed(), ["kept", "new"])
        self.assertEqual(self.server.peer.take(UnsubscribeFrame), [])
        self.assertFalse(kept.closed)

    def test_rest_of_a_limit(self) -> None:
        """Of a limit of 20 with 12 delivered, the next server hears 8."""
        client, peer = self.connected()
        got: list[Any] = []
        sub = client.subscribe("a", got.append, max_msgs=20)
        self.network.advance()
        peer.publish("a", *[b"x"] * 12)
        peer.cut()
        self.network.advance()
        again = self.server.peer
        self.assertEqual([frame.limit for frame in again.frames if isinstance(frame, UnsubscribeFrame)], [8])
        again.publish("a", *[b"x"] * 10)
        self.assertEqual(len(got), 20)
        self.assertTrue(sub.closed)

    def test_limit_while_disconnected(self) -> None:
        """A limit that is set without a connection, and was reached already, ends the subscription."""
        client, peer = self.connected()
        sub, other = client.subscribe("a"), client.subscribe("b")
        self.network.advance()
        peer.publish("a", b"1", b"2")
        self.network.refuse("one:4222")
        peer.cut()
        sub.unsubscribe(2)
        other.unsubscribe(5)
        self.network.accept("one:4222")
        self.network.advance(1)
        self.assertEqual(self.server.peer.subscribed(), ["b"])
        self.assertEqual([frame.limit for frame in self.server.peer.take(UnsubscribeFrame)], [5])
        self.assertEqual([self.successResultOf(sub.next()).data for _ in range(2)], [b"1", b"2"])
        self.assertTrue(sub.closed)

    def test_inbox_once(self) -> None:
        """The inbox of requests is subscribed once for each connection."""
        client, peer = self.connected()
        waiting = self.watch(client.request("a"))
        self.network.advance()
        peer.cut()
        self.network.advance()
        again = self.server.peer
        self.assertEqual(len(again.take(SubscribeFrame)), 1)
        again.publish(peer.take(PublishFrame)[0].reply, b"late but right")
        self.assertEqual(self.successResultOf(waiting).data, b"late but right")

    def test_cut_in_a_message(self) -> None:
        """Half a message is forgotten with its connection, and the next one is whole."""
        client, peer = self.connected()
        sub = client.subscribe("a")
        self.network.advance()
        peer.send(peer.frame("a", b"half of it")[:-5])
        peer.cut()
        self.network.advance()
        self.server.peer.publish("a", b"whole")
        self.assertEqual(self.successResultOf(sub.next()).data, b"whole")
        self.assertEqual(sub.pending_msgs, 0)

    def test_garbage(self) -> None:
        """A server that breaks the protocol is left and connected to again; what came before the garbage is delivered."""
        client, peer = self.connected()
        sub = client.subscribe("a")
        self.network.advance()
        peer.send(peer.frame("a", b"good") + b"MSG a x 1\r\n" + peer.frame("a", b"bad"))
        self.network.advance()
        self.assertTrue(peer.wire.aborted)
        self.assertIs(client.status, ClientStatus.CONNECTED)
        self.assertEqual(self.successResultOf(sub.next()).data, b"good")
        self.assertEqual(sub.pending_msgs, 0)
        self.assertIsInstance(self.told(Disconnected)[0].error, MalformedLineError)

    def test_fresh_credentials(self) -> None:
        """Credentials from a callable are asked for at each connection."""
        tokens = iter(["first", "second"])
        self.connected(token=lambda: next(tokens))
        self.server.peer.cut()
        self.network.advance()
        self.assertEqual(self.server.peer.take(ConnectFrame)[0].options["auth_token"], "second")

    def test_statistics(self) -> None:
        """The counters go on over connections."""
        client, peer = self.connected()
        client.subscribe("a", lambda msg: None)
        self.network.advance()
        peer.publish("a", b"12", b"345")
        client.publish("b", b"x")
        peer.cut()
        self.network.advance()
        self.server.peer.publish("a", b"6")
        stats = client.stats
        self.assertEqual((stats.in_msgs, stats.in_bytes, stats.out_msgs, stats.reconnects), (3, 6, 1, 1))
        self.assertEqual(stats.out_bytes, len(b"PUB b 1\r\nx\r\n"))

    def test_next_in_the_order(self) -> None:
        """After a loss the next server is tried at once; the lost one is the last in the order."""
        self.network.server("two:4222")
        self.network.server("three:4222")
        client, peer = self.connected(["nats://one", "nats://two", "nats://three"])
        peer.cut()
        self.network.advance()
        self.assertEqual(client.connected_url, "nats://two:4222")
        self.assertEqual(client.servers, ("nats://two:4222", "nats://three:4222", "nats://one:4222"))
        self.assertEqual([when for when, _ in self.network.dials], [0.0, 1.0])

    def test_discovered_servers(self) -> None:
        """Servers that INFO names are told once, used after a loss, and forgotten when INFO names them no more."""
        self.network.server("10.0.0.9:4222")
        client, peer = self.connected("nats://user:pass@one")
        peer.info(connect_urls=["10.0.0.9:4222", "10.0.0.8:4222"])
        peer.info(connect_urls=["10.0.0.9:4222", "10.0.0.8:4222"])
        self.assertEqual(self.told(DiscoveredServers), [DiscoveredServers(("nats://10.0.0.9:4222", "nats://10.0.0.8:4222"))])
        peer.info(connect_urls=["10.0.0.9:4222"])
        peer.info()
        self.assertEqual(client.servers, ("nats://one:4222", "nats://10.0.0.9:4222"))
        peer.cut()
        self.network.advance()
        self.assertEqual(client.connected_url, "nats://10.0.0.9:4222")
        fields = self.network.servers["10.0.0.9:4222"].peer.take(ConnectFrame)[0].options
        self.assertEqual((fields["user"], fields["pass"]), ("user", "pass"))


class EventTests(ClientTestCase):
    def test_order(self) -> None:
        """Listeners hear of each change once and in order, and never from inside a call."""
        client = self.new_client()
        inside = False
        wrong: list[Any] = []
        client.add_listener(lambda event: wrong.append(event) if inside else None)
        client.start()
        self.network.advance(1)
        self.server.peer.cut()
        self.network.advance()
        inside = True
        client.close()
        inside = False
        self.network.advance()
        self.assertEqual([type(event) for event in self.events], [Connected, Disconnected, Reconnected, Disconnected, Closed])
        self.assertEqual(wrong, [])

    def test_why(self) -> None:
        """The loss of a connection is told with its error, a failing attempt as no loss."""
        _, peer = self.connected(reconnect_wait=1.0)
        self.network.refuse("one:4222")
        peer.cut()
        (lost,) = self.told(Disconnected)
        self.assertEqual((lost.url, type(lost.error).__name__), ("nats://one:4222", "ConnectionLost"))
        self.network.advance(1)
        self.assertEqual(len(self.told(ConnectFailed)), 2)
        self.assertEqual(len(self.told(Disconnected)), 1)

    def test_unconfirmed(self) -> None:
        """The event says how many publishes went to the lost connection that no PONG has confirmed."""
        client, peer = self.connected()
        for _ in range(3):
            client.publish("a")
        self.watch(client.flush())
        self.network.advance()
        client.publish("a")
        client.publish("a")
        self.network.advance()
        client.publish("a", b"never handed over")
        peer.cut()
        self.assertEqual(self.told(Disconnected)[0].unconfirmed, 2)

    def test_unconfirmed_of_the_buffer(self) -> None:
        """What was published while disconnected, and sent at once after the handshake, is not confirmed by the handshake."""
        client, peer = self.connected()
        self.network.refuse("one:4222")
        peer.cut()
        self.network.advance()
        for _ in range(5):
            client.publish("a")
        self.network.accept("one:4222")
        self.network.advance(1)
        self.assertEqual(len(self.server.peer.written()), 5)
        self.server.peer.cut()
        self.assertEqual([event.unconfirmed for event in self.told(Disconnected)], [0, 5])

    def test_unconfirmed_counts_no_refused_ones(self) -> None:
        """A publish that was taken out of the buffer was never sent."""
        client, peer = self.connected()
        self.network.refuse("one:4222")
        peer.cut()
        self.network.advance()
        client.publish("a", b"x" * 2000)
        client.publish("a", b"x")
        self.network.accept("one:4222")
        self.server.info["max_payload"] = 1000
        self.network.advance(1)
        self.server.peer.cut()
        self.assertEqual([event.unconfirmed for event in self.told(Disconnected)], [0, 1])


class ForceTests(ClientTestCase):
    def test_connected(self) -> None:
        """The connection is left and the next one made at once; what was published before is written first, and nothing is lost."""
        client, peer = self.connected()
        got: list[bytes] = []
        client.subscribe("a", lambda msg: got.append(msg.data))
        self.network.advance()
        client.publish("b", b"before")
        client.force_reconnect()
        client.publish("b", b"after")
        self.network.advance()
        self.assertEqual(peer.written(), [b"before"])
        self.assertFalse(peer.wire.aborted)
        again = self.server.peer
        self.assertEqual(again.written(), [b"after"])
        again.publish("a", b"x")
        self.assertEqual(got, [b"x"])
        self.assertEqual([type(event) for event in self.events], [Connected, Disconnected, Reconnected])
        self.assertEqual(self.network.dials[-1], (1.0, "one:4222"))

    def test_again_and_again(self) -> None:
        """It skips the wait each time."""
        client, _ = self.connected(reconnect_wait=4.0)
        for _ in range(5):
            client.force_reconnect()
            client.force_reconnect()
            self.network.advance()
            self.assertIs(client.status, ClientStatus.CONNECTED)
        self.assertEqual(len(self.network.dials), 6)
        self.assertEqual(self.network.seconds(), 1.0)

    def test_waiting(self) -> None:
        """It wakes a client that waits for its next attempt."""
        client, peer = self.connected(reconnect_wait=4.0)
        self.network.refuse("one:4222")
        peer.cut()
        self.network.advance(1)
        self.network.accept("one:4222")
        client.force_reconnect()
        self.network.advance()
        self.assertIs(client.status, ClientStatus.CONNECTED)

    def test_connecting(self) -> None:
        """On the way to a connection there is nothing to leave."""
        self.server.answer_pings = False
        client = self.new_client()
        begun = client.start()
        self.network.advance()
        client.force_reconnect()
        self.network.advance()
        self.server.peer.send(b"PONG\r\n")
        self.successResultOf(begun)
        self.assertEqual(len(self.network.dials), 1)

    def test_server_that_reads_nothing(self) -> None:
        """A server that takes nothing is left after a second, by force."""
        client, peer = self.connected()
        peer.stalled = True
        client.publish("a", b"lost")
        client.force_reconnect()
        self.network.advance(0.99)
        self.assertFalse(peer.wire.ended)
        self.network.advance(0.01)
        self.network.advance()
        self.assertTrue(peer.wire.aborted)
        self.assertIs(client.status, ClientStatus.CONNECTED)
        self.assertEqual(self.told(Disconnected)[0].unconfirmed, 1)

    def test_in_a_handler(self) -> None:
        """A handler may ask for it; the other messages of the same read are delivered."""
        client, peer = self.connected()
        got: list[bytes] = []

        def handler(msg: Any) -> None:
            got.append(msg.data)
            if msg.data == b"1":
                client.publish("out", b"from the handler")
                client.force_reconnect()

        client.subscribe("a", handler)
        self.network.advance()
        peer.publish("a", b"1", b"2")
        self.network.advance()
        self.assertEqual(got, [b"1", b"2"])
        self.assertEqual(peer.written(), [b"from the handler"])
        self.assertIs(client.status, ClientStatus.CONNECTED)

    def test_not_allowed(self) -> None:
        """Without ``allow_reconnect`` it is the end."""
        client, _ = self.connected(allow_reconnect=False)
        client.force_reconnect()
        self.network.advance()
        self.assertIs(client.status, ClientStatus.CLOSED)

    def test_closed(self) -> None:
        """A closed client says so, and one that is about to be as well."""
        client, _ = self.connected()
        client.close()
        self.assertRaises(ConnectionClosedError, client.force_reconnect)
        self.network.advance()
        self.assertRaises(ConnectionClosedError, client.force_reconnect)
