"""What event streams read of a JetStream stream: its state, its last message, pages of the past, and a consumer for what comes."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final, NamedTuple

from twisted.internet.defer import Deferred

from pynats_twisted.bridge.sse_events import EventMaker, epoch_of
from pynats_twisted.client.waiting import Waiters
from pynats_twisted.errors import MessageNotFoundError
from pynats_twisted.jetstream.api import DeliverPolicy
from pynats_twisted.jetstream.ordered import OrderedConsumer

if TYPE_CHECKING:
    from pynats_twisted.jetstream.context import JetStreamContext
    from pynats_twisted.jetstream.direct import DirectGet
    from pynats_twisted.jetstream.stream import Stream

PAGE_MSGS: Final = 128
"""Messages of a page."""

FETCH_MSGS: Final = 16
"""Messages of a page that a consumer brings, whose bytes cannot be bounded."""

PAGE_BYTES: Final = 256 * 1024
"""Bytes of a page; a single message may be larger."""

INACTIVE: Final = 30.0
"""Seconds after which the server deletes the consumers of a bridge that was killed."""


class StreamView(NamedTuple):
    """The state of a stream.

    :ivar epoch: which stream it is.
    :ivar first_seq: the sequence of its first message.
    :ivar last_seq: that of the last it ever had.
    :ivar allow_direct: whether direct gets work.
    """

    epoch: str
    first_seq: int
    last_seq: int
    allow_direct: bool


class Page(NamedTuple):
    """Events from the past.

    :ivar events: sequence and event, in order.
    :ivar is_last: nothing was stored behind them, so far as the server that was asked knows.
    """

    events: list[tuple[int, bytes]]
    is_last: bool


class StreamSource:
    """Reads one stream.

    :param js: where it is.
    :param name: its name.
    """

    def __init__(self, js: JetStreamContext, name: str) -> None:
        self._js = js
        self.name = name
        self._stream: Stream | None = None
        self._asking = False
        self._next = Waiters[StreamView]()

    # --- its state -----------------------------------------------------------------------------------------------

    def view(self) -> Deferred[StreamView]:
        """The state as it is at some moment after this call. Many who ask at once cause few requests.

        :raises StreamNotFoundError: there is no such stream.
        """
        waiter = self._next.wait()
        self._ask()
        return waiter

    def _ask(self) -> None:
        if self._asking or not len(self._next):
            return
        # Who comes while this is under way waits for the next one: the answer to this may be older than their question.
        waiting, self._next = self._next, Waiters()
        self._asking = True
        Deferred.fromCoroutine(self._read()).addCallbacks(waiting.fire, lambda failure: waiting.fail(failure.value)).addBoth(self._asked)

    def _asked(self, _: object) -> None:
        self._asking = False
        self._ask()

    async def _read(self) -> StreamView:
        if self._stream is None:
            self._stream = await self._js.stream(self.name)
            info = self._stream.cached_info
        else:
            info = await self._stream.info()
        # A stream that never had a message says 0.
        first_seq = max(1, info.state.first_seq)
        return StreamView(epoch_of(self.name, info.created), first_seq, info.state.last_seq, info.config.allow_direct)

    async def last_matching(self, pattern: str) -> int:
        """The sequence of the last message of a filter, from the leader of the stream; 0 when there is none."""
        if self._stream is None:
            await self.view()
        assert self._stream is not None
        try:
            return (await self._stream.get_last_msg(pattern, direct=False)).seq
        except MessageNotFoundError:
            return 0

    # --- what comes ----------------------------------------------------------------------------------------------

    def consumer(
        self, pattern: str, start_seq: int | None = None, *, policy: DeliverPolicy | None = None, start_time: datetime | None = None
    ) -> OrderedConsumer:
        """An ordered consumer, not begun."""
        return OrderedConsumer.make(
            self._js,
            self.name,
            filter_subjects=() if pattern == ">" else pattern,
            deliver_policy=policy,
            start_seq=start_seq,
            start_time=start_time,
            inactive_threshold=INACTIVE,
            max_bytes=1024 * 1024,
        )

    # --- what was ------------------------------------------------------------------------------------------------

    def direct_get(self) -> DirectGet:
        """Reads by direct gets."""
        return self._js.direct_get(self.name)

    async def count_from(self, pattern: str, seq: int) -> int:
        """How many messages of a filter there are from *seq* on, by a direct get."""
        batch = self.direct_get().get_batch(1, seq=max(1, seq), subject=pattern)
        found = await batch.collect()
        return len(found) + (batch.num_pending or 0)

    async def first_since(self, pattern: str, seconds: float) -> int:
        """The sequence of the first message of a filter that is not older than *seconds*, by a direct get; 0 for none."""
        batch = self.direct_get().get_batch(1, start_time=self.time_ago(seconds), subject=pattern)
        found = await batch.collect()
        return found[0].seq if found else 0

    async def newest(self, pattern: str, low: int, high: int, limit: int) -> int:
        """The lowest sequence between *low* and *high* from which on there are at most *limit* messages of a filter, by direct gets."""
        while low < high:
            middle = (low + high) // 2
            if await self.count_from(pattern, middle) <= limit:
                high = middle
            else:
                low = middle + 1
        return low

    def time_ago(self, seconds: float) -> datetime:
        """The time *seconds* ago."""
        return datetime.fromtimestamp(self._js.client.reactor.seconds(), timezone.utc) - timedelta(seconds=seconds)


class DirectPages:
    """Pages by direct gets: they cost the server no consumer. Several servers may answer, of which one may lag a little."""

    def __init__(self, direct: DirectGet, pattern: str, maker: EventMaker, epoch: str) -> None:
        self._direct = direct
        self._pattern = pattern
        self._maker = maker
        self._epoch = epoch

    async def read(self, last: int) -> Page:
        """The page behind *last*."""
        batch = self._direct.get_batch(PAGE_MSGS, seq=last + 1, subject=self._pattern, page_msgs=PAGE_MSGS, page_bytes=PAGE_BYTES)
        events: list[tuple[int, bytes]] = []
        size = 0
        async for stored in batch:
            events.append((stored.seq, self._maker.of_stored(self._epoch, stored)))
            size += len(stored.data)
            if size >= PAGE_BYTES:
                batch.cancel()
                return Page(events, False)
        return Page(events, batch.num_pending == 0)

    def close(self) -> None:
        """Nothing is open."""


class ConsumerPages:
    """Pages by an ordered consumer, for streams without direct gets and for what those cannot do."""

    def __init__(self, consumer: OrderedConsumer, maker: EventMaker, epoch: str) -> None:
        self._consumer = consumer
        self._maker = maker
        self._epoch = epoch

    async def pending(self) -> int:
        """How many messages there are to be read."""
        await self._consumer.ready()
        return self._consumer.num_pending or 0

    async def read(self, last: int) -> Page:
        """The next page; what is not behind *last* is left out."""
        msgs = await self._consumer.fetch(FETCH_MSGS, no_wait=True)
        events = [(msg.metadata.stream_seq, msg) for msg in msgs]
        made = [(seq, self._maker.of_delivered(self._epoch, msg)) for seq, msg in events if seq > last]
        return Page(made, len(msgs) < FETCH_MSGS)

    async def skip(self, count: int) -> None:
        """Leave out so many."""
        while count > 0:
            msgs = await self._consumer.fetch(min(count, FETCH_MSGS), no_wait=True)
            if not msgs:
                return
            count -= len(msgs)

    def close(self) -> None:
        """Delete the consumer; nobody waits for that."""
        self._consumer.stop()
