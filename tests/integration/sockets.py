"""The protocol core over a plain blocking socket: the smallest program around it that works."""

from __future__ import annotations

import socket
from collections.abc import Callable

from pynats_twisted.protocol import ConnectionProtocol, Event, EventType, Msg

TIMEOUT = 10.0


class SocketConnection:
    """A blocking socket with a :class:`ConnectionProtocol`; each call waits at most ten seconds for the server.

    :ivar proto: the protocol core.
    :ivar sock: the socket; it may be wrapped.
    """

    def __init__(self, proto: ConnectionProtocol) -> None:
        self.proto = proto
        server = proto.select_server()
        self.sock = socket.create_connection((server.host, server.port), timeout=TIMEOUT)

    def __enter__(self) -> SocketConnection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.sock.close()

    def handshake(self) -> None:
        """From INFO to the first PONG, in the clear."""
        self.wait_for(lambda events: events[-1:] == [EventType.CONNECT_REQUEST])
        self.sock.sendall(self.proto.connect() + self.proto.ping())
        self.wait_for(lambda events: EventType.CONNECTED in events)

    def receive(self, size: int = 65536) -> list[Event | Msg]:
        """One read from the socket: the events of it, with what had to be answered sent."""
        data = self.sock.recv(size)
        if data:
            self.proto.receive_data_from_server(data)
            self.sock.sendall(self.proto.data_to_send())
        else:
            self.proto.receive_eof_from_transport()
        return self.proto.events_received()

    def wait_for(self, enough: Callable[[list[Event | Msg]], bool], size: int = 65536) -> list[Event | Msg]:
        """Read until the events so far are enough, or the connection ends."""
        events: list[Event | Msg] = []
        while not enough(events):
            events += self.receive(size)
            if EventType.CLOSED in events:
                break
        return events

    def flush(self, size: int = 65536) -> list[Event | Msg]:
        """PING, and everything that comes until its PONG."""
        self.sock.sendall(self.proto.ping())
        return self.wait_for(lambda events: EventType.PONG in events, size)
