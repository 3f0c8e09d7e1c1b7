"""What a webhook sends: the bytes of the HTTP request for a message."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pynats_twisted._version import __version__
from pynats_twisted.bridge.headers import RequestHeaders
from pynats_twisted.bridge.loops import PATH_HEADER, LoopGuard
from pynats_twisted.bridge.signing import WebhookSigner, webhook_id
from pynats_twisted.bridge.webhook_config import TargetURL, WebhookConfig, parse_target
from pynats_twisted.errors import ConfigurationError

if TYPE_CHECKING:
    from pynats_twisted.protocol.headers import Headers

MSG_ID_HEADER: Final = "Nats-Msg-Id"
REPLAY_HEADER: Final = "Nats-Bridge-Replay"

_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# Printable ASCII without the percent sign, which the quoted rest needs.
_SUBJECT_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


@dataclass(frozen=True)
class Outgoing:
    """A message on its way to the target.

    :ivar subject: where it was published.
    :ivar headers: its headers.
    :ivar data: its payload.
    :ivar stream: its stream.
    :ivar seq: its sequence there.
    :ivar delivered: how often NATS has delivered it.
    :ivar replay: how often it was sent again as a dead letter; 0 for one that is none.
    """

    subject: str
    headers: Headers
    data: bytes
    stream: str
    seq: int
    delivered: int
    replay: int = 0

    @property
    def id(self) -> str:
        """Its ``webhook-id``, the same at every attempt."""
        return webhook_id(self.headers.get(MSG_ID_HEADER), self.stream, self.seq)


class RequestMaker:
    """Makes the requests of one route.

    :param config: the route's keys.
    :param guard: continues the path of bridges that a message has passed.
    :param report: is told which headers could not be passed on: those with control characters, or that are not UTF-8.
    :raises ConfigurationError: a secret cannot be read or used; the text does not contain it.

    :ivar target: the parts of the URL.
    """

    def __init__(self, config: WebhookConfig, guard: LoopGuard, report: Callable[[str], object] = lambda detail: None) -> None:
        self._report = report
        self.target: TargetURL = parse_target(config.url)
        self._guard = guard
        self._content_type = config.content_type
        self._signer = WebhookSigner(config.sign.values()) if config.sign is not None else None
        # The same rules as for headers that go from HTTP to NATS, in the other direction.
        self._allowed = RequestHeaders(config.request_headers, make_trace=config.tracing)
        self._start = self._fixed_part(config)

    def _fixed_part(self, config: WebhookConfig) -> str:
        lines = [
            f"{config.method} {self.target.path} HTTP/1.1",
            f"Host: {self.target.authority}",
            f"User-Agent: nats-bridge/{__version__}",
        ]
        if not any(name.lower() == "accept" for name in config.headers):
            lines.append("Accept: */*")
        for name, secret in config.headers.items():
            value = secret.value
            if not value.isprintable() or not value.isascii():
                raise ConfigurationError(f"headers: the value of {name} (from {secret.source}) is not printable ASCII")
            lines.append(f"{name}: {value}")
        return "\r\n".join(lines) + "\r\n"

    def make(self, message: Outgoing, now: float) -> bytes:
        """The bytes of the request.

        :param now: seconds since 1970.
        """
        timestamp = int(now)
        message_id = message.id
        passed = self._passed(message.headers)
        lines = [f"{name}: {value}" for name, value in passed.multi_items()]
        if passed.get("Content-Type") is None:
            lines.append(f"Content-Type: {self._content_type}")
        lines += [
            f"Content-Length: {len(message.data)}",
            f"webhook-id: {message_id}",
            f"webhook-timestamp: {timestamp}",
            f"Nats-Subject: {_quoted(message.subject)}",
            f"Nats-Stream: {_quoted(message.stream)}",
            f"Nats-Sequence: {message.seq}",
            f"Nats-Delivered: {message.delivered}",
            f"{PATH_HEADER}: {self._guard.path_out(message.headers)}",
        ]
        if message.replay:
            lines.append(f"{REPLAY_HEADER}: {message.replay}")
        if self._signer is not None:
            lines.append(f"webhook-signature: {self._signer.sign(message_id, timestamp, message.data)}")
        head = self._start + "\r\n".join(lines) + "\r\n\r\n"
        return head.encode("utf-8") + message.data

    def _passed(self, headers: Headers) -> Headers:
        found: dict[bytes, list[bytes]] = {}
        for name, value in headers.multi_items():
            try:
                raw = value.encode("utf-8")
            except UnicodeEncodeError:
                raw = b"\x00"
            if name.isascii() and _BAD_VALUE.search(raw) is None:
                found.setdefault(name.lower().encode("ascii"), []).append(raw)
            else:
                # A message is not stopped by one of its headers.
                self._report(f"header {name[:64]!r}")
        return self._allowed.to_nats(found)


def _quoted(text: str) -> str:
    """A text as a part of a header: what is not printable ASCII is percent-encoded."""
    return quote(text, safe=_SUBJECT_SAFE, errors="surrogateescape")
