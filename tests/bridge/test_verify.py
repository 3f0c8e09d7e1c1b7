"""Signatures of webhooks: known answers of each scheme, and everything that must not pass."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.verify import MAX_SIGNATURES, SignatureError, Verifier
from pynats_twisted.errors import ConfigurationError

BODY = b'{"hello": "w\xc3\xb6rld"}\r\n'


def hex_of(secret: bytes, data: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret, data, algorithm).hexdigest()


class VerifyCase(SynchronousTestCase):
    """A clock at 1,700,000,000 s."""

    now = 1_700_000_000.0

    def verifier(self, scheme: Any, *secrets: str, **keys: Any) -> Verifier:
        return Verifier(scheme, secrets or ("secret",), lambda: self.now, **keys)

    def reason(self, verifier: Verifier, headers: dict[str, str | list[str]], body: bytes = BODY) -> str | None:
        """Why the request is refused, or None."""
        found = {
            name.lower().encode(): [one.encode("latin-1") for one in ([value] if isinstance(value, str) else value)]
            for name, value in headers.items()
        }
        try:
            verifier.verify(found, body)
        except SignatureError as error:
            return error.reason
        return None


class GitHubTests(VerifyCase):
    """``github``."""

    def test_documented_example(self) -> None:
        """The example of GitHub's documentation."""
        headers = {"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
        self.assertIsNone(self.reason(self.verifier("github", "It's a Secret to Everybody"), headers, b"Hello, World!"))

    def test_refusals(self) -> None:
        """Missing, twice, without prefix, not hexadecimal, cut, of another body, of another secret."""
        good = "sha256=" + hex_of(b"secret", BODY)
        check = self.verifier("github")
        self.assertIsNone(self.reason(check, {"X-Hub-Signature-256": good}))
        for headers, reason in (
            ({}, "missing"),
            ({"X-Hub-Signature": good}, "missing"),
            ({"X-Hub-Signature-256": [good, good]}, "malformed"),
            ({"X-Hub-Signature-256": good[7:]}, "malformed"),
            ({"X-Hub-Signature-256": "sha1=" + good[7:]}, "malformed"),
            ({"X-Hub-Signature-256": good + "g"}, "malformed"),
            ({"X-Hub-Signature-256": "sha256="}, "wrong"),
            ({"X-Hub-Signature-256": good[:-2]}, "wrong"),
            ({"X-Hub-Signature-256": "sha256=" + hex_of(b"other", BODY)}, "wrong"),
            ({"X-Hub-Signature-256": "sha256=" + hex_of(b"secret", BODY.strip())}, "wrong"),
            ({"X-Hub-Signature-256": "sha256=\xb2"}, "malformed"),
        ):
            self.assertEqual(self.reason(check, headers), reason, headers)

    def test_any_secret_will_do(self) -> None:
        """While a secret is being replaced, both are accepted."""
        check = self.verifier("github", "new", "old")
        for secret in (b"new", b"old"):
            self.assertIsNone(self.reason(check, {"X-Hub-Signature-256": "sha256=" + hex_of(secret, BODY)}))


class StripeTests(VerifyCase):
    """``stripe``."""

    def headers(self, timestamp: str = "1700000000", secret: bytes = b"secret", extra: str = "") -> dict[str, str | list[str]]:
        signature = hex_of(secret, timestamp.encode() + b"." + BODY)
        return {"Stripe-Signature": f"t={timestamp},v1={signature}{extra}"}

    def test_signature(self) -> None:
        """Timestamp and body are signed; signatures of other versions and of other secrets may stand beside."""
        check = self.verifier("stripe")
        self.assertIsNone(self.reason(check, self.headers()))
        other = f"t=1700000000, v1={'00' * 32}, v0=zz, v1={hex_of(b'secret', b'1700000000.' + BODY)}"
        self.assertIsNone(self.reason(check, {"Stripe-Signature": other}))

    def test_tolerance(self) -> None:
        """A timestamp may be five minutes away from the clock, either way, and not more."""
        check = self.verifier("stripe")
        for timestamp, reason in (("1699999700", None), ("1700000300", None), ("1699999699", "stale"), ("1700000301", "stale")):
            self.assertEqual(self.reason(check, self.headers(timestamp)), reason, timestamp)
        self.assertEqual(self.reason(self.verifier("stripe", tolerance=10), self.headers("1699999980")), "stale")

    def test_refusals(self) -> None:
        """Without timestamp, with two, without signature, with hundreds, wrong."""
        good = hex_of(b"secret", b"1700000000." + BODY)
        check = self.verifier("stripe")
        for value, reason in (
            (f"v1={good}", "malformed"),
            (f"t=,v1={good}", "malformed"),
            (f"t=1e9,v1={good}", "malformed"),
            (f"t={'9' * 5000},v1={good}", "malformed"),
            (f"t=1700000000,t=1700000000,v1={good}", "malformed"),
            ("t=1700000000", "missing"),
            ("t=1700000000,v0=" + good, "missing"),
            ("t=1700000000" + ",v1=00" * (MAX_SIGNATURES + 1), "malformed"),
            ("t=1700000001,v1=" + good, "wrong"),
            ("", "malformed"),
        ):
            self.assertEqual(self.reason(check, {"Stripe-Signature": value}), reason, value[:60])


class StandardWebhooksTests(VerifyCase):
    """``standard-webhooks``."""

    def test_published_example(self) -> None:
        """The example of the specification's libraries."""
        self.now = 1614265330.0
        headers: dict[str, str | list[str]] = {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }
        body = b'{"test": 2432232314}'
        for secret in ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"):
            self.assertIsNone(self.reason(self.verifier("standard-webhooks", secret), headers, body))
        headers["webhook-signature"] = "v1,AAAA v2,zz v1a,zz " + str(headers["webhook-signature"])
        self.assertIsNone(self.reason(self.verifier("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), headers, body))

    def test_refusals(self) -> None:
        """Each of the three headers is needed and signed."""
        secret = base64.b64encode(b"secret").decode()
        check = self.verifier("standard-webhooks", secret)

        def headers(**changed: str) -> dict[str, str | list[str]]:
            values = {"id": "msg_1", "timestamp": "1700000000", **changed}
            signed = hmac.new(b"secret", b"msg_1.1700000000." + BODY, hashlib.sha256).digest()
            values.setdefault("signature", "v1," + base64.b64encode(signed).decode())
            return {f"webhook-{name}": value for name, value in values.items() if value}

        self.assertIsNone(self.reason(check, headers()))
        for changed, reason in (
            ({"id": ""}, "missing"),
            ({"timestamp": ""}, "missing"),
            ({"signature": ""}, None),
            ({"id": "msg_2"}, "wrong"),
            ({"id": "msg_1.1700000000"}, "malformed"),
            ({"timestamp": "1700000001"}, "wrong"),
            ({"timestamp": "1600000000"}, "stale"),
            ({"signature": "v1,!!"}, "malformed"),
            ({"signature": "v2,AAAA"}, "missing"),
        ):
            if reason is None:
                found = self.reason(check, {name: value for name, value in headers().items() if name != "webhook-signature"})
                self.assertEqual(found, "missing")
            else:
                self.assertEqual(self.reason(check, headers(**changed)), reason, changed)

    def test_secret_has_to_be_base64(self) -> None:
        """A secret that is not base64 is a configuration error that does not show it."""
        for secret in ("whsec_???", "whsec_", "\u00fc"):
            error = self.assertRaises(ConfigurationError, self.verifier, "standard-webhooks", secret)
            self.assertNotIn("???", str(error))


class OtherSchemesTests(VerifyCase):
    """``gitlab``, ``slack`` and ``hmac``."""

    def test_gitlab(self) -> None:
        """The token is the secret itself."""
        check = self.verifier("gitlab", "one", "two")
        self.assertIsNone(self.reason(check, {"X-Gitlab-Token": "two"}))
        for headers, reason in (({}, "missing"), ({"X-Gitlab-Token": "three"}, "wrong"), ({"X-Gitlab-Token": ""}, "wrong")):
            self.assertEqual(self.reason(check, headers), reason)

    def test_slack_documented_example(self) -> None:
        """The example of Slack's documentation."""
        self.now = 1531420618.0
        body = (
            b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
            b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
            b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
        )
        headers: dict[str, str | list[str]] = {
            "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            "X-Slack-Request-Timestamp": "1531420618",
        }
        check = self.verifier("slack", "8f742231b10e8888abcd99yyyzzz85a5")
        self.assertIsNone(self.reason(check, headers, body))
        self.assertEqual(self.reason(check, headers, body + b"x"), "wrong")
        self.now += 301
        self.assertEqual(self.reason(check, headers, body), "stale")

    def test_hmac(self) -> None:
        """Header, prefix, algorithm and encoding are the configuration's."""
        for algorithm in ("sha1", "sha256", "sha384", "sha512"):
            check = self.verifier("hmac", header="X-Sig", prefix="k=", algorithm=algorithm)
            self.assertIsNone(self.reason(check, {"x-sig": "k=" + hex_of(b"secret", BODY, algorithm)}))
            self.assertEqual(self.reason(check, {"x-sig": hex_of(b"secret", BODY, algorithm)}), "malformed")
        check = self.verifier("hmac", header="X-Sig", encoding="base64")
        digest = hmac.new(b"secret", BODY, hashlib.sha256).digest()
        self.assertIsNone(self.reason(check, {"X-Sig": base64.b64encode(digest).decode()}))
        self.assertEqual(self.reason(check, {"X-Sig": digest.hex()}), "wrong")

    def test_bad_parameters(self) -> None:
        """What does not fit is a configuration error."""
        for scheme, secrets, keys in (
            ("paypal", ("x",), {}),
            ("github", ("",), {}),
            ("hmac", ("x",), {}),
            ("hmac", ("x",), {"header": "a", "algorithm": "md5"}),
            ("hmac", ("x",), {"header": "a", "encoding": "base32"}),
        ):
            self.assertRaises(ConfigurationError, self.verifier, scheme, *secrets, **keys)
        self.assertRaises(ConfigurationError, Verifier, "github", (), lambda: 0.0)

    def test_repr_shows_no_secret(self) -> None:
        """A verifier can be logged."""
        self.assertEqual(repr(self.verifier("github", "hidden")), "<Verifier github>")
