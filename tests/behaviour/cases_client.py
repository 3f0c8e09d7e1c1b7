"""What the client does on a server: connecting, publishing, subscribing."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from pynats_twisted import errors
from pynats_twisted.client import ClientStatus
from pynats_twisted.client.status import Closed, Connected, ConnectFailed, Disconnected, HandlerError, ServerErrorEvent, SlowConsumer

from .harness import Harness


class ConnectingCases(Harness):
    """The first connection, and the end (CON, TWX)."""

    async def test_connect_and_close(self) -> None:
        """A client is connected, knows its server, and tells when it is and when it ends."""
        server = await self.server()
        client = await self.connect(server, name="demo")
        self.assertIs(client.status, ClientStatus.CONNECTED)
        assert client.server_info is not None
        self.assertEqual((client.server_info.port, client.max_payload), (server.port, 1048576))
        await client.close()
        self.assertIs(client.status, ClientStatus.CLOSED)
        self.assertEqual([type(event) for event in self.events], [Connected, Disconnected, Closed])

    async def test_second_info_is_taken(self) -> None:
        """The INFO behind the first PONG is the one that counts."""
        client = await self.connect(await self.server())
        await self.eventually(lambda: client.server_info is not None and client.server_info.connect_info)
        assert client.server_info is not None
        self.assertEqual(client.server_info.remote_account, "$G")

    async def test_first_server_is_not_there(self) -> None:
        """When the first of two servers refuses, the second is taken in the same call."""
        gone, server = self._make_server({}, {}), await self.server()
        client = await self.connect([gone, server])
        self.assertEqual(client.connected_url, server.url)
        self.assertEqual([event.url for event in self.told(ConnectFailed)], [gone.url])

    async def test_no_server_is_there(self) -> None:
        """When no server can be reached, the error lists each attempt."""
        servers = ["nats://127.0.0.1:1", "nats://127.0.0.1:2"]
        with self.assertRaises(errors.NoServersError) as raised:
            await self.connect(servers)
        self.assertEqual([url for url, _ in raised.exception.reasons], servers)

    async def test_verbose_and_pedantic(self) -> None:
        """Both options work with everything else."""
        client = await self.connect(await self.server(), verbose=True, pedantic=True)
        sub = client.subscribe("a")
        await sub
        await client.publish("a", b"x")
        self.assertEqual((await sub.next(2.0)).data, b"x")
        self.assertEqual(self.told(ServerErrorEvent), [])

    async def test_without_echo(self) -> None:
        """A client without echo does not hear itself."""
        server = await self.server()
        one, two = await self.connect(server, echo=False), await self.connect(server)
        sub = await one.subscribe("a")
        await one.publish("a", b"own")
        await one.flush()
        await two.publish("a", b"other")
        self.assertEqual((await sub.next(2.0)).data, b"other")

    async def test_too_many_connections(self) -> None:
        """A client that the server has no room for gets the reason."""
        server = await self.server({"max_connections": 1})
        await self.connect(server)
        with self.assertRaises(errors.NoServersError) as raised:
            await self.connect(server)
        self.assertIsInstance(raised.exception.reasons[0][1], errors.MaxConnectionsExceededError)

    async def test_close_while_connecting(self) -> None:
        """A client that is closed during its first attempt fails that, once."""
        client = self.client(await self.server())
        begun = client.start()
        await client.close()
        with self.assertRaises(errors.ConnectionClosedError):
            await begun

    async def test_cancelling_connect(self) -> None:
        """Cancelling the first attempt ends everything."""
        client = self.client(await self.server())
        begun = client.start()
        begun.addErrback(lambda failure: None)
        begun.cancel()
        await client.when_closed()
        self.assertIs(client.status, ClientStatus.CLOSED)

    async def test_closed_client_takes_nothing(self) -> None:
        """After close, every call says so; closing again is no error."""
        client = await self.connect(await self.server())
        await client.close()
        await client.close()
        for call in (lambda: client.publish("a"), lambda: client.subscribe("a"), lambda: client.request("a")):
            self.assertRaises(errors.ConnectionClosedError, call)
        with self.assertRaises(errors.ConnectionClosedError):
            await client.flush()

    async def test_unknown_protocol_error_of_ours(self) -> None:
        """Publishing and subscribing with names that are none fails here, and nothing reaches the server."""
        client = await self.connect(await self.server())
        for subject in ("", " ", "a b", "a\r\nb", "a\tb", "a..b", ".a", "a."):
            self.assertRaises(errors.InvalidSubjectError, client.publish, subject)
            self.assertRaises(errors.InvalidSubjectError, client.subscribe, subject)
        for queue in ("a b", "a\r\n", "a\tb"):
            self.assertRaises(errors.InvalidQueueError, client.subscribe, "a", queue=queue)
        self.assertRaises(errors.InvalidSubjectError, client.subscribe, "a.>.b")
        await client.flush()
        self.assertEqual(self.told(ServerErrorEvent), [])

    async def test_largest_payload(self) -> None:
        """A payload of the largest size arrives; one byte more is refused here, and the connection is not touched."""
        client = await self.connect(await self.server({"max_payload": 1000}))
        sub = await client.subscribe("a")
        await client.publish("a", b"x" * 1000)
        self.assertRaises(errors.MaxPayloadExceededError, client.publish, "a", b"x" * 1001)
        self.assertRaises(errors.MaxPayloadExceededError, client.publish, "a", b"x" * 990, headers={"A": "1"})
        self.assertEqual(len((await sub.next(2.0)).data), 1000)
        self.assertEqual(client.stats.reconnects, 0)


class SubscribingCases(Harness):
    """Subscriptions (SUB, SLO)."""

    async def pair(self, **options: Any) -> tuple[Any, Any]:
        server = await self.server()
        return await self.connect(server, **options), await self.connect(server)

    async def publish(self, client: Any, subject: str, count: int) -> None:
        for number in range(count):
            await client.publish(subject, b"%d" % number)
        await client.flush()

    async def test_handler_gets_messages_in_order(self) -> None:
        """A handler gets each message, in the order of its publisher."""
        one, two = await self.pair()
        got: list[bytes] = []
        await one.subscribe("a.*", lambda msg: got.append(msg.data))
        await self.publish(two, "a.b", 100)
        await self.eventually(lambda: len(got) == 100)
        self.assertEqual(got, [b"%d" % number for number in range(100)])

    async def test_async_for(self) -> None:
        """Iteration gets the messages, and ends with the subscription."""
        one, two = await self.pair()
        sub = await one.subscribe("a", max_msgs=3)
        await self.publish(two, "a", 5)
        self.assertEqual([msg.data async for msg in sub], [b"0", b"1", b"2"])

    async def test_next_times_out(self) -> None:
        """Waiting for a message ends in time."""
        one, _ = await self.pair()
        with self.assertRaises(errors.NextMessageTimeoutError):
            await one.subscribe("a").next(0.05)

    async def test_cancelled_next_loses_nothing(self) -> None:
        """A cancelled wait leaves the message for the next one."""
        one, two = await self.pair()
        sub = await one.subscribe("a")
        waiting = sub.next()
        waiting.addErrback(lambda failure: None)
        waiting.cancel()
        await self.publish(two, "a", 1)
        self.assertEqual((await sub.next(2.0)).data, b"0")

    async def test_unsubscribe(self) -> None:
        """Nothing comes behind unsubscribe; doing it again is no error."""
        one, two = await self.pair()
        got: list[bytes] = []
        sub = await one.subscribe("a", lambda msg: got.append(msg.data))
        sub.unsubscribe()
        sub.unsubscribe()
        await one.flush()
        await self.publish(two, "a", 3)
        await one.flush()
        self.assertEqual(got, [])
        self.assertTrue(sub.closed)

    async def test_limit(self) -> None:
        """A subscription with a limit gets that many and is over."""
        one, two = await self.pair()
        got: list[bytes] = []
        sub = await one.subscribe("a", lambda msg: got.append(msg.data), max_msgs=2)
        await self.publish(two, "a", 5)
        await one.flush()
        self.assertEqual(got, [b"0", b"1"])
        self.assertTrue(sub.closed)

    async def test_limit_that_is_reached_already(self) -> None:
        """A limit below what has come ends the subscription at once."""
        one, two = await self.pair()
        sub = await one.subscribe("a")
        await self.publish(two, "a", 3)
        await one.flush()
        sub.unsubscribe(limit=2)
        await self.publish(two, "a", 3)
        await one.flush()
        self.assertEqual([msg.data async for msg in sub], [b"0", b"1", b"2"])

    async def test_unsubscribe_in_the_handler(self) -> None:
        """A handler may end its own subscription: it is not called again."""
        one, two = await self.pair()
        got: list[bytes] = []

        def handler(msg: Any) -> None:
            got.append(msg.data)
            sub.unsubscribe()

        sub = one.subscribe("a", handler)
        await sub
        await self.publish(two, "a", 3)
        await one.flush()
        self.assertEqual(got, [b"0"])

    async def test_handler_that_raises(self) -> None:
        """A handler that fails is reported; it gets the next message all the same."""
        one, two = await self.pair()
        got: list[bytes] = []

        def handler(msg: Any) -> None:
            got.append(msg.data)
            raise ValueError("no")

        await one.subscribe("a", handler)
        await self.publish(two, "a", 2)
        await self.eventually(lambda: len(self.told(HandlerError)) == 2)
        self.assertEqual(got, [b"0", b"1"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    async def test_slow_handler_holds_up_nobody(self) -> None:
        """While one handler waits, other subscriptions get their messages."""
        one, two = await self.pair()
        gate: Deferred[None] = Deferred()
        got: list[bytes] = []
        await one.subscribe("slow", lambda msg: gate)
        await one.subscribe("fast", lambda msg: got.append(msg.data))
        await self.publish(two, "slow", 1)
        await self.publish(two, "fast", 3)
        await self.eventually(lambda: len(got) == 3)
        gate.callback(None)

    async def test_queue_group(self) -> None:
        """Each message goes to one member of a group, over all clients."""
        one, two = await self.pair()
        got: list[bytes] = []
        for client in (one, two):
            await client.subscribe("a", lambda msg: got.append(msg.data), queue="workers")
        await self.publish(one, "a", 50)
        await self.eventually(lambda: len(got) == 50)
        await two.flush()
        self.assertEqual(sorted(got), sorted(b"%d" % number for number in range(50)))

    async def test_slow_consumer_drops_the_newest(self) -> None:
        """Over its bound a subscription drops what is new, counts it, and reports once."""
        one, two = await self.pair()
        sub = await one.subscribe("a", pending_msgs=10)
        await self.publish(two, "a", 100)
        await self.eventually(lambda: sub.dropped == 90)
        self.assertEqual([(await sub.next()).data for _ in range(10)], [b"%d" % number for number in range(10)])
        await self.eventually(lambda: self.told(SlowConsumer))
        self.assertEqual(len(self.told(SlowConsumer)), 1)

    async def test_slow_consumer_by_bytes(self) -> None:
        """The bound in bytes counts too."""
        one, two = await self.pair()
        sub = await one.subscribe("a", pending_bytes=1000)
        await two.publish("a", b"x" * 700)
        await two.publish("a", b"x" * 700)
        await two.flush()
        await self.eventually(lambda: sub.dropped == 1)

    async def test_close_ends_iteration(self) -> None:
        """Who waits in an iteration is released when the client closes."""
        one, _ = await self.pair()
        sub = await one.subscribe("a")

        async def worker() -> list[bytes]:
            return [msg.data async for msg in sub]

        running = Deferred.fromCoroutine(worker())
        await one.close()
        self.assertEqual(await running, [])

    async def test_too_many_subscriptions(self) -> None:
        """A subscription that the server has no room for fails, and the connection stays."""
        client = await self.connect(await self.server({"max_subscriptions": 1}))
        await client.subscribe("a")
        with self.assertRaises(errors.MaxSubscriptionsExceededError):
            await client.subscribe("b")
        await client.flush()
