"""Which HTTP headers become NATS headers and back: allow-lists in both directions, and what no list can allow.

Names of headers are compared without regard to case. A header that goes from HTTP to NATS gets the usual spelling
(``Content-Type``), whatever the sender wrote; ``traceparent`` and ``tracestate`` stay in lower case, as W3C and NATS write them.
Several values of one name stay several values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pynats_twisted.errors import ConfigurationError, InvalidHeaderError
from pynats_twisted.protocol.headers import Headers

HOP_BY_HOP: Final = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers that are about one connection and end with it."""

NEVER_FORWARDED: Final = HOP_BY_HOP | {"authorization", "content-length", "cookie", "expect", "host"}
"""Headers of requests that never become NATS headers: about the connection, or credentials for the bridge. Nor does ``Nats-…``."""

NEVER_RETURNED: Final = HOP_BY_HOP | {"content-length", "date", "x-content-type-options"}
"""Headers of replies that never become HTTP headers: the bridge makes its own. Nor does ``Nats-…``."""

HEADER_RULE: Final = "names of HTTP headers that are end to end; never Nats-…"

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", re.ASCII)
# A TAB may stand inside a value; no other control character may, CR and LF least of all.
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BAD_VALUE_BYTES = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]{0,64})?", re.ASCII)

_LOWER_CASE_NAMES: Final = frozenset({"traceparent", "tracestate"})
_SPELLINGS: Final = {"etag": "ETag", "www-authenticate": "WWW-Authenticate", "content-md5": "Content-MD5", "dnt": "DNT"}


def spelling(name: str) -> str:
    """How a header's name is written in NATS messages and HTTP responses: ``content-type`` becomes ``Content-Type``."""
    lower = name.lower()
    if lower in _LOWER_CASE_NAMES:
        return lower
    return _SPELLINGS.get(lower) or "-".join(word.capitalize() for word in lower.split("-"))


def refusal(name: str, never: Iterable[str]) -> str | None:
    """Why *name* cannot be in an allow-list, in words, or None.

    :param never: :data:`NEVER_FORWARDED` or :data:`NEVER_RETURNED`.
    """
    if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
        return "no name of an HTTP header"
    lower = name.lower()
    if lower.startswith("nats-"):
        return "a header that controls NATS, which the bridge alone sets"
    if lower in never:
        return "a header that is never passed on"
    return None


def _checked(names: Iterable[str], never: Iterable[str]) -> list[str]:
    for name in names:
        reason = refusal(name, never)
        if reason is not None:
            raise ConfigurationError(f"header {name!r} is {reason}; allowed: {HEADER_RULE}")
    return list(dict.fromkeys(name.lower() for name in names))


class RequestHeaders:
    """The allow-list from HTTP requests to NATS messages.

    :param names: the headers that pass.
    :param trace: pass ``traceparent`` and ``tracestate`` also when they are not listed.
    :param make_trace: make a ``traceparent`` when the request has no valid one.
    :raises ConfigurationError: a name that no list can allow.
    """

    __slots__ = ("_make_trace", "_names", "_trace")

    def __init__(self, names: Sequence[str], *, trace: bool = True, make_trace: bool = False) -> None:
        listed = _checked(names, NEVER_FORWARDED)
        self._trace = trace or make_trace or "traceparent" in listed
        self._make_trace = make_trace
        self._names = [(name.encode("ascii"), spelling(name)) for name in listed if name not in _LOWER_CASE_NAMES]

    def to_nats(self, found: Mapping[bytes, Sequence[bytes]]) -> Headers:
        """The NATS headers for the headers of a request.

        :param found: values by the name in lower case.
        :raises InvalidHeaderError: a listed header has a control character or is not UTF-8; the text does not contain it.
        """
        headers = Headers()
        for wire_name, name in self._names:
            for value in found.get(wire_name, ()):
                headers.add(name, _text(value, name))
        if self._trace:
            self._add_trace(found, headers)
        return headers

    def _add_trace(self, found: Mapping[bytes, Sequence[bytes]], headers: Headers) -> None:
        parents = found.get(b"traceparent", ())
        # W3C: a trace context that is not valid is not passed on, and its tracestate neither.
        if len(parents) == 1 and _TRACEPARENT.fullmatch(parents[0].decode("latin-1")):
            headers.add("traceparent", parents[0].decode("ascii"))
            for state in found.get(b"tracestate", ()):
                headers.add("tracestate", _text(state, "tracestate"))
        elif self._make_trace:
            headers.add("traceparent", new_traceparent())


class ResponseHeaders:
    """The allow-list from replies of NATS services to HTTP responses.

    :param names: the headers that pass.
    :raises ConfigurationError: a name that no list can allow.
    """

    __slots__ = ("_names",)

    def __init__(self, names: Sequence[str]) -> None:
        self._names = {name: spelling(name).encode("ascii") for name in _checked(names, NEVER_RETURNED)}

    def to_http(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """The HTTP headers for the headers of a reply.

        :raises InvalidHeaderError: a listed header has a control character: it could split the response.
        """
        pairs: list[tuple[bytes, bytes]] = []
        if not headers:
            return pairs
        for name, value in headers.multi_items():
            wire_name = self._names.get(name.lower())
            if wire_name is not None:
                data = value.encode("utf-8", "surrogateescape")
                if _BAD_VALUE_BYTES.search(data):
                    raise InvalidHeaderError(f"the value of header {name!r} has a control character")
                pairs.append((wire_name, data))
        return pairs


def new_traceparent() -> str:
    """A W3C ``traceparent`` that starts a trace: random ids, sampled."""
    random = os.urandom(24).hex()
    return f"00-{random[:32]}-{random[32:]}-01"


def _text(value: bytes, name: str) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidHeaderError(f"the value of header {name!r} is not UTF-8") from None
    if _BAD_VALUE.search(text):
        raise InvalidHeaderError(f"the value of header {name!r} has a control character")
    return text
