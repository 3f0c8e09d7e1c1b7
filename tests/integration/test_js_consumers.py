"""Managing consumers of real servers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.api import AckPolicy, ConsumerConfig, DeliverPolicy, PriorityPolicy
from pynats_twisted.jetstream.pull_consumer import PullConsumer
from pynats_twisted.jetstream.push_consumer import PushConsumer
from tests.support.pulling import PullingTestCase


class MakingTests(PullingTestCase):
    """Creating, changing, finding and deleting."""

    async def test_create(self) -> None:
        """A consumer is made as asked for, by the stream's handle and by the context, and its handle knows it."""
        await self.begin()
        stream = await self.js.stream("S")
        config = ConsumerConfig(durable="one", ack_wait=12.5, filter_subject="s.*", backoff=[1.0, 2.0], max_deliver=4)
        one = await stream.create_consumer(config)
        self.assertIsInstance(one, PullConsumer)
        self.assertEqual((one.name, one.stream_name), ("one", "S"))
        self.assertEqual((one.config.ack_wait, one.config.filter_subject, one.config.backoff), (1.0, "s.*", (1.0, 2.0)))
        self.assertEqual((one.cached_info.num_pending, one.cached_info.config), (0, one.config))
        two = await self.js.create_consumer("S", ConsumerConfig(durable="two"))
        self.assertEqual((await two.info()).name, "two")
        self.assertEqual(await stream.consumer_names(), ["one", "two"])
        self.assertEqual(await self.js.consumer_names("S"), ["one", "two"])

    async def test_create_twice(self) -> None:
        """The same once more is no error; another configuration is, and changes nothing."""
        await self.begin()
        config = ConsumerConfig(durable="d", ack_wait=10.0)
        await self.js.create_consumer("S", config)
        await self.js.create_consumer("S", config)
        await self.assertFailure(self.js.create_consumer("S", replace(config, ack_wait=20.0)), errors.ConsumerNameInUseError)
        self.assertEqual((await self.js.consumer("S", "d")).config.ack_wait, 10.0)

    async def test_update(self) -> None:
        """An update changes a consumer that there is, and makes none."""
        await self.begin()
        config = ConsumerConfig(durable="d", ack_wait=10.0)
        await self.assertFailure(self.js.update_consumer("S", config), errors.ConsumerNotFoundError)
        consumer = await self.js.create_consumer("S", config)
        changed = await self.js.update_consumer("S", replace(config, ack_wait=20.0))
        self.assertEqual(changed.config.ack_wait, 20.0)
        self.assertEqual(consumer.config.ack_wait, 10.0)
        await consumer.update(replace(consumer.config, ack_wait=30.0, description="slow"))
        self.assertEqual((consumer.config.ack_wait, consumer.config.description), (30.0, "slow"))
        self.assertEqual((await consumer.info()).config.ack_wait, 30.0)
        refused = consumer.update(replace(consumer.config, deliver_policy=DeliverPolicy.NEW))
        await self.assertFailure(refused, errors.ConsumerConfigRefusedError)
        self.assertEqual(consumer.config.deliver_policy, DeliverPolicy.ALL)

    async def test_create_or_update(self) -> None:
        """It makes the consumer, or changes it."""
        await self.begin()
        stream = await self.js.stream("S")
        for wait in (10.0, 20.0):
            consumer = await stream.create_or_update_consumer(ConsumerConfig(durable="d", ack_wait=wait))
            self.assertEqual((await consumer.info()).config.ack_wait, wait)
        self.assertEqual(await stream.consumer_names(), ["d"])

    async def test_unnamed(self) -> None:
        """Consumers without a name get one each, and are not durable."""
        await self.begin()
        first = await self.js.create_consumer("S", ConsumerConfig())
        second = await self.js.create_consumer("S", ConsumerConfig(inactive_threshold=60.0))
        self.assertNotEqual(first.name, second.name)
        self.assertEqual((first.config.durable, first.config.inactive_threshold, second.config.inactive_threshold), ("", 5.0, 60.0))

    async def test_filter_subjects(self) -> None:
        """Several filters, and one in the list of several, are what the consumer has."""
        await self.begin()
        several = await self.js.create_consumer("S", ConsumerConfig(durable="several", filter_subjects=["s.1", "s.2.>"]))
        self.assertEqual((await several.info()).config.filter_subjects, ("s.1", "s.2.>"))
        single = await self.js.create_consumer("S", ConsumerConfig(durable="single", filter_subjects=["s.1"]))
        config = (await single.info()).config
        self.assertEqual(config.filter_subjects or (config.filter_subject,), ("s.1",))
        changed = await self.js.update_consumer("S", replace(several.config, filter_subjects=["s.3"]))
        self.assertEqual(changed.config.filter_subjects or (changed.config.filter_subject,), ("s.3",))

    async def test_permission_by_filter(self) -> None:
        """Whoever may make consumers for some subjects only, may do so with the filter in the request's subject."""
        users = {
            "users": [
                {"user": "admin", "password": "a"},
                {
                    "user": "limited",
                    "password": "l",
                    "permissions": {"publish": ["$JS.API.CONSUMER.CREATE.S.*.s.mine.>"], "subscribe": ["_INBOX.>"]},
                },
            ]
        }
        server = await self.start_server({"authorization": users}, jetstream=True)
        admin = (await self.connect(server, user="admin", password="a")).jetstream()
        await admin.create_stream(self.stream_config())
        limited = (await self.connect(server, user="limited", password="l")).jetstream()
        consumer = await limited.create_consumer("S", ConsumerConfig(name="n", filter_subject="s.mine.*"))
        self.assertEqual(consumer.config.filter_subject, "s.mine.*")
        for config in (ConsumerConfig(name="m", filter_subject="s.*"), ConsumerConfig(name="m")):
            await self.assertFailure(limited.create_consumer("S", config), errors.PermissionsViolationError)

    async def test_delete(self) -> None:
        """A consumer is deleted by its handle, its stream or the context; what is gone is gone for all calls."""
        await self.begin()
        stream = await self.js.stream("S")
        handles = [await stream.create_consumer(ConsumerConfig(durable=name)) for name in ("a", "b", "c")]
        await handles[0].delete()
        await stream.delete_consumer("b")
        await self.js.delete_consumer("S", "c")
        self.assertEqual(await stream.consumer_names(), [])
        for handle in handles:
            find, update = partial(stream.consumer, handle.name), partial(handle.update, handle.config)
            calls: list[Callable[[], Deferred[Any]]] = [handle.info, update, handle.delete, handle.resume, partial(handle.pause, 1.0), find]
            for call in calls:
                await self.assertFailure(call(), errors.ConsumerNotFoundError)
        await self.assertFailure(self.js.consumer("T", "a"), errors.StreamNotFoundError)
        await self.assertFailure(self.js.consumer("S", "a.b"), errors.InvalidNameError)

    async def test_kinds(self) -> None:
        """The handle of a consumer with a deliver subject is that of a push consumer, however one comes by it."""
        await self.begin()
        stream = await self.js.stream("S")
        await stream.create_consumer(ConsumerConfig(durable="pull"))
        made = await stream.create_consumer(ConsumerConfig(durable="push", deliver_subject="to.me"))
        self.assertIsInstance(made, PushConsumer)
        self.assertIsInstance(await stream.consumer("push"), PushConsumer)
        self.assertIsInstance(await self.js.consumer("S", "push"), PushConsumer)
        self.assertIsInstance(await self.js.consumer("S", "pull"), PullConsumer)

    async def test_lists_of_many(self) -> None:
        """Lists that are longer than a page are complete."""
        await self.begin()
        names = [f"c{number:04}" for number in range(300)]
        for name in names:
            await self.js.create_consumer("S", ConsumerConfig(name=name, mem_storage=True, inactive_threshold=300.0))
        stream = await self.js.stream("S")
        self.assertEqual([info.name async for info in stream.consumers()], names)
        self.assertEqual([name async for name in self.js.consumer_names("S")], names)
        self.assertEqual([info.name for info in await self.js.consumers("S")], names)


class ManagingTests(PullingTestCase):
    """What is done to a consumer while it works."""

    async def test_pause_for_seconds(self) -> None:
        """A paused consumer delivers nothing until the time is over."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d")
        paused = await consumer.pause(0.7)
        self.assertTrue(paused.paused and 0 < paused.pause_remaining <= 0.7, paused)
        self.assertTrue((await consumer.info()).paused)
        self.assertEqual(await self.pull(consumer, wait=0.3), [])
        self.assertEqual(len(await self.pull(consumer, wait=3.0)), 1)
        self.assertFalse((await consumer.info()).paused)

    async def test_pause_until(self) -> None:
        """A consumer is paused until a time; resuming ends that early."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d")
        until = datetime.now(timezone.utc) + timedelta(hours=1)
        paused = await consumer.pause(until)
        self.assertEqual((paused.paused, paused.pause_until), (True, until))
        self.assertTrue(3590 < paused.pause_remaining <= 3600)
        self.assertEqual(await self.pull(consumer, wait=0.3), [])
        self.assertFalse((await consumer.resume()).paused)
        self.assertEqual(len(await self.pull(consumer)), 1)
        self.assertFalse((await consumer.resume()).paused)
        await self.assertFailure(consumer.pause(datetime(2030, 1, 1)), errors.JetStreamConfigError)  # noqa: DTZ001

    async def test_reset(self) -> None:
        """After a reset what was not acked comes again, or everything from a sequence on."""
        await self.begin(4)
        consumer = await self.consumer_of(durable="d", ack_wait=30.0)
        msgs = await self.pull(consumer, 3)
        await msgs[0].ack_sync()
        reset = await consumer.reset()
        self.assertEqual((reset.reset_seq, reset.num_ack_pending), (2, 0))
        self.assertEqual(consumer.cached_info.name, "d")
        self.assertEqual([msg.data for msg in await self.pull(consumer, 3)], [b"2", b"3", b"4"])
        self.assertEqual((await consumer.reset(1)).reset_seq, 1)
        self.assertEqual([msg.data for msg in await self.pull(consumer, 4)], [b"1", b"2", b"3", b"4"])

    async def test_reset_of_a_deleted_consumer(self) -> None:
        """The server does not answer then; the error says all the same that the consumer is gone."""
        await self.begin()
        self.js.timeout = 0.5
        consumer = await self.consumer_of(durable="d")
        await consumer.delete()
        await self.assertFailure(consumer.reset(), errors.ConsumerNotFoundError)

    async def test_reset_below_its_start(self) -> None:
        """A consumer that begins later in the stream cannot be made to begin before that."""
        await self.begin(4)
        consumer = await self.consumer_of(durable="d", deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=3)
        await self.assertFailure(consumer.reset(1), errors.ConsumerResetError)

    async def test_unpin(self) -> None:
        """The pin of a priority group is taken; a group that is not there is an error."""
        await self.begin(2)
        consumer = await self.consumer_of(durable="d", priority_policy=PriorityPolicy.PINNED_CLIENT, priority_groups=["g"])
        self.assertEqual(len(await self.pull(consumer, group="g")), 1)
        (group,) = (await consumer.info()).priority_groups
        self.assertTrue(group.pinned_client_id)
        await consumer.unpin("g")
        (group,) = (await consumer.info()).priority_groups
        self.assertFalse(group.pinned_client_id)
        await self.assertFailure(consumer.unpin("other"), errors.PriorityGroupError)

    async def test_old_context(self) -> None:
        """A handle goes through its own context: behind a domain too."""
        await self.begin(1, domain="hub")
        consumer = await self.consumer_of(durable="d", ack_policy=AckPolicy.EXPLICIT)
        self.assertEqual((await consumer.info()).num_pending, 1)
        (msg,) = await self.pull(consumer)
        await msg.ack_sync()
        self.assertEqual((await consumer.info()).ack_floor.stream_seq, 1)

    async def test_leader_stepdown(self) -> None:
        """Another server of a cluster leads the consumer afterwards."""
        cluster = await self.start_cluster(3, jetstream=True)
        js = (await self.connect(cluster)).jetstream()
        stream = await js.create_stream(replace(self.stream_config(), replicas=3))
        consumer = await stream.create_consumer(ConsumerConfig(durable="d"))
        before = (await consumer.info()).cluster
        assert before is not None
        await consumer.leader_stepdown()
        end = self.reactor.seconds() + 10
        leader = before.leader
        while leader in ("", before.leader) and self.reactor.seconds() < end:
            try:
                after = (await consumer.info()).cluster
            except (errors.RequestTimeoutError, errors.JetStreamUnavailableError):
                continue
            leader = after.leader if after is not None else ""
            await self.sleep(0.05)
        self.assertNotIn(leader, ("", before.leader))
