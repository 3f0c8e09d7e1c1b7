"""The rows of ``webhook``."""

from __future__ import annotations

import time
from typing import Any

from .bench import Bench, busy, expect_status
from .figures import Figure, median
from .processes import Bridge, Program, RowError, free_ports, wait_for

_SIZE = 256
_SLOTS = 32

WEBHOOK = """
[routes.{name}]
type = "webhook"
stream = "BENCH"
consumer = "{name}"
url = "http://127.0.0.1:{port}/hook"
allow_private = true
sign = {{ secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }}
{keys}
"""


def throughput(bench: Bench) -> list[Figure]:
    """Messages wait in a stream when the bridge starts; they are delivered signed, and each is acked after its answer."""
    count = bench.scale.pick(20_000, 5_000, 200)
    bench.wire.make_stream("BENCH", "bench.hook")
    bench.wire.fill("bench.hook", count, _SIZE)
    target = bench.program("target")
    port = target.hear()["port"]
    ours: list[dict[str, Any]] = []
    bare: list[dict[str, Any]] = []
    agent: list[dict[str, Any]] = []
    bridge = bench.bridge("", is_started=False)
    load = {"port": port, "path": "/hook", "connections": _SLOTS, "size": _SIZE, "count": count}
    for number in range(bench.scale.rounds):
        floor = bench.run("http_load", **load)
        expect_status(floor, 200)
        bare.append({"rate": count / floor["wall"]})
        result = bench.run("agent_load", **{**load, "count": max(_SLOTS, count // 5)})
        agent.append({"rate": result["requests"] / result["wall"]})
        target.ask("reset")
        bridge.configure(bench.nats() + WEBHOOK.format(name=f"round-{number}", port=port, keys=f"concurrency = {_SLOTS}"))
        ours.append(_delivered(bench, bridge, target, count, f"round-{number}"))
    title = f"``webhook``, {_SIZE} bytes, signed, {_SLOTS} in flight"
    details = {"samples": {"bridge": ours, "floor": bare, "agent": agent}}
    return [
        Figure(
            "webhook_rate",
            title,
            "deliveries/s",
            4_000,
            "more",
            median(ours, "rate"),
            median(bare, "rate"),
            "bare sockets",
            details=details,
        ),
        Figure(
            "webhook_rate_agent",
            "the same, beside an HTTP client",
            "deliveries/s",
            None,
            "more",
            median(ours, "rate"),
            median(agent, "rate"),
            "twisted.web's Agent",
        ),
        Figure("webhook_cpu", "``webhook``: processor time of the bridge", "µs/delivery", None, "less", median(ours, "cpu_us")),
    ]


def _delivered(bench: Bench, bridge: Bridge, target: Program, count: int, consumer: str) -> dict[str, Any]:
    """The rate from the first delivery that is seen to the last."""
    bridge.start()
    first = wait_for(lambda: target.ask("report") if target.ask("report")["received"] else None, "the first delivery", every=0.001)
    begun = time.time()
    with busy(bridge) as seconds:
        last = wait_for(lambda: found if (found := target.ask("report"))["received"] >= count else None, "all deliveries", 60.0)
    wait_for(lambda: acked(bench, consumer) == count, "the last ack")
    if target.ask("report")["received"] != count:
        raise RowError("a message was delivered twice without a fault")
    bridge.kill()
    left = count - first["received"]
    return {"rate": left / (last["last"] - begun), "cpu_us": 1e6 * seconds() / left}


def acked(bench: Bench, consumer: str) -> int:
    """How many messages of the stream the consumer is done with."""
    return int(bench.wire.ask(f"CONSUMER.INFO.BENCH.{consumer}")["ack_floor"]["stream_seq"])


def breaker(bench: Bench) -> list[Figure]:
    """Two routes share a stream, and one target is down while messages come; then it is there again."""
    count, down = bench.scale.pick(5_000, 2_000, 50), bench.scale.pick(20, 8, 2)
    bench.wire.make_stream("BENCH", "bench.hook")
    bench.wire.make_stream("DLQ", "dlq.>")
    with free_ports(1) as (port,):
        dead, well = bench.program("target", port=port, record=True), bench.program("target", record=True)
        dead.hear()
        routes = WEBHOOK.format(name="dead", port=port, keys="") + WEBHOOK.format(name="well", port=well.hear()["port"], keys="")
        bridge = bench.bridge(routes)
        dead.ask("down")
        begun = time.time()
        bench.wire.fill("bench.hook", count, _SIZE)
        unhurt = wait_for(lambda: found if (found := well.ask("report"))["distinct"] == count else None, "the healthy target", 60.0)
        time.sleep(max(0.0, begun + down - time.time()))
        retries = bridge.metric("retries_total", "dead")
        is_open = bridge.metric("breaker_state", "dead") == 2
        status, _ = bridge.fetch("/readyz")
        back = time.time()
        dead.ask("up")
        drained = wait_for(lambda: found if (found := dead.ask("report"))["distinct"] == count else None, "the backlog", 90.0)
        wait_for(lambda: acked(bench, "dead") == count, "the last ack")
        letters = bench.wire.last_seq("DLQ")
    burnt = max(0.0, retries - 10 - _SLOTS)
    if not is_open or status != 200:
        raise RowError(f"the breaker was {'open' if is_open else 'not open'}, and /readyz was {status}")
    note = f"down for {down:g} s"
    return [
        Figure(
            "breaker_drain", f"{count:,} queued messages, after their target is back", "s", 10, "less", drained["last"] - back, note=note
        ),
        Figure(
            "breaker_healthy", f"the same {count:,} messages to the healthy target meanwhile", "s", None, "less", unhurt["last"] - begun
        ),
        Figure(
            "breaker_attempts",
            "attempts while the breaker was open",
            "attempts",
            0,
            "less",
            burnt,
            details={"before_it_opened": retries, "letters": letters},
        ),
        Figure("breaker_letters", "dead letters", "messages", 0, "less", letters),
        Figure(
            "breaker_duplicates",
            "deliveries too many, to both targets",
            "messages",
            0,
            "less",
            drained["received"] - count + unhurt["received"] - count,
        ),
    ]
