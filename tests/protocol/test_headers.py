"""Headers: a mapping with several values for a name, written strictly and read with patience."""

from __future__ import annotations

import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import InvalidHeaderError
from pynats_twisted.protocol.headers import MAX_HEADERS, Headers, parse_headers
from pynats_twisted.protocol.twin import Msg

#: Header blocks as they may arrive: the block, its headers, its status, the status text, and whether something is odd about it.
BLOCKS: list[tuple[bytes, list[tuple[str, str]], int | None, str, bool]] = [
    (b"NATS/1.0\r\n\r\n", [], None, "", False),
    (b"NATS/1.0\r\nA: 1\r\n\r\n", [("A", "1")], None, "", False),
    (b"NATS/1.0\r\nA: 1\r\nA: 2\r\na: 3\r\nA: 5\r\n\r\n", [("A", "1"), ("A", "2"), ("A", "5"), ("a", "3")], None, "", False),
    (b"NATS/1.0\r\na:\r\nb:b\r\nc: \r\n\r\n", [("a", ""), ("b", "b"), ("c", "")], None, "", False),
    (b"NATS/1.0\r\nA:  two  words \t\r\nB: x:y: z\r\n\r\n", [("A", "two  words"), ("B", "x:y: z")], None, "", False),
    # The status line, in every form that servers use.
    (b"NATS/1.0 503\r\n\r\n", [], 503, "", False),
    (b"NATS/1.0 404 No Messages\r\n\r\n", [], 404, "No Messages", False),
    (b"NATS/1.0  404   No Messages\r\n\r\n", [], 404, "No Messages", False),
    (b"NATS/1.0\t408 Request Timeout \r\n\r\n", [], 408, "Request Timeout", False),
    (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\n\r\n", [("Nats-Last-Consumer", "7")], 100, "Idle Heartbeat", False),
    (b"NATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n", [("Nats-Subject", "nobody")], 503, "", False),
    (b"NATS/1.0 \r\n\r\n", [], None, "", False),
    (b"NATS/1.0 409 \xff\r\n\r\n", [], 409, "\udcff", False),
    # Odd ones. What can be read of them is there.
    (b"NATS/1.0\r\n: b\r\nA: 1\r\n\r\n", [("A", "1")], None, "", True),
    (b"NATS/1.0\r\nno colon\r\nA: 1\r\n\r\n", [("A", "1")], None, "", True),
    (b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n", [("A", "\udcff\udcfe")], None, "", False),
    (b"NATS/1.0\r\nA: caf\xc3\xa9\r\n\r\n", [("A", "café")], None, "", False),
    (b"NATS/1.0\r\ncaf\xc3\xa9: 1\r\n\xff: 2\r\nA: 1\r\n\r\n", [("A", "1")], None, "", True),
    (b"NATS/1.0\r\nA: b\r\n  c: d\r\n\r\n", [("A", "b")], None, "", True),
    (b"NATS/1.0\r\nA : 1\r\nB: 2\r\n\r\n", [("B", "2")], None, "", True),
    (b"NATS/1.0\nA: 1\nB: 2\n\n", [("A", "1"), ("B", "2")], None, "", False),
    (b"NATS/1.0 503\n\n", [], 503, "", False),
    (b"NATS/1.0\r\nA: 1\r\n", [("A", "1")], None, "", True),
    (b"NATS/1.0\r\nA: 1", [("A", "1")], None, "", True),
    (b"NATS/1.0\r\nA: 1\rB: 2\r\n\r\n", [("A", "1\rB: 2")], None, "", False),
    (b"NATS/1.0\r\nA: \0\x0b\x1c\r\n\r\n", [("A", "\0\x0b\x1c")], None, "", False),
    (b"NATS/1.0", [], None, "", True),
    (b"NATS/1.0\r\n", [], None, "", True),
    (b"xxxxx", [], None, "", True),
    (b"xxxxx\r\nA: 1\r\n\r\n", [("A", "1")], None, "", True),
    (b"NATS/2.0\r\nA: 1\r\n\r\n", [("A", "1")], None, "", True),
    (b"nats/1.0\r\n\r\n", [], None, "", True),
    (b"\r\n\r\n", [], None, "", True),
    (b"\0", [], None, "", True),
    (b"NATS/1.0 4\r\n\r\n", [], None, "", True),
    (b"NATS/1.0 12\r\n\r\n", [], None, "", True),
    (b"NATS/1.0 1234\r\n\r\n", [], None, "", True),
    (b"NATS/1.0 abc\r\n\r\n", [], None, "", True),
    (b"NATS/1.0 -12\r\n\r\n", [], None, "", True),
    (b"NATS/1.0503\r\n\r\n", [], None, "", True),
    (b"NATS/1.0 5 \xb2\r\n\r\n", [], None, "", True),
]  # fmt: skip

names = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=20)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=30).map(lambda value: value.strip(" \t"))

REFUSED_NAMES: list[Any] = [
    "",
    " ",
    "A B",
    "A:",
    ":",
    "A\r",
    "A\n",
    "A\r\nB",
    "\tA",
    "A\0",
    "é",
    "\x7f",
    "A\x80",
    "\ud800",
    None,
    5,
    b"A",
    ("A",),
]
REFUSED_VALUES: list[Any] = ["\r", "\n", "a\r\nB: c", "a\nb", "\0", "\udcff", "\ud800", None, 5, b"x", 1.5, ["x"]]


class ReadTests(SynchronousTestCase):
    """Whatever block another client wrote, reading it gives what can be read, and never an error."""

    def test_blocks(self) -> None:
        """Right and odd blocks alike give their headers, status and status text; the odd ones say what is odd."""
        for block, pairs, status, text, odd in BLOCKS:
            parsed = parse_headers(block)
            self.assertEqual(list(parsed.headers.multi_items()), pairs, block)
            self.assertEqual((parsed.status, parsed.status_text), (status, text), block)
            self.assertEqual(parsed.problem is not None, odd, (block, parsed.problem))
            self.assertNotEqual(parsed.problem, "", block)

    def test_message_offers_the_same(self) -> None:
        """A message gives headers, status and problem of its block, and reads it but once."""
        for block, pairs, status, text, odd in BLOCKS:
            msg = Msg("a", 1, "", b"hi", block)
            self.assertEqual((msg.status, msg.status_text, msg.headers_problem is not None), (status, text, odd))
            self.assertEqual(list(msg.headers.multi_items()), pairs)
            self.assertIs(msg.headers, msg.headers)
            self.assertEqual(msg.data, b"hi")

    def test_message_without_a_block(self) -> None:
        """A message without headers has an empty mapping and no status, and nothing is odd about it."""
        msg = Msg("a", 1, "", b"hi")
        self.assertEqual((len(msg.headers), msg.status, msg.status_text, msg.headers_problem), (0, None, "", None))

    def test_large_block(self) -> None:
        """A block of 40 KiB with 700 names is read whole."""
        pairs = [(f"Name-{number}", "v" * 50) for number in range(700)]
        parsed = parse_headers(Headers(pairs).encode())
        self.assertEqual((list(parsed.headers.multi_items()), parsed.problem), (pairs, None))

    def test_number_of_headers_is_bounded(self) -> None:
        """10,000 headers are read; of one more, the rest is left out and the block is called odd."""
        for end in (b"\r\n", b"\n"):
            lines = (b"A: 1" + end) * MAX_HEADERS
            full = parse_headers(b"NATS/1.0" + end + lines + end)
            self.assertEqual((len(full.headers.get_all("A")), full.problem), (MAX_HEADERS, None))
            more = parse_headers(b"NATS/1.0" + end + lines + b"B: 2" + end + b"C: 3" + end + end)
            self.assertEqual((len(more.headers.get_all("A")), "B" in more.headers), (MAX_HEADERS, False))
            self.assertIsNotNone(more.problem)

    def test_memory_of_a_hostile_block(self) -> None:
        """A block of line ends alone takes little more memory to read than it has bytes."""
        block = b"NATS/1.0\r\n" + b"\n" * 4_000_000
        tracemalloc.start()
        try:
            parse_headers(block)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 1.5 * len(block))

    @given(st.binary(max_size=120) | st.binary(max_size=120).map(lambda rest: b"NATS/1.0" + rest))
    @settings(max_examples=500)
    def test_garbage(self, block: bytes) -> None:
        """No bytes make reading fail, and what is read has only names that could be sent."""
        parsed = parse_headers(block)
        for name in parsed.headers:
            Headers({name: ""})
        self.assertTrue(parsed.status is None or 0 <= parsed.status <= 999)


class WriteTests(SynchronousTestCase):
    """What is written is what is read, and no value can add a line."""

    def test_wire_form(self) -> None:
        """A block has its version line, a line for each value, and an empty line."""
        headers = Headers({"A": "1", "b": ["x", ""]})
        self.assertEqual(headers.encode(), b"NATS/1.0\r\nA: 1\r\nb: x\r\nb: \r\n\r\n")

    def test_every_allowed_character_in_names(self) -> None:
        """A name may have each printable ASCII character but the colon."""
        for code in range(33, 127):
            if chr(code) != ":":
                parsed = parse_headers(Headers({chr(code): "v"}).encode())
                self.assertEqual((dict(parsed.headers), parsed.problem), ({chr(code): "v"}, None))

    def test_refused_names(self) -> None:
        """A name that is empty, or has a space, a colon, a control or a non-ASCII character, or is no str, is refused everywhere."""
        for name in REFUSED_NAMES:
            headers = Headers({"Kept": "1"})
            self.assertRaises(InvalidHeaderError, headers.add, name, "v")
            self.assertRaises(InvalidHeaderError, headers.__setitem__, name, "v")
            self.assertRaises(InvalidHeaderError, Headers, {name: "v"})
            self.assertRaises(InvalidHeaderError, Headers, {name: ["v"]})
            self.assertRaises(InvalidHeaderError, Headers, [(name, "v")])
            self.assertRaises(InvalidHeaderError, headers.update, {name: "v"})
            self.assertEqual(headers, {"Kept": "1"})

    def test_refused_values(self) -> None:
        """A value with CR, LF, NUL or a surrogate, or that is no str, is refused everywhere."""
        for value in REFUSED_VALUES:
            headers = Headers({"Kept": "1"})
            self.assertRaises(InvalidHeaderError, headers.add, "A", value)
            self.assertRaises(InvalidHeaderError, headers.__setitem__, "A", value)
            self.assertRaises(InvalidHeaderError, headers.setdefault, "A", value)
            self.assertRaises(InvalidHeaderError, Headers, {"A": ["1", value]})
            self.assertRaises(InvalidHeaderError, Headers, [("A", value)])
            self.assertEqual(headers, {"Kept": "1"})
        for value in (None, 5, b"x", "a\n"):
            self.assertRaises(InvalidHeaderError, Headers, {"A": value})

    def test_the_error_names_the_header(self) -> None:
        """The text says which header is wrong, and shows its value escaped."""
        error = self.assertRaises(InvalidHeaderError, Headers, {"X-Name": "a\r\nb"})
        self.assertIn("'X-Name'", str(error))
        self.assertIn(r"'a\r\nb'", str(error))

    def test_things_that_are_no_headers(self) -> None:
        """A text, bytes, a number or odd pairs in the place of headers are refused with the same named error."""
        for wrong in ("AB", b"AB", 5, ["AB"], [("A",)], [("A", "1", "2")], [None], object()):
            self.assertRaises(InvalidHeaderError, Headers, wrong)

    @given(st.lists(st.tuples(names, values), max_size=12))
    @settings(max_examples=300)
    def test_round_trip(self, pairs: list[tuple[str, str]]) -> None:
        """Names and values of every kind that is allowed come back as they were, in order, values of a name together."""
        headers = Headers(pairs)
        parsed = parse_headers(headers.encode())
        self.assertEqual(parsed.headers, headers)
        self.assertEqual(list(parsed.headers.multi_items()), list(headers.multi_items()))
        self.assertEqual(list(parsed.headers), list(dict.fromkeys(name for name, _ in pairs)))
        self.assertEqual((parsed.status, parsed.problem), (None, None))

    @given(
        st.lists(
            st.tuples(st.text(st.characters(), max_size=6), st.text(st.characters() | st.sampled_from("\r\n:\0 "), max_size=8)), max_size=4
        )
    )
    @settings(max_examples=300)
    def test_nothing_can_be_injected(self, pairs: list[tuple[str, str]]) -> None:
        """Any text as name and value is refused, or is written as exactly one line for each pair."""
        try:
            block = Headers(pairs).encode()
        except InvalidHeaderError:
            return
        lines = block.split(b"\r\n")
        self.assertEqual(len(lines), len(pairs) + 3)
        self.assertEqual((lines[0], lines[-2:]), (b"NATS/1.0", [b"", b""]))
        self.assertFalse(any(b"\r" in line or b"\n" in line for line in lines))

    def test_headers_of_a_message_can_be_sent_on(self) -> None:
        """What came with a message can be published again, and what must not be sent is refused with the named error."""
        msg = Msg("a", 1, "", b"", b"NATS/1.0 200\r\nA: 1\r\nA: 2\r\n\r\n")
        self.assertEqual(msg.headers.encode(), b"NATS/1.0\r\nA: 1\r\nA: 2\r\n\r\n")
        for raw in (b"1\rB: 2", b"\xff", b"\0"):
            poison = Msg("a", 1, "", b"", b"NATS/1.0\r\nA: " + raw + b"\r\n\r\n").headers
            for headers in (poison, poison.copy(), Headers(poison)):
                self.assertRaises(InvalidHeaderError, headers.encode)
            self.assertRaises(InvalidHeaderError, Headers, poison.multi_items())
            poison["A"] = "clean"
            self.assertEqual(poison.encode(), b"NATS/1.0\r\nA: clean\r\n\r\n")


class MappingTests(SynchronousTestCase):
    """Headers behave as a mapping from names to first values."""

    def setUp(self) -> None:
        self.headers = Headers([("A", "1"), ("b", "2"), ("A", "3"), ("a", "4")])

    def test_reading(self) -> None:
        """Indexing, iterating, length and membership go by exact names; the value is the first one."""
        headers = self.headers
        self.assertEqual((headers["A"], headers["a"], headers["b"]), ("1", "4", "2"))
        self.assertEqual((list(headers), len(headers)), (["A", "b", "a"], 3))
        self.assertEqual((list(headers.items()), list(headers.values())), ([("A", "1"), ("b", "2"), ("a", "4")], ["1", "2", "4"]))
        self.assertTrue("A" in headers and "B" not in headers)
        self.assertRaises(KeyError, headers.__getitem__, "B")
        self.assertEqual(dict(headers), {"A": "1", "b": "2", "a": "4"})
        self.assertTrue(headers and not Headers())

    def test_every_value(self) -> None:
        """All values of a name, and all pairs, are there in their order."""
        self.assertEqual((self.headers.get_all("A"), self.headers.get_all("x")), (["1", "3"], []))
        self.assertEqual(list(self.headers.multi_items()), [("A", "1"), ("A", "3"), ("b", "2"), ("a", "4")])

    def test_the_list_of_values_is_a_copy(self) -> None:
        """Changing what ``get_all`` gave does not change the headers."""
        self.headers.get_all("A").append("x\r\n")
        self.assertEqual(self.headers.get_all("A"), ["1", "3"])

    def test_get(self) -> None:
        """``get`` gives the first value or the default."""
        self.assertEqual((self.headers.get("A"), self.headers.get("B"), self.headers.get("B", "x")), ("1", None, "x"))

    def test_ignoring_case(self) -> None:
        """On request, a lookup takes all names that differ in upper and lower case alone; an exact name comes first."""
        headers = self.headers
        self.assertEqual((headers.get("B", ignore_case=True), headers.get("a", ignore_case=True)), ("2", "4"))
        self.assertEqual(headers.get_all("a", ignore_case=True), ["1", "3", "4"])
        self.assertEqual((headers.get("x", ignore_case=True), headers.get("x", "y", ignore_case=True)), (None, "y"))

    def test_changing(self) -> None:
        """Setting leaves one value, adding puts one behind, deleting takes all."""
        headers = self.headers
        headers["A"] = "new"
        headers.add("A", "more")
        del headers["b"]
        headers.setdefault("c", "5")
        headers.setdefault("A", "6")
        self.assertEqual(list(headers.multi_items()), [("A", "new"), ("A", "more"), ("a", "4"), ("c", "5")])
        self.assertRaises(KeyError, headers.__delitem__, "b")
        self.assertEqual((headers.pop("A"), headers.pop("A", None), headers.get_all("A")), ("new", None, []))
        headers.update({"d": "7"}, e="8")
        self.assertEqual(list(headers), ["a", "c", "d", "e"])
        headers.clear()
        self.assertEqual(len(headers), 0)

    def test_made_of_anything(self) -> None:
        """A mapping of values or lists, pairs, or other headers make the same headers."""
        made = [
            Headers({"A": ["1", "3"], "b": "2", "a": ("4",)}),
            Headers(iter([("A", "1"), ["A", "3"], ("b", "2"), ("a", "4")])),
            Headers(self.headers),
            self.headers.copy(),
        ]
        for headers in made:
            self.assertEqual(headers, self.headers)
        self.assertEqual(Headers(), Headers({}))
        self.assertEqual(len(Headers({"A": []})), 0)

    def test_copies_are_apart(self) -> None:
        """Changing a copy does not change its source."""
        copy = self.headers.copy()
        copy.add("A", "x")
        copy["b"] = "y"
        self.assertEqual((self.headers.get_all("A"), self.headers["b"]), (["1", "3"], "2"))

    def test_update_takes_all_values(self) -> None:
        """Updating replaces the values of the names that come, by all that they come with; a bad one changes nothing."""
        self.headers.update({"A": ["x", "y"], "new": "1"}, b="z")
        self.assertEqual(self.headers, {"A": ["x", "y"], "b": "z", "a": "4", "new": "1"})
        self.headers.update(Headers([("A", "p"), ("A", "q")]))
        self.assertEqual(self.headers.get_all("A"), ["p", "q"])
        with self.assertRaises(InvalidHeaderError):
            self.headers.update({"b": "fine", "A": "not\r\nfine"})
        self.assertEqual((self.headers["b"], self.headers["A"]), ("z", "p"))

    def test_equality(self) -> None:
        """Headers are equal to headers and mappings with the same names, values and order of values, and to nothing else."""
        self.assertEqual(Headers({"A": "1"}), {"A": "1"})
        self.assertEqual(Headers({"A": ["1", "2"]}), {"A": ["1", "2"]})
        for other in ({"A": "2"}, {"A": ["1", "2"]}, {"a": "1"}, {"A": "1", "B": "2"}, {"A": b"1"}, {}, None, "A", 5):
            self.assertFalse(Headers({"A": "1"}) == other, other)

    def test_not_hashable(self) -> None:
        """Headers can change, and so cannot be keys."""
        self.assertRaises(TypeError, hash, self.headers)

    def test_repr(self) -> None:
        """The repr shows every pair."""
        self.assertEqual(repr(Headers({"A": ["1", "2"]})), "Headers([('A', '1'), ('A', '2')])")
