"""TLS of the blocking client against a real server: upgrade, TLS first, client certificates, names, and no way back to the clear."""

from __future__ import annotations

import ssl
from typing import Any

from pynats_twisted import blocking, errors
from pynats_twisted.blocking import ConnectFailed
from pynats_twisted.testing import BlockingServerCluster, CertificateAuthority, ServerTLS
from tests.support.blocking import BlockingIntegrationTestCase


class TLSTests(BlockingIntegrationTestCase):
    """A server with certificates of its own authority."""

    def refused(self, url: str, **options: Any) -> BaseException:
        """The error of the one server that could not be connected to."""
        error = self.assertRaises(errors.NoServersError, self.connect, url, **options)
        self.assertEqual(len(error.reasons), 1)
        return error.reasons[0][1]

    def works(self, nc: blocking.BlockingClient) -> None:
        """More than a TLS record, or the system, takes at once comes back whole."""
        sub = nc.subscribe("t", pending_bytes=0).confirmed()
        payload = bytes(range(250)) * 4000
        for _ in range(10):
            nc.publish("t", payload)
        self.assertEqual([sub.next(timeout=5.0).data for _ in range(10)], [payload] * 10)
        self.assertTrue(nc.encrypted)
        nc.drain()

    def test_upgrade_after_info(self) -> None:
        """A server that requires TLS is spoken to in TLS, even where the URL does not say so."""
        server = self.start_server(tls=True)
        for url in (f"nats://localhost:{server.port}", f"tls://localhost:{server.port}", f"tls://127.0.0.1:{server.port}"):
            self.works(self.connect(url, tls_ca_file=server.ca_file))

    def test_tls_first(self) -> None:
        """With tls_first the handshake comes before INFO; a client that waits for INFO is told what may be wrong."""
        server = self.start_server(tls=ServerTLS(first=True))
        self.works(self.connect(f"tls://localhost:{server.port}", tls_ca_file=server.ca_file, tls_first=True))
        error = self.refused(f"tls://localhost:{server.port}", tls_ca_file=server.ca_file, connect_timeout=0.3)
        self.assertIsInstance(error, errors.ConnectTimeoutError)
        self.assertIn("tls_first", str(error))

    def test_tls_first_against_a_server_that_speaks_first(self) -> None:
        """tls_first against a server that sends INFO in the clear fails as a TLS error."""
        server = self.start_server(tls=True)
        error = self.refused(f"tls://localhost:{server.port}", tls_ca_file=server.ca_file, tls_first=True)
        self.assertIsInstance(error, errors.TLSError)

    def test_client_certificate(self) -> None:
        """A server that verifies clients takes one with a certificate, and no other."""
        server = self.start_server(tls=ServerTLS(verify=True))
        files = server.client_certificate("alice")
        url = f"tls://localhost:{server.port}"
        self.works(self.connect(url, tls_ca_file=server.ca_file, tls_cert_file=files.certificate, tls_key_file=files.key))
        self.assertIsInstance(self.refused(url, tls_ca_file=server.ca_file), errors.TLSError)

    def test_unknown_authority(self) -> None:
        """A certificate of an authority that is not trusted is refused; CONNECT is never sent."""
        server = self.start_server(tls=True, user="u", password="secret", trace=True)
        error = self.refused(f"tls://u:secret@localhost:{server.port}")
        self.assertIsInstance(error, errors.TLSError)
        self.assertNotIn("secret", str(error))
        self.assertNotIn("CONNECT", server.log_tail())

    def test_wrong_name(self) -> None:
        """A certificate for another name is refused, and tls_server_name says which name is right."""
        server = self.start_server(tls=ServerTLS(names=["nats.example"]))
        url = f"tls://localhost:{server.port}"
        error = self.refused(url, tls_ca_file=server.ca_file)
        self.assertIsInstance(error, errors.TLSError)
        self.assertIn("localhost", str(error))
        self.works(self.connect(url, tls_ca_file=server.ca_file, tls_server_name="nats.example"))

    def test_server_without_tls(self) -> None:
        """TLS that is asked for by URL or option is required: nothing is sent to a server that does not offer it."""
        server = self.start_server(user="u", password="secret", trace=True)
        for url, options in ((f"tls://u:secret@localhost:{server.port}", {}), (f"nats://u:secret@localhost:{server.port}", {"tls": True})):
            self.assertIsInstance(self.refused(url, **options), errors.TLSNotAvailableError)
        self.assertNotIn("CONNECT", server.log_tail())

    def test_no_downgrade(self) -> None:
        """A server that spoke TLS once is never spoken to in the clear when it comes back without it."""
        events: list[Any] = []
        server = self.start_server(tls=True)
        nc = self.connect(f"nats://localhost:{server.port}", tls_ca_file=server.ca_file, on_event=events.append)
        port = server.port
        server.close()
        self.start_server(port=port)
        self.assertRaises(errors.FlushTimeoutError, nc.flush, 1.0)
        failures = [event.error for event in events if isinstance(event, ConnectFailed)]
        self.assertTrue(any(isinstance(error, errors.TLSNotAvailableError) for error in failures), failures)

    def test_restart(self) -> None:
        """A connection in TLS is made again in TLS."""
        server = self.start_server(tls=True)
        nc = self.connect(f"nats://localhost:{server.port}", tls_ca_file=server.ca_file)
        server.restart()
        self.works(nc)
        self.assertEqual(nc.stats.reconnects, 1)

    def test_discovered_addresses_are_verified_by_the_name_that_was_given(self) -> None:
        """Servers that are known by gossip as IP addresses are verified by the name of the server that named them."""
        authority = CertificateAuthority()
        certificate = authority.issue_server(["localhost"])
        cluster = BlockingServerCluster(3, tls=ServerTLS(names=["localhost"], authority=authority, certificate=certificate))
        self.addCleanup(cluster.close)
        cluster.start()
        first = cluster.servers[0]
        nc = self.connect(f"tls://localhost:{first.port}", tls_ca_file=first.ca_file)
        nc.flush()
        self.assertEqual({url.split(":")[1] for url in nc.servers}, {"//localhost", "//127.0.0.1"})
        first.kill()
        nc.flush()
        self.assertIn("127.0.0.1", nc.connected_url or "")
        self.works(nc)

    def test_context_of_one_s_own(self) -> None:
        """tls_options takes an ssl.SSLContext, or a callable that makes one from the host name."""
        server = self.start_server(tls=True)
        context = ssl.create_default_context(cafile=server.ca_file)
        names: list[str] = []

        def context_for(name: str) -> ssl.SSLContext:
            names.append(name)
            return context

        for given in (context, context_for):
            self.works(self.connect(f"tls://localhost:{server.port}", tls_options=given))
        self.assertEqual(names, ["localhost"])

    def test_close_delivers(self) -> None:
        """close() alone delivers what was published just before, in TLS and in the clear."""
        for tls in (False, True):
            server = self.start_server(tls=tls)
            options = {"tls_ca_file": server.ca_file} if tls else {}
            watcher = self.connect(f"nats://localhost:{server.port}", **options)
            sub = watcher.subscribe("last").confirmed()
            for number in range(50):
                nc = self.connect(f"nats://localhost:{server.port}", **options)
                nc.publish("last", b"%d" % number + bytes(100_000))
                nc.close()
                self.assertEqual(int(sub.next(timeout=5.0).data.rstrip(b"\0")), number)
