"""Durations, sizes and secrets of the configuration."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.config_types import (
    KIB,
    MAX_SECRET_BYTES,
    MIB,
    Secret,
    SecretFile,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from pynats_twisted.errors import CredentialsError


class DurationTests(SynchronousTestCase):
    def test_units(self) -> None:
        """A number with a unit says seconds, and without one too."""
        expected = {"250us": 0.00025, "500ms": 0.5, "2s": 2.0, "1.5s": 1.5, "1m": 60.0, "2h": 7200.0, "7d": 604800.0, "3": 3.0, "2 S": 2.0}
        self.assertEqual({text: parse_duration(text) for text in expected}, expected)

    def test_refused(self) -> None:
        """What is no number with a known unit is refused, and the error says what is allowed."""
        for text in ("", "s", "-1s", "2 sec", "1e3s", "2s2s", "inf", "nan", "1_000s", "2,5s", "٣s"):
            error = self.assertRaises(ValueError, parse_duration, text)
            self.assertIn("500ms", str(error), text)

    @given(st.integers(0, 10**9))
    def test_round_trip(self, milliseconds: int) -> None:
        """A printed duration reads as the same number of seconds."""
        self.assertAlmostEqual(parse_duration(format_duration(milliseconds / 1000)), milliseconds / 1000, places=6)


class SizeTests(SynchronousTestCase):
    def test_units(self) -> None:
        """KiB counts by 1024, kB by 1000, no unit is bytes."""
        expected = {"0": 0, "512B": 512, "64KiB": 65536, "64kB": 64000, "1.5MiB": 3 * MIB // 2, "2 GiB": 2 * 1024 * MIB, "10": 10}
        self.assertEqual({text: parse_size(text) for text in expected}, expected)

    def test_refused(self) -> None:
        """What is no whole number of bytes is refused."""
        for text in ("", "KiB", "-1", "0.5B", "1.0001KiB", "64K", "64 kilobytes", "1e6"):
            self.assertRaises(ValueError, parse_size, text)

    @given(st.integers(0, 2**40))
    def test_round_trip(self, size: int) -> None:
        """A printed size reads as the same number of bytes."""
        self.assertEqual(parse_size(format_size(size)), size)

    def test_printed_in_the_largest_unit(self) -> None:
        """A printed size uses the largest unit that needs no fraction."""
        self.assertEqual([format_size(size) for size in (0, 100, 256 * KIB, MIB, MIB + 1)], ["0B", "100B", "256KiB", "1MiB", "1048577B"])


class SecretTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)

    def file(self, data: bytes) -> str:
        path = Path(self.directory, "secret")
        path.write_bytes(data)
        return str(path)

    def environ(self, **values: str) -> None:
        self.patch(os, "environ", {**os.environ, **values})

    def test_literal(self) -> None:
        """A text is the value itself."""
        self.assertEqual(Secret.from_config("s3cret").value, "s3cret")

    def test_from_the_environment(self) -> None:
        """``{ env = "NAME" }`` takes a variable's value, without the white space around it."""
        self.environ(BRIDGE_TEST=" s3cret\n")
        self.assertEqual(Secret.from_config({"env": "BRIDGE_TEST"}).value, "s3cret")

    def test_from_a_file(self) -> None:
        """``{ file = "path" }`` takes a file's content, without the line feed at its end."""
        self.file(b"s3cret\n")
        self.assertEqual(Secret.from_config({"file": "secret"}, self.directory).value, "s3cret")

    def test_file_is_read_again(self) -> None:
        """``read`` sees that a file has changed; ``value`` keeps what was read last."""
        secret = Secret(file=self.file(b"old"))
        self.assertEqual(secret.value, "old")
        self.file(b"new")
        self.assertEqual(secret.value, "old")
        self.assertEqual(secret.read(), "new")
        self.assertEqual(secret.value, "new")

    def test_several(self) -> None:
        """A secret may hold several values, by commas or white space, so that they can be rotated."""
        self.assertEqual(Secret("one, two\nthree").values, ["one", "two", "three"])
        self.assertEqual(Secret("one").values, ["one"])

    def test_missing(self) -> None:
        """Of a secret that cannot be read, ``problem`` says why."""
        self.environ(BRIDGE_EMPTY="  ")
        binary = Secret(file=self.file(b"\xff"))
        problems = {
            "is not set": Secret(env="BRIDGE_NO_SUCH_VARIABLE"),
            "is empty": Secret(env="BRIDGE_EMPTY"),
            "cannot be read": Secret(file=os.path.join(self.directory, "none")),
            "not UTF-8": binary,
        }
        for expected, secret in problems.items():
            self.assertIn(expected, secret.problem() or "")
            self.assertRaises(CredentialsError, secret.read)
        self.assertIsNone(Secret("x").problem())

    def test_long_file(self) -> None:
        """A file beyond the bound is refused instead of being read."""
        secret = Secret(file=self.file(b"x" * (MAX_SECRET_BYTES + 1)))
        self.assertIn("longer than", secret.problem() or "")

    def test_never_shown(self) -> None:
        """Neither repr nor description nor an error shows the value."""
        self.environ(BRIDGE_TEST="s3cret")
        for secret in (Secret("s3cret"), Secret(env="BRIDGE_TEST"), Secret(file=self.file(b"s3cret"))):
            self.assertEqual(secret.value, "s3cret")
            self.assertNotIn("s3cret", repr(secret) + str(secret) + str(secret.describe()))
        for wrong in (["s3cret"], {"env": "s3cret", "file": "x"}, {"value": "s3cret"}, 5):
            error = self.assertRaises(ValueError, Secret.from_config, wrong)
            self.assertNotIn("s3cret", str(error))

    def test_refused(self) -> None:
        """A value of another form is refused, and the error names the three forms."""
        for wrong in ("", "  ", 5, None, {}, {"env": ""}, {"env": 5}, {"vault": "x"}, ["x"], {"env": "A", "file": "b"}):
            error = self.assertRaises(ValueError, Secret.from_config, wrong)
            self.assertIn("env", str(error))

    def test_one_source(self) -> None:
        """A secret has exactly one source."""
        self.assertRaises(ValueError, Secret)
        self.assertRaises(ValueError, Secret, "x", env="Y")

    def test_a_text_is_a_path_for_files(self) -> None:
        """For secrets that usually are files, a text is a path, which starts at the configuration's directory."""
        self.file(b"s3cret")
        secret = SecretFile.from_config("secret", self.directory)
        self.assertEqual((secret.value, secret.file), ("s3cret", os.path.join(self.directory, "secret")))
