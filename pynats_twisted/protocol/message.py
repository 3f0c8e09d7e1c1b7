"""A message, which is also the event that brings it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import MessageNotRepliableError
from .events import EventType
from .headers import Headers, ParsedHeaders, parse_headers

if TYPE_CHECKING:
    from .headers import HeadersLike


class Msg:
    """A message that a server delivered.

    It is its own event: ``msg.type is EventType.MSG`` and ``msg.body is msg``.

    :ivar subject: where it was published. Bytes that are not UTF-8 are kept as surrogates (``surrogateescape``).
    :ivar sid: the id of the subscription that got it.
    :ivar reply: where a reply goes, or ``""``.
    :ivar data: the payload.
    :ivar raw_headers: the header block as it came, or ``b""``.
    :ivar subscription: who the subscription belongs to: the client's ``Subscription``, or what ``subscribe`` was told.
    """

    __slots__ = ("_parsed", "data", "raw_headers", "reply", "sid", "subject", "subscription")

    type = EventType.MSG

    def __init__(self, subject: str, sid: int, reply: str, data: bytes, raw_headers: bytes = b"") -> None:
        self.subject = subject
        self.sid = sid
        self.reply = reply
        self.data = data
        self.raw_headers = raw_headers
        self._parsed: ParsedHeaders | None = None
        self.subscription: Any = None

    @property
    def body(self) -> Msg:
        """The message itself."""
        return self

    def _headers(self) -> ParsedHeaders:
        parsed = self._parsed
        if parsed is None:
            raw = self.raw_headers
            parsed = self._parsed = parse_headers(raw) if raw else ParsedHeaders(Headers(), None, "", None)
        return parsed

    @property
    def headers(self) -> Headers:
        """The headers; read when first asked for."""
        return self._headers().headers

    @property
    def status(self) -> int | None:
        """The status in the header block's first line (for example 503: no responders), or None."""
        if not self.raw_headers:
            return None
        return self._headers().status

    @property
    def status_text(self) -> str:
        """The text behind the status, or ``""``."""
        if not self.raw_headers:
            return ""
        return self._headers().status_text

    @property
    def headers_problem(self) -> str | None:
        """What is odd about the header block, in words, or None. The rest of it is in :attr:`headers`."""
        if not self.raw_headers:
            return None
        return self._headers().problem

    @property
    def size(self) -> int:
        """Bytes of subject, reply, headers and payload together."""
        return len(self.subject) + len(self.reply) + len(self.raw_headers) + len(self.data)

    def respond(self, payload: bytes = b"", headers: HeadersLike | None = None) -> Any:
        """Publish to the reply subject, through the client that got the message.

        :returns: what ``publish`` of that client returns: an awaitable.
        :raises MessageNotRepliableError: there is no reply subject, or the message did not come through a client.
        """
        if not self.reply:
            raise MessageNotRepliableError(f"the message on {self.subject!r} has no reply subject")
        try:
            respond = self.subscription._respond
        except AttributeError:
            text = f"the message on {self.subject!r} did not come through a client that could send the reply"
            raise MessageNotRepliableError(text) from None
        return respond(self.reply, payload, headers)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, EventType):
            return other is EventType.MSG
        return self is other

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __repr__(self) -> str:
        reply = f" reply={self.reply!r}" if self.reply else ""
        status = f" status={self.status}" if self.status is not None else ""
        return f"<Msg {self.subject!r}{reply}{status} {len(self.data)} bytes>"
