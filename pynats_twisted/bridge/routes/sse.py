"""The route type ``sse``: messages of a stream, or of a subject, for browsers, as server-sent events."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from pynats_twisted.bridge.cors import Cors
from pynats_twisted.bridge.interfaces import IDescribed, IPausable, IRoute, IRouteFactory
from pynats_twisted.bridge.interfaces import RouteDescription as Description
from pynats_twisted.bridge.limits import TokenBucket, parse_rate, retry_after
from pynats_twisted.bridge.problem import BAD_VALUE, OVERLOADED, RATE_LIMITED, STOPPING, UNAUTHORIZED, Problem, Response
from pynats_twisted.bridge.sse_auth import AuthRequest, Grant, SSEAuth
from pynats_twisted.bridge.sse_client import SSEClient
from pynats_twisted.bridge.sse_config import SSEConfig, parse_start
from pynats_twisted.bridge.sse_events import HEARTBEAT, EventMaker, EventTemplate, id_only, retry_field
from pynats_twisted.bridge.sse_hub import CoreHub, Hub, Hubs
from pynats_twisted.bridge.sse_joining import Joining
from pynats_twisted.bridge.sse_request import requested_id, template_values
from pynats_twisted.bridge.sse_source import StreamSource
from pynats_twisted.bridge.sse_stream_hub import StreamHub
from pynats_twisted.client.status import ClientStatus
from pynats_twisted.errors import TemplateValueError

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from pynats_twisted.bridge.context import RouteContext
    from pynats_twisted.bridge.http_message import HTTPRequest, RequestHeaderMap
    from pynats_twisted.bridge.metrics import RouteMetrics

RETRY_SOON: Final = [(b"Retry-After", b"1")]

RETRY_SPREAD: Final = 1.5
"""``retry`` is up to so many times what the configuration says, so that browsers do not all come back at once."""

STOP_SPREAD: Final = 5.0
"""The same for the last ``retry``, when the bridge stops and all have to come back."""

HEADERS: Final = (
    (b"Content-Type", b"text/event-stream"),
    (b"Cache-Control", b"no-store"),
    # A proxy that collects what it gets would hold events back.
    (b"X-Accel-Buffering", b"no"),
)

# What says nothing about who asked.
_DROPPED: Final = frozenset(problem.kind for problem in (RATE_LIMITED, OVERLOADED, STOPPING))

_log = Logger()


@implementer(IRoute, IPausable, IDescribed)
class SSERoute(Service):
    """An ``sse`` route. See :class:`~pynats_twisted.bridge.sse_config.SSEConfig` for its keys.

    :param name: NAME of ``[routes.NAME]``.
    :param config: the route's keys.
    :param context: the bridge.
    :raises ConfigurationError: a secret or a key cannot be read or used.

    :ivar paused: it was told to pause: clients stay, and get nothing but heartbeats.
    """

    type_name = "sse"
    #: Nobody asks for events with a body.
    max_body = 0

    def __init__(self, name: str, config: SSEConfig, context: RouteContext) -> None:
        self.setName(name)
        self.name: str = name
        self.config = config
        self.paused = False
        self._context = context
        self._reactor = context.reactor
        self._metrics: RouteMetrics = context.metrics.route(name, self.type_name)
        self._activity = context.activity(name, config.debug)
        self._template = config.template()
        self._event = EventTemplate(config.event) if config.event is not None else None
        now = context.reactor.seconds
        self._auth = SSEAuth(name, config.auth, now) if config.auth is not None else None
        section = config.auth.request_section() if config.auth is not None else None
        self._ask = AuthRequest(name, section, context.client(config.nats), now) if section is not None else None
        self._cors: Cors | None = None
        self._bucket: TokenBucket | None = None
        if config.cors is not None:
            cors = config.cors_section()
            wanted = ["authorization", "cache-control", "last-event-id"]
            self._cors = Cors(cors.origins, methods=("GET",), request_headers=wanted, max_age=int(cors.max_age))
        if config.rate is not None:
            rate = config.rate_section()
            self._bucket = TokenBucket(parse_rate(rate.limit), now, rate.burst)
        self._hubs = Hubs(self._reactor, config.max_filters, self._make_hub)
        self._source: StreamSource | None = None
        self._joining: Joining | None = None
        if config.stream is not None:
            self._source = StreamSource(context.client(config.nats).jetstream(), config.stream)
            start = parse_start(config.start)
            self._joining = Joining(self._reactor, self._source, start, config.max_replay, self._metrics, self._activity)
        # Each client with its request, and requests that a service is being asked about.
        self._clients: dict[SSEClient, HTTPRequest] = {}
        self._asking: dict[HTTPRequest, Deferred[Any]] = {}
        self._sweep: IDelayedCall | None = None
        self._sweep_interval = min(1.0, config.heartbeat / 2, config.max_duration / 2)
        self._metrics.sse_clients.set(0)
        self._metrics.up.set_function(lambda: 0.0 if self.problems() or self.paused else 1.0)

    # --- what it says of itself --------------------------------------------------------------------------------

    def guarantee(self) -> str:
        """What one may rely on, in words."""
        return guarantee(self.config)

    def problems(self) -> list[str]:
        """What keeps the route from working at the moment."""
        if not self.running:
            return ["the route is stopped"]
        found = self._context.http_listener(self.config.listen).problems()
        status = self._context.client(self.config.nats).status
        if status is not ClientStatus.CONNECTED:
            found.append(f"nats.{self.config.nats} is {status.value}")
        # Hubs of one stream fail together: one of them is enough.
        return [*found, *[hub.problem for hub in self._hubs.all() if hub.problem is not None][:1]]

    def describe(self) -> Description:
        """The route in words."""
        config = self.config
        state = {"clients": str(len(self._clients)), "filters": str(len(self._hubs))}
        if self.paused:
            state["paused"] = "by request"
        source = f"{config.stream}: {config.filter}" if config.stream is not None else str(config.subject)
        sample = self._template.pattern.replace("*", "x").replace(">", "x")
        commands = [("publish a message", f"nats pub {sample} hello")]
        port = self._context.http_listener(config.listen).port
        if port is not None and hasattr(address := port.getHost(), "port"):
            path = "/".join("x" if part.startswith("{") else part for part in config.path.split("/"))
            commands.insert(0, ("listen", f"curl -sN http://127.0.0.1:{address.port}{path}"))
        return Description(source, f"GET {config.path}", state, commands)

    def hubs(self) -> list[Hub]:
        """What brings messages from NATS, one for each filter that somebody listens to."""
        return self._hubs.all()

    def __str__(self) -> str:
        return self.name

    # --- the service -------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Take clients."""
        super().startService()
        self._context.http_listener(self.config.listen).add(self.config.path, ("GET",), self)
        self._sweep = self._reactor.callLater(self._sweep_interval, self._look_around)

    def stopService(self) -> Deferred[None]:
        """Take no more clients, and let those there are come back later, each at a time of its own."""
        super().stopService()
        if not self._context.draining:
            self._context.http_listener(self.config.listen).remove(self)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for request in list(self._asking):
            request.respond(request.problem(STOPPING, headers=RETRY_SOON))
        for asking in list(self._asking.values()):
            asking.cancel()
        for client in list(self._clients):
            self._end(client, retry_field(self.config.retry, STOP_SPREAD))
        self._hubs.stop()
        return succeed(None)

    def pause(self) -> None:
        """Send nothing more until :meth:`resume`. Clients stay; those of a stream get later what they miss."""
        if not self.paused:
            self.paused = True
            for client in self._clients:
                self._stop_sending(client)

    def resume(self) -> None:
        """Go on."""
        if self.paused:
            self.paused = False
            for client in list(self._clients):
                self._join(client)

    # --- requests ----------------------------------------------------------------------------------------------

    def admit(self, request: HTTPRequest) -> Response | None:
        """Judge a request by its head."""
        if not self.running or self._context.draining:
            return request.problem(STOPPING, headers=RETRY_SOON)
        grant: Grant | Problem = Grant()
        try:
            if self._auth is not None:
                grant = self._auth.judge(request)
            if isinstance(grant, Problem):
                challenges = self._auth.challenges if self._auth is not None and grant is UNAUTHORIZED else ()
                return request.problem(grant, headers=challenges)
            pattern = self._template.expand(template_values(self._template, request))
            requested = requested_id(request)
        except TemplateValueError as error:
            return request.problem(BAD_VALUE, detail=str(error))
        if self._bucket is not None and (wait := self._bucket.take()):
            return request.problem(RATE_LIMITED, headers=[(b"Retry-After", retry_after(wait).encode("ascii"))])
        if not self._has_room(pattern):
            return request.problem(OVERLOADED, headers=RETRY_SOON)
        request.prepared = (pattern, requested, grant)
        return None

    def _has_room(self, pattern: str) -> bool:
        return len(self._clients) + len(self._asking) < self.config.max_connections and self._hubs.has_room(pattern)

    def handle(self, request: HTTPRequest) -> None:
        """A request that was admitted by its head."""
        pattern, requested, grant = request.prepared
        if self._ask is None:
            self._open(request, pattern, requested, grant)
            return
        asking = self._ask.ask(request, pattern)
        self._asking[request] = asking
        request.on_gone = asking.cancel
        asking.addCallback(self._judged, request, pattern, requested, grant)
        asking.addErrback(self._ask_failed, request)
        asking.addBoth(lambda _: self._asking.pop(request, None))

    def _judged(self, judged: Grant | Problem, request: HTTPRequest, pattern: str, requested: str | None, grant: Grant) -> None:
        self._asking.pop(request, None)
        if isinstance(judged, Problem):
            request.respond(request.problem(judged, headers=RETRY_SOON if judged.status == 503 else ()))
            return
        ends = [until for until in (judged.until, grant.until) if until is not None]
        self._open(request, judged.pattern or pattern, requested, Grant(min(ends, default=None)))

    @staticmethod
    def _ask_failed(failure: Failure, request: HTTPRequest) -> None:
        if not failure.check(CancelledError):
            request.failed(failure)

    def preflight(self, headers: RequestHeaderMap) -> Response | None:
        """The answer to a CORS preflight request."""
        return self._cors.preflight(headers) if self._cors is not None else None

    def responding(self, request: HTTPRequest, response: Response) -> None:
        """A request is being answered."""
        if self._cors is not None:
            pairs = self._cors.headers(request.headers)
            # Without it, browsers send no cookies to other origins, and show no answer to those that were sent.
            if any(name == b"Access-Control-Allow-Origin" and value != b"*" for name, value in pairs):
                pairs.append((b"Access-Control-Allow-Credentials", b"true"))
            response.headers.extend(pairs)
        self._metrics.http_response(response.status)
        if response.kind in _DROPPED:
            self._metrics.dropped(response.kind)
        elif response.status >= 500:
            self._metrics.failed(response.kind)
            self._activity.error(response.kind, f"answered {response.status} to {request.peer}", f"request {request.request_id}")
        elif response.kind:
            self._context.bad_input(self, response.kind, f"from {request.peer}, request {request.request_id}")

    # --- clients -----------------------------------------------------------------------------------------------

    def _open(self, request: HTTPRequest, pattern: str, requested: str | None, grant: Grant) -> None:
        if not self.running or not self._has_room(pattern):
            request.respond(request.problem(OVERLOADED if self.running else STOPPING, headers=RETRY_SOON))
            return
        config, now = self.config, self._reactor.seconds()
        stream = request.stream(Response(200, HEADERS, retry_field(config.retry, RETRY_SPREAD)))
        if stream is None:
            return
        # Those that came together do not have to come back together.
        ends_at = now + config.max_duration * random.uniform(0.9, 1.0)
        client = SSEClient(
            stream,
            self._metrics,
            config.buffer,
            requested,
            ends_at if grant.until is None else min(ends_at, grant.until),
            is_stored=config.stream is not None,
            too_slow=self._too_slow,
        )
        client.written_at = now
        client.hub = self._hubs.take(pattern)
        self._clients[client] = request
        self._metrics.sse_clients.inc()
        request.on_gone = lambda: self._gone(client)
        if self._activity.watched:
            self._activity.hop("listening", pattern, peer=request.peer, requested=requested or "-")
        if not self.paused:
            self._join(client)

    def _join(self, client: SSEClient) -> None:
        """Bring a client to its hub."""
        if self._joining is not None:
            joining = Deferred.fromCoroutine(self._joining.join(client))
        else:
            joining = client.hub.when_ready().addCallback(lambda _: client.hub.hand_over(client))
        client.joining = joining
        joining.addErrback(self._join_failed, client)
        joining.addCallback(lambda _: self._joined(client, joining))

    @staticmethod
    def _joined(client: SSEClient, joining: Deferred[Any]) -> None:
        if client.joining is joining:
            client.joining = None

    def _join_failed(self, failure: Failure, client: SSEClient) -> None:
        if not failure.check(CancelledError):
            _log.failure("route {route}: a client could not be given what it has missed", failure, route=self.name)
            self._end(client)

    def _stop_sending(self, client: SSEClient) -> None:
        """Where it is, it can go on from later."""
        client.hub.remove(client)
        joining, client.joining = client.joining, None
        if joining is not None:
            joining.cancel()
        if client.place is not None:
            client.requested = str(client.place)

    def _anew(self, client: SSEClient) -> None:
        """What the client's hub reads now does not follow upon what it has read before."""
        self._stop_sending(client)
        if not self.paused:
            self._join(client)

    def _too_slow(self, client: SSEClient) -> None:
        self._metrics.slow_clients.inc()
        if self._activity.watched:
            self._activity.hop("too-slow", client.hub.pattern, size=client.queued, last=str(client.place))
        self._end(client)

    def _end(self, client: SSEClient, farewell: bytes = b"") -> None:
        """Make a client come back."""
        self._leave(client)
        client.end(farewell)

    def _gone(self, client: SSEClient) -> None:
        self._leave(client)
        client.forget()

    def _leave(self, client: SSEClient) -> None:
        if self._clients.pop(client, None) is not None:
            self._metrics.sse_clients.dec()
            client.hub.remove(client)
            self._hubs.give_back(client.hub)

    # --- now and then ------------------------------------------------------------------------------------------

    def _make_hub(self, pattern: str) -> Hub:
        config = self.config
        maker = EventMaker(pattern, config.format, self._event, config.headers, lambda: self._metrics.dropped("not-utf-8"))
        common = (self._reactor, self.name, pattern, maker, self._metrics, self._activity)
        if self._source is None:
            return CoreHub(self._context.client(config.nats), *common)
        return StreamHub(self._source, config.buffer, self._anew, *common)

    def _look_around(self) -> None:
        """Heartbeats, ends, and what hubs look at."""
        self._sweep = self._reactor.callLater(self._sweep_interval, self._look_around)
        now = self._reactor.seconds()
        lag = 0
        for hub in self._hubs.all():
            hub.tick(now)
            lag = max(lag, hub.lag)
        if self._source is not None:
            self._metrics.consumer_lag_messages.set(lag)
        quiet_since = now - self.config.heartbeat
        for client in list(self._clients):
            if client.ends_at <= now:
                self._end(client, retry_field(self.config.retry, RETRY_SPREAD))
            elif client.written_at <= quiet_since:
                self._beat(client, now)

    def _beat(self, client: SSEClient, now: float) -> None:
        client.written_at = now
        if client.is_blocked:
            return
        hub = client.hub
        if isinstance(hub, StreamHub) and client in hub.clients and client.last < hub.position:
            client.last = hub.position
            place = client.place
            assert place is not None
            client.write(id_only(place))
        client.write(HEARTBEAT)


@implementer(IRouteFactory)
class SSEFactory:
    """The route type ``sse``."""

    type_name = SSERoute.type_name
    config_type = SSEConfig

    def make_route(self, name: str, config: Any, context: Any) -> SSERoute:
        """A route, not started."""
        return SSERoute(name, config, context)


def guarantee(config: SSEConfig) -> str:
    """What a route with this configuration promises, in words."""
    if config.stream is None:
        return (
            "At most once. Nothing is stored: what is published while a client is away is lost to it. A client that does not read "
            "is told how many messages were dropped."
        )
    return (
        f"Each message once and in order, over reconnects of the client and restarts of the bridge, for a client that comes back with the "
        f"id of its last event, as browsers do. Where that is not possible - what it misses is gone from stream {config.stream}, or "
        f"is more than {config.max_replay} messages - it gets an event named reset, and goes on from {config.start!r}."
    )


factory = SSEFactory()
