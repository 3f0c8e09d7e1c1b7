"""The machine that a client runs on: its clock, and sockets that never block. All waiting of this package is :meth:`Machine.wait`."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import ConfigurationError

# Read at once. More would only make the bursts larger in which messages come to the subscriptions.
READ_SIZE = 64 * 1024

# The system counts milliseconds in 32 bits. Whoever waits longer than this waits again.
_LONGEST = 1e6

_IN_PROGRESS = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, errno.EINTR})


class Wanted(NamedTuple):
    """A socket, and what is waited for: that it can be read, that it can be written, or either."""

    socket: Any
    read: bool
    write: bool


class Address(NamedTuple):
    """Where to connect to, as the socket module says it."""

    family: int
    where: Any


class Machine:
    """The real machine. Tests have another one, on which no time passes."""

    def now(self) -> float:
        """Seconds on a clock that only goes forward."""
        return time.monotonic()

    def wait(self, wanted: Sequence[Wanted], timeout: float | None) -> bool:
        """Wait until one of the sockets is ready, for ``timeout`` seconds at most; None waits without an end. It may end sooner.

        :returns: whether one is ready.
        """
        if timeout is not None:
            timeout = min(max(0.0, timeout), _LONGEST)
        if not wanted:
            time.sleep(timeout or 0.0)
            return False
        if hasattr(select, "poll"):
            poll = select.poll()
            for sock, read, write in wanted:
                poll.register(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
            # Rounded up: a wait that ends too early would be a busy one.
            return bool(poll.poll(None if timeout is None else math.ceil(timeout * 1000)))
        reading = [sock for sock, read, _ in wanted if read]
        writing = [sock for sock, _, write in wanted if write]
        # Where there is no poll, a connection that was refused is told as the third kind.
        return any(select.select(reading, writing, writing, timeout))

    def resolve(self, host: str, port: int) -> list[Address]:
        """All addresses of a name, IPv6 and IPv4, best first. It takes as long as the system's resolver does.

        :raises OSError: the name has none.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(Address(family, where) for family, _, _, _, where in found))

    def unix_address(self, path: str) -> Address:
        """The address of a UNIX socket.

        :raises ConfigurationError: the system has no such sockets.
        """
        if not hasattr(socket, "AF_UNIX"):
            raise ConfigurationError("this system has no UNIX sockets")
        return Address(socket.AF_UNIX, path)

    def dial(self, address: Address) -> Any:
        """A socket that has begun to connect.

        :raises OSError: it cannot.
        """
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if address.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            code = sock.connect_ex(address.where)
            # A UNIX socket connects at once or not at all: there EAGAIN says that too many are waiting to be accepted.
            if code and (code not in _IN_PROGRESS or address.family not in (socket.AF_INET, socket.AF_INET6)):
                raise OSError(code, os.strerror(code))
        except BaseException:
            sock.close()
            raise
        return sock

    def is_connected(self, sock: Any) -> bool:
        """Whether a socket that began to connect has come to its end.

        :raises OSError: the connection failed.
        """
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        try:
            sock.getpeername()
        except OSError as error:
            if error.errno in (errno.ENOTCONN, errno.EINVAL):
                return False
            raise
        return True


class Channel:
    """A stream of bytes to a server, in the clear, over a socket that does not block."""

    encrypted = False

    def __init__(self, sock: Any) -> None:
        self.socket = sock

    def receive(self) -> bytes | None:
        """What has come; None when there is nothing yet, ``b""`` when the peer has ended the stream.

        :raises OSError: the connection is broken.
        """
        try:
            data: bytes = self.socket.recv(READ_SIZE)
        except BlockingIOError:
            return None
        return data

    def send(self, data: memoryview) -> int:
        """Send as much as goes now; returns how many bytes that were.

        :raises OSError: the connection is broken.
        """
        try:
            sent: int = self.socket.send(data)
        except BlockingIOError:
            return 0
        return sent

    def wanted(self, write: bool) -> Wanted:
        """What to wait for: something to read, and room for writing if ``write``."""
        return Wanted(self.socket, True, write)

    def end_sending(self) -> None:
        """Tell the peer that no more comes."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Give the socket back. Nothing is sent for it."""
        self.socket.close()
