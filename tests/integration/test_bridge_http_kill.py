"""A bridge with ``http-publish`` routes that is killed again and again while it works."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.python.failure import Failure

from pynats_twisted.jetstream.api import StreamConfig
from tests.support.integration import IntegrationTestCase

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, "-c", "from pynats_twisted.bridge.tap import main; main()", "--config"]
KILLS = 20
SENDERS = 8

CONFIG = """
[bridge]
name = "edge"
[nats.default]
servers = "{url}"
[listen.public]
endpoint = "tcp:{port}:interface=127.0.0.1"
[routes.known]
type = "http-publish"
listen = "public"
path = "/known"
subject = "known"
dedupe = "header:x-id"
[routes.loose]
type = "http-publish"
listen = "public"
path = "/loose"
subject = "loose"
"""


class BridgeProcess(ProcessProtocol):
    """A bridge as a process of its own."""

    transport: Any

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self.is_alive = True

    def processEnded(self, reason: Failure) -> None:
        self.is_alive = False
        self.ended.callback(None)

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.is_alive:
            self.transport.signalProcess("KILL")
            await self.ended


class Connection(Protocol):
    """A connection that is kept open between requests."""

    transport: Any

    def __init__(self) -> None:
        self._data = b""
        self._answer: Deferred[tuple[int, bytes]] | None = None
        self.is_open = True

    def post(self, path: str, number: int) -> Deferred[tuple[int, bytes]]:
        """Status and body of the answer; status 0 when the connection ends before it is complete."""
        body = str(number)
        self._answer = answer = Deferred()
        self.transport.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Id: {body}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        return answer

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if end and self._answer is not None:
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
            if len(rest) >= length:
                self._data = b""
                answer, self._answer = self._answer, None
                answer.callback((int(head[9:12]), rest))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_open = False
        if self._answer is not None:
            answer, self._answer = self._answer, None
            answer.callback((0, b""))


class KillTests(IntegrationTestCase):
    async def start_process(self, config: Path) -> BridgeProcess:
        process = BridgeProcess()
        self.addCleanup(process.kill)
        self.reactor.spawnProcess(process, sys.executable, [*COMMAND, str(config)], {**os.environ, "PYTHONPATH": str(ROOT)})
        return process

    async def sender(self, path: str, number: int) -> None:
        """Send numbers, each until it is confirmed, as a webhook does."""
        connection: Connection | None = None
        while not self.is_over:
            if connection is None or not connection.is_open:
                try:
                    connection = await connectProtocol(HostnameEndpoint(self.reactor, "127.0.0.1", self.port), Connection())
                except ConnectError:
                    await self.sleep(0.02)
                    continue
                self.addCleanup(connection.transport.abortConnection)
            status, body = await connection.post(path, number)
            self.statuses[path][status] += 1
            if status in (200, 202):
                self.confirmed[path][number] = json.loads(body)["seq"]
                number += SENDERS
            elif status:
                await self.sleep(0.02)

    async def test_nothing_confirmed_is_lost(self) -> None:
        """Twenty kills under load: the stream has every message that was confirmed, where the sender was told. One that says its ids finds
        each stored once; one that says none finds no more duplicates than were in flight at the kills.
        """
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        js = nc.jetstream()
        config = Path(self.mktemp()).resolve()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config.write_text(CONFIG.format(url=server.url, port=self.port), "utf-8")
        streams = {
            path: await js.create_stream(StreamConfig(name=path[1:], subjects=[path[1:]], allow_direct=True))
            for path in ("/known", "/loose")
        }
        self.confirmed: dict[str, dict[int, int]] = {path: {} for path in streams}
        self.statuses: dict[str, Counter[int]] = {path: Counter() for path in streams}
        self.is_over = False
        senders = [Deferred.fromCoroutine(self.sender(path, first)) for path in streams for first in range(SENDERS)]
        for _ in range(KILLS):
            process = await self.start_process(config)
            before = {path: len(found) for path, found in self.confirmed.items()}
            await self.until(lambda before=before: all(len(self.confirmed[path]) > before[path] + 50 for path in streams))  # type: ignore[misc]
            await process.kill()
        process = await self.start_process(config)
        before = {path: len(found) for path, found in self.confirmed.items()}
        await self.until(lambda: all(len(self.confirmed[path]) > before[path] + SENDERS for path in streams))
        self.is_over = True
        for one in senders:
            await one
        for path, stream in streams.items():
            stored: dict[int, int] = {}
            async for message in stream.get_batch(seq=1):
                stored[message.seq] = int(message.data)
            confirmed, statuses = self.confirmed[path], self.statuses[path]
            self.assertEqual([number for number, seq in confirmed.items() if stored[seq] != number], [])
            extra = len(stored) - len(set(stored.values()))
            self.assertGreater(statuses[0], 0, "nothing was in flight at any kill")
            if path == "/known":
                self.assertEqual(extra, 0)
                self.assertLessEqual(statuses[200], statuses[0])
            else:
                self.assertLessEqual(extra, statuses[0])
            self.assertLessEqual(statuses[0], (KILLS + 1) * SENDERS)
            self.log.info("{path}: {confirmed} confirmed, {extra} more stored, answers {statuses}",
                path=path, confirmed=len(confirmed), extra=extra, statuses=dict(statuses))  # fmt: skip
