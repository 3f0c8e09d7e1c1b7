"""Slow clients, stopping, reloading, checking, and a mixed load for a while."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from typing import Any

from ..contestants import ROOT
from .bench import Bench, expect_status
from .figures import Figure
from .processes import Program, RowError, free_ports, wait_for
from .sse_rows import BEGINS, SSE
from .webhook_rows import WEBHOOK

_MIB = 2**20

_ECHO = """
[routes.echo]
type = "http-request"
listen = "public"
path = "/echo"
methods = ["POST"]
subject = "bench.echo"
timeout = "15s"
max_in_flight = 2000
"""
_TAKE = """
[routes.take]
type = "http-publish"
listen = "public"
path = "/take"
subject = "bench.take"
"""


def slow_clients(bench: Bench) -> list[Figure]:
    """Good clients of two routes, alone, then beside many that do not read, then beside many that do not finish their requests."""
    clients, seconds = bench.scale.pick(2_000, 500, 20), bench.scale.pick(8, 5, 0.5)
    bench.wire.make_stream("BENCH", "bench.live.>", max_bytes=2**28)
    bench.program("echo_service", port=bench.server.port, subject="bench.echo").hear()
    with free_ports(1) as (port,):
        bridge = bench.bridge(SSE.format(port=port) + _ECHO)
        alone = _good(bench, port, seconds)
        before = bridge.peak()
        with Program("slow_clients", bench.limit, port=port, clients=clients, way="reading", path="/live/a") as slow:
            slow.hear(60.0)
            # Long enough for what waits for them to be more than the route keeps.
            not_reading = _good(bench, port, 1.5 * seconds)
            grown = bridge.peak() - before
            left = slow.ask("report")["alive"]
        with Program("slow_clients", bench.limit, port=port, clients=clients, way="sending", path="/echo") as slow:
            slow.hear(60.0)
            not_sending = _good(bench, port, seconds)
    note = f"{clients:,} slow clients"
    details = {"alone": alone, "not_reading": not_reading, "not_sending": not_sending, "slow_left": left}
    return [
        Figure(
            "slow_events",
            "events to good clients that did not arrive",
            "events",
            0,
            "less",
            sum(found["missing"] for found in (not_reading, not_sending)),
            note=note,
            details=details,
        ),
        Figure(
            "slow_sse_p99",
            "99th percentile of events to good clients, beside some that do not read",
            "ms",
            250,
            "less",
            not_reading["sse"]["p99_ms"],
            alone["sse"]["p99_ms"],
            "without them",
        ),
        Figure(
            "slow_http_p99",
            "99th percentile of good requests, beside requests that do not end",
            "ms",
            250,
            "less",
            not_sending["http"]["p99_ms"],
            alone["http"]["p99_ms"],
            "without them",
        ),
        Figure(
            "slow_memory",
            "what the process grew by for those that do not read: each",
            "KiB",
            256,
            "less",
            max(0, grown) / clients / 1024,
            note=f"{clients - left:,} of {clients:,} were cut off in the end; the goal is the route's buffer",
        ),
    ]


def _good(bench: Bench, port: int, seconds: float) -> dict[str, Any]:
    """Twenty clients that read 16 KiB five times a second, and a hundred requests a second."""
    job = {"clients": 20, "seconds": seconds, "size": 16_384, "nats": bench.server.port, "subject": "bench.live.a"}
    with Program("sse_load", bench.limit, port=port, path="/live/a", begins=BEGINS, **job) as load:
        load.hear()
        load.tell("rate 5")
        http = bench.run("http_load", port=port, path="/echo", connections=8, size=256, rate=100, seconds=seconds)
        sse = load.hear(seconds + 60.0)
    expect_status(http, 200)
    return {"sse": sse, "http": http, "missing": sse["expected"] - sse["events"]}


def drain(bench: Bench) -> list[Figure]:
    """SIGTERM while requests wait for a service that answers after a second."""
    count = bench.scale.pick(1_000, 500, 20)
    bench.program("echo_service", port=bench.server.port, subject="bench.echo", delay=2.0).hear()
    with free_ports(1) as (port,):
        listen = f'[listen.public]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
        bridge = bench.bridge(listen + _ECHO)
        with Program("http_load", bench.limit, port=port, path="/echo", connections=count, size=256, count=count) as load:
            wait_for(lambda: bridge.metric("in_flight", "echo") >= count, "all requests to be in flight")
            code, took = bridge.stop(30.0)
            result = load.hear()
    failed = count - result["statuses"].get("200", 0)
    return [
        Figure(
            "drain_failed", f"SIGTERM with {count:,} requests in flight: failed", "requests", 0, "less", failed, note=f"exit code {code}"
        ),
        Figure("drain_seconds", "and until the process has ended", "s", 20, "less", took, note="the goal is drain_timeout"),
    ]


def reload(bench: Bench) -> list[Figure]:
    """Another route is edited while clients listen."""
    clients = bench.scale.pick(1_000, 300, 20)
    bench.wire.make_stream("BENCH", "bench.live.>")
    with free_ports(1) as (port,):
        routes = SSE.format(port=port) + _ECHO
        bridge = bench.bridge(routes)
        job = {"clients": clients, "seconds": 1.0, "size": 100, "nats": bench.server.port, "subject": "bench.live.a"}
        with Program("sse_load", bench.limit, port=port, path="/live/a", begins=BEGINS, **job) as load:
            load.hear(60.0)
            first = bridge.metric("config_hash")
            bridge.configure(bench.nats() + routes.replace('timeout = "15s"', 'timeout = "14s"'))
            bridge.process.send_signal(signal.SIGHUP)
            wait_for(lambda: bridge.metric("config_hash") != first, "the new configuration")
            alive = load.ask("hold")["alive"]
            result = load.ask("rate 20")
        good = bridge.metric("config_reload_success")
    if good != 1:
        raise RowError("the reload was refused")
    return [
        Figure(
            "reload_disconnects",
            f"SIGHUP with {clients:,} event streams and another route edited: disconnected",
            "clients",
            0,
            "less",
            clients - min(alive, result["alive"]),
        ),
        Figure("reload_events", "events that did not arrive afterwards", "events", 0, "less", result["expected"] - result["events"]),
    ]


def check(bench: Bench) -> list[Figure]:
    """``--check`` of a hundred routes, of which three are wrong, beside an interpreter that imports Twisted."""
    routes = '[listen.public]\nendpoint = "tcp:0"\n'
    for number in range(100):
        wrong = {17: 'tiemout = "2s"', 42: 'timeout = "2 sec"', 99: "max_body = -1"}.get(number, "")
        routes += f'[routes.r{number}]\ntype = "http-request"\nlisten = "public"\n'
        routes += f'path = "/r{number}/{{id}}"\nsubject = "svc.r{number}.{{id}}"\n{wrong}\n'
    bridge = bench.bridge(routes, is_started=False)
    times: list[float] = []
    bare: list[float] = []
    code = "from pynats_twisted.bridge.tap import main; main()"
    for _ in range(bench.scale.pick(5, 3, 1)):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import twisted.internet.reactor, twisted.web.http"], cwd=ROOT, timeout=60, check=True)
        middle = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, "-c", code, "--config", str(bridge.config), "--check"],
            cwd=ROOT,
            timeout=60,
            check=False,
            capture_output=True,
            text=True,
        )
        bare.append(middle - begun)
        times.append(time.perf_counter() - middle)
    problems = [line for line in (ended.stdout + ended.stderr).splitlines() if line.startswith("error: ")]
    told = sum("bridge.toml:" in line and "routes.r" in line and ("allowed:" in line) for line in problems)
    if ended.returncode != 78 or len(problems) != 3:
        raise RowError(f"exit code {ended.returncode}, {len(problems)} problems: {ended.stderr[-500:]}")
    return [
        Figure(
            "check_seconds",
            "``--check`` of 100 routes",
            "s",
            0.5,
            "less",
            sorted(times)[len(times) // 2],
            sorted(bare)[len(bare) // 2],
            "an interpreter that imports Twisted",
        ),
        Figure("check_problems", "of 3 mistakes told with file, line, key and what is allowed", "problems", 3, "more", told),
    ]


def soak(bench: Bench) -> list[Figure]:
    """Requests, messages that go on to a target and to event streams, and lines, all at once and far below the limits."""
    seconds = bench.scale.pick(45, 10, 2)
    bench.wire.make_stream("BENCH", "bench.take", "bench.live.>", max_msgs=10_000)
    bench.program("echo_service", port=bench.server.port, subject="bench.echo").hear()
    target = bench.program("target")
    with free_ports(2) as (port, lines_port):
        hook = WEBHOOK.format(name="hook", port=target.hear()["port"], keys='filter = "bench.take"')
        routes = SSE.format(port=port) + _ECHO + _TAKE + hook
        routes += f'[routes.lines]\ntype = "lines-in"\nendpoint = "tcp:{lines_port}:interface=127.0.0.1"\nsubject = "bench.lines"\n'
        bridge = bench.bridge(routes)
        # A first part, so that what every bridge has after a while is not taken for growth.
        _mixed(bench, bridge, port, lines_port, bench.scale.pick(10, 3, 0.5))
        before = _leftovers(bench, bridge, target)
        lags = _mixed(bench, bridge, port, lines_port, seconds)
        after = _leftovers(bench, bridge, target)
    note = f"{seconds:g} s, in place of 24 hours"
    return [
        Figure(
            "soak_growth",
            "mixed load: what the process grew by",
            "%",
            5,
            "less",
            100 * max(0.0, after["resident"] / before["resident"] - 1),
            note=note,
            details={"before": before, "after": after},
        ),
        Figure("soak_files", "files and connections that are left over", "files", 0, "less", max(0, after["files"] - before["files"])),
        Figure(
            "soak_consumers",
            "consumers at the server that are left over",
            "consumers",
            0,
            "less",
            max(0, after["consumers"] - before["consumers"]),
        ),
        Figure(
            "soak_lag",
            "how late the event loop was: 99th percentile",
            "ms",
            50,
            "less",
            1e3 * sorted(lags)[int((len(lags) - 1) * 0.99)],
            note=f"{len(lags)} looks",
        ),
    ]


def _mixed(bench: Bench, bridge: Any, port: int, lines_port: int, seconds: float) -> list[float]:
    """All loads at once; how late the event loop was meanwhile."""
    results: list[dict[str, Any]] = []
    problems: list[str] = []

    def load(name: str, **job: Any) -> None:
        try:
            results.append(bench.run(name, seconds + 60.0, **job))
        except RowError as error:
            problems.append(str(error))

    jobs: list[tuple[str, dict[str, Any]]] = [
        ("http_load", {"port": port, "path": "/echo", "connections": 8, "size": 256, "rate": 200, "seconds": seconds}),
        ("http_load", {"port": port, "path": "/take", "connections": 8, "size": 256, "rate": 200, "seconds": seconds}),
        ("lines_load", {"port": lines_port, "connections": 2, "count": 2_000, "size": 100, "admin": bridge.admin.port}),
    ]
    threads = [threading.Thread(target=load, args=(name,), kwargs=job) for name, job in jobs]
    sse = {"clients": 50, "seconds": seconds, "size": 100, "nats": bench.server.port, "subject": "bench.live.a"}
    lags = []
    with Program("sse_load", bench.limit, port=port, path="/live/a", begins=BEGINS, **sse) as events:
        events.hear()
        events.tell("rate 20")
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            lags.append(bridge.metric("reactor_lag_seconds"))
            time.sleep(0.2)
        found = events.hear(seconds + 60.0)
    for thread in threads:
        thread.join()
    if problems or found["events"] != found["expected"]:
        raise RowError("; ".join(problems) or f"{found['events']:,} of {found['expected']:,} events arrived")
    for result in results:
        if "statuses" in result:
            expect_status(result, 200, 202)
    return lags


def _leftovers(bench: Bench, bridge: Any, target: Program) -> dict[str, int]:
    """What there is some seconds after a load, when connections are closed. Those that are kept for the next webhooks do not count: their
    number is bounded.
    """
    time.sleep(bench.scale.pick(3, 1, 0.5))
    info = bench.wire.ask("STREAM.INFO.BENCH")
    return {
        "resident": bridge.resident(),
        "files": bridge.open_files() - target.ask("report")["open"],
        "consumers": info["state"]["consumer_count"],
    }
