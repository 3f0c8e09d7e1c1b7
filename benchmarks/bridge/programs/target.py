"""The target of webhooks: takes every request, says 200, and remembers.

Job: ``port`` (0: any), ``delay`` (seconds before each answer), ``record`` (remember bodies and ids). Says ``{port}``. Commands:

* ``report``: says ``{received, distinct, changed, last, open}``; ``changed`` are bodies that came with more than one ``webhook-id``,
  ``last`` is when the last one came, by ``time.time()``, ``open`` how many connections there are.
* ``down``: close the port and all connections; ``up``: listen again; ``reset``: forget. They say the same.
"""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from .http_load import content_length
from .job import Job, begin, obey, say

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_real: Any = reactor


class Connection(Protocol):
    """One connection of the bridge."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._data = b""

    def connectionMade(self) -> None:
        self._target.open.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._target.open.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        while True:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._data[:end]
            length = content_length(head)
            if len(self._data) < end + 4 + length:
                return
            body, self._data = self._data[end + 4 : end + 4 + length], self._data[end + 4 + length :]
            self._target.take(head, body)
            if self._target.delay:
                _real.callLater(self._target.delay, self.answer)
            else:
                self.answer()

    def answer(self) -> None:
        """200."""
        assert self.transport is not None
        self.transport.write(_OK)


class Target:
    """The server, and what it remembers."""

    def __init__(self, job: Job) -> None:
        self.delay: float = job.get("delay", 0.0)
        self.open: set[Connection] = set()
        self._number: int = job.get("port", 0)
        self._is_recording: bool = job.get("record", False)
        self._port: Any = None
        self.reset()

    def reset(self) -> None:
        """Forget."""
        self._received = 0
        self._ids: dict[bytes, bytes] = {}
        self._changed = 0
        self._last = 0.0

    def take(self, head: bytes, body: bytes) -> None:
        """A request."""
        self._received += 1
        self._last = time.time()
        if self._is_recording:
            one = head[head.lower().find(b"\r\nwebhook-id:") + 13 :].split(b"\r\n", 1)[0].strip()
            if self._ids.setdefault(body, one) != one:
                self._changed += 1

    def listen(self) -> None:
        """Be there."""
        self._port = _real.listenTCP(self._number, Factory.forProtocol(lambda: Connection(self)), backlog=500, interface="127.0.0.1")
        self._number = self._port.getHost().port

    def obey(self, command: str) -> None:
        """What the harness wants."""
        if command == "reset":
            self.reset()
        elif command == "down":
            self._port.stopListening()
            for connection in list(self.open):
                connection.transport.abortConnection()  # type: ignore[union-attr]
        elif command == "up":
            self.listen()
        say(port=self._number, received=self._received, distinct=len(self._ids), changed=self._changed,
            last=self._last, open=len(self.open))  # fmt: skip


def main() -> None:
    """Until the harness is gone."""
    target = Target(begin())
    target.listen()
    say(port=target._number)
    obey(_real, target.obey)


if __name__ == "__main__":
    main()
