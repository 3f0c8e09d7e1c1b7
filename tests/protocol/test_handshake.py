"""The beginning of a connection: INFO, TLS, CONNECT and the first PONG."""

from __future__ import annotations

import base64
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.protocol import CloseReason, EventType

from .connections import S, closed, connect_fields, connected, greet, info, new, received, selected, types
from .wire import hmsg, msg, pieces, read_commands


class HandshakeTests(SynchronousTestCase):
    """From INFO to the first PONG."""

    def test_steps(self) -> None:
        """INFO asks for CONNECT; after CONNECT and PING the PONG makes it connected."""
        proto = new()
        server = proto.select_server()
        self.assertEqual((server.host, server.port, proto.current_server), ("one", 4222, server))
        self.assertEqual(proto.server_info, None)
        (request,) = received(proto, info(server_name="n1"))
        self.assertIs(request.type, EventType.CONNECT_REQUEST)
        self.assertEqual((request.body.server_name, proto.server_info), ("n1", request.body))
        self.assertEqual([command.name for command in read_commands(proto.connect() + proto.ping())], ["CONNECT", "PING"])
        events = received(proto, b"PONG\r\n")
        self.assertEqual(types(events), ["CONNECTED", "PONG"])
        self.assertIs(events[0].body, proto.server_info)
        self.assertIs(proto.state, S.CONNECTED)

    def test_events_are_equal_to_their_types(self) -> None:
        """An event can be compared with a type by ``==`` and by its ``type``, a message as well."""
        proto = connected()
        proto.subscribe("a", sid=1)
        message, pong = received(proto, msg(b"a", 1, b"hi") + b"PONG\r\nINFO {}\r\n")
        self.assertTrue(message == EventType.MSG and message.type is EventType.MSG and message.body is message)
        self.assertTrue(pong == EventType.INFO and pong != EventType.MSG and pong.type is EventType.INFO)
        self.assertFalse(message == EventType.INFO or message == pong or pong == "INFO")
        self.assertEqual(len({message, pong, message}), 2)

    def test_info_in_any_split(self) -> None:
        """INFO may come byte by byte."""
        proto = selected()
        self.assertEqual(types(received(proto, *pieces(info(), 1))), ["CONNECT_REQUEST"])

    def test_empty_info(self) -> None:
        """An INFO without any keys is enough to connect."""
        proto = selected()
        received(proto, b"INFO {}\r\n")
        self.assertEqual(proto.max_payload, 1_048_576)
        self.assertFalse(connect_fields(proto)["headers"])

    def test_something_else_first(self) -> None:
        """A server that does not begin with INFO is a protocol error, whatever legal line it sends, and nothing is delivered."""
        for line in (b"PING\r\n", b"PONG\r\n", b"+OK\r\n", msg(b"a", 1, b"hi"), hmsg(b"a", 1, b"NATS/1.0\r\n\r\n")):
            for data in (line, line + info(), line + b"POO\r\n", line + line):
                proto = connected()
                proto.subscribe("a", sid=1)
                proto.receive_eof_from_transport()
                proto.select_server()
                proto.events_received()
                events = received(proto, data)
                self.assertEqual(types(events), ["ERROR", "CLOSED"], data)
                self.assertIsInstance(events[0].body, errors.UnexpectedMessageError)
                self.assertEqual((proto.data_to_send(), proto.subscriptions.records[1].delivered), (b"", 0))

    def test_refused_before_info(self) -> None:
        """A server that says why it refuses before any INFO is heard."""
        proto = selected()
        (event,) = received(proto, b"-ERR 'maximum connections exceeded'\r\n")
        self.assertIsInstance(event.body, errors.MaxConnectionsExceededError)
        proto.receive_eof_from_server()
        self.assertIs(closed(proto.events_received()).error, event.body)

    def test_refused_after_info(self) -> None:
        """INFO and the reason of a refusal may come together, before CONNECT could be sent."""
        proto = selected()
        events = received(proto, info() + b"-ERR 'maximum connections exceeded'\r\n")
        self.assertEqual(types(events), ["CONNECT_REQUEST", "ERROR"])
        proto.receive_eof_from_transport()
        self.assertIsInstance(closed(proto.events_received()).error, errors.MaxConnectionsExceededError)
        self.assertIsInstance(proto.pool.servers[-1].last_error, errors.MaxConnectionsExceededError)

    def test_broken_info(self) -> None:
        """A first INFO that cannot be read is one typed error, and the next server is next."""
        for text in (b"null", b"[]", b"{bad", b'{"max_payload":"x"}', b""):
            proto = selected()
            events = received(proto, b"INFO " + text + b"\r\nPING\r\n")
            self.assertEqual(types(events), ["ERROR", "CLOSED"], text)
            self.assertIsInstance(events[0].body, errors.InvalidInfoError)
            self.assertEqual(proto.select_server().host, "two")

    def test_error_instead_of_pong(self) -> None:
        """An -ERR in the place of the PONG is an event with its text, and the reason of the end."""
        proto = selected()
        received(proto, info())
        proto.connect(), proto.ping()
        (event,) = received(proto, b"-ERR 'Authorization Violation'\r\n")
        self.assertEqual((event.type, event.body.message), (EventType.ERROR, "Authorization Violation"))
        self.assertIs(proto.state, S.WAITING_FOR_SERVER_PONG)
        proto.receive_eof_from_server(ConnectionResetError())
        end = closed(proto.events_received())
        self.assertEqual((end.reason, end.error), (CloseReason.SERVER, event.body))

    def test_pong_and_info_together(self) -> None:
        """A server may put a second INFO right behind the first PONG; its servers join the pool."""
        proto = selected()
        received(proto, info())
        proto.connect(), proto.ping()
        events = received(proto, b"PONG\r\n" + info(connect_info=True, connect_urls=["10.0.0.9:4222"]).replace(b"\r\n", b" \r\n"))
        self.assertEqual(types(events), ["CONNECTED", "PONG", "INFO"])
        self.assertEqual([server.host_port for server in proto.servers_discovered()], ["10.0.0.9:4222"])
        self.assertEqual(proto.servers_discovered(), [])

    def test_servers_of_the_first_info(self) -> None:
        """The servers of the first INFO join the pool when the handshake is complete, and not for a server that refuses us."""
        proto = selected()
        received(proto, info(connect_urls=["10.0.0.9:4222"]))
        self.assertEqual(len(proto.pool.servers), 3)
        proto.connect(), proto.ping()
        received(proto, b"PONG\r\n")
        self.assertEqual(len(proto.pool.servers), 4)
        self.assertEqual([server.host for server in proto.servers_discovered()], ["10.0.0.9"])

    def test_verbose(self) -> None:
        """With ``verbose`` the server's +OKs are taken and mean nothing."""
        proto = selected(verbose=True)
        received(proto, info())
        self.assertTrue(connect_fields(proto)["verbose"])
        proto.ping()
        self.assertEqual(types(received(proto, b"+OK\r\nPONG\r\n+OK\r\n")), ["CONNECTED", "PONG"])

    def test_connect_says_no_more_than_it_should(self) -> None:
        """CONNECT has the agreed fields, from the options that are meant for the server, and no others."""
        proto = selected(name="me", echo=False, pedantic=True, no_responders=False, tls_ca_file="/secret/path")
        proto.tls_established()
        received(proto, info())
        fields = connect_fields(proto)
        version = fields.pop("version")
        self.assertRegex(version, r"^\d+\.\d+")
        self.assertEqual(
            fields,
            {
                "verbose": False, "pedantic": True, "tls_required": True, "lang": "python-twisted", "protocol": 1, "echo": False,
                "headers": True, "no_responders": False, "name": "me",
            },
        )  # fmt: skip

    def test_connect_without_headers(self) -> None:
        """A server without headers is asked neither for headers nor for no-responders, which would need them."""
        proto = selected()
        received(proto, info(headers=False))
        fields = connect_fields(proto)
        self.assertEqual((fields["headers"], fields["no_responders"]), (False, False))

    def test_no_echo_needs_a_new_server(self) -> None:
        """``echo=False`` with a server too old for it is an error before anything is sent, and the connection stays where it is."""
        proto = selected(echo=False)
        received(proto, info(proto=0))
        self.assertRaises(errors.ConfigurationError, proto.connect)
        self.assertIs(proto.state, S.WAITING_FOR_CLIENT_CONNECT)

    def test_credentials_for_the_nonce(self) -> None:
        """The authenticator is asked at each connect, with the nonce of this server, and its error changes nothing."""
        asked: list[tuple[str, bytes]] = []

        def sign(nonce: bytes) -> bytes:
            asked.append((proto.current_server.host if proto.current_server else "", nonce))
            if nonce == b"bad":
                raise OSError("no key")
            return nonce * 32

        key = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
        proto = selected(nkey_public=key, sign_nonce=sign)
        received(proto, info(nonce="bad", auth_required=True))
        self.assertRaises(errors.CredentialsError, proto.connect)
        self.assertIs(proto.state, S.WAITING_FOR_CLIENT_CONNECT)
        proto.receive_eof_from_client()
        proto.select_server()
        received(proto, info(nonce="n2", auth_required=True))
        fields = connect_fields(proto)
        self.assertEqual((fields["nkey"], fields["sig"]), (key, base64.urlsafe_b64encode(b"n2" * 32).decode().rstrip("=")))
        self.assertEqual(asked, [("one", b"bad"), ("two", b"n2")])

    def test_a_strange_nonce(self) -> None:
        """A nonce that is no proper text does not break CONNECT."""
        proto = selected()
        received(proto, b'INFO {"nonce":"\\ud800"}\r\n')
        self.assertEqual(read_commands(proto.connect())[0].name, "CONNECT")

    def test_messages_before_the_first_pong(self) -> None:
        """What a subscription gets while the first PONG is not there yet is delivered."""
        proto = selected()
        received(proto, info())
        proto.connect(), proto.subscribe("a", sid=1), proto.ping()
        self.assertEqual(types(received(proto, msg(b"a", 1, b"hi") + b"PONG\r\n")), ["MSG", "CONNECTED", "PONG"])


class TLSTests(SynchronousTestCase):
    """TLS: when it has to start, and what may come before it."""

    def test_upgrade_is_due(self) -> None:
        """TLS starts behind INFO when the server, the URL, an option, or the server's past asks for it."""
        cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({}, {"tls_required": True}),
            ({"tls": True}, {"tls_required": True}),
            ({"tls": True}, {"tls_available": True}),
            ({"servers": "tls://one"}, {"tls_available": True}),
            ({"tls_ca_file": "ca.pem"}, {"tls_available": True}),
        ]
        for options, keys in cases:
            proto = selected(**options)
            self.assertEqual(types(received(proto, info(**keys))), ["CONNECT_REQUEST"])
            self.assertTrue(proto.tls_upgrade_due and not proto.encrypted)
            self.assertRaises(errors.ConnectionStateError, proto.connect)
            proto.tls_established()
            self.assertTrue(proto.encrypted and not proto.tls_upgrade_due)
            self.assertTrue(connect_fields(proto)["tls_required"])

    def test_no_upgrade(self) -> None:
        """A server that only offers TLS is spoken to in the clear when nobody asks for it, or with ``tls=False``."""
        for options in ({}, {"tls": False}):
            proto = selected(**options)
            received(proto, info(tls_available=True))
            self.assertFalse(proto.tls_upgrade_due)
            self.assertFalse(connect_fields(proto)["tls_required"])

    def test_not_available(self) -> None:
        """TLS that is wanted and not offered is an error before CONNECT: nothing is ever sent to that server."""
        for options in ({"tls": True}, {"servers": "tls://one,tls://two"}, {"tls_ca_file": "ca.pem"}):
            proto = selected(**options)
            events = received(proto, info())
            self.assertEqual(types(events), ["ERROR", "CLOSED"])
            self.assertIsInstance(events[0].body, errors.TLSNotAvailableError)
            self.assertIn("one:4222", str(events[0].body))
            self.assertRaises(errors.ConnectionDeadError, proto.connect)
            self.assertEqual(proto.data_to_send(), b"")

    def test_forbidden(self) -> None:
        """With ``tls=False`` a server that requires TLS is an error of its own."""
        events = received(selected(tls=False), info(tls_required=True))
        self.assertEqual(types(events), ["ERROR", "CLOSED"])
        self.assertIs(type(events[0].body), errors.TLSError)

    def test_never_again_in_the_clear(self) -> None:
        """A server that was once reached by TLS is not spoken to in the clear when it no longer offers it."""
        proto = new(servers="nats://one")
        proto.select_server()
        greet(proto, tls_required=True)
        proto.receive_eof_from_transport()
        proto.select_server()
        proto.events_received()
        events = received(proto, info())
        self.assertIsInstance(events[0].body, errors.TLSNotAvailableError)

    def test_a_server_that_only_said_tls(self) -> None:
        """What a server says before TLS has started binds nobody: without the handshake nothing is remembered."""
        proto = new(servers="nats://one")
        proto.select_server()
        received(proto, info(tls_required=True))
        proto.receive_eof_from_transport()
        proto.select_server()
        proto.events_received()
        self.assertEqual(types(received(proto, info())), ["CONNECT_REQUEST"])
        self.assertFalse(proto.tls_upgrade_due)

    def test_bytes_behind_info(self) -> None:
        """Bytes that follow INFO in the clear where TLS has to start are refused and not looked at, in one piece or later."""
        for injected in (b"PING\r\n", b"x", b"\r\n", info(connect_urls=["evil:1"]), msg(b"a", 1, b"hi")):
            proto = selected()
            events = received(proto, info(tls_required=True) + injected)
            self.assertEqual(types(events), ["ERROR", "CLOSED"])
            self.assertIsInstance(events[0].body, errors.UntrustedDataError)
            later = selected()
            events = received(later, info(tls_required=True), injected)
            self.assertEqual(types(events), ["CONNECT_REQUEST", "ERROR", "CLOSED"])
            self.assertIsInstance(events[1].body, errors.UntrustedDataError)
            for dead in (proto, later):
                self.assertEqual(dead.data_to_send(), b"")
                self.assertRaises(errors.ConnectionDeadError, dead.tls_established)
                self.assertEqual(len(dead.pool.servers), 3)

    def test_bytes_behind_info_in_any_split(self) -> None:
        """However the bytes are cut, none that came in the clear behind INFO passes for encrypted."""
        data = info(tls_required=True) + b"PING\r\n"
        for place in range(1, len(data)):
            proto = selected()
            for part in (data[:place], data[place:]):
                if proto.state is not S.CLOSED:
                    proto.receive_data_from_server(part)
            events = proto.events_received()
            self.assertEqual(types(events)[-2:], ["ERROR", "CLOSED"], place)
            self.assertIsInstance(events[-2].body, errors.UntrustedDataError)

    def test_no_bytes_are_no_bytes(self) -> None:
        """An empty read while TLS has to start does no harm."""
        proto = selected()
        received(proto, info(tls_required=True), b"")
        self.assertTrue(proto.tls_upgrade_due)

    def test_tls_first(self) -> None:
        """With TLS before the first byte there is no upgrade, and INFO is to be trusted."""
        proto = selected(tls=True, tls_first=True)
        proto.tls_established()
        self.assertEqual(types(received(proto, info(connect_urls=["two:1"]))), ["CONNECT_REQUEST"])
        self.assertFalse(proto.tls_upgrade_due)
        self.assertTrue(connect_fields(proto)["tls_required"])
        proto.ping()
        received(proto, b"PONG\r\n")
        self.assertEqual([server.host_port for server in proto.servers_discovered()], ["two:1"])

    def test_part_of_info_before_tls(self) -> None:
        """The beginning of an INFO that came in the clear is not taken for the beginning of the encrypted one."""
        for part in (b"I", info()[:20], b"MSG a 1 5\r\nx"):
            proto = selected(tls=True, tls_first=True)
            proto.receive_data_from_server(part)
            proto.tls_established()
            events = proto.events_received()
            self.assertEqual(types(events), ["ERROR", "CLOSED"])
            self.assertIsInstance(events[0].body, errors.UntrustedDataError)

    def test_info_before_tls_is_for_tls_alone(self) -> None:
        """The servers of an INFO that came in the clear do not join the pool; those of one that came encrypted do."""
        proto = selected()
        received(proto, info(tls_required=True, connect_urls=["evil:1"]))
        proto.tls_established()
        proto.connect(), proto.ping()
        received(proto, b"PONG\r\n")
        self.assertEqual((proto.servers_discovered(), len(proto.pool.servers)), ([], 3))
        received(proto, info(tls_required=True, connect_urls=["good:1"]))
        self.assertEqual([server.host for server in proto.servers_discovered()], ["good"])

    def test_info_between_tls_and_pong(self) -> None:
        """An INFO that comes encrypted before the PONG replaces the one in the clear: its servers join."""
        proto = selected()
        received(proto, info(tls_required=True, connect_urls=["evil:1"]))
        proto.tls_established()
        events = received(proto, info(tls_required=True, connect_urls=["good:1"], max_payload=77))
        self.assertEqual((types(events), proto.max_payload), (["INFO"], 77))
        proto.connect(), proto.ping()
        received(proto, b"PONG\r\n")
        self.assertEqual([server.host for server in proto.servers_discovered()], ["good"])

    def test_encryption_is_of_one_connection(self) -> None:
        """The next connection begins in the clear again, and INFO is trusted anew."""
        proto = greet(selected(), tls_required=True)
        proto.receive_eof_from_transport()
        proto.select_server()
        self.assertFalse(proto.encrypted)
        greet(proto, connect_urls=["good:1"])
        self.assertEqual([server.host for server in proto.servers_discovered()], ["good"])
