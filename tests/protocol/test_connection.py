"""A connection after its handshake: PINGs, later INFOs, and its end."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.protocol import CloseReason, EventType

from .connections import S, closed, connected, greet, info, new, received, selected, types
from .wire import msg


class PingTests(SynchronousTestCase):
    """PING and PONG, both ways."""

    def test_ping_is_answered(self) -> None:
        """Each PING of the server is answered once, in every state after INFO, and makes no event."""
        for proto in (connected(), greet(selected(), tls_required=True)):
            self.assertEqual(received(proto, b"PING\r\nPING\r\n"), [])
            self.assertEqual((proto.data_to_send(), proto.data_to_send()), (b"PONG\r\nPONG\r\n", b""))

    def test_ping_with_info(self) -> None:
        """A PING right behind INFO is answered."""
        proto = selected()
        received(proto, info() + b"PING\r\n")
        self.assertEqual(proto.data_to_send(), b"PONG\r\n")

    def test_flood_of_pings(self) -> None:
        """A million PINGs cost one number: neither memory while they are read nor a million PONGs."""
        proto = connected()
        for _ in range(100):
            proto.receive_data_from_server(b"PING\r\n" * 10_000)
        self.assertEqual(proto.events_received(), [])
        self.assertEqual(proto.data_to_send(), b"PONG\r\n" * 1024)
        self.assertEqual(proto.data_to_send(), b"")

    def test_answers_belong_to_their_connection(self) -> None:
        """A PING of the last connection is not answered on the next one."""
        proto = connected()
        received(proto, b"PING\r\n")
        proto.receive_eof_from_transport()
        proto.select_server()
        self.assertEqual(proto.data_to_send(), b"")

    def test_outstanding_pings(self) -> None:
        """PINGs of ours are counted until they are answered, one PONG each, and PONG says how many are left."""
        proto = connected()
        self.assertEqual(proto.outstanding_pings, 0)
        for count in (1, 2, 3):
            self.assertEqual((proto.ping(), proto.outstanding_pings), (b"PING\r\n", count))
        events = received(proto, b"PONG\r\nPONG\r\n")
        self.assertEqual(([event.body for event in events], proto.outstanding_pings), ([2, 1], 1))

    def test_pongs_that_nobody_asked_for(self) -> None:
        """A hundred thousand PONGs without a PING make no event and do not count for PINGs to come."""
        proto = connected()
        self.assertEqual(received(proto, b"PONG\r\n" * 100_000), [])
        self.assertEqual(proto.outstanding_pings, 0)
        proto.ping()
        self.assertEqual(proto.outstanding_pings, 1)
        self.assertEqual(types(received(proto, b"PONG\r\n" * 10)), ["PONG"])
        self.assertEqual(proto.outstanding_pings, 0)

    def test_pong_before_ping_does_not_connect(self) -> None:
        """A PONG before our PING does not complete the handshake."""
        proto = selected()
        self.assertEqual(types(received(proto, info() + b"PONG\r\n")), ["CONNECT_REQUEST"])
        proto.connect()
        self.assertEqual(received(proto, b"PONG\r\n"), [])
        self.assertIs(proto.state, S.WAITING_FOR_SERVER_PONG)
        proto.ping()
        self.assertEqual(types(received(proto, b"PONG\r\n")), ["CONNECTED", "PONG"])

    def test_pings_end_with_their_connection(self) -> None:
        """PINGs that the old server did not answer are not waited for from the new one."""
        proto = connected()
        proto.ping()
        proto.ping()
        proto.receive_eof_from_transport()
        self.assertEqual(proto.outstanding_pings, 0)
        proto.select_server()
        greet(proto)
        self.assertEqual(proto.outstanding_pings, 0)
        self.assertEqual(received(proto, b"PONG\r\n"), [])


class InfoTests(SynchronousTestCase):
    """INFO after the handshake."""

    def test_new_limits_count_at_once(self) -> None:
        """A later INFO changes ``max_payload`` and whether headers are taken."""
        proto = connected()
        proto.publish("a", payload=b"x" * 100, headers={"A": "1"})
        (event,) = received(proto, info(max_payload=10, headers=False))
        self.assertEqual((event.type, event.body.max_payload, proto.max_payload), (EventType.INFO, 10, 10))
        self.assertRaises(errors.MaxPayloadExceededError, proto.publish, "a", payload=b"x" * 11)
        self.assertRaises(errors.HeadersNotSupportedError, proto.publish, "a", headers={"A": "1"})
        proto.publish("a", payload=b"x" * 10)

    def test_servers_come_and_go(self) -> None:
        """Servers that an INFO names join once, and leave with an INFO that no longer names them."""
        proto = connected()
        received(proto, info(connect_urls=["four:4222", "five:4222"]))
        self.assertEqual({server.host for server in proto.servers_discovered()}, {"four", "five"})
        received(proto, info(connect_urls=["four:4222", "five:4222"]))
        self.assertEqual(proto.servers_discovered(), [])
        received(proto, info(connect_urls=["five:4222"]))
        self.assertEqual({server.host for server in proto.pool.servers}, {"one", "two", "three", "five"})
        received(proto, info(connect_urls=[]))
        self.assertEqual(len(proto.pool.servers), 4)

    def test_lame_duck(self) -> None:
        """A server in lame duck mode says so by INFO."""
        (event,) = received(connected(), info(ldm=True))
        self.assertTrue(event.body.ldm)

    def test_broken_info_is_reported(self) -> None:
        """A later INFO that cannot be read is an error event; connection and limits stay as they are."""
        proto = connected()
        proto.subscribe("a", sid=1)
        for text in (b"null", b"{bad", b'{"max_payload":"x"}', b"[" * 1000, b'{"connect_urls":5}'):
            events = received(proto, b"INFO " + text + b"\r\n" + msg(b"a", 1, b"hi"))
            self.assertEqual(types(events), ["ERROR", "MSG"])
            self.assertIsInstance(events[0].body, errors.InvalidInfoError)
        self.assertEqual((proto.state, proto.max_payload), (S.CONNECTED, 1_048_576))

    def test_malformed_servers_do_no_harm(self) -> None:
        """Nonsense among the servers of an INFO is left out; what is right among them joins."""
        proto = connected()
        nonsense = [
            "",
            ":",
            "x:99999",
            "a b:1",
            "a\r\nb:1",
            "http://x",
            "[::1",
            "\ud800:1",
            "x:-1",
            "x:1:2",
            "\0",
            "user:pass@x:1",
            "x" * 5000 + ":1",
        ]
        self.assertEqual(types(received(proto, info(connect_urls=[*nonsense, "good:4222"]))), ["INFO"])
        self.assertEqual([server.host for server in proto.servers_discovered()], ["good"])


class EndTests(SynchronousTestCase):
    """How a connection ends, and what comes after."""

    def test_reasons(self) -> None:
        """CLOSED says who ended the connection and why, once."""
        cause = OSError("gone")
        for name, reason, arguments in (
            ("receive_eof_from_transport", CloseReason.TRANSPORT, (cause,)),
            ("receive_eof_from_server", CloseReason.SERVER, (cause,)),
            ("receive_eof_from_client", CloseReason.CLIENT, ()),
        ):
            proto = connected()
            getattr(proto, name)(*arguments)
            end = closed(proto.events_received())
            self.assertEqual((end.reason, end.error), (reason, cause if arguments else None))
            proto.receive_eof_from_transport()
            proto.receive_eof_from_server()
            proto.receive_eof_from_client()
            self.assertEqual(proto.events_received(), [])

    def test_walk_over_the_pool(self) -> None:
        """A lost server is tried last; servers that do not answer are left one after another until none is left."""
        proto = connected(max_reconnect_attempts=1)
        hosts = []
        for _ in range(20):
            proto.receive_eof_from_transport()
            try:
                hosts.append(proto.select_server().host)
            except errors.ConnectionServerPoolEmpty:
                break
        self.assertEqual(hosts, ["two", "three", "one", "two", "three"])
        self.assertIs(proto.state, S.CLOSED)
        self.assertRaises(errors.ConnectionServerPoolEmpty, proto.select_server)

    def test_own_end_blames_nobody(self) -> None:
        """When the client itself ends connections, no server leaves the pool for it."""
        proto = new(max_reconnect_attempts=0)
        for _ in range(10):
            proto.select_server()
            proto.receive_eof_from_client()
        self.assertEqual(([server.attempts for server in proto.pool.servers], len(proto.pool.servers)), ([0, 0, 0], 3))

    def test_same_auth_error_twice(self) -> None:
        """The same authentication error twice from a server takes it out of the pool."""
        proto = new(servers="nats://one")
        for _ in range(2):
            proto.select_server()
            received(proto, info())
            proto.connect(), proto.ping()
            received(proto, b"-ERR 'Authorization Violation'\r\n")
            proto.receive_eof_from_transport()
        self.assertRaises(errors.ConnectionServerPoolEmpty, proto.select_server)

    def test_attempts_start_anew_when_stable(self) -> None:
        """Attempts are forgotten when a connection has stayed up, and not before."""
        proto = new(servers="nats://one")
        proto.select_server()
        proto.receive_eof_from_transport()
        server = proto.select_server()
        greet(proto)
        self.assertEqual(server.attempts, 1)
        proto.connection_is_stable()
        self.assertEqual(server.attempts, 0)

    def test_events_of_the_last_connection(self) -> None:
        """What was not taken of a connection's events is gone when the next begins."""
        proto = connected()
        received(proto, b"")
        proto.receive_data_from_server(b"-ERR 'x'\r\n")
        proto.receive_eof_from_transport()
        proto.select_server()
        self.assertEqual(proto.events_received(), [])

    def test_any_buffer_may_be_fed(self) -> None:
        """Data may be bytes, bytearray or memoryview; what the caller does with a buffer later has no effect."""
        proto = connected()
        proto.subscribe("a", sid=1)
        buffer = bytearray(msg(b"a", 1, b"x" * 3000))
        proto.receive_data_from_server(memoryview(buffer)[:2000])
        rest = bytes(buffer[2000:])
        buffer[:] = bytes(len(buffer))
        proto.receive_data_from_server(bytearray(rest))
        (message,) = proto.events_received()
        self.assertEqual(message.body.data, b"x" * 3000)

    def test_reprs(self) -> None:
        """Events, messages and records show themselves in one line, without their payload."""
        proto = connected()
        proto.subscribe("a", sid=1)
        proto.unsubscribe(1, 1)
        events = received(proto, msg(b"a\xff", 1, b"secret", b"r\r"))
        proto.receive_eof_from_transport()
        events += proto.events_received()
        for event in events:
            self.assertTrue(repr(event).isprintable())
            self.assertNotIn("secret", repr(event))
