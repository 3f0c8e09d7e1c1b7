"""What becomes of messages in hand, with a clock and a target that a test plays."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.activity import RouteActivity
from pynats_twisted.bridge.breaker import BreakerState, CircuitBreaker
from pynats_twisted.bridge.dead_letter_store import Ending
from pynats_twisted.bridge.limits import TokenBucket
from pynats_twisted.bridge.loops import LoopGuard
from pynats_twisted.bridge.metrics import BridgeMetrics
from pynats_twisted.bridge.webhook_client import Answer
from pynats_twisted.bridge.webhook_delivery import Deliveries
from pynats_twisted.bridge.webhook_request import RequestMaker
from pynats_twisted.errors import ConnectionClosedError, DisconnectedError
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.protocol.twin import Msg
from tests.bridge.test_webhook_config import make

KEYS = {"retry": {"schedule": ["1s", "10s"], "jitter": 0}, "breaker": {"after": 3, "cooldown": "30s"}, "ack_wait": "9s"}


class FakeTarget:
    """Takes the place of the HTTP client: each request waits for the test's answer."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, Deferred[Answer]]] = []
        self.cancelled = 0

    def send(self, request: bytes) -> Deferred[Answer]:
        def cancelled(_: object) -> None:
            self.cancelled += 1

        answer: Deferred[Answer] = Deferred(cancelled)
        self.requests.append((request, answer))
        return answer

    def answer(self, status: int, **more: Any) -> None:
        self.requests.pop(0)[1].callback(Answer(status, **more))


class FakeNats:
    """What a message needs to be answered: it keeps the answers."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = []
        self.error: Exception | None = None

    @property
    def client(self) -> FakeNats:
        return self

    def publish(self, reply: str, payload: bytes) -> Any:
        if self.error is not None:
            raise self.error
        self.answers.append((int(reply.split(".")[5]), payload.decode()))
        return succeed(None)


class FakeStore:
    """Takes dead letters."""

    pattern = "dlq.ORDERS.crm.*"

    def __init__(self) -> None:
        self.stored: list[tuple[int, Ending]] = []
        self.error: Exception | None = None
        self.is_new = True

    def store(self, msg: JsMsg, ending: Ending) -> Deferred[bool]:
        if self.error is not None:
            return fail(self.error)
        self.stored.append((msg.metadata.stream_seq, ending))
        return succeed(self.is_new)


class DeliveriesTests(SynchronousTestCase):
    """:class:`Deliveries`."""

    def setUp(self) -> None:
        self.make()

    def make(self, store: FakeStore | None = None, bucket: bool = False, has_store: bool = True, **keys: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.target, self.nats, self.store = FakeTarget(), FakeNats(), store or FakeStore()
        self.metrics = BridgeMetrics("edge", process=False)
        config = make(**{**KEYS, **keys})
        self.breaker = CircuitBreaker(config.breaker.after, config.breaker.cooldown, self.clock.seconds)
        self.gone: list[str] = []
        self.ended = 0
        self.activity = RouteActivity("crm", self.clock.seconds)
        client: Any = self.target
        stores: Any = self.store if has_store else None
        self.deliveries = Deliveries(
            self.clock,
            "crm",
            config,
            client=client,
            requests=RequestMaker(config, LoopGuard("edge")),
            schedule=config.retry.make(),
            breaker=self.breaker,
            bucket=TokenBucket(1.0, self.clock.seconds, 1) if bucket else None,
            store=stores,
            metrics=self.metrics.route("crm", "webhook"),
            ended=self._count_ended,
            gone=self.gone.append,
            activity=self.activity,
        )
        self.addCleanup(self.deliveries.stop)

    def _count_ended(self) -> None:
        self.ended += 1

    def take(self, seq: int = 1, delivered: int = 1) -> JsMsg:
        js: Any = self.nats
        msg = JsMsg(Msg("orders.new", 1, f"$JS.ACK.ORDERS.crm.{delivered}.{seq}.{seq}.1700000000000000000.0", b"data", b""), js)
        self.deliveries.take(msg)
        return msg

    def answers(self) -> list[tuple[int, str]]:
        found, self.nats.answers = self.nats.answers, []
        return found

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"nats_bridge_{name}", {"route": "crm", "type": "webhook", **labels}) or 0.0

    def test_ack_after_delivery(self) -> None:
        """Nothing is acked before the target has answered."""
        self.take()
        self.assertEqual(self.answers(), [])
        self.assertEqual(self.count("in_flight"), 1)
        self.target.answer(204)
        self.assertEqual(self.answers(), [(1, "+ACK")])
        self.assertEqual((self.count("in_flight"), self.ended, self.deliveries.in_flight), (0, 1, {}))

    def test_schedule(self) -> None:
        """Each failure waits longer, the last one makes a dead letter, and only after it was stored the message is given up."""
        for delivered, wait in ((1, 1), (2, 10)):
            self.take(delivered=delivered)
            self.target.answer(500)
            self.breaker.succeeded()
            self.assertEqual(self.answers(), [(1, f'-NAK {{"delay":{wait}000000000}}')])
            self.clock.advance(wait)
        self.take(delivered=3)
        self.target.answer(500)
        self.assertEqual(self.answers(), [(1, "+TERM dead letter: the target answered 500")])
        ((seq, ending),) = self.store.stored
        self.assertEqual((seq, ending.status, ending.attempts, ending.first_time), (1, 500, 3, 1_700_000_000.0))
        self.assertEqual((self.count("retries_total"), self.count("dlq_total")), (2, 1))

    def test_retry_after(self) -> None:
        """The target's own wish counts when it is longer than the schedule, up to an hour."""
        for asked, wait in ((5.0, 5), (0.5, 1), (1e6, 3600)):
            self.make()
            self.take()
            self.target.answer(429, retry_after=asked)
            self.assertEqual(self.answers(), [(1, f'-NAK {{"delay":{wait}000000000}}')])

    def test_breaker(self) -> None:
        """Failures with an open breaker cost no attempt; the message is there again when the target may be."""
        for seq in range(1, 6):
            self.take(seq)
        for _ in range(3):
            self.target.answer(503)
        self.assertIs(self.breaker.state, BreakerState.OPEN)
        self.assertEqual(self.answers()[-1], (3, '-NAK {"delay":1000000000}'))
        self.clock.advance(2)
        self.target.answer(503, retry_after=60.0)
        # Nothing is pulled while the target is down, so the message can be there when it is back.
        self.assertEqual(self.answers(), [(4, '-NAK {"delay":1000000000}')])
        # Its first attempt that counts is this one, although it is the third delivery.
        self.target.answer(200)
        self.take(4, delivered=3)
        self.target.answer(500)
        self.assertEqual(self.answers()[-1], (4, '-NAK {"delay":1000000000}'))

    def test_given_back(self) -> None:
        """A message that came at a bad time costs no attempt either."""
        js: Any = self.nats
        self.deliveries.give_back(JsMsg(Msg("orders.new", 1, "$JS.ACK.ORDERS.crm.1.1.1.1.0", b"", b""), js), 7.0)
        self.assertEqual(self.answers(), [(1, '-NAK {"delay":7000000000}')])
        self.take(delivered=2)
        self.target.answer(500)
        self.assertEqual(self.answers(), [(1, '-NAK {"delay":1000000000}')])

    def test_after_a_restart(self) -> None:
        """A message that was delivered before this bridge knew it has as many attempts behind it."""
        self.take(delivered=3)
        self.target.answer(500)
        self.assertEqual(self.store.stored[0][1].attempts, 3)

    def test_heartbeats(self) -> None:
        """While a request runs the server is told so, three times in ``ack_wait``; not afterwards."""
        self.take()
        for _ in range(3):
            self.clock.advance(3)
        self.assertEqual(self.answers(), [(1, "+WPI")] * 3)
        self.target.answer(200)
        self.answers()
        self.clock.advance(3)
        self.clock.advance(3)
        self.assertEqual(self.answers(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_delivered_twice(self) -> None:
        """A message that comes again while its request runs is not sent a second time; the answer goes to the newer delivery."""
        first = self.take()
        second = self.take(delivered=2)
        self.assertEqual(len(self.target.requests), 1)
        self.target.answer(200)
        self.assertEqual((first.acked, second.acked, self.answers()), (False, True, [(1, "+ACK")]))
        self.assertEqual(self.count("duplicates_total"), 1)

    def test_dead_letter_not_stored(self) -> None:
        """What cannot be stored is not given up; when it comes again it is stored, and not sent again."""
        self.store.error = DisconnectedError("lost")
        self.take()
        self.target.answer(422)
        self.assertEqual(self.answers(), [(1, '-NAK {"delay":5000000000}')])
        self.assertIn("cannot be stored", self.deliveries.storing_problem or "")
        self.store.error = None
        self.take(delivered=2)
        self.assertEqual(self.target.requests, [])
        self.assertEqual(self.answers(), [(1, "+TERM dead letter: the target answered 422")])
        self.assertIsNone(self.deliveries.storing_problem)

    def test_no_dead_letters(self) -> None:
        """Without dead letters a message is tried for ever, whatever the target says."""
        self.make(has_store=False, ordering="strict")
        for delivered in range(1, 30):
            self.take(delivered=delivered)
            self.target.answer(422)
            ((_, answer),) = self.answers()
            self.assertTrue(answer.startswith("-NAK"), answer)

    def test_gone(self) -> None:
        """After 410 the route is told, and the message is free for whoever goes on."""
        self.take()
        self.target.answer(410)
        self.assertEqual(self.gone, ["the target answered 410"])
        self.assertEqual(self.answers(), [(1, "-NAK")])

    def test_rate(self) -> None:
        """Messages wait for their turn; when the target goes down meanwhile they are given back."""
        self.make(bucket=True)
        for seq in (1, 2, 3):
            self.take(seq)
        self.assertEqual(len(self.target.requests), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.target.requests), 2)
        for _ in range(3):
            self.breaker.failed()
        self.clock.advance(1)
        self.assertEqual(len(self.target.requests), 2)
        self.assertEqual(self.answers(), [(3, '-NAK {"delay":1000000000}')])

    def test_cancel(self) -> None:
        """What is cut short is given back at once, and its request is cut."""
        self.take()
        self.deliveries.cancel()
        self.assertEqual((self.target.cancelled, self.answers(), self.ended), (1, [(1, "-NAK")], 1))

    def test_answer_not_sent(self) -> None:
        """When NATS cannot be told, that is counted, and the message comes again by itself."""
        self.take()
        self.nats.error = ConnectionClosedError("closed")
        self.target.answer(200)
        self.assertEqual((self.count("messages_out_total"), self.count("messages_failed_total", reason="not-answered")), (0, 1))
        self.assertEqual(self.activity.errors[0].kind, "not-answered")

    def test_next_seq(self) -> None:
        """A consumer that has to be made anew begins with the oldest message that is not finished."""
        self.assertEqual(self.deliveries.next_seq, 0)
        for seq in (5, 6, 7):
            self.take(seq)
        self.target.answer(200)
        self.assertEqual(self.deliveries.next_seq, 6)
        self.target.answer(500)
        self.target.answer(200)
        self.assertEqual(self.deliveries.next_seq, 6)
        self.take(6, delivered=2)
        self.target.answer(200)
        self.assertEqual(self.deliveries.next_seq, 8)

    def test_hops(self) -> None:
        """Who watches sees what became of each message; errors are kept for the admin pages, with a hint."""
        hops: list[Any] = []
        self.activity.add_tap(hops.append)
        self.take()
        self.target.answer(503)
        self.take(delivered=2)
        self.target.answer(422)
        self.assertEqual([hop.step for hop in hops], ["refused", "to-retry", "refused", "dead-letter"])
        self.assertEqual({hop.details["seq"] for hop in hops}, {1})
        self.assertEqual([error.cause[-3:] for error in self.activity.errors], ["422", "503"])
        self.assertTrue(all(error.hint for error in self.activity.errors))

    def test_fault(self) -> None:
        """A fault of the bridge itself does not lose a message: it is logged, and the message is tried again."""
        self.target.send = None  # type: ignore[method-assign, assignment]
        self.take()
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertTrue(self.answers()[0][1].startswith("-NAK"))
        self.assertEqual(self.deliveries.in_flight, {})
