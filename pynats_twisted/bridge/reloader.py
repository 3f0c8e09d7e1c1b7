"""Reading the configuration's file again: on SIGHUP, when it has changed, and when somebody asks."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Final, Literal

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pynats_twisted.bridge.config import BridgeConfig, read_config
from pynats_twisted.bridge.config_diff import say_the_same
from pynats_twisted.errors import ConfigurationError

if TYPE_CHECKING:
    from pynats_twisted.bridge.reload import ReloadReport
    from pynats_twisted.bridge.service import BridgeService

DiskState = Literal["same", "differs", "invalid"]
"""How the file is to what runs: it says the same, something else, or nothing that can be used."""

WATCH_INTERVAL: Final = 2.0
"""Seconds between two looks at a file that is watched."""

_log = Logger()


def file_signature(path: str) -> tuple[int, int, int] | None:
    """What is another one when the file is; None where it cannot be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Reloader:
    """Reloads a bridge from its file.

    :param service: the bridge.
    :param path: the file.
    """

    def __init__(self, service: BridgeService, path: str) -> None:
        self._service = service
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    def reload(self) -> Deferred[ReloadReport]:
        """Read the file, and go over to it; see :meth:`.BridgeService.reload`.

        :returns: fires with what was done. It fails with a ``ConfigurationError`` where the file cannot be used; then the bridge goes on
            as before, logs why, and ``config_reload_success`` is 0.
        """
        try:
            config = self._read()
        except ConfigurationError as error:
            self._service.reload_refused(str(error))
            return fail(error)
        for warning in config.warnings:
            _log.warn("{problem}", problem=str(warning))
        return self._service.reload(config)

    def disk_state(self) -> DiskState:
        """How the file is now to what runs."""
        try:
            config = self._read()
        except ConfigurationError:
            return "invalid"
        return "same" if say_the_same(self._service.config, config) else "differs"

    def _read(self) -> BridgeConfig:
        return read_config(self._path, self._service.factories.values())

    def reload_on_sighup(self, reactor: Any) -> None:
        """Make SIGHUP reload, from the moment that the reactor runs. On systems without that signal nothing happens."""

        def install() -> None:
            # Only the main thread may do this; a reactor elsewhere got no signals to begin with.
            if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(self._reload_because, "SIGHUP"))

        reactor.callWhenRunning(install)

    def _reload_because(self, reason: str) -> None:
        _log.info("{reason}: reading {path} again", reason=reason, path=self._path)
        # What went wrong was logged.
        self.reload().addErrback(lambda failure: failure.trap(ConfigurationError) and None)

    def reload_on_change(self, reactor: Any) -> None:
        """Look at the file every two seconds, and reload when it is another one, until the reactor stops."""
        looking = LoopingCall(self._look)
        looking.clock = reactor

        def install() -> None:
            self._seen = file_signature(self._path)
            looking.start(WATCH_INTERVAL, now=False).addErrback(lambda failure: _log.failure("the file is not watched any more", failure))

        reactor.callWhenRunning(install)
        reactor.addSystemEventTrigger("before", "shutdown", lambda: looking.stop() if looking.running else None)

    def _look(self) -> None:
        found = file_signature(self._path)
        # A file that is gone just now is being replaced.
        if found is not None and found != self._seen:
            self._seen = found
            self._reload_because("it has changed")
