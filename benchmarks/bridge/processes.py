"""The processes of a row: the bridge, and the programs beside it. None outlives the harness by more than its time, and most not at all."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pynats_twisted.testing.ports import PortReservation

from ..contestants import ROOT

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 30.0
# SIGALRM ends the process, whatever it is doing.
_BRIDGE = "import signal, sys; signal.alarm(int(sys.argv.pop(1))); from pynats_twisted.bridge.tap import main; main()"


class RowError(Exception):
    """A row could not be measured. The text is for people."""


def allow_many_files() -> int:
    """Raise the number of files that this process and its children may have open to the most that is allowed; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def wait_for(condition: Callable[[], Any], what: str, timeout: float = _PATIENCE, every: float = 0.02) -> Any:
    """What the condition returns when it is true.

    :raises RowError: it is not within the timeout.
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise RowError(f"{what} did not happen within {timeout:g} s")
        time.sleep(every)
    return found


class Process:
    """What the system says of a running process."""

    process: subprocess.Popen[bytes]

    def cpu(self) -> float:
        """Seconds of processor time so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident(self) -> int:
        """Bytes of memory that it has."""
        return self._memory("VmRSS:")

    def peak(self) -> int:
        """The most bytes of memory that it ever had."""
        return self._memory("VmHWM:")

    def _memory(self, name: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

    def open_files(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class Program(Process):
    """One of ``programs/``, as a context manager.

    :param name: the module.
    :param limit: seconds after which it ends itself.
    :param job: what it is to do.
    """

    def __init__(self, name: str, limit: float, **job: Any) -> None:
        self.name = name
        self._buffer = b""
        command = [sys.executable, "-m", f"benchmarks.bridge.programs.{name}", json.dumps({**job, "limit": limit})]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def hear(self, timeout: float = _PATIENCE) -> dict[str, Any]:
        """What it says next.

        :raises RowError: it says nothing, or ends.
        """
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise RowError(f"{self.name} said nothing for {timeout:g} s")
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                raise RowError(f"{self.name} ended: {self._last_words()}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said

    def tell(self, command: str) -> None:
        """Give it a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, command: str, timeout: float = _PATIENCE) -> dict[str, Any]:
        """Give it a command, and hear what it says to it."""
        self.tell(command)
        return self.hear(timeout)

    def _last_words(self) -> str:
        assert self.process.stderr is not None
        lines = self.process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.wait()}"

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        if self.process.stderr is not None:
            self.process.stderr.close()


class Bridge(Process):
    """A bridge process, as a context manager that writes the configuration, starts it and waits until it is ready.

    :param text: the configuration but for ``[bridge]`` and ``[admin]``.
    :param folder: where its configuration and its log are.
    :param limit: seconds after which it ends itself.
    :param is_started: false leaves the starting to the row.
    :ivar starts: the times (:func:`time.time`) at which it was started.
    """

    def __init__(self, text: str, folder: Path, limit: float, *, is_started: bool = True) -> None:
        self.admin = PortReservation()
        self.config = folder / "bridge.toml"
        self.log = folder / "bridge.log"
        self._limit = int(limit)
        self._is_started = is_started
        self.starts: list[float] = []
        self.configure(text)

    def configure(self, text: str) -> None:
        """Write the configuration; it counts from the next start or reload."""
        head = f'[bridge]\nname = "bench"\n[admin]\nlisten = "tcp:{self.admin.port}:interface=127.0.0.1"\n'
        self.config.write_text(head + text, "utf-8")

    def start(self) -> None:
        """Start the process, without waiting for it."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-c", _BRIDGE, str(self._limit), "--config", str(self.config), "--log-level", "warn"]
            self.starts.append(time.time())
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL."""
        self._end()

    def stop(self, timeout: float) -> tuple[int, float]:
        """SIGTERM; returns the exit code, and the seconds that it took.

        :raises RowError: it takes longer than the timeout.
        """
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout), time.monotonic() - begun
        except subprocess.TimeoutExpired:
            raise RowError(f"the bridge did not stop within {timeout:g} s") from None

    def fetch(self, path: str, timeout: float = 5.0) -> tuple[int, str]:
        """A page of its admin endpoint: status and text; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin.port}{path}", timeout=timeout) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self) -> None:
        """Wait until ``/readyz`` is 200.

        :raises RowError: it ended, or is not ready in time; the text says why not.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            status, text = self.fetch("/readyz")
            if status == 200:
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RowError(f"the bridge is not ready: {text or self.last_log()}")
            time.sleep(0.02)

    def metric(self, name: str, route: str = "") -> float:
        """The sum of a metric over its labels but the route."""
        total = 0.0
        for line in self.fetch("/metrics")[1].splitlines():
            head, _, value = line.rpartition(" ")
            found, _, labels = head.partition("{")
            if found == f"nats_bridge_{name}" and (not route or f'route="{route}"' in labels):
                total += float(value)
        return total

    def last_log(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", errors="replace")[-2000:]

    def tracebacks(self) -> int:
        """How many tracebacks are in its log."""
        text = self.log.read_text("utf-8", errors="replace")
        return text.count("Traceback") + text.count("Unhandled")

    def __enter__(self) -> Bridge:
        if self._is_started:
            self.start()
            try:
                self.wait_ready()
            except BaseException:
                self.kill()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.starts:
            self._end()
        self.admin.release()


@contextlib.contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Ports that nobody else gets."""
    reservations = [PortReservation() for _ in range(count)]
    try:
        yield [reservation.port for reservation in reservations]
    finally:
        for reservation in reservations:
            reservation.release()
