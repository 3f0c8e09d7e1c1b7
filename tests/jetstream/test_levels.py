"""What needs which API level (ADR-44)."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import JetStreamApiLevelError
from pynats_twisted.jetstream.api import (
    API_LEVEL,
    ApiObject,
    ConsumerConfig,
    ConsumerPauseRequest,
    ConsumerResetRequest,
    CreateConsumerRequest,
    MsgGetRequest,
    NextRequest,
    StreamConfig,
    StreamConsumerSource,
    StreamSource,
    check_api_level,
    required_api_level,
    used_features,
)
from pynats_twisted.jetstream.api.levels import FEATURES, SERVERS

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
CONSUMER = StreamConsumerSource(name="c", deliver_subject="d")

LEVELS: list[tuple[ApiObject, int]] = [
    (StreamConfig(name="A", allow_direct=True, metadata={"a": "b"}, compression="s2"), 0),
    (StreamConfig(name="A", allow_msg_ttl=True), 1),
    (StreamConfig(name="A", subject_delete_marker_ttl=1.0), 1),
    (StreamConfig(name="A", allow_msg_counter=True), 2),
    (StreamConfig(name="A", allow_atomic=True, allow_msg_ttl=True), 2),
    (StreamConfig(name="A", allow_msg_schedules=True), 2),
    (StreamConfig(name="A", persist_mode="async"), 2),
    (StreamConfig(name="A", allow_batched=True), 4),
    (StreamConfig(name="A", mirror=StreamSource(name="B", consumer=CONSUMER)), 4),
    (StreamConfig(name="A", sources=[StreamSource(name="B"), StreamSource(name="C", consumer=CONSUMER)]), 4),
    (ConsumerConfig(filter_subjects=["a", "b"]), 0),
    (ConsumerConfig(pause_until=NOW), 1),
    (ConsumerConfig(priority_policy="overflow", priority_groups=["g"]), 1),
    (ConsumerConfig(priority_policy="prioritized", priority_groups=["g"]), 2),
    (ConsumerConfig(ack_policy="flow_control", deliver_subject="d"), 4),
    (CreateConsumerRequest(stream_name="A", config=ConsumerConfig(pause_until=NOW)), 1),
    (MsgGetRequest(seq=1), 0),
    (MsgGetRequest(seq=1, batch=2), 1),
    (MsgGetRequest(multi_last=["a"]), 1),
    (NextRequest(batch=1), 0),
    (NextRequest(group="g"), 1),
    (NextRequest(group="g", priority=1), 2),
    (ConsumerPauseRequest(), 1),
    (ConsumerResetRequest(), 4),
]


class LevelTests(SynchronousTestCase):
    """required_api_level() and check_api_level()."""

    def test_levels(self) -> None:
        """A configuration or request needs the highest level of what it asks for."""
        for asked, level in LEVELS:
            self.assertEqual(required_api_level(asked), level, asked)

    def test_servers_that_have_it(self) -> None:
        """A server with the level, or a higher one, passes; one below does not."""
        for asked, level in LEVELS:
            check_api_level(asked, level)
            check_api_level(asked, API_LEVEL)
            if level:
                error = self.assertRaises(JetStreamApiLevelError, check_api_level, asked, level - 1)
                self.assertEqual((error.required, error.available), (level, level - 1))

    def test_the_error_says_what_is_lacking(self) -> None:
        """The error names the features that the server lacks, and the server that has them."""
        config = StreamConfig(name="A", allow_msg_ttl=True, allow_atomic=True, allow_batched=True)
        self.assertEqual([feature.name for feature in used_features(config)], ["allow_msg_ttl", "allow_atomic", "allow_batched"])
        error = self.assertRaises(JetStreamApiLevelError, check_api_level, config, 1)
        self.assertEqual(str(error), "allow_atomic, allow_batched: needs API level 4 (server 2.14), the server has 1")
        self.assertEqual(error.features, ("allow_atomic", "allow_batched"))

    def test_every_level_has_a_server(self) -> None:
        """Every level of the table is one that this package knows, with a server that has it."""
        for features in FEATURES.values():
            for feature in features:
                self.assertIn(feature.level, SERVERS)
                self.assertLessEqual(feature.level, API_LEVEL)

    def test_nothing_is_used_by_default(self) -> None:
        """A configuration that says nothing needs no level."""
        empty: list[Any] = [StreamConfig, ConsumerConfig, MsgGetRequest, NextRequest]
        for kind in empty:
            self.assertEqual(required_api_level(kind()), 0)
