"""What a client sends to a server, as typed frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pynats_twisted.protocol.headers import Headers, parse_headers


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One thing that a client sent.

    :ivar client_id: the number of the connection that it came on, as in the server's INFO.
    """

    client_id: int = 0


@dataclass(frozen=True, kw_only=True)
class ConnectFrame(Frame):
    """CONNECT.

    :ivar options: what its JSON says, credentials included; not in the repr.
    """

    options: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The name that the client gave itself, or ``""``."""
        return str(self.options.get("name", ""))


@dataclass(frozen=True, kw_only=True)
class PublishFrame(Frame):
    """PUB, or HPUB when there is a header block.

    :ivar header_block: the bytes of the headers, or ``b""``.
    """

    subject: str
    payload: bytes
    reply: str = ""
    header_block: bytes = b""

    @property
    def headers(self) -> Headers:
        """The headers, read; what cannot be read is left out."""
        return parse_headers(self.header_block).headers if self.header_block else Headers()


@dataclass(frozen=True, kw_only=True)
class SubscribeFrame(Frame):
    """SUB.

    :ivar queue: the queue group, or ``""``. :ivar sid: the client's name for it; clients use numbers, a server takes any text.
    """

    subject: str
    sid: str
    queue: str = ""


@dataclass(frozen=True, kw_only=True)
class UnsubscribeFrame(Frame):
    """UNSUB.

    :ivar limit: messages after which it counts, from the subscription's beginning; 0 for at once.
    """

    sid: str
    limit: int = 0


@dataclass(frozen=True, kw_only=True)
class PingFrame(Frame):
    """PING."""


@dataclass(frozen=True, kw_only=True)
class PongFrame(Frame):
    """PONG."""


@dataclass(frozen=True, kw_only=True)
class OtherFrame(Frame):
    """A line that clients need not send and a server passes over: INFO or +OK."""

    line: bytes


@dataclass(frozen=True, kw_only=True)
class BrokenFrame(Frame):
    """Something against the protocol; the server closes the connection.

    :ivar error: the text of the ``-ERR`` that a server sends before it does, or None where it says nothing.
    :ivar start: the first bytes of it.
    """

    error: str | None
    start: bytes
