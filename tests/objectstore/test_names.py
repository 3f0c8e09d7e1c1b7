"""The names of stores and objects, and the subjects made of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.objectstore.names import (
    MAX_NAME,
    bucket_of_stream,
    chunk_subject,
    meta_subject,
    name_of_meta,
    stream_name,
)
from pynats_twisted.protocol.subjects import check_publish_subject

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


class StoreNameTests(SynchronousTestCase):
    """Names of stores."""

    def test_streams(self) -> None:
        """A store and its stream name each other."""
        self.assertEqual(stream_name("My-store_1"), "OBJ_My-store_1")
        self.assertEqual(bucket_of_stream("OBJ_My-store_1"), "My-store_1")
        for other in ("KV_x", "OBJ_", "OBJ_a b", "obj_x", "x", f"OBJ_{'x' * 252}"):
            self.assertIsNone(bucket_of_stream(other), other)

    def test_wrong_names(self) -> None:
        """Nothing that could end a subject or match others is taken, and no name that makes the stream's too long."""
        for wrong in ("", "a.b", "a b", "a\r\nPING", "*", ">", "ä", "a\n", "x" * 252, None, b"x"):
            error = self.assertRaises(errors.InvalidNameError, stream_name, wrong)
            self.assertIn("must be 1 to 251 characters", str(error))
        self.assertEqual(len(stream_name("x" * 251)), 255)


class ObjectNameTests(SynchronousTestCase):
    """Names of objects, and their subjects."""

    def test_any_text(self) -> None:
        """ADR-20: the subject has the name in base64 with the alphabet for URLs, and padding."""
        self.assertEqual(meta_subject("B", "a"), "$O.B.M.YQ==")
        self.assertEqual(meta_subject("B", "a/b c.txt"), "$O.B.M.YS9iIGMudHh0")
        self.assertEqual(meta_subject("B", "ÿþ?>"), "$O.B.M.w7_Dvj8-")

    @given(NAMES)
    def test_names_come_back(self, name: str) -> None:
        """Every text makes a subject that can be sent, and is read back from it."""
        subject = meta_subject("B", name)
        check_publish_subject(subject)
        self.assertEqual(name_of_meta("B", subject), name)

    def test_other_subjects(self) -> None:
        """What is no subject of an object has no name: of another store, not base64, not UTF-8, without its padding."""
        for other in ("$O.B.M.YQ", "$O.B.M.YR==", "$O.B.M.", "$O.C.M.YQ==", "$O.B.C.YQ==", "$O.B.M._w==", "$O.B.M.YQ==.x", "$O.B.M.Y+Q="):
            self.assertIsNone(name_of_meta("B", other), other)

    def test_wrong_names(self) -> None:
        """An error says what is wrong with a name, before anything is sent."""
        for wrong, rule in (
            ("", "must not be empty"),
            (None, "must be a str"),
            (b"x", "must be a str"),
            ("\ud800", "UTF-8 can express"),
            ("x" * (MAX_NAME + 1), "at most 2048 bytes"),
            ("ä" * (MAX_NAME // 2 + 1), "it has 2050"),
        ):
            error = self.assertRaises(errors.InvalidArgumentError, meta_subject, "B", wrong)
            self.assertIn(rule, str(error))
            self.assertLess(len(str(error)), 200)
        self.assertLess(len(meta_subject("B" * 251, "x" * MAX_NAME)), 4000)

    def test_chunks(self) -> None:
        """Only an id that matches itself alone makes a subject of chunks: all that matches is removed with an object."""
        self.assertEqual(chunk_subject("B", "CkuyLEX4z2hbyjj1aWCfiH"), "$O.B.C.CkuyLEX4z2hbyjj1aWCfiH")
        for wrong in ("", ">", "*", "a.b", "a*", "a b", "a\r\n", "ä", None):
            self.assertRaises(errors.InvalidArgumentError, chunk_subject, "B", wrong)
