"""Confirmation by the server: which PING covers which message, and what a denial or a lost connection says of it."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.confirm import ServerConfirmer
from pynats_twisted.client.status import Disconnected, ServerErrorEvent
from pynats_twisted.errors import DisconnectedError, FlushTimeoutError, MaxSubscriptionsExceededError, PermissionsViolationError

from .http_support import FakeClient


class ConfirmerTests(SynchronousTestCase):
    """Messages and the PINGs behind them."""

    def setUp(self) -> None:
        self.client = FakeClient(Clock())
        self.confirmer = ServerConfirmer(self.client.reactor, self.client, 2.0)  # type: ignore[arg-type]

    def ask(self, subject: str) -> Deferred[None]:
        """What a route does for a message."""
        ticket = self.confirmer.ticket(subject)
        return self.confirmer.confirm(ticket).addBoth(lambda result: self.confirmer.discard(ticket) or result)

    def ask_and_answer(self, subject: str) -> Deferred[None]:
        asked = self.ask(subject)
        self.pong()
        return asked

    def pong(self) -> None:
        """The server answers the oldest PING; then the client tells its events."""
        self.client.flushes.pop(0).callback(None)
        self.client.reactor.advance(0)

    def deny(self, subject: str) -> None:
        self.client.tell(ServerErrorEvent(PermissionsViolationError("denied", "publish", subject)))

    def test_a_ping_covers_what_was_before_it(self) -> None:
        """Who comes while a PING is under way waits for the next, together with all others who do."""
        first = self.ask("a")
        later = [self.ask("a") for _ in range(3)]
        self.pong()
        self.successResultOf(first)
        for one in later:
            self.assertNoResult(one)
        self.assertEqual(len(self.client.flushes), 1)
        self.pong()
        for one in later:
            self.successResultOf(one)
        self.assertEqual(self.client.flushes, [])

    def test_asking_again_from_a_callback(self) -> None:
        """A confirmation may be asked for while one is being given."""
        asked: list[Deferred[None]] = []
        self.ask("a").addCallback(lambda _: asked.append(self.ask("b")))
        self.pong()
        self.assertNoResult(asked[0])
        self.pong()
        self.successResultOf(asked[0])

    def test_denial(self) -> None:
        """A denied subject fails, others of the same PING do not; when permissions were mended, an old denial does not matter."""
        denied, other = self.ask("a"), self.ask("b")
        self.deny("a")
        self.pong()
        self.assertEqual(self.failureResultOf(denied, PermissionsViolationError).value.subject, "a")
        self.pong()
        self.successResultOf(other)
        self.successResultOf(self.ask_and_answer("a"))

    def test_denial_behind_the_ping(self) -> None:
        """A denial of a message that was published while a PING was under way is heard, before and after the PONG."""
        for before in (True, False):
            first, second = self.ask("a"), self.ask("b")
            if before:
                self.deny("b")
            self.pong()
            self.successResultOf(first)
            if not before:
                self.deny("b")
            self.pong()
            self.failureResultOf(second, PermissionsViolationError)

    def test_denial_that_is_told_a_turn_later(self) -> None:
        """A client tells of errors in the next turn of the reactor; the PONG waits for that."""
        asked = self.ask("a")
        self.client.stats.server_errors += 1
        event = ServerErrorEvent(PermissionsViolationError("denied", "publish", "a"))
        self.client.reactor.callLater(0, lambda: self.client.listeners[0](event))
        self.client.flushes.pop(0).callback(None)
        self.assertNoResult(asked)
        self.client.reactor.advance(0)
        self.failureResultOf(asked, PermissionsViolationError)
        self.successResultOf(self.ask_and_answer("b"))

    def test_other_errors_deny_nothing(self) -> None:
        """Only denied permissions are about a message."""
        asked = self.ask("a")
        self.client.tell(ServerErrorEvent(MaxSubscriptionsExceededError("a")))
        self.pong()
        self.successResultOf(asked)

    def test_lost_connection(self) -> None:
        """When no answer comes, who waited for it is not confirmed; who came later has a PING of their own."""
        for error in (DisconnectedError("lost"), FlushTimeoutError("late")):
            first, second = self.ask("a"), self.ask("a")
            self.client.flushes.pop(0).errback(error)
            self.assertIs(self.failureResultOf(first).value, error)
            self.assertNoResult(second)
            self.pong()
            self.successResultOf(second)
            self.successResultOf(self.ask_and_answer("a"))

    def test_ticket_of_an_older_connection(self) -> None:
        """A PONG of a new connection does not confirm what went out on the old one; for new messages it does."""
        ticket = self.confirmer.ticket("a")
        self.client.tell(Disconnected("nats://x", None, 0))
        old = self.confirmer.confirm(ticket)
        self.pong()
        self.failureResultOf(old, DisconnectedError)
        self.successResultOf(self.ask_and_answer("a"))

    def test_ticket_hears_a_denial_at_any_time(self) -> None:
        """From the moment at which it was taken; one that was discarded is forgotten."""
        ticket, discarded = self.confirmer.ticket("a"), self.confirmer.ticket("a")
        self.confirmer.discard(discarded)
        self.deny("a")
        asked = self.confirmer.confirm(ticket)
        self.pong()
        self.failureResultOf(asked, PermissionsViolationError)
        self.assertIsNone(discarded.error)
        self.confirmer.discard(ticket)

    def test_cancel(self) -> None:
        """Who does not want to wait any more harms nobody."""
        first, second = self.ask("a"), self.ask("a")
        first.cancel()
        second.cancel()
        self.failureResultOf(first, CancelledError)
        self.failureResultOf(second, CancelledError)
        third = self.ask("a")
        self.pong()
        self.pong()
        self.successResultOf(third)
