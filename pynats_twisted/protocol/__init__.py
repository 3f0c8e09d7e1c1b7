"""NATS as a pure state machine: bytes in, events out, bytes to send.

Nothing in this package imports Twisted, opens a socket or reads a clock. :class:`ConnectionProtocol` is where to start.
"""

from __future__ import annotations

from .connection import ConnectionProtocol
from .events import Closed, CloseReason, Event, EventType
from .headers import Headers
from .info import ServerInfo
from .options import ClientOptions
from .servers import Server, ServerPool
from .state import ConnectionState
from .subjects import new_inbox
from .twin import Msg, implementation

__all__ = [
    "ClientOptions",
    "CloseReason",
    "Closed",
    "ConnectionProtocol",
    "ConnectionState",
    "Event",
    "EventType",
    "Headers",
    "Msg",
    "Server",
    "ServerInfo",
    "ServerPool",
    "implementation",
    "new_inbox",
]
