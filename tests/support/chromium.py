"""A headless Chromium, driven over its DevTools protocol through two pipes.

``python -m tests.support.chromium`` prints the program that would be used, and fails where there is none.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

VARIABLE = "PYNATS_TWISTED_CHROMIUM"
"""The environment variable with the path of the program, where it is not on PATH under one of the usual names."""

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    # A container has no namespaces to give away; the only page that is opened is our own.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--mute-audio",
    "--force-color-profile=srgb",
    # Nothing but this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "about:blank",
)

PATIENCE = 60.0
"""Seconds that anything may take."""


def find_chromium() -> str | None:
    """The program, or None."""
    wanted = os.environ.get(VARIABLE)
    if wanted:
        return shutil.which(wanted)
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class DevToolsError(Exception):
    """Chromium refused a command, or a script on the page has raised."""


class Chromium(ProcessProtocol):
    """The process.

    :param reactor: the reactor.
    :param program: the program.

    :ivar errors: what scripts on pages raised, or logged as errors.
    """

    def __init__(self, reactor: Any, program: str) -> None:
        self._reactor = reactor
        self._program = program
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        self._buffer = b""
        self._log = b""
        self._serial = 0
        self._waiting: dict[int, Deferred[Any]] = {}
        self._ended: Deferred[None] = Deferred()
        self._is_over = False
        self.errors: list[str] = []

    def start(self) -> Chromium:
        """Start it."""
        arguments = [self._program, f"--user-data-dir={self._profile}", *FLAGS]
        pipes = {0: "w", 1: "r", 2: "r", 3: "w", 4: "r"}
        environment = {**os.environ, "HOME": self._profile}
        self._reactor.spawnProcess(self, self._program, arguments, env=environment, childFDs=pipes)
        return self

    async def close(self) -> None:
        """End it."""
        if not self._is_over:
            transport: Any = self.transport
            transport.signalProcess(signal.SIGTERM)
            late = self._reactor.callLater(10, transport.signalProcess, signal.SIGKILL)
            await self._ended
            if late.active():
                late.cancel()
        # Helper processes may write a moment longer.
        shutil.rmtree(self._profile, ignore_errors=True)

    async def page(self, url: str, **view: Any) -> Page:
        """A new page; the keywords are those of :meth:`Page.view`."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        await page.view(**view)
        await page.open(url)
        return page

    def call(self, method: str, session: str = "", **parameters: Any) -> Deferred[Any]:
        """A command of the protocol."""
        self._serial += 1
        message: dict[str, Any] = {"id": self._serial, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        answer: Deferred[Any] = Deferred()
        self._waiting[self._serial] = answer
        transport: Any = self.transport
        transport.writeToChild(3, json.dumps(message).encode() + b"\0")
        return answer.addTimeout(PATIENCE, self._reactor)

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803 - as Twisted names it
        """A piece of the protocol, or of the log."""
        if childFD != 4:
            self._log = (self._log + data)[-16384:]
            return
        *messages, self._buffer = (self._buffer + data).split(b"\0")
        for message in map(json.loads, messages):
            self._received(message)

    def _received(self, message: dict[str, Any]) -> None:
        waiting = self._waiting.pop(message.get("id", 0), None)
        if waiting is not None:
            if "error" in message:
                waiting.errback(DevToolsError(message["error"]["message"]))
            else:
                waiting.callback(message["result"])
        elif message.get("method") == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            entry = message["params"]["entry"]
            # A connection that is refused is what some tests are about; the page deals with it.
            if entry.get("source") != "network":
                self.errors.append(entry["text"])

    def processEnded(self, reason: Failure) -> None:
        """It is over; whoever waits for an answer gets none."""
        self._is_over = True
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            one.errback(DevToolsError(f"Chromium has ended: {reason.value}\n{self._log.decode('utf-8', 'replace')}"))
        self._ended.callback(None)


class Page:
    """One page.

    :param chromium: the process.
    :param session: its session.
    """

    def __init__(self, chromium: Chromium, session: str) -> None:
        self._chromium = chromium
        self._session = session

    def call(self, method: str, **parameters: Any) -> Deferred[Any]:
        """A command of the protocol for this page."""
        return self._chromium.call(method, self._session, **parameters)

    async def view(self, *, width: int = 1280, height: int = 800, dark: bool = False, mobile: bool = False) -> None:
        """How large the window is, and whether it is in the dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if mobile else 1, mobile=mobile
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def open(self, url: str) -> None:
        """Go to an address."""
        await self.call("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of an expression on the page; a promise is waited for.

        :raises DevToolsError: it has raised.
        """
        result = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise DevToolsError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    async def until(self, script: str, what: str = "") -> Any:
        """Wait until an expression is true; its value."""
        deadline = self._chromium._reactor.seconds() + PATIENCE
        while not (value := await self.run(script)):
            if self._chromium._reactor.seconds() > deadline:
                text = await self.run("document.body.innerText")
                raise AssertionError(f"{what or script} did not become true; the page says:\n{text}\nerrors: {self._chromium.errors}")
            await deferLater(self._chromium._reactor, 0.05)
        return value

    async def text(self, selector: str) -> str:
        """The text of an element that is there and shown; empty otherwise."""
        found = await self.run(f"(document.querySelector({json.dumps(selector)}) ?? {{}}).innerText ?? ''")
        return str(found)

    async def click(self, selector: str, text: str = "") -> None:
        """Wait for an element, with this text where one is given, and click on it with the mouse."""
        find = (
            f"[...document.querySelectorAll({json.dumps(selector)})].find((one) => one.checkVisibility() && !one.disabled"
            f" && one.innerText.includes({json.dumps(text)}))"
        )
        await self.until(f"Boolean({find})", what=f"{selector} {text}")
        place = await self.run(
            f"(() => {{ const one = {find}; one.scrollIntoView({{block: 'center'}}); const box = one.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    async def type(self, selector: str, text: str) -> None:
        """Focus a field, and type."""
        await self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.call("Input.insertText", text=text)

    async def press_enter(self) -> None:
        """Press the Enter key."""
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)

    async def screenshot(self, path: str | Path) -> None:
        """Write what is shown as a PNG."""
        shot = await self.call("Page.captureScreenshot", format="png")
        Path(path).write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    found = find_chromium()
    if found is None:
        sys.exit(f"no Chromium: none of {', '.join(PROGRAMS)} is on PATH, and {VARIABLE} names none")
    print(found)
