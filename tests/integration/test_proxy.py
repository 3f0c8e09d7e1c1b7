"""The proxy of the fault tests does to bytes what it was told, and nothing else."""

from __future__ import annotations

import socket
import time

from twisted.internet import protocol
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread

from tests.support.integration import IntegrationTestCase
from tests.support.proxy import ChaosProxy


class Collector(protocol.Protocol):
    """A server that collects what comes, and keeps how each connection ended."""

    def connectionMade(self) -> None:
        self.received = b""
        self.pieces: list[bytes] = []
        self.lost: object = None
        self.factory.made.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.pieces.append(data)

    def connectionLost(self, reason: object = None) -> None:
        self.lost = reason


class CollectorFactory(protocol.Factory):
    protocol = Collector
    noisy = False

    def __init__(self) -> None:
        self.made: list[Collector] = []


class ProxyTests(IntegrationTestCase):
    """Between raw sockets, where every byte can be counted."""

    async def make(self) -> tuple[ChaosProxy, CollectorFactory]:
        factory = CollectorFactory()
        port = await TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        proxy = ChaosProxy(self.reactor, port.getHost().port)
        self.addCleanup(proxy.close)
        return await proxy.accept(), factory

    async def dial(self, proxy: ChaosProxy, factory: CollectorFactory) -> tuple[socket.socket, Collector]:
        before = len(factory.made)
        sock = socket.create_connection(("127.0.0.1", proxy.port), 5)
        self.addCleanup(sock.close)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(5)
        await self.until(lambda: len(factory.made) > before)
        return sock, factory.made[-1]

    async def read(self, sock: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = await deferToThread(sock.recv, count - len(data))
            if not piece:
                break
            data += piece
        return data

    async def test_honest_proxy_passes_everything(self) -> None:
        """Without faults all bytes pass in both directions, in order, much more than fits into any buffer."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        data = bytes(range(256)) * 20_000
        await deferToThread(sock.sendall, data)
        await self.until(lambda: len(server.received) == len(data))
        self.assertEqual(server.received, data)
        server.transport.write(data)
        self.assertEqual(await self.read(sock, len(data)), data)
        self.assertEqual((proxy.to_server.passed, proxy.to_client.passed), (len(data), len(data)))

    async def test_slow_reader_stops_the_writer(self) -> None:
        """A side that does not read is not read for: the proxy holds back a bounded number of bytes."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        server.transport.pauseProducing()
        sock.settimeout(0.3)
        sent = 0
        with self.assertRaises(TimeoutError):
            while sent < 64 << 20:
                sent += await deferToThread(sock.send, bytes(1 << 16))
        self.assertLess(sent, 32 << 20)
        server.transport.resumeProducing()
        await self.until(lambda: len(server.received) == sent)

    async def test_refuse(self) -> None:
        """While it refuses nobody gets in, who is in stays; then the port is the same."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        await proxy.refuse()
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", proxy.port), 1)
        sock.sendall(b"still here")
        await self.until(lambda: server.received == b"still here")
        await proxy.accept()
        await self.dial(proxy, factory)
        self.assertEqual(proxy.accepted, 2)

    async def test_rst(self) -> None:
        """Both sides see a reset."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        proxy.rst()
        await self.until(lambda: server.lost is not None)
        self.assertIn("ConnectionLost", str(server.lost))
        self.assertRaises(ConnectionResetError, sock.recv, 1)

    async def test_fin(self) -> None:
        """Both sides see the orderly end, after all bytes."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        server.transport.write(b"last words")
        await self.until(lambda: proxy.to_client.passed == 10)
        proxy.fin()
        self.assertEqual(await self.read(sock, 100), b"last words")
        await self.until(lambda: server.lost is not None)
        self.assertIn("ConnectionDone", str(server.lost))
        sock.close()
        await self.until(lambda: not proxy.links)

    async def test_fin_of_one_direction(self) -> None:
        """A half-closed connection still carries bytes the other way."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        proxy.fin(proxy.to_client)
        self.assertEqual(await self.read(sock, 1), b"")
        sock.sendall(b"one way")
        await self.until(lambda: server.received == b"one way")
        self.assertIsNone(server.lost)
        sock.close()
        await self.until(lambda: server.lost is not None)
        await self.until(lambda: not proxy.links)

    async def test_ends_pass_through(self) -> None:
        """The end of one side's connection reaches the other side as it was: orderly or by a reset."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        sock.sendall(b"bye")
        sock.close()
        await self.until(lambda: server.lost is not None)
        self.assertEqual(server.received, b"bye")
        self.assertIn("ConnectionDone", str(server.lost))
        sock, server = await self.dial(proxy, factory)
        server.transport.abortConnection()
        await self.until(lambda: not proxy.links)
        self.assertRaises(ConnectionResetError, sock.recv, 1)

    async def test_server_that_refuses(self) -> None:
        """A client is disconnected when the server behind does not accept."""
        proxy = ChaosProxy(self.reactor, 1)
        self.addCleanup(proxy.close)
        await proxy.accept()
        with socket.create_connection(("127.0.0.1", proxy.port), 5) as sock, self.assertRaises(ConnectionResetError):
            await deferToThread(sock.recv, 1)

    async def test_hole_of_one_direction(self) -> None:
        """Nothing passes to the server and nobody is told; the other direction works; what was sent passes after healing."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        proxy.hole(proxy.to_server)
        sock.sendall(b"into the hole")
        server.transport.write(b"hello")
        self.assertEqual(await self.read(sock, 5), b"hello")
        await self.sleep(0.05)
        self.assertEqual(server.received, b"")
        self.assertIsNone(server.lost)
        await proxy.heal()
        await self.until(lambda: server.received == b"into the hole")

    async def test_hole_swallows_new_connections(self) -> None:
        """A connection made during a hole is accepted and gets nothing."""
        proxy, factory = await self.make()
        proxy.hole()
        sock, server = await self.dial(proxy, factory)
        sock.sendall(b"anybody?")
        server.transport.write(b"INFO")
        sock.settimeout(0.05)
        with self.assertRaises(TimeoutError):
            await deferToThread(sock.recv, 1)
        self.assertEqual(server.received, b"")
        await proxy.heal()
        sock.settimeout(5)
        self.assertEqual(await self.read(sock, 4), b"INFO")
        await self.until(lambda: server.received == b"anybody?")

    async def test_delay(self) -> None:
        """Everything comes as late as told, in order, and many pieces are late only once."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        proxy.to_server.delay = 0.1
        begin = time.monotonic()
        for number in range(100):
            sock.sendall(b"%02d" % number)
            await self.sleep(0.002)
        await self.until(lambda: bool(server.received))
        self.assertGreaterEqual(time.monotonic() - begin, 0.1)
        await self.until(lambda: server.received == b"".join(b"%02d" % number for number in range(100)))
        self.assertLess(time.monotonic() - begin, 5.0)

    async def test_rate(self) -> None:
        """Bytes pass at the rate told."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        proxy.to_server.rate = 100_000
        begin = time.monotonic()
        sock.sendall(bytes(20_000))
        await self.until(lambda: len(server.received) == 20_000)
        took = time.monotonic() - begin
        self.assertGreater(took, 0.15)
        self.assertLess(took, 20)

    async def test_rate_stops_the_writer(self) -> None:
        """What a slow network has not carried yet waits at its writer, not in the proxy without bound."""
        proxy, factory = await self.make()
        sock, _ = await self.dial(proxy, factory)
        proxy.to_server.rate = 10_000
        sock.settimeout(0.2)
        sent = 0
        with self.assertRaises(TimeoutError):
            while sent < 64 << 20:
                sent += await deferToThread(sock.send, bytes(1 << 16))
        self.assertLess(sent, 32 << 20)

    async def test_one_byte_a_segment(self) -> None:
        """Each byte is a write of its own, and nothing is lost or swapped."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        proxy.to_server.segment = 1
        data = bytes(range(200))
        sock.sendall(data)
        await self.until(lambda: server.received == data)
        # The kernel may join a few that wait for a reader.
        self.assertGreater(len(server.pieces), 50)

    async def test_cut_by_reset_after_each_number_of_bytes(self) -> None:
        """Exactly as many bytes as told pass, then the connection is reset; the next connection is honest."""
        proxy, factory = await self.make()
        for count in (0, 1, 5, 9):
            proxy.to_server.cut_after(count)
            sock, server = await self.dial(proxy, factory)
            sock.sendall(b"0123456789")
            await self.until(lambda server=server: server.lost is not None)
            self.assertEqual(server.received, b"0123456789"[:count])
            self.assertIn("ConnectionLost", str(server.lost))
        sock, server = await self.dial(proxy, factory)
        sock.sendall(b"0123456789")
        await self.until(lambda: server.received == b"0123456789")

    async def test_cut_by_fin(self) -> None:
        """As many bytes as told pass to the client, then the end."""
        proxy, factory = await self.make()
        proxy.to_client.cut_after(3, "fin")
        sock, server = await self.dial(proxy, factory)
        server.transport.write(b"abcdef")
        self.assertEqual(await self.read(sock, 100), b"abc")

    async def test_cut_by_hole(self) -> None:
        """As many bytes as told pass, then nothing, and nobody is told."""
        proxy, factory = await self.make()
        proxy.to_client.cut_after(3, "hole")
        sock, server = await self.dial(proxy, factory)
        server.transport.write(b"abcdef")
        self.assertEqual(await self.read(sock, 3), b"abc")
        server.transport.write(b"ghi")
        sock.settimeout(0.05)
        with self.assertRaises(TimeoutError):
            await deferToThread(sock.recv, 1)
        self.assertIsNone(server.lost)
        await proxy.heal()
        with self.assertRaises(TimeoutError):
            await deferToThread(sock.recv, 1)

    async def test_cut_of_an_unknown_kind(self) -> None:
        """A kind that does not exist is an error that names those that do."""
        proxy, _ = await self.make()
        error = self.assertRaises(ValueError, proxy.to_client.cut_after, 1, "axe")
        self.assertIn("rst, fin, hole", str(error))

    async def test_inject(self) -> None:
        """Bytes are added to a direction between those that pass."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        server.transport.write(b"a")
        self.assertEqual(await self.read(sock, 1), b"a")
        proxy.inject(proxy.to_client, b"-ERR")
        server.transport.write(b"b")
        self.assertEqual(await self.read(sock, 5), b"-ERRb")

    async def test_transform(self) -> None:
        """Bytes can be changed, or swallowed, on their way."""
        proxy, factory = await self.make()
        sock, server = await self.dial(proxy, factory)
        proxy.to_server.transform = lambda data: data.replace(b"o", b"")
        sock.sendall(b"foo boo")
        await self.until(lambda: server.received == b"f b")


class WithServerTests(IntegrationTestCase):
    """The proxy before a real server, seen by a witness."""

    async def test_client_of_the_proxy_and_witness_of_the_server(self) -> None:
        """A client connected to the proxy reaches the server; the witness sees the truth past it."""
        server = await self.start_server()
        proxy = await self.start_proxy(server)
        witness = self.witness(server, ">")
        sock = socket.create_connection(("127.0.0.1", proxy.port), 5)
        self.addCleanup(sock.close)
        sock.sendall(b'CONNECT {"verbose":false}\r\nPUB a 1\r\n1\r\nPUB b 1\r\n')
        await self.until(lambda: len(witness.messages) == 1)
        proxy.rst()
        await self.until(lambda: not proxy.links)
        witness.publish("c", b"3", headers={"K": "v"}, reply="r")
        witness.flush()
        self.assertEqual([message.subject for message in witness.messages], [b"a", b"c"])
        last = witness.messages[-1]
        self.assertEqual((last.reply, last.headers, last.payload), (b"r", b"NATS/1.0\r\nK: v\r\n\r\n", b"3"))
