"""What is kept of an object: as this package writes it, and as others do."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.objectstore.info import ObjectInfo, ObjectLink, ObjectMeta, decode_info, encode_info
from pynats_twisted.protocol.headers import Headers

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TOKENS = st.text("abcXYZ019-_", min_size=1, max_size=22)
INFOS = st.builds(
    ObjectInfo,
    name=TEXTS.filter(bool),
    description=TEXTS,
    headers=st.builds(Headers, st.dictionaries(TOKENS, st.lists(st.text("ab =;", max_size=5), min_size=1, max_size=3), max_size=3)),
    metadata=st.dictionaries(TEXTS, TEXTS, max_size=3),
    max_chunk_size=st.none() | st.integers(1, 2**32 - 1),
    link=st.none() | st.builds(ObjectLink, bucket=TOKENS, name=TEXTS),
    bucket=TOKENS,
    nuid=TOKENS,
    size=st.integers(0, 2**63),
    chunks=st.integers(0, 2**32),
    digest=TEXTS,
    deleted=st.booleans(),
    revision=st.integers(0, 2**63),
)


def read(**raw: Any) -> ObjectInfo:
    return decode_info(json.dumps(raw).encode(), "B", "n")


class WritingTests(SynchronousTestCase):
    """encode_info()."""

    def test_example_of_the_adr(self) -> None:
        """Every value has the place and the name that ADR-20 gives it."""
        info = ObjectInfo(
            name="object-name",
            description="object-desc",
            headers=Headers({"key1": ["foo"], "key2": ["bar", "baz"]}),
            metadata={"owner": "infra"},
            max_chunk_size=8196,
            link=ObjectLink(bucket="link-to-bucket", name="link-to-name"),
            bucket="object-bucket",
            nuid="CkuyLEX4z2hbyjj1aWCfiH",
            size=344000,
            chunks=42,
            digest="SHA-256=abcdefghijklmnopqrstuvwxyz=",
            deleted=True,
            modified=datetime(2020, 1, 1, tzinfo=timezone.utc),
            revision=9,
        )
        self.assertEqual(
            json.loads(encode_info(info)),
            {
                "name": "object-name",
                "description": "object-desc",
                "headers": {"key1": ["foo"], "key2": ["bar", "baz"]},
                "metadata": {"owner": "infra"},
                "options": {"link": {"bucket": "link-to-bucket", "name": "link-to-name"}, "max_chunk_size": 8196},
                "bucket": "object-bucket",
                "nuid": "CkuyLEX4z2hbyjj1aWCfiH",
                "size": 344000,
                "chunks": 42,
                "digest": "SHA-256=abcdefghijklmnopqrstuvwxyz=",
                "deleted": True,
            },
        )

    def test_nothing_more_than_needed(self) -> None:
        """What is empty is left out, but for the numbers; a link to a store has no name."""
        self.assertEqual(encode_info(ObjectInfo(name="ä", bucket="B")), '{"name":"ä","bucket":"B","nuid":"","size":0,"chunks":0}'.encode())
        link = ObjectInfo(name="l", bucket="B", link=ObjectLink(bucket="C"))
        self.assertEqual(json.loads(encode_info(link))["options"], {"link": {"bucket": "C"}})

    @given(INFOS)
    def test_what_is_written_is_read(self, info: ObjectInfo) -> None:
        """Nothing is lost or changed on the way."""
        self.assertEqual(decode_info(encode_info(info), info.bucket, info.name, revision=info.revision), info)

    def test_text_that_utf8_cannot_express(self) -> None:
        """It is refused with the object's name."""
        error = self.assertRaises(errors.InvalidArgumentError, encode_info, ObjectInfo(name="n", bucket="B", description="\ud800"))
        self.assertIn("object 'n'", str(error))


class ReadingTests(SynchronousTestCase):
    """decode_info()."""

    def test_nulls_and_missing_values(self) -> None:
        """What says nothing may be written in any way."""
        nothing = ObjectInfo(name="n", bucket="B")
        self.assertEqual(read(), nothing)
        keys = ("name", "description", "headers", "metadata", "options", "bucket", "nuid", "size", "mtime", "chunks", "digest", "deleted")
        self.assertEqual(read(**dict.fromkeys(keys)), nothing)
        self.assertEqual(read(options={}, headers={}, metadata={}, nuid="", mtime="0001-01-01T00:00:00Z"), nothing)
        self.assertEqual(read(options={"link": None, "max_chunk_size": None}), nothing)
        self.assertEqual(read(options={"link": {}, "max_chunk_size": 0}), nothing)

    def test_other_forms(self) -> None:
        """A header with its value alone, metadata as a list, and what a later version may add are read."""
        info = read(headers={"A": "1", "B": ["2", "3"]}, metadata=[{"a": "b"}, {"c": "d"}], later={"x": 1}, options={"later": 1})
        self.assertEqual((info.headers, info.metadata), ({"A": ["1"], "B": ["2", "3"]}, {"a": "b", "c": "d"}))

    def test_headers_that_are_none(self) -> None:
        """A header that could not be sent is left out, and the object can be read."""
        info = read(headers={"Good": ["1", "a\r\nb"], "b a d": ["2"], "": ["3"]})
        self.assertEqual(list(info.headers.multi_items()), [("Good", "1")])

    def test_the_subject_says_the_name(self) -> None:
        """The name under which it was found goes before the one inside, or changing it would change another object."""
        info = decode_info(b'{"name":"other","bucket":"elsewhere"}', "B", "n", revision=7)
        self.assertEqual((info.name, info.bucket, info.revision), ("n", "B", 7))

    def test_damaged(self) -> None:
        """What cannot be read is an error that names the store, the object and the value."""
        for data, text in (
            (b"", "not JSON"),
            (b"[]", "not an object"),
            (b"{", "not JSON"),
            (b"\xff", "not JSON"),
            (b'{"size":-1}', "size is -1"),
            (b'{"size":1.5}', "size is a float"),
            (b'{"size":"1"}', "size is a str"),
            (b'{"chunks":true}', "chunks is True"),
            (b'{"description":1}', "description is a int"),
            (b'{"deleted":"no"}', "deleted is a str"),
            (b'{"headers":[]}', "headers is a list"),
            (b'{"headers":{"A":[1]}}', "header 'A'"),
            (b'{"metadata":{"a":1}}', "metadata"),
            (b'{"metadata":"a"}', "metadata"),
            (b'{"options":[]}', "options is a list"),
            (b'{"options":{"link":{"bucket":"a.b"}}}', "link.bucket"),
            (b'{"options":{"link":{"name":"a"}}}', "link.bucket"),
            (b'{"options":{"link":{"bucket":"a","name":1}}}', "name is a int"),
        ):
            error = self.assertRaises(errors.JetStreamDecodeError, decode_info, data, "B", "n")
            self.assertIn(text, str(error))
            self.assertIn("store 'B' keeps of object 'n'", str(error))

    def test_ids_that_match_others(self) -> None:
        """An id with a wildcard is refused: removing the chunks of that object would remove all objects."""
        for wrong in (">", "*", "a.>", "a b", "a\r\n"):
            self.assertRaises(errors.JetStreamDecodeError, read, nuid=wrong)


class MetaTests(SynchronousTestCase):
    """ObjectMeta."""

    def test_headers(self) -> None:
        """They are given as anywhere else, and copied."""
        mine = {"A": "1"}
        meta = ObjectMeta(name="n", headers=mine)
        mine["A"] = "2"
        self.assertEqual(meta.headers, {"A": "1"})
        self.assertRaises(errors.InvalidHeaderError, ObjectMeta, name="n", headers={"A": "a\r\nb"})

    def test_of_an_info(self) -> None:
        """An info has its own, which can be changed and given back."""
        info = ObjectInfo(name="n", bucket="B", description="d", headers=Headers({"A": "1"}), metadata={"k": "v"}, max_chunk_size=5)
        meta = replace(info.meta, description="e")
        expected = ObjectMeta(name="n", description="e", headers={"A": "1"}, metadata={"k": "v"}, max_chunk_size=5)
        self.assertEqual(meta, expected)

    def test_wrong_values(self) -> None:
        """Each is named with its rule."""
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"name": ""}, "must not be empty"),
            ({"name": "n", "description": 1}, "description 1"),
            ({"name": "n", "metadata": {"a": 1}}, "metadata"),
            ({"name": "n", "metadata": "a"}, "metadata"),
            ({"name": "n", "max_chunk_size": 0}, "max_chunk_size 0"),
            ({"name": "n", "max_chunk_size": True}, "max_chunk_size True"),
            ({"name": "n", "max_chunk_size": 2**32}, "between 1 and 4294967295"),
        ]
        for values, text in wrong:
            error = self.assertRaises(errors.InvalidArgumentError, ObjectMeta, **values)
            self.assertIn(text, str(error))
