"""A bridge that is killed again and again while it publishes, delivers and streams the same messages."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from .bench import Bench
from .figures import Figure
from .processes import Bridge, RowError, free_ports, wait_for
from .webhook_rows import WEBHOOK, acked

_SENDERS = 16
_SLOTS = 32
_EVERY = 2.0

_ROUTES = """
[listen.public]
endpoint = "tcp:{port}:interface=127.0.0.1"
max_connections = 1000
[routes.known]
type = "http-publish"
listen = "public"
path = "/known"
subject = "bench.known"
dedupe = "header:x-id"
[routes.loose]
type = "http-publish"
listen = "public"
path = "/loose"
subject = "loose.all"
[routes.live]
type = "sse"
listen = "public"
path = "/live"
stream = "BENCH"
filter = "bench.known"
"""


def kills(bench: Bench) -> list[Figure]:
    """Two senders of webhooks, one with ids of its own; what the first one sends goes on to a target and to event streams."""
    count, number = bench.scale.pick(100, 5, 2), bench.scale.pick(100_000, 3_000, 100)
    bench.wire.make_stream("BENCH", "bench.known")
    bench.wire.make_stream("LOOSE", "loose.all")
    target = bench.program("target", record=True)
    with free_ports(1) as (port,):
        routes = _ROUTES.format(port=port) + WEBHOOK.format(name="hook", port=target.hear()["port"], keys=f"concurrency = {_SLOTS}")
        bridge = bench.bridge(routes)
        followers = bench.program("sse_follow", port=port, path="/live", clients=bench.scale.pick(20, 10, 3))
        followers.hear()
        publishers = {
            path: bench.program(
                "publisher",
                port=port,
                path=f"/{path}",
                connections=_SENDERS,
                rate=rate,
                file=str(bench.folder / path),
            )
            for path, rate in (("known", bench.scale.pick(1_100, 1_000, 200)), ("loose", bench.scale.pick(300, 200, 50)))
        }
        for _ in range(count):
            # Every two seconds from the start of the process, whatever it had time for.
            time.sleep(max(0.0, bridge.starts[-1] + _EVERY - time.time()))
            bridge.kill()
            bridge.start()
        bridge.wait_ready()
        # The last deliveries that were in flight come again when their ack_wait, 10 s, is over.
        wait_for(lambda: bench.wire.last_seq("BENCH") >= number, f"{number:,} messages", 120.0, every=0.2)
        results = {path: publisher.ask("stop") for path, publisher in publishers.items()}
        stored = bench.wire.last_seq("BENCH")
        wait_for(lambda: acked(bench, "hook") == stored, "the last ack", 60.0, every=0.1)
        wait_for(lambda: followers.ask("report")["lowest"] >= stored, "the last event", 30.0, every=0.1)
        followed = followers.ask("report")
        delivered = target.ask("report")
    return [
        *_published(bench, results, count),
        *_delivered(delivered, stored, count, len({payload for _, payload in bench.wire.stored("BENCH", stored)})),
        Figure(
            "kill_sse_gaps",
            "``sse``: events that were left out, or began anew",
            "events",
            0,
            "less",
            followed["gaps"] + followed["resets"],
            note=f"{followed['events']:,} events, {followed['resumes']:,} resumes",
            details=followed,
        ),
        Figure("kill_sse_duplicates", "``sse``: events that came twice, or in another order", "events", 0, "less", followed["duplicates"]),
        *_recovery(bridge, results["known"]["resumed"]),
    ]


def server_kills(bench: Bench) -> list[Figure]:
    """The NATS server is killed and started again while the bridge publishes."""
    count = bench.scale.pick(10, 3, 1)
    bench.wire.make_stream("BENCH", "bench.known")
    bench.wire.make_stream("LOOSE", "loose.all")
    ups: list[float] = []
    with free_ports(1) as (port,):
        bench.bridge(_ROUTES.format(port=port))
        job = {"port": port, "path": "/known", "connections": _SENDERS, "rate": 1_000, "file": str(bench.folder / "known"), "times": True}
        publisher = bench.program("publisher", **job)
        for _ in range(count):
            time.sleep(1.5)
            bench.server.restart(kill=True, down=0.2)
            ups.append(time.time())
        time.sleep(3.0)
        result = publisher.ask("stop")
    bench.reconnect()
    stored = dict(bench.wire.stored("BENCH", bench.wire.last_seq("BENCH")))
    lost = count_lost(bench.folder / "known", stored)
    waits = [min((moment for moment in result["resumed"] if moment > up), default=float("inf")) - up for up in ups]
    if not result["confirmed"] or max(waits) == float("inf"):
        raise RowError("nothing was confirmed after a restart of the server")
    note = f"{count} kills of the server, {result['confirmed']:,} confirmed"
    return [
        Figure("server_kill_lost", "``http-publish``: confirmed, and not in the stream", "messages", 0, "less", lost, note=note),
        Figure("server_kill_duplicates", "the same: stored twice", "messages", 0, "less", len(stored) - len(set(stored.values()))),
        Figure("server_kill_resume", "from the server's start to the first confirmed message: slowest", "s", 2, "less", max(waits)),
    ]


def count_lost(confirmed: Path, stored: dict[int, bytes]) -> int:
    """How many of the confirmed numbers are not in the stream at the sequence that was told."""
    lines = (line.split(" ") for line in confirmed.read_text("utf-8").splitlines())
    return sum(stored.get(int(seq)) != number.encode() for number, seq in lines)


def _published(bench: Bench, results: dict[str, dict[str, Any]], count: int) -> list[Figure]:
    lost, extra = 0, {}
    for path, stream in (("known", "BENCH"), ("loose", "LOOSE")):
        stored = dict(bench.wire.stored(stream, bench.wire.last_seq(stream)))
        lost += count_lost(bench.folder / path, stored)
        extra[path] = sum(Counter(stored.values()).values()) - len(set(stored.values()))
    confirmed = sum(result["confirmed"] for result in results.values())
    if not confirmed:
        raise RowError("nothing was confirmed")
    note = f"{count} kills, {confirmed:,} confirmed"
    in_flight = {path: result["statuses"].get("0", 0) for path, result in results.items()}
    return [
        Figure(
            "kill_publish_lost",
            "``http-publish``: confirmed, and not in the stream",
            "messages",
            0,
            "less",
            lost,
            note=note,
            details={path: {name: value for name, value in result.items() if name != "resumed"} for path, result in results.items()},
        ),
        Figure(
            "kill_publish_duplicates",
            "``http-publish``, senders with ids: stored twice",
            "messages",
            0,
            "less",
            extra["known"],
            note=f"{in_flight['known']:,} requests were in flight at kills",
        ),
        Figure(
            "kill_publish_loose",
            "``http-publish``, senders without ids: stored twice",
            "messages",
            in_flight["loose"],
            "less",
            extra["loose"],
            note="the goal is what was in flight at kills",
        ),
    ]


def _delivered(report: dict[str, Any], stored: int, count: int, distinct: int) -> list[Figure]:
    return [
        Figure(
            "kill_webhook_lost",
            "``webhook``: stored, and never delivered",
            "messages",
            0,
            "less",
            distinct - report["distinct"],
            note=f"{stored:,} messages, {count} kills",
        ),
        Figure(
            "kill_webhook_duplicates",
            "``webhook``: delivered again",
            "messages",
            count * _SLOTS,
            "less",
            report["received"] - stored,
            note=f"the goal is {_SLOTS} in flight for each kill",
        ),
        Figure("kill_webhook_ids", "``webhook``: delivered again with another id", "messages", 0, "less", report["changed"]),
    ]


def _recovery(bridge: Bridge, resumed: list[float]) -> list[Figure]:
    """From each start of a process to the next confirmation."""
    waits = []
    for index, start in enumerate(bridge.starts[1:], 1):
        end = bridge.starts[index + 1] if index + 1 < len(bridge.starts) else float("inf")
        found = [moment for moment in resumed if start < moment < end]
        if found:
            waits.append(found[0] - start)
    if not waits:
        raise RowError("nothing was confirmed after a kill")
    title = "from the start of the process to the first confirmed message"
    return [
        Figure("kill_recovery", f"{title}: median", "s", 1, "less", statistics.median(waits), note=f"{len(waits)} starts"),
        Figure("kill_recovery_max", f"{title}: slowest", "s", None, "less", max(waits)),
    ]
