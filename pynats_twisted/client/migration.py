"""Moving to another server while the one of now still serves: what a client does when its server goes into lame duck mode.

The new connection subscribes first, when what the old one delivers has been noted for a moment. Then both deliver for a while: what
comes on the new one is held. Then the old server is told to send no more, and its PONG says that everything has come; what is held is
delivered now, without what the old connection had delivered already. Publishes wait in the outbound buffer between the old server's last
PING and its PONG.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import ConnectionServerPoolEmpty, DisconnectedError, NatsError
from ..protocol.connection import ConnectionProtocol
from ..protocol.encoder import encode_subscribe, encode_unsubscribe
from .connection import NatsProtocol
from .connector import SingleConnectionFactory, endpoint_for
from .waiting import OneShot

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from ..protocol.events import Closed
    from ..protocol.info import ServerInfo
    from ..protocol.message import Msg
    from ..protocol.twin import SubscriptionRecord
    from .lifecycle import ClientLifecycle

# Other servers of the cluster have to hear of the new subscriptions before they hear that the old ones are gone.
_SETTLE = 0.25
# A message may reach one server so much later than another.
_LAG = 0.25
_OVERLAP = 0.5
_MAX_HELD = 65_536
_MAX_HELD_BYTES = 64 * 1024 * 1024
_WATCH = 0.05


class Migration:
    """One move from ``old`` to a server that the pool gives.

    It ends by ``client.migrated(new)``, or, where no other server can be connected to, by nothing: the client then stays
    until its server throws it out.
    """

    _log = Logger()

    def __init__(self, client: ClientLifecycle, old: NatsProtocol) -> None:
        self._client = client
        self._old = old
        self._core: ConnectionProtocol | None = None
        self._new: NatsProtocol | None = None
        self._attempt: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        self._known: dict[int, int] = {}
        self._settled_at: int | None = None
        self._overlap_end = 0.0
        self._leaving = False
        self._over = OneShot()

    @property
    def over(self) -> bool:
        """The client has moved, or stays."""
        return self._over.done

    def when_over(self) -> Deferred[None]:
        """Fires when the client has moved, or stays."""
        return self._over.wait()

    # --- a connection to another server ----------------------------------------------------------------------

    def begin(self) -> None:
        """Try the next server."""
        client = self._client
        core = self._core = ConnectionProtocol(sibling=client.core)
        core.held = []
        # A server that failed may have taken the subscriptions before.
        client.core.recorded = None
        try:
            server = core.select_server()
        except ConnectionServerPoolEmpty:
            self._stop()
            return
        if server is client.core.current_server:
            self._stop()
            return
        reactor, options = client.reactor, client.options
        self._new = NatsProtocol(reactor, core=core, listener=self)
        self._new.handshake_deadline = reactor.seconds() + options.connect_timeout
        try:
            attempt = endpoint_for(reactor, options, server).connect(SingleConnectionFactory(self._new))
        except Exception:  # noqa: BLE001 - the user's code may raise anything; it is the reason why this attempt failed
            self._failed(Failure())
            return
        self._attempt = attempt
        attempt.addTimeout(options.connect_timeout, reactor)
        attempt.addCallbacks(self._dialled, self._failed)

    def _dialled(self, _: Any) -> None:
        self._attempt = None

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        if self.over or self._core is None:
            return
        self._core.receive_eof_from_transport(failure.value)
        self._next(failure.value)

    def _next(self, error: BaseException | None) -> None:
        self._log.info("The move away from a lame duck server failed: {error}; the next server is tried", error=error)
        self._new = None
        self._settled_at = None
        self.begin()

    def _stop(self) -> None:
        self._client.core.recorded = None
        self._over.happen()

    def cancel(self) -> None:
        """Stay with the old connection, or with none."""
        if self.over:
            return
        self._stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._attempt is not None:
            self._attempt.cancel()
        if self._new is not None:
            self._new.close()

    # --- what the new connection tells (ConnectionListener) --------------------------------------------------

    def connection_made(self, protocol: NatsProtocol) -> None:
        """Soon subscribe on the new server. The old one goes on."""
        # Not before: an attempt may take its time, and the old connection goes on meanwhile.
        self._client.core.recorded = []
        protocol.outbound.attach(ITransport(protocol.transport))
        # What the old server has delivered may reach the new one only now, and must not be taken for new.
        self._timer = self._client.reactor.callLater(_LAG, self._subscribe, protocol)

    def _subscribe(self, protocol: NatsProtocol) -> None:
        self._timer = None
        core = protocol.core
        protocol.outbound.control(core.resubscribe())
        self._known = {sid: record.limit for sid, record in core.subscriptions.records.items()}
        protocol.ping().addCallbacks(self._subscribed, lambda failure: None)

    def connection_ended(self, protocol: NatsProtocol, closed: Closed) -> None:
        """The new connection is gone before it was of use."""
        if self.over:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._leaving:
            # The old connection was told to send no more: an ordinary reconnect is what is left.
            self._stop()
            self._old.fail(closed.error or DisconnectedError("the connection to the next server was lost"))
        else:
            self._next(closed.error or DisconnectedError("the server closed the connection"))

    def info_received(self, protocol: NatsProtocol, info: ServerInfo) -> None:
        """The client asks for the pool's news when it has moved."""

    def error_received(self, protocol: NatsProtocol, error: NatsError) -> None:
        """What the new server says is for the client's listeners, as ever."""
        self._client.error_received(protocol, error)

    def subscription_ended(self, protocol: NatsProtocol, record: SubscriptionRecord) -> None:
        """A limit was reached by what was held."""
        self._client.subscription_ended(protocol, record)

    # --- from the old one to the new one ---------------------------------------------------------------------

    def _subscribed(self, _: None) -> None:
        self._timer = self._client.reactor.callLater(_SETTLE, self._settled)

    def _settled(self) -> None:
        recorded = self._client.core.recorded
        self._settled_at = len(recorded) if recorded is not None else 0
        self._overlap_end = self._client.reactor.seconds() + _OVERLAP - _SETTLE
        self._watch()

    def _watch(self) -> None:
        """Let both deliver for a while, or until too much is held."""
        self._timer = None
        assert self._core is not None
        held = self._core.held or []
        left = self._overlap_end - self._client.reactor.seconds()
        if left <= 0 or len(held) > _MAX_HELD or sum(msg.size for msg in held) > _MAX_HELD_BYTES:
            self._leave_old()
        else:
            self._timer = self._client.reactor.callLater(min(left, _WATCH), self._watch)

    def _leave_old(self) -> None:
        client, old = self._client, self._old
        if client.core.subscriptions.records:
            self._tell_new()
        self._leaving = True
        client.outbound.flush()
        client.hold_outbound()
        lines = b"".join(encode_unsubscribe(sid) for sid in client.core.subscriptions.records)
        asked = old.ping_past_outbound(lines)
        asked.addCallbacks(self._old_is_done, lambda failure: None)

    def _tell_new(self) -> None:
        """Tell the new server what changed since it got the subscriptions."""
        assert self._new is not None
        records = self._client.core.subscriptions.records
        lines = [encode_unsubscribe(sid) for sid in self._known if sid not in records]
        for sid, record in records.items():
            if sid not in self._known:
                lines.append(encode_subscribe(record.subject, record.queue, sid))
            if record.limit and record.limit != self._known.get(sid, 0):
                lines.append(encode_unsubscribe(sid, max(1, record.limit - record.delivered_before)))
        self._known = {sid: record.limit for sid, record in records.items()}
        if lines:
            self._new.outbound.control(b"".join(lines))
            self._new.outbound.flush()

    def take_over(self, closed: Closed, unconfirmed: int) -> bool:
        """The old connection has ended. Returns whether the new one serves now: it does when it was about to."""
        if self.over or not self._leaving:
            return False
        self._swap(closed.error, unconfirmed)
        return True

    def _old_is_done(self, _: None) -> None:
        if not self.over:
            self._swap(None, 0)

    def _swap(self, error: BaseException | None, unconfirmed: int) -> None:
        new, core = self._new, self._core
        assert new is not None and core is not None
        self._tell_new()
        recorded = self._client.core.recorded or []
        self._client.core.recorded = None
        held = without_duplicates(recorded, core.held or [], self._settled_at or 0)
        self._client.migrated(new, error, unconfirmed)
        core.deliver(held)
        new.dispatch()
        self._over.happen()


def _key(msg: Msg) -> tuple[int, str, str, bytes, bytes]:
    return msg.sid, msg.subject, msg.reply, msg.raw_headers, msg.data


def without_duplicates(recorded: list[Msg], held: list[Msg], settled_at: int) -> list[Msg]:
    """What of the messages held from a new connection the old one has not delivered.

    A message that is unique is a duplicate when it came on both. Of messages that are equal to the letter, only as many are
    taken for duplicates as certainly are: those that the old connection delivered when the new subscription had been known
    everywhere for a while. So nothing is lost, and of such repeated messages a few may come twice.

    :param recorded: what the old connection delivered since the new one subscribed.
    :param settled_at: from this index of ``recorded`` on, everything came on the new connection as well.
    """
    before = Counter(map(_key, recorded))
    surely = Counter(map(_key, recorded[settled_at:]))
    count = Counter(map(_key, held))
    to_drop = {key: (1 if before[key] == 1 and number == 1 else min(number, surely[key])) for key, number in count.items() if before[key]}
    kept: list[Msg] = []
    for msg in held:
        key = _key(msg)
        left = to_drop.get(key, 0)
        if left:
            to_drop[key] = left - 1
        else:
            kept.append(msg)
    return kept
