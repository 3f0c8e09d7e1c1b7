"""A service: endpoints that answer requests, known to discovery, with statistics (ADR-32)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger

from ..client.waiting import OneShot, Waiters, check_seconds
from ..errors import ConnectionClosedError, DrainTimeoutError, NatsError, ServiceConfigError, ServiceStoppedError
from ..protocol.subjects import matches, random_token
from .api import Info, Ping, Stats
from .config import ServiceConfig
from .endpoint import Endpoint
from .groups import EndpointHolder
from .monitoring import Monitoring

if TYPE_CHECKING:
    from ..client.client import NatsClient
    from ..client.subscription import Subscription


def add_service(client: NatsClient, config: ServiceConfig) -> Deferred[Service]:
    """Begin a service. See :meth:`~pynats_twisted.NatsClient.add_service`."""
    return Deferred.fromCoroutine(_begin(client, config))


async def _begin(client: NatsClient, config: ServiceConfig) -> Service:
    if not isinstance(config, ServiceConfig):
        raise ServiceConfigError(f"config={config!r} must be a ServiceConfig")
    service = Service(client, config)
    await service.begun()
    return service


class Service(EndpointHolder):
    """One instance of a service. :meth:`~pynats_twisted.NatsClient.add_service` makes it.

    It is there until :meth:`stop`, until the client is drained or closed, or until one of its subscriptions ends, for example because a
    permission is missing: then all of it stops, as a part of it would mislead whoever finds it. As an asynchronous context manager it
    stops at the end.

    :ivar client: the client. :ivar config: its configuration. :ivar id: the name of this instance.
    :ivar started: when it began. :ivar error: what ended it, or None.
    """

    _log = Logger()

    def __init__(self, client: NatsClient, config: ServiceConfig) -> None:
        super().__init__("", config.queue, tuple(config.middleware))
        self._owner = self
        self.client = client
        self.config = config
        self.id = config.id if config.id is not None else random_token()
        self.started = datetime.fromtimestamp(client.reactor.seconds(), timezone.utc)
        self.error: BaseException | None = None
        self._endpoints: list[Endpoint] = []
        self._stopping = False
        self._stopped = OneShot()
        self._waiting = Waiters[None]()
        self._monitoring = Monitoring(client, self)

    def __repr__(self) -> str:
        state = "stopped" if self._stopped.done else "stopping" if self._stopping else "running"
        return f"<Service {self.name!r} {self.version} {self.id} {state}, {len(self._endpoints)} endpoints>"

    async def begun(self) -> None:
        """Done when the server has all its subscriptions. For :func:`add_service`.

        :raises NatsError: what ended one of them; then none is left.
        """
        subscriptions = self._monitoring.subscriptions
        try:
            # The server takes them in order: when it has the last, it has said what it has against the others.
            await subscriptions[-1].confirmed()
            for each in subscriptions:
                if each.error is not None:
                    raise each.error
        except BaseException:
            self._monitoring.leave()
            raise
        for each in subscriptions:
            self._watch(each)

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The kind of service, which all its instances have in common."""
        return self.config.name

    @property
    def version(self) -> str:
        """Its semantic version."""
        return self.config.version

    @property
    def description(self) -> str:
        """What it is, for people."""
        return self.config.description

    @property
    def metadata(self) -> Mapping[str, str]:
        """What else was said of it. It cannot be changed."""
        return self.config.metadata

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Its endpoints, in the order in which they were added."""
        return tuple(self._endpoints)

    @property
    def is_stopped(self) -> bool:
        """It handles and answers nothing any more."""
        return self._stopped.done

    @property
    def stopped(self) -> Deferred[BaseException | None]:
        """Fires when the service has stopped, whatever the reason: with what ended it, or with None where it was meant to end: by
        :meth:`stop` without an error, or by ``drain()`` or ``close()`` of the client. Never fails. A new Deferred each time.
        """
        return self._stopped.wait().addCallback(lambda _: self.error)

    def ping(self) -> Ping:
        """What it answers to PING."""
        return Ping(name=self.name, id=self.id, version=self.version, metadata=self.metadata)

    def info(self) -> Info:
        """What it answers to INFO."""
        return Info(
            name=self.name,
            id=self.id,
            version=self.version,
            metadata=self.metadata,
            description=self.description,
            endpoints=[endpoint.info() for endpoint in self._endpoints],
        )

    def stats(self) -> Stats:
        """What it answers to STATS."""
        return Stats(
            name=self.name,
            id=self.id,
            version=self.version,
            metadata=self.metadata,
            started=self.started,
            endpoints=[endpoint.stats(self.config.stats_handler) for endpoint in self._endpoints],
        )

    def reset(self) -> None:
        """Have all endpoints count from 0 again."""
        for endpoint in self._endpoints:
            endpoint.reset()

    def may_answer(self, reply: str) -> bool:
        """Whether an answer may be published there; see ``allow_replies`` of :class:`~pynats_twisted.services.config.ServiceConfig`."""
        allowed = self.config.allow_replies
        return not reply.startswith("$") if allowed is None else any(matches(pattern, reply) for pattern in allowed)

    # --- endpoints -------------------------------------------------------------------------------------------

    def refuse_stopped(self) -> None:
        """Refuse what only a running service can do.

        :raises ServiceStoppedError: it stops or has stopped.
        """
        if self._stopping:
            raise ServiceStoppedError(f"service {self.name!r} {'has stopped' if self._stopped.done else 'is stopping'}")

    def endpoint_added(self, endpoint: Endpoint) -> None:
        """Take an endpoint that has its subscription. Only for :meth:`~pynats_twisted.services.groups.EndpointHolder.add_endpoint`."""
        self._endpoints.append(endpoint)
        self._watch(endpoint.subscription)

    # --- the end ---------------------------------------------------------------------------------------------

    def stop(self, error: BaseException | None = None, *, timeout: float | None = None) -> Deferred[None]:
        """Stop without losing a request: the endpoints take no new ones, those that came are answered, and then PING, INFO and STATS are
        answered no more. The client goes on.

        Fires when all of that is done. Stopping twice is no error; the first call's error and time limit hold. Cancelling it only
        stops waiting. A lost connection is no error: nothing more comes then, and what had come was handled. A handler of the service that
        waits for this would wait for itself.

        :param error: why; :attr:`stopped` fires with it.
        :param timeout: seconds; the option ``drain_timeout`` (30) by default.
        :raises DrainTimeoutError: it took longer; the service was stopped all the same, and requests that waited were dropped.
            Handlers that still run are not interrupted.
        """
        seconds = self.client.options.drain_timeout if timeout is None else check_seconds("timeout", timeout)
        if self._stopped.done:
            return succeed(None)
        done = self._waiting.wait()
        if not self._stopping:
            self._stopping = True
            self.error = error
            if error is not None:
                self._log.warn("Service {name} {id} stops: {error!r}", name=self.name, id=self.id, error=error)
            Deferred.fromCoroutine(self._stop(seconds))
        return done

    async def _stop(self, timeout: float) -> None:
        end = self.client.reactor.seconds() + timeout
        late = await self._drain([endpoint.subscription for endpoint in self._endpoints], timeout)
        if late is None:
            late = await self._drain(self._monitoring.subscriptions, max(0.0, end - self.client.reactor.seconds()))
        else:
            self._monitoring.leave()
        self._stopped.happen()
        if late is None:
            self._waiting.fire(None)
        else:
            self._waiting.fail(late)

    async def _drain(self, subscriptions: list[Subscription], timeout: float) -> DrainTimeoutError | None:
        drained: list[tuple[bool, Any]] = await DeferredList([each.drain(timeout) for each in subscriptions], consumeErrors=True)
        for well, result in drained:
            if not well and isinstance(result.value, DrainTimeoutError):
                return result.value
        return None

    def _watch(self, subscription: Subscription) -> None:
        """Stop when it ends."""
        subscription.when_closed().addCallback(lambda _: self._ended(subscription.error))

    def _ended(self, error: NatsError | None) -> None:
        if not self._stopping:
            wanted = isinstance(error, ConnectionClosedError) and self.client.closed_on_purpose
            # Nobody may be waiting: whoever wants to know has `stopped`.
            self.stop(None if wanted else error).addErrback(lambda failure: failure.trap(DrainTimeoutError) and None)

    async def __aenter__(self) -> Service:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        await self.stop()
