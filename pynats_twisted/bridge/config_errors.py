"""What is wrong with a configuration, said so that one can mend it: where, what was found, what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from pynats_twisted.errors import ConfigError

__all__ = ["ConfigError", "FieldProblem", "Problem", "describe_found", "describe_kind", "near_miss", "redact_urls"]

_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")

MAX_FOUND_CHARS = 120
"""Longer values are cut in messages."""


@dataclass(frozen=True)
class FieldProblem:
    """Something wrong with one key of one section; what a section's own rules yield.

    :ivar key: the key, with dots for keys inside tables (``auth.bearer``); empty for the section as a whole.
    :ivar found: what the configuration says, in words. Never a secret.
    :ivar allowed: what it may say.
    :ivar suggestion: the nearest allowed value, or an empty text.
    """

    key: str
    found: str
    allowed: str
    suggestion: str = ""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a configuration.

    :ivar file: the file's name.
    :ivar line: the line, counted from 1; 0 where no line is to blame.
    :ivar path: the key path, for example ``routes.orders-api.timeout``.
    :ivar found: what the configuration says, in words.
    :ivar allowed: what it may say.
    :ivar suggestion: the nearest allowed value, or an empty text.
    """

    file: str
    line: int
    path: str
    found: str
    allowed: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        parts = [f"{place}: {self.path}: " if self.path else f"{place}: ", f"found {self.found}"]
        if self.allowed:
            parts.append(f"; allowed: {self.allowed}")
        if self.suggestion:
            parts.append(f"; did you mean {self.suggestion}?")
        return "".join(parts)

    def as_dict(self) -> dict[str, str | int]:
        """The same as a mapping, for JSON."""
        return asdict(self)


def near_miss(found: object, allowed: Iterable[str]) -> str:
    """The one of *allowed* that *found* was probably meant to be, or an empty text."""
    if not isinstance(found, str):
        return ""
    names = {name.lower().replace("_", "-"): name for name in allowed}
    close = difflib.get_close_matches(found.lower().replace("_", "-"), names, n=1, cutoff=0.6)
    return names[close[0]] if close else ""


def describe_found(found: object) -> str:
    """A configuration value in words, cut to a bounded length, without control characters."""
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, str):
        found = redact_urls(found)
        text = '"' + "".join(char if char.isprintable() else repr(char)[1:-1] for char in found[:MAX_FOUND_CHARS]) + '"'
        return text if len(found) <= MAX_FOUND_CHARS else text[:-1] + '…"'
    if isinstance(found, dict):
        return "a table" + (f" with the keys {_listed(found)}" if found else " without keys")
    if isinstance(found, list):
        return f"an array of {len(found)} values" if len(found) != 1 else "an array of 1 value"
    return str(found)[:MAX_FOUND_CHARS]


def redact_urls(text: str) -> str:
    """*text* with user names, passwords and tokens of URLs in it replaced."""
    return _USER_INFO.sub("<redacted>@", text)


def describe_kind(found: object) -> str:
    """The kind of a value without the value, for places where it may be a secret."""
    kinds = {bool: "a truth value", int: "a whole number", float: "a number", str: "a text", dict: "a table", list: "an array"}
    return kinds.get(type(found), f"a {type(found).__name__}")


def _listed(names: Iterable[object]) -> str:
    listed: Sequence[str] = [str(name)[:40] for name in names]
    return ", ".join(listed[:8]) + (", …" if len(listed) > 8 else "")
