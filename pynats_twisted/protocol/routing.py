"""From the messages that the parser made to the subscriptions that they are for. The readable definition of what is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .events import Event, EventType
from .message import Msg

if TYPE_CHECKING:
    from .parser import Parsed


class SubscriptionRecord:
    """One subscription.

    :ivar limit: messages after which it ends, counted over all connections; 0 for no limit.
    :ivar delivered: messages that it got, over all connections.
    :ivar delivered_before: what it had got when the server of now heard of it: that server counts from there.
    :ivar owner: what ``subscribe`` was told; messages carry it as ``msg.subscription``.
    """

    __slots__ = ("delivered", "delivered_before", "limit", "owner", "queue", "sid", "subject")

    def __init__(self, subject: str, queue: str, sid: int, owner: Any) -> None:
        self.subject = subject
        self.queue = queue
        self.sid = sid
        self.owner = owner
        self.limit = 0
        self.delivered = 0
        self.delivered_before = 0

    def __repr__(self) -> str:
        queue = f" queue={self.queue!r}" if self.queue else ""
        return f"<Subscription {self.sid} {self.subject!r}{queue} {self.delivered}/{self.limit or '-'}>"


class Router:
    """Finds the subscriptions of one connection's messages, and counts what they got.

    :param records: the subscriptions by their ids; those whose limit is reached are taken out.
    :ivar unknown: messages that were for no subscription, and were dropped.
    """

    __slots__ = ("records", "unknown")

    def __init__(self, records: dict[int, SubscriptionRecord]) -> None:
        self.records = records
        self.unknown = 0

    def route(self, parsed: list[Parsed], start: int, events: list[Event | Msg]) -> int:
        """Append the messages from ``parsed[start]`` on to ``events``, with their subscriptions.

        :returns: where the first thing stands that is no message, or the length of ``parsed``.
        """
        records = self.records
        append = events.append
        for index in range(start, len(parsed)):
            msg = parsed[index]
            if msg.__class__ is not Msg:
                return index
            record = records.get(msg.sid)
            if record is None:
                self.unknown += 1
                continue
            record.delivered += 1
            msg.subscription = record.owner
            append(msg)
            if record.delivered == record.limit:
                del records[record.sid]
                append(Event(EventType.UNSUBSCRIBED, record))
        return len(parsed)


def hand_out(events: list[Event | Msg], other: Callable[[Event | Msg], None]) -> tuple[int, int]:
    """Give each message to its subscription, and everything else to ``other``, in order.

    A subscription is called as ``_deliver(msg)``, or as ``_deliver_run(msgs)`` with messages that came one after another for it, where its
    ``_takes_runs`` says that it gains by that: whoever waits for a message is woken once.

    :returns: how many messages there were, and the bytes of their payloads.
    """
    messages = size = 0
    gathering: Any = None
    run: list[Any] = []
    for event in events:
        if event.__class__ is Msg:
            messages += 1
            size += len(event.data)
            subscription = event.subscription
            if subscription is not None:
                if subscription is gathering:
                    run.append(event)
                    continue
                if gathering is not None:
                    gathering._deliver_run(run)
                    gathering = None
                if subscription._takes_runs:
                    gathering = subscription
                    run = [event]
                else:
                    subscription._deliver(event)
                continue
        if gathering is not None:
            gathering._deliver_run(run)
            gathering = None
        other(event)
    if gathering is not None:
        gathering._deliver_run(run)
    return messages, size
