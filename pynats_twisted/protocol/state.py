"""The states of a connection, and which call is legal in which of them, as data.

Rule one: whatever decides what may happen next stands in this module. :class:`~pynats_twisted.protocol.ConnectionProtocol`
asks the tables and holds no other opinion.
"""

from __future__ import annotations

from enum import Enum

from ..errors import (
    ConnectionAlreadyStartedError,
    ConnectionDeadError,
    ConnectionStateError,
    NoServerSelectedError,
    NotConnectedError,
)


class ConnectionState(Enum):
    """Where a connection stands between two selections of a server."""

    WAITING_FOR_SERVER_SELECTION = "waiting-for-server-selection"
    """New: no server was selected yet."""
    WAITING_FOR_SERVER_INFO = "waiting-for-server-info"
    """A server is selected; the first line it sends has to be INFO."""
    WAITING_FOR_TLS_UPGRADE = "waiting-for-tls-upgrade"
    """INFO came in the clear, and TLS has to start before anything is sent."""
    WAITING_FOR_CLIENT_CONNECT = "waiting-for-client-connect"
    """The event CONNECT_REQUEST was given: ``connect()`` is due."""
    WAITING_FOR_SERVER_PONG = "waiting-for-server-pong"
    """CONNECT was made; the first PONG completes the handshake."""
    CONNECTED = "connected"
    """The handshake is complete."""
    CLOSED = "closed"
    """The transport has ended, or the peer broke the protocol. A server may be selected again."""


_S = ConnectionState

TRANSITIONS: dict[ConnectionState, frozenset[ConnectionState]] = {
    _S.WAITING_FOR_SERVER_SELECTION: frozenset({_S.WAITING_FOR_SERVER_INFO}),
    _S.WAITING_FOR_SERVER_INFO: frozenset({_S.WAITING_FOR_TLS_UPGRADE, _S.WAITING_FOR_CLIENT_CONNECT, _S.CLOSED}),
    _S.WAITING_FOR_TLS_UPGRADE: frozenset({_S.WAITING_FOR_CLIENT_CONNECT, _S.CLOSED}),
    _S.WAITING_FOR_CLIENT_CONNECT: frozenset({_S.WAITING_FOR_SERVER_PONG, _S.CLOSED}),
    _S.WAITING_FOR_SERVER_PONG: frozenset({_S.CONNECTED, _S.CLOSED}),
    _S.CONNECTED: frozenset({_S.CLOSED}),
    _S.CLOSED: frozenset({_S.WAITING_FOR_SERVER_INFO}),
}
"""From each state, the states that may follow."""

_OPEN = frozenset(
    {
        _S.WAITING_FOR_SERVER_INFO,
        _S.WAITING_FOR_TLS_UPGRADE,
        _S.WAITING_FOR_CLIENT_CONNECT,
        _S.WAITING_FOR_SERVER_PONG,
        _S.CONNECTED,
    }
)
_TALKING = frozenset({_S.WAITING_FOR_SERVER_PONG, _S.CONNECTED})

LEGAL_CALLS: dict[str, frozenset[ConnectionState]] = {
    "select_server": frozenset({_S.WAITING_FOR_SERVER_SELECTION, _S.CLOSED}),
    "receive_data_from_server": _OPEN,
    "receive_eof_from_transport": _OPEN | {_S.CLOSED},
    "receive_eof_from_server": _OPEN | {_S.CLOSED},
    "receive_eof_from_client": _OPEN | {_S.CLOSED},
    "tls_established": frozenset({_S.WAITING_FOR_SERVER_INFO, _S.WAITING_FOR_TLS_UPGRADE}),
    "connect": frozenset({_S.WAITING_FOR_CLIENT_CONNECT}),
    "ping": _TALKING,
    "publish": _TALKING,
    "subscribe": _TALKING,
    "unsubscribe": _TALKING,
    "resubscribe": _TALKING,
}
"""The calls that depend on the state, each with the states in which it is legal."""


def illegal_call(call: str, state: ConnectionState) -> ConnectionStateError:
    """The error for a call that :data:`LEGAL_CALLS` does not allow in this state."""
    if state is _S.WAITING_FOR_SERVER_SELECTION:
        return NoServerSelectedError(call, state)
    if state is _S.CLOSED:
        return ConnectionDeadError(call, state)
    legal = LEGAL_CALLS[call]
    if legal <= _TALKING:
        return NotConnectedError(call, state)
    return ConnectionAlreadyStartedError(call, state) if _is_past(call, state) else ConnectionStateError(call, state)


_ORDER = list(ConnectionState)


def _is_past(call: str, state: ConnectionState) -> bool:
    if call == "select_server":
        return True
    return _ORDER.index(state) > max(_ORDER.index(legal) for legal in LEGAL_CALLS[call])
