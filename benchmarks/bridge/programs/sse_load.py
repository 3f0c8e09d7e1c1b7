"""Clients of an event stream, and who publishes to them.

Job: ``port``, ``path``, ``clients``, ``begins`` (what a client gets when its stream has begun), ``seconds``, ``size``, and for publishing
``nats`` (a port) with ``subject``, or ``plain`` (a port of the floor, which takes lines). When all clients listen it says
``{clients, took}``, and waits for a command:

* ``hold``: nothing; says ``{alive}`` with how many are still connected, and waits again.
* ``flood AHEAD``: publish as fast as all clients follow, with so many messages under way at most; with one, no two of them can share
  a write. Says ``{events, wall, expected, arrived, alive}``.
* ``rate N``: publish N messages a second; says ``{events, expected, alive, p50_ms, p99_ms, max_ms}``, the time from publishing to each
  client.
"""

from __future__ import annotations

import re
import select
import socket
import sys
import time
from typing import Any

from .job import Job, begin, listen, percentiles, say
from .wire import Wire

_AT = re.compile(rb"data: (\d+\.\d+) ")


class Client:
    """One client."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode())
        self.socket.setblocking(False)
        self.data = b""
        self.events = 0
        self.has_begun = False


class Load:
    """All clients."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.begins: bytes = job["begins"].encode()
        self.poll = select.epoll()
        self.clients: dict[int, Client] = {}
        self.taken: list[float] = []
        self.events = 0
        self.waiting = 0
        self.is_timed = False
        self.padding: bytes = b"x" * job.get("size", 100)
        self.source: Any = None
        if "nats" in job:
            wire = Wire(job["nats"])
            self.source = wire.socket
            head = f"PUB {job['subject']} "
            self.frame = lambda payload: head.encode() + b"%d\r\n%b\r\n" % (len(payload), payload)
        elif "plain" in job:
            self.source = socket.create_connection(("127.0.0.1", job["plain"]), 30)
            self.frame = lambda payload: payload + b"\n"

    def open(self) -> None:
        """Connect all of them, some hundred at a time."""
        begun = time.perf_counter()
        deadline = begun + 120
        for number in range(self.job["clients"]):
            client = Client(self.job["port"], self.job["path"])
            self.clients[client.socket.fileno()] = client
            self.poll.register(client.socket, select.EPOLLIN)
            self.waiting += 1
            while self.waiting > 200 or (number == self.job["clients"] - 1 and self.waiting):
                self.receive(0.5)
                if time.perf_counter() > deadline:
                    sys.exit(f"{self.waiting} of {number + 1} clients were not answered")
        say(clients=len(self.clients), took=time.perf_counter() - begun)

    def receive(self, timeout: float) -> None:
        """Take what is there."""
        for fd, _ in self.poll.poll(timeout):
            client = self.clients[fd]
            try:
                data = client.socket.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self.poll.unregister(fd)
                del self.clients[fd]
                client.socket.close()
                continue
            now = time.time()
            data = client.data + data
            cut = data.rfind(b"\n\n") + 2
            if cut < 2:
                client.data = data
                continue
            client.data = data[cut:]
            whole = data[:cut]
            if not client.has_begun and self.begins in whole:
                client.has_begun = True
                self.waiting -= 1
            found = whole.count(b"data: ")
            client.events += found
            self.events += found
            if self.is_timed and found:
                self.taken += [now - float(at) for at in _AT.findall(whole)]

    def payload(self) -> bytes:
        """A message that says when it was published."""
        return f"{time.time():.6f} ".encode() + self.padding

    def flood(self, ahead: int) -> None:
        """Publish more whenever the clients have half of it."""
        self.events = 0
        clients, published = len(self.clients), 0
        begun = time.perf_counter()
        end = begun + self.job["seconds"]
        while time.perf_counter() < end:
            missing = published - self.events // clients
            if missing <= ahead // 2:
                self.source.sendall(b"".join([self.frame(self.payload()) for _ in range(ahead - missing)]))
                published += ahead - missing
            self.receive(0.01)
        events, wall = self.events, time.perf_counter() - begun
        self.settle(published * clients)
        say(events=events, wall=wall, expected=published * clients, arrived=self.events, alive=len(self.clients))

    def rate(self, rate: float) -> None:
        """Publish one after the other, each at its time."""
        self.events, self.taken, self.is_timed = 0, [], True
        clients, published = len(self.clients), 0
        begun = following = time.perf_counter()
        end = begun + self.job["seconds"]
        while time.perf_counter() < end:
            if time.perf_counter() >= following:
                self.source.sendall(self.frame(self.payload()))
                published += 1
                following += 1 / rate
            self.receive(max(0.0, min(following - time.perf_counter(), 0.01)))
        self.settle(published * clients)
        say(events=self.events, expected=published * clients, alive=len(self.clients), **percentiles(self.taken))

    def settle(self, expected: int) -> None:
        """Wait for what is still under way."""
        deadline = time.perf_counter() + 10
        while self.events < expected and time.perf_counter() < deadline:
            self.receive(0.05)

    def hold(self) -> None:
        """See who is still there."""
        deadline = time.perf_counter() + self.job["seconds"]
        while time.perf_counter() < deadline:
            self.receive(0.05)
        say(alive=len(self.clients))


def main() -> None:
    """Until the harness is gone."""
    load = Load(begin())
    load.open()
    while command := listen():
        name, _, argument = command.partition(" ")
        if name == "flood":
            load.flood(int(argument))
        elif name == "rate":
            load.rate(float(argument))
        else:
            load.hold()


if __name__ == "__main__":
    main()
