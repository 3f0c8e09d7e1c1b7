"""Answers to publishes."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted.errors import JetStreamApiError, JetStreamDecodeError, StreamStoreError, UnknownFastBatchError, WrongLastSequenceError
from pynats_twisted.jetstream.api import (
    BatchFlowAck,
    BatchFlowError,
    BatchFlowGap,
    PubAck,
    decode_batch_flow,
    decode_counter,
    decode_pub_ack,
)


class PubAckTests(SynchronousTestCase):
    """decode_pub_ack()."""

    def test_stored(self) -> None:
        """What a server says of a stored message is in the ack."""
        self.assertEqual(decode_pub_ack(b'{"stream":"A","seq":7}'), PubAck(stream="A", seq=7))
        self.assertEqual(decode_pub_ack(b'{"stream":"A", "seq":18446744073709551615}'), PubAck(stream="A", seq=2**64 - 1))
        self.assertEqual(
            decode_pub_ack(b'{"stream":"A","domain":"hub","seq":7,"duplicate":true}'),
            PubAck(stream="A", seq=7, domain="hub", duplicate=True),
        )
        self.assertEqual(
            decode_pub_ack(b'{"stream":"A","seq":7,"val":"-12","batch":"b","count":3}'),
            PubAck(stream="A", seq=7, val="-12", batch="b", count=3),
        )

    def test_refused(self) -> None:
        """A refusal is raised, although it has a stream and a sequence too."""
        raw = b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"},"stream":"A","seq":0}'
        error = self.assertRaises(WrongLastSequenceError, decode_pub_ack, raw)
        self.assertEqual(error.last_sequence, 3)
        self.assertRaises(StreamStoreError, decode_pub_ack, b'{"stream":"A","seq":0,"error":{"code":503,"err_code":10077}}')

    def test_unknown_fields_can_be_read(self) -> None:
        """What this package does not know is in ``unknown``."""
        self.assertEqual(decode_pub_ack(b'{"stream":"A","seq":7,"shard":2}').unknown, {"shard": 2})

    def test_damaged(self) -> None:
        """Whatever is no answer to a publish is a JetStreamDecodeError."""
        for raw in (
            *(b"", b"+OK", b"[]", b"{}", b'{"stream":"A"}', b'{"seq":1}', b'{"stream":1,"seq":1}', b'{"stream":"A","seq":"1"}'),
            *(
                b'{"stream":"A","seq":true}',
                b'{"stream":"A","seq":1.5}',
                b'{"stream":"A","seq":1,"duplicate":1}',
                b'{"stream":"\xff","seq":1}',
            ),
            *(b'{"stream":"A","seq":1,"count":"1"}', b'{"stream":"A","seq":1,"val":1}', b'{"stream":"A","seq":007}'),
            *(b'{"stream":"A","seq":1}x', b'{"stream":"A","seq":1,"error":"no"}', b'{"stream":"' + b"A" * 1_048_576 + b'","seq":"1"}'),
        ):
            self.assertRaises(JetStreamDecodeError, decode_pub_ack, raw)

    @given(st.text(max_size=20), st.integers(0, 2**64 - 1), st.booleans())
    def test_short_and_long_forms_are_read_alike(self, stream: str, seq: int, ascii_only: bool) -> None:
        """Whatever the stream is called, and with or without other fields, the same is read."""
        short = json.dumps({"stream": stream, "seq": seq}, ensure_ascii=ascii_only, separators=(",", ":"))
        for text in (short, short.replace(',"seq"', ', "seq"'), short[:-1] + ',"domain":""}', "{ " + short[1:]):
            ack = decode_pub_ack(text.encode())
            self.assertEqual((ack.stream, ack.seq), (stream, seq))

    @given(st.binary(max_size=60))
    def test_nothing_else_is_raised(self, raw: bytes) -> None:
        """Any bytes are an ack or one of the two errors."""
        for read in (decode_pub_ack, decode_batch_flow, decode_counter):
            try:
                read(raw)
            except (JetStreamDecodeError, JetStreamApiError) as error:
                self.assertTrue(str(error))


class FlowTests(SynchronousTestCase):
    """decode_batch_flow()."""

    def test_flow(self) -> None:
        """Each message of the flow of fast ingest is an object of its own, and the last one is the ack of the batch."""
        self.assertEqual(decode_batch_flow(b'{"type":"ack","seq":0,"msgs":100}'), BatchFlowAck(seq=0, msgs=100))
        self.assertEqual(decode_batch_flow(b'{"type":"gap","last_seq":3,"seq":5}'), BatchFlowGap(last_seq=3, seq=5))
        self.assertEqual(decode_batch_flow(b'{"stream":"A","seq":9,"batch":"b","count":9}'), PubAck(stream="A", seq=9, batch="b", count=9))
        refused = decode_batch_flow(b'{"type":"err","seq":4,"error":{"code":400,"err_code":10208,"description":"unknown"}}')
        assert isinstance(refused, BatchFlowError)
        self.assertEqual(refused.seq, 4)
        self.assertIsInstance(refused.error, UnknownFastBatchError)

    def test_the_end_with_an_error(self) -> None:
        """A batch that ends with an error raises it."""
        raw = b'{"error":{"code":400,"err_code":10208},"stream":"A","seq":0}'
        self.assertRaises(UnknownFastBatchError, decode_batch_flow, raw)

    def test_damaged(self) -> None:
        """A message of the flow without its numbers is a JetStreamDecodeError."""
        for raw in (b'{"type":"ack","seq":1}', b'{"type":"gap","seq":1}', b'{"type":"err","seq":1}', b'{"type":"ack","seq":"1","msgs":1}'):
            self.assertRaises(JetStreamDecodeError, decode_batch_flow, raw)


class CounterTests(SynchronousTestCase):
    """decode_counter()."""

    def test_values(self) -> None:
        """A counter may be larger than any machine's integer, and negative."""
        self.assertEqual(decode_counter(b'{"val":"-7"}'), -7)
        self.assertEqual(decode_counter(json.dumps({"val": "9" * 4000}).encode()), 10**4000 - 1)

    def test_damaged(self) -> None:
        """What is no number is a JetStreamDecodeError."""
        for raw in (b"{}", b'{"val":7}', b'{"val":""}', b'{"val":"-"}', b'{"val":"+7"}', b'{"val":"1_0"}', b'{"val":" 1"}'):
            self.assertRaises(JetStreamDecodeError, decode_counter, raw)
        self.assertRaises(JetStreamDecodeError, decode_counter, json.dumps({"val": "9" * 5000}).encode())
