"""Subjects, queue groups and inboxes: what is valid, what matches, how new names are made.

The server takes nearly any byte in a subject, and reads white space as the end of an argument: what is not checked here
could add an argument or a line to the wire. So the checks below run on everything that a caller passes.
"""

from __future__ import annotations

import re
import secrets

from ..errors import InvalidQueueError, InvalidSubjectError

# Control characters and white space. A lone CR or a NUL would be relayed by a server and break other clients.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\x85\u2028\u2029\ud800-\udfff]")

#: Matches what nearly every subject is: tokens of ASCII without a wildcard. One look, where the rules of what is right take several.
is_plain = re.compile(r"[!-)+-\-/-=?-~]+(?:\.[!-)+-\-/-=?-~]+)*").fullmatch

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class LiteralSubject(str):
    """A subject to publish to in which ``*`` and ``>`` may be tokens, and stand for themselves.

    Only the API of JetStream takes such: a filter is a part of the subject that makes a consumer, so that permissions can be given by it.
    """

    __slots__ = ()


def check_publish_subject(subject: str) -> None:
    """Check a subject to publish to, or a reply subject.

    :raises InvalidSubjectError: it is not a string, is empty, has an empty token, white space, a control character or a wildcard.
    """
    if subject.__class__ is str and is_plain(subject) is not None:
        return
    _check_tokens(subject)
    if ("*" in subject or ">" in subject) and not isinstance(subject, LiteralSubject):
        for token in subject.split("."):
            if token in ("*", ">"):
                raise InvalidSubjectError(f"subject {subject!r} has the wildcard {token!r}, which only a subscription may have")


def check_subscribe_subject(subject: str) -> None:
    """Check a subject to subscribe to; ``*`` may be any token and ``>`` the last one.

    :raises InvalidSubjectError: it is not a string, is empty, has an empty token, white space, a control character, or a ``>`` that is not
        the last token.
    """
    _check_tokens(subject)
    if ">" in subject:
        tokens = subject.split(".")
        if ">" in tokens[:-1]:
            raise InvalidSubjectError(f"subject {subject!r} has '>' before its last token")


def _check_tokens(subject: str) -> None:
    if not isinstance(subject, str):
        raise InvalidSubjectError(f"subject {subject!r} is a {type(subject).__name__}, not a str")
    if not subject:
        raise InvalidSubjectError("the subject is empty")
    found = _FORBIDDEN.search(subject)
    if found is not None:
        raise InvalidSubjectError(f"subject {subject!r} has white space or a control character at position {found.start()}")
    if subject[0] == "." or subject[-1] == "." or ".." in subject:
        raise InvalidSubjectError(f"subject {subject!r} has an empty token")


def check_queue(queue: str) -> None:
    """Check the name of a queue group.

    :raises InvalidQueueError: it is not a string, is empty, or has white space or a control character.
    """
    if not isinstance(queue, str):
        raise InvalidQueueError(f"queue group {queue!r} is a {type(queue).__name__}, not a str")
    if not queue:
        raise InvalidQueueError("the queue group is empty")
    found = _FORBIDDEN.search(queue)
    if found is not None:
        raise InvalidQueueError(f"queue group {queue!r} has white space or a control character at position {found.start()}")


def check_inbox_prefix(prefix: str) -> None:
    """Check an inbox prefix: a subject without wildcards.

    :raises InvalidSubjectError: it breaks a rule of :func:`check_publish_subject`.
    """
    check_publish_subject(prefix)


def matches(pattern: str, subject: str) -> bool:
    """Whether a subscription to ``pattern`` gets what is published to ``subject``."""
    if pattern == subject:
        return True
    wanted = pattern.split(".")
    tokens = subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">" and index == len(wanted) - 1:
            return len(tokens) > index
        if index >= len(tokens) or (token != "*" and token != tokens[index]):
            return False
    return len(wanted) == len(tokens)


def random_token(length: int = 22) -> str:
    """A random name of ``length`` letters and digits, from the system's source of secrets; 22 of them hold 131 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def new_inbox(prefix: str = "_INBOX") -> str:
    """A subject that nobody else listens on, for replies."""
    return f"{prefix}.{random_token()}"
