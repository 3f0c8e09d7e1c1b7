"""The route type ``http-publish`` in memory, with ``confirm = "server"`` unless a test says otherwise: what is published, when it counts
as accepted, and what the sender is told."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pynats_twisted.bridge.interfaces import IRoute, IRouteFactory
from pynats_twisted.bridge.routes.http_publish import factory
from pynats_twisted.client.status import ClientStatus, Disconnected, ServerErrorEvent
from pynats_twisted.errors import (
    ConfigurationError,
    ConnectionClosedError,
    DisconnectedError,
    FlushTimeoutError,
    MaxPayloadExceededError,
    OutboundBufferFullError,
    PermissionsViolationError,
)

from .http_support import Harness, Peer, Published, config_problems

TYPE = "http-publish"


class PublishCase(SynchronousTestCase):
    """A route on ``/hooks/{source}``."""

    def make(self, **keys: Any) -> Peer:
        self.harness = Harness()
        table = {"path": "/hooks/{source}", "subject": "hooks.{source}", "confirm": "server", **keys}
        self.route = self.harness.route(factory, name="hooks", **table)
        return self.harness.peer()

    @property
    def published(self) -> list[Published]:
        return self.harness.client.published

    def flushed(self, error: Exception | None = None) -> None:
        """The server answers the oldest PING."""
        flush = self.harness.client.flushes.pop(0)
        if error is None:
            flush.callback(None)
            self.harness.reactor.advance(0)
        else:
            flush.errback(error)

    def count(self, metric: str, **labels: str) -> float:
        return self.harness.count(metric, route="hooks", type=TYPE, **labels)


class ConfirmTests(PublishCase):
    """When a message counts as accepted."""

    def test_server(self) -> None:
        """With confirm = "server" the sender gets 202 when the server has answered a PING that went out after the message."""
        peer = self.make()
        peer.request("POST", "/hooks/a", {"Content-Type": "text/plain"}, b"\x00body")
        (message,) = self.published
        self.assertEqual((message.subject, message.payload), ("hooks.a", b"\x00body"))
        self.assertEqual(dict(message.headers), {"Content-Type": "text/plain", "Nats-Bridge-Path": "edge"})
        self.assertEqual(peer.responses(), [])
        self.flushed()
        answer = peer.response()
        self.assertEqual((answer.status, msgspec.json.decode(answer.body)), (202, {"confirm": "server", "messages": 1}))

    def test_none(self) -> None:
        """With confirm = "none" the sender gets its answer when the message is buffered, and no PING is sent."""
        peer = self.make(confirm="none", ok_status=200)
        peer.request("POST", "/hooks/a", body=b"x")
        self.assertEqual((peer.response().status, self.harness.client.flushes), (200, []))

    def test_none_waits_for_room(self) -> None:
        """While the client's buffer is above its mark, the sender waits."""
        peer = self.make(confirm="none")
        self.harness.client.publish_result = room = Deferred()
        peer.request("POST", "/hooks/a", body=b"x")
        self.assertEqual(peer.responses(), [])
        room.callback(None)
        self.assertEqual(peer.response().status, 202)

    def test_many_share_one_ping(self) -> None:
        """While a PING is under way, all who come wait for the next one together."""
        peers = [self.make(), *(self.harness.peer() for _ in range(9))]
        for peer in peers:
            peer.request("POST", "/hooks/a", body=b"x")
        self.assertEqual(len(self.harness.client.flushes), 1)
        self.flushed()
        self.assertEqual([len(peer.responses()) for peer in peers], [1] + [0] * 9)
        self.assertEqual(len(self.harness.client.flushes), 1)
        self.flushed()
        self.assertEqual([len(peer.responses()) for peer in peers], [0] + [1] * 9)
        self.assertEqual(self.harness.client.flushes, [])

    def test_not_confirmed(self) -> None:
        """When the connection is lost before the answer, it is 503 with Retry-After, for those who came later too."""
        first = self.make()
        second = self.harness.peer()
        for peer in (first, second):
            peer.request("POST", "/hooks/a", body=b"x")
        for peer in (first, second):
            self.flushed(DisconnectedError("secret"))
            answer = peer.response()
            self.assertEqual((answer.status, answer.kind, answer.headers["retry-after"]), (503, "not-confirmed", ["1"]))
            self.assertNotIn(b"secret", answer.body)
        self.assertEqual(self.harness.client.flushes, [])

    def test_confirmed_too_late(self) -> None:
        """When the server does not answer in time, it is 504, which says that it may have been published."""
        peer = self.make()
        peer.request("POST", "/hooks/a", body=b"x")
        self.flushed(FlushTimeoutError("x"))
        answer = peer.response()
        self.assertEqual((answer.status, answer.kind), (504, "confirm-timeout"))
        self.assertIn("may have been published", answer.problem["title"])

    def test_denied(self) -> None:
        """A subject that the server denies is 502, although it answers the PING; other subjects are not touched."""
        first = self.make()
        second = self.harness.peer()
        first.request("POST", "/hooks/a", body=b"x")
        self.flushed()
        self.assertEqual(first.response().status, 202)
        first.request("POST", "/hooks/secret", body=b"x")
        second.request("POST", "/hooks/b", body=b"x")
        self.harness.client.tell(ServerErrorEvent(PermissionsViolationError("secret", "publish", "hooks.secret")))
        self.flushed()
        answer = first.response()
        self.assertEqual((answer.status, answer.kind), (502, "nats-permission"))
        self.assertNotIn(b"secret", answer.body)
        self.flushed()
        self.assertEqual(second.response().status, 202)

    def test_denied_behind_the_ping(self) -> None:
        """A denial of a message that was published after a PING had gone out is heard for that message."""
        first = self.make()
        second = self.harness.peer()
        first.request("POST", "/hooks/a", body=b"x")
        second.request("POST", "/hooks/secret", body=b"x")
        self.harness.client.tell(ServerErrorEvent(PermissionsViolationError("x", "publish", "hooks.secret")))
        self.flushed()
        self.flushed()
        self.assertEqual((first.response().status, second.response().status), (202, 502))

    def test_denial_that_is_told_late(self) -> None:
        """A client tells of errors a turn later than of PONGs; the denial still counts."""
        peer = self.make()
        peer.request("POST", "/hooks/secret", body=b"x")
        event = ServerErrorEvent(PermissionsViolationError("x", "publish", "hooks.secret"))
        self.harness.client.stats.server_errors += 1
        self.harness.reactor.callLater(0, lambda: [listener(event) for listener in self.harness.client.listeners])
        self.flushed()
        self.assertEqual(peer.response().status, 502)

    def test_client_gone(self) -> None:
        """When the sender goes away, it is counted; the message is out and the confirmation harms nobody."""
        peer = self.make()
        peer.request("POST", "/hooks/a", body=b"x")
        peer.disconnect()
        self.assertEqual((self.count("messages_failed_total", reason="client_gone"), self.count("in_flight")), (1, 0))
        self.flushed()
        self.assertEqual(peer.responses(), [])


class FailureTests(PublishCase):
    """What the sender is told otherwise."""

    def test_disconnected_is_503(self) -> None:
        """While NATS is not there, 503 with Retry-After, and nothing is buffered."""
        for confirm in ("none", "server"):
            peer = self.make(confirm=confirm)
            self.harness.client.status = ClientStatus.RECONNECTING
            peer.request("POST", "/hooks/a", body=b"x")
            answer = peer.response()
            self.assertEqual((answer.status, answer.kind, answer.headers["retry-after"]), (503, "nats-disconnected", ["1"]))
            self.assertEqual(self.published, [])

    def test_errors_of_publish(self) -> None:
        """A full buffer is 503, a message beyond max_payload 413, a closed client 503."""
        for error, status, kind in (
            (OutboundBufferFullError(1, 2, 3), 503, "buffer-full"),
            (MaxPayloadExceededError(2, 1), 413, "nats-max-payload"),
            (ConnectionClosedError("x"), 503, "nats-disconnected"),
        ):
            peer = self.make()
            self.harness.client.fail_with = error
            peer.request("POST", "/hooks/a", body=b"x")
            answer = peer.response()
            self.assertEqual((answer.status, answer.kind), (status, kind))
            self.assertEqual(self.count("in_flight"), 0)

    def test_unknown_error_is_500(self) -> None:
        """A bug is logged, and the sender gets 500."""
        peer = self.make()
        self.harness.client.fail_with = ZeroDivisionError("secret")
        peer.request("POST", "/hooks/a", body=b"x")
        self.assertEqual(peer.response().status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_bad_value_is_400(self) -> None:
        """A path that makes no subject is 400."""
        peer = self.make()
        peer.request("POST", "/hooks/a.b", body=b"x")
        self.assertEqual((peer.response().status, self.published), (400, []))


class VerifyTests(PublishCase):
    """Signed requests."""

    def signature(self, secret: str, body: bytes) -> dict[str, str]:
        return {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}

    def test_good_signature(self) -> None:
        """The signature is checked over the body as it came, with any of the secrets."""
        for secret in ("old", "new"):
            peer = self.make(verify={"scheme": "github", "secrets": ["old", "new"]})
            body = b'{"a": 1}  \r\n'
            peer.request("POST", "/hooks/a", self.signature(secret, body), body)
            self.flushed()
            self.assertEqual((peer.response().status, self.published[0].payload), (202, body))

    def test_bad_signature_is_401(self) -> None:
        """A signature that is missing, wrong or of another body is 401, without a detail, and nothing is published."""
        for headers in ({}, self.signature("wrong", b"x"), self.signature("right", b"y"), {"X-Hub-Signature-256": "sha256=zz"}):
            peer = self.make(verify={"scheme": "github", "secret": "right"})
            peer.request("POST", "/hooks/a", headers, b"x")
            answer = peer.response()
            self.assertEqual((answer.status, answer.kind, self.published), (401, "bad-signature", []))
            self.assertNotIn("detail", answer.problem)
        self.assertEqual(self.count("bad_input_total", reason="signature-malformed"), 1)

    def test_dedupe_defaults_to_what_is_signed(self) -> None:
        """With a signature and without dedupe, the id is a digest of subject and body: what cannot be changed in a replay."""
        peer = self.make(verify={"scheme": "github", "secret": "s"})
        for target, body in (("/hooks/a", b"x"), ("/hooks/a", b"x"), ("/hooks/b", b"x"), ("/hooks/a", b"y")):
            peer.request("POST", target, self.signature("s", body), body)
            self.flushed()
        ids = [message.headers["Nats-Msg-Id"] for message in self.published]
        self.assertEqual(ids[0], ids[1])
        self.assertEqual(len(set(ids)), 3)
        self.assertRegex(ids[0], "^hooks:[0-9a-f]{64}$")

    def test_standard_webhooks_dedupe_by_their_id(self) -> None:
        """Their id is signed, so it is the default."""
        peer = self.make(verify={"scheme": "standard-webhooks", "secret": "whsec_c2VjcmV0"})
        signed = base64.b64encode(hmac.new(b"secret", b"msg_1.5.x", hashlib.sha256).digest()).decode()
        headers = {"webhook-id": "msg_1", "webhook-timestamp": "5", "webhook-signature": "v1," + signed}
        peer.request("POST", "/hooks/a", headers, b"x")
        self.assertEqual(self.published[0].headers["Nats-Msg-Id"], "hooks:msg_1")


class DedupeTests(PublishCase):
    """``dedupe``."""

    def sent_id(self, dedupe: str, target: str = "/hooks/a", **headers: str) -> str | None:
        peer = self.make(dedupe=dedupe)
        peer.request("POST", target, {name.replace("_", "-"): value for name, value in headers.items()}, b"x")
        return self.published[0].headers.get("Nats-Msg-Id") if self.published else None

    def test_sources(self) -> None:
        """The id comes from a header, a query parameter or the body, behind the route's name; without dedupe there is none."""
        self.assertEqual(self.sent_id("header:X-Id", x_id="42"), "hooks:42")
        self.assertEqual(self.sent_id("query:id", "/hooks/a?id=4%2D2"), "hooks:4-2")
        self.assertEqual(self.sent_id("body"), "hooks:" + hashlib.sha256(b"hooks.a\nx").hexdigest())
        self.assertIsNone(self.sent_id("none"))
        peer = self.make()
        peer.request("POST", "/hooks/a", {"Nats-Msg-Id": "mine"}, b"x")
        self.assertNotIn("Nats-Msg-Id", self.published[0].headers)

    def test_odd_ids_become_digests(self) -> None:
        """An id that is long or has odd characters is replaced by its digest."""
        for value in ("a" * 129, "a b", "\u00fc"):
            self.assertRegex(self.sent_id("header:x-id", x_id=value) or "", "^hooks:[0-9a-f]{64}$")

    def test_missing_id_is_400(self) -> None:
        """Where an id has to be, a request without one is 400: it could not be told from its repetition."""
        peer = self.make(dedupe="header:x-id")
        for headers in ({}, {"x-id": ""}):
            peer.request("POST", "/hooks/a", headers, b"x")
            self.assertEqual(peer.response().kind, "bad-value")
        peer.send(b"POST /hooks/a HTTP/1.1\r\nHost: x\r\nX-Id: 1\r\nX-Id: 2\r\nContent-Length: 1\r\n\r\nx")
        self.assertEqual(peer.response().kind, "bad-value")
        self.assertEqual(self.published, [])


class BatchTests(PublishCase):
    """``batch = "ndjson"``."""

    def test_lines_are_messages(self) -> None:
        """Each line is a message, byte for byte; empty lines are none; one answer for all."""
        peer = self.make(batch="ndjson", dedupe="header:x-id")
        peer.request("POST", "/hooks/a", {"X-Id": "7"}, b'{"a":1}\r\n\n  \nno json\n{"b":2}')
        self.assertEqual([message.payload for message in self.published], [b'{"a":1}', b"no json", b'{"b":2}'])
        self.assertEqual([message.headers["Nats-Msg-Id"] for message in self.published], ["hooks:7:1", "hooks:7:2", "hooks:7:3"])
        self.assertEqual(len(self.harness.client.flushes), 1)
        self.flushed()
        self.assertEqual(msgspec.json.decode(peer.response().body), {"confirm": "server", "messages": 3})
        self.assertEqual(self.count("messages_out_total"), 3)

    def test_empty_batch_is_400(self) -> None:
        """A body without a line is 400; without batch an empty body is an empty message."""
        peer = self.make(batch="ndjson")
        peer.request("POST", "/hooks/a", body=b"\n \n")
        self.assertEqual(peer.response().kind, "bad-batch")
        peer = self.make(confirm="none")
        peer.request("POST", "/hooks/a")
        self.assertEqual((peer.response().status, self.published[0].payload), (202, b""))

    def test_too_many_lines_is_413(self) -> None:
        """More than max_batch lines are refused before the first is published."""
        peer = self.make(batch="ndjson", max_batch=2)
        peer.request("POST", "/hooks/a", body=b"1\n2\n3\n")
        answer = peer.response()
        self.assertEqual((answer.status, answer.problem["max_messages"], self.published), (413, 2, []))

    def test_batch_waits_for_room(self) -> None:
        """A large batch does not fill the client's buffer without measure: it waits between its lines."""
        peer = self.make(batch="ndjson")
        self.harness.client.publish_result = room = Deferred()
        peer.request("POST", "/hooks/a", body=b"1\n2\n")
        self.assertEqual(len(self.published), 1)
        self.harness.client.publish_result = None
        room.callback(None)
        self.assertEqual(len(self.published), 2)
        self.flushed()
        self.assertEqual(peer.response().status, 202)

    def test_lost_in_the_middle(self) -> None:
        """When the connection changes between two lines of a batch, a PONG of the new one does not confirm what the old one got."""
        peer = self.make(batch="ndjson")
        self.harness.client.publish_result = room = Deferred()
        peer.request("POST", "/hooks/a", body=b"1\n2\n")
        self.harness.client.tell(Disconnected("nats://x", None, 1))
        self.harness.client.publish_result = None
        room.callback(None)
        self.flushed()
        answer = peer.response()
        self.assertEqual((answer.kind, answer.problem["published"]), ("not-confirmed", 2))

    def test_denied_in_the_middle(self) -> None:
        """A denial of the first line is heard, however long the others take."""
        peer = self.make(batch="ndjson")
        self.harness.client.publish_result = room = Deferred()
        peer.request("POST", "/hooks/a", body=b"1\n2\n")
        self.harness.client.tell(ServerErrorEvent(PermissionsViolationError("x", "publish", "hooks.a")))
        self.harness.client.publish_result = None
        room.callback(None)
        self.flushed()
        self.assertEqual(peer.response().kind, "nats-permission")

    def test_failed_in_the_middle(self) -> None:
        """When a line cannot be published, the sender learns how many were."""
        peer = self.make(batch="ndjson")
        self.harness.client.publish_result = room = Deferred()
        peer.request("POST", "/hooks/a", body=b"1\n2\n3\n")
        self.harness.client.fail_with = OutboundBufferFullError(1, 2, 3)
        room.callback(None)
        answer = peer.response()
        self.assertEqual((answer.status, answer.problem["published"]), (503, 1))


class ConfigTests(PublishCase):
    """What a configuration may say."""

    def test_interfaces(self) -> None:
        """Route and factory are what the bridge expects, and the guarantee fits the confirm level."""
        self.make()
        verifyObject(IRoute, self.route)
        verifyObject(IRouteFactory, factory)
        self.assertIn("the NATS server has the message", self.route.guarantee())
        self.make(confirm="none")
        self.assertIn("at most once", self.route.guarantee())

    def test_bad_values_are_named(self) -> None:
        """Every wrong value is named with its key."""
        for keys, expected in (
            ({"confirm": "servr"}, "confirm"),
            ({"dedupe": "x-id"}, "dedupe"),
            ({"dedupe": "header:cookie"}, "dedupe"),
            ({"dedupe": "header:Authorization"}, "dedupe"),
            ({"expected": {}}, "expected"),
            ({"expected": {"stream": "a.b"}}, "expected.stream"),
            ({"expected": {"last_seq": -1}}, "expected.last_seq"),
            ({"expected": {"last_seq": "body"}}, "expected.last_seq"),
            ({"expected": {"last_subject_seq": "header:cookie"}}, "expected.last_subject_seq"),
            ({"expected": {"last_msg_id": "x"}}, "expected.last_msg_id"),
            ({"expected": {"stream": "S"}, "confirm": "server"}, "expected"),
            ({"expected": {"last_seq": 0}, "batch": "ndjson"}, "expected"),
            ({"ok_status": 500}, "ok_status"),
            ({"batch": "csv"}, "batch"),
            ({"max_batch": 0}, "max_batch"),
            ({"verify": {"scheme": "paypal", "secret": "x"}}, "verify.scheme"),
            ({"verify": {"scheme": "github"}}, "verify"),
            ({"verify": {"scheme": "hmac", "secret": "x"}}, "verify.header"),
            ({"verify": {"scheme": "github", "secret": "x", "header": "y"}}, "verify"),
            ({"verify": {"scheme": "github", "secret": "x", "tolerance": 0}}, "verify.tolerance"),
        ):
            found = config_problems(factory, path="/h", subject="h", **keys)
            self.assertEqual([key for key, _, _ in found], [expected], keys)

    def test_unsigned_dedupe_is_a_warning(self) -> None:
        """An id that the signature does not cover works, and --check warns of it."""
        for scheme, dedupe, warned in (
            ("github", "header:X-Github-Delivery", True),
            ("standard-webhooks", "header:Webhook-Id", False),
            ("github", "body", False),
            ("github", "query:id", True),
            ("github", None, False),
        ):
            self.make(verify={"scheme": scheme, "secret": "c2VjcmV0"}, **({"dedupe": dedupe} if dedupe else {}))
            self.assertEqual(bool(list(self.route.config.find_warnings())), warned, (scheme, dedupe))

    def test_unusable_secret_is_named(self) -> None:
        """A secret that cannot be used is a configuration error that does not contain it."""
        error = self.assertRaises(ConfigurationError, self.make, verify={"scheme": "standard-webhooks", "secret": "not base64!"})
        self.assertNotIn("not base64!", str(error))
