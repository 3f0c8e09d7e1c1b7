"""Each kind of answer to a message, as the server understands it."""

from __future__ import annotations

import json
from typing import Any

from pynats_twisted import errors
from pynats_twisted.jetstream.api import AckPolicy
from tests.support.pulling import PullingTestCase


class AckTests(PullingTestCase):
    """Answers, seen in the consumer's info."""

    async def test_ack(self) -> None:
        """An acked message is done; those that are not acked still count."""
        await self.begin(3)
        consumer = await self.consumer_of(durable="d", ack_wait=30.0)
        first, second, third = await self.pull(consumer, 3)
        self.assertEqual([msg.data for msg in (first, second, third)], [b"1", b"2", b"3"])
        self.assertEqual(await self.state(consumer), (3, 0, 0))
        await second.ack()
        await self.until_state(consumer, (2, 0, 0))
        await first.ack()
        await self.until_state(consumer, (1, 0, 2))
        await third.ack()
        await self.until_state(consumer, (0, 0, 3))

    async def test_ack_sync(self) -> None:
        """When ``ack_sync`` is done, the server has it."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d")
        (msg,) = await self.pull(consumer)
        await msg.ack_sync()
        info = await consumer.info()
        self.assertEqual((info.num_ack_pending, info.ack_floor.stream_seq), (0, 1))
        await self.assertFailure(msg.ack_sync(), errors.MessageAlreadyAckedError)

    async def test_nak(self) -> None:
        """A refused message is delivered again at once."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d", ack_wait=30.0)
        (msg,) = await self.pull(consumer)
        self.assertEqual(msg.metadata.num_delivered, 1)
        await msg.nak()
        (again,) = await self.pull(consumer)
        self.assertEqual((again.data, again.metadata.num_delivered, again.metadata.stream_seq), (b"1", 2, 1))
        self.assertEqual(await self.state(consumer), (1, 1, 0))
        await again.ack()
        await self.until_state(consumer, (0, 0, 1))

    async def test_nak_with_delay(self) -> None:
        """A refused message is delivered again after the delay, and not before."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d", ack_wait=30.0)
        (msg,) = await self.pull(consumer)
        begun = self.reactor.seconds()
        await msg.nak(0.4)
        (again,) = await self.pull(consumer)
        self.assertTrue(0.38 <= self.reactor.seconds() - begun < 2, self.reactor.seconds() - begun)
        self.assertEqual(again.metadata.num_delivered, 2)

    async def test_in_progress(self) -> None:
        """A message that is being worked on is not delivered again, however long it takes."""
        await self.begin(2)
        consumer = await self.consumer_of(durable="d", ack_wait=1.0)
        busy, idle = await self.pull(consumer, 2)
        for _ in range(5):
            await self.sleep(0.3)
            await busy.in_progress()
        (again,) = await self.pull(consumer, 2, wait=0.3)
        self.assertEqual((again.data, again.metadata.num_delivered), (idle.data, 2))
        await busy.ack()
        await again.ack()
        await self.until_state(consumer, (0, 0, 2))

    async def test_term(self) -> None:
        """A terminated message is done, and the server tells the reason."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d", ack_wait=0.3)
        told: list[Any] = []
        await self.nc.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.d", told.append)
        (msg,) = await self.pull(consumer)
        await msg.term("no\nsuch customer")
        await self.until_state(consumer, (0, 0, 1))
        self.assertEqual(await self.pull(consumer, wait=0.6), [])
        await self.until(lambda: told)
        self.assertEqual(json.loads(told[0].data)["reason"], "no such customer")

    async def test_term_sync(self) -> None:
        """When ``term_sync`` is done, the server has it."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d")
        (msg,) = await self.pull(consumer)
        await msg.term_sync("no good")
        self.assertEqual((await consumer.info()).ack_floor.stream_seq, 1)

    async def test_ack_all(self) -> None:
        """With ``AckPolicy.ALL`` an ack stands for the messages before it, too."""
        await self.begin(3)
        consumer = await self.consumer_of(durable="d", ack_policy=AckPolicy.ALL)
        msgs = await self.pull(consumer, 3)
        await msgs[1].ack()
        await self.until_state(consumer, (1, 0, 2))

    async def test_not_acked(self) -> None:
        """What is not acked comes again after ``ack_wait``, and again at most ``max_deliver`` times in all."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d", ack_wait=0.2, max_deliver=2)
        (first,) = await self.pull(consumer)
        (second,) = await self.pull(consumer)
        self.assertEqual((first.metadata.num_delivered, second.metadata.num_delivered), (1, 2))
        self.assertEqual(await self.pull(consumer, wait=0.6), [])

    async def test_late_ack_of_an_earlier_delivery(self) -> None:
        """Each delivery is a message of its own: an ack of the first one counts although the second one has come."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d", ack_wait=0.2)
        (first,) = await self.pull(consumer)
        (second,) = await self.pull(consumer)
        await first.ack()
        await self.until_state(consumer, (0, 0, 1))
        self.assertFalse(second.acked)

    async def test_consumer_without_acks(self) -> None:
        """Where nothing is acked, ``ack`` does no harm, and ``ack_sync`` says that nobody takes it."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d", ack_policy=AckPolicy.NONE)
        (msg,) = await self.pull(consumer)
        await self.assertFailure(msg.ack_sync(timeout=1.0), errors.NoRespondersError)
        await msg.ack()
        self.assertEqual(await self.state(consumer), (0, 0, 1))

    async def test_consumer_is_gone(self) -> None:
        """An ack to a consumer that was deleted is not taken, and that is said."""
        await self.begin(1)
        consumer = await self.consumer_of(durable="d")
        (msg,) = await self.pull(consumer)
        await consumer.delete()
        await self.assertFailure(msg.ack_sync(timeout=1.0), errors.NoRespondersError)
        self.assertFalse(msg.acked)


class LongFormTests(PullingTestCase):
    """The long form of the ack subject, which servers can be told to use, is answered like the short one."""

    async def test_every_answer(self) -> None:
        """The server takes each kind, and the metadata name the domain."""
        await self.begin(5, domain="hub", server_config="feature_flags { js_ack_fc_v2: true }")
        consumer = await self.consumer_of(durable="d", ack_wait=30.0)
        msgs = await self.pull(consumer, 5)
        self.assertEqual({(msg.reply.count("."), msg.metadata.domain) for msg in msgs}, {(10, "hub")})
        self.assertEqual([msg.metadata.stream_seq for msg in msgs], [1, 2, 3, 4, 5])
        await msgs[0].ack()
        await msgs[1].term("no")
        await msgs[2].ack_sync()
        await msgs[3].in_progress()
        await msgs[4].nak()
        await self.until_state(consumer, (2, 0, 3))
        (again,) = await self.pull(consumer)
        self.assertEqual((again.metadata.stream_seq, again.metadata.num_delivered), (5, 2))
