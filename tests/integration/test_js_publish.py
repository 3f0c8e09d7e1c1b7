"""Publishing to real streams: what is expected of them, and how they refuse."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from pynats_twisted import NatsClient, errors
from pynats_twisted.jetstream.api import DiscardPolicy, MsgGetRequest, MsgGetResponse, PubAck, StorageType, StreamConfig, StreamInfo
from pynats_twisted.jetstream.context import JetStreamContext
from tests.support.jetstream import JetStreamTestCase


class PublishTestCase(JetStreamTestCase):
    """Tests with one server and one stream."""

    async def stream(self, **config: Any) -> tuple[NatsClient, JetStreamContext]:
        nc = await self.jetstream()
        await self.create_stream(nc, StreamConfig(**{"name": "S", "subjects": ["s.>"], "storage": StorageType.MEMORY, **config}))
        return nc, nc.jetstream()

    async def stored(self, js: JetStreamContext) -> StreamInfo:
        return await js.call(StreamInfo, js.prefix.stream_info("S"))


class AckTests(PublishTestCase):
    """Acks."""

    async def test_ack(self) -> None:
        """It names the stream and the sequence; headers arrive beside what the call asks for."""
        _, js = await self.stream()
        self.assertEqual(await js.publish("s.a", b"one"), PubAck(stream="S", seq=1))
        ack = await js.publish("s.a", b"two", {"A": ["1", "2"]}, msg_id="id")
        self.assertEqual(ack.seq, 2)
        found = await js.call(MsgGetResponse, js.prefix.msg_get("S"), MsgGetRequest(seq=2))
        self.assertEqual(found.message.data, b"two")
        self.assertEqual(found.message.header_block, b"NATS/1.0\r\nA: 1\r\nA: 2\r\nNats-Msg-Id: id\r\n\r\n")

    async def test_duplicate(self) -> None:
        """A second publish with an id is answered as the first, and marked."""
        _, js = await self.stream()
        first = await js.publish("s.a", b"x", msg_id="id")
        again = await js.publish("s.a", b"x", msg_id="id")
        self.assertEqual((again.seq, again.duplicate, first.duplicate), (first.seq, True, False))
        self.assertEqual((await self.stored(js)).state.messages, 1)

    async def test_nobody(self) -> None:
        """No stream has the subject, or there is no JetStream: after the retries, the same error, and soon."""
        _, js = await self.stream()
        begun = self.reactor.seconds()
        await self.assertFailure(js.publish("nowhere"), errors.NoStreamResponseError)
        self.assertTrue(0.4 < self.reactor.seconds() - begun < 2)
        nc = await self.connect(await self.start_server())
        await self.assertFailure(nc.jetstream().publish("s.a", retries=0), errors.NoStreamResponseError)

    async def test_stream_that_comes_late(self) -> None:
        """A stream that is made while a publish is retried gets it."""
        nc, js = await self.stream()
        waiting = js.publish("t", b"x", retries=10)
        await self.create_stream(nc, StreamConfig(name="T", subjects=["t"], storage=StorageType.MEMORY))
        self.assertEqual((await waiting).stream, "T")

    async def test_inbox_prefix(self) -> None:
        """Acks come below the client's own prefix: a user who may only listen there can publish."""
        users = [
            {"user": "u", "password": "p", "permissions": {"publish": ["s.>", "$JS.API.>"], "subscribe": ["_MINE.>"]}},
        ]
        server = await self.start_server(jetstream=True, users=users)
        nc = await self.connect(server, user="u", password="p", inbox_prefix="_MINE")
        await self.create_stream(nc, StreamConfig(name="S", subjects=["s.>"], storage=StorageType.MEMORY))
        js = nc.jetstream()
        self.assertEqual((await js.publish("s.a")).seq, 1)
        self.assertEqual((await js.publish_async("s.a")).seq, 2)
        await self.assertFailure(js.publish("denied"), errors.PermissionsViolationError)
        other = await self.connect(server, user="u", password="p")
        await self.assertFailure(other.jetstream().publish("s.a"), errors.PermissionsViolationError)


class ExpectationTests(PublishTestCase):
    """Each expectation, met and not met."""

    async def refused(self, waiting: Deferred[PubAck], kind: type[errors.JetStreamApiError], *codes: int) -> Any:
        error: Any = await self.assertFailure(waiting, kind)
        self.assertIn(error.err_code, codes)
        return error

    async def test_stream(self) -> None:
        """The stream's name."""
        _, js = await self.stream()
        await js.publish("s.a", expected_stream="S")
        await self.refused(js.publish("s.a", expected_stream="T"), errors.WrongStreamError, 10060)

    async def test_last_sequence(self) -> None:
        """The last sequence of the stream; the error has the actual one."""
        _, js = await self.stream()
        await js.publish("s.a", expected_last_seq=0)
        await js.publish("s.b", expected_last_seq=1)
        error = await self.refused(js.publish("s.a", expected_last_seq=1), errors.WrongLastSequenceError, 10071)
        self.assertEqual(error.last_sequence, 2)

    async def test_last_sequence_of_the_subject(self) -> None:
        """The last sequence of the subject, or of others that are named."""
        _, js = await self.stream()
        await js.publish("s.a", expected_last_subject_seq=0)
        await js.publish("s.b", expected_last_subject_seq=0)
        await js.publish("s.a", expected_last_subject_seq=1)
        await self.refused(js.publish("s.a", expected_last_subject_seq=1), errors.WrongLastSequenceError, 10071)
        await js.publish("s.c", expected_last_subject_seq=3, expected_last_subject_seq_subject="s.*")
        wrong = js.publish("s.c", expected_last_subject_seq=3, expected_last_subject_seq_subject="s.>")
        await self.refused(wrong, errors.WrongLastSequenceError, 10071)

    async def test_subject_without_sequence(self) -> None:
        """By hand, the server's own error."""
        _, js = await self.stream()
        waiting = js.publish("s.a", headers={"Nats-Expected-Last-Subject-Sequence-Subject": "s.b"})
        await self.refused(waiting, errors.InvalidExpectationError, 10193)

    async def test_last_message_id(self) -> None:
        """The id of the stream's last message."""
        _, js = await self.stream()
        await js.publish("s.a", msg_id="1")
        await js.publish("s.a", msg_id="2", expected_last_msg_id="1")
        await self.refused(js.publish("s.a", expected_last_msg_id="1"), errors.WrongLastMessageIdError, 10070)

    async def test_ttl(self) -> None:
        """A message goes when its time is over; one that never goes outlives the stream's own limit."""
        _, js = await self.stream(allow_msg_ttl=True, max_age=1.2)
        await js.publish("s.a", ttl=1)
        await js.publish("s.b", ttl="never")
        await js.publish("s.c")
        left = 3
        while left > 1:
            await self.sleep(0.1)
            left = (await self.stored(js)).state.messages
        found = await js.call(MsgGetResponse, js.prefix.msg_get("S"), MsgGetRequest(seq=2))
        self.assertEqual((left, found.message.subject), (1, "s.b"))

    async def test_ttl_refused(self) -> None:
        """A stream that allows none, and a TTL by hand that is wrong."""
        _, js = await self.stream()
        await self.refused(js.publish("s.a", ttl=1), errors.MessageTTLError, 10166)
        _, js = await self.stream(allow_msg_ttl=True)
        await self.refused(js.publish("s.a", headers={"Nats-TTL": "500ms"}), errors.MessageTTLError, 10165)

    async def test_rollup(self) -> None:
        """What was there before goes: of the subject, or all of it."""
        _, js = await self.stream(allow_rollup_hdrs=True)
        for subject in ("s.a", "s.a", "s.b"):
            await js.publish(subject)
        await js.publish("s.a", rollup="sub")
        self.assertEqual((await self.stored(js)).state.messages, 2)
        await js.publish("s.c", rollup="all")
        self.assertEqual((await self.stored(js)).state.messages, 1)

    async def test_limits(self) -> None:
        """A full stream that takes nothing new, and a message that is too large for it."""
        _, js = await self.stream(max_msgs=1, discard=DiscardPolicy.NEW, max_msg_size=10)
        await self.refused(js.publish("s.a", bytes(11)), errors.MessageExceedsMaximumError, 10054)
        await js.publish("s.a")
        await self.refused(js.publish("s.a"), errors.StreamStoreError, 10077)


class ReplicatedTests(JetStreamTestCase):
    """A stream on three servers."""

    async def test_expectations(self) -> None:
        """The codes are others there, the error classes the same; of several that expect the same, one is stored."""
        cluster = await self.start_cluster(3, jetstream=True)
        nc = await self.connect(cluster)
        js = nc.jetstream(timeout=10.0)
        await js.call(StreamInfo, js.prefix.stream_create("S"), StreamConfig(name="S", subjects=["s.>"], replicas=3))
        await js.publish("s.a", expected_last_seq=0)
        await js.publish("s.a", expected_last_subject_seq=1)
        for options in ({"expected_last_seq": 1}, {"expected_last_subject_seq": 1}):
            await self.assertFailure(js.publish("s.a", **options), errors.WrongLastSequenceError)  # type: ignore[arg-type]
        racing = [js.publish_async("s.race", b"%d" % number, expected_last_subject_seq=0) for number in range(20)]
        outcomes: list[tuple[bool, Any]] = await DeferredList(racing, consumeErrors=True)
        self.assertEqual(len([result for stored, result in outcomes if stored]), 1)
        refused = [result.value for stored, result in outcomes if not stored]
        self.assertEqual({type(error) for error in refused}, {errors.WrongLastSequenceError})
        self.assertIn(10164, {error.err_code for error in refused})
