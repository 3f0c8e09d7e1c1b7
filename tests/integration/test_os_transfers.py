"""Objects of all sizes, from all kinds of sources and into all kinds of sinks, and parts of them."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.interfaces import IConsumer
from twisted.web.client import FileBodyProducer
from zope.interface import implementer

from pynats_twisted import errors
from pynats_twisted.objectstore import ObjectLink, ObjectMeta
from pynats_twisted.objectstore.get import AT_ONCE
from pynats_twisted.objectstore.info import encode_info
from pynats_twisted.objectstore.names import meta_subject
from tests.support.objects import CHUNK, ObjectTestCase, bytes_of, pieces_of

SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 12345)


@implementer(IConsumer)
class Sink:
    """A consumer that pauses after some bytes, if told so."""

    def __init__(self, pause_at: int | None = None) -> None:
        self.data = bytearray()
        self.producer: Any = None
        self.pause_at = pause_at
        self.is_paused = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802
        self.producer = None

    def write(self, data: bytes) -> None:
        assert not self.is_paused
        self.data += data
        if self.pause_at is not None and len(self.data) >= self.pause_at:
            self.is_paused = True
            self.producer.pauseProducing()


class PutTests(ObjectTestCase):
    async def test_sizes(self) -> None:
        """Objects of nothing, of a byte, of a chunk and around it come out as they went in."""
        store = await self.object_store(await self.jetstream())
        for size in SIZES:
            data = bytes_of(size)
            info = await store.put(f"o{size}", data)
            self.assertEqual((info.size, info.chunks), (size, -(-size // CHUNK)))
            self.assertTrue(await store.get(f"o{size}") == data)
            self.assertEqual(replace(await store.info(f"o{size}"), modified=None), replace(info, modified=None))
        await self.assert_no_consumers(store)

    async def test_sources(self) -> None:
        """Every kind of source gives the same object, in chunks of one size."""
        store = await self.object_store(await self.jetstream())
        data = bytes_of(3 * CHUNK + 5)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "file")
            path.write_bytes(data)
            with io.FileIO(path) as file:
                sources: list[Any] = [
                    data,
                    bytearray(data),
                    memoryview(data),
                    path,
                    file,
                    io.BytesIO(data),
                    pieces_of(data, 777),
                    pieces_of(data, len(data)),
                    FileBodyProducer(io.BytesIO(data), readSize=1000),
                ]
                infos = [await store.put(f"o{number}", source) for number, source in enumerate(sources)]
                self.assertFalse(file.closed)
        self.assertEqual({(info.size, info.chunks, info.digest) for info in infos}, {(len(data), 4, infos[0].digest)})
        for number in range(len(sources)):
            self.assertTrue(await store.get(f"o{number}") == data, number)

    async def test_file_from_where_it_stands(self) -> None:
        """A file that is open is read from its position."""
        store = await self.object_store(await self.jetstream())
        file = io.BytesIO(b"head and body")
        file.seek(9)
        await store.put("o", file)
        self.assertEqual(await store.get("o"), b"body")

    async def test_replacing(self) -> None:
        """A second object of the same name takes the place of the first, whose chunks go."""
        store = await self.object_store(await self.jetstream())
        await store.put("o", bytes_of(3 * CHUNK, 1))
        info = await store.put("o", bytes_of(2 * CHUNK, 2))
        await self.assert_stored(store, info, bytes_of(2 * CHUNK, 2))
        self.assertEqual((await self.state(store)).messages, 3)

    async def test_what_is_said(self) -> None:
        """Description, headers, metadata and the size of chunks are kept."""
        store = await self.object_store(await self.jetstream())
        meta = ObjectMeta(name="Ω/o", description="d", headers={"A": ["1", "2"]}, metadata={"m": "t"}, max_chunk_size=1000)
        await store.put(meta, bytes(2500))
        info = await store.info("Ω/o")
        self.assertEqual((info.meta, info.chunks), (meta, 3))

    async def test_producer_is_paused(self) -> None:
        """A body producer writes no more than what the window and a chunk or two hold."""
        server = await self.start_server(jetstream=True)
        proxy = await self.start_proxy(server)
        nc = await self.connect(proxy)
        store = await self.object_store(nc)
        proxy.to_client.delay = 0.05
        producer: Any = FileBodyProducer(io.BytesIO(bytes_of(40 * CHUNK)))
        written = most = 0

        def startProducing(consumer: Any, begin: Any = producer.startProducing) -> Any:  # noqa: N802
            write = consumer.write

            def count(data: bytes) -> None:
                nonlocal written, most
                written += len(data)
                most = max(most, written - nc.stats.in_msgs * CHUNK)
                write(data)

            consumer.write = count
            return begin(consumer)

        producer.startProducing = startProducing
        info = await store.put("o", producer, window=4 * CHUNK)
        # An ack came for each of the others.
        self.assertLess(most, 7 * CHUNK)
        await self.assert_stored(store, info, bytes_of(40 * CHUNK))

    async def test_wrong_length(self) -> None:
        """A body producer that writes less than it said fails the put, and nothing is left."""
        store = await self.object_store(await self.jetstream())
        producer = FileBodyProducer(io.BytesIO(bytes(3 * CHUNK)))
        producer.length += 1
        error = await self.assertFailure(store.put("o", producer), errors.ObjectSourceError)
        self.assertEqual(str(error), f"the source said that it has {3 * CHUNK + 1} bytes, and gave {3 * CHUNK}")
        self.assertEqual((await self.state(store)).subjects, {})

    async def test_refused(self) -> None:
        """What is no source, no window, no time or too large a chunk is refused, with its rule."""
        store = await self.object_store(await self.jetstream())
        refused: list[tuple[str, dict[str, Any]]] = [
            ("of a str give pathlib.Path", {"source": "a/path"}),
            ("not a list", {"source": [b"a"]}),
            ("window 0 is not", {"source": b"", "window": 0}),
            ("timeout -1 is not", {"source": b"", "timeout": -1}),
            ("max_chunk_size 2000000 is more than the 1048576", {"source": b"", "meta": ObjectMeta(name="o", max_chunk_size=2_000_000)}),
            ("cannot be put as a link", {"source": b"", "meta": ObjectMeta(name="o", link=ObjectLink(bucket="b", name="x"))}),
            ("meta is a bytes", {"source": b"", "meta": b"o"}),
            ("must not be empty", {"source": b"", "meta": ""}),
        ]
        for text, options in refused:
            error = await self.assertFailure(store.put(**{"meta": "o", **options}), errors.InvalidArgumentError)
            self.assertIn(text, str(error))
        await self.assertFailure(store.put("o", Path("no", "such")), FileNotFoundError)
        self.assertEqual((await self.state(store)).messages, 0)

    async def test_many_at_once(self) -> None:
        """Objects that are put and read at the same time, chunks between chunks, do not disturb each other."""
        store = await self.object_store(await self.jetstream())
        contents = {f"o{number}": bytes_of(20 * CHUNK + number, number) for number in range(8)}
        # With windows so small the chunks of all are mixed.
        await gatherResults([store.put(name, pieces_of(data), window=2 * CHUNK) for name, data in contents.items()])
        found = await gatherResults([store.get(name) for name in contents])
        self.assertTrue(found == list(contents.values()))
        parts = await gatherResults([store.get(name, offset=7 * CHUNK + 3, length=2 * CHUNK) for name in contents])
        self.assertTrue(parts == [data[7 * CHUNK + 3 : 9 * CHUNK + 3] for data in contents.values()])


class PartTests(ObjectTestCase):
    async def test_parts(self) -> None:
        """Parts from anywhere have the bytes that are there."""
        store = await self.object_store(await self.jetstream())
        size = 5 * CHUNK + 100
        data = bytes_of(size)
        await store.put("o", data)
        for offset in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7, 5 * CHUNK, 5 * CHUNK + 50, size - 1, size):
            for length in (0, 1, CHUNK, 2 * CHUNK + 3, size, None):
                found = await store.get("o", offset=offset, length=length)
                self.assertTrue(found == data[offset : size if length is None else offset + length], (offset, length))
        await self.assert_no_consumers(store)

    async def test_chunks_of_many_sizes(self) -> None:
        """Parts of an object with chunks of different sizes, as other clients may make them, are found by their sizes."""
        store = await self.object_store(await self.jetstream())
        data = bytes_of(1000)
        info = await store.put(ObjectMeta(name="o", max_chunk_size=400), data)
        await store.stream.purge(filter=f"$O.b.C.{info.nuid}")
        # As few chunks as there could be, and the first one not full.
        for piece in (data[:300], data[300:700], data[700:]):
            await store.js.publish(f"$O.b.C.{info.nuid}", piece)
        for offset, length in ((0, 1000), (0, 10), (299, 2), (300, 1), (350, 400), (699, 2), (700, 300), (999, 1), (250, None)):
            expected = data[offset : None if length is None else offset + length]
            self.assertEqual(await store.get("o", offset=offset, length=length), expected, (offset, length))

    async def test_far_in_a_large_object(self) -> None:
        """A byte near the end of an object costs a few messages, not all that come before."""
        nc = await self.jetstream()
        store = await self.object_store(nc)
        data = bytes_of(200 * CHUNK)
        await store.put("o", data)
        before = nc.stats.in_msgs
        self.assertEqual(await store.get("o", offset=195 * CHUNK, length=2), data[195 * CHUNK : 195 * CHUNK + 2])
        self.assertLess(nc.stats.in_msgs - before, 20)

    async def test_wrong_parts(self) -> None:
        """A part that begins behind the end, or is no part, is refused."""
        store = await self.object_store(await self.jetstream())
        await store.put("o", b"12345")
        for offset, length, text in (
            (6, None, "offset 6 is behind the end of object 'o', which has 5 bytes"),
            (-1, 1, "offset -1"),
            (0, -1, "length -1"),
        ):
            error = await self.assertFailure(store.get("o", offset=offset, length=length), errors.InvalidArgumentError)
            self.assertIn(text, str(error))


class AtOnceTests(ObjectTestCase):
    """Small objects, which one request brings."""

    async def test_two_requests(self) -> None:
        """What is known of it, and all of its chunks; where the store allows no direct gets, a consumer brings them."""
        nc = await self.jetstream()
        store = await self.object_store(nc)
        data = bytes_of(5 * CHUNK + 1)
        await store.put("o", data)
        asked = nc.stats.out_msgs
        self.assertEqual(await store.get("o"), data)
        self.assertEqual(nc.stats.out_msgs - asked, 2)
        await nc.jetstream().update_stream(replace((await store.stream.info()).config, allow_direct=False))
        self.assertEqual(await (await nc.jetstream().object_store("b")).get("o"), data)
        # Nobody has told this one.
        self.assertEqual(await store.get("o"), data)

    async def test_larger_ones(self) -> None:
        """An object that is too large for that, and parts of a small one, come as ever."""
        store = await self.object_store(await self.jetstream())
        data = bytes_of(AT_ONCE + 1)
        await store.put("o", data)
        self.assertEqual(await store.get("o"), data)
        self.assertEqual(await store.get("o", offset=CHUNK - 1, length=2), data[CHUNK - 1 : CHUNK + 1])


class BrokenTests(ObjectTestCase):
    """Objects that are not as the store says."""

    async def test_wrong_bytes(self) -> None:
        """Other bytes of the same size are found out by the digest, before the last chunk is handed out."""
        store = await self.object_store(await self.jetstream())
        info = await store.put("o", bytes_of(3 * CHUNK))
        await store.stream.purge(filter=f"$O.b.C.{info.nuid}")
        for _ in range(3):
            await store.js.publish(f"$O.b.C.{info.nuid}", bytes(CHUNK))
        error = await self.error_of(store.get("o"), errors.ObjectDigestError)
        self.assertEqual(error.expected, info.digest)
        self.assertIn(error.actual, str(error))
        sink = Sink()
        await self.assertFailure(store.get_to("o", sink), errors.ObjectDigestError)
        self.assertEqual(len(sink.data), 2 * CHUNK)
        self.assertIsNone(sink.producer)
        # Of a part nothing can be said.
        self.assertEqual(await store.get("o", offset=1, length=2), bytes(2))

    async def test_missing_chunk(self) -> None:
        """An object that lacks a chunk is incomplete, wherever it is missing; the error says what there is and what there should be."""
        store = await self.object_store(await self.jetstream())
        for missing in range(3):
            await store.put("o", bytes_of(3 * CHUNK))
            state = await self.state(store)
            await store.stream.delete_msg(state.first_seq + missing)
            error = await self.assertFailure(store.get("o"), errors.ObjectIncompleteError)
            self.assertEqual(str(error), f"object 'o' of store 'b' has {2 * CHUNK} bytes in 2 chunks, it should have {3 * CHUNK} in 3")
        await self.assert_no_consumers(store)

    async def test_wrong_size(self) -> None:
        """More bytes than the store says are not handed out."""
        store = await self.object_store(await self.jetstream())
        info = await store.put("o", b"12345")
        await store.js.publish(meta_subject("b", "o"), encode_info(replace(info, size=4)), rollup="sub")
        await self.assertFailure(store.get("o"), errors.ObjectIncompleteError)

    async def test_replaced_meanwhile(self) -> None:
        """A reader of an object that is replaced ends with an error; a get begins again, and has the new one."""
        nc = await self.jetstream()
        store = await self.object_store(nc)
        await store.put("o", bytes_of(150 * CHUNK, 1))
        reader = await store.open("o")
        await reader.read(10)
        new = bytes_of(150 * CHUNK, 2)
        get = store.get("o")
        await store.put("o", new)
        await self.assertFailure(reader.read(), errors.ObjectIncompleteError)
        self.assertIn(await get, (new, bytes_of(150 * CHUNK, 1)))


class SinkTests(ObjectTestCase):
    async def test_consumer(self) -> None:
        """A consumer gets all bytes of an object, or of a part, and what is known of it."""
        store = await self.object_store(await self.jetstream())
        data = bytes_of(3 * CHUNK + 1)
        info = await store.put("o", data)
        for offset, length in ((0, None), (CHUNK + 1, CHUNK)):
            sink = Sink()
            self.assertEqual((await store.get_to("o", sink, offset=offset, length=length)).nuid, info.nuid)
            self.assertTrue(sink.data == data[offset : None if length is None else offset + length])
            self.assertIsNone(sink.producer)

    async def test_paused_consumer(self) -> None:
        """While the consumer is paused the server sends no more than what is read ahead."""
        server = await self.start_server(jetstream=True)
        proxy = await self.start_proxy(server)
        nc = await self.connect(proxy)
        store = await self.object_store(nc)
        data = bytes_of(160 * CHUNK)
        await store.put("o", data)
        before = proxy.to_client.passed
        sink = Sink(pause_at=10 * CHUNK)
        get = store.get_to("o", sink)
        await self.until(lambda: sink.is_paused)
        await self.sleep(0.5)
        self.assertLess(proxy.to_client.passed - before, 60 * CHUNK)
        sink.is_paused, sink.pause_at = False, None
        sink.producer.resumeProducing()
        await get
        self.assertTrue(sink.data == data)

    async def test_stopped_consumer(self) -> None:
        """A consumer that wants no more ends the reading, and the server forgets it."""
        store = await self.object_store(await self.jetstream())
        await store.put("o", bytes_of(50 * CHUNK))
        sink = Sink(pause_at=CHUNK)
        get = store.get_to("o", sink)
        await self.until(lambda: sink.is_paused)
        sink.producer.stopProducing()
        await self.assertFailure(get, errors.ObjectStoppedError)
        await self.assert_no_consumers(store)

    async def test_reader(self) -> None:
        """A reader gives as many bytes as are asked for, then the rest, then nothing; it knows what is left."""
        store = await self.object_store(await self.jetstream())
        data = bytes_of(3 * CHUNK)
        await store.put("o", data)
        async with await store.open("o") as reader:
            self.assertEqual((reader.info.name, reader.left), ("o", len(data)))
            self.assertTrue(await reader.read(10) == data[:10])
            self.assertTrue(await reader.read(2 * CHUNK) == data[10 : 2 * CHUNK + 10])
            self.assertEqual(reader.left, CHUNK - 10)
            self.assertTrue(b"".join([piece async for piece in reader]) == data[2 * CHUNK + 10 :])
            self.assertEqual((await reader.read(), await reader.read(5)), (b"", b""))
        await self.assert_no_consumers(store)

    async def test_reader_left(self) -> None:
        """A reader that is left early leaves nothing at the server, and gives nothing more."""
        store = await self.object_store(await self.jetstream())
        await store.put("o", bytes_of(50 * CHUNK))
        async with await store.open("o") as reader:
            await reader.read(1)
        await self.assert_no_consumers(store)
        error = await self.assertFailure(reader.read(2 * CHUNK), errors.ObjectStoppedError)
        self.assertIn("was stopped", str(error))

    async def test_links(self) -> None:
        """A link is followed, also into another store; one that leads to no object says so."""
        nc = await self.jetstream()
        store, other = await self.object_store(nc), await self.object_store(nc, "other")
        target = await other.put("target", bytes_of(2 * CHUNK))
        await store.add_link("link", target)
        self.assertTrue(await store.get("link") == bytes_of(2 * CHUNK))
        reader = await store.open("link", offset=1, length=1)
        self.assertEqual((reader.info.bucket, reader.info.name), ("other", "target"))
        await reader.stop()
        await store.add_bucket_link("whole", other)
        self.assertIn("whole store 'other'", str(await self.error_of(store.get("whole"), errors.ObjectLinkError)))
        await other.delete("target")
        await self.assertFailure(store.get("link"), errors.ObjectNotFoundError)
        await nc.jetstream().delete_object_store("other")
        self.assertIn("which there is not", str(await self.error_of(store.get("link"), errors.ObjectNotFoundError)))
        await self.assertFailure(store.get("nothing"), errors.ObjectNotFoundError)


class FileTests(ObjectTestCase):
    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.path = self.directory / "file"

    def names(self) -> list[str]:
        return sorted(os.listdir(self.directory))

    async def begun(self) -> tuple[Any, Any, bytes]:
        """A store with a large object, of which a get has come halfway."""
        server = await self.start_server(jetstream=True)
        self.proxy = await self.start_proxy(server)
        store = await self.object_store(await self.connect(self.proxy))
        data = bytes_of(100 * CHUNK)
        await store.put("o", data)
        self.proxy.to_client.rate = 20_000_000
        get = store.get_file("o", self.path)
        await self.until(lambda: any(path.stat().st_size > 30 * CHUNK for path in self.directory.iterdir()))
        get.cancel()
        self.failureResultOf(get)
        self.proxy.to_client.rate = None
        return store, get, data

    async def test_whole(self) -> None:
        """An object becomes a file, in the place of one that was there; nothing else stays."""
        store = await self.object_store(await self.jetstream())
        for data in (b"", b"1", bytes_of(3 * CHUNK + 1)):
            info = await store.put("o", data)
            self.assertEqual((await store.get_file("o", self.path)).nuid, info.nuid)
            self.assertTrue(self.path.read_bytes() == data)
        self.assertEqual(self.names(), ["file"])

    async def test_resumed(self) -> None:
        """A get that was broken off goes on behind what is there, and what is there does not come again."""
        store, _, data = await self.begun()
        (part,) = self.directory.iterdir()
        have = part.stat().st_size
        self.assertLess(have, len(data))
        await self.assert_no_consumers(store)
        before = self.proxy.to_client.passed
        await store.get_file("o", str(self.path))
        self.assertLess(self.proxy.to_client.passed - before, len(data) - have + 3 * CHUNK)
        self.assertTrue(self.path.read_bytes() == data)
        self.assertEqual(self.names(), ["file"])

    async def test_wrong_part(self) -> None:
        """A part with wrong bytes is found out, and all is read anew."""
        store, _, data = await self.begun()
        (part,) = self.directory.iterdir()
        with part.open("r+b") as file:
            file.write(b"wrong")
        await store.get_file("o", self.path)
        self.assertTrue(self.path.read_bytes() == data)
        self.assertEqual(self.names(), ["file"])

    async def test_replaced(self) -> None:
        """The part of an object that was replaced is not gone on with, and is removed in the end."""
        store, _, _ = await self.begun()
        await store.put("o", b"new")
        await store.get_file("o", self.path)
        self.assertEqual((self.path.read_bytes(), self.names()), (b"new", ["file"]))

    async def test_anew(self) -> None:
        """Without ``resume`` nothing of before is used, and a get that fails leaves nothing."""
        store, _, data = await self.begun()
        (part,) = self.directory.iterdir()
        with part.open("r+b") as file:
            file.write(b"wrong")
        have = part.stat().st_size
        self.proxy.to_client.rate = 20_000_000
        get = store.get_file("o", self.path, resume=False)
        await self.until(lambda: CHUNK < part.stat().st_size < have)
        get.cancel()
        self.failureResultOf(get)
        self.assertEqual(self.names(), [])
        self.proxy.to_client.rate = None
        await store.get_file("o", self.path, resume=False)
        self.assertTrue(self.path.read_bytes() == data)

    async def test_no_file(self) -> None:
        """A path that can be no file is refused before anything is read."""
        store = await self.object_store(await self.jetstream())
        for path, text in ((self.directory, "is a directory"), (Path(), "is a directory"), (3, "is a int"), (b"file", "is a bytes")):
            get: Any = store.get_file
            error = await self.error_of(get("o", path), errors.InvalidArgumentError)
            self.assertIn(text, str(error))
        await store.put("o", b"1")
        await self.assertFailure(store.get_file("o", self.directory / "none" / "file"), FileNotFoundError)

    async def test_wrong_object(self) -> None:
        """An object whose digest is wrong becomes no file."""
        store = await self.object_store(await self.jetstream())
        info = await store.put("o", bytes_of(2 * CHUNK))
        await store.js.publish(meta_subject("b", "o"), encode_info(replace(info, digest="SHA-256=" + 43 * "A" + "=")), rollup="sub")
        await self.assertFailure(store.get_file("o", self.path), errors.ObjectDigestError)
        self.assertEqual(self.names(), [])
