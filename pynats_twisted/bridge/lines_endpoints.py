"""Where lines come from: the endpoints that routes for lines understand, and who may send there."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IReactorPluggableNameResolver
from zope.interface import implementer

from pynats_twisted.bridge.endpoints import ListenAddress, endpoint_problem, listen_address

DIAL: Final = "client:"
"""What an endpoint begins with that the bridge connects to instead of listening on it."""

Network = IPv4Network | IPv6Network

_UDP = re.compile(r"udp:(?:port=)?[0-9]+(?::(?:interface=)?(?:[^:\\=]|\\.)*)?")


@implementer(IReactorPluggableNameResolver)
class _NoReactor:
    """Stands for a reactor while an endpoint string is only read."""

    nameResolver: Any = None  # noqa: N815

    def installNameResolver(self, resolver: Any) -> Any:  # noqa: N802
        """Nothing is resolved here."""
        return resolver


def lines_endpoint_problem(description: str) -> str | None:
    """Why *description* is no endpoint that lines can come from, in words; None when it is one. Opens nothing."""
    if description.startswith("udp:"):
        if _UDP.fullmatch(description) is None:
            return "not of the form udp:PORT:interface=ADDRESS"
        try:
            udp_address(description)
        except ValueError as error:
            return str(error)
        return None
    if not description.startswith(DIAL):
        return endpoint_problem(description)
    try:
        clientFromString(_NoReactor(), description.removeprefix(DIAL))
    except Exception as error:  # noqa: BLE001
        # A parser is a plugin of anybody: whatever it raises says that this description is not one of its own.
        return f"{type(error).__name__}: {error}"
    return None


def udp_address(description: str) -> ListenAddress:
    """Where a ``udp:`` endpoint listens.

    :raises ValueError: the port is no port, or the interface no IP address.
    """
    address = listen_address(description)
    if address is None or address.family != "udp":
        raise ValueError("no udp: endpoint")
    if address.host:
        ip_address(address.host)
    return address


class AllowList:
    """Which addresses may send.

    :param networks: the networks; with none, every address may.
    """

    def __init__(self, networks: tuple[Network, ...]) -> None:
        self._networks = networks

    def allows(self, host: str | None) -> bool:
        """Whether a peer with this address may; one without an address (``None``) may only where every one may."""
        if not self._networks:
            return True
        if host is None:
            return False
        address = ip_address(plain_host(host).partition("%")[0])
        return any(address in network for network in self._networks)


def plain_host(host: str) -> str:
    """An IPv4 address that came as an IPv6 one (``::ffff:10.0.0.1``) in its own form; others as they are."""
    if host.lower().startswith("::ffff:"):
        mapped = IPv6Address(host.partition("%")[0]).ipv4_mapped
        if mapped is not None:
            return str(mapped)
    return host
