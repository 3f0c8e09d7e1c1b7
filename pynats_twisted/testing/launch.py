"""What a server object owns on this machine: a directory, ports, a process and its log. None of it outlives the object."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pynats_twisted.errors import ServerProcessError
from pynats_twisted.testing.ports import PortReservation

LOG_NAME = "server.log"


class LogMark(NamedTuple):
    """A place in the log that stays right when the server archives its log file."""

    inode: int
    offset: int


class Holdings:
    """The directory, the ports and the process of one server.

    It knows nothing of the server object, so that a finalizer of that object can hold it.

    :ivar directory: where the server's files are.
    :ivar ports: the reserved ports, by what they are for.
    :ivar process: the process that was started last; it may have ended.
    """

    def __init__(self, directory: str | os.PathLike[str] | None) -> None:
        self._temporary = directory is None
        self.directory = Path(tempfile.mkdtemp(prefix="nats-server-") if directory is None else directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ports: dict[str, PortReservation] = {}
        self.process: subprocess.Popen[bytes] | None = None
        # A child made by fork() has a copy of this object, and must not end what belongs to its parent.
        self._owner = os.getpid()

    def reserve(self, purpose: str, host: str, port: int | None = None) -> int:
        """The port for a purpose, reserved at the first call."""
        if purpose not in self.ports:
            self.ports[purpose] = PortReservation(host, port)
        return self.ports[purpose].port

    @property
    def running(self) -> subprocess.Popen[bytes] | None:
        """The process, if it is running."""
        if self.process is None or self.process.poll() is not None:
            return None
        return self.process

    def spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start the program. What it writes itself, before it has opened its log, goes to ``stderr.log``."""
        for reservation in self.ports.values():
            reservation.let_listen()
        with open(self.directory / "stderr.log", "wb") as stderr:
            try:
                self.process = subprocess.Popen(
                    command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=stderr, stderr=subprocess.STDOUT
                )
            except OSError as error:
                raise ServerProcessError(f"{command[0]} cannot be run: {error}") from error
        return self.process

    def ended(self) -> None:
        """Call it when the process has ended."""
        for reservation in self.ports.values():
            reservation.hold_again()

    def kill(self) -> None:
        """End the process now, and wait for its end, which takes a few milliseconds. A stopped process ends too."""
        process = self.running
        if process is not None:
            process.kill()
            process.wait()
        self.ended()

    def release(self) -> None:
        """End the process, give the ports back, and remove the directory if it is a temporary one."""
        if os.getpid() != self._owner:
            return
        self.kill()
        for reservation in self.ports.values():
            reservation.release()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is running."""
        process = self.running
        if process is not None:
            process.send_signal(number)

    def is_stopped_by_signal(self) -> bool:
        """Whether the process has stopped since the last SIGSTOP. True only once for each."""
        process = self.running
        if process is None:
            return False
        if not hasattr(os, "waitid"):
            return True  # macOS before Python 3.13: nothing tells, so take the signal's word
        return os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG) is not None

    # --- the log ---

    def log_mark(self) -> LogMark:
        """The end of the log, now."""
        try:
            found = os.stat(self.directory / LOG_NAME)
        except FileNotFoundError:
            return LogMark(0, 0)
        return LogMark(found.st_ino, found.st_size)

    def log_since(self, mark: LogMark) -> str:
        """What was logged after a mark (or since the oldest line that is left, when that is later)."""
        data = b""
        for path in reversed(self._log_files()):
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                if os.fstat(file.fileno()).st_ino == mark.inode:
                    file.seek(mark.offset)
                    data = file.read() + data
                    break
                data = file.read() + data
        return data.decode("utf-8", "replace")

    def log_tail(self, size: int) -> str:
        """The last bytes of what the server said, to its log and (mostly of a wrong configuration) before that."""
        data = b""
        for path in (self.directory / "stderr.log", *self._log_files()):
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - size))
                data += file.read(size)
        return data[-size:].decode("utf-8", "replace").strip()

    def _log_files(self) -> list[Path]:
        """Oldest first. The server renames a full log file to the same name with a time behind it."""
        return [*sorted(self.directory.glob(f"{LOG_NAME}.*")), self.directory / LOG_NAME]
