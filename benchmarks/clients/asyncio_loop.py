"""What the libraries on asyncio have in common: the event loop of the standard library."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from . import driver, driver_jetstream, driver_stores
from .driver import Adapter
from .driver_jetstream import JetStreamAdapter
from .driver_stores import StoresAdapter
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
    kinds: dict[str, Callable[[Any, Job], Coroutine[Any, Any, None]]] = dict(driver.KINDS)
    if isinstance(adapter, JetStreamAdapter):
        kinds.update(driver_jetstream.KINDS)
    if isinstance(adapter, StoresAdapter):
        kinds.update(driver_stores.KINDS)
    job = Job.from_command_line(kinds)
    asyncio.run(kinds[job.kind](adapter, job))
