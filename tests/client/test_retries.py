"""Attempts to connect again: how long they wait, how they are counted, and when it is over."""

from __future__ import annotations

from typing import Any

from pynats_twisted.client import ClientStatus
from pynats_twisted.client.status import Closed, Connected, ConnectFailed, Disconnected
from pynats_twisted.errors import (
    AuthenticationExpiredError,
    AuthorizationViolationError,
    ConnectionClosedError,
    DisconnectedError,
    NoServersError,
)

from .support import ClientTestCase

BOTH = ["nats://one", "nats://two"]


class WaitTests(ClientTestCase):
    def gone(self, **options: Any) -> Any:
        """A client whose only server went away after a stable time."""
        client, peer = self.connected(**options)
        self.network.refuse("one:4222")
        self.network.dials.clear()
        peer.cut()
        return client

    def dialled(self, seconds: float) -> list[float]:
        """When there was an attempt, seconds after the loss."""
        self.network.advance(seconds)
        return [round(when - 1, 6) for when, _ in self.network.dials]

    def test_waits(self) -> None:
        """The first attempt comes at once; the waits after it grow, up to the largest."""
        self.gone(reconnect_wait=0.1, reconnect_wait_factor=2.0, reconnect_wait_max=0.5)
        self.assertEqual(self.dialled(2.0), [0.0, 0.1, 0.3, 0.7, 1.2, 1.7])

    def test_one_wait_for_all_servers(self) -> None:
        """The wait is between rounds, not between servers."""
        self.network.server("two:4222")
        self.network.refuse("two:4222")
        self.gone(servers=BOTH, reconnect_wait=1.0)
        self.assertEqual(self.dialled(1.5), [0.0, 0.0, 1.0, 1.0])

    def test_jitter(self) -> None:
        """Jitter makes a wait longer by a part of it at most, and never shorter."""
        waits = []
        for _ in range(10):
            self.setUp()
            self.gone(reconnect_wait=1.0, reconnect_jitter=0.5)
            waits.append(self.dialled(1.6)[1])
            self.tearDown()
        self.assertTrue(all(1.0 <= wait <= 1.51 for wait in waits), waits)
        self.assertGreater(len(set(waits)), 3)

    def test_own_delays(self) -> None:
        """``reconnect_delay`` is asked once a round, with 1, 2, 3; a delay of 0 does not spin."""
        asked: list[int] = []

        def delay(number: int) -> float:
            asked.append(number)
            return 0.0 if number > 2 else number / 10

        self.gone(reconnect_delay=delay)
        dials = self.dialled(0.35)
        self.assertEqual(dials[:4], [0.0, 0.1, 0.3, 0.31])
        self.assertEqual(asked[:3], [1, 2, 3])
        self.assertLess(len(dials), 10)

    def test_flapping_server(self) -> None:
        """A server that takes connections only to drop them soon does not reset the waits."""
        client, _ = self.connected(reconnect_wait=0.1, reconnect_wait_max=4.0)
        for _ in range(1000):
            if self.server.peers and not self.server.peer.wire.ended and client.is_connected:
                self.network.advance(0.005)
                self.server.peer.hang_up()
            self.network.advance(0.01)
        # 10 seconds: 0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 and then 4 at a time.
        self.assertLess(len(self.network.dials), 10)

    def test_stable_connection(self) -> None:
        """A connection that stayed up makes the waits begin anew."""
        client = self.gone(reconnect_wait=1.0, reconnect_stable_after=0.5)
        self.network.advance(3.0)
        self.network.accept("one:4222")
        self.network.advance(4.0)
        self.assertIs(client.status, ClientStatus.CONNECTED)
        self.network.advance(0.5)
        self.network.refuse("one:4222")
        self.network.dials.clear()
        now = self.network.seconds()
        self.server.peer.cut()
        self.network.advance(1.0)
        self.assertEqual([when - now for when, _ in self.network.dials], [0.0, 1.0])


class GivingUpTests(ClientTestCase):
    def test_attempts(self) -> None:
        """After ``max_reconnect_attempts`` at each server the client is closed, says why, and logs it."""
        self.network.server("two:4222")
        client, peer = self.connected(BOTH, max_reconnect_attempts=2, reconnect_wait=0.1)
        sub = client.subscribe("a")
        closed = self.watch(client.when_closed())
        self.network.advance(1)
        self.network.dials.clear()
        self.network.refuse("one:4222")
        self.network.refuse("two:4222")
        peer.cut()
        self.network.advance(2)
        self.successResultOf(closed)
        self.assertEqual(len(self.network.dials), 6)
        (event,) = self.told(Closed)
        self.assertIsInstance(event.error, NoServersError)
        self.assertEqual({url for url, _ in event.error.reasons}, {"nats://one:4222", "nats://two:4222"})
        self.failureResultOf(sub.next(), ConnectionClosedError)
        self.assertRaises(ConnectionClosedError, client.publish, "a")
        self.assertEqual(len([text for text in self.logged() if "gave up connecting" in text]), 1)

    def test_attempts_count_for_each_server(self) -> None:
        """A server that is up does not pay for one that is down."""
        self.network.server("two:4222")
        self.network.refuse("two:4222")
        client, _ = self.connected(BOTH, max_reconnect_attempts=1)
        for _ in range(4):
            self.network.advance(1)
            self.server.peer.cut()
            self.network.advance(1)
            self.assertEqual(client.connected_url, "nats://one:4222")
        self.assertEqual(client.servers, ("nats://one:4222",))

    def test_not_allowed(self) -> None:
        """With ``allow_reconnect=False`` the loss is the end."""
        client, peer = self.connected(allow_reconnect=False)
        waiting = self.watch(client.request("a"))
        sub = client.subscribe("a")
        taker = self.watch(sub.next())
        peer.cut()
        self.network.advance(10)
        self.assertIs(client.status, ClientStatus.CLOSED)
        self.assertEqual(len(self.network.dials), 1)
        for waiter in (waiting, taker):
            self.assertIn("was lost", str(self.failureResultOf(waiter, ConnectionClosedError).value))
        (closed,) = self.told(Closed)
        self.assertIsInstance(closed.error, DisconnectedError)

    def test_expired_credentials(self) -> None:
        """Expired credentials are told, and fresh ones tried; the same refusal twice then ends it."""
        client, peer = self.connected()
        self.network.advance(5)
        self.server.reject(times=100)
        peer.error("User Authentication Expired")
        peer.hang_up()
        self.network.advance(2)
        self.assertIs(client.status, ClientStatus.CLOSED)
        self.assertIsInstance(self.told(Disconnected)[0].error, AuthenticationExpiredError)
        self.assertEqual([type(event.error) for event in self.told(ConnectFailed)], [AuthorizationViolationError] * 2)

    def test_expired_twice(self) -> None:
        """A server that says again and again, after stable times, that the credentials expired is not given up."""
        client, _ = self.connected()
        for _ in range(5):
            self.network.advance(60)
            self.server.peer.error("User Authentication Expired")
            self.server.peer.hang_up()
            self.network.advance(2)
            self.assertIs(client.status, ClientStatus.CONNECTED)

    def test_close_while_waiting(self) -> None:
        """Closing ends the waiting at once."""
        client, peer = self.connected(reconnect_wait=4.0)
        self.network.refuse("one:4222")
        peer.cut()
        self.network.advance()
        closed = client.close()
        self.network.advance()
        self.successResultOf(closed)
        self.network.advance(60)
        self.assertEqual(len(self.network.dials), 2)

    def test_close_in_a_listener(self) -> None:
        """A listener may close the client when it hears of the loss."""
        client, peer = self.connected()
        client.add_listener(lambda event: client.close() if isinstance(event, Disconnected) else None)
        peer.cut()
        self.network.advance(10)
        self.assertIs(client.status, ClientStatus.CLOSED)
        self.assertEqual([type(event) for event in self.events], [Connected, Disconnected, Closed])
