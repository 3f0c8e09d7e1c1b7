"""What a publish asks for becomes headers, and wrong values become errors that say what is wrong."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import InvalidHeaderError, JetStreamConfigError
from pynats_twisted.jetstream.expectations import publish_headers
from pynats_twisted.protocol.headers import Headers


class HeaderTests(SynchronousTestCase):
    """publish_headers()."""

    def test_nothing(self) -> None:
        """A publish that asks for nothing has no headers."""
        self.assertIsNone(publish_headers(None))
        self.assertIsNone(publish_headers({}))

    def test_everything(self) -> None:
        """Each parameter has its header, and the caller's own stay before them."""
        made = publish_headers(
            {"A": ["1", "2"]},
            msg_id="id 1",
            expected_stream="orders",
            expected_last_seq=0,
            expected_last_subject_seq=2**64 - 1,
            expected_last_subject_seq_subject="orders.*.>",
            expected_last_msg_id="id 0",
            ttl=60,
            rollup="sub",
        )
        assert made is not None
        self.assertEqual(
            list(made.multi_items()),
            [
                ("A", "1"),
                ("A", "2"),
                ("Nats-Msg-Id", "id 1"),
                ("Nats-Expected-Stream", "orders"),
                ("Nats-Expected-Last-Sequence", "0"),
                ("Nats-Expected-Last-Subject-Sequence", "18446744073709551615"),
                ("Nats-Expected-Last-Subject-Sequence-Subject", "orders.*.>"),
                ("Nats-Expected-Last-Msg-Id", "id 0"),
                ("Nats-TTL", "60"),
                ("Nats-Rollup", "sub"),
            ],
        )

    def test_callers_headers_are_left_alone(self) -> None:
        """What the caller passed is as it was, and can be changed without changing what was made."""
        mine = Headers({"A": "1"})
        made = publish_headers(mine, msg_id="x")
        again = publish_headers(mine)
        mine["A"] = "2"
        self.assertEqual(list(mine.multi_items()), [("A", "2")])
        assert made is not None and again is not None
        self.assertEqual((made["A"], again["A"]), ("1", "1"))
        plain = {"A": "1"}
        publish_headers(plain, msg_id="x")
        self.assertEqual(plain, {"A": "1"})

    def test_ttl(self) -> None:
        """A TTL is whole seconds, rounded up so that nothing goes too early, or never."""
        for ttl, text in ((1, "1"), (1.0, "1"), (1.2, "2"), (3600.0, "3600"), ("never", "never")):
            made = publish_headers(None, ttl=ttl)  # type: ignore[arg-type]
            assert made is not None
            self.assertEqual(made["Nats-TTL"], text)

    def test_wrong_values(self) -> None:
        """The error names the parameter, its value and the rule."""
        wrong: list[tuple[str, Any, str]] = [
            ("ttl", 0.5, "from 1"),
            ("ttl", 0, "from 1"),
            ("ttl", "1h", "'never'"),
            ("ttl", float("nan"), "from 1"),
            ("ttl", float("inf"), "from 1"),
            ("ttl", 1e12, "from 1"),
            ("ttl", True, "from 1"),
            ("expected_last_seq", -1, "from 0"),
            ("expected_last_seq", 2**64, "from 0"),
            ("expected_last_seq", 1.5, "whole number"),
            ("expected_last_seq", True, "whole number"),
            ("expected_last_subject_seq", -5, "from 0"),
            ("expected_stream", "a.b", "must not have"),
            ("expected_stream", "", "empty"),
            ("msg_id", "", "empty"),
            ("msg_id", " x", "white space"),
            ("msg_id", 7, "str"),
            ("expected_last_msg_id", "x ", "white space"),
            ("rollup", "subject", "'sub' or 'all'"),
        ]
        for field, value, rule in wrong:
            error = self.assertRaises(JetStreamConfigError, publish_headers, None, **{field: value})
            self.assertEqual((error.field, error.rule.find(rule) >= 0), (field, True), str(error))
            self.assertIn(f"{field}={value!r}: ", str(error))

    def test_subject_needs_its_sequence(self) -> None:
        """The subject of an expected sequence means nothing without the sequence, which may be a header of the caller's."""
        error = self.assertRaises(JetStreamConfigError, publish_headers, None, expected_last_subject_seq_subject="a.b")
        self.assertIn("needs expected_last_subject_seq", str(error))
        wrong = {"expected_last_subject_seq": 1, "expected_last_subject_seq_subject": "a..b"}
        self.assertIn("empty token", str(self.assertRaises(JetStreamConfigError, publish_headers, None, **wrong)))
        made = publish_headers({"Nats-Expected-Last-Subject-Sequence": "3"}, expected_last_subject_seq_subject="a.b")
        assert made is not None
        self.assertEqual(made["Nats-Expected-Last-Subject-Sequence-Subject"], "a.b")

    def test_contradiction(self) -> None:
        """A header of the caller's that says something else is an error, in whatever case; one that says the same is not."""
        for name in ("Nats-Msg-Id", "nats-msg-id"):
            error = self.assertRaises(JetStreamConfigError, publish_headers, {name: "theirs"}, msg_id="mine")
            self.assertIn("'mine'", str(error))
            self.assertIn("'theirs'", str(error))
        made = publish_headers({"Nats-Msg-Id": "x"}, msg_id="x")
        assert made is not None
        self.assertEqual(made.get_all("Nats-Msg-Id"), ["x"])

    def test_nothing_slips_into_the_wire(self) -> None:
        """A line break in an id is no way to add a header."""
        self.assertRaises(InvalidHeaderError, publish_headers, None, msg_id="x\r\nNats-Rollup: all")
