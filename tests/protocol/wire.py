"""Both ends of the wire for tests: what a client wrote, read by the server's rules, and what a server may write.

Nothing here uses the parser or the encoder that it is there to check.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from enum import Enum
from types import GetSetDescriptorType
from typing import Any, NamedTuple

from hypothesis import strategies as st

from pynats_twisted.protocol.parser import Line
from pynats_twisted.protocol.twin import Msg

INFO = b'INFO {"server_id":"S","version":"2.12.1","proto":1,"headers":true,"max_payload":1048576}\r\n'


# --- what a client writes, as a server reads it ----------------------------------------------------------------------


class Command(NamedTuple):
    """One command of a client. Fields that the command has not stay empty."""

    name: str
    subject: bytes = b""
    reply: bytes = b""
    queue: bytes = b""
    sid: int = 0
    limit: int = 0
    headers: tuple[tuple[bytes, bytes], ...] | None = None
    payload: bytes = b""
    text: bytes = b""


class NotACommandError(AssertionError):
    """The bytes are not a whole number of commands that a server would take."""


def read_commands(data: bytes) -> list[Command]:
    """Read everything that a client sent; a rest or a line that a server does not know is a :class:`NotACommandError`."""
    commands = []
    while data:
        line, end, data = data.partition(b"\n")
        if not end:
            raise NotACommandError(f"a line without its end: {line!r}")
        if line[-1:] == b"\r":
            line = line[:-1]
        name, _, rest = line.replace(b"\t", b" ").partition(b" ")
        arguments = [argument for argument in rest.split(b" ") if argument]
        operation = name.decode("latin-1").upper()
        if operation in ("PING", "PONG") and not arguments:
            commands.append(Command(operation))
        elif operation == "CONNECT":
            commands.append(Command(operation, text=line[len("CONNECT ") :]))
        elif operation in ("PUB", "HPUB"):
            command, data = _read_publish(operation, arguments, data)
            commands.append(command)
        elif operation == "SUB" and len(arguments) in (2, 3):
            queue = arguments[1] if len(arguments) == 3 else b""
            commands.append(Command(operation, subject=arguments[0], queue=queue, sid=_number(arguments[-1])))
        elif operation == "UNSUB" and len(arguments) in (1, 2):
            limit = _number(arguments[1]) if len(arguments) == 2 else 0
            commands.append(Command(operation, sid=_number(arguments[0]), limit=limit))
        else:
            raise NotACommandError(f"not a command: {line!r}")
    return commands


def _read_publish(operation: str, arguments: list[bytes], data: bytes) -> tuple[Command, bytes]:
    sizes = 2 if operation == "HPUB" else 1
    if len(arguments) not in (1 + sizes, 2 + sizes):
        raise NotACommandError(f"{operation} with arguments {arguments!r}")
    reply = arguments[1] if len(arguments) == 2 + sizes else b""
    total = _number(arguments[-1])
    header_size = _number(arguments[-2]) if operation == "HPUB" else 0
    if header_size > total or data[total : total + 2] != b"\r\n":
        raise NotACommandError(f"{operation} {arguments!r} does not end where its sizes say: {data[:80]!r}")
    headers = _read_headers(data[:header_size]) if operation == "HPUB" else None
    return Command(operation, arguments[0], reply, headers=headers, payload=data[header_size:total]), data[total + 2 :]


def _read_headers(block: bytes) -> tuple[tuple[bytes, bytes], ...]:
    if not block.startswith(b"NATS/1.0\r\n") or not block.endswith(b"\r\n\r\n"):
        raise NotACommandError(f"not a header block: {block!r}")
    pairs = []
    for line in block[len(b"NATS/1.0\r\n") : -2].split(b"\r\n")[:-1]:
        name, colon, value = line.partition(b": ")
        if not name or not colon or b"\r" in line or b"\n" in line:
            raise NotACommandError(f"not a header: {line!r}")
        pairs.append((name, value))
    return tuple(pairs)


def _number(text: bytes) -> int:
    if not text.isdigit():
        raise NotACommandError(f"not a number: {text!r}")
    return int(text)


# --- what a server writes --------------------------------------------------------------------------------------------


def msg(subject: bytes, sid: int, payload: bytes = b"", reply: bytes = b"") -> bytes:
    """A MSG frame."""
    return b" ".join([b"MSG", subject, b"%d" % sid, *([reply] if reply else []), b"%d" % len(payload)]) + b"\r\n" + payload + b"\r\n"


def hmsg(subject: bytes, sid: int, block: bytes, payload: bytes = b"", reply: bytes = b"") -> bytes:
    """An HMSG frame with any header block, right or wrong."""
    sizes = [b"%d" % len(block), b"%d" % (len(block) + len(payload))]
    return b" ".join([b"HMSG", subject, b"%d" % sid, *([reply] if reply else []), *sizes]) + b"\r\n" + block + payload + b"\r\n"


Described = tuple[Any, ...]


def described(item: Msg | Line) -> Described:
    """What a parser found, as something that can be compared. Texts lose the white space around them."""
    if isinstance(item, Msg):
        return ("MSG", to_bytes(item.subject), item.sid, to_bytes(item.reply), item.raw_headers, item.data)
    return (item.operation.value, item.text.strip(b" \t"))


def a_msg(subject: bytes, sid: int, data: bytes = b"", reply: bytes = b"", headers: bytes = b"") -> Described:
    """What :func:`described` says of such a message."""
    return ("MSG", subject, sid, reply, headers, data)


def to_bytes(text: str) -> bytes:
    """The bytes of a subject as they were on the wire."""
    return text.encode("utf-8", "surrogateescape")


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """The data in pieces of one size; the last may be smaller."""
    for position in range(0, len(data), size):
        yield data[position : position + size]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data, cut at some places (each modulo its length)."""
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


# --- strategies ------------------------------------------------------------------------------------------------------

#: Bytes that may stand in a subject that a server relays: all but space, tab and LF.
relayable = st.binary(min_size=1, max_size=20).map(lambda raw: raw.translate(None, b" \t\n")).filter(bool)

sids = st.integers(1, 10**12) | st.integers(1, 9)

_block = st.binary(max_size=60) | st.sampled_from(
    [b"NATS/1.0\r\n\r\n", b"NATS/1.0 503\r\nNats-Subject: a\r\n\r\n", b"NATS/1.0\r\nA: 1\r\nA: 2\r\nb:3\r\n\r\n"]
)

_payload = st.binary(max_size=80) | st.sampled_from([b"", b"\r\n", b"PING\r\n", b"MSG a 1 1\r\nx\r\n", b"\0", b"x" * 3000])


def _msg_frame(subject: bytes, sid: int, reply: bytes, payload: bytes) -> tuple[bytes, Described]:
    return msg(subject, sid, payload, reply), a_msg(subject, sid, payload, reply)


def _hmsg_frame(subject: bytes, sid: int, reply: bytes, block: bytes, payload: bytes) -> tuple[bytes, Described]:
    return hmsg(subject, sid, block, payload, reply), a_msg(subject, sid, payload, reply, block)


#: A legal frame of a server, with what it means.
frames = st.one_of(
    st.builds(_msg_frame, relayable, sids, st.just(b"") | relayable, _payload),
    st.builds(_hmsg_frame, relayable, sids, st.just(b"") | relayable, _block, _payload),
    st.sampled_from(
        [
            (b"PING\r\n", ("PING", b"")),
            (b"PONG\n", ("PONG", b"")),
            (b"+OK\r\n", ("+OK", b"")),
            (b"-ERR 'Stale Connection'\r\n", ("-ERR", b"'Stale Connection'")),
            (b'INFO {"max_payload":1048576} \r\n', ("INFO", b'{"max_payload":1048576}')),
        ]
    ),
)


# --- state -----------------------------------------------------------------------------------------------------------


def snapshot(value: Any, _above: frozenset[int] = frozenset()) -> Any:
    """Everything that can be reached from an object, as plain values: two equal snapshots are an unchanged object."""
    if value is None or isinstance(value, (bool, int, float, str, bytes, Enum, type)):
        return value
    if id(value) in _above:
        return "…"
    above = _above | {id(value)}
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, dict):
        return [(snapshot(key, above), snapshot(item, above)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [snapshot(item, above) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(repr(snapshot(item, above)) for item in value)
    attributes = dict(getattr(value, "__dict__", {}))
    for slots in (getattr(kind, "__slots__", ()) for kind in type(value).__mro__):
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                attributes[name] = getattr(value, name)
    # Compiled classes have their attributes as descriptors. Those of a message would parse its headers.
    if not attributes and not isinstance(value, Msg):
        for kind in type(value).__mro__[:-1]:
            names = [name for name, item in vars(kind).items() if isinstance(item, GetSetDescriptorType) and not name.startswith("__")]
            attributes.update({name: getattr(value, name) for name in names})
    return (type(value).__qualname__, id(value) if not attributes else 0, snapshot(attributes, above))
