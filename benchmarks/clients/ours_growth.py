"""What a message costs when there are many subscriptions, requests in flight, or messages waiting. ``job.in_flight`` is how many."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from .driver import Adapter, Counter
from .job import ECHO, FEED, SUBJECT, Clock, Job, finish

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

_REQUEST_SECONDS = 60.0
_BATCH = 1000
_ACTIVE = 100


async def growth_subscriptions(adapter: Adapter, job: Job) -> None:
    """So many subscriptions with a handler; the messages go to one after the other."""
    await _many_subscriptions(adapter, job, job.in_flight)


async def growth_idle(adapter: Adapter, job: Job) -> None:
    """The same, where the messages go to a hundred of them."""
    await _many_subscriptions(adapter, job, min(job.in_flight, _ACTIVE))


async def _many_subscriptions(adapter: Adapter, job: Job, active: int) -> None:
    nc = await adapter.connect(job)
    counter = Counter()
    for number in range(job.in_flight):
        await adapter.count(nc, f"{SUBJECT}.{number}", counter)
        if number % _BATCH == 0:
            await nc.flush()
    await nc.flush()
    for count in (max(job.warmup, active), job.count):
        clock = Clock()
        done = adapter.signal()

        def reached(clock: Clock = clock, fire: Callable[[], None] = done.fire) -> None:
            clock.stop()
            fire()

        counter.seen, counter.target, counter.reached = 0, count, reached
        clock.start()
        await nc.publish(FEED, f"{SUBJECT} {job.size} {count} {active}".encode())
        await done.done
    finish(clock, job.count)


async def growth_requests(adapter: Adapter, job: Job) -> None:
    """So many requests in flight, answered by another process; each reply makes the next request."""
    nc = await adapter.connect(job)
    payload = bytes(job.size)
    # Three times as many as are in flight: mostly requests that take the place of one that is over.
    for count in (max(job.warmup, job.in_flight), max(job.count, 3 * job.in_flight)):
        clock = Clock()
        done = adapter.signal()
        counts = {"to ask": count, "to come": count}

        def ask(counts: dict[str, int] = counts) -> None:
            if counts["to ask"]:
                counts["to ask"] -= 1
                request: Deferred[Any] = nc.request(ECHO, payload, timeout=_REQUEST_SECONDS)
                request.addCallback(replied)

        def replied(_: Any, counts: dict[str, int] = counts, fire: Callable[[], None] = done.fire, clock: Clock = clock) -> None:
            counts["to come"] -= 1
            if not counts["to come"]:
                clock.stop()
                fire()
            ask()

        clock.start()
        for _ in range(job.in_flight):
            ask()
        await done.done
    finish(clock, count)


async def growth_waiting(adapter: Adapter, job: Job) -> None:
    """So many messages wait in a subscription without a handler, while others come, a thousand at a time, and are taken."""
    nc = await adapter.connect(job)
    counter = Counter()
    waiting = nc.subscribe(f"{SUBJECT}.0", pending_msgs=0, pending_bytes=0)
    await adapter.count(nc, f"{SUBJECT}.1", counter)
    await nc.flush()

    async def feed(count: int) -> None:
        """Messages for the subscription; one behind them for the counter says that they are all there."""
        done = adapter.signal()
        counter.seen, counter.target, counter.reached = 0, 1, done.fire
        await nc.publish(FEED, f"{SUBJECT}.0 {job.size} {count} 0".encode())
        await nc.publish(FEED, f"{SUBJECT}.1 {job.size} 1 0".encode())
        await done.done

    await feed(job.in_flight)
    clock = Clock()
    batch = min(job.count, _BATCH)
    for _ in range(job.count // batch):
        clock.start()
        await feed(batch)
        left = batch
        async for _ in waiting:
            left -= 1
            if not left:
                break
        clock.stop()
    finish(clock, job.count // batch * batch)


KINDS: dict[str, Callable[[Adapter, Job], Coroutine[Any, Any, None]]] = {
    measure.__name__: measure for measure in (growth_subscriptions, growth_idle, growth_requests, growth_waiting)
}
