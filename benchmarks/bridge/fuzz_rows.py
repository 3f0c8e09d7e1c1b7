"""Input that nobody thought of, through real sockets, and what of it reaches NATS."""

from __future__ import annotations

import time
from typing import Any

from .bench import Bench
from .figures import Figure
from .processes import RowError, free_ports
from .programs.fuzz_cases import SECRET

SEED = 7
_MAX_BODY = 4096

_ROUTES = """
[listen.public]
endpoint = "tcp:{http}:interface=127.0.0.1"
request_timeout = "2s"
[routes.ask]
type = "http-request"
listen = "public"
path = "/fuzz/{{id}}"
subject = "fuzz.ask.{{method}}.{{id}}"
request_headers = ["x-tag", "content-type"]
max_body = {longest}
[routes.take]
type = "http-publish"
listen = "public"
path = "/take/{{id}}"
subject = "fuzz.take.{{id}}"
request_headers = ["x-tag", "content-type"]
confirm = "server"
max_body = {longest}
[routes.signed]
type = "http-publish"
listen = "public"
path = "/signed"
subject = "fuzz.signed"
confirm = "server"
verify = {{ scheme = "github", secret = "{secret}" }}
max_body = {longest}
[routes.lines]
type = "lines-in"
endpoint = "tcp:{lines}:interface=127.0.0.1"
subject = "fuzz.lines.{{peer}}"
max_length = {longest}
[routes.syslog-udp]
type = "syslog"
endpoint = "udp:{udp}:interface=127.0.0.1"
subject = "fuzz.log.{{facility}}.{{severity}}.{{hostname}}.{{app}}"
max_length = {longest}
[routes.syslog-tcp]
type = "syslog"
endpoint = "tcp:{tcp}:interface=127.0.0.1"
subject = "fuzz.log.{{facility}}.{{severity}}.{{hostname}}.{{app}}"
max_length = {longest}
"""
_TOKEN = r"[^\s.*>\x00-\x1f\x7f]+"
_ROUTE_HEADERS = ["nats-bridge-path", "x-tag", "content-type", "traceparent", "tracestate"]
_ASKED = [*_ROUTE_HEADERS, "nats-bridge-method", "nats-bridge-query", "nats-bridge-remote"]
_LINE = ["nats-bridge-path", "nats-bridge-truncated", "nats-bridge-partial", "nats-bridge-invalid", "nats-bridge-error"]
_MIB = 2**20


def fuzz(bench: Bench) -> list[Figure]:
    """Everything at once at one bridge; a witness judges each message, and the bridge has to be well afterwards."""
    each = bench.scale.pick(20_000, 3_000, 100)
    cases = {"paths": each, "headers": each, "bodies": each, "signatures": each // 2, "lines": each // 2, "syslog": each}
    rules: list[Any] = [
        (rf"fuzz\.ask\.(GET|POST)\.{_TOKEN}", _ASKED, _MAX_BODY),
        (rf"fuzz\.take\.{_TOKEN}", _ROUTE_HEADERS, _MAX_BODY),
        (r"fuzz\.signed", [*_ROUTE_HEADERS, "nats-msg-id"], _MAX_BODY),
        (r"fuzz\.lines\.127-0-0-1", _LINE, _MAX_BODY),
        # A message that was parsed is longer as JSON than it was.
        (rf"fuzz\.log(\.{_TOKEN}){{4}}", [*_LINE, "content-type"], 8 * _MAX_BODY),
        (r"_INBOX\.\S+|\$JS\S+|\$SYS\S+", ["status", "description"], _MIB),
    ]
    witness = bench.program("witness", port=bench.server.port, rules=rules)
    witness.hear()
    bench.program("echo_service", port=bench.server.port, subject="fuzz.ask.>").hear()
    with free_ports(3) as (http, lines, tcp):
        ports = {"http": http, "lines": lines, "tcp": tcp, "udp": tcp}
        bridge = bench.bridge(_ROUTES.format(**ports, longest=_MAX_BODY, secret=SECRET.decode()))
        # A first part, so that what every bridge has after a while is not taken for growth.
        load = {"ports": ports}
        bench.run("fuzz_load", 200.0, **load, seed=SEED, cases={kind: max(10, count // 20) for kind, count in cases.items()})
        before, files = bridge.resident(), bridge.open_files()
        result = bench.run("fuzz_load", 300.0, **load, seed=SEED + 1, cases=cases)
        # Clients that were refused are lingered for.
        time.sleep(bench.scale.pick(4, 4, 2.5))
        grown, left = bridge.resident() - before, max(0, bridge.open_files() - files)
        bridge.wait_ready()
        report = witness.ask("report")
    if result["bad"] or report["first"]:
        (bench.folder / "fuzz.txt").write_text("\n".join(result["bad"] + report["first"]), "utf-8")
        print("\n".join(result["bad"] + report["first"]))
    silent = [pattern for pattern, _, _ in rules[:5] if not report["seen"].get(pattern)]
    if silent:
        raise RowError(f"nothing at all went through to {', '.join(silent)}")
    crossed = sum(count for pattern, count in report["seen"].items() if pattern.startswith("fuzz"))
    total = sum(result["sent"].values())
    details = {"sent": result["sent"], "statuses": result["statuses"], "seen": report["seen"], "seed": SEED}
    return [
        Figure(
            "fuzz_injected",
            "subjects, headers and payloads on NATS that no route may make",
            "messages",
            0,
            "less",
            sum(report["violations"].values()),
            note=f"{total:,} cases, {crossed:,} messages crossed",
            details=details,
        ),
        Figure("fuzz_answers", "answers with 500, or that are no HTTP", "answers", 0, "less", len(result["bad"])),
        Figure("fuzz_tracebacks", "tracebacks in the log", "tracebacks", 0, "less", bridge.tracebacks()),
        Figure("fuzz_memory", "what the process grew by", "MiB", 16, "less", max(0.0, grown / _MIB)),
        Figure("fuzz_files", "connections that are left over", "files", 0, "less", left),
    ]
