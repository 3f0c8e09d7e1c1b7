"""The base of the client's tests: clients on a network in memory, in virtual time, that leave nothing behind."""

from __future__ import annotations

import gc
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.client import ClientStatus, NatsClient
from pynats_twisted.client.status import StatusEvent
from pynats_twisted.protocol.options import ClientOptions

from .network import Network, Peer, tcp_endpoint

NO_JITTER = {"reconnect_jitter": 0.0, "reconnect_jitter_tls": 0.0}


class Slow:
    """A handler that is busy with each message until :meth:`finish`, and knows how many there are at once."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.running: dict[bytes, Deferred[None]] = {}
        self.most = 0

    def __call__(self, msg: Any) -> Deferred[None]:
        self.begun.append(msg.data)
        self.running[msg.data] = Deferred()
        self.most = max(self.most, len(self.running))
        return self.running[msg.data]

    def finish(self, data: bytes) -> None:
        self.running.pop(data).callback(None)

    def finish_all(self) -> None:
        while self.running:
            self.finish(next(iter(self.running)))


class ClientTestCase(SynchronousTestCase):
    """Checks at the end of each test that its clients close and leave nothing behind: no delayed call, nobody waiting, no logged error.

    :ivar events: what the listeners of all clients were told.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.server = self.network.server()
        self.events: list[StatusEvent] = []
        self.clients: list[NatsClient] = []
        self._watched: list[Deferred[Any]] = []
        self._log: Any = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)

    def new_client(self, servers: Any = "nats://one", **options: Any) -> NatsClient:
        """A client that has not begun."""
        options = {"endpoint_factory": tcp_endpoint, "shuffle_servers": False, **NO_JITTER, **options}
        client = NatsClient(self.network, ClientOptions(servers=servers, **options))
        client.add_listener(self.events.append)
        self.clients.append(client)
        return client

    def connected(self, servers: Any = "nats://one", **options: Any) -> tuple[NatsClient, Peer]:
        """A client with a connection that has been up for a second, and the server's end of that."""
        client = self.new_client(servers, **options)
        begun = client.start()
        self.network.advance()
        self.assertIs(self.successResultOf(begun), client)
        if client.status is not ClientStatus.CONNECTED:
            self.successResultOf(client.when_connected())
        self.network.advance(1)
        peer = next(server.peer for server in self.network.servers.values() if server.peers and not server.peer.wire.ended)
        peer.take()
        return client, peer

    def watch(self, deferred: Deferred[Any] | Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Something that somebody waits for: the test fails when it has not fired in the end."""
        if not isinstance(deferred, Deferred):
            deferred = Deferred.fromCoroutine(deferred)
        self._watched.append(deferred)
        return deferred

    def told(self, kind: type[Any]) -> list[Any]:
        """The events of one kind."""
        self.network.advance()
        return [event for event in self.events if isinstance(event, kind)]

    def logged(self) -> list[str]:
        """The texts of what was logged."""
        return [formatEvent(event) for event in self._log]

    def tearDown(self) -> None:
        for client in self.clients:
            closed = client.close()
            self.network.advance()
            if not closed.called:
                # A server that does not read has to be left by force, a second later.
                self.network.advance(1)
            self.successResultOf(closed)
            self.assertIs(client.status, ClientStatus.CLOSED)
            self.assertEqual((client.requests_in_flight, client.pending_bytes, client.subscriptions), (0, 0, ()))
        self.network.advance()
        self.assertEqual(self.network.leftovers(), [])
        self.assertEqual([deferred for deferred in self._watched if not deferred.called], [])
        for peer in (peer for server in self.network.servers.values() for peer in server.peers):
            self.assertTrue(peer.wire.ended, "a connection was left open")
        self._watched.clear()
        self.clients.clear()
        # A Deferred that failed and that nobody looked at is logged when it is collected: here, and not in another test.
        gc.collect()
        # What is left now, modules and test cases, need not be searched again.
        gc.freeze()
