"""Subscriptions that are too slow: the bounds, and what the policies do at them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from pynats_twisted.client.status import SlowConsumer
from pynats_twisted.errors import SlowConsumerError
from pynats_twisted.testing.server_frames import UnsubscribeFrame

from .support import ClientTestCase


class OverflowTestCase(ClientTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client, self.peer = self.connected()

    def subscribed(self, overflow: str, subject: str = "a", **options: Any) -> Any:
        """A subscription that the server has."""
        sub = self.client.subscribe(subject, overflow=overflow, **options)
        self.network.advance()
        return sub

    def numbered(self, first: int, last: int, subject: str = "a") -> None:
        """Messages with these numbers, in one read."""
        self.peer.publish(subject, *(b"%02d" % number for number in range(first, last + 1)))

    def take(self, sub: Any, number: int | None = None) -> list[int]:
        """The numbers of the messages that wait, or of some of them."""
        return [int(self.successResultOf(sub.next()).data) for _ in range(sub.pending_msgs if number is None else number)]


class DropTests(OverflowTestCase):
    def test_drop_new(self) -> None:
        """By default the newest are dropped and counted; it is told once, with the number so far."""
        sub = self.client.subscribe("a", pending_msgs=10)
        self.network.advance()
        self.numbered(1, 99)
        self.assertEqual((sub.pending_msgs, sub.dropped, self.client.stats.dropped_msgs), (10, 89, 89))
        self.assertEqual(self.told(SlowConsumer), [SlowConsumer(sub, 1)])
        self.assertEqual(self.take(sub), list(range(1, 11)))
        self.assertFalse(sub.closed)

    def test_drop_old(self) -> None:
        """With ``drop-old`` the newest are kept."""
        sub = self.subscribed("drop-old", pending_msgs=10)
        self.numbered(1, 99)
        self.assertEqual((sub.dropped, len(self.told(SlowConsumer))), (89, 1))
        self.assertEqual(self.take(sub), list(range(90, 100)))
        self.assertEqual((sub.pending_msgs, sub.pending_bytes), (0, 0))

    def test_once_an_episode(self) -> None:
        """It is told again when the subscription caught up, to half of its bound, and fell behind anew."""
        sub = self.subscribed("drop-new", pending_msgs=10)
        self.numbered(1, 12)
        self.take(sub, 4)
        self.numbered(13, 20)
        self.assertEqual(len(self.told(SlowConsumer)), 1)
        self.take(sub, 5)
        self.numbered(21, 30)
        self.assertEqual(([event.dropped for event in self.told(SlowConsumer)], sub.dropped), ([1, 7], 11))

    def test_bytes(self) -> None:
        """The bytes of subject, reply, headers and payload count, whatever the number of messages is."""
        sub = self.subscribed("drop-new", pending_msgs=0, pending_bytes=30)
        self.peer.publish("a", b"x" * 9, b"x" * 9, b"x" * 10, b"x" * 9, b"")
        self.assertEqual((sub.pending_msgs, sub.pending_bytes, sub.dropped), (3, 30, 2))
        self.assertEqual([len(self.successResultOf(sub.next()).data) for _ in range(3)], [9, 9, 9])

    def test_no_bound(self) -> None:
        """0 is no bound."""
        sub = self.subscribed("drop-new", pending_msgs=0, pending_bytes=0)
        for _ in range(7):
            self.peer.publish("a", *[b"x"] * 10_000)
        self.assertEqual((sub.pending_msgs, sub.dropped), (70_000, 0))
        sub.unsubscribe()

    def test_too_large_for_any_room(self) -> None:
        """One message that is larger than the bound is dropped alone, whatever the policy; what waits stays."""
        for overflow in ("drop-new", "drop-old"):
            sub = self.subscribed(overflow, f"s.{overflow}", pending_bytes=50)
            self.peer.publish(f"s.{overflow}", b"1", b"x" * 60, b"2")
            self.assertEqual([self.successResultOf(sub.next()).data for _ in range(2)], [b"1", b"2"])
            self.assertEqual((sub.dropped, sub.pending_bytes), (1, 0))

    def test_busy_handler(self) -> None:
        """The bound holds for what waits for a busy handler, and the one that is handled is not counted."""
        running: list[Deferred[None]] = []
        got: list[int] = []

        def handler(msg: Any) -> Deferred[None]:
            got.append(int(msg.data))
            running.append(Deferred())
            return running[-1]

        sub = self.subscribed("drop-new", handler=handler, pending_msgs=10)
        self.numbered(1, 99)
        self.assertEqual((sub.pending_msgs, sub.dropped), (10, 88))
        while running:
            running.pop().callback(None)
        self.assertEqual(got, list(range(1, 12)))
        self.assertEqual((sub.pending_msgs, sub.pending_bytes), (0, 0))

    def test_busy_key(self) -> None:
        """What waits behind a busy key counts, and cannot be dropped for a newer one."""
        running: list[Deferred[None]] = []
        got: list[int] = []

        def handler(msg: Any) -> Deferred[None]:
            got.append(int(msg.data))
            running.append(Deferred())
            return running[-1]

        sub = self.subscribed("drop-old", handler=handler, pending_msgs=3, concurrency=2, ordered_by=lambda msg: "key")
        self.numbered(1, 9)
        self.assertEqual((got, sub.pending_msgs, sub.dropped), ([1], 3, 5))
        while running:
            running.pop().callback(None)
        self.assertEqual(got, [1, 2, 3, 4])

    def test_others_are_not_touched(self) -> None:
        """A slow subscription costs neither another one nor publishing."""
        self.subscribed("drop-new", pending_msgs=1)
        other = self.subscribed("drop-new", "b")
        self.peer.send(b"".join(self.peer.frame(subject, b"1") for subject in "aabab"))
        self.client.publish("c", b"x")
        self.network.advance()
        self.assertEqual((other.pending_msgs, self.peer.written()), (2, [b"x"]))

    def test_defaults(self) -> None:
        """The client's options are the bounds of those that have none of their own."""
        client, peer = self.connected(pending_msgs=2, pending_bytes=1000)
        sub, wide = client.subscribe("a"), client.subscribe("b", pending_msgs=3)
        self.network.advance()
        peer.publish("a", b"1", b"2", b"3")
        peer.publish("b", b"1", b"2", b"3")
        self.assertEqual((sub.pending_msgs, wide.pending_msgs), (2, 3))


class ErrorTests(OverflowTestCase):
    def test_error(self) -> None:
        """With ``error`` it ends there; what waits can be taken, and then the error is raised."""
        sub = self.subscribed("error", pending_msgs=3)
        self.numbered(1, 9)
        self.network.advance()
        self.assertEqual([frame.sid for frame in self.peer.take(UnsubscribeFrame)], [str(sub.sid)])
        self.assertEqual((sub.dropped, self.client.subscriptions), (1, ()))
        self.assertEqual(self.told(SlowConsumer), [SlowConsumer(sub, 1)])
        self.assertEqual(self.take(sub), [1, 2, 3])
        error = self.failureResultOf(sub.next(), SlowConsumerError).value
        self.assertEqual((error.subject, error.pending_msgs), ("a", 3))
        self.assertTrue(sub.closed)

    def test_handler(self) -> None:
        """A handler gets what waits, and then no more."""
        running: list[Deferred[None]] = []
        got: list[int] = []

        def handler(msg: Any) -> Deferred[None]:
            got.append(int(msg.data))
            running.append(Deferred())
            return running[-1]

        sub = self.subscribed("error", handler=handler, pending_msgs=2)
        closed = self.watch(sub.when_closed())
        self.numbered(1, 9)
        self.assertNoResult(closed)
        while running:
            running.pop().callback(None)
        self.successResultOf(closed)
        self.assertEqual(got, [1, 2, 3])


class PauseTests(OverflowTestCase):
    def test_pause(self) -> None:
        """With ``pause`` the socket is not read until the subscription has caught up to half of its bound, and nothing is lost."""
        sub = self.subscribed("pause", pending_msgs=10)
        self.numbered(1, 15)
        self.assertFalse(self.peer.wire.reading)
        self.numbered(16, 20)
        self.assertEqual(sub.pending_msgs, 15)
        self.assertEqual(self.take(sub, 9), list(range(1, 10)))
        self.assertFalse(self.peer.wire.reading)
        self.assertEqual(self.take(sub, 1), [10])
        self.assertTrue(self.peer.wire.reading)
        self.network.advance()
        self.assertEqual(self.take(sub), list(range(11, 21)))
        self.assertEqual((sub.dropped, self.told(SlowConsumer)), (0, []))

    def test_not_for_long(self) -> None:
        """After five seconds reading goes on, before the server cuts the client: then it drops, counts and tells."""
        sub = self.subscribed("pause", pending_msgs=10)
        self.numbered(1, 11)
        self.numbered(12, 20)
        self.network.advance(4.99)
        self.assertEqual((self.peer.wire.reading, sub.pending_msgs), (False, 11))
        self.network.advance(0.01)
        self.assertTrue(self.peer.wire.reading)
        self.assertEqual((sub.pending_msgs, sub.dropped), (11, 9))
        self.assertEqual(len(self.told(SlowConsumer)), 1)
        self.numbered(21, 22)
        self.assertEqual((self.peer.wire.reading, sub.dropped), (True, 11))

    def test_next_episode(self) -> None:
        """One that caught up may pause again."""
        sub = self.subscribed("pause", pending_msgs=4)
        self.numbered(1, 5)
        self.network.advance(5)
        self.numbered(6, 6)
        self.assertEqual(sub.dropped, 1)
        self.take(sub)
        for _ in range(3):
            self.numbered(1, 5)
            self.assertFalse(self.peer.wire.reading)
            self.take(sub)
            self.assertTrue(self.peer.wire.reading)
        self.assertEqual(sub.dropped, 1)

    def test_several(self) -> None:
        """Reading goes on when all that paused have caught up, or are gone."""
        first, second = self.subscribed("pause", pending_msgs=1), self.subscribed("pause", "b", pending_msgs=1)
        self.peer.send(b"".join(self.peer.frame(subject, b"1") for subject in "aabb"))
        self.take(first)
        self.assertFalse(self.peer.wire.reading)
        second.unsubscribe()
        self.assertTrue(self.peer.wire.reading)
        self.network.advance()

    def test_lost_while_pausing(self) -> None:
        """The next connection is read, and may be paused for."""
        sub = self.subscribed("pause", pending_msgs=2)
        self.numbered(1, 3)
        self.peer.cut()
        self.network.advance(0.1)
        self.peer = self.server.peer
        self.assertTrue(self.peer.wire.reading)
        self.numbered(4, 4)
        self.assertFalse(self.peer.wire.reading)
        self.assertEqual(self.take(sub), [1, 2, 3, 4])

    def test_closed_while_pausing(self) -> None:
        """Closing does not wait for a slow subscription."""
        self.subscribed("pause", pending_msgs=1)
        self.numbered(1, 3)
        closed = self.client.close()
        self.network.advance()
        self.successResultOf(closed)

    def test_larger_than_the_bound(self) -> None:
        """A single message that is larger than the bound is taken, and paused for."""
        sub = self.subscribed("pause", pending_bytes=10)
        self.peer.publish("a", b"x" * 100)
        self.assertFalse(self.peer.wire.reading)
        self.assertEqual(len(self.successResultOf(sub.next()).data), 100)
        self.assertTrue(self.peer.wire.reading)
        self.network.advance()

    def test_slow_handler(self) -> None:
        """It works for what waits for a handler, and several at once."""
        running: list[Deferred[None]] = []
        got: list[int] = []

        def handler(msg: Any) -> Deferred[None]:
            got.append(int(msg.data))
            running.append(Deferred())
            return running[-1]

        sub = self.subscribed("pause", handler=handler, pending_msgs=4, concurrency=2)
        self.numbered(1, 8)
        self.numbered(9, 12)
        self.assertFalse(self.peer.wire.reading)
        for _ in range(12):
            running.pop(0).callback(None)
            self.network.advance()
        self.assertEqual((got, sub.dropped, self.peer.wire.reading), (list(range(1, 13)), 0, True))
