"""HTTP routes under input that nobody thought of: whatever comes, it becomes one message to a subject of the route, or an answer.

``BRIDGE_FUZZ_CASES`` in the environment says how many cases each test tries; the suite tries few.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from itertools import pairwise
from typing import Any
from urllib.parse import quote_from_bytes

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import tests.protocol  # noqa: F401  # it defines the profile
from pynats_twisted.bridge.problem import TYPE_PREFIX
from pynats_twisted.bridge.routes import http_publish, http_request
from pynats_twisted.bridge.verify import SignatureError, Verifier
from pynats_twisted.errors import HeadersNotSupportedError, NatsTimeoutError
from pynats_twisted.protocol.encoder import PublishEncoder
from pynats_twisted.protocol.headers import Headers, parse_headers

from .http_support import Harness, HTTPResponse, Peer, reply

settings.load_profile("steady")
CASES = int(os.environ.get("BRIDGE_FUZZ_CASES", "200"))
fuzz = settings(settings.get_profile("steady"), max_examples=CASES)

PIECES = [
    *(bytes([number]) for number in range(33)), *(b"%c" % char for char in b".*>/\\|'\":&+=%\x7f\x85\xff"),
    b"..", b"\r\n", b"\r\nPUB x 1\r\nx\r\n", b"$JS", b"$SYS.REQ", b"_INBOX.x", b"%2", b"%2e", b"%252e", b"{id}", b"<script>", b"::",
    b"\xc0\xae", b"\xed\xa0\x80", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe3\x80\x80", b"\xef\xbb\xbf", b"a" * 129, b"\xc3\xbc" * 60,
    b"Nats-Msg-Id: x",
]  # fmt: skip
NASTY = st.sampled_from(PIECES)
TEXTS = st.text(max_size=4).map(lambda text: text.encode("utf-8", "surrogatepass"))
DATA = st.lists(st.one_of(NASTY, st.binary(max_size=8), TEXTS), max_size=5).map(b"".join)
# What a client can put into a request line, encoded or not.
ENCODED = DATA.map(lambda data: quote_from_bytes(data, safe="").encode())
# One odd piece in a value that is good otherwise, so that nothing else refuses it.
SPOILT = NASTY.map(lambda piece: quote_from_bytes(b"a" + piece + b"b", safe="").encode())
GOOD = st.sampled_from([b"7", b"a-b", b"%37"])
URL_PART = st.one_of(GOOD, SPOILT, ENCODED, DATA.map(lambda data: re.sub(rb"[\r\n]", b"", data)))
METHODS = st.one_of(st.just(b"GET"), st.sampled_from([b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"get", b"PRI", b""]))
HEADER_NAMES = st.one_of(
    st.sampled_from(
        [
            b"X-Tag", b"x-tag", b"X-Id", b"X-Secret", b"Content-Type", b"Cookie", b"Authorization", b"traceparent", b"tracestate", b"Host",
            b"Nats-Msg-Id", b"nats-rollup", b"Nats-Expected-Last-Sequence", b"Nats-TTL", b"Nats-Schedule", b"Nats-Bridge-Path",
            b"Nats-Bridge-Remote", b"Connection", b"Transfer-Encoding", b"Content-Length", b"Expect", b"Upgrade", b"Origin",
        ]
    ),
    st.binary(max_size=6),
)  # fmt: skip
HEADER_VALUES = st.one_of(
    NASTY.map(lambda piece: b"a" + piece + b"b"), DATA, st.sampled_from([b"chunked", b"0", b"5", b"-1", b"100-continue", b"edge"])
)
HEADERS = st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=6)

SUBJECT = re.compile(r"svc\.orders\.(?:GET|POST|PUT)\.[^\s.*>\x00-\x1f\x7f]+\.[^\s.*>\x00-\x1f\x7f]+")
ALLOWED = {"X-Tag", "Content-Type", "traceparent", "tracestate"} | {f"Nats-Bridge-{word}" for word in ("Method", "Path", "Query", "Remote")}


class FuzzCase(SynchronousTestCase):
    """What holds after every request."""

    harness: Harness

    def check_wire(self, subject: str, payload: bytes, headers: Headers) -> None:
        """On the wire to NATS it is one message with these headers, and nothing else."""
        parts: list[bytes] = []
        self.encoder.encode(parts, subject, payload, None, headers)
        wire = b"".join(parts)
        line, _, rest = wire.partition(b"\r\n")
        words = line.split(b" ")
        self.assertEqual((len(words), words[0], words[1]), (4, b"HPUB", subject.encode()))
        length, total = int(words[2]), int(words[3])
        block = rest[:length]
        self.assertEqual(rest[length:], payload + b"\r\n")
        self.assertEqual(total, length + len(payload))
        self.assertEqual(parse_headers(block).headers, headers)
        self.assertEqual(block.count(b"\r\n"), len(list(headers.multi_items())) + 2)

    def check_response(self, response: HTTPResponse) -> None:
        """It is a response of ours, and a problem tells nothing of the inside."""
        self.assertIn(response.status, range(200, 600))
        self.assertNotEqual(response.status, 500)
        self.assertEqual(response.headers["x-content-type-options"], ["nosniff"])
        if response.status >= 400 and response.body:
            problem = msgspec.json.decode(response.body)
            self.assertTrue(problem["type"].startswith(TYPE_PREFIX))
            self.assertEqual(set(problem) - {"type", "title", "status", "detail", "route", "request_id", "max_bytes"}, set())

    def settle(self, peer: Peer) -> None:
        """The client goes away, and leaves nothing behind; nothing was logged as an error."""
        peer.disconnect()
        self.assertEqual(self.harness.listener._body_bytes, 0)
        self.assertEqual(self.flushLoggedErrors(), [])

    def setUp(self) -> None:
        self.encoder = PublishEncoder()


class RequestFuzzTests(FuzzCase):
    """``http-request``."""

    def make(self) -> None:
        self.harness = Harness(request_timeout=30.0)
        self.harness.route(
            http_request.factory, path="/orders/{id}", methods=["GET", "POST", "PUT"], subject="svc.orders.{method}.{id}.{query:q}",
            request_headers=["x-tag", "content-type"], response_headers=["content-type", "x-tag", "set-cookie"], max_body=64,
        )  # fmt: skip

    def take(self) -> list[Any]:
        sent, self.harness.client.requests = self.harness.client.requests, []
        return sent

    def check_sent(self, sent: Any) -> None:
        self.assertIsNotNone(SUBJECT.fullmatch(sent.subject), sent.subject)
        self.assertLessEqual(len(sent.subject.encode()), 1024)
        self.assertEqual(set(sent.headers) - ALLOWED, set())
        self.assertNotIn("edge", sent.headers.get_all("Nats-Bridge-Path")[1].split(",")[:-1])
        self.assertLessEqual(len(sent.payload), 64)
        for _, value in sent.headers.multi_items():
            self.assertIsNone(re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value))
        self.check_wire(sent.subject, sent.payload, sent.headers)

    def test_paths(self) -> None:
        """Whatever stands in a path and a query: one subject of the route with two more tokens, or a 4xx."""
        self.make()
        passed: list[str] = []

        @fuzz
        @given(METHODS, URL_PART, st.one_of(GOOD, URL_PART))
        def run(method: bytes, part: bytes, query: bytes) -> None:
            peer = self.harness.peer()
            peer.send(method + b" /orders/" + part + b"?q=" + query + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            sent = self.take()
            passed.extend(one.subject for one in sent)
            for one in sent:
                self.check_sent(one)
                one.reply.callback(reply(b"ok"))
            found = peer.responses()
            for response in found:
                self.check_response(response)
            self.assertLessEqual(len(sent), 1)
            self.assertTrue(len(found) == 1 or peer.is_closed or method == b"HEAD" or not method)
            self.settle(peer)

        run()
        self.assertGreater(len(set(passed)), 1)

    def test_each_odd_piece(self) -> None:
        """Each odd piece by itself, in a path and in a query, encoded and not: a good subject or a 4xx."""
        self.make()
        passed = 0
        for piece in PIECES:
            for part in (quote_from_bytes(b"a" + piece + b"b", safe="").encode(), quote_from_bytes(piece, safe="").encode(), piece):
                for path, query in ((part, b"1"), (b"7", part)):
                    peer = self.harness.peer()
                    peer.send(b"GET /orders/" + path + b"?q=" + query + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                    for one in self.take():
                        passed += 1
                        self.check_sent(one)
                        one.reply.callback(reply(b"ok"))
                    for response in peer.responses():
                        self.check_response(response)
                    self.settle(peer)
        self.assertGreater(passed, 10)

    def test_headers(self) -> None:
        """Whatever headers come: only the listed ones pass, as they were, and none of them controls NATS."""
        self.make()

        @fuzz
        @given(HEADERS, st.booleans())
        def run(headers: list[tuple[bytes, bytes]], fold: bool) -> None:
            peer = self.harness.peer()
            lines = b"".join(name + b": " + (value.replace(b"\n", b"\n ") if fold else value) + b"\r\n" for name, value in headers)
            peer.send(b"GET /orders/7?q=1 HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
            for one in self.take():
                self.check_sent(one)
                one.reply.callback(reply(b"ok"))
            for response in peer.responses():
                self.check_response(response)
            self.settle(peer)

        run()

    def test_bytes(self) -> None:
        """Whatever bytes come, cut anywhere: at most the messages that a good client's requests would be, and no traceback."""
        self.make()
        good = b"POST /orders/7?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        chunked = b"POST /orders/7?q=1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = st.one_of(
            st.sampled_from([b"3\r\nabc\r\n", b"0\r\n\r\n", b"3;x=y\r\nabc\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n", b"\r\n"]), DATA
        )
        bodies = st.one_of(
            DATA.map(lambda data: good + data),
            st.lists(chunks, max_size=6).map(lambda parts: chunked + b"".join(parts)),
            DATA,
            st.just(good + good),
        )

        @fuzz
        @given(bodies, st.lists(st.integers(0, 200), max_size=4))
        def run(data: bytes, cuts: list[int]) -> None:
            peer = self.harness.peer()
            edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
            for begin, end in pairwise(edges):
                if not peer.is_closed:
                    peer.send(data[begin:end])
            number = 0
            while sent := self.take():
                for one in sent:
                    number += 1
                    self.check_sent(one)
                    one.reply.callback(reply(b"ok"))
            self.assertLessEqual(number, data.count(b"HTTP/1."))
            for response in peer.responses():
                self.check_response(response)
            self.settle(peer)

        run()

    def test_replies(self) -> None:
        """Whatever a service replies: one response with listed headers only, which no value can split."""
        self.make()
        names = st.sampled_from(
            ["Content-Type", "X-Tag", "Set-Cookie", "Nats-Http-Status", "Nats-Service-Error-Code", "Content-Length", "Date", "X"]
        )
        blocks = st.one_of(
            st.lists(st.tuples(names.map(str.encode), DATA), max_size=5).map(
                lambda pairs: b"NATS/1.0\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in pairs) + b"\r\n"
            ),
            DATA,
        )

        @fuzz
        @given(blocks, DATA)
        def run(block: bytes, body: bytes) -> None:
            peer = self.harness.peer()
            peer.request("GET", "/orders/7?q=1")
            (sent,) = self.take()
            sent.reply.callback(reply(body, block=block))
            head = peer.transport.value().partition(b"\r\n\r\n")[0]
            self.assertIsNone(re.search(rb"[\x00-\x08\x0a\x0b\x0c\x0e-\x1f\x7f]", head.replace(b"\r\n", b"")))
            (response,) = peer.responses()
            self.check_reply(response, body)
            self.settle(peer)

        run()

    def check_reply(self, response: HTTPResponse, body: bytes) -> None:
        self.assertEqual(
            set(response.headers) - {"date", "x-content-type-options", "content-type", "content-length", "x-tag", "set-cookie"}, set()
        )
        self.assertIn(response.status, range(200, 600))
        if response.headers.get("content-type") != ["application/problem+json"] and response.status not in (204, 304):
            self.assertEqual(response.body, body)

    def test_timeouts_leave_nothing(self) -> None:
        """Requests that are answered late, never, or after their client went away leave nothing in flight."""
        self.make()

        @fuzz
        @given(st.lists(st.sampled_from(["late", "gone", "answered", "error"]), min_size=1, max_size=5))
        def run(fates: list[str]) -> None:
            for fate in fates:
                peer = self.harness.peer()
                peer.request("GET", "/orders/7?q=1")
                (sent,) = self.take()
                if fate == "late":
                    sent.reply.errback(NatsTimeoutError("x"))
                elif fate == "error":
                    sent.reply.errback(HeadersNotSupportedError("x"))
                elif fate == "answered":
                    sent.reply.callback(reply(b"ok"))
                self.settle(peer)
            self.assertEqual(self.harness.count("in_flight", route="orders", type="http-request"), 0)

        run()


class PublishFuzzTests(FuzzCase):
    """``http-publish``."""

    def make(self, **keys: Any) -> None:
        self.harness = Harness()
        table = {"path": "/hooks/{source}", "subject": "hooks.{source}", "confirm": "none", "request_headers": ["x-tag"], **keys}
        self.harness.route(http_publish.factory, name="hooks", **table)

    def take(self) -> list[Any]:
        found, self.harness.client.published = self.harness.client.published, []
        return found

    def test_ids(self) -> None:
        """Whatever a sender calls its message: the id begins with the route's name, is short, and two names are never one id."""
        self.make(dedupe="header:x-id")
        seen: dict[str, bytes] = {}

        @fuzz
        @given(DATA)
        def run(value: bytes) -> None:
            peer = self.harness.peer()
            peer.send(b"POST /hooks/a HTTP/1.1\r\nHost: x\r\nX-Id: " + value + b"\r\nContent-Length: 1\r\n\r\nx")
            for message in self.take():
                self.assertEqual((message.subject, set(message.headers) - {"X-Tag"}), ("hooks.a", {"Nats-Msg-Id", "Nats-Bridge-Path"}))
                found = message.headers["Nats-Msg-Id"]
                self.assertRegex(found, r"^hooks:[A-Za-z0-9._:/=+-]{1,128}$")
                # A line ends where it ends, and HTTP strips white space around a value.
                said = value.partition(b"\n")[0].strip(b" \t\r")
                self.assertEqual(seen.setdefault(found, said), said)
                self.check_wire(message.subject, message.payload, message.headers)
            for response in peer.responses():
                self.check_response(response)
            self.settle(peer)

        run()

    def test_batches(self) -> None:
        """Whatever a batch holds: its lines, in order, byte for byte."""
        self.make(batch="ndjson", max_batch=50)

        @fuzz
        @given(st.lists(st.one_of(DATA, st.sampled_from([b"\n", b"\r\n", b"{}"])), max_size=20).map(b"\n".join))
        def run(body: bytes) -> None:
            peer = self.harness.peer()
            peer.send(b"POST /hooks/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            lines = [line.rstrip(b"\r") for line in body.split(b"\n") if line.strip()]
            found = [message.payload for message in self.take()]
            self.assertEqual(found, lines if len(lines) <= 50 else [])
            (response,) = peer.responses()
            self.assertEqual(response.status, 202 if found else 413 if lines else 400)
            self.settle(peer)

        run()

    def test_signed(self) -> None:
        """A signed request passes; with one bit of body or signature changed it is 401 and nothing is published."""
        self.make(verify={"scheme": "github", "secret": "s"})

        @fuzz
        @given(st.binary(min_size=1, max_size=50), st.integers(0, 10_000), st.booleans())
        def run(body: bytes, position: int, in_body: bool) -> None:
            signature = hmac.new(b"s", body, hashlib.sha256).digest()
            changed = bytearray(body if in_body else signature)
            changed[position // 8 % len(changed)] ^= 1 << position % 8
            for data, signed, status in (
                (body, signature, 202),
                (bytes(changed) if in_body else body, signature if in_body else bytes(changed), 401),
            ):
                peer = self.harness.peer()
                peer.send(
                    b"POST /hooks/a HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=%s\r\nContent-Length: %d\r\n\r\n%s"
                    % (signed.hex().encode(), len(data), data)
                )
                self.assertEqual((peer.response().status, len(self.take())), (status, int(status == 202)))
                self.settle(peer)

        run()


class SignatureFuzzTests(SynchronousTestCase):
    """Headers of signatures that nobody made with the secret."""

    def test_forgeries(self) -> None:
        """Whatever stands in the headers of a scheme: refused with one of four words, and no other error."""
        key = base64.b64encode(b"secret").decode()
        names = {
            "github": [b"x-hub-signature-256"],
            "stripe": [b"stripe-signature"],
            "standard-webhooks": [b"webhook-id", b"webhook-timestamp", b"webhook-signature"],
            "slack": [b"x-slack-request-timestamp", b"x-slack-signature"],
            "gitlab": [b"x-gitlab-token"],
            "hmac": [b"x-sig"],
        }
        parts = st.lists(
            st.one_of(
                st.sampled_from([b"sha256=", b"t=1000", b"1000", b",v1=", b"v1,", b"v0=", b",", b" ", b"00" * 32, b"A" * 43 + b"=", b"="]),
                DATA,
            ),
            max_size=6,
        ).map(b"".join)
        verifiers = {
            scheme: Verifier(scheme, [key], lambda: 1000.0, **({"header": "x-sig", "encoding": "base64"} if scheme == "hmac" else {}))  # type: ignore[arg-type]
            for scheme in names
        }

        @fuzz
        @given(st.sampled_from(sorted(names)), st.lists(st.lists(parts, max_size=2), min_size=3, max_size=3), DATA)
        def run(scheme: str, values: list[list[bytes]], body: bytes) -> None:
            headers = dict(zip(names[scheme], values, strict=False))
            error = self.assertRaises(SignatureError, verifiers[scheme].verify, headers, body)
            self.assertIn(error.reason, ("missing", "malformed", "wrong", "stale"))

        run()
