"""Responses whose body is written bit by bit."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.http_channel import LINGER, MAX_AHEAD, STALL
from pynats_twisted.bridge.http_message import HTTPRequest, RequestHeaderMap, ResponseStream
from pynats_twisted.bridge.problem import Response
from tests.bridge.http_support import Harness, Peer


class Streamer:
    """A handler that begins to answer and goes on later."""

    name = "streamer"
    max_body = 100

    def __init__(self) -> None:
        self.streams: list[ResponseStream] = []
        self.gone = 0
        self.responses: list[int] = []

    def admit(self, request: HTTPRequest) -> Response | None:
        return None

    def handle(self, request: HTTPRequest) -> None:
        stream = request.stream(Response(200, [(b"Content-Type", b"text/event-stream")], b"first\n"))
        assert stream is not None
        self.streams.append(stream)
        request.on_gone = self.left

    def left(self) -> None:
        self.gone += 1

    def preflight(self, headers: RequestHeaderMap) -> Response | None:
        return None

    def responding(self, request: HTTPRequest, response: Response) -> None:
        self.responses.append(response.status)


class StreamTests(SynchronousTestCase):
    """:class:`ResponseStream`."""

    def setUp(self) -> None:
        self.harness = Harness(request_timeout=5.0, idle_timeout=10.0)
        self.handler = Streamer()
        self.harness.listener.add("/events", ["GET", "POST"], self.handler)
        self.peer = self.harness.peer()
        self.peer.request("GET", "/events")
        (self.stream,) = self.handler.streams

    def sent(self, peer: Peer | None = None) -> bytes:
        transport = (peer or self.peer).transport
        data: bytes = transport.value()
        transport.clear()
        return data

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.harness.reactor.advance(1)

    def test_head(self) -> None:
        """The head has no length: the connection ends with the body. The handler sees the response once."""
        head, _, body = self.sent().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertNotIn(b"Content-Length", head)
        self.assertIn(b"\r\nConnection: close", head)
        self.assertEqual((body, self.handler.responses), (b"first\n", [200]))

    def test_goes_on(self) -> None:
        """What is written goes out at once, however long after the request."""
        self.sent()
        self.pass_time(300)
        self.stream.write(b"second\n")
        self.assertEqual(self.sent(), b"second\n")
        self.assertFalse(self.peer.is_closed or self.peer.transport.disconnected)

    def test_end(self) -> None:
        """Ending it closes the connection; nothing is written after that, and nobody is told that the client has left."""
        self.stream.end()
        self.assertTrue(self.peer.is_closed)
        self.sent()
        self.stream.write(b"late")
        self.stream.end()
        self.assertEqual((self.sent(), self.stream.ended), (b"", True))
        self.peer.disconnect()
        self.assertEqual(self.handler.gone, 0)

    def test_client_leaves(self) -> None:
        """When the client leaves the handler is told, and writing does nothing."""
        self.sent()
        self.peer.disconnect()
        self.assertEqual((self.handler.gone, self.stream.ended), (1, True))
        self.stream.write(b"late")
        self.stream.end()
        self.assertEqual(self.sent(), b"")

    def test_client_that_does_not_read(self) -> None:
        """A writer can see it, and after 30 seconds the client is cut off; one that reads in between is not."""
        self.peer.protocol.pauseProducing()
        self.assertTrue(self.stream.is_blocked)
        self.pass_time(STALL - 2)
        self.peer.protocol.resumeProducing()
        self.assertFalse(self.stream.is_blocked)
        self.pass_time(STALL + 2)
        self.assertFalse(self.peer.transport.disconnected)
        self.peer.protocol.pauseProducing()
        self.pass_time(STALL + 2)
        self.assertTrue(self.peer.transport.disconnected)

    def test_end_of_a_client_that_does_not_read(self) -> None:
        """A client that does not take the rest keeps its connection for two seconds."""
        self.peer.protocol.pauseProducing()
        self.stream.end()
        self.pass_time(LINGER + 2)
        self.assertTrue(self.peer.transport.disconnected)

    def test_client_that_goes_on_sending(self) -> None:
        """What a client sends meanwhile is bounded: then it is cut off."""
        self.peer.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(MAX_AHEAD // 4096 + 2):
            self.peer.send(b"x" * 4096)
        self.assertTrue(self.peer.transport.disconnected)
        self.assertEqual(len(self.handler.streams), 1)

    def test_already_answered(self) -> None:
        """A request whose client has gone has no stream."""
        requests: list[HTTPRequest] = []
        self.patch(self.handler, "handle", requests.append)
        peer = self.harness.peer()
        peer.request("GET", "/events")
        peer.disconnect()
        self.assertIsNone(requests[0].stream(Response(200)))

    def test_stop_of_the_listener(self) -> None:
        """A listener that stops leaves streams to those who write them, and has stopped when they have ended."""
        stopped = self.harness.listener.stop()
        self.pass_time(5)
        self.assertNoResult(stopped)
        self.stream.end()
        self.peer.disconnect()
        self.successResultOf(stopped)

    def test_body_of_the_request(self) -> None:
        """The room that the request's body took is given back when the stream begins."""
        for _ in range(3):
            self.harness.peer().request("POST", "/events", body=b"x" * 100)
        self.assertEqual(self.harness.listener._body_bytes, 0)
