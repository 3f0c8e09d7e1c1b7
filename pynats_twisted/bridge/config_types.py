"""The value types of the configuration: durations, sizes, paths and secrets.

Each is usable as the annotation of a field of a section. ``Duration`` and ``ByteSize`` are plain numbers for the type checker
and at run time, so that defaults are plain numbers too::

    class MyConfig(RouteConfig, kw_only=True, frozen=True):
        timeout: PositiveDuration = 2.0
        max_body: ByteSize = 256 * KIB
        token: Secret | None = None
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Final

from msgspec import Meta

from pynats_twisted.errors import CredentialsError

KIB: Final = 1024
MIB: Final = 1024 * 1024

MAX_SECRET_BYTES: Final = 1024 * 1024
"""Longest file that a secret is read from, in bytes."""

_DURATION_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS: Final = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
_NUMBER_WITH_UNIT: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([a-z]*)", re.ASCII | re.IGNORECASE)

DURATION_RULE: Final = 'seconds as a number, or a text such as "500ms", "2s", "1m", "1h"'
SIZE_RULE: Final = 'bytes as a whole number, or a text such as "512B", "64KiB", "1MiB"'
SECRET_RULE: Final = 'a text, { env = "NAME" } or { file = "path" }'
SECRET_FILE_RULE: Final = 'a path, { file = "path" }, or { env = "NAME" } with the content itself'


def parse_duration(text: str) -> float:
    """The seconds that *text* says: ``"500ms"``, ``"2s"``, ``"1.5m"``, ``"1h"``, ``"7d"``; without a unit, seconds.

    :raises ValueError: *text* is no duration.
    """
    match = _NUMBER_WITH_UNIT.fullmatch(text.strip())
    unit = match[2].lower() if match else ""
    if match is None or (unit or "s") not in _DURATION_UNITS:
        raise ValueError(f"{text!r} is no duration; allowed: {DURATION_RULE}")
    return float(match[1]) * _DURATION_UNITS[unit or "s"]


def parse_size(text: str) -> int:
    """The bytes that *text* says: ``"64KiB"`` is 65,536, ``"64kB"`` is 64,000; without a unit, bytes.

    :raises ValueError: *text* is no size, or no whole number of bytes.
    """
    match = _NUMBER_WITH_UNIT.fullmatch(text.strip())
    unit = match[2].lower() if match else ""
    if match is None or (unit or "b") not in _SIZE_UNITS:
        raise ValueError(f"{text!r} is no size; allowed: {SIZE_RULE}")
    size = float(match[1]) * _SIZE_UNITS[unit or "b"] if "." in match[1] else int(match[1]) * _SIZE_UNITS[unit or "b"]
    if size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def format_duration(seconds: float) -> str:
    """*seconds* as the configuration writes them: in the largest unit that needs no fraction. Less than a microsecond is lost."""
    microseconds = round(seconds * 1_000_000)
    for unit, factor in (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000)):
        if microseconds and microseconds % factor == 0:
            return f"{microseconds // factor}{unit}"
    return f"{microseconds}us" if microseconds else "0s"


def format_size(size: int) -> str:
    """*size* bytes as the configuration writes them: in the largest binary unit that needs no fraction."""
    for unit, factor in (("GiB", 1024**3), ("MiB", MIB), ("KiB", KIB)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


# The converter finds these by the "kind" in their Meta, parses a text, and leaves the bounds to msgspec.

# msgspec keeps a "type" of its own in a schema, so that the schema's writer adds "string" where "x-kind" says so.
_DURATION_SCHEMA: Final[dict[str, Any]] = {"x-kind": "duration", "description": DURATION_RULE}
_SIZE_SCHEMA: Final[dict[str, Any]] = {"x-kind": "size", "description": SIZE_RULE}

Duration = Annotated[float, Meta(ge=0, extra={"kind": "duration"}, extra_json_schema=_DURATION_SCHEMA)]
"""Seconds, as a float, 0 or more; written ``"2s"``, ``"500ms"``, ``"1m"``, or as a number of seconds."""

PositiveDuration = Annotated[float, Meta(gt=0, extra={"kind": "duration"}, extra_json_schema=_DURATION_SCHEMA)]
"""Seconds, as a float, more than 0."""

ByteSize = Annotated[int, Meta(ge=0, extra={"kind": "size"}, extra_json_schema=_SIZE_SCHEMA)]
"""Bytes, as an int, 0 or more; written ``"256KiB"``, ``"1MiB"``, ``"64kB"``, or as a number of bytes."""

PositiveByteSize = Annotated[int, Meta(gt=0, extra={"kind": "size"}, extra_json_schema=_SIZE_SCHEMA)]
"""Bytes, as an int, more than 0."""

FilePath = Annotated[str, Meta(min_length=1, extra={"kind": "path"})]
"""The path of a file; a relative one starts at the directory of the configuration file. It is made absolute when read."""


class Secret:
    """A value that must not be shown: a token, a password, a key.

    Written as a text, as ``{ env = "NAME" }`` or as ``{ file = "path" }``. Its repr names where the value comes from, never
    the value. White space around the value is cut off, so that a file may end with a line feed.

    :param literal: the value itself.
    :param env: the name of an environment variable with the value.
    :param file: the path of a file with the value (UTF-8, at most 1 MiB).
    """

    __slots__ = ("_cached", "_literal", "env", "file")

    def __init__(self, literal: str | None = None, *, env: str | None = None, file: str | None = None) -> None:
        if sum(source is not None for source in (literal, env, file)) != 1:
            raise ValueError("a secret has exactly one of: a text, env, file")
        self._literal = literal
        self._cached: str | None = None
        self.env = env
        self.file = file

    @classmethod
    def from_config(cls, found: object, directory: str = "") -> Secret:
        """The secret that a configuration value describes.

        :param directory: where a relative path starts.
        :raises ValueError: the value is of none of the three forms. The text does not contain it.
        """
        if isinstance(found, str):
            return cls._from_text(found, directory)
        if isinstance(found, dict) and len(found) == 1:
            ((key, text),) = found.items()
            if isinstance(text, str) and text:
                if key == "env":
                    return cls(env=text)
                if key == "file":
                    return cls(file=os.path.join(directory, text))
        raise ValueError(cls.rule())

    @classmethod
    def _from_text(cls, text: str, directory: str) -> Secret:
        if not text.strip():
            raise ValueError(cls.rule())
        return cls(text)

    @classmethod
    def rule(cls) -> str:
        """What the configuration may say, in words."""
        return SECRET_RULE

    @property
    def source(self) -> str:
        """Where the value comes from, in words that may be shown."""
        if self.env is not None:
            return f"environment variable {self.env}"
        return f"file {self.file}" if self.file is not None else "the configuration"

    @property
    def value(self) -> str:
        """The value, read at the first use and kept.

        :raises CredentialsError: it cannot be read, or is empty.
        """
        if self._cached is None:
            self._cached = self.read()
        return self._cached

    @property
    def values(self) -> list[str]:
        """The value as a list, for secrets that may be several (to rotate them): split at commas and white space."""
        return re.split(r"[,\s]+", self.value.strip(", \t\r\n"))

    def read(self) -> str:
        """The value, read anew, so that a changed file counts.

        :raises CredentialsError: it cannot be read, or is empty. The text says why and never contains the value.
        """
        if self.env is not None:
            text = os.environ.get(self.env)
            if text is None:
                raise CredentialsError(f"environment variable {self.env} is not set")
        elif self.file is not None:
            text = _read_text(self.file)
        else:
            text = self._literal or ""
        text = text.strip()
        if not text:
            raise CredentialsError(f"{self.source} is empty")
        self._cached = text
        return text

    def problem(self) -> str | None:
        """Why the value cannot be read, or None."""
        try:
            self.read()
        except CredentialsError as error:
            return str(error)
        return None

    def describe(self) -> object:
        """The secret as the configuration writes it, a literal value being replaced by ``"<redacted>"``."""
        if self.env is not None:
            return {"env": self.env}
        return {"file": self.file} if self.file is not None else "<redacted>"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} from {self.source}>"


class SecretFile(Secret):
    """A secret that usually is a file, such as NATS credentials: a bare text is the path of that file."""

    __slots__ = ()

    @classmethod
    def _from_text(cls, text: str, directory: str) -> Secret:
        if not text.strip():
            raise ValueError(cls.rule())
        return cls(file=os.path.join(directory, text))

    @classmethod
    def rule(cls) -> str:
        """What the configuration may say, in words."""
        return SECRET_FILE_RULE


def _read_text(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise CredentialsError(f"file {path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_SECRET_BYTES:
        raise CredentialsError(f"file {path} is longer than {MAX_SECRET_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise CredentialsError(f"file {path} is not UTF-8") from None
