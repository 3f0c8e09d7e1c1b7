"""Services that are a few subscriptions of a plain client on a server in memory, and say what a test wants them to."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import Msg, NatsClient
from pynats_twisted.client import Subscription
from pynats_twisted.services.api import Answer, EndpointInfo, Info, Ping, encode
from pynats_twisted.testing import MemoryNetwork, connected_client


class FakesTestCase(SynchronousTestCase):
    """Two clients on one server: ``client`` asks, ``other`` answers."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.client: NatsClient = connected_client(self, network=self.network, **self.options()).client
        self.other = connected_client(self, network=self.network)
        # Everything that was asked: (subject, payload).
        self.asked: list[tuple[str, bytes]] = []
        self._later: list[IDelayedCall] = []
        self.addCleanup(self._leave)

    def _leave(self) -> None:
        for call in self._later:
            if call.active():
                call.cancel()

    def options(self) -> dict[str, Any]:
        return {}

    def later(self, delay: float, function: Any, *arguments: Any) -> None:
        """Do something when the test has come to that time; never, when the test is over then."""
        self._later.append(self.network.callLater(delay, function, *arguments))

    def listen(self, subject: str, *answers: Answer | bytes, delay: float = 0.0, headers: Any = None) -> Subscription:
        """Give all these answers to each request, one after the other, each after the delay."""

        def handle(msg: Msg) -> None:
            self.asked.append((msg.subject, msg.data))
            for number, answer in enumerate(answers, 1):
                data = answer if isinstance(answer, bytes) else encode(answer)
                if delay:
                    self.later(delay * number, msg.respond, data, headers)
                else:
                    msg.respond(data, headers)

        found = self.other.client.subscribe(subject, handle)
        self.network.advance()
        return found

    def endpoint(self, name: str, subject: str | None = None) -> EndpointInfo:
        return EndpointInfo(name=name, subject=subject or name, queue_group="q")


def ping(id: str, name: str = "orders") -> Ping:
    return Ping(name=name, id=id, version="1.0.0")


def info(*endpoints: EndpointInfo, id: str = "1", name: str = "orders") -> Info:
    return Info(name=name, id=id, version="1.0.0", endpoints=endpoints)
