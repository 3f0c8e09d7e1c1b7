"""What the libraries on asyncio have in common: the event loop of the standard library."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from .driver import KINDS, Adapter
from .job import Job


class AsyncioSignal:
    """A future."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fire(self) -> None:
        self.done.set_result(None)


class AsyncioAdapter:
    """The half of an adapter that needs no library."""

    def signal(self) -> AsyncioSignal:
        return AsyncioSignal()

    async def gather(self, tasks: Sequence[Coroutine[Any, Any, None]]) -> None:
        await asyncio.gather(*tasks)


def context(job: Job) -> ssl.SSLContext | None:
    """Trust the server's authority, and check its name."""
    return ssl.create_default_context(cafile=job.ca) if job.ca else None


def main(adapter: Adapter) -> None:
    """Do what the command line says."""
    job = Job.parse(sys.argv[1:])
    asyncio.run(KINDS[job.kind](adapter, job))
