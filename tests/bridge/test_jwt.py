"""Signed tokens: which are believed."""

from __future__ import annotations

import base64
import hmac
import json
import os
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.jwt import JWTVerifier
from pynats_twisted.errors import ConfigurationError

SECRET = "0123456789abcdef0123456789abcdef"
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
GOOD = {"exp": 2000}


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def rsa_jwk(**more: Any) -> dict[str, Any]:
    numbers = RSA_KEY.public_key().public_numbers()
    return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **more}


def ec_jwk(**more: Any) -> dict[str, Any]:
    numbers = EC_KEY.public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": number(numbers.x), "y": number(numbers.y), **more}


def sign(algorithm: str, signed: bytes, secret: bytes) -> bytes:
    if algorithm == "RS256":
        return RSA_KEY.sign(signed, PKCS1v15(), SHA256())
    if algorithm == "ES256":
        r, s = decode_dss_signature(EC_KEY.sign(signed, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return hmac.digest(secret, signed, "sha256")


def token(claims: dict[str, Any], algorithm: str = "HS256", secret: bytes = SECRET.encode(), **header: Any) -> bytes:
    signed = ".".join(encode(json.dumps(part).encode()) for part in ({"alg": algorithm, **header}, claims))
    return f"{signed}.{encode(sign(algorithm, signed.encode(), secret))}".encode()


class SecretTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.verifier = self.make()

    def make(self, **options: Any) -> JWTVerifier:
        return JWTVerifier(self.clock.seconds, secrets=[SECRET, "f" * 32], **options)

    def reason(self, text: bytes) -> str:
        judged = self.verifier.judge(text)
        self.assertEqual(judged.claims is None, bool(judged.reason))
        return judged.reason

    def test_good(self) -> None:
        """A token that was signed with one of the secrets is believed, and says what it claims."""
        self.assertEqual(self.verifier.judge(token({**GOOD, "sub": "ann"})).claims, {"exp": 2000, "sub": "ann"})
        self.assertEqual(self.reason(token(GOOD, secret=b"f" * 32)), "")

    def test_signature(self) -> None:
        """One that was signed with another secret, or changed, is not."""
        self.assertEqual(self.reason(token(GOOD, secret=b"x" * 32)), "signature")
        head, _, signature = token(GOOD).split(b".")
        self.assertEqual(self.reason(b".".join([head, encode(b'{"exp":3000}').encode(), signature])), "signature")

    def test_algorithms(self) -> None:
        """No signature, another algorithm, or an extension that has to be understood: refused."""
        for algorithm in ("none", "None", "HS512", "", "hs256"):
            self.assertEqual(self.reason(token(GOOD, algorithm)), "algorithm")
        self.assertEqual(self.reason(token(GOOD, crit=["b64"])), "algorithm")
        self.assertEqual(self.reason(token(GOOD, "RS256")), "key")
        head, claims, _ = token(GOOD, "none").split(b".")
        self.assertEqual(self.reason(head + b"." + claims + b"."), "malformed")

    def test_times(self) -> None:
        """A token has to expire, counts until then and a little longer, and not before its beginning."""
        self.assertEqual(self.reason(token({})), "times")
        for value in ("2000", None, True, 1e300, [1]):
            self.assertEqual(self.reason(token({"exp": value})), "times", value)
        self.assertEqual(self.reason(token({"exp": 971})), "")
        self.assertEqual(self.reason(token({"exp": 970})), "expired")
        self.assertEqual(self.reason(token({**GOOD, "nbf": 1030})), "")
        self.assertEqual(self.reason(token({**GOOD, "nbf": 1031})), "early")

    def test_for_whom(self) -> None:
        """Issuer and audience count where they are asked for."""
        self.verifier = self.make(issuer="https://id", audience="live")
        good = {**GOOD, "iss": "https://id", "aud": ["other", "live"]}
        self.assertEqual(self.reason(token(good)), "")
        self.assertEqual(self.reason(token({**good, "iss": "https://evil"})), "issuer")
        self.assertEqual(self.reason(token({**good, "aud": "other"})), "audience")
        self.assertEqual(self.reason(token({**GOOD, "iss": "https://id"})), "audience")

    def test_malformed(self) -> None:
        """What is no token is refused, however it is broken."""
        for text in (b"", b"a.b", b"a.b.c.d", b"a" * 9000, b"!.!.!", token(GOOD) + b"=", encode(b"[]").encode() * 3, b"e30.e30.AAAAA"):
            self.assertIn(self.reason(text), ("malformed", "algorithm"))

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=40))
    def test_anything(self, head: bytes, claims: bytes, signature: bytes) -> None:
        """Nothing that is not signed gets in, and nothing raises."""
        parts = (encode(part).encode() for part in (head, claims, signature))
        self.assertIsNone(self.verifier.judge(b".".join(parts)).claims)
        self.assertIsNone(self.verifier.judge(head + b"." + claims + b"." + signature).claims)

    def test_no_key(self) -> None:
        """Without a key nothing could be checked."""
        with self.assertRaises(ConfigurationError):
            JWTVerifier(self.clock.seconds)


class KeyFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.path = self.mktemp()

    def write(self, *keys: Any) -> str:
        with open(self.path, "w", encoding="utf-8") as stream:
            json.dump({"keys": keys}, stream)
        # Two files that are written at the same moment look the same.
        os.utime(self.path, ns=(int(self.clock.seconds() * 1e9),) * 2)
        return self.path

    def make(self, *keys: Any) -> JWTVerifier:
        return JWTVerifier(self.clock.seconds, jwks_file=self.write(*keys))

    def believes(self, verifier: JWTVerifier, text: bytes) -> bool:
        return verifier.judge(text).claims is not None

    def test_public_keys(self) -> None:
        """RS256 and ES256 work with public keys; each key with its own algorithm only."""
        verifier = self.make(rsa_jwk(kid="r", use="sig"), ec_jwk(kid="e", alg="ES256"))
        self.assertTrue(self.believes(verifier, token(GOOD, "RS256", kid="r")))
        self.assertTrue(self.believes(verifier, token(GOOD, "ES256")))
        self.assertFalse(self.believes(verifier, token(GOOD, "RS256", kid="e")))
        head, claims, signature = token(GOOD, "ES256").split(b".")
        self.assertFalse(self.believes(verifier, b".".join([head, claims, signature[:-8]])))
        other = rsa.generate_private_key(65537, 2048).sign(head + b"." + claims, PKCS1v15(), SHA256())
        forged = encode(json.dumps({"alg": "RS256"}).encode()).encode()
        self.assertFalse(self.believes(verifier, b".".join([forged, claims, encode(other).encode()])))

    def test_public_key_is_no_secret(self) -> None:
        """A token whose HS256 secret is somebody's public key is refused."""
        verifier = self.make(rsa_jwk())
        numbers = RSA_KEY.public_key().public_numbers()
        modulus = numbers.n.to_bytes(256, "big")
        self.assertEqual(verifier.judge(token(GOOD, secret=modulus)).reason, "key")

    def test_other_keys_are_left_out(self) -> None:
        """Keys for encryption, of other algorithms and kinds do not count."""
        others = [ec_jwk(use="enc"), ec_jwk(crv="P-384"), rsa_jwk(alg="RS512"), {"kty": "OKP"}, "text"]
        verifier = self.make({"kty": "oct", "k": encode(SECRET.encode())}, *others)
        self.assertTrue(self.believes(verifier, token(GOOD)))
        self.assertFalse(self.believes(verifier, token(GOOD, "ES256")))
        with self.assertRaisesRegex(ConfigurationError, "no key"):
            self.make(*others)

    def test_weak_and_broken_keys(self) -> None:
        """Keys that are too weak, or that are none, are told."""
        weak = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
        for jwk, told in (
            ({"kty": "oct", "k": encode(b"short")}, "32 bytes"),
            ({"kty": "RSA", "n": number(weak.n), "e": "AQAB"}, "2,048 bits"),
            (ec_jwk(x="AA"), "key 0"),
            ({"kty": "oct"}, "it has not all of k"),
            ({"kty": "oct", "k": "!!"}, "it has not all of k"),
            ({"kty": "oct", "k": encode(SECRET.encode()), "kid": 7}, "kid"),
        ):
            with self.assertRaisesRegex(ConfigurationError, told):
                self.make(jwk)

    def test_broken_files(self) -> None:
        """A file that is not there, or no JWK set, is told by its name."""
        with self.assertRaisesRegex(ConfigurationError, "missing"):
            JWTVerifier(self.clock.seconds, jwks_file="missing")
        for text in ("", "[]", '{"keys": 7}', "{}"):
            with open(self.path, "w", encoding="utf-8") as stream:
                stream.write(text)
            with self.assertRaisesRegex(ConfigurationError, "JWK set"):
                JWTVerifier(self.clock.seconds, jwks_file=self.path)

    def test_file_changes(self) -> None:
        """A file that has changed counts after a moment; one that is broken meanwhile changes nothing."""
        verifier = self.make({"kty": "oct", "k": encode(SECRET.encode())})
        self.clock.advance(5)
        self.write({"kty": "oct", "k": encode(b"f" * 32)})
        self.assertTrue(self.believes(verifier, token(GOOD)))
        self.clock.advance(5)
        self.assertFalse(self.believes(verifier, token(GOOD)))
        self.assertTrue(self.believes(verifier, token(GOOD, secret=b"f" * 32)))
        self.clock.advance(10)
        with open(self.path, "w", encoding="utf-8") as stream:
            stream.write("{")
        self.assertTrue(self.believes(verifier, token(GOOD, secret=b"f" * 32)))
