"""Messages read from streams on real servers, through the API and by direct gets."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pynats_twisted import NatsClient, errors
from pynats_twisted.jetstream.api import StreamConfig, Timestamp
from pynats_twisted.jetstream.stream import Stream
from tests.integration.test_js_streams import StreamTestCase
from tests.support.witness import Witness


class DirectTestCase(StreamTestCase):
    async def stream(self, **fields: Any) -> tuple[NatsClient, Stream]:
        nc = await self.jetstream()
        config = StreamConfig(**{"name": "S", "subjects": ["s.>"], "allow_direct": True, "storage": "memory", **fields})
        return nc, await nc.jetstream().create_stream(config)


class SingleTests(DirectTestCase):
    """One message."""

    async def test_both_ways_give_the_same(self) -> None:
        """A message is the same read from the leader and by a direct get: headers with several values, none, or the server's own names."""
        nc, stream = await self.stream()
        headers: list[Any] = [
            None,
            {"A": "1"},
            {"A": ["1", "2", "1"], "B": "ü", "a": "small"},
            {"Nats-Sequence": "77", "Nats-Stream": "fake", "Nats-Time-Stamp": "never", "Nats-Subject": "no", "Nats-Num-Pending": "5"},
            {"Nats-Num-Pending": "5", "Nats-Last-Sequence": ["3", "4"]},
            {"Nats-Stream": ["fake", "more"]},
        ]
        for number, one in enumerate(headers):
            await self.fill(nc, f"s.{number}", headers=one)
        in_batch = await stream.get_batch().collect()
        for number, one in enumerate(headers):
            stored = await stream.get_msg(number + 1, direct=False)
            self.assertEqual(stored, await stream.get_msg(number + 1, direct=True))
            self.assertEqual(stored, await stream.get_msg(number + 1))
            self.assertEqual(stored, in_batch[number])
            self.assertEqual((stored.subject, stored.seq, stored.data), (f"s.{number}", number + 1, b"s.%d" % number))
            for read in (stored, in_batch[number]):
                self.assertEqual(read.headers, one or {})
                assert isinstance(read.time, Timestamp)
                self.assertEqual(read.time.nanosecond, stored.time.nanosecond if isinstance(stored.time, Timestamp) else -1)
            self.assertLess(abs(datetime.now(timezone.utc) - stored.time), timedelta(minutes=1))

    async def test_odd_stored_headers(self) -> None:
        """A header block that another client wrote in its own way comes as it is stored, in all ways of reading."""
        _, stream, witness = await self.stream_and_witness()
        blocks = [b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nA:x\r\nA:  y \r\nB:\r\nNats-Stream: z\r\n\r\n", b"NATS/1.0\r\nno colon\r\n\r\n"]
        for block in blocks:
            witness.send(b"HPUB s.odd acks %d %d\r\n%b\r\n" % (len(block), len(block), block))
            witness.next()
        in_batch = await stream.get_batch().collect()
        self.assertEqual(len(in_batch), len(blocks))
        for number, block in enumerate(blocks):
            stored = await stream.get_msg(number + 1, direct=False)
            self.assertEqual(stored.raw_headers, block if number else b"")
            self.assertEqual(stored, await stream.get_msg(number + 1, direct=True))
            self.assertEqual(stored, in_batch[number])
        self.assertEqual(in_batch[1].headers, {"A": ["x", "y"], "B": "", "Nats-Stream": "z"})

    async def test_stored_headers_without_an_end(self) -> None:
        """A damaged header block does not keep anybody from reading, and hides no other message."""
        _, stream, witness = await self.stream_and_witness()
        for block in (b"NATS/1.0\r\nA: b", b"NATS/1.0\r\nA: b\r\n", b"NATS/1.0\r\nA: b\r\n\r\n"):
            witness.send(b"HPUB s.odd acks %d %d\r\n%b\r\n" % (len(block), len(block), block))
            witness.next()
        self.assertEqual([msg.seq async for msg in stream.get_batch()], [1, 2, 3])
        for seq in (1, 2, 3):
            stored = await stream.get_msg(seq)
            self.assertEqual((stored.seq, stored.subject, "A" in stored.headers), (seq, "s.odd", True))
            self.assertEqual((await stream.get_msg(seq, direct=False)).headers, {"A": "b"})

    async def stream_and_witness(self) -> tuple[NatsClient, Stream, Witness]:
        server = await self.start_server(jetstream=True)
        nc = await self.connect(server)
        stream = await nc.jetstream().create_stream(StreamConfig(name="S", subjects=["s.>"], allow_direct=True))
        return nc, stream, self.witness(server, "acks")

    async def test_last_and_next(self) -> None:
        """The last of a subject and the next of a subject, with and without wildcards, in both ways."""
        nc, stream = await self.stream()
        await self.fill(nc, "s.a", "s.b", "s.a", "s.c")
        for direct in (None, True, False):
            self.assertEqual((await stream.get_last_msg("s.a", direct=direct)).seq, 3)
            self.assertEqual((await stream.get_last_msg("s.*", direct=direct)).seq, 4)
            self.assertEqual((await stream.get_next_msg(2, "s.a", direct=direct)).seq, 3)
            self.assertEqual((await stream.get_next_msg(3, "s.a", direct=direct)).seq, 3)
            self.assertEqual((await stream.get_next_msg(3, "s.>", direct=direct)).seq, 3)
            await self.assertFailure(stream.get_next_msg(3, "s.b", direct=direct), errors.MessageNotFoundError)
            await self.assertFailure(stream.get_last_msg("s.none", direct=direct), errors.MessageNotFoundError)
            await self.assertFailure(stream.get_msg(9, direct=direct), errors.MessageNotFoundError)
            await self.assertFailure(stream.get_msg(0, direct=direct), errors.JetStreamConfigError)
            await self.assertFailure(stream.get_last_msg("s. a", direct=direct), errors.InvalidSubjectError)

    async def test_configuration_changed_meanwhile(self) -> None:
        """A handle from before ``allow_direct`` was unset still reads; who insists on a direct get, or wants many, is told."""
        nc, stream = await self.stream()
        await self.fill(nc, "s.a")
        await nc.jetstream().update_stream(replace(stream.config, allow_direct=False))
        self.assertTrue(stream.config.allow_direct)
        self.assertEqual((await stream.get_msg(1)).seq, 1)
        refused: list[Deferred[Any]] = [stream.get_msg(1, direct=True), stream.get_batch().collect()]
        for waiting in refused:
            self.assertIn("allow_direct", str(await self.assertFailure(waiting, errors.JetStreamNotEnabledError)))
        await stream.delete()
        await self.assertFailure(stream.get_msg(1), errors.StreamNotFoundError)

    async def test_permission_for_one_subject(self) -> None:
        """A user who may read the last message of one subject and nothing else reads just that."""
        only = "$JS.API.DIRECT.GET.S.s.public"
        users: list[dict[str, Any]] = [
            {"user": "owner", "password": "o"},
            {"user": "reader", "password": "r", "permissions": {"publish": [only], "subscribe": ["_INBOX.>"]}},
        ]
        server = await self.start_server(jetstream=True, users=users)
        owner = await self.connect(server, user="owner", password="o")
        await owner.jetstream().create_stream(StreamConfig(name="S", subjects=["s.>"], allow_direct=True))
        await self.fill(owner, "s.public", "s.secret")
        reader = (await self.connect(server, user="reader", password="r")).jetstream().direct_get("S")
        self.assertEqual((await reader.get_last_msg("s.public")).data, b"s.public")
        await self.assertFailure(reader.get_last_msg("s.secret"), errors.PermissionsViolationError)
        await self.assertFailure(reader.get_last_msg("s.*"), errors.PermissionsViolationError)
        await self.assertFailure(reader.get_msg(1), errors.PermissionsViolationError)
        await self.assertFailure(reader.get_last_msgs_for(["s.public"]).collect(), errors.PermissionsViolationError)

    async def test_behind_a_domain(self) -> None:
        """Direct gets go to the domain of their context."""
        nc = await self.connect(await self.start_server(jetstream={"domain": "hub"}))
        js = nc.jetstream(domain="hub")
        stream = await js.create_stream(StreamConfig(name="S", subjects=["s.>"], allow_direct=True))
        await self.fill(nc, "s.a", "s.b")
        self.assertEqual((await stream.get_last_msg("s.a")).seq, 1)
        self.assertEqual([msg.seq async for msg in stream.get_batch()], [1, 2])
        self.assertEqual([msg.seq async for msg in stream.get_last_msgs_for(["s.*"])], [1, 2])


class BatchTests(DirectTestCase):
    """Messages in sequence."""

    async def test_all_over_many_pages(self) -> None:
        """Everything comes, once and in order, whatever a page holds."""
        nc, stream = await self.stream()
        await self.fill(nc, *(f"s.{number}" for number in range(100)))
        pages: list[dict[str, Any]] = [{"page_msgs": 7}, {"page_bytes": 1}, {"page_bytes": 100}, {}]
        for page in pages:
            batch = stream.get_batch(**page)
            self.assertEqual([msg.seq async for msg in batch], list(range(1, 101)))
            self.assertEqual(batch.num_pending, 0)
        self.assertEqual(nc.requests_in_flight, 0)

    async def test_what_is_asked_for(self) -> None:
        """A batch begins at a sequence or a time, keeps to a subject, and ends at its limit."""
        nc, stream = await self.stream()
        await self.fill(nc, *["s.a", "s.b"] * 10)
        batch = stream.get_batch(5, seq=4, page_msgs=2)
        self.assertEqual([msg.seq async for msg in batch], [4, 5, 6, 7, 8])
        self.assertEqual(batch.num_pending, 12)
        batch = stream.get_batch(5, seq=2, subject="s.a", page_msgs=2)
        self.assertEqual([msg.seq async for msg in batch], [3, 5, 7, 9, 11])
        since = (await stream.get_msg(18)).time + timedelta(microseconds=1)
        found = [msg.seq async for msg in stream.get_batch(start_time=since, page_msgs=1)]
        self.assertIn(found, ([18, 19, 20], [19, 20]))
        self.assertEqual([msg.seq async for msg in stream.get_batch(start_time=datetime(2100, 1, 1, tzinfo=timezone.utc))], [])
        self.assertEqual([msg.seq async for msg in stream.get_batch(subject="s.none")], [])
        self.assertEqual([msg.seq async for msg in stream.get_batch(seq=99)], [])

    async def test_gaps_in_the_stream(self) -> None:
        """Deleted messages and an empty stream do not end a batch early or late."""
        nc, stream = await self.stream()
        self.assertEqual(await stream.get_batch().collect(), [])
        await self.fill(nc, *["s.a"] * 20)
        for seq in (1, 2, 5, 6, 7, 8, 13, 20):
            await stream.delete_msg(seq)
        self.assertEqual([msg.seq async for msg in stream.get_batch(page_msgs=3)], [3, 4, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19])

    async def test_purged_between_two_pages(self) -> None:
        """A batch ends where the rest of the stream has gone."""
        nc, stream = await self.stream()
        await self.fill(nc, *["s.a"] * 10)
        batch = stream.get_batch(page_msgs=3)
        first = [(await batch.__anext__()).seq for _ in range(3)]
        await stream.purge()
        self.assertEqual((first, await batch.collect()), ([1, 2, 3], []))

    async def test_left_early(self) -> None:
        """Leaving the loop, cancelling, or cancelling who waits leaves no request behind."""
        nc, stream = await self.stream()
        await self.fill(nc, *["s.a"] * 50)
        async for _ in stream.get_batch(page_msgs=10):
            break
        await self.until(lambda: not nc.requests_in_flight)
        batch = stream.get_batch(page_msgs=10)
        await batch.__anext__()
        batch.cancel()
        self.assertEqual((nc.requests_in_flight, await batch.collect()), (0, []))
        batch = stream.get_batch()
        waiting = Deferred.fromCoroutine(batch.__anext__())
        self.assertEqual(nc.requests_in_flight, 1)
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        self.assertEqual((nc.requests_in_flight, await batch.collect()), (0, []))
        waiting_for_all = stream.get_batch().collect()
        waiting_for_all.cancel()
        await self.assertFailure(waiting_for_all, CancelledError)
        self.assertEqual(nc.requests_in_flight, 0)

    async def test_connection_lost_meanwhile(self) -> None:
        """A batch goes on where it was after the connection was lost, with most of a page on its way."""
        nc, stream = await self.stream()
        for _ in range(80):
            await nc.publish("s.a", bytes(100_000))
        await nc.flush()
        seen = []
        async for msg in stream.get_batch(page_bytes=6_000_000, timeout=0.5):
            seen.append(msg.seq)
            if len(seen) in (1, 40):
                nc.force_reconnect()
        self.assertEqual(seen, list(range(1, 81)))

    async def test_client_that_lets_little_wait(self) -> None:
        """A page is never larger than what the client lets wait: nothing gets lost."""
        nc = await self.connect(await self.start_server(jetstream=True), pending_msgs=5, pending_bytes=4000)
        stream = await nc.jetstream().create_stream(StreamConfig(name="S", subjects=["s.>"], allow_direct=True))
        for size in (10, 1500, 3, 3000, 10, 10, 2800, 2800, 2800, 5):
            await nc.request("s.a", bytes(size))
        self.assertEqual([msg.seq async for msg in stream.get_batch()], list(range(1, 11)))
        await nc.request("s.a", bytes(5000))
        await nc.request("s.a", bytes(5))
        self.assertEqual([msg.seq async for msg in stream.get_batch(seq=10)], [10, 11, 12])


class LastMessagesTests(DirectTestCase):
    """The last message of each of many subjects."""

    async def many(self, count: int) -> tuple[NatsClient, Stream, list[str]]:
        nc, stream = await self.stream()
        subjects = [f"s.{number}.x" for number in range(count)]
        for payload in (b"old", b"new"):
            for subject in subjects:
                await nc.publish(subject, payload)
        await nc.request("s.last", b"new")
        return nc, stream, subjects

    async def test_more_subjects_than_a_server_answers_for(self) -> None:
        """2,500 subjects come once each with their last messages, listed or matched by wildcards."""
        nc, stream, subjects = await self.many(2500)
        asked: list[list[str]] = [subjects, ["s.*.x"], ["s.>"], ["s.*.x", *subjects], [*subjects, *subjects, "s.none"]]
        for one in asked:
            found = [msg async for msg in stream.get_last_msgs_for(one)]
            expected = {*subjects, "s.last"} if one == ["s.>"] else set(subjects)
            self.assertEqual((len(found), {msg.subject for msg in found}), (len(expected), expected))
            self.assertEqual({msg.data for msg in found}, {b"new"})
        self.assertEqual(nc.requests_in_flight, 0)

    async def test_pages_of_a_part(self) -> None:
        """Small pages bring the same."""
        _, stream, subjects = await self.many(40)
        pages: list[dict[str, Any]] = [{"page_msgs": 7}, {"page_bytes": 1}]
        for one in (subjects, ["s.*.x"], ["s.1.x", "s.*.x", "s.none"]):
            for page in pages:
                found = [msg.subject async for msg in stream.get_last_msgs_for(one, **page)]
                self.assertEqual(found, subjects)

    async def test_written_between_two_pages(self) -> None:
        """A subject that is written to meanwhile is not missed where the stream keeps one message each, and comes once."""
        nc, stream = await self.stream(max_msgs_per_subject=1)
        subjects = [f"s.{number}" for number in range(10)]
        for asked in (subjects, ["s.*"]):
            await self.fill(nc, *subjects)
            last = stream.get_last_msgs_for(asked, page_msgs=3)
            found = [(await last.__anext__()).subject for _ in range(3)]
            await self.fill(nc, *reversed(subjects))
            found += [msg.subject for msg in await last.collect()]
            self.assertEqual(sorted(found), subjects)

    async def test_as_it_was(self) -> None:
        """The last messages at a sequence or before a time."""
        nc, stream = await self.stream()
        await self.fill(nc, "s.a", "s.b", "s.a", "s.b")
        self.assertEqual([msg.seq async for msg in stream.get_last_msgs_for(["s.>"], up_to_seq=3)], [2, 3])
        third = await stream.get_msg(3)
        await self.sleep(0.002)
        before = third.time + timedelta(milliseconds=1)
        await self.fill(nc, "s.a")
        found = [msg.seq async for msg in stream.get_last_msgs_for(["s.a"], up_to_time=before)]
        self.assertEqual(found, [3])
        self.assertEqual(await stream.get_last_msgs_for(["s.>"], up_to_time=datetime(2020, 1, 1, tzinfo=timezone.utc)).collect(), [])
        self.assertEqual(await stream.get_last_msgs_for(["s.none", "s.no.*"]).collect(), [])
