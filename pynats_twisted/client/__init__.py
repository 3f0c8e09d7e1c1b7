"""The Twisted client."""

from __future__ import annotations

from .client import NatsClient, connect
from .connection import NatsProtocol
from .connector import NatsConnector
from .factory import NatsClientFactory
from .request_many import RequestMany
from .service import NatsService
from .status import ClientStatus
from .subscription import Subscription

__all__ = [
    "ClientStatus",
    "NatsClient",
    "NatsClientFactory",
    "NatsConnector",
    "NatsProtocol",
    "NatsService",
    "RequestMany",
    "Subscription",
    "connect",
]
