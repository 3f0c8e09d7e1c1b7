"""A client in a test, in one line: connected to a server in memory, and cleaned up with the test."""

from __future__ import annotations

from typing import Any, NamedTuple
from typing import Protocol as Interface

from pynats_twisted.client import NatsClient, connect

from .memory_network import MemoryNetwork
from .memory_server import InMemoryServer

# Closing takes a second where a server does not read any more.
_CLOSING = 1.0


class CaseLike(Interface):
    """What is needed of a test case: those of trial and of unittest have it."""

    def addCleanup(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N802
        """Call the function at the end of the test."""


class ConnectedClient(NamedTuple):
    """What :func:`connected_client` gives."""

    client: NatsClient
    server: InMemoryServer
    network: MemoryNetwork


def connected_client(
    test_case: CaseLike,
    *,
    network: MemoryNetwork | None = None,
    servers: str | list[str] | None = None,
    server_options: dict[str, Any] | None = None,
    **options: Any,
) -> ConnectedClient:
    """A client that is connected to a server in memory, past the handshake.

    At the end of the test the client is closed, and the test fails when something is left then: a delayed call, a connection,
    a request or subscription, or what :meth:`MemoryNetwork.start` began.

    :param test_case: trial's or unittest's.
    :param network: the network to use; None for a new one.
    :param servers: the client's URLs; None for the one server ``nats://127.0.0.1:4222``, which is made when it is not there.
    :param server_options: the options of that server: see :class:`~.server_core.MemoryServerOptions`.
    :param options: the client's: see :class:`~pynats_twisted.ClientOptions`.
    :raises NoServersError: there is no connection to be had.
    """
    if network is None:
        network = MemoryNetwork()
    if servers is None:
        servers = network.server(**(server_options or {})).url
    client: NatsClient = network.run(connect(network, servers, **options))
    test_case.addCleanup(_clean_up, network, client)
    address = network.links[-1].address
    return ConnectedClient(client, network.servers[address], network)


def _clean_up(network: MemoryNetwork, client: NatsClient) -> None:
    closed = client.close()
    network.advance(0)
    if not closed.called:
        network.advance(_CLOSING)
    left = []
    if not closed.called:
        left.append("the client does not close")
    if client.requests_in_flight or client.subscriptions or client.pending_bytes:
        left.append(f"{client.requests_in_flight} requests, {client.subscriptions}, {client.pending_bytes} bytes")
    if all(link.ended for link in network.links):
        left += network.leftovers()
    if left:
        raise AssertionError("the client is closed, and this is left: " + "; ".join(left))
