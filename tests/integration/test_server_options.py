"""A real nats-server of the testing kit is configured, and speaks TLS and JWTs, as its options say."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from pathlib import Path
from unittest import mock

from pynats_twisted.errors import ServerProcessError
from pynats_twisted.testing import CertificateAuthority, Operator, ServerTLS
from pynats_twisted.testing.ports import PortReservation
from tests.support.integration import IntegrationTestCase
from tests.support.witness import Witness, WitnessError, first_info


class ConfigurationTests(IntegrationTestCase):
    """What servers are started with."""

    async def test_jetstream_keeps_its_data_over_a_restart(self) -> None:
        """A server with jetstream=True stores streams in its own directory, and has them again after a kill."""
        server = await self.start_server(jetstream=True)
        self.assertTrue(first_info(server.host, server.port)["jetstream"])
        with Witness(server.url) as witness:
            witness.subscribe("reply")
            witness.publish("$JS.API.STREAM.CREATE.S", b'{"name":"S","subjects":["s"],"storage":"file"}', reply="reply")
            self.assertIn(b'"created"', witness.next().payload)
            witness.publish("s", b"stored", reply="reply")
            self.assertIn(b'"seq":1', witness.next().payload)
        self.assertTrue((server.directory / "jetstream").is_dir())
        await server.restart(kill=True)
        with Witness(server.url) as witness:
            witness.subscribe("reply")
            witness.publish("$JS.API.STREAM.MSG.GET.S", b'{"seq":1}', reply="reply")
            self.assertIn(base64.b64encode(b"stored"), witness.next().payload)

    async def test_jetstream_options_are_passed_on(self) -> None:
        """Options of the jetstream block can be given."""
        server = await self.start_server(jetstream={"domain": "hub", "max_memory_store": 1 << 20})
        self.assertEqual(first_info(server.host, server.port)["domain"], "hub")

    async def test_own_text_with_an_address_does_not_move_the_server(self) -> None:
        """A configuration made for production can be tried: the kit's address, ports and log win."""
        text = 'listen: "127.0.0.1:4222"\nhttp: "127.0.0.1:8222"\nlog_file: "x.log"\nmax_payload: 99\n'
        server = await self.start_server(text, monitoring=True)
        info = first_info(server.host, server.port)
        self.assertEqual((info["port"], info["max_payload"]), (server.port, 99))
        self.assertIn(f"http monitor on 127.0.0.1:{server.monitoring_url.rpartition(':')[2]}", server.log_tail())

    async def test_options_and_own_mapping_are_merged(self) -> None:
        """A block that an option makes can be extended by a mapping."""
        server = await self.start_server({"authorization": {"timeout": 0.5}}, token="s3cret", monitoring=True)
        self.assertEqual((await server.monitor("varz"))["auth_timeout"], 0.5)
        self.assertRaises(WitnessError, Witness, server.url)
        self.witness(server, auth_token="s3cret")

    async def test_user_and_password(self) -> None:
        """One user: with the password in, without out. Quotes and backslashes in it are no problem."""
        server = await self.start_server(user="derek", password='p"a\\s$s\t{')
        self.witness(server, user="derek", **{"pass": 'p"a\\s$s\t{'})
        error = self.assertRaises(WitnessError, Witness, server.url, user="derek", **{"pass": "wrong"})
        self.assertIn("Authorization Violation", str(error))

    async def test_users_with_permissions(self) -> None:
        """Permissions of users are enforced."""
        server = await self.start_server(
            users=[{"user": "a", "password": "b", "permissions": {"publish": ["ok.>"], "subscribe": {"deny": ["secret"]}}}]
        )
        witness = self.witness(server, "ok.*", user="a", **{"pass": "b"})
        witness.publish("ok.1", b"1")
        self.assertEqual(witness.next().payload, b"1")
        witness.publish("other", b"2")
        self.assertEqual(witness.wait_for_error(), 'Permissions Violation for Publish to "other"')

    async def test_nkey_user(self) -> None:
        """A user with an NKey is accepted with its signature of the nonce, and nobody else."""
        user = Operator().account("A").user()
        server = await self.start_server(users=[{"nkey": user.public_key}])
        self.witness(server, nkey=user.public_key, sign=user.sign)
        stranger = Operator().account("B").user()
        self.assertRaises(WitnessError, Witness, server.url, nkey=user.public_key, sign=stranger.sign)

    async def test_websocket(self) -> None:
        """With websocket=True the server upgrades HTTP connections on its WebSocket port."""
        server = await self.start_server(websocket=True)
        self.assertTrue(server.websocket_url.startswith("ws://127.0.0.1:"))
        request = (
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", int(server.websocket_url.rpartition(":")[2])), 5) as sock:
            sock.sendall(request.encode())
            self.assertTrue(sock.recv(1000).startswith(b"HTTP/1.1 101 "))

    async def test_monitoring(self) -> None:
        """monitor() gives a monitoring page as a dictionary, and parameters reach the server."""
        server = await self.start_server(monitoring=True)
        self.witness(server, "some.subject")
        page = await server.monitor("connz", subs=True)
        self.assertEqual(page["connections"][0]["subscriptions_list"], ["some.subject"])

    async def test_monitoring_tells_of_bad_health(self) -> None:
        """A page that comes with an error status is still a dictionary."""
        server = await self.start_server(monitoring=True, jetstream=True)
        health = await server.monitor("healthz", account="$G", stream="none")
        self.assertNotEqual(health["status"], "ok")

    async def test_monitoring_has_to_be_asked_for(self) -> None:
        """Without monitoring=True there is no such port, and the error says what to do."""
        server = await self.start_server()
        error = await self.assertFailure(server.monitor("varz"), ServerProcessError)
        self.assertIn("monitoring=True", str(error))

    async def test_ipv6(self) -> None:
        """A server can listen on the IPv6 loopback address."""
        try:
            PortReservation("::1").release()
        except ServerProcessError:
            return  # a machine without IPv6
        server = await self.start_server(host="::1", monitoring=True)
        self.assertEqual(server.url, f"nats://[::1]:{server.port}")
        self.witness(server)
        self.assertEqual((await server.monitor("varz"))["port"], server.port)


class TLSTests(IntegrationTestCase):
    """Servers with certificates."""

    async def test_certificate_is_accepted_by_who_trusts_the_authority(self) -> None:
        """The standard library verifies the server's certificate for its names and its address with the kit's authority."""
        server = await self.start_server(tls=True)
        self.assertTrue(server.url.startswith("tls://"))
        context = ssl.create_default_context(cafile=str(server.ca_file))
        for name in ("localhost", "127.0.0.1", "::1"):
            self.witness(server, tls=context, tls_name=name)

    async def test_certificate_is_refused_by_everybody_else(self) -> None:
        """Who does not trust the authority, or wants another name, does not get a connection."""
        server = await self.start_server(tls=True)
        self.assertRaises(ssl.SSLCertVerificationError, Witness, server.url, tls=CertificateAuthority().client_context())
        trusting = server.authority.client_context()
        self.assertRaises(ssl.SSLCertVerificationError, Witness, server.url, tls=trusting, tls_name="example.com")

    async def test_names_of_the_certificate_can_be_chosen(self) -> None:
        """A certificate for some names is valid for those only."""
        server = await self.start_server(tls=ServerTLS(names=["nats.example"]))
        context = server.authority.client_context()
        self.witness(server, tls=context, tls_name="nats.example")
        self.assertRaises(ssl.SSLCertVerificationError, Witness, server.url, tls=context, tls_name="localhost")

    async def test_expired_certificate(self) -> None:
        """A server can have a certificate that has expired."""
        authority = CertificateAuthority()
        tls = ServerTLS(authority=authority, certificate=authority.issue_server(expires_in=-60))
        server = await self.start_server(tls=tls)
        error = self.assertRaises(ssl.SSLCertVerificationError, Witness, server.url, tls=authority.client_context())
        self.assertIn("expired", str(error))

    async def test_handshake_first(self) -> None:
        """With first=True TLS comes before INFO."""
        server = await self.start_server(tls=ServerTLS(first=True))
        self.witness(server, tls=server.authority.client_context(), tls_first=True)
        with socket.create_connection((server.host, server.port), 5) as sock:
            sock.settimeout(0.1)
            self.assertRaises(TimeoutError, sock.recv, 1)

    async def test_handshake_first_with_a_delay(self) -> None:
        """With a time, a client that does not start the handshake gets INFO after it."""
        server = await self.start_server(tls=ServerTLS(first="50ms"))
        context = server.authority.client_context()
        self.witness(server, tls=context, tls_first=True)
        self.witness(server, tls=context)

    async def test_mutual_tls(self) -> None:
        """With verify=True a client needs a certificate of the same authority."""
        server = await self.start_server(tls=ServerTLS(verify=True))
        with_certificate, stranger = server.authority.client_context(), server.authority.client_context()
        with_certificate.load_cert_chain(*server.client_certificate())
        stranger.load_cert_chain(*CertificateAuthority().issue_client().write(self.mktemp(), "client"))
        self.witness(server, tls=with_certificate)
        for context in (server.authority.client_context(), stranger):
            self.assertRaises((WitnessError, OSError), Witness, server.url, tls=context)

    async def test_client_certificate_says_who_the_client_is(self) -> None:
        """With verify_and_map=True the name in the certificate is the user."""
        users = [{"user": "CN=alice", "permissions": {"publish": ["only.this"]}}]
        server = await self.start_server(tls=ServerTLS(verify_and_map=True), users=users)
        alice, bob = server.authority.client_context(), server.authority.client_context()
        alice.load_cert_chain(*server.client_certificate("alice"))
        bob.load_cert_chain(*server.client_certificate("bob"))
        witness = self.witness(server, tls=alice)
        witness.publish("something.else")
        self.assertIn("Permissions Violation", witness.wait_for_error())
        self.assertRaises(WitnessError, Witness, server.url, tls=bob)

    async def test_optional_tls(self) -> None:
        """With optional=True clients may come with and without TLS."""
        server = await self.start_server(tls=ServerTLS(optional=True))
        self.assertEqual(server.url[:7], "nats://")
        self.assertTrue(first_info(server.host, server.port)["tls_available"])
        self.witness(server)
        self.witness(server, tls=server.authority.client_context())

    async def test_key_is_readable_by_the_owner_alone(self) -> None:
        """Private keys and the configuration, which may hold passwords, are nobody else's business."""
        server = await self.start_server(tls=True)
        for name in ("server.key", "server.conf"):
            self.assertEqual((server.directory / name).stat().st_mode & 0o077, 0, name)

    async def test_server_without_tls_has_no_certificates(self) -> None:
        """Asking for them is an error that says what to do."""
        server = await self.start_server()
        self.assertRaises(ServerProcessError, lambda: server.ca_file)
        self.assertRaises(ServerProcessError, server.client_certificate)

    async def test_secure_websocket(self) -> None:
        """A server with TLS has it on its WebSocket port too."""
        server = await self.start_server(tls=True, websocket=True)
        self.assertTrue(server.websocket_url.startswith("wss://"))
        context = server.authority.client_context()
        port = int(server.websocket_url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as raw, context.wrap_socket(raw, server_hostname="localhost") as sock:
            self.assertEqual(sock.getpeername()[1], port)


class JWTTests(IntegrationTestCase):
    """Servers with an operator."""

    async def test_user_is_accepted_with_its_jwt_and_signature(self) -> None:
        """The JWT of a user and the signature of the nonce open a connection; a signature with another key does not."""
        operator = Operator()
        account = operator.account("A")
        user, other = account.user("u"), account.user("v")
        server = await self.start_server(operator=operator)
        self.witness(server, jwt=user.jwt, sign=user.sign)
        self.assertRaises(WitnessError, Witness, server.url, jwt=user.jwt, sign=other.sign)
        self.assertRaises(WitnessError, Witness, server.url)

    async def test_accounts_do_not_hear_each_other(self) -> None:
        """Messages stay in their account."""
        operator = Operator()
        here, there = operator.account("A"), operator.account("B")
        server = await self.start_server(operator=operator)
        users = [here.user(), here.user(), there.user()]
        publisher, near, far = (self.witness(server, "x", jwt=user.jwt, sign=user.sign) for user in users)
        publisher.publish("x", b"hello")
        publisher.flush()
        self.assertEqual(near.next().payload, b"hello")
        far.flush()
        self.assertEqual(far.messages, [])

    async def test_permissions_of_a_user(self) -> None:
        """What a user's JWT denies is denied."""
        operator = Operator()
        user = operator.account("A").user(publish=["ok.>"], deny_subscribe=["secret"])
        server = await self.start_server(operator=operator)
        witness = self.witness(server, jwt=user.jwt, sign=user.sign)
        witness.publish("bad")
        self.assertIn('Publish to "bad"', witness.wait_for_error())
        witness.subscribe("secret")
        self.assertIn('Subscription to "secret"', witness.errors[-1])

    async def test_expiry(self) -> None:
        """A user is disconnected when its JWT expires, and comes back with a renewed one."""
        operator = Operator()
        user = operator.account("A").user(expires_in=0.2)
        server = await self.start_server(operator=operator)
        witness = self.witness(server, jwt=user.jwt, sign=user.sign)
        await self.until(lambda: witness.closed)
        self.assertEqual(witness.errors, ["User Authentication Expired"])
        user.renew(60)
        self.witness(server, jwt=user.jwt, sign=user.sign)

    async def test_revoked_user_is_disconnected_by_a_reload(self) -> None:
        """revoke() and reload() end the connections of a user, and its JWT is refused."""
        operator = Operator()
        account = operator.account("A")
        user, other = account.user("u"), account.user("v")
        server = await self.start_server(operator=operator)
        witness = self.witness(server, jwt=user.jwt, sign=user.sign)
        stays = self.witness(server, jwt=other.jwt, sign=other.sign)
        account.revoke(user)
        # Whenever it comes: a second later, JWTs that are issued anew are other ones.
        with mock.patch("time.time", lambda now=time.time: now() + 1):
            await server.reload()
        witness.wait_closed()
        self.assertRaises(WitnessError, Witness, server.url, jwt=user.jwt, sign=user.sign)
        stays.flush()

    async def test_bearer(self) -> None:
        """A bearer JWT needs no signature."""
        operator = Operator()
        user = operator.account("A").user(bearer=True)
        server = await self.start_server(operator=operator)
        self.witness(server, jwt=user.jwt)

    async def test_jetstream_of_an_account(self) -> None:
        """An account with jetstream=True may use JetStream, another one may not."""
        operator = Operator()
        users = [operator.account("A", jetstream=True).user(), operator.account("B").user()]
        server = await self.start_server(operator=operator, jetstream=True)
        answers = []
        for user in users:
            witness = self.witness(server, "reply", jwt=user.jwt, sign=user.sign)
            witness.publish("$JS.API.INFO", reply="reply")
            answers.append(witness.next().payload)
        self.assertIn(b'"max_streams":-1', answers[0])
        self.assertNotIn(b"max_streams", answers[1])

    async def test_credentials_file(self) -> None:
        """The credentials file holds what connects, and is readable by the owner alone."""
        operator = Operator()
        user = operator.account("A").user()
        path = user.write_creds(Path(self.mktemp()))
        self.assertEqual(path.stat().st_mode & 0o077, 0)
        text = path.read_text()
        self.assertIn(user.jwt, text.splitlines())
        self.assertIn(user.seed, text.splitlines())
        self.assertNotIn(user.seed, repr(user))
