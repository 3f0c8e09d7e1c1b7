"""The client in a Twisted application's service tree."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import NatsError
from ..protocol.options import ClientOptions
from .client import NatsClient
from .status import ClientStatus


class NatsService(Service):
    """Connects when it is started and drains when it is stopped.

    Where no server is there, at the start or later, it goes on trying in the background: ``retry_on_failed_connect`` is on
    and ``max_reconnect_attempts`` endless, unless the options say otherwise. Credentials that one server refuses twice end it.
    A service that was stopped can be started again: with a new client.

    :param reactor: connections and all time come from it.
    :param servers: a URL, several in a list or separated by commas.
    :param options: see :class:`~pynats_twisted.ClientOptions`.
    :ivar client: the client of now; there is one before the service is started, so that it can be subscribed with.
    :raises ConfigurationError: an option or a URL is not valid; the text names it.
    """

    _log = Logger()

    def __init__(self, reactor: Any, servers: Any = "nats://127.0.0.1:4222", **options: Any) -> None:
        options.setdefault("retry_on_failed_connect", True)
        options.setdefault("max_reconnect_attempts", -1)
        self._reactor = reactor
        self._options = ClientOptions.from_keywords(servers, **options)
        self.client = NatsClient(reactor, self._options)
        self._stopped = False

    def startService(self) -> None:
        """Begin to connect. Does not wait."""
        super().startService()
        if self._stopped or self.client.status is ClientStatus.CLOSED:
            # The old one may still be on its way to its end.
            self._stopped = False
            self.client = NatsClient(self._reactor, self._options)
        self.client.start().addErrback(self._start_failed)

    def _start_failed(self, failure: Failure) -> None:
        if self.running:
            self._log.failure("The NATS client gave up connecting", failure=failure)

    def when_connected(self) -> Deferred[NatsClient]:
        """Fires with the client when it is connected."""
        return self.client.when_connected()

    def stopService(self) -> Deferred[None]:
        """Drain, within ``drain_timeout``, and close. Fires when the connection is gone; never fails."""
        super().stopService()
        self._stopped = True
        client = self.client
        if client.status not in (ClientStatus.CONNECTED, ClientStatus.DRAINING):
            return client.close()
        return client.drain().addErrback(self._drain_failed)

    def _drain_failed(self, failure: Failure) -> None:
        failure.trap(NatsError)
        self._log.warn("The NATS client was not drained: {error}", error=failure.value)
