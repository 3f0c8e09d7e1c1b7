"""Dead letters of a route over HTTP: listed, sent again, deleted."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from twisted.logger import Logger

from pynats_twisted.bridge.admin.page import json_response
from pynats_twisted.bridge.admin.problems import BAD_ARGUMENT, NATS_FAILED, NATS_TIMEOUT, NO_STREAM, NOT_OFFERED, UNKNOWN_ROUTE
from pynats_twisted.bridge.admin.tap import REDACTED, is_secret, preview
from pynats_twisted.bridge.interfaces import DeadLetter, IDeadLetters
from pynats_twisted.bridge.paths import parse_query
from pynats_twisted.bridge.problem import DISCONNECTED, Response
from pynats_twisted.errors import (
    ConnectionClosedError,
    DisconnectedError,
    NatsError,
    NatsTimeoutError,
    StreamNotFoundError,
    TemplateValueError,
)

if TYPE_CHECKING:
    from pynats_twisted.bridge.admin.bridge import AdminBridge
    from pynats_twisted.bridge.admin.guard import Guard
    from pynats_twisted.bridge.http_message import HTTPRequest

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 1000
MAX_SHOWN: Final = 1024
"""Bytes of a payload that are shown."""

_log = Logger()


class Choice(Struct, forbid_unknown_fields=True):
    """Which dead letters, as the body of a request: ``{"seqs": [1, 2]}`` or ``{"all": true}``."""

    seqs: Annotated[list[Annotated[int, Meta(ge=1)]], Meta(min_length=1, max_length=1000)] | None = None
    all: bool = False


_CHOICE: Final = msgspec.json.Decoder(Choice)


class DeadLetterPages:
    """The pages below ``/routes/NAME/dlq``.

    :param bridge: the bridge.
    :param guard: says who may see contents.
    """

    def __init__(self, bridge: AdminBridge, guard: Guard) -> None:
        self._bridge = bridge
        self._guard = guard

    def list(self, request: HTTPRequest) -> Response | Awaitable[Response]:
        """``GET``: the newest, at most ``limit``."""
        letters, refused = self._letters(request)
        limit = number_in(request, "limit", DEFAULT_LIMIT, MAX_LIMIT)
        if refused is not None:
            return refused
        if limit is None:
            return request.problem(BAD_ARGUMENT, detail=f"limit is a whole number from 1 to {MAX_LIMIT}.")
        return self._list(request, letters, limit)

    async def _list(self, request: HTTPRequest, letters: Any, limit: int) -> Response:
        is_trusted = self._guard.is_trusted(request)
        try:
            found = await letters.dead_letters(limit)
        except NatsError as error:
            return failed(request, error)
        content = {"route": request.values["name"], "contents": is_trusted, "dead_letters": [shown(letter, is_trusted) for letter in found]}
        return json_response(200, content)

    def replay(self, request: HTTPRequest) -> Response | Awaitable[Response]:
        """``POST``: send some, or all, to where they were going."""
        return self._change(request, "replay_dead_letters", "replayed")

    def delete(self, request: HTTPRequest) -> Response | Awaitable[Response]:
        """``POST``: delete some, or all."""
        return self._change(request, "delete_dead_letters", "deleted")

    def _change(self, request: HTTPRequest, method: str, done: str) -> Response | Awaitable[Response]:
        letters, refused = self._letters(request)
        if refused is not None:
            return refused
        try:
            choice = _CHOICE.decode(request.body)
        except msgspec.DecodeError as error:
            return request.problem(BAD_ARGUMENT, detail=f'The body is not {{"seqs": [1, 2]}} or {{"all": true}}: {error}.')
        if choice.all == (choice.seqs is not None):
            return request.problem(BAD_ARGUMENT, detail='The body says either which: {"seqs": [1, 2]}, or all of them: {"all": true}.')
        return self._do(request, getattr(letters, method), choice.seqs, done)

    async def _do(self, request: HTTPRequest, call: Any, seqs: Any, done: str) -> Response:
        name = request.values["name"]
        try:
            count = await call(seqs)
        except NatsError as error:
            return failed(request, error)
        _log.info(
            "route {route}: {count} dead letters {done} by request from {peer}", route=name, count=count, done=done, peer=request.peer
        )
        return json_response(200, {"route": name, done: count, "asked": len(seqs) if seqs is not None else None})

    def _letters(self, request: HTTPRequest) -> tuple[Any, Response | None]:
        route = self._bridge.routes.get(request.values["name"])
        if route is None:
            return None, request.problem(UNKNOWN_ROUTE)
        letters = IDeadLetters(route, None)
        return letters, request.problem(NOT_OFFERED, detail="The route keeps no dead letters.") if letters is None else None


def shown(letter: DeadLetter, contents: bool) -> dict[str, Any]:
    """A dead letter as plain values."""
    found: dict[str, Any] = {
        "seq": letter.seq,
        "subject": letter.subject,
        "error": letter.error,
        "attempts": letter.attempts,
        "time": letter.time,
        "size": len(letter.data),
        "headers": [
            [name, value if contents and not is_secret(name) else REDACTED] for name, values in letter.headers.items() for value in values
        ],
    }
    return found | preview(letter.data, len(letter.data), MAX_SHOWN) if contents else found


def failed(request: HTTPRequest, error: NatsError) -> Response:
    """The response when NATS did not do something."""
    kinds = (
        (StreamNotFoundError, NO_STREAM),
        (NatsTimeoutError, NATS_TIMEOUT),
        ((DisconnectedError, ConnectionClosedError), DISCONNECTED),
    )
    problem = next((problem for kind, problem in kinds if isinstance(error, kind)), NATS_FAILED)
    return request.problem(problem, detail=str(error))


def number_in(request: HTTPRequest, name: str, default: int, most: int) -> int | None:
    """A whole number from 1 to *most* of the query, or *default*; None where something else is there."""
    try:
        values = parse_query(request.query).get(name, [str(default)])
    except TemplateValueError:
        return None
    text = values[0]
    if len(values) != 1 or not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    return int(text) if 1 <= int(text) <= most else None
