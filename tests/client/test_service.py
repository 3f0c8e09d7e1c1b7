"""The client in a service tree: starting never waits, stopping drains and never fails."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from pynats_twisted import NatsService
from pynats_twisted.client import ClientStatus
from pynats_twisted.errors import AuthorizationViolationError, ConfigurationError, ConnectionClosedError, NoServersError

from .network import tcp_endpoint
from .support import ClientTestCase, Slow


class ServiceTests(ClientTestCase):
    def service(self, **options: Any) -> NatsService:
        """A service that has not begun."""
        service = NatsService(self.network, "nats://one", endpoint_factory=tcp_endpoint, reconnect_jitter=0.0, **options)
        self.clients.append(service.client)
        return service

    def test_life(self) -> None:
        """It connects when it is started; what was subscribed before is subscribed then; stopping ends it cleanly."""
        service = self.service()
        verifyObject(IService, service)
        got: list[bytes] = []
        service.client.subscribe("a", lambda msg: got.append(msg.data))
        waiting = self.watch(service.when_connected())
        self.network.advance()
        self.assertEqual(self.network.dials, [])
        service.startService()
        self.assertTrue(service.running)
        self.network.advance()
        self.assertIs(self.successResultOf(waiting), service.client)
        self.server.peer.publish("a", b"1")
        self.assertEqual(got, [b"1"])
        stopped = service.stopService()
        self.network.advance()
        self.successResultOf(stopped)
        self.assertFalse(service.running)
        self.assertIs(service.client.status, ClientStatus.CLOSED)

    def test_in_a_tree(self) -> None:
        """Its parent waits for handlers that are running when it is stopped."""
        parent = MultiService()
        service = self.service()
        service.setServiceParent(parent)
        slow = Slow()
        service.client.subscribe("a", slow)
        parent.startService()
        self.network.advance()
        self.server.peer.publish("a", b"1")
        service.client.publish("b", b"last")
        stopped: Deferred[Any] = self.watch(parent.stopService())
        self.network.advance()
        self.assertNoResult(stopped)
        slow.finish_all()
        self.network.advance()
        self.successResultOf(stopped)
        self.assertEqual(self.server.peer.written(), [b"last"])

    def test_no_server_yet(self) -> None:
        """Where no server is there at the start it goes on trying, and publishes wait."""
        self.network.refuse("one:4222")
        service = self.service()
        service.startService()
        service.client.publish("a", b"early")
        self.network.advance(5)
        self.assertIs(service.client.status, ClientStatus.CONNECTING)
        self.network.accept("one:4222")
        self.network.advance(5)
        self.assertEqual(self.server.peer.written(), [b"early"])

    def test_stopped_while_connecting(self) -> None:
        """Stopping does not wait for a connection that is not there."""
        for prepare in (self.network.refuse, self.network.black_hole, self.network.accept):
            prepare("one:4222")
            service = self.service()
            service.startService()
            if prepare != self.network.accept:
                self.network.advance(1)
            stopped = service.stopService()
            self.network.advance()
            self.successResultOf(stopped)

    def test_never_started(self) -> None:
        """One that was never started can be stopped."""
        service = self.service()
        stopped = service.stopService()
        self.network.advance()
        self.successResultOf(stopped)

    def test_again(self) -> None:
        """A service that was stopped can be started again, with a new client; also before the old one is gone."""
        service = self.service()
        for wait in (True, False, False):
            service.startService()
            self.clients.append(service.client)
            self.network.advance()
            self.assertTrue(service.client.is_connected)
            old = service.client
            stopped = self.watch(service.stopService())
            if wait:
                self.network.advance()
                self.successResultOf(stopped)
        service.startService()
        self.clients.append(service.client)
        self.assertIsNot(service.client, old)
        self.network.advance()
        self.assertTrue(service.client.is_connected)
        self.assertIs(old.status, ClientStatus.CLOSED)

    def test_drain_that_fails(self) -> None:
        """Stopping never fails: what was not drained in time is logged."""
        service = self.service(drain_timeout=2.0)
        service.client.subscribe("a", lambda msg: Deferred())
        service.startService()
        self.network.advance()
        self.server.peer.publish("a", b"1")
        stopped = self.watch(service.stopService())
        self.network.advance(2)
        self.successResultOf(stopped)
        self.assertTrue([text for text in self.logged() if "not drained" in text])

    def test_gives_up(self) -> None:
        """A client that gives up is logged, once; who waits for it is told."""
        self.server.reject(times=100)
        service = self.service()
        waiting = self.watch(service.when_connected())
        service.startService()
        self.network.advance(5)
        ((_, error), _) = self.failureResultOf(waiting, NoServersError).value.reasons
        self.assertIsInstance(error, AuthorizationViolationError)
        self.assertEqual(len([text for text in self.logged() if "gave up" in text]), 1)

    def test_gives_up_at_once(self) -> None:
        """With ``retry_on_failed_connect=False`` the first failure is the end, and an error in the log."""
        self.network.refuse("one:4222")
        service = self.service(retry_on_failed_connect=False)
        service.startService()
        self.network.advance()
        self.assertEqual(len(self.flushLoggedErrors(NoServersError)), 1)
        stopped = service.stopService()
        self.successResultOf(stopped)

    def test_stopped_before_the_first_failure(self) -> None:
        """A service that was stopped does not complain that it did not connect."""
        self.network.black_hole("one:4222")
        service = self.service(retry_on_failed_connect=False)
        waiting = self.watch(service.when_connected())
        service.startService()
        self.network.advance()
        service.stopService()
        self.network.advance()
        self.failureResultOf(waiting, ConnectionClosedError)

    def test_bad_options(self) -> None:
        """An option that is wrong is told when the service is made."""
        self.assertRaises(ConfigurationError, NatsService, self.network, "nats://one", pingg=1)
        self.assertRaises(ConfigurationError, NatsService, self.network, "http://one")
