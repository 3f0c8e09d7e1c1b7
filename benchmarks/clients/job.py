"""What a client program is told to do, and how it says what that took."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SUBJECT = "bench.subject"
FEED = "bench.feed"
"""Where the feeder listens for orders: ``subject size count subjects``."""
ECHO = "bench.echo"
"""Where the feeder answers requests."""
STREAM = "BENCH"
"""The stream that has :data:`SUBJECT`, where a measurement needs one."""
CONSUMER = "worker"
"""Its durable pull consumer."""
BUCKET = "BENCH"
"""The key-value bucket, or the object store, where a measurement needs one."""
KEYS = 10_000
"""How many keys the bucket has: ``key.0`` and so on."""
ASK_KINDS = "kinds"
"""The only argument of a client program that is asked what it can measure; it prints a list in JSON."""


@dataclass(frozen=True)
class Job:
    """One measurement, as the arguments ``name=value`` of a client program.

    :ivar kind: which of the driver's functions.
    :ivar url: the server.
    :ivar count: messages, requests, connections or subscriptions to measure.
    :ivar warmup: how many of them come before the clock starts.
    :ivar size: bytes of payload.
    :ivar in_flight: requests at one time; for the growth curves, whatever grows.
    :ivar seconds: a measurement of single requests stops here, however many it has made.
    :ivar ca: the file of the authority to trust; empty without TLS.
    """

    kind: str
    url: str
    count: int
    warmup: int = 0
    size: int = 0
    in_flight: int = 1
    seconds: float = 3.0
    ca: str = ""

    def arguments(self) -> list[str]:
        """For the command line of a client program."""
        return [f"{name}={value}" for name, value in dataclasses.asdict(self).items()]

    @classmethod
    def from_command_line(cls, kinds: Iterable[str]) -> Job:
        """What this program is told to do. It is over when it was only asked for its kinds."""
        arguments = sys.argv[1:]
        if arguments == [ASK_KINDS]:
            print(json.dumps(list(kinds)))
            sys.exit()
        return cls.parse(arguments)

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Job:
        """The opposite of :meth:`arguments`."""
        types = {"count": int, "warmup": int, "size": int, "in_flight": int, "seconds": float}
        given = dict(argument.split("=", 1) for argument in arguments)
        values: dict[str, Any] = {name: types.get(name, str)(value) for name, value in given.items()}
        return cls(**values)


class Clock:
    """Elapsed time and CPU time (user and system, all threads of this process) between starts and stops."""

    def __init__(self) -> None:
        self.wall = self.user = self.system = 0.0

    def start(self) -> None:
        """Begin, or go on."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._user, self._system = usage.ru_utime, usage.ru_stime
        self._begun = time.perf_counter()

    def stop(self) -> None:
        """Take what has passed since the start."""
        self.wall += time.perf_counter() - self._begun
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.user += usage.ru_utime - self._user
        self.system += usage.ru_stime - self._system


def finish(clock: Clock, count: int, **more: Any) -> None:
    """Print the result and leave at once: what a library does at its end is not measured, and may take long."""
    result = {"count": count, "wall": clock.wall, "user": clock.user, "system": clock.system, **more}
    print(json.dumps(result), flush=True)
    sys.stderr.flush()
    os._exit(0)
