"""Requests and their replies: one inbox for all of a client's requests."""

from __future__ import annotations

from os import urandom
from typing import TYPE_CHECKING

from ..errors import NatsError, NoRespondersError, PermissionsViolationError
from ..protocol.subjects import new_inbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..protocol.headers import HeadersLike
    from ..protocol.message import Msg

_NO_RESPONDERS = 503


class Request:
    """A request that waits for its reply.

    :ivar subject: where it goes; :ivar reply_to: where its reply comes.
    """

    __slots__ = ("error", "reply", "reply_to", "subject")

    def __init__(self, subject: str, reply_to: str) -> None:
        self.subject = subject
        self.reply_to = reply_to
        self.reply: Msg | None = None
        self.error: NatsError | None = None

    def over(self) -> bool:
        """The reply, or an error, has come."""
        return self.reply is not None or self.error is not None

    def result(self) -> Msg | None:
        """The reply, or None when there is none yet.

        :raises NoRespondersError: nobody listens. :raises NatsError: what ended the request.
        """
        if self.error is not None:
            raise self.error
        if self.reply is not None and self.reply.status == _NO_RESPONDERS and not self.reply.data:
            raise NoRespondersError(self.subject)
        return self.reply


class Inbox:
    """Where the replies to a client's requests come. A caller waits for its reply, so there is seldom more than one request.

    :param publish: publishes what a reply is answered with.
    :param forget: takes a subscription out that the server does not have.
    :ivar subject: what the inbox is subscribed to; :ivar sid: the subscription's id, 0 while there is none.
    :ivar late: replies that came when nobody waited for them any more.
    """

    def __init__(self, prefix: str, publish: Callable[[str, bytes, HeadersLike | None], None], forget: Callable[[int], None]) -> None:
        self._prefix = new_inbox(prefix) + "."
        self.subject = self._prefix + "*"
        self.sid = 0
        self.late = 0
        self._publish = publish
        self._forget = forget
        self._waiting: dict[str, Request] = {}

    def begin(self, subject: str) -> Request:
        """A request begins."""
        request = Request(subject, self._prefix + urandom(6).hex())
        self._waiting[request.reply_to] = request
        return request

    def end(self, request: Request) -> None:
        """Nobody waits for the reply any more."""
        self._waiting.pop(request.reply_to, None)

    def fail(self, error: NatsError, requests: list[Request] | None = None) -> None:
        """These requests, or all that wait, have failed."""
        for request in list(self._waiting.values()) if requests is None else requests:
            if not request.over():
                request.error = error

    def denied(self, error: NatsError) -> bool:
        """An error of the server may be about a request. Returns whether it was."""
        if not isinstance(error, PermissionsViolationError):
            return False
        waiting = self._waiting.values()
        if error.operation == "subscription":
            if not self.sid or (error.sid != self.sid and error.subject != self.subject):
                return False
            # The next request tries anew: permissions may have changed.
            sid, self.sid = self.sid, 0
            self._forget(sid)
            meant = list(waiting)
        elif error.operation == "publish":
            meant = [request for request in waiting if request.subject == error.subject]
        else:
            meant = [request for request in waiting if request.reply_to == error.subject]
        self.fail(error, meant)
        return bool(meant)

    def _deliver(self, msg: Msg) -> None:
        request = self._waiting.get(msg.subject)
        if request is None and len(self._waiting) == 1 and not msg.subject.startswith(self._prefix):
            # A mapping rewrote the subject; with one request under way it is clear whose reply this is.
            request = next(iter(self._waiting.values()))
        if request is None or request.over():
            self.late += 1
        else:
            request.reply = msg

    def _respond(self, reply: str, payload: bytes, headers: HeadersLike | None) -> None:
        self._publish(reply, payload, headers)
