"""Subscriptions as the protocol core keeps them, over one connection and several."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.protocol import ConnectionProtocol, Msg

from .connections import S, connected, info, received, reconnect, selected, types
from .wire import hmsg, msg


class SubscriptionTests(SynchronousTestCase):
    """Subscriptions and their limits, over the life of one connection and of several."""

    def test_messages_have_their_owner(self) -> None:
        """A message carries what ``subscribe`` was told about its subscription."""
        proto = connected()
        owner = object()
        self.assertEqual(proto.subscribe("a.*", "q", 7, owner), b"SUB a.* q 7\r\n")
        (message,) = received(proto, hmsg(b"a.b", 7, b"NATS/1.0\r\nA: 1\r\n\r\n", b"hi", b"r"))
        assert isinstance(message, Msg)
        self.assertIs(message.subscription, owner)
        self.assertEqual(
            (message.subject, message.sid, message.reply, message.data, dict(message.headers)), ("a.b", 7, "r", b"hi", {"A": "1"})
        )

    def test_unknown_sid(self) -> None:
        """A message for no subscription is dropped and counted; its neighbours are not."""
        proto = connected()
        proto.subscribe("a", sid=1)
        events = received(proto, msg(b"a", 1, b"1") + msg(b"a", 2, b"2") + msg(b"a", 99, b"3", b"r") + msg(b"a", 1, b"4"))
        self.assertEqual(([event.body.data for event in events], proto.unknown_sid_msgs), ([b"1", b"4"], 2))

    def test_new_sids(self) -> None:
        """A sid that was used is never proposed again, also after its subscription ended, and after a reconnect."""
        proto = connected()
        self.assertEqual(proto.new_sid(), 1)
        proto.subscribe("a", sid=proto.new_sid())
        proto.subscribe("b", sid=40)
        proto.unsubscribe(40)
        self.assertEqual(proto.new_sid(), 41)
        self.assertEqual(reconnect(proto).new_sid(), 41)

    def test_unsubscribe(self) -> None:
        """After ``unsubscribe`` nothing is delivered, and a second one is an error."""
        proto = connected()
        proto.subscribe("a", sid=1)
        self.assertEqual(proto.unsubscribe(1), b"UNSUB 1\r\n")
        self.assertEqual((received(proto, msg(b"a", 1)), proto.unknown_sid_msgs), ([], 1))
        self.assertRaises(errors.InvalidSubscriptionError, proto.unsubscribe, 1)

    def test_unsubscribe_by_subject(self) -> None:
        """A subject in the place of a sid ends all its subscriptions and no others."""
        proto = connected()
        for sid, subject in enumerate(["a", "b", "a", "a.b", "a"], 1):
            proto.subscribe(subject, "q" if sid == 3 else "", sid)
        self.assertEqual(proto.unsubscribe("a"), b"UNSUB 1\r\nUNSUB 3\r\nUNSUB 5\r\n")
        self.assertEqual(proto.resubscribe(), b"SUB b 2\r\nSUB a.b 4\r\n")
        self.assertEqual(proto.unsubscribe("b", 5), b"UNSUB 2 5\r\n")
        self.assertRaises(errors.InvalidSubscriptionError, proto.unsubscribe, "a")
        self.assertRaises(errors.InvalidSubscriptionError, proto.unsubscribe, "*")

    def test_limit(self) -> None:
        """With a limit exactly so many messages come, then UNSUBSCRIBED, and the rest is dropped."""
        proto = connected()
        proto.subscribe("a", sid=1, owner="me")
        self.assertEqual(proto.unsubscribe(1, 3), b"UNSUB 1 3\r\n")
        events = received(proto, msg(b"a", 1) * 5)
        self.assertEqual(types(events), ["MSG", "MSG", "MSG", "UNSUBSCRIBED"])
        record = events[3].body
        self.assertEqual((record.sid, record.subject, record.owner, record.delivered), (1, "a", "me", 3))
        self.assertEqual(proto.unknown_sid_msgs, 2)
        self.assertEqual(proto.resubscribe(), b"")

    def test_limit_after_some(self) -> None:
        """A limit counts from the beginning of the subscription, also when it is set later."""
        proto = connected()
        proto.subscribe("a", sid=1)
        received(proto, msg(b"a", 1) * 2)
        self.assertEqual(proto.unsubscribe(1, 3), b"UNSUB 1 3\r\n")
        self.assertEqual(types(received(proto, msg(b"a", 1) * 2)), ["MSG", "UNSUBSCRIBED"])

    def test_limit_that_was_reached(self) -> None:
        """A limit that was reached or passed ends the subscription at once, without a number for the server."""
        for limit in (1, 2):
            proto = connected()
            proto.subscribe("a", sid=1)
            received(proto, msg(b"a", 1) * 2)
            self.assertEqual(proto.unsubscribe(1, limit), b"UNSUB 1\r\n")
            self.assertEqual(received(proto, msg(b"a", 1)), [])
            self.assertEqual(proto.resubscribe(), b"")

    def test_limit_can_be_changed(self) -> None:
        """A later limit replaces an earlier one."""
        proto = connected()
        proto.subscribe("a", sid=1)
        proto.unsubscribe(1, 2)
        self.assertEqual(proto.unsubscribe(1, 4), b"UNSUB 1 4\r\n")
        self.assertEqual(types(received(proto, msg(b"a", 1) * 9)), ["MSG"] * 4 + ["UNSUBSCRIBED"])

    def test_resubscribe(self) -> None:
        """After a reconnect all subscriptions can be given again with their sids, and messages find their owners."""
        proto = connected()
        proto.subscribe("a", sid=1, owner="A")
        proto.subscribe("b.>", "q", 2, owner="B")
        proto.subscribe("c", sid=3)
        proto.unsubscribe(3)
        proto.receive_eof_from_transport()
        proto.select_server()
        proto.events_received()
        received(proto, info())
        proto.connect(), proto.ping()
        self.assertEqual(proto.resubscribe(), b"SUB a 1\r\nSUB b.> q 2\r\n")
        received(proto, b"PONG\r\n")
        events = received(proto, msg(b"a", 1) + msg(b"b.c", 2))
        self.assertEqual([event.body.subscription for event in events], ["A", "B"])

    def test_limit_over_reconnects(self) -> None:
        """Of 20 messages 10 came before the reconnect and 4 before the next: the servers are told 10 and 6, and 20 come in all."""
        proto = connected()
        proto.subscribe("a", sid=1)
        proto.unsubscribe(1, 20)
        received(proto, msg(b"a", 1) * 10)
        self.assertEqual(reconnect(proto).resubscribe(), b"SUB a 1\r\nUNSUB 1 10\r\n")
        received(proto, msg(b"a", 1) * 4)
        self.assertEqual(reconnect(proto).resubscribe(), b"SUB a 1\r\nUNSUB 1 6\r\n")
        self.assertEqual(types(received(proto, msg(b"a", 1) * 9)), ["MSG"] * 6 + ["UNSUBSCRIBED"])
        self.assertEqual(reconnect(proto).resubscribe(), b"")

    def test_limit_set_after_a_reconnect(self) -> None:
        """A limit that is set after a reconnect counts from the beginning of the subscription; the new server is told the rest."""
        proto = connected()
        proto.subscribe("a", sid=1)
        received(proto, msg(b"a", 1) * 3)
        reconnect(proto).resubscribe()
        received(proto, msg(b"a", 1) * 2)
        self.assertEqual(proto.unsubscribe(1, 9), b"UNSUB 1 6\r\n")
        self.assertEqual(types(received(proto, msg(b"a", 1) * 9)), ["MSG"] * 4 + ["UNSUBSCRIBED"])

    def test_resubscribe_while_messages_come(self) -> None:
        """Messages that came in pieces around the cut do not mix: the rest of a cut message is never taken for a new one."""
        proto = connected()
        proto.subscribe("a", sid=1)
        self.assertEqual(received(proto, b"MSG a 1 10\r\n01234"), [])
        reconnect(proto).resubscribe()
        (message,) = received(proto, msg(b"a", 1, b"whole"))
        self.assertEqual(message.body.data, b"whole")

    def test_inbound_may_exceed_max_payload(self) -> None:
        """A message may be larger than what may be published: servers of a cluster can have different limits."""
        proto = reconnect(connected(), max_payload=10)
        proto.subscribe("a", sid=1)
        (message,) = received(proto, msg(b"a", 1, b"x" * 5000))
        self.assertEqual(len(message.body.data), 5000)

    def test_message_order_with_other_events(self) -> None:
        """Events come in the order in which the server sent what caused them."""
        proto = connected()
        proto.subscribe("a", sid=1)
        proto.ping()
        events = received(proto, msg(b"a", 1) + b"PONG\r\n" + msg(b"a", 1) + info() + b"-ERR 'x'\r\n" + msg(b"a", 1))
        self.assertEqual(types(events), ["MSG", "PONG", "MSG", "INFO", "ERROR", "MSG"])


class HeldTests(SynchronousTestCase):
    """Messages that are held back or recorded, while a client moves from one server to another."""

    def test_held_messages(self) -> None:
        """While messages are held they are neither counted nor events; everything else is handled; later they are delivered in order."""
        proto = connected()
        proto.subscribe("a", sid=1, owner="me")
        proto.unsubscribe(1, 3)
        proto.held = held = []
        self.assertEqual(types(received(proto, msg(b"a", 1, b"1") + b"PING\r\n" + info() + msg(b"a", 1, b"2"))), ["INFO"])
        self.assertEqual(types(received(proto, msg(b"a", 1, b"3") + msg(b"b", 2, b"x"))), [])
        self.assertEqual((proto.data_to_send(), proto.subscriptions.records[1].delivered), (b"PONG\r\n", 0))
        self.assertEqual([message.data for message in held], [b"1", b"2", b"3", b"x"])
        proto.deliver(held)
        events = proto.events_received()
        self.assertEqual(types(events), ["MSG", "MSG", "MSG", "UNSUBSCRIBED"])
        self.assertEqual([event.body.data for event in events[:3]], [b"1", b"2", b"3"])
        self.assertEqual((events[0].body.subscription, proto.held, proto.unknown_sid_msgs), ("me", None, 1))

    def test_recorded_messages(self) -> None:
        """What is recorded is delivered all the same."""
        proto = connected()
        proto.subscribe("a", sid=1)
        proto.recorded = recorded = []
        events = received(proto, msg(b"a", 1, b"1") + info() + msg(b"a", 1, b"2"))
        self.assertEqual(types(events), ["MSG", "INFO", "MSG"])
        self.assertEqual(recorded, [events[0], events[2]])

    def test_a_message_before_info_is_not_held(self) -> None:
        """Holding messages does not make a message before INFO legal."""
        proto = selected()
        proto.held = []
        self.assertEqual(types(received(proto, msg(b"a", 1, b"1") + info())), ["ERROR", "CLOSED"])
        self.assertEqual(proto.held, [])

    def test_siblings(self) -> None:
        """Two connections of a client share subscriptions, their limits, and the pool, and nothing of their lines."""
        first = connected()
        first.subscribe("a", sid=1)
        first.unsubscribe(1, 3)
        received(first, msg(b"a", 1))
        second = ConnectionProtocol(sibling=first)
        second.select_server()
        self.assertEqual(
            (second.current_server.host if second.current_server else None, first.current_server.host if first.current_server else None),
            ("two", "one"),
        )
        received(second, info(max_payload=5))
        second.connect(), second.ping()
        self.assertEqual(second.resubscribe(), b"SUB a 1\r\nUNSUB 1 2\r\n")
        self.assertEqual((first.state, second.state), (S.CONNECTED, S.WAITING_FOR_SERVER_PONG))
        self.assertEqual((first.max_payload, second.max_payload, first.outstanding_pings, second.outstanding_pings), (1_048_576, 5, 0, 1))
        self.assertEqual(types(received(second, b"PONG\r\n" + msg(b"a", 1) * 3)), ["CONNECTED", "PONG", "MSG", "MSG", "UNSUBSCRIBED"])
        self.assertEqual((received(first, msg(b"a", 1)), first.unknown_sid_msgs), ([], 1))
