"""The nats-server that the demo runs, with processes in memory."""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.embedded import RESTART_DELAY, START_TIMEOUT, STOP_TIMEOUT, EmbeddedServer, find_nats_server
from pynats_twisted.errors import MissingDependencyError, ServerProcessError

LOG = b"[1] 2026/11/23 06:35:47.1 [INF] Listening for client connections on 127.0.0.1:%d\n[1] [INF] Server is ready\n"


class FakeProcess:
    """A process that ends when the test says so."""

    pid = 4711

    def __init__(self, protocol: Any, arguments: list[str]) -> None:
        self.protocol = protocol
        self.arguments = arguments
        self.signals: list[str] = []
        self.gone = False

    def closeStdin(self) -> None:  # noqa: N802
        self.signals.append("(no input)")

    def signalProcess(self, name: str) -> None:  # noqa: N802
        if self.gone:
            raise ProcessExitedAlready()
        self.signals.append(name)

    def says(self, data: bytes) -> None:
        self.protocol.errReceived(data)

    def ends(self, code: int = 0) -> None:
        self.gone = True
        self.protocol.processEnded(Failure(ProcessTerminated(code) if code else ProcessDone(0)))


class ProcessReactor(Clock):
    """A reactor that runs fake processes."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []

    def spawnProcess(self, protocol: Any, executable: str, args: list[str], env: Any) -> FakeProcess:  # noqa: N802
        process = FakeProcess(protocol, args)
        self.processes.append(process)
        protocol.makeConnection(process)
        return process


class EmbeddedServerTests(SynchronousTestCase):
    """:class:`EmbeddedServer`."""

    def setUp(self) -> None:
        self.reactor = ProcessReactor()
        self.server = EmbeddedServer(self.reactor, "/opt/nats-server")
        self.ready = self.server.start()

    def tearDown(self) -> None:
        # Some tests end while it is still starting.
        self.ready.addErrback(lambda failure: failure.trap(ServerProcessError))
        for process in self.reactor.processes:
            if not process.gone:
                process.ends()
        self.server.stopService()
        self.assertIsNone(self.server.directory)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    @property
    def process(self) -> FakeProcess:
        return self.reactor.processes[-1]

    def option(self, name: str) -> str:
        return self.process.arguments[self.process.arguments.index(name) + 1]

    def test_started_on_loopback(self) -> None:
        """It listens on loopback, on a port that the system chooses, with JetStream in a directory of its own."""
        self.assertEqual((self.option("--addr"), self.option("--port")), ("127.0.0.1", "-1"))
        self.assertIn("--jetstream", self.process.arguments)
        self.assertEqual(self.option("--store_dir"), self.server.directory)
        self.assertTrue(os.path.isdir(self.server.directory or ""))

    def test_ready(self) -> None:
        """It is ready when it says so, however its log is cut, and knows its port then."""
        for byte in LOG % 43210:
            self.assertNoResult(self.ready)
            self.process.says(bytes([byte]))
        self.assertIs(self.successResultOf(self.ready), self.server)
        self.assertEqual((self.server.url, self.server.pid), ("nats://127.0.0.1:43210", 4711))

    def test_ends_at_once(self) -> None:
        """A server that ends before it is ready is an error with what it said; it is not started again."""
        self.process.says(b"[FTL] no space left on device\n")
        self.process.ends(1)
        error = self.failureResultOf(self.ready, ServerProcessError).value
        self.assertIn("exit code 1", str(error))
        self.assertIn("no space left on device", str(error))
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.processes), 1)

    def test_never_ready(self) -> None:
        """A server that does not become ready in time is an error, and is ended."""
        self.reactor.advance(START_TIMEOUT)
        self.assertIn("not ready within 15 s", str(self.failureResultOf(self.ready, ServerProcessError).value))
        self.assertIn("TERM", self.process.signals)

    def test_stop(self) -> None:
        """A stop asks it to end, waits until it has, and removes its data."""
        self.process.says(LOG % 1)
        directory = Path(self.server.directory or "")
        (directory / "jetstream").mkdir()
        stopped = self.server.stopService()
        self.assertEqual(self.process.signals[-1], "TERM")
        self.assertNoResult(stopped)
        self.process.ends()
        self.successResultOf(stopped)
        self.assertFalse(directory.exists())
        self.assertEqual(len(self.reactor.processes), 1)

    def test_does_not_stop(self) -> None:
        """A server that does not end is killed after a while."""
        self.process.says(LOG % 1)
        self.server.stopService()
        self.reactor.advance(STOP_TIMEOUT)
        self.assertEqual(self.process.signals[-2:], ["TERM", "KILL"])

    def test_stop_cut_short(self) -> None:
        """A stop can be hastened, and still waits for the end."""
        self.process.says(LOG % 1)
        self.server.kill()
        self.assertNotIn("KILL", self.process.signals)
        stopped = self.server.stopService()
        self.server.kill()
        self.assertEqual(self.process.signals[-1], "KILL")
        self.assertNoResult(stopped)
        self.process.ends(9)
        self.successResultOf(stopped)

    def test_started_again(self) -> None:
        """A server that ends by itself is started again on its port with its data, after waits that grow."""
        self.process.says(LOG % 43210)
        directory = self.server.directory
        for delay in (RESTART_DELAY[0], RESTART_DELAY[0] * 2):
            self.process.ends(2)
            started = len(self.reactor.processes)
            self.reactor.advance(delay / 2)
            self.assertEqual(len(self.reactor.processes), started)
            self.reactor.advance(delay / 2)
            self.assertEqual(len(self.reactor.processes), started + 1)
        self.assertEqual((self.option("--port"), self.option("--store_dir")), ("43210", directory))

    def test_stop_before_it_is_started_again(self) -> None:
        """A stop while it is down keeps it down."""
        self.process.says(LOG % 1)
        self.process.ends(2)
        self.successResultOf(self.server.stopService())
        self.reactor.advance(60)
        self.assertEqual(len(self.reactor.processes), 1)

    def test_cancelled_start(self) -> None:
        """Cancelling the start ends it."""
        self.ready.cancel()
        self.failureResultOf(self.ready)
        self.assertEqual(self.process.signals[-1], "TERM")

    def test_long_lines_are_bounded(self) -> None:
        """A log without line ends takes no memory."""
        for _ in range(100):
            self.process.says(b"x" * 65536)
        self.process.says(b"\n" + LOG % 5)
        self.successResultOf(self.ready)


class FindServerTests(SynchronousTestCase):
    """:func:`find_nats_server`."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(dir=os.getcwd()))
        self.patch(os, "environ", {**os.environ, "PATH": str(self.directory)})

    def program(self, name: str) -> Path:
        path = self.directory / name
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return path

    def test_on_path(self) -> None:
        """The one on PATH comes first."""
        path = self.program("nats-server")
        self.assertEqual(find_nats_server(), str(path))

    def test_beside_python(self) -> None:
        """Without one on PATH, the one beside the running Python is taken: the environment need not be activated."""
        scripts = self.directory / "scripts"
        scripts.mkdir()
        self.patch(sys, "executable", str(scripts / "python"))
        self.patch(sysconfig, "get_path", lambda name: str(self.directory / "nowhere"))
        path = self.program("scripts/nats-server")
        self.assertEqual(find_nats_server(), str(path))

    def test_missing(self) -> None:
        """Without any, the error says what to install and where was looked."""
        self.patch(sys, "executable", str(self.directory / "python"))
        self.patch(sysconfig, "get_path", lambda name: str(self.directory / "nowhere"))
        text = str(self.assertRaises(MissingDependencyError, find_nats_server))
        self.assertIn('pip install "pynats-twisted[server]"', text)
        self.assertIn(str(self.directory / "nowhere"), text)
