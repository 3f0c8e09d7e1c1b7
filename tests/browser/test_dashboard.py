"""The dashboard as a person sees it: a bridge with a real server and real traffic, in a headless Chromium."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.web.client import Agent, readBody

from pynats_twisted import Msg, NatsClient
from pynats_twisted.bridge.config import read_config
from pynats_twisted.bridge.reloader import Reloader
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.jetstream.api import StreamConfig
from pynats_twisted.testing import ServerProcess
from tests.support.chromium import PROGRAMS, VARIABLE, Chromium, Page, find_chromium
from tests.support.integration import IntegrationTestCase
from tests.support.webhook_target import OK, Received, Target, answer

TOKEN = "t0ken-of-the-admin"

CONFIG = """
[bridge]
name = "edge-1"
drain_timeout = "5s"
[admin]
listen = "tcp:{admin}:interface=127.0.0.1"
token = "{token}"
[nats.default]
servers = "{nats}"
[listen.public]
endpoint = "tcp:0:interface=127.0.0.1"
[routes.orders-api]
type = "http-request"
listen = "public"
path = "/orders/{{id}}"
subject = "orders.get.{{id}}"
[routes.crm]
type = "webhook"
stream = "ORDERS"
consumer = "crm"
url = "{target}"
allow_private = true
retry = {{ schedule = ["50ms"], max_attempts = 2, jitter = 0 }}
"""

# The contrast of each text with what is behind it, as WCAG 2 defines it; the worst of them.
CONTRAST = """(() => {
  const parse = (color) => { const all = color.match(/[\\d.]+/g).map(Number); return {rgb: all.slice(0, 3), alpha: all[3] ?? 1}; };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((value) => value <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const found = parse(getComputedStyle(one).backgroundColor);
      if (found.alpha === 1) return found.rgb;
    }
    return [255, 255, 255];
  };
  let worst = [99, ""];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    if (!text || !element.checkVisibility() || element.closest(".hidden-text, noscript")) continue;
    const [one, other] = [light(parse(getComputedStyle(element).color).rgb), light(behind(element))];
    const contrast = (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
    if (contrast < worst[0]) worst = [contrast, text];
  }
  return worst;
})()"""


class DashboardTests(IntegrationTestCase):
    """The page."""

    server: ServerProcess
    nc: NatsClient
    bridge: BridgeService
    page: Page

    def setUp(self) -> None:
        super().setUp()
        program = find_chromium()
        if program is None:
            raise SkipTest(f"no Chromium: none of {', '.join(PROGRAMS)} is on PATH, and {VARIABLE} names none")
        self.chromium = Chromium(self.reactor, program).start()
        self.addCleanup(self.chromium.close)
        self.refusing = False
        self.target = Target(self.reactor, self.answers).listen()
        self.addCleanup(self.target.close)
        self.file = Path(self.mktemp()).resolve()
        self.admin_port = 0

    def answers(self, request: Received) -> bytes:
        return answer(422) if self.refusing else OK

    async def begin(self, **view: Any) -> None:
        """A server, a bridge, and the page."""
        self.server = await self.start_server(jetstream=True)
        self.nc = await self.connect(self.server)
        js = self.nc.jetstream()
        await js.create_stream(StreamConfig(name="ORDERS", subjects=["orders.new"]))
        await js.create_stream(StreamConfig(name="DLQ", subjects=["dlq.>"]))

        async def reply(msg: Msg) -> None:
            await msg.respond(b"order")

        await self.nc.subscribe("orders.get.*", reply)
        self.write()
        await self.start_bridge()
        self.page = await self.chromium.page(self.url, **view)
        await self.page.until("document.querySelectorAll('[data-route]').length === 2", "the routes")

    def write(self, more: str = "") -> None:
        text = CONFIG.format(admin=self.admin_port, token=TOKEN, nats=self.server.url, target=self.target.url)
        self.file.write_text(text + more, "utf-8")

    async def start_bridge(self) -> None:
        self.bridge = bridge = BridgeService(self.reactor, read_config(str(self.file)))
        bridge.reloader = Reloader(bridge, str(self.file))
        bridge.startService()
        self.addCleanup(bridge.stopService)
        await self.until(lambda: not bridge.problems(), what="the bridge to be ready")
        admin: Any = bridge.admin
        self.admin_port = admin.port.getHost().port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}/"

    async def get(self, order: int) -> int:
        """The status of a request to the route orders-api."""
        port: Any = self.bridge.listeners["public"].port
        response = await Agent(self.reactor).request(b"GET", b"http://127.0.0.1:%d/orders/%d" % (port.getHost().port, order))
        await readBody(response)
        return int(response.code)

    async def publish(self, count: int = 1) -> None:
        js = self.nc.jetstream()
        for number in range(count):
            await js.publish("orders.new", b'{"order": %d, "name": "Zo\xc3\xab"}' % number, headers={"X-Api-Key": "s3cret", "Kind": "new"})

    async def unlock(self) -> None:
        """Type the token into the dialog."""
        await self.page.until("document.querySelector('#token-dialog').open", "the dialog")
        await self.page.type("#token-input", TOKEN)
        await self.page.press_enter()
        await self.page.until("!document.querySelector('#token-dialog').open", "the end of the dialog")

    async def shows(self, selector: str, text: str) -> None:
        """Wait until an element that can be seen has a text."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        shown = f"{found}.some((one) => one.checkVisibility() && one.innerText.includes({json.dumps(text)}))"
        await self.page.until(shown, f"{selector}: {text}")

    def assert_no_script_errors(self) -> None:
        self.assertEqual(self.chromium.errors, [])

    async def test_routes_and_numbers(self) -> None:
        """Every route is there with its type, its ends and its guarantee; its numbers and its line move with the traffic."""
        await self.begin()
        await self.shows("#bridge-name", "edge-1")
        await self.shows("#status", "Ready")
        await self.shows("#connections", "nats.default")
        await self.shows("[data-route=orders-api]", "http-request")
        await self.shows("[data-route=orders-api] .flow", "orders.get.")
        await self.shows("[data-route=crm] .flow", "ORDERS")
        await self.shows("[data-route=crm] .guarantee", "At least once")
        await self.shows("[data-route=crm] .state", "breaker closed")
        # The page shows the last seconds: traffic goes on while it is looked at.
        traffic = LoopingCall(lambda: Deferred.fromCoroutine(self.get(1)))
        over = traffic.start(0.05)
        await self.page.until("parseFloat(document.querySelector('[data-route=orders-api] .rate').innerText) > 0", "a rate")
        await self.page.until("document.querySelector('[data-route=orders-api] .line').getAttribute('d').split('L').length > 2", "a line")
        await self.shows("[data-route=orders-api] .latency", "ms")
        traffic.stop()
        await over
        self.assert_no_script_errors()

    async def test_pause_and_resume(self) -> None:
        """A route is paused and resumed by its button, once the token was given; a wrong token is refused."""
        await self.begin()
        await self.page.click("[data-route=orders-api] .actions button", "Pause")
        await self.page.until("document.querySelector('#token-dialog').open", "the dialog")
        await self.page.type("#token-input", "wrong")
        await self.page.press_enter()
        await self.shows("#token-problem", "not the one")
        self.assertEqual(await self.get(1), 200)
        await self.page.run("document.querySelector('#token-input').value = ''")
        await self.unlock()
        await self.shows("[data-route=orders-api] .state", "paused")
        self.assertEqual(await self.get(1), 503)
        await self.shows("#banners", "orders-api: paused by request")
        await self.page.click("[data-route=orders-api] .actions button", "Resume")
        await self.shows("[data-route=orders-api] .state", "running")
        self.assertEqual(await self.get(1), 200)
        await self.page.click("[data-route=crm] .actions button", "Pause")
        await self.shows("[data-route=crm] .state", "paused")
        self.assertEqual(self.bridge.switches.state("crm"), "paused")
        self.assert_no_script_errors()

    async def test_dead_letters(self) -> None:
        """A dead letter is seen, with its contents once the token was given, and replayed to the target that takes it now."""
        await self.begin()
        self.refusing = True
        await self.publish(2)
        await self.shows("[data-route=crm] .state", "2 dead letters")
        await self.page.click("[data-route=crm] button.name")
        await self.page.click("[data-tab=dead]")
        await self.shows(".tab-dead", "2 given up. Their contents are shown to those who have the token.")
        self.assertNotIn("Zoë", await self.page.text(".tab-dead"))
        await self.page.click(".tab-dead button", "Unlock")
        await self.unlock()
        await self.shows(".tab-dead", '"name": "Zoë"')
        await self.shows(".tab-dead", "422")
        self.assertNotIn("s3cret", await self.page.run("document.body.textContent"))
        self.refusing = False
        before = len(self.target.received)
        await self.page.click(".tab-dead [data-seq='1'] button", "Replay")
        await self.shows(".tab-dead", "1 given up")
        self.assertEqual(len(self.target.received), before + 1)
        await self.page.click(".tab-dead button", "Delete all")
        await self.page.click(".tab-dead button", "Really?")
        await self.shows(".tab-dead", "No dead letters.")
        self.assertEqual(len(self.target.received), before + 1)
        await self.page.click("[data-tab=errors]")
        await self.shows(".tab-errors", "422")
        self.assert_no_script_errors()

    async def test_tap(self) -> None:
        """The live tap shows messages as they happen; leaving it ends it."""
        await self.begin()
        await self.page.open(f"{self.url}#route=crm&token={TOKEN}")
        await self.page.click("[data-tab=tap]")
        await self.shows(".tab-tap", "At most 20 hops a second")
        self.assertNotIn(TOKEN, await self.page.run("location.href"))
        await self.publish()
        await self.shows(".tab-tap .hop", '"name": "Zoë"')
        await self.shows(".tab-tap .hop", "orders.new")
        activity = self.bridge.context.activity("crm")
        self.assertTrue(activity.watched)
        await self.page.click("[data-tab=overview]")
        await self.until(lambda: not activity.watched, what="the end of the tap")
        self.assert_no_script_errors()

    async def test_drawer(self) -> None:
        """The drawer tells the guarantee, the configuration and commands to try; the commands can be copied."""
        await self.begin()
        await self.page.click("[data-route=orders-api] button.name")
        command = await self.page.until("document.querySelector('.drawer .command code')?.innerText")
        self.assertIn("/orders/", command)
        await self.page.click(".drawer .command button")
        await self.shows(".drawer .command button", "Copied")
        await self.page.click("[data-tab=config]")
        await self.shows(".tab-config", 'path = "/orders/{id}"')
        await self.page.click(".drawer .close")
        await self.page.until("document.querySelector('#drawer').hidden")
        self.assert_no_script_errors()

    async def test_configuration_differs(self) -> None:
        """A banner tells that the file differs from what runs; its button takes the file over, and the new route appears."""
        await self.begin()
        self.write('[routes.more]\ntype = "http-request"\nlisten = "public"\npath = "/more"\nsubject = "more"\n')
        await self.shows("#banners", "added: more")
        await self.page.click("#banners button", "Reload")
        await self.unlock()
        await self.shows("[data-route=more]", "http-request")
        await self.page.until("!document.querySelector('#banners').innerText.includes('differs')", "the end of the banner")
        self.write("[routes.more]\n")
        await self.shows("#banners", "cannot be used")
        self.assert_no_script_errors()

    async def test_broken_connections(self) -> None:
        """A NATS server that is gone is shown, and so is a bridge that is gone; when they are back, the page is well by itself."""
        await self.begin()
        await self.server.kill()
        await self.shows("#status", "Not ready")
        await self.shows("#connections", "reconnecting")
        await self.shows("[data-route=crm] .state", "nats.default is reconnecting")
        await self.server.start()
        await self.shows("#status", "Ready")

        await self.bridge.stopService()
        await self.shows("#status", "No connection")
        await self.shows("#banners", "No connection to the bridge")
        self.write()
        await self.start_bridge()
        await self.shows("#status", "Ready")
        await self.page.until("!document.querySelector('#banners').innerText.includes('No connection')")
        self.assert_no_script_errors()

    async def test_phone_and_dark(self) -> None:
        """On a phone nothing is wider than the screen; in the light and in the dark every text can be read (WCAG AA)."""
        await self.begin(width=360, height=740, mobile=True)
        self.refusing = True
        await self.publish(1)
        await self.shows("[data-route=crm] .state", "1 dead letter")
        for dark in (False, True):
            for width, mobile in ((360, True), (1280, False)):
                await self.page.view(width=width, height=740, mobile=mobile, dark=dark)
                for tab in ("", "overview", "dead", "config"):
                    if tab:
                        await self.page.open(f"{self.url}#route=crm")
                        await self.page.click(f"[data-tab={tab}]")
                    wide = await self.page.run("document.scrollingElement.scrollWidth - innerWidth")
                    self.assertLessEqual(wide, 0, f"width {width}, {tab or 'the table'}")
                    contrast, text = await self.page.run(CONTRAST)
                    self.assertGreaterEqual(contrast, 4.5, f"{text!r}, dark: {dark}, {tab or 'the table'}")
                await self.page.click(".close")
        background = await self.page.run("getComputedStyle(document.body).backgroundColor")
        self.assertEqual(background, "rgb(15, 20, 26)")
        self.assert_no_script_errors()

    async def test_nothing_from_outside(self) -> None:
        """The page loads nothing from anywhere but the bridge."""
        await self.begin()
        loaded = await self.page.run("performance.getEntriesByType('resource').map((one) => one.name)")
        self.assertGreater(len(loaded), 5)
        self.assertEqual([name for name in loaded if not name.startswith((self.url, "data:"))], [])
        self.assert_no_script_errors()
