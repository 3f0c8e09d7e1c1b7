"""What a client tells its listeners: where it stands, and what happened to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..protocol.status import (
    ClientStatus,
    Closed,
    CommonStats,
    Connected,
    ConnectFailed,
    Disconnected,
    DiscoveredServers,
    LameDuck,
    PublishDropped,
    Reconnected,
    ServerErrorEvent,
    SlowConsumer,
    StatusEvent,
)

if TYPE_CHECKING:
    from ..protocol.message import Msg
    from .subscription import Subscription

__all__ = [
    "ClientStats",
    "ClientStatus",
    "Closed",
    "ConnectFailed",
    "Connected",
    "Disconnected",
    "DiscoveredServers",
    "HandlerError",
    "LameDuck",
    "PublishDropped",
    "Reconnected",
    "ServerErrorEvent",
    "SlowConsumer",
    "StatusEvent",
]


@dataclass(frozen=True)
class HandlerError(StatusEvent):
    """A handler raised; it was logged, and the subscription lives on."""

    subscription: Subscription
    message: Msg
    error: BaseException


@dataclass
class ClientStats(CommonStats):
    """Counters over a client's whole life. Bytes of what came in are those of the payloads; of what went out, whole PUBs and HPUBs."""

    handler_errors: int = 0
    dropped_events: int = 0
