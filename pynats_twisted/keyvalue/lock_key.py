"""The key of a lock as its bucket's stream has it: read, taken, renewed and given back. What is done here takes one step each; the time
is kept elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from ..errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    DisconnectedError,
    ExpectationNotReadyError,
    JetStreamApiError,
    JetStreamConfigError,
    JetStreamNotEnabledError,
    MessageNotFoundError,
    NatsError,
    NatsTimeoutError,
    NoRespondersError,
    OutboundBufferFullError,
    PublishUnconfirmedError,
    StreamStoreError,
)
from ..jetstream.api import MsgGetRequest, MsgGetResponse
from ..jetstream.checks import is_number
from ..jetstream.deferred import deferred
from ..jetstream.expectations import MSG_ID, publish_headers
from ..jetstream.stored import from_api
from ..protocol.subjects import random_token
from .entry import OPERATION, Operation, operation_of_message, revision_and_time

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from ..jetstream.api import PubAck
    from ..jetstream.message import JsMsg
    from ..jetstream.stored import StoredMsg
    from .bucket import KeyValue

_PURGE = {OPERATION: Operation.PURGE.value}
_SHORTEST_TTL = 1.0
# What goes by by itself.
_PASSING = (
    DisconnectedError,
    ExpectationNotReadyError,
    NatsTimeoutError,
    NoRespondersError,
    OutboundBufferFullError,
    PublishUnconfirmedError,
)
# What does not, although the server says the same of it.
_LASTING = (ConnectionClosedError, ConnectionDrainingError, StreamStoreError)
_UNAVAILABLE = 503


class Claim:
    """Who wants or has a lock: each time that it is asked for is one claim.

    The messages of a claim have ids that begin with its own, so that its owner recognises what is stored, also when no ack came.
    """

    def __init__(self) -> None:
        self.id = random_token()
        self._count = 0

    def new_msg_id(self) -> str:
        """An id for the next message."""
        self._count += 1
        return f"{self.id}.{self._count}"


@dataclass(frozen=True)
class LockState:
    """What a stream has of a lock.

    :ivar revision: of the last message of the key; 0 when there is none.
    :ivar is_free: nobody has it.
    :ivar claim_id: whose message it is; empty when it is nobody's.
    """

    revision: int
    is_free: bool
    claim_id: str

    def is_of(self, claim: Claim) -> bool:
        """Whether that claim has it."""
        return self.claim_id == claim.id and not self.is_free


def state_of(msg: StoredMsg | JsMsg) -> LockState:
    """What a message of the key says of the lock."""
    claim_id = (msg.headers.get(MSG_ID) or "").rpartition(".")[0]
    return LockState(revision_and_time(msg)[0], operation_of_message(msg) is not Operation.PUT, claim_id)


class LockKey:
    """The key of one lock. That of a mirror's is in its origin, where it is written.

    :param value: what the holder writes there.

    :ivar js: through which the stream is asked. :ivar stream_name: the stream.
    :ivar bucket: the bucket. :ivar name: the key, as its user names it.
    :ivar subject: where it is published. :ivar stored_subject: how the stream knows it.
    :ivar ttl: seconds after which it is free when it is not renewed.
    """

    def __init__(self, kv: KeyValue, name: str, ttl: float, value: Any) -> None:
        subjects = kv.subjects
        self.bucket = kv.bucket
        self.name: str = name
        self.subject = subjects.write(name)
        self.stored_subject = subjects.origin(name)
        self.stream_name = subjects.origin_stream
        self.ttl = _checked_ttl(kv, ttl)
        self._value = kv.encode_value(value)
        js = kv.js
        if subjects.origin_api.prefix != js.prefix.prefix:
            js = js.client.jetstream(api_prefix=subjects.origin_api.prefix, timeout=js.timeout)
        self.js = js

    @property
    def reactor(self) -> IReactorTime:
        """The client's."""
        reactor: IReactorTime = self.js.client.reactor
        return reactor

    @deferred
    async def read(self, timeout: float | None = None) -> LockState:
        """Ask the stream's leader, who knows all that is stored."""
        request = MsgGetRequest(last_by_subj=self.stored_subject)
        try:
            answer = await self.js.call(MsgGetResponse, self.js.prefix.msg_get(self.stream_name), request, timeout=timeout)
        except MessageNotFoundError:
            return LockState(0, True, "")
        return state_of(from_api(answer.message))

    def write(self, claim: Claim, revision: int, timeout: float | None = None) -> Deferred[PubAck]:
        """Take it, or renew it, if this is its revision. What was before goes, whatever the history of the bucket is."""
        return self.js.publish(
            self.subject,
            self._value,
            msg_id=claim.new_msg_id(),
            expected_last_subject_seq=revision,
            ttl=self.ttl,
            rollup="sub",
            timeout=timeout,
        )

    def give_back(self, claim: Claim, revision: int, timeout: float | None = None) -> Deferred[PubAck]:
        """Make it free, if this is its revision."""
        return self.js.publish(
            self.subject,
            b"",
            _PURGE,
            msg_id=claim.new_msg_id(),
            expected_last_subject_seq=revision,
            ttl=self.ttl,
            rollup="sub",
            timeout=timeout,
        )

    def give_back_unheard(self, claim: Claim, revision: int) -> None:
        """As :meth:`give_back`, with nobody left to hear of it: the client is about to be closed."""
        headers = publish_headers(_PURGE, msg_id=claim.new_msg_id(), expected_last_subject_seq=revision, ttl=self.ttl, rollup="sub")
        self.js.client.publish(self.subject, b"", headers=headers)


def may_pass(error: NatsError) -> bool:
    """Whether what has failed may work again without anybody doing anything: a server is away, or busy."""
    if isinstance(error, _LASTING):
        return False
    if isinstance(error, JetStreamApiError) and error.code == _UNAVAILABLE:
        return not (isinstance(error, JetStreamNotEnabledError) and error.err_code)
    return isinstance(error, _PASSING)


def _checked_ttl(kv: KeyValue, ttl: float) -> float:
    """Check the time to live of a lock against what is known of its bucket."""
    if not is_number(ttl) or not _SHORTEST_TTL <= ttl < float("inf"):
        raise JetStreamConfigError("ttl", ttl, f"must be a number of seconds, at least {_SHORTEST_TTL:g}")
    config = kv.stream.config
    if config.mirror is None:
        if not config.allow_msg_ttl:
            raise JetStreamConfigError("ttl", ttl, f"needs limit_marker_ttl or allow_msg_ttl, which bucket {kv.bucket!r} has not")
        marker, oldest = config.subject_delete_marker_ttl, config.max_age
        if ttl < marker and config.max_msgs_per_subject != 1:
            # With a history, the server keeps nothing for a shorter time than its markers.
            rule = f"must be at least {marker:g}, the limit_marker_ttl of bucket {kv.bucket!r}, as that has a history"
            raise JetStreamConfigError("ttl", ttl, rule)
        if 0 < oldest < ttl:
            raise JetStreamConfigError("ttl", ttl, f"must be at most {oldest:g}, the ttl of bucket {kv.bucket!r}")
    return float(ttl)
