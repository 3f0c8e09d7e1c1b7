"""A bucket in memory, for locks in virtual time: a stream that knows expected sequences, message ids, rollups and times to live."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import NatsClient
from pynats_twisted.jetstream.api import StreamConfig, StreamInfo
from pynats_twisted.jetstream.stream import Stream
from pynats_twisted.keyvalue.bucket import KeyValue
from pynats_twisted.protocol.headers import Headers, parse_headers
from pynats_twisted.testing import InMemoryServer, MemoryNetwork, connected_client
from pynats_twisted.testing.server_frames import PublishFrame

KIND = "io.nats.jetstream.api.v1."
API = "$JS.API"
STREAM = "KV_b"
PREFIX = "$KV.b."


@dataclass
class Stored:
    """A message."""

    seq: int
    subject: str
    data: bytes
    block: bytes
    until: float

    @property
    def headers(self) -> Headers:
        return parse_headers(self.block).headers if self.block else Headers()


@dataclass
class Consumer:
    """A consumer of the server's, which hands out what is stored."""

    filter: str
    next_seq: int
    inbox: str = ""
    delivered: int = 0


class LockBucket:
    """The bucket ``b``.

    :ivar is_silent: it answers nothing, and stores nothing. :ivar loses_acks: it stores, and says nothing of that.
    :ivar is_deaf: it does not answer when it is asked for a message. :ivar interfere: called once, just before something is stored.
    :ivar messages: what it has. :ivar consumers: by name.
    """

    def __init__(self, server: InMemoryServer, network: MemoryNetwork, marker_ttl: float = 1.0) -> None:
        self.server = server
        self.network = network
        self.marker_ttl = marker_ttl
        self.is_silent = False
        self.loses_acks = False
        self.is_deaf = False
        self.interfere: Callable[[], object] | None = None
        self.last_seq = 0
        self.messages: list[Stored] = []
        self.consumers: dict[str, Consumer] = {}
        self.published: list[PublishFrame] = []
        self._ids: dict[str, int] = {}
        self._respond(f"{PREFIX}>", self._publish)
        self._respond(f"{API}.STREAM.MSG.GET.{STREAM}", self._get)
        self._respond(f"{API}.STREAM.INFO.{STREAM}", self._info)
        self._respond(f"{API}.CONSUMER.CREATE.{STREAM}.>", self._create)
        self._respond(f"{API}.CONSUMER.DELETE.{STREAM}.>", self._delete)
        self._respond(f"{API}.CONSUMER.MSG.NEXT.{STREAM}.>", self._next)

    def _respond(self, pattern: str, answer: Callable[[PublishFrame], bytes | None]) -> None:
        self.server.respond(pattern, lambda frame: None if self.is_silent else answer(frame))

    # --- what it has -----------------------------------------------------------------------------------------

    def last(self, key: str) -> Stored | None:
        """The last message of a key."""
        found = [each for each in self.messages if each.subject == PREFIX + key]
        return found[-1] if found else None

    def store(self, key: str, data: bytes = b"", **headers: str) -> int:
        """Have somebody else write."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return self._store(PREFIX + key, data, f"NATS/1.0\r\n{lines}\r\n".encode() if lines else b"")

    def tick(self) -> None:
        """Remove what has run out."""
        now = self.network.seconds()
        for each in [each for each in self.messages if each.until <= now]:
            self.messages.remove(each)
            is_marker = "Nats-Marker-Reason" in each.headers or "KV-Operation" in each.headers
            if self.marker_ttl and not is_marker and not any(other.subject == each.subject for other in self.messages):
                self._store(each.subject, b"", f"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: {self.marker_ttl:g}\r\n\r\n".encode())

    def _store(self, subject: str, data: bytes, block: bytes) -> int:
        self.last_seq += 1
        headers = parse_headers(block).headers if block else Headers()
        # Its history is 1.
        self.messages = [each for each in self.messages if each.subject != subject]
        ttl = headers.get("Nats-TTL")
        until = self.network.seconds() + float(ttl) if ttl else float("inf")
        self.messages.append(Stored(self.last_seq, subject, data, block, until))
        for name in list(self.consumers):
            self._deliver(name)
        return self.last_seq

    # --- requests --------------------------------------------------------------------------------------------

    def _publish(self, frame: PublishFrame) -> bytes | None:
        self.tick()
        self.published.append(frame)
        interfere, self.interfere = self.interfere, None
        if interfere is not None:
            interfere()
        headers = parse_headers(frame.header_block).headers if frame.header_block else Headers()
        msg_id = headers.get("Nats-Msg-Id")
        if msg_id in self._ids:
            return self._acked(self._ids[msg_id], duplicate=True)
        for wanted, actual in (
            (headers.get("Nats-Expected-Last-Sequence"), self.last_seq),
            (headers.get("Nats-Expected-Last-Subject-Sequence"), self._last_seq(headers, frame.subject)),
        ):
            if wanted is not None and int(wanted) != actual:
                return self._refused(400, 10071, f"wrong last sequence: {actual}")
        seq = self._store(frame.subject, frame.payload, frame.header_block)
        if msg_id:
            self._ids[msg_id] = seq
        return self._acked(seq)

    def _last_seq(self, headers: Any, subject: str) -> int:
        last = self.last(headers.get("Nats-Expected-Last-Subject-Sequence-Subject", subject).removeprefix(PREFIX))
        return last.seq if last else 0

    def _acked(self, seq: int, duplicate: bool = False) -> bytes | None:
        return None if self.loses_acks else json.dumps({"stream": STREAM, "seq": seq, "duplicate": duplicate}).encode()

    def _refused(self, code: int, err_code: int, text: str) -> bytes | None:
        error = {"code": code, "err_code": err_code, "description": text}
        return None if self.loses_acks else json.dumps({"error": error, "stream": STREAM, "seq": 0}).encode()

    def _get(self, frame: PublishFrame) -> bytes | None:
        self.tick()
        if self.is_deaf:
            return None
        last = self.last(json.loads(frame.payload)["last_by_subj"].removeprefix(PREFIX))
        if last is None:
            error = {"code": 404, "err_code": 10037, "description": "no message found"}
            return json.dumps({"type": f"{KIND}stream_msg_get_response", "error": error}).encode()
        time = datetime.fromtimestamp(0, timezone.utc).isoformat().replace("+00:00", "Z")
        message = {"subject": last.subject, "seq": last.seq, "time": time, "data": base64.b64encode(last.data).decode()}
        if last.block:
            message["hdrs"] = base64.b64encode(last.block).decode()
        return json.dumps({"type": f"{KIND}stream_msg_get_response", "message": message}).encode()

    def _info(self, frame: PublishFrame) -> bytes:
        state = {"messages": len(self.messages), "bytes": 0, "first_seq": 1, "last_seq": self.last_seq, "consumer_count": 0}
        config = {"name": STREAM, "subjects": [f"{PREFIX}>"]}
        created = "2024-01-01T00:00:00Z"
        return json.dumps({"type": f"{KIND}stream_info_response", "config": config, "state": state, "created": created}).encode()

    def _create(self, frame: PublishFrame) -> bytes:
        config = json.loads(frame.payload)["config"]
        name = config["name"]
        self.consumers[name] = Consumer(config["filter_subject"], config.get("opt_start_seq", 1))
        delivered = {"consumer_seq": 0, "stream_seq": 0}
        answer = {"stream_name": STREAM, "name": name, "config": config, "delivered": delivered, "num_pending": 0}
        return json.dumps({"type": f"{KIND}consumer_create_response", **answer}).encode()

    def _delete(self, frame: PublishFrame) -> bytes:
        self.consumers.pop(frame.subject.rpartition(".")[2], None)
        return json.dumps({"type": f"{KIND}consumer_delete_response", "success": True}).encode()

    def _next(self, frame: PublishFrame) -> None:
        name = frame.subject.rpartition(".")[2]
        self.consumers[name].inbox = frame.reply
        self._deliver(name)

    def _deliver(self, name: str) -> None:
        consumer = self.consumers[name]
        for each in self.messages:
            if consumer.inbox and each.seq >= consumer.next_seq and each.subject == consumer.filter:
                consumer.next_seq = each.seq + 1
                consumer.delivered += 1
                reply = f"$JS.ACK.{STREAM}.{name}.1.{each.seq}.{consumer.delivered}.1700000000000000000.0"
                for subscription in self.server.matching(consumer.inbox):
                    frame = PublishFrame(subject=each.subject, payload=each.data, reply=reply, header_block=each.block)
                    subscription.session.deliver(subscription, frame)


class LockTestCase(SynchronousTestCase):
    """A bucket, and clients of it. What is left behind by a client that was closed fails the test.

    :ivar kv: the first client's handle of the bucket.
    """

    marker_ttl = 1.0

    def setUp(self) -> None:
        self.client, server, self.network = connected_client(self, reconnect_jitter=0.0, reconnect_wait=0.1)
        self.server: InMemoryServer = server
        self.bucket = LockBucket(server, self.network, self.marker_ttl)
        self.kv = self.handle(self.client)

    def handle(self, client: NatsClient, duplicate_window: float = 120.0, **config: Any) -> KeyValue:
        """A client's handle of the bucket."""
        options = {"allow_msg_ttl": True, "subject_delete_marker_ttl": self.marker_ttl, "max_msgs_per_subject": 1, **config}
        info = StreamInfo(config=StreamConfig(name=STREAM, subjects=[f"{PREFIX}>"], **options))
        return KeyValue(Stream(client.jetstream(timeout=2.0, duplicate_window=duplicate_window), info))

    def other(self) -> KeyValue:
        """The handle of another client."""
        client, _, _ = connected_client(self, network=self.network, servers=self.server.url, reconnect_jitter=0.0, reconnect_wait=0.1)
        return self.handle(client)

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, for the bucket as well."""
        end = self.network.seconds() + seconds
        self.network.advance()
        while (left := end - self.network.seconds()) > 1e-9:
            self.network.advance(min(left, 0.05))
            self.bucket.tick()
            self.network.advance()

    def result(self, waiting: Deferred[Any], within: float = 0.0) -> Any:
        """What it fires with, after so many seconds at most."""
        self.advance()
        end = self.network.seconds() + within
        while not waiting.called and self.network.seconds() < end:
            self.advance(0.05)
        return self.successResultOf(waiting)

    def error(self, waiting: Deferred[Any], kind: type[BaseException]) -> Any:
        """The error of this kind with which it has failed."""
        self.advance()
        return self.failureResultOf(waiting, kind).value

    def cut(self) -> None:
        """Lose all connections, and stay without one."""
        self.server.stop()
        self.advance()
