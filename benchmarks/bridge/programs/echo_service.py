"""A service on NATS that gives every payload back. Job: ``port``, ``subject``, ``delay`` (seconds, for all at once). Says ``{}`` when the
server has its subscription."""

from __future__ import annotations

import select
import sys
import time

from .job import begin, say
from .wire import Message, Wire


def main() -> None:
    """Answer, until the harness is gone."""
    job = begin()
    wire = Wire(job["port"], timeout=3600.0)
    wire.subscribe(job["subject"])
    say()
    delay = job.get("delay", 0.0)
    waiting: list[tuple[float, Message]] = []
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([wire.socket, sys.stdin], [], [], timeout)
        if sys.stdin in ready:
            return
        if wire.socket in ready:
            messages = wire.take()
            if delay:
                waiting += [(time.monotonic() + delay, message) for message in messages]
            else:
                answer(wire, messages)
        due = 0
        while due < len(waiting) and waiting[due][0] <= time.monotonic():
            due += 1
        if due:
            answer(wire, [message for _, message in waiting[:due]])
            del waiting[:due]


def answer(wire: Wire, messages: list[Message]) -> None:
    """Give payloads back."""
    parts = [b"PUB %b %d\r\n%b\r\n" % (one.reply.encode(), len(one.payload), one.payload) for one in messages]
    wire.socket.sendall(b"".join(parts))


if __name__ == "__main__":
    main()
