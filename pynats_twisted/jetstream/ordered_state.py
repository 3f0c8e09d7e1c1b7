"""How an ordered consumer heals (ADR-37): a state machine without I/O, without a clock and without Twisted.

It is told what happens, and says what is to be done: make a consumer, delete one, wait. What it lets through is what the stream
stores, each message once and in order, whatever happens to the consumers and connections below.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ..errors import (
    ConfigurationError,
    ConnectionClosedError,
    ConnectionDrainingError,
    ConsumerNameInUseError,
    InvalidArgumentError,
    JetStreamApiError,
    JetStreamApiLevelError,
    JetStreamDecodeError,
    JetStreamNotEnabledError,
    JetStreamUnavailableError,
    MaximumConsumersError,
    NatsError,
    PermissionsViolationError,
    StreamNotFoundError,
    StreamRecreatedError,
)

FIRST_WAIT = 1.0
LONGEST_WAIT = 10.0

# A stream that was there and is said to be missing may only be on its way back; one that is missing so often is gone.
_MISSING = 2

# The code of "try later".
_TOO_MANY = 429


class Phase(Enum):
    """Where it stands."""

    #: Nothing is wanted.
    IDLE = "idle"
    #: There is no connection.
    OFFLINE = "offline"
    #: A consumer was asked for.
    CREATING = "creating"
    #: There is a consumer.
    READING = "reading"
    #: The next attempt to make a consumer comes later.
    WAITING = "waiting"
    #: For good.
    ENDED = "ended"


@dataclass(frozen=True)
class Create:
    """Make a consumer of this name, and tell :meth:`OrderedState.created` or :meth:`OrderedState.create_failed`.

    :ivar start: begin at this sequence of the stream; None: where the user said.
    """

    name: str
    start: int | None


@dataclass(frozen=True)
class Delete:
    """Delete this consumer, if it is there. Nothing depends on it."""

    name: str


@dataclass(frozen=True)
class Wait:
    """Call :meth:`OrderedState.resume` after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class End:
    """It is over.

    :ivar error: why; None when somebody wanted it so.
    """

    error: BaseException | None


Action = Create | Delete | Wait | End


class OrderedState:
    """The state of one ordered consumer, over all the consumers that it uses one after another.

    After each call, what is in :attr:`actions` has to be done, in order, and taken out.

    :param prefix: the names of the consumers are this, an underscore and a number.
    :param jitter: gives numbers from 0 to 1, by which waits are made shorter, down to half.

    :ivar phase: where it stands.
    :ivar name: the consumer that is in use or asked for, or None.
    :ivar position: the sequence of the stream up to which everything was read, or before which reading began; None when that is not
        known yet.
    :ivar pending: messages that were stored behind the last one that was let through, when the server last said it; None before.
    :ivar confirmations: how often the server said it.
    :ivar resets: how often a consumer was lost.
    :ivar reason: why one was lost last, or could not be made, or ``""``.
    """

    __slots__ = (
        "_attempts",
        "_consumer_seq",
        "_jitter",
        "_missing",
        "_number",
        "_prefix",
        "_proven",
        "actions",
        "confirmations",
        "name",
        "pending",
        "phase",
        "position",
        "reason",
        "resets",
    )

    def __init__(self, prefix: str, jitter: Callable[[], float] = random.random) -> None:
        self._prefix = prefix
        self._jitter = jitter
        self._number = 0
        self._consumer_seq = 0
        # Attempts to have a consumer since one was of use.
        self._attempts = 0
        self._missing = 0
        # A consumer could be made once: what was asked for is no nonsense.
        self._proven = False
        self.actions: list[Action] = []
        self.phase = Phase.IDLE
        self.name: str | None = None
        self.position: int | None = None
        self.pending: int | None = None
        self.confirmations = 0
        self.resets = 0
        self.reason = ""

    def __repr__(self) -> str:
        return f"<OrderedState {self.phase.value} {self.name} at {self.position}>"

    def take_actions(self) -> list[Action]:
        """What is to be done, in order."""
        actions, self.actions = self.actions, []
        return actions

    # --- what is wanted --------------------------------------------------------------------------------------

    def begin(self, connected: bool) -> None:
        """Read, from where it stands. Does nothing when it reads already."""
        if self.phase is not Phase.IDLE:
            return
        self._attempts = 0
        if connected:
            self._create()
        else:
            self.phase = Phase.OFFLINE

    def stop(self) -> None:
        """Read no more; :meth:`begin` goes on from here. A consumer that is being made is deleted when it is there."""
        if self.phase is not Phase.ENDED:
            self._give_up()
            self.phase = Phase.IDLE

    def end(self, error: BaseException | None) -> None:
        """Read no more, for good."""
        if self.phase is not Phase.ENDED:
            self._give_up()
            self.phase = Phase.ENDED
            self.actions.append(End(error))

    # --- what happens ----------------------------------------------------------------------------------------

    def created(self, name: str, floor: int | None, pending: int) -> None:
        """A consumer is there.

        :param floor: the sequence of the stream behind which it delivers; None where that is not how it chooses its messages.
        :param pending: messages that are stored for it.
        """
        if name != self.name or self.phase is not Phase.CREATING:
            self.actions.append(Delete(name))
            return
        self.phase = Phase.READING
        self._proven = True
        self._missing = 0
        self._consumer_seq = 0
        if self.position is None:
            self.position = floor
        elif floor is not None and floor < self.position:
            self.end(_recreated(self.position, floor))
            return
        self._confirm(pending)

    def create_failed(self, name: str, error: BaseException) -> None:
        """A consumer could not be made, or nobody said whether it was."""
        if not isinstance(error, JetStreamApiError):
            self.actions.append(Delete(name))
        if name != self.name or self.phase is not Phase.CREATING:
            return
        self.name = None
        self._missing = self._missing + 1 if isinstance(error, StreamNotFoundError) else 0
        if self._is_final(error):
            self.end(error)
        else:
            self.reason = str(error) or type(error).__name__
            self._try_again()

    def message(self, consumer: str, stream_seq: int, consumer_seq: int, pending: int) -> bool:
        """A message came. Returns whether it is the next one; another one must not be handed out."""
        if consumer != self.name or self.phase is not Phase.READING:
            return False
        expected = self._consumer_seq + 1
        if consumer_seq != expected:
            if consumer_seq > expected:
                self.lost(f"message {consumer_seq} of the consumer came where {expected} was expected")
            return False
        if self.position is not None and stream_seq <= self.position:
            self.end(_recreated(self.position, stream_seq))
            return False
        self._consumer_seq = consumer_seq
        self.position = stream_seq
        self._attempts = 0
        self._confirm(pending)
        return True

    def heartbeat(self, consumer_seq: int | None) -> None:
        """The server gave a sign of life.

        :param consumer_seq: the last message that the consumer sent, where it says so.
        """
        if self.phase is not Phase.READING:
            return
        if consumer_seq is not None and consumer_seq > self._consumer_seq:
            self.lost(f"the consumer sent {consumer_seq} messages, and {self._consumer_seq} came")
        else:
            self._attempts = 0

    def info(self, consumer: str, consumer_seq: int, pending: int) -> None:
        """The server said how far a consumer is: so many messages sent, so many still stored for it."""
        if consumer == self.name and self.phase is Phase.READING and consumer_seq == self._consumer_seq:
            self._confirm(pending)

    def stream_at(self, last_seq: int, start: int) -> None:
        """The stream stood at ``last_seq`` after a consumer had been made that begins at ``start``."""
        if last_seq + 1 < start and self.phase not in (Phase.IDLE, Phase.ENDED):
            self.end(_recreated(start - 1, last_seq))

    def lost(self, reason: str) -> None:
        """The consumer is of no use any more: it was deleted, it is silent, or a message is missing."""
        if self.phase is Phase.READING:
            self.reason = reason
            self.resets += 1
            self._give_up()
            self._try_again()

    def disconnected(self) -> None:
        """There is no connection any more."""
        if self.phase in (Phase.CREATING, Phase.READING, Phase.WAITING):
            self.reason = "the connection was lost"
            self.resets += self.phase is Phase.READING
            self._give_up()
            self.phase = Phase.OFFLINE

    def connected(self) -> None:
        """There is a connection, perhaps another one than before."""
        self.disconnected()
        if self.phase is Phase.OFFLINE:
            self._attempts = 0
            self._create()

    def resume(self) -> None:
        """A wait is over."""
        if self.phase is Phase.WAITING:
            self._create()

    # --- inside ----------------------------------------------------------------------------------------------

    def _confirm(self, pending: int) -> None:
        self.pending = pending
        self.confirmations += 1

    def _give_up(self) -> None:
        """Use the consumer no more. One that is only asked for is deleted when the answer comes."""
        if self.phase is Phase.READING and self.name is not None:
            self.actions.append(Delete(self.name))
        self.name = None

    def _try_again(self) -> None:
        if not self._attempts:
            self._create()
            return
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._attempts - 1, 10))
        self.phase = Phase.WAITING
        self.actions.append(Wait(wait * (1.0 - self._jitter() / 2)))

    def _create(self) -> None:
        self._attempts += 1
        self._number += 1
        self.name = f"{self._prefix}_{self._number}"
        self.phase = Phase.CREATING
        self.actions.append(Create(self.name, None if self.position is None else self.position + 1))

    def _is_final(self, error: BaseException) -> bool:
        """Whether trying again cannot help."""
        if not isinstance(error, NatsError) or isinstance(error, (ConnectionClosedError, ConnectionDrainingError)):
            return True
        if isinstance(error, (ConfigurationError, InvalidArgumentError, PermissionsViolationError)):
            return True
        if isinstance(error, (JetStreamApiLevelError, JetStreamDecodeError)):
            return True
        if isinstance(error, StreamNotFoundError):
            return not self._proven or self._missing >= _MISSING
        if isinstance(error, (JetStreamUnavailableError, ConsumerNameInUseError)):
            return False
        if isinstance(error, (JetStreamNotEnabledError, MaximumConsumersError)):
            # Of the servers of a cluster, one may not be ready; and the consumer before may not be deleted yet.
            return not self._proven
        return isinstance(error, JetStreamApiError) and (not self._proven or (400 <= error.code < 500 and error.code != _TOO_MANY))


def _recreated(read: int, found: int) -> StreamRecreatedError:
    return StreamRecreatedError(f"the stream was read up to sequence {read}, and now is at {found}: it is not what it was")
