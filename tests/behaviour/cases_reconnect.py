"""What the client does when a server goes, or says that it will."""

from __future__ import annotations

from typing import Any

from pynats_twisted import errors
from pynats_twisted.client import ClientStatus
from pynats_twisted.client.status import Closed, Connected, Disconnected, LameDuck, PublishDropped, Reconnected, ServerErrorEvent

from .harness import Harness


class ReconnectCases(Harness):
    """Servers stop and start (REC, BUF)."""

    async def back(self, client: Any, reconnects: int = 1) -> None:
        await self.eventually(lambda: client.stats.reconnects == reconnects and client.is_connected, "the reconnect")

    async def test_subscriptions_come_back(self) -> None:
        """After a restart the same subscriptions get messages; each event is told once."""
        server = await self.server()
        client = await self.connect(server)
        sub, queue = await client.subscribe("a.*"), await client.subscribe("q", queue="g")
        await self.do(server.restart)
        await self.back(client)
        await client.publish("a.b", b"1")
        await client.publish("q", b"2")
        self.assertEqual(((await sub.next(2.0)).data, (await queue.next(2.0)).data), (b"1", b"2"))
        kinds = [type(event) for event in self.events if isinstance(event, (Connected, Disconnected, Reconnected))]
        self.assertEqual(kinds, [Connected, Disconnected, Reconnected])

    async def test_changes_while_there_is_no_server(self) -> None:
        """Subscriptions that were made meanwhile begin, those that were ended stay ended."""
        server = await self.server()
        client = await self.connect(server)
        ended, kept = await client.subscribe("ended"), await client.subscribe("kept")
        await self.do(server.stop)
        await self.eventually(lambda: not client.is_connected)
        ended.unsubscribe()
        new = client.subscribe("new")
        await self.do(server.start)
        await self.back(client)
        other = await self.connect(server)
        for subject in ("ended", "kept", "new"):
            await other.publish(subject, subject.encode())
        self.assertEqual(((await kept.next(2.0)).data, (await new.next(2.0)).data), (b"kept", b"new"))
        with self.assertRaises(errors.NoRespondersError):
            await other.request("ended")

    async def test_what_is_published_meanwhile(self) -> None:
        """What is published without a connection is kept, and sent in order behind the subscriptions."""
        server = await self.server()
        client = await self.connect(server)
        sub = await client.subscribe("a")
        await self.do(server.stop)
        await self.eventually(lambda: not client.is_connected)
        for number in range(100):
            client.publish("a", b"%d" % number)
        self.assertGreater(client.pending_bytes, 0)
        await self.do(server.start)
        self.assertEqual([(await sub.next(5.0)).data for _ in range(100)], [b"%d" % number for number in range(100)])
        self.assertEqual(client.pending_bytes, 0)

    async def test_buffer_is_bounded(self) -> None:
        """Over its bound the buffer refuses what is new."""
        server = await self.server()
        client = await self.connect(server, reconnect_buffer_bytes=34)
        await self.do(server.stop)
        await self.eventually(lambda: not client.is_connected)
        for _ in range(2):
            client.publish("foo", b"1234")  # 17 bytes as a frame
        self.assertRaises(errors.OutboundBufferFullError, client.publish, "foo", b"1234")

    async def test_no_buffer(self) -> None:
        """Without a buffer, publishing without a connection fails."""
        server = await self.server()
        client = await self.connect(server, reconnect_buffer_bytes=0)
        await self.do(server.stop)
        await self.eventually(lambda: not client.is_connected)
        self.assertRaises(errors.OutboundBufferFullError, client.publish, "a")

    async def test_limit_goes_on(self) -> None:
        """What was delivered before a restart counts for the limit."""
        server = await self.server()
        client = await self.connect(server)
        sub = await client.subscribe("a", max_msgs=5)
        for number in range(3):
            await client.publish("a", b"%d" % number)
        await client.flush()
        await self.do(server.restart)
        await self.back(client)
        for number in range(3, 9):
            await client.publish("a", b"%d" % number)
        self.assertEqual([msg.data async for msg in sub], [b"0", b"1", b"2", b"3", b"4"])

    async def test_requests_after_a_restart(self) -> None:
        """Requests work after a restart, and each gets one reply."""
        server = await self.server()
        client = await self.connect(server)
        await client.subscribe("echo", lambda msg: msg.respond(msg.data))
        await client.request("echo")
        await self.do(server.restart)
        await self.back(client)
        self.assertEqual((await client.request("echo", b"x")).data, b"x")
        await client.flush()
        self.assertEqual(client.stats.late_replies, 0)

    async def test_request_that_was_waiting(self) -> None:
        """With fail_requests_on_disconnect, a request fails with the connection."""
        server = await self.server()
        client = await self.connect(server, fail_requests_on_disconnect=True)
        await client.subscribe("mute")
        asked = client.request("mute")
        await client.flush()
        await self.do(server.stop)
        with self.assertRaises(errors.DisconnectedError):
            await asked

    async def test_flush_that_was_waiting(self) -> None:
        """Without a connection, a flush fails at once."""
        server = await self.server()
        client = await self.connect(server)
        await self.do(server.stop)
        await self.eventually(lambda: not client.is_connected)
        with self.assertRaises(errors.DisconnectedError):
            await client.flush()

    async def test_reconnecting_can_be_forbidden(self) -> None:
        """Without allow_reconnect the client is closed with its connection."""
        server = await self.server()
        client = await self.connect(server, allow_reconnect=False)
        await self.do(server.stop)
        await client.when_closed()
        self.assertIsInstance(self.told(Closed)[0].error, errors.DisconnectedError)

    async def test_close_while_waiting(self) -> None:
        """A client that looks for a server is closed at once, and tells what it could not send."""
        server = await self.server()
        client = await self.connect(server)
        await self.do(server.stop)
        await self.eventually(lambda: client.status is ClientStatus.RECONNECTING)
        client.publish("a")
        begun = self.reactor.seconds()
        await client.close()
        self.assertLess(self.reactor.seconds() - begun, 0.5)
        self.assertEqual(self.told(Closed)[0].undelivered, 1)

    async def test_giving_up(self) -> None:
        """After its attempts the client is closed, with the reason of each."""
        server = await self.server()
        client = await self.connect(server, max_reconnect_attempts=2, reconnect_wait=0.01)
        await self.do(server.stop)
        await client.when_closed()
        error = self.told(Closed)[0].error
        self.assertIsInstance(error, errors.NoServersError)

    async def test_another_server_is_taken(self) -> None:
        """When a server goes, the client goes to the next."""
        one, two = await self.server(), await self.server()
        client = await self.connect([one, two])
        self.assertEqual(client.connected_url, one.url)
        await self.do(one.stop)
        await self.back(client)
        self.assertEqual(client.connected_url, two.url)

    async def test_force_reconnect(self) -> None:
        """The client can be told to connect again: subscriptions work, what was published is not lost."""
        client = await self.connect(await self.server())
        sub = await client.subscribe("a")
        client.publish("a", b"before")
        client.force_reconnect()
        client.publish("a", b"after")
        await self.back(client)
        self.assertEqual([(await sub.next(2.0)).data for _ in range(1)], [b"after"])

    async def test_retry_at_the_first_connection(self) -> None:
        """With retry_on_failed_connect a client can be started before its server."""
        server = self._make_server({}, {})
        client = await self.connect(server, retry_on_failed_connect=True, reconnect_wait=0.02)
        client.publish("a", b"early")
        self.assertFalse(client.is_connected)
        await self.sleep(0.1)
        await self.do(server.start)
        await client.when_connected()
        await client.flush()
        self.assertEqual(len(self.told(Connected)), 1)
        self.assertEqual(self.told(Reconnected), [])

    async def test_smaller_limit_after_a_restart(self) -> None:
        """What was kept and is too large for the server now is reported, the rest is sent."""
        one, two = await self.server({"max_payload": 4000}), self._make_server({"max_payload": 1000}, {})
        client = await self.connect([one, two])
        sub = await client.subscribe("a")
        await self.do(one.stop)
        await self.eventually(lambda: not client.is_connected)
        client.publish("a", b"x" * 2000)
        client.publish("a", b"small")
        await self.do(two.start)
        self.assertEqual((await sub.next(5.0)).data, b"small")
        await self.eventually(lambda: self.told(PublishDropped))
        self.assertIsInstance(self.told(PublishDropped)[0].error, errors.MaxPayloadExceededError)
        self.assertEqual(client.stats.reconnects, 1)

    async def test_credentials_are_asked_again(self) -> None:
        """Callables for credentials are called at each connection."""
        server = await self.server(user="ann", password="right")
        asked: list[int] = []

        def password() -> str:
            asked.append(1)
            return "right"

        client = await self.connect(server, user="ann", password=password)
        await self.do(server.restart)
        await self.back(client)
        self.assertEqual(len(asked), 2)

    async def test_same_refusal_twice_ends_it(self) -> None:
        """A server that refuses the same credentials twice is given up."""
        server = await self.server(user="ann", password="right")
        client = await self.connect(server, user="ann", password="right", reconnect_wait=0.01)
        await self.do(server.reload, user="ann", password="changed")
        await client.when_closed()
        refusals = [event for event in self.told(ServerErrorEvent) if isinstance(event.error, errors.AuthorizationViolationError)]
        self.assertGreaterEqual(len(refusals), 2)

    async def test_stale_connection(self) -> None:
        """A server that freezes is left after its PINGs were not answered."""
        server = await self.server()
        await self.connect(server, ping_interval=0.05, max_pings_out=2, max_reconnect_attempts=0)
        await self.do(server.pause)
        await self.eventually(lambda: self.told(Disconnected))
        self.assertIsInstance(self.told(Disconnected)[0].error, errors.StaleConnectionError)
        server.resume()

    async def test_frozen_server_is_passed_over(self) -> None:
        """A server that accepts and says nothing costs the timeout, then the next is taken."""
        frozen, server = await self.server(), await self.server()
        await self.do(frozen.pause)
        client = await self.connect([frozen, server], connect_timeout=0.2)
        self.assertEqual(client.connected_url, server.url)
        frozen.resume()


class LameDuckCases(Harness):
    """A server that says that it will go (LDM)."""

    async def test_clients_are_told(self) -> None:
        """INFO with ldm comes once, new connections are refused, and after the grace the connection ends."""
        server = await self.server(lame_duck_grace=0.5)
        raw = await self.raw(server)
        begun = self.reactor.seconds()
        await self.lame_duck(server)
        info = await raw.info()
        self.assertIs(info["ldm"], True)
        with self.assertRaises(errors.NoServersError):
            await self.connect(server)
        self.assertEqual([line for line in await raw.ending() if line != b"PING"], [])
        self.assertTrue(0.3 < self.reactor.seconds() - begun < 3.0)

    async def test_alone_the_client_stays(self) -> None:
        """With nowhere to go, the client reports it and works until the end."""
        server = await self.server(lame_duck_grace=0.5)
        client = await self.connect(server)
        await client.subscribe("echo", lambda msg: msg.respond(msg.data))
        await self.lame_duck(server)
        await self.eventually(lambda: self.told(LameDuck))
        self.assertEqual((await client.request("echo", b"x")).data, b"x")
        self.assertEqual(len(self.told(LameDuck)), 1)
        await self.eventually(lambda: self.told(Disconnected))

    async def test_client_moves(self) -> None:
        """With another server in the pool, the client moves there before the end, with its subscriptions."""
        one, two = await self.server(lame_duck_grace=0.5), await self.server()
        client = await self.connect([one, two])
        sub = await client.subscribe("a")
        await self.lame_duck(one)
        await self.eventually(lambda: client.connected_url == two.url and client.is_connected)
        other = await self.connect(two)
        await other.publish("a", b"x")
        self.assertEqual((await sub.next(2.0)).data, b"x")

    async def lame_duck(self, server: Any) -> None:
        await self.do(server.lame_duck)
