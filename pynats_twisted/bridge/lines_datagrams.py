"""The peers that send lines as datagrams: one object for each UDP port."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.protocol import DatagramProtocol

from pynats_twisted.bridge.lines_endpoints import plain_host
from pynats_twisted.errors import TemplateValueError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from pynats_twisted.bridge.framers import Framer
    from pynats_twisted.bridge.lines_messages import LineSettings, PeerMessages
    from pynats_twisted.bridge.window import Message

MAX_KNOWN_PEERS: Final = 4096
"""UDP peers whose subject is remembered."""

RECEIVE_BUFFER: Final = 4 * 1024 * 1024
"""Bytes for datagrams that the kernel is asked to keep while the bridge does something else; it may give less."""


class LineDatagrams(DatagramProtocol):
    """A UDP port that lines come to.

    What comes in one turn of the reactor is handed on together. There is nothing to stop a sender with: when NATS is down or too
    slow, the oldest lines are dropped and counted.

    :ivar held: whether what comes is dropped for now, and counted.
    """

    noisy = False

    def __init__(self, settings: LineSettings) -> None:
        self.held = False
        self._settings = settings
        self._window = settings.lane.window(self)
        self._known: dict[str, tuple[PeerMessages, Framer]] = {}
        self._gathered: list[tuple[PeerMessages, list[bytes]]] = []
        self._call: IDelayedCall | None = None

    def startProtocol(self) -> None:  # noqa: N802
        """The port is open."""
        sock = getattr(self.transport, "socket", None)
        if sock is not None:
            # A burst comes faster than any program reads; what the kernel has no room for it drops, and nobody knows.
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """A datagram came."""
        if self.held:
            self._settings.metrics.dropped("paused")
            return
        known = self._known.get(addr[0]) or self._learn(addr[0])
        if known is None:
            return
        lines, framer = known
        frames = framer.feed(datagram)
        # A datagram is not the beginning of the next one.
        frames += framer.flush()
        if framer.fault is not None:
            lines.report(framer.fault.reason, framer.fault.detail)
            del self._known[addr[0]]
        gathered = self._gathered
        if gathered and gathered[-1][0] is lines:
            gathered[-1][1].extend(frames)
        else:
            gathered.append((lines, frames))
        if self._call is None:
            self._call = self._settings.reactor.callLater(0, self._hand_on)

    def _learn(self, address: str) -> tuple[PeerMessages, Framer] | None:
        host = plain_host(address)
        if not self._settings.allow.allows(host):
            self._settings.report("not-allowed", host)
            return None
        try:
            lines = self._settings.lines(self._settings, host)
        except TemplateValueError as error:
            self._settings.report("bad-peer", str(error))
            return None
        if len(self._known) >= MAX_KNOWN_PEERS:
            self._known.clear()
        known = self._known[address] = (lines, self._settings.framing.make(lines.count))
        return known

    def _hand_on(self) -> None:
        self._call = None
        gathered, self._gathered = self._gathered, []
        messages: list[Message] = []
        for lines, frames in gathered:
            messages += lines.messages(frames)
        self._window.offer_dropping(messages)

    def stop(self) -> None:
        """Hand on what came, and end."""
        if self._call is not None:
            self._call.cancel()
            self._hand_on()
        self._window.end()

    def window_ready(self) -> None:
        """UDP senders cannot be told."""

    def window_confirmed(self, count: int) -> None:
        """UDP senders cannot be told."""

    def window_refused(self, reason: str) -> None:
        """UDP senders cannot be told; the window counted it."""
