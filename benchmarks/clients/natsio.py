"""natsio, as its guide shows it: a plain callback where nothing is awaited, a coroutine where something is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import natsio

from .asyncio_loop import AsyncioAdapter, context, main
from .driver import Counter
from .job import Job


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


def _ignore(msg: Any) -> None:
    pass


if __name__ == "__main__":
    main(Natsio())
