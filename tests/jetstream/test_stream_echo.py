"""What a server drops of a stream's configuration without a word is noticed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.jetstream.api import (
    ConsumerLimits,
    ExternalStream,
    Republish,
    StreamConfig,
    StreamConsumerSource,
    StreamSource,
    SubjectTransform,
)
from pynats_twisted.jetstream.stream_echo import dropped_fields

START = datetime(2026, 1, 2, tzinfo=timezone.utc)

#: Each says one thing that a server may be too old for; what does not go with subjects comes without them.
FEATURES: list[dict[str, Any]] = [
    {"subjects": ["f0"], "allow_direct": True},
    {"subjects": ["f1"], "allow_rollup_hdrs": True},
    {"subjects": ["f2"], "compression": "s2"},
    {"subjects": ["f3"], "consumer_limits": ConsumerLimits(max_ack_pending=3)},
    {"subjects": ["f4"], "deny_delete": True},
    {"subjects": ["f5"], "deny_purge": True},
    {"subjects": ["f6"], "discard": "new", "max_msgs_per_subject": 1, "discard_new_per_subject": True},
    {"subjects": ["f7"], "first_seq": 100},
    {"subjects": ["f8"], "republish": Republish(src="f8", dest="again")},
    {"subjects": ["f9"], "sealed": True},
    {"subjects": ["f10.*"], "subject_transform": SubjectTransform(src="f10.*", dest="f10.$1")},
    {"subjects": ["f11"], "allow_atomic": True},
    {"subjects": ["f12"], "allow_batched": True},
    {"subjects": ["f13"], "allow_msg_counter": True},
    {"subjects": ["f14"], "allow_msg_schedules": True},
    {"subjects": ["f15"], "allow_msg_ttl": True},
    {"subjects": ["f16"], "persist_mode": "async"},
    {"subjects": ["f17"], "subject_delete_marker_ttl": 30.0},
    {"subjects": ["f18"], "metadata": {"owner": "me"}},
    {"mirror": StreamSource(name="ORIGIN")},
    {"mirror": StreamSource(name="ORIGIN", filter_subject="origin.a")},
    {"mirror": StreamSource(name="ORIGIN", subject_transforms=[SubjectTransform(src="origin.*", dest="copy.$1")])},
    {"mirror": StreamSource(name="ORIGIN", consumer=StreamConsumerSource(name="c", deliver_subject="deliver.here"))},
    {"sources": [StreamSource(name="ORIGIN", opt_start_seq=5)]},
    {"sources": [StreamSource(name="ORIGIN", opt_start_time=START)]},
    {"sources": [StreamSource(name="FAR", external=ExternalStream(api_prefix="$JS.hub.API"))]},
    {"sources": [StreamSource(name="FAR"), StreamSource(name="ORIGIN", filter_subject="origin.a")]},
    {"sources": [StreamSource(name="ORIGIN", subject_transforms=[SubjectTransform(src="origin.*", dest="from.$1")])]},
]
_PLAIN = {"subjects", "discard", "max_msgs_per_subject"}


class EchoTests(SynchronousTestCase):
    """The configuration that was asked for, and the one that came back."""

    def test_nothing_is_dropped(self) -> None:
        """A complete answer is accepted, whatever the server adds to it."""
        for fields in FEATURES:
            config = StreamConfig(name="S", **fields)
            added = replace(config, duplicate_window=120.0, allow_direct=True, metadata={**config.metadata, "_nats.level": "5"})
            self.assertEqual(dropped_fields(config, added), [])

    def test_each_dropped_field_is_named(self) -> None:
        """Whatever a server drops is found, by the name under which it was asked for."""
        for fields in FEATURES:
            config = StreamConfig(name="S", **fields)
            (field,) = fields.keys() - _PLAIN
            without = replace(config, **{field: getattr(StreamConfig(), field)})
            self.assertEqual(dropped_fields(config, replace(without, metadata={"_nats.level": "0"})), [field])

    def test_dropped_inside_a_source(self) -> None:
        """A source that came back without its transforms is not the one that was asked for; another order is."""
        transformed = StreamSource(name="A", subject_transforms=[SubjectTransform(src="a", dest="b")])
        other = StreamSource(name="B", filter_subject="b")
        config = StreamConfig(name="S", sources=[transformed, other])
        self.assertEqual(dropped_fields(config, replace(config, sources=[other, transformed])), [])
        bare = replace(config, sources=[StreamSource(name="A"), StreamSource(name="B")])
        self.assertEqual(dropped_fields(config, bare), ["sources.subject_transforms", "sources.filter_subject"])
        mirror = StreamConfig(name="S", mirror=transformed)
        self.assertEqual(dropped_fields(mirror, replace(mirror, mirror=StreamSource(name="A"))), ["mirror.subject_transforms"])

    def test_limits_may_be_written_in_another_way(self) -> None:
        """A server that writes 0 as -1 has dropped nothing."""
        config = StreamConfig(name="S", subjects=["s"], max_msgs=0, replicas=0)
        self.assertEqual(dropped_fields(config, StreamConfig(name="S", subjects=["s"])), [])
