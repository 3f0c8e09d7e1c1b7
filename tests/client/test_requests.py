"""Requests: one reply, all the ways in which none comes, and what is left behind by them: nothing."""

from __future__ import annotations

import gc
import weakref
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError, gatherResults

from pynats_twisted.errors import (
    ConfigurationError,
    ConnectionClosedError,
    ConnectionDrainingError,
    DisconnectedError,
    InvalidSubjectError,
    MaxPayloadExceededError,
    NoRespondersError,
    PermissionsViolationError,
    RequestTimeoutError,
    TooManyRequestsError,
)
from pynats_twisted.testing.server_frames import PublishFrame, SubscribeFrame

from .network import NO_RESPONDERS
from .support import ClientTestCase


class RequestTestCase(ClientTestCase):
    options: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        super().setUp()
        self.client, self.peer = self.connected(**self.options)

    def ask(self, subject: str = "svc", payload: bytes = b"", **options: Any) -> tuple[Any, Any]:
        """A request, and its publish as the server saw it."""
        waiting = self.watch(self.client.request(subject, payload, **options))
        self.network.advance()
        return waiting, self.peer.take(PublishFrame)[-1]

    def served(self) -> None:
        """Let a service answer everything on ``svc``."""
        self.server.respond("svc", lambda frame: b"re: " + frame.payload)


class ReplyTests(RequestTestCase):
    def test_reply(self) -> None:
        """The first reply is the result; all requests share one subscription."""
        waiting, asked = self.ask("svc", b"question", timeout=1.0)
        self.assertEqual((asked.subject, asked.payload), ("svc", b"question"))
        self.assertTrue(asked.reply.startswith("_INBOX."))
        self.peer.answer(asked, b"answer")
        msg = self.successResultOf(waiting)
        self.assertEqual((msg.data, msg.subject), (b"answer", asked.reply))
        again, asked_again = self.ask()
        self.peer.answer(asked_again, b"")
        self.assertEqual(self.successResultOf(again).data, b"")
        self.assertNotEqual(asked.reply, asked_again.reply)
        self.assertEqual(len(self.peer.session.subscriptions), 1)
        self.assertEqual(self.client.requests_in_flight, 0)

    def test_headers(self) -> None:
        """Headers go along, and come back."""
        waiting = self.watch(self.client.request("svc", b"q", headers={"A": ["1", "2"]}))
        self.network.advance()
        (asked,) = self.peer.take(PublishFrame)
        self.assertEqual(asked.header_block, b"NATS/1.0\r\nA: 1\r\nA: 2\r\n\r\n")
        self.peer.answer(asked, b"answer", block=b"NATS/1.0\r\nB: 3\r\n\r\n")
        self.assertEqual(self.successResultOf(waiting).headers["B"], "3")

    def test_many_at_once(self) -> None:
        """Replies find their requests, in whatever order they come."""
        asked = [self.ask("svc", b"%d" % number) for number in range(500)]
        self.assertEqual(self.client.requests_in_flight, 500)
        for _, publish in reversed(asked):
            self.peer.answer(publish, publish.payload)
        self.assertEqual([self.successResultOf(waiting).data for waiting, _ in asked], [b"%d" % number for number in range(500)])
        self.assertEqual(self.client.requests_in_flight, 0)

    def test_nothing_is_kept(self) -> None:
        """What was answered leaves no reply, no callback and no heap of deadlines behind, although its time is far away."""
        self.served()
        gone = []
        for number in range(1000):
            waiting = self.client.request("svc", b"x", timeout=3600.0 + number)
            self.network.advance()
            gone.append((weakref.ref(self.successResultOf(waiting).subscription), weakref.ref(waiting)))
            del waiting
        gc.collect()
        self.assertEqual([ref() for _, ref in gone], [None] * 1000)
        self.assertLessEqual(len(self.client._requests._deadlines), 257)

    def test_reply_subjects(self) -> None:
        """Reply subjects differ in their last token; what is before it is another for each client, and long."""
        replies = [self.answered() for _ in range(3)]
        heads = {reply.rpartition(".")[0] for reply in replies}
        self.assertEqual((len(set(replies)), len(heads)), (3, 1))
        self.client, self.peer = self.connected()
        heads.add(self.answered().rpartition(".")[0])
        self.assertEqual(len(heads), 2)
        self.assertEqual({len(head) for head in heads}, {len("_INBOX.") + 22})

    def answered(self) -> Any:
        """The reply subject of a request that is over."""
        waiting, asked = self.ask()
        self.peer.answer(asked, b"ok")
        self.successResultOf(waiting)
        return asked.reply

    def test_late_replies(self) -> None:
        """A second reply, and one that is too late, are dropped and counted."""
        waiting, asked = self.ask(timeout=1.0)
        self.peer.answer(asked, b"1", b"2", b"3")
        self.successResultOf(waiting)
        slow, asked = self.ask(timeout=1.0)
        self.network.advance(1)
        self.failureResultOf(slow, RequestTimeoutError)
        self.peer.answer(asked, b"late")
        self.assertEqual(self.client.stats.late_replies, 3)

    def test_rewritten_reply(self) -> None:
        """A reply whose subject was rewritten on its way is taken where one request alone is waiting."""
        waiting, _ = self.ask()
        (sid,) = self.peer.session.subscriptions
        self.peer.send(b"MSG mapped.elsewhere %d 2\r\nok\r\n" % int(sid))
        self.assertEqual(self.successResultOf(waiting).data, b"ok")
        both = [self.ask()[0] for _ in range(2)]
        self.peer.send(b"MSG mapped.elsewhere %d 2\r\nok\r\n" % int(sid))
        for each in both:
            self.assertNoResult(each)
        self.assertEqual(self.client.stats.late_replies, 1)
        self.network.advance(5)
        for each in both:
            self.failureResultOf(each, RequestTimeoutError)

    def test_inbox_prefix(self) -> None:
        """The inbox is where the option says."""
        client, peer = self.connected(inbox_prefix="my.inbox")
        self.watch(client.request("svc")).addErrback(lambda failure: None)
        self.network.advance()
        self.assertTrue(peer.take(PublishFrame)[0].reply.startswith("my.inbox."))

    def test_in_a_callback(self) -> None:
        """A request may follow another in its callback, and be waited for with ``await`` in a row."""
        self.served()

        async def three() -> list[bytes]:
            return [(await self.client.request("svc", b"%d" % number)).data for number in range(3)]

        done = self.watch(three())
        self.network.advance()
        self.assertEqual(self.successResultOf(done), [b"re: 0", b"re: 1", b"re: 2"])


class FailureTests(RequestTestCase):
    def test_no_responders(self) -> None:
        """Where nobody listens that is said at once, with and without headers behind the status."""
        for block in (NO_RESPONDERS, b"NATS/1.0 503\r\nNats-Subject: svc\r\n\r\n"):
            waiting, asked = self.ask()
            self.peer.answer(asked, b"", block=block)
            error = self.failureResultOf(waiting, NoRespondersError).value
            self.assertEqual(error.subject, "svc")
        waiting, asked = self.ask()
        self.peer.answer(asked, b"a body", block=NO_RESPONDERS)
        self.assertEqual(self.successResultOf(waiting).status, 503)

    def test_timeout(self) -> None:
        """No reply in time is an error that names the subject; the option has the default time."""
        first, _ = self.ask()
        second, _ = self.ask("other", timeout=0.5)
        self.network.advance(0.5)
        error = self.failureResultOf(second, RequestTimeoutError).value
        self.assertIn("'other'", str(error))
        self.assertIsInstance(error, TimeoutError)
        self.network.advance(4.4)
        self.assertNoResult(first)
        self.network.advance(0.1)
        self.failureResultOf(first, RequestTimeoutError)

    def test_many_timeouts(self) -> None:
        """Thousands of requests that nobody answers leave nothing behind."""
        waiting = [self.watch(self.client.request("svc", timeout=1 + number % 7 / 10)) for number in range(2000)]
        self.network.advance(2)
        for each in waiting:
            self.failureResultOf(each, RequestTimeoutError)
        self.assertEqual((self.client.requests_in_flight, len(self.client._requests._deadlines)), (0, 0))

    def test_cancelled(self) -> None:
        """A cancelled request is forgotten, and its reply is dropped."""
        waiting, asked = self.ask()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.client.requests_in_flight, 0)
        self.peer.answer(asked, b"late")
        self.assertEqual(self.client.stats.late_replies, 1)

    def test_closed(self) -> None:
        """The end of the client is the end of its requests, at once; new ones are refused."""
        waiting = [self.ask()[0] for _ in range(3)]
        self.client.close()
        self.assertRaises(ConnectionClosedError, self.client.request, "svc")
        self.network.advance()
        for each in waiting:
            self.failureResultOf(each, ConnectionClosedError)
        self.assertRaises(ConnectionClosedError, self.client.request, "svc")

    def test_cancelled_by_another_one(self) -> None:
        """When the first failure cancels the other requests, each is told once, and the client still ends as it should."""
        for end in ("close", "denied"):
            client, peer = self.connected()
            requests = [client.request("svc") for _ in range(3)]

            def cancel_others(failure: Any, requests: Any = requests) -> None:
                for request in requests:
                    request.cancel()

            requests[0].addErrback(cancel_others)
            closed = self.watch(client.when_closed()) if end == "close" else None
            self.network.advance()
            if closed is not None:
                client.close()
                self.network.advance()
                self.successResultOf(closed)
            else:
                peer.error('Permissions Violation for Publish to "svc"')
            for request in requests[1:]:
                self.failureResultOf(request, CancelledError)
            self.assertEqual(client.requests_in_flight, 0)

    def test_gathered(self) -> None:
        """Requests that are gathered, and cancelled together, leave nothing behind."""
        gathered = self.watch(gatherResults([self.client.request("svc", timeout=number + 1) for number in range(3)], consumeErrors=True))
        gathered.addErrback(lambda failure: None)
        self.network.advance()
        gathered.cancel()
        self.assertEqual(self.client.requests_in_flight, 0)

    def test_cancelled_in_the_sweep(self) -> None:
        """Of requests that expire at the same time, one may cancel the others."""
        first, second, third = (self.ask(timeout=1.0)[0] for _ in range(3))
        first.addErrback(lambda failure: (second.cancel(), self.watch(self.client.request("again", timeout=1.0)).addErrback(str)))
        self.network.advance(1)
        self.failureResultOf(second, CancelledError)
        self.failureResultOf(third, RequestTimeoutError)
        self.network.advance(1)
        self.assertEqual(self.client.requests_in_flight, 0)

    def test_publish_denied(self) -> None:
        """A denied publish fails the requests to that subject and no others."""
        meant, _ = self.ask("svc")
        other, asked = self.ask("free")
        self.peer.error('Permissions Violation for Publish to "svc"')
        self.failureResultOf(meant, PermissionsViolationError)
        self.peer.answer(asked, b"ok")
        self.successResultOf(other)
        self.assertEqual([text for text in self.logged() if "Permissions" in text], [])

    def test_reply_subject_denied(self) -> None:
        """A denial that names the reply subject fails that request."""
        meant, asked = self.ask()
        other, _ = self.ask(timeout=1.0)
        self.peer.error(f'Permissions Violation for Publish with Reply of "{asked.reply}"')
        self.failureResultOf(meant, PermissionsViolationError)
        self.assertNoResult(other)
        self.network.advance(1)
        self.failureResultOf(other, RequestTimeoutError)

    def test_inbox_denied(self) -> None:
        """A denied inbox is no timeout: all requests fail at once, and the next one tries anew."""

        def deny(session: Any, frame: Any) -> None:
            if isinstance(frame, SubscribeFrame):
                session.error(f'Permissions Violation for Subscription to "{frame.subject}"')

        self.server.interceptor = deny
        waiting = [self.watch(self.client.request("svc")) for _ in range(2)]
        self.network.advance()
        for each in waiting:
            self.assertIn("_INBOX", str(self.failureResultOf(each, PermissionsViolationError).value))
        self.server.interceptor = None
        again, asked = self.ask()
        self.peer.answer(asked, b"ok")
        self.successResultOf(again)

    def test_bad_arguments(self) -> None:
        """What cannot be published, or waited for, is refused, and leaves nothing behind."""
        self.assertRaises(InvalidSubjectError, self.client.request, "a b")
        self.assertRaises(MaxPayloadExceededError, self.client.request, "a", b"x" * 2_000_000)
        for timeout in (-1, "1", float("nan")):
            self.assertRaises(ConfigurationError, self.client.request, "a", timeout=timeout)
            self.assertRaises(ConfigurationError, self.client.request_many, "a", timeout=timeout)
        self.assertEqual(self.client.requests_in_flight, 0)
        self.network.advance()
        self.assertEqual(self.peer.take(PublishFrame), [])

    def test_no_time_at_all(self) -> None:
        """With a timeout of 0 it fails at the end of the turn."""
        waiting, _ = self.ask(timeout=0)
        self.failureResultOf(waiting, RequestTimeoutError)


class BoundTests(RequestTestCase):
    options: ClassVar[dict[str, Any]] = {"max_requests_in_flight": 3}

    def test_bound(self) -> None:
        """More requests than the bound are refused until one is over."""
        asked = [self.ask() for _ in range(3)]
        self.assertRaises(TooManyRequestsError, self.client.request, "svc")
        self.assertRaises(TooManyRequestsError, self.client.request_many, "svc")
        for number, (_, publish) in enumerate(asked):
            self.peer.answer(publish, b"ok")
            self.assertEqual(self.client.requests_in_flight, 2 - number)
        waiting, publish = self.ask()
        self.peer.answer(publish, b"ok")
        self.successResultOf(waiting)


class DisconnectTests(ClientTestCase):
    def lost(self, **options: Any) -> tuple[Any, Any]:
        client, peer = self.connected(request_timeout=2.0, **options)
        waiting = self.watch(client.request("svc"))
        self.network.advance()
        peer.cut()
        return client, waiting

    def test_goes_on(self) -> None:
        """A lost connection does not end a request: its time does."""
        _, waiting = self.lost()
        self.network.advance(1.9)
        self.assertNoResult(waiting)
        self.network.advance(0.1)
        self.failureResultOf(waiting, RequestTimeoutError)

    def test_fails_at_once(self) -> None:
        """With ``fail_requests_on_disconnect`` it does; the next request works."""
        client, waiting = self.lost(fail_requests_on_disconnect=True)
        self.failureResultOf(waiting, DisconnectedError)
        again = self.watch(client.request("svc"))
        self.network.advance()
        self.server.peer.answer(self.server.peer.take(PublishFrame)[0], b"ok")
        self.assertEqual(self.successResultOf(again).data, b"ok")

    def test_while_disconnected(self) -> None:
        """A request without a connection is sent with the next one."""
        client, peer = self.connected()
        self.network.refuse("one:4222")
        peer.cut()
        self.network.advance()
        waiting = self.watch(client.request("svc", b"buffered"))
        self.network.accept("one:4222")
        self.network.advance(1)
        (asked,) = self.server.peer.take(PublishFrame)
        self.server.peer.answer(asked, b"ok")
        self.assertEqual(self.successResultOf(waiting).data, b"ok")

    def test_draining(self) -> None:
        """A client that drains takes no new requests."""
        client, _ = self.connected()
        self.watch(client.drain())
        self.assertRaises(ConnectionDrainingError, client.request, "svc")
        self.assertRaises(ConnectionDrainingError, client.request_many, "svc")
        self.network.advance()
