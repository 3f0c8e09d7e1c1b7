"""Fetching messages of pull consumers of real servers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, gatherResults

from pynats_twisted import errors
from pynats_twisted.jetstream.api import PriorityPolicy
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.pull_consumer import PullConsumer
from tests.support.pull_consumers import PullConsumerTestCase


def numbers(msgs: list[JsMsg]) -> list[int]:
    return [int(msg.data) for msg in msgs]


class FetchTests(PullConsumerTestCase):
    """What a fetch brings."""

    async def test_all_some_and_nothing(self) -> None:
        """All that was asked for; what there is of it; nothing. No pull and no subscription is left."""
        nc, consumer = await self.begin(5)
        for expected in ([0, 1, 2], [3, 4], []):
            msgs = await consumer.fetch(3, expires=1.0)
            self.assertEqual(numbers(msgs), expected)
            for msg in msgs:
                await msg.ack_sync()
        self.assertEqual(nc.subscriptions, ())
        await self.no_pulls(consumer)

    async def test_it_waits_for_messages(self) -> None:
        """Messages that are stored while it waits are delivered at once."""
        nc, consumer = await self.begin()
        fetched = consumer.fetch(2, expires=60.0)
        await self.sleep(0.2)
        begun = self.reactor.seconds()
        await self.fill(nc, 1)
        self.assertEqual(numbers(await fetched), [0, 1])
        self.assertLess(self.reactor.seconds() - begun, 30.0)

    async def test_no_wait(self) -> None:
        """What is there now, without waiting; also nothing."""
        _, consumer = await self.begin(5)
        begun = self.reactor.seconds()
        self.assertEqual(numbers(await consumer.fetch(3, no_wait=True)), [0, 1, 2])
        self.assertEqual(numbers(await consumer.fetch(3, no_wait=True)), [3, 4])
        self.assertEqual(numbers(await consumer.fetch(3, no_wait=True)), [])
        self.assertLess(self.reactor.seconds() - begun, 25.0)

    async def test_bytes(self) -> None:
        """No more bytes than wanted come, and a first message that is larger is an error."""
        nc, consumer = await self.begin()
        for _ in range(10):
            await nc.request("s.a", bytes(1000))
        msgs = await consumer.fetch(100, max_bytes=4500, expires=5.0)
        self.assertEqual(len(msgs), 4)
        size = msgs[0].size
        # Just so many bytes: the server says nothing at the end of such a pull.
        begun = self.reactor.seconds()
        self.assertEqual(len(await consumer.fetch(100, max_bytes=2 * size, expires=60.0)), 2)
        self.assertLess(self.reactor.seconds() - begun, 30.0)
        await self.assertFailure(consumer.fetch(1, max_bytes=500, expires=5.0), errors.PullRefusedError)

    async def test_heartbeats(self) -> None:
        """A long fetch lives through the silence by the server's heartbeats."""
        _, consumer = await self.begin()
        self.assertEqual(await consumer.fetch(1, expires=1.5, heartbeat=0.2), [])

    async def test_next(self) -> None:
        """One message, or an error when there is none in time."""
        _, consumer = await self.begin(1)
        self.assertEqual((await consumer.next()).data, b"0")
        await self.assertFailure(consumer.next(timeout=0.2), errors.NextMessageTimeoutError)

    async def test_many_at_once(self) -> None:
        """Fetches at the same time share the messages: each comes once."""
        _, consumer = await self.begin(100)
        results: Any = await gatherResults([consumer.fetch(10, expires=2.0) for _ in range(10)])
        self.assertEqual(sorted(number for msgs in results for number in numbers(msgs)), list(range(100)))

    async def test_cancel(self) -> None:
        """A cancelled fetch leaves no pull and no subscription behind, and what it had got comes to the next one at once."""
        nc, consumer = await self.begin(2)
        fetched = consumer.fetch(10, expires=30.0)
        await self.sleep(0.2)
        fetched.cancel()
        await self.assertFailure(fetched, CancelledError)
        msgs = await consumer.fetch(2, expires=2.0)
        self.assertEqual(sorted(numbers(msgs)), [0, 1])
        self.assertEqual([msg.metadata.num_delivered for msg in msgs], [2, 2])
        await self.until(lambda: not nc.subscriptions, what="no subscription left")
        await self.no_pulls(consumer)

    async def test_refusals(self) -> None:
        """What the consumer's limits forbid is refused with an error that says which."""
        _, consumer = await self.begin(max_batch=5, max_expires=2.0, max_bytes=1000)
        for wrong, word in (
            ({"batch": 6, "expires": 1.0}, "MaxRequestBatch"),
            ({"batch": 1, "expires": 60.0}, "MaxRequestExpires"),
            ({"batch": 1, "expires": 1.0, "max_bytes": 2000}, "MaxRequestMaxBytes"),
        ):
            options: dict[str, Any] = dict(wrong)
            error: Any = await self.assertFailure(consumer.fetch(options.pop("batch"), **options), errors.PullRefusedError)
            self.assertIn(word, error.text)

    async def test_too_many_pulls(self) -> None:
        """Where as many pulls wait as the consumer accepts, another one is refused."""
        _, consumer = await self.begin(max_waiting=1)
        first = consumer.fetch(1, expires=3.0)
        await self.sleep(0.1)
        error: Any = await self.assertFailure(consumer.fetch(1, expires=1.0), errors.PullRefusedError)
        self.assertIn("MaxWaiting", error.text)
        self.assertEqual(await first, [])

    async def test_consumer_is_deleted(self) -> None:
        """During a fetch, and before it: the same error."""
        _, consumer = await self.begin()
        fetched = consumer.fetch(1, expires=20.0)
        await self.sleep(0.1)
        await consumer.delete()
        await self.assertFailure(fetched, errors.ConsumerDeletedError)
        await self.assertFailure(consumer.fetch(1, expires=20.0), errors.ConsumerDeletedError)
        await consumer.js.delete_stream("S")
        await self.assertFailure(consumer.fetch(1, expires=20.0), errors.ConsumerDeletedError)

    async def test_push_consumer(self) -> None:
        """A push consumer refuses to be pulled from."""
        _, consumer = await self.begin(deliver_subject="deliver.here")
        await self.assertFailure(consumer.fetch(1, expires=5.0), errors.PullRefusedError)

    async def test_domain_and_inbox_prefix(self) -> None:
        """Pulls go through a domain, and everything comes to inboxes below the client's own prefix."""
        server = await self.start_server(jetstream={"domain": "hub"})
        nc = await self.connect(server, inbox_prefix="_MINE.inbox")
        js = nc.jetstream(domain="hub")
        await self.new_stream(js)
        await self.fill(nc, 3)
        consumer = await self.new_consumer(js)
        fetched = consumer.fetch(5, expires=2.0)
        self.assertTrue(all(each.subject.startswith("_MINE.inbox.") for each in nc.subscriptions))
        self.assertEqual(numbers(await fetched), [0, 1, 2, 3])


class PriorityTests(PullConsumerTestCase):
    """Priority groups (ADR-42)."""

    async def test_overflow(self) -> None:
        """Messages come to who asks with ``min_pending`` only when so many wait."""
        nc, consumer = await self.begin(5, priority_policy=PriorityPolicy.OVERFLOW, priority_groups=["jobs"])
        self.assertEqual(await consumer.fetch(1, expires=0.3, group="jobs", min_pending=10), [])
        self.assertEqual(len(await consumer.fetch(1, expires=0.3, group="jobs", min_ack_pending=1)), 0)
        await self.fill(nc, 10)
        self.assertEqual(len(await consumer.fetch(1, expires=2.0, group="jobs", min_pending=10)), 1)
        self.assertEqual(len(await consumer.fetch(1, expires=2.0, group="jobs", min_ack_pending=1)), 1)

    async def test_which_group(self) -> None:
        """The consumer's only group need not be named; one that it does not have is refused."""
        _, consumer = await self.begin(1, priority_policy=PriorityPolicy.OVERFLOW, priority_groups=["jobs"])
        await self.assertFailure(consumer.fetch(1, expires=1.0, group="other"), errors.PullRefusedError)
        self.assertEqual(await consumer.fetch(1, expires=0.3, min_pending=10), [])
        self.assertEqual(numbers(await consumer.fetch(1, expires=2.0, min_pending=1)), [0])

    async def test_pinned_client(self) -> None:
        """The first that asks is the only one that gets messages, until its pin is taken away."""
        _, first = await self.begin(10, priority_policy=PriorityPolicy.PINNED_CLIENT, priority_groups=["jobs"])
        other = await self.connect(first.js.client.connected_url or "")
        second = PullConsumer(other.jetstream(), await first.info())
        self.assertEqual(numbers(await first.fetch(2, expires=2.0, group="jobs")), [0, 1])
        self.assertTrue(first.pins["jobs"])
        self.assertEqual(await second.fetch(1, expires=0.3, group="jobs"), [])
        self.assertEqual(numbers(await first.fetch(1, expires=2.0, group="jobs")), [2])
        await first.unpin("jobs")
        self.assertEqual(numbers(await second.fetch(1, expires=2.0, group="jobs")), [3])
        # The old pin is void: it is dropped, and without one there is nothing to be had.
        self.assertEqual(await first.fetch(1, expires=0.3, group="jobs"), [])
        self.assertEqual(first.pins, {})

    async def test_prioritized(self) -> None:
        """Who asks with the lower number is served first, whoever asked first."""
        nc, consumer = await self.begin(priority_policy=PriorityPolicy.PRIORITIZED, priority_groups=["jobs"])
        late = consumer.fetch(1, expires=3.0, group="jobs", priority=5)
        await self.sleep(0.1)
        early = consumer.fetch(1, expires=3.0, group="jobs", priority=1)
        await self.sleep(0.1)
        await nc.request("s.a", b"1")
        self.assertEqual(len(await early), 1)
        self.assertEqual(len(await late), 0)
