"""Functions that stand around the handlers of a service.

One gets the request and a function that goes on with the next, in the end with the handler. What it returns is the answer, as if the
handler had returned it; what it raises, the handler had raised::

    async def timed(request, call_next):
        begun = reactor.seconds()
        try:
            return await call_next(request)
        finally:
            log.info("{subject}: {seconds} s", subject=request.subject, seconds=reactor.seconds() - begun)

It may be a plain function or one that returns a Deferred as well, may answer by itself without going on, and may go on with another
request. ``call_next`` returns a Deferred, which has fired already when the rest was done at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed

if TYPE_CHECKING:
    from .request import ServiceRequest

RequestHandler = Callable[["ServiceRequest"], Any]
"""Gets each request: a plain function, one that returns a Deferred, a coroutine function, or where answers have several parts an
asynchronous generator."""

CallNext = Callable[["ServiceRequest"], "Deferred[Any]"]
Middleware = Callable[["ServiceRequest", CallNext], Any]


def wrapped(handler: RequestHandler, middleware: Sequence[Middleware]) -> RequestHandler:
    """The handler with all of these around it, the first one outermost. Where there are none, it is the handler itself."""
    for each in reversed(middleware):
        handler = _around(each, handler)
    return handler


def _around(middleware: Middleware, handler: RequestHandler) -> RequestHandler:
    def call_next(request: ServiceRequest) -> Deferred[Any]:
        try:
            result = handler(request)
        except Exception:  # noqa: BLE001 - the user's code; whoever waits gets it
            return fail()
        if isinstance(result, Deferred):
            return result
        if isinstance(result, Coroutine):
            return Deferred.fromCoroutine(result)
        return succeed(result)

    return lambda request: middleware(request, call_next)
