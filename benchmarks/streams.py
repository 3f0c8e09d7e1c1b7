"""The stream and the consumer of a JetStream measurement: made, filled and checked on a plain socket, the same for every client."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from .clients.job import BUCKET, CONSUMER, KEYS, STREAM, SUBJECT

_INBOX = "_INBOX.benchmarks"
_SECONDS = 30.0
_SETTLE_SECONDS = 5.0
# The server's queue before a stream has room for some thousands. With this many at once, each batch waits until it is stored.
_BATCH = 1000


class StreamError(Exception):
    """The server refused something, or does not have what it should. The text is for people."""


class Streams:
    """JetStream of one server.

    :param port: of the server, on the loopback interface.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _SECONDS)
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        connect = {"verbose": False, "pedantic": False, "headers": False, "lang": "python-socket", "version": "0"}
        self._socket.sendall(f"CONNECT {json.dumps(connect)}\r\nSUB {_INBOX} 1\r\n".encode())

    def close(self) -> None:
        """Disconnect."""
        self._lines.close()
        self._socket.close()

    def make(self, *, work_queue: bool) -> None:
        """Make the stream, in memory, so that no disk is measured, and its durable pull consumer, which wants an ack for each message.

        :param work_queue: the stream drops what is acked.
        """
        retention = "workqueue" if work_queue else "limits"
        self._ask(f"STREAM.CREATE.{STREAM}", {"name": STREAM, "subjects": [SUBJECT], "storage": "memory", "retention": retention})
        consumer = {"name": CONSUMER, "durable_name": CONSUMER, "ack_policy": "explicit", "deliver_policy": "all"}
        self._ask(f"CONSUMER.CREATE.{STREAM}.{CONSUMER}", {"stream_name": STREAM, "config": consumer})

    def fill(self, count: int, size: int) -> None:
        """Store so many messages of so many bytes."""
        body = f"{size}\r\n".encode() + bytes(size) + b"\r\n"
        message = f"PUB {SUBJECT} ".encode() + body
        with_ack = f"PUB {SUBJECT} {_INBOX} ".encode() + body
        for begun in range(0, count, _BATCH):
            self._socket.sendall(message * (min(_BATCH, count - begun) - 1) + with_ack)
            self._answer()
        self.check_stored(count)

    def make_bucket(self) -> None:
        """Make the key-value bucket, in memory, as ADR-8 says."""
        options = {"max_msgs_per_subject": 1, "discard": "new", "deny_delete": True, "duplicate_window": 120 * 10**9}
        self._make_store(f"KV_{BUCKET}", [f"$KV.{BUCKET}.>"], options)

    def make_object_store(self) -> None:
        """Make the object store, in memory, as ADR-20 says."""
        self._make_store(f"OBJ_{BUCKET}", [f"$O.{BUCKET}.C.>", f"$O.{BUCKET}.M.>"], {"discard": "new"})

    def _make_store(self, name: str, subjects: list[str], options: Mapping[str, Any]) -> None:
        config = {"name": name, "subjects": subjects, "storage": "memory", "allow_rollup_hdrs": True, "allow_direct": True, **options}
        self._ask(f"STREAM.CREATE.{name}", config)

    def fill_bucket(self, size: int) -> None:
        """Store a value of so many bytes under every key."""
        value = f"{size}\r\n".encode() + bytes(size) + b"\r\n"
        subjects = [f"PUB $KV.{BUCKET}.key.{number} ".encode() for number in range(KEYS)]
        for begun in range(0, KEYS, _BATCH):
            batch = subjects[begun : begun + _BATCH]
            self._socket.sendall(b"".join([subject + value for subject in batch[:-1]]) + batch[-1] + f"{_INBOX} ".encode() + value)
            self._answer()
        self.check_bucket(KEYS)

    def check_bucket(self, count: int) -> None:
        """So many values have to have been put."""
        last = self._ask(f"STREAM.INFO.KV_{BUCKET}", {})["state"]["last_seq"]
        if last != count:
            raise StreamError(f"the bucket has stored {last:,} values, not {count:,}")

    def check_stored(self, count: int) -> None:
        """The stream has to have stored so many messages, whether they are still there or not."""
        last = self._ask(f"STREAM.INFO.{STREAM}", {})["state"]["last_seq"]
        if last != count:
            raise StreamError(f"the stream has stored {last:,} messages, not {count:,}")

    def check_acked(self, count: int) -> None:
        """So many messages have to be acked. The server is given time: it takes acks up after it has answered a flush."""
        end = time.monotonic() + _SETTLE_SECONDS
        while True:
            acked = self._ask(f"CONSUMER.INFO.{STREAM}.{CONSUMER}", {})["ack_floor"]["stream_seq"]
            if acked == count:
                return
            if time.monotonic() > end:
                raise StreamError(f"{acked:,} messages are acked, not {count:,}")
            time.sleep(0.01)

    def _ask(self, what: str, request: Mapping[str, Any]) -> dict[str, Any]:
        payload = json.dumps(request).encode()
        self._socket.sendall(f"PUB $JS.API.{what} {_INBOX} {len(payload)}\r\n".encode() + payload + b"\r\n")
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        while True:
            line = self._lines.readline()
            if line.startswith(b"MSG "):
                payload = self._lines.read(int(line.split()[-1]) + 2)
                break
            if line.startswith(b"PING"):
                self._socket.sendall(b"PONG\r\n")
            elif not line or line.startswith(b"-ERR"):
                raise StreamError(f"the server said {line.strip().decode()!r}")
        answer: dict[str, Any] = json.loads(payload)
        if "error" in answer:
            raise StreamError(f"the server said {answer['error'].get('description')!r}")
        return answer
