"""Subject templates: subjects with placeholders, into which values of a peer are put as one token or part of one.

Whatever a value holds, it can neither add a token, nor a wildcard, nor an argument or a line to the wire: it is refused, or with
``token_encoding = "percent"`` encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal
from urllib.parse import quote, unquote_to_bytes

from pynats_twisted.bridge.config_errors import near_miss
from pynats_twisted.errors import InvalidSubjectError, TemplateError, TemplateValueError
from pynats_twisted.protocol.subjects import check_publish_subject

MAX_VALUE_BYTES: Final = 128
"""Longest value of a placeholder, in bytes of UTF-8, before it is encoded."""

MAX_SUBJECT_BYTES: Final = 1024
"""Longest subject that a template may make, in bytes."""

PLACEHOLDER_RULE: Final = "{name}, {query:name}, {header:name}, {method}, {peer}, or {1} and so on for a wildcard"

TokenEncoding = Literal["strict", "percent"]
"""What happens to a value with characters that a token may not have: ``strict`` refuses it, ``percent`` encodes them."""

_PLACEHOLDER = re.compile(
    r"[A-Za-z_][A-Za-z0-9_-]{0,63}|[1-9][0-9]?|query:[A-Za-z0-9_.\-\[\]]{1,64}|header:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII
)
# \s has all of Unicode's white space, so also what the server does not take for a separator, but people do.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_FORBIDDEN = re.compile(r"[\s.*>\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TO_ENCODE = re.compile(r"[\s.*>%]")
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# What templates must not reach: system and API subjects, and the inboxes of others.
_RESERVED_STARTS = ("$", "_INBOX")


class SubjectTemplate:
    """A subject with placeholders, for example ``svc.orders.{method}.{id}``.

    :param text: the template. It starts with literal text that is not ``$`` or ``_INBOX``.
    :param token_encoding: ``strict`` or ``percent``, see :data:`TokenEncoding`.
    :raises TemplateError: the template breaks a rule.

    :ivar text: the template as given.
    :ivar names: the placeholders in their order, each once; names of headers in lower case.
    """

    __slots__ = ("_encode", "_parts", "_substituted_start", "names", "text")

    def __init__(self, text: str, token_encoding: TokenEncoding = "strict") -> None:
        if token_encoding not in ("strict", "percent"):
            raise TemplateError(f'token_encoding {token_encoding!r} is not "strict" or "percent"')
        self.text = text
        self._encode = token_encoding == "percent"
        self._parts = _parse(text)
        names = self._parts[1::2]
        self.names: tuple[str, ...] = tuple(dict.fromkeys(names))
        self._check()
        self._substituted_start = bool(names) and "." not in self._parts[0]

    def _check(self) -> None:
        if not self._parts[0]:
            raise TemplateError(f"subject template {self.text!r} starts with a placeholder: a peer could choose any subject")
        if self._parts[0].startswith(_RESERVED_STARTS):
            raise TemplateError(f"subject template {self.text!r} starts with {self._reserved(self._parts[0])!r}, which is reserved")
        for literal in self._parts[0::2]:
            if "*" in literal or ">" in literal:
                raise TemplateError(f"subject template {self.text!r} has a wildcard; a message goes to one subject")
            if _FORBIDDEN.search(literal.replace(".", "")):
                raise TemplateError(f"subject template {self.text!r} has white space or a control character")
        filled = "".join("x" if index % 2 else part for index, part in enumerate(self._parts))
        try:
            check_publish_subject(filled)
        except InvalidSubjectError as error:
            raise TemplateError(f"subject template {self.text!r} makes no valid subject: {error}") from None
        if len(filled.encode("utf-8")) > MAX_SUBJECT_BYTES:
            raise TemplateError(f"subject template {self.text[:40]!r}… is longer than {MAX_SUBJECT_BYTES} bytes")

    @staticmethod
    def _reserved(text: str) -> str:
        return next(start for start in _RESERVED_STARTS if text.startswith(start))

    @property
    def pattern(self) -> str:
        """The subjects that the template can make, as a subject with wildcards: ``svc.orders.*.*``."""
        marked = "".join("*" if index % 2 else part for index, part in enumerate(self._parts))
        return ".".join("*" if "*" in token else token for token in marked.split("."))

    def check_names(self, available: Iterable[str]) -> None:
        """Check that every placeholder will have a value.

        :param available: names that have one: plain names, and ``query:`` and ``header:`` for all query parameters and headers.
        :raises TemplateError: a placeholder is none of them.
        """
        names = list(available)
        for name in self.names:
            kind = name.partition(":")[0] + ":" if ":" in name else name
            if kind not in names:
                close = near_miss(name, (known for known in names if not known.endswith(":")))
                listed = ", ".join(f"{{{known}…}}" if known.endswith(":") else f"{{{known}}}" for known in names) or "none"
                hint = f"; did you mean {{{close}}}?" if close else ""
                raise TemplateError(f"subject template {self.text!r}: nothing fills {{{name}}}; allowed: {listed}{hint}")

    def expand(self, values: Mapping[str, str | bytes]) -> str:
        """The subject with the values in their places.

        :param values: a value for each of :attr:`names`; bytes are taken as UTF-8. Names that the template has not are ignored.
        :raises TemplateValueError: a value is missing or cannot be (part of) a token, or the subject becomes too long.
        """
        if not self.names:
            return self.text
        parts = self._parts.copy()
        for index in range(1, len(parts), 2):
            parts[index] = self._token(parts[index], values)
        subject = "".join(parts)
        if self._substituted_start and subject.startswith(_RESERVED_STARTS):
            raise TemplateValueError("", "reserved", f"the subject would start with the reserved {self._reserved(subject)!r}")
        if len(subject) > MAX_SUBJECT_BYTES or len(subject.encode("utf-8")) > MAX_SUBJECT_BYTES:
            raise TemplateValueError("", "subject-too-long", f"the subject would be longer than {MAX_SUBJECT_BYTES} bytes")
        return subject

    def _token(self, name: str, values: Mapping[str, str | bytes]) -> str:
        value = values.get(name)
        if value is None:
            raise TemplateValueError(name, "missing", "it is missing")
        if isinstance(value, bytes):
            if len(value) > MAX_VALUE_BYTES:
                raise _too_long(name)
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError:
                raise TemplateValueError(name, "not-utf-8", "it is not UTF-8") from None
        if not value:
            raise TemplateValueError(name, "empty", "it is empty")
        if len(value) > MAX_VALUE_BYTES:
            raise _too_long(name)
        found = (_CONTROL if self._encode else _FORBIDDEN).search(value)
        if found is not None:
            raise TemplateValueError(name, "forbidden-character", f"a token may not have the character {found[0]!a}")
        if not value.isascii() and len(value.encode("utf-8")) > MAX_VALUE_BYTES:
            raise _too_long(name)
        return _TO_ENCODE.sub(_percent, value) if self._encode else value

    def __repr__(self) -> str:
        return f"<SubjectTemplate {self.text!r}>"


def percent_decode(raw: str | bytes, name: str = "") -> str:
    """What a percent-encoded segment of a URL's path says.

    :param name: the placeholder that it is for, named by the error.
    :raises TemplateValueError: a ``%`` without two hexadecimal digits, or bytes that are not UTF-8.
    """
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    if _BAD_PERCENT.search(data):
        raise TemplateValueError(name, "bad-percent-encoding", "it has a % without two hexadecimal digits")
    try:
        return unquote_to_bytes(data).decode("utf-8")
    except UnicodeDecodeError:
        raise TemplateValueError(name, "not-utf-8", "it is not UTF-8") from None


def _parse(text: str) -> list[str]:
    """Literals at even places, names of placeholders at odd ones."""
    if not isinstance(text, str) or not text:
        raise TemplateError("a subject template is a text that is not empty")
    parts = re.split(r"\{([^{}]*)\}", text)
    for index, part in enumerate(parts):
        if index % 2 == 0:
            if "{" in part or "}" in part:
                raise TemplateError(f"subject template {text!r} has a brace without its partner")
            continue
        if _PLACEHOLDER.fullmatch(part) is None:
            raise TemplateError(f"subject template {text!r}: {{{part}}} is no placeholder; allowed: {PLACEHOLDER_RULE}")
        if part.startswith("header:"):
            parts[index] = part.lower()
    return parts


def _percent(match: re.Match[str]) -> str:
    char = match[0]
    # quote() leaves the dot alone, which is the one that matters here.
    return "%2E" if char == "." else quote(char, safe="")


def _too_long(name: str) -> TemplateValueError:
    return TemplateValueError(name, "too-long", f"it is longer than {MAX_VALUE_BYTES} bytes")
