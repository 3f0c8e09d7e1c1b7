"""A lock that is held: kept by renewals, lost loudly, given back; and writes that the server refuses when somebody else has it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel

from ..client.waiting import OneShot, Waiters
from ..errors import LockLostError, NatsError, PublishUnconfirmedError, WrongLastSequenceError
from ..jetstream.deferred import deferred
from .guarded import GuardedWrites

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from ..jetstream.api import PubAck
    from .bucket import KeyValue
    from .lock_key import Claim, LockKey, LockState

_T = TypeVar("_T")

# Of its time to live: when it is renewed, and when the holder takes it for lost. The rest is for clocks that run differently.
_RENEW_AT = 1 / 3
LOST_AT = 0.9
# Between tries: of the time to live, and seconds.
_PAUSE = 1 / 50
_LONGEST_PAUSE = 0.5


class _Phase(Enum):
    HELD = "held"
    LEAVING = "being given back"
    RELEASED = "given back"
    LOST = "lost"


def _ignore_cancelled(failure: Failure) -> Failure | None:
    return None if isinstance(failure.value, CancelledError) else failure


def _ignore_lost(failure: Failure) -> Failure | None:
    return None if isinstance(failure.value, LockLostError) else failure


class HeldLock(GuardedWrites):
    """A lock, or a leadership, that is held. :meth:`.KeyValueLock.acquire` gives it; ``async with`` it to give it back in the end.

    It is renewed every third of its ``ttl``. It is lost when the server says that the key is not as this holder left it, when it could not
    be renewed for nine tenths of ``ttl``, by the reactor's clock, counted from when the last renewal that was confirmed was sent, and when
    the client is closed. Then :attr:`lost` fires at once and it is logged.

    A holder whose process stood still does not know yet that it has lost the lock. So a lock alone protects nothing outside of it: write
    with :meth:`put`, :meth:`delete`, :meth:`purge` and :meth:`update` of this object, which the *server* refuses when the lock has changed
    hands; or pass :attr:`fencing` on to where you write, which has to refuse what comes with a lower number than it has seen.

    :ivar name: which lock.
    :ivar fencing: the revision with which it was taken: larger than that of all holders before, also of those who still believe that they
        have it.
    """

    _log = Logger()

    def __init__(self, kv: KeyValue, key: LockKey, claim: Claim, revision: int, sent: float) -> None:
        super().__init__(kv, key, claim)
        self.fencing = revision
        self._revision = revision
        self._phase = _Phase.HELD
        self._reason: LockLostError | None = None
        self._trouble: NatsError | None = None
        self._may_be_given_back = False
        # What changes the revision, or needs to know it, comes one after another.
        self._turn = DeferredLock()
        self._waiters = Waiters[LockLostError | None]()
        self._given_back = OneShot()
        # What renewing and giving back wait for.
        self._pending: set[Deferred[Any]] = set()
        self._confirmed = sent
        self._renewal: IDelayedCall | None = None
        client = key.js.client
        self._take_back: Callable[[], None] = client.before_close(self._say_it_is_free)
        self._closed = client.when_closed()
        self._closed.addCallbacks(lambda _: self._client_closed(), _ignore_cancelled)
        self._expiry: IDelayedCall = key.reactor.callLater(max(0.0, self._deadline - self._now()), self._expired)
        self._plan_renewal()

    def __repr__(self) -> str:
        return f"<HeldLock {self.name!r} of bucket {self._key.bucket!r}, fencing {self.fencing}, {self._phase.value}>"

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def is_held(self) -> bool:
        """Whether it is, as far as can be known here."""
        return self._phase is _Phase.HELD and self._now() < self._deadline

    @property
    def revision(self) -> int:
        """The revision of the key now: each renewal has another."""
        return self._revision

    @property
    def lost(self) -> Deferred[LockLostError | None]:
        """Fires with the reason when the lock is lost, or with None when it was given back; a new Deferred each time."""
        return succeed(self._reason) if self._is_over else self._waiters.wait()

    def check(self) -> None:
        """Go on only if it is held.

        :raises LockLostError: it is not any more.
        """
        if self._phase is _Phase.HELD and self._now() >= self._deadline:
            # The reactor was busy for so long that its timer is late.
            self._expired()
        if self._phase is not _Phase.HELD:
            raise self._reason or LockLostError(self.name, f"it was {self._phase.value}")

    @deferred
    async def guard(self, work: Deferred[_T] | Coroutine[Any, Any, _T]) -> _T:
        """Wait for something, and cancel it when the lock is lost meanwhile.

        :param work: a Deferred or a coroutine.
        :raises LockLostError: the lock is lost, and the work was cancelled.

        What the work raises is raised too.
        """
        try:
            self.check()
        except LockLostError:
            if isinstance(work, Deferred):
                work.addErrback(_ignore_cancelled)
                work.cancel()
            else:
                work.close()
            raise
        task = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        lost = self.lost
        lost.addCallbacks(lambda reason: None if reason is None else task.cancel(), _ignore_cancelled)
        try:
            return await task
        except CancelledError:
            if self._reason is not None:
                raise self._reason from None
            raise
        finally:
            lost.cancel()

    # --- giving it back --------------------------------------------------------------------------------------

    def release(self) -> Deferred[None]:
        """Give it back. Fires when the server has it, or when the lock has run out because the server did not answer.

        Giving it back twice is no error, and cancelling ends the waiting only.

        :raises LockLostError: by the Deferred: it was lost before.
        """
        if self._phase is _Phase.HELD and self._now() >= self._deadline:
            self._expired()
        if self._phase is _Phase.HELD:
            self._phase = _Phase.LEAVING
            self._stop_renewal()
            self._work(self._give_back())
        return self._given_back.wait()

    async def __aenter__(self) -> HeldLock:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Give it back. It says with a LockLostError that the lock was lost on the way, unless the body has raised something itself."""
        released = self.release()
        if isinstance(error, GeneratorExit):
            # Nobody is there any more who could wait.
            released.addErrback(_ignore_lost)
            return
        try:
            await released
        except LockLostError:
            if error is None:
                raise

    async def _give_back(self) -> None:
        await self._wait(self._turn.acquire())
        try:
            while self._phase is _Phase.LEAVING:
                try:
                    await self._wait(self._key.give_back(self._claim, self._revision, self._left()))
                except NatsError as problem:
                    await self._after(problem)
                else:
                    self._end(_Phase.RELEASED)
        finally:
            self._turn.release()

    # --- keeping it ------------------------------------------------------------------------------------------

    def _plan_renewal(self) -> None:
        due = self._confirmed + self._key.ttl * _RENEW_AT
        self._renewal = self._key.reactor.callLater(max(0.0, due - self._now()), self._begin_renewal)

    def _begin_renewal(self) -> None:
        self._renewal = None
        self._work(self._renew())

    async def _renew(self) -> None:
        await self._wait(self._turn.acquire())
        try:
            while self._phase is _Phase.HELD:
                sent = self._now()
                try:
                    ack = await self._wait(self._key.write(self._claim, self._revision, self._left()))
                except NatsError as problem:
                    await self._after(problem)
                    continue
                self._revision = ack.seq
                self._confirm(sent)
                return
        finally:
            self._turn.release()

    def _confirm(self, sent: float) -> None:
        """What was sent then has renewed it."""
        if self._phase is not _Phase.HELD:
            return
        self._trouble = None
        self._confirmed = sent
        self._expiry.reset(max(0.0, self._deadline - self._now()))
        self._plan_renewal()

    async def _after(self, problem: NatsError) -> None:
        """Something could not be written: find out whether the lock is still held, and wait a little where it may be."""
        self._trouble = problem
        if self._phase is _Phase.LEAVING and isinstance(problem, PublishUnconfirmedError):
            self._may_be_given_back = True
        if isinstance(problem, (WrongLastSequenceError, PublishUnconfirmedError)):
            try:
                if self._learn(await self._wait(self._key.read(self._left()))):
                    return
            except NatsError as trouble:
                self._trouble = trouble
        await self._wait(self._pause())

    def _learn(self, state: LockState) -> bool:
        """Take in what the stream's leader says of the lock. Whether that is something new."""
        if self._is_over:
            return True
        if state.claim_id != self._claim.id and self._may_be_given_back:
            self._end(_Phase.RELEASED)
        elif state.claim_id != self._claim.id:
            self._lose("its key was deleted, or has run out" if state.is_free else "somebody else has it")
        elif state.is_free:
            # What gave it back had arrived.
            self._end(_Phase.RELEASED)
        elif state.revision == self._revision:
            return False
        self._revision = state.revision
        return True

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        Deferred.fromCoroutine(work).addErrback(self._work_failed)

    async def _wait(self, deferred: Deferred[_T]) -> _T:
        """Wait for something until the lock is lost or was given back."""
        self._pending.add(deferred)
        try:
            return await deferred
        finally:
            self._pending.discard(deferred)

    def _pause(self) -> Deferred[None]:
        return deferLater(self._key.reactor, min(self._key.ttl * _PAUSE, _LONGEST_PAUSE))

    # --- for the guarded writes ------------------------------------------------------------------------------

    async def _in_turn(self, send: Callable[[int], Deferred[PubAck]], end: float) -> tuple[int, Deferred[PubAck]]:
        await self._in_time(self._turn.acquire(), end)
        try:
            self.check()
            revision = self._revision
            return revision, send(revision)
        finally:
            self._turn.release()

    async def _refused(self, revision: int) -> None:
        await self._turn.acquire()
        try:
            self.check()
            if self._revision == revision:
                is_new = False
                try:
                    is_new = self._learn(await self._key.read(min(self._left(), self._key.js.timeout)))
                except NatsError as problem:
                    self._trouble = problem
                if not is_new:
                    await self._pause()
            self.check()
        finally:
            self._turn.release()

    # --- the end ---------------------------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        return self._phase is _Phase.LOST or self._phase is _Phase.RELEASED

    @property
    def _deadline(self) -> float:
        return self._confirmed + self._key.ttl * LOST_AT

    def _left(self) -> float:
        """Seconds for which something may still be asked."""
        return max(self._deadline - self._now(), 0.001)

    def _now(self) -> float:
        return self._key.reactor.seconds()

    def _expired(self) -> None:
        if self._phase is _Phase.LEAVING:
            self._end(_Phase.RELEASED)
        else:
            self._lose("it could not be renewed in time")

    def _say_it_is_free(self) -> None:
        """The client is about to be closed."""
        if self._phase is _Phase.HELD:
            try:
                self._key.give_back_unheard(self._claim, self._revision)
            finally:
                self._lose("it was given back, as the client is being closed", is_expected=True)

    def _client_closed(self) -> None:
        if self._phase is _Phase.LEAVING:
            self._end(_Phase.RELEASED)
        elif self._phase is _Phase.HELD:
            self._lose("the client is closed")

    def _lose(self, why: str, *, is_expected: bool = False) -> None:
        self._reason = reason = LockLostError(self.name, why)
        reason.__cause__ = self._trouble
        level = LogLevel.info if is_expected else LogLevel.warn
        self._log.emit(level, "Bucket {bucket!r}: {reason}", bucket=self._key.bucket, reason=reason)
        self._end(_Phase.LOST)

    def _end(self, phase: _Phase) -> None:
        self._phase = phase
        self._stop_renewal()
        if self._expiry.active():
            self._expiry.cancel()
        self._take_back()
        self._closed.cancel()
        for waiting in list(self._pending):
            waiting.cancel()
        self._waiters.fire(self._reason)
        if self._reason is None:
            self._given_back.happen()
        else:
            self._given_back.fail(self._reason)

    def _stop_renewal(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

    def _work_failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            self._log.failure("The lock {name!r} could not be kept", failure=failure, name=self.name)
