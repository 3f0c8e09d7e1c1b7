"""How the harness and its programs talk: an argument with a job as JSON, lines of JSON on standard output, and commands as lines on
standard input. A program ends when its standard input ends, so that none outlives the harness, and in any case after its time.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import Any

Job = dict[str, Any]


def begin() -> Job:
    """The job of this process. From here on it has ``limit`` seconds to live."""
    job: Job = json.loads(sys.argv[1])
    signal.alarm(max(1, int(job["limit"])))
    return job


def say(**values: Any) -> None:
    """Tell the harness."""
    print(json.dumps(values), flush=True)


def listen() -> str:
    """Wait for a command; empty when the harness is gone."""
    return sys.stdin.readline().strip()


def obey(reactor: Any, handler: Callable[[str], object]) -> None:
    """Run the reactor until standard input ends, and call the handler with each command."""
    from twisted.internet.stdio import StandardIO
    from twisted.protocols.basic import LineOnlyReceiver

    class Commands(LineOnlyReceiver):
        delimiter = b"\n"

        def lineReceived(self, line: bytes) -> None:
            handler(line.decode())

        def connectionLost(self, reason: Any = None) -> None:
            if reactor.running:
                reactor.stop()

    StandardIO(Commands(), reactor=reactor)
    reactor.run()


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds of the median, the 99th percentile and the slowest."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    last = len(ordered) - 1
    picked = {"p50_ms": ordered[last // 2], "p99_ms": ordered[min(last, int(len(ordered) * 0.99))], "max_ms": ordered[last]}
    return {name: round(value * 1e3, 4) for name, value in picked.items()}
