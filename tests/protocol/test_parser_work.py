"""What parsing costs: calls, copies and memory, counted and not timed."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.protocol.parser import MAX_INFO_LINE, MAX_LINE, MAX_MESSAGE, Parsed
from pynats_twisted.protocol.twin import Parser

from .test_parser import EMPTY_BLOCK
from .wire import hmsg, msg, pieces


def many_messages(size: int) -> bytes:
    frame = msg(b"some.subject", 7, b"0123456789abcdef")
    return frame * (size // len(frame))


def one_message(size: int) -> bytes:
    return msg(b"some.subject", 7, b"p" * size)


def one_message_with_headers(size: int) -> bytes:
    return hmsg(b"some.subject", 7, EMPTY_BLOCK, b"p" * size)


def long_info(size: int) -> bytes:
    return b"INFO " + b"i" * size + b"\r\n"


STREAMS = (many_messages, one_message, one_message_with_headers, long_info)


def big_parser() -> Parser:
    return Parser(max_line=1 << 30, max_info_line=1 << 30)


def calls(data: bytes, size: int) -> int:
    """How many functions, Python's own included, are called to parse the data in pieces."""
    parser, out, count = big_parser(), [], 0  # type: ignore[var-annotated]

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    parts = list(pieces(data, size))
    feed = parser.feed
    sys.setprofile(watch)
    try:
        for part in parts:
            feed(part, out)
    finally:
        sys.setprofile(None)
    return count


def allocated(data: bytes, size: int) -> int:
    """How many bytes, at least, are newly taken from memory while the data is parsed in pieces: the copies of it."""
    parser, out, total = big_parser(), [], 0  # type: ignore[var-annotated]
    parts = list(pieces(data, size))
    tracemalloc.start()
    try:
        for part in parts:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            parser.feed(part, out)
            out.clear()
            total += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return total


class SeenBuffer(bytearray):
    """A buffer that counts how many of its bytes are read again."""

    seen = 0
    added = 0

    def __iadd__(self, other: Any) -> Any:
        self.added += len(other)
        return super().__iadd__(other)

    def __getitem__(self, index: Any) -> Any:
        result = super().__getitem__(index)
        self.seen += len(result) if isinstance(index, slice) else 1
        return result

    def __bytes__(self) -> bytes:
        self.seen += len(self)
        return bytes(memoryview(self))


def _counted(name: str) -> Any:
    def method(self: SeenBuffer, *arguments: Any) -> Any:
        self.seen += len(self)
        return getattr(bytearray, name)(self, *arguments)

    return method


for _name in ("find", "index", "split", "partition", "endswith", "__contains__", "splitlines", "count", "rfind", "strip"):
    setattr(SeenBuffer, _name, _counted(_name))


class WorkTests(SynchronousTestCase):
    """Twice the input costs twice the work, counted in calls and in bytes, not in time."""

    def assert_grows_with_input(self, measure: Callable[[bytes, int], int], size: int, piece: int) -> None:
        for stream in STREAMS:
            small, large = measure(stream(size), piece), measure(stream(2 * size), piece)
            self.assertLess(large, 2.3 * small + 5000, f"{stream.__name__} in pieces of {piece}: {small}, then {large}")

    def test_calls(self) -> None:
        """The number of calls doubles at most, in pieces of 1 byte, 7 bytes and 64 KiB."""
        for size, piece in ((8192, 1), (32_000, 7), (512 * 1024, 64 * 1024)):
            self.assert_grows_with_input(calls, size, piece)

    def test_a_byte_costs_a_bounded_number_of_calls(self) -> None:
        """A feed of one byte that completes nothing makes a handful of calls."""
        for stream in STREAMS[1:]:
            self.assertLess(calls(stream(10_000), 1), 12 * 10_000)

    def test_copies(self) -> None:
        """The bytes that are copied double at most, in pieces of 1 byte, 7 bytes and 64 KiB."""
        for size, piece in ((8192, 1), (32_000, 7), (1024 * 1024, 64 * 1024)):
            self.assert_grows_with_input(allocated, size, piece)

    def test_a_byte_is_copied_a_bounded_number_of_times(self) -> None:
        """Parsing a message of 1 MiB, in whatever pieces, takes memory for a few times its size in all."""
        size = 1024 * 1024
        for stream in STREAMS[1:]:
            for piece in (700, 1024, 4096, 64 * 1024, 2 * size):
                self.assertLess(allocated(stream(size), piece), 4.5 * size, (stream.__name__, piece))

    def test_an_unfinished_line_is_not_read_again(self) -> None:
        """What came of a line is not searched again when more of it comes: its bytes are looked at a bounded number of times."""
        for stream in (long_info, many_messages):
            for piece in (1, 7, 1000):
                data = stream(20_000)
                parser = big_parser()
                parser._line = line = SeenBuffer()
                out: list[Parsed] = []
                for part in pieces(data, piece):
                    parser.feed(part, out)
                self.assertIs(parser._line, line)
                self.assertGreater(line.added, 2000)
                self.assertLess(line.seen, 4 * len(data) + 100)


class MemoryTests(SynchronousTestCase):
    """What a peer can make the client hold is bounded by what it sent and by the bounds."""

    def peak(self, parts: Iterable[bytes], parser: Parser) -> tuple[int, int, BaseException | None]:
        """The most memory that parsing took, what is left of it, and the error. What was fed is counted where it is kept."""
        problem = None
        out: list[Parsed] = []
        tracemalloc.start()
        try:
            for part in parts:
                try:
                    parser.feed(part, out)
                except errors.ProtocolError as error:
                    problem = error.with_traceback(None)
                    break
            del part
            current, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        return peak, current, problem

    def test_endless_line(self) -> None:
        """A line that never ends costs no more than its bound, and nothing after its error."""
        for begin, bound in ((b"x", MAX_LINE), (b"MSG ", MAX_LINE), (b"INFO ", MAX_INFO_LINE)):
            parts = (begin + b"y" * 997 if not number else b"y" * 997 for number in range(10_000))
            peak, left, problem = self.peak(parts, Parser())
            self.assertIsInstance(problem, errors.LineTooLongError)
            self.assertLess(peak, 2.5 * bound + 20_000)
            self.assertLess(left, 20_000)

    def test_announced_bytes_are_not_reserved(self) -> None:
        """A message that announces 64 MiB takes memory for what came of it alone."""
        parts = [b"MSG a 1 %d\r\n" % MAX_MESSAGE, *(bytes(997) for _ in range(100))]
        peak, _, problem = self.peak(parts, Parser())
        self.assertIsNone(problem)
        self.assertLess(peak, 300_000)

    def test_payload_byte_by_byte(self) -> None:
        """A payload that comes in single bytes takes about its own size, not a list of a million things."""
        size = 256 * 1024
        data = one_message(size)
        single = [bytes((code,)) for code in range(256)]
        peak, _, problem = self.peak((single[code] for code in data), Parser())
        self.assertIsNone(problem)
        self.assertLess(peak, 2.3 * size)

    def test_a_dead_parser_lets_go(self) -> None:
        """After an error the bytes of an unfinished message are not kept."""
        parts = [b"MSG a 1 300000\r\n", bytes(150_000), bytes(150_000), b"xx"]
        _, left, problem = self.peak(parts, Parser())
        self.assertIsInstance(problem, errors.MissingTerminatorError)
        del parts
        self.assertLess(left, 20_000)

    def test_what_is_remembered_is_bounded(self) -> None:
        """Endlessly many different subjects, ids and sizes are not all remembered."""
        parser = Parser()
        tracemalloc.start()
        try:
            for number in range(30_000):
                parser.feed(msg(b"subject.%d" % number, 10_000 + number, b"x" * (number % 3)), [])
            current, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(current, 2_000_000)
