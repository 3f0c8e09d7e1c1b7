"""Message headers (ADR-4): names keep their case, a name may have several values, and the order is kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Union

from ..errors import InvalidHeaderError

VERSION_LINE = b"NATS/1.0"

_NAME = re.compile(r"[!-9;-~]+")
_FORBIDDEN_IN_VALUE = re.compile(r"[\r\n\x00\ud800-\udfff]")

MAX_HEADERS = 10_000
"""More lines than this of one inbound header block are left out, and the block is flagged."""

HeadersLike = Union["Headers", Mapping[str, str | Iterable[str]], Iterable[tuple[str, str]]]
"""What is accepted where headers are passed: a mapping of names to a value or to several, or pairs."""


class Headers(MutableMapping[str, str]):
    """A mapping from header names to values that may hold several values for a name.

    ``headers["A"]`` is the first value of ``A`` and ``headers["A"] = "x"`` leaves ``x`` as its only one.
    Lookups are by exact case, as ADR-4 rules; :meth:`get` and :meth:`get_all` take ``ignore_case=True``.
    Iterating gives every name once, in the order in which it came.

    :param headers: a mapping of names to a value or to several, or ``(name, value)`` pairs.
    :raises InvalidHeaderError: a name is not printable ASCII without ``:`` and white space, or a value is not a
        string, or has a CR, LF or NUL.
    """

    __slots__ = ("_from_wire", "_values")

    def __init__(self, headers: HeadersLike | None = None) -> None:
        self._values: dict[str, list[str]] = {}
        # What another client wrote may hold what must not be sent on; it is checked when it is.
        self._from_wire = False
        if headers is not None:
            self._extend(headers)

    def _extend(self, headers: HeadersLike) -> None:
        if isinstance(headers, Headers):
            for name, values in headers._values.items():
                self._values[name] = list(values)
            self._from_wire = headers._from_wire
        elif isinstance(headers, Mapping):
            for name, value in headers.items():
                if isinstance(value, str):
                    self.add(name, value)
                elif isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray, memoryview)):
                    for one in value:
                        self.add(name, one)
                else:
                    self.add(name, value)
        elif isinstance(headers, (str, bytes, bytearray, memoryview)) or not isinstance(headers, Iterable):
            raise InvalidHeaderError(f"headers are a {type(headers).__name__}, not a mapping or (name, value) pairs")
        else:
            for pair in headers:
                if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                    raise InvalidHeaderError(f"headers have {pair!r} in the place of a (name, value) pair")
                self.add(*pair)

    @classmethod
    def _of_wire(cls, values: dict[str, list[str]]) -> Headers:
        headers = cls()
        headers._values = values
        headers._from_wire = True
        return headers

    def add(self, name: str, value: str) -> None:
        """Add a value behind the ones that the name has.

        :raises InvalidHeaderError: the name or the value cannot be sent.
        """
        check_name(name)
        check_value(name, value)
        self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def __setitem__(self, name: str, value: str) -> None:
        check_name(name)
        check_value(name, value)
        self._values[name] = [value]

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def get(self, name: str, default: str | None = None, *, ignore_case: bool = False) -> str | None:  # type: ignore[override]
        """The first value of ``name``, or ``default``.

        :param ignore_case: take the first name that is the same but for upper and lower case.
        """
        values = self._values.get(name)
        if values:
            return values[0]
        if ignore_case:
            found = self.get_all(name, ignore_case=True)
            if found:
                return found[0]
        return default

    def get_all(self, name: str, *, ignore_case: bool = False) -> list[str]:
        """All values of ``name``, in order; an empty list where there is none.

        :param ignore_case: the values of all names that are the same but for upper and lower case.
        """
        if not ignore_case:
            return list(self._values.get(name, ()))
        lower = name.lower()
        return [value for key, values in self._values.items() if key.lower() == lower for value in values]

    def multi_items(self) -> Iterator[tuple[str, str]]:
        """Every ``(name, value)`` pair; a name with several values comes several times."""
        for name, values in self._values.items():
            for value in values:
                yield name, value

    def update(self, headers: HeadersLike = (), /, **more: str | Iterable[str]) -> None:  # type: ignore[override]
        """Replace the values of each name that ``headers`` has by all the values that it has there.

        :raises InvalidHeaderError: a name or a value cannot be sent; nothing was changed.
        """
        given = Headers(headers)
        for name, value in Headers(more).multi_items():
            given.add(name, value)
        self._values.update(given._values)

    def copy(self) -> Headers:
        """A copy that can be changed without changing this one."""
        return Headers(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Headers):
            return self._values == other._values
        if isinstance(other, Mapping):
            try:
                return self._values == Headers(other)._values
            except InvalidHeaderError:
                return False
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({list(self.multi_items())!r})"

    def encode(self) -> bytes:
        """The header block as it goes over the wire, with its version line and the empty line at its end.

        :raises InvalidHeaderError: a value came with a message and cannot be sent on: it has a CR or NUL, or is not UTF-8.
        """
        lines = [b"NATS/1.0\r\n"]
        for name, values in self._values.items():
            for value in values:
                if self._from_wire:
                    check_value(name, value)
                lines.append(f"{name}: {value}\r\n".encode())
        lines.append(b"\r\n")
        return b"".join(lines)


def check_name(name: str) -> None:
    """Check that a header name can be sent: printable ASCII without white space and ``:``.

    :raises InvalidHeaderError: it cannot.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise InvalidHeaderError(f"header name {name!r} is not printable ASCII without white space and ':'")


def check_value(name: str, value: str) -> None:
    """Check that a header value can be sent: a string without CR, LF and NUL.

    :raises InvalidHeaderError: it cannot.
    """
    if not isinstance(value, str):
        raise InvalidHeaderError(f"the value of header {name!r} is a {type(value).__name__}, not a str")
    if _FORBIDDEN_IN_VALUE.search(value) is not None:
        raise InvalidHeaderError(f"the value {value!r} of header {name!r} has a CR, LF or NUL, or a lone surrogate")


class ParsedHeaders:
    """What an inbound header block holds: its status line, its headers, and what is odd about it.

    :ivar headers: the headers that could be read.
    :ivar status: the three-digit status of the first line, or None.
    :ivar status_text: the text behind the status, or ``""``.
    :ivar problem: the first oddness of the block in words, or None. An odd block never costs the message.
    """

    __slots__ = ("headers", "problem", "status", "status_text")

    def __init__(self, headers: Headers, status: int | None, status_text: str, problem: str | None) -> None:
        self.headers = headers
        self.status = status
        self.status_text = status_text
        self.problem = problem


def parse_headers(block: bytes) -> ParsedHeaders:
    """Read a header block that a server delivered. Never raises: another client may have written anything into it."""
    # The rest of a block of too many lines stays in one piece; an empty line ends the last one that counts.
    lines = block.split(b"\n", MAX_HEADERS + 2)
    problem: str | None = None
    if not block.endswith((b"\r\n\r\n", b"\n\n")):
        problem = "the block does not end with an empty line"
    status, status_text, first_problem = _parse_first_line(lines[0].rstrip(b"\r"))
    problem = first_problem or problem
    values: dict[str, list[str]] = {}
    for count, raw in enumerate(lines[1:]):
        line = raw[:-1] if raw.endswith(b"\r") else raw
        if not line:
            continue
        if count >= MAX_HEADERS:
            problem = problem or f"the block has more than {MAX_HEADERS} lines"
            break
        key, colon, value = line.partition(b":")
        if not colon:
            problem = problem or "a line has no colon"
            continue
        name = key.decode("utf-8", "surrogateescape")
        if _NAME.fullmatch(name) is None:
            problem = problem or "a name is empty or not printable ASCII"
            continue
        values.setdefault(name, []).append(value.strip(b" \t").decode("utf-8", "surrogateescape"))
    return ParsedHeaders(Headers._of_wire(values), status, status_text, problem)


def _parse_first_line(line: bytes) -> tuple[int | None, str, str | None]:
    if not line.startswith(VERSION_LINE):
        return None, "", "the block does not start with NATS/1.0"
    rest = line[len(VERSION_LINE) :]
    stripped = rest.strip(b" \t")
    if not stripped:
        return None, "", None
    code, _, text = stripped.partition(b" ")
    if rest[:1] not in (b" ", b"\t") or len(code) != 3 or not code.isdigit():
        return None, "", "the status is not three digits behind a space"
    return int(code), text.strip(b" \t").decode("utf-8", "surrogateescape"), None
