"""How large the process is while messages pass: published into a stream with a window, consumed and acked, on one connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from .driver import Counter, resident
from .driver_jetstream import JetStreamAdapter
from .job import CONSUMER, STREAM, SUBJECT, Clock, Job, finish


async def js_memory(adapter: JetStreamAdapter, job: Job) -> None:
    """``job.count`` messages, or as many as are published in ``job.seconds``. The size is taken every ``job.in_flight`` messages."""
    nc = await adapter.connect(job)
    js = adapter.jetstream(nc)
    payload = bytes(job.size)
    every = min(job.in_flight, job.count)
    sizes: list[tuple[int, int]] = []
    counter = Counter()

    def handler(msg: Any) -> None:
        msg.ack()
        counter.seen += 1
        if counter.seen % every == 0:
            sizes.append((counter.seen, resident()))
        if counter.seen == counter.target:
            counter.reached()

    consumer = await js.consumer(STREAM, CONSUMER)
    clock = Clock()
    clock.start()
    context = consumer.consume(handler)
    end = time.monotonic() + job.seconds
    published = 0
    while published < job.count and time.monotonic() < end:
        await adapter.publish_window(js, SUBJECT, payload, min(every, job.count - published))
        published += min(every, job.count - published)
    done = adapter.signal()
    counter.target, counter.reached = published, done.fire
    if counter.seen < published:
        await done.done
    await context.drain()
    clock.stop()
    finish(clock, published, resident=sizes, bytes_each=(sizes[-1][1] - sizes[0][1]) / max(1, published - sizes[0][0]))


KINDS: dict[str, Callable[[Any, Job], Coroutine[Any, Any, None]]] = {js_memory.__name__: js_memory}
