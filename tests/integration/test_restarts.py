"""A server that is killed and restarted under load: traffic flows again, and nothing that was confirmed is lost."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from pynats_twisted import errors
from pynats_twisted.client.status import Connected, Disconnected, Reconnected
from tests.support.integration import IntegrationTestCase

RESTARTS = 20
RECOVERY = 10.0


class Load:
    """One client publishes numbers to another, without a break, and notes which of them have to arrive.

    A number has to arrive when it was published while the subscriber's subscription was known to the server, and behind it
    first the publisher's flush succeeded, and then the subscriber's. The first says that the server has taken the number; it
    may still die before it has written it to the subscriber. The second says that it has written it, as it answers in order.
    """

    def __init__(self, reactor: Any, publisher: Any, subscriber: Any) -> None:
        self.reactor = reactor
        self.publisher = publisher
        self.subscriber = subscriber
        self.received: list[int] = []
        self.owed: set[int] = set()
        self.published = 0
        self.flushes = 0
        self.failed_flushes = 0
        self.running = True
        self._clean_since: int | None = None
        self._down = 0
        subscriber.subscribe("load", lambda msg: self.received.append(int(msg.data)))
        publisher.add_listener(self._status)
        subscriber.add_listener(self._status)

    def _status(self, event: Any) -> None:
        if isinstance(event, Disconnected):
            self._down += 1
            self._clean_since = None
        elif isinstance(event, (Connected, Reconnected)):
            self._down -= 1
            if not self._down:
                self._when_clean()

    def _when_clean(self) -> None:
        def clean(_: Any) -> None:
            if not self._down:
                self._clean_since = self.published

        self.subscriber.flush().addCallbacks(clean, lambda failure: failure.trap(errors.DisconnectedError) and None)

    async def run(self) -> None:
        """Publish until told to stop."""
        self._when_clean()
        while self.running:
            for _ in range(20):
                await self.publisher.publish("load", b"%d" % self.published)
                self.published += 1
            since, until = self._clean_since, self.published
            try:
                await self.publisher.flush(1.0)
                await self.subscriber.flush(1.0)
            except errors.NatsError:
                self.failed_flushes += 1
            else:
                self.flushes += 1
                if since is not None and since == self._clean_since:
                    self.owed.update(range(since, until))
            await deferLater(self.reactor, 0.002)

    async def arrival_after(self, number: int, timeout: float) -> float:
        """Seconds until something arrives that was published behind ``number``."""
        begun = self.reactor.seconds()
        while not self.received or self.received[-1] <= number:
            if self.reactor.seconds() - begun > timeout:
                raise AssertionError(f"nothing arrived for {timeout} s: {self.publisher!r}, {self.subscriber!r}")
            await deferLater(self.reactor, 0.005)
        return float(self.reactor.seconds() - begun)


class RestartTests(IntegrationTestCase):
    """Two clients and a server that dies again and again."""

    timeout = 120

    async def test_traffic_survives_kills(self) -> None:
        """After each of 20 kills and restarts traffic flows within 2 seconds; all that a flush covered arrives, once and in order."""
        server = await self.start_server()
        publisher = await self.connect(server)
        subscriber = await self.connect(server)
        load = Load(self.reactor, publisher, subscriber)
        done: Deferred[None] = Deferred.fromCoroutine(load.run())
        recoveries = []
        for _ in range(RESTARTS):
            await deferLater(self.reactor, 0.35)
            await server.restart(kill=True, down=0.05)
            recoveries.append(await load.arrival_after(load.published, RECOVERY))
        load.running = False
        await done
        await publisher.flush()
        await subscriber.flush()
        lost = sorted(load.owed - set(load.received))
        self.assertEqual(lost, [], f"{len(lost)} of {len(load.owed)} covered messages are lost")
        self.assertGreater(len(load.owed), RESTARTS * 20)
        self.assertEqual(load.received, sorted(set(load.received)), "a message came twice or out of order")
        self.assertEqual(publisher.stats.reconnects, RESTARTS)
        self.assertEqual(subscriber.stats.reconnects, RESTARTS)
        self.assertLess(max(recoveries), RECOVERY)
        self.log.info(
            "{restarts} restarts: {published} published, {owed} covered, {received} received, slowest recovery {slowest:.3f} s",
            restarts=RESTARTS,
            published=load.published,
            owed=len(load.owed),
            received=len(load.received),
            slowest=max(recoveries),
        )
        self.assertEqual(self.flushLoggedErrors(), [])
