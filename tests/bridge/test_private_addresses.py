"""Addresses that a route must not be lured to."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.private_addresses import PublicReactor, is_private

PRIVATE = (
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::7f00:1", "64:ff9b:1::1", "2001::1",
    "localhost", "", "1", "0x7f.1", "127.1",
)  # fmt: skip
PUBLIC = ("1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2a00:1450::1")


class IsPrivateTests(SynchronousTestCase):
    """:func:`is_private`."""

    def test_private(self) -> None:
        """Loopback, private networks, link-local with the metadata services, and all their disguises."""
        self.assertEqual([host for host in PRIVATE if not is_private(host)], [])

    def test_public(self) -> None:
        """Addresses of the internet."""
        self.assertEqual([host for host in PUBLIC if is_private(host)], [])

    @given(st.ip_addresses(v=4))
    def test_disguises(self, address: ipaddress.IPv4Address) -> None:
        """An IPv4 address inside an IPv6 one is what it is outside."""
        expected = is_private(str(address))
        number = int(address)
        for disguise in (f"::ffff:{address}", str(ipaddress.IPv6Address((0x64FF9B << 96) | number)), f"::{address}"):
            if number > 0xFFFF:
                self.assertEqual(is_private(disguise), expected, disguise)


class Resolver:
    """A name server that a test owns."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = hosts

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *args: Any) -> Any:  # noqa: N802, N803
        receiver.resolutionBegan(self)
        for host in self.hosts:
            receiver.addressResolved((IPv6Address if ":" in host else IPv4Address)("TCP", host, portNumber))
        receiver.resolutionComplete()
        return self

    name = "host.example"

    def cancel(self) -> None:
        """Nothing to cancel."""


class PublicReactorTests(SynchronousTestCase):
    """:class:`PublicReactor`, below Twisted's own endpoint."""

    def connect(self, *hosts: str) -> tuple[MemoryReactorClock, PublicReactor, Any]:
        memory: Any = MemoryReactorClock()
        memory.nameResolver = Resolver(*hosts)
        reactor = PublicReactor(memory)
        endpoint = HostnameEndpoint(reactor, "host.example", 443)
        return memory, reactor, endpoint.connect(Factory.forProtocol(Protocol))

    def test_public(self) -> None:
        """A public address is connected to, exactly as it was resolved."""
        memory, _, _ = self.connect("8.8.8.8")
        self.assertEqual([client[:2] for client in memory.tcpClients], [("8.8.8.8", 443)])

    def test_private(self) -> None:
        """A name with private addresses alone is not connected to, and which they are is known."""
        memory, reactor, connecting = self.connect("169.254.169.254", "::1")
        self.failureResultOf(connecting, DNSLookupError)
        self.assertEqual(memory.tcpClients, [])
        self.assertEqual(reactor.nameResolver.refused, ["169.254.169.254", "::1"])

    def test_both(self) -> None:
        """Of a name with both, the public ones are used."""
        memory, _, _ = self.connect("10.0.0.1", "8.8.8.8")
        memory.advance(10)
        self.assertEqual([client[0] for client in memory.tcpClients], ["8.8.8.8"])
