"""Writes nats-server's configuration language from Python values."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pynats_twisted.errors import ConfigurationError

_BARE_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPED = re.compile(r'[\\"\x00-\x1f\x7f]')


def render(config: Mapping[str, Any]) -> str:
    """The text of a configuration file.

    :param config: option names to values: bool, int, float, str, path, a mapping (a block), or a list or tuple of values.
        An option whose value is None is left out. A string is written in quotes, so the server takes it as a string; sizes
        are written as numbers of bytes.
    :raises ConfigurationError: a value is of another type; the text names the option.
    """
    return "".join(f"{line}\n" for line in _lines(config, "", 0))


def merged(config: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with ``over`` on top: blocks that both have are merged option by option, anything else is replaced."""
    result = dict(config)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def _lines(block: Mapping[str, Any], path: str, depth: int) -> Iterable[str]:
    for key, value in block.items():
        if value is None:
            continue
        if not isinstance(key, str):
            raise ConfigurationError(f"the name of a server option is a string, found {key!r} in {path or 'the configuration'}")
        name = key if _BARE_KEY.match(key) else _string(key)
        here = f"{path}.{key}" if path else key
        written = f"{name}: {_value(value, here, depth)}"
        yield "  " * depth + written


def _value(value: Any, path: str, depth: int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, os.PathLike):
        return _string(os.fspath(value))
    indent = "  " * depth
    if isinstance(value, Mapping):
        body = "".join(f"{line}\n" for line in _lines(value, path, depth + 1))
        return f"{{\n{body}{indent}}}"
    if isinstance(value, (list, tuple)):
        items = "".join(f"{indent}  {_value(item, f'{path}[{number}]', depth + 1)},\n" for number, item in enumerate(value))
        return f"[\n{items}{indent}]"
    raise ConfigurationError(f"server option {path}: a {type(value).__name__} cannot be written; use bool, int, float, str, list or dict")


def _string(text: str) -> str:
    escaped = _ESCAPED.sub(lambda match: _ESCAPES.get(match[0]) or f"\\x{ord(match[0]):02x}", text)
    return f'"{escaped}"'
