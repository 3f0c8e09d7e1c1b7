"""Where syslog messages end in a stream of bytes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.framers import Framer, MarkedFrame
from pynats_twisted.bridge.syslog_framing import SyslogFraming


def made(**keys: Any) -> tuple[Framer, Counter[str]]:
    """A framer, and what it counts."""
    counts: Counter[str] = Counter()

    def count(what: str, amount: int) -> None:
        counts[what] += amount

    return SyslogFraming(**keys).make(count), counts


def frames(pieces: list[bytes], **keys: Any) -> tuple[list[tuple[bytes, bool, int]], Counter[str], bool]:
    """The frames in bytes that come in pieces, with their marks; what was counted; whether there was a fault."""
    framer, counts = made(**keys)
    found: list[bytes] = []
    for piece in pieces:
        found += framer.feed(piece)
    found += framer.flush()
    marked = [(bytes(frame), getattr(frame, "partial", False), getattr(frame, "original_length", 0)) for frame in found]
    return marked, counts, framer.fault is not None


def plain(data: bytes, **keys: Any) -> list[bytes]:
    """The frames in bytes that come at once."""
    return [frame for frame, _, _ in frames([data], **keys)[0]]


class AutoTests(SynchronousTestCase):
    """``framing = "auto"``."""

    def test_newline(self) -> None:
        """Lines, with whatever senders put behind them."""
        self.assertEqual(plain(b"<1>a\n<2>b\r\n<3>c\0\n\n\n<4>d\n"), [b"<1>a", b"<2>b", b"<3>c\0", b"<4>d"])

    def test_octets(self) -> None:
        """Counted messages may hold line feeds, and follow each other at once or not."""
        self.assertEqual(plain(b"4 <1>a6 <2>b\nc\n4 <3>d\r\n4 <4>e"), [b"<1>a", b"<2>b\nc", b"<3>d", b"<4>e"])

    def test_both_in_one_stream(self) -> None:
        """Each message is seen for itself."""
        self.assertEqual(plain(b"<1>a\n4 <2>b<3>c\n4 <4>d4 <5>e<6>f\n"), [b"<1>a", b"<2>b", b"<3>c", b"<4>d", b"<5>e", b"<6>f"])

    def test_a_length_in_pieces(self) -> None:
        """A length may come in pieces, however many digits it has."""
        message = b"<1>" + b"x" * 12342
        data = b"12345 " + message + b"<2>b\n"
        for at in range(1, 12):
            self.assertEqual([frame for frame, _, _ in frames([data[:at], data[at:]])[0]], [message, b"<2>b"], at)

    def test_lines_that_start_with_digits(self) -> None:
        """A line is not counted just because it starts with a number."""
        self.assertEqual(
            plain(b"2026-11-23 x\n12 monkeys\n007 <1>a\n99999999999 <1>b\n"),
            [b"2026-11-23 x", b"12 monkeys", b"007 <1>a", b"99999999999 <1>b"],
        )

    def test_partial(self) -> None:
        """A line whose end never came is given and marked; half a counted message is dropped."""
        self.assertEqual(frames([b"<1>a"])[0], [(b"<1>a", True, 0)])
        self.assertEqual(frames([b"12"])[0], [(b"12", True, 0)])
        found, counts, _ = frames([b"9 <1>a"])
        self.assertEqual((found, dict(counts)), ([], {"partial-dropped": 1}))

    def test_truncated(self) -> None:
        """Too long messages of both kinds are cut, marked and counted; what follows is whole."""
        for data in (b"<1>abcdefgh\n<2>b\n", b"11 <1>abcdefgh<2>b\n", b"11 <1>abcdefgh4 <2>b"):
            found, counts, fault = frames([data], max_length=5)
            self.assertEqual((found, counts["truncated"], fault), ([(b"<1>ab", False, 11), (b"<2>b", False, 0)], 1, False), data)

    def test_at_the_limit(self) -> None:
        """The longest allowed message is no too long one."""
        for data in (b"<1>ab\n", b"<1>ab\r\n", b"5 <1>ab"):
            self.assertEqual(frames([data], max_length=5)[0], [(b"<1>ab", False, 0)], data)

    def test_dropped(self) -> None:
        """With ``drop`` they are left out."""
        found, counts, _ = frames([b"<1>abcdefgh\n11 <1>abcdefgh<2>b\n"], max_length=5, on_too_long="drop")
        self.assertEqual((found, counts["too-long"]), ([(b"<2>b", False, 0)], 2))

    def test_closed(self) -> None:
        """With ``close`` the framer gives up, after what was good."""
        for data in (b"<2>b\n<1>abcdefgh\n<3>c\n", b"4 <2>b11 <1>abcdefgh<3>c\n"):
            framer, _ = made(max_length=5, on_too_long="close")
            self.assertEqual(framer.feed(data), [b"<2>b"])
            self.assertEqual((framer.fault is not None, framer.feed(b"<4>d\n"), framer.flush()), (True, [], []))

    def test_memory_is_bounded(self) -> None:
        """Whatever a peer sends, no more is kept than the longest message."""
        for start in (b"<1>", b"9999999999 <1>", b"1" * 20):
            framer, _ = made(max_length=100)
            framer.feed(start)
            for _ in range(1000):
                framer.feed(b"x" * 1000)
            kept: Any = framer
            self.assertLess(sum(len(each._buffer) + len(each._head) for each in (kept._lines, kept._counted)) + len(kept._start), 300)

    _message = st.one_of(
        st.binary(max_size=12).map(lambda data: b"<1>" + data.replace(b"\n", b"") + b"\n"),
        st.binary(max_size=12).map(lambda data: b"%d <1>" % (len(data) + 3) + data),
        st.sampled_from([b"\n", b"\r\n", b"\0", b"12", b"5 ", b"5", b" ", b"<", b"20 <1>short", b"10 monkeys\n"]),
    )

    @given(st.lists(_message, max_size=8), st.lists(st.integers(0, 120), max_size=12), st.sampled_from(["truncate", "drop", "close"]))
    def test_every_split(self, messages: list[bytes], cuts: list[int], policy: str) -> None:
        """The frames and counts are the same in whatever pieces the bytes come."""
        data = b"".join(messages)
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        pieces = [data[first:last] for first, last in pairwise(places)]
        whole = frames([data], max_length=10, on_too_long=policy)
        self.assertEqual(frames(pieces, max_length=10, on_too_long=policy), whole)
        self.assertEqual(frames([data[at : at + 1] for at in range(len(data))], max_length=10, on_too_long=policy), whole)

    def test_pending(self) -> None:
        """It is known whether a message is unfinished."""
        framer, _ = made()
        for data, pending in ((b"1", 1), (b"0", 2), (b" <1>", 6), (b"abcdefg", 0), (b"<1>", 3), (b"\n", 0)):
            framer.feed(data)
            self.assertEqual(framer.pending, pending, data)


class OtherTests(SynchronousTestCase):
    """The other framings."""

    def test_newline(self) -> None:
        """With ``newline`` a number is part of the line."""
        self.assertEqual(plain(b"4 <1>a\n\n<2>b\n", framing="newline"), [b"4 <1>a", b"<2>b"])

    def test_octet_counted(self) -> None:
        """With ``octet-counted`` a line is a fault."""
        found, _, fault = frames([b"4 <1>a<2>b\n"], framing="octet-counted")
        self.assertEqual((found, fault), ([(b"<1>a", False, 0)], True))

    def test_datagram(self) -> None:
        """A datagram is a message, cut where it is too long."""
        framer, counts = made(framing="datagram", max_length=4)
        (frame,) = framer.feed(b"<1>a\nb")
        assert isinstance(frame, MarkedFrame)
        self.assertEqual((frame, frame.original_length, counts["truncated"]), (b"<1>a", 6, 1))
