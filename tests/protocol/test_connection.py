"""The connection: handshake, TLS, PINGs, subscriptions, errors and ends."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.protocol import Closed, CloseReason, ConnectionProtocol, Event, EventType, Msg

from .connections import S, connected, greet, info, new, received, reconnect, selected, types
from .test_parser import ILLEGAL
from .test_server_errors import TEXTS
from .wire import cut, frames, hmsg, msg, pieces, read_commands


def closed(events: list[Event | Msg]) -> Closed:
    """The body of the CLOSED event, which has to be the last one and the only one."""
    assert [event.type for event in events].count(EventType.CLOSED) == 1, events
    body = events[-1].body
    assert isinstance(body, Closed), events
    return body


def connect_fields(proto: ConnectionProtocol) -> dict[str, Any]:
    """What CONNECT says."""
    (command,) = read_commands(proto.connect())
    assert command.name == "CONNECT"
    fields: dict[str, Any] = json.loads(command.text)
    return fields


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


class PingTests(SynchronousTestCase):
    """PING and PONG, both ways."""

    def test_ping_is_answered(self) -> None:
        """Each PING of the server is answered once, in every state after INFO, and makes no event."""
        for proto in (connected(), greet(selected(), tls_required=True)):
            self.assertEqual(received(proto, b"PING\r\nPING\r\n"), [])
            self.assertEqual((proto.data_to_send(), proto.data_to_send()), (b"PONG\r\nPONG\r\n", b""))

    def test_ping_with_info(self) -> None:
        """A PING right behind INFO is answered."""
        proto = selected()
        received(proto, info() + b"PING\r\n")
        self.assertEqual(proto.data_to_send(), b"PONG\r\n")

    def test_flood_of_pings(self) -> None:
        """A million PINGs cost one number: neither memory while they are read nor a million PONGs."""
        proto = connected()
        for _ in range(100):
            proto.receive_data_from_server(b"PING\r\n" * 10_000)
        self.assertEqual(proto.events_received(), [])
        self.assertEqual(proto.data_to_send(), b"PONG\r\n" * 1024)
        self.assertEqual(proto.data_to_send(), b"")

    def test_answers_belong_to_their_connection(self) -> None:
        """A PING of the last connection is not answered on the next one."""
        proto = connected()
        received(proto, b"PING\r\n")
        proto.receive_eof_from_transport()
        proto.select_server()
        self.assertEqual(proto.data_to_send(), b"")

    def test_outstanding_pings(self) -> None:
        """PINGs of ours are counted until they are answered, one PONG each, and PONG says how many are left."""
        proto = connected()
        self.assertEqual(proto.outstanding_pings, 0)
        for count in (1, 2, 3):
            self.assertEqual((proto.ping(), proto.outstanding_pings), (b"PING\r\n", count))
        events = received(proto, b"PONG\r\nPONG\r\n")
        self.assertEqual(([event.body for event in events], proto.outstanding_pings), ([2, 1], 1))

    def test_pongs_that_nobody_asked_for(self) -> None:
        """A hundred thousand PONGs without a PING make no event and do not count for PINGs to come."""
        proto = connected()
        self.assertEqual(received(proto, b"PONG\r\n" * 100_000), [])
        self.assertEqual(proto.outstanding_pings, 0)
        proto.ping()
        self.assertEqual(proto.outstanding_pings, 1)
        self.assertEqual(types(received(proto, b"PONG\r\n" * 10)), ["PONG"])
        self.assertEqual(proto.outstanding_pings, 0)

    def test_pong_before_ping_does_not_connect(self) -> None:
        """A PONG before our PING does not complete the handshake."""
        proto = selected()
        self.assertEqual(types(received(proto, info() + b"PONG\r\n")), ["CONNECT_REQUEST"])
        proto.connect()
        self.assertEqual(received(proto, b"PONG\r\n"), [])
        self.assertIs(proto.state, S.WAITING_FOR_SERVER_PONG)
        proto.ping()
        self.assertEqual(types(received(proto, b"PONG\r\n")), ["CONNECTED", "PONG"])

    def test_pings_end_with_their_connection(self) -> None:
        """PINGs that the old server did not answer are not waited for from the new one."""
        proto = connected()
        proto.ping()
        proto.ping()
        proto.receive_eof_from_transport()
        self.assertEqual(proto.outstanding_pings, 0)
        proto.select_server()
        greet(proto)
        self.assertEqual(proto.outstanding_pings, 0)
        self.assertEqual(received(proto, b"PONG\r\n"), [])


class InfoTests(SynchronousTestCase):
    """INFO after the handshake."""

    def test_new_limits_count_at_once(self) -> None:
        """A later INFO changes ``max_payload`` and whether headers are taken."""
        proto = connected()
        proto.publish("a", payload=b"x" * 100, headers={"A": "1"})
        (event,) = received(proto, info(max_payload=10, headers=False))
        self.assertEqual((event.type, event.body.max_payload, proto.max_payload), (EventType.INFO, 10, 10))
        self.assertRaises(errors.MaxPayloadExceededError, proto.publish, "a", payload=b"x" * 11)
        self.assertRaises(errors.HeadersNotSupportedError, proto.publish, "a", headers={"A": "1"})
        proto.publish("a", payload=b"x" * 10)

    def test_servers_come_and_go(self) -> None:
        """Servers that an INFO names join once, and leave with an INFO that no longer names them."""
        proto = connected()
        received(proto, info(connect_urls=["four:4222", "five:4222"]))
        self.assertEqual({server.host for server in proto.servers_discovered()}, {"four", "five"})
        received(proto, info(connect_urls=["four:4222", "five:4222"]))
        self.assertEqual(proto.servers_discovered(), [])
        received(proto, info(connect_urls=["five:4222"]))
        self.assertEqual({server.host for server in proto.pool.servers}, {"one", "two", "three", "five"})
        received(proto, info(connect_urls=[]))
        self.assertEqual(len(proto.pool.servers), 4)

    def test_lame_duck(self) -> None:
        """A server in lame duck mode says so by INFO."""
        (event,) = received(connected(), info(ldm=True))
        self.assertTrue(event.body.ldm)

    def test_broken_info_is_reported(self) -> None:
        """A later INFO that cannot be read is an error event; connection and limits stay as they are."""
        proto = connected()
        proto.subscribe("a", sid=1)
        for text in (b"null", b"{bad", b'{"max_payload":"x"}', b"[" * 1000, b'{"connect_urls":5}'):
            events = received(proto, b"INFO " + text + b"\r\n" + msg(b"a", 1, b"hi"))
            self.assertEqual(types(events), ["ERROR", "MSG"])
            self.assertIsInstance(events[0].body, errors.InvalidInfoError)
        self.assertEqual((proto.state, proto.max_payload), (S.CONNECTED, 1_048_576))

    def test_malformed_servers_do_no_harm(self) -> None:
        """Nonsense among the servers of an INFO is left out; what is right among them joins."""
        proto = connected()
        nonsense = [
            "",
            ":",
            "x:99999",
            "a b:1",
            "a\r\nb:1",
            "http://x",
            "[::1",
            "\ud800:1",
            "x:-1",
            "x:1:2",
            "\0",
            "user:pass@x:1",
            "x" * 5000 + ":1",
        ]
        self.assertEqual(types(received(proto, info(connect_urls=[*nonsense, "good:4222"]))), ["INFO"])
        self.assertEqual([server.host for server in proto.servers_discovered()], ["good"])


class SubscriptionTests(SynchronousTestCase):
    """Subscriptions and their limits, over the life of one connection and of several."""

    def test_messages_have_their_owner(self) -> None:
        """A message carries what ``subscribe`` was told about its subscription."""
        proto = connected()
        owner = object()
        self.assertEqual(proto.subscribe("a.*", "q", 7, owner), b"SUB a.* q 7\r\n")
        (message,) = received(proto, hmsg(b"a.b", 7, b"NATS/1.0\r\nA: 1\r\n\r\n", b"hi", b"r"))
        assert isinstance(message, Msg)
        self.assertIs(message.subscription, owner)
        self.assertEqual(
            (message.subject, message.sid, message.reply, message.data, dict(message.headers)), ("a.b", 7, "r", b"hi", {"A": "1"})
        )

    def test_unknown_sid(self) -> None:
        """A message for no subscription is dropped and counted; its neighbours are not."""
        proto = connected()
        proto.subscribe("a", sid=1)
        events = received(proto, msg(b"a", 1, b"1") + msg(b"a", 2, b"2") + msg(b"a", 99, b"3", b"r") + msg(b"a", 1, b"4"))
        self.assertEqual(([event.body.data for event in events], proto.unknown_sid_msgs), ([b"1", b"4"], 2))

    def test_new_sids(self) -> None:
        """A sid that was used is never proposed again, also after its subscription ended, and after a reconnect."""
        proto = connected()
        self.assertEqual(proto.new_sid(), 1)
        proto.subscribe("a", sid=proto.new_sid())
        proto.subscribe("b", sid=40)
        proto.unsubscribe(40)
        self.assertEqual(proto.new_sid(), 41)
        self.assertEqual(reconnect(proto).new_sid(), 41)

    def test_unsubscribe(self) -> None:
        """After ``unsubscribe`` nothing is delivered, and a second one is an error."""
        proto = connected()
        proto.subscribe("a", sid=1)
        self.assertEqual(proto.unsubscribe(1), b"UNSUB 1\r\n")
        self.assertEqual((received(proto, msg(b"a", 1)), proto.unknown_sid_msgs), ([], 1))
        self.assertRaises(errors.InvalidSubscriptionError, proto.unsubscribe, 1)

    def test_unsubscribe_by_subject(self) -> None:
        """A subject in the place of a sid ends all its subscriptions and no others."""
        proto = connected()
        for sid, subject in enumerate(["a", "b", "a", "a.b", "a"], 1):
            proto.subscribe(subject, "q" if sid == 3 else "", sid)
        self.assertEqual(proto.unsubscribe("a"), b"UNSUB 1\r\nUNSUB 3\r\nUNSUB 5\r\n")
        self.assertEqual(proto.resubscribe(), b"SUB b 2\r\nSUB a.b 4\r\n")
        self.assertEqual(proto.unsubscribe("b", 5), b"UNSUB 2 5\r\n")
        self.assertRaises(errors.InvalidSubscriptionError, proto.unsubscribe, "a")
        self.assertRaises(errors.InvalidSubscriptionError, proto.unsubscribe, "*")

    def test_limit(self) -> None:
        """With a limit exactly so many messages come, then UNSUBSCRIBED, and the rest is dropped."""
        proto = connected()
        proto.subscribe("a", sid=1, owner="me")
        self.assertEqual(proto.unsubscribe(1, 3), b"UNSUB 1 3\r\n")
        events = received(proto, msg(b"a", 1) * 5)
        self.assertEqual(types(events), ["MSG", "MSG", "MSG", "UNSUBSCRIBED"])
        record = events[3].body
        self.assertEqual((record.sid, record.subject, record.owner, record.delivered), (1, "a", "me", 3))
        self.assertEqual(proto.unknown_sid_msgs, 2)
        self.assertEqual(proto.resubscribe(), b"")

    def test_limit_after_some(self) -> None:
        """A limit counts from the beginning of the subscription, also when it is set later."""
        proto = connected()
        proto.subscribe("a", sid=1)
        received(proto, msg(b"a", 1) * 2)
        self.assertEqual(proto.unsubscribe(1, 3), b"UNSUB 1 3\r\n")
        self.assertEqual(types(received(proto, msg(b"a", 1) * 2)), ["MSG", "UNSUBSCRIBED"])

    def test_limit_that_was_reached(self) -> None:
        """A limit that was reached or passed ends the subscription at once, without a number for the server."""
        for limit in (1, 2):
            proto = connected()
            proto.subscribe("a", sid=1)
            received(proto, msg(b"a", 1) * 2)
            self.assertEqual(proto.unsubscribe(1, limit), b"UNSUB 1\r\n")
            self.assertEqual(received(proto, msg(b"a", 1)), [])
            self.assertEqual(proto.resubscribe(), b"")

    def test_limit_can_be_changed(self) -> None:
        """A later limit replaces an earlier one."""
        proto = connected()
        proto.subscribe("a", sid=1)
        proto.unsubscribe(1, 2)
        self.assertEqual(proto.unsubscribe(1, 4), b"UNSUB 1 4\r\n")
        self.assertEqual(types(received(proto, msg(b"a", 1) * 9)), ["MSG"] * 4 + ["UNSUBSCRIBED"])

    def test_resubscribe(self) -> None:
        """After a reconnect all subscriptions can be given again with their sids, and messages find their owners."""
        proto = connected()
        proto.subscribe("a", sid=1, owner="A")
        proto.subscribe("b.>", "q", 2, owner="B")
        proto.subscribe("c", sid=3)
        proto.unsubscribe(3)
        proto.receive_eof_from_transport()
        proto.select_server()
        proto.events_received()
        received(proto, info())
        proto.connect(), proto.ping()
        self.assertEqual(proto.resubscribe(), b"SUB a 1\r\nSUB b.> q 2\r\n")
        received(proto, b"PONG\r\n")
        events = received(proto, msg(b"a", 1) + msg(b"b.c", 2))
        self.assertEqual([event.body.subscription for event in events], ["A", "B"])

    def test_limit_over_reconnects(self) -> None:
        """Of 20 messages 10 came before the reconnect and 4 before the next: the servers are told 10 and 6, and 20 come in all."""
        proto = connected()
        proto.subscribe("a", sid=1)
        proto.unsubscribe(1, 20)
        received(proto, msg(b"a", 1) * 10)
        self.assertEqual(reconnect(proto).resubscribe(), b"SUB a 1\r\nUNSUB 1 10\r\n")
        received(proto, msg(b"a", 1) * 4)
        self.assertEqual(reconnect(proto).resubscribe(), b"SUB a 1\r\nUNSUB 1 6\r\n")
        self.assertEqual(types(received(proto, msg(b"a", 1) * 9)), ["MSG"] * 6 + ["UNSUBSCRIBED"])
        self.assertEqual(reconnect(proto).resubscribe(), b"")

    def test_limit_set_after_a_reconnect(self) -> None:
        """A limit that is set after a reconnect counts from the beginning of the subscription; the new server is told the rest."""
        proto = connected()
        proto.subscribe("a", sid=1)
        received(proto, msg(b"a", 1) * 3)
        reconnect(proto).resubscribe()
        received(proto, msg(b"a", 1) * 2)
        self.assertEqual(proto.unsubscribe(1, 9), b"UNSUB 1 6\r\n")
        self.assertEqual(types(received(proto, msg(b"a", 1) * 9)), ["MSG"] * 4 + ["UNSUBSCRIBED"])

    def test_resubscribe_while_messages_come(self) -> None:
        """Messages that came in pieces around the cut do not mix: the rest of a cut message is never taken for a new one."""
        proto = connected()
        proto.subscribe("a", sid=1)
        self.assertEqual(received(proto, b"MSG a 1 10\r\n01234"), [])
        reconnect(proto).resubscribe()
        (message,) = received(proto, msg(b"a", 1, b"whole"))
        self.assertEqual(message.body.data, b"whole")

    def test_inbound_may_exceed_max_payload(self) -> None:
        """A message may be larger than what may be published: servers of a cluster can have different limits."""
        proto = reconnect(connected(), max_payload=10)
        proto.subscribe("a", sid=1)
        (message,) = received(proto, msg(b"a", 1, b"x" * 5000))
        self.assertEqual(len(message.body.data), 5000)

    def test_message_order_with_other_events(self) -> None:
        """Events come in the order in which the server sent what caused them."""
        proto = connected()
        proto.subscribe("a", sid=1)
        proto.ping()
        events = received(proto, msg(b"a", 1) + b"PONG\r\n" + msg(b"a", 1) + info() + b"-ERR 'x'\r\n" + msg(b"a", 1))
        self.assertEqual(types(events), ["MSG", "PONG", "MSG", "INFO", "ERROR", "MSG"])


class HeldTests(SynchronousTestCase):
    """Messages that are held back or recorded, while a client moves from one server to another."""

    def test_held_messages(self) -> None:
        """While messages are held they are neither counted nor events; everything else is handled; later they are delivered in order."""
        proto = connected()
        proto.subscribe("a", sid=1, owner="me")
        proto.unsubscribe(1, 3)
        proto.held = held = []
        self.assertEqual(types(received(proto, msg(b"a", 1, b"1") + b"PING\r\n" + info() + msg(b"a", 1, b"2"))), ["INFO"])
        self.assertEqual(types(received(proto, msg(b"a", 1, b"3") + msg(b"b", 2, b"x"))), [])
        self.assertEqual((proto.data_to_send(), proto.subscriptions.records[1].delivered), (b"PONG\r\n", 0))
        self.assertEqual([message.data for message in held], [b"1", b"2", b"3", b"x"])
        proto.deliver(held)
        events = proto.events_received()
        self.assertEqual(types(events), ["MSG", "MSG", "MSG", "UNSUBSCRIBED"])
        self.assertEqual([event.body.data for event in events[:3]], [b"1", b"2", b"3"])
        self.assertEqual((events[0].body.subscription, proto.held, proto.unknown_sid_msgs), ("me", None, 1))

    def test_recorded_messages(self) -> None:
        """What is recorded is delivered all the same."""
        proto = connected()
        proto.subscribe("a", sid=1)
        proto.recorded = recorded = []
        events = received(proto, msg(b"a", 1, b"1") + info() + msg(b"a", 1, b"2"))
        self.assertEqual(types(events), ["MSG", "INFO", "MSG"])
        self.assertEqual(recorded, [events[0], events[2]])

    def test_a_message_before_info_is_not_held(self) -> None:
        """Holding messages does not make a message before INFO legal."""
        proto = selected()
        proto.held = []
        self.assertEqual(types(received(proto, msg(b"a", 1, b"1") + info())), ["ERROR", "CLOSED"])
        self.assertEqual(proto.held, [])

    def test_siblings(self) -> None:
        """Two connections of a client share subscriptions, their limits, and the pool, and nothing of their lines."""
        first = connected()
        first.subscribe("a", sid=1)
        first.unsubscribe(1, 3)
        received(first, msg(b"a", 1))
        second = ConnectionProtocol(sibling=first)
        second.select_server()
        self.assertEqual(
            (second.current_server.host if second.current_server else None, first.current_server.host if first.current_server else None),
            ("two", "one"),
        )
        received(second, info(max_payload=5))
        second.connect(), second.ping()
        self.assertEqual(second.resubscribe(), b"SUB a 1\r\nUNSUB 1 2\r\n")
        self.assertEqual((first.state, second.state), (S.CONNECTED, S.WAITING_FOR_SERVER_PONG))
        self.assertEqual((first.max_payload, second.max_payload, first.outstanding_pings, second.outstanding_pings), (1_048_576, 5, 0, 1))
        self.assertEqual(types(received(second, b"PONG\r\n" + msg(b"a", 1) * 3)), ["CONNECTED", "PONG", "MSG", "MSG", "UNSUBSCRIBED"])
        self.assertEqual((received(first, msg(b"a", 1)), first.unknown_sid_msgs), ([], 1))


class ErrorTests(SynchronousTestCase):
    """What a server says is wrong, and what is wrong with what it says."""

    def test_every_error_of_a_server(self) -> None:
        """Each -ERR is an event with its typed error, in every way of writing it, and the connection goes on until the server ends it."""
        for text, kind, closes, _, _ in TEXTS:
            raw = text.encode()
            for line in (b"-ERR '%b'\r\n", b"-err\t'%b'\r\n", b"-ERR   '%b' \r\n", b"-ERR %b\n", b"-ERR '%b'\n"):
                proto = connected()
                proto.subscribe("a", sid=1)
                events = received(proto, line % raw + msg(b"a", 1))
                self.assertEqual(types(events), ["ERROR", "MSG"], line % raw)
                self.assertIs(type(events[0].body), kind)
                self.assertEqual(events[0].body.message, text)
            proto.receive_eof_from_transport()
            self.assertEqual(closed(proto.events_received()).error is events[0].body, closes, text)

    def test_empty_errors(self) -> None:
        """An -ERR without a text is an unknown error with an empty one."""
        for line in (b"-ERR\r\n", b"-ERR \r\n", b"-ERR ''\r\n", b"-ERR\n"):
            (event,) = received(connected(), line)
            self.assertEqual((type(event.body), event.body.message), (errors.UnknownServerError, ""))

    def test_unreadable_errors(self) -> None:
        """An -ERR of strange bytes is read, and its text can be shown without harm."""
        (event,) = received(connected(), b"-ERR '\xff\x1b[2J\0'\r\n")
        self.assertEqual(event.body.message, "\udcff\x1b[2J\0")
        self.assertTrue(repr(event.body).isprintable())

    def test_error_of_the_last_connection(self) -> None:
        """What a server said of one connection is not the reason why the next one ended."""
        proto = connected()
        received(proto, b"-ERR 'Stale Connection'\r\n")
        reconnect(proto)
        cause = ConnectionResetError()
        proto.receive_eof_from_transport(cause)
        self.assertIs(closed(proto.events_received()).error, cause)

    def test_harmless_error_is_not_the_reason_of_the_end(self) -> None:
        """An error that does not close the connection is not given as the reason when it ends later for another."""
        proto = connected()
        received(proto, b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n")
        proto.receive_eof_from_transport()
        self.assertIsNone(closed(proto.events_received()).error)

    def test_every_illegal_line(self) -> None:
        """Each illegal line is an ERROR with its named error and then CLOSED; what came before it is delivered."""
        for data, kind in ILLEGAL:
            proto = connected()
            proto.subscribe("a", sid=1)
            events = received(proto, msg(b"a", 1, b"before") + b"PING\r\n" + data)
            self.assertEqual(types(events)[-2:], ["ERROR", "CLOSED"], data)
            self.assertEqual(events[0].body.data, b"before")
            self.assertIs(type(events[-2].body), kind, data)
            end = closed(events)
            self.assertEqual((end.reason, end.error), (CloseReason.PROTOCOL_ERROR, events[-2].body))
            self.assertRaises(errors.ConnectionDeadError, proto.receive_data_from_server, b"PING\r\n")

    def test_illegal_line_in_the_handshake(self) -> None:
        """An illegal line before INFO, right behind it, or before the PONG ends the attempt, and the server is counted a failure."""
        for before in (b"", info()):
            proto = selected()
            events = received(proto, before + b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.assertIsInstance(events[-2].body, errors.UnknownOperationError)
            self.assertEqual((proto.state, proto.pool.servers[-1].attempts, proto.select_server().host), (S.CLOSED, 1, "two"))

    def test_bounds_are_those_of_the_options(self) -> None:
        """The bounds of lines and messages are options."""
        proto = connected(max_line=100, max_info_line=200, max_message=50)
        proto.subscribe("a", sid=1)
        self.assertEqual(types(received(proto, msg(b"a", 1, b"x" * 50))), ["MSG"])
        self.assertIsInstance(received(proto, msg(b"a", 1, b"x" * 51))[0].body, errors.MessageTooLargeError)
        for line in (b"INFO " + b" " * 196, b"-ERR " + b"x" * 96):
            self.assertIsInstance(received(reconnect(proto), line + b"\r\n")[0].body, errors.LineTooLongError)

    def test_after_death_a_new_life(self) -> None:
        """After a protocol error a server can be selected again, and nothing of the broken stream is left."""
        proto = connected()
        proto.subscribe("a", sid=1)
        received(proto, b"MSG a 1 2\r\nhixx")
        self.assertEqual(reconnect(proto).resubscribe(), b"SUB a 1\r\n")
        self.assertEqual(types(received(proto, msg(b"a", 1))), ["MSG"])

    @given(
        st.lists(frames | st.binary(max_size=30).map(lambda raw: (raw, ())), max_size=8),
        st.lists(st.integers(0, 10**6), max_size=10),
        st.integers(0, 3),
    )
    @settings(max_examples=500)
    def test_nothing_that_a_peer_sends_raises(self, made: list[tuple[bytes, Any]], places: list[int], start: int) -> None:
        """Whatever comes, in whatever state and split, the answer is events and no exception, and a dead connection says that it is."""
        proto = selected()
        proto.subscriptions.add("a", "", 1, None)
        if start:
            received(proto, info())
            if start > 1:
                proto.connect(), proto.ping()
            if start > 2:
                received(proto, b"PONG\r\n")
        for part in cut(b"".join(frame for frame, _ in made), places):
            if proto.state is S.CLOSED:
                break
            proto.receive_data_from_server(part)
        names = types(proto.events_received())
        self.assertEqual(names.count("CLOSED"), int(proto.state is S.CLOSED))
        if proto.state is S.CLOSED:
            self.assertEqual(names[-2:], ["ERROR", "CLOSED"])
            self.assertRaises(errors.ConnectionDeadError, proto.receive_data_from_server, b"PING\r\n")


class EndTests(SynchronousTestCase):
    """How a connection ends, and what comes after."""

    def test_reasons(self) -> None:
        """CLOSED says who ended the connection and why, once."""
        cause = OSError("gone")
        for name, reason, arguments in (
            ("receive_eof_from_transport", CloseReason.TRANSPORT, (cause,)),
            ("receive_eof_from_server", CloseReason.SERVER, (cause,)),
            ("receive_eof_from_client", CloseReason.CLIENT, ()),
        ):
            proto = connected()
            getattr(proto, name)(*arguments)
            end = closed(proto.events_received())
            self.assertEqual((end.reason, end.error), (reason, cause if arguments else None))
            proto.receive_eof_from_transport()
            proto.receive_eof_from_server()
            proto.receive_eof_from_client()
            self.assertEqual(proto.events_received(), [])

    def test_walk_over_the_pool(self) -> None:
        """A lost server is tried last; servers that do not answer are left one after another until none is left."""
        proto = connected(max_reconnect_attempts=1)
        hosts = []
        for _ in range(20):
            proto.receive_eof_from_transport()
            try:
                hosts.append(proto.select_server().host)
            except errors.ConnectionServerPoolEmpty:
                break
        self.assertEqual(hosts, ["two", "three", "one", "two", "three"])
        self.assertIs(proto.state, S.CLOSED)
        self.assertRaises(errors.ConnectionServerPoolEmpty, proto.select_server)

    def test_own_end_blames_nobody(self) -> None:
        """When the client itself ends connections, no server leaves the pool for it."""
        proto = new(max_reconnect_attempts=0)
        for _ in range(10):
            proto.select_server()
            proto.receive_eof_from_client()
        self.assertEqual(([server.attempts for server in proto.pool.servers], len(proto.pool.servers)), ([0, 0, 0], 3))

    def test_same_auth_error_twice(self) -> None:
        """The same authentication error twice from a server takes it out of the pool."""
        proto = new(servers="nats://one")
        for _ in range(2):
            proto.select_server()
            received(proto, info())
            proto.connect(), proto.ping()
            received(proto, b"-ERR 'Authorization Violation'\r\n")
            proto.receive_eof_from_transport()
        self.assertRaises(errors.ConnectionServerPoolEmpty, proto.select_server)

    def test_attempts_start_anew_when_stable(self) -> None:
        """Attempts are forgotten when a connection has stayed up, and not before."""
        proto = new(servers="nats://one")
        proto.select_server()
        proto.receive_eof_from_transport()
        server = proto.select_server()
        greet(proto)
        self.assertEqual(server.attempts, 1)
        proto.connection_is_stable()
        self.assertEqual(server.attempts, 0)

    def test_events_of_the_last_connection(self) -> None:
        """What was not taken of a connection's events is gone when the next begins."""
        proto = connected()
        received(proto, b"")
        proto.receive_data_from_server(b"-ERR 'x'\r\n")
        proto.receive_eof_from_transport()
        proto.select_server()
        self.assertEqual(proto.events_received(), [])

    def test_any_buffer_may_be_fed(self) -> None:
        """Data may be bytes, bytearray or memoryview; what the caller does with a buffer later has no effect."""
        proto = connected()
        proto.subscribe("a", sid=1)
        buffer = bytearray(msg(b"a", 1, b"x" * 3000))
        proto.receive_data_from_server(memoryview(buffer)[:2000])
        rest = bytes(buffer[2000:])
        buffer[:] = bytes(len(buffer))
        proto.receive_data_from_server(bytearray(rest))
        (message,) = proto.events_received()
        self.assertEqual(message.body.data, b"x" * 3000)

    def test_reprs(self) -> None:
        """Events, messages and records show themselves in one line, without their payload."""
        proto = connected()
        proto.subscribe("a", sid=1)
        proto.unsubscribe(1, 1)
        events = received(proto, msg(b"a\xff", 1, b"secret", b"r\r"))
        proto.receive_eof_from_transport()
        events += proto.events_received()
        for event in events:
            self.assertTrue(repr(event).isprintable())
            self.assertNotIn("secret", repr(event))
