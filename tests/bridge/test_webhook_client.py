"""The HTTP client of webhooks, over memory transports and a clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.webhook_client import IDLE_TIMEOUT, Answer, WebhookClient
from tests.bridge.http_support import TCPTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Link:
    """One connection, seen from the target."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.transport = TCPTransport(peerAddress=IPv4Address("TCP", "192.0.2.7", 80))
        protocol.makeConnection(self.transport)

    def sent(self) -> bytes:
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def answer(self, data: bytes = OK) -> None:
        self.protocol.dataReceived(data)

    def lose(self, reason: Exception | None = None) -> None:
        self.protocol.connectionLost(Failure(reason or ConnectionDone()))


class Endpoint:
    """An endpoint whose connections a test makes."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, Deferred[Any]]] = []
        self.cancelled = 0

    def connect(self, factory: Any) -> Deferred[Any]:
        def cancel(_: object) -> None:
            self.cancelled += 1

        connecting: Deferred[Any] = Deferred(cancel)
        self.waiting.append((factory, connecting))
        return connecting

    def accept(self) -> Link:
        factory, connecting = self.waiting.pop(0)
        protocol = factory.buildProtocol(None)
        link = Link(protocol)
        connecting.callback(protocol)
        return link

    def refuse(self, reason: Exception) -> None:
        self.waiting.pop(0)[1].errback(reason)


class WebhookClientTests(SynchronousTestCase):
    """:class:`WebhookClient`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.refused: list[str] = []
        endpoint: Any = self.endpoint
        self.client = WebhookClient(
            self.clock, endpoint, timeout=20.0, connect_timeout=5.0, response_limit=100, refused=lambda: self.refused
        )

    def tearDown(self) -> None:
        self.client.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def served(self, answer: bytes = OK) -> Link:
        """A connection that has had one request, and is idle."""
        done = self.client.send(b"first")
        link = self.endpoint.accept()
        link.answer(answer)
        self.successResultOf(done)
        link.sent()
        return link

    def test_answers(self) -> None:
        """A request goes out as it is, and its answer comes back."""
        done = self.client.send(b"request")
        link = self.endpoint.accept()
        self.assertEqual(link.sent(), b"request")
        self.assertNoResult(done)
        link.answer(b"HTTP/1.1 503 X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.successResultOf(done), Answer(503, retry_after=7.0))

    def test_reuse(self) -> None:
        """The connection serves the next request, and is closed when there is none for a while."""
        link = self.served()
        done = self.client.send(b"second")
        self.assertEqual((link.sent(), self.endpoint.waiting), (b"second", []))
        link.answer()
        self.successResultOf(done)
        self.clock.advance(IDLE_TIMEOUT - 0.1)
        self.assertFalse(link.transport.disconnecting)
        self.clock.advance(0.2)
        self.clock.advance(0.2)
        self.assertTrue(link.transport.disconnecting)

    def test_stale_connection(self) -> None:
        """A request that meets a connection that the target is just closing goes over a new one, once, and does not fail."""
        link = self.served()
        done = self.client.send(b"second")
        link.lose(ConnectionLost())
        self.assertNoResult(done)
        fresh = self.endpoint.accept()
        self.assertEqual(fresh.sent(), b"second")
        fresh.lose(ConnectionLost())
        self.assertEqual(self.successResultOf(done).kind, "reset")

    def test_touched_connection(self) -> None:
        """A request whose response has begun is not sent again by itself."""
        link = self.served()
        done = self.client.send(b"second")
        link.answer(b"HTTP")
        link.lose()
        self.assertEqual(self.successResultOf(done).kind, "reset")
        self.assertEqual(self.endpoint.waiting, [])

    def test_unasked(self) -> None:
        """A target that speaks unasked loses its connection."""
        link = self.served()
        link.answer(b"HTTP/1.1 200 OK\r\n")
        self.assertTrue(link.transport.disconnected)

    def test_total_timeout(self) -> None:
        """A request ends after its time, however the target keeps the connection alive; a 2xx that had come counts."""
        for start, status in ((b"HTTP/1.1 500 X\r\n", 500), (b"HTTP/1.1 200 OK\r\n", 200), (b"", 0), (b"HTTP/1.1 103 X\r\n", 0)):
            done = self.client.send(b"x")
            link = self.endpoint.accept()
            if start:
                link.answer(start)
            for _ in range(19):
                self.clock.advance(1)
                if start:
                    link.answer(b"A: b\r\n")
            self.assertNoResult(done)
            self.clock.advance(1)
            found = self.successResultOf(done)
            self.assertEqual((found.status, found.kind, found.is_success), (status, "timeout", status == 200))
            self.assertTrue(link.transport.disconnected)
            link.lose()

    def test_connect_timeout(self) -> None:
        """Connecting has a time of its own."""
        done = self.client.send(b"x")
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(done), Answer(0, "no connection within 5 s", "connect"))
        self.assertEqual(self.endpoint.cancelled, 1)

    def test_no_connection(self) -> None:
        """Why there is no connection is told: refused, unknown name, private address."""
        for reason, kind in ((ConnectionRefusedError(), "connect"), (DNSLookupError("no such host"), "dns")):
            done = self.client.send(b"x")
            self.endpoint.refuse(reason)
            self.assertEqual(self.successResultOf(done).kind, kind)
        self.refused.append("10.0.0.1")
        done = self.client.send(b"x")
        self.endpoint.refuse(DNSLookupError("none left"))
        found = self.successResultOf(done)
        self.assertEqual(found.kind, "private-address")
        self.assertIn("10.0.0.1", found.error)

    def test_knock(self) -> None:
        """Whether the target takes connections is found out without sending anything; the next request goes over that connection."""
        knocked = self.client.knock()
        self.endpoint.refuse(ConnectionRefusedError())
        self.assertFalse(self.successResultOf(knocked))
        knocked = self.client.knock()
        link = self.endpoint.accept()
        self.assertTrue(self.successResultOf(knocked))
        self.assertEqual(link.sent(), b"")
        done = self.client.send(b"x")
        self.assertEqual(link.sent(), b"x")
        link.answer()
        self.successResultOf(done)

    def test_cancel(self) -> None:
        """A cancelled request cuts its connection, or the attempt to make one, and nothing is left behind."""
        connecting = self.client.send(b"x")
        connecting.cancel()
        self.failureResultOf(connecting)
        self.assertEqual(self.endpoint.cancelled, 1)
        self.endpoint.waiting.clear()
        running = self.client.send(b"x")
        link = self.endpoint.accept()
        running.cancel()
        self.failureResultOf(running)
        self.assertTrue(link.transport.disconnected)
        link.lose()

    def test_close(self) -> None:
        """Closing cuts everything, what was under way ends, what was connecting too, and nothing begins any more."""
        link = self.served()
        running = self.client.send(b"second")
        connecting = self.client.send(b"third")
        self.client.close()
        self.assertTrue(link.transport.disconnected)
        link.lose()
        for done in (running, connecting, self.client.send(b"fourth")):
            self.assertEqual(self.successResultOf(done).kind, "closed")
        self.assertEqual((self.endpoint.cancelled, len(self.endpoint.waiting)), (1, 1))
