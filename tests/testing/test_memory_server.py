"""The server in memory: what tests see of it, its faults, its real port; and a client of it in one line."""

from __future__ import annotations

import json
import unittest
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pynats_twisted import connect, errors
from pynats_twisted.client.status import Reconnected, ServerErrorEvent
from pynats_twisted.testing import InMemoryServer, MemoryNetwork, connected_client
from pynats_twisted.testing.server_core import ServerCore
from pynats_twisted.testing.server_frames import BrokenFrame, ConnectFrame, PingFrame, PublishFrame, SubscribeFrame, UnsubscribeFrame
from pynats_twisted.testing.server_parser import ClientParser


class ParserTests(SynchronousTestCase):
    """Bytes to frames."""

    STREAM = (
        b'CONNECT {"name":"n"}\r\nPING\r\nSUB a.> q 1\r\nPUB a r 5\r\nab\r\nc\r\n'
        b"HPUB b 18 20\r\nNATS/1.0\r\nA: 1\r\n\r\nhi\r\nPUB c 0\r\n\r\nUNSUB 1 5\r\nZ"
    )

    def frames(self, *pieces: bytes) -> list[Any]:
        parser = ClientParser(client_id=7)
        found = []
        for piece in pieces:
            parser.feed(piece)
            while (frame := parser.next_frame()) is not None:
                found.append(frame)
        return found

    def test_frames(self) -> None:
        """Every operation becomes its frame, and the first wrong byte the last one."""
        expected = [
            ConnectFrame(client_id=7, options={"name": "n"}),
            PingFrame(client_id=7),
            SubscribeFrame(client_id=7, subject="a.>", queue="q", sid="1"),
            PublishFrame(client_id=7, subject="a", reply="r", payload=b"ab\r\nc"),
            PublishFrame(client_id=7, subject="b", header_block=b"NATS/1.0\r\nA: 1\r\n\r\n", payload=b"hi"),
            PublishFrame(client_id=7, subject="c", payload=b""),
            UnsubscribeFrame(client_id=7, sid="1", limit=5),
            BrokenFrame(client_id=7, error="Unknown Protocol Operation", start=b"Z"),
        ]
        frames = self.frames(self.STREAM)
        self.assertEqual(frames, expected)
        self.assertEqual(frames[4].headers["A"], "1")

    def test_every_split(self) -> None:
        """Wherever the bytes are split, the frames are the same."""
        whole = self.frames(self.STREAM)
        for split in range(len(self.STREAM)):
            self.assertEqual(self.frames(self.STREAM[:split], self.STREAM[split:]), whole, split)
        self.assertEqual(self.frames(*(self.STREAM[at : at + 1] for at in range(len(self.STREAM)))), whole)

    def test_nothing_comes_behind_a_broken_frame(self) -> None:
        """After an error the parser is done."""
        self.assertEqual(len(self.frames(b"ZOO\r\n", b"PING\r\n")), 1)

    def test_credentials_stay_inside(self) -> None:
        """The repr of a CONNECT shows none of it, also where it could not be read."""
        frames = self.frames(b'CONNECT {"pass":"s3cret"}\r\nCONNECT {"pass":"s3cret\r\n')
        self.assertNotIn("s3cret", repr(frames))


class SansIOTests(SynchronousTestCase):
    """The state machine alone, without Twisted's transports and without a clock."""

    def test_bytes_in_bytes_out(self) -> None:
        """A session takes bytes and gives bytes."""
        server = ServerCore()
        session = server.new_session()
        session.start()
        self.assertTrue(session.data_to_send().startswith(b"INFO {"))
        session.receive(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\nPING\r\n')
        self.assertEqual(session.data_to_send(), b"MSG a 1 2\r\nhi\r\nPONG\r\n")
        session.receive(b"ZOO\r\n")
        self.assertEqual((session.data_to_send(), session.closing), (b"-ERR 'Unknown Protocol Operation'\r\n", True))
        session.connection_lost()
        self.assertEqual((server.sessions, server.subscriptions()), ([], []))

    def test_ways_to_authenticate(self) -> None:
        """Two ways at once, half a way, or a wrong entry are refused."""
        for options in ({"user": "a"}, {"token": "t", "user": "a", "password": "b"}, {"users": [{"user": "a"}]}):
            self.assertRaises(errors.ConfigurationError, ServerCore, **options)
        users = [{"user": "a", "password": "b", "permissions": {"publsh": "x"}}]
        self.assertIn("publsh", str(self.assertRaises(errors.ConfigurationError, ServerCore, users=users)))

    def test_queue_member_is_chosen_by_the_given_source(self) -> None:
        """Who chooses the member of a queue group can be given: here always the last."""

        class Last:
            def choice(self, members: list[Any]) -> Any:
                return members[-1]

        server = ServerCore(rng=Last())
        session = server.new_session()
        session.receive(b'CONNECT {"verbose":false}\r\nSUB a q 1\r\nSUB a q 2\r\n' + b"PUB a 0\r\n\r\n" * 5)
        self.assertEqual(session.data_to_send(), b"MSG a 2 0\r\n\r\n" * 5)

    def test_bytes_received(self) -> None:
        """What came from a client is counted, also where it is no whole frame yet."""
        server = ServerCore()
        session = server.new_session()
        self.assertEqual(session.bytes_received, 0)
        session.receive(b"PING\r\nPU")
        session.receive(b"B")
        self.assertEqual((session.bytes_received, len(server.frames())), (9, 1))

    def test_info(self) -> None:
        """A test can put keys into INFO, in the place of the server's own and besides them; a single INFO may say another thing again."""
        server = ServerCore(name="n")
        server.info.update(version="2.9.0", tls_available=True)
        session = server.new_session()
        session.start()
        info = json.loads(session.data_to_send().removeprefix(b"INFO "))
        self.assertEqual((info["version"], info["tls_available"], info["server_name"]), ("2.9.0", True, "n"))
        self.assertIn(b'"version":"2.12.9"', server.info_line(session, version="2.12.9"))


class ObservationTests(SynchronousTestCase):
    """What a test sees."""

    def test_what_was_published(self) -> None:
        """Publishes are seen in order, by pattern, with headers and reply."""
        client, server, network = connected_client(self, name="worker")
        client.publish("a.1", b"x", headers={"H": "v"})
        client.publish("b", b"y", reply="r")
        network.advance()
        seen = [(frame.subject, frame.payload, frame.reply) for frame in server.published()]
        self.assertEqual(seen, [("a.1", b"x", ""), ("b", b"y", "r")])
        self.assertEqual([frame.headers["H"] for frame in server.published("a.*")], ["v"])
        self.assertEqual([frame.name for frame in server.frames(ConnectFrame)], ["worker"])
        server.forget_frames()
        self.assertEqual(server.frames(), [])

    def test_what_is_subscribed(self) -> None:
        """Subscriptions of now are seen; what was sent is seen in order."""
        client, server, network = connected_client(self)
        sub = client.subscribe("a", queue="q")
        client.subscribe("b")
        network.advance()
        self.assertEqual([(each.subject, each.queue) for each in server.subscriptions()], [("a", "q"), ("b", "")])
        sub.unsubscribe()
        network.advance()
        self.assertEqual(server.subscriptions("a"), [])
        self.assertEqual([type(frame).__name__ for frame in server.frames()[2:]], ["SubscribeFrame", "SubscribeFrame", "UnsubscribeFrame"])

    def test_server_publishes_and_responds(self) -> None:
        """A test can publish by itself, and be the responder, with bytes or a function; None is no reply."""
        client, server, network = connected_client(self)
        sub = network.run(client.subscribe("a").confirmed())
        self.assertTrue(server.publish("a", b"x", headers={"H": "v"}))
        self.assertFalse(server.publish("nobody"))
        self.assertEqual(network.run(sub.next()).headers["H"], "v")
        server.respond("svc.*", b"fixed")
        self.assertEqual(network.run(client.request("svc.a")).data, b"fixed")
        server.respond("svc.*", lambda frame: frame.subject.encode() if frame.payload else None)
        self.assertEqual(network.run(client.request("svc.a", b"1")).data, b"svc.a")
        self.assertRaises(errors.RequestTimeoutError, network.run, client.request("svc.a"))

    def test_interceptor(self) -> None:
        """A test can deal with frames in the place of the server."""
        client, server, network = connected_client(self)
        server.interceptor = lambda session, frame: isinstance(frame, PublishFrame) and session.send(b"-ERR 'Odd'\r\n") is None
        told: list[Any] = []
        client.add_listener(told.append)
        sub = network.run(client.subscribe("a").confirmed())
        client.publish("a")
        network.advance()
        self.assertEqual(sub.pending_msgs, 0)
        self.assertEqual([str(event.error) for event in told if isinstance(event, ServerErrorEvent)], ["Odd"])

    def test_anything_can_be_said(self) -> None:
        """A greeting in the place of INFO, bytes and errors to all clients."""
        network = MemoryNetwork()
        server = network.server("a:4222")
        server.greeting = b"PONG\r\n"
        error = self.assertRaises(errors.NoServersError, network.run, connect(network, server.url))
        self.assertIsInstance(error.reasons[0][1], errors.ProtocolError)
        server.greeting = None
        client, _, _ = connected_client(self, network=network, servers=server.url)
        server.error("Stale Connection", close=True)
        network.advance(1)
        server.send(b"garbage\r\n")
        network.advance(1)
        self.assertEqual(client.stats.reconnects, 2)


class _Case:
    """A test case that only keeps its cleanups."""

    def __init__(self) -> None:
        self.cleanups: list[Any] = []

    def addCleanup(self, function: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        self.cleanups.append(lambda: function(*args, **kwargs))

    def clean_up(self) -> None:
        while self.cleanups:
            self.cleanups.pop()()


class ConnectedClientTests(SynchronousTestCase):
    """The client in one line, and the check at the end."""

    def test_is_past_the_handshake(self) -> None:
        """The client is connected, with the options that were given, and closed in the end."""
        case = _Case()
        client, server, network = connected_client(case, name="n", server_options={"max_payload": 7})
        self.assertEqual((client.is_connected, client.max_payload, server.sessions[0].name), (True, 7, "n"))
        case.clean_up()
        self.assertEqual((client.status.value, network.leftovers()), ("closed", []))

    def test_works_with_unittest(self) -> None:
        """The standard library's test cases serve as well."""

        class Case(unittest.TestCase):
            def test(self) -> None:
                client, server, network = connected_client(self)
                server.respond("a", b"b")
                self.assertEqual(network.run(client.request("a")).data, b"b")

        result = unittest.TestResult()
        Case("test").run(result)
        self.assertEqual((result.testsRun, result.errors, result.failures), (1, [], []))

    def test_delayed_call_that_is_left(self) -> None:
        """A delayed call of the program under test fails the test."""
        case = _Case()
        _, _, network = connected_client(case)
        network.callLater(5, lambda: None)
        self.assertIn("a delayed call", str(self.assertRaises(AssertionError, case.clean_up)))

    def test_somebody_who_waits(self) -> None:
        """A coroutine that goes on behind the end of its client fails the test, as one that failed does."""
        case = _Case()
        _, _, network = connected_client(case)
        network.start(Deferred())
        self.assertIn("somebody waits", str(self.assertRaises(AssertionError, case.clean_up)))
        _, _, network = connected_client(case)

        async def failing() -> None:
            raise KeyError("x")

        network.start(failing())
        self.assertIn("KeyError", str(self.assertRaises(AssertionError, case.clean_up)))

    def test_two_clients_on_one_network(self) -> None:
        """Several clients of one network are cleaned up one by one; the last checks what is left."""
        case = _Case()
        one, server, network = connected_client(case)
        two, same, _ = connected_client(case, network=network)
        self.assertIs(server, same)
        sub = network.run(one.subscribe("a").confirmed())
        two.publish("a", b"x")
        self.assertEqual(network.run(sub.next()).data, b"x")
        case.clean_up()

    def test_server_that_does_not_read_any_more(self) -> None:
        """The client is cleaned up also when its server has frozen."""
        case = _Case()
        client, server, network = connected_client(case)
        server.pause()
        client.publish("a", b"x" * 1_000_000)
        network.advance()
        case.clean_up()
        self.assertEqual(client.status.value, "closed")


class RealPortTests(TestCase):
    """The same server on a socket."""

    timeout = 60

    async def test_client_over_a_socket(self) -> None:
        """It listens on a real port, where a client under a real reactor finds it."""
        from twisted.internet import reactor

        clock: Any = reactor
        server = InMemoryServer(clock)
        port = clock.listenTCP(0, server, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        client = await connect(clock, f"nats://127.0.0.1:{port.getHost().port}", retry_on_failed_connect=True, request_timeout=30.0)
        self.addCleanup(client.close)
        await client.subscribe("echo", lambda msg: msg.respond(msg.data))
        self.assertEqual((await client.request("echo", b"x" * 200_000)).data, b"x" * 200_000)
        back: Deferred[None] = Deferred()
        client.add_listener(lambda event: back.callback(None) if isinstance(event, Reconnected) else None)
        server.restart()
        await back
        self.assertEqual((await client.request("echo", b"again")).data, b"again")
