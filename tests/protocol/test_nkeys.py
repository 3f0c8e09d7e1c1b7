"""NKeys: their text form, and what is signed with them."""

from __future__ import annotations

import base64
import sys
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import CredentialsError, MissingDependencyError
from pynats_twisted.protocol import nkeys

KINDS: tuple[nkeys.Kind, ...] = ("account", "cluster", "operator", "server", "user")
LETTERS = {"account": "A", "cluster": "C", "operator": "O", "server": "N", "user": "U"}
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

kinds = st.sampled_from(KINDS)
keys = st.binary(min_size=32, max_size=32)


def crc16(data: bytes) -> int:
    """The check sum as its definition has it, bit by bit: polynomial 0x1021, start 0."""
    register = 0
    for byte in data:
        for bit in range(7, -1, -1):
            carry = register >> 15 ^ byte >> bit & 1
            register = (register << 1 & 0xFFFF) ^ (0x1021 if carry else 0)
    return register


def in_base32(raw: bytes) -> str:
    return base64.b32encode(raw + crc16(raw).to_bytes(2, "little")).decode().rstrip("=")


class EncodingTests(SynchronousTestCase):
    def test_public_key_is_prefix_key_and_check_sum_in_base32(self) -> None:
        """A public user key is the letter's byte, the key and a little-endian CRC-16."""
        key = bytes(range(32))
        self.assertEqual(nkeys.encode("user", key), in_base32(bytes([20 << 3]) + key))

    def test_seed_carries_its_kind_in_the_second_letter(self) -> None:
        """A seed is S, the letter of its kind, the key and a check sum."""
        raw = bytes(range(32))
        # S is 10010, U is 10100; the six bits after them are padding and the start of the key.
        self.assertEqual(nkeys.encode_seed("user", raw), in_base32(bytes([0b10010101, 0b00000000]) + raw))
        for kind in KINDS:
            self.assertEqual(nkeys.create_seed(kind)[:2], "S" + LETTERS[kind])

    def test_public_keys_start_with_the_letter_of_their_kind(self) -> None:
        """People tell users, accounts and operators apart by the first letter."""
        for kind in KINDS:
            text = nkeys.public_key(nkeys.create_seed(kind))
            self.assertEqual((len(text), text[0]), (56, LETTERS[kind]))

    @given(kinds, keys)
    def test_decode_gives_back_what_encode_was_given(self, kind: nkeys.Kind, key: bytes) -> None:
        """Public keys go to text and back unchanged, from str and from bytes."""
        text = nkeys.encode(kind, key)
        self.assertEqual(nkeys.decode(text), (kind, key))
        self.assertEqual(nkeys.decode(text.encode()), (kind, key))

    @given(kinds, keys)
    def test_decode_seed_gives_back_what_encode_seed_was_given(self, kind: nkeys.Kind, raw: bytes) -> None:
        """Seeds go to text and back unchanged, from str, bytes and bytearray."""
        text = nkeys.encode_seed(kind, raw)
        for form in (text, text.encode(), bytearray(text.encode())):
            self.assertEqual(nkeys.decode_seed(form), (kind, bytearray(raw)))

    @given(kinds, keys, st.integers(0, 57), st.sampled_from(ALPHABET))
    @settings(max_examples=300)
    def test_one_mistyped_character_is_noticed(self, kind: nkeys.Kind, raw: bytes, position: int, character: str) -> None:
        """No other character at any place makes another valid seed, at the last place neither."""
        text = nkeys.encode_seed(kind, raw)
        if text[position] != character:
            mistyped = text[:position] + character + text[position + 1 :]
            self.assertRaises(CredentialsError, nkeys.decode_seed, mistyped)

    @given(st.one_of(st.text(max_size=80), st.text(ALPHABET, min_size=56, max_size=58), st.binary(max_size=80)))
    @settings(max_examples=500)
    def test_anything_else_is_a_credentials_error_without_the_text(self, text: str | bytes) -> None:
        """Malformed keys of any form end in the one error, which does not show them; what is accepted is the one text of its key."""
        for decode, encode in ((nkeys.decode, nkeys.encode), (nkeys.decode_seed, nkeys.encode_seed)):
            given = text if isinstance(text, str) else text.decode("latin-1")
            try:
                decoded = decode(text)
            except CredentialsError as error:
                if len(given) > 20:
                    self.assertNotIn(given, str(error))
            else:
                self.assertEqual(encode(*decoded), given)

    def test_each_fault_has_its_own_words(self) -> None:
        """The error says which rule is broken."""
        seed = nkeys.create_seed("user")
        public = nkeys.public_key(seed)
        unknown = in_base32(bytes([7 << 3]) + bytes(32))
        not_a_seed = in_base32(bytes([15 << 3, 0]) + bytes(32))
        unknown_seed = in_base32(bytes([18 << 3, 7 << 3]) + bytes(32))
        spare_bits = in_base32(bytes([0b10010101, 0b00000001]) + bytes(32))
        for decode, text, words in (
            (nkeys.decode_seed, seed[:-1], "an NKey seed has 58 characters, not 57"),
            (nkeys.decode_seed, public, "an NKey seed has 58 characters, not 56"),
            (nkeys.decode_seed, seed.lower(), "not one of A-Z and 2-7"),
            (nkeys.decode_seed, seed[:-3] + ("AAA" if seed[-3:] != "AAA" else "BBB"), "check sum of an NKey seed is wrong"),
            (nkeys.decode_seed, not_a_seed, "starts with S"),
            (nkeys.decode_seed, unknown_seed, "unknown kind"),
            (nkeys.decode_seed, spare_bits, "unknown kind"),
            (nkeys.decode, seed, "a public key has 56 characters, not 58"),
            (nkeys.decode, unknown, "unknown prefix 0x38"),
            (nkeys.decode, public[:-1] + "é", "not one of A-Z and 2-7"),
            (nkeys.decode, 5, "str or bytes, not as int"),
        ):
            error = self.assertRaises(CredentialsError, decode, text)
            self.assertIn(words, str(error))

    def test_encoding_refuses_wrong_sizes_and_kinds(self) -> None:
        """Only 32 bytes of a known kind become a key."""
        self.assertIn("32 bytes of key, not 31", str(self.assertRaises(CredentialsError, nkeys.encode, "user", bytes(31))))
        self.assertIn("'robot'", str(self.assertRaises(CredentialsError, nkeys.encode_seed, "robot", bytes(32))))
        self.assertRaises(CredentialsError, nkeys.create_seed, "robot")

    def test_seeds_are_different_each_time(self) -> None:
        """A new seed is random."""
        self.assertEqual(len({nkeys.create_seed("user") for _ in range(50)}), 50)


class SigningTests(SynchronousTestCase):
    def setUp(self) -> None:
        # A key made by the cryptography package alone, so that our way to the same key can be compared with it.
        self.key = Ed25519PrivateKey.generate()
        raw = self.key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        self.seed = in_base32(bytes([18 << 3 | 20 >> 2, (20 << 3 & 0x1F) << 3]) + raw)
        self.raw_public = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def test_public_key_is_that_of_the_same_ed25519_key(self) -> None:
        """The seed's 32 bytes are the Ed25519 private key."""
        self.assertEqual(nkeys.decode(nkeys.public_key(self.seed)), ("user", self.raw_public))

    def test_signature_is_the_plain_ed25519_signature(self) -> None:
        """Whoever has the public key can check the 64 bytes; the data is signed as it is."""
        signature = nkeys.sign(self.seed, b"a nonce")
        self.assertEqual(len(signature), nkeys.SIGNATURE_SIZE)
        self.key.public_key().verify(signature, b"a nonce")

    @given(st.binary(max_size=100), st.binary(max_size=100))
    @settings(max_examples=50)
    def test_verify_accepts_the_data_that_was_signed_and_no_other(self, data: bytes, other: bytes) -> None:
        """A signature is valid for its data only."""
        public, signature = nkeys.public_key(self.seed), nkeys.sign(self.seed, data)
        self.assertIs(nkeys.verify(public, data, signature), True)
        self.assertIs(nkeys.verify(public, other, signature), other == data)

    def test_a_malformed_signature_is_not_valid(self) -> None:
        """What a stranger sent as a signature raises nothing."""
        public = nkeys.public_key(self.seed)
        for signature in (b"", b"x" * 63, b"x" * 64, b"x" * 65):
            self.assertIs(nkeys.verify(public, b"data", signature), False)

    def test_the_raw_key_is_wiped_after_signing(self) -> None:
        """The bytes that the seed was decoded to do not stay in memory."""
        decoded = []

        def decode_seed(seed: str) -> tuple[nkeys.Kind, bytearray]:
            decoded.append(original(seed))
            return decoded[-1]

        original = nkeys.decode_seed
        self.patch(nkeys, "decode_seed", decode_seed)
        nkeys.sign(self.seed, b"data")
        nkeys.public_key(self.seed)
        self.assertEqual([raw for _, raw in decoded], [bytearray(32), bytearray(32)])

    def test_without_cryptography_the_error_names_the_extra(self) -> None:
        """Who lacks the optional package is told what to install; keys can be decoded without it."""
        public = nkeys.public_key(self.seed)
        with patch.dict(sys.modules, {"cryptography.hazmat.primitives.asymmetric": None}):
            for call in (
                lambda: nkeys.sign(self.seed, b""),
                lambda: nkeys.public_key(self.seed),
                lambda: nkeys.verify(public, b"", b""),
            ):
                error = self.assertRaises(MissingDependencyError, call)
                self.assertIn('pip install "pynats-twisted[nkeys]"', str(error))
            self.assertEqual(nkeys.decode(public)[0], "user")
            self.assertEqual(nkeys.decode_seed(nkeys.create_seed("account"))[0], "account")
