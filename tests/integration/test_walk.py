"""The walk of the protocol core, over plain blocking sockets, with a real server."""

from __future__ import annotations

import socket
import ssl

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.protocol import ClientOptions, ConnectionProtocol, ConnectionState, EventType
from pynats_twisted.testing import ServerProcess

from .sockets import TIMEOUT, SocketConnection


class WalkTests(SynchronousTestCase):
    """From a server's INFO to its end, without a reactor."""

    def test_walk(self) -> None:
        """The calls in their order, with nothing but a socket around them, publish and get messages of a real server."""
        with ServerProcess.running() as running:
            proto = ConnectionProtocol(ClientOptions(servers=running.url, name="walk"))
            server = proto.select_server()
            sock = socket.create_connection((server.host, server.port), timeout=TIMEOUT)
            self.addCleanup(sock.close)

            data = sock.recv(4096)
            proto.receive_data_from_server(data)
            sock.sendall(proto.data_to_send())
            (event,) = proto.events_received()
            self.assertEqual(event, EventType.CONNECT_REQUEST)

            sock.sendall(proto.connect())
            sock.sendall(proto.ping())
            events = []
            while EventType.CONNECTED not in events:
                proto.receive_data_from_server(sock.recv(4096))
                sock.sendall(proto.data_to_send())
                events += proto.events_received()
            self.assertNotIn(EventType.ERROR, events)

            sock.sendall(proto.subscribe("foo", queue="", sid=1))
            sock.sendall(proto.publish("foo", reply="", payload=b"", headers={}))
            sock.sendall(proto.publish("foo", reply="bar", payload=b"hello", headers={"A": ["1", "2"]}))
            sock.sendall(proto.unsubscribe(1, limit=0))
            sock.sendall(proto.publish("foo", payload=b"too late"))
            sock.sendall(proto.ping())
            messages = []
            while proto.outstanding_pings:
                proto.receive_data_from_server(sock.recv(4096))
                sock.sendall(proto.data_to_send())
                messages += [event.body for event in proto.events_received() if event == EventType.MSG]
            # UNSUB was made before the messages came: the core has dropped them, and counted that.
            self.assertEqual((messages, proto.unknown_sid_msgs), ([], 2))

            sock.sendall(proto.subscribe("foo", sid=2) + proto.unsubscribe("foo", limit=2))
            for payload in (b"1", b"2", b"3"):
                sock.sendall(proto.publish("foo", reply="bar", payload=payload, headers={"A": ["1", "2"]}))
            sock.sendall(proto.ping())
            while proto.outstanding_pings:
                proto.receive_data_from_server(sock.recv(4096))
                sock.sendall(proto.data_to_send())
                messages += [event.body for event in proto.events_received() if event == EventType.MSG]
            found = [(msg.subject, msg.reply, msg.data, msg.headers.get_all("A")) for msg in messages]
            self.assertEqual(found, [("foo", "bar", b"1", ["1", "2"]), ("foo", "bar", b"2", ["1", "2"])])

            running.stop()
            while sock.recv(4096):
                pass
            proto.receive_eof_from_transport()
            self.assertEqual(proto.events_received()[-1], EventType.CLOSED)
            self.assertIs(proto.select_server(), server)

    def test_walk_with_tls(self) -> None:
        """TLS starts between INFO and CONNECT, by the standard library."""
        with ServerProcess.running(tls=True) as running:
            proto = ConnectionProtocol(ClientOptions(servers=f"tls://localhost:{running.port}", tls_ca_file=running.ca_file))
            with SocketConnection(proto) as connection:
                connection.receive()
                self.assertTrue(proto.tls_upgrade_due)
                assert proto.current_server is not None
                context = ssl.create_default_context(cafile=str(running.ca_file))
                connection.sock = context.wrap_socket(connection.sock, server_hostname=proto.current_server.tls_name)
                proto.tls_established()
                connection.sock.sendall(proto.connect() + proto.ping())
                events = connection.wait_for(lambda events: EventType.CONNECTED in events)
                self.assertNotIn(EventType.ERROR, events)
                connection.sock.sendall(proto.subscribe("a", sid=1) + proto.publish("a", payload=b"x" * 100_000))
                message = connection.flush()[0].body
                self.assertEqual(message.data, b"x" * 100_000)

    def test_refused(self) -> None:
        """A server that refuses the credentials says so before it ends the connection."""
        with ServerProcess.running(user="u", password="right") as running:
            proto = ConnectionProtocol(ClientOptions(servers=running.url, user="u", password="wrong"))
            with SocketConnection(proto) as connection:
                connection.receive()
                connection.sock.sendall(proto.connect() + proto.ping())
                events = connection.wait_for(lambda events: False)
                self.assertIsInstance(events[0].body, errors.AuthorizationViolationError)
                self.assertEqual((events[-1], proto.state), (EventType.CLOSED, ConnectionState.CLOSED))

    def test_limits_over_a_restart(self) -> None:
        """After a restart the server is told what is left of a limit, and keeps to it."""
        with ServerProcess.running() as running:
            proto = ConnectionProtocol(ClientOptions(servers=running.url))
            with SocketConnection(proto) as connection:
                connection.handshake()
                connection.sock.sendall(proto.subscribe("a", sid=1) + proto.unsubscribe(1, limit=5))
                connection.sock.sendall(proto.publish("a") * 2)
                self.assertEqual(connection.flush().count(EventType.MSG), 2)
                running.restart(kill=True)
                self.assertIn(EventType.CLOSED, connection.wait_for(lambda events: False))
            with SocketConnection(proto) as connection:
                connection.handshake()
                connection.sock.sendall(proto.resubscribe() + proto.publish("a") * 9)
                events = connection.flush()
                self.assertEqual((events.count(EventType.MSG), events.count(EventType.UNSUBSCRIBED)), (3, 1))
                self.assertEqual(proto.unknown_sid_msgs, 0)

    def test_max_payload_is_that_of_the_server(self) -> None:
        """Headers and payload of exactly ``max_payload`` bytes pass through the server; one more is refused before it is sent."""
        with ServerProcess.running({"max_payload": 1000}) as running:
            proto = ConnectionProtocol(ClientOptions(servers=running.url))
            with SocketConnection(proto) as connection:
                connection.handshake()
                self.assertEqual(proto.max_payload, 1000)
                connection.sock.sendall(proto.subscribe("a", sid=1))
                for headers, room in (({}, 1000), ({"A": "1"}, 982)):
                    connection.sock.sendall(proto.publish("a", payload=b"x" * room, headers=headers))
                    self.assertRaises(errors.MaxPayloadExceededError, proto.publish, "a", payload=b"x" * (room + 1), headers=headers)
                self.assertEqual([event.type for event in connection.flush()], [EventType.MSG, EventType.MSG, EventType.PONG])

    def test_commands_are_understood(self) -> None:
        """A pedantic server finds nothing wrong with what is sent: odd but valid subjects, queues, replies and headers."""
        with ServerProcess.running() as running:
            proto = ConnectionProtocol(ClientOptions(servers=running.url, pedantic=True, verbose=True))
            with SocketConnection(proto) as connection:
                connection.handshake()
                connection.sock.sendall(proto.subscribe(">", sid=1) + proto.subscribe("*.b.>", "é*>", sid=2))
                subjects = ["a", "é.日本", "a*b", "a>b.c>", "$x", "a:b/c;d", "\xa0", "x" * 1500]
                for subject in subjects:
                    connection.sock.sendall(proto.publish(subject, subject, b"\r\nPING\r\n", {"!#~": ["", "ü\t"]}))
                events = connection.flush()
                self.assertNotIn(EventType.ERROR, events)
                messages = [event.body for event in events if event == EventType.MSG]
                self.assertEqual([(msg.subject, msg.reply) for msg in messages], [(subject, subject) for subject in subjects])
                self.assertEqual(
                    {(msg.data, tuple(msg.headers.multi_items())) for msg in messages}, {(b"\r\nPING\r\n", (("!#~", ""), ("!#~", "ü")))}
                )
