"""Bytes from a client, in any split, to frames: the server's side of the protocol, as strict and as lenient as nats-server."""

from __future__ import annotations

import json

from .server_frames import (
    BrokenFrame,
    ConnectFrame,
    Frame,
    OtherFrame,
    PingFrame,
    PongFrame,
    PublishFrame,
    SubscribeFrame,
    UnsubscribeFrame,
)

UNKNOWN_OPERATION = "Unknown Protocol Operation"
CONTROL_LINE_EXCEEDED = "maximum control line exceeded"
PAYLOAD_VIOLATION = "Maximum Payload Violation"

# Operations that need white space behind them, and those after which anything may stand until the line's end.
_WITH_ARGUMENTS = (b"CONNECT", b"PUB", b"HPUB", b"SUB", b"UNSUB", b"INFO", b"-ERR")
_ALONE = (b"PING", b"PONG", b"+OK")
_LONGEST = 8

# The server reads at most this many digits of a size.
_MAX_DIGITS = 9


class ClientParser:
    """The state of reading one client's bytes.

    :param client_id: the number that frames are marked with.
    :param max_control_line: bytes that the arguments of an operation may have.
    :param max_payload: bytes of headers and payload together.
    :ivar broken: a :class:`BrokenFrame` was given; nothing more is.
    """

    def __init__(self, client_id: int = 0, max_control_line: int = 4096, max_payload: int = 1024 * 1024) -> None:
        self.client_id = client_id
        self.max_control_line = max_control_line
        self.max_payload = max_payload
        self.broken = False
        self._buffer = bytearray()
        self._position = 0
        self._searched = 0
        # A publish whose payload has not all come: subject, reply, bytes of headers, bytes of all.
        self._publish: tuple[str, str, int, int] | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes; :meth:`next_frame` reads them."""
        if self._position:
            del self._buffer[: self._position]
            self._searched -= self._position
            self._position = 0
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None when more bytes are needed."""
        if self.broken:
            return None
        if self._publish is not None:
            return self._payload(self._publish)
        end = self._buffer.find(b"\n", max(self._searched, self._position))
        if end < 0:
            self._searched = len(self._buffer)
            return self._check_unfinished()
        line = bytes(self._buffer[self._position : end])
        self._position = self._searched = end + 1
        return self._line(line[:-1] if line.endswith(b"\r") else line)

    def _check_unfinished(self) -> Frame | None:
        start = bytes(self._buffer[self._position : self._position + _LONGEST])
        if not start:
            return None
        upper = start.upper()
        for operation in _WITH_ARGUMENTS + _ALONE:
            if not upper.startswith(operation[: len(upper)]):
                continue
            following = upper[len(operation) : len(operation) + 1]
            if operation in _WITH_ARGUMENTS and following not in (b"", b" ", b"\t"):
                break
            if len(self._buffer) - self._position - len(operation) - 1 > self.max_control_line:
                return self._break(CONTROL_LINE_EXCEEDED, start)
            return None
        return self._break(UNKNOWN_OPERATION, start)

    def _line(self, line: bytes) -> Frame | None:
        upper = line[:_LONGEST].upper()
        if upper.startswith(b"PING"):
            return PingFrame(client_id=self.client_id)
        if upper.startswith(b"PONG"):
            return PongFrame(client_id=self.client_id)
        if upper.startswith(b"+OK"):
            return OtherFrame(client_id=self.client_id, line=line)
        for operation in _WITH_ARGUMENTS:
            size = len(operation)
            if upper.startswith(operation) and upper[size : size + 1] in (b" ", b"\t"):
                text = line[size + 1 :]
                if len(text) > self.max_control_line:
                    return self._break(CONTROL_LINE_EXCEEDED, line)
                return self._operation(operation, text, line)
        return self._break(UNKNOWN_OPERATION, line)

    def _operation(self, operation: bytes, text: bytes, line: bytes) -> Frame | None:
        if operation == b"CONNECT":
            return self._connect(text)
        if operation == b"INFO":
            return OtherFrame(client_id=self.client_id, line=line)
        # Not split(): a server takes any other white space for a part of the argument.
        words = text.replace(b"\t", b" ").replace(b"\r", b" ").split(b" ")
        arguments = [word.decode("utf-8", "surrogateescape") for word in words if word]
        count = len(arguments)
        if operation == b"SUB" and count in (2, 3):
            queue = arguments[1] if count == 3 else ""
            return SubscribeFrame(client_id=self.client_id, subject=arguments[0], queue=queue, sid=arguments[-1])
        if operation == b"UNSUB" and count in (1, 2):
            limit = _size(arguments[1]) if count == 2 else 0
            return UnsubscribeFrame(client_id=self.client_id, sid=arguments[0], limit=max(0, limit))
        if operation == b"PUB" and count in (2, 3):
            return self._begin_publish(arguments[0], arguments[1] if count == 3 else "", 0, _size(arguments[-1]), line)
        if operation == b"HPUB" and count in (3, 4):
            return self._begin_publish(arguments[0], arguments[1] if count == 4 else "", _size(arguments[-2]), _size(arguments[-1]), line)
        # Wrong arguments, or an -ERR of the client: the server goes without a word.
        return self._break(None, line)

    def _connect(self, text: bytes) -> Frame:
        try:
            options = json.loads(text)
        except (ValueError, RecursionError):
            options = None
        if not isinstance(options, dict):
            # Credentials may stand in it: nothing of it is kept.
            return self._break(None, b"CONNECT")
        return ConnectFrame(client_id=self.client_id, options=options)

    def _begin_publish(self, subject: str, reply: str, header_size: int, size: int, line: bytes) -> Frame | None:
        if size < 0 or header_size < 0 or header_size > size:
            return self._break(None, line)
        if size > self.max_payload:
            return self._break(PAYLOAD_VIOLATION, line)
        self._publish = (subject, reply, header_size, size)
        return self._payload(self._publish)

    def _payload(self, publish: tuple[str, str, int, int]) -> Frame | None:
        subject, reply, header_size, size = publish
        end = self._position + size
        terminator = self._buffer[end : end + 2]
        if terminator != b"\r\n"[: len(terminator)]:
            return self._break(UNKNOWN_OPERATION, bytes(terminator))
        if len(terminator) < 2:
            return None
        body = bytes(self._buffer[self._position : end])
        self._position = self._searched = end + 2
        self._publish = None
        return PublishFrame(
            client_id=self.client_id, subject=subject, reply=reply, header_block=body[:header_size], payload=body[header_size:]
        )

    def _break(self, error: str | None, start: bytes) -> BrokenFrame:
        self.broken = True
        self._buffer.clear()
        self._position = self._searched = 0
        return BrokenFrame(client_id=self.client_id, error=error, start=start[:64])


def _size(text: str) -> int:
    """A number as the server reads it; -1 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else -1
