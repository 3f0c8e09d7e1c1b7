"""Turning single routes off and on while the bridge runs: pause, drain, resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.bridge.interfaces import IPausable
from pynats_twisted.bridge.problem import Problem, Response
from pynats_twisted.errors import ConfigurationError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from pynats_twisted.bridge.config import BridgeConfig
    from pynats_twisted.bridge.context import RouteContext
    from pynats_twisted.bridge.http_message import HTTPRequest, RequestHeaderMap
    from pynats_twisted.bridge.interfaces import IRoute

PAUSED: Final = Problem(503, "paused", "The route was paused; try again later.")

_RETRY_AFTER: Final = [(b"Retry-After", b"10")]

_log = Logger()


class SwitchedBridge(Protocol):
    """What the switches need of a bridge."""

    config: BridgeConfig
    context: RouteContext

    @property
    def routes(self) -> Mapping[str, IRoute]:
        """The routes by name."""

    def renew_route(self, name: str) -> None:
        """Replace a stopped route by a new one of the same configuration, and start it."""


class RouteSwitches:
    """Pauses, drains and resumes the routes of a bridge by their names.

    A route that can pause by itself (:class:`~pynats_twisted.bridge.interfaces.IPausable`) does so. Any other is stopped in good order,
    and made anew to resume; meanwhile its HTTP paths answer 503 with ``Retry-After``, and its own listener is closed.

    :param bridge: the bridge.
    """

    def __init__(self, bridge: SwitchedBridge) -> None:
        self._bridge = bridge
        self._off: dict[str, _Off] = {}

    def is_off(self, name: str) -> bool:
        """Whether a route was stopped here. What it says of itself is no fault then."""
        return name in self._off

    def state(self, name: str) -> str:
        """``running``, ``paused``, ``draining`` (no more is taken, and something is in flight still) or ``drained``."""
        off = self._off.get(name)
        if off is not None:
            return "draining" if not off.is_stopped else off.state
        pausable = IPausable(self._bridge.routes[name], None)
        return "paused" if pausable is not None and pausable.paused else "running"

    def degraded(self) -> list[str]:
        """The routes that were stopped here, one sentence each."""
        return [f"routes.{name}: {self.state(name)} by request" for name in self._off]

    def pause(self, name: str) -> None:
        """Let a route take nothing more until :meth:`resume`. What is in flight is finished. Pausing twice is no error."""
        if name in self._off:
            return
        pausable = IPausable(self._bridge.routes[name], None)
        if pausable is not None:
            pausable.pause()
        else:
            self._stop(name, "paused")

    def drain(self, name: str) -> Deferred[bool]:
        """Stop a route until :meth:`resume`.

        :returns: fires when nothing is in flight any more: true, or false where the bridge's ``drain_timeout`` cut it short.
        """
        off = self._off.get(name) or self._stop(name, "drained")
        off.state = "drained"
        return off.when_stopped()

    def resume(self, name: str) -> None:
        """Let a route go on. No error where it was not stopped.

        :raises ConfigurationError: it cannot be made anew, or is being drained still.
        """
        off = self._off.get(name)
        if off is None:
            pausable = IPausable(self._bridge.routes[name], None)
            if pausable is not None:
                pausable.resume()
            return
        if not off.is_stopped:
            raise ConfigurationError("what is in flight is being finished still; try again in a moment")
        off.give_back_paths()
        try:
            self._bridge.renew_route(name)
        except ConfigurationError:
            off.hold_paths()
            raise
        del self._off[name]
        _log.info("route {route}: resumed", route=name)

    def forget(self, name: str) -> bool:
        """A route is removed, or replaced by a reload: it counts as running again.

        :returns: whether it was stopped here, so that nobody has to.
        """
        off = self._off.pop(name, None)
        if off is None:
            return False
        off.give_back_paths()
        off.forget()
        return True

    def _stop(self, name: str, state: str) -> _Off:
        bridge = self._bridge
        off = self._off[name] = _Off(bridge.context, name, bridge.routes[name], bridge.config, state)
        _log.info("route {route}: {state} by request", route=name, state=state)
        off.stop(bridge.config.bridge.drain_timeout)
        return off


class _Off:
    """A route that is stopped, or being stopped."""

    def __init__(self, context: RouteContext, name: str, route: IRoute, config: BridgeConfig, state: str) -> None:
        self.name = name
        self.state = state
        self.is_stopped = False
        self._context = context
        self._route: Any = route
        self._bindings = list(config.routes[name].http_bindings())
        self._limit: IDelayedCall | None = None
        self._is_forgotten = False
        self._was_cut = False
        self._waiters: list[Deferred[bool]] = []

    def stop(self, limit: float) -> None:
        # Out of the bridge's services, so that nobody stops it twice.
        leave = self._route.stopService if self._route.parent is None else self._route.disownServiceParent
        stopping: Deferred[Any] = maybeDeferred(leave)
        self._limit = self._context.reactor.callLater(limit, self._cut, stopping)
        stopping.addBoth(self._stopped)

    def _cut(self, stopping: Deferred[Any]) -> None:
        self._limit = None
        self._was_cut = True
        _log.warn("route {route}: the time to drain is over; what is in flight is cut off", route=self.name)
        stopping.cancel()

    def _stopped(self, result: object) -> None:
        if isinstance(result, Failure) and not (self._was_cut and result.check(CancelledError)):
            _log.failure("route {route}: did not stop in good order", result, route=self.name)
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        self.is_stopped = True
        if not self._is_forgotten:
            self.hold_paths()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(not self._was_cut)

    def when_stopped(self) -> Deferred[bool]:
        if self.is_stopped:
            return succeed(not self._was_cut)
        waiter: Deferred[bool] = Deferred(self._waiters_remove)
        self._waiters.append(waiter)
        return waiter

    def _waiters_remove(self, waiter: Deferred[bool]) -> None:
        self._waiters.remove(waiter)

    def hold_paths(self) -> None:
        """Answer the route's HTTP requests in its place."""
        for binding in self._bindings:
            listener = self._context.http_listener(binding.listen)
            listener.remove(self._route)
            try:
                listener.add(binding.path, binding.methods, self)
            except ConfigurationError as error:
                _log.warn("route {route}: its path is not held: {error}", route=self.name, error=error)

    def give_back_paths(self) -> None:
        for binding in self._bindings:
            self._context.http_listener(binding.listen).remove(self)

    def forget(self) -> None:
        self._is_forgotten = True

    # --- a handler of the listener -----------------------------------------------------------------------------

    max_body = 0

    def admit(self, request: HTTPRequest) -> Response | None:
        return request.problem(PAUSED, headers=_RETRY_AFTER)

    def handle(self, request: HTTPRequest) -> None:
        request.respond(request.problem(PAUSED, headers=_RETRY_AFTER))

    def preflight(self, headers: RequestHeaderMap) -> Response | None:
        return None

    def responding(self, request: HTTPRequest, response: Response) -> None:
        metrics = self._context.metrics.route(self.name)
        metrics.http_response(response.status)
        metrics.dropped(PAUSED.kind)
