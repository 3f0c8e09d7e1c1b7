"""natsio, as its guide shows it: a plain callback where nothing is awaited, a coroutine where something is, ``consume()`` for JetStream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import natsio

from .asyncio_loop import AsyncioAdapter, context, main
from .driver import Counter
from .driver_jetstream import Progress
from .job import CONSUMER, STREAM, Job

# Where the server is slow for once, it is to wait, as others do, and not to fail.
_STALL_SECONDS = 30.0


class Natsio(AsyncioAdapter):
    """natsio."""

    async def connect(self, job: Job) -> Any:
        trusted = context(job)
        return await natsio.connect(job.url, tls=natsio.TLSConfig(context=trusted) if trusted else None)

    async def close(self, nc: Any) -> None:
        await nc.close()

    async def count(self, nc: Any, subject: str, counter: Counter) -> None:
        def handler(msg: Any) -> None:
            counter.seen += 1
            if counter.seen == counter.target:
                counter.reached()

        nc.subscribe(subject, cb=handler)

    async def answer(self, nc: Any, subject: str) -> None:
        async def handler(msg: Any) -> None:
            await msg.respond(msg.data)

        nc.subscribe(subject, cb=handler)

    async def messages(self, nc: Any, subject: str) -> AsyncIterator[Any]:
        return aiter(nc.subscribe(subject))

    async def hold(self, nc: Any, subject: str) -> None:
        nc.subscribe(subject, cb=_ignore)

    def jetstream(self, nc: Any) -> Any:
        return nc.jetstream(publish_async_stall_wait=_STALL_SECONDS)

    async def publish_window(self, js: Any, subject: str, payload: bytes, count: int) -> None:
        for _ in range(count):
            await js.publish_async(subject, payload)
        await js.publish_async_complete()

    async def bucket(self, js: Any, name: str) -> Any:
        return await js.key_value(name)

    async def store(self, js: Any, name: str) -> Any:
        return await js.object_store(name)

    async def get_object(self, store: Any, name: str) -> bytes:
        data: bytes = await store.get_bytes(name)
        return data

    async def consume(self, js: Any, progress: Progress) -> None:
        consumer = await (await js.stream(STREAM)).consumer(CONSUMER)
        async with consumer.consume() as messages:
            async for msg in messages:
                await msg.ack()
                progress.seen += 1
                if progress.seen == progress.mark and progress.reached():
                    return


def _ignore(msg: Any) -> None:
    pass


if __name__ == "__main__":
    main(Natsio())
