"""Addresses that a route must not be lured to: those of the machine itself, its networks, and cloud metadata services.

A name is resolved, its addresses are checked, and exactly those are connected to, so that a name server that answers differently
the second time gains nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
)
from zope.interface import implementer

# Networks with IPv4 addresses inside: what is translated counts as what it is translated to.
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.ip_network("::/96")
_MORE_PRIVATE: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "64:ff9b:1::/48",
        "fec0::/10",
        "2001::/23",
        "5f00::/16",
    )
)


def is_private(host: str) -> bool:
    """Whether an IP address is not one of the public internet: loopback, private, link-local, multicast, reserved, unspecified.

    IPv4 addresses inside IPv6 ones are looked at too.

    :param host: an IPv4 or IPv6 address, perhaps with a zone. A text that is no address counts as private.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return True
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and (address in _NAT64 or address in _COMPATIBLE):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_private(str(inner))
    return not address.is_global or address.is_multicast or address.is_reserved or any(address in network for network in _MORE_PRIVATE)


def is_address(host: str) -> bool:
    """Whether a host of a URL is an IP address and not a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


@implementer(IResolutionReceiver)
class _PublicReceiver:
    """Passes on the addresses that are public."""

    def __init__(self, receiver: Any, refused: Any) -> None:
        self._receiver = receiver
        self._refused = refused

    def resolutionBegan(self, resolution: IHostResolution) -> None:  # noqa: N802 - called by Twisted
        self._receiver.resolutionBegan(resolution)

    def addressResolved(self, address: IAddress) -> None:  # noqa: N802 - called by Twisted
        host = getattr(address, "host", "")
        if is_private(host):
            self._refused(host)
        else:
            self._receiver.addressResolved(address)

    def resolutionComplete(self) -> None:  # noqa: N802 - called by Twisted
        self._receiver.resolutionComplete()


@implementer(IHostnameResolver)
class PublicResolver:
    """Resolves names to their public addresses only.

    :param resolver: resolves names.

    :ivar refused: the addresses that were left out the last time.
    """

    def __init__(self, resolver: Any) -> None:
        self._resolver = resolver
        self.refused: list[str] = []

    def resolveHostName(  # noqa: N802 - called by Twisted
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        """See :class:`twisted.internet.interfaces.IHostnameResolver`."""
        self.refused = []
        receiver = _PublicReceiver(resolutionReceiver, self.refused.append)
        resolution: IHostResolution = self._resolver.resolveHostName(receiver, hostName, portNumber, addressTypes, transportSemantics)
        return resolution


@implementer(IReactorPluggableNameResolver, IReactorTCP, IReactorTime)
class PublicReactor:
    """A reactor for endpoints that shall not connect to private addresses by name.

    :param reactor: the reactor that does the work.

    :ivar nameResolver: resolves to public addresses only.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.nameResolver = PublicResolver(reactor.nameResolver)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
