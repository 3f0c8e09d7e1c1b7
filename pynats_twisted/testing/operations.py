"""What can be done with a nats-server, as generators that :mod:`pynats_twisted.testing.steps` runs."""

from __future__ import annotations

import abc
import contextlib
import json
import signal
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from pynats_twisted.errors import ServerProcessError
from pynats_twisted.testing.launch import LOG_NAME, Holdings
from pynats_twisted.testing.program import find_server_program
from pynats_twisted.testing.settings import ClusterMember, ServerSettings
from pynats_twisted.testing.steps import Fetch, Pause, Steps

if TYPE_CHECKING:
    from typing_extensions import Self

    from pynats_twisted.testing.certificates import CertificateAuthority

POLL = 0.005
"""Seconds between two looks at whether something has happened."""

MONITOR_TIMEOUT = 5.0
"""Seconds that a monitoring page may take."""

LOG_TAIL = 8192
"""The bytes of log that errors show."""

_RELOADED = "Reloaded server configuration"
_NOT_RELOADED = "Failed to reload server configuration: "
_LAME_DUCK = "Entering lame duck mode"


class ServerOperations(abc.ABC):
    """One nats-server: where it is, and what can be done with it. The base of the two classes that people use."""

    def __init__(self, settings: ServerSettings, member: ClusterMember | None = None) -> None:
        self._settings = settings
        self._member = member
        self._holdings = Holdings(settings.directory)
        # At the end of this object or of the interpreter, whatever comes first.
        self._finalizer = weakref.finalize(self, self._holdings.release)
        try:
            self._reserve_ports()
            self._certify()
        except BaseException:
            self._finalizer()
            raise
        self._program = ""
        self._paused = False

    @abc.abstractmethod
    def _now(self) -> float:
        """Seconds of a clock that never goes back."""

    def __repr__(self) -> str:
        process = self._holdings.running
        state = f"pid {process.pid}" if process is not None else "not running"
        return f"<{type(self).__name__} {self.url} {state}>"

    # --- where it is ---

    @property
    def host(self) -> str:
        """The address that it listens on."""
        return self._settings.host

    @property
    def port(self) -> int:
        """The client port; known before the first start, and the same for the whole life of this object."""
        return self._holdings.ports["client"].port

    @property
    def host_port(self) -> str:
        """``host:port`` of the client port, as clusters gossip it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL for clients, without credentials: ``tls://`` when the server speaks TLS only, else ``nats://``."""
        tls = self._settings.server_tls
        return f"{'nats' if tls is None or tls.optional else 'tls'}://{self.host_port}"

    @property
    def websocket_url(self) -> str:
        """The URL for WebSocket clients: ``ws://``, or ``wss://`` when the server has TLS."""
        scheme = "ws" if self._settings.server_tls is None else "wss"
        return f"{scheme}://{self._host_and('websocket')}"

    @property
    def monitoring_url(self) -> str:
        """The URL of the monitoring pages."""
        return f"http://{self._host_and('monitoring')}"

    @property
    def directory(self) -> Path:
        """Where its files are: configuration, log, certificates, and JetStream's store in ``jetstream``."""
        return self._holdings.directory

    @property
    def is_running(self) -> bool:
        """Whether the process is there (a paused one is)."""
        return self._holdings.running is not None

    @property
    def pid(self) -> int | None:
        """The id of the running process."""
        process = self._holdings.running
        return None if process is None else process.pid

    @property
    def exit_code(self) -> int | None:
        """How the last process ended: its exit code, or the negative number of the signal that ended it; None: it runs or never ran."""
        process = self._holdings.process
        return None if process is None else process.poll()

    def log_tail(self, size: int = LOG_TAIL) -> str:
        """The last ``size`` bytes of its log."""
        return self._holdings.log_tail(size)

    def _host_and(self, purpose: str) -> str:
        reservation = self._holdings.ports.get(purpose)
        if reservation is None:
            raise ServerProcessError(f"this server has no {purpose} port; it was made without {purpose}=True")
        return f"{reservation.host}:{reservation.port}"

    # --- what it is made of ---

    def _reserve_ports(self) -> None:
        host = self.host
        self._holdings.reserve("client", host, self._settings.port)
        if self._settings.monitoring or self._member is not None:
            self._holdings.reserve("monitoring", host)
        if self._settings.websocket:
            self._holdings.reserve("websocket", host)
        if self._member is not None:
            self._member.routes.append(f"nats://127.0.0.1:{self._holdings.reserve('cluster', '127.0.0.1')}")

    def _certify(self) -> None:
        self._tls_block: dict[str, Any] | None = None
        self._authority: CertificateAuthority | None = None
        tls = self._settings.server_tls
        if tls is None:
            return
        # Only servers with TLS need the package that certificates are made with.
        from pynats_twisted.testing.certificates import CertificateAuthority

        self._authority = tls.authority or CertificateAuthority()
        certificate = tls.certificate or self._authority.issue_server(tls.names)
        self._tls_block = tls.block(self._authority.write(self.directory), certificate.write(self.directory, "server"))

    def _write_config(self, settings: ServerSettings) -> None:
        cluster: dict[str, Any] | None = None
        if self._member is not None:
            ours = self._holdings.ports["cluster"]
            cluster = {"name": self._member.name, "host": ours.host, "port": ours.port, "routes": self._member.routes}
        websocket = self._holdings.ports.get("websocket")
        text = settings.text(
            directory=self.directory, tls=self._tls_block, websocket=None if websocket is None else websocket.port, cluster=cluster
        )
        path = self.directory / "server.conf"
        path.touch(mode=0o600)  # it may hold passwords
        path.write_text(text, "utf-8")

    def _command(self) -> list[str]:
        settings = self._settings
        self._program = self._program or find_server_program(settings.program)
        # Addresses and files of our own stand on the command line, where they win over whatever the configuration says.
        command = [self._program, "--config", "server.conf", "--addr", self.host, "--port", str(self.port)]
        command += ["--log", LOG_NAME, "--ports_file_dir", "."]
        if "monitoring" in self._holdings.ports:
            command += ["--http_port", str(self._holdings.ports["monitoring"].port)]
        return command + ["--debug"] * settings.debug + ["--trace"] * settings.trace

    # --- operations ---

    def _launch(self) -> None:
        if not self._finalizer.alive:
            raise ServerProcessError("this server was closed; make a new one")
        if self.is_running:
            raise ServerProcessError(f"the server runs already, with pid {self.pid}")
        self._write_config(self._settings)
        for old in self.directory.glob("*.ports"):
            old.unlink()
        self._paused = False
        self._holdings.spawn(self._command())

    def _starting(self) -> Steps[Self]:
        self._launch()
        yield from self._becoming_ready()
        return self

    def _becoming_ready(self) -> Steps[None]:
        """Wait until the server has written its ports file, which it does when it accepts clients."""
        deadline = self._now() + self._settings.start_timeout
        try:
            while not self._ports_file_is_there():
                if not self.is_running:
                    raise self._error(f"the server ended while it started, with exit code {self.exit_code}")
                if self._now() > deadline:
                    raise self._error(f"the server did not accept clients within {self._settings.start_timeout} seconds")
                yield Pause(POLL)
        except BaseException:
            self._holdings.kill()
            raise

    def _ports_file_is_there(self) -> bool:
        process = self._holdings.running
        if process is None:
            return False
        for path in self.directory.glob(f"*_{process.pid}.ports"):
            # A file that is being written is no JSON yet.
            with contextlib.suppress(FileNotFoundError, ValueError):
                ports = json.loads(path.read_bytes())
                return any(urlsplit(url).port == self.port for url in ports.get("nats", ()))
        return False

    def _stopping(self) -> Steps[int | None]:
        deadline = self._now() + self._settings.stop_timeout
        self._holdings.signal(signal.SIGTERM)
        if self._paused:
            self._holdings.signal(signal.SIGCONT)
            self._paused = False
        while self.is_running:
            if self._now() > deadline:
                self._holdings.kill()
            else:
                yield Pause(POLL / 5)
        self._holdings.ended()
        return self.exit_code

    def _killing(self) -> Steps[int | None]:
        self._holdings.signal(signal.SIGKILL)
        while self.is_running:
            yield Pause(POLL / 5)
        self._paused = False
        self._holdings.ended()
        return self.exit_code

    def _restarting(self, *, kill: bool, down: float) -> Steps[Self]:
        yield from self._killing() if kill else self._stopping()
        if down > 0:
            yield Pause(down)
        return (yield from self._starting())

    def _pausing(self) -> Steps[None]:
        self._require_running("pause")
        if self._paused:
            return
        self._paused = True
        self._holdings.signal(signal.SIGSTOP)
        while not self._holdings.is_stopped_by_signal():
            self._require_running("pause")
            yield Pause(POLL / 5)

    def _resume(self) -> None:
        self._require_running("resume")
        self._holdings.signal(signal.SIGCONT)
        self._paused = False

    def _entering_lame_duck(self) -> Steps[None]:
        self._require_running("enter lame duck mode")
        mark = self._holdings.log_mark()
        deadline = self._now() + self._settings.start_timeout
        self._holdings.signal(signal.SIGUSR2)
        # Without clients the server ends at once.
        while self.is_running and _LAME_DUCK not in self._holdings.log_since(mark):
            if self._now() > deadline:
                raise self._error("the server did not enter lame duck mode")
            yield Pause(POLL)

    def _reloading(self, changes: Mapping[str, Any]) -> Steps[None]:
        self._require_running("reload")
        settings = self._settings.changed(changes)
        mark = self._holdings.log_mark()
        deadline = self._now() + self._settings.start_timeout
        self._write_config(settings)
        self._holdings.signal(signal.SIGHUP)
        while _RELOADED not in (log := self._holdings.log_since(mark)):
            _, failed, reason = log.partition(_NOT_RELOADED)
            if failed and "\n" in reason:
                raise self._error(f"the server refused the new configuration: {reason.splitlines()[0].strip()}")
            if not self.is_running:
                raise self._error("the server ended while it reloaded")
            if self._now() > deadline:
                raise self._error("the server did not reload its configuration")
            yield Pause(POLL)
        self._settings = settings  # which a restart writes again

    def _ending(self, timeout: float) -> Steps[int]:
        """Wait until the process has ended by itself."""
        deadline = self._now() + timeout
        while self.is_running:
            if self._now() > deadline:
                raise self._error(f"the server still runs after {timeout} seconds")
            yield Pause(POLL)
        self._holdings.ended()
        code = self.exit_code
        if code is None:
            raise ServerProcessError("the server has not been started")
        return code

    def _asking(self, page: str, parameters: Mapping[str, Any]) -> Steps[dict[str, Any]]:
        self._require_running("ask for monitoring")
        answer = yield from self._looking(page, parameters)
        if answer is None:
            raise self._error(f"the monitoring page {page} of the server did not answer with JSON")
        return answer

    def _looking(
        self, page: str, parameters: Mapping[str, Any] | None = None, timeout: float = MONITOR_TIMEOUT
    ) -> Steps[dict[str, Any] | None]:
        """A monitoring page, or None as long as the server does not answer."""
        self._host_and("monitoring")
        ours = self._holdings.ports["monitoring"]
        query = urlencode({name: str(value).lower() if isinstance(value, bool) else value for name, value in (parameters or {}).items()})
        body = yield Fetch(ours.host, ours.port, f"/{page}" + (f"?{query}" if query else ""), timeout)
        try:
            answer = json.loads(body or b"")
        except ValueError:
            return None
        return answer if isinstance(answer, dict) else None

    def _closing(self) -> Steps[None]:
        try:
            yield from self._stopping()
        finally:
            self._finalizer()

    def _require_running(self, action: str) -> None:
        if not self.is_running:
            ended = f": it ended with exit code {self.exit_code}" if self.exit_code is not None else ""
            raise self._error(f"cannot {action}: the server is not running{ended}")

    def _error(self, text: str) -> ServerProcessError:
        return ServerProcessError(text, self.log_tail())
