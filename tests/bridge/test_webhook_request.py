"""What a webhook sends."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.loops import LoopGuard
from pynats_twisted.bridge.webhook_answers import Action, judge
from pynats_twisted.bridge.webhook_client import Answer
from pynats_twisted.bridge.webhook_request import Outgoing, RequestMaker
from pynats_twisted.errors import ConfigurationError, CredentialsError
from pynats_twisted.protocol.headers import Headers, parse_headers
from tests.bridge.test_webhook_config import make

GUARD = LoopGuard("edge")


def outgoing(headers: dict[str, Any] | None = None, data: bytes = b"x", **changes: Any) -> Outgoing:
    values: dict[str, Any] = {"subject": "orders.new", "stream": "ORDERS", "seq": 7, "delivered": 1, **changes}
    return Outgoing(headers=Headers(headers or {}), data=data, **values)


class RequestMakerTests(SynchronousTestCase):
    """:class:`RequestMaker`."""

    def lines(self, message: Outgoing, **keys: Any) -> list[str]:
        head, _, body = RequestMaker(make(**keys), GUARD).make(message, 1_700_000_000.9).partition(b"\r\n\r\n")
        self.assertEqual(body, message.data)
        return head.decode().split("\r\n")

    def test_plain(self) -> None:
        """A message without headers."""
        from pynats_twisted._version import __version__

        self.assertEqual(
            self.lines(outgoing()),
            [
                "POST /hook HTTP/1.1", "Host: crm.example.com", f"User-Agent: nats-bridge/{__version__}", "Accept: */*",
                "Content-Type: application/octet-stream", "Content-Length: 1", "webhook-id: msg_ORDERS_7", "webhook-timestamp: 1700000000",
                "Nats-Subject: orders.new", "Nats-Stream: ORDERS", "Nats-Sequence: 7", "Nats-Delivered: 1", "Nats-Bridge-Path: edge",
            ],
        )  # fmt: skip

    def test_allow_list(self) -> None:
        """Listed headers pass in any spelling, the others do not; the content type of the configuration is for messages without one."""
        lines = self.lines(
            outgoing({"content-TYPE": "text/plain", "X-A": ["1", "2"], "X-B": "3", "Cookie": "c"}), request_headers=["content-type", "x-a"]
        )
        self.assertIn("Content-Type: text/plain", lines)
        self.assertIn("X-A: 1", lines)
        self.assertIn("X-A: 2", lines)
        self.assertEqual([line for line in lines if line.startswith(("X-B", "Cookie"))], [])
        self.assertEqual(len([line for line in lines if line.lower().startswith("content-type")]), 1)
        self.assertIn("Content-Type: application/json", self.lines(outgoing(), content_type="application/json"))

    def test_tracing(self) -> None:
        """A trace is passed on when it is valid, and begun when that is asked for."""
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        self.assertIn(f"traceparent: {trace}", self.lines(outgoing({"traceparent": trace})))
        self.assertEqual([line for line in self.lines(outgoing({"traceparent": "x"})) if line.startswith("traceparent")], [])
        self.assertEqual(len([line for line in self.lines(outgoing(), tracing=True) if line.startswith("traceparent: 00-")]), 1)

    def test_path(self) -> None:
        """The bridges that a message has passed come along."""
        self.assertIn("Nats-Bridge-Path: a,b,edge", self.lines(outgoing({"Nats-Bridge-Path": "a, b"})))

    def test_bad_headers(self) -> None:
        """A header that cannot be sent is left out and reported; the message is sent."""
        reports: list[str] = []
        block = b"NATS/1.0\r\nX-A: a\x01b\r\nX-A: good\r\nX-A: \xff\r\n\r\n"
        maker = RequestMaker(make(request_headers=["x-a"]), GUARD, reports.append)
        request = maker.make(Outgoing("orders.new", parse_headers(block).headers, b"x", "ORDERS", 7, 1), 0.0)
        self.assertEqual(request.count(b"X-A: "), 1)
        self.assertIn(b"X-A: good\r\n", request)
        self.assertEqual(reports, ["header 'X-A'"] * 2)

    def test_secrets(self) -> None:
        """Secrets in headers come from where they are kept; one that is missing or no header is an error that does not show it."""
        os.environ["WEBHOOK_TEST_SECRET"] = "Bearer geheim"
        self.addCleanup(os.environ.pop, "WEBHOOK_TEST_SECRET", None)
        self.assertIn("Authorization: Bearer geheim", self.lines(outgoing(), headers={"Authorization": {"env": "WEBHOOK_TEST_SECRET"}}))
        os.environ["WEBHOOK_TEST_SECRET"] = "geheim\r\nX: y"
        with self.assertRaises(ConfigurationError) as caught:
            self.lines(outgoing(), headers={"Authorization": {"env": "WEBHOOK_TEST_SECRET"}})
        self.assertNotIn("geheim", str(caught.exception))
        with self.assertRaises(CredentialsError):
            self.lines(outgoing(), headers={"Authorization": {"env": "WEBHOOK_TEST_MISSING"}})

    @settings(max_examples=300, deadline=None)
    @given(
        st.binary(max_size=60),
        st.text(max_size=30),
        st.lists(
            st.tuples(
                st.sampled_from(["X-A", "x-a", "Nats-Msg-Id", "Nats-Bridge-Path", "tracestate", "Content-Type"]), st.binary(max_size=30)
            )
        ),
    )
    def test_no_injection(self, data: bytes, subject: str, found: list[tuple[str, bytes]]) -> None:
        """Whatever a message holds, the request has the lines that it should have, one body, and nothing else."""
        lines = [name.encode() + b": " + value.replace(b"\n", b"") for name, value in found]
        headers = parse_headers(b"\r\n".join([b"NATS/1.0", *lines, b"", b""])).headers
        subject = subject.encode("utf-8", "replace").decode()
        request = RequestMaker(make(request_headers=["x-a", "content-type"]), GUARD).make(
            Outgoing(subject, headers, data, "ORDERS", 7, 1), 5.0
        )
        head, _, body = request.partition(b"\r\n\r\n")
        self.assertEqual(body, data)
        names = [line.partition(b": ")[0].lower() for line in head.split(b"\r\n")[1:]]
        known = {
            b"host", b"user-agent", b"accept", b"content-type", b"content-length", b"webhook-id", b"webhook-timestamp", b"nats-subject",
            b"nats-stream", b"nats-sequence", b"nats-delivered", b"nats-bridge-path", b"x-a", b"tracestate",
        }  # fmt: skip
        self.assertLessEqual(set(names), known)
        self.assertEqual([name for name in known - {b"x-a", b"tracestate", b"content-type"} if names.count(name) != 1], [])
        self.assertNotIn(b"\n", head.replace(b"\r\n", b""))
        self.assertNotIn(b"\x00", head)


class JudgeTests(SynchronousTestCase):
    """:func:`judge`."""

    def test_every_status(self) -> None:
        """What is done after the first attempt, for every status there is."""
        config = make()
        expected = dict.fromkeys(range(200, 300), Action.ACK)
        expected |= dict.fromkeys(range(300, 400), Action.DEAD)
        expected |= dict.fromkeys(range(400, 500), Action.DEAD)
        expected |= dict.fromkeys((401, 403, 404, 408, 425, 429, *range(500, 600)), Action.RETRY)
        expected[410] = Action.GONE
        found = {status: judge(Answer(status), 1, config.permanent_limit).action for status in range(200, 600)}
        self.assertEqual(found, expected)

    def test_breaker(self) -> None:
        """What counts against the target: that it fails, is busy or cannot be reached; not that it refuses a message."""
        config = make()
        counted = [status for status in range(200, 600) if judge(Answer(status), 1, config.permanent_limit).target_failed]
        self.assertEqual(counted, [408, 425, 429, *range(500, 600)])
        self.assertTrue(judge(Answer(0, "refused", "connect"), 1, config.permanent_limit).target_failed)

    def test_broken_answers(self) -> None:
        """An answer that broke off is a success with 2xx, and tried again with any other status."""
        config = make()
        self.assertEqual(judge(Answer(200, "cut"), 1, config.permanent_limit).action, Action.ACK)
        for status in (0, 302, 400, 410, 500):
            self.assertEqual(judge(Answer(status, "cut"), 9, config.permanent_limit).action, Action.RETRY, status)
