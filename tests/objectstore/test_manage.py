"""Making, finding and listing stores, with a server whose answers are written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import errors
from pynats_twisted.jetstream.api import StreamConfig, encode
from pynats_twisted.objectstore.config import ObjectStoreConfig
from pynats_twisted.objectstore.info import ObjectMeta
from pynats_twisted.objectstore.store import ObjectStore
from pynats_twisted.testing.server_frames import PublishFrame
from tests.jetstream.scripted import KIND, ScriptedTestCase

CONFIG = ObjectStoreConfig(bucket="B")


def wire(config: StreamConfig) -> dict[str, Any]:
    """What a server says of a stream."""
    return {"config": json.loads(encode(config)), "state": {}, "created": "2026-01-01T00:00:00Z"}


class MakingTests(ScriptedTestCase):
    """What is asked, and what becomes of the answers."""

    def test_creating(self) -> None:
        """The stream of ADR-20 is asked for, and the handle knows it."""
        waiting = self.js.create_object_store(CONFIG)
        frame = self.answer("stream_create", **wire(CONFIG.stream_config()), did_create=True)
        self.assertEqual(frame.subject, "$JS.API.STREAM.CREATE.OBJ_B")
        self.assertEqual(self.request_of(frame)["subjects"], ["$O.B.C.>", "$O.B.M.>"])
        store = self.successResultOf(waiting)
        self.assertEqual((store.bucket, store.stream.name, repr(store)), ("B", "OBJ_B", "<ObjectStore 'B'>"))

    def test_errors(self) -> None:
        """What a server says of streams is said of stores; what else it says stays as it is."""
        there = self.js.create_object_store(CONFIG)
        self.refuse(400, 10058)
        self.error_of(there, errors.BucketExistsError)
        calls: list[Callable[[], Deferred[Any]]] = [
            lambda: self.js.update_object_store(CONFIG),
            lambda: self.js.object_store("B"),
            lambda: self.js.delete_object_store("B"),
        ]
        for call in calls:
            missing = call()
            self.refuse(404, 10059)
            self.assertIn("no object store 'B'", str(self.error_of(missing, errors.BucketNotFoundError)))
        refused = self.js.create_object_store(CONFIG)
        self.refuse(500, 10047, "insufficient storage")
        self.error_of(refused, errors.JetStreamLimitError)

    def test_nothing_is_sent_for_a_wrong_name(self) -> None:
        """Neither for one in a configuration nor for one alone."""
        self.error_of(self.js.create_object_store(ObjectStoreConfig(bucket="a.b")), errors.JetStreamConfigError)
        self.error_of(self.js.object_store("a.b"), errors.InvalidNameError)
        self.error_of(self.js.delete_object_store("a>b"), errors.InvalidNameError)
        self.network.advance()
        self.assertEqual(self.peer.take(PublishFrame), [])


class ListingTests(ScriptedTestCase):
    """Lists of stores."""

    def page(self, kind: str, entries: list[Any], total: int, offset: int) -> int:
        """Answer the request for a page; returns its offset."""
        frame = self.answer(kind, streams=entries, total=total, offset=offset, limit=2)
        request = self.request_of(frame)
        self.assertEqual(request["subject"], "$O.*.C.>")
        return int(request.get("offset", 0))

    def test_what_is_left_out_counts(self) -> None:
        """The next page begins behind all entries of the one before, also those that are no stores."""
        waiting = self.js.object_store_names().collect()
        self.assertEqual(self.page("stream_names", ["all", "OBJ_a"], 5, 0), 0)
        self.assertEqual(self.page("stream_names", ["other", "OBJ_b c"], 5, 2), 2)
        self.assertEqual(self.page("stream_names", ["OBJ_d"], 5, 4), 4)
        self.assertEqual(self.successResultOf(waiting), ["a", "d"])

    def test_infos(self) -> None:
        """The infos of what is no store are left out as well, and those of stores become statuses."""
        waiting = self.js.object_stores().collect()
        other = StreamConfig(name="OBJ_x", subjects=["$O.*.C.>"])
        self.assertEqual(self.page("stream_list", [wire(other), wire(CONFIG.stream_config())], 3, 0), 0)
        self.assertEqual(self.page("stream_list", [wire(ObjectStoreConfig(bucket="C", description="c").stream_config())], 3, 2), 2)
        found = self.successResultOf(waiting)
        self.assertEqual([(status.bucket, status.description) for status in found], [("B", ""), ("C", "c")])
        self.assertEqual(repr(found[0]), "<ObjectStoreStatus 'B' 0 bytes>")


class CancellingTests(ScriptedTestCase):
    """Calls that are cancelled."""

    def store(self) -> ObjectStore:
        waiting = self.js.object_store("B")
        self.answer("stream_info", **wire(CONFIG.stream_config()))
        return self.successResultOf(waiting)

    def test_nothing_more_is_sent(self) -> None:
        """A call that is cancelled while it waits fails with that, and its next step is not taken."""
        store = self.store()
        calls: list[Callable[[], Deferred[Any]]] = [
            lambda: store.info("x"),
            lambda: store.delete("x"),
            lambda: store.update_meta("x", ObjectMeta(name="y")),
            lambda: store.seal(),
            lambda: store.status(),
        ]
        for call in calls:
            waiting = call()
            frame = self.asked()
            waiting.cancel()
            self.error_of(waiting, CancelledError)
            self.peer.answer(frame, json.dumps({"type": f"{KIND}any_response", "error": {"code": 404, "err_code": 10037}}).encode())
            self.network.advance()
            self.assertEqual(self.peer.take(PublishFrame), [])
