"""How a webhook pulls, with a clock and a consumer that a test plays."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.metrics import BridgeMetrics
from pynats_twisted.bridge.webhook_consumer import AGAIN, EXPIRES, HEARTBEAT, WATCH_INTERVAL, WebhookConsumer
from pynats_twisted.errors import ConsumerDeletedError, ConsumerNotFoundError, MessageNotFoundError, NoHeartbeatError, StreamNotFoundError
from pynats_twisted.jetstream.api import ConsumerConfig, ConsumerInfo, SequenceInfo, StreamConfig
from pynats_twisted.jetstream.pull_consumer import PullConsumer
from tests.bridge.test_webhook_config import make


class FakeConsumer(PullConsumer):
    """A consumer whose pulls wait for the test."""

    def __init__(self, config: ConsumerConfig) -> None:
        super().__init__(None, ConsumerInfo(stream_name="ORDERS", name="crm", config=config))  # type: ignore[arg-type]
        self.pulls: list[tuple[int, dict[str, Any], Deferred[Any]]] = []
        self.cancelled = 0
        self.state: Any = None

    def fetch(self, batch: int, **options: Any) -> Deferred[Any]:
        def cancelled(_: object) -> None:
            self.cancelled += 1

        result: Deferred[Any] = Deferred(cancelled)
        self.pulls.append((batch, options, result))
        return result

    def info(self) -> Deferred[Any]:
        return succeed(self.state)


class FakeStreams:
    """JetStream with one stream, or none."""

    def __init__(self, consumer: FakeConsumer | None) -> None:
        self.found = consumer
        self.created: list[ConsumerConfig] = []
        self.error: Exception | None = None
        self.cached_info = SimpleNamespace(created="then")
        self.config = StreamConfig(name="ORDERS")
        self.oldest: datetime | None = None

    def stream(self, name: str) -> Deferred[Any]:
        return succeed(self) if self.error is None else fail(self.error)

    def consumer(self, name: str) -> Deferred[Any]:
        return succeed(self.found) if self.found is not None else fail(ConsumerNotFoundError(404, 10014, "consumer not found"))

    def create_consumer(self, config: ConsumerConfig) -> Deferred[Any]:
        self.created.append(config)
        self.found = FakeConsumer(config)
        return succeed(self.found)

    def get_next_msg(self, seq: int, subject: str, *, direct: bool) -> Deferred[Any]:
        if self.oldest is None:
            return fail(MessageNotFoundError(404, 10037, "no message found"))
        return succeed(SimpleNamespace(time=self.oldest))


class WebhookConsumerTests(SynchronousTestCase):
    """:class:`WebhookConsumer`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.metrics = BridgeMetrics("edge", process=False)
        self.room = 8
        self.next_seq = 0
        self.oldest = 0
        self.taken: list[object] = []
        self.bound: list[tuple[float, bool]] = []

    def start(self, consumer: FakeConsumer | None = None, **keys: Any) -> WebhookConsumer:
        self.streams = FakeStreams(consumer)
        streams: Any = self.streams
        made = WebhookConsumer(
            self.clock,
            streams,
            "crm",
            make(**keys),
            self.metrics.route("crm", "webhook"),
            room=lambda: self.room,
            take=self.taken.append,
            bound=lambda ack_wait, is_another: self.bound.append((ack_wait, is_another)),
            next_seq=lambda: self.next_seq,
            oldest=lambda: self.oldest,
            watched=lambda: succeed(None),
        )
        self.addCleanup(made.stop)
        made.start()
        return made

    @property
    def consumer(self) -> FakeConsumer:
        assert self.streams.found is not None
        return self.streams.found

    def pull(self) -> tuple[int, dict[str, Any], Deferred[Any]]:
        """The one pull that waits."""
        (found,) = self.consumer.pulls
        self.consumer.pulls = []
        return found

    def number(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"nats_bridge_{name}", {"route": "crm", "type": "webhook"})

    def test_pulls_what_there_is_room_for(self) -> None:
        """It asks for as many as there is room for while there are so many, then waits for one; never for more than there is room."""
        made = self.start()
        self.assertIsNone(made.problem)
        batch, options, pull = self.pull()
        self.assertEqual((batch, options), (8, {"no_wait": True}))
        self.room = 3
        pull.callback(list(range(8)))
        batch, options, pull = self.pull()
        self.assertEqual((batch, options), (3, {"no_wait": True}))
        pull.callback([8])
        batch, options, pull = self.pull()
        self.assertEqual((batch, options), (1, {"expires": EXPIRES, "heartbeat": HEARTBEAT}))
        pull.callback([9])
        self.assertEqual(self.pull()[1], {"no_wait": True})
        self.assertEqual(self.taken, list(range(10)))

    def test_no_room(self) -> None:
        """Without room nothing is asked for, until there is some."""
        self.room = 0
        made = self.start()
        self.assertEqual(self.consumer.pulls, [])
        made.wake()
        self.assertEqual(self.consumer.pulls, [])
        self.room = 2
        made.wake()
        self.assertEqual(self.pull()[0], 2)

    def test_silence(self) -> None:
        """A consumer that does not answer is a problem, and is looked for again, after ever longer waits while it stays so."""
        made = self.start()
        self.pull()[2].errback(NoHeartbeatError("nothing came"))
        self.assertIn("nothing came", made.problem or "")
        self.streams.error = StreamNotFoundError(404, 10059, "stream not found")
        self.clock.advance(AGAIN[0])
        self.assertEqual(made.problem, "there is no stream ORDERS")
        self.streams.error = None
        self.clock.advance(1.9 * AGAIN[0])
        self.assertIsNotNone(made.problem)
        self.clock.advance(0.1 * AGAIN[0])
        self.assertIsNone(made.problem)
        self.assertEqual(self.bound, [(10.0, False)] * 2)

    def test_deleted(self) -> None:
        """A consumer that was deleted is made again behind what is finished; in a stream made anew it begins at the beginning."""
        self.start()
        self.assertEqual((self.streams.created[0].opt_start_seq, self.streams.created[0].max_deliver), (0, -1))
        self.next_seq = 17
        pull = self.pull()[2]
        self.streams.found = None
        pull.errback(ConsumerDeletedError("deleted"))
        self.clock.advance(AGAIN[0])
        self.assertEqual(self.streams.created[1].opt_start_seq, 17)
        pull = self.pull()[2]
        self.streams.found = None
        self.streams.cached_info.created = "now"
        pull.errback(ConsumerDeletedError("deleted"))
        self.clock.advance(AGAIN[0])
        self.assertEqual(self.streams.created[2].opt_start_seq, 0)
        self.assertEqual(self.bound, [(10.0, False), (10.0, False), (10.0, True)])

    def test_ack_wait_of_the_consumer(self) -> None:
        """What the consumer has counts, not what the route would have made."""
        self.start(FakeConsumer(ConsumerConfig(durable="crm", ack_wait=3.0)))
        self.assertEqual((self.bound, self.streams.created), ([(3.0, False)], []))

    def test_watching(self) -> None:
        """Lag and the use of ``max_ack_pending`` are measured; the route says when the consumer is about to stand still."""
        made = self.start()
        floor = SequenceInfo(stream_seq=3)
        config = ConsumerConfig(durable="crm", max_ack_pending=10)
        self.consumer.state = SimpleNamespace(num_pending=5, num_ack_pending=9, ack_floor=floor, config=config)
        self.streams.oldest = datetime.fromtimestamp(self.clock.seconds(), timezone.utc) - timedelta(seconds=50)
        self.clock.advance(WATCH_INTERVAL)
        self.assertEqual((self.number("consumer_lag_messages"), self.number("consumer_ack_pending_ratio")), (14, 0.9))
        self.assertEqual(self.number("consumer_lag_seconds"), 50 + WATCH_INTERVAL)
        self.assertTrue(made.is_nearly_full)
        self.oldest = int((self.clock.seconds() - 20) * 1e9)
        self.consumer.state.num_ack_pending = 8
        self.clock.advance(WATCH_INTERVAL)
        self.assertEqual(round(self.number("consumer_lag_seconds") or 0), 20 + WATCH_INTERVAL)
        self.assertFalse(made.is_nearly_full)
        self.consumer.state.num_pending = self.consumer.state.num_ack_pending = 0
        self.clock.advance(WATCH_INTERVAL)
        self.assertEqual((self.number("consumer_lag_messages"), self.number("consumer_lag_seconds")), (0, 0))

    def test_stop(self) -> None:
        """A stop ends the pull that waits, and leaves no timer."""
        made = self.start()
        made.stop()
        self.assertEqual(self.consumer.cancelled, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
