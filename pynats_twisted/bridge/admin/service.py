"""The admin endpoint as a service of the bridge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.bridge.admin.lag import ReactorLag
from pynats_twisted.bridge.admin.pages import AdminPages
from pynats_twisted.bridge.http import HTTPListener

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort

    from pynats_twisted.bridge.admin.bridge import AdminBridge
    from pynats_twisted.bridge.config import AdminSection

_log = Logger()


@dataclass(frozen=True)
class AdminLimits:
    """The bounds of the admin listener: a few observers, small bodies."""

    max_connections: int = 100
    request_timeout: float = 10.0
    idle_timeout: float = 60.0
    max_request_line: int = 2048
    max_header_bytes: int = 16384


class AdminService(Service):
    """The admin endpoint.

    :param reactor: the reactor.
    :param section: ``[admin]``.
    :param bridge: the bridge to tell of; a :class:`~pynats_twisted.bridge.service.BridgeService`.

    :ivar listener: the HTTP listener.
    """

    def __init__(self, reactor: Any, section: AdminSection, bridge: AdminBridge) -> None:
        self.setName("admin")
        self._lag = ReactorLag(reactor, bridge.metrics.reactor_lag)
        # No listener of the configuration can have a name with brackets.
        self.listener = HTTPListener(bridge.context, "[admin]", section.listen, AdminLimits())
        self._pages = AdminPages(bridge, section, self._lag, reactor)
        self._pages.add_to(self.listener)
        self._failure: Failure | None = None

    @property
    def port(self) -> IListeningPort | None:
        """What the endpoint listens on, while it does."""
        return self.listener.port

    def startService(self) -> None:
        """Listen.

        :raises CannotListenError: the endpoint cannot be bound.
        """
        super().startService()
        self._failure = None
        self.listener.start().addErrback(self._cannot_listen)
        if self._failure is not None:
            self._failure.raiseException()
        self._lag.start()
        self._pages.streams.start()

    def _cannot_listen(self, failure: Failure) -> None:
        self._failure = failure
        if not failure.check(CancelledError):
            _log.critical("the admin endpoint cannot listen: {error}", error=failure.getErrorMessage())

    def stopService(self) -> Deferred[None]:
        """Answer what was asked, and close.

        :return: fires when all connections are closed. Cancelling it cuts them.
        """
        super().stopService()
        self._lag.stop()
        self._pages.streams.stop()
        return self.listener.stop()
