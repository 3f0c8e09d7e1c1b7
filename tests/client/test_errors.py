"""Everything that a server may report: what becomes of the connection, of who waits, of listeners and of the log."""

from __future__ import annotations

from pynats_twisted import errors
from pynats_twisted.client import ClientStatus
from pynats_twisted.client.status import ConnectFailed, Disconnected, ServerErrorEvent
from pynats_twisted.testing.server_frames import PingFrame

from .network import info_line
from .support import ClientTestCase

# The server ends the connection after these.
CLOSING: list[tuple[str, type[errors.ServerError]]] = [
    ("Unknown Protocol Operation", errors.UnknownProtocolOperationError),
    ("Parser Error", errors.UnknownProtocolOperationError),
    ("Authorization Violation", errors.AuthorizationViolationError),
    ("Authentication Timeout", errors.AuthenticationTimeoutError),
    ("Authorization Timeout", errors.AuthenticationTimeoutError),
    ("User Authentication Expired", errors.AuthenticationExpiredError),
    ("User Authentication Revoked", errors.AuthenticationRevokedError),
    ("Account Authentication Expired", errors.AccountAuthenticationExpiredError),
    ("Failed Account Registration", errors.AccountRegistrationError),
    ("maximum connections exceeded", errors.MaxConnectionsExceededError),
    ("maximum account active connections exceeded", errors.MaxAccountConnectionsExceededError),
    ("Connection throttling is active. Please try again later.", errors.ConnectionThrottledError),
    ("Maximum Payload Violation", errors.MaxPayloadViolationError),
    ("maximum control line exceeded", errors.MaxControlLineExceededError),
    ("Stale Connection", errors.StaleConnectionError),
    ("Secure Connection - TLS Required", errors.SecureConnectionRequiredError),
    ("invalid client protocol", errors.ConnectRefusedError),
    ("no responders requires headers support", errors.ConnectRefusedError),
    ("attempted to connect to route port", errors.WrongPortError),
    ("attempted to connect to leaf node port", errors.WrongPortError),
    ("wrong port", errors.WrongPortError),
]

# It goes on after these.
STAYING: list[tuple[str, type[errors.ServerError]]] = [
    ('Permissions Violation for Publish to "s"', errors.PermissionsViolationError),
    ('Permissions Violation for Publish with Reply of "r"', errors.PermissionsViolationError),
    ('Permissions Violation for Subscription to "s"', errors.PermissionsViolationError),
    ('Permissions Violation for Subscription to "s" using queue "q"', errors.PermissionsViolationError),
    ('Permissions Violation for Subscription to "s", too many tokens', errors.PermissionsViolationError),
    ('Permissions Violation for Subscription to "s" using queue "q" (sid "77")', errors.PermissionsViolationError),
    ("maximum subscriptions exceeded", errors.MaxSubscriptionsExceededError),
    ("Invalid Subject", errors.ServerInvalidSubjectError),
    ("Invalid Publish Subject", errors.InvalidPublishSubjectError),
    ("Something that no server said so far", errors.UnknownServerError),
    ("", errors.UnknownServerError),
]


class ClosingTests(ClientTestCase):
    def test_while_connected(self) -> None:
        """Each is told with its type, logged, the reason of the loss, and followed by a new connection."""
        for text, kind in CLOSING:
            self.setUp()
            client, peer = self.connected()
            waiting = self.watch(client.request("svc"))
            flushed = self.watch(self.stuck_flush(client))
            peer.error(text)
            self.assertTrue(client.is_connected, f"{text}: it is for the server to close")
            peer.hang_up()
            self.assertIs(type(self.failureResultOf(flushed, errors.DisconnectedError).value.__cause__), kind, text)
            self.assertNoResult(waiting)
            (event,) = self.told(ServerErrorEvent)
            self.assertIs(type(event.error), kind, text)
            self.assertEqual(event.error.text, text)
            (lost,) = self.told(Disconnected)
            self.assertIs(lost.error, event.error)
            self.assertIs(client.status, ClientStatus.CONNECTED, text)
            self.assertEqual(len([line for line in self.logged() if text in line]), 1, text)
            self.assertEqual(client.stats.server_errors, 1)
            self.network.advance(5)
            self.failureResultOf(waiting, errors.RequestTimeoutError)
            self.tearDown()

    def stuck_flush(self, client: object) -> object:
        self.server.answer_pings = False
        flushed = client.flush(timeout=60)  # type: ignore[attr-defined]
        self.network.advance()
        self.server.answer_pings = True
        return flushed

    def test_in_the_handshake(self) -> None:
        """Each is the reason why this server could not be connected to, before and behind INFO."""
        for text, kind in CLOSING:
            for line in (b"", info_line(**self.server.info)):
                self.setUp()
                self.server.greeting = line + b"-ERR '%b'\r\n" % text.encode()
                self.server.interceptor = lambda session, frame: self.server.peer.hang_up()
                client = self.new_client()
                begun = client.start()
                self.network.advance()
                if not line:
                    self.server.peer.hang_up()
                    self.network.advance()
                ((_, reason),) = self.failureResultOf(begun, errors.NoServersError).value.reasons
                self.assertIs(type(reason), kind, text)
                self.assertEqual(len(self.told(ConnectFailed)), 1)
                self.tearDown()

    def test_reset_behind_the_text(self) -> None:
        """A connection that is reset behind the text was lost because of what the text says."""
        _, peer = self.connected()
        peer.error("Authorization Violation")
        peer.cut()
        self.assertIsInstance(self.told(Disconnected)[0].error, errors.AuthorizationViolationError)

    def test_no_text_at_all(self) -> None:
        """Many faults end the connection without a word: that is told as what it is."""
        client, peer = self.connected()
        peer.hang_up()
        self.assertEqual([event.error for event in self.told(Disconnected)], [None])
        self.assertTrue(client.is_connected)

    def test_limits_that_were_lowered(self) -> None:
        """A publish that passes a lowered limit costs the connection; the next INFO has the limit, and it is kept."""
        client, peer = self.connected()
        self.server.info["max_payload"] = 100
        client.publish("a", b"x" * 200)
        self.network.advance()
        peer.error("Maximum Payload Violation")
        peer.cut()
        self.network.advance()
        self.assertRaises(errors.MaxPayloadExceededError, client.publish, "a", b"x" * 200)


class StayingTests(ClientTestCase):
    def test_each(self) -> None:
        """Each is told with its type and logged, and nothing else changes."""
        client, peer = self.connected()
        sub = client.subscribe("free")
        self.network.advance()
        for number, (text, kind) in enumerate(STAYING):
            peer.error(text)
            event = self.told(ServerErrorEvent)[-1]
            self.assertIs(type(event.error), kind, text)
            self.assertEqual(event.error.text, text)
            self.assertEqual(len(self.told(ServerErrorEvent)), number + 1)
            peer.publish("free", b"x")
            self.successResultOf(sub.next())
        self.assertEqual(len(self.network.dials), 1)
        self.assertEqual(client.stats.server_errors, len(STAYING))
        self.assertEqual(len([line for line in self.logged() if "reported" in line]), len(STAYING))

    def test_odd_forms(self) -> None:
        """Without quotes, empty, or with bytes that are no text: reported, and nothing worse."""
        client, peer = self.connected()
        for line in (b"-ERR\r\n", b"-ERR \r\n", b"-ERR no quotes\r\n", b"-err\t'lower'\n", b"-ERR '\xff\xfe'\r\n", b"-ERR '\x1b[2J'\r\n"):
            peer.send(line)
        self.assertEqual(len(self.told(ServerErrorEvent)), 6)
        self.assertTrue(client.is_connected)
        self.assertFalse([line for line in self.logged() if "\x1b" in line], "a control character reached the log")

    def test_storm(self) -> None:
        """Thousands of denied publishes are all told and counted; the log gets a bounded number."""
        client, peer = self.connected()
        peer.send(b"-ERR 'Permissions Violation for Publish to \"s\"'\r\n" * 10_000)
        self.assertEqual(len(self.told(ServerErrorEvent)), 10_000)
        self.assertEqual(client.stats.server_errors, 10_000)
        self.assertLessEqual(len([line for line in self.logged() if "Permissions" in line]), 100)
        self.assertTrue(client.is_connected)

    def test_too_long(self) -> None:
        """A text without an end ends the connection as any line that is too long does."""
        client, peer = self.connected(max_line=1000)
        peer.send(b"-ERR '" + b"x" * 2000)
        self.assertIsInstance(self.told(Disconnected)[0].error, errors.LineTooLongError)
        self.assertTrue(client.is_connected)

    def test_broken_info(self) -> None:
        """A later INFO that cannot be read is reported, and the connection goes on with what it knew."""
        client, peer = self.connected()
        peer.send(b"INFO {bad\r\n")
        (event,) = self.told(ServerErrorEvent)
        self.assertIsInstance(event.error, errors.InvalidInfoError)
        self.assertTrue(client.is_connected)
        self.assertEqual(client.max_payload, 1048576)


class BreachTests(ClientTestCase):
    def test_breach_of_the_protocol(self) -> None:
        """It is reported as an error and as the reason of the loss, once each, and no message behind it counts."""
        for garbage, kind in (
            (b"POO\r\n", errors.UnknownOperationError),
            (b"MSG a 1\r\n", errors.MalformedLineError),
            (b"MSG a 1 3\r\nabcPING\r\n", errors.MissingTerminatorError),
            (b"MSG a 1 999999999999\r\n", errors.MessageTooLargeError),
        ):
            self.setUp()
            client, peer = self.connected()
            sub = client.subscribe("a")
            self.network.advance()
            peer.send(garbage + b"MSG a 1 1\r\nx\r\n")
            peer.send(b"MSG a 1 1\r\nx\r\n")
            self.assertEqual([type(event.error) for event in self.told(ServerErrorEvent)], [kind])
            self.assertEqual([type(event.error) for event in self.told(Disconnected)], [kind])
            self.assertTrue(peer.wire.aborted)
            self.assertTrue(client.is_connected)
            self.assertEqual(sub.delivered, 0)
            self.tearDown()

    def test_without_reconnecting(self) -> None:
        """Where reconnecting is not allowed it is the end, with this reason."""
        client, peer = self.connected(allow_reconnect=False)
        peer.send(b"POO\r\n")
        self.network.advance()
        self.assertIs(client.status, ClientStatus.CLOSED)
        error = self.assertRaises(errors.ConnectionClosedError, client.publish, "a")
        self.assertIn("POO", str(error))

    def test_again_and_again(self) -> None:
        """A server that breaks the protocol each time is not hammered: the waits grow."""
        self.connected()
        self.network.dials.clear()
        self.server.interceptor = lambda session, frame: session.send(b"PONG\r\nPOO\r\n") if isinstance(frame, PingFrame) else None
        self.server.peer.send(b"POO\r\n")
        self.network.advance(10)
        self.assertLess(len(self.network.dials), 10)
