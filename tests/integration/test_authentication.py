"""Credentials and permissions through a whole client life: renewed, expired, revoked, and denied."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pynats_twisted import NatsClient, errors
from pynats_twisted.client.status import Closed, Disconnected, ServerErrorEvent, StatusEvent
from pynats_twisted.protocol.nkeys import create_seed, public_key, sign
from pynats_twisted.testing import Operator
from tests.support.integration import IntegrationTestCase


def listen(client: NatsClient) -> list[StatusEvent]:
    events: list[StatusEvent] = []
    client.add_listener(events.append)
    return events


class AuthenticationTests(IntegrationTestCase):
    """Every kind of credentials, with reconnects."""

    async def test_callables_are_asked_at_each_connect(self) -> None:
        """User, password and token may be callables; a changed password is taken at the next connection."""
        server = await self.start_server(user="ann", password="first")
        passwords = ["first"]
        client = await self.connect(server, user=lambda: "ann", password=lambda: passwords[-1])
        passwords.append("second")
        await server.reload(user="ann", password="second")
        client.force_reconnect()
        await self.until(lambda: client.stats.reconnects)
        await client.flush()

    async def test_nkey(self) -> None:
        """An NKey, as a seed and by a signing callback, also after a reconnect."""
        seed = create_seed("user")
        server = await self.start_server(users=[{"nkey": public_key(seed)}])
        for options in ({"nkey_seed": seed}, {"nkey_public": public_key(seed), "sign_nonce": lambda nonce: sign(seed, nonce)}):
            client = await self.connect(server, **options)
            client.force_reconnect()
            await self.until(lambda client=client: client.stats.reconnects == 1)
            await client.flush()

    async def test_credentials_file_is_read_again(self) -> None:
        """Credentials that were renewed in their file are used at the next connection; a missing file is one failed attempt."""
        operator = Operator()
        account = operator.account("A")
        user, other = account.user("one"), account.user("two")
        server = await self.start_server(operator=operator, monitoring=True)
        path = Path(self.mktemp())
        user.write_creds(path)
        client = await self.connect(server, creds_file=path)
        path.unlink()
        client.force_reconnect()
        await self.until(lambda: client.core.pool.reasons)
        self.assertIsInstance(client.core.pool.reasons[-1][1], errors.CredentialsError)
        other.write_creds(path)
        await self.until(lambda: client.is_connected)
        await client.flush()
        connections = (await server.monitor("connz", auth="true"))["connections"]
        self.assertEqual([connection["authorized_user"] for connection in connections], [other.public_key])

    async def test_expired_user_is_renewed(self) -> None:
        """When the user's JWT expires, the client comes back with a fresh one, soon and without an end."""
        operator = Operator()
        user = operator.account("A").user("one", expires_in=1.2)
        server = await self.start_server(operator=operator)

        def jwt() -> str:
            if time.time() - issued[-1] > 0.5:
                user.renew(60)
                issued.append(time.time())
            return user.jwt

        issued = [time.time()]
        client = await self.connect(server, user_jwt=jwt, sign_nonce=user.sign)
        events = listen(client)
        await self.until(lambda: client.stats.reconnects, what="the reconnect")
        await client.flush()
        told = [event.error for event in events if isinstance(event, ServerErrorEvent)]
        self.assertEqual([type(error) for error in told], [errors.AuthenticationExpiredError])
        self.assertEqual(len([event for event in events if isinstance(event, Disconnected)]), 1)

    async def test_expired_user_without_renewal_ends(self) -> None:
        """Credentials that stay expired end the client after the same error came twice, and not in a hot loop."""
        operator = Operator()
        user = operator.account("A").user("one", expires_in=1.2)
        server = await self.start_server(operator=operator)
        client = await self.connect(server, user_jwt=user.jwt, sign_nonce=user.sign)
        events = listen(client)
        await client.when_closed()
        told = [event.error for event in events if isinstance(event, ServerErrorEvent)]
        self.assertLessEqual(len(told), 4)
        self.assertTrue(all(isinstance(error, errors.AuthenticationError) for error in told), told)
        closed = [event for event in events if isinstance(event, Closed)]
        self.assertIsInstance(closed[0].error, errors.NoServersError)
        self.assertNotIn(user.jwt, repr(closed[0].error) + str(closed[0].error))

    async def test_wrong_password_ends(self) -> None:
        """A password that is refused fails the first connect; in a running client it ends it after the second refusal."""
        server = await self.start_server(user="ann", password="right")
        with self.assertRaises(errors.NoServersError) as raised:
            await self.connect(server, user="ann", password="wr0ng")
        self.assertIsInstance(raised.exception.reasons[0][1], errors.AuthorizationViolationError)
        self.assertNotIn("wr0ng", str(raised.exception))
        client = await self.connect(server, user="ann", password="right")
        await server.reload(user="ann", password="changed")
        await client.when_closed()
        self.assertEqual(client.core.pool.servers, ())


class PermissionTests(IntegrationTestCase):
    """A user that may not do everything."""

    async def _client(self) -> tuple[Any, Any]:
        permissions = {"publish": {"deny": ["no.>"]}, "subscribe": {"deny": ["no.>", "_INBOX.>"]}}
        server = await self.start_server(users=[{"user": "u", "password": "p", "permissions": permissions}])
        return server, await self.connect(server, user="u", password="p")

    async def test_denied_subscription_is_told_to_its_caller(self) -> None:
        """Awaiting a subscription that is denied raises; others, and the connection, are not touched."""
        _, client = await self._client()
        good = client.subscribe("yes")
        await good
        for queue in (None, "q"):
            denied = client.subscribe("no.way", queue=queue)
            with self.assertRaises(errors.PermissionsViolationError) as raised:
                await denied
            self.assertEqual((raised.exception.subject, raised.exception.queue), ("no.way", queue))
            with self.assertRaises(errors.PermissionsViolationError):
                await denied.next()
            self.assertTrue(denied.closed)
        await client.publish("yes", b"1")
        self.assertEqual((await good.next(5)).data, b"1")
        self.assertEqual(client.stats.reconnects, 0)

    async def test_denied_publish_is_reported_and_fails_its_request(self) -> None:
        """A denied publish is told to listeners; a request on such a subject, or whose inbox is denied, fails at once."""
        server, client = await self._client()
        events = listen(client)
        await client.publish("no.way", b"x")
        await client.flush()
        await self.until(lambda: events)
        self.assertEqual([(event.error.operation, event.error.subject) for event in events], [("publish", "no.way")])
        with self.assertRaises(errors.PermissionsViolationError) as raised:
            await client.request("yes", timeout=5)
        self.assertEqual(raised.exception.operation, "subscription")
        allowed = await self.connect(server, user="u", password="p", inbox_prefix="_MINE")
        with self.assertRaises(errors.PermissionsViolationError):
            await allowed.request("no.way", timeout=5)
        with self.assertRaises(errors.NoRespondersError):
            await allowed.request("yes", timeout=5)
        self.assertEqual(allowed.requests_in_flight, 0)

    async def test_permission_that_is_taken_away_ends_the_subscription(self) -> None:
        """When a reload removes a permission, the subscription that had it ends with the error."""

        def users(*deny: str) -> list[dict[str, Any]]:
            return [{"user": "u", "password": "p", "permissions": {"subscribe": {"deny": list(deny)}}}]

        server = await self.start_server(users=users("other"))
        client = await self.connect(server, user="u", password="p")
        going, staying = client.subscribe("a.b"), client.subscribe("a.c")
        await staying
        waiting = going.next()
        await server.reload(users=users("a.b"))
        with self.assertRaises(errors.PermissionsViolationError):
            await waiting
        self.assertFalse(staying.closed)

    async def test_storm_of_denials(self) -> None:
        """10,000 denied publishes cost neither the connection nor other traffic, and do not fill the log."""
        _, client = await self._client()
        received = client.subscribe("yes")
        await received
        for number in range(10_000):
            await client.publish("no.way", b"x")
            if number % 100 == 0:
                await client.publish("yes", b"%d" % number)
        await client.flush()
        self.assertEqual(received.pending_msgs, 100)
        self.assertEqual(client.stats.server_errors, 10_000)
        self.assertEqual(client.stats.reconnects, 0)
