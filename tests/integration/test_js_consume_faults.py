"""Reading pull consumers while connections are cut, servers go down, and the consumer is moved, emptied or deleted."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from pynats_twisted import NatsClient, errors
from pynats_twisted.jetstream.api import PurgeRequest, PurgeResponse, SuccessResponse
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.pull_consumer import PullConsumer
from pynats_twisted.testing import ServerCluster
from tests.support.proxy import ChaosProxy
from tests.support.pull_consumers import PullConsumerTestCase

RECOVERY = 20.0


class Log:
    """A handler that acks, and notes when messages came.

    :ivar seen: the numbers that came, and when they first did; :ivar again: messages that were delivered before.
    :ivar stall: the longest time without one.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.seen: dict[int, float] = {}
        self.again = 0
        self.stall = 0.0
        self.last = reactor.seconds()

    def __call__(self, msg: JsMsg) -> None:
        now = self._reactor.seconds()
        self.stall = max(self.stall, now - self.last)
        self.last = now
        self.seen.setdefault(int(msg.data), now)
        self.again += msg.metadata.num_delivered > 1
        msg.ack()


class ConnectionTests(PullConsumerTestCase):
    """The way to the server fails; the server is alive."""

    async def through_proxy(self, count: int, **config: Any) -> tuple[ChaosProxy, NatsClient, PullConsumer, PullConsumer]:
        """A proxy, a client directly at the server, and the consumer twice: by the proxy, and directly."""
        server = await self.start_server(jetstream=True)
        direct = await self.connect(server)
        await self.new_stream(direct.jetstream())
        if count:
            await self.fill(direct, count - 1)
        consumer = await self.new_consumer(direct.jetstream(), **config)
        proxy = await self.start_proxy(server)
        nc = await self.connect(proxy, reconnect_wait=0.05, reconnect_jitter=0.0)
        return proxy, direct, PullConsumer(nc.jetstream(), await consumer.info()), consumer

    async def test_cuts_during_consume(self) -> None:
        """The connection is cut ten times under load: every message is handled, no more come twice than were not acked at a cut,
        and there is no stall beyond ``ack_wait``; then nothing is left behind."""
        proxy, direct, consumer, watch = await self.through_proxy(0, ack_wait=1.0)
        log = Log(self.reactor)
        context = consumer.consume(log, expires=2.0, max_messages=50)
        unacked = number = 0
        for _ in range(10):
            for _ in range(40):
                for _ in range(5):
                    direct.publish("s.load", b"%d" % number)
                    number += 1
                await self.sleep(0.002)
            proxy.rst()
            unacked += (await watch.info()).num_ack_pending
        await self.until(lambda: len(log.seen) == number, what="every message was handled")
        await self.all_acked(watch)
        self.assertLessEqual(log.again, unacked)
        self.assertLess(log.stall, 10.0)
        self.assertIsNone(context.error)
        await context.drain()
        await self.no_pulls(watch)

    async def test_acks_are_lost(self) -> None:
        """What the client sends is swallowed, then the connection is cut: what was not acked comes again, and nothing else."""
        proxy, direct, consumer, watch = await self.through_proxy(20, ack_wait=1.0)
        log = Log(self.reactor)
        context = consumer.consume(log)
        await self.until(lambda: len(log.seen) == 20)
        await self.all_acked(watch)
        proxy.hole(proxy.to_server)
        await self.fill(direct, 9, start=20)
        await self.until(lambda: len(log.seen) == 30)
        proxy.rst()
        await proxy.heal()
        self.assertEqual((await watch.info()).num_ack_pending, 10)
        await self.all_acked(watch)
        self.assertEqual(log.again, 10)
        await context.drain()

    async def test_silent_connection(self) -> None:
        """The way from the server goes dead without a word: pings find it, and it goes on over another connection."""
        server = await self.start_server(jetstream=True)
        direct = await self.connect(server)
        await self.new_stream(direct.jetstream())
        consumer = await self.new_consumer(direct.jetstream(), ack_wait=1.0)
        proxy = await self.start_proxy(server)
        nc = await self.connect(proxy, ping_interval=0.3, max_pings_out=2, reconnect_wait=0.05, reconnect_jitter=0.0)
        log = Log(self.reactor)
        context = PullConsumer(nc.jetstream(), await consumer.info()).consume(log)
        await self.fill(direct, 9)
        await self.until(lambda: len(log.seen) == 10)
        proxy.hole(proxy.to_client)
        await self.fill(direct, 9, start=10)
        await self.until(lambda: not nc.is_connected)
        await proxy.heal()
        await self.until(lambda: len(log.seen) == 20, what="every message was handled")
        await context.drain()

    async def test_fetch_over_a_long_outage(self) -> None:
        """An outage longer than the fetch: an error in time, no pull at the server after it, and the next fetch works."""
        proxy, direct, consumer, watch = await self.through_proxy(0)
        fetched = consumer.fetch(1, expires=1.0)
        await self.sleep(0.1)
        begun = self.reactor.seconds()
        await proxy.refuse()
        proxy.rst()
        await self.assertFailure(fetched, errors.DisconnectedError)
        self.assertLess(self.reactor.seconds() - begun, 20.0)
        # Begun during the outage, and over before its end.
        await self.assertFailure(consumer.fetch(1, expires=0.2), errors.DisconnectedError)
        await proxy.accept()
        await consumer.js.client.when_connected()
        await consumer.js.client.flush()
        await self.no_pulls(watch)
        self.assertEqual(consumer.js.client.subscriptions, ())
        await self.fill(direct, 0)
        self.assertEqual(len(await consumer.fetch(1, expires=5.0)), 1)

    async def test_fetch_over_a_short_outage(self) -> None:
        """It asks again, and gets what there is."""
        proxy, direct, consumer, _ = await self.through_proxy(0)
        fetched = consumer.fetch(1, expires=10.0)
        await self.sleep(0.1)
        proxy.rst()
        await self.sleep(0.3)
        await self.fill(direct, 0)
        self.assertEqual(len(await fetched), 1)

    async def test_server_is_killed(self) -> None:
        """``kill -9`` and a restart: it goes on, and every message is handled."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server, reconnect_wait=0.05, reconnect_jitter=0.0)
        js = nc.jetstream()
        await self.new_stream(js)
        consumer = await self.new_consumer(js, ack_wait=1.0)
        log = Log(self.reactor)
        context = consumer.consume(log, max_messages=100)
        for start in (0, 500, 1000):
            await self.fill(nc, 499, start=start)
            await server.kill()
            await server.start()
            await nc.when_connected()
        await self.until(lambda: len(log.seen) == 1500, what="every message was handled")
        await self.all_acked(consumer)
        await context.drain()

    async def test_server_comes_back_without_the_consumer(self) -> None:
        """A consumer in memory does not survive its server: a named end, soon after the restart."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server, reconnect_wait=0.05, reconnect_jitter=0.0)
        js = nc.jetstream()
        await self.new_stream(js)
        consumer = await self.new_consumer(js, mem_storage=True, inactive_threshold=60.0)
        context = consumer.consume(Log(self.reactor))
        await nc.flush()
        await server.kill()
        await server.start()
        done = context.done.addTimeout(RECOVERY, self.reactor)
        await self.assertFailure(done, errors.ConsumerDeletedError)


class ConsumerTests(PullConsumerTestCase):
    """Something happens to the consumer."""

    async def test_deleted_during_an_outage(self) -> None:
        """The consumer is deleted while there is no connection: a named end after the reconnect."""
        server = await self.start_server(jetstream=True)
        direct = await self.connect(server)
        await self.new_stream(direct.jetstream())
        watch = await self.new_consumer(direct.jetstream())
        proxy = await self.start_proxy(server)
        nc = await self.connect(proxy, reconnect_wait=0.05, reconnect_jitter=0.0)
        context = PullConsumer(nc.jetstream(), await watch.info()).consume(Log(self.reactor))
        await nc.flush()
        await proxy.refuse()
        proxy.rst()
        await watch.delete()
        await proxy.accept()
        await self.assertFailure(context.done.addTimeout(RECOVERY, self.reactor), errors.ConsumerDeletedError)
        self.assertEqual(nc.subscriptions, ())

    async def test_deleted(self) -> None:
        """The consumer, or the whole stream, is deleted: a named end at once, for handlers and for the loop."""
        for what in ("consumer", "stream"):
            nc = await self.jetstream()
            js = nc.jetstream()
            await self.new_stream(js)
            consumer = await self.new_consumer(js)
            context = consumer.consume(Log(self.reactor))
            messages = consumer.messages()
            waiting = Deferred.fromCoroutine(messages.__anext__())
            await nc.flush()
            await (consumer.delete() if what == "consumer" else js.delete_stream("S"))
            begun = self.reactor.seconds()
            await self.assertFailure(context.done.addTimeout(RECOVERY, self.reactor), errors.ConsumerDeletedError)
            await self.assertFailure(waiting.addTimeout(RECOVERY, self.reactor), errors.ConsumerDeletedError)
            self.assertLess(self.reactor.seconds() - begun, RECOVERY)
            await self.until(lambda: not nc.subscriptions)  # noqa: B023

    async def test_purged(self) -> None:
        """The stream is purged under load: it goes on with what is stored after."""
        nc, consumer = await self.begin(3000)
        log = Log(self.reactor)
        context = consumer.consume(log, max_messages=20)
        await self.until(lambda: len(log.seen) > 100)
        await consumer.js.call(PurgeResponse, consumer.js.prefix.stream_purge("S"), PurgeRequest())
        await self.fill(nc, 10, start=5000)
        await self.until(lambda: 5010 in log.seen, timeout=RECOVERY)
        self.assertEqual({number for number in log.seen if number >= 5000}, set(range(5000, 5011)))
        await context.drain()


class ClusterTests(PullConsumerTestCase):
    """Three servers, and a stream that all of them have."""

    async def in_cluster(self) -> tuple[ServerCluster, NatsClient, PullConsumer]:
        cluster = await self.start_cluster(jetstream=True)
        nc = await self.connect(cluster, reconnect_wait=0.05, reconnect_jitter=0.0)
        js = nc.jetstream()
        await self.new_stream(js, replicas=3)
        return cluster, nc, await self.new_consumer(js, ack_wait=2.0)

    async def test_leaders_step_down(self) -> None:
        """The consumer and the stream get new leaders under load: nothing is lost, and it recovers within seconds."""
        _, nc, consumer = await self.in_cluster()
        js = consumer.js
        log = Log(self.reactor)
        context = consumer.consume(log)
        fetched = consumer.fetch(1, expires=20.0)
        await self.fill(nc, 99)
        self.assertEqual(len(await fetched), 1)
        (only,) = await fetched
        start = 100
        for subject in (js.prefix.consumer_leader_stepdown("S", "C"), js.prefix.stream_leader_stepdown("S")) * 2:
            await js.call(SuccessResponse, subject)
            begun = self.reactor.seconds()
            while True:
                # The stream may have no leader for a moment: then nobody takes the message.
                try:
                    await nc.request("s.probe", b"%d" % start, timeout=1.0)
                except (errors.NoRespondersError, errors.RequestTimeoutError):
                    await self.sleep(0.05)
                else:
                    break
            await self.until(lambda: start in log.seen, timeout=RECOVERY, what=f"{start} was handled")  # noqa: B023
            self.assertLess(self.reactor.seconds() - begun, RECOVERY)
            start += 1
        only.ack()
        self.assertIsNone(context.error)
        await context.drain()

    async def test_rolling_restart(self) -> None:
        """Each server is restarted in its turn under load: every stored message is handled, within two heartbeats."""
        cluster, nc, consumer = await self.in_cluster()
        log = Log(self.reactor)
        context = consumer.consume(log, expires=10.0)
        stored: dict[int, float] = {}
        running = True

        async def load() -> None:
            number = 0
            while running:
                try:
                    await nc.request("s.load", b"%d" % number, timeout=1.0)
                except errors.NatsError:
                    pass
                else:
                    stored[number] = self.reactor.seconds()
                number += 1
                await self.sleep(0.005)

        loading = Deferred.fromCoroutine(load())
        await cluster.rolling_restart()
        running = False
        await loading
        await self.until(lambda: stored.keys() <= log.seen.keys(), what="every stored message was handled")
        self.assertGreater(len(stored), 50)
        self.assertIsNone(context.error)
        self.assertLess(max(log.seen[number] - at for number, at in stored.items()), 10.0)
        await context.drain()
        self.assertEqual(await consumer.js.consumer_names("S"), ["C"])
