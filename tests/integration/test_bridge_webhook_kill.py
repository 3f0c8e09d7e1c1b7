"""A bridge with a ``webhook`` route that is killed again and again while it works."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.integration.webhook_case import WebhookCase, quick
from tests.support.webhook_target import OK, Received

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, "-c", "from pynats_twisted.bridge.tap import main; main()", "--config"]
KILLS = 20
SLOTS = 16


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

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.is_alive:
            self.transport.signalProcess("KILL")
            await self.ended


class KillTests(WebhookCase):
    async def start_process(self, config: Path) -> BridgeProcess:
        process = BridgeProcess()
        self.addCleanup(process.kill)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.reactor.spawnProcess(process, sys.executable, [*COMMAND, str(config)], environment)
        return process

    async def test_nothing_is_lost(self) -> None:
        """Twenty kills under load: every message that the stream has taken reaches the target, duplicates are no more than what was in
        flight at the kills, and have the id of the first time.
        """
        await self.start_streams()

        def respond(request: Received) -> bytes:
            # It takes a moment, so that something is in flight at every kill.
            self.reactor.callLater(0.02, lambda: request.connection.transport.write(OK))
            return b""

        target = self.target(respond)
        config = Path(self.mktemp()).resolve()
        keys = f'concurrency = {SLOTS}\nack_wait = "1s"\n{quick(attempts=100)}'
        config.write_text(self.text(crm=(target, keys)), "utf-8")
        published = 0
        is_over = False

        async def produce() -> None:
            nonlocal published
            while not is_over:
                await self.js.publish("orders.new", b"%d" % published)
                published += 1
                # As fast as the bridge follows, and a little ahead.
                while published > len(target.received) + 200 and not is_over:
                    await self.sleep(0.01)

        producing = Deferred.fromCoroutine(produce())
        for _ in range(KILLS):
            process = await self.start_process(config)
            before = len(target.received)
            await self.until(lambda before=before: len(target.received) > before + 2 * SLOTS, what="deliveries")  # type: ignore[misc]
            await self.sleep(0.2)
            await process.kill()
        is_over = True
        await producing
        process = await self.start_process(config)
        await self.until(lambda: len(set(target.bodies)) == published, what="everything to arrive")
        await self.finished()
        ids: dict[bytes, set[str]] = {}
        for request in target.received:
            ids.setdefault(request.body, set()).add(request.id)
        self.assertEqual({len(found) for found in ids.values()}, {1})
        self.assertEqual(len({next(iter(found)) for found in ids.values()}), published)
        extra = sum(Counter(target.bodies).values()) - published
        self.assertGreater(extra, 0, "nothing was in flight at any kill")
        self.assertLessEqual(extra, KILLS * SLOTS)
        self.log.info("{published} messages, {extra} duplicates in {kills} kills", published=published, extra=extra, kills=KILLS)
