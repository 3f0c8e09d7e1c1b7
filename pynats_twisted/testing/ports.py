"""Ports that stay ours, for servers that go away and come back on the same port."""

from __future__ import annotations

import functools
import socket

from pynats_twisted.errors import ServerProcessError


class PortReservation:
    """A TCP port of this machine that nobody else gets while it is reserved.

    A free port that is merely remembered can be taken while its server is down: by another process, or by an outgoing
    connection, even one to that very port, which then is connected to itself. So the port stays bound by a socket that never
    listens. Connecting to it is refused as long as no server listens there, and a server that sets ``SO_REUSEADDR``, as
    nats-server and Twisted do, can still listen on it. Where the system does not allow that, the port is free from
    :meth:`let_listen` to :meth:`hold_again`.

    :ivar host: the address.
    :ivar port: the number.

    :param host: the address to reserve the port on.
    :param port: the number; None for one that is free.
    :raises ServerProcessError: the port is in use, or the address is not one of this machine.
    """

    def __init__(self, host: str = "127.0.0.1", port: int | None = None) -> None:
        self.host = host
        self._socket: socket.socket | None = _bind(host, port or 0)
        self.port: int = self._socket.getsockname()[1]

    def let_listen(self) -> None:
        """Call it just before the server starts to listen."""
        if not reservations_can_be_shared() and self._socket is not None:
            self._socket.close()
            self._socket = None

    def hold_again(self) -> None:
        """Call it after the server stopped. Does nothing when the port was held all the time, or somebody else has it now."""
        if self._socket is None:
            try:
                self._socket = _bind(self.host, self.port)
            except ServerProcessError:
                self._socket = None  # the start of the server will say so, if there is one

    def release(self) -> None:
        """Give the port back for good."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _bind(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        raise ServerProcessError(f"port {port} of {host} cannot be had: {error}") from error
    return sock


@functools.cache
def reservations_can_be_shared() -> bool:
    """Whether a server can listen on a port here while a :class:`PortReservation` holds it (true on Linux)."""
    with _bind("127.0.0.1", 0) as holder:
        try:
            listener = _bind(*holder.getsockname())
        except ServerProcessError:
            return False
        with listener:
            try:
                listener.listen(1)
            except OSError:
                return False
            return True
