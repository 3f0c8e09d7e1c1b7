"""The server's end of one connection in memory: frames in, bytes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pynats_twisted.protocol.subjects import matches

from .server_access import GLOBAL_ACCOUNT, Identity
from .server_frames import (
    BrokenFrame,
    ConnectFrame,
    Frame,
    PingFrame,
    PongFrame,
    PublishFrame,
    SubscribeFrame,
    UnsubscribeFrame,
)
from .server_parser import ClientParser
from .server_texts import (
    AUTHENTICATION_TIMEOUT,
    AUTHORIZATION_VIOLATION,
    EXPIRED,
    HEADERS_NEEDED,
    INVALID_PROTOCOL,
    INVALID_PUBLISH_SUBJECT,
    INVALID_SUBJECT,
    STALE_CONNECTION,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_SUBSCRIPTIONS,
    is_literal,
    is_valid,
    publish_violation,
    subscription_violation,
)

if TYPE_CHECKING:
    from .server_core import ServerCore

# A server sends the first PING of a connection this soon at the latest, to have a round-trip time.
_FIRST_PING = 2.0
_MAX_REPLIES_ALLOWED = 4096
# What CONNECT leaves out, and all of it when there is none: the server's own defaults, which are not what clients want.
_DEFAULTS = {"verbose": True, "pedantic": True, "echo": True, "headers": False, "no_responders": False, "protocol": 0}


class ServerSubscription:
    """What one client is subscribed to.

    :ivar session: the client's connection; :ivar subject: :ivar queue: the group or ``""``; :ivar sid: the client's name for it.
    :ivar limit: messages after which it ends, or 0; :ivar delivered: messages so far.
    """

    def __init__(self, session: ServerSession, subject: str, queue: str, sid: str) -> None:
        self.session = session
        self.subject = subject
        self.queue = queue
        self.sid = sid
        self.limit = 0
        self.delivered = 0

    def __repr__(self) -> str:
        queue = f" queue={self.queue!r}" if self.queue else ""
        return f"<ServerSubscription {self.subject!r}{queue} sid={self.sid} of client {self.session.client_id}>"


class ServerSession:
    """One client of a :class:`~.server_core.ServerCore`, sans-IO: :meth:`receive` takes bytes, :meth:`data_to_send` gives them.

    :ivar client_id: its number. :ivar options: what its CONNECT said. :ivar subscriptions: by sid.
    :ivar bytes_received: what has come from the client, whole frames or not.
    :ivar closing: the connection has to be closed when what :meth:`data_to_send` gives was sent.
    :ivar wake: called when there is something new to send, or it has to be closed.
    """

    def __init__(self, server: ServerCore, client_id: int, client_ip: str) -> None:
        self.server = server
        self.client_id = client_id
        self.client_ip = client_ip
        self.nonce = server.new_nonce()
        self.identity: Identity | None = None
        self.options: dict[str, Any] = dict(_DEFAULTS)
        self.subscriptions: dict[str, ServerSubscription] = {}
        self.bytes_received = 0
        self.closing = False
        self.ended = False
        self.wake: Callable[[], None] | None = None
        self._parser = ClientParser(client_id, server.settings.max_control_line, server.settings.max_payload)
        self._output: list[bytes] = []
        self._timers: dict[str, Any] = {}
        self._pings_out = 0
        self._first_pong_sent = False
        self._connected = False
        self._allowed_replies: dict[str, int] = {}

    def __repr__(self) -> str:
        name = self.options.get("name")
        return f"<ServerSession {self.client_id}{f' {name!r}' if name else ''} on {self.server.host_port}>"

    @property
    def name(self) -> str:
        """The name that the client gave itself, or ``""``."""
        return str(self.options.get("name") or "")

    @property
    def account(self) -> str:
        return self.identity.account if self.identity is not None else GLOBAL_ACCOUNT

    # --- the connection --------------------------------------------------------------------------------------

    def start(self) -> None:
        """The connection is there: the server speaks first."""
        server = self.server
        self.send(server.greeting if server.greeting is not None else self._info())
        limit = server.settings.max_connections
        if limit and len(server.sessions) > limit:
            self.error(TOO_MANY_CONNECTIONS, close=True)
            return
        if server.access.required:
            self._after("auth", server.settings.auth_timeout, lambda: self.error(AUTHENTICATION_TIMEOUT, close=True))
        self._after("ping", min(_FIRST_PING, server.settings.ping_interval), self._ping_due)

    def connection_lost(self) -> None:
        """The connection is gone."""
        self.ended = self.closing = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        self.subscriptions.clear()
        self._output.clear()
        self.server.session_ended(self)

    def close(self) -> None:
        """End the connection, behind what was sent."""
        if not self.closing:
            self.closing = True
            self._wake()

    def _after(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        timer = self.server.call_later(seconds, call)
        if timer is not None:
            self._timers[name] = timer

    def _stop_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None and timer.active():
            timer.cancel()

    def _ping_due(self) -> None:
        if self._pings_out >= self.server.settings.ping_max:
            self.error(STALE_CONNECTION, close=True)
            return
        self._pings_out += 1
        self.send(b"PING\r\n")
        self._after("ping", self.server.settings.ping_interval, self._ping_due)

    # --- out -------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Bytes to the client, as they are."""
        if not self.closing and data:
            self._output.append(data)
            self._wake()

    def error(self, text: str, *, close: bool = False) -> None:
        """An ``-ERR``, and where it is said, the end."""
        self.send(b"-ERR '%b'\r\n" % text.encode("utf-8", "surrogateescape"))
        if close:
            self.close()

    def send_info(self, **changes: Any) -> None:
        """An INFO after the first one; clients of an old protocol get none."""
        if self._connected and self.options.get("protocol") == 1:
            self.send(self._info(**changes))

    def data_to_send(self) -> bytes:
        """What has to be sent now."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def _info(self, **changes: Any) -> bytes:
        return self.server.info_line(self, **changes)

    def _wake(self) -> None:
        if self.wake is not None:
            self.wake()

    def _ok(self) -> None:
        if self.options.get("verbose"):
            self.send(b"+OK\r\n")

    # --- in --------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes from the client, in any split."""
        parser = self._parser
        self.bytes_received += len(data)
        # A limit may have been changed by a reload.
        parser.max_payload = self.server.settings.max_payload
        parser.feed(data)
        while not self.closing:
            frame = parser.next_frame()
            if frame is None:
                break
            self.server.record(frame)
            if not self.server.intercepted(self, frame):
                self._handle(frame)

    def _handle(self, frame: Frame) -> None:
        if self.identity is None and not isinstance(frame, ConnectFrame):
            # Without credentials to check, nobody has to introduce himself.
            self.identity = self.server.admit({}, self.nonce)
            if self.identity is None:
                self.error(AUTHORIZATION_VIOLATION, close=True)
                return
        match frame:
            case PublishFrame():
                self._publish(frame)
            case PingFrame():
                self._ping()
            case PongFrame():
                self._pings_out = 0
            case SubscribeFrame():
                self._subscribe(frame)
            case UnsubscribeFrame():
                self._unsubscribe(frame)
            case ConnectFrame():
                self._connect(frame)
            case BrokenFrame():
                if frame.error is not None:
                    self.error(frame.error, close=True)
                else:
                    self.close()

    def _connect(self, frame: ConnectFrame) -> None:
        self._stop_timer("auth")
        self.options.update(frame.options)
        options = self.options
        rejection = self.server.next_rejection()
        identity = self.server.admit(options, self.nonce) if rejection is None else None
        if identity is None:
            self.error(rejection or AUTHORIZATION_VIOLATION, close=True)
        elif options["protocol"] not in (0, 1):
            self.error(INVALID_PROTOCOL, close=True)
        elif options["no_responders"] and not options["headers"]:
            self.error(HEADERS_NEEDED, close=True)
        else:
            self.identity = identity
            self._connected = True
            if identity.expires is not None:
                self._stop_timer("expiry")
                self._after("expiry", identity.expires - self.server.now(), lambda: self.error(EXPIRED, close=True))
            self._ok()

    def _ping(self) -> None:
        if not self.server.answer_pings:
            return
        self.send(b"PONG\r\n")
        if not self._first_pong_sent:
            self._first_pong_sent = True
            self.send_info(connect_info=True, remote_account=self.account)

    def _publish(self, frame: PublishFrame) -> None:
        if frame.header_block and not (self.options["headers"] and self.server.settings.headers):
            self.close()
            return
        if self.options["pedantic"] and not is_literal(frame.subject):
            self.error(INVALID_PUBLISH_SUBJECT)
        if not self._may_publish(frame.subject):
            self.error(publish_violation(frame.subject))
            return
        self._ok()
        delivered = self.server.route(frame, self)
        if not delivered and frame.reply and self.options["no_responders"]:
            self._no_responders(frame)

    def _may_publish(self, subject: str) -> bool:
        permissions = self.identity.permissions if self.identity is not None else None
        if permissions is None or permissions.may_publish(subject):
            return True
        left = self._allowed_replies.pop(subject, 0)
        if left > 1:
            self._allowed_replies[subject] = left - 1
        return left > 0

    def _no_responders(self, frame: PublishFrame) -> None:
        for subscription in self.subscriptions.values():
            if matches(subscription.subject, frame.reply):
                subject = frame.subject.encode("utf-8", "surrogateescape")
                block = b"NATS/1.0 503\r\nNats-Subject: %b\r\n\r\n" % subject
                self.send(_message(frame.reply, subscription.sid, "", block, b""))
                return

    def _subscribe(self, frame: SubscribeFrame) -> None:
        if not is_valid(frame.subject):
            self.error(INVALID_SUBJECT)
            return
        permissions = self.identity.permissions if self.identity is not None else None
        if permissions is not None and not permissions.may_subscribe(frame.subject, frame.queue):
            self.error(subscription_violation(frame.subject, frame.queue))
            return
        limit = self.server.settings.max_subscriptions
        if limit and len(self.subscriptions) >= limit:
            self.error(TOO_MANY_SUBSCRIPTIONS)
            return
        # A sid that is in use keeps what it stands for.
        if frame.sid not in self.subscriptions:
            self.subscriptions[frame.sid] = ServerSubscription(self, frame.subject, frame.queue, frame.sid)
            self.server.subscriptions_changed()
        self._ok()

    def _unsubscribe(self, frame: UnsubscribeFrame) -> None:
        subscription = self.subscriptions.get(frame.sid)
        if subscription is not None:
            if frame.limit > subscription.delivered:
                subscription.limit = frame.limit
            else:
                self.forget(subscription)
        self._ok()

    # --- what the server does to it --------------------------------------------------------------------------

    def forget(self, subscription: ServerSubscription) -> None:
        """End a subscription."""
        if self.subscriptions.pop(subscription.sid, None) is not None:
            self.server.subscriptions_changed()

    def accepts(self, subject: str, sender: ServerSession | None) -> bool:
        """Whether a message on ``subject`` may be delivered to this client."""
        if self.closing or (sender is self and not self.options["echo"]):
            return False
        if sender is not None and sender.account != self.account:
            return False
        permissions = self.identity.permissions if self.identity is not None else None
        return permissions is None or permissions.may_receive(subject)

    def deliver(self, subscription: ServerSubscription, frame: PublishFrame) -> None:
        """Send a message for one of its subscriptions."""
        subscription.delivered += 1
        if subscription.delivered == subscription.limit:
            self.forget(subscription)
        permissions = self.identity.permissions if self.identity is not None else None
        if frame.reply and permissions is not None and permissions.responses:
            if len(self._allowed_replies) >= _MAX_REPLIES_ALLOWED:
                del self._allowed_replies[next(iter(self._allowed_replies))]
            self._allowed_replies[frame.reply] = permissions.responses
        block = frame.header_block if self.options["headers"] else b""
        self.send(_message(frame.subject, subscription.sid, frame.reply, block, frame.payload))

    def check_again(self) -> None:
        """The server's users have changed: whoever is not one of them goes, and subscriptions that are denied now end."""
        if not self._connected:
            return
        identity = self.server.admit(self.options, self.nonce)
        if identity is None and self.server.access.knows(self.options):
            self.error(AUTHORIZATION_VIOLATION, close=True)
            return
        if identity is None:
            # A user that is gone goes without a word.
            self.close()
            return
        self.identity = identity
        for subscription in list(self.subscriptions.values()):
            if identity.permissions is not None and not identity.permissions.may_subscribe(subscription.subject, subscription.queue):
                self.forget(subscription)
                self.error(f'{subscription_violation(subscription.subject, subscription.queue)} (sid "{subscription.sid}")')


def _message(subject: str, sid: str, reply: str, block: bytes, payload: bytes) -> bytes:
    start = f"{subject} {sid} {reply} " if reply else f"{subject} {sid} "
    head = start.encode("utf-8", "surrogateescape")
    if block:
        return b"HMSG %b%d %d\r\n%b%b\r\n" % (head, len(block), len(block) + len(payload), block, payload)
    return b"MSG %b%d\r\n%b\r\n" % (head, len(payload), payload)
