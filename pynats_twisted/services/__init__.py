"""Services (ADR-32): programs that answer requests, can be found by others, and tell what they have done.

:meth:`pynats_twisted.NatsClient.add_service` begins one, :class:`ServiceDiscovery` finds those that there are, and :class:`ServiceClient`
uses them. The names here are what users need by name; they are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answers import Answers
    from .api import EndpointInfo, EndpointStats, Info, Ping, Stats, error_headers, response_error
    from .caller import ServiceClient, ServiceReplies
    from .config import INHERITED, ServiceConfig
    from .discovery import ServiceDiscovery
    from .endpoint import Endpoint
    from .groups import Group
    from .middleware import CallNext, Middleware, RequestHandler
    from .request import ServiceRequest
    from .service import Service

__all__ = [
    "INHERITED",
    "Answers",
    "CallNext",
    "Endpoint",
    "EndpointInfo",
    "EndpointStats",
    "Group",
    "Info",
    "Middleware",
    "Ping",
    "RequestHandler",
    "Service",
    "ServiceClient",
    "ServiceConfig",
    "ServiceDiscovery",
    "ServiceReplies",
    "ServiceRequest",
    "Stats",
    "error_headers",
    "response_error",
]

# The modules that they live in. The imports above say the same to type checkers; a test holds the two together.
_HOMES = {
    "INHERITED": "config",
    "Answers": "answers",
    "CallNext": "middleware",
    "Endpoint": "endpoint",
    "EndpointInfo": "api",
    "EndpointStats": "api",
    "Group": "groups",
    "Info": "api",
    "Middleware": "middleware",
    "Ping": "api",
    "RequestHandler": "middleware",
    "Service": "service",
    "ServiceClient": "caller",
    "ServiceConfig": "config",
    "ServiceDiscovery": "discovery",
    "ServiceReplies": "caller",
    "ServiceRequest": "request",
    "Stats": "api",
    "error_headers": "api",
    "response_error": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
