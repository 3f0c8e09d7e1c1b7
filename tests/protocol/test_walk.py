"""The walk: how a program uses the protocol core, with a list of bytes in the place of a transport."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import ConnectionServerPoolEmpty
from pynats_twisted.protocol import ClientOptions, ConnectionProtocol, ConnectionState, EventType

from .wire import Command, read_commands


class WalkTests(SynchronousTestCase):
    """From the first server to the end of the last, call by call."""

    def test_walk(self) -> None:
        """Select a server, connect, publish, subscribe, get a message, unsubscribe, and go on with the next server after the end."""
        from_server = [
            b'INFO {"server_id":"S1","proto":1,"headers":true,"max_payload":100}\r\nPING\r\n',
            b"PONG\r\n",
            b"MSG foo 1 bar 5\r\nhel",
            b"lo\r\nPING\r\nHMSG foo 1 18 20\r\nNATS/1.0\r\nA: 1\r\n\r\nhi\r\n",
        ]
        sent: list[bytes] = []

        proto = ConnectionProtocol(ClientOptions(servers="nats://one:4222,nats://two:4223", shuffle_servers=False))
        server = proto.select_server()
        self.assertEqual((server.host, server.port), ("one", 4222))

        proto.receive_data_from_server(from_server.pop(0))
        sent.append(proto.data_to_send())
        self.assertEqual(sent, [b"PONG\r\n"])
        (event,) = proto.events_received()
        self.assertEqual(event, EventType.CONNECT_REQUEST)
        sent.append(proto.connect())
        sent.append(proto.ping())

        proto.receive_data_from_server(from_server.pop(0))
        events = proto.events_received()
        self.assertEqual(events, [EventType.CONNECTED, EventType.PONG])
        self.assertIs(proto.state, ConnectionState.CONNECTED)

        sent.append(proto.publish("foo", reply="", payload=b"", headers={}))
        sent.append(proto.publish("foo", reply="bar", payload=b"hi", headers={"A": "1"}))
        sent.append(proto.subscribe("foo", queue="", sid=1))

        received = []
        for data in from_server:
            proto.receive_data_from_server(data)
            sent.append(proto.data_to_send())
            for event in proto.events_received():
                self.assertTrue(event == EventType.MSG and event.type is EventType.MSG)
                received.append((event.body.subject, event.body.reply, event.body.data, dict(event.body.headers)))
        self.assertEqual(received, [("foo", "bar", b"hello", {}), ("foo", "", b"hi", {"A": "1"})])

        sent.append(proto.unsubscribe(1, limit=0))
        sent.append(proto.subscribe("foo", queue="q", sid=2))
        sent.append(proto.unsubscribe("foo", limit=3))
        self.assertEqual(
            [command.name for command in read_commands(b"".join(sent))],
            ["PONG", "CONNECT", "PING", "PUB", "HPUB", "SUB", "PONG", "UNSUB", "SUB", "UNSUB"],
        )
        self.assertEqual(
            read_commands(b"".join(sent))[3:],
            [
                Command("PUB", b"foo"),
                Command("HPUB", b"foo", b"bar", headers=((b"A", b"1"),), payload=b"hi"),
                Command("SUB", b"foo", sid=1),
                Command("PONG"),
                Command("UNSUB", sid=1),
                Command("SUB", b"foo", queue=b"q", sid=2),
                Command("UNSUB", sid=2, limit=3),
            ],
        )  # fmt: skip

        proto.receive_eof_from_transport()
        (event,) = proto.events_received()
        self.assertEqual(event, EventType.CLOSED)
        server = proto.select_server()
        self.assertEqual((server.host, server.port), ("two", 4223))
        proto.receive_data_from_server(b"INFO {}\r\n")
        proto.connect()
        proto.ping()
        proto.receive_data_from_server(b"PONG\r\n")
        self.assertEqual(proto.resubscribe(), b"SUB foo q 2\r\nUNSUB 2 3\r\n")

    def test_walk_of_a_refused_client(self) -> None:
        """What a server says instead of the PONG is an ERROR whose body has the message, and then CLOSED."""
        proto = ConnectionProtocol(ClientOptions())
        proto.select_server()
        proto.receive_data_from_server(b"INFO {}\r\n")
        proto.events_received()
        proto.connect()
        proto.ping()
        proto.receive_data_from_server(b"-ERR 'Authorization Violation'\r\n")
        proto.receive_eof_from_transport()
        error, closed = proto.events_received()
        self.assertEqual((error, error.body.message), (EventType.ERROR, "Authorization Violation"))
        self.assertEqual((closed, closed.body.error), (EventType.CLOSED, error.body))

    def test_walk_to_the_end_of_the_pool(self) -> None:
        """When no server can be reached, selecting one ends with ConnectionServerPoolEmpty."""
        proto = ConnectionProtocol(ClientOptions(servers="one,two", max_reconnect_attempts=2))
        attempts = 0
        with self.assertRaises(ConnectionServerPoolEmpty):
            while True:
                proto.select_server()
                attempts += 1
                proto.receive_eof_from_transport()
        self.assertEqual(attempts, 6)
