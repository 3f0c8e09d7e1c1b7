"""Writing chunks: in order, and each once, whatever becomes of the publishes and their acks."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.objectstore.chunks import ChunkWriter
from tests.objectstore.stream_model import SUBJECT, StreamModel


def chunks_of(count: int) -> list[bytes]:
    return [b"%d" % number * (1 + number % 3) for number in range(count)]


class ChunkTestCase(SynchronousTestCase):
    def write(self, model: StreamModel, chunks: list[bytes], window: int = 12, timeout: float = 30.0) -> tuple[ChunkWriter, Deferred[Any]]:
        context: Any = model
        writer = ChunkWriter(context, context, SUBJECT, window=window, timeout=timeout)

        async def write() -> bytes:
            for chunk in chunks:
                await writer.write(chunk)
            await writer.finish()
            return model.data

        return writer, Deferred.fromCoroutine(write())


class ChunkTests(ChunkTestCase):
    def test_all_is_well(self) -> None:
        """Each chunk is published once, and nothing is asked."""
        model = StreamModel()
        writer, writing = self.write(model, chunks_of(20))
        model.run(writing)
        self.assertEqual(self.successResultOf(writing), b"".join(chunks_of(20)))
        self.assertEqual([data for data, _ in model.published], chunks_of(20))
        self.assertEqual((writer.stored, writer.size, writer.recoveries, writer.in_flight), (20, len(model.data), 0, 0))

    def test_window(self) -> None:
        """No more than the window is under way; a chunk that is larger goes alone."""
        model = StreamModel()
        writer, writing = self.write(model, [b"1234", b"5678", b"9012", b"x" * 50, b"y"], window=8)
        self.assertEqual((len(model.published), writer.in_flight), (2, 8))
        model.reactor.advance(0.01)
        self.assertEqual(len(model.published), 3)
        model.run(writing)
        self.assertEqual(len(self.successResultOf(writing)), 63)

    def test_lost_ack(self) -> None:
        """What was stored without an ack is found, and not stored again."""
        model = StreamModel("aas")
        writer, writing = self.write(model, chunks_of(5))
        model.run(writing)
        self.assertEqual(self.successResultOf(writing), b"".join(chunks_of(5)))
        self.assertEqual((len(model.published), writer.recoveries), (5, 1))

    def test_lost_chunk(self) -> None:
        """Behind a chunk that was lost those that came are deleted, and all are published again; the first of them on condition."""
        model = StreamModel("aalaa")
        _, writing = self.write(model, chunks_of(5))
        model.run(writing)
        self.assertEqual(self.successResultOf(writing), b"".join(chunks_of(5)))
        data, expected = model.published[5]
        self.assertEqual((data, expected), (b"222", model.stored[1][0]))

    def test_out_of_order(self) -> None:
        """Chunks whose sequences are not in their order are stored anew."""
        model = StreamModel("aaoa")
        writer, writing = self.write(model, chunks_of(6))
        model.run(writing)
        self.assertEqual(self.successResultOf(writing), b"".join(chunks_of(6)))
        self.assertEqual(writer.recoveries, 1)

    def test_late_one(self) -> None:
        """One that comes late, when what is stored was looked at and before it is stored again, is not there twice."""
        model = StreamModel("adx")
        _, writing = self.write(model, chunks_of(3))
        model.run(writing)
        self.assertEqual(self.successResultOf(writing), b"".join(chunks_of(3)))

    def test_one_too_many(self) -> None:
        """One that comes so late that it is there twice makes the object fail: they are counted at the end."""
        model = StreamModel("ax")
        # Chunks as large as the server takes leave no room for the condition.
        model.max_payload = 3
        model.get_next_msg = lambda *args, **options: fail(errors.MessageNotFoundError(404, 10037, ""))  # type: ignore[method-assign]
        _, writing = self.write(model, chunks_of(3))
        model.run(writing)
        error = self.failureResultOf(writing, errors.ObjectOrderError).value
        self.assertEqual(str(error), "3 chunks were stored on '$O.b.C.n', and the stream has 5")

    def test_gone(self) -> None:
        """A server that does not come back ends it, after the time that it was given, and with the reason."""
        model = StreamModel("aax")
        model.is_down = True
        _, writing = self.write(model, chunks_of(5), timeout=7.0)
        model.run(writing)
        error = self.failureResultOf(writing, errors.ObjectTimeoutError).value
        self.assertIn("for 7 s nothing more was stored", str(error))
        self.assertIsInstance(error.__cause__, errors.PublishDisconnectedError)
        self.assertLess(model.reactor.seconds(), 8.0)
        self.assertEqual([call for call in model.reactor.getDelayedCalls() if call.active()], [])

    def test_refused(self) -> None:
        """What the stream refuses for good ends it at once, with the stream's own error."""
        model = StreamModel()
        refused = errors.StreamStoreError(503, 10077, "maximum bytes exceeded")
        model.publish = lambda *args, **options: Deferred.fromCoroutine(self._refuse(refused))  # type: ignore[method-assign]
        _, writing = self.write(model, chunks_of(5))
        self.assertIs(self.failureResultOf(writing).value, refused)

    async def _refuse(self, error: Exception) -> None:
        raise error

    def test_wrong_stream(self) -> None:
        """A chunk that another stream has stored ends it."""
        model = StreamModel()
        model.name = "OBJ_other"
        _, writing = self.write(model, chunks_of(1))
        model.run(writing)
        self.assertIn("'OBJ_b'", str(self.failureResultOf(writing, errors.ObjectStoreError).value))

    def test_cancelled(self) -> None:
        """Cancelling leaves nothing waiting."""
        model = StreamModel("l" * 5)
        writer, writing = self.write(model, chunks_of(5))
        writing.cancel()
        self.failureResultOf(writing, CancelledError)
        writer.stop()
        model.reactor.advance(10)
        self.assertEqual(model.reactor.getDelayedCalls(), [])

    @settings(max_examples=300, deadline=None)
    @given(st.text("aaaasldnxof", max_size=40), st.text("yn", max_size=6), st.integers(0, 14), st.integers(1, 30))
    def test_any_fate(self, fates: str, pings: str, count: int, window: int) -> None:
        """Where it ends well, the stream has all chunks then, once and in order; else it ends with an error that says so."""
        model = StreamModel(fates, pings)
        chunks = chunks_of(count)
        writer, writing = self.write(model, chunks, window)
        model.run(writing, 2000.0)
        results: list[Any] = []
        writing.addBoth(results.append)
        (result,) = results
        if isinstance(result, bytes):
            self.assertEqual(result, b"".join(chunks))
            self.assertEqual((writer.stored, writer.in_flight), (count, 0))
        else:
            result.trap(errors.ObjectOrderError, errors.ObjectTimeoutError)
        self.ended(model, writer)

    @settings(max_examples=200, deadline=None)
    @given(st.text("aaaaslnxf", max_size=30), st.text("yn", max_size=6), st.integers(0, 14), st.integers(1, 30))
    def test_it_ends_well(self, fates: str, pings: str, count: int, window: int) -> None:
        """However many chunks and acks are lost: where none comes late, all is well in the end."""
        model = StreamModel(fates, pings)
        writer, writing = self.write(model, chunks_of(count), window, timeout=1000.0)
        model.run(writing, 2000.0)
        self.assertEqual(self.successResultOf(writing), b"".join(chunks_of(count)))
        self.ended(model, writer)

    def ended(self, model: StreamModel, writer: ChunkWriter) -> None:
        """Nothing is left that waits."""
        writer.stop()
        model.reactor.advance(60)
        self.assertEqual(model.reactor.getDelayedCalls(), [])
