"""Little that is published is written at once, not in the reactor's next turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from pynats_twisted import ClientOptions
from pynats_twisted.client.outbound import Outbound
from pynats_twisted.protocol.twin import PublishEncoder


class Handle:
    """A socket.

    :ivar takes: what the system takes of each write: bytes, or the error that it gives.
    """

    def __init__(self) -> None:
        self.takes: int | OSError = 1 << 20
        self.written = b""
        self.attempts = 0

    def sendmsg(self, pieces: Sequence[bytes]) -> int:
        self.attempts += 1
        if isinstance(self.takes, OSError):
            raise self.takes
        taken = b"".join(pieces)[: self.takes]
        self.written += taken
        return len(taken)


class Transport(FileDescriptor):
    """A connected descriptor."""

    def __init__(self, reactor: Any, handle: Handle) -> None:
        super().__init__(reactor)
        self.connected = True
        self.handle = handle

    def getHandle(self) -> Handle:  # noqa: N802 - as Twisted's own
        return self.handle

    def writeSomeData(self, data: bytes) -> int | Exception:  # noqa: N802 - Twisted calls it
        try:
            return self.handle.sendmsg([data])
        except OSError as error:
            return error


class PromptWriteTests(SynchronousTestCase):
    """What happens between a flush and the reactor's next turn."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.handle = Handle()
        self.transport = Transport(self.reactor, self.handle)
        self.outbound = Outbound(self.reactor, ClientOptions(), PublishEncoder())

    def attach(self) -> None:
        self.outbound.attach(self.transport)

    def publish(self, payload: bytes = b"hello") -> bytes:
        self.outbound.publish("greet", payload)
        return b"PUB greet %d\r\n%b\r\n" % (len(payload), payload)

    def test_is_written_at_once(self) -> None:
        """A flush of little leaves nothing for the next turn."""
        self.attach()
        frame = self.publish()
        self.outbound.flush()
        self.assertEqual(self.handle.written, frame)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_rest_is_left_to_the_reactor(self) -> None:
        """What the system does not take now is written when it can be, in order."""
        self.attach()
        self.handle.takes = 7
        frames = self.publish() + self.publish(b"again")
        self.outbound.flush()
        self.assertEqual(self.handle.written, frames[:7])
        self.assertEqual(self.reactor.getWriters(), [self.transport])
        self.handle.takes = 1 << 20
        frames += self.publish(b"third")
        self.outbound.flush()
        self.assertEqual(self.handle.attempts, 1)
        self.transport.doWrite()
        self.assertEqual(self.handle.written, frames)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_what_the_transport_has_goes_first(self) -> None:
        """Nothing overtakes what was written to the transport before, whether it has begun to send that or not."""
        self.attach()
        self.transport.write(b"PONG\r\n")
        frames = b"PONG\r\n" + self.publish()
        self.outbound.flush()
        self.handle.takes = 3
        self.transport.doWrite()
        frames += self.publish(b"again")
        self.outbound.flush()
        self.handle.takes = 1 << 20
        self.transport.doWrite()
        self.assertEqual(self.handle.written, frames)

    def test_nothing_taken(self) -> None:
        """A system that takes nothing now gets all of it later."""
        self.attach()
        self.handle.takes = 0
        frame = self.publish()
        self.outbound.flush()
        self.handle.takes = 1 << 20
        self.transport.doWrite()
        self.assertEqual(self.handle.written, frame)

    def test_broken_connection_is_left_to_the_reactor(self) -> None:
        """An error of the write stays for the reactor to find, which then ends the connection."""
        self.attach()
        self.handle.takes = BrokenPipeError()
        self.publish()
        self.outbound.flush()
        self.assertEqual(self.handle.attempts, 1)
        self.assertEqual(self.reactor.getWriters(), [self.transport])

    def test_much_is_written_in_pieces(self) -> None:
        """Of a large payload goes at once what the system takes, and the rest follows in order."""
        self.attach()
        self.handle.takes = 100_000
        frame = self.publish(bytes(64 * 1024))
        self.assertEqual(self.handle.attempts, 1)
        self.assertEqual(self.handle.written, frame)
        frame += self.publish(b"more" * 64 * 1024)
        self.assertEqual(self.handle.attempts, 2)
        while self.reactor.getWriters():
            self.transport.doWrite()
        self.assertEqual(self.handle.written, frame)

    def test_every_part_of_a_sequence_may_be_taken(self) -> None:
        """Wherever the system stops inside the pieces, nothing is lost and nothing comes twice."""
        for taken in (1, 15, 16, 17, 5016, 5018, 5034, 66_000, 131_035):
            self.setUp()
            self.attach()
            self.handle.takes = taken
            frames = self.publish(b"x" * 5000) + self.publish(b"y" * 126_000)
            self.assertEqual(len(self.handle.written), taken)
            self.handle.takes = 1 << 20
            while self.reactor.getWriters():
                self.transport.doWrite()
            self.assertEqual(self.handle.written, frames)

    def test_closing_transport_closes(self) -> None:
        """A transport that closes when it has written all is left alone: only the reactor can close it then."""
        self.attach()
        self.transport.write(b"before")
        self.transport.loseConnection()
        self.publish()
        self.outbound.flush()
        self.assertEqual(self.handle.attempts, 0)

    def test_tls_is_left_to_gather(self) -> None:
        """TLS writes what it has encrypted by itself."""
        directlyProvides(self.transport, ISSLTransport)
        self.attach()
        self.publish()
        self.outbound.flush()
        self.assertEqual(self.handle.attempts, 0)
