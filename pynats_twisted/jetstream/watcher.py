"""What a watch of subjects hands out, read into something else: entries of a bucket, infos of objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..client.status import HandlerError
from ..client.waiting import OneShot, check_seconds
from ..errors import InvalidArgumentError
from .deferred import deferred

if TYPE_CHECKING:
    from typing_extensions import Self

    from .message import JsMsg
    from .subject_watch import SubjectWatch

_T = TypeVar("_T")


class Watcher(AsyncIterator["_T | None"], Generic[_T]):
    """Items that messages of a watch are read into, and None once: everything has been handed out that was stored when it began.

    It heals itself: whatever happens to the connection or to the server's consumer, no item is missed that is still stored, and none
    comes twice or behind a newer one of its kind. It ends when the stream is gone, or is not what it was, and with the client.

    Until :meth:`stop`, there is a consumer at the server: use ``async with``, or stop it. It begins with the first use; ``await`` it to
    know that the server has a consumer.

    :param watch: which messages.
    :param read: makes an item of a message; where it returns None, nothing is handed out. What it raises, gets who takes the item, who
        may go on behind it.
    """

    def __init__(self, watch: SubjectWatch, read: Callable[[JsMsg], _T | None]) -> None:
        self._watch = watch
        self._read = read

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of stream {self._watch.stream_name!r} at {self.position}>"

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The sequence in the stream of the last message that was taken; 0 before."""
        return self._watch.position

    @property
    def is_initial_done(self) -> bool:
        """None was handed out."""
        return self._watch.is_initial_done

    @property
    def initial_done(self) -> Deferred[None]:
        """Fires when None has been handed out; a new Deferred each time.

        :raises SubscriptionClosedError: it ended before.
        """
        return self._watch.initial_done

    @property
    def resets(self) -> int:
        """How often the server's consumer was lost and another one made."""
        return self._watch.resets

    # --- beginning and stopping ------------------------------------------------------------------------------

    def __await__(self) -> Generator[Deferred[Any], Any, Self]:
        return self.ready().__await__()

    @deferred
    async def ready(self) -> Self:
        """Begin, and fire with this object when the server has a consumer.

        :raises StreamNotFoundError: there is no such stream.
        :raises JetStreamApiError: the server refuses for another reason.
        :raises SubscriptionClosedError: it was stopped, or the client was closed.
        """
        await self._watch.ready()
        return self

    def stop(self) -> Deferred[None]:
        """Hand out nothing more, for good: who waits gets a SubscriptionClosedError, and loops end.

        Fires when the server has deleted the consumer. Where it does not answer, that is after some seconds, and the server deletes it by
        itself after some minutes.
        """
        return self._watch.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await self.stop()

    # --- taking ----------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T | None:
        """The next item, or None; ends at :meth:`stop` and when the client is closed. Cancelling stops it."""
        async for msg in self._watch:
            if msg is None:
                return None
            item = self._read(msg)
            if item is not None:
                return item
        raise StopAsyncIteration

    @deferred
    async def next(self, timeout: float | None = None) -> _T | None:
        """The next item, or None where everything has come that was stored. Cancelling loses none.

        :param timeout: seconds to wait at most; None waits without an end.
        :raises NextMessageTimeoutError: nothing came in time.
        :raises SubscriptionClosedError: :meth:`stop` was called, or the client was closed.

        What has ended it for good is raised too, when everything was taken.
        """
        watch = self._watch
        deadline = None if timeout is None else watch.now() + check_seconds("timeout", timeout)
        while True:
            msg = await watch.next(None if deadline is None else max(0.0, deadline - watch.now()))
            if msg is None:
                return None
            item = self._read(msg)
            if item is not None:
                return item

    @deferred
    async def collect(self) -> list[_T]:
        """What is stored, as a list: all until None, where that was not handed out yet. Then it is stopped, and also when this fails.

        :raises SubscriptionClosedError: it was stopped meanwhile, or the client was closed: not everything was read.
        """
        items: list[_T] = []
        try:
            while not self.is_initial_done:
                for msg in await self._watch.some():
                    item = None if msg is None else self._read(msg)
                    if item is not None:
                        items.append(item)
        except BaseException:
            # Who cancels does not wait for the server.
            self.stop()
            raise
        await self.stop()
        return items

    def consume(self, handler: Callable[[_T | None], Any]) -> WatchContext[_T]:
        """Call ``handler`` with each item and with None, one after another.

        :param handler: a plain function, one that returns a Deferred, or a coroutine function; the next item waits until it has ended.
            What it raises is logged and counted.
        """
        if not callable(handler):
            raise InvalidArgumentError(f"handler={handler!r} is not callable")
        return WatchContext(self._watch, self._read, handler)


class WatchContext(Generic[_T]):
    """A handler that gets the items of a watch."""

    _log = Logger()

    def __init__(self, watch: SubjectWatch, read: Callable[[JsMsg], _T | None], handler: Callable[[_T | None], Any]) -> None:
        self._watch = watch
        self._read = read
        self._handler = handler
        self._done = OneShot()
        Deferred.fromCoroutine(self._run()).addCallbacks(lambda _: self._done.happen(), lambda failure: self._failed(failure.value))

    @property
    def done(self) -> Deferred[None]:
        """Fires when it has ended and the handler runs no more; a new Deferred each time. Fails with the error that ended it."""
        return self._done.wait()

    def stop(self) -> Deferred[None]:
        """Handle nothing more. Fires as :meth:`Watcher.stop`, and does not wait for the handler that may be running."""
        return self._watch.stop()

    async def _run(self) -> None:
        async for msg in self._watch:
            try:
                item = None if msg is None else self._read(msg)
                if item is not None or msg is None:
                    result = self._handler(item)
                    if isinstance(result, (Deferred, Coroutine)):
                        await result
            except Exception as error:  # noqa: BLE001 - the user's code; it is logged
                self._handler_failed(msg, error)

    def _handler_failed(self, msg: JsMsg | None, error: Exception) -> None:
        self._log.failure("A handler of a watch of stream {stream!r} failed", stream=self._watch.stream_name)
        client = self._watch.js.client
        client.counters.handler_errors += 1
        if msg is not None:
            client.events.emit(HandlerError(msg.msg.subscription, msg.msg, error))

    def _failed(self, error: BaseException) -> None:
        if not self._done.waited_for:
            self._log.error("Watching stream {stream!r} has ended: {error}", stream=self._watch.stream_name, error=error)
        self._done.fail(error)
