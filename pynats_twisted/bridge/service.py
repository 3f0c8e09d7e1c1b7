"""A whole bridge as a Twisted service: connections, listeners, routes and the admin pages, and the order in which they stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.bridge.admin import AdminService
from pynats_twisted.bridge.config import BridgeConfig, NatsSection
from pynats_twisted.bridge.config_errors import Problem
from pynats_twisted.bridge.config_output import format_config
from pynats_twisted.bridge.connections import Connection
from pynats_twisted.bridge.context import RouteContext
from pynats_twisted.bridge.embedded import find_nats_server
from pynats_twisted.bridge.http import HTTPListener
from pynats_twisted.bridge.interfaces import IDegradable, IRoute, IRouteFactory
from pynats_twisted.bridge.metrics import BridgeMetrics
from pynats_twisted.bridge.own_server import OwnServer
from pynats_twisted.bridge.reload import Reload, ReloadReport
from pynats_twisted.bridge.routes import all_factories, index_factories
from pynats_twisted.bridge.stopping import Step, Stop
from pynats_twisted.bridge.switches import RouteSwitches
from pynats_twisted.errors import ConfigError, ConfigurationError

if TYPE_CHECKING:
    from pynats_twisted.bridge.reloader import Reloader

_log = Logger()


class BridgeService(MultiService):
    """A bridge. Making it opens nothing, starting it opens everything, stopping it drains. It is started once.

    A stop goes through these steps, all of them together bounded by ``drain_timeout``: the bridge says that it is not ready;
    listeners and routes take no new input; what is in flight is finished; what was published is flushed; the NATS connections
    are drained and closed; a nats-server of the bridge's own is ended. After ``drain_timeout`` the rest is cut off.

    :param reactor: the reactor.
    :param config: the configuration.
    :param factories: the route types to know; by default the built-in ones and those of plugins.
    :raises ConfigError: a route cannot be made.

    :ivar config: the configuration.
    :ivar metrics: what the bridge counts.
    :ivar context: what the routes got.
    :ivar server: the nats-server of the bridge's own, or None.
    :ivar connections: the NATS connections by name.
    :ivar listeners: the HTTP listeners by name.
    :ivar routes: the routes by name.
    :ivar switches: turns single routes off and on.
    :ivar admin: the admin pages, or None.
    :ivar factories: the route types by name.
    :ivar reloader: reads the configuration's file again; None for a bridge without a file.
    """

    def __init__(self, reactor: Any, config: BridgeConfig, factories: Iterable[IRouteFactory] | None = None) -> None:
        super().__init__()
        self.reactor = reactor
        self._stop: Stop | None = None
        self._reload: Reload | None = None
        self._reload_lock = DeferredLock()
        self._reload_count = 0
        self.factories = all_factories() if factories is None else index_factories(factories)
        self._refused = ""
        self.reloader: Reloader | None = None
        self.config = config
        self.metrics = BridgeMetrics(config.bridge.name)
        self.connections: dict[str, Connection] = {}
        self.listeners: dict[str, HTTPListener] = {}
        self.routes: dict[str, IRoute] = {}
        self.switches = RouteSwitches(self)
        self.admin: AdminService | None = None
        self.server: OwnServer | None = None
        if config.server is not None:
            self.server = OwnServer(reactor, find_nats_server(), config.server, config.bridge.name)
            self.server.setServiceParent(self)
        clients: dict[str, Any] = {}
        self.context = RouteContext(
            reactor=reactor, bridge=config.bridge, metrics=self.metrics, clients=clients, http_listeners=self.listeners
        )
        for name, section in config.nats.items():
            connection = self.make_connection(name, section)
            connection.setServiceParent(self)
            self.connections[name] = connection
            clients[name] = connection.client
        for name, listen in config.listen.items():
            self.listeners[name] = HTTPListener(self.context, name, listen.endpoint, listen)
        self.routes.update(self.make_routes(config, self.context, config.routes))
        for route in self.routes.values():
            route.setServiceParent(self)
        if config.admin is not None:
            self.admin = AdminService(reactor, config.admin, self)
            # A route may be called "admin", and services of one parent need different names.
            self.admin.setName("[admin]")
            self.admin.setServiceParent(self)

    def make_connection(self, name: str, section: NatsSection) -> Connection:
        """The connection ``[nats.NAME]``, not started."""
        client_name = f"nats-bridge/{self.config.bridge.name}/{name}"
        return Connection(self.reactor, name, section, client_name, self.metrics.nats(name))

    def make_routes(self, config: BridgeConfig, context: RouteContext, names: Iterable[str]) -> dict[str, IRoute]:
        """Some routes of a configuration, not started.

        :raises ConfigError: with every route that cannot be made.
        """
        made: dict[str, IRoute] = {}
        problems: list[Problem] = []
        for name in names:
            route_config = config.routes[name]
            try:
                made[name] = self.factories[route_config.type].make_route(name, route_config, context)
            except ConfigurationError as error:
                problems.append(Problem(config.filename, 0, f"routes.{name}", "keys that do not fit together", str(error)))
        if problems:
            raise ConfigError(problems)
        return made

    def renew_route(self, name: str) -> None:
        """Put a new route of the same configuration in the place of one that was stopped and taken out, and start it.

        :raises ConfigurationError: it cannot be made.
        """
        self.routes |= self.make_routes(self.config, self.context, [name])
        self.routes[name].setServiceParent(self)

    # --- state --------------------------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether the bridge was told to stop."""
        return self.context.draining

    def problems(self) -> list[str]:
        """What keeps the bridge from doing its work just now, one sentence each; an empty list says that it is ready."""
        if self.draining or not self.running:
            return ["the bridge is stopping" if self.draining else "the bridge is not running"]
        problems: list[str] = self.server.problems() if self.server is not None else []
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
        """What does not work just now although the bridge as a whole is ready: connections that are not required, and their routes; and
        what routes say themselves (:class:`~pynats_twisted.bridge.interfaces.IDegradable`).
        """
        if self.draining or not self.running:
            return []
        problems: list[str] = [f"the last reload was refused: {self._refused}"] if self._refused else []
        for connection in self.connections.values():
            if not connection.section.required:
                problems += connection.problems()
        for name in self.routes:
            if not self._is_required(name):
                problems += self._route_problems(name)
            degradable = IDegradable(self.routes[name], None)
            if degradable is not None and not self.switches.is_off(name):
                problems += [f"routes.{name}: {problem}" for problem in degradable.degraded()]
        return problems + self.switches.degraded()

    def _is_required(self, route_name: str) -> bool:
        """Whether a route uses no connection, or one that the bridge needs to be ready."""
        used = [name for _, name in self.config.routes[route_name].nats_names()]
        return not used or any(self.connections[name].section.required for name in used)

    def _route_problems(self, name: str) -> list[str]:
        if self.switches.is_off(name):
            return []
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
            self._tell_config()
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

    def _tell_config(self) -> None:
        self.metrics.config_runs(format_config(self.config).encode())

    def reload(self, config: BridgeConfig) -> Deferred[ReloadReport]:
        """Go over to another configuration: what differs is stopped and started, and all else goes on undisturbed. A reload waits for
        the one before.

        :returns: fires when everything old has ended, at the latest after about ``drain_timeout``.
        :raises ConfigError: the configuration cannot be used, or differs in what cannot change while the bridge runs. Nothing has
            changed then.
        :raises ConfigurationError: the bridge does not run.

        All errors come by the Deferred.
        """

        def begin() -> Deferred[ReloadReport]:
            if self.draining or not self.running:
                raise ConfigurationError("the bridge does not run; the configuration was not taken over")
            self._reload_count += 1
            self._reload = Reload(self, config, self._remake, self._reload_count)
            return self._reload.run()

        return self._reload_lock.run(begin).addCallbacks(self._reloaded, self._not_reloaded)

    def _remake(self, config: BridgeConfig) -> BridgeService:
        return BridgeService(self.reactor, config, self.factories.values())

    def _reloaded(self, report: ReloadReport) -> ReloadReport:
        self._refused = ""
        self._tell_config()
        self.metrics.config_reload_success.set(1)
        _log.info("bridge {name}: reloaded; {report}", name=self.config.bridge.name, report=report)
        return report

    def _not_reloaded(self, failure: Failure) -> Failure:
        self.reload_refused(failure.getErrorMessage())
        return failure

    def reload_refused(self, problems: str) -> None:
        """Log and count that a configuration was not taken over."""
        self._refused = problems.partition("\n")[0]
        self.metrics.config_reload_success.set(0)
        _log.error("bridge {name}: the configuration was not taken over: {problems}", name=self.config.bridge.name, problems=problems)

    def stopService(self) -> Deferred[None]:
        """Drain and stop.

        :returns: fires when all is closed, at the latest after ``drain_timeout``. It does not fail.
        """
        if self._stop is None:
            Service.stopService(self)
            self.context.draining = True
            _log.info("bridge {name}: stopping", name=self.config.bridge.name)
            self._stop = Stop(self.reactor, self.config.bridge.drain_timeout)
            self._stop.run(self._stop_steps())
            self._stop.when_done().addCallback(lambda _: _log.info("bridge {name}: stopped", name=self.config.bridge.name))
        return self._stop.when_done()

    def cut_short(self) -> None:
        """End a running drain now, as if its time were over."""
        if self._stop is not None:
            self._stop.cut_short()

    def _stop_steps(self) -> Iterator[Step]:
        inputs: dict[str, Callable[[], Any]] = {listener.name: listener.stop for listener in self.listeners.values()}
        inputs |= {f"routes.{name}": route.stopService for name, route in self.routes.items() if route.running}
        if self._reload is not None:
            inputs["the reload"] = self._reload.when_done
        yield "finish what is in flight", inputs
        # A client's drain also flushes what was published.
        yield "drain", {f"nats.{name}": connection.stopService for name, connection in self.connections.items()}
        yield "close", {"admin": self.admin.stopService} if self.admin is not None else {}
        yield "end", {"nats-server": self.server.stopService} if self.server is not None else {}
