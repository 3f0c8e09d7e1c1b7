"""The answers of many services to one question, read as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred

from ..errors import NatsError, NoRespondersError, ServiceDecodeError
from .api import Answer, decode

if TYPE_CHECKING:
    from ..client.client import NatsClient
    from ..protocol.message import Msg

MAX_FAULTS = 100
"""So many of what came and could not be read are kept for whoever wants to know."""

MAX_INSTANCES = 100_000
"""So many instances are told apart; the answers of more are dropped."""

_A = TypeVar("_A", bound=Answer)


class Answers(AsyncIterator[_A], Generic[_A]):
    """The answers of services to one question. ``async for`` hands out each as it comes; ``await``, or :meth:`collect`, gives those that
    were not handed out yet as a list, when the last has come.

    An instance counts once, also where its answer comes on several ways. That no service is there is no error, but no answer.

    Every way of reading raises what else ends a request: ConnectionClosedError, DisconnectedError, PermissionsViolationError.

    :ivar reason: what ended it: ``"stall"``, ``"timeout"``, ``"max_answers"``, ``"no_responders"``, ``"cancelled"`` or ``"error"``; None
        before.
    :ivar faults: the errors of what came and could not be read, the first 100 of them.
    :ivar num_faults: how many there were.
    :ivar dropped: answers that were dropped because too many waited to be taken: more than the client's options ``pending_msgs`` and
        ``pending_bytes`` allow, or because there are more than 100,000 instances.
    """

    def __init__(
        self, client: NatsClient, kind: type[_A], subject: str, *, max_answers: int | None, stall: float | None, timeout: float
    ) -> None:
        self.subject = subject
        self.reason: str | None = None
        self.faults: list[ServiceDecodeError] = []
        self.num_faults = 0
        self.dropped = 0
        self._kind = kind
        self._max_answers = max_answers
        self._bounds = client.options.pending_msgs, client.options.pending_bytes
        self._seen: set[tuple[str, str]] = set()
        self._ready: deque[tuple[_A, int]] = deque()
        self._bytes = 0
        self._waiting: deque[Deferred[_A]] = deque()
        self._error: BaseException | None = None
        self._seconds = client.reactor.seconds
        self._asked = self._seconds()
        self._replies = client.request_many(subject, stall=stall, timeout=timeout)
        # Nobody needs to wait for it: it never fails, and ends with the request.
        Deferred.fromCoroutine(self._take())

    def __repr__(self) -> str:
        return f"<Answers {self.subject!r}, {len(self._seen)} came, {self.reason or 'open'}>"

    # --- handing out -----------------------------------------------------------------------------------------

    def __aiter__(self) -> Answers[_A]:
        return self

    async def __anext__(self) -> _A:
        if self._ready:
            answer, size = self._ready.popleft()
            self._bytes -= size
            return answer
        if self.reason is not None:
            raise self._end_error()
        waiter: Deferred[_A] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return await waiter

    def __await__(self) -> Generator[Deferred[Any], Any, list[_A]]:
        return self.collect().__await__()

    def collect(self) -> Deferred[list[_A]]:
        """All that was not handed out yet, when the last has come. Cancelling it ends the question."""

        async def gather() -> list[_A]:
            try:
                return [answer async for answer in self]
            finally:
                self.cancel()

        return Deferred.fromCoroutine(gather())

    def cancel(self) -> None:
        """Take no more answers. Who leaves the loop early may call it; else it ends by itself, at its timeout."""
        self._replies.cancel()

    def _end_error(self) -> BaseException:
        error, self._error = self._error, None
        return error if error is not None else StopAsyncIteration()

    # --- coming in -------------------------------------------------------------------------------------------

    async def _take(self) -> None:
        # Each reply is taken when it comes, and not when somebody wants it: so it is known how long it took.
        try:
            async for msg in self._replies:
                self._arrived(msg)
        except NoRespondersError:
            self._finish("no_responders")
        except NatsError as error:
            self._error = error
            self._finish("error")
        else:
            self._finish(self._replies.reason or "cancelled")

    def _arrived(self, msg: Msg) -> None:
        if self.reason is not None:
            return
        rtt = max(0.0, self._seconds() - self._asked)
        try:
            answer = decode(self._kind, msg.data)
        except ServiceDecodeError as error:
            self.num_faults += 1
            if len(self.faults) < MAX_FAULTS:
                self.faults.append(error)
            return
        key = answer.name, answer.id
        if key in self._seen:
            return
        size = len(msg.data)
        if len(self._seen) >= MAX_INSTANCES or (not self._waiting and self._has_no_room(size)):
            self.dropped += 1
            return
        self._seen.add(key)
        answer = replace(answer, rtt=rtt)
        full = self._max_answers is not None and len(self._seen) >= self._max_answers
        if self._waiting:
            self._waiting.popleft().callback(answer)
        else:
            self._ready.append((answer, size))
            self._bytes += size
        if full:
            self._finish("max_answers")
            self._replies.cancel()

    def _has_no_room(self, size: int) -> bool:
        most, most_bytes = self._bounds
        return bool((most and len(self._ready) >= most) or (most_bytes and self._bytes + size > most_bytes))

    def _finish(self, reason: str) -> None:
        if self.reason is not None:
            return
        self.reason = reason
        while self._waiting:
            self._waiting.popleft().errback(self._end_error())
