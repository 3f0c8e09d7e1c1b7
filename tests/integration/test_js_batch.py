"""Atomic batches on real servers."""

from __future__ import annotations

from typing import Any

from pynats_twisted import errors
from pynats_twisted.jetstream.api import StorageType, StreamConfig
from pynats_twisted.jetstream.batch import AtomicBatch
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.counters import counter_value, increment_headers
from pynats_twisted.jetstream.stream import Stream
from tests.support.jetstream import JetStreamTestCase


class BatchTestCase(JetStreamTestCase):
    """Tests with one server and one stream."""

    async def stream(self, limits: dict[str, Any] | None = None, **config: Any) -> tuple[JetStreamContext, Stream]:
        nc = await self.jetstream(config={"jetstream": {"limits": {"batch": limits}}} if limits else None)
        js = nc.jetstream(timeout=5.0)
        defaults = {"name": "S", "subjects": ["s.>"], "storage": StorageType.MEMORY, "allow_atomic": True}
        return js, await js.create_stream(StreamConfig(**{**defaults, **config}))

    async def count(self, stream: Stream) -> int:
        return (await stream.info()).state.messages

    async def contents(self, stream: Stream) -> list[bytes]:
        return [(await stream.get_msg(seq)).data for seq in range(1, await self.count(stream) + 1)]


class CommitTests(BatchTestCase):
    """What is stored."""

    async def test_all_at_once(self) -> None:
        """Nothing is in the stream before the end of the block, and then everything is, next to each other and in order."""
        js, stream = await self.stream()
        async with js.batch() as batch:
            for number in range(5):
                await batch.add(f"s.{number}", b"%d" % number, {"A": str(number)})
            self.assertEqual(await self.count(stream), 0)
        assert batch.pub_ack is not None
        self.assertEqual((batch.pub_ack.seq, batch.pub_ack.count, batch.pub_ack.batch), (5, 5, batch.id))
        self.assertEqual(await self.contents(stream), [b"0", b"1", b"2", b"3", b"4"])
        self.assertEqual((await stream.get_msg(3)).headers["A"], "2")

    async def test_file_storage(self) -> None:
        """It is the same where messages are kept in files."""
        js, stream = await self.stream(storage=StorageType.FILE)
        async with js.batch(ack_every=2) as batch:
            for number in range(5):
                await batch.add("s.x", b"%d" % number)
        self.assertEqual(await self.contents(stream), [b"0", b"1", b"2", b"3", b"4"])

    async def test_single_message(self) -> None:
        """A batch of one message is stored."""
        js, stream = await self.stream()
        async with js.batch() as batch:
            await batch.add("s.one", b"one")
        self.assertEqual(await self.contents(stream), [b"one"])

    async def test_commit_with_a_message(self) -> None:
        """commit() can bring the last message, also of a batch that has no other."""
        js, stream = await self.stream()
        batch = js.batch(ack_first=False)
        await batch.add("s.a", b"1")
        await batch.add("s.a", b"2")
        self.assertEqual((await batch.commit("s.b", b"3")).count, 3)
        self.assertEqual((await js.batch().commit("s.b", b"4")).count, 1)
        self.assertEqual(await self.contents(stream), [b"1", b"2", b"3", b"4"])

    async def test_exception_stores_nothing(self) -> None:
        """An exception in the block discards the batch."""
        js, _ = await self.stream()
        with self.assertRaises(ValueError):
            async with js.batch() as batch:
                for number in range(3):
                    await batch.add("s.x", b"%d" % number)
                raise ValueError("no")
        ack = await js.publish("s.x", b"other")
        self.assertEqual(ack.seq, 1)

    async def test_two_at_once(self) -> None:
        """Two open batches, and a publish between, do not touch each other: each is stored in one piece."""
        js, stream = await self.stream()
        one, two = js.batch(), js.batch()
        for number in range(3):
            await one.add("s.x", b"one %d" % number)
            await two.add("s.x", b"two %d" % number)
        await js.publish("s.x", b"alone")
        await two.commit()
        await one.commit()
        expected = [b"alone", *(b"two %d" % number for number in range(3)), *(b"one %d" % number for number in range(3))]
        self.assertEqual(await self.contents(stream), expected)

    async def test_full_size(self) -> None:
        """The server's 1,000 messages fit, without a message wasted on the end."""
        js, stream = await self.stream()
        async with js.batch() as batch:
            for _ in range(1000):
                await batch.add("s.x", b"x")
        self.assertEqual(await self.count(stream), 1000)

    async def test_counters(self) -> None:
        """Several counters can be changed together."""
        js, stream = await self.stream(allow_msg_counter=True)
        async with js.batch() as batch:
            await batch.add("s.from", b"", increment_headers(-5))
            await batch.add("s.to", b"", increment_headers(5))
        self.assertEqual(counter_value(await stream.get_last_msg("s.from")), -5)
        self.assertEqual(counter_value(await stream.get_last_msg("s.to")), 5)

    async def test_replicated(self) -> None:
        """A stream with three replicas stores a batch, and refuses one, in the same way."""
        nc = await self.connect(await self.start_cluster(3, jetstream=True))
        js = nc.jetstream(timeout=10.0)
        stream = await js.create_stream(StreamConfig(name="S", subjects=["s.>"], replicas=3, allow_atomic=True))
        async with js.batch() as batch:
            for number in range(5):
                await batch.add(f"s.{number}", b"%d" % number)
        with self.assertRaises(errors.WrongLastSequenceError):
            async with js.batch() as batch:
                await batch.add("s.9", b"new")
                await batch.add("s.1", b"changed", expected_last_subject_seq=99)
        info = await stream.info()
        self.assertEqual(info.state.last_seq, 5)

    test_replicated.timeout = 60  # type: ignore[attr-defined]


class RefusalTests(BatchTestCase):
    """What the server refuses. Nothing is stored."""

    async def refused(self, kind: type[errors.NatsError], batch: AtomicBatch, *messages: dict[str, Any]) -> errors.NatsError:
        with self.assertRaises(kind) as caught:
            async with batch:
                for message in messages:
                    await batch.add("s.x", b"x", **message)
        self.assertIsNone(batch.pub_ack)
        error: errors.NatsError = caught.exception
        return error

    async def test_failing_expectations(self) -> None:
        """One expectation that does not hold, wherever it is in the batch, keeps all of it out."""
        js, stream = await self.stream()
        await js.publish("s.known", b"x")
        wrong = {"expected_last_subject_seq": 7, "expected_last_subject_seq_subject": "s.known"}
        for messages in (
            [{"expected_last_seq": 7}, {}, {}],
            [{}, wrong, {}],
            [{}, {}, wrong],
            [wrong],
            [{}, {"expected_stream": "other"}],
        ):
            kind = errors.WrongStreamError if "expected_stream" in messages[-1] else errors.WrongLastSequenceError
            await self.refused(kind, js.batch(), *messages)
            self.assertEqual(await self.count(stream), 1)

    async def test_expectations_that_hold(self) -> None:
        """They are checked against the stream as it was before the batch."""
        js, stream = await self.stream()
        await js.publish("s.known", b"x")
        async with js.batch() as batch:
            await batch.add("s.new", b"x", expected_last_seq=1, expected_last_subject_seq=0)
            await batch.add("s.known", b"y", expected_last_subject_seq=1)
        self.assertEqual(await self.count(stream), 3)

    async def test_subject_that_the_batch_wrote_itself(self) -> None:
        """The last sequence of such a subject cannot be expected any more."""
        js, stream = await self.stream()
        error = await self.refused(errors.WrongLastSequenceError, js.batch(), {}, {"expected_last_subject_seq": 1})
        assert isinstance(error, errors.WrongLastSequenceError)
        self.assertEqual(await self.count(stream), 0)

    async def test_duplicates(self) -> None:
        """A message id that the stream or the batch has already keeps the batch out."""
        js, stream = await self.stream()
        await js.publish("s.x", b"x", msg_id="known")
        error = await self.refused(errors.AtomicBatchError, js.batch(), {}, {"msg_id": "known"})
        assert isinstance(error, errors.AtomicBatchError)
        self.assertEqual(error.err_code, 10201)
        self.assertEqual(await self.count(stream), 1)

    async def test_too_many_messages(self) -> None:
        """More than the server takes in one batch is its error; what its limit is, only it knows."""
        js, stream = await self.stream({"max_msgs": 3})
        await self.refused(errors.AtomicBatchError, js.batch(), *[{}] * 4)
        self.assertEqual(await self.count(stream), 0)
        async with js.batch() as batch:
            for _ in range(3):
                await batch.add("s.x")
        self.assertEqual(await self.count(stream), 3)

    async def test_too_many_batches(self) -> None:
        """So are more open batches than it keeps."""
        js, stream = await self.stream({"max_inflight_per_stream": 1})
        first = js.batch()
        await first.add("s.x", b"first")
        await first.add("s.x", b"first")
        await self.refused(errors.TooManyAtomicBatchesError, js.batch(), {}, {})
        await first.commit()
        self.assertEqual(await self.count(stream), 2)

    async def test_forgotten(self) -> None:
        """A batch that pauses for too long is forgotten by the server, and not stored in part."""
        js, stream = await self.stream({"timeout": "200ms"})
        batch = js.batch()
        await batch.add("s.x")
        await batch.add("s.x")
        await self.sleep(0.6)
        await self.assertFailure(batch.commit(), errors.AtomicBatchError)
        self.assertEqual(await self.count(stream), 0)

    async def test_stream_without_batches(self) -> None:
        """A stream has to allow them; the second message finds out that it does not, with ack_first=False the end."""
        js, stream = await self.stream(allow_atomic=False)
        batch = js.batch()
        await batch.add("s.x")
        await self.assertFailure(batch.add("s.x"), errors.AtomicBatchError)
        await self.refused(errors.AtomicBatchError, js.batch(ack_first=False), {}, {}, {})
        await self.refused(errors.AtomicBatchError, js.batch(), {})
        self.assertEqual(await self.count(stream), 0)

    async def test_no_stream(self) -> None:
        """A subject that no stream has is told as such."""
        js, _ = await self.stream()
        await self.assertFailure(js.batch().commit("elsewhere"), errors.NoStreamResponseError)


class FaultTests(BatchTestCase):
    """The connection is lost."""

    async def test_disconnect_in_the_middle(self) -> None:
        """Nothing of the batch is stored, the next call says why, and a batch on the new connection works."""
        server = await self.start_server(jetstream=True)
        proxy = await self.start_proxy(server)
        nc = await self.connect(proxy)
        js = nc.jetstream()
        stream = await js.create_stream(StreamConfig(name="S", subjects=["s.>"], allow_atomic=True))
        with self.assertRaises(errors.DisconnectedError):
            async with js.batch() as batch:
                await batch.add("s.x", b"1")
                await batch.add("s.x", b"2")
                proxy.rst()
                await self.until(lambda: not nc.is_connected)
                await nc.when_connected()
                await batch.add("s.x", b"3")
        self.assertEqual(await self.count(stream), 0)
        async with js.batch() as batch:
            await batch.add("s.x", b"1")
            await batch.add("s.x", b"2")
        self.assertEqual(await self.contents(stream), [b"1", b"2"])

    async def test_disconnect_before_the_answer(self) -> None:
        """When the answer to the commit is lost, it may have been stored, as it was here. Nobody waits for the timeout."""
        server = await self.start_server(jetstream=True)
        proxy = await self.start_proxy(server)
        js = (await self.connect(proxy)).jetstream(timeout=20.0)
        stream = await js.create_stream(StreamConfig(name="S", subjects=["s.>"], allow_atomic=True))
        batch = js.batch()
        await batch.add("s.x", b"1")
        await batch.add("s.x", b"2")
        proxy.hole(proxy.to_client)
        waiting = batch.commit()
        direct = (await self.connect(server)).jetstream()
        for _ in range(200):
            if (await (await direct.stream("S")).info()).state.messages:
                break
            await self.sleep(0.01)
        proxy.rst()
        await proxy.heal()
        await self.assertFailure(waiting, errors.DisconnectedError)
        self.assertEqual(await self.contents(stream), [b"1", b"2"])

    async def test_server_killed(self) -> None:
        """A server that dies with an open batch has nothing of it when it is back."""
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        js = nc.jetstream()
        stream = await js.create_stream(StreamConfig(name="S", subjects=["s.>"], allow_atomic=True))
        batch = js.batch(ack_every=1)
        for number in range(5):
            await batch.add("s.x", b"%d" % number)
        await server.kill()
        await server.start()
        await self.until(lambda: nc.is_connected)
        await self.assertFailure(batch.commit(), errors.DisconnectedError)
        self.assertEqual(await self.count(stream), 0)
