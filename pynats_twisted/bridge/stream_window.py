"""One peer's window of messages for ``confirm = "jetstream"``: a message is done when a stream has stored it. See :mod:`.publishing`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from twisted.python.failure import Failure

from pynats_twisted.bridge.stream_refusals import refusal
from pynats_twisted.bridge.window import GONE, WINDOW_BYTES, Message, PublishWindow, WindowOwner
from pynats_twisted.errors import NatsError, OutboundBufferFullError

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall

    from pynats_twisted.bridge.publishing import PublishLane
    from pynats_twisted.jetstream.api import PubAck

ACK_TIMEOUT: Final = 10.0
"""Seconds that a stream has to answer before a message is published again."""

_STORED, _AGAIN = "stored", "again"


class _Sent:
    """A message on its way to its stream.

    :ivar message: the message; :ivar since: when it was offered; :ivar msg_id: its id in the stream, or an empty text.
    :ivar outcome: empty while there is none; ``stored``, ``again`` (it is to be published again), or why it was refused.
    :ivar ack: what will tell, while there is no outcome.
    :ivar failing_since: when it was not stored for the first time.
    """

    __slots__ = ("ack", "failing_since", "message", "msg_id", "outcome", "since")

    def __init__(self, message: Message, since: float, msg_id: str) -> None:
        self.message = message
        self.since = since
        self.msg_id = msg_id
        self.outcome = ""
        self.ack: Deferred[PubAck] | None = None
        self.failing_since: float | None = None


class StreamWindow(PublishWindow):
    """The messages of one peer on their way to a stream.

    What was not stored for a reason that may pass (no stream, a full one, no leader, no ack) is published again, with the id that it
    had, for as long as the lane's ``retry_for`` says. Meanwhile nothing new is published: once the answers to all that is under way have
    come, the oldest message goes first and alone, and the others follow it in their order when it was stored.
    """

    def __init__(self, lane: PublishLane, owner: WindowOwner) -> None:
        super().__init__(lane, owner)
        self._sent: deque[_Sent] = deque()
        self._again: deque[_Sent] = deque()
        self._unanswered = 0
        self._holding = False
        self._probe: _Sent | None = None
        self._settling: IDelayedCall | None = None

    @property
    def in_flight(self) -> int:
        return len(self._waiting) + len(self._sent)

    @property
    def is_holding(self) -> bool:
        """Whether something has to be published again before anything else goes on."""
        return self._holding and bool(self._sent)

    def give_up(self, reason: str) -> None:
        self._tell()
        super().give_up(reason)

    def fail(self, reason: str) -> None:
        self._tell()
        super().fail(reason)

    def _clear(self) -> int:
        left = super()._clear()
        # The epoch is another one now: nobody listens to these any more.
        sent, self._sent = self._sent, deque()
        self._again.clear()
        self._unanswered = 0
        self._holding, self._probe = False, None
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        for entry in sent:
            if entry.ack is not None:
                entry.ack.cancel()
        return left

    # --- out ---------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        if self._holding:
            if self._unanswered or not self._lane.may_retry:
                return
            self._probe = next((entry for entry in self._sent if entry.outcome == _AGAIN), None)
            if self._probe is not None:
                if not self._send(self._probe):
                    self._probe = None
                return
            self._holding = False
        while self._again:
            entry = self._again.popleft()
            if not self._send(entry):
                self._again.appendleft(entry)
                return
        waiting, sent, lane = self._waiting, self._sent, self._lane
        limit = lane.limit
        while waiting and len(sent) < limit and self._unconfirmed_bytes < WINDOW_BYTES and not self._holding:
            message = waiting.popleft()
            assert isinstance(message, Message)
            entry = _Sent(message, self._offered_at, lane.next_id())
            sent.append(entry)
            size = len(message.payload)
            self.waiting_bytes -= size
            self._unconfirmed_bytes += size
            if not self._send(entry):
                # It was published by nobody, so that it can wait like those behind it.
                sent.pop()
                waiting.appendleft(message)
                self.waiting_bytes += size
                self._unconfirmed_bytes -= size
                break

    def _send(self, entry: _Sent) -> bool:
        """Publish, unless the client has no room at the moment."""
        message, epoch = entry.message, self._epoch
        jetstream = self._lane.jetstream
        assert jetstream is not None
        entry.outcome = ""
        try:
            ack = jetstream.publish(
                message.subject, message.payload, message.headers, msg_id=entry.msg_id or None, retries=0, timeout=ACK_TIMEOUT
            )
        except OutboundBufferFullError:
            entry.outcome = _AGAIN
            self._lane.retry_soon()
            return False
        except NatsError as error:
            self._unanswered += 1
            self._told(entry, Failure(error))
            return True
        self._unanswered += 1
        entry.ack = ack
        ack.addCallbacks(self._stored, self._not_stored, callbackArgs=(entry, epoch), errbackArgs=(entry, epoch))
        return True

    # --- back --------------------------------------------------------------------------------------------------

    def _stored(self, ack: PubAck, entry: _Sent, epoch: int) -> None:
        if epoch != self._epoch:
            return
        lane = self._lane
        if ack.duplicate:
            lane.metrics.duplicates.inc()
        if lane.activity.watched:
            message, took = entry.message, lane.reactor.seconds() - entry.since
            lane.activity.hop(
                "stored", message.subject, size=len(message.payload), stream=ack.stream, seq=ack.seq, duplicate=str(ack.duplicate),
                ms=took * 1000,
            )  # fmt: skip
        lane.stored()
        self._has_outcome(entry, _STORED)

    def _not_stored(self, failure: Failure, entry: _Sent, epoch: int) -> None:
        if epoch == self._epoch:
            self._told(entry, failure)

    def _told(self, entry: _Sent, failure: Failure) -> None:
        lane = self._lane
        error = failure.value
        assert error is not None
        if isinstance(error, GONE):
            self._has_outcome(entry, _AGAIN)
            self.fail("closed")
            return
        refused = refusal(error)
        if refused.is_final:
            lane.metrics.failed(refused.reason)
            lane.activity.error(refused.reason, f"{entry.message.subject}: {error}", refused.hint)
            self._has_outcome(entry, refused.reason)
            return
        lane.metrics.retries.inc()
        lane.stalled(refused, f"{entry.message.subject}: {error}")
        self._holding = True
        now = lane.reactor.seconds()
        if entry.failing_since is None:
            entry.failing_since = now
        if now - entry.failing_since < lane.retry_for:
            self._has_outcome(entry, _AGAIN)
        else:
            lane.metrics.failed(refused.reason)
            self._has_outcome(entry, refused.reason)

    def _has_outcome(self, entry: _Sent, outcome: str) -> None:
        entry.outcome = outcome
        entry.ack = None
        self._unanswered -= 1
        if entry is self._probe:
            self._probe = None
            if outcome != _AGAIN:
                self._holding = False
                self._again = deque(each for each in self._sent if each.outcome == _AGAIN)
        if self._settling is None:
            # Acks come many at a time.
            self._settling = self._lane.reactor.callLater(0, self._settle)

    def _settle(self) -> None:
        """Tell the owner what is done, and go on."""
        self._settling = None
        self._tell()
        self.pump()
        if not self._lane.is_up:
            self._look()

    def _tell(self) -> None:
        """Tell the owner of those that are done, in their order."""
        sent = self._sent
        while sent and sent[0].outcome and sent[0].outcome != _AGAIN:
            count = size = 0
            since = sent[0].since
            while sent and sent[0].outcome == _STORED:
                size += len(sent.popleft().message.payload)
                count += 1
            self._unconfirmed_bytes -= size
            if count:
                self._done(count, size, since)
            else:
                entry = sent.popleft()
                self._unconfirmed_bytes -= len(entry.message.payload)
                self._owner.window_refused(entry.outcome)
