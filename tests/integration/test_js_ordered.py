"""Ordered consumers with real servers: what is read is what is stored, whatever is broken meanwhile."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import NatsClient, errors
from pynats_twisted.jetstream.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig, decode_pub_ack
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.ordered import OrderedConsumer
from pynats_twisted.jetstream.pulls import PullPlan
from tests.support.jetstream import JetStreamTestCase


class OrderedTestCase(JetStreamTestCase):
    """A stream ``S`` of the subjects ``s.>``."""

    async def stream(self, count: int = 0, nc: NatsClient | None = None, **config: Any) -> JetStreamContext:
        """The stream, with ``count`` messages in it, whose payloads are their sequences."""
        js = (nc or await self.jetstream()).jetstream()
        await js.create_stream(StreamConfig(name="S", subjects=["s.>"], **config))
        await self.publish(js, 1, count)
        return js

    async def publish(self, js: JetStreamContext, first: int, last: int) -> None:
        for number in range(first, last):
            await js.client.publish(f"s.{number % 3}", b"%d" % number)
        if last >= first:
            # Stored in order: with the last one, all are.
            await js.client.request(f"s.{last % 3}", b"%d" % last)

    def ordered(self, js: JetStreamContext, **options: Any) -> OrderedConsumer:
        ordered = OrderedConsumer.make(js, "S", **options)
        self.addCleanup(self.finish, ordered)
        return ordered

    async def finish(self, ordered: OrderedConsumer) -> None:
        await ordered.stop()

    async def assert_nothing_left(self, js: JetStreamContext) -> None:
        """There is no consumer, and nobody is subscribed for one."""
        self.assertEqual([name async for name in js.consumer_names("S")], [])
        self.assertEqual([each.subject for each in js.client.subscriptions], [])

    async def more(self, seen: list[int], count: int) -> None:
        """So many were read."""
        await self.until(lambda: len(seen) >= count, what=f"reading {count} messages")

    async def kill_consumer(self, js: JetStreamContext, ordered: OrderedConsumer) -> bool:
        """Delete the consumer of now, where there is one."""
        name = ordered.name
        if name is None:
            return False
        try:
            await js.delete_consumer("S", name)
        except errors.ConsumerNotFoundError:
            return False
        return True


def numbers(msgs: list[JsMsg]) -> list[int]:
    return [int(msg.data) for msg in msgs]


class ReadingTests(OrderedTestCase):
    """The ways of taking messages."""

    async def test_everything_that_is_stored(self) -> None:
        """A loop over all of a stream reads each message once, in order, ends at the end, and leaves nothing at the server."""
        js = await self.stream(2000)
        ordered = self.ordered(js)
        seen = [int(msg.data) async for msg in ordered.messages(until_drained=True)]
        self.assertEqual(seen, list(range(1, 2001)))
        self.assertEqual((ordered.position, ordered.num_pending, ordered.resets), (2000, 0, 0))
        await self.assert_nothing_left(js)

    async def test_an_empty_stream(self) -> None:
        """Reading what is stored where nothing is ends at once."""
        js = await self.stream()
        self.assertEqual([msg async for msg in self.ordered(js).messages(until_drained=True)], [])
        self.assertEqual(await self.ordered(js).fetch(5, no_wait=True), [])

    async def test_messages_that_come_later(self) -> None:
        """Without an end, what is published later is read as it comes."""
        js = await self.stream(3)
        ordered = self.ordered(js)
        seen: list[int] = []
        context = ordered.consume(lambda msg: seen.append(int(msg.data)))
        await self.until(lambda: len(seen) == 3)
        await self.publish(js, 4, 700)
        await self.until(lambda: len(seen) == 700)
        self.assertEqual(seen, list(range(1, 701)))
        await context.stop()
        await context.done
        await self.assert_nothing_left(js)

    async def test_next_and_fetch_share_one_place(self) -> None:
        """Single messages, several at once, and a loop: each goes on where the one before was."""
        js = await self.stream(20)
        ordered = await self.ordered(js)
        self.assertEqual(ordered.num_pending, 20)
        self.assertEqual(int((await ordered.next(timeout=5)).data), 1)
        self.assertEqual(numbers(await ordered.fetch(4)), [2, 3, 4, 5])
        self.assertEqual(ordered.num_pending, 15)
        await ordered.stop()
        await self.assert_nothing_left(js)
        self.assertEqual(numbers(await ordered.fetch(2)), [6, 7])
        seen = [int(msg.data) async for msg in ordered.messages(until_drained=True)]
        self.assertEqual(seen, list(range(8, 21)))
        await self.publish(js, 21, 22)
        self.assertEqual(numbers(await ordered.fetch(100, no_wait=True)), [21, 22])
        await self.publish(js, 23, 24)
        self.assertEqual(numbers(await ordered.fetch(100, no_wait=True)), [23, 24])
        self.assertEqual(await ordered.fetch(1, expires=0.05), [])
        await self.assertFailure(ordered.next(timeout=0.05), errors.NextMessageTimeoutError)

    async def test_cancelling_loses_nothing(self) -> None:
        """Who stops waiting has taken nothing, and whoever comes next gets it."""
        js = await self.stream(2)
        ordered = self.ordered(js)
        fetching = ordered.fetch(3)
        await self.until(lambda: ordered.position == 2)
        waiting = ordered.next()
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        fetching.cancel()
        await self.assertFailure(fetching, CancelledError)
        self.assertEqual(ordered.position, 0)
        self.assertEqual(numbers(await ordered.fetch(2)), [1, 2])

    async def test_a_cancelled_loop_deletes_its_consumer(self) -> None:
        """A coroutine that is cancelled in its loop leaves nothing at the server."""
        js = await self.stream(1)
        ordered = self.ordered(js)

        async def loop() -> None:
            async for _ in ordered:
                pass

        looping: Deferred[None] = Deferred.fromCoroutine(loop())
        await self.until(lambda: ordered.position == 1)
        looping.cancel()
        await self.assertFailure(looping, CancelledError)
        await ordered.stop()
        await self.assert_nothing_left(js)

    async def test_a_loop_that_is_left(self) -> None:
        """``async with`` deletes the consumer where the loop is left early; what was not taken is not lost."""
        js = await self.stream(30)
        ordered = self.ordered(js)
        async with ordered.messages() as messages:
            async for msg in messages:
                if int(msg.data) == 10:
                    break
        await self.assert_nothing_left(js)
        self.assertEqual(int((await ordered.next()).data), 11)

    async def test_slow_handlers_get_one_message_at_a_time(self) -> None:
        """The next message waits until the handler of the one before has ended, also where that failed; a drain handles what has come."""
        js = await self.stream(20)
        running: list[int] = []
        seen: list[int] = []

        async def handler(msg: JsMsg) -> None:
            running.append(1)
            self.assertEqual(len(running), 1)
            await self.sleep(0.005)
            running.clear()
            seen.append(int(msg.data))
            if len(seen) == 2:
                raise ValueError("no")

        ordered = self.ordered(js, max_messages=10)
        context = ordered.consume(handler)
        await self.until(lambda: len(seen) > 3)
        await context.drain()
        self.assertEqual(seen, list(range(1, len(seen) + 1)))
        self.assertGreaterEqual(len(seen), 10)
        self.assertEqual(js.client.stats.handler_errors, 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        await self.assert_nothing_left(js)

    async def test_where_it_begins_and_what_it_reads(self) -> None:
        """Policies, filters and headers only."""
        js = await self.stream(9)
        begin: list[tuple[dict[str, Any], list[int]]] = [
            ({"start_seq": 7}, [7, 8, 9]),
            ({"deliver_policy": DeliverPolicy.LAST}, [9]),
            ({"deliver_policy": DeliverPolicy.LAST_PER_SUBJECT}, [7, 8, 9]),
            ({"deliver_policy": DeliverPolicy.NEW}, []),
            ({"filter_subjects": "s.1"}, [1, 4, 7]),
            ({"filter_subjects": ["s.1", "s.2"], "start_seq": 4}, [4, 5, 7, 8]),
        ]
        for options, expected in begin:
            self.assertEqual(numbers(await self.ordered(js, **options).fetch(20, no_wait=True)), expected, options)
        (msg,) = await self.ordered(js, start_seq=9, headers_only=True).fetch(1)
        self.assertEqual((msg.data, msg.headers["Nats-Msg-Size"]), (b"", "1"))
        when = msg.metadata.timestamp
        self.assertEqual(numbers(await self.ordered(js, start_time=when).fetch(20, no_wait=True))[-1], 9)

    async def test_messages_larger_than_all_that_may_wait(self) -> None:
        """A bound of bytes keeps no message out."""
        nc = await self.jetstream()
        js = await self.stream(nc=nc)
        for _ in range(20):
            await nc.publish("s.1", bytes(300_000))
        await nc.flush()
        # The same bounds as ever cannot be made so small: they leave room for the largest messages of the server.
        for max_bytes in (100_000, 300_065, 400_000):
            plan = PullPlan(max_messages=9, max_bytes=max_bytes, low_messages=4, low_bytes=max_bytes // 2, expires=30.0, heartbeat=5.0)
            ordered = OrderedConsumer(js, "S", ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True, replicas=1), plan)
            self.assertEqual(len([msg async for msg in ordered.messages(until_drained=True)]), 20, max_bytes)

    async def test_the_last_of_each_subject_where_not_all_fit(self) -> None:
        """With more bytes than may wait here, none of the last messages is missing, and each comes once."""
        js = await self.stream(0)
        for number in range(40):
            await js.publish(f"s.{number}", bytes(200_000 + 10_000 * number))
        ordered = self.ordered(js, deliver_policy="last_per_subject", max_bytes=1)
        subjects = [msg.subject async for msg in ordered.messages(until_drained=True)]
        self.assertEqual(subjects, [f"s.{number}" for number in range(40)])

    async def test_what_cannot_be_is_refused(self) -> None:
        """A stream that is not there, and a filter that is no subject of the stream's."""
        js = await self.stream()
        await self.assertFailure(OrderedConsumer.make(js, "NO").ready(), errors.StreamNotFoundError)
        await self.assertFailure(OrderedConsumer.make(js, "NO").next(), errors.StreamNotFoundError)
        missing = OrderedConsumer.make(js, "NO")
        with self.assertRaises(errors.StreamNotFoundError):
            async for _ in missing:
                pass
        await self.assertFailure(missing.consume(print).done, errors.StreamNotFoundError)


class HealingTests(OrderedTestCase):
    """What is broken while it reads."""

    async def test_the_consumer_is_deleted_twenty_times(self) -> None:
        """5,000 messages are read without a gap or a duplicate while their consumer is deleted again and again."""
        js = await self.stream(5000)
        ordered = self.ordered(js, max_messages=100)
        seen: list[int] = []
        deleted = 0

        async def delete() -> None:
            nonlocal deleted
            while deleted < 20 and len(seen) < 5000:
                deleted += await self.kill_consumer(js, ordered)
                await self.more(seen, min(len(seen) + 150, 5000))

        deleting: Deferred[None] | None = None
        async for msg in ordered.messages(until_drained=True):
            seen.append(int(msg.data))
            if deleting is None:
                deleting = Deferred.fromCoroutine(delete())
            if not len(seen) % 25:
                await self.sleep(0.002)
        assert deleting is not None
        await deleting
        self.assertEqual(deleted, 20)
        self.assertEqual(seen, list(range(1, 5001)))
        await self.assert_nothing_left(js)

    async def test_the_server_is_killed_three_times(self) -> None:
        """Messages that are published and read while the server is killed and restarted: every one that is stored, once and in order."""
        server = await self.start_server(jetstream=True)
        options: dict[str, Any] = {"reconnect_wait": 0.05, "reconnect_jitter": 0.0}
        js = await self.stream(nc=await self.connect(server, **options))
        publisher = (await self.connect(server, **options)).jetstream()
        ordered = self.ordered(js)
        seen: list[int] = []
        context = ordered.consume(lambda msg: seen.append(msg.metadata.stream_seq))
        for round_ in range(1, 4):
            for _ in range(300):
                await publisher.client.request("s.1", b"x")
            await server.restart(kill=True, down=0.2)
            await publisher.client.when_connected()
            for _ in range(10):
                await publisher.client.request("s.1", b"x", timeout=5)
            await self.more(seen, 310 * round_)
        stream = await js.stream("S")
        self.assertEqual(seen, list(range(1, stream.cached_info.state.last_seq + 1)))
        self.assertGreaterEqual(ordered.resets, 3)
        await context.stop()
        await self.assert_nothing_left(js)

    async def test_the_connection_is_cut(self) -> None:
        """Messages that were on their way are read again; the consumer of the old connection is deleted."""
        server = await self.start_server(jetstream=True)
        proxy = await self.start_proxy(server)
        js = await self.stream(3000, nc=await self.connect(proxy, reconnect_wait=0.05))
        ordered = self.ordered(js)
        seen: list[int] = []
        async for msg in ordered.messages(until_drained=True):
            seen.append(int(msg.data))
            if len(seen) in (400, 1500):
                proxy.rst()
                await self.sleep(0.05)
        self.assertEqual(seen, list(range(1, 3001)))
        await self.until(lambda: js.client.is_connected)
        await self.assert_nothing_left(js)

    async def test_the_stream_is_purged(self) -> None:
        """What is gone is not waited for: reading what is stored ends, and new messages are read."""
        js = await self.stream(5000)
        ordered = self.ordered(js, max_messages=50)
        seen: list[int] = []
        async for msg in ordered.messages(until_drained=True):
            seen.append(int(msg.data))
            if len(seen) == 100:
                await (await js.stream("S")).purge()
        self.assertEqual(seen, list(range(1, len(seen) + 1)))
        self.assertLess(len(seen), 1000)
        await self.publish(js, 5001, 5003)
        self.assertEqual(numbers(await ordered.fetch(3, expires=5)), [5001, 5002, 5003])
        await ordered.stop()
        await self.assert_nothing_left(js)

    async def test_a_purge_while_it_waits(self) -> None:
        """A reader that has everything goes on with what is published after a purge, without another consumer."""
        js = await self.stream(10)
        ordered = self.ordered(js)
        self.assertEqual(len(await ordered.fetch(10)), 10)
        await (await js.stream("S")).purge()
        waiting = ordered.next(timeout=5)
        await self.publish(js, 11, 11)
        self.assertEqual(int((await waiting).data), 11)
        self.assertEqual(ordered.resets, 0)

    async def test_the_stream_is_deleted(self) -> None:
        """That has a named end, soon."""
        js = await self.stream(5)
        ordered = self.ordered(js)
        await ordered.fetch(5)
        await js.delete_stream("S")
        await self.assertFailure(ordered.next(timeout=5), errors.StreamNotFoundError)

    async def test_the_stream_is_made_anew(self) -> None:
        """A stream of the same name with other messages is not the one that was read: that has a named end, too."""
        js = await self.stream(5)
        ordered = self.ordered(js)
        await ordered.fetch(5)
        await js.delete_stream("S")
        await js.create_stream(StreamConfig(name="S", subjects=["s.>"]))
        await self.assertFailure(ordered.next(timeout=5), errors.StreamRecreatedError)

    async def test_a_silent_server_is_not_trusted(self) -> None:
        """Nothing comes, not even heartbeats: after two of them it reads by another consumer."""
        server = await self.start_server(jetstream=True)
        js = await self.stream(10, nc=await self.connect(server))
        ordered = self.ordered(js, heartbeat=0.2)
        self.assertEqual(len(await ordered.fetch(10)), 10)
        # The server lets go of the pulls and says nothing, as one does that has lost them.
        (deaf,) = js.client.subscriptions
        js.client.outbound.control(b"UNSUB %d\r\n" % deaf.sid)
        waiting = ordered.next(timeout=5)
        await self.publish(js, 11, 12)
        self.assertEqual(int((await waiting).data), 11)
        self.assertIn("heartbeat", ordered.last_reset)
        self.assertEqual(numbers(await ordered.fetch(1)), [12])

    async def test_a_client_that_drains_deletes_its_consumer(self) -> None:
        """``drain`` and the end of the program leave nothing at the server."""
        server = await self.start_server(jetstream=True)
        watcher = await self.stream(100, nc=await self.connect(server))
        nc = await self.connect(server)
        ordered = OrderedConsumer.make(nc.jetstream(), "S")
        seen: list[int] = []
        context = ordered.consume(lambda msg: seen.append(int(msg.data)))
        await self.until(lambda: len(seen) == 100)
        await nc.drain()
        await context.done
        await self.assertFailure(ordered.next(), errors.SubscriptionClosedError)
        self.assertEqual([name async for name in watcher.consumer_names("S")], [])

    async def test_a_client_that_is_closed_deletes_its_consumer(self) -> None:
        """``close`` waits for nobody, and leaves nothing at the server all the same; also where the consumer is being made."""
        server = await self.start_server(jetstream=True)
        watcher = await self.stream(100, nc=await self.connect(server))
        for is_made in (True, False):
            nc = await self.connect(server)
            ordered = OrderedConsumer.make(nc.jetstream(), "S")
            if is_made:
                await ordered.next()
            else:
                ordered.next().addErrback(lambda failure: failure.trap(errors.NatsError))
            await nc.close()
            for _ in range(100):
                left = [name async for name in watcher.consumer_names("S")]
                if not left:
                    break
                await self.sleep(0.1)
            self.assertEqual(left, [])

    async def test_a_consumer_that_is_being_made_is_deleted(self) -> None:
        """A stop right after the beginning leaves nothing behind either."""
        js = await self.stream(1)
        ordered = self.ordered(js)
        waiting = ordered.next()
        await ordered.stop()
        await self.assertFailure(waiting, errors.SubscriptionClosedError)
        await self.assert_nothing_left(js)

    async def test_the_inbox_prefix_is_honoured(self) -> None:
        """Messages come by an inbox below the client's own prefix."""
        server = await self.start_server(jetstream=True)
        js = await self.stream(1, nc=await self.connect(server, inbox_prefix="_MINE.x"))
        ordered = self.ordered(js)
        await ordered.fetch(1)
        self.assertEqual([each.subject.startswith("_MINE.x.") for each in js.client.subscriptions], [True])


class ClusterTests(OrderedTestCase):
    """A stream with three replicas."""

    async def test_leaders_change_and_servers_die(self) -> None:
        """The leader of the stream steps down, and then the server dies that the client is connected to: nothing is lost or doubled."""
        cluster = await self.start_cluster(3, jetstream=True)
        options: dict[str, Any] = {"reconnect_wait": 0.05, "reconnect_jitter": 0.0}
        js = await self.stream(300, nc=await self.connect(cluster, **options), replicas=3)
        publisher = (await self.connect(cluster, **options)).jetstream()
        ordered = self.ordered(js, heartbeat=1.0)
        seen: list[int] = []
        context = ordered.consume(lambda msg: seen.append(msg.metadata.stream_seq))
        await self.more(seen, 300)
        await (await js.stream("S")).leader_stepdown()
        await self.stored(publisher, 100)
        await self.more(seen, 400)
        (server,) = (server for server in cluster.servers if server.url == js.client.connected_url)
        await server.kill()
        await self.stored(publisher, 100)
        # It may have been the leader of all: servers take up to nine seconds to choose another.
        await self.more(seen, 500)
        last = (await publisher.stream("S")).cached_info.state.last_seq
        await self.more(seen, last)
        self.assertEqual(seen, list(range(1, last + 1)))
        await context.stop()
        # What could not be deleted while there was no leader is deleted later.
        while [name async for name in publisher.consumer_names("S")]:
            await self.sleep(0.1)

    async def stored(self, js: JetStreamContext, count: int) -> None:
        """Publish so many, over all that may go wrong."""
        for _ in range(count):
            while True:
                try:
                    decode_pub_ack((await js.client.request("s.1", b"x", timeout=1.0)).data)
                except errors.NatsError:
                    await self.sleep(0.05)
                else:
                    break
