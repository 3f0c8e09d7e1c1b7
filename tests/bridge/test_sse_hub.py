"""The hub of a stream: how it begins, heals, and says what is wrong, in memory."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.bridge.sse_client import SSEClient
from pynats_twisted.bridge.sse_hub import AGAIN
from pynats_twisted.bridge.sse_source import StreamView
from pynats_twisted.bridge.sse_stream_hub import REFRESH, SILENT, StreamHub
from pynats_twisted.errors import RequestTimeoutError, StreamNotFoundError
from pynats_twisted.protocol.headers import Headers
from tests.bridge.test_sse_parts import hub_arguments


class FakeConsumer:
    """An ordered consumer that delivers what the test says."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.resets = 0
        self.name: str | None = "c_1"
        self.num_pending = 0
        self.last_reset = "it was silent"
        self.is_stopped = False
        self.done: Deferred[None] = Deferred()
        self._handler: Callable[[Any], None] = lambda msg: None

    def consume(self, handler: Callable[[Any], None]) -> FakeConsumer:
        self._handler = handler
        return self

    def ready(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self.is_stopped = True
        return succeed(None)

    def deliver(self, *seqs: int) -> None:
        for seq in seqs:
            metadata = SimpleNamespace(stream_seq=seq)
            self._handler(SimpleNamespace(subject="a", data=b"%d" % seq, headers=Headers(), metadata=metadata))


class FakeSource:
    """A stream; the test says what is in it."""

    name = "CHAT"

    def __init__(self) -> None:
        self.state: StreamView | Exception = StreamView("aaaaaa", 1, 10, True)
        self.last = 8
        self.consumers: list[FakeConsumer] = []
        self.views = 0

    def view(self) -> Deferred[StreamView]:
        self.views += 1
        return fail(self.state) if isinstance(self.state, Exception) else succeed(self.state)

    async def last_matching(self, pattern: str) -> int:
        return self.last

    def consumer(self, pattern: str, start: int) -> FakeConsumer:
        self.consumers.append(FakeConsumer(start))
        return self.consumers[-1]

    @property
    def newest(self) -> FakeConsumer:
        return self.consumers[-1]


class Sink:
    """A client that takes everything."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.last = 0

    def push(self, seq: int, event: bytes) -> None:
        self.seqs.append(seq)


class StreamHubTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.source = FakeSource()
        self.anew: list[SSEClient] = []
        source: Any = self.source
        self.hub = StreamHub(source, 1000, self.anew.append, *hub_arguments(self.clock, "a"))

    def start(self) -> Any:
        """The hub with one client."""
        self.hub.start()
        client: Any = Sink()
        self.hub.clients[client] = None
        return client

    def test_begins_behind_what_there_is(self) -> None:
        """It reads behind what the stream has; of that, it knows the last message of its filter."""
        client = self.start()
        self.assertEqual((self.source.newest.start, self.hub.floor, self.hub.position, self.hub.epoch), (11, 8, 10, "aaaaaa"))
        self.successResultOf(self.hub.when_ready())
        self.source.newest.deliver(11, 13)
        self.assertEqual((client.seqs, self.hub.position, self.hub.last_matching), ([11, 13], 13, 13))

    def test_stored_between_two_questions(self) -> None:
        """A message that is stored while the hub begins is not read twice."""
        self.source.last = 12
        self.start()
        self.assertEqual((self.source.newest.start, self.hub.floor, self.hub.position), (13, 12, 12))

    def test_errors(self) -> None:
        """What fails is told and tried again, less and less often; when it works, the problem is gone."""
        self.source.state = StreamNotFoundError(404, 10059, "stream not found")
        self.hub.start()
        ready = self.hub.when_ready()
        self.assertIn("stream CHAT cannot be read", self.hub.problem or "")
        wait = AGAIN[0]
        for _ in range(6):
            views = self.source.views
            self.clock.advance(wait - 0.01)
            self.assertEqual(self.source.views, views)
            self.clock.advance(0.01)
            self.assertEqual(self.source.views, views + 1)
            wait = min(wait * 2, AGAIN[1])
        self.assertNoResult(ready)
        self.source.state = StreamView("aaaaaa", 1, 10, True)
        self.clock.advance(AGAIN[1])
        self.successResultOf(ready)
        self.assertIsNone(self.hub.problem)

    def test_stop(self) -> None:
        """A hub that is stopped leaves neither a consumer nor a call, whether it reads or waits."""
        self.start()
        self.hub.stop()
        self.assertTrue(self.source.newest.is_stopped)
        self.source.state = RequestTimeoutError("late")
        self.hub.start()
        self.hub.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_another_consumer(self) -> None:
        """When the consumer below was lost, nothing is pushed before the stream was looked at; then it goes on where it was."""
        client = self.start()
        first = self.source.newest
        first.deliver(11)
        first.resets += 1
        self.source.state = StreamView("aaaaaa", 1, 12, True)
        first.deliver(12)
        self.assertEqual((client.seqs, first.is_stopped), ([11], True))
        self.assertEqual(self.source.newest.start, 12)
        first.deliver(12)
        self.source.newest.deliver(12)
        self.assertEqual((client.seqs, self.anew), ([11, 12], []))

    def test_another_stream(self) -> None:
        """When it is another stream, or one that has lost its end or what was to come, clients find their places anew."""
        client = self.start()
        for state in (StreamView("bbbbbb", 1, 20, True), StreamView("bbbbbb", 1, 15, True), StreamView("bbbbbb", 18, 20, True)):
            self.hub.clients[client] = None
            self.source.state = state
            self.source.newest.resets += 1
            self.hub.tick(self.clock.seconds())
            self.assertEqual((self.anew, self.hub.clients), ([client], {}))
            self.assertEqual((self.hub.position, self.hub.began), (state.last_seq, state.last_seq))
            self.anew.clear()

    def test_end_of_reading(self) -> None:
        """When reading ends with an error it begins again."""
        self.start()
        self.source.newest.done.errback(StreamNotFoundError(404, 10059, "stream not found"))
        self.assertIn("stream not found", self.hub.problem or "")
        self.clock.advance(AGAIN[0])
        self.assertEqual((len(self.source.consumers), self.hub.problem), (2, None))

    def test_silence(self) -> None:
        """A consumer that cannot be had for a while is a problem, until it is there."""
        self.start()
        self.source.newest.name = None
        self.hub.tick(0.0)
        self.hub.tick(SILENT - 1)
        self.assertIsNone(self.hub.problem)
        self.hub.tick(SILENT)
        self.assertIn("it was silent", self.hub.problem or "")
        self.source.newest.name = "c_2"
        self.hub.tick(SILENT + 1)
        self.assertIsNone(self.hub.problem)

    def test_quiet(self) -> None:
        """While the filter is quiet the position goes on with the stream; not beyond a message that did not come yet."""
        self.start()
        self.source.state = StreamView("aaaaaa", 1, 500, True)
        self.source.last = 499
        self.hub.tick(REFRESH)
        self.assertEqual(self.hub.position, 10)
        self.source.last = 8
        self.hub.tick(REFRESH + 1)
        self.assertEqual(self.hub.position, 10)
        self.hub.tick(2 * REFRESH)
        self.assertEqual((self.hub.position, self.hub.floor), (500, 8))
