"""One path of the admin endpoint, as a handler of the listener."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from pynats_twisted.bridge.problem import STOPPING, Response

if TYPE_CHECKING:
    from pynats_twisted.bridge.admin.guard import Guard
    from pynats_twisted.bridge.http import HTTPListener
    from pynats_twisted.bridge.http_message import HTTPRequest, RequestHeaderMap

MAX_BODY: Final = 64 * 1024
"""Bytes of the body of a request that changes something."""

_HEADERS: Final = [
    # Answers tell of this moment.
    (b"Cache-Control", b"no-store"),
    (b"X-Frame-Options", b"DENY"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
]

Answer = Response | Awaitable[Response] | None


class Page:
    """One path.

    :param path: its path template.
    :param answer: makes the response: at once, or as a coroutine, or, having answered the request itself, None.
    :param guard: judges the requests.
    :param changes: whether a request changes something.
    """

    def __init__(self, path: str, answer: Callable[[HTTPRequest], Answer], guard: Guard, *, changes: bool = False) -> None:
        self.name = f"admin{path}"
        self.path = path
        self.max_body = MAX_BODY if changes else 0
        self._answer = answer
        self._guard = guard
        self._changes = changes

    def add_to(self, listener: HTTPListener, methods: Sequence[str]) -> None:
        """Offer it on a listener."""
        listener.add(self.path, methods, self)

    def admit(self, request: HTTPRequest) -> Response | None:
        """Judge a request by its head."""
        return self._guard.refuse(request, changes=self._changes)

    def handle(self, request: HTTPRequest) -> None:
        """Answer a request."""
        answer = self._answer(request)
        if isinstance(answer, Response):
            request.respond(answer)
        elif answer is not None:
            # What was begun is finished also where the client has gone.
            Deferred.fromCoroutine(_await(answer)).addCallbacks(request.respond, lambda failure: self._failed(request, failure))

    @staticmethod
    def _failed(request: HTTPRequest, failure: Failure) -> None:
        if failure.check(CancelledError):
            request.respond(request.problem(STOPPING))
        else:
            request.failed(failure)

    def preflight(self, headers: RequestHeaderMap) -> Response | None:
        """Pages of other origins get nothing."""
        return None

    def responding(self, request: HTTPRequest, response: Response) -> None:
        """Add what all answers have."""
        response.headers.extend(_HEADERS)


async def _await(answer: Awaitable[Response]) -> Response:
    return await answer


def json_response(status: int, content: Any) -> Response:
    """A response with *content* as JSON, for people and programs."""
    body = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
    return Response(status, [(b"Content-Type", b"application/json")], body)
