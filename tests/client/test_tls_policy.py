"""TLS: when it starts, when nothing is said in the clear, and what becomes of a connection that it was wanted for."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from pynats_twisted.client import ClientStatus, connection
from pynats_twisted.client.status import Connected, ConnectFailed, Disconnected
from pynats_twisted.errors import (
    ConfigurationError,
    ConnectTimeoutError,
    NoServersError,
    TLSError,
    TLSNotAvailableError,
    UntrustedDataError,
)
from pynats_twisted.testing.server_frames import ConnectFrame

from .network import Peer, info_line, tcp_endpoint
from .support import ClientTestCase


@implementer(IOpenSSLClientConnectionCreator)
class Creator:
    """Stands for TLS options."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def clientConnectionForTLS(self, protocol: Any) -> Any:  # noqa: N802
        raise AssertionError("no real TLS here")


class TLSTestCase(ClientTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.network.tls = "possible"

    def creators(self, peer: Peer) -> list[Any]:
        """What TLS was started with, on the client's side of a connection."""
        return peer.wire.protocol.creators  # type: ignore[no-any-return]

    def tls_is_up(self, peer: Peer) -> None:
        """The handshake is complete."""
        peer.wire.protocol.wrappedProtocol.handshakeCompleted()

    def begun(self, servers: Any = "nats://one", **options: Any) -> tuple[Any, Any]:
        """A client that tries to connect, and what its start gave."""
        client = self.new_client(servers, **options)
        begun = client.start()
        self.network.advance()
        return client, begun

    def reason(self, begun: Any) -> BaseException:
        """The reason why the only server could not be connected to."""
        self.network.advance()
        ((_, reason),) = self.failureResultOf(begun, NoServersError).value.reasons
        return reason


class UpgradeTests(TLSTestCase):
    def test_upgrade(self) -> None:
        """A server that requires TLS gets nothing in the clear; behind the handshake comes CONNECT, and the client is connected."""
        self.server.info["tls_required"] = True
        creator = Creator()
        client, begun = self.begun(tls_options=creator)
        peer = self.server.peer
        self.assertEqual((self.creators(peer), peer.frames, peer.session.bytes_received), ([creator], [], 0))
        self.assertNoResult(begun)
        self.tls_is_up(peer)
        self.network.advance()
        self.assertIs(self.successResultOf(begun), client)
        self.assertIs(peer.take(ConnectFrame)[0].options["tls_required"], True)
        self.assertTrue(client.core.encrypted)

    def test_wanted(self) -> None:
        """Where the client wants it, ``tls_available`` is enough; ``tls://``, ``tls=True`` and any TLS option want it."""
        self.server.info["tls_available"] = True
        for servers, options in (
            ("tls://one", {}),
            ("nats://one", {"tls": True}),
            ("nats://one", {"tls_server_name": "name.example"}),
            ("nats://one", {"tls_options": Creator()}),
        ):
            client, begun = self.begun(servers, **options)
            peer = self.server.peer
            self.assertEqual((len(self.creators(peer)), peer.frames), (1, []))
            self.tls_is_up(peer)
            self.network.advance()
            self.successResultOf(begun)
            client.close()
            self.network.advance()

    def test_not_wanted(self) -> None:
        """Where nobody wants it, ``tls_available`` changes nothing."""
        self.server.info["tls_available"] = True
        client, begun = self.begun()
        self.successResultOf(begun)
        self.assertEqual(self.creators(self.server.peer), [])
        self.assertFalse(client.core.encrypted)

    def test_not_offered(self) -> None:
        """A server that does not offer it is left before anything is said to it."""
        for servers, options in (("tls://one", {}), ("nats://user:secret@one", {"tls": True}), ("nats://one", {"tls_options": Creator()})):
            _, begun = self.begun(servers, **options)
            self.assertIsInstance(self.reason(begun), TLSNotAvailableError)
            peer = self.server.peer
            self.assertEqual((peer.frames, peer.session.bytes_received, self.creators(peer)), ([], 0, []))

    def test_forbidden(self) -> None:
        """With ``tls=False`` a server that requires it is left, in the same way."""
        self.server.info["tls_required"] = True
        _, begun = self.begun(tls=False)
        self.assertIsInstance(self.reason(begun), TLSError)
        self.assertEqual(self.server.peer.frames, [])

    def test_bytes_behind_info(self) -> None:
        """Bytes behind INFO in the clear, which would be taken for encrypted ones, end the connection: in the same read or the next."""
        self.server.info["tls_required"] = True
        self.server.greeting = info_line(**self.server.info) + b"PONG\r\n"
        _, begun = self.begun(tls_options=Creator())
        self.assertIsInstance(self.reason(begun), UntrustedDataError)
        self.server.greeting = None
        client, begun = self.begun(tls_options=Creator())
        self.server.peer.send(b"+OK\r\n")
        self.assertIsInstance(self.reason(begun), UntrustedDataError)
        self.assertEqual([peer.frames for peer in self.server.peers], [[], []])
        self.assertIs(client.status, ClientStatus.CLOSED)

    def test_info_in_the_clear_is_not_believed(self) -> None:
        """Servers that INFO named before TLS do not join the pool; those of an INFO behind it do."""
        self.server.info["tls_required"] = True
        self.server.greeting = info_line(**self.server.info, connect_urls=["10.0.0.66:4222"])
        client, begun = self.begun(tls_options=Creator())
        peer = self.server.peer
        self.tls_is_up(peer)
        self.network.advance()
        self.successResultOf(begun)
        self.assertEqual(client.servers, ("nats://one:4222",))
        peer.info(connect_urls=["10.0.0.2:4222"])
        self.assertEqual(client.servers, ("nats://one:4222", "nats://10.0.0.2:4222"))

    def test_no_downgrade(self) -> None:
        """A server that needed TLS once is never spoken to in the clear again, nor are the servers that it names."""
        self.server.info["tls_required"] = True
        client = self.new_client(["nats://one"], max_reconnect_attempts=-1)
        self.patch(connection, "connection_creator", lambda options, server: Creator(server.tls_name))
        begun = client.start()
        self.network.advance()
        peer = self.server.peer
        self.tls_is_up(peer)
        self.network.advance(1)
        self.successResultOf(begun)
        peer.info(connect_urls=["10.0.0.2:4222"])
        self.network.server("10.0.0.2:4222")
        self.server.info["tls_required"] = False
        peer.cut()
        self.network.advance(5)
        reasons = [event.error for event in self.told(ConnectFailed)]
        self.assertEqual({type(reason) for reason in reasons}, {TLSNotAvailableError})
        self.assertEqual({event.url for event in self.told(ConnectFailed)}, {"nats://one:4222", "nats://10.0.0.2:4222"})
        in_the_clear = [peer for server in self.network.servers.values() for peer in server.peers if not self.creators(peer)]
        self.assertGreater(len(in_the_clear), 2)
        self.assertEqual([(peer.frames, peer.session.bytes_received) for peer in in_the_clear], [([], 0)] * len(in_the_clear))


class FailureTests(TLSTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.info["tls_required"] = True

    def test_handshake_fails(self) -> None:
        """What TLS says is the reason, as one type, with its cause; nothing was sent."""
        for cause in (SSL.Error([("SSL routines", "", "certificate verify failed")]), VerificationError(errors=["no match"])):
            _, begun = self.begun(tls_options=Creator())
            self.server.peer.hang_up(cause)
            reason = self.reason(begun)
            self.assertIsInstance(reason, TLSError)
            self.assertIs(reason.__cause__, cause)
            self.assertEqual(self.server.peer.frames, [])
        self.assertIn("certificate", str(reason))

    def test_handshake_that_does_not_end(self) -> None:
        """TLS has no time limit of its own: ``connect_timeout`` is it."""
        _, begun = self.begun(tls_options=Creator(), connect_timeout=2.0)
        self.network.advance(2)
        reason = self.reason(begun)
        self.assertIsInstance(reason, ConnectTimeoutError)
        self.assertIn("TLS handshake", str(reason))
        self.assertEqual(self.server.peer.frames, [])

    def test_files_that_cannot_be_read(self) -> None:
        """Files are read at each attempt; one that is missing is the reason, and the next attempt may find it."""
        client, begun = self.begun(tls_ca_file="/nonexistent/ca.pem", retry_on_failed_connect=True, reconnect_wait=1.0)
        self.successResultOf(begun)
        (failed,) = self.told(ConnectFailed)
        self.assertIsInstance(failed.error, TLSError)
        self.assertIn("/nonexistent/ca.pem", str(failed.error))
        self.patch(connection, "connection_creator", lambda options, server: Creator())
        self.network.advance(1)
        self.tls_is_up(self.server.peer)
        self.network.advance()
        self.assertIs(client.status, ClientStatus.CONNECTED)

    def test_creators(self) -> None:
        """``tls_options`` may be a callable, which gets the name to verify; anything else is a clear error."""
        names: list[str] = []

        def make(name: str) -> Creator:
            names.append(name)
            return Creator(name)

        _, begun = self.begun(tls_options=make)
        self.tls_is_up(self.server.peer)
        self.network.advance()
        self.successResultOf(begun)
        self.assertEqual((names, self.creators(self.server.peer)[0].name), (["one"], "one"))
        _, begun = self.begun(tls_options=5)
        self.assertIsInstance(self.reason(begun), ConfigurationError)

    def test_creator_that_raises(self) -> None:
        """What such a callable raises is the reason of the attempt."""

        def make(name: str) -> Creator:
            raise RuntimeError("no options today")

        _, begun = self.begun(tls_options=make)
        self.assertIn("no options today", str(self.reason(begun)))
        self.assertEqual(self.server.peer.frames, [])

    def test_name_of_discovered_servers(self) -> None:
        """A discovered address is verified against the name of the server that named it; an option wins over both."""
        for option, expected in ((None, ["one", "one"]), ("fixed.example", ["fixed.example"] * 2)):
            self.setUp()
            names: list[str] = []
            self.network.server("10.0.0.2:4222").info["tls_required"] = True

            def make(name: str, names: list[str] = names) -> Creator:
                names.append(name)
                return Creator(name)

            _, begun = self.begun(tls_options=make, tls_server_name=option)
            self.tls_is_up(self.server.peer)
            self.network.advance(1)
            self.successResultOf(begun)
            self.server.peer.info(connect_urls=["10.0.0.2:4222"])
            self.server.peer.cut()
            self.network.advance()
            self.assertEqual(names, expected)
            self.tearDown()

    def test_closed_in_the_handshake(self) -> None:
        """Closing while TLS is being negotiated ends it, and a handshake that ends later says nothing."""
        client, begun = self.begun(tls_options=Creator())
        peer = self.server.peer
        closed = client.close()
        self.tls_is_up(peer)
        self.network.advance()
        self.successResultOf(closed)
        self.failureResultOf(begun)
        self.assertEqual(peer.frames, [])

    def test_fails_on_reconnecting(self) -> None:
        """A failure on the way back does not stick: when TLS works again, so does the client."""
        client, begun = self.begun(tls_options=Creator(), reconnect_wait=0.5)
        self.tls_is_up(self.server.peer)
        self.network.advance(1)
        self.successResultOf(begun)
        self.server.peer.cut()
        self.network.advance()
        self.server.peer.hang_up(SSL.Error([("", "", "bad certificate")]))
        self.network.advance(0.5)
        self.tls_is_up(self.server.peer)
        self.network.advance()
        self.assertIs(client.status, ClientStatus.CONNECTED)
        self.assertEqual(len(self.told(Disconnected)), 1)


class TLSFirstTests(TLSTestCase):
    def test_encrypted_from_the_beginning(self) -> None:
        """On a transport that is encrypted already there is no upgrade, whatever INFO says, and INFO is believed."""
        self.server.info.update(tls_required=True, connect_urls=["10.0.0.2:4222"])
        self.server.greeting = b""
        self.network.tls = "first"
        client = self.new_client()
        begun = client.start()
        self.network.advance()
        peer = self.server.peer
        peer.send(info_line(**self.server.info))
        self.network.advance()
        self.assertIs(self.successResultOf(begun), client)
        self.assertEqual(self.creators(peer), [])
        self.assertIs(peer.take(ConnectFrame)[0].options["tls_required"], True)
        self.assertEqual(client.servers, ("nats://one:4222", "nats://10.0.0.2:4222"))
        self.assertEqual(len(self.told(Connected)), 1)

    def test_endpoint_is_wrapped(self) -> None:
        """With ``tls_first`` the endpoint speaks TLS by itself: not a byte of NATS goes before, and a failure is typed."""
        from pynats_twisted.client.connector import endpoint_for
        from pynats_twisted.protocol.options import ClientOptions
        from pynats_twisted.protocol.servers import Server

        options = ClientOptions(tls_first=True, tls_options=Creator(), endpoint_factory=tcp_endpoint)
        endpoint = endpoint_for(self.network, options, Server(host="one"))
        self.assertNotIsInstance(endpoint, type(tcp_endpoint(self.network, Server(host="one"))))

    def test_hint(self) -> None:
        """A server that says nothing in the clear may be one with TLS first: the error says so."""
        self.server.greeting = b""
        _, begun = self.begun(connect_timeout=1.0)
        self.network.advance(1)
        self.assertIn("tls_first", str(self.reason(begun)))


class PlainTests(TLSTestCase):
    def test_lost_in_the_clear(self) -> None:
        """Without TLS nothing is blamed on it."""
        _, begun = self.begun()
        self.successResultOf(begun)
        self.server.peer.cut()
        self.assertNotIsInstance(self.told(Disconnected)[0].error, TLSError)
