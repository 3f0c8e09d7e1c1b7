"""Services that are asked by their names."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import Msg
from pynats_twisted.errors import (
    ConfigurationError,
    ConnectionClosedError,
    InvalidArgumentError,
    InvalidSubjectError,
    MaxPayloadExceededError,
    NoRespondersError,
    RequestTimeoutError,
    ServiceNotFoundError,
    ServiceResponseError,
)
from pynats_twisted.services import ServiceClient, lookup
from pynats_twisted.services.api import error_headers

from .fakes import FakesTestCase, info

INFO = "$SRV.INFO.orders"


class CallerTestCase(FakesTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.orders = ServiceClient(self.client, "orders")

    def questions(self) -> int:
        """How often INFO was asked."""
        return sum(subject == INFO for subject, _ in self.asked)

    def data_of(self, waiting: Deferred[Msg]) -> bytes:
        return self.network.run(waiting).data

    def error_of(self, waiting: Deferred[Any], kind: type[BaseException]) -> Any:
        return self.assertRaises(kind, self.network.run, waiting)


class RequestTests(CallerTestCase):
    """One request, one reply."""

    def test_by_name(self) -> None:
        """The subject of an endpoint is asked once, and remembered; the request has its data and headers."""
        self.listen(INFO, info(self.endpoint("add", "shop.orders.add")))
        got: list[Msg] = []

        def answer(msg: Msg) -> None:
            got.append(msg)
            msg.respond(b"done")

        self.other.client.subscribe("shop.orders.add", answer)
        for _ in range(3):
            self.assertEqual(self.data_of(self.orders.request("add", b"tea", {"A": "b"})), b"done")
        self.assertEqual([(msg.data, dict(msg.headers)) for msg in got], [(b"tea", {"A": "b"})] * 3)
        self.assertEqual(self.questions(), 1)

    def test_many_at_once_ask_once(self) -> None:
        """Requests that are made before it is known where the endpoints are share one question."""
        self.listen(INFO, info(self.endpoint("add"), self.endpoint("cancel")), delay=0.1)
        self.listen("add", b"added")
        self.listen("cancel", b"cancelled")
        waiting = [self.orders.request(name) for name in ("add", "add", "cancel", "add")]
        self.network.advance(0.05)
        waiting.append(self.orders.request("cancel"))
        self.network.advance(0.1)
        self.assertEqual([self.successResultOf(each).data for each in waiting], [b"added", b"added", b"cancelled", b"added", b"cancelled"])
        self.assertEqual((self.questions(), self.client.requests_in_flight), (1, 0))

    def test_one_of_the_instances_has_it(self) -> None:
        """While instances of two versions run, an endpoint is found that only one of them has, whichever answers first."""
        self.listen(INFO, info(self.endpoint("add"), id="1"), info(self.endpoint("undo"), id="2"), delay=0.1)
        self.listen("undo", b"undone")
        self.listen("add", b"added")
        waiting = self.orders.request("undo")
        self.network.advance(0.15)
        self.assertEqual(self.data_of(self.orders.request("add")), b"added")
        self.assertEqual((self.data_of(waiting), self.questions()), (b"undone", 1))

    def test_errors_are_raised(self) -> None:
        """A reply with an error's headers is raised, with its code, text and data."""
        self.listen(INFO, info(self.endpoint("add")))
        self.listen("add", b"details", headers=error_headers(404, "no tea"))
        for _ in range(2):
            error = self.error_of(self.orders.request("add"), ServiceResponseError)
            self.assertEqual((error.code, error.description, error.response.data), (404, "no tea", b"details"))
        self.assertEqual(self.questions(), 1)

    def test_nobody_is_there(self) -> None:
        """Where no instance answers, the error says so at once."""
        error = self.error_of(self.orders.request("add"), ServiceNotFoundError)
        self.assertEqual((error.name, error.endpoint, str(error)), ("orders", "add", "no instance of service 'orders' answered"))
        self.assertEqual(self.network.seconds(), 0.0)

    def test_no_such_endpoint(self) -> None:
        """Where no instance has the endpoint, the error says how many were asked."""
        self.listen(INFO, info(self.endpoint("add"), id="1"), info(self.endpoint("add"), id="2"))
        error = self.error_of(self.orders.request("ad"), ServiceNotFoundError)
        self.assertIn("none of the 2 instances of service 'orders' that answered has an endpoint 'ad'", str(error))

    def test_a_name_for_several(self) -> None:
        """A name that stands for several subjects is refused; each of them can be called by its subject."""
        self.listen(INFO, info(self.endpoint("add", "tea.add"), self.endpoint("add", "milk.add")))
        self.listen("milk.add", b"milk")
        error = self.error_of(self.orders.request("add"), InvalidArgumentError)
        self.assertIn("'milk.add' and 'tea.add'", str(error))
        self.assertEqual([self.data_of(self.orders.request("milk.add")) for _ in range(2)], [b"milk", b"milk"])
        self.assertEqual(self.questions(), 2)

    def test_wildcards(self) -> None:
        """An endpoint whose subject has wildcards is called by the subject to publish to, and asked for once for all of them."""
        self.listen(INFO, info(self.endpoint("show", "orders.*.show")))
        self.listen("orders.*.show", b"shown")
        refused = str(self.error_of(self.orders.request("show"), InvalidArgumentError))
        self.assertIn("listens on 'orders.*.show': give the subject to ask", refused)
        for number in range(3):
            self.assertEqual(self.data_of(self.orders.request(f"orders.{number}.show")), b"shown")
        self.assertEqual(self.questions(), 2)
        self.assertEqual([subject for subject, _ in self.asked if subject != INFO], ["orders.0.show", "orders.1.show", "orders.2.show"])

    def test_apis_of_the_server(self) -> None:
        """An answer cannot lead a request to a subject that begins with ``$``; the caller may, who names the subject."""
        self.listen(INFO, info(self.endpoint("add", "$JS.API.STREAM.DELETE.ALL")))
        self.listen("$JS.API.STREAM.DELETE.ALL", b"deleted")
        self.assertIn("'$JS.API.STREAM.DELETE.ALL'", str(self.error_of(self.orders.request("add"), InvalidArgumentError)))
        self.assertEqual([subject for subject, _ in self.asked], [INFO])
        self.assertEqual(self.data_of(self.orders.request("$JS.API.STREAM.DELETE.ALL")), b"deleted")

    def test_forged_subjects(self) -> None:
        """A subject that would break the wire is refused, and not sent."""
        self.listen(INFO, info(self.endpoint("add", "a b\r\nPUB x 0")))
        self.error_of(self.orders.request("add"), InvalidSubjectError)

    def test_a_service_that_moved(self) -> None:
        """When nobody listens any more, it is asked anew where the endpoint is, and the request is sent there."""
        old = [self.listen(INFO, info(self.endpoint("add", "v1.add"))), self.listen("v1.add", b"old")]
        self.assertEqual(self.data_of(self.orders.request("add")), b"old")
        for each in old:
            each.unsubscribe()
        self.listen(INFO, info(self.endpoint("add", "v2.add")), delay=0.1)
        self.listen("v2.add", b"new")
        waiting = [self.orders.request("add", b"x"), self.orders.request("add", b"y")]
        self.assertEqual([self.data_of(each) for each in waiting], [b"new", b"new"])
        self.assertEqual(self.questions(), 2)

    def test_a_service_that_went(self) -> None:
        """When nobody listens any more and no instance answers, or one that says what it said before, the error is told once."""
        listening = self.listen("add", b"done")
        telling = self.listen(INFO, info(self.endpoint("add")))
        self.assertEqual(self.data_of(self.orders.request("add")), b"done")
        listening.unsubscribe()
        self.error_of(self.orders.request("add"), NoRespondersError)
        self.assertEqual(self.questions(), 2)
        telling.unsubscribe()
        sent = len(self.other.server.published("add"))
        for _ in range(2):
            self.error_of(self.orders.request("add"), ServiceNotFoundError)
        # Where nobody was before, it is not sent again.
        self.assertEqual(len(self.other.server.published("add")), sent)

    def test_a_service_that_went_all_at_once(self) -> None:
        """Where nobody listens and no instance answers, later requests are not sent there again."""
        both = [self.listen("add", b"done"), self.listen(INFO, info(self.endpoint("add")))]
        self.network.run(self.orders.request("add"))
        for each in both:
            each.unsubscribe()
        self.error_of(self.orders.request("add"), ServiceNotFoundError)
        sent = len(self.other.server.published("add"))
        self.error_of(self.orders.request("add"), ServiceNotFoundError)
        self.assertEqual(len(self.other.server.published("add")), sent)

    def test_forgetting(self) -> None:
        """What was forgotten on purpose is asked again."""
        self.listen(INFO, info(self.endpoint("add"), self.endpoint("any", "any.*")))
        self.listen("add", b"done")
        self.listen("any.*", b"done")
        for _ in range(2):
            self.network.run(self.orders.request("add"))
            self.network.run(self.orders.request("any.1"))
            self.orders.forget()
        self.assertEqual(self.questions(), 4)

    def test_what_is_remembered_is_bounded(self) -> None:
        """However many endpoints are called, only so many subjects are remembered; by default 1,000."""
        self.assertEqual(lookup.MAX_KNOWN, 1000)
        self.patch(lookup, "MAX_KNOWN", 10)
        self.listen(INFO, info(*[self.endpoint(f"e{number}", f"e.{number}") for number in range(11)]))
        self.listen("e.*", b"done")
        for number in range(11):
            self.network.run(self.orders.request(f"e{number}"))
        asked = len(self.asked)
        self.network.run(self.orders.request("e10"))
        self.assertEqual(len(self.asked), asked + 1)
        self.network.run(self.orders.request("e0"))
        self.assertEqual(self.asked[asked + 1 :], [(INFO, b""), ("e.0", b"")])


class TimeTests(CallerTestCase):
    """Time limits and cancelling."""

    def test_one_limit_for_all(self) -> None:
        """The time limit is for finding the endpoint and for its reply together."""
        self.listen(INFO, info(self.endpoint("add")), delay=0.6)
        self.listen("add", b"late", delay=0.6)
        self.error_of(self.orders.request("add", timeout=1.0), RequestTimeoutError)
        self.assertEqual(self.network.seconds(), 1.0)
        self.assertEqual(self.data_of(self.orders.request("add", timeout=1.0)), b"late")

    def test_limit_before_it_is_found(self) -> None:
        """A caller whose time is over before it is known where the endpoint is gets the error then; others go on waiting."""
        self.listen(INFO, info(self.endpoint("add")), delay=1.0)
        self.listen("add", b"done")
        short, long = self.orders.request("add", timeout=0.5), self.orders.request("add")
        self.network.advance(0.5)
        self.assertIn("'add'", str(self.failureResultOf(short, RequestTimeoutError).value))
        self.assertEqual(self.data_of(long), b"done")

    def test_instances_have_a_limit(self) -> None:
        """Instances are waited for as long as was said."""
        self.listen(INFO, info(self.endpoint("add")), delay=1.0)
        patient, hasty = self.orders, ServiceClient(self.client, "orders", lookup_timeout=0.5)
        self.listen("add", b"done")
        self.error_of(hasty.request("add"), ServiceNotFoundError)
        self.assertEqual(self.network.seconds(), 0.5)
        self.assertEqual(self.data_of(patient.request("add")), b"done")

    def test_cancelling(self) -> None:
        """Cancelling leaves nothing, while it looks for the endpoint and while it waits for the reply; others are not touched."""
        self.listen(INFO, info(self.endpoint("add")), delay=0.1)
        self.listen("add", b"done", delay=0.1)
        first, second = self.orders.request("add"), self.orders.request("add")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(self.client.requests_in_flight, 1)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.client.requests_in_flight, 0)
        self.assertEqual(self.data_of(self.orders.request("add")), b"done")
        third = self.orders.request("add")
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.assertEqual(self.client.requests_in_flight, 0)

    def test_the_client_closes(self) -> None:
        """Who waits for the endpoint to be found learns that the client was closed; so does who asks afterwards."""
        self.listen(INFO, info(self.endpoint("add")), delay=0.1)
        waiting = self.orders.request("add")
        self.network.run(self.client.close())
        self.failureResultOf(waiting, ConnectionClosedError)
        self.error_of(self.orders.request("add"), ConnectionClosedError)

    def test_wrong_arguments(self) -> None:
        """What breaks a rule is refused: at once what the client is made with, by the Deferred what a request is made with."""
        self.assertRaises(InvalidArgumentError, ServiceClient, self.client, "a.b")
        self.assertRaises(InvalidSubjectError, ServiceClient, self.client, "a", prefix="")
        self.assertRaises(ConfigurationError, ServiceClient, self.client, "a", lookup_timeout=-1.0)
        self.assertRaises(ConfigurationError, self.orders.request_many, "add", timeout=-1.0)
        self.listen(INFO, info(self.endpoint("add")))
        self.listen("add", b"done")
        for endpoint in ("", None, 7):
            self.error_of(self.orders.request(endpoint), InvalidArgumentError)  # type: ignore[arg-type]
            self.error_of(self.orders.request_many(endpoint).collect(), InvalidArgumentError)  # type: ignore[arg-type]
        self.assertEqual(self.asked, [])
        large = b"x" * ((self.client.max_payload or 0) + 1)
        for _ in range(2):
            self.error_of(self.orders.request("add", large), MaxPayloadExceededError)
            self.error_of(self.orders.request("add", timeout=-1.0), ConfigurationError)


class ManyTests(CallerTestCase):
    """One request, many replies."""

    def setUp(self) -> None:
        super().setUp()
        self.telling = self.listen(INFO, info(self.endpoint("list")))

    def read(self, replies: Any) -> list[bytes]:
        return [msg.data for msg in self.network.run(replies.collect())]

    def test_parts(self) -> None:
        """An answer in parts ends with the empty reply, which is not handed out; the second one needs no question."""
        self.listen("list", b"1", b"2", b"", b"3")
        for _ in range(2):
            replies = self.orders.request_many("list")
            self.assertEqual((self.read(replies), replies.reason), ([b"1", b"2"], "sentinel"))
        self.assertEqual((self.questions(), self.client.requests_in_flight), (1, 0))

    def test_replies_of_several(self) -> None:
        """Without a sentinel the empty reply is one as any other; the stall time and the number of replies end it."""
        self.listen("list", b"1", b"", b"3")
        replies = self.orders.request_many("list", sentinel=None, stall=0.5)
        self.assertEqual((self.read(replies), replies.reason), ([b"1", b"", b"3"], "stall"))
        replies = self.orders.request_many("list", sentinel=None, max_msgs=2)
        self.assertEqual((self.read(replies), replies.reason), ([b"1", b""], "max_msgs"))
        self.assertEqual(replies.dropped, 0)

    def test_an_error_ends_it(self) -> None:
        """A reply that is an error is raised behind those before it, and nothing comes after it."""
        handed: list[bytes] = []

        def answer(msg: Msg) -> None:
            msg.respond(b"1")
            msg.respond(b"", error_headers(500, "broken"))
            msg.respond(b"2")

        async def read() -> None:
            async for msg in replies:
                handed.append(msg.data)  # noqa: PERF401 - what came before the error has to be kept

        self.other.client.subscribe("list", answer)
        replies = self.orders.request_many("list")
        error = self.assertRaises(ServiceResponseError, self.network.run, read())
        self.assertEqual((error.code, handed, replies.reason, self.client.requests_in_flight), (500, [b"1"], "error", 0))
        self.network.run(read())
        self.assertEqual(handed, [b"1"])

    def test_nobody_is_there(self) -> None:
        """A missing service, endpoint or listener is raised by the loop."""
        self.error_of(self.orders.request_many("lost").collect(), ServiceNotFoundError)
        self.error_of(self.orders.request_many("list").collect(), NoRespondersError)
        self.telling.unsubscribe()
        self.error_of(self.orders.request_many("list").collect(), ServiceNotFoundError)

    def test_a_service_that_moved(self) -> None:
        """When nobody listens any more, it is asked anew where the endpoint is, and the request is sent there."""
        old = self.listen("list", b"old", b"")
        self.assertEqual(self.read(self.orders.request_many("list")), [b"old"])
        old.unsubscribe()
        self.telling.unsubscribe()
        self.listen(INFO, info(self.endpoint("list", "v2.list")))
        self.listen("v2.list", b"new", b"")
        self.assertEqual(self.read(self.orders.request_many("list")), [b"new"])

    def test_a_service_that_went(self) -> None:
        """When nobody listens any more, and the instances say what they said before, the error is told; and no request goes there again."""
        listening = self.listen("list", b"1", b"")
        self.read(self.orders.request_many("list"))
        listening.unsubscribe()
        self.error_of(self.orders.request_many("list").collect(), NoRespondersError)
        self.assertEqual(self.questions(), 2)
        self.telling.unsubscribe()
        sent = len(self.other.server.published("list"))
        self.error_of(self.orders.request_many("list").collect(), ServiceNotFoundError)
        self.assertEqual(len(self.other.server.published("list")), sent)

    def test_cancelling_while_it_is_asked_anew(self) -> None:
        """A request that is on its way to where the service moved is open, and can be cancelled."""
        listening = self.listen("list", b"1", b"")
        self.read(self.orders.request_many("list"))
        listening.unsubscribe()
        self.telling.unsubscribe()
        self.listen(INFO, info(self.endpoint("list")), delay=1.0)
        replies = self.orders.request_many("list")
        waiting = replies.collect()
        self.network.advance(0.5)
        self.assertEqual((replies.reason, self.client.requests_in_flight), (None, 1))
        replies.cancel()
        self.assertEqual((self.successResultOf(waiting), replies.reason, self.client.requests_in_flight), ([], "cancelled", 0))

    def test_cancelling(self) -> None:
        """Cancelling ends it and leaves nothing: before the endpoint is found, and while replies come."""
        self.listen("list", b"1", b"2", delay=1.0)
        replies = self.orders.request_many("list")
        replies.cancel()
        self.network.advance(0.0)
        self.assertEqual((self.read(replies), replies.reason, self.client.requests_in_flight), ([], "cancelled", 0))
        replies = self.orders.request_many("list")
        waiting = replies.collect()
        self.network.advance(1.5)
        replies.cancel()
        self.assertEqual([msg.data for msg in self.successResultOf(waiting)], [b"1"])
        waiting = self.orders.request_many("list").collect()
        self.network.advance(0.5)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.client.requests_in_flight, 0)

    def test_time_limit(self) -> None:
        """The time limit is for finding the endpoint and all replies together; when it is over, the replies just end."""
        self.telling.unsubscribe()
        self.listen(INFO, info(self.endpoint("list")), delay=0.5)
        self.listen("list", b"1", b"2", delay=0.3)
        replies = self.orders.request_many("list", timeout=1.0)
        self.assertEqual((self.read(replies), replies.reason, self.network.seconds()), ([b"1"], "timeout", 1.0))


class SharedQuestionTests(CallerTestCase):
    """The question that several share."""

    def test_what_ends_it_reaches_all(self) -> None:
        """An error of the question is an error of everybody who waits for it."""
        self.listen(INFO, info(self.endpoint("add")), delay=0.1)
        waiting = [self.orders.request("add"), self.orders.request("undo")]
        self.network.run(self.client.close())
        for each in waiting:
            self.failureResultOf(each, ConnectionClosedError)
