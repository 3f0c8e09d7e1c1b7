"""The measurements, for every Python library alike. What differs between libraries is in an :class:`Adapter`."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

from .job import ECHO, FEED, SUBJECT, Clock, Job, finish

_REQUEST_SECONDS = 30.0
_SUBSCRIPTIONS_AT_ONCE = 1000


class Counter:
    """Counts messages; its :attr:`reached` is called at the last one."""

    __slots__ = ("reached", "seen", "target")

    def __init__(self) -> None:
        self.seen = self.target = 0
        self.reached: Callable[[], None] = lambda: None


class Signal(Protocol):
    """Something to wait for, once."""

    @property
    def done(self) -> Awaitable[None]:
        """What to await."""

    def fire(self) -> None:
        """End the wait."""


class Adapter(Protocol):
    """One library. ``nc`` is its client object: all of them have ``publish``, ``flush`` and ``request`` with these parameters."""

    async def connect(self, job: Job) -> Any: ...

    async def close(self, nc: Any) -> None: ...

    async def count(self, nc: Any, subject: str, counter: Counter) -> None:
        """Subscribe with the cheapest handler that the library documents, which counts."""

    async def answer(self, nc: Any, subject: str) -> None:
        """Subscribe with a coroutine that answers each message with its payload."""

    async def messages(self, nc: Any, subject: str) -> AsyncIterator[Any]:
        """Subscribe for ``async for``."""

    async def hold(self, nc: Any, subject: str) -> None:
        """Subscribe with a handler to which nothing will come."""

    def signal(self) -> Signal: ...

    async def gather(self, tasks: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run them all at once until all have ended."""


# --- publishing ------------------------------------------------------------------------------------------------


async def publish(adapter: Adapter, job: Job) -> None:
    """``await publish`` in a loop; the clock stops when the server has got everything."""
    nc = await adapter.connect(job)
    payload = bytes(job.size)
    await _publish(nc, payload, job.warmup)
    clock = Clock()
    clock.start()
    await _publish(nc, payload, job.count)
    clock.stop()
    finish(clock, job.count)


async def _publish(nc: Any, payload: bytes, count: int) -> None:
    for _ in range(count):
        await nc.publish(SUBJECT, payload)
    await nc.flush()


# --- receiving -------------------------------------------------------------------------------------------------


async def receive(adapter: Adapter, job: Job) -> None:
    """A handler counts what another process publishes; the clock stops in the handler of the last message."""
    nc = await adapter.connect(job)
    counter = Counter()
    await adapter.count(nc, SUBJECT, counter)
    await nc.flush()
    for count in _warmup_and_count(job):
        clock, done = _until(adapter, counter, count)
        clock.start()
        await nc.publish(FEED, f"{SUBJECT} {job.size} {count} 0".encode())
        await done.done
    finish(clock, job.count)


async def iterate(adapter: Adapter, job: Job) -> None:
    """The same with ``async for``."""
    nc = await adapter.connect(job)
    messages = await adapter.messages(nc, SUBJECT)
    await nc.flush()
    for count in _warmup_and_count(job):
        clock = Clock()
        clock.start()
        await nc.publish(FEED, f"{SUBJECT} {job.size} {count} 0".encode())
        left = count
        async for _ in messages:
            left -= 1
            if not left:
                break
        clock.stop()
    finish(clock, job.count)


async def pubsub(adapter: Adapter, job: Job) -> None:
    """One connection publishes, and gets everything back in a handler."""
    nc = await adapter.connect(job)
    payload = bytes(job.size)
    counter = Counter()
    await adapter.count(nc, SUBJECT, counter)
    await nc.flush()
    for count in _warmup_and_count(job):
        clock, done = _until(adapter, counter, count)
        clock.start()
        for _ in range(count):
            await nc.publish(SUBJECT, payload)
        await done.done
    finish(clock, job.count)


def _warmup_and_count(job: Job) -> list[int]:
    return [job.warmup, job.count] if job.warmup else [job.count]


def _until(adapter: Adapter, counter: Counter, count: int) -> tuple[Clock, Signal]:
    clock = Clock()
    done = adapter.signal()

    def reached() -> None:
        clock.stop()
        done.fire()

    counter.seen, counter.target, counter.reached = 0, count, reached
    return clock, done


# --- requests --------------------------------------------------------------------------------------------------


async def latency(adapter: Adapter, job: Job) -> None:
    """One request at a time, answered by another process. Stops after ``job.seconds`` where a library is slow."""
    nc = await adapter.connect(job)
    payload = bytes(job.size)
    for _ in range(job.warmup):
        await nc.request(ECHO, payload, timeout=_REQUEST_SECONDS)
    trips: list[int] = []
    now = time.perf_counter_ns
    clock = Clock()
    clock.start()
    end = now() + int(job.seconds * 1e9)
    while len(trips) < job.count:
        begun = now()
        await nc.request(ECHO, payload, timeout=_REQUEST_SECONDS)
        over = now()
        trips.append(over - begun)
        if over > end:
            break
    clock.stop()
    trips.sort()
    finish(clock, len(trips), p50_us=statistics.median(trips) / 1e3, p99_us=trips[len(trips) * 99 // 100] / 1e3)


async def requests(adapter: Adapter, job: Job) -> None:
    """Many requests at a time, answered by a coroutine on the same connection."""
    nc = await adapter.connect(job)
    payload = bytes(job.size)
    await adapter.answer(nc, SUBJECT)
    await nc.flush()

    async def ask(count: int) -> None:
        for _ in range(count):
            await nc.request(SUBJECT, payload, timeout=_REQUEST_SECONDS)

    for count in _warmup_and_count(job):
        each = count // job.in_flight
        clock = Clock()
        clock.start()
        await adapter.gather([ask(each) for _ in range(job.in_flight)])
        clock.stop()
    finish(clock, each * job.in_flight)


# --- connections and subscriptions -----------------------------------------------------------------------------


async def connect(adapter: Adapter, job: Job) -> None:
    """Connections one after the other, each until the server has confirmed it; closing them is not measured."""
    for _ in range(job.warmup):
        await adapter.close(await adapter.connect(job))
    clock = Clock()
    for _ in range(job.count):
        clock.start()
        nc = await adapter.connect(job)
        clock.stop()
        await adapter.close(nc)
    finish(clock, job.count)


async def memory(adapter: Adapter, job: Job) -> None:
    """How much larger the process is with so many subscriptions that have a handler."""
    nc = await adapter.connect(job)
    for number in range(job.warmup):
        await adapter.hold(nc, f"bench.warmup.{number}")
    await nc.flush()
    gc.collect()
    before = resident()
    clock = Clock()
    clock.start()
    for number in range(job.count):
        await adapter.hold(nc, f"bench.hold.{number}")
        if number % _SUBSCRIPTIONS_AT_ONCE == 0:
            await nc.flush()
    await nc.flush()
    clock.stop()
    gc.collect()
    finish(clock, job.count, bytes_each=(resident() - before) / job.count)


def resident() -> int:
    """Bytes of memory that the process occupies (RSS)."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no line VmRSS")


KINDS: dict[str, Callable[[Adapter, Job], Coroutine[Any, Any, None]]] = {
    measure.__name__: measure for measure in (publish, receive, iterate, pubsub, latency, requests, connect, memory)
}
