"""A new configuration for a bridge that runs: what differs is stopped and started, all else goes on undisturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger

from pynats_twisted.bridge.admin import AdminService
from pynats_twisted.bridge.config import BridgeConfig
from pynats_twisted.bridge.config_diff import Difference
from pynats_twisted.bridge.config_errors import ConfigError, Problem, describe_found
from pynats_twisted.bridge.connections import Connection
from pynats_twisted.bridge.endpoints import listen_address
from pynats_twisted.bridge.http import HTTPListener
from pynats_twisted.bridge.stopping import Stop
from pynats_twisted.errors import ConfigurationError

if TYPE_CHECKING:
    from pynats_twisted.bridge.context import RouteContext
    from pynats_twisted.bridge.interfaces import IRoute
    from pynats_twisted.bridge.service import BridgeService

_log = Logger()


@dataclass(frozen=True)
class ReloadReport:
    """What a reload did. All lists hold names.

    :ivar added: routes that are new.
    :ivar changed: routes that were stopped and started in their new form.
    :ivar removed: routes that are gone.
    :ivar unchanged: routes that were not touched.
    :ivar connections: NATS connections that were opened or closed.
    :ivar listeners: HTTP listeners that were opened or closed.
    :ivar admin: whether the admin endpoint was replaced.
    :ivar failed: new routes that could not be started, each with the reason.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    listeners: list[str] = field(default_factory=list)
    admin: bool = False
    failed: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The same as a mapping, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        kinds = {"added": self.added, "changed": self.changed, "removed": self.removed, "failed": self.failed}
        told = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
        return "; ".join([*told, f"{len(self.unchanged)} routes unchanged"])


class Reload:
    """One reload.

    Everything that can be refused is tried first: then nothing has happened. After that old parts get ``drain_timeout`` to finish what
    they took. A route that answers HTTP is followed by its new form at once, so that no request is refused in between; any other has
    ended before its new form begins.

    :param service: the bridge.
    :param config: the new configuration.
    :param remake: makes an unstarted bridge, to see that the configuration can be used.
    :param serial: a number that no other reload of this bridge has.
    """

    def __init__(self, service: BridgeService, config: BridgeConfig, remake: Callable[[BridgeConfig], object], serial: int) -> None:
        self._service = service
        self._reactor = service.reactor
        self._old = service.config
        self._new = config
        self._remake = remake
        self._serial = serial
        self._stops: list[Stop] = []
        self._is_cut_short = False
        self._done = False
        self._waiters: list[Deferred[None]] = []

    def run(self) -> Deferred[ReloadReport]:
        """Do it.

        :returns: fires with what was done, when everything old has ended. It fails with a ``ConfigError`` when the configuration cannot
            be used; then all is as before.
        """
        return Deferred.fromCoroutine(self._run()).addBoth(self._finished)

    def _finished(self, result: Any) -> Any:
        self._done = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)
        return result

    def when_done(self) -> Deferred[None]:
        """Fires at the end. Cancelling it ends all waiting for what is in flight."""
        if self._done:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._cut_short)
        self._waiters.append(waiter)
        return waiter

    def _cut_short(self, waiter: Deferred[None]) -> None:
        self._waiters.remove(waiter)
        self._is_cut_short = True
        for stop in self._stops:
            stop.cut_short()

    async def _run(self) -> ReloadReport:
        changes = Difference(self._old, self._new)
        self._remake(self._new)
        opened = await _Opened.open(self._service, self._new, changes, self._serial)
        try:
            if self._service.draining:
                raise ConfigurationError("the bridge is stopping; the configuration was not taken over")
            listeners = {name: opened.listeners.get(name) or self._service.listeners[name] for name in self._new.listen}
            connections = self._make_connections(changes)
            clients = {name: connection.client for name, connection in connections.items()}
            context = self._service.context.successor(self._new.bridge, clients, listeners)
            made = self._service.make_routes(self._new, context, changes.routes.starting)
        except ConfigurationError:
            await opened.undo()
            raise
        return await self._switch(changes, context, connections, listeners, made, opened)

    def _make_connections(self, changes: Difference) -> dict[str, Connection]:
        made: dict[str, Connection] = {}
        for name in self._new.nats:
            if name in changes.nats.unchanged:
                made[name] = self._service.connections[name]
            else:
                made[name] = self._service.make_connection(name, self._new.nats[name])
                made[name].setName(f"nats.{name}/{self._serial}")
        return made

    # --- from here on nothing is refused any more -----------------------------------------------------------------

    async def _switch(
        self,
        changes: Difference,
        context: RouteContext,
        connections: dict[str, Connection],
        listeners: dict[str, HTTPListener],
        made: Mapping[str, IRoute],
        opened: _Opened,
    ) -> ReloadReport:
        service = self._service
        report = ReloadReport(
            added=changes.routes.added,
            changed=changes.routes.changed,
            removed=changes.routes.removed,
            unchanged=changes.routes.unchanged,
            connections=[*changes.nats.starting, *changes.nats.removed],
            listeners=[*changes.listen.starting, *changes.listen.removed],
            admin=changes.admin,
        )
        old_connections = {name: service.connections[name] for name in changes.nats.leaving}
        old_listeners = {name: service.listeners[name] for name in changes.listen.leaving}
        old_routes = {name: service.routes[name] for name in changes.routes.leaving}
        service.config, service.context = self._new, context
        service.connections, service.listeners = connections, listeners
        service.routes = {name: made.get(name) or service.routes[name] for name in self._new.routes}
        for name in changes.nats.unchanged:
            connections[name].section = self._new.nats[name]
        for name in changes.listen.unchanged:
            listeners[name].limits = self._new.listen[name]
        for name in changes.nats.starting:
            connections[name].setServiceParent(service)
        opened.keep()
        await self._replace_routes(old_routes, made, [*old_listeners.values(), *listeners.values()], report.failed)
        for name in changes.routes.removed:
            service.metrics.forget_route(name)
        await self._stop("drain", {f"nats.{name}": self._leave(connection) for name, connection in old_connections.items()})
        await self._stop("close", {listener.name: listener.stop for listener in old_listeners.values()})
        for name in changes.nats.removed:
            service.metrics.forget_nats(name)
        for name in changes.listen.removed:
            service.metrics.forget_route(old_listeners[name].name)
        return report

    async def _replace_routes(
        self,
        old_routes: Mapping[str, IRoute],
        made: Mapping[str, IRoute],
        listeners: Iterable[HTTPListener],
        failed: list[str],
    ) -> None:
        # While they end, their paths belong to those that follow.
        handlers: list[Any] = list(old_routes.values())
        for listener in listeners:
            for handler in handlers:
                listener.remove(handler)
        ended = {name: self._end_route(name, route) for name, route in old_routes.items()}
        on_endpoints = {name for name in old_routes if list(self._old.routes[name].server_endpoints())}
        starting: list[Deferred[None]] = []
        for name, route in made.items():
            before = {name} if name in ended and not self._may_overlap(name) else set()
            if list(self._new.routes[name].server_endpoints()):
                before |= on_endpoints
            starting.append(Deferred.fromCoroutine(self._start(name, route, [_branch(ended[other]) for other in before], failed)))
        await DeferredList([*starting, *ended.values()])

    def _end_route(self, name: str, route: IRoute) -> Deferred[None]:
        switches = self._service.switches
        if switches.is_off(name):
            # Somebody has stopped it, or is about to.
            stopped = switches.drain(name).addCallback(lambda _: None)
            switches.forget(name)
            return stopped
        return self._stop("finish what is in flight", {f"routes.{name}": self._leave(route)})

    def _may_overlap(self, name: str) -> bool:
        """Whether the old form of a route may still finish what it took while the new one works: both only answer HTTP."""
        both = (self._old.routes[name], self._new.routes[name])
        return all(list(route.http_bindings()) and not list(route.server_endpoints()) for route in both)

    async def _start(self, name: str, route: Any, before: list[Deferred[None]], failed: list[str]) -> None:
        await DeferredList(before)
        try:
            # A bridge that is stopping starts nothing that comes to it.
            route.setServiceParent(self._service)
        except Exception as error:  # noqa: BLE001 - a route type may be anybody's; the other routes have to start
            _log.failure("route {route} could not be started", route=name)
            failed.append(f"{name}: {error}")

    def _leave(self, part: Any) -> Callable[[], Any]:
        def leave() -> Any:
            # A parent that does not run any more does not stop what leaves it.
            was_running = self._service.running
            left = IService(part).disownServiceParent() if part.parent is not None else None
            return left if was_running else part.stopService()

        return leave

    def _stop(self, step: str, calls: Mapping[str, Callable[[], Any]]) -> Deferred[None]:
        stop = Stop(self._reactor, self._new.bridge.drain_timeout)
        self._stops.append(stop)
        stop.run([(step, calls)])
        if self._is_cut_short:
            stop.cut_short()
        return stop.when_done()


class _Opened:
    """What a reload listens on before anything else is done, and what it closed for that."""

    def __init__(self, service: BridgeService) -> None:
        self._service = service
        self._freed: list[HTTPListener] = []
        self._old_admin: AdminService | None = None
        self._new_admin: AdminService | None = None
        self._has_admin = False
        self.listeners: dict[str, HTTPListener] = {}

    @classmethod
    async def open(cls, service: BridgeService, new: BridgeConfig, changes: Difference, serial: int) -> _Opened:
        """Listen on what is new.

        :raises ConfigError: something cannot be listened on; then all is as before.
        """
        opened = cls(service)
        try:
            await opened._open_listeners(new, changes)
            if changes.admin:
                await opened._open_admin(new, serial)
        except ConfigError:
            await opened.undo()
            raise
        return opened

    async def _open_listeners(self, new: BridgeConfig, changes: Difference) -> None:
        wanted = [new.listen[name].endpoint for name in changes.listen.starting]
        for name in changes.listen.leaving:
            listener = self._service.listeners[name]
            if any(_overlap(listener.endpoint, endpoint) for endpoint in wanted):
                self._freed.append(listener)
                await listener.unbind()
        for name in changes.listen.starting:
            section = new.listen[name]
            listener = HTTPListener(self._service.context, name, section.endpoint, section)
            try:
                await listener.start()
            except Exception as error:  # noqa: BLE001 - endpoints are plugins of anybody
                raise _unusable(new, f"listen.{name}.endpoint", section.endpoint, error) from None
            self.listeners[name] = listener

    async def _open_admin(self, new: BridgeConfig, serial: int) -> None:
        self._old_admin, self._has_admin = self._service.admin, True
        if self._old_admin is not None:
            await self._old_admin.listener.unbind()
        if new.admin is None:
            return
        admin = AdminService(self._service.reactor, new.admin, self._service)
        admin.setName(f"[admin]/{serial}")
        try:
            admin.setServiceParent(self._service)
        except Exception as error:  # noqa: BLE001 - as above
            admin.disownServiceParent()
            raise _unusable(new, "admin.listen", new.admin.listen, error) from None
        self._new_admin = admin

    def keep(self) -> None:
        """Go over to what was opened."""
        if not self._has_admin:
            return
        self._service.admin = self._new_admin
        if self._old_admin is not None:
            # Whoever asked for the reload may have done so over it, and waits for the answer: its end is not waited for.
            stop = Stop(self._service.reactor, self._service.config.bridge.drain_timeout)
            stop.run([("close", {"admin": self._old_admin.disownServiceParent})])

    async def undo(self) -> None:
        """Close what was opened, and listen again where that ended for it."""
        for listener in self.listeners.values():
            stopped = listener.stop()
            listener.abort()
            await stopped
        for listener in self._freed:
            await self._listen_again(listener)
        if self._has_admin:
            if self._new_admin is not None:
                await self._new_admin.listener.unbind()
                self._new_admin.disownServiceParent()
            if self._old_admin is not None:
                await self._listen_again(self._old_admin.listener)

    async def _listen_again(self, listener: HTTPListener) -> None:
        if self._service.draining:
            return
        try:
            await listener.start()
        except Exception as error:  # noqa: BLE001 - as above; readiness tells it as well
            _log.critical("{listener} cannot listen again: {error}", listener=listener.name, error=error)


def _unusable(config: BridgeConfig, path: str, endpoint: str, error: Exception) -> ConfigError:
    return ConfigError([Problem(config.filename, 0, path, f"{describe_found(endpoint)} ({error})", "an address that can be listened on")])


def _overlap(one: str, other: str) -> bool:
    ours, theirs = listen_address(one), listen_address(other)
    return ours is not None and theirs is not None and ours.overlaps(theirs)


def _branch(deferred: Deferred[None]) -> Deferred[None]:
    """A Deferred that fires with *deferred*, for one of several that wait for it."""
    branch: Deferred[None] = Deferred()

    def fire(result: Any) -> Any:
        branch.callback(None)
        return result

    deferred.addBoth(fire)
    return branch
