"""Dead letters with real servers: exactly one for each message, whatever happens on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from twisted.internet.defer import gatherResults

from pynats_twisted import errors
from pynats_twisted.jetstream.api import ConsumerConfig, RetentionPolicy, StreamConfig
from pynats_twisted.jetstream.consumer import Consumer
from pynats_twisted.jetstream.dead_letters import DeadLetters
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.pull_consumer import PullConsumer
from tests.support.pulling import PullingTestCase

ADVISORIES = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"


class DeadLetterTestCase(PullingTestCase):
    async def begin(self, messages: int = 0, **options: Any) -> None:
        await super().begin(messages, **options)
        self.dead = DeadLetters(self.js)
        await self.js.create_stream(self.dead.stream_config("DEAD"))

    async def letters(self) -> list[Any]:
        """All dead letters, as they are stored."""
        stream = await self.js.stream("DEAD")
        last = (await stream.info()).state.last_seq
        return [await stream.get_msg(seq) for seq in range(1, last + 1)]

    async def until_letters(self, number: int) -> list[Any]:
        """Wait for so many."""
        end = self.reactor.seconds() + 10
        letters = await self.letters()
        while len(letters) < number and self.reactor.seconds() < end:
            await self.sleep(0.02)
            letters = await self.letters()
        self.assertEqual(len(letters), number)
        return letters


class RejectTests(DeadLetterTestCase):
    """Messages that a program rejects."""

    async def test_reject(self) -> None:
        """A rejected message is stored as it was, with what is known of it, and is not delivered again."""
        await self.begin()
        await self.js.publish("s.order", b"\x00payload", {"Trace": "t", "Nats-Msg-Id": "id-1"})
        consumer = await self.consumer_of(durable="d", ack_wait=0.5)
        (msg,) = await self.pull(consumer)
        self.assertTrue(await self.dead.reject(msg, "no such customer"))
        (letter,) = await self.letters()
        self.assertEqual(letter.subject, f"dead.S.d.1.{msg.metadata.timestamp_ns}")
        self.assertEqual((letter.data, letter.headers["Trace"], letter.headers["Original-Nats-Msg-Id"]), (b"\x00payload", "t", "id-1"))
        self.assertEqual(
            {name: value for name, value in letter.headers.items() if name.startswith("Dead-Letter-") and name != "Dead-Letter-Time"},
            {
                "Dead-Letter-Stream": "S",
                "Dead-Letter-Consumer": "d",
                "Dead-Letter-Sequence": "1",
                "Dead-Letter-Subject": "s.order",
                "Dead-Letter-Deliveries": "1",
                "Dead-Letter-Cause": "rejected",
                "Dead-Letter-Reason": "no such customer",
            },
        )
        stored = await (await self.js.stream("S")).get_msg(1)
        self.assertEqual(letter.headers["Dead-Letter-Time"][:26], stored.time.strftime("%Y-%m-%dT%H:%M:%S.%f"))
        self.assertEqual(await self.state(consumer), (0, 0, 1))
        self.assertEqual(await self.pull(consumer, wait=0.8), [])

    async def test_twenty_crashes(self) -> None:
        """Twenty programs in a row die after they stored the dead letters and before they gave the messages up: there is one of each."""
        await self.begin(5)
        consumer = await self.consumer_of(durable="d", ack_wait=0.15)
        for crash in range(20):
            nc = await self.connect(self.nc.connected_url or "")
            js = nc.jetstream()
            msgs = await self.pull(Consumer(js, consumer.cached_info), 5)
            stored = await gatherResults([DeadLetters(js).store(msg, f"try {crash}") for msg in msgs])
            self.assertEqual(stored, [crash == 0] * 5)
            await nc.close()
        msgs = await self.pull(consumer, 5)
        self.assertEqual({msg.metadata.num_delivered for msg in msgs}, {21})
        await gatherResults([self.dead.reject(msg) for msg in msgs])
        letters = await self.letters()
        self.assertEqual(sorted(letter.data for letter in letters), [b"1", b"2", b"3", b"4", b"5"])
        self.assertEqual({letter.headers["Dead-Letter-Reason"] for letter in letters}, {"try 0"})
        self.assertEqual(await self.state(consumer), (0, 0, 5))

    async def test_each_consumer_has_its_own(self) -> None:
        """Two consumers that reject the same message, which has an id, make two dead letters."""
        await self.begin()
        await self.js.publish("s.1", b"1", msg_id="same")
        for name in ("a", "b"):
            (msg,) = await self.pull(await self.consumer_of(durable=name))
            self.assertTrue(await self.dead.reject(msg))
        self.assertEqual([letter.headers["Dead-Letter-Consumer"] for letter in await self.letters()], ["a", "b"])

    async def test_stream_is_made_again(self) -> None:
        """A message of a stream that was deleted and made again is another one, although it has the same sequence."""
        await self.begin(1)
        for data in (b"1", b"other"):
            (msg,) = await self.pull(await self.consumer_of(durable="d"))
            self.assertEqual((msg.data, msg.metadata.stream_seq), (data, 1))
            self.assertTrue(await self.dead.reject(msg))
            await self.js.delete_stream("S")
            await self.js.create_stream(self.stream_config())
            await self.js.publish("s.1", b"other")
        self.assertEqual([letter.data for letter in await self.letters()], [b"1", b"other"])

    async def test_headers_only(self) -> None:
        """The dead letter has the payload, also where the consumer delivers headers only."""
        await self.begin(1)
        (msg,) = await self.pull(await self.consumer_of(durable="d", headers_only=True))
        self.assertEqual(msg.data, b"")
        await self.dead.reject(msg)
        (letter,) = await self.letters()
        self.assertEqual(letter.data, b"1")

    async def test_no_stream_for_dead_letters(self) -> None:
        """Without a stream for them it is an error, and the message is not given up."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d")
        (msg,) = await self.pull(consumer)
        await self.assertFailure(DeadLetters(self.js, "nowhere", attempts=1).reject(msg), errors.NoStreamResponseError)
        self.assertEqual(await self.state(consumer), (1, 0, 0))
        await msg.ack_sync()

    async def test_many_at_once_in_a_cluster(self) -> None:
        """Several programs store the same messages at the same time, with three replicas: one of each is stored."""
        cluster = await self.start_cluster(3, jetstream=True)
        self.nc = await self.connect(cluster)
        self.js = self.nc.jetstream()
        dead = DeadLetters(self.js)
        stream = await self.js.create_stream(replace(self.stream_config(), replicas=3))
        await self.js.create_stream(replace(dead.stream_config("DEAD"), replicas=3))
        for number in range(20):
            await self.js.publish(f"s.{number}", b"%d" % number)
        consumer = await stream.create_consumer(ConsumerConfig(durable="d", ack_wait=30.0))
        msgs = await self.pull(consumer, 20)
        programs = [DeadLetters((await self.connect(server)).jetstream()) for server in cluster.servers]
        results = await gatherResults([program.store(msg) for msg in msgs for program in programs])
        self.assertEqual(Counter(results), {True: 20, False: 40})
        await gatherResults([dead.reject(msg) for msg in msgs])
        self.assertEqual(sorted(int(letter.data) for letter in await self.until_letters(20)), list(range(20)))
        self.assertEqual((await consumer.info()).num_ack_pending, 0)


class HandlerTests(DeadLetterTestCase):
    """Handlers that fail."""

    async def test_handler(self) -> None:
        """Of four messages one is handled, one at the second attempt, one never, and one is rejected at once."""
        await self.begin(4)
        consumer = await self.js.create_consumer("S", ConsumerConfig(durable="d", ack_wait=30.0, max_deliver=3))
        tried: Counter[bytes] = Counter()

        async def handle(msg: JsMsg) -> None:
            tried[msg.data] += 1
            if msg.data == b"4":
                raise errors.MessageRejectedError("never")
            if msg.data == b"3" or (msg.data == b"2" and tried[msg.data] == 1):
                raise ValueError("not now")

        context = consumer.consume(self.dead.handler(handle, max_deliver=consumer.config.max_deliver))
        letters = await self.until_letters(2)
        await self.until_state(consumer, (0, 0, 4))
        await context.drain()
        self.assertEqual(tried, {b"1": 1, b"2": 2, b"3": 3, b"4": 1})
        found = {letter.data: (letter.headers["Dead-Letter-Cause"], letter.headers["Dead-Letter-Reason"]) for letter in letters}
        self.assertEqual(found, {b"3": ("failed", "ValueError: not now"), b"4": ("rejected", "never")})
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 4)


class WatchTests(DeadLetterTestCase):
    """Messages that were delivered as often as they may, and that nobody answered."""

    async def exhaust(self, consumer: Consumer, number: int, deliveries: int = 2) -> list[JsMsg]:
        """Take all deliveries of the messages without an answer; the last ones are returned."""
        msgs: list[JsMsg] = []
        for _ in range(deliveries):
            msgs = await self.pull(consumer, number)
            self.assertEqual(len(msgs), number)
        # The server finds that no delivery is left when somebody asks for one.
        self.assertEqual(await self.pull(consumer, wait=1.0), [])
        return msgs

    async def test_watch(self) -> None:
        """They become dead letters, once each, however many programs watch."""
        await self.begin(3)
        consumer = await self.consumer_of(durable="d", ack_wait=0.2, max_deliver=2)
        for _ in range(3):
            js = (await self.connect(self.nc.connected_url or "")).jetstream()
            await DeadLetters(js).watch(queue=None)
        msgs = await self.exhaust(consumer, 3)
        letters = await self.until_letters(3)
        await self.sleep(0.2)
        self.assertEqual(len(await self.letters()), 3)
        self.assertEqual({letter.data for letter in letters}, {b"1", b"2", b"3"})
        self.assertEqual(
            {letter.subject for letter in letters}, {f"dead.S.d.{msg.data.decode()}.{msg.metadata.timestamp_ns}" for msg in msgs}
        )
        said = {(letter.headers["Dead-Letter-Cause"], letter.headers["Dead-Letter-Reason"]) for letter in letters}
        self.assertEqual(said, {("max-deliveries", "delivered 2 times without an answer")})

    async def test_watch_and_reject(self) -> None:
        """A message that a program rejects too late, and one that watches, make one dead letter."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d", ack_wait=0.2, max_deliver=2)
        await self.dead.watch("S", "d")
        (msg,) = await self.exhaust(consumer, 1)
        await self.until_letters(1)
        self.assertFalse(await self.dead.reject(msg, "too late"))
        self.assertEqual(len(await self.letters()), 1)

    async def test_remove(self) -> None:
        """In a work queue the message would stay for ever: it is removed, when that is asked for."""
        await self.begin(1, retention=RetentionPolicy.WORKQUEUE)
        consumer = await self.consumer_of(durable="d", ack_wait=0.2, max_deliver=1)
        watching = await self.dead.watch(remove=True)
        await self.exhaust(consumer, 1, 1)
        await self.until_letters(1)
        await watching.drain()
        self.assertEqual((await (await self.js.stream("S")).info()).state.messages, 0)

    async def test_stored_advisories(self) -> None:
        """What the server told while nobody watched is caught up on, when a stream stored it; twice makes no second dead letter."""
        await self.begin(2)
        await self.js.create_stream(StreamConfig(name="TOLD", subjects=[ADVISORIES]))
        consumer = await self.consumer_of(durable="d", ack_wait=0.2, max_deliver=1)
        await self.exhaust(consumer, 2, 1)
        reader = await self.js.create_consumer("TOLD", ConsumerConfig(durable="reader"))
        assert isinstance(reader, PullConsumer)
        advisories = await reader.fetch(2, expires=5.0)
        for wanted in (True, False):
            self.assertEqual([await self.dead.take_advisory(msg) for msg in advisories], [wanted] * 2)
        self.assertEqual({letter.data for letter in await self.letters()}, {b"1", b"2"})

    async def test_message_is_gone(self) -> None:
        """A message that was deleted meanwhile makes no dead letter."""
        await self.begin(1)
        await self.js.create_stream(StreamConfig(name="TOLD", subjects=[ADVISORIES]))
        await self.exhaust(await self.consumer_of(durable="d", ack_wait=0.2, max_deliver=1), 1, 1)
        told = await (await self.js.stream("TOLD")).get_msg(1)
        await (await self.js.stream("S")).delete_msg(1)
        self.assertFalse(await self.dead.take_advisory(told))
        self.assertEqual(await self.letters(), [])
