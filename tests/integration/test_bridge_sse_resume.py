"""How clients of ``sse`` routes go on where they were: without gap and without duplicate, or with a reset that says what is lost."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred, gatherResults

from pynats_twisted.bridge import sse_joining
from pynats_twisted.bridge.sse_events import epoch_of
from pynats_twisted.bridge.sse_source import Page
from tests.integration.sse_case import LIVE, Listener, SSECase


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


class ResumeTests(SSECase):
    async def fill(self, first: int, last: int, subject: str = "chat.a.x", payload: bytes = b"") -> None:
        """Messages with the numbers as their payloads."""
        await gatherResults([self.js.publish_async(subject, number.encode() + payload) for number in numbers(first, last)])

    async def epoch(self) -> str:
        """The epoch of the stream, as a client learns it."""
        listener = await self.listen("/live/nobody")
        listener.close()
        return listener.last_id.partition("-")[0]

    async def test_by_header_and_by_url(self) -> None:
        """A client that comes back gets what it has missed, with the header that browsers send or in the URL; the header counts more."""
        await self.start()
        await self.fill(1, 10)
        epoch = await self.epoch()
        await self.got(await self.listen(last_id=f"{epoch}-7"), "8", "9", "10")
        listener = await self.connect_to(f"/live/a?last_event_id={epoch}-8")
        await self.got(listener, "9", "10")
        await self.got(await self.listen(f"/live/a?last_event_id={epoch}-1", last_id=f"{epoch}-9"), "10")
        nothing = await self.listen(last_id=f"{epoch}-10")
        await self.fill(11, 11)
        await self.got(nothing, "11")
        self.assertEqual((self.count("sse_resumes_total", result="ok"), self.count("sse_resumes_total", result="reset")), (4, 0))

    async def test_before_the_first_event(self) -> None:
        """A client that went away before any event misses nothing either: it has got an id at once."""
        await self.start()
        await self.fill(1, 3)
        listener = await self.listen()
        self.assertEqual(listener.events, [])
        listener.close()
        await self.fill(4, 5)
        await self.got(await self.listen(last_id=listener.last_id), "4", "5")

    async def test_other_filter(self) -> None:
        """Ids are those of the stream: a client may come back to another path."""
        await self.start()
        listener = await self.listen()
        await self.fill(1, 1)
        await self.got(listener, "1")
        await self.publish(b"b", subject="chat.b.x")
        await self.got(await self.listen("/live/b", last_id=listener.last_id), "b")

    async def test_long_way(self) -> None:
        """Thousands of messages that were missed come in order, while others are published; then all joins what is new."""
        await self.start()
        await self.fill(1, 3000)
        epoch = await self.epoch()
        is_over = False

        async def go_on() -> int:
            number = 3000
            while not is_over:
                number += 1
                await self.js.publish("chat.a.x", str(number).encode())
            return number

        publishing = Deferred.fromCoroutine(go_on())
        listeners = [await self.listen(last_id=f"{epoch}-{seq}") for seq in (0, 1000, 2990)]
        await self.until(lambda: all(len(listener.data) > 600 for listener in listeners))
        is_over = True
        last = await publishing
        for listener, seq in zip(listeners, (0, 1000, 2990), strict=True):
            await self.got(listener, *numbers(seq + 1, last))

    async def test_large_messages(self) -> None:
        """Messages larger than the buffer come through, to a client that reads."""
        await self.start('buffer = "16KiB"')
        await self.fill(1, 20, payload=b"x" * 100_000)
        epoch = await self.epoch()
        listener = await self.listen(last_id=f"{epoch}-0")
        await self.fill(21, 22, payload=b"x" * 100_000)
        await self.until(lambda: len(listener.data) == 22)
        self.assertEqual([data.rstrip("x") for data in listener.data], numbers(1, 22))

    async def test_without_direct_gets(self) -> None:
        """Streams without allow_direct do as well."""
        await self.start(allow_direct=False)
        await self.fill(1, 500)
        epoch = await self.epoch()
        listener = await self.listen(last_id=f"{epoch}-100")
        await self.fill(501, 510)
        await self.got(listener, *numbers(101, 510))
        stream = await self.js.stream("CHAT")
        while (await stream.info()).state.consumer_count > 2:
            await self.sleep(0.02)

    async def test_direct_gets_are_not_permitted(self) -> None:
        """Where the bridge may not use direct gets, it does without them."""
        user = {"user": "bridge", "password": "pw", "permissions": {"publish": {"deny": ["$JS.API.DIRECT.>"]}}}
        users = [user, {"user": "test", "password": "pw"}]
        self.server = await self.start_server({"authorization": {"users": users}}, jetstream=True)
        self.nc = await self.connect(self.server, user="test", password="pw")
        self.js = self.nc.jetstream()
        await self.make_stream()
        await self.fill(1, 300)
        with patch.object(type(self.server), "url", self.server.url.replace("//", "//bridge:pw@")):
            await self.start_bridge()
        epoch = await self.epoch()
        await self.got(await self.listen(last_id=f"{epoch}-0"), *numbers(1, 300))

    async def test_server_that_lags(self) -> None:
        """A server that answers a direct get without the newest messages makes no gap: it is asked again, and then done without."""
        await self.start()
        await self.fill(1, 50)
        epoch = await self.epoch()
        asked = 0

        async def lag(pages: Any, last: int) -> Page:
            nonlocal asked
            asked += 1
            page: Page = await read(pages, last)
            return Page([event for event in page.events if event[0] <= 20], True)

        read = sse_joining.DirectPages.read
        with patch.object(sse_joining, "BEHIND", (0.01, 3)), patch.object(sse_joining.DirectPages, "read", lag):
            listener = await self.listen(last_id=f"{epoch}-10")
            await self.got(listener, *numbers(11, 50))
        self.assertGreater(asked, 3)

    async def test_messages_that_were_deleted(self) -> None:
        """Messages that were deleted from the middle of the stream are no loss: the stream is what it is."""
        await self.start()
        await self.fill(1, 10)
        stream = await self.js.stream("CHAT")
        for seq in (9, 10):
            await stream.delete_msg(seq)
        epoch = await self.epoch()
        listener = await self.listen(last_id=f"{epoch}-5")
        await self.got(listener, "6", "7", "8")
        await self.fill(11, 11)
        await self.got(listener, "6", "7", "8", "11")

    async def test_newest_is_deleted_after_the_hub_began(self) -> None:
        """A message that the hub knew of and that is gone holds nobody up."""
        await self.start()
        await self.fill(1, 10)
        keeper = await self.listen()
        await (await self.js.stream("CHAT")).delete_msg(10)
        epoch = keeper.last_id.partition("-")[0]
        listener = await self.listen(last_id=f"{epoch}-8")
        await self.fill(11, 11)
        await self.got(listener, "9", "11")

    async def test_another_bridge_is_ahead(self) -> None:
        """An id that this bridge has not come to yet, from another one on the same stream, is good: nothing comes twice."""
        await self.start()
        keeper = await self.listen()
        await self.fill(1, 3)
        await self.got(keeper, "1", "2", "3")
        hub: Any = self.route.hubs()[0]
        # As if the third had not come here yet.
        hub.position, hub._ring = 2, type(hub._ring)(list(hub._ring)[:2])
        listener = await self.listen(last_id=keeper.last_id)
        await self.until(lambda: self.count("sse_resumes_total", result="ok") == 1)
        await self.fill(4, 4)
        await self.got(listener, "4")


class ResetTests(SSECase):
    async def reset_of(self, last_id: str) -> Listener:
        """A client that was told that something is lost."""
        listener = await self.listen(last_id=last_id)
        await self.until(lambda: listener.named("reset"))
        self.assertEqual(listener.events[0].name, "reset")
        return listener

    async def started(self, keys: str = "", count: int = 10) -> str:
        await self.start(keys)
        await self.publish(*[str(number).encode() for number in range(1, count + 1)])
        listener = await self.listen("/live/nobody")
        return listener.last_id.partition("-")[0]

    async def test_too_old(self) -> None:
        """An id from before the beginning of the stream: reset, with what there is; the id of the reset is good."""
        epoch = await self.started()
        await (await self.js.stream("CHAT")).purge(seq=6)
        listener = await self.reset_of(f"{epoch}-4")
        self.assertEqual(listener.events[0].json, {"requested": f"{epoch}-4", "first": f"{epoch}-6", "last": f"{epoch}-10"})
        self.assertEqual(listener.last_id, f"{epoch}-10")
        await self.publish(b"11")
        await self.got(listener, "11")
        await self.got(await self.listen(last_id=f"{epoch}-5"), *numbers(6, 11))
        self.assertEqual((self.count("sse_resumes_total", result="reset"), self.count("sse_resumes_total", result="ok")), (1, 1))

    async def test_all_is_gone(self) -> None:
        """An id from before a purge that left nothing, told by a bridge that has not seen the messages: reset; the last id is good."""
        await self.start_stream()
        await self.publish(b"1", b"2", b"3")
        stream = await self.js.stream("CHAT")
        await stream.purge()
        await self.start_bridge()
        epoch = epoch_of("CHAT", (await stream.info()).created)
        listeners = [await self.reset_of(f"{epoch}-1"), await self.listen(last_id=f"{epoch}-3")]
        await self.publish(b"4")
        for listener in listeners:
            await self.got(listener, "4")
        self.assertEqual((self.count("sse_resumes_total", result="reset"), self.count("sse_resumes_total", result="ok")), (1, 1))

    async def test_too_much(self) -> None:
        """More than max_replay messages were missed: reset. So many are no problem."""
        epoch = await self.started("max_replay = 200", 300)
        await self.got(await self.listen(last_id=f"{epoch}-100"), *numbers(101, 300))
        await self.reset_of(f"{epoch}-99")

    async def test_other_ids(self) -> None:
        """Another epoch, a sequence that never was, and what is no id at all: reset. Nothing strange is repeated."""
        epoch = await self.started()
        for last_id in ("abcdef-3", f"{epoch}-11", f"{epoch}-99999999999999999999", f"{epoch}--1", "7"):
            listener = await self.reset_of(last_id)
            self.assertEqual(listener.events[0].json["requested"], last_id)
            self.assertEqual(listener.last_id, f"{epoch}-10")
            listener.close()
        for last_id in ("\x0bevil: 1", "x" * 65, "a b"):
            listener = await self.reset_of(last_id)
            self.assertEqual(listener.events[0].json["requested"], None)
            listener.close()

    async def test_lost_on_the_way(self) -> None:
        """What the stream drops while a client is being given it is told, too."""
        epoch = await self.started("max_replay = 10000", 2000)
        read = sse_joining.DirectPages.read
        pages = 0

        async def slowly(of: Any, last: int) -> Page:
            nonlocal pages
            pages += 1
            if pages == 3:
                await (await self.js.stream("CHAT")).purge(seq=1900)
            page: Page = await read(of, last)
            return page

        with patch.object(sse_joining.DirectPages, "read", slowly):
            listener = await self.listen(last_id=f"{epoch}-0")
            await self.until(lambda: listener.named("reset"))
        self.assertEqual(listener.data, numbers(1, 256))
        self.assertEqual(listener.named("reset")[0].json["requested"], f"{epoch}-256")
        await self.publish(b"2001")
        await self.got(listener, *numbers(1, 256), "2001")

    async def test_lost_while_reading_was_interrupted(self) -> None:
        """What the stream drops while its consumer is lost, or NATS is out of reach, is told to those that listen."""
        await self.start()
        listener, quiet = await self.listen(), await self.listen("/live/b")
        await self.publish(b"1")
        await self.got(listener, "1")
        hub: Any = self.route.hubs()[0]
        # Nothing comes, for as long as this takes.
        with patch.object(hub, "_deliver", lambda *_: None):
            await self.publish(b"2", b"3", b"4")
            await (await self.js.stream("CHAT")).purge(seq=4)
        hub._interrupt()
        await self.until(lambda: listener.named("reset"))
        self.assertEqual(quiet.events, [])
        await self.publish(b"5")
        await self.got(listener, "1", "5")

    async def test_then_from_start(self) -> None:
        """After a reset a client goes on from start."""
        epoch = await self.started('start = "all"')
        await (await self.js.stream("CHAT")).purge(seq=6)
        listener = await self.reset_of(f"{epoch}-2")
        await self.got(listener, *numbers(6, 10))


class StartTests(SSECase):
    async def beginning(self, start: str, keys: str = "", **stream: Any) -> Listener:
        """A client without an id, of a stream with ten messages of two subjects."""
        await self.start_stream(**stream)
        for number in range(1, 11):
            await self.publish(str(number).encode(), subject=f"chat.a.{'even' if number % 2 == 0 else 'odd'}")
        await self.publish(b"other", subject="chat.b.x")
        await self.start_bridge(f'start = "{start}"\n{keys}')
        return await self.connect_to()

    async def check(self, listener: Listener, *expected: str) -> None:
        """What comes first, and then what is new, without a gap; and what a client gets that comes back from the middle."""
        await self.until(lambda: len(listener.data) >= len(expected) and self.joined() == 1)
        await self.publish(b"11", b"12")
        await self.got(listener, *expected, "11", "12")
        again = await self.listen(last_id=listener.events[-2].id)
        await self.got(again, "12")

    async def test_new(self) -> None:
        """start = "new": only what comes later."""
        await self.check(await self.beginning("new"))

    async def test_all(self) -> None:
        """start = "all": all that is there."""
        await self.check(await self.beginning("all"), *numbers(1, 10))

    async def test_last(self) -> None:
        """start = "last": the last message."""
        await self.check(await self.beginning("last"), "10")

    async def test_last_per_subject(self) -> None:
        """start = "last_per_subject": the last message of each subject, in order."""
        await self.check(await self.beginning("last_per_subject"), "9", "10")

    async def test_last_per_subject_of_what_came_meanwhile(self) -> None:
        """The same where others have listened to all of it already; also with many subjects."""
        await self.start('start = "last_per_subject"')
        keeper = await self.connect_to()
        await self.until(lambda: self.joined() == 1)
        for turn in range(2):
            for number in range(40):
                await self.publish(b"%d" % (turn * 40 + number), subject=f"chat.a.{number}")
        await self.got(keeper, *numbers(0, 79))
        listener = await self.connect_to()
        await self.until(lambda: self.joined() == 2)
        await self.publish(b"80")
        await self.got(listener, *numbers(40, 80))

    async def test_time(self) -> None:
        """start = "5m": what is not older; here all."""
        await self.check(await self.beginning("5m"), *numbers(1, 10))

    async def test_time_that_nothing_is_of(self) -> None:
        """start = "1ms": nothing is so new."""
        await self.check(await self.beginning("1ms"))

    async def test_no_more_than_max_replay(self) -> None:
        """Of what start would bring, the newest max_replay messages of the filter come."""
        await self.check(await self.beginning("all", "max_replay = 4"), *numbers(7, 10))

    async def test_time_no_more_than_max_replay(self) -> None:
        """The same for a time."""
        await self.check(await self.beginning("5m", "max_replay = 4"), *numbers(7, 10))

    async def test_last_per_subject_no_more_than_max_replay(self) -> None:
        """And for the last of each subject."""
        await self.check(await self.beginning("last_per_subject", "max_replay = 1"), "10")

    async def test_all_without_direct_gets(self) -> None:
        """All of it without direct gets."""
        await self.check(await self.beginning("all", allow_direct=False), *numbers(1, 10))

    async def test_time_without_direct_gets(self) -> None:
        """A time without direct gets."""
        await self.check(await self.beginning("5m", "max_replay = 4", allow_direct=False), *numbers(7, 10))

    async def test_empty_stream(self) -> None:
        """Every start works on a stream without a message."""
        await self.start_stream()
        route = "".join(
            LIVE.replace("live]", f"live{index}]").replace("/live/", f"/live{index}/") + f'start = "{start}"\n'
            for index, start in enumerate(("new", "all", "last", "last_per_subject", "5m"))
        )
        await self.start_bridge("", route)
        listeners = [await self.connect_to(f"/live{index}/a") for index in range(5)]
        routes: list[Any] = list(self.bridge.routes.values())
        await self.until(lambda: sum(len(hub.clients) for route in routes for hub in route.hubs()) == 5)
        await self.publish(b"1")
        for listener in listeners:
            await self.got(listener, "1")
