"""What a blocking client tells of itself: where it stands, what happened to it, and its counters.

The names are those of the Twisted client's events, which this package cannot take over: they live where Twisted is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..errors import NatsError
    from .subscription import BlockingSubscription


class ClientStatus(Enum):
    """Where a client stands, as far as its last call has seen."""

    DISCONNECTED = "disconnected"
    """New: nothing was begun."""
    CONNECTING = "connecting"
    """It has not been connected yet."""
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    """It was connected; its calls look for a server again."""
    DRAINING = "draining"
    """Inside ``drain()``."""
    CLOSED = "closed"
    """For good."""


@dataclass(frozen=True)
class StatusEvent:
    """The base of all that ``on_event`` gets."""


@dataclass(frozen=True)
class Connected(StatusEvent):
    """The first connection is up. ``url`` has no credentials in it, here and below."""

    url: str


@dataclass(frozen=True)
class Reconnected(StatusEvent):
    """A connection is up again: the subscriptions were renewed, and the reconnect buffer is on its way."""

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

    :ivar dropped: messages that the subscription dropped so far, since its beginning.
    """

    subscription: BlockingSubscription
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
    :ivar undelivered: publishes that were still waiting and were not sent.
    """

    error: BaseException | None
    undelivered: int


@dataclass
class ClientStats:
    """Counters over a client's whole life. Bytes of what came in are those of the payloads; of what went out, whole PUBs and HPUBs.

    :ivar unconfirmed: publishes that were handed to connections which were lost before a PONG confirmed them.
    """

    in_msgs: int = 0
    in_bytes: int = 0
    out_msgs: int = 0
    out_bytes: int = 0
    reconnects: int = 0
    unconfirmed: int = 0
    dropped_msgs: int = 0
    late_replies: int = 0
    listener_errors: int = 0
    server_errors: int = 0
