"""Work that goes on when nobody waits for it any more, until the client ends."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from ..client.client import NatsClient

_T = TypeVar("_T")

_log = Logger()


def in_background(work: Coroutine[Any, Any, _T]) -> Deferred[_T]:
    """Begin, and fire with the result. Cancelling ends the waiting alone; a failure that nobody waits for then is logged."""
    waiter: Deferred[_T] = Deferred()

    def done(result: _T | Failure) -> None:
        if not waiter.called:
            waiter.callback(result)
        elif isinstance(result, Failure):
            _log.warn("What nobody waits for any more has failed: {error}", error=result.value)

    Deferred.fromCoroutine(work).addBoth(done)
    return waiter


def pause(client: NatsClient, seconds: float) -> Deferred[None]:
    """Fires after so many seconds, and at once when the client is closed: nothing waits longer than that."""
    return client.when_closed().addTimeout(seconds, client.reactor, lambda result, seconds: None)
