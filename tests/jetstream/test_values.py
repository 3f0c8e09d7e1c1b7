"""Durations and times between people and the wire."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.jetstream.api import Seconds, Timestamp, format_time, from_nanoseconds, parse_time, to_nanoseconds
from tests.jetstream.strategies import times


class DurationTests(SynchronousTestCase):
    """Seconds at the surface, nanoseconds on the wire."""

    def test_decimal_digits_count(self) -> None:
        """A duration becomes exactly the nanoseconds that its decimal digits say, also where binary fractions do not."""
        for seconds, nanoseconds in [
            (0.1, 100_000_000),
            (0.3, 300_000_000),
            (1e-9, 1),
            (0.000000001, 1),
            (2.0000000004, 2_000_000_000),
            (2.0000000006, 2_000_000_001),
            (120, 120_000_000_000),
            (315_360_000.1, 315_360_000_100_000_000),
            (9_223_372_036.0, 9_223_372_036_000_000_000),
            (-0.001, -1_000_000),
        ]:
            self.assertEqual(to_nanoseconds(seconds), nanoseconds, seconds)

    def test_what_is_no_duration(self) -> None:
        """What is not a number of seconds, or has no end, or does not fit into the wire's 64 bits, is refused."""
        wrong: list[Any] = ["1", None, True, timedelta(seconds=1)]
        for value in wrong:
            self.assertRaises(TypeError, to_nanoseconds, value)
        for number in (float("nan"), float("inf"), float("-inf"), 1e10, 10**40):
            self.assertRaises(ValueError, to_nanoseconds, number)

    @given(st.integers(-(2**63), 2**63 - 1))
    @example(8_731_266_515_576_191)
    @example(2**63 - 1)
    @example(-(2**63))
    def test_no_nanosecond_is_lost(self, nanoseconds: int) -> None:
        """A duration that a server sent is sent back the same, however long it is."""
        seconds = from_nanoseconds(nanoseconds)
        self.assertEqual(seconds, nanoseconds / 1_000_000_000)
        self.assertEqual(to_nanoseconds(seconds), nanoseconds)

    def test_ordinary_ones_are_plain_floats(self) -> None:
        """Only what a float cannot hold is more than a float, and stays so when it is copied."""
        self.assertIs(type(from_nanoseconds(100_000_000)), float)
        odd = from_nanoseconds(31_536_000_000_000_001)
        assert isinstance(odd, Seconds)
        for twin in (copy.deepcopy(odd), pickle.loads(pickle.dumps(odd))):
            self.assertEqual((type(twin), twin.nanoseconds), (Seconds, 31_536_000_000_000_001))
        self.assertIs(type(odd + 1), float)


class TimeTests(SynchronousTestCase):
    """Datetimes at the surface, RFC 3339 on the wire."""

    def test_times_of_servers(self) -> None:
        """Every form that a server writes is read, in UTC, and cut off after the microseconds."""
        for text, moment, nanosecond in [
            ("2026-08-21T14:50:11Z", datetime(2026, 8, 21, 14, 50, 11, tzinfo=timezone.utc), 0),
            ("2026-08-21T14:50:11.5Z", datetime(2026, 8, 21, 14, 50, 11, 500_000, tzinfo=timezone.utc), 500_000_000),
            ("2026-08-21T14:50:11.123456789Z", datetime(2026, 8, 21, 14, 50, 11, 123_456, tzinfo=timezone.utc), 123_456_789),
            ("2026-08-21T14:50:11.999999999Z", datetime(2026, 8, 21, 14, 50, 11, 999_999, tzinfo=timezone.utc), 999_999_999),
            ("2026-08-21T14:50:11.1-02:30", datetime(2026, 8, 21, 17, 20, 11, 100_000, tzinfo=timezone.utc), 100_000_000),
            ("2026-08-21t14:50:11z", datetime(2026, 8, 21, 14, 50, 11, tzinfo=timezone.utc), 0),
        ]:
            found = parse_time(text)
            assert found is not None
            self.assertEqual((found, found.nanosecond, found.text, found.utcoffset()), (moment, nanosecond, text, timedelta(0)))

    def test_sent_back_as_it_came(self) -> None:
        """A time from a server keeps its nanoseconds when it is sent back, also after it was copied."""
        found = parse_time("2026-08-21T14:50:11.123456789Z")
        assert found is not None
        for twin in (found, copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
            self.assertEqual(format_time(twin), "2026-08-21T14:50:11.123456789Z")

    def test_computing_forgets_the_text(self) -> None:
        """What is computed from a time of a server is another time, and is sent as such."""
        found = parse_time("2026-08-21T14:50:11.123456789Z")
        assert found is not None
        self.assertEqual(format_time(found + timedelta(hours=1)), "2026-08-21T15:50:11.123456Z")
        self.assertEqual(format_time(found.replace(year=2027)), "2027-08-21T14:50:11.123456Z")
        later = found + timedelta(microseconds=1)
        assert isinstance(later, Timestamp)
        self.assertEqual(later.nanosecond, 123_457_000)

    def test_never(self) -> None:
        """The time that servers write for "never" is None."""
        self.assertIsNone(parse_time("0001-01-01T00:00:00Z"))

    def test_what_is_no_time(self) -> None:
        """Whatever is not RFC 3339 is refused."""
        for text in [
            "",
            "now",
            "2026-08-21",
            "2026-08-21T14:50:11",
            "2026-13-21T14:50:11Z",
            "2026-08-21T14:50:61Z",
            "2026-08-21T14:50:11.Z",
        ]:
            self.assertRaises(ValueError, parse_time, text)
        for text in ["2026-08-21T14:50:11.1234567890Z", "0001-01-01T00:00:00+01:00", "0000-01-01T00:00:00Z", "٢٠٢٦-08-21T14:50:11Z"]:
            self.assertRaises(ValueError, parse_time, text)

    def test_a_time_without_a_zone_is_refused(self) -> None:
        """A naive datetime could mean anything, and is not sent."""
        self.assertRaises(ValueError, format_time, datetime(2026, 1, 1))  # noqa: DTZ001
        not_a_time: Any = "2026-01-01T00:00:00Z"
        self.assertRaises(TypeError, format_time, not_a_time)
        self.assertRaises(ValueError, format_time, datetime.min.replace(tzinfo=timezone(timedelta(hours=1))))

    @given(times, st.integers(-23, 23))
    def test_round_trip(self, moment: datetime, hours: int) -> None:
        """A time in any zone is the same moment after it was written and read."""
        local = moment.astimezone(timezone(timedelta(hours=hours)))
        self.assertEqual(parse_time(format_time(local)), moment)
