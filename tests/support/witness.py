"""A NATS client for tests that shares no code with the package: what it saw is what the server sent.

It is connected to the server itself, past any proxy. Its socket is read by a thread, so that a test with a reactor can let it
watch a flood without becoming a slow consumer; every call of the test blocks.
"""

from __future__ import annotations

import base64
import contextlib
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

TIMEOUT = 5.0


@dataclass(frozen=True)
class Seen:
    """A message as it came: its parts are the bytes of the wire."""

    subject: bytes
    sid: bytes
    reply: bytes
    headers: bytes
    payload: bytes


class WitnessError(AssertionError):
    """The server did not do what the witness waited for."""


class Witness:
    """A raw connection to a server, past its handshake.

    :param url_or_port: the server's port, or its ``nats://host:port``.
    :param tls: a context: TLS starts after INFO. With ``tls_first`` it starts before.
    :param sign: makes the raw signature of the server's nonce.
    :param connect: further fields of CONNECT (``user``, ``pass``, ``auth_token``, ``jwt``, ``nkey``, ...).

    :ivar infos: every INFO, parsed, oldest first.
    :ivar errors: the text of every ``-ERR``, without quotes.
    :ivar reason: the error that ended the connection, where it was one.
    """

    def __init__(
        self,
        server: str | int,
        *,
        tls: ssl.SSLContext | None = None,
        tls_first: bool = False,
        tls_name: str | None = None,
        sign: Callable[[bytes], bytes] | None = None,
        timeout: float = TIMEOUT,
        **connect: Any,
    ) -> None:
        host, port = ("127.0.0.1", server) if isinstance(server, int) else _address(server)
        self.infos: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._messages: list[Seen] = []
        self._taken = 0
        self._pongs = 0
        self._pings = 0
        self._sid = 0
        self._closed = False
        self.reason: OSError | None = None
        self._changed = threading.Condition()
        # Two threads must not be inside one TLS object. So nothing blocks in it: they wait for the socket outside of this lock.
        self._using_socket = threading.Lock()
        self._buffer = b""
        self._thread = threading.Thread(target=self._read, name="witness", daemon=True)
        self._closing = False
        self._socket = socket.create_connection((host, port), timeout)
        try:
            if tls is not None and tls_first:
                self._socket = tls.wrap_socket(self._socket, server_hostname=tls_name or host)
            self._read_info()
            if tls is not None and not tls_first:
                self._socket = tls.wrap_socket(self._socket, server_hostname=tls_name or host)
            fields = {"verbose": False, "pedantic": False, "protocol": 1, "headers": True, "no_responders": True, "lang": "witness"}
            if sign is not None:
                signature = sign(self.infos[0]["nonce"].encode("ascii"))
                fields["sig"] = base64.urlsafe_b64encode(signature).rstrip(b"=").decode("ascii")
            self._socket.setblocking(False)
            self.send(b"CONNECT " + json.dumps({**fields, **connect}).encode("utf-8") + b"\r\n")
            self._thread.start()
            self.flush(timeout)
        except BaseException:
            self.close()
            raise

    # --- sending ---

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        view = memoryview(data)
        while view:
            with self._using_socket:
                try:
                    sent = self._socket.send(view)
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    sent = 0
            view = view[sent:]
            if view:
                select.select([], [self._socket], [], TIMEOUT)

    def publish(
        self, subject: str | bytes, payload: bytes = b"", *, reply: str | bytes = b"", headers: Mapping[str, str] | bytes = b""
    ) -> None:
        """Publish. Nothing is checked; headers may be given as the bytes of the whole block."""
        target = b" ".join(filter(None, (_bytes(subject), _bytes(reply))))
        if headers:
            block = headers if isinstance(headers, bytes) else _block(headers)
            self.send(b"HPUB %s %d %d\r\n%s%s\r\n" % (target, len(block), len(block) + len(payload), block, payload))
        else:
            self.send(b"PUB %s %d\r\n%s\r\n" % (target, len(payload), payload))

    def subscribe(self, subject: str | bytes, queue: str | bytes = b"") -> bytes:
        """Subscribe, and wait until the server has it; returns the sid."""
        self._sid += 1
        sid = b"%d" % self._sid
        self.send(b"SUB " + b" ".join(filter(None, (_bytes(subject), _bytes(queue), sid))) + b"\r\n")
        self.flush()
        return sid

    def unsubscribe(self, sid: bytes, limit: int = 0) -> None:
        """End a subscription, or end it after ``limit`` messages."""
        self.send(b"UNSUB %s%s\r\n" % (sid, b" %d" % limit if limit else b""))

    def flush(self, timeout: float = TIMEOUT) -> None:
        """Wait until the server has done all that was sent before."""
        with self._changed:
            self._pings += 1
            wanted = self._pings
        self.send(b"PING\r\n")
        self._wait(lambda: self._pongs >= wanted, timeout, "no PONG")

    # --- what was seen ---

    @property
    def messages(self) -> list[Seen]:
        """All messages so far, in their order."""
        with self._changed:
            return list(self._messages)

    @property
    def payloads(self) -> list[bytes]:
        """The payloads of all messages so far, in their order."""
        return [message.payload for message in self.messages]

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self._closed

    def next(self, timeout: float = TIMEOUT) -> Seen:
        """The next message that was not taken yet."""
        self._wait(lambda: len(self._messages) > self._taken, timeout, "no message")
        self._taken += 1
        return self._messages[self._taken - 1]

    def wait_for_messages(self, count: int, timeout: float = TIMEOUT) -> list[Seen]:
        """Wait for ``count`` messages in all."""
        self._wait(lambda: len(self._messages) >= count, timeout, f"fewer than {count} messages")
        return self.messages

    def wait_for_info(self, matches: Callable[[dict[str, Any]], bool], timeout: float = TIMEOUT) -> dict[str, Any]:
        """Wait for an INFO, past or to come, for which ``matches`` is true."""
        self._wait(lambda: any(matches(info) for info in self.infos), timeout, "no such INFO")
        return next(info for info in self.infos if matches(info))

    def wait_for_error(self, timeout: float = TIMEOUT) -> str:
        """Wait for an ``-ERR``; returns the last one."""
        self._wait(lambda: bool(self.errors), timeout, "no -ERR")
        return self.errors[-1]

    def wait_closed(self, timeout: float = TIMEOUT) -> None:
        """Wait until the server closes the connection."""
        self._wait(lambda: self._closed, timeout, "the connection is still open")

    def close(self) -> None:
        """Close the connection."""
        with self._using_socket, contextlib.suppress(OSError):
            self._closing = True
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        # Before the thread has ended its file descriptor must not be given to another socket, which it would read from.
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> Witness:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- reading ---

    def _wait(self, condition: Callable[[], bool], timeout: float, failure: str) -> None:
        deadline = time.monotonic() + timeout
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                # What a closed connection has not brought will not come.
                if left <= 0 or self._closed:
                    state = f"the connection ended ({self.reason!r})" if self._closed else f"within {timeout} s"
                    raise WitnessError(f"{failure}: {state}; errors: {self.errors}; messages: {len(self._messages)}")
                self._changed.wait(left)

    def _read_info(self) -> None:
        """The first INFO, byte by byte: what follows it may belong to TLS."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self._socket.recv(1)
            if not byte:
                raise WitnessError(f"the server closed the connection after {line!r}")
            line += byte
        self._line(line)

    def _read(self) -> None:
        try:
            while data := self._receive():
                self._buffer += data
                with self._changed:
                    self._consume()
                    self._changed.notify_all()
        except OSError as error:
            self.reason = error
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _receive(self) -> bytes:
        while True:
            with self._using_socket:
                if self._closing:
                    return b""
                try:
                    return self._socket.recv(1 << 18)
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    descriptor = self._socket.fileno()
            select.select([descriptor], [], [])

    def _consume(self) -> None:
        position = 0
        while True:
            end = self._buffer.find(b"\n", position)
            if end < 0:
                break
            line = self._buffer[position : end + 1]
            operation, *arguments = line.rstrip(b"\r\n").split(b" ")
            if operation in (b"MSG", b"HMSG"):
                size = int(arguments[-1])
                if len(self._buffer) < end + 1 + size + 2:
                    break
                body = self._buffer[end + 1 : end + 1 + size]
                border = int(arguments.pop(-2)) if operation == b"HMSG" else 0
                subject, sid, reply = arguments[0], arguments[1], arguments[2] if len(arguments) == 4 else b""
                self._messages.append(Seen(subject, sid, reply, body[:border], body[border:]))
                position = end + 1 + size + 2
            else:
                self._line(line)
                position = end + 1
        self._buffer = self._buffer[position:]

    def _line(self, line: bytes) -> None:
        operation, _, rest = line.strip().partition(b" ")
        if operation == b"INFO":
            self.infos.append(json.loads(rest))
        elif operation == b"-ERR":
            self.errors.append(rest.decode("utf-8", "replace").strip("'"))
        elif operation == b"PING":
            self.send(b"PONG\r\n")
        elif operation == b"PONG":
            self._pongs += 1


def first_info(host: str, port: int, timeout: float = TIMEOUT) -> dict[str, Any]:
    """The INFO that a server greets with."""
    with socket.create_connection((host, port), timeout) as sock, sock.makefile("rb") as lines:
        line: bytes = lines.readline()
    if not line.startswith(b"INFO "):
        raise WitnessError(f"the server greeted with {line!r}")
    info: dict[str, Any] = json.loads(line[5:])
    return info


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.rpartition("//")[2].rpartition(":")
    return host.strip("[]"), int(port)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _block(headers: Mapping[str, str]) -> bytes:
    return b"NATS/1.0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items()) + b"\r\n"
