"""The other side of an interop test: a program with another client, in a process of its own."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol


class PeerProcess(ProcessProtocol):
    """A process that says ``ready`` when it listens.

    :ivar ready: fires then; :ivar ended: fires when it has ended well. Both fail with what it wrote on its standard error.
    """

    def __init__(self) -> None:
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.errors = b""

    def outReceived(self, data: bytes) -> None:
        if b"ready" in data and not self.ready.called:
            self.ready.callback(None)

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Any) -> None:
        if not self.ready.called:
            self.ready.errback(RuntimeError(self.errors.decode()))
        if reason.check(ProcessDone):
            self.ended.callback(None)
        else:
            self.ended.errback(RuntimeError(f"the peer ended with {reason.value}: {self.errors.decode()}"))
