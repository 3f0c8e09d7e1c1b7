"""The route type ``http-request`` in memory: what goes to NATS, and what the caller is told in every situation."""

from __future__ import annotations

import base64
from typing import Any

from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pynats_twisted.bridge.interfaces import IDescribed, IRoute, IRouteFactory
from pynats_twisted.bridge.routes.http_request import factory
from pynats_twisted.client.status import ClientStatus
from pynats_twisted.errors import (
    ConnectionClosedError,
    DisconnectedError,
    MaxPayloadExceededError,
    NatsError,
    NoRespondersError,
    PermissionsViolationError,
    RequestTimeoutError,
    TooManyRequestsError,
)

from .http_support import Harness, HTTPResponse, Peer, SentRequest, config_problems, reply

TYPE = "http-request"


class RequestCase(SynchronousTestCase):
    """A route on ``/orders/{id}``."""

    def make(self, *, started: dict[str, Any] | None = None, **keys: Any) -> Peer:
        self.harness = Harness(**(started or {}))
        table = {"path": "/orders/{id}", "subject": "svc.orders.{method}.{id}", "methods": ["GET", "PUT"], **keys}
        self.route = self.harness.route(factory, **table)
        return self.harness.peer()

    @property
    def sent(self) -> list[SentRequest]:
        return self.harness.client.requests

    def answer(self, msg: Any = None, **keys: Any) -> HTTPResponse:
        """The response to a GET that the service answers with *msg*."""
        peer = self.make(**keys)
        peer.request("GET", "/orders/7")
        self.sent[0].reply.callback(reply() if msg is None else msg)
        return peer.response()

    def failure(self, error: Exception, **keys: Any) -> HTTPResponse:
        """The response to a GET that fails with *error*."""
        peer = self.make(**keys)
        peer.request("GET", "/orders/7")
        self.sent[0].reply.errback(error)
        return peer.response()

    def count(self, metric: str, **labels: str) -> float:
        return self.harness.count(metric, route="orders", type=TYPE, **labels)


class ForwardingTests(RequestCase):
    """From HTTP to NATS."""

    def test_subject_body_and_timeout(self) -> None:
        """Method and path make the subject; the body is passed byte for byte; the timeout is the route's."""
        peer = self.make(timeout="3s")
        peer.request("PUT", "/orders/a%20b?x=1", body=b"\x00\xff", headers={"A": "b"})
        self.assertEqual(peer.response().kind, "bad-value")
        peer.request("PUT", "/orders/a-7?x=1", body=b"\x00\xff")
        (sent,) = self.sent
        self.assertEqual((sent.subject, sent.payload, sent.timeout), ("svc.orders.PUT.a-7", b"\x00\xff", 3.0))

    def test_bridge_headers(self) -> None:
        """The service learns method, path, query and address of the caller."""
        peer = self.make()
        peer.request("GET", "/orders/%37?x=%20&y")
        self.assertEqual(
            dict(self.sent[0].headers),
            {
                "Nats-Bridge-Method": "GET",
                "Nats-Bridge-Path": "/orders/%37",
                "Nats-Bridge-Query": "x=%20&y",
                "Nats-Bridge-Remote": "192.0.2.7",
            },
        )
        self.assertEqual(self.sent[0].subject, "svc.orders.GET.7")

    def test_only_listed_headers_pass(self) -> None:
        """Headers pass by the allow-list, with all their values; those that control NATS or prove an identity never do."""
        peer = self.make(request_headers=["Content-Type", "x-tag"])
        peer.send(
            b"GET /orders/7 HTTP/1.1\r\nHost: x\r\ncontent-TYPE: a/b\r\nX-Tag: 1\r\nx-tag: \xc3\xa9\r\nNats-Msg-Id: 1\r\n"
            b"Nats-Rollup: all\r\n"
            b"Nats-Bridge-Remote: 10.0.0.1\r\nCookie: c\r\nAuthorization: Bearer t\r\nX-Other: o\r\nConnection: keep-alive\r\n\r\n"
        )
        headers = self.sent[0].headers
        self.assertEqual(headers.get_all("X-Tag"), ["1", "\u00e9"])
        self.assertEqual(headers.get_all("Content-Type"), ["a/b"])
        self.assertEqual(headers.get_all("Nats-Bridge-Remote"), ["192.0.2.7"])
        self.assertEqual({name for name in headers if not name.startswith("Nats-Bridge-")}, {"X-Tag", "Content-Type"})

    def test_trace_context_passes(self) -> None:
        """A valid traceparent passes without being listed; one that is not valid does not; with tracing one is made."""
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        peer = self.make()
        peer.request("GET", "/orders/1", {"Traceparent": parent, "Tracestate": "a=b"})
        self.assertEqual((self.sent[0].headers.get("traceparent"), self.sent[0].headers.get("tracestate")), (parent, "a=b"))
        for bad in (parent.upper(), parent[:-1], "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff" + parent[2:]):
            peer = self.make()
            peer.request("GET", "/orders/1", {"Traceparent": bad, "Tracestate": "a=b"})
            self.assertNotIn("traceparent", self.sent[0].headers)
            self.assertNotIn("tracestate", self.sent[0].headers)
        peer = self.make(tracing=True)
        peer.request("GET", "/orders/1", {"Traceparent": "x"})
        self.assertRegex(self.sent[0].headers["traceparent"], "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$")

    def test_subject_from_query_header_and_peer(self) -> None:
        """A subject can be made of a query parameter, a header and the caller's address; each has to be there exactly once."""
        keys = {"subject": "s.{query:kind}.{header:X-Unit}.{peer}.{id}"}
        peer = self.make(**keys)
        peer.request("GET", "/orders/7?kind=a%2Db&other=1", {"x-unit": "u1"})
        self.assertEqual(self.sent[0].subject, "s.a-b.u1.192-0-2-7.7")
        for target, headers in (
            ("/orders/7", {"x-unit": "u"}),
            ("/orders/7?kind=", {"x-unit": "u"}),
            ("/orders/7?kind=a&kind=b", {"x-unit": "u"}),
            ("/orders/7?kind=%zz", {"x-unit": "u"}),
            ("/orders/7?kind=%ff", {"x-unit": "u"}),
            ("/orders/7?kind=a.b", {"x-unit": "u"}),
            ("/orders/7?kind=a", {}),
        ):
            peer = self.make(**keys)
            peer.request("GET", target, headers)
            self.assertEqual(peer.response().status, 400, target)
            self.assertEqual(self.sent, [])

    def test_values_that_are_no_token_are_400(self) -> None:
        """No value from the path can add a token, a wildcard or a line: 400, and nothing is published."""
        for value in ("a.b", "*", "%3E", "a%20b", "%0d%0aPUB", "%00", "%2e%2e", "a" * 129, "", "%E2%80%A8", "%", "%f", "%c3"):
            peer = self.make()
            peer.request("GET", "/orders/" + value)
            answer = peer.response()
            self.assertEqual(answer.status, 400, value)
            self.assertEqual(self.sent, [], value)
            self.assertNotIn(b"svc.", answer.body)

    def test_percent_encoding_keeps_values(self) -> None:
        """With token_encoding = "percent" a dot or a space in a value is encoded instead of refused."""
        peer = self.make(token_encoding="percent")
        peer.request("GET", "/orders/a.b%20c")
        self.assertEqual(self.sent[0].subject, "svc.orders.GET.a%2Eb%20c")

    def test_bad_header_is_400(self) -> None:
        """A listed header with a control character or bytes that are not UTF-8 gets 400; one that is not listed does not matter."""
        for value in (b"a\x01", b"\xff", b"a\x7fb"):
            peer = self.make(request_headers=["x-tag"])
            peer.send(b"GET /orders/7 HTTP/1.1\r\nHost: x\r\nX-Tag: " + value + b"\r\n\r\n")
            self.assertEqual(peer.response().kind, "bad-header", value)
            peer.send(b"GET /orders/7 HTTP/1.1\r\nHost: x\r\nX-Other: " + value + b"\r\n\r\n")
            self.assertEqual(len(self.sent), 1)


class ReplyTests(RequestCase):
    """From NATS to HTTP."""

    def test_plain_reply(self) -> None:
        """The payload is the body, with 200; without a content type it is bytes, and browsers must not guess."""
        answer = self.answer(reply(b"<b>"))
        self.assertEqual((answer.status, answer.body), (200, b"<b>"))
        self.assertEqual(answer.headers["content-type"], ["application/octet-stream"])
        self.assertEqual(answer.headers["x-content-type-options"], ["nosniff"])

    def test_empty_reply_is_204(self) -> None:
        """No payload and no content type: 204. An empty text is still a text."""
        answer = self.answer(reply())
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertNotIn("content-length", answer.headers)
        self.assertEqual(self.answer(reply(b"", {"Content-Type": "text/plain"})).status, 200)

    def test_status_of_the_service(self) -> None:
        """Nats-Http-Status sets the status; what is no final status of HTTP is 502."""
        for status in ("200", "201", "302", "404", "599"):
            self.assertEqual(self.answer(reply(b"x", {"nats-http-status": status})).status, int(status))
        for status in ("100", "101", "199", "99", "600", "0", "-1", "abc", "", " 200x", "2e2", "\u0662\u0660\u0660", "1" * 5000):
            self.assertEqual(self.answer(reply(b"x", {"Nats-Http-Status": status})).kind, "bad-reply", status[:10])

    def test_statuses_without_body(self) -> None:
        """204 and 304 have no body, whatever the service sends."""
        for status in ("204", "304"):
            answer = self.answer(reply(b"body", {"Nats-Http-Status": status}))
            self.assertEqual((answer.status, answer.body), (int(status), b""))

    def test_only_listed_headers_return(self) -> None:
        """Headers return by the allow-list, with all their values."""
        msg = reply(b"x", {"content-type": "a/b", "Set-Cookie": ["a=1", "b=2"], "X-Other": "o", "Nats-Service": "s", "Connection": "close"})
        answer = self.answer(msg, response_headers=["Content-Type", "set-cookie"])
        self.assertEqual((answer.headers["content-type"], answer.headers["set-cookie"]), (["a/b"], ["a=1", "b=2"]))
        self.assertNotIn("x-other", answer.headers)
        self.assertNotIn("nats-service", answer.headers)
        self.assertNotIn("connection", answer.headers)

    def test_response_cannot_be_split(self) -> None:
        """A reply's header with a control character is 502, and nothing of it is sent."""
        for value in (b"a\rX-Evil: 1", b"a\x00b", b"a\x0bb", b"\x1b[31m"):
            msg = reply(b"secret", block=b"NATS/1.0\r\nContent-Type: " + value + b"\r\n\r\n")
            answer = self.answer(msg)
            self.assertEqual((answer.status, answer.kind), (502, "bad-reply"), value)
            self.assertNotIn("x-evil", answer.headers)

    def test_malformed_reply_is_502(self) -> None:
        """A header block that cannot be read, or a status line where a reply should be, is 502."""
        for block in (b"xxxxx", b"NATS/1.0\r\nno colon\r\n\r\n", b"NATS/1.0 408 Timeout\r\n\r\n"):
            self.assertEqual(self.answer(reply(b"x", block=block)).kind, "bad-reply", block)

    def test_large_reply_is_502(self) -> None:
        """A reply of max_reply bytes passes; one byte more is 502."""
        self.assertEqual(len(self.answer(reply(b"x" * 1000), max_reply=1000).body), 1000)
        answer = self.answer(reply(b"x" * 1001), max_reply=1000)
        self.assertEqual((answer.status, answer.kind), (502, "reply-too-large"))

    def test_service_errors(self) -> None:
        """An error of a service (ADR-32): its code where it is a status, the mapped one, or 502. Its text stays inside."""
        for code, status in (("400", 400), ("404", 404), ("599", 599), ("1001", 409), ("399", 502), ("600", 502), ("abc", 502), ("", 502)):
            msg = reply(b"inside", {"Nats-Service-Error": "no such order", "Nats-Service-Error-Code": code})
            answer = self.answer(msg, service_errors={"1001": 409})
            self.assertEqual((answer.status, answer.kind, answer.problem["status"]), (status, "service-error", status), code)
            self.assertNotIn(b"order", answer.body.replace(b"orders", b""))
            self.assertNotIn(b"inside", answer.body)

    def test_exposed_service_errors(self) -> None:
        """With expose_errors the description is the problem's detail."""
        msg = reply(b"", {"Nats-Service-Error": "no such order", "Nats-Service-Error-Code": "404"})
        self.assertEqual(self.answer(msg, expose_errors=True).problem["detail"], "no such order")


class FailureTests(RequestCase):
    """What the caller is told when there is no reply."""

    def test_problem_has_no_inside(self) -> None:
        """A problem has type, title, status, route and request id, and neither subject nor server nor error text."""
        answer = self.failure(NoRespondersError("svc.orders.GET.7"))
        self.assertEqual(sorted(answer.problem), ["request_id", "route", "status", "title", "type"])
        self.assertEqual((answer.problem["type"], answer.problem["route"]), ("urn:nats-bridge:nats-no-responders", "orders"))
        self.assertNotIn(b"svc", answer.body)

    def test_no_responders_is_503(self) -> None:
        """Nobody to answer: 503 at once, with Retry-After."""
        answer = self.failure(NoRespondersError("x"))
        self.assertEqual((answer.status, answer.kind, answer.headers["retry-after"]), (503, "nats-no-responders", ["1"]))

    def test_timeout_is_504(self) -> None:
        """No answer in time: 504, which says that it may have been executed."""
        answer = self.failure(RequestTimeoutError("2 s"))
        self.assertEqual((answer.status, answer.kind), (504, "nats-timeout"))
        self.assertIn("may have been executed", answer.problem["title"])
        self.assertNotIn("retry-after", answer.headers)

    def test_other_errors(self) -> None:
        """Every error of the client has its status, and none of its text is passed on."""
        for error, status, kind in (
            (PermissionsViolationError("secret", "publish", "secret"), 502, "nats-permission"),
            (MaxPayloadExceededError(10, 5), 413, "nats-max-payload"),
            (DisconnectedError("secret"), 504, "nats-connection-lost"),
            (ConnectionClosedError("secret"), 503, "nats-disconnected"),
            (TooManyRequestsError("secret"), 503, "buffer-full"),
            (NatsError("secret"), 502, "nats-error"),
        ):
            answer = self.failure(error)
            self.assertEqual((answer.status, answer.kind), (status, kind))
            self.assertNotIn(b"secret", answer.body)

    def test_error_of_the_call_itself(self) -> None:
        """An error that the client raises at once is answered the same way."""
        peer = self.make()
        self.harness.client.fail_with = MaxPayloadExceededError(10, 5)
        peer.request("GET", "/orders/7")
        self.assertEqual(peer.response().status, 413)

    def test_unknown_error_is_500(self) -> None:
        """A bug is logged with its trace, and the caller gets 500 with the id that the log has."""
        answer = self.failure(ZeroDivisionError("secret"))
        self.assertEqual((answer.status, answer.kind), (500, "internal-error"))
        self.assertNotIn(b"secret", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_disconnected_is_503_at_once(self) -> None:
        """While NATS is not there, nothing is queued: 503 with Retry-After."""
        peer = self.make()
        for status in ClientStatus:
            if status is not ClientStatus.CONNECTED:
                self.harness.client.status = status
                peer.request("GET", "/orders/7")
                answer = peer.response()
                self.assertEqual((answer.status, answer.kind, answer.headers["retry-after"]), (503, "nats-disconnected", ["1"]))
        self.assertEqual(self.sent, [])

    def test_client_gone_cancels(self) -> None:
        """When the caller goes away, the wait for the reply ends and is counted."""
        peer = self.make()
        peer.request("GET", "/orders/7")
        self.assertEqual(self.count("in_flight"), 1)
        peer.disconnect()
        self.assertEqual((self.harness.client.cancelled, self.count("in_flight")), (1, 0))
        self.assertEqual(self.count("messages_failed_total", reason="client_gone"), 1)

    def test_nothing_is_sent_twice(self) -> None:
        """Whatever happens, one request of a caller is one message, unless a retry was asked for."""
        for error in (NoRespondersError("x"), RequestTimeoutError("x"), DisconnectedError("x")):
            self.failure(error)
            self.assertEqual(len(self.sent), 1)


class RetryTests(RequestCase):
    """``retry_no_responders``."""

    def test_get_is_tried_again(self) -> None:
        """A GET that nobody answers is tried again, within the route's timeout."""
        peer = self.make(retry_no_responders=2, timeout=2)
        peer.request("GET", "/orders/7")
        self.sent[0].reply.errback(NoRespondersError("x"))
        self.harness.reactor.advance(0.05)
        self.sent[1].reply.errback(NoRespondersError("x"))
        self.harness.reactor.advance(0.1)
        self.assertAlmostEqual(self.sent[2].timeout, 1.85)
        self.sent[2].reply.callback(reply(b"there"))
        self.assertEqual(peer.response().body, b"there")

    def test_retries_end(self) -> None:
        """When they are used up, it is 503."""
        peer = self.make(retry_no_responders=1)
        peer.request("GET", "/orders/7")
        self.sent[0].reply.errback(NoRespondersError("x"))
        self.harness.reactor.advance(0.05)
        self.sent[1].reply.errback(NoRespondersError("x"))
        self.assertEqual(peer.response().kind, "nats-no-responders")

    def test_only_get_is_tried_again(self) -> None:
        """Nothing but GET, and nothing but no-responders, is tried again."""
        peer = self.make(retry_no_responders=2)
        peer.request("PUT", "/orders/7")
        self.sent[0].reply.errback(NoRespondersError("x"))
        self.assertEqual(peer.response().status, 503)
        peer.request("GET", "/orders/7")
        self.sent[1].reply.errback(RequestTimeoutError("x"))
        self.assertEqual(peer.response().status, 504)

    def test_no_retry_beyond_the_timeout(self) -> None:
        """A retry that could not be answered in time is not made."""
        peer = self.make(retry_no_responders=10, timeout=0.04)
        peer.request("GET", "/orders/7")
        self.sent[0].reply.errback(NoRespondersError("x"))
        self.assertEqual(peer.response().status, 503)

    def test_client_gone_between_retries(self) -> None:
        """When the caller goes away between two tries, there is no further one."""
        peer = self.make(retry_no_responders=2)
        peer.request("GET", "/orders/7")
        self.sent[0].reply.errback(NoRespondersError("x"))
        peer.disconnect()
        self.harness.reactor.advance(1)
        self.assertEqual(len(self.sent), 1)
        self.assertEqual(self.harness.reactor.getDelayedCalls(), [])


class AdmissionTests(RequestCase):
    """Who may, and how much."""

    def test_bearer(self) -> None:
        """Without a token 401 with a challenge, with a wrong one 403, with any of the right ones the service."""
        peer = self.make(auth={"bearer": "one, two"})
        peer.request("GET", "/orders/7")
        answer = peer.response()
        self.assertEqual((answer.status, answer.headers["www-authenticate"]), (401, ['Bearer realm="orders"']))
        for value, status in (
            ("Bearer three", 403), ("Bearer onetwo", 403), ("Bearer", 401), ("Basic b25lOnR3bw==", 401), ("Bearer one two", 401),
        ):  # fmt: skip
            peer.request("GET", "/orders/7", {"Authorization": value})
            self.assertEqual(peer.response().status, status, value)
        self.assertEqual(self.sent, [])
        for number, value in enumerate(("Bearer one", "bearer two")):
            peer.request("GET", "/orders/7", {"Authorization": value})
            self.sent[number].reply.callback(reply(b"x"))
            self.assertEqual(peer.response().status, 200)

    def test_basic(self) -> None:
        """Users with passwords; both schemes may stand side by side."""
        peer = self.make(auth={"bearer": "t", "basic": {"eve": "p:w"}})
        peer.request("GET", "/orders/7")
        self.assertEqual(peer.response().headers["www-authenticate"], ['Bearer realm="orders"', 'Basic realm="orders", charset="UTF-8"'])
        for credentials, status in (("eve:x", 403), ("eve", 403), ("x:p:w", 403)):
            peer.request("GET", "/orders/7", {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()})
            self.assertEqual(peer.response().status, status)
        peer.request("GET", "/orders/7", {"Authorization": "Basic " + base64.b64encode(b"eve:p:w").decode()})
        self.assertEqual(len(self.sent), 1)

    def test_refused_before_the_body(self) -> None:
        """Who may not use the route cannot make the bridge read a body."""
        peer = self.make(auth={"bearer": "t"})
        peer.send(b"PUT /orders/7 HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
        self.assertEqual(peer.response().status, 401)
        self.assertTrue(peer.is_closed)

    def test_rate_is_429(self) -> None:
        """Beyond the rate, 429 says when to try again; then it passes again."""
        peer = self.make(rate={"limit": "6/m", "burst": 2})
        for _ in range(2):
            peer.request("GET", "/orders/7")
            self.sent[-1].reply.callback(reply(b"x"))
        self.assertEqual(len(peer.responses()), 2)
        peer.request("GET", "/orders/7")
        answer = peer.response()
        self.assertEqual((answer.status, answer.kind, answer.headers["retry-after"]), (429, "rate-limited", ["10"]))
        self.harness.reactor.advance(10)
        peer.request("GET", "/orders/7")
        self.assertEqual(len(self.sent), 3)

    def test_in_flight_is_503(self) -> None:
        """Beyond max_in_flight, 503 with Retry-After: 1; a place that is free again serves."""
        peer = self.make(max_in_flight=1)
        peer.request("GET", "/orders/7")
        other = self.harness.peer()
        other.request("GET", "/orders/7")
        answer = other.response()
        self.assertEqual((answer.status, answer.kind, answer.headers["retry-after"]), (503, "overloaded", ["1"]))
        self.sent[0].reply.callback(reply(b"x"))
        other.request("GET", "/orders/7")
        self.assertEqual(len(self.sent), 2)

    def test_in_flight_counts_when_the_body_is_there(self) -> None:
        """Requests whose bodies are still coming cannot pass the bound later."""
        first = self.make(max_in_flight=1)
        second = self.harness.peer()
        for peer in (first, second):
            peer.send(b"PUT /orders/7 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        first.send(b"x")
        second.send(b"x")
        self.assertEqual((len(self.sent), second.response().kind), (1, "overloaded"))

    def test_max_payload_of_the_server_is_413(self) -> None:
        """A body that the server would not take is refused before it is read, even if the route would take it."""
        peer = self.make(max_body="1MiB")
        self.harness.client.server_info.max_payload = 100
        peer.send(b"PUT /orders/7 HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n" + b"x" * 101)
        self.assertEqual(peer.response().problem["max_bytes"], 100)
        self.harness.client.server_info = None
        self.assertEqual(self.route.max_body, 1024 * 1024)

    def test_cors(self) -> None:
        """A page of an allowed origin may ask and read, errors included; others get no permission."""
        peer = self.make(cors=["https://app.example.com"], auth={"bearer": "t"}, response_headers=["content-type", "etag"])
        ask = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "PUT"}
        peer.request("OPTIONS", "/orders/7", ask)
        answer = peer.response()
        self.assertEqual(answer.status, 204)
        self.assertEqual(answer.headers["access-control-allow-origin"], ["https://app.example.com"])
        self.assertEqual(answer.headers["access-control-allow-methods"], ["GET, PUT"])
        self.assertEqual(answer.headers["access-control-allow-headers"], ["authorization, content-type"])
        self.assertEqual(answer.headers["vary"], ["Origin"])
        peer.request("GET", "/orders/7", {"Origin": "https://app.example.com"})
        answer = peer.response()
        self.assertEqual((answer.status, answer.headers["access-control-allow-origin"]), (401, ["https://app.example.com"]))
        self.assertEqual(answer.headers["access-control-expose-headers"], ["content-type, etag"])
        peer.request("GET", "/orders/7", {"Origin": "https://evil.example.com"})
        answer = peer.response()
        self.assertNotIn("access-control-allow-origin", answer.headers)
        self.assertEqual(answer.headers["vary"], ["Origin"])
        for method, origin in (("PUT", "https://evil.example.com"), ("DELETE", "https://app.example.com")):
            peer.request("OPTIONS", "/orders/7", {"Origin": origin, "Access-Control-Request-Method": method})
            self.assertEqual(peer.response().status, 405)

    def test_cors_covers_what_the_listener_answers(self) -> None:
        """A body that is too large is refused with the same headers."""
        peer = self.make(cors=["*"], max_body=10)
        peer.request("PUT", "/orders/7", {"Origin": "https://a"}, b"x" * 11)
        answer = peer.response()
        self.assertEqual((answer.status, answer.headers["access-control-allow-origin"]), (413, ["*"]))


class LifeTests(RequestCase):
    """The route as a service."""

    def test_interfaces(self) -> None:
        """Route and factory are what the bridge expects."""
        self.make()
        verifyObject(IRoute, self.route)
        verifyObject(IRouteFactory, factory)
        self.assertIn("at most once", self.route.guarantee())

    def test_stop_answers_what_is_in_flight(self) -> None:
        """Stopping refuses new requests with 503, waits for those in flight, and then the path is gone."""
        peer = self.make()
        peer.request("GET", "/orders/7")
        stopped = self.route.stopService()
        other = self.harness.peer()
        other.request("GET", "/orders/8")
        self.assertEqual(other.response().kind, "stopping")
        self.assertNoResult(stopped)
        self.sent[0].reply.callback(reply(b"x"))
        self.assertEqual(peer.response().status, 200)
        self.successResultOf(stopped)
        other.request("GET", "/orders/8")
        self.assertEqual(other.response().status, 404)

    def test_draining_bridge_refuses(self) -> None:
        """From the moment at which the bridge stops, requests get 503 with Retry-After."""
        peer = self.make()
        self.harness.context.draining = True
        peer.request("GET", "/orders/7")
        answer = peer.response()
        self.assertEqual((answer.kind, answer.headers["retry-after"]), ("stopping", ["1"]))

    def test_problems(self) -> None:
        """The route says what keeps it from working."""
        self.make()
        self.assertEqual(self.route.problems(), [])
        self.harness.client.status = ClientStatus.RECONNECTING
        self.assertEqual(self.route.problems(), ["nats.default is reconnecting"])
        self.harness.listener.stop()
        self.assertEqual(len(self.route.problems()), 2)
        self.route.stopService()
        self.assertEqual(self.route.problems(), ["the route is stopped"])

    def test_metrics(self) -> None:
        """Requests, bytes, answers and reasons are counted."""
        peer = self.make()
        peer.request("PUT", "/orders/7", body=b"12345")
        self.assertEqual((self.count("messages_in_total"), self.count("bytes_in_total"), self.count("in_flight")), (1, 5, 1))
        self.harness.reactor.advance(0.5)
        self.sent[0].reply.callback(reply(b"x"))
        self.assertEqual((self.count("messages_out_total"), self.count("bytes_out_total"), self.count("in_flight")), (1, 5, 0))
        self.assertEqual((self.count("latency_seconds_count"), self.count("latency_seconds_sum")), (1, 0.5))
        self.assertEqual(self.count("http_responses_total", code="2xx"), 1)
        peer.request("GET", "/orders/a.b")
        self.assertEqual(self.count("bad_input_total", reason="bad-value"), 1)
        peer.request("PUT", "/orders/7", body=b"x" * 300_000)
        self.assertEqual(self.count("bad_input_total", reason="body-too-large"), 1)
        self.assertEqual(self.count("http_responses_total", code="4xx"), 2)
        peer = self.harness.peer()
        peer.request("GET", "/orders/7")
        self.sent[1].reply.errback(NoRespondersError("x"))
        self.assertEqual(self.count("messages_failed_total", reason="nats-no-responders"), 1)
        self.harness.client.status = ClientStatus.RECONNECTING
        peer.request("GET", "/orders/7")
        self.assertEqual(self.count("messages_dropped_total", reason="nats-disconnected"), 1)

    def logged(self) -> list[str]:
        lines: list[str] = []

        def observe(event: Any) -> None:
            if event["log_level"] in (LogLevel.info, LogLevel.warn):
                lines.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return lines

    def test_failures_are_logged_once_a_minute(self) -> None:
        """The log has the request id of a failure, and a storm of them does not fill it."""
        peer = self.make()
        lines = self.logged()
        ids = []
        for at in range(3):
            peer.request("GET", "/orders/7")
            self.sent[at].reply.errback(RequestTimeoutError("x"))
            ids.append(peer.response().problem["request_id"])
        self.assertEqual([ids[0] in line for line in lines], [True])
        self.harness.reactor.advance(61)
        peer = self.harness.peer()
        peer.request("GET", "/orders/7")
        self.sent[3].reply.errback(RequestTimeoutError("x"))
        self.assertEqual(len(lines), 2)

    def test_debug_logs_each_request(self) -> None:
        """With debug there is a line for each request, with subject, status and time."""
        peer = self.make(debug=True)
        lines = self.logged()
        peer.request("GET", "/orders/7")
        self.harness.reactor.advance(0.25)
        self.sent[0].reply.callback(reply(b"x"))
        peer.request("GET", "/orders/a.b")
        self.assertIn("received svc.orders.GET.7 bytes=0", lines[0])
        self.assertRegex(lines[1], "answered svc.orders.GET.7 bytes=0 method=GET status=200 ms=250.0 request_id=[0-9a-f]{32}$")
        self.assertTrue(any("answered - bytes=0 method=GET status=400" in line for line in lines[2:]), lines)

    def test_hops_for_a_tap(self) -> None:
        """Who watches sees what came in, with its payload, and how it was answered; nothing is logged for that."""
        peer = self.make()
        lines = self.logged()
        hops: list[Any] = []
        self.route.activity.add_tap(hops.append)
        peer.request("PUT", "/orders/7", body=b"x")
        self.sent[0].reply.callback(reply(b"y"))
        self.assertEqual(
            [(hop.step, hop.subject, hop.data) for hop in hops],
            [("received", "svc.orders.PUT.7", b"x"), ("answered", "svc.orders.PUT.7", b"")],
        )
        self.assertEqual((hops[1].details["status"], lines), (200, []))


class DescriptionTests(RequestCase):
    """What the route says of itself."""

    def test_describe(self) -> None:
        """The route says where it is reached, where requests go, and what to try."""
        self.make()
        verifyObject(IDescribed, self.route)
        found = self.route.describe()
        self.assertEqual((found.target, found.state), ("svc.orders.*.*", {"in flight": "0"}))
        self.assertRegex(found.source, r"^GET.* http://[^ ]+/orders/\{id\}$")
        self.assertIn(("see what comes", "nats sub 'svc.orders.*.*'"), found.commands)


class ConfigTests(SynchronousTestCase):
    """What a configuration may say."""

    def problems(self, **keys: Any) -> list[str]:
        table = {"path": "/o/{id}", "subject": "o.{id}", **keys}
        return [f"{key}: {found}" for key, found, _ in config_problems(factory, **table)]

    def test_good(self) -> None:
        """Every key in use is no problem."""
        found = self.problems(
            methods=["GET", "DELETE"], timeout="2s", max_body="256KiB", max_reply="1MiB", max_in_flight=500, request_headers=["accept"],
            response_headers=["content-type", "set-cookie"], auth={"bearer": "t"}, cors={"origins": ["*"], "max_age": "1h"}, rate="100/s",
            service_errors={"1001": 409}, expose_errors=True, retry_no_responders=2, token_encoding="percent", tracing=True, debug=True,
        )  # fmt: skip
        self.assertEqual(found, [])

    def test_bad_values_are_named(self) -> None:
        """Every wrong value is named with its key."""
        for keys, expected in (
            ({"methods": []}, "methods: an empty array"),
            ({"methods": ["get"]}, 'methods.0: "get"'),
            ({"methods": ["BREW"]}, 'methods.0: "BREW"'),
            ({"subject": "o.{nr}"}, 'subject: "o.{nr}"'),
            ({"subject": "{id}.o"}, 'subject: "{id}.o"'),
            ({"subject": "$SYS.{id}"}, 'subject: "$SYS.{id}"'),
            ({"subject": "o.*"}, 'subject: "o.*"'),
            ({"subject": "o.{header:cookie}"}, "subject: {header:cookie}"),
            ({"request_headers": ["Nats-Msg-Id"]}, "request_headers.0: "),
            ({"request_headers": ["cookie"]}, "request_headers.0: "),
            ({"request_headers": ["authorization"]}, "request_headers.0: "),
            ({"request_headers": ["transfer-encoding"]}, "request_headers.0: "),
            ({"request_headers": ["a b"]}, "request_headers.0: "),
            ({"response_headers": ["content-length"]}, "response_headers.0: "),
            ({"response_headers": ["nats-service"]}, "response_headers.0: "),
            ({"auth": {}}, "auth: "),
            ({"auth": {"basic": {"a:b": "x"}}}, "auth.basic: "),
            ({"cors": []}, "cors: "),
            ({"cors": ["https://a/b"]}, 'cors: "https://a/b"'),
            ({"cors": ["*", "https://a"]}, "cors: "),
            ({"rate": "fast"}, 'rate: "fast"'),
            ({"rate": {"limit": "0/s"}}, "rate: "),
            ({"service_errors": {"404": 410}}, "service_errors.404: "),
            ({"service_errors": {"1001": 200}}, "service_errors.1001: "),
            ({"service_errors": {"x": 410}}, "service_errors.x: "),
            ({"retry_no_responders": 11}, "retry_no_responders: 11"),
            ({"timeout": 0}, "timeout: 0"),
            ({"max_reply": "big"}, "max_reply: "),
            ({"unknown": 1}, "unknown: "),
        ):
            found = self.problems(**keys)
            self.assertEqual(len(found), 1, (keys, found))
            self.assertTrue(found[0].startswith(expected), (keys, found))
