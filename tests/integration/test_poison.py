"""Hostile messages that a server relays: a subscriber gets each of them, and loses neither its connection nor a neighbour."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.protocol import ClientOptions, ConnectionProtocol, EventType, Msg
from pynats_twisted.testing import BlockingServerProcess, ServerProcess

from .sockets import TIMEOUT, SocketConnection

#: What ends an argument or a line for a server; every other byte may be in a subject.
ENDS = b" \t\n"

EMPTY = b"NATS/1.0\r\n\r\n"

SUBJECTS = [
    *(b"p.x%cy" % code for code in range(256) if code not in ENDS + b"."),
    *(b"p.%c" % code for code in range(256) if code not in ENDS + b"."),
    b"p.a\rb", b"p.\r", b"p.a\r\rb", b"p.\0\0", b"p.\x0b\x0c\x1c\x1d\x1e\x1f", b"p.\xff\xfe\xfd", b"p.\xc3", b"p.\xc3\xa9",
    b"p.\xed\xa0\x80", b"p.\xe2\x80\xa8", b"p.\xc2\x85", b"p.\xef\xbb\xbf", b"p.*", b"p.>", b"p.*.>", b"p.a.*", b"p.MSG", b"p.PING\rPONG",
    b"p.1", b"p.-1", b"p." + b"x" * 3900, b"p." + b"\xff" * 3900, b"p" + b".t" * 1900,
]  # fmt: skip

REPLIES = [
    *(b"r%cr" % code for code in range(256) if code not in ENDS),
    *(b"%c" % code for code in range(256) if code not in ENDS),
    b"a\rb", b"\r", b"\0", b"\xff\xfe", b"*", b">", b"5", b"0", b"-1", b"..", b".", b"p.x", b"r" * 3900,
]  # fmt: skip

BLOCKS = [
    EMPTY,
    b"NATS/1.0\r\nA: 1\r\nA: 2\r\na: 3\r\n\r\n",
    b"NATS/1.0\r\na:\r\nb:b\r\n\r\n",
    b"NATS/1.0\r\n: b\r\n\r\n",
    b"NATS/1.0\r\nno colon\r\n\r\n",
    b"NATS/1.0\r\nA: \xff\xfe\r\n\xff: x\r\n\r\n",
    b"NATS/1.0\r\nA: b\r\n  c: d\r\n\r\n",
    b"NATS/1.0\nA: 1\n\n",
    b"NATS/1.0\r\nA: 1\r\n",
    b"NATS/1.0\r\nA: 1\rB: 2\r\n\r\n",
    b"NATS/1.0\r\nA: \0\r\n\r\n",
    b"NATS/1.0",
    b"NATS/1.0\r\n",
    b"xxxxx",
    b"NATS/2.0\r\n\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    *(b"NATS/1.0" + rest + b"\r\n\r\n" for rest in (b" ", b" 4", b" 12", b"503", b" 503", b" -12", b"  404   No", b" " + b"9" * 30)),
    b"NATS/1.0 503\r\nNats-Subject: x\r\n\r\n",
    b"MSG p.x 1 5\r\nhello\r\n",
    b"NATS/1.0\r\n" + b"".join(b"Name-%d: %b\r\n" % (number, b"v" * 40) for number in range(700)) + b"\r\n",
    b"NATS/1.0\r\n" + b"A: b\r\n" * 12_000 + b"\r\n",
    b"\n" * 100_000,
    b"NATS/1.0\r\nA: " + b"x" * 200_000 + b"\r\n\r\n",
]  # fmt: skip

PAYLOADS = [
    b"",
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"PING\r\n",
    b"-ERR 'x'\r\n",
    b"MSG p.x 1 3\r\nabc\r\n",
    b"INFO {}\r\n",
    bytes(range(256)),
    b"\r\n" * 5000,
]

Sent = tuple[bytes, bytes, bytes, bytes]


def corpus(max_payload: int) -> Iterator[Sent]:
    """Every message: subject, reply, header block, payload."""
    for subject in SUBJECTS:
        yield subject, b"", b"", b"a subject"
    for reply in REPLIES:
        yield b"p.r", reply, b"", b"a reply"
        yield b"p.h", reply, EMPTY, b"a reply"
    for block in BLOCKS:
        for payload in (b"", b"a block"):
            yield b"p.b", b"", block, payload
    for payload in (*PAYLOADS, b"x" * (max_payload - 1), b"x" * max_payload):
        yield b"p.p", b"", b"", payload
    yield b"p.m", b"", EMPTY, b"x" * (max_payload - len(EMPTY))


def wire(message: Sent) -> bytes:
    """A publish as a hostile client writes it; ours would refuse most of these."""
    subject, reply, block, payload = message
    arguments = [subject, *([reply] if reply else []), *([b"%d" % len(block)] if block else []), b"%d" % (len(block) + len(payload))]
    return (b"HPUB " if block else b"PUB ") + b" ".join(arguments) + b"\r\n" + block + payload + b"\r\n"


def arrived(msg: Msg) -> Sent:
    """A message as it came, in bytes. Everything that could fail to be read is read."""
    msg.headers.get_all("A")
    assert msg.status is None or 0 <= msg.status <= 999
    assert msg.headers_problem is None or msg.headers_problem
    repr(msg)
    return (*(text.encode("utf-8", "surrogateescape") for text in (msg.subject, msg.reply)), msg.raw_headers, msg.data)


class HostilePublisher:
    """A client without any manners."""

    def __init__(self, server: BlockingServerProcess) -> None:
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)
        self.sock.sendall(b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"protocol":1}\r\n')

    def send(self, data: bytes) -> None:
        """Send bytes, and make sure that the server has read them and accepted them all."""
        self.sock.sendall(data + b"PING\r\n")
        answer = b""
        while b"PONG\r\n" not in answer:  # an INFO may come behind it
            more = self.sock.recv(65536)
            if not more:
                raise AssertionError(f"the server does not relay this: it said {answer[-200:]!r}")
            answer += more
        if b"-ERR" in answer:
            raise AssertionError(f"the server does not relay this: it said {answer[-200:]!r}")


class PoisonTests(SynchronousTestCase):
    """The corpus of hostile messages, through a real server."""

    def check(self, read_size: int, **config: int) -> None:
        with ServerProcess.running({"max_payload": 300_000, **config}) as server:
            publisher = HostilePublisher(server)
            self.addCleanup(publisher.sock.close)
            proto = ConnectionProtocol(ClientOptions(servers=server.url))
            with SocketConnection(proto) as connection:
                connection.handshake()
                connection.sock.sendall(proto.subscribe("p.>", sid=1) + proto.subscribe("neighbour", sid=2))
                connection.flush()
                count = 0
                for count, message in enumerate(corpus(300_000)):
                    neighbours = [(b"neighbour", b"", b"", b"%d before" % count), (b"neighbour", b"", b"", b"%d after" % count)]
                    expected = [neighbours[0], message, neighbours[1]]
                    publisher.send(b"".join(map(wire, expected)))
                    events = connection.wait_for(lambda events: len(events) >= 3, read_size)
                    self.assertEqual([event.type for event in events], [EventType.MSG] * 3, message)
                    self.assertEqual([arrived(event.body) for event in events], expected)
                self.assertGreater(count, 1000)
                self.assertEqual([event.type for event in connection.flush()], [EventType.PONG])
                self.assertEqual(proto.unknown_sid_msgs, 0)

    def test_corpus(self) -> None:
        """Each message of the corpus arrives as it was sent, between its neighbours, on the one connection."""
        self.check(65536)

    def test_corpus_in_small_reads(self) -> None:
        """The same where reads are small, so that messages come in pieces."""
        self.check(509)

    def test_larger_than_the_limit_that_was_known(self) -> None:
        """A message may be larger than the ``max_payload`` of which the subscriber knows."""
        with ServerProcess.running({"max_payload": 1000}) as server:
            proto = ConnectionProtocol(ClientOptions(servers=server.url))
            with SocketConnection(proto) as connection:
                connection.handshake()
                connection.sock.sendall(proto.subscribe("p.>", sid=1))
                connection.flush()
                server.reload(config={"max_payload": 500_000})
                publisher = HostilePublisher(server)
                self.addCleanup(publisher.sock.close)
                message = (b"p.large", b"", EMPTY, b"x" * 400_000)
                publisher.send(wire(message))
                events = connection.wait_for(lambda events: EventType.MSG in events)
                self.assertEqual([arrived(event.body) for event in events if event == EventType.MSG], [message])
                self.assertNotIn(EventType.ERROR, events)
