"""What routes with peers that send lines have in common: they listen or connect, publish what comes, and stop in good order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.application.internet import ClientService, backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pynats_twisted.bridge.endpoints import with_backlog
from pynats_twisted.bridge.interfaces import IDescribed, IPausable, IRoute, IRouteFactory, RouteDescription
from pynats_twisted.bridge.lines_datagrams import LineDatagrams
from pynats_twisted.bridge.lines_endpoints import DIAL, AllowList, lines_endpoint_problem, udp_address
from pynats_twisted.bridge.lines_messages import LineSettings
from pynats_twisted.bridge.lines_peers import LinePeers
from pynats_twisted.bridge.loops import LoopGuard
from pynats_twisted.bridge.publishing import PublishLane
from pynats_twisted.errors import ConfigurationError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProtocol, IProtocolFactory

    from pynats_twisted.bridge.context import RouteContext
    from pynats_twisted.bridge.lines_base_config import LinesBaseConfig

MAX_DATAGRAM: Final = 65535
"""Longest datagram that UDP has, in bytes."""

LISTEN_RETRY: Final = (1.0, 30.0)
"""Seconds until listening is tried again: at first, and at most (each time twice as long)."""

DIAL_RETRY: Final = backoffPolicy(initialDelay=0.5, maxDelay=30.0, factor=1.5)

_log = Logger()


@implementer(IRoute, IPausable, IDescribed)
class LinesRoute(Service):
    """A route with peers that send lines. Subclasses say what a line is and what it becomes.

    :raises ConfigurationError: the configuration cannot be used.

    :ivar paused: it was told to read nothing.
    """

    type_name: str

    def __init__(self, name: str, config: LinesBaseConfig, context: RouteContext) -> None:
        self.setName(name)
        self.name: str = name
        self.config = config
        self.paused = False
        self._context = context
        self._reactor = context.reactor
        self._metrics = context.metrics.route(name, self.type_name)
        self._activity = context.activity(name, config.debug)
        self._template = config.template()
        self._lane = PublishLane(
            context.reactor,
            context.client(config.nats),
            self._metrics,
            confirm=config.confirm,
            pattern=self._template.pattern,
            limit=config.window,
            jetstream=context.jetstream(config.nats) if config.confirm == "jetstream" else None,
            message_ids=config.message_ids,
            retry_for=config.effective_retry_for,
            activity=self._activity,
        )
        self._settings = LineSettings(
            reactor=context.reactor,
            path=LoopGuard.of(context.bridge).own,
            lane=self._lane,
            metrics=self._metrics,
            activity=self._activity,
            report=lambda reason, detail: context.bad_input(self, reason, detail),
            subject=self._template,
            allow=AllowList(config.networks()),
            timeout=config.timeout,
            **self._line_settings(),
        )
        self._peers = LinePeers(self._settings, config.max_connections)
        self._input_problem: str | None = "not started"
        self._listening: Deferred[Any] | None = None
        self._port: IListeningPort | None = None
        self._datagrams: LineDatagrams | None = None
        self._dialing: ClientService | None = None
        self._retry: IDelayedCall | None = None
        self._metrics.up.set_function(lambda: 0.0 if self.paused or self.problems() or self._lane.problems() else 1.0)

    def _line_settings(self) -> dict[str, Any]:
        """The settings that the route type knows: ``framing``, ``lines``, and those with defaults that are others."""
        raise AssertionError("every route type has some")

    def guarantee(self) -> str:
        """The effective delivery guarantee in words."""
        raise AssertionError("every route type has one")

    def _examples(self, port: int | str) -> list[tuple[str, str]]:
        """Commands that send something: what each shows, and the command.

        :param port: the port that the route listens on, or the path of its socket.
        """
        return []

    @property
    def port(self) -> IListeningPort | None:
        """What the route listens on, or None while it does not."""
        return self._port

    def problems(self) -> list[str]:
        """What keeps the route from working at the moment; the state of the NATS connection is told by the bridge."""
        found = [self._input_problem] if self._input_problem is not None else []
        return [*found, *self._lane.publish_problems()]

    def describe(self) -> RouteDescription:
        """The route in words."""
        host = self._port.getHost() if self._port is not None else None
        where = getattr(host, "port", None) or getattr(host, "name", None) or ""
        if isinstance(where, bytes):
            where = where.decode("utf-8", "replace")
        state: dict[str, str] = {"confirm": self.config.confirm}
        if self.config.kind != "udp":
            state["connections"] = str(len(self._peers.peers))
        if self.paused:
            state["paused"] = "by request"
        subject = self._template.pattern
        commands = [("see the messages", f"nats sub '{subject}'")]
        return RouteDescription(self.config.endpoint, subject, state, (*self._examples(where), *commands) if where else commands)

    # --- pause -------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Read from no peer; their connections stay. Datagrams are dropped and counted."""
        self._hold(True)

    def resume(self) -> None:
        """Read again."""
        self._hold(False)

    def _hold(self, held: bool) -> None:
        self.paused = held
        self._peers.hold(held)
        if self._datagrams is not None:
            self._datagrams.held = held

    # --- start -------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Begin to take lines. What cannot be listened on or connected to is tried again, and is a problem until then."""
        super().startService()
        self._lane.open()
        if self.config.kind == "client":
            self._dial()
        else:
            self._listen(LISTEN_RETRY[0])

    def _dial(self) -> None:
        endpoint = clientFromString(self._reactor, self.config.endpoint.removeprefix(DIAL))
        self._input_problem = f"not connected to {self.config.endpoint}"
        watched = _WatchedEndpoint(endpoint, self._dialed)
        self._dialing = ClientService(watched, self._peers, retryPolicy=DIAL_RETRY, clock=self._reactor)
        self._peers.when_left = self._hung_up
        self._dialing.startService()

    def _dialed(self, failure: Failure | None) -> None:
        if failure is None:
            self._input_problem = None
        elif not failure.check(CancelledError):
            self._input_problem = f"{self.config.endpoint} cannot be connected to: {failure.getErrorMessage()}"
            self._context.bad_input(self, "not-connected", self._input_problem)

    def _hung_up(self) -> None:
        self._input_problem = f"the connection to {self.config.endpoint} has ended; it will be made again"

    def _listen(self, delay: float) -> None:
        self._retry = None
        self._input_problem = "not listening yet"
        if self.config.kind == "udp":
            listening = maybeDeferred(self._listen_udp)
        else:
            listening = maybeDeferred(serverFromString(self._reactor, with_backlog(self.config.endpoint)).listen, self._peers)
        self._listening = listening
        listening.addCallbacks(self._is_listening, self._cannot_listen, errbackArgs=(delay,))

    def _listen_udp(self) -> IListeningPort:
        address = udp_address(self.config.endpoint)
        self._datagrams = LineDatagrams(self._settings)
        self._datagrams.held = self.paused
        try:
            port: IListeningPort = self._reactor.listenUDP(
                int(address.port), self._datagrams, interface=address.host, maxPacketSize=MAX_DATAGRAM
            )
        except Exception:
            self._datagrams.stop()
            raise
        return port

    def _is_listening(self, port: IListeningPort) -> None:
        self._listening = None
        self._port = port
        self._input_problem = None

    def _cannot_listen(self, failure: Failure, delay: float) -> None:
        self._listening = None
        if failure.check(CancelledError):
            return
        self._input_problem = f"{self.config.endpoint} cannot be listened on: {failure.getErrorMessage()}"
        _log.error("route {route}: {problem}; next attempt in {delay} s", route=self.name, problem=self._input_problem, delay=delay)
        self._retry = self._reactor.callLater(delay, self._listen, min(delay * 2, LISTEN_RETRY[1]))

    # --- stop --------------------------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Take nothing more, and finish what came.

        :return: fires when every line that came is published and confirmed, its peer has its reply, and all is closed. Cancelling
            it cuts that short: what is left is dropped and counted.
        """
        super().stopService()
        self._input_problem = "stopped"
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._listening is not None:
            self._listening.cancel()
        port, self._port = self._port, None
        closing = [maybeDeferred(port.stopListening)] if port is not None else []
        if self._datagrams is not None:
            self._datagrams.stop()
        for peer in list(self._peers.peers):
            peer.stop()
        return self._lane.when_empty().addBoth(self._close, closing)

    def _close(self, result: object, closing: list[Deferred[Any]]) -> Deferred[None]:
        self._lane.close()
        for peer in list(self._peers.peers):
            peer.close()
        dialing, self._dialing = self._dialing, None
        if dialing is not None:
            closing.append(maybeDeferred(dialing.stopService))
        left = self._peers.when_all_left()
        closing.append(left)
        if isinstance(result, Failure):
            # The stop was cut short: nothing is waited for any more.
            left.cancel()
        return DeferredList(closing, consumeErrors=True).addCallback(lambda _: None)


@implementer(IStreamClientEndpoint)
class _WatchedEndpoint:
    """An endpoint that tells what became of each attempt."""

    def __init__(self, endpoint: Any, tell: Any) -> None:
        self._endpoint = endpoint
        self._tell = tell

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        """Connect, and tell: None, or the failure."""
        connecting: Deferred[IProtocol] = maybeDeferred(self._endpoint.connect, protocolFactory)
        return connecting.addCallbacks(self._made, self._failed)

    def _made(self, protocol: IProtocol) -> IProtocol:
        self._tell(None)
        return protocol

    def _failed(self, failure: Failure) -> Failure:
        self._tell(failure)
        return failure


@implementer(IRouteFactory)
class LinesFactory:
    """A route type whose peers send lines.

    :param route: the class of its routes.
    :param config_type: that of their keys.
    """

    def __init__(self, route: type[LinesRoute], config_type: type[LinesBaseConfig]) -> None:
        self.type_name = route.type_name
        self.config_type = config_type
        self._route = route

    def make_route(self, name: str, config: Any, context: Any) -> LinesRoute:
        """A route, not started.

        :raises ConfigurationError: the endpoint cannot be used.
        """
        problem = lines_endpoint_problem(config.endpoint)
        if problem is not None:
            raise ConfigurationError(f"endpoint {config.endpoint!r}: {problem}")
        return self._route(name, config, context)
