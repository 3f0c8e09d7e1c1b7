"""INFO: what a server says of itself."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import InvalidInfoError
from pynats_twisted.protocol.info import ServerInfo, parse_info

#: The INFO of a server of a cluster, as it is on the wire between ``INFO `` and the end of the line.
REAL = (
    b'{"server_id":"NCXMJZYQEWUDJFLYLSTTE745I2WUNCVG3LJJ3NRKSFJXEG6RGK7753DJ","server_name":"n1","version":"2.12.1","proto":1,'
    b'"git_commit":"fab5f99","go":"go1.24.9","host":"0.0.0.0","port":4222,"headers":true,"auth_required":true,"tls_required":true,'
    b'"max_payload":1048576,"jetstream":true,"client_id":5,"client_ip":"127.0.0.1","nonce":"XyP1a-wPg4-lnQA","cluster":"c1",'
    b'"connect_urls":["10.0.0.1:4222","[fe80::1]:4222"],"ws_connect_urls":null,"ldm":true,"domain":"hub","xkey":"XBZ","api_lvl":2,'
    b'"feature_of_tomorrow":{"a":[1]}} '
)

WRONG: dict[str, list[Any]] = {
    "str": [1, 1.5, True, ["a"], {"a": 1}],
    "int": ["1", 1.5, True, [1], {}, float("nan")],
    "bool": [0, 1, "true", [], {}],
    "tuple[str, ...]": ["a:1", 1, True, {}, [1], ["a", None], [["a"]]],
}


NAMES = [field.name for field in dataclasses.fields(ServerInfo)]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


class InfoTests(SynchronousTestCase):
    """Reading INFO."""

    def test_real_one(self) -> None:
        """Every key of a server's INFO is an attribute of the same name, and what is not known is left out."""
        info = parse_info(REAL)
        for name, value in json.loads(REAL).items():
            if name == "ws_connect_urls":
                self.assertEqual(info.ws_connect_urls, ())
            elif name != "feature_of_tomorrow":
                self.assertEqual(getattr(info, name), tuple(value) if isinstance(value, list) else value, name)
        self.assertFalse(hasattr(info, "feature_of_tomorrow"))

    def test_empty(self) -> None:
        """An INFO that says nothing gives the defaults: 1 MiB of payload, no headers, no TLS, no other servers."""
        for text in (b"{}", b" {} ", b"\t{}\t", b'{"connect_urls":[]}', b'{"max_payload":null,"nonce":null}'):
            self.assertEqual(parse_info(text), ServerInfo())
        self.assertEqual(
            (ServerInfo().max_payload, ServerInfo().headers, ServerInfo().tls_required, ServerInfo().connect_urls),
            (1_048_576, False, False, ()),
        )

    def test_not_an_object(self) -> None:
        """What is no JSON object is an InvalidInfoError."""
        for text in (
            b"", b" ", b"null", b"[]", b"5", b'"a"', b"true", b"{bad", b"{", b'{"a"}', b"{}{}", b"{},", b"\xff\xfe", b'{"a":"\xff"}',
            b"{'a':1}",            b'{"a":1}\0', b"\0", b"NaN", b"[" * 100_000, b'{"a":' * 100_000, b'{"max_payload":' + b"9" * 5000 + b"}",
        ):  # fmt: skip
            self.assertRaises(InvalidInfoError, parse_info, text)

    def test_wrong_types(self) -> None:
        """Each known key with a value of another type is an InvalidInfoError that names the key; null is as if it were left out."""
        for field in dataclasses.fields(ServerInfo):
            self.assertEqual(parse_info(json.dumps({field.name: None}).encode()), ServerInfo())
            for value in WRONG[str(field.type)]:
                error = self.assertRaises(InvalidInfoError, parse_info, json.dumps({field.name: value}).encode())
                self.assertIn(f"{field.name}=", str(error))

    def test_errors_are_short(self) -> None:
        """A huge wrong value is not repeated in the error."""
        for text in (json.dumps({"port": "x" * 100_000}).encode(), b'{"port":' + b"x" * 100_000, b"[" * 100_000):
            self.assertLess(len(str(self.assertRaises(InvalidInfoError, parse_info, text))), 300)

    def test_unknown_keys_do_no_harm(self) -> None:
        """Unknown keys, also such as have a meaning in Python, are dropped."""
        self.assertEqual(parse_info(b'{"__class__":1,"self":2,"__dict__":{},"Max_Payload":5,"":0}'), ServerInfo())

    def test_it_cannot_be_changed(self) -> None:
        """An INFO is a fact: its attributes cannot be set."""
        self.assertRaises(dataclasses.FrozenInstanceError, setattr, parse_info(REAL), "host", "x")

    @given(
        st.dictionaries(st.sampled_from(NAMES) | st.text(), st.recursive(scalars, lambda inner: st.lists(inner, max_size=3)), max_size=5)
    )
    @settings(max_examples=300)
    def test_any_object(self, raw: dict[str, Any]) -> None:
        """Any JSON object is read, or is an InvalidInfoError, and what was read has the declared types."""
        try:
            info = parse_info(json.dumps(raw).encode())
        except InvalidInfoError:
            return
        for field in dataclasses.fields(ServerInfo):
            kind = {"str": str, "int": int, "bool": bool}.get(str(field.type), tuple)
            self.assertIs(type(getattr(info, field.name)), kind)

    @given(st.binary(max_size=100))
    def test_garbage(self, text: bytes) -> None:
        """No bytes raise anything but an InvalidInfoError."""
        try:
            parse_info(text)
        except InvalidInfoError:
            return
        self.assertIsInstance(json.loads(text), dict)
