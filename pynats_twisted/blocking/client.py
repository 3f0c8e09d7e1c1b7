"""What users of the blocking client hold: its calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import (
    ConfigurationError,
    ConnectionDrainingError,
    DrainTimeoutError,
    FlushTimeoutError,
    RequestTimeoutError,
)
from ..protocol.options import ClientOptions
from ..protocol.subjects import new_inbox
from .life import Life, Listener
from .sockets import Machine
from .status import ClientStats, ClientStatus
from .subscription import BlockingSubscription

if TYPE_CHECKING:
    from types import TracebackType

    from ..protocol.encoder import Payload
    from ..protocol.headers import HeadersLike
    from ..protocol.info import ServerInfo
    from ..protocol.message import Msg


class BlockingClient:
    """A NATS client whose calls wait for what they do. :func:`~pynats_twisted.blocking.connect` makes one that is connected.

    It stays the same object through all reconnects; subscriptions are renewed, and what is published meanwhile is buffered. All of
    that happens inside its calls, and nothing between them.

    It is for one thread: a call from another thread while one is under way raises
    :class:`~pynats_twisted.errors.ConcurrentUseError`, and so does one from a signal handler or in a forked process. ``on_event``
    may call anything. An exception out of nowhere (KeyboardInterrupt) ends a call and leaves the client usable.

    As a context manager it drains at the end of the block; where an exception ends the block, it just closes.

    :param options: see :class:`~pynats_twisted.ClientOptions`. Here ``tls_options`` is an ``ssl.SSLContext``, or a callable that makes one
        from a host name; ``endpoint_factory`` and WebSocket servers are not for this client.
    :param on_event: called with each :class:`~pynats_twisted.blocking.StatusEvent`, from inside of calls. What it raises is logged.
    :param machine: the clock and the sockets.
    :raises ConfigurationError: an option is not valid, or of no use here.
    """

    def __init__(self, options: ClientOptions | None = None, *, on_event: Listener | None = None, machine: Machine | None = None) -> None:
        options = options if options is not None else ClientOptions()
        _check_options(options, on_event)
        self._life = Life(options, on_event, machine if machine is not None else Machine())
        self._calls = self._life.calls
        self._engine = self._life.engine

    def __repr__(self) -> str:
        return f"<{' '.join(filter(None, ('BlockingClient', self.options.name, self.status.value, self.connected_url)))}>"

    # --- what is known ---------------------------------------------------------------------------------------

    @property
    def options(self) -> ClientOptions:
        """Its options."""
        return self._life.options

    @property
    def status(self) -> ClientStatus:
        """Where the client stands, as far as its last call has seen."""
        return self._life.status

    @property
    def is_connected(self) -> bool:
        """A connection was up when the last call ended."""
        return self._engine.is_connected

    @property
    def encrypted(self) -> bool:
        """The connection of now is in TLS."""
        return self._engine.encrypted

    @property
    def server_info(self) -> ServerInfo | None:
        """The last INFO of the connection of now, or of the last one."""
        return self._life.core.server_info

    @property
    def connected_url(self) -> str | None:
        """The server that the client is connected to, without credentials; None while it is not."""
        return self._life.url if self._engine.is_up else None

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs of the pool's servers, without credentials, in the order in which they are tried."""
        return tuple(server.url for server in self._life.core.pool.servers)

    @property
    def max_payload(self) -> int | None:
        """Bytes of headers and payload together that the server accepts; None before the first connection."""
        return self._life.core.max_payload

    @property
    def stats(self) -> ClientStats:
        """Counters over the client's whole life."""
        stats, outbound = self._life.stats, self._life.outbound
        stats.out_msgs, stats.out_bytes, stats.late_replies = outbound.accepted, outbound.accepted_bytes, self._life.inbox.late
        return stats

    @property
    def pending_bytes(self) -> int:
        """Bytes that were published and not handed to the system yet."""
        return self._life.outbound.pending

    @property
    def subscriptions(self) -> tuple[BlockingSubscription, ...]:
        """The subscriptions that have not ended."""
        return tuple(self._life.subscriptions.open.values())

    def new_inbox(self) -> str:
        """A subject that nobody else listens on, for replies."""
        return new_inbox(self.options.inbox_prefix)

    # --- beginning -------------------------------------------------------------------------------------------

    def start(self) -> BlockingClient:
        """Connect; each server is tried once. With ``retry_on_failed_connect`` it returns all the same, and later calls go on trying.

        :raises NoServersError: no server could be connected to; ``reasons`` has each attempt.
        """
        life, pool = self._life, self._life.core.pool
        with self._calls:
            if life.status is not ClientStatus.DISCONNECTED:
                raise ConfigurationError(f"a client is started once; this one is {life.status.value}")
            life.status = ClientStatus.CONNECTING
            try:
                self._calls.wait(lambda: self._engine.is_up or (life.options.retry_on_failed_connect and pool.round_complete), None)
            except BaseException:
                life.end(0.0)
                raise
            if self._calls.over:
                raise life.closed_error()
        return self

    # --- publishing ------------------------------------------------------------------------------------------

    def publish(self, subject: str, payload: Payload = b"", reply: str | None = None, headers: HeadersLike | None = None) -> None:
        """Publish a message. It is handed to the system at once, as far as that takes it; the rest goes with the next calls.

        While more than ``high_water_bytes`` (2 MiB) wait, it waits for room, for ``flush_timeout`` seconds at most. While there is no
        connection, up to ``reconnect_buffer_bytes`` are kept and sent in order after reconnecting.

        :param subject: where to; without wildcards.
        :param payload: at most the server's ``max_payload`` bytes, together with the headers.
        :param reply: where a reply goes.
        :param headers: a :class:`~pynats_twisted.Headers`, or a mapping of names to a value or several.
        :raises InvalidSubjectError: :raises InvalidHeaderError: :raises InvalidArgumentError: a value cannot be sent.
        :raises MaxPayloadExceededError: headers and payload are larger than the server accepts.
        :raises OutboundBufferFullError: there is no room; nothing was taken.
        :raises ConnectionClosedError: the client is closed.
        """
        with self._calls:
            self._life.publish(subject, payload, reply, headers, self._calls.until(None, self.options.flush_timeout))

    @contextlib.contextmanager
    def buffered(self) -> Iterator[None]:
        """A block in which small publishes gather and are written 64 KiB at a time; the rest when it ends, or when a call waits.

        For many publishes in a row: each write on its own costs more than the rest of publishing.
        """
        self._life.corked += 1
        try:
            yield
        finally:
            self._life.corked -= 1
            with self._calls:
                self._engine.write()

    def flush(self, timeout: float | None = None) -> None:
        """Return when the server has got everything that was published before: it answered a PING behind it.

        Where there is no connection it waits for one. Where one was lost since the last flush, and with it publishes may be, it says so.

        :param timeout: seconds; the option ``flush_timeout`` (10) by default.
        :raises FlushTimeoutError: no answer came in time.
        :raises DisconnectedError: a connection was lost that had taken publishes and not confirmed them. What it had not taken has been
            sent, or is sent with the next calls.
        :raises ConnectionClosedError: the client is closed.
        """
        life = self._life
        with self._calls:
            until = self._calls.until(timeout, self.options.flush_timeout)
            answered = self._calls.settle(until, lambda: life.doubtful)
            error = life.doubt()
            if error is not None:
                raise error
            if self._calls.over:
                raise life.closed_error()
            if not answered:
                raise FlushTimeoutError(self._why("the server did not answer a PING in time"))

    def rtt(self, timeout: float | None = None) -> float:
        """Seconds from a PING to its PONG, behind what was published before.

        :raises FlushTimeoutError: :raises DisconnectedError: :raises ConnectionClosedError: as :meth:`flush`.
        """
        begun = self._calls.now()
        self.flush(timeout)
        return self._calls.now() - begun

    def _why(self, text: str) -> str:
        """A text about a call that waited in vain, with the reason where that is the connection."""
        if self._engine.is_up:
            return text
        reasons = self._life.core.pool.reasons
        return f"{text}: there is no connection" + (f" ({reasons[-1][0]}: {reasons[-1][1]})" if reasons else "")

    # --- subscribing -----------------------------------------------------------------------------------------

    def subscribe(
        self,
        subject: str,
        *,
        queue: str | None = None,
        max_msgs: int | None = None,
        pending_msgs: int | None = None,
        pending_bytes: int | None = None,
    ) -> BlockingSubscription:
        """Subscribe. Take the messages with ``next()`` or in a loop.

        The server is told at once. ``confirmed()`` of the result waits until it has heard it, and tells whether it was denied.

        :param subject: what to listen to; ``*`` stands for one token, ``>`` at the end for the rest.
        :param queue: a queue group: each message goes to one member of it.
        :param max_msgs: end after that many messages.
        :param pending_msgs: messages that may wait to be taken (65,536 by default, 0 for no bound); :param pending_bytes: their bytes
            (64 MiB). What comes beyond that is dropped and counted.
        :raises InvalidSubjectError: :raises InvalidQueueError: :raises ConfigurationError: a value is not valid.
        :raises ConnectionClosedError: :raises ConnectionDrainingError: the client takes no new subscriptions.
        """
        options = self.options
        with self._calls:
            self._refuse_new("subscription")
            subscription = BlockingSubscription(
                self._life.subscriptions,
                subject,
                queue,
                pending_msgs=options.pending_msgs if pending_msgs is None else pending_msgs,
                pending_bytes=options.pending_bytes if pending_bytes is None else pending_bytes,
            )
            self._life.subscriptions.add(subscription, max_msgs)
        return subscription

    def _refuse_new(self, what: str) -> None:
        if self._calls.over:
            raise self._life.closed_error()
        if self._life.status is ClientStatus.DRAINING:
            raise ConnectionDrainingError(f"the client is draining and takes no new {what}")

    # --- requests --------------------------------------------------------------------------------------------

    def request(self, subject: str, payload: Payload = b"", headers: HeadersLike | None = None, timeout: float | None = None) -> Msg:
        """Publish, and wait for the first reply.

        When the connection is lost meanwhile, it keeps waiting, unless ``fail_requests_on_disconnect`` is set.

        :param timeout: seconds; the option ``request_timeout`` (5) by default.
        :raises NoRespondersError: nobody listens there.
        :raises RequestTimeoutError: no reply came in time; the request may have been executed.
        :raises PermissionsViolationError: the publish, or the inbox, was denied.
        :raises DisconnectedError: :raises ConnectionClosedError: the connection was lost, the client was closed.

        What :meth:`publish` raises is raised here too.
        """
        life, inbox = self._life, self._life.inbox
        with self._calls:
            self._refuse_new("request")
            until = self._calls.until(timeout, self.options.request_timeout)
            if not inbox.sid:
                life.subscriptions.add_inbox(inbox)
            request = inbox.begin(subject)
            try:
                life.publish(subject, payload, request.reply_to, headers, until)
                self._calls.wait(request.over, until)
                reply = request.result()
            finally:
                inbox.end(request)
            if reply is None:
                raise RequestTimeoutError(self._why(f"no reply to the request on {subject!r} in time"))
            return reply

    # --- time for the client ---------------------------------------------------------------------------------

    def process(self, timeout: float = 0.0) -> int:
        """Give the client some time: answer PINGs, receive what is there, send what waits, connect again if that is due.

        A program that calls nothing else for minutes calls this in between; see :doc:`/howto/blocking`.

        :param timeout: seconds to wait for something to come, at most; 0 does not wait, or, where the connection was lost, 0.1 s at most
            for each attempt at a new one.
        :returns: how many messages were received.
        :raises ConnectionClosedError: the client is closed.
        """
        with self._calls:
            if self._calls.over:
                raise self._life.closed_error()
            before, received = self._life.stats.in_msgs, self._engine.received
            until = self._calls.until(timeout)
            if timeout:
                self._calls.wait(lambda: self._engine.received != received, until)
            self._calls.look_now()
            return self._life.stats.in_msgs - before

    # --- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close for good. What was published is still written, for one second at most. Closing twice is no error.

        Messages that subscriptions have received can still be taken.
        """
        with self._calls.for_closing():
            self._life.closed_on_purpose = True
            self._life.end()

    def drain(self, timeout: float | None = None) -> None:
        """Close without losing a message: every subscription ends, what is under way for them is received, what was published reaches
        the server, and then the client is closed. What the subscriptions have received can still be taken.

        Where there is no connection it waits for one, if anything waits to be sent.

        :param timeout: seconds; the option ``drain_timeout`` (30) by default.
        :raises DrainTimeoutError: it took longer; the client was closed all the same.
        :raises DisconnectedError: the connection was lost meanwhile, and publishes may be lost; the client was closed.
        """
        life = self._life
        with self._calls:
            if self._calls.over or life.status is ClientStatus.DRAINING:
                return
            until = self._calls.until(timeout, self.options.drain_timeout)
            life.closed_on_purpose = True
            life.status = ClientStatus.DRAINING
            life.doubtful = 0
            try:
                done = self._drain(until)
                error = life.doubt()
                if error is None and not done:
                    error = life.close_error or DrainTimeoutError(self._why("the client was closed, and not drained in time"))
            finally:
                life.end()
            life.tell()
            if error is not None:
                raise error

    def _drain(self, until: float | None) -> bool:
        calls, engine, life = self._calls, self._engine, self._life
        calls.wait(lambda: not engine.is_leaving, until)
        life.subscriptions.dismiss()
        ping = engine.ping()
        calls.wait(lambda: ping.over, until)
        life.subscriptions.end_all()
        if not ping.lost:
            return ping.answered
        # A new connection gets no subscriptions any more, only what waits to be sent.
        return not (engine.is_up or life.outbound.pending) or calls.settle(until, lambda: life.doubtful)

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.drain()
        else:
            self.close()


def _check_options(options: ClientOptions, on_event: Listener | None) -> None:
    if on_event is not None and not callable(on_event):
        raise ConfigurationError(f"on_event: {type(on_event).__name__} was given; it must be a callable, or None")
    if options.endpoint_factory is not None:
        raise ConfigurationError("endpoint_factory: it is for a reactor, and the blocking client has none")
    for url in options.server_urls:
        if url.scheme in ("ws", "wss"):
            raise ConfigurationError(f"{url.url}: this version does not speak WebSocket; use nats:// or tls://")
    if options.tls_options is not None:
        from .tls import check_options

        check_options(options)


def connect(servers: str | Sequence[str] = "nats://127.0.0.1:4222", *, on_event: Listener | None = None, **options: Any) -> BlockingClient:
    """Connect to a NATS server. Nothing of it needs Twisted.

    :param servers: a URL, several in a list or separated by commas; each is tried once.
    :param on_event: called with each :class:`~pynats_twisted.blocking.StatusEvent`, from inside of calls. What it raises is logged.
    :param options: see :class:`~pynats_twisted.ClientOptions`. Here ``tls_options`` is an ``ssl.SSLContext``, or a callable that makes one
        from a host name; ``endpoint_factory`` and WebSocket servers are not for this client.
    :returns: a client that is connected; with ``retry_on_failed_connect`` perhaps one that is not, and that tries on in its calls.
    :raises ConfigurationError: an option or a URL is not valid, or of no use here; the text names it.
    :raises NoServersError: every server was tried once and none could be connected to; ``reasons`` has each attempt.
    """
    return BlockingClient(ClientOptions.from_keywords(servers, **options), on_event=on_event).start()
