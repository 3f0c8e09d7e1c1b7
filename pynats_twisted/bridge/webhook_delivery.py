"""The messages that a webhook has in hand: each is sent, and then acked, given back with a delay, or stored as a dead letter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.bridge.breaker import BreakerState, CircuitBreaker
from pynats_twisted.bridge.dead_letter_store import DeadLetterStore, Ending
from pynats_twisted.bridge.limits import TokenBucket
from pynats_twisted.bridge.retry_schedule import MAX_RETRY_AFTER, RetrySchedule
from pynats_twisted.bridge.webhook_answers import Action, Verdict, judge
from pynats_twisted.bridge.webhook_client import Answer, WebhookClient
from pynats_twisted.bridge.webhook_request import Outgoing, RequestMaker
from pynats_twisted.errors import NatsError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from pynats_twisted.bridge.activity import RouteActivity
    from pynats_twisted.bridge.metrics import RouteMetrics
    from pynats_twisted.bridge.webhook_config import WebhookConfig
    from pynats_twisted.jetstream.message import JsMsg

MAX_HISTORIES: Final = 10_000
"""Messages that were tried, are not finished, and are remembered; at more, the oldest are forgotten, and deliveries count as attempts."""

HEARTBEATS: Final = 3
"""How often in ``ack_wait`` the server is told that a message is being worked on."""

RETURN_DELAY: Final = 1.0
"""Seconds after which a message can be delivered again that came, or failed, while the target is known to be down.

Not the breaker's cooldown: nothing is pulled before that is over, and when the target is back sooner, the message is there.
"""

STORE_AGAIN: Final = 5.0
"""Seconds at least until a dead letter is stored again that could not be."""

LOG_INTERVAL: Final = 60.0
"""Seconds between two log lines for errors of the same kind."""

HINTS: Final = {
    Action.RETRY: "the message is tried again",
    Action.DEAD: "the message becomes a dead letter; look at it, mend the target, and replay it",
    Action.GONE: "if the target shall have messages again, mend it and resume the route",
}

_log = Logger()


class History:
    """What is remembered of a message until it is finished.

    :ivar attempts: how often it was tried, as far as is known. Deliveries that were no attempt, as the breaker was open, do not count.
    :ivar first_time: when it was first tried here, in seconds since 1970; 0 before.
    :ivar ending: how it ended, when only storing it as a dead letter is left.
    """

    __slots__ = ("attempts", "ending", "first_time")

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        self.first_time = 0.0
        self.ending: Ending | None = None


class Flight:
    """A message in hand."""

    __slots__ = ("begun", "history", "msg", "seq", "task")

    def __init__(self, msg: JsMsg, history: History, begun: float) -> None:
        self.msg = msg
        self.seq = msg.metadata.stream_seq
        self.history = history
        self.begun = begun
        self.task: Deferred[None] | None = None


class Deliveries:
    """The messages in hand, and what is known of those that will come again.

    :param reactor: for time.
    :param name: the route's, for the log.
    :param config: the route's keys.
    :param client: sends requests.
    :param requests: makes them.
    :param schedule: when messages are tried again.
    :param breaker: counts the target's failures.
    :param bucket: lets requests through, or None for all.
    :param store: takes dead letters, or None for none: then messages are tried for ever.
    :param metrics: the route's.
    :param ended: is called when a message has left the hand.
    :param gone: is called when the target said 410, and the route is to pause.
    :param activity: is told of errors and hops.

    :ivar in_flight: the messages in hand by their sequence.
    :ivar last_failure: how the target failed last: the ``kind`` of the answer.
    :ivar storing_problem: why dead letters cannot be stored at the moment, or None.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        config: WebhookConfig,
        *,
        client: WebhookClient,
        requests: RequestMaker,
        schedule: RetrySchedule,
        breaker: CircuitBreaker,
        bucket: TokenBucket | None,
        store: DeadLetterStore | None,
        metrics: RouteMetrics,
        ended: Callable[[], object],
        gone: Callable[[str], object],
        activity: RouteActivity,
    ) -> None:
        self.in_flight: dict[int, Flight] = {}
        self.storing_problem: str | None = None
        self.last_failure = ""
        self.store = store
        self._reactor = reactor
        self._name = name
        self._config = config
        self._client = client
        self._requests = requests
        self._schedule = schedule
        self._breaker = breaker
        self._bucket = bucket
        self._metrics = metrics
        self._ended = ended
        self._gone = gone
        self._activity = activity
        self._logged: dict[str, float] = {}
        self._histories: dict[int, History] = {}
        self._heartbeat: IDelayedCall | None = None
        self._ack_wait = config.ack_wait
        self._last_seq = 0

    # --- what comes --------------------------------------------------------------------------------------------

    def set_ack_wait(self, ack_wait: float) -> None:
        """The consumer's ``ack_wait`` in seconds."""
        self._ack_wait = ack_wait

    def forget_histories(self) -> None:
        """The sequences mean other messages from now on."""
        self._histories.clear()
        self._last_seq = 0

    @property
    def next_seq(self) -> int:
        """The first sequence that is not known to be finished; 0 when nothing has come yet."""
        open_seqs = [*self.in_flight, *self._histories]
        return min(open_seqs) if open_seqs else self._last_seq + 1 if self._last_seq else 0

    @property
    def oldest_ns(self) -> int:
        """When the oldest message in hand was stored, in nanoseconds since 1970; 0 without one."""
        return min((flight.msg.metadata.timestamp_ns for flight in self.in_flight.values()), default=0)

    def take(self, msg: JsMsg) -> None:
        """A message that was delivered."""
        metadata = msg.metadata
        seq = metadata.stream_seq
        self._metrics.messages_in.inc()
        self._metrics.bytes_in.inc(len(msg.data))
        known = self.in_flight.get(seq)
        if known is not None:
            # The server did not hear in time that it is being worked on. The answer goes to the newer delivery.
            known.msg = msg
            self._metrics.duplicates.inc()
            return
        self._last_seq = max(self._last_seq, seq)
        history = self._histories.get(seq)
        if history is None:
            history = self._histories[seq] = History(metadata.num_delivered - 1)
            if len(self._histories) > MAX_HISTORIES:
                del self._histories[next(iter(self._histories))]
        flight = self.in_flight[seq] = Flight(msg, history, self._reactor.seconds())
        self._metrics.in_flight.inc()
        if self._heartbeat is None:
            self._heartbeat = self._reactor.callLater(self._ack_wait / HEARTBEATS, self._beat)
        task = Deferred.fromCoroutine(self._deliver(flight))
        if flight.seq in self.in_flight:
            flight.task = task
        task.addErrback(self._failed, flight)

    def give_back(self, msg: JsMsg, delay: float) -> None:
        """A message that came at a time when none is wanted. It is no attempt."""
        seq = msg.metadata.stream_seq
        if seq not in self._histories and len(self._histories) < MAX_HISTORIES:
            self._histories[seq] = History(msg.metadata.num_delivered - 1)
        self._answer(msg, "nak", delay)

    def cancel(self) -> None:
        """Give back at once what is in hand; requests that are under way are cut."""
        for flight in list(self.in_flight.values()):
            if flight.task is not None:
                flight.task.cancel()

    def stop(self) -> None:
        """Leave no timer behind."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None

    def _beat(self) -> None:
        """Let ``ack_wait`` begin anew for every message in hand."""
        self._heartbeat = None
        for flight in self.in_flight.values():
            if not flight.msg.acked:
                self._answer(flight.msg, "wpi")
        if self.in_flight:
            self._heartbeat = self._reactor.callLater(self._ack_wait / HEARTBEATS, self._beat)

    # --- one message -------------------------------------------------------------------------------------------

    async def _deliver(self, flight: Flight) -> None:
        history = flight.history
        try:
            if history.ending is not None:
                await self._bury(flight, history.ending)
                return
            if self._bucket is not None and not await self._wait_for_rate(flight, self._bucket):
                return
            answer = await self._attempt(flight)
            await self._settle(flight, answer)
        except CancelledError:
            if not flight.msg.acked:
                self._answer(flight.msg, "nak", 0.0)
        finally:
            self._leave(flight)

    def _leave(self, flight: Flight) -> None:
        del self.in_flight[flight.seq]
        self._metrics.in_flight.dec()
        self._ended()

    def _failed(self, failure: Any, flight: Flight) -> None:
        """A fault of ours; the message must not be lost by it."""
        _log.failure("route {route}: a message could not be handled", failure, route=self._name)
        self._metrics.failed("internal")
        if not flight.msg.acked:
            self._answer(flight.msg, "nak", self._schedule.wait(flight.history.attempts + 1))

    async def _wait_for_rate(self, flight: Flight, bucket: TokenBucket) -> bool:
        while wait := bucket.take():
            await deferLater(self._reactor, wait)
            if self._breaker.state is BreakerState.OPEN:
                self._answer(flight.msg, "nak", RETURN_DELAY)
                return False
        return True

    async def _attempt(self, flight: Flight) -> Answer:
        msg = flight.msg
        metadata = msg.metadata
        now = self._reactor.seconds()
        history = flight.history
        history.first_time = history.first_time or now
        outgoing = Outgoing(msg.subject, msg.headers, msg.data, metadata.stream, metadata.stream_seq, metadata.num_delivered)
        answer = await self._client.send(self._requests.make(outgoing, now))
        took = self._reactor.seconds() - now
        self._metrics.target_latency.observe(max(0.0, took))
        if answer.status:
            self._metrics.http_response(answer.status)
        if self._activity.watched:
            self._activity.hop(
                "delivered" if answer.is_success else "refused", msg.subject, data=msg.data, headers=msg.headers,
                seq=flight.seq, attempt=history.attempts + 1, target=self._requests.target.authority,
                status=answer.status or answer.kind, ms=1000 * took,
            )  # fmt: skip
        return answer

    async def _settle(self, flight: Flight, answer: Answer) -> None:
        history = flight.history
        verdict = judge(answer, history.attempts + 1, self._config.permanent_limit)
        counts = self._tell_breaker(verdict, answer)
        if verdict.action is Action.ACK:
            await self._ack(flight)
            return
        self._metrics.failed(answer.kind or f"status-{answer.status // 100}xx")
        self._report(answer.kind or "target-status", f"{self._requests.target.shown}: {verdict.reason}", HINTS.get(verdict.action, ""))
        if verdict.action is Action.GONE and self._config.on_gone == "pause":
            self._gone(verdict.reason)
            # Whoever has the route go on gets it first.
            self._answer(flight.msg, "nak", 0.0)
            return
        if not counts:
            # The target was known to be down: that is not held against the message.
            self._retry(flight, RETURN_DELAY)
            return
        history.attempts += 1
        is_dead = verdict.action is not Action.RETRY or self._schedule.is_last(history.attempts)
        if is_dead and self.store is not None:
            await self._bury(flight, Ending(verdict.reason, answer.status, history.attempts, history.first_time))
        else:
            self._retry(flight, self._schedule.wait(history.attempts, answer.retry_after))

    def _tell_breaker(self, verdict: Verdict, answer: Answer) -> bool:
        """Let the breaker know; whether a failure is one of the message too."""
        if not verdict.target_failed:
            self._breaker.succeeded()
            return True
        was_closed = self._breaker.is_closed
        self.last_failure = answer.kind
        self._breaker.failed(min(answer.retry_after, MAX_RETRY_AFTER))
        return was_closed

    def _retry(self, flight: Flight, delay: float) -> None:
        self._metrics.retries.inc()
        if self._activity.watched:
            self._activity.hop("to-retry", flight.msg.subject, size=len(flight.msg.data), seq=flight.seq, delay=delay)
        self._answer(flight.msg, "nak", delay)

    async def _ack(self, flight: Flight) -> None:
        msg = flight.msg
        if self._config.ack == "confirmed":
            try:
                await msg.ack_sync()
            except NatsError as error:
                self._not_answered("ack", error)
                return
            self._metrics.ack("ack")
        elif not self._answer(msg, "ack"):
            return
        self._histories.pop(flight.seq, None)
        self._metrics.messages_out.inc()
        self._metrics.bytes_out.inc(len(msg.data))
        self._metrics.latency.observe(max(0.0, self._reactor.seconds() - flight.begun))

    async def _bury(self, flight: Flight, ending: Ending) -> None:
        """Store a message as a dead letter, and only then give it up."""
        assert self.store is not None
        flight.history.ending = ending
        try:
            is_new = await self.store.store(flight.msg, ending)
        except NatsError as error:
            self.storing_problem = f"dead letters cannot be stored on {self.store.pattern}: {type(error).__name__}: {error}"
            self._metrics.failed("dlq")
            self._report("dlq", self.storing_problem, "the message stays in its stream, and is not given up before it is stored")
            self._answer(flight.msg, "nak", max(STORE_AGAIN, self._schedule.wait(1)))
            return
        self.storing_problem = None
        if is_new:
            self._metrics.dlq.inc()
        else:
            self._metrics.duplicates.inc()
        if self._activity.watched:
            self._activity.hop("dead-letter", flight.msg.subject, size=len(flight.msg.data), seq=flight.seq, attempts=ending.attempts)
        if self._answer(flight.msg, "term", reason=f"dead letter: {ending.error}"):
            self._histories.pop(flight.seq, None)

    # --- answers to NATS ---------------------------------------------------------------------------------------

    def _answer(self, msg: JsMsg, kind: str, delay: float = 0.0, reason: str = "") -> bool:
        """Answer a message; False when that was not possible: it comes again."""
        answers: dict[str, Callable[[], Awaitable[None]]] = {
            "ack": msg.ack,
            "nak": lambda: msg.nak(delay or None),
            "term": lambda: msg.term(reason),
            "wpi": msg.in_progress,
        }
        try:
            sent = answers[kind]()
        except NatsError as error:
            self._not_answered(kind, error)
            return False
        if isinstance(sent, Deferred) and not sent.called:
            sent.addErrback(self._answer_lost, kind)
        self._metrics.ack(kind)
        return True

    def _report(self, kind: str, cause: str, hint: str = "") -> None:
        self._activity.error(kind, cause, hint)
        now = self._reactor.seconds()
        if now - self._logged.get(kind, -LOG_INTERVAL) >= LOG_INTERVAL:
            self._logged[kind] = now
            _log.warn("route {route}: {kind}: {cause}", route=self._name, kind=kind, cause=cause)

    def _answer_lost(self, failure: Failure, kind: str) -> None:
        self._not_answered(kind, failure.value)

    def _not_answered(self, kind: str, error: BaseException | None) -> None:
        self._metrics.failed("not-answered")
        self._report("not-answered", f"NATS did not get the answer {kind}: {error}", "the message comes again after ack_wait")
