"""What nats-server says when something is wrong, letter by letter, and the rules for subjects that it applies."""

from __future__ import annotations

AUTHENTICATION_TIMEOUT = "Authentication Timeout"
AUTHORIZATION_VIOLATION = "Authorization Violation"
EXPIRED = "User Authentication Expired"
HEADERS_NEEDED = "no responders requires headers support"
INVALID_PROTOCOL = "invalid client protocol"
INVALID_PUBLISH_SUBJECT = "Invalid Publish Subject"
INVALID_SUBJECT = "Invalid Subject"
STALE_CONNECTION = "Stale Connection"
TOO_MANY_CONNECTIONS = "maximum connections exceeded"
TOO_MANY_SUBSCRIPTIONS = "maximum subscriptions exceeded"

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def publish_violation(subject: str) -> str:
    """The text for a publish that is not allowed."""
    return f"Permissions Violation for Publish to {quoted(subject)}"


def subscription_violation(subject: str, queue: str) -> str:
    """The text for a subscription that is not allowed."""
    text = f"Permissions Violation for Subscription to {quoted(subject)}"
    return f"{text} using queue {quoted(queue)}" if queue else text


def quoted(text: str) -> str:
    """As Go's ``%q``. Surrogates stand for bytes that are not UTF-8."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    point = ord(character)
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point - 0xDC00:02x}"
    if character.isprintable():
        return character
    return f"\\x{point:02x}" if point < 0x80 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def is_valid(subject: str) -> bool:
    """Whether a server takes a subscription to it: no empty token, and ``>`` only at the end."""
    tokens = subject.split(".")
    return all(tokens) and ">" not in tokens[:-1]


def is_literal(subject: str) -> bool:
    """Whether it is a subject without wildcards and empty tokens."""
    tokens = subject.split(".")
    return all(tokens) and "*" not in tokens and ">" not in tokens
