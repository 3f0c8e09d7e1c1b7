"""What a publish may ask of the stream that stores it, and the headers that say it."""

from __future__ import annotations

from math import ceil
from typing import Literal

from ..errors import JetStreamConfigError
from ..protocol.headers import Headers, HeadersLike
from .api.patterns import name_problem, subject_problem
from .checks import is_number, is_whole

MSG_ID = "Nats-Msg-Id"
EXPECTED_STREAM = "Nats-Expected-Stream"
EXPECTED_LAST_SEQ = "Nats-Expected-Last-Sequence"
EXPECTED_LAST_SUBJECT_SEQ = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_LAST_SUBJECT_SEQ_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
EXPECTED_LAST_MSG_ID = "Nats-Expected-Last-Msg-Id"
TTL = "Nats-TTL"
ROLLUP = "Nats-Rollup"

MAX_SEQUENCE = (1 << 64) - 1
# The server reckons in nanoseconds, with 63 bits.
_MAX_TTL = ((1 << 63) - 1) // 1_000_000_000

Rollup = Literal["sub", "all"]
Ttl = float | Literal["never"]


def publish_headers(
    headers: HeadersLike | None,
    *,
    msg_id: str | None = None,
    expected_stream: str | None = None,
    expected_last_seq: int | None = None,
    expected_last_subject_seq: int | None = None,
    expected_last_subject_seq_subject: str | None = None,
    expected_last_msg_id: str | None = None,
    ttl: Ttl | None = None,
    rollup: Rollup | None = None,
) -> Headers | None:
    """The headers of a publish together with what it asks for. What is passed is never changed.

    The parameters are those of :meth:`~pynats_twisted.jetstream.context.JetStreamContext.publish`.

    :returns: new headers, the caller's own, or None where there are none.
    :raises JetStreamConfigError: a value breaks a rule, or ``headers`` say something else; the text names both.
    :raises InvalidHeaderError: a header cannot be sent.
    """
    made = Headers(headers)
    has_given = bool(made)
    if msg_id is not None:
        _set(made, has_given, MSG_ID, "msg_id", _checked_id("msg_id", msg_id))
    if expected_stream is not None:
        problem = name_problem(expected_stream)
        if problem:
            raise JetStreamConfigError("expected_stream", expected_stream, problem)
        _set(made, has_given, EXPECTED_STREAM, "expected_stream", expected_stream)
    if expected_last_seq is not None:
        _set(made, has_given, EXPECTED_LAST_SEQ, "expected_last_seq", _checked_sequence("expected_last_seq", expected_last_seq))
    if expected_last_subject_seq is not None:
        number = _checked_sequence("expected_last_subject_seq", expected_last_subject_seq)
        _set(made, has_given, EXPECTED_LAST_SUBJECT_SEQ, "expected_last_subject_seq", number)
    if expected_last_subject_seq_subject is not None:
        field = "expected_last_subject_seq_subject"
        problem = subject_problem(expected_last_subject_seq_subject, wildcards=True)
        if not problem and EXPECTED_LAST_SUBJECT_SEQ not in made:
            problem = "needs expected_last_subject_seq"
        if problem:
            raise JetStreamConfigError(field, expected_last_subject_seq_subject, problem)
        _set(made, has_given, EXPECTED_LAST_SUBJECT_SEQ_SUBJECT, field, expected_last_subject_seq_subject)
    if expected_last_msg_id is not None:
        _set(made, has_given, EXPECTED_LAST_MSG_ID, "expected_last_msg_id", _checked_id("expected_last_msg_id", expected_last_msg_id))
    if ttl is not None:
        _set(made, has_given, TTL, "ttl", format_ttl("ttl", ttl))
    if rollup is not None:
        if rollup not in ("sub", "all"):
            raise JetStreamConfigError("rollup", rollup, "must be 'sub' or 'all'")
        _set(made, has_given, ROLLUP, "rollup", rollup)
    return made or None


def probe_headers(headers: Headers, nonsense: str) -> Headers:
    """The headers of a publish that is never stored, and finds out whether one with the same message id was.

    A server looks at the expected last sequences of a stream with one replica before it looks whether it knows the id. So a second copy is
    refused because of the first one. The expected last message id it looks at behind that: this publish is a duplicate, or has the
    wrong last message id.

    :param headers: those of the publish, with its message id.
    :param nonsense: a message id that nobody has.
    """
    probe = Headers({MSG_ID: headers[MSG_ID], EXPECTED_LAST_MSG_ID: nonsense})
    if EXPECTED_STREAM in headers:
        probe[EXPECTED_STREAM] = headers[EXPECTED_STREAM]
    return probe


def format_ttl(field: str, ttl: Ttl) -> str:
    """A TTL as headers have it. The server knows whole seconds: a fraction counts as one more.

    :param field: whose value it is, for the error.
    :raises JetStreamConfigError: it is neither a number of seconds of 1 or more, nor ``"never"``.
    """
    if ttl == "never":
        return "never"
    if not is_number(ttl) or not 1 <= ttl <= _MAX_TTL:
        raise JetStreamConfigError(field, ttl, f"must be a number of seconds from 1 to {_MAX_TTL}, or 'never'")
    return str(ceil(ttl))


def _checked_sequence(field: str, value: int) -> str:
    if not is_whole(value, 0) or value > MAX_SEQUENCE:
        raise JetStreamConfigError(field, value, "must be a whole number from 0 to 2**64 - 1")
    return str(value)


def _checked_id(field: str, value: str) -> str:
    # The server takes an empty one for none, and drops the white space around it.
    if not isinstance(value, str) or not value or value != value.strip():
        raise JetStreamConfigError(field, value, "must be a str that is not empty and has no white space at its ends")
    return value


def _set(headers: Headers, has_given: bool, name: str, field: str, value: str) -> None:
    if has_given:
        # The server looks for the exact case. One in another case would be passed on unread: nobody means that who gives the value, too.
        there = headers.get_all(name, ignore_case=True)
        if any(each != value for each in there):
            raise JetStreamConfigError(field, value, f"the headers have {name} as well, with another value: {there[0]!r}")
    headers[name] = value
