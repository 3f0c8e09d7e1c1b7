"""``--demo``: a NATS server, a bridge with one route of each type, something that answers, and commands to try.

Everything listens on loopback, on ports that are free, and nothing is left behind at the end.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.demo_traffic import EchoService, Generator
from pynats_twisted.bridge.embedded import EmbeddedServer, find_nats_server
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.bridge.tap import cut_short_on_second_signal
from pynats_twisted.client.client import connect
from pynats_twisted.errors import MissingDependencyError

if TYPE_CHECKING:
    from pynats_twisted.client.client import NatsClient

#: The ports that the demo takes where they are free: HTTP, lines, admin.
DEFAULT_PORTS: Final = (8080, 9000, 8223)

CONFIG: Final = """\
[bridge]
name = "demo"
drain_timeout = "10s"

[admin]
listen = "tcp:{admin}:interface=127.0.0.1"

[nats.default]
servers = ["{nats}"]

[listen.web]
endpoint = "tcp:{http}:interface=127.0.0.1"

[routes.echo]
type = "http-request"
listen = "web"
path = "/echo/{{name}}"
methods = ["GET", "POST"]
subject = "demo.echo.{{name}}"

[routes.events]
type = "http-publish"
listen = "web"
path = "/events/{{topic}}"
subject = "demo.events.{{topic}}"
confirm = "server"

[routes.lines]
type = "lines-in"
endpoint = "tcp:{lines}:interface=127.0.0.1"
subject = "demo.lines"
confirm = "server"
reply = {{ ok = "OK\\n", error = "ERROR\\n" }}
"""

_log = Logger()


class Trial(NamedTuple):
    """A command to try.

    :ivar purpose: what it shows.
    :ivar command: the command.
    :ivar answer: what it prints.
    """

    purpose: str
    command: str
    answer: str


def make_demo_service(reactor: Any) -> DemoService:
    """The service that ``--demo`` runs.

    :raises SystemExit: there is no ``nats-server``; the message says what to install.
    """
    try:
        program = find_nats_server()
    except MissingDependencyError as error:
        raise SystemExit(f"nats-bridge --demo: {error}") from None
    service = DemoService(reactor, program)
    stoppable: Any = service
    cut_short_on_second_signal(reactor, stoppable)
    return service


def free_port(wanted: int) -> int:
    """``wanted``, if it can be listened on now on loopback; otherwise one that can."""
    for port in (wanted, 0):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = trial.getsockname()[1]
            return found
    raise OSError("no port is free on 127.0.0.1")


def trials(http: int, lines: int, admin: int) -> list[Trial]:
    """Commands that work while the demo runs, with their answers.

    :param http: the port of the HTTP listener.
    :param lines: the port of the ``lines-in`` route.
    :param admin: the port of the admin endpoint.
    """
    ready = '{\n  "status": "ready",\n  "bridge": "demo",\n  "reasons": [],\n  "degraded": []\n}'
    return [
        Trial("An HTTP request is answered over NATS:", f"curl -s -d hello http://127.0.0.1:{http}/echo/world", "world: hello"),
        Trial(
            "An HTTP request is published; the answer comes when the NATS server has it:",
            f"curl -s -d hello http://127.0.0.1:{http}/events/greeting",
            '{"confirm":"server","messages":1}',
        ),
        Trial(
            "Lines over TCP are published; each is answered when the NATS server has it:",
            f"printf 'one\\ntwo\\n' | nc -w 1 127.0.0.1 {lines}",
            "OK\nOK",
        ),
        Trial("Is the bridge ready?", f"curl -s http://127.0.0.1:{admin}/readyz", ready),
    ]


def announcement(url: str, http: int, lines: int, admin: int) -> str:
    """What the demo prints when it runs: addresses, and commands with their answers."""
    text = [
        "",
        "The demo is running. It ends with Ctrl-C.",
        "",
        f"  NATS server    {url}",
        f"  HTTP routes    http://127.0.0.1:{http}/echo/NAME and http://127.0.0.1:{http}/events/TOPIC",
        f"  lines over TCP 127.0.0.1:{lines}",
        f"  admin          http://127.0.0.1:{admin}/ (metrics: http://127.0.0.1:{admin}/metrics)",
        "",
        "Try these in another terminal:",
    ]
    for trial in trials(http, lines, admin):
        text += ["", f"  # {trial.purpose}", f"  $ {trial.command}", *(f"  {line}" for line in trial.answer.splitlines())]
    return "\n".join([*text, "", ""])


class DemoService(Service):
    """Everything that the demo runs, started in order and stopped in reverse.

    :param reactor: the reactor.
    :param program: the path of ``nats-server``.
    :param ports: the wanted ports for HTTP, lines and the admin endpoint; where one is taken, another one is used.

    :ivar server: the NATS server.
    :ivar bridge: the bridge, from the moment that the server is ready.
    :ivar text: what was printed when everything ran; empty before.
    """

    def __init__(self, reactor: Any, program: str, ports: Sequence[int] = DEFAULT_PORTS) -> None:
        self.setName("demo")
        self._reactor = reactor
        self._wanted = ports
        self.server = EmbeddedServer(reactor, program)
        self.bridge: BridgeService | None = None
        self.text = ""
        self._client: NatsClient | None = None
        self._generator: Generator | None = None
        self._starting: Deferred[None] | None = None
        self._is_cut_short = False

    def startService(self) -> None:
        """Start everything; the commands are printed when it runs. When that fails, the reason is logged and the reactor stopped."""
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._start_failed)

    async def _start(self) -> None:
        await self.server.start()
        self._client = await connect(self._reactor, self.server.url, name="demo")
        EchoService(self._client)
        http, lines, admin = (free_port(port) for port in self._wanted)
        config = load_config(CONFIG.format(nats=self.server.url, http=http, lines=lines, admin=admin), "the demo's configuration")
        self.bridge = bridge = BridgeService(self._reactor, config)
        bridge.startService()
        for connection in bridge.connections.values():
            await connection.client.when_connected()
        self._generator = Generator(self._reactor, lines)
        self._generator.start()
        self.text = announcement(self.server.url, http, lines, admin)
        _print(self.text)

    def _start_failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) and not self.running:
            return
        _log.critical("the demo could not be started: {error}", error=failure.getErrorMessage())
        self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Stop everything: first what sends, then the bridge, which drains, then the rest.

        :return: fires when everything is closed and the server's process is gone.
        """
        super().stopService()
        if self._starting is not None:
            self._starting.cancel()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._generator is not None:
            await self._generator.stop()
        if self.bridge is not None:
            await self.bridge.stopService()
        if self._client is not None:
            await self._client.close()
        stopped = self.server.stopService()
        if self._is_cut_short:
            self.server.kill()
        await stopped

    def cut_short(self) -> None:
        """End a running stop now, as if its time were over."""
        self._is_cut_short = True
        self.server.kill()
        if self.bridge is not None:
            self.bridge.cut_short()


def _print(text: str) -> None:
    """Write to the real standard output: ``sys.stdout`` itself may be a log by now."""
    if sys.__stdout__ is not None:
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
