"""Leader election: of all who stand, one leads at a time, and the next one when that is gone."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ..client.waiting import OneShot, Waiters
from ..errors import ConfigurationError, ConnectionClosedError, ConnectionDrainingError, InvalidArgumentError, LockLostError
from ..jetstream.deferred import deferred

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from .bucket import KeyValue
    from .entry import KeyValueEntry
    from .held import HeldLock
    from .lock import KeyValueLock
    from .watch import KeyWatcher

# Of the time to live: who has resigned stands again after that.
_REST = 1 / 3


class LeaderElection:
    """An election in a bucket, and one candidate in it: :meth:`.KeyValue.election` makes it. :meth:`start` it; or ``async with`` it.

    From then on it stands, and when it has lost the leadership it stands again, until :meth:`stop`. A leadership is a :class:`.HeldLock`:
    what is said there of fencing holds for leaders, too.

    :ivar name: the key.
    """

    _log = Logger()

    def __init__(
        self,
        kv: KeyValue,
        lock: KeyValueLock,
        on_elected: Callable[[HeldLock], Any] | None,
        on_lost: Callable[[LockLostError | None], Any] | None,
        on_leader: Callable[[KeyValueEntry], Any] | None,
    ) -> None:
        for parameter, value in (("on_elected", on_elected), ("on_lost", on_lost), ("on_leader", on_leader)):
            if value is not None and not callable(value):
                raise InvalidArgumentError(f"{parameter}={value!r} is not callable")
        self._kv = kv
        self._lock = lock
        self.name: str = lock.name
        self._on_elected = on_elected
        self._on_lost = on_lost
        self._on_leader = on_leader
        self._held: HeldLock | None = None
        self._entry: KeyValueEntry | None = None
        self._watcher: KeyWatcher | None = None
        self._elected = Waiters["HeldLock"]()
        self._done = OneShot()
        self._running: list[Deferred[None]] = []
        self._ending: Deferred[None] | None = None

    def __repr__(self) -> str:
        return f"<LeaderElection {self.name!r} of bucket {self._kv.bucket!r}{', leading' if self.is_leader else ''}>"

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Whether this candidate leads, as far as can be known here."""
        return self._held is not None and self._held.is_held

    @property
    def held(self) -> HeldLock | None:
        """The leadership, with its guarded writes, while this candidate leads."""
        return self._held if self.is_leader else None

    @property
    def fencing(self) -> int | None:
        """The fencing number of the leadership, while this candidate leads."""
        return self._held.fencing if self._held is not None and self._held.is_held else None

    @property
    def leader(self) -> Any:
        """Who leads: the ``candidate`` of whoever that is, as the key says; None when nobody does, or it is not known yet.

        It is what this process has heard last, and may be out of date.
        """
        return None if self._entry is None or self._entry.is_deleted else self._entry.value

    @property
    def done(self) -> Deferred[None]:
        """Fires when it has stopped; a new Deferred each time. Fails with the error that ended it, such as a deleted bucket or a closed
        client."""
        return self._done.wait()

    # --- beginning and stopping ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to stand.

        :raises ConfigurationError: it was started before: an election begins once.
        """
        if self._running or self._ending is not None:
            raise ConfigurationError(f"{self!r} was started before, and begins once")
        watcher = self._watcher = self._kv.watch(self.name)
        for run in (self._follow(watcher), self._stand()):
            running = Deferred.fromCoroutine(run)
            self._running.append(running)
            running.addErrback(self._failed)

    def stop(self) -> Deferred[None]:
        """Stand no more, and give the leadership back. Fires when that is done, and never fails. Stopping twice is no error."""
        if self._ending is None:
            self._end()
        assert self._ending is not None
        waiter: Deferred[None] = Deferred()
        self._ending.addBoth(lambda _: waiter.callback(None) if not waiter.called else None)
        return waiter

    def resign(self) -> Deferred[None]:
        """Give the leadership back, if this candidate leads, and stand again a little later, so that others are before it.

        :raises LockLostError: by the Deferred: it was lost before.
        """
        return succeed(None) if self._held is None else self._held.release()

    def campaign(self) -> Deferred[HeldLock]:
        """Fires with the leadership when this candidate leads: at once where it does. Starts the election where that was not done.

        Cancelling ends the waiting only.

        :raises LockLostError: the election was stopped or ended before.
        """
        if self._ending is not None:
            raise LockLostError(self.name, "the election was stopped")
        if not self._running:
            self.start()
        return succeed(self._held) if self._held is not None and self._held.is_held else self._elected.wait()

    async def __aenter__(self) -> LeaderElection:
        self.start()
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await self.stop()

    # --- what goes on ----------------------------------------------------------------------------------------

    async def _stand(self) -> None:
        while True:
            held = self._held = await self._lock.acquire()
            work = self._begin_work(held)
            self._elected.fire(held)
            try:
                reason = await held.lost
            finally:
                self._held = None
                work.cancel()
            self._call(self._on_lost, reason)
            if reason is None:
                await deferLater(self._kv.js.client.reactor, self._lock.ttl * _REST)

    def _begin_work(self, held: HeldLock) -> Deferred[None]:
        """Call ``on_elected``; what it returns goes on for as long as this candidate leads."""
        return self._call(self._on_elected, held)

    async def _follow(self, watcher: KeyWatcher) -> None:
        async for entry in watcher:
            if entry is not None:
                told, self._entry = self._entry, entry
                # Renewals tell nothing new.
                if told is None or (told.is_deleted, told.value) != (entry.is_deleted, entry.value):
                    self._call(self._on_leader, entry)

    @deferred
    async def _call(self, function: Callable[[Any], Any] | None, argument: Any) -> None:
        if function is None:
            return
        try:
            result = function(argument)
            if isinstance(result, (Deferred, Coroutine)):
                await result
        except CancelledError:
            # The leadership is over.
            return
        except Exception:  # noqa: BLE001 - the user's code; it is logged
            self._log.failure("A callback of the election {name!r} failed", name=self.name)

    # --- the end ---------------------------------------------------------------------------------------------

    def _failed(self, failure: Failure) -> None:
        if self._ending is None:
            is_expected = isinstance(failure.value, (ConnectionClosedError, ConnectionDrainingError))
            if not is_expected and not self._done.waited_for:
                self._log.error("The election {name!r} has ended: {error}", name=self.name, error=failure.value)
            self._end(failure.value)

    def _end(self, error: BaseException | None = None) -> None:
        self._ending = ending = Deferred[None]()
        held = self._held
        Deferred.fromCoroutine(self._clean_up(held)).addBoth(lambda _: self._ended(ending, error))

    async def _clean_up(self, held: HeldLock | None) -> None:
        if held is not None:
            with suppress(LockLostError):
                await held.release()
        for running in self._running:
            running.cancel()
        if self._watcher is not None:
            await self._watcher.stop()

    def _ended(self, ending: Deferred[None], error: BaseException | None) -> None:
        self._elected.fail(LockLostError(self.name, "the election was stopped" if error is None else f"the election has ended: {error}"))
        if error is None:
            self._done.happen()
        else:
            self._done.fail(error)
        ending.callback(None)
