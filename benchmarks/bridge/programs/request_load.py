"""Requests to a NATS service at a rate, without anything in between. Job: ``port``, ``subject``, ``size``, ``rate``, ``seconds``,
``warmup``. Says ``{requests, p50_ms, p99_ms, max_ms}``."""

from __future__ import annotations

import select
import time

from .job import begin, percentiles, say
from .wire import Wire


def main() -> None:
    """Send each at its time; the number in its reply subject says which one an answer belongs to."""
    job = begin()
    wire = Wire(job["port"])
    wire.subscribe("_INBOX.load.*")
    payload = b"x" * job["size"]
    step = 1 / job["rate"]
    begun = time.perf_counter()
    measured_from = begun + job["warmup"]
    end = measured_from + job["seconds"]
    following = begun
    sent = answered = 0
    due: list[float] = []
    taken: list[float] = []
    while True:
        now = time.perf_counter()
        while following <= now and following < end:
            wire.publish(job["subject"], payload, f"_INBOX.load.{sent}")
            due.append(following)
            following += step
            sent += 1
        if (following >= end and answered >= sent) or now > end + 5:
            break
        if not select.select([wire.socket], [], [], max(0.0, following - now) if following < end else 0.05)[0]:
            continue
        for message in wire.take():
            moment = due[int(message.subject.rpartition(".")[2])]
            answered += 1
            if moment >= measured_from:
                taken.append(time.perf_counter() - moment)
    say(requests=len(taken), unanswered=sent - answered, **percentiles(taken))


if __name__ == "__main__":
    main()
