"""What the server takes as a name, as a subject and as a subject with wildcards, and how such subjects relate.

Each ``…_problem`` function returns the rule that is broken, in words, or an empty text.
"""

from __future__ import annotations

import re

from ...errors import InvalidNameError, InvalidSubjectError

MAX_NAME = 255

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\x85\u2028\u2029\ud800-\udfff]")
_NAME = re.compile(r"[^\x00-\x20\x7f\x85\u2028\u2029\ud800-\udfff.*>/\\]+")
_GROUP = re.compile(r"[a-zA-Z0-9/_=-]{1,16}")


def name_problem(name: object) -> str:
    """What is wrong with the name of a stream or a consumer (ADR-6)."""
    if not isinstance(name, str):
        return "must be a str"
    if not name:
        return "must not be empty"
    if not _NAME.fullmatch(name):
        return "must not have white space, control characters, or any of . * > / \\"
    if len(name) > MAX_NAME // 4 and len(name.encode()) > MAX_NAME:
        return f"must be at most {MAX_NAME} bytes long"
    return ""


def group_problem(name: object) -> str:
    """What is wrong with the name of a priority group (ADR-42)."""
    if isinstance(name, str) and _GROUP.fullmatch(name):
        return ""
    return "must be 1 to 16 characters, each a letter, a digit, or one of - _ / ="


def subject_problem(subject: object, *, wildcards: bool = False) -> str:
    """What is wrong with a subject.

    :param wildcards: it is a filter: ``*`` may be any token and ``>`` the last one.
    """
    if not isinstance(subject, str):
        return "must be a str"
    if not subject:
        return "must not be empty"
    if _FORBIDDEN.search(subject):
        return "must not have white space or control characters"
    if subject[0] == "." or subject[-1] == "." or ".." in subject:
        return "must not have an empty token"
    if "*" in subject or ">" in subject:
        tokens = subject.split(".")
        if not wildcards and ("*" in tokens or ">" in tokens):
            return "must not have a wildcard"
        if ">" in tokens[:-1]:
            return "must have '>' as its last token only"
    return ""


def check_name(what: str, name: str) -> None:
    """Check the name of a stream, a consumer or a domain.

    :param what: ``stream``, ``consumer`` or ``domain``, for the text of the error.
    :raises InvalidNameError: it breaks a rule.
    """
    problem = name_problem(name)
    if problem:
        raise InvalidNameError(f"{what} name {shortened(name)} {problem}")


def check_subject(what: str, subject: str, *, wildcards: bool = False) -> None:
    """Check a subject that becomes a part of another one.

    :param what: what it is, for the text of the error.
    :raises InvalidSubjectError: it breaks a rule.
    """
    problem = subject_problem(subject, wildcards=wildcards)
    if problem:
        raise InvalidSubjectError(f"{what} {shortened(subject)} {problem}")


def shortened(value: object) -> str:
    """A value for the text of an error."""
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:80] + "…"


def collide(one: str, other: str) -> bool:
    """Whether a subject exists that both match. Both may have wildcards."""
    left, right = one.split("."), other.split(".")
    for mine, theirs in zip(left, right, strict=False):
        if mine == ">" or theirs == ">":
            return True
        if mine not in ("*", theirs) and theirs != "*":
            return False
    return len(left) == len(right)


def is_subset(inner: str, outer: str) -> bool:
    """Whether every subject that ``inner`` matches is matched by ``outer`` too."""
    mine, theirs = inner.split("."), outer.split(".")
    for index, token in enumerate(theirs):
        if index >= len(mine):
            return False
        if token == ">":
            return True
        if mine[index] == ">" or (token not in ("*", mine[index])):
            return False
    return len(mine) == len(theirs)
