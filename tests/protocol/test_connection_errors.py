"""What a server says is wrong, and what is wrong with what it says."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.protocol import CloseReason

from .connections import S, closed, connected, greet, info, received, reconnect, selected, types
from .test_parser import ILLEGAL
from .test_server_errors import TEXTS
from .wire import cut, frames, msg


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
        cause = ConnectionResetError()
        for complete in (True, False):
            proto = connected()
            received(proto, b"-ERR 'Stale Connection'\r\n")
            proto.receive_eof_from_transport()
            proto.select_server()
            proto.events_received()
            if complete:
                greet(proto)
            proto.receive_eof_from_transport(cause)
            self.assertIs(closed(proto.events_received()).error, cause)

    def test_harmless_error_is_not_the_reason_of_the_end(self) -> None:
        """An error that does not close the connection is not given as the reason when it ends later for another."""
        line = b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n"
        late = connected()
        received(late, line)
        early = selected()
        received(early, info())
        early.connect(), early.ping()
        received(early, line + b"PONG\r\n")
        for proto in (late, early):
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
    @settings(max_examples=300)
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
