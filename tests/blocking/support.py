"""A machine on which no time passes but by waiting, servers on it that say what a test tells them, and the base of these tests."""

from __future__ import annotations

import errno
import heapq
import itertools
import json
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.blocking import BlockingClient, StatusEvent
from pynats_twisted.blocking.sockets import Address, Machine, Wanted
from pynats_twisted.protocol import ClientOptions
from pynats_twisted.protocol.subjects import matches

INFO: dict[str, Any] = {"server_id": "S", "version": "2.12.1", "proto": 1, "headers": True, "max_payload": 1048576}


class WaitsForeverError(AssertionError):
    """A call waits without an end, and nothing will happen any more."""


class Published(NamedTuple):
    """A publish as a server got it."""

    subject: str
    payload: bytes
    reply: str
    headers: bytes


class Handle:
    """What a client holds of a connection. As with a real socket, one that nobody holds any more is closed; and that is counted."""

    def __init__(self, sock: FakeSocket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def __del__(self) -> None:
        if self._sock.state != "closed":
            self._sock.machine.leaked += 1
            self._sock.close()


class FakeSocket:
    """The client's end of a connection in memory."""

    def __init__(self, machine: FakeMachine, server: FakeServer | None) -> None:
        self.machine = machine
        self.server = server
        self.peer: Peer | None = None
        self.state = "connecting"
        self.error = 0
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.room = 1 << 62
        self.peer_ended = False
        self.read_size = 1 << 30

    def _check(self) -> None:
        if self.state == "closed":
            raise OSError(errno.EBADF, "closed")
        if self.error:
            raise OSError(self.error, os.strerror(self.error))

    def recv(self, size: int) -> bytes:
        self.machine.tick("recv")
        self.machine.pump()
        if self.incoming:
            size = min(size, self.read_size)
            data = bytes(self.incoming[:size])
            del self.incoming[:size]
            return data
        self._check()
        if self.peer_ended:
            return b""
        raise BlockingIOError

    def send(self, data: memoryview) -> int:
        self.machine.tick("send")
        self._check()
        size = min(len(data), self.room - len(self.outgoing))
        if size <= 0:
            raise BlockingIOError
        self.outgoing += data[:size]
        return size

    def shutdown(self, how: int) -> None:
        if self.peer is not None:
            self.machine.pump()
            self.peer.client_ended = True

    def close(self) -> None:
        if self.state != "closed":
            self.state = "closed"
            self.machine.open_sockets.discard(self)
            if self.peer is not None:
                self.peer.open = False

    # --- what the machine asks ---

    def readable(self) -> bool:
        return bool(self.incoming or self.peer_ended or self.error)

    def writable(self) -> bool:
        return bool(self.error) or (self.state == "connected" and len(self.outgoing) < self.room)


class FakeMachine(Machine):
    """Time, names and sockets in memory. A wait that has nothing to wait for lets the time go on to what happens next.

    :ivar names: what names resolve to, where that is not the server of the same name.
    :ivar waits: how long each wait without a socket was to be.
    :ivar open_sockets: those that are not closed; :ivar leaked: how many were forgotten without being closed.
    :ivar on_tick: called for each "send", "recv" and "wait", before it does anything.
    """

    def __init__(self) -> None:
        self.time = 1000.0
        self.servers: dict[tuple[str, int], FakeServer] = {}
        self.names: dict[str, list[str]] = {}
        self.open_sockets: set[FakeSocket] = set()
        self.leaked = 0
        self.dialled: list[str] = []
        self.waits: list[float] = []
        self.on_tick: Callable[[str], None] = lambda kind: None
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def tick(self, kind: str) -> None:
        self.on_tick(kind)

    def at(self, delay: float, call: Callable[[], Any]) -> None:
        """Call something when so many seconds have passed."""
        heapq.heappush(self._later, (self.time + delay, next(self._numbers), call))

    def pump(self) -> None:
        """Let all servers read what has come for them."""
        for server in list(self.servers.values()):
            server.pump()

    # --- what the client asks ---

    def now(self) -> float:
        return self.time

    def wait(self, wanted: Sequence[Wanted], timeout: float | None) -> bool:
        self.tick("wait")
        if not wanted:
            self.waits.append(timeout or 0.0)
        end = None if timeout is None else self.time + timeout
        while True:
            self.pump()
            if any((read and sock.readable()) or (write and sock.writable()) for sock, read, write in wanted):
                return True
            if self._later and (end is None or self._later[0][0] <= end):
                when, _, call = heapq.heappop(self._later)
                self.time = max(self.time, when)
                call()
            elif end is None:
                raise WaitsForeverError("nothing will happen any more")
            else:
                self.time = max(self.time, end)
                return False

    def resolve(self, host: str, port: int) -> list[Address]:
        if host in self.names and not self.names[host]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [Address(socket.AF_INET, (name, port)) for name in self.names.get(host, [host])]

    def unix_address(self, path: str) -> Address:
        return Address(socket.AF_UNIX, (path, 0))

    def dial(self, address: Address) -> Handle:
        host, port = address.where
        self.dialled.append(f"{host}:{port}")
        server = self.servers.get((host, port))
        sock = FakeSocket(self, server)
        self.open_sockets.add(sock)
        mode = server.mode if server is not None else "refuse"
        if mode == "refuse":
            sock.close()
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        if mode == "refuse later":
            self.at(0.1, lambda: setattr(sock, "error", errno.ECONNREFUSED))
        if mode == "accept":
            sock.state = "connected"
            assert server is not None
            server.accept(sock)
        return Handle(sock)

    def is_connected(self, sock: Handle) -> bool:
        sock._check()
        return bool(sock.state == "connected")


class Peer:
    """A server's end of a connection."""

    def __init__(self, server: FakeServer, sock: FakeSocket) -> None:
        self.server = server
        self.socket = sock
        self.open = True
        self.client_ended = False
        self.received = bytearray()
        self.lines: list[str] = []
        self.connect: dict[str, Any] = {}
        self.subscriptions: dict[int, tuple[str, str]] = {}
        self.limits: dict[int, int] = {}

    def send(self, data: bytes) -> None:
        """Bytes for the client."""
        self.socket.incoming += data

    def close(self) -> None:
        """End the stream."""
        self.open = False
        self.socket.peer_ended = True

    def reset(self) -> None:
        """Break the connection; what the client had not read is gone."""
        self.open = False
        self.socket.incoming.clear()
        self.socket.error = errno.ECONNRESET


class FakeServer:
    """A NATS server that does what a test wants, and else what a server does.

    :ivar mode: "accept", "refuse", "refuse later" (as over a network) or "swallow" connections.
    :ivar reading: whether it reads; False: what comes stays in the sockets.
    :ivar silent: commands that it does not answer (PING, CONNECT).
    :ivar denied: subjects that may not be used.
    :ivar served: subjects that somebody else answers: nobody is told that there are no responders.
    :ivar published: everything that was published to it.
    :ivar peers: all connections that it ever had, oldest first.
    """

    def __init__(self, machine: FakeMachine, name: str = "a", port: int = 4222, **info: Any) -> None:
        self.machine = machine
        self.name = name
        self.info = {**INFO, **info}
        self.mode = "accept"
        self.reading = True
        self.greets = True
        self.silent: set[str] = set()
        self.denied: set[str] = set()
        self.served: set[str] = set()
        self.published: list[Published] = []
        self.peers: list[Peer] = []
        self.room = 1 << 62
        self.on_line: Callable[[Peer, str], None] = lambda peer, line: None
        machine.servers[name, port] = self

    @property
    def peer(self) -> Peer:
        """The latest connection."""
        return self.peers[-1]

    @property
    def payloads(self) -> list[bytes]:
        return [each.payload for each in self.published]

    def accept(self, sock: FakeSocket) -> None:
        peer = Peer(self, sock)
        sock.peer = peer
        sock.room = self.room
        self.peers.append(peer)
        if self.greets:
            peer.send(self.info_line())

    def info_line(self, **keys: Any) -> bytes:
        """An INFO."""
        return b"INFO " + json.dumps({**self.info, **keys}).encode() + b"\r\n"

    def stop(self) -> None:
        """End all connections and take no new ones."""
        self.mode = "refuse"
        for peer in self.peers:
            peer.close()

    def publish(self, subject: str, payload: bytes = b"", reply: str = "", headers: bytes = b"") -> None:
        """Deliver a message to whoever is subscribed."""
        for peer in self.peers:
            if peer.open:
                self._deliver(peer, subject, payload, reply, headers)

    def _deliver(self, peer: Peer, subject: str, payload: bytes, reply: str, headers: bytes) -> int:
        count = 0
        for sid, (pattern, _) in list(peer.subscriptions.items()):
            if matches(pattern, subject):
                count += 1
                self._send_message(peer, sid, subject, payload, reply, headers)
        return count

    def _send_message(self, peer: Peer, sid: int, subject: str, payload: bytes, reply: str, headers: bytes) -> None:
        target = f"{subject} {sid} {reply} " if reply else f"{subject} {sid} "
        if headers:
            peer.send(f"HMSG {target}{len(headers)} {len(headers) + len(payload)}\r\n".encode() + headers + payload + b"\r\n")
        else:
            peer.send(f"MSG {target}{len(payload)}\r\n".encode() + payload + b"\r\n")
        if sid in peer.limits:
            peer.limits[sid] -= 1
            if not peer.limits[sid]:
                del peer.limits[sid], peer.subscriptions[sid]

    # --- reading ---

    def pump(self) -> None:
        for peer in self.peers:
            if peer.open and self.reading:
                peer.received += peer.socket.outgoing
                peer.socket.outgoing.clear()
                while peer.open and self._read_one(peer):
                    pass
                if peer.client_ended:
                    peer.close()

    def _read_one(self, peer: Peer) -> bool:
        data = peer.received
        end = data.find(b"\r\n")
        if end < 0:
            return False
        line = data[:end].decode()
        name, _, rest = line.partition(" ")
        arguments = rest.split()
        size = int(arguments[-1]) if name in ("PUB", "HPUB") else -1
        if size >= 0 and len(data) < end + 2 + size + 2:
            return False
        body = bytes(data[end + 2 : end + 2 + size]) if size >= 0 else b""
        if size >= 0 and data[end + 2 + size : end + 4 + size] != b"\r\n":
            raise AssertionError(f"a payload without its end: {line}")
        del data[: end + 2 + (size + 2 if size >= 0 else 0)]
        peer.lines.append(line)
        self._command(peer, name, arguments, rest, body)
        self.on_line(peer, line)
        return True

    def _command(self, peer: Peer, name: str, arguments: list[str], rest: str, body: bytes) -> None:
        if name == "CONNECT":
            peer.connect = json.loads(rest)
        elif name == "PING":
            if "PING" not in self.silent:
                peer.send(b"PONG\r\n")
        elif name == "SUB":
            if arguments[0] in self.denied:
                peer.send(f"-ERR 'Permissions Violation for Subscription to \"{arguments[0]}\"'\r\n".encode())
            else:
                peer.subscriptions[int(arguments[-1])] = (arguments[0], arguments[1] if len(arguments) == 3 else "")
        elif name == "UNSUB":
            if len(arguments) == 2:
                peer.limits[int(arguments[0])] = int(arguments[1])
            else:
                peer.subscriptions.pop(int(arguments[0]), None)
        elif name in ("PUB", "HPUB"):
            self._published(peer, name, arguments, body)
        elif name != "PONG":
            raise AssertionError(f"not a command of a client: {name!r}")

    def _published(self, peer: Peer, name: str, arguments: list[str], body: bytes) -> None:
        sizes = 2 if name == "HPUB" else 1
        subject, reply = arguments[0], arguments[1] if len(arguments) == 2 + sizes else ""
        border = int(arguments[-2]) if name == "HPUB" else 0
        if subject in self.denied:
            peer.send(f"-ERR 'Permissions Violation for Publish to \"{subject}\"'\r\n".encode())
            return
        self.published.append(Published(subject, body[border:], reply, body[:border]))
        found = sum(self._deliver(each, subject, body[border:], reply, body[:border]) for each in self.peers if each.open)
        if not found and subject not in self.served and reply and peer.connect.get("no_responders"):
            sid = next((sid for sid, (pattern, _) in peer.subscriptions.items() if matches(pattern, reply)), None)
            if sid is not None:
                self._send_message(peer, sid, reply, b"", "", b"NATS/1.0 503\r\n\r\n")


class BlockingTestCase(SynchronousTestCase):
    """A machine, a server ``a:4222`` on it, and clients that leave no socket behind."""

    def setUp(self) -> None:
        self.machine = FakeMachine()
        self.server = FakeServer(self.machine)
        self.events: list[StatusEvent] = []
        self.addCleanup(lambda: self.assertEqual((self.machine.open_sockets, self.machine.leaked), (set(), 0)))

    def connect(self, servers: str = "nats://a:4222", **options: Any) -> BlockingClient:
        """A connected client. After the test it is closed, and no socket may be left."""
        options.setdefault("shuffle_servers", False)
        client = BlockingClient(ClientOptions(servers=servers, **options), on_event=self.events.append, machine=self.machine)
        self.addCleanup(self._close, client)
        return client.start()

    def _close(self, client: BlockingClient) -> None:
        self.machine.on_tick = lambda kind: None
        client.close()

    def seen(self, *types: type[StatusEvent]) -> list[Any]:
        """The events of these types, or the names of all."""
        return [event for event in self.events if isinstance(event, types)] if types else [type(event).__name__ for event in self.events]
