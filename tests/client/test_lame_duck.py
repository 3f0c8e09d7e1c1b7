"""A server that will shut down: who is told, and how a client moves to another one without losing a message."""

from __future__ import annotations

from typing import Any

from pynats_twisted.client import ClientStatus
from pynats_twisted.client.status import Connected, Disconnected, LameDuck, Reconnected
from pynats_twisted.errors import NoServersError, RequestTimeoutError
from pynats_twisted.testing.server_frames import PublishFrame, UnsubscribeFrame

from .network import tcp_endpoint
from .support import ClientTestCase

BOTH = ["nats://one", "nats://two"]


class StayingTests(ClientTestCase):
    def test_told_once(self) -> None:
        """Listeners are told once each time that the server goes into it, however often its INFO comes."""
        _, peer = self.connected()
        for ldm in (True, True, False, True):
            peer.info(ldm=ldm)
        self.assertEqual(self.told(LameDuck), [LameDuck("nats://one:4222")] * 2)

    def test_nowhere_to_go(self) -> None:
        """Without another server the client stays to the end, and comes back as after any other loss."""
        client, peer = self.connected()
        peer.info(ldm=True)
        self.network.advance(10)
        self.assertTrue(client.is_connected)
        self.assertEqual(len(self.network.dials), 1)
        peer.hang_up()
        self.network.advance(1)
        self.assertEqual([type(event) for event in self.events], [Connected, LameDuck, Disconnected, Reconnected])

    def test_not_wanted(self) -> None:
        """It stays as well where the option says so, and where reconnecting is not allowed."""
        self.network.server("two:4222")
        for options in ({"leave_on_lame_duck": False}, {"allow_reconnect": False}):
            client, peer = self.connected(BOTH, **options)
            dials = len(self.network.dials)
            peer.info(ldm=True)
            self.network.advance(10)
            self.assertEqual(client.connected_url, "nats://one:4222")
            self.assertEqual(len(self.network.dials), dials)
            client.close()
            self.network.advance()

    def test_others_cannot_be_reached(self) -> None:
        """When no other server takes it, the client stays, and goes on as before."""
        self.network.server("two:4222")
        self.network.refuse("two:4222")
        self.network.server("three:4222").reject(times=100)
        client, peer = self.connected([*BOTH, "nats://three"])
        got: list[bytes] = []
        client.subscribe("a", lambda msg: got.append(msg.data))
        self.network.advance()
        peer.info(ldm=True)
        self.network.advance(10)
        self.assertEqual([host for _, host in self.network.dials], ["one:4222", "two:4222", "three:4222"])
        self.assertEqual((client.connected_url, client.status), ("nats://one:4222", ClientStatus.CONNECTED))
        peer.publish("a", b"1")
        client.publish("b", b"2")
        self.watch(client.flush())
        self.network.advance()
        self.assertEqual((got, peer.written()), ([b"1"], [b"2"]))

    def test_others_cannot_even_be_tried(self) -> None:
        """The same where making an endpoint raises."""

        def factory(reactor: Any, server: Any) -> Any:
            if server.host == "two":
                raise RuntimeError("no way there")
            return tcp_endpoint(reactor, server)

        client, peer = self.connected(BOTH, endpoint_factory=factory)
        peer.info(ldm=True)
        self.network.advance(10)
        self.assertEqual((client.connected_url, client.status), ("nats://one:4222", ClientStatus.CONNECTED))


class MovingTests(ClientTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.other = self.network.server("two:4222")
        self.client, self.peer = self.connected(BOTH)
        self.got: list[bytes] = []
        self.sub = self.client.subscribe("a", lambda msg: self.got.append(msg.data))
        self.network.advance()
        self.peer.take()

    def begin(self) -> Any:
        """The server goes into it; the other server's end of the connection that is made then, when it has been there for a moment."""
        self.peer.info(ldm=True)
        self.network.advance()
        self.network.advance(0.25)
        return self.other.peer

    def finish(self) -> None:
        """The move ends."""
        self.network.advance(2)
        self.assertEqual((self.client.connected_url, self.client.status), ("nats://two:4222", ClientStatus.CONNECTED))
        self.assertTrue(self.peer.wire.ended)

    def test_moves(self) -> None:
        """It subscribes on the other server first, leaves then, and goes on there; listeners hear of both."""
        new = self.begin()
        self.assertEqual(new.subscribed(), ["a"])
        self.assertFalse(self.peer.wire.ended)
        self.assertEqual(self.peer.take(UnsubscribeFrame), [])
        self.finish()
        self.assertEqual([type(event) for event in self.events], [Connected, LameDuck, Disconnected, Reconnected])
        self.assertEqual(self.told(Reconnected), [Reconnected("nats://two:4222")])
        self.assertEqual(self.client.stats.reconnects, 1)
        new.publish("a", b"there")
        self.client.publish("b", b"x")
        self.network.advance()
        self.assertEqual((self.got, new.written()), ([b"there"], [b"x"]))
        self.assertEqual(len(self.network.dials), 2)

    def test_nothing_is_lost_or_doubled(self) -> None:
        """What comes on both connections meanwhile is delivered once, what comes on one of them as well."""
        new = self.begin()
        self.peer.publish("a", b"old only")
        for number in range(3):
            self.network.advance(0.1)
            for peer in (self.peer, new):
                peer.publish("a", b"both %d" % number)
        new.publish("a", b"new only")
        self.assertEqual(self.got, [b"old only", b"both 0", b"both 1", b"both 2"])
        self.finish()
        self.assertEqual(self.got, [b"old only", b"both 0", b"both 1", b"both 2", b"new only"])
        self.assertEqual(self.sub.delivered, 5)

    def test_a_message_is_late_at_the_other_server(self) -> None:
        """What the old server delivered before the new one had the subscription, and the new one hears of after that, comes once."""
        self.peer.info(ldm=True)
        self.network.advance()
        new = self.other.peer
        self.assertEqual(new.subscribed(), [])
        self.network.advance(0.1)
        self.peer.publish("a", b"1", b"2")
        self.network.advance(0.15)
        self.assertEqual(new.subscribed(), ["a"])
        new.publish("a", b"1", b"2", b"3")
        self.finish()
        self.assertEqual(self.got, [b"1", b"2", b"3"])

    def test_publishes(self) -> None:
        """Everything that is published goes to one of the two, once and in order, whenever it was."""
        new = self.begin()
        for number in range(40):
            self.client.publish("b", b"%02d" % number)
            self.network.advance(0.025)
        self.finish()
        self.assertEqual([*self.peer.written(), *new.written()], [b"%02d" % number for number in range(40)])
        self.assertGreater(len(self.peer.written()), 0)
        self.assertGreater(len(new.written()), 0)
        self.assertEqual([event.unconfirmed for event in self.told(Disconnected)], [0])

    def test_requests(self) -> None:
        """Requests in flight get their replies, by either server."""
        first, second = self.watch(self.client.request("svc")), self.watch(self.client.request("svc"))
        self.network.advance()
        asked = self.peer.take(PublishFrame)
        new = self.begin()
        self.peer.answer(asked[0], b"old")
        self.assertEqual(self.successResultOf(first).data, b"old")
        self.finish()
        new.answer(asked[1], b"new")
        self.assertEqual(self.successResultOf(second).data, b"new")

    def test_changes_meanwhile(self) -> None:
        """Subscriptions that begin, end or get a limit during the move are what the new server has in the end."""
        gone, limited = self.client.subscribe("gone"), self.client.subscribe("limited")
        new = self.begin()
        self.network.advance(0.1)
        added = self.client.subscribe("added", lambda msg: self.got.append(msg.data))
        gone.unsubscribe()
        limited.unsubscribe(2)
        self.finish()
        self.assertEqual(sorted(sub.subject for sub in new.session.subscriptions.values()), ["a", "added", "limited"])
        limits = {frame.sid: frame.limit for frame in new.frames if isinstance(frame, UnsubscribeFrame)}
        self.assertEqual(limits[str(limited.sid)], 2)
        new.publish("added", b"1")
        self.assertEqual(self.got, [b"1"])
        confirmed = self.watch(added.confirmed())
        self.network.advance()
        self.successResultOf(confirmed)

    def test_changes_at_the_last_moment(self) -> None:
        """The same between the old server's last PING and its answer."""
        gone = self.client.subscribe("gone")
        new = self.begin()
        self.server.answer_pings = False
        self.network.advance(0.6)
        self.assertIn(UnsubscribeFrame, self.peer.kinds())
        added = self.client.subscribe("added")
        gone.unsubscribe()
        drained = self.watch(self.client.subscribe("drained").drain())
        confirmed = self.watch(added.confirmed())
        self.peer.send(b"PONG\r\n")
        self.finish()
        self.assertEqual(sorted(sub.subject for sub in new.session.subscriptions.values()), ["a", "added"])
        self.successResultOf(confirmed)
        self.successResultOf(drained)

    def test_flush_in_every_phase(self) -> None:
        """A flush that begins during the move is answered."""
        self.begin()
        flushes = []
        for _ in range(40):
            flushes.append(self.watch(self.client.flush()))
            self.network.advance(0.025)
        self.finish()
        for flush in flushes:
            self.successResultOf(flush)

    def test_next_server_fails(self) -> None:
        """A server that does not complete the handshake is passed over."""
        third = self.network.server("three:4222")
        self.client.core.pool.replace([*BOTH, "nats://three"])
        self.other.greeting = b""
        self.peer.info(ldm=True)
        self.network.advance(5)
        self.network.advance(2)
        self.assertEqual(self.client.connected_url, "nats://three:4222")
        self.assertEqual(third.peer.subscribed(), ["a"])
        self.assertTrue(self.other.peer.wire.ended)

    def test_nothing_is_gathered_while_dialling(self) -> None:
        """Until the other server has the subscriptions, what is delivered is not kept: an attempt may take seconds."""
        self.other.greeting = b""
        self.peer.info(ldm=True)
        self.network.advance()
        self.peer.publish("a", *[b"x"] * 100)
        self.assertIsNone(self.client.core.recorded)
        self.network.advance(5)
        self.assertIsNone(self.client.core.recorded)
        self.assertEqual(len(self.got), 100)

    def test_server_goes_at_the_last_moment(self) -> None:
        """When it hangs up instead of answering the last PING, what the other connection has brought is delivered."""
        new = self.begin()
        self.peer.stalled = True
        self.network.advance(0.4)
        new.publish("a", b"1")
        self.client.publish("b", b"x")
        self.network.advance(0.2)
        new.publish("a", b"2")
        self.client.publish("b", b"y")
        self.assertEqual(self.got, [])
        self.peer.hang_up()
        self.network.advance()
        self.assertEqual((self.got, new.written()), ([b"1", b"2"], [b"y"]))
        self.assertEqual([event.unconfirmed for event in self.told(Disconnected)], [1])
        self.assertEqual(len(self.network.dials), 2)

    def test_server_goes_too_early(self) -> None:
        """When the old server hangs up before the move is complete, there is one connection in the end, and it works."""
        for seconds in (0.0, 0.1, 0.3, 0.45):
            self.setUp()
            self.begin()
            self.network.advance(seconds)
            self.peer.hang_up()
            self.network.advance(5)
            self.assertIs(self.client.status, ClientStatus.CONNECTED)
            peers = [peer for server in self.network.servers.values() for peer in server.peers if not peer.wire.ended]
            self.assertEqual(len(peers), 1, seconds)
            peers[0].publish("a", b"x")
            self.assertEqual(self.got, [b"x"])
            self.tearDown()

    def test_closed_in_every_phase(self) -> None:
        """Closing during the move ends both connections, and leaves no timer."""
        for seconds in (None, 0.0, 0.1, 0.3, 0.49):
            self.setUp()
            self.peer.info(ldm=True)
            if seconds is not None:
                self.network.advance(seconds)
            closed = self.client.close()
            self.network.advance()
            self.successResultOf(closed)
            self.assertEqual(self.network.getDelayedCalls(), [])
            self.tearDown()

    def test_closed_while_dialling(self) -> None:
        """The same while the other server does not answer the dial."""
        self.network.black_hole("two:4222")
        self.peer.info(ldm=True)
        self.network.advance(1)
        closed = self.client.close()
        self.network.advance()
        self.successResultOf(closed)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_drained_in_every_phase(self) -> None:
        """Draining during the move drains the connection that serves then."""
        for seconds in (None, 0.0, 0.1, 0.3, 0.5, 0.6):
            self.setUp()
            self.peer.info(ldm=True)
            if seconds is not None:
                self.network.advance(seconds)
            self.client.publish("b", b"last")
            drained = self.watch(self.client.drain())
            self.network.advance(2)
            self.successResultOf(drained)
            published = [payload for server in self.network.servers.values() for peer in server.peers for payload in peer.written()]
            self.assertEqual(published, [b"last"])
            self.tearDown()

    def test_forced_in_every_phase(self) -> None:
        """Asking for another connection during the move gives one that works, and no second one."""
        for seconds in (None, 0.0, 0.1, 0.3, 0.5):
            self.setUp()
            self.peer.info(ldm=True)
            if seconds is not None:
                self.network.advance(seconds)
            self.client.force_reconnect()
            self.network.advance(5)
            peers = [peer for server in self.network.servers.values() for peer in server.peers if not peer.wire.ended]
            self.assertEqual(len(peers), 1, seconds)
            self.assertEqual(peers[0].session.subscriptions[str(self.sub.sid)].subject, "a")
            self.assertIs(self.client.status, ClientStatus.CONNECTED)
            self.tearDown()

    def test_request_that_nobody_answers(self) -> None:
        """A move does not make a request wait longer than its time."""
        waiting = self.watch(self.client.request("svc", timeout=1.0))
        self.begin()
        self.network.advance(1)
        self.failureResultOf(waiting, RequestTimeoutError)

    def test_later_losses(self) -> None:
        """After a move a loss is dealt with as ever, with the waits and the giving up of the pool."""
        self.begin()
        self.finish()
        self.network.refuse("one:4222")
        self.network.refuse("two:4222")
        self.other.peer.cut()
        self.network.advance(0.5)
        self.assertIs(self.client.status, ClientStatus.RECONNECTING)
        self.network.accept("two:4222")
        self.network.advance(5)
        self.assertEqual(self.client.connected_url, "nats://two:4222")
        self.assertEqual(self.other.peer.subscribed(), ["a"])
        self.server.reject(times=100)
        self.other.reject(times=100)
        self.network.accept("one:4222")
        self.other.peer.cut()
        closed = self.watch(self.client.when_closed())
        self.network.advance(30)
        self.successResultOf(closed)
        self.assertIsInstance(self.events[-1].error, NoServersError)
