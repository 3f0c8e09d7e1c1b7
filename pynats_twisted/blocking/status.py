"""What a blocking client tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

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

__all__ = [
    "ClientStats",
    "ClientStatus",
    "Closed",
    "ConnectFailed",
    "Connected",
    "Disconnected",
    "DiscoveredServers",
    "LameDuck",
    "PublishDropped",
    "Reconnected",
    "ServerErrorEvent",
    "SlowConsumer",
    "StatusEvent",
]


@dataclass
class ClientStats(CommonStats):
    """Counters over a client's whole life. Bytes of what came in are those of the payloads; of what went out, whole PUBs and HPUBs.

    :ivar unconfirmed: publishes that were handed to connections which were lost before a PONG confirmed them.
    """

    unconfirmed: int = 0
