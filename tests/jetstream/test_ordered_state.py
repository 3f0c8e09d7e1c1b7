"""The healing of ordered consumers, alone: whatever is lost, what comes out is what is stored."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.jetstream.ordered_state import LONGEST_WAIT, Action, Create, Delete, End, OrderedState, Phase, Wait


@dataclass
class Delivery:
    """A message on its way, or a heartbeat when it has no sequence in the stream."""

    consumer: str
    consumer_seq: int
    stream_seq: int = 0
    pending: int = 0


@dataclass
class FakeConsumer:
    """A consumer at the server: what it has still to deliver, and how many it sent."""

    start: int
    sent: int = 0


@dataclass
class FakeServer:
    """A server with one stream, and the way between it and the state machine, which loses what it is told to lose."""

    stored: list[int] = field(default_factory=list)
    consumers: dict[str, FakeConsumer] = field(default_factory=dict)
    wire: list[Delivery] = field(default_factory=list)
    #: The requests to make a consumer that were not answered yet.
    asked: list[Create] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    waits: int = 0
    end: End | None = None

    def store(self, skipped: int) -> None:
        self.stored.append((self.stored[-1] if self.stored else 0) + 1 + skipped)

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Create):
                self.asked.append(action)
            elif isinstance(action, Delete):
                self.deleted.append(action.name)
                self.consumers.pop(action.name, None)
            elif isinstance(action, Wait):
                self.waits += 1
            else:
                self.end = action

    def pending(self, consumer: FakeConsumer) -> int:
        return sum(1 for seq in self.stored if seq >= consumer.start)

    def make(self, request: Create) -> tuple[int, int]:
        consumer = self.consumers[request.name] = FakeConsumer(request.start or 1)
        return consumer.start - 1, self.pending(consumer)

    def send(self, name: str) -> None:
        """Send the next message, or a heartbeat where there is none."""
        consumer = self.consumers[name]
        seq = next((seq for seq in self.stored if seq >= consumer.start), 0)
        if seq:
            consumer.start = seq + 1
            consumer.sent += 1
        self.wire.append(Delivery(name, consumer.sent, seq, self.pending(consumer)))


class Run:
    """A state machine and its server."""

    def __init__(self) -> None:
        self.server = FakeServer()
        self.state = OrderedState("o", lambda: 0.5)
        self.read: list[int] = []
        self.is_connected = True
        self.state.begin(True)
        self.server.do(self.state.take_actions())

    def step(self, kind: str, number: int) -> None:
        """One thing happens."""
        state, server = self.state, self.server
        if kind == "store":
            for skipped in range(number + 1):
                server.store(skipped % 2)
        elif kind == "answer" and self.is_connected:
            state.resume()
            server.do(state.take_actions())
            if server.asked:
                request = server.asked.pop(0)
                state.created(request.name, *server.make(request))
        elif kind == "fail" and server.asked:
            request = server.asked.pop(0)
            if number % 2:
                # It was made, and the answer was lost.
                server.make(request)
                state.create_failed(request.name, errors.RequestTimeoutError("late"))
            else:
                state.create_failed(request.name, errors.JetStreamUnavailableError(503, 10008, "no leader"))
        elif kind == "send" and server.consumers:
            names = list(server.consumers)
            for _ in range(number + 1):
                server.send(names[number % len(names)])
        elif kind == "arrive":
            for _ in range(min(number + 1, len(server.wire))):
                self.arrive(server.wire.pop(0))
                server.do(state.take_actions())
        elif kind == "drop" and server.wire:
            server.wire.pop(number % len(server.wire))
        elif kind == "twice" and server.wire:
            server.wire.insert(0, server.wire[number % len(server.wire)])
        elif kind == "swap" and server.wire:
            server.wire.append(server.wire.pop(0))
        elif kind == "delete" and server.consumers:
            names = list(server.consumers)
            del server.consumers[names[number % len(names)]]
        elif kind == "lost":
            state.lost("silence")
        elif kind == "disconnect":
            self.is_connected = False
            server.wire.clear()
            state.disconnected()
        elif kind == "connect":
            self.is_connected = True
            state.connected()
        elif kind == "resume":
            state.resume()
        elif kind == "stop":
            state.stop()
        elif kind == "begin":
            state.begin(self.is_connected)
        server.do(state.take_actions())

    def arrive(self, delivery: Delivery) -> None:
        if not delivery.stream_seq:
            if delivery.consumer == self.state.name:
                self.state.heartbeat(delivery.consumer_seq)
        elif self.state.message(delivery.consumer, delivery.stream_seq, delivery.consumer_seq, delivery.pending):
            self.read.append(delivery.stream_seq)

    def settle(self) -> None:
        """Everything works again: the messages come to their end."""
        self.step("connect", 0)
        self.step("begin", 0)
        for _ in range(20 + 3 * len(self.server.stored)):
            if self.state.phase is Phase.WAITING:
                self.step("resume", 0)
            while self.server.asked:
                self.step("answer", 0)
            if self.state.name is not None and self.state.name not in self.server.consumers:
                # The reader would hear nothing.
                self.step("lost", 0)
                continue
            while self.server.wire:
                self.step("arrive", 0)
            if self.state.name is not None and self.state.name in self.server.consumers:
                self.server.send(self.state.name)
                self.step("arrive", 0)


KINDS = [
    *["store", "answer", "send", "arrive"] * 3,
    *["drop", "twice", "swap"] * 2,
    *["fail", "delete", "lost", "disconnect", "connect", "resume", "stop", "begin"],
]


class HealingTests(SynchronousTestCase):
    """What comes out is exactly what is stored."""

    @settings(max_examples=400, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5)), min_size=10, max_size=60))
    def test_every_message_once_and_in_order(self, steps: list[tuple[str, int]]) -> None:
        """Drops, reorders, duplicates, deleted consumers, failed requests and lost connections, in any order: no gap, no duplicate."""
        run = Run()
        for kind, number in steps:
            run.step(kind, number)
            # A prefix of what is stored, at every moment.
            self.assertEqual(run.read, run.server.stored[: len(run.read)])
        run.settle()
        self.assertIsNone(run.server.end)
        self.assertEqual(run.read, run.server.stored)
        self.assertEqual(run.state.pending, 0)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5)), max_size=80))
    def test_no_consumer_is_left(self, steps: list[tuple[str, int]]) -> None:
        """After a stop, every consumer that was made has been told to go."""
        run = Run()
        for kind, number in steps:
            run.step(kind, number)
        run.step("stop", 0)
        run.step("connect", 0)
        while run.server.asked:
            run.step("answer", 0)
        self.assertEqual(list(run.server.consumers), [])
        self.assertIs(run.state.phase, Phase.IDLE)

    def test_a_new_consumer_goes_on_behind_the_last_message(self) -> None:
        """The first one begins where the user said, those after it behind what was read."""
        run = Run()
        self.assertEqual(run.server.asked, [Create("o_1", None)])
        run.step("store", 2)
        run.step("answer", 0)
        run.step("send", 2)
        run.step("arrive", 2)
        run.step("lost", 0)
        self.assertEqual(run.read, [1, 3, 4])
        self.assertEqual(run.server.asked, [Create("o_2", 5)])
        self.assertEqual(run.server.deleted, ["o_1"])
        self.assertEqual(run.state.resets, 1)
        self.assertEqual(run.state.reason, "silence")

    def test_a_beginning_without_a_message_is_kept(self) -> None:
        """A consumer for new messages that is lost before the first one came leaves no gap: its successor begins at the same place."""
        state = OrderedState("o")
        state.begin(True)
        state.created("o_1", 10, 0)
        state.lost("silence")
        self.assertEqual(state.phase, Phase.WAITING)
        state.resume()
        self.assertEqual(state.take_actions()[-1], Create("o_2", 11))

    def test_a_heartbeat_tells_of_lost_messages(self) -> None:
        """When the last messages were lost on their way, no later one shows the gap."""
        state = OrderedState("o")
        state.begin(True)
        state.created("o_1", 0, 2)
        self.assertTrue(state.message("o_1", 1, 1, 1))
        state.heartbeat(1)
        state.heartbeat(None)
        self.assertIs(state.phase, Phase.READING)
        state.heartbeat(2)
        self.assertIs(state.phase, Phase.CREATING)

    def test_a_gap_is_healed_at_once(self) -> None:
        """The first message behind a gap shows it: nothing waits for a heartbeat. One that came before shows nothing."""
        state = OrderedState("o")
        state.begin(True)
        state.created("o_1", 0, 3)
        self.assertTrue(state.message("o_1", 1, 1, 2))
        self.assertFalse(state.message("o_1", 1, 1, 2))
        self.assertIs(state.phase, Phase.READING)
        self.assertFalse(state.message("o_1", 3, 3, 0))
        self.assertEqual(state.take_actions()[-2:], [Delete("o_1"), Create("o_2", 2)])

    def test_messages_of_another_consumer_count_for_nothing(self) -> None:
        """What is still on its way from the consumer before cannot be taken for the next message."""
        state = OrderedState("o")
        state.begin(True)
        state.created("o_1", 0, 9)
        state.message("o_1", 1, 1, 8)
        state.lost("deleted")
        state.created("o_2", 1, 8)
        self.assertFalse(state.message("o_1", 3, 1, 6))
        self.assertTrue(state.message("o_2", 2, 1, 7))


class WaitingTests(SynchronousTestCase):
    """How soon it tries again."""

    def waits(self, jitter: float) -> list[float]:
        state = OrderedState("o", lambda: jitter)
        state.begin(True)
        found: list[float] = []
        for number in range(1, 8):
            state.take_actions()
            state.create_failed(f"o_{number}", errors.RequestTimeoutError("late"))
            wait = state.take_actions()[-1]
            assert isinstance(wait, Wait)
            found.append(wait.seconds)
            state.resume()
        return found

    def test_waits_grow(self) -> None:
        """One second, twice as long each time, ten at most; jitter makes them up to half as long."""
        self.assertEqual(self.waits(0.0), [1.0, 2.0, 4.0, 8.0, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT])
        self.assertEqual(self.waits(1.0), [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0])

    def test_no_wait_after_progress(self) -> None:
        """A consumer that was of use is replaced at once, one that was not after a wait."""
        state = OrderedState("o", lambda: 0.0)
        state.begin(True)
        state.created("o_1", 0, 5)
        state.message("o_1", 1, 1, 4)
        state.lost("deleted")
        self.assertIs(state.phase, Phase.CREATING)
        state.created("o_2", 1, 4)
        state.lost("deleted")
        self.assertEqual(state.take_actions()[-1], Wait(1.0))

    def test_no_wait_after_reconnecting(self) -> None:
        """A new connection is used at once, however many attempts failed before."""
        state = OrderedState("o")
        state.begin(True)
        state.create_failed("o_1", errors.RequestTimeoutError("late"))
        state.disconnected()
        self.assertIs(state.phase, Phase.OFFLINE)
        state.connected()
        self.assertIs(state.phase, Phase.CREATING)


class EndTests(SynchronousTestCase):
    """What cannot be healed has a named end."""

    def ended_with(self, error: BaseException, proven: bool, times: int = 1) -> BaseException | None:
        state = OrderedState("o", lambda: 0.0)
        state.begin(True)
        number = 1
        if proven:
            state.created("o_1", 0, 0)
            state.message("o_1", 1, 1, 0)
            state.lost("deleted")
            number = 2
        for _ in range(times):
            state.create_failed(f"o_{number}", error)
            state.resume()
            number += 1
        ends = [action for action in state.actions if isinstance(action, End)]
        self.assertEqual(bool(ends), state.phase is Phase.ENDED)
        return ends[0].error if ends else None

    def test_first_refusal_ends_it(self) -> None:
        """Whoever asks for what cannot be is told at once."""
        for error in (
            errors.StreamNotFoundError(404, 10059, "stream not found"),
            errors.ConsumerConfigRefusedError(400, 10012, "no"),
            errors.JetStreamNotEnabledError(503, 0, "nobody"),
            errors.MaximumConsumersError(400, 10026, "full"),
            errors.PermissionsViolationError("denied", "publish", "x"),
            errors.ConnectionClosedError("closed"),
            errors.JetStreamApiLevelError("old"),
        ):
            self.assertIs(self.ended_with(error, proven=False), error)

    def test_what_may_pass_is_tried_again(self) -> None:
        """Servers that are not ready, answers that are late, a consumer before that is still being deleted."""
        always: list[errors.NatsError] = [
            errors.RequestTimeoutError("late"),
            errors.JetStreamUnavailableError(503, 10008, "no leader"),
        ]
        later = [errors.JetStreamNotEnabledError(503, 0, "nobody"), errors.MaximumConsumersError(400, 10026, "full")]
        for error in always:
            self.assertIsNone(self.ended_with(error, proven=False, times=5))
        for error in [*always, *later]:
            self.assertIsNone(self.ended_with(error, proven=True, times=5))

    def test_a_stream_that_is_gone(self) -> None:
        """A stream that was there must be missing twice, and then that is the end."""
        error = errors.StreamNotFoundError(404, 10059, "stream not found")
        self.assertIsNone(self.ended_with(error, proven=True))
        self.assertIs(self.ended_with(error, proven=True, times=2), error)

    def test_a_stream_that_was_made_anew(self) -> None:
        """Its messages have sequences that were read already: nothing of it is handed out."""
        for how in ("created", "message", "stream"):
            state = OrderedState("o", lambda: 0.0)
            state.begin(True)
            state.created("o_1", 0, 5)
            for seq in range(1, 6):
                state.message("o_1", seq, seq, 5 - seq)
            state.lost("deleted")
            if how == "created":
                state.created("o_2", 2, 0)
            else:
                state.created("o_2", 5, 0)
                if how == "message":
                    self.assertFalse(state.message("o_2", 3, 1, 0))
                else:
                    state.stream_at(5, 6)
                    self.assertIs(state.phase, Phase.READING)
                    state.stream_at(4, 6)
            end = state.actions[-1]
            assert isinstance(end, End)
            self.assertIsInstance(end.error, errors.StreamRecreatedError)
            state.stop()
            state.begin(True)
            self.assertIs(state.phase, Phase.ENDED)
