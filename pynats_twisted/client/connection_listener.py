"""What a connection tells, and to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Protocol as Interface

if TYPE_CHECKING:
    from ..errors import NatsError
    from ..protocol.events import Closed
    from ..protocol.info import ServerInfo
    from ..protocol.twin import SubscriptionRecord
    from .connection import NatsProtocol


class ConnectionListener(Interface):
    """What a :class:`NatsProtocol` tells of its connection."""

    def connection_made(self, protocol: NatsProtocol) -> None:
        """The handshake is complete: subscriptions may be renewed, publishes sent."""

    def connection_ended(self, protocol: NatsProtocol, closed: Closed) -> None:
        """The transport is gone, at whatever point of the connection's life."""

    def info_received(self, protocol: NatsProtocol, info: ServerInfo) -> None:
        """An INFO came after the handshake."""

    def error_received(self, protocol: NatsProtocol, error: NatsError) -> None:
        """The server said ``-ERR``, or it broke the protocol."""

    def subscription_ended(self, protocol: NatsProtocol, record: SubscriptionRecord) -> None:
        """A subscription got the last message of its limit."""


class _Retired:
    """Listens to a connection that nobody needs any more."""

    def connection_made(self, protocol: NatsProtocol) -> None:
        """Nothing."""

    def connection_ended(self, protocol: NatsProtocol, closed: Closed) -> None:
        """Nothing."""

    def info_received(self, protocol: NatsProtocol, info: ServerInfo) -> None:
        """Nothing."""

    def error_received(self, protocol: NatsProtocol, error: NatsError) -> None:
        """Nothing."""

    def subscription_ended(self, protocol: NatsProtocol, record: SubscriptionRecord) -> None:
        """Nothing."""


RETIRED: ConnectionListener = _Retired()
