"""Syslog messages into their parts."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import to_builtins
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.syslog_messages import token
from pynats_twisted.bridge.syslog_parse import FACILITIES, SEVERITIES, UnreadableError, parse
from pynats_twisted.protocol.subjects import check_publish_subject


def parts(text: str | bytes, *, year: int = 2026, month: int = 6) -> dict[str, Any]:
    """The parts that a message has."""
    data = text if isinstance(text, bytes) else text.encode()
    made: dict[str, Any] = to_builtins(parse(data, year=year, month=month))
    return made


class Rfc5424Tests(SynchronousTestCase):
    """Messages of RFC 5424."""

    def test_no_structured_data(self) -> None:
        """The first example of the RFC; the byte order mark is no part of the text."""
        text = "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed for lonvick on /dev/pts/8"
        self.assertEqual(
            parts(text),
            {
                "format": "rfc5424",
                "facility": "auth",
                "severity": "crit",
                "timestamp": "2003-10-11T22:14:15.003Z",
                "hostname": "mymachine.example.com",
                "app": "su",
                "msgid": "ID47",
                "message": "'su root' failed for lonvick on /dev/pts/8",
            },
        )

    def test_structured_data(self) -> None:
        """Elements and parameters by their names, with what was escaped in them."""
        text = (
            '<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - [exampleSDID@32473 iut="3" eventSource="Application" '
            r'eventID="10\"1\\1\]\x"][examplePriority@32473 class="high"][empty] %% It is time.'
        )
        found = parts(text)
        self.assertEqual(
            found["structured_data"],
            {
                "exampleSDID@32473": {"iut": "3", "eventSource": "Application", "eventID": r'10"1\1]\x'},
                "examplePriority@32473": {"class": "high"},
                "empty": {},
            },
        )
        self.assertEqual(
            (found["procid"], found["message"], found["timestamp"]), ("8710", "%% It is time.", "2003-08-24T05:14:15.000003-07:00")
        )

    def test_a_parameter_twice(self) -> None:
        """A name that comes more than once has all of its values."""
        found = parts('<1>1 - - - - - [origin ip="192.0.2.1" ip="192.0.2.129" ip="::1"]')
        self.assertEqual(found["structured_data"], {"origin": {"ip": ["192.0.2.1", "192.0.2.129", "::1"]}})

    def test_nothing_but_a_header(self) -> None:
        """Everything may be missing."""
        self.assertEqual(parts("<0>1 - - - - - -"), {"format": "rfc5424", "facility": "kern", "severity": "emerg", "message": ""})

    def test_text_of_any_kind(self) -> None:
        """Line feeds stay, what ends the frame does not, and bytes that are not UTF-8 are marked."""
        self.assertEqual(parts("<13>1 - - - - - - a\nb\n\0")["message"], "a\nb")
        self.assertEqual(parts("<13>1 - - - - - - grüße")["message"], "grüße")
        self.assertEqual(parts(b"<13>1 - - - - - - a\xffb")["message"], "a\ufffdb")

    def test_broken(self) -> None:
        """What begins like RFC 5424 and breaks it is unreadable, not half read."""
        for text in (
            "<34>1 2003-10-11T22:14:15.003Z mymachine su - ID47",
            "<34>1 2003-13-11T22:14:15.003Z mymachine su - ID47 - x",
            "<34>1 2003-10-11T24:14:15.003Z mymachine su - ID47 - x",
            '<34>1 - mymachine su - ID47 [a b="c] x',
            '<34>1 - mymachine su - ID47 [a b="c"]x',
            "<34>1 - mymachine su - ID47 [] x",
            "<34>2 - mymachine su - ID47 - x",
        ):
            error = self.assertRaises(UnreadableError, parts, text)
            self.assertEqual(str(error), "it begins like RFC 5424, and is not", text)


class Rfc3164Tests(SynchronousTestCase):
    """Messages of RFC 3164, and what is sent in its name."""

    def test_examples(self) -> None:
        """Date, host, tag and process are found, where they are."""
        base = {"format": "rfc3164", "facility": "auth", "severity": "crit"}
        stamp = {"timestamp": "2026-10-11T22:14:15"}
        text = "'su root' failed"
        for rest, expected in (
            (f"Oct 11 22:14:15 mymachine su: {text}", {**stamp, "hostname": "mymachine", "app": "su"}),
            (f"Oct 11 22:14:15 mymachine su[12]: {text}", {**stamp, "hostname": "mymachine", "app": "su", "procid": "12"}),
            (f"Oct 11 22:14:15 10.0.0.99 {text}", {**stamp, "hostname": "10.0.0.99"}),
            (f"Oct 11 22:14:15 fe80::1 su: {text}", {**stamp, "hostname": "fe80::1", "app": "su"}),
            (f"Oct 11 22:14:15 su: {text}", {**stamp, "app": "su"}),
            (f"Oct 11 22:14:15 su[12]: {text}", {**stamp, "app": "su", "procid": "12"}),
            (f"Oct  1 22:14:15 mymachine su: {text}", {"timestamp": "2026-10-01T22:14:15", "hostname": "mymachine", "app": "su"}),
            (f"Oct 11 2003 22:14:15 mymachine su: {text}", {"timestamp": "2003-10-11T22:14:15", "hostname": "mymachine", "app": "su"}),
            (f"Oct 11 22:14:15 2003: %SYS-5-CONFIG: {text}", {"timestamp": "2003-10-11T22:14:15", "app": "%SYS-5-CONFIG"}),
            (f"29: *Oct 11 22:14:15.123: %SYS-5-CONFIG: {text}", {**stamp, "app": "%SYS-5-CONFIG"}),
            (
                f"2003-10-11T22:14:15.003+02:00 mymachine su: {text}",
                {"timestamp": "2003-10-11T22:14:15.003+02:00", "hostname": "mymachine", "app": "su"},
            ),
            (f"su[12]: {text}", {"app": "su", "procid": "12"}),
            (text, {}),
        ):
            self.assertEqual(parts(f"<34>{rest}"), {**base, **expected, "message": text}, rest)

    def test_year(self) -> None:
        """The year that a message does not say is that of the nearest such month."""
        self.assertEqual(parts("<13>Dec 31 23:59:59 h a: x", year=2027, month=1)["timestamp"], "2026-12-31T23:59:59")
        self.assertEqual(parts("<13>Jan  1 00:00:01 h a: x", year=2026, month=12)["timestamp"], "2027-01-01T00:00:01")
        self.assertEqual(parts("<13>May 31 23:59:59 h a: x", year=2026, month=6)["timestamp"], "2026-05-31T23:59:59")

    def test_almost_anything(self) -> None:
        """With a priority, anything is a message."""
        for rest in ("", " ", "1 foo", "1", "Oct 41 22:14:15 x", "Oct 11 22:14:15", "\u00e9t\u00e9: x", "://", "[1]: x"):
            self.assertEqual(parts(f"<13>{rest}")["message"], rest, rest)

    def test_every_priority(self) -> None:
        """Facility and severity are named for each number."""
        for number in range(192):
            found = parts(f"<{number}>x")
            self.assertEqual((found["facility"], found["severity"]), (FACILITIES[number // 8], SEVERITIES[number % 8]))

    def test_no_priority(self) -> None:
        """Without a valid priority it is no syslog message."""
        for text in ("", "hello", "<>x", "<192>x", "<1000>1 - - - - - -", "< 13>x", "<-1>x", " <13>x", "<\uff11\uff13>x"):
            self.assertRaises(UnreadableError, parts, text)


class HostileTests(SynchronousTestCase):
    """Whatever comes."""

    @given(st.binary(max_size=300), st.sampled_from([b"", b"<13>", b"<13>1 ", b'<13>1 - - - - - [a b="', b"<13>Oct 11 22:14:15 "]))
    @example(b"\xed\xa0\x80", b"<13>1 - ")
    def test_any_bytes(self, data: bytes, start: bytes) -> None:
        """Any bytes are a message or are unreadable, and the reason holds nothing of them."""
        try:
            found = parts(start + data)
        except UnreadableError as error:
            self.assertTrue(str(error).isascii())
        else:
            self.assertIn(found["severity"], SEVERITIES)

    @given(st.text(max_size=300))
    def test_tokens(self, text: str) -> None:
        """Whatever a message says becomes one token of a subject."""
        made = token(text)
        check_publish_subject(f"a.{made}.b")
        self.assertEqual(f"a.{made}.b".count("."), 2)
        self.assertLessEqual(len(made), 128)

    def test_time_is_proportional_to_the_bytes(self) -> None:
        """No message takes more than its share of time, whatever the patterns have to go back over."""
        for text in (
            "<13>1 - - - - - " + '[a b="c"' * 8000,
            "<13>1 - - - - - " + '[a b="\\"' * 8000,
            "<13>1 - - - - - [a" + ' b="c"' * 10000,
            '<13>1 - - - - - [a b="' + "\\" * 60000,
            "<13>1 - - - - - " + "[a]" * 20000 + "x",
            "<13>Oct 11 22:14:15 " + "a" * 65000,
            "<13>Oct 11 22:14:15 " + " " * 65000,
            "<13>Oct 11 22:14:15 a" + " " * 65000,
            "<13>" + "a[" * 32000,
            "<13>" + "1" * 65000,
        ):
            began = time.process_time()
            with contextlib.suppress(UnreadableError):
                parts(text)
            self.assertLess(time.process_time() - began, 1.0, text[:40])
