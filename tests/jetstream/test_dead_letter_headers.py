"""The headers of dead letters."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import Headers
from pynats_twisted.jetstream.api import parse_time
from pynats_twisted.jetstream.dead_letter_headers import Origin, dead_letter_headers, format_nanoseconds, to_timestamp_ns
from pynats_twisted.protocol.headers import parse_headers

ORIGIN = Origin(stream="ORDERS", consumer="worker", seq=42, timestamp_ns=1700000000123456789, subject="orders.new", deliveries=5)


class HeaderTests(SynchronousTestCase):
    def test_origin(self) -> None:
        """A dead letter says where it comes from and why it is one."""
        made = dead_letter_headers(Headers(), ORIGIN, "rejected", "no such customer")
        self.assertEqual(
            dict(made),
            {
                "Dead-Letter-Stream": "ORDERS",
                "Dead-Letter-Consumer": "worker",
                "Dead-Letter-Sequence": "42",
                "Dead-Letter-Subject": "orders.new",
                "Dead-Letter-Time": "2023-11-14T22:13:20.123456789Z",
                "Dead-Letter-Deliveries": "5",
                "Dead-Letter-Cause": "rejected",
                "Dead-Letter-Reason": "no such customer",
            },
        )

    def test_headers_are_kept(self) -> None:
        """The message's own headers stay, each with all its values; the message itself is not changed."""
        headers = Headers([("A", "1"), ("A", "2"), ("Trace", "x")])
        made = dead_letter_headers(headers, ORIGIN, "rejected", "")
        self.assertEqual((made.get_all("A"), made["Trace"]), (["1", "2"], "x"))
        self.assertEqual(list(headers), ["A", "Trace"])

    def test_headers_for_the_server_are_renamed(self) -> None:
        """What the server would obey, as an id of a duplicate or an expectation, is only told; so are those of an older dead letter."""
        headers = Headers(
            {"Nats-Msg-Id": "a", "Nats-Expected-Last-Sequence": "7", "nats-ttl": "1s", "Dead-Letter-Stream": "OLDER", "Native": "yes"}
        )
        made = dead_letter_headers(headers, ORIGIN, "rejected", "")
        self.assertEqual([name for name in made if name.lower().startswith("nats-")], [])
        self.assertEqual((made["Original-Nats-Msg-Id"], made["Original-nats-ttl"], made["Native"]), ("a", "1s", "yes"))
        self.assertEqual((made["Original-Dead-Letter-Stream"], made["Dead-Letter-Stream"]), ("OLDER", "ORDERS"))

    def test_odd_values_can_be_sent(self) -> None:
        """A header that could not be published again does not keep a message from becoming a dead letter."""
        block = b"NATS/1.0\r\nA: x\ry\r\nB: \xff\xfe\r\nC: z\x00\r\n\r\n"
        made = dead_letter_headers(parse_headers(block).headers, ORIGIN, "failed", "bad\r\nvalue \udc80 \ud800")
        again = parse_headers(made.encode()).headers
        self.assertEqual((again["A"], again["B"], again["C"]), ("x y", "\ufffd\ufffd", "z"))
        self.assertTrue(again["Dead-Letter-Reason"].startswith("bad value "))

    def test_long_reason(self) -> None:
        """A reason of any length is cut."""
        made = dead_letter_headers(Headers(), ORIGIN, "failed", "x" * 5000)
        self.assertEqual(len(made["Dead-Letter-Reason"]), 1024)


class TimeTests(SynchronousTestCase):
    def test_nanoseconds_of_both_sources_agree(self) -> None:
        """The time that a stored message has, and the one in an ack subject, are the same number."""
        for nanoseconds in (0, 1, 1700000000123456789, 1700000000000000000, 1699999999999999999, -1):
            time = parse_time(format_nanoseconds(nanoseconds))
            assert time is not None
            self.assertEqual(to_timestamp_ns(time), nanoseconds)

    def test_time_without_nanoseconds(self) -> None:
        """A plain datetime in any zone does, too."""
        zone = timezone(timedelta(hours=2))
        self.assertEqual(to_timestamp_ns(datetime(1970, 1, 1, 2, 0, 1, 5, tzinfo=zone)), 1_000_005_000)
