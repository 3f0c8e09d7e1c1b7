"""One request on a connection of a listener."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.bridge.problem import BODY_TOO_LARGE, INTERNAL_ERROR, OVERLOADED, Problem, Response, new_request_id

if TYPE_CHECKING:
    from pynats_twisted.bridge.http import HTTPHandler
    from pynats_twisted.bridge.http_channel import HTTPChannel

_log = Logger()


class RequestHeaderMap(dict[bytes, list[bytes]]):
    """The headers of a request: values by the name in lower case. Made and filled by Twisted's parser."""

    def addRawHeader(self, name: bytes, value: bytes) -> None:  # noqa: N802 - called by Twisted
        self.setdefault(name.lower(), []).append(value)

    def getRawHeaders(  # noqa: N802 - called by Twisted
        self, name: bytes, default: Sequence[bytes] | None = None
    ) -> Sequence[bytes] | None:
        return self.get(name.lower(), default)


class HTTPRequest:
    """A request, from its head to its response.

    :ivar method: the method, for example ``GET``.
    :ivar path: the path as it was sent, percent-encoded, without the query.
    :ivar query: what stands behind the ``?`` as it was sent; empty when there is nothing.
    :ivar values: what the placeholders of the route's path stand for, decoded.
    :ivar headers: values by the name in lower case.
    :ivar body: the body; complete when the handler gets the request.
    :ivar peer: the client's address without its port; ``unix`` on a UNIX socket.
    :ivar received_at: when the head was complete, on the reactor's clock.
    :ivar on_gone: called without arguments when the client goes away before the response; set by the handler.
    :ivar prepared: what the handler made of the head when it admitted the request; the handler's alone.
    :ivar finished: whether there was a response, or the client is gone.
    """

    __slots__ = (
        "_body", "_channel", "_chunks", "_discard", "_handler", "_limit", "_refusal", "_request_id", "finished", "headers", "method",
        "on_gone", "path", "peer", "prepared", "query", "received_at", "values",
    )  # fmt: skip

    def __init__(self, channel: HTTPChannel, queued: object = None) -> None:
        self._channel: HTTPChannel | None = channel
        self._handler: HTTPHandler | None = None
        self._refusal: Response | None = None
        self._body = b""
        self._chunks: bytearray | None = None
        self._discard = False
        self._limit = 0
        self._request_id = ""
        self.peer = channel.peer
        self.headers = RequestHeaderMap()
        self.method = ""
        self.path = b""
        self.query = b""
        self.values: Mapping[str, str] = {}
        self.received_at = 0.0
        self.prepared: Any = None
        self.on_gone: Callable[[], None] | None = None
        self.finished = False

    # --- for handlers -------------------------------------------------------------------------------------------

    @property
    def body(self) -> bytes:
        """The body as it came in."""
        return self._body

    @property
    def request_id(self) -> str:
        """An identifier for this request, made when first asked for."""
        if not self._request_id:
            self._request_id = new_request_id()
        return self._request_id

    @property
    def declared_length(self) -> int | None:
        """The length of the body as the head says it; 0 without a body, None when it comes in chunks."""
        length: int | None = self._channel.length if self._channel is not None else 0
        return length

    def respond(self, response: Response) -> None:
        """Send the response. Nothing happens when the client is gone or was answered already."""
        channel = self._channel
        if channel is None:
            return
        self._end(response)
        channel.write_response(response, self.method)
        channel.requestDone(self)

    def stream(self, response: Response) -> ResponseStream | None:
        """Send the head of a response whose body is written later, bit by bit, and ends with the connection.

        When the client goes away :attr:`on_gone` is called, unless the stream was ended before.

        :param response: its body, if it has one, is the beginning of the stream.
        :returns: what to write to, or None when the client is gone or was answered already.
        """
        channel = self._channel
        if channel is None:
            return None
        self._body, self._chunks = b"", None
        if self._handler is not None:
            self._handler.responding(self, response)
        channel.begin_stream(response)
        return ResponseStream(self, channel)

    def stream_ended(self) -> None:
        """Called by the stream: there is nothing more to wait for."""
        self.finished = True
        self._channel = None

    def _end(self, response: Response) -> None:
        self.finished = True
        self._channel = None
        self._body, self._chunks = b"", None
        if self._handler is not None:
            self._handler.responding(self, response)

    def problem(self, problem: Problem, **details: Any) -> Response:
        """The response for a problem of this request; see :meth:`pynats_twisted.bridge.problem.Problem.response`."""
        return problem.response(self._handler.name if self._handler is not None else "", self.request_id, **details)

    # --- for the channel ----------------------------------------------------------------------------------------

    @property
    def requestHeaders(self) -> RequestHeaderMap:  # noqa: N802 - read by Twisted
        return self.headers

    def parseCookies(self) -> None:  # noqa: N802 - called by Twisted
        """Cookies are not ours to read."""

    def admitted(self, handler: HTTPHandler) -> None:
        """The head is accepted; the body may come."""
        self._handler = handler
        self._limit = handler.max_body

    def refused(self, response: Response) -> None:
        """The head is not accepted. A body is thrown away, and *response* is sent after it."""
        self._refusal = response
        self._discard = True

    def refuse_now(self, response: Response) -> None:
        """Answer before the body is complete, and end the connection."""
        channel = self._channel
        if channel is not None:
            self._end(response)
            channel.refuse(response, self.method)

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - called by Twisted
        channel = self._channel
        if self._discard or channel is None:
            return
        length = len(data) + (len(self._chunks) if self._chunks is not None else len(self._body))
        if length > self._limit:
            self.refuse_now(self.problem(BODY_TOO_LARGE, max_bytes=self._limit))
        elif not channel.listener.reserve_body(len(data)):
            self.refuse_now(self.problem(OVERLOADED, headers=[(b"Retry-After", b"1")]))
        else:
            channel.body_bytes += len(data)
            if self._chunks is not None:
                self._chunks += data
            elif self._body:
                # Small chunks as single objects would take many times their size.
                self._chunks = bytearray(self._body + data)
            else:
                self._body = data

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802 - called by Twisted
        if self.finished:
            return
        if self._refusal is not None or self._handler is None:
            self.respond(self._refusal or self.problem(INTERNAL_ERROR))
            return
        if self._chunks is not None:
            self._body, self._chunks = bytes(self._chunks), None
        try:
            self._handler.handle(self)
        except Exception:  # noqa: BLE001 - one request must not take the connection, and others' requests on it, with it
            self.failed(Failure())

    def failed(self, failure: Failure) -> None:
        """The handler failed in a way that it has no answer for: log it, and answer 500."""
        name = self._handler.name if self._handler is not None else ""
        _log.failure("route {route}: request {request_id} failed", failure, route=name, request_id=self.request_id)
        self.respond(self.problem(INTERNAL_ERROR))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.finished:
            return
        self.finished = True
        self._channel = None
        self._body, self._chunks = b"", None
        if self.on_gone is not None:
            self.on_gone()

    def __repr__(self) -> str:
        return f"<HTTPRequest {self.method} {len(self._body)} bytes>"


class ResponseStream:
    """The body of a response that is written bit by bit; made by :meth:`HTTPRequest.stream`.

    Nothing is kept for a client that does not read, except what it was written: a writer asks :attr:`is_blocked` first, and leaves out
    what can be left out. A client that reads nothing for 30 seconds is cut off.

    """

    __slots__ = ("_channel", "_request")

    def __init__(self, request: HTTPRequest, channel: HTTPChannel) -> None:
        self._request = request
        self._channel = channel

    @property
    def ended(self) -> bool:
        """Whether nothing more can be written."""
        return self._request.finished

    @property
    def is_blocked(self) -> bool:
        """Whether something that was written waits for the client to read it."""
        return self._channel.is_blocked

    def when_ready(self, ready: Callable[[], None]) -> None:
        """Call *ready* each time that the client has read what it was written, after :attr:`is_blocked` was true."""
        self._channel.stream_ready = ready

    def write(self, data: bytes) -> None:
        """Write; nothing happens when the client is gone."""
        if not self._request.finished:
            self._channel.transport.write(data)

    def end(self) -> None:
        """End the response, and the connection with it. :attr:`HTTPRequest.on_gone` is not called any more."""
        if not self._request.finished:
            self._request.stream_ended()
            self._channel.end_stream()
