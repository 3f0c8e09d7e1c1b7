"""Messages of a pull consumer for a handler."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal, get_args

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..client.coroutines import begin
from ..errors import InvalidArgumentError, NatsError
from .checks import check_count, check_duration
from .consuming import Consumption, WarningListener
from .message import JsMsg
from .pull_options import GroupOptions
from .pulls import PullPlan

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from ..protocol.message import Msg
    from .pull_consumer import PullConsumer

JsHandler = Callable[[JsMsg], Any]
OnError = Literal["nak", "term"]

# Of ``ack_wait``: how often it is begun anew for a message that is being handled, and how much may have passed when its handler begins.
_PROGRESS = 0.5
_LATE = 0.25


class ConsumeContext(Consumption):
    """Messages of a pull consumer that go to a handler, until :meth:`stop`, :meth:`drain` or the end of the consumer.

    :ivar failed: handlers that raised; each is logged.
    """

    def __init__(
        self,
        consumer: PullConsumer,
        plan: PullPlan,
        group: GroupOptions,
        listener: WarningListener | None,
        handler: JsHandler,
        *,
        concurrency: int,
        auto_ack: bool,
        auto_in_progress: bool,
        on_error: OnError | None,
        nak_delay: float,
    ) -> None:
        if not callable(handler):
            raise InvalidArgumentError(f"handler={handler!r} is not callable")
        check_count("concurrency", concurrency)
        if on_error is not None and on_error not in get_args(OnError):
            raise InvalidArgumentError(f"on_error={on_error!r} is none of {', '.join(map(repr, get_args(OnError)))} and None")
        if nak_delay != 0:
            check_duration("nak_delay", nak_delay)
        super().__init__(consumer, plan, group, listener)
        takes_acks = self._ack_wait is not None
        for name, wanted in (("auto_ack", auto_ack), ("auto_in_progress", auto_in_progress), ("on_error", on_error)):
            if wanted and not takes_acks:
                raise InvalidArgumentError(f"{name}={wanted!r}: consumer {consumer.name!r} has the ack policy {consumer.config.ack_policy}")
        self.failed = 0
        self._handler = handler
        # Handlers that have begun and not ended, how many there may be, and how many may be where a message can go straight to one.
        self._running = 0
        self._concurrency = self._limit = concurrency
        self._pumping = False
        self._has_extras = self._counts_bytes or self._reads_pins
        self._counts = self._counts_bytes or self._stop_after > 0
        self._auto_ack = auto_ack
        self._on_error = on_error
        self._nak_delay = nak_delay
        # Messages whose handlers take their time, where these are to be kept alive.
        self._alive: set[JsMsg] | None = set() if auto_in_progress else None
        self._progress: IDelayedCall | None = None

    @property
    def active_handlers(self) -> int:
        """Handlers that are running."""
        return self._running

    # --- messages come ---------------------------------------------------------------------------------------

    def _received(self, msg: Msg) -> Deferred[None] | None:
        if not msg.reply:
            # Only statuses have none.
            self._session.status(msg)
            return None
        pulls = self._pulls
        pulls.open -= 1
        pulls.arrived += 1
        if self._has_extras:
            self._note(msg)
        if self._running >= self._limit:
            return self._keep(msg)
        self._run(JsMsg(msg, self._js))
        if pulls.open + pulls.held <= self._low or self._counts:
            self._after_message()
        return self._now_busy() if self._running else None

    def _run(self, msg: JsMsg) -> None:
        """Handle one message now."""
        try:
            result = self._handler(msg)
        except BaseException:  # noqa: BLE001 - the user's code; it is logged
            self._has_failed(msg, Failure())
        else:
            if result is not None and self._goes_on(msg, result):
                return
            if self._auto_ack:
                self._ack(msg)

    def _after_message(self) -> None:
        """One more was given to the handler: ask for more, or end with the last one of ``stop_after``."""
        if self._stop_after:
            self._handed += 1
            if self._handed >= self._stop_after:
                self.stop()
                return
        self._session.refill()

    def _goes_on(self, msg: JsMsg, result: Any) -> bool:
        """Look at what a handler returned. True when it has not ended well yet: it has failed, or :meth:`_over` is called in the end."""
        if result.__class__ is not CoroutineType:
            if isinstance(result, Deferred):
                if result.called and not result.paused:
                    if isinstance(result.result, Failure):
                        result.addErrback(partial(self._has_failed, msg))
                        return True
                    return False
                self._keep_alive(msg)
                result.addCallbacks(lambda _: self._over(msg, None), lambda failure: self._over(msg, failure))
                return True
            if not isinstance(result, Coroutine):
                return False
        try:
            suspended = begin(result)
        except BaseException:  # noqa: BLE001 - the user's code; it is logged
            self._has_failed(msg, Failure())
            return True
        if suspended is None:
            return False
        self._keep_alive(msg)
        suspended.go_on(partial(self._over, msg))
        return True

    def _over(self, msg: JsMsg, failure: Failure | None) -> None:
        """A handler that took its time has ended."""
        self._running -= 1
        if self._alive is not None:
            self._alive.discard(msg)
        if failure is not None:
            self._has_failed(msg, failure)
        elif self._auto_ack:
            self._ack(msg)
        self._pump()

    def _pump(self) -> None:
        """Start handlers for what waits."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._running < self._concurrency and self._queue:
                came_at = self._queue[0][1]
                msg = self._take()
                if msg is None:
                    break
                js_msg = JsMsg(msg, self._js)
                if self._alive is not None and self._ack_wait is not None and self._seconds() - came_at > _LATE * self._ack_wait:
                    self._say_in_progress(js_msg)
                self._run(js_msg)
                if self._counts or self._pulls.open + self._pulls.held <= self._low:
                    self._after_message()
        finally:
            self._pumping = False
        if not self._ending and self._pulls.open + self._pulls.held <= self._low:
            # What waited was too old to be handed out.
            self._session.refill()
        self._settle()

    def _is_idle(self) -> bool:
        return not self._queue and not self._running

    def _leave(self) -> None:
        if not self._ending:
            # No message goes straight to the handler any more.
            self._limit = 0
        super()._leave()

    def _client_is_gone(self) -> None:
        if self._progress is not None:
            self._progress.cancel()
            self._progress = None

    # --- what becomes of them --------------------------------------------------------------------------------

    def _ack(self, msg: JsMsg) -> None:
        if not msg.acked:
            self._answer(msg, msg.ack)

    def _has_failed(self, msg: JsMsg, failure: Failure) -> None:
        self.failed += 1
        self._log.failure(
            "A handler of consumer {name!r} failed on a message of {subject!r}", failure, name=self.consumer.name, subject=msg.subject
        )
        if msg.acked or self._on_error is None:
            return
        if self._on_error == "nak":
            self._answer(msg, partial(msg.nak, self._nak_delay))
        else:
            self._answer(msg, partial(msg.term, f"the handler raised {failure.type.__name__ if failure.type else 'an error'}"))

    def _answer(self, msg: JsMsg, answer: Callable[[], Any]) -> None:
        try:
            answer()
        except NatsError as error:
            self._log.warn("A message of {subject!r} could not be answered: {error}", subject=msg.subject, error=error)

    # --- those that take long --------------------------------------------------------------------------------

    def _keep_alive(self, msg: JsMsg) -> None:
        """A handler takes its time."""
        self._running += 1
        if self._alive is not None and self._ack_wait is not None:
            self._alive.add(msg)
            if self._progress is None:
                self._progress = self._client.reactor.callLater(_PROGRESS * self._ack_wait, self._tell_progress)

    def _tell_progress(self) -> None:
        """Let ``ack_wait`` begin anew for every message that is being handled."""
        self._progress = None
        alive = self._alive
        if not alive or self._ack_wait is None:
            return
        for msg in alive:
            if not msg.acked:
                self._say_in_progress(msg)
        self._progress = self._client.reactor.callLater(_PROGRESS * self._ack_wait, self._tell_progress)

    def _say_in_progress(self, msg: JsMsg) -> None:
        self._answer(msg, msg.in_progress)
