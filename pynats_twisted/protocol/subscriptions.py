"""The subscriptions of a client as the protocol sees them: they outlive connections, with what is left of their limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import InvalidSubscriptionError
from .encoder import check_limit, check_sid, encode_subscribe, encode_unsubscribe
from .twin import SubscriptionRecord


class SubscriptionTable:
    """All subscriptions of a client, by their ids. An id is never given twice."""

    __slots__ = ("_last_sid", "records")

    def __init__(self) -> None:
        self.records: dict[int, SubscriptionRecord] = {}
        self._last_sid = 0

    def new_sid(self) -> int:
        """An id that was not used before."""
        return self._last_sid + 1

    def add(self, subject: str, queue: str, sid: int, owner: Any) -> bytes:
        """Add a subscription and return its SUB.

        :raises InvalidSubscriptionError: the sid is in use or not a positive integer.
        :raises InvalidSubjectError: :raises InvalidQueueError: the names are not valid.
        """
        line = encode_subscribe(subject, queue, sid)
        if sid in self.records:
            raise InvalidSubscriptionError(f"sid {sid} is in use by {self.records[sid]!r}")
        self.records[sid] = SubscriptionRecord(subject, queue, sid, owner)
        self._last_sid = max(self._last_sid, sid)
        return line

    def find(self, subscription: int | str) -> list[SubscriptionRecord]:
        """The subscription with this sid, or all with this subject.

        :raises InvalidSubscriptionError: there is none.
        """
        if isinstance(subscription, str):
            found = [record for record in self.records.values() if record.subject == subscription]
            if not found:
                raise InvalidSubscriptionError(f"there is no subscription to {subscription!r}")
            return found
        check_sid(subscription)
        record = self.records.get(subscription)
        if record is None:
            raise InvalidSubscriptionError(f"there is no subscription with sid {subscription}")
        return [record]

    def limit(self, subscription: int | str, limit: int) -> bytes:
        """End subscriptions, at once (``limit`` 0) or after ``limit`` messages counted from their beginning; return the UNSUBs.

        :raises InvalidSubscriptionError: there is no such subscription, or the limit is negative.
        """
        check_limit(limit)
        out = []
        for record in self.find(subscription):
            record.limit = limit
            if limit > record.delivered:
                out.append(encode_unsubscribe(record.sid, limit - record.delivered_before))
            else:
                del self.records[record.sid]
                out.append(encode_unsubscribe(record.sid))
        return b"".join(out)

    def forget(self, sid: int) -> None:
        """Take a subscription out that the server has not, or has no more. Nothing is sent."""
        self.records.pop(sid, None)

    def resubscribe(self) -> Iterator[bytes]:
        """The lines that give all subscriptions to a new server, with what is left of their limits."""
        for record in self.records.values():
            record.delivered_before = record.delivered
            yield encode_subscribe(record.subject, record.queue, record.sid)
            if record.limit:
                yield encode_unsubscribe(record.sid, record.limit - record.delivered)
