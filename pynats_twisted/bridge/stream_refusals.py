"""What an error of a publish to a stream means for a message that the bridge still has: try again, or give it up."""

from __future__ import annotations

from typing import Final, NamedTuple

from pynats_twisted.errors import (
    InvalidArgumentError,
    JetStreamApiError,
    JetStreamConfigError,
    JetStreamLimitError,
    JetStreamNotEnabledError,
    JetStreamTooManyRequestsError,
    JetStreamUnavailableError,
    MaxPayloadExceededError,
    MessageExceedsMaximumError,
    NoStreamResponseError,
    PermissionsViolationError,
    StreamOfflineError,
    StreamReconfiguringError,
    StreamStoreError,
)


class Refusal(NamedTuple):
    """What an error means.

    :ivar reason: a short word for the metrics.
    :ivar is_final: the message will never be stored as it is; False: it may be, later.
    :ivar hint: what the operator can do.
    """

    reason: str
    is_final: bool
    hint: str = ""


# The first that fits counts.
_REFUSALS: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Refusal], ...]] = (
    (MaxPayloadExceededError, Refusal("max-payload", True, "raise max_payload of the NATS server, or lower max_length of the route")),
    (MessageExceedsMaximumError, Refusal("max-msg-size", True, "raise max_msg_size of the stream, or lower max_length of the route")),
    (NoStreamResponseError, Refusal("no-stream", False, "make a stream with this subject, or see whether the servers that have it are up")),
    (StreamStoreError, Refusal("stream-full", False, 'make room in the stream, or let it drop old messages (discard = "old")')),
    (JetStreamLimitError, Refusal("no-resources", False, "the account or the server has no room left for JetStream")),
    (
        (JetStreamUnavailableError, JetStreamNotEnabledError, JetStreamTooManyRequestsError, StreamOfflineError, StreamReconfiguringError),
        Refusal("stream-unavailable", False, "it passes by itself when the cluster is well again"),
    ),
    ((JetStreamConfigError, InvalidArgumentError), Refusal("not-publishable", True)),
)

_NO_ACK: Final = Refusal("no-ack", False, "see whether NATS is reachable, and whether the stream has a leader and its disk keeps up")
_DENIED: Final = Refusal("permission", True, "let the bridge's user publish there")
_DEAF: Final = Refusal("permission", False, "let the bridge's user subscribe to its inbox, where acks come")
_REFUSED: Final = Refusal("stream-refused", True, "the number of the error says more: see err_code of NATS")
_TRY_LATER: Final = frozenset({429, 503})


def refusal(error: BaseException) -> Refusal:
    """What becomes of a message that was not stored because of *error*."""
    if isinstance(error, PermissionsViolationError):
        # Without its acks nothing is known of the message: it may well be stored.
        return _DEAF if error.operation == "subscription" else _DENIED
    for kinds, refused in _REFUSALS:
        if isinstance(error, kinds):
            return refused
    if isinstance(error, JetStreamApiError):
        return Refusal("stream-unavailable", False) if error.code in _TRY_LATER else _REFUSED
    return _NO_ACK
