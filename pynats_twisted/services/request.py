"""A request to a service, which its handler answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgumentError, RequestAnsweredError, ServiceConfigError, ServiceError
from ..protocol.headers import Headers
from ..protocol.twin import DONE
from .api import error_headers

if TYPE_CHECKING:
    from ..protocol.encoder import Payload
    from ..protocol.headers import HeadersLike
    from ..protocol.message import Msg
    from .endpoint import Counters, Endpoint


class ServiceRequest:
    """A request. It has one answer: what the handler returns, or :meth:`respond`, or :meth:`respond_error`.

    Where the endpoint is a streaming one, the answer has any number of parts, each a message, and an end: an empty message without headers,
    or an error. See :meth:`Group.add_endpoint <pynats_twisted.services.groups.EndpointHolder.add_endpoint>`.

    A request without a reply subject, which any publish to the endpoint's subject is, has nobody who waits for an answer: answering
    does nothing then.

    :ivar msg: the message. :ivar endpoint: where it came to.
    """

    __slots__ = ("answered", "counters", "endpoint", "msg")

    def __init__(self, endpoint: Endpoint, msg: Msg, counters: Counters) -> None:
        self.endpoint = endpoint
        self.msg = msg
        #: Where it counts.
        self.counters = counters
        #: Whether it was answered: nothing more can be sent then.
        self.answered = False

    @property
    def subject(self) -> str:
        """Where it was sent: the endpoint's subject, or what matches it."""
        return self.msg.subject

    @property
    def data(self) -> bytes:
        """Its payload."""
        return self.msg.data

    @property
    def headers(self) -> Headers:
        """Its headers."""
        return self.msg.headers

    @property
    def reply(self) -> str:
        """Where the answer goes, or ``""`` when nobody waits for one."""
        return self.msg.reply

    def __repr__(self) -> str:
        return f"<ServiceRequest {self.subject!r} {len(self.data)} bytes{' answered' if self.answered else ''}>"

    # --- answers ---------------------------------------------------------------------------------------------

    def respond(self, data: Payload = b"", headers: HeadersLike | None = None) -> Awaitable[None]:
        """Answer, or send a part of the answer where the endpoint is a streaming one.

        :returns: what :meth:`~pynats_twisted.NatsClient.publish` returns: awaiting it gives back-pressure.
        :raises RequestAnsweredError: it was answered already.
        :raises InvalidArgumentError: an empty part of a streaming answer without headers: that would be taken for the end.

        What :meth:`~pynats_twisted.NatsClient.publish` raises is raised here too; the request is not answered then.
        """
        streaming = self.endpoint.streaming
        if streaming and not data and not headers:
            raise InvalidArgumentError(f"an empty part of an answer of {self.endpoint.name!r} without headers would be its end: use end()")
        return self._send(data, headers, not streaming)

    def respond_json(self, value: Any, headers: HeadersLike | None = None) -> Awaitable[None]:
        """:meth:`respond` with a value as JSON.

        :raises InvalidArgumentError: JSON cannot express it.
        """
        try:
            data = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgumentError(f"the answer of {self.endpoint.name!r} cannot be written as JSON: {error}") from error
        return self.respond(data, headers)

    def respond_error(self, code: int, description: str, data: Payload = b"", headers: HeadersLike | None = None) -> Awaitable[None]:
        """Answer with an error, which the statistics count. It ends a streaming answer.

        :param code: a whole number of at least 1; those of HTTP are the custom.
        :param description: for the caller to read; not empty. Line breaks and control characters in it are sent as spaces.
        :raises InvalidArgumentError: the code or the description breaks its rule.
        :raises RequestAnsweredError: it was answered already.

        What :meth:`~pynats_twisted.NatsClient.publish` raises is raised here too; the request is not answered then.
        """
        error = ServiceError(code, description, data, headers)
        sent = self.send_error(error)
        self.counters.count_error(error)
        return sent

    def end(self) -> Awaitable[None]:
        """End a streaming answer.

        :raises ServiceConfigError: the endpoint is not a streaming one.
        :raises RequestAnsweredError: it has ended already.
        """
        if not self.endpoint.streaming:
            raise ServiceConfigError(f"endpoint {self.endpoint.name!r} is not a streaming one: its answers have one part, and no end")
        return self._send(b"", None, True)

    def send_error(self, error: ServiceError) -> Awaitable[None]:
        """Answer with an error, without counting it. For the endpoint; handlers raise it, or use :meth:`respond_error`."""
        headers = Headers(error.headers)
        headers.update(error_headers(error.code, error.description))
        return self._send(error.data, headers, True)

    def _send(self, data: Payload, headers: HeadersLike | None, last: bool) -> Awaitable[None]:
        if self.answered:
            raise RequestAnsweredError(f"the request on {self.subject!r} was answered already")
        reply = self.msg.reply
        sent = self.endpoint.service.client.publish(reply, data, None, headers) if reply else DONE
        # Not before: an answer that could not be sent leaves room for an error.
        self.answered = last
        return sent
