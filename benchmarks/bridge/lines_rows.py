"""The rows of ``lines-in`` and ``syslog``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .bench import Bench, busy
from .figures import Figure, median
from .processes import RowError, free_ports

_SIZE = 100
_FLOOR = "bare Twisted"

_LINES = """
[routes.lines]
type = "lines-in"
endpoint = "tcp:{port}:interface=127.0.0.1"
subject = "bench.lines"
confirm = "{confirm}"
"""
_SYSLOG = """
[routes.syslog]
type = "syslog"
endpoint = "udp:{port}:interface=127.0.0.1"
subject = "bench.log.{{facility}}.{{severity}}.{{hostname}}"
confirm = "jetstream"
"""
_LADDER = (15_000, 20_000, 25_000, 30_000, 40_000, 50_000, 65_000, 80_000, 100_000)


def core(bench: Bench) -> list[Figure]:
    """Lines that the NATS server confirms."""
    return _lines(bench, "server", bench.scale.pick(600_000, 200_000, 5_000), 100_000)


def stream(bench: Bench) -> list[Figure]:
    """Lines that a stream in files confirms."""
    bench.wire.make_stream("BENCH", "bench.lines")
    return _lines(bench, "jetstream", bench.scale.pick(200_000, 60_000, 2_000), 30_000)


def _lines(bench: Bench, confirm: str, count: int, goal: float) -> list[Figure]:
    ours: list[dict[str, Any]] = []
    bare: list[dict[str, Any]] = []
    with free_ports(1) as (port,):
        bridge = bench.bridge(_LINES.format(port=port, confirm=confirm))
        floor = bench.program("lines_floor")
        floor_port = floor.hear()["port"]
        arrived = bench.server.monitor("varz")["in_msgs"]
        job = {"connections": 4, "count": count, "size": _SIZE}
        for _ in range(bench.scale.rounds):
            to_bridge = {"port": port, "admin": bridge.admin.port}
            for samples, process, ports in ((bare, floor, {"port": floor_port}), (ours, bridge, to_bridge)):
                with busy(process) as cpu:
                    result = bench.run("lines_load", **job, **ports)
                samples.append({**result, "rate": result["lines"] / result["wall"], "cpu_us": 1e6 * cpu() / result["lines"]})
        lines = sum(sample["lines"] for sample in ours)
        if bench.server.monitor("varz")["in_msgs"] - arrived < lines:
            raise RowError("fewer lines are at the server than were confirmed")
        if confirm == "jetstream" and bench.wire.last_seq("BENCH") != lines:
            raise RowError(f"the stream has {bench.wire.last_seq('BENCH'):,} lines, not {lines:,}")
    where = "into a stream" if confirm == "jetstream" else "to NATS"
    title = f"``lines-in`` over TCP {where}, {_SIZE} bytes, 4 connections"
    return [
        Figure(
            f"lines_{confirm}",
            title,
            "lines/s",
            goal,
            "more",
            median(ours, "rate"),
            median(bare, "rate"),
            _FLOOR,
            details={"samples": {"bridge": ours, "floor": bare}},
        ),
        Figure(
            f"lines_{confirm}_cpu",
            f"``lines-in`` {where}: processor time of the bridge",
            "µs/line",
            None,
            "less",
            median(ours, "cpu_us"),
            median(bare, "cpu_us"),
            _FLOOR,
        ),
    ]


def syslog(bench: Bench) -> list[Figure]:
    """Datagrams at growing rates: the highest at which none is missing."""
    bench.wire.make_stream("BENCH", "bench.log.>")
    with free_ports(1) as (port,):
        bench.bridge(_SYSLOG.format(port=port))
        floor = bench.program("lines_floor")
        floor_port = floor.hear()["udp"]
        bare, bare_steps = _climb(bench, floor_port, lambda: int(floor.ask("report")["datagrams"]))
        ours, steps = _climb(bench, port, lambda: bench.wire.last_seq("BENCH"))
    return [
        Figure(
            "syslog_udp",
            "``syslog`` over UDP into a stream, 200 bytes, none lost",
            "messages/s",
            25_000,
            "more",
            ours,
            bare,
            _FLOOR,
            details={"bridge": steps, "floor": bare_steps},
        )
    ]


def _climb(bench: Bench, port: int, arrived: Callable[[], int]) -> tuple[float, list[dict[str, Any]]]:
    """The highest rate that was really sent and of which everything arrived; two rates in a row with losses end it."""
    best = 0.0
    steps: list[dict[str, Any]] = []
    for rate in _LADDER if bench.scale.name != "tiny" else (500,):
        before = arrived()
        result = bench.run("udp_load", port=port, rate=rate, seconds=bench.scale.pick(1.5, 1, 0.2))
        deadline = time.monotonic() + 10
        last = -1
        while (now := arrived() - before) < result["sent"] and time.monotonic() < deadline and now != last:
            last = now
            time.sleep(0.5)
        real = result["sent"] / result["wall"]
        steps.append({"rate": real, "sent": result["sent"], "arrived": now})
        if now == result["sent"]:
            best = max(best, real)
        elif len(steps) > 1 and steps[-2]["sent"] != steps[-2]["arrived"]:
            break
    return best, steps
