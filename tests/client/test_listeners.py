"""Listeners: who is told what, when, and what they may do."""

from __future__ import annotations

from typing import Any

from pynats_twisted.client import ClientStatus
from pynats_twisted.client.status import (
    Closed,
    Connected,
    ConnectFailed,
    Disconnected,
    Reconnected,
    ServerErrorEvent,
    StatusEvent,
)

from .support import ClientTestCase


class ListenerTests(ClientTestCase):
    def test_one_that_raises(self) -> None:
        """What a listener raises is logged and counted; the others are told all the same, and it is told the next event."""
        told: list[StatusEvent] = []

        def raising(event: StatusEvent) -> None:
            told.append(event)
            raise RuntimeError("listener")

        client = self.new_client()
        client.remove_listener(self.events.append)
        client.add_listener(raising)
        client.add_listener(self.events.append)
        client.start()
        self.network.advance(1)
        self.server.peer.cut()
        self.network.advance()
        self.assertEqual([type(event) for event in told], [Connected, Disconnected, Reconnected])
        self.assertEqual(self.events, told)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 3)
        self.assertEqual(client.stats.listener_errors, 3)
        client.remove_listener(raising)

    def test_added_and_removed(self) -> None:
        """One that was removed is told no more, also when it removes itself; removing one that is not there does nothing."""
        told: list[StatusEvent] = []

        def once(event: StatusEvent) -> None:
            told.append(event)
            client.remove_listener(once)

        client, peer = self.connected()
        client.add_listener(once)
        peer.error("one")
        peer.error("two")
        self.network.advance()
        self.assertEqual(len(told), 1)
        client.remove_listener(once)

    def test_added_in_a_listener(self) -> None:
        """One that a listener adds is told the events from then on."""
        told: list[StatusEvent] = []
        client, peer = self.connected()
        client.add_listener(lambda event: client.add_listener(told.append) if not told else None)
        peer.error("one")
        self.assertEqual(len(self.told(ServerErrorEvent)), 1)
        peer.error("two")
        self.network.advance()
        self.assertEqual([event.error.text for event in told], ["two"])

    def test_calls_in_a_listener(self) -> None:
        """A listener may use the client: publish, subscribe, ask, close."""
        client, peer = self.connected()
        replies: list[Any] = []

        def on_event(event: StatusEvent) -> None:
            if isinstance(event, Reconnected):
                client.publish("hello", b"again")
                client.subscribe("new")
                replies.append(self.watch(client.request("svc")))

        client.add_listener(on_event)
        peer.cut()
        self.network.advance()
        again = self.server.peer
        self.assertIn(b"again", again.written())
        self.assertIn("new", again.subscribed())
        again.answer(again.frames[-1], b"ok")
        self.successResultOf(replies[0])

    def test_closing_in_a_listener(self) -> None:
        """A listener may close the client at each event, and the last event is that."""
        for kind in (Connected, ConnectFailed, Disconnected, Reconnected, ServerErrorEvent):
            self.setUp()
            client = self.new_client(retry_on_failed_connect=True)
            client.add_listener(lambda event, client=client, kind=kind: client.close() if isinstance(event, kind) else None)
            self.network.refuse("one:4222")
            client.start()
            self.network.advance()
            self.network.accept("one:4222")
            self.network.advance(2)
            if self.server.peers and not self.server.peer.wire.ended:
                self.server.peer.error("something")
                self.network.advance()
                self.server.peer.cut()
            self.network.advance(10)
            self.assertIs(client.status, ClientStatus.CLOSED, kind)
            self.assertIsInstance(self.events[-1], Closed)
            self.assertEqual(len([event for event in self.events if isinstance(event, Closed)]), 1)
            self.tearDown()

    def test_closed_is_told_first(self) -> None:
        """When ``close()`` fires, every listener has heard of it."""
        client, _ = self.connected()
        heard = client.close().addCallback(lambda _: [type(event) for event in self.events])
        self.network.advance()
        self.assertEqual(self.successResultOf(heard), [Connected, Disconnected, Closed])

    def test_bounded(self) -> None:
        """Errors that cannot be told fast enough are bounded, and what is left out is counted; the loss of the connection is told."""
        client, peer = self.connected()
        self.events.clear()
        for _ in range(3):
            peer.send(b"-ERR 'x'\r\n" * 4000)
        peer.cut()
        self.assertEqual(self.events, [])
        self.network.advance()
        self.assertEqual((len(self.told(ServerErrorEvent)), client.stats.dropped_events), (10_000, 2000))
        self.assertEqual([type(event) for event in self.events[10_000:]], [Disconnected, Reconnected])

    def test_no_secrets(self) -> None:
        """Events name servers without their credentials."""
        client, peer = self.connected("nats://user:secret@one")
        peer.cut()
        self.network.advance()
        self.network.refuse("one:4222")
        self.server.peer.cut()
        self.network.advance(1)
        self.assertNotIn("secret", repr(self.events) + repr(client) + "".join(self.logged()))
        self.assertGreater(len(self.told(ConnectFailed)), 0)
