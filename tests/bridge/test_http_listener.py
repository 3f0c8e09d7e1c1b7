"""The HTTP listener: routing, bounds, time limits, stopping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge import http
from pynats_twisted.bridge.http_channel import LINGER, MAX_AHEAD
from pynats_twisted.bridge.http_message import HTTPRequest, RequestHeaderMap
from pynats_twisted.bridge.problem import Response
from pynats_twisted.errors import ConfigurationError

from .http_support import Harness, Peer


class EchoHandler:
    """Answers with what it got, at once or when told."""

    def __init__(self, name: str = "echo", max_body: int = 1000, *, later: bool = False) -> None:
        self.name = name
        self.max_body = max_body
        self.later = later
        self.requests: list[HTTPRequest] = []
        self.answered: list[int] = []
        self.gone = 0
        self.refusal: Callable[[HTTPRequest], Response | None] = lambda request: None

    def admit(self, request: HTTPRequest) -> Response | None:
        return self.refusal(request)

    def handle(self, request: HTTPRequest) -> None:
        self.requests.append(request)

        def gone() -> None:
            self.gone += 1

        request.on_gone = gone
        if not self.later:
            self.answer(request)

    def answer(self, request: HTTPRequest, **extra: Any) -> None:
        request.respond(Response(200, [(b"Content-Type", b"text/plain")], request.body, **extra))

    def preflight(self, headers: RequestHeaderMap) -> Response | None:
        return None

    def responding(self, request: HTTPRequest, response: Response) -> None:
        self.answered.append(response.status)


class ListenerCase(SynchronousTestCase):
    """A listener with one echoing route."""

    def make(self, path: str = "/echo/{name}", methods: tuple[str, ...] = ("GET", "POST"), *, later: bool = False, **listen: Any) -> Peer:
        self.harness = Harness(**listen)
        self.handler = EchoHandler(later=later)
        self.harness.listener.add(path, methods, self.handler)
        return self.harness.peer()


class RoutingTests(ListenerCase):
    """Which route a request comes to."""

    def test_path_values_are_decoded_once(self) -> None:
        """A placeholder gets its segment decoded once; an encoded slash stays in it."""
        peer = self.make()
        peer.request("GET", "/echo/a%2Fb%252F%C3%A9?x=1&y")
        self.assertEqual(self.handler.requests[0].values, {"name": "a/b%2F\u00e9"})
        self.assertEqual(self.handler.requests[0].query, b"x=1&y")
        self.assertEqual(peer.response().status, 200)

    def test_unknown_path_is_404(self) -> None:
        """A path of no route gets 404, and the connection stays."""
        peer = self.make()
        for target in ("/", "/other", "/echo", "/echo/a/b", "/echo/a/"):
            peer.request("GET", target)
            answer = peer.response()
            self.assertEqual((answer.status, answer.kind), (404, "not-found"), target)
        self.assertFalse(peer.is_closed)

    def test_wrong_method_is_405_with_allow(self) -> None:
        """A method that the path does not take gets 405, and Allow says which ones it takes."""
        peer = self.make()
        peer.request("DELETE", "/echo/a")
        answer = peer.response()
        self.assertEqual((answer.status, answer.headers["allow"]), (405, ["GET, POST"]))

    def test_same_path_with_other_methods_may_be_another_route(self) -> None:
        """Two routes share a path when they have no method in common, and Allow names the methods of both."""
        peer = self.make()
        other = EchoHandler("other")
        self.harness.listener.add("/echo/{id}", ["PUT"], other)
        peer.request("PUT", "/echo/a")
        self.assertEqual(peer.response().status, 200)
        self.assertEqual(other.requests[0].values, {"id": "a"})
        peer.request("DELETE", "/echo/a")
        self.assertEqual(peer.response().headers["allow"], ["GET, POST, PUT"])

    def test_overlapping_paths_are_refused(self) -> None:
        """A path that could be meant for two routes is a configuration error that names both."""
        self.make()
        for path, methods in (("/echo/{x}", ["GET"]), ("/echo/fixed", ["PUT"]), ("/{any}/{thing}", ["PUT"])):
            error = self.assertRaises(ConfigurationError, self.harness.listener.add, path, methods, EchoHandler("other"))
            self.assertIn("/echo/{name}", str(error))
            self.assertIn("route echo", str(error))

    def test_removed_route_is_404(self) -> None:
        """After a route was taken away, its path is unknown."""
        peer = self.make()
        self.harness.listener.remove(self.handler)
        peer.request("GET", "/echo/a")
        self.assertEqual(peer.response().status, 404)

    def test_absolute_form_is_understood(self) -> None:
        """A request line with scheme and host means the same as without."""
        peer = self.make("/")
        for target in ("http://example.org/", "HTTPS://example.org?x=1", "http://example.org"):
            peer.request("GET", target)
            self.assertEqual(peer.response().status, 200, target)

    def test_bad_percent_encoding_is_400(self) -> None:
        """A path that cannot be decoded, or is none, gets 400."""
        peer = self.make()
        for target in ("/echo/%", "/echo/%zz", "/echo/%ff", "/echo/\xa9", "/echo/a?x=\xa9", "echo/a", "*"):
            peer.request("GET", target)
            self.assertEqual(peer.response().kind, "bad-path", target)
        self.assertEqual(self.handler.requests, [])

    def test_problem_has_no_route_when_none_was_found(self) -> None:
        """A problem of the listener has type, title, status and request_id, and a JSON content type."""
        peer = self.make()
        peer.request("GET", "/nowhere")
        answer = peer.response()
        self.assertEqual(sorted(answer.problem), ["request_id", "status", "title", "type"])
        self.assertEqual(answer.headers["content-type"], ["application/problem+json"])
        self.assertEqual(answer.headers["x-content-type-options"], ["nosniff"])


class HeadTests(ListenerCase):
    """What is not valid HTTP, or too much of it."""

    def refused(self, data: bytes, **listen: Any) -> tuple[int, str]:
        peer = self.make(**listen)
        peer.send(data)
        answer = peer.response()
        self.assertTrue(peer.is_closed, "the connection has to be closed")
        self.assertEqual(answer.headers["connection"], ["close"])
        self.assertEqual(self.handler.requests, [])
        return answer.status, answer.kind

    def test_long_uri_is_414(self) -> None:
        """A request line beyond its bound gets 414, whether or not it ever ends."""
        self.assertEqual(self.refused(b"GET /echo/" + b"a" * 9000 + b" HTTP/1.1\r\n"), (414, "uri-too-long"))
        self.assertEqual(self.refused(b"GET /echo/" + b"a" * 20000), (414, "uri-too-long"))

    def test_large_headers_are_431(self) -> None:
        """Headers beyond their bound get 431: in sum, in one line, and in number."""
        head = b"GET /echo/a HTTP/1.1\r\nHost: x\r\n"
        self.assertEqual(self.refused(head + b"A: %s\r\n" % (b"a" * 6000) * 3), (431, "headers-too-large"))
        self.assertEqual(self.refused(head + b"A: " + b"a" * 20000), (431, "headers-too-large"))
        self.assertEqual(self.refused(head + b"A: b\r\n" * 201), (431, "headers-too-large"))

    def test_configured_bounds_hold(self) -> None:
        """max_request_line and max_header_bytes are what the configuration says."""
        bounds = {"max_request_line": 20, "max_header_bytes": 30}
        self.assertEqual(self.refused(b"GET /echo/a?1 HTTP/1.1\r\n", **bounds)[0], 414)
        self.assertEqual(self.refused(b"GET / HTTP/1.1\r\nHost: x\r\nA: 123456789012345678\r\n", **bounds)[0], 431)

    def test_invalid_http_is_400(self) -> None:
        """What two servers could read in two ways is refused."""
        head = b"POST /echo/a HTTP/1.1\r\nHost: x\r\n"
        for name, data in {
            "no http": b"hello\r\n",
            "two spaces": b"GET  / HTTP/1.1\r\n",
            "http/2": b"GET / HTTP/2.0\r\n",
            "no host": b"GET / HTTP/1.1\r\n\r\n",
            "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "bare line feed": head + b"A: b\nC: d\r\n\r\n",
            "bare carriage return": head + b"A: b\rC: d\r\n\r\n",
            "nul": head + b"A: \x00\r\n\r\n",
            "folded header": head + b"A: b\r\n c\r\n\r\n",
            "space before colon": head + b"A : b\r\n\r\n",
            "no colon": head + b"A\r\n\r\n",
            "length twice": head + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "length and chunks": head + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "chunks and length": head + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "negative length": head + b"Content-Length: -1\r\n\r\n",
            "endless length": head + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
            "unknown coding": head + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
            "identity": head + b"Content-Length: 1\r\nTransfer-Encoding: identity\r\n\r\n",
            "bad chunk": head + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        }.items():
            peer = self.make()
            peer.send(data)
            answers = peer.responses()
            self.assertEqual([answer.status for answer in answers], [400], name)
            self.assertEqual(self.handler.requests, [], name)

    def test_unknown_expectation_is_417(self) -> None:
        """Only 100-continue can be expected of the bridge."""
        peer = self.make()
        peer.request("POST", "/echo/a", {"Expect": "200-ok"}, b"x")
        self.assertEqual(peer.response().status, 417)


class BodyTests(ListenerCase):
    """Bodies: whole, in chunks, too large."""

    def test_bodies_arrive_whole(self) -> None:
        """A body comes to the route byte for byte, with a length or in chunks, in any pieces."""
        body = bytes(range(256))
        chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:1], body[1:200], body[200:])) + b"0\r\n\r\n"
        for head, sent in ((b"Content-Length: 256", body), (b"Transfer-Encoding: chunked", chunked)):
            for size in (1, 7, 10000):
                peer = self.make()
                data = b"POST /echo/a HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + sent
                for at in range(0, len(data), size):
                    peer.send(data[at : at + size])
                self.assertEqual(peer.response().body, body, (head, size))
                self.assertFalse(peer.is_closed)

    def test_declared_length_over_the_bound_is_413_before_reading(self) -> None:
        """A declared length beyond the bound gets 413 at once, and the connection is closed."""
        peer = self.make()
        peer.send(b"POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        answer = peer.response()
        self.assertEqual((answer.status, answer.kind, answer.problem["max_bytes"]), (413, "body-too-large", 1000))
        self.assertEqual(answer.problem["route"], "echo")
        self.assertTrue(peer.is_closed)
        self.assertEqual(self.handler.answered, [413])

    def test_small_refused_body_keeps_the_connection(self) -> None:
        """A refused body that is nearly there already is read and thrown away, and the connection serves the next request."""
        peer = self.make()
        peer.request("POST", "/echo/a", body=b"x" * 1001)
        self.assertEqual(peer.response().status, 413)
        peer.request("POST", "/echo/a", body=b"x" * 1000)
        self.assertEqual(peer.response().status, 200)

    def test_chunks_over_the_bound_are_413(self) -> None:
        """A body in chunks is cut at the bound, whether the rest comes later or with it."""
        peer = self.make()
        peer.send(b"POST /echo/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n")
        self.assertEqual((peer.response().status, self.handler.requests, self.handler.answered), (413, [], [413]))
        peer = self.make()
        peer.send(b"POST /echo/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            peer.send(b"64\r\n" + b"x" * 100 + b"\r\n")
        peer.send(b"0\r\n\r\n")
        self.assertEqual(peer.response().status, 413)
        self.assertTrue(peer.is_closed)
        self.assertEqual((self.handler.requests, self.handler.answered), ([], [413]))

    def test_continue_is_sent_only_to_accepted_requests(self) -> None:
        """100 Continue invites a body that will be read; a refused request gets its answer instead."""
        peer = self.make()
        peer.send(b"POST /echo/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        self.assertEqual(peer.transport.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.transport.clear()
        peer.send(b"ok")
        self.assertEqual(peer.response().body, b"ok")
        peer.send(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        self.assertEqual(peer.response().status, 404)
        self.assertTrue(peer.is_closed)

    def test_bodies_of_all_connections_are_bounded(self) -> None:
        """When the listener keeps as much as it may, a further body gets 503 with Retry-After; room is given back."""
        peer = self.make()
        self.patch(http, "MAX_BODY_BYTES", 1500)
        first, second = self.harness.peer(), self.harness.peer()
        head = b"POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        first.send(head + b"x" * 900)
        second.send(head + b"x" * 900)
        answer = second.response()
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, ["1"]))
        first.disconnect()
        peer.send(head + b"x" * 1000)
        self.assertEqual(peer.response().status, 200)


class ConnectionTests(ListenerCase):
    """Connections: how many, how long, in what order."""

    def test_requests_of_one_connection_are_answered_in_order(self) -> None:
        """Pipelined requests are handled one after the other."""
        peer = self.make(later=True)
        peer.request("GET", "/echo/1")
        peer.request("GET", "/echo/2")
        self.assertEqual(len(self.handler.requests), 1)
        self.handler.answer(self.handler.requests[0])
        self.assertEqual([request.values["name"] for request in self.handler.requests], ["1", "2"])
        self.handler.answer(self.handler.requests[1])
        self.assertEqual(len(peer.responses()), 2)

    def test_connection_close_is_obeyed(self) -> None:
        """A client that asks for it, in whatever list of options, gets its connection closed; HTTP/1.0 does too."""
        for data in (b"GET /echo/a HTTP/1.1\r\nHost: x\r\nConnection: TE, Close\r\n\r\n", b"GET /echo/a HTTP/1.0\r\n\r\n"):
            peer = self.make()
            peer.send(data)
            self.assertEqual(peer.response().headers["connection"], ["close"])
            self.assertTrue(peer.is_closed)

    def test_head_has_no_body(self) -> None:
        """The answer to HEAD says how long the body would be and has none."""
        peer = self.make(methods=("HEAD",))
        self.handler.later = True
        peer.request("HEAD", "/echo/a")
        self.handler.requests[0].respond(Response(200, [], b"12345"))
        self.assertTrue(peer.transport.value().endswith(b"Content-Length: 5\r\nX-Content-Type-Options: nosniff\r\n\r\n"))

    def test_too_many_connections_are_closed(self) -> None:
        """Beyond max_connections, new connections are closed at once and counted; a free place serves again."""
        peer = self.make(max_connections=1)
        other = self.harness.peer()
        self.assertTrue(other.transport.disconnected)
        labels = {"route": "listen/public", "type": "http-listener", "reason": "max-connections"}
        self.assertEqual(self.harness.count("messages_dropped_total", **labels), 1)
        peer.disconnect()
        again = self.harness.peer()
        again.request("GET", "/echo/a")
        self.assertEqual(again.response().status, 200)

    def test_idle_connection_is_closed(self) -> None:
        """A connection without a request is closed after idle_timeout, quietly."""
        peer = self.make(idle_timeout=5)
        self.harness.reactor.pump([1] * 4)
        self.assertFalse(peer.is_closed)
        self.harness.reactor.pump([1] * 2)
        self.assertTrue(peer.is_closed)
        self.assertEqual(peer.transport.value(), b"")

    def test_slow_head_is_408(self) -> None:
        """A client that sends its head byte by byte does not hold the connection longer than request_timeout."""
        peer = self.make(request_timeout=10)
        for byte in b"GET /echo/a HTTP/1.1\r\nHost: x\r\nA: aaaaaaaaa"[:11]:
            peer.send(bytes([byte]))
            self.harness.reactor.advance(1)
        answer = peer.response()
        self.assertEqual((answer.status, answer.kind), (408, "request-timeout"))
        self.assertTrue(peer.is_closed)

    def test_slow_body_is_408(self) -> None:
        """The same bound holds for head and body together."""
        peer = self.make(request_timeout=10)
        peer.send(b"POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        for _ in range(11):
            peer.send(b"x")
            self.harness.reactor.advance(1)
        self.assertEqual(peer.response().status, 408)

    def test_request_under_way_is_not_timed_out(self) -> None:
        """How long an answer may take is the route's business."""
        peer = self.make(later=True, request_timeout=1, idle_timeout=1)
        peer.request("GET", "/echo/a")
        self.harness.reactor.pump([1] * 100)
        self.assertFalse(peer.is_closed)
        self.handler.answer(self.handler.requests[0])
        self.assertEqual(peer.response().status, 200)

    def test_client_that_does_not_close_is_cut_off(self) -> None:
        """After a refusal, the rest of the input is thrown away for a short while; then the connection is aborted."""
        peer = self.make()
        peer.send(b"nonsense\r\n")
        self.assertTrue(peer.transport.write_closed)
        peer.send(b"GET /echo/a HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(len(peer.responses()), 1)
        self.assertEqual(self.handler.requests, [])
        self.harness.reactor.pump([1] * int(LINGER + 1))
        self.assertTrue(peer.transport.disconnected)

    def test_client_that_does_not_read_gets_no_further_request_done(self) -> None:
        """While a response waits to be taken, no further request of the connection is handled; then they are."""
        peer = self.make(later=True)
        peer.request("GET", "/echo/1")
        self.handler.requests[0].on_gone = None
        peer.protocol.pauseProducing()
        self.handler.answer(self.handler.requests[0])
        peer.request("GET", "/echo/2")
        self.assertEqual(len(self.handler.requests), 1)
        peer.protocol.resumeProducing()
        self.assertEqual(len(self.handler.requests), 2)

    def test_client_that_never_reads_is_cut_off(self) -> None:
        """A response that is not taken within idle_timeout costs the connection, and so does flooding it with requests."""
        peer = self.make(later=True, idle_timeout=5)
        peer.request("GET", "/echo/1")
        peer.protocol.pauseProducing()
        self.handler.answer(self.handler.requests[0])
        self.harness.reactor.pump([1] * 6)
        self.assertTrue(peer.transport.disconnected)
        peer = self.make(later=True)
        peer.request("GET", "/echo/1")
        peer.protocol.pauseProducing()
        self.handler.answer(self.handler.requests[0])
        for _ in range(MAX_AHEAD // 65536 + 1):
            peer.send(b"x" * 65536)
        self.assertTrue(peer.transport.disconnected)

    def test_client_gone_is_told(self) -> None:
        """The route learns that nobody waits any more, and answering then does nothing."""
        peer = self.make(later=True)
        peer.request("GET", "/echo/a")
        peer.disconnect()
        self.assertEqual(self.handler.gone, 1)
        self.handler.answer(self.handler.requests[0])
        self.assertEqual((peer.transport.value(), self.handler.answered), (b"", []))

    def test_no_timer_is_left(self) -> None:
        """When the last connection is gone, nothing waits in the reactor."""
        peer = self.make()
        self.assertEqual(len(self.harness.reactor.getDelayedCalls()), 1)
        peer.disconnect()
        self.assertEqual(self.harness.reactor.getDelayedCalls(), [])

    def test_handler_that_fails_is_500(self) -> None:
        """A route with a bug answers 500 without saying why; the log says it."""
        peer = self.make()
        self.handler.later = True
        self.handler.handle = lambda request: 1 / 0  # type: ignore[method-assign,assignment]
        peer.request("GET", "/echo/a")
        answer = peer.response()
        self.assertEqual((answer.status, answer.kind), (500, "internal-error"))
        self.assertNotIn(b"division", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_response_header_with_a_line_break_is_never_sent(self) -> None:
        """Whatever a route puts into a header, it stays one header or nothing is sent."""
        for value in (b"a\r\nX-Evil: 1", b"a\nb", b"a\rb"):
            peer = self.make(later=True)
            peer.request("GET", "/echo/a")
            self.handler.requests[0].respond(Response(200, [(b"A", value)], b"secret"))
            answer = peer.response()
            self.assertEqual(answer.status, 500)
            self.assertNotIn("x-evil", answer.headers)
            self.assertNotIn(b"secret", answer.body)


class StoppingTests(ListenerCase):
    """A graceful end."""

    def test_stop_finishes_what_is_under_way(self) -> None:
        """Idle connections are closed at once; a request under way is answered; then the stop is complete."""
        busy = self.make(later=True)
        idle = self.harness.peer()
        busy.request("GET", "/echo/a")
        stopped = self.harness.listener.stop()
        self.assertTrue(idle.is_closed)
        self.assertFalse(busy.is_closed)
        idle.disconnect()
        self.assertNoResult(stopped)
        self.handler.answer(self.handler.requests[0])
        self.assertEqual(busy.response().headers["connection"], ["close"])
        self.assertTrue(busy.is_closed)
        busy.disconnect()
        self.successResultOf(stopped)
        self.assertEqual(self.harness.reactor.getDelayedCalls(), [])

    def test_request_that_is_arriving_is_still_served(self) -> None:
        """A request whose first bytes were there before the stop is served, then the connection is closed."""
        peer = self.make()
        peer.send(b"GET /echo/a HTTP/1.1\r\n")
        self.harness.listener.stop()
        peer.send(b"Host: x\r\n\r\n")
        self.assertEqual(peer.response().status, 200)
        self.assertTrue(peer.is_closed)

    def test_new_connections_are_refused(self) -> None:
        """A connection that the system had accepted already is closed."""
        self.make()
        self.harness.listener.stop()
        self.assertTrue(self.harness.peer().transport.disconnected)

    def test_cancelled_stop_aborts(self) -> None:
        """Giving up the wait cuts the connections that are left."""
        peer = self.make(later=True)
        peer.request("GET", "/echo/a")
        stopped = self.harness.listener.stop()
        stopped.addErrback(lambda failure: None)
        stopped.cancel()
        self.assertTrue(peer.transport.disconnected)

    def test_problems_say_why_it_does_not_listen(self) -> None:
        """A listener is ready while it listens, and says what is wrong otherwise."""
        self.make()
        self.assertEqual(self.harness.listener.problems(), [])
        self.harness.listener.stop()
        self.assertIn("listen/public does not listen on tcp:8080", self.harness.listener.problems()[0])


class FuzzTests(ListenerCase):
    """Whatever a peer sends, it is not an exception of ours."""

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=40),
                st.sampled_from(
                    [
                        b"GET /echo/a HTTP/1.1\r\n", b"POST /echo/%2e HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"Host: x\r\n", b"\r\n",
                        b"Content-Length: 5\r\n", b"Content-Length: \xb2\r\n", b"Transfer-Encoding: chunked\r\n",
                        b"Expect: 100-continue\r\n",
                        b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"hello", b"Connection: close\r\n", b": x\r\n", b"\n",
                    ]
                ),
            ),
            max_size=12,
        )
    )  # fmt: skip
    def test_no_input_raises(self, pieces: list[bytes]) -> None:
        """Random and nearly valid input gets valid responses or none, and never an exception."""
        peer = self.make()
        for piece in pieces:
            peer.send(piece)
        for answer in peer.responses():
            self.assertIn(answer.status, (100, 200, 400, 404, 405, 413, 414, 417, 431))
        peer.disconnect()
        self.assertEqual(self.harness.listener._body_bytes, 0)
        self.assertEqual(self.flushLoggedErrors(), [])
