"""Events as they go over the wire (the HTML standard's "server-sent events"), made of messages once for all clients."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

import msgspec

from pynats_twisted.bridge.sse_filter import wildcard_values
from pynats_twisted.errors import TemplateError

if TYPE_CHECKING:
    from pynats_twisted.jetstream.message import JsMsg
    from pynats_twisted.jetstream.stored import StoredMsg
    from pynats_twisted.protocol.headers import Headers

Format = Literal["raw", "json"]

HEARTBEAT: Final = b": hb\n\n"
"""A comment: no event comes of it, and proxies see that the connection lives."""

EVENT_RULE: Final = "text without line breaks, with {subject}, or {1} and so on for the wildcards of the filter"

_EVENT_ID = re.compile(r"([a-z2-7]{6})-(0|[1-9][0-9]{0,18})", re.ASCII)
_SHOWABLE = re.compile(r"[!-~]{1,64}", re.ASCII)
_LINE_END = re.compile(rb"\r\n|\n|\r")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

_encode = msgspec.json.encode


class Content(Protocol):
    """What a message is, whichever way it came."""

    @property
    def subject(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def headers(self) -> Headers: ...


class EventId(NamedTuple):
    """The id of an event: which stream, and which message of it.

    :ivar epoch: six characters that are others when a stream of the same name was made anew.
    :ivar seq: the sequence of the message.
    """

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


def parse_event_id(text: str) -> EventId | None:
    """The id that a client brings back; None where no event ever had it."""
    match = _EVENT_ID.fullmatch(text)
    return EventId(match[1], int(match[2])) if match is not None else None


def epoch_of(stream: str, created: datetime | None) -> str:
    """The epoch of a stream that was made at that time."""
    made = f"{stream} {created.isoformat() if created is not None else ''}"
    return base64.b32encode(hashlib.sha256(made.encode()).digest())[:6].decode("ascii").lower()


class EventTemplate:
    """The ``event`` of a route: the name that browsers listen for.

    :param text: literal text with ``{subject}`` and ``{1}`` and so on, for what the wildcards of the filter stand for.
    :raises TemplateError: the text breaks a rule.
    """

    __slots__ = ("_parts",)

    def __init__(self, text: str) -> None:
        parts = _PLACEHOLDER.split(text)
        if not text or not text.isprintable() or any("{" in part or "}" in part for part in parts[0::2]):
            raise TemplateError(f"event {text!r} is not {EVENT_RULE}")
        for name in parts[1::2]:
            if name != "subject" and re.fullmatch("[1-9][0-9]?", name, re.ASCII) is None:
                raise TemplateError(f"event {text!r}: {{{name}}} is no placeholder; allowed: {EVENT_RULE}")
        self._parts = parts

    @property
    def wildcards(self) -> int:
        """How many wildcards the filter has to have."""
        return max((int(name) for name in self._parts[1::2] if name != "subject"), default=0)

    def expand(self, pattern: str, subject: str) -> str:
        """The name for a message. Subjects have no line breaks, so neither has it."""
        values = wildcard_values(pattern, subject)
        parts = self._parts.copy()
        for index in range(1, len(parts), 2):
            name = parts[index]
            if name == "subject":
                parts[index] = subject
            else:
                parts[index] = values[int(name) - 1] if int(name) <= len(values) else ""
        return "".join(parts)


class EventMaker:
    """Makes events of the messages of one filter.

    :param pattern: the filter.
    :param format: ``raw``: the payload is the data; ``json``: an object with subject, sequence, time, headers and payload.
    :param event: makes the name of each event; None for none.
    :param headers: the names of headers that ``json`` shows.
    :param unusable: called for each payload that ``raw`` cannot show.
    """

    __slots__ = ("_event", "_format", "_headers", "_pattern", "_unusable")

    def __init__(
        self, pattern: str, format: Format, event: EventTemplate | None, headers: Sequence[str], unusable: Callable[[], None]
    ) -> None:
        self._pattern = pattern
        self._format = format
        self._event = event
        self._headers = [(name, name.lower()) for name in headers]
        self._unusable = unusable

    def of_delivered(self, epoch: str, msg: JsMsg) -> bytes:
        """The event for what a consumer delivered."""
        metadata = msg.metadata
        return self._make(msg, epoch, metadata.stream_seq, lambda: metadata.timestamp)

    def of_stored(self, epoch: str, msg: StoredMsg) -> bytes:
        """The event for what a direct get brought; the same bytes as for a consumer."""
        return self._make(msg, epoch, msg.seq, lambda: msg.time)

    def of_core(self, msg: Content) -> bytes:
        """The event for a message that is stored nowhere; it has no id."""
        return self._make(msg, "", None, None)

    def _make(self, msg: Content, epoch: str, seq: int | None, time: Callable[[], datetime] | None) -> bytes:
        head = b"id: %b-%d\n" % (epoch.encode("ascii"), seq) if seq is not None else b""
        if self._event is not None:
            head += b"event: " + self._event.expand(self._pattern, msg.subject).encode("utf-8", "replace") + b"\n"
        if self._format == "json":
            return head + b"data: " + self._json(msg, seq, time) + b"\n\n"
        data = msg.data
        if not data.isascii():
            try:
                data.decode("utf-8")
            except UnicodeDecodeError:
                self._unusable()
                return error_event(EventId(epoch, seq) if seq is not None else None)
        if b"\n" in data or b"\r" in data:
            data = b"\ndata: ".join(_LINE_END.split(data))
        return head + b"data: " + data + b"\n\n"

    def _json(self, msg: Content, seq: int | None, time: Callable[[], datetime] | None) -> bytes:
        content: dict[str, Any] = {"subject": msg.subject}
        if seq is not None:
            content["seq"] = seq
        if time is not None:
            content["time"] = time().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._headers and msg.headers:
            found = {shown: msg.headers.get_all(name, ignore_case=True) for shown, name in self._headers}
            content["headers"] = {name: [_text(value) for value in values] for name, values in found.items() if values}
        try:
            content["data"] = msg.data.decode("utf-8")
        except UnicodeDecodeError:
            content["data"] = base64.b64encode(msg.data).decode("ascii")
            content["encoding"] = "base64"
        return _encode(content)


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode("utf-8")


# --- events of the bridge's own ------------------------------------------------------------------------------


def error_event(event_id: EventId | None) -> bytes:
    """Instead of a message whose payload is not UTF-8."""
    head = f"id: {event_id}\n".encode("ascii") if event_id is not None else b""
    return head + b'event: error\ndata: {"reason":"not-utf-8"}\n\n'


def id_only(event_id: EventId) -> bytes:
    """Gives the client a place to come back to. Browsers keep the id, and make no event of it as there is no data."""
    return f"id: {event_id}\n\n".encode("ascii")


def reset_event(requested: str, epoch: str, first: int, last: int, base: EventId | None) -> bytes:
    """Says that what lies between the id that was asked for and what comes now may be lost.

    :param requested: the id as the client sent it.
    :param first: the sequence of the first message that the stream has.
    :param last: that of the last.
    :param base: from where it goes on.
    """
    content = {
        "requested": requested if _SHOWABLE.fullmatch(requested) else None,
        "first": str(EventId(epoch, first)),
        "last": str(EventId(epoch, last)),
    }
    head = f"id: {base}\n".encode("ascii") if base is not None else b""
    return head + b"event: reset\ndata: " + _encode(content) + b"\n\n"


def dropped_event(count: int) -> bytes:
    """Says that so many messages were not sent, because the client did not read."""
    return b'event: dropped\ndata: {"count":%d}\n\n' % count


def retry_field(seconds: float, spread: float) -> bytes:
    """How long the client is to wait before it comes back: *seconds* up to *spread* times as many, chosen at random."""
    return b"retry: %d\n\n" % round(seconds * 1000 * random.uniform(1.0, spread))
