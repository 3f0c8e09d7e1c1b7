"""A real server's opinion of the credentials: a plain socket sends them in CONNECT, and the server answers PONG or -ERR."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import CredentialsError
from pynats_twisted.protocol import nkeys
from pynats_twisted.protocol.credentials import AuthParameters, CredsFile, make_authenticator
from pynats_twisted.protocol.options import ClientOptions
from pynats_twisted.protocol.servers import Server
from pynats_twisted.testing import Operator, ServerProcess

TIMEOUT = 10.0
REFUSED = "-ERR 'Authorization Violation'"


def answer_to(server: Any, authenticate: Callable[[bytes | None, Server], AuthParameters], user_info: str = "") -> str:
    """What the server says to a CONNECT with these credentials: the line that is PONG or starts with -ERR."""
    target = Server.from_url(f"nats://{user_info}127.0.0.1:{server.port}")
    with socket.create_connection((target.host, target.port), timeout=TIMEOUT) as connection, connection.makefile("rb") as lines:
        operation, _, info = lines.readline().partition(b" ")
        assert operation == b"INFO", operation
        nonce = json.loads(info).get("nonce")
        fields = authenticate(nonce and nonce.encode(), target).as_connect_fields()
        connect = {"verbose": False, "pedantic": False, "lang": "python", "version": "1", "protocol": 1, **fields}
        connection.sendall(b"CONNECT " + json.dumps(connect).encode() + b"\r\nPING\r\n")
        for line in lines:
            text = line.decode().strip()
            if text == "PONG" or text.startswith("-ERR"):
                return text
    return "closed without a word"


def answer(server: Any, user_info: str = "", **options: Any) -> str:
    return answer_to(server, make_authenticator(ClientOptions(**options)).authenticate, user_info)


class PasswordTests(SynchronousTestCase):
    def test_user_and_password_are_accepted(self) -> None:
        """The right ones get a PONG, wrong ones or none an error; those of the URL win."""
        with ServerProcess.running(user="ann", password="s3cret") as server:
            self.assertEqual(answer(server, user="ann", password="s3cret"), "PONG")
            self.assertEqual(answer(server, user=lambda: "ann", password=lambda: "s3cret"), "PONG")
            self.assertEqual(answer(server, "ann:s3cret@", user="ann", password="wrong"), "PONG")
            self.assertEqual(answer(server, user="ann", password="wrong"), REFUSED)
            self.assertEqual(answer(server, "ann:wrong@", user="ann", password="s3cret"), REFUSED)
            self.assertEqual(answer(server), REFUSED)

    def test_token_is_accepted(self) -> None:
        """The right token gets a PONG, from the option, a callable and the URL."""
        with ServerProcess.running(token="t0ken") as server:
            self.assertEqual(answer(server, token="t0ken"), "PONG")
            self.assertEqual(answer(server, token=lambda: "t0ken"), "PONG")
            self.assertEqual(answer(server, "t0ken@"), "PONG")
            self.assertEqual(answer(server, token="wrong"), REFUSED)


class NKeyTests(SynchronousTestCase):
    def test_signatures_of_nkeys_are_accepted(self) -> None:
        """Seed, seed file and signing callback satisfy the server; another key or the signature of another nonce do not."""
        seed = nkeys.create_seed("user")
        public = nkeys.public_key(seed)
        path = self.mktemp()
        Path(path).write_text(seed)
        with ServerProcess.running({"authorization": {"users": [{"nkey": public}]}}) as server:
            self.assertEqual(answer(server, nkey_seed=seed), "PONG")
            self.assertEqual(answer(server, nkey_seed=seed.encode()), "PONG")
            self.assertEqual(answer(server, nkey_seed_file=path), "PONG")
            self.assertEqual(answer(server, nkey_public=public, sign_nonce=lambda nonce: nkeys.sign(seed, nonce)), "PONG")
            self.assertEqual(answer(server, nkey_seed=nkeys.create_seed("user")), REFUSED)
            stale = make_authenticator(ClientOptions(nkey_seed=seed)).authenticate
            self.assertEqual(answer_to(server, lambda nonce, target: stale(b"another nonce", target)), REFUSED)

    def test_server_without_nkeys_sends_no_nonce(self) -> None:
        """Against such a server a client with a key is told what is missing, instead of sending a signature of nothing."""
        with ServerProcess.running() as server:
            error = self.assertRaises(CredentialsError, answer, server, nkey_seed=nkeys.create_seed("user"))
            self.assertEqual(str(error), f"nats://127.0.0.1:{server.port} sent no nonce to sign, so it is not set up for NKeys or JWTs")


class JWTTests(SynchronousTestCase):
    def setUp(self) -> None:
        operator = Operator()
        self.account = operator.account("orders")
        self.stranger = Operator().account("orders").user("stranger")
        self.user = self.account.user("worker")
        running = ServerProcess.running(operator=operator)
        self.server = running.__enter__()
        self.addCleanup(running.__exit__, None, None, None)

    def test_credentials_files_are_accepted(self) -> None:
        """One file, its content, or two files satisfy the server; those of another operator do not."""
        path, jwt_path, seed_path = self.mktemp(), self.mktemp(), self.mktemp()
        self.user.write_creds(path)
        Path(jwt_path).write_text(self.user.jwt)
        Path(seed_path).write_text(self.user.seed)
        self.assertEqual(answer(self.server, creds_file=path), "PONG")
        self.assertEqual(answer(self.server, creds=self.user.creds), "PONG")
        self.assertEqual(answer(self.server, creds=self.user.creds.replace("\n", "\r\n").encode()), "PONG")
        self.assertEqual(answer(self.server, authenticator=CredsFile(jwt_path, seed_path)), "PONG")
        self.assertEqual(answer(self.server, creds=self.stranger.creds), REFUSED)

    def test_jwts_with_a_signature_are_accepted(self) -> None:
        """The JWT can come from elsewhere than the signature; a signature by another user's key is refused."""
        self.assertEqual(answer(self.server, user_jwt=self.user.jwt, sign_nonce=self.user.sign), "PONG")
        self.assertEqual(answer(self.server, user_jwt=lambda: self.user.jwt, nkey_seed=self.user.seed), "PONG")
        self.assertEqual(answer(self.server, user_jwt=self.user.jwt, sign_nonce=self.stranger.sign), REFUSED)

    def test_bearer_jwt_is_accepted_without_a_signature(self) -> None:
        """Only a JWT that says so may come alone."""
        self.assertEqual(answer(self.server, user_jwt=self.account.user("bearer", bearer=True).jwt), "PONG")
        self.assertEqual(answer(self.server, user_jwt=self.user.jwt), REFUSED)

    def test_password_beside_the_jwt_does_no_harm(self) -> None:
        """A server without auth callout looks at the JWT alone."""
        self.assertEqual(answer(self.server, user="ann", password="x", creds=self.user.creds), "PONG")

    def test_rotated_file_is_used_with_the_next_connection(self) -> None:
        """One authenticator is refused with an expired file, and accepted once the file was replaced."""
        path = self.mktemp()
        expired = self.account.user("expired", expires_in=-60)
        expired.write_creds(path)
        authenticator = make_authenticator(ClientOptions(creds_file=path))
        self.assertEqual(answer_to(self.server, authenticator.authenticate), REFUSED)
        self.user.write_creds(path)
        self.assertEqual(answer_to(self.server, authenticator.authenticate), "PONG")
        os.remove(path)
        self.assertRaises(CredentialsError, answer_to, self.server, authenticator.authenticate)
        self.user.write_creds(path)
        self.assertEqual(answer_to(self.server, authenticator.authenticate), "PONG")
