"""The page about ``sse`` routes: its example runs with the permissions that it names and no others, and a browser understands it."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.config_convert import convert_section
from pynats_twisted.bridge.config_loader import tomllib
from pynats_twisted.bridge.routes.sse import factory
from pynats_twisted.bridge.service import BridgeService
from tests.integration.sse_case import SSECase

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "howto" / "bridge-sse.rst"


class PageTests(SSECase):
    def blocks(self, language: str) -> list[str]:
        """The blocks of the page in a language."""
        found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", PAGE.read_text("utf-8"), re.MULTILINE)
        return [textwrap.dedent(block) for block in found]

    async def test_example_with_its_permissions(self) -> None:
        """The configuration of the page works with the permissions of the page: live, from the past, and by a consumer."""
        config = f"""
        authorization {{ users = [
            {{ user = owner, password = owner }}
            {{ user = bridge, password = bridge, permissions = {{ {self.blocks("text")[0]} }} }}
        ] }}
        """
        self.server = await self.start_server(config, jetstream=True)
        self.nc = await self.connect(self.server, user="owner", password="owner")
        self.js = self.nc.jetstream()
        await self.make_stream()
        text = self.blocks("toml")[0].replace("nats://127.0.0.1:4222", self.server.url).replace("tcp:8080", "tcp:0")
        text = text.replace("[listen.", 'user = "bridge"\npassword = "bridge"\n[listen.', 1)
        self.bridge = BridgeService(self.reactor, load_config(text, "bridge.toml", [factory]), [factory])
        self.bridge.startService()
        self.addCleanup(self.bridge.stopService)
        await self.until(lambda: not self.bridge.problems())
        listener = await self.listen("/live/lobby")
        await self.publish(b"hello", b"again", subject="chat.lobby.ann")
        await self.got(listener, "hello", "again")
        await self.publish(*[b"more"] * 1200, subject="chat.lobby.ann")
        back = await self.listen("/live/lobby", last_id=listener.events[0].id)
        await self.until(lambda: len(back.data) == 1201)
        stats = self.bridge.connections["default"].client.stats
        self.assertEqual((stats.server_errors, self.route._activity.errors), (0, []))
        await self.bridge.stopService()
        self.assertEqual(stats.server_errors, 0)
        self.assertEqual((await (await self.js.stream("CHAT")).info()).state.consumer_count, 0)

    def test_auth_examples(self) -> None:
        """What the page shows of auth is accepted."""
        for block in self.blocks("toml")[1:]:
            table: dict[str, Any] = tomllib.loads(block)
            problems: list[Any] = []
            keys = {"type": "sse", "listen": "public", "path": "/live/{room}", "stream": "CHAT", **table}
            convert_section(keys, factory.config_type, (), problems)
            self.assertEqual(problems, [], block)
