"""What an HTTP client is told when a stream does not confirm a message: the table of ``http-publish`` with ``confirm = "jetstream"``."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pynats_twisted.bridge.problem import (
    BUFFER_FULL,
    CONFIRM_TIMEOUT,
    NATS_MAX_PAYLOAD,
    NO_RESOURCES,
    NO_STREAM,
    NOT_AS_EXPECTED,
    NOT_CONFIRMED,
    STREAM_FULL,
    STREAM_REFUSED,
    STREAM_UNAVAILABLE,
    Problem,
)
from pynats_twisted.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    DuplicateInProcessError,
    ExpectationNotReadyError,
    JetStreamApiError,
    JetStreamLimitError,
    JetStreamNotEnabledError,
    JetStreamTooManyRequestsError,
    JetStreamUnavailableError,
    MessageExceedsMaximumError,
    NoStreamResponseError,
    PermissionsViolationError,
    PublishTimeoutError,
    PublishUnconfirmedError,
    StreamStoreError,
    TooManyStalledMsgsError,
    WrongLastMessageIdError,
    WrongLastSequenceError,
)

# The first that fits counts.
_PROBLEMS: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Problem, str], ...]] = (
    (NoStreamResponseError, NO_STREAM, "make a stream with this subject, or see whether the servers that have it are up"),
    (PublishTimeoutError, CONFIRM_TIMEOUT, "see whether the stream has a leader and its disk keeps up"),
    # The connection is gone for good, or for longer than the message may wait: it may be stored all the same.
    ((PublishUnconfirmedError, ConnectionClosedError, ConnectionDrainingError), NOT_CONFIRMED, "see whether NATS is reachable"),
    (TooManyStalledMsgsError, BUFFER_FULL, "more comes in than the stream acknowledges; lower max_in_flight, or make the stream faster"),
    (MessageExceedsMaximumError, NATS_MAX_PAYLOAD, "raise max_msg_size of the stream, or lower max_body of the route"),
    ((WrongLastSequenceError, WrongLastMessageIdError), NOT_AS_EXPECTED, ""),
    (JetStreamLimitError, NO_RESOURCES, "the account or the server has no room left for JetStream"),
    (
        (
            JetStreamUnavailableError, JetStreamNotEnabledError, JetStreamTooManyRequestsError, ExpectationNotReadyError,
            DuplicateInProcessError,
        ),
        STREAM_UNAVAILABLE,
        "it passes by itself when the cluster is well again",
    ),
)  # fmt: skip

_STREAM_FULL_HINT: Final = 'make room in the stream, or let it drop old messages (discard = "old")'
_TRY_LATER: Final = frozenset({429, 503})


class StreamAnswer(NamedTuple):
    """What becomes of an error.

    :ivar problem: what the client is told.
    :ivar hint: what the operator can do.
    :ivar details: members of the problem.
    """

    problem: Problem
    hint: str
    details: dict[str, Any]


def stream_answer(error: BaseException) -> StreamAnswer | None:
    """The answer to an error of a publish that a stream was to confirm; None where the error is not about streams."""
    for kinds, problem, hint in _PROBLEMS:
        if isinstance(error, kinds):
            return StreamAnswer(problem, hint, _details(error))
    if isinstance(error, PermissionsViolationError) and error.operation == "subscription":
        # What was published may be stored: only its ack could not come in.
        return StreamAnswer(NOT_CONFIRMED, "let the bridge's user subscribe to its inbox, where acks come; see inbox_prefix", {})
    if isinstance(error, StreamStoreError) and "maximum" in error.description:
        # The number is that of all failures to store; what is full only the words say.
        return StreamAnswer(STREAM_FULL, _STREAM_FULL_HINT, {})
    if isinstance(error, JetStreamApiError):
        problem = STREAM_UNAVAILABLE if error.code in _TRY_LATER else STREAM_REFUSED
        return StreamAnswer(problem, "the number of the error says more: see err_code of NATS", {})
    return None


def _details(error: BaseException) -> dict[str, Any]:
    # Who may say what is expected may know what is there.
    last = error.last_sequence if isinstance(error, WrongLastSequenceError) else None
    return {"last_seq": last} if last is not None else {}
