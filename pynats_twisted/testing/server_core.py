"""A NATS server as a state machine: who is connected, who gets what. It has no socket, and time only where a clock is given."""

from __future__ import annotations

import dataclasses
import json
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pynats_twisted.errors import ConfigurationError
from pynats_twisted.protocol.headers import Headers, HeadersLike
from pynats_twisted.protocol.subjects import check_publish_subject, matches

from .server_access import Access, Identity
from .server_frames import Frame, PublishFrame
from .server_session import ServerSession, ServerSubscription
from .server_texts import AUTHORIZATION_VIOLATION

if TYPE_CHECKING:
    from .accounts import Operator

_F = TypeVar("_F", bound=Frame)

Responder = Callable[[PublishFrame], "bytes | None"]
Interceptor = Callable[[ServerSession, Frame], object]

VERSION = "2.12.1"
# The last frames are kept for observation, not all: a test may run a worker for long.
_KEPT_FRAMES = 10_000


@dataclass(frozen=True, kw_only=True)
class MemoryServerOptions:
    """The options of a server in memory; those that :class:`~pynats_twisted.testing.ServerProcess` has too are called the same.

    :ivar name: ``server_name``.
    :ivar user: the one user there is, with ``password``.
    :ivar token: the token that every client needs.
    :ivar users: several users: ``{"user": "a", "password": "b", "permissions": {"publish": ["x.>"], "subscribe": {"deny":
        ["y"]}}}`` or ``{"nkey": "U..."}``.
    :ivar operator: an :class:`~pynats_twisted.testing.Operator`, whose accounts' users may come with their JWTs.
    :ivar headers: headers are supported.
    :ivar max_payload: bytes of headers and payload that a message may have.
    :ivar max_control_line: bytes that the arguments of a line of the client may have.
    :ivar max_connections: clients at one time; 0 for no limit.
    :ivar max_subscriptions: subscriptions of one client; 0 for no limit.
    :ivar max_pending: bytes that may wait for a client that does not read, before it is cut.
    :ivar ping_interval: seconds between PINGs to a client; the first comes after 2 seconds at the latest.
    :ivar ping_max: PINGs that a client may leave unanswered.
    :ivar auth_timeout: seconds in which a client must have sent its credentials.
    :ivar lame_duck_grace: seconds from lame duck mode to the end of the clients that are left then.
    :ivar jetstream: what INFO says about JetStream. There is none.
    """

    name: str = "memory"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    users: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    operator: Operator | None = field(default=None, repr=False)
    headers: bool = True
    max_payload: int = 1024 * 1024
    max_control_line: int = 4096
    max_connections: int = 0
    max_subscriptions: int = 0
    max_pending: int = 64 * 1024 * 1024
    ping_interval: float = 120.0
    ping_max: int = 2
    auth_timeout: float = 2.0
    lame_duck_grace: float = 10.0
    jetstream: bool = False

    def changed(self, changes: Mapping[str, Any]) -> MemoryServerOptions:
        """These options with some replaced.

        :raises ConfigurationError: there is no such option.
        """
        known = {option.name for option in dataclasses.fields(self)}
        for name in changes:
            if name not in known:
                raise ConfigurationError(f"a server in memory has no option {name!r}; known: {', '.join(sorted(known))}")
        return dataclasses.replace(self, **changes)

    def access(self) -> Access:
        """Who may connect."""
        return Access(user=self.user, password=self.password, token=self.token, users=self.users, operator=self.operator)


class ServerCore:
    """A NATS server, sans-IO. Each connection is a :class:`~.server_session.ServerSession`, from :meth:`new_session`.

    :param clock: has ``callLater``; without one there are no timeouts, no PINGs from the server, and no expiry.
    :param rng: has ``choice``, which picks the member of a queue group that gets a message.
    :param wall_clock: gives seconds since the epoch, for the expiry of JWTs.
    :param host: what INFO says; :param port: likewise.
    :param options: see :class:`MemoryServerOptions`.
    :raises ConfigurationError: an option is unknown or cannot be used.
    :ivar settings: the options; :meth:`reload` changes them.
    :ivar sessions: the connections, in the order in which they came.
    :ivar accepting: new connections are taken.
    :ivar answer_pings: PINGs of clients are answered.
    :ivar info: keys that INFO says in the place of the server's own, or besides them.
    :ivar greeting: bytes to say to new connections in the place of INFO, or None.
    :ivar interceptor: gets each frame first, with its session; the server itself does nothing with it when it returns true.
    :ivar cluster: the servers that this one is connected to, itself included.
    """

    def __init__(
        self,
        clock: Any = None,
        *,
        rng: Any = None,
        wall_clock: Callable[[], float] = time.time,
        host: str = "127.0.0.1",
        port: int = 4222,
        **options: Any,
    ) -> None:
        self.settings = MemoryServerOptions().changed(options)
        self.access = self.settings.access()
        self.host = host
        self.port = port
        self.server_id = "N" + secrets.token_hex(20).upper()
        self.sessions: list[ServerSession] = []
        self.accepting = True
        self.lame = False
        self._lame_timer: Any = None
        self.answer_pings = True
        self.info: dict[str, Any] = {}
        self.greeting: bytes | None = None
        self.interceptor: Interceptor | None = None
        self.cluster: list[ServerCore] = [self]
        self.now = wall_clock
        self._clock = clock
        self._rng = rng if rng is not None else random.Random()
        self._frames: deque[Frame] = deque(maxlen=_KEPT_FRAMES)
        self._responders: list[tuple[str, Responder]] = []
        self._rejections: deque[str] = deque()
        self._matched: dict[str, list[ServerSubscription]] = {}
        self._client_ids = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.settings.name!r} {self.host_port}, {len(self.sessions)} clients>"

    @property
    def host_port(self) -> str:
        """Where it is, as other servers of its cluster tell clients."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL for clients, without credentials."""
        return f"nats://{self.host_port}"

    # --- connections -----------------------------------------------------------------------------------------

    def new_session(self, client_ip: str = "127.0.0.1") -> ServerSession:
        """A connection that is being made; call its ``start`` when bytes can be sent."""
        self._client_ids += 1
        session = ServerSession(self, self._client_ids, client_ip)
        self.sessions.append(session)
        return session

    def session_ended(self, session: ServerSession) -> None:
        """A connection is gone."""
        if session in self.sessions:
            self.sessions.remove(session)
            self.subscriptions_changed()
            if self.lame and not self.sessions:
                self._end_lame_duck()

    def call_later(self, seconds: float, call: Callable[[], None]) -> Any:
        """A delayed call, or None without a clock."""
        return self._clock.callLater(max(0.0, seconds), call) if self._clock is not None else None

    def new_nonce(self) -> bytes:
        """What a client has to sign."""
        return secrets.token_urlsafe(11).encode() if self.access.uses_nonce else b""

    def admit(self, options: Mapping[str, Any], nonce: bytes) -> Identity | None:
        """Who it is that comes with these options, or None: nobody who may come in."""
        return self.access.admit(options, nonce, self.now())

    def reject(self, text: str = AUTHORIZATION_VIOLATION, times: int = 1) -> None:
        """Answer the next CONNECTs with this ``-ERR``, and close those connections."""
        self._rejections.extend([text] * times)

    def next_rejection(self) -> str | None:
        """The ``-ERR`` for the CONNECT that came now, or None."""
        return self._rejections.popleft() if self._rejections else None

    def info_line(self, session: ServerSession, **changes: Any) -> bytes:
        """An INFO for one client."""
        settings = self.settings
        info: dict[str, Any] = {
            "server_id": self.server_id,
            "server_name": settings.name,
            "version": VERSION,
            "proto": 1,
            "go": "go1.25.1",
            "host": self.host,
            "port": self.port,
            "headers": settings.headers,
            "max_payload": settings.max_payload,
            "client_id": session.client_id,
            "client_ip": session.client_ip,
        }
        others = self.gossip()
        optional = {
            "auth_required": self.access.required,
            "jetstream": settings.jetstream,
            "nonce": session.nonce.decode(),
            "cluster": "memory" if len(self.cluster) > 1 else "",
            "connect_urls": others,
            "ldm": self.lame,
        }
        info.update({name: value for name, value in optional.items() if value}, **self.info)
        info.update(changes)
        return b"INFO " + json.dumps(info, separators=(",", ":")).encode() + b" \r\n"

    # --- messages --------------------------------------------------------------------------------------------

    def route(self, frame: PublishFrame, sender: ServerSession | None = None) -> bool:
        """Deliver a message to whom it is for. Returns whether anybody got it."""
        delivered = self._respond(frame)
        queues: dict[str, list[ServerSubscription]] = {}
        # Its own clients first: in a queue group they are preferred.
        for server in [self, *(other for other in self.cluster if other is not self)]:
            groups: dict[str, list[ServerSubscription]] = {}
            for subscription in server.matching(frame.subject):
                if not subscription.session.accepts(frame.subject, sender):
                    continue
                if subscription.queue:
                    groups.setdefault(subscription.queue, []).append(subscription)
                else:
                    subscription.session.deliver(subscription, frame)
                    delivered = True
            queues = {**groups, **queues}
        for members in queues.values():
            chosen = self._rng.choice(members)
            chosen.session.deliver(chosen, frame)
            delivered = True
        return delivered

    def matching(self, subject: str) -> list[ServerSubscription]:
        """The subscriptions of this server's clients that a message on ``subject`` is for."""
        if "" in subject.split("."):
            return []
        found = self._matched.get(subject)
        if found is None:
            every = [each for session in self.sessions for each in session.subscriptions.values()]
            found = [each for each in every if matches(each.subject, subject)]
            if len(self._matched) >= _KEPT_FRAMES:
                self._matched.clear()
            self._matched[subject] = found
        return list(found)

    def subscriptions_changed(self) -> None:
        """What was found to match may not any more."""
        self._matched.clear()

    def publish(self, subject: str, payload: bytes = b"", reply: str = "", headers: HeadersLike | None = None) -> bool:
        """Publish from outside, as a client that nobody sees. Returns whether anybody got it.

        :raises InvalidSubjectError: the subject is not valid to publish to.
        """
        check_publish_subject(subject)
        block = Headers(headers).encode() if headers else b""
        return self.route(PublishFrame(subject=subject, payload=payload, reply=reply, header_block=block))

    def respond(self, pattern: str, answer: bytes | Responder) -> None:
        """Be the responder to what is published on ``pattern``, in the place of what was said about the same pattern before.

        :param answer: the reply, or what is called with the :class:`~.server_frames.PublishFrame` and gives it; None for none.
        """
        call: Responder = (lambda frame: answer) if isinstance(answer, bytes) else answer
        self._responders = [(known, other) for known, other in self._responders if known != pattern] + [(pattern, call)]

    def _respond(self, frame: PublishFrame) -> bool:
        answering = [call for pattern, call in self._responders if matches(pattern, frame.subject)]
        for call in answering:
            reply = call(frame)
            if reply is not None and frame.reply:
                self.publish(frame.reply, reply)
        return bool(answering)

    # --- what was seen ---------------------------------------------------------------------------------------

    def record(self, frame: Frame) -> None:
        """Keep a frame for observation."""
        self._frames.append(frame)

    def intercepted(self, session: ServerSession, frame: Frame) -> bool:
        """Whether somebody else deals with a frame."""
        return self.interceptor is not None and bool(self.interceptor(session, frame))

    def frames(self, kind: type[_F] = Frame) -> list[_F]:  # type: ignore[assignment]
        """What clients sent, in order: everything, or the frames of one type. The last 10,000 frames are kept."""
        return [frame for frame in self._frames if isinstance(frame, kind)]

    def published(self, pattern: str = ">") -> list[PublishFrame]:
        """What clients published to subjects that match, in order."""
        return [frame for frame in self.frames(PublishFrame) if matches(pattern, frame.subject)]

    def subscriptions(self, subject: str | None = None) -> list[ServerSubscription]:
        """What clients are subscribed to now; with a subject, only the subscriptions to exactly that."""
        every = [each for session in self.sessions for each in session.subscriptions.values()]
        return [each for each in every if subject in (None, each.subject)]

    def forget_frames(self) -> None:
        """Begin the observation anew."""
        self._frames.clear()

    # --- what happens to servers -----------------------------------------------------------------------------

    def error(self, text: str, *, close: bool = False) -> None:
        """Say ``-ERR`` to all clients, and where it is said, close their connections."""
        for session in list(self.sessions):
            session.error(text, close=close)

    def send(self, data: bytes) -> None:
        """Send bytes to all clients as they are."""
        for session in list(self.sessions):
            session.send(data)

    def reload(self, **changes: Any) -> None:
        """Change options. Clients that may not be there any more are sent away; so are subscriptions.

        :raises ConfigurationError: an option is unknown or cannot be used; nothing was changed.
        """
        settings = self.settings.changed(changes)
        self.access = settings.access()
        self.settings = settings
        for session in list(self.sessions):
            session.check_again()

    def lame_duck(self) -> None:
        """Tell clients to go elsewhere, take no new ones, and stop after ``lame_duck_grace`` or when all have gone."""
        self.lame = True
        self.accepting = False
        for session in list(self.sessions):
            session.send_info()
        self._gossip_changed()
        self._lame_timer = self.call_later(self.settings.lame_duck_grace, self.stop)

    def stop(self) -> None:
        """Close all connections and take no new ones, until :meth:`start`."""
        self.accepting = False
        self._end_lame_duck()
        for session in list(self.sessions):
            session.close()
        self._gossip_changed()

    def _end_lame_duck(self) -> None:
        timer, self._lame_timer = self._lame_timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def start(self) -> None:
        """Take connections again, after :meth:`stop`."""
        self.accepting = True
        self.lame = False
        self._gossip_changed()

    def restart(self) -> None:
        """Close all connections; new ones are taken at once."""
        self.stop()
        self.start()

    def join(self, *others: ServerCore) -> None:
        """Make one cluster of this server, those, and all that they are connected to."""
        members: list[ServerCore] = []
        for server in (self, *others):
            members += [member for member in server.cluster if member not in members]
        for member in members:
            member.cluster = list(members)
        self._gossip_changed()

    def gossip(self) -> list[str]:
        """The servers of the cluster that take clients, as ``host:port``; none for a server alone."""
        if len(self.cluster) < 2:
            return []
        return [member.host_port for member in self.cluster if member.accepting]

    def _gossip_changed(self) -> None:
        if len(self.cluster) > 1:
            for member in self.cluster:
                if member.accepting:
                    for session in list(member.sessions):
                        session.send_info()
