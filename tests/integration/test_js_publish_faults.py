"""Publishing to a server that is killed, and over a network that loses acks: everything ends, and nothing is stored twice."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from pynats_twisted import NatsClient, errors
from pynats_twisted.client.status import Disconnected, Reconnected
from pynats_twisted.jetstream.api import PubAck, StreamConfig, StreamInfo, StreamState
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.testing import ServerProcess
from tests.support.jetstream import JetStreamTestCase


class Outcomes:
    """How the publishes of a test ended."""

    def __init__(self) -> None:
        self.acks: dict[int, PubAck] = {}
        self.failed: dict[int, BaseException] = {}

    def watch(self, number: int, publish: Deferred[PubAck]) -> None:
        publish.addCallbacks(lambda ack: self.acks.setdefault(number, ack), lambda failure: self.failed.setdefault(number, failure.value))

    @property
    def ended(self) -> int:
        return len(self.acks) + len(self.failed)


class FaultTestCase(JetStreamTestCase):
    async def stream(self, nc: NatsClient) -> None:
        await self.create_stream(nc, StreamConfig(name="S", subjects=["s.>"]))

    async def state(self, js: JetStreamContext) -> StreamState:
        return (await js.call(StreamInfo, js.prefix.stream_info("S"), timeout=10.0)).state

    async def kill(self, server: ServerProcess, outcomes: Outcomes, times: int, every: int) -> None:
        """Kill the server each time that so many more publishes have ended, while others are under way."""
        for number in range(times):
            await self.until(lambda number=number: outcomes.ended >= (number + 1) * every)  # type: ignore[misc]
            await server.restart(kill=True)

    def assert_stored_once(self, state: StreamState, outcomes: Outcomes, total: int) -> None:
        """Every publish has ended; those that were acked are stored, no two in one place; and nothing else is, but what may be."""
        self.assertEqual(outcomes.ended, total)
        places = Counter(ack.seq for ack in outcomes.acks.values())
        self.assertEqual(len(places), len(outcomes.acks), "two publishes have the same sequence")
        self.assertLessEqual(max(places), state.last_seq)
        self.assertEqual(state.num_deleted, 0)
        self.assertLessEqual(len(outcomes.acks), state.messages)
        self.assertLessEqual(state.messages, total)


class KillTests(FaultTestCase):
    """The server is killed and started again with the same files."""

    async def test_async_with_ids(self) -> None:
        """10,000 publishes with ids, and five kills: all are acked, and stored once."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        js = nc.jetstream(timeout=30.0, max_async_pending=500)
        await self.stream(nc)
        outcomes = Outcomes()
        lost: list[Disconnected] = []
        nc.add_listener(lambda event: lost.append(event) if isinstance(event, Disconnected) else None)
        total = 10_000

        async def produce() -> None:
            for number in range(total):
                await js.publish_async_room()
                outcomes.watch(number, js.publish_async("s.a", b"%d" % number, msg_id=str(number)))
            await js.publish_async_complete()

        await gatherResults([Deferred.fromCoroutine(produce()), Deferred.fromCoroutine(self.kill(server, outcomes, 5, 1500))])
        self.assertEqual(outcomes.failed, {})
        state = await self.state(js)
        self.assert_stored_once(state, outcomes, total)
        self.assertEqual(state.messages, total)
        self.assertEqual(len(lost), 5)
        self.assertGreater(sum(event.unconfirmed for event in lost), 0, "nothing was under way at any kill")

    async def test_sync_with_ids(self) -> None:
        """Four workers that wait for each ack do not notice."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        js = nc.jetstream(timeout=30.0)
        await self.stream(nc)
        outcomes = Outcomes()
        total = 2000

        async def work(first: int) -> None:
            for number in range(first, total, 4):
                publish = js.publish("s.a", b"%d" % number, msg_id=str(number))
                outcomes.watch(number, publish)
                await publish

        workers = [Deferred.fromCoroutine(work(first)) for first in range(4)]
        await gatherResults([*workers, Deferred.fromCoroutine(self.kill(server, outcomes, 3, 500))])
        self.assertEqual(outcomes.failed, {})
        state = await self.state(js)
        self.assert_stored_once(state, outcomes, total)
        self.assertEqual(state.messages, total)

    async def test_expectations(self) -> None:
        """A worker that expects its own last sequence is not told that somebody else was there, when that was itself."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        js = nc.jetstream(timeout=30.0)
        await self.stream(nc)
        outcomes = Outcomes()
        total = 1500

        async def work() -> None:
            last = 0
            for number in range(total):
                publish = js.publish("s.a", b"%d" % number, msg_id=str(number), expected_last_subject_seq=last)
                outcomes.watch(number, publish)
                last = (await publish).seq

        await gatherResults([Deferred.fromCoroutine(work()), Deferred.fromCoroutine(self.kill(server, outcomes, 3, 400))])
        self.assertEqual([outcomes.acks[number].seq for number in range(total)], list(range(1, total + 1)))
        self.assertEqual((await self.state(js)).messages, total)

    async def test_without_ids(self) -> None:
        """All end, and none is stored twice; those that fail say that nobody knows whether they are stored."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        js = nc.jetstream(timeout=30.0, max_async_pending=200)
        await self.stream(nc)
        outcomes = Outcomes()
        total = 3000

        async def produce() -> None:
            for number in range(total):
                await js.publish_async_room()
                outcomes.watch(number, js.publish_async("s.a", b"%d" % number))
            await js.publish_async_complete()

        await gatherResults([Deferred.fromCoroutine(produce()), Deferred.fromCoroutine(self.kill(server, outcomes, 3, 700))])
        self.assert_stored_once(await self.state(js), outcomes, total)
        for error in outcomes.failed.values():
            self.assertIsInstance(error, errors.PublishDisconnectedError)


class LameDuckTests(FaultTestCase):
    """The server that the client is connected to sends it away, in a cluster."""

    async def test_nothing_is_disturbed(self) -> None:
        """The client moves; publishes without ids, under way all the time, are acked as if nothing had happened."""
        cluster = await self.start_cluster(3, jetstream=True, lame_duck_grace=2.0)
        first = (await self.connect(cluster.servers[0])).jetstream(timeout=10.0)
        info = await first.call(StreamInfo, first.prefix.stream_create("S"), StreamConfig(name="S", subjects=["s.>"]))
        assert info.cluster is not None
        # The client's server is one that has not the stream.
        for home in cluster.servers:
            nc = await self.connect([home.url, *cluster.urls], shuffle_servers=False)
            assert nc.server_info is not None
            if nc.server_info.server_name != info.cluster.leader:
                break
        js = nc.jetstream(timeout=10.0, max_async_pending=100)
        outcomes = Outcomes()
        moved: list[Reconnected] = []
        nc.add_listener(lambda event: moved.append(event) if isinstance(event, Reconnected) else None)
        published = 0

        async def produce() -> None:
            nonlocal published
            while not moved or outcomes.ended < 2000:
                await js.publish_async_room()
                outcomes.watch(published, js.publish_async("s.a", b"%d" % published))
                published += 1
                if published % 50 == 0:
                    await self.sleep(0.005)
            await js.publish_async_complete()

        producing = Deferred.fromCoroutine(produce())
        await self.until(lambda: outcomes.ended > 200)
        await home.lame_duck()
        await producing
        self.assertEqual(len(moved), 1)
        self.assertEqual(outcomes.failed, {})
        state = await self.state(js)
        self.assert_stored_once(state, outcomes, published)
        self.assertEqual(state.messages, published)


class LostAcks:
    """Lets acks get lost: each with the same probability, but never more than three for one publish.

    :ivar dropped: how many. :ivar duplicates: acks that passed and say that there was one before.
    """

    def __init__(self, part: float) -> None:
        self._part = part
        self._random = random.Random(1)
        self._dropped: Counter[bytes] = Counter()
        self._rest = b""
        self.duplicates = 0

    @property
    def dropped(self) -> int:
        return self._dropped.total()

    def __call__(self, data: bytes) -> bytes:
        data = self._rest + data
        passed: list[bytes] = []
        position = 0
        while (end := data.find(b"\r\n", position)) >= 0:
            line = data[position:end].split(b" ")
            after = end + 2
            if line[0] in (b"MSG", b"HMSG"):
                after += int(line[-1]) + 2
            if after > len(data):
                break
            frame = data[position:after]
            if not self._is_lost(line, frame):
                passed.append(frame)
            position = after
        self._rest = data[position:]
        return b"".join(passed)

    def _is_lost(self, line: list[bytes], frame: bytes) -> bool:
        if line[0] != b"MSG" or (b'{"stream":"S", ' not in frame and b'{"stream":"S","seq"' not in frame):
            return False
        if self._dropped[line[1]] < 3 and self._random.random() < self._part:
            self._dropped[line[1]] += 1
            return True
        self.duplicates += b'"duplicate": true' in frame or b'"duplicate":true' in frame
        return False


class LostAckTests(FaultTestCase):
    """A fifth of all acks never comes."""

    async def lossy(self, **options: Any) -> tuple[JetStreamContext, LostAcks]:
        proxy = await self.start_proxy(await self.start_server(jetstream=True))
        nc = await self.connect(proxy)
        await self.stream(nc)
        lost = proxy.to_client.transform = LostAcks(0.2)
        return nc.jetstream(**options), lost

    async def test_with_ids(self) -> None:
        """They are sent again, and stored exactly once."""
        js, lost = await self.lossy(timeout=20.0, resend_after=0.2)
        outcomes = Outcomes()
        total = 2000
        for number in range(total):
            await js.publish_async_room()
            outcomes.watch(number, js.publish_async("s.a", b"%d" % number, msg_id=str(number)))
        await js.publish_async_complete()
        self.assertEqual(outcomes.failed, {})
        state = await self.state(js)
        self.assert_stored_once(state, outcomes, total)
        self.assertEqual(state.messages, total)
        self.assertGreater(lost.dropped, total // 10)
        self.assertGreater(lost.duplicates, total // 10)
        # Where an ack was only late, the one for the duplicate comes to nobody.
        self.assertTrue(0 < sum(ack.duplicate for ack in outcomes.acks.values()) <= lost.duplicates)

    async def test_expectations(self) -> None:
        """Each expects the one before, and learns that it was stored itself."""
        js, lost = await self.lossy(timeout=20.0, resend_after=0.02)
        last = 0
        for number in range(100):
            options = {"retry_wait": 0.01, "expected_last_subject_seq": last}
            last = (await js.publish("s.a", b"%d" % number, msg_id=str(number), **options)).seq  # type: ignore[arg-type]
            self.assertEqual(last, number + 1)
        self.assertGreater(lost.dropped, 5)

    async def test_without_ids(self) -> None:
        """They are never sent again: whose ack was lost ends with an error that says so."""
        js, lost = await self.lossy(timeout=1.0)
        outcomes = Outcomes()
        total = 500
        for number in range(total):
            outcomes.watch(number, js.publish_async("s.a", b"%d" % number))
        await js.publish_async_complete()
        self.assertEqual((await self.state(js)).messages, total)
        self.assertEqual(len(outcomes.failed), lost.dropped)
        for error in outcomes.failed.values():
            self.assertIsInstance(error, errors.PublishTimeoutError)
