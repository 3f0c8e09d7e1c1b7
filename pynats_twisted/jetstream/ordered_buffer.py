"""What an ordered consumer has read and nobody has taken yet, and who waits for more."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from ..client.waiting import Waiters
from ..errors import NextMessageTimeoutError, SubscriptionClosedError
from .message import JsMsg
from .ordered_reader import OrderedReader

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from ..protocol.message import Msg
    from .api import ConsumerConfig
    from .context import JetStreamContext
    from .pulls import PullPlan

# Whoever waits is woken by the first message at once, but where messages follow so closely, when all of one read are there.
_CLOSELY = 0.001


class Goal:
    """Where somebody ends who wants only what is stored.

    :ivar end: the sequence in the stream behind which nothing was stored at some moment since; None while that is not known.
    """

    __slots__ = ("_since", "end")

    def __init__(self, confirmations: int) -> None:
        self._since = confirmations
        self.end: int | None = None

    def note(self, confirmations: int, position: int) -> None:
        """The server has said so."""
        if self.end is None and confirmations > self._since:
            self.end = position


class OrderedBuffer:
    """The messages of one ordered consumer on their way from its reader to whoever takes them. Its plan bounds them.

    Who takes looks at :meth:`has_next` and :meth:`is_reached`, and else waits for :meth:`changed`, again and again: a message is in here
    until it is taken, so none is lost with somebody who stops waiting.

    :ivar position: the sequence in the stream of the message that was taken last; 0 before.
    :ivar has_ended: nothing more is read, for good; :ivar error: why, or None when the client was closed.
    """

    def __init__(self, js: JetStreamContext, stream: str, config: ConsumerConfig, plan: PullPlan) -> None:
        self._js = js
        self._reactor = js.client.reactor
        self._stream = stream
        self._reader = OrderedReader(js, stream, config, plan, deliver=self._deliver, progressed=self._progressed, ended=self._ended_with)
        self.state = self._reader.state
        self.position = 0
        self.has_ended = False
        self.error: BaseException | None = None
        self._msgs: deque[tuple[Msg, int]] = deque()
        self._takers: deque[Deferred[None]] = deque()
        self._woken_at = 0.0
        self._waking: IDelayedCall | None = None
        self._created = Waiters[None]()
        self._goals: set[Goal] = set()

    def __len__(self) -> int:
        return len(self._msgs)

    @property
    def is_reading(self) -> bool:
        """There is a consumer, and messages come from it."""
        return self._reader.is_reading

    def created(self) -> Deferred[None]:
        """Fires when there is a consumer, or never will be one.

        :raises SubscriptionClosedError: it was suspended before.
        """
        self._begin()
        return self._created.wait()

    def pause(self) -> Deferred[None]:
        """Read no more until somebody waits anew. Fires when the server has deleted the consumer, or did not answer."""
        return self._reader.stop()

    def suspend(self) -> Deferred[None]:
        """As :meth:`pause`; who waits now gets a SubscriptionClosedError."""
        cleaned = self.pause()
        self._do_not_wake()
        takers, self._takers = self._takers, deque()
        for taker in takers:
            taker.errback(self.stopped())
        self._created.fail(self.stopped())
        return cleaned

    def _begin(self) -> None:
        if not self.has_ended:
            self._reader.begin()

    # --- taking ----------------------------------------------------------------------------------------------

    @property
    def has_next(self) -> bool:
        """A message can be taken."""
        return bool(self._msgs)

    def take(self) -> JsMsg:
        """The next message."""
        msg, self.position = self._msgs.popleft()
        self._reader.release(msg)
        return JsMsg(msg, self._js)

    def give_back(self, msgs: list[JsMsg], position: int) -> None:
        """These were taken, the last ones, when the position was that; now they were not."""
        for each in reversed(msgs):
            self._msgs.appendleft((each.msg, each.metadata.stream_seq))
            self._reader.hold(each.msg)
        self.position = position
        self._wake()

    async def changed(self, deadline: float | None = None) -> None:
        """Wait until there may be something to take, or to end for.

        :param deadline: a time of the reactor.
        :raises NextMessageTimeoutError: it has passed.
        :raises SubscriptionClosedError: it was suspended.

        Raises what has ended it all, if something has.
        """
        if self.has_ended:
            raise self.error or self.stopped()
        self._begin()
        if self._msgs or self.has_ended:
            return
        taker: Deferred[None] = Deferred(self._forget)
        self._takers.append(taker)
        if deadline is not None:
            taker.addTimeout(max(0.0, deadline - self._reactor.seconds()), self._reactor, self._too_late)
        await taker

    def stopped(self) -> SubscriptionClosedError:
        """The error for who waits in vain."""
        return SubscriptionClosedError(f"the ordered consumer of stream {self._stream!r} was stopped, or its client closed")

    def _do_not_wake(self) -> None:
        waking, self._waking = self._waking, None
        if waking is not None and waking.active():
            waking.cancel()

    def wake_all(self) -> None:
        """There may be something to end for."""
        self._do_not_wake()
        takers, self._takers = self._takers, deque()
        for taker in takers:
            taker.callback(None)

    def _wake(self) -> None:
        self._do_not_wake()
        self._woken_at = self._reactor.seconds()
        takers = self._takers
        while takers and self._msgs:
            takers.popleft().callback(None)

    def _forget(self, taker: Deferred[None]) -> None:
        if taker in self._takers:
            self._takers.remove(taker)

    def _too_late(self, result: Any, seconds: float) -> Any:
        raise NextMessageTimeoutError(f"no message came from stream {self._stream!r} in time")

    # --- ending at what is stored ----------------------------------------------------------------------------

    def add_goal(self) -> Goal:
        """Somebody wants only what is stored."""
        goal = Goal(self.state.confirmations)
        self._goals.add(goal)
        self._reader.is_draining = True
        # What the server said before may not be true any more.
        self._reader.ask()
        return goal

    def remove_goal(self, goal: Goal) -> None:
        """That one has ended."""
        self._goals.discard(goal)
        self._reader.is_draining = bool(self._goals)

    def is_reached(self, goal: Goal) -> bool:
        """Everything up to a goal was taken."""
        return goal.end is not None and (not self._msgs or self._msgs[0][1] > goal.end)

    def _note_goals(self) -> None:
        state = self.state
        for goal in self._goals:
            goal.note(state.confirmations, state.position or 0)

    # --- what the reader tells -------------------------------------------------------------------------------

    def _deliver(self, msg: Msg, stream_seq: int) -> None:
        self._msgs.append((msg, stream_seq))
        if self._goals and self.state.pending == 0:
            self._note_goals()
        if self._takers and self._waking is None:
            if self._reactor.seconds() - self._woken_at > _CLOSELY:
                self._wake()
            else:
                self._waking = self._reactor.callLater(0, self._wake)

    def _progressed(self) -> None:
        self._created.fire(None)
        if self._goals and self.state.pending == 0:
            self._note_goals()
            self.wake_all()

    def _ended_with(self, error: BaseException | None) -> None:
        self.has_ended = True
        self.error = error
        self._created.fire(None)
        self.wake_all()
