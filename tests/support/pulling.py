"""The base of tests that pull messages by hand, one request at a time, and look at what the server thinks of each."""

from __future__ import annotations

from typing import Any

from pynats_twisted import NatsClient
from pynats_twisted.jetstream.api import ConsumerConfig, NextRequest, StreamConfig, StreamInfo, encode
from pynats_twisted.jetstream.consumer import Consumer
from pynats_twisted.jetstream.consumer_create import ask_for_consumer
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.message import JsMsg
from tests.support.integration import PATIENCE
from tests.support.jetstream import JetStreamTestCase


class PullingTestCase(JetStreamTestCase):
    """A test with a stream ``S`` for ``s.>``.

    :ivar nc: a client of a server of its own; :ivar js: its JetStream.
    """

    nc: NatsClient
    js: JetStreamContext

    async def begin(self, messages: int = 0, *, server_config: str = "", domain: str | None = None, **config: Any) -> None:
        """Make the server, the client and the stream, with messages ``s.1``, ``s.2`` and so on, whose data are their numbers."""
        server = await self.start_server(server_config, jetstream={"domain": domain} if domain else True)
        self.nc = await self.connect(server)
        self.js = self.nc.jetstream(domain=domain)
        await self.js.call(StreamInfo, self.js.prefix.stream_create("S"), self.stream_config(**config))
        for number in range(1, messages + 1):
            await self.nc.request(f"s.{number}", str(number).encode())

    def stream_config(self, **config: Any) -> StreamConfig:
        """The stream ``S``."""
        return StreamConfig(name="S", subjects=["s.>"], **config)

    async def consumer_of(self, **config: Any) -> Consumer:
        """A handle that only manages."""
        return Consumer(self.js, await ask_for_consumer(self.js, "S", ConsumerConfig(**config)))

    async def pull(self, consumer: Consumer, number: int = 1, wait: float = 5.0, group: str = "") -> list[JsMsg]:
        """So many messages; fewer when no more come in the seconds of ``wait``."""
        js = consumer.js
        sub = js.client.subscribe(js.client.new_inbox())
        request = NextRequest(batch=number, expires=wait, group=group)
        await js.client.publish(js.prefix.consumer_next("S", consumer.name), encode(request), sub.subject)
        found: list[JsMsg] = []
        while len(found) < number:
            msg = await sub.next(wait + 5)
            if msg.status is not None:
                break
            found.append(JsMsg(msg, js))
        sub.unsubscribe()
        return found

    async def state(self, consumer: Consumer) -> tuple[int, int, int]:
        """What the server thinks once everything has reached it: how many are not acked, how many of these came again, and the stream
        sequence before which all are done."""
        await self.nc.flush()
        info = await consumer.info()
        return info.num_ack_pending, info.num_redelivered, info.ack_floor.stream_seq

    async def until_state(self, consumer: Consumer, wanted: tuple[int, int, int], timeout: float = PATIENCE) -> None:
        """Acks are handled some time after they came."""
        end = self.reactor.seconds() + timeout
        while True:
            state = await self.state(consumer)
            if state == wanted or self.reactor.seconds() > end:
                break
            await self.sleep(0.01)
        self.assertEqual(state, wanted)
