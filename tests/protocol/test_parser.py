"""The parser: every legal line, every illegal one, in every split, and within its bounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.protocol.parser import MAX_INFO_LINE, MAX_LINE, MAX_MESSAGE, Parsed
from pynats_twisted.protocol.twin import Parser

from .wire import Described, a_msg, cut, described, frames, hmsg, msg, pieces

HI = a_msg(b"a", 1, b"hi")
REPLIED = a_msg(b"a", 1, b"hi", b"r")
EMPTY_BLOCK = b"NATS/1.0\r\n\r\n"

# What a server may write, and what it means.
LEGAL: list[tuple[bytes, list[Described]]] = [
    *((line, [("PING", b"")]) for line in (b"PING\r\n", b"ping\r\n", b"PiNg\n", b"PING   \r\n", b"PINGxyz\r\n", b"PING \r  \n")),
    *((line, [("PONG", b"")]) for line in (b"PONG\r\n", b"pong\r\n", b"PoNg\n", b"PONG   \r\n", b"PONGxyz\r\n", b"PONG \r  \n")),
    *((line, [("+OK", b"")]) for line in (b"+OK\r\n", b"+ok\n", b"+OKay\r\n")),
    (b"-ERR 'x'\r\n", [("-ERR", b"'x'")]),
    (b"-err\t'x'\r\n", [("-ERR", b"'x'")]),
    (b"-ERR x\r\n", [("-ERR", b"x")]),
    (b"-ERR   'a' \r\n", [("-ERR", b"'a'")]),
    (b"-ERR x\n", [("-ERR", b"x")]),
    (b"-ERR \r\n", [("-ERR", b"")]),
    (b"-ERR\r\n", [("-ERR", b"")]),
    (b"INFO {}\r\n", [("INFO", b"{}")]),
    (b"info\t{}\n", [("INFO", b"{}")]),
    (b"INFO  {} \r\n", [("INFO", b"{}")]),
    (b"MSG a 1 2\r\nhi\r\n", [HI]),
    (b"msg a 1 2\r\nhi\r\n", [HI]),
    (b"MSG\ta\t1\t2\r\nhi\r\n", [HI]),
    (b"MSG a\t1 2\r\nhi\r\n", [HI]),
    (b"MSG a 1\t2\r\nhi\r\n", [HI]),
    (b"MSG   a  1    2\r\nhi\r\n", [HI]),
    (b"MSG \t a \t1 \t2\r\nhi\r\n", [HI]),
    (b"MSG a 1 2  \r\nhi\r\n", [HI]),
    (b"MSG a 1 2\t\r\nhi\r\n", [HI]),
    (b"MSG a 1 2\nhi\r\n", [HI]),
    (b"MSG a 1 r 2\r\nhi\r\n", [REPLIED]),
    (b"MSG a 1 \t 2\r\nhi\r\n", [HI]),
    (b"MSG a 1  2\r\nhi\r\n", [HI]),
    (b"MSG a 1 r\t 2\r\nhi\r\n", [REPLIED]),
    (b"MSG a 1 r\t2\r\nhi\r\n", [REPLIED]),
    (b"MSG a 1\tr 2\r\nhi\r\n", [REPLIED]),
    (b"mSg\ta  1\tr 2 \nhi\r\n", [REPLIED]),
    (b"MSG a 1 0\r\n\r\n", [a_msg(b"a", 1)]),
    (b"MSG a 1 r 0\r\n\r\n", [a_msg(b"a", 1, b"", b"r")]),
    (b"MSG a 1 2\r\n\r\n\r\n", [a_msg(b"a", 1, b"\r\n")]),
    (b"MSG a 1 6\r\nPING\r\n\r\n", [a_msg(b"a", 1, b"PING\r\n")]),
    (b"MSG a 1 3\r\n\0\n\r\r\n", [a_msg(b"a", 1, b"\0\n\r")]),
    (b"MSG a 01 002\r\nhi\r\n", [HI]),
    (b"MSG a 9223372036854775807 2\r\nhi\r\n", [a_msg(b"a", 9223372036854775807, b"hi")]),
    (b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", [a_msg(b"a", 1, b"hi", b"", EMPTY_BLOCK)]),
    (b"HMSG a 1 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", [a_msg(b"a", 1, b"hi", b"r", EMPTY_BLOCK)]),
    (b"hmsg\ta  1\tr  12 14 \nNATS/1.0\r\n\r\nhi\r\n", [a_msg(b"a", 1, b"hi", b"r", EMPTY_BLOCK)]),
    (b"HMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\n", [a_msg(b"a", 1, b"", b"", EMPTY_BLOCK)]),
    (b"HMSG a 1 0 2\r\nhi\r\n", [HI]),
    (b"HMSG a 1 0 0\r\n\r\n", [a_msg(b"a", 1)]),
    # The length counts, not what a header block looks like.
    (b"HMSG a 1 5 7\r\nxxxxxhi\r\n", [a_msg(b"a", 1, b"hi", b"", b"xxxxx")]),
    # A server relays every byte in a subject or a reply that does not end an argument.
    *((msg(subject, 1, b"hi"), [a_msg(subject, 1, b"hi")]) for subject in (b"caf\xc3\xa9", b"\xff\xfe", b"a\rb", b"a\0b", b"*", b"foo.>")),
    *((msg(b"a", 1, b"hi", reply), [a_msg(b"a", 1, b"hi", reply)]) for reply in (b"\x80", b"r\rs", b"\x0b\x0c", b"\x1c\x1d\x1e", b"7")),
    *((msg(bytes((code,)), 1, b"hi"), [a_msg(bytes((code,)), 1, b"hi")]) for code in range(256) if code not in b" \t\n"),
    *((msg(b"a", 1, b"hi", bytes((code,))), [a_msg(b"a", 1, b"hi", bytes((code,)))]) for code in range(256) if code not in b" \t\n"),
    # An argument may be longer than the server's own limit of a line: it adds to what the publisher sent.
    (msg(b"s" * 4090, 12345, b"hi", b"r" * 4090), [a_msg(b"s" * 4090, 12345, b"hi", b"r" * 4090)]),
]  # fmt: skip

# Every status line that servers write, as header blocks.
STATUS_BLOCKS = [
    b"NATS/1.0 " + rest + b"\r\n\r\n"
    for rest in (
        b"503", b"404 No Messages", b" 404   No Messages", b"100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\nNats-Last-Stream: 2",
        b"100 FlowControl Request", b"204", b"204 EOB", b"400", b"408 Request Timeout", b"409 Batch Completed", b"409 Consumer Deleted",
        b"409 Leadership Change", b"409 Message Size Exceeds MaxBytes", b"409 Server Shutdown", b"412 Required Api Level", b"413",
        b"423 Nats-Wrong-Pin-Id", b"429", b"500 Internal", b"503\r\nNats-Subject: nobody",
    )
]  # fmt: skip

UNKNOWN, MALFORMED, UNTERMINATED = errors.UnknownOperationError, errors.MalformedLineError, errors.MissingTerminatorError

# What a server never writes, and the error that says so. Each ends where the error is certain.
ILLEGAL: list[tuple[bytes, type[errors.ProtocolError]]] = [
    *(
        (line + b"\r\n", UNKNOWN)
        for line in (
            b" PING", b"\r\nPING", b"", b"\n", b"\0", b"POO", b"Px", b"PIx", b"PINx", b"POx", b"PONx", b"ZOO", b"P", b"PI", b"PIN", b"Mx",
            b"MSx", b"MSGx", b"MSGa 1 2", b"HMSGx", b"HMSGa 1 0 2", b"HM", b"HPUB a 12 12", b"SUB a 1", b"PUB a 2", b"UNSUB 1",
            b"CONNECT {}",
            b"OK", b"+x", b"+Ox", b"+", b"-x", b"-Ex", b"-ERx", b"-", b"IxNFO", b"I", b"HTTP/1.1 400 Bad Request", b"\x16\x03\x01",
            b"SSH-2.0-OpenSSH", b"\xef\xbc\xb0ING", b"\xff",
        )
    ),
    *(
        (line + b"\r\n", MALFORMED)
        for line in (
            b"MSG", b"MSG ", b"MSG\t", b"MSG  foo", b"MSG a", b"MSG a 1", b"MSG foo bar 1", b"MSG a x 2", b"MSG a -1 2", b"MSG a +1 2",
            b"MSG a 1 -2", b"MSG a 1 +2", b"MSG a 1 2x", b"MSG a 1 0x2", b"MSG a 1 1_0", b"MSG a 1 2.0", b"MSG a 1 \xb2",
            b"MSG a 1 \xd9\xa2",
            b"MSG a 1 r x 2", b"MSG a 1 r 2 3", b"MSG a 1 r\ts 2",
            b"MSG  1 2", b"MSG a 1 2\r", b"MSG a 1\r 2", b"MSG a 1 9223372036854775808",
            b"MSG a 9223372036854775808 2", b"MSG a 1 18446744073709551618", b"MSG a 1 00000000000000000002", b"MSG a 1 " + b"9" * 5000,
            b"HMSG", b"HMSG ", b"HMSG a 1 2", b"HMSG a 1 12", b"HMSG a 1 13 12", b"HMSG a 1 -1 2", b"HMSG a 1 +1 2", b"HMSG a 1 1 -2",
            b"HMSG a 1 r x 12 14", b"HMSG a x 12 14", b"HMSG a 1 r 12 14 16", b"HMSG a 1 9223372036854775808 9223372036854775808",
            b"-ERRx", b"INFO", b"INFO{}", b"INFOx {}", b"INFO\r",
        )
    ),
    *(
        (frame, UNTERMINATED)
        for frame in (
            b"MSG a 1 2\r\nhi\n\n", b"MSG a 1 2\r\nhi\nPING\r\n", b"MSG a 1 2\r\nhixx", b"MSG a 1 2\r\nhi\rx", b"MSG a 1 2\r\nhix\n",
            b"MSG a 1 2\r\nhi!\r\n", b"MSG a 1 0\r\nhi", b"MSG a 1 2\r\n\r\n\0\0", b"MSG a 1 3\r\nhi\r\nPING\r\n",
            b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\n\n", b"HMSG a 1 0 2\r\nhi\n\n", b"msg a 1 2\r\nhi\n\n",
        )
    ),
    (b"MSG a 1 %d\r\n" % (MAX_MESSAGE + 1), errors.MessageTooLargeError),
    (b"MSG a 1 r 9223372036854775807\r\n", errors.MessageTooLargeError),
    (b"HMSG a 1 12 %d\r\n" % (MAX_MESSAGE + 1), errors.MessageTooLargeError),
    (b"HMSG a 1 %d %d\r\n" % (MAX_MESSAGE + 1, MAX_MESSAGE + 1), errors.MessageTooLargeError),
]  # fmt: skip

REFERENCE = b"".join(
    [
        b"PING\r\n",
        b"MSG a.b 1 5\r\nhello\r\n",
        b"msg\ta.b  1 \t_INBOX.x 0 \n\r\n",
        b"+OK\r\n",
        b"HMSG c 22 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
        b"HMSG c 22 r 18 20\r\nNATS/1.0\r\nA: 1\r\n\r\n\r\n\r\n",
        b'INFO {"a":1} \r\n',
        b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n",
        b"MSG \xff\r. 333 6\r\nPING\r\n\r\n",
        b"PONG\r\n",
        b"MSG a.b 1 12\r\nMSG a 1 1\r\n\n\r\n",
    ]
)
REFERENCE_EVENTS: list[Described] = [
    ("PING", b""),
    a_msg(b"a.b", 1, b"hello"),
    a_msg(b"a.b", 1, b"", b"_INBOX.x"),
    ("+OK", b""),
    a_msg(b"c", 22, b"hi", b"", EMPTY_BLOCK),
    a_msg(b"c", 22, b"\r\n", b"r", b"NATS/1.0\r\nA: 1\r\n\r\n"),
    ("INFO", b'{"a":1}'),
    ("-ERR", b"'Permissions Violation for Publish to \"a\"'"),
    a_msg(b"\xff\r.", 333, b"PING\r\n"),
    ("PONG", b""),
    a_msg(b"a.b", 1, b"MSG a 1 1\r\n\n"),
]

Outcome = tuple[list[Described], "tuple[type[BaseException], str] | None"]


def parse(parts: Iterable[bytes], parser: Parser | None = None) -> Outcome:
    """Feed a new parser with parts: what it found, and the error that ended it."""
    parser = Parser() if parser is None else parser
    out: list[Parsed] = []
    try:
        for part in parts:
            parser.feed(part, out)
    except errors.ProtocolError as error:
        return [described(item) for item in out], (type(error), str(error))
    return [described(item) for item in out], None


class LegalTests(SynchronousTestCase):
    """What a server may write is understood."""

    def test_every_legal_form(self) -> None:
        """Each way of writing a line gives its event, alone and between neighbours, which are not lost."""
        for data, expected in LEGAL:
            self.assertEqual(parse([data]), (expected, None), data)
            between = [("PONG", b""), *expected, HI, *expected, ("PING", b"")]
            self.assertEqual(parse([b"PONG\r\n" + data + b"MSG a 1 2\r\nhi\r\n" + data + b"PING\r\n"]), (between, None), data)

    def test_every_legal_form_in_every_split(self) -> None:
        """Cut at any place, or fed byte by byte, a legal line means the same, and what follows it is not disturbed."""
        for data, expected in LEGAL:
            if len(data) > 1000:
                continue
            whole = data + b"PING\r\n"
            expected = [*expected, ("PING", b"")]
            for place in range(len(whole) + 1):
                self.assertEqual(parse([whole[:place], whole[place:]]), (expected, None), (data, place))
            self.assertEqual(parse(pieces(whole, 1)), (expected, None), data)

    def test_status_messages(self) -> None:
        """Messages with every status that servers use arrive with their header block as it was sent."""
        for block in STATUS_BLOCKS:
            for payload in (b"", b"xyz"):
                frame = hmsg(b"_INBOX.1", 3, block, payload)
                expected = [a_msg(b"_INBOX.1", 3, payload, b"", block)]
                self.assertEqual(parse([frame]), (expected, None))
                self.assertEqual(parse(pieces(frame, 1)), (expected, None))

    def test_empty_reads(self) -> None:
        """Reads of no bytes, at any place, change nothing."""
        parts = [part for piece in pieces(REFERENCE, 3) for part in (b"", piece, b"")]
        self.assertEqual(parse(parts), (REFERENCE_EVENTS, None))

    def test_repeated_subjects_and_sizes(self) -> None:
        """More different subjects, ids and sizes than the parser remembers are all read right, first and later."""
        for _ in range(2):
            frames = [(f"s{number}".encode(), number + 1, b"x" * (number % 7)) for number in range(9000)]
            data = b"".join(msg(subject, sid, payload) for subject, sid, payload in frames)
            parser = Parser()
            expected = [a_msg(subject, sid, payload) for subject, sid, payload in frames]
            self.assertEqual(parse([data], parser), (expected, None))
            self.assertEqual(parse([data], parser), (expected, None))

    def test_a_message_that_came_in_parts_is_bytes(self) -> None:
        """However a message was split, its payload and header block are immutable bytes."""
        data = hmsg(b"a", 1, EMPTY_BLOCK, b"p" * 5000) + msg(b"a", 1, b"q" * 5000)
        for size in (1, 1500, len(data)):
            out: list[Any] = []
            parser = Parser()
            for piece in pieces(data, size):
                parser.feed(piece, out)
            self.assertEqual([type(item.data) for item in out], [bytes, bytes])
            self.assertEqual(type(out[0].raw_headers), bytes)


class SplitTests(SynchronousTestCase):
    """The split of the input is without meaning."""

    def test_one_and_two_cuts_anywhere(self) -> None:
        """The reference stream, cut at every place and at every pair of places, gives the same events."""
        length = len(REFERENCE)
        for first in range(length + 1):
            self.assertEqual(parse([REFERENCE[:first], REFERENCE[first:]]), (REFERENCE_EVENTS, None), first)
            for second in range(first + 1, length, 3):
                parts = [REFERENCE[:first], REFERENCE[first:second], REFERENCE[second:]]
                self.assertEqual(parse(parts), (REFERENCE_EVENTS, None), (first, second))

    def test_pieces_of_every_size(self) -> None:
        """The reference stream in pieces of one byte, of two, and so on up to all of it, gives the same events."""
        for size in range(1, len(REFERENCE) + 1):
            self.assertEqual(parse(pieces(REFERENCE, size)), (REFERENCE_EVENTS, None), size)

    def test_payload_around_the_bound_of_small_pieces(self) -> None:
        """A payload whose pieces are just under and over the size from which they are kept apart arrives whole."""
        payload = bytes(range(256)) * 40
        data = hmsg(b"a", 1, EMPTY_BLOCK, payload, b"r") + b"PING\r\n"
        expected = [a_msg(b"a", 1, payload, b"r", EMPTY_BLOCK), ("PING", b"")]
        for size in (1, 7, 1000, 1022, 1023, 1024, 1025, 1026, 2048, 5000):
            self.assertEqual(parse(pieces(data, size)), (expected, None), size)
            mixed = [part for piece in pieces(data, size + 1) for part in (piece[:1], piece[1:])]
            self.assertEqual(parse(mixed), (expected, None), size)

    @given(st.lists(frames, max_size=8), st.lists(st.integers(0, 10**6), max_size=30))
    @settings(max_examples=400)
    def test_generated_frames(self, made: list[tuple[bytes, Described]], places: list[int]) -> None:
        """Any legal frames in a row, cut anywhere, give exactly what they mean."""
        data = b"".join(frame for frame, _ in made)
        expected = [meaning for _, meaning in made]
        self.assertEqual(parse(cut(data, places)), (expected, None))
        self.assertEqual(parse(pieces(data, 1)), (expected, None))


class IllegalTests(SynchronousTestCase):
    """What is not NATS kills the connection, always with the same named error."""

    def test_every_illegal_form(self) -> None:
        """Each illegal line is its named error, and what came before it is delivered."""
        for data, error in ILLEGAL:
            found, problem = parse([b"PING\r\nMSG a 1 2\r\nhi\r\n" + data])
            self.assertEqual(found, [("PING", b""), HI], data)
            self.assertEqual(problem and problem[0], error, data)

    def test_every_illegal_form_in_every_split(self) -> None:
        """Cut at any place, or fed byte by byte, an illegal line is the same error with the same text."""
        for data, _ in ILLEGAL:
            whole = b"MSG a 1 2\r\nhi\r\n" + data
            expected = parse([whole])
            self.assertIsNotNone(expected[1])
            for place in range(min(len(whole), 200)):
                self.assertEqual(parse([whole[:place], whole[place:]]), expected, (data, place))
            self.assertEqual(parse(pieces(whole, 1)), expected, data)

    def test_only_lf_at_the_end_of_the_illegal_line(self) -> None:
        """A line that ends with LF alone is judged like one with CR LF."""
        for data, error in ILLEGAL:
            if error in (UNKNOWN, MALFORMED) and data.endswith(b"\r\n") and not data.endswith(b"\r\r\n"):
                self.assertEqual((parse([data[:-2] + b"\n"])[1] or [None])[0], error, data)

    def test_nothing_after_the_error(self) -> None:
        """After an error the parser is dead: every later feed raises the same error and finds nothing."""
        for data, _ in ILLEGAL:
            parser = Parser()
            out: list[Parsed] = []
            first = self.assertRaises(errors.ProtocolError, parser.feed, data + b"PING\r\n", out)
            for later in (b"PING\r\n", b"", b"MSG a 1 2\r\nhi\r\n", data):
                self.assertIs(self.assertRaises(errors.ProtocolError, parser.feed, later, out), first)
            self.assertEqual([described(item) for item in out if described(item) != HI], [])

    def test_a_dead_parser_keeps_nothing(self) -> None:
        """Feeding a dead parser on and on does not make its error grow."""
        parser = Parser()
        for _ in range(50):
            error = self.assertRaises(errors.ProtocolError, parser.feed, b"POO\r\n", [])
        depth, entry = 0, error.__traceback__
        while entry is not None:
            depth, entry = depth + 1, entry.tb_next
        self.assertLess(depth, 10)

    def test_the_error_shows_the_line_escaped_and_cut(self) -> None:
        """The text of an error has the first 64 bytes of the line, escaped: a peer cannot write to a terminal through it."""
        _, problem = parse([b"\x1b[2J\xff\0 " + b"x" * 300 + b"\r\n"])
        assert problem is not None
        self.assertIn("\\x1b[2J\\xff\\x00", problem[1])
        self.assertTrue(problem[1].isascii() or problem[1].endswith("…"))
        self.assertTrue(problem[1].isprintable())
        self.assertLess(len(problem[1]), 200)

    @given(
        st.lists(
            st.tuples(st.integers(0, 10**6), st.sampled_from(["put", "cut", "set"]), st.binary(min_size=1, max_size=3)),
            min_size=1,
            max_size=4,
        ),
        st.lists(st.integers(0, 10**6), max_size=20),
    )
    @settings(max_examples=1000)
    def test_mutated_stream(self, changes: list[tuple[int, str, bytes]], places: list[int]) -> None:
        """However a stream is damaged, only a ProtocolError comes out, the same in every split, and again at each later feed."""
        data = REFERENCE
        for place, change, new in changes:
            place %= len(data) + 1
            data = data[:place] + (b"" if change == "cut" else new) + data[place + (0 if change == "put" else len(new)) :]
        parts = cut(data, places)
        expected = parse([data])
        parser = Parser()
        self.assertEqual(parse(parts, parser), expected)
        self.assertEqual(parse(pieces(data, 1)), expected)
        if expected[1] is not None:
            self.assertEqual(parse([b"PING\r\n"], parser), ([], expected[1]))

    @given(
        st.lists(
            st.binary(max_size=40) | st.sampled_from([b"MSG ", b"HMSG a 1 ", b"INFO ", b"-ERR ", b" 1 2", b"\r\n", b"\n", b"\t"]),
            max_size=12,
        )
    )
    @settings(max_examples=500)
    def test_garbage(self, parts: list[bytes]) -> None:
        """Bytes without any order raise nothing but a ProtocolError, and mean the same in one piece."""
        self.assertEqual(parse(parts), parse([b"".join(parts)]))


class BoundTests(SynchronousTestCase):
    """Lines and messages have bounds; each is met exactly, in one piece and in many."""

    def feeds(self, data: bytes) -> list[Outcome]:
        # Also cut inside the end of the line, where its CR is there and its LF is not.
        line = data.find(b"\n")
        near_the_end = [parse([data[:place], data[place:]]) for place in (line - 1, line) if line > 0]
        return [parse([data]), parse(pieces(data, 64 * 1024)), parse(pieces(data, 1013)), *near_the_end]

    def test_info_line(self) -> None:
        """An INFO of 1 MiB is accepted; one byte more is too long, whether its end came or not."""
        self.assertEqual(MAX_INFO_LINE, 1024 * 1024)
        line = b"INFO " + b"x" * (MAX_INFO_LINE - 5)
        for end in (b"\r\n", b"\n"):
            for outcome in self.feeds(line + end):
                self.assertEqual(outcome, ([("INFO", line[5:])], None))
            for outcome in self.feeds(line + b"x" + end):
                self.assertEqual((outcome[0], (outcome[1] or [None])[0]), ([], errors.LineTooLongError))
        self.assertEqual((parse(pieces(line + b"xx", 4096))[1] or [None])[0], errors.LineTooLongError)
        self.assertEqual(parse(pieces(b"info" + line[4:] + b"\n", 4096))[1], None)

    def test_other_lines(self) -> None:
        """A line of any other kind may have 64 KiB; one byte more is too long, whether its end came or not."""
        self.assertEqual(MAX_LINE, 64 * 1024)
        tail = b"\r\nhi\r\n"
        lines = {
            b"MSG " + b"s" * (MAX_LINE - 8) + b" 1 2": tail,
            b"MSG " + b"s" * (MAX_LINE - 10) + b" 1 r 2": tail,
            b"msg\t" + b"s" * (MAX_LINE - 8) + b" 1 2": tail,
            b"HMSG " + b"s" * (MAX_LINE - 11) + b" 1 0 2": tail,
            b"-ERR '" + b"x" * (MAX_LINE - 7) + b"'": b"\r\n",
            b"PING" + b" " * (MAX_LINE - 4): b"\r\n",
            b"PONG" + b"x" * (MAX_LINE - 4): b"\r\n",
            b"+OK" + b"x" * (MAX_LINE - 3): b"\r\n",
        }
        for line, rest in lines.items():
            self.assertEqual(len(line), MAX_LINE)
            for outcome in [*self.feeds(line + rest), *self.feeds(line + rest.replace(b"\r\n", b"\n", 1))]:
                self.assertEqual((len(outcome[0]), outcome[1]), (1, None), line[:5])
            longer = line[:4] + b" " + line[4:] if line[:3] != b"+OK" else line + b" "
            for outcome in [*self.feeds(longer + rest), *self.feeds(longer + rest.replace(b"\r\n", b"\n", 1)), *self.feeds(longer + b"xx")]:
                self.assertEqual((outcome[0], (outcome[1] or [None])[0]), ([], errors.LineTooLongError), longer[:5])

    def test_too_long_is_the_same_in_every_split(self) -> None:
        """The error of a line that is too long has the same text however its bytes came."""
        for line in (b"x" * (MAX_LINE + 1), b"MSG " + b"y" * MAX_LINE, b"INFO " + b"z" * MAX_INFO_LINE):
            first, *others = self.feeds(line + b"\r\n")
            self.assertEqual(others, [first] * len(others))

    def test_message_is_judged_by_its_first_line(self) -> None:
        """A message of 64 MiB may begin; one that announces a byte more is an error before any byte of it came."""
        self.assertEqual(MAX_MESSAGE, 64 * 1024 * 1024)
        for line in (b"MSG a 1 %d\r\n", b"MSG a 1 r %d\n", b"HMSG a 1 0 %d\r\n", b"msg a 1 %d\r\n"):
            self.assertEqual(parse([line % MAX_MESSAGE, b"x" * 1000]), ([], None))
            found, problem = parse([line % (MAX_MESSAGE + 1)])
            self.assertEqual((found, (problem or [None])[0]), ([], errors.MessageTooLargeError))

    def test_bounds_are_options(self) -> None:
        """Each bound can be set, and is met exactly at its value and crossed by one more."""
        self.assertEqual(parse([b"PING 7890\r\n"], Parser(max_line=9))[1], None)
        self.assertEqual((parse([b"PING 78901\r\n"], Parser(max_line=9))[1] or [None])[0], errors.LineTooLongError)
        self.assertEqual(parse([b"INFO {  }\r\n"], Parser(max_info_line=9, max_line=4))[1], None)
        self.assertEqual((parse([b"INFO {   }\r\n"], Parser(max_info_line=9))[1] or [None])[0], errors.LineTooLongError)
        for frame in (b"MSG a 1 3\r\nabc\r\n", b"HMSG a 1 1 3\r\nabc\r\n"):
            self.assertEqual(len(parse([frame], Parser(max_message=3))[0]), 1)
            self.assertEqual((parse([frame], Parser(max_message=2))[1] or [None])[0], errors.MessageTooLargeError)

    def test_a_number_that_was_fine_as_an_id_is_no_size(self) -> None:
        """A number over the bound of messages is refused as a size although the parser has read it as an id before."""
        parser = Parser(max_message=10)
        found, problem = parse([b"MSG a 11 2\r\nhi\r\nMSG a 1 2\r\nhi\r\nMSG a 1 11\r\n"], parser)
        self.assertEqual(len(found), 2)
        self.assertEqual((problem or [None])[0], errors.MessageTooLargeError)


class PauseTests(SynchronousTestCase):
    """The parser can stop behind INFO, so that its user decides whether the rest may be read."""

    def test_what_follows_info_waits(self) -> None:
        """Nothing behind the INFO is read before ``resume``; then all of it is, in every split."""
        data = b"-ERR 'a'\r\nINFO {}\r\n" + REFERENCE
        for place in range(len(data) + 1):
            parser = Parser()
            parser.pause_after_info = True
            out: list[Parsed] = []
            for part in (data[:place], data[place:]):
                parser.feed(part, out)
            self.assertEqual([described(item) for item in out], [("-ERR", b"'a'"), ("INFO", b"{}")])
            self.assertEqual(parser.held, len(REFERENCE))
            parser.resume(out)
            self.assertEqual([described(item) for item in out[2:]], REFERENCE_EVENTS)
            self.assertEqual(parser.held, 0)

    def test_only_the_next_info_stops_it(self) -> None:
        """After ``resume``, later INFOs are read like any line."""
        parser = Parser()
        parser.pause_after_info = True
        out: list[Parsed] = []
        parser.feed(b"INFO {}\r\nINFO {}\r\n", out)
        parser.resume(out)
        parser.feed(b"INFO {}\r\nPING\r\n", out)
        self.assertEqual(len(out), 4)

    def test_an_error_in_what_waited(self) -> None:
        """An illegal line behind the INFO is found at ``resume``, and the parser is dead."""
        parser = Parser()
        parser.pause_after_info = True
        out: list[Parsed] = []
        parser.feed(b"INFO {}\r\nPOO\r\n", out)
        self.assertRaises(UNKNOWN, parser.resume, out)
        self.assertRaises(UNKNOWN, parser.feed, b"", out)
