"""The configuration of an object store, and the stream that it is."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.jetstream.api import Placement, StorageType, StreamConfig, StreamSource, encode
from pynats_twisted.objectstore.config import ObjectStoreConfig
from pynats_twisted.objectstore.manage import is_store

FULL = ObjectStoreConfig(
    bucket="MY-STORE",
    description="description",
    ttl=3600.0,
    max_bytes=1_000_000,
    storage=StorageType.MEMORY,
    replicas=3,
    placement=Placement(cluster="clstr", tags=["tag1", "tag2"]),
    compression=True,
    metadata={"owner": "infra"},
)


class ConfigTests(SynchronousTestCase):
    """ObjectStoreConfig."""

    def test_defaults(self) -> None:
        """The stream is the one that ADR-20 describes."""
        sent = json.loads(encode(ObjectStoreConfig(bucket="MY-STORE").stream_config()))
        self.assertEqual(
            sent,
            {
                "name": "OBJ_MY-STORE",
                "subjects": ["$O.MY-STORE.C.>", "$O.MY-STORE.M.>"],
                "retention": "limits",
                "max_consumers": -1,
                "max_msgs": -1,
                "max_bytes": -1,
                "max_age": 0,
                "max_msgs_per_subject": -1,
                "discard": "new",
                "storage": "file",
                "num_replicas": 1,
                "allow_rollup_hdrs": True,
                "allow_direct": True,
            },
        )

    def test_every_option(self) -> None:
        """Each has its place in the stream, and is read from there again."""
        stream = FULL.stream_config()
        sent = json.loads(encode(stream))
        self.assertEqual((sent["max_age"], sent["max_bytes"], sent["storage"], sent["num_replicas"]), (3600 * 10**9, 10**6, "memory", 3))
        self.assertEqual((sent["compression"], sent["placement"]["cluster"], sent["metadata"]), ("s2", "clstr", {"owner": "infra"}))
        self.assertEqual(ObjectStoreConfig.of_stream(stream), FULL)

    def test_what_servers_add(self) -> None:
        """The server's own metadata is not the user's."""
        stream = StreamConfig(name="OBJ_B", metadata={"_nats.ver": "2.15.1", "a": "b"})
        self.assertEqual(ObjectStoreConfig.of_stream(stream).metadata, {"a": "b"})

    def test_wrong_values(self) -> None:
        """Each has the name that it has here, its value and the rule."""
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"bucket": "a.b"}, "bucket='a.b': must be 1 to 251 characters"),
            ({"bucket": ""}, "bucket='': "),
            ({"bucket": "B", "ttl": 0.05}, "ttl=0.05: must be 0 for no limit, or at least 0.1 s"),
            ({"bucket": "B", "ttl": -1.0}, "ttl=-1.0: "),
            ({"bucket": "B", "ttl": "1h"}, "ttl='1h': "),
            ({"bucket": "B", "max_bytes": 0}, "max_bytes=0: must be -1 for no limit, or at least 1"),
            ({"bucket": "B", "max_bytes": -2}, "max_bytes=-2: "),
            ({"bucket": "B", "replicas": 6}, "replicas=6: "),
            ({"bucket": "B", "storage": "tape"}, "storage='tape': "),
            ({"bucket": "B", "compression": "s2"}, "compression='s2': must be True or False"),
            ({"bucket": "B", "description": "x" * 5000}, "description="),
            ({"bucket": "B", "metadata": {"a": 1}}, "metadata.a=1: "),
            ({"bucket": "B", "placement": "here"}, "placement='here': "),
        ]
        for values, text in wrong:
            error = self.assertRaises(errors.JetStreamConfigError, ObjectStoreConfig(**values).stream_config)
            self.assertIn(text, str(error))

    def test_other_streams(self) -> None:
        """A stream is a store by its name and its subjects; a mirror of a store is none."""
        self.assertTrue(is_store(FULL.stream_config()))
        self.assertTrue(is_store(StreamConfig(name="OBJ_B", subjects=["$O.B.C.>", "$O.B.M.>"])))
        for other in (
            StreamConfig(name="B", subjects=["$O.B.M.>"]),
            StreamConfig(name="OBJ_B", subjects=["orders.>"]),
            StreamConfig(name="OBJ_B", mirror=StreamSource(name="OBJ_A")),
        ):
            self.assertFalse(is_store(other))
        self.assertRaises(errors.JetStreamConfigError, ObjectStoreConfig.of_stream, StreamConfig(name="orders"))
