"""nats-py, as its README and its examples show it: coroutine callbacks, ``sub.messages`` to iterate, a loop of ``fetch`` to consume."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import nats

from .asyncio_loop import AsyncioAdapter, context, main
from .driver import Counter
from .driver_jetstream import Progress
from .job import CONSUMER, STREAM, Job

# What the others ask for at once by default. With the 10 of the examples it takes nearly twice the time.
_BATCH = 500


class NatsPy(AsyncioAdapter):
    """nats-py."""

    async def connect(self, job: Job) -> Any:
        return await nats.connect(job.url, tls=context(job))

    async def close(self, nc: Any) -> None:
        await nc.close()

    async def count(self, nc: Any, subject: str, counter: Counter) -> None:
        async def handler(msg: Any) -> None:
            counter.seen += 1
            if counter.seen == counter.target:
                counter.reached()

        await nc.subscribe(subject, cb=handler)

    async def answer(self, nc: Any, subject: str) -> None:
        async def handler(msg: Any) -> None:
            await msg.respond(msg.data)

        await nc.subscribe(subject, cb=handler)

    async def messages(self, nc: Any, subject: str) -> AsyncIterator[Any]:
        iterator: AsyncIterator[Any] = (await nc.subscribe(subject)).messages
        return iterator

    async def hold(self, nc: Any, subject: str) -> None:
        await nc.subscribe(subject, cb=_ignore)

    def jetstream(self, nc: Any) -> Any:
        return nc.jetstream()

    async def publish_window(self, js: Any, subject: str, payload: bytes, count: int) -> None:
        for _ in range(count):
            await js.publish_async(subject, payload)
        await js.publish_async_completed()

    async def bucket(self, js: Any, name: str) -> Any:
        return await js.key_value(name)

    async def store(self, js: Any, name: str) -> Any:
        return await js.object_store(name)

    async def get_object(self, store: Any, name: str) -> bytes:
        got = await store.get(name)
        data: bytes = got.data
        return data

    async def consume(self, js: Any, progress: Progress) -> None:
        subscription = await js.pull_subscribe_bind(CONSUMER, stream=STREAM)
        while True:
            # It would wait for more than there is.
            for msg in await subscription.fetch(min(_BATCH, progress.mark - progress.seen)):
                await msg.ack()
                progress.seen += 1
                if progress.seen == progress.mark and progress.reached():
                    return


async def _ignore(msg: Any) -> None:
    pass


if __name__ == "__main__":
    main(NatsPy())
