"""What a client of either kind, on Twisted or blocking, tells of itself: where it stands, what happened to it, and its counters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..errors import NatsError


class ClientStatus(Enum):
    """Where a client stands."""

    DISCONNECTED = "disconnected"
    """New: nothing was begun."""
    CONNECTING = "connecting"
    """On its way to its first connection."""
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    """It was connected, and looks for a server again."""
    DRAINING = "draining"
    """``drain()`` was called: what was received is being handled, what was published is being sent."""
    CLOSED = "closed"
    """For good."""


@dataclass(frozen=True)
class StatusEvent:
    """The base of all that listeners get."""


@dataclass(frozen=True)
class Connected(StatusEvent):
    """The first connection is up. ``url`` has no credentials in it, here and below."""

    url: str


@dataclass(frozen=True)
class Reconnected(StatusEvent):
    """A connection is up again: the subscriptions were renewed and the reconnect buffer was sent."""

    url: str


@dataclass(frozen=True)
class Disconnected(StatusEvent):
    """A connection that was up has ended.

    :ivar error: why, or None where nobody said.
    :ivar unconfirmed: publishes that were handed to this connection after the last answered PING: each of them may have
        reached the server or not. What waits in the reconnect buffer is not counted; it will be sent.
    """

    url: str
    error: BaseException | None
    unconfirmed: int


@dataclass(frozen=True)
class ConnectFailed(StatusEvent):
    """An attempt to connect failed; others may follow."""

    url: str
    error: BaseException


@dataclass(frozen=True)
class DiscoveredServers(StatusEvent):
    """Servers joined the pool that were never in it before."""

    urls: tuple[str, ...]


@dataclass(frozen=True)
class LameDuck(StatusEvent):
    """The server of now will close its connections soon. With ``leave_on_lame_duck`` the client moves to another."""

    url: str


@dataclass(frozen=True)
class SlowConsumer(StatusEvent):
    """A subscription had more waiting than it may. Told once an episode: again when it caught up and fell behind anew.

    :ivar subscription: the client's own object.
    :ivar dropped: messages that it dropped so far, since its beginning.
    """

    subscription: Any
    dropped: int


@dataclass(frozen=True)
class ServerErrorEvent(StatusEvent):
    """The server reported an error, or broke the protocol."""

    error: NatsError


@dataclass(frozen=True)
class PublishDropped(StatusEvent):
    """A publish of the reconnect buffer does not fit the limits of the server that the client came to, and was not sent."""

    subject: str
    error: NatsError


@dataclass(frozen=True)
class Closed(StatusEvent):
    """The client is closed for good.

    :ivar error: why, or None when it was ``close()`` or ``drain()``.
    :ivar undelivered: publishes that waited to be sent, and were not.
    """

    error: BaseException | None
    undelivered: int


@dataclass
class CommonStats:
    """Counters over a client's whole life. Bytes of what came in are those of the payloads; of what went out, whole PUBs and HPUBs."""

    in_msgs: int = 0
    in_bytes: int = 0
    out_msgs: int = 0
    out_bytes: int = 0
    reconnects: int = 0
    dropped_msgs: int = 0
    late_replies: int = 0
    listener_errors: int = 0
    server_errors: int = 0
