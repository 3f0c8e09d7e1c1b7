"""A NATS client for Twisted on a sans-IO core, and ``twist nats-bridge``.

The public names are loaded when they are first used, so that ``import pynats_twisted.protocol`` brings neither Twisted nor
zope.interface with it, and no import of this package installs a reactor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pynats_twisted._version import __version__

if TYPE_CHECKING:
    from pynats_twisted import blocking, errors
    from pynats_twisted.client.client import NatsClient, connect
    from pynats_twisted.client.connection import NatsProtocol
    from pynats_twisted.client.factory import NatsClientFactory
    from pynats_twisted.client.service import NatsService
    from pynats_twisted.client.subscription import Subscription
    from pynats_twisted.protocol.headers import Headers
    from pynats_twisted.protocol.options import ClientOptions
    from pynats_twisted.protocol.twin import Msg

__all__ = [
    "ClientOptions",
    "Headers",
    "Msg",
    "NatsClient",
    "NatsClientFactory",
    "NatsProtocol",
    "NatsService",
    "Subscription",
    "__version__",
    "blocking",
    "connect",
    "errors",
]

# Where each public name lives. The imports above say the same to type checkers; a test holds the two together.
_HOMES = {
    "ClientOptions": "pynats_twisted.protocol.options",
    "Headers": "pynats_twisted.protocol.headers",
    "Msg": "pynats_twisted.protocol.twin",
    "NatsClient": "pynats_twisted.client.client",
    "NatsClientFactory": "pynats_twisted.client.factory",
    "NatsProtocol": "pynats_twisted.client.connection",
    "NatsService": "pynats_twisted.client.service",
    "Subscription": "pynats_twisted.client.subscription",
    "connect": "pynats_twisted.client.client",
}


def __getattr__(name: str) -> Any:
    if name in ("blocking", "errors"):
        value: Any = import_module(f"pynats_twisted.{name}")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
