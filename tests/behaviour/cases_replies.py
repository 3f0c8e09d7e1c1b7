"""What the client does on a server: requests, headers, and ending in order."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from pynats_twisted import Headers, errors
from pynats_twisted.client import ClientStatus

from .harness import Harness


class RequestCases(Harness):
    """Requests and replies (REQ)."""

    async def pair(self) -> tuple[Any, Any]:
        server = await self.server()
        return await self.connect(server), await self.connect(server)

    async def test_reply(self) -> None:
        """A request gets the reply, an empty one included."""
        one, two = await self.pair()
        await two.subscribe("echo", lambda msg: msg.respond(msg.data))
        self.assertEqual((await one.request("echo", b"hello")).data, b"hello")
        self.assertEqual((await one.request("echo")).data, b"")

    async def test_no_responders(self) -> None:
        """A request that nobody listens to fails at once, with its subject."""
        one, _ = await self.pair()
        begun = self.reactor.seconds()
        with self.assertRaises(errors.NoRespondersError) as raised:
            await one.request("nobody", timeout=5.0)
        self.assertEqual(raised.exception.subject, "nobody")
        self.assertLess(self.reactor.seconds() - begun, 2.0)

    async def test_timeout(self) -> None:
        """A request that is not answered ends in time, and leaves nothing behind."""
        one, two = await self.pair()
        await two.subscribe("mute")
        with self.assertRaises(errors.RequestTimeoutError):
            await one.request("mute", timeout=0.05)
        self.assertEqual(one.requests_in_flight, 0)

    async def test_without_no_responders(self) -> None:
        """A client that does not ask for that answer waits for its time."""
        client = await self.connect(await self.server(), no_responders=False)
        with self.assertRaises(errors.RequestTimeoutError):
            await client.request("nobody", timeout=0.05)

    async def test_second_reply_is_dropped(self) -> None:
        """Of two replies the first counts, the second is counted."""
        one, two = await self.pair()

        def twice(msg: Any) -> None:
            msg.respond(b"1")
            msg.respond(b"2")

        await two.subscribe("twice", twice)
        self.assertEqual((await one.request("twice")).data, b"1")
        await self.eventually(lambda: one.stats.late_replies == 1)

    async def test_many_at_once(self) -> None:
        """Of 500 requests at once each gets its own reply."""
        one, two = await self.pair()
        await two.subscribe("echo", lambda msg: msg.respond(msg.data))
        replies = await gatherResults([one.request("echo", b"%d" % number) for number in range(500)])
        self.assertEqual([reply.data for reply in replies], [b"%d" % number for number in range(500)])

    async def test_cancel(self) -> None:
        """A cancelled request is forgotten; its late reply is dropped."""
        one, two = await self.pair()
        await two.subscribe("echo", lambda msg: msg.respond(msg.data))
        asked = one.request("echo")
        asked.addErrback(lambda failure: None)
        asked.cancel()
        self.assertEqual(one.requests_in_flight, 0)
        self.assertEqual((await one.request("echo", b"next")).data, b"next")

    async def test_request_in_a_handler(self) -> None:
        """A handler may make a request of its own and answer with what it gets."""
        one, two = await self.pair()
        await two.subscribe("inner", lambda msg: msg.respond(b"inner " + msg.data))

        async def outer(msg: Any) -> None:
            await msg.respond((await two.request("inner", msg.data)).data)

        await two.subscribe("outer", outer)
        self.assertEqual((await one.request("outer", b"x")).data, b"inner x")

    async def test_close_fails_requests(self) -> None:
        """Closing fails the requests that wait, at once."""
        one, two = await self.pair()
        await two.subscribe("mute")
        asked = one.request("mute")
        await one.flush()
        await one.close()
        with self.assertRaises(errors.ConnectionClosedError):
            await asked

    async def test_own_inbox_prefix(self) -> None:
        """Replies go where the client wants them."""
        server = await self.server()
        one, two = await self.connect(server, inbox_prefix="my.box"), await self.connect(server)
        replies: list[str] = []

        def handler(msg: Any) -> None:
            replies.append(msg.reply)
            msg.respond(b"ok")

        await two.subscribe("echo", handler)
        await one.request("echo")
        self.assertTrue(replies[0].startswith("my.box."))

    async def test_several_replies(self) -> None:
        """request_many hands out all replies, up to the number that was asked for."""
        one, two = await self.pair()
        for number in range(3):
            await two.subscribe("all", lambda msg, number=number: msg.respond(b"%d" % number))
        self.assertEqual(sorted([msg.data async for msg in one.request_many("all", max_msgs=3)]), [b"0", b"1", b"2"])

    async def test_several_replies_end_by_stall(self) -> None:
        """request_many ends when no other reply comes for a while."""
        one, two = await self.pair()
        await two.subscribe("all", lambda msg: msg.respond(b"x"))
        self.assertEqual([msg.data async for msg in one.request_many("all", stall=0.1)], [b"x"])

    async def test_several_replies_of_nobody(self) -> None:
        """request_many fails when nobody listens."""
        one, _ = await self.pair()
        with self.assertRaises(errors.NoRespondersError):
            [msg async for msg in one.request_many("nobody")]


class ClientHeaderCases(Harness):
    """Headers through a server (HDR)."""

    async def through(self, headers: Any) -> Any:
        client = await self.connect(await self.server())
        sub = await client.subscribe("a")
        await client.publish("a", b"payload", headers=headers)
        msg = await sub.next(2.0)
        self.assertEqual(msg.data, b"payload")
        return msg.headers

    async def test_round_trip(self) -> None:
        """Names keep their case, values their order."""
        headers = await self.through({"A": ["1", "2"], "a": "3", "B": ""})
        self.assertEqual(list(headers.multi_items()), [("A", "1"), ("A", "2"), ("a", "3"), ("B", "")])

    async def test_every_name(self) -> None:
        """Every printable character but the colon may be in a name."""
        name = "".join(map(chr, range(33, 127))).replace(":", "")
        self.assertEqual((await self.through({name: "x"}))[name], "x")

    async def test_text_of_the_world(self) -> None:
        """Values may be any text."""
        self.assertEqual((await self.through({"A": "grüße ✓"}))["A"], "grüße ✓")

    async def test_no_headers(self) -> None:
        """An empty mapping is a message without headers."""
        self.assertEqual(len(await self.through({})), 0)

    async def test_reply_with_headers(self) -> None:
        """A reply may have headers."""
        client = await self.connect(await self.server())
        await client.subscribe("echo", lambda msg: msg.respond(b"", headers=Headers({"Code": msg.headers["Code"]})))
        self.assertEqual((await client.request("echo", headers={"Code": "7"})).headers["Code"], "7")


class EndingCases(Harness):
    """Flush and drain (FLS, DRN)."""

    async def test_flush(self) -> None:
        """A flush is done when the server has got all; rtt is a time."""
        server = await self.server()
        one, two = await self.connect(server), await self.connect(server)
        sub = await two.subscribe("a")
        await one.publish("a", b"x")
        await one.flush()
        self.assertEqual((await sub.next(2.0)).data, b"x")
        self.assertGreaterEqual(await one.rtt(), 0.0)

    async def test_close_sends_what_was_published(self) -> None:
        """What was published before close reaches the server."""
        server = await self.server()
        one, two = await self.connect(server), await self.connect(server)
        sub = await two.subscribe("a")
        await one.publish("a", b"x" * 100_000)
        await one.close()
        self.assertEqual(len((await sub.next(2.0)).data), 100_000)

    async def test_flush_in_a_handler(self) -> None:
        """A handler may flush."""
        client = await self.connect(await self.server())
        done: Deferred[None] = Deferred()

        async def handler(msg: Any) -> None:
            await client.flush()
            done.callback(None)

        await client.subscribe("a", handler)
        await client.publish("a")
        await done

    async def test_drain_a_subscription(self) -> None:
        """All that was sent before the drain is handled, then the subscription is over."""
        client = await self.connect(await self.server())
        got: list[bytes] = []
        sub = await client.subscribe("a", lambda msg: got.append(msg.data))
        for number in range(100):
            await client.publish("a", b"%d" % number)
        await sub.drain()
        self.assertEqual(len(got), 100)
        self.assertTrue(sub.closed)
        await client.publish("a")
        await client.flush()
        self.assertEqual(len(got), 100)

    async def test_drain_the_client(self) -> None:
        """Handlers finish, their replies reach their askers, and the client is closed."""
        server = await self.server()
        one, two = await self.connect(server), await self.connect(server)

        async def slowly(msg: Any) -> None:
            await self.sleep(0.05)
            await msg.respond(b"done")

        await one.subscribe("work", slowly)
        asked = two.request("work")
        await two.flush()
        await one.drain()
        self.assertEqual((await asked).data, b"done")
        self.assertIs(one.status, ClientStatus.CLOSED)

    async def test_drain_refuses_what_is_new(self) -> None:
        """While a client drains, it takes no new subscription."""
        client = await self.connect(await self.server())
        drained = client.drain()
        self.assertRaises(errors.ConnectionDrainingError, client.subscribe, "a")
        await drained

    async def test_drain_waits_for_a_reply(self) -> None:
        """A request in flight still gets its reply."""
        server = await self.server()
        one, two = await self.connect(server), await self.connect(server)

        async def slowly(msg: Any) -> None:
            await self.sleep(0.05)
            await msg.respond(b"done")

        await two.subscribe("work", slowly)
        asked = one.request("work")
        await one.drain()
        self.assertEqual((await asked).data, b"done")

    async def test_drain_in_time(self) -> None:
        """A handler that does not end does not hold up a drain for ever."""
        client = await self.connect(await self.server())
        await client.subscribe("a", lambda msg: Deferred())
        await client.publish("a")
        await client.flush()
        with self.assertRaises(errors.DrainTimeoutError):
            await client.drain(timeout=0.1)
        self.assertIs(client.status, ClientStatus.CLOSED)
