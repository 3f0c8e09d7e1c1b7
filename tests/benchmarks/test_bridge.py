"""The harness of the bridge runs, stores what it has to store, and is what the documentation shows. Nothing here is timed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.bridge import documents
from benchmarks.bridge.bench import SCALES, Bench, expect_status
from benchmarks.bridge.figures import Figure, loaded
from benchmarks.bridge.kill_rows import count_lost
from benchmarks.bridge.processes import Bridge, Program, RowError
from benchmarks.bridge.programs.fuzz_cases import Cases
from benchmarks.bridge.programs.sse_follow import Followers
from benchmarks.bridge.programs.wire import Message
from benchmarks.bridge.programs.witness import Witness
from benchmarks.bridge.rows import ROWS
from benchmarks.bridge.run import BRIDGE_FILE, load, run

ROOT = Path(__file__).resolve().parents[2]
# What has to be as it should be on any machine, however slow: goals that are no times, sizes or rates.
COUNTED = ("messages", "events", "requests", "clients", "answers", "tracebacks", "attempts", "problems", "consumers")


def harness(*options: str) -> subprocess.CompletedProcess[str]:
    """``python -m benchmarks.bridge`` with these options, from its start to its end."""
    command = [sys.executable, "-m", "benchmarks.bridge", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, check=False)


class RunTests(SynchronousTestCase):
    """Runs with a handful of everything."""

    def run_and_load(self, rows: list[str]) -> dict[str, Any]:
        folder = Path(self.mktemp()).absolute()
        ended = harness("--tiny", "--rows", ",".join(rows), "--output", str(folder))
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        result: dict[str, Any] = json.loads((folder / BRIDGE_FILE.name).read_text("utf-8"))
        self.assertEqual([row["name"] for row in result["rows"]], rows)
        for row in result["rows"]:
            self.assertTrue(row["figures"], row)
            for figure in row["figures"]:
                self.assertIn(figure["title"], ended.stdout)
                if figure["unit"] in COUNTED:
                    self.assertIsNot(figure["is_met"], False, figure)
        return result

    def test_loads(self) -> None:
        """Every load is put on the bridge and on its floor, and both figures are stored with their ratio."""
        result = self.run_and_load([row.name for row in ROWS if row.is_load])
        self.assertEqual((result["scale"], result["rounds"]), ("tiny", 1))
        self.assertEqual(set(result["versions"]), {"Python", "Twisted", "nats-server", "implementation"})
        for row in result["rows"]:
            figure = row["figures"][0]
            self.assertGreater(figure["floor"], 0, figure)
            self.assertLess(abs(figure["ratio"] * figure["floor"] / figure["measured"] - 1), 0.01, figure)

    def test_faults(self) -> None:
        """Nothing is lost, injected or left over when the bridge and what is around it is treated badly."""
        result = self.run_and_load([row.name for row in ROWS if not row.is_load])
        texts = documents.texts(result)
        self.assertIn("A run with a handful of everything", texts["bridge-environment.inc"])
        self.assertIn("``kill -9``", texts["bridge-rows.inc"])

    def test_row_that_fails(self) -> None:
        """It is stored with its error, and the others go on."""

        def fail(bench: Bench) -> list[Figure]:
            raise RowError("it rained")

        def succeed(bench: Bench) -> list[Figure]:
            return [Figure("ok", "all well", "messages", 0, "less", bench.wire.ask("INFO")["streams"])]

        result = run([replace(ROWS[0], name="bad", measure=fail), replace(ROWS[0], name="good", measure=succeed)], SCALES["tiny"])
        bad, good = result["rows"]
        self.assertEqual((bad["error"], bad["figures"]), ("it rained", []))
        self.assertNotIn("error", good)
        self.assertEqual(good["figures"][0]["is_met"], True)

    def test_unknown_row(self) -> None:
        """A misspelled row is named, with those that there are."""
        ended = harness("--rows", "kill")
        self.assertNotEqual(ended.returncode, 0)
        self.assertIn("kill: no such row", ended.stderr)
        self.assertIn("kills", ended.stderr)


class PartTests(SynchronousTestCase):
    """The parts that judge would see what is wrong."""

    def test_program_ends_by_itself(self) -> None:
        """Its time ends it, whoever waits for it or not; the harness says so."""
        with Program("web_floor", 1, mode="echo") as program:
            program.hear()
            self.assertEqual(program.process.wait(30), -14)
            error = self.assertRaises(RowError, program.hear)
        self.assertIn("web_floor ended", str(error))

    def test_program_ends_with_the_harness(self) -> None:
        """When its standard input ends, so does it."""
        with Program("web_floor", 60, mode="echo") as program:
            program.hear()
            assert program.process.stdin is not None
            program.process.stdin.close()
            self.assertEqual(program.process.wait(30), 0)

    def test_bridge_that_cannot_start(self) -> None:
        """What it said is in the error."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        bridge = Bridge("[routes.x]\n", folder, 30)
        error = self.assertRaises(RowError, bridge.__enter__)
        bridge.__exit__()
        self.assertIn("routes.x", str(error))

    def test_refused_load_is_not_measured(self) -> None:
        """A bridge that is fast at refusing gets no figure."""
        self.assertRaises(RowError, expect_status, {"statuses": {"503": 9, "200": 1}, "unanswered": 0, "requests": 10}, 200)
        self.assertRaises(RowError, expect_status, {"statuses": {}, "unanswered": 0, "requests": 0}, 200)
        expect_status({"statuses": {"200": 1}, "unanswered": 0, "requests": 1}, 200, 202)

    def test_witness_sees_injections(self) -> None:
        """A subject, a header, a line break in a header and a payload that no rule allows are blamed; what is allowed is not."""
        witness = Witness([(r"a\.[^.]+", ["x"], 3)])
        good = b"NATS/1.0\r\nX: 1\r\n\r\n"
        witness.judge(Message("a.b", "", good, b"abc"))
        self.assertEqual((sum(witness.violations.values()), sum(witness.seen.values())), (0, 1))
        for message in (
            Message("a.b.c", "", good, b""),
            Message("a.b", "", b"NATS/1.0\r\nX: 1\r\nNats-Rollup: all\r\n\r\n", b""),
            Message("a.b", "", b"NATS/1.0\r\nX: 1\n2\r\n\r\n", b""),
            Message("a.b", "", good, b"abcd"),
        ):
            before = sum(witness.violations.values())
            witness.judge(message)
            self.assertEqual(sum(witness.violations.values()), before + 1, message)

    def test_lost_messages_are_seen(self) -> None:
        """What was confirmed and is not in the stream, or is another message there, is lost."""
        confirmed = Path(self.mktemp())
        confirmed.write_text("7 1\n8 2\n9 3\n", "utf-8")
        self.assertEqual(count_lost(confirmed, {1: b"7", 2: b"8", 3: b"9"}), 0)
        self.assertEqual(count_lost(confirmed, {1: b"7", 2: b"9"}), 2)

    def test_followers_see_gaps_and_duplicates(self) -> None:
        """An event that was left out, one that comes again, and a reset are counted; what is in order is not."""
        for events, found in (
            ((1, 2, 3), (0, 0)), ((1, 3), (1, 0)), ((1, 2, 2), (0, 1)), ((1, 2, 1, 2, 3), (0, 2)),
        ):  # fmt: skip
            followers = Followers({"clients": 1})
            for number in (0, *events):
                followers.take(followers.all[0], b"id: abcdef-%d%b" % (number, b"\ndata: x" if number else b""))
            self.assertEqual((followers.gaps, followers.duplicates, followers.resets), (*found, 0), events)
        followers.take(followers.all[0], b'event: reset\nid: bcdefg-0\ndata: {"first":"bcdefg-1"}')
        self.assertEqual(followers.resets, 1)

    def test_cases_are_repeatable(self) -> None:
        """The same seed gives the same cases, another one others."""

        def cases(seed: int) -> list[bytes]:
            made = Cases(seed)
            return [make().data for _ in range(20) for make in made.kinds.values()]

        self.assertEqual(cases(1), cases(1))
        self.assertNotEqual(cases(1), cases(2))


class DocumentTests(SynchronousTestCase):
    """docs/performance-bridge.rst shows the stored results."""

    def test_tables_are_made_from_the_stored_results(self) -> None:
        """Each table that the page includes is what the stored results give, and every table is included."""
        page = (ROOT / "docs" / "performance-bridge.rst").read_text("utf-8")
        texts = documents.texts(load())
        for name, text in texts.items():
            self.assertEqual((documents.FOLDER / name).read_text("utf-8"), text, f"run: make bench-bridge BENCH=--documents ({name})")
            self.assertIn(f".. include:: performance/{name}\n", page)
        self.assertEqual(set(re.findall(r"include:: performance/(\S+)", page)), set(texts))

    def test_stored_results_are_of_a_whole_run(self) -> None:
        """What the documentation shows is a run of every row, without a failure, in which nothing was lost, injected or left over; one that
        was short is called so."""
        result = load()
        self.assertEqual([row["name"] for row in result["rows"]], [row.name for row in ROWS])
        if result["scale"] == "full":
            self.assertGreaterEqual(result["rounds"], 3)
        else:
            self.assertEqual(result["scale"], "short")
            self.assertIn("A short run", documents.texts(result)["bridge-environment.inc"])
        for row in result["rows"]:
            self.assertNotIn("error", row)
            for figure in map(loaded, row["figures"]):
                if figure.unit in COUNTED:
                    self.assertIsNot(figure.is_met, False, figure.title)
