"""Requests and their replies: one inbox for all of a client's requests, one timer for all their deadlines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from ..errors import (
    DisconnectedError,
    NatsError,
    NoRespondersError,
    PermissionsViolationError,
    RequestTimeoutError,
    TooManyRequestsError,
)
from ..protocol.subjects import check_inbox_prefix, new_inbox
from .deadlines import Deadlines
from .request_many import NO_RESPONDERS, RequestMany

if TYPE_CHECKING:
    from ..protocol.encoder import Payload
    from ..protocol.headers import HeadersLike
    from ..protocol.message import Msg
    from ..protocol.twin import SubscriptionRecord
    from .client import NatsClient


# Reply subjects are numbered from here on: numbers of one length, so that they are in order as text, too.
_FIRST_NUMBER = 1_000_000


# A request that wants one reply: who waits for it, and where it was sent. Not a class of its own, for speed.
_Single = tuple[Deferred["Msg"], str]


class Requests:
    """The requests in flight of one client.

    Each has a reply subject of its own: a prefix that nobody can guess, and a number.
    """

    _takes_runs = False

    def __init__(self, client: NatsClient) -> None:
        options = client.options
        check_inbox_prefix(options.inbox_prefix)
        self._client = client
        self._publish = client.outbound.publish
        self.seconds: Callable[[], float] = client.reactor.seconds
        self._limit = options.max_requests_in_flight
        self._prefix = new_inbox(options.inbox_prefix) + "."
        self._number = _FIRST_NUMBER
        # By their reply subjects.
        self._waiting: dict[str, _Single | RequestMany] = {}
        self._deadlines = Deadlines(client.reactor, self._waiting, self._expired)
        self._record: SubscriptionRecord | None = None
        self._idle: list[Deferred[None]] = []

    @property
    def in_flight(self) -> int:
        """Requests that wait for a reply."""
        return len(self._waiting)

    # --- asking ----------------------------------------------------------------------------------------------

    def request(self, subject: str, payload: Payload, headers: HeadersLike | None, timeout: float) -> Deferred[Msg]:
        """Publish with a reply subject of its own, and wait for the first reply."""
        waiting = self._waiting
        if self._record is None or len(waiting) >= self._limit:
            self._prepare()
        self._number = number = self._number + 1
        reply = f"{self._prefix}{number}"
        self._publish(subject, payload, reply, headers)
        waiter: Deferred[Msg] = Deferred(partial(self._cancelled, reply))
        waiting[reply] = waiter, subject
        self._deadlines.set(reply, self.seconds() + timeout)
        return waiter

    def request_many(
        self,
        subject: str,
        payload: Payload,
        headers: HeadersLike | None,
        max_msgs: int | None,
        stall: float | None,
        timeout: float,
        sentinel: Callable[[Msg], bool] | None,
    ) -> RequestMany:
        """Publish with a reply subject of its own, and hand out all replies."""
        options = self._client.options
        bounds = (options.pending_msgs, options.pending_bytes)
        self._prepare()
        self._number += 1
        reply = f"{self._prefix}{self._number}"
        end = self.seconds() + timeout
        many = RequestMany(self, reply, subject, max_msgs=max_msgs, stall=stall, end=end, sentinel=sentinel, bounds=bounds)
        self._publish(subject, payload, reply, headers)
        self._waiting[reply] = many
        self._deadlines.set(reply, end)
        return many

    def _prepare(self) -> None:
        if len(self._waiting) >= self._limit:
            raise TooManyRequestsError(f"{len(self._waiting)} requests are in flight, the bound is {self._limit}")
        if self._record is None:
            self._subscribe()

    def _subscribe(self) -> None:
        core = self._client.core
        sid = core.new_sid()
        self._client.outbound.control(core.subscriptions.add(self._prefix + "*", "", sid, self))
        self._record = core.subscriptions.records[sid]

    # --- replies ---------------------------------------------------------------------------------------------

    def _deliver(self, msg: Msg) -> None:
        reply = msg.subject
        waiting = self._waiting
        request = waiting.get(reply)
        if request is None:
            if len(waiting) != 1 or reply.startswith(self._prefix):
                self._client.counters.late_replies += 1
                return
            # A mapping rewrote the subject; with one request in flight it is clear whose reply this is.
            ((reply, request),) = waiting.items()
        if not isinstance(request, tuple):
            request.received(msg)
            return
        del waiting[reply]
        waiter, subject = request
        if not msg.data and msg.status == NO_RESPONDERS:
            waiter.errback(NoRespondersError(subject))
        else:
            waiter.callback(msg)
        if self._idle and not waiting:
            self._tell_idle()

    def _deliver_run(self, msgs: list[Msg]) -> None:
        for msg in msgs:
            self._deliver(msg)

    def _respond(self, reply: str, payload: bytes, headers: HeadersLike | None) -> Awaitable[None]:
        return self._publish(reply, payload, None, headers)

    def _cancelled(self, reply: str, _: Deferred[Msg]) -> None:
        self.forget(reply)
        self.settled()

    def forget(self, reply: str) -> None:
        """A request is over. Whoever made it is told now, and then :meth:`settled` is called."""
        self._waiting.pop(reply, None)

    def settled(self) -> None:
        """Whoever made a request has been told of its end."""
        if self._idle and not self._waiting:
            self._tell_idle()

    def set_alarm(self, many: RequestMany) -> None:
        """Call :meth:`RequestMany.expired` at its ``alarm``."""
        self._deadlines.set(many.reply, many.alarm)

    def _expired(self, reply: str) -> None:
        request = self._waiting[reply]
        if not isinstance(request, tuple):
            request.expired()
            return
        del self._waiting[reply]
        waiter, subject = request
        waiter.errback(RequestTimeoutError(f"no reply to the request on {subject!r} in time"))
        self.settled()

    def when_idle(self) -> Deferred[None]:
        """Fires when no request is in flight."""
        if not self._waiting:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._idle.remove)
        self._idle.append(waiter)
        return waiter

    def _tell_idle(self) -> None:
        idle, self._idle = self._idle, []
        for waiter in idle:
            waiter.callback(None)

    # --- the connection --------------------------------------------------------------------------------------

    def disconnected(self) -> None:
        """The connection was lost: requests keep waiting for their time, unless the option says to fail them."""
        if self._client.options.fail_requests_on_disconnect:
            self.fail_all(DisconnectedError("the connection was lost while the request waited for a reply"))

    def denied(self, error: NatsError) -> bool:
        """An error may be about a request. Returns whether it was."""
        if not isinstance(error, PermissionsViolationError):
            return False
        if error.operation == "subscription":
            record = self._record
            if record is None or (error.sid != record.sid and error.subject != record.subject):
                return False
            # The next request tries anew: permissions may have changed.
            self._client.core.subscriptions.forget(record.sid)
            self._record = None
            self.fail_all(error)
            return True
        if error.operation == "publish":
            meant = [reply for reply, request in self._waiting.items() if _subject(request) == error.subject]
        else:
            meant = [reply for reply in self._waiting if reply == error.subject]
        for reply in meant:
            self._fail(reply, error)
        return bool(meant)

    def fail_all(self, error: NatsError) -> None:
        """Every request in flight ends with this error."""
        for reply in list(self._waiting):
            self._fail(reply, error)

    def _fail(self, reply: str, error: NatsError) -> None:
        request = self._waiting.pop(reply, None)
        if request is None:
            # Cancelled by whoever was told of the same error just before.
            return
        if isinstance(request, tuple):
            request[0].errback(error)
            self.settled()
        else:
            request.failed(error)

    def closed(self, error: NatsError) -> None:
        """The client has ended."""
        self.fail_all(error)
        self._deadlines.clear()
        self._tell_idle()


def _subject(request: _Single | RequestMany) -> str:
    return request[1] if isinstance(request, tuple) else request.subject
