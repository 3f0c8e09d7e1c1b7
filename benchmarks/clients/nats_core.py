"""nats-core, as its README and its examples show it: messages are taken from the subscription, by a task where a handler is wanted.

It also has callbacks that see a message before it is queued, but the message still has to be taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from nats.client import connect

from .asyncio_loop import AsyncioAdapter, context, main
from .driver import Counter
from .job import Job


class NatsCore(AsyncioAdapter):
    """nats-core."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, job: Job) -> Any:
        return await connect(job.url, tls=context(job))

    async def close(self, nc: Any) -> None:
        await nc.close()

    async def count(self, nc: Any, subject: str, counter: Counter) -> None:
        subscription = await nc.subscribe(subject)

        async def take() -> None:
            async for _ in subscription:
                counter.seen += 1
                if counter.seen == counter.target:
                    counter.reached()

        self._keep(take())

    async def answer(self, nc: Any, subject: str) -> None:
        subscription = await nc.subscribe(subject)

        async def take() -> None:
            async for msg in subscription:
                await nc.publish(msg.reply, msg.data)

        self._keep(take())

    async def messages(self, nc: Any, subject: str) -> AsyncIterator[Any]:
        subscription = await nc.subscribe(subject)
        return aiter(subscription)

    async def hold(self, nc: Any, subject: str) -> None:
        (await nc.subscribe(subject)).add_callback(_ignore)

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(coroutine))


def _ignore(msg: Any) -> None:
    pass


if __name__ == "__main__":
    main(NatsCore())
