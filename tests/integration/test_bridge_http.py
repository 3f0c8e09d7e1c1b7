"""The HTTP routes of a bridge with a real server and real HTTP clients: each row of the status table of ``http-request``, and
what ``http-publish`` confirms without a stream."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import resource
import sys
import textwrap
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.utils import getProcessOutput
from twisted.python.failure import Failure

from pynats_twisted import Msg, NatsClient
from pynats_twisted.bridge import problem
from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.testing.certificates import CertificateAuthority
from tests.integration.bridge_http_case import HOOKS, ORDERS, Body, BridgeHTTPCase, RawConnection, parse


class RequestTests(BridgeHTTPCase):
    """``http-request``, when all goes well."""

    async def test_request_and_reply(self) -> None:
        """Subject, body and headers reach the service; status, body and headers of its reply reach the caller."""
        client = await self.start(ORDERS + 'request_headers = ["content-type", "x-tag"]\nresponse_headers = ["content-type", "etag"]')

        async def serve(msg: Msg) -> None:
            headers = {"Nats-Http-Status": "201", "Content-Type": "text/plain", "etag": ["a", "b"], "X": "y"}
            await msg.respond(b"got " + msg.data, headers=headers)

        await client.subscribe("svc.orders.PUT.*", serve)
        answer = await self.http("PUT", "/orders/%37?a=b", b"\x00\xff", {"X-Tag": ["1", "2"], "Nats-Msg-Id": "evil", "Cookie": "c"})
        self.assertEqual((answer.status, answer.body), (201, b"got \x00\xff"))
        self.assertEqual((answer.headers["content-type"], answer.headers["etag"]), (["text/plain"], ["a", "b"]))
        self.assertNotIn("x", answer.headers)
        (msg,) = self.seen
        self.assertEqual(msg.subject, "svc.orders.PUT.7")
        self.assertEqual(
            sorted(msg.headers.multi_items()),
            [
                ("Nats-Bridge-Method", "PUT"),
                ("Nats-Bridge-Path", "/orders/%37"),
                ("Nats-Bridge-Path", "edge"),
                ("Nats-Bridge-Query", "a=b"),
                ("Nats-Bridge-Remote", "127.0.0.1"),
                ("X-Tag", "1"),
                ("X-Tag", "2"),
            ],
        )

    async def test_empty_reply(self) -> None:
        """An empty reply is 204; bytes without a type are an octet stream that browsers must not guess at."""
        client = await self.start(ORDERS)
        await client.subscribe("svc.orders.GET.empty", lambda msg: msg.respond())
        await client.subscribe("svc.orders.GET.bytes", lambda msg: msg.respond(b"<html>"))
        self.assertEqual((await self.http("GET", "/orders/empty")).status, 204)
        answer = await self.http("GET", "/orders/bytes")
        self.assertEqual(answer.headers["content-type"], ["application/octet-stream"])
        self.assertEqual(answer.headers["x-content-type-options"], ["nosniff"])

    async def test_many_on_one_connection(self) -> None:
        """Requests that are sent without waiting are answered in order, on one connection."""
        client = await self.start(ORDERS)
        await client.subscribe("svc.>", lambda msg: msg.respond(msg.subject[-3:].encode()))
        connection = await self.raw(b"".join(b"GET /orders/%03d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(100)))
        await self.until(lambda: connection.received.count(b"HTTP/1.1 200 OK") == 100)
        bodies = [part[-3:] for part in connection.received.split(b"HTTP/1.1 200 OK")[1:]]
        self.assertEqual(bodies, [b"%03d" % number for number in range(100)])
        self.assertEqual(self.count("connections_accepted_total", route="listen/public", type="http-listener"), 1)


class StatusTableTests(BridgeHTTPCase):
    """``http-request``: what the caller is told when all does not go well."""

    async def test_no_route_and_wrong_method(self) -> None:
        """404; 405 with Allow."""
        await self.start(ORDERS)
        answer = await self.http("GET", "/nowhere")
        self.assertEqual((answer.status, answer.kind), (404, "not-found"))
        answer = await self.http("DELETE", "/orders/7")
        self.assertEqual((answer.status, answer.kind, answer.headers["allow"]), (405, "method-not-allowed", ["GET, PUT"]))

    async def test_bad_values_are_never_published(self) -> None:
        """A bad token, a bad percent-encoding and a bad header are 400, and no message reaches the server."""
        client = await self.start(ORDERS + 'request_headers = ["x-tag"]')
        for value in ("a.b", "%2E%2e", "*", "%3e", "a%20b", "%0d%0aPUB%20x", "%00", "a" * 129, "", "%zz", "%ff", "a%"):
            head = b"GET /orders/" + value.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            self.assertEqual((await self.raw_answer(head)).status, 400, value)
        for header in (b"X-Tag: a\x01b", b"X-Tag: \xff", b"X-Tag: a\rb", b"X-Tag: a\x00b", b"X-Tag : b", b"X-Tag: a\r\n b"):
            data = b"GET /orders/7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n\r\n"
            self.assertEqual((await self.raw_answer(data)).status, 400, header)
        await self.bridge.connections["default"].client.flush()
        await client.flush()
        self.assertEqual(self.seen, [])

    async def test_authentication(self) -> None:
        """Credentials that are missing are 401 with WWW-Authenticate, wrong ones 403."""
        client = await self.start(ORDERS + 'auth = { bearer = "good, better", basic = { eve = "pw" } }')
        await client.subscribe("svc.>", lambda msg: msg.respond(b"in"))
        answer = await self.http("GET", "/orders/7")
        self.assertEqual((answer.status, answer.kind), (401, "unauthorized"))
        self.assertEqual(answer.headers["www-authenticate"], ['Bearer realm="orders"', 'Basic realm="orders", charset="UTF-8"'])
        basic = "Basic " + base64.b64encode(b"eve:pw").decode()
        for value, status in (("Bearer wrong", 403), ("Basic AAAA", 403), ("Bearer better", 200), (basic, 200)):
            self.assertEqual((await self.http("GET", "/orders/7", headers={"Authorization": value})).status, status, value)
        self.assertEqual(len(self.seen), 2)

    async def test_body_too_large(self) -> None:
        """A declared length beyond max_body is 413 before the body is read, and the connection is closed; chunks are cut."""
        await self.start(ORDERS + "max_body = 1000")
        answer = await self.raw_answer(b"PUT /orders/7 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        self.assertEqual((answer.status, answer.kind, answer.problem["max_bytes"]), (413, "body-too-large", 1000))
        self.assertEqual(answer.headers["connection"], ["close"])
        connection = await self.raw(b"PUT /orders/7 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            connection.send(b"64\r\n" + b"x" * 100 + b"\r\n")
        self.assertEqual(parse(await connection.when_closed()).status, 413)
        self.assertEqual((await self.http("PUT", "/orders/7", Body(b"x" * 600, b"x" * 600, chunked=True))).status, 413)
        self.assertEqual(self.seen, [])

    async def test_answer_arrives_although_the_body_does_too(self) -> None:
        """A client that sends all of a refused body before it reads gets the answer, not a reset connection."""
        await self.start(ORDERS + "max_body = 1000")
        for _ in range(5):
            connection = await self.raw(b"PUT /orders/7 HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)
            self.assertEqual(parse(await connection.when_closed()).status, 413)

    async def test_body_beyond_max_payload(self) -> None:
        """What the server would not take is 413 as well, even when the route would: by its length, or by headers and body together."""
        self.server = await self.start_server({"max_payload": 2000})
        await self.start_bridge(ORDERS + 'max_body = "1MiB"', self.server)
        answer = await self.http("PUT", "/orders/7", b"x" * 2001)
        self.assertEqual((answer.status, answer.kind, answer.problem["max_bytes"]), (413, "body-too-large", 2000))
        answer = await self.http("PUT", "/orders/7", b"x" * 1999)
        self.assertEqual((answer.status, answer.kind), (413, "nats-max-payload"))

    async def test_uri_and_headers_too_long(self) -> None:
        """A URI beyond 8 KiB is 414, headers beyond 16 KiB are 431."""
        await self.start(ORDERS)
        answer = await self.raw_answer(b"GET /orders/" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual((answer.status, answer.kind), (414, "uri-too-long"))
        answer = await self.raw_answer(b"GET /orders/7 HTTP/1.1\r\nHost: x\r\n" + b"A: %s\r\n" % (b"a" * 1000) * 17 + b"\r\n")
        self.assertEqual((answer.status, answer.kind), (431, "headers-too-large"))

    async def test_rate(self) -> None:
        """Beyond the rate: 429 with Retry-After."""
        client = await self.start(ORDERS + 'rate = { limit = "1/m", burst = 1 }')
        await client.subscribe("svc.>", lambda msg: msg.respond(b"in"))
        self.assertEqual((await self.http("GET", "/orders/7")).status, 200)
        answer = await self.http("GET", "/orders/7")
        self.assertEqual((answer.status, answer.kind), (429, "rate-limited"))
        self.assertIn(int(answer.headers["retry-after"][0]), range(50, 61))

    async def test_in_flight(self) -> None:
        """Beyond max_in_flight: 503 with Retry-After: 1; those before are answered."""
        client = await self.start(ORDERS + "max_in_flight = 1")
        waiting: list[Msg] = []
        await client.subscribe("svc.>", waiting.append)
        first = Deferred.fromCoroutine(self.http("GET", "/orders/7"))
        await self.until(lambda: waiting)
        answer = await self.http("GET", "/orders/8")
        self.assertEqual((answer.status, answer.kind, answer.headers["retry-after"]), (503, "overloaded", ["1"]))
        await waiting[0].respond(b"late")
        self.assertEqual((await first).body, b"late")

    async def test_disconnected(self) -> None:
        """Without NATS: 503 with Retry-After at once, and nothing is kept for later; with NATS again, the route works again."""
        await self.start(ORDERS)
        await self.server.kill()
        await self.until(lambda: self.bridge.problems())
        begun = self.reactor.seconds()
        answer = await self.http("PUT", "/orders/7", b"once")
        self.assertEqual((answer.status, answer.kind, answer.headers["retry-after"]), (503, "nats-disconnected", ["1"]))
        self.assertLess(self.reactor.seconds() - begun, 4.0)
        await self.server.start()
        await self.until(lambda: not self.bridge.problems())
        client = await self.connect(self.server)
        await client.subscribe("svc.>", lambda msg: msg.respond(msg.data))
        self.assertEqual((await self.http("PUT", "/orders/7", b"twice")).body, b"twice")
        self.assertNotIn(b"once", [msg.data for msg in self.seen])

    async def test_no_responders(self) -> None:
        """Nobody there: 503 immediately, not after the timeout; a GET that is tried again finds the service that starts meanwhile."""
        server = await self.start_server()
        await self.start_bridge(ORDERS + 'timeout = "30s"\nretry_no_responders = 8', server)
        begun = self.reactor.seconds()
        answer = await self.http("PUT", "/orders/7", b"x")
        self.assertEqual((answer.status, answer.kind, answer.headers["retry-after"]), (503, "nats-no-responders", ["1"]))
        self.assertLess(self.reactor.seconds() - begun, 20.0)
        retried = Deferred.fromCoroutine(self.http("GET", "/orders/7"))
        await self.sleep(0.1)
        client = await self.connect(server)
        await client.subscribe("svc.>", lambda msg: msg.respond(b"started"))
        self.assertEqual((await retried).body, b"started")

    async def test_timeout(self) -> None:
        """No answer in time: 504, which says that it may have been executed; one message was sent."""
        await self.start(ORDERS + 'timeout = "200ms"')
        begun = self.reactor.seconds()
        answer = await self.http("PUT", "/orders/7", b"x")
        self.assertEqual((answer.status, answer.kind), (504, "nats-timeout"))
        self.assertIn("may have been executed", answer.problem["title"])
        self.assertGreater(self.reactor.seconds() - begun, 0.15)
        self.assertEqual(len(self.seen), 1)

    async def test_permission(self) -> None:
        """A subject that the bridge may not publish to: 502, without waiting for the timeout; the bridge goes on working."""
        users = [
            {"user": "bridge", "password": "pw", "permissions": {"publish": ["svc.orders.GET.ok"], "subscribe": ["_INBOX.>"]}},
            {"user": "service", "password": "pw"},
        ]
        server = await self.start_server({"authorization": {"users": users}})
        client = await self.connect(server, user="service", password="pw")
        await client.subscribe("svc.>", lambda msg: msg.respond(b"in"))
        await self.start_bridge(ORDERS + 'timeout = "30s"', server, nats='user = "bridge"\npassword = "pw"')
        begun = self.reactor.seconds()
        answer = await self.http("GET", "/orders/forbidden")
        self.assertEqual((answer.status, answer.kind), (502, "nats-permission"))
        self.assertNotIn(b"svc", answer.body)
        self.assertLess(self.reactor.seconds() - begun, 20.0)
        self.assertEqual((await self.http("GET", "/orders/ok")).body, b"in")

    async def test_bad_replies(self) -> None:
        """A reply that is too large or malformed: 502, and nothing of it is passed on."""
        client = await self.start(ORDERS + "max_reply = 100")

        async def serve(msg: Msg) -> None:
            kind = msg.subject.rpartition(".")[2]
            headers = {
                "large": {},
                "status": {"Nats-Http-Status": "101"},
                "number": {"Nats-Http-Status": "2oo"},
                "control": {"Content-Type": "text/plain\x0bX-Evil: 1"},
            }[kind]
            await msg.respond(b"s" * 101 if kind == "large" else b"secret", headers=headers or None)

        await client.subscribe("svc.>", serve)
        for kind, expected in (("large", "reply-too-large"), ("status", "bad-reply"), ("number", "bad-reply"), ("control", "bad-reply")):
            answer = await self.http("GET", f"/orders/{kind}")
            self.assertEqual((answer.status, answer.kind), (502, expected))
            self.assertNotIn(b"secret", answer.body)
            self.assertNotIn("x-evil", answer.headers)

    async def test_reply_with_a_broken_header_block(self) -> None:
        """A reply whose headers are not NATS headers at all: 502, and the bridge keeps its connection."""
        await self.start(ORDERS)
        service = await connectProtocol(HostnameEndpoint(self.reactor, "127.0.0.1", self.server.port), RawConnection())
        self.addCleanup(service.abort)
        service.send(b'CONNECT {"verbose":false,"headers":true,"protocol":1}\r\nSUB svc.> 1\r\nPING\r\n')
        await self.until(lambda: b"PONG" in service.received)
        for block in (b"xxxxx", b"NATS/1.0\r\nContent-Type: a\rX-Evil: 1\r\n\r\n", b"NATS/1.0 408 Timeout\r\n\r\n"):
            service.received = b""
            asked = Deferred.fromCoroutine(self.http("GET", "/orders/7"))
            await self.until(lambda: b"MSG svc.orders.GET.7" in service.received)
            inbox = service.received.partition(b"MSG svc.orders.GET.7 ")[2].split(b" ")[1]
            service.send(b"HPUB %s %d %d\r\n%ssecret\r\n" % (inbox, len(block), len(block) + 6, block))
            answer = await asked
            self.assertEqual((answer.status, answer.kind), (502, "bad-reply"), block)
            self.assertNotIn("x-evil", answer.headers)
        self.assertEqual(self.bridge.connections["default"].client.stats.reconnects, 0)

    async def test_service_errors(self) -> None:
        """An error of a service: its code where that is a status, the mapped status, or 502; its text only where that is wanted."""
        client = await self.start(
            ORDERS + "service_errors = { 1001 = 409 }" + ORDERS.replace("orders", "open") + "expose_errors = true",
        )

        async def serve(msg: Msg) -> None:
            code = msg.subject.rpartition(".")[2]
            await msg.respond(b"inside", headers={"Nats-Service-Error": "no such order", "Nats-Service-Error-Code": code})

        await client.subscribe("svc.>", serve)
        for code, status in (("404", 404), ("400", 400), ("599", 599), ("1001", 409), ("1002", 502), ("7", 502), ("x", 502)):
            answer = await self.http("GET", f"/orders/{code}")
            self.assertEqual((answer.status, answer.kind, answer.problem["status"]), (status, "service-error", status))
            self.assertNotIn("detail", answer.problem)
            self.assertNotIn(b"inside", answer.body)
        self.assertEqual((await self.http("GET", "/open/404")).problem["detail"], "no such order")

    async def test_client_gone(self) -> None:
        """A caller that goes away is counted and nobody waits for the reply any more; the service has the request."""
        await self.start(ORDERS + 'timeout = "30s"')
        connection = await self.raw(b"GET /orders/7 HTTP/1.1\r\nHost: x\r\n\r\n")
        await self.until(lambda: self.seen)
        nats = self.bridge.connections["default"].client
        self.assertEqual(nats.requests_in_flight, 1)
        connection.abort()
        await self.until(lambda: self.count("messages_failed_total", route="orders", type="http-request", reason="client_gone") == 1)
        self.assertEqual((nats.requests_in_flight, self.count("in_flight", route="orders", type="http-request")), (0, 0))

    async def test_problems_tell_nothing_of_the_inside(self) -> None:
        """Whatever went wrong, the problem names the route and has an id, and neither a subject nor a server."""
        await self.start(ORDERS + 'timeout = "100ms"')
        for path in ("/orders/7", "/orders/a.b"):
            answer = await self.http("PUT", path, b"x")
            self.assertEqual((answer.problem["route"], len(answer.problem["request_id"])), ("orders", 32))
            self.assertEqual(set(answer.problem) - {"detail"}, {"type", "title", "status", "route", "request_id"})
            for inside in (b"svc", b"127.0.0.1", b"nats://", b"Traceback", b"edge"):
                self.assertNotIn(inside, answer.body)

    async def test_slow_clients_do_not_stay(self) -> None:
        """Hundreds of connections that send a byte now and then are closed after request_timeout; others are served meanwhile."""
        client = await self.start(ORDERS, listen='request_timeout = "1s"\nmax_connections = 250')
        await client.subscribe("svc.>", lambda msg: msg.respond(b"in"))
        slow = [await self.raw(b"GET /orders/7 HTTP/1.1\r\n") for _ in range(200)]
        self.assertEqual((await self.http("GET", "/orders/7")).status, 200)
        for _ in range(3):
            await self.sleep(0.25)
            for connection in slow:
                connection.send(b"A")
        await self.until(lambda: all(connection.closed for connection in slow))
        self.assertEqual({parse(connection.received).status for connection in slow}, {408})

    async def test_thousands_of_slow_clients(self) -> None:
        """Two thousand clients that do not finish their requests, or do not read the answers, take little and do not stop the others."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, limit[1]) if limit[1] != resource.RLIM_INFINITY else 8192, limit[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        client = await self.start(ORDERS, listen='request_timeout = "60s"\nmax_connections = 2100')
        await client.subscribe("svc.>", lambda msg: msg.respond(b"in" * 1000))
        starts = (
            b"G",
            b"GET /orders/7 HTTP/1.1\r\nX: ",
            b"PUT /orders/7 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx",
            b"PUT /orders/7 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nx",
            b"GET /orders/7 HTTP/1.1\r\nHost: x\r\n\r\n" * 5,
        )
        slow: list[RawConnection] = []
        for _ in range(400):
            for start in starts:
                slow.append(await self.raw(start))
                if start is starts[-1]:
                    slow[-1].transport.pauseProducing()  # type: ignore[union-attr]
            if len(slow) % 500 == 0:
                self.assertEqual((await self.http("GET", "/orders/8")).status, 200)
        answers = [Deferred.fromCoroutine(self.http("GET", "/orders/8")) for _ in range(50)]
        self.assertEqual({(await one).status for one in answers}, {200})
        self.assertEqual(self.count("connections", route="listen/public", type="http-listener"), 2000)
        self.assertEqual(self.bridge.connections["default"].client.requests_in_flight, 0)
        self.assertEqual([connection.closed for connection in slow], [False] * 2000)

    async def test_too_many_connections(self) -> None:
        """Connections beyond max_connections are closed at once, and counted."""
        await self.start(ORDERS, listen="max_connections = 2")
        kept = [await self.raw() for _ in range(2)]
        labels = {"route": "listen/public", "type": "http-listener"}
        await self.until(lambda: self.count("connections", **labels) == 2)
        third = await self.raw()
        await self.until(lambda: third.closed)
        self.assertEqual([connection.closed for connection in kept], [False, False])
        self.assertEqual(self.count("messages_dropped_total", **labels, reason="max-connections"), 1)


class PublishTests(BridgeHTTPCase):
    """``http-publish``."""

    async def test_confirmed_by_the_server(self) -> None:
        """202 says that the server has the message: whoever is subscribed gets it."""
        client = await self.start(HOOKS + 'dedupe = "header:x-id"')
        answer = await self.http("POST", "/hooks/a", b"\x00body", {"X-Id": "42", "Content-Type": "a/b", "Nats-Rollup": "all"})
        self.assertEqual((answer.status, json.loads(answer.body)), (202, {"confirm": "server", "messages": 1}))
        await client.flush()
        (msg,) = self.seen
        self.assertEqual((msg.subject, msg.data), ("hooks.a", b"\x00body"))
        self.assertEqual(dict(msg.headers), {"Content-Type": "a/b", "Nats-Msg-Id": "hooks:42", "Nats-Bridge-Path": "edge"})

    async def test_many_share_pings(self) -> None:
        """A hundred messages at once need a few PINGs, and each is confirmed."""
        client = await self.start(HOOKS + "max_in_flight = 1000")
        flushes: list[object] = []
        nats = self.bridge.connections["default"].client
        flush = nats.flush
        self.patch(nats, "flush", lambda timeout: flushes.append(None) or flush(timeout))
        asked = [Deferred.fromCoroutine(self.http("POST", f"/hooks/{number}", b"x")) for number in range(100)]
        self.assertEqual({(await one).status for one in asked}, {202})
        await client.flush()
        self.assertEqual(len({msg.subject for msg in self.seen}), 100)
        self.assertLess(len(flushes), 90)

    async def test_denied(self) -> None:
        """A subject that the server denies is 502 although the server answers, also when an allowed one goes out at the same time."""
        users = [{"user": "bridge", "password": "pw", "permissions": {"publish": ["hooks.ok"]}}]
        server = await self.start_server({"authorization": {"users": users}})
        await self.start_bridge(HOOKS, server, nats='user = "bridge"\npassword = "pw"')
        for _ in range(20):
            asked = [Deferred.fromCoroutine(self.http("POST", f"/hooks/{name}", b"x")) for name in ("ok", "no", "ok", "no")]
            self.assertEqual([(await one).status for one in asked], [202, 502, 202, 502])

    async def test_signed_batch(self) -> None:
        """A signed body of several lines becomes several messages; with a wrong signature none."""
        client = await self.start(HOOKS + 'batch = "ndjson"\nverify = { scheme = "github", secrets = ["old", "new"] }')
        body = b'{"a":1}\n{"b":2}\n'
        signed = "sha256=" + hmac.new(b"new", body, hashlib.sha256).hexdigest()
        answer = await self.http("POST", "/hooks/a", body, {"X-Hub-Signature-256": signed})
        self.assertEqual((answer.status, json.loads(answer.body)["messages"]), (202, 2))
        answer = await self.http("POST", "/hooks/a", body + b"{}", {"X-Hub-Signature-256": signed})
        self.assertEqual((answer.status, answer.kind), (401, "bad-signature"))
        await client.flush()
        self.assertEqual([msg.data for msg in self.seen], [b'{"a":1}', b'{"b":2}'])

    async def test_disconnected(self) -> None:
        """Without NATS: 503 with Retry-After, for both confirm levels; a sender that tries again loses nothing."""
        await self.start(HOOKS + HOOKS.replace("hooks", "loose").replace('"server"', '"none"'))
        await self.server.kill()
        await self.until(lambda: self.bridge.problems())
        for path in ("/hooks/a", "/loose/a"):
            answer = await self.http("POST", path, b"x")
            self.assertEqual((answer.status, answer.kind, answer.headers["retry-after"]), (503, "nats-disconnected", ["1"]))

    async def test_nothing_confirmed_is_lost(self) -> None:
        """While the server is killed and restarted under load, every message that was answered with 202 had arrived there."""
        server = await self.start_server()
        await self.start_bridge(HOOKS, server)
        started: set[int] = set()
        statuses: dict[int, int] = {}
        stop = False

        async def sender(number: int) -> None:
            while not stop:
                number += 8
                started.add(number)
                statuses[number] = (await self.http("POST", f"/hooks/{number}", b"x")).status

        senders = [Deferred.fromCoroutine(sender(first)) for first in range(8)]
        for _ in range(3):
            witness = await self.connect(server, allow_reconnect=False)
            arrived: set[int] = set()
            await witness.subscribe("hooks.*", lambda msg, arrived=arrived: arrived.add(int(msg.subject[6:])))
            before = set(started)
            confirmed: set[int] = set()
            while len(confirmed) < 100:
                await self.sleep(0.01)
                confirmed = {number for number, status in statuses.items() if status == 202} - before
            closed = witness.when_closed()
            await server.stop()
            await closed
            await self.until(lambda: self.bridge.problems())
            confirmed = {number for number, status in statuses.items() if status == 202} - before
            self.assertEqual(confirmed - arrived, set())
            await server.start()
        stop = True
        for one in senders:
            await one
        self.assertIn(503, statuses.values())


class TLSTests(BridgeHTTPCase):
    """A listener with TLS."""

    async def start_tls(self, routes: str, **options: Any) -> NatsClient:
        authority = CertificateAuthority()
        directory = self.mktemp()
        files = authority.issue_server(["localhost"]).write(directory, "server")
        self.options = optionsForClientTLS("localhost", Certificate.loadPEM(authority.write(directory).read_bytes()))
        key, certificate = (str(path).replace(":", r"\:") for path in (files.key, files.certificate))
        self.endpoint = f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
        return await self.start(routes, **options)

    async def raw(self, data: bytes = b"") -> RawConnection:
        """A connection by TLS that has sent *data*."""
        endpoint = wrapClientTLS(self.options, HostnameEndpoint(self.reactor, "127.0.0.1", self.port))
        connection: RawConnection = await connectProtocol(endpoint, RawConnection())
        self.addCleanup(connection.abort)
        if data:
            connection.send(data)
        return connection

    async def test_requests(self) -> None:
        """Requests are answered, and refused ones too, although their bodies come in."""
        client = await self.start_tls(ORDERS + "max_body = 1000")
        await client.subscribe("svc.>", lambda msg: msg.respond(msg.data))
        data = b"PUT /orders/7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        answer = await self.raw_answer(data % 1000 + b"x" * 1000)
        self.assertEqual((answer.status, answer.body), (200, b"x" * 1000))
        connection = await self.raw(data % 1_000_000 + b"x" * 1_000_000)
        await self.until(lambda: connection.received.endswith(b"}"))
        self.assertEqual(parse(connection.received).status, 413)
        await self.until(lambda: connection.closed)

    async def test_too_many_connections(self) -> None:
        """Connections beyond the bound are closed, and nothing is logged as an error."""
        await self.start_tls(ORDERS, listen="max_connections = 1")
        kept = await self.raw(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        await self.until(lambda: kept.received)
        more = await self.raw(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        await self.until(lambda: more.closed)
        self.assertEqual((more.received, kept.closed), (b"", False))


class StopTests(BridgeHTTPCase):
    """A stop under load."""

    async def test_accepted_requests_are_answered(self) -> None:
        """A stop with hundreds of requests in flight answers every one of them."""
        client = await self.start(ORDERS + 'timeout = "10s"')
        waiting: list[Msg] = []
        await client.subscribe("svc.>", waiting.append)
        asked = [Deferred.fromCoroutine(self.http("GET", f"/orders/{number}")) for number in range(300)]
        await self.until(lambda: len(waiting) == 300)
        stopped = self.bridge.stopService()
        for msg in waiting:
            await msg.respond(msg.subject.rpartition(".")[2].encode())
        answers = [await one for one in asked]
        self.assertEqual([answer.body for answer in answers], [str(number).encode() for number in range(300)])
        await stopped
        self.assertEqual(self.count("in_flight", route="orders", type="http-request"), 0)


class PageTests(BridgeHTTPCase):
    """``docs/howto/bridge-http.rst``."""

    page = (Path(__file__).resolve().parents[2] / "docs" / "howto" / "bridge-http.rst").read_text("utf-8")

    def block(self, language: str) -> str:
        """The first block of a language."""
        body = self.page.partition(f".. code-block:: {language}\n\n")[2]
        return textwrap.dedent(re.split(r"\n(?=\S)", body)[0])

    async def test_commands_give_what_the_page_says(self) -> None:
        """The configuration, the service and each command of the page work as printed."""
        server = await self.start_server(jetstream=True)
        factories = builtin_factories()
        text = self.block("toml").replace("nats://127.0.0.1:4222", server.url).replace("tcp:8080", "tcp:0")
        service = BridgeService(self.reactor, load_config(text, "bridge.toml", factories), factories)
        service.startService()
        self.addCleanup(service.stopService)
        program = self.block("python").replace("nats://127.0.0.1:4222", server.url)
        orders = Program()
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        self.reactor.spawnProcess(orders, sys.executable, [sys.executable, "-c", program], environment)
        self.addCleanup(orders.kill)
        await self.until(lambda: b"ready" in orders.output and not service.problems(), 20.0, what="service and bridge")
        port: Any = service.listeners["public"].port
        commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", self.block("console"), re.MULTILINE)
        self.assertEqual(len(commands), 9)
        for command, expected in commands:
            here = command.replace("127.0.0.1:8080", f"127.0.0.1:{port.getHost().port}")
            output = await getProcessOutput("/bin/bash", ["-c", here], os.environ, reactor=self.reactor)
            self.assertEqual(output.decode().strip(), expected.strip(), command)

    def test_every_problem_is_on_the_page(self) -> None:
        """The tables name each kind of problem that a caller can act upon."""
        kinds = {found.kind for found in vars(problem).values() if isinstance(found, problem.Problem)}
        unspecific = {"internal-error", "nats-error", "expectation-failed"}
        tables = self.page.partition("What a caller is told")[2].partition("Signed webhooks")[0]
        for kind in kinds - unspecific:
            self.assertIn(f"``{kind}``", tables)


class Program(ProcessProtocol):
    """A program that runs beside the test."""

    def __init__(self) -> None:
        self.output = b""
        self._ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.output += data

    def errReceived(self, data: bytes) -> None:
        self.output += data

    def processEnded(self, reason: Failure) -> None:
        self._ended.callback(None)

    def kill(self) -> Deferred[None]:
        """End it; fires when it has ended."""
        assert self.transport is not None
        if not self._ended.called:
            self.transport.signalProcess("KILL")
        return self._ended
