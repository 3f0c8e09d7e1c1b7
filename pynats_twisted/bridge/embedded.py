"""A nats-server of the bridge's own: found, started on loopback as a child process, kept running, and ended with the bridge."""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.errors import MissingDependencyError, ServerProcessError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

PROGRAM: Final = "nats-server"

START_TIMEOUT: Final = 15.0
"""Seconds that the server has from its start to being ready."""

STOP_TIMEOUT: Final = 5.0
"""Seconds from SIGTERM to SIGKILL."""

RESTART_DELAY: Final = (0.5, 10.0)
"""Seconds until a server that ended by itself is started again: at first, and at most (each time twice as long)."""

KEPT_LINES: Final = 40
"""Lines of the server's log that are kept for error messages."""

MAX_LINE: Final = 4096
"""Bytes of one line of its log; longer ones are cut."""

_LISTENING = re.compile(r"Listening for client connections on \S*:([0-9]+)")
_READY = "Server is ready"

# The child is in a process group of its own, so that Ctrl-C in a terminal does not end it before the bridge has drained. Linux ends
# it with the process that started it, also when that is killed. Both outlive exec().
_TIED: Final = """
import os, sys
os.setpgid(0, 0)
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, 15)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

_log = Logger()


def find_nats_server() -> str:
    """The path of the program ``nats-server``: on ``PATH``, or where ``pip`` puts programs beside the running Python.

    :raises MissingDependencyError: there is none; the text says what to install.
    """
    directories = [None, *(str(directory) for directory in dict.fromkeys(_script_directories()))]
    for directory in directories:
        found = shutil.which(PROGRAM, path=directory)
        if found is not None:
            return os.path.abspath(found)
    raise MissingDependencyError(
        f'the program {PROGRAM} is needed and not there: pip install "pynats-twisted[server]" installs it. '
        f"Looked on PATH and in {', '.join(filter(None, directories))}"
    )


def _script_directories() -> Iterator[Path]:
    yield Path(sysconfig.get_path("scripts"))
    # The folder of the interpreter as it was called: in a virtual environment that is not its real path.
    yield Path(sys.executable).parent


class EmbeddedServer(Service):
    """A ``nats-server`` on loopback, with JetStream in a temporary directory.

    The port is chosen by the system at the first start and kept. A server that ends by itself is started again on the same port, with
    the same data. :meth:`stopService` ends it and removes its data. On Linux it also ends when the bridge is killed; what it had
    stored then stays behind in the directory of temporary files.

    :param reactor: the reactor; it has to run processes.
    :param program: the path of the program.

    :ivar port: its port; 0 before it was ready for the first time.
    :ivar directory: where its data is; None while it is stopped.
    """

    def __init__(self, reactor: Any, program: str) -> None:
        self.setName("nats-server")
        self._reactor = reactor
        self._program = program
        self.port = 0
        self.directory: str | None = None
        self._child: _Child | None = None
        self._first: Deferred[EmbeddedServer] | None = None
        self._stopped: list[Deferred[None]] = []
        self._restart: IDelayedCall | None = None
        self._delay = RESTART_DELAY[0]

    @property
    def url(self) -> str:
        """The URL for clients, from the first readiness on."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process, or None while there is none."""
        return self._child.pid if self._child is not None else None

    def start(self) -> Deferred[EmbeddedServer]:
        """Start it.

        :return: fires with the server when it takes connections. Cancelling it ends the server.
        :raises ServerProcessError: it ended, or was not ready in time; the text has the end of its log.
        """
        self.startService()
        self._first = Deferred(lambda _: self._give_up(None))
        return self._first

    def startService(self) -> None:
        """Start it without waiting. :meth:`start` tells when it is ready."""
        super().startService()
        self._open()
        self._spawn()

    def _open(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="nats-bridge-")

    def stopService(self) -> Deferred[None]:
        """End it and remove its data.

        :return: fires when the process is gone, at the latest ``STOP_TIMEOUT`` later. :meth:`kill` hastens it.
        """
        super().stopService()
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self._child is None:
            self._close()
            return succeed(None)
        child = self._child
        child.end()
        stopped: Deferred[None] = Deferred(self._stopped.remove)
        self._stopped.append(stopped)
        return stopped

    def kill(self) -> None:
        """End the process now, in the middle of a stop."""
        if self._child is not None and not self.running:
            self._child.kill()

    def _spawn(self) -> None:
        self._restart = None
        self._child = child = _Child(self._reactor, self)
        arguments = [self._program, *self._arguments()]
        if sys.executable:
            arguments = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *arguments]
        self._reactor.spawnProcess(child, arguments[0], arguments, env=os.environ)

    def _arguments(self) -> list[str]:
        return ["--addr", "127.0.0.1", "--port", str(self.port or -1), "--jetstream", "--store_dir", self.directory or ""]

    # --- told by the child -------------------------------------------------------------------------------------

    def child_ready(self, port: int) -> None:
        """It takes connections."""
        self.port = port
        self._delay = RESTART_DELAY[0]
        _log.info("nats-server is ready at {url}", url=self.url)
        first, self._first = self._first, None
        if first is not None:
            first.callback(self)

    def child_late(self, child: _Child) -> None:
        """It was not ready in time."""
        self._give_up(ServerProcessError(f"{self._program} was not ready within {START_TIMEOUT:g} s", child.log))

    def child_ended(self, child: _Child, reason: str) -> None:
        """The process is gone."""
        self._child = None
        if not self.running:
            self._close()
            stopped, self._stopped = self._stopped, []
            for waiter in stopped:
                waiter.callback(None)
        elif self._first is not None:
            self._give_up(ServerProcessError(f"{self._program} {reason}", child.log))
        else:
            _log.error("nats-server {reason}; it is started again in {delay} s", reason=reason, delay=self._delay)
            self._restart = self._reactor.callLater(self._delay, self._spawn)
            self._delay = min(self._delay * 2, RESTART_DELAY[1])

    def _give_up(self, error: ServerProcessError | None) -> None:
        """The first start has failed, or is not wanted any more."""
        first, self._first = self._first, None
        self.stopService()
        if first is not None and error is not None:
            first.errback(error)
        elif error is not None:
            _log.error("{error}", error=error)

    def _close(self) -> None:
        """It is gone for good."""
        directory, self.directory = self.directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


class _Child(ProcessProtocol):
    """One process: reads its log, and ends it."""

    def __init__(self, reactor: Any, owner: EmbeddedServer) -> None:
        self._reactor = reactor
        self._owner = owner
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._rest = b""
        self._port = 0
        self._timer: IDelayedCall | None = reactor.callLater(START_TIMEOUT, self._late)

    @property
    def pid(self) -> int | None:
        """The process id."""
        pid: int | None = self.transport.pid if self.transport is not None else None
        return pid

    @property
    def log(self) -> str:
        """The end of the log."""
        return "\n".join(self._lines)

    def connectionMade(self) -> None:
        """The process runs; it gets no input."""
        transport: Any = self.transport
        transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """A part of the log."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:MAX_LINE]
        for line in lines:
            self._line(line[:MAX_LINE].decode("utf-8", "replace").rstrip())

    errReceived = outReceived

    def _line(self, line: str) -> None:
        self._lines.append(line)
        found = _LISTENING.search(line)
        if found is not None:
            self._port = int(found[1])
        elif _READY in line and self._timer is not None and self._port:
            self._cancel_timer()
            self._owner.child_ready(self._port)

    def _late(self) -> None:
        self._timer = None
        self._owner.child_late(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Ask the process to end; kill it when it does not."""
        self._cancel_timer()
        self._signal("TERM")
        self._timer = self._reactor.callLater(STOP_TIMEOUT, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        self.kill()

    def kill(self) -> None:
        """End the process now."""
        self._signal("KILL")

    def _signal(self, name: str) -> None:
        transport: Any = self.transport
        try:
            transport.signalProcess(name)
        except ProcessExitedAlready:
            # Its end is on its way to processEnded.
            return

    def processEnded(self, reason: Failure) -> None:
        """The process is gone and its log is read."""
        self._cancel_timer()
        value: Any = reason.value
        how = f"was ended by signal {value.signal}" if value.signal else f"ended with exit code {value.exitCode}"
        self._owner.child_ended(self, how)
