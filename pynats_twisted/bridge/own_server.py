"""``[server]``: a nats-server that belongs to the bridge and keeps its data, supervised for as long as the bridge runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from pynats_twisted.bridge.config_types import parse_duration
from pynats_twisted.bridge.embedded import RESTART_DELAY, START_TIMEOUT, STOP_TIMEOUT, EmbeddedServer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from pynats_twisted.bridge.config import ServerSection
    from pynats_twisted.bridge.embedded import _Child

CONFIG_FILE: Final = "nats-server.conf"
PID_FILE: Final = "nats-server.pid"

ORPHAN_INTERVAL: Final = 0.1
"""Seconds between two looks at whether a server that was left behind has ended."""

_log = Logger()


class OwnServer(EmbeddedServer):
    """The server that ``[server]`` asks for.

    Starting it does not wait; :meth:`problems` tells when it is there. Whenever it ends it is started again, on the same port with the
    same data. One that was left behind by a bridge that was killed is ended first, as its data can have one owner only.

    :param reactor: the reactor; it has to run processes.
    :param program: the path of the program.
    :param section: ``[server]``.
    :param name: the bridge's name, which becomes the server's.
    """

    def __init__(self, reactor: Any, program: str, section: ServerSection, name: str) -> None:
        super().__init__(reactor, program)
        self.setName("[server]")
        self._section = section
        self._server_name = name
        self.port = section.port
        self._is_ready = False
        self._failure = "it was not started"
        self._orphan_timer: IDelayedCall | None = None

    def problems(self) -> list[str]:
        """Why it is of no use just now, in one sentence; empty while it takes connections."""
        return [] if self._is_ready else [f"server: the nats-server of the bridge is not there: {self._failure}"]

    @property
    def config_path(self) -> str:
        """The path of the server's own configuration."""
        return os.path.join(self._section.store_dir, CONFIG_FILE)

    def server_config(self) -> dict[str, Any]:
        """The server's configuration. JSON is a way to write such a file."""
        section = self._section
        jetstream: dict[str, Any] = {
            "store_dir": section.store_dir,
            "sync_interval": "always" if section.sync == "always" else f"{parse_duration(section.sync):g}s",
        }
        if section.max_store is not None:
            jetstream["max_file_store"] = section.max_store
        if section.domain is not None:
            jetstream["domain"] = section.domain
        document: dict[str, Any] = {"server_name": self._server_name, "host": "127.0.0.1", "port": section.port, "jetstream": jetstream}
        if section.leaf is not None:
            remote: dict[str, Any] = {"urls": section.leaf.urls}
            if section.leaf.creds is not None:
                remote["credentials"] = section.leaf.creds
            document["leafnodes"] = {"remotes": [remote]}
        return document

    # --- start and end -----------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._failure = "it is being started"
        self.directory = self._section.store_dir

    def _prepare(self) -> None:
        os.makedirs(self._section.store_dir, mode=0o700, exist_ok=True)
        # URLs of leaf nodes may have passwords in them.
        with open(os.open(self.config_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            json.dump(self.server_config(), stream, indent=2, ensure_ascii=False)

    def _arguments(self) -> list[str]:
        return ["--config", self.config_path]

    def _spawn(self) -> None:
        self._restart = None
        orphan = self._orphan()
        if orphan is not None:
            _log.warn("a nats-server of a bridge that was killed still runs as process {pid}; it is ended", pid=orphan)
            self._end_orphan(orphan, self._reactor.seconds() + STOP_TIMEOUT)
            return
        self._begin()

    def _begin(self) -> None:
        try:
            self._prepare()
        except OSError as error:
            self._gone(f"{error.filename or self._section.store_dir} cannot be used: {error.strerror}")
            _log.error("{problem}; it is tried again in {delay} s", problem=self._failure, delay=RESTART_DELAY[1])
            self._restart = self._reactor.callLater(RESTART_DELAY[1], self._spawn)
            return
        super()._spawn()
        self._pid_file.write_text(f"{self.pid}\n")

    def stopService(self) -> Deferred[None]:
        """End it; its data stays.

        :returns: fires when the process is gone, at the latest ``STOP_TIMEOUT`` later. Cancelling it kills the process.
        """
        self._gone("it was stopped")
        if self._orphan_timer is not None:
            self._orphan_timer.cancel()
            self._orphan_timer = None
        done: Deferred[None] = Deferred(lambda _: self.kill())
        super().stopService().addCallback(lambda _: None if done.called else done.callback(None))
        return done

    def _close(self) -> None:
        self.directory = None
        with suppress(OSError):
            # Where its directory could not be used, there is none.
            self._pid_file.unlink()

    def _gone(self, why: str) -> None:
        self._is_ready = False
        self._failure = why

    def child_ready(self, port: int) -> None:
        """It takes connections."""
        self._is_ready = True
        super().child_ready(port)

    def child_late(self, child: _Child) -> None:
        """It was not ready in time: it is killed, and then started again as any server that ends."""
        _log.error("nats-server was not ready within {limit:g} s; its log ends with:\n{log}", limit=START_TIMEOUT, log=child.log)
        child.kill()

    def child_ended(self, child: _Child, reason: str) -> None:
        """The process is gone."""
        self._gone(reason)
        if self.running:
            _log.error("the log of nats-server ends with:\n{log}", log=child.log)
        super().child_ended(child, reason)

    # --- what a killed bridge leaves behind ----------------------------------------------------------------------

    @property
    def _pid_file(self) -> Path:
        return Path(self._section.store_dir) / PID_FILE

    def _orphan(self) -> int | None:
        """The process of a server with this configuration that runs already, or None."""
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        # The number may belong to any other process by now.
        return pid if pid > 1 and self.config_path in _command_line(pid) else None

    def _end_orphan(self, pid: int, deadline: float) -> None:
        self._orphan_timer = None
        # One that has ended and was not waited for has no command line any more.
        if self.config_path not in _command_line(pid):
            self._begin()
            return
        try:
            os.kill(pid, signal.SIGTERM if self._reactor.seconds() < deadline else signal.SIGKILL)
        except ProcessLookupError:
            # It has ended just now; the next look sees it.
            self._failure = "it is being started"
        except PermissionError as error:
            self._gone(f"process {pid} has its data and cannot be ended: {error.strerror}")
        self._orphan_timer = self._reactor.callLater(ORPHAN_INTERVAL, self._end_orphan, pid, deadline)


def _command_line(pid: int) -> str:
    """The command line of a process; empty where there is none, or it cannot be seen."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "surrogateescape")
    except OSError:
        if os.path.isdir("/proc/self"):
            return ""
    try:
        return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
