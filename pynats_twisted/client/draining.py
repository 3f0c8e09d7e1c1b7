"""Ending without losing anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList

from ..errors import ConnectionClosedError, ConnectionDrainingError, DisconnectedError, DrainTimeoutError, FlushTimeoutError, NatsError
from .lifecycle import ClientLifecycle
from .status import ClientStatus
from .waiting import Waiters, check_seconds

if TYPE_CHECKING:
    from ..protocol.options import ClientOptions
    from .requests import Requests
    from .subscription import Subscription
    from .subscriptions import ClientSubscriptions

_FINAL_FLUSH = 5.0


class ClientDraining(ClientLifecycle):
    """The part of a client that drains it."""

    _subscriptions: ClientSubscriptions
    _requests: Requests

    if TYPE_CHECKING:
        # A client has these.

        def close(self) -> Deferred[None]:
            """Close for good."""

        def flush(self, timeout: float | None = None) -> Deferred[None]:
            """Wait until the server has got everything."""

    def __init__(self, reactor: Any, options: ClientOptions | None) -> None:
        super().__init__(reactor, options)
        self._kept_open: dict[Subscription, Callable[[], Deferred[None]]] = {}
        self._last_words: dict[object, Callable[[], None]] = {}

    def keep_open(self, subscription: Subscription, when_idle: Callable[[], Deferred[None]]) -> None:
        """Let a subscription get its messages until the last moment of :meth:`drain`: it is the inbox for answers to something that
        handlers may still do while the other subscriptions are drained.

        :param when_idle: gives a Deferred that fires, and does not fail, when no answer is missing any more. It may be cancelled.
        """
        self._kept_open[subscription] = when_idle
        subscription.when_closed().addBoth(lambda _: self._kept_open.pop(subscription, None))

    def before_close(self, say: Callable[[], None]) -> Callable[[], None]:
        """Have something called once when :meth:`close` begins, and near the end of :meth:`drain`: the last moment to publish what others
        are to know, for example that something is given back.

        :param say: publishes, and does not wait for anything. What it raises is logged.
        :returns: a function that takes it back, for when nothing is left to be said. Calling it again is no error.
        """
        key = object()
        self._last_words[key] = say

        def take_back() -> None:
            self._last_words.pop(key, None)

        return take_back

    def _say_last_words(self) -> None:
        while self._last_words:
            # Which one that is may change while the others speak.
            say = self._last_words.pop(next(iter(self._last_words)))
            try:
                say()
            except Exception:  # noqa: BLE001 - the others have their say, and the client ends
                self._log.failure("{say!r} failed before the client was closed", say=say)

    def drain(self, timeout: float | None = None) -> Deferred[None]:
        """Close without losing a message: every subscription ends and what it has got is handled, requests in flight
        get their replies, what was published reaches the server, and then the client is closed.

        :param timeout: seconds; the option ``drain_timeout`` (30) by default.
        :raises DrainTimeoutError: it took longer; the client was closed all the same.
        :raises DisconnectedError: there is no connection, or it was lost meanwhile; the client was closed.
        :raises ConnectionClosedError: :meth:`close` was called meanwhile.
        """
        seconds = self.options.drain_timeout if timeout is None else check_seconds("timeout", timeout)
        if self._status is ClientStatus.CLOSED or (self._ending and self._drain is None):
            return self._closed.wait()
        if self._drain is None:
            self._drain = Waiters[None]()
            result = self._drain.wait()
            self.closed_on_purpose = True
            begun = Deferred.fromCoroutine(self._drain_all(seconds))
            begun.addCallbacks(self._drain.fire, lambda failure: self._drain_failed(failure.value))
            return result
        return self._drain.wait()

    def _drain_failed(self, error: BaseException) -> None:
        assert self._drain is not None
        self._drain.fail(error)

    async def _drain_all(self, timeout: float) -> None:
        if self._is_between_servers():
            await self._migration_over()
        if not self.is_connected:
            await self.close()
            raise DisconnectedError("the client was closed, not drained: there was no connection")
        self._stop_migration()
        self._status = ClientStatus.DRAINING
        end = self.reactor.seconds() + timeout
        late: NatsError | None = None
        # One that is late does not keep the others from being drained, and a lost connection is told below.
        draining = self._subscriptions.drain_all(timeout, self._kept_open)
        results: list[tuple[bool, Any]] = await DeferredList(draining, consumeErrors=True)
        for drained, result in results:
            if not drained and result.check(DrainTimeoutError):
                late = late or result.value
        for when_idle in [self._requests.when_idle, *self._kept_open.values()]:
            idle: Deferred[Any] = when_idle()
            idle.addTimeout(max(0.0, end - self.reactor.seconds()), self.reactor, lambda result, seconds: DrainTimeoutError)
            if await idle is DrainTimeoutError:
                late = late or DrainTimeoutError(f"requests were still waiting for replies after {timeout:g} s")
        lost: NatsError | None = None
        if self._ending:
            lost = self._close_error or ConnectionClosedError("the client was closed before it was drained")
        else:
            self._say_last_words()
            self.outbound.refusal = ConnectionDrainingError("the client is draining and takes no more publishes")
            try:
                await self.flush(_FINAL_FLUSH)
            except FlushTimeoutError:
                late = late or DrainTimeoutError(f"the server did not confirm the last publishes within {_FINAL_FLUSH:g} s")
            except NatsError as error:
                lost = error
        await self.close()
        if lost is not None:
            raise lost
        if late is not None:
            raise late
