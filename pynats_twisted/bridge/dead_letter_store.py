"""The dead letters of a route: messages that were given up, in a stream, each once, with what is to be known of their end."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pynats_twisted.bridge.interfaces import DeadLetter
from pynats_twisted.bridge.loops import PATH_HEADER, LoopGuard
from pynats_twisted.bridge.subjects import SubjectTemplate
from pynats_twisted.errors import MessageDeleteError, MessageNotFoundError, WrongLastSequenceError
from pynats_twisted.jetstream.dead_letter_headers import format_nanoseconds, sendable
from pynats_twisted.protocol.headers import Headers
from pynats_twisted.protocol.subjects import matches

if TYPE_CHECKING:
    from pynats_twisted.jetstream.context import JetStreamContext
    from pynats_twisted.jetstream.message import JsMsg
    from pynats_twisted.jetstream.stored import StoredMsg
    from pynats_twisted.jetstream.stream import Stream

ERROR: Final = "Nats-Bridge-Error"
STATUS: Final = "Nats-Bridge-Status"
ATTEMPTS: Final = "Nats-Bridge-Attempts"
FIRST_TIME: Final = "Nats-Bridge-First-Time"
SUBJECT: Final = "Nats-Bridge-Original-Subject"
STREAM: Final = "Nats-Bridge-Stream"
SEQUENCE: Final = "Nats-Bridge-Sequence"
TIME: Final = "Nats-Bridge-Time"
"""When the message was stored in its stream. With its sequence it says which message it is, also when the stream was made anew."""

ORIGINAL: Final = "Original-"
"""What the names of a message's own headers begin with that mean something to NATS or to the bridge: ``Nats-…``."""

MAX_ERROR_CHARS: Final = 512
MAX_LISTED: Final = 1000
"""Most dead letters that are listed at a time."""

# A publish with the same subject is on its way into the stream, and may not get there.
_IN_CONFLICT: Final = 10164
_STORE_TRIES: Final = 5


@dataclass(frozen=True)
class Ending:
    """How a message ended.

    :ivar error: why, in words.
    :ivar status: the target's last status, or 0.
    :ivar attempts: how often it was tried.
    :ivar first_time: when it was first tried, in seconds since 1970.
    """

    error: str
    status: int
    attempts: int
    first_time: float


class DeadLetterStore:
    """The dead letters of one route.

    :param js: where they are stored.
    :param subject: their subject, with ``{seq}`` for the sequence of the message in its stream.
    :param guard: continues the path of bridges that a message has passed.

    :ivar pattern: their subjects, as a subject with wildcards.
    """

    def __init__(self, js: JetStreamContext, subject: str, guard: LoopGuard) -> None:
        self._js = js
        self._template = SubjectTemplate(subject)
        self._guard = guard
        self.pattern = self._template.pattern

    async def stream(self) -> Stream:
        """The stream that stores them.

        :raises StreamNotFoundError: there is none.
        """
        return await self._js.stream(await self._js.stream_name_by_subject(self.pattern))

    async def store(self, msg: JsMsg, ending: Ending) -> bool:
        """Store a message. One that is stored already is not stored twice, however long ago that was.

        :returns: True when it was stored now.

        What :meth:`.JetStreamContext.publish` raises is raised here too.
        """
        metadata = msg.metadata
        subject = self._template.expand({"seq": str(metadata.stream_seq)})
        headers = self._headers(msg, ending)
        expected = 0
        for tries_left in reversed(range(_STORE_TRIES)):
            try:
                await self._js.publish(subject, msg.data, headers, expected_last_subject_seq=expected)
            except WrongLastSequenceError as error:
                if error.err_code == _IN_CONFLICT or not tries_left:
                    raise
                stored = await self._last_of(subject)
                if stored is not None and _same(stored.headers, headers):
                    return False
                # Another message's, of a stream that was made anew since: both stay. Or it was deleted a moment ago.
                expected = stored.seq if stored is not None else 0
            else:
                break
        return True

    async def _last_of(self, subject: str) -> StoredMsg | None:
        try:
            return await (await self.stream()).get_last_msg(subject, direct=False)
        except MessageNotFoundError:
            return None

    def _headers(self, msg: JsMsg, ending: Ending) -> Headers:
        metadata = msg.metadata
        made = Headers()
        for name, value in msg.headers.multi_items():
            own = name.lower().startswith(("nats-", "original-nats-"))
            made.add(f"{ORIGINAL}{name}" if own else name, sendable(value))
        made[ERROR] = sendable(" ".join(ending.error.split()))[:MAX_ERROR_CHARS]
        made[STATUS] = str(ending.status)
        made[ATTEMPTS] = str(ending.attempts)
        made[FIRST_TIME] = format_nanoseconds(int(ending.first_time * 1e9))
        made[SUBJECT] = sendable(msg.subject)
        made[STREAM] = sendable(metadata.stream)
        made[SEQUENCE] = str(metadata.stream_seq)
        made[TIME] = str(metadata.timestamp_ns)
        # A dead letter is never dropped, not even one that went in a circle.
        made[PATH_HEADER] = self._guard.path_out(msg.headers)
        return made

    # --- reading them ------------------------------------------------------------------------------------------

    async def newest(self, limit: int) -> list[StoredMsg]:
        """The newest of them, the newest first.

        :param limit: at most so many, and at most 1,000.
        """
        stream = await self.stream()
        state = (await stream.info()).state
        limit = min(limit, MAX_LISTED)
        found: deque[StoredMsg] = deque()
        end, size = state.last_seq + 1, max(2 * limit, 64)
        # From the end backwards, in ever larger windows: a stream can hold the dead letters of many routes.
        while end > max(state.first_seq, 1) and len(found) < limit:
            begin = max(end - size, state.first_seq, 1)
            window = deque([letter async for letter in self._between(stream, begin, end)], maxlen=limit - len(found))
            found.extendleft(reversed(window))
            end, size = begin, size * 4
        return list(reversed(found))

    async def _between(self, stream: Stream, begin: int, end: int) -> AsyncIterator[StoredMsg]:
        seq = begin
        while seq < end:
            try:
                letter = await stream.get_next_msg(seq, self.pattern, direct=False)
            except MessageNotFoundError:
                return
            if letter.seq >= end:
                return
            yield letter
            seq = letter.seq + 1

    async def chosen(self, seqs: Sequence[int] | None) -> AsyncIterator[StoredMsg]:
        """Those with the given sequences, or all that there are now, the oldest first. Messages that are not of this route are left out."""
        stream = await self.stream()
        if seqs is None:
            state = (await stream.info()).state
            async for letter in self._between(stream, max(state.first_seq, 1), state.last_seq + 1):
                yield letter
            return
        for seq in seqs:
            with suppress(MessageNotFoundError):
                letter = await stream.get_msg(seq, direct=False)
                if matches(self.pattern, letter.subject):
                    yield letter

    async def delete(self, seqs: Sequence[int] | None) -> int:
        """Delete some, or all: how many were deleted."""
        stream = await self.stream()
        if seqs is None:
            return await stream.purge(filter=self.pattern)
        deleted = 0
        async for letter in self.chosen(seqs):
            deleted += await self.delete_one(stream, letter.seq)
        return deleted

    @staticmethod
    async def delete_one(stream: Stream, seq: int) -> int:
        """Delete one: 1, or 0 when it is gone already."""
        try:
            await stream.delete_msg(seq)
        except (MessageNotFoundError, MessageDeleteError):
            return 0
        return 1


def dead_letter(stored: StoredMsg) -> DeadLetter:
    """A dead letter as the bridge shows it."""
    headers = stored.headers
    return DeadLetter(
        seq=stored.seq,
        subject=original_subject(headers),
        error=headers.get(ERROR) or "",
        attempts=_number(headers.get(ATTEMPTS)),
        time=stored.time.timestamp(),
        data=stored.data,
        headers={name: original_headers(headers).get_all(name) for name in original_headers(headers)},
    )


def original_headers(headers: Headers) -> Headers:
    """The headers that the message had before it became a dead letter."""
    made = Headers()
    for name, value in headers.multi_items():
        lower = name.lower()
        if lower.startswith(("original-nats-", "original-original-nats-")):
            made.add(name[len(ORIGINAL) :], value)
        elif not lower.startswith("nats-"):
            made.add(name, value)
    return made


def original_subject(headers: Headers) -> str:
    """The subject that a dead letter had."""
    return headers.get(SUBJECT) or ""


def origin(headers: Headers) -> tuple[str, int]:
    """The stream and the sequence that a dead letter had."""
    return headers.get(STREAM) or "", _number(headers.get(SEQUENCE))


def _same(one: Headers, other: Headers) -> bool:
    return all(one.get(name) == other.get(name) for name in (STREAM, SEQUENCE, TIME))


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else 0
