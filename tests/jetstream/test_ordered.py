"""The ordered consumer in virtual time: what it asks of the server, when, and that it leaves nothing behind."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.message import JsMsg
from pynats_twisted.jetstream.ordered import OrderedConsumer
from pynats_twisted.testing.server_frames import PublishFrame
from tests.jetstream.scripted import KIND, ScriptedTestCase

SECOND = 1_000_000_000


class OrderedTestCase(ScriptedTestCase):
    """Requests are looked up by what they are for."""

    def setUp(self) -> None:
        super().setUp()
        self.frames: list[PublishFrame] = []
        self.stream_seq = 0

    def find(self, what: str) -> list[PublishFrame]:
        """The requests to subjects with this in it, since the last call for it."""
        self.network.advance()
        self.frames += self.server.peer.take(PublishFrame)
        found = [frame for frame in self.frames if what in frame.subject]
        self.frames = [frame for frame in self.frames if frame not in found]
        return found

    def one(self, what: str) -> PublishFrame:
        (frame,) = self.find(what)
        return frame

    def reply(self, frame: PublishFrame, kind: str, **fields: Any) -> None:
        self.server.peer.answer(frame, json.dumps({"type": f"{KIND}{kind}_response", **fields}).encode())

    def refuse_with(self, frame: PublishFrame, code: int, err_code: int) -> None:
        self.server.peer.answer(frame, json.dumps({"error": {"code": code, "err_code": err_code, "description": "no"}}).encode())

    def create(self, floor: int = 0, pending: int = 0) -> tuple[str, dict[str, Any]]:
        """Answer the request to make a consumer, and return its name and its configuration."""
        frame = self.one("CONSUMER.CREATE")
        config: dict[str, Any] = json.loads(frame.payload)["config"]
        name = config["name"]
        delivered = {"consumer_seq": 0, "stream_seq": floor}
        self.reply(frame, "consumer_create", stream_name="S", name=name, config=config, delivered=delivered, num_pending=pending)
        return name, config

    def deliver(self, pull: PublishFrame, name: str, consumer_seq: int, stream_seq: int, pending: int = 0, form: str = "") -> None:
        """Send a message: to the client's only subscription."""
        reply = f"$JS.ACK.{form}S.{name}.1.{stream_seq}.{consumer_seq}.1700000000000000000.{pending}{'.tail' if form else ''}"
        (sid,) = (sid for sid, sub in self.server.peer.session.subscriptions.items() if pull.reply.startswith(sub.subject[:-1]))
        data = b"%d" % stream_seq
        self.server.peer.send(b"MSG s %b %b %d\r\n%b\r\n" % (str(sid).encode(), reply.encode(), len(data), data))

    def begin(self, **options: Any) -> tuple[OrderedConsumer, str, PublishFrame]:
        """An ordered consumer with its first consumer, and its first pull."""
        ordered = OrderedConsumer.make(self.js, "S", **options)
        begun = ordered.ready()
        name, _ = self.create()
        self.assertIs(self.successResultOf(begun), ordered)
        return ordered, name, self.one("MSG.NEXT")

    def reconnect(self) -> None:
        """The connection is lost, and there is another."""
        self.server.peer.hang_up()
        self.network.advance()
        self.reconnected()

    def reconnected(self) -> None:
        for _ in range(100):
            if self.client.is_connected:
                return
            self.network.advance(0.1)
        self.fail("the client did not reconnect")

    def end(self, ordered: OrderedConsumer) -> None:
        """Stop it, and answer what has to be."""
        stopped = self.watch(ordered.stop())
        for frame in self.find("CONSUMER.DELETE"):
            self.reply(frame, "consumer_delete", success=True)
        self.network.advance()
        self.successResultOf(stopped)


class AskingTests(OrderedTestCase):
    """What the server is asked for."""

    def test_consumers_and_pulls(self) -> None:
        """ADR-37: without acks, in memory, one replica, a name of its own and a number; pulls of 500 with heartbeats."""
        ordered = OrderedConsumer.make(self.js, "S", filter_subjects="s.*")
        self.assertEqual(self.find(""), [])
        taken = self.watch(ordered.next())
        name, config = self.create()
        self.assertRegex(name, r"^\w{22}_1$")
        expected = {
            "name": name,
            "ack_policy": "none",
            "deliver_policy": "all",
            "filter_subject": "s.*",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 300 * SECOND,
        }
        self.assertEqual({key: config.get(key) for key in expected}, expected)
        pull = self.one("MSG.NEXT")
        self.assertEqual(pull.subject, f"$JS.API.CONSUMER.MSG.NEXT.S.{name}")
        asked = json.loads(pull.payload)
        self.assertEqual((asked["batch"], asked["expires"], asked["idle_heartbeat"]), (500, 30 * SECOND, 5 * SECOND))
        self.deliver(pull, name, 1, 1)
        self.network.advance()
        self.assertEqual(self.successResultOf(taken).data, b"1")
        self.end(ordered)

    def test_more_is_asked_for_at_half(self) -> None:
        """Never more than ``max_messages`` are asked for and wait, and the next pull goes out when half of them were taken."""
        ordered, name, pull = self.begin(max_messages=10)
        self.assertEqual(json.loads(pull.payload)["batch"], 10)
        for seq in range(1, 11):
            self.deliver(pull, name, seq, seq, 100)
        self.assertEqual(self.find("MSG.NEXT"), [])
        self.assertEqual(ordered.num_pending, 110)
        self.assertEqual(len(self.successResultOf(ordered.fetch(4))), 4)
        self.assertEqual(self.find("MSG.NEXT"), [])
        self.successResultOf(ordered.next())
        self.assertEqual(json.loads(self.one("MSG.NEXT").payload)["batch"], 5)
        self.end(ordered)

    def test_what_is_given_back_counts(self) -> None:
        """Messages that a cancelled call had taken wait again, and no others are asked for in their place."""
        ordered, name, pull = self.begin(max_messages=10)
        for seq in range(1, 11):
            self.deliver(pull, name, seq, seq, 100)
        fetching = ordered.fetch(20)
        self.assertEqual(sum(json.loads(pull.payload)["batch"] for pull in self.find("MSG.NEXT")), 10)
        fetching.cancel()
        self.failureResultOf(fetching, CancelledError)
        self.assertEqual([int(msg.data) for msg in self.successResultOf(ordered.fetch(9))], list(range(1, 10)))
        self.assertEqual(self.find("MSG.NEXT"), [])
        self.end(ordered)

    def test_the_end_of_what_is_stored(self) -> None:
        """The last message says that it is: nobody has to ask. An empty stream says so when the consumer is made."""
        ordered = OrderedConsumer.make(self.js, "S")
        reading = self.watch(ordered.fetch(10, no_wait=True))
        name, _ = self.create(pending=2)
        pull = self.one("MSG.NEXT")
        self.deliver(pull, name, 1, 1, 1)
        self.deliver(pull, name, 2, 2, 0)
        self.network.advance()
        self.assertEqual(len(self.successResultOf(reading)), 2)
        self.assertEqual(self.find("CONSUMER"), [])
        self.end(ordered)
        reading = self.watch(ordered.fetch(10, no_wait=True))
        self.create(floor=2)
        self.assertEqual(self.successResultOf(reading), [])
        self.end(ordered)

    def test_both_forms_of_ack_subjects(self) -> None:
        """The longer form has a domain, a hash of the account, and perhaps more at its end."""
        ordered, name, pull = self.begin()
        self.deliver(pull, name, 1, 1)
        self.deliver(pull, name, 2, 2, form="_.hash.")
        self.deliver(pull, name, 3, 3, form="hub.hash.")
        self.assertEqual([msg.metadata.domain for msg in self.successResultOf(ordered.fetch(3))], ["", "", "hub"])
        self.end(ordered)

    def test_where_it_begins(self) -> None:
        """A sequence or a time say so by themselves; the last of each subject needs a filter."""
        when = datetime(2026, 1, 2, tzinfo=timezone.utc)
        cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"start_seq": 7}, {"deliver_policy": "by_start_sequence", "opt_start_seq": 7}),
            ({"start_time": when}, {"deliver_policy": "by_start_time", "opt_start_time": "2026-01-02T00:00:00Z"}),
            ({"deliver_policy": "last_per_subject"}, {"deliver_policy": "last_per_subject", "filter_subject": ">"}),
            ({"filter_subjects": ["a", "b"]}, {"filter_subjects": ["a", "b"], "filter_subject": None}),
        ]
        for options, expected in cases:
            ordered = OrderedConsumer.make(self.js, "S", **options)
            begun = self.watch(ordered.ready())
            _, config = self.create()
            self.network.advance()
            self.successResultOf(begun)
            self.assertEqual({key: config.get(key) for key in expected}, expected)
            self.end(ordered)

    def test_wrong_values(self) -> None:
        """They are refused before anything is asked; the error names the field."""
        wrong: list[tuple[str, dict[str, Any]]] = [
            ("opt_start_seq", {"start_seq": 3, "deliver_policy": "last"}),
            ("filter_subjects", {"filter_subjects": ["a b", "c"]}),
            ("heartbeat", {"heartbeat": 0.01}),
            ("heartbeat", {"heartbeat": "5"}),
            ("inactive_threshold", {"inactive_threshold": 2.0}),
            ("max_messages", {"max_messages": 0}),
            ("max_bytes", {"max_bytes": True}),
        ]
        for field, options in wrong:
            error = self.assertRaises(errors.JetStreamConfigError, OrderedConsumer.make, self.js, "S", **options)
            self.assertEqual(error.field, field)
        self.assertRaises(errors.InvalidNameError, OrderedConsumer.make, self.js, "a.b")
        ordered = OrderedConsumer.make(self.js, "S")
        self.failureResultOf(ordered.fetch(0), errors.InvalidArgumentError)
        self.failureResultOf(ordered.next(timeout=-1), errors.ConfigurationError)
        self.assertRaises(errors.InvalidArgumentError, ordered.consume, "no handler")
        self.assertEqual(self.find(""), [])


class HealingTests(OrderedTestCase):
    """What is done when something is lost."""

    def replaced(self, ordered: OrderedConsumer, start: int) -> tuple[str, PublishFrame]:
        """The consumer that was deleted is succeeded by one that begins there."""
        deleted = self.one("CONSUMER.DELETE")
        self.reply(deleted, "consumer_delete", success=True)
        name, config = self.create(floor=start - 1)
        self.assertEqual((config["deliver_policy"], config["opt_start_seq"]), ("by_start_sequence", start))
        self.find("STREAM.INFO")
        return name, self.one("MSG.NEXT")

    def test_two_missing_heartbeats(self) -> None:
        """After ten seconds without a word the consumer is deleted, and another goes on."""
        ordered, name, pull = self.begin()
        self.deliver(pull, name, 1, 4)
        for _ in range(9):
            self.network.advance(1)
        self.assertEqual(self.find("CONSUMER"), [])
        self.network.advance(1.3)
        _, again = self.replaced(ordered, 5)
        self.assertNotEqual(again.reply.rpartition(".")[0], pull.reply.rpartition(".")[0])
        self.assertEqual((ordered.resets, "heartbeat" in ordered.last_reset), (1, True))
        self.end(ordered)

    def test_heartbeats_keep_it(self) -> None:
        """As long as they come, nothing is done."""
        ordered, _, pull = self.begin()
        for _ in range(5):
            self.server.peer.publish(pull.reply, block=b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 0\r\n\r\n")
            for _ in range(5):
                self.network.advance(1)
        self.assertEqual(self.find("CONSUMER"), [])
        self.end(ordered)

    def test_lost_messages_and_a_lost_consumer(self) -> None:
        """A gap, a heartbeat that tells of one, and the statuses of a consumer that is gone."""
        ordered, name, pull = self.begin()
        self.deliver(pull, name, 1, 1)
        self.deliver(pull, name, 3, 3)
        name, pull = self.replaced(ordered, 2)
        self.deliver(pull, name, 1, 2)
        self.server.peer.publish(pull.reply, block=b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 2\r\n\r\n")
        name, pull = self.replaced(ordered, 3)
        start = 3
        for status in ("409 Consumer Deleted", "409 Leadership Change", "409 Server Shutdown", "503", "500 What"):
            self.deliver(pull, name, 1, start)
            start += 1
            self.server.peer.publish(pull.reply, block=f"NATS/1.0 {status}\r\n\r\n".encode())
            name, pull = self.replaced(ordered, start)
        self.assertEqual([int(msg.data) for msg in self.successResultOf(ordered.fetch(7))], [1, 2, 3, 4, 5, 6, 7])
        self.assertEqual(ordered.resets, 7)
        self.end(ordered)

    def test_a_pull_that_has_ended_is_followed_by_another(self) -> None:
        """Its time is over: the same consumer is asked again."""
        ordered, name, pull = self.begin()
        self.server.peer.publish(pull.reply, block=b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 500\r\n\r\n")
        self.assertIn(name, self.one("MSG.NEXT").subject)
        self.end(ordered)

    def test_a_refused_pull_ends_it(self) -> None:
        """What no other consumer would change is raised."""
        ordered, _, pull = self.begin()
        waiting = ordered.next()
        self.server.peer.publish(pull.reply, block=b"NATS/1.0 400 Bad Request\r\n\r\n")
        self.failureResultOf(waiting, errors.PullRefusedError)
        self.failureResultOf(ordered.ready(), errors.PullRefusedError)
        self.end(ordered)

    def test_a_damaged_ack_subject(self) -> None:
        """A message that does not say where it belongs is not handed out; another consumer delivers it again."""
        ordered, _, pull = self.begin()
        (sid,) = (sid for sid, sub in self.server.peer.session.subscriptions.items() if pull.reply.startswith(sub.subject[:-1]))
        self.server.peer.send(b"MSG s %b $JS.ACK.S.C.1.x.1.1.0 1\r\nx\r\n" % str(sid).encode())
        self.assertIn("$JS.ACK.S.C.1.x", ordered.last_reset)
        self.end(ordered)

    def test_the_connection_is_lost_while_a_consumer_is_made(self) -> None:
        """The next connection makes another one, at once, and deletes the one that may have been made."""
        ordered = OrderedConsumer.make(self.js, "S")
        waiting = self.watch(ordered.next())
        first = json.loads(self.one("CONSUMER.CREATE").payload)["config"]["name"]
        self.reconnect()
        second, _ = self.create()
        deleted = self.one("CONSUMER.DELETE")
        self.assertTrue(deleted.subject.endswith(first))
        self.reply(deleted, "consumer_delete", success=True)
        self.deliver(self.one("MSG.NEXT"), second, 1, 1)
        self.network.advance()
        self.assertEqual(self.successResultOf(waiting).data, b"1")
        self.end(ordered)

    def test_the_connection_is_lost_while_it_reads(self) -> None:
        """The consumer of the old connection is deleted over the new one, and what was taken does not come again."""
        ordered, name, pull = self.begin()
        self.deliver(pull, name, 1, 1)
        self.reconnect()
        name, pull = self.replaced(ordered, 2)
        self.deliver(pull, name, 1, 2)
        self.assertEqual(len(self.successResultOf(ordered.fetch(2))), 2)
        self.end(ordered)

    def test_waits_between_attempts(self) -> None:
        """A server that is not ready is asked again after a wait, and stopping ends that."""
        ordered = OrderedConsumer.make(self.js, "S")
        waiting = ordered.next()
        self.refuse_with(self.one("CONSUMER.CREATE"), 503, 10008)
        self.assertEqual(self.find("CONSUMER.CREATE"), [])
        self.network.advance(1)
        self.refuse_with(self.one("CONSUMER.CREATE"), 503, 10008)
        self.end(ordered)
        self.failureResultOf(waiting, errors.SubscriptionClosedError)
        self.network.advance(30)
        self.assertEqual(self.find("CONSUMER.CREATE"), [])

    def test_a_request_that_is_not_answered_is_made_again_soon(self) -> None:
        """A consumer that takes another's place is asked for anew after two seconds and a wait, under another name."""
        ordered, name, pull = self.begin()
        self.deliver(pull, name, 1, 1)
        self.server.peer.publish(pull.reply, block=b"NATS/1.0 503\r\n\r\n")
        self.reply(self.one("CONSUMER.DELETE"), "consumer_delete", success=True)
        first = self.one("CONSUMER.CREATE")
        self.network.advance(2)
        deleted = self.one("CONSUMER.DELETE")
        self.assertEqual(deleted.subject.rpartition(".")[2], first.subject.rpartition(".")[2])
        self.reply(deleted, "consumer_delete", success=True)
        self.network.advance(1)
        name, config = self.create(floor=1)
        self.assertEqual((name[-2:], config["opt_start_seq"]), ("_3", 2))
        self.find("STREAM.INFO")
        self.end(ordered)


class EndTests(OrderedTestCase):
    """Stopping, closing and cancelling."""

    def test_deleting_is_tried_again(self) -> None:
        """A server that does not answer, or is not ready, delays a stop for a few seconds; it is asked six times in all."""
        ordered, _, _ = self.begin()
        stopped = self.watch(ordered.stop())
        self.refuse_with(self.one("CONSUMER.DELETE"), 503, 10008)
        count = 1
        for _ in range(51):
            self.network.advance(0.1)
            count += len(self.find("CONSUMER.DELETE"))
        self.successResultOf(stopped)
        self.assertEqual(count, 3)
        for _ in range(60):
            self.network.advance(1)
            count += len(self.find("CONSUMER.DELETE"))
        self.assertEqual(count, 6)

    def test_closing_ends_what_is_under_way(self) -> None:
        """A deletion that would be tried again leaves no timer behind when the client is closed."""
        ordered, _, _ = self.begin()
        stopped = self.watch(ordered.stop())
        self.refuse_with(self.one("CONSUMER.DELETE"), 503, 10008)
        self.client.close()
        self.network.advance(1)
        self.successResultOf(stopped)

    def test_a_stop_without_a_connection(self) -> None:
        """It does not wait for one for long; when there is one, the consumer is deleted."""
        ordered, name, _ = self.begin()
        self.network.refuse("one:4222")
        self.server.peer.hang_up()
        self.network.advance()
        stopped = self.watch(ordered.stop())
        for _ in range(60):
            self.network.advance(0.1)
        self.successResultOf(stopped)
        self.network.accept("one:4222")
        self.reconnected()
        deleted = self.one("CONSUMER.DELETE")
        self.assertTrue(deleted.subject.endswith(name))
        self.reply(deleted, "consumer_delete", success=True)

    def test_a_closed_client_ends_it(self) -> None:
        """Whoever waits is told; a loop just ends."""
        ordered, _, _ = self.begin()
        waiting = ordered.next()
        seen: list[JsMsg] = []
        context = ordered.consume(seen.append)
        self.client.close()
        self.network.advance(1)
        self.failureResultOf(waiting, errors.SubscriptionClosedError)
        self.successResultOf(context.done)
        self.failureResultOf(ordered.next(), errors.SubscriptionClosedError)

    def test_one_of_two_loops_stops(self) -> None:
        """The other goes on with the same consumer, which is deleted with the last one."""
        ordered, name, pull = self.begin()
        first, second = ordered.messages(), ordered.messages()
        waiting = self.watch(Deferred.fromCoroutine(first.__anext__()))
        other = self.watch(Deferred.fromCoroutine(second.__anext__()))
        self.successResultOf(first.stop())
        self.failureResultOf(waiting, StopAsyncIteration)
        self.assertEqual(self.find("CONSUMER"), [])
        self.deliver(pull, name, 1, 1)
        self.network.advance()
        self.assertEqual(self.successResultOf(other).data, b"1")
        stopped = self.watch(second.stop())
        self.reply(self.one("CONSUMER.DELETE"), "consumer_delete", success=True)
        self.successResultOf(stopped)
        self.successResultOf(second.stop())

    def test_a_cancelled_wait_takes_nothing(self) -> None:
        """The message goes to whoever waits next."""
        ordered, name, pull = self.begin()
        cancelled, waiting = ordered.next(), self.watch(ordered.next())
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.deliver(pull, name, 1, 1)
        self.network.advance()
        self.assertEqual(self.successResultOf(waiting).data, b"1")
        late = ordered.next(timeout=3)
        self.network.advance(3)
        self.failureResultOf(late, errors.NextMessageTimeoutError)
        self.end(ordered)

    def test_a_silent_end_is_asked_for(self) -> None:
        """Whoever wants only what is stored does not wait for messages that were purged: the server is asked when nothing comes."""
        ordered, name, pull = self.begin()
        reading = self.watch(ordered.fetch(10, no_wait=True))
        info = {"stream_name": "S", "name": name, "config": {}, "num_pending": 5}
        self.reply(self.one("CONSUMER.INFO"), "consumer_info", **info)
        self.deliver(pull, name, 1, 1, 4)
        self.network.advance(0.7)
        self.assertEqual(self.find("CONSUMER.INFO"), [])
        self.network.advance(0.7)
        self.reply(
            self.one("CONSUMER.INFO"), "consumer_info", **{**info, "num_pending": 0, "delivered": {"consumer_seq": 1, "stream_seq": 1}}
        )
        self.network.advance()
        self.assertEqual(len(self.successResultOf(reading)), 1)
        self.end(ordered)


class NoReconnectTests(OrderedTestCase):
    """A client that does not reconnect."""

    options: ClassVar[dict[str, Any]] = {"allow_reconnect": False}

    def test_a_lost_client_ends_it_with_an_error(self) -> None:
        """That the connection is lost for good is an error for a loop, too, and logged where nobody waits."""
        ordered, _, _ = self.begin()
        context, other = ordered.consume(print), ordered.consume(print)
        done = context.done
        self.server.peer.hang_up()
        self.network.advance(1)
        self.failureResultOf(done, errors.NatsError)
        self.failureResultOf(other.done, errors.NatsError)
        self.assertEqual(len([text for text in self.logged() if "Reading stream 'S' has ended" in text]), 1)
