"""How much memory a large object takes that is put and got: not more than what is on its way."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import react
from twisted.internet.utils import getProcessOutputAndValue
from zope.interface import implementer

from pynats_twisted import connect
from tests.support.objects import ObjectTestCase

MIB = 1024 * 1024
BOUND = 64
# So many MiB; 1024 shows the same and takes longer.
SIZE = int(os.environ.get("OBJECT_MEMORY_MIB", "256"))


@implementer(IConsumer)
class _Counter:
    """A consumer that keeps nothing."""

    def __init__(self) -> None:
        self.size = 0

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        pass

    def unregisterProducer(self) -> None:  # noqa: N802
        pass

    def write(self, data: bytes) -> None:
        self.size += len(data)


async def _blocks(count: int) -> AsyncIterator[bytes]:
    block = os.urandom(MIB)
    for _ in range(count):
        yield block


def _peak() -> float:
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _measure(reactor: Any, url: str, mib: int) -> None:
    nc = await connect(reactor, url)
    store = await nc.jetstream().object_store("b")
    await store.put("small", _blocks(1))
    await store.get("small")
    base = _peak()
    begun = reactor.seconds()
    await store.put("large", _blocks(mib))
    put, put_seconds = _peak(), reactor.seconds() - begun
    counter = _Counter()
    begun = reactor.seconds()
    await store.get_to("large", counter)
    got = _peak()
    seconds = [put_seconds, reactor.seconds() - begun]
    print(json.dumps({"size": counter.size, "base": base, "put": put - base, "get": got - base, "seconds": seconds}))
    await nc.close()


class MemoryTests(ObjectTestCase):
    async def test_large_object(self) -> None:
        """A put and a get of a large object take less than 64 MiB more than the program itself, however large it is."""
        server = await self.start_server(jetstream=True)
        await self.object_store(await self.connect(server))
        checkout = str(Path(__file__).resolve().parents[2])
        command = ["-m", "tests.integration.test_os_memory", server.url, str(SIZE)]
        out, err, code = await getProcessOutputAndValue(sys.executable, command, os.environ, checkout, reactor=self.reactor)
        self.assertEqual(code, 0, err.decode())
        found = json.loads(out)
        self.log.info("{found}", found=found)
        self.assertEqual(found["size"], SIZE * MIB)
        self.assertLess(found["put"], BOUND, found)
        self.assertLess(found["get"], BOUND, found)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(_measure(reactor, sys.argv[1], int(sys.argv[2]))))
