"""``--demo``: a NATS server, a bridge with one route of each type, what they need around them, and commands to try.

Everything listens on loopback, on ports that are free, and nothing is left behind at the end.
"""

from __future__ import annotations

import secrets
import socket
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.demo_target import FailingTarget, TargetServer
from pynats_twisted.bridge.demo_traffic import EchoService, Generator
from pynats_twisted.bridge.embedded import EmbeddedServer, find_nats_server
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.bridge.tap import cut_short_on_second_signal
from pynats_twisted.client.client import connect
from pynats_twisted.errors import MissingDependencyError
from pynats_twisted.jetstream.api import StreamConfig

if TYPE_CHECKING:
    from pynats_twisted.client.client import NatsClient

CONFIG: Final = """\
[bridge]
name = "demo"
drain_timeout = "10s"

[admin]
listen = "tcp:{admin}:interface=127.0.0.1"
token = "{token}"

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
confirm = "jetstream"

[routes.lines]
type = "lines-in"
endpoint = "tcp:{lines}:interface=127.0.0.1"
subject = "demo.lines.{{peer}}"
confirm = "jetstream"
reply = {{ ok = "OK\\n", error = "ERROR\\n" }}

[routes.logs]
type = "syslog"
endpoint = "udp:{syslog}:interface=127.0.0.1"
subject = "demo.logs.{{hostname}}"
confirm = "jetstream"

[routes.live]
type = "sse"
listen = "web"
path = "/live/{{kind}}/{{name}}"
stream = "DEMO"
filter = "demo.{{kind}}.{{name}}"
start = "last"

[routes.notify]
type = "webhook"
stream = "DEMO"
consumer = "notify"
filter = "demo.events.orders"
url = "http://127.0.0.1:{target}/orders"
allow_private = true
on_gone = "dlq"
retry = {{ initial = "300ms", factor = 2, max = "5s", max_attempts = 8 }}
breaker = {{ after = 4, cooldown = "2s" }}
"""

STREAMS: Final = (
    StreamConfig(name="DEMO", subjects=["demo.events.*", "demo.lines.*", "demo.logs.*"], max_msgs=50_000),
    StreamConfig(name="DEMO_DLQ", subjects=["dlq.>"], max_msgs=200),
)
"""What is stored: bounded, as the demo may run for long."""

WELCOME: Final = ("demo.events.welcome", b"Welcome to the demo")
"""What is stored from the beginning, to be found by who asks for it."""

_log = Logger()


class Ports(NamedTuple):
    """The ports of the demo on loopback.

    :ivar http: of the HTTP listener.
    :ivar lines: of the ``lines-in`` route.
    :ivar syslog: of the ``syslog`` route; of UDP.
    :ivar admin: of the admin endpoint.
    :ivar target: of the webhooks' target.
    """

    http: int = 8080
    lines: int = 9000
    syslog: int = 5514
    admin: int = 8223
    target: int = 8081


class Trial(NamedTuple):
    """A command to try.

    :ivar purpose: what it shows.
    :ivar command: the command.
    :ivar answer: what it prints; ``…`` stands for what is another each time.
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


def free_port(wanted: int, kind: int = socket.SOCK_STREAM) -> int:
    """``wanted``, if it can be listened on now on loopback; otherwise one that can.

    :param kind: ``SOCK_STREAM`` for TCP, ``SOCK_DGRAM`` for UDP.
    """
    for port in (wanted, 0):
        with socket.socket(type=kind) as trial:
            if kind == socket.SOCK_STREAM:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = trial.getsockname()[1]
            return found
    raise OSError("no port is free on 127.0.0.1")


def config_text(nats: str, ports: Ports, token: str) -> str:
    """The configuration of the demo's bridge.

    :param nats: the URL of the NATS server.
    :param ports: the ports.
    :param token: the token of the admin endpoint.
    """
    return CONFIG.format(nats=nats, token=token, **ports._asdict())


def trials(ports: Ports, token: str) -> list[Trial]:
    """Commands that work while the demo runs, with their answers.

    :param ports: the ports.
    :param token: the token of the admin endpoint.
    """
    web, admin = f"http://127.0.0.1:{ports.http}", f"http://127.0.0.1:{ports.admin}"
    bearer = f"-H 'Authorization: Bearer {token}'"
    return [
        Trial("http-request: a service on NATS answers an HTTP request", f"curl -s -d hello {web}/echo/world", "world: hello"),
        Trial(
            "http-publish: a stream has stored the message when the answer comes",
            f"curl -s -d tea {web}/events/orders",
            '{"stream":"DEMO","seq":…,"duplicate":false}',
        ),
        Trial(
            "sse: events for browsers, beginning with the last one that is stored (without -m 2: for as long as you like)",
            f"curl -sN -m 2 {web}/live/events/welcome | grep data",
            f"data: {WELCOME[1].decode()}",
        ),
        Trial(
            "lines-in: each line is answered when a stream has stored it",
            f"printf 'one\\ntwo\\n' | nc -w 1 127.0.0.1 {ports.lines}",
            "OK\nOK",
        ),
        Trial(
            "syslog: what a machine logs, taken to pieces; it comes out as an event",
            f"echo '<14>1 - web-1 shop - - - sold out' | nc -u -w 1 127.0.0.1 {ports.syslog}; "
            f"curl -sN -m 2 {web}/live/logs/web-1 | grep data",
            'data: {"format":"rfc5424","facility":"user","severity":"info",…"message":"sold out"…}',
        ),
        Trial(
            "webhook: the target refused some orders for good, which are dead letters now",
            f"curl -s {bearer} '{admin}/routes/notify/dlq?limit=1'",
            '{\n  "route": "notify",\n  "contents": true,\n  "dead_letters": [\n    {\n      …\n'
            '      "error": "the target answered 410",\n      …\n    }\n  ]\n}',
        ),
        Trial(
            "They are sent again; those that the target takes now are deleted",
            f"curl -s {bearer} -d '{{\"all\": true}}' {admin}/routes/notify/dlq/replay",
            '{\n  "route": "notify",\n  "replayed": …,\n  "asked": null\n}',
        ),
        Trial(
            "Is the bridge ready? (degraded: ready, but the target is down just now)",
            f"curl -s {admin}/readyz",
            '{\n  "status": "…",\n  "bridge": "demo",\n  "reasons": [],\n  "degraded": […]\n}',
        ),
    ]


def announcement(url: str, ports: Ports, token: str) -> str:
    """What the demo prints when it runs: addresses, and commands with their answers."""
    web = f"http://127.0.0.1:{ports.http}"
    text = [
        "",
        "The demo is running. It ends with Ctrl-C.",
        "",
        f"  Dashboard      http://127.0.0.1:{ports.admin}/#token={token}",
        "",
        f"  NATS server    {url}",
        f"  http-request   {web}/echo/NAME",
        f"  http-publish   {web}/events/TOPIC",
        f"  sse            {web}/live/events/TOPIC, {web}/live/logs/HOST",
        f"  lines-in       127.0.0.1:{ports.lines} (TCP)",
        f"  syslog         127.0.0.1:{ports.syslog} (UDP)",
        f"  webhook        POST http://127.0.0.1:{ports.target}/orders, which fails a lot: 30 % are answered with 500, some with 410,",
        "                 and now and then it is down. See retries, dead letters and the breaker on the dashboard.",
        f"  metrics        http://127.0.0.1:{ports.admin}/metrics",
        "",
        "Try these in another terminal (… is another each time):",
    ]
    for trial in trials(ports, token):
        text += ["", f"  # {trial.purpose}", f"  $ {trial.command}", *(f"  {line}" for line in trial.answer.splitlines())]
    return "\n".join([*text, "", ""])


class DemoService(Service):
    """Everything that the demo runs, started in order and stopped in reverse.

    :param reactor: the reactor.
    :param program: the path of ``nats-server``.
    :param ports: the wanted ports; where one is taken, another one is used.

    :ivar server: the NATS server.
    :ivar bridge: the bridge, from the moment that the server is ready.
    :ivar text: what was printed when everything ran; empty before.
    """

    def __init__(self, reactor: Any, program: str, ports: Ports | None = None) -> None:
        self.setName("demo")
        self._reactor = reactor
        self._wanted = ports or Ports()
        self.server = EmbeddedServer(reactor, program)
        self.bridge: BridgeService | None = None
        self.text = ""
        self._target = TargetServer(reactor, FailingTarget(reactor.seconds))
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
        js = self._client.jetstream()
        for stream in STREAMS:
            await js.create_stream(stream)
        await js.publish(*WELCOME)
        ports = self._take_ports()
        token = secrets.token_hex(8)
        config = load_config(config_text(self.server.url, ports, token), "the demo's configuration")
        self.bridge = bridge = BridgeService(self._reactor, config)
        bridge.startService()
        for connection in bridge.connections.values():
            await connection.client.when_connected()
        self._generator = Generator(self._reactor, ports.http, ports.lines, ports.syslog)
        self._generator.start()
        self.text = announcement(self.server.url, ports, token)
        _print(self.text)

    def _take_ports(self) -> Ports:
        wanted = self._wanted
        return Ports(
            http=free_port(wanted.http),
            lines=free_port(wanted.lines),
            syslog=free_port(wanted.syslog, socket.SOCK_DGRAM),
            admin=free_port(wanted.admin),
            target=self._target.listen(wanted.target),
        )

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
        await self._target.stop()
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
