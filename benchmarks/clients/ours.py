"""This package, on the reactor that Twisted chooses by itself."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from pynats_twisted import connect

from . import ours_growth
from .driver import KINDS, Counter
from .job import Job


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

    def signal(self) -> DeferredSignal:
        return DeferredSignal()

    async def gather(self, tasks: Sequence[Coroutine[Any, Any, None]]) -> None:
        await gatherResults([Deferred.fromCoroutine(task) for task in tasks])


def _ignore(msg: Any) -> None:
    pass


def main() -> None:
    """Do what the command line says."""
    job = Job.parse(sys.argv[1:])
    measure = {**KINDS, **ours_growth.KINDS}[job.kind]
    react(lambda reactor: Deferred.fromCoroutine(measure(Ours(reactor), job)))


if __name__ == "__main__":
    main()
