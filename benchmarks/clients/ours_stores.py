"""What of buckets and object stores is measured for this package alone: no other client has it, or its figure stands for itself."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from .driver import resident
from .driver_stores import StoresAdapter, key
from .job import BUCKET, Clock, Job, finish

_PIECE = 256 * 1024
_SINGLE = 2000


async def kv_get_many(adapter: StoresAdapter, job: Job) -> None:
    """All keys by one call; and, because elapsed time varies from minute to minute, single gets right behind it."""
    bucket = await adapter.bucket(adapter.jetstream(await adapter.connect(job)), BUCKET)
    keys = [key(number) for number in range(job.count)]
    await bucket.get_many(keys[: job.warmup])
    clock = Clock()
    clock.start()
    found = await bucket.get_many(keys)
    clock.stop()
    if len(found) != job.count or any(len(entry.value) != job.size for entry in found.values()):
        raise SystemExit(f"error: got {len(found)} keys, not {job.count}")
    single = Clock()
    single.start()
    for name in keys[:_SINGLE]:
        await bucket.get(name)
    single.stop()
    finish(clock, job.count, single_us=single.wall / min(_SINGLE, job.count) * 1e6, many_us=clock.wall / job.count * 1e6)


async def os_memory(adapter: StoresAdapter, job: Job) -> None:
    """How much larger the process is at most while one large object is put from an iterator, and while it is got by one."""
    nc = await adapter.connect(job)
    store = await adapter.store(adapter.jetstream(nc), BUCKET)
    # The first object brings what is needed once.
    await store.put("small", bytes(2 * _PIECE))
    await store.get("small")
    before = most = resident()
    total = job.size
    sizes: list[tuple[int, int]] = []

    def look(done: int) -> None:
        nonlocal most
        most = max(most, resident())
        if done % (total // 8) == 0:
            sizes.append((done, resident()))

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(total // _PIECE):
            look(number * _PIECE)
            yield os.urandom(_PIECE)

    clock = Clock()
    clock.start()
    await store.put("large", pieces())
    reader = await store.open("large")
    got = 0
    async for piece in reader:
        got += len(piece)
        look(got)
    clock.stop()
    if got != total:
        raise SystemExit(f"error: got {got} bytes, not {total}")
    finish(clock, job.count, bytes_each=most - before, resident=sizes)


KINDS: dict[str, Callable[[StoresAdapter, Job], Coroutine[Any, Any, None]]] = {
    measure.__name__: measure for measure in (kv_get_many, os_memory)
}
