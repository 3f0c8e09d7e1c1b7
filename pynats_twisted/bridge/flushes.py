"""Knowing that the NATS server has what was published, by PING and PONG, for many publishers at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.client.status import ServerErrorEvent
from pynats_twisted.errors import PermissionsViolationError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from pynats_twisted.client.client import NatsClient

#: ``flushed(error, denied)``: the server has everything but what went to the denied subjects; or, with an error, nobody knows.
Flushed = Callable[[BaseException | None, frozenset[str]], None]

FLUSH_TIMEOUT: Final = 10.0
"""Seconds that the server has to answer one PING."""

MAX_DENIED: Final = 1000
"""Denied subjects that are remembered for one round."""


class FlushRounds:
    """Tells publishers when the server has what they published up to now.

    A publish is covered only by a PING that is written after it. One PING is under way at a time; who asks meanwhile is covered by
    the next one, which goes out when the first is answered. So the number of PINGs follows the round trips, not the messages.

    :param reactor: the reactor.
    :param client: the client that the messages are published on.
    :param timeout: seconds that the server has to answer.
    """

    _log = Logger()

    def __init__(self, reactor: Any, client: NatsClient, timeout: float = FLUSH_TIMEOUT) -> None:
        self._reactor = reactor
        self._client = client
        self._timeout = timeout
        self._waiting: list[Flushed] = []
        self._covered: list[Flushed] = []
        self._denied: set[str] = set()
        self._errors_seen = 0
        self._busy = False
        self._settling: IDelayedCall | None = None

    def after(self, flushed: Flushed) -> None:
        """Call ``flushed`` once, when the server has everything that was published on the client before this call.

        With an error (:class:`~pynats_twisted.errors.DisconnectedError`, :class:`~pynats_twisted.errors.FlushTimeoutError`, ...)
        each message may have arrived or not. It may be called before ``after`` returns, when the client is not connected.
        """
        self._waiting.append(flushed)
        if not self._busy:
            self._start()

    def heard(self, event: object) -> None:
        """Take an event of the client; whoever owns this passes all of them on."""
        if isinstance(event, ServerErrorEvent):
            error = event.error
            if isinstance(error, PermissionsViolationError) and error.operation != "subscription" and len(self._denied) < MAX_DENIED:
                self._denied.add(error.subject)

    def close(self) -> None:
        """Call nobody any more."""
        self._waiting.clear()
        self._covered.clear()
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None

    def _start(self) -> None:
        self._busy = True
        self._covered, self._waiting = self._waiting, []
        self._errors_seen = self._client.stats.server_errors
        maybeDeferred(self._client.flush, self._timeout).addBoth(self._answered)

    def _answered(self, result: Any) -> None:
        error = result.value if isinstance(result, Failure) else None
        if error is None and self._client.stats.server_errors != self._errors_seen:
            # The server denied something before it answered; the client tells its listeners in the next turn of the reactor.
            self._settling = self._reactor.callLater(0, self._settle, None)
        else:
            self._settle(error)

    def _settle(self, error: BaseException | None) -> None:
        self._settling = None
        covered, self._covered = self._covered, []
        # The server answers in order: what it denied before this PONG was published before this PING.
        denied = frozenset(self._denied)
        self._denied.clear()
        for flushed in covered:
            # One who is told must not keep the others from being told.
            with self._log.failuresHandled("what was to happen after a flush raised"):
                flushed(error, denied)
        self._busy = False
        if self._waiting:
            self._start()
