"""The durable consumer of a webhook: made or checked, pulled for as many messages as can be sent, and watched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pynats_twisted.client.waiting import Waiters
from pynats_twisted.errors import ConfigurationError, ConsumerNotFoundError, MessageNotFoundError, NatsError, StreamNotFoundError
from pynats_twisted.jetstream.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy
from pynats_twisted.jetstream.pull_consumer import PullConsumer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from pynats_twisted.bridge.metrics import RouteMetrics
    from pynats_twisted.bridge.webhook_config import WebhookConfig
    from pynats_twisted.jetstream.api import ConsumerInfo
    from pynats_twisted.jetstream.context import JetStreamContext
    from pynats_twisted.jetstream.message import JsMsg

EXPIRES: Final = 30.0
"""Seconds that a pull waits at the server for a message."""

HEARTBEAT: Final = 5.0
"""Seconds between signs of life of the server meanwhile; after two without one, the consumer counts as not answering."""

AGAIN: Final = (0.5, 10.0)
"""Seconds until the consumer is looked for again after an error: at first, and at most."""

WATCH_INTERVAL: Final = 10.0
"""Seconds between two questions for the state of the consumer."""

NEARLY_FULL: Final = 0.8
"""From which part of ``max_ack_pending`` on the route says that the consumer is about to stand still."""

_log = Logger()


class WebhookConsumer:
    """Pulls messages for one route, never more than there is room for.

    :param reactor: for time.
    :param js: where the stream is.
    :param name: the route's name, for the log.
    :param config: the route's keys.
    :param metrics: the route's.
    :param room: tells how many messages are wanted now.
    :param take: gets each message.
    :param bound: is called with the consumer's ``ack_wait``, and whether the stream is another one than before.
    :param next_seq: tells the first sequence that is not finished, for a consumer that has to be made anew; 0 for the beginning.
    :param oldest: tells when the oldest message in hand was stored, in nanoseconds since 1970; 0 for none in hand.
    :param watched: is called and awaited now and then, for what else is to be looked at.

    :ivar problem: what keeps messages from coming, or None.
    :ivar is_nearly_full: so many messages wait for their next attempt that the consumer is about to stand still.
    """

    def __init__(
        self,
        reactor: Any,
        js: JetStreamContext,
        name: str,
        config: WebhookConfig,
        metrics: RouteMetrics,
        *,
        room: Callable[[], int],
        take: Callable[[JsMsg], object],
        bound: Callable[[float, bool], object],
        next_seq: Callable[[], int],
        oldest: Callable[[], int],
        watched: Callable[[], Awaitable[None]],
    ) -> None:
        self.problem: str | None = "the consumer was not looked for yet"
        self.is_nearly_full = False
        self._reactor = reactor
        self._js = js
        self._name = name
        self._config = config
        self._metrics = metrics
        self._room = room
        self._take = take
        self._bound = bound
        self._next_seq = next_seq
        self._oldest = oldest
        self._watched = watched
        self._created: object = None
        self._consumer: PullConsumer | None = None
        self._running: Deferred[None] | None = None
        self._watching: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._roomy: Waiters[None] = Waiters()

    def start(self) -> None:
        """Begin to pull."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)
        self._timer = self._reactor.callLater(WATCH_INTERVAL, self._watch)

    def stop(self) -> None:
        """Pull no more. What is on its way is given back."""
        running, self._running = self._running, None
        watching, self._watching = self._watching, None
        for task in (running, watching):
            if task is not None:
                task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wake(self) -> None:
        """There may be room now where there was none."""
        if len(self._roomy):
            self._roomy.fire(None)

    def _ended(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.problem = f"the route has stopped pulling: {failure.getErrorMessage()}"
            _log.failure("route {route}: pulling has ended", failure, route=self._name)

    # --- pulling -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        wait = AGAIN[0]
        while True:
            try:
                consumer = await self._bind()
                self.problem = None
                wait = AGAIN[0]
                await self._pull(consumer)
            except NatsError as error:
                self._has_failed(error)
            await deferLater(self._reactor, wait)
            wait = min(wait * 2, AGAIN[1])

    def _has_failed(self, error: NatsError) -> None:
        if isinstance(error, StreamNotFoundError):
            text = f"there is no stream {self._config.stream}"
        else:
            text = f"consumer {self._config.consumer} of stream {self._config.stream}: {error}"
        if text != self.problem:
            _log.warn("route {route}: {text}", route=self._name, text=text)
        self.problem = text

    async def _pull(self, consumer: PullConsumer) -> None:
        # Without waiting as long as there are messages for all the room there is; then for one, however long it takes.
        is_flowing = True
        while True:
            room = self._room()
            while not room:
                await self._roomy.wait()
                room = self._room()
            if is_flowing:
                msgs = await consumer.fetch(room, no_wait=True)
                is_flowing = len(msgs) == room
            else:
                msgs = await consumer.fetch(1, expires=EXPIRES, heartbeat=HEARTBEAT)
                is_flowing = bool(msgs)
            for msg in msgs:
                self._take(msg)

    async def _bind(self) -> PullConsumer:
        """The consumer, made when it is not there."""
        config = self._config
        stream = await self._js.stream(config.stream)
        created = stream.cached_info.created
        is_another = self._created is not None and created != self._created
        self._created = created
        try:
            consumer: Any = await stream.consumer(config.consumer)
        except ConsumerNotFoundError:
            # A work queue has no other beginning, and what was finished is not in it any more.
            begins = is_another or stream.config.retention == RetentionPolicy.WORKQUEUE
            consumer = await stream.create_consumer(self._wanted(0 if begins else self._next_seq()))
        problem = consumer_problem(config, consumer.config)
        if problem is not None or not isinstance(consumer, PullConsumer):
            raise ConfigurationError(f"it cannot be used: {problem}; change it, or let the route have another name for its own")
        self._consumer = consumer
        self._bound(consumer.config.ack_wait or config.ack_wait, is_another)
        await self._watched()
        return consumer

    def _wanted(self, next_seq: int) -> ConsumerConfig:
        """A consumer as the route needs it. When ours was deleted, the new one goes on where that was."""
        config = self._config
        return ConsumerConfig(
            durable=config.consumer,
            description="made by nats-bridge",
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE if next_seq else DeliverPolicy.ALL,
            opt_start_seq=next_seq,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=config.ack_wait,
            max_deliver=-1,
            filter_subjects=config.filters,
            max_ack_pending=config.max_ack_pending,
        )

    # --- watching ----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._timer = self._reactor.callLater(WATCH_INTERVAL, self._watch)
        if self._consumer is not None and self._watching is None:
            watching = self._watching = Deferred.fromCoroutine(self._look(self._consumer))
            watching.addBoth(self._looked)

    async def _look(self, consumer: PullConsumer) -> None:
        info = await consumer.info()
        self._metrics.consumer_lag_messages.set(info.num_pending + info.num_ack_pending)
        limit = info.config.max_ack_pending
        ratio = info.num_ack_pending / limit if limit > 0 else 0.0
        self._metrics.consumer_ack_pending_ratio.set(ratio)
        self.is_nearly_full = not self._config.is_strict and ratio > NEARLY_FULL
        self._metrics.consumer_lag_seconds.set(await self._lag(info))
        await self._watched()

    async def _lag(self, info: ConsumerInfo) -> float:
        """The age of the oldest message that is not finished."""
        if not info.num_pending and not info.num_ack_pending:
            return 0.0
        oldest = self._oldest() / 1e9
        if not oldest and info.ack_floor is not None:
            stream = await self._js.stream(self._config.stream)
            try:
                first = [
                    await stream.get_next_msg(info.ack_floor.stream_seq + 1, subject, direct=False)
                    for subject in (self._config.filters or [">"])[:4]
                ]
            except MessageNotFoundError:
                return 0.0
            oldest = min(msg.time.timestamp() for msg in first)
        return max(0.0, self._reactor.seconds() - oldest) if oldest else 0.0

    def _looked(self, result: object) -> None:
        self._watching = None
        # What keeps the server from telling is found out by pulling.
        if isinstance(result, Failure) and result.check(NatsError, CancelledError) is None:
            _log.failure("route {route}: the consumer could not be watched", result, route=self._name)


def consumer_problem(config: WebhookConfig, found: ConsumerConfig) -> str | None:
    """Why a consumer that is there cannot serve the route, in words, or None."""
    filters = list(found.filter_subjects) or [found.filter_subject] * bool(found.filter_subject)
    wanted = config.filters if config.filters != [">"] else []
    if found.deliver_subject:
        return "it is a push consumer, and a pull consumer is needed"
    if found.ack_policy != AckPolicy.EXPLICIT:
        return f"its ack policy is {found.ack_policy}, and explicit is needed"
    if found.max_deliver > 0:
        return f"its max_deliver is {found.max_deliver}: messages would vanish; -1 is needed, as the route itself ends attempts"
    if found.backoff:
        return "it has a backoff, which would deliver messages again while they are being sent"
    if sorted(filters if filters != [">"] else []) != sorted(wanted):
        return f"its filter is {', '.join(filters) or 'everything'}, and the route's is {', '.join(wanted) or 'everything'}"
    if config.is_strict and found.max_ack_pending != 1:
        return f"its max_ack_pending is {found.max_ack_pending}, and 1 is needed to keep the order"
    if found.headers_only:
        return "it delivers no payloads"
    return None
