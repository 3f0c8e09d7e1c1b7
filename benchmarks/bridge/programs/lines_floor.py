"""What bare Twisted does with lines and datagrams: it counts them. Its socket for datagrams has a buffer as large as the bridge's.

Job: nothing. Says ``{port, udp}``. The line ``END`` is answered with the number of lines before it. The command ``report`` says
``{datagrams}``.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.protocols.basic import LineOnlyReceiver

from pynats_twisted.bridge.lines_datagrams import RECEIVE_BUFFER

from .job import begin, obey, say


class Lines(LineOnlyReceiver):
    """One connection."""

    delimiter = b"\n"

    def __init__(self) -> None:
        self._count = 0

    def lineReceived(self, line: bytes) -> None:
        if line == b"END":
            self.sendLine(b"%d" % self._count)
        else:
            self._count += 1


class Datagrams(DatagramProtocol):
    """The socket for datagrams."""

    count = 0

    def startProtocol(self) -> None:  # noqa: N802 - called by Twisted
        transport: Any = self.transport
        transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.count += 1


def main() -> None:
    """Listen, until the harness is gone."""
    begin()
    real: Any = reactor
    datagrams = Datagrams()
    port = real.listenTCP(0, Factory.forProtocol(Lines), interface="127.0.0.1")
    udp = real.listenUDP(0, datagrams, interface="127.0.0.1", maxPacketSize=65535)
    say(port=port.getHost().port, udp=udp.getHost().port)
    obey(real, lambda command: say(datagrams=datagrams.count))


if __name__ == "__main__":
    main()
