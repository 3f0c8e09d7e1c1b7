"""Subscriptions of the blocking client."""

from __future__ import annotations

from pynats_twisted import errors
from pynats_twisted.blocking import ServerErrorEvent, SlowConsumer

from .support import BlockingTestCase


class TakingTests(BlockingTestCase):
    """next() and loops."""

    def test_next(self) -> None:
        """next() hands out messages in order, whole, with subject, reply and headers."""
        nc = self.connect()
        sub = nc.subscribe("orders.*")
        nc.publish("orders.tea", b"2 kg", reply="back", headers={"A": "b"})
        nc.publish("orders.milk")
        msg = sub.next(timeout=1.0)
        self.assertEqual((msg.subject, msg.data, msg.reply, msg.headers["A"]), ("orders.tea", b"2 kg", "back", "b"))
        self.assertEqual(sub.next().subject, "orders.milk")
        self.assertEqual((sub.delivered, sub.pending_msgs, sub.pending_bytes, nc.stats.in_msgs), (2, 0, 0, 2))

    def test_nothing_in_time(self) -> None:
        """next() waits for its time and no longer, and names the subject."""
        nc = self.connect()
        sub = nc.subscribe("quiet")
        begun = self.machine.time
        error = self.assertRaises(errors.NextMessageTimeoutError, sub.next, 1.5)
        self.assertIn("'quiet'", str(error))
        self.assertEqual(self.machine.time - begun, 1.5)
        self.assertRaises(errors.ConfigurationError, sub.next, -1)

    def test_timeout_of_zero(self) -> None:
        """next(timeout=0) takes what has come, without a wait; also a message that needs many reads."""
        nc = self.connect()
        sub = nc.subscribe("x").confirmed()
        begun = self.machine.time
        self.assertRaises(errors.NextMessageTimeoutError, sub.next, 0)
        self.server.publish("x", bytes(500_000))
        self.assertEqual(len(sub.next(0).data), 500_000)
        self.assertEqual(self.machine.time, begun)

    def test_a_message_in_pieces(self) -> None:
        """A message that comes in single bytes is one message."""
        nc = self.connect()
        sub = nc.subscribe("x").confirmed()
        self.server.peer.socket.read_size = 1
        self.server.publish("x", b"hello")
        self.server.publish("x", b"world")
        self.assertEqual([sub.next(1).data, sub.next(1).data], [b"hello", b"world"])

    def test_every_call_receives_for_all(self) -> None:
        """Messages for one subscription come in while another one is waited for."""
        nc = self.connect()
        first, second = nc.subscribe("a.>"), nc.subscribe("b").confirmed()
        self.server.publish("a.1.2", b"1")
        self.machine.at(1.0, lambda: self.server.publish("b", b"2"))
        self.assertEqual(second.next(5).data, b"2")
        self.assertEqual((first.pending_msgs, first.next(0).data), (1, b"1"))

    def test_loop_over_max_msgs(self) -> None:
        """A loop ends behind the last message of max_msgs, and the server was told of it."""
        nc = self.connect()
        sub = nc.subscribe("ticks", max_msgs=3)
        for number in range(5):
            nc.publish("ticks", b"%d" % number)
        self.assertEqual([msg.data for msg in sub], [b"0", b"1", b"2"])
        self.assertTrue(sub.closed)
        self.assertEqual(nc.subscriptions, ())
        self.assertRaises(errors.SubscriptionClosedError, sub.next)
        self.assertIn("UNSUB 1 3", self.server.peer.lines)

    def test_loop_ended_from_inside(self) -> None:
        """unsubscribe() in a loop ends it, and drops what waits."""
        nc = self.connect()
        sub = nc.subscribe("ticks").confirmed()
        for number in range(5):
            self.server.publish("ticks", b"%d" % number)
        seen = []
        for msg in sub:
            seen.append(msg.data)
            if len(seen) == 2:
                sub.unsubscribe()
        self.assertEqual(seen, [b"0", b"1"])
        nc.flush()
        self.assertEqual(self.server.peer.subscriptions, {})
        sub.unsubscribe()
        sub.unsubscribe(limit=4)

    def test_unsubscribe_after_a_limit(self) -> None:
        """unsubscribe(limit) counts from the subscription's beginning; a limit that was reached ends it at once."""
        nc = self.connect()
        sub = nc.subscribe("x").confirmed()
        for _ in range(2):
            self.server.publish("x")
        nc.process()
        sub.unsubscribe(limit=3)
        nc.flush()
        self.server.publish("x")
        self.server.publish("x")
        self.assertEqual(len(list(sub)), 3)
        other = nc.subscribe("x").confirmed()
        self.server.publish("x")
        nc.process()
        other.unsubscribe(limit=1)
        self.assertEqual(len(list(other)), 1)
        self.assertRaises(errors.InvalidSubscriptionError, nc.subscribe("y").unsubscribe, 0)

    def test_respond(self) -> None:
        """msg.respond() publishes to the reply subject; without one it says so."""
        nc = self.connect()
        sub = nc.subscribe("q").confirmed()
        self.server.publish("q", b"1", reply="back.1")
        self.server.publish("q", b"2")
        sub.next(1).respond(b"answer", headers={"A": "b"})
        self.assertRaises(errors.MessageNotRepliableError, sub.next(1).respond, b"answer")
        nc.flush()
        self.assertEqual([(each.subject, each.payload) for each in self.server.published], [("back.1", b"answer")])

    def test_queue_group(self) -> None:
        """The queue group is told to the server, and kept."""
        nc = self.connect()
        sub = nc.subscribe("jobs", queue="workers")
        nc.flush()
        self.assertEqual((sub.queue, self.server.peer.subscriptions[sub.sid]), ("workers", ("jobs", "workers")))
        self.assertEqual(repr(sub), "<BlockingSubscription 1 'jobs' queue='workers' open, 0 waiting>")

    def test_invalid_values(self) -> None:
        """What is not valid is refused, and nothing is subscribed."""
        nc = self.connect()
        self.assertRaises(errors.InvalidSubjectError, nc.subscribe, "a b")
        self.assertRaises(errors.InvalidQueueError, nc.subscribe, "a", queue="b c")
        self.assertRaises(errors.ConfigurationError, nc.subscribe, "a", pending_msgs=-1)
        self.assertRaises(errors.InvalidSubscriptionError, nc.subscribe, "a", max_msgs=0)
        nc.flush()
        self.assertEqual((nc.subscriptions, self.server.peer.subscriptions), ((), {}))


class BoundTests(BlockingTestCase):
    """What waits in a subscription is bounded."""

    def test_messages(self) -> None:
        """Beyond pending_msgs the newest are dropped and counted; the event comes once an episode."""
        nc = self.connect()
        sub = nc.subscribe("x", pending_msgs=4).confirmed()
        for episode in range(2):
            for number in range(10):
                self.server.publish("x", b"%d" % number)
            nc.process()
            self.assertEqual([sub.next(0).data for _ in range(4)], [b"0", b"1", b"2", b"3"])
            self.assertEqual((sub.dropped, nc.stats.dropped_msgs), (6 * (episode + 1), 6 * (episode + 1)))
        self.assertEqual(self.seen(SlowConsumer), [SlowConsumer(sub, 1), SlowConsumer(sub, 7)])
        self.assertRaises(errors.NextMessageTimeoutError, sub.next, 0)

    def test_bytes(self) -> None:
        """pending_bytes bounds subject, headers and payload together; a smaller message still fits."""
        nc = self.connect()
        sub = nc.subscribe("x", pending_bytes=100).confirmed()
        for size in (60, 60, 10):
            self.server.publish("x", bytes(size))
        nc.process()
        self.assertEqual([len(sub.next(0).data), len(sub.next(0).data), sub.dropped, sub.pending_bytes], [60, 10, 1, 0])

    def test_no_bound(self) -> None:
        """0 is no bound."""
        nc = self.connect(pending_msgs=1)
        sub = nc.subscribe("x", pending_msgs=0, pending_bytes=0).confirmed()
        for _ in range(1000):
            self.server.publish("x")
        nc.process()
        self.assertEqual((sub.pending_msgs, sub.dropped), (1000, 0))

    def test_option(self) -> None:
        """The client's options are the default."""
        nc = self.connect(pending_msgs=1)
        sub = nc.subscribe("x").confirmed()
        for _ in range(3):
            self.server.publish("x")
        nc.process()
        self.assertEqual((sub.pending_msgs, sub.dropped), (1, 2))

    def test_a_queue_that_is_worked_off_keeps_the_connection_alive(self) -> None:
        """Taking messages that wait answers PINGs all the same."""
        nc = self.connect()
        sub = nc.subscribe("x").confirmed()
        for _ in range(3):
            self.server.publish("x")
        sub.next()
        self.server.peer.send(b"PING\r\n")
        self.machine.time += 60.0
        sub.next()
        self.machine.pump()
        self.assertIn("PONG", self.server.peer.lines)


class DeniedTests(BlockingTestCase):
    """What a server does not allow."""

    def test_confirmed(self) -> None:
        """confirmed() returns the subscription when the server has it, and raises when it was denied."""
        nc = self.connect()
        self.server.denied.add("secret")
        sub = nc.subscribe("open")
        self.assertIs(sub.confirmed(), sub)
        denied = nc.subscribe("secret")
        error = self.assertRaises(errors.PermissionsViolationError, denied.confirmed)
        self.assertEqual((error.subject, denied.closed, denied.error), ("secret", True, error))
        self.assertEqual(nc.subscriptions, (sub,))
        self.assertEqual(self.seen(ServerErrorEvent), [ServerErrorEvent(error)])

    def test_next_and_loop(self) -> None:
        """next() raises what ended the subscription, a loop raises it once and then just ends."""
        nc = self.connect()
        self.server.denied.add("secret")
        sub = nc.subscribe("secret")
        self.assertRaises(errors.PermissionsViolationError, sub.next, 1.0)
        self.assertRaises(errors.PermissionsViolationError, sub.next, 1.0)
        self.assertRaises(errors.PermissionsViolationError, next, sub)
        self.assertEqual(list(sub), [])

    def test_what_the_server_names_nobody_for(self) -> None:
        """An error without a subject ends the subscription whose confirmation is waited for."""
        nc = self.connect()
        self.server.on_line = lambda peer, line: peer.send(b"-ERR 'maximum subscriptions exceeded'\r\n") if line == "SUB b 2" else None
        first = nc.subscribe("a").confirmed()
        self.assertRaises(errors.MaxSubscriptionsExceededError, nc.subscribe("b").confirmed)
        self.assertFalse(first.closed)

    def test_denied_publish(self) -> None:
        """A denied publish comes as an event and is logged; the connection goes on."""
        nc = self.connect()
        self.server.denied.add("secret")
        with self.assertLogs("pynats_twisted.blocking", "WARNING") as logged:
            nc.publish("secret")
            nc.flush()
        self.assertIn("secret", logged.output[0])
        self.assertEqual(self.seen(ServerErrorEvent)[0].error.subject, "secret")
        self.assertEqual((nc.stats.server_errors, nc.is_connected), (1, True))

    def test_not_confirmed_in_time(self) -> None:
        """Without an answer confirmed() ends after its time, and the subscription goes on."""
        nc = self.connect()
        self.server.silent.add("PING")
        sub = nc.subscribe("x")
        self.assertRaises(errors.FlushTimeoutError, sub.confirmed, 2.0)
        self.assertFalse(sub.closed)


class DrainTests(BlockingTestCase):
    """drain() of one subscription."""

    def test_drain(self) -> None:
        """drain() returns when the server has sent everything that was under way; then the loop ends behind it."""
        nc = self.connect()
        sub, other = nc.subscribe("x"), nc.subscribe("y").confirmed()
        self.server.publish("x", b"1")
        self.server.on_line = lambda peer, line: peer.send(b"MSG x 1 1\r\n2\r\n") if line.startswith("UNSUB") else None
        sub.drain()
        self.assertEqual((sub.pending_msgs, sub.closed, nc.subscriptions), (2, False, (other,)))
        self.assertEqual([msg.data for msg in sub], [b"1", b"2"])
        sub.drain()

    def test_too_late(self) -> None:
        """Where the server does not answer, the subscription has ended all the same."""
        nc = self.connect()
        sub = nc.subscribe("x")
        self.server.silent.add("PING")
        self.assertRaises(errors.DrainTimeoutError, sub.drain, 2.0)
        self.assertRaises(errors.SubscriptionClosedError, sub.next)

    def test_lost(self) -> None:
        """Where the connection is lost meanwhile it says so, and the next server is not told of the subscription."""
        nc = self.connect()
        sub = nc.subscribe("x")
        self.server.silent.add("PING")
        self.machine.at(1.0, lambda: (self.server.peer.close(), self.server.silent.clear()))
        self.assertRaises(errors.DisconnectedError, sub.drain)
        nc.flush()
        self.assertEqual(self.server.peer.subscriptions, {})

    def test_disconnected(self) -> None:
        """Without a connection there is nothing under way."""
        nc = self.connect()
        sub = nc.subscribe("x")
        self.server.stop()
        nc.process()
        sub.drain()
        self.assertTrue(sub.closed)
