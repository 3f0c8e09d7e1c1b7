"""The rows of ``sse``."""

from __future__ import annotations

from typing import Any

from .bench import Bench, busy
from .figures import Figure, median
from .processes import Program, RowError, free_ports

SSE = """
[listen.public]
endpoint = "tcp:{port}:interface=127.0.0.1"
max_connections = 20000
[routes.live]
type = "sse"
listen = "public"
path = "/live/{{room}}"
stream = "BENCH"
filter = "bench.live.{{room}}"
max_connections = 20000
"""
_FLOOR = "bare twisted.web"
_MIB = 2**20
# What a client of the bridge gets when it has joined, and a client of the floor at once.
BEGINS = "id: "
_FLOOR_BEGINS = ": hello"


def idle(bench: Bench) -> list[Figure]:
    """Clients that listen to a stream on which nothing happens; what the process grows by, and what it is then."""
    clients = bench.scale.pick(10_000, 2_000, 50)
    bench.wire.make_stream("BENCH", "bench.live.>")
    with free_ports(1) as (port,):
        bridge = bench.bridge(SSE.format(port=port))
        ours, grown = _held(bench, bridge, clients, port=port, path="/live/a", begins=BEGINS)
        bridge.kill()
        floor = bench.program("sse_floor")
        bare, bare_grown = _held(bench, floor, clients, port=floor.hear()["port"], path="/", begins=_FLOOR_BEGINS)
    return [
        Figure("sse_idle", f"``sse``, {clients:,} clients, idle: the process", "MiB", 200, "less", ours / _MIB, bare / _MIB, _FLOOR),
        Figure(
            "sse_idle_each", "``sse``, idle: each client", "KiB", None, "less", grown / clients / 1024, bare_grown / clients / 1024, _FLOOR
        ),
    ]


def _held(bench: Bench, process: Any, clients: int, **job: Any) -> tuple[int, int]:
    before = process.resident()
    with Program("sse_load", bench.limit, clients=clients, seconds=bench.scale.pick(3, 1, 0.1), **job) as load:
        load.hear(150.0)
        alive = load.ask("hold")["alive"]
        if alive != clients:
            raise RowError(f"{clients - alive} of {clients} clients were disconnected")
        resident = process.resident()
    return resident, resident - before


def flood(bench: Bench) -> list[Figure]:
    """As many events as all clients follow: a message at a time, and many."""
    seconds, clients = bench.scale.pick(3, 2, 0.3), bench.scale.pick(1_000, 500, 10)
    bench.wire.make_stream("BENCH", "bench.live.>", max_bytes=2**28)
    figures = []
    with free_ports(1) as (port,):
        bridge = bench.bridge(SSE.format(port=port))
        floor = bench.program("sse_floor")
        ports = floor.hear()
        job = {"clients": clients, "seconds": seconds, "size": 100}
        to_floor = {**job, "port": ports["port"], "path": "/", "begins": _FLOOR_BEGINS, "plain": ports["plain"]}
        to_bridge = {**job, "port": port, "path": "/live/a", "begins": BEGINS, "nats": bench.server.port, "subject": "bench.live.a"}
        for name, title, ahead, goal in (("one", "a message at a time", 1, 30_000), ("many", "50 messages under way", 50, None)):
            ours: list[dict[str, Any]] = []
            bare: list[dict[str, Any]] = []
            for _ in range(bench.scale.rounds):
                bare.append(_flooded(bench, floor, ahead, to_floor))
                ours.append(_flooded(bench, bridge, ahead, to_bridge))
            figures.append(
                Figure(
                    f"sse_events_{name}",
                    f"``sse``, 100 bytes from a stream to {clients:,} clients, {title}",
                    "events/s",
                    goal,
                    "more",
                    median(ours, "rate"),
                    median(bare, "rate"),
                    _FLOOR,
                    details={"samples": {"bridge": ours, "floor": bare}},
                )
            )
    return figures


def _flooded(bench: Bench, process: Any, ahead: int, job: dict[str, Any]) -> dict[str, Any]:
    with Program("sse_load", bench.limit, **job) as load:
        load.hear(60.0)
        with busy(process) as cpu:
            result = load.ask(f"flood {ahead}")
    if result["alive"] != job["clients"] or result["arrived"] != result["expected"]:
        raise RowError(f"{result['alive']} clients are left; {result['arrived']:,} of {result['expected']:,} events arrived")
    return {**result, "rate": result["events"] / result["wall"], "cpu_us": 1e6 * cpu() / result["arrived"]}


def latency(bench: Bench) -> list[Figure]:
    """Messages at a rate to many clients: from publishing to the last byte at each of them."""
    clients, rate, seconds = bench.scale.pick(1_000, 300, 10), 20, bench.scale.pick(6, 3, 0.5)
    bench.wire.make_stream("BENCH", "bench.live.>", max_bytes=2**28)
    job = {"clients": clients, "seconds": seconds, "size": 100}
    with free_ports(1) as (port,):
        bench.bridge(SSE.format(port=port))
        ports = bench.program("sse_floor").hear()
        bare = _timed(bench, rate, **job, port=ports["port"], path="/", begins=_FLOOR_BEGINS, plain=ports["plain"])
        ours = _timed(bench, rate, **job, port=port, path="/live/a", begins=BEGINS, nats=bench.server.port, subject="bench.live.a")
    return [
        Figure(
            "sse_p99",
            f"``sse``, {clients:,} clients, {rate} messages a second: 99th percentile",
            "ms",
            250,
            "less",
            ours["p99_ms"],
            bare["p99_ms"],
            _FLOOR,
            details={"bridge": ours, "floor": bare},
        )
    ]


def _timed(bench: Bench, rate: float, **job: Any) -> dict[str, Any]:
    with Program("sse_load", bench.limit, **job) as load:
        load.hear(60.0)
        result = load.ask(f"rate {rate}")
    if result["events"] != result["expected"]:
        raise RowError(f"{result['events']:,} of {result['expected']:,} events arrived")
    return result
