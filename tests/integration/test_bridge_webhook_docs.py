"""The page about ``webhook`` routes: its example runs as it stands, with the permissions that it names and no others."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.routes.webhook import factory
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.jetstream.api import StreamConfig
from tests.integration.webhook_case import WebhookCase
from tests.support.webhook_target import OK, Received, answer

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "howto" / "bridge-webhook.rst"


class Program(ProcessProtocol):
    """A program that runs beside the test."""

    transport: Any

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[None] = Deferred()
        self.is_alive = True

    def outReceived(self, data: bytes) -> None:
        self.output += data

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self.is_alive = False
        self.ended.callback(None)

    async def kill(self) -> None:
        """End it."""
        if self.is_alive:
            self.transport.signalProcess("KILL")
            await self.ended


class PageTests(WebhookCase):
    def block(self, language: str) -> str:
        """The first block of the page in a language."""
        match = re.search(rf"^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", PAGE.read_text("utf-8"), re.MULTILINE)
        assert match is not None
        return textwrap.dedent(match[1])

    async def start_limited(self) -> None:
        """A server on which the bridge has the permissions of the page."""
        permissions = self.block("text")
        config = f"""
        authorization {{ users = [
            {{ user = owner, password = owner }}
            {{ user = bridge, password = bridge, permissions = {{ {re.sub("#.*", "", permissions)} }} }}
        ] }}
        """
        self.server = await self.start_server(config, jetstream=True)
        self.nc = await self.connect(self.server, user="owner", password="owner")
        self.js = self.nc.jetstream()
        await self.js.create_stream(StreamConfig(name="ORDERS", subjects=["orders.>"]))
        await self.js.create_stream(StreamConfig(name="DLQ", subjects=["dlq.>"]))

    async def start_page(self, port: int) -> BridgeService:
        """The bridge of the page, with other ports."""
        text = self.block("toml").replace("127.0.0.1:8081", f"127.0.0.1:{port}").replace("nats://127.0.0.1:4222", self.server.url)
        text = text.replace("[admin]\n", '[admin]\nlisten = "tcp:0:interface=127.0.0.1"\n')
        text = text.replace("[routes.", 'user = "bridge"\npassword = "bridge"\n[routes.', 1)
        factories = [factory]
        self.bridge = BridgeService(self.reactor, load_config(text, "bridge.toml", factories), factories)
        self.bridge.startService()
        self.addCleanup(self.bridge.stopService)
        await self.until(lambda: not self.bridge.problems(), what="the bridge to be ready")
        return self.bridge

    async def test_example(self) -> None:
        """The target of the page prints what the page says."""
        await self.start_limited()
        # A free port, which the program of the page gets in place of its own.
        port = self.target().number
        await self.targets_down()
        program = Program()
        self.addCleanup(program.kill)
        source = self.block("python").replace("8081", str(port))
        self.reactor.spawnProcess(program, sys.executable, [sys.executable, "-c", source], dict(os.environ))
        await self.start_page(port)
        await self.publish(b"hello", subject="orders.eu.created")
        await self.until(lambda: b"\n" in program.output, what="the target to print")
        self.assertEqual(program.output.decode().strip(), "msg_ORDERS_1 orders.eu.created hello True")
        self.assertIn(program.output.decode().strip(), PAGE.read_text("utf-8"))

    async def targets_down(self) -> None:
        for target in self.targets:
            await target.close()

    async def test_permissions(self) -> None:
        """Dead letters are stored, listed, replayed and deleted with these permissions, and the server denies nothing."""
        await self.start_limited()
        status = [422]

        def respond(request: Received) -> bytes:
            return answer(status[0]) if status[0] != 200 else OK

        target = self.target(respond)
        bridge = await self.start_page(target.number)
        await self.publish(b"one", b"two", b"three", subject="orders.eu.created")
        await self.until(lambda: self.count("dlq_total", "notify-crm") == 3)
        route = self.route("notify-crm")
        letters = await route.dead_letters(10)
        self.assertEqual(len(letters), 3)
        status[0] = 200
        self.assertEqual(await route.replay_dead_letters([letters[0].seq]), 1)
        self.assertEqual(await route.delete_dead_letters([letters[1].seq]), 1)
        self.assertEqual(await route.delete_dead_letters(None), 1)
        # The consumer's state, which is asked for now and then.
        await route._consumer._look(route._consumer._consumer)  # type: ignore[arg-type]
        self.assertEqual(bridge.connections["default"].client.stats.server_errors, 0)
        self.assertEqual(self.server.log_tail().count("Permissions Violation"), 0)

    def test_every_status_is_on_the_page(self) -> None:
        """The table names every answer that is treated in a way of its own."""
        text = PAGE.read_text("utf-8")
        for status in ("2xx", "3xx", "408", "425", "429", "5xx", "410", "401", "403", "404", "4xx"):
            self.assertIn(status, text)
