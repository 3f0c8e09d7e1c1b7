"""An ``sse`` route whose bridge is stopped or killed again and again, in processes of their own, while clients listen."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from pynats_twisted.testing.ports import PortReservation
from tests.integration.sse_case import Listener, SSECase

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, "-c", "from pynats_twisted.bridge.tap import main; main()", "--config"]
RESTARTS = 20
CLIENTS = 5


class BridgeProcess(ProcessProtocol):
    """A bridge as a process of its own."""

    transport: Any

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[None] = Deferred()
        self.is_alive = True

    def errReceived(self, data: bytes) -> None:
        self.output = (self.output + data)[-4096:]

    outReceived = errReceived

    def processEnded(self, reason: Failure) -> None:
        self.is_alive = False
        self.ended.callback(None)

    async def end(self, signal: str = "KILL") -> None:
        """Send a signal, and wait for the end."""
        if self.is_alive:
            self.transport.signalProcess(signal)
            await self.ended


class Browser:
    """Comes back with the id of its last event each time that it is cut off.

    :ivar data: what came, over all connections.
    """

    def __init__(self, case: RestartTests, target: str) -> None:
        self._case = case
        self._target = target
        self.data: list[str] = []
        self.resets = 0
        self.connections = 0
        self.is_over = False
        self.last_id = ""
        self.listener: Listener | None = None

    async def run(self) -> None:
        while not self.is_over:
            headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
            listener = Listener(self._target, headers)
            try:
                await connectProtocol(HostnameEndpoint(self._case.reactor, "127.0.0.1", self._case.bridge_port), listener)
            except ConnectError:
                await self._case.sleep(0.02)
                continue
            self.connections += 1
            self.listener = listener
            await listener.ended
            self.take()
            self.listener = None

    def take(self) -> None:
        """Count what the connection of now has brought."""
        listener = self.listener
        if listener is not None:
            self.data += [event.data for event in listener.events if event.name == "message"]
            self.resets += len(listener.named("reset"))
            listener.events.clear()
            self.last_id = listener.last_id

    def end(self) -> None:
        self.is_over = True
        if self.listener is not None:
            self.listener.close()


class RestartTests(SSECase):
    bridge_port = 0

    async def start_process(self, config: Path) -> BridgeProcess:
        process = BridgeProcess()
        self.addCleanup(process.end)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.reactor.spawnProcess(process, sys.executable, [*COMMAND, str(config)], environment)
        return process

    async def test_no_gap_and_no_duplicate(self) -> None:
        """Twenty restarts under load, half of them kills: every client gets each message once and in order."""
        await self.start_stream()
        reservation = PortReservation()
        self.addCleanup(reservation.release)
        self.bridge_port = reservation.port
        config = Path(self.mktemp()).resolve()
        self.endpoint = f"tcp:{self.bridge_port}:interface=127.0.0.1"
        config.write_text(self.text(), "utf-8")
        published = 0
        is_over = False

        async def publish() -> None:
            nonlocal published
            while not is_over:
                await self.js.publish("chat.a.x", str(published + 1).encode())
                published += 1
                await self.sleep(0.002)

        browsers = [Browser(self, "/live/a") for _ in range(CLIENTS)]
        process = await self.start_process(config)
        running = [Deferred.fromCoroutine(browser.run()) for browser in browsers]
        await self.until(lambda: all(browser.listener and browser.listener.last_id for browser in browsers), what="the first bridge")
        publishing = Deferred.fromCoroutine(publish())
        for restart in range(RESTARTS):
            await self.until(lambda: all(browser.listener and browser.listener.data for browser in browsers), what="messages")
            await self.sleep(0.05)
            await process.end("KILL" if restart % 2 else "TERM")
            process = await self.start_process(config)
        is_over = True
        await publishing

        def count() -> int:
            for browser in browsers:
                browser.take()
            return min(len(browser.data) for browser in browsers)

        await self.until(lambda: count() >= published, what="everything to arrive")
        await self.sleep(0.2)
        count()
        for browser in browsers:
            browser.end()
        for each in running:
            await each
        for browser in browsers:
            self.assertEqual(browser.data, [str(number) for number in range(1, published + 1)])
            self.assertEqual(browser.resets, 0)
            self.assertGreaterEqual(browser.connections, RESTARTS)
        self.log.info("{published} messages over {restarts} restarts", published=published, restarts=RESTARTS)
