"""Sends the cases of ``fuzz_cases.py`` to a bridge, each HTTP request, each bit of lines on a connection of its own.

Job: ``seed``, ``cases`` (how many of each kind), ``ports`` (by way: ``http``, ``lines``, ``udp``, ``tcp``). Says ``{sent, statuses, bad}``:
how many of each kind were sent, and answers that are none: without a status line, or 500.
"""

from __future__ import annotations

import select
import socket
import time
from collections import Counter
from collections.abc import Iterator

from .fuzz_cases import Case, Cases
from .job import Job, begin, say

_AT_A_TIME = 200
_SILENCE = 0.3
"""Seconds after which a client is gone whose request was not finished."""


class Visit:
    """One connection, for one case."""

    def __init__(self, case: Case, port: int) -> None:
        self.case = case
        self.data = b""
        self.socket = socket.socket()
        self.socket.settimeout(5)
        self.socket.connect(("127.0.0.1", port))
        self.deadline = time.perf_counter() + _SILENCE


class Load:
    """All of it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.poll = select.epoll()
        self.visits: dict[int, Visit] = {}
        self.statuses: Counter[int] = Counter()
        self.sent: Counter[str] = Counter()
        self.bad: list[str] = []
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def run(self) -> None:
        """All kinds at once, so that they meet."""
        for case in self.cases():
            self.sent[case.kind] += 1
            if case.way == "udp":
                self.udp.sendto(case.data, ("127.0.0.1", self.job["ports"]["udp"]))
                continue
            self.visit(case)
            while len(self.visits) >= _AT_A_TIME:
                self.receive(0.01)
        while self.visits:
            self.receive(0.05)
        say(sent=self.sent, statuses=self.statuses, bad=self.bad[:20])

    def cases(self) -> Iterator[Case]:
        """In turn, until there are enough of each kind."""
        cases = Cases(self.job["seed"])
        wanted: dict[str, int] = dict(self.job["cases"])
        while any(wanted.values()):
            for kind, make in cases.kinds.items():
                if wanted.get(kind):
                    wanted[kind] -= 1
                    yield make()

    def visit(self, case: Case) -> None:
        """Connect, and send it."""
        visit = Visit(case, self.job["ports"][case.way])
        try:
            visit.socket.sendall(case.data)
            if case.way != "http":
                visit.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # closed by the bridge, which may
        visit.socket.setblocking(False)
        self.visits[visit.socket.fileno()] = visit
        self.poll.register(visit.socket, select.EPOLLIN)

    def receive(self, timeout: float) -> None:
        """Answers, ends, and clients that give up."""
        for fd, _ in self.poll.poll(timeout):
            visit = self.visits[fd]
            try:
                data = visit.socket.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            visit.data += data
            if not data:
                self.leave(visit)
        now = time.perf_counter()
        for visit in [visit for visit in self.visits.values() if visit.deadline < now]:
            self.leave(visit)

    def leave(self, visit: Visit) -> None:
        """Look at what was answered."""
        self.poll.unregister(visit.socket)
        del self.visits[visit.socket.fileno()]
        visit.socket.close()
        if visit.case.way != "http" or not visit.data:
            self.statuses[0] += 1
            return
        words = visit.data.split(b"\r\n", 1)[0].split(b" ")
        is_answer = words[0] == b"HTTP/1.1" and len(words) > 2 and words[1].isdigit()
        status = int(words[1]) if is_answer else 0
        self.statuses[status] += 1
        if not is_answer or status == 500:
            self.bad.append(f"{visit.case.data[:200]!r} -> {visit.data[:200]!r}")


if __name__ == "__main__":
    Load(begin()).run()
