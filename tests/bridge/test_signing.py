"""Signatures on outgoing webhooks."""

from __future__ import annotations

import base64

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.signing import WebhookSigner, webhook_id
from pynats_twisted.errors import ConfigurationError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class WebhookSignerTests(SynchronousTestCase):
    """:class:`WebhookSigner`."""

    def test_known_signature(self) -> None:
        """The example of the specification's libraries."""
        signed = WebhookSigner([SECRET]).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
        self.assertEqual(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")

    def test_rotation(self) -> None:
        """With several secrets there is a signature by each, the prefix being optional."""
        other = base64.b64encode(bytes(32)).decode()
        both = WebhookSigner([SECRET, other]).sign("m", 1, b"x")
        self.assertEqual(both, f"{WebhookSigner([SECRET]).sign('m', 1, b'x')} {WebhookSigner([other]).sign('m', 1, b'x')}")

    def test_bad_secrets(self) -> None:
        """A secret that is not base64, too short or too long is refused, and not shown."""
        for secret in ("not base64!", base64.b64encode(bytes(23)).decode(), base64.b64encode(bytes(65)).decode(), "whsec_"):
            with self.assertRaises(ConfigurationError) as caught:
                WebhookSigner([secret])
            self.assertNotIn(secret, str(caught.exception).replace("with or without whsec_ before", ""))
        with self.assertRaises(ConfigurationError):
            WebhookSigner([])
        self.assertNotIn(SECRET[6:], repr(WebhookSigner([SECRET])))


class WebhookIdTests(SynchronousTestCase):
    """:func:`webhook_id`."""

    def test_ids(self) -> None:
        """The message's own id, or stream and sequence."""
        self.assertEqual(webhook_id("order-7", "S", 3), "order-7")
        self.assertEqual(webhook_id(None, "ORDERS", 3), "msg_ORDERS_3")
        self.assertEqual(webhook_id("", "ORDERS", 3), "msg_ORDERS_3")

    def test_odd_ids(self) -> None:
        """An id with a dot, which would be ambiguous in what is signed, or with anything that a header cannot have, becomes its digest."""
        seen = set()
        for odd in ("a.b", "a b", "a\r\nX: y", "ü", "\udcff", "x" * 129):
            made = webhook_id(odd, "S", 1)
            self.assertRegex(made, r"\Amsg_[0-9a-f]{64}\Z")
            self.assertEqual(made, webhook_id(odd, "OTHER", 2))
            seen.add(made)
        self.assertEqual(len(seen), 6)
