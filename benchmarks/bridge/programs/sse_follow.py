"""Clients of an event stream that come back with ``Last-Event-ID``, as browsers do, and look at every id.

Job: ``port``, ``path``, ``clients``. Says ``{}`` when all have begun. The command ``report`` says ``{lowest, highest, gaps, duplicates,
resets, resumes, events}``: the sequences that the slowest and the fastest client have reached, and what was wrong with all of them.
"""

from __future__ import annotations

import re
import select
import socket
import sys
import time

from .job import Job, begin, say

_EVENT = re.compile(rb"(?:^|\n)id: ([a-z2-7]{6})-(\d+)\n")
_RETRY = 0.05


class Follower:
    """One client, over all of its connections."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.data = b""
        self.epoch = b""
        self.seq = -1
        self.not_before = 0.0


class Followers:
    """All clients."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.all = [Follower() for _ in range(job["clients"])]
        self.by_file: dict[int, Follower] = {}
        self.poll = select.epoll()
        self.gaps = self.duplicates = self.resets = self.resumes = self.events = 0

    def run(self) -> None:
        """Until the harness is gone."""
        self.poll.register(sys.stdin, select.EPOLLIN)
        has_begun = False
        while True:
            now = time.perf_counter()
            for one in self.all:
                if one.socket is None and one.not_before <= now:
                    self.connect(one, now)
            for fd, _ in self.poll.poll(0.02):
                if fd == sys.stdin.fileno():
                    if not sys.stdin.readline():
                        return
                    self.report()
                else:
                    self.receive(self.by_file[fd])
            if not has_begun and all(one.seq >= 0 for one in self.all):
                has_begun = True
                say()

    def report(self) -> None:
        """What there is to say."""
        seqs = [one.seq for one in self.all]
        say(
            lowest=min(seqs), highest=max(seqs), gaps=self.gaps, duplicates=self.duplicates, resets=self.resets, resumes=self.resumes,
            events=self.events,
        )  # fmt: skip

    def connect(self, one: Follower, now: float) -> None:
        """Come, or come back."""
        try:
            one.socket = socket.create_connection(("127.0.0.1", self.job["port"]), 5)
        except OSError:
            one.not_before = now + _RETRY
            return
        last = f"Last-Event-ID: {one.epoch.decode()}-{one.seq}\r\n" if one.seq >= 0 else ""
        self.resumes += bool(last)
        one.socket.sendall(f"GET {self.job['path']} HTTP/1.1\r\nHost: bench\r\n{last}\r\n".encode())
        one.socket.setblocking(False)
        self.by_file[one.socket.fileno()] = one
        self.poll.register(one.socket, select.EPOLLIN)

    def receive(self, one: Follower) -> None:
        """Events, or the end of the connection."""
        assert one.socket is not None
        try:
            data = one.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.poll.unregister(one.socket)
            del self.by_file[one.socket.fileno()]
            one.socket.close()
            one.socket, one.data, one.not_before = None, b"", time.perf_counter() + _RETRY
            return
        *blocks, one.data = (one.data + data).split(b"\n\n")
        for block in blocks:
            self.take(one, block)

    def take(self, one: Follower, block: bytes) -> None:
        """One event, or what is none: the head of the response, comments, a bare id."""
        if b"event: reset" in block:
            self.resets += 1
        found = _EVENT.search(block + b"\n")
        if found is None:
            return
        seq = int(found[2])
        if one.seq < 0 or found[1] != one.epoch:
            one.epoch, one.seq = found[1], seq
            return
        if b"data: " not in block:
            # Where the stream begins: at what the client has brought.
            self.gaps += seq > one.seq
            return
        self.events += 1
        self.duplicates += seq <= one.seq
        self.gaps += seq > one.seq + 1
        one.seq = max(seq, one.seq)


if __name__ == "__main__":
    Followers(begin()).run()
