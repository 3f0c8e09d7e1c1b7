"""Server-sent events as a browser takes them: the ``EventSource`` of a headless Chromium, with a real bridge and a real server."""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.testing.ports import PortReservation
from tests.integration.sse_case import SSECase
from tests.support.chromium import PROGRAMS, VARIABLE, Chromium, Page, find_chromium

LISTEN = """
window.seen = []; window.resets = []; window.opened = 0;
window.source = new EventSource("/live/a");
source.onopen = () => { opened += 1; };
source.onmessage = (event) => seen.push(event.data);
source.addEventListener("reset", (event) => resets.push(JSON.parse(event.data)));
"""


class EventSourceTests(SSECase):
    async def start_browser(self, keys: str = 'retry = "100ms"') -> Page:
        program = find_chromium()
        if program is None:
            raise SkipTest(f"no Chromium: none of {', '.join(PROGRAMS)} is on PATH, and {VARIABLE} names none")
        await self.start_stream()
        reservation = PortReservation()
        self.addCleanup(reservation.release)
        self.number = reservation.port
        self.endpoint = f"tcp:{self.number}:interface=127.0.0.1"
        await self.start_again(keys)
        chromium = Chromium(self.reactor, program).start()
        self.addCleanup(chromium.close)
        # Any page of the same origin does, also one that is not there.
        return await chromium.page(f"http://127.0.0.1:{self.number}/")

    async def start_again(self, keys: str = 'retry = "100ms"') -> None:
        """A bridge on the port of the one before."""
        factories = builtin_factories()
        self.bridge = BridgeService(self.reactor, load_config(self.text(keys), "bridge.toml", factories), factories)
        self.bridge.startService()
        self.addCleanup(self.bridge.stopService)
        await self.until(lambda: not self.bridge.problems())

    async def seen(self, page: Page, *expected: str) -> None:
        await page.until(f"seen.length >= {len(expected)}")
        found: Any = await page.run("seen")
        self.assertEqual(found, list(expected))

    async def test_messages(self) -> None:
        """A page gets payloads as they were, empty ones too, and no event from heartbeats and ids."""
        page = await self.start_browser('heartbeat = "100ms"')
        await page.run(LISTEN)
        await page.until("opened")
        await self.until(self.joined)
        await self.publish("grüß\ndich\n".encode(), b"", b'{"a": 1}')
        await self.seen(page, "grüß\ndich\n", "", '{"a": 1}')
        await self.sleep(0.3)
        self.assertEqual(len(await page.run("seen")), 3)

    async def test_bridge_restarts(self) -> None:
        """When the bridge is restarted, the browser comes back by itself and goes on where it was."""
        page = await self.start_browser()
        await page.run(LISTEN)
        await page.until("opened")
        await self.until(self.joined)
        expected: list[str] = []
        for restart in range(3):
            await self.publish(b"%d" % restart)
            expected.append(str(restart))
            await self.seen(page, *expected)
            await self.bridge.stopService()
            await self.publish(b"missed %d" % restart)
            expected.append(f"missed {restart}")
            await self.start_again()
            await self.seen(page, *expected)
        self.assertEqual(await page.run("[opened, resets.length]"), [4, 0])

    async def test_reset(self) -> None:
        """What is lost is an event of its own; then messages come on."""
        page = await self.start_browser()
        await page.run(LISTEN)
        await page.until("opened")
        await self.until(self.joined)
        await self.publish(b"1")
        await self.seen(page, "1")
        await self.bridge.stopService()
        await self.publish(b"2", b"3")
        await (await self.js.stream("CHAT")).purge()
        await self.start_again()
        await page.until("resets.length")
        await self.publish(b"4")
        await self.seen(page, "1", "4")
        self.assertEqual(len(await page.run("resets")), 1)

    async def test_cookie(self) -> None:
        """A page with a session listens, and one without is refused for good."""
        page = await self.start_browser('auth = { bearer = "secret", cookie = "session" }')
        await page.run(LISTEN)
        await page.until("source.readyState === EventSource.CLOSED")
        await page.run("document.cookie = 'session=secret'")
        await page.run(LISTEN)
        await page.until("opened")
        await self.until(self.joined)
        await self.publish(b"1")
        await self.seen(page, "1")
