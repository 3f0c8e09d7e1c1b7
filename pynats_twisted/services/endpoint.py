"""An endpoint of a service: a subscription whose handler answers, and what it counts."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Generator, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..errors import ConnectionClosedError, NatsError, ServiceError
from ..protocol.twin import DONE
from .api import EndpointInfo, EndpointStats
from .request import ServiceRequest

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from ..client.subscription import Subscription
    from ..protocol.message import Msg
    from .config import StatsHandler
    from .middleware import RequestHandler
    from .service import Service

# What callers get to know of an exception that was not meant for them.
_INTERNAL = ServiceError(500, "internal error")
_REFUSED = ServiceError(403, "the reply subject is not one that is answered")


class Counters:
    """What was counted since the last reset. A request that is being handled then counts where it began."""

    __slots__ = ("errors", "last_error", "requests", "seconds")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.seconds = 0.0

    def count_error(self, error: ServiceError) -> None:
        """A request ended in an error."""
        self.errors += 1
        self.last_error = f"{error.code}:{error.description}"


class Endpoint:
    """An endpoint. ``await`` it to know that the server has it, or to learn that it was denied.

    :ivar service: whose it is. :ivar name: its name. :ivar subject: where it listens, the groups' prefixes included.
    :ivar queue: its queue group, or None. :ivar metadata: what was said of it; cannot be changed.
    :ivar streaming: whether answers have several parts. :ivar subscription: where its requests come from.
    """

    _log = Logger()

    subscription: Subscription

    def __init__(
        self,
        service: Service,
        name: str,
        subject: str,
        handler: RequestHandler,
        queue: str | None,
        metadata: Mapping[str, str],
        streaming: bool,
        may_answer: Callable[[str], bool],
    ) -> None:
        self.service = service
        self.name = name
        self.subject = subject
        self.queue = queue
        self.metadata = metadata
        self.streaming = streaming
        self._handler = handler
        self._may_answer = may_answer
        self._seconds: Callable[[], float] = service.client.reactor.seconds
        self._counters = Counters()
        self._refusal_logged = False

    def __repr__(self) -> str:
        queue = f" queue={self.queue!r}" if self.queue else ""
        return f"<Endpoint {self.name!r} of {self.service.name!r} on {self.subject!r}{queue}, {self.num_requests} requests>"

    def __await__(self) -> Generator[Deferred[Any], Any, Endpoint]:
        return self.confirmed().__await__()

    def confirmed(self) -> Deferred[Endpoint]:
        """Fires with the endpoint when the server has it: all requests from then on reach it.

        What :meth:`~pynats_twisted.client.Subscription.confirmed` raises is raised here too.
        """
        return self.subscription.confirmed().addCallback(lambda _: self)

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def num_requests(self) -> int:
        """Requests that came to the handler, since the last reset."""
        return self._counters.requests

    @property
    def num_errors(self) -> int:
        """How many of them ended in an error."""
        return self._counters.errors

    @property
    def last_error(self) -> str:
        """The last error as ``code:description``, or ``""``. Of an exception that is no ServiceError only the log tells more."""
        return self._counters.last_error

    @property
    def processing_time(self) -> float:
        """Seconds from the beginning of a request's handling to its end, of all that have ended together."""
        return self._counters.seconds

    def reset(self) -> None:
        """Count from 0 again."""
        self._counters = Counters()

    def info(self) -> EndpointInfo:
        """What INFO tells of it."""
        return EndpointInfo(name=self.name, subject=self.subject, queue_group=self.queue or "", metadata=self.metadata)

    def stats(self, handler: StatsHandler | None = None) -> EndpointStats:
        """What STATS tells of it.

        :param handler: gives its ``data``. That is left out, and logged, when it raises or gives what JSON cannot express.
        """
        counters = self._counters
        return EndpointStats(
            name=self.name,
            subject=self.subject,
            queue_group=self.queue or "",
            num_requests=counters.requests,
            num_errors=counters.errors,
            last_error=counters.last_error,
            processing_time=counters.seconds,
            average_processing_time=counters.seconds / counters.requests if counters.requests else 0.0,
            data=self._stats_data(handler) if handler is not None else None,
        )

    def _stats_data(self, handler: StatsHandler) -> Any:
        try:
            # Written here, where it harms nobody else, and read again: a copy that stays as it is.
            return json.loads(json.dumps(handler(self), allow_nan=False))
        except Exception:  # noqa: BLE001 - the user's code; the other statistics are told all the same
            self._log.failure("The stats handler of {service!r} failed on endpoint {name!r}", service=self.service.name, name=self.name)
            return None

    # --- requests --------------------------------------------------------------------------------------------

    def handle(self, msg: Msg) -> Any:
        """What the subscription calls with each message. What this raises is logged and counted there."""
        counters = self._counters
        counters.requests += 1
        # Whoever may send requests chooses where the answer goes, and the service may publish where they may not.
        if msg.reply and not self._may_answer(msg.reply):
            self._refuse(msg)
            return None
        request = ServiceRequest(self, msg, counters)
        begun = self._seconds()
        waiting: Deferred[None] | None = None
        try:
            result = self._handler(request)
            kind = result.__class__
            if kind is CoroutineType or (kind is not bytes and isinstance(result, (Deferred, Coroutine))):
                return self._go_on(request, result, begun)
            if self.streaming and isinstance(result, AsyncIterable):
                return self._go_on(request, self._stream(request, result), begun)
            waiting = self._answer(request, result)
        except BaseException as error:
            if self._answer_error(request, error):
                raise
        counters.seconds += self._seconds() - begun
        return waiting

    async def _go_on(self, request: ServiceRequest, awaited: Awaitable[Any], begun: float) -> None:
        """The handler is not over, or was a coroutine function."""
        try:
            result = await awaited
            if self.streaming and isinstance(result, AsyncIterable):
                await self._stream(request, result)
                result = None
            sent = self._answer(request, result)
            if sent is not None:
                await sent
        except GeneratorExit:
            raise
        except BaseException as error:
            if self._answer_error(request, error):
                raise
        finally:
            request.counters.seconds += self._seconds() - begun

    async def _stream(self, request: ServiceRequest, parts: AsyncIterable[Any]) -> None:
        try:
            async for part in parts:
                await request.respond(part)
        finally:
            # One that is left before its end would keep open what it has.
            if isinstance(parts, AsyncGenerator):
                await parts.aclose()
        if not request.answered:
            await request.end()

    def _answer(self, request: ServiceRequest, result: Any) -> Deferred[None] | None:
        """Send what the handler returned. Something to wait for when too much is waiting to be sent."""
        if result is None or result is DONE:
            return None
        if not isinstance(result, (bytes, bytearray, memoryview)):
            raise TypeError(f"the handler of endpoint {self.name!r} returned a {type(result).__name__}, neither bytes nor None")
        sent: Awaitable[None] = DONE
        if not self.streaming or result:
            sent = request.respond(result)
        if self.streaming:
            sent = request.end()
        return sent.addErrback(_closed_meanwhile) if isinstance(sent, Deferred) else None

    def _answer_error(self, request: ServiceRequest, error: BaseException) -> bool:
        """Tell the caller that the handler raised. True when the log has to have it: nobody foresaw it, or the caller cannot be told."""
        foreseen = isinstance(error, ServiceError)
        answer = error if isinstance(error, ServiceError) else _INTERNAL
        request.counters.count_error(answer)
        if request.answered:
            return True
        try:
            request.send_error(answer)
        except NatsError:
            # What a ServiceError has may be too large, or no header.
            if foreseen:
                self._send_internal(request)
            return True
        return not foreseen

    def _send_internal(self, request: ServiceRequest) -> None:
        try:
            request.send_error(_INTERNAL)
        except NatsError as error:
            self._log.warn("A request on {subject!r} could not be answered: {error}", subject=request.subject, error=error)

    def _refuse(self, msg: Msg) -> None:
        self._counters.count_error(_REFUSED)
        if not self._refusal_logged:
            self._refusal_logged = True
            self._log.warn(
                "A request on {subject!r} is not handled, because its answer would go to {reply!r}; more of them are only counted",
                subject=msg.subject,
                reply=msg.reply,
            )


def _closed_meanwhile(failure: Failure) -> None:
    failure.trap(ConnectionClosedError)
