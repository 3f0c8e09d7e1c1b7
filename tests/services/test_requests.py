"""Requests to endpoints: handlers of all kinds, their answers, and their errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import deferLater

from pynats_twisted.client.status import HandlerError
from pynats_twisted.errors import (
    ConnectionClosedError,
    InvalidArgumentError,
    MaxPayloadExceededError,
    NoRespondersError,
    RequestAnsweredError,
    RequestTimeoutError,
    ServiceConfigError,
    ServiceError,
)
from pynats_twisted.services import ServiceRequest
from tests.client.support import Slow

from .served import ServedTestCase, error_of, silent


class AnswerTests(ServedTestCase):
    """A request has one answer."""

    def test_each_kind_of_handler(self) -> None:
        """Plain functions, coroutine functions, and those that return a Deferred answer with what they return, or with respond()."""

        async def coroutine(request: ServiceRequest) -> bytes:
            await deferLater(self.network, 1.0)
            return request.data + b"!"

        async def responds(request: ServiceRequest) -> None:
            await deferLater(self.network, 1.0)
            await request.respond(request.data + b"!")

        @inlineCallbacks
        def generator(request: ServiceRequest) -> Any:
            yield deferLater(self.network, 1.0)
            return request.data + b"!"

        async def at_once(request: ServiceRequest) -> bytes:
            return request.data + b"!"

        service = self.serve()
        kinds: dict[str, Callable[[ServiceRequest], Any]] = {
            "returns": lambda request: request.data + b"!",
            "bytearray": lambda request: bytearray(request.data + b"!"),
            "responds": lambda request: request.respond(request.data + b"!"),
            "says-nothing": lambda request: request.respond(request.data + b"!") and None,
            "deferred": lambda request: succeed(request.data + b"!"),
            "later": lambda request: deferLater(self.network, 1.0, lambda: request.data + b"!"),
            "coroutine": coroutine,
            "coroutine-responds": responds,
            "coroutine-at-once": at_once,
            "generator": generator,
        }
        for name, handler in kinds.items():
            endpoint = self.endpoint(handler, name, service=service)
            msg = self.ask(name, name.encode())
            self.assertEqual((msg.data, msg.raw_headers), (name.encode() + b"!", b""), name)
            self.assertEqual((endpoint.num_requests, endpoint.num_errors), (1, 0), name)

    def test_what_a_request_knows(self) -> None:
        """A handler sees the subject, payload, headers and reply subject of the request, and the endpoint."""
        seen: list[Any] = []

        def handler(request: ServiceRequest) -> bytes:
            seen.append((request.subject, request.data, request.headers["A"], request.reply, request.endpoint))
            return b""

        endpoint = self.endpoint(handler, subject="do.*")
        self.ask("do.it", b"x", headers={"A": "b"})
        ((subject, data, header, reply, at),) = seen
        self.assertEqual((subject, data, header, at), ("do.it", b"x", "b", endpoint))
        self.assertTrue(reply.startswith("_INBOX."))

    def test_headers_and_json(self) -> None:
        """An answer may have headers, and may be written as JSON."""

        def handler(request: ServiceRequest) -> None:
            request.respond_json({"text": "ä", "list": [1, None]}, headers={"Type": "json"})

        self.endpoint(handler)
        msg = self.ask()
        self.assertEqual((msg.data.decode(), msg.headers["Type"]), ('{"text":"ä","list":[1,null]}', "json"))

    def test_json_that_cannot_be_written(self) -> None:
        """A value that is not JSON is an error that says so, and the caller gets an answer."""
        for value in (float("nan"), {1, 2}, "\ud800"):
            endpoint = self.endpoint(lambda request, value=value: request.respond_json(value))
            self.assertEqual(error_of(self.ask()), ("500", "internal error"))
            (logged,) = self.flushLoggedErrors(InvalidArgumentError)
            self.assertIn("'do' cannot be written as JSON", str(logged.value))
            self.network.run(endpoint.service.stop())

    def test_later(self) -> None:
        """A handler that returns None may answer when it likes."""
        kept: list[ServiceRequest] = []
        self.endpoint(kept.append)
        asked = self.begin()
        self.assertNoResult(asked)
        self.network.advance(2)
        kept[0].respond(b"late")
        self.network.advance()
        self.assertEqual(self.successResultOf(asked).data, b"late")

    def test_twice(self) -> None:
        """A second answer is an error of the handler; the caller gets the first."""

        def handler(request: ServiceRequest) -> bytes:
            request.respond(b"first")
            return b"second"

        endpoint = self.endpoint(handler)
        self.assertEqual([msg.data for msg in self.ask_all("do")], [b"first"])
        (logged,) = self.flushLoggedErrors(RequestAnsweredError)
        self.assertIn("the request on 'do' was answered already", str(logged.value))
        self.assertEqual((endpoint.num_errors, endpoint.last_error), (1, "500:internal error"))

    def test_nobody_waits(self) -> None:
        """A request without a reply subject is handled; answers to it go nowhere, and are no error."""
        got: list[bytes] = []

        def handler(request: ServiceRequest) -> bytes:
            got.append(request.data)
            if request.data == b"raise":
                raise ServiceError(400, "bad")
            return b"answer"

        endpoint = self.endpoint(handler)
        self.caller.publish("do", b"x")
        self.caller.publish("do", b"raise")
        self.network.advance()
        self.assertEqual((got, endpoint.num_requests, endpoint.num_errors), ([b"x", b"raise"], 2, 1))

    def test_one_at_a_time(self) -> None:
        """Requests wait for each other, unless the endpoint may handle more at once; those of one key always do."""
        for options, begun in (
            ({}, [b"a1"]),
            ({"concurrency": 2}, [b"a1", b"a2"]),
            ({"concurrency": 3, "ordered_by": lambda msg: msg.data[:1]}, [b"a1", b"b1"]),
        ):
            slow = Slow()
            endpoint = self.endpoint(slow, **options)
            for data in (b"a1", b"a2", b"b1"):
                self.caller.publish("do", data)
            self.network.advance()
            self.assertEqual(slow.begun, begun)
            while len(slow.begun) < 3 or slow.running:
                slow.finish_all()
            self.network.run(endpoint.service.stop())

    def test_back_pressure(self) -> None:
        """While an answer waits because too much is to be sent, the endpoint takes no new request; a closed client ends that quietly."""
        sent: list[Deferred[None]] = []

        def publish(*_: Any) -> Deferred[None]:
            sent.append(Deferred())
            return sent[-1]

        async def coroutine(request: ServiceRequest) -> bytes:
            return b"x"

        async def responds(request: ServiceRequest) -> None:
            await request.respond(b"x")

        self.patch(self.nc, "publish", publish)
        handlers = (lambda request: b"x", coroutine, responds, lambda request: request.respond(b"x"))
        for handler in handlers:
            endpoint = self.endpoint(handler)
            self.caller.publish("do", b"1", reply="r")
            self.caller.publish("do", b"2", reply="r")
            self.network.advance(1)
            self.assertEqual((len(sent), endpoint.num_requests, endpoint.subscription.active_handlers), (1, 1, 1))
            sent.pop().callback(None)
            self.assertEqual((len(sent), endpoint.num_requests), (1, 2))
            sent.pop().callback(None)
            self.assertEqual(endpoint.subscription.active_handlers, 0)
            self.network.run(endpoint.service.stop())
        service = self.serve()
        for number, handler in enumerate(handlers[:2]):
            self.endpoint(handler, f"e{number}", service=service)
            self.caller.publish(f"e{number}", b"1", reply="r")
            self.network.advance()
            sent.pop().errback(ConnectionClosedError("closed"))

    def test_connection_is_lost(self) -> None:
        """An answer that is given while there is no connection is sent when there is one again."""
        slow = Slow()

        async def handler(request: ServiceRequest) -> bytes:
            await slow(request)
            return b"after"

        self.endpoint(handler)
        asked = self.begin(timeout=30.0)
        self.network.links[0].cut()
        self.network.advance()
        slow.finish_all()
        self.network.advance(10)
        self.assertEqual(self.successResultOf(asked).data, b"after")
        asked = self.begin(timeout=30.0)
        slow.finish_all()
        self.network.advance()
        self.assertEqual(self.successResultOf(asked).data, b"after")


class ErrorTests(ServedTestCase):
    """Errors reach the caller, without saying more than they should."""

    def test_service_error(self) -> None:
        """What a handler raises as ServiceError is the answer: code, text, payload and headers. It is counted, and not logged."""

        def plain(request: ServiceRequest) -> None:
            raise ServiceError(404, "no such tea", b"green", {"More": "x"})

        async def coroutine(request: ServiceRequest) -> None:
            await deferLater(self.network, 1.0)
            plain(request)

        def deferred(request: ServiceRequest) -> Deferred[None]:
            return Deferred.fromCoroutine(coroutine(request))

        service = self.serve()
        for number, handler in enumerate((plain, coroutine, deferred)):
            endpoint = self.endpoint(handler, f"e{number}", service=service)
            msg = self.ask(f"e{number}")
            self.assertEqual((error_of(msg), msg.data, msg.headers["More"]), (("404", "no such tea"), b"green", "x"))
            self.assertEqual((endpoint.num_requests, endpoint.num_errors, endpoint.last_error), (1, 1, "404:no such tea"))
        self.assertEqual(self.nc.stats.handler_errors, 0)

    def test_respond_error(self) -> None:
        """A handler may answer with an error without raising; that counts as well."""
        endpoint = self.endpoint(lambda request: request.respond_error(409, "sold out", b"x", {"A": "b"}))
        msg = self.ask()
        self.assertEqual((error_of(msg), msg.data, msg.headers["A"]), (("409", "sold out"), b"x", "b"))
        self.assertEqual((endpoint.num_errors, endpoint.last_error), (1, "409:sold out"))

    def test_text_of_several_lines(self) -> None:
        """Line breaks in an error's text reach the caller as spaces: they can add no header."""

        def handler(request: ServiceRequest) -> None:
            raise ServiceError(400, "first\r\nEvil: 1\r\n\r\nsecond")

        self.endpoint(handler)
        msg = self.ask()
        self.assertEqual(error_of(msg), ("400", "first Evil: 1 second"))
        self.assertNotIn("Evil", msg.headers)

    def test_any_other_exception(self) -> None:
        """Of an exception that was not meant for the caller it learns nothing but the code 500; the log and listeners get it."""
        events: list[Any] = []
        self.nc.add_listener(events.append)

        def plain(request: ServiceRequest) -> None:
            raise RuntimeError("the password is 1234")

        async def coroutine(request: ServiceRequest) -> None:
            await deferLater(self.network, 1.0)
            plain(request)

        service = self.serve()
        for number, handler in enumerate((plain, coroutine, lambda request: deferLater(self.network, 0, plain, request))):
            endpoint = self.endpoint(handler, f"e{number}", service=service)
            msg = self.ask(f"e{number}")
            self.assertEqual((error_of(msg), msg.data), (("500", "internal error"), b""))
            self.assertEqual((endpoint.num_errors, endpoint.last_error), (1, "500:internal error"))
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.network.advance()
        self.assertEqual(self.nc.stats.handler_errors, 3)
        self.assertEqual([str(event.error) for event in events if isinstance(event, HandlerError)], ["the password is 1234"] * 3)

    def test_what_handlers_may_not_return(self) -> None:
        """A handler that returns what cannot be sent is in error, whether it answered or not."""
        endpoint = self.endpoint(lambda request: {"a": 1})
        self.assertEqual(error_of(self.ask()), ("500", "internal error"))
        (logged,) = self.flushLoggedErrors(TypeError)
        self.assertEqual(str(logged.value), "the handler of endpoint 'do' returned a dict, neither bytes nor None")
        self.assertEqual(endpoint.num_errors, 1)

    def test_after_the_answer(self) -> None:
        """What a handler raises after it answered is logged and counted, and not sent."""

        def handler(request: ServiceRequest) -> None:
            request.respond(b"ok")
            raise ServiceError(400, "too late")

        endpoint = self.endpoint(handler)
        self.assertEqual([msg.data for msg in self.ask_all("do")], [b"ok"])
        self.assertEqual(len(self.flushLoggedErrors(ServiceError)), 1)
        self.assertEqual((endpoint.num_errors, endpoint.last_error), (1, "400:too late"))

    def test_errors_that_cannot_be_sent(self) -> None:
        """An error whose payload is too large or whose headers are none still gives the caller an answer."""
        size = self.server_options.get("max_payload", 1024 * 1024)
        for error in (
            ServiceError(400, "x", b"x" * size),
            ServiceError(400, "x" * size),
            ServiceError(400, "x", b"", {"a b": "c"}),
            ServiceError(400, "x", b"", 5),
            ServiceError(400, "x", "text"),  # type: ignore[arg-type]
        ):

            def handler(request: ServiceRequest, error: ServiceError = error) -> None:
                raise error

            endpoint = self.endpoint(handler)
            self.assertEqual(error_of(self.ask()), ("500", "internal error"))
            self.assertEqual(len(self.flushLoggedErrors(ServiceError)), 1)
            self.assertEqual(endpoint.num_errors, 1)
            self.network.run(endpoint.service.stop())

    def test_answer_that_is_too_large(self) -> None:
        """An answer larger than the server takes is an error of the handler, and the caller is told that there was one."""

        async def coroutine(request: ServiceRequest) -> bytes:
            return b"x" * 2_000_000

        service = self.serve()
        for number, handler in enumerate((lambda request: b"x" * 2_000_000, coroutine)):
            self.endpoint(handler, f"e{number}", service=service)
            self.assertEqual(error_of(self.ask(f"e{number}")), ("500", "internal error"))
            self.assertEqual(len(self.flushLoggedErrors(MaxPayloadExceededError)), 1)

    def test_rules_of_errors(self) -> None:
        """A code that is no positive number, or an empty text, is refused where it is made, with the value and the rule."""
        for code in (0, -1, "400", True, 4.0, None):
            error: Any = self.assertRaises(InvalidArgumentError, ServiceError, code, "x")
            self.assertIn(f"code={code!r}", str(error))
        for text in ("", " \n", None, 5):
            error = self.assertRaises(InvalidArgumentError, ServiceError, 400, text)
            self.assertIn("a text that is not empty", str(error))
        self.endpoint(lambda request: request.respond_error(400, ""))
        self.assertEqual(error_of(self.ask()), ("500", "internal error"))
        self.assertEqual(len(self.flushLoggedErrors(InvalidArgumentError)), 1)

    def test_closed_meanwhile(self) -> None:
        """A handler that ends when the client is closed harms nobody."""
        slow = Slow()

        async def handler(request: ServiceRequest) -> None:
            await slow(request)
            raise ServiceError(400, "x")

        self.endpoint(handler)
        asked = self.begin(timeout=1.0)
        self.network.run(self.nc.close())
        slow.finish_all()
        self.assertEqual(len(self.flushLoggedErrors(ServiceError)), 1)
        self.network.advance(1)
        self.failureResultOf(asked, RequestTimeoutError)


class ReplySubjectTests(ServedTestCase):
    """Whoever sends requests does not choose what the service publishes to."""

    def setUp(self) -> None:
        super().setUp()
        self.seen: list[str] = []
        self.caller.subscribe(">", lambda msg: self.seen.append(msg.subject))

    def ask_to(self, *replies: str) -> list[str]:
        """Requests with these reply subjects; those of them that got an answer."""
        for reply in replies:
            self.caller.publish("do", b"", reply=reply)
        self.network.advance()
        found = [subject for subject in self.seen if subject != "do"]
        self.seen.clear()
        return found

    def test_system_subjects(self) -> None:
        """A request whose answer would go to a subject that begins with $ is not handled, but counted; others are."""
        handled: list[Any] = []

        def handler(request: ServiceRequest) -> bytes:
            handled.append(request)
            return b"{}"

        endpoint = self.endpoint(handler)
        found = self.ask_to("$JS.API.STREAM.DELETE.orders", "$SYS.REQ.SERVER.PING", "mine", "_INBOX.1")
        self.assertEqual((found, len(handled)), (["mine", "_INBOX.1"], 2))
        self.assertEqual((endpoint.num_requests, endpoint.num_errors), (4, 2))
        self.assertEqual(endpoint.last_error, "403:the reply subject is not one that is answered")

    def test_of_discovery(self) -> None:
        """The same holds for PING, INFO and STATS."""
        self.serve()
        for verb in ("PING", "INFO", "STATS"):
            self.caller.publish(f"$SRV.{verb}", b"", reply="$JS.API.STREAM.DELETE.orders")
            self.caller.publish(f"$SRV.{verb}", b"", reply="mine")
            self.caller.publish(f"$SRV.{verb}")
        self.network.advance()
        self.assertEqual([subject for subject in self.seen if not subject.startswith("$SRV")], ["mine"] * 3)

    def test_allowed(self) -> None:
        """With a list of what is allowed only that is answered, whatever it begins with."""
        service = self.serve(allow_replies=["_INBOX.>", "$JS.ACK.>"])
        self.endpoint(lambda request: b"+ACK", service=service)
        self.assertEqual(self.ask_to("$JS.ACK.s.c.1", "mine", "_INBOX.1"), ["$JS.ACK.s.c.1", "_INBOX.1"])

    def test_wildcard(self) -> None:
        """A reply subject that is none costs its request, and no other."""
        self.endpoint(lambda request: b"x")
        link = self.network.links[1]
        link.client.write(b"PUB do a.* 0\r\n\r\n")
        self.assertEqual(self.ask_to("mine"), ["mine"])
        self.assertTrue(self.flushLoggedErrors())


class StreamingTests(ServedTestCase):
    """Answers of several parts."""

    def parts(self, subject: str = "do", data: bytes = b"") -> list[bytes]:
        return [msg.data for msg in self.ask_all(subject, data)]

    def test_asynchronous_generator(self) -> None:
        """Each part that a generator gives is a message; an empty one without headers is the end."""

        async def numbers(request: ServiceRequest) -> AsyncIterator[bytes]:
            for number in range(int(request.data)):
                await deferLater(self.network, 0.01)
                yield b"%d" % number

        endpoint = self.endpoint(numbers, streaming=True)
        self.assertEqual(self.parts(data=b"3"), [b"0", b"1", b"2", b""])
        self.assertEqual(self.parts(data=b"0"), [b""])
        self.assertEqual((endpoint.num_requests, endpoint.num_errors), (2, 0))
        self.assertAlmostEqual(endpoint.processing_time, 0.03)

    def test_respond(self) -> None:
        """A handler may send as many parts as it likes, with headers, until end(); then nothing more."""

        async def handler(request: ServiceRequest) -> None:
            await request.respond(b"1")
            await request.respond(b"", {"A": "b"})
            await request.end()
            await request.respond(b"2")

        self.endpoint(handler, streaming=True)
        self.assertEqual(self.parts(), [b"1", b"", b""])
        self.assertEqual(len(self.flushLoggedErrors(RequestAnsweredError)), 1)

    def test_bytes(self) -> None:
        """Bytes that a handler returns are the only part."""
        self.endpoint(lambda request: request.data, streaming=True)
        self.assertEqual((self.parts(data=b"x"), self.parts(data=b"")), ([b"x", b""], [b""]))

    def test_an_empty_part(self) -> None:
        """An empty part without headers is refused: the caller would take it for the end."""
        closed: list[bool] = []

        async def numbers(request: ServiceRequest) -> AsyncIterator[bytes]:
            try:
                yield b"1"
                yield b""
            finally:
                closed.append(True)

        self.endpoint(numbers, streaming=True)
        first, last = self.ask_all("do")
        self.assertEqual((first.data, error_of(last), closed), (b"1", ("500", "internal error"), [True]))
        self.assertEqual(len(self.flushLoggedErrors(InvalidArgumentError)), 1)

    def test_error_in_the_middle(self) -> None:
        """An error ends the answer: it is the last message."""

        async def numbers(request: ServiceRequest) -> AsyncIterator[bytes]:
            yield b"1"
            raise ServiceError(503, "tired")

        endpoint = self.endpoint(numbers, streaming=True)
        first, last = self.ask_all("do")
        self.assertEqual((first.data, error_of(last)), (b"1", ("503", "tired")))
        self.assertEqual(endpoint.num_errors, 1)

    def test_only_where_it_is_asked_for(self) -> None:
        """Without ``streaming`` a generator is no answer, and there is no end()."""

        async def numbers(request: ServiceRequest) -> AsyncIterator[bytes]:
            yield b"1"

        service = self.serve()
        self.endpoint(numbers, "a", service=service)
        self.endpoint(lambda request: request.end(), "b", service=service)
        self.assertEqual([error_of(self.ask(name)) for name in "ab"], [("500", "internal error")] * 2)
        self.assertEqual((len(self.flushLoggedErrors(TypeError)), len(self.flushLoggedErrors(ServiceConfigError))), (1, 1))


class QueueTests(ServedTestCase):
    """Which instance gets a request."""

    def counted(self, **options: Any) -> list[int]:
        """How many of 20 requests each of two instances got."""
        endpoints = [self.endpoint(lambda request: b"", service=self.serve(), **options) for _ in range(2)]
        for _ in range(20):
            self.caller.publish("do", b"", reply="_INBOX.x")
        self.network.advance()
        counts = [endpoint.num_requests for endpoint in endpoints]
        for endpoint in endpoints:
            self.network.run(endpoint.service.stop())
        return counts

    def test_one_instance_gets_each(self) -> None:
        """Each request goes to one instance, by default and where all have the same queue group."""
        self.assertEqual(sum(self.counted()), 20)
        self.assertEqual(sum(self.counted(queue="other")), 20)

    def test_every_instance_gets_all(self) -> None:
        """Without a queue group each instance gets each request."""
        self.assertEqual(self.counted(queue=None), [20, 20])

    def test_whose_queue_it_is(self) -> None:
        """An endpoint's own queue group goes before its group's, that before the service's; None is one of them: none."""

        def queues(**options: Any) -> list[str | None]:
            service = self.serve(**options)
            groups = [service, service.add_group("a"), service.add_group("b", queue="b"), service.add_group("c", queue=None)]
            groups += [groups[2].add_group("d"), groups[2].add_group("e", queue="e"), groups[3].add_group("f")]
            endpoints = [group.add_endpoint("x", silent) for group in groups]
            endpoints += [groups[2].add_endpoint("y", silent, queue="y"), groups[2].add_endpoint("z", silent, queue=None)]
            self.assertEqual([endpoint.subscription.queue for endpoint in endpoints], [endpoint.queue for endpoint in endpoints])
            found = [endpoint.queue for endpoint in endpoints]
            self.network.run(service.stop())
            return found

        self.assertEqual(queues(), ["q", "q", "b", None, "b", "e", None, "y", None])
        self.assertEqual(queues(queue="s"), ["s", "s", "b", None, "b", "e", None, "y", None])
        self.assertEqual(queues(queue=None), [None, None, "b", None, "b", "e", None, "y", None])

    def test_no_instance(self) -> None:
        """When the service has stopped, callers learn at once that nobody answers."""
        endpoint = self.endpoint(lambda request: b"x")
        self.assertEqual(self.ask().data, b"x")
        self.network.run(endpoint.service.stop())
        self.assertRaises(NoRespondersError, self.ask)


class CountingTests(ServedTestCase):
    """What endpoints count."""

    def test_processing_time(self) -> None:
        """Time is counted from the beginning of the handling to its end, per endpoint, and averaged over the requests."""

        async def handler(request: ServiceRequest) -> bytes:
            await deferLater(self.network, float(request.data))
            return b""

        service = self.serve()
        endpoint = self.endpoint(handler, service=service)
        other = self.endpoint(handler, "other", service=service)
        self.ask(data=b"1")
        self.ask(data=b"2")
        stats = endpoint.stats()
        self.assertEqual((stats.num_requests, stats.processing_time, stats.average_processing_time), (2, 3.0, 1.5))
        self.assertEqual((other.stats().num_requests, other.stats().average_processing_time), (0, 0.0))
        wire = json.loads(self.ask("$SRV.STATS").data)["endpoints"][0]
        self.assertEqual((wire["processing_time"], wire["average_processing_time"]), (3_000_000_000, 1_500_000_000))

    def test_processing_time_of_a_plain_function(self) -> None:
        """The time of a handler that is over at once counts as well, also when it raises."""

        def handler(request: ServiceRequest) -> bytes:
            self.network.rightNow += 0.5
            if request.data:
                raise ServiceError(400, "x")
            return b""

        endpoint = self.endpoint(handler)
        self.ask()
        self.assertEqual(endpoint.processing_time, 0.5)
        self.ask(data=b"x")
        self.assertEqual(endpoint.processing_time, 1.0)

    def test_reset(self) -> None:
        """After a reset all is counted from 0; a request that was under way belongs to what was before."""
        slow = Slow()

        async def handler(request: ServiceRequest) -> None:
            if request.data == b"slow":
                await slow(request)
            raise ServiceError(400, "x")

        endpoint = self.endpoint(handler, concurrency=2)
        self.ask()
        asked = self.begin(data=b"slow")
        self.network.advance(1)
        self.assertEqual((endpoint.num_requests, endpoint.num_errors), (2, 1))
        endpoint.service.reset()
        slow.finish_all()
        self.network.advance()
        self.assertEqual(error_of(self.successResultOf(asked)), ("400", "x"))
        stats = endpoint.stats()
        self.assertEqual((stats.num_requests, stats.num_errors, stats.last_error, stats.processing_time), (0, 0, "", 0.0))

    def test_stats_handler(self) -> None:
        """A stats handler adds its data to each endpoint; what fails or is no JSON is logged and left out, for this endpoint alone."""

        def data(endpoint: Any) -> Any:
            if endpoint.name == "raises":
                raise RuntimeError("no data")
            return {"nan": float("nan")} if endpoint.name == "nan" else {"of": endpoint.name}

        service = self.serve(stats_handler=data)
        for name in ("good", "raises", "nan"):
            self.endpoint(lambda request: b"", name, service=service)
        found = json.loads(self.ask("$SRV.STATS").data)["endpoints"]
        self.assertEqual([endpoint.get("data") for endpoint in found], [{"of": "good"}, None, None])
        self.assertEqual((len(self.flushLoggedErrors(RuntimeError)), len(self.flushLoggedErrors(ValueError))), (1, 1))
