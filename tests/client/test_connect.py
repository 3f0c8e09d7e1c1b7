"""The first connection: the handshake, what may go wrong in it, and giving up."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from pynats_twisted import connect
from pynats_twisted.client import ClientStatus
from pynats_twisted.client.status import Closed, Connected, ConnectFailed, DiscoveredServers, ServerErrorEvent
from pynats_twisted.errors import (
    AuthorizationViolationError,
    ConfigurationError,
    ConnectionClosedError,
    ConnectTimeoutError,
    InvalidInfoError,
    LineTooLongError,
    MaxConnectionsExceededError,
    NoServersError,
    TransportError,
    UnexpectedMessageError,
)
from pynats_twisted.testing.server_frames import PingFrame

from .network import info_line, tcp_endpoint
from .support import ClientTestCase


class HandshakeTests(ClientTestCase):
    def test_connected(self) -> None:
        """``connect`` fires with a client that knows its server, and the CONNECT says who we are and nothing of the options."""
        begun = connect(self.network, "nats://one", name="demo", endpoint_factory=tcp_endpoint, echo=False)
        self.assertNoResult(begun)
        self.network.advance()
        client = self.successResultOf(begun)
        self.clients.append(client)
        self.assertIs(client.status, ClientStatus.CONNECTED)
        self.assertEqual((client.connected_url, client.server_info.version, client.max_payload), ("nats://one:4222", "2.12.1", 1048576))
        introduction, ping = self.server.peer.frames
        self.assertIsInstance(ping, PingFrame)
        fields = introduction.options
        self.assertEqual(
            set(fields),
            {"verbose", "pedantic", "tls_required", "lang", "version", "protocol", "echo", "headers", "no_responders", "name"},
        )
        self.assertEqual((fields["protocol"], fields["echo"], fields["headers"], fields["no_responders"]), (1, False, True, True))
        self.assertEqual((fields["name"], fields["tls_required"]), ("demo", False))

    def test_info_byte_by_byte(self) -> None:
        """A server may take its time over INFO, as long as it is done within ``connect_timeout``."""
        self.server.greeting = b""
        client = self.new_client(connect_timeout=5.0)
        begun = client.start()
        self.network.advance()
        for byte in info_line(**self.server.info):
            self.network.advance(0.01)
            self.server.peer.send(bytes([byte]))
        self.network.advance()
        self.assertIs(self.successResultOf(begun), client)

    def test_empty_info(self) -> None:
        """An INFO without keys is enough to connect with."""
        self.server.greeting = b"INFO {}\r\n"
        client, _ = self.connected()
        self.assertEqual(client.max_payload, 1048576)

    def test_info_behind_pong(self) -> None:
        """A server says PONG and a second INFO in one piece: its servers are in the pool at once, and told once."""
        self.server.answer_pings = False
        client = self.new_client()
        begun = client.start()
        self.network.advance()
        self.server.peer.send(b"PONG\r\n" + info_line(**self.server.info, connect_urls=["10.0.0.2:4222"], connect_info=True))
        self.successResultOf(begun)
        self.assertEqual(self.told(DiscoveredServers), [DiscoveredServers(("nats://10.0.0.2:4222",))])
        self.assertEqual(client.servers, ("nats://one:4222", "nats://10.0.0.2:4222"))

    def test_verbose(self) -> None:
        """With ``verbose`` the server's ``+OK`` for each line are read over."""
        client, peer = self.connected(verbose=True)
        sub = client.subscribe("a")
        self.watch(client.flush())
        self.network.advance()
        peer.publish("a", b"1")
        self.assertEqual(self.successResultOf(sub.next()).data, b"1")

    def test_second_server(self) -> None:
        """Where the first server refuses, the second one is used, in the same call and without a wait."""
        self.network.server("two:4222")
        self.network.refuse("one:4222")
        client = self.new_client(["nats://one", "nats://two"])
        begun = client.start()
        self.network.advance()
        self.successResultOf(begun)
        self.assertEqual(client.connected_url, "nats://two:4222")
        self.assertEqual(self.network.dials, [(0.0, "one:4222"), (0.0, "two:4222")])
        (failed,) = self.told(ConnectFailed)
        self.assertEqual(failed.url, "nats://one:4222")
        self.assertIsInstance(failed.error, TransportError)

    def test_own_endpoints_by_default(self) -> None:
        """Without ``endpoint_factory`` names are resolved by the reactor, to all their addresses."""
        begun = connect(self.network, "nats://one")
        self.network.advance()
        self.clients.append(self.successResultOf(begun))
        self.assertTrue(self.server.peer.wire.getTcpNoDelay())

    def test_when_connected(self) -> None:
        """Who asks for the connection is told when it is there; who asks later, at once."""
        client = self.new_client()
        early = client.when_connected()
        client.start()
        self.assertNoResult(early)
        self.network.advance()
        self.assertIs(self.successResultOf(early), client)
        self.assertIs(self.successResultOf(client.when_connected()), client)

    def test_when_connected_cancelled(self) -> None:
        """One who gives up waiting takes nobody else along."""
        client = self.new_client()
        one, other = client.when_connected(), client.when_connected()
        client.start()
        one.cancel()
        self.network.advance()
        self.failureResultOf(one, CancelledError)
        self.successResultOf(other)


class FailureTests(ClientTestCase):
    def failed(self, expected: type[BaseException], **options: Any) -> BaseException:
        """The reason why the only server could not be connected to."""
        client = self.new_client(**options)
        begun = client.start()
        self.network.advance()
        error = self.failureResultOf(begun, NoServersError).value
        ((url, reason),) = error.reasons
        self.assertEqual(url, "nats://one:4222")
        self.assertIsInstance(reason, expected)
        self.assertIs(client.status, ClientStatus.CLOSED)
        self.assertIs(self.told(Closed)[0].error, error)
        return reason

    def test_nobody_there(self) -> None:
        """One error lists the reason of each server."""
        for host in ("one:4222", "two:4222"):
            self.network.refuse(host)
        begun = connect(self.network, "nats://user:secret@one,nats://two", endpoint_factory=tcp_endpoint, shuffle_servers=False)
        self.network.advance()
        error = self.failureResultOf(begun, NoServersError).value
        self.assertEqual([url for url, _ in error.reasons], ["nats://one:4222", "nats://two:4222"])
        self.assertNotIn("secret", str(error))

    def test_no_answer_to_the_dial(self) -> None:
        """A host that swallows everything costs ``connect_timeout``, and the next server is tried."""
        self.network.black_hole("one:4222")
        self.network.server("two:4222")
        client = self.new_client(["nats://one", "nats://two"], connect_timeout=2.0)
        begun = client.start()
        self.network.advance(1.99)
        self.assertNoResult(begun)
        self.network.advance(0.01)
        self.successResultOf(begun)
        (failed,) = self.told(ConnectFailed)
        self.assertIsInstance(failed.error, ConnectTimeoutError)

    def test_timeout_names_the_phase(self) -> None:
        """A server that stops in the middle of the handshake is left, and the error says where it stopped."""
        for phase, greeting in (("no INFO came", b""), ("CONNECT was not answered", None), ("no INFO came", b"INFO {")):
            self.server.greeting = greeting
            self.server.answer_pings = False
            client = self.new_client(connect_timeout=2.0)
            begun = client.start()
            self.network.advance(2.0)
            self.network.advance()
            ((_, reason),) = self.failureResultOf(begun, NoServersError).value.reasons
            self.assertIsInstance(reason, ConnectTimeoutError)
            self.assertIn(phase, str(reason))
            self.assertIn("2 s", str(reason))
            self.assertTrue(self.server.peer.wire.aborted)

    def test_one_timeout_for_all(self) -> None:
        """Dialling and the handshake share ``connect_timeout``."""
        self.server.latency = 1.5
        self.server.greeting = b""
        client = self.new_client(connect_timeout=2.0)
        begun = client.start()
        self.network.advance(1.5)
        self.assertEqual(len(self.server.peers), 1)
        self.network.advance(0.49)
        self.assertNoResult(begun)
        self.network.advance(0.01)
        self.network.advance()
        self.failureResultOf(begun, NoServersError)

    def test_not_nats(self) -> None:
        """Something that is no NATS server is told apart by its first line."""
        self.server.greeting = b"MSG a 1 0\r\n\r\n"
        self.failed(UnexpectedMessageError)

    def test_endless_line(self) -> None:
        """A line without an end is not gathered for ever."""
        self.server.greeting = b"INFO " + b"x" * 2000
        self.failed(LineTooLongError, max_line=100, max_info_line=1000)

    def test_broken_info(self) -> None:
        """An INFO that cannot be read is one typed error, and the next server is tried."""
        for broken in (b"null", b"[]", b"{bad", b'{"max_payload":"x"}'):
            self.network.server("two:4222")
            self.server.greeting = b"INFO " + broken + b"\r\n"
            client, _ = self.connected(["nats://one", "nats://two"])
            self.assertEqual(client.connected_url, "nats://two:4222")
            self.assertIsInstance(self.told(ConnectFailed)[-1].error, InvalidInfoError)

    def test_refused_credentials(self) -> None:
        """The reason is the server's own, although the connection was lost behind it."""
        self.server.reject()
        reason = self.failed(AuthorizationViolationError)
        self.assertEqual(str(reason), "Authorization Violation")
        self.assertEqual(len(self.told(ServerErrorEvent)), 1)

    def test_full_server(self) -> None:
        """A server without room may say so before CONNECT was answered."""
        self.server.greeting = info_line(**self.server.info) + b"-ERR 'maximum connections exceeded'\r\n"
        self.server.interceptor = lambda session, frame: self.server.peer.hang_up()
        self.failed(MaxConnectionsExceededError)

    def test_hung_up(self) -> None:
        """A server that hangs up without a word is an error that says when."""
        self.server.interceptor = lambda session, frame: self.server.peer.hang_up()
        reason = self.failed(Exception)
        self.assertIn("before the handshake was complete", str(reason))

    def test_echo_needs_a_new_server(self) -> None:
        """``echo=False`` with a server that is too old for it fails before CONNECT."""
        self.server.info["proto"] = 0
        self.failed(ConfigurationError, echo=False)
        self.assertEqual(self.server.peer.frames, [])

    def test_endpoint_factory_raises(self) -> None:
        """What goes wrong while an endpoint is made, or asked to connect, is the reason of that attempt."""

        class Broken:
            def connect(self, factory: Any) -> Any:
                raise RuntimeError("no such thing")

        def raising(reactor: Any, server: Any) -> Any:
            raise RuntimeError("no such thing")

        for factory in (raising, lambda reactor, server: Broken()):
            reason = self.failed(TransportError, endpoint_factory=factory)
            self.assertIn("no such thing", str(reason))
            self.events.clear()

    def test_endpoint_that_builds_a_protocol_in_vain(self) -> None:
        """An endpoint may fail when it has built the protocol already, or connected and lost it: one attempt, and closing works."""

        class Failing:
            def __init__(self, connects: bool) -> None:
                self.connects = connects

            def connect(self, factory: Any) -> Any:
                attempts.append(self)
                protocol = factory.buildProtocol(None)
                if self.connects:
                    protocol.makeConnection(StringTransport())
                    protocol.connectionLost(Failure(ConnectionDone()))
                return fail(ConnectionDone())

        for connects in (False, True):
            attempts: list[Any] = []
            client = self.new_client(
                endpoint_factory=lambda reactor, server, connects=connects: Failing(connects),
                retry_on_failed_connect=True,
                reconnect_wait=1.0,
                reconnect_wait_factor=1.0,
            )
            client.start()
            self.network.advance(3.5)
            self.assertEqual(len(attempts), 4)
            closed = client.close()
            self.network.advance()
            self.successResultOf(closed)

    def test_websocket_url(self) -> None:
        """A scheme that is not spoken yet is a clear error."""
        begun = connect(self.network, "ws://one")
        ((_, reason),) = self.failureResultOf(begun, NoServersError).value.reasons
        self.assertIsInstance(reason, ConfigurationError)

    def test_calls_after_giving_up(self) -> None:
        """Each call on a client that never connected says why."""
        self.network.refuse("one:4222")
        client = self.new_client()
        begun = client.start()
        self.network.advance()
        error = self.failureResultOf(begun, NoServersError).value
        for call in (lambda: client.publish("a"), lambda: client.subscribe("a"), lambda: client.request("a")):
            raised = self.assertRaises((NoServersError, ConnectionClosedError), call)
            self.assertIn("one:4222", str(raised))
        self.failureResultOf(client.flush(), NoServersError, ConnectionClosedError)
        self.assertIs(self.failureResultOf(client.when_connected()).value, error)

    def test_bad_options(self) -> None:
        """An option that does not exist is named, before anything is begun."""
        error = self.assertRaises(ConfigurationError, connect, self.network, "nats://one", ping_intervall=1)
        self.assertIn("ping_interval", str(error))
        self.assertEqual(self.network.dials, [])

    def test_started_twice(self) -> None:
        """A client is started once."""
        client, _ = self.connected()
        self.assertRaises(ConfigurationError, client.start)

    def test_started_after_close(self) -> None:
        """A client that is closed, or about to be, does not begin any more."""
        client = self.new_client()
        client.close()
        self.assertRaises(ConfigurationError, client.start)
        self.network.advance()
        self.assertRaises(ConfigurationError, client.start)
        self.assertEqual(self.network.dials, [])


class RetryTests(ClientTestCase):
    def test_in_the_background(self) -> None:
        """With ``retry_on_failed_connect`` the client is given at once, takes publishes, and connects when a server appears."""
        self.network.refuse("one:4222")
        client = self.new_client(retry_on_failed_connect=True, reconnect_wait=0.5)
        self.assertIs(self.successResultOf(client.start()), client)
        self.network.advance()
        self.assertIs(client.status, ClientStatus.CONNECTING)
        client.publish("a", b"early")
        self.network.accept("one:4222")
        self.network.advance(0.5)
        self.assertIs(client.status, ClientStatus.CONNECTED)
        self.assertEqual(self.server.peer.written(), [b"early"])
        kinds = [type(event) for event in self.events]
        self.assertEqual(kinds, [ConnectFailed, Connected])

    def test_wrong_credentials(self) -> None:
        """The same authentication error twice ends it; each attempt is told."""
        self.server.reject(times=100)
        client = self.new_client(retry_on_failed_connect=True, reconnect_wait=0.5)
        client.start()
        self.network.advance()
        self.assertIs(client.status, ClientStatus.CONNECTING)
        self.network.advance(0.5)
        self.assertIs(client.status, ClientStatus.CLOSED)
        self.assertEqual([type(event.error) for event in self.told(ConnectFailed)], [AuthorizationViolationError] * 2)
        self.assertEqual(len(self.network.dials), 2)
        (closed,) = self.told(Closed)
        self.assertIsInstance(closed.error, NoServersError)
        self.assertTrue([text for text in self.logged() if "gave up" in text], "giving up was not logged")

    def test_wrong_credentials_may_become_right(self) -> None:
        """``ignore_auth_error_abort`` goes on."""
        self.server.reject(times=5)
        client = self.new_client(retry_on_failed_connect=True, reconnect_wait=0.5, reconnect_wait_max=0.5, ignore_auth_error_abort=True)
        client.start()
        self.network.advance(2)
        self.network.advance(0.5)
        self.assertIs(client.status, ClientStatus.CONNECTED)


class CancelTests(ClientTestCase):
    """``connect()`` is cancelled, or the client closed, in each phase of connecting."""

    def phases(self) -> list[tuple[str, Any]]:
        def dialling() -> None:
            self.network.black_hole("one:4222")

        def silent() -> None:
            self.server.greeting = b""

        def unanswered() -> None:
            self.server.answer_pings = False

        def tls() -> None:
            self.network.tls = "possible"
            self.server.info["tls_required"] = True

        def waiting() -> None:
            self.network.stop_listening("one:4222")

        return [("dialling", dialling), ("no INFO", silent), ("no PONG", unanswered), ("TLS", tls), ("between attempts", waiting)]

    def begun(self, prepare: Any) -> tuple[Any, Any]:
        self.setUp()
        prepare()
        client = self.new_client(tls_options=None, retry_on_failed_connect=prepare.__name__ == "waiting")
        begun = client.start()
        self.network.advance()
        return client, begun

    def ended(self, client: Any) -> None:
        self.assertIs(client.status, ClientStatus.CLOSED)
        dials = len(self.network.dials)
        self.network.advance(60)
        self.assertEqual(len(self.network.dials), dials)
        self.assertIsNone(self.told(Closed)[0].error)
        self.tearDown()

    def test_cancelled(self) -> None:
        """Cancelling ``connect()`` ends the attempt: no connection, no timer, nobody waiting."""
        for name, prepare in self.phases():
            client, begun = self.begun(prepare)
            if begun.called:
                client.close()
            else:
                begun.cancel()
                self.failureResultOf(begun, CancelledError)
            self.network.advance()
            self.assertIs(client.status, ClientStatus.CLOSED, name)
            self.ended(client)

    def test_closed(self) -> None:
        """Closing makes ``connect()`` fail, once, and ends the attempt at once."""
        for _, prepare in self.phases():
            client, begun = self.begun(prepare)
            closed = client.close()
            self.assertNoResult(closed)
            self.network.advance()
            self.successResultOf(closed)
            if prepare.__name__ != "waiting":
                self.failureResultOf(begun, ConnectionClosedError)
            self.ended(client)

    def test_closed_before_it_began(self) -> None:
        """A client that was never started can be closed."""
        client = self.new_client()
        waiting = client.when_connected()
        closed = client.close()
        self.network.advance()
        self.successResultOf(closed)
        self.failureResultOf(waiting, ConnectionClosedError)
        self.assertEqual(self.told(Closed), [Closed(None, 0)])

    def test_late_handshake(self) -> None:
        """What a server still says after the cancelling changes nothing."""
        self.server.answer_pings = False
        client = self.new_client()
        begun = client.start()
        self.network.advance()
        begun.cancel()
        self.failureResultOf(begun, CancelledError)
        # As over TLS, where data may come until the connection is gone.
        self.server.peer.wire.protocol.dataReceived(b"PONG\r\n")
        self.network.advance()
        self.assertIs(client.status, ClientStatus.CLOSED)
        self.assertEqual(self.told(Connected), [])
        self.assertFalse(self.server.peer.wire.aborted)
