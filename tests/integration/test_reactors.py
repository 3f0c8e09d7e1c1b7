"""The client under each of Twisted's reactors, and beside asyncio's own coroutines."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue

from tests.support.integration import IntegrationTestCase

_PROGRAM = """
import sys
from twisted.internet import {module} as chosen
chosen.install({arguments})

from twisted.internet import reactor, task
from pynats_twisted import connect

async def main(reactor, url):
    client = await connect(reactor, url)
    await client.subscribe("double", lambda msg: msg.respond(b"%d" % (2 * int(msg.data))))
    total = 0
    for number in range(100):
        total += int((await client.request("double", b"%d" % number)).data)
    received = client.subscribe("many", max_msgs=1000)
    await received
    for number in range(1000):
        await client.publish("many", b"x" * 1000)
    count = 0
    async for msg in received:
        count += len(msg.data)
    await client.drain()
    print(type(reactor).__name__, total, count)

task.react(main, [sys.argv[1]])
"""

_ASYNCIO = """
import asyncio, sys
from twisted.internet import asyncioreactor
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
asyncioreactor.install(loop)

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from pynats_twisted import connect

async def by_asyncio(value):
    await asyncio.sleep(0.001)
    return value.upper()

async def handler(msg):
    # A coroutine of Twisted's world, which waits for one of asyncio's.
    result = await Deferred.fromFuture(asyncio.ensure_future(by_asyncio(msg.data)))
    await msg.respond(result)

async def main():
    # A coroutine of asyncio's world, which waits for Deferreds.
    client = await connect(reactor, sys.argv[1]).asFuture(loop)
    await client.subscribe("upper", handler).confirmed().asFuture(loop)
    replies = await asyncio.gather(*(client.request("upper", b"a%d" % n).asFuture(loop) for n in range(10)))
    waiting = client.subscribe("never").next().asFuture(loop)
    waiting.cancel()
    try:
        await waiting
    except asyncio.CancelledError:
        print("cancelled")
    await client.drain().asFuture(loop)
    print(b" ".join(reply.data for reply in replies).decode())

async def run():
    try:
        await main()
    finally:
        reactor.stop()

reactor.callWhenRunning(lambda: asyncio.ensure_future(run()))
reactor.run()
"""


class ReactorTests(IntegrationTestCase):
    """Each reactor in a process of its own: a process has one."""

    async def _output(self, program: str) -> str:
        server = await self.start_server()
        checkout = str(Path(__file__).resolve().parents[2])
        out, err, code = await getProcessOutputAndValue(
            sys.executable, ["-W", "error::RuntimeWarning", "-c", program, server.url], env={"PYTHONPATH": checkout}, path=checkout
        )
        self.assertEqual((code, err), (0, b""))
        return str(out.decode().strip())

    async def _check(self, module: str, name: str, arguments: str = "") -> None:
        self.assertEqual(await self._output(_PROGRAM.format(module=module, arguments=arguments)), f"{name} 9900 1000000")

    async def test_epoll(self) -> None:
        """It works under the epoll reactor."""
        await self._check("epollreactor", "EPollReactor")

    async def test_poll(self) -> None:
        """It works under the poll reactor."""
        await self._check("pollreactor", "PollReactor")

    async def test_select(self) -> None:
        """It works under the select reactor."""
        await self._check("selectreactor", "SelectReactor")

    async def test_asyncio(self) -> None:
        """It works under the asyncio reactor."""
        await self._check("asyncioreactor", "AsyncioSelectorReactor", "__import__('asyncio').new_event_loop()")

    async def test_coroutines_of_both_worlds(self) -> None:
        """Under the asyncio reactor, asyncio's coroutines wait for ours and ours for asyncio's, and cancelling reaches across."""
        self.assertEqual(await self._output(_ASYNCIO), "cancelled\n" + " ".join(f"A{n}" for n in range(10)))
