"""Every answer of the JetStream API, from a real server, is understood."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone
from typing import Any

from pynats_twisted import NatsClient
from pynats_twisted.errors import (
    ConsumerNameInUseError,
    ConsumerNotFoundError,
    MessageDeleteError,
    MessageNotFoundError,
    NoRespondersError,
    RequiredApiLevelError,
    StreamNameInUseError,
    StreamNotFoundError,
    WrongLastSequenceError,
)
from pynats_twisted.jetstream.api import (
    API_LEVEL,
    REQUIRED_LEVEL_HEADER,
    AccountInfo,
    ApiPrefix,
    ConsumerConfig,
    ConsumerInfo,
    ConsumerList,
    ConsumerNames,
    ConsumerPauseRequest,
    ConsumerResetInfo,
    ConsumerResetRequest,
    ConsumerUnpinRequest,
    ExternalStream,
    MsgDeleteRequest,
    MsgGetRequest,
    MsgGetResponse,
    NextRequest,
    PagedRequest,
    PauseInfo,
    PubAck,
    PurgeRequest,
    PurgeResponse,
    StreamConfig,
    StreamInfo,
    StreamInfoRequest,
    StreamList,
    StreamNames,
    StreamsRequest,
    SubjectTransform,
    SuccessResponse,
    UnpinResponse,
    check_api_level,
    decode_batch_flow,
    decode_counter,
    decode_pub_ack,
    encode,
    parse_ack_subject,
)
from tests.integration.test_jetstream_api import CONSUMERS, STREAMS
from tests.support.jetstream import PREFIX, Headers, JetStreamTestCase


class AnswerTests(JetStreamTestCase):
    """Answers of every kind."""

    async def publish(self, nc: NatsClient, subject: str, payload: bytes = b"", headers: Headers = None) -> PubAck:
        return decode_pub_ack((await nc.request(subject, payload, headers)).data)

    async def test_account(self) -> None:
        """What the account uses and may use, and the server's API level."""
        nc = await self.jetstream()
        info = await self.ask(nc, AccountInfo, PREFIX.account_info())
        self.assertEqual((info.streams, info.limits.max_streams, info.api.level), (0, -1, API_LEVEL))
        self.assertEqual(getattr(nc.server_info, "api_lvl", None), API_LEVEL)
        for config in (*STREAMS, *CONSUMERS):
            check_api_level(config, info.api.level)

    async def test_too_high_a_level(self) -> None:
        """A server below the level that a request names refuses it."""
        nc = await self.jetstream()
        with self.assertRaises(RequiredApiLevelError):
            await self.ask(nc, AccountInfo, PREFIX.account_info(), headers={REQUIRED_LEVEL_HEADER: str(API_LEVEL + 1)})

    async def test_domain(self) -> None:
        """A server with a domain is reached under its prefix, and names the domain; another domain is nobody's."""
        server = await self.start_server(jetstream={"domain": "hub"})
        nc = await self.connect(server)
        hub = ApiPrefix(domain="hub")
        info = await self.ask(nc, StreamInfo, hub.stream_create("A"), StreamConfig(name="A", subjects=["a"]))
        self.assertEqual(info.config.name, "A")
        self.assertEqual((await self.ask(nc, StreamInfo, hub.stream_info("A"))).domain, "hub")
        self.assertEqual((await self.ask(nc, AccountInfo, hub.account_info())).domain, "hub")
        self.assertEqual((await self.publish(nc, "a")).domain, "hub")
        with self.assertRaises(NoRespondersError):
            await nc.request(ApiPrefix(domain="elsewhere").account_info())

    async def test_names_and_lists(self) -> None:
        """Streams and consumers by names and infos, in pages."""
        nc = await self.jetstream()
        for name in ("A", "B"):
            await self.create_stream(nc, StreamConfig(name=name, subjects=[f"{name}.>"]))
        names = await self.ask(nc, StreamNames, PREFIX.stream_names())
        self.assertEqual((names.streams, names.total, names.limit), (("A", "B"), 2, 1024))
        self.assertEqual((await self.ask(nc, StreamNames, PREFIX.stream_names(), StreamsRequest(subject="B.x"))).streams, ("B",))
        streams = await self.ask(nc, StreamList, PREFIX.stream_list(), StreamsRequest(offset=1))
        self.assertEqual(([info.config.name for info in streams.streams], streams.offset, streams.limit), (["B"], 1, 256))
        self.assertEqual((await self.ask(nc, ConsumerNames, PREFIX.consumer_names("A"))).consumers, ())
        await self.create_consumer(nc, "A", ConsumerConfig(durable="c"))
        self.assertEqual((await self.ask(nc, ConsumerNames, PREFIX.consumer_names("A"), PagedRequest(offset=0))).consumers, ("c",))
        self.assertEqual((await self.ask(nc, ConsumerList, PREFIX.consumer_list("A"))).consumers[0].name, "c")

    async def test_state_of_a_stream(self) -> None:
        """A stream says what is in it, by subjects, and what is gone; an empty one has no times."""
        nc = await self.jetstream()
        empty = await self.create_stream(nc, StreamConfig(name="A", subjects=["a.*"]))
        self.assertEqual((empty.state.messages, empty.state.first_ts, empty.state.last_ts), (0, None, None))
        for subject in ("a.x", "a.y", "a.x"):
            await self.publish(nc, subject, b"data", headers={"My-Header": "1"})
        await self.ask(nc, SuccessResponse, PREFIX.msg_delete("A"), MsgDeleteRequest(seq=2, no_erase=True))
        request = StreamInfoRequest(deleted_details=True, subjects_filter=">")
        info = await self.ask(nc, StreamInfo, PREFIX.stream_info("A"), request)
        self.assertEqual((info.state.messages, info.state.deleted, info.state.subjects), (2, (2,), {"a.x": 2}))
        self.assertEqual((info.total, info.limit), (1, 100_000))
        assert info.state.first_ts is not None
        self.assertLess(abs(datetime.now(timezone.utc) - info.state.first_ts), timedelta(minutes=1))
        found = (await self.ask(nc, MsgGetResponse, PREFIX.msg_get("A"), MsgGetRequest(last_by_subj="a.*"))).message
        self.assertEqual((found.subject, found.seq, found.data, found.time), ("a.x", 3, b"data", info.state.last_ts))
        self.assertEqual(found.header_block, b"NATS/1.0\r\nMy-Header: 1\r\n\r\n")
        with self.assertRaises(MessageNotFoundError):
            await self.ask(nc, MsgGetResponse, PREFIX.msg_get("A"), MsgGetRequest(seq=2))
        with self.assertRaises(MessageNotFoundError):
            await self.ask(nc, SuccessResponse, PREFIX.msg_delete("A"), MsgDeleteRequest(seq=2))
        with self.assertRaises(MessageDeleteError):
            await self.ask(nc, SuccessResponse, PREFIX.msg_delete("A"), MsgDeleteRequest(seq=99))
        purged = await self.ask(nc, PurgeResponse, PREFIX.stream_purge("A"), PurgeRequest(filter="a.x", keep=1))
        self.assertEqual((purged.success, purged.purged), (True, 1))

    async def test_origins(self) -> None:
        """A mirror and sources say how they follow their origins; one that was never heard has no age."""
        nc = await self.jetstream()
        for config in STREAMS:
            await self.create_stream(nc, config)
        mirror = (await self.ask(nc, StreamInfo, PREFIX.stream_info("MIRROR"))).mirror
        assert mirror is not None
        self.assertEqual(mirror.name, "LIMITS")
        sources = {source.name: source for source in (await self.ask(nc, StreamInfo, PREFIX.stream_info("SOURCES"))).sources}
        self.assertEqual(set(sources), {"LIMITS", "FAR", "NEW"})
        self.assertIsNone(sources["FAR"].active)
        self.assertEqual(sources["NEW"].filter_subject, "new.a")
        self.assertEqual(sources["LIMITS"].subject_transforms, (SubjectTransform(src="stored.*", dest="from.$1"),))
        self.assertEqual(sources["FAR"].external, ExternalStream(api_prefix="$JS.hub.API", deliver_prefix="far.deliver"))

    async def test_publishes(self) -> None:
        """Every form of the answer to a publish."""
        nc = await self.jetstream()
        for config in STREAMS:
            await self.create_stream(nc, config)
        ack = await self.publish(nc, "other.a", headers={"Nats-Msg-Id": "1"})
        self.assertEqual(ack, PubAck(stream="LIMITS", seq=100))
        self.assertTrue((await self.publish(nc, "other.a", headers={"Nats-Msg-Id": "1"})).duplicate)
        with self.assertRaises(WrongLastSequenceError) as caught:
            await self.publish(nc, "other.a", headers={"Nats-Expected-Last-Sequence": "7"})
        self.assertEqual(caught.exception.last_sequence, 100)
        self.assertEqual((await self.publish(nc, "counters.a", headers={"Nats-Incr": "+5"})).val, "5")
        counter = (await self.ask(nc, MsgGetResponse, PREFIX.msg_get("COUNTERS"), MsgGetRequest(seq=1))).message
        self.assertEqual(decode_counter(counter.data), 5)
        batch = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1"}
        await self.create_consumer(nc, "NEW", ConsumerConfig(durable="c"))  # somebody has to be interested
        ack = await self.publish(nc, "new.a", headers=batch)
        self.assertEqual((ack.batch, ack.count, ack.unknown), ("b", 1, {}))

    async def test_fast_ingest(self) -> None:
        """The flow of a batch, from its first message to the ack at its end."""
        nc = await self.jetstream()
        await self.create_stream(nc, StreamConfig(name="F", subjects=["f"], allow_batched=True))
        inbox = "_INBOX.batch1"
        flow = nc.subscribe(f"{inbox}.>")
        await flow
        for number, operation in enumerate((0, 1, 2), 1):
            await nc.publish("f", b"x", reply=f"{inbox}.10.fail.{number}.{operation}.$FI")
        seen: list[Any] = []
        while not seen or not isinstance(seen[-1], PubAck):
            seen.append(decode_batch_flow((await flow.next(timeout=5.0)).data))
        self.assertEqual(type(seen[0]).__name__, "BatchFlowAck")
        self.assertEqual((seen[-1].batch, seen[-1].count, seen[-1].seq), ("batch1", 3, 3))

    async def test_consumers(self) -> None:
        """A consumer can be paused, pinned, unpinned and reset, and says so."""
        nc = await self.jetstream()
        await self.create_stream(nc, StreamConfig(name="W", subjects=["w"]))
        await self.publish(nc, "w")
        config = ConsumerConfig(durable="c", priority_policy="pinned_client", priority_groups=["g"])
        await self.create_consumer(nc, "W", config, "create")
        with self.assertRaises(ConsumerNameInUseError):
            await self.create_consumer(nc, "W", dataclasses.replace(config, description="other"), "create")
        with self.assertRaises(ConsumerNotFoundError):
            await self.create_consumer(nc, "W", ConsumerConfig(durable="x"), "update")
        message = await nc.request(PREFIX.consumer_next("W", "c"), encode(NextRequest(batch=1, expires=5.0, group="g")))
        assert message.headers is not None
        info = await self.ask(nc, ConsumerInfo, PREFIX.consumer_info("W", "c"))
        (group,) = info.priority_groups
        self.assertEqual((group.group, group.pinned_client_id), ("g", message.headers["Nats-Pin-Id"]))
        self.assertIsNotNone(group.pinned_ts)
        self.assertEqual((info.delivered.consumer_seq, info.delivered.stream_seq, info.num_ack_pending), (1, 1, 1))
        self.assertIsNotNone(info.delivered.last_active)
        await self.ask(nc, UnpinResponse, PREFIX.consumer_unpin("W", "c"), ConsumerUnpinRequest(group="g"))
        until = datetime(2100, 1, 1, tzinfo=timezone.utc)
        paused = await self.ask(nc, PauseInfo, PREFIX.consumer_pause("W", "c"), ConsumerPauseRequest(pause_until=until))
        self.assertEqual((paused.paused, paused.pause_until), (True, until))
        info = await self.ask(nc, ConsumerInfo, PREFIX.consumer_info("W", "c"))
        self.assertEqual((info.paused, info.pause_remaining > 3600), (True, True))
        resumed = await self.ask(nc, PauseInfo, PREFIX.consumer_pause("W", "c"), ConsumerPauseRequest())
        self.assertEqual((resumed.paused, resumed.pause_until), (False, None))
        reset = await self.ask(nc, ConsumerResetInfo, PREFIX.consumer_reset("W", "c"), ConsumerResetRequest(seq=1))
        self.assertEqual((reset.reset_seq, reset.name), (1, "c"))

    async def test_errors(self) -> None:
        """What is not there, or is there already, has an error of its own."""
        nc = await self.jetstream()
        await self.create_stream(nc, StreamConfig(name="A", subjects=["a"]))
        with self.assertRaises(StreamNameInUseError):
            await self.create_stream(nc, StreamConfig(name="A", subjects=["b"]))
        with self.assertRaises(StreamNotFoundError):
            await self.ask(nc, StreamInfo, PREFIX.stream_info("B"))
        with self.assertRaises(ConsumerNotFoundError):
            await self.ask(nc, ConsumerInfo, PREFIX.consumer_info("A", "c"))

    async def test_reply_subjects(self) -> None:
        """Both forms of the reply subject of a delivered message say where it comes from."""
        for config, long in [("", False), ("feature_flags { js_ack_fc_v2: true }", True)]:
            server = await self.start_server(config, jetstream={"domain": "hub"})
            nc = await self.connect(server)
            await self.create_stream(nc, StreamConfig(name="W", subjects=["w"]))
            await self.create_consumer(nc, "W", ConsumerConfig(durable="c"))
            await self.publish(nc, "w")
            await self.publish(nc, "w")
            message = await nc.request(PREFIX.consumer_next("W", "c"), encode(NextRequest(batch=1, expires=5.0)))
            metadata = parse_ack_subject(message.reply)
            self.assertEqual((metadata.stream, metadata.consumer, metadata.num_delivered), ("W", "c", 1))
            self.assertEqual((metadata.stream_seq, metadata.consumer_seq, metadata.num_pending), (1, 1, 1))
            self.assertEqual((metadata.domain, bool(metadata.account_hash)), ("hub" if long else "", long))
            stored = (await self.ask(nc, MsgGetResponse, PREFIX.msg_get("W"), MsgGetRequest(seq=1))).message
            self.assertEqual(metadata.timestamp, stored.time)
