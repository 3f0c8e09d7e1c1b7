"""The log as JSON lines, made for log collectors: one object for each event, with its text and its fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final, TextIO

from twisted.logger import FileLogObserver, LogEvent, formatEvent

MAX_TEXT_CHARS: Final = 8192
"""Longer texts are cut."""

MAX_FIELDS: Final = 50
"""More fields of one event are left out."""

# What logging systems before twisted.logger put into every event.
_LEGACY: Final = frozenset({"format", "isError", "message", "system", "time"})
_OWN: Final = frozenset({"level", "logger"})


def json_observer(stream: TextIO) -> FileLogObserver:
    """An observer that writes JSON lines to *stream*. See :func:`format_json`."""
    return FileLogObserver(stream, format_json)


def format_json(event: LogEvent) -> str:
    """An event as one line.

    The object has ``time`` (RFC 3339, UTC), ``level``, ``logger`` and ``message``; where an error was logged ``error`` and ``traceback``;
    and the fields of the event under their names (``route``, ``reason``, ...): texts, numbers, truth values, and objects of these.
    """
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), timezone.utc)
    level = event.get("log_level")
    document: dict[str, Any] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level.name if level is not None else "info",
        "logger": event.get("log_namespace", ""),
        "message": _cut(formatEvent(event)),
    }
    failure = event.get("log_failure")
    if failure is not None:
        document["error"] = _cut(failure.getErrorMessage())
        document["traceback"] = _cut(failure.getTraceback())
    fields = [name for name in event if not name.startswith("log_") and name not in _LEGACY and name not in _OWN]
    for name in fields[:MAX_FIELDS]:
        document.setdefault(name, _plain(event[name]))
    return json.dumps(document, ensure_ascii=False, skipkeys=True).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029") + "\n"


def _plain(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        # JSON has no infinities.
        return value if value - value == 0 else str(value)
    if isinstance(value, Mapping) and depth < 2:
        return {_cut(str(key)): _plain(item, depth + 1) for key, item in list(value.items())[:MAX_FIELDS]}
    return _cut(value if isinstance(value, str) else str(value))


def _cut(text: str) -> str:
    # A lone surrogate cannot be written as UTF-8.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"
