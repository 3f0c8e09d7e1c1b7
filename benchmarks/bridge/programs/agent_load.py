"""Posts the same body with ``twisted.web.client.Agent`` and its pool: what one would write without the bridge.

Job: ``port``, ``path``, ``connections`` (in flight), ``size``, ``count``. Says ``{requests, wall}``.
"""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody

from .job import begin, say


async def _main(real: Any) -> None:
    job = begin()
    pool = HTTPConnectionPool(real)
    pool.maxPersistentPerHost = job["connections"]
    agent = Agent(real, pool=pool)
    url = f"http://127.0.0.1:{job['port']}{job['path']}".encode()
    body = b"x" * job["size"]
    left = job["count"]

    async def one_after_the_other() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await readBody(await agent.request(b"POST", url, None, FileBodyProducer(BytesIO(body))))

    begun = time.perf_counter()
    await gatherResults([Deferred.fromCoroutine(one_after_the_other()) for _ in range(job["connections"])])
    say(requests=job["count"], wall=time.perf_counter() - begun)
    await pool.closeCachedConnections()


if __name__ == "__main__":
    react(lambda real: Deferred.fromCoroutine(_main(real)), [], reactor)
