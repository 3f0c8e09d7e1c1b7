"""Configurations and real servers understand each other completely."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any
from unittest import mock

from pynats_twisted import NatsClient
from pynats_twisted.errors import (
    ConsumerFilterError,
    InvalidJsonError,
    JetStreamApiError,
    NoRespondersError,
)
from pynats_twisted.jetstream.api import (
    ConsumerConfig,
    ConsumerInfo,
    ConsumerLimits,
    CreateConsumerRequest,
    ExternalStream,
    Placement,
    Republish,
    StreamConfig,
    StreamConsumerSource,
    StreamInfo,
    StreamSource,
    SubjectTransform,
    SuccessResponse,
    decode,
    encode,
    user_metadata,
)
from pynats_twisted.jetstream.api.fields import table_of
from tests.jetstream.test_rules import GOOD_CONSUMERS, GOOD_STREAMS, WRONG_CONSUMERS, WRONG_STREAMS
from tests.support.jetstream import PREFIX, JetStreamTestCase

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
CONSUMER_SOURCE = StreamConsumerSource(name="c", deliver_subject="deliver.here")

#: Streams that together say everything that can be said, each what goes together.
STREAMS: list[StreamConfig] = [
    StreamConfig(
        name="LIMITS",
        description="all limits, in files",
        subjects=["limits.>", "other.*"],
        max_consumers=5,
        max_msgs=1000,
        max_bytes=1_000_000,
        max_age=3600.1,
        max_msgs_per_subject=7,
        max_msg_size=65_536,
        discard="new",
        discard_new_per_subject=True,
        storage="file",
        duplicate_window=60.5,
        placement=Placement(cluster="", tags=()),
        compression="s2",
        first_seq=100,
        subject_transform=SubjectTransform(src="limits.*", dest="stored.$1"),
        republish=Republish(src="stored.>", dest="again.>", headers_only=True),
        allow_direct=True,
        deny_delete=True,
        deny_purge=True,
        consumer_limits=ConsumerLimits(inactive_threshold=300.25, max_ack_pending=50),
        metadata={"owner": "me", "ключ": "значение"},
    ),
    StreamConfig(name="MEMORY", subjects=["memory"], storage="memory", retention="workqueue", no_ack=True),
    StreamConfig(
        name="NEW",
        subjects=["new.>"],
        retention="interest",
        allow_rollup_hdrs=True,
        allow_msg_ttl=True,
        subject_delete_marker_ttl=30.0,
        allow_atomic=True,
        allow_msg_schedules=True,
        allow_batched=True,
    ),
    StreamConfig(name="COUNTERS", subjects=["counters.>"], allow_msg_counter=True, allow_direct=True),
    StreamConfig(name="ASYNC", subjects=["async"], persist_mode="async"),
    StreamConfig(name="MIRROR", mirror=StreamSource(name="LIMITS", opt_start_seq=101, filter_subject="stored.a"), mirror_direct=True),
    StreamConfig(name="MIRROR2", mirror=StreamSource(name="NEW", consumer=CONSUMER_SOURCE)),
    StreamConfig(
        name="SOURCES",
        subjects=["sources"],
        sources=[
            StreamSource(name="LIMITS", opt_start_time=START, subject_transforms=[SubjectTransform(src="stored.*", dest="from.$1")]),
            StreamSource(name="FAR", external=ExternalStream(api_prefix="$JS.hub.API", deliver_prefix="far.deliver")),
            StreamSource(name="NEW", filter_subject="new.a"),
        ],
    ),
]

CONSUMERS: list[ConsumerConfig] = [
    ConsumerConfig(
        durable="pull",
        name="pull",
        description="all of a pull consumer",
        deliver_policy="by_start_sequence",
        opt_start_seq=3,
        ack_wait=1.5,
        max_deliver=5,
        backoff=[1.5, 2.25, 60.0],
        filter_subjects=["work.a", "work.b.*"],
        replay_policy="original",
        sample_freq="50%",
        max_waiting=12,
        max_ack_pending=34,
        headers_only=True,
        max_batch=56,
        max_expires=78.5,
        max_bytes=90_000,
        inactive_threshold=3600.0,
        replicas=1,
        mem_storage=True,
        metadata={"owner": "me"},
        pause_until=datetime(2100, 1, 1, tzinfo=timezone.utc),
    ),
    ConsumerConfig(
        name="push",
        deliver_policy="by_start_time",
        opt_start_time=START,
        ack_policy="all",
        filter_subject="work.>",
        rate_limit_bps=1_000_000,
        flow_control=True,
        deliver_subject="push.here",
        deliver_group="workers",
        idle_heartbeat=5.5,
        inactive_threshold=60.0,
    ),
    ConsumerConfig(name="overflow", priority_policy="overflow", priority_groups=["A"]),
    ConsumerConfig(name="pinned", priority_policy="pinned_client", priority_groups=["A"], priority_timeout=7.5),
    ConsumerConfig(name="prioritized", priority_policy="prioritized", priority_groups=["A"]),
    ConsumerConfig(durable="fc", ack_policy="flow_control", deliver_subject="fc.here", max_ack_pending=10, filter_subject="work.x"),
    ConsumerConfig(name="none", ack_policy="none", deliver_policy="last_per_subject", filter_subject=">"),
    ConsumerConfig(name="last", deliver_policy="last"),
    ConsumerConfig(name="new", deliver_policy="new"),
]


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Without our rules, so that the server's show."""
    with contextlib.ExitStack() as stack:
        for kind in (StreamConfig, StreamSource, Republish, ConsumerConfig):
            stack.enter_context(mock.patch.object(kind, "check_rules", lambda self: None))
        yield


class ConfigTestCase(JetStreamTestCase):
    def check_echo(self, sent: StreamConfig | ConsumerConfig, got: StreamConfig | ConsumerConfig) -> None:
        """Whatever was said is in the answer."""
        for spec in table_of(type(sent)).specs:
            value, echoed = getattr(sent, spec.name), getattr(got, spec.name)
            if spec.name == "metadata":
                self.assertEqual(user_metadata(echoed), value)
            elif value != spec.default and value != Placement():
                self.assertEqual(echoed, value, spec.name)


class ConfigurationTests(ConfigTestCase):
    """Configurations on their way to a server and back."""

    async def test_streams(self) -> None:
        """Everything that a stream's configuration can say is understood, and comes back as it was said."""
        nc = await self.jetstream()
        for config in STREAMS:
            info = await self.create_stream(nc, config)
            self.assertTrue(info.did_create)
            self.check_echo(config, info.config)
            self.assertEqual((await self.ask(nc, StreamInfo, PREFIX.stream_info(config.name))).config, info.config)

    def test_every_field_of_streams_is_tried(self) -> None:
        """The streams above leave out no field that can be sent, but what only an update can set, or a cluster take."""
        said = {spec.name for config in STREAMS for spec in table_of(StreamConfig).specs if getattr(config, spec.name) != spec.default}
        self.assertEqual({spec.name for spec in table_of(StreamConfig).specs if not spec.readonly} - said, {"sealed", "replicas"})

    async def test_streams_change(self) -> None:
        """The configuration in an info can be changed and sent as an update; nothing else of it changes."""
        nc = await self.jetstream()
        for config in STREAMS:
            before = (await self.create_stream(nc, config)).config
            changed = dataclasses.replace(before, description="changed")
            after = await self.ask(nc, StreamInfo, PREFIX.stream_update(config.name), changed)
            self.assertEqual(after.config, changed)
        sealed = dataclasses.replace(STREAMS[-1], sealed=True)
        self.assertTrue((await self.ask(nc, StreamInfo, PREFIX.stream_update(sealed.name), sealed)).config.sealed)

    async def test_consumers(self) -> None:
        """Everything that a consumer's configuration can say is understood, and comes back as it was said."""
        nc = await self.jetstream()
        await self.create_stream(nc, StreamConfig(name="WORK", subjects=["work.>"]))
        for config in CONSUMERS:
            info = await self.create_consumer(nc, "WORK", config)
            self.check_echo(config, info.config)
            again = await self.ask(nc, ConsumerInfo, PREFIX.consumer_info("WORK", config.durable or config.name))
            self.assertEqual(again.config, info.config)

    def test_every_field_of_consumers_is_tried(self) -> None:
        """The consumers above leave out no field that can be sent."""
        said = {spec.name for config in CONSUMERS for spec in table_of(ConsumerConfig).specs if getattr(config, spec.name) != spec.default}
        self.assertEqual({spec.name for spec in table_of(ConsumerConfig).specs if not spec.readonly} - said, set())

    async def test_consumers_change(self) -> None:
        """The same for consumers."""
        nc = await self.jetstream()
        await self.create_stream(nc, StreamConfig(name="WORK", subjects=["work.>"]))
        for config in CONSUMERS:
            before = (await self.create_consumer(nc, "WORK", config)).config
            changed = dataclasses.replace(before, description="changed")
            self.assertEqual((await self.create_consumer(nc, "WORK", changed, "update")).config, changed)

    async def test_replicas_and_placement(self) -> None:
        """In a cluster, streams and consumers say where they are."""
        cluster = await self.start_cluster(jetstream=True)
        nc = await self.connect(cluster)
        assert nc.server_info is not None
        config = StreamConfig(name="R3", subjects=["r3"], replicas=3, placement=Placement(cluster=nc.server_info.cluster))

        async def created() -> StreamInfo | None:
            try:
                return await self.create_stream(nc, config)
            except (JetStreamApiError, NoRespondersError):
                return None  # the cluster has no leader yet

        info = None
        while info is None:
            info = await created()
            await self.sleep(0.05)
        self.check_echo(config, info.config)
        assert info.cluster is not None
        self.assertEqual(len(info.cluster.replicas), 2)
        consumer = await self.create_consumer(nc, "R3", ConsumerConfig(durable="c", replicas=1))
        self.assertEqual(consumer.config.replicas, 1)
        self.assertEqual((await self.ask(nc, StreamInfo, PREFIX.stream_info("R3"))).config.replicas, 3)


class RuleTests(ConfigTestCase):
    """Our rules are the server's."""

    async def test_what_we_refuse_the_server_refuses_or_changes(self) -> None:
        """No configuration is refused here that a server would take as it is."""
        nc = await self.jetstream()
        await self.create_stream(nc, StreamConfig(name="S", subjects=["a.>", "b"]))
        taken = []
        for fields, field in WRONG_STREAMS:
            if field != "name":  # a part of the request's subject
                with unchecked():
                    request = encode(StreamConfig(**{"name": "A", **fields}))
                taken += await self.taken(nc, PREFIX.stream_create("A"), request, json.loads(request), fields)
                await nc.request(PREFIX.stream_delete("A"))
        for fields, field in WRONG_CONSUMERS:
            if field not in ("name", "durable", "backoff.1"):  # a duration is never negative
                with unchecked():
                    request = encode(CreateConsumerRequest(stream_name="S", config=ConsumerConfig(name="c", **fields)))
                taken += await self.taken(nc, PREFIX.consumer_create("S", "c"), request, json.loads(request)["config"], fields)
                await nc.request(PREFIX.consumer_delete("S", "c"))
        self.assertEqual(taken, [])

    async def taken(
        self, nc: NatsClient, subject: str, request: bytes, sent: dict[str, Any], fields: dict[str, Any]
    ) -> list[dict[str, Any]]:
        answer = json.loads((await nc.request(subject, request)).data)
        if "error" in answer:
            return []
        return [fields] if all(answer["config"].get(key) == value for key, value in sent.items()) else []

    async def test_what_we_take_the_server_takes(self) -> None:
        """Configurations at the border of the rules are taken by a server."""
        nc = await self.jetstream()
        for fields in GOOD_STREAMS:
            config = StreamConfig(**{"name": "A", **fields})
            self.check_echo(config, (await self.create_stream(nc, config)).config)
            await self.ask(nc, SuccessResponse, PREFIX.stream_delete(config.name))
        await self.create_stream(nc, StreamConfig(name="S", subjects=["a.>", "b"]))
        for fields in GOOD_CONSUMERS:
            config_of_consumer = ConsumerConfig(**{"name": "a", **fields})
            self.check_echo(config_of_consumer, (await self.create_consumer(nc, "S", config_of_consumer)).config)
            await self.ask(nc, SuccessResponse, PREFIX.consumer_delete("S", "a"))

    async def test_the_filter_in_the_subject(self) -> None:
        """The server takes a consumer's filter, also one with wildcards, in the request's subject, and refuses another one there."""
        server = await self.start_server(jetstream=True)
        await self.create_stream(await self.connect(server), StreamConfig(name="S", subjects=["a.>"]))
        witness = self.witness(server, "answers")
        request = encode(CreateConsumerRequest(stream_name="S", config=ConsumerConfig(name="c", filter_subject="a.*.c")))
        witness.publish(PREFIX.consumer_create("S", "c", "a.*.c"), request, reply="answers")
        self.assertEqual(decode(ConsumerInfo, witness.next().payload).config.filter_subject, "a.*.c")
        witness.publish(PREFIX.consumer_create("S", "c", "a.>"), request, reply="answers")
        self.assertRaises(ConsumerFilterError, decode, ConsumerInfo, witness.next().payload)

    async def test_strict_servers_refuse_unknown_fields(self) -> None:
        """Why unknown fields are never sent: the server refuses the whole request."""
        nc = await self.jetstream()
        raw = {**json.loads(encode(StreamConfig(name="A"))), "tomorrow": True}
        with self.assertRaises(InvalidJsonError):
            await self.ask(nc, StreamInfo, PREFIX.stream_create("A"), json.dumps(raw).encode())
        config = StreamConfig(name="A", unknown={"tomorrow": True})
        self.assertEqual((await self.create_stream(nc, config)).config.name, "A")
