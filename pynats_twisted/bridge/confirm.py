"""``confirm = "server"`` for messages that somebody waits for: one Deferred for each, PINGs shared by all."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from pynats_twisted.bridge.flushes import FlushRounds
from pynats_twisted.client.status import Disconnected, ServerErrorEvent
from pynats_twisted.errors import DisconnectedError, PermissionsViolationError

if TYPE_CHECKING:
    from pynats_twisted.client.client import NatsClient


class Ticket:
    """What is published to one subject, from the moment at which the ticket was taken; see :meth:`ServerConfirmer.ticket`."""

    __slots__ = ("era", "error", "subject")

    def __init__(self, subject: str, era: int) -> None:
        self.subject = subject
        self.era = era
        self.error: PermissionsViolationError | None = None


class ServerConfirmer:
    """Confirms what one route publishes::

        ticket = confirmer.ticket(subject)
        client.publish(subject, payload)
        await confirmer.confirm(ticket)
        confirmer.discard(ticket)

    :param reactor: the reactor.
    :param client: the client that publishes.
    :param timeout: seconds for the answer to a PING.
    """

    def __init__(self, reactor: Any, client: NatsClient, timeout: float) -> None:
        self._rounds = FlushRounds(reactor, client, timeout)
        self._open: set[Ticket] = set()
        self._era = 0
        client.add_listener(self._on_event)

    def ticket(self, subject: str) -> Ticket:
        """Take this before the first publish, and :meth:`discard` it in the end. In between, a denial of the subject and a lost
        connection are noticed.
        """
        ticket = Ticket(subject, self._era)
        self._open.add(ticket)
        return ticket

    def discard(self, ticket: Ticket) -> None:
        """Forget a ticket: its messages were confirmed, or need not be any more."""
        self._open.discard(ticket)

    def confirm(self, ticket: Ticket) -> Deferred[None]:
        """Wait until the server has what was published since the ticket was taken.

        Call it in the same turn of the reactor as the last publish, so that no other connection can come between the two.

        :returns: fires with None; fails with :class:`~pynats_twisted.errors.PermissionsViolationError` when the server denied the
            subject, with :class:`~pynats_twisted.errors.DisconnectedError` or :class:`~pynats_twisted.errors.FlushTimeoutError` when
            it is not known whether the server has it. Cancelling it ends the wait and nothing else.
        """
        waiter: Deferred[None] = Deferred()
        self._rounds.after(partial(self._flushed, ticket, waiter))
        return waiter

    def _flushed(self, ticket: Ticket, waiter: Deferred[None], error: BaseException | None, denied: frozenset[str]) -> None:
        if error is None and ticket.era != self._era:
            error = DisconnectedError("the connection was lost between the message and its confirmation")
        if ticket.error is not None or error is not None:
            waiter.errback(ticket.error or error)
        else:
            waiter.callback(None)

    def _on_event(self, event: object) -> None:
        if isinstance(event, Disconnected):
            self._era += 1
        elif isinstance(event, ServerErrorEvent) and isinstance(event.error, PermissionsViolationError):
            for ticket in self._open:
                if ticket.subject == event.error.subject:
                    ticket.error = event.error
