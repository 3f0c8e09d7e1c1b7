"""Who is let in, and what he may do."""

from __future__ import annotations

import base64
import time
from typing import Any

from pynats_twisted import errors
from pynats_twisted.protocol import nkeys
from pynats_twisted.testing import Operator

from .harness import Harness, RawClient, connect_line

VIOLATION = b"-ERR 'Authorization Violation'"


def encoded(signature: bytes) -> str:
    return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


class AuthenticationCases(Harness):
    """Credentials of each kind."""

    async def answer(self, server: Any, **connect: Any) -> list[bytes]:
        """What comes behind a CONNECT and PING: the end, or nothing when it was right."""
        raw = await self.dial(server)
        raw.send(connect_line(**connect) + b"PING\r\n")
        return [line for line in await raw.lines(1) if line != b"PONG"]

    async def test_info_says_that_it_is_required(self) -> None:
        """INFO has auth_required, and no nonce where none has to be signed."""
        raw = await self.dial(await self.server(user="ann", password="right"))
        self.assertIs(raw.infos[0]["auth_required"], True)
        self.assertNotIn("nonce", raw.infos[0])

    async def test_user_and_password(self) -> None:
        """The right password is let in; a wrong one, a wrong user, or none is not."""
        server = await self.server(user="ann", password="right")
        self.assertEqual(await self.answer(server, user="ann", **{"pass": "right"}), [])
        for wrong in ({"user": "ann", "pass": "wrong"}, {"user": "bob", "pass": "right"}, {"user": "ann"}, {}, {"auth_token": "right"}):
            self.assertEqual(await self.answer(server, **wrong), [VIOLATION], wrong)

    async def test_several_users(self) -> None:
        """Each of several users is let in with its own password."""
        server = await self.server(users=[{"user": "a", "password": "1"}, {"user": "b", "password": "2"}])
        self.assertEqual(await self.answer(server, user="a", **{"pass": "1"}), [])
        self.assertEqual(await self.answer(server, user="b", **{"pass": "2"}), [])
        self.assertEqual(await self.answer(server, user="a", **{"pass": "2"}), [VIOLATION])

    async def test_token(self) -> None:
        """The right token is let in; a wrong one, or one in the place of the user, is not."""
        server = await self.server(token="secret")
        self.assertEqual(await self.answer(server, auth_token="secret"), [])
        for wrong in ({"auth_token": "other"}, {"user": "secret"}, {}):
            self.assertEqual(await self.answer(server, **wrong), [VIOLATION], wrong)

    async def test_nothing_comes_before_connect(self) -> None:
        """Where credentials are needed, any other operation before CONNECT is a violation."""
        server = await self.server(token="secret")
        for data in (b"PING\r\n", b"SUB a 1\r\n", b"PUB a 0\r\n\r\n"):
            self.assertEqual(await (await self.dial(server)).ending(data), [VIOLATION])

    async def test_credentials_come_in_time(self) -> None:
        """Who sends no credentials is sent away after the timeout; who did stays."""
        server = await self.server({"auth_timeout": 1}, user="ann", password="right")
        right = await self.raw(server, user="ann", **{"pass": "right"})
        begun = self.reactor.seconds()
        self.assertEqual(await (await self.dial(server)).ending(), [b"-ERR 'Authentication Timeout'"])
        self.assertTrue(0.8 < self.reactor.seconds() - begun < 2.0)
        self.assertEqual(await right.exchange(), [])

    async def test_credentials_are_not_needed_by_an_open_server(self) -> None:
        """A server without authentication takes whatever comes."""
        self.assertEqual(await self.answer(await self.server(), user="x", **{"pass": "y"}), [])

    async def test_nkey(self) -> None:
        """Whoever signs the nonce with a key that the server knows is let in; both alphabets of Base64 serve."""
        seed = nkeys.create_seed("user")
        server = await self.server(users=[{"nkey": nkeys.public_key(seed)}])
        for encode in (encoded, lambda raw: base64.b64encode(raw).decode()):
            raw = await self.dial(server)
            sig = encode(nkeys.sign(seed, raw.infos[0]["nonce"].encode()))
            self.assertEqual(await raw.exchange(connect_line(nkey=nkeys.public_key(seed), sig=sig)), [])

    async def test_nkey_that_signs_something_else(self) -> None:
        """A signature of something else, of another key, or none, is refused."""
        seed, other = nkeys.create_seed("user"), nkeys.create_seed("user")
        server = await self.server(users=[{"nkey": nkeys.public_key(seed)}])
        for signer, what in ((seed, b"other"), (other, None)):
            raw = await self.dial(server)
            sig = encoded(nkeys.sign(signer, what or raw.infos[0]["nonce"].encode()))
            self.assertEqual(await raw.ending(connect_line(nkey=nkeys.public_key(seed), sig=sig)), [VIOLATION])
        self.assertEqual(await self.answer(server, nkey=nkeys.public_key(seed)), [VIOLATION])
        self.assertEqual(await self.answer(server, nkey=nkeys.public_key(seed), sig="?"), [VIOLATION])

    async def test_nonce_is_new_each_time(self) -> None:
        """Each connection gets a nonce of its own."""
        server = await self.server(users=[{"nkey": nkeys.public_key(nkeys.create_seed("user"))}])
        one, two = await self.dial(server), await self.dial(server)
        self.assertNotEqual(one.infos[0]["nonce"], two.infos[0]["nonce"])

    async def jwt(self, raw: RawClient, user: Any, jwt: str | None = None, nonce: bytes | None = None) -> bytes:
        signed = nonce if nonce is not None else raw.infos[0]["nonce"].encode()
        return connect_line(jwt=user.jwt if jwt is None else jwt, sig=encoded(user.sign(signed)))

    async def test_jwt(self) -> None:
        """A user with a JWT of an account of the operator is let in; the second INFO names the account."""
        operator = Operator()
        user = operator.account("A").user("one")
        raw = await self.dial(await self.server(operator=operator))
        self.assertEqual(await raw.exchange(await self.jwt(raw, user)), [])
        info = raw.infos[1] if len(raw.infos) > 1 else await raw.info()
        self.assertEqual(info["remote_account"], operator.accounts["A"].public_key)

    async def test_jwt_without_the_key(self) -> None:
        """A JWT alone is not enough: the nonce has to be signed by its user."""
        operator = Operator()
        account = operator.account("A")
        one, two = account.user("one"), account.user("two")
        server = await self.server(operator=operator)
        raw = await self.dial(server)
        self.assertEqual(await raw.ending(await self.jwt(raw, two, jwt=one.jwt)), [VIOLATION])
        raw = await self.dial(server)
        self.assertEqual(await raw.ending(await self.jwt(raw, one, nonce=b"other")), [VIOLATION])
        self.assertEqual(await self.answer(server, jwt=one.jwt), [VIOLATION])
        self.assertEqual(await self.answer(server), [VIOLATION])

    async def test_jwt_of_somebody_else(self) -> None:
        """A JWT of an account that the operator does not know, or one that was changed, is refused."""
        operator = Operator()
        account = operator.account("A")
        stranger = Operator().account("A").user("one")
        server = await self.server(operator=operator)
        raw = await self.dial(server)
        self.assertEqual(await raw.ending(await self.jwt(raw, stranger)), [VIOLATION])
        user = account.user("one")
        head, _, signature = user.jwt.split(".")
        forged = ".".join([head, account.user("two", deny_publish=["x"]).jwt.split(".")[1], signature])
        raw = await self.dial(server)
        self.assertEqual(await raw.ending(await self.jwt(raw, user, jwt=forged)), [VIOLATION])

    async def test_jwt_that_has_expired(self) -> None:
        """A JWT whose time is over is refused."""
        operator = Operator()
        user = operator.account("A").user("one", expires_in=-10)
        raw = await self.dial(await self.server(operator=operator))
        self.assertEqual(await raw.ending(await self.jwt(raw, user)), [VIOLATION])

    async def test_jwt_that_expires(self) -> None:
        """When the time of a JWT is over, its user gets an error and the end."""
        operator = Operator()
        user = operator.account("A").user("one", expires_in=1.2)
        begun, left = self.reactor.seconds(), -(-(time.time() + 1.2) // 1) - time.time()
        raw = await self.dial(await self.server(operator=operator))
        lines = await raw.ending(await self.jwt(raw, user))
        self.assertEqual([line for line in lines if line not in (b"PING", b"PONG")], [b"-ERR 'User Authentication Expired'"])
        self.assertTrue(left - 1.0 < self.reactor.seconds() - begun < left + 1.0)

    async def test_bearer_token(self) -> None:
        """The JWT of a bearer is enough by itself."""
        operator = Operator()
        user = operator.account("A").user("one", bearer=True)
        self.assertEqual(await self.answer(await self.server(operator=operator), jwt=user.jwt), [])

    async def test_accounts_are_apart(self) -> None:
        """A message stays inside the account of its publisher."""
        operator = Operator()
        clients = []
        server_options = {"operator": operator}
        users = [operator.account("A").user("one"), operator.account("B").user("two"), operator.accounts["A"].user("three")]
        server = await self.server(**server_options)
        for user in users:
            raw = await self.dial(server)
            await raw.exchange(await self.jwt(raw, user) + b"SUB a 1\r\n")
            clients.append(raw)
        await clients[0].exchange(b"PUB a 0\r\n\r\n")
        self.assertEqual([len(await raw.exchange()) for raw in clients[1:]], [0, 2])

    async def test_client_with_each_kind(self) -> None:
        """The client gets in with user and password, token, NKey, and credentials."""
        seed = nkeys.create_seed("user")
        operator = Operator()
        user = operator.account("A").user("one")
        kinds: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"user": "ann", "password": "right"}, {"user": "ann", "password": "right"}),
            ({"token": "secret"}, {"token": "secret"}),
            ({"users": [{"nkey": nkeys.public_key(seed)}]}, {"nkey_seed": seed}),
            ({"operator": operator}, {"creds": user.creds}),
        ]
        for server_options, options in kinds:
            client = await self.connect(await self.server(**server_options), **options)
            await client.flush()

    async def test_client_with_wrong_credentials(self) -> None:
        """A client that is refused says so, with the server's error."""
        server = await self.server(token="secret")
        with self.assertRaises(errors.NoServersError) as raised:
            await self.connect(server, token="other")
        self.assertEqual([type(error) for _, error in raised.exception.reasons], [errors.AuthorizationViolationError])


class PermissionCases(Harness):
    """What a user may publish and subscribe to."""

    async def user(self, **permissions: Any) -> RawClient:
        """A raw client of a user with these permissions, and another without any limits at :attr:`other`."""
        users = [{"user": "u", "password": "p", "permissions": permissions}, {"user": "all", "password": "p"}]
        self.place = await self.server(users=users)
        self.other = await self.raw(self.place, user="all", **{"pass": "p"})
        return await self.raw(self.place, user="u", **{"pass": "p"})

    def denied(self, operation: str, subject: str, more: str = "") -> bytes:
        return f"-ERR 'Permissions Violation for {operation} to \"{subject}\"{more}'".encode()

    async def test_publish_allowed(self) -> None:
        """What is not on the list of allowed subjects is denied by name, is not delivered, and the connection stays."""
        raw = await self.user(publish=["ok.>", "one"])
        await self.other.exchange(b"SUB > 1\r\n")
        self.assertEqual(await raw.exchange(b"PUB ok.a 0\r\n\r\nPUB one 0\r\n\r\n"), [])
        self.assertEqual(await raw.exchange(b"PUB no 1\r\nz\r\n"), [self.denied("Publish", "no")])
        self.assertEqual(await self.other.exchange(), [b"MSG ok.a 1 0", b"", b"MSG one 1 0", b""])

    async def test_publish_denied(self) -> None:
        """What is denied is, also where it is allowed; the rest is not."""
        raw = await self.user(publish={"allow": ["ok.>"], "deny": ["ok.no.*"]})
        self.assertEqual(await raw.exchange(b"PUB ok.no.a 0\r\n\r\nPUB ok.no 0\r\n\r\n"), [self.denied("Publish", "ok.no.a")])

    async def test_denied_publish_has_no_responders_answer(self) -> None:
        """A request that is denied gets the error alone."""
        raw = await self.user(publish={"deny": ["no"]})
        self.assertEqual(await raw.exchange(b"SUB r 1\r\nPUB no r 0\r\n\r\n"), [self.denied("Publish", "no")])

    async def test_subscribe_allowed(self) -> None:
        """A subscription is allowed when its subject, as it is written, matches one that is allowed: even ``a.>`` where ``a.*`` is."""
        raw = await self.user(subscribe=["ok.>", "a.*"])
        self.assertEqual(await raw.exchange(b"SUB ok.> 1\r\nSUB ok.a.b 2\r\nSUB a.* 3\r\nSUB a.> 4\r\nSUB ok.* q 5\r\n"), [])
        for subject in ("no", ">", "a.b.c", "*.b", "ok"):
            self.assertEqual(await raw.exchange(f"SUB {subject} 9\r\n".encode()), [self.denied("Subscription", subject)])

    async def test_subscribe_denied(self) -> None:
        """A subscription to what is denied is refused, with its queue group in the text where it has one."""
        raw = await self.user(subscribe={"deny": ["no.>"]})
        self.assertEqual(await raw.exchange(b"SUB no.a 1\r\n"), [self.denied("Subscription", "no.a")])
        self.assertEqual(await raw.exchange(b"SUB no.* q 1\r\n"), [self.denied("Subscription", "no.*", ' using queue "q"')])
        self.assertEqual(await raw.exchange(b"SUB yes 1\r\n"), [])

    async def test_wildcard_over_what_is_denied(self) -> None:
        """A wider subscription is accepted, and does not get what is denied."""
        raw = await self.user(subscribe={"deny": ["no.>"]})
        self.assertEqual(await raw.exchange(b"SUB > 1\r\n"), [])
        await self.other.exchange(b"PUB no.a 0\r\n\r\nPUB yes 0\r\n\r\n")
        self.assertEqual(await raw.exchange(), [b"MSG yes 1 0", b""])

    async def test_queue_groups(self) -> None:
        """A permission can be for members of a queue group only."""
        raw = await self.user(subscribe=["q.x workers", "_INBOX.>"])
        self.assertEqual(await raw.exchange(b"SUB q.x workers 1\r\n"), [])
        self.assertEqual(await raw.exchange(b"SUB q.x 2\r\n"), [self.denied("Subscription", "q.x")])
        self.assertEqual(await raw.exchange(b"SUB q.x other 3\r\n"), [self.denied("Subscription", "q.x", ' using queue "other"')])

    async def test_subjects_in_texts_are_quoted(self) -> None:
        """Quotes, backslashes and bytes that are no text are escaped as Go does."""
        raw = await self.user(publish=["ok"])
        self.assertEqual(await raw.exchange(b'PUB a"b 0\r\n\r\n'), [self.denied("Publish", 'a\\"b')])
        self.assertEqual(await raw.exchange(b"PUB a\xff\\b\xc3\xa9 0\r\n\r\n"), [self.denied("Publish", "a\\xff\\\\b\u00e9")])

    async def test_verbose(self) -> None:
        """With verbose, what is denied gets no +OK."""
        raw = await self.user(publish=["ok"])
        lines = await raw.exchange(b'CONNECT {"verbose":true}\r\nPUB no 0\r\n\r\nPUB ok 0\r\n\r\n')
        self.assertEqual(lines, [b"+OK", self.denied("Publish", "no"), b"+OK"])

    async def test_reply_subject_is_not_checked(self) -> None:
        """The reply of a publish may be any subject."""
        raw = await self.user(publish=["ok"])
        self.assertEqual(await raw.exchange(b"PUB ok anything.else 0\r\n\r\n"), [])

    async def test_allowed_responses(self) -> None:
        """Who may respond may publish once to the reply subject of a message that it got, and to nothing else."""
        raw = await self.user(subscribe=["svc"], allow_responses=True)
        lines = await raw.exchange(b"SUB svc 1\r\nPUB x 0\r\n\r\nPUB r.1 0\r\n\r\n")
        self.assertEqual(lines, [self.denied("Publish", "x"), self.denied("Publish", "r.1")])
        await self.other.exchange(b"SUB r.* 1\r\nPUB svc r.1 0\r\n\r\n")
        lines = await raw.exchange(b"PUB r.1 0\r\n\r\nPUB r.1 0\r\n\r\n")
        self.assertEqual(lines, [b"MSG svc 1 r.1 0", b"", self.denied("Publish", "r.1")])
        self.assertEqual(await self.other.exchange(), [b"MSG r.1 1 0", b""])

    async def test_jwt_permissions(self) -> None:
        """The permissions of a JWT count."""
        operator = Operator()
        user = operator.account("A").user("one", publish=["ok.>"], deny_subscribe=["no"])
        raw = await self.dial(await self.server(operator=operator))
        line = connect_line(jwt=user.jwt, sig=encoded(user.sign(raw.infos[0]["nonce"].encode())))
        lines = await raw.exchange(line + b"PUB no 0\r\n\r\nSUB no 1\r\nSUB yes 2\r\nPUB ok.a 0\r\n\r\n")
        self.assertEqual(lines, [self.denied("Publish", "no"), self.denied("Subscription", "no")])

    async def test_reload_takes_a_subscription(self) -> None:
        """When a permission goes, the subscription does, with its sid in the text; others stay."""
        raw = await self.user(subscribe=["a", "b"])
        await raw.exchange(b"SUB a 1\r\nSUB b q 2\r\nSUB b 3\r\n")
        users = [{"user": "u", "password": "p", "permissions": {"subscribe": ["a"]}}, {"user": "all", "password": "p"}]
        await self.do(self.place.reload, users=users)
        await self.eventually(lambda: raw.data.count(b"-ERR") == 2)
        expected = {self.denied("Subscription", "b", ' using queue "q" (sid "2")'), self.denied("Subscription", "b", ' (sid "3")')}
        self.assertEqual(set(await raw.exchange()), expected)
        await self.other.exchange(b"PUB a 0\r\n\r\nPUB b 0\r\n\r\n")
        self.assertEqual(await raw.exchange(), [b"MSG a 1 0", b""])

    async def test_reload_takes_a_user(self) -> None:
        """When a user goes, its connections end without a word; those of others stay."""
        raw = await self.user()
        await self.do(self.place.reload, users=[{"user": "all", "password": "p"}])
        self.assertEqual(await raw.ending(), [])
        self.assertEqual(await self.other.exchange(), [])

    async def test_reload_changes_a_password(self) -> None:
        """When a password is changed, connections with the old one end with a violation."""
        raw = await self.user()
        await self.do(self.place.reload, users=[{"user": "u", "password": "new"}, {"user": "all", "password": "p"}])
        self.assertEqual(await raw.ending(), [VIOLATION])
        self.assertEqual(await self.other.exchange(), [])

    async def test_client_is_told(self) -> None:
        """The client's denied subscription ends with the error, its denied request fails with it, and it stays connected."""
        await self.user(publish={"deny": ["no"]}, subscribe={"deny": ["no"]})
        client = await self.connect(self.place, user="u", password="p")
        with self.assertRaises(errors.PermissionsViolationError) as raised:
            await client.subscribe("no")
        self.assertEqual((raised.exception.operation, raised.exception.subject), ("subscription", "no"))
        with self.assertRaises(errors.PermissionsViolationError) as raised:
            await client.request("no", timeout=2.0)
        self.assertEqual(raised.exception.subject, "no")
        await client.flush()
        self.assertEqual(client.stats.reconnects, 0)
