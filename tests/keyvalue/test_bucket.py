"""A bucket by a scripted server: what is sent, and what becomes of each answer."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError

from pynats_twisted import errors
from pynats_twisted.jetstream import StreamSource
from pynats_twisted.keyvalue import Base64ValueCodec, KeyValueConfig, Operation, PathKeyCodec
from pynats_twisted.testing.server_frames import PublishFrame
from tests.client.network import NO_RESPONDERS

from .scripted import TIME, BucketTestCase

SEQ = "Nats-Expected-Last-Subject-Sequence"


class JsonCodec:
    """Values of any type that JSON has."""

    def encode(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def decode(self, encoded: bytes) -> Any:
        return json.loads(encoded)


class WriteTests(BucketTestCase):
    """Writing."""

    def test_put(self) -> None:
        """A put is a publish without any header, and gives the revision."""
        waiting = self.kv.put("a.b", b"1")
        frame = self.ack(7)
        self.assertEqual((frame.subject, frame.payload, self.header_of(frame)), ("$KV.b.a.b", b"1", {}))
        self.assertEqual(self.successResultOf(waiting), 7)

    def test_put_fails_by_its_deferred(self) -> None:
        """Whatever is wrong with a put comes with its Deferred, and not at once."""
        self.failureResultOf(self.kv.put("a b", b""), errors.InvalidKeyError)
        self.failureResultOf(self.bucket(KeyValueConfig(bucket="b"), None, JsonCodec()).put("a", object()), TypeError)
        waiting = self.kv.put("a", b"")
        self.refuse_publish(10077, "maximum bytes exceeded")
        self.failureResultOf(waiting, errors.StreamStoreError)

    def test_update_delete_purge(self) -> None:
        """Each says what it is, and which revision it expects."""
        for write, wanted in (
            (lambda: self.kv.update("k", b"1", 5), {SEQ: "5"}),
            (lambda: self.kv.delete("k"), {"KV-Operation": "DEL"}),
            (lambda: self.kv.delete("k", 5), {"KV-Operation": "DEL", SEQ: "5"}),
            (lambda: self.kv.purge("k"), {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}),
            (lambda: self.kv.purge("k", 5, ttl=60), {"KV-Operation": "PURGE", "Nats-Rollup": "sub", SEQ: "5", "Nats-TTL": "60"}),
            (lambda: self.kv.put("k", b"1", ttl=1.5), {"Nats-TTL": "2", "Nats-Rollup": "sub"}),
            (lambda: self.kv.update("k", b"1", 0, ttl="never"), {SEQ: "0", "Nats-TTL": "never", "Nats-Rollup": "sub"}),
        ):
            waiting = write()
            self.assertEqual(self.header_of(self.ack(9)), wanted)
            self.assertEqual(self.successResultOf(waiting), 9)

    def test_wrong_revisions_and_ttls(self) -> None:
        """They are found before anything is sent."""
        for waiting in (
            self.kv.update("k", b"", -1),
            self.kv.update("k", b"", "5"),  # type: ignore[arg-type]
            self.kv.delete("k", 1.5),  # type: ignore[arg-type]
            self.kv.create("k", ttl=0.5),
            self.kv.put("k", b"", ttl=float("nan")),
        ):
            self.failureResultOf(waiting, errors.JetStreamConfigError)
        self.network.advance()
        self.assertEqual(self.peer.take(PublishFrame), [])

    def test_ttl_and_history(self) -> None:
        """Where older values are kept, put and update take no TTL: one of them would come back."""
        kv = self.bucket(KeyValueConfig(bucket="b", history=2, limit_marker_ttl=1))
        for waiting in (kv.put("k", b"", ttl=5), kv.update("k", b"", 1, ttl=5)):
            error = self.failureResultOf(waiting, errors.JetStreamConfigError).value
            self.assertEqual((error.field, error.value), ("ttl", 5))

    def test_codecs(self) -> None:
        """Keys and values pass through the codecs both ways; what says that a key was deleted has no value to decode."""
        kv = self.bucket(KeyValueConfig(bucket="b"), PathKeyCodec(), JsonCodec())
        waiting: Any = kv.put("/a/b", {"n": [1, None]})
        frame = self.ack(1)
        self.assertEqual((frame.subject, frame.payload), ("$KV.b._root_.a.b", b'{"n": [1, null]}'))
        self.assertEqual(self.successResultOf(waiting), 1)
        waiting = kv.get("/a/b")
        self.message(self.asked(), 1, "_root_.a.b", b'{"n": [1, null]}')
        entry = self.successResultOf(waiting)
        self.assertEqual((entry.key, entry.value), ("/a/b", {"n": [1, None]}))
        waiting = kv.get("/a/b")
        self.message(self.asked(), 2, "_root_.a.b", block="KV-Operation: DEL\r\n")
        self.assertEqual(self.failureResultOf(waiting, errors.KeyDeletedError).value.entry.value, b"")
        waiting = kv.get("/a/b")
        self.message(self.asked(), 3, "_root_.a.b", b"no JSON")
        error = self.failureResultOf(waiting, errors.KeyValueCodecError).value
        self.assertIsInstance(error.__cause__, json.JSONDecodeError)
        self.assertIs(type(kv.read_only()._value_codec), JsonCodec)

    def test_cancel(self) -> None:
        """A write that is cancelled waits no more, and its late ack does no harm."""
        for write in (lambda: self.kv.put("k", b""), lambda: self.kv.create("k"), lambda: self.kv.purge("k")):
            waiting = write()
            frame = self.asked()
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
            self.peer.answer(frame, b'{"stream": "KV_b", "seq": 1}')
            self.network.advance()


class CreateTests(BucketTestCase):
    """Creating, while others create and delete."""

    def expected(self, seq: int) -> dict[str, str]:
        return {SEQ: str(seq)}

    def test_new(self) -> None:
        """A key that never was: one publish, which expects nothing before."""
        waiting = self.kv.create("k", b"1")
        self.assertEqual(self.header_of(self.ack(3)), self.expected(0))
        self.assertEqual(self.successResultOf(waiting), 3)

    def test_there_already(self) -> None:
        """Both codes with which servers refuse it are understood; the server that leads is asked, and says that there is a value."""
        for err_code, text in ((10071, "wrong last sequence: 5"), (10164, "wrong last sequence")):
            waiting = self.kv.create("k", b"1")
            self.refuse_publish(err_code, text)
            frame = self.stored(5, "k")
            self.assertEqual((frame.subject, self.request_of(frame)), ("$JS.API.STREAM.MSG.GET.KV_b", {"last_by_subj": "$KV.b.k"}))
            error = self.failureResultOf(waiting, errors.KeyExistsError).value
            self.assertEqual(error.key, "k")
            self.assertIn("revision 5", str(error))

    def test_over_what_says_that_it_was_deleted(self) -> None:
        """Over a delete, a purge or a marker it is created with the revision of that."""
        for headers in ("KV-Operation: DEL", "KV-Operation: PURGE", "Nats-Marker-Reason: MaxAge", "Nats-Marker-Reason: Remove"):
            waiting = self.kv.create("k", b"1", ttl=60)
            self.refuse_publish(10071)
            self.stored(5, "k", headers)
            self.assertEqual(self.header_of(self.ack(6)), {**self.expected(5), "Nats-TTL": "60"})
            self.assertEqual(self.successResultOf(waiting), 6)

    def test_what_says_so_vanishes_meanwhile(self) -> None:
        """When the marker has run out before it could be replaced, the key is new again."""
        waiting = self.kv.create("k")
        self.refuse_publish(10071)
        self.stored(5, "k", "Nats-Marker-Reason: MaxAge")
        self.assertEqual(self.header_of(self.refuse_publish(10071)), self.expected(5))
        self.refuse(404, 10037, "no message found")
        self.assertEqual(self.header_of(self.ack(6)), self.expected(0))
        self.assertEqual(self.successResultOf(waiting), 6)

    def test_others_without_end(self) -> None:
        """It is tried a bounded number of times."""
        waiting = self.kv.create("k")
        for seq in range(1, 11):
            self.refuse_publish(10071)
            self.stored(seq, "k", "KV-Operation: DEL")
        self.assertIn("10 times", str(self.failureResultOf(waiting, errors.KeyExistsError).value))

    def test_other_errors(self) -> None:
        """Only a wrong revision is looked into."""
        waiting = self.kv.create("k", ttl=60)
        self.refuse_publish(10166)
        self.failureResultOf(waiting, errors.MessageTTLError)

    def test_mirror(self) -> None:
        """Through a mirror, the origin is written to, and asked."""
        kv = self.bucket(KeyValueConfig(bucket="m", mirror=StreamSource(name="o")))
        waiting = kv.create("k")
        self.assertEqual(self.refuse_publish(10071).subject, "$KV.o.k")
        frame = self.stored(5, "k")
        self.assertEqual((frame.subject, self.request_of(frame)), ("$JS.API.STREAM.MSG.GET.KV_o", {"last_by_subj": "$KV.o.k"}))
        self.failureResultOf(waiting, errors.KeyExistsError)


class GetTests(BucketTestCase):
    """Reading one key, and many."""

    def test_by_subject(self) -> None:
        """A get asks in the form that permissions can be given for."""
        waiting = self.kv.get("a.b")
        frame = self.asked()
        self.assertEqual((frame.subject, frame.payload), ("$JS.API.DIRECT.GET.KV_b.$KV.b.a.b", b""))
        self.message(frame, 4, "a.b", b"1")
        entry = self.successResultOf(waiting)
        self.assertEqual((entry.key, entry.value, entry.revision, entry.operation), ("a.b", b"1", 4, Operation.PUT))
        self.assertEqual((entry.created.isoformat(), getattr(entry.created, "text", "")), ("2026-01-02T03:04:05.123456+00:00", TIME))

    def test_revision_of_another_key(self) -> None:
        """A revision is one of its key: what another key has with it is not found."""
        waiting = self.kv.get("a", 4)
        frame = self.asked()
        self.assertEqual(self.request_of(frame), {"seq": 4})
        self.message(frame, 4, "b", b"1")
        error = self.failureResultOf(waiting, errors.KeyNotFoundError).value
        self.assertIn("with revision 4", str(error))

    def test_gone(self) -> None:
        """When nobody answers any more, it is the bucket that is gone, or its direct gets: then the server that leads answers."""
        waiting = self.kv.get("k")
        self.peer.answer(self.asked(), block=NO_RESPONDERS)
        self.stored(4, "k")
        self.assertEqual(self.successResultOf(waiting).revision, 4)
        waiting = self.kv.get("k")
        self.peer.answer(self.asked(), block=NO_RESPONDERS)
        self.refuse(404, 10059, "stream not found")
        self.failureResultOf(waiting, errors.BucketNotFoundError)

    def test_many(self) -> None:
        """Many keys are one request; what is deleted or missing is left out, and the order is that of the question."""
        waiting = self.kv.get_many(["c", "a", "b", "a"])
        frame = self.asked()
        self.assertEqual(self.keys_of(frame), ["$KV.b.c", "$KV.b.a", "$KV.b.b"])
        self.message(frame, 3, "a", b"1", Num_Pending=1, Last_Sequence=0)
        self.message(frame, 5, "c", b"2", Num_Pending=0, Last_Sequence=3)
        self.peer.answer(frame, block=b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 5\r\n\r\n")
        self.assertEqual([(key, entry.value) for key, entry in self.successResultOf(waiting).items()], [("c", b"2"), ("a", b"1")])

    def test_old_server(self) -> None:
        """Many keys at once need a server that can do it; nothing is sent to another."""
        self.server.info["api_lvl"] = 0
        self.client, self.peer = self.connected()
        self.js = self.client.jetstream()
        kv = self.bucket(KeyValueConfig(bucket="b"))
        self.failureResultOf(kv.get_many(["a"]), errors.JetStreamApiLevelError)
        self.failureResultOf(kv.snapshot(), errors.JetStreamApiLevelError)

    def test_base64_values_of_others(self) -> None:
        """A value that the codec cannot read is an error that names the key's subject, and not the value."""
        kv = self.bucket(KeyValueConfig(bucket="b"), None, Base64ValueCodec())
        waiting = kv.get("k")
        self.message(self.asked(), 1, "k", b"!secret!")
        error = self.failureResultOf(waiting, errors.KeyValueCodecError).value
        self.assertIn("$KV.b.k", str(error))
        self.assertNotIn("secret", str(error))
