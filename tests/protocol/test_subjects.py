"""Subjects: what is valid, what matches, and new names."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import InvalidQueueError, InvalidSubjectError
from pynats_twisted.protocol.subjects import (
    check_inbox_prefix,
    check_publish_subject,
    check_queue,
    check_subscribe_subject,
    matches,
    new_inbox,
    random_token,
)

PLAIN = [
    "a",
    "a.b",
    "foo.bar.baz",
    "$SYS.REQ",
    "_INBOX.a.b",
    "A-z_0/1:2;3",
    "é.日本",
    "a*",
    "*a",
    "a>",
    ">a",
    "a.**.b",
    "a.>>",
    "a.*b.c",
    "\xa0",
]
WILD = ["*", ">", "a.*", "*.b", "a.*.c", "a.>", "*.>", "*.*", "a.*.>"]
MISPLACED = [">.a", "a.>.b", ">.>", "*.>.*"]
BROKEN: list[Any] = [
    "", ".", "..", ".a", "a.", "a..b", " ", "a b", "a\t", "\ta", "a\r", "a\n", "a\r\nb", "\0", "a\x01b", "a\x0bb", "a\x0cb", "a\x1cb",
    "a\x1fb", "a\x7fb",    "a\x85b", "a\u2028b", "a\u2029b", "a\ud800", "a\udcffb", None, 1, b"a", ["a"], 1.5, True,
]  # fmt: skip

# Each pattern with subjects that it gets and subjects that it does not get.
MATCHES: list[tuple[str, list[str], list[str]]] = [
    ("a", ["a"], ["b", "a.b", "A", "aa"]),
    ("a.b", ["a.b"], ["a", "b", "a.b.c", "a.c", "a.bb"]),
    ("*", ["a", "b", "*"], ["a.b"]),
    ("a.*", ["a.b", "a.*"], ["a", "a.b.c", "b.b"]),
    ("*.b", ["a.b"], ["b", "a.a", "a.b.b"]),
    ("a.*.c", ["a.b.c"], ["a.c", "a.b.b.c", "a.b.d"]),
    (">", ["a", "a.b", "a.b.c"], []),
    ("a.>", ["a.b", "a.b.c"], ["a", "b.a", "ab.c"]),
    ("*.>", ["a.b", "a.b.c"], ["a"]),
    ("*.*", ["a.b"], ["a", "a.b.c"]),
    ("a*", ["a*"], ["ab", "aa"]),
    ("a>", ["a>"], ["a.b"]),
    ("é.*", ["é.ü"], ["e.ü"]),
]

tokens = st.sampled_from(["a", "b", "ab", "*", ">", "a*", "$"])
subjects = st.lists(tokens, min_size=1, max_size=5).map(".".join)


def as_expression(pattern: str) -> str:
    """A pattern as a regular expression: another way to say what it matches."""
    pieces = pattern.split(".")
    last = pieces.pop() if pieces[-1] == ">" else None
    parts = [r"[^.]+" if token == "*" else re.escape(token) for token in pieces]
    if last is not None:
        parts.append(r".+")
    return r"\.".join(parts)


class CheckTests(SynchronousTestCase):
    """What may be published to, and what may be subscribed to."""

    def test_plain_subjects(self) -> None:
        """Subjects without wildcards may be published and subscribed to, and be prefixes of inboxes."""
        for subject in PLAIN:
            check_publish_subject(subject)
            check_subscribe_subject(subject)
            check_inbox_prefix(subject)

    def test_wildcards(self) -> None:
        """Wildcards may be subscribed to, and not published to."""
        for subject in WILD:
            check_subscribe_subject(subject)
            self.assertRaises(InvalidSubjectError, check_publish_subject, subject)
            self.assertRaises(InvalidSubjectError, check_inbox_prefix, subject)

    def test_misplaced_wildcards(self) -> None:
        """``>`` stands at the end or nowhere."""
        for subject in MISPLACED:
            self.assertRaises(InvalidSubjectError, check_subscribe_subject, subject)
            self.assertRaises(InvalidSubjectError, check_publish_subject, subject)

    def test_broken_subjects(self) -> None:
        """Empty tokens, white space, controls, surrogates and things that are no str are neither published nor subscribed to."""
        for subject in BROKEN:
            self.assertRaises(InvalidSubjectError, check_publish_subject, subject)
            self.assertRaises(InvalidSubjectError, check_subscribe_subject, subject)

    def test_every_control_character(self) -> None:
        """No control character and no ASCII white space may be anywhere in a subject or a queue group."""
        for code in [*range(33), 127]:
            for text in (chr(code), f"a{chr(code)}b", f"a{chr(code)}", f"{chr(code)}a"):
                self.assertRaises(InvalidSubjectError, check_publish_subject, text)
                self.assertRaises(InvalidSubjectError, check_subscribe_subject, text)
                self.assertRaises(InvalidQueueError, check_queue, text)

    def test_errors_name_value_and_rule(self) -> None:
        """The text of an error shows the subject escaped and says what is wrong with it."""
        for subject, rule in (("a\r\nb", "position 1"), ("a..b", "empty token"), ("", "empty"), ("a.*", "wildcard"), (5, "int")):
            error = self.assertRaises(InvalidSubjectError, check_publish_subject, subject)
            self.assertIn(rule, str(error))
            self.assertTrue(str(error).isprintable())
        self.assertIn("last token", str(self.assertRaises(InvalidSubjectError, check_subscribe_subject, "a.>.b")))

    def test_queues(self) -> None:
        """A queue group may have any character but white space and controls; dots and wildcards mean nothing in it."""
        for queue in ("q", "workers.1", "*", ">", "..", "é"):
            check_queue(queue)
        for wrong in ("", " ", "a b", "a\r\n", "a\tb", "\ud800", None, 5, b"q"):
            self.assertRaises(InvalidQueueError, check_queue, wrong)


class MatchTests(SynchronousTestCase):
    """Which subscription gets what."""

    def test_table(self) -> None:
        """Patterns get what they stand for, and nothing else."""
        for pattern, caught, missed in MATCHES:
            for subject in caught:
                self.assertTrue(matches(pattern, subject), (pattern, subject))
            for subject in missed:
                self.assertFalse(matches(pattern, subject), (pattern, subject))

    @given(subjects, subjects)
    @settings(max_examples=1000)
    def test_against_a_regular_expression(self, pattern: str, subject: str) -> None:
        """Every valid pattern matches what the regular expression of the same meaning matches."""
        try:
            check_subscribe_subject(pattern)
        except InvalidSubjectError:
            return
        self.assertEqual(matches(pattern, subject), re.fullmatch(as_expression(pattern), subject) is not None, (pattern, subject))


class NewNameTests(SynchronousTestCase):
    """Inboxes and random names."""

    def test_inboxes(self) -> None:
        """Inboxes begin with their prefix, can be published to, and are never the same."""
        made = {new_inbox() for _ in range(1000)} | {new_inbox("my.prefix") for _ in range(1000)}
        self.assertEqual(len(made), 2000)
        for inbox in made:
            check_publish_subject(inbox)
            self.assertTrue(matches("_INBOX.*", inbox) or matches("my.prefix.*", inbox))

    def test_tokens(self) -> None:
        """A random token has as many letters and digits as asked for."""
        for length in (1, 8, 22):
            self.assertRegex(random_token(length), rf"^[0-9A-Za-z]{{{length}}}$")
        self.assertEqual(len(random_token()), 22)
