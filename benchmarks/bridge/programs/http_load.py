"""Sends the same HTTP request over and over, on connections that stay open.

Job: ``port``, ``path``, ``connections``, ``size`` (of the body), ``headers`` (more lines), ``seconds``, ``warmup``, and either ``rate``
(requests a second, at their times, whether or not earlier ones were answered) or nothing (each connection sends again when it has its
answer), or ``count`` (so many, then the end). Says ``{requests, all, wall, statuses, p50_ms, p99_ms, max_ms}``.
"""

from __future__ import annotations

import contextlib
import heapq
import select
import socket
import time
from collections import Counter, deque

from .job import Job, begin, percentiles, say


class Connection:
    """One connection: a request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.data = b""
        self.due = 0.0
        self.is_waiting = False

    def receive(self) -> int | None:
        """The status of the answer when it is complete; 0 when the connection has ended."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            return 0
        if not data:
            return 0
        self.data += data
        end = self.data.find(b"\r\n\r\n")
        if end < 0 or len(self.data) < end + 4 + content_length(self.data[:end]):
            return None
        status = int(self.data[9:12])
        self.data = b""
        return status


def content_length(head: bytes) -> int:
    """Bytes of the body that follows this head."""
    position = head.lower().find(b"\r\ncontent-length:")
    return int(head[position + 17 :].split(b"\r\n", 1)[0]) if position >= 0 else 0


class Load:
    """All connections."""

    def __init__(self, job: Job) -> None:
        head = f"POST {job['path']} HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain\r\nContent-Length: {job['size']}\r\n"
        self.request = head.encode() + "".join(f"{line}\r\n" for line in job.get("headers", ())).encode() + b"\r\n" + b"x" * job["size"]
        self.count: int = job.get("count", 1 << 60)
        self.rate: float = job.get("rate", 0)
        self.warmup: float = job.get("warmup", 0.0)
        self.seconds: float = job.get("seconds", 3600.0)
        self.poll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.idle: deque[Connection] = deque()
        for _ in range(job["connections"]):
            connection = Connection(job["port"])
            self.connections[connection.socket.fileno()] = connection
            self.poll.register(connection.socket, select.EPOLLIN)
            self.idle.append(connection)
        self.statuses: Counter[int] = Counter()
        self.taken: list[float] = []
        self.due: list[float] = []
        self.sent = 0
        self.done = 0

    def run(self) -> None:
        """Until the time is over or the count is reached, and everything is answered."""
        begun = time.perf_counter()
        measured_from = begun + self.warmup
        end = measured_from + self.seconds
        step = 1 / self.rate if self.rate else 0.0
        following = begun
        last = begun
        while True:
            now = time.perf_counter()
            is_over = now >= end or self.sent + len(self.due) >= self.count
            if step:
                while following <= now and not is_over:
                    heapq.heappush(self.due, following)
                    following += step
                while self.due and self.idle:
                    self.send(self.idle.popleft(), heapq.heappop(self.due))
            elif not is_over:
                while self.idle and self.sent < self.count:
                    self.send(self.idle.popleft(), now)
            if (is_over and self.done >= self.sent and not self.due) or not self.connections or now > end + 10:
                break
            if step:
                # epoll itself waits for whole milliseconds, and what is due would wait with it.
                select.select([self.poll.fileno()], [], [], max(0.0, min(following, end) - now) if self.idle else 0.05)
            for fd, _ in self.poll.poll(0 if step else 0.05):
                connection = self.connections[fd]
                status = connection.receive()
                if status is None:
                    continue
                if not status:
                    self.lost(fd, connection)
                    continue
                last = time.perf_counter()
                self.done += 1
                connection.is_waiting = False
                if connection.due >= measured_from:
                    self.statuses[status] += 1
                    self.taken.append(last - connection.due)
                self.idle.append(connection)
        wall = min(last, end) - measured_from if not self.rate else last - measured_from
        say(requests=len(self.taken), all=self.done, wall=wall, statuses=self.statuses, unanswered=self.sent - self.done,
            **percentiles(self.taken))  # fmt: skip

    def lost(self, fd: int, connection: Connection) -> None:
        """A connection has ended, perhaps before its answer."""
        if connection.is_waiting:
            self.done += 1
            self.statuses[0] += 1
        else:
            self.idle.remove(connection)
        self.poll.unregister(fd)
        del self.connections[fd]
        connection.socket.close()

    def send(self, connection: Connection, due: float) -> None:
        """One request; its answer counts from when it was due."""
        connection.due = due
        connection.is_waiting = True
        self.sent += 1
        with contextlib.suppress(OSError):  # the poll tells that it has ended
            connection.socket.send(self.request)


if __name__ == "__main__":
    Load(begin()).run()
