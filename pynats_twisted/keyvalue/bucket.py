"""A bucket to read from and write to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail

from ..errors import JetStreamConfigError, KeyExistsError, MessageNotFoundError, NatsError, WrongLastSequenceError
from ..jetstream.api import MsgGetRequest, MsgGetResponse
from ..jetstream.deferred import deferred
from ..jetstream.stored import StoredMsg, from_api
from .entry import OPERATION, Operation, operation_of_message
from .markers import DEFAULT_AGE, purge_deletes
from .reader import ReadOnlyKeyValue

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..errors import LockLostError
    from ..jetstream.api import PubAck
    from ..jetstream.expectations import Ttl
    from ..protocol.encoder import Payload
    from .election import LeaderElection
    from .entry import KeyValueEntry
    from .held import HeldLock
    from .lock import KeyValueLock

_DELETE = {OPERATION: Operation.DELETE.value}
_PURGE = {OPERATION: Operation.PURGE.value}

# How often a key is tried to be created while others create and delete it.
_CREATE_TRIES = 10


class KeyValue(ReadOnlyKeyValue):
    """A bucket. :meth:`~pynats_twisted.jetstream.context.JetStreamContext.key_value` and the methods that make one return it.

    What is written through the handle of a mirror goes to the mirror's origin.

    All methods that write return the new revision, or None. They raise what
    :meth:`~pynats_twisted.jetstream.context.JetStreamContext.publish` raises: :class:`~pynats_twisted.errors.NoStreamResponseError` when
    the bucket was deleted, :class:`~pynats_twisted.errors.PublishUnconfirmedError` when it is unknown whether it was written, and so on;
    :class:`~pynats_twisted.errors.InvalidKeyError` for a key that breaks a rule; and what the value codec's ``encode`` raises.
    """

    def read_only(self) -> ReadOnlyKeyValue:
        """The same bucket without the methods that change it."""
        return ReadOnlyKeyValue(self.stream, self._key_codec, self._value_codec)

    def encode_value(self, value: Any) -> Payload:
        """A value as it is stored."""
        return value if self._value_codec is None else self._value_codec.encode(value)

    # --- writing ---------------------------------------------------------------------------------------------

    def put(self, key: str, value: Any, *, ttl: Ttl | None = None) -> Deferred[int]:
        """Give a key a value, whatever it had before.

        :param value: bytes, or what the bucket's value codec takes.
        :param ttl: seconds after which the key has no value any more, 1 or more. Only in a bucket with ``history=1``, where nothing older
            can come back then. It is gone with the next value that is written without one. The bucket has to have ``limit_marker_ttl`` or
            ``allow_msg_ttl``.
        :returns: the revision.
        :raises JetStreamConfigError: the ttl breaks a rule, or the bucket keeps a history.
        :raises MessageTTLError: the bucket takes no TTLs.
        """
        if ttl is not None or self._value_codec is not None:
            return self._write(key, value, ttl)
        # Written out once more, as this is what is called most often.
        try:
            publish = self.stream.js.publish(self.subjects.write_prefix + self.subjects.encoded(key), value)
        except NatsError:
            return fail()
        return publish.addCallback(_revision)

    def update(self, key: str, value: Any, revision: int, *, ttl: Ttl | None = None) -> Deferred[int]:
        """Give a key a value if nobody else wrote to it meanwhile.

        :param revision: the one that the key has to have; 0 when it never had a value, or was purged without a trace.
        :param ttl: as for :meth:`put`. A key that had a TTL stays for ever when it is updated without one.
        :returns: the new revision.
        :raises WrongLastSequenceError: it has another revision.
        :raises JetStreamConfigError: :raises MessageTTLError: as :meth:`put`.
        """
        return self._write(key, value, ttl, revision)

    @deferred
    async def _write(self, key: str, value: Any, ttl: Ttl | None, revision: int | None = None) -> int:
        if ttl is not None:
            history = self.stream.config.max_msgs_per_subject
            if history != 1:
                rule = f"must be None for a put or update in a bucket with a history ({history}): an older value would come back"
                raise JetStreamConfigError("ttl", ttl, rule)
        ack = await self.js.publish(
            self.subjects.write(key),
            self.encode_value(value),
            expected_last_subject_seq=revision,
            ttl=ttl,
            # Somebody may have given the bucket a history meanwhile.
            rollup=None if ttl is None else "sub",
        )
        return ack.seq

    @deferred
    async def create(self, key: str, value: Any = b"", *, ttl: Ttl | None = None) -> int:
        """Give a key a value if it has none: it is new, or was deleted or purged.

        To find out whether it was deleted, the server that leads the bucket is asked (``STREAM.MSG.GET``).

        :param ttl: seconds after which the key has no value any more, 1 or more (ADR-48). An update without one makes it stay for ever.
            The bucket has to have ``limit_marker_ttl`` or ``allow_msg_ttl``. Servers make it as long as ``limit_marker_ttl`` when it is
            shorter, in a bucket with a history.
        :returns: the revision.
        :raises KeyExistsError: it has a value.
        :raises MessageTTLError: the bucket takes no TTLs.
        """
        subject, data = self.subjects.write(key), self.encode_value(value)
        expected = 0
        for _ in range(_CREATE_TRIES):
            try:
                return (await self.js.publish(subject, data, expected_last_subject_seq=expected, ttl=ttl)).seq
            except WrongLastSequenceError:
                last = await self._last_written(key)
            if last is not None and operation_of_message(last) is Operation.PUT:
                raise KeyExistsError(key, f"key {key!r} of bucket {self.bucket!r} has a value already, with revision {last.seq}")
            # What says that it was deleted may be gone already.
            expected = 0 if last is None else last.seq
        text = f"key {key!r} of bucket {self.bucket!r}: others created and deleted it {_CREATE_TRIES} times meanwhile"
        raise KeyExistsError(key, text)

    async def _last_written(self, key: str) -> StoredMsg | None:
        """What is known of a key where it is written, also when it was deleted; None when there is nothing."""
        subjects = self.subjects
        asked = subjects.origin_api.msg_get(subjects.origin_stream)
        try:
            answer = await self.js.call(MsgGetResponse, asked, MsgGetRequest(last_by_subj=subjects.origin(key)))
        except MessageNotFoundError:
            return None
        return from_api(answer.message)

    # --- removing --------------------------------------------------------------------------------------------

    @deferred
    async def delete(self, key: str, revision: int | None = None) -> int:
        """Take a key's value away, and keep what the history has of it. A key that never had one is no error.

        :param revision: only when the key has this one.
        :returns: the revision of what says that it was deleted.
        :raises WrongLastSequenceError: it has another revision.
        """
        return (await self.js.publish(self.subjects.write(key), b"", _DELETE, expected_last_subject_seq=revision)).seq

    @deferred
    async def purge(self, key: str, revision: int | None = None, *, ttl: Ttl | None = None) -> int:
        """Take a key's value away together with its history.

        :param revision: only when the key has this one.
        :param ttl: seconds after which what says that it was purged goes too, 1 or more; it stays by default. As for :meth:`create`.
        :returns: the revision of what says that it was purged.
        :raises WrongLastSequenceError: it has another revision.
        :raises MessageTTLError: the bucket takes no TTLs.
        """
        ack = await self.js.publish(self.subjects.write(key), b"", _PURGE, expected_last_subject_seq=revision, ttl=ttl, rollup="sub")
        return ack.seq

    def purge_deletes(self, older_than: float = DEFAULT_AGE) -> Deferred[int]:
        """Remove the history of deleted keys, and the markers that say so where they are old. Fires with how many entries were removed.

        A watch that was interrupted learns from a marker that a key was deleted; without it, never. A value that a key gets meanwhile
        stays.

        :param older_than: seconds that a marker must be old to be removed, by the clock of the server; half an hour by default, and 0
            or less for any age.
        :raises InvalidArgumentError: it is no number.
        """
        return purge_deletes(self, older_than)

    # --- locks -----------------------------------------------------------------------------------------------

    def lock(self, name: str, *, ttl: float = 10.0, holder: Any = b"") -> KeyValueLock:
        """A lock: a key that one holder has at a time, for ``async with``. Asks nothing yet.

        The bucket has to have ``limit_marker_ttl``, so that those who wait learn at once when a holder is gone; with ``allow_msg_ttl``
        alone they look every ``ttl`` seconds.

        :param name: the key. It should be used for nothing else.
        :param ttl: seconds after which it is free when its holder is gone, 1 or more; a fraction counts as a whole one at the server. Not
            more than the bucket's ``ttl``; and in a bucket with a history not less than its ``limit_marker_ttl``, below which the server
            keeps nothing there.
        :param holder: the key's value while it is held: who has it, for others to see.
        :raises InvalidKeyError: the name breaks a rule.
        :raises JetStreamConfigError: ttl breaks a rule, or the bucket takes no TTLs.
        """
        from .lock import KeyValueLock
        from .lock_key import LockKey

        return KeyValueLock(self, LockKey(self, name, ttl, holder))

    def election(
        self,
        name: str,
        *,
        ttl: float = 10.0,
        candidate: Any = b"",
        on_elected: Callable[[HeldLock], Any] | None = None,
        on_lost: Callable[[LockLostError | None], Any] | None = None,
        on_leader: Callable[[KeyValueEntry], Any] | None = None,
    ) -> LeaderElection:
        """A candidate in an election: of all with this name, one leads at a time. Asks nothing until it is started.

        The callbacks are plain functions, or return Deferreds, or are coroutine functions. What they raise is logged.

        :param ttl: seconds after which there is another leader when one is gone; as of :meth:`lock`.
        :param candidate: the key's value while this candidate leads, for others to see.
        :param on_elected: called when this candidate leads, with what holds the leadership. The Deferred or coroutine that it returns may
            go on for as long as it leads, and is cancelled when that is over.
        :param on_lost: called when it leads no more: with the reason, or None when it has resigned or was stopped.
        :param on_leader: called when somebody else leads, or nobody does any more, with the key's entry.
        :raises InvalidArgumentError: a callback is not callable.

        What :meth:`lock` raises is raised here too.
        """
        from .election import LeaderElection

        return LeaderElection(self, self.lock(name, ttl=ttl, holder=candidate), on_elected, on_lost, on_leader)


def _revision(ack: PubAck) -> int:
    return ack.seq
