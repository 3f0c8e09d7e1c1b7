"""What is published: coalescing, back-pressure, bounds, the reconnect buffer, and what a server with other limits does to it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted.client.status import Closed, Disconnected, PublishDropped
from pynats_twisted.errors import (
    ConnectionClosedError,
    HeadersNotSupportedError,
    InvalidArgumentError,
    InvalidHeaderError,
    InvalidSubjectError,
    MaxPayloadExceededError,
    OutboundBufferFullError,
)
from pynats_twisted.testing.server_frames import ConnectFrame, PingFrame, PublishFrame, SubscribeFrame

from .support import ClientTestCase

FRAME = len(b"PUB a 1000\r\n") + 1000 + 2


class WriteTests(ClientTestCase):
    def writes(self, peer: Any) -> list[bytes]:
        """Each write to the transport from now on."""
        writes: list[bytes] = []
        write = peer.wire.write
        peer.wire.write = lambda data: (writes.append(data), write(data))
        return writes

    def test_one_write_a_turn(self) -> None:
        """What is published in one turn of the reactor is written as one, at the turn's end."""
        client, peer = self.connected()
        writes = self.writes(peer)
        client.publish("a", b"1")
        client.subscribe("s")
        client.publish("a", b"2", reply="r", headers={"H": ["x", "y"]})
        self.assertEqual(writes, [])
        self.network.advance()
        self.assertEqual(
            writes,
            [b"PUB a 1\r\n1\r\nSUB s 1\r\nHPUB a r 24 25\r\nNATS/1.0\r\nH: x\r\nH: y\r\n\r\n2\r\n"],
        )

    def test_one_write_a_read(self) -> None:
        """What handlers publish while a read is handled is written as one, at once, behind the PONG."""
        client, peer = self.connected()
        client.subscribe("a", lambda msg: client.publish("b", msg.data))
        self.network.advance()
        writes = self.writes(peer)
        peer.send(peer.frame("a", b"1") + b"PING\r\n" + peer.frame("a", b"2"))
        self.assertEqual(writes, [b"PONG\r\n", b"PUB b 1\r\n1\r\nPUB b 1\r\n2\r\n"])

    def test_large_amounts_at_once(self) -> None:
        """From 64 KiB on nothing waits for the end of the turn."""
        client, peer = self.connected()
        writes = self.writes(peer)
        for _ in range(100):
            client.publish("a", b"x" * 1000)
        self.assertEqual([len(data) for data in writes], [65 * FRAME])

    def test_payload_is_taken_as_it_is(self) -> None:
        """A payload may be any buffer, and what the caller does with it later changes nothing."""
        client, peer = self.connected()
        changing = bytearray(b"before")
        client.publish("a", changing)
        client.publish("a", memoryview(changing)[:2])
        changing[:] = b"behind"
        self.network.advance()
        self.assertEqual(peer.written(), [b"before", b"be"])

    def test_bad_values(self) -> None:
        """What cannot be sent is refused, and nothing of it is written."""
        client, peer = self.connected()
        for subject in ("", "a b", "a\r\nPING", "a..b", ".a", "a.", "a.*", ">", "a\tb", None, b"a"):
            self.assertRaises(InvalidSubjectError, client.publish, subject)
            if subject:
                self.assertRaises(InvalidSubjectError, client.publish, "a", b"", reply=subject)
        for headers in ({"a b": "1"}, {"": "1"}, {"a": "1\r\nb: 2"}, {"a:": "1"}):
            self.assertRaises(InvalidHeaderError, client.publish, "a", b"", headers=headers)
        for payload in ("text", 5, None):
            self.assertRaises(InvalidArgumentError, client.publish, "a", payload)
        self.network.advance()
        self.assertEqual(peer.frames, [])
        self.assertEqual((client.pending_bytes, client.stats.out_msgs), (0, 0))

    def test_max_payload(self) -> None:
        """``max_payload`` counts headers and payload: exactly so much goes, one byte more does not."""
        self.server.info["max_payload"] = 100
        client, peer = self.connected()
        client.publish("a", b"x" * 100)
        self.assertRaises(MaxPayloadExceededError, client.publish, "a", b"x" * 101)
        block = len(b"NATS/1.0\r\nH: x\r\n\r\n")
        client.publish("a", b"x" * (100 - block), headers={"H": "x"})
        error = self.assertRaises(MaxPayloadExceededError, client.publish, "a", b"x" * (101 - block), headers={"H": "x"})
        self.assertEqual((error.size, error.limit), (101, 100))
        peer.info(max_payload=50)
        self.assertRaises(MaxPayloadExceededError, client.publish, "a", b"x" * 51)
        self.network.advance()
        sizes = [(len(frame.header_block), len(frame.payload)) for frame in peer.take(PublishFrame)]
        self.assertEqual(sizes, [(0, 100), (block, 100 - block)])

    def test_no_headers(self) -> None:
        """A server without headers gets none."""
        self.server.info["headers"] = False
        client, _ = self.connected()
        self.assertRaises(HeadersNotSupportedError, client.publish, "a", b"", headers={"H": "x"})


class BackPressureTests(ClientTestCase):
    def stalled(self, **options: Any) -> tuple[Any, Any]:
        """A client whose server stopped reading, and whose transport is full."""
        client, peer = self.connected(**options)
        peer.stalled = True
        while not client.pending_bytes:
            client.publish("a", b"x" * 1000)
            self.network.advance()
        peer.frames.clear()
        return client, peer

    def test_awaiting(self) -> None:
        """Awaiting a publish is over at once below the high-water mark, and above it when there is room again."""
        client, peer = self.stalled(high_water_bytes=20_000)
        waiting: list[Any] = []

        async def publisher() -> int:
            for number in range(100):
                waiting.append(number)
                await client.publish("a", b"y" * 1000)
            return len(waiting)

        done = self.watch(publisher())
        self.assertNoResult(done)
        self.assertLess(len(waiting), 25)
        peer.stalled = False
        self.network.advance()
        self.assertEqual(self.successResultOf(done), 100)
        self.network.advance()
        self.assertEqual([payload[:1] for payload in peer.written()].count(b"y"), 100)

    def test_order_under_pressure(self) -> None:
        """However it was cut into writes, everything comes in order."""
        client, peer = self.stalled(max_pending_bytes=8 * 1024 * 1024)
        for number in range(1500):
            client.publish("a", b"%d " % number + b"x" * 1000)
        peer.stalled = False
        self.network.advance()
        numbers = [int(payload.split(b" ")[0]) for payload in peer.written() if b" " in payload]
        self.assertEqual(numbers, list(range(1500)))

    def test_hard_cap(self) -> None:
        """At ``max_pending_bytes`` a publish fails and takes nothing; room makes it work again."""
        client, peer = self.stalled(high_water_bytes=5_000, max_pending_bytes=20_000, reconnect_buffer_bytes=1000)
        before = client.pending_bytes
        for _ in range((20_000 - before) // FRAME):
            client.publish("a", b"y" * 1000)
        full = client.pending_bytes
        error = self.assertRaises(OutboundBufferFullError, client.publish, "a", b"y" * 1000)
        self.assertEqual((error.pending, error.limit, client.pending_bytes), (full, 20_000, full))
        accepted = client.stats.out_msgs
        peer.stalled = False
        self.network.advance()
        client.publish("a", b"y" * 1000)
        self.network.advance()
        self.assertEqual(client.stats.out_msgs, accepted + 1)
        self.assertEqual(len(peer.frames), accepted + 1)

    def test_cancelled_waiting(self) -> None:
        """One who waits for room may give up; the publish stays, and the others get their turn."""
        client, peer = self.stalled(high_water_bytes=2000)
        first, second, third = (self.watch(client.publish("a", b"y" * 1000)) for _ in range(3))
        # In the middle of being told, another one is taken out.
        first.addCallback(lambda _: second.cancel())
        second.addErrback(lambda failure: failure.trap(CancelledError) and None)
        third.cancel()
        self.failureResultOf(third, CancelledError)
        peer.stalled = False
        self.network.advance()
        self.assertEqual(peer.written().count(b"y" * 1000), 3)

    def test_closing_under_pressure(self) -> None:
        """Closing writes all that waits, also what the transport had not taken yet."""
        client, peer = self.stalled()
        for _ in range(1000):
            client.publish("a", b"y" * 1000)
        closed = client.close()
        self.network.advance(0.5)
        self.assertNoResult(closed)
        peer.stalled = False
        self.network.advance()
        self.successResultOf(closed)
        self.assertEqual(peer.written().count(b"y" * 1000), 1000)
        self.assertEqual(self.told(Closed), [Closed(None, 0)])

    def test_pings_under_pressure(self) -> None:
        """PONGs do not wait behind what was published."""
        client, peer = self.stalled(high_water_bytes=2000)
        client.publish("a", b"y" * 100_000)
        writes: list[bytes] = []
        peer.wire.write = writes.append
        peer.send(b"PING\r\n")
        self.assertEqual(writes, [b"PONG\r\n"])
        del peer.wire.write


class ReconnectBufferTests(ClientTestCase):
    def cut_off(self, **options: Any) -> Any:
        """A client whose server is gone."""
        client, peer = self.connected(**options)
        self.network.refuse("one:4222")
        peer.cut()
        self.network.advance()
        return client

    def back(self) -> Any:
        """The server's end of the next connection."""
        self.network.accept("one:4222")
        self.network.advance(1)
        return self.server.peer

    def test_order(self) -> None:
        """What was published while disconnected comes in order, behind the subscriptions."""
        client = self.cut_off()
        client.subscribe("a")
        for number in range(100):
            client.publish("a", b"%d" % number)
        peer = self.back()
        self.assertEqual(peer.kinds(), [ConnectFrame, PingFrame, SubscribeFrame] + [PublishFrame] * 100)
        self.assertEqual(peer.written(), [b"%d" % number for number in range(100)])

    def test_bound(self) -> None:
        """Two frames of 16 bytes fit into 32 bytes; the third fails, and is not sent later."""
        client = self.cut_off(reconnect_buffer_bytes=32)
        client.publish("a", b"12345")
        client.publish("a", b"12345")
        self.assertEqual(client.pending_bytes, 32)
        self.assertRaises(OutboundBufferFullError, client.publish, "a", b"12345")
        self.assertEqual(len(self.back().written()), 2)

    def test_no_buffer(self) -> None:
        """With 0 bytes publishing fails while disconnected, and works again afterwards."""
        client = self.cut_off(reconnect_buffer_bytes=0)
        self.assertRaises(OutboundBufferFullError, client.publish, "a")
        peer = self.back()
        client.publish("a", b"x")
        self.network.advance()
        self.assertEqual(peer.written(), [b"x"])

    def test_awaiting(self) -> None:
        """Above the high-water mark, awaiting a publish waits for the connection."""
        client = self.cut_off(high_water_bytes=50)
        self.assertNotIsInstance(client.publish("a", b"x"), Deferred)
        waiting = self.watch(client.publish("a", b"x" * 100))
        self.assertNoResult(waiting)
        self.back()
        self.successResultOf(waiting)

    def test_closed_while_waiting(self) -> None:
        """Closing tells who waits for room. Who published without waiting is not bothered, and nothing is logged."""
        client = self.cut_off(high_water_bytes=50)

        async def publisher() -> None:
            await client.publish("a", b"x" * 100)

        client.publish("a", b"x" * 100)
        waiting = self.watch(publisher())
        client.publish("a", b"nobody waits for this one")
        client.close()
        self.network.advance()
        self.failureResultOf(waiting, ConnectionClosedError)

    def test_not_handed_over(self) -> None:
        """What was not handed to the lost connection goes to the next one, whole and once; what was is not repeated."""
        client, peer = self.connected()
        client.publish("a", b"handed over")
        self.network.advance()
        client.publish("a", b"waiting")
        client.subscribe("s")
        self.watch(client.flush()).addErrback(lambda failure: None)
        peer.cut()
        self.network.advance()
        self.assertEqual(self.server.peer.written(), [b"waiting"])
        self.assertEqual(self.server.peer.subscribed(), ["s"])

    def test_cut_in_the_replay(self) -> None:
        """A second loss while the buffer is being sent: whole frames only, none twice, and the rest with the third connection."""
        client = self.cut_off(max_pending_bytes=8 * 1024 * 1024)
        for number in range(3000):
            client.publish("a", b"%d " % number + b"x" * 1000)
        self.server.interceptor = lambda session, frame: setattr(self.server.peer, "stalled", isinstance(frame, PingFrame))
        second = self.back()
        self.assertEqual(second.written(), [])
        second.cut(arriving=second.wire.unsent)
        self.server.interceptor = None
        third = self.back()
        first_part = [int(payload.split(b" ")[0]) for payload in second.written()]
        rest = [int(payload.split(b" ")[0]) for payload in third.written()]
        self.assertEqual(first_part + rest, list(range(3000)))
        self.assertTrue(0 < len(first_part) < 3000)
        self.assertEqual(self.told(Disconnected)[1].unconfirmed, len(first_part))

    def test_smaller_max_payload(self) -> None:
        """A buffered publish that the next server would not take is left out and told; the others are sent."""
        client = self.cut_off()
        client.publish("small", b"1")
        client.publish("large", b"x" * 2000)
        client.publish("large.with.headers", b"x" * 990, headers={"H": "x"})
        client.publish("last", b"2")
        self.server.info["max_payload"] = 1000
        peer = self.back()
        self.assertEqual(peer.written(), [b"1", b"2"])
        dropped = self.told(PublishDropped)
        self.assertEqual([event.subject for event in dropped], ["large", "large.with.headers"])
        self.assertIsInstance(dropped[0].error, MaxPayloadExceededError)
        self.network.advance(60)
        self.assertFalse(peer.wire.ended)
        self.assertEqual(client.stats.out_msgs, 2)

    def test_no_headers_any_more(self) -> None:
        """The same for headers that the next server does not support."""
        client = self.cut_off()
        client.publish("a", b"1", headers={"H": "x"})
        client.publish("b", b"2", reply="r")
        self.server.info["headers"] = False
        peer = self.back()
        self.assertEqual([(frame.subject, frame.header_block) for frame in peer.frames[2:]], [("b", b"")])
        self.assertIsInstance(self.told(PublishDropped)[0].error, HeadersNotSupportedError)

    def test_closed_while_disconnected(self) -> None:
        """What waits when the client is closed is counted, and nothing else is."""
        client = self.cut_off()
        for _ in range(3):
            client.publish("a", b"x")
        client.subscribe("s")
        client.close()
        (closed,) = self.told(Closed)
        self.assertEqual(closed.undelivered, 3)
        self.assertEqual(client.pending_bytes, 0)

    def test_payload_that_looks_like_a_frame(self) -> None:
        """The buffer is cut where its frames end, whatever the payloads look like."""
        client = self.cut_off()
        payloads = [b"PUB x 3\r\nabc\r\n", b"\r\n", b"", b"PING\r\n", b"HPUB x 1 2\r\n"]
        for payload in payloads:
            client.publish("a", payload)
        self.assertEqual(self.back().written(), payloads)

    def test_publish_in_a_callback_at_the_replay(self) -> None:
        """Who waited for room and publishes on when there is some is behind what was buffered."""
        client = self.cut_off(high_water_bytes=10)
        waiting = self.watch(client.publish("a", b"1"))
        waiting.addCallback(lambda _: client.publish("a", b"3"))
        client.publish("a", b"2")
        self.assertEqual(self.back().written(), [b"1", b"2", b"3"])
