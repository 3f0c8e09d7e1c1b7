"""Where in a TOML text a key stands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.config_lines import Path, find_lines, line_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EVERYTHING = (
    r'''
title = "a # b"                     # 2
"quoted \"key\" \u00fc" = 'x'       # 3
dotted . key . "with.dot" = 1       # 4

[table]                             # 6
text = """
not = "a key"
[not.a.table] \""" still text
"""""                               # 10, the end of 7
literal = '''
    """'''
also = 'not'
'''''
"""
    r"""
numbers = [1, 2,                    # 15
  3, # ], } and [ in a comment
  { a = 4, b = { c = [5] } }        # 17
]
inline = { x = 1, "y z" = "}", w.v = 2 } # 19
date = 2026-01-01 00:00:00          # 20

[ spaced . "header.x" ]             # 22
k = true

[[things]]                          # 25
name = "first"
[things.inner]                      # 27
deep = 1
[[things.list]]                     # 29
n = 1
[[things]]                          # 31
name = "second"
[[things.list]]                     # 33
n = 2
"""
)

EXPECTED: dict[Path, int] = {
    ("title",): 2,
    ('quoted "key" ü',): 3,
    ("dotted", "key", "with.dot"): 4,
    ("table",): 6,
    ("table", "text"): 7,
    ("table", "literal"): 11,
    ("table", "numbers"): 15,
    ("table", "numbers", 1): 15,
    ("table", "numbers", 2): 16,
    ("table", "numbers", 3): 17,
    ("table", "numbers", 3, "b", "c", 0): 17,
    ("table", "inline", "y z"): 19,
    ("table", "inline", "w", "v"): 19,
    ("table", "date"): 20,
    ("spaced", "header.x"): 22,
    ("spaced", "header.x", "k"): 23,
    ("things", 0): 25,
    ("things", 0, "inner", "deep"): 28,
    ("things", 0, "list", 0, "n"): 30,
    ("things", 1): 31,
    ("things", 1, "name"): 32,
    ("things", 1, "list", 0, "n"): 34,
}


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


class LinesTests(SynchronousTestCase):
    def test_everything(self) -> None:
        """Keys are found in every notation that TOML has, and nothing inside texts and comments is taken for one."""
        lines = find_lines(EVERYTHING)
        self.assertEqual({path: lines.get(path) for path in EXPECTED}, EXPECTED)
        self.assertEqual(set(lines), set(paths(tomllib.loads(EVERYTHING))))

    def test_nearest(self) -> None:
        """A key that is not there is reported at the line of the table that it should be in."""
        lines = find_lines("[a]\nx = 1\n[b]\n")
        self.assertEqual([line_of(lines, path) for path in (("a", "x"), ("a", "y"), ("b", "c", "d"), ("zz",), ())], [2, 1, 3, 0, 0])

    def test_crlf(self) -> None:
        """Lines may end with CR LF."""
        self.assertEqual(find_lines("[a]\r\nx = 1\r\ny = 2\r\n")["a", "y"], 3)

    @given(st.text(alphabet="[]{}=.,\"'#\\ \n\tab1"))
    def test_any_text(self, text: str) -> None:
        """On any text the search ends, and on legal TOML it finds every key."""
        lines = find_lines(text)
        self.assertTrue(all(1 <= line <= text.count("\n") + 1 for line in lines.values()))
        try:
            document = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError):
            return
        self.assertEqual(set(paths(document)) - set(lines), set())
