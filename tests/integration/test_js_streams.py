"""Streams on real servers: made, changed, listed, read and emptied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from twisted.internet.defer import Deferred, gatherResults

from pynats_twisted import NatsClient, errors
from pynats_twisted.jetstream.api import (
    ConsumerLimits,
    ExternalStream,
    Placement,
    Republish,
    StreamConfig,
    StreamSource,
    SubjectTransform,
    decode_pub_ack,
)
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.deferred import deferred
from pynats_twisted.jetstream.stream import Stream
from pynats_twisted.jetstream.stream_echo import dropped_fields
from tests.jetstream.test_stream_echo import FEATURES
from tests.support.jetstream import Headers, JetStreamTestCase

T = TypeVar("T")


class StreamTestCase(JetStreamTestCase):
    async def context(self) -> JetStreamContext:
        return (await self.jetstream()).jetstream()

    async def fill(self, nc: NatsClient, *subjects: str, headers: Headers = None) -> list[int]:
        """Store a message on each subject, with its subject as payload, and return their sequences."""
        return [decode_pub_ack((await nc.request(subject, subject.encode(), headers)).data).seq for subject in subjects]


class MakingTests(StreamTestCase):
    """Streams are made, changed, found and deleted."""

    async def test_the_life_of_a_stream(self) -> None:
        """A stream is made, found by name and by subject, changed and deleted."""
        js = await self.context()
        made = await js.create_stream(StreamConfig(name="orders", subjects=["orders.>"]))
        self.assertIsInstance(made, Stream)
        self.assertEqual((made.name, made.config.subjects), ("orders", ("orders.>",)))
        found = await js.stream("orders")
        self.assertEqual(found.config, made.config)
        self.assertEqual(await js.stream_name_by_subject("orders.new.1"), "orders")
        info = await found.update(replace(found.config, max_age=600.0))
        self.assertEqual((info.config.max_age, found.config.max_age), (600.0, 600.0))
        self.assertEqual((await js.update_stream(replace(found.config, max_age=900.0))).config.max_age, 900.0)
        self.assertEqual((found.config.max_age, (await found.info()).config.max_age, found.config.max_age), (600.0, 900.0, 900.0))
        await found.delete()
        await self.assertFailure(found.info(), errors.StreamNotFoundError)
        await self.assertFailure(js.stream("orders"), errors.StreamNotFoundError)
        await self.assertFailure(js.delete_stream("orders"), errors.StreamNotFoundError)
        await self.assertFailure(js.stream_name_by_subject("orders.new.1"), errors.StreamNotFoundError)

    async def test_making_the_same_again_is_no_error(self) -> None:
        """A program may make its stream at each start; only another configuration is refused."""
        js = await self.context()
        config = StreamConfig(name="S", subjects=["s"])
        await js.create_stream(config)
        await js.create_stream(config)
        await self.assertFailure(js.create_stream(replace(config, max_age=5.0)), errors.StreamNameInUseError)
        await self.assertFailure(js.create_stream(replace(config, name="T")), errors.SubjectOverlapError)
        await self.assertFailure(js.update_stream(replace(config, name="T")), errors.StreamNotFoundError)

    async def test_create_or_update_by_many_at_once(self) -> None:
        """Programs that start at the same time and each want the stream as it should be all get it."""
        nc = await self.jetstream()
        configs = [StreamConfig(name="S", subjects=["s"], max_msgs=number) for number in range(1, 11)]
        streams = await gatherResults([nc.jetstream().create_or_update_stream(config) for config in configs])
        # Each is told what the stream has become, perhaps by another one's update.
        self.assertEqual([stream.config.subjects for stream in streams], [("s",)] * 10)
        self.assertEqual(await nc.jetstream().stream_names(), ["S"])

    async def test_server_of_now_takes_every_feature(self) -> None:
        """What an old server drops, a new one takes and says so."""
        js = await self.context()
        await js.create_stream(StreamConfig(name="ORIGIN", subjects=["origin.>"]))
        for number, fields in enumerate(FEATURES):
            config = StreamConfig(**{"name": f"S{number}", **fields})
            if config.sealed:
                await js.create_stream(replace(config, sealed=False))
            else:
                await js.create_stream(config)
            stream = await js.create_or_update_stream(config)
            self.assertEqual(dropped_fields(config, stream.config), [])

    async def test_what_the_server_writes_in_another_way(self) -> None:
        """Zeros and empty filters that the server writes out are not taken for dropped ones."""
        js = await self.context()
        config = StreamConfig(
            name="S",
            subjects=["s.*"],
            max_msgs=0,
            max_consumers=0,
            max_msgs_per_subject=0,
            replicas=0,
            placement=Placement(),
            republish=Republish(dest="again.>"),
            subject_transform=SubjectTransform(dest="stored.>"),
            consumer_limits=ConsumerLimits(),
            sources=[StreamSource(name="FAR", external=ExternalStream(api_prefix="$JS.hub.API"))],
        )
        made = (await js.create_stream(config)).config
        self.assertEqual((made.max_msgs, dropped_fields(config, made)), (-1, []))


class StateTests(StreamTestCase):
    """What is in a stream."""

    async def test_names_and_lists_over_pages(self) -> None:
        """All streams are listed, however many pages they take."""
        nc = await self.jetstream()
        js = nc.jetstream()
        count = 300
        configs = [StreamConfig(name=f"S{number:04}", subjects=[f"s.{number}"], storage="memory") for number in range(count)]
        await gatherResults([js.create_stream(config) for config in configs])
        names = [config.name for config in configs]
        self.assertEqual(sorted(await js.stream_names()), names)
        self.assertEqual(sorted([info.config.name async for info in js.streams()]), names)
        self.assertEqual(await js.stream_names("s.7"), ["S0007"])
        self.assertEqual([info.config.name for info in await js.streams("s.7")], ["S0007"])
        self.assertEqual(await js.stream_names("elsewhere"), [])

    async def test_subjects_and_deleted(self) -> None:
        """An info tells the messages of each subject that matches, and what is gone."""
        nc = await self.jetstream()
        stream = await nc.jetstream().create_stream(StreamConfig(name="S", subjects=["s.>"]))
        await self.fill(nc, "s.a", "s.b", "s.a", "s.c.d")
        await stream.delete_msg(2)
        info = await stream.info(">", deleted_details=True)
        self.assertEqual((info.state.subjects, info.state.deleted), ({"s.a": 2, "s.c.d": 1}, (2,)))
        self.assertEqual((await stream.info("s.*")).state.subjects, {"s.a": 2})
        info = await stream.info()
        self.assertEqual((info.state.subjects, info.state.deleted, info.state.num_deleted), ({}, (), 1))
        self.assertIs(stream.cached_info, info)

    async def test_more_subjects_than_a_page_has(self) -> None:
        """The subjects of a stream come all, also when they are more than 100,000."""
        nc = await self.jetstream()
        stream = await nc.jetstream().create_stream(StreamConfig(name="S", subjects=["s.>"], storage="memory", no_ack=True))
        count = 100_500
        for number in range(count):
            await nc.publish(f"s.{number}")
        await nc.flush()
        for _ in range(200):
            if (await stream.info()).state.messages == count:
                break
            await self.sleep(0.02)
        info = await stream.info(">")
        self.assertEqual((len(info.state.subjects), set(info.state.subjects.values())), (count, {1}))
        self.assertEqual(info.total, count)

    async def test_purge(self) -> None:
        """A purge removes what it says, and tells how much that was."""
        nc = await self.jetstream()
        stream = await nc.jetstream().create_stream(StreamConfig(name="S", subjects=["s.>"]))
        await self.fill(nc, *["s.a", "s.b"] * 5)
        self.assertEqual(await stream.purge(seq=3), 2)
        self.assertEqual(await stream.purge(filter="s.a", keep=1), 3)
        self.assertEqual(await stream.purge(filter="s.*", seq=6), 1)
        self.assertEqual((await stream.info(">")).state.subjects, {"s.a": 1, "s.b": 3})
        self.assertEqual(await stream.purge(), 4)
        self.assertEqual(await stream.purge(), 0)

    async def test_purge_with_nothing_said_in_an_argument(self) -> None:
        """A sequence of 0 or an empty filter, from a mistake in a program, does not empty the stream."""
        nc = await self.jetstream()
        stream = await nc.jetstream().create_stream(StreamConfig(name="S", subjects=["s"]))
        await self.fill(nc, "s")
        await self.assertFailure(stream.purge(seq=0), errors.JetStreamConfigError)
        await self.assertFailure(stream.purge(seq=-1), errors.JetStreamConfigError)
        await self.assertFailure(stream.purge(filter=""), errors.InvalidSubjectError)
        await self.assertFailure(stream.purge(seq=2, keep=0), errors.JetStreamConfigError)
        await self.assertFailure(stream.purge(keep=-1), errors.JetStreamConfigError)
        self.assertEqual((await stream.info()).state.messages, 1)

    async def test_deleting_messages(self) -> None:
        """A message is removed in both ways, once."""
        nc = await self.jetstream()
        stream = await nc.jetstream().create_stream(StreamConfig(name="S", subjects=["s"]))
        await self.fill(nc, "s", "s", "s")
        await stream.delete_msg(2)
        await self.assertFailure(stream.delete_msg(2), errors.MessageNotFoundError)
        await stream.secure_delete_msg(1)
        await self.assertFailure(stream.secure_delete_msg(99), errors.MessageDeleteError)
        await self.assertFailure(stream.delete_msg(0), errors.JetStreamConfigError)
        self.assertEqual((await stream.info()).state.first_seq, 3)

    async def test_leader_steps_down(self) -> None:
        """In a cluster another server leads afterwards; the one that was named, in the end."""
        js = (await self.connect(await self.start_cluster(jetstream=True))).jetstream(timeout=1.0)
        stream = await self.ready(lambda: js.create_stream(StreamConfig(name="S", subjects=["s"], replicas=3)))
        leader, others = await self.ready(lambda: self.leader_of(stream))
        wanted = others[0]
        while leader != wanted:
            # One that is not up to date yet may leave the lead to the third.
            await self.ready(lambda: stream.leader_stepdown(Placement(preferred=wanted)))
            before = leader
            while leader == before:
                leader, _ = await self.ready(lambda: self.leader_of(stream))

    @deferred
    async def leader_of(self, stream: Stream) -> tuple[str, list[str]]:
        found = (await stream.info()).cluster
        assert found is not None
        if not found.leader:
            raise errors.JetStreamUnavailableError(503, 10008)
        return found.leader, [peer.name for peer in found.replicas]

    async def ready(self, ask: Callable[[], Deferred[T]]) -> T:
        """The answer of a cluster that may just be without a leader."""
        while True:
            try:
                return await ask()
            except (errors.JetStreamApiError, errors.RequestTimeoutError):
                await self.sleep(0.05)
