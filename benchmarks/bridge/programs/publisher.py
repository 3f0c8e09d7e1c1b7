"""Posts numbered messages, each until it is confirmed, as a sender of webhooks does, while the bridge is killed again and again.

Job: ``port``, ``path``, ``connections``, ``rate`` (confirmed messages a second at most), ``known`` (say an id with each). The command
``stop`` ends it: it says ``{confirmed, numbers, statuses, resumed, file}``; ``numbers`` is how many different ones were sent, ``resumed``
the times of the first confirmations after answers had failed (with ``times`` in the job, of all confirmations), and the file (named by
``file`` in the job) has a line ``number seq`` for each confirmed one.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import Counter
from typing import Any

from .http_load import content_length
from .job import Job, begin, say

_RETRY = 0.02


class Sender:
    """One connection, and the number that it is at."""

    def __init__(self, first: int) -> None:
        self.number = first
        self.socket: socket.socket | None = None
        self.data = b""
        self.is_waiting = False
        self.not_before = 0.0


class Publisher:
    """All senders."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.senders = [Sender(first) for first in range(job["connections"])]
        self.by_file: dict[int, Sender] = {}
        self.poll = select.epoll()
        self.confirmed: dict[int, int] = {}
        self.statuses: Counter[int] = Counter()
        self.resumed: list[float] = []
        self.is_down = True

    def run(self) -> None:
        """Until it is told to stop; what is in flight then is waited for."""
        self.poll.register(sys.stdin, select.EPOLLIN)
        begun = time.perf_counter()
        stop_at = float("inf")
        while time.perf_counter() < stop_at and (stop_at == float("inf") or any(sender.is_waiting for sender in self.senders)):
            now = time.perf_counter()
            if stop_at == float("inf"):
                allowed = int((now - begun) * self.job["rate"]) - len(self.confirmed)
                for sender in self.senders:
                    if allowed > 0 and not sender.is_waiting and sender.not_before <= now:
                        allowed -= 1
                        self.send(sender, now)
            for fd, _ in self.poll.poll(0.002):
                if fd == sys.stdin.fileno():
                    if not sys.stdin.readline():
                        return
                    self.poll.unregister(sys.stdin)
                    stop_at = time.perf_counter() + 10
                else:
                    self.receive(self.by_file[fd])
        with open(self.job["file"], "w", encoding="utf-8") as file:
            file.writelines(f"{number} {seq}\n" for number, seq in self.confirmed.items())
        numbers = sum(sender.number // len(self.senders) + sender.is_waiting for sender in self.senders)
        say(confirmed=len(self.confirmed), numbers=numbers, statuses=self.statuses, resumed=self.resumed)

    def send(self, sender: Sender, now: float) -> None:
        """The number of this sender, on its connection or on a new one."""
        if sender.socket is None:
            try:
                sender.socket = socket.create_connection(("127.0.0.1", self.job["port"]), 5)
            except OSError:
                sender.not_before = now + _RETRY
                self.is_down = True
                return
            sender.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sender.socket.setblocking(False)
            self.by_file[sender.socket.fileno()] = sender
            self.poll.register(sender.socket, select.EPOLLIN)
        body = b"%d" % sender.number
        head = f"POST {self.job['path']} HTTP/1.1\r\nHost: bench\r\nX-Id: {sender.number}\r\nContent-Length: {len(body)}\r\n\r\n"
        sender.is_waiting = True
        try:
            sender.socket.send(head.encode() + body)
        except OSError:
            self.lost(sender)

    def receive(self, sender: Sender) -> None:
        """A part of an answer, or the end of the connection."""
        assert sender.socket is not None
        try:
            data = sender.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lost(sender)
            return
        sender.data += data
        head, end, rest = sender.data.partition(b"\r\n\r\n")
        if not end or len(rest) < content_length(head):
            return
        sender.data = b""
        sender.is_waiting = False
        status = int(head[9:12])
        self.statuses[status] += 1
        if status in (200, 202):
            answer: dict[str, Any] = json.loads(rest)
            self.confirmed[sender.number] = answer["seq"]
            sender.number += len(self.senders)
            if self.is_down or self.job.get("times"):
                self.is_down = False
                self.resumed.append(time.time())
        else:
            sender.not_before = time.perf_counter() + _RETRY
            self.is_down = True

    def lost(self, sender: Sender) -> None:
        """The connection is gone, and with it perhaps an answer."""
        assert sender.socket is not None
        if sender.is_waiting:
            self.statuses[0] += 1
        self.poll.unregister(sender.socket)
        del self.by_file[sender.socket.fileno()]
        sender.socket.close()
        sender.socket, sender.data, sender.is_waiting = None, b"", False
        sender.not_before = time.perf_counter() + _RETRY
        self.is_down = True


if __name__ == "__main__":
    Publisher(begin()).run()
