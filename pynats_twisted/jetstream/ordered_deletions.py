"""Deleting the consumers that an ordered consumer has made: nothing waits for it, and nothing is left at the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..errors import (
    ConnectionDrainingError,
    ConsumerNotFoundError,
    DisconnectedError,
    JetStreamNotEnabledError,
    JetStreamUnavailableError,
    NatsError,
    NatsTimeoutError,
    NoRespondersError,
    StreamNotFoundError,
)
from ..protocol.subjects import LiteralSubject
from .api import SuccessResponse

if TYPE_CHECKING:
    from .context import JetStreamContext

# It is tried so often; each time the server has so many seconds, and the wait after it doubles. So a cluster that chooses its leaders anew
# does not keep a consumer.
_ATTEMPTS = 6
_TIMEOUT = 2.0
_WAIT = 0.5
_TRY_AGAIN = (NatsTimeoutError, NoRespondersError, DisconnectedError, JetStreamUnavailableError, JetStreamNotEnabledError)
# More at a time are left to ``inactive_threshold``.
_MOST = 50


class Deletions:
    """The deletions that are under way for one stream."""

    _log = Logger()

    def __init__(self, js: JetStreamContext, stream: str) -> None:
        self._js = js
        self._stream = stream
        self._under_way: set[Deferred[None]] = set()

    def begin(self, name: str) -> None:
        """Delete a consumer, if it is there, as soon as there is a connection."""
        if len(self._under_way) >= _MOST:
            return
        deleting = Deferred.fromCoroutine(self._delete(name))
        if not deleting.called:
            self._under_way.add(deleting)
            deleting.addBoth(self._has_ended, deleting)

    def under_way(self) -> list[Deferred[None]]:
        """A new Deferred for each, which fires when that has ended."""
        waiters: list[Deferred[None]] = []
        for deleting in self._under_way:
            waiter: Deferred[None] = Deferred()
            deleting.addBoth(tell, waiter)
            waiters.append(waiter)
        return waiters

    def _has_ended(self, result: Any, deleting: Deferred[None]) -> None:
        self._under_way.discard(deleting)

    async def _delete(self, name: str) -> None:
        client = self._js.client
        subject = self._js.prefix.consumer_delete(self._stream, name)
        for attempt in range(_ATTEMPTS):
            try:
                await client.when_connected()
                await self._js.call(SuccessResponse, subject, timeout=_TIMEOUT)
            except (ConsumerNotFoundError, StreamNotFoundError):
                return
            except ConnectionDrainingError:
                # No requests any more, but publishes.
                self.tell_server(name)
                return
            except _TRY_AGAIN as error:
                self._log.debug("Consumer {name} is not deleted yet: {error}", name=name, error=error)
            except NatsError as error:
                self._log.debug("Could not delete consumer {name}: {error}", name=name, error=error)
                return
            else:
                return
            # Until then, or until there is no client any more.
            await client.when_closed().addTimeout(_WAIT * 2**attempt, client.reactor, lambda result, seconds: None)

    def tell_server(self, name: str) -> None:
        """Delete a consumer without waiting for an answer."""
        subject = self._js.prefix.consumer_delete(self._stream, name)
        try:
            self._js.client.publish(LiteralSubject(subject))
        except NatsError as error:
            self._log.debug("Could not publish to {subject}: {error}", subject=subject, error=error)


def tell(result: Any, waiter: Deferred[None]) -> None:
    """Let who waits know that something has ended, however."""
    if not waiter.called:
        waiter.callback(None)
