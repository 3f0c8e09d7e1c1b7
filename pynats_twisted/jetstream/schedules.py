"""Scheduled messages (ADR-51): the server publishes a message later, or again and again.

A schedule is a message on a subject of its own, in a stream with ``allow_msg_schedules``; what it produces goes to its target, a subject of
the same stream. Another schedule on the same subject takes the place of the first. Deleting the message, or purging its subject, ends it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from ..errors import InvalidHeaderError, JetStreamConfigError
from ..protocol.headers import Headers
from .api import format_time, parse_time, to_nanoseconds
from .api.patterns import subject_problem
from .api.values import MAX_INT64
from .deferred import deferred
from .expectations import Ttl, format_ttl

if TYPE_CHECKING:
    from ..protocol.encoder import Payload
    from ..protocol.headers import HeadersLike
    from .api import PubAck
    from .batch import Expectations
    from .context import JetStreamContext

SCHEDULE = "Nats-Schedule"
TARGET = "Nats-Schedule-Target"
SOURCE = "Nats-Schedule-Source"
SCHEDULE_TTL = "Nats-Schedule-TTL"
SCHEDULE_ROLLUP = "Nats-Schedule-Rollup"
TIME_ZONE = "Nats-Schedule-Time-Zone"
SCHEDULER = "Nats-Scheduler"
NEXT = "Nats-Schedule-Next"

API_LEVEL = 2
# That is for one message at a time of its own. The rest came later.
_LATER_API_LEVEL = 4

PREDEFINED = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
"""What may stand in the place of the six fields of a cron schedule."""

_AT = "@at "
_EVERY = "@every "
_SECOND = 1_000_000_000
# As Go writes durations.
_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND}
_PART = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,9}))?(ns|us|ms|s|m|h)", re.ASCII)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]*").fullmatch
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Name, least, greatest, and the names that stand for numbers, from the least on.
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """When the server publishes, and what becomes of it. :meth:`at`, :meth:`every` and :meth:`cron` make one.

    :ivar when: ``@at`` and a time, ``@every`` and a duration, six fields of cron, or one of :data:`PREDEFINED`.
    :ivar target: the subject that is published to: of the same stream, and not the schedule's own.
    :ivar source: publish the last message of this subject then, instead of the schedule's own; that one where there is none.
    :ivar ttl: the TTL of what is published: seconds, or ``"never"``. The stream has to have ``allow_msg_ttl``.
    :ivar rollup: ``"sub"``: what is published takes the place of all that the target had before.
    :ivar time_zone: of cron schedules: an IANA name such as ``Europe/Amsterdam``, which the server has to know. UTC without it.
    :raises JetStreamConfigError: a value breaks a rule.
    """

    when: str
    target: str
    source: str | None = None
    ttl: Ttl | None = None
    rollup: Literal["sub"] | None = None
    time_zone: str | None = None

    def __post_init__(self) -> None:
        is_cron = _check_when(self.when)
        _check_subject("target", self.target)
        if self.source is not None:
            _check_subject("source", self.source)
            if self.source == self.target:
                raise JetStreamConfigError("source", self.source, "must be another subject than the target")
        if self.ttl is not None:
            format_ttl("ttl", self.ttl)
        if self.rollup not in (None, "sub"):
            raise JetStreamConfigError("rollup", self.rollup, "must be 'sub' or None")
        if self.time_zone is not None:
            if not is_cron:
                raise JetStreamConfigError("time_zone", self.time_zone, "is for cron schedules only")
            if not isinstance(self.time_zone, str) or not _ZONE(self.time_zone):
                raise JetStreamConfigError("time_zone", self.time_zone, "must be the name of a time zone, such as Europe/Amsterdam")

    @classmethod
    def at(
        cls,
        time: datetime,
        *,
        target: str,
        source: str | None = None,
        ttl: Ttl | None = None,
        rollup: Literal["sub"] | None = None,
    ) -> Schedule:
        """Publish once, at a time; at once, if that has passed. The schedule is gone then.

        :param time: with a time zone: ``datetime.now(timezone.utc) + timedelta(minutes=5)``.

        The other parameters are the variables of the class.
        """
        try:
            text = format_time(time)
        except (TypeError, ValueError) as error:
            raise JetStreamConfigError("time", time, str(error)) from None
        return cls(when=f"{_AT}{text}", target=target, source=source, ttl=ttl, rollup=rollup)

    @classmethod
    def every(
        cls,
        seconds: float,
        *,
        target: str,
        source: str | None = None,
        ttl: Ttl | None = None,
        rollup: Literal["sub"] | None = None,
    ) -> Schedule:
        """Publish each time that so many seconds have passed, 1 or more.

        The other parameters are the variables of the class.
        """
        try:
            nanoseconds = to_nanoseconds(seconds)
        except (TypeError, ValueError) as error:
            raise JetStreamConfigError("seconds", seconds, str(error)) from None
        if nanoseconds < _SECOND:
            raise JetStreamConfigError("seconds", seconds, "must be 1 or more")
        whole, rest = divmod(nanoseconds, _SECOND)
        text = f"{whole}.{rest:09d}".rstrip("0") + "s" if rest else f"{whole}s"
        return cls(when=f"{_EVERY}{text}", target=target, source=source, ttl=ttl, rollup=rollup)

    @classmethod
    def cron(
        cls,
        pattern: str,
        *,
        target: str,
        time_zone: str | None = None,
        source: str | None = None,
        ttl: Ttl | None = None,
        rollup: Literal["sub"] | None = None,
    ) -> Schedule:
        """Publish at certain times of the day, the week, the year.

        :param pattern: second, minute, hour, day of the month, month, day of the week: ``0 30 9 * * mon-fri``; or one of
            :data:`PREDEFINED`.

        The other parameters are the variables of the class.
        """
        if isinstance(pattern, str) and pattern.startswith((_AT, _EVERY)):
            raise JetStreamConfigError("pattern", pattern, "is not a cron schedule: at() and every() make these")
        return cls(when=pattern, target=target, time_zone=time_zone, source=source, ttl=ttl, rollup=rollup)

    @property
    def required_api_level(self) -> int:
        """The API level that the server has to have."""
        is_later = not self.when.startswith(_AT) or self.source is not None or self.rollup is not None
        return _LATER_API_LEVEL if is_later else API_LEVEL

    def headers(self, headers: HeadersLike | None = None) -> Headers:
        """The headers of the message that is the schedule.

        :param headers: others, copied; what is published has them too.
        :raises InvalidHeaderError: they have one of a schedule already.
        """
        made = Headers(headers)
        refuse_schedule_headers(made)
        made[SCHEDULE] = self.when
        made[TARGET] = self.target
        if self.source is not None:
            made[SOURCE] = self.source
        if self.ttl is not None:
            made[SCHEDULE_TTL] = format_ttl("ttl", self.ttl)
        if self.rollup is not None:
            made[SCHEDULE_ROLLUP] = self.rollup
        if self.time_zone is not None:
            made[TIME_ZONE] = self.time_zone
        return made


@deferred
async def publish_schedule(
    js: JetStreamContext,
    subject: str,
    schedule: Schedule,
    payload: Payload,
    headers: HeadersLike | None,
    timeout: float | None,
    expectations: Expectations,
) -> PubAck:
    """Store a schedule; see :meth:`.JetStreamContext.schedule`."""
    if not isinstance(schedule, Schedule):
        raise JetStreamConfigError("schedule", schedule, "must be a Schedule")
    for field, other in (("target", schedule.target), ("source", schedule.source)):
        if other == subject:
            raise JetStreamConfigError(field, other, "must be another subject than that of the schedule")
    js.check_feature("a schedule", schedule.required_api_level)
    return await js.publish(subject, payload, schedule.headers(headers), timeout=timeout, **expectations)


def end_schedule_headers(schedule: str, headers: HeadersLike | None = None) -> Headers:
    """The headers of a message that ends a schedule when it is stored: both happen, or none.

    Publish it to any other subject of the stream, for example to the schedule's target, earlier than the schedule would. With
    ``expected_last_subject_seq`` of the schedule's subject it is stored only if the schedule is still there.

    :param schedule: the schedule's subject.
    :param headers: others, copied.
    :raises JetStreamConfigError: the subject breaks a rule.
    :raises InvalidHeaderError: the headers have one of a schedule already.
    """
    _check_subject("schedule", schedule)
    made = Headers(headers)
    refuse_schedule_headers(made)
    made[SCHEDULER] = schedule
    made[NEXT] = "purge"
    return made


def refuse_schedule_headers(headers: Headers) -> None:
    """Check that nobody has set a header of schedules by hand.

    :raises InvalidHeaderError: somebody has.
    """
    for name in headers:
        if name.lower().startswith((SCHEDULE.lower(), SCHEDULER.lower())):
            raise InvalidHeaderError(f"the headers have {name}, which only the schedule may set")


def _check_subject(field: str, subject: str) -> None:
    problem = subject_problem(subject)
    if problem:
        raise JetStreamConfigError(field, subject, problem)


def _check_when(when: str) -> bool:
    """Check a schedule's text. True for those of cron."""
    if not isinstance(when, str):
        raise JetStreamConfigError("when", when, "must be a str")
    if when.startswith(_AT):
        try:
            parse_time(when.removeprefix(_AT))
        except ValueError as error:
            raise JetStreamConfigError("when", when, str(error)) from None
        return False
    if when.startswith(_EVERY):
        if not _is_interval(when.removeprefix(_EVERY)):
            raise JetStreamConfigError("when", when, "must have a duration of 1 second or more, such as 90s or 1h30m")
        return False
    if when in PREDEFINED:
        return True
    if when.startswith("@"):
        raise JetStreamConfigError("when", when, f"must be @at, @every, six fields of cron, or one of {', '.join(PREDEFINED)}")
    values = when.split(" ")
    if len(values) != len(_FIELDS):
        raise JetStreamConfigError("when", when, f"must have six fields with one space between, from the second on; found {len(values)}")
    for value, (name, least, greatest, names) in zip(values, _FIELDS, strict=True):
        problem = _field_problem(value, least, greatest, names)
        if problem:
            raise JetStreamConfigError("when", when, f"the {name} {value!r} {problem}")
    return True


def _is_interval(text: str) -> bool:
    """Whether it is a duration of a second or more."""
    if not text or _PART.sub("", text):
        return False
    parts = (Decimal(f"{whole}.{fraction or 0}") * _UNITS[unit] for whole, fraction, unit in _PART.findall(text))
    return _SECOND <= sum(parts) <= MAX_INT64


def _field_problem(field: str, least: int, greatest: int, names: tuple[str, ...]) -> str:
    """What is wrong with one field of cron."""
    for item in field.split(","):
        span, slash, step = item.partition("/")
        if slash and (not _is_number(step) or int(step) == 0):
            return "must have a number of 1 or more behind the '/'"
        if span in ("*", "?"):
            continue
        ends = [_number(end, least, names) for end in span.split("-")]
        if len(ends) > 2 or None in ends:
            return "must be '*', numbers, ranges such as 1-5, or a list of these with commas" + (", or names" if names else "")
        numbers = [end for end in ends if end is not None]
        if not least <= numbers[0] <= numbers[-1] <= greatest:
            return f"must be from {least} to {greatest}, the smaller number of a range first"
    return ""


def _number(text: str, least: int, names: tuple[str, ...]) -> int | None:
    if text.lower() in names:
        return names.index(text.lower()) + least
    return int(text) if _is_number(text) else None


def _is_number(text: str) -> bool:
    return 0 < len(text) <= 9 and text.isascii() and text.isdigit()
