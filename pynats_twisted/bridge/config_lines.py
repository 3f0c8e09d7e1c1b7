"""Where in a TOML text a key stands. ``tomllib`` does not tell, and messages without a line are hard to use.

The text has been parsed before, so it is legal TOML: the scanner below only has to find keys, headers and where values end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Path = tuple[str | int, ...]
"""Keys, and indexes in arrays, from the top of the document."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[^ \t\r\n.=\]\[\"'#{},]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
# Up to two quotes may stand before the closing three.
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'''(?:'{0,2})", re.DOTALL)
_SCALAR = re.compile(r"[^,\]\}\r\n#]*")
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([btnfr"\\]))')
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def find_lines(text: str) -> dict[Path, int]:
    """The line of every key, table and array element of a legal TOML text, counted from 1.

    For a table it is the line of its header, or of the first key that makes it. What the scanner cannot follow is left out.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of *path*, or of the nearest thing around it that has one; 0 when nothing has."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 0


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted_to = 0
        self._line = 1
        self._array_tables: dict[Path, int] = {}
        self.lines: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            start = self._at
            if self._take("[["):
                table = self._header(array=True)
            elif self._take("["):
                table = self._header(array=False)
            else:
                self._pair(table)
            if self._at == start:
                return  # not legal TOML after all: better no line than an endless loop

    def _header(self, *, array: bool) -> Path:
        line = self._current_line()
        path = self._real_path(self._key(), array=array)
        self._note(path, line)
        self._take("]]" if array else "]")
        return path

    def _real_path(self, keys: list[str], *, array: bool) -> Path:
        """The path of a header, with the index of the last element for each array of tables on the way."""
        path: Path = ()
        for position, key in enumerate(keys):
            path += (key,)
            is_last = position == len(keys) - 1
            if is_last and array:
                self._array_tables[path] = self._array_tables.get(path, -1) + 1
            if path in self._array_tables and (array or not is_last):
                path += (self._array_tables[path],)
        return path

    def _pair(self, table: Path) -> None:
        line = self._current_line()
        path = table + tuple(self._key())
        self._note(path, line)
        self._skip(_SPACE)
        if self._take("="):
            self._skip(_SPACE)
            self._value(path)

    def _value(self, path: Path) -> None:
        text, at = self._text, self._at
        if text.startswith('"""', at):
            self._skip(_LONG_BASIC)
        elif text.startswith("'''", at):
            self._skip(_LONG_LITERAL)
        elif text.startswith('"', at):
            self._skip(_BASIC)
        elif text.startswith("'", at):
            self._skip(_LITERAL)
        elif self._take("["):
            self._elements(path, "]")
        elif self._take("{"):
            self._elements(path, "}")
        else:
            self._skip(_SCALAR)

    def _elements(self, path: Path, end: str) -> None:
        index = 0
        while True:
            self._skip(_BLANK)
            start = self._at
            if start >= len(self._text) or self._take(end):
                return
            if end == "]":
                self._note((*path, index), self._current_line())
                self._value((*path, index))
                index += 1
            else:
                self._pair(path)
            self._skip(_BLANK)
            self._take(",")
            if self._at == start:
                return

    def _key(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            if self._text.startswith('"', self._at):
                keys.append(_ESCAPE.sub(_unescape, self._skip(_BASIC)[1:-1]))
            elif self._text.startswith("'", self._at):
                keys.append(self._skip(_LITERAL)[1:-1])
            else:
                keys.append(self._skip(_BARE_KEY))
            self._skip(_SPACE)
            if not self._take("."):
                return keys

    def _note(self, path: Path, line: int) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _take(self, literal: str) -> bool:
        if self._text.startswith(literal, self._at):
            self._at += len(literal)
            return True
        return False

    def _current_line(self) -> int:
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._line


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else _ESCAPED[match[3]]
