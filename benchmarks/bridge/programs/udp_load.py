"""Sends syslog messages (RFC 5424, about 200 bytes) as datagrams at a rate. Job: ``port``, ``rate``, ``seconds``. Says ``{sent, wall}``."""

from __future__ import annotations

import socket
import time

from .job import begin, say

_MESSAGE = b'<165>1 2026-11-23T12:00:00.000003Z host.example app 1234 ID47 [bench@32473 iut="3" source="load"] number %08d ' + b"x" * 90


def main() -> None:
    """In steps of a few milliseconds, each as many as are due."""
    job = begin()
    rate, seconds = job["rate"], job["seconds"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", job["port"]))
        begun = time.perf_counter()
        sent = 0
        while (passed := time.perf_counter() - begun) < seconds:
            due = int(min(passed, seconds) * rate)
            for number in range(sent, due):
                sender.send(_MESSAGE % number)
            sent = max(sent, due)
            time.sleep(0.001)
        say(sent=sent, wall=time.perf_counter() - begun)


if __name__ == "__main__":
    main()
