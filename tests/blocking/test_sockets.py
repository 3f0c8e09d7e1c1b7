"""The real machine and its channels, on sockets of this host whose two ends are in one thread."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.blocking.sockets import Address, Channel, Machine, Wanted
from pynats_twisted.blocking.tls import TLSChannel, context_for
from pynats_twisted.protocol import ClientOptions, Server
from pynats_twisted.testing import CertificateAuthority

TIMEOUT = 5.0


class MachineTests(SynchronousTestCase):
    """Dialling and waiting."""

    def setUp(self) -> None:
        self.machine = Machine()

    def listener(self, family: int = socket.AF_INET, where: Any = ("127.0.0.1", 0)) -> socket.socket:
        sock = socket.socket(family)
        self.addCleanup(sock.close)
        sock.bind(where)
        sock.listen()
        return sock

    def dial(self, address: Address) -> socket.socket:
        sock = self.machine.dial(address)
        self.addCleanup(sock.close)
        self.assertTrue(self.machine.is_connected(sock) or self.machine.wait([Wanted(sock, False, True)], TIMEOUT))
        self.assertTrue(self.machine.is_connected(sock))
        return sock

    def test_dial(self) -> None:
        """A dialled socket connects without blocking, sends small messages at once, and notices a dead peer."""
        listener = self.listener()
        sock = self.dial(Address(socket.AF_INET, listener.getsockname()))
        self.assertFalse(sock.getblocking())
        self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertTrue(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def test_refused(self) -> None:
        """A port that refuses is an error, at once or when the socket is asked."""
        listener = self.listener()
        where = listener.getsockname()
        listener.close()

        def dial() -> None:
            sock = self.machine.dial(Address(socket.AF_INET, where))
            self.addCleanup(sock.close)
            self.machine.wait([Wanted(sock, False, True)], TIMEOUT)
            self.machine.is_connected(sock)

        self.assertRaises(ConnectionRefusedError, dial)

    def test_still_connecting(self) -> None:
        """A socket that is not connected and has no error is still on its way."""
        with socket.socket() as sock:
            self.assertFalse(self.machine.is_connected(sock))

    def test_unix_socket(self) -> None:
        """A UNIX socket connects at once; where nobody listens, or too many wait, that is an error and not a wait."""
        path = self.mktemp()
        address = self.machine.unix_address(path)
        self.assertRaises(FileNotFoundError, self.machine.dial, address)
        self.listener(socket.AF_UNIX, path)
        self.dial(address)
        with mock.patch("socket.socket.connect_ex", return_value=errno.EAGAIN):
            self.assertRaises(OSError, self.machine.dial, address)

    def test_names(self) -> None:
        """A name resolves to each of its addresses once."""
        addresses = self.machine.resolve("localhost", 4222)
        self.assertIn("127.0.0.1", [address.where[0] for address in addresses])
        self.assertEqual(len(addresses), len(set(addresses)))
        self.assertEqual(self.machine.resolve("::1", 1)[0].family, socket.AF_INET6)

    def test_wait(self) -> None:
        """A wait ends when a socket is ready in the way that is wanted, or when its time is over; with poll() and without."""
        left, right = socket.socketpair()
        self.addCleanup(left.close)
        self.addCleanup(right.close)
        for without_poll in (False, True):
            if without_poll:
                self.patch(select, "poll", None)
                del select.poll
                self.addCleanup(setattr, select, "poll", None)
            wait = self.machine.wait
            self.assertFalse(wait([Wanted(left, True, False)], 0.0))
            self.assertTrue(wait([Wanted(left, True, True)], None))
            right.send(b"x")
            self.assertTrue(wait([Wanted(left, True, False)], None))
            self.assertEqual(left.recv(10), b"x")
            self.assertFalse(wait([], 0.0))

    def test_short_waits_are_not_busy_ones(self) -> None:
        """A wait of less than a millisecond is not cut to none."""
        left, right = socket.socketpair()
        self.addCleanup(left.close)
        self.addCleanup(right.close)
        begun = self.machine.now()
        self.machine.wait([Wanted(left, True, False)], 0.0002)
        self.assertGreater(self.machine.now() - begun, 0.0002)


class ChannelTests(SynchronousTestCase):
    """A channel in the clear."""

    def setUp(self) -> None:
        left, self.peer = socket.socketpair()
        left.setblocking(False)
        self.channel = Channel(left)
        self.addCleanup(self.peer.close)
        self.addCleanup(self.channel.close)

    def test_receive(self) -> None:
        """receive() gives None when nothing has come, what has come, and then the end."""
        self.assertIsNone(self.channel.receive())
        self.peer.send(b"abc")
        self.assertEqual(self.channel.receive(), b"abc")
        self.peer.close()
        self.assertEqual(self.channel.receive(), b"")

    def test_send(self) -> None:
        """send() takes as much as goes, and then nothing, without blocking."""
        taken = 0
        while sent := self.channel.send(memoryview(bytes(1 << 20))):
            taken += sent
        self.assertGreater(taken, 0)
        self.assertEqual(self.channel.wanted(True), Wanted(self.channel.socket, True, True))

    def test_broken(self) -> None:
        """A broken connection is an OSError."""
        self.peer.close()
        self.assertRaises(OSError, self.channel.send, memoryview(b"x"))

    def test_end_sending(self) -> None:
        """The peer sees the end, and can still send."""
        self.channel.end_sending()
        self.assertEqual(self.peer.recv(1), b"")
        self.peer.send(b"late")
        self.assertEqual(self.channel.receive(), b"late")


class TLSChannelTests(SynchronousTestCase):
    """A channel in TLS, against the standard library's server side."""

    authority = CertificateAuthority()

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.ca_file = self.folder / "ca.pem"
        self.ca_file.write_bytes(self.authority.certificate_pem)
        files = self.authority.issue_server(["nats.example"]).write(self.folder, "server")
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        self.clear = Channel(left)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        self.peer = context.wrap_socket(right, server_side=True, do_handshake_on_connect=False)
        self.addCleanup(self.peer.close)

    def channel(self, name: str = "nats.example", **options: Any) -> TLSChannel:
        server = Server.from_url(f"tls://{name}")
        channel = TLSChannel(self.clear, context_for(ClientOptions(tls_ca_file=self.ca_file, **options), server), server)
        self.addCleanup(channel.close)
        return channel

    def shake_hands(self, channel: TLSChannel) -> None:
        done = False
        while channel.shake_hands() is not None or not done:
            try:
                self.peer.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False

    def test_both_directions(self) -> None:
        """What is sent comes out at the other end, in both directions, also more than one record at a time."""
        channel = self.channel()
        self.shake_hands(channel)
        self.assertTrue(channel.encrypted)
        self.assertIsNone(channel.receive())
        data = os.urandom(60_000)
        self.peer.send(data)
        received = b""
        while part := channel.receive():
            received += part
        self.assertEqual(received, data)
        view = memoryview(data)
        arrived = b""
        while view:
            view = view[channel.send(view) :]
            arrived += self.peer.recv(1 << 17)
        while len(arrived) < len(data):
            arrived += self.peer.recv(1 << 17)
        self.assertEqual(arrived, data)

    def test_send_without_room(self) -> None:
        """A peer that does not read makes send() take nothing, and the same bytes go when there is room again."""
        channel = self.channel()
        self.shake_hands(channel)
        view, arrived = memoryview(os.urandom(4_000_000)), 0
        while sent := channel.send(view):
            view = view[sent:]
        self.assertEqual(channel.wanted(True), Wanted(channel.socket, True, True))
        left = len(view)
        while left > 3_000_000:
            try:
                arrived += len(self.peer.recv(1 << 17))
            except ssl.SSLWantReadError:
                view = view[channel.send(view) :]
                left = len(view)
        self.assertGreater(arrived, 0)

    def test_wrong_name(self) -> None:
        """A certificate for another name is refused, and the error names both."""
        channel = self.channel("other.example")
        error = self.assertRaises(errors.TLSError, self.shake_hands, channel)
        self.assertIn("other.example", str(error))

    def test_peer_without_tls(self) -> None:
        """A peer that speaks in the clear is a TLS error."""
        channel = self.channel()
        socket.socket.send(self.peer, b"INFO {}\r\n")
        self.assertRaises(errors.TLSError, channel.shake_hands)

    def test_end(self) -> None:
        """The end of the stream is the end, whether TLS said it or only TCP did."""
        channel = self.channel()
        self.shake_hands(channel)
        self.peer.close()
        self.assertEqual(channel.receive(), b"")

    def test_end_sending(self) -> None:
        """end_sending() tells the peer by TLS."""
        channel = self.channel()
        self.shake_hands(channel)
        channel.end_sending()
        self.assertEqual(self.peer.recv(10), b"")

    def test_garbage(self) -> None:
        """Bytes that are no TLS, in the middle of the stream, are a TLS error."""
        channel = self.channel()
        self.shake_hands(channel)
        socket.socket.send(self.peer, b"x" * 100)
        self.assertRaises(errors.TLSError, channel.receive)

    def test_no_name(self) -> None:
        """A server without a name, on a UNIX socket, needs one given."""
        server = Server.from_url("unix:///run/nats.sock")
        context = context_for(ClientOptions(tls_ca_file=self.ca_file), server)
        error = self.assertRaises(errors.TLSError, TLSChannel, self.clear, context, server)
        self.assertIn("tls_server_name", str(error))
        self.clear.close()


class ContextTests(SynchronousTestCase):
    """From the options to a context."""

    server = Server.from_url("tls://nats.example")

    def test_default(self) -> None:
        """Without options certificates and names are verified, against the system's authorities."""
        context = context_for(ClientOptions(), self.server)
        self.assertEqual((context.verify_mode, context.check_hostname), (ssl.CERT_REQUIRED, True))
        self.assertGreaterEqual(context.minimum_version, ssl.TLSVersion.TLSv1_2)

    def test_own_authority(self) -> None:
        """With tls_ca_file no other authority is trusted."""
        path = Path(self.mktemp())
        path.write_bytes(CertificateAuthority().certificate_pem)
        self.assertEqual(len(context_for(ClientOptions(tls_ca_file=path), self.server).get_ca_certs()), 1)

    def test_files_that_cannot_be_used(self) -> None:
        """A file that is not there or has nothing of use in it is a TLS error that says so; nobody is asked for a password."""
        path = Path(self.mktemp())
        for options in ({"tls_ca_file": path}, {"tls_cert_file": path}):
            self.assertIn("TLS file", str(self.assertRaises(errors.TLSError, context_for, ClientOptions(**options), self.server)))
        path.write_text("nothing")
        for options in ({"tls_ca_file": path}, {"tls_cert_file": path}):
            self.assertRaises(errors.TLSError, context_for, ClientOptions(**options), self.server)

    def test_encrypted_key(self) -> None:
        """A key that needs a password is refused instead of asking on the terminal."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        folder = Path(self.mktemp())
        folder.mkdir()
        files = CertificateAuthority().issue_client("c").write(folder, "c")
        protection = serialization.BestAvailableEncryption(b"password")
        key = ec.generate_private_key(ec.SECP256R1())
        path = folder / "encrypted.pem"
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection))
        options = ClientOptions(tls_cert_file=files.certificate, tls_key_file=path)
        self.assertRaises(errors.TLSError, context_for, options, self.server)
        with mock.patch("ssl.SSLContext.load_cert_chain") as load:
            context_for(options, self.server)
        # Without a password OpenSSL asks for one, wherever it finds a terminal.
        self.assertEqual(load.call_args.kwargs, {"password": ""})

    def test_context_of_one_s_own(self) -> None:
        """tls_options is a context, or makes one from the name that is verified."""
        own = ssl.create_default_context()
        names: list[str] = []

        def make(name: str) -> ssl.SSLContext:
            names.append(name)
            return own

        for given in (own, make):
            self.assertIs(context_for(ClientOptions(tls_options=given), self.server), own)
        self.assertEqual(names, ["nats.example"])
        error = self.assertRaises(errors.ConfigurationError, context_for, ClientOptions(tls_options=lambda name: "x"), self.server)
        self.assertIn("ssl.SSLContext", str(error))
