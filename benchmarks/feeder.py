"""The other side of a measurement: publishes as fast as the server takes it, and answers requests.

A program of its own, without any library: ``python feeder.py PORT CA`` connects, with TLS where the file CA is named, prints ``ready``, and
obeys what comes on the subject ``bench.feed``: ``SUBJECT SIZE COUNT SUBJECTS``. With SUBJECTS of 0 everything goes to SUBJECT itself;
otherwise to ``SUBJECT.0``, ``SUBJECT.1`` ... in turn. A request on ``bench.echo`` is answered with its payload. It ends when the server
closes the connection.
"""

from __future__ import annotations

import socket
import sys

_CHUNK = 256 * 1024
_READ = 256 * 1024


def frames(subject: str, size: int, subjects: int) -> list[bytes]:
    """Publishes of one round over all subjects, repeated until they fill a chunk."""
    names = [f"{subject}.{number}" for number in range(subjects)] if subjects else [subject]
    payload = bytes(size)
    one_round = [b"PUB %b %d\r\n%b\r\n" % (name.encode(), size, payload) for name in names]
    return one_round * max(1, _CHUNK // sum(map(len, one_round)))


def feed(connection: socket.socket, order: bytes) -> None:
    """Publish what an order says."""
    subject, size, count, subjects = order.decode().split()
    each = frames(subject, int(size), int(subjects))
    chunk = b"".join(each)
    times, rest = divmod(int(count), len(each))
    for _ in range(times):
        connection.sendall(chunk)
    connection.sendall(b"".join(each[:rest]))


def serve(connection: socket.socket) -> None:
    """Until the server closes the connection."""
    buffer = b""
    while True:
        data = connection.recv(_READ)
        if not data:
            return
        buffer += data
        position = 0
        replies: list[bytes] = []
        while True:
            end = buffer.find(b"\r\n", position)
            if end < 0:
                break
            line = buffer[position:end]
            if line.startswith(b"MSG "):
                words = line.split(b" ")
                size = int(words[-1])
                begin = end + 2
                if len(buffer) < begin + size + 2:
                    break
                payload = buffer[begin : begin + size]
                if len(words) == 5:
                    replies.append(b"PUB %b %d\r\n%b\r\n" % (words[3], size, payload))
                else:
                    feed(connection, payload)
                position = begin + size + 2
                continue
            if line == b"PING":
                replies.append(b"PONG\r\n")
            elif line == b"PONG":
                print("ready", flush=True)
            elif line.startswith(b"-ERR"):
                sys.exit(f"the server said {line.decode()}")
            position = end + 2
        buffer = buffer[position:]
        if replies:
            connection.sendall(b"".join(replies))


def connect(port: int, ca: str) -> socket.socket:
    """A connection whose INFO was read."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not ca:
        return connection
    while not connection.recv(_READ).endswith(b"\r\n"):
        pass
    import ssl

    return ssl.create_default_context(cafile=ca).wrap_socket(connection, server_hostname="127.0.0.1")


def main() -> None:
    """Connect, and obey."""
    port, ca = sys.argv[1:]
    with connect(int(port), ca) as connection:
        connection.sendall(b'CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"1"}\r\n')
        connection.sendall(b"SUB bench.feed 1\r\nSUB bench.echo 2\r\nPING\r\n")
        serve(connection)


if __name__ == "__main__":
    main()
