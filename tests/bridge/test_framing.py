"""Framing: where one line ends and the next begins."""

from __future__ import annotations

import struct
from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.framing import Framer, FramingSettings, MarkedFrame

STREAM_FRAMINGS = ["newline", "crlf", "nul", "netstring", "int16", "int32", "octet-counted", "delimiter:0d0a2e", "delimiter:6161", "idle"]


def described(frame: bytes) -> tuple[bytes, bool, int]:
    """A frame with what is told about it, comparable."""
    if isinstance(frame, MarkedFrame):
        return bytes(frame), frame.partial, frame.original_length
    return frame, False, 0


class Outcome:
    """What a framer made of pieces of bytes."""

    def __init__(self, how: FramingSettings, pieces: list[bytes], end: bool = True) -> None:
        self.counts: Counter[str] = Counter()
        self.framer: Framer = how.make(lambda what, amount: self.counts.update({what: amount}))
        frames: list[bytes] = []
        self.most_pending_bytes = 0
        for piece in pieces:
            frames += self.framer.feed(piece)
        if end:
            frames += self.framer.flush()
        self.frames = [described(frame) for frame in frames]
        self.fault = self.framer.fault

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Outcome)
        return (self.frames, self.counts, self.fault) == (other.frames, other.counts, other.fault)

    def __repr__(self) -> str:
        return f"<{self.frames} {dict(self.counts)} {self.fault}>"


def plain(*frames: bytes) -> list[tuple[bytes, bool, int]]:
    return [(frame, False, 0) for frame in frames]


def framed(framing: str, frames: list[bytes]) -> bytes:
    """The bytes that a peer sends for frames."""
    if framing == "netstring":
        return b"".join(b"%d:%b," % (len(frame), frame) for frame in frames)
    if framing == "octet-counted":
        return b"".join(b"%d %b" % (len(frame), frame) for frame in frames)
    if framing in ("int16", "int32"):
        return b"".join(struct.pack("!H" if framing == "int16" else "!I", len(frame)) + frame for frame in frames)
    ends = {"newline": b"\n", "crlf": b"\r\n", "nul": b"\0", "delimiter:0d0a2e": b"\r\n."}
    return b"".join(frame + ends[framing] for frame in frames)


def split(data: bytes, places: list[int]) -> list[bytes]:
    cuts = sorted({place % (len(data) + 1) for place in places})
    edges = [0, *cuts, len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


# Bytes in which delimiters, digits and lengths are frequent.
peer_bytes = st.lists(
    st.sampled_from([b"\n", b"\r", b"\r\n", b"\0", b"a", b"aa", b"xyz", b".", b"3:abc,", b"2 hi", b"\0\2ab", b"\0\0\0\1z"])
    | st.sampled_from([b"0", b"12", b":", b","])
    | st.binary(max_size=4),
    max_size=30,
).map(b"".join)

any_settings = st.builds(
    FramingSettings,
    framing=st.sampled_from(STREAM_FRAMINGS),
    max_length=st.integers(1, 12),
    on_too_long=st.sampled_from(["close", "truncate", "drop"]),
    on_partial=st.sampled_from(["emit", "drop", None]),
    skip_empty=st.booleans(),
)


class EverySplitTests(SynchronousTestCase):
    """Frames do not depend on how the network cut the bytes."""

    @settings(max_examples=600, deadline=None)
    @given(any_settings, peer_bytes, st.lists(st.integers(0, 500), max_size=8))
    def test_random_splits(self, how: FramingSettings, data: bytes, places: list[int]) -> None:
        """Whatever a peer sends, in one piece or in many: the same frames, counts and fault."""
        self.assertEqual(Outcome(how, split(data, places)), Outcome(how, [data]))

    @settings(max_examples=300, deadline=None)
    @given(any_settings, peer_bytes)
    def test_single_bytes(self, how: FramingSettings, data: bytes) -> None:
        """Whatever a peer sends, byte by byte: the same frames, counts and fault."""
        self.assertEqual(Outcome(how, [data[i : i + 1] for i in range(len(data))]), Outcome(how, [data]))

    @settings(max_examples=300, deadline=None)
    @given(
        st.sampled_from(["newline", "crlf", "nul", "netstring", "int16", "int32", "octet-counted", "delimiter:0d0a2e"]),
        st.lists(st.binary(min_size=1, max_size=40).map(lambda raw: raw.translate(None, b"\r\n\0.")).filter(bool), max_size=20),
        st.lists(st.integers(0, 1000), max_size=6),
    )
    def test_round_trip(self, framing: str, frames: list[bytes], places: list[int]) -> None:
        """What a peer framed by the rules comes out as it went in."""
        outcome = Outcome(FramingSettings(framing=framing, max_length=40), split(framed(framing, frames), places))
        self.assertEqual(outcome.frames, plain(*frames))
        self.assertIsNone(outcome.fault)
        self.assertEqual(outcome.counts, Counter())

    @settings(max_examples=300, deadline=None)
    @given(any_settings, peer_bytes, st.lists(st.integers(0, 500), max_size=8))
    def test_bounded(self, how: FramingSettings, data: bytes, places: list[int]) -> None:
        """No frame is longer than the bound, and no more than a frame with its frame marks is kept."""
        framer = how.make()
        for piece in split(data, places):
            for frame in framer.feed(piece):
                self.assertLessEqual(len(frame), how.max_length)
            kept = sum(len(value) for name, value in vars(framer).items() if name in ("_buffer", "_head"))
            self.assertLessEqual(kept, 2 * (how.max_length + 12))


class LinearTests(SynchronousTestCase):
    """A peer cannot make us work more than in proportion to what it sends."""

    def feed_bytewise(self, framing: str, data: bytes, frame: bytes) -> None:
        framer = FramingSettings(framing=framing, max_length=1 << 20).make()
        frames: list[bytes] = []
        # Quadratic work would take hours here.
        for index in range(len(data)):
            frames += framer.feed(data[index : index + 1])
        self.assertEqual(len(frames), 1)
        self.assertEqual(frames[0], frame)

    def test_newline(self) -> None:
        """A line of 1 MiB, byte by byte."""
        frame = b"x" * (1 << 20)
        self.feed_bytewise("newline", frame + b"\n", frame)

    def test_delimiter(self) -> None:
        """A line of 1 MiB made of almost-delimiters, byte by byte."""
        frame = b"aab" * 300_000
        self.feed_bytewise("delimiter:616161", frame + b"aaa", frame)

    def test_netstring(self) -> None:
        """A netstring of 1 MiB, byte by byte."""
        frame = b"x" * (1 << 20)
        self.feed_bytewise("netstring", b"%d:%b," % (len(frame), frame), frame)

    def test_int32(self) -> None:
        """A packet of 1 MiB, byte by byte."""
        frame = b"x" * (1 << 20)
        self.feed_bytewise("int32", struct.pack("!I", len(frame)) + frame, frame)

    def test_too_long_is_not_kept(self) -> None:
        """Of 64 MiB without a delimiter the allowed length is kept."""
        framer = FramingSettings(framing="newline", max_length=100, on_too_long="truncate").make()
        for _ in range(1024):
            self.assertEqual(framer.feed(b"y" * 65536), [])
        self.assertEqual(framer.pending, 64 << 20)
        (frame,) = framer.feed(b"\n")
        self.assertEqual(described(frame), (b"y" * 100, False, 64 << 20))


class NewlineTests(SynchronousTestCase):
    """Lines."""

    def outcome(self, *pieces: bytes, end: bool = True, **how: object) -> Outcome:
        return Outcome(FramingSettings(framing="newline", **how), list(pieces), end)

    def test_lines(self) -> None:
        """Lines end with a line feed; a carriage return before it is not part of the line, one elsewhere is."""
        outcome = self.outcome(b"one\ntwo\r\n\nthree\r\r\nfo\rur\n")
        self.assertEqual(outcome.frames, plain(b"one", b"two", b"", b"three\r", b"fo\rur"))

    def test_partial(self) -> None:
        """A last line without its end is given, marked, and counted."""
        outcome = self.outcome(b"whole\nhal", b"f")
        self.assertEqual(outcome.frames, [(b"whole", False, 0), (b"half", True, 0)])
        self.assertEqual(outcome.counts, {"partial": 1})

    def test_partial_dropped(self) -> None:
        """With ``on_partial = "drop"`` it is only counted."""
        outcome = self.outcome(b"whole\nhalf", on_partial="drop")
        self.assertEqual(outcome.frames, plain(b"whole"))
        self.assertEqual(outcome.counts, {"partial-dropped": 1})

    def test_skip_empty(self) -> None:
        """Empty lines are counted and not given, where that is wanted."""
        outcome = self.outcome(b"\n\r\na\n\nb\n", skip_empty=True)
        self.assertEqual(outcome.frames, plain(b"a", b"b"))
        self.assertEqual(outcome.counts, {"empty": 3})

    def test_exactly_as_long_as_allowed(self) -> None:
        """The longest allowed line passes, with either line end, in one piece or cut before the line end."""
        for pieces in ([b"12345\n"], [b"12345\r\n"], [b"12345", b"\n"], [b"12345", b"\r", b"\n"], [b"12345\r", b"\n"]):
            outcome = self.outcome(*pieces, max_length=5)
            self.assertEqual(outcome.frames, plain(b"12345"), pieces)
            self.assertIsNone(outcome.fault)

    def test_too_long_closes(self) -> None:
        """A line that is too long ends it: what came before it is given, nothing after it."""
        outcome = self.outcome(b"ok\n123456\nnever\n", b"never\n", max_length=5)
        self.assertEqual(outcome.frames, plain(b"ok"))
        assert outcome.fault is not None
        self.assertEqual(outcome.fault.reason, "too-long")
        self.assertIn("5 bytes", outcome.fault.detail)
        self.assertEqual(outcome.counts, {"too-long": 1})

    def test_too_long_closes_without_a_line_end(self) -> None:
        """A peer that never ends its line is left as soon as it is too long."""
        outcome = self.outcome(b"1234567", end=False, max_length=5)
        assert outcome.fault is not None
        self.assertEqual(outcome.framer.pending, 0)

    def test_truncate(self) -> None:
        """The first bytes are given with the line's real length, and the next line is whole."""
        outcome = self.outcome(b"123456789\r\nnext\n", max_length=5, on_too_long="truncate")
        self.assertEqual(outcome.frames, [(b"12345", False, 9), (b"next", False, 0)])
        self.assertEqual(outcome.counts, {"too-long": 1, "truncated": 1})

    def test_drop(self) -> None:
        """The line is left out, and the next line is whole."""
        outcome = self.outcome(b"a\n123", b"456789", b"000\nnext\n", max_length=5, on_too_long="drop")
        self.assertEqual(outcome.frames, plain(b"a", b"next"))
        self.assertEqual(outcome.counts, {"too-long": 1})

    def test_truncated_and_partial(self) -> None:
        """A line that is both too long and without its end is marked as both."""
        outcome = self.outcome(b"123456", b"789", max_length=5, on_too_long="truncate")
        self.assertEqual(outcome.frames, [(b"12345", True, 9)])

    def test_flush_in_the_middle(self) -> None:
        """After silence, what came is given, marked; the rest is a frame of its own."""
        framer = FramingSettings(framing="newline").make()
        self.assertEqual(framer.feed(b"12.5 k"), [])
        self.assertEqual([described(frame) for frame in framer.flush()], [(b"12.5 k", True, 0)])
        self.assertEqual(framer.flush(), [])
        self.assertEqual(framer.feed(b"g\n"), [b"g"])


class LengthTests(SynchronousTestCase):
    """Frames that say their length first."""

    def outcome(self, framing: str, *pieces: bytes, **how: object) -> Outcome:
        return Outcome(FramingSettings(framing=framing, **how), list(pieces))

    def test_bad_netstrings(self) -> None:
        """What is no netstring ends it, with what was right before it given."""
        for bad in (b"abc", b":abc,", b"3;abc,", b"03:abc,", b"3:abc;", b"-1:a,", b" 3:abc,", b"12345678901:", b"\n3:abc,"):
            outcome = self.outcome("netstring", b"2:ok," + bad + b"2:no,")
            self.assertEqual(outcome.frames, plain(b"ok"), bad)
            assert outcome.fault is not None, bad
            self.assertEqual(outcome.fault.reason, "bad-framing")

    def test_a_fault_names_the_rule_and_not_the_input(self) -> None:
        """The text for the log holds nothing of what the peer sent."""
        outcome = self.outcome("netstring", b"secret")
        assert outcome.fault is not None
        self.assertIn("decimal length", outcome.fault.detail)
        self.assertNotIn("secret", outcome.fault.detail)

    def test_empty_frames(self) -> None:
        """Empty frames are legal, except for octet counting, whose lengths start at 1."""
        self.assertEqual(self.outcome("netstring", b"0:,").frames, plain(b""))
        self.assertEqual(self.outcome("int16", b"\0\0\0\1a").frames, plain(b"", b"a"))
        self.assertIsNotNone(self.outcome("octet-counted", b"0 ").fault)

    def test_octet_counted(self) -> None:
        """Frames may hold line feeds, as in RFC 6587."""
        self.assertEqual(self.outcome("octet-counted", b"5 a\nb\nc3 xyz").frames, plain(b"a\nb\nc", b"xyz"))

    def test_too_long_closes_at_the_length(self) -> None:
        """A length that is too much ends it before any of the payload has come."""
        outcome = self.outcome("int32", b"\xff\xff\xff\xff")
        assert outcome.fault is not None
        self.assertEqual(outcome.fault.reason, "too-long")

    def test_truncate(self) -> None:
        """The first bytes are given with the announced length, and the next frame is whole."""
        cases = {"netstring": b"9:123456789,2:ok,", "int16": b"\0\x09123456789\0\2ok", "octet-counted": b"9 1234567892 ok"}
        for framing, data in cases.items():
            outcome = self.outcome(framing, data, max_length=5, on_too_long="truncate")
            self.assertEqual(outcome.frames, [(b"12345", False, 9), (b"ok", False, 0)], framing)

    def test_drop(self) -> None:
        """The frame is left out, and its end is still checked."""
        self.assertEqual(self.outcome("netstring", b"9:123456789,2:ok,", max_length=5, on_too_long="drop").frames, plain(b"ok"))
        outcome = self.outcome("netstring", b"9:123456789;2:ok,", max_length=5, on_too_long="drop")
        assert outcome.fault is not None
        self.assertEqual(outcome.fault.reason, "bad-framing")

    def test_partial_is_dropped_by_default(self) -> None:
        """A frame whose end never comes is dropped and counted: its reader would take it for a whole one."""
        for framing, data in (("netstring", b"5:abc"), ("int32", b"\0\0\0\5abc"), ("int32", b"\0\0"), ("octet-counted", b"5 abc")):
            outcome = self.outcome(framing, data)
            self.assertEqual((outcome.frames, dict(outcome.counts)), ([], {"partial-dropped": 1}), framing)

    def test_partial_on_demand(self) -> None:
        """With ``on_partial = "emit"`` its payload is given, marked."""
        self.assertEqual(self.outcome("netstring", b"5:abc", on_partial="emit").frames, [(b"abc", True, 0)])
        self.assertEqual(self.outcome("netstring", b"3:abc", on_partial="emit").frames, [(b"abc", True, 0)])
        self.assertEqual(self.outcome("int16", b"\0\5ab", on_partial="emit").frames, [(b"ab", True, 0)])

    def test_flush_starts_anew(self) -> None:
        """After silence in the middle of a frame, the next bytes are the start of a frame."""
        framer = FramingSettings(framing="int16").make()
        framer.feed(b"\0\5ab")
        self.assertEqual(framer.flush(), [])
        self.assertEqual(framer.feed(b"\0\2ok"), [b"ok"])


class OtherFramingTests(SynchronousTestCase):
    """Datagrams, silence, and names."""

    def test_datagram(self) -> None:
        """Each piece is a frame, whatever it holds; one that is too long is cut and marked."""
        outcome = Outcome(FramingSettings(framing="datagram", max_length=5, on_too_long="truncate"), [b"a\nb\n", b"1234567"])
        self.assertEqual(outcome.frames, [(b"a\nb\n", False, 0), (b"12345", False, 7)])

    def test_idle(self) -> None:
        """Frames end by silence alone, and are whole then."""
        framer = FramingSettings(framing="idle", max_length=10).make()
        self.assertEqual(framer.feed(b"12"), [])
        self.assertEqual(framer.feed(b"34\n"), [])
        self.assertEqual(framer.pending, 5)
        self.assertEqual([described(frame) for frame in framer.flush()], plain(b"1234\n"))
        self.assertEqual(framer.flush(), [])

    def test_idle_too_long(self) -> None:
        """What is too long is cut, with its real length."""
        framer = FramingSettings(framing="idle", max_length=3, on_too_long="truncate").make()
        framer.feed(b"12")
        framer.feed(b"3456")
        self.assertEqual([described(frame) for frame in framer.flush()], [(b"123", False, 6)])

    def test_names(self) -> None:
        """A framing that does not exist is refused with what is allowed."""
        for bad in ("lines", "delimiter:", "delimiter:0", "delimiter:zz", "delimiter:" + "00" * 17, "", "NEWLINE"):
            error = self.assertRaises(ValueError, FramingSettings, framing=bad)
            self.assertIn(repr(bad), str(error))
            self.assertIn("octet-counted", str(error))

    def test_bad_settings(self) -> None:
        """Other values that break a rule are refused by name."""
        self.assertIn("max_length", str(self.assertRaises(ValueError, FramingSettings, max_length=0)))
        self.assertIn("on_too_long", str(self.assertRaises(ValueError, FramingSettings, on_too_long="explode")))
        self.assertIn("on_partial", str(self.assertRaises(ValueError, FramingSettings, on_partial="maybe")))
