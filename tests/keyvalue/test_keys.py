"""Which keys, patterns and names there are, and the subjects that they become."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.jetstream import ExternalStream, StreamConfig, StreamSource, SubjectTransform
from pynats_twisted.jetstream.api import ApiPrefix
from pynats_twisted.jetstream.api.patterns import subject_problem
from pynats_twisted.keyvalue import Base64KeyCodec, PathKeyCodec
from pynats_twisted.keyvalue.keys import KeySubjects, bucket_of_stream, check_key, check_pattern, stream_name
from pynats_twisted.protocol.subjects import matches

PLAIN = ApiPrefix()
BUCKET = StreamConfig(name="KV_b", subjects=["$KV.b.>"])


class RuleTests(SynchronousTestCase):
    """The rules of ADR-8."""

    def test_good_keys(self) -> None:
        """Letters, digits and a few characters, in parts that dots divide."""
        for key in ("a", "A.b.9", "-", "/", "_", "=", "a/b=c-d_e.f", "kv", "_k", "x._kv", "a" * 300):
            check_key(key)

    def test_bad_keys(self) -> None:
        """Whatever could not be a subject, mean more than one key, or is reserved, is refused with the key and the rule."""
        for key in (
            "",
            ".",
            ".a",
            "a.",
            "a..b",
            "a b",
            "a\n",
            "a\r\nPUB x 0",
            "*",
            "a.*",
            ">",
            "a.>",
            "ä",
            "a$",
            "a\x00",
            "a:b",
            "_kv",
            "_kv.x",
        ):
            error = self.assertRaises(errors.InvalidKeyError, check_key, key)
            self.assertIn(repr(key), str(error))
        for wrong in (None, b"a", 1):
            self.assertIn("must be a str", str(self.assertRaises(errors.InvalidKeyError, check_key, wrong)))
        self.assertIn("reserved", str(self.assertRaises(errors.InvalidKeyError, check_key, "_kv1")))

    def test_patterns(self) -> None:
        """A pattern is a key in which whole parts are wildcards, ``>`` the last one."""
        for pattern in ("a", "*", ">", "a.*", "*.b", "a.*.c", "a.>", "*.>", "_kv.>"):
            check_pattern(pattern)
        for pattern in ("", ".", "a*", "a.b*", ">.a", "a.>.b", "a>", "a..*", "a. *", "*\n", "a.>\n"):
            self.assertRaises(errors.InvalidKeyError, check_pattern, pattern)
        self.assertIn("'>' is every key", str(self.assertRaises(errors.InvalidKeyError, check_pattern, "")))
        self.assertRaises(errors.InvalidKeyError, check_pattern, None)

    @given(st.text(max_size=12))
    def test_no_other_text_gets_through(self, text: str) -> None:
        """What is taken for a key is a subject without wildcards, and matches itself as a pattern."""
        try:
            check_key(text)
        except errors.InvalidKeyError:
            return
        self.assertEqual(subject_problem(f"$KV.b.{text}"), "")
        check_pattern(text)

    def test_bucket_names(self) -> None:
        """A bucket's stream has its name with a prefix; other streams are none."""
        self.assertEqual(stream_name("a-B_9"), "KV_a-B_9")
        for name in ("", "a.b", "a b", "ä", "a\n", "b" * 253, None):
            self.assertRaises(errors.InvalidNameError, stream_name, name)
        found = [bucket_of_stream(name) for name in ("KV_b", "KV_KV_b", "b", "KV_", "KV_b=c", "OBJ_b")]
        self.assertEqual(found, ["b", "KV_b", None, None, None, None])


class SubjectTests(SynchronousTestCase):
    """Subjects of keys."""

    def test_own_bucket(self) -> None:
        """Keys are read and written under the bucket's own subjects."""
        subjects = KeySubjects(PLAIN, BUCKET)
        self.assertEqual((subjects.read("a.b"), subjects.write("a.b"), subjects.origin("a.b")), ("$KV.b.a.b",) * 3)
        self.assertEqual((subjects.bucket, subjects.origin_stream, subjects.origin_api), ("b", "KV_b", PLAIN))
        self.assertEqual(subjects.key("$KV.b.a.b"), "a.b")
        self.assertRaises(errors.InvalidKeyError, subjects.key, "$KV.c.a")

    def test_filters(self) -> None:
        """Patterns are filters, each once; no pattern is all keys."""
        subjects = KeySubjects(PLAIN, BUCKET)
        self.assertEqual(subjects.filters([]), ("$KV.b.>",))
        self.assertEqual(subjects.filters(["a.*", "b", "a.*"]), ("$KV.b.a.*", "$KV.b.b"))
        self.assertRaises(errors.InvalidKeyError, subjects.filters, ["a*"])

    def test_domain_and_prefix(self) -> None:
        """Through a domain or a prefix, only what is published has that in front (ADR-19)."""
        for api, outer in ((ApiPrefix(domain="hub"), "$JS.hub.API"), (ApiPrefix(api_prefix="from.x."), "from.x")):
            subjects = KeySubjects(api, BUCKET)
            self.assertEqual((subjects.read("k"), subjects.origin("k")), ("$KV.b.k",) * 2)
            self.assertEqual(subjects.write("k"), f"{outer}.$KV.b.k")
        self.assertEqual(KeySubjects(ApiPrefix(api_prefix="$JS.API"), BUCKET).write("k"), "$KV.b.k")

    def test_mirrors(self) -> None:
        """A mirror is read under its origin's subjects, and written to there, wherever that is."""
        near = StreamConfig(name="KV_m", mirror=StreamSource(name="KV_o"))
        far = StreamConfig(name="KV_m", mirror=StreamSource(name="KV_o", external=ExternalStream.of_domain("hub")))
        for config, api, written in (
            (near, PLAIN, "$KV.o.k"),
            (near, ApiPrefix(domain="leaf"), "$JS.leaf.API.$KV.o.k"),
            (far, PLAIN, "$JS.hub.API.$KV.o.k"),
            (far, ApiPrefix(domain="leaf"), "$JS.hub.API.$KV.o.k"),
        ):
            subjects = KeySubjects(api, config)
            self.assertEqual((subjects.read("k"), subjects.origin("k"), subjects.write("k")), ("$KV.o.k", "$KV.o.k", written))
            self.assertEqual((subjects.bucket, subjects.origin_stream, subjects.key("$KV.o.k")), ("m", "KV_o", "k"))
        self.assertEqual(KeySubjects(PLAIN, far).origin_api.prefix, "$JS.hub.API")

    def test_transformed_mirror(self) -> None:
        """A mirror that stores under its own subjects is read under these, and written to at its origin."""
        transform = SubjectTransform(src="$KV.o.>", dest="$KV.m.>")
        config = StreamConfig(name="KV_m", mirror=StreamSource(name="KV_o", subject_transforms=[transform]))
        subjects = KeySubjects(PLAIN, config)
        self.assertEqual((subjects.read("k"), subjects.origin("k"), subjects.write("k")), ("$KV.m.k", "$KV.o.k", "$KV.o.k"))

    def test_codec(self) -> None:
        """What a codec makes of a key is what is checked; a pattern is encoded so that it matches."""
        subjects = KeySubjects(PLAIN, BUCKET, PathKeyCodec())
        self.assertEqual((subjects.read("/a/b"), subjects.filter("/a/*")), ("$KV.b._root_.a.b", "$KV.b._root_.a.*"))
        self.assertEqual(subjects.key("$KV.b._root_.a.b"), "/a/b")
        for wrong in ("a b", "", "a//b", None):
            self.assertRaises(errors.InvalidKeyError, subjects.read, wrong)
            self.assertRaises(errors.InvalidKeyError, subjects.filter, wrong)
        subjects = KeySubjects(PLAIN, BUCKET, Base64KeyCodec())
        self.assertTrue(matches(subjects.filter("ä b.*"), subjects.read("ä b.c")))
        self.assertEqual(subjects.filter(">"), "$KV.b.>")
        self.assertRaises(errors.InvalidKeyError, subjects.read, "")
