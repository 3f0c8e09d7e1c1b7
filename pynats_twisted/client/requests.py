"""Requests and their replies: one inbox for all of a client's requests, one timer for all their deadlines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from os import urandom
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
    from ..protocol.subscriptions import SubscriptionRecord
    from .client import NatsClient


class Requests:
    """The requests in flight of one client."""

    def __init__(self, client: NatsClient) -> None:
        options = client.options
        check_inbox_prefix(options.inbox_prefix)
        self._client = client
        self._limit = options.max_requests_in_flight
        self._prefix = new_inbox(options.inbox_prefix) + "."
        self._skip = len(self._prefix)
        self._waiting: dict[str, _Request | RequestMany] = {}
        self._deadlines = Deadlines[str](client.reactor, self._expired)
        self._record: SubscriptionRecord | None = None
        self._idle: list[Deferred[None]] = []

    @property
    def in_flight(self) -> int:
        """Requests that wait for a reply."""
        return len(self._waiting)

    # --- asking ----------------------------------------------------------------------------------------------

    def request(self, subject: str, payload: Payload, headers: HeadersLike | None, timeout: float) -> Deferred[Msg]:
        """Publish with a reply subject of its own, and wait for the first reply."""
        token = self._new_token()
        request = _Request(self, token, subject)
        self._begin(token, request, payload, headers, timeout)
        return request.result

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
        token = self._new_token()
        options = self._client.options
        bounds = (options.pending_msgs, options.pending_bytes)
        many = RequestMany(self, token, subject, max_msgs=max_msgs, stall=stall, timeout=timeout, sentinel=sentinel, bounds=bounds)
        self._begin(token, many, payload, headers, timeout)
        return many

    def _begin(self, token: str, waiting: _Request | RequestMany, payload: Payload, headers: HeadersLike | None, timeout: float) -> None:
        if self._record is None:
            self._subscribe()
        self._client.publish(waiting.subject, payload, self._prefix + token, headers)
        self._waiting[token] = waiting
        self._deadlines.add(token, timeout)

    def _new_token(self) -> str:
        if len(self._waiting) >= self._limit:
            raise TooManyRequestsError(f"{len(self._waiting)} requests are in flight, the bound is {self._limit}")
        token = urandom(6).hex()
        while token in self._waiting:
            token = urandom(6).hex()
        return token

    def _subscribe(self) -> None:
        core = self._client.core
        sid = core.new_sid()
        self._client.outbound.control(core.subscriptions.add(self._prefix + "*", "", sid, self))
        self._record = core.subscriptions.records[sid]

    # --- replies ---------------------------------------------------------------------------------------------

    def _deliver(self, msg: Msg) -> None:
        token = msg.subject[self._skip :]
        waiting = self._waiting.get(token)
        if waiting is None:
            if len(self._waiting) == 1 and not msg.subject.startswith(self._prefix):
                # A mapping rewrote the subject; with one request in flight it is clear whose reply this is.
                token, waiting = next(iter(self._waiting.items()))
            else:
                self._client.counters.late_replies += 1
                return
        waiting.received(msg)

    def _respond(self, reply: str, payload: bytes, headers: HeadersLike | None) -> Awaitable[None]:
        return self._client.publish(reply, payload, headers=headers)

    def forget(self, token: str) -> None:
        """A request is over. Whoever made it is told now, and then :meth:`settled` is called."""
        if self._waiting.pop(token, None) is not None:
            self._deadlines.remove(token)

    def settled(self) -> None:
        """Whoever made a request has been told of its end."""
        if self._idle and not self._waiting:
            self._tell_idle()

    def extend(self, token: str, seconds: float) -> None:
        """A request is over that many seconds from now, where nothing comes before."""
        self._deadlines.remove(token)
        self._deadlines.add(token, seconds)

    @property
    def now(self) -> float:
        seconds: float = self._client.reactor.seconds()
        return seconds

    def _expired(self, token: str) -> None:
        waiting = self._waiting.pop(token, None)
        if waiting is not None:
            waiting.expired()
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
            meant = [waiting for waiting in self._waiting.values() if waiting.subject == error.subject]
        else:
            meant = [waiting for token, waiting in self._waiting.items() if self._prefix + token == error.subject]
        for waiting in meant:
            waiting.failed(error)
        return bool(meant)

    def fail_all(self, error: NatsError) -> None:
        """Every request in flight ends with this error."""
        for waiting in list(self._waiting.values()):
            waiting.failed(error)

    def closed(self, error: NatsError) -> None:
        """The client has ended."""
        self.fail_all(error)
        self._deadlines.clear()
        self._tell_idle()


class _Request:
    """One request that wants one reply."""

    __slots__ = ("_requests", "_token", "result", "subject")

    def __init__(self, requests: Requests, token: str, subject: str) -> None:
        self._requests = requests
        self._token = token
        self.subject = subject
        self.result: Deferred[Msg] = Deferred(self._cancelled)

    def _cancelled(self, _: Deferred[Msg]) -> None:
        self._requests.forget(self._token)
        self._requests.settled()

    def received(self, msg: Msg) -> None:
        self._requests.forget(self._token)
        if msg.status == NO_RESPONDERS and not msg.data:
            self.result.errback(NoRespondersError(self.subject))
        else:
            self.result.callback(msg)
        self._requests.settled()

    def expired(self) -> None:
        self.result.errback(RequestTimeoutError(f"no reply to the request on {self.subject!r} in time"))

    def failed(self, error: NatsError) -> None:
        if self.result.called:
            # Cancelled by whoever was told of the same error just before.
            return
        self._requests.forget(self._token)
        self.result.errback(error)
        self._requests.settled()
