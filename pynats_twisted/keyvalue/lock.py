"""Locks: a key that one holder has at a time, and that is free again when its holder is gone."""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ..client.waiting import check_seconds
from ..errors import (
    ConnectionClosedError,
    LockTimeoutError,
    NatsError,
    NextMessageTimeoutError,
    StreamRecreatedError,
    SubscriptionClosedError,
    WrongLastSequenceError,
)
from ..jetstream.subject_watch import SubjectWatch
from .held import LOST_AT, HeldLock
from .lock_key import Claim, LockKey, LockState, may_pass, state_of

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from ..jetstream.api import PubAck
    from .bucket import KeyValue

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
# Between tries for a lock that others are faster to get, which they do not for long.
_CROWD_PAUSE = 0.02


class KeyValueLock:
    """A lock in a bucket: :meth:`.KeyValue.lock` makes it. One object may be used again and again.

    ``async with lock as held:`` waits for it without an end, and gives it back. Of several that do so with the same object, one is inside
    at a time, also when the lock was lost meanwhile. Or take it with :meth:`acquire`, any number of times.

    The holder's key has a time to live, so that it is free again when its holder is gone; :class:`.HeldLock` keeps it alive until then.

    :ivar name: the key. :ivar ttl: seconds after which it is free when its holder is gone.
    """

    def __init__(self, kv: KeyValue, key: LockKey) -> None:
        self._kv = kv
        self._key = key
        self.name: str = key.name
        self.ttl = key.ttl
        self._inside = DeferredLock()
        self._entered: HeldLock | None = None
        self._acquiring: set[Deferred[HeldLock]] = set()
        self._held: set[HeldLock] = set()

    def __repr__(self) -> str:
        return f"<KeyValueLock {self.name!r} of bucket {self._key.bucket!r}>"

    def acquire(self, timeout: float | None = None) -> Deferred[HeldLock]:
        """Wait until the lock is free, and take it. Fires with what keeps it from then on.

        Who waits is told by the server when the lock is free, and looks by itself every ``ttl`` seconds, too. It goes on through lost
        connections. There is no queue: when several wait, each may be next; but who has just given it back is hardly the one.

        Cancelling leaves nothing behind: what was on its way is given back when it arrives.

        :param timeout: seconds to wait at most; 0 tries once. None waits without an end.
        :raises LockTimeoutError: it was not to be had in time.
        :raises MessageTTLError: the bucket keeps no keys with a time to live of their own.
        :raises ConnectionClosedError: the client is closed.
        :raises ConfigurationError: at once: the timeout is not a number of 0 or more.

        What the server refuses for good raises the errors of :meth:`.JetStreamContext.publish` and :meth:`.JetStreamContext.call`.
        """
        attempt = _Acquisition(self._kv, self._key, None if timeout is None else check_seconds("timeout", timeout))
        acquiring = Deferred.fromCoroutine(attempt.run())
        self._acquiring.add(acquiring)
        return acquiring.addBoth(self._acquired, acquiring)

    def _acquired(self, result: HeldLock | Failure, acquiring: Deferred[HeldLock]) -> HeldLock | Failure:
        self._acquiring.discard(acquiring)
        if isinstance(result, HeldLock):
            self._held.add(result)
            result.lost.addCallback(lambda _: self._held.discard(result))
        return result

    def close(self) -> Deferred[None]:
        """Give back what was taken with this object, and cancel what waits. Fires when that is done, and never fails."""
        for acquiring in list(self._acquiring):
            acquiring.cancel()
        released = DeferredList([held.release() for held in list(self._held)], consumeErrors=True)
        return released.addCallback(lambda _: None)

    async def __aenter__(self) -> HeldLock:
        await self._inside.acquire()
        try:
            self._entered = held = await self.acquire()
        except BaseException:
            self._inside.release()
            raise
        return held

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """As that of :class:`.HeldLock`: raises LockLostError when it was lost on the way."""
        held, self._entered = self._entered, None
        assert held is not None
        try:
            await held.__aexit__(kind, error, trace)
        finally:
            self._inside.release()


class _TooLateError(Exception):
    """The time to wait was over while the lock was on its way."""


class _Acquisition:
    """One attempt to get a lock, until it is there or the time is over."""

    def __init__(self, kv: KeyValue, key: LockKey, timeout: float | None) -> None:
        self._kv = kv
        self._key = key
        self._reactor = key.reactor
        self._claim = Claim()
        self._timeout = timeout
        self._patient = timeout != 0
        self._end = None if timeout is None else self._reactor.seconds() + (timeout or key.js.timeout)
        self._sent = 0.0
        self._watch: SubjectWatch | None = None
        self._pause = _FIRST_PAUSE
        self._problem: NatsError | None = None

    async def run(self) -> HeldLock:
        try:
            state: LockState | None = None
            while True:
                try:
                    if state is None:
                        state = await self._key.read(self._seconds())
                    if state.is_of(self._claim) and self._is_fresh():
                        # No ack came for it.
                        return self._hold(state.revision)
                    if state.is_free:
                        return await self._take(state.revision)
                except WrongLastSequenceError:
                    # Somebody was faster.
                    state = None
                    await self._wait(random() * _CROWD_PAUSE)
                    continue
                except _TooLateError:
                    raise self._too_late() from None
                except NatsError as problem:
                    if not may_pass(problem):
                        raise
                    self._problem = problem
                    state = None
                    await self._wait(self._pause)
                    self._pause = min(self._pause * 2, _LONGEST_PAUSE)
                    continue
                self._pause = _FIRST_PAUSE
                state = await self._change(state)
        finally:
            if self._watch is not None:
                # The server's consumer is deleted; nobody has to wait for that.
                self._watch.stop()

    async def _take(self, revision: int) -> HeldLock:
        self._sent = self._reactor.seconds()
        # It is heard of for longer than somebody may wait for it: so it can be given back when it comes too late.
        taking = _Taking(self._key, self._claim, self._key.write(self._claim, revision))
        left = self._left()
        if left < float("inf"):
            taking.done.addTimeout(max(left, 0.001), self._reactor, self._taken_in_vain)
        taken = await taking.done
        if not self._is_fresh():
            # It may be somebody else's by now.
            taking.undo(taken)
            raise LockTimeoutError(self._key.name, f"was taken too late: the answer took about its ttl, {self._key.ttl:g} s")
        return self._hold(taken)

    def _hold(self, revision: int) -> HeldLock:
        return HeldLock(self._kv, self._key, self._claim, revision, self._sent)

    def _is_fresh(self) -> bool:
        """Whether what was sent last is young enough to rely on it."""
        return self._reactor.seconds() < self._sent + self._key.ttl * LOST_AT

    async def _change(self, state: LockState) -> LockState | None:
        """Wait until the lock may be free. What is known of it then, or None."""
        if not self._patient:
            raise self._too_late()
        key = self._key
        if self._watch is None:
            self._watch = SubjectWatch(key.js, key.stream_name, [key.stored_subject], start_seq=state.revision + 1)
        # Where the stream leaves no marker when the key runs out, nothing comes: then it is looked for.
        look_at = self._reactor.seconds() + key.ttl
        while (left := min(look_at - self._reactor.seconds(), self._left())) > 0:
            try:
                msg = await self._watch.next(left)
            except NextMessageTimeoutError:
                break
            except StreamRecreatedError:
                # The bucket was deleted and made anew.
                self._watch.stop()
                self._watch = None
                break
            except SubscriptionClosedError:
                raise ConnectionClosedError(f"the client was closed while it waited for the lock {key.name!r}") from None
            if msg is not None and msg.metadata.stream_seq > state.revision:
                state = state_of(msg)
                if state.is_free:
                    return state
                look_at = self._reactor.seconds() + key.ttl
        if self._left() <= 0:
            raise self._too_late()
        return None

    def _taken_in_vain(self, result: object, seconds: float) -> None:
        raise _TooLateError

    async def _wait(self, seconds: float) -> None:
        left = self._left()
        if seconds >= left:
            await deferLater(self._reactor, max(left, 0.0))
            raise self._too_late()
        await deferLater(self._reactor, seconds)

    def _left(self) -> float:
        return float("inf") if self._end is None else self._end - self._reactor.seconds()

    def _seconds(self) -> float:
        """For one request."""
        return max(min(self._key.js.timeout, self._left()), 0.001)

    def _too_late(self) -> LockTimeoutError:
        error = LockTimeoutError(self._key.name, "is not free" if not self._patient else f"was not free within {self._timeout:g} s")
        error.__cause__ = self._problem
        return error


class _Taking:
    """A lock on its way. When nobody waits for it any more, it is given back as soon as it is there.

    :ivar done: fires with its revision.
    """

    _log = Logger()

    def __init__(self, key: LockKey, claim: Claim, sent: Deferred[PubAck]) -> None:
        self._key = key
        self._claim = claim
        self.done: Deferred[int] = Deferred(lambda _: None)
        self._is_unwanted = False
        sent.addCallbacks(self._taken, self._failed)

    def _taken(self, ack: PubAck) -> None:
        if self.done.called:
            self.undo(ack.seq)
        else:
            self.done.callback(ack.seq)

    def _failed(self, failure: Failure) -> None:
        # Nobody knows whether a lock whose ack did not come is there. If so, it runs out.
        if not self.done.called:
            self.done.errback(failure)

    def undo(self, revision: int) -> None:
        """Give it back. Where that fails, it runs out."""
        self._key.give_back(self._claim, revision, self._key.ttl).addErrback(self._not_undone)

    def _not_undone(self, failure: Failure) -> None:
        self._log.debug("The lock {name!r} was not given back: {reason}", name=self._key.name, reason=failure.value)
