"""Durations and times: seconds and :class:`~datetime.datetime` for people, nanoseconds and RFC 3339 on the wire."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, SupportsIndex

NANOSECONDS = 1_000_000_000
MAX_INT64 = 2**63 - 1

_ZERO_TIME = "0001-01-01T00:00:00Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})")


class Seconds(float):
    """A duration from the server that a float cannot hold exactly (above 11 days, with odd nanoseconds).

    Sending it back sends the same nanoseconds. Computing with it gives plain floats.

    :ivar nanoseconds: the exact value.
    """

    nanoseconds: int

    def __new__(cls, nanoseconds: int) -> Seconds:
        self = super().__new__(cls, nanoseconds / NANOSECONDS)
        self.nanoseconds = nanoseconds
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Seconds, (self.nanoseconds,)


class Timestamp(datetime):
    """A time from the server: a datetime in UTC, cut off after its microseconds, that also knows the server's own text.

    Sending it back sends that text. Times that differ in nanoseconds only are equal. Computing with it gives a time without a text.

    :ivar text: the RFC 3339 text as it came, or ``""``.
    """

    text: str = ""

    @property
    def nanosecond(self) -> int:
        """The fraction of the second in nanoseconds, 0 to 999,999,999."""
        found = _TIME.fullmatch(self.text)
        return int((found[3] or "0").ljust(9, "0")) if found else self.microsecond * 1000

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return (_restored, (self.isoformat(), self.text))


def _restored(iso: str, text: str) -> Timestamp:
    made = Timestamp.fromisoformat(iso)
    made.text = text
    return made


def to_nanoseconds(seconds: float) -> int:
    """A duration in nanoseconds: exactly what the number's decimal digits say, so 0.1 is 100,000,000.

    :raises TypeError: it is not a number.
    :raises ValueError: it is not finite, or does not fit into 64 bits (292 years).
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError("must be a number of seconds")
    if isinstance(seconds, Seconds):
        return seconds.nanoseconds
    if seconds != seconds or seconds in (float("inf"), float("-inf")):
        raise ValueError("must be a finite number of seconds")
    if abs(seconds) > MAX_INT64 // NANOSECONDS:
        raise ValueError("must be at most 292 years")
    if isinstance(seconds, int):
        return int(seconds) * NANOSECONDS
    return int((Decimal(float.__repr__(seconds)) * NANOSECONDS).to_integral_value(ROUND_HALF_EVEN))


def from_nanoseconds(nanoseconds: int) -> float:
    """A duration in seconds; a :class:`Seconds` where a float cannot hold it exactly."""
    seconds = nanoseconds / NANOSECONDS
    # Fifteen digits are always safe in a float, more of them sometimes.
    if abs(nanoseconds) < 10**15 or (abs(nanoseconds) <= MAX_INT64 - NANOSECONDS and to_nanoseconds(seconds) == nanoseconds):
        return seconds
    return Seconds(nanoseconds)


def parse_time(text: str) -> Timestamp | None:
    """Read a time in RFC 3339 with up to nine digits after the second. The year 1, which stands for "never", gives None.

    :raises ValueError: it is not such a time.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("is not a time in RFC 3339")
    if text == _ZERO_TIME:
        return None
    day, clock, fraction, zone = found.groups()
    micros = (fraction or "").ljust(6, "0")[:6]
    offset = "+00:00" if zone in "Zz" else zone
    try:
        made = Timestamp.fromisoformat(f"{day}T{clock}.{micros}{offset}")
        if offset != "+00:00":
            made = made.astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"is not a time: {error}") from None
    made.text = text
    return made


def format_time(value: datetime) -> str:
    """Write a time in RFC 3339, in UTC; a :class:`Timestamp` as it came.

    :raises TypeError: it is not a datetime.
    :raises ValueError: it has no time zone.
    """
    if not isinstance(value, datetime):
        raise TypeError("must be a datetime")
    if value.utcoffset() is None:
        raise ValueError("must have a time zone, for example datetime.now(timezone.utc)")
    if isinstance(value, Timestamp) and value.text:
        return value.text
    try:
        moment = value.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("must be between the years 1 and 9999 in UTC") from None
    fraction = f".{moment.microsecond:06d}" if moment.microsecond else ""
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{fraction}Z"


def time_of_nanoseconds(nanoseconds: int) -> datetime:
    """The time that many nanoseconds after the beginning of 1970, in UTC, cut off after its microseconds."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
