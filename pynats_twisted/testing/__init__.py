"""What tests of programs on NATS need: a server in memory and in virtual time, real servers under control, certificates, and accounts.

Nothing else in this package imports it, and its public names are loaded when they are first used: a test that needs only a
server does not need the packages that certificates and accounts are made with.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pynats_twisted.testing.accounts import Account, Operator, User
    from pynats_twisted.testing.case import ConnectedClient, connected_client
    from pynats_twisted.testing.certificates import Certificate, CertificateAuthority, CertificateFiles
    from pynats_twisted.testing.cluster import BlockingServerCluster, ServerCluster
    from pynats_twisted.testing.memory_network import MemoryNetwork
    from pynats_twisted.testing.memory_server import InMemoryServer
    from pynats_twisted.testing.process import BlockingServerProcess, ServerProcess
    from pynats_twisted.testing.program import find_server_program
    from pynats_twisted.testing.server_frames import (
        BrokenFrame,
        ConnectFrame,
        OtherFrame,
        PingFrame,
        PongFrame,
        PublishFrame,
        SubscribeFrame,
        UnsubscribeFrame,
    )
    from pynats_twisted.testing.settings import ServerTLS

__all__ = [
    "Account",
    "BlockingServerCluster",
    "BlockingServerProcess",
    "BrokenFrame",
    "Certificate",
    "CertificateAuthority",
    "CertificateFiles",
    "ConnectFrame",
    "ConnectedClient",
    "InMemoryServer",
    "MemoryNetwork",
    "Operator",
    "OtherFrame",
    "PingFrame",
    "PongFrame",
    "PublishFrame",
    "ServerCluster",
    "ServerProcess",
    "ServerTLS",
    "SubscribeFrame",
    "UnsubscribeFrame",
    "User",
    "connected_client",
    "find_server_program",
]

# Where each public name lives. The imports above say the same to type checkers; a test holds the two together.
_HOMES = {
    "Account": "pynats_twisted.testing.accounts",
    "BlockingServerCluster": "pynats_twisted.testing.cluster",
    "BlockingServerProcess": "pynats_twisted.testing.process",
    "BrokenFrame": "pynats_twisted.testing.server_frames",
    "Certificate": "pynats_twisted.testing.certificates",
    "CertificateAuthority": "pynats_twisted.testing.certificates",
    "CertificateFiles": "pynats_twisted.testing.certificates",
    "ConnectFrame": "pynats_twisted.testing.server_frames",
    "ConnectedClient": "pynats_twisted.testing.case",
    "InMemoryServer": "pynats_twisted.testing.memory_server",
    "MemoryNetwork": "pynats_twisted.testing.memory_network",
    "Operator": "pynats_twisted.testing.accounts",
    "OtherFrame": "pynats_twisted.testing.server_frames",
    "PingFrame": "pynats_twisted.testing.server_frames",
    "PongFrame": "pynats_twisted.testing.server_frames",
    "PublishFrame": "pynats_twisted.testing.server_frames",
    "ServerCluster": "pynats_twisted.testing.cluster",
    "ServerProcess": "pynats_twisted.testing.process",
    "ServerTLS": "pynats_twisted.testing.settings",
    "SubscribeFrame": "pynats_twisted.testing.server_frames",
    "UnsubscribeFrame": "pynats_twisted.testing.server_frames",
    "User": "pynats_twisted.testing.accounts",
    "connected_client": "pynats_twisted.testing.case",
    "find_server_program": "pynats_twisted.testing.program",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
