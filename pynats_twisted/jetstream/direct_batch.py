"""The two kinds of direct gets that bring many messages (ADR-31): in sequence, and the last one of many subjects."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import JetStreamConfigError
from .api import MsgGetRequest, is_subset
from .checks import is_whole
from .direct_pages import NOT_FOUND, DirectMessages, status_error

if TYPE_CHECKING:
    from ..protocol.message import Msg
    from .context import JetStreamContext
    from .stored import StoredMsg

MAX_SUBJECTS = 1024
"""More subjects than this a server does not answer for at once."""

TOO_MANY_RESULTS = 413

# Bytes of subjects in one request.
_MAX_REQUEST = 512 * 1024
# Bytes that a character of a subject takes in JSON at most.
_MOST_ESCAPED = 6


class Batch(DirectMessages):
    """Messages in the order of their sequences. See :meth:`~pynats_twisted.jetstream.direct.DirectGet.get_batch`."""

    def __init__(
        self,
        js: JetStreamContext,
        subject: str,
        first: MsgGetRequest,
        limit: int | None,
        page_msgs: int,
        page_bytes: int,
        timeout: float | None,
    ) -> None:
        super().__init__(js, subject, page_msgs, page_bytes, timeout)
        if limit is not None and not is_whole(limit, 1):
            raise JetStreamConfigError("limit", limit, "must be an integer of 1 or more, or None")
        first.validate()
        self._first = first
        self._limit = limit
        self._count = 0

    def _request(self) -> MsgGetRequest:
        batch = self._page_msgs if self._limit is None else min(self._page_msgs, self._limit - self._count)
        first = self._first
        if self._last:
            return MsgGetRequest(seq=self._last + 1, next_by_subj=first.next_by_subj, batch=batch, max_bytes=self._page_bytes)
        return MsgGetRequest(
            seq=first.seq, start_time=first.start_time, next_by_subj=first.next_by_subj, batch=batch, max_bytes=self._page_bytes
        )

    def _is_wanted(self, stored: StoredMsg) -> bool:
        self._count += 1
        return True

    def _check_complete(self) -> None:
        self._over = self.num_pending == 0 or self._count == self._limit

    async def _refused(self, end: Msg) -> None:
        if end.status != NOT_FOUND:
            raise status_error(end)
        self.num_pending = 0
        self._over = True


class LastMessages(DirectMessages):
    """The last message of each of many subjects. See :meth:`~pynats_twisted.jetstream.direct.DirectGet.get_last_msgs_for`.

    A server answers for a limited number of subjects at once: more of them are asked for in parts. When wildcards match too many, the
    subjects are asked for first.
    """

    def __init__(
        self,
        js: JetStreamContext,
        subject: str,
        asked: MsgGetRequest,
        expand: Callable[[str], Awaitable[tuple[Sequence[str], int]]],
        page_msgs: int,
        page_bytes: int,
        timeout: float | None,
    ) -> None:
        super().__init__(js, subject, min(page_msgs, MAX_SUBJECTS), page_bytes, timeout)
        if not asked.multi_last:
            raise JetStreamConfigError("subjects", asked.multi_last, "must not be empty")
        asked.validate()
        self._asked = asked
        self._expand = expand
        self._parts = deque(self._split(asked.multi_last))
        # The subjects of this part that were handed out.
        self._seen: set[str] = set()

    def _split(self, subjects: Sequence[str]) -> Iterator[tuple[str, ...]]:
        subjects = tuple(dict.fromkeys(subjects))
        bound = min(_MAX_REQUEST, (self._js.client.max_payload or _MAX_REQUEST) // 2)
        if len(subjects) > MAX_SUBJECTS:
            wildcards = [subject for subject in subjects if is_pattern(subject)]
            if wildcards:
                # A subject must not be in two parts.
                literal = [subject for subject in subjects if not is_pattern(subject)]
                yield tuple(wildcards)
                subjects = tuple(subject for subject in literal if not any(is_subset(subject, pattern) for pattern in wildcards))
        longest = max(map(len, subjects), default=0)
        if MAX_SUBJECTS * (_MOST_ESCAPED * longest + 4) <= bound:
            for begun in range(0, len(subjects), MAX_SUBJECTS):
                yield subjects[begun : begun + MAX_SUBJECTS]
            return
        part: list[str] = []
        size = 0
        for subject in subjects:
            length = len(json.dumps(subject, ensure_ascii=False).encode()) + 1
            if part and (len(part) == MAX_SUBJECTS or size + length > bound):
                yield tuple(part)
                part, size = [], 0
            part.append(subject)
            size += length
        if part:
            yield tuple(part)

    def _request(self) -> MsgGetRequest:
        asked, part, seq = self._asked, self._parts[0], 0
        if self._seen:
            # Without wildcards it is clear what is still missing, however much is written meanwhile.
            if any(map(is_pattern, part)):
                seq = self._last + 1
            else:
                part = tuple(subject for subject in part if subject not in self._seen)
        return MsgGetRequest(
            multi_last=part,
            seq=seq,
            batch=self._page_msgs,
            max_bytes=self._page_bytes,
            up_to_seq=asked.up_to_seq,
            up_to_time=asked.up_to_time,
        )

    def _is_wanted(self, stored: StoredMsg) -> bool:
        if stored.subject in self._seen:
            # It got a newer message between two pages.
            return False
        self._seen.add(stored.subject)
        return True

    def _check_complete(self) -> None:
        if self.num_pending == 0 or self._seen.issuperset(self._parts[0]):
            self._next_part()

    def _next_part(self) -> None:
        self._parts.popleft()
        self._over = not self._parts
        self._seen.clear()

    async def _refused(self, end: Msg) -> None:
        if end.status == NOT_FOUND:
            self.num_pending = 0
            # The server does not say here how far it has come.
            self._looked_up_to(0)
            self._next_part()
            return
        part = self._parts[0]
        if end.status != TOO_MANY_RESULTS or not any(map(is_pattern, part)):
            raise status_error(end)
        subjects: list[str] = []
        for subject in part:
            if not is_pattern(subject):
                subjects.append(subject)
                continue
            found, last_seq = await self._expand(subject)
            subjects += found
            # What has come behind that may be a new subject.
            self._looked_up_to(last_seq)
        left = [subject for subject in subjects if subject not in self._seen]
        self._parts.extend(self._split(left))
        self._next_part()


def is_pattern(subject: str) -> bool:
    """Whether a subject has wildcards."""
    return ("*" in subject or ">" in subject) and not {"*", ">"}.isdisjoint(subject.split("."))
