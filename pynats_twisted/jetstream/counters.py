"""Distributed counters (ADR-49): every subject of a stream with ``allow_msg_counter`` is a number that publishes add to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from ..errors import InvalidArgumentError, InvalidHeaderError, JetStreamDecodeError
from ..protocol.headers import Headers
from .api import decode_counter, parse_object
from .deferred import deferred

if TYPE_CHECKING:
    from ..protocol.headers import HeadersLike
    from .context import JetStreamContext

INCREMENT = "Nats-Incr"
SOURCES = "Nats-Counter-Sources"

API_LEVEL = 2

# Python refuses to read or write more digits than these, for the time that it would take.
_MAX_DIGITS = 4300
_NUMBER = re.compile(r"[+-]?[0-9]{1,4300}", re.ASCII).fullmatch
_TOO_LARGE = 10**_MAX_DIGITS


class CounterMsg(Protocol):
    """A stored message, however it was read: what ``get_last_msg`` of a stream gives, or a consumer."""

    @property
    def data(self) -> bytes:
        """The payload."""

    @property
    def headers(self) -> Headers:
        """The headers."""


@deferred
async def increment(js: JetStreamContext, subject: str, by: int, headers: HeadersLike | None, timeout: float | None) -> int:
    """Add to a counter; see :meth:`.JetStreamContext.increment`."""
    js.check_feature("a counter", API_LEVEL)
    ack = await js.publish(subject, b"", increment_headers(by, headers), timeout=timeout)
    if not ack.val:
        raise JetStreamDecodeError(f"stream {ack.stream!r} stored the increment without counting: its server knows no counters")
    return _number("the counter's new value", ack.val)


def increment_headers(by: int, headers: HeadersLike | None = None) -> Headers:
    """The headers of a publish that adds to a counter. Its payload is empty. For a batch, or for ``publish`` with a message id.

    :param by: any whole number of at most 4,300 digits; 0 only reads, negative ones take away.
    :param headers: others, copied.
    :raises InvalidArgumentError: it is no such number.
    :raises InvalidHeaderError: the headers have an increment already.
    """
    if not isinstance(by, int) or isinstance(by, bool):
        raise InvalidArgumentError(f"by={by!r} is not a whole number")
    if abs(by) >= _TOO_LARGE:
        raise InvalidArgumentError(f"by has more than {_MAX_DIGITS} digits")
    made = Headers(headers)
    if made.get_all(INCREMENT, ignore_case=True):
        raise InvalidHeaderError(f"the headers have {INCREMENT}, which is what by is for")
    made[INCREMENT] = f"{by:+d}"
    return made


def counter_value(msg: CounterMsg) -> int:
    """The value of a counter after one of its messages; the last message of its subject has the value of now.

    :raises JetStreamDecodeError: the message is not one of a counter.
    """
    return decode_counter(msg.data)


def counter_increment(msg: CounterMsg) -> int:
    """What a message of a counter added to it. Where it came from a source, the server has put in the difference to what came before.

    :raises JetStreamDecodeError: the message is not one of a counter.
    """
    return _number(INCREMENT, msg.headers.get(INCREMENT))


def counter_sources(msg: CounterMsg) -> dict[str, dict[str, int]]:
    """What came into a counter from the streams that its stream sources, by stream and subject, up to this message.

    Empty where nothing was sourced.

    :raises JetStreamDecodeError: the header that says it is damaged.
    """
    text = msg.headers.get(SOURCES)
    if not text:
        return {}
    sources: dict[str, dict[str, int]] = {}
    for stream, subjects in parse_object(text.encode("utf-8", "surrogateescape")).items():
        if not isinstance(subjects, Mapping):
            raise JetStreamDecodeError(f"{SOURCES} has a {type(subjects).__name__} for stream {stream[:80]!r}, not an object")
        sources[stream] = {subject: _number(SOURCES, value) for subject, value in subjects.items()}
    return sources


def _number(what: str, text: object) -> int:
    if not isinstance(text, str) or _NUMBER(text) is None:
        raise JetStreamDecodeError(f"{what} is {str(text)[:80]!r}, which is no whole number of at most {_MAX_DIGITS} digits")
    return int(text)
