"""The NATS connections of a bridge: one client for each ``[nats.NAME]``, what is counted of it, and whether it is ready."""

from __future__ import annotations

from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.bridge.config import NatsSection
from pynats_twisted.bridge.metrics import NatsMetrics
from pynats_twisted.client.client import NatsClient
from pynats_twisted.client.service import NatsService
from pynats_twisted.client.status import Connected, ConnectFailed, Disconnected, Reconnected, SlowConsumer
from pynats_twisted.errors import NatsError

RTT_INTERVAL = 15.0
"""Seconds between two measurements of a connection's round trip."""

_log = Logger()


class Connection(MultiService):
    """One ``[nats.NAME]``: it connects in the background for as long as it takes, and is never given up.

    :param reactor: the reactor.
    :param name: NAME.
    :param section: the section.
    :param client_name: the connection's name in the server's reports.
    :param metrics: where the connection is counted.

    :ivar client: the client, the same one for the whole life.
    """

    def __init__(self, reactor: Any, name: str, section: NatsSection, client_name: str, metrics: NatsMetrics) -> None:
        super().__init__()
        self.setName(f"nats.{name}")
        self.section = section
        self.service = NatsService(reactor, **section.client_options(client_name))
        self.service.setServiceParent(self)
        self.client: NatsClient = self.service.client
        self.client.add_listener(self._on_event)
        self._nats_name = name
        self._metrics = metrics
        self._failure_logged = False
        self._rtt = LoopingCall(self._measure)
        self._rtt.clock = reactor

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up at this moment."""
        return self.client.is_connected

    def problems(self) -> list[str]:
        """Why the connection is of no use just now; empty while it is up."""
        return [] if self.is_connected else [f"nats.{self._nats_name} is {self.client.status.value}"]

    def startService(self) -> None:
        super().startService()
        # Not earlier: a connection that takes the place of another one is made before that has ended.
        self._metrics.connected_when(lambda: self.is_connected)
        running = self._rtt.start(RTT_INTERVAL, now=False)
        running.addErrback(lambda failure: _log.failure("nats.{name}: measuring failed", failure, name=self._nats_name))

    def stopService(self) -> Deferred[None]:
        """Drain the client: fires when it is closed. Cancelling it closes the client at once."""
        Service.stopService(self)
        if self._rtt.running:
            self._rtt.stop()

        def cut_short(failure: Failure) -> Deferred[None]:
            failure.trap(CancelledError)
            return self.client.close()

        return self.service.stopService().addErrback(cut_short)

    def _on_event(self, event: object) -> None:
        if isinstance(event, (Connected, Reconnected)):
            self._failure_logged = False
            _log.info("nats.{name}: connected to {url}", name=self._nats_name, url=event.url)
            if isinstance(event, Reconnected):
                self._metrics.reconnects.inc()
        elif isinstance(event, Disconnected):
            reason = f": {event.error}" if event.error is not None else ""
            _log.warn("nats.{name}: the connection to {url} was lost{reason}", name=self._nats_name, url=event.url, reason=reason)
        elif isinstance(event, ConnectFailed) and not self._failure_logged:
            # One line for a whole outage: the next attempts fail for the same reason, every few seconds.
            self._failure_logged = True
            _log.warn("nats.{name}: cannot connect: {error}", name=self._nats_name, error=event.error)
        elif isinstance(event, SlowConsumer):
            self._metrics.slow_consumer.inc()

    async def _measure_rtt(self) -> None:
        try:
            self._metrics.rtt.set(await self.client.rtt())
        except NatsError as error:
            # Not worth a warning: the connection reports its end by itself.
            _log.debug("nats.{name}: no round trip: {error}", name=self._nats_name, error=error)

    def _measure(self) -> Deferred[None] | None:
        return Deferred.fromCoroutine(self._measure_rtt()) if self.is_connected else None
