"""What is asked for keys and histories, and what others do meanwhile, in virtual time."""

from __future__ import annotations

import json
from typing import Any

from pynats_twisted import errors
from pynats_twisted.jetstream.api import StreamConfig, StreamInfo, StreamState
from pynats_twisted.jetstream.stream import Stream
from pynats_twisted.keyvalue import KeyValue, Operation
from tests.jetstream.test_ordered import OrderedTestCase

DELETED = b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n"


class ListingTests(OrderedTestCase):
    """The test is the server of a bucket ``b``."""

    def setUp(self) -> None:
        super().setUp()
        config = StreamConfig(name="KV_b", subjects=["$KV.b.>"], max_msgs_per_subject=5)
        self.kv = KeyValue(Stream(self.js, StreamInfo(config=config, state=StreamState())))

    def serve(self, *entries: tuple[str, bytes]) -> dict[str, Any]:
        """Make the consumer that is asked for, deliver keys with header blocks, and delete it; returns what was asked for."""
        name, config = self.create(pending=len(entries))
        pull = self.one("MSG.NEXT")
        (sid,) = (sid for sid, sub in self.server.peer.session.subscriptions.items() if pull.reply.startswith(sub.subject[:-1]))
        for seq, (key, block) in enumerate(entries, 1):
            reply = f"$JS.ACK.KV_b.{name}.1.{seq}.{seq}.1700000000000000000.{len(entries) - seq}"
            size = f"{len(block)} {len(block)}" if block else "0"
            line = f"{'HMSG' if block else 'MSG'} $KV.b.{key} {sid} {reply} {size}\r\n"
            self.server.peer.send(line.encode() + block + b"\r\n")
        self.network.advance()
        self.reply(self.one("CONSUMER.DELETE"), "consumer_delete", success=True)
        self.network.advance()
        return config

    def test_keys_are_asked_for_without_values(self) -> None:
        """The server chooses by the patterns, sends the last entry of each key, and no values; nothing is asked before the first use."""
        keys = self.kv.keys("a.*", "b")
        self.assertEqual(self.find(""), [])
        listing = keys.collect()
        config = self.serve(("a.x", b""), ("b", b""))
        self.assertEqual(self.successResultOf(listing), ["a.x", "b"])
        self.assertEqual((config["deliver_policy"], config["headers_only"]), ("last_per_subject", True))
        self.assertEqual(sorted(config["filter_subjects"]), ["$KV.b.a.*", "$KV.b.b"])

    def test_keys_that_are_deleted_meanwhile(self) -> None:
        """A key that is deleted while the keys are listed is none of them; one that is written again is there once."""
        listing = self.kv.keys().collect()
        self.serve(("a", b""), ("b", b""), ("b", b""), ("a", DELETED), ("c", DELETED), ("c", b""))
        self.assertEqual(self.successResultOf(listing), ["b", "c"])

    def test_markers_of_keys_that_are_written_meanwhile(self) -> None:
        """Nothing is purged of a key that has got a value again while the markers were looked up."""
        purging = self.kv.purge_deletes(0)
        config = self.serve(("a", DELETED), ("a", b""))
        self.assertEqual(self.successResultOf(purging), 0)
        self.assertTrue(config["headers_only"])
        self.assertEqual(self.find("PURGE"), [])

    def test_a_purge_that_fails(self) -> None:
        """When one purge is refused, the others that are under way are given up, and who waits gets the server's error."""
        purging = self.kv.purge_deletes(0)
        self.serve(("a", DELETED), ("b", DELETED), ("c", DELETED))
        state = {"messages": 3, "last_seq": 3}
        self.reply(self.one("STREAM.INFO"), "stream_info", config={"name": "KV_b"}, state=state, ts="2026-01-01T00:00:00Z")
        frames = self.find("STREAM.PURGE")
        self.assertEqual([json.loads(frame.payload) for frame in frames], [
            {"filter": f"$KV.b.{key}", "seq": seq} for seq, key in ((2, "a"), (3, "b"), (4, "c"))
        ])  # fmt: skip
        self.refuse_with(frames[1], 500, 10110)
        self.network.advance()
        self.failureResultOf(purging, errors.JetStreamApiError)

    def test_history(self) -> None:
        """The history is asked for with this key's subject only, from its beginning on."""
        reading = self.kv.history("a")
        config = self.serve(("a", b""), ("a", DELETED))
        found = [(entry.operation, entry.delta) for entry in self.successResultOf(reading)]
        self.assertEqual(found, [(Operation.PUT, 1), (Operation.DELETE, 0)])
        self.assertEqual((config["deliver_policy"], config["filter_subject"]), ("all", "$KV.b.a"))
