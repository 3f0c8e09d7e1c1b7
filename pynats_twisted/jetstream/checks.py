"""Numbers that a caller passes: what they may be. True and False are none."""

from __future__ import annotations

from math import inf

from ..errors import InvalidArgumentError


def is_whole(value: object, least: int) -> bool:
    """Whether it is a whole number of at least ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> bool:
    """Whether it is a number, whole or not, infinite or not a number included."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_positive(value: float) -> bool:
    """Whether it is a finite number above 0."""
    return is_number(value) and 0 < value < inf


def is_not_negative(value: float) -> bool:
    """Whether it is a finite number of 0 or more."""
    return is_number(value) and 0 <= value < inf


def check_count(name: str, value: int) -> int:
    """Check a number of things.

    :raises InvalidArgumentError: it is not a whole number of at least 1.
    """
    if not is_whole(value, 1):
        raise InvalidArgumentError(f"{name}={value!r} must be a whole number of at least 1")
    return value


def check_duration(name: str, value: float, least: float = 0.0) -> float:
    """Check a number of seconds.

    :raises InvalidArgumentError: it is not a number above 0, or less than ``least``.
    """
    if not is_positive(value):
        raise InvalidArgumentError(f"{name}={value!r} must be a positive number of seconds")
    if value < least:
        raise InvalidArgumentError(f"{name}={value!r} must be at least {least:g} s")
    return float(value)


def check_wait(name: str, value: float) -> float:
    """Check a number of seconds that may be 0.

    :raises InvalidArgumentError: it is not a number of 0 or more.
    """
    if not is_not_negative(value):
        raise InvalidArgumentError(f"{name}={value!r} must be a number of seconds, 0 or more")
    return value


def check_timeout(name: str, value: float) -> float:
    """A time limit that was given to a call.

    :raises InvalidArgumentError: it is not a positive number of seconds.
    """
    if not is_positive(value):
        raise InvalidArgumentError(f"{name} {value!r} is not a positive number of seconds")
    return value
