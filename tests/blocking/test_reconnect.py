"""What the blocking client does when its connection is lost."""

from __future__ import annotations

import errno
from typing import Any

from pynats_twisted import errors
from pynats_twisted.blocking import (
    ClientStatus,
    ConnectFailed,
    Disconnected,
    DiscoveredServers,
    LameDuck,
    PublishDropped,
    Reconnected,
    ServerErrorEvent,
)

from .support import BlockingTestCase, FakeServer


class ReconnectTests(BlockingTestCase):
    """Lost connections, and the calls that make new ones."""

    def cut(self) -> None:
        """End the connection of now; the server takes new ones."""
        self.server.peer.close()

    def go_down(self, seconds: float) -> None:
        """Take no connections for a while."""
        self.server.stop()
        self.machine.at(seconds, lambda: setattr(self.server, "mode", "accept"))

    def test_subscriptions_go_on(self) -> None:
        """After a reconnect inside next() the message comes, and what is left of a limit is what the server is told."""
        nc = self.connect()
        sub = nc.subscribe("x", queue="q", max_msgs=3)
        gone = nc.subscribe("gone")
        nc.publish("x", b"1")
        self.assertEqual(sub.next(1).data, b"1")
        self.cut()
        gone.unsubscribe()
        self.machine.at(1.0, lambda: [self.server.publish("x", b"%d" % number) for number in (2, 3, 4)])
        self.assertEqual([msg.data for msg in sub], [b"2", b"3"])
        self.assertEqual(self.server.peer.lines[2:], ["SUB x q 1", "UNSUB 1 2"])
        self.assertEqual(nc.stats.reconnects, 1)
        self.assertEqual(self.seen(), ["Connected", "Disconnected", "Reconnected"])

    def test_published_during_an_outage(self) -> None:
        """What is published without a connection is kept, and goes in order, behind the subscriptions, with the next call that talks."""
        nc = self.connect()
        sub = nc.subscribe("x")
        self.go_down(3.0)
        nc.process()
        for number in range(5):
            nc.publish("x", b"%d" % number)
        self.assertEqual((nc.status, nc.is_connected, nc.connected_url), (ClientStatus.RECONNECTING, False, None))
        self.assertGreater(nc.pending_bytes, 0)
        self.assertEqual([sub.next(10).data for _ in range(5)], [b"%d" % number for number in range(5)])
        self.assertEqual((nc.status, nc.pending_bytes), (ClientStatus.CONNECTED, 0))

    def test_subscribed_during_an_outage(self) -> None:
        """Subscriptions that begin or end without a connection are as they should be on the next one."""
        nc = self.connect()
        old = nc.subscribe("old")
        self.go_down(1.0)
        nc.process()
        new = nc.subscribe("new", max_msgs=5)
        nc.subscribe("never").unsubscribe()
        old.unsubscribe()
        new.confirmed()
        self.assertEqual(self.server.peer.subscriptions, {new.sid: ("new", "")})
        self.assertEqual(self.server.peer.limits, {new.sid: 5})

    def test_a_message_that_was_half_sent(self) -> None:
        """A message that a lost connection took a part of is sent again as a whole; those that it took as a whole are not."""
        self.server.room = 100
        nc = self.connect()
        self.server.reading = False
        nc.publish("a", bytes(40))
        nc.publish("b", bytes(70))
        nc.publish("c", b"c")
        self.server.peer.reset()
        self.server.reading = True
        error = self.assertRaises(errors.DisconnectedError, nc.flush)
        self.assertIn("1 publish was", str(error))
        nc.flush()
        self.assertEqual([each.subject for each in self.server.published], ["b", "c"])
        self.assertEqual([event.unconfirmed for event in self.seen(Disconnected)], [1])

    def test_messages_of_which_one_was_half_sent(self) -> None:
        """The same where they were sent together."""
        self.server.room = 100
        nc = self.connect()
        self.server.reading = False
        with nc.buffered():
            for subject in ("a", "b", "c", "d"):
                nc.publish(subject, bytes(30))
        self.server.peer.reset()
        self.server.reading = True
        error = self.assertRaises(errors.DisconnectedError, nc.flush)
        self.assertIn("2 publishes were", str(error))
        nc.flush()
        self.assertEqual([each.subject for each in self.server.published], ["c", "d"])

    def test_bound_of_what_is_kept(self) -> None:
        """Beyond reconnect_buffer_bytes publish() fails and takes nothing; 0 keeps nothing at all."""
        for bound, taken in ((1000, 9), (0, 0)):
            nc = self.connect(reconnect_buffer_bytes=bound)
            self.server.stop()
            nc.process()
            count = 0
            try:
                for _ in range(100):
                    nc.publish("x", bytes(90))
                    count += 1
            except errors.OutboundBufferFullError as error:
                self.assertEqual((error.limit, error.pending), (bound, 102 * taken))
            self.assertEqual(count, taken)
            self.server.mode = "accept"
            nc.flush()
            self.assertEqual(len(self.server.published), taken)
            self.server.published.clear()

    def test_what_does_not_fit_the_next_server(self) -> None:
        """What was kept and does not fit the next server's limits is dropped, and told; the rest goes."""
        nc = self.connect(reconnect_wait=1.0)
        self.go_down(0.5)
        nc.process()
        nc.publish("large", bytes(100))
        nc.publish("headers", headers={"A": "b"})
        nc.publish("small", b"1")
        self.server.info.update(max_payload=50, headers=False)
        nc.flush()
        self.assertEqual([each.subject for each in self.server.published], ["small"])
        dropped = self.seen(PublishDropped)
        self.assertEqual([event.subject for event in dropped], ["large", "headers"])
        self.assertIsInstance(dropped[0].error, errors.MaxPayloadExceededError)
        self.assertIsInstance(dropped[1].error, errors.HeadersNotSupportedError)
        self.assertEqual(nc.stats.out_msgs, 1)

    def test_waits(self) -> None:
        """Between rounds of failures it waits as the options say: longer each time, up to the maximum; never between servers."""
        FakeServer(self.machine, "b").mode = "refuse"
        waits = {"reconnect_wait": 1.0, "reconnect_wait_max": 4.0, "reconnect_jitter": 0.0}
        nc = self.connect("nats://a:4222,nats://b:4222", max_reconnect_attempts=-1, **waits)
        self.machine.time += 10.0
        nc.process()
        self.go_down(30.0)
        self.machine.waits.clear()
        nc.flush(timeout=60.0)
        self.assertEqual(self.machine.waits, [1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0])

    def test_wait_of_one_s_own(self) -> None:
        """reconnect_delay is asked for each round; one that fails is logged, and the built-in wait used."""
        asked: list[int] = []

        def delay(number: int) -> float:
            asked.append(number)
            return 1.5 if number < 3 else float("nan")

        nc = self.connect(reconnect_delay=delay, reconnect_wait=2.0, reconnect_wait_max=2.0, reconnect_jitter=0.0)
        self.machine.time += 1.0
        nc.process()
        self.go_down(4.0)
        self.machine.waits.clear()
        with self.assertLogs("pynats_twisted.blocking", "WARNING") as logged:
            nc.flush()
        self.assertEqual((self.machine.waits, asked), ([1.5, 1.5, 2.0], [1, 2, 3]))
        self.assertIn("reconnect_delay", logged.output[0])

    def test_a_call_does_not_wait_longer_than_it_may(self) -> None:
        """A wait that is longer than the call's time goes on in the next call."""
        nc = self.connect(reconnect_wait=10.0, reconnect_wait_max=10.0, reconnect_jitter=0.0)
        sub = nc.subscribe("x")
        self.go_down(1.0)
        begun = self.machine.time
        self.assertRaises(errors.NextMessageTimeoutError, sub.next, 4.0)
        self.assertEqual(self.machine.time - begun, 4.0)
        dialled = len(self.machine.dialled)
        self.assertRaises(errors.NextMessageTimeoutError, sub.next, 4.0)
        self.assertEqual((self.machine.time - begun, len(self.machine.dialled)), (8.0, dialled))
        self.assertRaises(errors.NextMessageTimeoutError, sub.next, 4.0)
        self.assertTrue(nc.is_connected)

    def test_time_that_passed_between_calls_counts(self) -> None:
        """A wait goes on while the program does something else."""
        nc = self.connect(reconnect_wait=10.0, reconnect_wait_max=10.0)
        self.go_down(1.0)
        nc.process()
        nc.process()
        self.machine.wait([], 20.0)
        nc.process()
        self.assertTrue(nc.is_connected)

    def test_calls_without_time_connect_again(self) -> None:
        """A program that only publishes, or only calls process(), comes to a connection again."""
        for call in ("publish", "process"):
            nc = self.connect()
            self.machine.time += 1.0
            self.cut()
            for _ in range(3):
                self.machine.time += 1.0
                nc.publish("x") if call == "publish" else nc.process()
            self.assertTrue(nc.is_connected, call)
            nc.close()

    def test_an_attempt_goes_on_in_the_next_call(self) -> None:
        """An attempt that one call did not see to its end is brought further by the next; a call without time gives it 0.1 s, once."""
        nc = self.connect(connect_timeout=10.0)
        self.machine.time += 1.0
        self.cut()
        self.server.greets = False
        begun = self.machine.time
        nc.process()
        nc.process()
        nc.process()
        self.assertAlmostEqual(self.machine.time - begun, 0.1)
        self.assertEqual(len(self.machine.dialled), 2)
        self.server.peer.send(self.server.info_line())
        nc.process()
        self.assertTrue(nc.is_connected)
        self.assertEqual(len(self.machine.dialled), 2)

    def test_unanswered_pings(self) -> None:
        """A server that answers no PING is given up after max_pings_out of them, inside a call that waits."""
        nc = self.connect(ping_interval=10.0, max_pings_out=2)
        other = FakeServer(self.machine, "b")
        sub = nc.subscribe("x")
        self.server.silent.add("PING")
        begun = self.machine.time
        nc._life.core.pool.replace("nats://b:4222")
        self.machine.at(35.0, lambda: other.publish("x", b"from b"))
        self.assertEqual(sub.next(60.0).data, b"from b")
        (lost,) = self.seen(Disconnected)
        self.assertIsInstance(lost.error, errors.StaleConnectionError)
        self.assertEqual(self.machine.time - begun, 35.0)

    def test_a_program_that_does_not_call_for_long(self) -> None:
        """Time in which nobody called is no sign that the server is gone."""
        nc = self.connect(ping_interval=10.0, max_pings_out=1)
        for _ in range(5):
            self.machine.time += 100.0
            nc.process()
        nc.flush()
        self.assertEqual((len(self.server.peers), self.server.peer.lines.count("PING")), (1, 7))

    def test_answers_pings(self) -> None:
        """A PING of the server is answered before process() returns."""
        nc = self.connect()
        self.server.peer.send(b"PING\r\nPING\r\n")
        self.assertEqual(nc.process(), 0)
        self.machine.pump()
        self.assertEqual(self.server.peer.lines[2:], ["PONG", "PONG"])

    def test_answers_pings_before_it_returns(self) -> None:
        """A PING that comes together with what a call waits for is answered in that call."""
        nc = self.connect()
        sub = nc.subscribe("x").confirmed()
        self.machine.at(1.0, lambda: self.server.peer.send(b"PING\r\nMSG x 1 2\r\nhi\r\n"))
        self.assertEqual(sub.next().data, b"hi")
        self.machine.pump()
        self.assertEqual(self.server.peer.lines[-1], "PONG")

    def test_process_waits_for_something(self) -> None:
        """process(timeout) returns when something has come, with the number of messages; or when its time is over."""
        nc = self.connect()
        sub = nc.subscribe("x").confirmed()
        begun = self.machine.time
        self.machine.at(2.0, lambda: [self.server.publish("x") for _ in range(3)])
        self.assertEqual((nc.process(timeout=5.0), self.machine.time - begun, sub.pending_msgs), (3, 2.0, 3))
        self.assertEqual((nc.process(timeout=5.0), self.machine.time - begun), (0, 7.0))

    def test_what_the_server_said_before_it_closed(self) -> None:
        """An error that the server sent before it closed is the reason of the disconnect, even where sending noticed the end first."""
        nc = self.connect()
        self.server.peer.send(b"-ERR 'User Authentication Expired'\r\n")
        self.server.peer.open = False
        self.server.peer.socket.error = errno.EPIPE
        with self.assertLogs("pynats_twisted.blocking", "WARNING"):
            nc.publish("x")
        self.assertIsInstance(self.seen(Disconnected)[0].error, errors.AuthenticationExpiredError)
        self.assertIsInstance(self.seen(ServerErrorEvent)[0].error, errors.AuthenticationExpiredError)
        nc.flush()
        self.assertEqual(len(self.server.published), 1)

    def test_protocol_error(self) -> None:
        """A server that sends something else than NATS is left, and another connection made."""
        nc = self.connect()
        self.server.peer.send(b"MSG what\r\n")
        with self.assertLogs("pynats_twisted.blocking", "WARNING"):
            nc.flush()
        self.assertIsInstance(self.seen(Disconnected)[0].error, errors.ProtocolError)
        self.assertEqual(len(self.server.peers), 2)

    def test_rotated_credentials(self) -> None:
        """Callables for credentials are asked at each connect."""
        tokens = iter(["first", "second"])
        nc = self.connect(token=lambda: next(tokens))
        self.cut()
        nc.flush()
        self.assertEqual([peer.connect["auth_token"] for peer in self.server.peers], ["first", "second"])

    def test_the_same_authentication_error_twice(self) -> None:
        """A server that refuses the credentials twice is not asked a third time, and the client ends."""
        nc = self.connect(reconnect_wait=0.1)

        def refuse(peer: Any, line: str) -> None:
            if line.startswith("CONNECT"):
                peer.send(b"-ERR 'Authorization Violation'\r\n")
                peer.close()

        self.machine.time += 1.0
        nc.process()
        self.cut()
        self.server.on_line = refuse
        with self.assertLogs("pynats_twisted.blocking", "ERROR"):
            self.assertRaises(errors.ConnectionClosedError, nc.flush)
        self.assertEqual((len(self.machine.dialled), nc.status), (3, ClientStatus.CLOSED))
        self.assertEqual(len(self.seen(ConnectFailed)), 2)

    def test_discovered_servers(self) -> None:
        """Servers that an INFO names are told, tried, and spoken to with the credentials of the one that named them."""
        other = FakeServer(self.machine, "10.0.0.2", 4333)
        self.server.info["connect_urls"] = ["10.0.0.2:4333", "a:4222"]
        nc = self.connect("nats://u:secret@a:4222")
        self.assertEqual(self.seen(DiscoveredServers), [DiscoveredServers(("nats://10.0.0.2:4333",))])
        self.server.stop()
        nc.flush()
        self.assertEqual((nc.connected_url, other.peer.connect["pass"]), ("nats://10.0.0.2:4333", "secret"))
        self.assertEqual(self.seen(Reconnected), [Reconnected("nats://10.0.0.2:4333")])

    def test_lame_duck(self) -> None:
        """A server that will shut down is left when it has confirmed what was published and sent what it had."""
        other = FakeServer(self.machine, "b")
        nc = self.connect("nats://a:4222,nats://b:4222")
        sub = nc.subscribe("x").confirmed()
        self.machine.time += 1.0
        nc.publish("y", b"before")
        self.server.on_line = lambda peer, line: peer.send(b"MSG x 1 4\r\nlast\r\n") if line.startswith("UNSUB") else None
        self.server.peer.send(self.server.info_line(ldm=True))
        self.machine.at(2.0, lambda: other.publish("x", b"from b"))
        self.assertEqual([sub.next(5).data, sub.next(5).data], [b"last", b"from b"])
        nc.publish("y", b"after")
        nc.flush()
        self.assertEqual((self.server.payloads, other.payloads), ([b"before"], [b"after"]))
        self.assertEqual(self.seen(LameDuck, Disconnected), [LameDuck("nats://a:4222"), Disconnected("nats://a:4222", None, 0)])

    def test_published_while_leaving(self) -> None:
        """What is published before a lame duck server has let go goes to the next one; drain() in that moment loses nothing either."""
        for end in ("flush", "drain"):
            self.server = FakeServer(self.machine)
            other = FakeServer(self.machine, "b")
            nc = self.connect("nats://a:4222,nats://b:4222")
            self.machine.time += 1.0
            self.server.silent.add("PING")
            self.server.peer.send(self.server.info_line(ldm=True))
            nc.process()
            nc.publish("y", b"held")
            self.assertEqual(self.server.published, [])
            self.machine.at(1.0, lambda: self.server.peer.send(b"PONG\r\n"))
            getattr(nc, end)()
            self.assertEqual((self.server.payloads, other.payloads), ([], [b"held"]))

    def test_lame_duck_without_another_server(self) -> None:
        """Where there is no other server, or the option says so, the client stays until it is thrown out."""
        FakeServer(self.machine, "b")
        for servers, options in (("nats://a:4222", {}), ("nats://a:4222,nats://b:4222", {"leave_on_lame_duck": False})):
            nc = self.connect(servers, **options)  # type: ignore[arg-type]
            self.server.peer.send(self.server.info_line(ldm=True))
            nc.flush()
            self.assertEqual(nc.connected_url, "nats://a:4222")
        self.assertEqual(len(self.seen(LameDuck)), 2)
