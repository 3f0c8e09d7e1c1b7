"""What users hold: a client, for its whole life, across connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed

from ..errors import (
    ConfigurationError,
    ConnectionDrainingError,
    DisconnectedError,
    FlushTimeoutError,
)
from ..protocol.options import ClientOptions
from ..protocol.subjects import check_queue, new_inbox
from .delivery import Handler, KeyFunction
from .draining import ClientDraining
from .factory import NatsClientFactory
from .listeners import Listener
from .request_many import RequestMany
from .requests import Requests
from .status import (
    ClientStats,
    ClientStatus,
)
from .subscription import Overflow, Subscription
from .subscriptions import ClientSubscriptions
from .waiting import check_seconds

if TYPE_CHECKING:
    from ..jetstream.context import JetStreamContext
    from ..protocol.encoder import Payload
    from ..protocol.headers import HeadersLike
    from ..protocol.info import ServerInfo
    from ..protocol.message import Msg
    from ..services.config import ServiceConfig
    from ..services.service import Service

_FINAL_FLUSH = 5.0


class NatsClient(ClientDraining):
    """A NATS client. :func:`~pynats_twisted.connect` makes one that is connected; :meth:`start` begins one by hand.

    It stays the same object through all reconnects; subscriptions are renewed, and what is published meanwhile is buffered.

    :param reactor: connections and all time come from it.
    :param options: see :class:`~pynats_twisted.ClientOptions`.
    """

    def __init__(self, reactor: Any, options: ClientOptions | None = None, *, factory: NatsClientFactory | None = None) -> None:
        super().__init__(reactor, options)
        self._subscriptions = ClientSubscriptions(self)
        self._requests = Requests(self)
        self._request_timeout = self.options.request_timeout
        self._factory = factory if factory is not None else NatsClientFactory(reactor, client=self)

    def __repr__(self) -> str:
        server = self.connected_url
        return f"<NatsClient {self.options.name or ''} {self._status.value}{' ' + server if server else ''}>"

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def status(self) -> ClientStatus:
        """Where the client stands."""
        return self._status

    @property
    def server_info(self) -> ServerInfo | None:
        """The last INFO of the connection of now, or of the last one."""
        return self.core.server_info

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs of the pool's servers, without credentials, in the order in which they are tried."""
        return tuple(server.url for server in self.core.pool.servers)

    @property
    def max_payload(self) -> int | None:
        """Bytes of headers and payload together that the server accepts; None before the first connection."""
        return self.core.max_payload

    @property
    def stats(self) -> ClientStats:
        """The counters over the client's whole life, as they are now. Messages of the read that is being handled come later."""
        self._take_counters()
        return replace(self.counters)

    @property
    def pending_bytes(self) -> int:
        """Bytes that were published and not handed to a transport yet."""
        return self.outbound.pending

    @property
    def requests_in_flight(self) -> int:
        """Requests that wait for a reply."""
        return self._requests.in_flight

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The subscriptions that have not ended."""
        return tuple(self._subscriptions.open.values())

    # --- beginning -------------------------------------------------------------------------------------------

    def start(self) -> Deferred[NatsClient]:
        """Begin to connect. Fires with the client at the first connection; at once with ``retry_on_failed_connect``.

        Cancelling closes the client.

        :raises NoServersError: every server was tried once and none could be connected to; ``reasons`` has each attempt.
        """
        from .connector import NatsConnector

        if self._status is not ClientStatus.DISCONNECTED or self._ending:
            raise ConfigurationError(f"a client is started once; this one is {'closing' if self._ending else self._status.value}")
        self._status = ClientStatus.CONNECTING
        waiter: Deferred[NatsClient]
        if self.options.retry_on_failed_connect:
            waiter = succeed(self)
        else:
            first = self._connected.wait()
            waiter = Deferred(lambda _: self._start_cancelled())
            first.addCallbacks(waiter.callback, lambda failure: None if waiter.called else waiter.errback(failure))
        NatsConnector(self.reactor, self._factory).connect()
        return waiter

    def _start_cancelled(self) -> None:
        self.close()

    def when_connected(self) -> Deferred[NatsClient]:
        """Fires with the client when a connection is up: at once where one is.

        :raises NoServersError: no server could be connected to.
        :raises ConnectionClosedError: the client was closed.
        """
        if self._status is ClientStatus.CLOSED:
            return fail(self._closed_error())
        return succeed(self) if self.is_connected else self._connected.wait()

    # --- publishing ------------------------------------------------------------------------------------------

    def publish(
        self, subject: str, payload: Payload = b"", reply: str | None = None, headers: HeadersLike | None = None
    ) -> Awaitable[None]:
        """Publish a message. It is buffered, and written at the end of the reactor's turn.

        Awaiting the result gives back-pressure: it is done at once while fewer than ``high_water_bytes`` are waiting. While
        there is no connection, up to ``reconnect_buffer_bytes`` are kept and sent in order after reconnecting.

        :param subject: where to; without wildcards.
        :param payload: at most the server's ``max_payload`` bytes, together with the headers.
        :param reply: where a reply goes.
        :param headers: a :class:`~pynats_twisted.Headers`, or a mapping of names to a value or several.
        :raises InvalidSubjectError: :raises InvalidHeaderError: :raises InvalidArgumentError: a value cannot be sent.
        :raises MaxPayloadExceededError: headers and payload are larger than the server accepts.
        :raises OutboundBufferFullError: ``max_pending_bytes``, or while disconnected ``reconnect_buffer_bytes``, are waiting.
        :raises ConnectionClosedError: :raises ConnectionDrainingError: the client takes nothing more.
        """
        return self.outbound.publish(subject, payload, reply, headers)

    def flush(self, timeout: float | None = None) -> Deferred[None]:
        """Fires when the server has got everything that was published before: it answered a PING behind it.

        :param timeout: seconds; the option ``flush_timeout`` (10) by default.
        :raises FlushTimeoutError: no answer came in time.
        :raises DisconnectedError: there is no connection, or it was lost before the answer.
        :raises ConnectionClosedError: the client is closed.
        """
        if self._status is ClientStatus.CLOSED:
            return fail(self._closed_error())
        seconds = self.options.flush_timeout if timeout is None else check_seconds("timeout", timeout)
        flushed = self.ping()

        def on_timeout(result: Any, seconds: float) -> Any:
            raise FlushTimeoutError(f"the server did not answer a PING within {seconds:g} s")

        flushed.addTimeout(seconds, self.reactor, on_timeout)
        return flushed

    def ping(self) -> Deferred[None]:
        """As :meth:`flush`, without a time limit of its own: the connection's own pings find out when the server is gone."""
        if self._is_between_servers():
            return self._migration_over().addCallback(lambda _: self.ping())
        if self._protocol is None or not self.is_connected:
            return fail(DisconnectedError("there is no connection to a server"))
        return self._protocol.ping()

    def rtt(self, timeout: float | None = None) -> Deferred[float]:
        """Seconds from a PING to its PONG.

        :raises FlushTimeoutError: :raises DisconnectedError: as :meth:`flush`.
        """
        begun = self.reactor.seconds()
        flushed = self.flush(timeout)
        self.outbound.flush()
        return flushed.addCallback(lambda _: self.reactor.seconds() - begun)

    # --- subscribing -----------------------------------------------------------------------------------------

    def subscribe(
        self,
        subject: str,
        handler: Handler | None = None,
        queue: str | None = None,
        *,
        max_msgs: int | None = None,
        pending_msgs: int | None = None,
        pending_bytes: int | None = None,
        overflow: Overflow = "drop-new",
        concurrency: int = 1,
        ordered_by: KeyFunction | None = None,
    ) -> Subscription:
        """Subscribe; messages that are published from the moment at which the server has it are delivered.

        ``await`` the result to know that the server has it, or to learn that it was denied.

        :param subject: what to listen to; ``*`` stands for one token, ``>`` at the end for the rest.
        :param handler: gets each message: a plain function, one that returns a Deferred, or a coroutine function. What it
            raises is logged and counted. Without one, use ``next()`` or ``async for``.
        :param queue: a queue group: each message goes to one member of it.
        :param max_msgs: end after that many messages.
        :param pending_msgs: messages that may wait (65,536 by default, 0 for no bound); :param pending_bytes: their bytes (64 MiB).
        :param overflow: when more would wait: ``"drop-new"`` the newest, ``"drop-old"`` the oldest, ``"pause"`` reading
            from the server for five seconds at most and then drop, or end with an ``"error"``.
        :param concurrency: how many handlers may run at once, where they return Deferreds or are coroutines.
        :param ordered_by: gives a message's key; messages of one key are handled in order, one at a time.
        :raises InvalidSubjectError: :raises InvalidQueueError: :raises ConfigurationError: a value is not valid.
        :raises ConnectionClosedError: :raises ConnectionDrainingError: the client takes no new subscriptions.
        """
        self._refuse_new("subscription")
        if queue is not None:
            check_queue(queue)
        options = self.options
        subscription = Subscription(
            self._subscriptions,
            subject,
            queue,
            handler,
            pending_msgs=options.pending_msgs if pending_msgs is None else pending_msgs,
            pending_bytes=options.pending_bytes if pending_bytes is None else pending_bytes,
            overflow=overflow,
            concurrency=concurrency,
            ordered_by=ordered_by,
        )
        self._subscriptions.add(subscription, max_msgs)
        return subscription

    def _refuse_new(self, what: str) -> None:
        if self._status is ClientStatus.CLOSED or self._ending:
            raise self._closed_error()
        if self._drain is not None:
            raise ConnectionDrainingError(f"the client is draining and takes no new {what}")

    # --- requests --------------------------------------------------------------------------------------------

    def request(
        self, subject: str, payload: Payload = b"", headers: HeadersLike | None = None, timeout: float | None = None
    ) -> Deferred[Msg]:
        """Publish, and wait for the first reply. Cancelling drops a late reply silently.

        When the connection is lost meanwhile, it keeps waiting, unless ``fail_requests_on_disconnect`` is set.

        :param timeout: seconds; the option ``request_timeout`` (5) by default.
        :raises NoRespondersError: nobody listens there.
        :raises RequestTimeoutError: no reply came in time; the request may have been executed.
        :raises PermissionsViolationError: the publish, or the inbox, was denied.
        :raises DisconnectedError: :raises ConnectionClosedError: the connection was lost, the client was closed.
        :raises TooManyRequestsError: ``max_requests_in_flight`` is reached.

        What :meth:`publish` raises is raised here too.
        """
        if self._ending or self._drain is not None or self._status is ClientStatus.CLOSED:
            self._refuse_new("request")
        seconds = self._request_timeout if timeout is None else check_seconds("timeout", timeout)
        return self._requests.request(subject, payload, headers, seconds)

    def request_many(
        self,
        subject: str,
        payload: Payload = b"",
        headers: HeadersLike | None = None,
        *,
        max_msgs: int | None = None,
        stall: float | None = None,
        timeout: float | None = None,
        sentinel: Callable[[Msg], bool] | None = None,
    ) -> RequestMany:
        """Publish, and hand out all replies, for ``async for`` (ADR-47).

        :param max_msgs: end after that many replies.
        :param stall: end when for so many seconds after a reply no other came.
        :param timeout: end after so many seconds; the option ``request_timeout`` (5) by default.
        :param sentinel: end at the reply for which it returns true, without handing that out.

        What :meth:`publish` raises is raised here; NoRespondersError by the iteration.
        """
        self._refuse_new("request")
        seconds = self.options.request_timeout if timeout is None else check_seconds("timeout", timeout)
        return self._requests.request_many(subject, payload, headers, max_msgs, stall, seconds, sentinel)

    def new_inbox(self) -> str:
        """A subject that nobody else listens on, for replies, below the option ``inbox_prefix``."""
        return new_inbox(self.options.inbox_prefix)

    # --- what builds on it -----------------------------------------------------------------------------------

    def jetstream(
        self,
        *,
        domain: str | None = None,
        api_prefix: str | None = None,
        timeout: float = 5.0,
        max_async_pending: int = 4000,
        async_stall_wait: float = 0.2,
        duplicate_window: float = 120.0,
        resend_after: float | None = 1.0,
    ) -> JetStreamContext:
        """JetStream, through this client. Asks nothing yet; several may be used side by side.

        :param domain: the JetStream domain to ask, when it is not the server's own.
        :param api_prefix: the prefix of an API that is imported from another account; not together with ``domain``.
        :param timeout: seconds that a request of the API may take, and that a publish waits for its ack.
        :param max_async_pending: publishes of ``publish_async`` that may be without an ack.
        :param async_stall_wait: seconds that one more waits for room; 0 for none.
        :param duplicate_window: seconds for which the streams that are published to remember message ids (their ``duplicate_window``, 120
            by default): a publish with an id is sent again after a lost connection only while it is younger.
        :param resend_after: seconds without an ack after which a publish with an id is sent again on the same connection, each time after
            twice as long as before. None for never.
        :raises JetStreamConfigError: the domain or the prefix breaks a rule, or both are given.
        :raises InvalidArgumentError: a number or a time breaks a rule.
        """
        from ..jetstream.context import JetStreamContext

        return JetStreamContext(
            self,
            domain=domain,
            api_prefix=api_prefix,
            timeout=timeout,
            max_async_pending=max_async_pending,
            async_stall_wait=async_stall_wait,
            duplicate_window=duplicate_window,
            resend_after=resend_after,
        )

    def add_service(self, config: ServiceConfig) -> Deferred[Service]:
        """Begin a service (ADR-32); its endpoints are added to what this fires with.

        :raises ServiceConfigError: the configuration breaks a rule. Nothing was sent.

        What :meth:`subscribe` raises is raised here too.
        """
        from ..services.service import add_service

        return add_service(self, config)

    # --- the end ---------------------------------------------------------------------------------------------

    def close(self) -> Deferred[None]:
        """Close for good. What was published is still written, for one second at most; everybody who waits is told.

        Fires when the connection is gone. Never fails; closing twice is no error.
        """
        if not self._ending:
            self.closed_on_purpose = True
            self._say_last_words()
            self._end(None)
        return self._closed.wait()

    def when_closed(self) -> Deferred[None]:
        """Fires when the client is closed for good, whatever the reason; :class:`~pynats_twisted.client.status.Closed` tells it."""
        return self._closed.wait()

    async def __aenter__(self) -> NatsClient:
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            await self.drain()
        else:
            await self.close()

    def force_reconnect(self) -> None:
        """Leave the connection of now, if there is one, and connect again at once, without a wait.

        What was published before is written first, for one second at most.

        :raises ConnectionClosedError: the client is closed.
        :raises ConnectionDrainingError: the client is draining.
        """
        if self._status is ClientStatus.CLOSED or self._ending:
            raise self._closed_error()
        if self._drain is not None:
            raise ConnectionDrainingError("the client is draining and stays with its connection")
        if self.is_connected:
            self._stop_migration()
            self.outbound.flush()
            self._leave()
            self._status = ClientStatus.RECONNECTING
        self._factory.retry_now()

    # --- listeners -------------------------------------------------------------------------------------------

    def add_listener(self, listener: Listener) -> None:
        """Call ``listener`` with each :class:`~pynats_twisted.client.status.StatusEvent`, in order.

        It is called from the reactor, never from inside a call of this client. What it raises is logged and counted.
        """
        self.events.add(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Call it no more."""
        self.events.remove(listener)


def connect(reactor: Any, servers: Any = "nats://127.0.0.1:4222", **options: Any) -> Deferred[NatsClient]:
    """Connect to a NATS server.

    :param reactor: connections and all time come from it.
    :param servers: a URL, several in a list or separated by commas.
    :param options: see :class:`~pynats_twisted.ClientOptions`.
    :returns: fires with the client when it is connected; at once with ``retry_on_failed_connect``. Cancelling it stops everything.
    :raises ConfigurationError: an option or a URL is not valid; the text names it.
    :raises NoServersError: every server was tried once and none could be connected to; ``reasons`` has each attempt.
    """
    return NatsClient(reactor, ClientOptions.from_keywords(servers, **options)).start()
