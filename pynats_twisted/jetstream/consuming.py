"""What reading a pull consumer all the time has in common, whoever gets the messages: what waits, and how it ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..client.status import ClientStatus
from ..client.waiting import OneShot, check_seconds
from ..errors import ConnectionClosedError, DrainTimeoutError, NatsError
from .message import JsMsg
from .pull_options import GroupOptions, ack_wait_of
from .pull_session import ConsumeWarning, PullSession
from .pulls import PullPlan

if TYPE_CHECKING:
    from ..protocol.message import Msg
    from .pull_consumer import PullConsumer

WarningListener = Callable[[ConsumeWarning], Any]

# More than so many times what was asked for is given back: a server that answers void pulls too can send that.
_OVERRUN = 2


class Consumption:
    """Reading a pull consumer until it is stopped: the base of :class:`~pynats_twisted.jetstream.messages.Messages` and
    :class:`~pynats_twisted.jetstream.consume.ConsumeContext`.

    A loss of the connection does not end it: it pulls anew when there is one again. The end of the consumer does.

    :ivar consumer: which one it reads.
    :ivar expired: messages that were not handed out, because their ``ack_wait`` had passed while they waited here: the server delivers
        them again.
    :ivar returned: messages that were given back with a nak, because they came or waited when it ended.
    :ivar error: what ended it, or None.
    """

    _log = Logger()

    def __init__(self, consumer: PullConsumer, plan: PullPlan, group: GroupOptions, listener: WarningListener | None) -> None:
        self.consumer = consumer
        self.expired = 0
        self.returned = 0
        self.error: NatsError | None = None
        self._js = consumer.js
        self._client = consumer.js.client
        self._listener = listener
        self._session = PullSession(consumer, plan, group, received=self._received, warned=self._warned, ended=self._end_with)
        self._pulls = self._session.pulls
        self._low = plan.low_messages
        self._most = _OVERRUN * plan.max_messages
        self._counts_bytes = plan.max_bytes > 0
        self._reads_pins = bool(group.group)
        self._stop_after = plan.stop_after
        self._handed = 0
        self._ack_wait = ack_wait_of(consumer.config)
        self._seconds = self._session.seconds
        # What waits, and when it came.
        self._queue: deque[tuple[Msg, float]] = deque()
        # Nothing more is taken from the server.
        self._ending = False
        # The server sends nothing more.
        self._left = False
        self._done = OneShot()
        self._flushing = False
        # What the client's own drain waits for while something waits or is being handled here.
        self._busy: Deferred[None] | None = None

    def __repr__(self) -> str:
        state = "done" if self._done.done else "ending" if self._ending else "open"
        return f"<{type(self).__name__} of consumer {self.consumer.name!r} {state}, {self.pending} waiting>"

    @property
    def pending(self) -> int:
        """Messages that have come and wait to be handed out."""
        return len(self._queue)

    @property
    def done(self) -> Deferred[None]:
        """A new Deferred that fires when it has ended: everything was handed out and handled, and the acks have left.

        It fails with what ended it, where that was an error: :class:`~pynats_twisted.errors.ConsumerDeletedError`,
        :class:`~pynats_twisted.errors.PullRefusedError`, the end of the client and so on.
        """
        return self._done.wait()

    def begin(self) -> None:
        """Begin to pull; whoever makes it calls this once.

        :raises ConnectionClosedError: :raises ConnectionDrainingError: the client takes no new subscriptions.
        """
        self._session.start()

    # --- messages come ---------------------------------------------------------------------------------------

    def _received(self, msg: Msg) -> Deferred[None] | None:
        raise AssertionError("each kind of consumption has its own")  # pragma: no cover

    def _note(self, msg: Msg) -> None:
        """What not every consumption has to know about a message."""
        if self._counts_bytes:
            self._pulls.open_bytes -= msg.size
        if self._reads_pins and msg.raw_headers:
            self._session.read_pin(msg)

    def _keep(self, msg: Msg) -> Deferred[None] | None:
        """Let a message wait. The result is for the subscription."""
        if self._ending:
            self._give_back(msg)
            return None
        pulls = self._pulls
        if pulls.held >= self._most:
            self._give_back(msg)
            self._warned(ConsumeWarning("overrun", f"more than {self._most} messages were waiting: one was given back"))
            return None
        self._queue.append((msg, self._seconds()))
        pulls.hold(msg.size if self._counts_bytes else 0)
        return self._now_busy()

    def _take(self) -> Msg | None:
        """The next message that waits and can still be acked in time."""
        queue, pulls = self._queue, self._pulls
        while queue:
            msg, came_at = queue.popleft()
            pulls.release(msg.size if self._counts_bytes else 0)
            if self._ack_wait is not None and self._seconds() - came_at >= self._ack_wait:
                self.expired += 1
                pulls.replace()
                continue
            return msg
        return None

    def _give_back(self, msg: Msg) -> None:
        """Let the server deliver it again at once."""
        self.returned += 1
        if self._ack_wait is None:
            return
        try:
            JsMsg(msg, self._js).nak()
        except NatsError as error:
            self._log.debug("A message could not be given back: {error}", error=error)

    def _give_back_waiting(self) -> None:
        queue, pulls = self._queue, self._pulls
        while queue:
            msg, _ = queue.popleft()
            pulls.release(msg.size if self._counts_bytes else 0)
            self._give_back(msg)

    def _now_busy(self) -> Deferred[None] | None:
        if self._busy is not None:
            return None
        self._busy = Deferred()
        return self._busy

    def _is_idle(self) -> bool:
        """Nothing waits, and nothing is being handled."""
        return not self._queue

    def _settle(self) -> None:
        """A message was handed out or handled: perhaps that was the last one."""
        if not self._is_idle():
            return
        busy, self._busy = self._busy, None
        if busy is not None:
            busy.callback(None)
        if self._left and not self._flushing:
            self._flushing = True
            self._finish()

    # --- ending ----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Hand out nothing more. What waits, and what still comes, is given back with a nak, so that another client can have it at once.

        Handlers that are running go on to their end; :attr:`done` tells when. Stopping twice does nothing.
        """
        self._leave()
        self._give_back_waiting()
        self._settle()

    def drain(self, timeout: float | None = None) -> Deferred[None]:
        """End it in order: what waits here is still handed out and handled, and what comes after this call is given back with a nak.

        Fires when everything was handled and the acks have left.

        :param timeout: seconds; the client's option ``drain_timeout`` (30) by default.
        :raises DrainTimeoutError: it took longer; what was still waiting was given back.

        What :attr:`done` fails with is raised here too.
        """
        seconds = self._client.options.drain_timeout if timeout is None else check_seconds("timeout", timeout)
        self._leave()

        def on_timeout(result: Any, seconds: float) -> Any:
            waiting = len(self._queue)
            self._give_back_waiting()
            self._settle()
            raise DrainTimeoutError(f"{self!r} was not drained within {seconds:g} s: {waiting} messages were waiting")

        return self._done.wait().addTimeout(seconds, self._client.reactor, on_timeout)

    def _end_with(self, error: NatsError | None) -> None:
        """The session has ended: the consumer is gone, or the client."""
        self.error = error
        if error is None or isinstance(error, ConnectionClosedError) or self._client.status is ClientStatus.CLOSED:
            # Nobody could ack these.
            self._queue.clear()
            self._client_is_gone()
        self._leave()

    def _leave(self) -> None:
        """Take nothing more from the server."""
        if self._ending:
            return
        self._ending = True
        self._no_more()
        self._session.leave(self._client.options.drain_timeout).addBoth(self._has_left)

    def _no_more(self) -> None:
        """Nothing is handed out any more but what waits here."""

    def _client_is_gone(self) -> None:
        """No ack can be sent any more."""

    def _has_left(self, result: Any) -> None:
        if isinstance(result, Failure) and not result.check(DrainTimeoutError):
            self._log.failure("Leaving consumer {name!r} failed", failure=result, name=self.consumer.name)
        self._left = True
        self._settle()

    def _finish(self) -> None:
        """Everything is handled. The acks leave before it is told."""
        if self._client.is_connected and self.error is None:
            self._client.flush().addBoth(lambda _: self._tell_done())
        else:
            self._tell_done()

    def _tell_done(self) -> None:
        error = self.error
        if error is None:
            self._done.happen()
            return
        if not self._done.waited_for and not self._is_told():
            self._log.error("Reading consumer {name!r} has ended: {error!r}", name=self.consumer.name, error=error)
        self._done.fail(error)

    def _is_told(self) -> bool:
        """The user hears of the error in another way."""
        return False

    def _warned(self, warning: ConsumeWarning) -> None:
        self._log.info("Consumer {name!r}: {text}", name=self.consumer.name, text=warning.text)
        if self._listener is not None:
            try:
                self._listener(warning)
            except Exception:  # noqa: BLE001 - the user's code; it is logged
                self._log.failure("A listener for warnings of consumer {name!r} failed", name=self.consumer.name)
