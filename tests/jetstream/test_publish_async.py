"""publish_async(): the window, who waits for room in it, and its end."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted.errors import (
    ConnectionClosedError,
    InvalidSubjectError,
    NatsTimeoutError,
    NoStreamResponseError,
    PublishDisconnectedError,
    PublishTimeoutError,
    TooManyStalledMsgsError,
)
from pynats_twisted.jetstream.api import PubAck
from pynats_twisted.protocol.twin import DONE
from pynats_twisted.testing.server_frames import PublishFrame

from .publishing import PublishingTestCase


class WindowTests(PublishingTestCase):
    """A window of four."""

    options: ClassVar[dict[str, Any]] = {"max_async_pending": 4}

    def publish(self, count: int) -> list[Deferred[PubAck]]:
        return [self.watch(self.js.publish_async("a.b", b"%d" % number)) for number in range(count)]

    def ack_all(self, frames: list[PublishFrame]) -> None:
        for seq, frame in enumerate(frames):
            self.ack(frame, seq)

    def test_window(self) -> None:
        """No more than so many are without an ack; one that is acked makes room for the next, in order."""
        waiting = self.publish(6)
        sent = self.sent()
        self.assertEqual([frame.payload for frame in sent], [b"0", b"1", b"2", b"3"])
        self.assertEqual(self.js.publish_async_pending, 6)
        self.ack(sent[2])
        self.ack(sent[0])
        more = self.sent()
        self.assertEqual([frame.payload for frame in more], [b"4", b"5"])
        self.ack_all([sent[1], sent[3], *more])
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.js.publish_async_pending, 0)

    def test_stalled(self) -> None:
        """Who finds no room in time is told, and nothing was sent; the others go on."""
        waiting = self.publish(5)
        sent = self.sent()
        self.network.advance(0.1)
        late = self.watch(self.js.publish_async("a.b", b"late"))
        self.network.advance(0.1)
        error = self.failureResultOf(waiting[4], TooManyStalledMsgsError).value
        self.assertIn("was not sent", str(error))
        self.ack(sent[0])
        self.assertEqual(self.payloads(), [b"late"])
        for each in (*waiting[1:4], late):
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertEqual(self.js.publish_async_pending, 0)

    def test_those_who_wait_are_bounded(self) -> None:
        """Twice the window is all that is kept."""
        waiting = self.publish(9)
        self.failureResultOf(waiting[8], TooManyStalledMsgsError)
        for _ in range(2):
            self.ack_all(self.sent())
        for each in waiting[:8]:
            self.successResultOf(each)

    def test_cancelled_while_it_waits_for_room(self) -> None:
        """It is not sent."""
        waiting = self.publish(6)
        sent = self.sent()
        waiting[4].cancel()
        self.failureResultOf(waiting[4], CancelledError)
        self.ack_all(sent)
        more = self.sent()
        self.assertEqual([frame.payload for frame in more], [b"5"])
        self.ack_all(more)
        self.successResultOf(waiting[5])

    def test_publish_is_not_in_the_window(self) -> None:
        """One that is waited for alone does not wait for the others."""
        self.publish(4)
        single = self.watch(self.js.publish("a.b", b"single"))
        sent = self.sent()
        self.assertEqual(sent[4].payload, b"single")
        self.assertEqual(self.js.publish_async_pending, 4)
        self.ack_all(sent)
        self.successResultOf(single)

    def test_every_end_makes_room(self) -> None:
        """Refused, late and cancelled publishes leave the window as acked ones do."""
        refused, nobody, late, cancelled = (self.watch(self.js.publish_async("a.b", retries=0, timeout=1.0)) for _ in range(4))
        sent = self.sent()
        self.refuse(sent[0], 503, 10077)
        self.nobody(sent[1])
        cancelled.cancel()
        self.assertEqual(self.js.publish_async_pending, 1)
        self.network.advance(1)
        self.assertEqual(self.js.publish_async_pending, 0)
        self.failureResultOf(refused)
        self.failureResultOf(nobody, NoStreamResponseError)
        self.failureResultOf(late, PublishTimeoutError)
        self.failureResultOf(cancelled, CancelledError)

    def test_wrong_values(self) -> None:
        """They raise at once, and take no room; behind others, the Deferred has the error."""
        self.assertRaises(InvalidSubjectError, self.js.publish_async, "a b")
        self.assertEqual(self.js.publish_async_pending, 0)
        self.publish(4)
        wrong = self.watch(self.js.publish_async("a b"))
        self.ack_all(self.sent())
        self.failureResultOf(wrong, InvalidSubjectError)
        self.assertEqual(self.js.publish_async_pending, 0)

    def test_publishing_from_a_callback(self) -> None:
        """What an ack leads to may be another publish."""
        done = Deferred[PubAck]()

        def again(_: PubAck) -> None:
            self.js.publish_async("a.b", b"again").chainDeferred(done)

        waiting = self.publish(4)
        waiting[0].addCallback(again)
        self.ack_all(self.sent())
        more = self.sent()
        self.assertEqual([frame.payload for frame in more], [b"again"])
        self.ack_all(more)
        self.successResultOf(done)

    def test_complete(self) -> None:
        """It fires when all have ended, after their own Deferreds, however they ended."""
        self.successResultOf(self.js.publish_async_complete())
        ended: list[str] = []
        waiting = self.publish(5)
        for each in waiting:
            each.addBoth(lambda _: ended.append("publish"))
        complete = self.watch(self.js.publish_async_complete())
        complete.addBoth(lambda _: ended.append("complete"))
        sent = self.sent()
        self.ack_all(sent[:3])
        self.refuse(sent[3], 503, 10077)
        self.assertNoResult(complete)
        self.ack_all(self.sent())
        self.assertEqual(ended, ["publish"] * 5 + ["complete"])

    def test_complete_in_time(self) -> None:
        """Its own time limit ends the waiting, not the publishes."""
        (waiting,) = self.publish(1)
        complete = self.watch(self.js.publish_async_complete(timeout=1.0))
        self.network.advance(1)
        self.assertIn("1 publishes", str(self.failureResultOf(complete, NatsTimeoutError).value))
        self.ack_all(self.sent())
        self.successResultOf(waiting)

    def test_room(self) -> None:
        """It is there at once, and once the window was full, when a quarter of it is free."""
        self.assertIs(self.js.publish_async_room(), DONE)
        self.publish(4)
        room: Any = self.js.publish_async_room()
        self.watch(room)
        sent = self.sent()
        self.assertNoResult(room)
        self.ack(sent[0])
        self.successResultOf(room)
        self.ack_all(sent[1:])

    def test_room_for_a_producer(self) -> None:
        """A loop that waits for room publishes everything, without a stall."""

        async def produce() -> None:
            for number in range(100):
                await self.js.publish_async_room()
                self.js.publish_async("a.b", b"%d" % number)
            await self.js.publish_async_complete()

        produced = self.watch(produce())
        seen: list[bytes] = []
        while not produced.called:
            sent = self.sent()
            self.assertTrue(0 < len(sent) <= 4)
            seen += [frame.payload for frame in sent]
            self.ack_all(sent)
        self.successResultOf(produced)
        self.assertEqual(seen, [b"%d" % number for number in range(100)])

    def test_disconnected(self) -> None:
        """Those without an id fail; those with one go on, and so do those that wait for room."""
        lost = self.publish(3)
        kept = self.watch(self.js.publish_async("a.b", b"kept", msg_id="1"))
        stalled = [self.watch(self.js.publish_async("a.b", b"stalled")) for _ in range(2)]
        self.sent()
        peer = self.reconnected()
        for each in lost:
            self.failureResultOf(each, PublishDisconnectedError)
        sent = self.sent(peer)
        self.assertEqual(sorted(frame.payload for frame in sent), [b"kept", b"stalled", b"stalled"])
        for frame in sent:
            self.ack(frame, 1, peer)
        for each in (kept, *stalled):
            self.successResultOf(each)

    def test_closed(self) -> None:
        """Everybody is told: those that were sent, those that wait for room, and those who wait for all."""
        waiting = self.publish(6)
        complete = self.watch(self.js.publish_async_complete())
        self.sent()
        self.client.close()
        for each in waiting:
            self.failureResultOf(each, ConnectionClosedError)
        self.successResultOf(complete)
        self.assertEqual(self.js.publish_async_pending, 0)


class NoStallTests(PublishingTestCase):
    options: ClassVar[dict[str, Any]] = {"max_async_pending": 1, "async_stall_wait": 0}

    def test_no_waiting(self) -> None:
        """Without a stall wait, a full window is an error at once."""
        self.watch(self.js.publish_async("a.b"))
        self.failureResultOf(self.js.publish_async("a.b"), TooManyStalledMsgsError)
        self.ack(self.one())


class FullBufferTests(PublishingTestCase):
    client_options: ClassVar[dict[str, Any]] = {"high_water_bytes": 100_000}

    def test_room_in_the_buffer(self) -> None:
        """Room also means that the client's buffer is not above its high-water mark."""
        self.peer.stalled = True
        self.client.publish("filler", bytes(900_000))
        self.network.advance()
        self.peer.take()
        waiting = [self.watch(self.js.publish_async("a.b", bytes(60_000))) for _ in range(3)]
        room: Any = self.js.publish_async_room()
        self.watch(room)
        self.network.advance()
        self.assertNoResult(room)
        self.peer.stalled = False
        self.network.advance()
        self.successResultOf(room)
        for frame in self.sent():
            if frame.subject == "a.b":
                self.ack(frame)
        for each in waiting:
            self.successResultOf(each)
