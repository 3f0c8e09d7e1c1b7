"""Filters of event streams: subjects with wildcards, in which values of a request stand for single tokens."""

from __future__ import annotations

import re

from pynats_twisted.bridge.subjects import MAX_SUBJECT_BYTES, SubjectTemplate
from pynats_twisted.errors import InvalidSubjectError, TemplateError
from pynats_twisted.protocol.subjects import check_subscribe_subject

FILTER_RULE = 'a subject such as "chat.{room}.>"; * stands for one token, > at the end for the rest'

_WHITE_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_RESERVED_STARTS = ("$", "_INBOX")


class FilterTemplate(SubjectTemplate):
    """A filter with placeholders, for example ``chat.{room}.>``.

    The wildcards are those of the configuration: a value that is put in can be none, see
    :class:`~pynats_twisted.bridge.subjects.SubjectTemplate`.

    :param text: the template. It does not start with a placeholder.
    :param token_encoding: ``strict`` or ``percent``.
    :raises TemplateError: the template breaks a rule.
    """

    __slots__ = ()

    def _check(self) -> None:
        if not self._parts[0]:
            raise TemplateError(f"filter {self.text!r} starts with a placeholder: a peer could choose any subject")
        if any(_WHITE_SPACE.search(literal) for literal in self._parts[0::2]):
            raise TemplateError(f"filter {self.text!r} has white space or a control character")
        filled = "".join("x" if index % 2 else part for index, part in enumerate(self._parts))
        if any(token not in ("*", ">") and ("*" in token or ">" in token) for token in filled.split(".")):
            raise TemplateError(f"filter {self.text!r}: a wildcard is a whole token")
        try:
            check_subscribe_subject(filled)
        except InvalidSubjectError as error:
            raise TemplateError(f"filter {self.text!r} makes no valid subject: {error}") from None
        if len(filled.encode("utf-8")) > MAX_SUBJECT_BYTES:
            raise TemplateError(f"filter {self.text[:40]!r}… is longer than {MAX_SUBJECT_BYTES} bytes")

    def check_core(self) -> None:
        """Check that it can be subscribed to outside of streams, where every subject is within reach.

        :raises TemplateError: it begins with a wildcard, or with what is reserved.
        """
        start = self._parts[0]
        if start.startswith(("*", ">", *_RESERVED_STARTS)):
            raise TemplateError(f"subject {self.text!r} begins with a wildcard, $ or _INBOX: that would show what is not for browsers")


def wildcard_values(pattern: str, subject: str) -> list[str]:
    """What the wildcards of *pattern* stand for in a *subject* that it matches; for ``>`` it may be several tokens."""
    tokens = subject.split(".")
    values: list[str] = []
    for index, token in enumerate(pattern.split(".")):
        if token == "*":
            values.append(tokens[index])
        elif token == ">":
            values.append(".".join(tokens[index:]))
    return values
