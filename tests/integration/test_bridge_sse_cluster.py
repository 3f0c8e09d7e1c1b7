"""An ``sse`` route on a stream of three replicas, of whose servers one after another goes away while clients come and go."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred

from pynats_twisted.errors import NatsError
from pynats_twisted.jetstream.api import StreamConfig
from tests.integration.sse_case import Listener, SSECase


class ClusterTests(SSECase):
    async def test_no_gap_and_no_duplicate(self) -> None:
        """Any of the servers answers for the past, also one that lags, and each goes away once: every client gets each message once."""
        cluster = await self.start_cluster(jetstream=True)
        self.server = cluster.servers[0]
        self.nc = await self.connect(cluster.urls)
        self.js = self.nc.jetstream()
        config = StreamConfig(name="CHAT", subjects=["chat.>"], allow_direct=True, replicas=3)

        async def make() -> None:
            while True:
                try:
                    await self.js.create_stream(config)
                    return
                except NatsError:
                    await self.sleep(0.2)

        await make()
        text = self.text().replace(f'"{self.server.url}"', json.dumps(cluster.urls))
        await self.start_text(text)
        published = 0
        is_over = False

        async def publish() -> None:
            nonlocal published
            while not is_over:
                try:
                    # Sent again with the same id it is stored once.
                    await self.js.publish("chat.a.x", b"%d" % (published + 1), msg_id=str(published + 1), timeout=2.0)
                except NatsError:
                    await self.sleep(0.1)
                    continue
                published += 1

        stayer = await self.listen()
        start = stayer.last_id
        publishing = Deferred.fromCoroutine(publish())
        comers: list[Listener] = []
        for server in cluster.servers:
            await self.until(lambda before=published: published > before + 200, what="messages")  # type: ignore[misc]
            comers.append(await self.listen(last_id=start))
            await server.kill()
            comers.append(await self.listen(last_id=start))
            await self.sleep(0.3)
            comers.append(await self.listen(last_id=start))
            await server.start()
            await self.until(lambda before=published: published > before + 20, what="messages")  # type: ignore[misc]
        is_over = True
        await publishing
        for listener in (stayer, *comers):
            await self.until(lambda one=listener: len(one.data) >= published or one.closed, what="everything")  # type: ignore[misc]
            self.assertEqual((listener.named("reset"), listener.closed), ([], False))
            self.assertEqual(listener.data, [str(number) for number in range(1, published + 1)])
        self.log.info("{published} messages, {count} clients", published=published, count=len(comers) + 1)
