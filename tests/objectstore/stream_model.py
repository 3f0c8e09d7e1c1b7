"""A stream in memory, to which publishes come as a test says: in time, too late, without an ack, or never."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from pynats_twisted import errors
from pynats_twisted.jetstream.api import PubAck

SUBJECT = "$O.b.C.n"
SOON = 0.01
LATE = 0.4


class StreamModel:
    """A stream, its context and its client in one, with the methods that :class:`ChunkWriter` uses.

    :param fates: what becomes of each publish, a letter each, and ``a`` when they are used up. ``a``: stored, and acked. ``s``: stored, the
        ack is lost. ``l``: lost. ``d``: stored late, the ack is lost. ``n``: nobody takes it. ``x``: stored, and the connection is lost.
        ``o``: stored behind the one that comes next, and acked. ``f``: there is no room for it here.
    :param pings: whether a ping is answered, in the same way: ``y``, or ``n`` when the connection is lost.
    """

    name = "OBJ_b"

    def __init__(self, fates: str = "", pings: str = "") -> None:
        self.reactor = Clock()
        self.client = self
        self.timeout = 5.0
        self.prefix = SimpleNamespace(domain=None)
        self.max_payload = 1024 * 1024
        self.fates: Iterator[str] = iter(fates)
        self.pings: Iterator[str] = iter(pings)
        self.stored: list[tuple[int, bytes]] = []
        self.last_seq = 7
        self.published: list[tuple[bytes, int | None]] = []
        self.is_down = False
        self._held: list[Any] = []

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.stored)

    def run(self, waiting: Deferred[Any], seconds: float = 200.0) -> None:
        """Let time pass until it has fired."""
        end = self.reactor.seconds() + seconds
        while not waiting.called and self.reactor.seconds() < end:
            self.reactor.advance(SOON)

    # --- the context -----------------------------------------------------------------------------------------

    def publish(self, subject: str, data: bytes, *, retries: int, timeout: float = 0, expected_last_subject_seq: int | None = None) -> Any:
        assert (subject, retries) == (SUBJECT, 0)
        fate = next(self.fates, "a")
        if fate == "f":
            raise errors.OutboundBufferFullError(0, 0, 0)
        self.published.append((data, expected_last_subject_seq))
        publish: Deferred[PubAck] = Deferred()
        publish.addTimeout(timeout or self.timeout, self.reactor, _too_late)
        self.reactor.callLater(LATE if fate == "d" else SOON, self._arrived, fate, publish, data, expected_last_subject_seq)
        return publish

    def _arrived(self, fate: str, publish: Deferred[PubAck], data: bytes, expected: int | None) -> None:
        if fate == "o":
            self._held.append((publish, data, expected))
            return
        answer: PubAck | errors.NatsError | None = None
        if fate in "asdx":
            answer = self._store(data, expected)
        if fate in "nx":
            answer = errors.NoStreamResponseError(SUBJECT) if fate == "n" else errors.PublishDisconnectedError(SUBJECT, "gone")
        if fate in "anx":
            self._answer(publish, answer)
        held, self._held = self._held, []
        for publish, data, expected in held:
            self._answer(publish, self._store(data, expected))

    def _store(self, data: bytes, expected: int | None) -> PubAck | errors.NatsError:
        if expected is not None and expected != (self.stored[-1][0] if self.stored else 0):
            return errors.WrongLastSequenceError(400, 10071, "wrong last sequence")
        # Others use the stream, too.
        self.last_seq += 1 + len(data) % 2
        self.stored.append((self.last_seq, data))
        return PubAck(stream="OBJ_b", seq=self.last_seq)

    def _answer(self, publish: Deferred[PubAck], answer: Any) -> None:
        if not publish.called:
            if isinstance(answer, Exception):
                publish.errback(answer)
            else:
                publish.callback(answer)

    # --- the client ------------------------------------------------------------------------------------------

    def when_connected(self) -> Deferred[Any]:
        return Deferred() if self.is_down else succeed(self)

    def when_closed(self) -> Deferred[None]:
        return Deferred()

    def ping(self) -> Deferred[None]:
        if next(self.pings, "y") == "n":
            return fail(errors.DisconnectedError("gone"))
        ponged: Deferred[None] = Deferred()
        self.reactor.callLater(SOON, ponged.callback, None)
        return ponged

    # --- the stream ------------------------------------------------------------------------------------------

    def get_next_msg(self, seq: int, subject: str, *, direct: bool) -> Deferred[Any]:
        assert (subject, direct) == (SUBJECT, False)
        for found, data in self.stored:
            if found >= seq:
                return succeed(SimpleNamespace(seq=found, data=data))
        return fail(errors.MessageNotFoundError(404, 10037, "no message found"))

    def delete_msg(self, seq: int) -> Deferred[None]:
        self.stored = [each for each in self.stored if each[0] != seq]
        return succeed(None)

    def info(self, subjects_filter: str) -> Deferred[Any]:
        assert subjects_filter == SUBJECT
        return succeed(SimpleNamespace(state=SimpleNamespace(subjects={SUBJECT: len(self.stored)} if self.stored else {})))


def _too_late(result: Any, seconds: float) -> Any:
    raise errors.PublishTimeoutError(SUBJECT, "no ack came in time")
