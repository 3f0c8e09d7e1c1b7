"""Reading pull consumers of real servers all the time: by handlers and by ``async for``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from pynats_twisted import errors
from pynats_twisted.jetstream.api import AckPolicy, PriorityPolicy
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.pull_consumer import PullConsumer
from tests.support.pull_consumers import PullConsumerTestCase, Seen


class ConsumeTests(PullConsumerTestCase):
    """Handlers."""

    async def test_everything_once_and_in_order(self) -> None:
        """Ten thousand messages come once each and in order, whatever the size of the pulls; all are acked; nothing is left behind."""
        nc, consumer = await self.begin(10_000)
        for name, options in (("a", {}), ("b", {"max_messages": 7}), ("c", {"max_bytes": 5000}), ("d", {"max_messages": 1})):
            consumer = await self.new_consumer(consumer.js, name)
            count = 10_000 if name == "a" else 2000
            seen = Seen()
            limits: dict[str, Any] = options
            context = consumer.consume(seen, **limits)
            await self.until(lambda: len(seen.numbers) >= count, what=f"{name}: all messages")  # noqa: B023
            await context.drain()
            self.assertEqual(seen.numbers, list(range(len(seen.numbers))))
            self.assertEqual(seen.again, 0)
            await self.no_pulls(consumer)
        self.assertEqual(nc.subscriptions, ())

    async def test_coroutines_at_once(self) -> None:
        """Handlers that take their time run side by side, as many as are allowed."""
        _, consumer = await self.begin(60)
        running = most = done = 0

        async def handler(msg: JsMsg) -> None:
            nonlocal running, most, done
            running += 1
            most = max(most, running)
            await deferLater(self.reactor, 0.02)
            running -= 1
            done += 1
            await msg.ack()

        context = consumer.consume(handler, concurrency=8)
        await self.until(lambda: done == 60)
        await context.drain()
        self.assertEqual(most, 8)
        await self.all_acked(consumer)

    async def test_messages_that_come_later(self) -> None:
        """An idle consumption hands out a message as soon as it is stored, also after pulls have timed out."""
        nc, consumer = await self.begin()
        seen = Seen()
        context = consumer.consume(seen, expires=1.0)
        await self.sleep(2.5)
        await self.fill(nc, 1)
        await self.until(lambda: len(seen.numbers) == 2)
        await context.drain()

    async def test_auto_in_progress(self) -> None:
        """A handler that takes much longer than ``ack_wait`` keeps its message; nothing is delivered twice."""
        _, consumer = await self.begin(3, ack_wait=1.0)
        delivered: list[int] = []

        async def handler(msg: JsMsg) -> None:
            delivered.append(msg.metadata.num_delivered)
            await deferLater(self.reactor, 2.5)
            await msg.ack()

        context = consumer.consume(handler, concurrency=3, auto_in_progress=True)
        await self.until(lambda: len(delivered) == 3)
        await context.drain()
        self.assertEqual(delivered, [1, 1, 1])
        await self.all_acked(consumer)

    async def test_ack_wait_passed_in_the_buffer(self) -> None:
        """What waited here too long is not handed out from here: it is handled when the server delivers it again."""
        _, consumer = await self.begin(3, ack_wait=1.0)
        delivered: list[tuple[bytes, int]] = []
        gate: Deferred[None] = Deferred()

        async def handler(msg: JsMsg) -> None:
            delivered.append((msg.data, msg.metadata.num_delivered))
            await msg.ack()
            if msg.data == b"0":
                await gate

        context = consumer.consume(handler, max_messages=3)
        await self.sleep(1.3)
        gate.callback(None)
        await self.until(lambda: len(delivered) == 3)
        self.assertEqual(delivered[0], (b"0", 1))
        self.assertEqual({number for _, number in delivered[1:]}, {2})
        self.assertEqual(context.expired, 2)
        await context.drain()
        await self.all_acked(consumer)

    async def test_stop_gives_back(self) -> None:
        """What waits when it is stopped is delivered to another client at once, not after ``ack_wait``."""
        _, consumer = await self.begin(50)
        gate: Deferred[None] = Deferred()

        async def handler(msg: JsMsg) -> None:
            await gate
            await msg.ack()

        context = consumer.consume(handler)
        await self.until(lambda: context.pending == 49)
        context.stop()
        seen = Seen()
        other = consumer.consume(seen)
        await self.until(lambda: len(seen.numbers) == 49)
        self.assertEqual((sorted(seen.numbers), seen.again), (list(range(1, 50)), 49))
        gate.callback(None)
        await context.done
        await other.drain()
        await self.all_acked(consumer)

    async def test_drain_under_load(self) -> None:
        """Draining in the middle: what was handed out is acked, the rest is there for the next one, and nothing waits for ``ack_wait``."""
        _, consumer = await self.begin(5000)
        first, second = Seen(), Seen()
        context = consumer.consume(first, max_messages=100)
        await self.until(lambda: len(first.numbers) > 500)
        await context.drain()
        count = len(first.numbers)
        self.assertLess(count, 5000)
        other = consumer.consume(second)
        await self.until(lambda: len(first.numbers) + len(second.numbers) >= 5000)
        await other.drain()
        self.assertEqual(sorted(first.numbers + second.numbers), list(range(5000)))
        self.assertEqual(len(first.numbers), count)

    async def test_ack_policies(self) -> None:
        """Consumers without acks, and with acks that stand for all before, are read the same way."""
        _, consumer = await self.begin(300)
        for name, policy in (("none", AckPolicy.NONE), ("all", AckPolicy.ALL)):
            other = await self.new_consumer(consumer.js, name, ack_policy=policy)
            got: list[int] = []
            context = other.consume(lambda msg: got.append(int(msg.data)), stop_after=300)  # noqa: B023
            await context.done
            self.assertEqual(got, list(range(300)))

    async def test_handler_errors(self) -> None:
        """A message whose handler failed comes again after the wait that was asked for, or never."""
        _, consumer = await self.begin(3)
        tries: list[bytes] = []

        def handler(msg: JsMsg) -> None:
            tries.append(msg.data)
            if msg.data == b"1" and msg.metadata.num_delivered < 3:
                raise ValueError("not yet")

        context = consumer.consume(handler, auto_ack=True, on_error="nak", nak_delay=0.1)
        await self.until(lambda: tries.count(b"1") == 3)
        await context.drain()
        await self.all_acked(consumer)
        self.assertEqual(context.failed, 2)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    async def test_pinned_client(self) -> None:
        """Of two that consume in a group, one gets everything, over many pulls; the other takes over when the pin is taken away."""
        nc, consumer = await self.begin(priority_policy=PriorityPolicy.PINNED_CLIENT, priority_groups=["jobs"])
        other = PullConsumer((await self.connect(nc.connected_url or "")).jetstream(), await consumer.info())
        first, second = Seen(), Seen()
        warnings: list[str] = []
        context = consumer.consume(first, max_messages=10, listener=lambda warning: warnings.append(warning.kind))
        await self.sleep(0.1)
        spare = other.consume(second, max_messages=10)
        await self.fill(nc, 100)
        await self.until(lambda: len(first.numbers) == 101)
        self.assertEqual(second.numbers, [])
        await consumer.unpin("jobs")
        await self.fill(nc, 100)
        await self.until(lambda: len(first.numbers) + len(second.numbers) == 202)
        self.assertTrue(second.numbers)
        await context.drain()
        await spare.drain()
        await self.all_acked(consumer)


class MessagesTests(PullConsumerTestCase):
    """``async for``."""

    async def test_everything_once_and_in_order(self) -> None:
        """Every message comes once and in order, and the loop goes on until it is stopped."""
        nc, consumer = await self.begin(5000)
        got: list[int] = []
        async with consumer.messages(max_messages=100) as messages:
            async for msg in messages:
                got.append(int(msg.data))
                await msg.ack()
                if len(got) == 5000:
                    break
        self.assertEqual(got, list(range(5000)))
        self.assertEqual(nc.subscriptions, ())
        await self.all_acked(consumer)
        await self.no_pulls(consumer)

    async def test_slow_reader(self) -> None:
        """A reader that takes its time has never more than ``max_messages`` waiting here."""
        _, consumer = await self.begin(200)
        most = count = 0
        async with consumer.messages(max_messages=20) as messages:
            async for msg in messages:
                most = max(most, messages.pending)
                count += 1
                await msg.ack()
                await deferLater(self.reactor, 0.002)
                if count == 200:
                    break
        self.assertLess(most, 20)
        self.assertEqual(messages.expired, 0)

    async def test_consumer_is_deleted(self) -> None:
        """The loop ends with the reason."""
        _, consumer = await self.begin(10)
        messages = consumer.messages()
        got = 0
        deleted: Deferred[None] | None = None
        try:
            async for msg in messages:
                got += 1
                msg.ack()
                if got == 10:
                    deleted = consumer.delete()
        except errors.ConsumerDeletedError:
            pass
        else:
            self.fail("it ended without a reason")
        assert deleted is not None
        await deleted
        self.assertEqual(got, 10)
