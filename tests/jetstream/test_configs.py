"""A configuration that goes to a server and comes back is the same, and can be changed and sent again."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.jetstream.api import (
    ConsumerConfig,
    ConsumerInfo,
    CreateConsumerRequest,
    ExternalStream,
    RetentionPolicy,
    StreamConfig,
    StreamInfo,
    StreamSource,
    decode,
    encode,
)
from tests.jetstream.strategies import consumer_configs, stream_configs


def echoed_stream(config: StreamConfig, **more: Any) -> StreamInfo:
    """The info of a stream from a server that takes everything as it is told."""
    raw = {"type": "io.nats.jetstream.api.v1.stream_info_response", "config": {**json.loads(encode(config)), **more}}
    return decode(StreamInfo, json.dumps(raw).encode())


def echoed_consumer(config: ConsumerConfig) -> ConsumerInfo:
    sent = json.loads(encode(CreateConsumerRequest(stream_name="S", config=config)))
    raw = {"type": "io.nats.jetstream.api.v1.consumer_info_response", "stream_name": "S", "name": "C", "config": sent["config"]}
    return decode(ConsumerInfo, json.dumps(raw).encode())


class RoundTripTests(SynchronousTestCase):
    """To the wire and back."""

    @settings(max_examples=200)
    @given(stream_configs)
    def test_streams(self, config: StreamConfig) -> None:
        """Whatever a stream's configuration says comes back."""
        info = echoed_stream(config)
        self.assertEqual(info.config, config)
        self.assertEqual(info.config.unknown, {})
        self.assertEqual(encode(info.config), encode(config))

    @settings(max_examples=200)
    @given(consumer_configs)
    def test_consumers(self, config: ConsumerConfig) -> None:
        """Whatever a consumer's configuration says comes back."""
        info = echoed_consumer(config)
        self.assertEqual(info.config, config)
        self.assertEqual(info.config.unknown, {})

    def test_change_and_send_again(self) -> None:
        """An info's configuration with one field replaced is an update that loses nothing, to the nanosecond."""
        start = {"name": "B", "opt_start_time": "2026-01-01T00:00:00.123456789Z"}
        info = echoed_stream(StreamConfig(name="A", subjects=["a"]), sources=[start], max_age=31_536_000_000_000_001, tomorrow=True)
        update = json.loads(encode(dataclasses.replace(info.config, description="new")))
        self.assertEqual((update["description"], update["sources"], update["max_age"]), ("new", [start], 31_536_000_000_000_001))
        self.assertNotIn("tomorrow", update)

    def test_copies(self) -> None:
        """Configurations can be copied and pickled."""
        config = StreamConfig(name="A", retention="interest", sources=[StreamSource(name="B")], metadata={"a": "b"})
        for twin in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config)), dataclasses.replace(config)):
            self.assertEqual(twin, config)
            self.assertIs(twin.retention, RetentionPolicy.INTEREST)

    def test_configurations_do_not_change(self) -> None:
        """A configuration cannot be changed in place, so it can be shared."""
        config = StreamConfig(name="A")
        self.assertRaises(dataclasses.FrozenInstanceError, setattr, config, "name", "B")
        self.assertRaises(TypeError, StreamConfig, "A")

    def test_repr_shows_what_was_said(self) -> None:
        """The repr has the fields that are not at their default."""
        self.assertEqual(repr(StreamConfig(name="A", max_age=1.0)), "StreamConfig(name='A', max_age=1.0)")

    def test_streams_of_other_domains(self) -> None:
        """A source in another domain is reached under that domain's prefix."""
        self.assertEqual(ExternalStream.of_domain("hub").api_prefix, "$JS.hub.API")
