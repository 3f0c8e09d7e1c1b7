"""Subjects of the API, of acks, and the rules for names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import InvalidNameError, InvalidSubjectError, JetStreamConfigError, NotJetStreamMessageError
from pynats_twisted.jetstream.api import ApiPrefix, JsMsgMetadata, check_name, collide, is_subset, parse_ack_subject
from pynats_twisted.jetstream.api.patterns import subject_problem
from pynats_twisted.protocol import subjects as core

#: A method, its arguments, and the subject behind the prefix.
SUBJECTS: list[tuple[Callable[..., str], tuple[str, ...], str]] = [
    (ApiPrefix.account_info, (), "INFO"),
    (ApiPrefix.stream_names, (), "STREAM.NAMES"),
    (ApiPrefix.stream_list, (), "STREAM.LIST"),
    (ApiPrefix.stream_create, ("S",), "STREAM.CREATE.S"),
    (ApiPrefix.stream_update, ("S",), "STREAM.UPDATE.S"),
    (ApiPrefix.stream_info, ("S",), "STREAM.INFO.S"),
    (ApiPrefix.stream_delete, ("S",), "STREAM.DELETE.S"),
    (ApiPrefix.stream_purge, ("S",), "STREAM.PURGE.S"),
    (ApiPrefix.stream_leader_stepdown, ("S",), "STREAM.LEADER.STEPDOWN.S"),
    (ApiPrefix.msg_get, ("S",), "STREAM.MSG.GET.S"),
    (ApiPrefix.msg_delete, ("S",), "STREAM.MSG.DELETE.S"),
    (ApiPrefix.direct_get, ("S",), "DIRECT.GET.S"),
    (ApiPrefix.direct_get, ("S", "a.b"), "DIRECT.GET.S.a.b"),
    (ApiPrefix.consumer_names, ("S",), "CONSUMER.NAMES.S"),
    (ApiPrefix.consumer_list, ("S",), "CONSUMER.LIST.S"),
    (ApiPrefix.consumer_create, ("S",), "CONSUMER.CREATE.S"),
    (ApiPrefix.consumer_create, ("S", "C"), "CONSUMER.CREATE.S.C"),
    (ApiPrefix.consumer_create, ("S", "C", "a.*"), "CONSUMER.CREATE.S.C.a.*"),
    (ApiPrefix.consumer_create, ("S", "", "a.*"), "CONSUMER.CREATE.S"),
    (ApiPrefix.consumer_info, ("S", "C"), "CONSUMER.INFO.S.C"),
    (ApiPrefix.consumer_delete, ("S", "C"), "CONSUMER.DELETE.S.C"),
    (ApiPrefix.consumer_pause, ("S", "C"), "CONSUMER.PAUSE.S.C"),
    (ApiPrefix.consumer_reset, ("S", "C"), "CONSUMER.RESET.S.C"),
    (ApiPrefix.consumer_unpin, ("S", "C"), "CONSUMER.UNPIN.S.C"),
    (ApiPrefix.consumer_next, ("S", "C"), "CONSUMER.MSG.NEXT.S.C"),
    (ApiPrefix.consumer_leader_stepdown, ("S", "C"), "CONSUMER.LEADER.STEPDOWN.S.C"),
]

patterns = st.lists(st.sampled_from(["a", "b", "*", ">"]), min_size=1, max_size=4).map(
    lambda tokens: ".".join(token if token != ">" or index == len(tokens) - 1 else "*" for index, token in enumerate(tokens))
)
literals = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5).map(".".join)


class PrefixTests(SynchronousTestCase):
    """ApiPrefix."""

    def test_subjects(self) -> None:
        """Every subject of the API, under each kind of prefix."""
        for prefix, start in [
            (ApiPrefix(), "$JS.API."),
            (ApiPrefix(domain="hub"), "$JS.hub.API."),
            (ApiPrefix(api_prefix="imported.js"), "imported.js."),
            (ApiPrefix(api_prefix="imported.js."), "imported.js."),
        ]:
            for method, arguments, rest in SUBJECTS:
                self.assertEqual(method(prefix, *arguments), start + rest)

    def test_every_subject_is_tried(self) -> None:
        """The list above has all methods."""
        methods = {name for name in vars(ApiPrefix) if not name.startswith("_") and callable(getattr(ApiPrefix, name))}
        self.assertEqual(methods, {method.__name__ for method, _, _ in SUBJECTS})

    def test_wrong_prefixes(self) -> None:
        """A domain or prefix that cannot be a part of a subject is refused, and so are both at a time."""
        wrong: list[dict[str, Any]] = [
            *({"domain": domain} for domain in ("", "a.b", "a b", "*", ">", 7)),
            *({"api_prefix": prefix} for prefix in ("", ".", "a..b", "a b", "a.*", "a.>", "$JS.API..", "a\r\nPUB b 0\r\n", 7)),
            {"domain": "a", "api_prefix": "b"},
        ]
        for options in wrong:
            self.assertRaises(JetStreamConfigError, ApiPrefix, **options)

    def test_wrong_names(self) -> None:
        """No name gets into a subject that could make another one of it."""
        prefix = ApiPrefix()
        for method, arguments, _ in SUBJECTS:
            for index, argument in enumerate(arguments):
                for name in ("a\r\nPUB x 0\r\n", "a b", "a..b", "\ud800", "" if index == 0 else "a."):
                    changed = [*arguments[:index], name, *arguments[index + 1 :]]
                    if argument and not (index and not arguments[index - 1]):
                        self.assertRaises((InvalidNameError, InvalidSubjectError), method, prefix, *changed)
        self.assertRaises(InvalidSubjectError, prefix.direct_get, "S", "a.*")

    def test_names(self) -> None:
        """The error says whose name it is, the name and the rule."""
        error = self.assertRaises(InvalidNameError, check_name, "consumer", "a.b")
        self.assertEqual(str(error), r"consumer name 'a.b' must not have white space, control characters, or any of . * > / \ ".strip())
        check_name("consumer", "x" * 255)
        self.assertRaises(InvalidNameError, check_name, "consumer", "x" * 256)


class PatternTests(SynchronousTestCase):
    """Subjects with wildcards."""

    @given(patterns, patterns, literals)
    @example("a.>", "a", "a")
    @example(">", "a", "a")
    @example("a.*", "*.b", "a.b")
    def test_relations(self, one: str, other: str, subject: str) -> None:
        """Patterns that both match a subject collide, and a subset matches nothing that the other does not."""
        if core.matches(one, subject) and core.matches(other, subject):
            self.assertTrue(collide(one, other))
        if core.matches(one, subject) and not core.matches(other, subject):
            self.assertFalse(is_subset(one, other))
        self.assertEqual(collide(one, other), collide(other, one))
        self.assertTrue(is_subset(one, one))
        self.assertTrue(is_subset(one, other) <= collide(one, other))

    def test_examples(self) -> None:
        """Wildcards match whole tokens, and ``>`` at least one."""
        for one, other, colliding, subset in [
            ("a", "a", True, True),
            ("a", "*", True, True),
            ("*", "a", True, False),
            ("a.b", "a.>", True, True),
            ("a", "a.>", False, False),
            ("a.>", "a.*", True, False),
            ("a.*", "a.>", True, True),
            ("a.*.c", "a.b.*", True, False),
            ("a.b", "a.b.c", False, False),
            ("*.b", "a.>", True, False),
        ]:
            self.assertEqual((collide(one, other), is_subset(one, other)), (colliding, subset), (one, other))

    @given(st.text(st.sampled_from(". *>ab\t\0\u2028ä\x7f\x85\ud800"), max_size=8))
    def test_the_same_subjects_as_the_core(self, subject: str) -> None:
        """A subject is right here exactly when it is for publishing and subscribing."""
        for check, wildcards in [(core.check_publish_subject, False), (core.check_subscribe_subject, True)]:
            try:
                check(subject)
            except InvalidSubjectError:
                self.assertTrue(subject_problem(subject, wildcards=wildcards))
            else:
                self.assertEqual(subject_problem(subject, wildcards=wildcards), "")


SHORT = "$JS.ACK.ORDERS.worker.2.1234.56.1767225600123456789.7"
SHORT_METADATA = JsMsgMetadata(
    stream="ORDERS",
    consumer="worker",
    num_delivered=2,
    stream_seq=1234,
    consumer_seq=56,
    timestamp_ns=1767225600123456789,
    num_pending=7,
)


class AckSubjectTests(SynchronousTestCase):
    """parse_ack_subject()."""

    def test_short_form(self) -> None:
        """The form with nine tokens."""
        metadata = parse_ack_subject(SHORT)
        self.assertEqual(metadata, SHORT_METADATA)
        self.assertEqual(metadata.timestamp, datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=timezone.utc))

    def test_long_form(self) -> None:
        """The form with domain and account, also with tokens that later servers add."""
        for domain, found in [("hub", "hub"), ("_", "")]:
            for tail in ("", ".x1y2", ".x1y2.more"):
                subject = SHORT.replace("$JS.ACK.", f"$JS.ACK.{domain}.AbCd1234.") + tail
                self.assertEqual(parse_ack_subject(subject), dataclasses.replace(SHORT_METADATA, domain=found, account_hash="AbCd1234"))

    def test_largest_numbers(self) -> None:
        """Sequences take 64 bits."""
        big = str(2**64 - 1)
        metadata = parse_ack_subject(f"$JS.ACK.S.C.{big}.{big}.{big}.{2**63 - 1}.{big}")
        self.assertEqual((metadata.stream_seq, metadata.num_pending), (2**64 - 1, 2**64 - 1))
        self.assertEqual(metadata.timestamp.year, 2262)

    def test_other_subjects(self) -> None:
        """Whatever is not the reply subject of a delivered message is refused."""
        for subject in (
            *("", "$JS.ACK", "_INBOX.abc", "$JS.FC.S.C.1.2.3.4.5", SHORT + ".8", SHORT.rpartition(".")[0]),
            *(re.sub(r"\.56\.", f".{number}.", SHORT) for number in ("", "-1", "+1", "1_0", "x", " 1", "٣", "²", "1" * 200)),
            "x" + SHORT,
        ):
            self.assertRaises(NotJetStreamMessageError, parse_ack_subject, subject)
        self.assertRaises(NotJetStreamMessageError, parse_ack_subject, None)

    @given(st.text(st.sampled_from(".$JSACK019-+_a"), max_size=60).map("$JS.ACK.{}".format))
    def test_nothing_else_is_raised(self, subject: str) -> None:
        """Any subject is parsed, or is that one error."""
        try:
            self.assertGreaterEqual(parse_ack_subject(subject).stream_seq, 0)
        except NotJetStreamMessageError as error:
            self.assertIn("reply subject", str(error))
