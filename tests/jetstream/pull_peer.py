"""A pull consumer as the test wants it: what a client asks of it is seen, and what it answers is said by the test. In virtual time."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.jetstream.api import AckPolicy, ConsumerConfig, ConsumerInfo
from pynats_twisted.jetstream.pull_consumer import PullConsumer
from pynats_twisted.testing import connected_client
from pynats_twisted.testing.server_frames import PublishFrame

NEXT = "$JS.API.CONSUMER.MSG.NEXT.S.C"
INFO = "$JS.API.CONSUMER.INFO.S.C"
GOOD_INFO = b'{"type": "io.nats.jetstream.api.v1.consumer_info_response", "stream_name": "S", "name": "C", "config": {"durable_name": "C"}}'


class PullTestCase(SynchronousTestCase):
    """A client of a server in memory, and on it a consumer that the test plays.

    :ivar asked: the pulls that came, as ``(reply, request)``, but for those that :meth:`pulls` gave.
    :ivar infos: how often the consumer's info was asked for. :ivar info: what is answered; None for nothing.
    """

    ack_wait = 30.0
    ack_policy = AckPolicy.EXPLICIT

    def setUp(self) -> None:
        self.client, self.server, self.network = connected_client(self, reconnect_jitter=0.0, reconnect_wait=0.1)
        self.consumer = self.new_consumer()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.replies: list[str] = []
        self.infos = 0
        self.info: bytes | None = GOOD_INFO
        self.sequence = 0
        self.answer_pulls()
        self.server.respond(INFO, self._asked_for_info)

    def new_consumer(self, **config: Any) -> PullConsumer:
        options = {"ack_wait": self.ack_wait, "ack_policy": self.ack_policy, **config}
        info = ConsumerInfo(stream_name="S", name="C", config=ConsumerConfig(durable="C", **options))
        return PullConsumer(self.client.jetstream(), info)

    def answer_pulls(self) -> None:
        """Take pulls: without this there is nobody who does."""
        self.server.respond(NEXT, self._asked)

    def _asked(self, frame: PublishFrame) -> None:
        self.asked.append((frame.reply, json.loads(frame.payload)))

    def _asked_for_info(self, frame: PublishFrame) -> bytes | None:
        self.infos += 1
        return self.info

    def pulls(self) -> list[dict[str, Any]]:
        """What was asked for since the last look."""
        self.network.advance()
        requests = [request for _, request in self.asked]
        self.replies = [reply for reply, _ in self.asked] or self.replies
        self.asked.clear()
        return requests

    def next_pull(self, within: float = 10.0) -> dict[str, Any]:
        """Let time pass until a pull comes."""
        end = self.network.seconds() + within
        while not (found := self.pulls()) and self.network.seconds() < end:
            self.network.advance(0.05)
        self.assertEqual(len(found), 1)
        return found[0]

    def status(self, text: str, pull: int = -1, **pending: int) -> None:
        """Answer a pull with a status, such as ``"408 Request Timeout"``."""
        self.pulls()
        names = {"messages": "Nats-Pending-Messages", "size": "Nats-Pending-Bytes"}
        lines = "".join(f"{names[name]}: {value}\r\n" for name, value in pending.items())
        self._route(PublishFrame(subject=self.replies[pull], payload=b"", header_block=f"NATS/1.0 {text}\r\n{lines}\r\n".encode()))

    def deliver(self, *payloads: bytes, headers: str = "") -> None:
        """Deliver messages, all in one read."""
        self.pulls()
        inbox = self.replies[-1]
        for payload in payloads:
            self.sequence += 1
            reply = f"$JS.ACK.S.C.1.{self.sequence}.{self.sequence}.1700000000000000000.0"
            block = f"NATS/1.0\r\n{headers}\r\n".encode() if headers else b""
            for subscription in self.server.matching(inbox):
                frame = PublishFrame(subject="orders.new", payload=payload, reply=reply, header_block=block)
                subscription.session.deliver(subscription, frame)
        self.network.advance()

    def _route(self, frame: PublishFrame) -> None:
        self.server.route(frame)
        self.network.advance()

    def acks(self) -> list[tuple[int, bytes]]:
        """The answers that messages got since the last look, as ``(sequence, body)``."""
        self.network.advance()
        found = [(int(frame.subject.split(".")[5]), frame.payload) for frame in self.server.published("$JS.ACK.>")]
        self.server.forget_frames()
        return found

    def cut(self) -> None:
        """Lose the connection, and have another one a moment later."""
        self.network.cut("127.0.0.1:4222")
        self.network.advance(0.5)

    def inboxes(self) -> list[str]:
        """What the client listens on, but for the replies to its requests."""
        self.network.advance()
        return [each.subject for each in self.client.subscriptions]
