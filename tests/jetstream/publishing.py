"""The base of the tests of publishing: a context whose client has a server in memory, and acks written by hand."""

from __future__ import annotations

from typing import Any, ClassVar

from pynats_twisted.testing.server_frames import PublishFrame
from tests.client.network import NO_RESPONDERS, Peer
from tests.client.support import ClientTestCase


class PublishingTestCase(ClientTestCase):
    """Checks, as its base does, that nothing is left behind."""

    client_options: ClassVar[dict[str, Any]] = {}
    options: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        super().setUp()
        self.client, self.peer = self.connected(**self.client_options)
        self.js = self.client.jetstream(**self.options)

    def sent(self, peer: Peer | None = None) -> list[PublishFrame]:
        """What was published since the last call."""
        self.network.advance()
        return (peer or self.peer).take(PublishFrame)

    def one(self, peer: Peer | None = None) -> PublishFrame:
        """The one publish since the last call."""
        (frame,) = self.sent(peer)
        return frame

    def payloads(self, peer: Peer | None = None) -> list[bytes]:
        return [frame.payload for frame in self.sent(peer)]

    def ack(self, frame: PublishFrame, seq: int = 1, peer: Peer | None = None, duplicate: bool = False) -> None:
        more = ',"duplicate":true' if duplicate else ""
        (peer or self.peer).answer(frame, f'{{"stream":"S","seq":{seq}{more}}}'.encode())

    def refuse(self, frame: PublishFrame, code: int, err_code: int) -> None:
        text = f'{{"error":{{"code":{code},"err_code":{err_code},"description":"no"}},"stream":"S","seq":0}}'
        self.peer.answer(frame, text.encode())

    def nobody(self, frame: PublishFrame, peer: Peer | None = None) -> None:
        """There is no stream."""
        (peer or self.peer).answer(frame, b"", block=NO_RESPONDERS)

    def reconnected(self) -> Peer:
        """The connection is lost; the server's end of the next one."""
        self.peer.cut()
        self.network.advance()
        self.network.advance(0.1)
        self.successResultOf(self.client.when_connected())
        self.network.advance()
        peer = self.server.peer
        self.assertIsNot(peer, self.peer)
        return peer
