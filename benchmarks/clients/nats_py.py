"""nats-py, as its README shows it: coroutine callbacks, ``sub.messages`` to iterate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import nats

from .asyncio_loop import AsyncioAdapter, context, main
from .driver import Counter
from .job import Job


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


async def _ignore(msg: Any) -> None:
    pass


if __name__ == "__main__":
    main(NatsPy())
