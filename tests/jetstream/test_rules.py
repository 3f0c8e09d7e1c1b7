"""What is refused before a server is asked, by field."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import ConfigurationError, JetStreamConfigError, JetStreamError
from pynats_twisted.jetstream.api import (
    ApiObject,
    ConsumerConfig,
    ConsumerUnpinRequest,
    CreateConsumerRequest,
    ExternalStream,
    MsgDeleteRequest,
    MsgGetRequest,
    NextRequest,
    Placement,
    PurgeRequest,
    Republish,
    StreamConfig,
    StreamConsumerSource,
    StreamInfoRequest,
    StreamSource,
    StreamsRequest,
    SubjectTransform,
)

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
FLOW = {"ack_policy": "flow_control", "deliver_subject": "d"}

#: A stream that breaks a rule, and the field that the error names.
WRONG_STREAMS: list[tuple[dict[str, Any], str]] = [
    *(({"name": name}, "name") for name in ("", "a.b", "a b", "a*", ">", "a/b", "a\\b", "a\tb", "a\0", "a\x7f", "x" * 256, "ä" * 128)),
    ({"description": "x" * 4097}, "description"),
    ({"metadata": {"a": "x" * 131_072}}, "metadata"),
    *(({"subjects": [subject]}, "subjects") for subject in ("", "a b", "a..b", ".a", "a.", "a.>.b", "a\r\nPUB")),
    ({"subjects": ["a", "a"]}, "subjects"),
    *(({"subjects": [subject]}, "subjects") for subject in (">", "*.>", "$JS.API.>", "$JSC.a", "$NRG.>", "$SYS.>", "$SYS.REQ.a", "*.a.b")),
    ({"subjects": [">"], "no_ack": True, "replicas": 3}, "replicas"),
    ({"replicas": 6}, "replicas"),
    ({"replicas": -1}, "replicas"),
    *(({field: -2}, field) for field in ("max_consumers", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size")),
    ({"max_age": 0.05}, "max_age"),
    ({"duplicate_window": 0.05}, "duplicate_window"),
    ({"duplicate_window": 61.0, "max_age": 60.0}, "duplicate_window"),
    ({"discard_new_per_subject": True, "max_msgs_per_subject": 1}, "discard_new_per_subject"),
    ({"discard_new_per_subject": True, "discard": "new"}, "discard_new_per_subject"),
    ({"placement": Placement(preferred="n1")}, "placement.preferred"),
    *(
        ({"mirror": StreamSource(name="B"), **fields}, next(iter(fields)))
        for fields in (
            {"subjects": ["a"]},
            {"sources": [StreamSource(name="C")]},
            {"first_seq": 2},
            {"allow_msg_counter": True},
            {"allow_atomic": True},
            {"allow_batched": True},
            {"allow_msg_schedules": True},
            {"subject_delete_marker_ttl": 60.0},
        )
    ),
    ({"sources": [StreamSource(name="B")], "allow_msg_schedules": True}, "allow_msg_schedules"),
    ({"sources": [StreamSource(name="B"), StreamSource(name="b.c")]}, "sources.1.name"),
    ({"mirror": StreamSource(name="B", filter_subject="a..b")}, "mirror.filter_subject"),
    ({"mirror": StreamSource(name="B", filter_subject="a", subject_transforms=[SubjectTransform(src="a")])}, "mirror.filter_subject"),
    ({"mirror": StreamSource(name="B", subject_transforms=[SubjectTransform(src="a b")])}, "mirror.subject_transforms.0.src"),
    ({"mirror": StreamSource(name="B", external=ExternalStream(api_prefix="$JS.API"))}, "mirror.external.api_prefix"),
    ({"mirror": StreamSource(name="B", external=ExternalStream(api_prefix="a.*"))}, "mirror.external.api_prefix"),
    ({"mirror": StreamSource(name="B", external=ExternalStream(api_prefix="a", deliver_prefix="a.>"))}, "mirror.external.deliver_prefix"),
    ({"mirror": StreamSource(name="B", consumer=StreamConsumerSource(name="c"))}, "mirror.consumer.deliver_subject"),
    ({"mirror": StreamSource(name="B", consumer=StreamConsumerSource(deliver_subject="d"))}, "mirror.consumer.name"),
    (
        {"mirror": StreamSource(name="B", opt_start_seq=1, consumer=StreamConsumerSource(name="c", deliver_subject="d"))},
        "mirror.opt_start_seq",
    ),
    ({"subject_transform": SubjectTransform(src="a b", dest="c")}, "subject_transform.src"),
    ({"republish": Republish(dest="a.>"), "subjects": ["a.b"]}, "republish.dest"),
    ({"subject_delete_marker_ttl": 0.5}, "subject_delete_marker_ttl"),
    *(({"deny_purge": True, field: True}, "deny_purge") for field in ("allow_rollup_hdrs", "allow_msg_schedules")),
    ({"deny_purge": True, "subject_delete_marker_ttl": 1.0}, "deny_purge"),
    ({"allow_msg_counter": True, "discard": "new"}, "discard"),
    ({"allow_msg_counter": True, "retention": "interest"}, "retention"),
    ({"allow_msg_counter": True, "allow_msg_ttl": True}, "allow_msg_ttl"),
    ({"allow_msg_counter": True, "allow_msg_schedules": True}, "allow_msg_schedules"),
    ({"allow_msg_schedules": True, "discard": "new"}, "discard"),
    ({"persist_mode": "async", "storage": "memory"}, "storage"),
    ({"persist_mode": "async", "replicas": 3}, "replicas"),
    ({"persist_mode": "async", "allow_atomic": True}, "allow_atomic"),
]

WRONG_CONSUMERS: list[tuple[dict[str, Any], str]] = [
    ({"name": "a.b"}, "name"),
    ({"durable": "a b"}, "durable"),
    ({"name": "a", "durable": "b"}, "name"),
    ({"description": "ä" * 2049}, "description"),
    ({"metadata": {"x" * 131_073: ""}}, "metadata"),
    *(({"sample_freq": text}, "sample_freq") for text in ("half", "50.5%", "-1", "%", "\u0665\u0660%")),
    *(({field: -2}, field) for field in ("max_deliver", "max_ack_pending")),
    *(({field: -1}, field) for field in ("max_waiting", "max_batch", "max_bytes", "replicas")),
    ({"replicas": 6}, "replicas"),
    ({"max_deliver": 1, "backoff": [1.0, 2.0]}, "backoff"),
    ({"backoff": [1.0, -2.0]}, "backoff.1"),
    ({"deliver_policy": "by_start_sequence"}, "opt_start_seq"),
    ({"deliver_policy": "by_start_time"}, "opt_start_time"),
    ({"deliver_policy": "by_start_time", "opt_start_time": NOW, "opt_start_seq": 1}, "opt_start_seq"),
    ({"opt_start_seq": 1}, "opt_start_seq"),
    ({"opt_start_time": NOW}, "opt_start_time"),
    ({"deliver_policy": "last_per_subject"}, "filter_subject"),
    ({"filter_subject": "a b"}, "filter_subject"),
    ({"filter_subject": "a", "filter_subjects": ["b"]}, "filter_subject"),
    ({"filter_subjects": [""]}, "filter_subjects"),
    ({"filter_subjects": ["a.*", "b", "a.b"]}, "filter_subjects"),
    ({"filter_subjects": ["a", "a"]}, "filter_subjects"),
    ({"deliver_subject": "a.*"}, "deliver_subject"),
    ({"deliver_subject": "a", "max_waiting": 1}, "max_waiting"),
    ({"deliver_subject": "a", "ack_policy": "none", "max_ack_pending": 1}, "max_ack_pending"),
    ({"deliver_subject": "a", "idle_heartbeat": 0.05}, "idle_heartbeat"),
    ({"deliver_subject": "a", "flow_control": True}, "flow_control"),
    ({"rate_limit_bps": 1}, "rate_limit_bps"),
    ({"idle_heartbeat": 1.0}, "idle_heartbeat"),
    ({"flow_control": True}, "flow_control"),
    ({"max_expires": 0.0005}, "max_expires"),
    ({"priority_groups": ["a"]}, "priority_groups"),
    ({"priority_timeout": 1.0}, "priority_timeout"),
    ({"priority_policy": "overflow"}, "priority_groups"),
    ({"priority_policy": "overflow", "priority_groups": ["a b"]}, "priority_groups"),
    ({"priority_policy": "overflow", "priority_groups": ["x" * 17]}, "priority_groups"),
    ({"priority_policy": "overflow", "priority_groups": ["a"], "deliver_subject": "d"}, "priority_policy"),
    ({"ack_policy": "flow_control"}, "deliver_subject"),
    ({**FLOW, "max_ack_pending": -1}, "max_ack_pending"),
    ({**FLOW, "ack_wait": 1.0}, "ack_wait"),
    ({**FLOW, "backoff": [1.0]}, "backoff"),
    ({**FLOW, "max_deliver": 3}, "max_deliver"),
]

#: What a server takes although nobody could use it.
WRONG_BY_OUR_OWN_RULES: list[tuple[ApiObject, str]] = [
    (StreamConfig(name="A", subjects=["a\u2028"]), "subjects"),
    (StreamConfig(name="A", republish=Republish()), "republish.dest"),
    (StreamConfig(name="A", republish=Republish(src="a b", dest="c")), "republish.src"),
    (ConsumerConfig(deliver_subject="a", deliver_group="g h"), "deliver_group"),
]

WRONG_REQUESTS: list[tuple[ApiObject, str]] = [
    (CreateConsumerRequest(stream_name="a.b"), "stream_name"),
    (CreateConsumerRequest(stream_name="a", config=ConsumerConfig(name="a b")), "config.name"),
    (StreamsRequest(subject="a b"), "subject"),
    (StreamsRequest(offset=-1), "offset"),
    (StreamInfoRequest(subjects_filter="a..b"), "subjects_filter"),
    (PurgeRequest(filter="a.>.b"), "filter"),
    (PurgeRequest(seq=1, keep=1), "keep"),
    (MsgDeleteRequest(seq=0), "seq"),
    (MsgGetRequest(), "seq"),
    (MsgGetRequest(last_by_subj="a b"), "last_by_subj"),
    (MsgGetRequest(seq=1, last_by_subj="a"), "last_by_subj"),
    (MsgGetRequest(seq=1, start_time=NOW), "start_time"),
    (MsgGetRequest(next_by_subj="a", multi_last=["b"]), "multi_last"),
    (MsgGetRequest(multi_last=["a", "b c"]), "multi_last"),
    (MsgGetRequest(multi_last=["a"], up_to_seq=1, up_to_time=NOW), "up_to_seq"),
    (MsgGetRequest(last_by_subj="a", batch=2), "batch"),
    (NextRequest(batch=-1), "batch"),
    (NextRequest(priority=10), "priority"),
    (NextRequest(group="a b"), "group"),
    (NextRequest(expires=1.0, idle_heartbeat=0.6), "idle_heartbeat"),
    (NextRequest(idle_heartbeat=1.0), "idle_heartbeat"),
    (ConsumerUnpinRequest(), "group"),
]

GOOD_STREAMS: list[dict[str, Any]] = [
    {"name": "x" * 255},
    {"name": "Grüße-_$"},
    {"subjects": ["$JS.EVENT.ADVISORY.>", "$SYS.ACCOUNT.A.>", "a.*", "ä.>"]},
    {"subjects": [">"], "no_ack": True},
    {"max_age": 0.1, "duplicate_window": 0.1},
    {"max_age": 3600.0, "duplicate_window": 120.0},
    {"discard_new_per_subject": True, "discard": "new", "max_msgs_per_subject": 1},
    {"subject_delete_marker_ttl": 1.0},
    {"mirror": StreamSource(name="B", opt_start_seq=7), "allow_direct": True, "mirror_direct": True},
    {"republish": Republish(src="a.>", dest="b.>"), "subjects": ["a.>"]},
    {"deny_purge": True, "deny_delete": True},
    {"allow_msg_counter": True, "allow_direct": True},
]

GOOD_CONSUMERS: list[dict[str, Any]] = [
    {"name": "a", "durable": "a"},
    {"deliver_policy": "last_per_subject", "filter_subject": ">"},
    {"filter_subjects": ["a.*.c", "a.b.*", "b"]},
    {"max_deliver": 2, "backoff": [1.0, 2.0]},
    {"backoff": [1.0, 2.0, 3.0]},
    FLOW,
    {"priority_policy": "pinned_client", "priority_groups": ["A-_/=9"], "priority_timeout": 120.0},
]


class RuleTests(SynchronousTestCase):
    """validate()."""

    def check_refused(self, asked: ApiObject, field: str) -> None:
        error = self.assertRaises(JetStreamConfigError, asked.validate)
        self.assertEqual(error.field, field, asked)
        self.assertTrue(str(error).startswith(f"{field}="), str(error))
        self.assertTrue(str(error).endswith(error.rule))

    def test_streams(self) -> None:
        """The configuration of a stream that no server takes is refused with the field, its value and the rule."""
        for fields, field in WRONG_STREAMS:
            self.check_refused(StreamConfig(**{"name": "A", **fields}), field)

    def test_consumers(self) -> None:
        """The same for consumers."""
        for fields, field in WRONG_CONSUMERS:
            self.check_refused(ConsumerConfig(**fields), field)

    def test_requests(self) -> None:
        """The same for other requests, and for what a server would take although nobody could use it."""
        for request, field in WRONG_REQUESTS + WRONG_BY_OUR_OWN_RULES:
            self.check_refused(request, field)

    def test_what_is_right(self) -> None:
        """What a server takes is not refused."""
        for fields in GOOD_STREAMS:
            StreamConfig(**{"name": "A", **fields}).validate()
        for fields in GOOD_CONSUMERS:
            ConsumerConfig(**fields).validate()
        MsgGetRequest(seq=7, multi_last=["a.>"], up_to_seq=9, batch=3).validate()
        NextRequest(expires=1.0, idle_heartbeat=0.5, batch=10, group="g", priority=9).validate()

    def test_many_filters_are_checked_in_time(self) -> None:
        """A configuration with thousands of filters does not stop the program; overlaps in it are the server's to find."""
        ConsumerConfig(filter_subjects=[f"a.{number}" for number in range(5000)]).validate()
        StreamConfig(name="A", subjects=[f"a.{number}" for number in range(5000)]).validate()

    def test_the_error(self) -> None:
        """The error is one of configuration and of JetStream, and does not repeat a huge value."""
        error = self.assertRaises(JetStreamConfigError, StreamConfig(name="x" * 10_000).validate)
        self.assertIsInstance(error, ConfigurationError)
        self.assertIsInstance(error, JetStreamError)
        self.assertLess(len(str(error)), 200)
