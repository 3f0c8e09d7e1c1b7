"""From the text of an ``-ERR`` to a typed error.

A server gives no codes, only texts; they are compared without regard to case. Subjects inside are written by Go's ``%q``.
"""

from __future__ import annotations

import re

from .. import errors

_BY_TEXT: tuple[tuple[str, type[errors.ServerError]], ...] = (
    ("authorization violation", errors.AuthorizationViolationError),
    ("authentication timeout", errors.AuthenticationTimeoutError),
    ("authorization timeout", errors.AuthenticationTimeoutError),
    ("user authentication expired", errors.AuthenticationExpiredError),
    ("user authentication revoked", errors.AuthenticationRevokedError),
    ("account authentication expired", errors.AccountAuthenticationExpiredError),
    ("failed account registration", errors.AccountRegistrationError),
    ("maximum connections exceeded", errors.MaxConnectionsExceededError),
    ("maximum account active connections exceeded", errors.MaxAccountConnectionsExceededError),
    ("connection throttling is active", errors.ConnectionThrottledError),
    ("maximum subscriptions exceeded", errors.MaxSubscriptionsExceededError),
    ("maximum payload", errors.MaxPayloadViolationError),
    ("maximum control line exceeded", errors.MaxControlLineExceededError),
    ("invalid publish subject", errors.InvalidPublishSubjectError),
    ("invalid subject", errors.ServerInvalidSubjectError),
    ("stale connection", errors.StaleConnectionError),
    ("unknown protocol operation", errors.UnknownProtocolOperationError),
    ("parser error", errors.UnknownProtocolOperationError),
    ("secure connection", errors.SecureConnectionRequiredError),
    ("invalid client protocol", errors.ConnectRefusedError),
    ("no responders requires headers support", errors.ConnectRefusedError),
    ("attempted to connect to", errors.WrongPortError),
    ("wrong port", errors.WrongPortError),
)

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_PERMISSIONS = re.compile(
    rf"permissions violation for (publish with reply of|publish to|subscription to) {_QUOTED}"
    rf"(?: using queue {_QUOTED})?(?:,[^(]*)?(?: \(sid \"([^\"]*)\"\))?",
    re.IGNORECASE | re.DOTALL,
)
_OPERATIONS = {"publish to": "publish", "publish with reply of": "publish with reply", "subscription to": "subscription"}

_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def classify(text: str) -> errors.ServerError:
    """The typed error for the text of an ``-ERR``, given without its outer quotes."""
    lower = text.lower()
    if lower.startswith("permissions violation"):
        found = _PERMISSIONS.match(text)
        if found is not None:
            operation, subject, queue, sid = found.groups()
            return errors.PermissionsViolationError(
                text,
                _OPERATIONS[operation.lower()],
                unquote(subject),
                unquote(queue) if queue is not None else None,
                int(sid) if sid is not None and sid.isascii() and sid.isdigit() and len(sid) < 20 else None,
            )
    for prefix, error in _BY_TEXT:
        if lower.startswith(prefix):
            return error(text)
    return errors.UnknownServerError(text)


def unquote(text: str) -> str:
    """What Go's ``%q`` made of a string, undone. Bytes that are not UTF-8 become surrogates, as in :attr:`Msg.subject`."""
    if "\\" not in text:
        return text
    pieces: list[bytes] = []
    position = 0
    for found in _ESCAPE.finditer(text):
        pieces.append(text[position : found.start()].encode("utf-8", "surrogateescape"))
        code = found.group(1)
        if code[0] == "x" and len(code) == 3:
            pieces.append(bytes((int(code[1:], 16),)))
        elif code[0] in "uU" and len(code) > 1:
            point = int(code[1:], 16)
            pieces.append(chr(point).encode("utf-8", "surrogatepass") if point <= 0x10FFFF else b"?")
        else:
            pieces.append(_SIMPLE.get(code, code).encode("utf-8", "surrogateescape"))
        position = found.end()
    pieces.append(text[position:].encode("utf-8", "surrogateescape"))
    return b"".join(pieces).decode("utf-8", "surrogateescape")
