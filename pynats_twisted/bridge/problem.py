"""Error responses as RFC 9457 problem details (``application/problem+json``).

A problem says what the caller can act upon and nothing about the inside: no subject, no server name, no trace. The ``request_id``
ties it to the line in the bridge's log.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

TYPE_PREFIX: Final = "urn:nats-bridge:"
"""What every problem's ``type`` starts with; the fixed word of the problem follows."""

HeaderPairs = Sequence[tuple[bytes, bytes]]

_encode = msgspec.json.encode


def new_request_id() -> str:
    """An identifier that no other request has: 32 hexadecimal digits."""
    return os.urandom(16).hex()


class Response:
    """What is sent back: a status, headers, a body.

    :ivar status: 200 to 599.
    :ivar headers: names and values as they go over the wire. ``Content-Length``, ``Connection``, ``Date`` and
        ``X-Content-Type-Options`` are added when the response is sent.
    :ivar body: the body. With a status that has none (204, 304) it is left out.
    :ivar kind: for a problem its fixed word, otherwise an empty text.
    :ivar cause: for a problem what is known of its cause, for the bridge's own log and pages; it is not sent.
    :ivar hint: the same of what can be done about it.
    """

    __slots__ = ("body", "cause", "headers", "hint", "kind", "status")

    def __init__(self, status: int, headers: HeaderPairs = (), body: bytes = b"", kind: str = "") -> None:
        self.status = status
        self.headers = list(headers)
        self.body = body
        self.kind = kind
        self.cause = ""
        self.hint = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {len(self.body)} bytes>"


@dataclass(frozen=True)
class Problem:
    """A kind of error response. The kinds are constants of the code; what differs between two requests is in the call.

    :ivar status: the HTTP status.
    :ivar kind: a fixed word. It ends the ``type`` and is the ``reason`` under which the problem is counted.
    :ivar title: a sentence for people, the same for every occurrence.
    """

    status: int
    kind: str
    title: str

    @property
    def type(self) -> str:
        """The ``type`` member: an absolute URI that names the kind and leads nowhere."""
        return TYPE_PREFIX + self.kind

    def response(
        self,
        route: str,
        request_id: str,
        *,
        status: int | None = None,
        detail: str = "",
        headers: HeaderPairs = (),
        **members: Any,
    ) -> Response:
        """The response for one occurrence.

        :param route: the route's name; empty when no route was found.
        :param request_id: the identifier of the request.
        :param status: another status than the kind's.
        :param detail: what is particular about this occurrence. Never a subject or an internal error's text.
        :param headers: more headers, for example ``Retry-After``.
        :param members: more members of the problem.
        """
        code = self.status if status is None else status
        content: dict[str, Any] = {"type": self.type, "title": self.title, "status": code}
        if detail:
            content["detail"] = detail
        if route:
            content["route"] = route
        content["request_id"] = request_id
        content.update(members)
        return Response(code, [(b"Content-Type", b"application/problem+json"), *headers], _encode(content), self.kind)


# What the listener answers by itself.
BAD_REQUEST = Problem(400, "bad-request", "The request is not valid HTTP.")
BAD_PATH = Problem(400, "bad-path", "The path is not validly percent-encoded UTF-8.")
NOT_FOUND = Problem(404, "not-found", "No route has this path.")
METHOD_NOT_ALLOWED = Problem(405, "method-not-allowed", "The route does not take this method.")
REQUEST_TIMEOUT = Problem(408, "request-timeout", "The request did not arrive in time.")
BODY_TOO_LARGE = Problem(413, "body-too-large", "The body is larger than the route accepts.")
URI_TOO_LONG = Problem(414, "uri-too-long", "The request line is too long.")
EXPECTATION_FAILED = Problem(417, "expectation-failed", "Only the expectation 100-continue is known.")
HEADERS_TOO_LARGE = Problem(431, "headers-too-large", "The headers are too large or too many.")
INTERNAL_ERROR = Problem(500, "internal-error", "The bridge failed; its log has the reason under this request_id.")

# What routes answer before anything was published.
BAD_VALUE = Problem(400, "bad-value", "A value of the request cannot be used.")
BAD_HEADER = Problem(400, "bad-header", "A header of the request cannot be forwarded.")
UNAUTHORIZED = Problem(401, "unauthorized", "Authentication is needed.")
FORBIDDEN = Problem(403, "forbidden", "The credentials were refused.")
BAD_BATCH = Problem(400, "bad-batch", "The body holds no message.")
BATCH_TOO_LARGE = Problem(413, "batch-too-large", "The body holds more messages than the route accepts at once.")
BAD_SIGNATURE = Problem(401, "bad-signature", "The request is not signed as this route demands.")
RATE_LIMITED = Problem(429, "rate-limited", "Too many requests; try again later.")
LOOP = Problem(508, "loop", "The message has passed this bridge before, or too many bridges.")
OVERLOADED = Problem(503, "overloaded", "Too many requests are under way; try again later.")
PAUSED = Problem(503, "paused", "The route is paused; try again later.")
STOPPING = Problem(503, "stopping", "The bridge is stopping; try again later.")

# What comes of NATS.
DISCONNECTED = Problem(503, "nats-disconnected", "NATS is not reachable; nothing was sent.")
CONNECTION_LOST = Problem(504, "nats-connection-lost", "The connection to NATS was lost before the answer; it may have been executed.")
NO_RESPONDERS = Problem(503, "nats-no-responders", "No service answers at the moment; nothing was executed.")
TIMEOUT = Problem(504, "nats-timeout", "No answer came in time; it may have been executed.")
PERMISSION = Problem(502, "nats-permission", "The bridge is not permitted to send this to NATS.")
NATS_MAX_PAYLOAD = Problem(413, "nats-max-payload", "The message is larger than NATS accepts.")
NOT_CONFIRMED = Problem(503, "not-confirmed", "NATS did not confirm the message; it may have been published all the same.")
CONFIRM_TIMEOUT = Problem(504, "confirm-timeout", "NATS did not confirm the message in time; it may have been published all the same.")
NO_STREAM = Problem(503, "no-stream", "No stream takes the message at the moment; it was not stored.")
STREAM_UNAVAILABLE = Problem(503, "stream-unavailable", "The stream stores nothing at the moment; the message was not stored.")
STREAM_FULL = Problem(507, "stream-full", "The stream is full; the message was not stored.")
NO_RESOURCES = Problem(507, "no-resources", "NATS has no room left for streams; the message was not stored.")
STREAM_REFUSED = Problem(502, "stream-refused", "The stream does not take the message; it was not stored.")
NOT_AS_EXPECTED = Problem(409, "not-as-expected", "The stream is not as the request expects it; the message was not stored.")
BUFFER_FULL = Problem(503, "buffer-full", "The bridge has too much waiting for NATS; try again later.")
REPLY_TOO_LARGE = Problem(502, "reply-too-large", "The service's answer is larger than the route allows.")
BAD_REPLY = Problem(502, "bad-reply", "The service's answer is malformed.")
SERVICE_ERROR = Problem(502, "service-error", "The service reported an error.")
NATS_ERROR = Problem(502, "nats-error", "NATS did not take the message.")
