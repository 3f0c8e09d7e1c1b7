"""The accounting of fast ingest."""

from __future__ import annotations

from collections import deque
from math import inf

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.jetstream.api import BatchFlowError, BatchFlowGap
from pynats_twisted.jetstream.flow import IngestFlow
from tests.jetstream.ingest_model import Answer, IngestModel, failure

ACK = b'{"type":"ack","seq":%d,"msgs":%d}'
GAP = b'{"type":"gap","last_seq":%d,"seq":%d}'
ERR = b'{"type":"err","seq":%d,"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 7"}}'
FINAL = b'{"stream":"S","seq":%d,"batch":"b","count":%d}'


def new_flow(*, flow: int = 10, outstanding: int = 2, gap_ok: bool = False, timeout: float = 6.0) -> IngestFlow:
    return IngestFlow("_INBOX.b", flow=flow, outstanding=outstanding, gap_ok=gap_ok, timeout=timeout)


class FlowTestCase(SynchronousTestCase):
    """Has a flow, and says what the server says at the time 0, unless told otherwise."""

    def begin(self, msgs: int = 10, **options: int | float | bool) -> None:
        """A batch that the server has accepted."""
        self.flow = new_flow(**options)  # type: ignore[arg-type]
        self.add(1)
        self.hear(ACK % (0, msgs))

    def add(self, count: int, now: float = 0.0) -> None:
        for _ in range(count):
            self.assertTrue(self.flow.has_room)
            self.flow.next_append()
            self.flow.appended("s", now)

    def fill(self) -> int:
        """Send until there is no room; how many were sent."""
        before = self.flow.sent
        while self.flow.has_room:
            self.add(1)
        return self.flow.sent - before

    def hear(
        self, data: bytes, status: int | None = None, now: float = 0.0, seq: int = 1, operation: int = 1
    ) -> BatchFlowGap | BatchFlowError | None:
        gap = self.flow.next_append().split(".")[3]
        return self.flow.received(f"_INBOX.b.{self.flow.flow}.{gap}.{seq}.{operation}.$FI", data, status, now)

    def failed(self, kind: type[errors.NatsError]) -> errors.NatsError:
        self.assertTrue(self.flow.done)
        self.assertIsInstance(self.flow.error, kind)
        assert self.flow.error is not None
        return self.flow.error


class SubjectTests(FlowTestCase):
    """What the reply subjects say."""

    def test_each_operation(self) -> None:
        """They have the batch, the flow that was asked for, the gap mode, the sequence and the operation, in this order."""
        flow = new_flow(flow=25, gap_ok=True)
        self.assertEqual(flow.next_append(), "_INBOX.b.25.ok.1.0.$FI")
        flow.appended("s", 0.0)
        flow.received("_INBOX.b.25.ok.1.0.$FI", ACK % (0, 5), None, 0.0)
        self.assertEqual(flow.next_append(), "_INBOX.b.25.ok.2.1.$FI")
        self.assertEqual(flow.next_commit(), "_INBOX.b.25.ok.2.2.$FI")
        self.assertEqual(flow.next_end(), "_INBOX.b.25.ok.2.3.$FI")
        self.assertEqual(flow.ping(), "_INBOX.b.25.ok.1.4.$FI")

    def test_a_ping_takes_no_sequence(self) -> None:
        """It names the last message that was sent, and the next message follows that one."""
        self.begin()
        self.add(2)
        self.assertIn(".fail.3.4.", self.flow.ping())
        self.assertIn(".fail.4.1.", self.flow.next_append())


class WindowTests(FlowTestCase):
    """How much may be sent."""

    def test_first_message_alone(self) -> None:
        """Nothing follows the first message until the server has said how fast it may go."""
        self.flow = new_flow()
        self.assertEqual(self.fill(), 1)
        self.hear(ACK % (0, 1))
        self.assertTrue(self.flow.has_room)

    def test_outstanding_acks(self) -> None:
        """The messages of so many acks may be on their way."""
        for outstanding in (1, 2, 3):
            self.begin(msgs=5, outstanding=outstanding)
            self.fill()
            self.assertEqual(self.flow.sent, 5 * outstanding)

    def test_a_later_ack_stands_for_a_lost_one(self) -> None:
        """An ack that got lost does not hold anything up when the next one comes."""
        self.begin(msgs=5)
        self.fill()
        self.hear(ACK % (10, 5))
        self.assertEqual((self.flow.acked, self.fill()), (10, 10))

    def test_server_changes_the_pace(self) -> None:
        """What the newest ack says counts; more than what was asked for is not taken, and less than 1 is no pace."""
        self.begin(msgs=1, flow=10, outstanding=2)
        self.fill()
        self.hear(ACK % (2, 4))
        self.assertEqual(self.fill(), 8)
        self.hear(ACK % (10, 400))
        self.assertEqual(self.fill(), 20)
        self.hear(ACK % (30, 0))
        self.assertEqual(self.fill(), 2)

    def test_old_and_wrong_acks(self) -> None:
        """An ack that is older than the last one changes nothing, and neither does one of what was never sent."""
        self.begin(msgs=5)
        self.fill()
        self.hear(ACK % (5, 5))
        self.hear(ACK % (0, 9))
        self.hear(ACK % (11, 9))
        self.assertEqual((self.flow.acked, self.flow.interval), (5, 5))

    def test_refused_messages_do_not_fill_the_window(self) -> None:
        """With gaps allowed, a refused message has no ack, and the batch goes on behind it all the same."""
        self.begin(msgs=1, gap_ok=True)
        self.hear(ACK % (1, 1))
        for seq in range(2, 50):
            self.add(1)
            self.assertEqual(self.hear(ERR % seq, seq=seq).__class__, BatchFlowError)
        self.assertEqual((self.flow.refused, self.flow.acked), (48, 1))
        self.assertTrue(self.flow.has_room)


class TimeTests(FlowTestCase):
    """Pings, and the limit."""

    def test_nothing_to_do_before_the_first_message(self) -> None:
        """A batch that has not begun needs no timer."""
        self.assertEqual(new_flow().due, inf)

    def test_pings_while_waiting(self) -> None:
        """An ack that is missing is asked for each third of the timeout, and the timeout is the end."""
        self.begin(msgs=1, timeout=6.0)
        self.fill()
        pings = []
        while not self.flow.done:
            now = self.flow.due
            if self.flow.tick(now):
                pings.append(now)
        self.assertEqual(pings, [2.0, 4.0])
        error = self.failed(errors.FastIngestTimeoutError)
        self.assertIsInstance(error, TimeoutError)
        self.assertIn("an ack of the server did not come within 6 s; the server had the messages up to 0 of the 2", str(error))

    def test_answers_to_pings_do_not_move_the_limit(self) -> None:
        """A server that answers every ping, and never goes on, does not hold the batch up for ever."""
        self.begin(msgs=1, timeout=6.0)
        self.fill()
        while self.flow.due < 100 and not self.flow.done:
            now = self.flow.due
            if self.flow.tick(now):
                self.hear(ACK % (0, 1), now=now)
        self.assertEqual(now, 6.0)
        self.failed(errors.FastIngestTimeoutError)

    def test_progress_moves_the_limit(self) -> None:
        """Each time of waiting has the whole timeout."""
        self.begin(msgs=1, timeout=6.0)
        self.fill()
        self.hear(ACK % (1, 1), now=5.0)
        self.add(1, now=5.5)
        self.assertFalse(self.flow.tick(6.0))
        self.assertFalse(self.flow.done)

    def test_slow_senders_keep_the_batch_alive(self) -> None:
        """The server forgets a batch after 10 silent seconds: there are never more than three, and no limit for who does not wait."""
        self.begin(timeout=60.0)
        for now in (3.0, 6.0, 9.0, 90.0):
            self.assertTrue(self.flow.tick(now))
            self.assertEqual(self.flow.due, now + 3.0)

    def test_no_ping_behind_a_single_message(self) -> None:
        """A server that is done with a batch of one message would take a ping for a new batch."""
        self.flow = new_flow(timeout=6.0)
        self.flow.next_commit()
        self.flow.committed("s", 0.0)
        self.assertEqual(self.flow.due, 6.0)
        self.assertFalse(self.flow.tick(3.0))
        self.assertFalse(self.flow.tick(6.0))
        self.failed(errors.FastIngestTimeoutError)


class EndTests(FlowTestCase):
    """How a batch ends."""

    def test_success(self) -> None:
        """The final ack of everything is a good end, with and without a last message."""
        for store in (True, False):
            self.begin()
            self.add(3)
            if store:
                self.flow.committed("s", 0.0)
            else:
                self.flow.ended(0.0)
            self.hear(FINAL % (9, self.flow.last))
            self.assertTrue(self.flow.done)
            self.assertIsNone(self.flow.error)
            self.assertEqual(self.flow.acked, 5 if store else 4)

    def test_single_message_acked_like_any_publish(self) -> None:
        """An ack without a batch is taken for a batch of one."""
        self.flow = new_flow()
        self.flow.committed("s", 0.0)
        self.hear(b'{"stream":"S","seq":9}')
        self.assertIsNone(self.flow.error)
        self.assertEqual(self.flow.acked, 1)

    def test_gap_stops_the_sending(self) -> None:
        """With gaps forbidden nothing is sent behind a gap, and the final ack says how far it came."""
        self.begin()
        self.add(7)
        self.assertIsNone(self.hear(GAP % (4, 6)))
        self.assertFalse(self.flow.has_room or self.flow.is_open or self.flow.done)
        self.hear(FINAL % (3, 3))
        error = self.failed(errors.FastIngestGapError)
        assert isinstance(error, errors.FastIngestError) and self.flow.pub_ack is not None
        self.assertEqual((error.acked, error.sent, self.flow.pub_ack.count, self.flow.lost), (3, 8, 3, 2))

    def test_gap_before_the_end(self) -> None:
        """A final ack of fewer messages than were sent is no success."""
        self.begin()
        self.add(3)
        self.flow.ended(0.0)
        self.hear(FINAL % (3, 3))
        self.failed(errors.FastIngestGapError)

    def test_gaps_allowed(self) -> None:
        """They are told, and the batch goes on; they change nothing about what is acked."""
        self.begin(gap_ok=True)
        self.add(7)
        self.assertEqual(self.hear(GAP % (4, 6)), BatchFlowGap(last_seq=4, seq=6))
        self.assertTrue(self.flow.has_room)
        self.assertEqual((self.flow.lost, self.flow.acked), (2, 0))
        self.flow.ended(0.0)
        self.hear(FINAL % (3, 8))
        self.assertIsNone(self.flow.error)

    def test_refused_message(self) -> None:
        """With gaps forbidden the server's refusal is what the batch fails with, when the final ack has come."""
        self.begin()
        self.add(7)
        self.hear(ERR % 5)
        self.assertFalse(self.flow.done or self.flow.has_room)
        self.hear(FINAL % (4, 4))
        self.failed(errors.WrongLastSequenceError)
        self.assertEqual(self.flow.acked, 4)

    def test_first_of_several_reasons(self) -> None:
        """The one that comes first in the batch counts, not the one that is told first: nobody answers sooner than the stream does."""
        self.begin()
        self.add(7)
        self.hear(b"", 503, seq=5)
        self.hear(ERR % 3)
        self.hear(failure(10054), seq=4)
        self.hear(FINAL % (2, 2))
        self.failed(errors.WrongLastSequenceError)

    def test_refusal_without_a_final_ack(self) -> None:
        """The refusal is told all the same, when the time is over."""
        self.begin(timeout=6.0)
        self.hear(ERR % 1)
        self.flow.tick(6.0)
        self.failed(errors.WrongLastSequenceError)

    def test_message_that_never_reached_the_batch(self) -> None:
        """One that no stream takes, or that the stream does not look at, ends it: a ping finds out how far it came."""
        for data, status, kind in ((b"", 503, errors.FastIngestError), (failure(10054), None, errors.MessageExceedsMaximumError)):
            self.begin()
            self.add(4)
            self.assertIsNone(self.hear(data, status, now=1.0, seq=4))
            self.assertFalse(self.flow.has_room)
            self.assertLessEqual(self.flow.due, 1.0)
            self.assertTrue(self.flow.tick(1.0))
            self.hear(GAP % (4, 6), now=1.0, operation=4)
            self.hear(FINAL % (3, 3), now=1.0, operation=4)
            self.failed(kind)
            self.assertEqual(self.flow.acked, 3)

    def test_message_that_never_reached_the_batch_with_gaps_allowed(self) -> None:
        """Then the batch goes on; a refusal is told with the number of its message."""
        self.begin(gap_ok=True)
        self.add(4)
        self.assertIsNone(self.hear(b"", 503, seq=2))
        refused = self.hear(failure(10054), seq=4)
        assert isinstance(refused, BatchFlowError)
        self.assertEqual((refused.seq, refused.error.err_code, self.flow.refused), (4, 10054, 1))
        crowded = self.hear(failure(10167), 429, seq=5)
        assert isinstance(crowded, BatchFlowError)
        # The server tells of this one as a gap.
        self.assertEqual((crowded.seq, self.flow.refused), (5, 1))
        self.assertTrue(self.flow.has_room)

    def test_first_message_refused(self) -> None:
        """What is wrong with the batch, or with its first message, is raised as it is, in both modes."""
        for gap_ok in (False, True):
            for data, status, kind in (
                (failure(10205), None, errors.FastBatchError),
                (failure(10211), None, errors.TooManyFastBatchesError),
                (failure(10071), None, errors.WrongLastSequenceError),
                (failure(10167), 429, errors.JetStreamTooManyRequestsError),
                (b"", 503, errors.NoStreamResponseError),
                (b"nonsense", None, errors.JetStreamDecodeError),
            ):
                self.flow = new_flow(gap_ok=gap_ok)
                self.add(1)
                self.hear(data, status, operation=0)
                self.failed(kind)

    def test_server_forgot_the_batch(self) -> None:
        """That ends it in both modes."""
        for gap_ok in (False, True):
            self.begin(gap_ok=gap_ok)
            self.add(2)
            self.hear(failure(10208), seq=3)
            self.failed(errors.UnknownFastBatchError)

    def test_lost_final_ack(self) -> None:
        """A ping finds the batch forgotten: how much of the rest was stored is not known, and the error says what is."""
        self.begin(msgs=1)
        self.hear(ACK % (1, 1))
        self.add(1)
        self.flow.ended(0.0)
        self.assertTrue(self.flow.tick(2.0))
        self.hear(failure(10208), now=2.0, operation=4)
        error = self.failed(errors.FastIngestError)
        assert isinstance(error, errors.FastIngestError)
        self.assertEqual((error.acked, error.sent), (1, 2))
        self.assertIsInstance(error.__cause__, errors.UnknownFastBatchError)

    def test_gap_with_a_lost_final_ack(self) -> None:
        """The gap is what is told."""
        self.begin()
        self.add(3)
        self.hear(GAP % (2, 3))
        self.hear(failure(10208), operation=4)
        self.failed(errors.FastIngestGapError)

    def test_lost_end(self) -> None:
        """The end without a message may be lost: the server is asked, and that everything is stored is a good end."""
        for data, status in ((b"", 503), (GAP % (3, 4), None)):
            self.begin()
            self.add(1)
            self.flow.ended(0.0)
            self.hear(data, status, seq=3, operation=3)
            self.assertEqual(self.flow.tick(0.0), status == 503)
            self.hear(FINAL % (2, 2), operation=4)
            self.assertTrue(self.flow.done)
            self.assertIsNone(self.flow.error)
            self.assertEqual(self.flow.lost, 0)

    def test_no_stream_for_a_while(self) -> None:
        """While a stream elects its leader nobody answers to a ping: the next one may be answered."""
        for gap_ok in (False, True):
            self.begin(gap_ok=gap_ok)
            self.hear(b"", 503, operation=4)
            self.assertTrue(self.flow.has_room)
            self.assertGreater(self.flow.due, 0.0)

    def test_commit_refused_with_gaps_allowed(self) -> None:
        """A last message that never reached the batch cannot have committed it."""
        for data, status, kind in ((failure(10054), None, errors.MessageExceedsMaximumError), (b"", 503, errors.FastIngestError)):
            self.begin(gap_ok=True)
            self.flow.committed("s", 0.0)
            self.hear(data, status, seq=2, operation=2)
            self.failed(kind)
        self.begin(gap_ok=True)
        self.flow.ended(0.0)
        self.hear(b"", 503, seq=2, operation=3)
        self.failed(errors.FastIngestError)

    def test_server_ends_the_batch(self) -> None:
        """A final ack that nobody asked for is no success."""
        for gap_ok, kind in ((False, errors.FastIngestGapError), (True, errors.FastIngestError)):
            self.begin(gap_ok=gap_ok)
            self.add(3)
            self.hear(FINAL % (2, 2))
            self.failed(kind)

    def test_nothing_counts_after_the_end(self) -> None:
        """What comes late changes nothing."""
        self.begin()
        self.flow.ended(0.0)
        self.hear(FINAL % (1, 1))
        self.hear(failure(10208))
        self.hear(GAP % (1, 2))
        self.assertFalse(self.flow.tick(100.0))
        self.assertIsNone(self.flow.error)
        self.assertEqual((self.flow.due, self.flow.lost), (inf, 0))


class Network:
    """A flow and a server, and what is on its way between them."""

    def __init__(self, flow: IngestFlow, server: IngestModel) -> None:
        self.flow = flow
        self.server = server
        self.now = 0.0
        self.up: deque[tuple[str, bool]] = deque()
        self.down: deque[Answer] = deque()
        self.reports = 0

    def step(self, action: str) -> None:
        flow, up, down = self.flow, self.up, self.down
        if action in ("send", "send refused") and flow.has_room:
            up.append((flow.next_append(), action == "send refused"))
            flow.appended("s", self.now)
        elif action == "up" and up:
            down.extend(self.server.publish(*up.popleft()))
        elif action == "lose up" and up:
            up.popleft()
        elif action == "down" and down:
            self.reports += flow.received(*down.popleft(), None, self.now) is not None
        elif action == "lose down" and down:
            down.popleft()
        elif action == "slower":
            self.server.interval = max(1, self.server.interval // 2)
        elif action == "faster":
            self.server.interval = min(flow.flow, self.server.interval * 2)
        elif action == "time" and flow.due < inf:
            self.tick(max(flow.due, self.now))

    def tick(self, now: float) -> None:
        self.now = now
        if self.flow.tick(now):
            self.up.append((self.flow.ping(), False))

    def settle(self) -> None:
        """Everything on its way arrives."""
        while self.up or self.down:
            self.step("up")
            self.step("down")
            if self.flow.due <= self.now:
                self.tick(self.now)


ACTIONS = ["send"] * 8 + ["up"] * 8 + ["down"] * 6 + ["slower", "faster", "time"]
FAULTS = ["send refused", "lose up", "lose down"]


class FlowProperties(SynchronousTestCase):
    """What holds whatever happens."""

    @given(
        st.booleans(),
        st.integers(1, 6),
        st.integers(1, 3),
        st.lists(st.sampled_from(ACTIONS + FAULTS), max_size=120),
        st.booleans(),
    )
    def test_faults(self, gap_ok: bool, interval: int, outstanding: int, actions: list[str], store: bool) -> None:
        """Whatever is lost or refused: no more is sent than allowed, nothing counts as stored that is not, and there is an end."""
        flow = new_flow(flow=6, outstanding=outstanding, gap_ok=gap_ok)
        net = Network(flow, IngestModel(interval))
        for action in actions:
            before = flow.acked
            net.step(action)
            self.check(net, gap_ok, before)
            self.assertLessEqual(flow.sent - max(flow.acked, flow.reached), 6 * outstanding)
        # From here on nothing is lost any more.
        for _ in range(50):
            net.settle()
            self.check(net, gap_ok, flow.acked)
            if flow.done:
                break
            if flow.has_room and not flow.closing:
                if store or not flow.sent:
                    net.up.append((flow.next_commit(), False))
                    flow.committed("s", net.now)
                else:
                    net.up.append((flow.next_end(), False))
                    flow.ended(net.now)
            else:
                net.step("time")
        self.assertTrue(flow.done)
        if flow.error is None and not gap_ok:
            self.assertEqual(net.server.stored, set(range(1, flow.last + 1)))

    @given(st.booleans(), st.integers(1, 6), st.integers(1, 3), st.lists(st.sampled_from(ACTIONS), max_size=120), st.booleans())
    def test_no_faults(self, gap_ok: bool, interval: int, outstanding: int, actions: list[str], store: bool) -> None:
        """Where nothing is lost, everything is stored, however the server changes its pace."""
        flow = new_flow(flow=6, outstanding=outstanding, gap_ok=gap_ok)
        net = Network(flow, IngestModel(interval))
        for action in actions:
            if action != "time" or flow.due > net.now:
                net.step(action if action != "time" else "up")
        net.settle()
        self.assertTrue(flow.has_room)
        if store or not flow.sent:
            net.up.append((flow.next_commit(), False))
            flow.committed("s", net.now)
        else:
            net.up.append((flow.next_end(), False))
            flow.ended(net.now)
        net.settle()
        self.assertTrue(flow.done)
        self.assertIsNone(flow.error)
        self.assertEqual(net.server.stored, set(range(1, flow.last + 1)))
        self.assertEqual((flow.acked, net.reports), (flow.last, 0))

    def check(self, net: Network, gap_ok: bool, before: int) -> None:
        flow = net.flow
        self.assertTrue(before <= flow.acked <= flow.last)
        if not gap_ok:
            self.assertTrue(net.server.stored >= set(range(1, flow.acked + 1)))
        # Who waits has a timer.
        self.assertEqual(flow.due == inf, flow.done or not flow.sent)
