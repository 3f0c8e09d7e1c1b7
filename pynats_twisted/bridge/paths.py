"""Path templates of HTTP routes, and the table that finds the route of a request.

A template is a path whose segments are either literal or one placeholder: ``/orders/{id}``. A placeholder takes exactly one
segment, so a path never has two meanings: templates that could both match one path are refused when they are added.

A request's path is split at its slashes first and percent-decoded afterwards, once. ``%2F`` is therefore part of a segment and never
a new one, and ``%252F`` is the text ``%2F``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Generic, TypeVar

from pynats_twisted.bridge.subjects import percent_decode
from pynats_twisted.errors import ConfigurationError

PATH_RULE: Final = 'a path such as "/orders/{id}": segments of letters, digits and - . _ ~ ! $ & \' ( ) * + , ; = : @, or one {name} each'

MAX_SEGMENTS: Final = 64
"""Most segments of a template. A request's path with more matches nothing."""

_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]{0,63})\}", re.ASCII)

T = TypeVar("T")


class PathTemplate:
    """A path with placeholders.

    :param text: the template. It starts with ``/``; only ``/`` itself may end with one.
    :raises ConfigurationError: the template breaks a rule; the text names both.

    :ivar text: the template as given.
    :ivar names: the placeholders, in order.
    """

    __slots__ = ("_segments", "names", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._segments = tuple(_parse(text))
        self.names: tuple[str, ...] = tuple(name for _, name in self._segments if name)
        repeated = {name for name in self.names if self.names.count(name) > 1}
        if repeated:
            raise ConfigurationError(f"path {text!r} has the placeholder {{{min(repeated)}}} more than once")

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """The values of the placeholders when the decoded *segments* match, or None.

        A value may be empty or hold any character: what may go into a subject is the subject template's business.
        """
        if len(segments) != len(self._segments):
            return None
        values: dict[str, str] = {}
        for (literal, name), found in zip(self._segments, segments, strict=True):
            if name:
                values[name] = found
            elif literal != found:
                return None
        return values

    def overlaps(self, other: PathTemplate) -> bool:
        """Whether some path matches both templates."""
        if len(self._segments) != len(other._segments):
            return False
        return all(
            bool(name) or bool(other_name) or literal == other_literal
            for (literal, name), (other_literal, other_name) in zip(self._segments, other._segments, strict=True)
        )

    def same_shape(self, other: PathTemplate) -> bool:
        """Whether both templates match the same paths: they differ at most in the names of their placeholders."""
        return self._shape() == other._shape()

    def _shape(self) -> tuple[tuple[str, bool], ...]:
        return tuple((literal, bool(name)) for literal, name in self._segments)

    def __len__(self) -> int:
        return len(self._segments)

    def __repr__(self) -> str:
        return f"<PathTemplate {self.text!r}>"


def _parse(text: str) -> Iterable[tuple[str, str]]:
    """``(literal, "")`` or ``("", name)`` for each segment."""
    if not isinstance(text, str) or not text.startswith("/"):
        raise ConfigurationError(f"path {text!r} does not start with /; allowed: {PATH_RULE}")
    raw_segments = text[1:].split("/")
    if len(raw_segments) > MAX_SEGMENTS:
        raise ConfigurationError(f"path {text[:40]!r}… has more than {MAX_SEGMENTS} segments")
    for raw in raw_segments:
        placeholder = _PLACEHOLDER.fullmatch(raw)
        if placeholder is not None:
            yield "", placeholder[1]
        elif raw == "" and text == "/":
            yield "", ""
        elif _LITERAL.fullmatch(raw) is None or raw in (".", ".."):
            raise ConfigurationError(f"path {text!r}: segment {raw!r} is not allowed; allowed: {PATH_RULE}")
        else:
            yield percent_decode(raw), ""


def conflict(first: PathTemplate, first_methods: Iterable[str], second: PathTemplate, second_methods: Iterable[str]) -> bool:
    """Whether two routes cannot share a listener: one request could be meant for both.

    Templates of the same shape may stand side by side when they have no method in common. Others that overlap never may: which
    methods a path allows would depend on the values in it.
    """
    if not first.overlaps(second):
        return False
    return not first.same_shape(second) or not set(first_methods).isdisjoint(second_methods)


def split_path(raw: bytes) -> list[str]:
    """The decoded segments of a request's path.

    :param raw: the path as it was sent, without a query.
    :raises TemplateValueError: bad percent-encoding, or bytes that are not UTF-8.
    """
    segments = raw[1:].split(b"/", MAX_SEGMENTS + 1)
    if b"%" not in raw and raw.isascii():
        return [segment.decode("ascii") for segment in segments]
    return [percent_decode(segment) for segment in segments]


def parse_query(raw: bytes) -> dict[str, list[str]]:
    """The parameters of a query, decoded once; a ``+`` is a space, as in HTML forms.

    :raises TemplateValueError: bad percent-encoding, or bytes that are not UTF-8.
    """
    parameters: dict[str, list[str]] = {}
    for part in raw.split(b"&"):
        if part:
            name, _, value = part.replace(b"+", b" ").partition(b"=")
            parameters.setdefault(percent_decode(name), []).append(percent_decode(value))
    return parameters


class Found(Generic[T]):
    """The target for a path and a method, with the values from the path."""

    __slots__ = ("target", "values")

    def __init__(self, target: T, values: dict[str, str]) -> None:
        self.target = target
        self.values = values


class PathTable(Generic[T]):
    """Which target (a route) takes which paths and methods."""

    def __init__(self) -> None:
        self._by_length: dict[int, list[tuple[PathTemplate, tuple[str, ...], T]]] = {}

    def add(self, template: PathTemplate, methods: Iterable[str], target: T) -> None:
        """Give a path and its methods to *target*.

        :raises ConfigurationError: the path overlaps with one that is there, see :func:`conflict`.
        """
        methods = tuple(methods)
        same_length = self._by_length.setdefault(len(template), [])
        for known, known_methods, known_target in same_length:
            if conflict(template, methods, known, known_methods):
                raise ConfigurationError(f"path {template.text!r} overlaps with {known.text!r} of {known_target}")
        same_length.append((template, methods, target))

    def remove(self, target: T) -> None:
        """Take back all paths of *target*; nothing happens when it has none."""
        for length, entries in list(self._by_length.items()):
            self._by_length[length] = [entry for entry in entries if entry[2] is not target]

    def find(self, segments: Sequence[str], method: str) -> Found[T] | None:
        """The target, or None when the path is unknown or the method not allowed (then :meth:`allowed` tells more)."""
        for template, methods, target in self._by_length.get(len(segments), ()):
            if method in methods:
                values = template.match(segments)
                if values is not None:
                    return Found(target, values)
        return None

    def at(self, segments: Sequence[str]) -> list[tuple[tuple[str, ...], T]]:
        """The methods and the target of each entry that has the path."""
        return [
            (methods, target)
            for template, methods, target in self._by_length.get(len(segments), ())
            if template.match(segments) is not None
        ]

    def allowed(self, segments: Sequence[str]) -> list[str]:
        """The methods that the path takes, sorted; empty when no target has the path."""
        return sorted({method for methods, _ in self.at(segments) for method in methods})

    def __len__(self) -> int:
        return sum(map(len, self._by_length.values()))
