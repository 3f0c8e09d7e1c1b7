"""The base of tests with pull consumers of real servers, by their handles."""

from __future__ import annotations

from typing import Any

from pynats_twisted import NatsClient
from pynats_twisted.jetstream.api import ConsumerConfig, StreamConfig, StreamInfo
from pynats_twisted.jetstream.consumer_create import ask_for_consumer
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.pull_consumer import PullConsumer
from tests.support.jetstream import JetStreamTestCase


class Seen:
    """A handler that notes the numbers that messages carry, and acks.

    :ivar numbers: the numbers, in the order in which they came. :ivar again: messages that came more than once.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.again = 0

    def __call__(self, msg: JsMsg) -> None:
        self.numbers.append(int(msg.data))
        self.again += msg.metadata.num_delivered > 1
        msg.ack()


class PullConsumerTestCase(JetStreamTestCase):
    """A test with a stream ``S`` for ``s.>``."""

    async def new_stream(self, js: JetStreamContext, **config: Any) -> None:
        await js.call(StreamInfo, js.prefix.stream_create("S"), StreamConfig(name="S", subjects=["s.>"], **config))

    async def fill(self, nc: NatsClient, count: int, start: int = 0) -> None:
        """Store messages whose data are numbers."""
        for number in range(start, start + count):
            nc.publish(f"s.{number % 7}", b"%d" % number)
        await nc.request("s.last", b"%d" % (start + count))

    async def new_consumer(self, js: JetStreamContext, name: str = "C", **config: Any) -> PullConsumer:
        return PullConsumer(js, await ask_for_consumer(js, "S", ConsumerConfig(durable=name, **config)))

    async def begin(self, count: int = 0, **config: Any) -> tuple[NatsClient, PullConsumer]:
        """A client, and a consumer of a stream with ``count`` messages."""
        nc = await self.jetstream()
        js = nc.jetstream()
        await self.new_stream(js)
        if count:
            await self.fill(nc, count - 1)
        return nc, await self.new_consumer(js, **config)

    async def all_acked(self, consumer: PullConsumer, within: float = 10.0) -> None:
        """Wait until the server has everything acked and nothing to deliver."""
        end = self.reactor.seconds() + within
        while True:
            info = await consumer.info()
            if not info.num_pending and not info.num_ack_pending:
                return
            if self.reactor.seconds() > end:
                self.fail(f"{info.num_pending} messages are not delivered and {info.num_ack_pending} not acked after {within} s")
            await self.sleep(0.05)

    async def no_pulls(self, consumer: PullConsumer) -> None:
        """The server has no pull that waits."""
        self.assertEqual((await consumer.info()).num_waiting, 0)
