"""Removing chunks that nobody needs: those of an object that was replaced, or of a put that failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    NatsError,
    PermissionsViolationError,
    SealedStreamError,
    StreamNotFoundError,
    WrongStreamError,
)
from ..jetstream.api import PurgeRequest, encode
from ..protocol.subjects import LiteralSubject
from .background import in_background, pause

if TYPE_CHECKING:
    from .store import ObjectStore

# Seconds for which it is tried, and between two attempts at first and at most.
_PATIENCE = 300.0
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0

# Nobody who tries again will do better.
_HOPELESS = (ConnectionClosedError, ConnectionDrainingError, PermissionsViolationError, SealedStreamError)


class ChunkRemoval:
    """Sees to it that the chunks of one subject go, if that is wanted.

    :param in_flight: some may be on their way to the stream still, and are not to come behind the removal.

    When the client is closed meanwhile, the server is asked to remove them without waiting for an answer: :meth:`guard` says from when on,
    :meth:`keep` until when.
    """

    _log = Logger()

    def __init__(self, store: ObjectStore, subject: str, *, in_flight: bool) -> None:
        self._js = store.js
        self._client = store.js.client
        self._reactor = store.js.client.reactor
        self._stream = store.stream
        self._subject = subject
        self._in_flight = in_flight
        self._take_back: Callable[[], None] | None = None

    def guard(self) -> None:
        """If the client is closed from now on, they go."""
        if self._take_back is None:
            self._take_back = self._client.before_close(self._tell_server)

    def keep(self) -> None:
        """They are needed, or gone."""
        if self._take_back is not None:
            self._take_back()
            self._take_back = None

    def begin(self, unless: Callable[[], Awaitable[bool]] | None = None) -> Deferred[None]:
        """Remove them. Fires when that is done, after some minutes at the latest, and does not fail.

        It goes on until the server has answered, also when who waits for it stops waiting, and when the connection is lost meanwhile.

        :param unless: asked first, when there is a connection: they stay where it returns true.
        """
        if unless is None:
            self.guard()
        return in_background(self._remove(unless))

    def wait_a_little(self, removing: Deferred[None]) -> Deferred[None]:
        """Fires with what :meth:`begin` has returned, or when that takes longer than a request may."""
        if not self._client.is_connected:
            removing.cancel()
            return removing.addErrback(lambda failure: None)
        return removing.addTimeout(self._js.timeout, self._reactor, lambda result, seconds: None)

    async def _remove(self, unless: Callable[[], Awaitable[bool]] | None) -> None:
        give_up_at = self._reactor.seconds() + _PATIENCE
        seconds = _FIRST_PAUSE
        while True:
            try:
                await self._client.when_connected().addTimeout(max(0.0, give_up_at - self._reactor.seconds()), self._reactor)
                if self._in_flight:
                    await self._wait_for_stream()
                if unless is None or not await unless():
                    await self._stream.purge(filter=self._subject)
                break
            except StreamNotFoundError:
                break
            except ConnectionDrainingError:
                # No requests any more, but publishes.
                if unless is None:
                    self._tell_server()
                return
            except (NatsError, TimeoutError) as error:
                if isinstance(error, _HOPELESS) or self._reactor.seconds() + seconds >= give_up_at:
                    self._log.warn("Chunks on {subject!r} were not removed: {error}", subject=self._subject, error=error)
                    break
            await pause(self._client, seconds)
            seconds = min(2 * seconds, _LONGEST_PAUSE)
        self.keep()

    async def _wait_for_stream(self) -> None:
        """Wait until the stream has done what was published here before.

        It does one publish after the other, and other requests in between. So one is sent that it has to refuse.
        """
        try:
            await self._js.publish(self._subject, expected_stream=f"not-{self._stream.name}")
        except WrongStreamError:
            self._log.debug("All chunks on {subject!r} have come", subject=self._subject)

    def _tell_server(self) -> None:
        subject = LiteralSubject(self._js.prefix.stream_purge(self._stream.name))
        try:
            self._client.publish(subject, encode(PurgeRequest(filter=self._subject)))
        except NatsError as error:
            self._log.debug("Could not ask to remove the chunks on {subject!r}: {error}", subject=self._subject, error=error)
