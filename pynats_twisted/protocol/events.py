"""What a connection tells its user: events, and their types."""

from __future__ import annotations

from enum import Enum
from typing import Any


class EventType(Enum):
    """The types of events, each with what its ``body`` is."""

    CONNECT_REQUEST = "connect-request"
    """The first INFO came; ``connect()`` is due, and TLS before it when :attr:`ConnectionProtocol.tls_upgrade_due` says so.
    Body: ServerInfo."""
    CONNECTED = "connected"
    """The first PONG came. Body: ServerInfo."""
    INFO = "info"
    """A later INFO came. Body: ServerInfo."""
    MSG = "msg"
    """A message for a subscription. Body: the :class:`Msg`, which is the event itself."""
    UNSUBSCRIBED = "unsubscribed"
    """A subscription got the last message of its limit and is gone. Body: its SubscriptionRecord."""
    PONG = "pong"
    """A PING of ours was answered. Body: how many are still outstanding."""
    ERROR = "error"
    """The server said ``-ERR``, or it broke the protocol. Body: the error, a NatsError; ``body.message`` is its text."""
    CLOSED = "closed"
    """The connection has ended. Body: a :class:`Closed`."""


class Event:
    """An event with a ``type`` and a ``body``. It is equal to its type: ``event == EventType.PONG``."""

    __slots__ = ("body", "type")

    def __init__(self, type: EventType, body: Any = None) -> None:
        self.type = type
        self.body = body

    def __eq__(self, other: object) -> bool:
        if isinstance(other, EventType):
            return self.type is other
        return self is other

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __repr__(self) -> str:
        return f"<Event {self.type.name} {self.body!r}>"


class CloseReason(Enum):
    """Who ended a connection."""

    TRANSPORT = "transport"
    SERVER = "server"
    CLIENT = "client"
    PROTOCOL_ERROR = "protocol-error"


class Closed:
    """The body of a CLOSED event.

    :ivar reason: who ended the connection.
    :ivar error: the error that ended it, or the last one that the server reported before, or None.
    """

    __slots__ = ("error", "reason")

    def __init__(self, reason: CloseReason, error: BaseException | None) -> None:
        self.reason = reason
        self.error = error

    def __repr__(self) -> str:
        return f"<Closed by {self.reason.value}: {self.error!r}>"
