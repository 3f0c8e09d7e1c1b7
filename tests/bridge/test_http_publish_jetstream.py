"""The route type ``http-publish`` with ``confirm = "jetstream"``, in memory: what is asked of the stream, and what its answers become."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, NamedTuple

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.routes.http_publish import factory
from pynats_twisted.errors import (
    ConnectionClosedError,
    DuplicateInProcessError,
    ExpectationNotReadyError,
    JetStreamApiError,
    JetStreamDecodeError,
    JetStreamLimitError,
    JetStreamNotEnabledError,
    JetStreamTooManyRequestsError,
    JetStreamUnavailableError,
    MaxPayloadExceededError,
    MessageExceedsMaximumError,
    NoStreamResponseError,
    OutboundBufferFullError,
    PermissionsViolationError,
    PublishDisconnectedError,
    PublishTimeoutError,
    PublishUnconfirmedError,
    SealedStreamError,
    StreamStoreError,
    TooManyStalledMsgsError,
    WrongLastMessageIdError,
    WrongLastSequenceError,
    WrongStreamError,
)
from pynats_twisted.jetstream.api import PubAck
from pynats_twisted.protocol.headers import Headers

from .http_support import Harness, HTTPResponse, Peer

TYPE = "http-publish"


class Stored(NamedTuple):
    """A publish that a stream is asked to confirm."""

    subject: str
    payload: bytes
    headers: Headers
    msg_id: str | None
    options: dict[str, Any]
    ack: Deferred[PubAck]


class FakeJetStream:
    """What the route uses of a context; the test answers."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.stored: list[Stored] = []
        self.fail_with: Exception | None = None
        self.room: Deferred[None] | None = None

    def publish_async(self, subject: str, payload: bytes, headers: Headers, *, msg_id: str | None, **options: Any) -> Deferred[PubAck]:
        if self.fail_with is not None:
            raise self.fail_with
        ack: Deferred[PubAck] = Deferred()
        self.stored.append(Stored(subject, payload, headers.copy(), msg_id, options, ack))
        return ack

    def publish_async_room(self) -> Deferred[None]:
        if self.room is not None:
            return self.room
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done


class JetStreamCase(SynchronousTestCase):
    """A route on ``/hooks/{source}`` that says nothing of ``confirm``."""

    def make(self, **keys: Any) -> Peer:
        self.harness = Harness()
        client: Any = self.harness.client
        self.js = FakeJetStream(client)
        client.jetstream = lambda: self.js
        self.route = self.harness.route(factory, name="hooks", **{"path": "/hooks/{source}", "subject": "hooks.{source}", **keys})
        return self.harness.peer()

    def ack(self, seq: int = 7, duplicate: bool = False) -> None:
        """The stream confirms the oldest publish."""
        self.js.stored.pop(0).ack.callback(PubAck(stream="HOOKS", seq=seq, duplicate=duplicate))

    def ask(self, peer: Peer, body: bytes = b"x", target: str = "/hooks/a", **headers: str) -> None:
        peer.request("POST", target, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    def failed(self, error: Exception, **keys: Any) -> HTTPResponse:
        """The answer when the stream's answer is *error*."""
        peer = self.make(**keys)
        self.ask(peer, if_match="3")
        self.js.stored[0].ack.errback(error)
        return peer.response()

    def count(self, metric: str, **labels: str) -> float:
        return self.harness.count(metric, route="hooks", type=TYPE, **labels)


class StoredTests(JetStreamCase):
    """When all goes well."""

    def test_answer_waits_for_the_stream(self) -> None:
        """By default the sender gets 202, with stream and sequence, when the stream has the message, and not before."""
        peer = self.make()
        peer.request("POST", "/hooks/a", {"Content-Type": "text/plain", "Nats-Msg-Id": "mine", "Nats-Rollup": "all"}, b"\x00body")
        (message,) = self.js.stored
        self.assertEqual((message.subject, message.payload, message.options), ("hooks.a", b"\x00body", {"timeout": 2.0}))
        self.assertEqual(dict(message.headers), {"Content-Type": "text/plain", "Nats-Bridge-Path": "edge"})
        self.assertEqual((peer.responses(), self.harness.client.flushes, self.harness.client.published), ([], [], []))
        self.ack()
        answer = peer.response()
        self.assertEqual((answer.status, msgspec.json.decode(answer.body)), (202, {"stream": "HOOKS", "seq": 7, "duplicate": False}))
        self.assertEqual((self.count("messages_out_total"), self.count("bytes_out_total")), (1, 5))

    def test_ok_status(self) -> None:
        """``ok_status`` is the status of what was stored."""
        peer = self.make(ok_status=201)
        self.ask(peer)
        self.ack()
        self.assertEqual(peer.response().status, 201)

    def test_duplicate_is_200(self) -> None:
        """What the stream had already is 200, says so, and is counted."""
        peer = self.make(dedupe="header:x-id")
        self.ask(peer, x_id="42")
        self.assertEqual(self.js.stored[0].msg_id, "hooks:42")
        self.ack(duplicate=True)
        answer = peer.response()
        self.assertEqual((answer.status, msgspec.json.decode(answer.body)), (200, {"stream": "HOOKS", "seq": 7, "duplicate": True}))
        self.assertEqual(self.count("duplicates_total"), 1)

    def test_own_ids(self) -> None:
        """Without dedupe each request has an id of its own, so that it can be sent again; that it was is no duplicate of the sender's."""
        peer = self.make()
        self.ask(peer)
        self.ask(self.harness.peer())
        ids = [message.msg_id or "" for message in self.js.stored]
        self.assertEqual(len(set(ids)), 2)
        self.assertRegex(ids[0], "^hooks:[0-9a-f]{32}$")
        self.ack(duplicate=True)
        answer = peer.response()
        self.assertEqual((answer.status, msgspec.json.decode(answer.body)["duplicate"], self.count("duplicates_total")), (202, False, 0))

    def test_no_ids(self) -> None:
        """With dedupe = "none" there is no id."""
        self.ask(self.make(dedupe="none"))
        self.assertIsNone(self.js.stored[0].msg_id)

    def test_users_have_ids_of_their_own(self) -> None:
        """Of a route with several users, none can take the id of another one."""
        peer = self.make(dedupe="header:x-id", auth={"bearer": "t", "basic": {"eve": "e", "bob": "b"}})
        for credentials in ("eve:e", "bob:b", "bob:b"):
            self.ask(peer, x_id="42", Authorization="Basic " + base64.b64encode(credentials.encode()).decode())
            peer = self.harness.peer()
        self.ask(peer, x_id="42", Authorization="Bearer t")
        ids = [message.msg_id for message in self.js.stored]
        self.assertEqual(ids[0], "hooks:" + hashlib.sha256(b"eve\n42").hexdigest())
        self.assertEqual((ids[1], ids[3], len(set(ids))), (ids[2], "hooks:42", 3))

    def test_client_gone(self) -> None:
        """When the sender goes away its message is stored all the same."""
        peer = self.make()
        self.ask(peer)
        peer.disconnect()
        self.ack()
        self.assertEqual((peer.responses(), self.count("messages_failed_total", reason="client_gone")), ([], 1))
        self.assertEqual((self.count("messages_out_total"), self.count("in_flight")), (1, 0))

    def test_one_context_for_all_routes(self) -> None:
        """Routes that are replaced do not leave contexts behind."""
        self.make()
        self.assertIs(self.harness.context.jetstream(), self.js)
        self.harness.client.jetstream = None  # type: ignore[attr-defined]
        self.assertIs(self.harness.context.jetstream("default"), self.js)


class FailureTests(JetStreamCase):
    """What the sender is told otherwise."""

    def test_table(self) -> None:
        """Each error of a stream has its status; what passes by itself is 503 with Retry-After."""
        full = StreamStoreError(503, 10077, "maximum bytes exceeded")
        for error, status, kind in (
            (NoStreamResponseError("hooks.secret"), 503, "no-stream"),
            (PublishTimeoutError("hooks.secret", "x"), 504, "confirm-timeout"),
            (PublishDisconnectedError("hooks.secret", "x"), 503, "not-confirmed"),
            (PublishUnconfirmedError("hooks.secret", "x"), 503, "not-confirmed"),
            (ConnectionClosedError("secret"), 503, "not-confirmed"),
            (TooManyStalledMsgsError("hooks.secret", 4000), 503, "buffer-full"),
            (full, 507, "stream-full"),
            (StreamStoreError(503, 10077, "maximum messages exceeded"), 507, "stream-full"),
            (StreamStoreError(503, 10077, "secret disk failed"), 503, "stream-unavailable"),
            (JetStreamLimitError(503, 10023, "secret"), 507, "no-resources"),
            (JetStreamLimitError(500, 10028, "secret"), 507, "no-resources"),
            (JetStreamLimitError(500, 10047, "secret"), 507, "no-resources"),
            (JetStreamUnavailableError(503, 10008, "secret"), 503, "stream-unavailable"),
            (JetStreamUnavailableError(503, 10009, "secret"), 503, "stream-unavailable"),
            (JetStreamNotEnabledError(503, 10039, "secret"), 503, "stream-unavailable"),
            (JetStreamTooManyRequestsError(429, 10167, "secret"), 503, "stream-unavailable"),
            (DuplicateInProcessError(409, 10158, "secret"), 503, "stream-unavailable"),
            (ExpectationNotReadyError(503, 10163, "secret"), 503, "stream-unavailable"),
            (MessageExceedsMaximumError(400, 10054, "secret"), 413, "nats-max-payload"),
            (WrongLastSequenceError(400, 10071, "wrong last sequence: 41"), 409, "not-as-expected"),
            (WrongLastSequenceError(400, 10164, "secret"), 409, "not-as-expected"),
            (WrongLastMessageIdError(400, 10070, "secret"), 409, "not-as-expected"),
            (WrongStreamError(400, 10060, "secret"), 502, "stream-refused"),
            (SealedStreamError(400, 10109, "secret"), 502, "stream-refused"),
            (JetStreamApiError(500, 19999, "secret"), 502, "stream-refused"),
            (JetStreamApiError(503, 19998, "secret"), 503, "stream-unavailable"),
            (JetStreamDecodeError("secret"), 502, "nats-error"),
            (PermissionsViolationError("secret", "publish", "hooks.secret"), 502, "nats-permission"),
            (PermissionsViolationError("secret", "subscription", "_INBOX.secret.*"), 503, "not-confirmed"),
        ):
            answer = self.failed(error)
            self.assertEqual((answer.status, answer.kind), (status, kind), error)
            self.assertEqual(answer.headers.get("retry-after"), ["1"] if status == 503 else None, error)
            self.assertNotIn(b"secret", answer.body)
            self.assertEqual((self.count("in_flight"), self.count("messages_out_total")), (0, 0))

    def test_last_sequence_is_told(self) -> None:
        """Who said what is expected is told what is there."""
        error = WrongLastSequenceError(400, 10071, "wrong last sequence: 41")
        answer = self.failed(error, expected={"last_subject_seq": "header:if-match"})
        self.assertEqual(answer.problem["last_seq"], 41)

    def test_cause_is_for_the_operator(self) -> None:
        """The answer tells nothing of the inside; the route's errors tell cause and hint."""
        self.failed(StreamStoreError(503, 10077, "maximum bytes exceeded"))
        (error,) = self.harness.context.activity("hooks").errors
        self.assertEqual(error.kind, "stream-full")
        self.assertIn("maximum bytes exceeded", error.cause)
        self.assertIn("discard", error.hint)

    def test_refused_by_the_client(self) -> None:
        """What the client would not even take was not sent: 503, or 413 where it is too large."""
        for error, status, kind in (
            (OutboundBufferFullError(1, 2, 3), 503, "buffer-full"),
            (MaxPayloadExceededError(2, 1), 413, "nats-max-payload"),
            (ConnectionClosedError("x"), 503, "nats-disconnected"),
        ):
            peer = self.make()
            self.js.fail_with = error
            self.ask(peer)
            answer = peer.response()
            self.assertEqual((answer.status, answer.kind), (status, kind))

    def test_unknown_error_is_500(self) -> None:
        """A bug is logged, and the sender gets 500."""
        answer = self.failed(ZeroDivisionError("secret"))
        self.assertEqual((answer.status, len(self.flushLoggedErrors(ZeroDivisionError))), (500, 1))


class ExpectedTests(JetStreamCase):
    """``expected``."""

    def asked(self, expected: dict[str, Any], target: str = "/hooks/a", **headers: str) -> dict[str, Any] | str:
        """What is asked of the stream, or why the request is refused."""
        peer = self.make(expected=expected)
        self.ask(peer, target=target, **headers)
        if not self.js.stored:
            return peer.response().kind
        asked = dict(self.js.stored[0].options)
        del asked["timeout"]
        return asked

    def test_of_the_configuration(self) -> None:
        """A stream and numbers are the same for all requests."""
        self.assertEqual(self.asked({"stream": "HOOKS"}), {"expected_stream": "HOOKS"})
        found = self.asked({"stream": "HOOKS", "last_subject_seq": 0, "last_seq": 5})
        self.assertEqual(found, {"expected_stream": "HOOKS", "expected_last_subject_seq": 0, "expected_last_seq": 5})

    def test_of_the_request(self) -> None:
        """A request says the number, also as an entity tag; the id is one of the route's ids."""
        self.assertEqual(self.asked({"last_subject_seq": "header:If-Match"}, if_match='"42"'), {"expected_last_subject_seq": 42})
        self.assertEqual(self.asked({"last_seq": "query:seq"}, "/hooks/a?seq=0"), {"expected_last_seq": 0})
        self.assertEqual(self.asked({"last_msg_id": "header:x-last"}, x_last="7"), {"expected_last_msg_id": "hooks:7"})

    def test_bad_numbers_are_400(self) -> None:
        """What is no number, or not there, is refused before anything is sent."""
        for value in ("", "x", "-1", "+1", "1.0", '"1', "1" * 20, "0x1", "01", "*", 'W/"1"', "\u00b2"):
            self.assertEqual(self.asked({"last_subject_seq": "header:if-match"}, if_match=value), "bad-value", value)
        self.assertEqual(self.asked({"last_seq": "header:if-match"}), "bad-value")
        self.assertEqual(self.asked({"last_seq": "query:n"}, "/hooks/a?n=1&n=2"), "bad-value")


class BatchTests(JetStreamCase):
    """``batch = "ndjson"``."""

    def test_one_answer_for_all(self) -> None:
        """Each line has its own id, all go out at once, and the answer comes when the last is stored."""
        peer = self.make(batch="ndjson", dedupe="header:x-id", expected={"stream": "HOOKS"})
        self.ask(peer, b"1\n2\n3\n", x_id="7")
        self.assertEqual([message.msg_id for message in self.js.stored], ["hooks:7:1", "hooks:7:2", "hooks:7:3"])
        self.assertEqual({message.options["expected_stream"] for message in self.js.stored}, {"HOOKS"})
        self.ack(5)
        self.ack(1, duplicate=True)
        self.assertEqual(peer.responses(), [])
        self.ack(6)
        answer = peer.response()
        content = {"stream": "HOOKS", "seq": 6, "duplicate": False, "messages": 3, "duplicates": 1}
        self.assertEqual((answer.status, msgspec.json.decode(answer.body)), (202, content))
        self.assertEqual((self.count("messages_out_total"), self.count("duplicates_total")), (3, 1))

    def test_all_known_is_200(self) -> None:
        """A batch that was there already is 200."""
        peer = self.make(batch="ndjson", dedupe="body")
        self.ask(peer, b"1\n2\n")
        self.ack(1, duplicate=True)
        self.ack(2, duplicate=True)
        answer = peer.response()
        self.assertEqual((answer.status, msgspec.json.decode(answer.body)["duplicate"]), (200, True))

    def test_failed_in_the_middle(self) -> None:
        """When one line is not stored the sender is not told that all is well, but how many were stored, and the first reason."""
        peer = self.make(batch="ndjson")
        self.ask(peer, b"1\n2\n3\n")
        self.js.stored.pop(1).ack.errback(StreamStoreError(503, 10077, "maximum bytes exceeded"))
        self.ack()
        self.js.stored.pop(0).ack.errback(NoStreamResponseError("x"))
        answer = peer.response()
        self.assertEqual((answer.status, answer.kind, answer.problem["published"]), (507, "stream-full", 1))
        self.assertEqual(self.count("messages_out_total"), 1)

    def test_lines_wait_for_room(self) -> None:
        """A large batch fills neither window nor buffer: it waits between its lines; when the client is closed meanwhile, the sender learns
        how many were stored."""
        peer = self.make(batch="ndjson")
        self.js.room = Deferred()
        self.ask(peer, b"1\n2\n3\n")
        self.assertEqual(len(self.js.stored), 1)
        self.js.fail_with = ConnectionClosedError("x")
        self.js.room.callback(None)
        self.assertEqual(peer.responses(), [])
        self.ack()
        answer = peer.response()
        self.assertEqual((answer.status, answer.kind, answer.problem["published"]), (503, "not-confirmed", 1))


class WordsTests(JetStreamCase):
    """What the route says of itself."""

    def test_guarantee(self) -> None:
        """The guarantee says what was stored where, and what trying again does."""
        self.make()
        self.assertIn("202 means that a stream has stored the message", self.route.guarantee())
        self.assertIn("at least once", self.route.guarantee())
        self.assertIn("sync_interval", self.route.guarantee())
        self.make(dedupe="header:x-id")
        self.assertIn("stores it once, within the duplicate window", self.route.guarantee())

    def test_jetstream_is_the_default(self) -> None:
        """A configuration that says nothing of it gets the level at which nothing is lost."""
        self.make()
        self.assertEqual((self.route.config.confirm, self.route.config.effective_dedupe), ("jetstream", "request"))
