"""Running a bridge for real: a new configuration while it works, a server of its own, and a dry run."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure

from pynats_twisted import Msg, NatsClient
from pynats_twisted.bridge.config import load_config
from pynats_twisted.bridge.dry_run import DryRunReport, dry_run_file
from pynats_twisted.bridge.loops import PATH_HEADER
from pynats_twisted.bridge.routes import builtin_factories
from pynats_twisted.bridge.service import BridgeService
from pynats_twisted.jetstream.api import ConsumerConfig, RetentionPolicy, StreamConfig
from tests.support.integration import IntegrationTestCase

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = ["-c", "from pynats_twisted.bridge.tap import main; main()", "--config"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port: int = reserved.getsockname()[1]
        return port


class BridgeProcess(ProcessProtocol):
    """A bridge as a process of its own."""

    transport: Any

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self.is_alive = True
        self.output = b""

    def outReceived(self, data: bytes) -> None:
        self.output += data

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self.is_alive = False
        self.ended.callback(None)

    async def end(self, name: str = "KILL") -> None:
        if self.is_alive:
            self.transport.signalProcess(name)
            await self.ended


class Caller(Protocol):
    """A connection that is kept open between requests, which are asked one after the other."""

    transport: Any

    def __init__(self) -> None:
        self._data = b""
        self._answer: Deferred[tuple[int, bytes]] | None = None
        self.is_open = True

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Deferred[tuple[int, bytes]]:
        """The status and body of the answer."""
        answer: Deferred[tuple[int, bytes]] = Deferred()
        self._answer = answer
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        return answer

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if end and self._answer is not None:
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0] or 0)
            if len(rest) >= length:
                self._data = rest[length:]
                answer, self._answer = self._answer, None
                answer.callback((int(head[9:12]), rest[:length]))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_open = False
        if self._answer is not None:
            answer, self._answer = self._answer, None
            answer.errback(reason)


class OperationTestCase(IntegrationTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "bridge.toml"
        self.port, self.admin_port = free_port(), free_port()
        self.bridge: BridgeProcess | None = None

    async def start_process(self) -> BridgeProcess:
        process = self.bridge = BridgeProcess()
        self.addCleanup(process.end)
        self.reactor.spawnProcess(process, sys.executable, [sys.executable, *COMMAND, str(self.path)], ENVIRONMENT)
        return process

    async def caller(self, port: int) -> Caller:
        """A connection, as soon as there is somebody to connect to."""
        deadline = self.reactor.seconds() + 30
        while True:
            try:
                caller: Caller = await connectProtocol(HostnameEndpoint(self.reactor, "127.0.0.1", port), Caller())
            except ConnectError:
                if self.reactor.seconds() > deadline or (self.bridge is not None and not self.bridge.is_alive):
                    raise
                await self.sleep(0.02)
                continue
            # A port of loopback that nobody listens on may be met by itself.
            if caller.transport.getHost() == caller.transport.getPeer():
                caller.transport.abortConnection()
                continue
            self.addCleanup(caller.transport.abortConnection)
            return caller

    async def admin(self, path: str) -> tuple[int, bytes]:
        caller = await self.caller(self.admin_port)
        answer = await caller.call("GET", path)
        caller.transport.abortConnection()
        return answer

    async def metric(self, name: str) -> str:
        _, text = await self.admin("/metrics")
        found = [line.rpartition(" ")[2] for line in text.decode().splitlines() if line.startswith(f"nats_bridge_{name}")]
        return found[0] if found else ""

    async def when(self, ask: Any, what: str) -> None:
        """Wait until a question that takes a while is answered with something true."""
        deadline = self.reactor.seconds() + 30
        while not await ask():
            assert self.bridge is not None
            if self.reactor.seconds() > deadline or not self.bridge.is_alive:
                self.fail(f"{what} did not come true\n{self.bridge.output.decode()}")
            await self.sleep(0.05)

    async def is_ready(self) -> bool:
        return (await self.admin("/readyz"))[0] == 200


RELOAD = """
[bridge]
name = "edge"
drain_timeout = "10s"
[admin]
listen = "tcp:{admin}:interface=127.0.0.1"
[nats.default]
servers = "{url}"
[listen.public]
endpoint = "tcp:{port}:interface=127.0.0.1"
[routes.fixed]
type = "http-request"
listen = "public"
path = "/fixed/{{id}}"
subject = "fixed.{{id}}"
timeout = "20s"
[routes.other]
type = "http-request"
listen = "public"
path = "/other/{{id}}"
subject = "{subject}.{{id}}"
timeout = "20s"
"""


class ReloadTests(OperationTestCase):
    def write(self, subject: str = "other") -> None:
        self.path.write_text(RELOAD.format(url=self.server.url, port=self.port, admin=self.admin_port, subject=subject))

    async def start(self) -> tuple[BridgeProcess, NatsClient]:
        self.server = await self.start_server()
        self.write()
        bridge = await self.start_process()
        await self.when(self.is_ready, "readiness")
        return bridge, await self.connect(self.server)

    async def test_sighup(self) -> None:
        """SIGHUP takes the new file over: what did not change keeps its connections, what was asked of the old form is answered."""
        bridge, client = await self.start()
        held: list[Msg] = []

        async def answer(msg: Msg) -> None:
            await msg.respond(msg.subject.encode())

        await client.subscribe("fixed.*", answer)
        await client.subscribe("other.*", held.append)
        await client.subscribe("another.*", answer)
        await client.flush()
        callers = [await self.caller(self.port) for _ in range(100)]
        for caller in callers:
            self.assertEqual(await caller.call("GET", "/fixed/1"), (200, b"fixed.1"))
        waiting = await self.caller(self.port)
        answered = waiting.call("GET", "/other/1")
        await self.until(lambda: held, what="the request in flight")
        before = await self.metric("config_hash")

        self.write("another")
        bridge.transport.signalProcess("HUP")
        newcomer = await self.caller(self.port)
        self.assertEqual(await self._answer_of_the_new(newcomer, held), (200, b"another.2"))
        await held[0].respond(b"late")
        self.assertEqual(await answered, (200, b"late"))
        await self.when(lambda: self._has("config_reload_success", "1.0"), "the reload")
        self.assertNotEqual(await self.metric("config_hash"), before)
        for caller in callers:
            self.assertEqual(await caller.call("GET", "/fixed/2"), (200, b"fixed.2"))
        self.assertEqual([caller.is_open for caller in callers], [True] * 100)
        self.assertTrue(await self.is_ready())
        await bridge.end("TERM")
        self.assertNotIn(b"Traceback", bridge.output)

    async def _answer_of_the_new(self, caller: Caller, held: list[Msg]) -> tuple[int, bytes]:
        """The answer of the new form of the route; until it is there, requests go to the old one, and are answered here."""
        while True:
            count = len(held)
            answered = caller.call("GET", "/other/2")
            while not answered.called and len(held) == count:
                await self.sleep(0.005)
            for msg in held[count:]:
                await msg.respond(b"old")
            status, body = await answered
            if body != b"old":
                return status, body

    async def _has(self, metric: str, value: str) -> bool:
        return await self.metric(metric) == value

    async def test_a_broken_file(self) -> None:
        """A file that cannot be used is refused: the bridge goes on, and says so in its metrics and its readiness; a good one mends it."""
        bridge, client = await self.start()

        async def answer(msg: Msg) -> None:
            await msg.respond(msg.subject.encode())

        await client.subscribe("*.*", answer)
        await client.flush()
        self.path.write_text("[bridge]\nname = 7\n")
        bridge.transport.signalProcess("HUP")
        await self.when(lambda: self._has("config_reload_success", "0.0"), "the refusal")
        status, body = await self.admin("/readyz")
        document = json.loads(body)
        self.assertEqual((status, document["status"]), (200, "degraded"))
        self.assertIn("the last reload was refused", document["degraded"][0])
        caller = await self.caller(self.port)
        self.assertEqual(await caller.call("GET", "/other/1"), (200, b"other.1"))
        self.write("another")
        bridge.transport.signalProcess("HUP")
        await self.when(lambda: self._has("config_reload_success", "1.0"), "the reload")
        self.assertEqual(await caller.call("GET", "/other/1"), (200, b"another.1"))
        self.assertEqual(json.loads((await self.admin("/readyz"))[1])["status"], "ready")
        lines = [json.loads(line) for line in bridge.output.decode().splitlines()]
        self.assertIn(("error", "edge"), [(line["level"], line.get("name")) for line in lines])


OWN = """
[bridge]
name = "edge"
[admin]
listen = "tcp:{admin}:interface=127.0.0.1"
[server]
port = {server}
store_dir = "data"
sync = "always"
[listen.public]
endpoint = "tcp:{port}:interface=127.0.0.1"
[routes.in]
type = "http-publish"
listen = "public"
path = "/in"
subject = "kept.in"
confirm = "server"
"""


class OwnServerTests(OperationTestCase):
    def pid(self) -> int:
        try:
            return int((self.folder / "data" / "nats-server.pid").read_text())
        except (OSError, ValueError):
            return 0

    def is_alive(self, pid: int) -> bool:
        try:
            return b"nats-server" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    async def count(self) -> int:
        client = await self.connect(f"nats://127.0.0.1:{self.server_port}")
        stream = await client.jetstream().stream("KEPT")
        messages = (await stream.info()).state.messages
        await client.close()
        return messages

    async def test_supervised(self) -> None:
        """The server comes with the bridge and goes with it; it comes again when it dies, and when the bridge was killed; data stays."""
        self.server_port = free_port()
        self.path.write_text(OWN.format(admin=self.admin_port, port=self.port, server=self.server_port))
        bridge = await self.start_process()
        await self.when(self.is_ready, "readiness")
        client = await self.connect(f"nats://127.0.0.1:{self.server_port}")
        await client.jetstream().create_stream(StreamConfig(name="KEPT", subjects=["kept.>"]))
        await client.close()
        caller = await self.caller(self.port)
        self.assertEqual((await caller.call("POST", "/in", b"1"))[0], 202)

        first = self.pid()
        os.kill(first, signal.SIGKILL)
        await self.until(lambda: self.pid() not in (0, first), what="another server")
        await self.when(self.is_ready, "readiness again")
        self.assertEqual((await caller.call("POST", "/in", b"2"))[0], 202)

        second = self.pid()
        await bridge.end("KILL")
        bridge = await self.start_process()
        await self.until(lambda: self.pid() not in (0, second), what="a server of the next bridge")
        self.assertFalse(self.is_alive(second))
        await self.when(self.is_ready, "readiness of the next bridge")
        caller = await self.caller(self.port)
        self.assertEqual((await caller.call("POST", "/in", b"3"))[0], 202)
        self.assertEqual(await self.count(), 3)

        third = self.pid()
        await bridge.end("TERM")
        await self.until(lambda: not self.is_alive(third), what="the end of the server")
        self.assertEqual(self.pid(), 0)


DRY = """
[bridge]
name = "edge"
[nats.default]
servers = "{url}"
user = "{user}"
password = "pw"
inbox_prefix = "_INBOX_edge"
[listen.public]
endpoint = "tcp:{port}:interface=127.0.0.1"
[routes.ask]
type = "http-request"
listen = "public"
path = "/ask/{{id}}"
subject = "svc.{{id}}"
max_body = "2MiB"
[routes.in]
type = "http-publish"
listen = "public"
path = "/in/{{id}}"
subject = "orders.{{id}}"
confirm = "jetstream"
[routes.out]
type = "webhook"
stream = "ORDERS"
consumer = "out"
filter = "orders.*"
url = "http://localhost:1/x"
allow_private = true
dlq = "dlq.out.{{seq}}"
"""


class DryRunTests(OperationTestCase):
    async def start(self) -> NatsClient:
        limited = {
            "publish": {"allow": ["orders.*", "$JS.API.>", "$SYS.REQ.USER.INFO"], "deny": ["orders.secret"]},
            "subscribe": {"allow": ["_INBOX_edge.>"]},
        }
        users = [{"user": "limited", "password": "pw", "permissions": limited}, {"user": "all", "password": "pw"}]
        users.append({"user": "mute", "password": "pw", "permissions": {"publish": {"deny": ["$SYS.>"]}}})
        self.server = await self.start_server({"authorization": {"users": users}}, jetstream=True)
        return await self.connect(self.server, user="all", password="pw")

    async def run_dry(self, user: str = "all", url: str = "") -> tuple[DryRunReport, list[str]]:
        self.path.write_text(DRY.format(url=url or self.server.url, port=self.port, user=user))
        report = await dry_run_file(str(self.path), self.reactor)
        return report, [str(finding) for finding in report.findings]

    async def test_all_is_there(self) -> None:
        """With everything in place nothing is wrong; nothing is listened on, made or stored by looking."""
        client = await self.start()
        js = client.jetstream()
        await js.create_stream(StreamConfig(name="ORDERS", subjects=["orders.>"], max_msg_size=1000))
        await js.create_stream(StreamConfig(name="DLQ", subjects=["dlq.>"]))
        report, findings = await self.run_dry()
        self.assertTrue(report.is_ok, findings)
        self.assertIn("user all of account $G", findings[0])
        self.assertIn("warning: routes.ask: max_body is 2097152 bytes, and the server takes payloads of up to 1048576", findings)
        self.assertIn("stream ORDERS takes messages of up to 1000", " ".join(findings))
        self.assertIn("ok: routes.out: stream ORDERS has no consumer out yet; the route would make it", findings)
        self.assertEqual([name async for name in js.consumer_names("ORDERS")], [])
        self.assertEqual([(await (await js.stream(name)).info()).state.messages for name in ("ORDERS", "DLQ")], [0, 0])

    async def test_streams_that_are_missing(self) -> None:
        """A stream that a route reads or needs is missed by name; the exit code of the process says that it would not work."""
        await self.start()
        report, findings = await self.run_dry()
        self.assertFalse(report.is_ok)
        self.assertIn("error: routes.in: no stream stores orders.*", findings)
        self.assertIn("error: routes.out: there is no stream ORDERS", findings)
        output, _, code = await getProcessOutputAndValue(sys.executable, [*COMMAND, str(self.path), "--dry-run=json"], ENVIRONMENT)
        document = json.loads(output)
        self.assertEqual((code, document["ok"], document["problems"]), (1, False, []))
        self.assertIn({"level": "error", "path": "routes.out", "text": "there is no stream ORDERS"}, document["findings"])

    async def test_a_consumer_that_does_not_fit(self) -> None:
        """A consumer that is there and cannot serve the route is found, and so is a stream that would not keep dead letters."""
        client = await self.start()
        js = client.jetstream()
        await js.create_stream(StreamConfig(name="ORDERS", subjects=["orders.>"]))
        await js.create_stream(StreamConfig(name="DLQ", subjects=["dlq.>"], retention=RetentionPolicy.WORKQUEUE))
        await js.create_consumer("ORDERS", ConsumerConfig(durable="out", max_deliver=3))
        _, findings = await self.run_dry()
        told = " ".join(finding for finding in findings if finding.startswith("error: routes.out: "))
        self.assertIn("max_deliver is 3", told)
        self.assertIn("stream DLQ, which stores dlq.out.*, has workqueue retention", told)

    async def test_permissions(self) -> None:
        """What the user may not do is found without doing it; where the server does not tell, that is said."""
        await self.start()
        _, findings = await self.run_dry("limited")
        allowed = "allowed are only $JS.API.>, $SYS.REQ.USER.INFO, orders.*"
        self.assertIn(f"error: routes.ask: the user may not publish to svc.*: {allowed}", findings)
        self.assertIn("error: routes.in: the user may not publish to orders.*: orders.secret is denied", findings)
        self.assertIn(f"error: routes.out: the user may not publish to $JS.ACK.ORDERS.out.>: {allowed}", findings)
        self.assertNotIn("answers cannot be received", " ".join(findings))
        _, findings = await self.run_dry("mute")
        self.assertIn("permissions were not checked", findings[1])

    async def test_no_connection(self) -> None:
        """A server that is not there, or that refuses the credentials, is told at once, without secrets."""
        await self.start()
        _, findings = await self.run_dry("nobody")
        self.assertIn("error: nats.default: cannot connect: ", findings[0])
        self.assertIn("Authorization Violation", findings[0])
        self.assertIn("warning: routes.ask: not looked at, as its NATS connection is not there", findings)
        _, findings = await self.run_dry(url=f"nats://me:s3cret@127.0.0.1:{free_port()}")
        self.assertIn("cannot connect", findings[0])
        self.assertNotIn("s3cret", " ".join(findings))

    async def test_invalid(self) -> None:
        """What is wrong without looking is told first, as by ``--check``."""
        self.path.write_text("[bridge]\nname = 7\n")
        output, _, code = await getProcessOutputAndValue(sys.executable, [*COMMAND, str(self.path), "--dry-run"], ENVIRONMENT)
        self.assertEqual(code, 78)
        self.assertIn(b"bridge.name", output)


LOOP = """
[bridge]
name = "{name}"
[nats.default]
servers = "{url}"
[listen.public]
endpoint = "tcp:{port}:interface=127.0.0.1"
[routes.in]
type = "http-publish"
listen = "public"
path = "/in"
subject = "{name}.in"
confirm = "server"
[routes.out]
type = "webhook"
stream = "{stream}"
consumer = "out"
url = "http://127.0.0.1:{target}/in"
allow_private = true
"""


class LoopTests(OperationTestCase):
    async def test_two_bridges_in_a_circle(self) -> None:
        """A message that two bridges would hand to each other for ever over HTTP goes around once, and is dropped and counted."""
        server = await self.start_server(jetstream=True)
        client = await self.connect(server)
        js = client.jetstream()
        ports = {"a": free_port(), "b": free_port()}
        bridges = {}
        seen: list[Msg] = []
        await client.subscribe("*.in", seen.append)
        await js.create_stream(StreamConfig(name="DLQ", subjects=["dlq.>"]))
        for name, other in (("a", "b"), ("b", "a")):
            await js.create_stream(StreamConfig(name=name, subjects=[f"{name}.in"]))
            text = LOOP.format(name=name, url=server.url, port=ports[name], target=ports[other], stream=name)
            config = load_config(text, "bridge.toml", builtin_factories())
            bridges[name] = BridgeService(self.reactor, config, builtin_factories())
            bridges[name].startService()
            self.addCleanup(bridges[name].stopService)
        await self.until(lambda: not any(bridge.problems() for bridge in bridges.values()), what="readiness")
        caller = await self.caller(ports["a"])
        self.assertEqual((await caller.call("POST", "/in", b"x"))[0], 202)
        sample = bridges["a"].metrics.registry.get_sample_value
        labels = {"route": "in", "type": "http-publish"}
        await self.until(lambda: sample("nats_bridge_loops_dropped_total", labels) == 1, what="the end of the circle")
        self.assertEqual([msg.subject for msg in seen], ["a.in", "b.in"])
        self.assertEqual(seen[0].headers[PATH_HEADER], "a")
        self.assertTrue(seen[1].headers[PATH_HEADER].startswith("a,") and seen[1].headers[PATH_HEADER].endswith(",b"))
