"""Publishing to streams in order: what is stored, refused, and tried again."""

from __future__ import annotations

from math import inf
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.activity import Hop, RouteActivity
from pynats_twisted.bridge.metrics import BridgeMetrics
from pynats_twisted.bridge.publishing import MAX_RETRY_DELAY, RETRY_DELAY, PublishLane
from pynats_twisted.bridge.stream_refusals import refusal
from pynats_twisted.bridge.window import QUEUE_BYTES, WINDOW_BYTES, Message
from pynats_twisted.errors import (
    ConnectionClosedError,
    JetStreamApiError,
    JetStreamLimitError,
    JetStreamUnavailableError,
    MaxPayloadExceededError,
    MessageExceedsMaximumError,
    NoStreamResponseError,
    OutboundBufferFullError,
    PermissionsViolationError,
    PublishDisconnectedError,
    PublishTimeoutError,
    SealedStreamError,
    StreamStoreError,
)
from pynats_twisted.protocol.headers import Headers
from tests.bridge.lines_fakes import FakeClient
from tests.bridge.test_window import Owner

NO_STREAM = NoStreamResponseError("a.b")
TOO_LARGE = MessageExceedsMaximumError(400, 10054, "message size exceeds maximum allowed")


class StreamWindowCase(SynchronousTestCase):
    """A lane to streams, and a window in it."""

    message_ids = True
    retry_for = inf

    def setUp(self) -> None:
        self.clock = Clock()
        self.client = FakeClient(self.clock)
        self.js = self.client.js
        self.metrics = BridgeMetrics("b", process=False)
        self.activity = RouteActivity("r", self.clock.seconds)
        js: Any = self.js
        self.lane = PublishLane(
            self.clock,
            self.client,
            self.metrics.route("r", "t"),
            confirm="jetstream",
            pattern="a.*",
            limit=4,
            jetstream=js,
            message_ids=self.message_ids,
            retry_for=self.retry_for,
            activity=self.activity,
        )
        self.lane.open()
        self.owner = Owner()
        self.window = self.lane.window(self.owner)

    def offer(self, *payloads: bytes, headers: Headers | None = None) -> None:
        self.window.offer([Message("a.b", payload, headers) for payload in payloads])

    def turn(self, seconds: float = 0) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    def number(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"nats_bridge_{name}", {"route": "r", "type": "t", **labels}) or 0.0


class StoredTests(StreamWindowCase):
    """Streams that store."""

    def test_done_when_stored(self) -> None:
        """A message is done when its ack has come; no PING is sent."""
        self.offer(b"1", b"2")
        self.assertEqual((self.js.payloads, self.client.flushes, self.owner.told), ([b"1", b"2"], [], []))
        self.js.ack()
        self.turn()
        self.assertEqual(self.owner.told, ["ok"])
        self.js.ack()
        self.turn()
        self.assertEqual(self.owner.told, ["ok", "ok"])
        self.assertEqual((self.number("messages_in_total"), self.number("messages_out_total"), self.number("bytes_out_total")), (2, 2, 2))
        self.assertEqual((self.number("in_flight"), self.number("queue_bytes")), (0, 0))

    def test_ids(self) -> None:
        """Each message has an id of its own, that begins with the route; two lanes have none in common."""
        self.offer(b"1", b"2")
        self.assertEqual(len(set(self.js.ids)), 2)
        self.assertTrue(all(each is not None and each.startswith("r:") for each in self.js.ids))
        self.setUp_again()
        self.offer(b"1", b"2")
        self.assertEqual(len({*self.js.ids, *self.ids_before}), 4)

    def setUp_again(self) -> None:  # noqa: N802
        self.ids_before = self.js.ids
        self.setUp()

    def test_order_of_answers(self) -> None:
        """The owner is told in the order of the messages, whatever the order of the acks."""
        self.offer(b"1", b"2", b"3")
        self.js.waiting.reverse()
        self.js.ack(2)
        self.turn()
        self.assertEqual(self.owner.told, [])
        self.js.ack()
        self.turn()
        self.assertEqual(self.owner.told, ["ok"] * 3)

    def test_full_at_the_limit(self) -> None:
        """Beyond the limit messages wait, and the owner hears when they do not any more."""
        self.offer(*[b"%d" % index for index in range(6)])
        self.assertEqual((len(self.js.sent), self.window.full), (4, True))
        self.assertEqual((self.number("in_flight"), self.number("queue_bytes")), (6, 2))
        self.js.ack()
        self.turn()
        self.assertEqual((len(self.js.sent), self.owner.ready), (5, 0))
        self.js.ack_all(self.clock)
        self.assertEqual((self.owner.told, self.owner.ready), (["ok"] * 6, 1))

    def test_bytes_are_bounded_too(self) -> None:
        """Large messages fill the window before their number does."""
        self.offer(b"x" * WINDOW_BYTES, b"y")
        self.assertEqual(len(self.js.sent), 1)
        self.js.ack()
        self.turn()
        self.assertEqual(len(self.js.sent), 2)

    def test_duplicates_are_counted(self) -> None:
        """An ack for a message that the stream had already is as good, and counted."""
        self.offer(b"1")
        self.js.ack(duplicate=True)
        self.turn()
        self.assertEqual((self.owner.told, self.number("duplicates_total")), (["ok"], 1))

    def test_hops(self) -> None:
        """While somebody watches, each stored message is shown with its place in the stream."""
        hops: list[Hop] = []
        self.activity.add_tap(hops.append)
        self.offer(b"12")
        self.turn(0.5)
        self.js.ack()
        self.assertEqual([(hop.step, hop.subject, hop.size) for hop in hops], [("stored", "a.b", 2)])
        self.assertEqual(dict(hops[0].details), {"stream": "LINES", "seq": 1, "duplicate": "False", "ms": 500.0})

    def test_latency(self) -> None:
        """Latency is from the offer to the ack."""
        self.offer(b"1")
        self.turn(0.5)
        self.js.ack()
        self.turn()
        self.assertEqual((self.number("latency_seconds_sum"), self.number("latency_seconds_count")), (0.5, 1))

    def test_over(self) -> None:
        """A window whose owner has gone is over when all is stored."""
        self.offer(b"1")
        self.window.end()
        empty = self.lane.when_empty()
        self.js.ack()
        self.assertNoResult(empty)
        self.turn()
        self.successResultOf(empty)
        self.assertEqual(len(self.lane), 0)

    def test_closing_forgets_what_is_under_way(self) -> None:
        """Closing the lane gives up what has no ack; what was stored and not told yet counts as done."""
        self.offer(b"1", b"2", b"3")
        self.js.ack()
        self.lane.close()
        self.assertEqual(self.owner.told, ["ok"])
        self.assertEqual(self.number("messages_dropped_total", reason="stopped"), 2)
        self.assertTrue(all(ack.called for _, ack in self.js.waiting))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TriedAgainTests(StreamWindowCase):
    """Streams that do not store, for a while."""

    def test_published_again_with_its_id(self) -> None:
        """What no stream took is published again, with the same id, and stored then."""
        self.offer(b"1")
        self.js.refuse(NO_STREAM)
        self.turn()
        self.assertEqual((self.owner.told, len(self.js.sent)), ([], 1))
        self.turn(RETRY_DELAY)
        self.assertEqual(self.js.payloads, [b"1", b"1"])
        self.assertEqual(len(set(self.js.ids)), 1)
        self.js.ack()
        self.turn()
        self.assertEqual((self.owner.told, self.number("retries_total")), (["ok"], 1))

    def test_nothing_new_meanwhile(self) -> None:
        """After a failure nothing new is published until all answers are there and the oldest is stored: the order stays."""
        self.offer(b"1", b"2", b"3")
        self.js.refuse(NO_STREAM)
        self.offer(b"4")
        self.turn(RETRY_DELAY)
        self.assertEqual(self.js.payloads, [b"1", b"2", b"3"])
        self.js.refuse(NO_STREAM, 2)
        self.turn()
        # The time to wait is over: the first goes alone.
        self.turn(RETRY_DELAY * 2)
        self.assertEqual(self.js.payloads[3:], [b"1"])
        self.js.ack()
        self.turn()
        self.assertEqual(self.js.payloads[3:], [b"1", b"2", b"3", b"4"])
        self.js.ack_all(self.clock)
        self.assertEqual(self.owner.told, ["ok"] * 4)

    def test_stored_ones_are_not_published_again(self) -> None:
        """Of several, only those that failed go again."""
        self.offer(b"1", b"2", b"3")
        self.js.ack()
        self.js.refuse(NO_STREAM)
        self.js.ack()
        self.turn()
        self.assertEqual(self.owner.told, ["ok"])
        self.turn(RETRY_DELAY)
        self.js.ack_all(self.clock)
        self.assertEqual((self.js.payloads, self.owner.told), ([b"1", b"2", b"3", b"2"], ["ok"] * 3))

    def test_waits_grow(self) -> None:
        """The waits between attempts grow, to a bound; one that is stored resets them."""
        self.offer(b"1")
        gaps = []
        for _ in range(8):
            self.js.refuse(NO_STREAM)
            began, sent = self.clock.seconds(), len(self.js.sent)
            while len(self.js.sent) == sent:
                self.turn(RETRY_DELAY)
            gaps.append(self.clock.seconds() - began)
        self.assertEqual(gaps, [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0])
        self.js.ack()
        self.turn()
        # The last wait is over without anything to do.
        self.turn(MAX_RETRY_DELAY)
        self.offer(b"2")
        self.js.refuse(NO_STREAM)
        self.turn(RETRY_DELAY)
        self.assertEqual(self.js.payloads[-2:], [b"2", b"2"])

    def test_problem_while_it_lasts(self) -> None:
        """What is not stored is a problem of the route until it is, with a hint for people."""
        self.offer(b"1")
        self.js.refuse(StreamStoreError(503, 10077, "maximum bytes exceeded"))
        self.turn()
        self.assertIn("lines are not stored: a.b: maximum bytes exceeded", self.lane.problems()[0])
        (error,) = self.activity.errors
        self.assertEqual(error.kind, "stream-full")
        self.assertIn("make room", error.hint)
        self.turn(RETRY_DELAY)
        self.js.ack()
        self.turn()
        self.assertEqual(self.lane.problems(), [])

    def test_a_failure_among_those_that_go_again(self) -> None:
        """When it fails anew in the middle, what is left waits again; everything is stored once, in the end."""
        self.offer(b"1", b"2", b"3", b"4")
        self.js.refuse(NO_STREAM, 4)
        self.turn(RETRY_DELAY)
        self.js.ack()
        self.turn()
        self.assertEqual(self.js.payloads[4:], [b"1", b"2", b"3", b"4"])
        self.js.ack()
        self.js.refuse(NO_STREAM)
        self.js.ack()
        self.turn()
        self.turn(MAX_RETRY_DELAY)
        self.js.ack_all(self.clock)
        self.assertEqual(self.js.payloads[8:], [b"3"])
        self.assertEqual(self.owner.told, ["ok"] * 4)

    def test_refused_when_tried_again(self) -> None:
        """What turns out to be impossible at the second attempt is refused, and the others go on."""
        self.offer(b"1", b"2")
        self.js.refuse(NO_STREAM, 2)
        self.turn(RETRY_DELAY)
        self.js.refuse(TOO_LARGE)
        self.turn()
        self.js.ack_all(self.clock)
        self.assertEqual(self.owner.told, ["max-msg-size", "ok"])

    def test_no_room_in_the_client(self) -> None:
        """A publish that finds no room in the client's buffer waits a moment, and is no failure."""
        self.js.error = OutboundBufferFullError(5, 4, 4)
        self.offer(b"1", b"2")
        self.assertEqual((self.js.sent, self.window.full, self.lane.problems()), ([], True, []))
        self.js.error = None
        self.turn(RETRY_DELAY)
        self.js.ack_all(self.clock)
        self.assertEqual((self.owner.told, self.number("queue_bytes")), (["ok", "ok"], 0))

    def test_no_room_for_those_that_go_again(self) -> None:
        """The same for what is published again, first or among the others."""
        self.offer(b"1", b"2", b"3")
        self.js.refuse(NO_STREAM, 3)
        self.js.error = OutboundBufferFullError(5, 4, 4)
        self.turn(RETRY_DELAY)
        self.js.error = None
        self.turn(RETRY_DELAY)
        self.assertEqual(self.js.payloads[3:], [b"1"])
        self.js.error = OutboundBufferFullError(5, 4, 4)
        self.js.ack()
        self.turn()
        self.js.error = None
        self.turn(RETRY_DELAY)
        self.js.ack_all(self.clock)
        self.assertEqual((self.js.payloads[3:], self.owner.told), ([b"1", b"2", b"3"], ["ok"] * 3))

    def test_nats_down(self) -> None:
        """While NATS is down nothing is tried; when it is back, at once what may be."""
        self.offer(b"1")
        self.client.lose()
        self.js.refuse(PublishDisconnectedError("a.b", "the connection was lost"))
        self.offer(b"2")
        self.turn(60)
        self.assertEqual(self.js.payloads, [b"1"])
        self.client.come_back()
        self.js.ack_all(self.clock)
        self.assertEqual((self.js.payloads, self.owner.told), ([b"1", b"1", b"2"], ["ok", "ok"]))

    def test_client_closed(self) -> None:
        """When the client is closed for good, what is left is refused, and what was stored is not."""
        self.offer(b"1", b"2")
        self.js.ack()
        self.js.refuse(ConnectionClosedError("closed"))
        self.turn()
        self.assertEqual((self.owner.told, self.window.in_flight), (["ok", "closed"], 0))
        self.assertEqual(self.number("messages_failed_total", reason="closed"), 1)

    def test_oldest_dropped(self) -> None:
        """For peers that cannot be stopped, the oldest that wait are dropped; what is under way is not."""
        self.offer(b"0")
        self.js.refuse(NO_STREAM)
        half = b"x" * (QUEUE_BYTES // 2)
        self.window.offer_dropping([Message("a.b", first + half, None) for first in (b"1", b"2")])
        self.assertEqual(self.number("messages_dropped_total", reason="backpressure"), 1)
        self.turn(RETRY_DELAY)
        self.js.ack_all(self.clock)
        self.assertEqual([payload[:1] for payload in self.js.payloads], [b"0", b"0", b"2"])


class ForAWhileTests(StreamWindowCase):
    """``retry_for``."""

    retry_for = 1.0

    def test_refused_after_that(self) -> None:
        """What is not stored for so long is refused and counted; what came behind it has its own time."""
        self.offer(b"1", b"2")
        self.js.refuse(NO_STREAM, 2)
        for _ in range(10):
            self.turn(0.25)
            if self.js.waiting:
                self.js.refuse(NO_STREAM, len(self.js.waiting))
        self.turn()
        self.assertEqual(self.owner.told, ["no-stream", "no-stream"])
        self.assertEqual(self.number("messages_failed_total", reason="no-stream"), 2)
        self.assertEqual((self.lane.problems(), self.window.in_flight), ([], 0))
        self.offer(b"3")
        self.turn(MAX_RETRY_DELAY)
        self.js.ack_all(self.clock)
        self.assertEqual(self.owner.told[2:], ["ok"])


class WithoutIdsTests(StreamWindowCase):
    """``message_ids = false``."""

    message_ids = False

    def test_no_ids(self) -> None:
        """Messages have no ids; what may have been lost with the connection is published again all the same."""
        self.offer(b"1")
        self.js.refuse(PublishDisconnectedError("a.b", "the connection was lost"))
        self.turn(RETRY_DELAY)
        self.js.ack_all(self.clock)
        self.assertEqual((self.js.ids, self.owner.told), ([None, None], ["ok"]))


class RefusalTests(SynchronousTestCase):
    """What each error means."""

    def test_each(self) -> None:
        """What can pass by itself is tried again; what cannot is refused."""
        cases: list[tuple[BaseException, str, bool]] = [
            (NO_STREAM, "no-stream", False),
            (PublishTimeoutError("a.b", "late"), "no-ack", False),
            (PublishDisconnectedError("a.b", "lost"), "no-ack", False),
            (StreamStoreError(503, 10077, "maximum messages exceeded"), "stream-full", False),
            (JetStreamLimitError(503, 10023, "insufficient resources"), "no-resources", False),
            (JetStreamUnavailableError(503, 10008, "temporarily unavailable"), "stream-unavailable", False),
            (JetStreamApiError(503, 19999, "something new"), "stream-unavailable", False),
            (PermissionsViolationError("denied", "subscription", "_INBOX.x.*"), "permission", False),
            (PermissionsViolationError("denied", "publish", "a.b"), "permission", True),
            (TOO_LARGE, "max-msg-size", True),
            (MaxPayloadExceededError(5, 4), "max-payload", True),
            (SealedStreamError(400, 10109, "sealed"), "stream-refused", True),
            (JetStreamApiError(400, 19999, "something new"), "stream-refused", True),
        ]
        for error, reason, is_final in cases:
            found = refusal(error)
            self.assertEqual((found.reason, found.is_final), (reason, is_final), error)
