"""Little that is published is written at once, not in the reactor's next turn."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from pynats_twisted import ClientOptions
from pynats_twisted.client.outbound import Outbound
from pynats_twisted.protocol.twin import PublishEncoder


class Socket(FileDescriptor):
    """A connected descriptor.

    :ivar takes: what the system takes of each write: bytes, or the error that it gives.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.connected = True
        self.takes: int | Exception = 1 << 20
        self.written = b""
        self.attempts = 0

    def writeSomeData(self, data: bytes) -> int | Exception:  # noqa: N802 - Twisted calls it
        self.attempts += 1
        if isinstance(self.takes, Exception):
            return self.takes
        taken = bytes(data[: self.takes])
        self.written += taken
        return len(taken)


class PromptWriteTests(SynchronousTestCase):
    """What happens between a flush and the reactor's next turn."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.socket = Socket(self.reactor)
        self.outbound = Outbound(self.reactor, ClientOptions(), PublishEncoder())

    def attach(self) -> None:
        self.outbound.attach(self.socket)

    def publish(self, payload: bytes = b"hello") -> bytes:
        self.outbound.publish("greet", payload)
        return b"PUB greet %d\r\n%b\r\n" % (len(payload), payload)

    def test_is_written_at_once(self) -> None:
        """A flush of little leaves nothing for the next turn."""
        self.attach()
        frame = self.publish()
        self.outbound.flush()
        self.assertEqual(self.socket.written, frame)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_rest_is_left_to_the_reactor(self) -> None:
        """What the system does not take now is written when it can be, in order."""
        self.attach()
        self.socket.takes = 7
        frames = self.publish() + self.publish(b"again")
        self.outbound.flush()
        self.assertEqual(self.socket.written, frames[:7])
        self.assertEqual(self.reactor.getWriters(), [self.socket])
        self.socket.takes = 1 << 20
        frames += self.publish(b"third")
        self.outbound.flush()
        self.assertEqual(self.socket.attempts, 1)
        self.socket.doWrite()
        self.assertEqual(self.socket.written, frames)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_what_the_transport_has_goes_first(self) -> None:
        """Nothing overtakes what was written to the transport before, whether it has begun to send that or not."""
        self.attach()
        self.socket.write(b"PONG\r\n")
        frames = b"PONG\r\n" + self.publish()
        self.outbound.flush()
        self.socket.takes = 3
        self.socket.doWrite()
        frames += self.publish(b"again")
        self.outbound.flush()
        self.socket.takes = 1 << 20
        self.socket.doWrite()
        self.assertEqual(self.socket.written, frames)

    def test_nothing_taken(self) -> None:
        """A system that takes nothing now gets all of it later."""
        self.attach()
        self.socket.takes = 0
        frame = self.publish()
        self.outbound.flush()
        self.socket.takes = 1 << 20
        self.socket.doWrite()
        self.assertEqual(self.socket.written, frame)

    def test_broken_connection_is_left_to_the_reactor(self) -> None:
        """An error of the write stays for the reactor to find, which then ends the connection."""
        self.attach()
        self.socket.takes = ConnectionLost("gone")
        self.publish()
        self.outbound.flush()
        self.assertEqual(self.socket.attempts, 1)
        self.assertEqual(self.reactor.getWriters(), [self.socket])

    def test_much_is_left_to_the_reactor(self) -> None:
        """A publish of 64 KiB does not wait for the system."""
        self.attach()
        frame = self.publish(bytes(64 * 1024))
        self.outbound.flush()
        self.assertEqual(self.socket.attempts, 0)
        self.socket.doWrite()
        self.assertEqual(self.socket.written, frame)

    def test_closing_transport_closes(self) -> None:
        """A transport that closes when it has written all is left alone: only the reactor can close it then."""
        self.attach()
        self.socket.write(b"before")
        self.socket.loseConnection()
        self.publish()
        self.outbound.flush()
        self.assertEqual(self.socket.attempts, 0)

    def test_tls_is_left_to_gather(self) -> None:
        """TLS writes what it has encrypted by itself."""
        directlyProvides(self.socket, ISSLTransport)
        self.attach()
        self.publish()
        self.outbound.flush()
        self.assertEqual(self.socket.attempts, 0)
