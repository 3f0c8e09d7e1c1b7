"""Counters on real servers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults

from pynats_twisted import errors
from pynats_twisted.jetstream.api import StorageType, StreamConfig, StreamSource, SubjectTransform
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.counters import counter_increment, counter_sources, counter_value, increment_headers
from pynats_twisted.jetstream.stream import Stream
from tests.support.jetstream import JetStreamTestCase


class CounterTests(JetStreamTestCase):
    """increment(), and reading."""

    async def stream(self, **config: Any) -> tuple[JetStreamContext, Stream]:
        js = (await self.jetstream()).jetstream()
        defaults = {"name": "S", "subjects": ["s.>"], "storage": StorageType.MEMORY, "allow_msg_counter": True}
        return js, await js.create_stream(StreamConfig(**{**defaults, **config}))

    async def test_counting(self) -> None:
        """Each subject is a number of its own, which goes up and down."""
        js, _ = await self.stream()
        self.assertEqual(await js.increment("s.a"), 1)
        self.assertEqual(await js.increment("s.a", 41), 42)
        self.assertEqual(await js.increment("s.b", -7), -7)
        self.assertEqual(await js.increment("s.a", 0), 42)
        self.assertEqual(await js.increment("s.a", -42), 0)

    async def test_large_numbers(self) -> None:
        """Nothing is rounded, up to the digits that Python reads."""
        js, stream = await self.stream()
        self.assertEqual(await js.increment("s.a", 2**64), 2**64)
        self.assertEqual(await js.increment("s.a", 10**100), 10**100 + 2**64)
        self.assertEqual(await js.increment("s.a", -(10**100)), 2**64)
        large = 10**4300 - 1
        self.assertEqual(await js.increment("s.b", large), large)
        self.assertEqual(counter_value(await stream.get_last_msg("s.b")), large)
        self.assertEqual(await js.increment("s.b", -large), 0)

    async def test_reading(self) -> None:
        """A stored message has the value, and what was added; by the API and by direct gets."""
        for direct in (False, True):
            js, stream = await self.stream(allow_direct=direct)
            await js.increment("s.a", 5)
            await js.increment("s.a", -2, {"Why": "test"})
            msg = await stream.get_last_msg("s.a")
            self.assertEqual((counter_value(msg), counter_increment(msg), counter_sources(msg)), (3, -2, {}))
            self.assertEqual(msg.headers["Why"], "test")
            self.assertEqual(counter_value(await stream.get_msg(1)), 5)

    async def test_many_at_once(self) -> None:
        """No increment is lost."""
        js, stream = await self.stream()
        values = await gatherResults([js.increment("s.a") for _ in range(100)])
        self.assertEqual(sorted(values), list(range(1, 101)))
        self.assertEqual(counter_value(await stream.get_last_msg("s.a")), 100)

    async def test_once_by_its_id(self) -> None:
        """With a message id an increment that is sent twice counts once."""
        js, stream = await self.stream()
        for _ in range(2):
            await js.publish("s.a", b"", increment_headers(5), msg_id="once")
        self.assertEqual(counter_value(await stream.get_last_msg("s.a")), 5)

    async def test_sources(self) -> None:
        """A stream that gathers the counters of others knows what came from where."""
        js, _ = await self.stream(name="ONE", subjects=["one.hits"])
        await js.create_stream(StreamConfig(name="TWO", subjects=["two.hits"], allow_msg_counter=True))
        await js.increment("one.hits", 5)
        await js.increment("two.hits", 3)
        sources = [
            StreamSource(name=name, subject_transforms=[SubjectTransform(src=f"{name.lower()}.hits", dest="hits")])
            for name in ("ONE", "TWO")
        ]
        total = await js.create_stream(StreamConfig(name="ALL", sources=sources, allow_msg_counter=True))
        end = self.reactor.seconds() + 10
        while (await total.info()).state.messages < 2:
            self.assertLess(self.reactor.seconds(), end)
            await self.sleep(0.05)
        msg = await total.get_last_msg("hits")
        self.assertEqual(counter_value(msg), 8)
        self.assertEqual(counter_sources(msg), {"ONE": {"one.hits": 5}, "TWO": {"two.hits": 3}})

    async def test_refused(self) -> None:
        """What does not go together with counting is the server's error."""
        js, _ = await self.stream()
        await self.assertFailure(js.publish("s.a", b"", increment_headers(1), rollup="sub"), errors.CounterError)
        await self.assertFailure(js.publish("s.a", b"5", increment_headers(1)), errors.CounterError)
        await self.assertFailure(js.publish("s.a", b""), errors.CounterError)
        js, _ = await self.stream(allow_msg_counter=False)
        await self.assertFailure(js.increment("s.a"), errors.CounterError)
        await self.assertFailure(js.increment("elsewhere"), errors.NoStreamResponseError)
