"""Middleware stands around handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from pynats_twisted.errors import RequestAnsweredError, ServiceError
from pynats_twisted.services import ServiceRequest
from pynats_twisted.services.middleware import CallNext, wrapped

from .served import ServedTestCase, error_of, silent


class MiddlewareTests(ServedTestCase):
    def named(self, name: str) -> Any:
        """Middleware that tells when it begins and ends."""

        async def middleware(request: ServiceRequest, call_next: CallNext) -> Any:
            self.seen.append(f"{name} begins")
            try:
                return await call_next(request)
            finally:
                self.seen.append(f"{name} ends")

        return middleware

    def setUp(self) -> None:
        super().setUp()
        self.seen: list[str] = []

    def test_order(self) -> None:
        """That of the service is outermost, then that of its groups, then that of the endpoint; each in the order given."""
        service = self.serve(middleware=[self.named("s1"), self.named("s2")])
        group = service.add_group("g", middleware=[self.named("g")]).add_group("h", middleware=[self.named("h")])

        def handler(request: ServiceRequest) -> bytes:
            self.seen.append("handler")
            return b"x"

        self.endpoint(handler, service=group, middleware=[self.named("e")])
        self.endpoint(lambda request: b"y", "other", service=service)
        self.assertEqual(self.ask("g.h.do").data, b"x")
        names = ["s1", "s2", "g", "h", "e"]
        self.assertEqual(self.seen, [*(f"{name} begins" for name in names), "handler", *(f"{name} ends" for name in reversed(names))])
        self.seen.clear()
        self.assertEqual(self.ask("other").data, b"y")
        self.assertEqual(self.seen, ["s1 begins", "s2 begins", "s2 ends", "s1 ends"])

    def test_each_kind(self) -> None:
        """Middleware may be a plain function, a coroutine function, one under inlineCallbacks, or return a Deferred; handlers as well."""

        def plain(request: ServiceRequest, call_next: CallNext) -> Any:
            return call_next(request)

        def deferred(request: ServiceRequest, call_next: CallNext) -> Any:
            return call_next(request).addCallback(lambda answer: answer + b"!")

        async def coroutine(request: ServiceRequest, call_next: CallNext) -> Any:
            return await call_next(request) + b"!"

        @inlineCallbacks
        def generator(request: ServiceRequest, call_next: CallNext) -> Any:
            answer = yield call_next(request)
            return answer + b"!"

        async def waits(request: ServiceRequest) -> bytes:
            await deferLater(self.network, 1.0)
            return b"x"

        service = self.serve()
        for number, handler in enumerate((waits, lambda request: b"x", lambda request: deferLater(self.network, 1.0, lambda: b"x"))):
            options: dict[str, Any] = {"service": service, "middleware": [plain, deferred, coroutine, generator]}
            self.endpoint(handler, f"e{number}", **options)
            self.assertEqual(self.ask(f"e{number}").data, b"x!!!")

    def test_answers_by_itself(self) -> None:
        """Middleware may answer without the handler, by what it returns, responds or raises."""

        def guard(request: ServiceRequest, call_next: CallNext) -> Any:
            if request.data == b"raise":
                raise ServiceError(403, "no")
            if request.data == b"respond":
                request.respond(b"responded")
                return None
            return b"returned" if request.data == b"return" else call_next(request)

        endpoint = self.endpoint(lambda request: b"handled", middleware=[guard])
        self.assertEqual([self.ask(data=data).data for data in (b"return", b"respond", b"go on")], [b"returned", b"responded", b"handled"])
        self.assertEqual(error_of(self.ask(data=b"raise")), ("403", "no"))
        self.assertEqual((endpoint.num_requests, endpoint.num_errors), (4, 1))

    def test_errors(self) -> None:
        """What the handler raises comes to the middleware, which may do something about it."""

        async def mended(request: ServiceRequest, call_next: CallNext) -> Any:
            try:
                return await call_next(request)
            except ZeroDivisionError as error:
                raise ServiceError(400, f"cannot divide: {error}") from error

        async def coroutine(request: ServiceRequest) -> bytes:
            return b"%d" % (1 // int(request.data))

        service = self.serve(middleware=[mended])
        for name, handler in (("a", lambda request: b"%d" % (1 // int(request.data))), ("b", coroutine)):
            self.endpoint(handler, name, service=service)
            self.assertEqual(error_of(self.ask(name, b"0")), ("400", "cannot divide: integer division or modulo by zero"))
            self.assertEqual(error_of(self.ask(name, b"?")), ("500", "internal error"))
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_errors_of_a_plain_handler(self) -> None:
        """What a plain handler raises comes by the Deferred as well: middleware that uses callbacks sees it."""

        def told(failure: Failure) -> bytes:
            return b"mended: " + type(failure.value).__name__.encode()

        def mended(request: ServiceRequest, call_next: CallNext) -> Any:
            return call_next(request).addErrback(told)

        self.endpoint(lambda request: b"%d" % (1 // int(request.data)), middleware=[mended])
        self.assertEqual(
            [self.ask(data=data).data for data in (b"0", b"?", b"1")], [b"mended: ZeroDivisionError", b"mended: ValueError", b"1"]
        )

    def test_its_time_counts(self) -> None:
        """The time that middleware takes is a part of the processing time."""

        async def slow(request: ServiceRequest, call_next: CallNext) -> Any:
            await deferLater(self.network, 2.0)
            return await call_next(request)

        endpoint = self.endpoint(lambda request: b"", middleware=[slow])
        self.ask()
        self.assertEqual(endpoint.processing_time, 2.0)

    def test_twice(self) -> None:
        """Middleware that goes on twice has the handler run twice; an answer by both is an error."""

        async def twice(request: ServiceRequest, call_next: CallNext) -> Any:
            await call_next(request)
            await call_next(request)

        self.endpoint(lambda request: request.respond(b"x"), middleware=[twice])
        self.assertEqual([msg.data for msg in self.ask_all("do")], [b"x"])
        self.assertEqual(len(self.flushLoggedErrors(RequestAnsweredError)), 1)

    def test_streaming(self) -> None:
        """Middleware gets the generator of a streaming endpoint, and may give another."""

        async def parts(request: ServiceRequest) -> AsyncIterator[bytes]:
            yield b"1"
            yield b"2"

        async def louder(request: ServiceRequest, call_next: CallNext) -> Any:
            given = await call_next(request)
            return (part + b"!" async for part in given)

        self.endpoint(parts, streaming=True, middleware=[louder])
        self.assertEqual([msg.data for msg in self.ask_all("do")], [b"1!", b"2!", b""])

    def test_cancelled(self) -> None:
        """Who cancels what call_next gave cancels the handler, for example after a time that is too long."""
        cancelled: list[bool] = []

        async def handler(request: ServiceRequest) -> bytes:
            waiting: Deferred[None] = Deferred(lambda _: cancelled.append(True))
            await waiting
            return b"never"

        async def limited(request: ServiceRequest, call_next: CallNext) -> Any:
            try:
                return await call_next(request).addTimeout(1.0, self.network)
            except DeferredTimeoutError:
                raise ServiceError(504, "took too long") from None

        self.endpoint(handler, middleware=[limited])
        self.assertEqual(error_of(self.ask()), ("504", "took too long"))
        self.assertEqual(cancelled, [True])

    def test_costs_nothing_where_there_is_none(self) -> None:
        """Without middleware the handler itself is called."""
        self.assertIs(wrapped(silent, ()), silent)
