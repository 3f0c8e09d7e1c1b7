"""Connections for tests, brought to any state of theirs without a transport."""

from __future__ import annotations

import json
import random
from typing import Any

from pynats_twisted.protocol import ClientOptions, Closed, ConnectionProtocol, ConnectionState, Event, EventType, Msg

from .wire import read_commands

S = ConnectionState

SERVERS = "nats://one:4222,nats://two:4222,nats://three:4222"


def info(**keys: Any) -> bytes:
    """An INFO line, with some keys of its own."""
    return b"INFO " + json.dumps({"server_id": "S", "proto": 1, "headers": True, "max_payload": 1_048_576, **keys}).encode() + b"\r\n"


def new(**options: Any) -> ConnectionProtocol:
    """A connection to three servers in a fixed order, before the first of them is selected."""
    return ConnectionProtocol(ClientOptions(**{"servers": SERVERS, "shuffle_servers": False, **options}), random.Random(1))


def selected(**options: Any) -> ConnectionProtocol:
    """One that has selected a server and waits for INFO."""
    proto = new(**options)
    proto.select_server()
    return proto


def greet(proto: ConnectionProtocol, **keys: Any) -> ConnectionProtocol:
    """Bring one that waits for INFO to CONNECTED, and forget the events of that."""
    proto.receive_data_from_server(info(**keys))
    if proto.tls_upgrade_due:
        proto.tls_established()
    proto.connect()
    proto.ping()
    proto.receive_data_from_server(b"PONG\r\n")
    assert proto.state is S.CONNECTED, proto.events_received()
    proto.events_received()
    return proto


def connected(**options: Any) -> ConnectionProtocol:
    """One in the state CONNECTED."""
    return greet(selected(**options))


def reconnect(proto: ConnectionProtocol, **keys: Any) -> ConnectionProtocol:
    """End the connection and make a new one; nothing is subscribed again yet."""
    if proto.state is not S.CLOSED:
        proto.receive_eof_from_transport()
    proto.select_server()
    return greet(proto, **keys)


def brought_to(state: ConnectionState) -> ConnectionProtocol:
    """A connection in this state. But for the first, each has had an earlier life, and has a subscription of that with sid 9."""
    if state is S.WAITING_FOR_SERVER_SELECTION:
        return new()
    proto = connected()
    proto.subscribe("from.before", sid=9)
    if state is S.CONNECTED:
        return reconnect(proto)
    proto.receive_eof_from_transport()
    if state is S.CLOSED:
        return proto
    proto.select_server()
    proto.events_received()
    if state is S.WAITING_FOR_TLS_UPGRADE:
        proto.receive_data_from_server(info(tls_required=True))
    elif state is not S.WAITING_FOR_SERVER_INFO:
        proto.receive_data_from_server(info())
        if state is S.WAITING_FOR_SERVER_PONG:
            proto.connect()
            proto.ping()
    assert proto.state is state, (proto.state, state)
    proto.events_received()
    return proto


def received(proto: ConnectionProtocol, *parts: bytes) -> list[Event | Msg]:
    """Feed bytes and take the events."""
    for part in parts:
        proto.receive_data_from_server(part)
    return proto.events_received()


def types(events: list[Event | Msg]) -> list[str]:
    """The names of the events' types."""
    return [event.type.name for event in events]


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
