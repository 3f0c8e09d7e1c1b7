"""A NATS client for programs without a reactor: every call does its work and returns. It starts no thread and loads no Twisted.

::

    from pynats_twisted import blocking

    with blocking.connect("nats://127.0.0.1:4222") as nc:
        print(nc.request("time.now").data)

:func:`connect` is where to start. Nothing happens between the calls: :doc:`/howto/blocking` says what that means.
"""

from __future__ import annotations

from .client import BlockingClient, connect
from .status import (
    ClientStats,
    ClientStatus,
    Closed,
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
from .subscription import BlockingSubscription

__all__ = [
    "BlockingClient",
    "BlockingSubscription",
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
    "connect",
]
