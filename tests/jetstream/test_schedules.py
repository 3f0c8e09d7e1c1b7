"""Schedules: what is a right one, and the headers that say it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pynats_twisted import errors
from pynats_twisted.jetstream.schedules import PREDEFINED, Schedule, end_schedule_headers

from .publishing import PublishingTestCase


class ScheduleTests(SynchronousTestCase):
    """Schedule."""

    def wrong(self, field: str, **changes: Any) -> None:
        error = self.assertRaises(errors.JetStreamConfigError, Schedule, **{"when": "@hourly", "target": "t", **changes})
        self.assertEqual(error.field, field)

    def test_at(self) -> None:
        """A time in any zone is written in UTC."""
        time = datetime(2026, 5, 17, 12, 30, 15, 250_000, timezone(timedelta(hours=2)))
        self.assertEqual(
            Schedule.at(time, target="orders").headers(),
            {"Nats-Schedule": "@at 2026-05-17T10:30:15.250000Z", "Nats-Schedule-Target": "orders"},
        )

    def test_time_without_a_zone(self) -> None:
        """Nobody can know what it means."""
        naive = datetime(2026, 5, 17)  # noqa: DTZ001 - that is the point
        for wrong in (naive, "2026-05-17T00:00:00Z", None):
            error = self.assertRaises(errors.JetStreamConfigError, Schedule.at, wrong, target="t")
            self.assertEqual(error.field, "time")

    def test_every(self) -> None:
        """A duration of a second or more, to the nanosecond."""
        for seconds, text in (
            (1, "1s"),
            (90, "90s"),
            (1.5, "1.5s"),
            (1234567.891, "1234567.891s"),
            (9e9, "9000000000s"),
            (86_400.0, "86400s"),
        ):
            self.assertEqual(Schedule.every(seconds, target="t").when, f"@every {text}")
        for wrong in (0.999, 0, -1, float("nan"), float("inf"), "5", True, 1e12):
            self.assertRaises(errors.JetStreamConfigError, Schedule.every, wrong, target="t")

    def test_cron(self) -> None:
        """Six fields, from the second on, or a name for them."""
        for right in (
            *PREDEFINED,
            "0 30 9 * * mon-fri",
            "*/5 * * * * *",
            "0,15,30-40/2 1-2,59 23 31 JAN,dec 0-6",
            "0 0 0 ? * sun",
            "5/10 * * * * *",
        ):
            self.assertEqual(Schedule.cron(right, target="t").when, right)
        for wrong in (
            *("", "* * * * *", "* * * * * * *", "* *  * * * *", "@never", "@Daily", "@", "@at 2026-05-17T00:00:00Z", "@every 5s"),
            *("60 * * * * *", "* 60 * * * *", "* * 24 * * *", "* * * 0 * *", "* * * 32 * *", "* * * * 0 *", "* * * * 13 *", "* * * * * 7"),
            *("*/0 * * * * *", "*/ * * * * *", "*/x * * * * *", "5-1 * * * * *", "1-2-3 * * * * *", "1, * * * * *", "-1 * * * * *"),
            *("mon * * * * *", "* * * * mon *", "* * * * * monday", "٣ * * * * *", "1.5 * * * * *", "* * * * * fri-mon", "** * * * * *"),
        ):
            self.assertRaises(errors.JetStreamConfigError, Schedule.cron, wrong, target="t")

    def test_texts_by_hand(self) -> None:
        """What is written by hand keeps to the same rules."""
        for right in ("@at 2026-05-17T00:00:00Z", "@at 2026-05-17T00:00:00.5+02:00", "@every 1h30m", "@every 1000ms", "@every 0.5s500ms"):
            self.assertEqual(Schedule(when=right, target="t").when, right)
        for wrong in ("@at tomorrow", "@at ", "@every 999ms", "@every", "@every 5", "@every s", "@every -5s", "@every 1s ", 5):
            self.wrong("when", when=wrong)

    @given(st.integers(0, 59), st.integers(0, 23), st.integers(1, 31), st.integers(1, 12), st.integers(0, 6))
    def test_every_time_can_be_said(self, second: int, hour: int, day: int, month: int, weekday: int) -> None:
        """Any numbers within their bounds are right."""
        text = f"{second} {second} {hour} {day} {month} {weekday}"
        self.assertEqual(Schedule.cron(text, target="t").when, text)

    def test_all_headers(self) -> None:
        """Each value has a header, and the caller's headers are kept and not changed."""
        mine = {"A": "1"}
        schedule = Schedule.cron("@daily", target="t", time_zone="Europe/Amsterdam", source="s", ttl=300, rollup="sub")
        self.assertEqual(
            schedule.headers(mine),
            {
                "A": "1",
                "Nats-Schedule": "@daily",
                "Nats-Schedule-Target": "t",
                "Nats-Schedule-Source": "s",
                "Nats-Schedule-TTL": "300",
                "Nats-Schedule-Rollup": "sub",
                "Nats-Schedule-Time-Zone": "Europe/Amsterdam",
            },
        )
        self.assertEqual(mine, {"A": "1"})
        self.assertEqual(Schedule.every(1, target="t", ttl="never").headers()["Nats-Schedule-TTL"], "never")

    def test_wrong_values(self) -> None:
        """A wrong value is named."""
        for wrong in ("", "a b", "a..b", "a.*", ">", 5):
            self.wrong("target", target=wrong)
            self.wrong("source", source=wrong)
        self.wrong("source", source="t")
        self.wrong("ttl", ttl=0.5)
        self.wrong("rollup", rollup="all")
        for wrong in ("", "+02:00", "Europe/Amsterdam\r\nA: 1", "a b", 5):
            self.wrong("time_zone", time_zone=wrong)
        self.wrong("time_zone", when="@every 5s", time_zone="UTC")
        self.wrong("time_zone", when="@at 2026-05-17T00:00:00Z", time_zone="UTC")

    def test_headers_set_by_hand(self) -> None:
        """Headers of schedules that come from elsewhere are refused: a message that was produced has some, for example."""
        schedule = Schedule.every(5, target="t")
        for name in ("Nats-Schedule", "Nats-Schedule-Next", "nats-scheduler"):
            self.assertRaises(errors.InvalidHeaderError, schedule.headers, {name: "x"})
            self.assertRaises(errors.InvalidHeaderError, end_schedule_headers, "s", {name: "x"})

    def test_ending(self) -> None:
        """The message that ends a schedule names it."""
        self.assertEqual(end_schedule_headers("s.1", {"A": "1"}), {"A": "1", "Nats-Scheduler": "s.1", "Nats-Schedule-Next": "purge"})
        self.assertRaises(errors.JetStreamConfigError, end_schedule_headers, "s.*")

    def test_api_level(self) -> None:
        """Only a single message at a time of its own is as old as schedules are."""
        time = datetime(2026, 5, 17, tzinfo=timezone.utc)
        self.assertEqual(Schedule.at(time, target="t", ttl=5).required_api_level, 2)
        for later in (Schedule.at(time, target="t", source="s"), Schedule.every(5, target="t"), Schedule.cron("@daily", target="t")):
            self.assertEqual(later.required_api_level, 4)


class PublishTests(PublishingTestCase):
    """schedule()."""

    def test_published(self) -> None:
        """A schedule is a publish like any other, with an ack."""
        waiting = self.watch(self.js.schedule("s", Schedule.every(5, target="t"), b"x", {"A": "1"}, msg_id="m", ttl=60))
        (frame,) = self.sent()
        for line in (b"A: 1", b"Nats-Schedule: @every 5s", b"Nats-Schedule-Target: t", b"Nats-Msg-Id: m", b"Nats-TTL: 60"):
            self.assertIn(line + b"\r\n", frame.header_block)
        self.ack(frame, 3)
        self.assertEqual(self.successResultOf(waiting).seq, 3)

    def test_refused_at_once(self) -> None:
        """A schedule cannot feed itself, and a server that is too old is not asked."""
        for schedule in (Schedule.every(5, target="s"), Schedule.every(5, target="t", source="s"), "@daily"):
            error = self.failureResultOf(self.watch(self.js.schedule("s", schedule)), errors.JetStreamConfigError)  # type: ignore[arg-type]
            self.assertIn("=", str(error.value))
        self.peer.info(jetstream=True, api_lvl=2)
        self.failureResultOf(self.watch(self.js.schedule("s", Schedule.every(5, target="t"))), errors.JetStreamApiLevelError)
        self.assertEqual(self.sent(), [])
