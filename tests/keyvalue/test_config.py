"""The configuration of a bucket, and the stream that it becomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.jetstream import ExternalStream, StreamConfig, StreamInfo, StreamSource, SubjectTransform
from pynats_twisted.jetstream.api import DiscardPolicy
from pynats_twisted.keyvalue import KeyValueConfig, KeyValueStatus
from pynats_twisted.keyvalue.manage import is_bucket

HUB = ExternalStream.of_domain("hub")


class RuleTests(SynchronousTestCase):
    """What is refused before anything is sent."""

    def refused(self, field: str, **values: Any) -> None:
        config = KeyValueConfig(**{"bucket": "b", **values})
        error = self.assertRaises(errors.JetStreamConfigError, config.stream_config)
        self.assertEqual(error.field, field, str(error))
        self.assertTrue(error.rule)

    def test_every_rule_names_its_field(self) -> None:
        """The error has the name that the field has here, not that of the stream's field."""
        for bucket in ("", "a.b", "a b", "b" * 253, None):
            self.refused("bucket", bucket=bucket)
        for history in (0, 65, -1, 1.5, True, "3"):
            self.refused("history", history=history)
        for ttl in (-1.0, 0.05, float("inf"), float("nan"), "1", None):
            self.refused("ttl", ttl=ttl)
        for marker in (-1.0, 0.5, None):
            self.refused("limit_marker_ttl", limit_marker_ttl=marker)
        for size in (0, -2, 1.0, None):
            self.refused("max_bytes", max_bytes=size)
            self.refused("max_value_size", max_value_size=size)
        self.refused("replicas", replicas=6)
        self.refused("compression", compression="s2")
        self.refused("allow_msg_ttl", allow_msg_ttl=1)
        self.refused("description", description="x" * 5000)
        self.refused("sources", sources="o")
        self.refused("sources", sources=["o"])
        self.refused("mirror", mirror="o")

    def test_mirrors(self) -> None:
        """A mirror has no sources and no markers of its own, the name of a bucket, and next to its origin all of it."""
        origin = StreamSource(name="o")
        self.refused("sources", mirror=origin, sources=[StreamSource(name="p")])
        self.refused("limit_marker_ttl", mirror=origin, limit_marker_ttl=5.0)
        self.refused("mirror.name", mirror=StreamSource(name="a.b"))
        self.refused("sources.name", sources=[StreamSource(name="")])
        self.refused("mirror.filter_subject", mirror=StreamSource(name="o", filter_subject="a.>"))
        self.refused("mirror.filter_subject", mirror=StreamSource(name="o", filter_subject="a b", external=HUB))
        self.refused("sources.filter_subject", sources=[StreamSource(name="o", filter_subject="$KV.p.>")])

    def test_limits(self) -> None:
        """The values at the bounds are taken."""
        KeyValueConfig(bucket="b" * 252, history=64, ttl=0.1, limit_marker_ttl=1, max_bytes=1, max_value_size=1, replicas=5).stream_config()


class StreamTests(SynchronousTestCase):
    """The stream that a bucket is."""

    def test_plain_bucket(self) -> None:
        """ADR-8 says what the stream of a bucket has."""
        made = KeyValueConfig(bucket="b").stream_config()
        wanted = StreamConfig(
            name="KV_b", subjects=["$KV.b.>"], max_msgs_per_subject=1, discard=DiscardPolicy.NEW, allow_rollup_hdrs=True,
            deny_delete=True, allow_direct=True, duplicate_window=120.0,
        )  # fmt: skip
        self.assertEqual(made, wanted)

    def test_duplicate_window(self) -> None:
        """Message ids are remembered for two minutes, and for no longer than values are kept."""
        found = [KeyValueConfig(bucket="b", ttl=ttl).stream_config().duplicate_window for ttl in (0.0, 0.1, 30.0, 120.0, 3600.0)]
        self.assertEqual(found, [120.0, 0.1, 30.0, 120.0, 120.0])

    def test_markers(self) -> None:
        """Markers need TTLs of single messages, which can also be had alone."""
        marked = KeyValueConfig(bucket="b", limit_marker_ttl=5.0).stream_config()
        self.assertEqual((marked.subject_delete_marker_ttl, marked.allow_msg_ttl), (5.0, True))
        timed = KeyValueConfig(bucket="b", allow_msg_ttl=True).stream_config()
        self.assertEqual((timed.subject_delete_marker_ttl, timed.allow_msg_ttl), (0.0, True))

    def test_mirror(self) -> None:
        """A whole mirror stores what its origin does, and answers for it; a part of one, elsewhere, does not."""
        for name in ("o", "KV_o"):
            made = KeyValueConfig(bucket="m", mirror=StreamSource(name=name)).stream_config()
            self.assertEqual((made.mirror, made.mirror_direct, made.subjects), (StreamSource(name="KV_o"), True, ()))
        part = StreamSource(name="o", filter_subject="a.*", external=HUB)
        made = KeyValueConfig(bucket="m", mirror=part).stream_config()
        self.assertEqual((made.mirror, made.mirror_direct), (replace(part, name="KV_o", filter_subject="$KV.o.a.*"), False))

    def test_sources(self) -> None:
        """Keys of a source keep their names, some of them where a pattern says so; what has transforms is taken as it is."""
        other = StreamSource(name="EVENTS", subject_transforms=[SubjectTransform(src="e.>", dest="$KV.b.>")])
        sources = [StreamSource(name="o"), StreamSource(name="KV_p", filter_subject="a.*.c.*.>"), other]
        made = KeyValueConfig(bucket="b", sources=sources).stream_config()
        self.assertEqual(
            made.sources,
            (
                StreamSource(name="KV_o", subject_transforms=[SubjectTransform(src="$KV.o.>", dest="$KV.b.>")]),
                StreamSource(
                    name="KV_p",
                    subject_transforms=[SubjectTransform(src="$KV.p.a.*.c.*.>", dest="$KV.b.a.{{wildcard(1)}}.c.{{wildcard(2)}}.>")],
                ),
                other,
            ),
        )

    def test_there_and_back(self) -> None:
        """What is read from a stream makes the same stream again."""
        for config in (
            KeyValueConfig(bucket="b", history=3, ttl=60.0, compression=True, metadata={"a": "b"}, max_bytes=100, max_value_size=10),
            KeyValueConfig(bucket="b", limit_marker_ttl=5.0, description="x"),
            KeyValueConfig(bucket="m", mirror=StreamSource(name="o", external=HUB, filter_subject="a.>")),
            KeyValueConfig(bucket="b", sources=[StreamSource(name="o", filter_subject="a.*")]),
        ):
            made = config.stream_config()
            again = KeyValueConfig.of_stream(made)
            self.assertEqual(again.stream_config(), made)
            self.assertEqual(KeyValueConfig.of_stream(again.stream_config()), again)

    def test_change(self) -> None:
        """What a bucket's configuration has no word for stays as it is."""
        there = replace(KeyValueConfig(bucket="b").stream_config(), allow_atomic=True, allow_direct=False, metadata={"_nats.ver": "2"})
        changed = KeyValueConfig(bucket="b", history=2).change(there)
        self.assertEqual((changed.allow_atomic, changed.allow_direct, changed.max_msgs_per_subject), (True, False, 2))
        self.assertEqual(changed.metadata, {})

    def test_which_streams_are_buckets(self) -> None:
        """By its name, its subjects and its limit."""
        bucket = KeyValueConfig(bucket="b").stream_config()
        self.assertTrue(is_bucket(bucket))
        self.assertTrue(is_bucket(KeyValueConfig(bucket="m", mirror=StreamSource(name="o")).stream_config()))
        for config in (replace(bucket, name="b"), replace(bucket, subjects=["b"]), replace(bucket, max_msgs_per_subject=-1)):
            self.assertFalse(is_bucket(config))

    def test_status(self) -> None:
        """A status says what the stream has, without what servers add to the metadata."""
        config = KeyValueConfig(bucket="b", ttl=60.0, metadata={"a": "b"}).stream_config()
        status = KeyValueStatus(StreamInfo(config=replace(config, metadata={"a": "b", "_nats.level": "5"})))
        self.assertEqual((status.bucket, dict(status.metadata), status.ttl, status.is_compressed), ("b", {"a": "b"}, 60.0, False))
        self.assertEqual((status.values, status.bytes, status.last_revision), (0, 0, 0))
        self.assertIn("'b'", repr(status))
