"""NATS on a plain socket: enough to ask, to publish and to watch, and nothing that could hide what is on the wire."""

from __future__ import annotations

import itertools
import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_READ = 256 * 1024
_numbers = itertools.count(1)


class WireError(Exception):
    """The server refused something. The text is for people."""


class Message(NamedTuple):
    """A message as it came: headers as the bytes of their block."""

    subject: str
    reply: str
    headers: bytes
    payload: bytes


class Wire:
    """A connection to the server on this port of the loopback interface, with a blocking socket.

    :param headers: whether messages come with their headers.
    :param timeout: seconds that anything may take.
    """

    def __init__(self, port: int, *, headers: bool = False, timeout: float = 30.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._inbox = f"_INBOX.bench-{os.getpid()}-{next(_numbers)}"
        self._line()
        options = {"verbose": False, "pedantic": False, "headers": headers, "no_responders": headers, "lang": "bench", "version": "1"}
        self.socket.sendall(f"CONNECT {json.dumps(options)}\r\nSUB {self._inbox} 1\r\nPING\r\n".encode())
        while self._line() != b"PONG":
            pass

    def close(self) -> None:
        """Disconnect."""
        self.socket.close()

    def subscribe(self, subject: str, sid: int = 2) -> None:
        """Subscribe, and wait until the server has it."""
        self.socket.sendall(f"SUB {subject} {sid}\r\nPING\r\n".encode())
        while self._line() != b"PONG":
            pass

    def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Publish one message."""
        self.socket.sendall(b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(payload), payload))

    def ask(self, what: str, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A question to JetStream's API, ``$JS.API.`` left out.

        :raises WireError: it answers with an error.
        """
        self.publish(f"$JS.API.{what}", json.dumps(request or {}).encode(), self._inbox)
        answer: dict[str, Any] = json.loads(self.next().payload)
        if "error" in answer:
            raise WireError(f"{what}: {answer['error'].get('description')}")
        return answer

    def make_stream(self, name: str, *subjects: str, **options: Any) -> None:
        """A stream in files, as it is by default."""
        config = {"name": name, "subjects": list(subjects), "storage": "file", "allow_direct": True, "duplicate_window": 120 * 10**9}
        self.ask(f"STREAM.CREATE.{name}", {**config, **options})

    def last_seq(self, stream: str) -> int:
        """The last sequence of a stream."""
        return int(self.ask(f"STREAM.INFO.{stream}")["state"]["last_seq"])

    def fill(self, subject: str, count: int, size: int) -> None:
        """Store so many messages of so many bytes in the stream that has the subject. Each begins with its number and a space."""
        for begun in range(0, count, 500):
            numbers = range(begun, min(begun + 500, count))
            parts = []
            for number in numbers:
                payload = (b"%d " % number).ljust(size, b"x")
                reply = f"{self._inbox} ".encode() if number == numbers[-1] else b""
                parts.append(b"PUB %b %b%d\r\n%b\r\n" % (subject.encode(), reply, len(payload), payload))
            self.socket.sendall(b"".join(parts))
            self.next()

    def stored(self, stream: str, count: int) -> Iterator[tuple[int, bytes]]:
        """Sequences and payloads of all messages of a stream, up to this sequence. For streams that keep them all."""
        name = "bench-reader"
        self.ask(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": {"name": name, "ack_policy": "none"}})
        left = 0
        for seq in range(1, count + 1):
            if not left:
                left = min(1000, count + 1 - seq)
                request = json.dumps({"batch": left, "expires": 20 * 10**9}).encode()
                self.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", request, self._inbox)
            message = self.next()
            left -= 1
            # $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>...
            yield int(message.reply.split(".")[5]), message.payload
        self.ask(f"CONSUMER.DELETE.{stream}.{name}")

    def next(self) -> Message:
        """The next message.

        :raises WireError: the server says an error, or closes the connection.
        """
        while True:
            line = self._line()
            if line.startswith((b"MSG ", b"HMSG ")):
                return self._message(line)
            if line == b"PING":
                self.socket.sendall(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                raise WireError(f"the server said {line.decode()}")

    def take(self) -> list[Message]:
        """All messages that are there once the socket is readable; what is incomplete waits for the rest."""
        self._receive()
        messages: list[Message] = []
        while True:
            line, end, rest = self._buffer.partition(b"\r\n")
            if not end:
                return messages
            if line.startswith((b"MSG ", b"HMSG ")):
                if len(rest) < int(line[line.rindex(b" ") + 1 :]) + 2:
                    return messages
                self._buffer = rest
                messages.append(self._message(line))
                continue
            self._buffer = rest
            if line == b"PING":
                self.socket.sendall(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                raise WireError(f"the server said {line.decode()}")

    def _message(self, line: bytes) -> Message:
        words = line.decode().split(" ")
        has_headers = words[0] == "HMSG"
        size, head = int(words[-1]), int(words[-2]) if has_headers else 0
        reply = words[3] if len(words) == (6 if has_headers else 5) else ""
        while len(self._buffer) < size + 2:
            self._receive()
        data, self._buffer = self._buffer[:size], self._buffer[size + 2 :]
        return Message(words[1], reply, data[:head], data[head:])

    def _line(self) -> bytes:
        while True:
            line, end, rest = self._buffer.partition(b"\r\n")
            if end:
                self._buffer = rest
                return line
            self._receive()

    def _receive(self) -> None:
        data = self.socket.recv(_READ)
        if not data:
            raise WireError("the server closed the connection")
        self._buffer += data
