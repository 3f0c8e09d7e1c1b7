"""Writes under a lock: the server stores them only while the lock has not changed hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.defer import Deferred, DeferredLock

from ..errors import InvalidKeyError, LockTimeoutError, MessageNotFoundError, WrongLastSequenceError
from ..jetstream.api import MsgGetRequest, MsgGetResponse, StreamInfo
from ..jetstream.checks import check_timeout
from ..jetstream.deferred import deferred
from .entry import OPERATION, Operation

if TYPE_CHECKING:
    from ..jetstream.api import PubAck
    from .bucket import KeyValue
    from .lock_key import Claim, LockKey

_WRONG_REVISION = 10071
# The shortest time that something may take.
_MOMENT = 0.001


class GuardedWrites:
    """The part of a held lock that writes to its bucket.

    Each write says to the server which revision the lock has to have: it is stored only if the lock is held by this holder at that very
    moment, whatever the clocks say. They are sent one after another, each when the one before has been answered.

    All raise :class:`~pynats_twisted.errors.LockLostError` when the lock is lost or was given back: nothing was stored. And all raise
    :class:`~pynats_twisted.errors.LockTimeoutError` when the lock could not be used in time: nothing was stored. With a
    :class:`~pynats_twisted.errors.PublishUnconfirmedError` it is unknown whether it was stored. The other errors are those of
    :meth:`~pynats_twisted.jetstream.context.JetStreamContext.publish`.

    :ivar name: which lock.
    """

    if TYPE_CHECKING:
        # A held lock has these.

        def check(self) -> None:
            """Go on only if it is held."""

        async def _in_turn(self, send: Callable[[int], Deferred[PubAck]], end: float) -> tuple[int, Deferred[PubAck]]:
            """Send something when nothing else changes the lock's revision, until then at most, and say with which."""

        async def _refused(self, revision: int) -> None:
            """Something was refused that was sent with this revision: wait until it may be sent again."""

    def __init__(self, kv: KeyValue, key: LockKey, claim: Claim) -> None:
        self._kv = kv
        self._key = key
        self._claim = claim
        self.name: str = key.name
        self._writes = DeferredLock()

    def put(self, key: str, value: Any, *, timeout: float | None = None) -> Deferred[int]:
        """Write a key, if the lock is still held. Fires with the key's revision.

        :param value: as of :meth:`.KeyValue.put`.
        :param timeout: seconds; the context's by default.
        :raises InvalidKeyError: the key breaks a rule, or is that of the lock itself.
        """
        return self._write(key, value, None, timeout)

    def delete(self, key: str, *, timeout: float | None = None) -> Deferred[int]:
        """Delete a key, if the lock is still held; its history stays. Else as :meth:`put`."""
        return self._write(key, b"", Operation.DELETE, timeout)

    def purge(self, key: str, *, timeout: float | None = None) -> Deferred[int]:
        """Delete a key with its history, if the lock is still held. Else as :meth:`put`."""
        return self._write(key, b"", Operation.PURGE, timeout)

    def update(self, key: str, value: Any, revision: int, *, timeout: float | None = None) -> Deferred[int]:
        """Write a key, if the lock is still held and the key has this revision: for keys that others write without the lock.

        A message can name one revision only, and here that is the lock's. So the key is read before, and the write is refused when anything
        at all was written to the bucket since: then it is tried again. Where much is written to the bucket, that can take long.

        :param revision: 0 for a key that was never written, or of which nothing is left.
        :raises WrongLastSequenceError: the key has another revision.

        Else as :meth:`put`; what :meth:`~pynats_twisted.jetstream.context.JetStreamContext.call` raises is raised too, and nothing was
        stored then.
        """
        return self._write(key, value, None, timeout, revision)

    @deferred
    async def _write(self, key: str, value: Any, operation: Operation | None, timeout: float | None, wanted: int | None = None) -> int:
        subject = self._kv.subjects.write(key)
        if subject == self._key.subject:
            raise InvalidKeyError(f"key {key!r} is that of the lock itself, which is written by what keeps it")
        payload = self._kv.encode_value(value) if operation is None else b""
        js = self._key.js
        seconds = js.timeout if timeout is None else check_timeout("timeout", timeout)
        now = self._key.reactor.seconds
        end = now() + seconds
        last_seq: int | None = None

        def send(revision: int) -> Deferred[PubAck]:
            return js.publish(
                subject,
                payload,
                None if operation is None else {OPERATION: operation.value},
                msg_id=self._claim.new_msg_id(),
                expected_last_seq=last_seq,
                expected_last_subject_seq=revision,
                expected_last_subject_seq_subject=self._key.stored_subject,
                rollup="sub" if operation is Operation.PURGE else None,
                timeout=max(end - now(), _MOMENT),
            )

        await self._in_time(self._writes.acquire(), end)
        try:
            while True:
                self.check()
                if wanted is not None:
                    last_seq = await self._last_seq_with(self._kv.subjects.origin(key), wanted)
                revision, sent = await self._in_turn(send, end)
                try:
                    return (await sent).seq
                except WrongLastSequenceError as error:
                    await self._refused(revision)
                    if now() >= end:
                        raise self._too_late() from error
        finally:
            self._writes.release()

    def _in_time(self, waiting: Deferred[DeferredLock], end: float) -> Deferred[DeferredLock]:
        """Wait for a turn, until then at most."""

        def too_late(_: object, seconds: float) -> NoReturn:
            raise self._too_late()

        return waiting.addTimeout(max(end - self._key.reactor.seconds(), _MOMENT), self._key.reactor, too_late)

    def _too_late(self) -> LockTimeoutError:
        return LockTimeoutError(self.name, "could not be used for a write in time, which was not stored")

    async def _last_seq_with(self, subject: str, revision: int) -> int:
        """The last sequence of the stream at some moment at which the subject had this one."""
        js, stream = self._key.js, self._key.stream_name
        # In this order: a message that comes in between makes the write be refused, and nothing else.
        last_seq = (await js.call(StreamInfo, js.prefix.stream_info(stream))).state.last_seq
        try:
            answer = await js.call(MsgGetResponse, js.prefix.msg_get(stream), MsgGetRequest(last_by_subj=subject))
            found = answer.message.seq
        except MessageNotFoundError:
            found = 0
        if found != revision:
            raise WrongLastSequenceError(400, _WRONG_REVISION, f"wrong last sequence: {found}")
        return last_seq
