"""``sse`` routes with a real server and real sockets: what clients get, how they are kept, and how they are let go."""

from __future__ import annotations

import base64
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred

from pynats_twisted.bridge import sse_stream_hub
from pynats_twisted.bridge.sse_events import epoch_of
from tests.integration.sse_case import Event, Listener, SSECase

CORE = """
[routes.live]
type = "sse"
listen = "public"
path = "/live/{room}"
subject = "live.{room}.>"
"""


class LiveTests(SSECase):
    async def test_messages_reach_all_who_listen(self) -> None:
        """Every client of a path gets the messages of its filter, with ids; all of one filter share one consumer."""
        await self.start()
        one, other, elsewhere = await self.listen(), await self.listen(), await self.listen("/live/b")
        await self.publish(b"hello", "grüß dich".encode(), b"")
        for listener in (one, other):
            await self.got(listener, "hello", "grüß dich", "")
        info = await (await self.js.stream("CHAT")).info()
        epoch = epoch_of("CHAT", info.created)
        self.assertEqual([event.id for event in one.events], [f"{epoch}-1", f"{epoch}-2", f"{epoch}-3"])
        self.assertEqual(info.state.consumer_count, 2)
        self.assertEqual(elsewhere.events, [])
        self.assertEqual(one.headers["content-type"], "text/event-stream")
        self.assertEqual((one.headers["cache-control"], one.headers["x-accel-buffering"]), ("no-store", "no"))
        self.assertNotIn("content-length", one.headers)
        self.assertTrue(2000 <= one.retries[0] <= 3000, one.retries)
        self.assertEqual((self.count("sse_clients"), self.count("messages_in_total"), self.count("messages_out_total")), (3, 3, 6))

    async def test_lines_of_a_payload(self) -> None:
        """A payload of several lines is one event with several lines of data; nothing in it becomes a field of its own."""
        await self.start()
        listener = await self.listen()
        await self.publish(b"one\ntwo\r\nthree\rid: 7\n\nevent: x\n: no\n")
        await self.got(listener, "one\ntwo\nthree\nid: 7\n\nevent: x\n: no\n")
        self.assertEqual((listener.events[0].name, listener.comments), ("message", 0))

    async def test_not_utf_8(self) -> None:
        """A payload that is not UTF-8 is an error event in its place and counted; the client goes on behind it."""
        await self.start()
        listener = await self.listen()
        await self.publish(b"a", b"\xff\xfe", b"b")
        await self.until(lambda: len(listener.events) == 3)
        self.assertEqual([event.name for event in listener.events], ["message", "error", "message"])
        self.assertEqual(listener.events[1].json, {"reason": "not-utf-8"})
        self.assertEqual(self.count("messages_dropped_total", reason="not-utf-8"), 1)
        again = await self.listen(last_id=listener.events[1].id)
        await self.got(again, "b")

    async def test_json(self) -> None:
        """With format = "json": subject, sequence, time, listed headers, and the payload, in base64 where it is no text."""
        await self.start('format = "json"\nheaders = ["x-user", "Absent"]')
        listener = await self.listen()
        await self.js.publish("chat.a.x", b"hi\n", headers={"X-User": ["ann", "bob"], "X-Secret": "s"})
        await self.js.publish("chat.a.y", b"\xff")
        await self.until(lambda: len(listener.events) == 2)
        first, second = (event.json for event in listener.events)
        self.assertEqual({key: first[key] for key in ("subject", "seq", "data")}, {"subject": "chat.a.x", "seq": 1, "data": "hi\n"})
        self.assertEqual(first["headers"], {"x-user": ["ann", "bob"]})
        self.assertRegex(first["time"], r"^2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual((base64.b64decode(second["data"]), second["encoding"]), (b"\xff", "base64"))
        # From the past it is the same, byte by byte.
        again = await self.listen(last_id=listener.events[0].id.rpartition("-")[0] + "-0")
        await self.until(lambda: len(again.events) == 2)
        self.assertEqual(again.events, listener.events)

    async def test_event_names(self) -> None:
        """With event, browsers can listen for names: of the wildcards of the filter, or of the subject."""
        await self.start('event = "{1}/{2}"', LIVE_WILD)
        listener = await self.listen("/live")
        await self.js.publish("chat.a.x.y", b"1")
        await self.until(lambda: listener.events)
        self.assertEqual(listener.events[0].name, "a/x.y")

    async def test_heartbeats(self) -> None:
        """A client that gets nothing else gets comments, and none of them is an event."""
        await self.start('heartbeat = "100ms"')
        listener = await self.listen()
        await self.until(lambda: listener.comments >= 3)
        self.assertEqual(listener.events, [])

    async def test_quiet_filter_in_a_busy_stream(self) -> None:
        """The id of a client whose filter is quiet goes on with the stream, so that it does not fall off its beginning."""
        self.patch_refresh(0.1)
        await self.start('heartbeat = "100ms"')
        listener = await self.listen()
        epoch = listener.last_id.partition("-")[0]
        last = await self.publish(*[b"x"] * 20, subject="chat.b.x")
        await self.until(lambda: listener.last_id == f"{epoch}-{last}", what="the id to go on")
        await (await self.js.stream("CHAT")).purge()
        again = await self.listen(last_id=listener.last_id)
        await self.publish(b"now")
        await self.got(again, "now")
        await self.got(listener, "now")
        self.assertEqual(self.count("sse_resumes_total", result="reset"), 0)

    def patch_refresh(self, seconds: float) -> None:
        patched = patch.object(sse_stream_hub, "REFRESH", seconds)
        patched.start()
        self.addCleanup(patched.stop)

    async def test_hub_is_closed_after_the_last_client(self) -> None:
        """The consumer of a filter is deleted a while after its last client, and not at once."""
        with patch("pynats_twisted.bridge.sse_hub.LINGER", 0.3):
            await self.start()
            listener = await self.listen()
            listener.close()
            await self.until(lambda: self.count("sse_clients") == 0)
            stream = await self.js.stream("CHAT")
            self.assertEqual((await stream.info()).state.consumer_count, 1)
            while (await stream.info()).state.consumer_count:
                await self.sleep(0.05)
        again = await self.listen()
        await self.publish(b"again")
        await self.got(again, "again")

    async def test_max_duration(self) -> None:
        """After max_duration a client is told to come back, with a time of its own, and misses nothing."""
        await self.start('max_duration = "500ms"')
        listener = await self.listen()
        await self.publish(b"1")
        await listener.ended
        self.assertEqual(len(listener.retries), 2)
        await self.publish(b"2")
        await self.got(await self.listen(last_id=listener.last_id), "2")

    async def test_stop(self) -> None:
        """When the bridge stops, clients are told to come back at different times, and those that come are refused or not let in."""
        await self.start()
        listeners = [await self.listen() for _ in range(8)]
        stopped = self.bridge.stopService()
        for listener in listeners:
            await listener.ended
        await stopped
        last = {listener.retries[-1] for listener in listeners}
        self.assertGreater(len(last), 4, last)
        self.assertTrue(all(2000 <= retry <= 10000 for retry in last), last)
        self.assertTrue(all(len(listener.retries) == 2 for listener in listeners))
        stream = await self.js.stream("CHAT")
        while (await stream.info()).state.consumer_count:
            await self.sleep(0.02)

    async def test_pause(self) -> None:
        """While the route is paused clients stay and get nothing; when it goes on they get what came meanwhile."""
        await self.start('heartbeat = "100ms"')
        listener = await self.listen()
        await self.publish(b"1")
        await self.got(listener, "1")
        self.route.pause()
        await self.publish(b"2", b"3")
        late = await self.connect_to(last_id=listener.last_id)
        await self.until(lambda: listener.comments > 2 and late.comments > 2)
        self.assertEqual((listener.data, late.data), (["1"], []))
        self.route.resume()
        await self.publish(b"4")
        await self.got(listener, "1", "2", "3", "4")
        await self.got(late, "2", "3", "4")

    async def test_description(self) -> None:
        """The route says what it does, how many listen, and how to try it."""
        await self.start()
        await self.listen()
        described = self.route.describe()
        self.assertEqual((described.source, described.target), ("CHAT: chat.{room}.>", "GET /live/{room}"))
        self.assertEqual(described.state, {"clients": "1", "filters": "1"})
        self.assertEqual(
            [command for _, command in described.commands], [f"curl -sN http://127.0.0.1:{self.port}/live/x", "nats pub chat.x.x hello"]
        )


LIVE_WILD = """
[routes.live]
type = "sse"
listen = "public"
path = "/live"
stream = "CHAT"
filter = "chat.*.>"
"""


class FaultTests(SSECase):
    async def test_server_restarts(self) -> None:
        """When the NATS server goes and comes back, clients stay, and miss nothing and get nothing twice."""
        await self.start()
        listener = await self.listen()
        await self.publish(b"1")
        await self.got(listener, "1")
        await self.server.kill()
        await self.until(lambda: self.bridge.problems())
        await self.server.start()
        await self.nc.when_connected()
        await self.publish(b"2")
        await self.got(listener, "1", "2")
        self.assertFalse(listener.closed)

    async def test_client_comes_while_nats_is_down(self) -> None:
        """A browser does not come back after an error, so it is kept until NATS is there, and then gets what it has missed."""
        await self.start('heartbeat = "100ms"')
        listener = await self.listen()
        await self.publish(b"1", b"2")
        await self.got(listener, "1", "2")
        await self.server.kill()
        await self.until(lambda: self.bridge.problems())
        back, new = await self.connect_to(last_id=listener.events[0].id), await self.connect_to("/live/b")
        await self.until(lambda: back.comments and new.comments)
        await self.server.start()
        await self.got(back, "2")
        await self.until(lambda: new.last_id)
        await self.publish(b"3", subject="chat.b.x")
        await self.got(new, "3")

    async def test_stream_is_made_anew(self) -> None:
        """When the stream is deleted and made anew, clients that listen get a reset, and then what is new."""
        await self.start()
        listener = await self.listen()
        await self.publish(b"1", b"2", b"3")
        await self.got(listener, "1", "2", "3")
        last = listener.last_id
        await self.js.delete_stream("CHAT")
        await self.until(lambda: any("CHAT" in problem for problem in self.bridge.problems()), what="the problem to be told")
        await self.make_stream()
        await self.until(lambda: listener.named("reset"))
        reset = listener.named("reset")[0]
        epoch = reset.id.partition("-")[0]
        self.assertNotEqual(epoch, last.partition("-")[0])
        self.assertEqual(reset.json, {"requested": last, "first": f"{epoch}-1", "last": f"{epoch}-0"})
        await self.publish(b"new")
        await self.got(listener, "1", "2", "3", "new")
        self.assertEqual(self.bridge.problems(), [])

    async def test_stream_is_made_anew_and_filled(self) -> None:
        """A stream that is made anew and is as long as the old one at once is noticed, too."""
        await self.start()
        listener = await self.listen()
        await self.publish(b"1", b"2", b"3")
        await self.got(listener, "1", "2", "3")
        await self.js.delete_stream("CHAT")
        await self.make_stream()
        await self.publish(b"new 1", b"new 2", b"new 3", b"new 4")
        await self.until(lambda: listener.named("reset"))
        await self.publish(b"new 5")
        await self.until(lambda: "new 5" in listener.data)
        self.assertEqual(len(listener.named("reset")), 1)

    async def test_stream_that_is_not_there_yet(self) -> None:
        """Without the stream the route says so, and clients wait for it."""
        self.server = await self.start_server(jetstream=True)
        self.nc = await self.connect(self.server)
        self.js = self.nc.jetstream()
        await self.start_bridge()
        listener = await self.connect_to()
        await self.until(lambda: self.bridge.problems())
        self.assertIn("stream CHAT cannot be read", self.bridge.problems()[0])
        await self.make_stream()
        await self.until(lambda: listener.last_id)
        await self.publish(b"1")
        await self.got(listener, "1")

    async def test_consumer_is_deleted(self) -> None:
        """When somebody deletes the consumer of a hub, its clients notice nothing."""
        await self.start()
        listener = await self.listen()
        await self.publish(b"1")
        await self.got(listener, "1")
        stream = await self.js.stream("CHAT")
        async for name in stream.consumer_names():
            await stream.delete_consumer(name)
        await self.publish(b"2", b"3")
        await self.got(listener, "1", "2", "3")


class CoreTests(SSECase):
    async def start_core(self, keys: str = "") -> None:
        self.server = await self.start_server()
        self.nc = await self.connect(self.server)
        await self.start_bridge(keys, CORE)

    async def listen_core(self, **options: Any) -> Listener:
        """A client whose subscription the server has."""
        before = self.joined()
        listener = await self.connect_to(**options)
        await self.until(lambda: self.joined() > before)
        return listener

    async def test_messages(self) -> None:
        """Messages that are stored nowhere come without ids, to all who listen at the moment."""
        await self.start_core()
        one, other = await self.listen_core(), await self.listen_core()
        await self.nc.publish("live.a.x", b"hello")
        await self.nc.publish("live.b.x", b"elsewhere")
        for listener in (one, other):
            await self.got(listener, "hello")
        self.assertEqual(one.events, [Event("hello")])

    async def test_server_restarts(self) -> None:
        """When NATS comes back, so do the messages."""
        await self.start_core()
        listener = await self.listen_core()
        await self.server.kill()
        await self.until(lambda: self.bridge.problems())
        await self.server.start()
        await self.nc.when_connected()
        await self.until(lambda: not self.bridge.problems())

        async def publish() -> None:
            while not listener.events:
                await self.nc.publish("live.a.x", b"back")
                await self.sleep(0.05)

        await Deferred.fromCoroutine(publish())

    async def test_permission(self) -> None:
        """A subject that the bridge may not subscribe to is a problem of the route; the client waits."""
        users = [{"user": "bridge", "password": "pw", "permissions": {"subscribe": ["_INBOX.>", "live.ok.>"]}}]
        self.server = await self.start_server({"authorization": {"users": users}})
        url = self.server.url.replace("//", "//bridge:pw@")
        with patch.object(type(self.server), "url", url):
            await self.start_bridge("", CORE)
        await self.connect_to("/live/secret")
        await self.until(lambda: any("live.secret.>" in problem for problem in self.bridge.problems()))
