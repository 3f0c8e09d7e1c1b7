"""Fast ingest on real servers."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from pynats_twisted import NatsClient, errors
from pynats_twisted.jetstream.api import BatchFlowError, BatchFlowGap, StorageType, StreamConfig
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.fast_ingest import FastIngest
from pynats_twisted.jetstream.stream import Stream
from tests.support.jetstream import JetStreamTestCase
from tests.support.proxy import ChaosProxy

CONFIG: dict[str, Any] = {"name": "S", "subjects": ["s.>"], "storage": StorageType.MEMORY, "allow_batched": True}


class IngestTestCase(JetStreamTestCase):
    """Tests with one server and one stream."""

    async def stream(self, batch_limits: dict[str, Any] | None = None, **config: Any) -> tuple[JetStreamContext, Stream]:
        nc = await self.jetstream(config={"jetstream": {"limits": {"batch": batch_limits}}} if batch_limits else None)
        js = nc.jetstream()
        return js, await js.create_stream(StreamConfig(**{**CONFIG, **config}))

    async def proxied(self) -> tuple[ChaosProxy, NatsClient, JetStreamContext, Stream]:
        """A client that reaches its server through a proxy."""
        proxy = await self.start_proxy(await self.start_server(jetstream=True))
        nc = await self.connect(proxy)
        js = nc.jetstream()
        return proxy, nc, js, await js.create_stream(StreamConfig(**CONFIG))

    async def count(self, stream: Stream) -> int:
        return (await stream.info()).state.messages

    async def contents(self, stream: Stream) -> list[bytes]:
        return [(await stream.get_msg(seq)).data for seq in range(1, await self.count(stream) + 1)]

    def fill(self, js: JetStreamContext, count: int, prefix: bytes = b"", **options: Any) -> Deferred[FastIngest]:
        """A batch of so many messages."""

        async def run() -> FastIngest:
            async with js.fast_ingest(**options) as ingest:
                for number in range(count):
                    await ingest.add("s.x", b"%b%d" % (prefix, number))
            return ingest

        return Deferred.fromCoroutine(run())


class StoringTests(IngestTestCase):
    """What is stored."""

    async def test_many(self) -> None:
        """Everything is stored, once and in order, whatever the flow is."""
        for options in ({}, {"flow": 1, "outstanding": 1}, {"flow": 500, "outstanding": 3}, {"gap": "ok"}):
            js, stream = await self.stream()
            ingest = await self.fill(js, 2000, **options)
            assert ingest.pub_ack is not None
            self.assertEqual((ingest.pub_ack.count, ingest.acked, ingest.sent), (2000, 2000, 2000))
            self.assertEqual((ingest.lost, ingest.refused), (0, 0))
            self.assertEqual(await self.count(stream), 2000)
            self.assertEqual((await stream.get_msg(1234)).data, b"1233")

    async def test_small_batches(self) -> None:
        """One message, with and without an end of its own, and a last message that commits."""
        js, stream = await self.stream()
        self.assertEqual((await js.fast_ingest().commit("s.x", b"1")).count, 1)
        self.assertEqual(((await self.fill(js, 1)).sent, await self.count(stream)), (1, 2))
        ingest = js.fast_ingest()
        await ingest.add("s.x", b"1")
        await ingest.add("s.x", b"2", {"A": "1"})
        ack = await ingest.commit("s.x", b"3", {"A": "2"})
        self.assertEqual((ack.count, ack.seq, ack.batch), (3, 5, ingest.id))
        self.assertEqual((await stream.get_msg(5)).headers, {"A": "2"})

    async def test_large_messages(self) -> None:
        """Awaiting add() holds back what the client could not buffer: 100 MB pass through its 64 MiB."""
        js, stream = await self.stream(max_bytes=5_000_000)
        payload = b"x" * 500_000
        async with js.fast_ingest(flow=500, outstanding=3) as ingest:
            for _ in range(200):
                await ingest.add("s.x", payload)
        self.assertEqual((await stream.info()).state.last_seq, 200)

    async def test_several_at_once(self) -> None:
        """Batches that compete for the stream are slowed down by the server, and all are stored."""
        js, stream = await self.stream()
        other = (await self.connect(str(js.client.connected_url))).jetstream()
        batches = [self.fill(each, 500, b"%d:" % index, flow=100) for index, each in enumerate((js, js, other, other))]
        for ingest in await gatherResults(batches):
            self.assertEqual(ingest.acked, 500)
        contents = await self.contents(stream)
        for index in range(4):
            mine = [data for data in contents if data.startswith(b"%d:" % index)]
            self.assertEqual(mine, [b"%d:%d" % (index, number) for number in range(500)])

    async def test_message_ids(self) -> None:
        """A message that the stream has already is passed over, and the batch counts it all the same."""
        js, stream = await self.stream()
        await js.publish("s.x", b"x", msg_id="1")
        async with js.fast_ingest(flow=1, outstanding=1) as ingest:
            for number in range(4):
                await ingest.add("s.x", b"%d" % number, msg_id=str(number))
        self.assertEqual((ingest.acked, await self.contents(stream)), (4, [b"x", b"0", b"2", b"3"]))

    async def test_replicated(self) -> None:
        """A stream with three replicas takes a batch while its leader steps down, when gaps are allowed or when none comes of it."""
        nc = await self.connect(await self.start_cluster(3, jetstream=True))
        js = nc.jetstream(timeout=10.0)
        stream = await js.create_stream(StreamConfig(**{**CONFIG, "replicas": 3}))
        problems: list[object] = []
        async with js.fast_ingest(gap="ok", flow=10, on_problem=problems.append) as ingest:
            for number in range(600):
                await ingest.add("s.x", b"%d" % number)
                if number == 300:
                    await stream.leader_stepdown()
        self.assertEqual(await self.count(stream) + ingest.lost, 600, problems)

    test_replicated.timeout = 60  # type: ignore[attr-defined]


class RefusalTests(IngestTestCase):
    """What the server refuses."""

    async def test_stream_without_fast_ingest(self) -> None:
        """The first message finds it out."""
        js, stream = await self.stream(allow_batched=False)
        await self.assertFailure(self.fill(js, 5), errors.FastBatchError)
        await self.assertFailure(js.fast_ingest().commit("s.x"), errors.FastBatchError)
        self.assertEqual(await self.count(stream), 0)

    async def test_no_stream(self) -> None:
        """A subject that no stream has is told as such."""
        js, _ = await self.stream()
        await self.assertFailure(js.fast_ingest().commit("elsewhere"), errors.NoStreamResponseError)

    async def test_too_many(self) -> None:
        """The server keeps so many open batches and no more."""
        js, stream = await self.stream({"max_inflight_per_stream": 1})
        async with js.fast_ingest() as first:
            await first.add("s.x", b"1")
            await self.assertFailure(self.fill(js, 1), errors.TooManyFastBatchesError)
        self.assertEqual(await self.count(stream), 1)

    async def test_abandoned_batch_frees_its_place(self) -> None:
        """After an exception in the block the server has room again at once."""
        js, stream = await self.stream({"max_inflight_per_stream": 1})
        with self.assertRaises(ValueError):
            async with js.fast_ingest() as ingest:
                await ingest.add("s.x", b"1")
                raise ValueError("no")
        await self.fill(js, 2)
        self.assertEqual(await self.count(stream), 3)

    async def test_failing_expectation(self) -> None:
        """It ends the batch, and what is stored has no gap; with gaps allowed only that message is missing."""
        js, stream = await self.stream()
        ingest = js.fast_ingest()
        with self.assertRaises(errors.WrongLastSequenceError):
            async with ingest:
                for number in range(5):
                    await ingest.add("s.x", b"%d" % number, expected_last_subject_seq=77 if number == 2 else None)
        assert ingest.pub_ack is not None
        self.assertEqual((ingest.acked, ingest.pub_ack.count, await self.contents(stream)), (2, 2, [b"0", b"1"]))
        problems: list[BatchFlowGap | BatchFlowError] = []
        async with js.fast_ingest(gap="ok", flow=1, outstanding=1, on_problem=problems.append) as ingest:
            for number in range(2, 7):
                await ingest.add("s.x", b"%d" % number, expected_last_subject_seq=77 if number in (3, 4, 5) else None)
        self.assertEqual(await self.contents(stream), [b"0", b"1", b"2", b"6"])
        self.assertEqual([problem.seq for problem in problems], [2, 3, 4])
        self.assertEqual((ingest.refused, ingest.lost), (3, 0))

    async def test_too_large_for_the_stream(self) -> None:
        """A message that the stream does not even look at ends the batch, which is stored up to there."""
        js, stream = await self.stream(max_msg_size=100)
        ingest = js.fast_ingest()
        with self.assertRaises(errors.MessageExceedsMaximumError):
            async with ingest:
                await ingest.add("s.x", b"1")
                await ingest.add("s.x", b"2")
                await ingest.add("s.x", b"x" * 200)
        self.assertEqual((ingest.acked, await self.contents(stream)), (2, [b"1", b"2"]))
        async with js.fast_ingest(gap="ok") as ingest:
            await ingest.add("s.x", b"3")
            await ingest.add("s.x", b"x" * 200)
            await ingest.add("s.x", b"4")
        self.assertEqual((ingest.refused, await self.contents(stream)), (1, [b"1", b"2", b"3", b"4"]))

    async def test_subject_of_no_stream(self) -> None:
        """So does a message that no stream takes."""
        js, stream = await self.stream()
        ingest = js.fast_ingest()
        with self.assertRaises(errors.FastIngestError) as caught:
            async with ingest:
                await ingest.add("s.x", b"1")
                await ingest.add("elsewhere", b"2")
                await ingest.add("s.x", b"3")
        self.assertIn("message 2", str(caught.exception))
        self.assertEqual((caught.exception.acked, await self.contents(stream)), (1, [b"1"]))


class FaultTests(IngestTestCase):
    """Messages and connections are lost."""

    async def test_gap(self) -> None:
        """A lost message ends the batch: what is stored has no gap, and the error says how far it goes."""
        proxy, _, js, stream = await self.proxied()
        proxy.to_server.transform = _without(rb"PUB s\.lost ")
        ingest = js.fast_ingest()
        with self.assertRaises(errors.FastIngestGapError) as caught:
            async with ingest:
                for number in range(10):
                    await ingest.add("s.lost" if number == 4 else "s.x", b"%d" % number)
        self.assertEqual((caught.exception.acked, ingest.acked), (4, 4))
        self.assertEqual(await self.contents(stream), [b"0", b"1", b"2", b"3"])

    async def test_gap_allowed(self) -> None:
        """With gaps allowed the others are stored, and the gap is told. The last message of a window may be the lost one."""
        proxy, _, js, stream = await self.proxied()
        proxy.to_server.transform = _without(rb"PUB s\.lost ")
        problems: list[BatchFlowGap | BatchFlowError] = []
        async with js.fast_ingest(gap="ok", flow=2, outstanding=1, timeout=1.5, on_problem=problems.append) as ingest:
            for number in range(10):
                await ingest.add("s.lost" if number in (4, 7) else "s.x", b"%d" % number)
        self.assertEqual(await self.contents(stream), [b"%d" % number for number in range(10) if number not in (4, 7)])
        self.assertEqual(ingest.lost, 2)
        self.assertEqual({type(problem) for problem in problems}, {BatchFlowGap})

    async def test_lost_acks(self) -> None:
        """Acks that are lost are asked for again, twice where the answer is lost as well."""
        proxy, _, js, stream = await self.proxied()
        lost: list[bytes] = []
        lose = _without(rb'MSG \S+ \d+ \d+\r\n\{"type":"ack","seq":[1-9]', limit=2, lost=lost)
        proxy.to_client.transform = lose
        ingest = await self.fill(js, 50, flow=2, outstanding=1, timeout=3.0)
        self.assertEqual((ingest.acked, await self.count(stream), len(lost)), (50, 50, 2))

    async def test_lost_final_ack(self) -> None:
        """It does not come again: the batch fails without waiting for the whole timeout, and says what is known."""
        proxy, _, js, stream = await self.proxied()
        proxy.to_client.transform = _without(rb'MSG \S+ \d+ \d+\r\n\{"stream":"S", ?"seq":\d+,"batch"')
        begun = self.reactor.seconds()
        error = await self.assertFailure(self.fill(js, 10, flow=4, timeout=12.0), errors.FastIngestError)
        self.assertNotIsInstance(error, errors.FastIngestTimeoutError)
        self.assertIn("the final ack was lost", str(error))
        self.assertLess(self.reactor.seconds() - begun, 10.0)
        self.assertEqual((error.acked, error.sent, await self.count(stream)), (8, 10, 10))

    async def test_disconnect(self) -> None:
        """The batch ends, and everything that was acked is stored. A batch on the new connection works."""
        proxy, nc, js, stream = await self.proxied()
        ingest = js.fast_ingest(flow=10)
        with self.assertRaises(errors.FastIngestDisconnectedError) as caught:
            async with ingest:
                for number in range(1000):
                    await ingest.add("s.x", b"%d" % number)
                    if number == 500:
                        proxy.rst()
        error = caught.exception
        self.assertGreaterEqual(error.acked, 480)
        await self.until(lambda: nc.is_connected)
        contents = await self.contents(stream)
        self.assertGreaterEqual(len(contents), error.acked)
        self.assertEqual(contents, [b"%d" % number for number in range(len(contents))])
        await self.fill(js, 10)
        self.assertEqual(await self.count(stream), len(contents) + 10)

    async def test_server_killed(self) -> None:
        """So it is when the server dies: what was acked is there when it is back."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        js = nc.jetstream()
        stream = await js.create_stream(StreamConfig(**{**CONFIG, "storage": StorageType.FILE}))
        ingest = js.fast_ingest(flow=10)
        with self.assertRaises(errors.FastIngestDisconnectedError) as caught:
            async with ingest:
                for number in range(100_000):
                    await ingest.add("s.x", b"%d" % number)
                    if number == 500:
                        killed = server.kill()
        await killed
        await server.start()
        await self.until(lambda: nc.is_connected)
        self.assertGreaterEqual(await self.count(stream), caught.exception.acked)

    async def test_silent_server(self) -> None:
        """A server that hangs ends the batch after its timeout."""
        server = await self.start_server(jetstream=True)
        js = (await self.connect(server)).jetstream()
        await js.create_stream(StreamConfig(**CONFIG))
        ingest = js.fast_ingest(timeout=0.6)
        await ingest.add("s.x", b"1")
        await server.pause()
        with self.assertRaises(errors.FastIngestTimeoutError) as caught:
            await ingest.commit("s.x", b"2")
        server.resume()
        self.assertEqual((caught.exception.acked, caught.exception.sent), (0, 2))

    async def test_slow_sender(self) -> None:
        """A batch stays open while its sender pauses for longer than the server would wait."""
        js, stream = await self.stream({"timeout": "2s"})
        async with js.fast_ingest(timeout=3.0) as ingest:
            await ingest.add("s.x", b"1")
            await self.sleep(3.5)
            await ingest.add("s.x", b"2")
        self.assertEqual(await self.contents(stream), [b"1", b"2"])

    async def test_custom_inbox_prefix(self) -> None:
        """The batch speaks through the client's own inboxes, so that permissions for these are enough."""
        permissions = {"publish": ["s.>"], "subscribe": ["_MINE.>"]}
        users: list[dict[str, Any]] = [{"user": "all", "password": "x"}, {"user": "few", "password": "x", "permissions": permissions}]
        server = await self.start_server(jetstream=True, users=users)
        stream = await (await self.connect(server, user="all", password="x")).jetstream().create_stream(StreamConfig(**CONFIG))
        nc = await self.connect(server, user="few", password="x", inbox_prefix="_MINE")
        await self.fill(nc.jetstream(), 10)
        self.assertEqual(await self.count(stream), 10)
        nc = await self.connect(server, user="few", password="x")
        await self.assertFailure(self.fill(nc.jetstream(), 10), errors.PermissionsViolationError)


def _without(start: bytes, limit: int = 0, lost: list[bytes] | None = None) -> Any:
    """A transform that loses the messages that begin so, at most ``limit`` of them."""
    pattern = re.compile(start + rb"[^\r]*(?:\r\n[^\r]*)?\r\n" if b"\\r" not in start else start + rb"[^\r]*\r\n")

    def lose(found: re.Match[bytes]) -> bytes:
        if limit and lost is not None and len(lost) >= limit:
            return found[0]
        if lost is not None:
            lost.append(found[0])
        return b""

    return lambda data: pattern.sub(lose, data)
