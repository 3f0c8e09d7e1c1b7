"""Publishes that wait for their acks: one inbox for all of a context's, one timer for all their deadlines.

A publish with a message id survives a lost connection and a lost ack: it is sent again, and the server stores it once, within the
stream's duplicate window. One without an id is sent again only when it is certain that nobody has it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from ..client.deadlines import Deadlines
from ..client.status import Disconnected, PublishDropped, Reconnected, ServerErrorEvent, StatusEvent
from ..client.waiting import Waiters
from ..errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    DuplicateInProcessError,
    ExpectationNotReadyError,
    MaxPayloadExceededError,
    NatsError,
    NoStreamResponseError,
    OutboundBufferFullError,
    PermissionsViolationError,
    PublishDisconnectedError,
    PublishTimeoutError,
    PublishUnconfirmedError,
    WrongLastMessageIdError,
    WrongLastSequenceError,
)
from .api.publish import PubAck, decode_pub_ack
from .expectations import probe_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..client.client import NatsClient
    from ..client.subscription import Subscription
    from ..protocol.encoder import Payload
    from ..protocol.headers import Headers
    from ..protocol.message import Msg
    from .publish_async import PublishWindow

_NO_RESPONDERS = 503
# Of one length for long, so that they are in order as text, too.
_FIRST_NUMBER = 1_000_000_000
# Of the duplicate window, this part is for sending again; the rest is for the way to the stream.
_USABLE = 0.9
# With more than this in the outbound buffer, the connection takes nothing at the moment.
_CROWDED = 64 * 1024
_LEAST_WAIT = 0.01


class Publish(Deferred[PubAck]):
    """A publish on its way to its ack: what is needed to send it again, and the Deferred that its caller has.

    :ivar has_id: it has a message id.
    :ivar retries: how often it is sent again when nobody takes it; :ivar retry_wait: seconds before each time.
    :ivar window: the window in which it counts, or None.
    :ivar reply: where its ack comes, once it was sent.
    :ivar end: when its time is over; :ivar begun: when it was sent first.
    :ivar accepted: how many publishes the client had taken with it.
    :ivar again_at: when it is sent again, if nothing happens before; :ivar next_pause: seconds that were waited for that.
    :ivar is_idle: nobody has it: it waits to be sent.
    :ivar is_lost: the connection that had it is gone.
    :ivar is_repeated: it was sent again though a stream may have it.
    :ivar refusal: how a copy was refused, while it is being found out whether another one is stored.
    """

    subject: str
    payload: Payload
    end: float
    begun: float
    accepted: int
    # Most have these: an instance has an entry of its own for what differs.
    headers: Headers | None = None
    has_id = False
    retries = 2
    retry_wait = 0.25
    window: PublishWindow | None = None
    reply = ""
    again_at = inf
    next_pause = 0.0
    is_idle = False
    is_lost = False
    is_repeated = False
    refusal: NatsError | None = None


class PubAcks:
    """The publishes of one context that wait for their acks.

    :param client: publishes go through it.
    :param resend_after: seconds without an ack after which one with a message id is sent again; the next time takes twice as long. None
        for never.
    :param duplicate_window: seconds for which the streams know message ids.
    """

    def __init__(self, client: NatsClient, *, resend_after: float | None, duplicate_window: float) -> None:
        self._client = client
        self._outbound = client.outbound
        self._publish = client.outbound.publish
        self._seconds: Callable[[], float] = client.reactor.seconds
        self._resend_after = inf if resend_after is None else resend_after
        self._usable_window = duplicate_window * _USABLE
        self._waiting: dict[str, Publish] = {}
        self._deadlines = Deadlines(client.reactor, self._waiting, self._alarm)
        self._inbox: Subscription | None = None
        self._prefix = ""
        self._number = _FIRST_NUMBER
        self._listening = False
        # Who waits until no ack is missing.
        self._idle = Waiters[None]()
        #: What cancels a publish: one object for all, as a method taken anew each time would be one more to collect.
        self.canceller = self._cancelled
        #: Who is told when everything has failed.
        self.on_end: Callable[[NatsError], None] = lambda error: None

    # --- sending ---------------------------------------------------------------------------------------------

    def send(self, publish: Publish, timeout: float) -> Awaitable[None]:
        """Send it, and fire it when its ack has come.

        :param timeout: seconds until it fails.
        :returns: what :meth:`~pynats_twisted.NatsClient.publish` returns. What that raises is raised here, and nothing is kept.
        """
        if self._inbox is None:
            self._open()
        self._number = number = self._number + 1
        reply = f"{self._prefix}{number}"
        sent = self._publish(publish.subject, publish.payload, reply, publish.headers)
        now = self._seconds()
        publish.reply = reply
        publish.accepted = self._outbound.accepted
        publish.end = alarm = now + timeout
        if publish.has_id:
            publish.begun = now
            publish.next_pause = self._resend_after
            publish.again_at = again_at = now + self._resend_after
            if again_at < alarm:
                alarm = again_at
        self._waiting[reply] = publish
        self._deadlines.set(reply, alarm)
        return sent

    def _open(self) -> None:
        client = self._client
        if not self._prefix:
            self._prefix = client.new_inbox() + "."
        self._inbox = client.subscribe(self._prefix + "*", self._answered)
        client.keep_open(self._inbox, self._when_idle)
        self._inbox.when_closed().addCallback(self._inbox_closed)
        if not self._listening:
            self._listening = True
            client.add_listener(self._on_event)

    def _send_again(self, publish: Publish) -> None:
        try:
            self._publish(publish.subject, publish.payload, publish.reply, publish.headers)
        except OutboundBufferFullError:
            publish.again_at = self._seconds() + max(publish.retry_wait, _LEAST_WAIT)
        except NatsError as error:
            self._fail(publish, _unknown(publish, f"it cannot be sent again ({error})", error) if publish.is_repeated else error)
            return
        else:
            publish.accepted = self._outbound.accepted
            publish.is_idle = publish.is_lost = False
            publish.again_at = self._seconds() + publish.next_pause if publish.has_id else inf
        self._deadlines.set(publish.reply, min(publish.again_at, publish.end))

    # --- answers ---------------------------------------------------------------------------------------------

    def _answered(self, msg: Msg) -> None:
        publish = self._waiting.pop(msg.subject, None)
        if publish is None:
            self._client.counters.late_replies += 1
            return
        try:
            ack = decode_pub_ack(msg.data)
        except NatsError as error:
            self._refused(publish, msg, error)
            return
        publish.payload = b""
        publish.callback(ack)
        if not self._waiting:
            self._idle.fire(None)
        window = publish.window
        if window is not None:
            window.in_flight = in_flight = window.in_flight - 1
            if in_flight <= window.tell_at:
                window.settle()

    def _refused(self, publish: Publish, msg: Msg, error: NatsError) -> None:
        if not msg.data and msg.status == _NO_RESPONDERS:
            if publish.is_repeated or publish.retries > 0:
                # What may have been stored before goes on until its time is over: giving up earlier would say that it was not.
                publish.retries -= 1
                publish.is_idle = True
                self._wait(publish)
                return
            error = NoStreamResponseError(publish.subject)
        elif publish.is_repeated and self._may_be_stored(publish, error):
            self._wait(publish)
            return
        elif publish.refusal is not None:
            if isinstance(error, WrongLastMessageIdError):
                error = publish.refusal
            else:
                error = _unknown(publish, f"one copy was refused ({publish.refusal})", error)
        self._fail(publish, error)

    def _may_be_stored(self, publish: Publish, error: NatsError) -> bool:
        """Whether the refusal of a second copy leaves it open whether the first is stored."""
        if isinstance(error, DuplicateInProcessError):
            # It is about to be.
            return True
        if not isinstance(error, (WrongLastSequenceError, ExpectationNotReadyError)):
            return False
        if publish.refusal is None:
            assert publish.headers is not None
            publish.refusal = error
            publish.payload = b""
            publish.headers = probe_headers(publish.headers, publish.reply)
        return True

    def _wait(self, publish: Publish) -> None:
        """Send it again in a while."""
        self._waiting[publish.reply] = publish
        publish.again_at = self._seconds() + max(publish.retry_wait, _LEAST_WAIT)
        self._deadlines.set(publish.reply, min(publish.again_at, publish.end))

    # --- time passes -----------------------------------------------------------------------------------------

    def _alarm(self, reply: str) -> None:
        publish = self._waiting[reply]
        now = self._seconds()
        if now >= publish.end:
            self._fail(publish, PublishTimeoutError(publish.subject, "no ack came in time"))
        elif now >= publish.again_at:
            if publish.is_idle and not publish.is_repeated:
                # Nobody has it, so that it does not matter when it gets there.
                self._send_again(publish)
            else:
                self._resend(publish, now)

    def _resend(self, publish: Publish, now: float) -> None:
        """An ack is overdue."""
        client = self._client
        if self._is_too_old(publish, now):
            publish.again_at = inf
        elif not client.is_connected or client.pending_bytes >= _CROWDED or publish.accepted > client.outbound.handed_over:
            # It is still here, or would stay here: for a time in which the streams might forget its id.
            publish.again_at = now + max(publish.next_pause, _LEAST_WAIT)
        else:
            publish.is_repeated = True
            publish.next_pause *= 2
            self._send_again(publish)
            return
        self._deadlines.set(publish.reply, min(publish.again_at, publish.end))

    def _is_too_old(self, publish: Publish, now: float) -> bool:
        return now - publish.begun > self._usable_window

    def _when_idle(self) -> Deferred[None]:
        return self._idle.wait() if self._waiting else succeed(None)

    # --- ending ----------------------------------------------------------------------------------------------

    def _cancelled(self, deferred: Deferred[PubAck]) -> None:
        """Its caller does not want it any more. The message may be stored all the same."""
        assert isinstance(deferred, Publish)
        if self._waiting.pop(deferred.reply, None) is not None:
            self._left(deferred)

    def _left(self, publish: Publish) -> None:
        publish.payload = b""
        if not self._waiting:
            self._idle.fire(None)
        window = publish.window
        if window is not None:
            window.in_flight -= 1
            window.settle()

    def _fail(self, publish: Publish, error: NatsError) -> None:
        self._waiting.pop(publish.reply, None)
        if not publish.called:
            # Else it was cancelled by whoever was told of the same error just before.
            publish.errback(error)
            self._left(publish)

    def _inbox_closed(self, _: None) -> None:
        """No ack can come any more: the client is closed or drained, or may not listen there."""
        inbox, self._inbox = self._inbox, None
        assert inbox is not None
        error = inbox.error
        if error is None:
            error = ConnectionDrainingError("the client was drained before the ack came: it is unknown whether the publish was stored")
        elif isinstance(error, ConnectionClosedError):
            closed = ConnectionClosedError(f"{error}; no ack came before: it is unknown whether the publish was stored")
            closed.__cause__ = error
            error = closed
        for publish in list(self._waiting.values()):
            self._fail(publish, error)
        if not self._waiting:
            self._deadlines.clear()
        self.on_end(error)

    # --- the connection --------------------------------------------------------------------------------------

    def _on_event(self, event: StatusEvent) -> None:
        if not self._waiting:
            return
        if isinstance(event, Disconnected):
            self._disconnected(event)
        elif isinstance(event, Reconnected):
            self._reconnected()
        elif isinstance(event, PublishDropped):
            self._dropped(event)
        elif isinstance(event, ServerErrorEvent) and isinstance(event.error, PermissionsViolationError):
            self._denied(event.error)

    def _disconnected(self, event: Disconnected) -> None:
        client = self._client
        # When there is one again already, the client has moved. What it had taken is not told apart then from what it sent here; and when
        # the server that it left had confirmed all, nothing is lost.
        has_moved = client.is_connected
        if has_moved and not event.unconfirmed:
            return
        # The rest waits in the outbound buffer, which sends it.
        handed_over = client.outbound.handed_over
        for publish in list(self._waiting.values()):
            if publish.accepted > handed_over or (publish.is_idle and not publish.is_repeated):
                continue
            if publish.has_id:
                publish.is_lost = True
            elif not has_moved:
                error = PublishDisconnectedError(publish.subject, "the connection was lost before the ack came, and it has no message id")
                error.__cause__ = event.error
                self._fail(publish, error)

    def _reconnected(self) -> None:
        """Send again what the lost connection may not have delivered, in the order in which it was published."""
        now = self._seconds()
        for publish in sorted((each for each in self._waiting.values() if each.is_lost), key=_number):
            if publish.called:
                continue
            if self._is_too_old(publish, now):
                text = "the connection was lost before the ack came, and came back when the stream may have forgotten the message id"
                self._fail(publish, PublishDisconnectedError(publish.subject, text))
                continue
            publish.is_repeated = True
            publish.next_pause = self._resend_after
            self._send_again(publish)

    def _dropped(self, event: PublishDropped) -> None:
        limit = self._client.max_payload
        for publish in list(self._waiting.values()):
            size = len(publish.payload) + (len(publish.headers.encode()) if publish.headers else 0)
            if publish.subject == event.subject and limit is not None and size > limit:
                self._fail(publish, MaxPayloadExceededError(size, limit))

    def _denied(self, error: PermissionsViolationError) -> None:
        if error.operation == "publish":
            for publish in list(self._waiting.values()):
                if publish.subject == error.subject:
                    self._fail(publish, error)
        elif error.operation == "publish with reply" and error.subject in self._waiting:
            self._fail(self._waiting[error.subject], error)


def _number(publish: Publish) -> str:
    return publish.reply


def _unknown(publish: Publish, reason: str, cause: NatsError) -> NatsError:
    error = PublishUnconfirmedError(publish.subject, reason)
    error.__cause__ = cause
    return error
