"""A whole bridge as a Twisted service: connections, listeners, routes and the admin pages, and the order in which they stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.bridge.admin import AdminService
from pynats_twisted.bridge.config import BridgeConfig
from pynats_twisted.bridge.config_errors import Problem
from pynats_twisted.bridge.connections import Connection
from pynats_twisted.bridge.context import RouteContext
from pynats_twisted.bridge.http import HTTPListener
from pynats_twisted.bridge.interfaces import IRoute, IRouteFactory
from pynats_twisted.bridge.metrics import BridgeMetrics
from pynats_twisted.bridge.routes import all_factories, index_factories
from pynats_twisted.bridge.stopping import Step, Stop
from pynats_twisted.errors import ConfigError, ConfigurationError

_log = Logger()


class BridgeService(MultiService):
    """A bridge. Making it opens nothing, starting it opens everything, stopping it drains. It is started once.

    A stop goes through these steps, all of them together bounded by ``drain_timeout``: the bridge says that it is not ready;
    listeners and routes take no new input; what is in flight is finished; what was published is flushed; the NATS connections
    are drained and closed. After ``drain_timeout`` the rest is cut off.

    :param reactor: the reactor.
    :param config: the configuration.
    :param factories: the route types to know; by default the built-in ones and those of plugins.
    :raises ConfigError: a route cannot be made.

    :ivar config: the configuration.
    :ivar metrics: what the bridge counts.
    :ivar context: what the routes got.
    :ivar connections: the NATS connections by name.
    :ivar listeners: the HTTP listeners by name.
    :ivar routes: the routes by name.
    :ivar admin: the admin pages, or None.
    """

    def __init__(self, reactor: Any, config: BridgeConfig, factories: Iterable[IRouteFactory] | None = None) -> None:
        super().__init__()
        self._reactor = reactor
        self._stop: Stop | None = None
        self.config = config
        self.metrics = BridgeMetrics(config.bridge.name)
        self.connections: dict[str, Connection] = {}
        self.listeners: dict[str, HTTPListener] = {}
        self.routes: dict[str, IRoute] = {}
        self.admin: AdminService | None = None
        clients: dict[str, Any] = {}
        self.context = RouteContext(
            reactor=reactor, bridge=config.bridge, metrics=self.metrics, clients=clients, http_listeners=self.listeners
        )
        for name, section in config.nats.items():
            client_name = f"nats-bridge/{config.bridge.name}/{name}"
            connection = Connection(reactor, name, section, client_name, self.metrics.nats(name))
            connection.setServiceParent(self)
            self.connections[name] = connection
            clients[name] = connection.client
        for name, listen in config.listen.items():
            self.listeners[name] = HTTPListener(self.context, name, listen.endpoint, listen)
        self._make_routes(all_factories() if factories is None else index_factories(factories))
        if config.admin is not None:
            self.admin = AdminService(reactor, config.admin, self)
            # A route may be called "admin", and services of one parent need different names.
            self.admin.setName("[admin]")
            self.admin.setServiceParent(self)

    def _make_routes(self, factories: Mapping[str, IRouteFactory]) -> None:
        problems: list[Problem] = []
        for name, route_config in self.config.routes.items():
            try:
                route = factories[route_config.type].make_route(name, route_config, self.context)
            except ConfigurationError as error:
                problems.append(Problem(self.config.filename, 0, f"routes.{name}", "keys that do not fit together", str(error)))
                continue
            self.routes[name] = route
            route.setServiceParent(self)
        if problems:
            raise ConfigError(problems)

    # --- state --------------------------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether the bridge was told to stop."""
        return self.context.draining

    def problems(self) -> list[str]:
        """What keeps the bridge from doing its work just now, one sentence each; an empty list says that it is ready."""
        if self.draining or not self.running:
            return ["the bridge is stopping" if self.draining else "the bridge is not running"]
        problems: list[str] = []
        for connection in self.connections.values():
            if connection.section.required:
                problems += connection.problems()
        for listener in self.listeners.values():
            problems += listener.problems()
        for name in self.routes:
            if self._is_required(name):
                problems += self._route_problems(name)
        return problems

    def degraded(self) -> list[str]:
        """What does not work just now although the bridge as a whole is ready: connections that are not required, and their routes."""
        if self.draining or not self.running:
            return []
        problems: list[str] = []
        for connection in self.connections.values():
            if not connection.section.required:
                problems += connection.problems()
        for name in self.routes:
            if not self._is_required(name):
                problems += self._route_problems(name)
        return problems

    def _is_required(self, route_name: str) -> bool:
        """Whether a route uses no connection, or one that the bridge needs to be ready."""
        used = [name for _, name in self.config.routes[route_name].nats_names()]
        return not used or any(self.connections[name].section.required for name in used)

    def _route_problems(self, name: str) -> list[str]:
        return [f"routes.{name}: {problem}" for problem in self.routes[name].problems()]

    # --- life ---------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Start everything. NATS connections are made in the background.

        :raises CannotListenError: a listener cannot be bound; what was started is stopped again.
        :raises RuntimeError: the bridge was stopped.
        """
        if self._stop is not None:
            raise RuntimeError("a bridge that was stopped cannot be started again; make a new one")
        _log.info("bridge {name}: starting with {count} routes", name=self.config.bridge.name, count=len(self.routes))
        try:
            super().startService()
            self._listen()
        except CannotListenError:
            self.stopService()
            raise

    def _listen(self) -> None:
        failures: list[Failure] = []
        for listener in self.listeners.values():
            listener.start().addErrback(self._listen_failed, listener, failures)
        if failures:
            failures[0].raiseException()

    def _listen_failed(self, failure: Failure, listener: HTTPListener, failures: list[Failure]) -> None:
        if not failure.check(CancelledError):
            failures.append(failure)
            _log.critical("{listener} cannot listen: {error}", listener=listener.name, error=failure.getErrorMessage())

    def stopService(self) -> Deferred[None]:
        """Drain and stop.

        :returns: fires when all is closed, at the latest after ``drain_timeout``. It does not fail.
        """
        if self._stop is None:
            Service.stopService(self)
            self.context.draining = True
            _log.info("bridge {name}: stopping", name=self.config.bridge.name)
            self._stop = Stop(self._reactor, self.config.bridge.drain_timeout)
            self._stop.run(self._stop_steps())
            self._stop.when_done().addCallback(lambda _: _log.info("bridge {name}: stopped", name=self.config.bridge.name))
        return self._stop.when_done()

    def cut_short(self) -> None:
        """End a running drain now, as if its time were over."""
        if self._stop is not None:
            self._stop.cut_short()

    def _stop_steps(self) -> Iterator[Step]:
        inputs: dict[str, Callable[[], Any]] = {listener.name: listener.stop for listener in self.listeners.values()}
        inputs |= {f"routes.{name}": route.stopService for name, route in self.routes.items()}
        yield "finish what is in flight", inputs
        # A client's drain also flushes what was published.
        yield "drain", {f"nats.{name}": connection.stopService for name, connection in self.connections.items()}
        yield "close", {"admin": self.admin.stopService} if self.admin is not None else {}
