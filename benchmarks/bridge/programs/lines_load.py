"""Sends lines over TCP as fast as they are taken.

Job: ``port``, ``connections``, ``count`` (lines in all), ``size``, and how the end is known: ``admin`` (a port of the bridge's admin
endpoint), where ``messages_out_total`` has to grow by the count; or nothing: the floor answers the line ``END`` with the number of its
lines. Says ``{lines, wall, cpu}``.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
import urllib.request

from .job import begin, say

_OUT = re.compile(r"^nats_bridge_messages_out_total\{[^}]*\} (\S+)$", re.MULTILINE)


def out(port: int) -> float:
    """How many lines have reached the route's confirm level."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return sum(float(value) for value in _OUT.findall(response.read().decode()))


def main() -> None:
    """Send, wait for the end, say how long it took."""
    job = begin()
    each = job["count"] // job["connections"]
    line = b"x" * (job["size"] - 1) + b"\n"
    admin = job.get("admin")
    before = out(admin) if admin else 0.0
    sockets = [socket.create_connection(("127.0.0.1", job["port"]), 60) for _ in range(job["connections"])]
    block = line * 500
    counts: list[int] = []

    def send(one: socket.socket) -> None:
        for _ in range(each // 500):
            one.sendall(block)
        one.sendall(line * (each % 500))
        if admin is None:
            one.sendall(b"END\n")
            counts.append(int(one.recv(64)))

    begun = time.perf_counter()
    threads = [threading.Thread(target=send, args=(one,), daemon=True) for one in sockets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    lines = each * job["connections"]
    if admin is not None:
        deadline = time.perf_counter() + 60
        while out(admin) - before < lines:
            if time.perf_counter() > deadline:
                sys.exit(f"{out(admin) - before:,.0f} of {lines:,} lines were confirmed")
            time.sleep(0.02)
    elif sum(counts) != lines:
        sys.exit(f"the floor counted {sum(counts):,} of {lines:,} lines")
    say(lines=lines, wall=time.perf_counter() - begun)


if __name__ == "__main__":
    main()
