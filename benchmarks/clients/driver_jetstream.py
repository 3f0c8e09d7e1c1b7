"""The measurements of JetStream, for every Python library alike. The stream and its consumer are there before a client starts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, runtime_checkable

from .driver import Adapter
from .job import SUBJECT, Clock, Job, finish


class Progress:
    """Counts messages that are consumed. Those for warming up come first; the clock starts after them.

    Who consumes adds to :attr:`seen`, and calls :meth:`reached` when that is :attr:`mark`.
    """

    __slots__ = ("_count", "clock", "mark", "seen")

    def __init__(self, warmup: int, count: int) -> None:
        self.clock = Clock()
        self.seen = 0
        self.mark = warmup or count
        self._count = warmup + count
        if not warmup:
            self.clock.start()

    def reached(self) -> bool:
        """True at the last one."""
        if self.mark == self._count:
            return True
        self.mark = self._count
        self.clock.start()
        return False


@runtime_checkable
class JetStreamAdapter(Adapter, Protocol):
    """A library with JetStream. ``js`` is its context: all of them have ``js.publish`` with these parameters."""

    def jetstream(self, nc: Any) -> Any:
        """The context."""

    async def publish_window(self, js: Any, subject: str, payload: bytes, count: int) -> None:
        """Publish so many, with as many on the way to their acks as the library allows by default, and wait for all acks."""

    async def consume(self, js: Any, progress: Progress) -> None:
        """Take messages from the durable consumer in the cheapest way that the library documents, and ack each, until the last."""


async def js_publish_sync(adapter: JetStreamAdapter, job: Job) -> None:
    """``await js.publish`` in a loop: each waits for its ack."""
    nc = await adapter.connect(job)
    js = adapter.jetstream(nc)
    payload = bytes(job.size)
    for _ in range(job.warmup):
        await js.publish(SUBJECT, payload)
    clock = Clock()
    clock.start()
    for _ in range(job.count):
        await js.publish(SUBJECT, payload)
    clock.stop()
    finish(clock, job.count)


async def js_publish_async(adapter: JetStreamAdapter, job: Job) -> None:
    """A window of publishes; the clock stops with the last ack."""
    nc = await adapter.connect(job)
    js = adapter.jetstream(nc)
    payload = bytes(job.size)
    await adapter.publish_window(js, SUBJECT, payload, job.warmup)
    clock = Clock()
    clock.start()
    await adapter.publish_window(js, SUBJECT, payload, job.count)
    clock.stop()
    finish(clock, job.count)


async def js_consume(adapter: JetStreamAdapter, job: Job) -> None:
    """All that is stored is consumed and acked; the clock stops when the server has got the last ack."""
    nc = await adapter.connect(job)
    js = adapter.jetstream(nc)
    progress = Progress(job.warmup, job.count)
    await adapter.consume(js, progress)
    await nc.flush()
    progress.clock.stop()
    finish(progress.clock, job.count)


KINDS: dict[str, Callable[[JetStreamAdapter, Job], Coroutine[Any, Any, None]]] = {
    measure.__name__: measure for measure in (js_publish_sync, js_publish_async, js_consume)
}
