"""The base of the tests of the blocking client with real servers."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import blocking
from pynats_twisted.testing import BlockingServerCluster, BlockingServerProcess

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pynats_twisted.testing.settings import ServerOptions

CHECKOUT = Path(__file__).resolve().parents[2]


class BlockingIntegrationTestCase(SynchronousTestCase):
    """A test without a reactor, with real servers and blocking clients, which are closed after it."""

    def start_server(self, config: str | Mapping[str, Any] | None = None, **options: Unpack[ServerOptions]) -> BlockingServerProcess:
        """A started server; the options are those of :class:`~pynats_twisted.testing.ServerProcess`."""
        server = BlockingServerProcess(config, **options)
        self.addCleanup(server.close)
        return server.start()

    def start_cluster(self, size: int = 3, **options: Unpack[ServerOptions]) -> BlockingServerCluster:
        """A started cluster; the options are those of :class:`~pynats_twisted.testing.ServerCluster`."""
        cluster = BlockingServerCluster(size, **options)
        self.addCleanup(cluster.close)
        cluster.start()
        return cluster

    def connect(self, servers: BlockingServerProcess | str | list[str], **options: Any) -> blocking.BlockingClient:
        """A connected client."""
        client = blocking.connect(servers.url if isinstance(servers, BlockingServerProcess) else servers, **options)
        self.addCleanup(client.close)
        return client

    def start_script(self, source: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a Python program in another process. It is ended with the test."""
        return self.start_program([sys.executable, "-c", textwrap.dedent(source), *arguments])

    def start_program(self, command: list[str]) -> subprocess.Popen[str]:
        """Start a program that finds this checkout."""
        paths = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(self._end, process)
        return process

    def finish(self, process: subprocess.Popen[str], timeout: float = 30.0) -> str:
        """Wait until a program has ended well; returns what it printed."""
        output, errors = process.communicate(timeout=timeout)
        self.assertEqual((process.returncode, errors), (0, ""))
        return output

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.kill()
        process.communicate()

    def until(self, condition: Callable[[], object], timeout: float = 30.0) -> None:
        """Try again and again until ``condition()`` is true; the test fails when it is not in time."""
        end = time.monotonic() + timeout
        while not condition():
            self.assertLess(time.monotonic(), end, "the condition did not become true")
            time.sleep(0.01)
