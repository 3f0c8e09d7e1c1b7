"""This package, on the reactor that Twisted chooses by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from pynats_twisted import connect

from . import driver, driver_jetstream, driver_stores, ours_growth, ours_memory, ours_stores
from .driver import Counter
from .driver_jetstream import Progress
from .job import CONSUMER, STREAM, Job

_KINDS: dict[str, Callable[[Any, Job], Coroutine[Any, Any, None]]] = {
    **driver.KINDS,
    **driver_jetstream.KINDS,
    **driver_stores.KINDS,
    **ours_growth.KINDS,
    **ours_memory.KINDS,
    **ours_stores.KINDS,
}


class DeferredSignal:
    """A Deferred."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()

    def fire(self) -> None:
        self.done.callback(None)


class Ours:
    """pynats-twisted."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    async def connect(self, job: Job) -> Any:
        options = {"tls_ca_file": job.ca} if job.ca else {}
        return await connect(self._reactor, job.url, **options)

    async def close(self, nc: Any) -> None:
        await nc.close()

    async def count(self, nc: Any, subject: str, counter: Counter) -> None:
        def handler(msg: Any) -> None:
            counter.seen += 1
            if counter.seen == counter.target:
                counter.reached()

        nc.subscribe(subject, handler)

    async def answer(self, nc: Any, subject: str) -> None:
        async def handler(msg: Any) -> None:
            await msg.respond(msg.data)

        nc.subscribe(subject, handler)

    async def messages(self, nc: Any, subject: str) -> AsyncIterator[Any]:
        return aiter(nc.subscribe(subject))

    async def hold(self, nc: Any, subject: str) -> None:
        nc.subscribe(subject, _ignore)

    def jetstream(self, nc: Any) -> Any:
        return nc.jetstream()

    async def publish_window(self, js: Any, subject: str, payload: bytes, count: int) -> None:
        for _ in range(count):
            await js.publish_async_room()
            js.publish_async(subject, payload)
        await js.publish_async_complete()

    async def bucket(self, js: Any, name: str) -> Any:
        return await js.key_value(name)

    async def store(self, js: Any, name: str) -> Any:
        return await js.object_store(name)

    async def get_object(self, store: Any, name: str) -> bytes:
        data: bytes = await store.get(name)
        return data

    async def consume(self, js: Any, progress: Progress) -> None:
        consumer = await js.consumer(STREAM, CONSUMER)
        done = self.signal()

        def handler(msg: Any) -> None:
            msg.ack()
            progress.seen += 1
            if progress.seen == progress.mark and progress.reached():
                done.fire()

        consumer.consume(handler)
        await done.done

    def signal(self) -> DeferredSignal:
        return DeferredSignal()

    async def gather(self, tasks: Sequence[Coroutine[Any, Any, None]]) -> None:
        await gatherResults([Deferred.fromCoroutine(task) for task in tasks])


def _ignore(msg: Any) -> None:
    pass


def main() -> None:
    """Do what the command line says."""
    job = Job.from_command_line(_KINDS)
    react(lambda reactor: Deferred.fromCoroutine(_KINDS[job.kind](Ours(reactor), job)))


if __name__ == "__main__":
    main()
