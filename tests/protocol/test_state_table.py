"""The state table: every call in every state. What is legal works; what is not raises its named error and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.protocol import ConnectionProtocol, ConnectionState, Msg
from pynats_twisted.protocol.state import LEGAL_CALLS, TRANSITIONS, illegal_call

from .connections import S, brought_to, info, new
from .wire import snapshot

CALLS: dict[str, Callable[[ConnectionProtocol], Any]] = {
    "select_server": lambda proto: proto.select_server(),
    "receive_data_from_server": lambda proto: proto.receive_data_from_server(b""),
    "receive_eof_from_transport": lambda proto: proto.receive_eof_from_transport(),
    "receive_eof_from_server": lambda proto: proto.receive_eof_from_server(),
    "receive_eof_from_client": lambda proto: proto.receive_eof_from_client(),
    "tls_established": lambda proto: proto.tls_established(),
    "connect": lambda proto: proto.connect(),
    "ping": lambda proto: proto.ping(),
    "publish": lambda proto: proto.publish("a", "r", b"hi", {"A": "1"}),
    "subscribe": lambda proto: proto.subscribe("a", "q", 5),
    "unsubscribe": lambda proto: proto.unsubscribe(9, 3),
    "resubscribe": lambda proto: proto.resubscribe(),
}

# Calls that mean something in every state.
ALWAYS: dict[str, Callable[[ConnectionProtocol], Any]] = {
    "data_to_send": lambda proto: proto.data_to_send(),
    "events_received": lambda proto: proto.events_received(),
    "servers_discovered": lambda proto: proto.servers_discovered(),
    "new_sid": lambda proto: proto.new_sid(),
    "connection_is_stable": lambda proto: proto.connection_is_stable(),
    "deliver": lambda proto: proto.deliver([Msg("a", 9, "", b"held"), Msg("a", 77, "", b"")]),
}

ALREADY, DEAD, STATE = errors.ConnectionAlreadyStartedError, errors.ConnectionDeadError, errors.ConnectionStateError
NONE, NOT = errors.NoServerSelectedError, errors.NotConnectedError
TALK = ("ping", "publish", "subscribe", "unsubscribe", "resubscribe")
EOFS = ("receive_eof_from_transport", "receive_eof_from_server", "receive_eof_from_client")

#: For each state and call: the state behind it, or the error. Written out here once more, so that a change of the table is one on purpose.
EXPECTED: dict[ConnectionState, dict[str, ConnectionState | type[errors.NatsError]]] = {
    S.WAITING_FOR_SERVER_SELECTION: {**dict.fromkeys(CALLS, NONE), "select_server": S.WAITING_FOR_SERVER_INFO},
    S.WAITING_FOR_SERVER_INFO: {
        "select_server": ALREADY,
        "receive_data_from_server": S.WAITING_FOR_SERVER_INFO,
        **dict.fromkeys(EOFS, S.CLOSED),
        "tls_established": S.WAITING_FOR_SERVER_INFO,
        "connect": STATE,
        **dict.fromkeys(TALK, NOT),
    },
    S.WAITING_FOR_TLS_UPGRADE: {
        "select_server": ALREADY,
        "receive_data_from_server": S.WAITING_FOR_TLS_UPGRADE,
        **dict.fromkeys(EOFS, S.CLOSED),
        "tls_established": S.WAITING_FOR_CLIENT_CONNECT,
        "connect": STATE,
        **dict.fromkeys(TALK, NOT),
    },
    S.WAITING_FOR_CLIENT_CONNECT: {
        "select_server": ALREADY,
        "receive_data_from_server": S.WAITING_FOR_CLIENT_CONNECT,
        **dict.fromkeys(EOFS, S.CLOSED),
        "tls_established": ALREADY,
        "connect": S.WAITING_FOR_SERVER_PONG,
        **dict.fromkeys(TALK, NOT),
    },
    S.WAITING_FOR_SERVER_PONG: {
        "select_server": ALREADY,
        "receive_data_from_server": S.WAITING_FOR_SERVER_PONG,
        **dict.fromkeys(EOFS, S.CLOSED),
        "tls_established": ALREADY,
        "connect": ALREADY,
        **dict.fromkeys(TALK, S.WAITING_FOR_SERVER_PONG),
    },
    S.CONNECTED: {
        "select_server": ALREADY,
        "receive_data_from_server": S.CONNECTED,
        **dict.fromkeys(EOFS, S.CLOSED),
        "tls_established": ALREADY,
        "connect": ALREADY,
        **dict.fromkeys(TALK, S.CONNECTED),
    },
    S.CLOSED: {**dict.fromkeys(CALLS, DEAD), "select_server": S.WAITING_FOR_SERVER_INFO, **dict.fromkeys(EOFS, S.CLOSED)},
}


PONG = b"PONG\r\n"
LINES = [
    info(),
    info(),
    info(tls_required=True),
    PONG,
    PONG,
    b"PING\r\n",
    b"MSG a 5 2\r\nhi\r\n",
    b"-ERR 'x'\r\n",
    b"POO\r\n",
    b"INFO {",
    b"}\r\n",
]

#: Everything that can happen to a connection.
STEPS: list[Callable[[ConnectionProtocol], Any]] = [
    *CALLS.values(),
    *ALWAYS.values(),
    *(lambda proto, data=data: proto.receive_data_from_server(data) for data in LINES),
]


class Watched(ConnectionProtocol):
    """A connection that notes each change of its state."""

    def __init__(self, *arguments: Any) -> None:
        self.steps: list[tuple[ConnectionState, ConnectionState]] = []
        super().__init__(*arguments)

    @property
    def _state(self) -> ConnectionState:
        return self.__dict__["state"]

    @_state.setter
    def _state(self, state: ConnectionState) -> None:
        before = self.__dict__.get("state")
        if before is not None and before is not state:
            self.steps.append((before, state))
        self.__dict__["state"] = state


class CallTests(SynchronousTestCase):
    """Every call in every state."""

    def test_every_public_method_is_in_a_table(self) -> None:
        """No public method is without an opinion on when it may be called."""
        methods = {name for name, value in vars(ConnectionProtocol).items() if callable(value) and not name.startswith("_")}
        self.assertEqual(methods, set(LEGAL_CALLS) | set(ALWAYS))
        self.assertEqual(set(CALLS), set(LEGAL_CALLS))

    def test_table_says_what_is_expected(self) -> None:
        """The table of legal calls has exactly the calls that are to work."""
        for state, row in EXPECTED.items():
            self.assertEqual(set(row), set(CALLS))
            self.assertEqual(
                {call for call in CALLS if state in LEGAL_CALLS[call]}, {call for call, then in row.items() if isinstance(then, S)}, state
            )

    def test_legal_calls_work(self) -> None:
        """A legal call does not raise, and leads to the expected state."""
        for state, row in EXPECTED.items():
            for call, then in row.items():
                if isinstance(then, S):
                    proto = brought_to(state)
                    CALLS[call](proto)
                    self.assertIs(proto.state, then, (state, call))

    def test_legal_calls_give_bytes(self) -> None:
        """The commands give what is to be sent, in every state in which they are legal."""
        for state in LEGAL_CALLS["ping"]:
            for call in TALK:
                self.assertIsInstance(CALLS[call](brought_to(state)), bytes, (state, call))
            self.assertEqual(brought_to(state).resubscribe(), b"SUB from.before 9\r\n")

    def test_illegal_calls_raise_and_change_nothing(self) -> None:
        """An illegal call raises exactly its error, which names the call and the state, and everything is as it was before it."""
        for state, row in EXPECTED.items():
            for call, error in row.items():
                if isinstance(error, S):
                    continue
                proto = brought_to(state)
                before = snapshot(proto)
                raised = self.assertRaises(errors.ConnectionStateError, CALLS[call], proto)
                self.assertIs(type(raised), error, (state, call))
                self.assertEqual((raised.call, raised.state), (call, state))
                self.assertIn(call, str(raised))
                self.assertIn(state.name, str(raised))
                self.assertEqual(snapshot(proto), before, (state, call))

    def test_illegal_calls_do_not_look_at_their_arguments(self) -> None:
        """With wrong arguments as well, a call at the wrong time says that it is the wrong time."""
        proto = brought_to(S.CLOSED)
        for call in (
            lambda: proto.publish("a b\r\n", payload=None),  # type: ignore[arg-type]
            lambda: proto.subscribe("", sid=-1),
            lambda: proto.unsubscribe(77),
            lambda: proto.receive_data_from_server(b"\0\0\0"),
        ):
            self.assertRaises(DEAD, call)

    def test_refused_arguments_change_nothing(self) -> None:
        """A legal call with arguments that cannot be used raises the error of the argument, and everything is as it was before it."""
        wrong: list[tuple[type[errors.NatsError], Callable[[ConnectionProtocol], Any]]] = [
            (errors.InvalidSubjectError, lambda proto: proto.publish("a b")),
            (errors.InvalidSubjectError, lambda proto: proto.publish("a", "r\r\n")),
            (errors.InvalidHeaderError, lambda proto: proto.publish("a", headers={"A": "\n"})),
            (errors.MaxPayloadExceededError, lambda proto: proto.publish("a", payload=bytes(1_048_577))),
            (errors.InvalidArgumentError, lambda proto: proto.publish("a", payload="text")),  # type: ignore[arg-type]
            (errors.InvalidSubjectError, lambda proto: proto.subscribe("a..b", sid=5)),
            (errors.InvalidQueueError, lambda proto: proto.subscribe("a", "q q", sid=5)),
            (errors.InvalidSubscriptionError, lambda proto: proto.subscribe("a", sid=9)),
            (errors.InvalidSubscriptionError, lambda proto: proto.subscribe("a", sid=0)),
            (errors.InvalidSubscriptionError, lambda proto: proto.unsubscribe(5)),
            (errors.InvalidSubscriptionError, lambda proto: proto.unsubscribe("a")),
            (errors.InvalidSubscriptionError, lambda proto: proto.unsubscribe(9, -1)),
        ]
        for state in LEGAL_CALLS["publish"]:
            for error, call in wrong:
                proto = brought_to(state)
                proto.publish("a")  # a subject that was found valid is remembered
                before = snapshot(proto)
                self.assertRaises(error, call, proto)
                self.assertEqual(snapshot(proto), before, error)

    def test_calls_that_are_always_legal(self) -> None:
        """What only asks, or takes what is there, works in every state and does not change it."""
        for state in S:
            for name, call in ALWAYS.items():
                proto = brought_to(state)
                call(proto)
                self.assertIs(proto.state, state, name)

    def test_properties_in_every_state(self) -> None:
        """Everything that can be asked has an answer in every state."""
        names = [name for name, value in vars(ConnectionProtocol).items() if isinstance(value, property)]
        self.assertIn("state", names)
        for state in S:
            proto = brought_to(state)
            before = snapshot(proto)
            for name in names:
                getattr(proto, name)
            self.assertEqual(snapshot(proto), before)

    def test_a_snapshot_sees_changes(self) -> None:
        """The comparison that these tests rest on notices every kind of change."""
        changes: list[Callable[[ConnectionProtocol], Any]] = [
            lambda proto: proto.ping(),
            lambda proto: proto.subscribe("x", sid=44),
            lambda proto: proto.unsubscribe(9, 4),
            lambda proto: proto.receive_data_from_server(b"PING\r\n"),
            lambda proto: proto.receive_data_from_server(b"P"),
            lambda proto: proto.receive_data_from_server(b"MSG a 1 2\r\nh"),
            lambda proto: proto.receive_data_from_server(b"MSG a 1 0\r\n\r\n"),
            lambda proto: proto.receive_data_from_server(b"-ERR 'x'\r\n"),
            lambda proto: proto.receive_data_from_server(info(max_payload=5)),
            lambda proto: proto.connection_is_stable(),
            lambda proto: proto.pool.select(),
            lambda proto: setattr(proto.current_server, "attempts", 7),
        ]
        for change in changes:
            proto = brought_to(S.CONNECTED)
            before = snapshot(proto)
            self.assertEqual(snapshot(proto), before)
            change(proto)
            self.assertNotEqual(snapshot(proto), before)


class TransitionTests(SynchronousTestCase):
    """The states follow one another as the table says."""

    def watched(self) -> Watched:
        return Watched(new().options)

    @given(st.lists(st.sampled_from(STEPS), max_size=40))
    @settings(max_examples=200)
    def test_any_walk(self, steps: list[Callable[[ConnectionProtocol], Any]]) -> None:
        """Whatever is called and received in whatever order, states change as the table says, and only named errors come out."""
        proto = self.watched()
        for step in steps:
            before = snapshot(proto)
            try:
                step(proto)
            except errors.ConnectionStateError as error:
                self.assertNotIn(proto.state, LEGAL_CALLS[error.call])
                self.assertEqual(snapshot(proto), before)
            except errors.InvalidArgumentError:
                self.assertEqual(snapshot(proto), before)
        for before, after in proto.steps:
            self.assertIn(after, TRANSITIONS[before])

    def test_every_entry_of_the_table_happens(self) -> None:
        """There is a way through each transition of the table, and it has no others."""
        tls, plain = info(tls_required=True), info()
        walks: list[list[bytes | str]] = [
            ["select_server", tls, "tls_established", "connect", "ping", PONG, "receive_eof_from_server", "select_server"],
            ["select_server", plain, "connect", "ping", PONG, b"POO\r\n"],
            ["select_server", plain, "connect", "receive_eof_from_transport"],
            ["select_server", plain, "receive_eof_from_client"],
            ["select_server", tls, b"x"],
            ["select_server", b"PING\r\n"],
        ]
        seen = set()
        for walk in walks:
            proto = self.watched()
            for step in walk:
                if isinstance(step, bytes):
                    proto.receive_data_from_server(step)
                else:
                    CALLS[step](proto)
            seen |= set(proto.steps)
        self.assertEqual(seen, {(before, after) for before, row in TRANSITIONS.items() for after in row})
        self.assertEqual(set(TRANSITIONS), set(S))

    def test_error_of_a_call_is_made_from_the_table(self) -> None:
        """The error for each illegal call can be asked for without a connection."""
        for state, row in EXPECTED.items():
            for call, error in row.items():
                if not isinstance(error, S):
                    self.assertIs(type(illegal_call(call, state)), error)
