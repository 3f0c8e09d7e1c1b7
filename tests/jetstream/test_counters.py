"""Counters: the headers of an increment, and how values are read."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.jetstream.counters import counter_increment, counter_sources, counter_value, increment_headers
from pynats_twisted.protocol.headers import Headers
from pynats_twisted.protocol.message import Msg

from .publishing import PublishingTestCase

LARGE = 10**4300 - 1


def stored(data: bytes, **headers: str) -> Msg:
    return Msg("c", 1, "", data, Headers({name.replace("_", "-"): value for name, value in headers.items()}).encode())


class HeaderTests(SynchronousTestCase):
    """increment_headers()."""

    def test_sign(self) -> None:
        """The server wants a sign in front of every number."""
        for by, text in ((1, "+1"), (-7, "-7"), (0, "+0"), (LARGE, f"+{LARGE}")):
            self.assertEqual(increment_headers(by), {"Nats-Incr": text})

    def test_others(self) -> None:
        """Other headers are kept, and those of the caller not changed."""
        mine = {"A": "1"}
        self.assertEqual(increment_headers(1, mine), {"A": "1", "Nats-Incr": "+1"})
        self.assertEqual(mine, {"A": "1"})
        self.assertRaises(errors.InvalidHeaderError, increment_headers, 1, {"nats-incr": "5"})

    def test_wrong_numbers(self) -> None:
        """Only whole numbers that can be read again are sent."""
        for wrong in (1.0, "1", None, True, LARGE + 1, -LARGE - 1):
            self.assertRaises(errors.InvalidArgumentError, increment_headers, wrong)


class ValueTests(SynchronousTestCase):
    """Reading stored messages."""

    @given(st.integers() | st.integers(-LARGE, LARGE))
    def test_value_and_increment(self, number: int) -> None:
        """Every number comes back as it was stored."""
        msg = stored(json.dumps({"val": str(number)}).encode(), Nats_Incr=increment_headers(number)["Nats-Incr"])
        self.assertEqual((counter_value(msg), counter_increment(msg)), (number, number))

    def test_no_counter(self) -> None:
        """A message of something else is told apart."""
        self.assertRaises(errors.JetStreamDecodeError, counter_value, stored(b"hello"))
        for wrong in ({}, {"Nats_Incr": "1e5"}, {"Nats_Incr": ""}, {"Nats_Incr": "9" * 4301}, {"Nats_Incr": "٣"}):
            self.assertRaises(errors.JetStreamDecodeError, counter_increment, stored(b"{}", **wrong))

    def test_sources(self) -> None:
        """What came from other streams is told by stream and subject."""
        text = '{"EU":{"count.eu.hits":"12","count.eu.miss":"-3"},"US":{}}'
        self.assertEqual(
            counter_sources(stored(b"{}", Nats_Counter_Sources=text)), {"EU": {"count.eu.hits": 12, "count.eu.miss": -3}, "US": {}}
        )
        self.assertEqual(counter_sources(stored(b"{}")), {})
        for wrong in ("x", "[]", '{"EU":5}', '{"EU":{"s":5}}', '{"EU":{"s":"x"}}'):
            self.assertRaises(errors.JetStreamDecodeError, counter_sources, stored(b"{}", Nats_Counter_Sources=wrong))


class IncrementTests(PublishingTestCase):
    """increment()."""

    def test_value(self) -> None:
        """The result is the counter's new value, however large."""
        waiting = self.watch(self.js.increment("c", -5, {"A": "1"}))
        (frame,) = self.sent()
        self.assertEqual((frame.payload, frame.header_block), (b"", b"NATS/1.0\r\nA: 1\r\nNats-Incr: -5\r\n\r\n"))
        self.peer.answer(frame, b'{"stream":"S","seq":2,"val":"%d"}' % LARGE)
        self.assertEqual(self.successResultOf(waiting), LARGE)

    def test_refused(self) -> None:
        """A stream that does not count says so."""
        waiting = self.watch(self.js.increment("c"))
        self.refuse(self.sent()[0], 400, 10168)
        self.failureResultOf(waiting, errors.CounterError)

    def test_not_counted(self) -> None:
        """An ack without a value is from a server that stored the message as any other."""
        for answer in (b'{"stream":"S","seq":2}', b'{"stream":"S","seq":2,"val":"x"}'):
            waiting = self.watch(self.js.increment("c"))
            self.peer.answer(self.sent()[0], answer)
            self.failureResultOf(waiting, errors.JetStreamDecodeError)

    def test_refused_at_once(self) -> None:
        """A wrong number, and a server that is too old, are found before anything is sent."""
        self.failureResultOf(self.watch(self.js.increment("c", 1.5)), errors.InvalidArgumentError)  # type: ignore[arg-type]
        self.peer.info(jetstream=True, api_lvl=1)
        self.failureResultOf(self.watch(self.js.increment("c")), errors.JetStreamApiLevelError)
        self.assertEqual(self.sent(), [])
