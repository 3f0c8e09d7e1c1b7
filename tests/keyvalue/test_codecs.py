"""Codecs: what goes in comes out, and patterns match what they should."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.keyvalue import Base64KeyCodec, Base64ValueCodec, KeyCodecChain, PathKeyCodec, ValueCodecChain
from pynats_twisted.keyvalue.codecs import encode_pattern
from pynats_twisted.keyvalue.keys import check_key
from pynats_twisted.protocol.subjects import matches

PARTS = st.lists(st.text(st.characters(exclude_characters=".", exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4)
PATHS = st.lists(st.text("abc_-=", min_size=1).filter(lambda part: part != "_root_"), min_size=1, max_size=4)


class Upper:
    """A codec of a user's own, which knows no patterns."""

    def encode(self, key: str) -> str:
        return key.upper()

    def decode(self, encoded: str) -> str:
        return encoded.lower()


class Reversed:
    """A value codec of a user's own, from and to text."""

    def encode(self, value: str) -> bytes:
        return value[::-1].encode()

    def decode(self, encoded: bytes) -> str:
        return encoded.decode()[::-1]


class Base64Tests(SynchronousTestCase):
    """Base64."""

    @given(PARTS)
    def test_any_key(self, parts: list[str]) -> None:
        """Any text between dots can be a key, and comes back as it was."""
        codec, key = Base64KeyCodec(), ".".join(parts)
        encoded = codec.encode(key)
        check_key(encoded)
        self.assertEqual(codec.decode(encoded), key)

    def test_known_texts(self) -> None:
        """Each part is encoded by itself, without padding; padding that another client wrote is read."""
        codec = Base64KeyCodec()
        self.assertEqual(codec.encode("Acme Inc.contact"), "QWNtZSBJbmM.Y29udGFjdA")
        self.assertEqual(codec.decode("QWNtZSBJbmMuY29udGFjdA=="), "Acme Inc.contact")
        self.assertEqual(codec.encode_pattern("Acme Inc.*.>"), "QWNtZSBJbmM.*.>")
        self.assertEqual(codec.encode("*"), "Kg")

    def test_what_is_none(self) -> None:
        """A stored key that is no base64, or no text, is an error that shows it; so is a key that is no text for UTF-8."""
        for encoded in ("a", "/w", "_w", "YQ.!"):
            error = self.assertRaises(errors.KeyValueCodecError, Base64KeyCodec().decode, encoded)
            self.assertIn(repr(encoded), str(error))
        self.assertRaises(errors.InvalidKeyError, Base64KeyCodec().encode, "\ud800")

    @given(st.binary())
    def test_values(self, value: bytes) -> None:
        """Any bytes, in any buffer, come back."""
        codec = Base64ValueCodec()
        self.assertEqual(codec.decode(codec.encode(bytearray(value))), value)
        self.assertRegex(codec.encode(value).decode(), r"\A[A-Za-z0-9_-]*\Z")
        self.assertRaises(ValueError, codec.decode, b"!")


class PathTests(SynchronousTestCase):
    """Paths."""

    @given(PATHS, st.booleans())
    def test_any_path(self, parts: list[str], leading: bool) -> None:
        """A path comes back with its leading separator, and without one at its end."""
        codec, path = PathKeyCodec(), "/" * leading + "/".join(parts)
        for given_path in (path, path + "/"):
            encoded = codec.encode(given_path)
            self.assertNotIn("/", encoded)
            self.assertEqual(codec.decode(encoded), path)

    def test_known_paths(self) -> None:
        """A leading separator is a first part of its own."""
        codec = PathKeyCodec()
        found = [codec.encode(path) for path in ("a/b", "/a/b/", "/")]
        self.assertEqual(found, ["a.b", "_root_.a.b", "_root_"])
        self.assertEqual([codec.decode(encoded) for encoded in found], ["a/b", "/a/b", "/"])
        self.assertEqual(PathKeyCodec(":").encode(":a:b/c"), "_root_.a.b/c")

    def test_what_would_not_come_back(self) -> None:
        """Dots, and a first part that stands for a leading separator, are refused."""
        for path in ("a.b", "_root_", "_root_/a"):
            self.assertRaises(errors.InvalidKeyError, PathKeyCodec().encode, path)
        for separator in (".", "", "//", "*", ">"):
            self.assertRaises(errors.InvalidKeyError, PathKeyCodec, separator)

    def test_patterns(self) -> None:
        """A pattern matches what it would match as a path."""
        codec = PathKeyCodec()
        self.assertTrue(matches(codec.encode_pattern("/a/*/c"), codec.encode("/a/b/c")))
        self.assertFalse(matches(codec.encode_pattern("a/>"), codec.encode("/a/b")))


class ChainTests(SynchronousTestCase):
    """Several codecs."""

    def test_keys(self) -> None:
        """The first one encodes first and decodes last; patterns pass through all."""
        chain = KeyCodecChain(PathKeyCodec(), Base64KeyCodec())
        self.assertEqual(chain.encode("/a b/c"), Base64KeyCodec().encode("_root_.a b.c"))
        self.assertEqual(chain.decode(chain.encode("/a b/c")), "/a b/c")
        self.assertTrue(matches(chain.encode_pattern("/a b/*"), chain.encode("/a b/c")))
        self.assertRaises(errors.InvalidKeyError, KeyCodecChain)

    def test_values(self) -> None:
        """Values too, of whatever type the first one takes."""
        chain = ValueCodecChain(Reversed(), Base64ValueCodec())
        self.assertEqual(chain.encode("ab"), Base64ValueCodec().encode(b"ba"))
        self.assertEqual(chain.decode(chain.encode("ab")), "ab")

    def test_codec_without_patterns(self) -> None:
        """A codec that knows no patterns takes whole keys and all keys; other patterns are an error that says so."""
        for codec in (Upper(), KeyCodecChain(Base64KeyCodec(), Upper())):
            wanted: Any = codec
            self.assertEqual(encode_pattern(wanted, ">"), ">")
            self.assertIn("knows no patterns", str(self.assertRaises(errors.InvalidKeyError, encode_pattern, wanted, "a.*")))
        self.assertEqual(encode_pattern(Upper(), "a.b"), "A.B")
