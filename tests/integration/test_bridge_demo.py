"""``twist nats-bridge --demo`` as a user runs it: a process, the commands that it prints, and its end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest

import pynats_twisted
from tests.support.integration import IntegrationTestCase

ROOT = Path(pynats_twisted.__file__).resolve().parents[1]

TYPES = {"http-request", "http-publish", "lines-in", "syslog", "sse", "webhook"}

# What `nc [-u] -w SECONDS HOST PORT` does, for machines that have none: it ends when nothing came for that long.
NC = """\
#!{python}
import socket, sys
*options, seconds, host, port = sys.argv[1:]
assert options in (["-w"], ["-u", "-w"]), sys.argv
with socket.socket(type=socket.SOCK_DGRAM if "-u" in options else socket.SOCK_STREAM) as connection:
    connection.connect((host, int(port)))
    connection.sendall(sys.stdin.buffer.read())
    connection.settimeout(float(seconds))
    try:
        while data := connection.recv(65536):
            sys.stdout.buffer.write(data)
    except TimeoutError:
        pass
"""


class Shown(NamedTuple):
    """A command of the demo's text, with the answer below it."""

    command: str
    answer: str

    def allows(self, answer: str) -> bool:
        """Whether that is the answer; ``…`` stands for anything."""
        return re.fullmatch(".*".join(map(re.escape, self.answer.split("…"))), answer, re.DOTALL) is not None


def shown_in(text: str) -> list[Shown]:
    """The commands that the demo printed: a line with ``$``, and below it the answer up to the next empty line."""
    found: list[Shown] = []
    for block in text.split("\n\n"):
        lines = [line.removeprefix("  ") for line in block.splitlines()]
        starts = [index for index, line in enumerate(lines) if line.startswith("$ ")]
        if starts:
            found.append(Shown(lines[starts[0]][2:], "\n".join(lines[starts[0] + 1 :])))
    return found


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    found: list[int] = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            stat = (directory / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append(int(directory.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Demo(ProcessProtocol):
    """A running demo."""

    def __init__(self) -> None:
        self.output = b""
        self.errors = b""
        self.ended: Deferred[Any] = Deferred()
        self.over = False

    def outReceived(self, data: bytes) -> None:
        self.output += data

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Failure) -> None:
        self.over = True
        self.ended.callback(reason.value)

    @property
    def text(self) -> str:
        return self.output.decode()

    @property
    def pid(self) -> int:
        transport: Any = self.transport
        return int(transport.pid)

    def signal(self, number: int) -> None:
        transport: Any = self.transport
        transport.signalProcess(number)


class DemoTests(IntegrationTestCase):
    """The demo."""

    async def start(self, *command: str, **environment: str) -> Demo:
        """A demo; without a command, by ``twist``."""
        self.temporary = tempfile.mkdtemp(dir=os.getcwd())
        arguments = [sys.executable, *(command or ("-m", "twisted", "nats-bridge", "--demo"))]
        environment = {**os.environ, "TMPDIR": self.temporary, "PYTHONPATH": str(ROOT), **environment}
        demo = Demo()
        self.reactor.spawnProcess(demo, arguments[0], arguments, env=environment, path=str(ROOT))
        self.addCleanup(self.end, demo)
        return demo

    async def end(self, demo: Demo) -> None:
        if not demo.over:
            demo.signal(signal.SIGKILL)
            await demo.ended

    async def running(self, demo: Demo) -> list[Shown]:
        """Wait until the demo has printed its commands; they are returned."""
        await self.until(lambda: demo.over or b"}\n\n" in demo.output.partition(b"/readyz\n")[2], what="the demo's text")
        self.assertFalse(demo.over, demo.errors.decode() + demo.text)
        return shown_in(demo.text)

    async def shell(self, command: str) -> str:
        """What a command prints."""
        path = os.environ["PATH"]
        if shutil.which("nc") is None:
            directory = Path(tempfile.mkdtemp(dir=os.getcwd()))
            (directory / "nc").write_text(NC.format(python=sys.executable))
            (directory / "nc").chmod(0o755)
            path = f"{directory}:{path}"
        output, errors, _ = await getProcessOutputAndValue(
            "/bin/sh", ["-c", command], env={**os.environ, "PATH": path}, reactor=self.reactor
        )
        return (output + errors).decode()

    async def test_printed_commands(self) -> None:
        """Each printed command gives the printed answer; the traffic is shown; SIGTERM ends everything within the drain time."""
        demo = await self.start()
        commands = await self.running(demo)
        self.assertEqual(len(commands), 8)
        for shown in commands:
            answer = (await self.shell(shown.command)).rstrip("\n")
            self.assertTrue(shown.allows(answer), f"{shown.command}\n{answer}")
        await self.until(lambda: '"two"' in demo.text and '"hello"' in demo.text, what="the traffic in the log")
        children = children_of(demo.pid)
        self.assertEqual(len(children), 1, "one nats-server")
        begun = self.reactor.seconds()
        demo.signal(signal.SIGTERM)
        end = await demo.ended
        self.assertLess(self.reactor.seconds() - begun, 10.0)
        self.assertEqual(end.signal, signal.SIGTERM, "twist ends by the signal that it got")
        self.assertFalse(is_alive(children[0]))
        self.assertEqual(os.listdir(self.temporary), [])
        self.assertNotIn("Traceback", demo.text + demo.errors.decode())

    async def test_everything_is_on_the_dashboard(self) -> None:
        """Two seconds after the server is up the dashboard shows a route of each type, each with traffic."""
        for _ in range(3):
            demo = await self.start()
            await self.running(demo)
            seen_after = await self.time_until_seen(demo)
            await self.end(demo)
            # A busy machine may take longer for once.
            if seen_after < 2.0:
                return
        self.fail(f"after {seen_after} s only")

    async def time_until_seen(self, demo: Demo) -> float:
        (page,) = re.findall(r"Dashboard +(http://127\.0\.0\.1:[0-9]+/)#token=", demo.text)
        self.assertIn("<title>", await self.shell(f"curl -s {page}"))
        deadline = time.time() + 30
        seen: set[str] = set()
        while seen != TYPES:
            self.assertLess(time.time(), deadline, f"only {seen}")
            events = await self.shell(f"curl -sN -m 0.3 {page}events")
            data = {kind: json.loads(text) for kind, text in re.findall(r"event: (\w+)\ndata: (.*)\n", events)}
            if "bridge" in data and "numbers" in data:
                numbers = data["numbers"]["routes"]
                seen = {route["type"] for route in data["bridge"]["routes"] if numbers[route["name"]]["in"] > 0 and route["ready"]}
        seen_at = time.time()
        (ready,) = [line for line in demo.text.splitlines() if "nats-server is ready" in line]
        return seen_at - float(json.loads(ready)["log_time"])

    async def test_failures_are_seen(self) -> None:
        """The target of the webhooks fails on purpose: retries, dead letters, and a breaker that opens and closes again."""
        demo = await self.start()
        await self.running(demo)
        (page,) = re.findall(r"Dashboard +(http://127\.0\.0\.1:[0-9]+/)#token=", demo.text)
        wanted = ["retries", "dead", "open", "closed"]
        deadline = self.reactor.seconds() + 60
        while wanted:
            self.assertLess(self.reactor.seconds(), deadline, wanted)
            route = json.loads(await self.shell(f"curl -s {page}routes/notify"))
            state = [name for name in ("retries", "dead") if route["numbers"].get(name)] + [route["words"]["breaker"]]
            wanted = [name for name in wanted if name not in state or (name == "closed" and "open" in wanted)]
            await self.sleep(0.1)

    async def test_console_script(self) -> None:
        """``nats-bridge --demo`` does the same, also a second time beside the first, on other ports. Ctrl-C ends it in good order."""
        # Each in a process group of its own, as a shell with a terminal would start it.
        script = ("-c", "import os; os.setpgid(0, 0); from pynats_twisted.bridge.tap import main; main()", "--demo")
        first = await self.start(*script)
        first_commands = await self.running(first)
        second = await self.start(*script)
        second_commands = await self.running(second)
        self.assertNotEqual(first_commands, second_commands)
        for shown in (first_commands[0], second_commands[0]):
            self.assertEqual((await self.shell(shown.command)).rstrip("\n"), shown.answer)
        for demo in (first, second):
            # A terminal sends it to all processes of the group.
            os.killpg(demo.pid, signal.SIGINT)
            end = await demo.ended
            self.assertNotIn("nats-server {reason}", demo.text, "the server ended before the bridge had drained")
            self.assertNotIn("Traceback", demo.text + demo.errors.decode())
            self.assertEqual((end.exitCode, end.signal), (0, None))

    async def test_killed(self) -> None:
        """A demo that is killed leaves no nats-server behind."""
        if sys.platform != "linux":
            raise SkipTest("only Linux ends a process with its parent")
        demo = await self.start()
        await self.running(demo)
        (server,) = children_of(demo.pid)
        demo.signal(signal.SIGKILL)
        await demo.ended
        await self.until(lambda: not is_alive(server), what="the end of the server")

    async def test_server_dies(self) -> None:
        """When its nats-server dies, the demo starts another one, and its commands work again."""
        demo = await self.start()
        commands = await self.running(demo)
        (server,) = children_of(demo.pid)
        os.kill(server, signal.SIGKILL)
        await self.until(lambda: children_of(demo.pid) not in ([], [server]), what="another server")
        deadline = self.reactor.seconds() + 10
        while (answer := (await self.shell(commands[0].command)).rstrip("\n")) != commands[0].answer:
            self.assertLess(self.reactor.seconds(), deadline, answer)
            await self.sleep(0.1)

    async def test_no_server_program(self) -> None:
        """Without nats-server the demo says which extra brings it."""
        fake = Path(tempfile.mkdtemp(dir=os.getcwd()))
        code = [
            "import sys, sysconfig",
            f"sys.executable = '{fake}/python'",
            f"sysconfig.get_path = lambda name: '{fake}'",
            "from pynats_twisted.bridge.tap import main",
            "sys.argv[1:] = ['--demo']",
            "main()",
        ]
        demo = await self.start("-c", "; ".join(code), PATH=str(fake))
        end = await demo.ended
        self.assertEqual(end.exitCode, 1)
        self.assertIn('pip install "pynats-twisted[server]"', demo.errors.decode())
        self.assertNotIn("Traceback", demo.errors.decode())
