"""Subject templates: what a peer sends can fill a token and nothing else."""

from __future__ import annotations

import re
import string

from hypothesis import assume, example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.subjects import MAX_SUBJECT_BYTES, MAX_VALUE_BYTES, SubjectTemplate, percent_decode
from pynats_twisted.errors import ConfigurationError, NatsError, TemplateError, TemplateValueError
from pynats_twisted.protocol.subjects import check_publish_subject, matches

HOSTILE = [
    "",
    ".",
    "..",
    "a.b",
    "*",
    ">",
    "a b",
    "\t",
    "\r\nPUB x 1\r\n",
    "\x00",
    "\x7f",
    "\x85",
    "\u2028",
    "\u00a0",
    "\ud800",
    "%2E",
    "{x}",
    "$SYS",
]
anything = st.one_of(st.text(), st.binary(), st.sampled_from(HOSTILE), st.text(alphabet=".*> \r\n\t%$_INBOX", max_size=12))
templates = st.sampled_from(["a.{x}", "a.{x}.b", "a.p-{x}-s.b", "a.{x}{y}", "a.{x}.{y}.{x}", "pre{x}.b", "_INBO{x}.b", "a.%{x}"])


class TemplateTests(SynchronousTestCase):
    def test_expand(self) -> None:
        """Every placeholder is replaced by its value."""
        template = SubjectTemplate("svc.orders.{method}.{id}.v-{query:ver}.{header:X-Kind}.{1}")
        self.assertEqual(template.names, ("method", "id", "query:ver", "header:x-kind", "1"))
        values = {"method": "GET", "id": "o-17", "query:ver": "2", "header:x-kind": "ü", "1": "one", "unused": "x"}
        self.assertEqual(template.expand(values), "svc.orders.GET.o-17.v-2.ü.one")

    def test_without_placeholders(self) -> None:
        """A template without placeholders is the subject."""
        template = SubjectTemplate("plant.scale1")
        self.assertEqual((template.names, template.expand({}), template.pattern), ((), "plant.scale1", "plant.scale1"))

    def test_bytes(self) -> None:
        """Values as bytes are taken as UTF-8."""
        template = SubjectTemplate("a.{x}")
        self.assertEqual(template.expand({"x": "ü".encode()}), "a.ü")
        error = self.assertRaises(TemplateValueError, template.expand, {"x": b"\xff"})
        self.assertEqual(error.reason, "not-utf-8")

    def test_pattern(self) -> None:
        """The pattern has a wildcard for each token that a value can change."""
        self.assertEqual(SubjectTemplate("a.{x}.b.v{y}.{z}{w}").pattern, "a.*.b.*.*")

    def test_percent_encoding(self) -> None:
        """With ``percent``, characters that a token may not have are encoded, and so is the percent sign."""
        template = SubjectTemplate("a.{x}", "percent")
        expected = {"v1.2": "v1%2E2", "*": "%2A", ">": "%3E", "a b": "a%20b", "%2E": "%252E", "\u00a0": "%C2%A0", "ü": "ü"}
        self.assertEqual({value: template.expand({"x": value})[2:] for value in expected}, expected)

    def test_percent_encoding_still_refuses(self) -> None:
        """With ``percent``, control characters, lone surrogates, empty and long values are refused all the same."""
        template = SubjectTemplate("a.{x}", "percent")
        for value in ("", "\r\n", "\x00", "\x9f", "\u2028", "\ud800", "x" * (MAX_VALUE_BYTES + 1)):
            self.assertRaises(TemplateValueError, template.expand, {"x": value})

    def test_refused_values(self) -> None:
        """A value that is no token is refused with a fixed word for the rule that it breaks."""
        template = SubjectTemplate("a.{x}")
        reasons = {"": "empty", "x" * 129: "too-long", "ü" * 65: "too-long"}
        reasons |= dict.fromkeys(["a.b", "*", ">", " ", "\t", "\n", "\x7f", "\u00a0", "\ud800"], "forbidden-character")
        for value, reason in reasons.items():
            error = self.assertRaises(TemplateValueError, template.expand, {"x": value})
            self.assertEqual((error.name, error.reason), ("x", reason), repr(value))
            self.assertIsInstance(error, NatsError)
        self.assertEqual(self.assertRaises(TemplateValueError, template.expand, {"y": "v"}).reason, "missing")
        self.assertEqual(self.assertRaises(TemplateValueError, template.expand, {"x": b"x" * 129}).reason, "too-long")

    def test_longest_value(self) -> None:
        """A value of exactly the bound is taken."""
        template = SubjectTemplate("a.{x}")
        for value in ("x" * MAX_VALUE_BYTES, "ü" * (MAX_VALUE_BYTES // 2)):
            self.assertEqual(template.expand({"x": value}), f"a.{value}")

    def test_errors_do_not_show_values(self) -> None:
        """What a peer sent is not in the error's text: it ends in answers and logs."""
        error = self.assertRaises(TemplateValueError, SubjectTemplate("a.{x}").expand, {"x": "s3cret value"})
        self.assertNotIn("s3cret", str(error))
        self.assertIn("{x}", str(error))

    def test_longest_subject(self) -> None:
        """A subject may have 1024 bytes and no more."""
        text = ".".join(["a"] + [f"{{{index}}}" for index in range(1, 9)])
        template = SubjectTemplate(text)
        values = {str(index): "x" * 127 for index in range(1, 9)}
        self.assertEqual(len(template.expand({**values, "8": "x" * 126})), MAX_SUBJECT_BYTES)
        error = self.assertRaises(TemplateValueError, template.expand, {**values, "8": "x" * 128})
        self.assertEqual(error.reason, "subject-too-long")

    def test_values_cannot_make_a_reserved_start(self) -> None:
        """A first token that a value completes is checked again."""
        template = SubjectTemplate("_IN{x}.b")
        self.assertEqual(template.expand({"x": "put"}), "_INput.b")
        self.assertEqual(self.assertRaises(TemplateValueError, template.expand, {"x": "BOX"}).reason, "reserved")


class RefusedTemplateTests(SynchronousTestCase):
    def refused(self, text: str) -> str:
        error = self.assertRaises(TemplateError, SubjectTemplate, text)
        self.assertIsInstance(error, ConfigurationError)
        return str(error)

    def test_reserved_starts(self) -> None:
        """A template may not start with a placeholder, ``$`` or ``_INBOX``."""
        self.assertIn("starts with a placeholder", self.refused("{x}.a"))
        for text in ("$SYS.{x}", "$JS.API.x", "_INBOX.{x}", "_INBOX_bridge.{x}"):
            self.assertIn("reserved", self.refused(text))

    def test_invalid_subjects(self) -> None:
        """A template whose fixed part is no subject is refused."""
        for text in ("", "a..{x}", ".a", "a.{x}.", "a b.{x}", "a.\r\n", "a.\x9f", "a.*.{x}", "a.>", "a.*"):
            self.refused(text)

    def test_bad_placeholders(self) -> None:
        """What stands in braces is a known kind of placeholder, and braces come in pairs."""
        for text in (
            "a.{}",
            "a.{x",
            "a.x}",
            "a.{{x}}",
            "a.{x y}",
            "a.{cookie:x}",
            "a.{query:}",
            "a.{0}",
            "a.{100}",
            "a.{header:x y}",
            "a.{-x}",
        ):
            self.refused(text)

    def test_too_long(self) -> None:
        """A template that is longer than a subject may be is refused."""
        self.assertIn("longer", self.refused("a" * (MAX_SUBJECT_BYTES + 1)))

    def test_unknown_encoding(self) -> None:
        """There are two token encodings."""
        self.assertRaises(TemplateError, SubjectTemplate, "a", "base64")

    def test_names_without_a_source(self) -> None:
        """A placeholder that nothing fills is refused, with the one that was meant."""
        template = SubjectTemplate("a.{ident}.{query:x}.{header:y}.{method}")
        template.check_names(["ident", "query:", "header:", "method"])
        error = self.assertRaises(TemplateError, template.check_names, ["idents", "query:", "header:", "method"])
        self.assertIn("did you mean {idents}", str(error))
        self.assertRaises(TemplateError, template.check_names, ["ident", "header:", "method"])


class InjectionTests(SynchronousTestCase):
    """Properties that hold for every value that a peer can send."""

    def check(self, template: SubjectTemplate, values: dict[str, str | bytes]) -> str | None:
        try:
            subject = template.expand(values)
        except TemplateValueError:
            return None
        check_publish_subject(subject)
        self.assertEqual(subject.count("."), template.pattern.count("."))
        self.assertIsNone(re.search(r"[\s\x00-\x1f\x7f-\x9f*>]", subject))
        self.assertLessEqual(len(subject.encode("utf-8")), MAX_SUBJECT_BYTES)
        self.assertFalse(subject.startswith(("$", "_INBOX")))
        self.assertTrue(matches(template.pattern, subject))
        return subject

    @given(templates, anything, anything)
    @example("a.{x}{y}", "\r", "\n")
    def test_strict(self, text: str, x: str | bytes, y: str | bytes) -> None:
        """No value adds a token, a wildcard, white space or a control character, or reaches a reserved subject."""
        template = SubjectTemplate(text)
        subject = self.check(template, {"x": x, "y": y})
        if subject is not None:
            plain = {name: value.decode(errors="replace") if isinstance(value, bytes) else value for name, value in (("x", x), ("y", y))}
            self.assertEqual(subject, re.sub(r"\{(\w)\}", lambda match: plain[match[1]], text))

    @given(templates, anything, anything)
    def test_percent(self, text: str, x: str | bytes, y: str | bytes) -> None:
        """The same with ``percent``."""
        self.check(SubjectTemplate(text, "percent"), {"x": x, "y": y})

    @given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
    def test_percent_keeps_values_apart(self, one: str, other: str) -> None:
        """With ``percent``, different values never make the same subject."""
        assume(one != other)
        template = SubjectTemplate("a.{x}", "percent")
        first, second = self.check(template, {"x": one}), self.check(template, {"x": other})
        self.assertTrue(first is None or first != second)

    @given(st.text(alphabet=string.ascii_letters + string.digits + "-_~!", min_size=1, max_size=MAX_VALUE_BYTES))
    def test_plain_values_pass(self, value: str) -> None:
        """Values of harmless characters are taken as they are, with both encodings."""
        for encoding in ("strict", "percent"):
            self.assertEqual(SubjectTemplate("a.{x}", encoding).expand({"x": value}), f"a.{value}")

    @given(st.text())
    def test_any_template(self, text: str) -> None:
        """Whatever is written as a template is refused, or makes valid subjects only."""
        try:
            template = SubjectTemplate("a." + text)
        except TemplateError:
            return
        self.check(template, dict.fromkeys(template.names, "v"))


class PercentDecodeTests(SynchronousTestCase):
    def test_decode(self) -> None:
        """Segments are decoded once, as UTF-8."""
        self.assertEqual(percent_decode("a%20b%2Ec%252E"), "a b.c%2E")
        self.assertEqual(percent_decode(b"%C3%BC"), "ü")

    def test_refused(self) -> None:
        """Half an escape, no escape at all, and bytes that are not UTF-8 are refused."""
        for raw in ("%", "%2", "%zz", "a%2", "%u0041"):
            self.assertEqual(self.assertRaises(TemplateValueError, percent_decode, raw).reason, "bad-percent-encoding")
        for raw in ("%ff", b"\xff", "%C3", "\ud800"):
            self.assertEqual(self.assertRaises(TemplateValueError, percent_decode, raw).reason, "not-utf-8")
