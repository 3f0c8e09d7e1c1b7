"""Reading the values of a JSON object that another client wrote, and the one text that times are written as."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, TypeVar

NANOSECONDS = 1_000_000_000

_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})")
# No whole number of the API has more bits.
_HIGHEST = 2**64

_T = TypeVar("_T")


def read_text(raw: dict[str, Any], key: str, default: str | None = None) -> str:
    """A text. Where it may be missing or null there is a default.

    :raises ValueError: it is missing, empty without a default, or no text.
    """
    value = raw.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or (not value and default is None):
        raise ValueError(f"{key} must be a text" + (" that is not empty" if default is None else ""))
    return value


def read_strings(raw: dict[str, Any], key: str) -> dict[str, str]:
    """An object of texts; empty where it is missing or null. What is no text in it becomes its JSON: some clients take any value.

    :raises ValueError: it is no object.
    """
    value = raw.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be an object")
    return {name: item if isinstance(item, str) else json.dumps(item) for name, item in value.items()}


def read_whole(raw: dict[str, Any], key: str) -> int:
    """A whole number of 0 or more; 0 where it is missing or null.

    :raises ValueError: it is something else.
    """
    value = raw.get(key)
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        # 1e3 is a whole number in JSON.
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _HIGHEST:
        raise ValueError(f"{key} must be a whole number, 0 or more")
    return value


def read_seconds(raw: dict[str, Any], key: str) -> float:
    """A duration in nanoseconds, in seconds; 0 where it is missing or null. Fractions of nanoseconds do no harm.

    :raises ValueError: it is no number.
    """
    value = raw.get(key)
    if value is None:
        return 0.0
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < _HIGHEST or math.isnan(value):
        raise ValueError(f"{key} must be a number of nanoseconds")
    return value / NANOSECONDS


def read_time(raw: dict[str, Any], key: str) -> datetime:
    """A time in RFC 3339, in UTC, cut off after its microseconds.

    :raises ValueError: it is missing or something else.
    """
    value = raw.get(key)
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{key} must be a time in RFC 3339")
    day, clock, fraction, zone = found.groups()
    micros = (fraction or "").ljust(6, "0")[:6]
    try:
        made = datetime.fromisoformat(f"{day}T{clock}.{micros}{'+00:00' if zone in 'Zz' else zone}")
        return made.astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{key} is not a time: {error}") from None


def read_list(raw: dict[str, Any], key: str, read: Callable[[dict[str, Any]], _T]) -> tuple[_T, ...]:
    """A list of objects; empty where it is missing or null.

    :raises ValueError: it is something else, or one of them cannot be read; the text says which.
    """
    value = raw.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError(f"{key} must be a list")
    found = []
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise ValueError(f"{key}.{index} must be an object")
        try:
            found.append(read(item))
        except ValueError as error:
            raise ValueError(f"{key}.{index}.{error}") from None
    return tuple(found)


def format_time(value: datetime) -> str:
    """Write a time in RFC 3339, in UTC.

    :raises TypeError: it is no datetime.
    :raises ValueError: it has no time zone.
    """
    if not isinstance(value, datetime):
        raise TypeError(f"{value!r} is not a datetime")
    if value.utcoffset() is None:
        raise ValueError(f"{value!r} has no time zone")
    moment = value.astimezone(timezone.utc)
    fraction = f".{moment.microsecond:06d}" if moment.microsecond else ""
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{fraction}Z"
