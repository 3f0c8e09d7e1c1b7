"""Syslog messages, of RFC 5424 and of RFC 3164 as it is lived, into their parts. Sans I/O.

RFC 3164 describes what was seen on the wire, so almost anything that has a priority is a message of its kind: date, host and tag are
taken where they are found. What begins like RFC 5424 has to be it.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from msgspec import Struct

FACILITIES: Final = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
)  # fmt: skip
"""The names of facilities, by their number."""

SEVERITIES: Final = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""The names of severities, by their number."""

MAX_PRIORITY: Final = 191

_MONTHS: Final = {
    "Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6, "Jul": 7, "Aug": 8, "Sep": 9, "Oct": 10, "Nov": 11, "Dec": 12,
}  # fmt: skip

_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_DATE_TIME = rf"[0-9]{{4}}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T{_TIME}(?:\.[0-9]{{1,9}})?(?:Z|[+-][01][0-9]:[0-5][0-9])"
_PRIORITY = re.compile(r"<([0-9]{1,3})>")
_LOOKS_LIKE_5424 = re.compile(r"[1-9][0-9]{0,2} (?:-|[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]*) ")
_PARAM = r'[!#-<>-\\^-~]{1,64}="(?:[^"\\\]]|\\[\s\S])*"'
_ELEMENT = rf"\[[!#-<>-\\^-~]{{1,64}}(?: {_PARAM})*\]"
_RFC_5424 = re.compile(
    rf"1 (-|{_DATE_TIME}) ([!-~]{{1,255}}) ([!-~]{{1,255}}) ([!-~]{{1,255}}) ([!-~]{{1,255}}) (-|(?:{_ELEMENT})+)(?: ([\s\S]*))?"
)
_EACH_ELEMENT = re.compile(rf"\[([^ \]]+)((?: {_PARAM})*)\]")
_EACH_PARAM = re.compile(r' ([^=]+)="((?:[^"\\\]]|\\[\s\S])*)"')
_ESCAPED = re.compile(r'\\(["\\\]])')

# Some senders put a number before it, and a mark for a clock that they do not trust.
_RFC_3164_TIME = re.compile(
    rf"(?:[0-9]{{1,10}}: +)?[*.]?"
    rf"(?:({_DATE_TIME})|({'|'.join(_MONTHS)}) {{1,2}}(3[01]|0[1-9]|[12]?[0-9])(?: ([0-9]{{4}}))? ({_TIME})(?:\.[0-9]{{1,9}})?"
    r"(?: ([0-9]{4}))?):? +"
)
# A host has neither the colon nor the bracket that a tag ends with.
_HOST = re.compile(r"([!-Z\\^-~]{0,254}[!-9;-Z\\^-~]) +(?=\S)")
_TAG = re.compile(r"([!-9;-Z\\^-~]{1,64})(?:\[([^\[\]\s]{0,64})\]:? ?|:(?: |\Z))")

Value = str | list[str]


class SyslogMessage(Struct, omit_defaults=True, kw_only=True):
    """The parts of a message. Those that it has not are None, and are left out of its JSON.

    :ivar format: which of the two RFCs it follows.
    :ivar facility: the name of its facility; :ivar severity: of its severity.
    :ivar timestamp: when it was made, by its sender: ISO 8601, of RFC 3164 without a zone and with a year that was guessed.
    :ivar hostname: where; :ivar app: the program, of RFC 3164 the tag; :ivar procid: its process.
    :ivar msgid: the kind of the message.
    :ivar structured_data: parameters by the id of their element, then by name; a parameter that comes more than once is an array.
    :ivar message: the text. What was not UTF-8 in it is U+FFFD.
    :ivar peer: the address that it came from.
    :ivar received: when, by the bridge's clock, in UTC.
    """

    format: Literal["rfc5424", "rfc3164"]
    facility: str
    severity: str
    timestamp: str | None = None
    hostname: str | None = None
    app: str | None = None
    procid: str | None = None
    msgid: str | None = None
    structured_data: dict[str, dict[str, Value]] | None = None
    message: str
    peer: str | None = None
    received: str | None = None


class UnreadableError(Exception):
    """What came is no syslog message; the text says why, and holds nothing of it."""


def parse(data: bytes, *, year: int, month: int) -> SyslogMessage:
    """The parts of a message.

    :param year: the year now, and :param month: the month (1 to 12): messages of RFC 3164 do not say their year.
    :raises UnreadableError: it has no priority, or begins like RFC 5424 and is not.
    """
    text = data.decode("utf-8", "replace").rstrip("\r\n\0")
    found = _PRIORITY.match(text)
    if found is None:
        raise UnreadableError("no priority, a number in angle brackets, at its start")
    priority = int(found[1])
    if priority > MAX_PRIORITY:
        raise UnreadableError(f"the priority {priority} is more than {MAX_PRIORITY}")
    facility, severity = FACILITIES[priority >> 3], SEVERITIES[priority & 7]
    at = found.end()
    match = _RFC_5424.fullmatch(text, at)
    if match is not None:
        timestamp, hostname, app, procid, msgid, elements, message = match.groups()
        message = message or ""
        return SyslogMessage(
            format="rfc5424",
            facility=facility,
            severity=severity,
            timestamp=None if timestamp == "-" else timestamp,
            hostname=None if hostname == "-" else hostname,
            app=None if app == "-" else app,
            procid=None if procid == "-" else procid,
            msgid=None if msgid == "-" else msgid,
            structured_data=None if elements == "-" else _structured_data(elements),
            message=message[1:] if message[:1] == "\ufeff" else message,
        )
    if _LOOKS_LIKE_5424.match(text, at) is not None:
        raise UnreadableError("it begins like RFC 5424, and is not")
    return _rfc_3164(text, at, facility, severity, year, month)


def _structured_data(text: str) -> dict[str, dict[str, Value]]:
    found: dict[str, dict[str, Value]] = {}
    for element in _EACH_ELEMENT.finditer(text):
        params = found.setdefault(element[1], {})
        for name, value in _EACH_PARAM.findall(element[2]):
            if "\\" in value:
                value = _ESCAPED.sub(r"\1", value)
            before = params.get(name)
            if before is None:
                params[name] = value
            elif isinstance(before, list):
                before.append(value)
            else:
                params[name] = [before, value]
    return found


def _rfc_3164(text: str, at: int, facility: str, severity: str, year: int, month: int) -> SyslogMessage:
    timestamp = hostname = app = procid = None
    time = _RFC_3164_TIME.match(text, at)
    if time is not None:
        timestamp = time[1] or _iso(time, year, month)
        at = time.end()
        host = _HOST.match(text, at)
        if host is not None:
            hostname = host[1]
            at = host.end()
    tag = _TAG.match(text, at)
    if tag is not None:
        app, procid = tag[1], tag[2] or None
        at = tag.end()
    return SyslogMessage(
        format="rfc3164",
        facility=facility,
        severity=severity,
        timestamp=timestamp,
        hostname=hostname,
        app=app,
        procid=procid,
        message=text[at:],
    )


def _iso(time: re.Match[str], year: int, month: int) -> str:
    _, name, day, year_before, clock, year_behind = time.groups()
    number = _MONTHS[name]
    said = year_before or year_behind
    if said is None:
        # The nearest one: around New Year it is last year's December, or next year's January.
        year += -1 if number - month > 6 else 1 if month - number > 6 else 0
        said = f"{year:04}"
    return f"{said}-{number:02}-{int(day):02}T{clock}"
