"""A small application and its test, written as a user would: under 30 lines, in virtual time."""

from __future__ import annotations

import time
import unittest
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.testing import connected_client


async def worker(nc: Any) -> None:
    async for order in nc.subscribe("orders", queue="workers"):
        price = await nc.request("prices", order.data)
        await order.respond(order.data + b" costs " + price.data)


class WorkerTests(SynchronousTestCase):
    """A worker that subscribes, requests, and reconnects."""

    def test_answers_orders_also_after_a_restart(self) -> None:
        """Orders are answered with their prices, before and after the server was restarted."""
        nc, server, network = connected_client(self)
        server.respond("prices", lambda asked: b"2")
        network.start(worker(nc))
        self.assertEqual(network.run(nc.request("orders", b"tea")).data, b"tea costs 2")
        server.restart()
        network.advance(1.0)
        self.assertEqual(network.run(nc.request("orders", b"jam")).data, b"jam costs 2")
        self.assertEqual([seen.payload for seen in server.published("prices")], [b"tea", b"jam"])


class SpeedTests(SynchronousTestCase):
    """What such a test costs."""

    def test_it_takes_milliseconds(self) -> None:
        """The best of five runs of the test above takes less than 50 milliseconds."""
        times = []
        for _ in range(5):
            result = unittest.TestResult()
            begun = time.perf_counter()
            WorkerTests("test_answers_orders_also_after_a_restart").run(result)
            times.append(time.perf_counter() - begun)
            self.assertEqual((result.testsRun, result.errors, result.failures), (1, [], []))
        self.assertLess(min(times), 0.05, times)
