"""Sources of all kinds, and how they are cut into chunks."""

from __future__ import annotations

import io
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pynats_twisted import errors
from pynats_twisted.objectstore.sources import READ_SIZE, BodyProducer, cut, open_source


async def pieces_of(pieces: list[Any]) -> AsyncIterator[Any]:
    for piece in pieces:
        yield piece


class Producer:
    """A body producer that writes when it is told to."""

    def __init__(self, length: Any = None) -> None:
        self.length = length
        self.consumer: Any = None
        self.done: Deferred[None] = Deferred()
        self.calls: list[str] = []

    def startProducing(self, consumer: Any) -> Deferred[None]:  # noqa: N802
        self.consumer = consumer
        self.calls.append("start")
        return self.done

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


class SourceTestCase(SynchronousTestCase):
    def collect(self, source: Any, size: int = 4) -> Deferred[list[bytes]]:
        async def collect() -> list[bytes]:
            pieces = open_source(source)
            try:
                return [chunk async for chunk in cut(pieces, size)]
            finally:
                await pieces.close()

        return Deferred.fromCoroutine(collect())


class CutTests(SourceTestCase):
    @given(st.lists(st.binary(max_size=20), max_size=8), st.integers(1, 12), st.booleans())
    def test_pieces_of_any_size(self, pieces: list[bytes], size: int, is_mutable: bool) -> None:
        """Chunks have all bytes in order, and one size, but the last; whatever the pieces are."""
        given = [bytearray(piece) if is_mutable else piece for piece in pieces]
        data = b"".join(pieces)
        chunks = self.successResultOf(self.collect(pieces_of(given), size))
        self.assertEqual(chunks, [data[at : at + size] for at in range(0, len(data), size)])
        self.assertTrue(all(type(chunk) is bytes for chunk in chunks))

    def test_reused_buffer(self) -> None:
        """A source may use its buffer again for the next piece."""

        async def pieces() -> AsyncIterator[Any]:
            buffer = bytearray(3)
            for number in range(3):
                buffer[:] = b"%d" % number * 3
                yield buffer

        self.assertEqual(self.successResultOf(self.collect(pieces())), [b"0001", b"1122", b"2"])

    def test_memory(self) -> None:
        """Bytes of any kind are taken as they lie in memory."""
        for source in (b"12345", bytearray(b"12345"), memoryview(b"12345"), memoryview(b"1234512345")[:5]):
            self.assertEqual(self.successResultOf(self.collect(source)), [b"1234", b"5"])
        self.assertEqual(self.successResultOf(self.collect(memoryview(b"12345678").cast("I"), 8)), [b"12345678"])
        self.failureResultOf(self.collect(memoryview(b"123456")[::2]), errors.InvalidArgumentError)

    def test_files(self) -> None:
        """A file of a path is closed at the end; one that was open stays so."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "f")
            path.write_bytes(bytes(READ_SIZE + 1))
            pieces = open_source(path)
            chunks = self.successResultOf(self.collect(path, READ_SIZE))
            self.assertEqual([len(chunk) for chunk in chunks], [READ_SIZE, 1])
            self.successResultOf(pieces.close())
            self.assertIn("closed", str(self.failureResultOf(Deferred.fromCoroutine(self._next(pieces)), ValueError).value))
        file = io.BytesIO(b"123")
        pieces = open_source(file)
        self.successResultOf(pieces.close())
        self.assertFalse(file.closed)

    async def _next(self, pieces: Any) -> Any:
        return await pieces.next()

    def test_generator_is_closed(self) -> None:
        """An asynchronous generator that is left early cleans up."""
        ended = []

        async def pieces() -> AsyncIterator[bytes]:
            try:
                yield b"1"
                yield b"2"
            finally:
                ended.append(True)

        source = open_source(pieces())
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self._next(source))), b"1")
        self.successResultOf(source.close())
        self.assertEqual(ended, [True])

    def test_no_bytes(self) -> None:
        """What a source gives has to be bytes."""
        for source in (pieces_of(["text"]), io.StringIO("text"), pieces_of([1])):
            error = self.failureResultOf(self.collect(source), errors.ObjectSourceError).value
            self.assertIn("not bytes", str(error))

    def test_no_source(self) -> None:
        """What is no source is refused by its type, a str with a hint."""
        for source, text in ((1, "not a int"), ([b""], "not a list"), (None, "not a NoneType"), ("name", "pathlib.Path")):
            error = self.failureResultOf(self.collect(source), errors.InvalidArgumentError).value
            self.assertIn(text, str(error))


class ProducerTests(SourceTestCase):
    def setUp(self) -> None:
        self.producer = Producer()
        self.source = open_source(self.producer)

    def next(self) -> Deferred[Any]:
        async def take() -> Any:
            return await self.source.next()

        return Deferred.fromCoroutine(take())

    def test_interfaces(self) -> None:
        """It is a consumer to the producer, which begins when something is wanted."""
        self.assertIsInstance(self.producer, BodyProducer)
        verifyObject(IConsumer, self.source)
        self.assertEqual(self.producer.calls, [])
        self.assertNoResult(self.next())
        self.assertEqual(self.producer.calls, ["start"])

    def test_pace(self) -> None:
        """It is paused when so much waits as is read at a time, and goes on when all of that was taken."""
        first = self.next()
        self.producer.consumer.write(b"1")
        self.assertEqual(self.successResultOf(first), b"1")
        self.producer.consumer.write(bytes(READ_SIZE))
        self.producer.consumer.write(b"2")
        self.assertEqual(self.producer.calls, ["start", "pause"])
        self.assertEqual(len(self.successResultOf(self.next())), READ_SIZE)
        self.assertEqual(self.successResultOf(self.next()), b"2")
        self.assertEqual(self.producer.calls, ["start", "pause"])
        last = self.next()
        self.assertEqual(self.producer.calls, ["start", "pause", "resume"])
        self.producer.done.callback(None)
        self.assertIsNone(self.successResultOf(last))
        self.successResultOf(self.source.close())
        self.assertEqual(self.producer.calls, ["start", "pause", "resume"])

    def test_never_pauses(self) -> None:
        """A producer that does not pause when it is told to is stopped, and that is an error."""
        self.next()
        for _ in range(100):
            self.producer.consumer.write(bytes(READ_SIZE))
        self.assertEqual(self.producer.calls, ["start", "pause", "stop"])

        async def take_all() -> None:
            while await self.source.next() is not None:
                pass

        self.failureResultOf(Deferred.fromCoroutine(take_all()), errors.ObjectSourceError)

    def test_fails(self) -> None:
        """What it fails with is raised, behind what it has written."""
        self.next()
        self.producer.consumer.write(b"1")
        self.producer.consumer.write(b"2")
        self.producer.done.errback(ZeroDivisionError())
        self.assertEqual(self.successResultOf(self.next()), b"2")
        self.failureResultOf(self.next(), ZeroDivisionError)

    def test_left_early(self) -> None:
        """It is stopped when nothing more is wanted of it, and what it writes then is not kept."""
        waiting = self.next()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.successResultOf(self.source.close())
        self.assertEqual(self.producer.calls, ["start", "stop"])
        self.producer.consumer.write(b"1")
        self.successResultOf(self.source.close())
        self.assertEqual(self.producer.calls, ["start", "stop"])

    def test_length(self) -> None:
        """A length that is no number says nothing; a number has to be right."""
        self.assertIsNone(open_source(Producer("unknown")).length)
        for length, is_right in ((2, True), (3, False), (1, False)):
            producer = Producer(length)
            collecting = self.collect(producer)
            producer.consumer.write(b"12")
            producer.done.callback(None)
            if is_right:
                self.assertEqual(self.successResultOf(collecting), [b"12"])
            else:
                self.assertIn(f"{length} bytes, and gave 2", str(self.failureResultOf(collecting, errors.ObjectSourceError).value))
