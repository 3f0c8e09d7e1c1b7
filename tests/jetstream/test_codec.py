"""Requests are written strictly, answers are read with patience."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import JetStreamApiError, JetStreamConfigError, JetStreamDecodeError, StreamNotFoundError
from pynats_twisted.jetstream import api
from pynats_twisted.jetstream.api import (
    AccountInfo,
    ApiObject,
    ConsumerList,
    ConsumerNames,
    MsgGetResponse,
    PauseInfo,
    PurgeResponse,
    RetentionPolicy,
    StreamConfig,
    StreamInfo,
    StreamNames,
    SuccessResponse,
    UnknownValue,
    decode,
    encode,
)
from pynats_twisted.jetstream.api.fields import table_of

CLASSES = [kind for kind in vars(api).values() if isinstance(kind, type) and issubclass(kind, ApiObject) and kind is not ApiObject]
KIND = "io.nats.jetstream.api.v1."


def answer(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": KIND + kind, **fields}).encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


class ReadingTests(SynchronousTestCase):
    """decode()."""

    def test_answers(self) -> None:
        """The answers of a server become objects, with what it left out at its default."""
        names = decode(StreamNames, answer("stream_names_response", total=2, offset=0, limit=1024, streams=["A", "B"]))
        self.assertEqual((names.streams, names.total, names.limit), (("A", "B"), 2, 1024))
        self.assertEqual(decode(PurgeResponse, answer("stream_purge_response", success=True, purged=7)).purged, 7)
        self.assertTrue(decode(SuccessResponse, answer("stream_msg_delete_response", success=True)).success)
        pause = decode(PauseInfo, answer("consumer_pause_response", paused=True, pause_until="0001-01-01T00:00:00Z", pause_remaining=1))
        self.assertEqual((pause.paused, pause.pause_until, pause.pause_remaining), (True, None, 1e-9))

    def test_stored_message(self) -> None:
        """A stored message has its headers and payload as bytes."""
        message = {"subject": "a", "seq": 2**64 - 1, "hdrs": "TkFUUy8xLjANCg0K", "data": "AP8=", "time": "2026-01-01T00:00:00.000000001Z"}
        got = decode(MsgGetResponse, answer("stream_msg_get_response", message=message)).message
        self.assertEqual((got.subject, got.seq, got.header_block, got.data), ("a", 2**64 - 1, b"NATS/1.0\r\n\r\n", b"\0\xff"))
        self.assertEqual(getattr(got.time, "nanosecond", None), 1)
        error = self.assertRaises(
            JetStreamDecodeError, decode, MsgGetResponse, answer("stream_msg_get_response", message={**message, "data": "?"})
        )
        self.assertIn("message.data must be base64", str(error))

    def test_empty_lists(self) -> None:
        """Servers write null for an empty list: it is an empty one."""
        self.assertEqual(decode(ConsumerNames, answer("consumer_names_response", consumers=None)).consumers, ())
        self.assertEqual(decode(ConsumerList, answer("consumer_list_response", consumers=None, offline=None)).offline, {})

    def test_unknown_fields_can_be_read(self) -> None:
        """What this package does not know can be read where it stood, and does not make objects different."""
        raw = answer("stream_info_response", config={"name": "A", "tomorrow": [1]}, state={"messages": 1}, later={"a": 1})
        info = decode(StreamInfo, raw)
        self.assertEqual((info.unknown, info.config.unknown, info.state.unknown), ({"later": {"a": 1}}, {"tomorrow": [1]}, {}))
        self.assertEqual(info.config, StreamConfig(name="A"))
        self.assertIn("tomorrow", repr(info))

    def test_unknown_choices_can_be_read(self) -> None:
        """A choice of a newer server is its text, and an update sends it back; one that a person made up is refused."""
        config = decode(StreamInfo, answer("stream_info_response", config={"name": "A", "retention": "forever"})).config
        self.assertEqual(config.retention, "forever")
        self.assertIsInstance(config.retention, UnknownValue)
        self.assertEqual(json.loads(encode(config))["retention"], "forever")
        error = self.assertRaises(JetStreamConfigError, StreamConfig, name="A", retention="forever")
        self.assertEqual(str(error), "retention='forever': must be one of 'limits', 'interest', 'workqueue'")

    def test_errors_are_raised(self) -> None:
        """An answer that is an error is raised as such, whatever else it has and of whatever type it is."""
        raw = answer("system_response", error={"code": 404, "err_code": 10059, "description": "stream not found"}, config={"name": 1})
        error = self.assertRaises(StreamNotFoundError, decode, StreamInfo, raw)
        self.assertEqual((error.code, error.err_code, error.description), (404, 10059, "stream not found"))

    def test_another_kind_of_answer(self) -> None:
        """An answer to something else, as from a stream that captured the request's subject, is not taken for the wanted one."""
        for raw in (answer("stream_names_response", streams=[]), b'{"stream":"A","seq":1}', b'{"type":1}', b"{}"):
            error = self.assertRaises(JetStreamDecodeError, decode, StreamInfo, raw)
            self.assertIn("not of stream_create_response or stream_info_response", str(error))

    def test_damaged_answers(self) -> None:
        """What is not a JSON object is a JetStreamDecodeError, whatever it is."""
        for raw in (b"", b"{", b"[]", b"null", b"1", b'{"a":\xff}', b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a":' * 100_000):
            self.assertRaises(JetStreamDecodeError, decode, AccountInfo, raw)
        for damage in (b"NaN", b"-Infinity", b"1" * 5000):
            raw = answer("account_info_response").replace(b"}", b', "tomorrow": %s}' % damage)
            self.assertIn("not JSON", str(self.assertRaises(JetStreamDecodeError, decode, AccountInfo, raw)))

    def test_wrong_types_name_their_place(self) -> None:
        """A known field of the wrong type is an error that says where it stands."""
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"config": {"name": 1}}, "StreamInfo: config.name must be a string"),
            ({"config": {"name": "A", "sources": [{"name": "B"}, 7]}}, "StreamInfo: config.sources.1 must be an object"),
            ({"config": {"name": "A"}, "state": {"subjects": {"x": True}}}, "StreamInfo: state.subjects.x must be an integer"),
            ({"config": {"name": "A"}, "created": "yesterday"}, "StreamInfo: created is not a time in RFC 3339"),
            ({}, "StreamInfo: must have config"),
        ]
        for fields, words in wrong:
            error = self.assertRaises(JetStreamDecodeError, decode, StreamInfo, answer("stream_info_response", **fields))
            self.assertEqual(str(error), words)

    def test_bounded(self) -> None:
        """An answer that is longer than the limit is refused before it is read."""
        raw = answer("stream_names_response", streams=["A" * 100])
        self.assertRaises(JetStreamDecodeError, decode, StreamNames, raw, 100)
        self.assertEqual(len(decode(StreamNames, raw, len(raw)).streams), 1)

    @settings(max_examples=300)
    @given(st.data())
    def test_nothing_else_is_raised(self, data: st.DataObject) -> None:
        """Whatever JSON a server sends, it is read, or is one of the two errors."""
        kind = data.draw(st.sampled_from(CLASSES))
        keys = st.sampled_from([*table_of(kind).by_key, "tomorrow"])
        raw = data.draw(st.dictionaries(keys, json_values, max_size=6))
        raw["type"] = KIND + min(kind.kinds, default="")
        try:
            decode(kind, json.dumps(raw).encode())
        except (JetStreamDecodeError, JetStreamApiError) as error:
            self.assertTrue(str(error))


class WritingTests(SynchronousTestCase):
    """encode()."""

    def test_defaults_stay_out(self) -> None:
        """A request has what was said, and of the rest only what the server could take for something else."""
        limits = {"max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_msgs_per_subject": -1, "max_age": 0}
        choices = {"retention": "limits", "discard": "old", "storage": "file"}
        self.assertEqual(json.loads(encode(StreamConfig(name="A"))), {"name": "A", "num_replicas": 1, **limits, **choices})
        self.assertEqual(
            json.loads(encode(api.CreateConsumerRequest(stream_name="A"))),
            {
                "stream_name": "A",
                "config": {"deliver_policy": "all", "ack_policy": "explicit", "replay_policy": "instant", "num_replicas": 0},
            },
        )
        for request in (api.StreamInfoRequest(), api.PurgeRequest(), api.NextRequest(), api.ConsumerPauseRequest()):
            self.assertEqual(encode(request), b"{}")

    def test_unknown_fields_are_never_sent(self) -> None:
        """What a newer server said is not sent: a server that does not know it refuses the whole request."""
        config = StreamConfig(name="A", unknown={"tomorrow": 1}, placement=api.Placement(cluster="c", unknown={"x": 1}))
        self.assertNotIn(b"tomorrow", encode(config))
        self.assertEqual(json.loads(encode(config))["placement"], {"cluster": "c"})

    def test_only_readable_fields_are_never_sent(self) -> None:
        """Fields that only servers set are read and not sent."""
        self.assertNotIn(b"template_owner", encode(StreamConfig(name="A", template_owner="T")))
        self.assertNotIn(b"direct", encode(api.ConsumerConfig(direct=True, sourcing=True)))

    def test_metadata_of_the_server_is_never_sent(self) -> None:
        """The server's own metadata is read and not sent back; the user's is."""
        config = StreamConfig(name="A", metadata={"_nats.ver": "2.15.1", "_nats.level": "5", "_nats.req.level": "0", "owner": "me"})
        self.assertEqual(json.loads(encode(config))["metadata"], {"owner": "me"})
        self.assertEqual(api.user_metadata(config.metadata), {"owner": "me"})

    def test_choices_may_be_texts(self) -> None:
        """A choice may be given as its text, and is the member all the same."""
        self.assertIs(StreamConfig(name="A", retention="workqueue").retention, RetentionPolicy.WORKQUEUE)
        self.assertEqual(f"{RetentionPolicy.WORKQUEUE} {RetentionPolicy.WORKQUEUE!s}", "workqueue workqueue")

    def test_lists_are_no_texts(self) -> None:
        """A text in the place of a list of texts is refused, and any list is kept as a tuple."""
        self.assertRaises(JetStreamConfigError, StreamConfig, name="A", subjects="orders.>")
        self.assertEqual(StreamConfig(name="A", subjects=["a"]), StreamConfig(name="A", subjects=("a",)))

    def test_a_config_keeps_its_own_metadata(self) -> None:
        """Changing a mapping that a configuration was made with does not change the configuration."""
        mine = {"a": "b"}
        config = StreamConfig(name="A", metadata=mine)
        mine["a"] = "c"
        self.assertEqual(config.metadata, {"a": "b"})

    def test_wrong_types(self) -> None:
        """A value of the wrong type, or one that the wire cannot hold, is refused with the name of its field."""
        no_time: Any = 1
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"max_msgs": "1"}, "max_msgs='1': must be an integer"),
            ({"max_msgs": True}, "max_msgs=True: must be an integer"),
            ({"max_msgs": 2**63}, "max_msgs=9223372036854775808: must be between -9223372036854775808 and 9223372036854775807"),
            ({"max_msg_size": 2**31}, "max_msg_size=2147483648: must be between -2147483648 and 2147483647"),
            ({"first_seq": -1}, "first_seq=-1: must be between 0 and 18446744073709551615"),
            ({"max_age": -1.0}, "max_age=-1.0: must not be negative"),
            ({"max_age": "1h"}, "max_age='1h': must be a number of seconds"),
            ({"no_ack": 1.5}, "no_ack=1.5: must be true or false"),
            ({"metadata": {"a": 1}}, "metadata.a=1: must be a string"),
            ({"sources": ["B"]}, "sources.0='B': must be a StreamSource"),
            ({"mirror": api.StreamSource(name="B", opt_start_time=no_time)}, "mirror.opt_start_time=1: must be a datetime"),
        ]
        for fields, words in wrong:
            error = self.assertRaises(JetStreamConfigError, encode, StreamConfig(name="A", **fields))
            self.assertEqual(str(error), words)
        error = self.assertRaises(JetStreamConfigError, StreamConfig(name="A", max_msgs=-2).validate)
        self.assertEqual((error.field, error.value, error.rule), ("max_msgs", -2, "must be -1 for no limit, or more"))
        self.assertRaises(JetStreamConfigError, encode, StreamConfig(name="A", description="\ud800"))
