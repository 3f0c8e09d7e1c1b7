"""Clients that are slow on purpose, many at once.

Job: ``port``, ``clients``, ``way``: ``reading`` (event streams of ``path``, of which nothing is read) or ``sending`` (requests that come
a byte a second, for ever). Says ``{clients}`` when all are there; the command ``report`` says ``{alive}``.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time

from .job import begin, say

_EVERY = 1.0


def main() -> None:
    """Until the harness is gone."""
    job = begin()
    is_reading = job["way"] == "reading"
    sockets: list[socket.socket] = []
    for _ in range(job["clients"]):
        one = socket.socket()
        if is_reading:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(30)
        one.connect(("127.0.0.1", job["port"]))
        one.sendall(f"GET {job['path']} HTTP/1.1\r\nHost: bench\r\n".encode() + (b"\r\n" if is_reading else b"X-Slow: "))
        one.setblocking(False)
        sockets.append(one)
    say(clients=len(sockets))
    following = time.monotonic() + _EVERY
    while True:
        if select.select([sys.stdin], [], [], max(0.0, following - time.monotonic()))[0]:
            if not sys.stdin.readline():
                return
            say(alive=sum(is_open(one) for one in sockets))
        if time.monotonic() >= following:
            following += _EVERY
            if not is_reading:
                for one in sockets:
                    with contextlib.suppress(OSError):  # the bridge has had enough of it
                        one.send(b"x")


def is_open(one: socket.socket) -> bool:
    """Whether the other side has not closed it; what was sent before is not read."""
    poll = select.poll()
    poll.register(one, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    return not poll.poll(0)


if __name__ == "__main__":
    main()
