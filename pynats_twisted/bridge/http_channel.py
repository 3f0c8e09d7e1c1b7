"""One HTTP/1.1 connection of a listener.

The parser is Twisted's :class:`twisted.web.http.HTTPChannel`. What this module adds is what a server on an open network needs: the
head of a request is judged before its body is read, everything that a peer can make us keep is bounded, a request that does not
arrive in time is ended, and a response is written in one piece.
"""

from __future__ import annotations

import contextlib
import enum
import math
import re
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http

from pynats_twisted.bridge.http_message import HTTPRequest, RequestHeaderMap
from pynats_twisted.bridge.problem import (
    BAD_REQUEST,
    EXPECTATION_FAILED,
    HEADERS_TOO_LARGE,
    INTERNAL_ERROR,
    REQUEST_TIMEOUT,
    URI_TOO_LONG,
    Problem,
    Response,
)

if TYPE_CHECKING:
    from pynats_twisted.bridge.http import HTTPListener

MAX_HEADER_LINES: Final = 200
"""Most header lines of a request."""

DISCARD_LIMIT: Final = 64 * 1024
"""A refused request's body of up to this many bytes is read and thrown away, so that the connection can stay."""

LINGER: Final = 2.0
"""Seconds for which a connection that is to be closed still takes (and throws away) what the client sends. Without it the operating
system could reset the connection, and the client would not see the response."""

MAX_AHEAD: Final = 256 * 1024
"""Bytes of further requests that a client may send while it does not read the response to the first. Then it is cut off."""

STALL: Final = 30.0
"""Seconds for which the client of a response without an end may read nothing while something waits for it. Then it is cut off."""

SEND_BUFFER: Final = 128 * 1024
"""Bytes that the operating system may keep for the client of a response without an end; Linux takes twice as much."""

_BAD_IN_LINE = re.compile(rb"[\x00\r\n]")
_log = Logger()


class State(enum.Enum):
    """What a connection is doing."""

    IDLE = "between requests"
    RECEIVING = "a request is arriving"
    HANDLING = "a request has arrived and is not answered"
    STREAMING = "a response is being written bit by bit"
    BLOCKED = "a response is written, and the client does not read it"
    CLOSING = "what arrives is thrown away"


class HTTPChannel(http.HTTPChannel):
    """One connection."""

    # The listener ends connections that take too long; Twisted's timer would start again with each byte.
    timeOut = None  # noqa: N815 - read by Twisted
    requestFactory: Any = HTTPRequest  # noqa: N815 - read by Twisted
    transport: Any

    def __init__(self, listener: HTTPListener) -> None:
        super().__init__()
        self.listener = listener
        self.state = State.IDLE
        self.deadline = 0.0
        self.peer = ""
        self.body_bytes = 0
        limits = listener.limits
        # Ours are hit first, so that the answer says which.
        self.MAX_LENGTH = max(limits.max_request_line, limits.max_header_bytes)
        self.totalHeadersSize = limits.max_request_line + limits.max_header_bytes
        self._request_line: list[bytes] | None = None
        self._head_bytes = 0
        self._head_lines = 0
        self._write_blocked = False
        self.stream_ready: Callable[[], None] | None = None
        self._done: HTTPRequest | None = None
        self._ahead = 0

    # --- reading ------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        super().connectionMade()
        self.peer = getattr(self.transport.getPeer(), "host", None) or "unix"
        self.deadline = self.listener.now() + self.listener.limits.idle_timeout
        self.listener.opened(self)

    def dataReceived(self, data: bytes) -> None:
        if self.state is State.CLOSING:
            return
        if self.state is State.IDLE and data:
            self._receiving()
        super().dataReceived(data)

    def _receiving(self) -> None:
        self.state = State.RECEIVING
        self.deadline = self.listener.now() + self.listener.limits.request_timeout

    def lineReceived(self, line: bytes) -> bool | None:
        if self.state is State.IDLE:
            self._receiving()  # a request that came together with the one before it
        problem = self._judge_line(line)
        if problem is not None:
            self.refuse(self._problem(problem))
        else:
            super().lineReceived(line)
        # A true value makes the receiver stop at this line.
        return self.state is State.CLOSING or None

    def _judge_line(self, line: bytes) -> Problem | None:
        limits = self.listener.limits
        if _BAD_IN_LINE.search(line):
            return BAD_REQUEST
        if self._request_line is None:
            if len(line) > limits.max_request_line:
                return URI_TOO_LONG
            if line:
                self._request_line = line.split(b" ")
                self._head_bytes = self._head_lines = 0
            return None
        if line:
            self._head_bytes += len(line) + 2
            self._head_lines += 1
            if self._head_bytes > limits.max_header_bytes or self._head_lines > MAX_HEADER_LINES:
                return HEADERS_TOO_LARGE
            # A folded line means one thing to one server and another to the next.
            if line[0] in b" \t" or (line[:15].lower() == b"content-length:" and len(line) > 40):
                return BAD_REQUEST
        return None

    def lineLengthExceeded(self, line: bytes) -> bool:
        self.refuse(self._problem(URI_TOO_LONG if self._request_line is None else HEADERS_TOO_LARGE))
        return True

    def checkPersistence(self, request: HTTPRequest, version: bytes) -> bool:
        tokens = [token.strip().lower() for value in request.headers.get(b"connection", ()) for token in value.split(b",")]
        return version == b"HTTP/1.1" and b"close" not in tokens and not self.listener.stopping

    def allHeadersReceived(self) -> None:
        request: HTTPRequest = self.requests[-1]
        method, target, version = self._request_line or [b"", b"", b""]
        self._request_line = None
        self.persistent = self.checkPersistence(request, version)
        request.method = method.decode("ascii")
        request.received_at = self.listener.now()
        problem = _head_problem(request.headers, version)
        if problem is not None:
            # It may be that body and next request cannot be told from each other.
            request.refuse_now(self._problem(problem))
            return
        refusal = self.listener.admit(request, target)
        expects = bool(request.headers.get(b"expect"))
        if refusal is None:
            if expects and self.length != 0 and version == b"HTTP/1.1":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif self.length == 0 or (self.length is not None and self.length <= DISCARD_LIMIT and not expects):
            request.refused(refusal)
        else:
            request.refuse_now(refusal)

    def allContentReceived(self) -> None:
        if self.state is not State.CLOSING:
            self.state = State.HANDLING
        super().allContentReceived()

    def rawDataReceived(self, data: bytes) -> None:
        if self.state in (State.HANDLING, State.STREAMING, State.BLOCKED):
            self._ahead += len(data)
            if self._ahead > MAX_AHEAD:
                self.abort()
                return
        super().rawDataReceived(data)

    # --- writing ------------------------------------------------------------------------------------------------

    def write_response(self, response: Response, method: str = "") -> None:
        """Write a whole response; the connection's state is the caller's business."""
        head, body = self._render(response, method)
        if len(body) < 65536:
            self.transport.write(head + body)
        else:
            self.transport.writeSequence((head, body))

    def _render(self, response: Response, method: str, has_end: bool = True) -> tuple[bytes, bytes]:
        lines = [_status_line(response.status), b"Date: " + self.listener.date()]
        body = response.body
        if response.status in (204, 304):
            body = b""
        elif has_end:
            lines.append(b"Content-Length: %d" % len(body))
            if method == "HEAD":
                body = b""
        lines.append(b"X-Content-Type-Options: nosniff")
        if not self.persistent:
            lines.append(b"Connection: close")
        lines.extend([name + b": " + value for name, value in response.headers])
        head = b"\r\n".join(lines)
        # What was checked before is checked again where it matters: a value with a line of its own would be a header of its own.
        if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
            _log.error("a response header with a line break was not sent")
            return self._render(self._problem(INTERNAL_ERROR), method)
        return head + b"\r\n\r\n", body

    def begin_stream(self, response: Response) -> None:
        """Write the head of a response whose body follows bit by bit, and ends with the connection."""
        self.persistent = False
        self.state = State.STREAMING
        self.deadline = math.inf
        self._release_body()
        _bound_send_buffer(self.transport)
        head, body = self._render(response, "", has_end=False)
        self.transport.write(head + body)

    @property
    def is_blocked(self) -> bool:
        """Whether the client does not read what was written."""
        return self._write_blocked

    def end_stream(self) -> None:
        """Close the connection when everything was read, or after two seconds."""
        if self.state is State.STREAMING:
            self._close_idle()

    def _problem(self, problem: Problem) -> Response:
        return self.listener.count_problem(problem, self.peer)

    def requestDone(self, request: HTTPRequest) -> None:
        self._release_body()
        self.deadline = self.listener.now() + self.listener.limits.idle_timeout
        if self._write_blocked:
            # Nothing more is done for a client that does not take what it has asked for.
            self.state = State.BLOCKED
            self._done = request
            return
        self.state = State.IDLE if self.persistent else State.CLOSING
        self._ahead = 0
        super().requestDone(request)

    def pauseProducing(self) -> None:
        self._write_blocked = True
        if self.state is State.STREAMING:
            self.deadline = self.listener.now() + STALL
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._write_blocked = False
        if self.state is State.STREAMING:
            self.deadline = math.inf
            if self.stream_ready is not None:
                self.stream_ready()
        super().resumeProducing()
        done, self._done = self._done, None
        if done is not None:
            self.requestDone(done)

    # --- ending -------------------------------------------------------------------------------------------------

    def refuse(self, response: Response, method: str = "") -> None:
        """Answer, and close the connection: what follows in it cannot be told from the refused request."""
        if self.state is State.CLOSING:
            return
        self.persistent = False
        self.write_response(response, method)
        self._linger()
        if self.transport is not None and ITCPTransport.providedBy(self.transport) and not self.isSecure():
            self.transport.loseWriteConnection()

    def _linger(self) -> None:
        self.state = State.CLOSING
        self.deadline = self.listener.now() + LINGER
        self._release_body()
        self.clearLineBuffer()
        if self.transport is not None:
            self.transport.unregisterProducer()

    def expired(self) -> None:
        """The deadline has passed."""
        if self.state is State.RECEIVING:
            self.refuse(self._problem(REQUEST_TIMEOUT))
        elif self.state is State.IDLE:
            self._close_idle()
        elif self.state is not State.HANDLING:
            self.abort()

    def finish(self) -> None:
        """Take no further request; close at once when there is none under way."""
        self.persistent = False
        if self.state is State.IDLE:
            self._close_idle()

    def _close_idle(self) -> None:
        self.state = State.CLOSING
        self.deadline = self.listener.now() + LINGER
        self.loseConnection()

    def abort(self) -> None:
        """Close at once, without waiting for anything to be sent."""
        self.state = State.CLOSING
        if self.transport is not None:
            self.transport.abortConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802 - called by Twisted
        self.refuse(self._problem(BAD_REQUEST))

    def _release_body(self) -> None:
        if self.body_bytes:
            self.listener.release_body(self.body_bytes)
            self.body_bytes = 0

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.state = State.CLOSING
        self.stream_ready = None
        self._release_body()
        super().connectionLost(reason)
        self.listener.closed(self)


def _bound_send_buffer(transport: Any) -> None:
    """Bound what the kernel keeps for the client of a response without an end: by itself it may take megabytes for each."""
    while (inner := getattr(transport, "transport", None)) is not None:
        transport = inner  # below TLS
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    if isinstance(handle, socket.socket):
        with contextlib.suppress(OSError):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)


def _head_problem(headers: RequestHeaderMap, version: bytes) -> Problem | None:
    if version == b"HTTP/1.1" and len(headers.get(b"host", ())) != 1:
        return BAD_REQUEST
    coding = headers.get(b"transfer-encoding")
    # With anything but this, two servers in a row may see two ends of the body.
    if coding is not None and (version != b"HTTP/1.1" or len(coding) != 1 or coding[0].lower() != b"chunked"):
        return BAD_REQUEST
    expected = headers.get(b"expect")
    if expected is not None and [value.lower() for value in expected] != [b"100-continue"]:
        return EXPECTATION_FAILED
    return None


_STATUS_LINES: dict[int, bytes] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode("ascii") for status in HTTPStatus if status.value >= 200
}


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Status" % status
