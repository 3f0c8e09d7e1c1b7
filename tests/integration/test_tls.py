"""TLS against a real server: upgrade, TLS first, client certificates, whose name is verified, and no way back to the clear."""

from __future__ import annotations

from typing import Any

from pynats_twisted import errors
from pynats_twisted.client.status import ConnectFailed
from pynats_twisted.testing import CertificateAuthority, ServerTLS
from tests.support.integration import IntegrationTestCase


class TLSTests(IntegrationTestCase):
    """A server with certificates of its own authority."""

    async def _refused(self, *args: Any, **options: Any) -> BaseException:
        """The error of the one server that could not be connected to."""
        with self.assertRaises(errors.NoServersError) as raised:
            await self.connect(*args, **options)
        self.assertEqual(len(raised.exception.reasons), 1)
        return raised.exception.reasons[0][1]

    async def _works(self, client: Any) -> None:
        await client.subscribe("t", lambda msg: msg.respond(msg.data))
        self.assertEqual((await client.request("t", b"x" * 100_000)).data, b"x" * 100_000)

    async def test_upgrade_after_info(self) -> None:
        """A server that requires TLS is spoken to in TLS, even where the URL does not say so."""
        server = await self.start_server(tls=True)
        for url in (f"nats://localhost:{server.port}", f"tls://localhost:{server.port}", f"tls://127.0.0.1:{server.port}"):
            client = await self.connect(url, tls_ca_file=server.ca_file)
            await self._works(client)
            self.assertTrue(client.core.encrypted)

    async def test_tls_first(self) -> None:
        """With tls_first the handshake comes before INFO; a client that waits for INFO is told what may be wrong."""
        server = await self.start_server(tls=ServerTLS(first=True))
        client = await self.connect(f"tls://localhost:{server.port}", tls_ca_file=server.ca_file, tls_first=True)
        await self._works(client)
        error = await self._refused(f"tls://localhost:{server.port}", tls_ca_file=server.ca_file, connect_timeout=0.3)
        self.assertIsInstance(error, errors.ConnectTimeoutError)
        self.assertIn("tls_first", str(error))

    async def test_tls_first_against_a_server_that_speaks_first(self) -> None:
        """tls_first against a server that sends INFO in the clear fails as a TLS error."""
        server = await self.start_server(tls=True)
        error = await self._refused(f"tls://localhost:{server.port}", tls_ca_file=server.ca_file, tls_first=True)
        self.assertIsInstance(error, errors.TLSError)

    async def test_client_certificate(self) -> None:
        """A server that verifies clients takes one with a certificate, and no other."""
        server = await self.start_server(tls=ServerTLS(verify=True))
        files = server.client_certificate("alice")
        url = f"tls://localhost:{server.port}"
        client = await self.connect(url, tls_ca_file=server.ca_file, tls_cert_file=files.certificate, tls_key_file=files.key)
        await self._works(client)
        error = await self._refused(url, tls_ca_file=server.ca_file)
        self.assertIsInstance(error, errors.TLSError)

    async def test_unknown_authority(self) -> None:
        """A certificate of an authority that is not trusted is refused; CONNECT is never sent."""
        server = await self.start_server(tls=True, user="u", password="secret", trace=True)
        error = await self._refused(f"tls://u:secret@localhost:{server.port}")
        self.assertIsInstance(error, errors.TLSError)
        self.assertNotIn("secret", str(error))
        self.assertNotIn("CONNECT", server.log_tail())

    async def test_wrong_name(self) -> None:
        """A certificate for another name is refused, and tls_server_name says which name is right."""
        server = await self.start_server(tls=ServerTLS(names=["nats.example"]))
        url = f"tls://localhost:{server.port}"
        error = await self._refused(url, tls_ca_file=server.ca_file)
        self.assertIsInstance(error, errors.TLSError)
        self.assertIn("localhost", str(error))
        await self._works(await self.connect(url, tls_ca_file=server.ca_file, tls_server_name="nats.example"))

    async def test_server_without_tls(self) -> None:
        """TLS that is asked for by URL or option is required: nothing is sent to a server that does not offer it."""
        server = await self.start_server(user="u", password="secret", trace=True)
        for url, options in ((f"tls://u:secret@localhost:{server.port}", {}), (f"nats://u:secret@localhost:{server.port}", {"tls": True})):
            error = await self._refused(url, **options)
            self.assertIsInstance(error, errors.TLSNotAvailableError)
        self.assertNotIn("CONNECT", server.log_tail())

    async def test_no_downgrade(self) -> None:
        """A server that spoke TLS once is never spoken to in the clear when it comes back without it."""
        server = await self.start_server(tls=True)
        client = await self.connect(f"nats://localhost:{server.port}", tls_ca_file=server.ca_file)
        failures: list[Any] = []
        client.add_listener(lambda event: failures.append(event) if isinstance(event, ConnectFailed) else None)
        await server.kill()
        plain = await self.start_server(port=server.port)
        await self.until(lambda: any(isinstance(event.error, errors.TLSNotAvailableError) for event in failures))
        self.assertFalse(client.is_connected)
        await plain.stop()

    async def test_discovered_addresses_are_verified_by_the_name_that_was_given(self) -> None:
        """Servers that are known by gossip as IP addresses are verified by the name of the server that named them."""
        authority = CertificateAuthority()
        certificate = authority.issue_server(["localhost"])
        cluster = await self.start_cluster(3, tls=ServerTLS(names=["localhost"], authority=authority, certificate=certificate))
        first = cluster.servers[0]
        client = await self.connect(f"tls://localhost:{first.port}", tls_ca_file=first.ca_file)
        await self.until(lambda: len(client.servers) >= 3, what="discovery")
        self.assertEqual({url.split(":")[1] for url in client.servers}, {"//localhost", "//127.0.0.1"})
        await first.kill()
        await self.until(lambda: "127.0.0.1" in (client.connected_url or ""), what="the move to a discovered server")
        await self._works(client)

    async def test_options_of_one_s_own(self) -> None:
        """tls_options takes a callable that makes Twisted's connection creator from the host name."""
        from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

        server = await self.start_server(tls=True)
        roots = trustRootFromCertificates([Certificate.loadPEM(server.ca_file.read_bytes())])
        names: list[str] = []

        def options_for(name: str) -> Any:
            names.append(name)
            return optionsForClientTLS(name, trustRoot=roots)

        await self._works(await self.connect(f"tls://localhost:{server.port}", tls_options=options_for))
        self.assertEqual(names, ["localhost"])
