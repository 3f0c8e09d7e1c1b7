"""The network in memory: time, places, and what can happen to connections."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import connect, errors
from pynats_twisted.client.status import ConnectFailed, Disconnected
from pynats_twisted.testing import MemoryNetwork, connected_client


class Recorder(Protocol):
    """Keeps what comes, read by read."""

    def __init__(self) -> None:
        self.reads: list[bytes] = []
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.reads.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


class PlaceTests(SynchronousTestCase):
    """What a connection finds."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()

    def test_nothing_is_there(self) -> None:
        """A place without a server refuses."""
        error = self.assertRaises(errors.NoServersError, self.network.run, connect(self.network, "nats://a:4222"))
        self.assertEqual([url for url, _ in error.reasons], ["nats://a:4222"])
        self.assertEqual(self.network.leftovers(), [])

    def test_same_name_is_the_same_server(self) -> None:
        """A server is made once; options for one that exists are refused."""
        server = self.network.server("a:4222", max_payload=10)
        self.assertIs(self.network.server("a:4222"), server)
        self.assertRaises(errors.ConfigurationError, self.network.server, "a:4222", max_payload=11)

    def test_bad_names_and_options(self) -> None:
        """A place needs host and port; unknown options of servers are refused by name."""
        self.assertRaises(errors.ConfigurationError, self.network.server, "a")
        error = self.assertRaises(errors.ConfigurationError, self.network.server, "a:1", max_paylod=1)
        self.assertIn("max_paylod", str(error))

    def test_refuse_and_accept(self) -> None:
        """A server that refuses takes clients again when it is told to."""
        self.network.server("a:4222")
        self.network.refuse("a:4222")
        self.assertRaises(errors.NoServersError, self.network.run, connect(self.network, "nats://a:4222"))
        self.network.accept("a:4222")
        client = self.network.run(connect(self.network, "nats://a:4222"))
        self.network.run(client.close())

    def test_black_hole(self) -> None:
        """A black hole costs the client's timeout, and no real time."""
        self.network.black_hole("a:4222")
        self.network.server("b:4222")
        client = self.network.run(connect(self.network, ["nats://a:4222", "nats://b:4222"], shuffle_servers=False, connect_timeout=5.0))
        self.assertEqual(client.connected_url, "nats://b:4222")
        self.assertGreaterEqual(self.network.seconds(), 5.0)
        self.assertEqual([address for _, address in self.network.dials], ["a:4222", "b:4222"])
        self.network.run(client.close())
        self.network.advance()
        self.assertEqual(self.network.leftovers(), [])

    def test_times_of_dials(self) -> None:
        """Times of attempts are what was asked for, and not sums of floats."""
        self.network.refuse("a:4222")
        for _ in range(4):
            attempt = TCP4ClientEndpoint(self.network, "a", 4222).connect(Factory.forProtocol(Recorder))
            self.assertRaises(ConnectionRefusedError, self.network.run, attempt)
            self.network.advance(0.1)
        self.assertEqual(self.network.dials, [(0.0, "a:4222"), (0.1, "a:4222"), (0.2, "a:4222"), (0.3, "a:4222")])

    def test_address_of_version_six(self) -> None:
        """A place may be an IPv6 address."""
        self.network.server("[::1]:4222")
        client = self.network.run(connect(self.network, "nats://[::1]:4222"))
        self.network.run(client.close())

    def test_anything_else_listens(self) -> None:
        """Another protocol can be put at a place, by name or as an application listens; it is gone when it stops."""
        self.network.listen("x:1", Factory.forProtocol(Recorder))
        port = self.network.listenTCP(0, Factory.forProtocol(Recorder))
        places = [("x", 1), ("127.0.0.1", port.getHost().port)]
        for host, number in places:
            protocol = self.network.run(connectProtocol(TCP4ClientEndpoint(self.network, host, number), Recorder()))
            protocol.transport.write(b"hello")
            self.network.advance()
            self.assertEqual(self.network.links[-1].server.protocol.reads, [b"hello"])
        port.stopListening()
        again = TCP4ClientEndpoint(self.network, *places[1]).connect(Factory.forProtocol(Recorder))
        self.assertRaises(ConnectionRefusedError, self.network.run, again)


class TimeTests(SynchronousTestCase):
    """Virtual time."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()

    def test_calls_find_their_time(self) -> None:
        """A delayed call sees the time for which it was asked, whatever the step."""
        seen: list[float] = []
        self.network.callLater(1, lambda: self.network.callLater(2, lambda: seen.append(self.network.seconds())))
        self.network.advance(10)
        self.assertEqual((seen, self.network.seconds()), ([3.0], 10.0))

    def test_run_gives_the_result(self) -> None:
        """run lets time pass until a coroutine or Deferred is done; its error is raised."""

        async def sleeper() -> str:
            done: Deferred[str] = Deferred()
            self.network.callLater(5, done.callback, "woken")
            return await done

        self.assertEqual(self.network.run(sleeper()), "woken")
        self.assertEqual(self.network.seconds(), 5.0)

        async def failing() -> None:
            raise KeyError("x")

        self.assertRaises(KeyError, self.network.run, failing())

    def test_run_does_not_hang(self) -> None:
        """What cannot end fails the test at once, or when its time is over; it is cancelled."""
        cancelled: list[Any] = []
        error = self.assertRaises(AssertionError, self.network.run, Deferred(cancelled.append))
        self.assertIn("nothing is left", str(error))
        self.network.callLater(100, lambda: None)
        error = self.assertRaises(AssertionError, self.network.run, Deferred(cancelled.append), timeout=10.0)
        self.assertIn("in 10 s", str(error))
        self.assertEqual(len(cancelled), 2)

    def test_going_round_in_circles(self) -> None:
        """Calls that make new ones for ever, without time passing, fail the test."""

        def again() -> None:
            self.network.callLater(0, again)

        again()
        self.assertRaises(AssertionError, self.network.advance)


class LinkTests(SynchronousTestCase):
    """What can happen to a connection."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.network.listen("x:1", Factory.forProtocol(Recorder))
        self.client: Any = self.network.run(connectProtocol(TCP4ClientEndpoint(self.network, "x", 1), Recorder()))
        self.link = self.network.links_to("x:1")[0]
        self.there: Recorder = self.link.server.protocol

    def test_bytes_come_a_turn_later(self) -> None:
        """What is written is not there before the next turn, and then in one read."""
        self.client.transport.write(b"a")
        self.client.transport.writeSequence([b"b", b"c"])
        self.assertEqual(self.there.reads, [])
        self.network.advance()
        self.assertEqual(self.there.reads, [b"abc"])

    def test_latency(self) -> None:
        """Bytes travel as long as the network says."""
        self.network.latency = 0.5
        self.client.transport.write(b"a")
        self.network.advance(0.4)
        self.assertEqual(self.there.reads, [])
        self.network.advance(0.2)
        self.assertEqual(self.there.reads, [b"a"])

    def test_split(self) -> None:
        """Every write is split behind that many bytes, and the parts come in order."""
        self.network.split_at = 2
        self.client.transport.write(b"abcde")
        self.client.transport.write(b"fg")
        self.network.advance()
        self.assertEqual(self.there.reads, [b"ab", b"cde", b"fg"])

    def test_close(self) -> None:
        """What was written comes before the end, which is a clean one for both."""
        self.client.transport.write(b"last")
        self.client.transport.loseConnection()
        self.network.advance()
        self.assertEqual(self.there.reads, [b"last"])
        for end in (self.there, self.client):
            self.assertIsInstance(end.reason.value, ConnectionDone)
        self.assertEqual(self.network.links, [])

    def test_cut(self) -> None:
        """A cut is a lost connection for both, and what was under way is lost."""
        self.client.transport.write(b"lost")
        self.network.cut("x:1")
        self.assertEqual(self.there.reads, [])
        for end in (self.there, self.client):
            self.assertIsInstance(end.reason.value, ConnectionLost)

    def test_cut_for_another_reason(self) -> None:
        """A cut may have any reason, which both ends are told."""
        reason = TimeoutError("no answer")
        self.link.cut(reason)
        for end in (self.there, self.client):
            self.assertIs(end.reason.value, reason)

    def test_flush(self) -> None:
        """What was written can be handed over at once, and does not come twice; an end that does not read gets it when it reads again."""
        self.link.server.write(b"a")
        self.link.server.flush()
        self.assertEqual((self.client.reads, self.network.getDelayedCalls()), ([b"a"], []))
        self.link.server.flush()
        self.link.client.pauseProducing()
        self.link.server.write(b"b")
        self.link.server.flush()
        self.assertEqual((self.client.reads, self.link.server.unsent, self.link.client.reading), ([b"a"], 1, False))
        self.link.client.resumeProducing()
        self.network.advance()
        self.assertEqual((self.client.reads, self.network.getDelayedCalls()), ([b"a", b"b"], []))

    def test_aborted(self) -> None:
        """An end that gave up is told from one that closed, and gets nothing more, also where the connection breaks first."""
        self.link.server.write(b"late")
        self.link.cut_after(to_client=2)
        self.client.transport.abortConnection()
        self.link.server.flush()
        self.assertEqual((self.link.client.aborted, self.link.server.aborted, self.client.reads), (True, False, []))
        self.assertTrue(self.link.ended)

    def test_cut_in_the_middle(self) -> None:
        """A connection can break behind a number of bytes."""
        self.link.cut_after(to_server=4)
        self.client.transport.write(b"abc")
        self.network.advance()
        self.client.transport.write(b"def")
        self.network.advance()
        self.assertEqual(self.there.reads, [b"abc", b"d"])
        self.assertTrue(self.link.ended)

    def test_reader_that_stops(self) -> None:
        """Where nobody reads, a producer is paused; when somebody does again, everything comes and it is resumed."""
        told: list[str] = []

        class Producer:
            def pauseProducing(self) -> None:
                told.append("pause")

            def resumeProducing(self) -> None:
                told.append("resume")

        self.client.transport.registerProducer(Producer(), True)
        self.link.stop_reading()
        self.client.transport.write(b"x" * 100_000)
        self.network.advance()
        self.assertEqual((told, self.there.reads, self.link.client.unsent), (["pause"], [], 100_000))
        self.link.resume_reading()
        self.network.advance()
        self.assertEqual((told, sum(map(len, self.there.reads))), (["pause", "resume"], 100_000))


class ClientTests(SynchronousTestCase):
    """The client over a network with faults."""

    def test_any_split(self) -> None:
        """Whatever the place where writes are split, the same happens."""
        for split in range(1, 60):
            network = MemoryNetwork()
            network.split_at = split
            client, server, _ = connected_client(self, network=network)
            server.respond("echo", lambda frame: frame.payload)
            self.assertEqual(network.run(client.request("echo", b"payload", headers={"A": "1"})).data, b"payload")

    def test_cut_in_the_middle_of_a_message(self) -> None:
        """A message that was cut is not delivered, and the next one comes whole over the next connection."""
        client, server, network = connected_client(self)
        sub = network.run(client.subscribe("a").confirmed())
        network.links[0].cut_after(to_client=15)
        server.publish("a", b"x" * 100)
        network.advance(1)
        self.assertEqual(client.stats.reconnects, 1)
        server.publish("a", b"whole")
        self.assertEqual(network.run(sub.next()).data, b"whole")

    def test_cut_in_the_middle_of_a_publish(self) -> None:
        """The server never sees a part of a frame at the beginning of a connection."""
        client, server, network = connected_client(self)
        network.links[0].cut_after(to_server=10)
        client.publish("a", b"x" * 100)
        network.advance(1)
        client.publish("a", b"next")
        network.advance(1)
        self.assertEqual([frame.payload for frame in server.published("a")], [b"next"])

    def test_pings_unanswered(self) -> None:
        """A server that does not answer PINGs is left as stale."""
        told: list[Any] = []
        client, server, network = connected_client(self, ping_interval=10.0, max_pings_out=2)
        client.add_listener(told.append)
        server.answer_pings = False
        network.advance(31)
        lost = [event.error for event in told if isinstance(event, Disconnected)]
        self.assertIsInstance(lost[0], errors.StaleConnectionError)
        server.answer_pings = True
        network.advance(60)
        self.assertTrue(client.is_connected)

    def test_server_that_does_not_read(self) -> None:
        """While the server reads nothing, publishing has back-pressure; what waited arrives when it reads again."""
        client, server, network = connected_client(self, high_water_bytes=100_000)
        server.pause()
        waiting = [client.publish("a", b"x" * 50_000) for _ in range(10)]
        network.advance()
        self.assertIsInstance(waiting[-1], Deferred)
        self.assertNoResult(waiting[-1])
        server.resume()
        network.advance()
        self.successResultOf(waiting[-1])
        self.assertEqual(len(server.published("a")), 10)

    def test_client_that_does_not_read(self) -> None:
        """A client that reads nothing is cut when too much waits for it."""
        client, server, network = connected_client(self, server_options={"max_pending": 1_000_000})
        network.run(client.subscribe("a").confirmed())
        network.links[0].client.pauseProducing()
        for _ in range(20):
            server.publish("a", b"x" * 100_000)
            network.advance()
        network.advance(1)
        self.assertEqual(client.stats.reconnects, 1)

    def test_gossip(self) -> None:
        """A client learns the servers of a cluster, those that join later, and goes there; messages go between them."""
        network = MemoryNetwork()
        one, two = network.cluster("a:4222", "b:4222")
        client, _, _ = connected_client(self, network=network, servers="nats://a:4222", shuffle_servers=False)
        self.assertEqual(set(client.servers), {"nats://a:4222", "nats://b:4222"})
        three = network.server("c:4222")
        three.join(one)
        network.advance()
        self.assertEqual(set(client.servers), {"nats://a:4222", "nats://b:4222", "nats://c:4222"})
        sub = network.run(client.subscribe("x").confirmed())
        three.publish("x", b"over there")
        self.assertEqual(network.run(sub.next()).data, b"over there")
        one.stop()
        network.advance(1)
        self.assertIn(client.connected_url, ("nats://b:4222", "nats://c:4222"))
        two.publish("x", b"still")
        self.assertEqual(network.run(sub.next()).data, b"still")

    def test_queue_group_over_a_cluster(self) -> None:
        """A queue group over two servers gets each message once; members where it was published come first."""
        network = MemoryNetwork()
        one, two = network.cluster("a:4222", "b:4222")
        clients = [connected_client(self, network=network, servers=server.url, ignore_discovered=True)[0] for server in (one, two)]
        subs = [network.run(client.subscribe("x", queue="g").confirmed()) for client in clients]
        for _ in range(10):
            one.publish("x")
        network.advance()
        self.assertEqual([sub.pending_msgs for sub in subs], [10, 0])
        network.run(clients[0].close())
        one.publish("x")
        network.advance()
        self.assertEqual(subs[1].pending_msgs, 1)

    def test_rejections(self) -> None:
        """A server can be told to refuse a number of times, with any text."""
        told: list[Any] = []
        client, server, network = connected_client(self, reconnect_wait=0.1)
        client.add_listener(told.append)
        server.reject("maximum connections exceeded", times=3)
        server.restart()
        network.advance(5)
        self.assertTrue(client.is_connected)
        failed = [event.error for event in told if isinstance(event, ConnectFailed)]
        self.assertEqual([type(error) for error in failed], [errors.MaxConnectionsExceededError] * 3)
