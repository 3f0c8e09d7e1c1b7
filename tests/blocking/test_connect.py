"""Connecting with the blocking client, and the ends of a client."""

from __future__ import annotations

import errno
from typing import Any

from pynats_twisted import errors
from pynats_twisted.blocking import BlockingClient, ClientStatus, Closed, Connected, ConnectFailed, connect
from pynats_twisted.protocol import ClientOptions

from .support import BlockingTestCase, FakeServer, Peer


class ConnectTests(BlockingTestCase):
    """One call to connect()."""

    def reasons(self, servers: str = "nats://a:4222", **options: Any) -> list[BaseException]:
        """Why no server could be connected to."""
        error = self.assertRaises(errors.NoServersError, self.connect, servers, **options)
        self.assertEqual(self.machine.open_sockets, set())
        return [reason for _, reason in error.reasons]

    def test_connected(self) -> None:
        """connect() returns when the server has answered the first PING, and the client knows where it is."""
        nc = self.connect(name="demo", user="u", password="secret")
        self.assertEqual((nc.status, nc.is_connected, nc.connected_url), (ClientStatus.CONNECTED, True, "nats://a:4222"))
        self.assertEqual((nc.max_payload, nc.encrypted, nc.servers), (1048576, False, ("nats://a:4222",)))
        self.assertEqual(self.server.peer.lines[0].split(" ")[0], "CONNECT")
        sent = self.server.peer.connect
        self.assertEqual((sent["name"], sent["user"], sent["pass"], sent["headers"], sent["protocol"]), ("demo", "u", "secret", True, 1))
        self.assertEqual(self.events, [Connected("nats://a:4222")])
        self.assertEqual(repr(nc), "<BlockingClient demo connected nats://a:4222>")

    def test_info_byte_by_byte(self) -> None:
        """A slow INFO is waited for, within the time for connecting."""
        self.server.greets = False
        line = self.server.info_line()

        def trickle(peer: Peer, position: int = 0) -> None:
            peer.send(line[position : position + 1])
            if position + 1 < len(line):
                self.machine.at(0.01, lambda: trickle(peer, position + 1))

        self.machine.at(0.01, lambda: trickle(self.server.peer))
        self.assertTrue(self.connect(connect_timeout=4.0).is_connected)

    def test_no_info(self) -> None:
        """A server that says nothing is given up after connect_timeout, with what was missing and a hint."""
        self.server.greets = False
        begun = self.machine.time
        (reason,) = self.reasons(connect_timeout=2.0)
        self.assertIsInstance(reason, errors.ConnectTimeoutError)
        self.assertIn("no INFO came", str(reason))
        self.assertIn("tls_first", str(reason))
        self.assertEqual(self.machine.time - begun, 2.0)

    def test_no_pong(self) -> None:
        """A server that does not answer CONNECT is given up, and the error says that it was that."""
        self.server.silent.add("PING")
        (reason,) = self.reasons(connect_timeout=2.0)
        self.assertIn("CONNECT was not answered", str(reason))

    def test_black_hole(self) -> None:
        """An address that swallows the connection is given up after connect_timeout."""
        self.server.mode = "swallow"
        (reason,) = self.reasons(connect_timeout=2.0)
        self.assertIsInstance(reason, errors.ConnectTimeoutError)
        self.assertIn("took the connection", str(reason))

    def test_authentication_error(self) -> None:
        """What the server says before it closes is the reason, not that it closed."""

        def refuse(peer: Peer, line: str) -> None:
            if line.startswith("CONNECT"):
                peer.send(b"-ERR 'Authorization Violation'\r\n")
                peer.close()

        self.server.on_line = refuse
        (reason,) = self.reasons(password="secret", user="u")
        self.assertIsInstance(reason, errors.AuthorizationViolationError)
        self.assertNotIn("secret", str(reason))

    def test_error_behind_a_broken_send(self) -> None:
        """A server that says why it closes, and closes so early that CONNECT cannot be sent, is still heard."""

        def refuse(kind: str) -> None:
            peer = self.server.peer
            if kind == "send":
                peer.send(b"-ERR 'maximum connections exceeded'\r\n")
                peer.open = False
                peer.socket.error = errno.EPIPE

        self.machine.on_tick = refuse
        (reason,) = self.reasons()
        self.assertIsInstance(reason, errors.MaxConnectionsExceededError)

    def test_closed_before_info(self) -> None:
        """A server that closes without a word is a failed attempt, not a hang."""
        self.server.greets = False
        self.machine.at(0.1, lambda: self.server.peer.close())
        (reason,) = self.reasons()
        self.assertIsInstance(reason, errors.DisconnectedError)

    def test_first_line_is_not_info(self) -> None:
        """A peer that does not speak NATS is a protocol error."""
        self.server.greets = False
        self.machine.at(0.1, lambda: self.server.peer.send(b"HTTP/1.1 400 Bad Request\r\n"))
        (reason,) = self.reasons()
        self.assertIsInstance(reason, errors.ProtocolError)

    def test_next_server(self) -> None:
        """Where one server refuses the next is tried in the same call, without a wait."""
        self.server.mode = "refuse"
        FakeServer(self.machine, "b")
        begun = self.machine.time
        nc = self.connect("nats://a:4222,nats://b:4222")
        self.assertEqual(nc.connected_url, "nats://b:4222")
        self.assertEqual(self.machine.time, begun)
        self.assertEqual(self.seen(), ["ConnectFailed", "Connected"])

    def test_no_server(self) -> None:
        """Where none can be connected to, each was tried once, and the error has a reason for each."""
        self.machine.names["c"] = []
        error = self.assertRaises(errors.NoServersError, self.connect, "nats://b:4222,nats://c:4222")
        self.assertEqual([url for url, _ in error.reasons], ["nats://b:4222", "nats://c:4222"])
        self.assertIn("refused", str(error.reasons[0][1]))
        self.assertIn("not known", str(error.reasons[1][1]))
        self.assertEqual([type(event) for event in self.events], [ConnectFailed, ConnectFailed, Closed])

    def test_all_addresses_of_a_name(self) -> None:
        """An address that does not answer holds up the next one by a quarter of a second, and one that refuses by nothing."""
        self.machine.names["cluster"] = ["hole", "closed", "far", "a"]
        FakeServer(self.machine, "hole").mode = "swallow"
        FakeServer(self.machine, "far").mode = "refuse later"
        begun = self.machine.time
        nc = self.connect("nats://cluster:4222")
        self.assertEqual(self.machine.dialled, ["hole:4222", "closed:4222", "far:4222", "a:4222"])
        self.assertAlmostEqual(self.machine.time - begun, 0.75)
        self.assertEqual(len(self.machine.open_sockets), 1)
        self.assertEqual(nc.connected_url, "nats://cluster:4222")

    def test_unix_socket(self) -> None:
        """A server is reached by a UNIX socket."""
        FakeServer(self.machine, "/run/nats.sock", 0)
        self.assertEqual(self.connect("unix:///run/nats.sock").connected_url, "unix:///run/nats.sock")

    def test_bytes_behind_info_where_tls_starts(self) -> None:
        """Bytes that follow the INFO of a server which demands TLS are not taken for encrypted ones."""
        self.server.greets = False
        self.machine.at(0.1, lambda: self.server.peer.send(self.server.info_line(tls_required=True) + b"-ERR 'x'\r\n"))
        (reason,) = self.reasons()
        self.assertIsInstance(reason, errors.UntrustedDataError)
        self.assertEqual(self.server.peer.lines, [])

    def test_tls_that_is_not_offered(self) -> None:
        """Where TLS is asked for, nothing is sent to a server that does not offer it."""
        (reason,) = self.reasons("tls://a:4222")
        self.assertIsInstance(reason, errors.TLSNotAvailableError)
        self.assertEqual(self.server.peer.lines, [])

    def test_callables_of_the_user(self) -> None:
        """A callable of the user's that fails is the reason why the attempt failed."""

        def token() -> str:
            raise LookupError("the vault is closed")

        (reason,) = self.reasons(token=token)
        self.assertIsInstance(reason, errors.CredentialsError)
        self.assertIn("vault", str(reason.__cause__))

    def test_options_that_are_of_no_use(self) -> None:
        """Options for Twisted, WebSocket servers and unknown options are refused before anything is done."""
        for servers, options, text in (
            ("nats://a:4222", {"endpoint_factory": lambda *_: None}, "endpoint_factory"),
            ("nats://a:4222", {"tls_options": object()}, "SSLContext"),
            ("ws://a:80", {}, "WebSocket"),
            ("nats://a:4222", {"on_event": 3}, "on_event"),
            ("nats://a:4222", {"nmae": "x"}, "did you mean 'name'"),
        ):
            error = self.assertRaises(errors.ConfigurationError, connect, servers, **options)  # type: ignore[arg-type]
            self.assertIn(text, str(error))
        self.assertEqual(self.machine.dialled, [])

    def test_retry_on_failed_connect(self) -> None:
        """With retry_on_failed_connect the client comes back unconnected, and connects in a later call; that is no reconnect."""
        self.server.mode = "refuse"
        nc = self.connect(retry_on_failed_connect=True, reconnect_wait=1.0, reconnect_jitter=0.0)
        self.assertEqual((nc.status, self.seen()), (ClientStatus.CONNECTING, ["ConnectFailed"]))
        nc.publish("kept", b"1")
        self.server.mode = "accept"
        nc.flush()
        self.assertEqual((nc.status, self.seen()), (ClientStatus.CONNECTED, ["ConnectFailed", "Connected"]))
        self.assertEqual((self.server.payloads, nc.stats.reconnects), ([b"1"], 0))

    def test_start_twice(self) -> None:
        """A client is started once."""
        nc = self.connect()
        self.assertIn("started once", str(self.assertRaises(errors.ConfigurationError, nc.start)))

    def test_interrupted(self) -> None:
        """Ctrl-C while connecting leaves nothing behind."""
        self.server.greets = False

        def interrupt() -> None:
            raise KeyboardInterrupt

        self.machine.at(0.5, interrupt)
        nc = BlockingClient(ClientOptions(servers="nats://a:4222"), machine=self.machine)
        self.assertRaises(KeyboardInterrupt, nc.start)
        self.assertEqual((nc.status, self.machine.open_sockets), (ClientStatus.CLOSED, set()))


class EndTests(BlockingTestCase):
    """close(), drain() and the context manager."""

    def test_close(self) -> None:
        """close() writes what waits, ends the stream, and every later call says that the client is closed."""
        nc = self.connect()
        sub = nc.subscribe("x")
        nc.publish("x", b"last")
        nc.close()
        nc.close()
        self.assertEqual(self.server.payloads, [b"last"])
        self.assertTrue(self.server.peer.client_ended)
        self.assertEqual((nc.status, nc.connected_url, nc.subscriptions), (ClientStatus.CLOSED, None, ()))
        for call in (lambda: nc.publish("x"), nc.flush, lambda: nc.request("x"), lambda: nc.subscribe("x"), nc.process, sub.next):
            self.assertRaises(errors.ConnectionClosedError, call)
        nc.drain()
        self.assertEqual(self.events[-1], Closed(None, 0))

    def test_close_waits_for_a_server_that_reads_slowly(self) -> None:
        """What was published is written for one second at most, and the event tells what was not sent."""
        self.server.room = 4096
        nc = self.connect()
        self.server.reading = False
        self.machine.at(0.5, lambda: setattr(self.server, "reading", True))
        for _ in range(3):
            nc.publish("x", bytes(2000))
        begun = self.machine.time
        nc.close()
        self.assertEqual((len(self.server.payloads), self.machine.time - begun), (3, 0.5))

        nc = self.connect()
        self.server.reading = False
        for _ in range(3):
            nc.publish("x", bytes(2000))
        begun = self.machine.time
        nc.close()
        self.assertEqual((self.machine.time - begun, self.events[-1]), (1.0, Closed(None, 1)))
        self.server.reading = True

    def test_what_was_received_can_still_be_taken(self) -> None:
        """Messages that came before close() are handed out; then the loop ends."""
        nc = self.connect()
        sub = nc.subscribe("x")
        nc.publish("x", b"1")
        nc.publish("x", b"2")
        nc.flush()
        nc.close()
        self.assertEqual([msg.data for msg in sub], [b"1", b"2"])
        self.assertTrue(sub.closed)

    def test_with_block(self) -> None:
        """A block that publishes once and ends has delivered it: the server answered a PING behind it."""
        with self.connect() as nc:
            nc.publish("x", b"once")
        self.assertEqual(self.server.payloads, [b"once"])
        self.assertEqual([line.split()[0] for line in self.server.peer.lines], ["CONNECT", "PING", "PUB", "PING"])
        self.assertEqual(nc.status, ClientStatus.CLOSED)

    def test_with_block_that_fails(self) -> None:
        """A block that an exception ends closes at once, and does not hide the exception."""
        self.server.silent.add("PONG")

        def fail() -> None:
            with self.connect() as nc:
                nc.publish("x", b"once")
                raise LookupError("mine")

        self.assertRaises(LookupError, fail)
        self.assertEqual([line.split()[0] for line in self.server.peer.lines], ["CONNECT", "PING", "PUB"])

    def test_drain_receives_what_is_under_way(self) -> None:
        """drain() tells the server to send no more, takes what it had sent, and closes; the messages can be taken after it."""
        nc = self.connect()
        sub = nc.subscribe("x").confirmed()
        self.server.publish("x", b"1")
        self.server.on_line = lambda peer, line: peer.send(b"MSG x 1 1\r\n2\r\n") if line.startswith("UNSUB") else None
        nc.drain()
        self.assertEqual([msg.data for msg in sub], [b"1", b"2"])
        self.assertEqual(nc.status, ClientStatus.CLOSED)

    def test_drain_that_takes_too_long(self) -> None:
        """drain() gives up after its time; the client is closed all the same."""
        nc = self.connect(ping_interval=1000.0)
        self.server.silent.add("PING")
        begun = self.machine.time
        self.assertRaises(errors.DrainTimeoutError, nc.drain, 3.0)
        self.assertEqual((self.machine.time - begun, nc.status), (3.0, ClientStatus.CLOSED))

    def test_drain_without_a_connection(self) -> None:
        """Where nothing waits to be sent a disconnected client just closes; where something does, it waits for a connection."""
        for waiting in (False, True):
            nc = self.connect(reconnect_wait=0.5, reconnect_jitter=0.0)
            sub = nc.subscribe("x")
            self.server.stop()
            nc.process()
            begun = self.machine.time
            if waiting:
                nc.publish("y", b"kept")
                self.machine.at(5.0, lambda: setattr(self.server, "mode", "accept"))
            nc.drain()
            self.assertEqual(self.machine.time - begun > 4.0, waiting)
            self.assertEqual(self.server.payloads, [b"kept"] if waiting else [])
            self.assertRaises(errors.SubscriptionClosedError, sub.next)
            self.server.mode = "accept"
        self.assertFalse([line for line in self.server.peer.lines if line.startswith("SUB")])

    def test_drain_in_which_publishes_may_be_lost(self) -> None:
        """A connection that ends under drain() with publishes unconfirmed makes drain() say so."""
        nc = self.connect()
        self.server.silent.add("PING")
        nc.publish("x", b"?")
        self.machine.at(0.1, lambda: self.server.peer.close())
        error = self.assertRaises(errors.DisconnectedError, nc.drain)
        self.assertIn("1 publish was handed to a connection that was lost", str(error))
        self.assertEqual(nc.status, ClientStatus.CLOSED)

    def test_gave_up(self) -> None:
        """When the pool is empty the waiting call ends with the reason, and so does every later one."""
        nc = self.connect(max_reconnect_attempts=1, reconnect_wait=0.1)
        sub = nc.subscribe("x")
        self.server.stop()
        with self.assertLogs("pynats_twisted.blocking", "ERROR"):
            error = self.assertRaises(errors.ConnectionClosedError, sub.next)
        self.assertIsInstance(error.__cause__, errors.NoServersError)
        self.assertRaises(errors.ConnectionClosedError, nc.publish, "x")
        self.assertRaises(errors.ConnectionClosedError, next, sub)
        self.assertEqual(list(sub), [])
        self.assertIsInstance(self.seen(Closed)[0].error, errors.NoServersError)
        nc.close()

    def test_reconnecting_forbidden(self) -> None:
        """With allow_reconnect=False the end of the connection is the end of the client."""
        nc = self.connect(allow_reconnect=False)
        self.server.stop()
        with self.assertLogs("pynats_twisted.blocking", "ERROR"):
            error = self.assertRaises(errors.ConnectionClosedError, nc.flush)
        self.assertIsInstance(error.__cause__, errors.DisconnectedError)
        self.assertEqual(self.machine.dialled, ["a:4222"])
