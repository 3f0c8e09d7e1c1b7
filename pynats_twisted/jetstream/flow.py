"""The accounting of fast ingest (ADR-50): what was sent, what the server said of it, and how much more may be sent.

No I/O and no clock: whoever drives it passes in what came, and what time it is.
"""

from __future__ import annotations

from math import inf
from typing import Final

from ..errors import (
    FastBatchError,
    FastIngestError,
    FastIngestGapError,
    FastIngestTimeoutError,
    JetStreamApiError,
    JetStreamDecodeError,
    NatsError,
    NoStreamResponseError,
    UnknownFastBatchError,
)
from .api import BatchFlowAck, BatchFlowError, BatchFlowGap, PubAck, decode_batch_flow

_START: Final = 0
_APPEND: Final = 1
_COMMIT: Final = 2
_COMMIT_EOB: Final = 3
_PING: Final = 4

# The server forgets a batch of which it has heard nothing for 10 seconds.
_KEEP_ALIVE = 3.0
_NO_RESPONDERS = 503
_LOST = "messages were lost on their way"


class IngestFlow:
    """One batch of fast ingest.

    Messages have sequences from 1. The server acks one of them every now and then, and with it all before; it says how many come
    before its next ack. No more than ``outstanding`` times that number are sent ahead of the last ack.

    :param inbox: what the server says of the batch comes below this subject; its last token is the batch's id.
    :param flow: the server acks at least every so many messages.
    :param outstanding: how many acks may be missing.
    :param gap_ok: go on when messages were lost or refused.
    :param timeout: seconds that the batch waits for the server, each time.
    :ivar subject: the subject of the first message: the stream is known to have it.
    :ivar sent: the last sequence that was used; :ivar last: that of the last message. The end may have one of its own.
    :ivar acked: the server had everything up to this sequence.
    :ivar reached: the window begins behind this sequence: what the server refused has no ack, and would fill the window for ever.
    :ivar interval: the messages from one ack to the next, as the server wants it now.
    :ivar lost: messages that did not reach the stream, as far as the server noticed.
    :ivar refused: messages that the server refused. One that was too large to be looked at counts as lost as well.
    :ivar pub_ack: the final ack, of a batch that failed too, or None.
    :ivar error: why the batch failed, or None.
    :ivar done: nothing more comes.
    """

    def __init__(self, inbox: str, *, flow: int, outstanding: int, gap_ok: bool, timeout: float) -> None:
        # It keeps the flow that was asked for, also when the server goes slower.
        self._prefix = f"{inbox}.{flow}.{'ok' if gap_ok else 'fail'}."
        self.flow = flow
        self._outstanding = outstanding
        self._gap_ok = gap_ok
        self._timeout = timeout
        self._ping_after = min(timeout / 3, _KEEP_ALIVE)
        self.subject = ""
        self.sent = 0
        self.acked = 0
        self.interval = flow
        self.lost = 0
        self.refused = 0
        self.pub_ack: PubAck | None = None
        self.error: NatsError | None = None
        self.done = False
        # The end was asked for.
        self.closing = False
        self.last = 0
        self._started = False
        self.reached = 0
        # The server ends the batch; nothing more may be sent.
        self._stopped = False
        self._why: NatsError | str = ""
        self._why_seq = 0
        # Since when something is waited for, and since when nothing was sent.
        self._since: float | None = None
        self._quiet_since = 0.0

    # --- sending ---------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """A message may be sent, now or later."""
        return not (self.done or self.closing or self._stopped)

    @property
    def has_room(self) -> bool:
        """A message may be sent now."""
        if not self.is_open:
            return False
        if not self._started:
            return not self.sent
        return self.reached + self.interval * self._outstanding > self.sent

    def next_append(self) -> str:
        """The reply subject for the next message."""
        return self._reply(self.sent + 1, _APPEND if self.sent else _START)

    def appended(self, subject: str, now: float) -> None:
        """That message was sent."""
        if not self.sent:
            self.subject = subject
        self.sent += 1
        self.last = self.sent
        self._sent(now)

    def next_commit(self) -> str:
        """The reply subject for the last message, which is stored."""
        return self._reply(self.sent + 1, _COMMIT)

    def committed(self, subject: str, now: float) -> None:
        """The last message was sent."""
        self.closing = True
        self.appended(subject, now)

    def next_end(self) -> str:
        """The reply subject for the end without a message, which is published to :attr:`subject`. Not for an empty batch."""
        return self._reply(self.sent + 1, _COMMIT_EOB)

    def ended(self, now: float) -> None:
        """The end was sent."""
        self.closing = True
        self.sent += 1
        self._sent(now)

    def ping(self) -> str:
        """The reply subject for a ping, which is published to :attr:`subject`. It takes no sequence."""
        return self._reply(self.sent, _PING)

    def _reply(self, seq: int, operation: int) -> str:
        return f"{self._prefix}{seq}.{operation}.$FI"

    def _sent(self, now: float) -> None:
        self._quiet_since = now
        self._wait(now)

    # --- time ------------------------------------------------------------------------------------------------

    def _wait(self, now: float) -> None:
        if self.has_room:
            self._since = None
        elif self._since is None:
            self._since = now

    @property
    def _may_ping(self) -> bool:
        # The server would take a ping with the sequence 1 for the beginning of a batch when it is done with that one.
        return not (self.closing and self.sent == 1)

    @property
    def due(self) -> float:
        """When :meth:`tick` is to be called, unless something is sent before."""
        if self.done or not self.sent:
            return inf
        late = inf if self._since is None else self._since + self._timeout
        return min(late, self._quiet_since + self._ping_after) if self._may_ping else late

    def tick(self, now: float) -> bool:
        """The time has come. True when a ping is to be sent."""
        if self.done or not self.sent:
            return False
        if self._since is not None and now >= self._since + self._timeout:
            what = "the first" if not self._started else "the final" if self.closing or self._stopped else "an"
            text = f"{what} ack of the server did not come within {self._timeout:g} s"
            late = FastIngestTimeoutError(text, self.acked, self.last)
            self.fail(self._why if isinstance(self._why, NatsError) else late)
            return False
        if not self._may_ping or now < self._quiet_since + self._ping_after:
            return False
        self._quiet_since = now
        return True

    # --- the server speaks -----------------------------------------------------------------------------------

    def received(self, subject: str, data: bytes, status: int | None, now: float) -> BatchFlowGap | BatchFlowError | None:
        """Something came.

        :param subject: where: the reply subject of one of our messages.
        :param status: the status in its headers, or None.
        :returns: what is to be told to the user: messages were lost or refused, and the batch goes on.
        """
        if self.done:
            return None
        problem: BatchFlowGap | BatchFlowError | None = None
        try:
            if status == _NO_RESPONDERS and not data:
                self._nobody(subject, now)
            else:
                problem = self._said(decode_batch_flow(data), now)
        except JetStreamApiError as error:
            problem = self._denied(subject, error, status, now)
        except JetStreamDecodeError as error:
            self.fail(error)
        self._wait(now)
        return problem

    def _said(self, said: PubAck | BatchFlowAck | BatchFlowGap | BatchFlowError, now: float) -> BatchFlowGap | BatchFlowError | None:
        if isinstance(said, BatchFlowAck):
            self._started = True
            if self.acked <= said.seq <= self.last:
                self.acked = said.seq
                self.reached = max(self.reached, said.seq)
                self.interval = max(1, min(said.msgs, self.flow))
            return None
        if isinstance(said, PubAck):
            self._finished(said)
            return None
        if isinstance(said, BatchFlowGap):
            self.lost += max(0, min(said.seq, self.last + 1) - said.last_seq)
        else:
            self.refused += 1
            self.reached = max(self.reached, min(said.seq, self.sent))
        if self._gap_ok:
            return said
        if isinstance(said, BatchFlowGap):
            # Where only the end was lost, all is well: the server ends the batch for the gap.
            if said.last_seq <= self.last:
                self._stop(said.last_seq, _LOST, now)
        else:
            self._stop(said.seq, said.error, now)
        return None

    def _stop(self, seq: int, why: NatsError | str, now: float) -> None:
        """The server ends the batch because of that message. The final ack follows, and says how far the batch was stored."""
        if not self._stopped or seq < self._why_seq:
            self._why_seq = seq
            self._why = why
        if not self._stopped:
            self._stopped = True
            self._since = now

    def _finished(self, ack: PubAck) -> None:
        self.pub_ack = ack
        # A batch of one message may be acked like any other publish.
        count = ack.count if ack.batch or self.sent > 1 else 1
        self.acked = max(self.acked, min(count, self.last))
        if self._stopped:
            self.fail(self._reason())
        elif not self.closing or (count < self.last and not self._gap_ok):
            self._why = _LOST if count < self.last and not self._gap_ok else "the server ended the batch"
            self.fail(self._reason())
        else:
            self.done = True

    def _reason(self) -> NatsError:
        if isinstance(self._why, str):
            kind = FastIngestGapError if self._why == _LOST else FastIngestError
            return kind(self._why, self.acked, self.last)
        return self._why

    def _denied(self, subject: str, error: JetStreamApiError, status: int | None, now: float) -> BatchFlowError | None:
        seq, operation = self._place(subject)
        if isinstance(error, UnknownFastBatchError) and self._stopped:
            self.fail(self._reason())
            return None
        is_of_message = self._started and operation in (_APPEND, _COMMIT) and not isinstance(error, FastBatchError)
        if isinstance(error, UnknownFastBatchError) and self.closing and self._started:
            # It knows no more of a batch that it has ended, so it had said so before.
            text = "the final ack was lost, and how much behind the last ack was stored is not known"
            lost = FastIngestError(text, self.acked, self.last)
            lost.__cause__ = error
            self.fail(lost)
        elif is_of_message and not self._gap_ok:
            self._skipped(seq, error, now)
        elif is_of_message and operation == _APPEND:
            if status is None:
                self.refused += 1
                self.reached = max(self.reached, min(seq, self.sent))
            return BatchFlowError(seq=seq, error=error)
        else:
            self.fail(error)
        return None

    def _nobody(self, subject: str, now: float) -> None:
        seq, operation = self._place(subject)
        if not self._started:
            self.fail(NoStreamResponseError(self.subject))
        elif operation in (_COMMIT, _COMMIT_EOB) and self._gap_ok:
            # The server would take it for a gap, and go on.
            self.fail(FastIngestError("no stream took the end of the batch", self.acked, self.last))
        elif operation == _COMMIT_EOB:
            self._ask(now)
        elif operation != _PING and not self._gap_ok:
            self._skipped(seq, f"no stream has the subject of message {seq}", now)
        # Else the server tells of the gap when the next message comes. A ping is sent again.

    def _skipped(self, seq: int, why: NatsError | str, now: float) -> None:
        """A message did not come as far as the batch. The server finds that out by what comes next."""
        self._stop(seq, why, now)
        self._ask(now)

    def _ask(self, now: float) -> None:
        """A ping is due."""
        self._quiet_since = now - self._ping_after

    def _place(self, subject: str) -> tuple[int, int]:
        """The sequence and the operation of the message that something was said of; 0 and -1 when the subject does not say it."""
        seq, _, rest = subject.removeprefix(self._prefix).partition(".")
        operation = rest.removesuffix(".$FI")
        if seq.isdecimal() and operation.isdecimal() and len(seq) < 20 and len(operation) == 1:
            return int(seq), int(operation)
        return 0, -1

    # --- the end ---------------------------------------------------------------------------------------------

    def fail(self, error: NatsError) -> None:
        """The batch is over."""
        if not self.done:
            self.done = True
            self.error = error
