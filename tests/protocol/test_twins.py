"""The compiled twin of the hot paths does what the pure one does: the same results, the same errors, the same bytes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.protocol import encoder, message, parser, publish_buffer, routing
from pynats_twisted.protocol.events import Event, EventType

from .wire import cut, frames

_spec = importlib.util.find_spec("pynats_twisted.protocol._speedups")
if _spec is not None:
    from pynats_twisted.protocol import _speedups  # type: ignore[attr-defined]


def outcome(call: Callable[[], Any]) -> tuple[Any, ...]:
    """What a call returns, or the error that it raises with its text."""
    try:
        return ("returned", call())
    except errors.NatsError as error:
        return ("raised", type(error), str(error))


def seen(item: Any) -> tuple[Any, ...]:
    """A message or a line, of whichever twin, as something that can be compared."""
    if hasattr(item, "sid"):
        return (item.subject, item.sid, item.reply, item.raw_headers, item.data, item.size, item.status, repr(item))
    return (item.operation, item.text)


def parse(make: Callable[..., Any], parts: list[bytes], **bounds: int) -> list[Any]:
    """What a parser finds in parts, with where each error comes."""
    found: list[Any] = []
    reader = make(**bounds)
    for part in parts:
        out: list[Any] = []
        result = outcome(lambda part=part, out=out: reader.feed(part, out))  # type: ignore[misc]
        found.append(([seen(item) for item in out], result, reader.unfinished))
    return found


_damage = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["put", "cut", "set"]), st.binary(min_size=1, max_size=3)), max_size=4)
_cuts = st.lists(st.integers(0, 10**6), max_size=12)


def damaged(data: bytes, changes: list[tuple[int, str, bytes]]) -> bytes:
    """The data with some bytes added, left out, or replaced."""
    for place, change, new in changes:
        place %= len(data) + 1
        data = data[:place] + (b"" if change == "cut" else new) + data[place + (0 if change == "put" else len(new)) :]
    return data


_token = st.text(st.sampled_from("abz09$_-é\ud800 \t\r\n\0*>.\x7f\x85"), max_size=6)
_subject = st.one_of(st.sampled_from(["a", "a.b", "orders.eu.42", "é.ü", "a..b", ".a", "a.", "", "*", "a.>", "a b"]), _token)
_odd = st.sampled_from([None, 5, b"a", ["a"]])
_payload = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"x" * 16_383, b"x" * 16_384, b"y" * 70_000]), st.binary(max_size=9).map(bytearray), _odd
)
_headers = st.one_of(
    st.none(),
    st.just({}),
    st.dictionaries(st.sampled_from(["A", "Nats-Msg-Id", "b c", ""]), st.sampled_from(["1", "", "x\r\ny", "é"]), max_size=3),
    _odd,
)
_publish = st.tuples(st.one_of(_subject, _odd), _payload, st.one_of(st.none(), _subject, st.just(b"r")), _headers)


class TwinTests(SynchronousTestCase):
    if _spec is None:
        skip = "the compiled twin was not built: there is nothing to compare"

    @given(st.lists(frames, max_size=8), _damage, _cuts)
    @settings(max_examples=1500, deadline=None)
    def test_parsers(self, stream: list[tuple[bytes, Any]], changes: list[tuple[int, str, bytes]], places: list[int]) -> None:
        """Both find the same in every stream, whole, split and damaged, feed by feed."""
        parts = cut(damaged(b"".join(frame for frame, _ in stream), changes), places)
        self.assertEqual(parse(_speedups.Parser, parts), parse(parser.Parser, parts))

    @given(st.lists(frames, max_size=6), _cuts, st.integers(5, 60), st.integers(0, 60))
    @settings(max_examples=500, deadline=None)
    def test_bounds(self, stream: list[tuple[bytes, Any]], places: list[int], line: int, size: int) -> None:
        """Both draw the same lines around what is too long."""
        parts = cut(b"".join(frame for frame, _ in stream), places)
        bounds = {"max_line": line, "max_info_line": line + 10, "max_message": size}
        self.assertEqual(parse(_speedups.Parser, parts, **bounds), parse(parser.Parser, parts, **bounds))

    def test_many_subjects(self) -> None:
        """More subjects and ids than are remembered, alike ones, long ones and ones that are no ASCII come out right."""
        subjects = [b"s.%d" % number for number in range(3000)] + [b"\xc3\xa9.%d" % number for number in range(50)]
        subjects += [b"x" * size for size in (1, 127, 128, 129, 5000)] + [b"\xff\xfe", b"a\0b", b"\x80"]
        data = b"".join(b"MSG %b %d %b 2\r\nhi\r\n" % (subject, sid, subject) for sid, subject in enumerate(subjects))
        self.assertEqual(parse(_speedups.Parser, [data, data]), parse(parser.Parser, [data, data]))

    @given(_publish, st.sampled_from([None, 0, 20, 1 << 20]), st.booleans())
    @settings(max_examples=1500, deadline=None)
    def test_encoders(self, publish: tuple[Any, ...], limit: int | None, headers_supported: bool) -> None:
        """Both write the same bytes or raise the same error, and leave the same behind, also the second time."""
        results = []
        for make in (encoder.PublishEncoder, _speedups.PublishEncoder):
            one = make()
            one.max_payload, one.headers_supported = limit, headers_supported
            out: list[bytes] = []
            twice = [outcome(lambda one=one, out=out: one.encode(out, *publish)) for _ in range(2)]  # type: ignore[misc]
            results.append([*twice, b"".join(out), len(out)])
        self.assertEqual(results[1], results[0])

    @given(
        st.lists(st.one_of(_publish, st.just("take"), st.just("add")), max_size=12),
        st.sampled_from([100, 40_000, 1 << 40]),
        st.integers(0, 9),
    )
    @settings(max_examples=700, deadline=None)
    def test_buffers(self, steps: list[Any], bound: int, crowded_at: int) -> None:
        """Both take the same, count the same, call for help at the same times, and give the same bytes."""
        results = []
        for base, twin in ((publish_buffer.PublishBuffer, encoder.PublishEncoder), (_speedups.PublishBuffer, _speedups.PublishEncoder)):
            calls: list[str] = []

            class Buffer(base):  # type: ignore[misc, valid-type]
                def _first(self, calls: list[str] = calls) -> None:
                    calls.append("first")
                    self.armed = True

                def _crowded(self, calls: list[str] = calls) -> str:
                    calls.append("crowded")
                    return "wait"

            buffer = Buffer(twin())
            buffer.bound, buffer.crowded_at, buffer.armed = bound, crowded_at * 20, False
            seen_so_far: list[Any] = []
            for step in steps:
                if step == "take":
                    pieces = b"".join(buffer.take())
                    buffer.pending -= len(pieces)
                    buffer.armed = False
                    seen_so_far.append(pieces)
                elif step == "add":
                    buffer.add(b"PING\r\n")
                else:
                    result = outcome(lambda buffer=buffer, step=step: buffer.publish(*step))  # type: ignore[misc]
                    seen_so_far.append(result if result[1:] == ("wait",) or result[0] == "raised" else repr(result[1]))
                seen_so_far.append((buffer.pending, buffer.accepted, buffer.accepted_bytes, buffer.armed))
            buffer.refusal = errors.ConnectionClosedError("closed")
            seen_so_far += [outcome(lambda buffer=buffer: buffer.publish("a")), b"".join(buffer.take()), list(calls)]  # type: ignore[misc]
            results.append(seen_so_far)
        self.assertEqual(results[1], results[0])

    @given(st.lists(st.one_of(st.integers(1, 4), st.just("line")), max_size=12), st.integers(0, 3), st.booleans())
    @settings(max_examples=500, deadline=None)
    def test_routing(self, items: list[Any], limit: int, runs: bool) -> None:
        """Both give each message to its subscription, count, end at the limit, and hand out in the same order."""
        results = []
        for router_class, record_class, msg_class, hand_out in (
            (routing.Router, routing.SubscriptionRecord, message.Msg, routing.hand_out),
            (_speedups.Router, _speedups.SubscriptionRecord, _speedups.Msg, _speedups.hand_out),
        ):
            story: list[Any] = []

            class Owner:
                _takes_runs = runs

                def __init__(self, name: int, story: list[Any] = story) -> None:
                    self.name, self.story = name, story

                def _deliver(self, msg: Any) -> None:
                    self.story.append((self.name, msg.data))

                def _deliver_run(self, msgs: list[Any]) -> None:
                    for msg in msgs:
                        self._deliver(msg)

            records = {}
            for sid in (1, 2, 3):
                records[sid] = record_class("a", "", sid, Owner(sid))
                records[sid].limit = limit if sid == 2 else 0
            router = router_class(records)
            line = parser.Line(parser.Operation.OK)
            parsed = [line if item == "line" else msg_class("a", item, "", b"%d" % n) for n, item in enumerate(items)]
            events: list[Any] = []
            index, stops = 0, []
            while (index := router.route(parsed, index, events)) < len(parsed):
                stops.append(index)
                index += 1

            def other(event: Any, story: list[Any] = story) -> None:
                story.append((event.type, event.body.sid) if isinstance(event, Event) else event)

            counts = hand_out(events, other)
            left = [(record.sid, record.delivered, repr(record)) for record in records.values()]
            results.append((counts, stops, story, router.unknown, left))
        self.assertEqual(results[1], results[0])

    def test_messages(self) -> None:
        """A message of either twin is its own event, reads its headers when asked, and refuses to reply where it cannot."""
        for make in (message.Msg, _speedups.Msg):
            msg = make("a", 1, "", b"hi", b"NATS/1.0 503 No Responders\r\nA: 1\r\n\r\n")
            self.assertEqual((msg.status, msg.status_text, msg.headers["A"], msg.headers_problem), (503, "No Responders", "1", None))
            self.assertIs(msg.type, EventType.MSG)
            self.assertIs(msg.body, msg)
            self.assertTrue(msg == EventType.MSG and msg != EventType.PONG and msg == msg and hash(msg) == hash(msg))
            self.assertRaises(errors.MessageNotRepliableError, msg.respond)
            msg.reply = "r"
            self.assertRaises(errors.MessageNotRepliableError, msg.respond, b"x")
            msg.subscription = object()
            self.assertRaises(errors.MessageNotRepliableError, msg.respond, b"x")
            self.assertEqual(len(make("a", 1, "", b"").headers), 0)
