"""Publishing with the blocking client: when the bytes go, and what a server that does not read does to it."""

from __future__ import annotations

from pynats_twisted import Headers, errors

from .support import BlockingTestCase, Published


class PublishTests(BlockingTestCase):
    """publish(), buffered() and flush() while there is a connection."""

    def test_goes_at_once(self) -> None:
        """A publish is handed over before publish() returns: nobody has to call anything after it."""
        nc = self.connect()
        nc.publish("x", b"1", reply="r", headers={"A": "b"})
        self.machine.pump()
        self.assertEqual(self.server.published, [Published("x", b"1", "r", b"NATS/1.0\r\nA: b\r\n\r\n")])
        self.assertEqual((nc.stats.out_msgs, nc.pending_bytes), (1, 0))

    def test_invalid_values(self) -> None:
        """What cannot be sent is refused before anything is written."""
        nc = self.connect()
        for subject, payload, headers in (
            ("a b", b"", None),
            ("a.*", b"", None),
            ("a\r\nPUB b 0", b"", None),
            ("a", b"", {"N": "x\r\ny"}),
            ("a", bytes(1048577), None),
            ("a", "text", None),
        ):
            self.assertRaises(errors.InvalidArgumentError, nc.publish, subject, payload, headers=headers)
        nc.flush()
        self.assertEqual((self.server.published, nc.stats.out_msgs), ([], 0))

    def test_payload_is_copied(self) -> None:
        """A buffer that changes after publish() does not change what is sent."""
        self.server.room = 10
        nc = self.connect()
        self.server.reading = False
        payload = bytearray(b"before")
        nc.publish("x", payload)
        payload[:] = b"after!"
        self.server.reading = True
        nc.flush()
        self.assertEqual(self.server.payloads, [b"before"])

    def test_partial_sends(self) -> None:
        """A socket that takes a few bytes at a time gets every message whole and in order."""
        self.server.room = 7
        nc = self.connect()
        for number in range(50):
            nc.publish("x", b"%d" % number)
        nc.flush()
        self.assertEqual(self.server.payloads, [b"%d" % number for number in range(50)])

    def test_buffered(self) -> None:
        """In buffered() small publishes go together: at 64 KiB, and at the end of the block."""
        nc = self.connect()
        sends: list[str] = []
        self.machine.on_tick = lambda kind: sends.append(kind) if kind == "send" else None
        with nc.buffered():
            for number in range(100):
                nc.publish("x", b"%d" % number)
            self.assertEqual(sends, [])
            with nc.buffered():
                nc.publish("x", bytes(70_000))
                self.assertGreaterEqual(len(sends), 1)
            nc.publish("x", b"end")
        self.machine.pump()
        self.assertEqual(len(self.server.published), 102)
        self.assertLess(len(sends), 6)

    def test_a_call_that_waits_sends_what_is_buffered(self) -> None:
        """Inside buffered() a request still goes at once, behind what was published before it."""
        nc = self.connect()
        self.server.served.add("q")
        self.server.on_line = lambda peer, line: self.server.publish(self.server.published[-1].reply, b"ok") if " q " in line else None
        with nc.buffered():
            nc.publish("x", b"1")
            self.assertEqual(nc.request("q").data, b"ok")
        self.assertEqual([each.subject for each in self.server.published], ["x", "q"])

    def test_waits_for_room(self) -> None:
        """With high_water_bytes waiting, publish() waits until the server reads; nothing grows without bound."""
        self.server.room = 1000
        nc = self.connect(high_water_bytes=5000)
        self.server.reading = False
        self.machine.at(2.0, lambda: setattr(self.server, "reading", True))
        begun = self.machine.time
        for number in range(20):
            nc.publish("x", b"%d" % number + bytes(500))
            self.assertLessEqual(nc.pending_bytes, 5000)
        self.assertEqual(self.machine.time - begun, 2.0)
        nc.flush()
        self.assertEqual(len(self.server.published), 20)

    def test_no_room(self) -> None:
        """A server that reads nothing for flush_timeout makes publish() fail, and that message is not taken."""
        self.server.room = 1000
        nc = self.connect(high_water_bytes=5000, flush_timeout=3.0)
        self.server.reading = False
        begun = self.machine.time

        def fill() -> None:
            while True:
                nc.publish("x", bytes(500))

        error = self.assertRaises(errors.OutboundBufferFullError, fill)
        self.assertEqual((error.limit, self.machine.time - begun), (5000, 3.0))
        taken = nc.stats.out_msgs
        self.server.reading = True
        nc.flush()
        self.assertEqual(len(self.server.published), taken)

    def test_a_message_larger_than_the_bound(self) -> None:
        """One message may be larger than high_water_bytes, when nothing else waits."""
        nc = self.connect(high_water_bytes=10, reconnect_buffer_bytes=10)
        nc.publish("x", bytes(1000))
        nc.flush()
        self.assertEqual(self.server.payloads, [bytes(1000)])

    def test_reads_while_it_waits_for_room(self) -> None:
        """A server that reads nothing before the client has read what it sends does not lock both."""
        self.server.room = 1000
        nc = self.connect(high_water_bytes=2000)
        sub = nc.subscribe("back").confirmed()
        self.server.reading = False
        self.server.publish("back", bytes(100_000))

        def read_when_read() -> None:
            self.server.reading = not self.server.peer.socket.incoming
            self.machine.at(0.1, read_when_read)

        self.machine.at(0.1, read_when_read)
        for _ in range(20):
            nc.publish("x", bytes(500))
        nc.flush()
        self.assertEqual((len(self.server.published), sub.pending_msgs), (20, 1))

    def test_a_server_that_asks_and_does_not_read(self) -> None:
        """Neither PINGs nor subscriptions fill the buffer for a server that reads nothing."""
        self.server.room = 1000
        nc = self.connect(max_pending_bytes=10_000, high_water_bytes=5000, reconnect_buffer_bytes=5000)
        self.server.reading = False
        for _ in range(20):
            self.server.peer.send(b"PING\r\n" * 1000)
            nc.process()
        self.assertLess(nc.pending_bytes, 20_000)
        self.assertRaises(errors.OutboundBufferFullError, nc.subscribe, "x")
        self.server.reading = True
        nc.flush()
        nc.subscribe("x").confirmed()

    def test_publishing_answers_pings(self) -> None:
        """A program that only publishes answers the server's PINGs, and notices that the server is gone."""
        nc = self.connect()
        self.server.peer.send(b"PING\r\n")
        self.machine.time += 1.0
        nc.publish("x")
        self.machine.pump()
        self.assertIn("PONG", self.server.peer.lines)
        self.server.stop()
        self.machine.time += 1.0
        nc.publish("x", b"kept")
        self.assertEqual((nc.is_connected, nc.stats.unconfirmed), (False, 1))
        self.server.mode = "accept"
        self.assertRaises(errors.DisconnectedError, nc.flush)
        nc.flush()
        self.assertEqual(self.server.payloads, [b"", b"kept"])


class FlushTests(BlockingTestCase):
    """flush() says that the server has it."""

    def test_flush(self) -> None:
        """flush() sends a PING behind what was published, and returns at its PONG."""
        nc = self.connect()
        with nc.buffered():
            nc.publish("x", b"1")
        nc.flush()
        self.assertEqual([line.split()[0] for line in self.server.peer.lines[2:]], ["PUB", "PING"])

    def test_no_answer(self) -> None:
        """Without a PONG flush() ends after its time; the PONG that comes late is not taken for the next one's."""
        nc = self.connect()
        self.server.silent.add("PING")
        begun = self.machine.time
        self.assertRaises(errors.FlushTimeoutError, nc.flush, 2.0)
        self.assertEqual(self.machine.time - begun, 2.0)
        self.server.peer.send(b"PONG\r\n")
        self.assertRaises(errors.FlushTimeoutError, nc.flush, 2.0)
        self.server.peer.send(b"PONG\r\n")
        self.server.silent.clear()
        nc.flush()

    def test_default_time(self) -> None:
        """The time is the option flush_timeout where the call gives none, and has to be a number."""
        nc = self.connect(flush_timeout=7.0)
        self.server.silent.add("PING")
        begun = self.machine.time
        self.assertRaises(errors.FlushTimeoutError, nc.flush)
        self.assertEqual(self.machine.time - begun, 7.0)
        self.assertRaises(errors.ConfigurationError, nc.flush, -1)
        self.assertRaises(errors.ConfigurationError, nc.flush, "1")

    def test_lost_and_confirmed(self) -> None:
        """A flush goes on over a lost connection as long as nothing can have been lost with it."""
        nc = self.connect()
        nc.publish("x", b"1")
        nc.flush()
        self.server.peer.close()
        nc.flush()
        self.assertEqual((len(self.server.peers), nc.stats.unconfirmed), (2, 0))

    def test_lost_and_unconfirmed(self) -> None:
        """A flush fails, once, when a connection was lost that took publishes and did not confirm them, whichever call noticed it."""
        nc = self.connect()
        nc.publish("x", b"1")
        nc.publish("x", b"2")
        self.server.peer.close()
        nc.process()
        nc.publish("x", b"3")
        error = self.assertRaises(errors.DisconnectedError, nc.flush)
        self.assertIn("2 publishes", str(error))
        self.assertEqual(nc.stats.unconfirmed, 2)
        nc.flush()
        self.assertEqual(self.server.payloads[-1], b"3")

    def test_no_connection(self) -> None:
        """Where no connection comes in time, the error says why there is none."""
        nc = self.connect(reconnect_wait=1.0, reconnect_jitter=0.0)
        self.server.stop()
        begun = self.machine.time
        error = self.assertRaises(errors.FlushTimeoutError, nc.flush, 3.0)
        self.assertIn("refused", str(error))
        self.assertEqual(self.machine.time - begun, 3.0)

    def test_rtt(self) -> None:
        """rtt() is the time from PING to PONG."""
        nc = self.connect()
        self.server.silent.add("PING")
        self.machine.at(0.25, lambda: self.server.peer.send(b"PONG\r\n"))
        self.assertAlmostEqual(nc.rtt(), 0.25)

    def test_headers_object(self) -> None:
        """Headers of several values go as they are."""
        nc = self.connect()
        nc.publish("x", headers=Headers({"A": ["1", "2"]}))
        nc.flush()
        self.assertEqual(self.server.published[0].headers, b"NATS/1.0\r\nA: 1\r\nA: 2\r\n\r\n")
