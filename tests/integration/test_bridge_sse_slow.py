"""Clients of ``sse`` routes that do not read what they are sent: what becomes of them, and that others do not notice."""

from __future__ import annotations

import socket
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS

from pynats_twisted.bridge import http_channel
from pynats_twisted.testing.certificates import CertificateAuthority
from tests.integration.sse_case import Listener, SSECase

CORE = """
[routes.live]
type = "sse"
listen = "public"
path = "/live/{room}"
subject = "live.{room}.>"
"""

SLOW = 2000


class SlowTests(SSECase):
    def setUp(self) -> None:
        super().setUp()
        # What the operating system keeps, so that it takes less to see a client as slow.
        patched = patch.object(http_channel, "SEND_BUFFER", 8 * 1024)
        patched.start()
        self.addCleanup(patched.stop)

    async def deaf(self) -> Listener:
        """A client that reads nothing from now on."""
        listener = await self.listen(receive_buffer=4096)
        listener.transport.pauseProducing()
        return listener

    async def fill(self, first: int, last: int) -> None:
        """Messages of a kilobyte each, which begin with a number."""
        for start in range(first, last + 1, 100):
            payloads = [str(number).encode().ljust(1000, b".") for number in range(start, min(start + 100, last + 1))]
            await gatherResults([self.js.publish_async("chat.a.x", payload) for payload in payloads])

    @staticmethod
    def numbers(listener: Listener) -> list[int]:
        return [int(data.rstrip(".")) for data in listener.data]

    async def test_stream(self) -> None:
        """A client of a stream that does not read is cut off and counted; coming back with its id it has lost nothing."""
        await self.start('buffer = "32KiB"')
        listener = await self.deaf()
        number = 0
        while not self.count("slow_clients_total"):
            await self.fill(number + 1, number + 100)
            number += 100
        self.assertLess(number, 2000)
        await self.until(lambda: self.count("sse_clients") == 0)
        self.assertEqual(self.count("queue_bytes"), 0)
        listener.transport.resumeProducing()
        await listener.ended
        seen = self.numbers(listener)
        again = await self.listen(last_id=listener.last_id)
        await self.until(lambda: len(seen) + len(again.data) >= number)
        self.assertEqual(seen + self.numbers(again), list(range(1, number + 1)))

    async def test_core(self) -> None:
        """A client of a subject that does not read stays, and is told how many messages it has missed, where they are missing."""
        self.server = await self.start_server()
        self.nc = await self.connect(self.server)
        await self.start_bridge('buffer = "32KiB"\nheartbeat = "100ms"', CORE)
        listener = await self.connect_to(receive_buffer=4096)
        await self.until(self.joined)
        listener.transport.pauseProducing()
        number = 0
        while self.count("messages_dropped_total", reason="slow-client") < 100:
            for _ in range(50):
                number += 1
                await self.nc.publish("live.a.x", str(number).encode().ljust(1000, b"."))
            await self.nc.flush()
        await self.until(lambda: self.count("messages_in_total") == number)
        listener.transport.resumeProducing()
        await self.until(lambda: listener.named("dropped"))
        dropped = listener.named("dropped")[0]
        await self.nc.publish("live.a.x", b"%d" % (number + 1))
        await self.until(lambda: listener.data[-1] == str(number + 1))
        before = listener.events.index(dropped)
        self.assertEqual(self.numbers(listener), [*range(1, before + 1), number + 1])
        self.assertEqual(dropped.json, {"count": number - before})
        self.assertEqual(self.count("slow_clients_total"), 1)
        self.assertFalse(listener.closed)

    async def test_during_the_replay(self) -> None:
        """A client that stops to read while it gets what it has missed costs no more than a page; reading again, it gets all of it."""
        await self.start('buffer = "32KiB"')
        await self.fill(1, 700)
        epoch = (await self.listen("/live/nobody")).last_id.partition("-")[0]
        listener = await self.connect_to(last_id=f"{epoch}-0", receive_buffer=4096)
        listener.transport.pauseProducing()
        await self.until(lambda: self.count("queue_bytes") > 0)
        await self.sleep(0.3)
        self.assertLess(self.count("messages_out_total"), 400)
        self.assertLess(self.count("queue_bytes"), 400_000)
        listener.transport.resumeProducing()
        await self.until(lambda: len(listener.data) == 700, what="the rest")
        self.assertEqual(self.numbers(listener), list(range(1, 701)))

    async def test_tls(self) -> None:
        """The same over TLS: what the operating system keeps is bounded, a slow client is cut off, and comes back without a loss."""
        await self.start_stream()
        authority = CertificateAuthority()
        directory = self.mktemp()
        files = authority.issue_server(["localhost"]).write(directory, "server")
        key, certificate = (str(path).replace(":", r"\:") for path in (files.key, files.certificate))
        options = optionsForClientTLS("localhost", Certificate.loadPEM(authority.write(directory).read_bytes()))
        self.endpoint = f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
        await self.start_bridge('buffer = "32KiB"')

        async def listen(last_id: str = "") -> Listener:
            listener = Listener("/live/a", {"Last-Event-ID": last_id} if last_id else None)
            plain = HostnameEndpoint(self.reactor, "127.0.0.1", self.port)
            await connectProtocol(wrapClientTLS(options, plain), listener)
            self.addCleanup(listener.close)
            await self.until(lambda: listener.head and listener.last_id)
            return listener

        listener = await listen()
        channel: Any = next(iter(self.bridge.listeners["public"]._channels))
        kept = channel.transport.transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self.assertLessEqual(kept, 2 * http_channel.SEND_BUFFER)
        listener.transport.pauseProducing()
        number = 0
        while not self.count("slow_clients_total"):
            await self.fill(number + 1, number + 200)
            number += 200
        listener.transport.resumeProducing()
        await listener.ended
        seen = self.numbers(listener)
        again = await listen(listener.last_id)
        await self.until(lambda: len(seen) + len(again.data) >= number)
        self.assertEqual(seen + self.numbers(again), list(range(1, number + 1)))

    async def test_many(self) -> None:
        """Two thousand clients that do not read do not stop one that does; all of them are cut off, and nothing of them is kept."""
        await self.start('buffer = "32KiB"')
        good = await self.listen()
        deaf: list[Listener] = []
        for _ in range(0, SLOW, 100):
            deaf += await gatherResults([self.connect_deaf() for _ in range(100)])
        await self.until(lambda: self.count("sse_clients") == SLOW + 1)
        number = 0
        while self.count("slow_clients_total") < SLOW:
            await self.fill(number + 1, number + 20)
            number += 20
            await self.until(lambda: len(good.data) == number)  # noqa: B023 - it is over before the next turn
        self.assertEqual(self.numbers(good), list(range(1, number + 1)))
        self.assertLess(number, 1000)
        self.assertEqual((self.count("sse_clients"), self.count("queue_bytes")), (1, 0))
        self.log.info("{count} slow clients were cut off within {number} messages", count=SLOW, number=number)

    def connect_deaf(self) -> Deferred[Listener]:
        return Deferred.fromCoroutine(self.deaf())
