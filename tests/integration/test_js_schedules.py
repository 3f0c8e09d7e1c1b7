"""Schedules on real servers."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from pynats_twisted import errors
from pynats_twisted.jetstream.api import StorageType, StreamConfig
from pynats_twisted.jetstream.context import JetStreamContext
from pynats_twisted.jetstream.schedules import PREDEFINED, Schedule, end_schedule_headers
from pynats_twisted.jetstream.stored import StoredMsg
from pynats_twisted.jetstream.stream import Stream
from tests.support.jetstream import JetStreamTestCase


class ScheduleTests(JetStreamTestCase):
    """What becomes of a schedule."""

    async def stream(self, **config: Any) -> tuple[JetStreamContext, Stream]:
        js = (await self.jetstream()).jetstream()
        defaults = {"name": "S", "subjects": ["s.>", "t.>"], "storage": StorageType.MEMORY, "allow_msg_schedules": True}
        return js, await js.create_stream(StreamConfig(**{**defaults, "allow_msg_ttl": True, **config}))

    async def last(self, stream: Stream, subject: str) -> StoredMsg | None:
        try:
            return await stream.get_last_msg(subject)
        except errors.MessageNotFoundError:
            return None

    async def produced(self, stream: Stream, subject: str, after: int = 0) -> StoredMsg:
        """What a schedule has produced, when it has."""
        end = self.reactor.seconds() + 10
        while (found := await self.last(stream, subject)) is None or found.seq <= after:
            self.assertLess(self.reactor.seconds(), end, f"nothing came to {subject}")
            await self.sleep(0.05)
        return found

    async def test_at(self) -> None:
        """A message is published at its time, once, with the caller's headers; then the schedule is gone."""
        js, stream = await self.stream()
        begun = datetime.now(timezone.utc)
        time = begun + timedelta(seconds=1.2)
        ack = await js.schedule("s.1", Schedule.at(time, target="t.1", ttl=60), b"later", {"A": "1"}, msg_id="m")
        self.assertEqual(ack.seq, 1)
        self.assertIsNone(await self.last(stream, "t.1"))
        found = await self.produced(stream, "t.1")
        self.assertGreaterEqual(found.time, time)
        self.assertEqual(found.data, b"later")
        for name, value in (("A", "1"), ("Nats-Scheduler", "s.1"), ("Nats-Schedule-Next", "purge"), ("Nats-TTL", "60")):
            self.assertEqual(found.headers[name], value)
        self.assertIsNone(await self.last(stream, "s.1"))

    async def test_time_that_has_passed(self) -> None:
        """It is published at once."""
        js, stream = await self.stream()
        await js.schedule("s.1", Schedule.at(datetime(2020, 1, 1, tzinfo=timezone.utc), target="t.1"), b"late")
        self.assertEqual((await self.produced(stream, "t.1")).data, b"late")

    async def test_every(self) -> None:
        """It is published again and again; with a rollup only the last one is kept. Purging ends it."""
        js, stream = await self.stream()
        await js.schedule("s.1", Schedule.every(1, target="t.1", rollup="sub"), b"tick")
        first = await self.produced(stream, "t.1")
        second = await self.produced(stream, "t.1", after=first.seq)
        self.assertGreaterEqual((second.time - first.time).total_seconds(), 0.8)
        self.assertEqual((await stream.info(subjects_filter="t.1")).state.subjects, {"t.1": 1})
        self.assertEqual(await stream.purge(filter="s.1"), 1)
        await self.sleep(0.1)
        last = await self.last(stream, "t.1")
        await self.sleep(1.5)
        self.assertEqual(await self.last(stream, "t.1"), last)

    async def test_cron(self) -> None:
        """The server's clock is followed, in the time zone that is asked for."""
        js, stream = await self.stream()
        await js.schedule("s.1", Schedule.cron("*/1 * * * * *", target="t.1", time_zone="Asia/Tokyo"), b"tick")
        found = await self.produced(stream, "t.1")
        self.assertTrue(found.headers["Nats-Schedule-Next"].endswith("+09:00"))

    async def test_source(self) -> None:
        """The last message of another subject is published, or the schedule's own where there is none."""
        js, stream = await self.stream()
        await js.schedule("s.1", Schedule.every(1, target="t.sampled", source="t.raw"), b"none yet")
        first = await self.produced(stream, "t.sampled")
        self.assertEqual(first.data, b"none yet")
        await js.publish("t.raw", b"42")
        self.assertEqual((await self.produced(stream, "t.sampled", after=first.seq)).data, b"42")

    async def test_replaced(self) -> None:
        """There is one schedule on a subject: the last one."""
        js, stream = await self.stream()
        far = datetime.now(timezone.utc) + timedelta(hours=1)
        await js.schedule("s.1", Schedule.at(far, target="t.1"), b"one")
        await js.schedule("s.1", Schedule.at(far, target="t.1"), b"two", expected_last_subject_seq=1)
        self.assertEqual((await stream.info()).state.messages, 1)
        with self.assertRaises(errors.WrongLastSequenceError):
            await js.schedule("s.1", Schedule.at(far, target="t.1"), b"three", expected_last_subject_seq=1)
        self.assertEqual((await stream.get_last_msg("s.1")).data, b"two")

    async def test_ended_by_a_message(self) -> None:
        """A message ends a schedule when it is stored, and is not stored when the schedule is not what was expected."""
        js, stream = await self.stream()
        schedule = await js.schedule("s.1", Schedule.every(3600, target="t.1"), b"tick")
        wrong: dict[str, Any] = {"expected_last_subject_seq": 77, "expected_last_subject_seq_subject": "s.1"}
        await self.assertFailure(js.publish("t.1", b"now", end_schedule_headers("s.1"), **wrong), errors.WrongLastSequenceError)
        self.assertIsNotNone(await self.last(stream, "s.1"))
        right = {**wrong, "expected_last_subject_seq": schedule.seq}
        await js.publish("t.1", b"now", end_schedule_headers("s.1"), **right)
        self.assertIsNone(await self.last(stream, "s.1"))
        self.assertEqual((await stream.get_last_msg("t.1")).data, b"now")

    async def test_everything_that_is_checked_here_is_right_there(self) -> None:
        """The server takes each form that this package takes."""
        js, stream = await self.stream()
        texts = (
            *(*PREDEFINED, "0 30 9 * * mon-fri", "*/5 * * * * *", "0,15,30-40/2 1-2,59 23 31 JAN,dec 0-6", "0 0 0 ? * sun"),
            *("5/10 * * * * *", "@at 2126-05-17T00:00:00.5+02:00", "@every 1h30m", "@every 1500ms", "@every 0.5s500ms", "@every 90s"),
        )
        for number, text in enumerate(texts):
            await js.schedule(f"s.{number}", Schedule(when=text, target="t.1", ttl="never"))
        await js.schedule("s.time", Schedule.at(datetime(2126, 1, 1, 1, 1, 1, 5, tzinfo=timezone.utc), target="t.1"))
        await js.schedule("s.long", Schedule.every(1234567.891, target="t.1"))
        self.assertGreaterEqual((await stream.info(subjects_filter="s.>")).state.num_subjects, len(texts))

    async def test_refused(self) -> None:
        """What only the server knows, it says."""
        js, _ = await self.stream()
        for schedule in (
            Schedule.every(5, target="elsewhere.1"),
            Schedule.every(5, target="t.1", source="elsewhere.1"),
            Schedule.cron("@daily", target="t.1", time_zone="Europe/Atlantis"),
            Schedule.cron("0 0 0 31 2 *", target="t.1"),
        ):
            await self.assertFailure(js.schedule("s.1", schedule), errors.ScheduleError)
        js, _ = await self.stream(allow_msg_schedules=False)
        await self.assertFailure(js.schedule("s.1", Schedule.every(5, target="t.1")), errors.ScheduleError)
