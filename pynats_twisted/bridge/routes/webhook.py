"""The route type ``webhook``: messages of a stream become HTTP requests to one target, each at least once, and none is lost."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from pynats_twisted.bridge.breaker import BreakerState, CircuitBreaker
from pynats_twisted.bridge.config_types import format_duration
from pynats_twisted.bridge.dead_letter_store import DeadLetterStore, dead_letter
from pynats_twisted.bridge.interfaces import DeadLetter, IDeadLetters, IDegradable, IDescribed, IDryRun, IPausable, IRoute, IRouteFactory
from pynats_twisted.bridge.interfaces import RouteDescription as Description
from pynats_twisted.bridge.limits import TokenBucket, parse_rate
from pynats_twisted.bridge.loops import LoopGuard
from pynats_twisted.bridge.webhook_client import WebhookClient
from pynats_twisted.bridge.webhook_config import WebhookConfig
from pynats_twisted.bridge.webhook_consumer import NEARLY_FULL, WebhookConsumer, consumer_problem
from pynats_twisted.bridge.webhook_delivery import RETURN_DELAY, Deliveries
from pynats_twisted.bridge.webhook_replay import Replayer
from pynats_twisted.bridge.webhook_request import RequestMaker
from pynats_twisted.bridge.webhook_target import make_endpoint
from pynats_twisted.errors import ConsumerNotFoundError, StreamNotFoundError
from pynats_twisted.jetstream.api import RetentionPolicy

if TYPE_CHECKING:
    from pynats_twisted.bridge.context import RouteContext
    from pynats_twisted.jetstream.message import JsMsg

KNOCK_INTERVAL: Final = 2.0
"""Seconds between two attempts to connect to a target that takes no connections."""

_log = Logger()


@implementer(IRoute, IPausable, IDeadLetters, IDescribed, IDegradable, IDryRun)
class WebhookRoute(Service):
    """A ``webhook`` route. See :class:`~pynats_twisted.bridge.webhook_config.WebhookConfig` for its keys.

    :param name: NAME of ``[routes.NAME]``.
    :param config: the route's keys.
    :param context: the bridge.
    :param endpoint: connects to the target; by default what the URL says.
    :raises ConfigurationError: a secret or a certificate cannot be read or used.

    :ivar paused: it was told to pause, or the target said 410.
    """

    type_name = "webhook"

    def __init__(self, name: str, config: WebhookConfig, context: RouteContext, endpoint: IStreamClientEndpoint | None = None) -> None:
        self.setName(name)
        self.name: str = name
        self.config = config
        self.paused = False
        self._context = context
        self._reactor = context.reactor
        self._metrics = context.metrics.route(name, self.type_name)
        self._activity = context.activity(name, config.debug)
        guard = LoopGuard.of(context.bridge)
        self._schedule = config.retry.make()
        self._breaker = CircuitBreaker(config.breaker.after, config.breaker.cooldown, context.reactor.seconds, self._breaker_changed)
        self._requests = RequestMaker(config, guard, lambda detail: context.bad_input(self, "bad-header", detail))
        refused: Any = list
        if endpoint is None:
            endpoint, refused = make_endpoint(context.reactor, self._requests.target, config)
        self._client = WebhookClient(
            context.reactor,
            endpoint,
            timeout=config.timeout,
            connect_timeout=config.connect_timeout,
            response_limit=config.response_limit,
            refused=refused,
        )
        js = context.jetstream(config.nats)
        subject = config.dead_letter_subject
        self._store = DeadLetterStore(js, subject, guard) if subject is not None else None
        self._replayer = (
            Replayer(context.reactor, self._store, self._client, self._requests, config.slots) if self._store is not None else None
        )
        rate = config.rate_section()
        self._deliveries = Deliveries(
            context.reactor,
            name,
            config,
            client=self._client,
            requests=self._requests,
            schedule=self._schedule,
            breaker=self._breaker,
            bucket=TokenBucket(parse_rate(rate.limit), context.reactor.seconds, rate.burst) if rate is not None else None,
            store=self._store,
            metrics=self._metrics,
            ended=self._delivery_ended,
            gone=self._target_gone,
            activity=self._activity,
        )
        self._consumer = WebhookConsumer(
            context.reactor,
            js,
            name,
            config,
            self._metrics,
            room=self._room,
            take=self._take,
            bound=self._consumer_bound,
            next_seq=lambda: self._deliveries.next_seq,
            oldest=lambda: self._deliveries.oldest_ns,
            watched=self._look_at_dead_letters,
        )
        self._why_paused = ""
        self._probe: IDelayedCall | None = None
        self._knock: IDelayedCall | None = None
        self._knocking: Deferred[None] | None = None
        self._drained: Deferred[None] | None = None
        self._metrics.breaker_state.set(0)
        self._metrics.up.set_function(lambda: 0.0 if self.problems() or self.paused or not self._breaker.is_closed else 1.0)

    # --- what it says of itself --------------------------------------------------------------------------------

    def guarantee(self) -> str:
        """What one may rely on, in words."""
        return guarantee(self.config)

    def problems(self) -> list[str]:
        """What keeps the route from working at the moment; the state of the NATS connection is told by the bridge."""
        if not self.running:
            return ["the route is stopped"]
        return [self._consumer.problem] if self._consumer.problem is not None else []

    def degraded(self) -> list[str]:
        """What does not go as it should, while the route itself works."""
        found: list[str] = []
        target = self._requests.target.shown
        if self.paused:
            found.append(f"paused: {self._why_paused}")
        if self._breaker.state is BreakerState.OPEN:
            found.append(f"{target} does not take messages; the next attempt is in {self._breaker.wait:.0f} s")
        elif self._breaker.state is BreakerState.HALF_OPEN:
            found.append(f"{target} did not take messages; one is being tried")
        if self._consumer.is_nearly_full:
            found.append(f"more than {NEARLY_FULL:.0%} of max_ack_pending are used by messages that wait for their next attempt")
        if self._deliveries.storing_problem is not None:
            found.append(self._deliveries.storing_problem)
        return found

    def describe(self) -> Description:
        """The route in words."""
        config = self.config
        filters = ", ".join(config.filters) or ">"
        subject = (config.filters or ["SUBJECT"])[0].replace("*", "x").replace(">", "x")
        state = {"breaker": self._breaker.state.value, "in flight": str(len(self._deliveries.in_flight))}
        if self.paused:
            state["paused"] = self._why_paused
        commands = [
            ("publish a message", f"nats pub {subject} hello"),
            ("see the consumer", f"nats consumer info {config.stream} {config.consumer}"),
        ]
        if self._store is not None:
            commands.append(("see dead letters", f"nats sub '{self._store.pattern}' --all"))
        return Description(f"{config.stream}: {filters}", f"{config.method} {self._requests.target.shown}", state, commands)

    # --- the service -------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Begin to pull. What is not there yet, a stream or a connection, is waited for and is a problem until then."""
        super().startService()
        self._consumer.start()

    def stopService(self) -> Deferred[None]:
        """Pull nothing more, and finish what is in hand.

        :returns: fires when every message in hand got its answer. Cancelling it cuts the requests, and gives their messages back.
        """
        super().stopService()
        self._consumer.stop()
        self._forget_probe()
        if not self._deliveries.in_flight:
            self._closed()
            return succeed(None)
        drained = self._drained = Deferred(self._cut_short)
        return drained

    def _cut_short(self, _: Deferred[None]) -> None:
        self._drained = None
        self._deliveries.cancel()
        self._closed()

    def _closed(self) -> None:
        self._deliveries.stop()
        self._client.close()

    # --- pausing -----------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Pull nothing more until :meth:`resume`; what is in hand is finished."""
        self._pause("by request")

    def _pause(self, why: str) -> None:
        if not self.paused:
            self.paused = True
            self._why_paused = why
            _log.warn("route {route}: paused: {why}", route=self.name, why=why)

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        self._why_paused = ""
        self._consumer.wake()

    def _target_gone(self, reason: str) -> None:
        self._pause(f"{reason}: it does not want messages any more")

    # --- messages ----------------------------------------------------------------------------------------------

    def _room(self) -> int:
        if self.paused or not self.running:
            return 0
        busy = len(self._deliveries.in_flight)
        return self._breaker.room(self.config.slots - busy, busy)

    def _take(self, msg: JsMsg) -> None:
        # A pull may have been waiting since before the target went down: such a message waits at the server.
        if self.paused or not self.running or not self._room():
            self._deliveries.give_back(msg, RETURN_DELAY)
        else:
            self._deliveries.take(msg)

    def _delivery_ended(self) -> None:
        if self._drained is not None and not self._deliveries.in_flight:
            drained, self._drained = self._drained, None
            self._closed()
            drained.callback(None)
        elif self.running:
            self._consumer.wake()

    def _breaker_changed(self, state: BreakerState) -> None:
        self._metrics.breaker_state.set(state.number)
        self._forget_probe()
        if state is BreakerState.OPEN:
            target = self._requests.target.shown
            _log.warn("route {route}: {target} counts as down", route=self.name, target=target)
            self._activity.error("breaker", f"{target} counts as down", "messages wait in their stream; one is tried after each cooldown")
            if self.running:
                self._probe = self._reactor.callLater(self._breaker.wait, self._probe_now)
                if self._deliveries.last_failure in ("connect", "dns"):
                    self._knock = self._reactor.callLater(KNOCK_INTERVAL, self._knock_now)
        elif state is BreakerState.CLOSED:
            _log.info("route {route}: {target} is back", route=self.name, target=self._requests.target.shown)

    def _probe_now(self) -> None:
        self._probe = None
        self._consumer.wake()

    def _knock_now(self) -> None:
        """See whether a target that took no connections takes them again: so it is known before the cooldown is over."""
        self._knock = None
        self._knocking = self._client.knock().addCallback(self._knocked)

    def _knocked(self, is_there: bool) -> None:
        self._knocking = None
        if self._breaker.state is not BreakerState.OPEN or not self.running:
            return
        if is_there:
            self._breaker.hurry()
            self._consumer.wake()
        else:
            self._knock = self._reactor.callLater(KNOCK_INTERVAL, self._knock_now)

    def _forget_probe(self) -> None:
        for call in (self._probe, self._knock):
            if call is not None:
                call.cancel()
        self._probe = self._knock = None
        knocking, self._knocking = self._knocking, None
        if knocking is not None:
            knocking.cancel()

    def _consumer_bound(self, ack_wait: float, is_another: bool) -> None:
        self._deliveries.set_ack_wait(ack_wait)
        if is_another:
            self._deliveries.forget_histories()

    # --- dead letters ------------------------------------------------------------------------------------------

    async def _look_at_dead_letters(self) -> None:
        """Find out before it is needed whether dead letters can be stored."""
        if self._store is None:
            return
        try:
            stream = await self._store.stream()
        except StreamNotFoundError:
            self._deliveries.storing_problem = (
                f"no stream stores {self._store.pattern}: a message that fails for good is tried again and again"
            )
            return
        problem = None
        if stream.config.retention != RetentionPolicy.LIMITS:
            problem = f"stream {stream.name}, which stores {self._store.pattern}, has {stream.config.retention} retention; limits is needed"
        self._deliveries.storing_problem = problem

    def dry_run(self) -> Deferred[list[str]]:
        """What would keep the route from working: its consumer, when there is one already, and where dead letters go."""
        return Deferred.fromCoroutine(self._dry_run())

    async def _dry_run(self) -> list[str]:
        config, found = self.config, []
        with suppress(ConsumerNotFoundError, StreamNotFoundError):
            consumer = await self._context.client(config.nats).jetstream().consumer(config.stream, config.consumer)
            problem = consumer_problem(config, consumer.config)
            if problem is not None:
                found.append(f"consumer {config.consumer} of stream {config.stream} cannot be used: {problem}")
        await self._look_at_dead_letters()
        if self._deliveries.storing_problem is not None:
            found.append(self._deliveries.storing_problem)
        return found

    def dead_letters(self, limit: int) -> Deferred[list[DeadLetter]]:
        """The newest dead letters, the newest first; at most so many, and at most 1,000."""
        return Deferred.fromCoroutine(self._dead_letters(limit))

    async def _dead_letters(self, limit: int) -> list[DeadLetter]:
        return [dead_letter(stored) for stored in await self._store.newest(limit)] if self._store is not None else []

    def replay_dead_letters(self, seqs: Sequence[int] | None) -> Deferred[int]:
        """Send dead letters to the target again, with the ids that they had, and delete those that it takes: how many.

        It ends early at the first that the target does not take.
        """
        if self._replayer is None:
            return succeed(0)
        return Deferred.fromCoroutine(self._replayer.replay(seqs))

    def delete_dead_letters(self, seqs: Sequence[int] | None) -> Deferred[int]:
        """Delete dead letters of this route: how many."""
        return Deferred.fromCoroutine(self._store.delete(seqs)) if self._store is not None else succeed(0)


def guarantee(config: WebhookConfig) -> str:
    """What a route with this configuration promises, in words."""
    crash = "It comes again, with the same webhook-id, when the answer was lost, or the bridge crashed while it was in flight."
    parts = [f"At least once: a message is acked after the target has answered 2xx. {crash}"]
    subject = config.dead_letter_subject
    schedule = config.retry.make()
    if config.is_strict:
        parts.append("One message at a time, in the order of the stream.")
    else:
        parts.append(f"Up to {config.concurrency} at a time, in no particular order.")
    if subject is None:
        parts.append("A message that the target does not take is tried for ever, and holds up those behind it.")
    else:
        pattern = subject.replace("{seq}", "*")
        parts.append(
            f"A message that the target refuses, or does not take in {schedule.in_words()}, is stored on {pattern} and then given up."
        )
    breaker = config.breaker
    parts.append(
        f"After {breaker.after} failures in a row the target counts as down: one is tried every {format_duration(breaker.cooldown)}, "
        "and this is not held against any."
    )
    return " ".join(parts)


@implementer(IRouteFactory)
class WebhookFactory:
    """The route type ``webhook``."""

    type_name = WebhookRoute.type_name
    config_type = WebhookConfig

    def make_route(self, name: str, config: Any, context: Any) -> WebhookRoute:
        """A route, not started.

        :raises ConfigurationError: a secret or a certificate cannot be read or used.
        """
        return WebhookRoute(name, config, context)


factory = WebhookFactory()
