"""What services say of themselves, from and to JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import Headers, Msg
from pynats_twisted.errors import InvalidArgumentError, InvalidSubjectError, ServiceDecodeError
from pynats_twisted.services import api
from pynats_twisted.services.api import (
    Answer,
    EndpointInfo,
    EndpointStats,
    Info,
    Ping,
    Stats,
    control_subject,
    decode,
    encode,
    error_headers,
    is_end,
    response_error,
)

from .schemas import complete, problems

STARTED = datetime(2026, 3, 4, 5, 6, 7, 891011, timezone.utc)
WHO: dict[str, Any] = {"name": "orders", "id": "A1", "version": "1.2.3", "metadata": {"zone": "north"}}
PING = Ping(**WHO)
INFO = Info(
    **WHO, description="Takes orders.", endpoints=(EndpointInfo(name="add", subject="orders.add", queue_group="q", metadata={"a": "b"}),)
)
STATS = Stats(
    **WHO,
    started=STARTED,
    endpoints=(
        EndpointStats(
            name="add",
            subject="orders.add",
            queue_group="q",
            num_requests=3,
            num_errors=1,
            last_error="400:no tea",
            processing_time=0.75,
            average_processing_time=0.25,
            data={"cups": [1, None]},
        ),
    ),
)


def wire(answer: Answer, **changes: Any) -> bytes:
    """The JSON of an answer with other values; None leaves a field out."""
    raw = {**json.loads(encode(answer)), **changes}
    return json.dumps({key: value for key, value in raw.items() if value is not None}).encode()


class EncodingTests(SynchronousTestCase):
    """What we say has every field of the ADR, and nothing else."""

    def test_every_answer_follows_the_schema(self) -> None:
        """PING, INFO and STATS break no rule of the schemas and lack no field that the ADR names."""
        bare_stats = Stats(name="s", id="1", version="0.0.1", started=STARTED, endpoints=(EndpointStats(name="e", subject="e"),))
        bare_info = Info(name="s", id="1", version="0.0.1", endpoints=(EndpointInfo(name="e", subject="e"),))
        for answer in (PING, INFO, STATS, Ping(name="s", id="1", version="0.0.1"), bare_info, bare_stats):
            self.assertEqual((problems(answer.verb, encode(answer)), complete(answer.verb, encode(answer))), ([], []), answer)

    def test_names_and_units_of_the_wire(self) -> None:
        """Types have their full names, times are whole nanoseconds, and the start is RFC 3339 in UTC."""
        raw = json.loads(encode(STATS))
        self.assertEqual(raw["type"], "io.nats.micro.v1.stats_response")
        self.assertEqual(raw["started"], "2026-03-04T05:06:07.891011Z")
        self.assertEqual(
            raw["endpoints"],
            [
                {
                    "name": "add",
                    "subject": "orders.add",
                    "queue_group": "q",
                    "num_requests": 3,
                    "num_errors": 1,
                    "last_error": "400:no tea",
                    "processing_time": 750_000_000,
                    "average_processing_time": 250_000_000,
                    "data": {"cups": [1, None]},
                }
            ],
        )
        east = timezone(timedelta(hours=2))
        self.assertEqual(
            json.loads(encode(replace(STATS, started=datetime(2026, 3, 4, 1, tzinfo=east))))["started"], "2026-03-03T23:00:00Z"
        )

    def test_data_is_left_out_where_there_is_none(self) -> None:
        """Without a stats handler an endpoint has no ``data``."""
        raw = json.loads(encode(replace(STATS, endpoints=(EndpointStats(name="e", subject="e"),))))
        self.assertNotIn("data", raw["endpoints"][0])

    def test_what_cannot_be_written(self) -> None:
        """A start without a time zone, and data that JSON cannot express, are refused by name."""
        for wrong in (
            replace(STATS, started=STARTED.replace(tzinfo=None)),
            replace(STATS, endpoints=(EndpointStats(name="e", subject="e", data={1, 2}),)),
            replace(STATS, endpoints=(EndpointStats(name="e", subject="e", data=float("nan")),)),
            replace(PING, metadata={"a": "\ud800"}),
        ):
            self.assertIn("'orders'", str(self.assertRaises(InvalidArgumentError, encode, wrong)))


class DecodingTests(SynchronousTestCase):
    """What others say is read as far as it can be."""

    def test_what_was_written_is_read(self) -> None:
        """Each answer comes back equal."""
        for answer in (PING, INFO, STATS):
            self.assertEqual(decode(type(answer), encode(answer)), answer)

    def test_what_does_not_count(self) -> None:
        """Answers are equal whatever they took, and whether their endpoints are a list or a tuple."""
        self.assertEqual(replace(PING, rtt=1.0), PING)
        self.assertEqual(replace(INFO, endpoints=list(INFO.endpoints)), INFO)
        self.assertEqual(replace(STATS, endpoints=list(STATS.endpoints)), STATS)

    def test_numbers_of_other_clients(self) -> None:
        """Whole numbers may be written with an exponent, and nanoseconds may have fractions."""
        raw = {"name": "e", "subject": "e", "num_requests": 1e3, "processing_time": 1.5e9 + 0.5}
        read = EndpointStats.from_json(raw)
        self.assertEqual((read.num_requests, read.processing_time), (1000, 1.5000000005))

    def test_too_long(self) -> None:
        """An answer of more bytes than the bound is refused unread; by default that is 64 MiB."""
        self.assertEqual(api.MAX_ANSWER, 64 * 1024 * 1024)
        self.patch(api, "MAX_ANSWER", len(encode(PING)))
        self.assertEqual(decode(Ping, encode(PING)), PING)
        self.assertIn("limit", str(self.assertRaises(ServiceDecodeError, decode, Ping, encode(PING) + b" ")))

    @given(st.integers(0, 20 * 86_400 * 1_000_000_000))
    def test_times_keep_their_nanoseconds(self, nanoseconds: int) -> None:
        """Nanoseconds of up to 20 days are the same after reading and writing."""
        raw = {"name": "e", "subject": "e", "processing_time": nanoseconds}
        self.assertEqual(EndpointStats.from_json(raw).to_json()["processing_time"], nanoseconds)

    def test_optional_fields_may_be_missing_or_null(self) -> None:
        """Metadata, description, endpoints, queue groups and the last error may be missing or null."""
        head = b'{"type":"io.nats.micro.v1.info_response","name":"s","id":"1","version":"0.0.1"'
        null, bare = head + b',"metadata":null,"description":null,"endpoints":null}', head + b"}"
        expected = Info(name="s", id="1", version="0.0.1")
        self.assertEqual((decode(Info, null), decode(Info, bare)), (expected, expected))
        raw = {"name": "e", "subject": "e", "queue_group": None, "last_error": None, "num_errors": None, "data": None}
        self.assertEqual(EndpointStats.from_json(raw), EndpointStats(name="e", subject="e"))

    def test_unknown_fields_are_kept(self) -> None:
        """What a newer service says beyond the ADR can be read, is not sent, and does not make answers differ."""
        read = decode(Ping, wire(PING, mood="good"))
        self.assertEqual((read.unknown, read), ({"mood": "good"}, PING))
        self.assertNotIn("mood", json.loads(encode(read)))
        endpoint = {"name": "e", "subject": "e", "schema": {"request": "x"}}
        self.assertEqual(decode(Info, wire(INFO, endpoints=[endpoint])).endpoints[0].unknown, {"schema": {"request": "x"}})

    def test_metadata_that_is_no_text(self) -> None:
        """Metadata values that are not texts, which some clients allow, become their JSON."""
        self.assertEqual(decode(Ping, wire(PING, metadata={"n": 1, "yes": True, "s": "t"})).metadata, {"n": "1", "yes": "true", "s": "t"})

    def test_starts_of_other_clients(self) -> None:
        """Nanoseconds, milliseconds, no fraction and other time zones are read."""
        whole = datetime(2026, 3, 4, 5, 6, 7, 0, timezone.utc)
        for text, micros in (
            ("2026-03-04T05:06:07Z", 0),
            ("2026-03-04T05:06:07.5Z", 500_000),
            ("2026-03-04T05:06:07.123456789Z", 123_456),
            ("2026-03-04T07:06:07.123+02:00", 123_000),
        ):
            started = decode(Stats, wire(STATS, started=text)).started
            self.assertEqual((started, started.utcoffset()), (whole + timedelta(microseconds=micros), timedelta(0)), text)

    def test_what_is_no_answer(self) -> None:
        """Damage, an answer to another question, and what lacks who speaks, are refused with the field's name."""
        for data, word in (
            (b"", "JSON"),
            (b"\xff", "JSON"),
            (b"[" * 100_000, "JSON|deep"),
            (b"[]", "list"),
            (b'{"type":"io.nats.micro.v1.ping_response","name":NaN}', "NaN"),
            (encode(INFO), "info_response"),
            (wire(PING, type=None), "None"),
            (wire(PING, id=None), "id"),
            (wire(PING, name=""), "name"),
            (wire(PING, version=1), "version"),
            (wire(PING, metadata=[]), "metadata"),
        ):
            self.assertRegex(str(self.assertRaises(ServiceDecodeError, decode, Ping, data)), word)
        for changes, word in (
            ({"started": "yesterday"}, "started"),
            ({"started": "2026-13-04T05:06:07Z"}, "started"),
            ({"started": None}, "started"),
            ({"endpoints": {}}, "endpoints must be a list"),
            ({"endpoints": [1]}, r"endpoints\.0 must"),
            ({"endpoints": [{"name": "e"}]}, r"endpoints\.0\.subject"),
            ({"endpoints": [{"name": "e", "subject": "e", "num_requests": -1}]}, "num_requests"),
            ({"endpoints": [{"name": "e", "subject": "e", "num_requests": True}]}, "num_requests"),
            ({"endpoints": [{"name": "e", "subject": "e", "processing_time": "1s"}]}, "processing_time"),
            ({"endpoints": [{"name": "e", "subject": "e", "processing_time": True}]}, "processing_time"),
        ):
            self.assertRegex(str(self.assertRaises(ServiceDecodeError, decode, Stats, wire(STATS, **changes))), word)

    @given(
        st.binary(max_size=200)
        | st.recursive(st.none() | st.integers() | st.text() | st.floats(), st.lists).map(lambda x: json.dumps(x).encode())
    )
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes, it is an answer or one kind of error."""
        for kind in (Ping, Info, Stats):
            self.assertRaises(ServiceDecodeError, decode, kind, data)

    @given(
        st.dictionaries(
            st.sampled_from(["name", "id", "version", "metadata", "description", "endpoints", "started"]),
            st.none()
            | st.integers()
            | st.text(max_size=5)
            | st.lists(st.dictionaries(st.sampled_from(["name", "subject", "num_errors"]), st.text() | st.floats())),
        )
    )
    def test_any_fields(self, fields: dict[str, Any]) -> None:
        """Whatever the fields hold, reading gives an answer or one kind of error."""
        for answer in (PING, INFO, STATS):
            try:
                self.assertIsInstance(decode(type(answer), wire(answer, **fields)), type(answer))
            except ServiceDecodeError as error:
                self.assertRegex(str(error), "^(Ping|Info|Stats): |is not JSON")


class SubjectTests(SynchronousTestCase):
    """Where services are asked."""

    def test_subjects(self) -> None:
        """All, those of a name, one instance; the prefix is taken as it is."""
        self.assertEqual(control_subject("PING"), "$SRV.PING")
        self.assertEqual(control_subject("INFO", "orders"), "$SRV.INFO.orders")
        self.assertEqual(control_subject("STATS", "orders", "A1", prefix="north.srv"), "north.srv.STATS.orders.A1")

    def test_what_cannot_be_asked(self) -> None:
        """A name or an id that would make another subject is refused by its value."""
        for arguments in (
            ("LOOK",),
            ("PING", "a.b"),
            ("PING", ""),
            ("PING", "*"),
            ("PING", "a b"),
            ("PING", "a", "x.y"),
            ("PING", "a", ">"),
        ):
            error = self.assertRaises(InvalidArgumentError, control_subject, *arguments)
            self.assertIn(repr(arguments[-1]), str(error))
        self.assertIn("'A1'", str(self.assertRaises(InvalidArgumentError, control_subject, "PING", None, "A1")))
        self.assertRaises(InvalidSubjectError, control_subject, "PING", prefix="a b")


class ErrorHeaderTests(SynchronousTestCase):
    """Errors in the headers of replies."""

    def reply(self, headers: Any, data: bytes = b"") -> Msg:
        return Msg("inbox", 1, "", data, Headers(headers).encode() if headers else b"")

    def test_there_and_back(self) -> None:
        """What is written into headers is read from them, with the whole reply."""
        reply = self.reply(error_headers(HTTPStatus.NOT_FOUND, "no tea"), b"data")
        error = response_error(reply)
        assert error is not None
        self.assertEqual((error.code, error.description, error.response, str(error)), (404, "no tea", reply, "404: no tea"))

    def test_descriptions_fit_into_a_header(self) -> None:
        """Line ends and control characters become spaces: no description can break a reply."""
        headers = error_headers(500, "one\r\nNats-Forged: yes\x00\u2028two\ud800\n")
        self.assertEqual(headers["Nats-Service-Error"], "one Nats-Forged: yes two?")
        self.assertEqual(list(Headers(headers)), ["Nats-Service-Error", "Nats-Service-Error-Code"])

    def test_wrong_codes(self) -> None:
        """A code is a whole number, a description a text."""
        for code, description in (("500", "x"), (True, "x"), (1.5, "x"), (500, None)):
            self.assertRaises(InvalidArgumentError, error_headers, code, description)

    def test_half_an_error_is_one(self) -> None:
        """One of the two headers is enough, and a code that is no number is 0."""
        found = [
            response_error(self.reply(headers))
            for headers in (
                {"Nats-Service-Error": "x"},
                {"Nats-Service-Error-Code": "7"},
                {"Nats-Service-Error": "y", "Nats-Service-Error-Code": "E7"},
            )
        ]
        self.assertEqual([(error.code, error.description) for error in found if error], [(0, "x"), (7, ""), (0, "y")])

    def test_other_replies_are_none(self) -> None:
        """Replies without headers, or with others, are no errors; an empty one without headers ends an answer in parts."""
        plain, other = self.reply(None), self.reply({"A": "b"})
        self.assertEqual((response_error(plain), response_error(other)), (None, None))
        self.assertEqual((is_end(plain), is_end(other), is_end(self.reply(None, b"x"))), (True, False, False))
