"""The rows of ``http-request`` and ``http-publish``."""

from __future__ import annotations

from typing import Any

from .bench import Bench, busy, expect_status
from .figures import Figure, median
from .processes import free_ports

_SIZE = 256
_CONNECTIONS = 64
_FLOOR = "bare twisted.web"

_LISTEN = """
[listen.public]
endpoint = "tcp:{port}:interface=127.0.0.1"
"""
_REQUEST = """
[routes.echo]
type = "http-request"
listen = "public"
path = "/echo"
methods = ["POST"]
subject = "bench.echo"
"""
_PUBLISH = """
[routes.take]
type = "http-publish"
listen = "public"
path = "/take"
subject = "bench.take"
"""


def _in_turns(bench: Bench, rounds: int, *jobs: tuple[str, Any, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The same load on each process, one after the other in every round."""
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name, _, _ in jobs}
    for _ in range(rounds):
        for name, process, job in jobs:
            with busy(process) as seconds:
                result = bench.run("http_load", size=_SIZE, **job)
            expect_status(result, 200, 202)
            samples[name].append({**result, "rate": result["requests"] / result["wall"], "cpu_us": 1e6 * seconds() / result["all"]})
    return samples


def _throughput(bench: Bench, name: str, title: str, goal: float, routes: str, path: str, mode: str) -> list[Figure]:
    seconds = bench.scale.pick(3, 1.5, 0.2)
    with free_ports(1) as (port,):
        bridge = bench.bridge(_LISTEN.format(port=port) + routes)
        floor = bench.program("web_floor", mode=mode)
        floor_port = floor.hear()["port"]
        job = {"connections": _CONNECTIONS, "seconds": seconds, "warmup": seconds / 4}
        samples = _in_turns(
            bench,
            bench.scale.rounds,
            ("floor", floor, {**job, "port": floor_port, "path": "/"}),
            ("bridge", bridge, {**job, "port": port, "path": path}),
        )
    ours, bare = samples["bridge"], samples["floor"]
    return [
        Figure(
            name,
            f"{title}, 256 bytes, 64 connections",
            "requests/s",
            goal,
            "more",
            median(ours, "rate"),
            median(bare, "rate"),
            _FLOOR,
            details={"samples": samples},
        ),
        Figure(
            f"{name}_cpu",
            f"{title}: processor time of the bridge",
            "µs/request",
            None,
            "less",
            median(ours, "cpu_us"),
            median(bare, "cpu_us"),
            _FLOOR,
        ),
    ]


def request_throughput(bench: Bench) -> list[Figure]:
    """As many requests as go through, echoed by a service on NATS."""
    bench.program("echo_service", port=bench.server.port, subject="bench.echo").hear()
    return _throughput(bench, "http_request_rate", "``http-request``", 4_500, _REQUEST, "/echo", "echo")


def publish_throughput(bench: Bench) -> list[Figure]:
    """As many messages as go into a stream in files, each confirmed by it."""
    bench.wire.make_stream("BENCH", "bench.take")
    figures = _throughput(bench, "http_publish_rate", "``http-publish`` into a stream", 3_500, _PUBLISH, "/take", "accept")
    accepted = sum(sample["all"] for sample in figures[0].details["samples"]["bridge"])
    stored = bench.wire.last_seq("BENCH")
    return [
        *figures,
        Figure("http_publish_lost", "accepted, and not in the stream", "messages", 0, "less", max(0, accepted - stored)),
    ]


def request_latency(bench: Bench) -> list[Figure]:
    """Requests at a rate far below the limit: what the way over HTTP adds to a NATS request."""
    rate, seconds = bench.scale.pick(500, 500, 100), bench.scale.pick(3, 2, 0.3)
    bench.program("echo_service", port=bench.server.port, subject="bench.echo").hear()
    timing = {"rate": rate, "seconds": seconds, "warmup": seconds / 4}
    with free_ports(1) as (port,):
        bridge = bench.bridge(_LISTEN.format(port=port) + _REQUEST)
        floor = bench.program("web_floor", mode="echo")
        floor_port = floor.hear()["port"]
        direct: list[dict[str, Any]] = []
        bare: list[dict[str, Any]] = []
        samples: list[dict[str, Any]] = []
        job = {**timing, "connections": 16}
        for _ in range(bench.scale.rounds):
            direct.append(bench.run("request_load", port=bench.server.port, subject="bench.echo", size=_SIZE, **timing))
            turn = _in_turns(
                bench,
                1,
                ("floor", floor, {**job, "port": floor_port, "path": "/"}),
                ("bridge", bridge, {**job, "port": port, "path": "/echo"}),
            )
            bare += turn["floor"]
            samples += turn["bridge"]
    details = {"direct": direct, "floor": bare, "bridge": samples}
    return [
        Figure(
            f"http_request_added_{name}",
            f"``http-request`` at {rate} a second, more than a NATS request alone: {title}",
            "ms",
            goal,
            "less",
            median(samples, f"{name}_ms") - median(direct, f"{name}_ms"),
            median(bare, f"{name}_ms"),
            _FLOOR,
            details=details if name == "p50" else {},
        )
        for name, title, goal in (("p50", "median", 0.5), ("p99", "99th percentile", 4.0))
    ]


def publish_latency(bench: Bench) -> list[Figure]:
    """Messages into a stream at a rate below the limit: until the stream has confirmed them."""
    rate, seconds = bench.scale.pick(1_000, 1_000, 100), bench.scale.pick(3, 2, 0.3)
    bench.wire.make_stream("BENCH", "bench.take")
    with free_ports(1) as (port,):
        bridge = bench.bridge(_LISTEN.format(port=port) + _PUBLISH)
        floor = bench.program("web_floor", mode="accept")
        floor_port = floor.hear()["port"]
        job = {"rate": rate, "seconds": seconds, "warmup": seconds / 4, "connections": 32}
        samples = _in_turns(
            bench,
            bench.scale.rounds,
            ("floor", floor, {**job, "port": floor_port, "path": "/"}),
            ("bridge", bridge, {**job, "port": port, "path": "/take"}),
        )
    return [
        Figure(
            "http_publish_p99",
            f"``http-publish`` into a stream at {rate:,} a second: 99th percentile",
            "ms",
            15,
            "less",
            median(samples["bridge"], "p99_ms"),
            median(samples["floor"], "p99_ms"),
            _FLOOR,
            details={"samples": samples},
        )
    ]
