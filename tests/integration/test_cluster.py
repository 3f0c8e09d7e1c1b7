"""Clusters: servers that clients find by themselves, rolling restarts, and lame duck mode."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from pynats_twisted import NatsClient, errors
from pynats_twisted.client.status import Disconnected, DiscoveredServers, LameDuck, Reconnected, StatusEvent
from tests.support.integration import IntegrationTestCase


def listen(client: NatsClient) -> list[StatusEvent]:
    """The list into which the client's events go."""
    events: list[StatusEvent] = []
    client.add_listener(events.append)
    return events


def of_type(events: list[StatusEvent], kind: type[StatusEvent]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


class ClusterTests(IntegrationTestCase):
    """Three servers; clients are told of one."""

    timeout = 120

    async def test_rolling_restart(self) -> None:
        """A publisher and a subscriber that know one server each survive the restart of all three: they found the others."""
        cluster = await self.start_cluster(3)
        first, second, _ = cluster.servers
        publisher = await self.connect(first)
        subscriber = await self.connect(second)
        every = set(cluster.urls)
        await self.until(lambda: set(publisher.servers) == every and set(subscriber.servers) == every, what="discovery")

        received: list[int] = []
        await subscriber.subscribe("roll", lambda msg: received.append(int(msg.data)))
        running = True
        published = 0

        async def publish() -> None:
            nonlocal published
            while running:
                await publisher.publish("roll", b"%d" % published)
                published += 1
                await deferLater(self.reactor, 0.002)

        done: Deferred[None] = Deferred.fromCoroutine(publish())
        for server in list(cluster.servers):
            await server.restart()
            # Behind the restart, and behind every reconnect that it caused, messages arrive again.
            mark = published
            await self.until(lambda mark=mark: received and received[-1] > mark, what="traffic after a restart")
            await self.until(lambda: publisher.is_connected and subscriber.is_connected)
            await self.until(lambda: set(publisher.servers) == every and set(subscriber.servers) == every, what="discovery")
        running = False
        await done
        await publisher.flush()
        last = published - 1
        await self.until(lambda: received[-1] == last, what="the last message")
        self.assertEqual(received, sorted(set(received)), "a message came twice or out of order")
        self.assertGreaterEqual(publisher.stats.reconnects, 1)
        self.assertGreaterEqual(subscriber.stats.reconnects, 1)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_discovery_is_told_once(self) -> None:
        """A server that joins the cluster is told to listeners, once, and joins the pool of every client."""
        cluster = await self.start_cluster(2)
        client = await self.connect(cluster.servers[0])
        events = listen(client)
        added = await cluster.add_server()
        await self.until(lambda: added.url in client.servers, what="the new server in the pool")
        await self.until(lambda: of_type(events, DiscoveredServers))
        self.assertEqual([event.urls for event in of_type(events, DiscoveredServers)], [(added.url,)])

    async def test_lame_duck_loses_nothing(self) -> None:
        """A client leaves a server in lame duck mode by itself, before it is thrown out, and gets every message exactly once."""
        cluster = await self.start_cluster(3, lame_duck_grace=5.0, lame_duck_duration=30.0)
        leaving, staying, _ = cluster.servers
        subscriber = await self.connect(leaving)
        publisher = await self.connect(staying, ignore_discovered=True)
        events = listen(subscriber)
        received: list[int] = []
        await subscriber.subscribe("duck", lambda msg: received.append(int(msg.data)))
        await subscriber.subscribe("ask", lambda msg: msg.respond(msg.data))
        await self.sleep(0.1)
        running = True
        published = 0

        async def publish() -> None:
            nonlocal published
            while running:
                for _ in range(5):
                    await publisher.publish("duck", b"%d" % published)
                    published += 1
                await deferLater(self.reactor, 0.001)

        flushes = 0

        async def flush() -> None:
            nonlocal flushes
            while running:
                await subscriber.flush()
                flushes += 1

        done: Deferred[None] = Deferred.fromCoroutine(publish())
        flushing: Deferred[None] = Deferred.fromCoroutine(flush())
        await self.until(lambda: received)
        await leaving.lame_duck()
        await self.until(lambda: of_type(events, Reconnected), what="the move to another server")
        await self.until(lambda: subscriber.connected_url != leaving.url)
        await self.sleep(0.2)
        running = False
        await done
        # No flush failed on the way.
        await flushing
        self.assertGreater(flushes, 10)
        await publisher.flush()
        await self.until(lambda: received[-1] == published - 1)
        self.assertEqual(len(of_type(events, LameDuck)), 1)
        self.assertEqual(len(of_type(events, Disconnected)), 1)
        self.assertEqual(of_type(events, Disconnected)[0].unconfirmed, 0)
        self.assertEqual(received, list(range(published)))
        self.assertEqual((await publisher.request("ask", b"still there")).data, b"still there")

    async def test_drain_in_the_middle_of_a_move(self) -> None:
        """A drain that comes between the two servers of a lame duck move waits for its end, and loses nothing."""
        cluster = await self.start_cluster(2, lame_duck_grace=5.0)
        client = await self.connect(cluster.servers[0])
        received: list[bytes] = []
        await client.subscribe("own", lambda msg: received.append(msg.data))
        await cluster.servers[0].lame_duck()
        while not client._is_between_servers():
            await self.sleep(0)
        await client.publish("own", b"1")
        await client.drain()
        self.assertEqual(received, [b"1"])

    async def test_lame_duck_alone(self) -> None:
        """Where there is no other server, the client stays until the connection ends."""
        server = await self.start_server(lame_duck_grace=0.5)
        client = await self.connect(server, max_reconnect_attempts=1)
        events = listen(client)
        await server.lame_duck()
        await self.until(lambda: of_type(events, LameDuck))
        self.assertTrue(client.is_connected)
        await client.when_closed()
        self.assertEqual(len(of_type(events, LameDuck)), 1)

    async def test_no_server_left(self) -> None:
        """When all servers are gone and the attempts are spent, the client closes, and says what it tried."""
        cluster = await self.start_cluster(2)
        client = await self.connect(cluster, max_reconnect_attempts=2, reconnect_wait=0.01)
        waiting = client.subscribe("x").next()
        for server in cluster.servers:
            await server.kill()
        with self.assertRaises(errors.ConnectionClosedError) as raised:
            await waiting
        cause = raised.exception.__cause__
        self.assertIsInstance(cause, errors.NoServersError)
        self.assertEqual({url for url, _ in cause.reasons}, set(cluster.urls))
