"""The measurements of key-value buckets and object stores, for every Python library alike. They are there before a client starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, runtime_checkable

from .driver import Adapter
from .job import BUCKET, KEYS, Clock, Job, finish


@runtime_checkable
class StoresAdapter(Adapter, Protocol):
    """A library with buckets and object stores.

    A bucket has ``put`` and ``get`` with these parameters, and an entry ``value``; an object store has ``put``.
    """

    def jetstream(self, nc: Any) -> Any:
        """The context."""

    async def bucket(self, js: Any, name: str) -> Any:
        """The handle of a bucket."""

    async def store(self, js: Any, name: str) -> Any:
        """The handle of an object store."""

    async def get_object(self, store: Any, name: str) -> bytes:
        """The whole of an object."""


def key(number: int) -> str:
    """The name of a key."""
    return f"key.{number % KEYS}"


async def kv_put(adapter: StoresAdapter, job: Job) -> None:
    """``await kv.put`` in a loop, of one key after the other."""
    bucket = await _bucket(adapter, job)
    payload = bytes(job.size)
    for number in range(job.warmup):
        await bucket.put(key(number), payload)
    clock = Clock()
    clock.start()
    for number in range(job.count):
        await bucket.put(key(number), payload)
    clock.stop()
    finish(clock, job.count)


async def kv_get(adapter: StoresAdapter, job: Job) -> None:
    """``await kv.get`` in a loop, of one key after the other."""
    bucket = await _bucket(adapter, job)
    for number in range(job.warmup):
        await bucket.get(key(number))
    clock = Clock()
    size = 0
    clock.start()
    for number in range(job.count):
        size += len((await bucket.get(key(number))).value)
    clock.stop()
    if size != job.count * job.size:
        raise SystemExit(f"error: got {size} bytes, not {job.count * job.size}")
    finish(clock, job.count)


async def os_roundtrip(adapter: StoresAdapter, job: Job) -> None:
    """An object is put and got again, one at a time, each under the same name."""
    nc = await adapter.connect(job)
    store = await adapter.store(adapter.jetstream(nc), BUCKET)
    for count in (job.warmup, job.count):
        clock = Clock()
        for _ in range(count):
            data = os.urandom(job.size)
            clock.start()
            await store.put("object", data)
            got = await adapter.get_object(store, "object")
            clock.stop()
            if got != data:
                raise SystemExit("error: another object was got than was put")
    finish(clock, job.count)


async def _bucket(adapter: StoresAdapter, job: Job) -> Any:
    return await adapter.bucket(adapter.jetstream(await adapter.connect(job)), BUCKET)


KINDS: dict[str, Callable[[StoresAdapter, Job], Coroutine[Any, Any, None]]] = {
    measure.__name__: measure for measure in (kv_put, kv_get, os_roundtrip)
}
