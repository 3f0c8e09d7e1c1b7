"""The encoder: one call is one command, with the fields that were passed, whatever was passed."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import (
    HeadersNotSupportedError,
    InvalidArgumentError,
    InvalidHeaderError,
    InvalidQueueError,
    InvalidSubjectError,
    InvalidSubscriptionError,
    MaxPayloadExceededError,
    NatsError,
)
from pynats_twisted.protocol.encoder import encode_connect, encode_subscribe, encode_unsubscribe
from pynats_twisted.protocol.headers import Headers
from pynats_twisted.protocol.subscriptions import SubscriptionTable
from pynats_twisted.protocol.twin import PublishEncoder

from .wire import Command, NotACommandError, pieces, read_commands

# Text of every kind, and of the kinds that could do harm.
hostile = st.one_of(
    st.from_regex(r"[a-z]{1,4}(\.[a-zA-Z0-9_$-]{1,4}){0,2}", fullmatch=True),
    st.text(st.sampled_from(" \t\r\n\0\x0b\x0c\x1c\x7f\x85\xa0\u2028\ufeff.*>:;$_aé0é\ud800"), max_size=6),
    st.text(st.characters(), max_size=6),
    st.sampled_from(["a 5", "a\r\nPUB b 0\r\n", "a\nSUB > 1", "a 1\r\n\r\nPING", "a\tb", "foo\r", "\r\n", "a  b", "é", "a b"]),
)
payloads = st.binary(max_size=20) | st.sampled_from([b"\r\nPUB x 0\r\n\r\n", b"\r\n", b"PING\r\n"])
# What has no business there at all.
things: Any = st.one_of(
    st.none(), st.integers(), st.binary(max_size=4), st.booleans(), st.lists(st.text(max_size=2), max_size=2), st.just({}), st.floats()
)

# Subjects that break a rule of publishing.
BAD_SUBJECTS: list[Any] = [
    "", " ", "a b", " a", "a ", "a\tb", "a\rb", "a\nb", "a\r\nPUB b 0\r\n", "a\r", "a\n", "\0", "a\x0bb", "a\x0cb", "a\x1fb", "a\x7f",
    "a\x85b",    "a\u2028b", "a\u2029b", "\ud800", "a\udcff", ".", "..", ".a", "a.", "a..b", "*", ">", "a.*", "a.>", "*.a", ">.a", "a.*.b",
    None, 5, b"a", bytearray(b"a"), ["a"], {"a": 1}, ("a",), 1.5, True,
]  # fmt: skip
GOOD_SUBJECTS = ["a", "a.b.c", "$JS.API.INFO", "_INBOX.x", "a*b", "a>b", "a.b>", "é.ü", "日本", "a:b/c;d", "\xa0", "x" * 4000]


def encode(encoder: PublishEncoder | None = None, *arguments: Any, **keywords: Any) -> bytes:
    """The bytes of one publish, checked to be as many as the encoder says."""
    out: list[bytes] = []
    size = (encoder or PublishEncoder()).encode(out, *arguments, **keywords)
    data = b"".join(out)
    assert size == len(data), (size, data)
    return data


class PublishTests(SynchronousTestCase):
    """PUB and HPUB."""

    def refuse(self, error: type[NatsError], *arguments: Any, encoder: PublishEncoder | None = None, **keywords: Any) -> str:
        """Check that a publish raises this error and leaves nothing behind that could be sent."""
        out: list[bytes] = []
        raised = self.assertRaises(error, (encoder or PublishEncoder()).encode, out, *arguments, **keywords)
        self.assertEqual(out, [])
        return str(raised)

    def test_wire_form(self) -> None:
        """Each form of a publish is the line that the protocol's documentation shows."""
        self.assertEqual(encode(None, "a.b"), b"PUB a.b 0\r\n\r\n")
        self.assertEqual(encode(None, "a.b", b"hi"), b"PUB a.b 2\r\nhi\r\n")
        self.assertEqual(encode(None, "a.b", b"hi", "r.s"), b"PUB a.b r.s 2\r\nhi\r\n")
        self.assertEqual(encode(None, "a", b"hi", headers={"A": "1"}), b"HPUB a 18 20\r\nNATS/1.0\r\nA: 1\r\n\r\nhi\r\n")
        self.assertEqual(encode(None, "a", b"hi", "r", {"A": ["1", "2"]}), b"HPUB a r 24 26\r\nNATS/1.0\r\nA: 1\r\nA: 2\r\n\r\nhi\r\n")
        self.assertEqual(encode(None, "é"), "PUB é 0\r\n\r\n".encode())

    def test_payloads_may_be_any_buffer(self) -> None:
        """bytes, bytearray and memoryview are payloads, and a buffer that is changed later does not change what is sent."""
        for payload in (b"hi", bytearray(b"hi"), memoryview(b"hi"), memoryview(bytearray(b"_hi_"))[1:3], memoryview(b"h_i_")[::2]):
            self.assertEqual(encode(None, "a", payload), b"PUB a 2\r\nhi\r\n")
        buffer = bytearray(b"hi")
        out: list[bytes] = []
        PublishEncoder().encode(out, "a", buffer)
        buffer[:] = b"xx"
        self.assertEqual(b"".join(out), b"PUB a 2\r\nhi\r\n")

    def test_size_of_a_wide_buffer_is_in_bytes(self) -> None:
        """A memoryview of larger items counts by its bytes."""
        self.assertEqual(encode(None, "a", memoryview(b"abcdefgh").cast("I")), b"PUB a 8\r\nabcdefgh\r\n")

    def test_other_payloads_are_refused(self) -> None:
        """A payload that is not bytes is an InvalidArgumentError that names its type."""
        for payload in ("text", None, 5, ["x"], {"a": 1}, 1.5):
            text = self.refuse(InvalidArgumentError, "a", payload)
            self.assertIn(type(payload).__name__, text)

    def test_bad_subjects_and_replies(self) -> None:
        """A subject or reply that breaks a rule is refused, also where the rest is fine, and also after good ones."""
        encoder = PublishEncoder()
        encode(encoder, "a", b"", "a")
        for subject in BAD_SUBJECTS:
            self.refuse(InvalidSubjectError, subject, b"hi", encoder=encoder)
            self.refuse(InvalidSubjectError, subject, b"hi", "r", {"A": "1"}, encoder=encoder)
            if subject not in ("", None):
                self.refuse(InvalidSubjectError, "a", b"hi", subject, encoder=encoder)
                self.refuse(InvalidSubjectError, "a", b"hi", subject, {"A": "1"}, encoder=encoder)

    def test_good_subjects(self) -> None:
        """Every other subject arrives as it is, as subject and as reply, the first time and when it is remembered."""
        encoder = PublishEncoder()
        for _ in range(2):
            for subject in GOOD_SUBJECTS:
                raw = subject.encode()
                self.assertEqual(read_commands(encode(encoder, subject, b"x", subject)), [Command("PUB", raw, raw, payload=b"x")])

    def test_more_subjects_than_are_remembered(self) -> None:
        """Endlessly many subjects are encoded right, and not all of them are remembered."""
        encoder = PublishEncoder()
        tracemalloc.start()
        try:
            for number in range(30_000):
                subject = f"\u00e9.{number}"
                encoded = encode(encoder, subject, b"", f"r.{number}")
                self.assertEqual(encoded, b"PUB %b r.%d 0\r\n\r\n" % (subject.encode(), number))
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(kept, 2_000_000)

    def test_no_headers_is_pub(self) -> None:
        """Nothing in the headers is a plain PUB, however the nothing is said."""
        nothing: list[Any] = [None, {}, [], (), Headers(), {"A": []}, iter([])]
        for headers in nothing:
            self.assertEqual(encode(None, "a", b"hi", headers=headers), b"PUB a 2\r\nhi\r\n")
            self.assertEqual(encode(None, "a", b"hi", "r", headers), b"PUB a r 2\r\nhi\r\n")

    def test_bad_headers(self) -> None:
        """Headers that cannot be sent are an InvalidHeaderError."""
        bad: list[Any] = [
            {"A": "1\r\nB: 2"},
            {"A\r\n": "1"},
            {"": "1"},
            {"A": b"1"},
            {"A": None},
            {"A B": "1"},
            "AB",
            5,
            [("A",)],
            [("A", "\n")],
        ]
        for headers in bad:
            self.refuse(InvalidHeaderError, "a", b"hi", None, headers)
            self.refuse(InvalidHeaderError, "a", b"hi", "r", headers)

    def test_max_payload_counts_headers_and_payload(self) -> None:
        """Exactly ``max_payload`` bytes are taken and one more is refused, where headers count like payload."""
        encoder = PublishEncoder()
        encoder.max_payload = 20
        block = Headers({"A": "1"})
        self.assertEqual(len(block.encode()), 18)
        for reply in (None, "r"):
            encode(encoder, "a", b"x" * 20, reply)
            encode(encoder, "a", b"xy", reply, block)
            for payload, headers in ((b"x" * 21, None), (b"xyz", block), (b"", Headers({"A": "1234"}))):
                text = self.refuse(MaxPayloadExceededError, "a", payload, reply, headers, encoder=encoder)
                self.assertIn("21", text)
                self.assertIn("20", text)

    def test_max_payload_may_be_unknown_or_change(self) -> None:
        """Before the server has said it there is no bound; a new bound counts at once, for known subjects too."""
        encoder = PublishEncoder()
        encode(encoder, "a", b"x" * 1000)
        encoder.max_payload = 10
        self.refuse(MaxPayloadExceededError, "a", b"x" * 11, encoder=encoder)
        encoder.max_payload = 0
        encode(encoder, "a", b"")
        self.refuse(MaxPayloadExceededError, "a", b"x", encoder=encoder)

    def test_error_has_size_and_limit(self) -> None:
        """The error of a message that is too large says both numbers as attributes."""
        encoder = PublishEncoder()
        encoder.max_payload = 3
        error = self.assertRaises(MaxPayloadExceededError, encoder.encode, [], "a", b"1234")
        self.assertEqual((error.size, error.limit), (4, 3))

    def test_headers_to_a_server_without(self) -> None:
        """A server that takes no headers gets none: publishing with them raises, without them it works."""
        encoder = PublishEncoder()
        encoder.headers_supported = False
        self.refuse(HeadersNotSupportedError, "a", b"hi", None, {"A": "1"}, encoder=encoder)
        self.assertEqual(encode(encoder, "a", b"hi", headers={}), b"PUB a 2\r\nhi\r\n")

    @given(hostile, payloads, st.none() | hostile, st.lists(st.tuples(hostile, hostile), max_size=3), st.booleans())
    @settings(max_examples=600)
    @example("a", b"", "b", [("X", "v")], True)
    def test_one_command_or_a_named_error(
        self, subject: str, payload: bytes, reply: str | None, headers: list[tuple[str, str]], learned: bool
    ) -> None:
        """Whatever texts are passed, they are refused by name, or a server reads exactly one command with those very fields."""
        encoder = PublishEncoder()
        if learned:
            encode(encoder, "a", b"", "b")
        out: list[bytes] = []
        try:
            encoder.encode(out, subject, payload, reply, headers)
        except (InvalidSubjectError, InvalidHeaderError):
            self.assertEqual(out, [])
            return
        data = b"".join(out)
        pairs = tuple((name.encode(), value.encode()) for name, value in Headers(headers).multi_items())
        expected = Command(
            "HPUB" if pairs else "PUB", subject.encode(), (reply or "").encode(), headers=pairs if pairs else None, payload=payload
        )
        self.assertEqual(read_commands(data), [expected])
        first_line = data.partition(b"\r\n")[0].decode()
        self.assertTrue(all(character >= " " and character not in "\x7f\x85\u2028\u2029" for character in first_line))

    @given(hostile | things, payloads | things, hostile | things, st.dictionaries(hostile, hostile | things, max_size=2) | things)
    @settings(max_examples=600)
    def test_things_of_the_wrong_type(self, subject: Any, payload: Any, reply: Any, headers: Any) -> None:
        """Things of any type in any place are refused with an error of ours, or one command comes out."""
        out: list[bytes] = []
        try:
            PublishEncoder().encode(out, subject, payload, reply, headers)
        except InvalidArgumentError:
            self.assertEqual(out, [])
            return
        (command,) = read_commands(b"".join(out))
        self.assertEqual((command.subject, command.payload), (subject.encode(), bytes(payload)))


class SubscribeTests(SynchronousTestCase):
    """SUB and UNSUB."""

    def test_wire_form(self) -> None:
        """SUB and UNSUB are the lines that the protocol's documentation shows."""
        self.assertEqual(encode_subscribe("a.*.>", "", 7), b"SUB a.*.> 7\r\n")
        self.assertEqual(encode_subscribe("a", "q", 7), b"SUB a q 7\r\n")
        self.assertEqual(encode_unsubscribe(7), b"UNSUB 7\r\n")
        self.assertEqual(encode_unsubscribe(7, 3), b"UNSUB 7 3\r\n")

    def test_bad_subjects(self) -> None:
        """What breaks a rule of subscribing is refused; wildcards in their places are not."""
        for subject in BAD_SUBJECTS:
            if subject in ("*", ">", "a.*", "a.>", "*.a", "a.*.b"):
                self.assertEqual(encode_subscribe(subject, "", 1), b"SUB %b 1\r\n" % subject.encode())
            else:
                self.assertRaises(InvalidSubjectError, encode_subscribe, subject, "", 1)

    def test_bad_queues(self) -> None:
        """A queue group with white space or controls, or that is no str, is refused."""
        for queue in (" ", "a b", "a\tb", "a\r\nPUB x 0\r\n\r\n", "\n", "\0", "a\x85", "\ud800", 5, b"q", ["q"]):
            self.assertRaises(InvalidQueueError, encode_subscribe, "a", queue, 1)

    def test_bad_sids_and_limits(self) -> None:
        """A subscription id or limit that is no usable integer is refused and nothing is kept."""
        for sid in (0, -1, 1 << 63, 1.0, "1", None, True, b"1", "1\r\nPING"):
            table = SubscriptionTable()
            self.assertRaises(InvalidSubscriptionError, table.add, "a", "", sid, None)
            self.assertEqual(table.records, {})
        table = SubscriptionTable()
        table.add("a", "", 1, None)
        for limit in (-1, 1.0, "1", None, False, 1 << 63, "1\r\nPING"):
            self.assertRaises(InvalidSubscriptionError, table.limit, 1, limit)
        self.assertEqual(table.records[1].limit, 0)

    @given(hostile | things, hostile | things, st.integers(-2, 1 << 64) | things)
    @settings(max_examples=600)
    def test_one_command_or_a_named_error(self, subject: Any, queue: Any, sid: Any) -> None:
        """Whatever is passed, it is refused by name, or a server reads exactly one SUB with those very fields."""
        try:
            data = encode_subscribe(subject, queue, sid)
        except (InvalidSubjectError, InvalidQueueError, InvalidSubscriptionError):
            return
        self.assertEqual(read_commands(data), [Command("SUB", subject.encode(), queue=queue.encode() if queue else b"", sid=sid)])


class ConnectTests(SynchronousTestCase):
    """CONNECT."""

    @given(st.dictionaries(st.text(st.characters(), max_size=5), st.text(st.characters(), max_size=20) | st.booleans() | st.integers()))
    def test_one_line(self, fields: dict[str, Any]) -> None:
        """Whatever texts the fields have, CONNECT is one line of ASCII with their JSON."""
        data = encode_connect(fields)
        (command,) = read_commands(data)
        self.assertEqual((command.name, json.loads(command.text)), ("CONNECT", fields))
        self.assertTrue(data.isascii())


class ReaderTests(SynchronousTestCase):
    """The reader of these tests itself is strict: it would notice an injected line or argument."""

    def test_injections_are_seen(self) -> None:
        """What a careless encoder would write is not one command with the fields that were passed."""
        self.assertEqual(len(read_commands(b"PUB s 0\r\n\r\nPUB z 1\r\nx\r\n")), 2)
        self.assertEqual(read_commands(b"PUB foo bar 0\r\n\r\n"), [Command("PUB", b"foo", b"bar")])
        for data in (
            b"PUB a b c 0\r\n\r\n",
            b"PUB a 5\r\n\r\n",
            b"PUB a 2\r\nhi",
            b"SUB a b c 1\r\n",
            b"PING",
            b"x\r\n",
            b"UNSUB a\r\n",
            b"PUB a +1\r\nx\r\n",
        ):
            self.assertRaises(NotACommandError, read_commands, data)
        for block in (
            b"NATS/1.0\r\nA: 1\nB: 2\r\n\r\n",
            b"NATS/1.0\r\nA: 1\r\n",
            b"A: 1\r\n\r\n",
            b"NATS/1.0\r\n: 1\r\n\r\n",
            b"NATS/1.0\r\nA: 1\r\r\n\r\n",
        ):
            self.assertRaises(NotACommandError, read_commands, b"HPUB a %d %d\r\n%b\r\n" % (len(block), len(block), block))

    def test_commands_in_a_row(self) -> None:
        """It reads what a client sends in a row."""
        data = b"".join(
            [
                encode_connect({"a": 1}),
                b"PING\r\n",
                encode_subscribe("a", "q", 1),
                encode(None, "a", b"\r\nPING\r\n"),
                encode_unsubscribe(1, 2),
            ]
        )
        self.assertEqual([command.name for command in read_commands(data)], ["CONNECT", "PING", "SUB", "PUB", "UNSUB"])
        self.assertEqual(b"".join(pieces(data, 3)), data)
