"""The NATS client protocol as a state machine: bytes in, events out, bytes to send. It has no clock and no socket."""

from __future__ import annotations

import random
from typing import Any

from .. import errors
from .._version import __version__
from .credentials import make_authenticator
from .encoder import PING, PONG, Payload, encode_connect
from .events import Closed, CloseReason, Event, EventType
from .headers import HeadersLike
from .info import ServerInfo, parse_info
from .options import ClientOptions
from .parser import Line, Operation, Parsed
from .server_errors import classify
from .servers import Server, ServerPool
from .state import LEGAL_CALLS, ConnectionState, illegal_call
from .subscriptions import SubscriptionTable
from .twin import Msg, Parser, PublishEncoder, Router

_S = ConnectionState

# A server asks once in a while and takes one PONG for an answer: more than this at once are a flood.
_MAX_PONGS = 1024


class ConnectionProtocol:
    """A client's side of NATS, for its whole life: one connection after another.

    The walk, over any transport::

        proto = ConnectionProtocol(ClientOptions())
        server = proto.select_server()
        # open a transport to server.host, server.port
        proto.receive_data_from_server(data)
        out = proto.data_to_send()                # send it before handling events
        for event in proto.events_received():     # first CONNECT_REQUEST
            ...
        proto.connect() + proto.ping()            # send both; the answer is CONNECTED, ERROR or CLOSED

    A call in a state where it is not legal raises a :class:`~pynats_twisted.errors.ConnectionStateError` and changes nothing;
    :data:`pynats_twisted.protocol.state.LEGAL_CALLS` lists what is legal where. What the peer does wrong is never raised:
    it comes as an ERROR event and then CLOSED, and the connection is dead until a server is selected again.

    Subscriptions, with what is left of their limits, and the pool of servers outlive connections.

    :param options: what to connect to, and how.
    :param rng: the source of the pool's shuffling and jitter.
    :param sibling: a connection of the same client: options, pool, subscriptions and credentials are shared with it. For
        moving from one server to another while the first still serves.
    :ivar held: a list to put messages into instead of counting and delivering them, until :meth:`deliver`; or None.
    :ivar recorded: a list that gets every message that is delivered; or None.
    """

    def __init__(
        self, options: ClientOptions | None = None, rng: random.Random | None = None, *, sibling: ConnectionProtocol | None = None
    ) -> None:
        if sibling is None:
            self.options = options if options is not None else ClientOptions()
            self.pool = ServerPool(self.options, rng)
            self.subscriptions = SubscriptionTable()
            self.authenticator = make_authenticator(self.options)
        else:
            self.options = sibling.options
            self.pool = sibling.pool
            self.subscriptions = sibling.subscriptions
            self.authenticator = sibling.authenticator
        self.encoder = PublishEncoder()
        self.held: list[Msg] | None = None
        self.recorded: list[Msg] | None = None
        self._router = Router(self.subscriptions.records)
        self._state = _S.WAITING_FOR_SERVER_SELECTION
        self._events: list[Event | Msg] = []
        self._parsed: list[Parsed] = []
        self._parser = self._new_parser()
        self._pongs = 0
        self._outstanding_pings = 0
        self._server: Server | None = None
        self._info: ServerInfo | None = None
        # What came in the clear before TLS serves for starting TLS and for nothing else.
        self._info_is_trusted = True
        self._discovered: list[Server] = []
        self._encrypted = False
        self._last_error: errors.NatsError | None = None

    def _new_parser(self) -> Parser:
        options = self.options
        return Parser(options.max_line, options.max_info_line, options.max_message)

    # --- what is known -----------------------------------------------------------------------------------

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        return self._state

    @property
    def current_server(self) -> Server | None:
        """The server that was selected last."""
        return self._server

    @property
    def server_info(self) -> ServerInfo | None:
        """The last INFO of this connection, or None before the first."""
        return self._info

    @property
    def max_payload(self) -> int | None:
        """Bytes of headers and payload together that the server accepts in a message; None before the first INFO."""
        return self.encoder.max_payload

    @property
    def outstanding_pings(self) -> int:
        """PINGs of this connection that were not answered yet."""
        return self._outstanding_pings

    @property
    def unknown_sid_msgs(self) -> int:
        """Messages that came for no subscription, and were dropped; a few are normal behind an unsubscribe."""
        return self._router.unknown

    @property
    def tls_upgrade_due(self) -> bool:
        """TLS has to start now, and :meth:`tls_established` to be called, before :meth:`connect`."""
        return self._state is _S.WAITING_FOR_TLS_UPGRADE

    @property
    def encrypted(self) -> bool:
        """:meth:`tls_established` was called for this connection."""
        return self._encrypted

    def _require(self, call: str) -> None:
        if self._state not in LEGAL_CALLS[call]:
            raise illegal_call(call, self._state)

    # --- the beginning and the end of a connection ---------------------------------------------------------

    def select_server(self) -> Server:
        """Take the next server of the pool; connect a transport to it.

        :raises ConnectionServerPoolEmpty: no server is left.
        """
        self._require("select_server")
        server = self.pool.select()
        self._server = server
        self._state = _S.WAITING_FOR_SERVER_INFO
        self._parser = self._new_parser()
        self._parser.pause_after_info = True
        self._parsed.clear()
        self._events.clear()
        self._pongs = 0
        self._outstanding_pings = 0
        self._info = None
        self._info_is_trusted = True
        self._encrypted = False
        self._last_error = None
        return server

    def tls_established(self) -> None:
        """TLS is up on the transport: before the first byte (TLS first, ``wss``), or when :attr:`tls_upgrade_due` said so.

        Bytes of an unfinished line that came before it, in the clear, end the connection: they would be taken for encrypted ones.
        """
        self._require("tls_established")
        if self._parser.unfinished:
            self._die(errors.UntrustedDataError("a part of a line came in the clear before TLS started"))
            return
        self._encrypted = True
        if self._state is _S.WAITING_FOR_TLS_UPGRADE:
            self._state = _S.WAITING_FOR_CLIENT_CONNECT
            self._info_is_trusted = False
            self._parser.resume(self._parsed)

    def connect(self) -> bytes:
        """The CONNECT line, with authentication for this server's nonce.

        :raises CredentialsError: the credentials cannot be had or do not fit what the server asks for.
        :raises ConfigurationError: ``echo=False`` with a server too old for it.
        """
        self._require("connect")
        info, server = self._info, self._server
        assert info is not None and server is not None
        options = self.options
        if not options.echo and info.proto < 1:
            raise errors.ConfigurationError("echo=False needs a server with protocol version 1 or newer")
        fields: dict[str, Any] = {
            "verbose": options.verbose,
            "pedantic": options.pedantic,
            "tls_required": self._encrypted,
            "lang": "python-twisted",
            "version": __version__,
            "protocol": 1,
            "echo": options.echo,
            "headers": info.headers,
            "no_responders": options.no_responders and info.headers,
        }
        if options.name is not None:
            fields["name"] = options.name
        nonce = info.nonce.encode("utf-8", "surrogatepass") if info.nonce else None
        fields.update(self.authenticator.authenticate(nonce, server).as_connect_fields())
        line = encode_connect(fields)
        self._state = _S.WAITING_FOR_SERVER_PONG
        return line

    def receive_eof_from_transport(self, error: BaseException | None = None) -> None:
        """The transport has ended or could not be made; a CLOSED event follows, and :meth:`select_server` is legal again.

        :param error: why, where it is known.
        """
        self._require("receive_eof_from_transport")
        self._close(CloseReason.TRANSPORT, error)

    def receive_eof_from_server(self, error: BaseException | None = None) -> None:
        """The server ended the connection; as :meth:`receive_eof_from_transport`."""
        self._require("receive_eof_from_server")
        self._close(CloseReason.SERVER, error)

    def receive_eof_from_client(self) -> None:
        """The client ended the connection of its own will; the server is not blamed for it."""
        self._require("receive_eof_from_client")
        self._close(CloseReason.CLIENT, None)

    def _close(self, reason: CloseReason, error: BaseException | None) -> None:
        if self._state is _S.CLOSED:
            return
        server = self._server
        assert server is not None
        error = self._last_error or error
        if reason is CloseReason.CLIENT:
            self.pool.left(server)
        elif self._state is _S.CONNECTED:
            self.pool.lost(server, error)
        else:
            self.pool.failed(server, error or errors.DisconnectedError("the connection ended before the handshake was complete"))
        self._state = _S.CLOSED
        self._outstanding_pings = 0
        self._events.append(Event(EventType.CLOSED, Closed(reason, error)))

    def connection_is_stable(self) -> None:
        """The connection has stayed up for a while: the attempts and waits of its server start anew."""
        if self._state is _S.CONNECTED and self._server is not None:
            self.pool.stable(self._server)

    # --- bytes and events ----------------------------------------------------------------------------------

    def receive_data_from_server(self, data: bytes | bytearray | memoryview) -> None:
        """Read bytes, in any split. What they mean is in :meth:`events_received`, what to answer in :meth:`data_to_send`."""
        if self._state is not _S.CONNECTED:
            self._require("receive_data_from_server")
        if data.__class__ is not bytes:
            data = bytes(data)
        if self._state is _S.WAITING_FOR_TLS_UPGRADE:
            if data:
                self._die(errors.UntrustedDataError(f"{len(data)} bytes came in the clear while TLS had to start"))
            return
        parsed = self._parsed
        first = self._state is _S.WAITING_FOR_SERVER_INFO
        problem: errors.ProtocolError | None = None
        try:
            self._parser.feed(data, parsed)
            if first and parsed:
                # Behind the INFO the parser waits until it is known whether the rest may be read in the clear.
                self._handle(parsed)
                parsed.clear()
                if self._state is _S.WAITING_FOR_CLIENT_CONNECT:
                    self._parser.resume(parsed)
        except errors.ProtocolError as error:
            problem = error
        if parsed:
            if self._state is not _S.CLOSED:
                self._handle(parsed)
            parsed.clear()
        if problem is not None and self._state is not _S.CLOSED:
            self._die(problem)

    def data_to_send(self) -> bytes:
        """What has to be sent without being asked for: the answers to PINGs. Send it before the events are handled."""
        pongs = self._pongs
        if not pongs:
            return b""
        self._pongs = 0
        return PONG * min(pongs, _MAX_PONGS)

    def events_received(self) -> list[Event | Msg]:
        """The events since the last call."""
        events = self._events
        self._events = []
        return events

    def servers_discovered(self) -> list[Server]:
        """The servers that joined the pool through INFO since the last call, and were never in it before."""
        discovered, self._discovered = self._discovered, []
        return discovered

    def deliver(self, messages: list[Msg]) -> None:
        """Deliver messages that were :attr:`held`, and hold none any more. Events follow."""
        self.held = None
        self._deliver([*messages])

    def _handle(self, parsed: list[Parsed]) -> None:
        if self._state is _S.WAITING_FOR_SERVER_INFO:
            self._handle_first(parsed)
            return
        if self.held is not None:
            self.held += [item for item in parsed if item.__class__ is Msg]
            parsed = [item for item in parsed if item.__class__ is not Msg]
        self._deliver(parsed)

    def _deliver(self, parsed: list[Parsed]) -> None:
        if self.recorded is not None:
            self.recorded += [item for item in parsed if item.__class__ is Msg]
        route = self._router.route
        index = 0
        while (index := route(parsed, index, self._events)) < len(parsed):
            self._handle_line(parsed[index])  # type: ignore[arg-type]
            if self._state is _S.CLOSED:
                return
            index += 1

    def _handle_first(self, parsed: list[Parsed]) -> None:
        # Up to the first INFO, where the parser stops. A server that refuses the connection may say so before it.
        for item in parsed:
            operation = None if isinstance(item, Msg) else item.operation
            if isinstance(item, Line) and operation in (Operation.INFO, Operation.ERR):
                self._handle_line(item)
            else:
                name = operation.value if operation is not None else "MSG"
                self._die(errors.UnexpectedMessageError(f"the server's first line is {name}, not INFO"))
            if self._state is _S.CLOSED:
                return

    def _handle_line(self, line: Line) -> None:
        operation = line.operation
        if operation is Operation.PING:
            self._pongs += 1
        elif operation is Operation.PONG:
            self._handle_pong()
        elif operation is Operation.INFO:
            self._handle_info(line.text)
        elif operation is Operation.ERR:
            self._handle_error(line.text)

    def _handle_pong(self) -> None:
        # A PONG that nobody asked for means nothing.
        if not self._outstanding_pings:
            return
        self._outstanding_pings -= 1
        if self._state is _S.WAITING_FOR_SERVER_PONG:
            assert self._server is not None
            self._state = _S.CONNECTED
            self._server.tls_required_once = self._server.tls_required_once or self._encrypted
            self._last_error = None
            self.pool.connected(self._server)
            assert self._info is not None
            if self._info_is_trusted:
                self._discovered += self.pool.update_from_info(self._info)
            self._events.append(Event(EventType.CONNECTED, self._info))
        self._events.append(Event(EventType.PONG, self._outstanding_pings))

    def _handle_error(self, text: bytes) -> None:
        error = classify(text.decode("utf-8", "surrogateescape").strip(" \t").strip("'"))
        if error.closes or self._state is not _S.CONNECTED:
            self._last_error = error
        self._events.append(Event(EventType.ERROR, error))

    def _handle_info(self, text: bytes) -> None:
        first = self._state is _S.WAITING_FOR_SERVER_INFO
        try:
            info = parse_info(text)
        except errors.InvalidInfoError as error:
            # A later INFO that cannot be read is reported; the connection does not depend on it.
            if first:
                self._die(error)
            else:
                self._events.append(Event(EventType.ERROR, error))
            return
        self._info = info
        # No server says 0 or less; taken by its word, nothing could be published.
        self.encoder.max_payload = info.max_payload if info.max_payload > 0 else None
        self.encoder.headers_supported = info.headers
        if first:
            self._first_info(info)
        else:
            self._info_is_trusted = True
            if self._state is _S.CONNECTED:
                self._discovered += self.pool.update_from_info(info)
            self._events.append(Event(EventType.INFO, info))

    def _first_info(self, info: ServerInfo) -> None:
        server = self._server
        assert server is not None
        wanted = self.options.tls_wanted or server.tls or server.tls_required_once
        if not self._encrypted and (wanted or info.tls_required):
            if not (info.tls_required or info.tls_available):
                self._die(errors.TLSNotAvailableError(f"TLS is required, and {server.host_port} does not offer it"))
                return
            if self.options.tls is False:
                self._die(errors.TLSError(f"{server.host_port} requires TLS, and tls=False forbids it"))
                return
            if self._parser.held:
                self._die(errors.UntrustedDataError(f"{self._parser.held} bytes followed INFO in the clear although TLS had to start"))
                return
            self._state = _S.WAITING_FOR_TLS_UPGRADE
        else:
            self._state = _S.WAITING_FOR_CLIENT_CONNECT
        self._events.append(Event(EventType.CONNECT_REQUEST, info))

    def _die(self, error: errors.NatsError) -> None:
        self._last_error = error
        self._events.append(Event(EventType.ERROR, error))
        self._close(CloseReason.PROTOCOL_ERROR, error)

    # --- commands ------------------------------------------------------------------------------------------

    def ping(self) -> bytes:
        """PING; a PONG event answers it, behind everything that the server got before."""
        self._require("ping")
        self._outstanding_pings += 1
        return PING

    def publish(self, subject: str, reply: str = "", payload: Payload = b"", headers: HeadersLike | None = None) -> bytes:
        """PUB or, with headers, HPUB.

        :raises InvalidSubjectError: :raises InvalidHeaderError: :raises InvalidArgumentError: a value cannot be sent.
        :raises MaxPayloadExceededError: headers and payload are larger than the server accepts.
        """
        self._require("publish")
        out: list[bytes] = []
        self.encoder.encode(out, subject, payload, reply, headers)
        return b"".join(out)

    def new_sid(self) -> int:
        """A subscription id that was not used before."""
        return self.subscriptions.new_sid()

    def subscribe(self, subject: str, queue: str = "", sid: int = 1, owner: Any = None) -> bytes:
        """SUB. The subscription outlives the connection.

        :param owner: what its messages carry as ``msg.subscription``.
        :raises InvalidSubjectError: the subject is not valid to subscribe to.
        :raises InvalidQueueError: the name of the queue group is not valid.
        :raises InvalidSubscriptionError: the sid is not a positive integer, or is in use.
        """
        self._require("subscribe")
        return self.subscriptions.add(subject, queue, sid, owner)

    def unsubscribe(self, subscription: int | str, limit: int = 0) -> bytes:
        """UNSUB one sid, or every subscription to a subject.

        :param limit: end after that many messages, counted from the subscription's beginning; 0 ends it at once, and so
            does a limit that was reached.
        :raises InvalidSubscriptionError: there is no such subscription.
        """
        self._require("unsubscribe")
        return self.subscriptions.limit(subscription, limit)

    def resubscribe(self) -> bytes:
        """SUB, and UNSUB with what is left of its limit, for every subscription: for a new connection."""
        self._require("resubscribe")
        return b"".join(self.subscriptions.resubscribe())
