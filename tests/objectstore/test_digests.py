"""Digests as text."""

from __future__ import annotations

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.objectstore.digests import digest_text, read_digest

# Has both of the characters in which the two forms of base64 differ.
DIGEST = bytes.fromhex("fbff" + 15 * "fb" + 15 * "ff")


class DigestTests(SynchronousTestCase):
    def test_text(self) -> None:
        """The text has the name in upper case, the URL-safe form, and padding: that of the empty object is well known."""
        self.assertEqual(digest_text(hashlib.sha256().digest()), "SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=")

    def test_forms(self) -> None:
        """What others write is understood: without padding, in the other form, with the name in lower case."""
        text = digest_text(DIGEST)
        self.assertIn("-", text[8:])
        self.assertIn("_", text)
        for form in (text, text.rstrip("="), text[:8].lower() + text[8:], text[:8] + text[8:].replace("-", "+").replace("_", "/")):
            self.assertEqual(read_digest(form), DIGEST)

    def test_no_digest(self) -> None:
        """What says no digest of the right kind and length is refused, with the text."""
        for text in ("", "SHA-512=AAAA", "SHA-256=", "SHA-256=AAAA", "SHA-256=" + 43 * "*", "SHA-256=" + 60 * "A", "MD5"):
            with self.assertRaises(ValueError) as caught:
                read_digest(text)
            self.assertIn(repr(text), str(caught.exception))
