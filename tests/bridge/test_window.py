"""Publishing in order, with a bounded number of unconfirmed messages."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.metrics import BridgeMetrics
from pynats_twisted.bridge.publishing import DENIED_FOR, RETRY_DELAY, PublishLane
from pynats_twisted.bridge.window import QUEUE_BYTES, QUEUE_MESSAGES, WINDOW_BYTES, Message
from pynats_twisted.errors import (
    ConnectionClosedError,
    FlushTimeoutError,
    MaxPayloadExceededError,
    OutboundBufferFullError,
)
from tests.bridge.lines_fakes import FakeClient


class Owner:
    """Remembers what a window told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.ready = 0

    def window_ready(self) -> None:
        self.ready += 1

    def window_confirmed(self, count: int) -> None:
        self.told += ["ok"] * count

    def window_refused(self, reason: str) -> None:
        self.told.append(reason)


class WindowCase(SynchronousTestCase):
    """A lane and a window in it."""

    confirm = "server"
    limit = 4

    def setUp(self) -> None:
        self.clock = Clock()
        self.client = FakeClient(self.clock)
        self.metrics = BridgeMetrics("b", process=False)
        self.lane = PublishLane(
            self.clock, self.client, self.metrics.route("r", "t"), confirm=self.confirm, pattern="a.*", limit=self.limit
        )
        self.lane.open()
        self.owner = Owner()
        self.window = self.lane.window(self.owner)

    def offer(self, *payloads: bytes, subject: str = "a.b") -> None:
        self.window.offer([Message(subject, payload, None) for payload in payloads])

    def number(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"nats_bridge_{name}", {"route": "r", "type": "t", **labels}) or 0.0


class ConfirmedWindowTests(WindowCase):
    """``confirm = "server"``."""

    def test_published_then_confirmed(self) -> None:
        """Messages go out at once, and are done when a PING that was sent after them is answered."""
        self.offer(b"1", b"2")
        self.assertEqual(self.client.payloads, [b"1", b"2"])
        self.assertEqual(self.owner.told, [])
        self.client.pong()
        self.assertEqual(self.owner.told, ["ok", "ok"])
        self.assertEqual((self.number("messages_in_total"), self.number("messages_out_total"), self.number("bytes_out_total")), (2, 2, 2))

    def test_a_ping_covers_only_what_was_before_it(self) -> None:
        """A message that was published after a PING waits for the next one."""
        self.offer(b"1")
        self.offer(b"2")
        self.assertEqual(len(self.client.flushes), 1)
        self.client.pong()
        self.assertEqual(self.owner.told, ["ok"])
        self.client.pong()
        self.assertEqual(self.owner.told, ["ok", "ok"])

    def test_one_ping_for_many_peers(self) -> None:
        """Windows of one lane share PINGs."""
        others = [self.lane.window(Owner()) for _ in range(5)]
        self.offer(b"0")
        for other in others:
            other.offer([Message("a.b", b"x", None)])
        self.assertEqual(len(self.client.flushes), 1)
        self.client.pong()
        self.assertEqual(len(self.client.flushes), 1)
        self.client.pong()
        self.assertEqual(self.client.flushes, [])
        self.assertEqual(self.number("messages_out_total"), 6)

    def test_full_at_the_limit(self) -> None:
        """Beyond the limit messages wait, the window is full, and its owner hears when it is not any more."""
        self.offer(b"1", b"2", b"3", b"4", b"5", b"6")
        self.assertEqual(len(self.client.published), 4)
        self.assertTrue(self.window.full)
        self.assertEqual((self.number("in_flight"), self.number("queue_bytes")), (6, 2))
        self.client.pong()
        self.assertEqual(self.client.payloads, [b"1", b"2", b"3", b"4", b"5", b"6"])
        self.assertEqual(self.owner.ready, 1)
        self.client.pong()
        self.assertEqual(self.owner.told, ["ok"] * 6)
        self.assertEqual((self.number("in_flight"), self.number("queue_bytes")), (0, 0))

    def test_bytes_are_bounded_too(self) -> None:
        """Large messages fill the window before their number does."""
        self.offer(b"x" * WINDOW_BYTES, b"y")
        self.assertEqual(len(self.client.published), 1)
        self.client.pong()
        self.assertEqual(len(self.client.published), 2)

    def test_lost_connection_publishes_again_in_order(self) -> None:
        """What was not confirmed when the connection was lost is published again, before what waited."""
        self.offer(b"1", b"2", b"3", b"4", b"5")
        self.client.lose()
        self.assertTrue(self.window.full)
        self.client.published.clear()
        self.clock.advance(RETRY_DELAY)
        self.assertEqual(self.client.published, [])
        self.client.come_back()
        self.assertEqual(self.client.payloads, [b"1", b"2", b"3", b"4"])
        self.client.pong_all()
        self.assertEqual(self.client.payloads, [b"1", b"2", b"3", b"4", b"5"])
        self.assertEqual(self.owner.told, ["ok"] * 5)
        self.assertEqual(self.number("messages_out_total"), 5)

    def test_nats_down(self) -> None:
        """While NATS is down messages wait, and go out when it is back."""
        self.client.lose()
        self.offer(b"1")
        self.assertEqual(self.client.published, [])
        self.assertTrue(self.window.full)
        self.assertIn("the NATS connection is reconnecting", self.lane.problems())
        self.client.come_back()
        self.client.pong()
        self.assertEqual(self.owner.told, ["ok"])
        self.assertEqual(self.lane.problems(), [])

    def test_too_large_for_the_server(self) -> None:
        """A message that the client refuses is told of in its turn, and the others go on."""
        self.offer(b"1")
        self.client.publish_error = MaxPayloadExceededError(5, 4)
        self.offer(b"2")
        self.client.publish_error = None
        self.offer(b"3")
        self.assertEqual(self.owner.told, [])
        self.client.pong_all()
        self.assertEqual(self.owner.told, ["ok", "max-payload", "ok"])
        self.assertEqual(self.number("messages_failed_total", reason="max-payload"), 1)

    def test_order_of_refusals_survives_a_lost_connection(self) -> None:
        """A refusal keeps its place among messages that are published again."""
        self.offer(b"1")
        self.client.publish_error = MaxPayloadExceededError(5, 4)
        self.offer(b"2")
        self.client.publish_error = None
        self.client.lose()
        self.client.come_back()
        self.client.pong_all()
        self.assertEqual(self.owner.told, ["ok", "max-payload"])

    def test_denied(self) -> None:
        """Messages that the server denied have failed, and the lane has a problem for a while."""
        self.offer(b"1")
        self.client.deny("a.b")
        self.client.pong()
        self.clock.advance(0)
        self.assertEqual(self.owner.told, ["permission"])
        self.assertEqual(self.number("messages_failed_total", reason="permission"), 1)
        self.assertIn("denies publishing to 'a.b'", self.lane.problems()[0])
        self.offer(b"2")
        self.client.pong()
        self.assertEqual(self.owner.told, ["permission", "ok"])
        self.clock.advance(DENIED_FOR)
        self.assertEqual(self.lane.problems(), [])

    def test_denied_elsewhere(self) -> None:
        """A denial of a subject of another route is no problem of this one."""
        self.offer(b"1")
        self.client.deny("b.c")
        self.client.pong()
        self.clock.advance(0)
        self.assertEqual(self.owner.told, ["ok"])
        self.assertEqual(self.lane.problems(), [])

    def test_denied_in_a_later_round(self) -> None:
        """A denial is about what was published before the PONG that follows it, not about what was confirmed already."""
        self.offer(b"1")
        self.offer(b"2")
        self.client.pong()
        self.client.deny("a.b")
        self.client.pong()
        self.clock.advance(0)
        self.assertEqual(self.owner.told, ["ok", "permission"])

    def test_flush_timeout(self) -> None:
        """A PING that is not answered in time leaves the messages unconfirmed, and another one is sent."""
        self.offer(b"1")
        self.client.flushes.pop().errback(FlushTimeoutError("10 s"))
        self.assertEqual(self.owner.told, [])
        self.assertEqual(len(self.client.published), 1)
        self.client.pong()
        self.assertEqual(self.owner.told, ["ok"])

    def test_buffer_full(self) -> None:
        """A message that found the client's buffer full is tried again after a moment."""
        self.client.publish_error = OutboundBufferFullError(1, 1, 1)
        self.offer(b"1")
        self.assertTrue(self.window.full)
        self.client.publish_error = None
        self.clock.advance(RETRY_DELAY)
        self.client.pong()
        self.assertEqual(self.owner.told, ["ok"])
        self.assertEqual(self.owner.ready, 1)

    def test_client_closed(self) -> None:
        """When the client is closed for good everything has failed."""
        self.offer(b"1", b"2", b"3", b"4", b"5")
        self.client.end()
        self.assertEqual(self.owner.told, ["closed"] * 5)
        self.client.flushes.pop().errback(ConnectionClosedError("closed"))
        self.assertEqual(self.owner.told, ["closed"] * 5)

    def test_over_when_confirmed(self) -> None:
        """A window whose peer has gone ends with its last confirmation."""
        done = self.lane.when_empty()
        self.offer(b"1")
        self.window.end()
        self.assertNoResult(done)
        self.assertEqual(len(self.lane), 1)
        self.client.pong()
        self.successResultOf(done)
        self.assertEqual(len(self.lane), 0)

    def test_given_up(self) -> None:
        """Closing the lane drops what is left, counts it, and leaves no timer and no listener behind."""
        self.offer(b"1", b"2", b"3", b"4", b"5")
        self.client.lose()
        self.lane.close()
        self.assertEqual(self.number("messages_dropped_total", reason="stopped"), 5)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.client.come_back()
        self.assertEqual(len(self.client.published), 4)

    def test_latency(self) -> None:
        """The latency is measured from the offer to the confirmation."""
        self.offer(b"1")
        self.clock.advance(0.5)
        self.client.pong()
        self.assertEqual(self.number("latency_seconds_sum"), 0.5)
        self.assertEqual(self.number("latency_seconds_count"), 1)

    def test_oldest_dropped(self) -> None:
        """For peers that cannot be stopped, the oldest messages that wait are dropped and counted."""
        self.client.lose()
        half = b"x" * (QUEUE_BYTES // 2)
        self.window.offer_dropping([Message("a.b", b"1" + half[1:], None), Message("a.b", b"2" + half[1:], None)])
        self.window.offer_dropping([Message("a.b", b"3", None)])
        self.assertEqual(self.number("messages_dropped_total", reason="backpressure"), 1)
        self.client.come_back()
        self.client.pong_all()
        self.assertEqual([payload[:1] for payload in self.client.payloads], [b"2", b"3"])

    def test_empty_messages_are_bounded(self) -> None:
        """Messages without a byte cannot fill the memory either."""
        self.client.lose()
        self.window.offer_dropping([Message("a.b", b"", None)] * (QUEUE_MESSAGES + 7))
        self.assertEqual(self.number("messages_dropped_total", reason="backpressure"), 7)
        self.assertEqual(self.window.in_flight, QUEUE_MESSAGES)


class UnconfirmedWindowTests(WindowCase):
    """``confirm = "none"``."""

    confirm = "none"

    def test_done_when_buffered(self) -> None:
        """Messages are done when the client has them; no PING is sent, and the limit does not apply."""
        self.offer(*[b"x"] * 10)
        self.assertEqual(self.owner.told, ["ok"] * 10)
        self.assertEqual(self.client.flushes, [])
        self.assertEqual(self.number("messages_out_total"), 10)

    def test_waits_for_room(self) -> None:
        """When the client has enough in its buffer, the window is full until it has room."""
        room: Deferred[None] = Deferred()
        self.client.room = room
        self.offer(b"1", b"2")
        self.assertEqual(self.client.payloads, [b"1"])
        self.assertTrue(self.window.full)
        self.client.room = None
        room.callback(None)
        self.assertEqual(self.client.payloads, [b"1", b"2"])
        self.assertEqual(self.owner.ready, 1)

    def test_refused_in_order(self) -> None:
        """A refusal is told of after what was published before it."""
        publish = self.client.publish

        def picky(subject: str, payload: bytes, headers: Any = None) -> Any:
            if payload == b"bad":
                raise MaxPayloadExceededError(3, 2)
            return publish(subject, payload, headers=headers)

        self.client.publish = picky
        self.offer(b"1", b"bad", b"2")
        self.assertEqual(self.owner.told, ["ok", "max-payload", "ok"])
        self.assertEqual(self.number("queue_bytes"), 0)

    def test_denied(self) -> None:
        """What the server denies is counted, and is a problem."""
        self.offer(b"1")
        self.client.deny("a.b")
        self.clock.advance(0)
        self.assertEqual(self.number("messages_failed_total", reason="permission"), 1)
        self.assertEqual(len(self.lane.problems()), 1)
