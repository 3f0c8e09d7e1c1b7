"""What ``sse`` routes are made of: events on the wire, filters, clients and their bounds, hubs and their number, the keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.activity import RouteActivity
from pynats_twisted.bridge.metrics import BridgeMetrics
from pynats_twisted.bridge.routes.sse import factory
from pynats_twisted.bridge.sse_client import SSEClient
from pynats_twisted.bridge.sse_events import (
    EventId,
    EventMaker,
    EventTemplate,
    epoch_of,
    parse_event_id,
    reset_event,
    retry_field,
)
from pynats_twisted.bridge.sse_filter import FilterTemplate, wildcard_values
from pynats_twisted.bridge.sse_hub import LINGER, Hub, Hubs
from pynats_twisted.bridge.sse_stream_hub import RING_EVENTS, StreamHub
from pynats_twisted.errors import TemplateError, TemplateValueError
from pynats_twisted.jetstream.stored import StoredMsg
from pynats_twisted.protocol.subjects import matches
from tests.bridge.http_support import config_problems

EPOCH = "abcdef"


def parse(data: bytes) -> list[dict[str, list[str]]]:
    """The blocks of a stream, each as its fields."""
    blocks: list[dict[str, list[str]]] = [{}]
    # The only line ends there are, for a browser.
    for line in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode("utf-8").split("\n"):
        if not line:
            blocks.append({})
        else:
            name, _, value = line.partition(":")
            blocks[-1].setdefault(name, []).append(value.removeprefix(" "))
    return [block for block in blocks if block]


def stored(data: bytes, subject: str = "chat.a.x") -> StoredMsg:
    return StoredMsg(subject, 7, data, b"", datetime(2026, 1, 2, tzinfo=timezone.utc))


class EventTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.unusable = 0

    def count(self) -> None:
        self.unusable += 1

    def make(self, data: bytes, format: Any = "raw", event: str | None = None, pattern: str = "chat.a.>") -> list[dict[str, list[str]]]:
        template = EventTemplate(event) if event is not None else None
        return parse(EventMaker(pattern, format, template, [], self.count).of_stored(EPOCH, stored(data)))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever a payload holds, it is the data of one event and nothing else; all ends of lines are one."""
        block = self.make(text.encode())
        self.assertEqual(len(block), 1)
        self.assertEqual(set(block[0]), {"id", "data"})
        self.assertEqual("\n".join(block[0]["data"]), text.replace("\r\n", "\n").replace("\r", "\n"))

    @given(st.binary())
    def test_any_bytes(self, data: bytes) -> None:
        """Nor do bytes that are no text become anything else, in either format."""
        for format in ("raw", "json"):
            block = self.make(data, format)
            self.assertEqual((len(block), block[0]["id"]), (1, [f"{EPOCH}-7"]))
            self.assertLessEqual(set(block[0]), {"id", "data", "event"})

    def test_names(self) -> None:
        """The name of an event is made of the subject."""
        self.assertEqual(self.make(b"", event="new {1} of {subject}")[0]["event"], ["new x of chat.a.x"])
        self.assertEqual(self.make(b"", event="{2}-{1}", pattern="*.a.*")[0]["event"], ["x-chat"])
        for bad in ("", "a\nb", "{0}", "{room}", "{", "}{", "{subject", "\u2028"):
            with self.assertRaises(TemplateError):
                EventTemplate(bad)
        self.assertEqual((EventTemplate("{3}{1}").wildcards, EventTemplate("{subject}").wildcards), (3, 0))

    def test_ids(self) -> None:
        """Ids are read back as they were written; nothing else is an id."""
        self.assertEqual(parse_event_id(str(EventId("abc234", 17))), EventId("abc234", 17))
        for text in (
            "",
            "abc234",
            "abc234-",
            "abc234-01",
            "abc234--1",
            "abc23-1",
            "ABC234-1",
            "abc234-1 ",
            "abc234-1\n",
            "abc234-" + "9" * 20,
        ):
            self.assertIsNone(parse_event_id(text), text)

    def test_epochs(self) -> None:
        """The epoch tells a stream from one of the same name that was made later, and is the same each time."""
        made = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
        epochs = {epoch_of("CHAT", made), epoch_of("CHAT", made.replace(microsecond=7)), epoch_of("OTHER", made)}
        self.assertEqual(len(epochs), 3)
        self.assertEqual(epoch_of("CHAT", made), epoch_of("CHAT", made))
        self.assertTrue(all(parse_event_id(f"{epoch}-1") for epoch in epochs))

    @given(st.text())
    def test_reset(self, requested: str) -> None:
        """Whatever a client asked for, a reset is one event."""
        block = parse(reset_event(requested, EPOCH, 1, 2, EventId(EPOCH, 2)))
        self.assertEqual((len(block), block[0]["event"], block[0]["id"]), (1, ["reset"], [f"{EPOCH}-2"]))

    def test_retry(self) -> None:
        """Times to come back are spread."""
        found = {int(parse(retry_field(2.0, 1.5))[0]["retry"][0]) for _ in range(50)}
        self.assertTrue(all(2000 <= retry <= 3000 for retry in found))
        self.assertGreater(len(found), 10)


class FilterTests(SynchronousTestCase):
    def test_good(self) -> None:
        """Filters have wildcards of their own, and values are put in as single tokens."""
        template = FilterTemplate("chat.{room}.*.>")
        self.assertEqual(template.expand({"room": "a"}), "chat.a.*.>")
        self.assertEqual(template.pattern, "chat.*.*.>")
        self.assertEqual(FilterTemplate(">").expand({}), ">")
        self.assertEqual(FilterTemplate("$KV.cfg.{key}").expand({"key": "a"}), "$KV.cfg.a")

    def test_bad(self) -> None:
        """A placeholder at the beginning, a wildcard within a token, and what is no subject are refused."""
        for bad in ("{room}.>", "a.>.b", "a.*b", "a.b>", "a..b", "a b", "a.{x}*", "", "a." + "b" * 1100):
            with self.assertRaises(TemplateError, msg=bad):
                FilterTemplate(bad)

    def test_core(self) -> None:
        """Outside of streams a filter does not begin with what reaches everything."""
        for bad in (">", "*.a", "$SYS.>", "_INBOX.>"):
            with self.assertRaises(TemplateError):
                FilterTemplate(bad).check_core()
        FilterTemplate("a.>").check_core()

    @given(st.text(max_size=20))
    def test_values_never_widen(self, value: str) -> None:
        """Whatever a value is, the filter stays within what the configuration says."""
        for encoding in ("strict", "percent"):
            try:
                found = FilterTemplate("chat.{room}.>", encoding).expand({"room": value})  # type: ignore[arg-type]
            except TemplateValueError:
                continue
            tokens = found.split(".")
            self.assertEqual((len(tokens), tokens[0], tokens[2]), (3, "chat", ">"))
            self.assertNotIn(tokens[1], ("*", ">", ""))

    def test_wildcard_values(self) -> None:
        """What wildcards stand for."""
        self.assertEqual(wildcard_values("a.*.>", "a.b.c.d"), ["b", "c.d"])
        self.assertEqual(wildcard_values("a.b", "a.b"), [])
        self.assertTrue(matches("a.*.>", "a.b.c.d"))


class FakeStream:
    """The body of a response; the test says when it is blocked."""

    def __init__(self) -> None:
        self.is_blocked = False
        self.data = b""
        self.is_ended = False
        self._ready: Callable[[], None] = lambda: None

    def when_ready(self, ready: Callable[[], None]) -> None:
        self._ready = ready

    def write(self, data: bytes) -> None:
        self.data += data

    def end(self) -> None:
        self.is_ended = True

    def unblock(self) -> None:
        self.is_blocked = False
        self._ready()


class ClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = BridgeMetrics("edge", process=False)
        self.route = self.metrics.route("live", "sse")
        self.stream = FakeStream()
        self.slow: list[SSEClient] = []

    def make(self, is_stored: bool = True, buffer: int = 10) -> SSEClient:
        stream: Any = self.stream
        return SSEClient(stream, self.route, buffer, None, 0.0, is_stored=is_stored, too_slow=self.slow.append)

    def queued(self) -> float:
        return self.metrics.registry.get_sample_value("nats_bridge_queue_bytes", {"route": "live", "type": "sse"}) or 0.0

    def test_nothing_twice(self) -> None:
        """What a client has it does not get again."""
        client = self.make()
        client.last = 5
        for seq in (4, 5, 6, 6, 7):
            client.push(seq, b"%d" % seq)
        self.assertEqual((self.stream.data, client.last), (b"67", 7))

    def test_order(self) -> None:
        """What waits comes before what is new."""
        client = self.make()
        self.stream.is_blocked = True
        client.push(1, b"1")
        client.push(2, b"2")
        drained = client.drained()
        self.assertNoResult(drained)
        self.assertEqual((self.stream.data, client.queued, self.queued()), (b"", 2, 2))
        self.stream.unblock()
        client.push(3, b"3")
        self.successResultOf(drained)
        self.assertEqual((self.stream.data, client.queued, self.queued()), (b"123", 0, 0))

    def test_too_slow(self) -> None:
        """More than buffer bytes do not wait for a client of a stream: it is told once that it is too slow."""
        client = self.make()
        self.stream.is_blocked = True
        client.push(1, b"x" * 10)
        self.assertEqual(self.slow, [])
        client.push(2, b"x")
        self.assertEqual((self.slow, client.last), ([client], 1))
        client.end(b"bye")
        self.assertEqual((self.stream.data, self.stream.is_ended, self.queued()), (b"", True, 0))

    def test_a_large_event(self) -> None:
        """An event that is larger than the buffer goes to a client that reads."""
        client = self.make()
        client.push(1, b"x" * 100)
        self.assertEqual((len(self.stream.data), self.slow), (100, []))

    def test_core(self) -> None:
        """For a client of a subject what is too much is dropped, counted, and told in its place."""
        client = self.make(is_stored=False)
        self.stream.is_blocked = True
        client.push(0, b"x" * 10)
        for _ in range(3):
            client.push(0, b"y")
        self.stream.unblock()
        client.push(0, b"z")
        self.assertEqual(self.stream.data, b"x" * 10 + b'event: dropped\ndata: {"count":3}\n\n' + b"z")
        self.assertEqual(self.slow, [])

    def test_waiting_can_be_cancelled(self) -> None:
        """Who waits for a client that goes away is let go."""
        client = self.make()
        self.stream.is_blocked = True
        client.joining = joining = client.drained()
        client.forget()
        self.failureResultOf(joining)


class FakeHub(Hub):
    """A hub that reads nothing."""

    is_running = False

    @property
    def source(self) -> str:
        return "nothing"

    def start(self) -> None:
        self.is_running = True

    def stop(self) -> None:
        self.is_running = False

    def tick(self, now: float) -> None:
        """Nothing to look at."""

    async def _read(self) -> None:
        """Never asked to."""

    def hand_over(self, client: SSEClient) -> bool:
        return True


def hub_arguments(clock: Clock, pattern: str, buffer: int = 1000) -> tuple[Any, ...]:
    maker = EventMaker(pattern, "raw", None, [], lambda: None)
    return clock, "live", pattern, maker, BridgeMetrics("edge", process=False).route("live", "sse"), RouteActivity("live", clock.seconds)


class HubsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.made: list[FakeHub] = []
        self.hubs = Hubs(self.clock, 2, self.make)

    def make(self, pattern: str) -> Hub:
        self.made.append(FakeHub(*hub_arguments(self.clock, pattern)))
        return self.made[-1]

    def test_shared(self) -> None:
        """All users of a filter have the same hub, which ends a while after the last."""
        hub = self.hubs.take("a")
        self.assertIs(self.hubs.take("a"), hub)
        self.hubs.give_back(hub)
        self.hubs.give_back(hub)
        self.clock.advance(LINGER - 1)
        self.assertTrue(self.made[0].is_running)
        self.assertIs(self.hubs.take("a"), hub)
        self.clock.advance(LINGER)
        self.assertTrue(self.made[0].is_running)
        self.hubs.give_back(hub)
        self.clock.advance(LINGER)
        self.assertEqual((self.made[0].is_running, len(self.hubs), self.clock.getDelayedCalls()), (False, 0, []))

    def test_bounded(self) -> None:
        """No more hubs than allowed; one that nobody uses makes room, the longest unused first."""
        first, second = self.hubs.take("a"), self.hubs.take("b")
        self.assertEqual((self.hubs.has_room("c"), self.hubs.has_room("a")), (False, True))
        self.hubs.give_back(second)
        self.clock.advance(1)
        self.hubs.give_back(first)
        self.assertTrue(self.hubs.has_room("c"))
        self.hubs.take("c")
        self.assertEqual([hub.is_running for hub in self.made], [True, False, True])
        self.hubs.stop()
        self.assertEqual(([hub.is_running for hub in self.made], self.clock.getDelayedCalls()), ([False] * 3, []))
        # A user that leaves later does no harm.
        self.hubs.give_back(second)


class RingTests(SynchronousTestCase):
    def setUp(self) -> None:
        source: Any = None
        self.hub = StreamHub(source, 1000, lambda client: None, *hub_arguments(Clock(), ">"))
        self.hub.floor = self.hub.position = 10
        self.stream = FakeStream()
        metrics = BridgeMetrics("edge", process=False).route("live", "sse")
        body: Any = self.stream
        self.client = SSEClient(body, metrics, 1000, None, 0.0, is_stored=True, too_slow=lambda _: self.fail("it is not slow"))

    def fill(self, first: int, last: int, size: int = 3) -> None:
        for seq in range(first, last + 1):
            self.hub._keep(seq, b"%*d" % (size, seq))
            self.hub.position = seq

    def test_joining(self) -> None:
        """A client that has everything below the ring gets the ring, from where it is, and is then one of the hub's."""
        self.fill(11, 20)
        self.client.last = 17
        self.assertTrue(self.hub.hand_over(self.client))
        self.assertEqual((self.stream.data.split(), self.client.last), ([b"18", b"19", b"20"], 20))
        self.assertIn(self.client, self.hub.clients)

    def test_ahead(self) -> None:
        """A client that is ahead of the hub gets nothing of what it has."""
        self.client.last = 25
        self.assertTrue(self.hub.hand_over(self.client))
        self.assertEqual((self.stream.data, self.client.last), (b"", 25))

    def test_bounds(self) -> None:
        """The ring is bounded in events and bytes, and knows from where on it has everything."""
        self.fill(11, 10 + RING_EVENTS + 5, 0)
        self.assertLessEqual(len(self.hub._ring), RING_EVENTS)
        self.assertEqual(self.hub.floor, self.hub._ring[0][0] - 1)
        self.assertLessEqual(sum(len(event) for _, event in self.hub._ring), 1000)

    def test_larger_than_the_ring(self) -> None:
        """An event that does not fit leaves the ring empty, and the floor at it."""
        self.fill(11, 12)
        self.fill(13, 13, 2000)
        self.assertEqual((len(self.hub._ring), self.hub.floor, self.hub.last_matching), (0, 13, 13))

    def test_not_all_at_once(self) -> None:
        """A client gets half a buffer at a time, and the rest when it has read that."""
        self.fill(11, 14, 240)
        self.client.last = 10
        self.assertFalse(self.hub.hand_over(self.client))
        self.assertEqual((self.client.last, self.hub.clients), (12, {}))
        self.assertTrue(self.hub.hand_over(self.client))
        self.assertEqual(self.stream.data.split(), [b"11", b"12", b"13", b"14"])


class ConfigTests(SynchronousTestCase):
    def problems(self, **keys: Any) -> list[tuple[str, str, str]]:
        return config_problems(factory, **{"path": "/live/{room}", "stream": "CHAT", "filter": "chat.{room}.>", **keys})

    def keys(self, **keys: Any) -> list[str]:
        return [key for key, _, _ in self.problems(**keys)]

    def test_good(self) -> None:
        """What the documentation shows is accepted."""
        self.assertEqual(self.problems(), [])
        for start in ("new", "all", "last", "last_per_subject", "5m", "1h"):
            self.assertEqual(self.problems(start=start), [])
        self.assertEqual(config_problems(factory, path="/x", subject="news.>"), [])
        self.assertEqual(self.problems(cors=["*"], rate="5/s", event="{1}", format="json", headers=["X-User"]), [])
        self.assertEqual(self.problems(auth={"jwt": {"secret": "x" * 32, "claims": {"room": "{room}"}}, "cookie": "s"}), [])
        self.assertEqual(self.problems(auth={"request": "auth.live"}), [])

    def test_bad(self) -> None:
        """Each rule that is broken is told at its key."""
        self.assertEqual(self.keys(subject="a.b"), [""])
        self.assertEqual([key for key, _, _ in config_problems(factory, path="/x")], [""])
        self.assertEqual(self.keys(stream="a.b"), ["stream"])
        self.assertEqual(self.keys(filter="chat.{rom}.>"), ["filter"])
        self.assertEqual(self.keys(filter="{room}.>"), ["filter"])
        self.assertEqual(self.keys(filter="a.{header:cookie}"), ["filter"])
        self.assertEqual(self.keys(start="newest"), ["start"])
        self.assertEqual(self.keys(start="0s"), ["start"])
        self.assertEqual(self.keys(event="{2}"), ["event"])
        self.assertEqual(self.keys(event="{x}"), ["event"])
        self.assertEqual(self.keys(headers=["a"]), ["headers"])
        self.assertEqual(self.keys(headers=["a b"], format="json"), ["headers.0"])
        self.assertEqual(self.keys(cors=["app.example"]), ["cors"])
        self.assertEqual(self.keys(rate="often"), ["rate"])
        self.assertEqual(self.keys(heartbeat=0), ["heartbeat"])
        for subject in (">", "*.a", "$SYS.>"):
            self.assertEqual([key for key, _, _ in config_problems(factory, path="/x", subject=subject)], ["subject"])
        found = config_problems(factory, path="/x", subject="a.>", start="all", filter="b.>")
        self.assertEqual([key for key, _, _ in found], ["filter", "start"])

    def test_bad_auth(self) -> None:
        """So are those of auth; no secret is shown."""
        for auth, key in (
            ({}, "auth"),
            ({"cookie": "s", "request": "auth.x"}, "auth.cookie"),
            ({"bearer": "t", "cookie": "a b"}, "auth.cookie"),
            ({"bearer": "t", "query": "last_event_id"}, "auth.query"),
            ({"request": "auth.>"}, "auth.request"),
            ({"request": {"subject": "auth.x", "headers": ["a:b"]}}, "auth.request.headers.0"),
            ({"jwt": {}}, "auth.jwt"),
            ({"jwt": {"secret": "short-secret"}}, "auth.jwt.secret"),
            ({"jwt": {"secret": "x" * 32, "claims": {"room": "{rom}"}}}, "auth.jwt.claims.room"),
            ({"jwt": {"secret": "x" * 32, "claims": {"exp": "1"}}}, "auth.jwt.claims.exp"),
            ({"basic": {"a:b": "pw"}}, "auth.basic"),
        ):
            found = self.problems(auth=auth)
            self.assertEqual([path for path, _, _ in found], [key], auth)
            self.assertNotIn("short-secret", str(found))
