"""The end of a put by a scripted server: answers that do not come, others who change the same object, and what is removed then."""

from __future__ import annotations

import base64
import json
from typing import Any

from twisted.internet.defer import Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.api import StreamConfig, StreamInfo
from pynats_twisted.jetstream.stream import Stream
from pynats_twisted.objectstore import ObjectInfo, ObjectStore
from pynats_twisted.objectstore.info import encode_info
from pynats_twisted.testing.server_frames import PublishFrame
from tests.jetstream.scripted import KIND, ScriptedTestCase

META = "$O.b.M.bw=="


class PutTestCase(ScriptedTestCase):
    def setUp(self) -> None:
        super().setUp()
        stream = Stream(self.js, StreamInfo(config=StreamConfig(name="OBJ_b", subjects=["$O.b.C.>", "$O.b.M.>"])))
        self.barriers = 0
        self.store = ObjectStore(self.js, "b", stream)

    def put(self, source: bytes = b"", **options: Any) -> Deferred[ObjectInfo]:
        return self.watch(self.store.put("o", source, **options))

    def wait_for(self, what: str, seconds: float = 30.0) -> PublishFrame:
        """The next frame whose subject begins with this. Those before are forgotten; what the stream has to refuse it refuses."""
        for _ in range(int(seconds / 0.25)):
            for frame in self.peer.take(PublishFrame):
                if b"Nats-Expected-Stream: not-OBJ_b" in frame.header_block:
                    self.assertEqual((frame.subject[:7], frame.payload), ("$O.b.C.", b""))
                    self.barriers += 1
                    self.reply(frame, error={"code": 400, "err_code": 10060, "description": "expected stream does not match"})
                elif frame.subject.startswith(what):
                    return frame
            self.network.advance(0.25)
        raise AssertionError(f"nothing was published to {what}")

    def nothing_for(self, seconds: float, what: str) -> None:
        with self.assertRaises(AssertionError):
            self.wait_for(what, seconds)

    def meta(self, info: dict[str, Any] | None = None, seq: int = 1) -> None:
        """Answer the next question for what is known of the object."""
        frame = self.wait_for("$JS.API.STREAM.MSG.GET")
        if info is None:
            self.reply(frame, error={"code": 404, "err_code": 10037, "description": "no message found"})
        else:
            data = base64.b64encode(json.dumps(info).encode()).decode()
            self.reply(frame, message={"subject": META, "seq": seq, "data": data, "time": "2026-01-02T03:04:05Z"})

    def reply(self, frame: PublishFrame, **answer: Any) -> None:
        kind = "stream_msg_get" if "message" in answer else "stream_purge"
        self.peer.answer(frame, json.dumps({"type": f"{KIND}{kind}_response", **answer}).encode())

    def ack(self, frame: PublishFrame, seq: int) -> None:
        self.peer.answer(frame, json.dumps({"stream": "OBJ_b", "seq": seq}).encode())

    def other(self, nuid: str = "other") -> dict[str, Any]:
        info: dict[str, Any] = json.loads(encode_info(ObjectInfo(name="o", bucket="b", nuid=nuid)))
        return info


class CommitTests(PutTestCase):
    def test_others_were_faster(self) -> None:
        """When somebody else changes the object at the same time, theirs is replaced, and their chunks are removed."""
        putting = self.put()
        self.meta(self.other("first"), 3)
        frame = self.wait_for(META)
        self.assertIn(b"Nats-Expected-Last-Subject-Sequence: 3", frame.header_block)
        self.assertIn(b"Nats-Rollup: sub", frame.header_block)
        self.reply(frame, error={"code": 400, "err_code": 10071, "description": "wrong last sequence: 5"})
        self.meta(self.other("second"), 5)
        self.ack(self.wait_for(META), 6)
        purge = self.wait_for("$JS.API.STREAM.PURGE")
        self.assertEqual(self.request_of(purge), {"filter": "$O.b.C.second"})
        self.reply(purge, success=True, purged=1)
        self.network.advance()
        info = self.successResultOf(putting)
        self.assertEqual((info.revision, info.size, info.chunks), (6, 0, 0))

    def test_answer_lost(self) -> None:
        """When it is not known whether it was stored, and it was, the put is well, and what it replaced is removed."""
        putting = self.put()
        self.meta(self.other("first"), 3)
        frame = self.wait_for(META)
        ours = json.loads(frame.payload)
        self.meta(ours, 4)
        purge = self.wait_for("$JS.API.STREAM.PURGE")
        self.assertEqual(self.request_of(purge), {"filter": "$O.b.C.first"})
        self.reply(purge, success=True, purged=1)
        self.network.advance()
        self.assertEqual(self.successResultOf(putting).revision, 4)

    def test_answer_lost_and_not_stored(self) -> None:
        """When it was not stored, it is stored again, on the same condition."""
        putting = self.put()
        self.meta()
        self.wait_for(META)
        self.meta()
        frame = self.wait_for(META)
        self.assertIn(b"Nats-Expected-Last-Subject-Sequence: 0", frame.header_block)
        self.ack(frame, 9)
        self.network.advance()
        self.assertEqual(self.successResultOf(putting).revision, 9)

    def test_answer_lost_and_changed(self) -> None:
        """When somebody else has changed the object before that was known, their chunks may be all that there is: the put fails."""
        putting = self.put()
        self.meta()
        self.wait_for(META)
        self.meta(self.other(), 5)
        # It is looked at once more before anything is removed.
        self.meta(self.other(), 5)
        purge = self.wait_for("$JS.API.STREAM.PURGE")
        self.assertNotIn("other", self.request_of(purge)["filter"])
        self.reply(purge, success=True, purged=0)
        self.network.advance()
        error = self.error_of(putting, errors.ObjectChangedError)
        self.assertIn("changed by somebody else", str(error))

    def test_no_answer_and_stored(self) -> None:
        """When nobody answers for too long the put fails; if it was stored all the same, its chunks stay."""
        putting = self.put(timeout=1.0)
        self.meta()
        ours = json.loads(self.wait_for(META).payload)
        self.network.advance(3)
        self.meta(ours, 4)
        self.nothing_for(10.0, "$JS.API.STREAM.PURGE")
        self.error_of(putting, errors.ObjectTimeoutError)

    def test_refused(self) -> None:
        """What the store refuses for good is told, after the chunks were removed; and that is waited for only for a while."""
        for is_answered in (True, False):
            putting = self.put()
            self.meta()
            self.reply(self.wait_for(META), error={"code": 503, "err_code": 10077, "description": "maximum bytes exceeded"})
            purge = self.wait_for("$JS.API.STREAM.PURGE")
            self.assertNoResult(putting)
            if is_answered:
                self.reply(purge, success=True, purged=1)
                self.network.advance()
            else:
                self.network.advance(2.5)
            self.error_of(putting, errors.StreamStoreError)

    def test_cancelled_at_the_end(self) -> None:
        """Cancelling when all chunks are stored ends the waiting; the object is stored all the same."""
        putting = self.put()
        self.meta(self.other("first"), 3)
        frame = self.wait_for(META)
        putting.cancel()
        self.failureResultOf(putting)
        self.ack(frame, 4)
        purge = self.wait_for("$JS.API.STREAM.PURGE")
        self.assertEqual(self.request_of(purge), {"filter": "$O.b.C.first"})
        self.reply(purge, success=True, purged=1)
        self.network.advance()


class RemovalTests(PutTestCase):
    def test_cancelled(self) -> None:
        """The chunks of a put that was cancelled are removed, behind the last of them; that is tried again, until the server answers."""
        putting = self.put(b"1")
        chunk = self.wait_for("$O.b.C.")
        putting.cancel()
        self.failureResultOf(putting)
        self.assertEqual(self.request_of(self.wait_for("$JS.API.STREAM.PURGE")), {"filter": chunk.subject})
        self.assertEqual(self.barriers, 1)
        purge = self.wait_for("$JS.API.STREAM.PURGE")
        self.reply(purge, success=True, purged=1)
        self.nothing_for(10.0, "$JS.API.STREAM.PURGE")

    def test_connection_lost(self) -> None:
        """Where the connection is lost, they are removed when there is another."""
        putting = self.put(b"1")
        chunk = self.wait_for("$O.b.C.")
        self.peer.hang_up()
        putting.cancel()
        self.failureResultOf(putting)
        while not self.client.is_connected:
            self.network.advance(0.25)
        self.peer = self.server.peer
        purge = self.wait_for("$JS.API.STREAM.PURGE")
        self.assertEqual(self.request_of(purge), {"filter": chunk.subject})
        self.reply(purge, success=True, purged=1)
        self.network.advance()

    def test_closed(self) -> None:
        """Closing the client in the middle of a put asks for their removal; after the put, or in its last step, it does not."""
        putting = self.put(b"1")
        chunk = self.wait_for("$O.b.C.")
        self.client.close()
        self.network.advance()
        self.assertEqual(self.request_of(self.wait_for("$JS.API.STREAM.PURGE", 0.5)), {"filter": chunk.subject})
        self.error_of(putting, errors.ConnectionClosedError)

    def test_closed_in_the_last_step(self) -> None:
        """Once what is known of the object may be stored, its chunks stay, whatever happens to the client."""
        putting = self.put(b"1")
        self.ack(self.wait_for("$O.b.C."), 1)
        self.meta()
        self.wait_for(META)
        self.client.close()
        self.network.advance()
        self.nothing_for(5.0, "$JS.API.STREAM.PURGE")
        self.error_of(putting, errors.ConnectionClosedError)
