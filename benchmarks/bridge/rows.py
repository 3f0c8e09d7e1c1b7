"""The rows: what is measured, in the order of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import fuzz_rows, http_rows, kill_rows, lines_rows, operation_rows, sse_rows, webhook_rows
from .bench import Measure


@dataclass(frozen=True)
class Row:
    """One row.

    :ivar title: what it does, for people.
    :ivar measure: does it.
    :ivar limit: seconds after which all of its processes end by themselves; a full run takes a part of that.
    :ivar stands_for: what it is too short for, and stands for.
    :ivar is_load: it compares with a floor; the others try to break something.
    """

    name: str
    title: str
    measure: Measure
    limit: float
    stands_for: str = ""
    is_load: bool = True


ROWS: Sequence[Row] = (
    Row("http_request", "requests, echoed by a service on NATS", http_rows.request_throughput, 120),
    Row("http_request_latency", "requests at a rate", http_rows.request_latency, 120),
    Row("http_publish", "messages into a stream in files, each confirmed", http_rows.publish_throughput, 120),
    Row("http_publish_latency", "messages into a stream at a rate", http_rows.publish_latency, 120),
    Row("webhook", "a backlog is delivered, signed, and acked", webhook_rows.throughput, 180),
    Row("sse_idle", "clients that wait", sse_rows.idle, 300),
    Row("sse_events", "one stream to many clients, as fast as they follow", sse_rows.flood, 180),
    Row("sse_latency", "one stream to many clients at a rate", sse_rows.latency, 120),
    Row("lines_core", "lines over TCP, each confirmed by the NATS server", lines_rows.core, 180),
    Row("lines_stream", "lines over TCP, each confirmed by a stream in files", lines_rows.stream, 240),
    Row("syslog_udp", "syslog over UDP into a stream in files, at growing rates", lines_rows.syslog, 180),
    Row("kills", "``kill -9`` of the bridge every two seconds, under load", kill_rows.kills, 500, is_load=False),
    Row("server_kills", "``kill -9`` of the NATS server, under load", kill_rows.server_kills, 120, "stands for 50 kills", is_load=False),
    Row(
        "breaker", "a target is down, another one on the same stream is not", webhook_rows.breaker, 240,
        "stands for ten minutes of a target that is down", is_load=False,
    ),
    Row(
        "fuzz", "100,000 cases of paths, headers, bodies, signatures, lines and syslog frames, from a seed", fuzz_rows.fuzz, 500,
        "stands for a million cases", is_load=False,
    ),
    Row(
        "slow_clients", "many clients that do not read, then many that do not finish their requests", operation_rows.slow_clients, 300,
        is_load=False,
    ),
    Row("drain", "SIGTERM while requests wait for a slow service", operation_rows.drain, 120, is_load=False),
    Row("reload", "SIGHUP while event streams are open", operation_rows.reload, 120, is_load=False),
    Row("check", "``--check`` of a hundred routes", operation_rows.check, 120, is_load=False),
    Row("soak", "a mixed load far below the limits", operation_rows.soak, 300, "stands for 24 hours", is_load=False),
)  # fmt: skip
